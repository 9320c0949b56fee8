"""Random packets for the netfilter differential: flows both ways, what goes wrong with them, and errors about them.

An answer goes to where the packet that came out says it is from, so that NAT is answered as a peer would.
"""

import socket
import struct
from random import Random
from typing import Final

from conformance.differential.netfilter_world import ADDRESSES, Out
from refmodel.packet.wire import ones_sum, pseudo_header

INSIDE: Final = ("10.0.1.10", "10.0.1.11", "192.168.9.9")
OUTSIDE: Final = ("10.0.2.20", "10.0.2.21", "172.16.7.7")
BROADCASTS: Final = ("10.0.1.255", "10.0.2.255", "255.255.255.255")
ROUTER: Final = ("10.0.1.1", "10.0.2.1")
PORT_POOL: Final = (53, 80, 443, 500, 900, 1025, 5000, 8080, 40_000)
OTHER: Final = 89  # a protocol that nobody tracks or takes
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
M32: Final = 0xFFFFFFFF
SYN_OPTIONS: Final = (
    b"", bytes.fromhex("020405b4"), bytes.fromhex("020405b40402010303070101"[:24]),
    bytes.fromhex("020405b4010303060402"), bytes.fromhex("0402080a00000001000000000103030e"),
)  # fmt: skip


