"""GRO of the transport layer: which segment follows which, and what ends a super-segment.

The law: TCP segments merge while ports, ACK, window, options and flags are equal and sequence numbers follow; the first
one's length is the measure. UDP datagrams merge where a socket or the device asks for it, up to 64 of one length and a
shorter last one.
"""

from typing import Final

from refmodel.packet.wire import pseudo_header
from refmodel.receive.env import Env
from refmodel.receive.gro_flow import becomes_fixed, cwr_forbids, ends, id_flush, ipid_offset, wrong_size
from refmodel.receive.gro_skb import (
    cb,
    skb_gro_checksum_validate,
    skb_gro_len,
    skb_gro_offset,
    skb_gro_pull,
    skb_gro_receive,
)
from refmodel.rule import cited
from refmodel.skbuff import (
    CHECKSUM_PARTIAL,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCP_FIXEDID,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SKB_GSO_UDP_L4,
    SkBuff,
)
from refmodel.types import M32

IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
UDP_GRO_CNT_MAX: Final = 64
TCP_HLEN: Final = 20
UDP_HLEN: Final = 8
FIN, SYN, RST, PSH, URG, CWR = 0x01, 0x02, 0x04, 0x08, 0x20, 0x80
GRO_UDP_FWD: Final = "rx-udp-gro-forwarding"


def inet_gro_compute_pseudo(skb: SkBuff, proto: int) -> int:
    """The pseudo-header's sum over IPv4's addresses."""
    n = cb(skb).network_offset
    return pseudo_header(bytes(skb.data[n + 12 : n + 16]), bytes(skb.data[n + 16 : n + 20]), proto, skb_gro_len(skb))


def ip6_gro_compute_pseudo(skb: SkBuff, proto: int) -> int:
    """The pseudo-header's sum over IPv6's addresses."""
    n = cb(skb).network_offset
    return pseudo_header(bytes(skb.data[n + 8 : n + 24]), bytes(skb.data[n + 24 : n + 40]), proto, skb_gro_len(skb))


# ------------------------------------------------------------------------------------- the network header, once more


@cited("include/net/gro.h:gro_receive_network_flush")
def gro_receive_network_flush(env: Env, skb: SkBuff, p: SkBuff) -> bool:
    """The network headers of two packets of a flow differ in what a merge must keep."""
    if env.kernel < 612:
        return _network_flush_6_1(p)
    diff = (p.transport or 0) - cb(p).network_offset
    nh, nh2 = (skb.transport or 0) - diff, (p.transport or 0) - diff
    if skb.data[nh] >> 4 == 6:
        return ipv6_gro_flush(env, skb, nh, p, nh2)
    return inet_gro_flush(env, skb, nh, p, nh2)


def _network_flush_6_1(p: SkBuff) -> bool:
    c = cb(p)
    if c.flush_id != 1 or c.count != 1 or not c.is_atomic:
        return bool(c.flush | c.flush_id)
    c.is_atomic = False
    return bool(c.flush)


@cited("include/net/gro.h:inet_gro_flush", "RFC 6864 4.1")
def inet_gro_flush(env: Env, skb: SkBuff, nh: int, p: SkBuff, nh2: int) -> bool:
    """TTL, TOS and DF must be equal; ids count segments, or stand still if the second's did and DF allows it."""
    iph, iph2 = skb.data[nh : nh + 20], p.data[nh2 : nh2 + 20]
    if iph[8] != iph2[8] or iph[1] != iph2[1] or (iph[6] ^ iph2[6]) & 0x40:
        env.note("inet_gro_flush", "TTL, TOS or DF differ")
        return True
    c = cb(p)
    offset = ipid_offset(int.from_bytes(iph[4:6], "big"), int.from_bytes(iph2[4:6], "big"))
    if becomes_fixed(offset, c.count, bool(iph[6] & 0x40), env.kernel):
        c.ip_fixedid = True
    flush = id_flush(offset, c.count, c.ip_fixedid)
    env.note("inet_gro_flush", f"id {offset} after the first, {c.count} segments{', fixed' if c.ip_fixedid else ''}")
    return flush


@cited("include/net/gro.h:ipv6_gro_flush")
def ipv6_gro_flush(env: Env, skb: SkBuff, nh: int, p: SkBuff, nh2: int) -> bool:
    """Traffic class and hop limit must be equal."""
    a, b = skb.data[nh : nh + 8], p.data[nh2 : nh2 + 8]
    flush = bool((a[0] ^ b[0]) & 0x0F or (a[1] ^ b[1]) & 0xF0 or a[7] != b[7])
    env.note("ipv6_gro_flush", "traffic class or hop limit differ" if flush else "equal")
    return flush


