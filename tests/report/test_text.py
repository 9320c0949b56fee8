"""Verdicts as text."""

from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console

import refmodel.layers  # noqa: F401
from conformance.check.verdict import FrameLabel
from conformance.report.text import as_text, print_file
from tests.report.samples import BAD, CONFORMING, DIVERGING


def printed(verbose: bool, terminal: bool = False) -> str:
    text = StringIO()
    print_file(BAD, Console(file=text, force_terminal=terminal, color_system=None, width=80), verbose)
    return text.getvalue()


def test_only_what_does_not_conform_is_told_unless_all_is_asked_for() -> None:
    head = "captures/bad run.pcap: 9 frames, kernel 6.12: 1 conforms, 1 diverges, 1 inconclusive, 1 not modelled"
    assert printed(False).splitlines()[:3] == [
        head,
        "  cut short",
        "  diverges tcp 10.9.0.1:3 > 10.9.0.2:2: Linux does not send #7",
    ]
    assert "  conforms tcp 10.9.0.1:1 > 10.9.0.2:2" in printed(True).splitlines()


def test_a_divergence_is_told_with_what_was_allowed_and_what_stood_against_it() -> None:
    assert as_text(DIVERGING).splitlines() == [
        "  diverges tcp 10.9.0.1:3 > 10.9.0.2:2: Linux does not send #7",
        "    frame 7 at 1.500000 s from 10.9.0.1:3: Linux does not send #7",
        "      #6 1.4 S",
        "      #7 1.5 S",
        "    allowed then: Tx(seq=1) by tcp.calls.connect",
        "    near miss tcp.calls.connect (net/ipv4/tcp_ipv4.c:tcp_v4_connect, RFC 9293 3.10.1): ack 0 expected, 1 seen",
        "    near miss: too late",
        "    state: Sock(state=SYN_SENT)",
    ]


def test_a_terminal_shows_the_same_words_as_a_file() -> None:
    assert printed(True, terminal=True) == printed(True)


@pytest.mark.parametrize(("bounds", "said"), [((2, 2), "OutSegs 2"), ((2, 5), "OutSegs 2..5")])
def test_counters_are_told_as_values_or_bounds(bounds: tuple[int, int], said: str) -> None:
    text = StringIO()
    report = replace(BAD, verdicts=[replace(CONFORMING, counters={"a": {"OutSegs": bounds}})])
    print_file(report, Console(file=text, color_system=None), verbose=True)
    assert f"    counters of a: {said}\n" in text.getvalue()


def test_markup_in_a_capture_is_text() -> None:
    text = StringIO()
    odd = replace(CONFORMING, labels=(FrameLabel(1, "[red]", "[/nothing]", note="[bold]x"),))
    print_file(replace(BAD, verdicts=[odd]), Console(file=text, force_terminal=True, color_system=None), verbose=True)
    assert "[red]  [/nothing]  [bold]x" in text.getvalue()
