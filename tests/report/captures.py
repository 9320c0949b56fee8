"""Captures to draw: TCP connections made frame by frame, and the verdicts that a checker might give on them."""

import struct
from ipaddress import ip_address
from pathlib import Path

from conformance.check.verdict import FileReport, FrameLabel, Outcome, Verdict
from conformance.frames import Frame
from conformance.pcap import Writer

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
RAW = 101  # link type: frames start with their IP header


def tcp(
    source: str, dest: str, flags: int, seq: int, ack: int = 0, size: int = 0, win: int = 1000, options: bytes = b""
) -> bytes:
    """An IPv4 segment between two "address:port" ends, without checksums."""
    (saddr, sport), (daddr, dport) = (x.rsplit(":", 1) for x in (source, dest))
    data = bytes(size)
    head = struct.pack("!HHIIHHHH", int(sport), int(dport), seq, ack, (5 + len(options) // 4) << 12 | flags, win, 0, 0)
    total = 20 + len(head) + len(options) + size
    addresses = ip_address(saddr).packed + ip_address(daddr).packed
    return struct.pack("!BBHHHBBH", 0x45, 0, total, 1, 0x4000, 64, 6, 0) + addresses + head + options + data


def connection(source: str, dest: str, segments: int, isn: int = 4_294_967_000) -> list[bytes]:
    """A handshake with window scale 2, `segments` data segments each acknowledged, and a FIN each way."""
    scale = bytes((1, 3, 3, 2))
    peer = 7
    out = [
        tcp(source, dest, SYN, isn, options=scale),
        tcp(dest, source, SYN | ACK, peer, isn + 1 & 0xFFFFFFFF, options=scale),
        tcp(source, dest, ACK, isn + 1 & 0xFFFFFFFF, peer + 1),
    ]
    seq = isn + 1
    for _ in range(segments):
        out.append(tcp(source, dest, PSH | ACK, seq & 0xFFFFFFFF, peer + 1, 100))
        seq += 100
        out.append(tcp(dest, source, ACK, peer + 1, seq & 0xFFFFFFFF))
    out.append(tcp(source, dest, FIN | ACK, seq & 0xFFFFFFFF, peer + 1))
    out.append(tcp(dest, source, FIN | ACK, peer + 1, seq + 1 & 0xFFFFFFFF))
    out.append(tcp(source, dest, ACK, seq + 1 & 0xFFFFFFFF, peer + 2))
    return out


def write(path: Path, frames: list[bytes]) -> Path:
    """A capture of these frames, a millisecond apart."""
    with Writer(path) as w:
        for k, data in enumerate(frames):
            w.frame(Frame(k + 1, 1_700_000_000_000_000_000 + k * 1_000_000, RAW, 0, data, len(data)))
    return path


STATES = {"a": ("SYN_SENT", "ESTABLISHED", "FIN_WAIT1"), "b": ("SYN_RECV", "ESTABLISHED", "LAST_ACK")}


def labels(first: int, segments: int, again: frozenset[int] = frozenset()) -> tuple[FrameLabel, ...]:
    """Labels for `connection`, which starts at frame `first`: who sent what, in which state."""
    made = [
        FrameLabel(first, "a", "tcp_connect", state="SYN_SENT"),
        FrameLabel(first + 1, "b", "tcp_conn_request", state="SYN_RECV"),
        FrameLabel(first + 2, "a", "tcp_rcv_synsent_state_process", state="ESTABLISHED"),
    ]
    for k in range(segments):
        n = first + 3 + 2 * k
        by = "tcp_send_loss_probe" if n in again else "tcp_write_xmit"
        made.append(FrameLabel(n, "a", by, state="ESTABLISHED"))
        made.append(FrameLabel(n + 1, "b", "__tcp_ack_snd_check", state="ESTABLISHED"))
    n = first + 3 + 2 * segments
    made.append(FrameLabel(n, "a", "tcp_send_fin", state="FIN_WAIT1"))
    made.append(FrameLabel(n + 1, "b", "tcp_send_fin", state="LAST_ACK"))
    made.append(FrameLabel(n + 2, "a", "tcp_fin", note="60 s from here", state="TIME_WAIT"))
    return tuple(made)


def many(path: Path, connections: int, segments: int = 1) -> FileReport:
    """A capture of so many connections, and the report on it; every tenth does not conform."""
    frames: list[bytes] = []
    verdicts: list[Verdict] = []
    for k in range(connections):
        source, dest = f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}:{1024 + k % 60_000}", "10.200.0.1:80"
        found = labels(len(frames) + 1, segments)
        frames += connection(source, dest, segments)
        outcome = Outcome.INCONCLUSIVE if k % 10 == 9 else Outcome.CONFORMS
        reason = "more guesses than are followed" if outcome is Outcome.INCONCLUSIVE else ""
        verdicts.append(Verdict("tcp", f"{source} > {dest}", outcome, reason, found))
    write(path, frames)
    return FileReport(str(path), "6.12", len(frames), verdicts)