# ---------------------------------------------------------------------------------------------------------------- TCP


def tcp_gro_receive_checked(env: Env, head: list[SkBuff], skb: SkBuff, ipv6: bool) -> SkBuff | None:
    """tcp4_gro_receive or tcp6_gro_receive, by family."""
    return tcp6_gro_receive(env, head, skb) if ipv6 else tcp4_gro_receive(env, head, skb)


@cited("net/ipv4/tcp_offload.c:tcp4_gro_receive")
def tcp4_gro_receive(env: Env, head: list[SkBuff], skb: SkBuff) -> SkBuff | None:
    """Verifies the checksum, unless the packet is not merged anyway, and looks for the flow."""
    if not cb(skb).flush and not skb_gro_checksum_validate(env, skb, IPPROTO_TCP, inet_gro_compute_pseudo):
        env.note("tcp4_gro_receive", "checksum wrong: past what is held")
        cb(skb).flush = 1
        return None
    off = tcp_gro_pull_header(env, skb)
    return None if off is None else tcp_gro_receive(env, head, skb, off)


@cited("net/ipv6/tcpv6_offload.c:tcp6_gro_receive")
def tcp6_gro_receive(env: Env, head: list[SkBuff], skb: SkBuff) -> SkBuff | None:
    """Verifies the checksum, unless the packet is not merged anyway, and looks for the flow."""
    if not cb(skb).flush and not skb_gro_checksum_validate(env, skb, IPPROTO_TCP, ip6_gro_compute_pseudo):
        env.note("tcp6_gro_receive", "checksum wrong: past what is held")
        cb(skb).flush = 1
        return None
    off = tcp_gro_pull_header(env, skb)
    return None if off is None else tcp_gro_receive(env, head, skb, off)


@cited("net/ipv4/tcp_offload.c:tcp_gro_pull_header")
def tcp_gro_pull_header(env: Env, skb: SkBuff) -> int | None:
    """Goes past the TCP header if all of it is there; where it began, or None."""
    off = skb_gro_offset(skb)
    thlen = (skb.data[off + 12] >> 4) * 4 if off + TCP_HLEN <= len(skb.data) else 0
    if thlen < TCP_HLEN or off + thlen > len(skb.data):
        env.note("tcp_gro_pull_header", f"header of {thlen} bytes")
        cb(skb).flush = 1
        return None
    skb_gro_pull(skb, thlen)
    return off


@cited("net/ipv4/tcp_offload.c:tcp_gro_lookup")
def tcp_gro_lookup(head: list[SkBuff], ports: bytes) -> SkBuff | None:
    """The youngest held packet of the flow; all before it turn out to be of others."""
    for p in head:
        if not cb(p).same_flow:
            continue
        t = p.transport or 0
        if p.data[t : t + 4] == ports:
            return p
        cb(p).same_flow = False
    return None


@cited("net/ipv4/tcp_offload.c:tcp_gro_receive", "net/core/gro.c:skb_gro_receive")
def tcp_gro_receive(env: Env, head: list[SkBuff], skb: SkBuff, off: int) -> SkBuff | None:
    """Merges a segment with the held one if it continues it; the held one that must go up now, or None.

    `off`: where its TCP header begins.
    """
    th = bytes(skb.data[off : skb_gro_offset(skb)])
    n = skb_gro_len(skb)
    flags = th[13]
    p = tcp_gro_lookup(head, th[:4])
    mss = 1
    if p is not None:
        why = _differs(env, th, n, skb, p)
        if not why and not skb_gro_receive(env, p, skb):
            why = "refused"
        if why:
            env.note("tcp_gro_receive", f"not merged: {why}")
        else:
            mss = p.gso_size
            p.data[(p.transport or 0) + 13] |= flags & (FIN | PSH)
    last = ends(n, mss, *(bool(flags & f) for f in (URG, PSH, RST, SYN, FIN)))
    if skb.is_gso:
        last = n != cb(skb).count * skb.gso_size or ends(
            mss, mss, *(bool(flags & f) for f in (URG, PSH, RST, SYN, FIN))
        )
    if last:
        env.note("tcp_gro_receive", f"nothing may follow: {n} bytes of {mss}, flags {flags:#04x}")
    cb(skb).flush |= int(last)
    return p if p is not None and (not cb(skb).same_flow or last) else None


