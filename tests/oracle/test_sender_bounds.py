"""What bounds a sender: times of timers, the ends of retransmissions, numbers between consecutive ids."""

import pytest
from msgspec.structs import replace

from conformance.check import setup
from conformance.oracle.end import Excuse
from refmodel.packet.transport import FIN
from refmodel.tcp.state import St
from tests.oracle.frames import ACK, PSH, RST, SYN, syn_options, ts
from tests.oracle.sender_host import MS, MSS, SECOND, Host
from tests.oracle.test_evidence import TO_A, Talk
from tests.oracle.test_life import ISN, PEER, Wire

RTO = 210 * MS  # srtt 10 ms and 200 ms
QUIET = setup.Host("a", mib={"Tcp.InSegs": 1})


# -- the retransmission timer


def test_behind_a_tail_s_probe_the_time_out_runs_in_full() -> None:
    h = Host()
    h.data(5)
    assert h.sends(bytes(MSS), seq=1 + 4 * MSS, after=28 * MS) == "tcp_send_loss_probe"
    assert h.refuses(bytes(MSS), seq=1, after=RTO - 28 * MS).constraint == "retransmission-early"


def test_and_then_sends_the_head() -> None:
    h = Host()
    h.data(5)
    h.sends(bytes(MSS), seq=1 + 4 * MSS, after=28 * MS)
    assert h.sends(bytes(MSS), seq=1, after=RTO + 4 * MS) == "tcp_retransmit_timer"


def test_a_time_out_that_doubled_does_not_become_linear_again() -> None:
    h = Host(told={"net.ipv4.tcp_early_retrans": 0})
    h.data(1)
    for n in (1, 2):
        h.sends(bytes(MSS), seq=1, after=n * 212 * MS)
    assert h.refuses(bytes(MSS), seq=1, after=212 * MS).constraint == "retransmission-early"


@pytest.mark.parametrize(("segments", "state"), [(4, St.ESTABLISHED), (1, St.FIN_WAIT1)])
def test_time_outs_of_one_length_are_a_thin_established_stream_s(segments: int, state: St) -> None:
    h = Host(told={"net.ipv4.tcp_early_retrans": 0})
    h.data(segments)
    h.end.state = state
    h.sends(bytes(MSS), seq=1, after=212 * MS)
    assert h.refuses(bytes(MSS), seq=1, after=212 * MS).constraint == "retransmission-early"


def test_a_recorded_host_s_timers_are_early_by_its_own_jiffy_at_most() -> None:
    h = Host(hz=1000)
    h.data(5)
    assert h.refuses(bytes(MSS), seq=1 + 4 * MSS, after=14 * MS).constraint == "retransmission-early"


def _unanswered(opened: int) -> Wire:
    """A server near the tap that opened after `opened` us, and whose data nobody acknowledges for 2 s."""
    w = Wire(near="b")
    w.sends(0, SYN, ISN)
    w.sends(1, SYN | ACK, PEER, ISN + 1)
    w.sends(0, ACK, ISN + 1, PEER + 1, after=opened)
    w.sends(1, ACK | PSH, PEER + 1, ISN + 1, payload=b"x")
    w.sends(1, ACK | PSH, PEER + 2, ISN + 1, payload=b"y", after=2 * SECOND)
    return w


def test_a_server_that_opened_at_once_repeats_what_is_not_acknowledged() -> None:
    assert _unanswered(1 * MS).refused() == "retransmission-overdue"


def test_its_first_sample_is_as_long_as_the_handshake_took() -> None:
    assert _unanswered(700 * MS).labels()[-1] == "tcp_write_xmit"


# -- the ends of retransmissions


@pytest.mark.parametrize(("short", "what"), [(1, "retransmission-boundary"), (0, "")])
def test_a_retransmission_ends_where_the_segment_did(short: int, what: str) -> None:
    h = Host(host=QUIET)
    h.data(4)
    h.takes(1, (1 + MSS, 1 + 4 * MSS))
    if what:
        assert h.refuses(bytes(MSS - short), seq=1, after=5 * MS).constraint == what
    else:
        assert h.sends(bytes(MSS - short), seq=1, after=5 * MS) == "tcp_xmit_retransmit_queue"


def test_unless_an_icmp_message_told_of_a_smaller_mtu() -> None:
    h = Host(host=setup.Host("a", mib={"Icmp.InDestUnreachs": 1}))
    h.data(4)
    h.takes(1, (1 + MSS, 1 + 4 * MSS))
    assert h.sends(bytes(MSS - 1), seq=1, after=5 * MS) == "tcp_xmit_retransmit_queue"


def test_no_fin_stands_within_what_was_sent() -> None:
    h = Host()
    h.data(2)
    assert h.refuses(bytes(MSS), seq=1, flags=ACK | FIN, after=RTO).constraint == "data-after-fin"


# -- a far end


def _far() -> Wire:
    """A connection tapped at A: A's data, and B's acknowledgment of them, which has the next number."""
    w = Wire().opens()
    w.sends(0, ACK | PSH, ISN + 1, PEER + 1, payload=bytes(100))
    w.sends(1, ACK, PEER + 1, ISN + 101)
    return w


def test_an_empty_segment_one_number_back_is_no_probe_where_it_answers_what_just_came() -> None:
    w = _far()
    w.sends(0, ACK | PSH, ISN + 101, PEER + 1, payload=bytes(100))
    w.sends(1, ACK, PEER, ISN + 201)
    assert w.refused() == "probe-cause"


def test_it_is_one_behind_a_silence() -> None:
    w = _far()
    w.sends(1, ACK, PEER, ISN + 101, after=2 * SECOND)
    assert w.labels()[-1] == "tcp_keepalive_timer"


