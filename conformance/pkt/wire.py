"""Packets between script and kernel: which connection they belong to, and how script numbers become live ones.

A script counts sequence numbers from each first SYN and writes time stamps as labels; the kernel chooses its own.
"""

import ipaddress
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from msgspec import Struct, structs

from conformance.pkt import ast
from conformance.pkt.ast import Direction, Ecn, IpInfo, Ports, Range
from conformance.pkt.constants import icmp_numbers
from conformance.pkt.encap import wrap
from conformance.pkt.variant import Config, Variant
from refmodel.packet.codec import Packet, encode, seal
from refmodel.packet.icmp import Icmp, Icmp6, Icmp6Word
from refmodel.packet.ip import Ip, Ip6
from refmodel.packet.transport import Sack, Tcp, TcpOption, Timestamp, Udp
from refmodel.packet.wire import Layer
from refmodel.types import M32

FLAGS: Final = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "U": 0x20, "E": 0x40, "W": 0x80, "A": 0x100}
ACK, SYN = 0x10, 0x02
FIRST_PORT: Final = 32768
QUOTED: Final = 8  # bytes behind the IP header that an ICMP error quotes
PROTOCOLS: Final = {"tcp": 6, "udp": 17, "raw": 255}
ECN_BITS: Final = {Ecn.NOECN: 0, Ecn.ECT1: 1, Ecn.ECT0: 2, Ecn.CE: 3}


class Impossible(Exception):
    """A packet that cannot be made or expected at this point of the script; the message says why."""


class State(StrEnum):
    """What is known of a socket: made, listening, connecting or connected by itself, or the child of a listener."""

    INIT = "init"
    LISTENING = "listening"
    ACTIVE = "active"
    CHILD = "child"


class Conn(Struct):
    """A socket and its connection; ports, first sequence numbers and time stamps as they become known.

    `latest_isn` is that of the last SYN that left, of whichever incarnation: runs are compared by it.
    `flow_label` are the script's last expected IPv6 flow label and the live one that it stood for.
    """

    state: State = State.INIT
    fd: int = -1
    live_fd: int = -1
    local_port: int | None = None
    remote_port: int | None = None
    local_isn: int | None = None
    script_isn: int = 0
    remote_isn: int | None = None
    latest_isn: int | None = None
    last_ack: int | None = None
    first_ts: tuple[int, int] | None = None
    flow_label: tuple[int, int] | None = None
    ts: dict[int, int] = {}


