"""The sender's half, function by function, on sockets made by hand. Expected values are worked out from the source."""

import pytest

from refmodel.tcp.state import St
from refmodel.tcp.whole import ack, ca, rack, rate, recovery, rttm, sack, undo
from refmodel.tcp.whole.acktag import (
    FLAG_ACK_MAYBE_DELAYED,
    FLAG_DATA_ACKED,
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ECE,
    FLAG_ORIG_SACK_ACKED,
    FLAG_RETRANS_DATA_ACKED,
    FLAG_SACK_RENEGING,
    FLAG_SET_XMIT_TIMER,
    FLAG_SLOWPATH,
    FLAG_SND_UNA_ADVANCED,
    FLAG_SYN_ACKED,
    REXMIT_LOST,
    SacktagState,
)
from refmodel.tcp.whole.const import (
    ACK,
    CWR,
    ECE,
    ICSK_ACK_NOW,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    SYN,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_OK,
    TCP_ECN_QUEUE_CWR,
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
)
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Packet, Skb, TcpOptions
from refmodel.tcp.whole.sock import CA, RateSample, Sock

MSS = 1000
START = 10_000
MS = 1000


def sender(segs: int = 0, each: int = 1, sack_ok: bool = True, **params: int) -> Sock:
    """An established sender with `segs` skbs out, of `each` segments, sent 1 ms apart, the first 50 ms ago."""
    net = Net(WholeParams(**params))
    sk = Sock(net, 2)
    sk.sk_state = St.ESTABLISHED
    sk.icsk_ca_ops = ca.REGISTRY["reno"]
    sk.icsk_ca_state = CA.Open
    sk.icsk_ca_initialized = True
    sk.icsk_rto = net.hz
    sk.icsk_rto_min = net.hz // 5
    sk.rtt_min.reset(net.jiffies, 0xFFFFFFFF)
    sk.mss_cache = MSS
    sk.rx_opt.mss_clamp = MSS
    sk.rx_opt.sack_ok = 1 if sack_ok else 0
    sk.snd_una = sk.snd_nxt = sk.write_seq = sk.snd_up = sk.snd_wl1 = START
    sk.snd_wnd = sk.max_window = 100_000
    sk.undo_retrans = -1
    sk.tcp_mstamp = net.now
    for i in range(segs):
        send(sk, each, net.now - (50 - i) * MS)
    return sk


def send(sk: Sock, segs: int, when: int) -> Skb:
    skb = Skb(sk.snd_nxt, sk.snd_nxt + segs * MSS, segs * MSS, ACK)
    skb.gso_segs, skb.gso_size = segs, MSS if segs > 1 else 0
    skb.frags = 1
    skb.truesize = 960 + skb.len
    skb.skb_mstamp = when
    sk.sk_wmem_queued += skb.truesize
    rate.tcp_rate_skb_sent(sk, skb)
    sk.tcp_rtx_queue.append(skb)
    sk.tsorted_sent_queue.append(skb)
    if sk.highest_sack is None:
        sk.highest_sack = skb
    sk.packets_out += segs
    sk.snd_nxt = sk.write_seq = skb.end_seq
    return skb


def acks(sk: Sock, upto: int, *sacks: tuple[int, int], flags: int = ACK, window: int | None = None) -> Skb:
    """A pure ACK of `upto` bytes; blocks are counted from the first byte too."""
    skb = Skb(sk.rcv_nxt, sk.rcv_nxt, 0, flags)
    skb.ack_seq = START + upto
    skb.opts = TcpOptions(sacks=tuple((START + a, START + b) for a, b in sacks))
    skb.sacked = 1 if sacks else 0
    skb.gso_segs = 1
    wnd = sk.snd_wnd if window is None else window
    skb.packet = Packet(b"", b"", 1, 2, skb.seq, skb.ack_seq, flags, wnd, opts=skb.opts)
    return skb


def tag(sk: Sock, ack_skb: Skb) -> tuple[int, SacktagState]:
    state = SacktagState(RateSample())
    return sack.tcp_sacktag_write_queue(sk, ack_skb, sk.snd_una, state), state


