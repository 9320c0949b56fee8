"""GRO's flow, the backlog and a processor's softirqs are proved, and each property catches a fault of its own."""

from typing import NamedTuple

import pytest

from refmodel.engine.prove import prove, prove_with
from refmodel.engine.sampled import differences
from refmodel.receive.backlog import BACKLOG
from refmodel.receive.gro_flow import GRO
from refmodel.rule import Machine
from refmodel.softirq import SOFTIRQ

MACHINES = (GRO, BACKLOG, SOFTIRQ)
FALSE_OF_LINUX = {"gro": {"in_order"}}
FLOW, QUEUE, CPU = "refmodel.receive.gro_flow", "refmodel.receive.backlog", "refmodel.softirq"


class Seed(NamedTuple):
    """What goes wrong, where, and the property that says so; `only`: the cell that the fault is in."""

    fault: str
    machine: Machine
    module: str
    old: str
    new: str
    caught: str
    only: str


SEEDS = (
    Seed("a short segment is held with the others", GRO, FLOW, "return len < mss or urg", "return urg",
         "held_is_full", "merge"),
    Seed("a pure ACK is held", GRO, FLOW, "e.flush or ends(e.len, 1,", "e.flush or ends(e.len, 0,",
         "held_has_data", "held"),
    Seed("a pure ACK joins", GRO, FLOW, "return len == 0 or len > mss", "return len > mss",
         "last_may_be_short", "merge_end"),
    Seed("a merged segment's length is not added", GRO, FLOW, "        len=s.len + e.len,\n        tail=e.len,",
         "        len=s.len,\n        tail=e.len,", "lengths_add_up", "merge"),
    Seed("sequence numbers are not compared", GRO, FLOW, "or e.seq != s.end", "", "in_line", "merge"),
    Seed("the next number is the segment's own", GRO, FLOW, "end=add(e.seq, e.len),\n        total=s",
         "end=add(e.seq, e.len + 1),\n        total=s",
         "in_line", "merge"),
    Seed("the limit is forgotten", GRO, FLOW, "return total + len >= gro_max_size", "return total + len > gro_max_size",
         "below_limit", "merge"),
    Seed("headers are kept twice", GRO, FLOW, "total=s.total + e.len", "total=s.total + e.len + e.hlen",
         "headers_once", "merge"),
    Seed("a flush forgets to empty", GRO, FLOW,
         "return GroFlow(), (Deliver(seq=s.start, len=s.len, count=s.count, mss=s.mss, tail=s.tail),)",
         "return replace(GroFlow(), count=s.count), (Deliver(seq=s.start, len=s.len, count=1, mss=s.mss, tail=1),)",
         "nothing_remembered", "flushed"),
    Seed("a segment that splits is dropped", GRO, FLOW, "return hold(e), (Deliver(", "return GroFlow(), (Deliver(",
         "no_byte_lost", "split_hold"),
    Seed("a flush drops what it held", GRO, FLOW, 'require(e.old and not e.aged, "only what is old")\n    return s, ()',
         'require(e.old and not e.aged, "only what is old")\n    return GroFlow(), ()',
         "flush_keeps_all", "flush_spared"),
    Seed("a merge is not counted", GRO, FLOW, "count=s.count + 1, mss=s.mss, tail=e.len",
         "count=s.count, mss=s.mss, tail=e.len",
         "every_segment_counted", "merge_end"),
    Seed("a longer segment joins", GRO, FLOW, "return len == 0 or len > mss", "return len == 0",
         "last_may_be_short", "merge_end"),
    Seed("PSH may wait", GRO, FLOW, "or urg or psh or rst", "or urg or rst", "flags_are_not_late", "held"),
    Seed("the end of a poll spares what is young", GRO, FLOW, "require(e.old and not e.aged, \"only what is old\")",
         "require(not e.aged, \"only what is old\")", "flush_empties", "flush_spared"),
    Seed("the first packet schedules nothing", BACKLOG, QUEUE, "input=s.input + 1, sched=True)", "input=s.input + 1)",
         "waiting_is_scheduled", "first"),
    Seed("the poll gives SCHED away first", BACKLOG, QUEUE, "polled=Polled.YES, work=0)",
         "polled=Polled.YES, sched=False, work=0)", "polled_is_scheduled", "poll"),
    Seed("work is carried over", BACKLOG, QUEUE, "polled=Polled.NO, sched=False, work=0)",
         "polled=Polled.NO, sched=False)", "no_work_outside", "empty"),
    Seed("the quota is passed", BACKLOG, QUEUE, "s.work + 1 < p.quota", "s.work < p.quota", "within_quota", "take"),
    Seed("one more fits", BACKLOG, QUEUE, "if qlen > max_backlog", "if qlen > max_backlog + 1", "bounded", "first"),
    Seed("the poll takes over more than there is", BACKLOG, QUEUE, "process=s.input, input=0)",
         "process=s.input + 1, input=0)", "bounded_taken", "take_over"),
    Seed("a refused packet is not counted", BACKLOG, QUEUE, "return s, (Dropped(counted=True),)", "return s, ()",
         "kept_or_counted", "refused"),
    Seed("a packet gets lost in the poll", BACKLOG, QUEUE, "process=s.input, input=0)", "process=s.input - 1, input=0)",
         "taken_or_kept", "take_over"),
    Seed("it is scheduled once more", BACKLOG, QUEUE, "return replace(s, input=s.input + 1), ()",
         "return replace(s, input=s.input + 1), (Scheduled(),)", "scheduled_once", "further"),
    Seed("a task raises and wakes nobody", SOFTIRQ, CPU,
         "return replace(raised(s, e.vector), daemon=True), (WakeDaemon(),)",
         "return raised(s, e.vector), ()", "raised_is_owed", "raise_in_task"),
    Seed("irq_exit forgets that bottom halves are off", SOFTIRQ, CPU, "Exit.RUN if bh == 0 and raised",
         "Exit.RUN if raised", "not_over_disabled", "exit_runs"),
    Seed("a hard interrupt forgets what it interrupted", SOFTIRQ, CPU, "over=s.on == On.SOFTIRQ)", "over=False)",
         "interrupted_is_known", "interrupt"),
    Seed("a round ends before its last", SOFTIRQ, CPU,
         "if todo\n        else Left.DONE", "if False\n        else Left.DONE",
         "nothing_half_done", "hand_over"),
    Seed("irq_exit over a softirq runs another", SOFTIRQ, CPU, "Exit.TO_SOFTIRQ if over else Exit.RUN if bh == 0",
         "Exit.RUN if bh == 0", "taken_is_run", "exit_runs"),
    Seed("bottom halves are disabled over a softirq", SOFTIRQ, CPU, "return raised(s, e.vector), ()",
         "return replace(raised(s, e.vector), bh=1), ()", "rounds_only_over_softirq", "raise_in_interrupt"),
    Seed("an eleventh round", SOFTIRQ, CPU, "and restarts > 1", "", "rounds_are_limited", "restart"),
    Seed("timers wait for the rest of the round", SOFTIRQ, CPU,
         "todo_timer=False,\n        todo_tx=s.tx and v != Vector.NET_TX,",
         "todo_timer=s.timer,\n        todo_tx=s.tx and v != Vector.NET_TX,", "timers_are_first", "bh_enable_runs"),
    Seed("ksoftirqd runs asleep", SOFTIRQ, CPU, "return starts(s, True, MAX_SOFTIRQ_RESTART)",
         "return starts(replace(s, daemon=False), True, MAX_SOFTIRQ_RESTART)", "daemon_is_awake", "daemon_runs"),
    Seed("raising forgets what was raised", SOFTIRQ, CPU, "tx=s.tx or v == Vector.NET_TX,", "tx=v == Vector.NET_TX,",
         "raise_is_kept", "raise_in_task"),
    Seed("a round takes NET_TX and runs it never", SOFTIRQ, CPU, "todo_tx=s.tx and v != Vector.NET_TX,",
         "todo_tx=False,", "taken_is_run", "bh_enable_runs"),
    Seed("NET_RX runs before NET_TX", SOFTIRQ, CPU,
         "Vector.TIMER if timer else Vector.NET_TX if tx else Vector.NET_RX",
         "Vector.TIMER if timer else Vector.NET_RX if tx else Vector.NET_TX", "in_order", "next_action"),
    Seed("hard interrupts wait for a softirq", SOFTIRQ, CPU, "replace(s, on=On.HARDIRQ, over=s.on == On.SOFTIRQ)",
         "replace(s, on=s.on, over=False)", "hard_interrupt_comes_at_once", "interrupt"),
    Seed("ksoftirqd is not woken for the rest", SOFTIRQ, CPU,
         "daemon=True), (WakeDaemon(),)\n\n\n@rule(\"kernel/softirq.c:handle",
         "daemon=True), ()\n\n\n@rule(\"kernel/softirq.c:handle", "wakes_before_leaving", "hand_over"),
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
    report = prove_with(seed.machine, [(seed.module, seed.old, seed.new)], only="." + seed.only)
    named = {x.rsplit(".", 1)[-1] for x in report.failed} | {f.kind for f in report.failures}
    assert seed.caught in named, report.text()


def test_every_property_has_a_fault_of_its_own() -> None:
    for machine in MACHINES:
        stated = (*machine.properties("invariant"), *machine.properties("transition"))
        wanted = {q.id.rsplit(".", 1)[1] for q in stated if not q.falsified}
        assert wanted <= {s.caught for s in SEEDS if s.machine is machine}
