"""The sender half: which step sent a frame, and which frame no sender sends."""

import pytest

from conformance.oracle.end import End, Excuse, Stack
from conformance.oracle.sender import Sender
from conformance.oracle.sender_rules import CONSTRAINTS
from refmodel.tcp.state import St
from tests.oracle.frames import ACK, APORT, FIN, PSH, A, Tap, ts
from tests.oracle.sender_host import MS, MSS, SECOND, Eager, Host, Quiet

RTO = 220 * MS  # of a round trip of 10 ms: 10 + 200 ms, whole jiffies, and the wheel's slack
PTO = 30 * MS  # of a tail of several segments: two round trips and 2 ms, the wheel's slack


# -- new data


def test_data_in_sequence_are_new() -> None:
    h = Host()
    assert h.sends(bytes(MSS)) == "tcp_write_xmit"
    assert h.tx.snd_nxt == 1 + MSS
    assert h.count("TcpExt.TCPOrigDataSent") == 1


def test_a_super_segment_counts_as_its_segments() -> None:
    h = Host()
    h.sends(bytes(5 * MSS + 1))
    assert h.count("TcpExt.TCPOrigDataSent") == 6
    assert h.count("Tcp.OutSegs") == 2 + 6  # SYN and its ACK


def test_a_fin_leaves_with_the_function_that_queues_it() -> None:
    h = Host()
    assert h.sends(flags=ACK | FIN) == "tcp_send_fin"
    assert h.tx.snd_nxt == 2


def test_data_behind_what_was_seen_are_refused_where_nothing_is_lost_before_the_tap() -> None:
    assert Host().refuses(b"x", seq=2).constraint == "sequence-gap"


def test_a_gap_that_the_ids_explain_left_unseen() -> None:
    h = Host(exact=False)
    h.sends(b"", ip_id=10)
    h.ident.gap = 1
    assert h.sends(bytes(MSS), seq=1 + MSS, ip_id=12) == "tcp_write_xmit"
    assert h.count("TcpExt.TCPOrigDataSent") == 2


def test_a_gap_between_consecutive_ids_is_refused_even_far_from_the_tap() -> None:
    h = Host(exact=False, near=False)
    h.tx.last_id, h.tx.from_start = 10, True
    h.sends(b"", ip_id=10)
    assert h.refuses(bytes(MSS), seq=1 + MSS, ip_id=11).constraint == "sequence-gap"


def test_a_gap_without_ids_has_an_excuse() -> None:
    why = Host(exact=False).refuses(bytes(MSS), seq=1 + MSS)
    assert [e.kind for e in why.excuses] == ["unseen"]


def test_a_gap_that_is_decided_to_be_unseen_is_taken() -> None:
    h = Host(exact=False)
    h.end.decided = {h.tap.number + 1: Excuse("unseen", h.tap.number + 1, "")}
    assert h.sends(bytes(MSS), seq=1 + MSS) == "tcp_write_xmit"


def test_nothing_follows_the_fin() -> None:
    h = Host()
    h.sends(flags=ACK | FIN)
    assert h.refuses(b"x").constraint == "data-after-fin"


def test_data_beyond_the_right_edge_are_refused() -> None:
    h = Host(wscale=0)
    h.takes(1, window=MSS)
    h.tx.right = 1 + MSS
    h.data()
    assert h.refuses(b"x").constraint == "beyond-window"


def test_the_furthest_edge_counts_though_the_window_shrank() -> None:
    h = Host()
    h.takes(1, window=100)
    h.takes(1, window=0)
    assert h.sends(bytes(MSS)) == "tcp_write_xmit"


def test_ten_segments_are_in_flight_at_first() -> None:
    h = Host()
    h.data(10)
    assert h.refuses(bytes(MSS)).constraint == "beyond-congestion-window"


def test_each_segment_delivered_lets_one_more_out() -> None:
    h = Host()
    h.data(10)
    h.takes(1 + 4 * MSS)
    h.data(8)
    assert h.tx.f.board.out == 14


def test_a_host_without_a_recording_may_have_another_initial_window() -> None:
    h = Host(given=False)
    h.data(20)
    assert h.tx.f.board.out == 20


