"""Softirqs on one processor: who may interrupt whom, and who runs what was raised.

The law: a softirq that was raised runs when the interrupt returns, or when the task enables bottom halves again; only
if there is too much of it ksoftirqd takes over, as a task. A softirq never interrupts another on its processor, a hard
interrupt interrupts all.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import Effect, Event, Machine, Params, State, assume, machine, pure, require, rule
from refmodel.types import Range

MAX_SOFTIRQ_RESTART: Final = 10
DEPTH: Final = 255


class Vector(IntEnum):
    """The softirqs that the network uses, in the order in which they run; source include/linux/interrupt.h."""

    HI = 0
    TIMER = 1
    NET_TX = 2
    NET_RX = 3
    BLOCK = 4
    IRQ_POLL = 5
    TASKLET = 6
    SCHED = 7
    HRTIMER = 8
    RCU = 9


class On(IntEnum):
    """What runs on the processor."""

    TASK = 0
    SOFTIRQ = 1  # handle_softirqs, in whoever's context
    HARDIRQ = 2  # a hard interrupt, over a task or a softirq


class SoftirqParams(Params, frozen=True):
    """`kernel`: the version."""

    kernel: Annotated[int, Range(601, 618)] = 612


class Cpu(State, frozen=True):
    """One processor.

    `timer`, `tx`, `rx`: those softirqs are raised; `todo_*`: this round of handle_softirqs has them yet to run. `bh`:
    how often the task has disabled bottom halves. `over`: a hard interrupt interrupted a softirq. `restarts`: rounds
    that are left. `daemon`: ksoftirqd is awake; `by_daemon`: it is the one that runs handle_softirqs.
    """

    AT: ClassVar[str] = "on"

    on: On = On.TASK
    timer: bool = False
    tx: bool = False
    rx: bool = False
    todo_timer: bool = False
    todo_tx: bool = False
    todo_rx: bool = False
    bh: Annotated[int, Range(0, DEPTH)] = 0
    over: bool = False
    restarts: Annotated[int, Range(0, MAX_SOFTIRQ_RESTART)] = 0
    daemon: bool = False
    by_daemon: bool = False


class Raise(Event, frozen=True):
    """raise_softirq of `vector`, wherever."""

    vector: Vector


class BhDisable(Event, frozen=True):
    """The task calls local_bh_disable."""


class BhEnable(Event, frozen=True):
    """The task calls local_bh_enable."""


class Interrupt(Event, frozen=True):
    """A hard interrupt comes in."""


class InterruptEnds(Event, frozen=True):
    """The hard interrupt's handler returns: irq_exit."""


class ActionDone(Event, frozen=True):
    """A softirq's action returns. `time_up`: 2 ms have passed; `resched`: a task wants the processor."""

    time_up: bool = False
    resched: bool = False


class DaemonRuns(Event, frozen=True):
    """The scheduler lets ksoftirqd run."""


class RunAction(Effect, frozen=True):
    """handle_softirqs calls the action of `vector`."""

    vector: Vector


class WakeDaemon(Effect, frozen=True):
    """wakeup_softirqd."""


@pure
def pending(s: Cpu) -> bool:
    """Some softirq is raised."""
    return s.timer or s.tx or s.rx


@pure
def first(timer: bool, tx: bool) -> Vector:
    """The one that runs next: the lowest number."""
    return Vector.TIMER if timer else Vector.NET_TX if tx else Vector.NET_RX


@pure
def held_back(s: Cpu, p: SoftirqParams) -> bool:
    """6.1 leaves everything to ksoftirqd once that is awake."""
    return p.kernel < 612 and s.daemon


@pure
def starts(s: Cpu, by_daemon: bool, restarts: int) -> Cpu:
    """handle_softirqs takes what is raised, and calls the first."""
    v = first(s.timer, s.tx)
    return replace(
        s,
        on=On.SOFTIRQ,
        timer=False,
        tx=False,
        rx=False,
        todo_timer=False,
        todo_tx=s.tx and v != Vector.NET_TX,
        todo_rx=s.rx and v != Vector.NET_RX,
        over=False,
        restarts=restarts,
        by_daemon=by_daemon,
    )


@pure
def raised(s: Cpu, v: Vector) -> Cpu:
    """The softirq's bit is set."""
    return replace(
        s,
        timer=s.timer or v == Vector.TIMER,
        tx=s.tx or v == Vector.NET_TX,
        rx=s.rx or v == Vector.NET_RX,
    )


class Left(IntEnum):
    """What handle_softirqs does after an action."""

    NEXT = 0  # this round has more
    RESTART = 1  # more was raised meanwhile
    HAND_OVER = 2  # more was raised, but ksoftirqd shall do it
    DONE = 3


