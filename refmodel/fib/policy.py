"""The machine fib_policy: how the policy rules are walked, one after another, until one has an answer.

A rule that matches names a table, a rule further down, or an error. A table without an answer (EAGAIN, which THROW says
too) leaves the question to the next rule; so does an answer that the rule suppresses.
"""

from enum import IntEnum
from errno import EACCES, EAGAIN, EINVAL, ENETUNREACH
from typing import Annotated, ClassVar

from msgspec.structs import replace

from refmodel.fib.leaf import dscp_masked, ifindex, plen
from refmodel.fib.types import FrAct
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
from refmodel.types import Range, u8, u16, u32

suppressed_length = Annotated[int, Range(-1, 32)]


class Ask(IntEnum):
    """How far the walk is."""

    RULES = 0  # asks the next rule
    TABLE = 1  # a table is looked up
    DONE = 2


class RuleLook(IntEnum):
    """What becomes of one rule."""

    PASS = 0
    JUMP = 1
    LOOKUP = 2
    UNREACHABLE = 3
    PROHIBIT = 4
    BLACKHOLE = 5


class Selector(Event, frozen=True):
    """The next rule, held against the flow.

    `addresses`, `marked`, `uid`: the flow's addresses lie in the rule's prefixes, its mark agrees under the mask, its
    user is in the range. `iif`, `oif`, `ip_proto`, `dscp`, the port ranges: 0 where the rule has none; -1 an interface
    that is not there. `target`: the rule that a GOTO names is there.
    """

    pref: u32 = 0
    action: FrAct = FrAct.TO_TBL
    invert: bool = False
    addresses: bool = True
    marked: bool = True
    uid: bool = True
    iif: Annotated[int, Range(-1, (1 << 31) - 1)] = 0
    oif: Annotated[int, Range(-1, (1 << 31) - 1)] = 0
    ip_proto: u8 = 0
    sport_lo: u16 = 0
    sport_hi: u16 = 0
    dport_lo: u16 = 0
    dport_hi: u16 = 0
    dscp: u8 = 0
    dscp_full: bool = False
    suppress_prefixlen: suppressed_length = -1
    target: bool = False


class TableAnswer(Event, frozen=True):
    """The table has answered: 0 with the prefix's length, or a positive errno. `absent`: there is no such table."""

    err: Annotated[int, Range(0, 133)] = 0
    prefixlen: plen = 0
    absent: bool = False


class NoMoreRules(Event, frozen=True):
    """The list of rules is at its end."""


class PolicyParams(Params, frozen=True):
    """The flow, for the length of one lookup."""

    flow_iif: ifindex = 1
    flow_oif: ifindex = 0
    flow_tos: u8 = 0
    flow_proto: u8 = 0
    flow_sport: u16 = 0
    flow_dport: u16 = 0


class Policy(State, frozen=True):
    """One walk. `pref` is the last rule's; `length` of the answer's prefix; `err` what the lookup says (positive)."""

    AT: ClassVar[str] = "ask"

    ask: Ask = Ask.RULES
    pref: u32 = 0
    suppress_prefixlen: suppressed_length = -1
    length: plen = 0
    err: Annotated[int, Range(0, 133)] = 0
    found: bool = False


class Verdict(Effect, frozen=True):
    """The lookup returns `err` (a positive errno, 0 for a route)."""

    err: int


@pure
def port_in_range(lo: int, hi: int, port: int) -> bool:
    """A port agrees with a rule's range; a range is none when it begins at 0."""
    return lo == 0 or hi == 0 or (lo <= port and port <= hi)


