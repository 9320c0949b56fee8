"""Half duplex: a station of CSMA/CD; source IEEE 802.3 clause 4.2.

Time goes in bit times. The station defers to others, waits for the gap, sends, jams after a collision, and backs off
for a random number of slots whose range doubles with each attempt, up to ten times. The sixteenth collision ends it.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import Effect, Event, Machine, Params, State, assume, machine, pure, require, rule
from refmodel.types import Range

HEADER: Final = 64  # preamble and start delimiter, bits
GAP: Final = 96
GAP_PART1: Final = 64  # two thirds: a carrier in here starts the gap anew, one later does not
JAM: Final = 32
ATTEMPTS: Final = 16
SLOT: Final = 512
SLOT_EXTENDED: Final = 4096
BURST_LIMIT: Final = 65536
MIN_BITS: Final = 512
MAX_BITS: Final = 8 * 2000  # a frame with tags and the like
MAX_DEFER: Final = 2 * 8 * 1518
# Slots that may be chosen after the n-th attempt: fewer than 2 to the n, at most than 2 to the 10th.
SLOTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024, 1024, 1024, 1024, 1024)


CARD: Final = "drivers/net/ethernet/intel/e1000e/defines.h:E1000_COLLISION_DISTANCE"  # what a driver sets of all this


class Mac(IntEnum):
    """What the station does."""

    IDLE = 0
    DEFER = 1
    TRANSMIT = 2
    EXTEND = 3  # carrier extension, at 1000 Mb/s
    JAM = 4
    BACKOFF = 5
    BURST_GAP = 6  # between frames of a burst the station keeps the medium


ON_AIR: Final = (Mac.TRANSMIT, Mac.EXTEND, Mac.BURST_GAP)
QUIET: Final = (Mac.IDLE, Mac.DEFER, Mac.BACKOFF)


class CsmaParams(Params, frozen=True):
    """`gigabit`: 1000 Mb/s, with carrier extension and bursts."""

    gigabit: bool = False


class Station(State, frozen=True):
    """A station. `carrier`: it senses others. `gap`: bits since the medium fell silent, as far as they count.

    `size` bits of the frame without header, `bits` of header and frame that it has sent, or of the jam. `attempts` at
    this frame. `late`: a collision came after the slot. `wait`: bits of the back-off that are left. `deferred`: bits
    that it has deferred. `burst`: bits since the burst began; `first`: the burst's first frame is on the air.
    """

    AT: ClassVar[str] = "mac"

    mac: Mac = Mac.IDLE
    carrier: bool = False
    gap: Annotated[int, Range(0, GAP)] = GAP
    size: Annotated[int, Range(0, MAX_BITS)] = 0
    bits: Annotated[int, Range(0, HEADER + MAX_BITS)] = 0
    attempts: Annotated[int, Range(0, ATTEMPTS)] = 0
    late: bool = False
    jam: Annotated[int, Range(0, JAM + HEADER)] = 0
    wait: Annotated[int, Range(0, 1023 * SLOT_EXTENDED)] = 0
    deferred: Annotated[int, Range(0, MAX_DEFER + 1)] = 0
    burst: Annotated[int, Range(0, BURST_LIMIT)] = 0
    first: bool = True


class Offer(Event, frozen=True):
    """The MAC client has a frame of `size` bits from destination address to check sequence."""

    size: Annotated[int, Range(MIN_BITS, MAX_BITS)] = MIN_BITS


class Carrier(Event, frozen=True):
    """The medium carries what others send, or no longer."""

    on: bool = True


class Collision(Event, frozen=True):
    """Another station sends at the same time."""


class Elapse(Event, frozen=True):
    """`n` bit times pass, none of them beyond the station's next deadline.

    `slots`: what the random numbers give where a back-off begins. `next`: another frame waits, of `size` bits.
    """

    n: Annotated[int, Range(1, 1 << 22)] = 1
    slots: Annotated[int, Range(0, 1023)] = 0
    next: bool = False
    size: Annotated[int, Range(MIN_BITS, MAX_BITS)] = MIN_BITS


class Begins(Effect, frozen=True):
    """The first bit of the preamble is sent, at the `attempt`-th attempt."""

    attempt: int


class Done(Effect, frozen=True):
    """The frame was sent, `bits` with header and extension, without a collision."""

    bits: int


class Jams(Effect, frozen=True):
    """A collision was seen: the jam follows."""

    late: bool


class BacksOff(Effect, frozen=True):
    """The station waits for `slots` slots."""

    slots: int


class GivesUp(Effect, frozen=True):
    """The frame is not sent: too many collisions, or a late one at 1000 Mb/s."""

    attempts: int
    late: bool


class DefersLong(Effect, frozen=True):
    """The station has deferred for longer than two frames' time; it goes on deferring."""


