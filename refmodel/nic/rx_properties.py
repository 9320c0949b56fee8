"""What holds of the receive ring in every state and on every step, each in one sentence."""

from refmodel.nic.ring import dist
from refmodel.nic.rx import (
    RX_BUFFER_WRITE,
    DeviceReceived,
    FrameUp,
    PollRx,
    Rx,
    RxParams,
    RxRing,
    RxStep,
    RxTail,
    room,
)
from refmodel.rule import invariant, pure, transition


@pure
def buffers(s: RxRing, p: RxParams) -> int:
    """Slots with a buffer."""
    return dist(s.next_to_clean, s.next_to_use, p.count)


@pure
def back(s: RxRing, p: RxParams) -> int:
    """Descriptors that the device has written and the driver has not read."""
    return dist(s.next_to_clean, s.head, p.count)


@invariant()
def positions_in_ring(s: RxRing, p: RxParams) -> bool:
    """Every position is a slot of the ring."""
    return s.next_to_use < p.count and s.tail < p.count and s.head < p.count and s.next_to_clean < p.count


@invariant()
def one_owner(s: RxRing, p: RxParams) -> bool:
    """No descriptor is owned by both sides: clean, head, tail and use follow each other within one lap."""
    return back(s, p) <= dist(s.next_to_clean, s.tail, p.count) <= buffers(s, p)


@invariant()
def refill_fits(s: RxRing, p: RxParams) -> bool:
    """One slot always stays empty: a refill never has more to do than there are slots without a buffer."""
    return s.cleaned <= room(s, p)


@invariant()
def refill_has_work(s: RxRing) -> bool:
    """A refill runs only while slots are left to fill."""
    return s.rx not in (Rx.REFILL, Rx.REFILL_END) or s.cleaned > 0


@invariant()
def tail_keeps_up(s: RxRing, p: RxParams) -> bool:
    """Outside a refill igb has handed over every buffer; e1000e holds back at most sixteen."""
    held = dist(s.tail, s.next_to_use, p.count)
    return held <= RX_BUFFER_WRITE if p.tail_in_batches else held == 0 or s.rx in (Rx.REFILL, Rx.REFILL_END)


@invariant()
def tail_in_whole_batches(s: RxRing, p: RxParams) -> bool:
    """Where the tail moves in batches it is a multiple of sixteen, the last one that the driver has filled past."""
    return not p.tail_in_batches or (
        s.tail % RX_BUFFER_WRITE == 0 and (s.next_to_use == 0 or 0 <= s.next_to_use - s.tail <= RX_BUFFER_WRITE)
    )


@invariant()
def frames_in_ring(s: RxRing, p: RxParams) -> bool:
    """The written-back descriptors hold the frames, and they end with a frame unless the device is inside one."""
    n = back(s, p)
    return s.frames <= n and (n == 0 or (s.frames < n if s.device_mid else s.frames > 0))


@invariant()
def part_has_rest(s: RxRing) -> bool:
    """The driver holds a part of a frame only if the rest is in the ring or still to come."""
    return not s.open or s.frames > 0 or s.device_mid


@invariant()
def work_within_budget(s: RxRing) -> bool:
    """A poll never does more work than its budget."""
    return s.work <= s.budget


@transition(RxStep)
def tail_is_written(s: RxRing, e: RxStep, t: RxRing, effects: tuple[object, ...]) -> bool:
    """The tail register is written whenever the tail moves, with its value."""
    return t.tail == s.tail or any(isinstance(x, RxTail) and x.tail == t.tail for x in effects)


@transition(RxStep)
def buffers_conserved(s: RxRing, e: RxStep, t: RxRing, effects: object, p: RxParams) -> bool:
    """A step reads one slot or fills one slot or none: no buffer is lost and none is used twice."""
    filled = dist(s.next_to_use, t.next_to_use, p.count)
    read = dist(s.next_to_clean, t.next_to_clean, p.count)
    return filled + read <= 1 and buffers(t, p) == buffers(s, p) + filled - read and (filled == 0 or e.ok)


@transition(RxStep)
def reads_only_written(s: RxRing, e: RxStep, t: RxRing) -> bool:
    """The driver reads a descriptor only after the device has written it back."""
    return t.next_to_clean == s.next_to_clean or s.next_to_clean != s.head


@transition(RxStep)
def whole_frames_up(s: RxRing, e: RxStep, t: RxRing, effects: tuple[object, ...]) -> bool:
    """What goes up is a whole frame: it ends with EOP and leaves no part behind."""
    return not any(isinstance(x, FrameUp) for x in effects) or (e.eop and not t.open and t.frames == s.frames - 1)


@transition(DeviceReceived)
def device_needs_buffer(s: RxRing, e: DeviceReceived, t: RxRing) -> bool:
    """The device writes only into slots between head and tail."""
    return t.head == s.head or s.head != s.tail


@transition(DeviceReceived)
def device_moves_its_own(s: RxRing, e: DeviceReceived, t: RxRing) -> bool:
    """The device moves none of the driver's positions."""
    return t.next_to_use == s.next_to_use and t.tail == s.tail and t.next_to_clean == s.next_to_clean


@transition(RxStep, PollRx)
def driver_moves_its_own(s: RxRing, e: object, t: RxRing) -> bool:
    """The driver does not move the device's head."""
    return t.head == s.head and t.device_mid == s.device_mid
