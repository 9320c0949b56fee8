"""The token bucket of -m limit, as a proved machine.

The law: credit grows with time up to a cap, each match costs the same, and there is none without credit. So in any time
no more packets match than the cap and the time pay for.
"""

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
from refmodel.types import Range, u32

M32: Final = 0xFFFFFFFF
XT_LIMIT_SCALE: Final = 10_000
LIMIT: Final = "net/netfilter/xt_limit.c:limit_mt"
ELAPSED: Final = 1 << 24

Ticks = Annotated[int, Range(0, 1 << 48)]


class LimitParams(Params, frozen=True):
    """One rule's rate: what a match costs, the most credit there can be, and of how many bits a tick's credits are."""

    cost: Annotated[int, Range(1, M32)] = 1
    cap: Annotated[int, Range(1, M32)] = 5
    shift: Annotated[int, Range(0, 9)] = 7


class Bucket(State, frozen=True):
    """`credit` at the tick `prev`."""

    credit: u32 = 0
    prev: Ticks = 0


class Packet(Event, frozen=True):
    """A packet at the tick `now`."""

    now: Ticks


class Matched(Effect, frozen=True):
    """The packet matches."""


class Over(Effect, frozen=True):
    """The packet is over the limit."""


@pure
def grown(s: Bucket, e: Packet, p: LimitParams) -> int:
    """The credit now, before the packet is paid for; the increase is reckoned in 32 bits."""
    return min((s.credit + ((e.now - s.prev) << p.shift)) & M32, p.cap)


@rule(LIMIT)
def limit_paid(s: Bucket, e: Packet, p: LimitParams) -> tuple[Bucket, tuple[Effect, ...]]:
    """There is credit: the packet matches and costs."""
    require(grown(s, e, p) >= p.cost, "credit for one packet")
    return replace(s, credit=grown(s, e, p) - p.cost, prev=e.now), (Matched(),)


@rule(LIMIT)
def limit_over(s: Bucket, e: Packet, p: LimitParams) -> tuple[Bucket, tuple[Effect, ...]]:
    """There is too little credit: the packet doesn't match and costs nothing."""
    require(grown(s, e, p) < p.cost, "too little credit")
    return replace(s, credit=grown(s, e, p), prev=e.now), (Over(),)


@assume
def time_goes_on(s: Bucket, e: Packet) -> bool:
    """Ticks only grow."""
    return e.now >= s.prev


@invariant()
def never_above_cap(s: Bucket, p: LimitParams) -> bool:
    """There is never more credit than the burst."""
    return s.credit <= p.cap


@transition(Packet)
def match_costs(s: Bucket, e: Packet, t: Bucket, effects: tuple[Effect, ...], p: LimitParams) -> bool:
    """A match costs its price, and a packet that doesn't match costs nothing."""
    paid = p.cost if any(isinstance(x, Matched) for x in effects) else 0
    return t.credit == grown(s, e, p) - paid


@transition(Packet)
def no_match_without_credit(s: Bucket, e: Packet, t: Bucket, effects: tuple[Effect, ...], p: LimitParams) -> bool:
    """Nothing matches at once that the credit of the same tick doesn't pay for."""
    return e.now != s.prev or s.credit >= p.cost or not any(isinstance(x, Matched) for x in effects)


XT_LIMIT: Final = machine(
    Machine(
        name="xt_limit",
        title="The token bucket of -m limit",
        accepts={Bucket: (Packet,)},
        params=LimitParams,
        modules=("refmodel.netfilter.limit",),
        initial=(Bucket(),),
    )
)


def credits_per_jiffy(hz: int) -> int:
    """The power of two below what keeps one packet a day in 32 bits; source xt_limit.c:CREDITS_PER_JIFFY."""
    return 1 << (M32 // (hz * 60 * 60 * 24)).bit_length() - 1


def user2credits(user: int, hz: int) -> int:
    """What userspace's number is in credits, in 32 bits; source net/netfilter/xt_limit.c:user2credits."""
    per = credits_per_jiffy(hz)
    if user > M32 // (hz * per):
        return user // XT_LIMIT_SCALE * hz * per & M32
    return user * hz * per // XT_LIMIT_SCALE


def params(avg: int, burst: int, hz: int) -> LimitParams:
    """The rate of a rule: `avg` is the time between packets in units of 100 us, `burst` in packets."""
    return LimitParams(
        user2credits(avg, hz), user2credits(avg * burst & M32, hz), credits_per_jiffy(hz).bit_length() - 1
    )


def full(p: LimitParams, now: int) -> Bucket:
    """A rule's bucket when it is put in; source net/netfilter/xt_limit.c:limit_mt_check."""
    return Bucket(p.cap, now)


def asked(s: Bucket, e: Packet, p: LimitParams) -> tuple[Bucket, tuple[Effect, ...]]:
    """What the bucket says to a packet."""
    return limit_paid(s, e, p) if grown(s, e, p) >= p.cost else limit_over(s, e, p)


def limit_mt_check(avg: int, burst: int, hz: int) -> bool:
    """Whether a rule's rate is refused; source net/netfilter/xt_limit.c:limit_mt_check."""
    return burst == 0 or user2credits(avg * burst & M32, hz) < user2credits(avg, hz)