def clean(sk: Sock, upto: int, ece: bool = False) -> tuple[int, SacktagState]:
    state = SacktagState(RateSample())
    prior = sk.snd_una
    sk.snd_una = START + upto
    return ack.tcp_clean_rtx_queue(sk, acks(sk, upto), START, prior, state, ece), state


def spans(sk: Sock) -> list[tuple[int, int, int]]:
    return [(s.seq - START, s.end_seq - START, s.sacked) for s in sk.tcp_rtx_queue]


# ---------------------------------------------------------------- cumulative acknowledgment


def test_acknowledged_skbs_are_freed_and_the_rest_stays() -> None:
    sk = sender(3)
    flag, _ = clean(sk, 2000)
    assert spans(sk) == [(2000, 3000, 0)]
    assert (sk.packets_out, sk.delivered, sk.sk_wmem_queued) == (1, 2, 1960)
    assert flag & FLAG_DATA_ACKED
    assert flag & FLAG_SET_XMIT_TIMER
    assert flag & FLAG_ORIG_SACK_ACKED == 0  # it lies above high_seq (0)


def test_the_first_sample_is_of_the_oldest_segment_and_the_minimum_of_the_newest() -> None:
    sk = sender(3)
    clean(sk, 3000)
    assert sk.srtt_us == 8 * 50 * MS
    assert sk.rtt_min.get() == 48 * MS
    assert sk.icsk_rto == 250  # 50 ms + max(2 * 50, 200) ms


def test_a_super_segment_gives_up_its_front_only_by_whole_segments() -> None:
    sk = sender(1, each=5)
    flag, _ = clean(sk, 2500)
    assert spans(sk) == [(2500, 5000, 0)]
    assert sk.packets_out == 3  # 2500 bytes are three segments of 1000
    assert sk.delivered == 2
    assert flag & FLAG_DATA_ACKED


def test_less_than_a_segment_of_a_single_skb_acknowledges_nothing() -> None:
    sk = sender(1)
    flag, _ = clean(sk, 500)
    assert flag == 0
    assert sk.packets_out == 1


def test_what_was_repeated_gives_no_sample() -> None:
    sk = sender(2)
    head = sk.tcp_rtx_queue.head
    assert head is not None
    head.sacked = TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS | TCPCB_LOST
    sk.retrans_out = sk.lost_out = 1
    flag, state = clean(sk, 2000)
    assert flag & FLAG_RETRANS_DATA_ACKED
    assert sk.srtt_us == 0
    assert state.rate.rtt_us == -1
    assert (sk.retrans_out, sk.lost_out, sk.packets_out) == (0, 0, 0)


def test_a_lone_runt_may_have_been_acknowledged_late() -> None:
    sk = sender()
    send(sk, 1, sk.tcp_mstamp - 40 * MS)
    sk.mss_cache = 2 * MSS
    sk.delivered = 5
    skb = sk.tcp_rtx_queue.head
    assert skb is not None
    assert skb.tx is not None
    skb.tx.delivered = 5
    flag, _ = clean(sk, 1000)
    assert flag & FLAG_ACK_MAYBE_DELAYED


def test_a_syn_is_no_data() -> None:
    sk = sender(1)
    head = sk.tcp_rtx_queue.head
    assert head is not None
    head.tcp_flags = SYN
    sk.retrans_stamp = 7
    flag, _ = clean(sk, 1000)
    assert flag & FLAG_SYN_ACKED
    assert not flag & FLAG_DATA_ACKED
    assert sk.retrans_stamp == 0


def test_marks_are_counted_with_what_they_acknowledge() -> None:
    sk = sender(2)
    clean(sk, 2000, ece=True)
    assert sk.delivered_ce == 2


def test_an_ack_up_to_a_sacked_skb_is_reneging() -> None:
    sk = sender(3)
    tag(sk, acks(sk, 0, (1000, 2000)))
    flag, _ = clean(sk, 1000)
    assert flag & FLAG_SACK_RENEGING


