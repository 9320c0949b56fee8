"""GRO of the network layer: which packets may be merged at all, and with which of those held.

The law: an IP header without options or fragments, whose length is that of the packet, merges with one that has the
same addresses; TTL, TOS, DF and the id decide once the transport layer has found its flow.
"""

from typing import Final

from refmodel.packet.wire import checksum
from refmodel.receive.env import Env
from refmodel.receive.gro_skb import cb, skb_gro_len, skb_gro_offset, skb_gro_pull
from refmodel.receive.gro_transport import (
    tcp4_gro_complete,
    tcp6_gro_complete,
    tcp_gro_receive_checked,
    udp4_gro_complete,
    udp6_gro_complete,
    udp_gro_receive_checked,
)
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IP_DF: Final = 0x4000
IP_MF_OFFSET: Final = 0x3FFF
IPV6_MAXPLEN: Final = 65535
IPV6_TLV_JUMBO: Final = 194
EXTENSIONS: Final = (0, 43, 60)  # with INET6_PROTO_GSO_EXTHDR: hop-by-hop, routing, destination options
IP6_HLEN: Final = 40


@cited("net/ipv4/af_inet.c:inet_gro_receive")
def inet_gro_receive(env: Env, head: list[SkBuff], skb: SkBuff) -> SkBuff | None:
    """IPv4: looks at the header, sorts out who is of another flow, and asks the transport layer.

    The packet of the bucket that must go up now, or None.
    """
    c = cb(skb)
    off = skb_gro_offset(skb)
    iph = bytes(skb.data[off : off + 20])
    why = _refused(iph)
    if why:
        env.note("inet_gro_receive", why)
        c.flush |= 1
        return None
    c.proto = iph[9]
    tot_len, frag_off = int.from_bytes(iph[2:4], "big"), int.from_bytes(iph[6:8], "big")
    flush = (tot_len ^ (skb_gro_len(skb) & 0xFFFF)) | (frag_off & ~IP_DF)
    for p in head:
        iph2 = p.data[off : off + 20]
        if cb(p).same_flow and (iph[9] != iph2[9] or iph[12:20] != iph2[12:20]):
            cb(p).same_flow = False
        if env.kernel < 612 and cb(p).same_flow:
            _compare_as_6_1(iph, bytes(iph2), p, flush)
    c.is_atomic = bool(frag_off & IP_DF)
    c.flush |= flush
    c.network_offset = off
    skb_gro_pull(skb, 20)
    skb.transport = skb_gro_offset(skb)
    env.note("inet_gro_receive", f"tot_len {tot_len} of {skb_gro_len(skb) + 20}, protocol {c.proto}")
    receive = tcp_gro_receive_checked if c.proto == IPPROTO_TCP else udp_gro_receive_checked
    return receive(env, head, skb, False)


def _refused(iph: bytes) -> str:
    if len(iph) < 20:
        return "shorter than a header"
    if iph[9] not in (IPPROTO_TCP, IPPROTO_UDP):
        return f"no GRO for protocol {iph[9]}"
    if iph[0] != 0x45:
        return "options, or not version 4"
    if int.from_bytes(iph[6:8], "big") & IP_MF_OFFSET:
        return "a fragment"
    if checksum(iph):
        return "header checksum wrong"
    return ""


def _compare_as_6_1(iph: bytes, iph2: bytes, p: SkBuff, flush: int) -> None:
    c = cb(p)
    c.flush |= (iph[8] ^ iph2[8]) | (iph[1] ^ iph2[1]) | ((iph[6] ^ iph2[6]) & (IP_DF >> 8)) | flush
    flush_id = (int.from_bytes(iph[4:6], "big") - int.from_bytes(iph2[4:6], "big")) & 0xFFFF
    if not c.is_atomic or not iph[6] & (IP_DF >> 8):
        flush_id = 0xFFFF if flush_id != c.count & 0xFFFF else 0
    c.flush_id = flush_id


