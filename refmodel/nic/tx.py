"""The transmit ring: what the driver fills, the device sends, the cleaner frees, and how the queue stops and wakes.

Five positions part the circle; every slot belongs to one owner:

    next_to_clean .. done     written back by the device, the cleaner's
    done .. head              being sent, the device's
    head .. tail              handed over by the doorbell, the device's
    tail .. next_to_use       filled, the doorbell still owed, the driver's
    next_to_use .. next_to_clean   empty, the driver's; at least one slot

Two processors work at once. The sender runs ndo_start_xmit under the queue's lock (`xmit` says how far it got); the
cleaner runs in NAPI (`clean`). Each has a store that the other may see late: the sender its stop bit (`stop_stored`
before `stopped`), the cleaner its position (`next_to_clean` before `clean_seen`). Only a barrier orders the store
before the load that follows. That is the whole of the stop-and-wake race.

The rules are igb's; where e1000e and ixgbe differ, `TxParams` says how.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.nic.ring import COUNT_MAX, Count, Index, Slots, advance, dist, unused
from refmodel.rule import Effect, Event, Machine, Params, State, assume, machine, pure, require, rule
from refmodel.types import Range

MAX_SKB_FRAGS: Final = 17
RESERVE: Final = 3


class Xmit(IntEnum):
    """How far the sender's processor is in ndo_start_xmit."""

    IDLE = 0
    FULL_BARRIER = 1  # the packet does not fit: stop bit stored, barrier next
    FULL_RECHECK = 2
    LOW_BARRIER = 3  # the packet is mapped, the next may not fit: stop bit stored, barrier next
    LOW_RECHECK = 4
    TAIL = 5  # doorbell or not


class Clean(IntEnum):
    """How far the cleaner's processor is in the clean function."""

    IDLE = 0
    WALK = 1
    BARRIER = 2  # next_to_clean stored, enough room to wake, barrier next
    WAKE = 3  # looks at the stop bit


SENDING: Final = (Xmit.FULL_BARRIER, Xmit.FULL_RECHECK, Xmit.LOW_BARRIER, Xmit.LOW_RECHECK, Xmit.TAIL)


class TxParams(Params, frozen=True):
    """What tells one driver's transmit ring from another's; the defaults are igb's.

    `count` slots (a multiple of 8). `stop_below`: the queue stops if fewer slots are left after a packet. `wake_at`:
    it wakes when that many are free. `work_limit` packets are freed in one pass; with `limit_is_count` instead as many
    slots as the ring has (e1000e). `counts_context`: the room test counts the context descriptor apart (e1000e), else
    it is part of the fixed reserve. `reprieve_wakes`: a successful recheck wakes rather than starts the queue (igb).
    `hang_stops`: a hang is dealt with in the pass itself (igb, ixgbe), else in a work item (e1000e). `link_wakes`: the
    link watchdog wakes the queue when the link comes (ixgbe); `link_stops`: and stops it when the link goes (e1000e).
    """

    count: Count = 256
    stop_below: Annotated[int, Range(4, 24)] = MAX_SKB_FRAGS + 4
    wake_at: Annotated[int, Range(24, 48)] = 2 * (MAX_SKB_FRAGS + 4)
    work_limit: Annotated[int, Range(1, COUNT_MAX)] = 128
    limit_is_count: bool = False
    counts_context: bool = False
    reprieve_wakes: bool = True
    hang_stops: bool = True
    link_stops: bool = False
    link_wakes: bool = False


class TxRing(State, frozen=True):
    """One transmit ring with its queue.

    `packets` are mapped and not yet freed, `dd` of them are written back. `data`, `context`, `more`: the skb that the
    sender is at. `stopped`: __QUEUE_STATE_DRV_XOFF as all see it. `stack_xoff`: __QUEUE_STATE_STACK_XOFF, which byte
    queue limits set and clear. `budget`, `freed`: the cleaner's pass. `detect_hang`: the watchdog asked for the check.
    `hung`: the queue was stopped for a hang, and no cleaner has come so far as to wake it since. `wake_skipped`: a
    cleaner left the wake out because the carrier was off.
    """

    AT: ClassVar[str] = "xmit"

    xmit: Xmit = Xmit.IDLE
    clean: Clean = Clean.IDLE
    next_to_use: Index = 0
    tail: Index = 0
    head: Index = 0
    done: Index = 0
    next_to_clean: Index = 0
    clean_seen: Index = 0
    packets: Slots = 0
    dd: Slots = 0
    data: Annotated[int, Range(0, 20)] = 0
    context: bool = False
    more: bool = False
    stop_stored: bool = False
    stopped: bool = False
    stack_xoff: bool = False
    budget: Annotated[int, Range(-64, COUNT_MAX)] = 0
    freed: Slots = 0
    detect_hang: bool = False
    hung: bool = False
    carrier: bool = True
    wake_skipped: bool = False


