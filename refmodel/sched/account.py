"""A locked discipline's books: what entered, what waits, what the driver has in hand, what came back, what was dropped.

pfifo, bfifo and pfifo_head_drop are one machine whose parameter says which. Packets are counted; of bytes the backlog.
"""

from enum import IntEnum
from typing import Annotated, Final

from msgspec.structs import replace

from refmodel.rule import Effect, Event, Machine, Params, State, assume, machine, pure, require, rule
from refmodel.types import Range, add, u32

MANY: Final = 1 << 20
BYTES: Final = 1 << 40

Packets = Annotated[int, Range(0, MANY)]
Length = Annotated[int, Range(1, 1 << 20)]


class Kind(IntEnum):
    """The discipline."""

    PFIFO = 0
    BFIFO = 1
    PFIFO_HEAD_DROP = 2


class FifoParams(Params, frozen=True):
    """`limit`: packets, or bytes of bfifo. `mtu`: psched_mtu, the longest frame of the device in bytes."""

    kind: Kind = Kind.PFIFO
    limit: u32 = 1000
    mtu: Annotated[int, Range(1, 1 << 17)] = 1514


class Fifo(State, frozen=True):
    """`waiting` in the list, `gso` requeued, `hand` with the driver; the kernel's own `qlen` and `backlog`.

    Since it was made (mod 2**32): `entered` it, counted as sent (`packets`), really taken by the driver (`sent`),
    `drops`, `requeues`.
    """

    waiting: Packets = 0
    gso: Packets = 0
    hand: Packets = 0
    qlen: Packets = 0
    backlog: Annotated[int, Range(0, BYTES)] = 0
    entered: u32 = 0
    packets: u32 = 0
    sent: u32 = 0
    drops: u32 = 0
    requeues: u32 = 0


class Enqueue(Event, frozen=True):
    """A packet of `length` bytes comes while the oldest one has `oldest` bytes."""

    length: Length = 1
    oldest: Annotated[int, Range(0, 1 << 20)] = 0


class Dequeue(Event, frozen=True):
    """The runner takes the next packet, which has `length` bytes."""

    length: Length = 1


class Taken(Event, frozen=True):
    """The driver takes a packet from the runner's hand."""


class Refused(Event, frozen=True):
    """The driver refuses one of `length` bytes."""

    length: Length = 1


class Drop(Effect, frozen=True):
    """A packet is dropped; `oldest`: not the one that came."""

    oldest: bool


class Pass(Effect, frozen=True):
    """The packet goes past the list to the driver."""


class Verdict(IntEnum):
    """What becomes of a packet that comes."""

    BYPASS = 0
    TAIL = 1
    DROP = 2
    DROP_OLDEST = 3


@pure
def bypassable(kind: Kind, limit: int, mtu: int) -> bool:
    """A limit that no packet fits forbids the bypass; source net/sched/sch_fifo.c:__fifo_init."""
    return limit >= mtu if kind == Kind.BFIFO else limit >= 1


@pure
def bfifo_fits(backlog: int, length: int, limit: int) -> bool:
    """Source net/sched/sch_fifo.c:bfifo_enqueue."""
    return backlog + length <= limit


@pure
def pfifo_fits(qlen: int, limit: int) -> bool:
    """Source net/sched/sch_fifo.c:pfifo_enqueue."""
    return qlen < limit


@pure
def fits(s: Fifo, e: Enqueue, p: FifoParams) -> bool:
    """The limit lets the packet in."""
    return bfifo_fits(s.backlog, e.length, p.limit) if p.kind == Kind.BFIFO else pfifo_fits(s.qlen, p.limit)


@pure
def verdict(s: Fifo, e: Enqueue, p: FifoParams) -> Verdict:
    """The kernel's order: an empty discipline that nobody runs is bypassed, then the limit is asked."""
    return (
        Verdict.BYPASS
        if s.qlen == 0 and s.hand == 0 and bypassable(p.kind, p.limit, p.mtu)
        else Verdict.TAIL
        if fits(s, e, p)
        else Verdict.DROP_OLDEST
        if p.kind == Kind.PFIFO_HEAD_DROP and p.limit > 0 and s.waiting > 0
        else Verdict.DROP
        if p.kind != Kind.PFIFO_HEAD_DROP or p.limit == 0
        else Verdict.TAIL
    )


Effects = tuple[Effect, ...]


@rule("net/core/dev.c:__dev_xmit_skb")
def bypass(s: Fifo, e: Enqueue, p: FifoParams) -> tuple[Fifo, Effects]:
    """A packet that meets an empty, idle discipline goes to the driver at once and counts as sent."""
    require(verdict(s, e, p) == Verdict.BYPASS, "empty and idle")
    return replace(s, hand=1, entered=add(s.entered, 1), packets=add(s.packets, 1)), (Pass(),)