def test_between_consecutive_ids_no_data_are_missing_behind_an_empty_segment() -> None:
    w = _far()
    w.sends(1, ACK | PSH, PEER + 2, ISN + 101, payload=b"x")
    assert w.refused() == "sequence-gap"


def test_nor_does_a_segment_hold_old_data_and_new() -> None:
    w = _far()
    w.sends(1, ACK | PSH, PEER + 1, ISN + 101, payload=b"xy")
    w.sends(1, ACK | PSH, PEER + 2, ISN + 101, payload=b"yz")
    assert w.refused() == "overlaps-new"


def test_new_data_did_not_leave_before_what_lies_below_them() -> None:
    w = _far()
    last = w.ids[1]
    w.sends(1, ACK | PSH, PEER + 1, ISN + 101, payload=b"x", ip_id=last + 2)
    w.sends(1, ACK | PSH, PEER + 2, ISN + 101, payload=b"y", ip_id=last + 1)
    assert w.refused() == "ip-id-back"


# -- handshakes and resets


def test_a_syn_has_the_same_mss_where_no_icmp_message_came() -> None:
    w = Wire()
    w.sends(0, SYN, ISN)
    w.sends(0, SYN, ISN, after=1_008_000, options=syn_options(w.tsval(0, 1_008_000), mss=1400))
    assert w.refused() == "syn-changes"


def test_a_request_s_syn_ack_is_sent_again_while_nobody_answers() -> None:
    w = Wire(near="b")
    w.sends(0, SYN, ISN)
    w.sends(1, SYN | ACK, PEER, ISN + 1)
    w.sends(0, ACK | PSH, ISN + 1, PEER + 1, payload=b"x", after=3 * SECOND)
    w.sends(1, ACK, PEER + 1, ISN + 2)
    assert w.refused() == "synack-timer"


def _crossed(after: int) -> Wire:
    """SYNs cross, and A's SYN-ACK goes again `after` us behind the first."""
    w = Wire(crafted="b")
    w.sends(0, SYN, ISN)
    w.sends(1, SYN, PEER, after=40 * MS)
    for wait in (20, after):
        w.sends(0, SYN | ACK, ISN, PEER + 1, after=wait, window=64_240, ip_id=w.ids[0] + 1)
        w.ids[0] += 1
    return w


def test_where_syns_crossed_the_syn_ack_goes_again_at_the_syn_s_time_out() -> None:
    assert _crossed(964 * MS).labels()[-1] == "tcp_retransmit_timer"


def test_and_not_at_once() -> None:
    assert _crossed(20).refused() == "syn-timer"


def test_a_syn_ack_that_was_acknowledged_is_not_answered_by_an_rst_too() -> None:
    w = Wire(crafted="b").opens()
    w.sends(0, ACK | PSH, ISN + 1, PEER + 1, payload=b"x")
    w.sends(1, RST | ACK, PEER + 1, ISN + 2)
    w.sends(0, RST, ISN + 1, window=0)
    assert w.refused() == "reset-without-cause"


@pytest.mark.parametrize(("after", "fits"), [(1 * MS, True), (3 * SECOND, False)])
def test_an_rst_answers_at_once(after: int, fits: bool) -> None:
    w = Wire()
    w.sends(0, SYN, ISN)
    w.sends(1, RST | ACK, 0, ISN + 1, after=after, window=0, options=b"", ip_id=0)
    v = w.verdict()
    assert (v.divergence is None) is fits


# -- evidence


@pytest.mark.parametrize(("length", "there"), [(1, True), (100, False)])
def test_what_goes_further_than_what_was_sent_does_not_fill_a_hole(length: int, there: bool) -> None:
    t = Talk()
    t.data(1)
    t.ack(101)
    x = t.add(t.tap.frame(0, ACK, 102, 1))
    t.add(t.tap.frame(0, ACK | PSH, 101, 1, payload=bytes(length)))
    assert t.shown().credible(Excuse("unseen", x.number, ""), TO_A) is there


# -- the short way and what waits


def test_the_same_data_twice_at_once_are_refused_by_the_next_usual_frame_too() -> None:
    w = _far()
    w.setup = replace(w.setup, hosts=tuple(replace(h, mib={"Icmp.InDestUnreachs": 1}) for h in w.setup.hosts))
    for _ in range(2):
        w.sends(1, ACK, PEER + 1, ISN + 101, payload=bytes(MSS), options=ts(w.tsval(1, 0), w.tsval(0, 0)))
    w.sends(1, ACK, PEER + 1 + MSS, ISN + 101, payload=bytes(MSS))
    assert w.refused() == "retransmission-early"


def test_no_number_inside_a_segment_that_left_whole_was_the_next() -> None:
    h = Host(exact=False)
    h.data(2)
    assert h.refuses(seq=1 + MSS // 2).constraint == "empty-sequence"


def test_a_challenge_is_answered_at_once_or_never() -> None:
    w = Wire().opens()
    w.sends(1, SYN | ACK, PEER, ISN + 1, after=1_010_000)
    w.sends(0, ACK, ISN + 1, PEER + 1, after=2 * SECOND)
    assert w.verdict().divergence is not None


def test_from_mid_connection_on_an_echo_tells_what_was_acknowledged() -> None:
    w = Wire(near="a")
    for n in range(2):
        w.sends(0, ACK, ISN, PEER + 100 * n, after=2 * MS)
        w.sends(1, ACK | PSH, PEER + 100 * n, ISN, payload=bytes(100), after=2 * MS)
    w.sends(1, ACK | PSH, PEER, ISN, payload=bytes(100), after=2 * MS)
    assert w.refused() == "retransmits-acknowledged"
