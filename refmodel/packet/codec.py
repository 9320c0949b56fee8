"""Whole frames: decode, encode, seal, and the verdicts on their checksums.

The law of this file: ``encode(decode(frame)) == frame`` for every byte string, however cut or malformed. What is not a
header is payload or trailer; nothing is lost and nothing is made up.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from refmodel.packet import ether, icmp, ip, transport
from refmodel.packet.ether import Arp, Ether, Null, Sll, Sll2, Vlan
from refmodel.packet.icmp import Icmp, Icmp6, Icmp6Type, Icmp6Word, NdNa, NdNs, NdRa, NdRedirect, NdRs
from refmodel.packet.ip import Ah, Ip, Ip6, Ip6Frag, Ip6Opts, Ip6Rt
from refmodel.packet.transport import Tcp, Udp
from refmodel.packet.wire import (
    LINKTYPE_ETHERNET,
    LINKTYPE_IPV4,
    LINKTYPE_IPV6,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
    LINKTYPE_LOOP,
    LINKTYPE_NULL,
    LINKTYPES_RAW,
    Checksum,
    Layer,
    Malformed,
    checksum,
    ones_sum,
    pseudo_header,
)

L = TypeVar("L", bound=Layer)

AF_INET: Final = 2
AF_INET6S: Final = frozenset({10, 24, 28, 30})  # Linux, NetBSD, FreeBSD, macOS
ARPHRD_LOOPBACK: Final = 772


class Packet(Struct, frozen=True):
    """A decoded frame.

    `layers` are its headers from outside in; `payload` the captured bytes behind the last one, by the headers
    `payload_len` bytes; `trailer` what the link layer padded; `orig_len` the frame's length on the wire. `truncated`
    says that the snaplen cut something off, `malformed` why decoding stopped before the end of the headers.
    """

    layers: tuple[Layer, ...]
    payload: bytes = b""
    payload_len: int = 0
    trailer: bytes = b""
    orig_len: int = 0
    truncated: bool = False
    malformed: Malformed | None = None

    def get(self, kind: type[L]) -> L | None:
        """The first header of that type, or None."""
        for x in self.layers:
            if isinstance(x, kind):
                return x
        return None


class _Stop(Exception):
    """Decoding cannot go on: the bytes are not captured (`bad` is None) or not a header."""

    def __init__(self, bad: Malformed | None = None) -> None:
        self.bad = bad


class _Cursor:
    """Where decoding stands: `off` in `data`, and `end`, where the innermost length field says that the packet ends."""

    def __init__(self, data: bytes, orig_len: int) -> None:
        self.data = data
        self.off = 0
        self.end = orig_len
        self.layers: list[Layer] = []

    def need(self, name: str, n: int, at: int | None = None) -> None:
        """Stops unless `n` header bytes from `at` lie inside the packet and were captured."""
        start = self.off if at is None else at
        if start + n > self.end:
            self.bad(name, f"{n} bytes needed, {max(self.end - start, 0)} left in the packet")
        if start + n > len(self.data):
            raise _Stop

    def bad(self, name: str, reason: str) -> None:
        raise _Stop(Malformed(name, reason, self.off))

    def area(self, start: int, stop: int) -> bytes:
        """An option area from `start` to `stop`, as far as it was captured."""
        return self.data[start : min(stop, len(self.data))]

    def add(self, layer: Layer, size: int) -> None:
        self.layers.append(layer)
        self.off = min(self.off + size, len(self.data))

    def was_cut(self, stop: int) -> None:
        """Stops if the header that was just added reaches beyond the captured bytes."""
        if stop > len(self.data):
            raise _Stop


def decode(data: bytes, linktype: int = LINKTYPE_ETHERNET, orig_len: int | None = None) -> Packet:
    """Decodes a captured frame of `orig_len` bytes on the wire (default: all captured). Never raises for any `data`."""
    c = _Cursor(data, max(len(data), orig_len or 0))
    bad = None
    cut = False
    try:
        _link(c, linktype)
    except _Stop as stop:
        bad = stop.bad
        cut = bad is None
    end = max(c.end, c.off)
    captured = min(end, len(data))
    return Packet(
        layers=tuple(c.layers),
        payload=data[c.off : captured],
        payload_len=end - c.off,
        trailer=data[captured:],
        orig_len=max(len(data), orig_len or 0),
        truncated=cut or end > len(data),
        malformed=bad,
    )


def encode(packet: Packet) -> bytes:
    """The frame's bytes, with every field as it stands; `seal` computes lengths and checksums."""
    return b"".join(x.wire() for x in packet.layers) + packet.payload + packet.trailer


