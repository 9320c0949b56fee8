"""A packet between the layers of a host: struct sk_buff below the transport protocols.

The law: `data` are real bytes that begin at the network header, so that every layer reads what the wire will carry. A
super-segment is one packet with `gso_size` set. The transport protocols have packet types of their own
(refmodel.tcp.whole.skb.Packet and others), which the host turns into these and back.
"""

from typing import Any, Final

from refmodel.netdevice import NetDevice

ETH_P_IP: Final = 0x0800
ETH_P_ARP: Final = 0x0806
ETH_P_8021Q: Final = 0x8100
ETH_P_IPV6: Final = 0x86DD
ETH_P_ALL: Final = 0x0003

PACKET_HOST: Final = 0
PACKET_BROADCAST: Final = 1
PACKET_MULTICAST: Final = 2
PACKET_OTHERHOST: Final = 3
PACKET_OUTGOING: Final = 4
PACKET_LOOPBACK: Final = 5

CHECKSUM_NONE: Final = 0
CHECKSUM_UNNECESSARY: Final = 1
CHECKSUM_COMPLETE: Final = 2
CHECKSUM_PARTIAL: Final = 3

SKB_GSO_TCPV4: Final = 1 << 0
SKB_GSO_DODGY: Final = 1 << 1
SKB_GSO_TCP_ECN: Final = 1 << 2
SKB_GSO_TCP_FIXEDID: Final = 1 << 3
SKB_GSO_TCPV6: Final = 1 << 4
SKB_GSO_UDP_L4: Final = 1 << 17

SKB_OVERHEAD: Final = 576  # of a linear skb: sizeof(struct sk_buff) and skb_shared_info, each rounded up, on x86-64


class SkBuff:
    """One packet.

    `data` starts at the network header; `mac_header` are the link-layer header's bytes in front of it (b"" until
    there is one). `transport` is the offset of the transport header in `data`, None until it is known. `protocol` is
    an ETH_P_ number, `pkt_type` a PACKET_ one, `ip_summed` a CHECKSUM_ one. `gso_size`, `gso_segs`, `gso_type`
    describe a super-segment (0: it is none). `truesize` bytes of memory. `mark`, `priority`, `queue_mapping`, `hash`
    as in struct sk_buff; `tstamp` in us. `dev` is where it is or goes, `skb_iif` the ifindex where it came in. `dst` is
    the route that was chosen, `nfct` the conntrack entry and `nfctinfo` its direction and state. `sk` is the socket
    that sent it, `by` the function that decided to send it. `cb` belongs to the layer that has it (IPCB, qdisc, GRO):
    who takes the packet writes it anew. `ignore_df`: it may be fragmented here whatever DF says. `src` is the
    transport's own packet, for whoever gets this one without its being touched.
    """

    __slots__ = (
        "by", "cb", "data", "dev", "dst", "gso_segs", "gso_size", "gso_type", "hash", "ignore_df", "ip_summed",
        "mac_header", "mark", "nfct", "nfctinfo", "pkt_type", "priority", "protocol", "queue_mapping", "sk", "skb_iif",
        "src", "transport", "truesize", "tstamp",
    )  # fmt: skip

    def __init__(
        self,
        data: bytes,
        protocol: int = ETH_P_IP,
        *,
        dev: NetDevice | None = None,
        mac_header: bytes = b"",
        pkt_type: int = PACKET_HOST,
        priority: int = 0,
        mark: int = 0,
        by: str = "",
    ) -> None:
        self.data = bytearray(data)
        self.mac_header = mac_header
        self.transport: int | None = None
        self.protocol = protocol
        self.pkt_type = pkt_type
        self.dev = dev
        self.skb_iif = 0
        self.ip_summed = CHECKSUM_NONE
        self.gso_size = 0
        self.gso_segs = 0
        self.gso_type = 0
        self.truesize = len(data) + SKB_OVERHEAD
        self.priority = priority
        self.mark = mark
        self.hash = 0
        self.queue_mapping = 0
        self.tstamp = 0
        self.ignore_df = False
        self.dst: Any = None
        self.nfct: Any = None
        self.nfctinfo = 0
        self.sk: Any = None
        self.src: Any = None
        self.cb: Any = None
        self.by = by

    @property
    def len(self) -> int:
        """Bytes from the network header on."""
        return len(self.data)

    @property
    def frame(self) -> bytes:
        """Link-layer header and packet, as on the medium without its FCS."""
        return self.mac_header + bytes(self.data)

    @property
    def is_gso(self) -> bool:
        """A device must cut it, or the stack must before the device; source include/linux/skbuff.h:skb_is_gso."""
        return self.gso_size != 0

    def copy(self) -> "SkBuff":
        """A second packet with the same bytes and fields of its own; source net/core/skbuff.c:skb_copy."""
        new = SkBuff.__new__(SkBuff)
        for name in SkBuff.__slots__:
            setattr(new, name, getattr(self, name))
        new.data = bytearray(self.data)
        return new

    def __repr__(self) -> str:
        return f"<skb {self.protocol:#06x} {len(self.data)} bytes{' by ' + self.by if self.by else ''}>"
