"""IPv6 routing: tables, the choice among a prefix's routes, policy rules, routes of packets.

A node of a table is a prefix with its routes by ascending metric. Of the routes of the least metric the best score wins
(device, router preference, reachability); only if none of them will do are the others looked at, all together. Without
an answer the walk goes back to shorter prefixes. What is not modelled: source prefixes, nexthop objects, expiry.
"""

from errno import EACCES, EAGAIN, EINVAL, ENETUNREACH, ENOENT

from refmodel.fib.addrconf import (
    Addr6,
    ip6_text,
    ipv6_addr_type,
    ipv6_dev_get_saddr,
    prefix_equal,
    rt6_need_strict,
)
from refmodel.fib.fib6_tables import fib6_node_lookup
from refmodel.fib.hashing import flow_hash_from_keys
from refmodel.fib.leaf import FIB_PROPS_ERROR
from refmodel.fib.net import FIB_RULE_INVERT, FibRule
from refmodel.fib.policy import Policy, PolicyParams, RuleLook, Selector, TableAnswer, goes_on, rule_look
from refmodel.fib.types import (
    LOOPBACK_IFINDEX,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTN,
    RTNH_F_DEAD,
    FrAct,
)
from refmodel.fib.types6 import (
    NUD_FAILED,
    NUD_VALID,
    PREF_RANK,
    RT6_LOOKUP_F_HAS_SADDR,
    RT6_LOOKUP_F_IFACE,
    RT6_LOOKUP_F_IGNORE_LINKSTATE,
    RT6_LOOKUP_F_REACHABLE,
    RT6_NUD_FAIL_HARD,
    RT6_NUD_FAIL_PROBE,
    RT6_NUD_SUCCEED,
    RTF_ANYCAST,
    RTF_LOCAL,
    RTF_NONEXTHOP,
    RTF_REJECT,
    Fib6,
    Fib6Info,
    Flow6,
    Route6,
    Table6,
)
from refmodel.rule import cited


@cited("net/ipv6/route.c:rt6_check_neigh", "RFC 4861 6.3.6")
def rt6_check_neigh(net: Fib6, f6i: Fib6Info) -> int:
    """A router is as good as reachable unless asking for it failed."""
    state = net.env.neigh_nud_state(f6i.dev, f6i.gw)
    if state is None or state & NUD_VALID or not state & NUD_FAILED:
        return RT6_NUD_SUCCEED
    return RT6_NUD_FAIL_PROBE


@cited("net/ipv6/route.c:rt6_score_route", "RFC 4191 3.2")
def rt6_score_route(net: Fib6, f6i: Fib6Info, oif: int, strict: int) -> int:
    """How good a route is: its router preference, then whether it is on the asked device; negative: it will not do."""
    m = 2 if not oif or f6i.dev.ifindex == oif else 0
    if not m and strict & RT6_LOOKUP_F_IFACE:
        return RT6_NUD_FAIL_HARD
    m |= PREF_RANK[f6i.pref] << 2
    if strict & RT6_LOOKUP_F_REACHABLE and not f6i.fib6_flags & RTF_NONEXTHOP and f6i.gw:
        n = rt6_check_neigh(net, f6i)
        if n < 0:
            return n
    return m


@cited("net/ipv6/route.c:find_rr_leaf", "RFC 4861 6.3.6")
def find_rr_leaf(net: Fib6, node: list[Fib6Info], oif: int, strict: int) -> Fib6Info | None:
    """The best route of the least metric, and only if none of it will do the best of all others together."""
    best: Fib6Info | None = None
    mpri = -1
    for least in (True, False):
        for f6i in node:
            if (f6i.fib6_metric == node[0].fib6_metric) != least:
                continue
            if f6i.fib_nh_flags & RTNH_F_DEAD:
                continue
            if net.ignores(f6i) and not strict & RT6_LOOKUP_F_IGNORE_LINKSTATE:
                continue
            m = rt6_score_route(net, f6i, oif, strict)
            if m > mpri:
                best, mpri = f6i, m
        if best is not None:
            return best
    return None


