"""An IPv6 packet goes out: the hooks, the MTU, fragments, and the neighbour.

The law: only who sent a packet may have it fragmented; a router, and a socket that asked for path MTU discovery, is
told instead.
"""

import errno
from collections.abc import Callable
from typing import Final

from refmodel.dropreason import Reason
from refmodel.ip6.const import (
    FRAG_HLEN,
    ICMPV6_PKT_TOOBIG,
    IP6_HLEN,
    IP6SKB_REROUTED,
    IPV6_ADDR_SCOPE_NODELOCAL,
    IPV6_MAXPLEN,
    IPV6_MIN_MTU,
    IPV6_TLV_JUMBO,
    NEXTHDR_FRAGMENT,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
)
from refmodel.ip6.frag import piece
from refmodel.ip6.icmp import icmpv6_send
from refmodel.ip6.lookup import ip6_dst_hoplimit, ip6_mtu
from refmodel.ip6.net import IP6CB, NF_HOOK, Ip6, Ip6cb, daddr, ip6_find_1stfragopt, is_multicast, route, saddr
from refmodel.packet.wire import checksum
from refmodel.rule import cited
from refmodel.skbuff import CHECKSUM_NONE, CHECKSUM_PARTIAL, ETH_P_IPV6, SkBuff

CSUM_AT: Final = {6: 16, 17: 6, 58: 2}


@cited("net/ipv6/ip6_output.c:ip6_xmit", "RFC 8200 3")
def ip6_xmit(
    net: Ip6, skb: SkBuff, source: bytes, dest: bytes, proto: int, tclass: int = 0, label: int = 0, hlimit: int = -1
) -> int:
    """A transport protocol's segment, whose route is `skb.dst`, gets its header and goes out: 0 or an error.

    `skb.data` begins at the transport header. `hlimit` -1: the route's.
    """
    env, rt = net.env, route(skb)
    size = len(skb.data)
    if size > IPV6_MAXPLEN:
        jumbo = bytes((proto, 0, IPV6_TLV_JUMBO, 4)) + (size + 8).to_bytes(4, "big")
        skb.data[:0] = jumbo
        proto, size = 0, 0
    hops = hlimit if hlimit >= 0 else ip6_dst_hoplimit(net, rt)
    head = (6 << 28 | tclass << 20 | label).to_bytes(4, "big") + size.to_bytes(2, "big") + bytes((proto, hops))
    skb.data[:0] = head + source + dest
    skb.protocol = ETH_P_IPV6
    skb.transport = IP6_HLEN + (8 if proto == 0 else 0)
    mtu = ip6_mtu(net, rt, dest)
    if len(skb.data) <= mtu or skb.ignore_df or skb.is_gso:
        if env.kernel < 612:
            env.count("Ip6OutOctets", len(skb.data))
        env.count("Ip6OutRequests")
        env.note("ip6_xmit", f"{len(skb.data)} bytes, next header {proto}, hop limit {hops}")
        return NF_HOOK(net, NF_INET_LOCAL_OUT, skb, None, rt.dev, lambda x: dst_output(net, x))
    skb.dev = rt.dev
    env.note("ip6_xmit", f"{len(skb.data)} > mtu {mtu}: the socket is told")
    env.count("Ip6FragFails")
    net.drop(skb)
    return -errno.EMSGSIZE


@cited("net/ipv6/output_core.c:ip6_local_out")
def ip6_local_out(net: Ip6, skb: SkBuff) -> int:
    """A packet from this host passes the hook and takes its way."""
    ret = ip6_local_out_hook(net, skb)
    return dst_output(net, skb) if ret == 1 else ret


@cited("net/ipv6/output_core.c:__ip6_local_out")
def ip6_local_out_hook(net: Ip6, skb: SkBuff) -> int:
    """The payload's length is filled in, and the packet passes the hook: 1 if it goes on."""
    size = len(skb.data) - IP6_HLEN
    skb.data[4:6] = (size if size <= IPV6_MAXPLEN else 0).to_bytes(2, "big")
    skb.protocol = ETH_P_IPV6
    if not isinstance(skb.cb, Ip6cb):
        skb.cb = Ip6cb()
    IP6CB(skb).nhoff = 6
    return net.env.nf_hook6(NF_INET_LOCAL_OUT, skb, None, route(skb).dev, lambda x: dst_output(net, x))


@cited("net/ipv6/ip6_output.c:ip6_send_skb")
def ip6_send_skb(net: Ip6, skb: SkBuff) -> int:
    """A datagram goes out; what the way refuses is counted."""
    err = ip6_local_out(net, skb)
    if err < 0:
        net.env.count("Ip6OutDiscards")
    return err