@rule("include/net/sch_generic.h:qdisc_enqueue_tail")
def enqueue(s: Fifo, e: Enqueue, p: FifoParams) -> tuple[Fifo, Effects]:
    """A packet within the limit goes to the end of the list."""
    require(verdict(s, e, p) == Verdict.TAIL, "within the limit")
    return replace(
        s, waiting=s.waiting + 1, qlen=s.qlen + 1, backlog=s.backlog + e.length, entered=add(s.entered, 1)
    ), ()


@rule("include/net/sch_generic.h:qdisc_drop")
def enqueue_full(s: Fifo, e: Enqueue, p: FifoParams) -> tuple[Fifo, Effects]:
    """A packet beyond the limit is dropped and counted."""
    require(verdict(s, e, p) == Verdict.DROP, "beyond the limit")
    return replace(s, entered=add(s.entered, 1), drops=add(s.drops, 1)), (Drop(oldest=False),)


@rule("net/sched/sch_fifo.c:pfifo_tail_enqueue")
def enqueue_drop_oldest(s: Fifo, e: Enqueue, p: FifoParams) -> tuple[Fifo, Effects]:
    """pfifo_head_drop lets the newest in and drops the oldest."""
    require(verdict(s, e, p) == Verdict.DROP_OLDEST, "full, and a packet in the list")
    return replace(s, backlog=s.backlog + e.length - e.oldest, entered=add(s.entered, 1), drops=add(s.drops, 1)), (
        Drop(oldest=True),
    )


@rule("net/sched/sch_generic.c:dequeue_skb")
def dequeue_requeued(s: Fifo, e: Dequeue, p: FifoParams) -> tuple[Fifo, Effects]:
    """What came back goes first; it was counted as sent already."""
    require(s.gso > 0, "a packet came back")
    return replace(s, gso=s.gso - 1, qlen=s.qlen - 1, backlog=s.backlog - e.length, hand=s.hand + 1), ()


@rule("include/net/sch_generic.h:qdisc_dequeue_head")
def dequeue(s: Fifo, e: Dequeue, p: FifoParams) -> tuple[Fifo, Effects]:
    """The oldest packet leaves the list and counts as sent."""
    require(s.gso == 0, "no packet came back")
    require(s.waiting > 0, "a packet in the list")
    return replace(
        s,
        waiting=s.waiting - 1,
        qlen=s.qlen - 1,
        backlog=s.backlog - e.length,
        hand=s.hand + 1,
        packets=add(s.packets, 1),
    ), ()


@rule("net/sched/sch_generic.c:dequeue_skb")
def dequeue_empty(s: Fifo, e: Dequeue, p: FifoParams) -> tuple[Fifo, Effects]:
    """Nothing waits."""
    require(s.gso == 0, "no packet came back")
    require(s.waiting == 0, "no packet in the list")
    return s, ()


@rule("net/sched/sch_generic.c:sch_direct_xmit")
def taken(s: Fifo, e: Taken, p: FifoParams) -> tuple[Fifo, Effects]:
    """The driver has the packet."""
    return replace(s, hand=s.hand - 1, sent=add(s.sent, 1)), ()


@rule("net/sched/sch_generic.c:dev_requeue_skb")
def refused(s: Fifo, e: Refused, p: FifoParams) -> tuple[Fifo, Effects]:
    """A refused packet is part of the queue again, whatever the limit, and counts as requeued."""
    return replace(
        s,
        hand=s.hand - 1,
        gso=s.gso + 1,
        qlen=s.qlen + 1,
        backlog=s.backlog + e.length,
        requeues=add(s.requeues, 1),
    ), ()


@assume
def lengths_are_true(s: Fifo, e: Dequeue) -> bool:
    """A packet is as long as it was when it came: no longer than all that wait."""
    return (e.length <= s.backlog or s.qlen == 0) and s.hand + 1 < MANY and s.qlen >= 0


@assume
def oldest_is_true(s: Fifo, e: Enqueue) -> bool:
    """The oldest packet is no longer than all that wait, and no more wait than can be counted."""
    return e.oldest <= s.backlog and s.waiting + s.gso + s.hand + 2 < MANY and s.backlog + e.length < BYTES


@assume
def driver_has_one(s: Fifo, e: Taken) -> bool:
    """The driver takes what it was given."""
    return s.hand > 0


@assume
def driver_refuses_one(s: Fifo, e: Refused) -> bool:
    """The driver refuses what it was given, and no more wait than can be counted."""
    return s.hand > 0 and s.qlen + 1 < MANY and s.backlog + e.length < BYTES


FIFO: Final = machine(
    Machine(
        name="qdisc_fifo",
        title="pfifo, bfifo and pfifo_head_drop: the books",
        accepts={Fifo: (Enqueue, Dequeue, Taken, Refused)},
        params=FifoParams,
        modules=("refmodel.sched.account", "refmodel.sched.account_properties"),
    )
)
