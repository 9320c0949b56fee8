"""Link-layer headers: Ethernet with VLAN tags, ARP, and the pseudo-headers that Linux's taps write in place of them."""

import struct
from enum import IntEnum
from typing import ClassVar, Final, Literal

from refmodel.packet.wire import Layer

ETH_P_IP: Final = 0x0800
ETH_P_ARP: Final = 0x0806
ETH_P_8021Q: Final = 0x8100
ETH_P_IPV6: Final = 0x86DD
ETH_P_8021AD: Final = 0x88A8
ETH_P_QINQ1: Final = 0x9100
VLAN_TPIDS: Final = frozenset({ETH_P_8021Q, ETH_P_8021AD, ETH_P_QINQ1})
ETH_P_802_3_MIN: Final = 0x0600  # below it, h_proto is an 802.3 length

ETH = struct.Struct("!6s6sH")
VLAN = struct.Struct("!HH")
SLL = struct.Struct("!HHH8sH")
SLL2 = struct.Struct("!HHIHBB8s")
ARP = struct.Struct("!HHBBH")


class PacketType(IntEnum):
    """Whom a frame was for, as a packet socket says it (include/uapi/linux/if_packet.h)."""

    PACKET_HOST = 0
    PACKET_BROADCAST = 1
    PACKET_MULTICAST = 2
    PACKET_OTHERHOST = 3
    PACKET_OUTGOING = 4


class ArpOp(IntEnum):
    """ARP operations that Linux sends or answers (include/uapi/linux/if_arp.h)."""

    ARPOP_REQUEST = 1
    ARPOP_REPLY = 2


class Ether(Layer, frozen=True):
    """An Ethernet header. `h_proto` is the type, or a length if below 0x0600."""

    NAME: ClassVar[str] = "eth"
    h_dest: bytes
    h_source: bytes
    h_proto: int

    def wire(self) -> bytes:
        """14 bytes."""
        return ETH.pack(self.h_dest, self.h_source, self.h_proto)


class Vlan(Layer, frozen=True):
    """One VLAN tag behind an Ethernet header or another tag; its TPID is the `h_proto` before it. IEEE 802.1Q 9.6."""

    NAME: ClassVar[str] = "vlan"
    h_vlan_tci: int
    h_proto: int

    @property
    def vid(self) -> int:
        """The VLAN's number."""
        return self.h_vlan_tci & 0x0FFF

    @property
    def pcp(self) -> int:
        """The priority code point, 0 to 7."""
        return self.h_vlan_tci >> 13

    @property
    def dei(self) -> bool:
        """Drop eligible."""
        return bool(self.h_vlan_tci & 0x1000)

    def wire(self) -> bytes:
        """4 bytes."""
        return VLAN.pack(self.h_vlan_tci, self.h_proto)


class Sll(Layer, frozen=True):
    """The 'cooked' header of captures on the `any` device, first version. `sll_addr` is padded to 8 bytes."""

    NAME: ClassVar[str] = "sll"
    sll_pkttype: int
    sll_hatype: int
    sll_halen: int
    sll_addr: bytes
    h_proto: int

    def wire(self) -> bytes:
        """16 bytes."""
        return SLL.pack(self.sll_pkttype, self.sll_hatype, self.sll_halen, self.sll_addr, self.h_proto)


class Sll2(Layer, frozen=True):
    """The 'cooked' header, second version: it names the interface by its index."""

    NAME: ClassVar[str] = "sll2"
    h_proto: int
    reserved: int
    sll_ifindex: int
    sll_hatype: int
    sll_pkttype: int
    sll_halen: int
    sll_addr: bytes

    def wire(self) -> bytes:
        """20 bytes."""
        return SLL2.pack(
            self.h_proto,
            self.reserved,
            self.sll_ifindex,
            self.sll_hatype,
            self.sll_pkttype,
            self.sll_halen,
            self.sll_addr,
        )


class Null(Layer, frozen=True):
    """BSD's loopback header: the address family in the byte order of the capturing host (`order`)."""

    NAME: ClassVar[str] = "null"
    family: int
    order: Literal["big", "little"]

    def wire(self) -> bytes:
        """4 bytes."""
        return self.family.to_bytes(4, self.order)


class Arp(Layer, frozen=True):
    """An ARP packet with addresses of `ar_hln` and `ar_pln` bytes. RFC 826."""

    NAME: ClassVar[str] = "arp"
    ar_hrd: int
    ar_pro: int
    ar_hln: int
    ar_pln: int
    ar_op: int
    ar_sha: bytes
    ar_sip: bytes
    ar_tha: bytes
    ar_tip: bytes

    @property
    def gratuitous(self) -> bool:
        """Sender and target are one protocol address, in a reply one hardware address too.

        source net/ipv4/arp.c:arp_is_garp
        """
        return self.ar_sip == self.ar_tip and (self.ar_op != ArpOp.ARPOP_REPLY or self.ar_sha == self.ar_tha)

    def wire(self) -> bytes:
        """8 bytes and four addresses."""
        head = ARP.pack(self.ar_hrd, self.ar_pro, self.ar_hln, self.ar_pln, self.ar_op)
        return head + self.ar_sha + self.ar_sip + self.ar_tha + self.ar_tip
