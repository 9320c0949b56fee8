"""The receive ring: buffers go out in batches, frames come back descriptor by descriptor.

Four positions part the circle; every slot belongs to one owner:

    next_to_clean .. head     written back by the device, the driver's to read
    head .. tail              empty buffers, the device's
    tail .. next_to_use       buffers filled in but not yet handed over, the driver's
    next_to_use .. next_to_clean   no buffer, the driver's; at least one slot

The device has nothing to fill when head meets tail; then a frame is missed. The driver's poll (`rx`) reads
descriptors, and in between and at its end refills slots one by one. Moving the tail is what hands them over.

The rules are igb's; where e1000e and ixgbe differ, `RxParams` says how.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.nic.ring import Count, Index, Slots, advance, dist, unused
from refmodel.rule import Effect, Event, Machine, Params, State, assume, machine, pure, require, rule
from refmodel.types import Range

RX_BUFFER_WRITE: Final = 16
WEIGHT: Final = 64


class Rx(IntEnum):
    """How far the driver's poll is."""

    IDLE = 0
    CLEAN = 1  # reads descriptors
    REFILL = 2  # hands a batch of buffers back, then reads on
    REFILL_END = 3  # hands the rest back, then returns


class RxParams(Params, frozen=True):
    """What tells one driver's receive ring from another's; the defaults are igb's.

    `count` slots (a multiple of 8). `budget_first`: the loop looks at its budget before it refills a batch and before
    it looks for a frame (igb, ixgbe); else after both (e1000e). `tail_in_batches`: the tail is written whenever the
    slot filled is a multiple of 16 (e1000e); else once at the end of a refill. `one_buffer`: a frame must fit one
    buffer, a longer one is thrown away, and the budget counts descriptors (e1000e); else buffers are joined up to EOP,
    and the budget counts frames.
    """

    count: Count = 256
    budget_first: bool = True
    tail_in_batches: bool = False
    one_buffer: bool = False


class RxRing(State, frozen=True):
    """One receive ring.

    `frames`: EOP descriptors among the written-back ones. `device_mid`: the device's last descriptor was no EOP.
    `open`: the driver holds the first part of a frame (in e1000e: FLAG2_IS_DISCARDING). `cleaned`: slots to
    refill; during a refill, those left. `work`, `budget`: the poll's. `starting`: the refill is the first one.
    """

    AT: ClassVar[str] = "rx"

    rx: Rx = Rx.IDLE
    next_to_use: Index = 0
    tail: Index = 0
    head: Index = 0
    next_to_clean: Index = 0
    frames: Slots = 0
    device_mid: bool = False
    open: bool = False
    cleaned: Slots = 0
    work: Annotated[int, Range(0, WEIGHT)] = 0
    budget: Annotated[int, Range(0, WEIGHT)] = 0
    starting: bool = False


class Configure(Event, frozen=True):
    """The driver fills a ring that is brought up."""


class PollRx(Event, frozen=True):
    """NAPI's poll reads the ring, at most `budget` frames (netpoll: none)."""

    budget: Annotated[int, Range(0, WEIGHT)] = WEIGHT


class RxStep(Event, frozen=True):
    """The poll goes on.

    `eop`, `error`: what the descriptor at next_to_clean says. `ok`: a buffer was allocated and mapped. `no_skb`: no
    skb could be built around the buffer.
    """

    eop: bool = True
    error: bool = False
    ok: bool = True
    no_skb: bool = False


class DeviceReceived(Event, frozen=True):
    """The device has a buffer's worth of a frame; with `eop` the frame's last."""

    eop: bool = True


class ResetRx(Event, frozen=True):
    """The device goes down: all buffers are freed."""


class RxTail(Effect, frozen=True):
    """The driver writes `tail` to the tail register (RDT), after a write barrier."""

    tail: int


class FrameUp(Effect, frozen=True):
    """napi_gro_receive gets the frame whose last descriptor was at slot `slot`."""

    slot: int


class FrameDropped(Effect, frozen=True):
    """The driver throws a frame away: bad, or longer than one buffer."""


class FrameMissed(Effect, frozen=True):
    """The device had no buffer: the frame is lost and counted (MPC, RNBC)."""


