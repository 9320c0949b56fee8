"""Systems for the search: a driver's rings, its interrupt and the softirq, each with the device and the processors.

Rings are searched at their smallest. Where a ring stands on the circle makes no difference to its rules (but for
e1000e's batches of sixteen), so a state is turned until the cleaner's position is the first slot.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from refmodel.engine.explore_system import Budget, Moves, System, machine_component, same
from refmodel.nic import napi, rx, tx, vector
from refmodel.nic.drivers import DRIVERS
from refmodel.nic.napi import NAPI, DeviceWork, DriverStep, Napi, NapiParams, Poll
from refmodel.nic.ring import COUNT_MIN, dist
from refmodel.nic.rx import NIC_RX, RX_BUFFER_WRITE, Rx, RxRing
from refmodel.nic.tx import NIC_TX, Clean, TxRing, Xmit
from refmodel.nic.vector import NIC_VECTOR, Vector
from refmodel.profile import REFERENCE, version_number
from refmodel.rule import Event, Machine, Params

Offers = Iterable[tuple[Event, Budget]]

TX_CAN_SEND: Final = "ring.xmit == IDLE and not ring.stopped"
TX_SENT: Final = "ring.packets == 0 and ring.xmit == IDLE"
RX_READ: Final = "ring.rx == Rx.IDLE and ring.next_to_clean == ring.head"
NAPI_IDLE: Final = "napi.pending == 0 and not napi.sched and not napi.masked and not napi.in_action"
VECTOR_IDLE: Final = "not vector.pending and not vector.masked"


def alone(
    name: str, what: str, m: Machine, start: Any, p: Params, moves: Moves, budget: Budget, turn: Any, about: str
) -> System:
    """A system of one machine and its environment, whose bound `about` tells."""
    kernel = getattr(p, "kernel", 0)
    release = REFERENCE if not kernel else f"{kernel // 100}.{kernel % 100}"
    part = machine_component(what, m, start, p, moves=moves, budget=budget, canonical=turn, kernel=release)
    return System(name=name, components=(part,), sources=(__name__,), about=about)


# ---------------------------------------------------------------- the transmit ring


def turned_tx(count: int) -> Callable[[Any], Any]:
    """Turns a transmit ring so that next_to_clean is slot 0."""

    def turn(s: TxRing) -> TxRing:
        at = s.next_to_clean
        return replace(
            s,
            next_to_use=dist(at, s.next_to_use, count),
            tail=dist(at, s.tail, count),
            head=dist(at, s.head, count),
            done=dist(at, s.done, count),
            clean_seen=dist(at, s.clean_seen, count),
            next_to_clean=0,
        )

    return turn


def tx_ring(
    *, driver: str = "igb", descriptors: int = 17, batches: bool = True, link: bool = False, hangs: bool = False
) -> System:
    """A transmit ring of 64 slots and packets of one size, the sender and the cleaner on two processors.

    `batches`: the stack promises more packets now and then (xmit_more), so that a doorbell may be put off. `link`: the
    link may go and come. `hangs`: the watchdog looks for hangs, and a reset mends them.
    """
    p = replace(DRIVERS[driver].tx, count=COUNT_MIN)

    def moves(s: TxRing, budget: Budget) -> Offers:
        if s.xmit == Xmit.IDLE:
            for more in (False, True) if batches else (False,):
                yield tx.Send(data=descriptors, more=more), budget
            yield tx.Send(data=descriptors, drop=True), budget
        else:
            yield tx.SendStep(), budget
        if dist(s.head, s.tail, p.count) >= descriptors:
            yield tx.DeviceFetched(n=descriptors), budget
        if dist(s.done, s.head, p.count) >= descriptors:
            yield tx.DeviceWroteBack(n=descriptors), budget
        if s.clean == Clean.IDLE:
            yield tx.PollTx(), budget
        else:
            yield tx.CleanStep(n=descriptors), budget
        yield tx.Drained(), budget
        if link:
            yield tx.LinkChanged(up=not s.carrier), budget
        if hangs:
            yield tx.Watchdog(), budget
            yield tx.Reset(), budget
            if s.clean == Clean.WALK:
                yield tx.CleanStep(n=descriptors, overdue=True), budget

    about = f"{p.count} slots, packets of {descriptors} descriptors"
    about += f", doorbells put off: {batches}, link changes: {link}, hangs and resets: {hangs}"
    return alone(f"{driver}'s transmit ring", "ring", NIC_TX, TxRing(), p, moves, (), turned_tx(p.count), about)


# ---------------------------------------------------------------- the receive ring


def turned_rx(count: int, whole: int) -> Callable[[Any], Any]:
    """Turns a receive ring by multiples of `whole` so that next_to_clean is among the first slots."""

    def turn(s: RxRing) -> RxRing:
        at = s.next_to_clean // whole * whole
        return replace(
            s,
            next_to_use=dist(at, s.next_to_use, count),
            tail=dist(at, s.tail, count),
            head=dist(at, s.head, count),
            next_to_clean=s.next_to_clean - at,
        )

    return turn


def rx_ring(*, driver: str = "igb", frames: int = 6, failures: int = 1, weight: int = 2) -> System:
    """A receive ring of 64 slots that gets `frames` buffers' worth while `failures` allocations fail."""
    p = replace(DRIVERS[driver].rx, count=COUNT_MIN)

    def moves(s: RxRing, budget: Budget) -> Offers:
        left, fails = budget
        if s.rx == Rx.IDLE:
            if s.next_to_use == s.next_to_clean:
                yield rx.Configure(), budget
                return
            yield rx.PollRx(budget=weight), budget
        elif s.rx == Rx.CLEAN:
            last = s.frames == dist(s.next_to_clean, s.head, p.count)
            yield rx.RxStep(eop=True), budget
            if not last:
                yield rx.RxStep(eop=False), budget
            if fails:
                yield rx.RxStep(no_skb=True), (left, fails - 1)
        else:
            yield rx.RxStep(), budget
            if fails:
                yield rx.RxStep(ok=False), (left, fails - 1)
        if left and not s.starting:
            for eop in (True, False):
                yield rx.DeviceReceived(eop=eop), (left - 1, fails)

    turn = turned_rx(p.count, RX_BUFFER_WRITE if p.tail_in_batches else 1)
    about = f"{p.count} slots, polls of {weight}, the budget is (buffers received, failed allocations)"
    return alone(f"{driver}'s receive ring", "ring", NIC_RX, RxRing(), p, moves, (frames, failures), turn, about)