@cited("net/ipv6/route.c:fib6_table_lookup")
def fib6_table_lookup(net: Fib6, table: Table6, oif: int, fl6: Flow6, strict: int) -> Fib6Info | None:
    """Looks up one table: the longest prefix that has a route, unreachable routers only if there is nothing else."""
    nodes = fib6_node_lookup(table, fl6.daddr)
    for how in (strict, strict & ~RT6_LOOKUP_F_REACHABLE):
        for node in nodes:
            f6i = find_rr_leaf(net, node, oif, how)
            if f6i is not None:
                net.env.note("fib6_table_lookup", f"table {table.tb6_id}: {f6i!r}")
                return f6i
    net.env.note("fib6_table_lookup", f"table {table.tb6_id}: no route to {ip6_text(fl6.daddr)}")
    return None


@cited("net/ipv6/route.c:rt6_multipath_hash")
def rt6_multipath_hash(net: Fib6, fl6: Flow6) -> int:
    """The 31-bit hash of a flow: over addresses, protocol and flow label (policy 0) or, for the label, ports (1)."""
    src, dst = fl6.saddr.to_bytes(16, "big"), fl6.daddr.to_bytes(16, "big")
    if net.hash_policy == 1:
        return flow_hash_from_keys(src, dst, fl6.proto, fl6.sport, fl6.dport, net.multipath_seed) >> 1
    return flow_hash_from_keys(src, dst, fl6.proto, 0, 0, net.multipath_seed, fl6.flowlabel) >> 1


@cited("net/ipv6/route.c:fib6_select_path")
def fib6_select_path(net: Fib6, match: Fib6Info, fl6: Flow6, oif: int, have_oif_match: bool, strict: int) -> Fib6Info:
    """Of routes that share a prefix, the one whose part of the hash the flow falls into, if it will do."""
    if not match.siblings or have_oif_match:
        return match
    fl6.mp_hash = fl6.mp_hash or rt6_multipath_hash(net, fl6)
    first = match.siblings[0]
    if fl6.mp_hash <= first.upper_bound:
        return first if rt6_score_route(net, first, oif, strict) >= 0 else match
    for sibling in match.siblings[1:]:
        if fl6.mp_hash <= sibling.upper_bound:
            return sibling if rt6_score_route(net, sibling, oif, strict) >= 0 else match
    return match


@cited("net/ipv6/route.c:ip6_rt_init_dst")
def ip6_rt_init_dst(net: Fib6, f6i: Fib6Info) -> Route6:
    """A packet's route made of a table's: what it does with a packet, and by which device."""
    local = f6i.fib6_flags & (RTF_LOCAL | RTF_ANYCAST)
    error = FIB_PROPS_ERROR[RTN(f6i.fib6_type)] if f6i.fib6_flags & RTF_REJECT else 0
    rt = Route6(net.devs[LOOPBACK_IFINDEX] if local else f6i.dev, f6i, error)
    if error:
        if f6i.fib6_type == RTN.BLACKHOLE:
            rt.input, rt.output = "dst_discard", "dst_discard_out"
        elif f6i.fib6_type == RTN.PROHIBIT:
            rt.input, rt.output = "ip6_pkt_prohibit", "ip6_pkt_prohibit_out"
        return rt
    rt.output = "ip6_output"
    multicast = ipv6_addr_type(f6i.prefix)[0] & Addr6.MULTICAST
    rt.input = "ip6_input" if local else "ip6_mc_input" if multicast else "ip6_forward"
    return rt


