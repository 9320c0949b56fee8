"""UDP, and TCP with the options that Linux emits or accepts, in the order in which they stand on the wire."""

import struct
from typing import ClassVar, Final, TypeVar

from msgspec import Struct

from refmodel.packet.wire import Layer, Rest

UDP = struct.Struct("!HHHH")
TCP = struct.Struct("!HHIIHHHH")
TSTAMP = struct.Struct("!II")

TCPOPT_EOL: Final = 0
TCPOPT_NOP: Final = 1
TCPOPT_MSS: Final = 2
TCPOPT_WINDOW: Final = 3
TCPOPT_SACK_PERM: Final = 4
TCPOPT_SACK: Final = 5
TCPOPT_TIMESTAMP: Final = 8
TCPOPT_MD5SIG: Final = 19
TCPOPT_AO: Final = 29
TCPOPT_MPTCP: Final = 30
TCPOPT_FASTOPEN: Final = 34
TCPOPT_ACCECN0: Final = 172
TCPOPT_ACCECN1: Final = 174
TCPOPT_EXP: Final = 254
TCPOPT_FASTOPEN_MAGIC: Final = 0xF989

FIN: Final = 0x001
SYN: Final = 0x002
RST: Final = 0x004
PSH: Final = 0x008
ACK: Final = 0x010
URG: Final = 0x020
ECE: Final = 0x040
CWR: Final = 0x080
AE: Final = 0x100


class Udp(Layer, frozen=True):
    """A UDP header; `len` counts the header's 8 bytes too. RFC 768."""

    NAME: ClassVar[str] = "udp"
    source: int
    dest: int
    len: int
    check: int

    def wire(self) -> bytes:
        """8 bytes."""
        return UDP.pack(self.source, self.dest, self.len, self.check)


class TcpOption(Struct, frozen=True):
    """Base of the TCP options; `kind` is the octet on the wire."""

    @property
    def kind(self) -> int:
        """The option's kind."""
        raise NotImplementedError(f"{type(self).__name__} has no kind")

    def body(self) -> bytes:
        """What follows the length octet."""
        return b""

    def wire(self) -> bytes:
        """Kind, length and body."""
        body = self.body()
        return bytes((self.kind, len(body) + 2)) + body


class Eol(TcpOption, frozen=True):
    """End of the list; `pad` is what stands behind it in the header."""

    pad: bytes = b""

    @property
    def kind(self) -> int:
        """TCPOPT_EOL."""
        return TCPOPT_EOL

    def wire(self) -> bytes:
        """A zero octet and the padding."""
        return b"\0" + self.pad


class Nop(TcpOption, frozen=True):
    """One octet of alignment."""

    @property
    def kind(self) -> int:
        """TCPOPT_NOP."""
        return TCPOPT_NOP

    def wire(self) -> bytes:
        """One octet."""
        return b"\1"


class Mss(TcpOption, frozen=True):
    """The largest segment the sender takes, in bytes. RFC 9293 3.7.1."""

    mss: int

    @property
    def kind(self) -> int:
        """TCPOPT_MSS."""
        return TCPOPT_MSS

    def body(self) -> bytes:
        """2 bytes."""
        return self.mss.to_bytes(2, "big")


class Wscale(TcpOption, frozen=True):
    """The shift to be applied to the sender's windows. RFC 7323 2."""

    shift: int

    @property
    def kind(self) -> int:
        """TCPOPT_WINDOW."""
        return TCPOPT_WINDOW

    def body(self) -> bytes:
        """1 byte."""
        return bytes((self.shift,))


class SackPerm(TcpOption, frozen=True):
    """The sender takes SACK options. RFC 2018 2."""

    @property
    def kind(self) -> int:
        """TCPOPT_SACK_PERM."""
        return TCPOPT_SACK_PERM


class Sack(TcpOption, frozen=True):
    """Ranges [start, end) that arrived out of order, or first a duplicate one. RFC 2018 3, RFC 2883 4."""

    blocks: tuple[tuple[int, int], ...]

    @property
    def kind(self) -> int:
        """TCPOPT_SACK."""
        return TCPOPT_SACK

    def body(self) -> bytes:
        """8 bytes a block."""
        return b"".join(TSTAMP.pack(*b) for b in self.blocks)


class Timestamp(TcpOption, frozen=True):
    """The sender's clock and the clock value it echoes. RFC 7323 3."""

    tsval: int
    tsecr: int

    @property
    def kind(self) -> int:
        """TCPOPT_TIMESTAMP."""
        return TCPOPT_TIMESTAMP

    def body(self) -> bytes:
        """8 bytes."""
        return TSTAMP.pack(self.tsval, self.tsecr)


class Md5(TcpOption, frozen=True):
    """An MD5 signature of 16 bytes. RFC 2385 3."""

    digest: bytes

    @property
    def kind(self) -> int:
        """TCPOPT_MD5SIG."""
        return TCPOPT_MD5SIG

    def body(self) -> bytes:
        """16 bytes."""
        return self.digest


class Ao(TcpOption, frozen=True):
    """The authentication option. RFC 5925 2.2."""

    keyid: int
    rnext_keyid: int
    mac: bytes

    @property
    def kind(self) -> int:
        """TCPOPT_AO."""
        return TCPOPT_AO

    def body(self) -> bytes:
        """2 bytes and the MAC."""
        return bytes((self.keyid, self.rnext_keyid)) + self.mac


