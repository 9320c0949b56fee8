"""How many ICMP messages may be sent: a token bucket for each host and one for all, and the limit of redirects.

The law (proved): a bucket never holds more than its burst, no message goes without its token, and time alone fills it.
"""

from typing import Annotated, ClassVar, Final

from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Params,
    State,
    assume,
    cited,
    invariant,
    machine,
    pure,
    require,
    rule,
    transition,
)
from refmodel.types import Range

XRLIM_BURST_FACTOR: Final = 6
IP_RT_REDIRECT_NUMBER: Final = 9
TICKS: Final = 1 << 40
INT_MAX: Final = (1 << 31) - 1
Ticks = Annotated[int, Range(0, TICKS)]


class LimitParams(Params, frozen=True):
    """`burst` is icmp_msgs_burst, `hz` the ticks of a second, `timeout` icmp_ratelimit in ticks."""

    hz: int = 250
    burst: Annotated[int, Range(0, INT_MAX)] = 50
    timeout: Annotated[int, Range(0, INT_MAX)] = 250


class Peer(State, frozen=True):
    """A host's bucket: `tokens` in ticks, as they were at `last`."""

    AT: ClassVar[str] = ""

    tokens: Annotated[int, Range(0, XRLIM_BURST_FACTOR * INT_MAX)] = 0
    last: Ticks = 0


class Global(State, frozen=True):
    """The bucket of all hosts together: `credit` messages, filled last at `stamp`."""

    AT: ClassVar[str] = ""

    credit: Annotated[int, Range(-INT_MAX, INT_MAX)] = 0
    stamp: Ticks = 0


class AskPeer(Event, frozen=True):
    """A message to the host is wanted, `passed` ticks after the last one was."""

    passed: Ticks


class AskGlobal(Event, frozen=True):
    """A message is wanted `passed` ticks after the bucket was filled.

    `incr` messages are what msgs_per_sec gives for that time, of a second at most; with `consume` the message is sent
    and takes `credits`, 0 to 2 by chance.
    """

    passed: Ticks
    incr: Annotated[int, Range(0, INT_MAX)]
    consume: bool = True
    credits: Annotated[int, Range(0, 2)] = 1


class Allowed(Effect, frozen=True):
    """The message may be sent."""


@pure
def filled(tokens: int, passed: int, timeout: int) -> int:
    """The host's tokens with what time gave, six messages' worth at most."""
    return min(tokens + passed, XRLIM_BURST_FACTOR * timeout)


@rule("net/ipv4/inetpeer.c:inet_peer_xrlim_allow")
def peer_allows(s: Peer, e: AskPeer, p: LimitParams) -> tuple[Peer, tuple[Effect, ...]]:
    """A message costs `timeout` ticks."""
    require(filled(s.tokens, e.passed, p.timeout) >= p.timeout, "a token is there")
    return Peer(filled(s.tokens, e.passed, p.timeout) - p.timeout, s.last + e.passed), (Allowed(),)


@rule("net/ipv4/inetpeer.c:inet_peer_xrlim_allow")
def peer_refuses(s: Peer, e: AskPeer, p: LimitParams) -> tuple[Peer, tuple[Effect, ...]]:
    """Without a token none is sent; the time that went by is kept."""
    require(filled(s.tokens, e.passed, p.timeout) < p.timeout, "no token is there")
    return Peer(filled(s.tokens, e.passed, p.timeout), s.last + e.passed), ()


@pure
def may_fill(s: Global, e: AskGlobal, p: LimitParams) -> bool:
    """A bucket that is empty is filled, once in a fiftieth of a second."""
    return s.credit <= 0 and min(e.passed, p.hz) >= p.hz // 50 and e.incr > 0


@pure
def after_fill(s: Global, e: AskGlobal, p: LimitParams) -> int:
    """The credit after it was filled up to its burst."""
    return min(s.credit + e.incr, p.burst) if may_fill(s, e, p) else s.credit


@pure
def left(credit: int, e: AskGlobal) -> int:
    """The credit after a message, which may fall below zero."""
    return max(credit - (e.credits if e.consume else 0), -INT_MAX)


