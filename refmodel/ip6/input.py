"""An IPv6 packet comes in: the header is checked, the way is found, next headers are followed to the transport.

The law: what is wrong is found in the kernel's order, so that one counter and one reason stand for it; extension
headers are handled strictly one after the other, each by its own handler.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from refmodel.dropreason import Reason
from refmodel.ip6 import exthdrs, reasm
from refmodel.ip6.const import (
    ICMPV6_PARAMPROB,
    ICMPV6_UNK_NEXTHDR,
    INET_ECN_MASK,
    IP6_HLEN,
    LOOPBACK,
    NET_RX_DROP,
    NEXTHDR_DEST,
    NEXTHDR_FRAGMENT,
    NEXTHDR_HOP,
    NEXTHDR_ICMP,
    NEXTHDR_NONE,
    NEXTHDR_ROUTING,
    NEXTHDR_TCP,
    NEXTHDR_UDP,
    NF_INET_LOCAL_IN,
    NF_INET_PRE_ROUTING,
)
from refmodel.ip6.forward import ip6_forward, ip6_pkt_discard, ip6_pkt_prohibit
from refmodel.ip6.icmp import icmpv6_send
from refmodel.ip6.icmprcv import icmpv6_err, icmpv6_rcv
from refmodel.ip6.lookup import ip6_route_input
from refmodel.ip6.net import IP6CB, NF_HOOK, Ip6, Ip6cb, daddr, is_multicast, payload_len, route, saddr, tclass, trim
from refmodel.ip6.output import ip6_send_skb
from refmodel.netdevice import IFF_LOOPBACK, NetDevice
from refmodel.rule import cited, pure
from refmodel.skbuff import PACKET_BROADCAST, PACKET_LOOPBACK, PACKET_MULTICAST, PACKET_OTHERHOST, SkBuff

ECN_COUNTERS: Final = ("Ip6InNoECTPkts", "Ip6InECT1Pkts", "Ip6InECT0Pkts", "Ip6InCEPkts")


class Header(IntEnum):
    """What ip6_rcv_core finds, in its order."""

    OTHERHOST = 0
    DISABLED = 1  # the device has no IPv6
    SHORT = 2
    VERSION = 3
    LOOPBACK = 4  # a loopback address from outside
    NODELOCAL = 5  # a multicast address of this node only, from outside
    L2_MULTICAST = 6
    SCOPE_0 = 7
    MULTICAST_SOURCE = 8
    TRUNCATED = 9
    GOOD = 10


@pure
def header_verdict(
    otherhost: bool, disabled: bool, size: int, version: int, outside: bool, loop: bool, scope: int,
    many: bool, source_many: bool, length: int, jumbo: bool,
) -> Header:  # fmt: skip
    """The first thing that is wrong with a header in a packet of `size` bytes.

    `outside`: it comes from no loopback device; `loop`: an address is ::1; `scope`: of a multicast destination (-1: it
    is none); `many`: one host's address in a frame to many, where the device refuses that; `length`: header and
    payload; `jumbo`: the length may stand in an option.
    """
    return (
        Header.OTHERHOST
        if otherhost
        else Header.DISABLED
        if disabled
        else Header.SHORT
        if size < IP6_HLEN
        else Header.VERSION
        if version != 6
        else Header.LOOPBACK
        if loop and outside
        else Header.NODELOCAL
        if scope == 1 and outside
        else Header.L2_MULTICAST
        if many and scope < 0
        else Header.SCOPE_0
        if scope == 0
        else Header.MULTICAST_SOURCE
        if source_many
        else Header.TRUNCATED
        if length > size and not jumbo
        else Header.GOOD
    )


REASONS: Final = {
    Header.VERSION: Reason.UNHANDLED_PROTO,
    Header.L2_MULTICAST: Reason.UNICAST_IN_L2_MULTICAST,
}


@cited("net/ipv6/ip6_input.c:ip6_rcv_core", "RFC 8200 3", "RFC 4291 2.5.3", "RFC 4291 2.7")
def ip6_rcv_core(net: Ip6, skb: SkBuff, dev: NetDevice) -> SkBuff | None:
    """The header is checked and the packet cut to its length; None if it was dropped."""
    env, idev = net.env, net.idev(dev)
    whole = len(skb.data) >= IP6_HLEN
    dest, source = (daddr(skb), saddr(skb)) if whole else (bytes(16), bytes(16))
    in_many = skb.pkt_type in (PACKET_BROADCAST, PACKET_MULTICAST)
    disabled = idev is None or idev.disable_ipv6
    plen = payload_len(skb) if whole else 0
    found = header_verdict(
        skb.pkt_type == PACKET_OTHERHOST,
        disabled,
        len(skb.data),
        skb.data[0] >> 4 if whole else 0,
        not dev.flags & IFF_LOOPBACK,
        LOOPBACK in (source, dest),
        dest[1] & 0x0F if is_multicast(dest) and skb.pkt_type != PACKET_LOOPBACK else -1,
        in_many and idev is not None and idev.drop_unicast_in_l2_multicast,
        is_multicast(source),
        IP6_HLEN + plen,
        plen == 0 and whole and skb.data[6] == NEXTHDR_HOP,
    )
    if found == Header.OTHERHOST:
        env.note("ip6_rcv_core", "for another host at this link: PACKET_OTHERHOST")
        net.drop(skb, Reason.OTHERHOST)
        return None
    net.po("In", len(skb.data))
    if found == Header.DISABLED:
        env.note("ip6_rcv_core", f"{dev.name} has no IPv6")
        env.count("Ip6InDiscards")
        net.drop(skb, Reason.NOT_SPECIFIED if idev is None else Reason.IPV6DISABLED)
        return None
    came = skb.dst.idev if skb.dst is not None and skb.dst.idev is not None else dev
    skb.cb = Ip6cb(came.ifindex)
    if found > Header.VERSION:
        env.count(ECN_COUNTERS[tclass(skb) & INET_ECN_MASK], max(1, skb.gso_segs))
    if found == Header.TRUNCATED:
        env.note("ip6_rcv_core", f"{len(skb.data)} bytes came of {IP6_HLEN + plen}")
        env.count("Ip6InTruncatedPkts")
        net.drop(skb, Reason.PKT_TOO_SMALL)
        return None
    if found != Header.GOOD:
        env.note("ip6_rcv_core", f"header is not valid: {found.name}")
        env.count("Ip6InHdrErrors")
        net.drop(skb, REASONS.get(found, Reason.IP_INHDR))
        return None
    skb.transport = IP6_HLEN
    IP6CB(skb).nhoff = 6
    if plen or skb.data[6] != NEXTHDR_HOP:
        trim(skb, IP6_HLEN + plen)
    if skb.data[6] == NEXTHDR_HOP and not exthdrs.ipv6_parse_hopopts(net, skb):
        env.count("Ip6InHdrErrors")
        return None
    env.note("ip6_rcv_core", f"{len(skb.data)} bytes, next header {skb.data[6]}")
    return skb


@cited("net/ipv6/ip6_input.c:ipv6_rcv")
def ipv6_rcv(net: Ip6, skb: SkBuff, dev: NetDevice) -> int:
    """An IPv6 packet came in over a device."""
    if ip6_rcv_core(net, skb, dev) is None:
        return NET_RX_DROP
    return NF_HOOK(net, NF_INET_PRE_ROUTING, skb, dev, None, lambda x: ip6_rcv_finish(net, x))


@cited("net/ipv6/ip6_input.c:ip6_rcv_finish")
def ip6_rcv_finish(net: Ip6, skb: SkBuff) -> int:
    """The packet passed the first hook: its way is found, and it takes it."""
    ip6_rcv_finish_core(net, skb)
    return dst_input(net, skb)


@cited("net/ipv6/ip6_input.c:ip6_rcv_finish_core")
def ip6_rcv_finish_core(net: Ip6, skb: SkBuff) -> None:
    """A connection may know the way; else the route is looked up."""
    if skb.dst is None and skb.sk is None:
        if skb.data[6] == NEXTHDR_TCP:
            net.env.tcp_v6_early_demux(skb)
        elif skb.data[6] == NEXTHDR_UDP:
            net.env.udp_v6_early_demux(skb)
    if skb.dst is None:
        ip6_route_input(net, skb)
    net.env.note("ip6_rcv_finish_core", f"{route(skb).type} route: {route(skb).input}")


@cited("include/net/dst.h:dst_input")
def dst_input(net: Ip6, skb: SkBuff) -> int:
    """The packet goes where its route's input function leads."""
    return INPUTS[route(skb).input](net, skb)


