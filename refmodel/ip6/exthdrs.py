"""Extension headers: options hop by hop and of the destination, and routing headers.

The law: an option that is not known is skipped, drops the packet, or is answered, as its first two bits say; padding is
at most 7 bytes, of zeros. Segment routing is off, as it is by default. No mobile node is known here, so what asks for
one is dropped.
"""

from enum import IntEnum

from refmodel.dropreason import Reason
from refmodel.ip6.const import (
    ICMPV6_HDR_FIELD,
    ICMPV6_UNK_OPTION,
    IP6_HLEN,
    IP6SKB_HOPBYHOP,
    IP6SKB_JUMBOGRAM,
    IP6SKB_ROUTERALERT,
    IPV6_ADDR_UNICAST,
    IPV6_MAXPLEN,
    IPV6_SRCRT_TYPE_2,
    IPV6_SRCRT_TYPE_3,
    IPV6_SRCRT_TYPE_4,
    IPV6_TLV_CALIPSO,
    IPV6_TLV_HAO,
    IPV6_TLV_IOAM,
    IPV6_TLV_JUMBO,
    IPV6_TLV_PAD1,
    IPV6_TLV_PADN,
    IPV6_TLV_ROUTERALERT,
)
from refmodel.ip6.icmp import icmpv6_param_prob
from refmodel.ip6.net import IP6CB, Ip6, daddr, ipv6_addr_type, is_multicast, payload_len, trim
from refmodel.rule import cited, pure
from refmodel.skbuff import PACKET_HOST, SkBuff


class Unknown(IntEnum):
    """What the first two bits of an option that is not known ask for."""

    SKIP = 0
    DROP = 1
    ANSWER = 2


@pure
def unknown_option(bits: int, multicast: bool, disallowed: bool) -> Unknown:
    """ip6_tlvopt_unknown's cascade; `bits` are the first two of the option's type."""
    return (
        Unknown.DROP
        if disallowed
        else Unknown.SKIP
        if bits == 0
        else Unknown.DROP
        if bits == 1 or (bits == 3 and multicast)
        else Unknown.ANSWER
    )


@cited("net/ipv6/exthdrs.c:ip6_tlvopt_unknown", "RFC 8200 4.2")
def ip6_tlvopt_unknown(net: Ip6, skb: SkBuff, off: int, disallowed: bool) -> bool:
    """An option that is not known: True if it is skipped, else the packet is gone."""
    found = unknown_option(skb.data[off] >> 6, is_multicast(daddr(skb)), disallowed)
    net.env.note("ip6_tlvopt_unknown", f"option {skb.data[off]:#04x} at {off}: {found.name.lower()}")
    if found == Unknown.SKIP:
        return True
    if found == Unknown.ANSWER:
        icmpv6_param_prob(net, skb, ICMPV6_UNK_OPTION, off, Reason.UNHANDLED_PROTO)
    else:
        net.drop(skb, Reason.UNHANDLED_PROTO)
    return False


@cited("net/ipv6/exthdrs.c:ip6_parse_tlv", "RFC 8200 4.2", "RFC 4942 2.1.9.5")
def ip6_parse_tlv(net: Ip6, skb: SkBuff, hopbyhop: bool, max_count: int) -> bool:
    """Reads an options header, which is at skb.transport; False if the packet was dropped over it."""
    nh = skb.data
    t = skb.transport or 0
    off, size = t + 2, (nh[t + 1] + 1) * 8 - 2
    disallowed, max_count = max_count < 0, abs(max_count)
    count = pad = 0
    while size > 0:
        if nh[off] == IPV6_TLV_PAD1:
            pad += 1
            if pad > 7:
                return _bad(net, skb, "more than 7 bytes of padding")
            off, size = off + 1, size - 1
            continue
        if size < 2 or nh[off + 1] + 2 > size:
            return _bad(net, skb, "an option runs over the header")
        optlen = nh[off + 1] + 2
        if nh[off] == IPV6_TLV_PADN:
            pad += optlen
            if pad > 7 or any(nh[off + 2 : off + optlen]):
                return _bad(net, skb, "padding of more than 7 bytes, or not of zeros")
        else:
            count += 1
            if count > max_count:
                return _bad(net, skb, f"more than {max_count} options")
            if not _option(net, skb, off, hopbyhop, disallowed):
                return False
            pad = 0
        off, size = off + optlen, size - optlen
    return size == 0 or _bad(net, skb, "options run over the header")