def test_data_that_were_sent_and_data_that_were_not_share_no_segment() -> None:
    h = Host()
    h.data()
    assert h.refuses(bytes(MSS), seq=1 + MSS // 2).constraint == "overlaps-new"


# -- the tail's probe


def test_the_tail_is_probed_after_two_round_trips() -> None:
    h = Host()
    h.data(3)
    h.at(PTO)
    assert h.sends(bytes(MSS), seq=1 + 2 * MSS) == "tcp_send_loss_probe"
    assert h.count("TcpExt.TCPLossProbes") == 1
    assert h.count("Tcp.RetransSegs") == 1
    assert h.tx.f.tlp_high == 1 + 3 * MSS


def test_the_tail_is_not_probed_before() -> None:
    h = Host(rtt=60 * MS)
    h.data(3)
    h.at(40 * MS)
    assert h.refuses(bytes(MSS), seq=1 + 2 * MSS).constraint == "retransmission-early"


def test_one_segment_out_waits_for_a_delayed_acknowledgment() -> None:
    h = Host()
    h.data(1)
    h.at(PTO)
    assert h.refuses(bytes(MSS), seq=1).constraint == "retransmission-early"
    assert h.sends(bytes(MSS), seq=1, after=RTO) == "tcp_send_loss_probe"


def test_new_data_at_the_probe_s_time_are_the_probe() -> None:
    h = Host()
    h.data(10)
    h.at(25 * MS)
    assert h.sends(bytes(MSS)) == "tcp_send_loss_probe"
    assert h.count("Tcp.RetransSegs") == 0


def test_there_is_one_probe_an_episode() -> None:
    h = Host()
    h.data(3)
    h.at(PTO)
    h.sends(bytes(MSS), seq=1 + 2 * MSS)
    h.at(PTO)
    assert h.refuses(bytes(MSS), seq=1 + 2 * MSS).constraint == "retransmission-cause"


def test_a_probe_that_repaired_a_loss_is_answered_by_a_higher_acknowledgment() -> None:
    h = Host()
    h.data(3)
    h.at(PTO)
    h.sends(bytes(MSS), seq=1 + 2 * MSS)
    h.data(1)
    h.takes(1 + 4 * MSS)
    assert h.count("TcpExt.TCPLossProbeRecovery") == 1


def test_a_probe_that_was_needless_is_answered_by_a_dsack() -> None:
    h = Host()
    h.data(3)
    h.at(PTO)
    h.sends(bytes(MSS), seq=1 + 2 * MSS)
    h.takes(1 + 3 * MSS)
    h.takes(1 + 3 * MSS, (1 + 2 * MSS, 1 + 3 * MSS))
    assert h.tx.f.tlp_high < 0
    assert h.count("TcpExt.TCPDSACKRecv") == 1
    assert h.count("TcpExt.TCPLossProbeRecovery") == 0


def test_with_early_retransmit_off_there_is_no_probe() -> None:
    h = Host(told={"net.ipv4.tcp_early_retrans": 0})
    h.data(1)
    h.at(RTO)
    assert h.sends(bytes(MSS), seq=1) == "tcp_retransmit_timer"


# -- the time-out


def test_the_head_goes_again_when_the_time_out_has_passed() -> None:
    h = Host()
    h.data(3)
    h.at(RTO)
    assert h.sends(bytes(MSS), seq=1) == "tcp_retransmit_timer"
    assert h.count("TcpExt.TCPTimeouts") == (1, 2)  # the last one, which ends a connection, sends nothing
    h.takes(1 + 3 * MSS)
    assert h.count("TcpExt.TCPTimeouts") == 1


def test_the_head_does_not_go_again_before() -> None:
    h = Host()
    h.data(3)
    h.at(120 * MS)
    assert h.refuses(bytes(MSS), seq=1).constraint == "retransmission-early"


def test_the_time_out_doubles() -> None:
    h = Host()
    h.data(3)
    h.sends(bytes(MSS), seq=1, after=RTO)
    assert h.refuses(bytes(MSS), seq=1, after=300 * MS).constraint == "retransmission-early"
    assert h.sends(bytes(MSS), seq=1, after=140 * MS) == "tcp_retransmit_timer"


def test_a_thin_stream_s_time_outs_are_of_one_length() -> None:
    h = Host()
    h.data(3)
    for _ in range(4):
        assert h.sends(bytes(MSS), seq=1, after=RTO) == "tcp_retransmit_timer"


def test_after_a_time_out_what_was_lost_goes_again_in_slow_start() -> None:
    h = Host()
    h.data(4)
    h.sends(bytes(MSS), seq=1, after=RTO)
    h.takes(1 + MSS, after=10 * MS)
    assert h.sends(bytes(MSS), seq=1 + MSS) == "tcp_xmit_retransmit_queue"
    assert h.count("TcpExt.TCPSlowStartRetrans") == 1
    assert h.count("TcpExt.TCPFastRetrans") == 0


def test_a_time_out_that_was_wrong_is_taken_back_by_the_original_s_acknowledgment() -> None:
    h = Host()
    h.data(4)
    before = h.now
    h.sends(bytes(MSS), seq=1, after=RTO)
    h.takes(1 + MSS, echo=before)
    assert h.count("TcpExt.TCPLossUndo") == 1


def test_a_second_time_out_loses_the_retransmission() -> None:
    h = Host()
    h.data(3)
    h.sends(bytes(MSS), seq=1, after=RTO)
    h.sends(bytes(MSS), seq=1, after=2 * RTO)
    assert h.count("TcpExt.TCPLostRetransmit") == 1


def test_a_time_out_that_no_frame_shows_is_missed() -> None:
    h = Host()
    h.data(3)
    h.at(3 * SECOND)
    assert h.refuses(bytes(MSS), seq=1).constraint == "retransmission-overdue"


def test_the_first_time_out_may_be_that_of_connections_before() -> None:
    """Source net/ipv4/tcp_metrics.c:tcp_init_metrics, until data were acknowledged."""
    h = Host(cached=True, told={"net.ipv4.tcp_early_retrans": 0})
    h.data(3)
    h.at(3 * SECOND)
    assert h.sends(bytes(MSS), seq=1) == "tcp_retransmit_timer"


def test_but_a_tail_s_probe_is_due_after_two_round_trips_of_this_one() -> None:
    """Source net/ipv4/tcp_output.c:tcp_schedule_loss_probe, by srtt_us; the time-out only bounds it."""
    h = Host(cached=True)
    h.data(3)
    h.at(3 * SECOND)
    assert h.refuses(bytes(MSS), seq=1).constraint == "retransmission-overdue"


# -- losses that arrivals show


def test_what_was_overtaken_goes_again_in_recovery() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + MSS, 1 + 5 * MSS), after=10 * MS)
    assert h.sends(bytes(MSS), seq=1) == "tcp_xmit_retransmit_queue"
    assert h.count("TcpExt.TCPFastRetrans") == 1
    assert h.count("TcpExt.TCPSackRecovery") == 1


