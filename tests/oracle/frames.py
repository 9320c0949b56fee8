"""Frames of a connection between two hosts, built byte by byte, and ends without the other parts."""

import struct
from typing import Any

from conformance.check.known import NOTHING
from conformance.oracle.end import End, Stack
from conformance.oracle.recovery import Flow
from conformance.oracle.timers import Rtt
from refmodel.packet.segment import Segment, segment

A, B = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
APORT, BPORT = 40_000, 80
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128
NOP = b"\x01"


def ts(tsval: int, tsecr: int) -> bytes:
    """The aligned timestamp option."""
    return NOP + NOP + struct.pack("!BBII", 8, 10, tsval, tsecr)


def syn_options(
    tsval: int | None = 1000, tsecr: int = 0, mss: int = 1460, sack: bool = True, ws: int | None = 7
) -> bytes:
    """A SYN's options in Linux's order."""
    out = struct.pack("!BBH", 2, 4, mss)
    if tsval is not None:
        out += (b"\x04\x02" if sack else NOP + NOP) + struct.pack("!BBII", 8, 10, tsval, tsecr)
    elif sack:
        out += NOP + NOP + b"\x04\x02"
    if ws is not None:
        out += NOP + struct.pack("!BBB", 3, 3, ws)
    return out


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    if len(data) & 1:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Tap:
    """Numbers and stamps frames. `us` is the time of the next."""

    def __init__(self) -> None:
        self.number, self.us = 0, 1_000_000

    def frame(
        self, side: int, flags: int, seq: int, ack: int = 0, *, payload: bytes = b"", options: bytes = b"",
        window: int = 502, after: int = 10, ip_id: int = 0, ttl: int = 64, df: bool = True, tos: int = 0, urg: int = 0,
        reserved: int = 0, bad: bool = False, cut: int = 0,
    ) -> Segment:  # fmt: skip
        """The next frame of side 0 (A) or 1 (B), `after` us behind the last."""
        self.number += 1
        self.us += after
        s, d = (A, B) if side == 0 else (B, A)
        sport, dport = (APORT, BPORT) if side == 0 else (BPORT, APORT)
        doff = (20 + len(options)) // 4
        tcp = struct.pack("!HHIIHHHH", sport, dport, seq, ack, doff << 12 | reserved << 9 | flags, window, 0, urg)
        tcp += options + payload
        check = checksum(s + d + struct.pack("!HH", 6, len(tcp)) + tcp) ^ (0x5555 if bad else 0)
        tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, tos, 20 + len(tcp), ip_id, 0x4000 if df else 0, ttl, 6, 0, s, d)
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        data = bytes(12) + b"\x08\x00" + ip + tcp
        made = segment(self.number, self.us * 1000, data[: len(data) - cut], 1, len(data))
        assert made is not None
        return made


class Still:
    """A part that agrees with everything; its fields are set by the test."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def copy(self) -> "Still":
        """Itself."""
        return self


def end(**stack: Any) -> End:
    """An end of A with nothing but a stack; tests add the parts that they need."""
    e = End("a", 0, (A, APORT), Stack(**{"near": True, "exact": stack.get("near", True), **stack}))
    e.peer = End("b", 1, (B, BPORT), Stack(near=False))
    e.life = Still(alert=False, host=NOTHING)
    e.tx = Still(snd_nxt=0, snd_una=0, f=Flow(e.counts, Rtt()))
    e.rx = Still(rcv_nxt=0)
    return e
