"""Mutants of captures: one thing changed that a real kernel would not have done, to see that the checker says no.

Each kind names what it changes and in which frames. A frame of a crafted peer is never mutated: the specification does
not constrain it. Checksums are put right again, so that it is the behaviour that is judged.
"""

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from conformance.pcap import Frame
from refmodel.packet.segment import Segment, segment
from refmodel.packet.transport import ACK, FIN, PSH, RST, SYN
from refmodel.packet.wire import checksum, pseudo_header
from refmodel.types import M32

Change = Callable[[bytearray, Segment], bool]


class Mutant(Struct, frozen=True):
    """A changed capture: `at` is the number (in the mutant) of the frame that is wrong, 0 if a frame is missing.

    `after` is the number of the first frame behind the change, `original` that of the mutated frame in the original.
    """

    kind: str
    original: int
    at: int
    after: int
    frames: tuple[Frame, ...]
    says: str


def reseal(data: bytearray, s: Segment) -> None:
    """Puts the IPv4 and TCP checksums right again."""
    if len(s.saddr) == 4:
        struct.pack_into("!H", data, s.l3 + 10, 0)
        struct.pack_into("!H", data, s.l3 + 10, checksum(bytes(data[s.l3 : s.l4])))
    end = s.payload_at + s.len
    if end > len(data):
        return
    struct.pack_into("!H", data, s.l4 + 16, 0)
    start = pseudo_header(s.saddr, s.daddr, 6, end - s.l4)
    struct.pack_into("!H", data, s.l4 + 16, checksum(bytes(data[s.l4 : end]), start))


def _flip(bit: int, need: int = 0, without: int = 0) -> Change:
    def change(data: bytearray, s: Segment) -> bool:
        if s.flags & need != need or s.flags & without:
            return False
        data[s.l4 + 13] ^= bit
        return True

    return change


def _shift(offset: int, by: int, need: int = 0, without: int = 0) -> Change:
    def change(data: bytearray, s: Segment) -> bool:
        if s.flags & need != need or s.flags & without:
            return False
        (old,) = struct.unpack_from("!I", data, s.l4 + offset)
        struct.pack_into("!I", data, s.l4 + offset, (old + by) & M32)
        return True

    return change


def _timestamp(offset: int, by: int) -> Change:
    def change(data: bytearray, s: Segment) -> bool:
        at = _option(data, s, 8)
        if at < 0 or (offset == 6 and not s.flags & ACK) or (offset == 2 and s.flags & SYN):
            return False
        (old,) = struct.unpack_from("!I", data, at + offset)
        struct.pack_into("!I", data, at + offset, (old + by) & M32)
        return True

    return change


def _option(data: bytes | bytearray, s: Segment, kind: int) -> int:
    i = s.l4 + 20
    while i < s.payload_at:
        if data[i] == kind:
            return i
        if data[i] == 0:
            break
        i += 1 if data[i] == 1 else max(data[i + 1], 2)
    return -1


def _no_option(kind: int) -> Change:
    def change(data: bytearray, s: Segment) -> bool:
        at = _option(data, s, kind)
        if at < 0:
            return False
        for i in range(at, at + data[at + 1]):
            data[i] = 1
        return True

    return change


def _add_to_option(kind: int, offset: int, by: int) -> Change:
    def change(data: bytearray, s: Segment) -> bool:
        at = _option(data, s, kind)
        if at < 0:
            return False
        data[at + offset] = (data[at + offset] + by) & 0xFF
        return True

    return change


def _zero_window(data: bytearray, s: Segment) -> bool:
    if s.flags & (RST | SYN) or not s.window:
        return False
    struct.pack_into("!H", data, s.l4 + 14, 0)
    return True


def _ttl(data: bytearray, s: Segment) -> bool:
    data[s.l3 + (8 if len(s.saddr) == 4 else 7)] -= 1
    return True


def _no_df(data: bytearray, s: Segment) -> bool:
    if len(s.saddr) != 4:
        return False
    data[s.l3 + 6] &= 0xBF
    return True


def _shorter(data: bytearray, s: Segment) -> bool:
    """One byte of payload less, lengths adjusted; the stream has a hole then."""
    if s.len < 2 or s.flags & SYN:
        return False
    at, old = (s.l3 + 2, s.len + s.payload_at - s.l3) if len(s.saddr) == 4 else (s.l3 + 4, s.len + s.payload_at - s.l4)
    struct.pack_into("!H", data, at, old - 1)
    del data[s.payload_at + s.len - 1 :]
    return True


