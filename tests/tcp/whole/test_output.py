"""What is sent when: Nagle, windows, super-segments, probes, retransmissions, MTU."""

from refmodel.tcp.state import St
from refmodel.tcp.whole import output, sendmsg
from refmodel.tcp.whole.const import (
    ACK,
    FIN,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    PSH,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCPCB_LOST,
    TCPCB_SACKED_RETRANS,
)
from refmodel.tcp.whole.skb import Packet, Skb
from refmodel.tcp.whole.sock import CA, Sock
from refmodel.types import add
from tests.tcp.whole.test_transmit import sock


def queue(sk: Sock, length: int, flags: int = ACK) -> Skb:
    """Puts `length` unsent bytes behind the others."""
    skb = sendmsg.tcp_stream_alloc_skb(sk, True)
    skb.seq = sk.write_seq
    skb.len = length
    skb.end_seq = add(sk.write_seq, length)
    skb.tcp_flags = flags
    skb.frags = 1
    skb.truesize += length
    output.tcp_queue_skb(sk, skb)
    return skb


def sent(sk: Sock) -> list[Packet]:
    """What left since the last question."""
    packets = list(sk.net.out)
    sk.net.out.clear()
    return packets


def push(sk: Sock, nonagle: int = 0) -> list[Packet]:
    """Sends what may go."""
    output.__tcp_push_pending_frames(sk, output.tcp_current_mss(sk), nonagle)
    return sent(sk)


def test_a_small_segment_waits_for_another_small_one_to_be_acknowledged() -> None:
    sk = sock()
    queue(sk, 100)
    assert [p.len for p in push(sk)] == [100]
    queue(sk, 100)
    assert push(sk) == []
    assert push(sk, TCP_NAGLE_CORK) == []
    assert [p.len for p in push(sk, TCP_NAGLE_OFF)] == [100]


def test_a_small_segment_does_not_wait_for_full_ones() -> None:
    sk = sock()
    queue(sk, 2920)
    assert [p.len for p in push(sk)] == [2920]
    queue(sk, 100)
    assert [p.len for p in push(sk)] == [100]


def test_cork_holds_back_what_is_not_full() -> None:
    sk = sock()
    queue(sk, 2000)
    assert [p.len for p in push(sk, TCP_NAGLE_CORK)] == [1460]
    assert sk.sk_write_queue.head is not None
    assert sk.sk_write_queue.head.len == 540


def test_super_segments_carry_psh_and_the_queued_skb_does_not() -> None:
    sk = sock()
    skb = queue(sk, 2920)
    (p,) = push(sk)
    assert (p.flags, p.gso_size, p.gso_segs) == (ACK | PSH, 1460, 2)
    assert skb.tcp_flags == ACK


def test_at_most_half_the_congestion_window_leaves_at_once() -> None:
    sk = sock()
    sk.snd_wnd = 1 << 20
    queue(sk, 20 * 1460)
    assert [p.gso_segs for p in push(sk)] == [5, 5]
    assert sk.packets_out == 10
    assert sk.is_cwnd_limited


def test_the_peers_window_cuts_a_segment_only_between_whole_ones() -> None:
    sk = sock()
    sk.snd_wnd = 2000
    queue(sk, 5 * 1460)
    assert [p.len for p in push(sk)] == [2000]
    sk = sock()
    sk.snd_wnd = 1000
    queue(sk, 5 * 1460)
    assert push(sk) == []
    assert sk.icsk_pending == ICSK_TIME_PROBE0
    assert sk.chrono_type == output.TCP_CHRONO_RWND_LIMITED


def test_the_smaller_skb_takes_from_the_next_one() -> None:
    sk = sock()
    queue(sk, 1000)
    queue(sk, 3000)
    assert [p.len for p in push(sk, TCP_NAGLE_OFF)] == [4000]
    sk = sock(kernel=601)
    queue(sk, 1000)
    queue(sk, 3000)
    assert [p.len for p in push(sk, TCP_NAGLE_OFF)] == [1000, 3000]


def test_a_fin_rides_on_the_last_unsent_data() -> None:
    sk = sock()
    sk.snd_wnd = 0
    queue(sk, 100)
    output.tcp_send_fin(sk)
    assert sent(sk) == []
    sk.snd_wnd = 1000
    assert [(p.len, p.flags) for p in push(sk)] == [(100, ACK | FIN)]
    assert sk.snd_nxt == 102


def test_a_fin_passes_a_small_segment_that_is_unacknowledged_but_not_the_congestion_window() -> None:
    sk = sock()
    queue(sk, 100)
    push(sk)
    output.tcp_send_fin(sk)
    assert [(p.seq, p.flags) for p in sent(sk)] == [(101, ACK | FIN)]
    sk = sock()
    sk.snd_cwnd = 1
    queue(sk, 100)
    push(sk)
    output.tcp_send_fin(sk)
    assert sent(sk) == []


