"""The objects of UDP: sockets, datagrams that wait to be read, datagrams on the wire.

The law: payload has no content here; a datagram is a number of bytes (`payload` is for a host whose wire carries
content). A datagram on the wire is a packet of its own, or the
first or a later fragment of one.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from refmodel.tcp.whole.sock import InetSock

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

AF_INET: Final = 2
AF_INET6: Final = 10
SOCK_DGRAM: Final = 2
IPPROTO_UDP: Final = 17
UDP_HLEN: Final = 8
UDP_MAX_SEGMENTS: Final = 1 << 7


class Datagram:
    """A UDP datagram between IP and UDP, in either direction, or a fragment of one.

    `len` counts payload bytes in this packet, `ulen` is the header's length field. `frag` is a fragment's offset in
    bytes (None: it is no fragment), `more` says that another follows. `check` is False where the header has no
    checksum. `truesize` of one that arrives is its memory; `time` is when it left (us).
    """

    __slots__ = (
        "bad_csum", "by", "check", "daddr", "df", "dport", "flowlabel", "frag", "len", "more", "mtu", "payload",
        "saddr", "sport", "tap", "time", "tos", "truesize", "ttl", "ulen",
    )  # fmt: skip

    def __init__(
        self, saddr: bytes, daddr: bytes, sport: int, dport: int, len: int, tos: int = 0, ttl: int = 64
    ) -> None:
        self.saddr = saddr
        self.daddr = daddr
        self.sport = sport
        self.dport = dport
        self.len = len
        self.ulen = len + UDP_HLEN
        self.tos = tos
        self.ttl = ttl
        self.flowlabel = 0
        self.df = False
        self.check = True
        self.bad_csum = False
        self.frag: int | None = None
        self.more = False
        self.mtu = 0
        self.truesize = 0
        self.payload = b""
        self.by = ""
        self.time = 0
        self.tap = 0


class RxSkb:
    """A datagram in a receive queue: struct sk_buff as UDP keeps it, with when it came (us)."""

    __slots__ = ("drops", "len", "off", "packet", "peeked", "truesize", "tstamp")

    def __init__(self, packet: Datagram, truesize: int, tstamp: int) -> None:
        self.packet = packet
        self.len = packet.len
        self.off = 0
        self.truesize = truesize
        self.tstamp = tstamp
        self.peeked = False
        self.drops = 0


class Cork:
    """struct inet_cork_full: what was said of a datagram when it was begun, and how much of it there is.

    `length` counts the UDP header too; `truesize` is the memory of what waits.
    """

    __slots__ = (
        "daddr", "dontfrag", "dport", "fragsize", "gso_size", "length", "mark", "saddr", "tos", "truesize", "tsflags",
        "ttl", "uarg",
    )  # fmt: skip

    def __init__(self, daddr: bytes, dport: int, saddr: bytes) -> None:
        self.daddr = daddr
        self.dport = dport
        self.saddr = saddr
        self.fragsize = 0
        self.gso_size = 0
        self.length = 0
        self.truesize = 0
        self.ttl = -1
        self.tos = -1
        self.dontfrag = False
        self.mark = 0
        self.tsflags = 0
        self.uarg: Any = None


class UdpSock(InetSock):
    """struct udp_sock on top of inet_sock."""

    sk_type = SOCK_DGRAM
    sk_protocol = IPPROTO_UDP

    def __init__(self, net: "Net", family: int) -> None:
        super().__init__(net, family)
        self.sk_receive_queue: deque[RxSkb] = deque()
        self.reader_queue: deque[RxSkb] = deque()
        self.forward_deficit = 0
        self.forward_threshold = 0
        self.pending = 0  # AF_INET or AF_INET6 while a datagram is corked
        self.cork: Cork | None = None
        self.corkflag = False  # UDP_CORK
        self.no_check6_tx = False
        self.no_check6_rx = False
        self.gro_enabled = False
        self.gso_size = 0
        self.encap_type = 0
        self.hashed = False

    def get_port(self, snum: int) -> int:
        """Source net/ipv4/udp.c:udp_lib_get_port."""
        from refmodel.udp import table

        return table.udp_lib_get_port(self, snum)

    def write_space(self) -> None:
        """Source net/core/sock.c:sock_def_write_space."""
        from refmodel.tcp.whole import poll

        if self.sk_wmem_alloc << 1 <= self.sk_sndbuf:
            poll.wake_up(self.sk_wq, poll.EPOLLOUT | poll.EPOLLWRNORM | poll.EPOLLWRBAND)

    def backlog_rcv(self, skb: Any) -> None:
        """UDP has no backlog: a datagram is queued whoever holds the socket."""

    def release_cb(self) -> None:
        """The route follows a path MTU at the next send (net/ipv4/datagram.c:ip4_datagram_release_cb)."""
        self.sk_tsq_flags.clear()


def is_udp4(sk: UdpSock) -> bool:
    """The socket's peer speaks IPv4."""
    return sk.sk_family == AF_INET or sk.mapped
