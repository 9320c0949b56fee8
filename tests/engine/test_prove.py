"""The prover on two toy machines: what it proves, what it refuses to prove, and how it says so."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from refmodel import rule
from refmodel.engine.paths import EFFORT
from refmodel.engine.prove import main, prove, prove_with
from refmodel.engine.sampled import differences
from tests.engine.books import kept

COURIER = "tests.engine.toy_courier"
CHAIN = "tests.engine.toy_chain"


@pytest.fixture
def registry() -> Iterator[None]:
    """The registries, as they were before the test."""
    with kept():
        yield


def fresh(name: str) -> ModuleType:
    sys.modules.pop(name, None)
    return importlib.import_module(name)


@pytest.fixture
def courier(registry: None) -> rule.Machine:
    m: rule.Machine = fresh(COURIER).COURIER
    return m


@pytest.fixture
def chain(registry: None) -> rule.Machine:
    m: rule.Machine = fresh(CHAIN).CHAIN
    return m


def short(ids: frozenset[str]) -> set[str]:
    return {i.removeprefix(COURIER + ".") for i in ids}


def test_the_courier_is_proved_with_all_its_properties(courier: rule.Machine) -> None:
    r = prove(courier)
    assert r.ok, r.text()
    assert {p.id.rsplit(".")[-1]: p.k for p in r.proved} == {
        "never_lost": 1,
        "flight_by_phase": 1,
        "timer_by_phase": 1,
        "tries_bounded": 1,
        "only_sent_is_acknowledged": 1,
        "told_what_left": 1,
    }
    assert (r.rules, r.cells) == (11, 12)


def test_a_property_registered_as_falsified_comes_with_a_step_that_breaks_it(courier: rule.Machine) -> None:
    (found,) = prove(courier).falsified
    example = found.counterexample
    assert found.id.endswith("done_is_empty")
    assert found.rule.split(".")[-1] in ("tick_give_up", "tick_give_up_loudly")
    assert example.confirmed
    assert example.next.phase.name == "DONE"
    assert example.next.una != example.next.nxt


def test_a_falsified_property_that_holds_is_a_failure(courier: rule.Machine) -> None:
    edit = (COURIER, "return s.phase != Phase.DONE or flight(s) == 0", "return s.tries <= TRIES_MAX")
    r = prove_with(courier, [edit])
    assert [(f.kind, f.id.rsplit(".")[-1]) for f in r.failures] == [("not-falsified", "done_is_empty")]


def test_states_and_events_that_never_come_are_listed(courier: rule.Machine) -> None:
    r = prove(courier)
    assert [x.split(" by ")[0] for x in r.excluded] == [
        "Box.IDLE+Tick",
        "Box.LOST+Put",
        "Box.LOST+Ack",
        "Box.LOST+Tick",
    ]


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        (("if after(e.ack, s.nxt):", "if e.ack > s.nxt:"), {"flight_by_phase", "only_sent_is_acknowledged"}),
        (("require(e.n == 0,", "require(e.n == 1,"), {"total", "disjoint"}),
        (("deadline=NEVER if done else s.deadline", "deadline=s.deadline"), {"timer_by_phase"}),
        (("tries=s.tries + 1", "tries=s.tries + 2"), {"tries_bounded"}),
        (("tries=s.tries + 1", "tries=TRIES_MAX + 1"), {"tries_bounded", "Box.tries"}),
        (('until="6.12"', 'until="6.18"'), {"disjoint"}),
        (('since="6.12"', 'since="6.18"'), {"total"}),
        (("Told(distance(s.una, e.ack))", "Told(1)"), {"told_what_left"}),
        (("at=(Phase.WAIT, Phase.DONE))\ndef put_busy", "at=Phase.WAIT)\ndef put_busy"), {"total"}),
        (("replace(s, phase=Phase.DONE, deadline=NEVER), ()", "replace(s, phase=Phase.LOST, deadline=NEVER), ()"),
         {"never_lost"}),
        (("Sent(s.una, flight(s))", "Sent(s.una + flight(s), flight(s))"), {"Sent.seq"}),
        (("now + p.gap", "now + p.gap + TIME_MAX"), {"Box.deadline"}),
    ],
)  # fmt: skip
def test_a_seeded_fault_is_caught_and_named(courier: rule.Machine, fault: tuple[str, str], broken: set[str]) -> None:
    assert short(prove_with(courier, [(COURIER, *fault)]).failed) == broken


def test_an_overlap_names_its_rules_and_a_witness(courier: rule.Machine) -> None:
    r = prove_with(courier, [(COURIER, "require(e.n == 0,", "require(e.n <= 1,")])
    (f,) = r.failures
    assert f.kind == "disjoint"
    assert f.id == f"{COURIER}.put and {COURIER}.put_nothing"
    assert f.counterexample is not None
    assert f.counterexample.event.n == 1
    assert f.counterexample.confirmed


def test_a_counterexample_is_what_the_concrete_rule_does(courier: rule.Machine) -> None:
    r = prove_with(courier, [(COURIER, "deadline=NEVER if done else s.deadline", "deadline=s.deadline")])
    examples = [f.counterexample for f in r.failures]
    assert examples
    for x in examples:
        assert x is not None
        assert x.confirmed
        assert (x.next.phase.name, x.next.deadline == x.state.deadline) == ("IDLE", True)


def test_an_edit_leaves_registry_and_source_alone(courier: rule.Machine) -> None:
    prove_with(courier, [(COURIER, "require(e.n == 0,", "require(e.n == 1,")])
    assert prove(courier).ok


def test_only_limits_the_cells_by_name_or_the_rules_by_id(courier: rule.Machine) -> None:
    assert prove(courier, only="WAIT+Ack").cells == 1
    assert prove(courier, only="tick_again").pairs == 1
    with pytest.raises(ValueError, match="neither a cell nor a rule"):
        prove(courier, only="postman")


def test_processes_change_nothing_but_the_time(courier: rule.Machine) -> None:
    one, two = prove(courier), prove(courier, processes=2)
    assert [(p.id, p.obligations) for p in one.proved] == [(p.id, p.obligations) for p in two.proved]
    assert (one.paths, one.queries, one.excluded) == (two.paths, two.queries, two.excluded)
    assert [(x.id, x.cell, x.rule) for x in one.falsified] == [(x.id, x.cell, x.rule) for x in two.falsified]


def test_progress_is_told_cell_by_cell(courier: rule.Machine) -> None:
    seen: list[tuple[str, int, int]] = []
    prove(courier, progress=lambda *x: seen.append(x))
    assert [x[1] for x in seen] == list(range(1, 13))
    assert seen[0] == ("Box.IDLE+Put", 1, 12)


def test_without_effort_the_answer_is_unknown_and_a_failure(courier: rule.Machine) -> None:
    r = prove(courier, only="WAIT+Ack", effort=1)
    assert not r.ok
    assert prove(courier, only="WAIT+Ack", effort=EFFORT).ok


def test_a_property_may_need_longer_runs(chain: rule.Machine) -> None:
    one, two, three = (prove(chain, k=k) for k in (1, 2, 3))
    assert [f.kind for f in one.failures] == ["invariant"]
    assert [f.kind for f in two.failures] == ["invariant"]
    assert two.failures[0].counterexample is not None
    assert len(two.failures[0].counterexample.before) == 1
    assert three.ok
    assert three.proved[0].how == "by 3-induction"


def test_longer_runs_are_grounded_in_the_initial_states(chain: rule.Machine) -> None:
    r = prove_with(chain, [(CHAIN, "b=s.a", "b=not s.a")], k=3)
    (f,) = r.failures
    assert f.counterexample is not None
    ((start, _),) = f.counterexample.before
    assert (start.a, start.b, start.c) == (True, True, True)


def test_initial_states_must_have_the_invariants(chain: rule.Machine) -> None:
    r = prove_with(chain, [(CHAIN, "return s.c", "return not s.c")])
    assert ("initial", f"{CHAIN}.last_is_true") in [(f.kind, f.id) for f in r.failures]


def test_the_reading_agrees_with_the_rules(courier: rule.Machine) -> None:
    a = differences(courier)
    assert a.differences == ()
    assert a.never_enabled == ()
    assert a.enabled > 100


def test_the_runner_says_what_is_proved(courier: rule.Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["courier"]) == 0
    assert "courier: PROVED" in capsys.readouterr().out
    assert main(["nobody"]) == 2
    assert "no machine is called nobody" in capsys.readouterr().err
