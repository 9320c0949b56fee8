"""The kernel's ring of pointers, as pfifo_fast and tun have it: it frees its slots in batches.

Surprise: a slot whose packet was taken stays in use until a batch of sixteen was taken or the ring's end is reached, so
a full ring may refuse packets though up to fifteen of its packets have left.
"""

from enum import IntEnum
from typing import Annotated, Final

from msgspec.structs import replace

from refmodel.rule import Effect, Event, Machine, Params, State, invariant, machine, pure, require, rule, transition
from refmodel.types import Range

SIZE_MAX: Final = 32767  # dev_change_tx_queue_len takes at most S16_MAX
BATCH: Final = 16  # two cache lines of 64 bytes hold as many pointers

Slots = Annotated[int, Range(0, SIZE_MAX)]


class PtrRing(State, frozen=True):
    """`waiting` packets, `held` slots behind them whose packets were taken but which are not free, `head` position."""

    waiting: Slots = 0
    held: Slots = 0
    head: Slots = 0


class RingParams(Params, frozen=True):
    """`size` slots."""

    size: Annotated[int, Range(1, SIZE_MAX)] = 1000


class Produce(Event, frozen=True):
    """A packet comes."""


class Consume(Event, frozen=True):
    """A packet is wanted."""


class Full(Effect, frozen=True):
    """ptr_ring_produce returns -ENOSPC."""


class Took(Effect, frozen=True):
    """The packet from slot `slot`."""

    slot: int


class Freed(IntEnum):
    """What taking a packet does to its slot."""

    HELD = 0
    BATCH = 1
    END = 2


@pure
def batch(size: int) -> int:
    """Slots that are freed at once; source include/linux/ptr_ring.h:__ptr_ring_set_size."""
    return BATCH if size // 2 >= BATCH else 1


@pure
def full(r: PtrRing, size: int) -> bool:
    """The slot that the producer is at is in use; source include/linux/ptr_ring.h:__ptr_ring_produce."""
    return r.waiting + r.held >= size


@pure
def produced(r: PtrRing) -> PtrRing:
    """A packet takes the next slot."""
    return replace(r, waiting=r.waiting + 1)


@pure
def freed(r: PtrRing, size: int) -> Freed:
    """Whether the slot is freed with its batch, at the ring's end, or later."""
    if r.head + 1 >= size:
        return Freed.END
    return Freed.BATCH if r.held + 1 >= batch(size) else Freed.HELD


@pure
def consumed(r: PtrRing, size: int) -> PtrRing:
    """The first packet is taken; source include/linux/ptr_ring.h:__ptr_ring_discard_one."""
    what = freed(r, size)
    return PtrRing(
        waiting=r.waiting - 1,
        held=r.held + 1 if what == Freed.HELD else 0,
        head=0 if what == Freed.END else r.head + 1,
    )


@pure
def emptied(r: PtrRing, size: int) -> PtrRing:
    """All packets are taken, one after the other."""
    end = r.head + r.waiting
    head = end if end < size else end - size
    return PtrRing(waiting=0, held=head % BATCH if batch(size) == BATCH else 0, head=head)


@rule("include/linux/ptr_ring.h:__ptr_ring_produce")
def produce(s: PtrRing, e: Produce, p: RingParams) -> tuple[PtrRing, tuple[Effect, ...]]:
    """A free slot takes the packet."""
    require(not full(s, p.size), "a free slot")
    return produced(s), ()


@rule("include/linux/ptr_ring.h:__ptr_ring_produce")
def produce_full(s: PtrRing, e: Produce, p: RingParams) -> tuple[PtrRing, tuple[Effect, ...]]:
    """Without a free slot the packet is refused."""
    require(full(s, p.size), "no free slot")
    return s, (Full(),)


@rule("include/linux/ptr_ring.h:__ptr_ring_consume")
def consume(s: PtrRing, e: Consume, p: RingParams) -> tuple[PtrRing, tuple[Effect, ...]]:
    """The oldest packet is taken."""
    require(s.waiting > 0, "a packet")
    return consumed(s, p.size), (Took(slot=s.head),)


@rule("include/linux/ptr_ring.h:__ptr_ring_consume")
def consume_empty(s: PtrRing, e: Consume, p: RingParams) -> tuple[PtrRing, tuple[Effect, ...]]:
    """An empty ring gives nothing."""
    require(s.waiting == 0, "no packet")
    return s, ()


@invariant()
def slots_suffice(s: PtrRing, p: RingParams) -> bool:
    """Packets and slots not yet free fit the ring."""
    return s.waiting + s.held <= p.size


@invariant()
def held_less_than_a_batch(s: PtrRing, p: RingParams) -> bool:
    """Fewer slots than a batch wait to be freed."""
    return s.held < batch(p.size)


@invariant()
def head_in_ring(s: PtrRing, p: RingParams) -> bool:
    """The position is one of the ring's, and the slots held lie before it without a wrap."""
    return s.head < p.size and s.held <= s.head


@invariant()
def held_since_a_batch(s: PtrRing, p: RingParams) -> bool:
    """Batches begin at slots whose number is a multiple of sixteen."""
    return s.held == (s.head % BATCH if batch(p.size) == BATCH else 0)


@transition(Produce)
def refuses_only_nearly_full(s: PtrRing, e: Produce, t: PtrRing, effects: tuple[object, ...], p: RingParams) -> bool:
    """A packet is refused only where fewer slots than a batch are without one."""
    return not any(True for x in effects if isinstance(x, Full)) or s.waiting + batch(p.size) > p.size


@transition(Produce)
def produce_adds_one(s: PtrRing, e: Produce, t: PtrRing, effects: tuple[object, ...]) -> bool:
    """A packet that is not refused waits."""
    return t.waiting == s.waiting + (0 if any(True for x in effects if isinstance(x, Full)) else 1)


@transition(Consume)
def consume_takes_one(s: PtrRing, e: Consume, t: PtrRing) -> bool:
    """A packet is taken whenever one waits."""
    return t.waiting == max(s.waiting - 1, 0)


PTR_RING: Final = machine(
    Machine(
        name="ptr_ring",
        title="A ring of pointers that frees its slots in batches",
        accepts={PtrRing: (Produce, Consume)},
        params=RingParams,
        modules=("refmodel.ptr_ring",),
    )
)
