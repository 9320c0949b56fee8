"""Handshakes, states, resets, TIME_WAIT: which function sent a frame, and which frame no Linux would have sent."""

from typing import Any

import pytest

from conformance.check.setup import Host, Setup
from conformance.check.verdict import Outcome, Verdict
from conformance.oracle.connection import Connection
from conformance.oracle.life import CONSTRAINTS
from refmodel.packet.segment import Segment
from tests.oracle.frames import ACK, CWR, ECE, FIN, PSH, RST, SYN, A, B, Tap, syn_options, ts

SECOND = 1_000_000
ISN, PEER = 1_000, 9_000


class Wire:
    """A connection between two Linux hosts; the tap is on `near`. Ids, TSvals and windows go on as sockets' do."""

    def __init__(
        self, near: str = "a", kernel: str = "6.12", timestamps: bool = True, crafted: str = "", **sysctls: int
    ) -> None:
        self.tap = Tap()
        told = {k.replace("__", "."): v for k, v in sysctls.items()}
        if not timestamps:
            told["net.ipv4.tcp_timestamps"] = 0
        mib = {"Tcp.InSegs": 1}
        hosts = (
            Host("a", linux="a" not in crafted, addresses=frozenset({A}), sysctls=told, mib=mib),
            Host("b", linux="b" not in crafted, addresses=frozenset({B}), sysctls=told, mib=mib),
        )
        self.setup = Setup(kernel=kernel, hosts=hosts, near=near, extra={"drops": {}})
        self.stamps = timestamps
        self.ids = [100, 500]
        self.frames: list[Segment] = []
        self.offset = (50_000, 700_000)

    def tsval(self, side: int, after: int) -> int:
        """The TSval of a frame that leaves `after` us behind the last."""
        return self.offset[side] + (self.tap.us + after) // 1000

    def sends(self, side: int, flags: int, seq: int, ack: int = 0, after: int = 20, **fields: Any) -> Segment:
        """Puts the next frame on the wire; RSTs without ACK have no options and no id, as SYN-ACKs have no id."""
        mine = self.tsval(side, after)
        if "options" not in fields and self.stamps:
            heard = max((s.tsval or 0 for s in self.frames if (s.saddr == A) != (side == 0)), default=0)
            if flags & SYN:
                fields["options"] = syn_options(mine, heard)
            elif flags & ACK:
                fields["options"] = ts(mine, heard)
        elif "options" not in fields and flags & SYN:
            fields["options"] = syn_options(None)
        if "ip_id" not in fields and flags & (SYN | ACK) != SYN | ACK and flags != RST:
            self.ids[side] += 1
            fields["ip_id"] = self.ids[side]
        if "window" not in fields:
            fields["window"] = (
                (64_240 if not flags & ACK else 65_160) if flags & SYN else 0 if flags == RST else (502, 510)[side]
            )
        s = self.tap.frame(side, flags, seq, ack, after=after, **fields)
        self.frames.append(s)
        return s

    def opens(self) -> "Wire":
        """The three segments of a handshake."""
        self.sends(0, SYN, ISN)
        self.sends(1, SYN | ACK, PEER, ISN + 1)
        self.sends(0, ACK, ISN + 1, PEER + 1)
        return self

    def verdict(self) -> Verdict:
        """What is said of the connection."""
        c = Connection(self.frames[0], self.setup)
        for s in self.frames:
            c.feed(s)
        return c.verdict(self.tap.us + 10)

    def labels(self) -> list[str]:
        """Which functions sent the frames; the connection must conform."""
        v = self.verdict()
        assert v.outcome is Outcome.CONFORMS, v.reason
        return [x.by for x in v.labels]

    def refused(self) -> str:
        """The constraint that a frame breaks."""
        v = self.verdict()
        assert v.divergence is not None, v.outcome
        return v.divergence.constraint


def known(constraint: str) -> str:
    """A constraint of this part, so that a test does not name one that is gone."""
    assert constraint in {c.id for c in CONSTRAINTS}
    return constraint


