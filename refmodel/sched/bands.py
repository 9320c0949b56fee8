"""pfifo_fast's three rings: which band a packet enters, which one gives the next.

Every packet has a ticket: its place in the band's history. So order within a band is a statement about numbers.
"""

from typing import Annotated, Final

from msgspec.structs import replace

from refmodel.ptr_ring import SIZE_MAX, PtrRing, consumed, emptied, full, produced
from refmodel.rule import Effect, Event, Machine, Params, State, machine, pure, require, rule
from refmodel.sched.const import PRIO2BAND, TC_PRIO_MAX
from refmodel.types import Range, add, u32


class BandParams(Params, frozen=True):
    """`tx_queue_len`: packets that each of the rings holds."""

    tx_queue_len: Annotated[int, Range(1, SIZE_MAX)] = 1000


class Bands(State, frozen=True):
    """Packets in each ring, and the ticket of the first one; the counts since the discipline was made (mod 2**32)."""

    ring0: PtrRing = PtrRing()
    ring1: PtrRing = PtrRing()
    ring2: PtrRing = PtrRing()
    head0: u32 = 0
    head1: u32 = 0
    head2: u32 = 0
    entered: u32 = 0
    left: u32 = 0
    purged: u32 = 0
    qlen: Annotated[int, Range(0, 3 * SIZE_MAX)] = 0


class Enqueue(Event, frozen=True):
    """A packet of this priority comes."""

    priority: u32 = 0


class Dequeue(Event, frozen=True):
    """The device can take a packet."""


class Reset(Event, frozen=True):
    """The device goes down."""


class Entered(Effect, frozen=True):
    """The packet is in the ring of `band`, with its ticket."""

    band: int
    ticket: int


class Refused(Effect, frozen=True):
    """The ring of `band` is full: the packet is dropped and counted."""

    band: int


class Left(Effect, frozen=True):
    """The packet with this ticket leaves the ring of `band`."""

    band: int
    ticket: int


@pure
def band_of(priority: int) -> int:
    """The band of a priority: its last four bits choose; source net/sched/sch_generic.c:pfifo_fast_enqueue."""
    return PRIO2BAND[priority & TC_PRIO_MAX]


@pure
def first_band(len0: int, len1: int, len2: int) -> int:
    """The first band that has a packet, 3 if none has; source net/sched/sch_generic.c:pfifo_fast_dequeue."""
    return 0 if len0 > 0 else 1 if len1 > 0 else 2 if len2 > 0 else 3


@pure
def length(s: Bands, band: int) -> int:
    """Packets in the ring of a band."""
    return s.ring0.waiting if band == 0 else s.ring1.waiting if band == 1 else s.ring2.waiting


@pure
def head(s: Bands, band: int) -> int:
    """The ticket of the first packet of a band."""
    return s.head0 if band == 0 else s.head1 if band == 1 else s.head2


@pure
def is_full(s: Bands, band: int, size: int) -> bool:
    """The ring of a band refuses."""
    return full(s.ring0, size) if band == 0 else full(s.ring1, size) if band == 1 else full(s.ring2, size)


@pure
def chosen(s: Bands) -> int:
    """The band whose packet leaves next."""
    return first_band(s.ring0.waiting, s.ring1.waiting, s.ring2.waiting)


@rule("net/sched/sch_generic.c:pfifo_fast_enqueue")
def enqueue(s: Bands, e: Enqueue, p: BandParams) -> tuple[Bands, tuple[Effect, ...]]:
    """A packet goes to the end of its band's ring."""
    band = band_of(e.priority)
    require(not is_full(s, band, p.tx_queue_len), "room in the band's ring")
    t = replace(
        s,
        ring0=produced(s.ring0) if band == 0 else s.ring0,
        ring1=produced(s.ring1) if band == 1 else s.ring1,
        ring2=produced(s.ring2) if band == 2 else s.ring2,
        entered=add(s.entered, 1),
        qlen=s.qlen + 1,
    )
    return t, (Entered(band=band, ticket=add(head(s, band), length(s, band))),)


@rule("net/sched/sch_generic.c:pfifo_fast_enqueue")
def enqueue_full(s: Bands, e: Enqueue, p: BandParams) -> tuple[Bands, tuple[Effect, ...]]:
    """A full ring refuses, though other bands may have room."""
    band = band_of(e.priority)
    require(is_full(s, band, p.tx_queue_len), "no room in the band's ring")
    return s, (Refused(band=band),)


@rule("net/sched/sch_generic.c:pfifo_fast_dequeue")
def dequeue(s: Bands, e: Dequeue, p: BandParams) -> tuple[Bands, tuple[Effect, ...]]:
    """The oldest packet of the first band that has any leaves."""
    require(chosen(s) < 3, "a packet in some band")
    band = chosen(s)
    t = replace(
        s,
        ring0=consumed(s.ring0, p.tx_queue_len) if band == 0 else s.ring0,
        ring1=consumed(s.ring1, p.tx_queue_len) if band == 1 else s.ring1,
        ring2=consumed(s.ring2, p.tx_queue_len) if band == 2 else s.ring2,
        head0=add(s.head0, 1) if band == 0 else s.head0,
        head1=add(s.head1, 1) if band == 1 else s.head1,
        head2=add(s.head2, 1) if band == 2 else s.head2,
        left=add(s.left, 1),
        qlen=s.qlen - 1,
    )
    return t, (Left(band=band, ticket=head(s, band)),)


@rule("net/sched/sch_generic.c:pfifo_fast_dequeue")
def dequeue_empty(s: Bands, e: Dequeue, p: BandParams) -> tuple[Bands, tuple[Effect, ...]]:
    """Three empty rings give nothing."""
    require(chosen(s) == 3, "no packet in any band")
    return s, ()


@rule("net/sched/sch_generic.c:pfifo_fast_reset")
def reset(s: Bands, e: Reset, p: BandParams) -> tuple[Bands, tuple[Effect, ...]]:
    """A reset frees what waits, without counting it as dropped."""
    t = replace(
        s,
        ring0=emptied(s.ring0, p.tx_queue_len),
        ring1=emptied(s.ring1, p.tx_queue_len),
        ring2=emptied(s.ring2, p.tx_queue_len),
        head0=add(s.head0, s.ring0.waiting),
        head1=add(s.head1, s.ring1.waiting),
        head2=add(s.head2, s.ring2.waiting),
        purged=add(s.purged, s.qlen),
        qlen=0,
    )
    return t, ()


PFIFO_FAST: Final = machine(
    Machine(
        name="pfifo_fast",
        title="pfifo_fast: three bands in strict priority",
        accepts={Bands: (Enqueue, Dequeue, Reset)},
        params=BandParams,
        modules=("refmodel.sched.bands", "refmodel.sched.bands_properties"),
    )
)
