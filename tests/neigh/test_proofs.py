"""The neighbour, ARP and discovery machines are proved, and the prover reads them as they run."""

import pytest

from refmodel.engine.prove import prove
from refmodel.engine.sampled import differences
from refmodel.neigh import NEIGH
from refmodel.neigh.arp import ARP
from refmodel.neigh.ndisc import NDISC
from refmodel.neigh.types import NUD
from refmodel.rule import Machine


def test_the_neighbour_machine_is_proved() -> None:
    report = prove(NEIGH)
    assert report.ok, report.text()
    assert len(report.proved) == 39
    assert {f.id.rsplit(".", 1)[1] for f in report.falsified} == {
        "timer_when_incomplete",
        "only_incomplete_has_queue",
        "unresolved_has_slow_path",
    }
    assert all(f.counterexample.confirmed for f in report.falsified)


@pytest.mark.parametrize("machine", [ARP, NDISC])
def test_the_receivers_are_proved(machine: Machine) -> None:
    report = prove(machine)
    assert report.ok, report.text()
    assert len(report.proved) == 6
    assert report.never_enabled == ()


@pytest.mark.parametrize("machine", [NEIGH, ARP, NDISC])
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    seen = differences(machine, samples=8)
    assert seen.differences == ()
    assert seen.samples > 8 * len(machine.rules)


def test_each_state_is_the_outcome_of_some_rule() -> None:
    assert {x for r in NEIGH.rules for x in r.at} == set(NUD)