@cited("include/net/dst.h:dst_output")
def dst_output(net: Ip6, skb: SkBuff) -> int:
    """The packet goes where its route's output function leads."""
    if route(skb).error:
        net.drop(skb)
        return -route(skb).error
    return ip6_output(net, skb)


@cited("net/ipv6/ip6_output.c:ip6_output")
def ip6_output(net: Ip6, skb: SkBuff) -> int:
    """The packet passes the last hook, unless the device has no IPv6."""
    rt, indev = route(skb), skb.dev
    skb.protocol = ETH_P_IPV6
    skb.dev = rt.dev
    idev = net.idev(rt.idev or rt.dev)
    if idev is None or idev.disable_ipv6:
        net.env.note("ip6_output", f"{rt.dev.name} has no IPv6")
        net.env.count("Ip6OutDiscards")
        net.drop(skb, Reason.IPV6DISABLED)
        return 0
    if IP6CB(skb).flags & IP6SKB_REROUTED:
        return ip6_finish_output(net, skb)
    ret = net.env.nf_hook6(NF_INET_POST_ROUTING, skb, indev, rt.dev, lambda x: ip6_finish_output(net, x))
    return ip6_finish_output(net, skb) if ret == 1 else ret


@cited("net/ipv6/ip6_output.c:ip6_finish_output", "net/ipv6/ip6_output.c:__ip6_finish_output")
def ip6_finish_output(net: Ip6, skb: SkBuff) -> int:
    """The MTU decides whether the packet is cut."""
    mtu = ip6_mtu(net, route(skb), daddr(skb))
    if skb.is_gso:
        return ip6_finish_output_gso(net, skb, mtu)
    largest = IP6CB(skb).frag_max_size
    if len(skb.data) > mtu or (largest and len(skb.data) > largest):
        net.env.note("ip6_finish_output", f"{len(skb.data)} > {largest or mtu}: ip6_fragment")
        return ip6_fragment(net, skb, ip6_finish_output2)
    net.env.note("ip6_finish_output", f"{len(skb.data)} <= mtu {mtu}")
    return ip6_finish_output2(net, skb)


@cited("net/ipv6/ip6_output.c:ip6_finish_output_gso", "net/ipv6/ip6_output.c:ip6_finish_output_gso_slowpath_drop")
def ip6_finish_output_gso(net: Ip6, skb: SkBuff, mtu: int) -> int:
    """A super-segment goes on whole if its segments fit the MTU; else it is cut here, and the segments too."""
    head = (skb.transport or IP6_HLEN) + (
        8 if skb.data[6] == 17 else (skb.data[(skb.transport or IP6_HLEN) + 12] >> 4) * 4
    )
    if head + skb.gso_size <= mtu:
        return ip6_finish_output2(net, skb)
    segs = net.env.skb_gso_segment(skb)
    if not segs:
        net.drop(skb)
        return -errno.ENOMEM
    net.env.consume_skb(skb)
    ret = 0
    for seg in segs:
        err = ip6_fragment(net, seg, ip6_finish_output2) if len(seg.data) > mtu else ip6_finish_output2(net, seg)
        ret = ret or err
    return ret


@cited("net/ipv6/ip6_output.c:ip6_finish_output2", "RFC 4861 7.2.2")
def ip6_finish_output2(net: Ip6, skb: SkBuff) -> int:
    """The packet is handed to the neighbour that is its next hop."""
    env, rt = net.env, route(skb)
    dev, dest = rt.dev, daddr(skb)
    if is_multicast(dest):
        if not dev.loopback and env.ipv6_chk_mcast_addr(dev, dest, saddr(skb)):
            new = skb.copy()
            new.cb = IP6CB(skb).copy()
            NF_HOOK(net, NF_INET_POST_ROUTING, new, None, dev, env.dev_loopback_xmit)
            if skb.data[7] == 0:
                env.count("Ip6OutDiscards")
                net.drop(skb)
                return 0
        net.po("OutMcast", len(skb.data))
        if dest[1] & 0x0F <= IPV6_ADDR_SCOPE_NODELOCAL and not dev.loopback:
            net.drop(skb)
            return 0
    if env.kernel >= 612:
        env.count("Ip6OutTransmits")
        env.count("Ip6OutOctets", len(skb.data))
    nexthop = rt.nexthop(dest)
    neigh = env.ip_neigh_gw6(dev, nexthop)
    if neigh is None:
        env.count("Ip6OutNoRoutes")
        net.drop(skb, Reason.NEIGH_CREATEFAIL)
        return -errno.EINVAL
    env.note("ip6_finish_output2", f"next hop {nexthop.hex()} on {dev.name}")
    return env.neigh_output(neigh, skb, False)


