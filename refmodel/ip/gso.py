"""Super-segments: how long their segments are, and how they are cut where no device does it.

The law: the segments' payloads joined are the super-segment's; each has a header of its own, an identification one
higher than the last, and a checksum. FIN and PSH belong to the last segment alone, CWR to the first.
"""

import errno
from typing import Final

from refmodel.ip.const import IPPROTO_TCP, IPPROTO_UDP
from refmodel.ip.header import ip_hdr, ip_send_check
from refmodel.ip.net import IPCB, Ip, copy_metadata
from refmodel.packet.wire import checksum, pseudo_header
from refmodel.rule import cited, pure
from refmodel.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    SKB_GSO_TCP_FIXEDID,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SKB_GSO_UDP_L4,
    SkBuff,
)

SIZEOF_TCPHDR: Final = 20
SIZEOF_UDPHDR: Final = 8
CSUM: Final = frozenset(("tx-checksum-ip-generic", "tx-checksum-ipv4"))
TCP_FIN: Final = 0x01
TCP_PSH: Final = 0x08
TCP_CWR: Final = 0x80


@pure
def segments(size: int, mss: int) -> int:
    """How many segments of `mss` bytes `size` bytes make (DIV_ROUND_UP)."""
    return (size + mss - 1) // mss


@cited("net/core/gso.c:skb_gso_transport_seglen")
def skb_gso_transport_seglen(skb: SkBuff) -> int:
    """A segment's length with its transport header (bytes)."""
    assert skb.transport is not None
    thlen = 0
    if skb.gso_type & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6):
        thlen = (skb.data[skb.transport + 12] >> 4) * 4
    elif skb.gso_type & SKB_GSO_UDP_L4:
        thlen = SIZEOF_UDPHDR
    return thlen + skb.gso_size


@cited("net/core/gso.c:skb_gso_network_seglen")
def skb_gso_network_seglen(skb: SkBuff) -> int:
    """A segment's length with its IP header (bytes)."""
    assert skb.transport is not None
    return skb.transport + skb_gso_transport_seglen(skb)


@cited("net/core/gso.c:skb_gso_validate_network_len")
def skb_gso_validate_network_len(skb: SkBuff, mtu: int) -> bool:
    """The segments fit the MTU."""
    return skb_gso_network_seglen(skb) <= mtu


@cited("net/core/gso.c:__skb_gso_segment")
def skb_gso_segment(net: Ip, skb: SkBuff, features: frozenset[str]) -> list[SkBuff] | int | None:
    """The segments; None if the device takes the super-segment as it is, a negative errno if it is not valid."""
    return skb_mac_gso_segment(net, skb, features)


@cited("net/core/gso.c:skb_mac_gso_segment")
def skb_mac_gso_segment(net: Ip, skb: SkBuff, features: frozenset[str]) -> list[SkBuff] | int | None:
    """The network protocol cuts it."""
    return inet_gso_segment(net, skb, features)


@cited("net/ipv4/af_inet.c:inet_gso_segment", "RFC 6864 4.1")
def inet_gso_segment(net: Ip, skb: SkBuff, features: frozenset[str]) -> list[SkBuff] | int | None:
    """The transport protocol cuts it, and each segment gets its IP header."""
    iph = ip_hdr(skb)
    if len(skb.data) < 20 or iph.ihl < 5 or len(skb.data) < iph.hdrlen:
        return -errno.EINVAL
    skb.transport = iph.hdrlen
    fixedid = bool(skb.gso_type & SKB_GSO_TCP_FIXEDID)
    if fixedid and not iph.frag_off & 0x4000 and net.env.kernel < 618:
        return -errno.EPROTONOSUPPORT
    segs: list[SkBuff] | int | None = -errno.EPROTONOSUPPORT
    if iph.protocol == IPPROTO_TCP:
        segs = tcp4_gso_segment(net, skb, features)
    elif iph.protocol == IPPROTO_UDP:
        segs = udp4_ufo_fragment(net, skb, features)
    if not isinstance(segs, list):
        return segs
    number = iph.id
    for seg in segs:
        head = ip_hdr(seg)
        if not fixedid:
            head.id = number & 0xFFFF
            number += seg.gso_segs if seg.is_gso else 1
        head.tot_len = seg.len
        ip_send_check(head)
    net.env.note("inet_gso_segment", f"{len(segs)} segments, ids from {iph.id:#06x} on")
    return segs


@cited("net/ipv4/tcp_offload.c:tcp4_gso_segment")
def tcp4_gso_segment(net: Ip, skb: SkBuff, features: frozenset[str]) -> list[SkBuff] | int | None:
    """TCP over IPv4: a checksum that is yet to be made is what the cutting goes by."""
    if not skb.gso_type & SKB_GSO_TCPV4:
        return -errno.EINVAL
    at = skb.transport or 0
    if len(skb.data) < at + SIZEOF_TCPHDR:
        return -errno.EINVAL
    if skb.ip_summed != CHECKSUM_PARTIAL:
        iph = ip_hdr(skb)
        size = len(skb.data) - at
        skb.data[at + 16 : at + 18] = pseudo_header(iph.saddr, iph.daddr, IPPROTO_TCP, size).to_bytes(2, "big")
        skb.ip_summed = CHECKSUM_PARTIAL
    return tcp_gso_segment(net, skb, features)


