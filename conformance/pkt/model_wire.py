"""Segments between a script and the model: a script's headers as the model's packets, and back.

What the device would do to them is done here: the memory that a packet from a tun device takes, super-segments that
arrive (--mss), super-segments that a device without TSO cuts before it sends them.
"""

import ipaddress
from collections.abc import Iterator

from conformance.pkt import ast
from conformance.pkt.wire import PROTOCOLS, QUOTED, Conn, Impossible, Wire, icmp_of
from refmodel.icmp.message import Message
from refmodel.packet.codec import Packet as Frame
from refmodel.packet.icmp import Icmp, Icmp6, Icmp6Word
from refmodel.packet.ip import Ip, Ip6, Ip6Frag
from refmodel.packet.transport import Tcp, TcpOption, Udp
from refmodel.packet.wire import Layer
from refmodel.tcp.whole import options, rcvbuf
from refmodel.tcp.whole.const import CWR, FIN, PSH
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import IcmpError, Packet
from refmodel.types import M32
from refmodel.udp.sock import Datagram

# Into the model


def segment_in(wire: Wire, packet: ast.Packet, params: WholeParams, mss: int) -> Packet:
    """The segment that a line injects; raises Impossible."""
    ip, upper, length = wire.headers_in(packet)
    if not isinstance(upper, Tcp):
        raise Impossible("a datagram is no segment")
    v4 = isinstance(ip, Ip)
    room = sum(len(o.wire()) for o in upper.options)
    size = (20 if v4 else 40) + 20 + -(-room // 4) * 4 + length
    arriving = Packet(
        ip.saddr,
        ip.daddr,
        upper.source,
        upper.dest,
        upper.seq,
        upper.ack_seq,
        upper.flags,
        upper.window,
        length,
        options.read_options(upper.options),
        upper.urg_ptr,
        ip.tos if isinstance(ip, Ip) else ip.tclass,
        ip.ttl if isinstance(ip, Ip) else ip.hop_limit,
        truesize=rcvbuf.tun_truesize(size, params),
        md5_ok=False,  # nobody can write the digest of numbers that the stack chooses
        flowlabel=0 if isinstance(ip, Ip) else ip.flow_lbl,
    )
    if mss and length > mss:
        arriving.gso_size, arriving.gso_segs = mss, -(-length // mss)
    return arriving


def datagram_in(wire: Wire, packet: ast.Packet) -> Datagram:
    """The datagram that a line injects; raises Impossible."""
    ip, upper, length = wire.headers_in(packet)
    tos, ttl = (ip.tos, ip.ttl) if isinstance(ip, Ip) else (ip.tclass, ip.hop_limit)
    arriving = Datagram(ip.saddr, ip.daddr, upper.source, upper.dest, length, tos, ttl)
    arriving.flowlabel = ip.flow_lbl if isinstance(ip, Ip6) else 0
    return arriving


def icmp_in(wire: Wire, conn: Conn, packet: ast.Packet) -> tuple[Message, int, IcmpError | None]:
    """The ICMP message that a line injects, the protocol of what it quotes (0: nothing), and what the quote says.

    Raises Impossible.
    """
    body = packet.body
    assert isinstance(body, ast.Icmp)
    numbers = icmp_of(wire.config.version, body)
    ip = wire.header(packet.info)
    tos = ip.tos if isinstance(ip, Ip) else ip.tclass
    quoted = body.quoted
    size = 0 if quoted is None else (20 if wire.config.version == 4 else 40) + QUOTED
    message = Message(wire.remote, wire.local, *numbers, body.mtu or (body.id or 0) << 16, size, tos)
    if quoted is None:
        return message, 0, None
    ports = conn.local_port or 0, conn.remote_port or 0
    seq = (quoted.range.seq + (conn.local_isn or 0)) & M32 if quoted.range is not None else 0
    error = IcmpError(*numbers, body.mtu or 0, wire.local, wire.remote, *ports, seq)
    return message, PROTOCOLS[quoted.protocol], error


def carrier_in(wire: Wire, packet: ast.Packet) -> tuple[bytes, bytes, int, int]:
    """The outermost addresses of a packet within others, its type of service and its bytes; raises Impossible."""
    outer = packet.layers[0]
    assert isinstance(outer, ast.IpLayer)
    data = wire.inbound(packet)
    source, dest = (ipaddress.ip_address(a).packed for a in (outer.source, outer.dest))
    return source, dest, data[1] if outer.version == 4 else 0, len(data)


# Out of the model


def frame(p: Packet | Datagram | Message) -> Frame:
    """A packet of the model's as the headers that scripts are held against; its payload is zeroes, and not kept."""
    if isinstance(p, Datagram):
        return _datagram(p)
    if isinstance(p, Message):
        return _message(p)
    area = options.wire_options(p.opts, p.flags)
    size = sum(len(o.wire()) for o in area if isinstance(o, TcpOption))
    tcp = Tcp(p.sport, p.dport, p.seq, p.ack_seq, 5 + -(-size // 4), p.flags, p.window, 0, p.urg_ptr, area)
    if len(p.saddr) == 4:
        ip: Ip | Ip6 = Ip(5, p.tos, 0, 0, 0, p.ttl, 6, 0, p.saddr, p.daddr)
    else:
        ip = Ip6(p.tos, p.flowlabel, 0, 6, p.ttl, p.saddr, p.daddr)
    return Frame((ip, tcp), b"", p.len)


def _datagram(p: Datagram) -> Frame:
    """A datagram, or a fragment of one: only the first has UDP's header."""
    udp = Udp(p.sport, p.dport, p.ulen, int(p.check)) if not p.frag else None
    upper: tuple[Layer, ...] = () if udp is None else (udp,)
    if len(p.saddr) == 4:
        frag = (p.frag or 0) // 8 | (0x2000 if p.more else 0) | (0x4000 if p.df else 0)
        return Frame((Ip(5, p.tos, 0, 0, frag, p.ttl, 17, 0, p.saddr, p.daddr), *upper), b"", p.len)
    ip = Ip6(p.tos, p.flowlabel, 0, 17 if p.frag is None else 44, p.ttl, p.saddr, p.daddr)
    part: tuple[Layer, ...] = () if p.frag is None else (Ip6Frag(17, 0, p.frag | int(p.more), 0),)
    return Frame((ip, *part, *upper), b"", p.len)


def _message(p: Message) -> Frame:
    if len(p.saddr) == 4:
        return Frame((Ip(5, p.tos, 0, 0, 0, p.ttl, 1, 0, p.saddr, p.daddr), Icmp(p.type, p.code, 0, p.un)), b"", p.len)
    ip = Ip6(p.tos, 0, 0, 58, p.ttl, p.saddr, p.daddr)
    return Frame((ip, Icmp6(p.type, p.code, 0), Icmp6Word(p.un)), b"", p.len)


def cut(p: Packet) -> Iterator[Packet]:
    """What a device without TSO sends of a super-segment; source net/ipv4/tcp_offload.c:tcp_gso_segment."""
    size = p.gso_size
    if not size or p.len <= size:
        yield p
        return
    for at in range(0, p.len, size):
        length = min(size, p.len - at)
        flags = p.flags
        if at + length < p.len:
            flags &= ~(FIN | PSH)
        if at and not p.accecn:
            flags &= ~CWR
        yield Packet(p.saddr, p.daddr, p.sport, p.dport, (p.seq + at) & M32, p.ack_seq, flags, p.window, length,
                     p.opts, p.urg_ptr, p.tos, p.ttl, by=p.by, time=p.time, flowlabel=p.flowlabel)  # fmt: skip
