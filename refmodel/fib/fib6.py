"""IPv6 routing: tables, the choice among a prefix's routes, policy rules, routes of packets.

A node of a table is a prefix with its routes by ascending metric. Of the routes of the least metric the best score wins
(device, router preference, reachability); only if none of them will do are the others looked at, all together. Without
an answer the walk goes back to shorter prefixes. What is not modelled: source prefixes, nexthop objects, expiry.
"""

from errno import EACCES, EAGAIN, EEXIST, EINVAL, ENETUNREACH, ENOENT, ESRCH
from typing import Final

from refmodel.fib.addrconf import (
    Addr6,
    Inet6Dev,
    Inet6Ifaddr,
    ip6,
    ip6_text,
    ipv6_addr_type,
    ipv6_dev_get_saddr,
    ipv6_link_dev_addr,
    mask6,
    prefix_equal,
    rt6_need_strict,
)
from refmodel.fib.env import FibEnv
from refmodel.fib.hashing import flow_hash_from_keys
from refmodel.fib.leaf import FIB_PROPS_ERROR
from refmodel.fib.net import FIB_RULE_INVERT, FibRule
from refmodel.fib.policy import Policy, PolicyParams, RuleLook, Selector, TableAnswer, goes_on, rule_look
from refmodel.fib.types import (
    LOOPBACK_IFINDEX,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTN,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTPROT_BOOT,
    RTPROT_KERNEL,
    FrAct,
)
from refmodel.netdevice import NetDevice
from refmodel.rule import cited

RTF_GATEWAY: Final = 0x0002
RTF_REJECT: Final = 0x0200
RTF_ADDRCONF: Final = 0x00040000
RTF_NONEXTHOP: Final = 0x00200000
RTF_ANYCAST: Final = 0x00100000
RTF_LOCAL: Final = 0x80000000

RT6_LOOKUP_F_IFACE: Final = 0x1
RT6_LOOKUP_F_REACHABLE: Final = 0x2
RT6_LOOKUP_F_HAS_SADDR: Final = 0x4
RT6_LOOKUP_F_IGNORE_LINKSTATE: Final = 0x40

RT6_NUD_FAIL_HARD: Final = -3
RT6_NUD_FAIL_PROBE: Final = -2
RT6_NUD_SUCCEED: Final = 1

IP6_RT_PRIO_USER: Final = 1024
IP6_RT_PRIO_ADDRCONF: Final = 256
NUD_VALID: Final = 0xDE
NUD_FAILED: Final = 0x20
PREF_RANK: Final = {0: 2, 1: 3, 3: 1, 2: 0}  # router preference as ICMPv6 writes it: medium, high, low, invalid


class Fib6Info:
    """One route: struct fib6_info with its fib6_nh. `gw` 0: none. `pref`: ICMPV6_ROUTER_PREF_*. `siblings`: ECMP."""

    __slots__ = (
        "dev", "fib6_flags", "fib6_metric", "fib6_prefsrc", "fib6_protocol", "fib6_type", "fib_nh_flags", "gw",
        "metrics", "plen", "pref", "prefix", "rt6i_pcpu", "siblings", "tb6_id", "upper_bound", "weight",
    )  # fmt: skip

    def __init__(
        self,
        prefix: int,
        plen: int,
        dev: NetDevice,
        *,
        type: int = RTN.UNICAST,
        gw: int = 0,
        metric: int = IP6_RT_PRIO_USER,
        table: int = RT_TABLE_MAIN,
        protocol: int = RTPROT_BOOT,
        weight: int = 1,
        pref: int = 0,
        prefsrc: int = 0,
    ) -> None:
        self.prefix = prefix
        self.plen = plen
        self.dev = dev
        self.fib6_type = type
        self.gw = gw
        self.fib6_metric = metric
        self.tb6_id = table
        self.fib6_protocol = protocol
        self.fib6_prefsrc = prefsrc
        self.weight = weight
        self.pref = pref
        self.metrics: dict[int, int] = {}
        self.fib_nh_flags = 0
        self.upper_bound = 0
        self.siblings: list[Fib6Info] = []
        self.rt6i_pcpu: Route6 | None = None
        self.fib6_flags = 0
        if FIB_PROPS_ERROR[RTN(type)]:
            self.fib6_flags = RTF_REJECT | RTF_NONEXTHOP
            self.pref = 0
        elif type == RTN.LOCAL:
            self.fib6_flags = RTF_LOCAL
        elif type == RTN.ANYCAST:
            self.fib6_flags = RTF_ANYCAST

    @property
    def qualifies_for_ecmp(self) -> bool:
        """It may share its flows with others of its prefix and metric; source ip6_route.h:rt6_qualify_for_ecmp."""
        return not self.fib6_flags & RTF_ADDRCONF and bool(self.gw)

    def __repr__(self) -> str:
        via = f" via {ip6_text(self.gw)}" if self.gw else ""
        kind = RTN(self.fib6_type).name.lower()
        return f"<{kind} {ip6_text(self.prefix)}/{self.plen}{via} dev {self.dev.name} metric {self.fib6_metric}>"


