"""tbf's two buckets: time in ns is their token, so that a rate enters only where a length becomes a time."""

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
    pure,
    require,
    rule,
    transition,
)
from refmodel.types import Range

NS_MAX: Final = 1 << 62
DEPTH_MAX: Final = 1 << 38  # a u32 of psched ticks of 64 ns
COST_MAX: Final = 1 << 50

ns = Annotated[int, Range(0, NS_MAX)]
Depth = Annotated[int, Range(0, DEPTH_MAX)]
Cost = Annotated[int, Range(0, COST_MAX)]


class BucketParams(Params, frozen=True):
    """`buffer`: depth in ns at the rate. `mtu`: depth in ns at the peak rate. `peak`: there is a peak rate."""

    buffer: Depth = 1 << 20
    mtu: Depth = 0
    peak: bool = False


class Bucket(State, frozen=True):
    """`tokens`, `ptokens` ns; `t_c` when they were counted; `spent`, `pspent` ns sent since `start`.

    `watch`: when the watchdog will schedule the discipline (NS_MAX: never).
    """

    tokens: Depth = 0
    ptokens: Depth = 0
    t_c: ns = 0
    start: ns = 0
    spent: ns = 0
    pspent: ns = 0
    watch: ns = NS_MAX
    made: bool = False


class Change(Event, frozen=True):
    """The parameters are set, or with `reset` what waits is thrown away: the buckets are full."""

    now: ns = 0
    reset: bool = False


class Head(Event, frozen=True):
    """At `now` a packet stands at the head that costs `need` ns at the rate and `pneed` ns at the peak rate."""

    now: ns = 0
    need: Cost = 0
    pneed: Cost = 0


class Go(Effect, frozen=True):
    """The packet may leave."""


class Wait(Effect, frozen=True):
    """The packet must wait; the watchdog is armed for `until`, and an overlimit is counted."""

    until: ns


@pure
def toks(tokens: int, elapsed: int, need: int, buffer: int) -> int:
    """Tokens that the packet would leave in the bucket; source net/sched/sch_tbf.c:tbf_dequeue."""
    return min(min(elapsed, buffer) + tokens, buffer) - need


@pure
def ptoks(ptokens: int, elapsed: int, pneed: int, buffer: int, mtu: int, peak: bool) -> int:
    """The same for the peak bucket, which is filled by no more than the other's depth at once."""
    return min(min(elapsed, buffer) + ptokens, mtu) - pneed if peak else 0


@pure
def after(s: Bucket, now: int, e: Head, p: BucketParams) -> int:
    """toks of the packet at `now`."""
    return toks(s.tokens, now - s.t_c, e.need, p.buffer)


@pure
def pafter(s: Bucket, now: int, e: Head, p: BucketParams) -> int:
    """ptoks of the packet at `now`."""
    return ptoks(s.ptokens, now - s.t_c, e.pneed, p.buffer, p.mtu, p.peak)


@pure
def passes(s: Bucket, now: int, e: Head, p: BucketParams) -> bool:
    """Neither bucket would be overdrawn."""
    return after(s, now, e, p) >= 0 and pafter(s, now, e, p) >= 0


@pure
def wait(left: int, pleft: int) -> int:
    """How long (ns) until both buckets have enough."""
    return max(0 - left, 0 - pleft)


@rule("net/sched/sch_tbf.c:tbf_change", "net/sched/sch_tbf.c:tbf_reset")
def change(s: Bucket, e: Change, p: BucketParams) -> tuple[Bucket, tuple[Effect, ...]]:
    """New parameters, or a reset, fill the buckets; time goes on from when it was counted last, but for a reset."""
    return Bucket(
        tokens=p.buffer,
        ptokens=p.mtu,
        t_c=e.now if e.reset or not s.made else s.t_c,
        start=e.now,
        spent=0,
        pspent=0,
        watch=s.watch,
        made=True,
    ), ()


