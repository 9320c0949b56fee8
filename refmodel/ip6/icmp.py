"""ICMPv6 messages from this host: when an error may be sent, from which address, and how much it quotes.

The law: no error about an error, nor to many, nor from a packet to many (but that it was too big, or had an option that
asks for an answer); it quotes as much as fits 1280 bytes; hosts and all together have their limits.
"""

from enum import IntEnum
from typing import Final

from refmodel.dropreason import Reason
from refmodel.ip6.const import (
    ANY,
    ICMP6_HLEN,
    ICMPV6_INFOMSG_MASK,
    ICMPV6_PARAMPROB,
    ICMPV6_PKT_TOOBIG,
    ICMPV6_UNK_OPTION,
    IP6_HLEN,
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_MULTICAST,
    IPV6_MIN_MTU,
    NEXTHDR_ICMP,
)
from refmodel.ip6.lookup import ip6_dst_hoplimit, ip6_dst_lookup, ip6_route_output, ipv6_chk_addr, ipv6_dev_get_saddr
from refmodel.ip6.net import IP6CB, Ip6, daddr, ipv6_addr_type, ipv6_skip_exthdr, is_multicast, saddr
from refmodel.ip6.route import Route6
from refmodel.netdevice import NetDevice
from refmodel.packet.wire import checksum, pseudo_header
from refmodel.rule import cited, pure
from refmodel.skbuff import ETH_P_IPV6, PACKET_HOST, SkBuff

QUOTE: Final = IPV6_MIN_MTU - IP6_HLEN - ICMP6_HLEN
NAMES: Final = {
    1: "DestUnreachs",
    2: "PktTooBigs",
    3: "TimeExcds",
    4: "ParmProblems",
    128: "Echos",
    129: "EchoReplies",
    130: "GroupMembQueries",
    131: "GroupMembResponses",
    132: "GroupMembReductions",
    133: "RouterSolicits",
    134: "RouterAdvertisements",
    135: "NeighborSolicits",
    136: "NeighborAdvertisements",
    137: "Redirects",
    143: "MLDv2Reports",
}


def count_type(net: Ip6, way: str, type: int) -> None:
    """Counts a message by its type ("In" or "Out"), and by its name if the counters have one."""
    net.env.count(f"Icmp6{way}Type{type}")
    if type in NAMES:
        net.env.count(f"Icmp6{way}{NAMES[type]}")


class May(IntEnum):
    """Whether an error may be sent about a packet."""

    SEND = 0
    TO_MANY = 1  # it went to many
    NO_SOURCE = 2  # its source is nobody or many
    ERROR = 3  # it is an error itself


@pure
def may_send(
    to_many: bool, toobig: bool, unknown_option: bool, from_nobody: bool, from_many: bool, is_error: bool
) -> May:
    """icmp6_send's cascade."""
    return (
        May.TO_MANY
        if to_many and not toobig and not unknown_option
        else May.NO_SOURCE
        if from_nobody or from_many
        else May.ERROR
        if is_error
        else May.SEND
    )


@cited("net/ipv6/icmp.c:is_ineligible", "RFC 4443 2.4")
def is_ineligible(skb: SkBuff) -> bool:
    """The packet is an ICMPv6 error, or one cut off before its type."""
    at, nexthdr, frag_off = ipv6_skip_exthdr(skb.data, IP6_HLEN, skb.data[6])
    if at < 0 or nexthdr != NEXTHDR_ICMP:
        return False
    if at >= len(skb.data):
        return not frag_off
    return not skb.data[at] & ICMPV6_INFOMSG_MASK


@cited("net/ipv6/icmp.c:opt_unrec")
def opt_unrec(skb: SkBuff, offset: int) -> bool:
    """The option's first bits ask for an answer even to many."""
    return offset >= len(skb.data) or skb.data[offset] & 0xC0 == 0x80


@cited("net/ipv6/icmp.c:icmpv6_mask_allow", "net/ipv6/icmp.c:icmpv6_global_allow")
def icmpv6_global_allow(net: Ip6, type: int) -> tuple[bool, bool]:
    """All hosts' common limit: whether the message may go, and whether the host's own limit is asked, too."""
    if not net.env.ip6.limited(type):
        return True, False
    if net.env.icmp_global_allow():
        return True, True
    net.env.note("icmpv6_global_allow", "the host has sent enough ICMP messages")
    net.env.count("IcmpOutRateLimitGlobal")
    return False, False


@cited("net/ipv6/icmp.c:icmpv6_xrlim_allow", "RFC 4443 2.4")
def icmpv6_xrlim_allow(net: Ip6, dest: bytes, source: bytes, oif: int, ask: bool) -> bool:
    """The peer's own limit; wider prefixes have more."""
    if not ask:
        return True
    rt = ip6_route_output(net, dest, source, oif)
    if rt.error:
        net.env.count("Ip6OutNoRoutes")
        allowed = False
    elif rt.dev.loopback:
        allowed = True
    else:
        tmo = net.env.ip6.ratelimit * net.env.hz // 1000
        if rt.plen < 128:
            tmo >>= (128 - rt.plen) >> 5
        allowed = net.env.inet_peer_xrlim_allow(dest, tmo)
    if allowed:
        net.env.icmp_global_consume()
    else:
        net.env.note("icmpv6_xrlim_allow", "this peer was told enough")
        net.env.count("Icmp6OutRateLimitHost")
    return allowed


@cited("net/ipv6/icmp.c:icmp6_dev")
def icmp6_dev(net: Ip6, skb: SkBuff) -> NetDevice | None:
    """The device that a packet belongs to: for one from this host to itself the address's, not lo."""
    dev, rt = skb.dev, skb.dst
    if dev is not None and dev.loopback and rt is not None and rt.idev is not None:
        idev: NetDevice = rt.idev
        return idev
    return dev