class Flow6:
    """What is looked up: struct flowi6."""

    __slots__ = (
        "daddr",
        "dport",
        "flowlabel",
        "iif",
        "mark",
        "mp_hash",
        "oif",
        "proto",
        "saddr",
        "sport",
        "tos",
        "uid",
    )

    def __init__(
        self,
        daddr: int,
        saddr: int = 0,
        *,
        oif: int = 0,
        iif: int = 0,
        mark: int = 0,
        tos: int = 0,
        flowlabel: int = 0,
        proto: int = 0,
        sport: int = 0,
        dport: int = 0,
        uid: int = 0,
    ) -> None:
        self.daddr = daddr
        self.saddr = saddr
        self.oif = oif
        self.iif = iif
        self.mark = mark
        self.tos = tos
        self.flowlabel = flowlabel
        self.proto = proto
        self.sport = sport
        self.dport = dport
        self.uid = uid
        self.mp_hash = 0


class Route6:
    """What a packet carries as its destination: struct rt6_info. `error` is a positive errno, `gateway` 0 for none.

    `input` and `output` are names of kernel functions; `origin` is the table's route that it came of, `pref` the router
    preference that it shows.
    """

    __slots__ = ("dev", "error", "gateway", "input", "origin", "output", "pref")

    def __init__(self, dev: NetDevice, origin: Fib6Info | None, error: int) -> None:
        self.dev = dev
        self.origin = origin
        self.error = error
        self.gateway = origin.gw if origin is not None else 0
        self.pref = 0
        self.input = "ip6_pkt_discard"
        self.output = "ip6_pkt_discard_out"

    def nexthop(self, daddr: int) -> int:
        """The neighbour to send to; source include/net/ip6_route.h:rt6_nexthop."""
        return self.gateway or daddr

    def __repr__(self) -> str:
        return f"<{self.origin!r} dev {self.dev.name} {self.output}>"


class Table6:
    """A table: its nodes by (prefix, length), each with its routes by ascending metric."""

    __slots__ = ("nodes", "tb6_id")

    def __init__(self, tb6_id: int) -> None:
        self.tb6_id = tb6_id
        self.nodes: dict[tuple[int, int], list[Fib6Info]] = {}