def _link(c: _Cursor, linktype: int) -> None:
    if linktype == LINKTYPE_ETHERNET:
        c.need("eth", 14)
        eth = Ether(*ether.ETH.unpack_from(c.data, c.off))
        c.add(eth, 14)
        _proto(c, eth.h_proto)
    elif linktype in LINKTYPES_RAW or linktype in (LINKTYPE_IPV4, LINKTYPE_IPV6):
        _raw_ip(c)
    elif linktype == LINKTYPE_LINUX_SLL:
        c.need("sll", 16)
        sll = Sll(*ether.SLL.unpack_from(c.data, c.off))
        c.add(sll, 16)
        _proto(c, sll.h_proto)
    elif linktype == LINKTYPE_LINUX_SLL2:
        c.need("sll2", 20)
        sll2 = Sll2(*ether.SLL2.unpack_from(c.data, c.off))
        c.add(sll2, 20)
        _proto(c, sll2.h_proto)
    elif linktype in (LINKTYPE_NULL, LINKTYPE_LOOP):
        c.need("null", 4)
        family = int.from_bytes(c.data[:4], "big")
        null = Null(family, "big")
        if linktype == LINKTYPE_NULL and family > 0xFFFF:
            null = Null(int.from_bytes(c.data[:4], "little"), "little")
        c.add(null, 4)
        if null.family == AF_INET or null.family in AF_INET6S:
            _raw_ip(c)
    else:
        c.bad("link", f"link type {linktype} is not known")


def _raw_ip(c: _Cursor) -> None:
    c.need("ip", 1)
    version = c.data[c.off] >> 4
    if version == 4:
        _ip(c)
    elif version == 6:
        _ip6(c)
    else:
        c.bad("ip", f"version {version} is neither 4 nor 6")


def _proto(c: _Cursor, proto: int) -> None:
    while proto in ether.VLAN_TPIDS:
        c.need("vlan", 4)
        vlan = Vlan(*ether.VLAN.unpack_from(c.data, c.off))
        c.add(vlan, 4)
        proto = vlan.h_proto
    if proto == ether.ETH_P_IP:
        _ip(c)
    elif proto == ether.ETH_P_IPV6:
        _ip6(c)
    elif proto == ether.ETH_P_ARP:
        _arp(c)


def _arp(c: _Cursor) -> None:
    c.need("arp", 8)
    hrd, pro, hln, pln, op = ether.ARP.unpack_from(c.data, c.off)
    size = 8 + 2 * (hln + pln)
    c.need("arp", size)
    at = c.off + 8
    parts = []
    for n in (hln, pln, hln, pln):
        parts.append(c.data[at : at + n])
        at += n
    c.add(Arp(hrd, pro, hln, pln, op, *parts), size)
    c.end = at


def _ip(c: _Cursor) -> None:
    start = c.off
    c.need("ip", 20)
    vihl, tos, tot_len, ident, frag_off, ttl, protocol, check, saddr, daddr = ip.IP.unpack_from(c.data, start)
    ihl = vihl & 15
    if vihl >> 4 != 4 or ihl < 5:
        c.bad("ip", f"version {vihl >> 4}, header length {4 * ihl}: not an IPv4 header")
    size = 4 * ihl
    if start + size > c.end:
        c.bad("ip", f"header of {size} bytes, {c.end - start} left in the packet")
    options = ip.ip_options(c.area(start + 20, start + size))
    c.add(Ip(ihl, tos, tot_len, ident, frag_off, ttl, protocol, check, saddr, daddr, options), size)
    length = tot_len
    if tot_len == 0 and protocol == ip.IPPROTO_TCP and c.end - start > 0xFFFF:
        length = c.end - start  # a super-frame of more than 64 kB (BIG TCP); source include/linux/ip.h:iph_totlen
    if length < size:
        c.bad("ip", f"tot_len {tot_len} is less than the header's {size} bytes")
    if start + length > c.end:
        c.bad("ip", f"tot_len {tot_len} is more than the {c.end - start} bytes of the packet")
    c.end = start + length
    c.was_cut(start + size)
    if frag_off & ip.IP_OFFSET == 0:
        _upper(c, protocol)