# ---------------------------------------------------------------- SACK


def test_a_block_cuts_a_super_segment_at_segments() -> None:
    sk = sender(1, each=10)
    flag, state = tag(sk, acks(sk, 0, (3000, 5000)))
    assert spans(sk) == [(0, 3000, 0), (3000, 5000, TCPCB_SACKED_ACKED), (5000, 10000, 0)]
    assert (sk.sacked_out, sk.packets_out, state.sack_delivered) == (2, 10, 2)
    assert flag & FLAG_DATA_SACKED
    assert sk.highest_sack is not None
    assert sk.highest_sack.seq == START + 5000


def test_a_block_within_a_segment_tags_nothing() -> None:
    sk = sender(1, each=3)
    flag, _ = tag(sk, acks(sk, 0, (1200, 1800)))
    assert sk.sacked_out == 0
    assert not flag & FLAG_DATA_SACKED


def test_sacked_neighbours_become_one_skb() -> None:
    sk = sender(4)
    tag(sk, acks(sk, 0, (1000, 2000)))
    assert sk.net.mib["TcpExtTCPSackMerged"] == 0
    tag(sk, acks(sk, 0, (1000, 3000)))
    assert spans(sk) == [(0, 1000, 0), (1000, 3000, TCPCB_SACKED_ACKED), (3000, 4000, 0)]
    merged = sk.tcp_rtx_queue.head
    assert merged is not None
    assert merged.next is not None
    assert (merged.next.gso_segs, merged.next.gso_size, merged.next.len) == (2, MSS, 2000)
    assert sk.sacked_out == 2
    assert sk.net.mib["TcpExtTCPSackMerged"] == 1


def test_a_filled_hole_joins_both_sides() -> None:
    sk = sender(4)
    tag(sk, acks(sk, 0, (1000, 2000)))
    tag(sk, acks(sk, 0, (3000, 4000), (1000, 2000)))
    tag(sk, acks(sk, 0, (1000, 4000)))
    assert spans(sk) == [(0, 1000, 0), (1000, 4000, TCPCB_SACKED_ACKED)]
    assert sk.sacked_out == 3
    assert sk.net.mib["TcpExtTCPSackMerged"] == 2


def test_part_of_a_super_segment_joins_its_sacked_neighbour() -> None:
    sk = sender(2, each=4)
    tag(sk, acks(sk, 0, (2000, 4000)))
    tag(sk, acks(sk, 0, (2000, 6000)))
    assert spans(sk) == [(0, 2000, 0), (2000, 6000, TCPCB_SACKED_ACKED), (6000, 8000, 0)]
    assert sk.net.mib["TcpExtTCPSackShifted"] == 1
    assert (sk.sacked_out, sk.packets_out) == (4, 8)


def test_zerocopy_skbs_do_not_join() -> None:
    sk = sender(3)
    for skb in sk.tcp_rtx_queue:
        skb.uarg = object()
    tag(sk, acks(sk, 0, (1000, 2000)))
    tag(sk, acks(sk, 0, (1000, 3000)))
    assert [s[2] for s in spans(sk)] == [0, TCPCB_SACKED_ACKED, TCPCB_SACKED_ACKED]


def test_a_hole_that_is_filled_late_is_reordering() -> None:
    sk = sender(6)
    tag(sk, acks(sk, 0, (5000, 6000)))
    assert sk.reord_seen == 0
    tag(sk, acks(sk, 0, (1000, 2000), (5000, 6000)))
    assert sk.reord_seen == 1
    assert sk.reordering == 5  # from 1000 to 6000, the end of what is SACKed
    assert sk.net.mib["TcpExtTCPSACKReorder"] == 1


def test_blocks_outside_of_what_was_sent_are_discarded() -> None:
    sk = sender(3)
    flag, _ = tag(sk, acks(sk, 0, (2000, 9000)))
    assert sk.sacked_out == 0
    assert flag == 0
    assert sk.net.mib["TcpExtTCPSACKDiscard"] == 1


