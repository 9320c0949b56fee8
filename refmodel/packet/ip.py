"""IPv4 with its options and IPv6 with its extension headers."""

import struct
from typing import ClassVar, Final

from msgspec import Struct

from refmodel.packet.wire import Layer, Rest

IPPROTO_HOPOPTS: Final = 0
IPPROTO_ICMP: Final = 1
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_ROUTING: Final = 43
IPPROTO_FRAGMENT: Final = 44
IPPROTO_AH: Final = 51
IPPROTO_ICMPV6: Final = 58
IPPROTO_NONE: Final = 59
IPPROTO_DSTOPTS: Final = 60

IP_DF: Final = 0x4000
IP_MF: Final = 0x2000
IP_OFFSET: Final = 0x1FFF

IPV6_SRCRT_TYPE_0: Final = 0
IPV6_SRCRT_TYPE_2: Final = 2
IPV6_SRCRT_TYPE_4: Final = 4

IP = struct.Struct("!BBHHHBBH4s4s")
IP6 = struct.Struct("!IHBB16s16s")
FRAG6 = struct.Struct("!BBHI")


class IpOption(Struct, frozen=True):
    """One IPv4 option: its type octet and what follows the length octet. Types 0 and 1 have no length octet.

    The end-of-list option (0) holds all that follows it as `data`, so that nothing of the header is lost.
    """

    type: int
    data: bytes = b""

    def wire(self) -> bytes:
        """The option's bytes."""
        if self.type <= 1:
            return bytes((self.type,)) + self.data
        return bytes((self.type, len(self.data) + 2)) + self.data


class Ip(Layer, frozen=True):
    """An IPv4 header; `frag_off` holds the flags too, as in struct iphdr. RFC 791 3.1."""

    NAME: ClassVar[str] = "ip"
    ihl: int
    tos: int
    tot_len: int
    id: int
    frag_off: int
    ttl: int
    protocol: int
    check: int
    saddr: bytes
    daddr: bytes
    options: tuple[IpOption | Rest, ...] = ()

    @property
    def df(self) -> bool:
        """Don't fragment."""
        return bool(self.frag_off & IP_DF)

    @property
    def mf(self) -> bool:
        """More fragments follow."""
        return bool(self.frag_off & IP_MF)

    @property
    def offset(self) -> int:
        """The fragment's offset in bytes."""
        return (self.frag_off & IP_OFFSET) * 8

    @property
    def ecn(self) -> int:
        """The two ECN bits. RFC 3168 5."""
        return self.tos & 3

    def wire(self) -> bytes:
        """4 * ihl bytes."""
        head = IP.pack(
            0x40 | self.ihl,
            self.tos,
            self.tot_len,
            self.id,
            self.frag_off,
            self.ttl,
            self.protocol,
            self.check,
            self.saddr,
            self.daddr,
        )
        return head + b"".join(o.wire() for o in self.options)


class Ip6(Layer, frozen=True):
    """An IPv6 header. RFC 8200 3."""

    NAME: ClassVar[str] = "ipv6"
    tclass: int
    flow_lbl: int
    payload_len: int
    nexthdr: int
    hop_limit: int
    saddr: bytes
    daddr: bytes

    @property
    def ecn(self) -> int:
        """The two ECN bits. RFC 3168 5."""
        return self.tclass & 3

    def wire(self) -> bytes:
        """40 bytes."""
        word = 0x60000000 | self.tclass << 20 | self.flow_lbl
        return IP6.pack(word, self.payload_len, self.nexthdr, self.hop_limit, self.saddr, self.daddr)


class Ip6Option(Struct, frozen=True):
    """One option of a hop-by-hop or destination options header; type 0 (Pad1) is a single byte. RFC 8200 4.2."""

    type: int
    data: bytes = b""

    def wire(self) -> bytes:
        """The option's bytes."""
        return b"\0" if self.type == 0 else bytes((self.type, len(self.data))) + self.data


