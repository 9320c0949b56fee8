"""Lookups: in one table, and over the policy rules; what kind of address an address is.

Until a namespace has a rule of its own, main and local are one trie and the rules are not asked: main is looked up,
then default. A table's trie is a map from (prefix, length) to the list of its routes in the kernel's order: table 255
before 254 where the two share a trie, then higher DSCP first, then lower metric, then as inserted. The kernel's
compressed trie gives the same walk: from the longest matching prefix to the shortest.
"""

from errno import EACCES, EAGAIN, EINVAL, ENETUNREACH, ESRCH

from refmodel.fib.leaf import FIB_PROPS_ERROR, Alias, Look, LookupParams, Nexthop, NhLook, alias_look, nexthop_look
from refmodel.fib.net import FIB_RULE_INVERT, Fib, FibRule
from refmodel.fib.policy import Policy, PolicyParams, RuleLook, Selector, TableAnswer, goes_on, rule_look
from refmodel.fib.types import (
    FIB_LOOKUP_IGNORE_LINKSTATE,
    FIB_LOOKUP_NOREF,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTN,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    FibAlias,
    FibNh,
    FibResult,
    FibTable,
    Flow4,
    FrAct,
    dotted,
    inet_make_mask,
    ipv4_is_lbcast,
    ipv4_is_multicast,
    ipv4_is_zeronet,
)
from refmodel.netdevice import NetDevice
from refmodel.rule import cited


def prefix_text(fa: FibAlias) -> str:
    """A route's prefix as people write it."""
    return f"{dotted(fa.prefix)}/{fa.plen}"


@cited("net/ipv4/fib_trie.c:fib_lookup_good_nhc")
def fib_lookup_good_nhc(net: Fib, nhc: FibNh, p: LookupParams) -> NhLook:
    """Looks at one nexthop: dead, without carrier, on another device, or good."""
    dev = nhc.fib_nh_dev
    ignore = dev is not None and net.orconf(dev, "ignore_routes_with_linkdown")
    flags = nhc.fib_nh_flags
    return nexthop_look(Nexthop(bool(flags & RTNH_F_DEAD), bool(flags & RTNH_F_LINKDOWN), ignore, nhc.fib_nh_oif), p)


@cited("net/ipv4/fib_trie.c:fib_table_lookup")
def fib_table_lookup(net: Fib, tb: FibTable, flp: Flow4, res: FibResult, fib_flags: int) -> int:
    """Looks up the longest prefix in one table; fills `res` and returns 0, or returns a negative errno."""
    p = LookupParams(flp.tos, flp.scope, flp.oif, bool(fib_flags & FIB_LOOKUP_IGNORE_LINKSTATE))
    for plen in range(32, -1, -1):
        head = tb.trie.get((flp.daddr & inet_make_mask(plen), plen))
        if head is None:
            continue
        for fa in head:
            fi = fa.fa_info
            look = alias_look(
                Alias(RTN(fa.fa_type), fa.fa_dscp, fi.fib_dead, fi.fib_scope, bool(fi.fib_flags & RTNH_F_DEAD)), p
            )
            if look in (Look.DSCP, Look.DEAD_INFO, Look.SCOPE):
                continue
            fa.fa_accessed = True
            kind = RTN(fa.fa_type).name.lower()
            if look is Look.REJECT:
                net.env.note("fib_table_lookup", f"table {tb.tb_id}: {prefix_text(fa)} is {kind}")
                return -FIB_PROPS_ERROR[RTN(fa.fa_type)]
            if look is Look.DEAD_ROUTE:
                continue
            for nhsel, nhc in enumerate(fi.fib_nh):
                if fib_lookup_good_nhc(net, nhc, p) is not NhLook.GOOD:
                    continue
                res.prefix = fa.prefix
                res.prefixlen = plen
                res.nh_sel = nhsel
                res.nhc = nhc
                res.type = fa.fa_type
                res.scope = fi.fib_scope
                res.dscp = fa.fa_dscp
                res.fi = fi
                res.table = tb
                res.fa_head = head
                net.env.note("fib_table_lookup", f"table {tb.tb_id}: {prefix_text(fa)} {kind}")
                return 0
    net.env.note("fib_table_lookup", f"table {tb.tb_id}: no route to {dotted(flp.daddr)}")
    return -EAGAIN


@cited("net/ipv4/fib_frontend.c:fib_get_table")
def fib_get_table(net: Fib, tb_id: int) -> FibTable | None:
    """The table of that number if there is one; 0 means main."""
    return net.tables.get(tb_id or RT_TABLE_MAIN)


@cited("net/ipv4/fib_frontend.c:fib_new_table")
def fib_new_table(net: Fib, tb_id: int) -> FibTable:
    """The table of that number, made if need be; local shares main's trie until there are rules."""
    tb_id = tb_id or RT_TABLE_MAIN
    tb = net.tables.get(tb_id)
    if tb is None:
        shared = tb_id == RT_TABLE_LOCAL and not net.fib_has_custom_rules
        tb = FibTable(tb_id, fib_new_table(net, RT_TABLE_MAIN).trie if shared else {})
        net.tables[tb_id] = tb
    return tb


