"""A list of packets comes in at once, as from a driver whose poll ends: ip_list_rcv.

The law: a packet to the same destination with the same type of service as the one before it takes that one's route
without a lookup. So of a list, only the first is told of a shorter way, and only the first passes the reverse path
filter on its way through.
"""

from collections.abc import Sequence
from typing import Final

from refmodel.dropreason import Reason
from refmodel.ip import input
from refmodel.ip.const import INADDR_BROADCAST, NET_RX_DROP, NF_INET_PRE_ROUTING, RTCF_LOCAL
from refmodel.ip.header import ip_hdr
from refmodel.ip.net import IPCB, Ip, dst
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

IPSKB_MULTIPATH: Final = 1 << 9


@cited("net/ipv4/ip_input.c:ip_list_rcv")
def ip_list_rcv(net: Ip, skbs: Sequence[SkBuff]) -> None:
    """Packets of one or more devices; those of one device that follow each other go on together."""
    sublist: list[SkBuff] = []
    curr_dev: NetDevice | None = None
    for skb in skbs:
        dev = skb.dev
        if input.ip_rcv_core(net, skb) is None:
            continue
        if curr_dev is not dev:
            if sublist and curr_dev is not None:
                ip_sublist_rcv(net, sublist, curr_dev)
            sublist, curr_dev = [], dev
        sublist.append(skb)
    if sublist and curr_dev is not None:
        ip_sublist_rcv(net, sublist, curr_dev)


@cited("net/ipv4/ip_input.c:ip_sublist_rcv", "include/linux/netfilter.h:NF_HOOK_LIST")
def ip_sublist_rcv(net: Ip, skbs: list[SkBuff], dev: NetDevice) -> None:
    """All pass the hook before the first goes on."""
    passed = [
        skb
        for skb in skbs
        if net.env.nf_hook(NF_INET_PRE_ROUTING, skb, dev, None, lambda x: input.ip_rcv_finish(net, x)) == 1
    ]
    ip_list_rcv_finish(net, passed)


@cited("net/ipv4/ip_input.c:ip_extract_route_hint")
def ip_extract_route_hint(net: Ip, skb: SkBuff) -> SkBuff | None:
    """The packet, if its route may serve those that follow it."""
    daddr = ip_hdr(skb).daddr
    if net.custom_rules or daddr == INADDR_BROADCAST or daddr[0] == 0 or IPCB(skb).flags & IPSKB_MULTIPATH:
        return None
    return skb


@cited("net/ipv4/ip_input.c:ip_can_use_hint", "net/ipv4/route.c:ip_route_use_hint")
def ip_route_use_hint(net: Ip, skb: SkBuff, hint: SkBuff | None) -> Reason | None:
    """The packet takes the route of one before it, if that fits; a reason if its source is impossible.

    A route to this host is looked up again, which gives the same one and checks the source.
    """
    iph = ip_hdr(skb)
    if hint is None or skb.dst is not None or ip_hdr(hint).daddr != iph.daddr or ip_hdr(hint).tos != iph.tos:
        return None
    if dst(hint).rt_flags & RTCF_LOCAL:
        return None
    saddr = iph.saddr
    if saddr[0] in (0, 127) or saddr[0] >> 4 == 14 or saddr == INADDR_BROADCAST:
        return Reason.NOT_SPECIFIED
    net.env.note("ip_route_use_hint", "the route of the packet before it")
    skb.dst = hint.dst
    return None


@cited("net/ipv4/ip_input.c:ip_list_rcv_finish")
def ip_list_rcv_finish(net: Ip, skbs: list[SkBuff]) -> None:
    """Packets with one route go on together, once the first with another is found."""
    hint: SkBuff | None = None
    curr_dst = None
    sublist: list[SkBuff] = []
    for skb in skbs:
        dev = skb.dev
        assert dev is not None
        if input.ip_rcv_finish_core(net, skb, dev, hint) == NET_RX_DROP:
            continue
        if curr_dst is not skb.dst:
            hint = ip_extract_route_hint(net, skb)
            ip_sublist_rcv_finish(net, sublist)
            sublist, curr_dst = [], skb.dst
        sublist.append(skb)
    ip_sublist_rcv_finish(net, sublist)


@cited("net/ipv4/ip_input.c:ip_sublist_rcv_finish")
def ip_sublist_rcv_finish(net: Ip, skbs: list[SkBuff]) -> None:
    """Each packet takes its way."""
    for skb in skbs:
        input.dst_input(net, skb)