def _bad(net: Ip6, skb: SkBuff, why: str) -> bool:
    net.env.note("ip6_parse_tlv", why)
    net.drop(skb, Reason.IP_INHDR)
    return False


def _option(net: Ip6, skb: SkBuff, off: int, hopbyhop: bool, disallowed: bool) -> bool:
    kind = skb.data[off]
    if hopbyhop and kind == IPV6_TLV_ROUTERALERT:
        return ipv6_hop_ra(net, skb, off)
    if hopbyhop and kind == IPV6_TLV_IOAM:
        return ipv6_hop_ioam(net, skb, off)
    if hopbyhop and kind == IPV6_TLV_JUMBO:
        return ipv6_hop_jumbo(net, skb, off)
    if hopbyhop and kind == IPV6_TLV_CALIPSO:
        return ipv6_hop_calipso(net, skb, off)
    if not hopbyhop and kind == IPV6_TLV_HAO and net.env.ip6.mip6:
        return ipv6_dest_hao(net, skb, off)
    return ip6_tlvopt_unknown(net, skb, off, disallowed)


@cited("net/ipv6/exthdrs.c:ipv6_dest_hao", "net/ipv6/xfrm6_input.c:xfrm6_input_addr", "RFC 6275 6.3")
def ipv6_dest_hao(net: Ip6, skb: SkBuff, off: int) -> bool:
    """A home address option needs a binding that IPsec knows, and there is none."""
    opt = IP6CB(skb)
    if opt.dsthao:
        reason = Reason.NOT_SPECIFIED
    elif skb.data[off + 1] != 16:
        reason = Reason.IP_INHDR
    elif not ipv6_addr_type(bytes(skb.data[off + 2 : off + 18])) & IPV6_ADDR_UNICAST:
        reason = Reason.INVALID_PROTO
    else:
        reason = Reason.XFRM_POLICY
    opt.dsthao, opt.dst1 = opt.dst1, 0
    net.env.note("ipv6_dest_hao", f"a home address of no binding: {reason}")
    net.drop(skb, reason)
    return False


@cited("net/ipv6/exthdrs.c:ipv6_hop_ra", "RFC 2711 2.1")
def ipv6_hop_ra(net: Ip6, skb: SkBuff, off: int) -> bool:
    """A router alert is remembered with its value."""
    if skb.data[off + 1] != 2:
        return _bad(net, skb, f"a router alert of {skb.data[off + 1]} bytes")
    IP6CB(skb).flags |= IP6SKB_ROUTERALERT
    IP6CB(skb).ra = int.from_bytes(skb.data[off + 2 : off + 4], "big")
    return True


@cited("net/ipv6/exthdrs.c:ipv6_hop_ioam")
def ipv6_hop_ioam(net: Ip6, skb: SkBuff, off: int) -> bool:
    """A telemetry option must stand at a multiple of 4; since no device takes part it is skipped."""
    return not off & 3 or _bad(net, skb, "telemetry option out of line")


@cited("net/ipv6/exthdrs.c:ipv6_hop_jumbo", "RFC 2675 3")
def ipv6_hop_jumbo(net: Ip6, skb: SkBuff, off: int) -> bool:
    """A jumbo payload option says a length of more than 65,535 bytes, and the header then says 0."""
    if skb.data[off + 1] != 4 or off & 3 != 2:
        return _bad(net, skb, "jumbo option of another length or out of line")
    size = int.from_bytes(skb.data[off + 2 : off + 6], "big")
    if size <= IPV6_MAXPLEN:
        icmpv6_param_prob(net, skb, ICMPV6_HDR_FIELD, off + 2, Reason.IP_INHDR)
        return False
    if payload_len(skb):
        icmpv6_param_prob(net, skb, ICMPV6_HDR_FIELD, off, Reason.IP_INHDR)
        return False
    if size > len(skb.data) - IP6_HLEN:
        net.drop(skb, Reason.PKT_TOO_SMALL)
        return False
    trim(skb, size + IP6_HLEN)
    IP6CB(skb).flags |= IP6SKB_JUMBOGRAM
    return True


@cited("net/ipv6/exthdrs.c:ipv6_hop_calipso", "net/ipv6/calipso.c:calipso_validate", "RFC 5570 5.1")
def ipv6_hop_calipso(net: Ip6, skb: SkBuff, off: int) -> bool:
    """A security label belongs to a domain of interpretation, and none is configured."""
    return _bad(net, skb, "a security label of no domain that is configured")