class Wire:
    """The sockets of a run, the one under test, and the translation of its packets."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.local = ipaddress.ip_address(config.local_ip).packed
        self.remote = ipaddress.ip_address(config.remote_ip).packed
        self.conns: list[Conn] = []
        self.under_test: Conn | None = None
        self.ports: Iterator[int] = iter(range(FIRST_PORT, 65536))

    # Sockets

    def made(self, fd: int, live_fd: int) -> None:
        """socket() returned."""
        self.under_test = Conn(fd=fd, live_fd=live_fd, ts={})
        self.conns.append(self.under_test)

    def by_fd(self, fd: int) -> Conn | None:
        """The socket of a script's descriptor."""
        return next((c for c in reversed(self.conns) if c.fd == fd), None)

    def accepted(self, fd: int, live_fd: int, remote_port: int) -> None:
        """accept() returned the connection from that port."""
        for conn in reversed(self.conns):
            if conn.state is State.CHILD and conn.remote_port == remote_port and conn.live_fd < 0:
                conn.fd, conn.live_fd = fd, live_fd
                return

    def closed(self, fd: int) -> None:
        """close() returned: the descriptor's number is free, the connection may go on."""
        conn = self.by_fd(fd)
        if conn is not None:
            conn.fd = conn.live_fd = -1

    def target(self) -> Conn:
        """The socket under test; raises Impossible where there is none."""
        if self.under_test is None:
            raise Impossible("no socket is under test yet: packets belong to the last socket() or to its child")
        return self.under_test

    # Into the stack

    def inbound(self, packet: ast.Packet) -> bytes:
        """The packet to inject, checksums filled in; raises Impossible."""
        if packet.layers:
            return wrap(packet.layers, self.inbound(structs.replace(packet, layers=())))
        if isinstance(packet.body, ast.Icmp):
            layers, data = self._icmp_in(self.receiver(packet.body), packet.body)
            ip = self.header(packet.info)
            return encode(seal((ip, *layers), data))
        ip, upper, length = self.headers_in(packet)
        return encode(seal((ip, upper), bytes(length)))

    def headers_in(self, packet: ast.Packet) -> tuple[Ip | Ip6, Tcp | Udp, int]:
        """The headers of a segment or datagram to inject, and how many bytes of data follow; raises Impossible."""
        body = packet.body
        if isinstance(body, ast.Icmp):
            raise Impossible("an ICMP message is no segment")
        conn = self.receiver(body)
        if isinstance(body, ast.Tcp):
            ip = self._ip(self.remote, self.local, 6, packet.info)
            return ip, self._tcp_in(conn, body), body.range.length
        ports = body.ports or Ports(source=conn.remote_port or 0, dest=conn.local_port or 0)
        ip = self._ip(self.remote, self.local, 17, packet.info)
        return ip, Udp(ports.source, ports.dest, 0, 0), body.length

    def reset(self, conn: Conn) -> bytes | None:
        """An RST that ends a connection whatever its state; None if the kernel never sent an acknowledgment."""
        if conn.last_ack is None or conn.local_port is None or conn.remote_port is None:
            return None
        tcp = Tcp(conn.remote_port, conn.local_port, conn.last_ack, 0, 5, FLAGS["R"], 0)
        return encode(seal((self._ip(self.remote, self.local, 6, None), tcp)))

    def receiver(self, body: ast.Tcp | ast.Udp | ast.Icmp) -> Conn:
        """The socket that a packet is for: of a listener a child to come."""
        conn = self.target()
        ports = None if isinstance(body, ast.Icmp) else body.ports
        if conn.state is State.LISTENING and not isinstance(body, ast.Icmp):
            conn = Conn(state=State.CHILD, local_port=conn.local_port, ts={})
            self.conns.append(conn)
            self.under_test = conn
        if conn.remote_port is None:
            conn.remote_port = ports.source if ports else next(self.ports)
        if conn.local_port is None and ports:
            conn.local_port = ports.dest
        return conn

    def header(self, info: IpInfo | None) -> Ip | Ip6:
        """The IP header of an ICMP message to inject."""
        return self._ip(self.remote, self.local, 1 if self.config.version == 4 else 58, info)

    def _ip(self, source: bytes, dest: bytes, protocol: int, info: IpInfo | None) -> Ip | Ip6:
        tos = 0
        if info is not None and info.tos is not None:
            tos = info.tos
        elif info is not None and info.ecn is not None:
            tos = ECN_BITS[info.ecn]
        ttl = (info.ttl if info is not None else None) or 255
        if self.config.version == 4:
            return Ip(5, tos, 0, 0, 0, ttl, protocol, 0, source, dest)
        flow = (info.flowlabel if info is not None else None) or 0
        return Ip6(tos, flow, 0, protocol, ttl, source, dest)

    def _tcp_in(self, conn: Conn, body: ast.Tcp) -> Tcp:
        if conn.local_port is None or conn.remote_port is None:
            raise Impossible("the kernel's port is not known yet: it has neither bound nor sent a SYN")
        flags = _bits(body)
        if flags & SYN and conn.remote_isn is None:
            conn.remote_isn = body.range.seq
        seq = body.range.seq + (0 if flags & SYN else conn.remote_isn or 0)
        ack = body.ack or 0
        if flags & ACK:
            ack += conn.local_isn or 0
        options = tuple(self._option_in(conn, o, bool(flags & ACK)) for o in body.options or ())
        ports = body.ports or Ports(source=conn.remote_port, dest=conn.local_port)
        return Tcp(ports.source, ports.dest, seq & M32, ack & M32, 5, flags, body.win or 0, 0, body.urg or 0, options)

    def _option_in(self, conn: Conn, option: TcpOption, ack: bool) -> TcpOption:
        if isinstance(option, Sack):
            isn = conn.local_isn or 0
            return Sack(tuple(((left + isn) & M32, (right + isn) & M32) for left, right in option.blocks))
        if isinstance(option, Timestamp) and ack:
            return Timestamp(option.tsval, self._echo(conn, option.tsecr))
        return option

    def _echo(self, conn: Conn, ecr: int) -> int:
        if ecr in conn.ts:
            return conn.ts[ecr]
        if self.config.ts_ecr_scaled and conn.first_ts is not None:
            return (conn.first_ts[1] + ecr - conn.first_ts[0]) & M32
        if conn.ts:
            raise Impossible(f"ecr {ecr} echoes a TS val that no expected packet had")
        return ecr

    def _icmp_in(self, conn: Conn, body: ast.Icmp) -> tuple[tuple[Layer, ...], bytes]:
        numbers = icmp_of(self.config.version, body)
        word = body.mtu or (body.id or 0) << 16
        data = self._quote(conn, body.quoted) if body.quoted is not None else b""
        if self.config.version == 4:
            return (Icmp(numbers[0], numbers[1], 0, word),), data
        return (Icmp6(numbers[0], numbers[1], 0), Icmp6Word(word)), data

    def _quote(self, conn: Conn, quoted: ast.Quoted) -> bytes:
        sport, dport = conn.local_port or 0, conn.remote_port or 0
        protocol = PROTOCOLS[quoted.protocol]
        upper: Tcp | Udp
        if quoted.range is not None:
            seq = quoted.range.seq + (conn.local_isn or 0)
            upper = Tcp(sport, dport, seq & M32, 0, 5, ACK, 0)
        else:
            upper = Udp(sport, dport, 8 + quoted.length, 0)
        whole = encode(seal((self._ip(self.local, self.remote, protocol, None), upper), bytes(quoted.length)))
        return whole[: (20 if self.config.version == 4 else 40) + QUOTED]

    # Out of the stack

    def concerns(self, packet: Packet, expected: ast.Packet) -> bool:
        """Whether a live packet is of the connection under test; a first SYN tells the kernel's port."""
        ip = packet.get(Ip) or packet.get(Ip6)
        if ip is None or ip.saddr != self.local or ip.daddr != self.remote:
            return False
        if isinstance(expected.body, ast.Icmp):
            return packet.get(Icmp) is not None or packet.get(Icmp6) is not None
        upper = packet.get(Tcp) or packet.get(Udp)
        if upper is None:
            return False
        conn = self.target()
        if conn.local_port is None and isinstance(upper, Tcp):
            if conn.state is not State.ACTIVE or not upper.flags & SYN or upper.dest != self.config.connect_port:
                return False
            conn.local_port, conn.remote_port = upper.source, upper.dest
        if conn.local_port is None and isinstance(upper, Udp):
            conn.local_port = upper.source
        if conn.remote_port is None:
            conn.remote_port = upper.dest
        return (upper.source, upper.dest) == (conn.local_port, conn.remote_port)

    def learn(self, tcp: Tcp, expected: ast.Tcp) -> None:
        """Remembers the first sequence number, the acknowledgment and the time stamp of a live segment."""
        conn = self.target()
        if tcp.flags & SYN and conn.local_isn is None:
            conn.local_isn, conn.script_isn = tcp.seq, expected.range.seq
        if tcp.flags & ACK:
            conn.last_ack = tcp.ack_seq
        live = tcp.option(Timestamp)
        written = next((o for o in expected.options or () if isinstance(o, Timestamp)), None)
        if live is not None and written is not None:
            if conn.first_ts is None:
                conn.first_ts = (written.tsval, live.tsval)
            conn.ts[written.tsval] = live.tsval

    def script_view(self, packet: Packet) -> ast.Packet:
        """A live packet as the script would write it."""
        ip = packet.get(Ip) or packet.get(Ip6)
        tos = ip.tos if isinstance(ip, Ip) else ip.tclass if ip is not None else 0
        info = IpInfo(tos=tos) if tos else None
        udp, tcp = packet.get(Udp), packet.get(Tcp)
        icmp = packet.get(Icmp) or packet.get(Icmp6)
        if icmp is not None:
            return ast.Packet(
                direction=Direction.OUT, body=ast.Icmp(type=f"type_{icmp.type}", code=f"code_{icmp.code}")
            )
        if tcp is None:
            length = udp.len - 8 if udp is not None else len(packet.payload)
            return ast.Packet(direction=Direction.OUT, body=ast.Udp(length=length), info=info)
        conn = self.target()
        isn = conn.local_isn or 0
        seq = (tcp.seq - isn + (conn.script_isn if tcp.flags & SYN else 0)) & M32
        length = packet.payload_len
        body = ast.Tcp(
            flags="".join(name for name, bit in FLAGS.items() if tcp.flags & bit),
            ack_flag=bool(tcp.flags & ACK),
            range=Range(seq=seq, end=(seq + length) & M32, length=length),
            ack=(tcp.ack_seq - (conn.remote_isn or 0)) & M32 if tcp.flags & ACK else None,
            win=tcp.window,
            urg=tcp.urg_ptr or None,
            options=tuple(self._option_out(conn, o) for o in tcp.options if isinstance(o, TcpOption)),
        )
        return ast.Packet(direction=Direction.OUT, body=body, info=info)

    def compared_view(self, packet: Packet) -> ast.Packet:
        """A live packet as two runs of a script are compared by it: what is random in each counts from its own SYN.

        A new incarnation has a first sequence number of its own, and a RST for a segment that acknowledged nothing has
        the number 0 whatever came before.
        """
        view, tcp = self.script_view(packet), packet.get(Tcp)
        if tcp is None or not isinstance(view.body, ast.Tcp):
            return view
        conn = self.target()
        if tcp.flags & SYN:
            conn.latest_isn = tcp.seq
        if conn.latest_isn is None:
            return view
        seq = (tcp.seq - conn.latest_isn + (conn.script_isn if tcp.flags & SYN else 0)) & M32
        if tcp.flags & FLAGS["R"] and not tcp.seq:
            seq = 0
        span = Range(seq=seq, end=(seq + view.body.range.length) & M32, length=view.body.range.length)
        return structs.replace(view, body=structs.replace(view.body, range=span))

    def _option_out(self, conn: Conn, option: TcpOption) -> TcpOption:
        if isinstance(option, Sack):
            isn = conn.remote_isn or 0
            return Sack(tuple(((left - isn) & M32, (right - isn) & M32) for left, right in option.blocks))
        if isinstance(option, Timestamp) and conn.first_ts is not None:
            return Timestamp((conn.first_ts[0] + option.tsval - conn.first_ts[1]) & M32, option.tsecr)
        return option

    def sockaddr(self, remote: bool, domain: int | None = None, port: int | None = None, addr: str = "") -> bytes:
        """struct sockaddr_in or sockaddr_in6 of one end, as the variant's sockets name it."""
        address = ipaddress.ip_address(addr or (self.config.remote_ip if remote else self.config.local_ip))
        number = port if port is not None else self.config.connect_port if remote else self.config.bind_port
        six = domain == 10 if domain is not None else self.config.variant is not Variant.IPV4
        if not six:
            return (2).to_bytes(2, "little") + number.to_bytes(2, "big") + address.packed + bytes(8)
        packed = address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
        return (10).to_bytes(2, "little") + number.to_bytes(2, "big") + bytes(4) + packed + bytes(4)


def _bits(body: ast.Tcp) -> int:
    bits = sum(FLAGS[letter] for letter in body.flags) | (ACK if body.ack_flag else 0)
    if body.ace:
        bits |= (body.ace >> 2 & 1) << 8 | (body.ace >> 1 & 1) << 7 | (body.ace & 1) << 6
    return bits


def icmp_of(version: int, body: ast.Icmp) -> tuple[int, int]:
    """Type and code of an ICMP line; raises Impossible where that IP version has no such message."""
    numbers = icmp_numbers(version, body.type, body.code)
    if numbers is None:
        name = f"{body.type} {body.code or ''}".rstrip()
        raise Impossible(f"IPv{version} has no icmp {name}")
    return numbers


def written_flags(body: ast.Tcp) -> int:
    """The flag bits that a line says."""
    return _bits(body)