def tcp(src: str, dst: str, sport: int, dport: int, seq: int, ack: int, flags: int, win: int, options: bytes = b"",
        data: bytes = b"") -> bytes:  # fmt: skip
    """A TCP segment with its checksum."""
    options += b"\0" * (-len(options) % 4)
    head = struct.pack(">HHIIBBHHH", sport, dport, seq & M32, ack & M32, (5 + len(options) // 4) << 4, flags, win, 0, 0)
    return _summed(src, dst, 6, bytearray(head + options + data), 16)


def udp(src: str, dst: str, sport: int, dport: int, data: bytes) -> bytes:
    """A datagram with its checksum."""
    return _summed(src, dst, 17, bytearray(struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data), 6)


def icmp(kind: int, code: int, rest: int, data: bytes) -> bytes:
    """An ICMP message with its checksum."""
    body = bytearray(struct.pack(">BBHI", kind, code, 0, rest) + data)
    body[2:4] = (ones_sum(bytes(body)) ^ 0xFFFF).to_bytes(2, "big")
    return bytes(body)


def _summed(src: str, dst: str, proto: int, body: bytearray, at: int) -> bytes:
    start = pseudo_header(socket.inet_aton(src), socket.inet_aton(dst), proto, len(body))
    check = ones_sum(bytes(body), start) ^ 0xFFFF
    body[at : at + 2] = (check or (0xFFFF if proto == 17 else 0)).to_bytes(2, "big")
    return bytes(body)


def ip(
    src: str, dst: str, proto: int, body: bytes, *, ident: int = 1, ttl: int = 64, tos: int = 0, frag: int = 0
) -> bytes:
    """An IPv4 packet."""
    head = bytearray(struct.pack(">BBHHHBBH4s4s", 0x45, tos, 20 + len(body), ident, frag, ttl, proto, 0,
                                 socket.inet_aton(src), socket.inet_aton(dst)))  # fmt: skip
    head[10:12] = (ones_sum(bytes(head)) ^ 0xFFFF).to_bytes(2, "big")
    return bytes(head) + body


class Event:
    """One packet to be sent: at a device as a frame, or by the router ("" for the device)."""

    def __init__(self, what: str, device: str, packet: bytes, mac: str = "99", broadcast: bool = False) -> None:
        self.what = what
        self.device = device
        self.packet = packet
        self.mac = mac
        self.broadcast = broadcast

    @property
    def frame(self) -> bytes:
        """The packet in its frame."""
        to = b"\xff" * 6 if self.broadcast else bytes((2, 0, 0, 0, 0, 2 + list(ADDRESSES).index(self.device)))
        return to + bytes.fromhex(f"0200000000{self.mac}") + b"\x08\x00" + self.packet

    def __repr__(self) -> str:
        return f"{self.what} at {self.device or 'router'}: {self.packet.hex()}"


class End:
    """One end of a TCP flow."""

    def __init__(self, rng: Random) -> None:
        self.seq = rng.choice((rng.getrandbits(32), 0xFFFFFFF0, 1000))
        self.win = rng.choice((65_535, 8192, 500, 0, 29_200))
        self.options = rng.choice(SYN_OPTIONS)
        self.fin = False


class Flow:
    """One flow: who talks to whom over what, and how the other side sees it."""

    def __init__(self, rng: Random) -> None:
        self.proto = OTHER if rng.random() < 0.03 else rng.choice((6, 6, 6, 17, 17, 1))
        self.local = rng.random() < 0.2
        out = rng.random() < 0.7
        here, there = (INSIDE, OUTSIDE) if out else (OUTSIDE, INSIDE)
        self.src = rng.choice(ROUTER) if self.local else rng.choice(here)
        self.dst = rng.choice(there) if self.local or rng.random() < 0.75 else rng.choice(ROUTER)
        if not self.local and self.proto == 17 and rng.random() < 0.05:
            self.dst = rng.choice(BROADCASTS)
        self.device = "" if self.local else "tap0" if out else "tap1"
        self.sport, self.dport = rng.choice(PORT_POOL), rng.choice(PORT_POOL)
        self.ends = (End(rng), End(rng))
        self.opened = False
        self.seen: tuple[str, bytes] | None = None  # where it came out, and how


class Packets:
    """The packets of one ruleset, one after the other; `came_out` is told what each has led to."""

    def __init__(self, rng: Random, ident: int) -> None:
        self.rng = rng
        self.ident = ident
        self.flows: list[Flow] = []
        self.last: tuple[Flow, bool] | None = None
        self.queue: list[Event] = []
        self.few = rng.random() < 0.35  # one or two flows, which then come further

    def next(self) -> Event:
        """The next packet."""
        rng = self.rng
        self.last = None
        if self.queue:
            return self.queue.pop(0)
        if not self.flows or (len(self.flows) < (2 if self.few else 6) and rng.random() < (0.04 if self.few else 0.2)):
            self.flows.append(Flow(rng))
            if len(self.flows) > 1 and rng.random() < 0.3:  # the same ports again, from elsewhere
                self.flows[-1].dport, self.flows[-1].sport = self.flows[0].dport, self.flows[0].sport
                self.flows[-1].proto = self.flows[0].proto
        flow = rng.choice(self.flows[-4:])
        answer = flow.seen is not None and rng.random() < 0.5
        if flow.seen is not None and rng.random() < 0.08:
            return self.error(flow)
        self.last = flow, answer
        return self.answer(flow) if answer else self.onward(flow)

    def came_out(self, out: list[Out]) -> None:
        """What the kernel made of the last packet."""
        if self.last is None or self.last[1]:
            return
        for x in out:
            if x.where.startswith("tap") and len(x.data) > 28 and x.data[9] == self.last[0].proto:
                self.last[0].seen = x.where, x.data

    def onward(self, flow: Flow) -> Event:
        """A packet as the first one went."""
        return self.packet(flow, flow.device, flow.src, flow.dst, flow.sport, flow.dport, 0)

    def answer(self, flow: Flow) -> Event:
        """A packet against it, from where the first one came out."""
        assert flow.seen is not None
        device, data = flow.seen
        src, dst = socket.inet_ntoa(data[16:20]), socket.inet_ntoa(data[12:16])
        if flow.proto == 1:
            return self.packet(flow, device, src, dst, int.from_bytes(data[24:26], "big"), 0, 1)
        dport, sport = struct.unpack_from(">HH", data, 20)
        return self.packet(flow, device, src, dst, sport, dport, 1)

    def packet(self, flow: Flow, device: str, src: str, dst: str, sport: int, dport: int, side: int) -> Event:
        """A packet of the flow's protocol, with its usual mistakes."""
        rng = self.rng
        if flow.proto == 6:
            what, body = self.segment(flow, src, dst, sport, dport, side)
        elif flow.proto == 17:
            body = udp(src, dst, sport, dport, rng.randbytes(rng.choice((0, 4, 40, 100))))
            what = "datagram"
            if rng.random() < 0.05:
                body = body[:6] + b"\0\0" + body[8:]
        elif flow.proto == OTHER:
            body, what = rng.randbytes(rng.choice((12, 30))), f"protocol {OTHER}"
        else:
            ident = sport if side else flow.sport
            kind = 0 if side else rng.choice((8, 8, 8, 8, 17))
            kind = 18 if side and kind == 17 else kind
            kind = rng.choice((0, 3, 10, 19, 42)) if rng.random() < 0.06 else kind
            body, what = icmp(kind, 0, ident << 16 | 7, rng.randbytes(rng.choice((0, 8, 56)))), f"icmp {kind}"
        if rng.random() < 0.04:
            body, what = body[: rng.choice((4, 8, 12, 19, 20))], what + " cut off"
        if rng.random() < 0.04 and len(body) > 21:
            body, what = body[:-1] + bytes((body[-1] ^ 1,)), what + " with a wrong checksum"
        self.ident = self.ident % 65_535 + 1
        ttl = rng.choice((64, 64, 64, 63, 2, 1, 255)) if device else 64
        tos = rng.choice((0, 0, 0, 0x10, 0xB8))
        if device and len(body) > 40 and rng.random() < 0.1:
            return self.fragments(what, device, src, dst, flow.proto, body)
        packet = ip(src, dst, flow.proto, body, ident=self.ident, ttl=ttl, tos=tos, frag=rng.choice((0, 0x4000)))
        mac = rng.choice(("99", "99", "98"))
        return Event(what, device, packet, mac, broadcast=bool(device) and rng.random() < 0.02)

    def fragments(self, what: str, device: str, src: str, dst: str, proto: int, body: bytes) -> Event:
        """The same in parts, mostly in order, sometimes with one missing."""
        rng = self.rng
        size = rng.choice((8, 16, 24, 32))
        parts = [
            ip(
                src,
                dst,
                proto,
                body[at : at + size],
                ident=self.ident,
                frag=at // 8 | (0x2000 if at + size < len(body) else 0),
            )
            for at in range(0, len(body), size)
        ]
        if rng.random() < 0.1:
            parts.pop(rng.randrange(len(parts)))
        events = [Event(f"{what}, fragment {i} of {len(parts)}", device, p) for i, p in enumerate(parts, 1)]
        self.queue += events[1:]
        return events[0]

    def segment(self, flow: Flow, src: str, dst: str, sport: int, dport: int, side: int) -> tuple[str, bytes]:
        """A segment that goes on with the flow, or doesn't."""
        rng = self.rng
        me, peer = flow.ends[side], flow.ends[1 - side]
        seq, ack, flags, data, options = me.seq, peer.seq, ACK, b"", b""
        if not flow.opened:
            flags = SYN if side == 0 else SYN | ACK
            options = me.options
            flow.opened = side == 1 or rng.random() < 0.1
            if side == 1:
                ack = (peer.seq + 1) & M32
                peer.seq = ack
        else:
            roll = rng.random()
            if roll < 0.4:
                data = rng.randbytes(rng.choice((1, 10, 100)))
                flags |= PSH
            elif roll < 0.5:
                flags |= FIN
            elif roll < 0.54:
                flags = rng.choice((RST, RST | ACK))
            elif roll < 0.58:
                flags, options = SYN, me.options
        win = me.win
        roll = rng.random()
        if roll < 0.22:
            seq += rng.choice((-1, 1, -100, 100, -70_000, 70_000, 30_000, -30_000, 1 << 31))
            ack += rng.choice((0, 0, 1, -1, 1000, -1000, 100_000))
        elif roll < 0.28:
            flags = rng.choice(
                (0, SYN | FIN, FIN, SYN | RST, ACK | URG, SYN | URG, FIN | ACK | URG, RST, ACK, SYN | ACK)
            )
        elif roll < 0.32:
            ack, win = 0, rng.choice((0, 1, 65_535))
        elif flags & ACK and roll < 0.36:
            edge = rng.choice((ack + 100, ack + 1000, ack - 50, 5)) & M32
            options = b"\1\1\5\x0a" + struct.pack(">II", (edge - 10) & M32, edge)
        elif roll < 0.4:
            options = rng.choice((b"\1\1\x08\x0a" + rng.randbytes(8), b"\3\1\0\0", b"\2\4\5", b"\x08"))
        elif flow.opened or side == 1:
            me.seq = (me.seq + len(data) + bool(flags & SYN) + bool(flags & FIN)) & M32
        name = "+".join(n for n, b in (("SYN", 2), ("ACK", 16), ("FIN", 1), ("RST", 4)) if flags & b) or "no flags"
        return name, tcp(src, dst, sport, dport, seq, ack, flags, win, options, data)

    def error(self, flow: Flow) -> Event:
        """An ICMP error about what came out, from its receiver or from somebody on the way."""
        rng = self.rng
        assert flow.seen is not None
        device, data = flow.seen
        src = (
            socket.inet_ntoa(data[16:20]) if rng.random() < 0.6 else rng.choice(OUTSIDE if device == "tap1" else INSIDE)
        )
        to = socket.inet_ntoa(data[12:16]) if rng.random() < 0.9 else rng.choice(INSIDE)
        kind, code = rng.choice(((3, 1), (3, 3), (3, 13), (11, 0), (12, 0), (5, 1), (4, 0)))
        quoted = data[: rng.choice((20, 28, 28, 40, 100))]
        self.ident = self.ident % 65_535 + 1
        body = icmp(kind, code, 0, quoted)
        if rng.random() < 0.05:
            body = body[:-1] + bytes((body[-1] ^ 1,))
        return Event(f"icmp error {kind}/{code}", device, ip(src, to, 1, body, ident=self.ident))