@cited("net/ipv6/route.c:ip6_pol_route")
def ip6_pol_route(net: Fib6, table: Table6, oif: int, fl6: Flow6, flags: int) -> Route6 | None:
    """The route of a flow in one table; None where there is none."""
    strict = flags & (RT6_LOOKUP_F_IFACE | RT6_LOOKUP_F_IGNORE_LINKSTATE)
    if not net.forwarding:
        strict |= RT6_LOOKUP_F_REACHABLE
    f6i = fib6_table_lookup(net, table, oif, fl6, strict)
    if f6i is None:
        return None
    # 6.18 lets the hash choose though a device was asked for, unless the lookup is strict about it.
    have_oif_match = net.env.kernel < 618 and fl6.iif == LOOPBACK_IFINDEX and oif == f6i.dev.ifindex
    chosen = fib6_select_path(net, f6i, fl6, oif, have_oif_match, strict)
    if chosen.rt6i_pcpu is None:
        chosen.rt6i_pcpu = ip6_rt_init_dst(net, chosen)
        # The flags are those of the route that won by its score, not those of the one that the hash chose.
        chosen.rt6i_pcpu.pref = f6i.pref
    return chosen.rt6i_pcpu


# ------------------------------------------------------------------------------------------------ rules


@cited("net/ipv6/fib6_rules.c:fib6_rule_match")
def _selector6(rule: FibRule, fl6: Flow6, flags: int) -> Selector:
    """One rule held against one flow; a rule with a source prefix does not match a flow without a source."""
    source = not rule.src_len or (
        bool(flags & RT6_LOOKUP_F_HAS_SADDR) and prefix_equal(fl6.saddr, rule.src, rule.src_len)
    )
    return Selector(
        pref=rule.pref,
        action=FrAct(rule.action),
        invert=bool(rule.flags & FIB_RULE_INVERT),
        addresses=prefix_equal(fl6.daddr, rule.dst, rule.dst_len) and source,
        marked=not (rule.mark ^ fl6.mark) & rule.mark_mask,
        uid=rule.uid_range[0] <= fl6.uid <= rule.uid_range[1],
        iif=rule.iifindex,
        oif=rule.oifindex,
        ip_proto=rule.ip_proto,
        sport_lo=rule.sport_range[0],
        sport_hi=rule.sport_range[1],
        dport_lo=rule.dport_range[0],
        dport_hi=rule.dport_range[1],
        dscp=rule.dscp,
        dscp_full=bool(rule.dscp),
        suppress_prefixlen=min(rule.suppress_prefixlen, 32),
        target=rule.ctarget is not None,
    )


@cited("net/ipv6/fib6_rules.c:fib6_rule_lookup")
def fib6_rule_lookup(net: Fib6, fl6: Flow6, oif: int, flags: int) -> Route6:
    """Asks table local and table main, or the policy rules once there have been any; always gives a route."""
    if not net.fib6_has_custom_rules:
        for tb_id in (RT_TABLE_LOCAL, RT_TABLE_MAIN):
            rt = ip6_pol_route(net, net.tables[tb_id], oif, fl6, flags)
            if rt is not None and rt.error != EAGAIN:
                return rt
        return net.null_entry()
    p = PolicyParams(fl6.iif, fl6.oif, fl6.tos, fl6.proto, fl6.sport, fl6.dport)
    i = 0
    while i < len(net.rules):
        rule = net.rules[i]
        look = rule_look(_selector6(rule, fl6, flags), p)
        if look is RuleLook.JUMP:
            assert rule.ctarget is not None
            i = net.rules.index(rule.ctarget)
            continue
        i += 1
        if look in (RuleLook.UNREACHABLE, RuleLook.PROHIBIT, RuleLook.BLACKHOLE):
            net.env.note("fib6_rule_lookup", f"rule {rule.pref}: {look.name.lower()}")
            error = {RuleLook.PROHIBIT: EACCES, RuleLook.BLACKHOLE: EINVAL}.get(look, ENETUNREACH)
            return net.null_entry(error)
        table = net.tables.get(rule.table)
        if look is RuleLook.PASS or table is None:
            continue
        rt = ip6_pol_route(net, table, oif, fl6, flags)
        if rt is None or rt.origin is None:
            continue
        # The machine's lengths are IPv4's: what counts is only on which side of the limit the prefix lies.
        short = rt.origin.plen <= rule.suppress_prefixlen
        if not goes_on(Policy(suppress_prefixlen=1), TableAnswer(rt.error, 0 if short else 2)):
            return rt
    return net.null_entry()


