"""IPv6's fragment arithmetic as machines: how a packet is cut, and what a datagram being put together knows.

The law: fragments tile the fragmentable part without gap or overlap, each but the last a multiple of 8 bytes and none
larger than the MTU allows. A datagram is whole once its first and last fragment and every byte between are there; an
overlap or a second end destroys it.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Mib,
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

MAXPLEN: Final = 65535
MAX_END: Final = 65528 + 65535
Length = Annotated[int, Range(0, MAX_END)]


# ---------------------------------------------------------------------------------------------------- cutting a packet


class Cut(IntEnum):
    """Whether ip6_fragment's loop runs."""

    IDLE = 0
    CUTTING = 1


class CutParams(Params, frozen=True):
    """`room`: what a fragment may carry: the MTU without the headers of every fragment and the fragment header."""

    room: Annotated[int, Range(8, MAXPLEN)] = 1232


class Cutting(State, frozen=True):
    """struct ip6_frag_state: `left` bytes are to be sent from `offset` on, of `total`."""

    AT: ClassVar[str] = "cut"

    cut: Cut = Cut.IDLE
    total: Annotated[int, Range(0, MAXPLEN)] = 0
    offset: Annotated[int, Range(0, MAXPLEN)] = 0
    left: Annotated[int, Range(0, MAXPLEN)] = 0


class Begin(Event, frozen=True):
    """A packet with `total` bytes behind the headers of every fragment is to be cut."""

    total: Annotated[int, Range(1, MAXPLEN)]


class Next(Event, frozen=True):
    """The next fragment is made: ip6_frag_next."""


class Piece(Effect, frozen=True):
    """A fragment of `len` bytes at `offset`; `mf`: more follow."""

    offset: Annotated[int, Range(0, MAXPLEN)]
    len: Annotated[int, Range(0, MAXPLEN)]
    mf: bool


@pure
def piece(left: int, room: int) -> int:
    """ip6_frag_next: what fits, and if that is not all of it, a multiple of 8."""
    return left if left <= room else room - room % 8


@rule("net/ipv6/ip6_output.c:ip6_frag_init", at=Cut.IDLE)
def begin(s: Cutting, e: Begin, p: CutParams) -> tuple[Cutting, tuple[Effect, ...]]:
    """The cutting begins at the fragmentable part's first byte."""
    return Cutting(cut=Cut.CUTTING, total=e.total, offset=0, left=e.total), ()


@rule("net/ipv6/ip6_output.c:ip6_frag_next", "RFC 8200 4.5", at=Cut.CUTTING)
def cut_last(s: Cutting, e: Next, p: CutParams) -> tuple[Cutting, tuple[Effect, ...]]:
    """The rest fits: it is the last fragment."""
    require(s.left <= p.room, "the rest fits")
    return Cutting(), (Piece(offset=s.offset, len=piece(s.left, p.room), mf=False),)


@rule("net/ipv6/ip6_output.c:ip6_frag_next", "RFC 8200 4.5", at=Cut.CUTTING)
def cut_piece(s: Cutting, e: Next, p: CutParams) -> tuple[Cutting, tuple[Effect, ...]]:
    """As much as fits is cut off."""
    require(s.left > p.room, "more than fits")
    n = piece(s.left, p.room)
    return replace(s, offset=s.offset + n, left=s.left - n), (Piece(offset=s.offset, len=n, mf=True),)


@assume
def one_at_a_time(s: Cutting, e: Begin) -> bool:
    """A packet is cut to its end before the next."""
    return s.cut == Cut.IDLE


@assume
def something_to_cut(s: Cutting, e: Next) -> bool:
    """There is something left to cut."""
    return s.cut == Cut.CUTTING


@invariant(at=Cut.CUTTING)
def tiles(s: Cutting) -> bool:
    """What was cut off and what is left are the whole."""
    return s.offset + s.left == s.total and s.left >= 1


@invariant(at=Cut.CUTTING)
def aligned(s: Cutting) -> bool:
    """Fragments begin at multiples of 8."""
    return s.offset % 8 == 0


@transition(Next)
def fits(s: Cutting, e: Next, t: Cutting, effects: tuple[Effect, ...], p: CutParams) -> bool:
    """No fragment is empty or larger than the MTU allows."""
    return all(1 <= x.len <= p.room for x in effects if isinstance(x, Piece))


@transition(Next)
def more_iff_left(s: Cutting, e: Next, t: Cutting, effects: tuple[Effect, ...]) -> bool:
    """The M flag says whether something is left."""
    return all(x.mf == (t.cut == Cut.CUTTING) and x.offset == s.offset for x in effects if isinstance(x, Piece))


@transition(Next)
def last_is_the_rest(s: Cutting, e: Next, t: Cutting, effects: tuple[Effect, ...]) -> bool:
    """The last fragment ends where the packet does."""
    return t.cut == Cut.CUTTING or all(x.offset + x.len == s.total for x in effects if isinstance(x, Piece))