class TestActiveOpen:
    """connect()."""

    def test_three_segments(self) -> None:
        assert Wire().opens().labels() == ["tcp_connect", "tcp_conn_request", "tcp_rcv_synsent_state_process"]

    def test_the_ack_may_wait_for_the_delayed_ack_timer(self) -> None:
        w = Wire()
        w.sends(0, SYN, ISN)
        w.sends(1, SYN | ACK, PEER, ISN + 1)
        w.sends(0, ACK, ISN + 1, PEER + 1, after=204_000)
        assert w.labels()[-1] == "tcp_delack_timer_handler"

    @pytest.mark.parametrize(
        ("kernel", "waits"), [("6.12", (1, 1, 1, 1, 1, 2, 4)), ("6.1", (1, 2, 4, 8)), ("6.18", (1, 1, 1, 1, 1, 2))]
    )
    def test_a_syn_is_sent_again_at_its_timeouts(self, kernel: str, waits: tuple[int, ...]) -> None:
        w = Wire(kernel=kernel)
        w.sends(0, SYN, ISN)
        for n in waits:
            w.sends(0, SYN, ISN, after=n * SECOND + 8_000)
        assert w.labels() == ["tcp_connect"] + ["tcp_retransmit_timer"] * len(waits)

    def test_not_before(self) -> None:
        w = Wire()
        w.sends(0, SYN, ISN)
        w.sends(0, SYN, ISN, after=900_000)
        assert w.refused() == known("syn-timer")

    def test_nor_later_than_the_timer_wheel_allows(self) -> None:
        w = Wire()
        w.sends(0, SYN, ISN)
        w.sends(0, SYN, ISN, after=1_300_000)
        assert w.refused() == known("syn-timer")

    @pytest.mark.parametrize(
        "change",
        [{"seq": ISN + 1}, {"window": 62_780}, {"options": syn_options(51_999, sack=False)}],
    )
    def test_a_syn_stays_the_same(self, change: dict[str, Any]) -> None:
        w = Wire()
        w.sends(0, SYN, ISN)
        w.sends(0, SYN, **{"seq": ISN, **change}, after=1_008_000)
        v = w.verdict()
        if "seq" in change:  # another number is another connect()
            return
        assert v.divergence is not None
        assert v.divergence.constraint == known("syn-changes")

    def test_nothing_but_the_syn_before_the_answer(self) -> None:
        w = Wire()
        w.sends(0, SYN, ISN)
        w.sends(0, ACK, ISN + 1, PEER + 1)
        assert w.refused() == known("not-open")

    def test_a_refused_connection_ends(self) -> None:
        w = Wire()
        w.sends(0, SYN, ISN)
        w.sends(1, RST | ACK, 0, ISN + 1, options=b"", window=0, ip_id=0)
        assert w.labels() == ["tcp_connect", "tcp_v4_send_reset"]
        v = w.verdict()
        assert v.counters["a"]["Tcp.AttemptFails"] == (1, 1)
        assert v.counters["b"]["Tcp.OutRsts"][0] <= 1

    def test_a_syn_ack_that_came_is_acknowledged(self) -> None:
        w = Wire(crafted="b")
        w.sends(0, SYN, ISN)
        w.sends(1, SYN | ACK, PEER, ISN + 1)
        w.sends(1, ACK | PSH, PEER + 1, ISN + 1, payload=b"x", after=SECOND)
        w.sends(0, SYN, ISN, after=8_000)
        assert w.refused() in (known("handshake-ack-missing"), known("syn-when-open"))

    def test_a_sysctl_says_what_a_syn_offers(self) -> None:
        w = Wire(net__ipv4__tcp_sack=0)
        w.sends(0, SYN, ISN)
        assert w.refused() == known("syn-sysctls")

    def test_the_first_window_is_whole_segments(self) -> None:
        w = Wire()
        w.sends(0, SYN, ISN, window=64_000)
        assert w.refused() == known("syn-window")


class TestDoubledSynAck:
    """The tap is at the listener: a path that doubles its SYN-ACK shows in a challenge ACK of the far end."""

    def wire(self, drops: dict[str, int], acks: int) -> Wire:
        w = Wire(near="b")
        w.setup.extra["drops"] = drops
        w.sends(0, SYN, ISN)
        w.sends(1, SYN | ACK, PEER, ISN + 1)
        for _ in range(acks):
            w.sends(0, ACK, ISN + 1, PEER + 1, after=2_000)
        return w

    def test_is_answered(self) -> None:
        assert self.wire({"relay.back.duplicated": 3}, 2).labels()[-1] == "tcp_send_challenge_ack"

    def test_once(self) -> None:
        assert self.wire({"relay.back.duplicated": 3}, 3).refused() == "ack-without-cause"

    def test_not_where_nothing_was_doubled(self) -> None:
        assert self.wire({"relay.back.duplicated": 0}, 2).refused() == "ack-without-cause"