def test_what_nothing_overtook_does_not_go_again() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + 2 * MSS, 1 + 3 * MSS), after=10 * MS)
    assert h.refuses(bytes(MSS), seq=1 + 3 * MSS).constraint == "retransmission-cause"


def test_what_is_sacked_does_not_go_again() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + MSS, 1 + 5 * MSS), after=10 * MS)
    assert h.refuses(bytes(MSS), seq=1 + MSS).constraint == "retransmits-sacked"


def test_unless_what_first_told_of_it_was_processed_only_behind_the_frame() -> None:
    h = Host()
    h.data(5)
    first = h.takes(1, (1 + 4 * MSS, 1 + 5 * MSS), after=10 * MS)
    told = h.takes(1, (1 + MSS, 1 + 3 * MSS), (1 + 4 * MSS, 1 + 5 * MSS))
    h.takes(1, (1 + MSS, 1 + 3 * MSS), (1 + 4 * MSS, 1 + 5 * MSS))
    assert first.number < told.number
    why = h.refuses(bytes(MSS), seq=1 + MSS)
    assert why.constraint == "retransmits-sacked"
    assert (why.excuses[0].kind, why.excuses[0].frame) == ("late", told.number)


def test_without_ids_a_frame_of_the_same_tick_fills_the_gap_that_it_left() -> None:
    h = Host(exact=False)
    ahead = h.frame(bytes(MSS), seq=1 + MSS)
    h.end.decided = {ahead.number: Excuse("unseen", ahead.number, "")}
    h.end.sends(ahead)
    overtaken = h.frame(bytes(MSS), seq=1)
    assert h.tx.fills(overtaken)
    h.end.sends(overtaken)
    assert h.count("Tcp.RetransSegs") == 0
    assert not h.tx.fills(h.frame(bytes(MSS), seq=1))


def test_a_later_one_was_sent_again() -> None:
    h = Host(exact=False)
    ahead = h.frame(bytes(MSS), seq=1 + MSS)
    h.end.decided = {ahead.number: Excuse("unseen", ahead.number, "")}
    h.end.sends(ahead)
    assert not h.tx.fills(h.frame(bytes(MSS), seq=1, after=10 * MS))