Effects = tuple[Effect, ...]


@pure
def slot(p: CsmaParams) -> int:
    """slotTime in bits."""
    return SLOT_EXTENDED if p.gigabit else SLOT


@pure
def limit(attempts: int) -> int:
    """Slots from which the back-off after this many attempts is chosen."""
    return SLOTS[min(attempts, ATTEMPTS)]


@pure
def needs_extension(s: Station, p: CsmaParams) -> bool:
    """At 1000 Mb/s a burst's first frame fills the slot."""
    return p.gigabit and s.first and s.size < SLOT_EXTENDED


@pure
def whole(s: Station) -> int:
    """Bits of header and frame."""
    return HEADER + s.size


@pure
def is_late(s: Station, p: CsmaParams) -> bool:
    """The collision comes when every station must have heard the frame, or inside a burst."""
    return s.bits > slot(p) or not s.first


@pure
def gap_counts(s: Station) -> bool:
    """The gap goes on: nothing is sensed, or only in its last third."""
    return not s.carrier or s.gap >= GAP_PART1


@pure
def gap_after(s: Station, n: int) -> int:
    """The gap after `n` more bits."""
    return min(s.gap + n, GAP) if gap_counts(s) else 0


@pure
def held(s: Station, n: int) -> int:
    """For how long the burst has held the medium after `n` more bits; more than the limit need not be told apart."""
    return min(s.burst + n, BURST_LIMIT)


@pure
def due(s: Station, p: CsmaParams) -> int:
    """Bits until the station does something else by itself; a million where it waits for others."""
    return (
        GAP - s.gap
        if s.mac == Mac.DEFER and gap_counts(s) and s.gap < GAP
        else whole(s) - s.bits
        if s.mac == Mac.TRANSMIT
        else HEADER + SLOT_EXTENDED - s.bits
        if s.mac == Mac.EXTEND
        else s.jam
        if s.mac == Mac.JAM
        else s.wait
        if s.mac == Mac.BACKOFF
        else GAP - s.gap
        if s.mac == Mac.BURST_GAP
        else 1 << 20
    )


@pure
def begins(s: Station) -> bool:
    """A station that waits for nothing but the medium may begin."""
    return s.gap >= GAP


@pure
def done(s: Station) -> Station:
    """The frame is off the station's hands; a gap begins."""
    return Station(mac=Mac.IDLE, carrier=s.carrier, gap=0)


# ---------------------------------------------------------------- frames and the medium


@rule(CARD, "IEEE 802.3 4.2.8 TransmitFrame", at=Mac.IDLE)
def offer(s: Station, e: Offer, p: CsmaParams) -> tuple[Station, Effects]:
    """A frame waits for the medium."""
    if s.gap >= GAP and not s.carrier:
        return replace(s, mac=Mac.TRANSMIT, size=e.size, bits=0, attempts=1, deferred=0), (Begins(attempt=1),)
    return replace(s, mac=Mac.DEFER, size=e.size, bits=0, attempts=0, deferred=0), ()


@rule(CARD, "IEEE 802.3 4.2.8 Deference", at=QUIET)
def carrier_on(s: Station, e: Carrier, p: CsmaParams) -> tuple[Station, Effects]:
    """A carrier in the gap's first part starts it anew, one in its second part comes too late."""
    require(e.on, "somebody sends")
    fair = s.gap < GAP_PART1 or s.gap >= GAP
    return replace(s, carrier=True, gap=0 if fair else s.gap), ()


@rule(CARD, "IEEE 802.3 4.2.8 Deference")
def carrier_off(s: Station, e: Carrier, p: CsmaParams) -> tuple[Station, Effects]:
    """The medium falls silent."""
    require(not e.on, "nobody sends")
    return replace(s, carrier=False), ()