class TestPassiveOpen:
    """A listener's SYN-ACKs."""

    def test_a_repeated_syn_is_answered_at_once(self) -> None:
        w = Wire(near="b", crafted="a")
        w.sends(0, SYN, ISN)
        first = w.sends(1, SYN | ACK, PEER, ISN + 1)
        w.sends(0, SYN, ISN, after=800_000)
        w.sends(1, SYN | ACK, PEER, ISN + 1, options=syn_options(w.tsval(1, 20), first.tsecr or 0))
        assert w.labels()[-1] == "tcp_check_req"

    def test_a_syn_ack_is_sent_again_after_a_second(self) -> None:
        w = Wire(near="b")
        w.sends(0, SYN, ISN)
        first = w.sends(1, SYN | ACK, PEER, ISN + 1)
        again = {"options": syn_options(w.tsval(1, 1_008_000), first.tsecr or 0)}
        w.sends(1, SYN | ACK, PEER, ISN + 1, after=1_008_000, **again)
        v = w.verdict()
        assert [x.by for x in v.labels][-1] == "reqsk_timer_handler"
        assert v.counters["b"]["TcpExt.TCPSynRetrans"] == (1, 1)

    def test_not_before(self) -> None:
        w = Wire(near="b")
        w.sends(0, SYN, ISN)
        first = w.sends(1, SYN | ACK, PEER, ISN + 1)
        again = {"options": syn_options(w.tsval(1, 500_000), first.tsecr or 0)}
        w.sends(1, SYN | ACK, PEER, ISN + 1, after=500_000, **again)
        assert w.refused() == known("synack-timer")

    def test_it_stays_the_same(self) -> None:
        w = Wire(near="b")
        w.sends(0, SYN, ISN)
        first = w.sends(1, SYN | ACK, PEER, ISN + 1)
        again = {"options": syn_options(w.tsval(1, 1_008_000), first.tsecr or 0)}
        w.sends(1, SYN | ACK, PEER, ISN + 1, after=1_008_000, window=63_712, **again)
        assert w.refused() == known("synack-changes")

    @pytest.mark.parametrize("wrong", [{"ack": ISN + 2}, {"options": syn_options(9, 12_345)}])
    def test_it_answers_a_syn_that_came(self, wrong: dict[str, Any]) -> None:
        w = Wire(near="b")
        w.sends(0, SYN, ISN)
        w.sends(1, SYN | ACK, PEER, **{"ack": ISN + 1, **wrong})
        assert w.refused() == known("synack-answers-syn")

    def test_it_offers_only_what_was_offered(self) -> None:
        w = Wire(near="b")
        syn = w.sends(0, SYN, ISN, options=syn_options(1_000, ws=None))
        w.sends(1, SYN | ACK, PEER, ISN + 1, options=syn_options(77, syn.tsval or 0))
        v = w.verdict()
        assert v.divergence is not None
        assert v.divergence.constraint in ("synack-offers", "syn-sysctls")

    def test_ecn_only_if_it_was_asked_for(self) -> None:
        w = Wire(near="b")
        w.sends(0, SYN, ISN)
        w.sends(1, SYN | ACK | ECE, PEER, ISN + 1)
        assert w.refused() == known("synack-offers")
        w = Wire(near="b")
        w.sends(0, SYN | ECE | CWR, ISN)
        w.sends(1, SYN | ACK | ECE, PEER, ISN + 1)
        assert w.labels()[-1] == "tcp_conn_request"

    def test_no_syn_ack_of_an_open_connection(self) -> None:
        w = Wire(near="b").opens()
        w.sends(0, ACK | PSH, ISN + 1, PEER + 1, payload=b"x")
        w.sends(1, ACK, PEER + 1, ISN + 2)
        w.sends(1, SYN | ACK, PEER, ISN + 1, after=1_100_000)
        assert w.refused() == known("synack-when-open")

    def test_an_ack_that_found_no_room_is_not_taken(self) -> None:
        w = Wire(near="b").opens()
        first = w.frames[1]
        again = {"options": syn_options(w.tsval(1, 1_010_000), first.tsecr or 0)}
        w.sends(1, SYN | ACK, PEER, ISN + 1, after=1_010_000, **again)
        assert w.labels()[-1] == "reqsk_timer_handler"


