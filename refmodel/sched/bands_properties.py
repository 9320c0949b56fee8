"""What is true of pfifo_fast: strict priority, order within a band, and nothing lost but what is counted."""

from refmodel.ptr_ring import BATCH, PtrRing, batch
from refmodel.rule import invariant, pure, transition
from refmodel.sched.bands import (
    BandParams,
    Bands,
    Dequeue,
    Enqueue,
    Entered,
    Left,
    Refused,
    Reset,
    band_of,
    head,
    length,
)
from refmodel.types import add


@invariant()
def nothing_lost(s: Bands) -> bool:
    """Every packet that entered left, was thrown away by a reset, or waits."""
    return s.entered == add(add(s.left, s.purged), s.qlen)


@invariant()
def qlen_counts_rings(s: Bands) -> bool:
    """The queue's length is the sum of its rings'."""
    return s.qlen == s.ring0.waiting + s.ring1.waiting + s.ring2.waiting


@pure
def sound(r: PtrRing, size: int) -> bool:
    """A ring's slots suffice and its batches begin where they should."""
    held = r.head % BATCH if batch(size) == BATCH else 0
    return r.waiting + r.held <= size and r.head < size and r.held == held


@invariant()
def ring_has_an_end(s: Bands, p: BandParams) -> bool:
    """No ring holds more than tx_queue_len packets and slots not yet free."""
    return sound(s.ring0, p.tx_queue_len) and sound(s.ring1, p.tx_queue_len) and sound(s.ring2, p.tx_queue_len)


@transition(Dequeue)
def strict_priority(s: Bands, e: Dequeue, t: Bands, effects: tuple[object, ...]) -> bool:
    """No packet leaves while a more urgent band has one."""
    return all(
        (x.band <= 0 or s.ring0.waiting == 0) and (x.band <= 1 or s.ring1.waiting == 0)
        for x in effects
        if isinstance(x, Left)
    )


@transition(Dequeue)
def first_in_first_out(s: Bands, e: Dequeue, t: Bands, effects: tuple[object, ...]) -> bool:
    """Within a band packets leave in the order of their tickets, none twice."""
    return all(
        x.ticket == head(s, x.band) and head(t, x.band) == add(x.ticket, 1) for x in effects if isinstance(x, Left)
    )


@transition(Enqueue)
def enters_at_the_end(s: Bands, e: Enqueue, t: Bands, effects: tuple[object, ...]) -> bool:
    """A packet enters the band of its priority behind all that wait there."""
    return all(
        x.band == band_of(e.priority) and x.ticket == add(head(s, x.band), length(s, x.band))
        for x in effects
        if isinstance(x, Entered)
    )


@transition(Enqueue)
def refused_or_entered(s: Bands, e: Enqueue, t: Bands, effects: tuple[object, ...]) -> bool:
    """A packet is refused, which changes nothing, or enters."""
    refused = any(True for x in effects if isinstance(x, Refused))
    return t.qlen == s.qlen + (0 if refused else 1) and t.left == s.left


@transition(Dequeue)
def works_while_it_has_work(s: Bands, e: Dequeue, t: Bands, effects: tuple[object, ...]) -> bool:
    """A packet leaves whenever one waits."""
    return s.qlen == 0 or any(True for x in effects if isinstance(x, Left))


@transition(Reset)
def reset_empties(s: Bands, e: Reset, t: Bands) -> bool:
    """Nothing waits after a reset."""
    return t.qlen == 0 and t.ring0.waiting == 0 and t.ring1.waiting == 0 and t.ring2.waiting == 0
