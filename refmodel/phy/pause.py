"""Full duplex flow control: a port that was asked to pause begins no data frame; source IEEE 802.3 annex 31B."""

from typing import Annotated, Final

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
    require,
    rule,
    transition,
)
from refmodel.types import Range

QUANTUM: Final = 512  # bit times
LONGEST: Final = 8 * 2008
GAP: Final = 96

Bits = Annotated[int, Range(0, 0xFFFF * QUANTUM)]
CARD: Final = "drivers/net/ethernet/intel/e1000e/mac.c:e1000e_force_mac_fc"


class PauseParams(Params, frozen=True):
    """`enabled`: the port obeys (RFCE)."""

    enabled: bool = True


class Port(State, frozen=True):
    """A port. `sending` bits are left of the frame on the air, `control`: it is a MAC control frame; `gap` bits left.

    `pause` bits are left of the pause, `waiting` data frames wait.
    """

    sending: Annotated[int, Range(0, LONGEST)] = 0
    control: bool = False
    gap: Annotated[int, Range(0, GAP)] = 0
    pause: Bits = 0
    waiting: Annotated[int, Range(0, 1 << 20)] = 0


class Offer(Event, frozen=True):
    """The MAC client has a frame of `bits` with header; `control`: a MAC control frame."""

    bits: Annotated[int, Range(576, LONGEST)] = 576
    control: bool = False


class PauseFrame(Event, frozen=True):
    """A PAUSE frame came: 01-80-C2-00-00-01, type 0x8808, opcode 1, `quanta`."""

    quanta: Annotated[int, Range(0, 0xFFFF)] = 0


class Elapse(Event, frozen=True):
    """`n` bit times pass; `bits`: the length of the data frame that waits first."""

    n: Annotated[int, Range(1, 0xFFFF * QUANTUM)] = 1
    bits: Annotated[int, Range(576, LONGEST)] = 576


class Begins(Effect, frozen=True):
    """A frame begins."""

    control: bool


Effects = tuple[Effect, ...]


@rule(CARD, "IEEE 802.3 31B.3")
def offer_free(s: Port, e: Offer, p: PauseParams) -> tuple[Port, Effects]:
    """A port that is free and not paused sends at once; control frames are never paused."""
    require(s.sending == 0 and s.gap == 0, "nothing on the air")
    require(s.pause == 0 or e.control, "not paused, or a control frame")
    return replace(s, sending=e.bits, control=e.control), (Begins(control=e.control),)


@rule(CARD, "IEEE 802.3 31B.3")
def offer_waits(s: Port, e: Offer, p: PauseParams) -> tuple[Port, Effects]:
    """Otherwise a data frame waits; a control frame is offered again."""
    require(s.sending > 0 or s.gap > 0 or (s.pause > 0 and not e.control), "busy or paused")
    return replace(s, waiting=s.waiting if e.control else s.waiting + 1), ()


@rule(CARD, "IEEE 802.3 31B.3")
def paused(s: Port, e: PauseFrame, p: PauseParams) -> tuple[Port, Effects]:
    """A PAUSE frame sets the timer anew, to nothing with 0; what is on the air is sent to its end."""
    require(p.enabled, "flow control is on")
    return replace(s, pause=e.quanta * QUANTUM), ()


@rule(CARD, "IEEE 802.3 31B.3")
def not_obeyed(s: Port, e: PauseFrame, p: PauseParams) -> tuple[Port, Effects]:
    """A port without flow control throws a PAUSE frame away."""
    require(not p.enabled, "flow control is off")
    return s, ()


@rule(CARD, "IEEE 802.3 31B.3")
def elapse_sending(s: Port, e: Elapse, p: PauseParams) -> tuple[Port, Effects]:
    """While a frame is on the air the pause runs, too."""
    require(s.sending > 0, "a frame on the air")
    left = s.sending - e.n
    return replace(s, sending=left, gap=GAP if left == 0 else 0, pause=max(s.pause - e.n, 0)), ()


@rule(CARD, "IEEE 802.3 31B.3")
def elapse_gap(s: Port, e: Elapse, p: PauseParams) -> tuple[Port, Effects]:
    """Behind the gap the next data frame begins, unless the port is paused."""
    require(s.sending == 0, "nothing on the air")
    gap = max(s.gap - e.n, 0)
    pause = max(s.pause - e.n, 0)
    if gap == 0 and pause == 0 and s.waiting > 0:
        return replace(s, gap=0, pause=0, sending=e.bits, control=False, waiting=s.waiting - 1), (
            Begins(control=False),
        )
    return replace(s, gap=gap, pause=pause), ()


@assume
def frame_by_frame(s: Port, e: Elapse) -> bool:
    """Time stops at the end of a frame, of a gap, of a pause."""
    return e.n <= s.sending if s.sending > 0 else (e.n <= s.gap or s.gap == 0) and (e.n <= s.pause or s.pause == 0)


@assume
def queue_has_an_end(s: Port, e: Offer) -> bool:
    """No more frames wait than can be counted."""
    return s.waiting + 1 < 1 << 20


@invariant()
def gap_behind_the_frame(s: Port) -> bool:
    """The gap is counted while nothing is sent."""
    return s.sending == 0 or s.gap == 0


@invariant()
def obeys_if_enabled(s: Port, p: PauseParams) -> bool:
    """A port without flow control is never paused."""
    return p.enabled or s.pause == 0


@transition()
def paused_sends_no_data(s: Port, e: object, t: Port, effects: tuple[object, ...]) -> bool:
    """No data frame begins while the port is paused."""
    return all(x.control or t.pause == 0 for x in effects if isinstance(x, Begins))


@transition(PauseFrame)
def frame_ends_first(s: Port, e: PauseFrame, t: Port) -> bool:
    """A pause does not touch the frame on the air."""
    return t.sending == s.sending and t.gap == s.gap


@transition(PauseFrame)
def newest_counts(s: Port, e: PauseFrame, t: Port, effects: object, p: PauseParams) -> bool:
    """The newest PAUSE frame decides, whatever was before; 0 ends a pause."""
    return not p.enabled or t.pause == e.quanta * QUANTUM


@transition(Elapse)
def keeps_the_gap(s: Port, e: Elapse, t: Port, effects: tuple[object, ...]) -> bool:
    """A frame begins only behind the gap."""
    return not any(True for x in effects if isinstance(x, Begins)) or (s.sending == 0 and s.gap <= e.n)


@transition(Elapse)
def sends_when_it_may(s: Port, e: Elapse, t: Port) -> bool:
    """A frame does not wait for nothing: whoever waits is behind a frame, a gap or a pause."""
    return t.waiting == 0 or t.sending > 0 or t.gap > 0 or t.pause > 0


PAUSE: Final = machine(
    Machine(
        name="pause",
        title="Full duplex flow control",
        accepts={Port: (Offer, PauseFrame, Elapse)},
        params=PauseParams,
        modules=("refmodel.phy.pause",),
    )
)
