"""What is true of byte queue limits."""

from refmodel.dev.dql import (
    FLIGHT_MAX,
    Cleaner,
    CleanerStep,
    Completed,
    Dql,
    DqlParams,
    Learn,
    Queued,
    Sender,
    SenderStep,
    avail,
    inflight,
    learn,
)
from refmodel.rule import invariant, transition
from refmodel.types import M32, add


@invariant()
def flight_fits(s: Dql) -> bool:
    """No more is completed than was queued, and no ring holds more than can be counted."""
    return inflight(s) <= FLIGHT_MAX


@invariant()
def limit_from_completed(s: Dql) -> bool:
    """The sender's mark lies the limit beyond what is completed."""
    return s.adj_limit == add(s.num_completed, s.limit)


@invariant()
def last_look_is_past(s: Dql) -> bool:
    """What was queued at the last completion lies between what is completed and what is queued."""
    return ((s.prev_num_queued - s.num_completed) & M32) <= inflight(s)


@invariant()
def learned_from_flight(s: Dql) -> bool:
    """Nothing that is learned from is greater than what a ring holds."""
    return s.prev_ovlimit <= FLIGHT_MAX and s.last_obj_cnt <= FLIGHT_MAX


@invariant()
def stopped_has_flight(s: Dql) -> bool:
    """A queue that is stopped, and that nobody is about to start, has bytes in hand whose completion will start it."""
    settled = s.sender != Sender.RECHECK and s.cleaner == Cleaner.IDLE
    return not settled or not s.xoff or inflight(s) > 0


@invariant()
def stopped_is_over_limit(s: Dql) -> bool:
    """A queue that is stopped, and that nobody is about to start, is over its limit."""
    settled = s.sender != Sender.RECHECK and s.cleaner == Cleaner.IDLE
    return not settled or not s.xoff or avail(s) < 0


@transition(Completed)
def limit_in_bounds(s: Dql, e: Completed, t: Dql, effects: object, p: DqlParams) -> bool:
    """A completion leaves the limit within its bounds."""
    return p.min_limit <= t.limit and t.limit <= p.max_limit


@transition(Completed)
def starving_raises(s: Dql, e: Completed, t: Dql, effects: object, p: DqlParams) -> bool:
    """A device that ran dry gets no smaller limit, but for its greatest."""
    return learn(s, e) != Learn.STARVED or t.limit >= min(s.limit, p.max_limit)


@transition(Completed)
def busy_lowers_in_time(s: Dql, e: Completed, t: Dql, effects: object, p: DqlParams) -> bool:
    """The limit falls only after the hold time of a busy device, but for its bounds."""
    waited = e.now > s.slack_start_time + p.hold_time
    return t.limit >= min(s.limit, p.max_limit) or (learn(s, e) == Learn.BUSY and waited)


@transition(Queued, SenderStep, CleanerStep)
def only_completions_learn(s: Dql, e: object, t: Dql) -> bool:
    """Nothing but a completion moves the limit."""
    return t.limit == s.limit and t.num_completed == s.num_completed


@transition(SenderStep, at=Sender.RECHECK)
def stops_only_over_limit(s: Dql, e: SenderStep, t: Dql) -> bool:
    """After the sender's second look a queue with room is not stopped by it."""
    return not t.xoff or avail(t) < 0