def _resolve(net: Fib6, rule: FibRule) -> None:
    by_name = {dev.name: dev.ifindex for dev in net.devs.values()}
    rule.iifindex = by_name.get(rule.iifname, -1) if rule.iifname else 0
    rule.oifindex = by_name.get(rule.oifname, -1) if rule.oifname else 0
    rule.ctarget = next((r for r in net.rules if r.pref == rule.target), None) if rule.action == FrAct.GOTO else None


@cited("net/core/fib_rules.c:fib_nl_newrule", "net/ipv6/fib6_rules.c:fib6_rule_configure")
def fib6_nl_newrule(net: Fib6, rule: FibRule) -> int:
    """Adds a policy rule behind those of its preference, and the table that it names; 0 or -EINVAL."""
    if rule.action == FrAct.TO_TBL:
        if not rule.table:
            return -EINVAL
        net.tables.setdefault(rule.table, Table6(rule.table))
    if rule.action == FrAct.GOTO and rule.target <= rule.pref:
        return -EINVAL
    _resolve(net, rule)
    net.rules.insert(sum(1 for r in net.rules if r.pref <= rule.pref), rule)
    for r in net.rules:
        if r.action == FrAct.GOTO and r.ctarget is None and r.target == rule.pref:
            r.ctarget = rule
    net.fib6_has_custom_rules = True
    return 0


@cited("net/core/fib_rules.c:fib_nl_delrule")
def fib6_nl_delrule(net: Fib6, pref: int) -> int:
    """Deletes the first policy rule of a preference; 0 or -ENOENT.

    Unlike in IPv4 the rules are not asked for that: without one of the user's the default ones act, deleted or not.
    """
    found = next((r for r in net.rules if r.pref == pref), None)
    if found is None:
        return -ENOENT
    net.rules.remove(found)
    for r in net.rules:
        if r.ctarget is found:
            r.ctarget = next((x for x in net.rules if x.pref == pref), None)
    return 0


# ------------------------------------------------------------------------------------------------ packets


@cited("net/ipv6/route.c:ip6_route_output_flags", "RFC 4861 5.2")
def ip6_route_output_flags(net: Fib6, fl6: Flow6, bound: bool = False, flags: int = 0) -> Route6:
    """The route of a flow that this host sends; its `error` says if it is none. `bound`: its socket is to a device."""
    fl6.iif = LOOPBACK_IFINDEX
    any_src = fl6.saddr == 0
    if bound or rt6_need_strict(fl6.daddr) or (fl6.oif and any_src):
        flags |= RT6_LOOKUP_F_IFACE
    if not any_src:
        flags |= RT6_LOOKUP_F_HAS_SADDR
    return fib6_rule_lookup(net, fl6, fl6.oif, flags)


@cited("net/ipv6/route.c:ip6_route_input_lookup")
def ip6_route_input_lookup(net: Fib6, fl6: Flow6, flags: int) -> Route6:
    """The route of a flow that came in on device `fl6.iif`, which a link-local destination must be on."""
    if rt6_need_strict(fl6.daddr):
        flags |= RT6_LOOKUP_F_IFACE
    return fib6_rule_lookup(net, fl6, fl6.iif, flags)


@cited("net/ipv6/route.c:ip6_route_input")
def ip6_route_input(net: Fib6, fl6: Flow6) -> Route6:
    """The route of a packet that came in."""
    return ip6_route_input_lookup(net, fl6, RT6_LOOKUP_F_HAS_SADDR)


@cited("include/net/ip6_route.h:ip6_route_get_saddr")
def ip6_route_get_saddr(net: Fib6, f6i: Fib6Info | None, daddr: int, prefs: int = 0) -> int | None:
    """The source address of a route: its `src`, else the best one for its device; None if there is none."""
    if f6i is not None and f6i.fib6_prefsrc:
        return f6i.fib6_prefsrc
    return ipv6_dev_get_saddr(net.env, net.idevs, f6i.dev if f6i is not None else None, daddr, prefs)
