"""Segments between a script and the model: a script's headers as the model's packets, and back.

What the device would do to them is done here: the memory that a packet from a tun device takes, super-segments that
arrive (--mss), super-segments that a device without TSO cuts before it sends them.
"""

from collections.abc import Iterator

from conformance.pkt import ast
from conformance.pkt.constants import icmp_numbers
from conformance.pkt.wire import Conn, Impossible, Wire
from refmodel.packet.codec import Packet as Frame
from refmodel.packet.ip import Ip, Ip6
from refmodel.packet.transport import Tcp, TcpOption
from refmodel.rule import NotModelled
from refmodel.tcp.whole import options, rcvbuf
from refmodel.tcp.whole.const import CWR, FIN, PSH
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import IcmpError, Packet
from refmodel.types import M32

# Into the model


def segment_in(wire: Wire, packet: ast.Packet, params: WholeParams, mss: int) -> Packet:
    """The segment that a line injects; raises Impossible, and NotModelled for what is no TCP."""
    if packet.layers:
        raise NotModelled("packets with outer headers")
    ip, upper, length = wire.headers_in(packet)
    if not isinstance(upper, Tcp):
        raise NotModelled("UDP")
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


def icmp_in(wire: Wire, conn: Conn, body: ast.Icmp) -> IcmpError | None:
    """The ICMP error that a line injects, None for one that quotes no TCP; raises Impossible, NotModelled."""
    version = wire.config.version
    numbers = icmp_numbers(version, body.type, body.code)
    if numbers is None:
        name = f"{body.type} {body.code or ''}".rstrip()
        raise Impossible(f"IPv{version} has no icmp {name}")
    if body.quoted is None:
        raise NotModelled(f"icmp {body.type} that quotes no packet")
    if body.quoted.range is None:
        return None
    seq = (body.quoted.range.seq + (conn.local_isn or 0)) & M32
    ports = conn.local_port or 0, conn.remote_port or 0
    return IcmpError(numbers[0], numbers[1], body.mtu or 0, wire.local, wire.remote, *ports, seq)


# Out of the model


def frame(p: Packet) -> Frame:
    """A packet of the model's as the headers that scripts are held against; its payload is zeroes, and not kept."""
    area = options.wire_options(p.opts, p.flags)
    size = sum(len(o.wire()) for o in area if isinstance(o, TcpOption))
    tcp = Tcp(p.sport, p.dport, p.seq, p.ack_seq, 5 + -(-size // 4), p.flags, p.window, 0, p.urg_ptr, area)
    if len(p.saddr) == 4:
        ip: Ip | Ip6 = Ip(5, p.tos, 0, 0, 0, p.ttl, 6, 0, p.saddr, p.daddr)
    else:
        ip = Ip6(p.tos, p.flowlabel, 0, 6, p.ttl, p.saddr, p.daddr)
    return Frame((ip, tcp), b"", p.len)


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
