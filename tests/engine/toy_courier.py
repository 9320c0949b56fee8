"""A toy machine for tests of the prover: a courier that sends, waits for an acknowledgment and tries again."""

from enum import IntEnum
from typing import Annotated, ClassVar

from msgspec.structs import replace

from refmodel.profile import Sysctl
from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Params,
    State,
    assume,
    invariant,
    machine,
    pure,
    require,
    rule,
    step,
    transition,
)
from refmodel.types import M32, NEVER, TIME_MAX, Range, add, after, distance, near, u16

RETRIES = Sysctl("toy.retries", 5, 0, 15, "toy.c:table")
TRIES_MAX = 16
HOUR = 3_600_000_000


class Phase(IntEnum):
    IDLE = 1
    WAIT = 2
    DONE = 4
    LOST = 8


class Seen(IntEnum):
    OLD = 0
    PART = 1
    ALL = 2
    UNSENT = 3


class Box(State, frozen=True):
    AT: ClassVar[str] = "phase"

    phase: Phase = Phase.IDLE
    una: Annotated[int, Range(0, M32)] = 0
    nxt: Annotated[int, Range(0, M32), near("una")] = 0
    tries: Annotated[int, Range(0, TRIES_MAX)] = 0
    deadline: Annotated[int, Range(0, TIME_MAX)] = NEVER


class Put(Event, frozen=True):
    now: Annotated[int, Range(0, HOUR)]
    n: u16 = 1


class Ack(Event, frozen=True):
    ack: Annotated[int, Range(0, M32), near("una")]


class Tick(Event, frozen=True):
    now: Annotated[int, Range(0, HOUR)]


class CourierParams(Params, frozen=True):
    retries: Annotated[int, RETRIES] = 5
    gap: Annotated[int, Range(1, HOUR)] = 1_000_000


class Sent(Effect, frozen=True):
    seq: Annotated[int, Range(0, M32)]
    n: int


class Told(Effect, frozen=True):
    n: int


@pure
def flight(s: Box) -> int:
    return distance(s.una, s.nxt)


@pure
def seen(s: Box, e: Ack) -> Seen:
    if not after(e.ack, s.una):
        return Seen.OLD
    if after(e.ack, s.nxt):
        return Seen.UNSENT
    return Seen.ALL if e.ack == s.nxt else Seen.PART


@step("toy.c:send")
def send(s: Box, now: int, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """Sends what is in flight and sets the timer."""
    return replace(s, deadline=now + p.gap), (Sent(s.una, flight(s)),)


@rule("toy.c:put", at=Phase.IDLE)
def put(s: Box, e: Put, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """An idle courier takes the parcel."""
    require(e.n != 0, "there is something to carry")
    return send(replace(s, phase=Phase.WAIT, nxt=add(s.una, e.n), tries=0), e.now, p)


@rule("toy.c:put", at=Phase.IDLE)
def put_nothing(s: Box, e: Put, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """An empty parcel is no work."""
    require(e.n == 0, "there is nothing to carry")
    return s, ()


@rule("toy.c:put", at=(Phase.WAIT, Phase.DONE))
def put_busy(s: Box, e: Put, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """A busy courier takes nothing."""
    return s, ()


@rule("toy.c:ack", at=Phase.WAIT)
def ack_forward(s: Box, e: Ack, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """What is acknowledged leaves the flight; the last of it ends the wait."""
    v = seen(s, e)
    require(v == Seen.PART or v == Seen.ALL, "the acknowledgment is of something sent")
    done = v == Seen.ALL
    t = replace(s, una=e.ack, phase=Phase.IDLE if done else s.phase, deadline=NEVER if done else s.deadline)
    return t, (Told(distance(s.una, e.ack)),)


@rule("toy.c:ack", at=Phase.WAIT)
def ack_ignored(s: Box, e: Ack, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """Old and impossible acknowledgments change nothing."""
    require(seen(s, e) in (Seen.OLD, Seen.UNSENT), "the acknowledgment is of nothing new")
    return s, ()


@rule("toy.c:ack", at=(Phase.IDLE, Phase.DONE))
def ack_unexpected(s: Box, e: Ack, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """Nobody waits for this."""
    return s, ()


@rule("toy.c:tick", at=Phase.WAIT)
def tick_early(s: Box, e: Tick, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """It is too early to try again."""
    require(e.now < s.deadline, "the deadline is in the future")
    return s, ()


@rule("toy.c:tick", at=Phase.WAIT)
def tick_again(s: Box, e: Tick, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """The courier tries again."""
    require(e.now >= s.deadline and s.tries < p.retries, "a retry is left")
    return send(replace(s, tries=s.tries + 1), e.now, p)


@rule("toy.c:tick", at=Phase.WAIT, until="6.12")
def tick_give_up(s: Box, e: Tick, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """The courier gives up silently."""
    require(e.now >= s.deadline and s.tries >= p.retries, "no retry is left")
    return replace(s, phase=Phase.DONE, deadline=NEVER), ()


@rule("toy.c:tick", at=Phase.WAIT, since="6.12")
def tick_give_up_loudly(s: Box, e: Tick, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """Since 6.12 the courier says so when it gives up."""
    require(e.now >= s.deadline and s.tries >= p.retries, "no retry is left")
    return replace(s, phase=Phase.DONE, deadline=NEVER), (Told(0),)


@rule("toy.c:tick", at=(Phase.IDLE, Phase.DONE))
def tick_idle(s: Box, e: Tick, p: CourierParams) -> tuple[Box, tuple[Effect, ...]]:
    """No timer runs."""
    return s, ()


@invariant(at=Phase.LOST)
def never_lost(s: Box) -> bool:
    """No courier is ever lost."""
    return False


@invariant()
def flight_by_phase(s: Box) -> bool:
    """Something is in flight while the courier waits, nothing while it is idle, and never more than one parcel."""
    return (
        flight(s) <= 0xFFFF and (s.phase != Phase.WAIT or flight(s) != 0) and (s.phase != Phase.IDLE or flight(s) == 0)
    )


@invariant()
def timer_by_phase(s: Box) -> bool:
    """The timer is armed exactly while the courier waits."""
    return (s.deadline != NEVER) == (s.phase == Phase.WAIT)


@invariant()
def tries_bounded(s: Box, p: CourierParams) -> bool:
    """No more tries than the sysctl allows."""
    return s.tries <= p.retries


@invariant(falsified="the courier gives up with its parcel in flight")
def done_is_empty(s: Box) -> bool:
    """Nothing is in flight when the courier is done."""
    return s.phase != Phase.DONE or flight(s) == 0


@transition(Ack)
def only_sent_is_acknowledged(s: Box, e: Ack, t: Box) -> bool:
    """The acknowledged edge never passes what was sent."""
    return not after(t.una, s.nxt)


@transition()
def told_what_left(s: Box, e: Event, t: Box, effects: tuple[Effect, ...]) -> bool:
    """The number told is what left the flight."""
    return all(x.n == distance(s.una, t.una) for x in effects if isinstance(x, Told))


@assume
def no_tick_before_time(s: Box, e: Tick) -> bool:
    """Ticks come to couriers that once had work."""
    return s.phase != Phase.IDLE


COURIER = machine(
    Machine(
        name="courier",
        title="A courier",
        accepts={Box: (Put, Ack, Tick)},
        params=CourierParams,
        modules=(__name__,),
        initial=(Box(),),
    )
)
