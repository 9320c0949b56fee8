"""The machine fib_leaf: what fib_table_lookup does with the routes of one leaf, one after another.

A lookup comes to a leaf whose prefix matches. Each of its routes is passed over, rejects the lookup, or has its
nexthops tried in order; the first good nexthop is the answer. Without one the lookup goes on with a shorter prefix
(`Backtrack`), and ends with EAGAIN when there is none left.
"""

from enum import IntEnum
from errno import EACCES, EAGAIN, EHOSTUNREACH, EINVAL
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.fib.types import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, RTN
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
from refmodel.types import Range, u8

FIB_PROPS_ERROR: Final = {
    RTN.UNSPEC: 0,
    RTN.UNICAST: 0,
    RTN.LOCAL: 0,
    RTN.BROADCAST: 0,
    RTN.ANYCAST: 0,
    RTN.MULTICAST: 0,
    RTN.BLACKHOLE: EINVAL,
    RTN.UNREACHABLE: EHOSTUNREACH,
    RTN.PROHIBIT: EACCES,
    RTN.THROW: EAGAIN,
    RTN.NAT: EINVAL,
    RTN.XRESOLVE: EINVAL,
}
FIB_PROPS_SCOPE: Final = {
    RTN.UNSPEC: RT_SCOPE_NOWHERE,
    RTN.UNICAST: RT_SCOPE_UNIVERSE,
    RTN.LOCAL: RT_SCOPE_HOST,
    RTN.BROADCAST: RT_SCOPE_LINK,
    RTN.ANYCAST: RT_SCOPE_LINK,
    RTN.MULTICAST: RT_SCOPE_UNIVERSE,
    RTN.BLACKHOLE: RT_SCOPE_UNIVERSE,
    RTN.UNREACHABLE: RT_SCOPE_UNIVERSE,
    RTN.PROHIBIT: RT_SCOPE_UNIVERSE,
    RTN.THROW: RT_SCOPE_UNIVERSE,
    RTN.NAT: RT_SCOPE_NOWHERE,
    RTN.XRESOLVE: RT_SCOPE_NOWHERE,
}

plen = Annotated[int, Range(0, 32)]
ifindex = Annotated[int, Range(0, (1 << 31) - 1)]


class Walk(IntEnum):
    """How far the lookup is."""

    LEAF = 0  # looks at the routes of a leaf
    ROUTE = 1  # tries the nexthops of a route
    FOUND = 2
    REJECTED = 3
    NOTHING = 4


class Look(IntEnum):
    """What becomes of one route."""

    DSCP = 0
    DEAD_INFO = 1
    SCOPE = 2
    REJECT = 3
    DEAD_ROUTE = 4
    TRY = 5


class NhLook(IntEnum):
    """What becomes of one nexthop."""

    DEAD = 0
    LINKDOWN = 1
    OTHER_DEVICE = 2
    GOOD = 3


class LookupParams(Params, frozen=True):
    """What is looked up, for the length of one lookup: the flow's DSCP, scope and device, and the caller's flags."""

    tos: u8 = 0
    scope: u8 = 0
    oif: ifindex = 0
    ignore_linkstate: bool = False


class Lookup(State, frozen=True):
    """One lookup in one table.

    `prefixlen`: of the leaf's routes that are looked at. The rest is that of the route at hand, and of the answer:
    `type`, `fib_scope`, `dscp`, `nh_dead`, `nh_oif` of its nexthop; `err` what the lookup returns, as a positive errno.
    """

    AT: ClassVar[str] = "walk"

    walk: Walk = Walk.LEAF
    prefixlen: plen = 32
    type: RTN = RTN.UNSPEC
    fib_scope: u8 = 0
    dscp: u8 = 0
    nh_dead: bool = False
    nh_ignored: bool = False
    nh_oif: ifindex = 0
    err: Annotated[int, Range(0, 133)] = 0


class Alias(Event, frozen=True):
    """The next route of the leaf: `fib_dead` it was released, `dead` all its nexthops are (RTNH_F_DEAD)."""

    type: RTN = RTN.UNICAST
    dscp: u8 = 0
    fib_dead: bool = False
    fib_scope: u8 = 0
    dead: bool = False


class Nexthop(Event, frozen=True):
    """The next nexthop of the route. `ignore_linkdown` is its device's ignore_routes_with_linkdown."""

    dead: bool = False
    linkdown: bool = False
    ignore_linkdown: bool = False
    oif: ifindex = 0


class NoMoreNexthops(Event, frozen=True):
    """The route has no further nexthop."""