# ---------------------------------------------------------------- interrupt, NAPI, softirq


def interrupts(
    *, driver: str = "igb", kernel: str = REFERENCE, pending: int = 3, defer: int = 0, down: bool = True
) -> System:
    """One NAPI instance with a weight of 2 and a budget of 4, and at most `pending` pieces of work that wait.

    `defer`: napi_defer_hard_irqs, with a flush timeout. `down`: the driver may go down and come up.
    """
    p: NapiParams = replace(
        DRIVERS[driver].napi,
        kernel=version_number(kernel),
        weight=2,
        netdev_budget=4,
        defer_hard_irqs=defer,
        gro_flush_timeout=20_000 if defer else 0,
    )

    def moves(s: Napi, budget: Budget) -> Offers:
        if s.pending < pending:
            yield DeviceWork(), budget
        if s.cause and not s.masked:
            yield napi.Interrupt(), budget
        if s.timer:
            yield napi.WatchdogTimer(), budget
        yield napi.Schedule(), budget
        if s.softirq and not s.in_action:
            yield napi.Softirq(), budget
        if s.in_action and s.poll in (Poll.OUT, Poll.RETURNED):
            for time_up in (False, True):
                for others in (False, True):
                    yield napi.NetRxStep(time_up=time_up, others=others), budget
            if s.poll == Poll.OUT:
                yield napi.PollOther(work=1), budget
        if s.poll == Poll.DRIVER:
            yield DriverStep(work=min(s.pending, p.weight)), budget
            yield DriverStep(work=0, tx_left=True), budget
        elif s.poll in (Poll.EMPTY, Poll.COMPLETED):
            for gro in (False, True):
                yield DriverStep(gro=gro), budget
        if down:
            if not s.npsvc:
                yield napi.Disable(), budget
            elif s.poll == Poll.OUT:
                yield napi.Enable(), budget

    about = f"at most {pending} pieces of work wait, down and up: {down}"
    return alone(f"{driver}'s interrupt and NAPI, kernel {kernel}", "napi", NAPI, Napi(), p, moves, (), same, about)


def vectors(*, other: bool = False) -> System:
    """One of e1000e's vectors without NAPI: transmit's, or the one for link and errors."""
    p = DRIVERS["e1000e"].vectors[1 if other else 0]

    def moves(s: Vector, budget: Budget) -> Offers:
        yield vector.Happened(), budget
        yield vector.VectorInterrupt(), budget
        for complete in (False, True):
            for stolen in (0, vector.E1000_IMS_TXQ0):
                yield vector.HandlerEnds(complete=complete, stolen=stolen), budget
        yield vector.GoesDown(), budget
        yield vector.ComesUp(), budget

    return alone("e1000e's vector", "vector", NIC_VECTOR, Vector(), p, moves, (), same, "")
