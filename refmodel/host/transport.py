"""TCP and UDP on a host: their packets become bytes on the way down and packets again on the way up.

The law: what the transport protocols decide is theirs alone (refmodel.tcp.whole, refmodel.udp); here stands what
tcp_v4_rcv and udp_rcv check of a packet's bytes before, and what the bytes say.
"""

from typing import TYPE_CHECKING, Final

from refmodel.dropreason import Reason
from refmodel.host.content import Stream
from refmodel.packet.transport import TCP, UDP, tcp_options
from refmodel.packet.wire import ones_sum, pseudo_header
from refmodel.rule import cited
from refmodel.skbuff import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    ETH_P_IP,
    ETH_P_IPV6,
    PACKET_HOST,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SkBuff,
)
from refmodel.tcp.whole.const import CWR, SYN
from refmodel.tcp.whole.options import read_options, wire_options
from refmodel.tcp.whole.skb import IcmpError, Packet
from refmodel.tcp.whole.sock import Sock
from refmodel.types import add
from refmodel.udp.sock import UDP_HLEN, Datagram

if TYPE_CHECKING:
    from refmodel.host.namespace import Namespace

IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
AHEAD: Final = 1 << 26  # bytes in front of a stream's end that are believed to belong to it

Key = tuple[bytes, int, bytes, int]


class Content:
    """The bytes of a host's streams: `sent` and `received` by (own address, own port, peer's address, peer's port)."""

    def __init__(self) -> None:
        self.sent: dict[Key, Stream] = {}
        self.received: dict[Key, Stream] = {}

    def wrote(self, sk: Sock, data: bytes) -> None:
        """An application is about to write `data` to a socket."""
        stream = self.sent.get(key := key_of(sk))
        if stream is None:
            stream = self.sent[key] = Stream(sk.write_seq)
        stream.put(sk.write_seq, data)

    def read(self, sk: Sock, n: int) -> bytes:
        """The `n` bytes that an application has just read from a socket."""
        stream = self.received.get(key_of(sk))
        if stream is None:
            return bytes(n)
        at = stream.base + stream.taken
        stream.taken += n
        return stream.get(at & 0xFFFFFFFF, n)

    def payload(self, packet: Packet) -> bytes:
        """What a segment that leaves carries; a byte that nobody wrote (a window probe's) is zero."""
        stream = self.sent.get((packet.saddr, packet.sport, packet.daddr, packet.dport))
        seq = add(packet.seq, 1) if packet.flags & SYN else packet.seq
        return stream.get(seq, packet.len) if stream is not None else bytes(packet.len)

    def arrived(self, packet: Packet, payload: bytes) -> None:
        """Keeps what a segment that arrives carries."""
        key = (packet.daddr, packet.dport, packet.saddr, packet.sport)
        stream = self.received.get(key)
        if packet.flags & SYN:
            if stream is None or stream.base != add(packet.seq, 1):
                stream = self.received[key] = Stream(add(packet.seq, 1))
        elif stream is None:
            stream = self.received[key] = Stream(packet.seq)
        if payload:
            seq = add(packet.seq, 1) if packet.flags & SYN else packet.seq
            if (seq - stream.base & 0xFFFFFFFF) <= len(stream.data) + AHEAD:
                stream.put(seq, payload)


def key_of(sk: Sock) -> Key:
    """A connection by its own end first."""
    return sk.inet_saddr, sk.inet_sport, sk.inet_daddr, sk.inet_dport


# ---------------------------------------------------------------- down


def tcp_bytes(packet: Packet, payload: bytes) -> bytes:
    """A segment's header and payload; the checksum field holds the pseudo-header's sum (CHECKSUM_PARTIAL)."""
    options = b"".join(o.wire() for o in wire_options(packet.opts, packet.flags))
    doff = 5 + len(options) // 4
    length = 4 * doff + packet.len
    check = pseudo_header(packet.saddr, packet.daddr, IPPROTO_TCP, length)
    return (
        TCP.pack(
            packet.sport,
            packet.dport,
            packet.seq,
            packet.ack_seq,
            doff << 12 | packet.flags & 0x1FF,
            packet.window,
            check,
            packet.urg_ptr,
        )
        + options
        + payload
    )