class Send(Event, frozen=True):
    """The stack calls ndo_start_xmit with an skb that takes `data` data descriptors and, with `context`, one more.

    The head and MAX_SKB_FRAGS fragments take 18, a fragment longer than one descriptor carries takes more.
    `more`: netdev_xmit_more. `batched`: not the first skb of a list. `drop`: the TSO header is bad or a DMA mapping
    fails. `bql_off`: byte queue limits stop the queue with this packet.
    """

    data: Annotated[int, Range(1, 20)] = 1
    context: bool = False
    more: bool = False
    batched: bool = False
    drop: bool = False
    bql_off: bool = False


class SendStep(Event, frozen=True):
    """The sender's processor goes on. `bql_off` as in Send."""

    bql_off: bool = False


class DeviceFetched(Event, frozen=True):
    """The device has read `n` descriptors: its head moves."""

    n: Annotated[int, Range(1, COUNT_MAX)] = 1


class DeviceWroteBack(Event, frozen=True):
    """The device sets DD in the EOP descriptor of the oldest packet that it still has, `n` descriptors long."""

    n: Annotated[int, Range(1, 64)] = 1


class PollTx(Event, frozen=True):
    """NAPI (or e1000e's transmit vector) calls the clean function."""


class CleanStep(Event, frozen=True):
    """The cleaner's processor goes on.

    `n`: length of the packet at next_to_clean, as its next_to_watch says. `overdue`: the oldest packet waits longer
    than tx_timeout_factor * HZ and the device is not paused. `bql_on`: byte queue limits let the queue go again.
    """

    n: Annotated[int, Range(1, 64)] = 1
    overdue: bool = False
    bql_on: bool = False


class Drained(Event, frozen=True):
    """The processors' store buffers empty by themselves."""


class Watchdog(Event, frozen=True):
    """The driver's watchdog (2 s) asks the next pass to look for a hang."""


class HangTask(Event, frozen=True):
    """e1000e's work item looks again after a pass suspected a hang."""


class LinkChanged(Event, frozen=True):
    """The watchdog sees the link come (`up`) or go."""

    up: bool = True


class Reset(Event, frozen=True):
    """The reset task takes the device down and up: all descriptors are freed."""


class Doorbell(Effect, frozen=True):
    """The driver writes `tail` to the tail register (TDT)."""

    tail: int


class Mapped(Effect, frozen=True):
    """The skb is handed to the ring: `n` descriptors from slot `first`."""

    first: int
    n: int


class TxOk(Effect, frozen=True):
    """ndo_start_xmit returns NETDEV_TX_OK. `queued`: the ring has the skb; else it was freed."""

    queued: bool


class TxBusy(Effect, frozen=True):
    """ndo_start_xmit returns NETDEV_TX_BUSY: the stack keeps the skb."""


class NotAsked(Effect, frozen=True):
    """The stack keeps the skb: it asks no driver whose queue is stopped."""


class QueueStopped(Effect, frozen=True):
    """netif_tx_stop_queue."""


class QueueStarted(Effect, frozen=True):
    """netif_tx_start_queue, or with `schedule` netif_tx_wake_queue, which also runs the qdisc."""

    schedule: bool


class Completed(Effect, frozen=True):
    """The packet of `n` descriptors at slot `first` is freed: sent."""

    first: int
    n: int


class CleanDone(Effect, frozen=True):
    """The clean function returns `complete`."""

    complete: bool


class HangSuspected(Effect, frozen=True):
    """The oldest packet has waited too long. `stopped`: the pass itself stopped the queue."""

    stopped: bool


class Discarded(Effect, frozen=True):
    """A reset frees `packets` that were not sent, or not known to be."""

    packets: int


class Walk(IntEnum):
    """What the clean function does next."""

    FREE = 0
    HANG = 1
    SUSPECT = 2
    END = 3