class Backtrack(Event, frozen=True):
    """The leaf has no further route: the next shorter prefix is looked at; `none`: there is no such leaf."""

    prefixlen: plen = 0
    none: bool = False


class Answer(Effect, frozen=True):
    """The lookup returns `err` (a positive errno, 0 for a route)."""

    err: int


@pure
def dscp_masked(tos: int) -> int:
    """The DSCP bits that routing compares: the three that the old TOS field had (RT_TOS)."""
    return tos // 4 % 8 * 4


@pure
def alias_look(a: Alias, p: LookupParams) -> Look:
    """The tests of a route in fib_table_lookup's order."""
    return (
        Look.DSCP
        if a.dscp != 0 and a.dscp != dscp_masked(p.tos)
        else Look.DEAD_INFO
        if a.fib_dead
        else Look.SCOPE
        if a.fib_scope < p.scope
        else Look.REJECT
        if FIB_PROPS_ERROR[a.type] != 0
        else Look.DEAD_ROUTE
        if a.dead
        else Look.TRY
    )


@pure
def nexthop_look(n: Nexthop, p: LookupParams) -> NhLook:
    """The tests of a nexthop in fib_lookup_good_nhc's order."""
    return (
        NhLook.DEAD
        if n.dead
        else NhLook.LINKDOWN
        if n.ignore_linkdown and n.linkdown and not p.ignore_linkstate
        else NhLook.OTHER_DEVICE
        if p.oif != 0 and p.oif != n.oif
        else NhLook.GOOD
    )


