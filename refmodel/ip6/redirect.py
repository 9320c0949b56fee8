"""Redirects: a router tells a neighbour that there is a nearer way.

The law: only to a neighbour, only about a link-local router or the destination itself, and not too often.
"""

from typing import Final

from refmodel.ip6.const import (
    ANY,
    IP6_HLEN,
    IPV6_ADDR_LINKLOCAL,
    IPV6_MIN_MTU,
    NDISC_REDIRECT,
    NEXTHDR_ICMP,
    NF_INET_LOCAL_OUT,
)
from refmodel.ip6.icmp import count_type
from refmodel.ip6.lookup import ip6_route_output
from refmodel.ip6.net import NF_HOOK, Ip6, daddr, ipv6_addr_type, route, saddr
from refmodel.ip6.output import dst_output
from refmodel.packet.wire import checksum, pseudo_header
from refmodel.rule import cited
from refmodel.skbuff import ETH_P_IPV6, SkBuff

RD_MSG: Final = 40  # sizeof(struct rd_msg): the ICMPv6 header, target and destination
ND_OPT_TARGET_LL_ADDR: Final = 2
ND_OPT_REDIRECT_HDR: Final = 4


@cited("net/ipv6/ndisc.c:ndisc_send_redirect", "RFC 4861 8.2")
def ndisc_send_redirect(net: Ip6, skb: SkBuff, target: bytes) -> None:
    """Tells the sender of a packet that `target` is nearer, with its link-layer address if that is known."""
    env, dev = net.env, skb.dev
    idev = net.idev(dev)
    own = next((a for a, _ in idev.addresses if ipv6_addr_type(a) & IPV6_ADDR_LINKLOCAL), ANY) if idev else ANY
    if dev is None or own == ANY:
        env.note("ndisc_send_redirect", f"no link-local address on {dev}")
        return
    if daddr(skb) != target and not ipv6_addr_type(target) & IPV6_ADDR_LINKLOCAL:
        env.note("ndisc_send_redirect", "the router is known by no link-local address")
        return
    rt = ip6_route_output(net, saddr(skb), own, dev.ifindex)
    if rt.error or rt.gateway:
        env.note("ndisc_send_redirect", "the sender is no neighbour")
        return
    if not env.inet_peer_xrlim_allow(saddr(skb), env.hz):
        env.note("ndisc_send_redirect", "the sender was told often enough")
        return
    lladdr = env.neigh_lladdr(dev, target) if dev.dev_addr else None
    option = b"" if lladdr is None else bytes((ND_OPT_TARGET_LL_ADDR, 1)) + lladdr
    room = min(IPV6_MIN_MTU - IP6_HLEN - RD_MSG - len(option), len(skb.data) + 8) & ~7
    quoted = bytes((ND_OPT_REDIRECT_HDR, room >> 3)) + bytes(6) + bytes(skb.data[: room - 8])
    body = target + daddr(skb) + option + quoted
    message = bytes((NDISC_REDIRECT, 0, 0, 0)) + bytes(4) + body
    check = checksum(message, pseudo_header(own, saddr(skb), NEXTHDR_ICMP, len(message)))
    message = message[:2] + check.to_bytes(2, "big") + message[4:]
    head = (6 << 28).to_bytes(4, "big") + len(message).to_bytes(2, "big") + bytes((NEXTHDR_ICMP, 255))
    new = SkBuff(head + own + saddr(skb) + message, ETH_P_IPV6, by="ndisc_send_redirect")
    new.dst, new.dev, new.transport = rt, rt.dev, IP6_HLEN
    env.note("ndisc_send_redirect", f"{target.hex()} is nearer")
    ndisc_send_skb(net, new)


@cited("net/ipv6/ndisc.c:ndisc_send_skb")
def ndisc_send_skb(net: Ip6, skb: SkBuff) -> None:
    """A neighbour discovery message passes the hook and takes its way; it counts if nobody stopped it."""
    net.env.count("Ip6OutRequests")
    if net.env.kernel < 612:
        net.env.count("Ip6OutOctets", len(skb.data))
    if NF_HOOK(net, NF_INET_LOCAL_OUT, skb, None, route(skb).dev, lambda x: dst_output(net, x)) == 0:
        count_type(net, "Out", skb.data[IP6_HLEN])
        net.env.count("Icmp6OutMsgs")