class Ip6Opts(Layer, frozen=True):
    """A hop-by-hop (`kind` 0) or destination options (60) header of 8 * (hdrlen + 1) bytes. RFC 8200 4.3, 4.6."""

    NAME: ClassVar[str] = "ipv6.opts"
    kind: int
    nexthdr: int
    hdrlen: int
    options: tuple[Ip6Option | Rest, ...]

    def wire(self) -> bytes:
        """8 * (hdrlen + 1) bytes."""
        return bytes((self.nexthdr, self.hdrlen)) + b"".join(o.wire() for o in self.options)


class Ip6Rt(Layer, frozen=True):
    """A routing header; `data` is what follows segments_left. RFC 8200 4.4."""

    NAME: ClassVar[str] = "ipv6.routing"
    nexthdr: int
    hdrlen: int
    type: int
    segments_left: int
    data: bytes

    @property
    def final(self) -> bytes | None:
        """The final destination, which checksums are made over while segments are left; None if that is not known."""
        if not self.segments_left or len(self.data) < 20:
            return None
        if self.type == IPV6_SRCRT_TYPE_4:
            return self.data[4:20]  # a segment list is written backwards
        if self.type in (IPV6_SRCRT_TYPE_0, IPV6_SRCRT_TYPE_2):
            return self.data[4 + (len(self.data) - 4) // 16 * 16 - 16 :][:16]
        return None

    def wire(self) -> bytes:
        """8 * (hdrlen + 1) bytes."""
        return bytes((self.nexthdr, self.hdrlen, self.type, self.segments_left)) + self.data


class Ip6Frag(Layer, frozen=True):
    """A fragment header; `frag_off` holds the M flag too. RFC 8200 4.5."""

    NAME: ClassVar[str] = "ipv6.fragment"
    nexthdr: int
    reserved: int
    frag_off: int
    identification: int

    @property
    def mf(self) -> bool:
        """More fragments follow."""
        return bool(self.frag_off & 1)

    @property
    def offset(self) -> int:
        """The fragment's offset in bytes."""
        return self.frag_off & 0xFFF8

    def wire(self) -> bytes:
        """8 bytes."""
        return FRAG6.pack(self.nexthdr, self.reserved, self.frag_off, self.identification)


class Ah(Layer, frozen=True):
    """An authentication header of 4 * (hdrlen + 2) bytes; `data` is what follows hdrlen. RFC 4302 2."""

    NAME: ClassVar[str] = "ah"
    nexthdr: int
    hdrlen: int
    data: bytes

    def wire(self) -> bytes:
        """4 * (hdrlen + 2) bytes."""
        return bytes((self.nexthdr, self.hdrlen)) + self.data


def ip_options(raw: bytes) -> tuple[IpOption | Rest, ...]:
    """Splits an IPv4 option area; what is not an option is kept as `Rest`.

    source net/ipv4/ip_options.c:__ip_options_compile
    """
    out: list[IpOption | Rest] = []
    i, n = 0, len(raw)
    while i < n:
        kind = raw[i]
        if kind == 0:
            out.append(IpOption(0, raw[i + 1 :]))
            break
        if kind == 1:
            out.append(IpOption(1))
            i += 1
            continue
        if i + 2 > n or raw[i + 1] < 2 or i + raw[i + 1] > n:
            out.append(Rest(raw[i:]))
            break
        out.append(IpOption(kind, raw[i + 2 : i + raw[i + 1]]))
        i += raw[i + 1]
    return tuple(out)


def ip6_options(raw: bytes) -> tuple[Ip6Option | Rest, ...]:
    """Splits the options of an extension header; what is not an option is kept as `Rest`.

    source net/ipv6/exthdrs.c:ip6_parse_tlv
    """
    out: list[Ip6Option | Rest] = []
    i, n = 0, len(raw)
    while i < n:
        if raw[i] == 0:
            out.append(Ip6Option(0))
            i += 1
            continue
        if i + 2 > n or i + 2 + raw[i + 1] > n:
            out.append(Rest(raw[i:]))
            break
        out.append(Ip6Option(raw[i], raw[i + 2 : i + 2 + raw[i + 1]]))
        i += 2 + raw[i + 1]
    return tuple(out)
