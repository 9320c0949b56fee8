"""What netlink says of routes: the answer to RTM_GETROUTE for one destination, and a table's dump."""

from collections.abc import Iterator
from errno import EHOSTUNREACH, EINVAL, ENODEV, EOPNOTSUPP
from typing import Any, Final

from msgspec import Struct

from refmodel.fib.leaf import FIB_PROPS_ERROR
from refmodel.fib.net import Fib
from refmodel.fib.route import ip_route_input_rcu, ip_route_output_key_hash_rcu
from refmodel.fib.types import (
    INET_DSCP_MASK,
    IPSKB_DOREDIRECT,
    LOOPBACK_IFINDEX,
    RT_TABLE_MAIN,
    RTAX_LOCK,
    RTAX_MTU,
    RTCF_DOREDIRECT,
    RTM_F_CLONED,
    RTN,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTNH_F_ONLINK,
    FibInfo,
    FibNh,
    FibResult,
    Flow4,
    Route,
)
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

IPPROTO_ICMP: Final = 1
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17

# Names of struct rtmsg's fields and of RTA_ attributes, absent where the kernel sends none.
Message = dict[str, Any]


class Query(Struct, frozen=True):
    """One question. With `iif` it is as if the packet came in there; `fibmatch` asks for the route in the table."""

    dst: int = 0
    src: int = 0
    iif: int = 0
    oif: int = 0
    mark: int = 0
    tos: int = 0
    ip_proto: int = IPPROTO_UDP
    sport: int = 0
    dport: int = 0
    fibmatch: bool = False
    lookup_table: bool = True


@cited("net/ipv4/route.c:inet_rtm_getroute_build_skb")
def inet_rtm_getroute_build_skb(q: Query) -> SkBuff:
    """The packet that the question is about."""
    ports = q.sport.to_bytes(2, "big") + q.dport.to_bytes(2, "big")
    body = {IPPROTO_UDP: ports + bytes((0, 8, 0, 0)), IPPROTO_TCP: ports + bytes(16)}.get(
        q.ip_proto, b"\x08" + bytes(7)
    )
    head = bytes((0x45, 0, 0, 0, 0, 0, 0, 0, 0, q.ip_proto, 0, 0))
    skb = SkBuff(head + q.src.to_bytes(4, "big") + q.dst.to_bytes(4, "big") + body, by="inet_rtm_getroute")
    skb.mark = q.mark
    return skb


@cited("net/ipv4/route.c:inet_rtm_getroute")
def inet_rtm_getroute(net: Fib, q: Query) -> Message | int:
    """Answers a question, or gives a negative errno. It leaves its trace in the nexthops' caches as a packet would."""
    if q.ip_proto not in (IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP):
        return -EOPNOTSUPP
    fl4 = Flow4(
        q.dst, q.src, oif=q.oif, mark=q.mark, tos=q.tos & INET_DSCP_MASK, proto=q.ip_proto, sport=q.sport, dport=q.dport
    )
    res = FibResult()
    skb = inet_rtm_getroute_build_skb(q)
    rt: Route | int
    if q.iif:
        dev = net.devs.get(q.iif)
        if dev is None:
            return -ENODEV
        fl4.iif = q.iif
        skb.dev = dev
        err = ip_route_input_rcu(net, skb, q.dst, q.src, q.tos & INET_DSCP_MASK, dev, res)
        # 6.18 has a drop reason here and no errno, so rp_filter's EXDEV is lost.
        rt = skb.dst if err == 0 else -EINVAL if net.env.kernel >= 618 else err
        if not isinstance(rt, int) and rt.error:
            rt = -rt.error
    else:
        fl4.iif = LOOPBACK_IFINDEX
        rt = ip_route_output_key_hash_rcu(net, fl4, res, skb)
    if isinstance(rt, int):
        return rt
    table_id = (res.table.tb_id if res.table is not None else 0) if q.lookup_table else RT_TABLE_MAIN
    if not q.fibmatch:
        return rt_fill_info(net, q, rt, table_id, res.dscp, fl4, skb)
    if res.fi is None:
        return -(FIB_PROPS_ERROR[RTN(res.type)] or EHOSTUNREACH)
    return fib_dump_info(net, res.fi, res.prefix, res.prefixlen, rt.rt_type, res.dscp, table_id)


