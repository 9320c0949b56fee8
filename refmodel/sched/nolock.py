"""The lockless discipline's protocol: MISSED, DRAINING and SCHED between two processors, the softirq and the driver.

Two processors send, run and take turns at the sequence lock; every step here is one atomic access of the kernel, so
that whatever the other processor does may come in between. The law that all of it serves: a packet never waits while
nobody is going to look for it.
"""

from enum import IntEnum
from typing import Annotated, Final

from msgspec.structs import replace

from refmodel.rule import Effect, Event, Machine, Params, State, assume, machine, pure, require, rule
from refmodel.types import Range

MANY: Final = 1 << 20

Packets = Annotated[int, Range(0, MANY)]


class Pc(IntEnum):
    """Where a processor is; from RETEST to UNLOCK it holds the lock."""

    IDLE = 0
    BYPASS = 1  # saw an empty discipline; trylock next
    ENQUEUE = 2
    TRY = 3  # first trylock of qdisc_run_begin
    SET_MISSED = 4
    TRY_AGAIN = 5
    RETEST = 6  # looks once more, under the lock, whether the discipline is empty
    ENQUEUE_HELD = 7
    DEQUEUE = 8
    RETRY = 9  # MISSED and DRAINING are cleared; looks into the rings once more
    XMIT = 10
    STOPPED = 11  # met a stopped queue before it took anything: MISSED is cleared, looks at the queue again
    STOPPED_XMIT = 12  # the same with a packet in its hands
    REQUEUE = 13
    REQUEUED = 14
    UNLOCK = 15
    AFTER = 16  # the lock is given back; looks for MISSED
    BYPASS_MISSED = 17  # wanted to bypass, but the lock was taken
    BYPASS_AGAIN = 18


HELD: Final = (
    Pc.RETEST, Pc.ENQUEUE_HELD, Pc.DEQUEUE, Pc.RETRY, Pc.XMIT, Pc.STOPPED, Pc.STOPPED_XMIT, Pc.REQUEUE, Pc.REQUEUED,
    Pc.UNLOCK,
)  # fmt: skip
HAND: Final = (Pc.XMIT, Pc.STOPPED_XMIT, Pc.REQUEUE)
# Who is there will look into the queue, or set MISSED, or leave DRAINING with a queue that is stopped.
LOOKS: Final = (
    Pc.ENQUEUE_HELD, Pc.DEQUEUE, Pc.RETRY, Pc.STOPPED, Pc.STOPPED_XMIT, Pc.REQUEUE, Pc.REQUEUED,
)  # fmt: skip
COMES: Final = (Pc.ENQUEUE, Pc.TRY, Pc.SET_MISSED)
# Who is there goes past the rings only if the bits say that nothing waits, and looks into them otherwise.
BYPASSES: Final = (Pc.BYPASS, Pc.BYPASS_MISSED, Pc.BYPASS_AGAIN)


class NolockParams(Params, frozen=True):
    """Nothing can be tuned."""


class Nolock(State, frozen=True):
    """A lockless discipline and everybody at it.

    `a`, `b`: the two processors. `bypass`: whoever holds the lock sends its own packet past the rings. `queued` packets
    are in the rings, `back` came back from the driver. `stopped`: the transmit queue is. `waking`: the driver has
    started it again and is about to schedule the discipline.
    """

    a: Pc = Pc.IDLE
    b: Pc = Pc.IDLE
    locked: bool = False
    bypass: bool = False
    missed: bool = False
    draining: bool = False
    sched: bool = False
    stopped: bool = False
    waking: bool = False
    queued: Packets = 0
    back: Packets = 0


class Send(Event, frozen=True):
    """Processor a, or `b`, has a packet for the discipline."""

    b: bool = False


class NetTx(Event, frozen=True):
    """The NET_TX softirq runs on processor a, or `b`."""

    b: bool = False


class Step(Event, frozen=True):
    """Processor a, or `b`, takes its next step.

    `full`: the rings have no room. `busy`: the driver refuses. `stops`: it stops its queue, too. `quota`: the run has
    sent as many packets as it may.
    """

    b: bool = False
    full: bool = False
    busy: bool = False
    stops: bool = False
    quota: bool = False


class Wake(Event, frozen=True):
    """The driver has room again and clears its stop bit."""


class WakeStep(Event, frozen=True):
    """The driver goes on to schedule the discipline."""


class Sent(Effect, frozen=True):
    """The driver took a packet."""


