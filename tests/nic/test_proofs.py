"""Each machine is proved for every ring size and every driver's parameters in range."""

import pytest

from refmodel.engine.prove import prove
from refmodel.engine.sampled import differences
from refmodel.nic.itr import NIC_ITR
from refmodel.nic.napi import NAPI
from refmodel.nic.rx import NIC_RX
from refmodel.nic.tx import NIC_TX
from refmodel.nic.vector import NIC_VECTOR
from refmodel.rule import Machine

MACHINES = (NIC_TX, NIC_RX, NAPI, NIC_VECTOR, NIC_ITR)
FALSE_OF_LINUX = {
    "nic_tx": {"drop_rings", "link_loss_mended", "stopped_queue_rang"},
}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_machine_is_proved_and_every_rule_lives(machine: Machine) -> None:
    report = prove(machine)
    assert report.ok, report.text()
    assert [x for x in report.never_enabled if x.endswith("anywhere")] == []
    assert {x.id.rsplit(".", 1)[1] for x in report.falsified} == FALSE_OF_LINUX.get(machine.name, set())


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    assert differences(machine).differences == ()
