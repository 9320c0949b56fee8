"""What is always true of a backlog: it is bounded, nobody waits in vain, and a poll keeps to its quota."""

from refmodel.receive.backlog import Backlog, BacklogParams, Dropped, Packet, Poll, Polled, Scheduled, Step, Taken
from refmodel.rule import Effect, invariant, transition


@invariant()
def waiting_is_scheduled(s: Backlog) -> bool:
    """Packets that wait, in either queue, have a poll to come: no wake-up is lost."""
    return s.sched or (s.input == 0 and s.process == 0)


@invariant(at=Polled.YES)
def polled_is_scheduled(s: Backlog) -> bool:
    """The backlog stays scheduled while it is polled."""
    return s.sched


@invariant(at=Polled.NO)
def no_work_outside(s: Backlog) -> bool:
    """Work is counted in a poll only."""
    return s.work == 0


@invariant(at=Polled.YES)
def within_quota(s: Backlog, p: BacklogParams) -> bool:
    """A poll takes no more packets than its quota."""
    return s.work < p.quota


@invariant()
def bounded(s: Backlog, p: BacklogParams) -> bool:
    """At most netdev_max_backlog + 1 packets wait in the input queue."""
    return s.input <= max(p.netdev_max_backlog + 1, 0)


@invariant()
def bounded_taken(s: Backlog, p: BacklogParams) -> bool:
    """The process queue is one input queue at most, so twice the bound is held in all."""
    return s.process <= max(p.netdev_max_backlog + 1, 0)


@transition(Packet)
def kept_or_counted(s: Backlog, e: Packet, t: Backlog, effects: tuple[Effect, ...]) -> bool:
    """A packet waits or is dropped, one of the two."""
    return t.input - s.input + sum(1 for x in effects if isinstance(x, Dropped)) == 1 and t.process == s.process


@transition(Step)
def taken_or_kept(s: Backlog, e: Step, t: Backlog, effects: tuple[Effect, ...]) -> bool:
    """A poll loses no packet."""
    return s.input + s.process == t.input + t.process + sum(1 for x in effects if isinstance(x, Taken))


@transition(Packet, Poll, Step)
def scheduled_once(s: Backlog, e: Packet | Poll | Step, t: Backlog, effects: tuple[Effect, ...]) -> bool:
    """It is put on the poll list only while it is not there."""
    return not s.sched or not any(isinstance(x, Scheduled) for x in effects)