def test_in_mid_connection_a_gap_is_the_first_s_place_only_until_an_acknowledgment_came() -> None:
    tap = Tap()
    e = End("a", 0, (A, APORT), Stack(near=True, given=True))
    e.peer = End("b", 1, (b"", 0), Stack())
    e.ident, e.life, e.rx = Quiet(e), Quiet(e), Eager(e)
    e.tx, e.peer.tx = Sender(e), Sender(e.peer)
    e.state = St.ESTABLISHED
    e.sends(tap.frame(0, ACK, 1_000, 1, options=ts(1, 7)))
    e.sends(tap.frame(0, ACK | PSH, 5_000, 1, payload=b"x", options=ts(1, 7)))
    assert e.tx.snd_una == 5_000
    e.hears(tap.frame(1, ACK, 1, 5_001, options=ts(7, 1)))
    e.sends(tap.frame(0, ACK, 5_001, 1, options=ts(1, 7)))
    far = tap.frame(0, ACK | PSH, 9_000, 1, payload=b"x", options=ts(1, 7))
    e.decided = {far.number: Excuse("unseen", far.number, "")}
    e.sends(far)
    assert e.tx.snd_una == 5_001


def test_what_is_acknowledged_does_not_go_again() -> None:
    h = Host()
    h.data(2)
    h.takes(1 + MSS)
    why = h.refuses(bytes(MSS), seq=1, after=SECOND // 5)
    assert why.constraint == "retransmits-acknowledged"
    assert not why.excuses


def test_unless_the_acknowledgment_was_lost_behind_the_tap() -> None:
    h = Host(lossy=True)
    h.data(2)
    lost = h.takes(1 + 2 * MSS)
    why = h.refuses(bytes(MSS), seq=1 + MSS, after=RTO)
    assert ("dropped", lost.number) in [(e.kind, e.frame) for e in why.excuses]


def test_or_processed_only_behind_the_frame() -> None:
    h = Host()
    h.data(2)
    late = h.takes(1 + 2 * MSS)
    why = h.refuses(bytes(MSS), seq=1)
    assert [(e.kind, e.frame) for e in why.excuses] == [("late", late.number)]


def test_a_retransmission_that_was_lost_too_counts() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + MSS, 1 + 3 * MSS), after=10 * MS)
    h.sends(bytes(MSS), seq=1)
    h.data(1)
    h.takes(1, (1 + MSS, 1 + 6 * MSS), after=10 * MS)
    assert h.sends(bytes(MSS), seq=1) == "tcp_xmit_retransmit_queue"
    assert h.count("TcpExt.TCPLostRetransmit") == 1
    assert h.count("TcpExt.TCPSackRecovery") == 1


def test_a_recovery_that_was_for_nothing_is_taken_back() -> None:
    h = Host()
    h.data(5)
    before = h.now
    h.takes(1, (1 + MSS, 1 + 5 * MSS), after=10 * MS)
    h.sends(bytes(MSS), seq=1)
    h.takes(1 + 5 * MSS, echo=before)
    assert h.count("TcpExt.TCPFullUndo") == 1


def test_a_recovery_whose_repetitions_were_all_needless_is_taken_back() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + MSS, 1 + 4 * MSS), after=10 * MS)
    h.sends(bytes(MSS), seq=1)
    h.takes(1 + MSS, (1, 1 + MSS), (1 + MSS, 1 + 4 * MSS), after=MS)
    assert h.count("TcpExt.TCPDSACKRecv") == 1
    assert h.tx.f.undo_retrans == 0 or h.count("TcpExt.TCPDSACKUndo") == 1


def test_three_duplicates_do_without_sack() -> None:
    h = Host(sack=False)
    h.takes(1)  # its window is another than the SYN's: no duplicate
    h.data(5)
    h.at(10 * MS)
    for _ in range(3):
        h.takes(1)
    assert h.sends(bytes(MSS), seq=1) == "tcp_xmit_retransmit_queue"
    assert h.count("TcpExt.TCPRenoRecovery") == 1


def test_two_duplicates_do_not() -> None:
    h = Host(sack=False)
    h.takes(1)  # its window is another than the SYN's: no duplicate
    h.data(5)
    h.at(10 * MS)
    for _ in range(2):
        h.takes(1)
    assert h.refuses(bytes(MSS), seq=1).constraint == "retransmission-early"


# -- what a retransmission looks like


def test_a_retransmission_begins_where_a_segment_began() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + MSS, 1 + 5 * MSS), after=10 * MS)
    assert h.refuses(bytes(MSS), seq=1 + 100).constraint == "retransmission-boundary"


def test_a_super_segment_is_cut_at_a_segment_s_edge() -> None:
    h = Host()
    h.sends(bytes(4 * MSS))
    h.takes(1, (1 + 2 * MSS, 1 + 4 * MSS), after=10 * MS)
    assert h.sends(bytes(MSS), seq=1 + MSS) == "tcp_xmit_retransmit_queue"