class TestResets:
    """Every RST has a cause."""

    def test_a_segment_for_no_socket(self) -> None:
        w = Wire(near="b", crafted="a")
        w.sends(0, ACK, 5, 77)
        w.sends(1, RST, 77, ip_id=0)
        assert w.labels()[-1] == "tcp_v4_send_reset"

    def test_it_takes_its_number_from_the_segment(self) -> None:
        w = Wire(near="b")
        w.sends(0, SYN, ISN)
        w.sends(1, RST | ACK, 0, ISN + 2, options=b"", window=0, ip_id=0)
        assert w.refused() == known("reset-without-cause")

    def test_it_has_no_window(self) -> None:
        w = Wire(near="b").opens()
        w.sends(1, RST, PEER + 1, window=5)
        assert w.refused() == known("reset-form")

    def test_an_open_connection_answers_nothing_by_an_rst(self) -> None:
        w = Wire(near="b").opens()
        w.sends(1, ACK | PSH, PEER + 1, ISN + 1, payload=b"x")
        w.sends(0, ACK, ISN + 1, PEER + 2)
        w.sends(1, RST, PEER + 2)
        assert w.refused() == known("reset-without-cause")

    def test_an_application_resets_with_the_next_number(self) -> None:
        w = Wire().opens()
        w.sends(0, RST | ACK, ISN + 1, PEER + 1)
        assert w.labels()[-1] in ("tcp_close", "tcp_disconnect")
        w = Wire().opens()
        w.sends(0, RST | ACK, ISN + 9, PEER + 1)
        assert w.refused() == known("reset-numbers")

    def test_once(self) -> None:
        w = Wire().opens()
        w.sends(0, RST | ACK, ISN + 1, PEER + 1)
        w.sends(0, RST | ACK, ISN + 1, PEER + 1)
        assert w.refused() == known("reset-of-nothing")

    def test_after_an_rst_nothing_is_sent(self) -> None:
        w = Wire().opens()
        w.sends(0, RST | ACK, ISN + 1, PEER + 1)
        w.sends(0, ACK | PSH, ISN + 1, PEER + 1, payload=b"x")
        assert w.refused() == known("closed")

    def test_an_exact_rst_ends_the_connection(self) -> None:
        w = Wire().opens()
        w.sends(1, RST | ACK, PEER + 1, ISN + 1)
        w.sends(0, ACK | PSH, ISN + 1, PEER + 1, payload=b"x", after=2 * SECOND)
        assert w.refused() == known("closed")

    def test_an_rst_elsewhere_in_the_window_is_challenged(self) -> None:
        w = Wire(crafted="b").opens()
        w.sends(1, RST, PEER + 100, ip_id=0)
        w.sends(0, ACK, ISN + 1, PEER + 1)
        v = w.verdict()
        assert [x.by for x in v.labels][-1] == "tcp_send_challenge_ack"
        assert v.counters["a"]["TcpExt.TCPChallengeACK"] == (1, 1)

    def test_a_syn_in_a_connection_is_challenged(self) -> None:
        w = Wire(crafted="b").opens()
        w.sends(1, SYN, PEER + 100)
        w.sends(0, ACK, ISN + 1, PEER + 1)
        assert w.labels()[-1] == "tcp_send_challenge_ack"


