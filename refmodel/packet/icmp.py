"""ICMP, and ICMPv6 with neighbour discovery."""

import struct
from enum import IntEnum
from typing import ClassVar, Final

from msgspec import Struct

from refmodel.packet.wire import Layer, Rest

ICMP = struct.Struct("!BBHI")
ICMP6 = struct.Struct("!BBH")
RA = struct.Struct("!BBHII")

ND_OPT_SOURCE_LL_ADDR: Final = 1
ND_OPT_TARGET_LL_ADDR: Final = 2
ND_OPT_PREFIX_INFO: Final = 3
ND_OPT_REDIRECT_HDR: Final = 4
ND_OPT_MTU: Final = 5
ND_OPT_NONCE: Final = 14


class IcmpType(IntEnum):
    """ICMP types that Linux sends or handles (include/uapi/linux/icmp.h)."""

    ICMP_ECHOREPLY = 0
    ICMP_DEST_UNREACH = 3
    ICMP_REDIRECT = 5
    ICMP_ECHO = 8
    ICMP_TIME_EXCEEDED = 11
    ICMP_PARAMETERPROB = 12
    ICMP_TIMESTAMP = 13
    ICMP_TIMESTAMPREPLY = 14


class Icmp6Type(IntEnum):
    """ICMPv6 types (include/uapi/linux/icmpv6.h, include/net/ndisc.h)."""

    ICMPV6_DEST_UNREACH = 1
    ICMPV6_PKT_TOOBIG = 2
    ICMPV6_TIME_EXCEED = 3
    ICMPV6_PARAMPROB = 4
    ICMPV6_ECHO_REQUEST = 128
    ICMPV6_ECHO_REPLY = 129
    ICMPV6_MGM_QUERY = 130
    ICMPV6_MGM_REPORT = 131
    ICMPV6_MGM_REDUCTION = 132
    NDISC_ROUTER_SOLICITATION = 133
    NDISC_ROUTER_ADVERTISEMENT = 134
    NDISC_NEIGHBOUR_SOLICITATION = 135
    NDISC_NEIGHBOUR_ADVERTISEMENT = 136
    NDISC_REDIRECT = 137
    ICMPV6_MLD2_REPORT = 143


ICMP_ERRORS: Final = frozenset({3, 4, 5, 11, 12})
ICMP6_ERRORS: Final = frozenset({1, 2, 3, 4})


class Icmp(Layer, frozen=True):
    """An ICMP header; `un` is the second word as a number (struct icmphdr's union). RFC 792."""

    NAME: ClassVar[str] = "icmp"
    type: int
    code: int
    checksum: int
    un: int = 0

    @property
    def id(self) -> int:
        """Echo and timestamp messages: the identifier."""
        return self.un >> 16

    @property
    def sequence(self) -> int:
        """Echo and timestamp messages: the sequence number."""
        return self.un & 0xFFFF

    @property
    def mtu(self) -> int:
        """Fragmentation needed: the next hop's MTU in bytes. RFC 1191 4."""
        return self.un & 0xFFFF

    @property
    def gateway(self) -> bytes:
        """Redirect: the better router's address."""
        return self.un.to_bytes(4, "big")

    def wire(self) -> bytes:
        """8 bytes."""
        return ICMP.pack(self.type, self.code, self.checksum, self.un)


class Icmp6(Layer, frozen=True):
    """The part that all ICMPv6 messages share; the body is the next layer. RFC 4443 2.1."""

    NAME: ClassVar[str] = "icmpv6"
    type: int
    code: int
    cksum: int

    def wire(self) -> bytes:
        """4 bytes."""
        return ICMP6.pack(self.type, self.code, self.cksum)


class Icmp6Word(Layer, frozen=True):
    """The first body word of an echo, an error, or any message but neighbour discovery. RFC 4443 3, 4."""

    NAME: ClassVar[str] = "icmpv6.word"
    un: int

    @property
    def identifier(self) -> int:
        """Echo: the identifier."""
        return self.un >> 16

    @property
    def sequence(self) -> int:
        """Echo: the sequence number."""
        return self.un & 0xFFFF

    @property
    def mtu(self) -> int:
        """Packet too big: the MTU in bytes."""
        return self.un

    def wire(self) -> bytes:
        """4 bytes."""
        return self.un.to_bytes(4, "big")