CHANGES: Final[dict[str, tuple[str, Change]]] = {
    "flag-rst": ("RST set", _flip(RST, without=RST | SYN)),
    "flag-fin": ("FIN set or cleared", _flip(FIN, without=SYN | RST)),
    "flag-syn": ("SYN set on an established connection's segment", _flip(SYN, need=ACK, without=SYN | RST)),
    "flag-no-syn": ("SYN cleared", _flip(SYN, need=SYN)),
    "flag-no-ack": ("ACK cleared", _flip(ACK, need=ACK, without=RST)),
    "flag-psh": ("PSH set on a segment without data", lambda d, s: not s.len and _flip(PSH)(d, s)),
    "seq-one": ("sequence number plus 1, but on a SYN, where it is free", _shift(4, 1, without=SYN)),
    "seq-back": ("sequence number minus 1", _shift(4, -1, without=SYN)),
    "seq-far": ("sequence number plus 2**31", _shift(4, 1 << 31, without=SYN)),
    "ack-one": ("acknowledgment number plus 1", _shift(8, 1, need=ACK)),
    "ack-back": ("acknowledgment number minus 1", _shift(8, -1, need=ACK)),
    "ack-far": ("acknowledgment number plus 2**31", _shift(8, 1 << 31, need=ACK)),
    "window-zero": ("window 0", _zero_window),
    "ts-value": ("TSval plus 100,000, but on a SYN, where it is free", _timestamp(2, 100_000)),
    "ts-echo": ("TSecr plus 1,000", _timestamp(6, 1_000)),
    "no-timestamps": ("timestamp option removed", _no_option(8)),
    "no-sack-permitted": ("SACK permitted removed from a SYN", _no_option(4)),
    "wscale": ("window scale plus 1", _add_to_option(3, 2, 1)),
    "ttl": ("TTL minus 1", _ttl),
    "no-df": ("DF cleared", _no_df),
    "shorter": ("one byte of payload less", _shorter),
}

ORDER: Final = ("drop", "repeat", "swap", "late", "early")
KINDS: Final = (*CHANGES, *ORDER)
LATE: Final = 3_000_000_000  # ns: longer than any timer's slack


def mutants(
    frames: Sequence[Frame],
    judged: Callable[[bytes], bool],
    rng: random.Random,
    each: int = 2,
    free: frozenset[int] = frozenset(),
) -> Iterator[Mutant]:
    """Up to `each` mutants of every kind; `judged` says whether an address is a host that is held to Linux.

    `free` are frames whose time an application chose: they are not made late.
    """
    segments = [segment(f.number, f.time, f.data, f.linktype, f.orig_len) for f in frames]
    mine = [k for k, s in enumerate(segments) if s is not None and judged(s.saddr)]
    for kind, (says, change) in CHANGES.items():
        found = 0
        for k in rng.sample(mine, len(mine)):
            s = segments[k]
            data = bytearray(frames[k].data)
            if s is None or found == each or not change(data, s):
                continue
            reseal(data, _as_changed(s, data))
            new = replace(frames[k], data=bytes(data), orig_len=frames[k].orig_len - len(frames[k].data) + len(data))
            found += 1
            number = frames[k].number
            yield Mutant(kind, number, number, number + 1, _renumber([*frames[:k], new, *frames[k + 1 :]]), says)
    for kind in ORDER:
        found = 0
        for k in rng.sample(mine, len(mine)):
            if found == each or (kind == "late" and frames[k].number in free):
                continue
            m = _reorder(kind, frames, segments, k)
            if m is not None:
                found += 1
                yield m


def _as_changed(s: Segment, data: bytearray) -> Segment:
    return replace(s, len=min(s.len, len(data) - s.payload_at)) if len(data) < len(s.data) else s


def _renumber(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    return tuple(replace(f, number=n) for n, f in enumerate(frames, 1))


def _reorder(kind: str, frames: Sequence[Frame], segments: Sequence[Segment | None], k: int) -> Mutant | None:
    f, n = frames[k], frames[k].number
    if kind == "drop":
        if k == len(frames) - 1:
            return None
        return Mutant(kind, n, 0, n, _renumber([*frames[:k], *frames[k + 1 :]]), "frame removed")
    if kind == "repeat":
        again = replace(f, time=f.time + 1000)
        return Mutant(kind, n, n + 1, n + 2, _renumber([*frames[: k + 1], again, *frames[k + 1 :]]), "frame repeated")
    if kind == "swap":
        j = next((i for i in range(k + 1, len(frames)) if _same_sender(segments[i], segments[k])), -1)
        if j < 0:
            return None
        g = frames[j]
        if _alike(segments[j], segments[k]):
            return None
        new = list(frames)
        new[k], new[j] = replace(g, time=f.time), replace(f, time=g.time)
        return Mutant(kind, n, n, n + 1, _renumber(new), "two segments of one sender in each other's place")
    if kind == "late":
        moved = [replace(g, time=g.time + LATE) for g in frames[k:]]
        return Mutant(kind, n, n, n + 1, _renumber([*frames[:k], *moved]), "frame and all behind it 3 s later")
    before = next((i for i in range(k - 1, -1, -1) if not _same_sender(segments[i], segments[k])), -1)
    if before < 0 or segments[before] is None:
        return None
    moved_up = replace(f, time=frames[before].time - 1000)
    new = [*frames[:before], moved_up, *frames[before:k], *frames[k + 1 :]]
    return Mutant(kind, n, frames[before].number, frames[before].number + 1, _renumber(new), "frame before its cause")


def _alike(a: Segment | None, b: Segment | None) -> bool:
    """The two segments say the same, so that their order doesn't matter."""
    return a is not None and b is not None and a.data[a.l4 :] == b.data[b.l4 :]


def _same_sender(a: Segment | None, b: Segment | None) -> bool:
    return (
        a is not None and b is not None and (a.saddr, a.source, a.daddr, a.dest) == (b.saddr, b.source, b.daddr, b.dest)
    )
