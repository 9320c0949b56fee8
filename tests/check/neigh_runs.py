"""Frames of neighbour resolution made by hand, and what the checker says of them."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import refmodel.layers  # noqa: F401
from conformance.check.neigh import Neighbours
from conformance.check.setup import Host, Notification, Setup, setup_for
from conformance.check.verdict import Verdict
from conformance.frames import Frame
from conformance.pcap import Reader
from refmodel.packet import decode, segment

CAPTURES = Path(__file__).parents[2] / "captures"
A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
OTHER = bytes.fromhex("020000000077")
ALL = b"\xff" * 6
IP_A, IP_B = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])
S = 1_000_000_000
START = 1_000 * S


def arp(op: int, dst: bytes, sha: bytes, sip: bytes, tha: bytes, tip: bytes) -> bytes:
    return dst + sha + bytes.fromhex("08060001080006040000")[:8] + op.to_bytes(2, "big") + sha + sip + tha + tip


def request(dst: bytes = ALL, sip: bytes = IP_A, sha: bytes = A, tip: bytes = IP_B) -> bytes:
    return arp(1, dst, sha, sip, bytes(6), tip)


def reply(sha: bytes = B, sip: bytes = IP_B, dst: bytes = A, tip: bytes = IP_A) -> bytes:
    return arp(2, dst, sha, sip, dst, tip)


def udp(dst: bytes = B, src: bytes = A, saddr: bytes = IP_A, daddr: bytes = IP_B) -> bytes:
    ip = bytes.fromhex("4500001c00004000401100000000000000000000"[:24]) + saddr + daddr
    return dst + src + b"\x08\x00" + ip + bytes.fromhex("1000138800080000")


def timed(*what: tuple[float, bytes]) -> list[Frame]:
    """Frames at so many seconds after the start."""
    return [Frame(n, START + round(t * S), 1, 0, data, len(data)) for n, (t, data) in enumerate(what, 1)]


def setup(*notes: tuple[float, str, str, str, int], linux_b: bool = False, **given: object) -> Setup:
    """Host a is judged and its notifications (seconds, event, state, lladdr, probes) are known; b is crafted."""
    hosts = (Host("a", True, frozenset({IP_A}), A), Host("b", linux_b, frozenset({IP_B}), B))
    told = tuple(
        Notification("a", (START + round(t * S)) // 1000, event, "10.9.0.2", state, lladdr, probes)
        for t, event, state, lladdr, probes in notes
    )
    fields: dict[str, object] = {"kernel": "6.18", "hosts": hosts, "near": "a", "layer": "neigh", "notifications": told}
    return Setup(**(fields | given))  # type: ignore[arg-type]


def check(frames: Iterable[Frame], under: Setup, end: float = 0) -> list[Verdict]:
    """The verdicts on all neighbours; the capture lasts until `end` seconds after the start."""
    n = Neighbours(under)
    last = (START + round(end * S)) // 1000 if end else 0
    for f in frames:
        last = max(last, f.time // 1000)
        s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
        n.frame(f, s if s is not None else decode(f.data, f.linktype, f.orig_len))
    return n.finish(last)


@cache
def shipped(case: str) -> tuple[tuple[Frame, ...], Setup]:
    """The frames of a shipped capture and its setup."""
    path = CAPTURES / f"{case}.pcapng"
    with Reader(path) as r:
        return tuple(r), setup_for(path)


def cases(*layers: str) -> Sequence[str]:
    """The shipped captures whose names start so."""
    return sorted(p.stem for layer in layers for p in CAPTURES.glob(f"{layer}-*.pcapng"))