class NdOption(Struct, frozen=True):
    """One neighbour discovery option; `data` is what follows its length octet (8 * n - 2 bytes). RFC 4861 4.6."""

    type: int
    data: bytes

    def wire(self) -> bytes:
        """The option's bytes, a multiple of 8."""
        return bytes((self.type, (len(self.data) + 2) // 8)) + self.data

    @property
    def lladdr(self) -> bytes | None:
        """The Ethernet address of a source or target link-layer address option."""
        return self.data[:6] if self.type in (ND_OPT_SOURCE_LL_ADDR, ND_OPT_TARGET_LL_ADDR) else None

    @property
    def mtu(self) -> int | None:
        """The MTU of an MTU option, in bytes."""
        return int.from_bytes(self.data[2:6], "big") if self.type == ND_OPT_MTU else None

    @property
    def prefix(self) -> tuple[bytes, int, int, int, int] | None:
        """A prefix information option's (prefix, length in bits, flags, valid s, preferred s)."""
        if self.type != ND_OPT_PREFIX_INFO or len(self.data) != 30:
            return None
        valid, preferred = struct.unpack_from("!II", self.data, 2)
        return self.data[14:30], self.data[0], self.data[1], valid, preferred


NdOptions = tuple[NdOption | Rest, ...]


class NdRs(Layer, frozen=True):
    """A router solicitation. RFC 4861 4.1."""

    NAME: ClassVar[str] = "nd.rs"
    reserved: int = 0
    options: NdOptions = ()

    def wire(self) -> bytes:
        """4 bytes and options."""
        return self.reserved.to_bytes(4, "big") + _wire(self.options)


class NdRa(Layer, frozen=True):
    """A router advertisement; lifetime in s, reachable and retransmission time in ms. RFC 4861 4.2."""

    NAME: ClassVar[str] = "nd.ra"
    hop_limit: int
    flags: int
    router_lifetime: int
    reachable_time: int
    retrans_timer: int
    options: NdOptions = ()

    def wire(self) -> bytes:
        """12 bytes and options."""
        head = RA.pack(self.hop_limit, self.flags, self.router_lifetime, self.reachable_time, self.retrans_timer)
        return head + _wire(self.options)


class NdNs(Layer, frozen=True):
    """A neighbour solicitation. RFC 4861 4.3."""

    NAME: ClassVar[str] = "nd.ns"
    target: bytes
    reserved: int = 0
    options: NdOptions = ()

    def wire(self) -> bytes:
        """20 bytes and options."""
        return self.reserved.to_bytes(4, "big") + self.target + _wire(self.options)


class NdNa(Layer, frozen=True):
    """A neighbour advertisement; `flags` is the whole word with R, S and O on top. RFC 4861 4.4."""

    NAME: ClassVar[str] = "nd.na"
    target: bytes
    flags: int
    options: NdOptions = ()

    @property
    def router(self) -> bool:
        """The sender is a router."""
        return bool(self.flags & 0x80000000)

    @property
    def solicited(self) -> bool:
        """Sent in answer to a solicitation."""
        return bool(self.flags & 0x40000000)

    @property
    def override(self) -> bool:
        """To replace a cached link-layer address."""
        return bool(self.flags & 0x20000000)

    def wire(self) -> bytes:
        """20 bytes and options."""
        return self.flags.to_bytes(4, "big") + self.target + _wire(self.options)


class NdRedirect(Layer, frozen=True):
    """A redirect. RFC 4861 4.5."""

    NAME: ClassVar[str] = "nd.redirect"
    target: bytes
    dest: bytes
    reserved: int = 0
    options: NdOptions = ()

    def wire(self) -> bytes:
        """36 bytes and options."""
        return self.reserved.to_bytes(4, "big") + self.target + self.dest + _wire(self.options)


def _wire(options: NdOptions) -> bytes:
    return b"".join(o.wire() for o in options)


def nd_options(raw: bytes) -> NdOptions:
    """Splits neighbour discovery options; what is not one is kept as `Rest`.

    source net/ipv6/ndisc.c:ndisc_parse_options
    """
    out: list[NdOption | Rest] = []
    i, n = 0, len(raw)
    while i < n:
        if i + 2 > n or raw[i + 1] == 0 or i + 8 * raw[i + 1] > n:
            out.append(Rest(raw[i:]))
            break
        out.append(NdOption(raw[i], raw[i + 2 : i + 8 * raw[i + 1]]))
        i += 8 * raw[i + 1]
    return tuple(out)
