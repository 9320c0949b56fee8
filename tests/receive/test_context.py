"""Contexts: what runs over what, in which order, and who takes over when there is too much."""

from collections.abc import Callable

import pytest

from refmodel.context import Contexts, Nested
from refmodel.softirq import Vector
from tests.bare import Bare


def fresh(cpus: int = 1, kernel: int = 612) -> tuple[Bare, Contexts, list[str]]:
    clock = Bare()
    clock.kernel = kernel
    c = Contexts(clock, cpus)
    ran: list[str] = []
    for v in Vector:
        c.open_softirq(v, lambda v=v: ran.append(f"{v.name} in {c.where}"))  # type: ignore[misc]
    return clock, c, ran


def test_softirqs_run_lowest_number_first_when_bottom_halves_are_enabled() -> None:
    _, c, ran = fresh()
    c.local_bh_disable()
    for v in (Vector.RCU, Vector.NET_RX, Vector.NET_TX, Vector.TIMER, Vector.HI):
        c.raise_softirq(v)
    assert ran == []
    c.local_bh_enable()
    assert [x.split()[0] for x in ran] == ["HI", "TIMER", "NET_TX", "NET_RX", "RCU"]


def test_an_inner_enable_runs_nothing() -> None:
    _, c, ran = fresh()
    c.local_bh_disable()
    c.local_bh_disable()
    c.raise_softirq(Vector.NET_RX)
    c.local_bh_enable()
    assert ran == []
    c.local_bh_enable()
    assert len(ran) == 1


def test_a_hard_interrupt_runs_its_softirq_over_the_task_on_the_way_out() -> None:
    _, c, ran = fresh()
    c.on(0, "process", lambda: c.hardirq("eth0", lambda: c.raise_softirq(Vector.NET_RX)))
    assert ran == ["NET_RX in process > softirq NET_RX"]


def test_a_hard_interrupt_over_a_softirq_leaves_its_softirq_to_the_next_round() -> None:
    _, c, _ = fresh()
    order: list[str] = []

    def handler() -> None:
        order.append(c.where)
        c.raise_softirq(Vector.NET_RX)

    def rx() -> None:
        order.append("rx begins")
        if len(order) == 1:
            c.hardirq("eth0", handler)
        order.append("rx ends")

    c.open_softirq(Vector.NET_RX, rx)
    c.hardirq("eth0", lambda: c.raise_softirq(Vector.NET_RX))
    assert order == ["rx begins", "softirq NET_RX > irq eth0", "rx ends", "rx begins", "rx ends"]


def test_a_task_that_raises_leaves_it_to_ksoftirqd() -> None:
    _, c, ran = fresh()
    c.raise_softirq(Vector.NET_TX)
    assert ran == []
    c.settle()
    assert ran == ["NET_TX in ksoftirqd/0 > softirq NET_TX"]


def test_after_ten_rounds_ksoftirqd_takes_over() -> None:
    _, c, _ = fresh()
    where: list[str] = []

    def again() -> None:
        where.append(c.cpu.stack[0])
        if len(where) < 15:
            c.raise_softirq(Vector.NET_RX)

    c.open_softirq(Vector.NET_RX, again)
    c.on(0, "process", lambda: c.hardirq("eth0", lambda: c.raise_softirq(Vector.NET_RX)))
    assert where == ["process"] * 10
    c.settle()
    assert where == ["process"] * 10 + ["ksoftirqd/0"] * 5


def test_after_two_milliseconds_ksoftirqd_takes_over() -> None:
    clock, c, _ = fresh()
    rounds: list[int] = []

    def slow() -> None:
        rounds.append(clock.now)
        clock.now += 4000
        if len(rounds) < 3:
            c.raise_softirq(Vector.NET_RX)

    c.open_softirq(Vector.NET_RX, slow)
    c.hardirq("eth0", lambda: c.raise_softirq(Vector.NET_RX))
    assert len(rounds) == 1
    assert c.daemons[0].woken


def test_6_1_leaves_everything_to_ksoftirqd_once_it_is_awake() -> None:
    for kernel, now in ((601, 0), (612, 2)):
        _, c, ran = fresh(kernel=kernel)
        c.raise_softirq(Vector.NET_TX)
        c.hardirq("eth0", lambda c=c: c.raise_softirq(Vector.NET_RX))  # type: ignore[misc]
        assert len(ran) == now
        c.settle()
        assert len(ran) == 2


def test_timers_run_in_their_softirq_behind_the_tick() -> None:
    _, c, _ = fresh()
    where: list[str] = []
    c.tick(lambda: where.append(c.where))
    c.hrtimer(lambda: where.append(c.where))
    c.hrtimer(lambda: where.append(c.where), soft=True)
    assert where == ["softirq TIMER", "irq hrtimer", "softirq HRTIMER"]


def test_work_runs_in_process_context_later_and_in_order() -> None:
    _, c, _ = fresh()
    where: list[str] = []
    c.queue_work("a", lambda: where.append(c.where))
    c.queue_work("b", lambda: where.append(c.where))
    assert where == []
    c.settle()
    assert where == ["kworker a", "kworker b"]


def test_another_processor_is_interrupted() -> None:
    _, c, ran = fresh(cpus=2)
    c.smp_call_function(1, "kick", lambda: c.raise_softirq(Vector.NET_RX))
    c.settle()
    assert ran == ["NET_RX in softirq NET_RX"]
    assert c.cpu.number == 0


@pytest.mark.parametrize("wrong", ["irq over irq", "enable too often", "settle in a softirq", "task over irq"])
def test_what_the_kernel_would_not_do_is_refused(wrong: str) -> None:
    _, c, _ = fresh()
    acts: dict[str, Callable[[], None]] = {
        "irq over irq": lambda: c.hardirq("a", lambda: c.hardirq("b", lambda: None)),
        "enable too often": c.local_bh_enable,
        "settle in a softirq": lambda: c.hardirq("a", c.settle),
        "task over irq": lambda: c.hardirq("a", lambda: c.on(0, "task", lambda: None)),
    }
    with pytest.raises(Nested):
        acts[wrong]()