def test_an_old_block_of_an_overtaken_ack_is_not_counted() -> None:
    sk = sender(3)
    clean(sk, 2000)
    state = SacktagState(RateSample())
    sack.tcp_sacktag_write_queue(sk, acks(sk, 0, (1000, 2000)), sk.snd_una, state)
    assert sk.net.mib["TcpExtTCPSACKDiscard"] == 0


def test_the_same_blocks_again_change_nothing() -> None:
    sk = sender(8)
    first, _ = tag(sk, acks(sk, 0, (6000, 7000), (2000, 4000)))
    again, state = tag(sk, acks(sk, 0, (6000, 7000), (2000, 4000)))
    assert first & FLAG_DATA_SACKED
    assert not again & FLAG_DATA_SACKED
    assert (sk.sacked_out, state.sack_delivered) == (3, 0)
    assert [(b.start_seq - START, b.end_seq - START) for b in sk.recv_sack_cache[2:]] == [(2000, 4000), (6000, 7000)]


# ---------------------------------------------------------------- DSACK


def test_a_dsack_without_a_retransmission_is_dubious() -> None:
    sk = sender(2)
    clean(sk, 1000)
    flag, state = tag(sk, acks(sk, 1000, (0, 1000)))
    assert not flag & FLAG_DSACKING_ACK
    assert state.sack_delivered == 0
    assert sk.net.mib["TcpExtTCPDSACKRecv"] == 1
    assert sk.net.mib["TcpExtTCPDSACKIgnoredDubious"] == 1


def test_a_dsack_counts_as_many_segments_as_it_spans() -> None:
    sk = sender(4)
    sk.total_retrans = 3
    clean(sk, 3000)
    flag, state = tag(sk, acks(sk, 3000, (0, 2500)))
    assert flag & FLAG_DSACKING_ACK
    assert (sk.dsack_dups, state.sack_delivered) == (3, 3)
    assert sk.net.mib["TcpExtTCPDSACKRecvSegs"] == 3
    assert sk.net.mib["TcpExtTCPDSACKIgnoredNoUndo"] == 1
    assert sk.rx_opt.sack_ok & sack.TCP_DSACK_SEEN


def test_a_dsack_of_the_probe_says_so() -> None:
    sk = sender(2)
    sk.total_retrans = 1
    sk.tlp_high_seq = START + 2000
    clean(sk, 2000)
    sk.packets_out = 0
    flag, _ = tag(sk, acks(sk, 2000, (1000, 2000)))
    assert flag & FLAG_DSACK_TLP


def test_a_dsack_within_the_second_block_is_one() -> None:
    sk = sender(4)
    sk.total_retrans = 1
    tag(sk, acks(sk, 0, (1000, 3000)))
    tag(sk, acks(sk, 0, (1000, 2000), (1000, 3000)))
    assert sk.net.mib["TcpExtTCPDSACKOfoRecv"] == 1


# ---------------------------------------------------------------- RACK


def test_what_is_overdue_is_lost_and_what_is_not_yet_waits() -> None:
    sk = sender(4)
    sk.srtt_us = 8 * 48 * MS
    sk.rtt_min.reset(0, 48 * MS)
    sk.reord_seen = 1
    flag, _ = tag(sk, acks(sk, 0, (3000, 4000)))
    assert flag & FLAG_DATA_SACKED
    assert sk.rack.rtt_us == 47 * MS
    # the window is min(48/4, 48) = 12 ms: the first is overdue in 47 + 12 - 50 = 9 ms, the third in 11 ms
    assert rack.tcp_rack_reo_wnd(sk) == 12 * MS
    assert rack.tcp_rack_mark_lost(sk)
    assert sk.lost_out == 0
    assert sk.icsk_pending == ICSK_TIME_REO_TIMEOUT
    assert sk.icsk_timeout - sk.net.jiffies == 13  # 11 ms and 2 ms
    assert not rack.tcp_rack_mark_lost(sk)


