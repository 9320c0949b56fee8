"""What is true of a station on a shared medium."""

from refmodel.phy.csma import (
    ATTEMPTS,
    GAP,
    GAP_PART1,
    HEADER,
    JAM,
    MIN_BITS,
    ON_AIR,
    SLOT,
    SLOT_EXTENDED,
    BacksOff,
    Begins,
    Carrier,
    Collision,
    CsmaParams,
    Done,
    Elapse,
    GivesUp,
    Jams,
    Mac,
    Station,
    begins,
    gap_after,
    limit,
    whole,
)
from refmodel.rule import invariant, transition


@invariant()
def attempts_have_an_end(s: Station) -> bool:
    """No more than sixteen attempts are made at a frame; who sends has made one, who backs off has one left."""
    sends = s.mac in ON_AIR or s.mac in (Mac.JAM, Mac.BACKOFF)
    return (not sends or s.attempts >= 1) and (s.mac not in (Mac.BACKOFF, Mac.DEFER) or s.attempts < ATTEMPTS)


@invariant()
def backoff_in_range(s: Station, p: CsmaParams) -> bool:
    """What is left of a back-off is less than the slots that the attempt allows."""
    most = limit(s.attempts) - 1
    return s.wait <= (most * SLOT_EXTENDED if p.gigabit else most * SLOT)


@invariant()
def backoff_only_then(s: Station) -> bool:
    """A back-off is left exactly while the station backs off."""
    return (s.wait > 0) == (s.mac == Mac.BACKOFF)


@invariant()
def bits_within_frame(s: Station, p: CsmaParams) -> bool:
    """No more bits are sent than the frame and its extension have."""
    return s.bits <= (HEADER + SLOT_EXTENDED if s.mac == Mac.EXTEND else whole(s)) or s.mac == Mac.JAM


@invariant()
def extension_is_gigabits(s: Station, p: CsmaParams) -> bool:
    """Extension and bursts are of 1000 Mb/s alone."""
    return p.gigabit or (s.mac not in (Mac.EXTEND, Mac.BURST_GAP) and s.first)


@invariant()
def jam_after_collision(s: Station) -> bool:
    """Bits of a jam are left exactly after a collision, no more than jam and header have."""
    return (s.jam > 0) == (s.mac == Mac.JAM) and s.jam <= JAM + HEADER


@invariant()
def frame_at_hand(s: Station) -> bool:
    """Who does anything has a frame of the least length at least."""
    return s.mac == Mac.IDLE or s.size >= MIN_BITS


@invariant()
def gap_before_the_air(s: Station) -> bool:
    """Whoever waits has not waited the whole gap yet, and who senses others has it before it."""
    waits = s.mac in (Mac.DEFER, Mac.BACKOFF, Mac.BURST_GAP) or (s.mac == Mac.IDLE and s.carrier)
    return not waits or s.gap < GAP


@transition()
def begins_after_the_gap(s: Station, e: object, t: Station, effects: tuple[object, ...]) -> bool:
    """No frame begins before the medium was silent for the gap, as far as the station had to look."""
    return not any(True for x in effects if isinstance(x, Begins)) or begins(t)


@transition(Elapse, at=Mac.DEFER)
def fair_to_others(s: Station, e: Elapse, t: Station) -> bool:
    """A carrier that is there in the gap's first part is deferred to."""
    return t.mac == Mac.DEFER or not s.carrier or s.gap >= GAP_PART1


@transition(Elapse)
def slots_from_range(s: Station, e: Elapse, t: Station, effects: tuple[object, ...]) -> bool:
    """The back-off is chosen from twice as many slots after each attempt, at most from 1024."""
    return all(x.slots >= 0 and x.slots < limit(s.attempts) for x in effects if isinstance(x, BacksOff))


@transition(Elapse)
def gives_up_late(s: Station, e: Elapse, t: Station, effects: tuple[object, ...], p: CsmaParams) -> bool:
    """A frame is given up only after the sixteenth collision, or a late one at 1000 Mb/s."""
    return all(x.attempts == ATTEMPTS or (p.gigabit and x.late) for x in effects if isinstance(x, GivesUp))


@transition(Elapse)
def whole_frames(s: Station, e: Elapse, t: Station, effects: tuple[object, ...], p: CsmaParams) -> bool:
    """A frame that is done fills the slot, so that its sender would have heard any collision."""
    least = HEADER + (SLOT_EXTENDED if p.gigabit and s.first else MIN_BITS)
    return all(x.bits >= least for x in effects if isinstance(x, Done))


@transition(Collision)
def jam_is_long_enough(s: Station, e: Collision, t: Station, effects: tuple[object, ...]) -> bool:
    """After a collision header and jam are sent to their end."""
    return not any(True for x in effects if isinstance(x, Jams)) or t.jam >= JAM


@transition(Carrier)
def carrier_stops_nobody(s: Station, e: Carrier, t: Station) -> bool:
    """A carrier alone ends nobody's transmission."""
    return t.mac == s.mac and t.bits == s.bits and gap_after(t, 0) <= s.gap
