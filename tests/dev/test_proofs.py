"""The device layer's machines are proved, and each property notices the fault that was made for it."""

from typing import NamedTuple

import pytest

from refmodel.dev.dql import BQL
from refmodel.dev.watchdog import WATCHDOG
from refmodel.engine.prove import prove, prove_with
from refmodel.engine.sampled import differences
from refmodel.rule import Machine

MACHINES = (BQL, WATCHDOG)


class Seed(NamedTuple):
    fault: str
    machine: Machine
    module: str
    old: str
    new: str
    caught: str


DQL, DOG = "refmodel.dev.dql", "refmodel.dev.watchdog"
SEEDS = (
    Seed("more is completed than was queued", BQL, DQL, "and e.count <= inflight(s)", "", "flight_fits"),
    Seed("the sender's mark does not move with a completion", BQL, DQL, "adj_limit=add(done, limit)",
         "adj_limit=add(s.num_completed, limit)", "limit_from_completed"),
    Seed("a completion looks back one too far", BQL, DQL, "prev_num_queued=s.num_queued",
         "prev_num_queued=add(s.num_queued, 1)", "last_look_is_past"),
    Seed("the overshoot is added up", BQL, DQL, "prev_ovlimit=ovlimit(s) if limit == s.limit else 0",
         "prev_ovlimit=ovlimit(s) + s.prev_ovlimit", "learned_from_flight"),
    Seed("the sender does not look again", BQL, DQL, "xoff=s.xoff and avail(s) < 0", "xoff=s.xoff",
         "stopped_has_flight"),
    Seed("the cleaner does not look for the bit", BQL, DQL,
         "if s.xoff:\n        return replace(s, cleaner=Cleaner.IDLE, xoff=False)",
         "if s.xoff:\n        return replace(s, cleaner=Cleaner.IDLE)", "stopped_is_over_limit"),
    Seed("the greatest limit is forgotten", BQL, DQL, "min(max(wanted(s, e, p), p.min_limit), p.max_limit)",
         "max(wanted(s, e, p), p.min_limit)", "limit_in_bounds"),
    Seed("a dry device gets less", BQL, DQL, "return grown if what == Learn.STARVED",
         "return less if what == Learn.STARVED", "starving_raises"),
    Seed("the limit falls at once", BQL, DQL, "BUSY and held_long_enough(s, e, p) else s.limit",
         "BUSY else s.limit", "busy_lowers_in_time"),
    Seed("the sender moves the limit", BQL, DQL, "return replace(s, sender=Sender.RECHECK, xoff=True)",
         "return replace(s, sender=Sender.RECHECK, xoff=True, limit=0)", "only_completions_learn"),
    Seed("the sender leaves a queue with room stopped", BQL, DQL, "xoff=s.xoff and avail(s) < 0",
         "xoff=s.xoff or avail(s) < 0", "stops_only_over_limit"),
    Seed("a ready device is not watched", WATCHDOG, DOG, "ready=True, armed=True", "ready=True", "watched_while_ready"),
    Seed("a stop is stamped with the deadline", WATCHDOG, DOG,
         "replace(s, trans_start=e.now, stopped=e.stops, last=e.now)",
         "replace(s, trans_start=e.now + 1, stopped=e.stops, last=e.now)", "times_are_past"),
    Seed("the next look is two patiences away", WATCHDOG, DOG, "due = base(s, e, p) + p.watchdog_timeo",
         "due = base(s, e, p) + 2 * p.watchdog_timeo", "standing_is_found"),
    Seed("a queue that runs times out", WATCHDOG, DOG, "return stopped and now > trans_start",
         "return now > trans_start", "only_standing_times_out"),
    Seed("half as patient again", WATCHDOG, DOG, "now > trans_start + watchdog_timeo",
         "now > trans_start + 2 * watchdog_timeo", "standing_times_out"),
    Seed("after a timeout nobody looks again", WATCHDOG, DOG,
         "return replace(s, expires=e.rounded, last=e.now), (Timeout",
         "return replace(s, armed=False, last=e.now), (Timeout", "looks_again"),
)  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_machine_is_proved_and_every_rule_lives(machine: Machine) -> None:
    report = prove(machine)
    assert report.ok, report.text()
    assert [x for x in report.never_enabled if x.endswith("anywhere")] == []
    assert report.falsified == ()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    assert differences(machine).differences == ()


@pytest.mark.parametrize("seed", SEEDS, ids=lambda s: f"{s.machine.name}: {s.fault}")
def test_the_proof_catches_and_names_the_fault(seed: Seed) -> None:
    report = prove_with(seed.machine, [(seed.module, seed.old, seed.new)])
    named = {x.rsplit(".", 1)[-1] for x in report.failed} | {f.kind for f in report.failures}
    assert seed.caught in named, report.text()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_every_property_has_a_fault_of_its_own(machine: Machine) -> None:
    caught = {s.caught for s in SEEDS if s.machine is machine}
    stated = (*machine.properties("invariant"), *machine.properties("transition"))
    assert {q.id.rsplit(".", 1)[1] for q in stated} <= caught
