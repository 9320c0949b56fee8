"""What netlink says of IPv6 routes: the answer to RTM_GETROUTE for one destination, and a table's dump."""

from collections.abc import Iterator
from errno import ENODEV
from typing import Any

from refmodel.fib.addrconf import mask6
from refmodel.fib.fib6 import ip6_route_get_saddr, ip6_route_input_lookup, ip6_route_output_flags
from refmodel.fib.getroute import Message, Query
from refmodel.fib.types import RTNH_F_DEAD, RTNH_F_LINKDOWN
from refmodel.fib.types6 import RT6_LOOKUP_F_HAS_SADDR, Fib6, Fib6Info, Flow6, Route6
from refmodel.rule import cited


@cited("net/ipv6/route.c:inet6_rtm_getroute")
def inet6_rtm_getroute(net: Fib6, q: Query) -> Message | int:
    """Answers a question, or gives a negative errno."""
    fl6 = Flow6(q.dst, q.src, mark=q.mark, tos=q.tos, proto=q.ip_proto, sport=q.sport, dport=q.dport)
    if q.iif:
        if q.iif not in net.devs:
            return -ENODEV
        fl6.iif = q.iif
        rt = ip6_route_input_lookup(net, fl6, RT6_LOOKUP_F_HAS_SADDR if q.src else 0)
    else:
        fl6.oif = q.oif
        rt = ip6_route_output_flags(net, fl6)
    if rt.error or rt.origin is None:
        return -rt.error
    return fib6_message(net, rt.origin, q.iif) if q.fibmatch else rt6_fill_node(net, q, rt, rt.origin)


def _common(f6i: Fib6Info) -> Message:
    out: dict[str, Any] = {
        "tos": 0, "table": f6i.tb6_id, "type": f6i.fib6_type, "scope": 0, "protocol": f6i.fib6_protocol, "flags": 0,
        "priority": f6i.fib6_metric, "pref": f6i.pref,
    }  # fmt: skip
    if f6i.metrics:
        out["metrics"] = dict(f6i.metrics)
    return out


@cited("net/ipv6/route.c:rt6_fill_node")
def rt6_fill_node(net: Fib6, q: Query, rt: Route6, f6i: Fib6Info) -> Message:
    """The answer that tells a packet's route."""
    out = _common(f6i) | {"dst_len": 128, "src_len": 128, "dst": q.dst, "src": q.src, "oif": rt.dev.ifindex}
    if q.iif:
        out["iif"] = q.iif
    else:
        saddr = ip6_route_get_saddr(net, f6i, q.dst)
        if saddr is not None:
            out["prefsrc"] = saddr
    if f6i.fib6_prefsrc:
        out["prefsrc"] = f6i.fib6_prefsrc
    if rt.gateway:
        out["gateway"] = rt.gateway
    out["pref"] = rt.pref
    return out


def _hop(net: Fib6, f6i: Fib6Info) -> Message:
    flags = f6i.fib_nh_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) | (RTNH_F_DEAD if net.ignores(f6i) else 0)
    out: dict[str, Any] = {"flags": flags, "oif": f6i.dev.ifindex}
    if f6i.gw:
        out["gateway"] = f6i.gw
    return out


def fib6_message(net: Fib6, f6i: Fib6Info, iif: int = 0) -> Message:
    """What is told of a table's route: with those that share its prefix and metric as its nexthops."""
    out = _common(f6i) | {"dst_len": f6i.plen, "src_len": 0}
    if f6i.plen:
        out["dst"] = f6i.prefix & mask6(f6i.plen)
    if iif:
        out["iif"] = iif
    if f6i.fib6_prefsrc:
        out["prefsrc"] = f6i.fib6_prefsrc
    if not f6i.siblings:
        return out | _hop(net, f6i)
    at = f6i.siblings.index(f6i)
    group = f6i.siblings[at:] + f6i.siblings[:at]
    out["multipath"] = [_hop(net, r) | {"hops": r.weight - 1} for r in group]
    return out


@cited("net/ipv6/ip6_fib.c:fib6_dump_table")
def fib6_dump_table(net: Fib6, tb6_id: int) -> Iterator[Message]:
    """The routes of a table, node by node; those that share a prefix and a metric are told once."""
    for _, node in sorted(net.tables[tb6_id].nodes.items()):
        for f6i in node:
            if not f6i.siblings or f6i is f6i.siblings[0]:
                yield fib6_message(net, f6i)
