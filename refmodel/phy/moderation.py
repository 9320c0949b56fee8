"""Interrupt moderation in the card: delay timers put a cause off, and the throttle keeps interrupts apart.

Two timers run for each direction: the packet timer (RDTR, TIDV) begins anew with each packet, the absolute timer
(RADV, TADV) with the first one only. The throttle (ITR, EITR) holds an interrupt back until its interval is over. Times
are ns.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

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
    transition,
)
from refmodel.types import Range

TIME: Final = 1 << 60
NEVER: Final = TIME
DELAY_UNIT: Final = 1024  # ns: RDTR, RADV, TIDV and TADV count in 1.024 us
ITR_UNIT: Final = 256  # ns

ns = Annotated[int, Range(0, TIME)]


class Wait(IntEnum):
    """What the card waits for."""

    NOTHING = 0
    TIMERS = 1
    THROTTLE = 2


class DelayParams(Params, frozen=True):
    """The registers' values: `delay` (RDTR, TIDV), `absolute` (RADV, TADV) in 1.024 us, `itr` in 256 ns; 0: none."""

    delay: Annotated[int, Range(0, 0xFFFF)] = 0
    absolute: Annotated[int, Range(0, 0xFFFF)] = 8
    itr: Annotated[int, Range(0, 0xFFFF)] = 0


class Delay(State, frozen=True):
    """One direction of a card. `first`: the oldest packet without an interrupt; `last`: when the newest came.

    `open`: when the throttle lets the next interrupt out. `irq`: when the last one was.
    """

    AT: ClassVar[str] = "wait"

    wait: Wait = Wait.NOTHING
    first: ns = 0
    last: ns = 0
    open: ns = 0
    irq: ns = 0


class Written(Event, frozen=True):
    """A packet is written back at `now`."""

    now: ns = 0


class Due(Event, frozen=True):
    """The card's own time: at `now` what it waits for is there."""

    now: ns = 0


class Interrupt(Effect, frozen=True):
    """The interrupt is raised at `now`, for a packet that came at `first`."""

    now: int
    first: int


@pure
def expires(first: int, last: int, p: DelayParams) -> int:
    """When the timers run out: the packet timer, or the absolute one if that is sooner and not off."""
    packet = last + p.delay * DELAY_UNIT
    absolute = first + p.absolute * DELAY_UNIT
    return min(packet, absolute) if p.absolute > 0 else packet


@pure
def deadline(s: Delay, p: DelayParams) -> int:
    """When the card will act by itself."""
    return expires(s.first, s.last, p) if s.wait == Wait.TIMERS else s.open if s.wait == Wait.THROTTLE else NEVER


@pure
def raised(s: Delay, now: int, first: int, p: DelayParams) -> Delay:
    """The interrupt is out, and the throttle's interval begins."""
    return replace(s, wait=Wait.NOTHING, first=first, last=now, irq=now, open=now + p.itr * ITR_UNIT)


Effects = tuple[Effect, ...]
CARD: Final = "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_configure_rx"
TX: Final = "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_configure_tx"


@rule(CARD, TX, at=Wait.NOTHING)
def written_at_once(s: Delay, e: Written, p: DelayParams) -> tuple[Delay, Effects]:
    """Without a packet timer, and with the throttle open, the interrupt is raised at once."""
    require(p.delay == 0, "no packet timer")
    require(e.now >= s.open, "the throttle is open")
    return raised(s, e.now, e.now, p), (Interrupt(now=e.now, first=e.now),)


@rule(CARD, TX, at=Wait.NOTHING)
def written_throttled(s: Delay, e: Written, p: DelayParams) -> tuple[Delay, Effects]:
    """Without a packet timer the throttle may hold the interrupt back."""
    require(p.delay == 0, "no packet timer")
    require(e.now < s.open, "the throttle is closed")
    return replace(s, wait=Wait.THROTTLE, first=e.now, last=e.now), ()


@rule(CARD, TX, at=Wait.NOTHING)
def written_delayed(s: Delay, e: Written, p: DelayParams) -> tuple[Delay, Effects]:
    """The first packet starts both timers."""
    require(p.delay > 0, "a packet timer")
    return replace(s, wait=Wait.TIMERS, first=e.now, last=e.now), ()