def test_three_sacks_end_the_wait_unless_reordering_was_seen() -> None:
    sk = sender(4)
    sk.rtt_min.reset(0, 48 * MS)
    sk.srtt_us = 8 * 48 * MS
    tag(sk, acks(sk, 0, (1000, 4000)))
    assert not rack.tcp_rack_mark_lost(sk)
    assert spans(sk)[0] == (0, 1000, TCPCB_LOST)
    assert (sk.lost_out, sk.lost) == (1, 1)
    head = sk.tcp_rtx_queue.head
    assert sk.retransmit_skb_hint is head


def test_a_lost_retransmission_is_counted() -> None:
    sk = sender(2)
    head = sk.tcp_rtx_queue.head
    assert head is not None
    head.sacked = TCPCB_LOST | TCPCB_SACKED_RETRANS
    sk.lost_out = sk.retrans_out = 1
    rack.tcp_mark_skb_lost(sk, head)
    assert head.sacked == TCPCB_LOST
    assert (sk.retrans_out, sk.lost_out, sk.lost) == (0, 1, 1)
    assert sk.net.mib["TcpExtTCPLostRetransmit"] == 1


def test_a_dsack_widens_the_window_for_sixteen_recoveries() -> None:
    sk = sender()
    rs = RateSample()
    rs.prior_delivered = 5
    sk.rack.dsack_seen = True
    sk.delivered = 9
    rack.tcp_rack_update_reo_wnd(sk, rs)
    assert (sk.rack.reo_wnd_steps, sk.rack.reo_wnd_persist, sk.rack.last_delivered) == (2, 16, 9)
    sk.rack.dsack_seen = True
    rack.tcp_rack_update_reo_wnd(sk, rs)  # within the same round trip
    assert sk.rack.reo_wnd_steps == 2
    sk.rack.reo_wnd_persist = 0
    rack.tcp_rack_update_reo_wnd(sk, rs)
    assert sk.rack.reo_wnd_steps == 1


# ---------------------------------------------------------------- without SACK


def test_three_duplicates_lose_the_first_segment() -> None:
    sk = sender(5, sack_ok=False)
    sk.sacked_out = 2
    flag, rexmit = recovery.tcp_fastretrans_alert(sk, START, 1, 0)
    assert rexmit == REXMIT_LOST
    assert sk.icsk_ca_state == CA.Recovery
    assert (sk.sacked_out, sk.lost_out) == (3, 1)
    assert sk.net.mib["TcpExtTCPRenoRecovery"] == 1
    assert sk.snd_ssthresh == 5
    assert flag == 0


def test_more_duplicates_than_segments_are_reordering() -> None:
    sk = sender(3, sack_ok=False)
    sack.tcp_add_reno_sack(sk, 3, False)
    assert (sk.sacked_out, sk.delivered) == (2, 2)
    assert sk.reordering == 3
    assert sk.net.mib["TcpExtTCPRenoReorder"] == 1


# ---------------------------------------------------------------- the states


def test_a_timeout_loses_all_that_is_as_old_and_leaves_one() -> None:
    sk = sender(4)
    sk.icsk_rto = 50
    sk.rack.rtt_us = 49 * MS  # 49 ms after it was sent an skb is overdue: the first two are
    recovery.tcp_enter_loss(sk)
    assert sk.icsk_ca_state == CA.Loss
    assert [s[2] for s in spans(sk)] == [TCPCB_LOST, TCPCB_LOST, 0, 0]
    assert (sk.snd_cwnd, sk.snd_ssthresh, sk.prior_cwnd) == (3, 5, 10)
    assert sk.high_seq == sk.snd_nxt
    assert sk.undo_marker == START
    assert sk.frto


def test_reneging_voids_all_sacks_at_the_timeout() -> None:
    sk = sender(3)
    tag(sk, acks(sk, 0, (0, 1000), (1000, 2000)))
    head = sk.tcp_rtx_queue.head
    assert head is not None
    head.sacked |= TCPCB_SACKED_ACKED
    recovery.tcp_enter_loss(sk)
    assert sk.is_sack_reneg
    assert sk.sacked_out == 0
    assert sk.lost_out == 3
    assert sk.net.mib["TcpExtTCPSACKReneging"] == 1


