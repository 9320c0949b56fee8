"""The machines of routing are proved for every flow, route and setting in range."""

import pytest

from refmodel.engine.property import machine_tests
from refmodel.engine.prove import prove
from refmodel.engine.sampled import differences
from refmodel.fib.fnhe import FIB_FNHE
from refmodel.fib.leaf import FIB_LEAF
from refmodel.fib.policy import FIB_POLICY
from refmodel.fib.source import FIB_INPUT
from refmodel.rule import Machine

MACHINES = (FIB_LEAF, FIB_POLICY, FIB_INPUT, FIB_FNHE)

TestLookup = machine_tests(FIB_LEAF)
TestPolicyRules = machine_tests(FIB_POLICY)
TestInput = machine_tests(FIB_INPUT)
TestExceptions = machine_tests(FIB_FNHE)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_machine_is_proved_and_every_rule_lives(machine: Machine) -> None:
    report = prove(machine)
    assert report.ok, report.text()
    assert [x for x in report.never_enabled if x.endswith("anywhere")] == []


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    assert differences(machine).differences == ()
