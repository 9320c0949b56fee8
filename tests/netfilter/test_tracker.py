"""The TCP tracker: handshakes, closes, windows, resets, and what Linux takes from the middle."""

import pytest
from msgspec.structs import replace

from refmodel.netfilter.params import SECOND, TcpCtParams
from refmodel.netfilter.proto import rule_of
from refmodel.netfilter.tcp_state import Ct, CtTcp, Idx, Invalid, Kill, Let, Refresh, Reopen, Segment
from tests.netfilter.middle import run

P = TcpCtParams()
BIT = {"S": Idx.SYN, "SA": Idx.SYNACK, "A": Idx.ACK, "F": Idx.FIN, "R": Idx.RST, "RA": Idx.RST}


class Tracker:
    """A connection; `do` gives the effect, `at` is the state."""

    def __init__(self, p: TcpCtParams = P) -> None:
        self.s = CtTcp()
        self.p = p

    @property
    def at(self) -> Ct:
        return self.s.state

    def do(self, side: str, flags: str, seq: int, ack: int = 0, n: int = 0, win: int = 1000, **more):  # type: ignore[no-untyped-def]
        index = BIT[flags]
        end = seq + n + (index in (Idx.SYN, Idx.SYNACK, Idx.FIN)) & 0xFFFFFFFF
        e = Segment(index=index, reply=side == "b", ack=flags not in ("S", "R"), seq=seq, end=end, ack_seq=ack,
                    sack=more.pop("sack", ack), win=win, **more)  # fmt: skip
        self.s, effects = rule_of(self.s, e, self.p)(self.s, e, self.p)
        return effects[0]

    def open(self) -> "Tracker":
        self.do("a", "S", 100)
        self.do("b", "SA", 500, 101)
        self.do("a", "A", 101, 501)
        return self


def test_handshake_makes_it_established_and_assured() -> None:
    t = Tracker()
    assert t.do("a", "S", 100).timeout == 120 * SECOND
    assert t.at == Ct.SYN_SENT
    t.do("b", "SA", 500, 101)
    assert (t.at, t.s.assured) == (Ct.SYN_RECV, False)
    assert t.do("a", "A", 101, 501).timeout == 432_000 * SECOND
    assert (t.at, t.s.assured) == (Ct.ESTABLISHED, True)


@pytest.mark.parametrize(
    ("flags", "states"),
    [
        ([("a", "F", 101, 501), ("b", "A", 501, 102), ("b", "F", 501, 102), ("a", "A", 102, 502)],
         [Ct.FIN_WAIT, Ct.CLOSE_WAIT, Ct.LAST_ACK, Ct.TIME_WAIT]),
        ([("a", "F", 101, 501), ("b", "F", 501, 101), ("a", "A", 102, 502), ("b", "A", 502, 102)],
         [Ct.FIN_WAIT, Ct.LAST_ACK, Ct.TIME_WAIT, Ct.TIME_WAIT]),
        ([("b", "RA", 501, 101)], [Ct.CLOSE]),
    ],
)  # fmt: skip
def test_close_in_order(flags: list[tuple[str, str, int, int]], states: list[Ct]) -> None:
    t = Tracker().open()
    seen = []
    for x in flags:
        t.do(*x)
        seen.append(t.at)
    assert seen == states


def test_syns_that_cross_meet_in_established() -> None:
    t = Tracker()
    t.do("a", "S", 100)
    t.do("b", "S", 500)
    assert t.at == Ct.SYN_SENT2
    t.do("a", "SA", 100, 501)
    t.do("b", "A", 501, 101)
    assert t.at == Ct.ESTABLISHED


def test_window_is_what_the_other_end_offered() -> None:
    t = Tracker().open()
    assert isinstance(t.do("a", "A", 101, 501, n=1000), Refresh)
    assert isinstance(t.do("a", "A", 1101, 501, n=1), Refresh)
    assert isinstance(t.do("a", "A", 2500, 501, n=1), Invalid)
    assert isinstance(t.do("b", "A", 501, 9000), Invalid)
    assert isinstance(t.do("b", "A", 501, 1102), Refresh)


def test_segment_little_beyond_the_window_is_let_through_and_its_acknowledgement_taken() -> None:
    t = Tracker().open()
    t.do("a", "A", 101, 501, n=1000)
    assert isinstance(t.do("a", "A", 1102, 501, n=100), Let)
    assert isinstance(t.do("b", "A", 501, 1202), Refresh)


