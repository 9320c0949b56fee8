"""The explore engine finds the shortest way to what is wrong, and says what it covered."""

import json
import os
import signal
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from refmodel.engine.explore import CheckpointError, Progress, Result, Search, explore
from refmodel.engine.explore_sites import Sites, TooManyStates
from refmodel.engine.explore_system import Component, Problem, System, Taken
from tests.engine.toy import Ack, Receiver, Sender, Timeout, drive, receive_carelessly, send, transfer

FAULTS = [
    {"loss": loss, "duplicate": duplicate, "reorder": reorder}
    for loss in (False, True)
    for duplicate in (False, True)
    for reorder in (False, True)
]


def plain_count(system: System) -> int:
    """The number of reachable states by the most direct search: queues or bags of messages, one tuple a state."""
    a, b = system.components
    wires = {w.target: w for w in system.wires}
    seen: set[Any] = set()
    todo: deque[Any] = deque([((a.start, a.budget, ()), (b.start, b.budget, ()))])
    seen.add(todo[0])

    def enter(box: tuple[Any, ...], message: Any, target: str) -> tuple[Any, ...] | None:
        w = wires[target]
        if w.duplicate and w.reorder and message in box:
            return box
        if len(box) >= w.capacity:
            return box if w.loss else None
        out = (*box, message)
        return tuple(sorted(out, key=repr)) if w.reorder else out

    while todo:
        g = todo.popleft()
        for k, c in enumerate((a, b)):
            state, budget, box = g[k]
            w = wires[c.name]
            options = [(e, left, box) for e, left in c.moves(state, budget)]
            lost = []
            for i, m in enumerate(box if w.reorder else box[:1]):
                rest = box[:i] + box[i + 1 :]
                options += [(m, budget, rest)] + ([(m, budget, box)] if w.duplicate else [])
                lost += [rest] if w.loss else []
            after = [(c.apply(state, e), left, rest) for e, left, rest in options]
            nexts = [((state, budget, rest), g[1 - k]) for rest in lost]
            for t, left, rest in after:
                other: Any = g[1 - k]
                peer = (b, a)[k].name
                out = wires[peer]
                for x in t.effects:
                    if other is not None and (m := out.carry(x)) is not None:
                        entered = enter(other[2], m, peer)
                        other = None if entered is None else (*other[:2], entered)
                if other is not None:
                    nexts.append(((t.state, left, rest), other))
            for mine, other in nexts:
                n = (mine, other) if k == 0 else (other, mine)
                if n not in seen:
                    seen.add(n)
                    todo.append(n)
    return len(seen)


@pytest.mark.parametrize("faults", FAULTS, ids=lambda f: "+".join(k for k, v in f.items() if v) or "faultless")
def test_packed_and_plain_search_see_the_same_states(faults: dict[str, bool]) -> None:
    system = transfer(timeouts=3, **faults)
    result = explore(system)
    assert result.exhausted
    assert result.states == plain_count(system)


def test_two_workers_count_as_one_does() -> None:
    system = transfer(timeouts=4, duplicate=True, reorder=True)
    one, two = explore(system), explore(system, workers=2)
    assert (one.states, one.edges, one.depth) == (two.states, two.edges, two.depth)


def test_a_fifo_wire_carries_the_alternating_bit_safely() -> None:
    result = explore(transfer(), always=["b.got == a.sent or b.got == a.sent + 1"])
    assert result.ok
    assert result.rules == {"toy.go", "toy.timeout", "toy.ack", "toy.stale_ack", "toy.data", "toy.again"}
    assert "all states" in result.text()
    assert "a's budget (2,)" in result.bound


def test_the_counterexample_is_the_shortest_run() -> None:
    result = explore(transfer(receiver=receive_carelessly), always=["b.got <= a.sent + 1"])
    (finding,) = result.findings
    assert result.stopped == "found"
    assert [(s.component, s.kind, s.rule) for s in finding.run.steps] == [
        ("a", "move", "toy.go"),
        ("a", "move", "toy.timeout"),
        ("b", "deliver", "toy.careless"),
        ("b", "deliver", "toy.careless"),
    ]


def test_a_reordering_wire_breaks_the_alternating_bit() -> None:
    result = explore(transfer(timeouts=3, reorder=True, duplicate=True), always=["b.got <= a.sent + 1"])
    assert [f.kind for f in result.findings] == ["property"]


def test_a_run_tells_event_rule_change_and_message() -> None:
    finding = explore(transfer(), always=["not (b.got == 1 and a.ph == WAITING)"]).findings[0]
    text = finding.run.text()
    assert "1. a: Go()" in text
    assert "rule toy.go: sends the next item" in text
    assert "ph READY -> WAITING" in text
    assert "b: receives from a->b Data(bit=0)" in text
    told = json.loads(finding.run.json())
    assert told["steps"][0]["changed"] == [{"type": "Change", "field": "ph", "before": "READY", "after": "WAITING"}]
    assert told["steps"][0]["sent"] == [["a->b", {"type": "Data", "bit": 0}]]


def test_a_wrong_start_state_is_found_at_once() -> None:
    result = explore(transfer(), always=["a.sent > 0"])
    assert result.findings[0].run.steps == ()


def test_a_state_without_moves_is_a_deadlock_unless_it_is_final() -> None:
    stuck = explore(transfer(timeouts=0), final="a.ph == DONE").findings[0]
    assert stuck.kind == "deadlock"
    assert [s.kind for s in stuck.run.steps] == ["move", "lose"]
    assert explore(transfer(timeouts=0, loss=False), final="a.ph == DONE").ok


