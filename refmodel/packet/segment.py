"""The hot path: one flat struct for a TCP segment over IPv4 or IPv6, decoded in one look.

`segment` reads what a checker needs of every frame and nothing else; `Segment.packet` gives all of it when asked. For
each frame that `segment` answers, the two agree; for each other frame it answers None and `decode` says why.
"""

import struct
from typing import Any, Final, final

from mypy_extensions import mypyc_attr

from refmodel.packet.codec import Packet, decode
from refmodel.packet.ether import VLAN_TPIDS
from refmodel.packet.ip import Ip6
from refmodel.packet.transport import FIN, SYN, TCPOPT_TIMESTAMP, Option, Tcp, tcp_options
from refmodel.packet.wire import LINKTYPE_ETHERNET

# h_proto, then an IPv4 header without options, then a TCP header: what nearly every frame of a capture starts with.
_ETH_IP_TCP: Final = struct.Struct("!12xHBBHHHBBH4s4sHHIIHHHH").unpack_from
_ETH_IP6_TCP: Final = struct.Struct("!12xHIHBB16s16sHHIIHHHH").unpack_from
_IP: Final = struct.Struct("!BBHHHBBH4s4s").unpack_from
_IP6: Final = struct.Struct("!IHBB16s16s").unpack_from
_TCP: Final = struct.Struct("!HHIIHHHH").unpack_from
_TS: Final = struct.Struct("!III").unpack_from
_U16: Final = struct.Struct("!H").unpack_from
_BLOCK: Final = struct.Struct("!II").unpack_from
_TS_ALIGNED: Final = 0x0101080A  # NOP, NOP, TIMESTAMP, 10: how Linux writes it on every segment but a SYN

# Where the EtherType stands, by link type.
_PROTO_AT: Final = {LINKTYPE_ETHERNET: 12, 113: 14, 276: 0}
_NET_AT: Final = {LINKTYPE_ETHERNET: 14, 113: 16, 276: 20, 0: 4, 108: 4, 12: 0, 14: 0, 101: 0, 228: 0, 229: 0}


FIELDS: Final = (
    "ack_seq",
    "daddr",
    "data",
    "dest",
    "df",
    "flags",
    "ip_id",
    "l3",
    "l4",
    "len",
    "linktype",
    "mss",
    "number",
    "orig_len",
    "payload_at",
    "sack",
    "sack_perm",
    "saddr",
    "seq",
    "source",
    "time",
    "tos",
    "truncated",
    "tsecr",
    "tsval",
    "ttl",
    "urg_ptr",
    "window",
    "wscale",
)  # fmt: skip


@final
@mypyc_attr(acyclic=True, free_list_len=1)
class Segment:
    """One TCP segment as captured; it does not change.

    `time` is in ns, `saddr` and `daddr` are 4 or 16 bytes, `flags` has AE at 0x100 down to FIN at 1, `window` is not
    scaled, `len` is the payload's length by the headers, whatever the snaplen left of it. An option that is not there
    is None (`sack`: empty); as in the kernel the last of a kind counts. Over IPv6 `ip_id` is None, `tos` the traffic
    class, `ttl` the hop limit. `l3`, `l4` and `payload_at` are offsets in `data`. `truncated`: options were cut off.
    """

    __slots__ = FIELDS

    def __init__(
        self,
        number: int, time: int, saddr: bytes, daddr: bytes, source: int, dest: int, seq: int, ack_seq: int,
        flags: int, window: int, len: int, tsval: int | None, tsecr: int | None, ip_id: int | None,
        ttl: int, df: bool, tos: int, urg_ptr: int, l3: int, l4: int, payload_at: int, data: bytes,
        linktype: int, orig_len: int, mss: int | None = None, wscale: int | None = None,
        sack_perm: bool = False, sack: tuple[tuple[int, int], ...] = (), truncated: bool = False,
    ) -> None:  # fmt: skip
        self.number: Final = number
        self.time: Final = time
        self.saddr: Final = saddr
        self.daddr: Final = daddr
        self.source: Final = source
        self.dest: Final = dest
        self.seq: Final = seq
        self.ack_seq: Final = ack_seq
        self.flags: Final = flags
        self.window: Final = window
        self.len: Final = len
        self.tsval: Final = tsval
        self.tsecr: Final = tsecr
        self.ip_id: Final = ip_id
        self.ttl: Final = ttl
        self.df: Final = df
        self.tos: Final = tos
        self.urg_ptr: Final = urg_ptr
        self.l3: Final = l3
        self.l4: Final = l4
        self.payload_at: Final = payload_at
        self.data: Final = data
        self.linktype: Final = linktype
        self.orig_len: Final = orig_len
        self.mss: Final = mss
        self.wscale: Final = wscale
        self.sack_perm: Final = sack_perm
        self.sack: Final = sack
        self.truncated: Final = truncated

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Segment) and self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash((self.number, self.time, self.data))

    def __repr__(self) -> str:
        return f"Segment({', '.join(f'{k}={v!r}' for k, v in self.fields().items())})"

    def fields(self) -> dict[str, Any]:
        """Every field by its name."""
        return {name: getattr(self, name) for name in FIELDS}

    def changed(self, **fields: Any) -> "Segment":
        """The same segment but for `fields`; its bytes stay as they are."""
        return Segment(**{**self.fields(), **fields})

    @property
    def seg_len(self) -> int:
        """SEG.LEN: the sequence space that the segment takes, SYN and FIN counted. RFC 9293 3.4."""
        return self.len + (self.flags & FIN) + (self.flags & SYN) // SYN

    @property
    def end_seq(self) -> int:
        """The sequence number behind the segment."""
        return (self.seq + self.seg_len) & 0xFFFFFFFF

    @property
    def ecn(self) -> int:
        """The two ECN bits of the IP header."""
        return self.tos & 3

    @property
    def payload(self) -> bytes:
        """The captured payload; shorter than `len` if the snaplen cut it."""
        return self.data[self.payload_at : self.payload_at + self.len]

    @property
    def options(self) -> tuple[Option, ...]:
        """Every TCP option in order."""
        return tcp_options(self.data[self.l4 + 20 : self.payload_at])

    def packet(self) -> Packet:
        """The whole frame, layer by layer."""
        return decode(self.data, self.linktype, self.orig_len)