@cited("net/ipv4/tcp_offload.c:tcp_gso_segment", "RFC 3168 6.1.2")
def tcp_gso_segment(net: Ip, skb: SkBuff, features: frozenset[str]) -> list[SkBuff] | int | None:
    """Segments of gso_size bytes with sequence numbers, flags and checksums of their own."""
    at = skb.transport or 0
    thlen = (skb.data[at + 12] >> 4) * 4
    mss = skb.gso_size
    if thlen < SIZEOF_TCPHDR or len(skb.data) < at + thlen or len(skb.data) - at - thlen <= mss:
        return -errno.EINVAL
    if "tx-tcp-segmentation" in features:
        skb.gso_segs = segments(len(skb.data) - at - thlen, mss)
        return None
    segs = skb_segment(skb, at + thlen, mss)
    seq = int.from_bytes(skb.data[at + 4 : at + 8], "big")
    for i, seg in enumerate(segs):
        th = seg.data
        th[at + 4 : at + 8] = ((seq + i * mss) & 0xFFFFFFFF).to_bytes(4, "big")
        if i < len(segs) - 1:
            th[at + 13] &= ~(TCP_FIN | TCP_PSH)
        if i > 0:
            th[at + 13] &= ~TCP_CWR
        _checksum(seg, at, 16, IPPROTO_TCP, features)
    return segs


@cited("net/ipv4/udp_offload.c:udp4_ufo_fragment")
def udp4_ufo_fragment(net: Ip, skb: SkBuff, features: frozenset[str]) -> list[SkBuff] | int | None:
    """UDP over IPv4."""
    if not skb.gso_type & SKB_GSO_UDP_L4 or len(skb.data) < (skb.transport or 0) + SIZEOF_UDPHDR:
        return -errno.EINVAL
    return __udp_gso_segment(net, skb, features)


@cited("net/ipv4/udp_offload.c:__udp_gso_segment")
def __udp_gso_segment(net: Ip, skb: SkBuff, features: frozenset[str]) -> list[SkBuff] | int | None:
    """Datagrams of gso_size bytes, the last one perhaps shorter, with lengths and checksums of their own."""
    at = skb.transport or 0
    mss = skb.gso_size
    if len(skb.data) - at <= SIZEOF_UDPHDR + mss:
        return -errno.EINVAL
    if skb.ip_summed != CHECKSUM_PARTIAL:
        features = features - CSUM - {"tx-udp-segmentation"}
    if "tx-udp-segmentation" in features:
        skb.gso_segs = segments(len(skb.data) - at - SIZEOF_UDPHDR, mss)
        return None
    segs = skb_segment(skb, at + SIZEOF_UDPHDR, mss)
    for seg in segs:
        seg.data[at + 4 : at + 6] = (len(seg.data) - at).to_bytes(2, "big")
        _checksum(seg, at, 6, IPPROTO_UDP, features)
    return segs


def _checksum(seg: SkBuff, at: int, field: int, protocol: int, features: frozenset[str]) -> None:
    """The segment's checksum, or the pseudo-header's sum where the device makes it; source include/net/gso.h."""
    iph = ip_hdr(seg)
    size = len(seg.data) - at
    pseudo = pseudo_header(iph.saddr, iph.daddr, protocol, size)
    if features & CSUM:
        seg.data[at + field : at + field + 2] = pseudo.to_bytes(2, "big")
        seg.ip_summed = CHECKSUM_PARTIAL
        return
    seg.data[at + field : at + field + 2] = bytes(2)
    total = checksum(bytes(seg.data[at:]), pseudo)
    if protocol == IPPROTO_UDP and total == 0:
        total = 0xFFFF
    seg.data[at + field : at + field + 2] = total.to_bytes(2, "big")
    seg.ip_summed = CHECKSUM_NONE


@cited("net/core/skbuff.c:skb_segment")
def skb_segment(skb: SkBuff, headers: int, mss: int) -> list[SkBuff]:
    """The payload behind `headers` bytes in pieces of `mss`, each behind a copy of the headers."""
    segs = []
    for at in range(headers, len(skb.data), mss):
        seg = SkBuff(bytes(skb.data[:headers]) + bytes(skb.data[at : at + mss]), skb.protocol)
        copy_metadata(seg, skb)
        seg.mac_header = skb.mac_header
        seg.transport = skb.transport
        seg.queue_mapping = skb.queue_mapping
        seg.ignore_df = skb.ignore_df
        seg.cb = IPCB(skb).copy()
        segs.append(seg)
    return segs