@rule(CARD, TX, at=(Wait.TIMERS, Wait.THROTTLE))
def written_again(s: Delay, e: Written, p: DelayParams) -> tuple[Delay, Effects]:
    """A further packet starts the packet timer anew, not the absolute one."""
    return replace(s, last=e.now), ()


@rule(CARD, TX, at=(Wait.TIMERS, Wait.THROTTLE))
def due_open(s: Delay, e: Due, p: DelayParams) -> tuple[Delay, Effects]:
    """When a timer runs out and the throttle is open the interrupt is raised."""
    require(e.now >= s.open, "the throttle is open")
    return raised(s, e.now, s.first, p), (Interrupt(now=e.now, first=s.first),)


@rule(CARD, TX, at=(Wait.TIMERS, Wait.THROTTLE))
def due_throttled(s: Delay, e: Due, p: DelayParams) -> tuple[Delay, Effects]:
    """A cause that the throttle holds back waits for it."""
    require(e.now < s.open, "the throttle is closed")
    return replace(s, wait=Wait.THROTTLE), ()


@rule(CARD, TX, at=Wait.NOTHING)
def due_nothing(s: Delay, e: Due, p: DelayParams) -> tuple[Delay, Effects]:
    """A card that waits for nothing does nothing."""
    return s, ()


@assume
def packets_in_time(s: Delay, e: Written, p: DelayParams) -> bool:
    """Packets come in the order of time, and what is due before is done before."""
    return e.now >= s.last and e.now >= s.irq and e.now <= deadline(s, p) and e.now < TIME // 2


@assume
def due_in_time(s: Delay, e: Due, p: DelayParams) -> bool:
    """The card acts at its deadline."""
    return (e.now == deadline(s, p) or s.wait == Wait.NOTHING) and e.now < TIME // 2


@invariant()
def times_in_order(s: Delay) -> bool:
    """The oldest packet that waits came before the newest, and after the last interrupt."""
    return s.first <= s.last and (s.wait == Wait.NOTHING or s.irq <= s.first)


@invariant()
def throttle_follows_interrupt(s: Delay, p: DelayParams) -> bool:
    """The throttle opens its interval after the last interrupt."""
    return s.open == s.irq + p.itr * ITR_UNIT or (s.open == 0 and s.irq == 0)


@invariant()
def throttled_while_closed(s: Delay) -> bool:
    """The card waits for the throttle only while it is closed for the packet that came last before."""
    return s.wait != Wait.THROTTLE or s.first < s.open


@invariant()
def timers_need_a_delay(s: Delay, p: DelayParams) -> bool:
    """Timers run only where there is a packet timer."""
    return s.wait != Wait.TIMERS or p.delay > 0


@transition(Written, Due)
def interrupts_apart(s: Delay, e: object, t: Delay, effects: tuple[object, ...], p: DelayParams) -> bool:
    """Two interrupts are at least the throttle's interval apart."""
    return all(x.now >= s.open for x in effects if isinstance(x, Interrupt))


@transition(Due)
def delay_bounded(s: Delay, e: Due, t: Delay, effects: tuple[object, ...], p: DelayParams) -> bool:
    """With an absolute timer no packet waits longer than for it, or for the throttle."""
    most = max(s.first + p.absolute * DELAY_UNIT, s.open)
    late = any(x.now > most for x in effects if isinstance(x, Interrupt))
    return p.absolute == 0 or s.wait == Wait.THROTTLE or not late


@transition(Written)
def packets_do_not_delay_the_first(s: Delay, e: Written, t: Delay) -> bool:
    """A further packet does not change since when the first waits."""
    return s.wait == Wait.NOTHING or t.first == s.first


@transition(Due)
def nothing_forgotten(s: Delay, e: Due, t: Delay, effects: tuple[object, ...]) -> bool:
    """A packet that waits has its interrupt, or waits on."""
    told = any(True for x in effects if isinstance(x, Interrupt))
    return s.wait == Wait.NOTHING or told or t.wait != Wait.NOTHING


MODERATION: Final = machine(
    Machine(
        name="irq_delay",
        title="Interrupt moderation in the card",
        accepts={Delay: (Written, Due)},
        params=DelayParams,
        modules=("refmodel.phy.moderation",),
    )
)