def test_a_retransmission_carries_the_same_bytes() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + MSS, 1 + 5 * MSS), after=10 * MS)
    assert h.refuses(b"\1" * MSS, seq=1).constraint == "retransmission-content"


def test_a_damaged_frame_tells_nothing_of_the_bytes() -> None:
    h = Host()
    h.data(5)
    h.takes(1, (1 + MSS, 1 + 5 * MSS), after=10 * MS)
    assert h.sends(b"\1" * MSS, seq=1, bad=True) == "tcp_xmit_retransmit_queue"


def test_a_smaller_path_mtu_makes_smaller_pieces() -> None:
    h = Host()
    h.data(2)
    assert h.sends(bytes(1200), seq=1, after=5 * MS) == "tcp_xmit_retransmit_queue"
    assert h.sends(bytes(MSS - 1200), seq=1201) == "tcp_xmit_retransmit_queue"


# -- probes and acknowledgments


def test_a_closed_window_is_probed_with_an_old_number() -> None:
    h = Host()
    h.data(1)
    h.takes(1 + MSS, window=0)
    assert h.sends(seq=MSS, after=RTO) == "tcp_send_probe0"
    assert h.count("TcpExt.TCPWinProbe") == 1


def test_a_silent_connection_is_kept_alive() -> None:
    h = Host()
    assert h.sends(seq=0, after=2 * SECOND) == "tcp_keepalive_timer"
    assert h.count("TcpExt.TCPKeepAlive") == 1


@pytest.mark.parametrize(("window", "after"), [(0, 100 * MS), (502, 500 * MS)])
def test_neither_is_probed_at_once(window: int, after: int) -> None:
    h = Host()
    h.data(1)
    h.takes(1 + MSS, window=window)
    assert h.refuses(seq=MSS, after=after).constraint == "probe-cause"


def test_nothing_is_probed_while_data_are_out() -> None:
    h = Host()
    h.data(1)
    assert h.refuses(seq=0, after=SECOND // 2).constraint == "probe-cause"


def test_an_acknowledgment_has_the_next_number() -> None:
    h = Host()
    h.data(3)
    assert h.refuses(seq=1 + MSS).constraint == "empty-sequence"


def test_or_the_window_s_edge_if_that_shrank() -> None:
    h = Host()
    h.data(3)
    h.takes(1 + MSS, window=0)
    assert h.sends(seq=1 + MSS) == "tcp_send_ack"


def test_far_from_the_tap_a_closed_window_may_be_heard_of_late() -> None:
    """Source net/ipv4/tcp_output.c:tcp_acceptable_seq."""
    h = Host(near=False, exact=False)
    h.data(1)
    h.takes(1 + MSS, window=0)
    h.takes(1 + MSS, window=100)
    h.data(2)
    h.end.rx.latest, h.end.rx.known, h.end.rx.stale = h.end.last_sent, True, False
    h.end.rx.left_behind = lambda s, last: True
    assert h.refuses(b"", seq=1 + 2 * MSS, after=10 * MS).constraint == "empty-sequence"
    assert h.sends(b"", seq=1 + MSS, after=10 * MS) == "tcp_send_ack"


def test_what_nobody_else_knows_binds_every_tcp() -> None:
    assert {c.id for c in CONSTRAINTS if c.rfc} == {"data-after-fin", "beyond-window", "retransmission-content"}


def test_an_end_that_is_not_linux_times_its_retransmissions_as_it_likes() -> None:
    h = Host(linux=False)
    h.data(3)
    assert h.sends(bytes(MSS), seq=1) in ("tcp_xmit_retransmit_queue", "tcp_retransmit_timer")


def test_a_copy_goes_its_own_way() -> None:
    h = Host()
    h.data(3)
    copy = h.tx.copy()
    h.takes(1 + 3 * MSS)
    assert (copy.snd_una, h.tx.snd_una) == (1, 1 + 3 * MSS)
    assert (len(copy.f.board.q), len(h.tx.f.board.q)) == (3, 0)


def test_the_scoreboard_shrinks_with_what_is_acknowledged() -> None:
    h = Host()
    for k in range(50):
        h.data(10)
        h.takes(1 + (k + 1) * 10 * MSS)
    assert not h.tx.f.board.q
    assert h.tx.f.board.out == 0


def test_nothing_has_a_number_before_the_syn_s() -> None:
    assert Host(near=False, exact=False).refuses(b"x", seq=0xFFFF_0000).constraint == "retransmits-acknowledged"


def test_an_acknowledgment_does_not_lie_beyond_every_edge() -> None:
    h = Host(near=False, exact=False)
    h.takes(1)
    assert h.refuses(seq=1 << 20).constraint == "empty-sequence"
