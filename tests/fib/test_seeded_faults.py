"""Each property catches a fault of its own: a changed rule, what breaks, and what the proof then names."""

from typing import NamedTuple

import pytest

from refmodel.engine.prove import prove_with
from refmodel.fib.fnhe import FIB_FNHE
from refmodel.fib.leaf import FIB_LEAF
from refmodel.fib.policy import FIB_POLICY
from refmodel.fib.source import FIB_INPUT
from refmodel.rule import Machine

LEAF, POLICY, SOURCE, FNHE = "refmodel.fib.leaf", "refmodel.fib.policy", "refmodel.fib.source", "refmodel.fib.fnhe"


class Seed(NamedTuple):
    """What goes wrong, where, the rule in which it shows, and the property that says so."""

    fault: str
    machine: Machine
    module: str
    old: str
    new: str
    only: str
    caught: str


SEEDS = (
    Seed("a dead nexthop is taken", FIB_LEAF, LEAF, "if n.dead", "if n.dead and n.linkdown",
         "fib.leaf.nexthop_found", "found_is_alive"),
    Seed("the link's state is never looked at", FIB_LEAF, LEAF, "n.ignore_linkdown and n.linkdown and not",
         "n.ignore_linkdown and n.dead and not", "fib.leaf.nexthop_found", "found_has_carrier"),
    Seed("the asked device is not looked at", FIB_LEAF, LEAF, "p.oif != 0 and p.oif != n.oif", "n.dead",
         "fib.leaf.nexthop_found", "found_on_asked_device"),
    Seed("a wider scope is good enough", FIB_LEAF, LEAF, "a.fib_scope < p.scope", "a.fib_scope < p.scope - 1",
         "fib.leaf.alias_rejects", "scope_is_narrow_enough"),
    Seed("the DSCP is not masked", FIB_LEAF, LEAF, "a.dscp != dscp_masked(p.tos)", "a.dscp != p.tos",
         "fib.leaf.alias_rejects", "dscp_agrees"),
    Seed("a prohibited route is tried", FIB_LEAF, LEAF, "if FIB_PROPS_ERROR[a.type] != 0",
         "if FIB_PROPS_ERROR[a.type] != 0 and a.type != RTN.PROHIBIT", "fib.leaf.alias_tried", "found_is_no_reject"),
    Seed("a rejected lookup forgets the error", FIB_LEAF, LEAF, "dscp=e.dscp, err=FIB_PROPS_ERROR[e.type])",
         "dscp=e.dscp)", "fib.leaf.alias_rejects", "error_says_why"),
    Seed("the walk turns back to longer prefixes", FIB_LEAF, LEAF, "replace(s, prefixlen=e.prefixlen)",
         "replace(s, prefixlen=32)", "fib.leaf.backtrack", "prefix_never_grows"),
    Seed("a lookup answers twice", FIB_LEAF, LEAF,
         '"""A lookup that is over looks at no shorter prefix."""\n    return s, ()',
         '"""Seeded."""\n    return s, (Answer(err=s.err),)', "fib.leaf.over_backtrack", "answered_once"),
    Seed("an unreachable rule gives no error", FIB_POLICY, POLICY, "pref=e.pref, err=ENETUNREACH)", "pref=e.pref)",
         "fib.policy.unreachable", "found_or_error"),
    Seed("THROW is an answer", FIB_POLICY, POLICY, "e.absent or e.err == EAGAIN", "e.absent",
         "fib.policy.table_answers", "never_throws_out"),
    Seed("suppression is off by one", FIB_POLICY, POLICY, "e.prefixlen <= s.suppress_prefixlen",
         "e.prefixlen < s.suppress_prefixlen", "fib.policy.table_answers", "suppressed_is_not_found"),
    Seed("a passed answer leaves its error", FIB_POLICY, POLICY, "ask=Ask.RULES, suppress_prefixlen=-1",
         "ask=Ask.RULES, err=e.err", "fib.policy.table_has_none", "no_error_while_asking"),
    Seed("a GOTO begins again", FIB_POLICY, POLICY,
         '"""GOTO goes on with the rule that it names, which stands further down."""\n'
         '    require(rule_look(e, p) == RuleLook.JUMP, "GOTO with a target")\n    return replace(s, pref=e.pref), ()',
         '"""Seeded."""\n    require(rule_look(e, p) == RuleLook.JUMP, "GOTO with a target")\n'
         "    return replace(s, pref=0), ()", "fib.policy.jumps", "only_downwards"),
    Seed("rules apply whatever they name", FIB_POLICY, POLICY, "if not matches(r, p)\n", "if r.iif == -1\n",
         "fib.policy.looks_up", "mismatch_decides_nothing"),
    Seed("a broadcast source is accepted", FIB_INPUT, SOURCE, "if e.s_multicast or e.s_lbcast\n", "if e.s_multicast\n",
         "fib.source.limited_broadcast", "no_martian_source"),
    Seed("0.0.0.0 speaks to one host", FIB_INPUT, SOURCE, "        if e.s_zero\n        else Martian.DESTINATION",
         "        if e.s_zero and e.s_loopback\n        else Martian.DESTINATION",
         "fib.source.looked_up", "zero_source_only_to_everybody"),
    Seed("a loopback source needs no leave", FIB_INPUT, SOURCE, "if e.s_loopback and not p.route_localnet",
         "if e.s_loopback and p.route_localnet", "fib.source.looked_up", "loopback_stays_inside"),
    Seed("a host forwards unasked", FIB_INPUT, SOURCE, "        if not p.forwarding\n", "        if e.err != 0\n",
         "fib.source.routed", "source_leads_somewhere"),
    Seed("a forward's leave is forgotten", FIB_INPUT, SOURCE, "if s.to == Stage.FORWARD:", "if s.to == Stage.LOCAL:",
         "fib.source.source_good", "forwards_only_if_asked"),
    Seed("strict rp_filter is loose", FIB_INPUT, SOURCE, "if p.rp_filter == 1\n", "if p.rp_filter == 2\n",
         "fib.source.source_good", "strict_means_same_way_back"),
    Seed("an own address comes from outside", FIB_INPUT, SOURCE, "if e.own and not p.accept_local",
         "if e.own and p.accept_local", "fib.source.source_good", "own_source_only_if_asked"),
    Seed("a martian is dropped without a word", FIB_INPUT, SOURCE,
         "return replace(s, stage=Stage.DROPPED, err=EXDEV), (Decided(err=EXDEV),)",
         "return replace(s, stage=Stage.DROPPED), (Decided(err=EXDEV),)",
         "fib.source.source_bad", "error_where_refused"),
    Seed("the routine does not return", FIB_INPUT, SOURCE, "return replace(t, stage=Stage.LOCAL), (Decided(err=0),)",
         "return replace(t, stage=Stage.LOCAL), ()", "fib.source.limited_broadcast", "decided_once"),
    Seed("a deleted exception keeps its MTU", FIB_FNHE, FNHE, "return Exception_(now=e.now), (Deleted(),)",
         "return replace(s, life=Life.ABSENT, now=e.now), (Deleted(),)", "fib.fnhe.find_expired", "absent_is_empty"),
    Seed("an MTU is locked at any size", FIB_FNHE, FNHE, "min(e.old_mtu, p.min_pmtu) if locks(e, p) else e.mtu",
         "e.old_mtu if locks(e, p) else e.mtu", "fib.fnhe.update_taken", "locked_is_small"),
    Seed("a tiny MTU is believed", FIB_FNHE, FNHE, "return e.mtu < p.min_pmtu", "return e.mtu < p.min_pmtu - 1",
         "fib.fnhe.update_taken", "small_only_if_locked_or_lowered"),
    Seed("an emptied exception keeps its gateway", FIB_FNHE, FNHE, "locked=False, gw=False, expires=0",
         "locked=False, expires=0", "fib.fnhe.new_generation", "endless_is_empty"),
    Seed("a larger MTU is believed", FIB_FNHE, FNHE, "if e.old_mtu < e.mtu", "if e.old_mtu > e.mtu",
         "fib.fnhe.update_taken", "icmp_never_raises"),
    Seed("the administrator's lock is ignored", FIB_FNHE, FNHE, "if e.mtu_locked\n", "if e.mtu_locked and e.mtu == 0\n",
         "fib.fnhe.update_taken", "admin_lock_holds"),
    Seed("an exception lives for ever", FIB_FNHE, FNHE, "s.expires != 0 and now > s.expires",
         "s.expires != 0 and now < 0", "fib.fnhe.find_alive", "found_unless_expired"),
    Seed("a smaller device MTU is not learned", FIB_FNHE, FNHE, "e.new < s.pmtu or e.orig == s.pmtu",
         "e.new < s.pmtu and e.orig != s.pmtu", "fib.fnhe.device_changes", "device_is_a_limit"),
)  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS, ids=lambda s: s.fault.replace(" ", "_"))
def test_fault_is_caught_and_named(seed: Seed) -> None:
    report = prove_with(seed.machine, [(seed.module, seed.old, seed.new)], only=seed.only)
    assert any(x.endswith("." + seed.caught) for x in report.failed), report.text()


def test_every_property_of_routing_has_a_fault_that_it_names() -> None:
    machines = (FIB_LEAF, FIB_POLICY, FIB_INPUT, FIB_FNHE)
    stated = {q.id.rsplit(".", 1)[1] for m in machines for k in ("invariant", "transition") for q in m.properties(k)}
    # These two only help the others through their induction: what they say is said of the states in between.
    assert stated - {s.caught for s in SEEDS} == {"undecided_is_blank", "no_error_on_the_way"}