def test_reneging_gives_the_peer_half_a_round_trip() -> None:
    sk = sender(2)
    sk.srtt_us = 8 * 100 * MS
    yes, flag = recovery.tcp_check_sack_reneging(sk, FLAG_SACK_RENEGING | FLAG_SND_UNA_ADVANCED | FLAG_SET_XMIT_TIMER)
    assert yes
    assert not flag & FLAG_SET_XMIT_TIMER
    assert sk.icsk_pending == ICSK_TIME_RETRANS
    assert sk.icsk_timeout - sk.net.jiffies == 50


def test_a_mark_reduces_and_asks_for_cwr() -> None:
    sk = sender(10)
    sk.ecn_flags = TCP_ECN_OK
    recovery.tcp_fastretrans_alert(sk, START, 0, FLAG_ECE | FLAG_DATA_ACKED | FLAG_SND_UNA_ADVANCED)
    assert sk.icsk_ca_state == CA.CWR
    assert (sk.snd_ssthresh, sk.snd_cwnd) == (5, 10)
    assert sk.ecn_flags & TCP_ECN_QUEUE_CWR
    assert sk.undo_marker == 0


def test_the_window_falls_in_proportion() -> None:
    sk = sender(10)
    recovery.tcp_enter_cwr(sk)
    sk.packets_out = 8
    recovery.tcp_cwnd_reduction(sk, 2, 0, FLAG_SND_UNA_ADVANCED)
    assert sk.snd_cwnd == 9  # 8 in flight and ceil(5 * 2 / 10) = 1
    sk.prr_out = 1
    sk.packets_out = 7
    recovery.tcp_cwnd_reduction(sk, 2, 0, FLAG_SND_UNA_ADVANCED)
    assert sk.snd_cwnd == 8  # ceil(5 * 4 / 10) - 1
    sk.packets_out = 3
    recovery.tcp_cwnd_reduction(sk, 1, 0, FLAG_SND_UNA_ADVANCED)
    assert sk.snd_cwnd == 5  # room for 2


def test_a_probe_that_repaired_a_loss_costs_a_reduction() -> None:
    sk = sender(1)
    sk.tlp_high_seq = START
    sk.tlp_retrans = True
    ack.tcp_process_tlp_ack(sk, START + 1000, FLAG_SND_UNA_ADVANCED)
    assert sk.tlp_high_seq == 0
    assert (sk.snd_ssthresh, sk.snd_cwnd) == (5, 5)
    assert sk.icsk_ca_state == CA.Open
    assert sk.net.mib["TcpExtTCPLossProbeRecovery"] == 1


@pytest.mark.parametrize(("retrans", "flag"), [(False, 0), (True, FLAG_DSACK_TLP), (True, 0)])
def test_a_probe_of_new_data_a_dsack_or_a_duplicate_say_that_nothing_was_lost(retrans: bool, flag: int) -> None:
    sk = sender(1)
    sk.tlp_high_seq = START
    sk.tlp_retrans = retrans
    ack.tcp_process_tlp_ack(sk, START, flag)
    assert sk.tlp_high_seq == 0
    assert sk.snd_cwnd == 10


# ---------------------------------------------------------------- undo


def test_timestamps_take_a_recovery_back() -> None:
    sk = sender(4)
    sk.lost_out = 1
    recovery.tcp_enter_recovery(sk, False)
    assert (sk.snd_ssthresh, sk.prior_ssthresh) == (5, 0x7FFFFFFF)
    sk.retrans_stamp = 1000
    sk.rx_opt.saw_tstamp = True
    sk.rx_opt.rcv_tsecr = 999
    sk.snd_una = sk.high_seq
    assert not undo.tcp_try_undo_recovery(sk)
    assert sk.icsk_ca_state == CA.Open
    assert (sk.snd_cwnd, sk.snd_ssthresh) == (10, 0x7FFFFFFF)
    assert sk.net.mib["TcpExtTCPFullUndo"] == 1