class Fib6:
    """IPv6 routing in one namespace. `forwarding`: net.ipv6.conf.all.forwarding, `hash_policy`: multipath's (0, 1)."""

    def __init__(self, env: FibEnv, seed: int = 0) -> None:
        self.env = env
        self.devs: dict[int, NetDevice] = {}
        self.idevs: dict[int, Inet6Dev] = {}
        self.tables = {RT_TABLE_LOCAL: Table6(RT_TABLE_LOCAL), RT_TABLE_MAIN: Table6(RT_TABLE_MAIN)}
        self.rules = [FibRule(0, FrAct.TO_TBL, RT_TABLE_LOCAL), FibRule(0x7FFE, FrAct.TO_TBL, RT_TABLE_MAIN)]
        self.fib6_has_custom_rules = False
        self.forwarding = 0
        self.hash_policy = 0
        self.multipath_seed = seed or env.random()

    def register(self, dev: NetDevice) -> None:
        """A device appears and speaks IPv6."""
        self.devs[dev.ifindex] = dev
        self.idevs[dev.ifindex] = Inet6Dev(dev)

    def null_entry(self, error: int = ENETUNREACH) -> Route6:
        """The route that says there is none (ip6_null_entry, or ip6_prohibit_entry, ip6_blk_hole_entry)."""
        rt = Route6(self.devs[LOOPBACK_IFINDEX], None, error)
        if error == EACCES:
            rt.input, rt.output = "ip6_pkt_prohibit", "ip6_pkt_prohibit_out"
        elif error == EINVAL:
            rt.input, rt.output = "dst_discard", "dst_discard_out"
        return rt

    def ignores(self, f6i: Fib6Info) -> bool:
        """The route's device has no carrier, and routes without are ignored there."""
        idev = self.idevs.get(f6i.dev.ifindex)
        down = bool(f6i.fib_nh_flags & RTNH_F_LINKDOWN)
        return down and idev is not None and idev.ignore_routes_with_linkdown


# ------------------------------------------------------------------------------------------------ tables


