"""Execution contexts: who runs a function, and what runs next.

The law: on each processor a hard interrupt goes before a softirq, that before a task. Hand-overs are raise_softirq,
local_bh_enable, irq_exit, wake_up_process, queue_work and an interrupt to another processor. Everything happens in one
thread and in one order: whoever drives the host lets the other processors and the kernel's threads run by `settle`.
What may happen is decided by the rules of refmodel.softirq.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from refmodel.rule import cited
from refmodel.softirq import (
    MAX_SOFTIRQ_RESTART,
    Exit,
    Left,
    Vector,
    leaves,
    left,
)

MAX_SOFTIRQ_MS: Final = 2
Work = Callable[[], None]


class Clock(Protocol):
    """What contexts ask of the host: the tick, the version, and where decisions are told."""

    hz: int

    @property
    def jiffies(self) -> int:
        """The tick that it is."""

    @property
    def kernel(self) -> int:
        """The version as an integer: 612."""

    def note(self, fn: str, detail: str = "") -> None:
        """Tells a decision and its reason."""


class Nested(RuntimeError):
    """A context was entered or left where the kernel would not: a fault of whoever drives the host."""


class Task:
    """A kernel thread or work item: `name` as in ps, `todo` what it runs when it is woken."""

    def __init__(self, name: str, todo: Work) -> None:
        self.name = name
        self.todo = todo
        self.woken = False


class Processor:
    """One processor.

    `stack`: the contexts that are entered, the task at the bottom. `pending`: the raised softirqs. `bh`: how often the
    task disabled bottom halves; `hardirqs`, `softirqs`: how many of those the stack holds. `ipis`: functions that other
    processors ask it to run.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.stack: list[str] = []
        self.pending: set[Vector] = set()
        self.bh = 0
        self.hardirqs = 0
        self.softirqs = 0
        self.ipis: deque[tuple[str, Work]] = deque()
        self.need_resched = False


