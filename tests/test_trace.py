"""Traces: one run as a numbered list, as a ladder, as JSON and back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.report.explored import slug, trace_of
from conformance.trace import ALIEN, Kind, Label, Trace, TraceError, from_json, ladder, load, numbered, to_json
from refmodel.engine.explore import explore
from refmodel.tcp.systems import GIVEN_UP, OPENED, any_peer, handshake, two_tcps

HELLO = Trace(
    title="two hosts",
    parts=("a", "b"),
    labels=(
        Label("a", Kind.CALL, "hello()", 5, "toy.hello", "One says hello.", (("x", "0", "1"),), ("hi",), ("Noted()",)),
        Label("b", Kind.FRAME_IN, "receives hi", 6, "toy.heard", sent=("hi back",)),
        Label("a", Kind.WIRE, "hi back from b is lost", 7),
    ),
    property="nobody speaks",
    bound="3 messages",
)


def test_a_numbered_run_tells_event_rule_change_and_what_was_sent() -> None:
    assert numbered(HELLO) == (
        "two hosts\n"
        "property: nobody speaks\n"
        "searched: 3 messages\n"
        "  1. a: hello()\n"
        "     rule toy.hello: One says hello.\n"
        "     x 0 -> 1\n"
        "     sends hi\n"
        "     Noted()\n"
        "  2. b: receives hi\n"
        "     rule toy.heard\n"
        "     sends hi back\n"
        "  3. a: hi back from b is lost\n"
    )


def test_a_ladder_has_a_lane_for_each_part_and_arrows_between_them() -> None:
    head, *lines = ladder(HELLO).splitlines()
    left, right = head.index("a"), head.index("b")
    assert [line[left] for line in (lines[1], lines[3])] == ["|", "|"]
    assert [line[right] for line in (lines[1], lines[3])] == ["|", "|"]
    assert lines[1].endswith("->|")
    assert "|<-" in lines[3]
    assert "1. hello()" in lines[0]


def test_a_machine_that_is_alone_gets_a_peer_in_the_ladder() -> None:
    (finding,) = explore(any_peer(segments=2), always=["a.type != 'Sock' or a.state != ESTABLISHED"]).findings
    trace = trace_of(finding.run)
    assert trace.parts == ("a", ALIEN)
    lines = ladder(trace).splitlines()
    assert "SYN seq" in lines[2]
    assert lines[2].endswith(">|")
    assert "|<-" in lines[3]
    assert "2. synsent_established" in lines[4]


def test_a_counterexample_becomes_a_trace() -> None:
    (finding,) = explore(two_tcps(), always=["b.type != 'Sock' or b.state != ESTABLISHED"]).findings
    trace = trace_of(finding.run, "small")
    assert trace.property == finding.run.title
    assert trace.bound == "small"
    assert [x.kind for x in trace.labels] == [Kind.CALL, Kind.FRAME_IN, Kind.FRAME_IN, Kind.FRAME_IN]
    assert [x.part for x in trace.labels] == ["a", "b", "a", "b"]
    assert all(x.rule and x.says for x in trace.labels)
    assert ("state", "CLOSE", "SYN_SENT") in trace.labels[0].changes


def test_timers_and_losses_are_told_as_what_they_are() -> None:
    (finding,) = explore(handshake(writes=0), goal=f"({OPENED}) or ({GIVEN_UP})").findings
    last = trace_of(finding.run).labels[-1]
    assert last.kind is Kind.WIRE
    assert last.event.endswith("from a is lost")
    (finding,) = explore(two_tcps(), always=["a.type != 'Sock' or a.icsk_retransmits == 0"]).findings
    assert trace_of(finding.run).labels[-1].kind is Kind.TIMER


def test_json_and_back_is_the_same_trace() -> None:
    assert from_json(to_json(HELLO)) == HELLO


@given(st.text(max_size=8), st.lists(st.tuples(st.sampled_from(Kind), st.text(max_size=8), st.integers(0, 1 << 40))))
def test_any_trace_survives_json(title: str, steps: list[tuple[Kind, str, int]]) -> None:
    trace = Trace(title, ("a",), tuple(Label("a", kind, event, time) for kind, event, time in steps))
    assert from_json(to_json(trace)) == trace
    assert numbered(trace).startswith(title)
    assert ladder(trace)


def test_a_file_that_is_no_trace_says_where(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"title": "x", "parts": ["a"], "labels": [{"part": 3}]}')
    with pytest.raises(TraceError, match=r"trace.json: Expected `str`, got `int` - at `\$.labels\[0\].part`"):
        load(path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tcp.transitions.fin_once", "transitions-fin-once"),
        ("a.type != 'Tw'", "a-type-tw"),
        ("x" * 100, "x" * 48),
    ],
)
def test_a_finding_names_its_file(text: str, name: str) -> None:
    assert slug(text) == name