class AllocFailed(Effect, frozen=True):
    """No memory for a buffer or an skb."""


class RxDone(Effect, frozen=True):
    """The clean function returns `work`."""

    work: int


class Next(IntEnum):
    """What the loop does next."""

    END = 0
    REFILL = 1
    NO_SKB = 2
    TAKE = 3


@pure
def room(s: RxRing, p: RxParams) -> int:
    """igb_desc_unused: slots that may get a buffer."""
    return unused(s.next_to_clean, s.next_to_use, p.count)


@pure
def next_step(s: RxRing, e: RxStep, p: RxParams) -> Next:
    """The loop's head, in each driver's order."""
    written = s.next_to_clean != s.head
    return (
        Next.END
        if p.budget_first and s.work >= s.budget
        else Next.REFILL
        if s.cleaned >= RX_BUFFER_WRITE
        else Next.END
        if not written or s.work >= s.budget
        else Next.NO_SKB
        if e.no_skb and not s.open and not p.one_buffer
        else Next.TAKE
    )


@pure
def at_batch(s: RxRing) -> bool:
    """The number of the slot to fill is a multiple of 16."""
    return s.next_to_use % RX_BUFFER_WRITE == 0


@pure
def left_at_end(s: RxRing, p: RxParams) -> int:
    """Slots that the last refill is asked for: igb's own count, in e1000e all that are empty."""
    return s.cleaned if p.budget_first else room(s, p)


@pure
def taken(s: RxRing, counts: bool, p: RxParams) -> RxRing:
    """The descriptor at next_to_clean is read."""
    return replace(
        s,
        next_to_clean=advance(s.next_to_clean, 1, p.count),
        cleaned=s.cleaned + 1,
        work=s.work + 1 if counts else s.work,
    )


@pure
def refilled(s: RxRing, to: Rx, ntu: int, tail: int) -> RxRing:
    """A refill is over."""
    return replace(s, rx=to, next_to_use=ntu, tail=tail, cleaned=0, starting=False)


