"""Captures for measurements: two Linux hosts and any number of connections, the same for the same numbers.

A connection is a handshake with options, three requests with answers of several segments, acknowledgments as Linux
sends them (at once where a full segment is owed twice, with the next data, or by the delayed-ACK timer) and a close
from either side. Several are open at any time; one starts every 20 ms. `write` returns how many frames it wrote.
"""

import struct
from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from typing import Final

from conformance.frames import Frame
from conformance.pcap import Writer
from refmodel.packet import ACK, FIN, PSH, SYN

GAP: Final = 20_000_000  # ns from one connection to the next
RTT: Final = 180_000  # ns
THINK: Final = 3_000_000  # ns that the server's application takes
MSS: Final = 1448  # bytes a segment, timestamps taken off
SYN_SEGMENT: Final = ACK | SYN
CLIENT, SERVER = b"\x0a\x09\x00\x01", b"\x0a\x09\x00\x02"
MACS: Final = {CLIENT: b"\x02\0\0\0\0\x01", SERVER: b"\x02\0\0\0\0\x02"}
ROUTER: Final = b"\x02\0\0\0\0\x03"
TEXT: Final = bytes(range(256)) * 6

_IP: Final = struct.Struct("!BBHHHBBH4s4s").pack
_TCP: Final = struct.Struct("!HHIIHHHH").pack
_SYN_OPTIONS: Final = struct.Struct("!HHHBBIIHB").pack


def _checksum(data: bytes) -> int:
    """The internet checksum by the rule that 2**16 is 1 modulo 0xFFFF."""
    return 0xFFFF - (int.from_bytes(data + bytes(len(data) & 1), "big") % 0xFFFF or 0xFFFF)


class Side:
    """One end of one connection: where it stands, and its clocks."""

    def __init__(self, address: bytes, port: int, isn: int, clock: int, ip_id: int) -> None:
        self.address, self.port, self.seq, self.clock, self.ip_id = address, port, isn, clock, ip_id
        self.seen, self.ts_recent, self.window = 0, 0, 502

    def send(self, to: "Side", at: int, flags: int, n: int = 0) -> tuple[int, bytes]:
        """The segment with `n` bytes that leaves at `at` ns, and what it changes on both sides."""
        tsval = (self.clock + at // 1_000_000) & 0xFFFFFFFF
        if flags & SYN:
            window = 65160 if flags & ACK else 64240
            options = _SYN_OPTIONS(0x0204, 1460, 0x0402, 8, 10, tsval, self.ts_recent, 0x0103, 3) + b"\x07"
        else:
            window = self.window
            options = struct.pack("!III", 0x0101080A, tsval, self.ts_recent)
        head = len(options) + 20
        word = head << 10 | flags
        pseudo = struct.pack("!4s4sHH", self.address, to.address, 6, head + n)
        ack = self.seen if flags & ACK else 0
        payload = TEXT[:n]
        tcp = _TCP(self.port, to.port, self.seq, ack, word, window, 0, 0) + options
        check = _checksum(pseudo + tcp + payload)
        tcp = tcp[:16] + check.to_bytes(2, "big") + tcp[18:]
        ip = _IP(0x45, 0, 20 + head + n, self.ip_id, 0x4000, 64, 6, 0, self.address, to.address)
        ip = ip[:10] + _checksum(ip).to_bytes(2, "big") + ip[12:]
        self.ip_id = 0 if flags & SYN_SEGMENT == SYN_SEGMENT else (self.ip_id + 1) & 0xFFFF
        self.seq = (self.seq + n + (flags & SYN != 0) + (flags & FIN != 0)) & 0xFFFFFFFF
        to.seen, to.ts_recent = self.seq, tsval
        return at, MACS.get(to.address, ROUTER) + MACS.get(self.address, ROUTER) + b"\x08\0" + ip + tcp + payload


def connection(k: int, gap: int = GAP) -> Iterator[tuple[int, bytes]]:
    """The frames of connection `k` as (ns, bytes), in order of time; it starts `k` gaps (ns) after the first."""
    t = k * gap
    scatter = k * 2654435761 & 0xFFFFFFFF
    a = Side(CLIENT, 32768 + k % 28232, scatter, 0x10000000 ^ scatter >> 4, scatter & 0xFFFF)
    b = Side(SERVER, 8080 + k // 28232, scatter ^ 0x5BD1E995, 0x20000000 ^ scatter >> 5, 0)
    yield a.send(b, t, SYN)
    t += RTT
    yield b.send(a, t, SYN | ACK)
    b.ip_id = scatter >> 8 & 0xFFFF
    t += 20_000
    yield a.send(b, t, ACK)
    b.window = 509
    for turn in range(3):
        t += 400_000
        yield a.send(b, t, ACK | PSH, 180 + 40 * turn)
        if turn == 0:
            t += RTT
            yield b.send(a, t, ACK)
        t += THINK
        yield b.send(a, t, ACK, MSS)
        yield b.send(a, t + 2000, ACK | (0 if turn < 2 else PSH), MSS)
        t += RTT
        yield a.send(b, t, ACK)
        if turn < 2:
            yield b.send(a, t + 2000, ACK | PSH, 700)
    first, second = (a, b) if k % 2 else (b, a)
    t += 500_000
    yield first.send(second, t, ACK | FIN)
    if k % 4 < 2:
        t += 120_000
        yield second.send(first, t, ACK)
    t += 600_000
    yield second.send(first, t, ACK | FIN)
    yield first.send(second, t + 30_000, ACK)


def write(path: Path, connections: int, gap: int = GAP) -> int:
    """Writes a pcapng with that many connections, one each `gap` ns, in order of time; the number of frames."""
    count = 0
    with Writer(path) as w:
        w.interface(1, "bench0")
        for at, data in merge(*_lanes(connections, gap), key=lambda x: x[0]):
            count += 1
            w.frame(Frame(count, 1_700_000_000_000_000_000 + at, 1, 0, data, len(data)))
    return count


def _lanes(connections: int, gap: int) -> list[Iterator[tuple[int, bytes]]]:
    """Every eighth connection is one lane: a connection is over before the next of its lane starts."""
    return [_lane(first, connections, gap) for first in range(8)]


def _lane(first: int, connections: int, gap: int) -> Iterator[tuple[int, bytes]]:
    for k in range(first, connections, 8):
        yield from connection(k, gap)