@pure
def size(data: int, context: bool, p: TxParams) -> int:
    """Slots that the room test asks for: data, context and a gap that keeps tail from touching head."""
    return data + RESERVE + (1 if context and p.counts_context else 0)


@pure
def used(data: int, context: bool) -> int:
    """Slots that the packet really takes."""
    return data + 1 if context else data


@pure
def room(s: TxRing, p: TxParams) -> int:
    """igb_desc_unused as the sender sees it."""
    return unused(s.clean_seen, s.next_to_use, p.count)


@pure
def free(s: TxRing, p: TxParams) -> int:
    """igb_desc_unused as the cleaner sees it."""
    return unused(s.next_to_clean, s.next_to_use, p.count)


@pure
def held_back(s: TxRing, e: Send) -> bool:
    """The stack does not call the driver: netif_xmit_frozen_or_stopped, and inside a list only the driver's own bit."""
    return s.stopped or (s.stack_xoff and not e.batched)


@pure
def walk(s: TxRing, e: CleanStep, p: TxParams) -> Walk:
    """The clean function's loop, then its hang check."""
    return (
        Walk.FREE
        if s.dd > 0 and s.budget > 0
        else Walk.END
        if not (s.detect_hang and s.packets > 0 and e.overdue)
        else Walk.HANG
        if p.hang_stops
        else Walk.SUSPECT
    )


@pure
def wakes(s: TxRing, p: TxParams) -> bool:
    """Something was freed, the carrier is there and the ring has room: worth a look at the stop bit."""
    return s.freed > 0 and s.carrier and free(s, p) >= p.wake_at


@pure
def mapped(s: TxRing, to: Xmit, data: int, context: bool, more: bool, bql_off: bool, p: TxParams) -> TxRing:
    """The packet fills its slots; on the way to LOW_BARRIER the stop bit is stored."""
    return replace(
        s,
        xmit=to,
        next_to_use=advance(s.next_to_use, used(data, context), p.count),
        packets=s.packets + 1,
        data=0,
        context=False,
        more=more,
        stop_stored=to == Xmit.LOW_BARRIER,
        stack_xoff=s.stack_xoff or bql_off,
    )


# ------------------------------------------------------------------------------------------------ the sender