def test_dsacks_for_all_that_was_repeated_take_it_back() -> None:
    sk = sender(4)
    recovery.tcp_enter_recovery(sk, False)
    assert sk.undo_retrans == -1
    assert not undo.tcp_try_undo_dsack(sk)
    sk.undo_retrans = 0
    assert undo.tcp_try_undo_dsack(sk)
    assert sk.undo_marker == 0
    assert sk.rack.reo_wnd_persist == 1
    assert sk.net.mib["TcpExtTCPDSACKUndo"] == 1


def test_a_mark_forbids_undo() -> None:
    sk = sender(4)
    recovery.tcp_enter_recovery(sk, True)
    undo.tcp_undo_cwnd_reduction(sk, False)
    assert (sk.snd_cwnd, sk.snd_ssthresh) == (10, 5)


def test_frto_finds_a_timeout_spurious() -> None:
    sk = sender(3)
    recovery.tcp_enter_loss(sk)
    sk.retrans_stamp = 1  # the head went again
    assert recovery.tcp_process_loss(sk, FLAG_ORIG_SACK_ACKED | FLAG_SND_UNA_ADVANCED, 0, 0) == 0
    assert sk.icsk_ca_state == CA.Open
    assert sk.lost_out == 0
    assert sk.snd_cwnd == 10
    assert sk.net.mib["TcpExtTCPSpuriousRTOs"] == 1
    assert sk.net.mib["TcpExtTCPLossUndo"] == 1


def test_without_sack_the_state_stays_until_more_is_acknowledged() -> None:
    sk = sender(4, sack_ok=False)
    recovery.tcp_enter_recovery(sk, False)
    sk.undo_marker = 0
    sk.snd_una = sk.high_seq
    sk.tcp_rtx_queue.clear()
    assert undo.tcp_try_undo_recovery(sk)
    assert sk.icsk_ca_state == CA.Recovery


# ---------------------------------------------------------------- rates and samples


def test_a_rate_counts_what_was_delivered_since_the_segment_left() -> None:
    sk = sender(4)
    _, state = clean(sk, 2000)
    rate.tcp_rate_gen(sk, 2, 0, False, state.rate)
    assert (state.rate.delivered, state.rate.prior_delivered) == (2, 0)
    # both prior_delivered are 0 until the connection delivered anything: the last skb to be delivered gives the sample
    assert state.rate.interval_us == 50 * MS  # 50 ms since the first departure, which began the interval
    assert (sk.rate_delivered, sk.rate_interval_us) == (2, 50 * MS)


def test_a_sender_without_data_is_application_limited_until_the_bubble_is_through() -> None:
    sk = sender(2)
    sk.delivered = 7
    rate.tcp_rate_check_app_limited(sk)
    assert sk.app_limited == 9
    sk.delivered = 10
    rate.tcp_rate_gen(sk, 1, 0, False, RateSample())
    assert sk.app_limited == 0


def test_an_echoed_timestamp_gives_a_sample_when_nothing_else_does() -> None:
    sk = sender(1)
    sk.rx_opt.saw_tstamp = True
    sk.rx_opt.rcv_tsecr = sk.tcp_mstamp // 1000 - 30
    assert rttm.tcp_ack_update_rtt(sk, FLAG_DATA_ACKED, -1, -1, -1, RateSample())
    assert sk.srtt_us == 8 * 30 * MS
    assert not rttm.tcp_ack_update_rtt(sk, 0, -1, -1, -1, RateSample())


# ---------------------------------------------------------------- the acknowledgment as a whole


def test_an_ack_of_what_was_not_sent_is_refused() -> None:
    sk = sender(1)
    assert ack.tcp_ack(sk, acks(sk, 2000), FLAG_SLOWPATH) < 0


