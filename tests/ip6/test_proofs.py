"""Cutting and putting together are proved, the classifiers total, and each property catches a fault of its own."""

from typing import NamedTuple

import pytest

from refmodel.engine.prove import prove, prove_with
from refmodel.engine.sampled import differences
from refmodel.ip6.frag import CUT6, FQ6
from refmodel.rule import Machine

MACHINES = (CUT6, FQ6)
FALSE_OF_LINUX = {"ip6-reassembly": {"whole_is_not_left"}}
FRAG = "refmodel.ip6.frag"


class Seed(NamedTuple):
    """What goes wrong, and the property that says so."""

    fault: str
    machine: Machine
    old: str
    new: str
    caught: str


SEEDS = (
    Seed("a fragment's length is forgotten", CUT6, "offset=s.offset + n, left=s.left - n", "offset=s.offset + n",
         "tiles"),
    Seed("fragments are cut anywhere", CUT6, "room - room % 8", "room", "aligned"),
    Seed("a fragment takes what is left", CUT6, "left if left <= room else room - room % 8", "left", "fits"),
    Seed("the last fragment says that more follow", CUT6, "len=piece(s.left, p.room), mf=False",
         "len=piece(s.left, p.room), mf=True",
         "more_iff_left"),
    Seed("the last fragment is short", CUT6, "(Piece(offset=s.offset, len=piece(s.left, p.room), mf=False),)",
         "(Piece(offset=s.offset, len=max(piece(s.left, p.room) - 1, 1), mf=False),)", "last_is_the_rest"),
    Seed("a byte is counted twice", FQ6, "meat=s.meat + e.size", "meat=s.meat + e.size + 1",
         "not_more_than_its_length"),
    Seed("a datagram may be too long", FQ6, "if end(e) > MAXPLEN or end(e) < 0", "if end(e) < 0", "never_too_long"),
    Seed("an empty fragment counts as the last", FQ6, ") or e.size == 0", ")", "something_is_there"),
    Seed("the last fragment is not waited for", FQ6, "(s.last_in or not e.mf) and s.meat", "s.meat", "whole_is_whole"),
    Seed("a second end is believed", FQ6, "(s.last_in and end(e) != s.len)", "False", "end_is_settled"),
    Seed("a datagram that is done takes more", FQ6, "if s.phase == Phase.COMPLETE\n", "if False\n", "total"),
    Seed("a late fragment changes what is done", FQ6, "len=s.len if late else length(s, e))", "len=length(s, e))",
         "done_stays_done"),
)  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_machine_is_proved(machine: Machine) -> None:
    report = prove(machine)
    assert report.ok, report.text()
    assert [x for x in report.never_enabled if x.endswith("anywhere")] == []
    assert {x.id.rsplit(".", 1)[1] for x in report.falsified} == FALSE_OF_LINUX.get(machine.name, set())


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    assert differences(machine).differences == ()


@pytest.mark.parametrize("seed", SEEDS, ids=lambda s: f"{s.machine.name}: {s.fault}")
def test_the_proof_catches_and_names_the_fault(seed: Seed) -> None:
    report = prove_with(seed.machine, [(FRAG, seed.old, seed.new)])
    named = {x.rsplit(".", 1)[-1] for x in report.failed} | {f.kind for f in report.failures}
    assert seed.caught in named, report.text()


def test_every_property_has_a_fault_of_its_own() -> None:
    for machine in MACHINES:
        stated = (*machine.properties("invariant"), *machine.properties("transition"))
        mine = {q.id.rsplit(".", 1)[1] for q in stated if not q.falsified}
        assert mine <= {s.caught for s in SEEDS if s.machine is machine}