def rt6_multipath_rebalance(net: Fib6, routes: list[Fib6Info]) -> None:
    """Gives routes that share a prefix their parts of the hash; source net/ipv6/route.c:rt6_multipath_rebalance."""
    live = [r for r in routes if not r.fib_nh_flags & RTNH_F_DEAD and not net.ignores(r)]
    total = sum(r.weight for r in live)
    w = 0
    for r in routes:
        if r not in live:
            r.upper_bound = -1
        else:
            w += r.weight
            r.upper_bound = ((w << 31) + total // 2) // total - 1


def _siblings(net: Fib6, node: list[Fib6Info], metric: int) -> None:
    """Joins the routes of one metric that may share their flows."""
    group = [r for r in node if r.fib6_metric == metric and r.qualifies_for_ecmp]
    for r in group:
        r.siblings = group if len(group) > 1 else []
    if len(group) > 1:
        rt6_multipath_rebalance(net, group)


def rt6_duplicate_nexthop(a: Fib6Info, b: Fib6Info) -> bool:
    """Two routes go the same way; source include/net/ip6_route.h:rt6_duplicate_nexthop."""
    return a.dev is b.dev and a.gw == b.gw


@cited("net/ipv6/ip6_fib.c:fib6_add_rt2node")
def fib6_add_rt2node(net: Fib6, node: list[Fib6Info], rt: Fib6Info, nlflags: int) -> int:
    """Puts a route into its node by its metric, beside or instead of others of it; 0 or a negative errno."""
    same = [i for i, r in enumerate(node) if r.fib6_metric == rt.fib6_metric]
    if same and nlflags & NLM_F_EXCL:
        return -EEXIST
    if nlflags & NLM_F_REPLACE:
        alike = next((i for i in same if node[i].qualifies_for_ecmp == rt.qualifies_for_ecmp), None)
        place = alike if alike is not None else (same[0] if same else None)
        if place is not None:
            gone = node[place].siblings or [node[place]]
            node[place] = rt
            for r in gone:
                if r in node:
                    node.remove(r)
            _siblings(net, node, rt.fib6_metric)
            return 0
        if not nlflags & NLM_F_CREATE:
            return -ENOENT
    elif any(rt6_duplicate_nexthop(node[i], rt) for i in same):
        return -EEXIST
    node.insert(sum(1 for r in node if r.fib6_metric <= rt.fib6_metric), rt)
    _siblings(net, node, rt.fib6_metric)
    return 0


@cited("net/ipv6/ip6_fib.c:fib6_add")
def fib6_add(net: Fib6, rt: Fib6Info, nlflags: int = NLM_F_CREATE | NLM_F_APPEND) -> int:
    """Adds a route to its table; 0 or a negative errno."""
    table = net.tables.setdefault(rt.tb6_id, Table6(rt.tb6_id))
    key = (rt.prefix & mask6(rt.plen), rt.plen)
    if key not in table.nodes and not nlflags & NLM_F_CREATE and nlflags & NLM_F_REPLACE:
        return -ENOENT
    return fib6_add_rt2node(net, table.nodes.setdefault(key, []), rt, nlflags)


@cited("net/ipv6/ip6_fib.c:fib6_del")
def fib6_del(net: Fib6, rt: Fib6Info) -> int:
    """Takes a route out of its table; 0 or -ENOENT."""
    table = net.tables[rt.tb6_id]
    key = (rt.prefix & mask6(rt.plen), rt.plen)
    node = table.nodes.get(key, [])
    if rt not in node:
        return -ENOENT
    node.remove(rt)
    _siblings(net, node, rt.fib6_metric)
    if not node:
        del table.nodes[key]
    return 0


@cited("net/ipv6/route.c:ip6_route_del")
def ip6_route_del(
    net: Fib6, prefix: int, plen: int, *, table: int = RT_TABLE_MAIN, dev: NetDevice | None = None, gw: int = 0,
    metric: int = 0, protocol: int = 0,
) -> int:  # fmt: skip
    """Deletes the first route that has what is named; 0 or -ESRCH."""
    for rt in net.tables.get(table, Table6(table)).nodes.get((prefix & mask6(plen), plen), []):
        if (
            (dev is None or rt.dev is dev)
            and (not gw or rt.gw == gw)
            and (not metric or rt.fib6_metric == metric)
            and (not protocol or rt.fib6_protocol == protocol)
        ):
            return fib6_del(net, rt)
    return -ESRCH


@cited("net/ipv6/ip6_fib.c:fib6_node_lookup")
def fib6_node_lookup(table: Table6, daddr: int) -> list[list[Fib6Info]]:
    """The nodes that match a destination, the longest prefix first: the way that fib6_backtrack goes back."""
    found = (table.nodes.get((daddr & mask6(plen), plen)) for plen in range(128, -1, -1))
    return [node for node in found if node]


# ------------------------------------------------------------------------------------------------ choice


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
    have_oif_match = fl6.iif == LOOPBACK_IFINDEX and oif == f6i.dev.ifindex
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

    Unlike IPv4 this does not make the rules be asked: without a rule of the user's the default ones act, deleted or not.
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
    """The route of a flow that this host sends, whose `error` says if it is none; `bound`: the socket is to a device."""
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


# ------------------------------------------------------------------------------------------------ addresses


@cited("net/ipv6/addrconf.c:addrconf_add_mroute", "net/ipv6/addrconf.c:addrconf_add_linklocal")
def addrconf_dev_up(net: Fib6, dev: NetDevice, lladdr: int = 0) -> None:
    """A device comes up: it gets the multicast route, and its link-local address `lladdr`; lo gets ::1."""
    if dev.loopback:
        inet6_addr_add(net, dev, 1, 128)
        return
    kernel = RTPROT_KERNEL
    fib6_add(
        net,
        Fib6Info(
            ip6("ff00::"),
            8,
            dev,
            type=RTN.MULTICAST,
            metric=IP6_RT_PRIO_ADDRCONF,
            table=RT_TABLE_LOCAL,
            protocol=kernel,
        ),
    )
    if lladdr:
        inet6_addr_add(net, dev, lladdr, 64)


@cited("net/ipv6/addrconf.c:inet6_addr_add", "net/ipv6/addrconf.c:__ipv6_ifa_notify")
def inet6_addr_add(net: Fib6, dev: NetDevice, addr: int, plen: int, flags: int = 0) -> int:
    """Adds an address, without duplicate address detection, its local route and its prefix's; 0 or -EEXIST."""
    idev = net.idevs[dev.ifindex]
    if any(x.addr == addr for x in idev.addr_list):
        return -EEXIST
    ipv6_link_dev_addr(idev, Inet6Ifaddr(dev, addr, plen, flags))
    kernel = RTPROT_KERNEL
    fib6_add(net, Fib6Info(addr, 128, dev, type=RTN.LOCAL, metric=0, table=RT_TABLE_LOCAL, protocol=kernel))
    if not dev.loopback:
        prefix = Fib6Info(addr & mask6(plen), plen, dev, metric=IP6_RT_PRIO_ADDRCONF, protocol=kernel)
        fib6_add(net, prefix)
    return 0