# ------------------------------------------------------------------------------------------------ begin and end


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_configure",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_configure",
    at=Rx.IDLE,
)
def configure(s: RxRing, e: Configure, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """A ring that comes up gets buffers in all slots but one."""
    require(room(s, p) > 0, "slots without a buffer")
    return replace(s, rx=Rx.REFILL_END, cleaned=room(s, p), work=0, budget=0, starting=True), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_configure", at=Rx.IDLE)
def configure_full(s: RxRing, e: Configure, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """A ring with all buffers is left alone."""
    require(room(s, p) == 0, "all slots have a buffer")
    return s, ()


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_irq",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_clean_rx_irq",
    at=Rx.IDLE,
)
def poll_rx(s: RxRing, e: PollRx, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """A poll begins: igb counts as cleaned what the last poll could not refill, e1000e starts from none."""
    return replace(s, rx=Rx.CLEAN, cleaned=room(s, p) if p.budget_first else 0, work=0, budget=e.budget), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_ring", at=Rx.IDLE)
def reset_rx(s: RxRing, e: ResetRx, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """A device that goes down gives back all buffers."""
    return RxRing(), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_irq", at=Rx.CLEAN)
def step_end(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """No frame or no budget is left: what was read is refilled, and the poll returns."""
    require(next_step(s, e, p) == Next.END, "no frame or no budget")
    if left_at_end(s, p) > 0:
        return replace(s, rx=Rx.REFILL_END, cleaned=left_at_end(s, p)), ()
    return replace(s, rx=Rx.IDLE, cleaned=0), (RxDone(work=s.work),)


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_irq", at=Rx.CLEAN)
def step_no_skb(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """Without memory for an skb the frame stays in the ring for the next poll."""
    require(next_step(s, e, p) == Next.NO_SKB, "no skb for a new frame")
    if s.cleaned > 0:
        return replace(s, rx=Rx.REFILL_END), (AllocFailed(),)
    return replace(s, rx=Rx.IDLE), (AllocFailed(), RxDone(work=s.work))


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_irq",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_clean_rx_irq",
    at=Rx.CLEAN,
)
def step_batch(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """Sixteen slots were read: they get buffers before the next is looked at."""
    require(next_step(s, e, p) == Next.REFILL, "a batch to refill")
    return replace(s, rx=Rx.REFILL), ()


# ------------------------------------------------------------------------------------------------ reading


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_is_non_eop",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_clean_rx_irq",
    at=Rx.CLEAN,
)
def take_part(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """A descriptor without EOP: igb keeps the part for the next one, e1000e begins to discard."""
    require(next_step(s, e, p) == Next.TAKE, "a descriptor to read")
    require(not e.eop, "not the frame's last")
    return replace(taken(s, p.one_buffer, p), open=True), ()


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_clean_rx_irq", at=Rx.CLEAN)
def take_discarded(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """The last part of a frame that is longer than a buffer ends the discarding."""
    require(next_step(s, e, p) == Next.TAKE, "a descriptor to read")
    require(e.eop, "the frame's last")
    require(s.open and p.one_buffer, "discarding")
    return replace(taken(s, True, p), open=False, frames=s.frames - 1), (FrameDropped(),)


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_cleanup_headers", at=Rx.CLEAN)
def take_bad(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """A frame with an error is dropped; igb does not count it as work."""
    require(next_step(s, e, p) == Next.TAKE, "a descriptor to read")
    require(e.eop, "the frame's last")
    require(not (s.open and p.one_buffer), "not discarding")
    require(e.error, "error in the descriptor")
    return replace(taken(s, p.one_buffer, p), open=False, frames=s.frames - 1), (FrameDropped(),)


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_irq",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_receive_skb",
    at=Rx.CLEAN,
)
def take_frame(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """A whole frame goes up through GRO and counts against the budget."""
    require(next_step(s, e, p) == Next.TAKE, "a descriptor to read")
    require(e.eop, "the frame's last")
    require(not (s.open and p.one_buffer), "not discarding")
    require(not e.error, "no error in the descriptor")
    return replace(taken(s, True, p), open=False, frames=s.frames - 1), (FrameUp(slot=s.next_to_clean),)


# ------------------------------------------------------------------------------------------------ refilling


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_alloc_rx_buffers", at=(Rx.REFILL, Rx.REFILL_END))
def fill_batched(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """A slot gets a buffer; e1000e writes the tail before it fills a slot whose number is a multiple of 16."""
    require(e.ok, "a buffer")
    require(p.tail_in_batches, "tail written in batches")
    require(s.cleaned > 1, "more slots to refill")
    use = advance(s.next_to_use, 1, p.count)
    # The tail names the slot just filled, so the device gets only the slots before it.
    if at_batch(s):
        return replace(s, next_to_use=use, tail=s.next_to_use, cleaned=s.cleaned - 1), (RxTail(tail=s.next_to_use),)
    return replace(s, next_to_use=use, cleaned=s.cleaned - 1), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_alloc_rx_buffers", at=(Rx.REFILL, Rx.REFILL_END))
def fill(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """A slot gets a buffer."""
    require(e.ok, "a buffer")
    require(not p.tail_in_batches, "tail written at the end")
    require(s.cleaned > 1, "more slots to refill")
    return replace(s, next_to_use=advance(s.next_to_use, 1, p.count), cleaned=s.cleaned - 1), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_alloc_rx_buffers", at=Rx.REFILL)
def fill_last_of_batch(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """The batch is whole: igb writes the tail, and the poll reads on."""
    require(e.ok, "a buffer")
    require(s.cleaned <= 1, "last slot to refill")
    use = advance(s.next_to_use, 1, p.count)
    if not p.tail_in_batches:
        return refilled(s, Rx.CLEAN, use, use), (RxTail(tail=use),)
    if at_batch(s):
        return refilled(s, Rx.CLEAN, use, s.next_to_use), (RxTail(tail=s.next_to_use),)
    return refilled(s, Rx.CLEAN, use, s.tail), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_alloc_rx_buffers", at=Rx.REFILL_END)
def fill_last(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """All slots are refilled: igb writes the tail, and the poll returns."""
    require(e.ok, "a buffer")
    require(s.cleaned <= 1, "last slot to refill")
    use = advance(s.next_to_use, 1, p.count)
    done = () if s.starting else (RxDone(work=s.work),)
    if not p.tail_in_batches:
        return refilled(s, Rx.IDLE, use, use), (RxTail(tail=use), *done)
    if at_batch(s):
        return refilled(s, Rx.IDLE, use, s.next_to_use), (RxTail(tail=s.next_to_use), *done)
    return refilled(s, Rx.IDLE, use, s.tail), done


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_alloc_rx_buffers", at=Rx.REFILL)
def fill_fails_in_batch(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """Without memory the refill stops short: igb hands over what it has, and the poll reads on."""
    require(not e.ok, "no buffer")
    if not p.tail_in_batches and s.next_to_use != s.tail:
        return refilled(s, Rx.CLEAN, s.next_to_use, s.next_to_use), (AllocFailed(), RxTail(tail=s.next_to_use))
    return refilled(s, Rx.CLEAN, s.next_to_use, s.tail), (AllocFailed(),)


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_alloc_rx_buffers", at=Rx.REFILL_END)
def fill_fails(s: RxRing, e: RxStep, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """Without memory the last refill stops short: igb hands over what it has, and the poll returns."""
    require(not e.ok, "no buffer")
    done = () if s.starting else (RxDone(work=s.work),)
    if not p.tail_in_batches and s.next_to_use != s.tail:
        return refilled(s, Rx.IDLE, s.next_to_use, s.next_to_use), (AllocFailed(), RxTail(tail=s.next_to_use), *done)
    return refilled(s, Rx.IDLE, s.next_to_use, s.tail), (AllocFailed(), *done)


# ------------------------------------------------------------------------------------------------ the device


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_irq")
def device_received(s: RxRing, e: DeviceReceived, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """The device fills its first buffer and writes the descriptor back."""
    require(s.head != s.tail, "the device has a buffer")
    return replace(
        s,
        head=advance(s.head, 1, p.count),
        frames=s.frames + 1 if e.eop else s.frames,
        device_mid=not e.eop,
    ), ()


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_update_stats")
def device_missed(s: RxRing, e: DeviceReceived, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """Without a buffer a new frame is lost and counted."""
    require(s.head == s.tail, "the device has no buffer")
    require(not s.device_mid, "a new frame")
    return s, (FrameMissed(),)


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_update_stats")
def device_waits(s: RxRing, e: DeviceReceived, p: RxParams) -> tuple[RxRing, tuple[Effect, ...]]:
    """In the middle of a frame the device waits for a buffer."""
    require(s.head == s.tail, "the device has no buffer")
    require(s.device_mid, "the rest of a frame")
    return s, ()


# ------------------------------------------------------------------------------------------------ the environment


@assume
def one_poll(s: RxRing, e: PollRx) -> bool:
    """NAPI's SCHED bit lets one processor poll at a time."""
    return s.rx == Rx.IDLE


@assume
def poll_runs(s: RxRing, e: RxStep) -> bool:
    """The poll goes on only where it is at work."""
    return s.rx != Rx.IDLE


@assume
def configured_at_rest(s: RxRing, e: Configure) -> bool:
    """A ring is brought up with NAPI disabled."""
    return s.rx == Rx.IDLE


@assume
def reset_at_rest(s: RxRing, e: ResetRx) -> bool:
    """A ring is taken down with NAPI disabled."""
    return s.rx == Rx.IDLE


@assume
def descriptor_as_written(s: RxRing, e: RxStep, p: RxParams) -> bool:
    """A descriptor says what the device wrote: EOPs are as many as frames, and the last one is EOP unless mid-frame."""
    back = dist(s.next_to_clean, s.head, p.count)
    rest = back - 1
    left = s.frames - (1 if e.eop else 0)
    last = left == 0 and e.eop != s.device_mid
    more = 0 <= left < rest if s.device_mid else 0 < left <= rest
    return s.rx != Rx.CLEAN or back == 0 or (last if rest == 0 else more)


NIC_RX: Final = machine(
    Machine(
        name="nic_rx",
        title="Receive ring",
        accepts={RxRing: (Configure, PollRx, RxStep, DeviceReceived, ResetRx)},
        params=RxParams,
        modules=("refmodel.nic.ring", "refmodel.nic.rx", "refmodel.nic.rx_properties"),
    )
)