@pure
def matches(r: Selector, p: PolicyParams) -> bool:
    """fib_rule_match and fib4_rule_match: everything that the rule names agrees, or not everything if inverted."""
    agrees = (
        (r.iif == 0 or r.iif == p.flow_iif)
        and (r.oif == 0 or r.oif == p.flow_oif)
        and r.marked
        and r.uid
        and r.addresses
        and (p.flow_tos // 4 * 4 == r.dscp if r.dscp_full else (r.dscp == 0 or r.dscp == dscp_masked(p.flow_tos)))
        and (r.ip_proto == 0 or r.ip_proto == p.flow_proto)
        and port_in_range(r.sport_lo, r.sport_hi, p.flow_sport)
        and port_in_range(r.dport_lo, r.dport_hi, p.flow_dport)
    )
    return not agrees if r.invert else agrees


@pure
def rule_look(r: Selector, p: PolicyParams) -> RuleLook:
    """What fib_rules_lookup and fib4_rule_action do with a rule."""
    return (
        RuleLook.PASS
        if not matches(r, p)
        else (RuleLook.JUMP if r.target else RuleLook.PASS)
        if r.action == FrAct.GOTO
        else RuleLook.PASS
        if r.action == FrAct.NOP
        else RuleLook.LOOKUP
        if r.action == FrAct.TO_TBL
        else RuleLook.UNREACHABLE
        if r.action == FrAct.UNREACHABLE
        else RuleLook.PROHIBIT
        if r.action == FrAct.PROHIBIT
        else RuleLook.BLACKHOLE
    )


@pure
def goes_on(s: Policy, e: TableAnswer) -> bool:
    """fib4_rule_suppress and fib_rules_lookup: the table's answer leaves the question to the next rule."""
    return e.absent or e.err == EAGAIN or (e.err == 0 and e.prefixlen <= s.suppress_prefixlen)


@rule("net/core/fib_rules.c:fib_rules_lookup", at=Ask.RULES)
def passes(s: Policy, e: Selector, p: PolicyParams) -> tuple[Policy, tuple[Effect, ...]]:
    """A rule that does not match, says NOP or names a rule that is not there is passed by."""
    require(rule_look(e, p) == RuleLook.PASS, "the rule has nothing to say")
    return replace(s, pref=e.pref), ()


@rule("net/core/fib_rules.c:fib_rules_lookup", at=Ask.RULES)
def jumps(s: Policy, e: Selector, p: PolicyParams) -> tuple[Policy, tuple[Effect, ...]]:
    """GOTO goes on with the rule that it names, which stands further down."""
    require(rule_look(e, p) == RuleLook.JUMP, "GOTO with a target")
    return replace(s, pref=e.pref), ()


@rule("net/ipv4/fib_rules.c:fib4_rule_action", at=Ask.RULES)
def looks_up(s: Policy, e: Selector, p: PolicyParams) -> tuple[Policy, tuple[Effect, ...]]:
    """The rule's table is looked up."""
    require(rule_look(e, p) == RuleLook.LOOKUP, "the rule names a table")
    return replace(s, ask=Ask.TABLE, pref=e.pref, suppress_prefixlen=e.suppress_prefixlen), ()


@rule("net/ipv4/fib_rules.c:fib4_rule_action", at=Ask.RULES)
def unreachable(s: Policy, e: Selector, p: PolicyParams) -> tuple[Policy, tuple[Effect, ...]]:
    """UNREACHABLE ends the lookup with ENETUNREACH, where a route of that type says EHOSTUNREACH."""
    require(rule_look(e, p) == RuleLook.UNREACHABLE, "UNREACHABLE")
    return replace(s, ask=Ask.DONE, pref=e.pref, err=ENETUNREACH), (Verdict(err=ENETUNREACH),)


@rule("net/ipv4/fib_rules.c:fib4_rule_action", at=Ask.RULES)
def prohibited(s: Policy, e: Selector, p: PolicyParams) -> tuple[Policy, tuple[Effect, ...]]:
    """PROHIBIT ends the lookup with EACCES."""
    require(rule_look(e, p) == RuleLook.PROHIBIT, "PROHIBIT")
    return replace(s, ask=Ask.DONE, pref=e.pref, err=EACCES), (Verdict(err=EACCES),)


@rule("net/ipv4/fib_rules.c:fib4_rule_action", at=Ask.RULES)
def blackholed(s: Policy, e: Selector, p: PolicyParams) -> tuple[Policy, tuple[Effect, ...]]:
    """BLACKHOLE, and every action that the kernel does not know, ends the lookup with EINVAL."""
    require(rule_look(e, p) == RuleLook.BLACKHOLE, "BLACKHOLE or unknown")
    return replace(s, ask=Ask.DONE, pref=e.pref, err=EINVAL), (Verdict(err=EINVAL),)


@rule("net/core/fib_rules.c:fib_rules_lookup", "net/ipv4/fib_rules.c:fib4_rule_suppress", at=Ask.TABLE)
def table_has_none(s: Policy, e: TableAnswer, p: PolicyParams) -> tuple[Policy, tuple[Effect, ...]]:
    """A table that is not there or has no answer, and an answer of too short a prefix, leave it to the next rule."""
    require(goes_on(s, e), "no answer, or a suppressed one")
    return replace(s, ask=Ask.RULES, suppress_prefixlen=-1), ()


@rule("net/core/fib_rules.c:fib_rules_lookup", at=Ask.TABLE)
def table_answers(s: Policy, e: TableAnswer, p: PolicyParams) -> tuple[Policy, tuple[Effect, ...]]:
    """A route, or a reject type's error, is the answer."""
    require(not goes_on(s, e), "an answer")
    t = replace(s, ask=Ask.DONE, err=e.err, length=e.prefixlen, found=e.err == 0)
    return t, (Verdict(err=e.err),)


@rule("net/ipv4/fib_rules.c:__fib_lookup", at=Ask.RULES)
def no_rule_left(s: Policy, e: NoMoreRules, p: PolicyParams) -> tuple[Policy, tuple[Effect, ...]]:
    """When no rule had an answer the network is unreachable."""
    return replace(s, ask=Ask.DONE, err=ENETUNREACH), (Verdict(err=ENETUNREACH),)


@assume
def rules_in_order(s: Policy, e: Selector) -> bool:
    """Rules come by ascending preference, and a table answers before the next is asked; ports are written in order."""
    return s.ask == Ask.RULES and e.pref >= s.pref


@assume
def tables_when_asked(s: Policy, e: TableAnswer) -> bool:
    """A table answers when it was asked."""
    return s.ask == Ask.TABLE


@assume
def ends_between_rules(s: Policy, e: NoMoreRules) -> bool:
    """The rules end when one would be asked."""
    return s.ask == Ask.RULES


@invariant(at=Ask.DONE)
def found_or_error(s: Policy) -> bool:
    """The end is a route or an error, and never both."""
    return s.found == (s.err == 0)


@invariant(at=Ask.DONE)
def never_throws_out(s: Policy) -> bool:
    """EAGAIN, what a table or THROW says, is nobody's final answer."""
    return s.err != EAGAIN


@invariant(at=Ask.DONE)
def suppressed_is_not_found(s: Policy) -> bool:
    """A route of a prefix that the rule suppresses is never the answer."""
    return not s.found or s.length > s.suppress_prefixlen


@invariant(at=(Ask.RULES, Ask.TABLE))
def no_error_while_asking(s: Policy) -> bool:
    """While rules are asked there is neither a route nor an error."""
    return s.err == 0 and not s.found


@transition()
def only_downwards(s: Policy, e: Event, t: Policy) -> bool:
    """The walk never goes up again: no GOTO makes a loop."""
    return t.pref >= s.pref


@transition(Selector)
def mismatch_decides_nothing(s: Policy, e: Selector, t: Policy, effects: tuple[Effect, ...], p: PolicyParams) -> bool:
    """A rule decides something only if it matches."""
    return matches(e, p) or (t.ask == Ask.RULES and len(effects) == 0)


FIB_POLICY = machine(
    Machine(
        name="fib_policy",
        title="Routing: policy rules, one after another",
        accepts={Policy: (Selector, TableAnswer, NoMoreRules)},
        params=PolicyParams,
        initial=(Policy(),),
        modules=("refmodel.fib.leaf", "refmodel.fib.policy"),
    )
)