def _differs(env: Env, th: bytes, n: int, skb: SkBuff, p: SkBuff) -> str:
    t = p.transport or 0
    th2 = p.data[t : t + len(th)]
    if cwr_forbids(bool(th[13] & CWR), bool(th2[13] & CWR), env.kernel):
        return "CWR"
    if (th[13] ^ th2[13]) & ~(FIN | PSH | CWR) or th[12] != th2[12]:
        return "flags differ"
    if th[14:16] != th2[14:16]:
        return "windows differ"
    if th[8:12] != th2[8:12]:
        return "ACKs differ"
    if th[20:] != th2[20:]:
        return "options differ"
    if gro_receive_network_flush(env, skb, p):
        return "IP headers differ"
    if skb.gso_size != p.gso_size if skb.is_gso else wrong_size(n, p.gso_size):
        return f"{n} bytes where the first had {p.gso_size}"
    held = len(p.data) - cb(p).data_offset
    if (int.from_bytes(th2[4:8], "big") + held - int.from_bytes(th[4:8], "big")) & M32:
        return "not in line"
    return ""


@cited("net/ipv4/tcp_offload.c:tcp4_gro_complete")
def tcp4_gro_complete(env: Env, skb: SkBuff, thoff: int) -> None:
    """The checksum becomes the pseudo-header's, as in a packet that is yet to be sent."""
    pseudo = pseudo_header(bytes(skb.data[12:16]), bytes(skb.data[16:20]), IPPROTO_TCP, len(skb.data) - thoff)
    skb.data[thoff + 16 : thoff + 18] = pseudo.to_bytes(2, "big")
    skb.gso_type |= SKB_GSO_TCPV4
    if cb(skb).ip_fixedid if env.kernel >= 612 else cb(skb).is_atomic:
        skb.gso_type |= SKB_GSO_TCP_FIXEDID
    tcp_gro_complete(env, skb, thoff)


@cited("net/ipv6/tcpv6_offload.c:tcp6_gro_complete")
def tcp6_gro_complete(env: Env, skb: SkBuff, thoff: int) -> None:
    """The checksum becomes the pseudo-header's, as in a packet that is yet to be sent."""
    pseudo = pseudo_header(bytes(skb.data[8:24]), bytes(skb.data[24:40]), IPPROTO_TCP, len(skb.data) - thoff)
    skb.data[thoff + 16 : thoff + 18] = pseudo.to_bytes(2, "big")
    skb.gso_type |= SKB_GSO_TCPV6
    tcp_gro_complete(env, skb, thoff)


@cited("net/ipv4/tcp_offload.c:tcp_gro_complete")
def tcp_gro_complete(env: Env, skb: SkBuff, thoff: int) -> None:
    """It is a super-segment now, to be cut again if it is forwarded."""
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.gso_segs = cb(skb).count
    if skb.data[thoff + 13] & CWR:
        skb.gso_type |= SKB_GSO_TCP_ECN
    env.note("tcp_gro_complete", f"{skb.gso_segs} segments of {skb.gso_size}")


# ---------------------------------------------------------------------------------------------------------------- UDP


def udp_gro_receive_checked(env: Env, head: list[SkBuff], skb: SkBuff, ipv6: bool) -> SkBuff | None:
    """udp4_gro_receive or udp6_gro_receive, by family."""
    return udp6_gro_receive(env, head, skb) if ipv6 else udp4_gro_receive(env, head, skb)


@cited("net/ipv4/udp_offload.c:udp4_gro_receive")
def udp4_gro_receive(env: Env, head: list[SkBuff], skb: SkBuff) -> SkBuff | None:
    """Verifies a checksum that is there, and looks for a socket that wants merged datagrams."""
    return _udp_gro_receive(env, head, skb, False)


@cited("net/ipv6/udp_offload.c:udp6_gro_receive")
def udp6_gro_receive(env: Env, head: list[SkBuff], skb: SkBuff) -> SkBuff | None:
    """Verifies a checksum that is there, and looks for a socket that wants merged datagrams."""
    return _udp_gro_receive(env, head, skb, True)