class TestClose:
    """FINs and what is left behind them."""

    def closes(self, w: Wire) -> Wire:
        """A closes, then B, with every ACK."""
        w.opens()
        w.sends(0, ACK | FIN, ISN + 1, PEER + 1)
        w.sends(1, ACK, PEER + 1, ISN + 2, after=41_000)
        w.sends(1, ACK | FIN, PEER + 1, ISN + 2, after=300)
        return w

    def test_a_socket_that_was_closed_answers_from_time_wait(self) -> None:
        w = self.closes(Wire())
        w.sends(0, ACK, ISN + 2, PEER + 2, ip_id=0)
        assert w.labels()[3:] == ["tcp_send_fin", "tcp_delack_timer_handler", "tcp_send_fin", "tcp_v4_timewait_ack"]

    def test_a_socket_that_is_still_open_answers_itself(self) -> None:
        w = self.closes(Wire())
        w.sends(0, ACK, ISN + 2, PEER + 2)
        assert w.labels()[-1] == "tcp_fin"

    def test_time_wait_answers_a_repeated_fin(self) -> None:
        w = self.closes(Wire())
        w.sends(0, ACK, ISN + 2, PEER + 2, ip_id=0)
        w.sends(1, ACK | FIN, PEER + 1, ISN + 2, after=250_000)
        w.sends(0, ACK, ISN + 2, PEER + 2, ip_id=0)
        v = w.verdict()
        assert v.divergence is None or v.divergence.host == "b"
        assert w.frames[-1].number not in [v.divergence.frame if v.divergence else 0]

    def test_time_wait_sends_nothing_unasked(self) -> None:
        w = self.closes(Wire())
        w.sends(0, ACK, ISN + 2, PEER + 2, ip_id=0)
        w.sends(0, ACK, ISN + 2, PEER + 2, ip_id=0, after=400_000)
        assert w.refused() == known("time-wait-answers")

    def test_data_for_a_closed_socket_are_reset(self) -> None:
        w = Wire().opens()
        w.sends(0, ACK | FIN, ISN + 1, PEER + 1)
        w.sends(1, ACK, PEER + 1, ISN + 2)
        w.sends(1, ACK | PSH, PEER + 1, ISN + 2, payload=b"late", after=5_000)
        w.sends(0, RST, ISN + 2)
        assert w.labels()[-1] == "tcp_v4_send_reset"

    def test_the_last_ack_closes(self) -> None:
        w = Wire(near="b").opens()
        w.sends(0, ACK | FIN, ISN + 1, PEER + 1)
        w.sends(1, ACK | FIN, PEER + 1, ISN + 2, after=300)
        w.sends(0, ACK, ISN + 2, PEER + 2)
        w.sends(1, ACK | PSH, PEER + 2, ISN + 2, payload=b"x", after=2 * SECOND)
        v = w.verdict()
        assert v.divergence is not None
        assert v.divergence.frame == w.frames[-1].number


class TestAgain:
    """The four-tuple is used again."""

    def test_a_syn_in_time_wait_starts_a_new_connection(self) -> None:
        w = TestClose().closes(Wire(near="b"))
        w.sends(0, ACK, ISN + 2, PEER + 2, ip_id=0)
        c = Connection(w.frames[0], w.setup)
        for s in w.frames:
            c.feed(s)
        assert c.begins_anew(w.sends(1, SYN, PEER + 70_000, after=SECOND)) is True

    def test_a_syn_in_an_open_connection_does_not(self) -> None:
        w = Wire().opens()
        for n in range(4):
            w.sends(0, ACK | PSH, ISN + 1 + n, PEER + 1, payload=b"x")
            w.sends(1, ACK, PEER + 1, ISN + 2 + n)
        c = Connection(w.frames[0], w.setup)
        for s in w.frames:
            c.feed(s)
        assert c.begins_anew(w.sends(1, SYN, PEER + 70_000)) is False


class TestShed:
    """A queue of the tapped host loses frames before the tap: what closed a socket may not show."""

    def wire(self, lost: int) -> Wire:
        w = Wire(near="b")
        w.setup.extra["drops"] = {"b.qdisc": lost}
        w.opens()
        w.sends(1, PSH | ACK, PEER + 1, ISN + 1, payload=b"x")
        w.sends(0, ACK, ISN + 1, PEER + 2)
        w.sends(0, FIN | ACK, ISN + 1, PEER + 2, after=2_000_000)
        w.sends(1, RST, PEER + 2)
        return w

    def test_an_rst_may_be_of_no_socket(self) -> None:
        assert self.wire(3).labels()[-1] == "tcp_v4_send_reset"

    def test_not_where_nothing_was_lost(self) -> None:
        assert self.wire(0).refused() == "reset-without-cause"


def test_the_timestamp_of_a_repeated_syn_ack_came() -> None:
    """A far end echoes it in its ACK, which data of its own overtook."""
    w = Wire(near="b")
    w.setup.extra["drops"] = {"relay.there.passed": 9}
    w.sends(0, SYN, ISN)
    w.sends(1, SYN | ACK, PEER, ISN + 1)
    w.sends(1, SYN | ACK, PEER, ISN + 1, after=1_020_000)
    echoed = w.frames[-1].tsval or 0
    mine = w.tsval(0, 8_000)
    w.ids[0] += 1
    w.sends(0, PSH | ACK, ISN + 1, PEER + 1, after=8_000, payload=b"x", options=ts(mine, echoed))
    w.sends(1, ACK, PEER + 1, ISN + 2)
    w.sends(0, ACK, ISN + 1, PEER + 1, after=900, options=ts(mine, echoed), ip_id=w.ids[0] - 1)
    assert w.verdict().outcome is Outcome.CONFORMS


