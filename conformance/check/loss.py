"""Which segments were lost between the tap and the machine: only those whose loss the capture itself shows.

A peer that sends the same sequence numbers, or the same probe, twice never heard of the first. A machine that sends
again what a segment acknowledged, probes a window that a segment opened, or leaves a segment out of its SACK blocks,
never got it.
"""

from collections.abc import Sequence
from typing import Final

from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.types import M32, after

AGAIN: Final = 100_000  # ns: nothing is sent again sooner


def losable(segments: Sequence[Segment], to: tuple[bytes, int]) -> frozenset[int]:
    """The numbers of the segments that may not have reached the end `to` (address, port)."""
    found: set[int] = set()
    met: dict[tuple[int, int, int, int], Segment] = {}
    acks: list[Segment] = []
    data: list[Segment] = []
    sent = 0
    started = False
    for x in segments:
        if (x.saddr, x.source) == to:
            end = x.end_seq
            if x.sack:
                top = max(((right - x.ack_seq) & M32) for _, right in x.sack)
                found.update(a.number for a in data if _left_out(a, x, top))
            if started and x.seg_len and after(sent, x.seq):
                found.update(a.number for a in acks if after(a.ack_seq, x.seq) and x.time - a.time >= AGAIN)
            elif started and not x.seg_len and x.seq == (sent - 1) & M32:
                found.update(a.number for a in acks if a.window and x.seq == (a.ack_seq - 1) & M32)
            if not started or after(end, sent):
                sent, started = end, True
            continue
        if x.flags & ACK:
            acks.append(x)
        if x.len:
            data.append(x)
        length = x.seg_len
        key = (x.seq, x.flags & (SYN | RST | FIN), 0 if length else x.ack_seq, 1 if length else 0)
        first = met.setdefault(key, x)
        if first is not x and x.time - first.time >= AGAIN:
            found.update((first.number, x.number))
    return frozenset(found)


def _left_out(a: Segment, x: Segment, top: int) -> bool:
    """`x` acknowledges data behind `a`, but not `a`."""
    off = (a.seq - x.ack_seq) & M32
    inside = any(((a.seq - left) & M32) < ((right - left) & M32) for left, right in x.sack)
    return off < top and not inside