class Dropped(Effect, frozen=True):
    """The rings were full."""


@pure
def after_missed_cleared(stopped: bool) -> bool:
    """MISSED is set again if the queue runs, else DRAINING; source qdisc_maybe_clear_missed."""
    return not stopped


@pure
def at(s: Nolock, b: bool) -> Pc:
    """Where the processor is."""
    return s.b if b else s.a


@pure
def other(s: Nolock, b: bool) -> Pc:
    """Where the other processor is."""
    return s.a if b else s.b


@pure
def moved(s: Nolock, b: bool, to: Pc) -> Nolock:
    """The processor goes on to `to`."""
    return replace(s, a=s.a if b else to, b=to if b else s.b)


@pure
def empty(s: Nolock) -> bool:
    """nolock_qdisc_is_empty: as far as the bits say."""
    return not s.missed and not s.draining


@pure
def work(s: Nolock) -> bool:
    """Packets wait."""
    return s.queued > 0 or s.back > 0


@pure
def anywhere(s: Nolock, where: tuple[Pc, ...]) -> bool:
    """One of the processors is there."""
    return s.a in where or s.b in where


Effects = tuple[Effect, ...]
DEV: Final = "net/core/dev.c:__dev_xmit_skb"


@rule(DEV)
def send_bypass(s: Nolock, e: Send, p: NolockParams) -> tuple[Nolock, Effects]:
    """Bits that say that nothing waits let a packet try to go past the rings."""
    require(empty(s), "neither MISSED nor DRAINING")
    return moved(s, e.b, Pc.BYPASS), ()


@rule(DEV)
def send_enqueue(s: Nolock, e: Send, p: NolockParams) -> tuple[Nolock, Effects]:
    """A discipline that is not empty gets the packet into its rings."""
    require(not empty(s), "MISSED or DRAINING")
    return moved(s, e.b, Pc.ENQUEUE), ()


@rule("net/core/dev.c:net_tx_action")
def net_tx(s: Nolock, e: NetTx, p: NolockParams) -> tuple[Nolock, Effects]:
    """The softirq clears SCHED first and runs the discipline then."""
    return replace(moved(s, e.b, Pc.TRY), sched=False), ()


@rule("net/core/dev.c:netif_tx_wake_queue")
def wake(s: Nolock, e: Wake, p: NolockParams) -> tuple[Nolock, Effects]:
    """A queue that was stopped runs again, and its discipline is to be scheduled."""
    return replace(s, stopped=False, waking=True), ()


@rule("net/core/dev.c:__netif_schedule")
def wake_schedules(s: Nolock, e: WakeStep, p: NolockParams) -> tuple[Nolock, Effects]:
    """Whoever wakes a queue schedules its discipline."""
    return replace(s, waking=False, sched=True), ()