@rule(CARD, "IEEE 802.3 4.2.8 CarrierSense", at=(Mac.TRANSMIT, Mac.EXTEND, Mac.JAM, Mac.BURST_GAP))
def carrier_while_sending(s: Station, e: Carrier, p: CsmaParams) -> tuple[Station, Effects]:
    """Who sends senses others as well; that it is a collision is told apart."""
    require(e.on, "somebody sends")
    return replace(s, carrier=True), ()


@rule(CARD, "IEEE 802.3 4.2.8 StartJam", at=ON_AIR)
def collision(s: Station, e: Collision, p: CsmaParams) -> tuple[Station, Effects]:
    """After a collision the header is finished, then comes the jam, so that everybody notices."""
    rest = max(HEADER - s.bits, 0)
    late = is_late(s, p)
    return replace(s, mac=Mac.JAM, jam=JAM + rest, late=s.late or late), (Jams(late=late),)


@rule(CARD, "IEEE 802.3 4.2.8 CarrierSense", at=(Mac.IDLE, Mac.DEFER, Mac.JAM, Mac.BACKOFF))
def collision_of_others(s: Station, e: Collision, p: CsmaParams) -> tuple[Station, Effects]:
    """What collides while the station does not send is not its own."""
    return s, ()


# ---------------------------------------------------------------- time