CUT6 = machine(
    Machine(
        name="ip6-cut",
        title="Cutting an IPv6 packet",
        accepts={Cutting: (Begin, Next)},
        params=CutParams,
        modules=("refmodel.ip6.frag",),
        initial=(Cutting(),),
    )
)


# ------------------------------------------------------------------------------------------------- putting together


class Phase(IntEnum):
    """Whether fragments are still taken."""

    OPEN = 0
    COMPLETE = 1  # INET_FRAG_COMPLETE


class Place(IntEnum):
    """How a fragment lies to those that are there; source net/ipv4/inet_fragment.c:inet_frag_queue_insert."""

    OK = 0
    DUP = 1
    OVERLAP = 2


class FqParams(Params, frozen=True):
    """No tunable plays a part."""


class Fq(State, frozen=True):
    """struct frag_queue: `len` is where the datagram ends as far as is known, `meat` how many bytes are there."""

    AT: ClassVar[str] = "phase"

    phase: Phase = Phase.OPEN
    first_in: bool = False
    last_in: bool = False
    len: Length = 0
    meat: Length = 0


class Fragment(Event, frozen=True):
    """A fragment of `size` bytes at `units` times 8; `mf`: more follow. `place`: how it lies to the others."""

    units: Annotated[int, Range(0, 8191)]
    size: Annotated[int, Range(-65535, 65535)]
    mf: bool
    place: Place = Place.OK


class Expire(Event, frozen=True):
    """The time is over."""


class Verdict(IntEnum):
    """What ip6_frag_queue does with a fragment, in its order."""

    LATE = 0  # the queue is done: a duplicate
    TOO_LONG = 1  # parameter problem: the fragment's offset
    UNEVEN = 2  # parameter problem: the payload length
    DISCARD = 3  # contradicts what is there, or empty: the whole queue goes
    DUP = 4
    OVERLAP = 5
    TAKE = 6
    WHOLE = 7  # taken, and the datagram is complete


class Answer(Effect, frozen=True):
    """What becomes of the fragment."""

    verdict: Verdict


class Expired(Effect, frozen=True):
    """The queue's time is over; `icmp`: its first fragment was there, so its sender is told."""

    icmp: bool


@pure
def end(e: Fragment) -> int:
    """Where a fragment ends."""
    return e.units * 8 + e.size


@pure
def contradicts(s: Fq, e: Fragment) -> bool:
    """The fragment's end contradicts what others said of the datagram's."""
    return (
        (end(e) > s.len and s.last_in) if e.mf else (end(e) < s.len or (s.last_in and end(e) != s.len))
    ) or e.size == 0


@pure
def length(s: Fq, e: Fragment) -> int:
    """Where the datagram ends, as far as is known with this fragment."""
    return max(end(e), s.len) if e.mf else end(e)


@pure
def verdict(s: Fq, e: Fragment) -> Verdict:
    """ip6_frag_queue's cascade."""
    whole = (s.first_in or e.units == 0) and (s.last_in or not e.mf) and s.meat + e.size == length(s, e)
    return (
        Verdict.LATE
        if s.phase == Phase.COMPLETE
        else Verdict.TOO_LONG
        if end(e) > MAXPLEN or end(e) < 0
        else Verdict.UNEVEN
        if e.mf and e.size % 8 != 0
        else Verdict.DISCARD
        if contradicts(s, e) or e.size < 0
        else Verdict.DUP
        if e.place == Place.DUP
        else Verdict.OVERLAP
        if e.place == Place.OVERLAP
        else Verdict.WHOLE
        if whole
        else Verdict.TAKE
    )


@pure
def taken(s: Fq, e: Fragment) -> Fq:
    """The queue with a fragment more."""
    return replace(
        s,
        first_in=s.first_in or e.units == 0,
        last_in=s.last_in or not e.mf,
        len=length(s, e),
        meat=s.meat + e.size,
    )


@rule("net/ipv6/reassembly.c:ip6_frag_queue")
def ignored(s: Fq, e: Fragment, p: FqParams) -> tuple[Fq, tuple[Effect, ...]]:
    """A fragment of a datagram that is done, or one that lies within others, is dropped as a duplicate.

    One that ends the datagram has said so before it is found to be a duplicate.
    """
    require(verdict(s, e) in (Verdict.LATE, Verdict.DUP), "done, or within others")
    late = verdict(s, e) == Verdict.LATE
    t = replace(s, last_in=s.last_in if late else s.last_in or not e.mf, len=s.len if late else length(s, e))
    return t, (Answer(verdict=verdict(s, e)),)


@rule("net/ipv6/reassembly.c:ip6_frag_queue", "RFC 8200 4.5")
def malformed(s: Fq, e: Fragment, p: FqParams) -> tuple[Fq, tuple[Effect, ...]]:
    """A fragment that is too long, or cut at no multiple of 8, is answered with a parameter problem."""
    require(verdict(s, e) in (Verdict.TOO_LONG, Verdict.UNEVEN), "malformed")
    return s, (Answer(verdict=verdict(s, e)),)