@rule("net/ipv4/fib_trie.c:fib_table_lookup", at=Walk.LEAF)
def alias_passed_over(s: Lookup, e: Alias, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """A route of another DSCP, a released one, one of too wide a scope or a dead one is passed over."""
    require(alias_look(e, p) != Look.REJECT and alias_look(e, p) != Look.TRY, "the route does not apply")
    return s, ()


@rule("net/ipv4/fib_trie.c:fib_table_lookup", at=Walk.LEAF)
def alias_rejects(s: Lookup, e: Alias, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """A route of a reject type ends the lookup with its error; THROW's is EAGAIN, and the next rule is asked."""
    require(alias_look(e, p) == Look.REJECT, "the type has an error")
    t = replace(s, type=e.type, fib_scope=e.fib_scope, dscp=e.dscp, err=FIB_PROPS_ERROR[e.type])
    return replace(t, walk=Walk.REJECTED), (Answer(err=FIB_PROPS_ERROR[e.type]),)


@rule("net/ipv4/fib_trie.c:fib_table_lookup", at=Walk.LEAF)
def alias_tried(s: Lookup, e: Alias, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """A route that applies has its nexthops tried."""
    require(alias_look(e, p) == Look.TRY, "the route applies")
    return replace(s, walk=Walk.ROUTE, type=e.type, fib_scope=e.fib_scope, dscp=e.dscp), ()


@rule("net/ipv4/fib_trie.c:fib_lookup_good_nhc", at=Walk.ROUTE)
def nexthop_passed_over(s: Lookup, e: Nexthop, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """A nexthop that is dead, without carrier where that counts, or on another device than asked for is passed over."""
    require(nexthop_look(e, p) != NhLook.GOOD, "the nexthop is not good")
    return s, ()


@rule("net/ipv4/fib_trie.c:fib_table_lookup", at=Walk.ROUTE)
def nexthop_found(s: Lookup, e: Nexthop, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """The first good nexthop is the answer."""
    require(nexthop_look(e, p) == NhLook.GOOD, "the nexthop is good")
    ignored = e.linkdown and e.ignore_linkdown
    return replace(s, walk=Walk.FOUND, nh_dead=e.dead, nh_ignored=ignored, nh_oif=e.oif), (Answer(err=0),)


@rule("net/ipv4/fib_trie.c:fib_table_lookup", at=Walk.ROUTE)
def nexthops_exhausted(s: Lookup, e: NoMoreNexthops, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """A route without a good nexthop is passed over."""
    return replace(s, walk=Walk.LEAF, type=RTN.UNSPEC, fib_scope=0, dscp=0), ()


@rule("net/ipv4/fib_trie.c:fib_table_lookup", at=Walk.LEAF)
def backtrack(s: Lookup, e: Backtrack, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """After a leaf without an answer the next shorter prefix is looked at."""
    require(not e.none, "a shorter prefix matches")
    return replace(s, prefixlen=e.prefixlen), ()


@rule("net/ipv4/fib_trie.c:fib_table_lookup", at=Walk.LEAF)
def nothing_left(s: Lookup, e: Backtrack, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """A table without an answer says EAGAIN, and the next rule is asked."""
    require(e.none, "no shorter prefix matches")
    return replace(s, walk=Walk.NOTHING, err=EAGAIN), (Answer(err=EAGAIN),)


@rule("net/ipv4/fib_trie.c:fib_table_lookup", at=(Walk.FOUND, Walk.REJECTED, Walk.NOTHING))
def over_alias(s: Lookup, e: Alias, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """A lookup that is over looks at no further route."""
    return s, ()


@rule("net/ipv4/fib_trie.c:fib_table_lookup", at=(Walk.FOUND, Walk.REJECTED, Walk.NOTHING))
def over_backtrack(s: Lookup, e: Backtrack, p: LookupParams) -> tuple[Lookup, tuple[Effect, ...]]:
    """A lookup that is over looks at no shorter prefix."""
    return s, ()


@assume
def aliases_between_routes(s: Lookup, e: Alias) -> bool:
    """The next route is looked at when the nexthops of the last one are done."""
    return s.walk != Walk.ROUTE


@assume
def nexthops_of_a_route(s: Lookup, e: Nexthop) -> bool:
    """Nexthops belong to a route that is tried."""
    return s.walk == Walk.ROUTE


@assume
def end_of_a_route(s: Lookup, e: NoMoreNexthops) -> bool:
    """Nexthops run out of a route that is tried."""
    return s.walk == Walk.ROUTE


@assume
def backtrack_is_shorter(s: Lookup, e: Backtrack) -> bool:
    """The trie is walked back from a leaf, to a prefix that is shorter."""
    return s.walk != Walk.ROUTE and e.prefixlen < s.prefixlen


@invariant(at=Walk.FOUND)
def found_is_alive(s: Lookup) -> bool:
    """A dead nexthop is never the answer."""
    return not s.nh_dead


@invariant(at=Walk.FOUND)
def found_has_carrier(s: Lookup, p: LookupParams) -> bool:
    """A nexthop without carrier whose device ignores such routes is the answer only to who ignores the link's state."""
    return not s.nh_ignored or p.ignore_linkstate


@invariant(at=Walk.FOUND)
def found_on_asked_device(s: Lookup, p: LookupParams) -> bool:
    """Where a device was asked for, the answer is on it."""
    return p.oif == 0 or s.nh_oif == p.oif


@invariant(at=(Walk.ROUTE, Walk.FOUND, Walk.REJECTED))
def scope_is_narrow_enough(s: Lookup, p: LookupParams) -> bool:
    """The answer's scope is no wider than asked for."""
    return s.fib_scope >= p.scope


@invariant(at=(Walk.ROUTE, Walk.FOUND, Walk.REJECTED))
def dscp_agrees(s: Lookup, p: LookupParams) -> bool:
    """A route with a DSCP answers only packets of that DSCP."""
    return s.dscp == 0 or s.dscp == dscp_masked(p.tos)


@invariant(at=(Walk.ROUTE, Walk.FOUND))
def found_is_no_reject(s: Lookup) -> bool:
    """An answer with a nexthop is never of a reject type."""
    return FIB_PROPS_ERROR[s.type] == 0


@invariant()
def error_says_why(s: Lookup) -> bool:
    """The error is none while looking and when found, the type's when rejected, EAGAIN when there is nothing."""
    return s.err == (FIB_PROPS_ERROR[s.type] if s.walk == Walk.REJECTED else EAGAIN if s.walk == Walk.NOTHING else 0)


@transition()
def prefix_never_grows(s: Lookup, e: Event, t: Lookup) -> bool:
    """The walk goes from longer prefixes to shorter ones: the first answer is the longest prefix's."""
    return t.prefixlen <= s.prefixlen


@transition()
def answered_once(s: Lookup, e: Event, t: Lookup, effects: tuple[Effect, ...]) -> bool:
    """A lookup answers exactly when it ends, and what ended stays as it is."""
    over = s.walk == Walk.FOUND or s.walk == Walk.REJECTED or s.walk == Walk.NOTHING
    ends = t.walk == Walk.FOUND or t.walk == Walk.REJECTED or t.walk == Walk.NOTHING
    return (t == s and len(effects) == 0) if over else (len(effects) == (1 if ends else 0))


FIB_LEAF = machine(
    Machine(
        name="fib_leaf",
        title="Routing: a table lookup, route by route",
        accepts={Lookup: (Alias, Nexthop, NoMoreNexthops, Backtrack)},
        params=LookupParams,
        initial=(Lookup(),),
        modules=("refmodel.fib.leaf",),
    )
)
