"""What IP asks of routing beside routes: addresses to answer from, and where ICMP's news about a path goes."""

from refmodel.fib.exceptions import __ip_do_redirect, __ip_rt_update_pmtu
from refmodel.fib.lookup import fib_lookup
from refmodel.fib.net import Fib
from refmodel.fib.route import ip_route_output_key_hash
from refmodel.fib.saddr import fib_result_prefsrc, inet_select_addr
from refmodel.fib.types import (
    INET_DSCP_MASK,
    LOOPBACK_IFINDEX,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTCF_BROADCAST,
    RTCF_LOCAL,
    RTCF_MULTICAST,
    FibResult,
    Flow4,
    Route,
    ipv4_is_zeronet,
)
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import SkBuff


def _addresses(skb: SkBuff) -> tuple[int, int]:
    """The destination and the source in a packet's header."""
    return int.from_bytes(skb.data[16:20], "big"), int.from_bytes(skb.data[12:16], "big")


@cited("net/ipv4/fib_frontend.c:fib_compute_spec_dst", "RFC 1122 3.2.1.3")
def fib_compute_spec_dst(net: Fib, skb: SkBuff) -> int:
    """The local address to answer a packet from: its own destination, else the best for its source."""
    rt: Route = skb.dst
    daddr, saddr = _addresses(skb)
    if rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST | RTCF_LOCAL) == RTCF_LOCAL:
        return daddr
    assert skb.dev is not None
    scope = RT_SCOPE_LINK
    if not ipv4_is_zeronet(saddr):
        scope = RT_SCOPE_UNIVERSE
        fl4 = Flow4(saddr, iif=LOOPBACK_IFINDEX, tos=skb.data[1] & INET_DSCP_MASK, scope=scope)
        fl4.mark = skb.mark if net.orconf(skb.dev, "src_valid_mark") else 0
        res = FibResult()
        if fib_lookup(net, fl4, res, 0) == 0:
            return fib_result_prefsrc(net, res.info, res.nh)
    return inet_select_addr(net, skb.dev, saddr, scope)


@cited("net/ipv4/route.c:ip_rt_get_source")
def ip_rt_get_source(net: Fib, skb: SkBuff, rt: Route) -> int:
    """The address of the outgoing interface that options record: of a forwarded packet, looked up again."""
    daddr, saddr = _addresses(skb)
    if not rt.is_input:
        return saddr
    assert skb.dev is not None
    fl4 = Flow4(
        daddr, saddr, tos=skb.data[1] & INET_DSCP_MASK, oif=rt.dev.ifindex, iif=skb.dev.ifindex, mark=skb.mark
    )  # fmt: skip
    res = FibResult()
    if fib_lookup(net, fl4, res, 0) == 0:
        return fib_result_prefsrc(net, res.info, res.nh)
    return inet_select_addr(net, rt.dev, rt.nexthop(daddr), RT_SCOPE_UNIVERSE)


@cited("net/ipv4/route.c:ipv4_update_pmtu", "RFC 1191 6.3")
def ipv4_update_pmtu(net: Fib, fl4: Flow4, mtu: int) -> None:
    """An ICMP error says that the path of `fl4`, a packet that was sent, takes `mtu` bytes."""
    rt = ip_route_output_key_hash(net, fl4, None)
    if not isinstance(rt, int):
        __ip_rt_update_pmtu(net, rt, fl4, mtu)


@cited("net/ipv4/route.c:ipv4_redirect", "RFC 1122 3.2.2.2")
def ipv4_redirect(
    net: Fib, fl4: Flow4, dev: NetDevice, code: int, old_gw: int, new_gw: int, skb: SkBuff | None = None
) -> None:
    """A redirect `skb` from `old_gw` on `dev` says that `fl4`, a packet that was sent, goes better by `new_gw`."""
    rt = ip_route_output_key_hash(net, fl4, None)
    if not isinstance(rt, int):
        __ip_do_redirect(net, rt, dev, code, old_gw, new_gw, fl4, False, skb)
