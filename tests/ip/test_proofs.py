"""The machines of reassembly, fragments, limits and identifications are proved, and read as they run."""

import pytest

from refmodel.engine.prove import prove
from refmodel.engine.sampled import differences
from refmodel.ip.fragment import FRAGMENT
from refmodel.ip.ident import IDENTS
from refmodel.ip.ipq import IPQ
from refmodel.ip.limits import ICMP_LIMITS
from refmodel.rule import Machine

MACHINES = {
    "ip-reassembly": (IPQ, 12),
    "ip-fragment": (FRAGMENT, 8),
    "icmp-limits": (ICMP_LIMITS, 6),
    "ip-idents": (IDENTS, 2),
}


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_the_machine_is_proved(name: str) -> None:
    machine, properties = MACHINES[name]
    report = prove(machine)
    assert report.ok, report.text()
    assert len(report.proved) == properties
    assert report.never_enabled == ()


def test_the_bucket_of_all_hosts_may_owe_more_than_one_message() -> None:
    report = prove(ICMP_LIMITS)
    assert [f.id for f in report.falsified] == ["ip.limits.credit_is_bounded_below"]
    assert all(f.counterexample.confirmed for f in report.falsified)


@pytest.mark.parametrize("machine", [IPQ, FRAGMENT, ICMP_LIMITS, IDENTS], ids=lambda m: m.name)
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    assert differences(machine, samples=8).differences == ()
