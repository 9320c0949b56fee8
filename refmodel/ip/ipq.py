"""What a datagram's reassembly knows besides its fragments: struct ipq's numbers and flags.

The law (proved): nothing is put together before its first and its last fragment and every byte between are there;
once the last fragment has said where the datagram ends, no other may say otherwise; a datagram is never longer than
65,535 bytes, and never made of fragments with and without ECN.
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

MAX_OFFSET: Final = 65528
MAX_END: Final = MAX_OFFSET + 65535
LARGEST: Final = 65535


class Phase(IntEnum):
    """Whether fragments are still taken."""

    OPEN = 0
    COMPLETE = 1  # INET_FRAG_COMPLETE: put together, given up or timed out


class Place(IntEnum):
    """How a fragment lies to those that are there; source net/ipv4/inet_fragment.c:inet_frag_queue_insert."""

    OK = 0
    DUP = 1
    OVERLAP = 2


class Ecn(IntEnum):
    """The ECN bits of a fragment."""

    NOT_ECT = 0
    ECT_1 = 1
    ECT_0 = 2
    CE = 3


class Drop(IntEnum):
    """Why a fragment was dropped."""

    NOT_SPECIFIED = 0
    DUP_FRAG = 1


class IpqParams(Params, frozen=True):
    """No tunable plays a part: what ipfrag_max_dist says is in the event."""


class IpqState(State, frozen=True):
    """A queue: `len` is where the datagram ends as far as is known, `meat` how many bytes are there.

    `first_in`, `last_in`: the fragment at 0 and the one without MF have come. `max_size`, `max_df_size`: the largest
    fragment, and the largest with DF, header and all. `not_ect`, `ect`, `ce`: ECN bits that fragments had.
    """

    AT: ClassVar[str] = "phase"

    phase: Phase = Phase.OPEN
    first_in: bool = False
    last_in: bool = False
    len: Annotated[int, Range(0, MAX_END)] = 0
    meat: Annotated[int, Range(0, MAX_END)] = 0
    max_size: Annotated[int, Range(0, 65595)] = 0
    max_df_size: Annotated[int, Range(0, 65595)] = 0
    not_ect: bool = False
    ect: bool = False
    ce: bool = False


class Fragment(Event, frozen=True):
    """A fragment at `units` times 8 with `size` bytes of payload behind a header of `ihl` words.

    `too_far`: more than ipfrag_max_dist packets came from that host since its last fragment here; `rearmed`: the
    timer was still running. `head_ihl` is the header of the fragment at 0, if it has come.
    """

    units: Annotated[int, Range(0, 8191)]
    size: Annotated[int, Range(0, 65515)]
    mf: bool
    df: bool
    ecn: Ecn
    ihl: Annotated[int, Range(5, 15)]
    head_ihl: Annotated[int, Range(5, 15)]
    place: Place = Place.OK
    too_far: bool = False
    rearmed: bool = True


class Expire(Event, frozen=True):
    """The time is over; with `icmp` the sender is to be told (the route back is there)."""

    icmp: bool = True


class Dropped(Effect, frozen=True):
    """The fragment is dropped."""

    reason: Drop = Drop.NOT_SPECIFIED


class Flushed(Effect, frozen=True):
    """All fragments that were there are dropped: FRAG_TOO_FAR."""


class Killed(Effect, frozen=True):
    """The queue is taken out of the table, and its timer stopped."""


class Kept(Effect, frozen=True):
    """The fragment waits for the others."""


class Reassembled(Effect, frozen=True):
    """The datagram is whole: `len` bytes with its header; `df`: its largest fragment had DF. `ce`: one had CE."""

    len: Annotated[int, Range(0, LARGEST)]
    df: bool
    ce: bool


class TimeExceeded(Effect, frozen=True):
    """The first fragment's sender is told that the time for reassembly is over."""


class Verdict(IntEnum):
    """What becomes of a fragment of an open queue."""

    TIMED_OUT = 0
    CORRUPT = 1
    OVERLAP = 2
    DUP = 3
    WAIT = 4
    BAD_ECN = 5
    OVERSIZE = 6
    WHOLE = 7


@pure
def begun(s: IpqState, e: Fragment) -> IpqState:
    """The queue as the fragment finds it: begun anew where it came too far behind the others."""
    return (
        replace(
            s,
            first_in=False if e.too_far else s.first_in,
            last_in=False if e.too_far else s.last_in,
            len=0 if e.too_far else s.len,
            meat=0 if e.too_far else s.meat,
            not_ect=False if e.too_far else s.not_ect,
            ect=False if e.too_far else s.ect,
            ce=False if e.too_far else s.ce,
        )
    )  # fmt: skip