def tcp_skb(packet: Packet, payload: bytes) -> SkBuff:
    """The packet that TCP hands to IP, without an IP header yet; `transport` is 0."""
    v6 = len(packet.saddr) == 16
    skb = SkBuff(tcp_bytes(packet, payload), ETH_P_IPV6 if v6 else ETH_P_IP, by=packet.by)
    skb.transport = 0
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.src = packet
    skb.sk = packet.sk
    if packet.truesize > 1:
        skb.truesize = packet.truesize
    if packet.gso_size and packet.len > packet.gso_size:
        skb.gso_size = packet.gso_size
        skb.gso_segs = packet.gso_segs
        skb.gso_type = SKB_GSO_TCPV6 if v6 else SKB_GSO_TCPV4
        if packet.flags & CWR:
            skb.gso_type |= SKB_GSO_TCP_ECN
    return skb


def udp_bytes(packet: Datagram, payload: bytes) -> bytes:
    """A datagram's header and payload, its checksum complete unless the sender wants none."""
    head = UDP.pack(packet.sport, packet.dport, packet.ulen, 0)
    if packet.check:
        total = pseudo_header(packet.saddr, packet.daddr, IPPROTO_UDP, packet.ulen)
        check = ones_sum(head + payload, total) ^ 0xFFFF
        head = head[:6] + (check or 0xFFFF).to_bytes(2, "big")
    return head + payload


# ---------------------------------------------------------------- up


def addresses(skb: SkBuff) -> tuple[bytes, bytes]:
    """Source and destination of an IPv4 or IPv6 packet."""
    d = skb.data
    return (bytes(d[8:24]), bytes(d[24:40])) if d[0] >> 4 == 6 else (bytes(d[12:16]), bytes(d[16:20]))


def right(skb: SkBuff, protocol: int) -> bool:
    """The transport checksum holds, or the device or a virtual wire vouches for it."""
    if skb.ip_summed in (CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL):
        return True
    assert skb.transport is not None
    saddr, daddr = addresses(skb)
    body = bytes(skb.data[skb.transport :])
    return ones_sum(body, pseudo_header(saddr, daddr, protocol, len(body))) == 0xFFFF


def tcp_handler(ns: "Namespace", skb: SkBuff) -> int:
    """A packet for TCP: what tcp_v4_rcv checks of its bytes, then TCP itself."""
    at = skb.transport
    assert at is not None
    if skb.pkt_type != PACKET_HOST:
        ns.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return 0
    body = memoryview(skb.data)[at:]
    doff = body[12] >> 4 if len(body) >= 20 else 0
    if doff < 5 or len(body) < 4 * doff:
        ns.count("TcpInSegs")
        ns.count("TcpInErrs")
        ns.kfree_skb(skb, Reason.PKT_TOO_SMALL)
        return 0
    packet = tcp_packet(skb, body, 4 * doff)
    packet.bad_csum = not right(skb, IPPROTO_TCP)
    if packet.bad_csum:
        ns.handled = skb
        ns.receive(packet)
        ns.kfree_skb(skb, Reason.TCP_CSUM)
        return 0
    if packet.saddr not in ns.local_addrs or packet.len:
        ns.content.arrived(packet, bytes(body[4 * doff :]))
    ns.handled = skb
    ns.receive(packet)
    inet_sk_rx_dst_set(ns, skb, packet)
    ns.consume_skb(skb)
    return 0


def inet_sk_rx_dst_set(ns: "Namespace", skb: SkBuff, packet: Packet) -> None:
    """An established connection remembers the route by which it hears; what waits in a backlog has lost its route.

    Source net/ipv4/tcp_ipv4.c:inet_sk_rx_dst_set, tcp_add_backlog.
    """
    sk = ns.ehash.get((packet.saddr, packet.sport, packet.daddr, packet.dport))
    if isinstance(sk, Sock) and skb.dst is not None and not sk.sk_owned:
        known = ns.rx_dst.get(id(sk))
        if known is None or known[0] is not sk or known[1] != skb.skb_iif or known[3] != ns.fib_genid:
            ns.rx_dst[id(sk)] = (sk, skb.skb_iif, skb.dst, ns.fib_genid)