@rule("net/sched/sch_tbf.c:tbf_dequeue")
def head_goes(s: Bucket, e: Head, p: BucketParams) -> tuple[Bucket, tuple[Effect, ...]]:
    """A packet that both buckets can pay for leaves."""
    require(passes(s, e.now, e, p), "enough tokens of both kinds")
    return replace(
        s,
        tokens=after(s, e.now, e, p),
        ptokens=pafter(s, e.now, e, p),
        t_c=e.now,
        spent=s.spent + e.need,
        pspent=s.pspent + (e.pneed if p.peak else 0),
    ), (Go(),)


@rule("net/sched/sch_tbf.c:tbf_dequeue")
def head_waits(s: Bucket, e: Head, p: BucketParams) -> tuple[Bucket, tuple[Effect, ...]]:
    """A packet that is too dear waits, and nobody overtakes it; the buckets stay as they are."""
    require(not passes(s, e.now, e, p), "too few tokens of one kind")
    until = e.now + wait(after(s, e.now, e, p), pafter(s, e.now, e, p))
    return replace(s, watch=until), (Wait(until=until),)


@assume
def clock_goes_on(s: Bucket, e: Head) -> bool:
    """The clock never goes back, and counts do not end."""
    return (
        e.now >= max(s.t_c, s.start)
        and e.now + 2 * COST_MAX < NS_MAX
        and max(s.spent, s.pspent) + COST_MAX < NS_MAX
        and s.made
    )


@assume
def peak_is_faster(e: Head) -> bool:
    """tbf_change refuses a peak rate that is not above the rate, so at the peak rate a packet costs no more."""
    return e.pneed <= e.need


@invariant()
def within_depth(s: Bucket, p: BucketParams) -> bool:
    """No bucket holds more than its depth."""
    return s.tokens <= p.buffer and s.ptokens <= p.mtu


@invariant()
def rate_kept(s: Bucket, p: BucketParams) -> bool:
    """Since the start no more was sent at the rate than a full bucket and the time that passed."""
    return s.spent + s.tokens <= p.buffer + max(s.t_c - s.start, 0) or not s.made


@invariant()
def peak_kept(s: Bucket, p: BucketParams) -> bool:
    """Since the start no more was sent at the peak rate than its full bucket and the time that passed."""
    return s.pspent + s.ptokens <= p.mtu + max(s.t_c - s.start, 0) or not p.peak or not s.made


@invariant()
def empty_before_made(s: Bucket) -> bool:
    """Buckets without parameters hold nothing."""
    return s.made or (s.tokens == 0 and s.ptokens == 0)


@invariant()
def full_until_counted(s: Bucket, p: BucketParams) -> bool:
    """What time before the start would fill is full already."""
    return not s.made or s.t_c >= s.start or (s.tokens == p.buffer and s.ptokens == p.mtu and s.spent == 0)


@transition(Head)
def overdrawn_never(s: Bucket, e: Head, t: Bucket, effects: tuple[object, ...], p: BucketParams) -> bool:
    """A packet that costs more than the bucket can hold never leaves."""
    return not any(True for x in effects if isinstance(x, Go)) or (
        e.need <= p.buffer and (not p.peak or e.pneed <= p.mtu)
    )


@transition(Head)
def watchdog_is_right(s: Bucket, e: Head, t: Bucket, effects: tuple[object, ...], p: BucketParams) -> bool:
    """When the watchdog comes, the packet that waited can leave, if it ever can."""
    can = e.need <= p.buffer and (not p.peak or e.pneed <= p.mtu)
    return not can or all(passes(t, x.until, e, p) for x in effects if isinstance(x, Wait))


@transition(Head)
def watchdog_not_early(s: Bucket, e: Head, t: Bucket, effects: tuple[object, ...], p: BucketParams) -> bool:
    """A packet that waits is looked at later, and its waiting costs nothing."""
    return all(x.until > e.now and t.tokens == s.tokens and t.t_c == s.t_c for x in effects if isinstance(x, Wait))


BUCKET: Final = machine(
    Machine(
        name="tbf",
        title="tbf: the token buckets",
        accepts={Bucket: (Change, Head)},
        params=BucketParams,
        modules=("refmodel.sched.bucket",),
    )
)