def test_a_pure_ack_moves_the_window_and_arms_the_probe() -> None:
    sk = sender(4)
    assert ack.tcp_ack(sk, acks(sk, 2000, window=50_000), FLAG_SLOWPATH) == 1
    assert (sk.snd_una - START, sk.snd_wnd, sk.bytes_acked) == (2000, 50_000, 2000)
    assert sk.net.mib["TcpExtTCPPureAcks"] == 1
    assert sk.net.mib["TcpExtTCPDelivered"] == 2
    assert sk.snd_cwnd == 10  # half of it wasn't used
    assert sk.icsk_pending


def test_the_predicted_ack_takes_no_window() -> None:
    sk = sender(4)
    assert ack.tcp_ack(sk, acks(sk, 1000, window=5), 0) == 1
    assert sk.snd_wnd == 100_000
    assert sk.net.mib["TcpExtTCPHPAcks"] == 1


def test_cwr_ends_the_echo() -> None:
    sk = sender(1)
    sk.ecn_flags = TCP_ECN_OK | TCP_ECN_DEMAND_CWR
    skb = acks(sk, 0, flags=ACK | CWR)
    skb.end_seq += 10
    ack.tcp_ack(sk, skb, FLAG_SLOWPATH)
    assert sk.ecn_flags == TCP_ECN_OK
    assert sk.icsk_ack.pending & ICSK_ACK_NOW


def test_an_echo_reduces_only_with_ecn() -> None:
    sk = sender(2)
    ack.tcp_ack(sk, acks(sk, 1000, flags=ACK | ECE), FLAG_SLOWPATH)
    assert sk.icsk_ca_state == CA.Open


def test_a_zero_window_of_the_same_segment_counts_since_6_12() -> None:
    for kernel, taken in ((601, False), (612, True)):
        sk = sender(1, kernel=kernel)
        assert ack.tcp_may_update_window(sk, START, START, 0) is taken


def test_pacing_is_twice_the_window_in_slow_start() -> None:
    sk = sender()
    sk.srtt_us = 8 * 100 * MS
    rttm_rate = MSS * 10 * 10  # ten windows a second
    ack.tcp_update_pacing_rate(sk)
    assert sk.sk_pacing_rate == 2 * rttm_rate
    sk.snd_ssthresh = 15
    ack.tcp_update_pacing_rate(sk)
    assert sk.sk_pacing_rate == rttm_rate * 120 // 100


def test_the_send_buffer_holds_two_windows() -> None:
    sk = sender()
    sk.sk_sndbuf = 16384
    ack.tcp_sndbuf_expand(sk)
    assert sk.sk_sndbuf == 2 * 10 * (2048 + 256)  # 1000 + 320 + 320, rounded up to 2048


# ---------------------------------------------------------------- RACK off


def test_without_rack_counts_of_sacks_mark_what_lies_below() -> None:
    sk = sender(8, tcp_recovery=0)
    flag, _ = tag(sk, acks(sk, 0, (3000, 6000)))  # three SACKed: all below the first of them is lost
    _, rexmit = recovery.tcp_fastretrans_alert(sk, START, 0, flag)
    assert rexmit == REXMIT_LOST
    assert sk.icsk_ca_state == CA.Recovery
    assert [s[2] for s in spans(sk)][:3] == [TCPCB_LOST] * 3
    assert sk.lost_out == 3


def test_without_rack_a_cumulated_count_goes_on_from_the_hint() -> None:
    sk = sender(8, tcp_recovery=0)
    flag, _ = tag(sk, acks(sk, 0, (1000, 4000)))
    recovery.tcp_fastretrans_alert(sk, START, 0, flag)
    assert sk.lost_out == 1
    flag, _ = tag(sk, acks(sk, 0, (1000, 4000), (5000, 8000)))
    recovery.tcp_fastretrans_alert(sk, START, 0, flag)
    assert [s[0] for s in spans(sk) if s[2] & TCPCB_LOST] == [0, 4000]


def test_counts_that_an_undo_let_leak_end_with_the_queue() -> None:
    sk = sender(2)
    sk.retrans_out = 1
    clean(sk, 2000)
    assert sk.retrans_out == 0
