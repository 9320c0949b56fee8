"""Byte queue limits: how many bytes the device may have in hand, learned from whether it ever ran dry.

A sender and a cleaner work at once. The sender books bytes, and stops the queue (STACK_XOFF) if they are more than the
limit; the cleaner books completions, moves the limit, and starts the queue. Each looks again after a barrier.
"""

from enum import IntEnum
from typing import Annotated, Final

from msgspec.structs import replace

from refmodel.rule import Effect, Event, Machine, Params, State, assume, machine, pure, require, rule
from refmodel.types import M32, Range, add, near, u32

DQL_MAX_OBJECT: Final = M32 // 16
DQL_MAX_LIMIT: Final = M32 // 2 - DQL_MAX_OBJECT
FLIGHT_MAX: Final = 1 << 27  # more bytes no ring holds
H31: Final = 1 << 31
TIME: Final = 1 << 53

Limit = Annotated[int, Range(0, DQL_MAX_LIMIT)]


class Sender(IntEnum):
    """Where the sender is in netdev_tx_sent_queue."""

    IDLE = 0
    CHECK = 1
    STOP = 2
    RECHECK = 3


class Cleaner(IntEnum):
    """Where the cleaner is in netdev_tx_completed_queue."""

    IDLE = 0
    CHECK = 1
    START = 2


class DqlParams(Params, frozen=True):
    """The limits of a queue's byte_queue_limits directory: bytes, and `hold_time` in jiffies (a second)."""

    min_limit: Limit = 0
    max_limit: Limit = DQL_MAX_LIMIT
    hold_time: Annotated[int, Range(0, M32)] = 250


class Dql(State, frozen=True):
    """struct dql and the bit STACK_XOFF.

    Bytes ever queued and completed (mod 2**32); the rest is what the last completions left behind to learn from. In
    `lowest_slack` M32 means that none was seen yet. `slack_start_time` in jiffies.
    """

    AT = "sender"

    sender: Sender = Sender.IDLE
    cleaner: Cleaner = Cleaner.IDLE
    xoff: bool = False
    num_queued: u32 = 0
    num_completed: Annotated[int, Range(0, M32), near("num_queued", sign=-1)] = 0
    adj_limit: Annotated[int, Range(0, M32), near("num_completed")] = 0
    limit: Limit = 0
    last_obj_cnt: Annotated[int, Range(0, FLIGHT_MAX)] = 0
    prev_ovlimit: Annotated[int, Range(0, FLIGHT_MAX)] = 0
    prev_num_queued: Annotated[int, Range(0, M32), near("num_completed")] = 0
    prev_last_obj_cnt: Annotated[int, Range(0, FLIGHT_MAX)] = 0
    lowest_slack: u32 = M32
    slack_start_time: Annotated[int, Range(0, TIME)] = 0


class Queued(Event, frozen=True):
    """The driver booked a packet of `count` bytes. `more`: another follows, so the sender does not look yet."""

    count: Annotated[int, Range(0, FLIGHT_MAX)] = 0
    more: bool = False


class SenderStep(Event, frozen=True):
    """The sender goes on."""


class Completed(Event, frozen=True):
    """At `now` (jiffies) the cleaner has freed `count` bytes."""

    count: Annotated[int, Range(1, FLIGHT_MAX)] = 1
    now: Annotated[int, Range(0, TIME)] = 0


class CleanerStep(Event, frozen=True):
    """The cleaner goes on."""


class Scheduled(Effect, frozen=True):
    """The queue was started and its discipline is scheduled."""


class Learn(IntEnum):
    """What a completion teaches."""

    STARVED = 0
    BUSY = 1
    NOTHING = 2


@pure
def posdiff(a: int, b: int) -> int:
    """a - b if that is positive as a signed number of 32 bits, else 0; source lib/dynamic_queue_limits.c:POSDIFF."""
    d = (a - b) & M32
    return d if d < H31 else 0


@pure
def avail(s: Dql) -> int:
    """Bytes that may still be queued, negative over the limit; source dql_avail."""
    d = (s.adj_limit - s.num_queued) & M32
    return d if d < H31 else d - M32 - 1


