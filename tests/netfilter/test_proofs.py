"""The tracker and the token bucket are proved for every setting, and the prover reads the rules as they run."""

import pytest

import refmodel.netfilter.tcp_properties  # noqa: F401
from refmodel.engine.prove import prove
from refmodel.engine.sampled import differences
from refmodel.netfilter.limit import XT_LIMIT
from refmodel.netfilter.tcp import CONNTRACK_TCP
from refmodel.rule import Machine

MACHINES = (CONNTRACK_TCP, XT_LIMIT)
FALSE_OF_LINUX = {"conntrack_tcp": {"closing_has_closer", "opener_has_window"}}


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_machine_is_proved_and_every_rule_lives(machine: Machine) -> None:
    report = prove(machine)
    assert report.ok, report.text()
    assert [x for x in report.never_enabled if x.endswith("anywhere")] == []
    assert {x.id.rsplit(".", 1)[1] for x in report.falsified} == FALSE_OF_LINUX.get(machine.name, set())


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    assert differences(machine).differences == ()