def test_liveness_names_the_first_state_from_which_the_goal_is_lost() -> None:
    lost = explore(transfer(timeouts=1), goal="a.ph == DONE").findings[0]
    assert lost.kind == "liveness"
    assert "can no longer reach it" in lost.says
    assert len(lost.run.steps) == 4
    forever = transfer(timeouts=1)
    patient = replace(forever.components[0], moves=lambda s, b: ((e, b) for e, _ in drive(s, (1,))))
    assert explore(replace(forever, components=(patient, forever.components[1])), goal="a.ph == DONE").ok


def test_liveness_is_undecided_unless_every_state_was_seen() -> None:
    result = explore(transfer(), goal="a.ph == DONE", max_depth=2)
    assert result.stopped == "max_depth"
    assert result.undecided
    assert not result.ok
    assert "undecided" in result.text()


def test_a_full_lossless_wire_cuts_the_sending_step() -> None:
    result = explore(transfer(timeouts=5, loss=False), final="a.ph == DONE")
    assert result.cut > 0
    assert "full lossless wire" in result.text()


def test_limits_are_said() -> None:
    assert explore(transfer(), max_states=10).stopped == "max_states"
    assert "not all: max_depth" in explore(transfer(), max_depth=1).text()


def test_wrong_steps_and_states_of_a_component_are_findings() -> None:
    def apply(s: Sender, e: Any) -> Taken:
        if isinstance(e, Timeout):
            return Taken("", "", None, (), (Problem("not modelled", "totality", "no rule for Timeout"),))
        return send(s, e)

    def judge(s: Sender) -> tuple[Problem, ...]:
        return (Problem("invariant", "toy.few", "at most two items"),) if s.sent > 2 else ()

    system = transfer()
    a = replace(system.components[0], apply=apply, judge=judge)
    result = explore(replace(system, components=(a, system.components[1])), stop_at=0)
    assert {f.kind for f in result.findings} == {"not modelled", "invariant"}
    missing = next(f for f in result.findings if f.kind == "not modelled")
    assert [type(s.event).__name__ for s in missing.run.steps] == ["Go", "Timeout"]
    assert result.exhausted


def test_a_single_machine_needs_no_wire() -> None:
    system = transfer()
    alone = System(name="alone", components=(system.components[0],))
    assert explore(alone).states == 4


def test_messages_to_oneself_are_delivered_too() -> None:
    system = transfer()
    echo = replace(system.wires[0], target="a", carry=lambda x: Ack(x.bit) if x.data else None)
    alone = System(name="echo", components=(system.components[0],), wires=(echo,))
    assert explore(alone, always=["a.sent == 0"]).findings[0].run.steps[-1].wire == "a->a"


def test_too_many_local_states_are_refused_never_aliased(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Component(
        name="c",
        start=Receiver(),
        apply=lambda s, e: Taken("toy.count", "counts", Receiver(s.got + 1), ()),
        moves=lambda s, b: [(Timeout(), b)],
        judge=lambda s: (),
        states=(Receiver,),
    )
    sites = Sites(System(name="count", components=(counting,)))
    sites.sites[0].limit = 100
    search = Search(System(name="count", components=(counting,)))
    search.sites = sites
    with pytest.raises(TooManyStates, match="more than 98 local states"):
        search.run()


def test_progress_is_told() -> None:
    told: list[Progress] = []
    result = explore(transfer(), progress=told.append)
    assert told[-1].states == result.states
    assert [p.depth for p in told] == sorted(p.depth for p in told)


def same_counts(x: Result, y: Result) -> bool:
    return (x.states, x.edges, x.depth, x.locals, x.stopped) == (y.states, y.edges, y.depth, y.locals, y.stopped)


def test_an_interrupted_search_resumes_with_the_same_counts(tmp_path: Path) -> None:
    system = transfer(timeouts=4, duplicate=True, reorder=True)
    whole = explore(system)
    file = tmp_path / "search"

    pressed: list[int] = []

    def press(p: Progress) -> None:
        if p.depth == 5 and not pressed:
            pressed.append(p.depth)
            os.kill(os.getpid(), signal.SIGINT)

    first = explore(system, progress=press, checkpoint=file)
    assert first.stopped == "interrupted"
    assert first.states < whole.states
    assert same_counts(explore(system, checkpoint=file, resume=True), whole)


def test_a_search_stopped_within_a_level_resumes_with_the_same_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = transfer(timeouts=4, duplicate=True, reorder=True)
    whole = explore(system)
    monkeypatch.setattr("refmodel.engine.explore.CHUNK", 7)
    search = Search(system)
    left = iter(range(60))
    assert search.run(stop=lambda: next(left, None) is None).stopped == "interrupted"
    assert search.cursor
    search.save(tmp_path / "search")
    again = Search(system)
    again.load(tmp_path / "search")
    result = again.run()
    assert (result.states, result.edges, result.depth) == (whole.states, whole.edges, whole.depth)


def test_a_checkpoint_fits_only_its_own_system(tmp_path: Path) -> None:
    file = tmp_path / "search"
    explore(transfer(), max_depth=2, checkpoint=file)
    with pytest.raises(CheckpointError, match="have changed since"):
        explore(transfer(timeouts=3), checkpoint=file, resume=True)
    with pytest.raises(CheckpointError, match="other questions"):
        explore(transfer(), always=["a.sent < 9"], checkpoint=file, resume=True)
    file.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        explore(transfer(), checkpoint=file, resume=True)
    with pytest.raises(CheckpointError, match="No such file"):
        explore(transfer(), checkpoint=tmp_path / "none", resume=True)
