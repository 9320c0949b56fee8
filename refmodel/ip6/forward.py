"""A packet that is for others: hop limit, link-local sources, redirects, the MTU.

The law: a packet leaves with its hop limit one less, or its sender is told why it doesn't.
"""

import errno
from collections.abc import Callable
from enum import IntEnum

from refmodel.dropreason import Reason
from refmodel.ip6.const import (
    ANY,
    ICMPV6_ADM_PROHIBITED,
    ICMPV6_DEST_UNREACH,
    ICMPV6_EXC_HOPLIMIT,
    ICMPV6_NOROUTE,
    ICMPV6_NOT_NEIGHBOUR,
    ICMPV6_PKT_TOOBIG,
    ICMPV6_TIME_EXCEED,
    IP6SKB_ROUTERALERT,
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_LOOPBACK,
    IPV6_ADDR_MULTICAST,
    IPV6_MIN_MTU,
    NF_INET_FORWARD,
)
from refmodel.ip6.icmp import icmpv6_send
from refmodel.ip6.lookup import ip6_mtu
from refmodel.ip6.net import IP6CB, NF_HOOK, Ip6, daddr, ipv6_addr_type, route, saddr
from refmodel.ip6.output import dst_output
from refmodel.ip6.redirect import ndisc_send_redirect
from refmodel.rule import cited, pure
from refmodel.skbuff import PACKET_HOST, SkBuff


class Source(IntEnum):
    """What a forwarded packet's source is."""

    FINE = 0
    LINK_LOCAL = 1
    NOBODY = 2


@pure
def source_verdict(nobody: bool, many: bool, loopback: bool, link_local: bool) -> Source:
    """ip6_forward's look at a packet's source."""
    return Source.NOBODY if nobody or many or loopback else Source.LINK_LOCAL if link_local else Source.FINE


@cited("net/ipv6/ip6_output.c:ip6_forward", "RFC 8200 3", "RFC 4291 2.5.6")
def ip6_forward(net: Ip6, skb: SkBuff, ip6_input: Callable[[Ip6, SkBuff], int]) -> int:
    """A packet that came in goes out again, or its sender is told: 0 or a negative errno.

    `ip6_input` has what this host answers in another's place.
    """
    env, rt = net.env, route(skb)
    if not env.ip6.forwarding:
        env.note("ip6_forward", "this host doesn't forward")
        return _error(net, skb)
    if skb.pkt_type != PACKET_HOST or skb.sk is not None:
        env.note("ip6_forward", "not sent to this host at its link")
        net.drop(skb)
        return -errno.EINVAL
    opt = IP6CB(skb)
    if opt.flags & IP6SKB_ROUTERALERT and env.ip6_ra_chain(skb, opt.ra):
        return 0
    if skb.data[7] <= 1:
        env.note("ip6_forward", f"hop limit {skb.data[7]}")
        icmpv6_send(net, skb, ICMPV6_TIME_EXCEED, ICMPV6_EXC_HOPLIMIT, 0)
        env.count("Ip6InHdrErrors")
        net.drop(skb, Reason.IP_INHDR)
        return -errno.ETIMEDOUT
    if env.ip6.proxy_ndp and skb.dev is not None and env.pneigh_lookup(daddr(skb), skb.dev):
        return ip6_input(net, skb)
    if opt.iif == rt.dev.ifindex and opt.srcrt == 0:
        target = rt.gateway or daddr(skb)
        env.note("ip6_forward", "back where it came from")
        if env.inet_peer_xrlim_allow(daddr(skb), env.hz):
            ndisc_send_redirect(net, skb, target)
    else:
        kind = ipv6_addr_type(saddr(skb))
        found = source_verdict(
            saddr(skb) == ANY,
            bool(kind & IPV6_ADDR_MULTICAST),
            bool(kind & IPV6_ADDR_LOOPBACK),
            bool(kind & IPV6_ADDR_LINKLOCAL),
        )
        if found == Source.LINK_LOCAL:
            icmpv6_send(net, skb, ICMPV6_DEST_UNREACH, ICMPV6_NOT_NEIGHBOUR, 0)
        if found != Source.FINE:
            env.note("ip6_forward", f"a source that must not leave its link: {found.name}")
            return _error(net, skb)
    if env.kernel >= 612:
        env.count("Ip6OutForwDatagrams")
    mtu = max(ip6_mtu(net, rt, daddr(skb), forwarding=True), IPV6_MIN_MTU)
    if ip6_pkt_too_big(net, skb, mtu):
        skb.dev = rt.dev
        icmpv6_send(net, skb, ICMPV6_PKT_TOOBIG, 0, mtu)
        env.count("Ip6InTooBigErrors")
        env.count("Ip6FragFails")
        net.drop(skb, Reason.PKT_TOO_BIG)
        return -errno.EMSGSIZE
    skb.data[7] -= 1
    env.note("ip6_forward", f"hop limit {skb.data[7]}, to {rt.dev.name}")
    return NF_HOOK(net, NF_INET_FORWARD, skb, skb.dev, rt.dev, lambda x: ip6_forward_finish(net, x))


@cited("net/ipv6/ip6_output.c:ip6_forward_finish")
def ip6_forward_finish(net: Ip6, skb: SkBuff) -> int:
    """The packet passed the hook and takes its way."""
    if net.env.kernel < 612:
        net.env.count("Ip6OutForwDatagrams")
        net.env.count("Ip6OutOctets", len(skb.data))
    return dst_output(net, skb)


@cited("net/ipv6/ip6_output.c:ip6_pkt_too_big", "RFC 8200 5")
def ip6_pkt_too_big(net: Ip6, skb: SkBuff, mtu: int) -> bool:
    """The packet doesn't fit, and a router doesn't cut it."""
    if len(skb.data) <= mtu:
        return False
    if IP6CB(skb).frag_max_size > mtu:
        return True
    t = skb.transport or 40
    head = t + (8 if skb.data[6] == 17 else (skb.data[t + 12] >> 4) * 4) if skb.is_gso else 0
    fits = skb.ignore_df or (skb.is_gso and head + skb.gso_size <= mtu)
    if not fits:
        net.env.note("ip6_pkt_too_big", f"{len(skb.data)} > mtu {mtu}")
    return not fits


def _error(net: Ip6, skb: SkBuff) -> int:
    net.env.count("Ip6InAddrErrors")
    net.drop(skb, Reason.IP_INADDRERRORS)
    return -errno.EINVAL


@cited("net/ipv6/route.c:ip6_pkt_discard", "net/ipv6/route.c:ip6_pkt_drop")
def ip6_pkt_discard(net: Ip6, skb: SkBuff) -> int:
    """There is no way: the sender is told."""
    return ip6_pkt_drop(net, skb, ICMPV6_NOROUTE)


@cited("net/ipv6/route.c:ip6_pkt_prohibit")
def ip6_pkt_prohibit(net: Ip6, skb: SkBuff) -> int:
    """The way is forbidden: the sender is told."""
    return ip6_pkt_drop(net, skb, ICMPV6_ADM_PROHIBITED)


def ip6_pkt_drop(net: Ip6, skb: SkBuff, code: int) -> int:
    """Counts a packet without a way in, answers and drops it."""
    nowhere = daddr(skb) == ANY
    net.env.count("Ip6InAddrErrors" if nowhere else "Ip6InNoRoutes")
    net.env.note("ip6_pkt_drop", f"no way in, code {code}")
    icmpv6_send(net, skb, ICMPV6_DEST_UNREACH, code, 0)
    net.drop(skb, Reason.IP_INADDRERRORS if nowhere else Reason.IP_INNOROUTES)
    return 0