@cited("include/linux/icmpv6.h:icmpv6_send", "net/ipv6/icmp.c:icmp6_send", "RFC 4443 2.4")
def icmpv6_send(net: Ip6, skb: SkBuff, type: int, code: int, info: int) -> None:
    """Tells a packet's sender of an error, if that is allowed."""
    env, dev = net.env, skb.dev
    if dev is None or len(skb.data) < IP6_HLEN:
        return
    dest, source = daddr(skb), saddr(skb)
    kind = ipv6_addr_type(source)
    to_many = is_multicast(dest) or skb.pkt_type != PACKET_HOST
    asked = type == ICMPV6_PARAMPROB and code == ICMPV6_UNK_OPTION and opt_unrec(skb, info)
    found = may_send(
        to_many,
        type == ICMPV6_PKT_TOOBIG,
        asked,
        source == ANY,
        bool(kind & IPV6_ADDR_MULTICAST),
        is_ineligible(skb),
    )
    if found != May.SEND:
        env.note("icmp6_send", f"no error about it: {found.name}")
        return
    ask = False
    if not dev.loopback:
        allowed, ask = icmpv6_global_allow(net, type)
        if not allowed:
            return
    ours = not to_many and (ipv6_chk_addr(net, dest, dev) or _anycast(net, dest))
    oif = _ifindex(icmp6_dev(net, skb)) if kind & IPV6_ADDR_LINKLOCAL else 0
    from_addr = dest if ours else _source(net, skb, source)
    if not icmpv6_xrlim_allow(net, source, from_addr, oif, ask):
        return
    rt, from_addr = icmpv6_route_lookup(net, skb, source, from_addr, oif)
    if rt is None:
        env.note("icmp6_send", "no way back")
        return
    env.note("icmp6_send", f"type {type}, code {code}, {info}, to {source.hex()}")
    body = bytes(skb.data[:QUOTE])
    new = build(net, rt, from_addr, source, bytes((type, code, 0, 0)) + info.to_bytes(4, "big") + body, 0, 0)
    env.nf_ct_attach(new, skb)
    net.local_out(new)


@cited("net/ipv6/icmp.c:icmpv6_route_lookup")
def icmpv6_route_lookup(net: Ip6, skb: SkBuff, dest: bytes, source: bytes, oif: int) -> tuple[Route6 | None, bytes]:
    """The way back to a packet's sender, unless that address is anycast, and the address to answer from.

    With IPsec compiled in, the way of the packet's own flow backwards is looked up, too, and its failure counted.
    """
    rt, source = ip6_dst_lookup(net, dest, source, oif)
    if rt is None or (rt.type == "anycast" and not net.env.ip6.error_anycast_as_unicast):
        return None, source
    again, _ = ip6_dst_lookup(net, saddr(skb), daddr(skb), skb.skb_iif)
    return again if again is not None else rt, source


def _ifindex(dev: NetDevice | None) -> int:
    return dev.ifindex if dev is not None else 0


def _anycast(net: Ip6, addr: bytes) -> bool:
    return any(addr in idev.anycast for idev in net.idevs.values())


@cited("net/ipv6/icmp.c:icmpv6_rt_has_prefsrc")
def _source(net: Ip6, skb: SkBuff, dest: bytes) -> bytes:
    """The address of the device where the packet came in, unless the way back asks for another."""
    rt = net.table.lookup(dest)
    if rt is not None and not rt.error and rt.prefsrc:
        return ANY
    dev = net.env.dev_get_by_index(IP6CB(skb).iif)
    return ipv6_dev_get_saddr(net, dev, dest) if dev is not None else ANY


@cited("net/ipv6/ip6_output.c:ip6_append_data", "net/ipv6/ip6_output.c:__ip6_make_skb")
def build(net: Ip6, rt: Route6, source: bytes, dest: bytes, message: bytes, tclass: int, label: int) -> SkBuff:
    """An ICMPv6 message as a packet, its checksum filled in; it may be fragmented here."""
    pseudo = pseudo_header(source, dest, NEXTHDR_ICMP, len(message))
    message = message[:2] + checksum(message[:2] + b"\0\0" + message[4:], pseudo).to_bytes(2, "big") + message[4:]
    idev = net.idev(rt.dev)
    hops = (idev.hop_limit if idev is not None else 64) if is_multicast(dest) else ip6_dst_hoplimit(net, rt)
    if is_multicast(dest):
        hops = 1
    head = (6 << 28 | tclass << 20 | label).to_bytes(4, "big") + len(message).to_bytes(2, "big")
    skb = SkBuff(head + bytes((NEXTHDR_ICMP, hops)) + source + dest + message, ETH_P_IPV6, by="icmp6_send")
    skb.dst = rt
    skb.dev = rt.dev
    skb.transport = IP6_HLEN
    skb.ignore_df = True
    net.env.count("Ip6OutRequests")
    if net.env.kernel < 612:
        net.env.count("Ip6OutOctets", len(skb.data))
    count_type(net, "Out", message[0])
    net.env.count("Icmp6OutMsgs")
    return skb


@cited("net/ipv6/icmp.c:icmpv6_param_prob_reason", "RFC 4443 3.4")
def icmpv6_param_prob(net: Ip6, skb: SkBuff, code: int, pos: int, reason: Reason = Reason.NOT_SPECIFIED) -> None:
    """Tells the sender which byte was wrong, and drops the packet."""
    icmpv6_send(net, skb, ICMPV6_PARAMPROB, code, pos)
    net.drop(skb, reason)