def test_scaled_windows_need_both_ends() -> None:
    for both, said in ((True, Refresh), (False, Invalid)):
        t = Tracker()
        t.do("a", "S", 100, options=True, window_scale=True, scale=7)
        t.do("b", "SA", 500, 101, options=True, window_scale=both, scale=7 if both else 0)
        t.do("a", "A", 101, 501)
        t.do("b", "A", 501, 101)
        assert isinstance(t.do("a", "A", 100_000, 501, n=10), said)


def test_liberal_tracker_lets_all_through() -> None:
    t = Tracker(replace(P, tcp_be_liberal=True)).open()
    assert isinstance(t.do("a", "A", 1 << 30, 501, n=1), Refresh)


def test_connection_is_picked_up_in_its_middle_unless_tcp_loose_is_off() -> None:
    t = Tracker()
    assert t.do("a", "A", 7000, 9000, n=10).timeout == 300 * SECOND
    assert t.at == Ct.ESTABLISHED
    t.do("b", "A", 9000, 7010)
    assert not t.s.assured
    t.do("a", "A", 7010, 9000)
    assert t.s.assured
    assert isinstance(Tracker(replace(P, tcp_loose=False)).do("a", "A", 7000, 9000), Invalid)


def test_reset_before_any_answer_ends_the_entry() -> None:
    t = Tracker()
    t.do("a", "S", 100)
    assert isinstance(t.do("b", "RA", 0, 101), Kill)


@pytest.mark.parametrize(
    ("seq", "state", "said"),
    [(501, Ct.CLOSE, Refresh), (600, Ct.ESTABLISHED, Refresh), (400, Ct.ESTABLISHED, Invalid)],
)
def test_reset_closes_where_its_number_is_exact(seq: int, state: Ct, said: type) -> None:
    t = Tracker().open()
    assert isinstance(t.do("b", "RA", seq, 101), said)
    assert t.at == state


@pytest.mark.parametrize(("kernel", "left"), [(601, 10), (612, 300), (618, 10)])
def test_reset_that_is_not_exact_shortens_the_entry(kernel: int, left: int) -> None:
    t = Tracker(replace(P, kernel=kernel)).open()
    assert t.do("b", "RA", 600, 101).timeout == left * SECOND


def test_retransmitted_ack_counts_and_shortens_the_entry() -> None:
    t = Tracker().open()
    t.do("a", "A", 101, 501, n=10)
    t.do("b", "A", 501, 111)
    assert [t.do("b", "A", 501, 111).timeout // SECOND for _ in range(3)] == [432_000, 432_000, 300]


def test_syn_in_a_connection_is_let_through_and_its_answer_brings_it_into_step() -> None:
    t = Tracker().open()
    assert isinstance(t.do("a", "S", 70_000), Let)
    assert t.at == Ct.ESTABLISHED
    t.do("b", "SA", 90_000, 70_001)
    assert t.at == Ct.SYN_RECV
    t.do("a", "A", 70_001, 90_001)
    assert (t.at, t.s.orig.td_end) == (Ct.ESTABLISHED, 70_001)


def test_challenge_ack_in_last_ack_is_not_the_last_ack() -> None:
    t = Tracker().open()
    t.do("a", "F", 101, 501)
    t.do("b", "F", 501, 102)
    assert t.at == Ct.LAST_ACK
    t.do("a", "S", 70_000)
    assert isinstance(t.do("b", "A", 502, 102), Let)
    assert t.at == Ct.LAST_ACK
    t.do("b", "A", 502, 102)
    assert t.at == Ct.TIME_WAIT


def test_syn_after_the_close_begins_a_new_entry() -> None:
    t = Tracker().open()
    for x in (("a", "F", 101, 501), ("b", "F", 501, 102), ("a", "A", 102, 502)):
        t.do(*x)
    assert isinstance(t.do("a", "S", 90_000), Reopen)


def test_second_fin_out_of_window_ages_an_assured_entry() -> None:
    t = Tracker().open()
    assert isinstance(t.do("a", "F", 90_000, 501), Invalid)
    said = t.do("b", "F", 90_000, 101, expires=432_000 * SECOND)
    assert said.lowered


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("loss", "spread", "copies"), [(0, 0, 0), (0.08, 0, 0.05), (0.05, 20_000, 0.1), (0.2, 300_000, 0.2)]
)
def test_tracker_calls_nothing_invalid_of_two_whole_tcps(seed: int, loss: float, spread: int, copies: float) -> None:
    pair = run(100 + seed, loss, spread, copies)
    assert pair.invalid == []
    assert len(pair.judged) > 10


def test_tracker_that_misses_segments_calls_their_acknowledgement_invalid() -> None:
    """The counterexample: it needs only one segment that takes another way."""
    t = Tracker().open()
    assert isinstance(t.do("b", "A", 501, 101 + 500), Invalid)
