"""The physical layer's machines are proved, and each property notices the fault that was made for it."""

from typing import NamedTuple

import pytest

from refmodel.engine.prove import prove, prove_with
from refmodel.engine.sampled import differences
from refmodel.phy.csma import CSMA
from refmodel.phy.moderation import MODERATION
from refmodel.phy.pause import PAUSE
from refmodel.rule import Machine

MACHINES = (CSMA, MODERATION, PAUSE)


class Seed(NamedTuple):
    fault: str
    machine: Machine
    old: str
    new: str
    only: str
    caught: str


SEEDS = (
    Seed("a seventeenth attempt", CSMA, "return s.attempts >= ATTEMPTS or", "return s.attempts > ATTEMPTS or",
         "backs_off", "attempts_have_an_end"),
    Seed("a slot more", CSMA, "length = e.slots * SLOT_EXTENDED if p.gigabit else e.slots * SLOT",
         "length = (e.slots + 1) * SLOT_EXTENDED if p.gigabit else (e.slots + 1) * SLOT", "backs_off",
         "backoff_in_range"),
    Seed("a back-off of no slots is waited for", CSMA, "mac=Mac.BACKOFF if e.slots > 0 else Mac.DEFER",
         "mac=Mac.BACKOFF", "backs_off", "backoff_only_then"),
    Seed("bits run on behind the frame", CSMA, "\"bits are left\")\n    return replace(s, bits=s.bits + e.n",
         "\"bits are left\")\n    return replace(s, bits=whole(s) + 1", "csma.transmit at", "bits_within_frame"),
    Seed("extension at 100", CSMA, "return p.gigabit and s.first and", "return s.first and", "transmit_extends",
         "extension_is_gigabits"),
    Seed("the jam does not end", CSMA, "mac=Mac.BACKOFF if e.slots > 0 else Mac.DEFER, jam=0",
         "mac=Mac.BACKOFF if e.slots > 0 else Mac.DEFER", "backs_off", "jam_after_collision"),
    Seed("a frame without length waits", CSMA, "mac=Mac.DEFER, size=e.size", "mac=Mac.DEFER, size=0", "csma.offer",
         "frame_at_hand"),
    Seed("the gap is over during the back-off", CSMA, "gap=min(gap_after(s, e.n), GAP - 1)", "gap=gap_after(s, e.n)",
         "csma.backoff at", "gap_before_the_air"),
    Seed("a frame begins in the gap", CSMA, "if s.gap >= GAP and not s.carrier", "if not s.carrier", "csma.offer",
         "begins_after_the_gap"),
    Seed("nobody is deferred to", CSMA, "return not s.carrier or s.gap >= GAP_PART1", "return s.gap >= 0",
         "Station.DEFER+Elapse", "fair_to_others"),
    Seed("late collisions end frames at 100", CSMA, "or (p.gigabit and s.late)", "or s.late", "gives_up",
         "gives_up_late"),
    Seed("the slot is not filled", CSMA, "return p.gigabit and s.first and s.size < SLOT_EXTENDED",
         "return p.gigabit and s.first and s.size < SLOT", "transmit_done", "whole_frames"),
    Seed("the jam has sixteen bits", CSMA, "jam=JAM + rest", "jam=JAM // 2 + rest", "csma.collision at",
         "jam_is_long_enough"),
    Seed("a carrier ends a transmission", CSMA, "return replace(s, carrier=False), ()",
         "return replace(s, carrier=False, bits=0), ()", "carrier_off", "carrier_stops_nobody"),
    Seed("slots are chosen from the next attempt's", CSMA, "return e.slots < limit(s.attempts)",
         "return e.slots < limit(s.attempts + 1)", "backs_off", "slots_from_range"),
    Seed("a packet is older than itself", MODERATION, "replace(s, wait=Wait.TIMERS, first=e.now",
         "replace(s, wait=Wait.TIMERS, first=e.now + 1", "written_delayed", "times_in_order"),
    Seed("the throttle opens at once", MODERATION, "open=now + p.itr * ITR_UNIT", "open=now", "due_open",
         "throttle_follows_interrupt"),
    Seed("an open throttle is waited for", MODERATION,
         "\"the throttle is closed\")\n    return replace(s, wait=Wait.THROTTLE, first",
         "\"the throttle is closed\")\n    return replace(s, open=0, wait=Wait.THROTTLE, first",
         "written_throttled", "throttled_while_closed"),
    Seed("timers run without a delay", MODERATION, "require(p.delay > 0, \"a packet timer\")",
         "require(p.delay >= 0, \"a packet timer\")", "written_delayed", "timers_need_a_delay"),
    Seed("the throttle is not asked", MODERATION,
         "require(e.now >= s.open, \"the throttle is open\")\n    return raised(s, e.now, s.first",
         "require(e.now >= s.irq, \"the throttle is open\")\n    return raised(s, e.now, s.first", "due_open",
         "interrupts_apart"),
    Seed("the absolute timer begins anew", MODERATION, "absolute = first + p.absolute", "absolute = last + p.absolute",
         "due_open", "delay_bounded"),
    Seed("a further packet counts as the first", MODERATION, "return replace(s, last=e.now), ()",
         "return replace(s, first=e.now, last=e.now), ()", "written_again", "packets_do_not_delay_the_first"),
    Seed("the cause is forgotten behind the throttle", MODERATION,
         "return replace(s, wait=Wait.THROTTLE), ()", "return replace(s, wait=Wait.NOTHING), ()", "due_throttled",
         "nothing_forgotten"),
    Seed("the gap is counted from the frame's first bit", PAUSE, "gap=GAP if left == 0 else 0", "gap=GAP",
         "elapse_sending", "gap_behind_the_frame"),
    Seed("a port without flow control obeys", PAUSE, "\"flow control is off\")\n    return s, ()",
         "\"flow control is off\")\n    return replace(s, pause=QUANTUM), ()", "not_obeyed",
         "obeys_if_enabled"),
    Seed("data go out while paused", PAUSE, "require(s.pause == 0 or e.control", "require(s.pause >= 0 or e.control",
         "offer_free", "paused_sends_no_data"),
    Seed("a pause cuts the frame on the air", PAUSE, "return replace(s, pause=e.quanta * QUANTUM)",
         "return replace(s, sending=0, pause=e.quanta * QUANTUM)", "pause.paused", "frame_ends_first"),
    Seed("the longest pause counts", PAUSE, "return replace(s, pause=e.quanta * QUANTUM)",
         "return replace(s, pause=max(s.pause, e.quanta * QUANTUM))", "pause.paused", "newest_counts"),
    Seed("frames follow each other without a gap", PAUSE, "if gap == 0 and pause == 0 and s.waiting > 0",
         "if pause == 0 and s.waiting > 0", "elapse_gap", "keeps_the_gap"),
    Seed("after a pause nobody sends", PAUSE, "if gap == 0 and pause == 0 and s.waiting > 0",
         "if gap == 0 and s.pause == 0 and s.waiting > 0", "elapse_gap", "sends_when_it_may"),
)  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_machine_is_proved(machine: Machine) -> None:
    report = prove(machine)
    assert report.ok, report.text()
    assert [x for x in report.never_enabled if x.endswith("anywhere")] == []
    assert report.falsified == ()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    assert differences(machine).differences == ()


@pytest.mark.parametrize("seed", SEEDS, ids=lambda s: f"{s.machine.name}: {s.fault}")
def test_the_proof_catches_and_names_the_fault(seed: Seed) -> None:
    module = seed.machine.modules[0]
    report = prove_with(seed.machine, [(module, seed.old, seed.new)], only=seed.only.removesuffix(" at"))
    named = {x.rsplit(".", 1)[-1] for x in report.failed} | {f.kind for f in report.failures}
    assert seed.caught in named, report.text()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_every_property_has_a_fault_of_its_own(machine: Machine) -> None:
    caught = {s.caught for s in SEEDS if s.machine is machine}
    stated = (*machine.properties("invariant"), *machine.properties("transition"))
    assert {q.id.rsplit(".", 1)[1] for q in stated} <= caught