@rule("net/ipv6/reassembly.c:ip6_frag_queue", "RFC 5722 4", at=Phase.OPEN)
def destroyed(s: Fq, e: Fragment, p: FqParams) -> tuple[Fq, tuple[Effect, ...]]:
    """An overlap, an empty fragment or a second end destroys the datagram."""
    require(verdict(s, e) in (Verdict.DISCARD, Verdict.OVERLAP), "contradicts the others")
    return replace(s, phase=Phase.COMPLETE), (Answer(verdict=verdict(s, e)), Mib(name="Ip6ReasmFails"))


@rule("net/ipv6/reassembly.c:ip6_frag_queue", at=Phase.OPEN)
def take(s: Fq, e: Fragment, p: FqParams) -> tuple[Fq, tuple[Effect, ...]]:
    """A fragment waits for the others."""
    require(verdict(s, e) == Verdict.TAKE, "others are missing")
    return taken(s, e), (Answer(verdict=Verdict.TAKE),)


@rule("net/ipv6/reassembly.c:ip6_frag_reasm", at=Phase.OPEN)
def whole(s: Fq, e: Fragment, p: FqParams) -> tuple[Fq, tuple[Effect, ...]]:
    """With the last missing fragment the datagram is put together."""
    require(verdict(s, e) == Verdict.WHOLE, "everything is there")
    return replace(taken(s, e), phase=Phase.COMPLETE), (Answer(verdict=Verdict.WHOLE),)


@rule("include/net/ipv6_frag.h:ip6frag_expire_frag_queue", "RFC 8200 4.5", at=Phase.OPEN)
def expire(s: Fq, e: Expire, p: FqParams) -> tuple[Fq, tuple[Effect, ...]]:
    """After 60 s the datagram is given up; the sender is told if its first fragment came."""
    return replace(s, phase=Phase.COMPLETE), (
        Expired(icmp=s.first_in),
        Mib(name="Ip6ReasmFails"),
        Mib(name="Ip6ReasmTimeout"),
    )


@rule("include/net/ipv6_frag.h:ip6frag_expire_frag_queue", at=Phase.COMPLETE)
def expire_late(s: Fq, e: Expire, p: FqParams) -> tuple[Fq, tuple[Effect, ...]]:
    """A datagram that is done has no time to lose."""
    return s, ()


@assume
def disjoint_fragments(s: Fq, e: Fragment) -> bool:
    """What is called in place overlaps nothing, so that it and what is there fit the datagram."""
    return e.place != Place.OK or e.size < 0 or s.phase == Phase.COMPLETE or s.meat + e.size <= length(s, e)


@assume
def duplicates_are_there(s: Fq, e: Fragment) -> bool:
    """A duplicate lies within what is there."""
    return e.place != Place.DUP or e.size <= s.meat


@assume
def zero_is_taken(s: Fq, e: Fragment) -> bool:
    """A second fragment at 0 is no fragment in its place."""
    return e.place != Place.OK or not (s.first_in and e.units == 0)


@invariant(at=Phase.OPEN)
def not_more_than_its_length(s: Fq) -> bool:
    """No more bytes are there than the datagram has."""
    return s.meat <= s.len


@invariant(at=Phase.OPEN)
def never_too_long(s: Fq) -> bool:
    """A datagram is never longer than 65,535 bytes."""
    return s.len <= MAXPLEN


@invariant(at=Phase.OPEN)
def something_is_there(s: Fq) -> bool:
    """A queue that knows an end or its first fragment holds bytes."""
    return s.meat >= 1 or not (s.first_in or s.last_in)


@transition(Fragment)
def whole_is_whole(s: Fq, e: Fragment, t: Fq, effects: tuple[Effect, ...]) -> bool:
    """A datagram is put together only with its first and last fragment and every byte between."""
    whole = any(x.verdict == Verdict.WHOLE for x in effects if isinstance(x, Answer))
    return not whole or (t.first_in and t.last_in and t.meat == t.len)


@transition(Fragment)
def end_is_settled(s: Fq, e: Fragment, t: Fq) -> bool:
    """Once the last fragment came, the end doesn't move."""
    return not s.last_in or t.len == s.len


@transition(
    Fragment,
    falsified="a duplicate that says to be the last is dropped, but believed: the datagram is whole and waits in vain",
)
def whole_is_not_left(s: Fq, e: Fragment, t: Fq) -> bool:
    """A queue that has everything doesn't wait."""
    complete = t.first_in and t.last_in and t.meat == t.len
    return t.phase == Phase.COMPLETE or not complete or (s.first_in and s.last_in and s.meat == s.len)


@transition(Fragment, Expire)
def done_stays_done(s: Fq, e: Fragment | Expire, t: Fq) -> bool:
    """What is done takes nothing more."""
    return s.phase == Phase.OPEN or t == s


FQ6 = machine(
    Machine(
        name="ip6-reassembly",
        title="Reassembly of an IPv6 datagram",
        accepts={Fq: (Fragment, Expire)},
        params=FqParams,
        modules=("refmodel.ip6.frag",),
        initial=(Fq(),),
    )
)