class Contexts:
    """The contexts of a host with `cpus` processors.

    `actions` are the softirqs' (open_softirq). `cpu` is the processor that runs now. A task that runs outside of any
    other is the process named by `run`, or "process".
    """

    def __init__(self, clock: Clock, cpus: int = 1) -> None:
        self.clock = clock
        self.cpus = [Processor(i) for i in range(cpus)]
        self.cpu = self.cpus[0]
        self.actions: dict[Vector, Work] = {}
        self.tasks: list[Task] = []
        self.daemons = [Task(f"ksoftirqd/{i}", lambda i=i: self.run_ksoftirqd(i)) for i in range(cpus)]  # type: ignore[misc]
        self.worker: deque[tuple[str, Work]] = deque()

    # ---------------------------------------------------------------------------------------------- what runs now

    @property
    def context(self) -> str:
        """The context that runs: "process", "irq e1000e", "softirq NET_RX", "ksoftirqd/0", "kworker"..."""
        return self.cpu.stack[-1] if self.cpu.stack else "process"

    @property
    def where(self) -> str:
        """The whole stack, the task first: "process > softirq NET_RX"."""
        return " > ".join(self.cpu.stack or ["process"])

    def in_hardirq(self) -> bool:
        """A hard interrupt's handler runs."""
        return self.cpu.hardirqs > 0

    def in_serving_softirq(self) -> bool:
        """A softirq's action runs, perhaps interrupted."""
        return self.cpu.softirqs > 0

    def in_interrupt(self) -> bool:
        """A hard interrupt or a softirq runs, or the task has bottom halves disabled."""
        return self.cpu.hardirqs > 0 or self.cpu.softirqs > 0 or self.cpu.bh > 0

    def on(self, number: int, name: str, work: Work) -> None:
        """Runs `work` as the task `name` of processor `number`, then comes back to this one."""
        before = self.cpu
        self.cpu = self.cpus[number]
        if self.cpu.hardirqs or self.cpu.softirqs:
            raise Nested(f"{name} would run over {self.where}")
        self.cpu.stack.append(name)
        work()
        self.cpu.stack.pop()
        self.cpu = before

    # -------------------------------------------------------------------------------------------------- softirqs

    def open_softirq(self, vector: Vector, action: Work) -> None:
        """Says what a softirq does; source kernel/softirq.c:open_softirq."""
        self.actions[vector] = action

    @cited("kernel/softirq.c:raise_softirq_irqoff")
    def raise_softirq(self, vector: Vector) -> None:
        """Raises a softirq; from a task with bottom halves enabled ksoftirqd is woken, since nobody else would look."""
        self.cpu.pending.add(vector)
        if self.in_interrupt():
            self.clock.note("raise_softirq_irqoff", f"{vector.name}: runs when {self.context} is through")
        else:
            self.clock.note("raise_softirq_irqoff", f"{vector.name}: no interrupt to return from")
            self.wakeup_softirqd()

    @cited("kernel/softirq.c:__raise_softirq_irqoff")
    def raise_softirq_quietly(self, vector: Vector) -> None:
        """Raises a softirq where the caller knows that someone will look."""
        self.cpu.pending.add(vector)

    @cited("kernel/softirq.c:wakeup_softirqd")
    def wakeup_softirqd(self) -> None:
        """ksoftirqd shall run what is raised, when the scheduler lets it."""
        self.clock.note("wakeup_softirqd", f"ksoftirqd/{self.cpu.number}")
        self.daemons[self.cpu.number].woken = True

    @cited("include/linux/bottom_half.h:local_bh_disable")
    def local_bh_disable(self) -> None:
        """No softirq runs on this processor until local_bh_enable."""
        self.cpu.bh += 1

    @cited("kernel/softirq.c:__local_bh_enable_ip")
    def local_bh_enable(self) -> None:
        """Runs what was raised meanwhile, unless this is an inner enable or an interrupt."""
        if self.cpu.bh == 0:
            raise Nested("local_bh_enable without local_bh_disable")
        if self.in_hardirq():
            raise Nested("local_bh_enable in a hard interrupt")
        self.cpu.bh -= 1
        if not self.in_interrupt() and self.cpu.pending:
            self.clock.note("__local_bh_enable_ip", "softirqs are pending: they run in this task's context")
            self.do_softirq()

    @cited("kernel/softirq.c:do_softirq")
    def do_softirq(self) -> None:
        """Runs what is raised, here and now, unless 6.1's ksoftirqd is at it."""
        if self.in_interrupt() or not self.cpu.pending or self.ksoftirqd_running():
            return
        self.handle_softirqs()

    def ksoftirqd_running(self) -> bool:
        """6.1 leaves softirqs to ksoftirqd once that is awake, but for HI and TASKLET."""
        urgent = self.cpu.pending & {Vector.HI, Vector.TASKLET}
        return self.clock.kernel < 612 and not urgent and self.daemons[self.cpu.number].woken

    @cited("kernel/softirq.c:handle_softirqs")
    def handle_softirqs(self) -> None:
        """Rounds of what is raised, lowest number first, until nothing is, 2 ms have passed, or ten rounds are done."""
        cpu = self.cpu
        end = self.clock.jiffies + -(-MAX_SOFTIRQ_MS * self.clock.hz // 1000)
        restarts = MAX_SOFTIRQ_RESTART
        while True:
            todo, cpu.pending = sorted(cpu.pending), set()
            for vector in todo:
                cpu.stack.append(f"softirq {vector.name}")
                cpu.softirqs += 1
                self.clock.note("handle_softirqs", vector.name)
                if vector in self.actions:
                    self.actions[vector]()
                cpu.softirqs -= 1
                cpu.stack.pop()
            time_up = self.clock.jiffies >= end
            then = left(bool(cpu.pending), False, restarts, time_up, cpu.need_resched)
            if then == Left.DONE:
                return
            if then == Left.HAND_OVER:
                why = "2 ms are over" if time_up else "a task waits" if cpu.need_resched else "ten rounds were enough"
                self.clock.note("handle_softirqs", f"more was raised, but {why}")
                self.wakeup_softirqd()
                return
            restarts -= 1
            self.clock.note("handle_softirqs", f"more was raised: {restarts} rounds left")

    @cited("kernel/softirq.c:run_ksoftirqd")
    def run_ksoftirqd(self, number: int) -> None:
        """ksoftirqd runs what is raised, as a task that the scheduler may put behind others."""
        self.daemons[number].woken = False
        if self.cpu.pending:
            self.handle_softirqs()

    # ------------------------------------------------------------------------------------------- hard interrupts

    def hardirq(self, name: str, handler: Work) -> None:
        """An interrupt comes in on this processor: irq_enter, its handler, irq_exit."""
        self.irq_enter(name)
        handler()
        self.irq_exit()

    @cited("kernel/softirq.c:irq_enter")
    def irq_enter(self, name: str) -> None:
        """A hard interrupt interrupts whatever runs, but no other hard interrupt."""
        if self.cpu.hardirqs:
            raise Nested(f"interrupt {name} over {self.where}")
        self.cpu.stack.append(f"irq {name}")
        self.cpu.hardirqs += 1
        self.clock.note("irq_enter", name)

    @cited("kernel/softirq.c:irq_exit", "kernel/softirq.c:__irq_exit_rcu")
    def irq_exit(self) -> None:
        """The handler is done: what it raised runs now, unless a softirq was interrupted or bottom halves are off."""
        cpu = self.cpu
        cpu.hardirqs -= 1
        cpu.stack.pop()
        then = leaves(cpu.softirqs > 0, cpu.bh, bool(cpu.pending), self.ksoftirqd_running())
        if then == Exit.RUN:
            self.invoke_softirq()
        elif cpu.pending:
            self.clock.note("irq_exit", f"softirqs wait: {self.context} goes on")

    @cited("kernel/softirq.c:invoke_softirq")
    def invoke_softirq(self) -> None:
        """What the handler raised runs before the interrupted task goes on."""
        self.clock.note("invoke_softirq", f"over {self.context}")
        self.handle_softirqs()

    @cited("kernel/smp.c:smp_call_function_single_async")
    def smp_call_function(self, number: int, name: str, function: Work) -> None:
        """Asks another processor by an interrupt to run a function."""
        self.clock.note("smp_call_function_single_async", f"{name} on processor {number}")
        self.cpus[number].ipis.append((name, function))

    @cited("kernel/time/timer.c:update_process_times", "kernel/time/timer.c:run_local_timers")
    def tick(self, due: Work) -> None:
        """The tick's interrupt raises TIMER_SOFTIRQ, whose action runs the timers that are due: `due`."""
        self.open_softirq(Vector.TIMER, due)
        self.hardirq("timer", lambda: self.raise_softirq(Vector.TIMER))

    @cited("kernel/time/hrtimer.c:hrtimer_interrupt", "kernel/time/hrtimer.c:hrtimer_run_softirq")
    def hrtimer(self, due: Work, soft: bool = False) -> None:
        """A high resolution timer fires in its interrupt, or with `soft` in HRTIMER_SOFTIRQ behind it."""
        if not soft:
            self.hardirq("hrtimer", due)
            return
        self.open_softirq(Vector.HRTIMER, due)
        self.hardirq("hrtimer", lambda: self.raise_softirq(Vector.HRTIMER))

    # -------------------------------------------------------------------------------------------- tasks of the kernel

    @cited("kernel/kthread.c:kthread_create_on_node")
    def kthread(self, name: str, todo: Work) -> Task:
        """A kernel thread that runs `todo` whenever it is woken."""
        task = Task(name, todo)
        self.tasks.append(task)
        return task

    @cited("kernel/sched/core.c:wake_up_process")
    def wake_up_process(self, task: Task) -> None:
        """A thread is to run when the scheduler lets it."""
        self.clock.note("wake_up_process", task.name)
        task.woken = True

    @cited("kernel/workqueue.c:queue_work_on")
    def queue_work(self, name: str, work: Work) -> None:
        """A worker thread is to run `work` in process context, after what was queued before."""
        self.clock.note("queue_work_on", name)
        self.worker.append((name, work))

    def settle(self, limit: int = 100_000) -> None:
        """Lets interrupts of other processors, ksoftirqd, workers and threads run until nobody wants to.

        Raises Nested inside of any context, RuntimeError if that takes more than `limit` turns.
        """
        if self.cpu.hardirqs or self.cpu.softirqs or self.cpu.bh:
            raise Nested(f"settle in {self.where}")
        for _ in range(limit):
            if not self._turn():
                return
        raise RuntimeError(f"after {limit} turns someone still wants to run")

    def _turn(self) -> bool:
        for cpu in self.cpus:
            if cpu.ipis:
                name, function = cpu.ipis.popleft()
                before, self.cpu = self.cpu, cpu
                self.hardirq(name, function)
                self.cpu = before
                return True
        for i, daemon in enumerate(self.daemons):
            if daemon.woken:
                self.on(i, daemon.name, daemon.todo)
                return True
        if self.worker:
            name, work = self.worker.popleft()
            self.on(self.cpu.number, f"kworker {name}", work)
            return True
        for task in self.tasks:
            if task.woken:
                task.woken = False
                self.on(self.cpu.number, task.name, task.todo)
                return True
        return False
