"""IPv6 routing tables as they change: routes are added and deleted, and addresses bring theirs."""

from errno import EEXIST, ENOENT, ESRCH

from refmodel.fib.addrconf import (
    Inet6Ifaddr,
    ip6,
    ipv6_link_dev_addr,
    mask6,
)
from refmodel.fib.types import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTN,
    RTNH_F_DEAD,
    RTPROT_KERNEL,
)
from refmodel.fib.types6 import (
    IP6_RT_PRIO_ADDRCONF,
    Fib6,
    Fib6Info,
    Table6,
)
from refmodel.netdevice import NetDevice
from refmodel.rule import cited


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