@pure
def inflight(s: Dql) -> int:
    """Bytes that the device has in hand."""
    return (s.num_queued - s.num_completed) & M32


@pure
def ovlimit(s: Dql) -> int:
    """Bytes in hand beyond the limit."""
    return posdiff(inflight(s), s.limit)


@pure
def inprogress(s: Dql, count: int) -> int:
    """Bytes in hand after `count` were completed."""
    return (s.num_queued - s.num_completed - count) & M32


@pure
def prev_inprogress(s: Dql) -> int:
    """Bytes that were in hand after the last completion."""
    return (s.prev_num_queued - s.num_completed) & M32


@pure
def all_prev_completed(s: Dql, count: int) -> bool:
    """Everything that was queued at the last completion is completed now."""
    return ((s.num_completed + count - s.prev_num_queued) & M32) < H31


@pure
def learn(s: Dql, e: Completed) -> Learn:
    """Starved: the device ran dry though it had been over the limit. Busy: it was not dry all the time."""
    dry = inprogress(s, e.count) == 0
    return (
        Learn.STARVED
        if (ovlimit(s) > 0 and dry) or (s.prev_ovlimit > 0 and all_prev_completed(s, e.count))
        else Learn.BUSY
        if not dry and prev_inprogress(s) > 0 and not all_prev_completed(s, e.count)
        else Learn.NOTHING
    )


@pure
def slack(s: Dql, e: Completed) -> int:
    """Bytes in hand that were not needed to keep the device busy."""
    spare = posdiff(s.limit + s.prev_ovlimit, 2 * e.count)
    last = posdiff(s.prev_last_obj_cnt, s.prev_ovlimit) if s.prev_ovlimit > 0 else 0
    return max(spare, last)


@pure
def held_long_enough(s: Dql, e: Completed, p: DqlParams) -> bool:
    """The least slack was watched for the hold time."""
    return e.now > s.slack_start_time + p.hold_time


@pure
def lowest(s: Dql, e: Completed) -> int:
    """The least slack with this completion's."""
    return min(s.lowest_slack, slack(s, e))


@pure
def wanted(s: Dql, e: Completed, p: DqlParams) -> int:
    """The limit that the completion teaches, before its bounds."""
    what = learn(s, e)
    grown = s.limit + posdiff(s.num_completed + e.count, s.prev_num_queued) + s.prev_ovlimit
    less = posdiff(s.limit, lowest(s, e))
    return grown if what == Learn.STARVED else less if what == Learn.BUSY and held_long_enough(s, e, p) else s.limit


@pure
def dql_completed(s: Dql, e: Completed, p: DqlParams) -> Dql:
    """Books a completion and moves the limit; source lib/dynamic_queue_limits.c:dql_completed."""
    what = learn(s, e)
    restart = what == Learn.STARVED or (what == Learn.BUSY and held_long_enough(s, e, p))
    limit = min(max(wanted(s, e, p), p.min_limit), p.max_limit)
    done = add(s.num_completed, e.count)
    return replace(
        s,
        limit=limit,
        adj_limit=add(done, limit),
        prev_ovlimit=ovlimit(s) if limit == s.limit else 0,
        prev_last_obj_cnt=s.last_obj_cnt,
        num_completed=done,
        prev_num_queued=s.num_queued,
        lowest_slack=M32 if restart else lowest(s, e) if what == Learn.BUSY else s.lowest_slack,
        slack_start_time=e.now if restart else s.slack_start_time,
    )


@pure
def dql_queued(s: Dql, count: int) -> Dql:
    """Books a packet; source include/linux/dynamic_queue_limits.h:dql_queued."""
    return replace(s, last_obj_cnt=count, num_queued=add(s.num_queued, count))


Effects = tuple[Effect, ...]


@rule("include/linux/netdevice.h:__netdev_tx_sent_queue", "include/linux/netdevice.h:netdev_tx_sent_queue")
def queued(s: Dql, e: Queued, p: DqlParams) -> tuple[Dql, Effects]:
    """A packet is booked; after the last of a list the sender looks whether there is room for more."""
    return replace(dql_queued(s, e.count), sender=s.sender if e.more else Sender.CHECK), ()


