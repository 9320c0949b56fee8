"""What is true of a locked discipline's books."""

from refmodel.rule import invariant, transition
from refmodel.sched.account import (
    Dequeue,
    Drop,
    Enqueue,
    Fifo,
    FifoParams,
    Kind,
    Pass,
    Refused,
)
from refmodel.types import add


@invariant()
def nothing_lost(s: Fifo) -> bool:
    """What entered was sent or dropped, waits, or is in the driver's hands."""
    return s.entered == add(add(s.sent, s.drops), s.waiting + s.gso + s.hand)


@invariant()
def qlen_counts_all(s: Fifo) -> bool:
    """The length that the kernel keeps counts the list and what came back."""
    return s.qlen == s.waiting + s.gso


@invariant()
def counted_once(s: Fifo) -> bool:
    """A packet counts as sent when it leaves the list, and not again when it comes back."""
    return s.packets == add(add(s.sent, s.gso), s.hand)


@invariant()
def list_has_an_end(s: Fifo, p: FifoParams) -> bool:
    """The list holds no more packets than the limit."""
    return p.kind == Kind.BFIFO or s.waiting <= max(p.limit, 1)


@invariant()
def nothing_waits_without_limit(s: Fifo, p: FifoParams) -> bool:
    """A discipline with limit 0 keeps nothing."""
    return p.kind == Kind.BFIFO or p.limit > 0 or s.waiting == 0


@transition(Enqueue)
def bypass_overtakes_nothing(s: Fifo, e: Enqueue, t: Fifo, effects: tuple[object, ...]) -> bool:
    """Only a packet that finds nobody before it goes past the list."""
    return not any(True for x in effects if isinstance(x, Pass)) or (s.qlen == 0 and s.hand == 0)


@transition(Enqueue)
def only_head_drop_drops_others(s: Fifo, e: Enqueue, t: Fifo, effects: tuple[object, ...], p: FifoParams) -> bool:
    """pfifo and bfifo drop the packet that comes, and no packet that fits is dropped."""
    return all(not x.oldest or p.kind == Kind.PFIFO_HEAD_DROP for x in effects if isinstance(x, Drop))


@transition(Dequeue)
def requeued_first(s: Fifo, e: Dequeue, t: Fifo) -> bool:
    """What came back leaves before anything in the list."""
    return s.gso == 0 or t.waiting == s.waiting


@transition(Refused)
def requeue_is_counted(s: Fifo, e: Refused, t: Fifo) -> bool:
    """Whatever comes back is counted as a requeue and not as a drop."""
    return t.requeues == add(s.requeues, 1) and t.drops == s.drops