def test_under_memory_pressure_a_fin_is_pretended_to_have_been_sent() -> None:
    sk = sock()
    queue(sk, 100)
    push(sk)
    sk.net.tcp_memory_pressure = True
    output.tcp_send_fin(sk)
    assert sent(sk) == []
    assert sk.tcp_rtx_queue.tail is not None
    assert (sk.tcp_rtx_queue.tail.tcp_flags, sk.snd_nxt, sk.write_seq) == (ACK | FIN, 102, 102)


def test_a_loss_probe_is_due_in_two_round_trips_and_a_delayed_ack_more_for_one_segment() -> None:
    sk = sock()
    sk.icsk_rto = 1000
    sk.srtt_us = 50_000 << 3
    queue(sk, 100)
    now = sk.net.jiffies
    push(sk)
    assert (sk.icsk_pending, sk.icsk_timeout) == (ICSK_TIME_LOSS_PROBE, now + 300)
    queue(sk, 100)
    push(sk, TCP_NAGLE_OFF)
    assert (sk.icsk_pending, sk.icsk_timeout) == (ICSK_TIME_LOSS_PROBE, now + 102)


def test_the_loss_probe_sends_the_last_segment_again() -> None:
    sk = sock()
    queue(sk, 3000)
    push(sk)
    output.tcp_send_loss_probe(sk)
    (p,) = sent(sk)
    assert (p.seq, p.len, p.by) == (2921, 80, "tcp_send_loss_probe")
    assert (sk.tlp_high_seq, sk.tlp_retrans) == (3001, True)
    assert sk.net.mib["TcpExtTCPLossProbes"] == 1
    output.tcp_send_loss_probe(sk)
    assert sent(sk) == []


def test_the_loss_probe_prefers_new_data_to_the_congestion_window() -> None:
    sk = sock()
    sk.snd_cwnd = 1
    queue(sk, 1460)
    queue(sk, 1460)
    push(sk)
    output.tcp_send_loss_probe(sk)
    (p,) = sent(sk)
    assert (p.seq, p.len, sk.tlp_retrans) == (1461, 1460, False)


def lose_all(sk: Sock) -> None:
    for skb in sk.tcp_rtx_queue:
        skb.sacked |= TCPCB_LOST
    sk.lost_out = sk.packets_out
    sk.icsk_ca_state = CA.Loss
    sk.snd_cwnd = 1
    sk.retransmit_skb_hint = sk.tcp_rtx_queue.head


def test_a_retransmission_cuts_a_super_segment_and_is_counted() -> None:
    sk = sock()
    queue(sk, 4 * 1460)
    push(sk)
    lose_all(sk)
    output.tcp_xmit_retransmit_queue(sk)
    (p,) = sent(sk)
    assert (p.seq, p.len) == (1, 1460)
    assert (sk.packets_out, sk.lost_out, sk.retrans_out, len(sk.tcp_rtx_queue)) == (4, 4, 1, 2)
    head = sk.tcp_rtx_queue.head
    assert head is not None
    assert head.sacked & TCPCB_SACKED_RETRANS
    assert sk.net.mib["TcpRetransSegs"] == 1
    assert sk.net.mib["TcpExtTCPSlowStartRetrans"] == 1
    assert sk.retrans_stamp == sk.tcp_mstamp // 1000 & 0xFFFFFFFF


def test_small_skbs_that_are_sent_again_become_one() -> None:
    sk = sock()
    for _ in range(3):
        queue(sk, 400)
        push(sk, TCP_NAGLE_OFF)
    lose_all(sk)
    head = sk.tcp_rtx_queue.head
    assert head is not None
    assert output.tcp_retransmit_skb(sk, head, 1) == 0
    (p,) = sent(sk)
    assert (p.seq, p.len) == (1, 1200)
    assert (sk.packets_out, sk.lost_out, sk.retrans_out, len(sk.tcp_rtx_queue)) == (1, 1, 1, 1)


def test_nothing_is_joined_where_the_sysctl_forbids_it() -> None:
    sk = sock(tcp_retrans_collapse=0)
    for _ in range(2):
        queue(sk, 400)
        push(sk, TCP_NAGLE_OFF)
    head = sk.tcp_rtx_queue.head
    assert head is not None
    output.tcp_retransmit_skb(sk, head, 1)
    assert sent(sk)[-1].len == 400