@rule("net/sched/sch_generic.c:sch_direct_xmit", "net/core/dev.c:dev_hard_start_xmit", at=Xmit.IDLE)
def send_not_asked(s: TxRing, e: Send, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The stack keeps an skb for a stopped queue and does not call the driver."""
    require(held_back(s, e), "queue is stopped")
    return s, (NotAsked(),)


@rule("drivers/net/ethernet/intel/igb/igb_main.c:__igb_maybe_stop_tx", at=Xmit.IDLE)
def send_full(s: TxRing, e: Send, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A packet for which there is no room stops the queue before anything else is looked at."""
    require(not held_back(s, e), "queue runs")
    require(room(s, p) < size(e.data, e.context, p), "no room for the packet and the gap")
    return replace(s, xmit=Xmit.FULL_BARRIER, data=e.data, context=e.context, more=e.more, stop_stored=True), (
        QueueStopped(),
    )


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_xmit_frame_ring",
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_map",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_xmit_frame",
    at=Xmit.IDLE,
)
def send_drop(s: TxRing, e: Send, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A bad TSO header or a failed DMA mapping frees the skb, leaves the ring as it was and returns OK, never BUSY."""
    require(not held_back(s, e), "queue runs")
    require(room(s, p) >= size(e.data, e.context, p), "room for the packet and the gap")
    require(e.drop, "the packet cannot be mapped")
    # Linux writes no tail here, though an earlier packet of the list may still wait for it.
    return s, (TxOk(queued=False),)


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_map", at=Xmit.IDLE)
def send_map(s: TxRing, e: Send, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A packet with room fills its descriptors; if the next one might not fit, the queue stops."""
    require(not held_back(s, e), "queue runs")
    require(room(s, p) >= size(e.data, e.context, p), "room for the packet and the gap")
    require(not e.drop, "the packet can be mapped")
    n = used(e.data, e.context)
    if room(s, p) - n < p.stop_below:
        low = mapped(s, Xmit.LOW_BARRIER, e.data, e.context, e.more, e.bql_off, p)
        return low, (Mapped(first=s.next_to_use, n=n), QueueStopped())
    return mapped(s, Xmit.TAIL, e.data, e.context, e.more, e.bql_off, p), (Mapped(first=s.next_to_use, n=n),)


@rule("include/linux/netdevice.h:HARD_TX_LOCK", at=SENDING)
def send_waits(s: TxRing, e: Send, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A second sender waits for the queue's lock."""
    return s, ()


@rule("include/linux/netdevice.h:HARD_TX_UNLOCK", at=Xmit.IDLE)
def step_idle(s: TxRing, e: SendStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """No one is in ndo_start_xmit."""
    return s, ()


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:__igb_maybe_stop_tx",
    "include/net/netdev_queues.h:netif_txq_try_stop",
    at=Xmit.FULL_BARRIER,
)
def step_full_barrier(s: TxRing, e: SendStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The barrier makes the stop bit visible before the sender looks again whether its packet fits."""
    return replace(s, xmit=Xmit.FULL_RECHECK, stopped=s.stopped or s.stop_stored, stop_stored=False), ()


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:__igb_maybe_stop_tx",
    "include/net/netdev_queues.h:netif_txq_try_stop",
    at=Xmit.LOW_BARRIER,
)
def step_low_barrier(s: TxRing, e: SendStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The barrier makes the stop bit visible before the sender looks again whether a next packet would fit."""
    return replace(s, xmit=Xmit.LOW_RECHECK, stopped=s.stopped or s.stop_stored, stop_stored=False), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:__igb_maybe_stop_tx", at=Xmit.FULL_RECHECK)
def step_busy(s: TxRing, e: SendStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """Still no room: the packet goes back to the stack and the queue stays stopped."""
    require(room(s, p) < size(s.data, s.context, p), "still no room")
    return replace(s, xmit=Xmit.IDLE, data=0, context=False, more=False), (TxBusy(),)


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:__igb_maybe_stop_tx",
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_map",
    at=Xmit.FULL_RECHECK,
)
def step_reprieve(s: TxRing, e: SendStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The cleaner made room meanwhile: the queue runs again and the packet is mapped after all."""
    require(room(s, p) >= size(s.data, s.context, p), "room meanwhile")
    n = used(s.data, s.context)
    started = QueueStarted(schedule=p.reprieve_wakes)
    if room(s, p) - n < p.stop_below:
        low = mapped(s, Xmit.LOW_BARRIER, s.data, s.context, s.more, e.bql_off, p)
        return replace(low, stopped=False), (started, Mapped(first=s.next_to_use, n=n), QueueStopped())
    t = mapped(s, Xmit.TAIL, s.data, s.context, s.more, e.bql_off, p)
    return replace(t, stopped=False), (started, Mapped(first=s.next_to_use, n=n))


@rule("drivers/net/ethernet/intel/igb/igb_main.c:__igb_maybe_stop_tx", at=Xmit.LOW_RECHECK)
def step_low(s: TxRing, e: SendStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """Few slots are left after the packet: the queue stays stopped if they are still few, else it runs again."""
    if room(s, p) < p.stop_below:
        return replace(s, xmit=Xmit.TAIL), ()
    return replace(s, xmit=Xmit.TAIL, stopped=False), (QueueStarted(schedule=p.reprieve_wakes),)


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_map", at=Xmit.TAIL)
def step_doorbell(s: TxRing, e: SendStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The tail is written unless more packets are promised and nothing has stopped the queue."""
    if s.stopped or s.stack_xoff or not s.more:
        return replace(s, xmit=Xmit.IDLE, tail=s.next_to_use, more=False), (
            Doorbell(tail=s.next_to_use),
            TxOk(queued=True),
        )
    return replace(s, xmit=Xmit.IDLE, more=False), (TxOk(queued=True),)


# ------------------------------------------------------------------------------------------------ the device


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_map")
def device_fetched(s: TxRing, e: DeviceFetched, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The device reads descriptors between head and tail."""
    return replace(s, head=advance(s.head, e.n, p.count)), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq")
def device_wrote_back(s: TxRing, e: DeviceWroteBack, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The device writes DD into a packet's last descriptor: all of the packet's slots are the cleaner's."""
    return replace(s, done=advance(s.done, e.n, p.count), dd=s.dd + 1), ()


# ------------------------------------------------------------------------------------------------ the cleaner


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_clean_tx_irq",
)
def poll_tx(s: TxRing, e: PollTx, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A cleaning pass begins with a budget of packets, or in e1000e of descriptors."""
    return replace(s, clean=Clean.WALK, freed=0, budget=p.count if p.limit_is_count else p.work_limit), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq")
def clean_free(s: TxRing, e: CleanStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A packet whose last descriptor has DD is freed, all its descriptors at once."""
    require(s.clean == Clean.WALK, "in the loop")
    require(walk(s, e, p) == Walk.FREE, "oldest packet written back, budget left")
    return replace(
        s,
        next_to_clean=advance(s.next_to_clean, e.n, p.count),
        packets=s.packets - 1,
        dd=s.dd - 1,
        freed=min(s.freed + 1, COUNT_MAX),
        budget=s.budget - (e.n if p.limit_is_count else 1),
    ), (Completed(first=s.next_to_clean, n=e.n),)


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq")
def clean_hang(s: TxRing, e: CleanStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A packet that waits too long stops the queue; the pass counts as complete, for a reset is due."""
    require(s.clean == Clean.WALK, "in the loop")
    require(walk(s, e, p) == Walk.HANG, "oldest packet overdue")
    return replace(
        s,
        clean=Clean.IDLE,
        freed=0,
        budget=0,
        detect_hang=False,
        stopped=True,
        hung=True,
        stack_xoff=s.stack_xoff and not e.bql_on,
    ), (HangSuspected(stopped=True), CleanDone(complete=True))


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_clean_tx_irq",
)
def clean_end(s: TxRing, e: CleanStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The loop is over: the new position is stored, and with enough room the stop bit will be looked at."""
    require(s.clean == Clean.WALK, "in the loop")
    require(walk(s, e, p) in (Walk.END, Walk.SUSPECT), "no packet to free or no budget")
    suspect = walk(s, e, p) == Walk.SUSPECT
    look = wakes(s, p)
    t = replace(
        s,
        clean=Clean.BARRIER if look else Clean.IDLE,
        freed=s.freed if look else 0,
        budget=s.budget if look else 0,
        detect_hang=False,
        stack_xoff=s.stack_xoff and not e.bql_on,
        wake_skipped=s.wake_skipped or (s.freed > 0 and not s.carrier and free(s, p) >= p.wake_at),
    )
    if suspect and look:
        return t, (HangSuspected(stopped=False),)
    if suspect:
        return t, (HangSuspected(stopped=False), CleanDone(complete=s.budget > 0))
    if look:
        return t, ()
    return t, (CleanDone(complete=s.budget > 0),)


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq",
    "include/net/netdev_queues.h:__netif_txq_completed_wake",
)
def clean_barrier(s: TxRing, e: CleanStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The barrier makes the new position visible before the stop bit is read."""
    require(s.clean == Clean.BARRIER, "before the barrier")
    return replace(s, clean=Clean.WAKE, clean_seen=s.next_to_clean), ()


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq",
    "include/net/netdev_queues.h:__netif_txq_completed_wake",
)
def clean_wake(s: TxRing, e: CleanStep, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A stopped queue is woken; the pass is complete if it had budget left."""
    require(s.clean == Clean.WAKE, "after the barrier")
    t = replace(
        s,
        clean=Clean.IDLE,
        freed=0,
        budget=0,
        stopped=False,
        hung=False,
        wake_skipped=False,
    )
    if s.stopped:
        return t, (QueueStarted(schedule=True), CleanDone(complete=s.budget > 0))
    return t, (CleanDone(complete=s.budget > 0),)


# ------------------------------------------------------------------------------------------------ the rest


@rule("include/net/netdev_queues.h:netif_txq_try_stop")
def drained(s: TxRing, e: Drained, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """Without a barrier, too, stores become visible some day; inside the loop the position is still a local."""
    return replace(
        s,
        stopped=s.stopped or s.stop_stored,
        stop_stored=False,
        clean_seen=s.clean_seen if s.clean == Clean.WALK else s.next_to_clean,
    ), ()


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_watchdog_task",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_watchdog_task",
)
def watchdog(s: TxRing, e: Watchdog, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """The watchdog has the next pass check for a hang."""
    return replace(s, detect_hang=True), ()


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_print_hw_hang")
def hang_task(s: TxRing, e: HangTask, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A hang is real if the device has descriptors to send: then the queue stops; else the alarm was false."""
    if s.head != s.tail:
        return replace(s, stopped=True, hung=True), (QueueStopped(),)
    return s, ()


@rule(
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_watchdog_task",
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_watchdog_task",
    "drivers/net/ethernet/intel/ixgbe/ixgbe_main.c:ixgbe_watchdog_link_is_up",
)
def link_came(s: TxRing, e: LinkChanged, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """With the link the carrier is back; e1000e and ixgbe wake the queue, igb does not."""
    require(e.up, "link is up")
    if p.link_wakes or p.link_stops:
        mended = s.clean_seen == s.next_to_clean
        return replace(s, carrier=True, stopped=False, wake_skipped=s.wake_skipped and not mended), (
            QueueStarted(schedule=True),
        )
    return replace(s, carrier=True), ()


@rule(
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_watchdog_task",
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_watchdog_task",
)
def link_went(s: TxRing, e: LinkChanged, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """Without the link the carrier is off; e1000e stops the queue, too."""
    require(not e.up, "link is down")
    if p.link_stops:
        return replace(s, carrier=False, stopped=True), (QueueStopped(),)
    return replace(s, carrier=False), ()


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_down",
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_up",
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_ring",
    at=Xmit.IDLE,
)
def reset(s: TxRing, e: Reset, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A reset frees every packet in the ring, starts it at slot 0 and starts the queue."""
    require(s.clean == Clean.IDLE, "NAPI is disabled first")
    return TxRing(carrier=s.carrier), (Discarded(packets=s.packets), QueueStarted(schedule=False))


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_down", at=Xmit.IDLE)
def reset_waits_poll(s: TxRing, e: Reset, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A reset waits until the poll has ended (napi_disable)."""
    require(s.clean != Clean.IDLE, "the cleaner runs")
    return s, ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_down", at=SENDING)
def reset_waits_sender(s: TxRing, e: Reset, p: TxParams) -> tuple[TxRing, tuple[Effect, ...]]:
    """A reset waits 10 ms for the sender to leave ndo_start_xmit."""
    return s, ()


# ------------------------------------------------------------------------------------------------ the environment


@assume
def device_fetches_own(s: TxRing, e: DeviceFetched, p: TxParams) -> bool:
    """The device reads no descriptor at or past the tail."""
    return e.n <= dist(s.head, s.tail, p.count)


@assume
def device_writes_back_own(s: TxRing, e: DeviceWroteBack, p: TxParams) -> bool:
    """The device writes back what it has read, packet by packet; the last one ends where the filled part ends."""
    return (
        s.dd < s.packets
        and e.n + (s.packets - s.dd - 1) <= dist(s.done, s.next_to_use, p.count)
        and e.n <= dist(s.done, s.head, p.count)
        and (s.dd + 1 < s.packets or e.n == dist(s.done, s.next_to_use, p.count))
    )


@assume
def watch_is_packet(s: TxRing, e: CleanStep, p: TxParams) -> bool:
    """next_to_watch leads to the end of one packet: the rest of the written-back slots holds the other packets."""
    return s.dd == 0 or (
        e.n + (s.dd - 1) <= dist(s.next_to_clean, s.done, p.count)
        and (s.dd > 1 or e.n == dist(s.next_to_clean, s.done, p.count))
    )


@assume
def link_changes(s: TxRing, e: LinkChanged) -> bool:
    """The watchdog acts on a change of the link only."""
    return e.up != s.carrier


@assume
def one_cleaner(s: TxRing, e: PollTx) -> bool:
    """One processor cleans at a time: NAPI's SCHED bit, or the interrupt vector itself, sees to it."""
    return s.clean == Clean.IDLE


@assume
def cleaner_runs(s: TxRing, e: CleanStep) -> bool:
    """The cleaner goes on only where it is at work."""
    return s.clean != Clean.IDLE


NIC_TX: Final = machine(
    Machine(
        name="nic_tx",
        title="Transmit ring",
        accepts={
            TxRing: (
                Send,
                SendStep,
                DeviceFetched,
                DeviceWroteBack,
                PollTx,
                CleanStep,
                Drained,
                Watchdog,
                HangTask,
                LinkChanged,
                Reset,
            )
        },
        params=TxParams,
        modules=("refmodel.nic.ring", "refmodel.nic.tx", "refmodel.nic.tx_properties"),
    )
)