@rule("net/ipv4/icmp.c:icmp_global_allow", "net/ipv4/icmp.c:icmp_global_consume")
def global_allows(s: Global, e: AskGlobal, p: LimitParams) -> tuple[Global, tuple[Effect, ...]]:
    """A message is allowed while there is credit, and whenever the bucket has just been filled."""
    require(s.credit > 0 or may_fill(s, e, p), "credit, or time to fill")
    t = Global(left(after_fill(s, e, p), e), s.stamp + e.passed if may_fill(s, e, p) else s.stamp)
    return t, (Allowed(),)


@rule("net/ipv4/icmp.c:icmp_global_allow")
def global_refuses(s: Global, e: AskGlobal, p: LimitParams) -> tuple[Global, tuple[Effect, ...]]:
    """Without credit, and too soon to fill, none is sent."""
    require(s.credit <= 0 and not may_fill(s, e, p), "no credit")
    return s, ()


@assume
def ages_pass_first(s: Peer, e: AskPeer) -> bool:
    """The clock stays below its bound."""
    return s.last + e.passed <= TICKS


@assume
def eons_pass_first(s: Global, e: AskGlobal) -> bool:
    """The clock stays below its bound."""
    return s.stamp + e.passed <= TICKS


@transition(AskPeer)
def peer_burst_is_bounded(s: Peer, e: AskPeer, t: Peer, effects: tuple[Effect, ...], p: LimitParams) -> bool:
    """Whatever time went by, five more messages may follow at once, not six."""
    return len(effects) == 0 or t.tokens <= (XRLIM_BURST_FACTOR - 1) * p.timeout


@transition(AskPeer)
def peer_pays(s: Peer, e: AskPeer, t: Peer, effects: tuple[Effect, ...], p: LimitParams) -> bool:
    """A message costs what it costs, and nothing is paid for one that is not sent."""
    return t.tokens <= s.tokens + e.passed - (p.timeout if len(effects) > 0 else 0)


@transition(AskPeer)
def peer_gains_with_time_only(s: Peer, e: AskPeer, t: Peer) -> bool:
    """Without time no token comes."""
    return e.passed > 0 or t.tokens <= s.tokens


@transition(AskGlobal)
def global_burst_is_bounded(s: Global, e: AskGlobal, t: Global, effects: tuple[Effect, ...], p: LimitParams) -> bool:
    """A bucket that was filled holds its burst at most."""
    return t.stamp == s.stamp or t.credit <= p.burst


@transition(AskGlobal)
def global_gains_with_time_only(s: Global, e: AskGlobal, t: Global) -> bool:
    """Credit grows only where the stamp moves."""
    return t.credit <= s.credit or t.stamp > s.stamp or e.passed == 0


@transition(AskGlobal)
def global_refuses_only_when_empty(s: Global, e: AskGlobal, t: Global, effects: tuple[Effect, ...]) -> bool:
    """As long as there is credit, nothing is refused."""
    return s.credit <= 0 or len(effects) > 0


@invariant(falsified="a bucket that was just filled allows a message even where it still owes some")
def credit_is_bounded_below(s: Global) -> bool:
    """One message may take more than is left, by one: the bucket owes one at most."""
    return s.credit >= -1


ICMP_LIMITS = machine(
    Machine(
        name="icmp-limits",
        title="How many ICMP messages may be sent",
        accepts={Peer: (AskPeer,), Global: (AskGlobal,)},
        params=LimitParams,
        modules=(__name__,),
    )
)


@pure
def redirect_silent(now: int, rate_last: int, hz: int) -> bool:
    """The host has been quiet for long: redirects begin anew. source ip_rt_redirect_silence."""
    return now > rate_last + (hz // 50 << IP_RT_REDIRECT_NUMBER + 1)


@pure
def redirect_due(now: int, rate_last: int, n: int, hz: int) -> bool:
    """The next of redirects that double their distance may be sent. source ip_rt_redirect_load."""
    return n == 0 or now > rate_last + (hz // 50 << n)


@cited("net/ipv4/icmp.c:icmpv4_mask_allow")
def icmpv4_mask_allow(type: int, code: int, ratemask: int) -> bool:
    """Types that no limit holds for: those not in the mask, and what path MTU discovery needs."""
    return type > 18 or (type == 3 and code == 4) or not 1 << type & ratemask