@rule("include/net/sch_generic.h:qdisc_run_begin")
def bypass_try(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """For the bypass the lock is needed."""
    require(at(s, e.b) == Pc.BYPASS, "about to bypass")
    return replace(moved(s, e.b, Pc.BYPASS_MISSED if s.locked else Pc.RETEST), locked=True), ()


@rule("include/net/sch_generic.h:qdisc_run_begin")
def bypass_missed(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """Without the lock MISSED is set before the packet is in the rings: the holder runs for nothing, or not."""
    require(at(s, e.b) == Pc.BYPASS_MISSED, "no lock for the bypass")
    return replace(moved(s, e.b, Pc.ENQUEUE if s.missed else Pc.BYPASS_AGAIN), missed=True), ()


@rule("include/net/sch_generic.h:qdisc_run_begin")
def bypass_again(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The second trylock decides between the bypass and the rings."""
    require(at(s, e.b) == Pc.BYPASS_AGAIN, "second trylock of the bypass")
    return replace(moved(s, e.b, Pc.ENQUEUE if s.locked else Pc.RETEST), locked=True), ()


@rule(DEV)
def enqueue(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The packet enters the rings, or is dropped where they are full; then the discipline is run."""
    require(at(s, e.b) == Pc.ENQUEUE, "about to enqueue")
    if e.full:
        return moved(s, e.b, Pc.TRY), (Dropped(),)
    return replace(moved(s, e.b, Pc.TRY), queued=s.queued + 1), ()


@rule("include/net/sch_generic.h:qdisc_run_begin")
def try_lock(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The lock is tried."""
    require(at(s, e.b) == Pc.TRY, "first trylock")
    return replace(moved(s, e.b, Pc.SET_MISSED if s.locked else Pc.DEQUEUE), locked=True), ()


@rule("include/net/sch_generic.h:qdisc_run_begin")
def set_missed(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """MISSED is set for the holder; where it is set already, somebody else has seen to it."""
    require(at(s, e.b) == Pc.SET_MISSED, "the lock was taken")
    return replace(moved(s, e.b, Pc.IDLE if s.missed else Pc.TRY_AGAIN), missed=True), ()


@rule("include/net/sch_generic.h:qdisc_run_begin")
def try_again(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """After MISSED the lock is tried again: the holder may have looked for MISSED before."""
    require(at(s, e.b) == Pc.TRY_AGAIN, "second trylock")
    return replace(moved(s, e.b, Pc.IDLE if s.locked else Pc.DEQUEUE), locked=True), ()


@rule(DEV)
def retest(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """Under the lock the bits are read again: a packet that came back must not be overtaken."""
    require(at(s, e.b) == Pc.RETEST, "bypass, lock held")
    return replace(moved(s, e.b, Pc.XMIT if empty(s) else Pc.ENQUEUE_HELD), bypass=empty(s)), ()


@rule(DEV)
def enqueue_held(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The packet enters the rings under the lock, and the discipline is run."""
    require(at(s, e.b) == Pc.ENQUEUE_HELD, "lock held, not empty")
    if e.full:
        return moved(s, e.b, Pc.DEQUEUE), (Dropped(),)
    return replace(moved(s, e.b, Pc.DEQUEUE), queued=s.queued + 1), ()


@rule("net/sched/sch_generic.c:dequeue_skb", "net/sched/sch_generic.c:qdisc_maybe_clear_missed")
def dequeue_stopped(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """Before a stopped queue nothing is taken out, and MISSED is cleared."""
    require(at(s, e.b) == Pc.DEQUEUE, "the run's next packet")
    require(s.stopped, "the queue is stopped")
    return replace(moved(s, e.b, Pc.STOPPED), missed=False), ()


@rule("net/sched/sch_generic.c:dequeue_skb")
def dequeue_back(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """What came back from the driver is sent before the rings are looked at."""
    require(at(s, e.b) == Pc.DEQUEUE, "the run's next packet")
    require(not s.stopped, "the queue runs")
    require(s.back > 0, "a packet came back")
    return replace(moved(s, e.b, Pc.XMIT), back=s.back - 1), ()


@rule("net/sched/sch_generic.c:pfifo_fast_dequeue")
def dequeue_ring(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The rings give their first packet."""
    require(at(s, e.b) == Pc.DEQUEUE, "the run's next packet")
    require(not s.stopped, "the queue runs")
    require(s.back == 0, "no packet came back")
    require(s.queued > 0, "a packet in the rings")
    return replace(moved(s, e.b, Pc.XMIT), queued=s.queued - 1), ()


@rule("net/sched/sch_generic.c:pfifo_fast_dequeue")
def dequeue_nothing(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """Empty rings with a bit set: the bits are cleared, and the rings are looked at once more."""
    require(at(s, e.b) == Pc.DEQUEUE, "the run's next packet")
    require(not s.stopped, "the queue runs")
    require(s.back == 0, "no packet came back")
    require(s.queued == 0, "empty rings")
    return replace(moved(s, e.b, Pc.UNLOCK if empty(s) else Pc.RETRY), missed=False, draining=False), ()


@rule("net/sched/sch_generic.c:pfifo_fast_dequeue")
def retry(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The second look takes what was queued before the bits were cleared; what comes later sets MISSED anew."""
    require(at(s, e.b) == Pc.RETRY, "bits cleared")
    found = s.queued > 0
    return replace(
        moved(s, e.b, Pc.XMIT if found else Pc.UNLOCK), queued=s.queued - 1 if found else s.queued, bypass=False
    ), ()


@rule("net/sched/sch_generic.c:sch_direct_xmit", "net/sched/sch_generic.c:qdisc_maybe_clear_missed")
def xmit_stopped(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """A queue that was stopped meanwhile is not given the packet."""
    require(at(s, e.b) == Pc.XMIT, "a packet in hand")
    require(s.stopped, "the queue is stopped")
    return replace(moved(s, e.b, Pc.STOPPED_XMIT), missed=False, bypass=False), ()


@rule("net/sched/sch_generic.c:sch_direct_xmit")
def xmit_busy(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The driver refuses the packet."""
    require(at(s, e.b) == Pc.XMIT, "a packet in hand")
    require(not s.stopped, "the queue runs")
    require(e.busy, "NETDEV_TX_BUSY")
    return replace(moved(s, e.b, Pc.REQUEUE), stopped=e.stops, bypass=False), ()


@rule("net/sched/sch_generic.c:sch_direct_xmit", "net/sched/sch_generic.c:__qdisc_run")
def xmit_ok(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The driver takes the packet; the run goes on, but a bypass ends it if the bits say that nothing waits."""
    require(at(s, e.b) == Pc.XMIT, "a packet in hand")
    require(not s.stopped, "the queue runs")
    require(not e.busy, "NETDEV_TX_OK")
    ends = e.quota if not s.bypass else empty(s)
    missed = s.missed or (e.quota and not s.bypass)
    t = moved(s, e.b, Pc.UNLOCK if ends else Pc.DEQUEUE)
    return replace(t, stopped=e.stops, missed=missed, bypass=False), (Sent(),)


@rule("net/sched/sch_generic.c:qdisc_maybe_clear_missed")
def stopped_again(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """After MISSED was cleared the queue is looked at again: its wake-up may have set the MISSED just cleared."""
    require(at(s, e.b) in (Pc.STOPPED, Pc.STOPPED_XMIT), "MISSED cleared before a stopped queue")
    missed = after_missed_cleared(s.stopped)
    to = Pc.UNLOCK if at(s, e.b) == Pc.STOPPED else Pc.REQUEUE
    return replace(moved(s, e.b, to), missed=s.missed or missed, draining=s.draining or not missed), ()


@rule("net/sched/sch_generic.c:dev_requeue_skb")
def requeue(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The packet in hand is part of the queue again."""
    require(at(s, e.b) == Pc.REQUEUE, "the packet was refused")
    return replace(moved(s, e.b, Pc.REQUEUED), back=s.back + 1), ()


@rule("net/sched/sch_generic.c:dev_requeue_skb")
def requeued(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """MISSED is set when the packet is back, and not before."""
    require(at(s, e.b) == Pc.REQUEUED, "the packet is back")
    return replace(moved(s, e.b, Pc.UNLOCK), missed=True), ()


@rule("include/net/sch_generic.h:qdisc_run_end")
def unlock(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """The lock is given back before MISSED is looked for."""
    require(at(s, e.b) == Pc.UNLOCK, "the run is over")
    return replace(moved(s, e.b, Pc.AFTER), locked=False), ()


@rule("include/net/sch_generic.h:qdisc_run_end")
def after_unlock(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """MISSED has the discipline scheduled."""
    require(at(s, e.b) == Pc.AFTER, "the lock was given back")
    return replace(moved(s, e.b, Pc.IDLE), sched=s.sched or s.missed), ()


@rule("net/core/dev.c:__dev_xmit_skb")
def step_idle(s: Nolock, e: Step, p: NolockParams) -> tuple[Nolock, Effects]:
    """A processor that is elsewhere does nothing here."""
    require(at(s, e.b) == Pc.IDLE, "not at the discipline")
    return s, ()


@assume
def sender_is_free(s: Nolock, e: Send) -> bool:
    """A processor sends one packet at a time, and no more wait than can be counted."""
    return at(s, e.b) == Pc.IDLE and s.queued + 4 < MANY and s.back + 4 < MANY


@assume
def rings_have_an_end(s: Nolock, e: Step) -> bool:
    """No more packets wait than can be counted."""
    return s.queued + 1 < MANY and s.back + 1 < MANY


@assume
def softirq_has_work(s: Nolock, e: NetTx) -> bool:
    """The softirq runs a discipline only if it is scheduled, on a processor that is free."""
    return s.sched and at(s, e.b) == Pc.IDLE


@assume
def wakes_stopped(s: Nolock, e: Wake) -> bool:
    """Only a stopped queue is woken, by one processor."""
    return s.stopped and not s.waking


@assume
def goes_on_waking(s: Nolock, e: WakeStep) -> bool:
    """Who schedules has cleared the stop bit before."""
    return s.waking


NOLOCK: Final = machine(
    Machine(
        name="qdisc_nolock",
        title="A lockless discipline between two processors",
        accepts={Nolock: (Send, Step, NetTx, Wake, WakeStep)},
        params=NolockParams,
        modules=("refmodel.sched.nolock", "refmodel.sched.nolock_properties"),
    )
)