def _ip6(c: _Cursor) -> None:
    start = c.off
    c.need("ipv6", 40)
    word, payload_len, nexthdr, hop_limit, saddr, daddr = ip.IP6.unpack_from(c.data, start)
    if word >> 28 != 6:
        c.bad("ipv6", f"version {word >> 28}: not an IPv6 header")
    c.add(Ip6(word >> 20 & 0xFF, word & 0xFFFFF, payload_len, nexthdr, hop_limit, saddr, daddr), 40)
    room = c.end - start - 40
    # Without a length the frame's own holds: a jumbo payload option follows, or this is a super-frame (BIG TCP).
    jumbo = payload_len == 0 and (nexthdr == ip.IPPROTO_HOPOPTS or (nexthdr == ip.IPPROTO_TCP and room > 0xFFFF))
    if not jumbo:
        if payload_len > room:
            c.bad("ipv6", f"payload_len {payload_len} is more than the {room} bytes of the packet")
        c.end = start + 40 + payload_len
    while nexthdr in _EXTENSIONS:
        following = _EXTENSIONS[nexthdr](c, nexthdr)
        if following < 0:
            return
        nexthdr = following
    if nexthdr != ip.IPPROTO_NONE:
        _upper(c, nexthdr)


def _opts(c: _Cursor, kind: int) -> int:
    c.need("ipv6.opts", 2)
    start, (nexthdr, hdrlen) = c.off, c.data[c.off : c.off + 2]
    size = 8 * (hdrlen + 1)
    if start + size > c.end:
        c.bad("ipv6.opts", f"header of {size} bytes, {c.end - start} left in the packet")
    c.add(Ip6Opts(kind, nexthdr, hdrlen, ip.ip6_options(c.area(start + 2, start + size))), size)
    c.was_cut(start + size)
    return int(nexthdr)


def _routing(c: _Cursor, kind: int) -> int:
    c.need("ipv6.routing", 8)
    start, (nexthdr, hdrlen, rtype, left) = c.off, c.data[c.off : c.off + 4]
    size = 8 * (hdrlen + 1)
    c.need("ipv6.routing", size)
    c.add(Ip6Rt(nexthdr, hdrlen, rtype, left, c.data[start + 4 : start + size]), size)
    return int(nexthdr)


def _fragment(c: _Cursor, kind: int) -> int:
    c.need("ipv6.fragment", 8)
    frag = Ip6Frag(*ip.FRAG6.unpack_from(c.data, c.off))
    c.add(frag, 8)
    return frag.nexthdr if frag.offset == 0 else -1


def _ah(c: _Cursor, kind: int) -> int:
    c.need("ah", 12)
    start, (nexthdr, hdrlen) = c.off, c.data[c.off : c.off + 2]
    size = 4 * (hdrlen + 2)
    if size < 12:
        c.bad("ah", f"header of {size} bytes, at least 12 needed")
    c.need("ah", size)
    c.add(Ah(nexthdr, hdrlen, c.data[start + 2 : start + size]), size)
    return int(nexthdr)


_EXTENSIONS: Final[dict[int, Callable[[_Cursor, int], int]]] = {
    ip.IPPROTO_HOPOPTS: _opts,
    ip.IPPROTO_DSTOPTS: _opts,
    ip.IPPROTO_ROUTING: _routing,
    ip.IPPROTO_FRAGMENT: _fragment,
    ip.IPPROTO_AH: _ah,
}