@pure
def end_of(e: Fragment) -> int:
    """Where the fragment ends; one with MF is cut to a multiple of 8."""
    return e.units * 8 + (e.size // 8 * 8 if e.mf else e.size)


@pure
def corrupt(s: IpqState, e: Fragment) -> bool:
    """It contradicts what is known of the datagram's end, or is empty."""
    b = begun(s, e)
    end = end_of(e)
    if not e.mf and (end < b.len or (b.last_in and end != b.len)):
        return True
    if e.mf and end > b.len and b.last_in:
        return True
    return end == e.units * 8


@pure
def measured(s: IpqState, e: Fragment) -> IpqState:
    """The queue that knows the fragment's end, which it does even if the fragment is a duplicate."""
    b = begun(s, e)
    end = end_of(e)
    return replace(b, last_in=b.last_in or not e.mf, len=end if not e.mf else max(b.len, end))


@pure
def added(s: IpqState, e: Fragment) -> IpqState:
    """The queue with the fragment in it."""
    m = measured(s, e)
    n = end_of(e) - e.units * 8
    whole = n + 4 * e.ihl
    return replace(
        m,
        first_in=m.first_in or e.units == 0,
        meat=m.meat + n,
        max_size=max(m.max_size, whole),
        max_df_size=max(m.max_df_size, whole) if e.df else m.max_df_size,
        not_ect=m.not_ect or e.ecn == Ecn.NOT_ECT,
        ect=m.ect or e.ecn == Ecn.ECT_0 or e.ecn == Ecn.ECT_1,
        ce=m.ce or e.ecn == Ecn.CE,
    )


@pure
def verdict(s: IpqState, e: Fragment) -> Verdict:
    """The checks of ip_frag_queue and ip_frag_reasm in their order."""
    a = added(s, e)
    return (
        Verdict.TIMED_OUT
        if e.too_far and not e.rearmed
        else Verdict.CORRUPT
        if corrupt(s, e)
        else Verdict.OVERLAP
        if e.place == Place.OVERLAP
        else Verdict.DUP
        if e.place == Place.DUP
        else Verdict.WAIT
        if not (a.first_in and a.last_in and a.meat == a.len)
        else Verdict.BAD_ECN
        if a.not_ect and (a.ect or a.ce)
        else Verdict.OVERSIZE
        if a.len + 4 * e.head_ihl > LARGEST
        else Verdict.WHOLE
    )


@pure
def over(s: IpqState) -> IpqState:
    """No more fragments are taken."""
    return replace(s, phase=Phase.COMPLETE)


# ---------------------------------------------------------------- rules


@rule("net/ipv4/ip_fragment.c:ip_frag_queue", at=Phase.COMPLETE)
def late_fragment(s: IpqState, e: Fragment, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """A fragment of a datagram that is done with is a duplicate."""
    return s, (Dropped(reason=Drop.DUP_FRAG),)


@rule("net/ipv4/ip_fragment.c:ip_frag_reinit", at=Phase.OPEN)
def fragment_timed_out(s: IpqState, e: Fragment, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """A fragment far behind the others finds the time just over."""
    require(verdict(s, e) == Verdict.TIMED_OUT, "too far, and the timer ran out")
    return over(s), (Mib(name="IpReasmFails"), Killed(), Dropped())


@rule("net/ipv4/ip_fragment.c:ip_frag_queue", "RFC 791 3.2", at=Phase.OPEN)
def fragment_corrupt(s: IpqState, e: Fragment, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """A fragment that contradicts the datagram's end, or is empty, takes the whole datagram with it."""
    require(verdict(s, e) == Verdict.CORRUPT, "it contradicts the others")
    if e.too_far:
        return over(begun(s, e)), (
            Mib(name="IpReasmFails"), Flushed(), Killed(), Mib(name="IpReasmFails"), Dropped(),
        )  # fmt: skip
    return over(s), (Killed(), Mib(name="IpReasmFails"), Dropped())


@rule(
    "net/ipv4/ip_fragment.c:ip_frag_queue", "net/ipv4/inet_fragment.c:inet_frag_queue_insert", "RFC 5722 4",
    at=Phase.OPEN,
)  # fmt: skip
def fragment_overlaps(s: IpqState, e: Fragment, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """A fragment that overlaps others takes the whole datagram with it, as IPv6 asks for."""
    require(verdict(s, e) == Verdict.OVERLAP, "it overlaps others")
    if e.too_far:
        return over(measured(s, e)), (
            Mib(name="IpReasmFails"), Flushed(), Mib(name="IpExtReasmOverlaps"), Killed(), Mib(name="IpReasmFails"),
            Dropped(),
        )  # fmt: skip
    return over(measured(s, e)), (
        Mib(name="IpExtReasmOverlaps"), Killed(), Mib(name="IpReasmFails"), Dropped(),
    )  # fmt: skip


@rule("net/ipv4/ip_fragment.c:ip_frag_queue", at=Phase.OPEN)
def fragment_duplicate(s: IpqState, e: Fragment, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """A fragment that lies within what is there is dropped, and the others wait on; its end counts all the same."""
    require(verdict(s, e) == Verdict.DUP, "it is there already")
    if e.too_far:
        return measured(s, e), (Mib(name="IpReasmFails"), Flushed(), Dropped(reason=Drop.DUP_FRAG))
    return measured(s, e), (Dropped(reason=Drop.DUP_FRAG),)


@rule("net/ipv4/ip_fragment.c:ip_frag_queue", "RFC 791 3.2", at=Phase.OPEN)
def fragment_waits(s: IpqState, e: Fragment, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """A fragment waits as long as others are missing."""
    require(verdict(s, e) == Verdict.WAIT, "others are missing")
    if e.too_far:
        return added(s, e), (Mib(name="IpReasmFails"), Flushed(), Kept())
    return added(s, e), (Kept(),)


@rule("net/ipv4/ip_fragment.c:ip_frag_reasm", "RFC 3168 5.3", at=Phase.OPEN)
def datagram_bad_ecn(s: IpqState, e: Fragment, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """A datagram of fragments with and without ECN is thrown away."""
    require(verdict(s, e) == Verdict.BAD_ECN, "fragments disagree about ECN")
    return over(added(s, e)), (Killed(), Mib(name="IpReasmFails"))


@rule("net/ipv4/ip_fragment.c:ip_frag_reasm", "RFC 791 3.2", at=Phase.OPEN)
def datagram_oversize(s: IpqState, e: Fragment, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """A datagram that no length field can tell is thrown away."""
    require(verdict(s, e) == Verdict.OVERSIZE, "longer than 65535")
    return over(added(s, e)), (Killed(), Mib(name="IpReasmFails"))


@rule("net/ipv4/ip_fragment.c:ip_frag_reasm", "RFC 791 3.2", "RFC 3168 5.3", at=Phase.OPEN)
def datagram_whole(s: IpqState, e: Fragment, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """All is there: the datagram is put together; CE of one fragment is the datagram's."""
    require(verdict(s, e) == Verdict.WHOLE, "all is there")
    a = added(s, e)
    done = Reassembled(len=a.len + 4 * e.head_ihl, df=a.max_df_size == a.max_size, ce=a.ce and a.ect)
    if e.too_far:
        return over(a), (Mib(name="IpReasmFails"), Flushed(), Killed(), Mib(name="IpReasmOKs"), done)
    return over(a), (Killed(), Mib(name="IpReasmOKs"), done)


@rule("net/ipv4/ip_fragment.c:ip_expire", at=Phase.COMPLETE)
def expire_late(s: IpqState, e: Expire, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """The timer of a datagram that is done with does nothing."""
    return s, ()


@rule("net/ipv4/ip_fragment.c:ip_expire", "RFC 1122 3.3.2", at=Phase.OPEN)
def expire(s: IpqState, e: Expire, p: IpqParams) -> tuple[IpqState, tuple[Effect, ...]]:
    """The fragments waited long enough; the sender is told if the first one came."""
    mibs = (Mib(name="IpReasmFails"), Mib(name="IpReasmTimeout"))
    if s.first_in and e.icmp:
        return over(s), (Killed(), *mibs, TimeExceeded())
    return over(s), (Killed(), *mibs)


# ---------------------------------------------------------------- what holds


@assume
def pieces_lie_apart(s: IpqState, e: Fragment) -> bool:
    """A fragment that neither overlaps nor repeats others lies beside them within the datagram."""
    return e.place != Place.OK or added(s, e).meat <= measured(s, e).len


@assume
def first_begins_once(s: IpqState, e: Fragment) -> bool:
    """A fragment at 0 besides the one that is there is a duplicate or an overlap."""
    return e.place != Place.OK or e.units != 0 or not begun(s, e).first_in


@invariant(at=Phase.OPEN)
def meat_is_within(s: IpqState) -> bool:
    """There are never more bytes than the datagram is long."""
    return s.meat <= s.len


@invariant()
def df_size_is_a_size(s: IpqState) -> bool:
    """The largest fragment with DF is not larger than the largest."""
    return s.max_df_size <= s.max_size


@invariant(at=Phase.OPEN)
def open_end_is_at_eights(s: IpqState) -> bool:
    """As long as the last fragment has not come, the end that is known is a multiple of 8."""
    return s.last_in or s.len % 8 == 0


@invariant(at=Phase.OPEN)
def bytes_have_an_ecn(s: IpqState) -> bool:
    """What is there came with one ECN value or another."""
    return s.meat == 0 or s.not_ect or s.ect or s.ce


@transition(Fragment, at=Phase.OPEN)
def end_is_said_once(s: IpqState, e: Fragment, t: IpqState) -> bool:
    """Once the last fragment has come, the end does not move while the datagram is open."""
    return not s.last_in or e.too_far or t.phase == Phase.COMPLETE or (t.last_in and t.len == s.len)


@transition(Fragment)
def whole_means_whole(s: IpqState, e: Fragment, t: IpqState, effects: tuple[Effect, ...]) -> bool:
    """Only a datagram with its first and last fragment and all bytes is put together."""
    return not any(isinstance(x, Reassembled) for x in effects) or (t.first_in and t.last_in and t.meat == t.len)


@transition(Fragment)
def whole_fits_its_length(s: IpqState, e: Fragment, t: IpqState, effects: tuple[Effect, ...]) -> bool:
    """A datagram that was put together is as long as its bytes and its header, which a length field can tell."""
    return all(t.meat + 4 * e.head_ihl == x.len for x in effects if isinstance(x, Reassembled))


@transition(Fragment)
def ecn_is_of_one_kind(s: IpqState, e: Fragment, t: IpqState, effects: tuple[Effect, ...]) -> bool:
    """A datagram's fragments all had ECN or all had none."""
    return not any(isinstance(x, Reassembled) for x in effects) or not (t.not_ect and (t.ect or t.ce))


@transition(Fragment, Expire)
def done_is_done(s: IpqState, e: Event, t: IpqState) -> bool:
    """A datagram that is done with takes no more fragments."""
    return s.phase == Phase.OPEN or s == t


@transition(Fragment)
def every_fragment_has_one_fate(s: IpqState, e: Fragment, t: IpqState, effects: tuple[Effect, ...]) -> bool:
    """A fragment waits, is dropped, or is in a datagram that is done with."""
    dropped = any(isinstance(x, Dropped) for x in effects)
    kept = any(isinstance(x, Kept) for x in effects)
    return not (dropped and kept) and (dropped or kept or t.phase == Phase.COMPLETE)


@transition(Fragment, Expire)
def death_is_told(s: IpqState, e: Event, t: IpqState, effects: tuple[Effect, ...]) -> bool:
    """A queue is taken out of the table when it is done with, once."""
    return any(isinstance(x, Killed) for x in effects) == (s.phase == Phase.OPEN and t.phase == Phase.COMPLETE)


@transition(Expire)
def told_only_with_a_first(s: IpqState, e: Expire, t: IpqState, effects: tuple[Effect, ...]) -> bool:
    """Nobody is told of a datagram whose first fragment never came."""
    return s.first_in or not any(isinstance(x, TimeExceeded) for x in effects)


IPQ = machine(
    Machine(
        name="ip-reassembly",
        title="Reassembly of one datagram",
        accepts={IpqState: (Fragment, Expire)},
        params=IpqParams,
        modules=(__name__,),
    )
)

BY_VERDICT: Final = {
    Verdict.TIMED_OUT: fragment_timed_out,
    Verdict.CORRUPT: fragment_corrupt,
    Verdict.OVERLAP: fragment_overlaps,
    Verdict.DUP: fragment_duplicate,
    Verdict.WAIT: fragment_waits,
    Verdict.BAD_ECN: datagram_bad_ecn,
    Verdict.OVERSIZE: datagram_oversize,
    Verdict.WHOLE: datagram_whole,
}
"""The rule of each verdict about a fragment of an open queue."""


def take(s: IpqState, e: Fragment) -> tuple[IpqState, tuple[Effect, ...]]:
    """What becomes of a queue and a fragment, by the one rule that is enabled."""
    f = late_fragment if s.phase == Phase.COMPLETE else BY_VERDICT[verdict(s, e)]
    return f(s, e, IpqParams())


def time_out(s: IpqState, e: Expire) -> tuple[IpqState, tuple[Effect, ...]]:
    """What becomes of a queue whose time is over."""
    return (expire_late if s.phase == Phase.COMPLETE else expire)(s, e, IpqParams())
