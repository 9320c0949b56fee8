"""What is always true of softirqs: none is lost, none is nested, and they run in order."""

from refmodel.rule import Effect, invariant, transition
from refmodel.softirq import (
    MAX_SOFTIRQ_RESTART,
    ActionDone,
    BhEnable,
    Cpu,
    Interrupt,
    InterruptEnds,
    On,
    Raise,
    RunAction,
    Vector,
    WakeDaemon,
    pending,
)


@invariant(at=On.TASK)
def raised_is_owed(s: Cpu) -> bool:
    """While a task runs, a raised softirq is owed by its local_bh_enable or by ksoftirqd: none is lost."""
    return not pending(s) or s.bh > 0 or s.daemon


@invariant(at=On.SOFTIRQ)
def not_over_disabled(s: Cpu) -> bool:
    """A softirq never runs over a task that has disabled bottom halves."""
    return s.bh == 0 and not s.over


@invariant(at=On.HARDIRQ)
def interrupted_is_known(s: Cpu) -> bool:
    """A hard interrupt over a softirq knows so, and only then rounds are left."""
    return s.over == (s.restarts > 0)


@invariant(at=(On.TASK,))
def nothing_half_done(s: Cpu) -> bool:
    """A round's softirqs are all run before a task goes on."""
    return not (s.todo_timer or s.todo_tx or s.todo_rx or s.over or s.by_daemon) and s.restarts == 0


@invariant(at=(On.HARDIRQ,))
def rounds_only_over_softirq(s: Cpu) -> bool:
    """Over a task, no round is half done; over a softirq, the task has bottom halves enabled."""
    return s.bh == 0 if s.over else not (s.todo_timer or s.todo_tx or s.todo_rx or s.by_daemon)


@invariant(at=(On.SOFTIRQ,))
def rounds_are_limited(s: Cpu) -> bool:
    """handle_softirqs runs at most ten rounds."""
    return 1 <= s.restarts <= MAX_SOFTIRQ_RESTART


@invariant()
def timers_are_first(s: Cpu) -> bool:
    """Timers are the first of a round, so they are never what is left of it."""
    return not s.todo_timer


@invariant()
def daemon_is_awake(s: Cpu) -> bool:
    """ksoftirqd is awake while it runs softirqs."""
    return s.daemon or not s.by_daemon


@transition(Raise)
def raise_is_kept(s: Cpu, e: Raise, t: Cpu) -> bool:
    """What is raised is pending, and nothing else is forgotten."""
    return (
        (t.timer or e.vector != Vector.TIMER)
        and (t.tx or e.vector != Vector.NET_TX)
        and (t.rx or e.vector != Vector.NET_RX)
        and (t.timer or not s.timer)
        and (t.tx or not s.tx)
        and (t.rx or not s.rx)
    )


@transition(BhEnable, InterruptEnds, ActionDone)
def taken_is_run(s: Cpu, e: BhEnable | InterruptEnds | ActionDone, t: Cpu, effects: tuple[Effect, ...]) -> bool:
    """A raised softirq stays raised, is yet to run, or runs now."""
    runs_timer = any(x.vector == Vector.TIMER for x in effects if isinstance(x, RunAction))
    runs_tx = any(x.vector == Vector.NET_TX for x in effects if isinstance(x, RunAction))
    runs_rx = any(x.vector == Vector.NET_RX for x in effects if isinstance(x, RunAction))
    return (
        (not (s.timer or s.todo_timer) or t.timer or t.todo_timer or runs_timer)
        and (not (s.tx or s.todo_tx) or t.tx or t.todo_tx or runs_tx)
        and (not (s.rx or s.todo_rx) or t.rx or t.todo_rx or runs_rx)
    )


@transition(ActionDone)
def in_order(s: Cpu, e: ActionDone, t: Cpu, effects: tuple[Effect, ...]) -> bool:
    """Within a round timers run before NET_TX, and that before NET_RX."""
    return all(
        (not t.todo_timer or x.vector < Vector.TIMER) and (not t.todo_tx or x.vector < Vector.NET_TX)
        for x in effects
        if isinstance(x, RunAction)
    )


@transition(Interrupt)
def hard_interrupt_comes_at_once(s: Cpu, e: Interrupt, t: Cpu) -> bool:
    """A hard interrupt interrupts a softirq as it does a task."""
    return t.on == On.HARDIRQ


@transition(ActionDone)
def wakes_before_leaving(s: Cpu, e: ActionDone, t: Cpu, effects: tuple[Effect, ...]) -> bool:
    """Who leaves a raised softirq to ksoftirqd wakes it."""
    return t.on != On.TASK or not pending(t) or any(isinstance(x, WakeDaemon) for x in effects)