def test_a_path_that_falls_sends_at_once_what_is_too_large_for_it() -> None:
    """Source net/ipv4/tcp_input.c:tcp_simple_retransmit; a super-segment may stay in one."""
    told = Wire().opens()
    told.sends(0, PSH | ACK, ISN + 1, PEER + 1, payload=bytes(1_560))
    told.ids[0] += 1
    told.sends(0, PSH | ACK, ISN + 1, PEER + 1, payload=bytes(1_560))
    told.ids[0] += 1
    told.sends(1, ACK, PEER + 1, ISN + 1_561)
    assert told.refused() == "retransmission-early"
    c = Connection(told.frames[0], told.setup)
    for s in told.frames:
        if s is told.frames[-2]:
            c.path_falls((A, s.source), s.time // 1000 - 1, 1_300)
        c.feed(s)
    assert c.verdict(told.tap.us + 10).outcome is Outcome.CONFORMS


class TestUntold:
    """What no sidecar tells."""

    def wire(self) -> Wire:
        w = Wire(timestamps=False)
        w.setup = Setup(kernel="6.12")
        w.sends(0, SYN, ISN, options=syn_options())
        w.sends(1, SYN | ACK, PEER, ISN + 1, options=b"\x02\x04\x05\xb4", window=65_535)
        w.sends(0, ACK, ISN + 1, PEER + 1, window=64_240)
        return w

    def test_time_wait_may_have_outlived_an_rst(self) -> None:
        """net.ipv4.tcp_rfc1337; source tcp_minisocks.c:tcp_timewait_state_process."""
        w = self.wire()
        w.sends(0, FIN | ACK, ISN + 1, PEER + 1, window=64_240)
        w.sends(1, FIN | ACK, PEER + 1, ISN + 2, ip_id=0, window=65_535)
        w.sends(0, ACK, ISN + 2, PEER + 2, window=64_239)
        w.sends(1, RST, PEER + 2)
        w.sends(1, FIN | ACK, PEER + 1, ISN + 2, ip_id=0, window=65_535)
        w.sends(0, ACK, ISN + 2, PEER + 2, ip_id=0, window=64_239)
        assert w.labels()[-1] == "tcp_v4_timewait_ack"

    def test_an_ack_of_what_was_never_sent_is_challenged(self) -> None:
        """Of a stranger: RFC 9293 3.10.7.4."""
        w = self.wire()
        w.sends(1, PSH | ACK, PEER + 1, ISN + 1001, payload=b"0123456789", ip_id=0, window=65_535)
        w.sends(0, ACK, ISN + 1, PEER + 1, window=64_240)
        assert w.labels()[-1] == "tcp_send_challenge_ack"


def test_a_burst_that_nobody_answered_is_one_hypothesis() -> None:
    """Text that came and was not acknowledged in its time never arrived."""
    w = Wire(near="b")
    w.setup.extra["drops"] = {"b.ingress": 10}
    w.opens()
    w.sends(1, ACK | PSH, PEER + 1, ISN + 1, payload=b"x")
    w.sends(0, ACK, ISN + 1, PEER + 2)
    for k in range(10):
        w.sends(0, ACK | PSH, ISN + 1 + 100 * k, PEER + 2, payload=bytes(100))
    w.sends(0, ACK | PSH, ISN + 1, PEER + 2, after=900_000, payload=bytes(100))
    w.sends(1, ACK, PEER + 2, ISN + 101)
    v = w.verdict()
    assert v.outcome is Outcome.CONFORMS, v.reason
    assert sum("dropped" in x for x in v.events) == 1


def test_a_burst_that_was_dropped_is_one_hypothesis() -> None:
    """All inputs behind the last that the output shows were denied by its echo."""
    w = Wire()
    w.setup.extra["drops"] = {"a.ingress": 10}
    w.opens()
    for k in range(10):
        w.sends(0, ACK | PSH, ISN + 1 + 100 * k, PEER + 1, payload=bytes(100))
    echoed = w.frames[1].tsval or 0
    for k in range(10):
        w.sends(1, ACK, PEER + 1, ISN + 101 + 100 * k, after=1_100)
    again = ts(w.tsval(0, 300_000), echoed)
    w.sends(0, ACK | PSH, ISN + 1, PEER + 1, after=300_000, payload=bytes(100), options=again)
    v = w.verdict()
    assert v.outcome is Outcome.CONFORMS, v.reason
    assert sum("dropped" in x for x in v.events) == 1