@cited("net/ipv6/exthdrs.c:ipv6_parse_hopopts", "RFC 8200 4.3")
def ipv6_parse_hopopts(net: Ip6, skb: SkBuff) -> bool:
    """Reads the hop-by-hop header; False if the packet was dropped over it."""
    size = _whole(skb)
    if size is None or size > net.env.ip6.max_hbh_length:
        net.env.note("ipv6_parse_hopopts", "the header is cut off, or too long")
        net.drop(skb)
        return False
    IP6CB(skb).flags |= IP6SKB_HOPBYHOP
    if not ip6_parse_tlv(net, skb, True, net.env.ip6.max_hbh_opts_number):
        return False
    skb.transport = (skb.transport or 0) + size
    IP6CB(skb).nhoff = IP6_HLEN
    return True


def _whole(skb: SkBuff) -> int | None:
    """The length of the extension header at skb.transport; None if it is cut off."""
    t = skb.transport or 0
    if t + 8 > len(skb.data):
        return None
    size = (skb.data[t + 1] + 1) * 8
    return size if t + size <= len(skb.data) else None


@cited("net/ipv6/exthdrs.c:ipv6_destopt_rcv", "RFC 8200 4.6")
def ipv6_destopt_rcv(net: Ip6, skb: SkBuff) -> int:
    """Reads a destination options header: 1 if what follows is next, -1 if the packet was dropped."""
    size = _whole(skb)
    if size is None:
        net.env.count("Ip6InHdrErrors")
        net.env.note("ipv6_destopt_rcv", "the header is cut off")
        net.drop(skb)
        return -1
    if size > net.env.ip6.max_dst_opts_length:
        net.drop(skb)
        return -1
    opt = IP6CB(skb)
    opt.lastopt = opt.dst1 = skb.transport or 0
    if not ip6_parse_tlv(net, skb, False, net.env.ip6.max_dst_opts_number):
        net.env.count("Ip6InHdrErrors")
        return -1
    skb.transport = (skb.transport or 0) + size
    opt.nhoff = opt.lastopt
    return 1


@cited("net/ipv6/exthdrs.c:ipv6_rthdr_rcv", "RFC 8200 4.4", "RFC 5095 3")
def ipv6_rthdr_rcv(net: Ip6, skb: SkBuff) -> int:
    """Reads a routing header: with no segments left it is passed over, else its type is refused."""
    env = net.env
    size = _whole(skb)
    if size is None:
        env.count("Ip6InHdrErrors")
        env.note("ipv6_rthdr_rcv", "the header is cut off")
        net.drop(skb)
        return -1
    t = skb.transport or 0
    if is_multicast(daddr(skb)) or skb.pkt_type != PACKET_HOST:
        env.count("Ip6InAddrErrors")
        env.note("ipv6_rthdr_rcv", "not to this host alone")
        net.drop(skb)
        return -1
    kind, segments_left = skb.data[t + 2], skb.data[t + 3]
    if kind in (IPV6_SRCRT_TYPE_3, IPV6_SRCRT_TYPE_4):
        env.note("ipv6_rthdr_rcv", f"type {kind}: segment routing is off")
        net.drop(skb, Reason.IPV6DISABLED if net.idev(skb.dev) is None else Reason.NOT_SPECIFIED)
        return -1
    opt = IP6CB(skb)
    if kind == IPV6_SRCRT_TYPE_2 and env.ip6.mip6:
        malformed = segments_left != 0 and (skb.data[t + 1] != 2 or segments_left != 1)
        env.count("Ip6InHdrErrors" if malformed else "Ip6InAddrErrors")
        env.note("ipv6_rthdr_rcv", f"type 2, {segments_left} segments left: no binding")
        net.drop(skb)
        return -1
    if segments_left == 0:
        opt.lastopt = opt.srcrt = t
        skb.transport = t + size
        opt.dst0, opt.dst1 = opt.dst1, 0
        opt.nhoff = t
        env.note("ipv6_rthdr_rcv", f"type {kind}, no segments left")
        return 1
    env.count("Ip6InHdrErrors")
    env.note("ipv6_rthdr_rcv", f"type {kind}, {segments_left} segments left: refused")
    icmpv6_param_prob(net, skb, ICMPV6_HDR_FIELD, t + 2)
    return -1
