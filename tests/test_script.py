"""Counterexamples as scripts: what one machine did and met, as packetdrill would have it."""

from functools import cache

import pytest

from conformance.pkt.ast import Packet
from conformance.pkt.parser import parse
from conformance.script import NotAScript, to_pkt
from refmodel.engine.explore import explore
from refmodel.engine.runs import Run
from refmodel.tcp.systems import any_peer, two_kernels, two_tcps

SETUP = [
    "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
    "+0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0",
]
CONNECTS = [
    "+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0",
    "+0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)",
    "+0 > S 0:0(0) <...>",
    "+.01 < S. 0:0(0) ack 1 win 4096 <mss 1460>",
    "+0 > . 1:1(0) ack 1",
]
LISTENS = [
    "+0 bind(3, ..., ...) = 0",
    "+0 listen(3, 1) = 0",
    "+.01 < S 0:0(0) win 4096 <mss 1460>",
    "+0 > S. 0:0(0) ack 1 <...>",
]


@cache
def run_to(broken: str) -> Run:
    """The shortest run of two TCPs after which `broken` is false."""
    return explore(two_tcps(), always=[broken]).findings[0].run


def script(broken: str, part: str) -> list[str]:
    text = to_pkt(run_to(broken), part)
    parse(text)
    return [line for line in text.splitlines() if not line.startswith("//")]


def test_an_active_side_connects_without_waiting() -> None:
    assert script("b.type != 'Tw'", "a") == [
        *SETUP,
        *CONNECTS,
        "+.01 < F. 1:1(0) ack 1 win 4096",
        "* > . 1:1(0) ack 2",
    ]


def test_a_passive_side_listens_and_accepts_when_it_first_uses_the_connection() -> None:
    assert script("b.type != 'Tw'", "b") == [
        *SETUP,
        *LISTENS,
        "+.01 < . 1:1(0) ack 1 win 4096",
        "+0 accept(3, ..., ...) = 4",
        "+0 close(4) = 0",
        "+0 > F. 1:1(0) ack 1",
        "+.01 < . 1:1(0) ack 2 win 4096",
    ]


def test_a_retransmission_may_come_at_any_time_and_data_is_pushed() -> None:
    lines = script("a.type != 'Sock' or a.icsk_retransmits == 0 or a.state != ESTABLISHED", "a")
    assert lines[-3:] == ["+0 send(3, ..., 1, 0) = 1", "+0 > P. 1:2(1) ack 1", "* > P. 1:2(1) ack 1"]


def test_an_orphan_answers_data_by_a_reset() -> None:
    lines = script("b.type != 'Sock' or b.state != CLOSE or b.err == 0", "b")
    assert lines[-3:] == ["+0 close(4) = 0", "+.01 < . 1:2(1) ack 1 win 4096", "+0 > R 1:1(0)"]


def test_what_a_script_cannot_hold_back_is_said() -> None:
    text = to_pkt(run_to("a.type != 'Sock' or a.state != CLOSING"), "a")
    after = text.splitlines()[text.splitlines().index("+0 close(3) = 0") + 1]
    assert after.startswith("// in the run what is queued waits here")


def test_numbers_are_relative_across_the_wrap() -> None:
    broken = "a.type != 'Sock' or a.state != FIN_WAIT2 or a.copied_seq == a.rcv_nxt"
    packets = [e.action for e in parse(to_pkt(run_to(broken), "a")).events if isinstance(e.action, Packet)]
    assert len(packets) > 4


def test_a_difference_drives_either_kernel() -> None:
    (finding,) = explore(two_kernels("6.1", "6.18")).findings
    text = to_pkt(finding.run, "a")
    assert text.count("* > S 0:0(0) <...>") == 6
    assert "6.1 (tcp.timers.write_timer_expired)" in text.splitlines()[0]
    parse(text)


def test_a_listener_and_any_peer() -> None:
    broken = "a.type != 'Sock' or a.state != CLOSE_WAIT"
    (finding,) = explore(any_peer(listens=True), always=[broken]).findings
    lines = to_pkt(finding.run, "a").splitlines()
    assert lines[2:8] == [*SETUP, *LISTENS]
    assert lines[-1] == "* > . 1:1(0) ack 2"


def test_a_part_that_the_run_does_not_have_is_refused() -> None:
    with pytest.raises(NotAScript, match="no part 'c' in the run; there are a, b"):
        to_pkt(run_to("b.type != 'Tw'"), "c")