@cited("net/ipv6/ip6_offload.c:ipv6_gro_receive", "net/ipv6/ip6_offload.c:ipv6_gro_pull_exthdrs")
def ipv6_gro_receive(env: Env, head: list[SkBuff], skb: SkBuff) -> SkBuff | None:
    """IPv6: goes past extension headers, sorts out who is of another flow, and asks the transport layer."""
    c = cb(skb)
    off = skb_gro_offset(skb)
    iph = bytes(skb.data[off : off + IP6_HLEN])
    if len(iph) < IP6_HLEN:
        env.note("ipv6_gro_receive", "shorter than a header")
        c.flush |= 1
        return None
    c.network_offset = off
    payload_len = int.from_bytes(iph[4:6], "big")
    flush = int(payload_len != len(skb.data) - off - IP6_HLEN)
    proto = iph[6]
    if proto in (IPPROTO_TCP, IPPROTO_UDP):
        skb_gro_pull(skb, IP6_HLEN)
    else:
        proto = ipv6_gro_pull_exthdrs(skb, off + IP6_HLEN, proto)
        if proto not in (IPPROTO_TCP, IPPROTO_UDP):
            env.note("ipv6_gro_receive", f"no GRO for protocol {proto}")
            c.flush |= 1
            return None
    skb.transport = skb_gro_offset(skb)
    c.proto = proto
    nlen = skb_gro_offset(skb) - off
    for p in head:
        iph2 = bytes(p.data[off : off + IP6_HLEN])
        if cb(p).same_flow and (
            (iph[0] ^ iph2[0]) & 0xF0
            or (iph[1] ^ iph2[1]) & 0x0F
            or iph[2:4] != iph2[2:4]
            or iph[8:] != iph2[8:]
            or iph[6] != iph2[6]
            or skb.data[off + IP6_HLEN : off + nlen] != p.data[off + IP6_HLEN : off + nlen]
        ):
            cb(p).same_flow = False
        if env.kernel < 612 and cb(p).same_flow:
            cb(p).flush |= int((iph[0] ^ iph2[0]) & 0x0F or (iph[1] ^ iph2[1]) & 0xF0 or iph[7] != iph2[7]) | flush
            cb(p).flush_id = 0
    c.is_atomic = True
    c.flush |= flush
    env.note("ipv6_gro_receive", f"payload_len {payload_len}, {nlen} bytes of headers, protocol {proto}")
    receive = tcp_gro_receive_checked if proto == IPPROTO_TCP else udp_gro_receive_checked
    return receive(env, head, skb, True)


def ipv6_gro_pull_exthdrs(skb: SkBuff, off: int, proto: int) -> int:
    """Goes past hop-by-hop, routing and destination options headers; what follows them."""
    while proto in EXTENSIONS and off + 2 <= len(skb.data):
        n = (skb.data[off + 1] + 1) * 8
        if off + n > len(skb.data):
            break
        proto = skb.data[off]
        off += n
    skb_gro_pull(skb, off - skb_gro_offset(skb))
    return proto


@cited("net/ipv4/af_inet.c:inet_gro_complete")
def inet_gro_complete(env: Env, skb: SkBuff) -> None:
    """The first header gets the length of all and its checksum anew; beyond 64 KB the length is 0."""
    total = len(skb.data)
    env.note("inet_gro_complete", f"tot_len {total if total <= 0xFFFF else 0}")
    skb.data[2:4] = (total if total <= 0xFFFF else 0).to_bytes(2, "big")
    skb.data[10:12] = b"\0\0"
    skb.data[10:12] = checksum(bytes(skb.data[:20])).to_bytes(2, "big")
    if skb.data[9] == IPPROTO_TCP:
        tcp4_gro_complete(env, skb, 20)
    else:
        udp4_gro_complete(env, skb, 20)


@cited("net/ipv6/ip6_offload.c:ipv6_gro_complete")
def ipv6_gro_complete(env: Env, skb: SkBuff) -> None:
    """The header gets the length of all; beyond 64 KB a jumbo option says it."""
    payload_len = len(skb.data) - IP6_HLEN
    if payload_len > IPV6_MAXPLEN:
        jumbo = bytes((skb.data[6], 0, IPV6_TLV_JUMBO, 4)) + (payload_len + 8).to_bytes(4, "big")
        skb.data[IP6_HLEN:IP6_HLEN] = jumbo
        skb.data[6] = 0
        if skb.transport is not None:
            skb.transport += len(jumbo)
    env.note("ipv6_gro_complete", f"payload_len {payload_len}")
    skb.data[4:6] = (payload_len if payload_len <= IPV6_MAXPLEN else 0).to_bytes(2, "big")
    if cb(skb).proto == IPPROTO_TCP:
        tcp6_gro_complete(env, skb, skb.transport or IP6_HLEN)
    else:
        udp6_gro_complete(env, skb, skb.transport or IP6_HLEN)