@pure
def left(raised: bool, todo: bool, restarts: int, time_up: bool, resched: bool) -> Left:
    """handle_softirqs' cascade. `restarts`: how many rounds are left, this one among them."""
    return (
        Left.NEXT
        if todo
        else Left.DONE
        if not raised
        else Left.RESTART
        if not time_up and not resched and restarts > 1
        else Left.HAND_OVER
    )


class Exit(IntEnum):
    """Where a hard interrupt returns to."""

    TO_SOFTIRQ = 0
    RUN = 1
    TO_TASK = 2


@pure
def leaves(over: bool, bh: int, raised: bool, held: bool) -> Exit:
    """irq_exit's cascade: softirqs run unless one was interrupted, or the task has disabled them."""
    return Exit.TO_SOFTIRQ if over else Exit.RUN if bh == 0 and raised and not held else Exit.TO_TASK


@pure
def after(s: Cpu, e: ActionDone) -> Left:
    """What handle_softirqs does next."""
    return left(pending(s), s.todo_timer or s.todo_tx or s.todo_rx, s.restarts, e.time_up, e.resched)


# ------------------------------------------------------------------------------------------------------------ rules


@rule("kernel/softirq.c:raise_softirq_irqoff", at=On.TASK)
def raise_in_task(s: Cpu, e: Raise, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """Raised by a task with bottom halves enabled, nobody would run it: ksoftirqd is woken."""
    require(s.bh == 0, "bottom halves enabled")
    return replace(raised(s, e.vector), daemon=True), (WakeDaemon(),)


@rule("kernel/softirq.c:raise_softirq_irqoff", at=On.TASK)
def raise_in_bh(s: Cpu, e: Raise, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """Raised with bottom halves disabled, it runs when they are enabled."""
    require(s.bh > 0, "bottom halves disabled")
    return raised(s, e.vector), ()


@rule("kernel/softirq.c:raise_softirq_irqoff", at=(On.SOFTIRQ, On.HARDIRQ))
def raise_in_interrupt(s: Cpu, e: Raise, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """Raised in an interrupt, it runs when that returns."""
    return raised(s, e.vector), ()


@rule("include/linux/bottom_half.h:local_bh_disable", at=On.TASK)
def bh_disable(s: Cpu, e: BhDisable, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """Bottom halves are disabled once more."""
    return replace(s, bh=s.bh + 1), ()


@rule("kernel/softirq.c:__local_bh_enable_ip", "kernel/softirq.c:do_softirq", at=On.TASK)
def bh_enable_runs(s: Cpu, e: BhEnable, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """The last enable runs what was raised, in the task's own context."""
    require(s.bh == 1 and pending(s) and not held_back(s, p), "last enable, and something raised")
    v = first(s.timer, s.tx)
    return starts(replace(s, bh=0), False, MAX_SOFTIRQ_RESTART), (RunAction(vector=v),)


@rule("kernel/softirq.c:__local_bh_enable_ip", at=On.TASK)
def bh_enable(s: Cpu, e: BhEnable, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """An inner enable, or one with nothing raised, only counts."""
    require(s.bh > 1 or not pending(s) or held_back(s, p), "inner, or nothing to run")
    return replace(s, bh=s.bh - 1), ()


@rule("kernel/softirq.c:irq_enter", at=(On.TASK, On.SOFTIRQ))
def interrupt(s: Cpu, e: Interrupt, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """A hard interrupt interrupts a task or a softirq."""
    return replace(s, on=On.HARDIRQ, over=s.on == On.SOFTIRQ), ()


@rule("kernel/softirq.c:irq_exit", at=On.HARDIRQ)
def exit_to_softirq(s: Cpu, e: InterruptEnds, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """The softirq that was interrupted goes on; what was raised waits for its end."""
    require(leaves(s.over, s.bh, pending(s), held_back(s, p)) == Exit.TO_SOFTIRQ, "over a softirq")
    return replace(s, on=On.SOFTIRQ, over=False), ()


@rule("kernel/softirq.c:irq_exit", "kernel/softirq.c:invoke_softirq", at=On.HARDIRQ)
def exit_runs(s: Cpu, e: InterruptEnds, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """What was raised runs before the task goes on."""
    require(leaves(s.over, s.bh, pending(s), held_back(s, p)) == Exit.RUN, "over a task, something raised")
    return starts(s, False, MAX_SOFTIRQ_RESTART), (RunAction(vector=first(s.timer, s.tx)),)


@rule("kernel/softirq.c:irq_exit", at=On.HARDIRQ)
def exit_to_task(s: Cpu, e: InterruptEnds, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """The task goes on: nothing was raised, or it has bottom halves disabled."""
    require(leaves(s.over, s.bh, pending(s), held_back(s, p)) == Exit.TO_TASK, "nothing to run now")
    return replace(s, on=On.TASK), ()


@rule("kernel/softirq.c:handle_softirqs", at=On.SOFTIRQ)
def next_action(s: Cpu, e: ActionDone, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """The next softirq of this round runs."""
    require(after(s, e) == Left.NEXT, "more in this round")
    v = first(s.todo_timer, s.todo_tx)
    return replace(
        s,
        todo_timer=False,
        todo_tx=s.todo_tx and v != Vector.NET_TX,
        todo_rx=s.todo_rx and v != Vector.NET_RX,
    ), (RunAction(vector=v),)


@rule("kernel/softirq.c:handle_softirqs", at=On.SOFTIRQ)
def restart(s: Cpu, e: ActionDone, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """What was raised meanwhile runs in another round, up to ten."""
    require(after(s, e) == Left.RESTART, "more raised, time left")
    return starts(s, s.by_daemon, s.restarts - 1), (RunAction(vector=first(s.timer, s.tx)),)


@rule("kernel/softirq.c:handle_softirqs", "kernel/softirq.c:wakeup_softirqd", at=On.SOFTIRQ)
def hand_over(s: Cpu, e: ActionDone, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """There is too much: ksoftirqd is woken, and the task goes on."""
    require(after(s, e) == Left.HAND_OVER, "more raised, but no time")
    return replace(s, on=On.TASK, restarts=0, by_daemon=False, daemon=True), (WakeDaemon(),)


@rule("kernel/softirq.c:handle_softirqs", at=On.SOFTIRQ)
def done(s: Cpu, e: ActionDone, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """All that was raised has run; ksoftirqd, if it was that, sleeps."""
    require(after(s, e) == Left.DONE, "nothing left")
    return replace(s, on=On.TASK, restarts=0, by_daemon=False, daemon=s.daemon and not s.by_daemon), ()


@rule("kernel/softirq.c:run_ksoftirqd", at=On.TASK)
def daemon_runs(s: Cpu, e: DaemonRuns, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """The daemon ksoftirqd runs what is raised."""
    require(pending(s), "something raised")
    return starts(s, True, MAX_SOFTIRQ_RESTART), (RunAction(vector=first(s.timer, s.tx)),)


@rule("kernel/softirq.c:run_ksoftirqd", at=On.TASK)
def daemon_idle(s: Cpu, e: DaemonRuns, p: SoftirqParams) -> tuple[Cpu, tuple[Effect, ...]]:
    """The daemon ksoftirqd finds that others have run all, and sleeps."""
    require(not pending(s), "nothing raised")
    return replace(s, daemon=False), ()


# ------------------------------------------------------------------------------------------------------ assumptions


@assume
def only_tasks_count(s: Cpu, e: BhDisable) -> bool:
    """local_bh_disable is looked at in tasks only, and nested less than 255 deep."""
    return s.on == On.TASK and s.bh < DEPTH


@assume
def enable_after_disable(s: Cpu, e: BhEnable) -> bool:
    """Who enables bottom halves has disabled them."""
    return s.on == On.TASK and s.bh > 0


@assume
def no_nested_interrupt(s: Cpu, e: Interrupt) -> bool:
    """Hard interrupts are off while one is handled."""
    return s.on != On.HARDIRQ


@assume
def handler_ends(s: Cpu, e: InterruptEnds) -> bool:
    """Only a hard interrupt returns."""
    return s.on == On.HARDIRQ


@assume
def action_ends(s: Cpu, e: ActionDone) -> bool:
    """Only a softirq's action returns."""
    return s.on == On.SOFTIRQ


@assume
def a_task_is_scheduled(s: Cpu, e: DaemonRuns) -> bool:
    """The scheduler gives way to ksoftirqd where a task runs with bottom halves enabled, and ksoftirqd is awake."""
    return s.on == On.TASK and s.bh == 0 and s.daemon


@assume
def network_vectors(e: Raise) -> bool:
    """Only the network's softirqs are looked at."""
    return e.vector in (Vector.TIMER, Vector.NET_TX, Vector.NET_RX)


SOFTIRQ = machine(
    Machine(
        name="softirq",
        title="Softirqs of a processor",
        accepts={Cpu: (Raise, BhDisable, BhEnable, Interrupt, InterruptEnds, ActionDone, DaemonRuns)},
        params=SoftirqParams,
        modules=("refmodel.softirq", "refmodel.softirq_properties"),
        initial=(Cpu(),),
    )
)