@rule("include/linux/netdevice.h:netdev_tx_sent_queue", at=Sender.CHECK)
def sent_check(s: Dql, e: SenderStep, p: DqlParams) -> tuple[Dql, Effects]:
    """Over the limit the queue is to be stopped."""
    return replace(s, sender=Sender.IDLE if avail(s) >= 0 else Sender.STOP), ()


@rule("include/linux/netdevice.h:netdev_tx_sent_queue", at=Sender.STOP)
def sent_stop(s: Dql, e: SenderStep, p: DqlParams) -> tuple[Dql, Effects]:
    """The queue is stopped before the sender looks again."""
    return replace(s, sender=Sender.RECHECK, xoff=True), ()


@rule("include/linux/netdevice.h:netdev_tx_sent_queue", at=Sender.RECHECK)
def sent_recheck(s: Dql, e: SenderStep, p: DqlParams) -> tuple[Dql, Effects]:
    """The cleaner may have made room meanwhile and seen no bit: then the queue runs on."""
    return replace(s, sender=Sender.IDLE, xoff=s.xoff and avail(s) < 0), ()


@rule("include/linux/netdevice.h:netdev_tx_sent_queue", at=Sender.IDLE)
def sent_idle(s: Dql, e: SenderStep, p: DqlParams) -> tuple[Dql, Effects]:
    """Nobody sends."""
    return s, ()


@rule("include/linux/netdevice.h:netdev_tx_completed_queue")
def completed(s: Dql, e: Completed, p: DqlParams) -> tuple[Dql, Effects]:
    """Completed bytes are booked and the limit moves."""
    return replace(dql_completed(s, e, p), cleaner=Cleaner.CHECK), ()


@rule("include/linux/netdevice.h:netdev_tx_completed_queue")
def completed_check(s: Dql, e: CleanerStep, p: DqlParams) -> tuple[Dql, Effects]:
    """Still over the limit nothing is started."""
    require(s.cleaner == Cleaner.CHECK, "bytes booked")
    return replace(s, cleaner=Cleaner.IDLE if avail(s) < 0 else Cleaner.START), ()


@rule("include/linux/netdevice.h:netdev_tx_completed_queue")
def completed_start(s: Dql, e: CleanerStep, p: DqlParams) -> tuple[Dql, Effects]:
    """With room a queue that was stopped runs again."""
    require(s.cleaner == Cleaner.START, "room seen")
    if s.xoff:
        return replace(s, cleaner=Cleaner.IDLE, xoff=False), (Scheduled(),)
    return replace(s, cleaner=Cleaner.IDLE), ()


@rule("include/linux/netdevice.h:netdev_tx_completed_queue")
def completed_idle(s: Dql, e: CleanerStep, p: DqlParams) -> tuple[Dql, Effects]:
    """Nobody cleans."""
    require(s.cleaner == Cleaner.IDLE, "nothing booked")
    return s, ()


@assume
def one_sender(s: Dql, e: Queued) -> bool:
    """Senders hold the queue's lock, one is not at it while stopped, and no ring holds more than FLIGHT_MAX bytes."""
    return s.sender == Sender.IDLE and inflight(s) + e.count <= FLIGHT_MAX


@assume
def one_cleaner(s: Dql, e: Completed, p: DqlParams) -> bool:
    """One cleaner completes no more than is in hand, in the order of time."""
    return s.cleaner == Cleaner.IDLE and e.count <= inflight(s) and e.now >= s.slack_start_time


@assume
def limits_make_sense(s: Dql, e: Completed, p: DqlParams) -> bool:
    """The least limit is not above the greatest."""
    return p.min_limit <= p.max_limit


BQL: Final = machine(
    Machine(
        name="bql",
        title="Byte queue limits",
        accepts={Dql: (Queued, SenderStep, Completed, CleanerStep)},
        params=DqlParams,
        modules=("refmodel.dev.dql", "refmodel.dev.dql_properties"),
    )
)
