"""struct iphdr in a packet's real bytes: fields are read and written in place, and the checksum is made."""

from struct import pack_into, unpack_from
from typing import Final

from refmodel.ip.const import IP_MF, IP_OFFSET
from refmodel.packet.wire import checksum
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

SIZEOF_IPHDR: Final = 20


class Iphdr:
    """The IPv4 header at `at` in `data`, which it changes in place. RFC 791 3.1."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytearray, at: int = 0) -> None:
        self.data = data
        self.at = at

    def _u16(self, at: int) -> int:
        return int(unpack_from("!H", self.data, self.at + at)[0])

    def _set(self, at: int, value: int) -> None:
        pack_into("!H", self.data, self.at + at, value)

    @property
    def version(self) -> int:
        """4 in a valid packet."""
        return self.data[self.at] >> 4

    @property
    def ihl(self) -> int:
        """Header length in words of 4 bytes."""
        return self.data[self.at] & 15

    @ihl.setter
    def ihl(self, words: int) -> None:
        self.data[self.at] = 0x40 | words

    @property
    def hdrlen(self) -> int:
        """Header length in bytes; source include/net/ip.h:ip_hdrlen."""
        return self.ihl * 4

    @property
    def tos(self) -> int:
        """Type of service: DSCP and ECN."""
        return self.data[self.at + 1]

    @tos.setter
    def tos(self, value: int) -> None:
        self.data[self.at + 1] = value

    @property
    def tot_len(self) -> int:
        """Length of the packet in bytes."""
        return self._u16(2)

    @tot_len.setter
    def tot_len(self, value: int) -> None:
        self._set(2, value)

    @property
    def id(self) -> int:
        """Identification."""
        return self._u16(4)

    @id.setter
    def id(self, value: int) -> None:
        self._set(4, value)

    @property
    def frag_off(self) -> int:
        """Flags and offset."""
        return self._u16(6)

    @frag_off.setter
    def frag_off(self, value: int) -> None:
        self._set(6, value)

    @property
    def ttl(self) -> int:
        """Time to live."""
        return self.data[self.at + 8]

    @ttl.setter
    def ttl(self, value: int) -> None:
        self.data[self.at + 8] = value

    @property
    def protocol(self) -> int:
        """What follows the header."""
        return self.data[self.at + 9]

    @property
    def check(self) -> int:
        """The header's checksum."""
        return self._u16(10)

    @check.setter
    def check(self, value: int) -> None:
        self._set(10, value)

    @property
    def saddr(self) -> bytes:
        """Source address."""
        return bytes(self.data[self.at + 12 : self.at + 16])

    @saddr.setter
    def saddr(self, value: bytes) -> None:
        self.data[self.at + 12 : self.at + 16] = value

    @property
    def daddr(self) -> bytes:
        """Destination address."""
        return bytes(self.data[self.at + 16 : self.at + 20])

    @daddr.setter
    def daddr(self, value: bytes) -> None:
        self.data[self.at + 16 : self.at + 20] = value


def ip_hdr(skb: SkBuff) -> Iphdr:
    """The packet's IPv4 header; source include/linux/ip.h:ip_hdr."""
    return Iphdr(skb.data)


def ip_is_fragment(iph: Iphdr) -> bool:
    """The packet is a part of a datagram; source include/net/ip.h:ip_is_fragment."""
    return bool(iph.frag_off & (IP_MF | IP_OFFSET))


@cited("net/ipv4/ip_output.c:ip_send_check", "RFC 791 3.1")
def ip_send_check(iph: Iphdr) -> None:
    """The header's checksum is made anew."""
    iph.check = 0
    iph.check = checksum(bytes(iph.data[iph.at : iph.at + iph.hdrlen]))


@cited("include/net/ip.h:ip_decrease_ttl", "RFC 1624 3")
def ip_decrease_ttl(iph: Iphdr) -> int:
    """One hop less, and the checksum one step further: it is changed, not made anew."""
    check = iph.check + 0x0100
    iph.check = (check + (1 if check >= 0xFFFF else 0)) & 0xFFFF
    iph.ttl -= 1
    return iph.ttl


def new_header(
    options: int, tos: int, frag_off: int, ttl: int, protocol: int, saddr: bytes, daddr: bytes, id: int = 0
) -> bytearray:
    """A header with room for `options` bytes of options, without length and checksum."""
    head = bytearray(SIZEOF_IPHDR + options)
    iph = Iphdr(head)
    iph.ihl = 5 + options // 4
    iph.tos = tos
    iph.id = id
    iph.frag_off = frag_off
    iph.ttl = ttl
    head[9] = protocol
    iph.saddr = saddr
    iph.daddr = daddr
    return head