@rule(CARD, "IEEE 802.3 4.2.8 Deference", at=Mac.IDLE)
def idle(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """Only the gap goes on; when it is over and others send, the next one begins behind them."""
    gap = gap_after(s, e.n)
    return replace(s, gap=0 if gap >= GAP and s.carrier else gap), ()


@rule(CARD, "IEEE 802.3 4.2.8 Deference", at=Mac.DEFER)
def defer(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """The station waits for silence and the gap; what takes it longer than two frames' time is reported once."""
    require(gap_after(s, e.n) < GAP, "the gap is not over")
    total = s.deferred + e.n
    t = replace(s, gap=gap_after(s, e.n), deferred=min(total, MAX_DEFER + 1))
    if s.deferred <= MAX_DEFER and total > MAX_DEFER:
        return t, (DefersLong(),)
    return t, ()


@rule(CARD, "IEEE 802.3 4.2.8 TransmitLinkMgmt", at=Mac.DEFER)
def defer_over(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """After the gap the station sends, even if a carrier came in its last third."""
    require(gap_after(s, e.n) >= GAP, "the gap is over")
    t = replace(s, mac=Mac.TRANSMIT, gap=GAP, bits=0, attempts=s.attempts + 1, first=True, burst=0)
    return t, (Begins(attempt=s.attempts + 1),)


@rule(CARD, "IEEE 802.3 4.2.8 BitTransmitter", at=Mac.TRANSMIT)
def transmit(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """Bit after bit goes out."""
    require(s.bits + e.n < whole(s), "bits are left")
    return replace(s, bits=s.bits + e.n, burst=held(s, e.n)), ()


@rule(CARD, "IEEE 802.3 4.2.8 BitTransmitter", at=Mac.TRANSMIT)
def transmit_extends(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """At 1000 Mb/s a short frame is followed by carrier extension until the slot is full."""
    require(s.bits + e.n >= whole(s), "the last bit")
    require(needs_extension(s, p), "the slot is not full")
    return replace(s, mac=Mac.EXTEND, bits=whole(s), burst=held(s, e.n)), ()


@rule(CARD, "IEEE 802.3 4.2.8 TransmitLinkMgmt", at=Mac.TRANSMIT)
def transmit_done(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """The frame is sent; with a burst's time left and another frame the station keeps the medium."""
    require(s.bits + e.n >= whole(s), "the last bit")
    require(not needs_extension(s, p), "the slot is full")
    if p.gigabit and e.next and held(s, e.n) < BURST_LIMIT:
        t = replace(s, mac=Mac.BURST_GAP, gap=0, size=e.size, bits=0, burst=held(s, e.n), first=False)
        return t, (Done(bits=whole(s)),)
    return done(s), (Done(bits=whole(s)),)


@rule(CARD, "IEEE 802.3 4.2.8 BitTransmitter", at=Mac.EXTEND)
def extend(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """The extension goes on."""
    require(s.bits + e.n < HEADER + SLOT_EXTENDED, "the slot is not full")
    return replace(s, bits=s.bits + e.n, burst=held(s, e.n)), ()


@rule(CARD, "IEEE 802.3 4.2.8 TransmitLinkMgmt", at=Mac.EXTEND)
def extend_done(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """The slot is full."""
    require(s.bits + e.n >= HEADER + SLOT_EXTENDED, "the slot is full")
    filled = HEADER + SLOT_EXTENDED
    if e.next and held(s, e.n) < BURST_LIMIT:
        t = replace(s, mac=Mac.BURST_GAP, gap=0, size=e.size, bits=0, burst=held(s, e.n), first=False)
        return t, (Done(bits=filled),)
    return done(s), (Done(bits=filled),)


@rule(CARD, "IEEE 802.3 4.2.8 BurstLimit", at=Mac.BURST_GAP)
def burst_gap(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """The gap inside a burst is filled with extension, and the next frame follows without a new attempt's risk."""
    if s.gap + e.n >= GAP:
        return replace(s, mac=Mac.TRANSMIT, gap=GAP, bits=0, burst=held(s, e.n)), (Begins(attempt=s.attempts),)
    return replace(s, gap=s.gap + e.n, burst=held(s, e.n)), ()


@rule(CARD, "IEEE 802.3 4.2.8 StartJam", at=Mac.JAM)
def jam(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """The jam goes on."""
    require(e.n < s.jam, "bits of the jam are left")
    return replace(s, jam=s.jam - e.n), ()


@pure
def hopeless(s: Station, p: CsmaParams) -> bool:
    """No further attempt: the sixteenth collided, or a late collision at 1000 Mb/s."""
    return s.attempts >= ATTEMPTS or (p.gigabit and s.late)


@rule(CARD, "IEEE 802.3 4.2.8 TransmitLinkMgmt", at=Mac.JAM)
def gives_up(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """After sixteen collisions the frame is thrown away."""
    require(e.n >= s.jam, "the jam is over")
    require(hopeless(s, p), "no further attempt")
    return done(s), (GivesUp(attempts=s.attempts, late=s.late),)


@rule(CARD, "IEEE 802.3 4.2.8 BackOff", at=Mac.JAM)
def backs_off(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """The station waits for the slots that chance gave it, then it defers as before its first attempt."""
    require(e.n >= s.jam, "the jam is over")
    require(not hopeless(s, p), "attempts are left")
    length = e.slots * SLOT_EXTENDED if p.gigabit else e.slots * SLOT
    t = replace(s, mac=Mac.BACKOFF if e.slots > 0 else Mac.DEFER, jam=0, gap=0, bits=0, wait=length, deferred=0)
    return t, (BacksOff(slots=e.slots),)


@rule(CARD, "IEEE 802.3 4.2.8 BackOff", at=Mac.BACKOFF)
def backoff(s: Station, e: Elapse, p: CsmaParams) -> tuple[Station, Effects]:
    """The back-off runs out whatever the medium does; the gap goes on beside it."""
    left = s.wait - min(e.n, s.wait)
    return replace(s, mac=Mac.BACKOFF if left > 0 else Mac.DEFER, wait=left, gap=min(gap_after(s, e.n), GAP - 1)), ()


# ---------------------------------------------------------------- the environment


@assume
def one_frame_at_a_time(s: Station, e: Offer) -> bool:
    """The MAC client waits until its frame is done."""
    return s.mac == Mac.IDLE


@assume
def not_beyond_deadline(s: Station, e: Elapse, p: CsmaParams) -> bool:
    """Time stops at the station's next deadline."""
    return e.n <= due(s, p)


@assume
def chance_keeps_its_range(s: Station, e: Elapse) -> bool:
    """The number of slots is one of those that the attempt allows."""
    return e.slots < limit(s.attempts)


CSMA: Final = machine(
    Machine(
        name="csma_cd",
        title="CSMA/CD: a station on a shared medium",
        accepts={Station: (Offer, Carrier, Collision, Elapse)},
        params=CsmaParams,
        modules=("refmodel.phy.csma", "refmodel.phy.csma_properties"),
    )
)