def segment(
    number: int, time: int, data: bytes, linktype: int = LINKTYPE_ETHERNET, orig_len: int = 0
) -> Segment | None:
    """The TCP segment in a captured frame (`time` in ns, `orig_len` its length on the wire), or None.

    None means: not TCP over IP, a later fragment, malformed, or cut before the end of the fixed TCP header.
    """
    if linktype == LINKTYPE_ETHERNET and len(data) >= 54:
        size = orig_len if orig_len > len(data) else len(data)
        (proto, vihl, tos, tot_len, ip_id, frag, ttl, protocol, _, saddr, daddr,
         source, dest, seq, ack_seq, word, window, _, urg_ptr) = _ETH_IP_TCP(data)  # fmt: skip
        if proto == 0x0800 and vihl == 0x45 and protocol == 6 and not frag & 0x1FFF:
            doff = word >> 12 << 2
            length = tot_len - 20 - doff
            if 14 + tot_len > size or length < 0 or doff < 20:
                return _slow(number, time, data, linktype, size)
            if doff == 32 and len(data) >= 66:
                mark, tsval, tsecr = _TS(data, 54)
                if mark == _TS_ALIGNED:
                    return Segment(
                        number, time, saddr, daddr, source, dest, seq, ack_seq, word & 0x1FF, window, length, tsval,
                        tsecr, ip_id, ttl, frag & 0x4000 != 0, tos, urg_ptr, 14, 34, 66, data, linktype, size,
                    )  # fmt: skip
            elif doff == 20:
                return Segment(
                    number, time, saddr, daddr, source, dest, seq, ack_seq, word & 0x1FF, window, length, None,
                    None, ip_id, ttl, frag & 0x4000 != 0, tos, urg_ptr, 14, 34, 54, data, linktype, size,
                )  # fmt: skip
            return _with_options(
                number, time, data, linktype, size, saddr, daddr, length, ip_id, ttl, frag & 0x4000 != 0, tos, 14, 34
            )
        if proto == 0x86DD and len(data) >= 86:
            (_, first, payload_len, nexthdr, ttl, saddr, daddr,
             source, dest, seq, ack_seq, word, window, _, urg_ptr) = _ETH_IP6_TCP(data)  # fmt: skip
            doff = word >> 12 << 2
            length = payload_len - doff
            if nexthdr == 6 and doff == 32 and first >> 28 == 6 and 54 + payload_len <= size and length >= 0:
                mark, tsval, tsecr = _TS(data, 74)
                if mark == _TS_ALIGNED:
                    return Segment(
                        number, time, saddr, daddr, source, dest, seq, ack_seq, word & 0x1FF, window, length, tsval,
                        tsecr, None, ttl, True, first >> 20 & 0xFF, urg_ptr, 14, 54, 86, data, linktype, size,
                    )  # fmt: skip
        return _slow(number, time, data, linktype, size)
    return _slow(number, time, data, linktype, max(orig_len, len(data)))


def _slow(number: int, time: int, data: bytes, linktype: int, size: int) -> Segment | None:
    """Everything that is not a plain Ethernet frame: other link types, VLAN tags, IP options, extension headers."""
    at = _NET_AT.get(linktype)
    n = len(data)
    if at is None or n < at + 40:
        return None
    proto_at = _PROTO_AT.get(linktype)
    if proto_at is not None:
        (proto,) = _U16(data, proto_at)
        while proto in VLAN_TPIDS and n >= at + 44:
            (proto,) = _U16(data, at + 2)
            at += 4
        if proto not in (0x0800, 0x86DD):
            return None
    elif at == 4 and not _ip_family(data, linktype):
        return None
    else:
        proto = 0
    version = data[at] >> 4
    if version == 4 and proto != 0x86DD:
        return _over_ip(number, time, data, linktype, size, at)
    if version == 6 and proto != 0x0800:
        return _over_ip6(number, time, data, linktype, size, at)
    return None


