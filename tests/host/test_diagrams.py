"""Whatever a walk holds, its diagrams show each step once, in order, and nothing of its text is taken for markup."""

import xml.etree.ElementTree as ElementTree

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from conformance.walks.draw import html, json, mermaid, svg, text
from conformance.walks.shown import lanes, shown
from refmodel.walk import Step, Walk

FILES = ("net/socket.c", "net/ipv4/tcp_output.c", "net/ipv4/ip_output.c", "net/sched/sch_generic.c", "lib/list.c")
CONTEXTS = ("client", "softirq NET_RX", "hardirq")
TOLD = st.text(st.sampled_from("ab;#%<>&\"'\n 0é-"), max_size=20)
SVG = "{http://www.w3.org/2000/svg}"


@st.composite
def walks(draw: st.DrawFn) -> Walk:
    """A forest of calls, some of which decided something; times don't go back."""
    steps: list[Step] = []
    now = 0
    for number in range(draw(st.integers(0, 12))):
        depth = draw(st.integers(0, steps[-1].depth + 1)) if steps else 0
        parent = next((s.number for s in reversed(steps) if s.depth == depth - 1), -1)
        now += draw(st.integers(0, 2_000_000))
        file = draw(st.sampled_from(FILES))
        notes = [("", draw(TOLD))] if draw(st.booleans()) else []
        host = draw(st.sampled_from(("a", "b<")))
        name = f"function_{number}"
        steps.append(Step(number, parent, depth, now, host, draw(st.sampled_from(CONTEXTS)), name, file, name, notes))
    return Walk(draw(TOLD), steps)


@given(walk=walks())
def test_a_walk_in_json_is_read_back_as_it_was(walk: Walk) -> None:
    assert msgspec.json.decode(json(walk), type=Walk) == walk


@given(walk=walks())
def test_with_detail_every_call_is_shown_and_without_it_every_decision(walk: Walk) -> None:
    assert [r.step for r in shown(walk, True)] == walk.steps
    short = [r.step for r in shown(walk)]
    assert [s for s in walk.steps if s.decision] == [s for s in short if s.decision]


@given(walk=walks())
def test_an_svg_has_a_group_a_step_and_a_lane_a_layer(walk: Walk) -> None:
    rows = shown(walk, True)
    root = ElementTree.fromstring(svg(walk, True))
    told = [t.text for g in root.iter(f"{SVG}g") for t in g.iter(f"{SVG}title")]
    assert told == [f"{r.step.file}:{r.step.function}" for r in rows]
    texts = {t.text for t in root.iter(f"{SVG}text")}
    assert set(lanes(rows)) <= texts


@given(walk=walks())
def test_mermaid_lines_are_participants_notes_and_arrows_between_declared_lanes(walk: Walk) -> None:
    rows = shown(walk, True)
    body = mermaid(walk, True).split("sequenceDiagram\n", 1)[1].splitlines()
    declared = {line.split()[1] for line in body if line.startswith("    participant ")}
    arrows = [line.strip() for line in body if "->>" in line]
    assert [a.rsplit(": ", 1)[1] for a in arrows] == [r.step.function for r in rows]
    assert {end for a in arrows for end in a.split(":")[0].split("->>")} <= declared
    assert all(line.startswith(("    participant ", "    Note ", "    L")) for line in body)


@given(walk=walks())
def test_text_tells_a_function_a_line_and_each_change_of_place(walk: Walk) -> None:
    places = [(s.host, s.context) for s in walk.steps]
    changes = sum(1 for i, p in enumerate(places) if i == 0 or p != places[i - 1])
    lines = text(walk, True).splitlines()
    assert sum(" ms  " in line for line in lines) == changes
    assert [f for f in (s.function for s in walk.steps) if not any(f in line for line in lines)] == []


@given(walk=walks())
def test_a_page_holds_no_text_of_the_walk_as_markup(walk: Walk) -> None:
    page = html(walk, True)
    assert "b<," not in page
    assert all(s.function in page for s in walk.steps)