@cited("net/core/dst.c:dst_discard")
def dst_discard(net: Ip6, skb: SkBuff) -> int:
    """The packet ends here, in silence."""
    net.drop(skb)
    return 0


# ----------------------------------------------------------------------------------------------------- local delivery


@cited("net/ipv6/ip6_input.c:ip6_input")
def ip6_input(net: Ip6, skb: SkBuff) -> int:
    """The packet is for this host: it passes the hook."""
    return NF_HOOK(net, NF_INET_LOCAL_IN, skb, skb.dev, None, lambda x: ip6_input_finish(net, x))


@cited("net/ipv6/ip6_input.c:ip6_input_finish")
def ip6_input_finish(net: Ip6, skb: SkBuff) -> int:
    """Its next headers are followed."""
    ip6_protocol_deliver_rcu(net, skb)
    return 0


@cited("net/ipv6/ip6_input.c:ip6_mc_input")
def ip6_mc_input(net: Ip6, skb: SkBuff) -> int:
    """A multicast packet is delivered if this host listens to the group; it is not forwarded."""
    net.po("InMcast", len(skb.data))
    dev = skb.dev
    if dev is not None and net.env.ipv6_chk_mcast_addr(dev, daddr(skb), None):
        return ip6_input(net, skb)
    net.env.note("ip6_mc_input", "nobody here listens to the group")
    net.drop(skb)
    return 0