# ---------------------------------------------------------------------------------------------------------- fragments


@cited("net/ipv6/ip6_output.c:ip6_fragment", "RFC 8200 4.5")
def ip6_fragment(net: Ip6, skb: SkBuff, output: Callable[[Ip6, SkBuff], int]) -> int:
    """Cuts a packet and hands its fragments to `output`: 0, an error of theirs, or EMSGSIZE if it must not be cut."""
    env, rt = net.env, route(skb)
    hlen, at = ip6_find_1stfragopt(skb)
    mtu = ip6_mtu(net, rt, daddr(skb))
    if hlen < 0:
        return _failed(net, skb, -errno.EINVAL)
    if not skb.ignore_df and len(skb.data) > mtu:
        env.note("ip6_fragment", f"{len(skb.data)} > mtu {mtu}, and it must not be cut here")
        return _too_big(net, skb, mtu)
    largest = IP6CB(skb).frag_max_size
    if largest:
        if largest > mtu:
            return _too_big(net, skb, mtu)
        mtu = max(largest, IPV6_MIN_MTU)
    if mtu < hlen + FRAG_HLEN + 8:
        return _too_big(net, skb, mtu)
    room = mtu - hlen - FRAG_HLEN
    ident = ipv6_select_ident(net)
    if skb.ip_summed == CHECKSUM_PARTIAL:
        skb_checksum_help(skb)
    nexthdr, ptr, left, offset = skb.data[at], hlen, len(skb.data) - hlen, 0
    env.note("ip6_fragment", f"{left} bytes in fragments of {room}")
    while left > 0:
        n = piece(left, room)
        frag = ip6_frag_next(skb, hlen, at, nexthdr, ident, ptr, n, offset, left > n)
        err = output(net, frag)
        if err:
            return _failed(net, skb, err)
        env.count("Ip6FragCreates")
        ptr, left, offset = ptr + n, left - n, offset + n
    env.count("Ip6FragOKs")
    env.consume_skb(skb)
    return 0


@cited("net/ipv6/ip6_output.c:ip6_frag_next", "net/ipv6/ip6_output.c:ip6_copy_metadata")
def ip6_frag_next(
    skb: SkBuff, hlen: int, at: int, nexthdr: int, ident: int, ptr: int, n: int, offset: int, more: bool
) -> SkBuff:
    """One fragment: the headers of every fragment, the fragment header, and `n` bytes from `ptr` on."""
    head = bytearray(skb.data[:hlen])
    head[at] = NEXTHDR_FRAGMENT
    head[4:6] = (hlen - IP6_HLEN + FRAG_HLEN + n).to_bytes(2, "big")
    own = bytes((nexthdr, 0)) + (offset | int(more)).to_bytes(2, "big") + ident.to_bytes(4, "big")
    frag = skb.copy()
    frag.data = head + own + skb.data[ptr : ptr + n]
    frag.transport = hlen + FRAG_HLEN
    frag.cb = IP6CB(skb).copy()
    frag.ip_summed = CHECKSUM_NONE
    frag.src = None
    return frag


@cited("net/ipv6/output_core.c:ipv6_select_ident", "RFC 7739 5.3")
def ipv6_select_ident(net: Ip6) -> int:
    """A random identification, never 0."""
    while True:
        ident = net.env.random()
        if ident:
            return ident


@cited("net/core/dev.c:skb_checksum_help")
def skb_checksum_help(skb: SkBuff) -> None:
    """The checksum that a device was to fill in is filled in here."""
    t = skb.transport or IP6_HLEN
    at = t + CSUM_AT.get(skb.data[6], 16)
    check = checksum(bytes(skb.data[t:]))
    skb.data[at : at + 2] = (check or 0xFFFF).to_bytes(2, "big")
    skb.ip_summed = CHECKSUM_NONE


def _too_big(net: Ip6, skb: SkBuff, mtu: int) -> int:
    icmpv6_send(net, skb, ICMPV6_PKT_TOOBIG, 0, mtu)
    return _failed(net, skb, -errno.EMSGSIZE)


def _failed(net: Ip6, skb: SkBuff, err: int) -> int:
    net.env.count("Ip6FragFails")
    net.drop(skb)
    return err