def _udp_gro_receive(env: Env, head: list[SkBuff], skb: SkBuff, ipv6: bool) -> SkBuff | None:
    off = skb_gro_offset(skb)
    c = cb(skb)
    if off + UDP_HLEN > len(skb.data):
        env.note("udp6_gro_receive" if ipv6 else "udp4_gro_receive", "shorter than a header")
        c.flush = 1
        return None
    check = int.from_bytes(skb.data[off + 6 : off + 8], "big")
    if not c.flush:
        pseudo = ip6_gro_compute_pseudo if ipv6 else inet_gro_compute_pseudo
        if not skb_gro_checksum_validate(env, skb, IPPROTO_UDP, pseudo, True, check):
            c.flush = 1
            return None
    sport = int.from_bytes(skb.data[off : off + 2], "big")
    dport = int.from_bytes(skb.data[off + 2 : off + 4], "big")
    return udp_gro_receive(env, head, skb, env.udp_gro_lookup(skb, sport, dport))


@cited("net/ipv4/udp_offload.c:udp_gro_receive")
def udp_gro_receive(env: Env, head: list[SkBuff], skb: SkBuff, sk: bool | None) -> SkBuff | None:
    """Datagrams merge where the socket has UDP_GRO, or, without a socket, the device forwards them merged.

    `sk`: None without a socket, else whether it has UDP_GRO.
    """
    forwards = skb.dev is not None and GRO_UDP_FWD in skb.dev.features
    if sk or (sk is None and forwards):
        return udp_gro_receive_segment(env, head, skb)
    env.note("udp_gro_receive", "nobody asked for merged datagrams")
    cb(skb).flush |= 1
    return None


@cited("net/ipv4/udp_offload.c:udp_gro_receive_segment")
def udp_gro_receive_segment(env: Env, head: list[SkBuff], skb: SkBuff) -> SkBuff | None:
    """Merges a datagram with the held ones of its ports; the held packet that must go up now, or None."""
    off = skb_gro_offset(skb)
    uh = bytes(skb.data[off : off + UDP_HLEN])
    ulen = int.from_bytes(uh[4:6], "big")
    if uh[6:8] == b"\0\0" or ulen <= UDP_HLEN or ulen != skb_gro_len(skb):
        env.note("udp_gro_receive_segment", f"no checksum, or length {ulen} of {skb_gro_len(skb)}")
        cb(skb).flush = 1
        return None
    skb_gro_pull(skb, UDP_HLEN)
    for p in head:
        if not cb(p).same_flow:
            continue
        t = p.transport or 0
        if p.data[t : t + 4] != uh[:4]:
            cb(p).same_flow = False
            continue
        ulen2 = int.from_bytes(p.data[t + 4 : t + 6], "big")
        flush = gro_receive_network_flush(env, skb, p)
        fits = not (ulen > ulen2 or flush)
        merged = fits and skb_gro_receive(env, p, skb)
        env.note("udp_gro_receive_segment", f"{ulen} after {ulen2}: {'merged' if merged else 'not merged'}")
        return p if not merged or ulen != ulen2 or cb(p).count >= UDP_GRO_CNT_MAX else None
    env.note("udp_gro_receive_segment", "the first of its ports")
    return None


@cited("net/ipv4/udp_offload.c:udp4_gro_complete")
def udp4_gro_complete(env: Env, skb: SkBuff, nhoff: int) -> None:
    """The checksum becomes the pseudo-header's."""
    pseudo = pseudo_header(bytes(skb.data[12:16]), bytes(skb.data[16:20]), IPPROTO_UDP, len(skb.data) - nhoff)
    udp_gro_complete(env, skb, nhoff, pseudo)


@cited("net/ipv6/udp_offload.c:udp6_gro_complete")
def udp6_gro_complete(env: Env, skb: SkBuff, nhoff: int) -> None:
    """The checksum becomes the pseudo-header's."""
    pseudo = pseudo_header(bytes(skb.data[8:24]), bytes(skb.data[24:40]), IPPROTO_UDP, len(skb.data) - nhoff)
    udp_gro_complete(env, skb, nhoff, pseudo)


@cited("net/ipv4/udp_offload.c:udp_gro_complete", "net/ipv4/udp_offload.c:udp_gro_complete_segment")
def udp_gro_complete(env: Env, skb: SkBuff, nhoff: int, pseudo: int) -> None:
    """The first header gets the length of all; the packet is to be cut into datagrams of gso_size."""
    skb.data[nhoff + 4 : nhoff + 6] = (len(skb.data) - nhoff & 0xFFFF).to_bytes(2, "big")
    if skb.data[nhoff + 6 : nhoff + 8] != b"\0\0":
        skb.data[nhoff + 6 : nhoff + 8] = pseudo.to_bytes(2, "big")
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.gso_segs = cb(skb).count
    skb.gso_type |= SKB_GSO_UDP_L4
    env.note("udp_gro_complete", f"{skb.gso_segs} datagrams of {skb.gso_size}")