def _upper(c: _Cursor, protocol: int) -> None:
    if protocol == ip.IPPROTO_TCP:
        _tcp(c)
    elif protocol == ip.IPPROTO_UDP:
        _udp(c)
    elif protocol == ip.IPPROTO_ICMP and isinstance(c.layers[-1], Ip):
        c.need("icmp", 8)
        c.add(Icmp(*icmp.ICMP.unpack_from(c.data, c.off)), 8)
    elif protocol == ip.IPPROTO_ICMPV6 and not isinstance(c.layers[-1], Ip):
        _icmp6(c)


def _udp(c: _Cursor) -> None:
    c.need("udp", 8)
    start = c.off
    udp = Udp(*transport.UDP.unpack_from(c.data, start))
    c.add(udp, 8)
    fragment = any(x.mf for x in c.layers if isinstance(x, Ip | Ip6Frag))
    length = udp.len
    if length == 0 and not isinstance(c.layers[-2], Ip):
        length = c.end - start  # over IPv6 zero stands for 'to the end'; source net/ipv6/udp.c:__udp6_lib_rcv
    if length < 8 or (start + length > c.end and not fragment):
        c.bad("udp", f"len {udp.len} does not fit the {c.end - start} bytes of the packet")
    c.end = min(c.end, start + length)


def _tcp(c: _Cursor) -> None:
    c.need("tcp", 20)
    start = c.off
    source, dest, seq, ack_seq, word, window, check, urg_ptr = transport.TCP.unpack_from(c.data, start)
    size = word >> 12 << 2
    if size < 20:
        c.bad("tcp", f"doff {word >> 12} is less than 5")
    if start + size > c.end:
        c.bad("tcp", f"header of {size} bytes, {c.end - start} left in the packet")
    options = transport.tcp_options(c.area(start + 20, start + size))
    tcp = Tcp(source, dest, seq, ack_seq, word >> 12, word & 0x1FF, window, check, urg_ptr, options, word >> 9 & 7)
    c.add(tcp, size)
    c.was_cut(start + size)


def _icmp6(c: _Cursor) -> None:
    c.need("icmpv6", 4)
    head = Icmp6(*icmp.ICMP6.unpack_from(c.data, c.off))
    c.add(head, 4)
    start, data = c.off, c.data
    size = {
        Icmp6Type.NDISC_ROUTER_ADVERTISEMENT: 12,
        Icmp6Type.NDISC_NEIGHBOUR_SOLICITATION: 20,
        Icmp6Type.NDISC_NEIGHBOUR_ADVERTISEMENT: 20,
        Icmp6Type.NDISC_REDIRECT: 36,
    }.get(Icmp6Type(head.type) if head.type in _ICMP6_TYPES else Icmp6Type.ICMPV6_ECHO_REQUEST, 4)
    c.need("icmpv6", size)
    word = int.from_bytes(data[start : start + 4], "big")
    if not Icmp6Type.NDISC_ROUTER_SOLICITATION <= head.type <= Icmp6Type.NDISC_REDIRECT:
        c.add(Icmp6Word(word), 4)
        return
    options = icmp.nd_options(c.area(start + size, c.end))
    body: Layer
    if head.type == Icmp6Type.NDISC_ROUTER_SOLICITATION:
        body = NdRs(word, options)
    elif head.type == Icmp6Type.NDISC_ROUTER_ADVERTISEMENT:
        hop_limit, flags, lifetime, reachable, retrans = icmp.RA.unpack_from(data, start)
        body = NdRa(hop_limit, flags, lifetime, reachable, retrans, options)
    elif head.type == Icmp6Type.NDISC_NEIGHBOUR_SOLICITATION:
        body = NdNs(data[start + 4 : start + 20], word, options)
    elif head.type == Icmp6Type.NDISC_NEIGHBOUR_ADVERTISEMENT:
        body = NdNa(data[start + 4 : start + 20], word, options)
    else:
        body = NdRedirect(data[start + 4 : start + 20], data[start + 20 : start + 36], word, options)
    c.add(body, c.end - start)
    c.was_cut(c.end)


_ICMP6_TYPES: Final = frozenset(int(t) for t in Icmp6Type)


# Checksums and lengths