def _selector(rule: FibRule, flp: Flow4) -> Selector:
    """One rule held against one flow."""
    return Selector(
        pref=rule.pref,
        action=FrAct(rule.action),
        invert=bool(rule.flags & FIB_RULE_INVERT),
        addresses=not (
            (flp.saddr ^ rule.src) & inet_make_mask(rule.src_len)
            or (flp.daddr ^ rule.dst) & inet_make_mask(rule.dst_len)
        ),
        marked=not (rule.mark ^ flp.mark) & rule.mark_mask,
        uid=rule.uid_range[0] <= flp.uid <= rule.uid_range[1],
        iif=rule.iifindex,
        oif=rule.oifindex,
        ip_proto=rule.ip_proto,
        sport_lo=rule.sport_range[0],
        sport_hi=rule.sport_range[1],
        dport_lo=rule.dport_range[0],
        dport_hi=rule.dport_range[1],
        dscp=rule.dscp,
        dscp_full=rule.dscp_full,
        suppress_prefixlen=rule.suppress_prefixlen,
        target=rule.ctarget is not None,
    )


@cited("net/ipv4/fib_rules.c:fib4_rule_action")
def fib4_rule_action(net: Fib, rule: FibRule, flp: Flow4, flags: int, res: FibResult) -> int:
    """Looks up the table that a rule names; -EAGAIN where there is none."""
    tbl = fib_get_table(net, rule.table)
    return -EAGAIN if tbl is None else fib_table_lookup(net, tbl, flp, res, flags)


@cited("net/core/fib_rules.c:fib_rules_lookup")
def fib_rules_lookup(net: Fib, flp: Flow4, flags: int, res: FibResult) -> int:
    """Asks rule after rule; returns 0 or a negative errno, -ESRCH if no rule had an answer."""
    p = PolicyParams(flp.iif, flp.oif, flp.tos, flp.proto, flp.sport, flp.dport)
    i = 0
    while i < len(net.rules):
        rule = net.rules[i]
        look = rule_look(_selector(rule, flp), p)
        if look is RuleLook.JUMP:
            assert rule.ctarget is not None
            i = net.rules.index(rule.ctarget)
            continue
        i += 1
        if look is RuleLook.PASS:
            continue
        if look is RuleLook.UNREACHABLE:
            err = -ENETUNREACH
        elif look is RuleLook.PROHIBIT:
            err = -EACCES
        elif look is RuleLook.BLACKHOLE:
            err = -EINVAL
        else:
            err = fib4_rule_action(net, rule, flp, flags, res)
            asked = Policy(suppress_prefixlen=rule.suppress_prefixlen)
            if goes_on(asked, TableAnswer(-err, res.prefixlen if err == 0 else 0)):
                continue
        net.env.note("fib_rules_lookup", f"rule {rule.pref} decides: {err or 'a route'}")
        return err
    return -ESRCH


@cited("net/ipv4/fib_rules.c:__fib_lookup")
def __fib_lookup(net: Fib, flp: Flow4, res: FibResult, flags: int) -> int:
    """Looks up over the policy rules; the network is unreachable where none has an answer."""
    err = fib_rules_lookup(net, flp, flags, res)
    return -ENETUNREACH if err == -ESRCH else err


@cited("include/net/ip_fib.h:fib_lookup")
def fib_lookup(net: Fib, flp: Flow4, res: FibResult, flags: int) -> int:
    """Looks up a flow; fills `res` and returns 0, or returns a negative errno."""
    flags |= FIB_LOOKUP_NOREF
    if net.fib_has_custom_rules:
        return __fib_lookup(net, flp, res, flags)
    err = -EAGAIN
    for tb_id in (RT_TABLE_MAIN, RT_TABLE_DEFAULT):
        tb = net.tables.get(tb_id)
        if tb is not None:
            err = fib_table_lookup(net, tb, flp, res, flags)
        if err != -EAGAIN:
            return err
    return -ENETUNREACH


@cited("net/ipv4/fib_frontend.c:__inet_dev_addr_type")
def __inet_dev_addr_type(net: Fib, dev: NetDevice | None, addr: int, tb_id: int) -> int:
    """The type of an address, as an RTN: that of its route in one table, of one device if `dev` is given."""
    if ipv4_is_zeronet(addr) or ipv4_is_lbcast(addr):
        return RTN.BROADCAST
    if ipv4_is_multicast(addr):
        return RTN.MULTICAST
    table = fib_get_table(net, tb_id)
    if table is None:
        return RTN.BROADCAST
    res = FibResult()
    if fib_table_lookup(net, table, Flow4(addr), res, FIB_LOOKUP_NOREF) == 0:
        return res.type if dev is None or dev is res.info.fib_nh[0].fib_nh_dev else RTN.UNICAST
    return RTN.UNICAST


def inet_addr_type_table(net: Fib, addr: int, tb_id: int) -> int:
    """The type of an address in one table; source net/ipv4/fib_frontend.c:inet_addr_type_table."""
    return __inet_dev_addr_type(net, None, addr, tb_id)


@cited("net/ipv4/fib_frontend.c:inet_addr_type")
def inet_addr_type(net: Fib, addr: int) -> int:
    """The type of an address in table local."""
    return __inet_dev_addr_type(net, None, addr, RT_TABLE_LOCAL)


def inet_dev_addr_type(net: Fib, dev: NetDevice, addr: int) -> int:
    """The type of an address as if there were only `dev`; source net/ipv4/fib_frontend.c:inet_dev_addr_type."""
    return __inet_dev_addr_type(net, dev, addr, RT_TABLE_LOCAL)