def _ip_family(data: bytes, linktype: int) -> bool:
    """The BSD loopback header says IPv4 or IPv6, in either byte order."""
    family = int.from_bytes(data[:4], "big")
    if linktype == 0 and family > 0xFFFF:
        family = int.from_bytes(data[:4], "little")
    return family in (2, 10, 24, 28, 30)


def _over_ip(number: int, time: int, data: bytes, linktype: int, size: int, l3: int) -> Segment | None:
    vihl, tos, tot_len, ip_id, frag, ttl, protocol, _, saddr, daddr = _IP(data, l3)
    ihl = (vihl & 15) << 2
    if protocol != 6 or frag & 0x1FFF or ihl < 20:
        return None
    if tot_len == 0 and size - l3 > 0xFFFF:
        tot_len = size - l3
    if l3 + tot_len > size or len(data) < l3 + ihl + 20:
        return None
    df = frag & 0x4000 != 0
    length = tot_len - ihl - (data[l3 + ihl + 12] >> 4 << 2)
    return _with_options(number, time, data, linktype, size, saddr, daddr, length, ip_id, ttl, df, tos, l3, l3 + ihl)


def _over_ip6(number: int, time: int, data: bytes, linktype: int, size: int, l3: int) -> Segment | None:
    if len(data) < l3 + 60:
        return None
    first, payload_len, nexthdr, ttl, saddr, daddr = _IP6(data, l3)
    tos = first >> 20 & 0xFF
    if nexthdr != 6 or (payload_len == 0 and size - l3 - 40 > 0xFFFF):
        return _behind_extensions(number, time, data, linktype, size, l3)
    if l3 + 40 + payload_len > size:
        return None
    length = payload_len - (data[l3 + 52] >> 4 << 2)
    return _with_options(number, time, data, linktype, size, saddr, daddr, length, None, ttl, True, tos, l3, l3 + 40)


def _behind_extensions(number: int, time: int, data: bytes, linktype: int, size: int, l3: int) -> Segment | None:
    """IPv6 extension headers are rare: the readable decoder walks them."""
    p = decode(data, linktype, size)
    ip6, tcp = p.get(Ip6), p.get(Tcp)
    if ip6 is None or tcp is None:
        return None
    header = 4 * tcp.doff
    captured = 20 + sum(len(o.wire()) for o in tcp.options)
    l4 = len(data) - len(p.trailer) - len(p.payload) - captured
    return _with_options(
        number, time, data, linktype, size, ip6.saddr, ip6.daddr,
        p.payload_len - (header - captured), None, ip6.hop_limit, True, ip6.tclass, l3, l4,
    )  # fmt: skip


def _with_options(
    number: int, time: int, data: bytes, linktype: int, size: int, saddr: bytes, daddr: bytes,
    length: int, ip_id: int | None, ttl: int, df: bool, tos: int, l3: int, l4: int,
) -> Segment | None:  # fmt: skip
    """A segment whose options are read one by one; source net/ipv4/tcp_input.c:tcp_parse_options."""
    source, dest, seq, ack_seq, word, window, _, urg_ptr = _TCP(data, l4)
    doff = word >> 12 << 2
    if doff < 20 or length < 0:
        return None
    mss = wscale = tsval = tsecr = None
    sack_perm = False
    sack: tuple[tuple[int, int], ...] = ()
    i, end = l4 + 20, l4 + doff
    truncated = end > len(data)
    if truncated:
        end = len(data)
    while i < end:
        kind = data[i]
        if kind == 0:
            break
        if kind == 1:
            i += 1
            continue
        if i + 2 > end:
            break
        n = data[i + 1]
        if n < 2 or i + n > end:
            break
        if kind == TCPOPT_TIMESTAMP and n == 10:
            tsval, tsecr = _BLOCK(data, i + 2)
        elif kind == 5 and n >= 10 and n & 7 == 2:
            sack = tuple(_BLOCK(data, at) for at in range(i + 2, i + n, 8))
        elif kind == 2 and n == 4:
            (mss,) = _U16(data, i + 2)
        elif kind == 3 and n == 3:
            wscale = data[i + 2]
        elif kind == 4 and n == 2:
            sack_perm = True
        i += n
    return Segment(
        number, time, saddr, daddr, source, dest, seq, ack_seq, word & 0x1FF, window, length, tsval, tsecr, ip_id,
        ttl, df, tos, urg_ptr, l3, l4, min(l4 + doff, len(data)), data, linktype, size, mss, wscale, sack_perm, sack,
        truncated,
    )  # fmt: skip
