"""What programs that nobody scripted do to TCP: super-frames, piled-up acknowledgments, tail loss probes, far taps."""

import pytest

from bench.traffic import CLIENT, SERVER, TEXT, Side
from conformance.check.capture import check_frames
from conformance.check.options import ORACLE, RULES
from conformance.check.setup import Setup
from conformance.check.verdict import FileReport, Outcome, Verdict
from conformance.frames import Frame
from refmodel.packet import ACK, FIN, PSH, SYN

US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000
WINDOW = 64_256  # bytes that an end offers at first


class Talk:
    """A connection between `a` and `b` from its handshake on; `at` is ns since its first SYN."""

    engine = ORACLE

    def __init__(self) -> None:
        self.a = Side(CLIENT, 40000, 1000, 0x10000000, 100)
        self.b = Side(SERVER, 80, 5000, 0x20000000, 0)
        self.at = 0
        self.frames: list[Frame] = []
        self.send(self.a, SYN)
        self.send(self.b, SYN | ACK)
        self.b.ip_id = 7000
        self.send(self.a, ACK)

    def send(self, who: Side, flags: int, n: int = 0, after: int = 20 * US) -> None:
        """A segment of `who`, `after` ns behind the last one; of a super-frame the tap keeps the beginning."""
        self.at += after
        _, data = who.send(self.b if who is self.a else self.a, self.at, flags, n)
        if n:
            who.ip_id += -(-n // 1448) - 1  # a super-frame takes as many ids as it has segments
        length = len(data) + max(n - len(TEXT), 0)
        self.frames.append(Frame(len(self.frames) + 1, 1_700_000_000 * SECOND + self.at, 1, 0, data, length))

    def verdict(self) -> Verdict:
        """What is said of the connection without a sidecar."""
        report = FileReport("capture")
        check_frames(self.frames, Setup(kernel="6.18"), report, engine=self.engine)
        (found,) = [v for v in report.verdicts if v.layer == "tcp"]
        return found


@pytest.fixture(params=[ORACLE, RULES], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both engines judge each talk."""
    monkeypatch.setattr(Talk, "engine", request.param)
    return str(request.param)


def again(t: Talk, who: Side, n: int, after: int) -> None:
    """`who` sends the last `n` bytes of its stream again."""
    who.seq -= n
    t.send(who, ACK | PSH, n, after)


def test_a_super_frame_is_one_segment_and_may_be_acknowledged_in_parts() -> None:
    t = Talk()
    for n in (1400, 1448 * 8, 1448 * 30):
        t.send(t.a, ACK | PSH, n)
        t.send(t.b, ACK)
    start = t.a.seq
    t.send(t.a, ACK | PSH, 1448 * 10)
    t.send(t.a, ACK | PSH, 1448 * 10)
    t.a.seq, t.b.seen, end = start, start + 1448 * 10, t.b.seen
    t.send(t.b, ACK)
    t.b.seen, t.a.seq = end, end
    t.send(t.b, ACK)
    assert t.verdict().outcome is Outcome.CONFORMS


def test_an_acknowledgment_of_data_that_was_never_sent_diverges() -> None:
    t = Talk()
    t.send(t.a, ACK | PSH, 1448 * 10)
    t.b.seen += 1
    t.send(t.b, ACK)
    assert t.verdict().outcome is Outcome.DIVERGES


def test_hundreds_of_acknowledgments_may_pile_up_before_one_shows_in_a_timestamp() -> None:
    t = Talk()
    t.send(t.a, ACK | PSH, 100)
    t.send(t.b, ACK)
    for _ in range(300):
        t.send(t.a, ACK | PSH, 100, US)
        echo = t.a.ts_recent
        t.send(t.b, ACK, 0, US)
        t.a.ts_recent = echo
    t.send(t.b, ACK | PSH, 10, MS)
    t.send(t.a, ACK | PSH, 100)
    t.send(t.b, ACK)
    assert t.verdict().outcome is Outcome.CONFORMS


def test_a_tail_loss_probe_is_loss_recovery_and_counted(engine: str) -> None:
    t = Talk()
    t.send(t.a, ACK | PSH, 500)
    again(t, t.a, 500, (5 if engine == RULES else 206) * MS)
    t.send(t.b, ACK, 0, 30 * US)
    v = t.verdict()
    if engine == RULES:
        assert v.outcome is Outcome.NOT_MODELLED
        assert v.unmodelled == {"loss recovery": 1}
    else:
        assert v.outcome is Outcome.CONFORMS
        assert [x.by for x in v.labels if x.number == 5] == ["tcp_send_loss_probe"]


def test_a_lone_segment_is_probed_no_sooner_than_the_least_timeout_behind_it() -> None:
    t = Talk()
    t.engine = ORACLE
    t.send(t.a, ACK | PSH, 500)
    again(t, t.a, 500, 5 * MS)
    t.send(t.b, ACK, 0, 30 * US)
    assert t.verdict().outcome is Outcome.DIVERGES


def test_nothing_is_sent_again_within_a_millisecond() -> None:
    t = Talk()
    t.send(t.a, ACK | PSH, 500)
    again(t, t.a, 500, MS)
    t.send(t.b, ACK)
    v = t.verdict()
    assert v.outcome is Outcome.DIVERGES
    assert v.divergence is not None
    assert v.divergence.frame == 5


def test_a_reader_that_reads_by_parts_opens_its_window_more_than_once() -> None:
    t = Talk()
    t.send(t.a, ACK | PSH, WINDOW - 256)
    t.b.window = 2
    t.send(t.b, ACK)
    for window in (100, 300, 700):
        t.b.window = window
        t.send(t.b, ACK)
    assert t.verdict().outcome is Outcome.CONFORMS


def test_a_window_does_not_open_for_less_than_twice_what_it_was() -> None:
    t = Talk()
    t.send(t.a, ACK | PSH, 30_000)
    t.b.window = 300
    t.send(t.b, ACK)
    t.b.window = 400
    t.send(t.b, ACK)
    assert t.verdict().outcome is Outcome.DIVERGES


@pytest.mark.parametrize(("later", "expected"), [(-1, Outcome.INCONCLUSIVE), (1, Outcome.DIVERGES)])
def test_an_older_acknowledgment_behind_a_newer_one_is_the_taps_doing_only_if_its_id_says_so(
    later: int, expected: Outcome, engine: str
) -> None:
    t = Talk()
    for _ in range(3):
        t.send(t.a, ACK | PSH, 1448 * 2, US)
    newest = t.b.seen
    t.b.ip_id += 1
    t.send(t.b, ACK)
    newer, t.b.seen = t.b.ip_id - 1, newest - 1448 * 2
    t.b.ip_id = newer + later
    t.send(t.b, ACK, 0, US)
    said = t.verdict().outcome
    assert said is (Outcome.CONFORMS if engine == ORACLE and later < 0 else expected)


def test_a_syn_cookies_connection_keeps_the_options_of_the_syn_though_its_first_ack_was_dropped(
    engine: str,
) -> None:
    t = Talk()
    t.send(t.a, ACK | PSH, 81, MS)
    again(t, t.a, 81, 205 * MS)
    t.send(t.b, ACK)  # a window below the SYN-ACK's: made anew from the cookie
    t.send(t.b, ACK | PSH | FIN, 3000, 5 * MS)
    t.send(t.a, ACK)
    v = t.verdict()
    assert v.outcome is Outcome.CONFORMS
    assert engine == ORACLE or any("an ACK of our SYN cookie" in x for x in v.events)


@pytest.mark.parametrize("flags", [PSH, PSH | ACK])
def test_what_no_state_of_a_socket_sends_is_told_without_a_search(flags: int) -> None:
    t = Talk()
    t.send(t.a, ACK | PSH, 500)
    t.send(t.b, flags)
    v = t.verdict()
    assert v.outcome is Outcome.DIVERGES
    assert v.divergence is not None
    assert not v.divergence.near