def tcp_packet(skb: SkBuff, body: memoryview, header: int) -> Packet:
    """The segment in a packet whose transport header is `body` and takes `header` bytes."""
    saddr, daddr = addresses(skb)
    sport, dport, seq, ack_seq, word, window, _, urg_ptr = TCP.unpack_from(body)
    v6 = len(saddr) == 16
    d = skb.data
    packet = Packet(
        saddr,
        daddr,
        sport,
        dport,
        seq,
        ack_seq,
        word & 0x1FF,
        window,
        len(body) - header,
        read_options(tcp_options(bytes(body[20:header]))),
        urg_ptr,
        (d[0] << 4 & 0xF0 | d[1] >> 4) if v6 else d[1],
        d[7] if v6 else d[8],
        skb.gso_size,
        skb.gso_segs or 1,
        skb.truesize,
        skb.by,
    )
    packet.flowlabel = int.from_bytes(d[1:4], "big") & 0xFFFFF if v6 else 0
    return packet


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_early_demux")
def tcp_v4_early_demux(ns: "Namespace", skb: SkBuff) -> None:
    """Looks for the connection of a packet before its route: an established one knows it already."""
    at = skb.transport
    if skb.pkt_type != PACKET_HOST or at is None or len(skb.data) < at + 20:
        return
    saddr, daddr = addresses(skb)
    sport, dport = int.from_bytes(skb.data[at : at + 2], "big"), int.from_bytes(skb.data[at + 2 : at + 4], "big")
    sk = ns.ehash.get((saddr, sport, daddr, dport))
    ns.note("tcp_v4_early_demux", "a connection" if sk is not None else "no connection")
    if isinstance(sk, Sock):
        skb.sk = sk
        rx_dst = ns.rx_dst.get(id(sk))
        if rx_dst is not None and rx_dst[0] is sk and rx_dst[1] == skb.skb_iif and ns.fib_genid == rx_dst[3]:
            ns.note("tcp_v4_early_demux", "its route is taken")
            skb.dst = rx_dst[2]


def udp_handler(ns: "Namespace", skb: SkBuff) -> int:
    """A packet for UDP: what udp_rcv checks of its bytes, then UDP itself."""
    from refmodel.udp.input import udp_rcv

    at = skb.transport
    assert at is not None
    body = memoryview(skb.data)[at:]
    v4 = skb.data[0] >> 4 == 4
    if len(body) < UDP_HLEN:
        ns.count("UdpInErrors" if v4 else "Udp6InErrors")
        ns.kfree_skb(skb, Reason.PKT_TOO_SMALL)
        return 0
    saddr, daddr = addresses(skb)
    sport, dport, ulen, check = UDP.unpack_from(body)
    if not v4 and not ulen:
        ulen = len(body)
    d = skb.data
    packet = Datagram(saddr, daddr, sport, dport, min(ulen, len(body)) - UDP_HLEN, d[1] if v4 else d[0] << 4 & 0xF0)
    packet.ulen = ulen
    packet.ttl = d[8] if v4 else d[7]
    packet.check = bool(check)
    packet.truesize = skb.truesize
    packet.payload = bytes(body[UDP_HLEN:ulen])
    del body
    if UDP_HLEN <= ulen < len(skb.data) - at:
        del skb.data[at + ulen :]
    packet.bad_csum = bool(check) and not right(skb, IPPROTO_UDP)
    ns.handled = skb
    udp_rcv(ns, packet)
    ns.consume_skb(skb)
    return 0


# ---------------------------------------------------------------- ICMP errors


def quoted(skb: SkBuff, inner: int, info: int) -> IcmpError | None:
    """The error in an ICMP message whose quoted packet begins at `inner`; None if too little is quoted."""
    at, d = skb.transport, skb.data
    assert at is not None
    if d[inner] >> 4 == 6:
        l4, saddr, daddr = inner + 40, bytes(d[inner + 8 : inner + 24]), bytes(d[inner + 24 : inner + 40])
    else:
        l4, saddr, daddr = (
            inner + 4 * (d[inner] & 15),
            bytes(d[inner + 12 : inner + 16]),
            bytes(d[inner + 16 : inner + 20]),
        )
    if len(d) < l4 + 8:
        return None
    sport, dport, seq = (
        int.from_bytes(d[l4 : l4 + 2], "big"),
        int.from_bytes(d[l4 + 2 : l4 + 4], "big"),
        int.from_bytes(d[l4 + 4 : l4 + 8], "big"),
    )
    return IcmpError(d[at], d[at + 1], info, saddr, daddr, sport, dport, seq)