def checksums(packet: Packet) -> tuple[tuple[str, Checksum], ...]:
    """The verdict on every checksum of the frame, outermost first, by protocol name."""
    out: list[tuple[str, Checksum]] = []
    whole = packet.malformed is None and not packet.truncated
    for i, x in enumerate(packet.layers):
        if isinstance(x, Ip):
            raw = x.wire()
            ok = Checksum.OK if ones_sum(raw) == 0xFFFF else Checksum.WRONG
            out.append((x.NAME, ok if len(raw) == 4 * x.ihl else Checksum.UNKNOWN))
        elif isinstance(x, Icmp | Icmp6 | Udp | Tcp):
            fragment = any(y.mf or y.offset for y in packet.layers[:i] if isinstance(y, Ip | Ip6Frag))
            out.append((x.NAME, _transport(packet, i) if whole and not fragment else Checksum.UNKNOWN))
    return tuple(out)


def _protocol(layer: Layer) -> int:
    if isinstance(layer, Tcp):
        return ip.IPPROTO_TCP
    return ip.IPPROTO_UDP if isinstance(layer, Udp) else ip.IPPROTO_ICMPV6


def _pseudo(layers: tuple[Layer, ...], i: int, length: int) -> int:
    """The pseudo-header's sum for the transport header at `layers[i]` with `length` bytes of header and payload."""
    net = next((x for x in reversed(layers[:i]) if isinstance(x, Ip | Ip6)), None)
    if net is None or isinstance(layers[i], Icmp):
        return 0
    daddr = net.daddr
    for x in layers[:i]:
        if isinstance(x, Ip6Rt):
            daddr = x.final or daddr
    return pseudo_header(net.saddr, daddr, _protocol(layers[i]), length)


def _transport(packet: Packet, i: int) -> Checksum:
    x = packet.layers[i]
    body = b"".join(y.wire() for y in packet.layers[i:]) + packet.payload
    pseudo = _pseudo(packet.layers, i, len(body))
    if isinstance(x, Udp) and x.check == 0:
        return Checksum.ABSENT if any(isinstance(y, Ip) for y in packet.layers[:i]) else Checksum.WRONG
    if ones_sum(body, pseudo) == 0xFFFF:
        return Checksum.OK
    if isinstance(x, Udp | Tcp) and x.check == pseudo:
        return Checksum.OFFLOAD
    return Checksum.WRONG


def seal(layers: tuple[Layer, ...], payload: bytes = b"", trailer: bytes = b"") -> Packet:
    """Makes a packet of `layers` with their lengths, header lengths and checksums computed, from the inside out.

    TCP options must already be padded to a multiple of 4 bytes, IPv4 options too; raises ValueError if they are not.
    """
    done: list[Layer] = []
    inner = payload
    for i in reversed(range(len(layers))):
        x = layers[i]
        if isinstance(x, Tcp):
            x = replace(x, doff=_words(x, 20), check=0)
            x = replace(x, check=checksum(x.wire() + inner, _pseudo(layers, i, 4 * x.doff + len(inner))))
        elif isinstance(x, Udp):
            x = replace(x, len=8 + len(inner), check=0)
            x = replace(x, check=checksum(x.wire() + inner, _pseudo(layers, i, x.len)) or 0xFFFF)
        elif isinstance(x, Icmp):
            x = replace(x, checksum=checksum(replace(x, checksum=0).wire() + inner))
        elif isinstance(x, Icmp6):
            body = replace(x, cksum=0).wire() + inner
            x = replace(x, cksum=checksum(body, _pseudo(layers, i, len(body))))
        elif isinstance(x, Ip6):
            x = replace(x, payload_len=len(inner))
        elif isinstance(x, Ip):
            x = replace(x, ihl=_words(x, 20), check=0)
            x = replace(x, tot_len=4 * x.ihl + len(inner))
            x = replace(x, check=checksum(x.wire()))
        done.append(x)
        inner = x.wire() + inner
    return Packet(tuple(reversed(done)), payload, len(payload), trailer, len(inner) + len(trailer))


def _words(x: Ip | Tcp, fixed: int) -> int:
    size = fixed + sum(len(o.wire()) for o in x.options)
    if size % 4 or size > 60:
        raise ValueError(f"{x.NAME} header of {size} bytes: options must fill 32-bit words, at most 40 bytes")
    return size // 4