@cited("net/ipv6/ip6_input.c:ip6_protocol_deliver_rcu", "RFC 8200 4")
def ip6_protocol_deliver_rcu(net: Ip6, skb: SkBuff) -> None:
    """Follows next headers: raw sockets get copies, each header's handler says whether another follows."""
    env = net.env
    have_final = False
    final = -1
    while True:
        nhoff = IP6CB(skb).nhoff
        if have_final:
            nexthdr = final
        elif (skb.transport or 0) > len(skb.data):
            return _discard(net, skb, Reason.NOT_SPECIFIED, "the next header lies behind the packet's end")
        else:
            nexthdr = skb.data[nhoff]
        raw = env.raw6_local_deliver(skb, nexthdr)
        ipprot = net.protos.get(nexthdr)
        if ipprot is None:
            return _unknown(net, skb, nexthdr, nhoff, raw)
        if have_final and not ipprot.final:
            return _discard(net, skb, Reason.NOT_SPECIFIED, "an extension header behind the transport header")
        if ipprot.final and not have_final:
            have_final = True
            if _not_for_us(net, skb, nexthdr):
                return _discard(net, skb, Reason.IP_INADDRERRORS, "nobody here listens to the group")
        if not ipprot.no_policy:
            env.nf_reset_ct(skb)
        env.note("ip6_protocol_deliver_rcu", f"next header {nexthdr} at {skb.transport}")
        ret = ipprot.handler(skb)
        if ret > 0:
            if ipprot.final:
                final = ret
            else:
                have_final = False
            continue
        if ret == 0:
            env.count("Ip6InDelivers")
        return None


def _discard(net: Ip6, skb: SkBuff, reason: Reason, why: str) -> None:
    net.env.note("ip6_protocol_deliver_rcu", why)
    net.env.count("Ip6InDiscards")
    net.drop(skb, reason)


def _unknown(net: Ip6, skb: SkBuff, nexthdr: int, nhoff: int, raw: bool) -> None:
    env = net.env
    if raw:
        env.note("ip6_protocol_deliver_rcu", f"next header {nexthdr}: only raw sockets have it")
        env.count("Ip6InDelivers")
        env.consume_skb(skb)
        return
    env.note("ip6_protocol_deliver_rcu", f"next header {nexthdr}: nobody has it")
    env.count("Ip6InUnknownProtos")
    icmpv6_send(net, skb, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, nhoff)
    net.drop(skb, Reason.IP_NOPROTO)


def _not_for_us(net: Ip6, skb: SkBuff, nexthdr: int) -> bool:
    dev = skb.dev
    if not is_multicast(daddr(skb)) or dev is None:
        return False
    if net.env.ipv6_chk_mcast_addr(dev, daddr(skb), saddr(skb)):
        return False
    t = skb.transport or 0
    mld = nexthdr == NEXTHDR_ICMP and t < len(skb.data) and skb.data[t] in (130, 131, 132, 143)
    return not mld


ErrFn = Callable[[Ip6, SkBuff, int, int, int, int], None]


class Handler:
    """struct inet6_protocol of one of IPv6's own headers."""

    def __init__(
        self, net: Ip6, fn: Callable[[Ip6, SkBuff], int], final: bool = False, err: ErrFn | None = None
    ) -> None:
        self.final = final
        self.no_policy = True
        self.handler = lambda skb: fn(net, skb)
        self.err_handler = None if err is None else (lambda skb, t, c, at, info: err(net, skb, t, c, at, info))


def install(net: Ip6) -> None:
    """Registers the handlers of extension headers, fragments and ICMPv6; source net/ipv6/af_inet6.c:inet6_init."""
    net.local_out = lambda skb: ip6_send_skb(net, skb)
    net.protos[NEXTHDR_ROUTING] = Handler(net, exthdrs.ipv6_rthdr_rcv)
    net.protos[NEXTHDR_DEST] = Handler(net, exthdrs.ipv6_destopt_rcv)
    net.protos[NEXTHDR_NONE] = Handler(net, dst_discard)
    net.protos[NEXTHDR_FRAGMENT] = Handler(net, reasm.ipv6_frag_rcv)
    net.protos[NEXTHDR_ICMP] = Handler(net, icmpv6_rcv, True, icmpv6_err)


INPUTS: Final[dict[str, Callable[[Ip6, SkBuff], int]]] = {
    "ip6_input": ip6_input,
    "ip6_mc_input": ip6_mc_input,
    "ip6_forward": lambda net, skb: ip6_forward(net, skb, ip6_input),
    "ip6_pkt_discard": ip6_pkt_discard,
    "ip6_pkt_prohibit": ip6_pkt_prohibit,
    "dst_discard": dst_discard,
}