@cited("net/ipv4/route.c:rt_fill_info")
def rt_fill_info(net: Fib, q: Query, rt: Route, table_id: int, dscp: int, fl4: Flow4, skb: SkBuff) -> Message:
    """The answer that tells a route."""
    flags = (rt.rt_flags & ~0xFFFF) | RTM_F_CLONED
    if net.env.ipcb_flags(skb, 0) & IPSKB_DOREDIRECT:
        flags |= RTCF_DOREDIRECT
    out: Message = {
        "dst_len": 32, "src_len": 32 if q.src else 0, "tos": dscp, "table": table_id, "type": rt.rt_type,
        "scope": 0, "protocol": 0, "flags": flags, "dst": q.dst, "oif": rt.dev.ifindex,
    }  # fmt: skip
    if q.src:
        out["src"] = q.src
    if not rt.is_input and fl4.saddr != q.src:
        out["prefsrc"] = fl4.saddr
    if rt.rt_uses_gateway:
        out["gateway"] = rt.rt_gw4
    metrics = dict(rt.metrics)
    if rt.rt_pmtu and rt.expires > net.env.jiffies:
        metrics[RTAX_MTU] = rt.rt_pmtu
        if rt.rt_mtu_locked:
            metrics[RTAX_LOCK] = metrics.get(RTAX_LOCK, 0) | 1 << RTAX_MTU
    if metrics:
        out["metrics"] = metrics
    if fl4.mark:
        out["mark"] = fl4.mark
    if rt.is_input:
        out["iif"] = fl4.iif
    return out


def fib_nexthop_info(net: Fib, nh: FibNh) -> Message:
    """What is told of one nexthop; source net/ipv4/fib_semantics.c:fib_nexthop_info."""
    flags = nh.fib_nh_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_ONLINK)
    dev = nh.fib_nh_dev
    if flags & RTNH_F_LINKDOWN and dev is not None and net.orconf(dev, "ignore_routes_with_linkdown"):
        flags |= RTNH_F_DEAD
    out: Message = {"flags": flags}
    if dev is not None:
        out["oif"] = dev.ifindex
    if nh.fib_nh_gw4:
        out["gateway"] = nh.fib_nh_gw4
    return out


@cited("net/ipv4/fib_semantics.c:fib_dump_info")
def fib_dump_info(net: Fib, fi: FibInfo, dst: int, dst_len: int, type: int, dscp: int, tb_id: int) -> Message:
    """What is told of one route of a table."""
    out: Message = {
        "dst_len": dst_len, "src_len": 0, "tos": dscp, "table": tb_id, "type": type, "scope": fi.fib_scope,
        "protocol": fi.fib_protocol, "flags": fi.fib_flags,
    }  # fmt: skip
    if dst_len:
        out["dst"] = dst
    if fi.fib_priority:
        out["priority"] = fi.fib_priority
    if fi.fib_metrics:
        out["metrics"] = dict(fi.fib_metrics)
    if fi.fib_prefsrc:
        out["prefsrc"] = fi.fib_prefsrc
    if len(fi.fib_nh) == 1:
        out |= fib_nexthop_info(net, fi.fib_nh[0])
    else:
        hops = [fib_nexthop_info(net, nh) | {"hops": nh.fib_nh_weight - 1} for nh in fi.fib_nh]
        out["multipath"] = hops
    return out


@cited("net/ipv4/fib_trie.c:fib_table_dump")
def fib_table_dump(net: Fib, tb_id: int) -> Iterator[Message]:
    """The routes of a table: by ascending prefix, a longer one before a shorter one of the same address."""
    tb = net.tables.get(tb_id)
    if tb is None:
        return
    for _, fah in sorted(tb.trie.items(), key=lambda kv: (kv[0][0], -kv[0][1])):
        for fa in fah:
            if fa.tb_id == tb_id:
                yield fib_dump_info(net, fa.fa_info, fa.prefix, fa.plen, fa.fa_type, fa.fa_dscp, tb_id)