def test_what_lies_beyond_a_shrunk_window_is_not_sent_again_but_its_head_is() -> None:
    sk = sock()
    queue(sk, 1460)
    push(sk)
    queue(sk, 1460)
    push(sk)
    sk.snd_wnd = 0
    head, tail = sk.tcp_rtx_queue.head, sk.tcp_rtx_queue.tail
    assert head is not None
    assert tail is not None
    assert output.tcp_retransmit_skb(sk, tail, 1) == -11  # EAGAIN
    assert output.tcp_retransmit_skb(sk, head, 1) == 0


def test_a_window_probe_is_one_below_the_window_and_backs_off() -> None:
    sk = sock()
    sk.snd_wnd = 0
    queue(sk, 100)
    push(sk)
    now = sk.net.jiffies
    assert sk.icsk_timeout == now + 200
    output.tcp_send_probe0(sk)
    (p,) = sent(sk)
    assert (p.seq, p.len, p.flags) == (0, 0, ACK)
    assert sk.icsk_timeout == now + 400
    output.tcp_send_probe0(sk)
    assert sk.icsk_timeout == now + 800
    assert sk.net.mib["TcpExtTCPWinProbe"] == 2


def test_a_window_that_is_open_a_little_is_probed_with_data() -> None:
    sk = sock()
    sk.snd_wnd = 30
    queue(sk, 100)
    output.tcp_send_probe0(sk)
    (p,) = sent(sk)
    assert (p.seq, p.len, p.flags) == (1, 30, ACK | PSH)
    assert sk.snd_nxt == 31


def test_in_urgent_mode_two_probes_leave() -> None:
    sk = sock()
    sk.snd_up = 10
    assert output.tcp_write_wakeup(sk, "TcpExtTCPKeepAlive") == 0
    assert [p.seq for p in sent(sk)] == [1, 0]


def test_the_mss_follows_the_path_and_the_peers_window() -> None:
    sk = sock()
    assert output.tcp_sync_mss(sk, 1500) == 1460
    sk.tcp_header_len = 32
    assert output.tcp_sync_mss(sk, 1500) == 1448
    assert output.tcp_mss_to_mtu(sk, 1448) == 1500
    sk.max_window = 2000
    assert output.tcp_sync_mss(sk, 1500) == 1000
    sk.max_window = 400
    assert output.tcp_sync_mss(sk, 1500) == 400
    assert output.tcp_sync_mss(sk, 60) == 48 - 12


def test_an_mtu_probe_lies_in_the_middle_and_costs_one_of_the_window() -> None:
    sk = sock(tcp_mtu_probing=2)
    sk.snd_wnd = 1 << 20
    sk.snd_cwnd = 20
    output.tcp_mtup_init(sk)
    output.tcp_sync_mss(sk, 1500)
    assert (sk.icsk_mtup.search_low, sk.icsk_mtup.search_high, sk.mss_cache) == (1064, 1500, 1024)
    queue(sk, 10240)
    packets = push(sk)
    assert (packets[0].len, packets[0].by) == ((1064 + 1500) // 2 - 40, "tcp_mtu_probe")
    assert sk.icsk_mtup.probe_size == 1282
    assert sk.snd_cwnd == 19


def test_idleness_halves_the_window_once_for_each_timeout() -> None:
    sk = sock()
    sk.snd_cwnd = 100
    sk.icsk_rto = 200
    output.tcp_cwnd_restart(sk, 500)
    assert sk.snd_cwnd == 25
    assert sk.snd_ssthresh == 0x7FFFFFFF
    output.tcp_cwnd_restart(sk, 5000)
    assert sk.snd_cwnd == 10


def test_the_reasons_that_limit_a_sender_rank() -> None:
    sk = sock()
    queue(sk, 10)
    output.tcp_chrono_start(sk, output.TCP_CHRONO_BUSY)
    sk.net.advance(sk.net.now + 100_000)
    output.tcp_chrono_start(sk, output.TCP_CHRONO_SNDBUF_LIMITED)
    output.tcp_chrono_start(sk, output.TCP_CHRONO_RWND_LIMITED)
    assert (sk.chrono_type, sk.chrono_stat) == (output.TCP_CHRONO_SNDBUF_LIMITED, [100, 0, 0])
    output.tcp_chrono_stop(sk, output.TCP_CHRONO_RWND_LIMITED)
    assert sk.chrono_type == output.TCP_CHRONO_SNDBUF_LIMITED
    output.tcp_chrono_stop(sk, output.TCP_CHRONO_SNDBUF_LIMITED)
    assert sk.chrono_type == output.TCP_CHRONO_BUSY


def test_a_closed_socket_sends_nothing() -> None:
    sk = sock()
    queue(sk, 10)
    sk.sk_state = St.CLOSE
    assert push(sk) == []
