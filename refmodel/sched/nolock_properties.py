"""What is true of a lockless discipline at every moment."""

from refmodel.rule import invariant, transition
from refmodel.sched.nolock import (
    BYPASSES,
    COMES,
    HELD,
    LOOKS,
    Nolock,
    Pc,
    Step,
    anywhere,
    empty,
    work,
)


@invariant()
def lock_is_held(s: Nolock) -> bool:
    """The lock is taken exactly while a processor is between taking and giving it back."""
    return s.locked == anywhere(s, HELD)


@invariant()
def one_holder(s: Nolock) -> bool:
    """Two processors never hold the lock at once."""
    return not (s.a in HELD and s.b in HELD)


@invariant()
def bypass_has_packet(s: Nolock) -> bool:
    """Only who holds the lock with a packet of its own in hand sends past the rings."""
    return not s.bypass or anywhere(s, (Pc.XMIT,))


@invariant()
def missed_is_seen(s: Nolock) -> bool:
    """MISSED is set only while somebody holds the lock, has just given it back, is about to try it, or is scheduled."""
    return not s.missed or s.locked or s.sched or anywhere(s, (Pc.AFTER, Pc.TRY, Pc.TRY_AGAIN, Pc.ENQUEUE, *BYPASSES))


@invariant()
def retry_has_nothing_back(s: Nolock) -> bool:
    """The rings are looked at a second time only when nothing came back from the driver."""
    return not anywhere(s, (Pc.RETRY,)) or s.back == 0


@invariant()
def waiting_is_watched(s: Nolock) -> bool:
    """Packets wait only while somebody will look for them, or the queue is stopped and the driver will wake it."""
    looks = anywhere(s, COMES) or anywhere(s, LOOKS) or (anywhere(s, (Pc.XMIT,)) and not s.bypass)
    told = s.missed and (s.locked or anywhere(s, (Pc.AFTER, Pc.TRY_AGAIN)))
    reads = not empty(s) and anywhere(s, (Pc.RETEST, *BYPASSES))
    return not work(s) or s.stopped or s.waking or s.sched or looks or told or reads


@invariant()
def no_lost_wakeup(s: Nolock) -> bool:
    """When everybody has gone and the queue runs, nothing waits."""
    gone = s.a == Pc.IDLE and s.b == Pc.IDLE and not s.sched and not s.waking
    return not gone or s.stopped or not work(s)


@invariant()
def back_is_marked(s: Nolock) -> bool:
    """While packets are back, MISSED or DRAINING says so, but for the moments in which the holder changes them."""
    return s.back == 0 or not empty(s) or anywhere(s, (Pc.STOPPED, Pc.STOPPED_XMIT, Pc.REQUEUED))


@transition(Step)
def bypass_overtakes_nothing(s: Nolock, e: Step, t: Nolock) -> bool:
    """A packet goes past the rings only where the bits say that nothing waits."""
    return s.bypass or not t.bypass or empty(s)


@transition(Step)
def nothing_lost(s: Nolock, e: Step, t: Nolock, effects: object) -> bool:
    """A step moves at most one packet in or out, and never one from nowhere."""
    return abs(t.queued + t.back - s.queued - s.back) <= 1 and (t.back <= s.back or t.queued == s.queued)