class Mptcp(TcpOption, frozen=True):
    """A multipath TCP option: recognised, its body kept. RFC 8684 3."""

    data: bytes

    @property
    def kind(self) -> int:
        """TCPOPT_MPTCP."""
        return TCPOPT_MPTCP

    @property
    def subtype(self) -> int:
        """MP_CAPABLE is 0, MP_JOIN 1, DSS 2, ..."""
        return self.data[0] >> 4

    def body(self) -> bytes:
        """At least 1 byte."""
        return self.data


class Fastopen(TcpOption, frozen=True):
    """A fast open cookie, or the request for one if empty; `exp`: kind 254 with its magic, not 34. RFC 7413 4.1."""

    cookie: bytes = b""
    exp: bool = False

    @property
    def kind(self) -> int:
        """TCPOPT_FASTOPEN or TCPOPT_EXP."""
        return TCPOPT_EXP if self.exp else TCPOPT_FASTOPEN

    def body(self) -> bytes:
        """The cookie, behind the magic number in the experimental kind."""
        return TCPOPT_FASTOPEN_MAGIC.to_bytes(2, "big") + self.cookie if self.exp else self.cookie


class AccEcn(TcpOption, frozen=True):
    """Up to three byte counters of 24 bits; kind 172 starts with ECT(0)'s, 174 with ECT(1)'s. RFC 9768 3.2.3."""

    order: int
    counters: tuple[int, ...]

    @property
    def kind(self) -> int:
        """TCPOPT_ACCECN0 or TCPOPT_ACCECN1 by `order`."""
        return TCPOPT_ACCECN1 if self.order else TCPOPT_ACCECN0

    def body(self) -> bytes:
        """3 bytes a counter."""
        return b"".join(c.to_bytes(3, "big") for c in self.counters)


class Unknown(TcpOption, frozen=True):
    """An option of another kind, or of a known kind with a length that the kernel does not take."""

    number: int
    data: bytes = b""

    @property
    def kind(self) -> int:
        """The octet as it was."""
        return self.number

    def body(self) -> bytes:
        """As it was."""
        return self.data


Option = TcpOption | Rest
T = TypeVar("T", bound=TcpOption)


class Tcp(Layer, frozen=True):
    """A TCP header. RFC 9293 3.1.

    `flags` are AE, CWR, ECE, URG, ACK, PSH, RST, SYN, FIN from 0x100 down, `res1` the three bits above them.
    """

    NAME: ClassVar[str] = "tcp"
    source: int
    dest: int
    seq: int
    ack_seq: int
    doff: int
    flags: int
    window: int
    check: int = 0
    urg_ptr: int = 0
    options: tuple[Option, ...] = ()
    res1: int = 0

    def option(self, kind: type[T]) -> T | None:
        """The last option of that type: the kernel keeps the last; source net/ipv4/tcp_input.c:tcp_parse_options."""
        found = [o for o in self.options if isinstance(o, kind)]
        return found[-1] if found else None

    def wire(self) -> bytes:
        """4 * doff bytes."""
        word = self.doff << 12 | self.res1 << 9 | self.flags
        head = TCP.pack(self.source, self.dest, self.seq, self.ack_seq, word, self.window, self.check, self.urg_ptr)
        return head + b"".join(o.wire() for o in self.options)


def _option(kind: int, body: bytes) -> Option:
    n = len(body)
    if kind == TCPOPT_TIMESTAMP and n == 8:
        return Timestamp(*TSTAMP.unpack(body))
    if kind == TCPOPT_MSS and n == 2:
        return Mss(body[0] << 8 | body[1])
    if kind == TCPOPT_WINDOW and n == 1:
        return Wscale(body[0])
    if kind == TCPOPT_SACK_PERM and n == 0:
        return SackPerm()
    if kind == TCPOPT_SACK and n >= 8 and n % 8 == 0:
        return Sack(tuple(TSTAMP.iter_unpack(body)))
    if kind == TCPOPT_MD5SIG and n == 16:
        return Md5(body)
    if kind == TCPOPT_AO and n >= 2:
        return Ao(body[0], body[1], body[2:])
    if kind == TCPOPT_MPTCP and n >= 1:
        return Mptcp(body)
    if kind == TCPOPT_FASTOPEN:
        return Fastopen(body)
    if kind == TCPOPT_EXP and n >= 2 and body[0] << 8 | body[1] == TCPOPT_FASTOPEN_MAGIC:
        return Fastopen(body[2:], exp=True)
    if kind in (TCPOPT_ACCECN0, TCPOPT_ACCECN1) and n % 3 == 0 and n <= 9:
        counters = tuple(int.from_bytes(body[i : i + 3], "big") for i in range(0, n, 3))
        return AccEcn(int(kind == TCPOPT_ACCECN1), counters)
    return Unknown(kind, body)


def tcp_options(raw: bytes) -> tuple[Option, ...]:
    """Splits a TCP option area. Like the kernel it stops at the first impossible length; from there on it is a `Rest`.

    source net/ipv4/tcp_input.c:tcp_parse_options
    """
    out: list[Option] = []
    i, n = 0, len(raw)
    while i < n:
        kind = raw[i]
        if kind == TCPOPT_EOL:
            out.append(Eol(raw[i + 1 :]))
            break
        if kind == TCPOPT_NOP:
            out.append(Nop())
            i += 1
            continue
        if i + 2 > n or raw[i + 1] < 2 or i + raw[i + 1] > n:
            out.append(Rest(raw[i:]))
            break
        size = raw[i + 1]
        out.append(_option(kind, raw[i + 2 : i + size]))
        i += size
    return tuple(out)
