"""Messages that tell a TCP of its path: fragmentation needed, packet too big.

What such a message quotes names the connection, and the end whose path it is about; source
net/ipv4/tcp_ipv4.c:tcp_v4_mtu_reduced, net/ipv6/tcp_ipv6.c:tcp_v6_mtu_reduced, RFC 1191 4, RFC 8201 4.
"""

from typing import Final

from msgspec import Struct

from refmodel.packet import LINKTYPE_ETHERNET
from refmodel.packet.codec import Packet
from refmodel.packet.icmp import Icmp, Icmp6, Icmp6Type, Icmp6Word, IcmpType

ICMP_FRAG_NEEDED: Final = 4
TCP: Final = 6
MIN_PMTU: Final = 552  # net.ipv4.route.min_pmtu: of what is smaller a route learns that
IPV6_MIN_MTU: Final = 1280


class Fall(Struct, frozen=True):
    """The path from `source` to `dest`, each an address and a port, takes no more than `mtu` bytes."""

    source: tuple[bytes, int]
    dest: tuple[bytes, int]
    mtu: int


def may_be_icmp(data: bytes, linktype: int) -> bool:
    """Whether a frame may hold ICMP or ICMPv6; a look at plain Ethernet."""
    if linktype != LINKTYPE_ETHERNET or len(data) < 34:
        return True
    kind = data[12:14]
    if kind == b"\x08\x00":
        return data[23] == 1
    return kind != b"\x86\xdd" or data[20] == 58


def fall(packet: Packet) -> Fall | None:
    """What a message tells of a TCP connection's path; None if it is no such message."""
    icmp, icmp6, quoted = packet.get(Icmp), packet.get(Icmp6), packet.payload
    if icmp is not None:
        if icmp.type != IcmpType.ICMP_DEST_UNREACH or icmp.code != ICMP_FRAG_NEEDED or len(quoted) < 20:
            return None
        at = (quoted[0] & 15) * 4
        if quoted[0] >> 4 != 4 or quoted[9] != TCP or len(quoted) < at + 4:
            return None
        return _of(quoted, quoted[12:16], quoted[16:20], at, max(icmp.un & 0xFFFF, MIN_PMTU))
    word = packet.get(Icmp6Word)
    if icmp6 is None or word is None or icmp6.type != Icmp6Type.ICMPV6_PKT_TOOBIG:
        return None
    if len(quoted) < 44 or quoted[0] >> 4 != 6 or quoted[6] != TCP:
        return None
    return _of(quoted, quoted[8:24], quoted[24:40], 40, max(word.un, IPV6_MIN_MTU))


def _of(quoted: bytes, saddr: bytes, daddr: bytes, at: int, mtu: int) -> Fall:
    source, dest = int.from_bytes(quoted[at : at + 2], "big"), int.from_bytes(quoted[at + 2 : at + 4], "big")
    return Fall((saddr, source), (daddr, dest), mtu)
