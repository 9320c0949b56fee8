"""The same traffic as another tap would have written it, and what must be said of it then.

Every transform is a function of the frames and a seed. What comes out is something that a real tap, network or capture
program makes of a real kernel's traffic, so it may never be said to diverge; `allowed` are the verdicts that may come.
"""

import io
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.verdict import Outcome
from conformance.frames import Frame
from conformance.mutate_edit import NOP, OPT_MSS, OPT_SACK_PERM, OPT_TIMESTAMP, OPT_WSCALE, Edit, edit
from conformance.pcap import Writer
from refmodel.packet import Checksum, Ether, Null, PacketType, Sll, Sll2, checksums, decode
from refmodel.packet.segment import Segment, segment
from refmodel.packet.transport import ACK, RST, SYN
from refmodel.packet.wire import (
    LINKTYPE_ETHERNET,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
    LINKTYPE_NULL,
    pseudo_header,
)

SAME: Final = frozenset({Outcome.CONFORMS})
CUT: Final = frozenset({Outcome.CONFORMS, Outcome.INCONCLUSIVE})
OTHER: Final = frozenset({Outcome.CONFORMS, Outcome.INCONCLUSIVE, Outcome.NOT_MODELLED})
CPU_SKEW: Final = 30_000  # ns: how far stamps of two processors were seen out of order


class View(Struct, frozen=True):
    """A transformed capture. `dropped` is what the capture program says that it lost (None: it says nothing)."""

    frames: tuple[Frame, ...]
    dropped: int | None = None
    snaplen: int = 1 << 18

    def pcapng(self) -> bytes:
        """The file."""
        out = io.BytesIO()
        with Writer(out) as w:
            for k in sorted({f.interface for f in self.frames}):
                while len(w.interfaces) <= k:
                    w.interface(next(f.linktype for f in self.frames if f.interface == k), "eth0", self.snaplen)
                    w.interfaces[-1].dropped = self.dropped
            for f in self.frames:
                w.frame(f)
        return out.getvalue()


Change = Callable[[Sequence[Frame], random.Random], View | None]


class Transform(Struct, frozen=True):
    """One way of looking: what it says, the verdicts that may come, whether the capture's sidecar still holds of it."""

    name: str
    says: str
    allowed: frozenset[Outcome]
    sidecar: bool
    change: Change


TRANSFORMS: Final[dict[str, Transform]] = {}


def _transform(name: str, says: str, allowed: frozenset[Outcome], sidecar: bool = False) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        TRANSFORMS[name] = Transform(name, says, allowed, sidecar, change)
        return change

    return register


def numbered(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """Frames numbered from 1 as they stand."""
    return tuple(replace(f, number=n) for n, f in enumerate(frames, 1))


def segments(frames: Sequence[Frame]) -> list[Segment | None]:
    """The TCP segment of each frame."""
    return [segment(f.number, f.time, f.data, f.linktype, f.orig_len) for f in frames]


def _each(frames: Sequence[Frame], what: Callable[[Edit], bool]) -> View | None:
    """Edits every TCP segment for which `what` says that it changed something; None if none was changed."""
    out, changed = [], False
    for f in frames:
        e = edit(f)
        if e is not None and what(e):
            changed = True
            f = e.frame()
        out.append(f)
    return View(tuple(out)) if changed else None


# ---------------------------------------------------------------- when the capture ran


@_transform("plain", "nothing is changed", SAME, True)
def plain(frames: Sequence[Frame], r: random.Random) -> View | None:
    """The capture as it is, with its sidecar and without."""
    return View(tuple(frames))


@_transform("starts-late", "the capture begins in mid-connection", OTHER)
def starts_late(frames: Sequence[Frame], r: random.Random) -> View | None:
    """Leaves the first frames out, a SYN among them."""
    found = segments(frames)
    first = next((k for k, s in enumerate(found) if s is not None and s.flags & SYN), -1)
    if first < 0 or first + 4 > len(frames):
        return None
    return View(numbered(frames[r.randrange(first + 1, len(frames) - 1) :]))


@_transform("ends-early", "the capture ends in mid-connection", CUT, True)
def ends_early(frames: Sequence[Frame], r: random.Random) -> View | None:
    """Leaves the last frames out, but not the first SYN's answer."""
    first = next((k for k, s in enumerate(segments(frames)) if s is not None and s.flags & SYN), -1)
    if first < 0 or first + 3 > len(frames):
        return None
    return View(tuple(frames[: r.randrange(first + 2, len(frames))]))


# ---------------------------------------------------------------- how much of a frame was kept


def _snap(size: int) -> Change:
    def change(frames: Sequence[Frame], r: random.Random) -> View | None:
        cut = [replace(f, data=f.data[:size]) for f in frames]
        return View(tuple(cut), snaplen=size) if any(len(f.data) > size for f in frames) else None

    return change


for _size, _allowed in ((64, CUT), (96, CUT), (128, SAME)):
    _transform(f"snaplen-{_size}", f"{_size} bytes of each frame were kept", _allowed, True)(_snap(_size))


# ---------------------------------------------------------------- what stands below IP


def _link(frames: Sequence[Frame], linktype: int, head: Callable[[Frame], bytes]) -> View | None:
    if any(f.linktype != LINKTYPE_ETHERNET or len(f.data) < 14 for f in frames):
        return None
    out = []
    for f in frames:
        data = head(f) + f.data[14:]
        out.append(replace(f, linktype=linktype, data=data, orig_len=f.orig_len - len(f.data) + len(data)))
    return View(tuple(out))


def _ether(f: Frame) -> Ether:
    (proto,) = struct.unpack_from("!H", f.data, 12)
    return Ether(f.data[:6], f.data[6:12], proto)


@_transform("vlan", "a VLAN tag in each frame", SAME, True)
def vlan(frames: Sequence[Frame], r: random.Random) -> View | None:
    """One 802.1Q tag."""
    tag = struct.pack("!HH", 0x8100, r.randrange(1, 4095))
    return _link(frames, LINKTYPE_ETHERNET, lambda f: f.data[:12] + tag + f.data[12:14])


@_transform("qinq", "two VLAN tags in each frame", SAME, True)
def qinq(frames: Sequence[Frame], r: random.Random) -> View | None:
    """An 802.1ad tag around an 802.1Q tag."""
    tags = struct.pack("!HHHH", 0x88A8, r.randrange(1, 4095), 0x8100, r.randrange(1, 4095))
    return _link(frames, LINKTYPE_ETHERNET, lambda f: f.data[:12] + tags + f.data[12:14])


def _packet_type(f: Frame) -> PacketType:
    """As a host with the lower address would say it, where the file does not."""
    if f.direction:
        return PacketType.PACKET_OUTGOING if f.direction == "out" else PacketType.PACKET_HOST
    return PacketType.PACKET_OUTGOING if f.data[6:12] < f.data[:6] else PacketType.PACKET_HOST


@_transform("sll", "captured on `any`: a cooked header", SAME, True)
def sll(frames: Sequence[Frame], r: random.Random) -> View | None:
    """LINUX_SLL."""
    return _link(
        frames,
        LINKTYPE_LINUX_SLL,
        lambda f: Sll(_packet_type(f), 1, 6, _ether(f).h_source + b"\0\0", _ether(f).h_proto).wire(),
    )


@_transform("sll2", "captured on `any`: a cooked header of the second version", SAME, True)
def sll2(frames: Sequence[Frame], r: random.Random) -> View | None:
    """LINUX_SLL2."""
    return _link(
        frames,
        LINKTYPE_LINUX_SLL2,
        lambda f: Sll2(_ether(f).h_proto, 0, 2, 1, _packet_type(f), 6, _ether(f).h_source + b"\0\0").wire(),
    )


@_transform("null", "a BSD loopback header", SAME, True)
def null(frames: Sequence[Frame], r: random.Random) -> View | None:
    """DLT_NULL; only IP has one."""
    ip = [f for f in frames if f.linktype == LINKTYPE_ETHERNET and _ether(f).h_proto in (0x0800, 0x86DD)]
    if len(ip) < len(frames):
        return None
    return _link(frames, LINKTYPE_NULL, lambda f: Null(2 if _ether(f).h_proto == 0x0800 else 10, "little").wire())


# ---------------------------------------------------------------- what lies between the hosts


@_transform("nat", "one side's address and port are translated", OTHER)
def nat(frames: Sequence[Frame], r: random.Random) -> View | None:
    """Another address and port for whoever sent the first SYN, in both directions."""
    inside = next((s for s in segments(frames) if s is not None and s.flags & (SYN | ACK) == SYN), None)
    if inside is None or inside.saddr == inside.daddr:
        return None
    outside = bytes((198, 51, 100, 7)) if len(inside.saddr) == 4 else bytes.fromhex("20010db8") + bytes(11) + b"\x07"
    ports: dict[int, int] = {}

    def change(e: Edit) -> bool:
        s = e.s
        for source, address, port in ((True, s.saddr, s.source), (False, s.daddr, s.dest)):
            if address == inside.saddr:
                e.address(source, outside)
                e.port(source, ports.setdefault(port, 1024 + (port * 7 + 5) % 60_000))
                return True
        return False

    return _each(frames, change)


@_transform("hops", "routers between the hosts: the far side's TTL is lower", SAME)
def hops(frames: Sequence[Frame], r: random.Random) -> View | None:
    """As many routers for each frame of one host."""
    n = r.randrange(1, 20)
    far = next((s.daddr for s in segments(frames) if s is not None and s.flags & SYN), None)

    def change(e: Edit) -> bool:
        if e.s.saddr != far or e.s.ttl <= n:
            return False
        e.ttl(e.s.ttl - n)
        return True

    return _each(frames, change) if far is not None else None


@_transform("mss-clamp", "a middlebox lowers the MSS of every SYN", OTHER)
def mss_clamp(frames: Sequence[Frame], r: random.Random) -> View | None:
    """As routers before a tunnel do; only where no segment is too large for it."""
    found = segments(frames)
    largest = max((s.len for s in found if s is not None), default=0)
    clamp = r.choice((1360, 1380, 1400))
    if largest > clamp - 60:
        return None

    def change(e: Edit) -> bool:
        at = e.option(OPT_MSS)
        if at < 0 or not e.s.flags & SYN or (e.s.mss or 0) <= clamp:
            return False
        struct.pack_into("!H", e.data, at + 2, clamp)
        return True

    return _each(frames, change)


@_transform("window-rewrite", "a middlebox halves one side's windows", OTHER)
def window_rewrite(frames: Sequence[Frame], r: random.Random) -> View | None:
    """Only where the other side sends so little that no window decides what it does, nor where it sets PSH."""
    found = [s for s in segments(frames) if s is not None]
    syn = next((s for s in found if s.flags & (SYN | ACK) == SYN), None)
    if syn is None:
        return None
    sent = sum(s.len for s in found if s.saddr != syn.daddr)
    if sent > min((s.window for s in found if s.flags & SYN), default=0) // 8:
        return None
    scales = [s.wscale for s in found if s.flags & SYN and s.saddr == syn.daddr]
    shift = min((x or 0 for x in scales), default=0) if syn.wscale is not None else 0
    later = [s for s in found if s.saddr == syn.daddr and not s.flags & (SYN | RST)]
    if any(s.window << shift < 8 * sent for s in later):
        return None

    def change(e: Edit) -> bool:
        if e.s.saddr != syn.daddr or e.s.flags & RST or e.s.window < 2:
            return False
        e.window(e.s.window // 2)
        return True

    return _each(frames, change)


@_transform("sack-strip", "a middlebox takes SACK permitted out of the SYN-ACK", OTHER)
def sack_strip(frames: Sequence[Frame], r: random.Random) -> View | None:
    """Only where nothing was lost: no segment has SACK blocks."""
    found = [s for s in segments(frames) if s is not None]
    ends = {(s.saddr, s.source, s.end_seq) for s in found if s.len}
    if any(s.sack for s in found) or len(ends) < sum(s.len > 0 for s in found):
        return None

    def change(e: Edit) -> bool:
        at = e.option(OPT_SACK_PERM)
        if at < 0 or e.s.flags & (SYN | ACK) != SYN | ACK:
            return False
        e.data[at : at + 2] = bytes((NOP, NOP))
        return True

    return _each(frames, change)


# ---------------------------------------------------------------- what another stack would send


def _foreign(frames: Sequence[Frame], options: Callable[[Segment], bytes], ttl: int, window: int) -> View | None:
    """The first SYN's sender becomes another system: its SYN's options and window, its TTL."""
    syn = next((s for s in segments(frames) if s is not None and s.flags & (SYN | ACK) == SYN), None)
    if syn is None or syn.truncated:
        return None

    def change(e: Edit) -> bool:
        s = e.s
        if s.saddr != syn.saddr:
            return False
        e.ttl(ttl - (64 - s.ttl) if s.ttl <= 64 else ttl)
        if s.flags & SYN:
            e.window(window)
            e.set_options(options(s))
        return True

    return _each(frames, change)


@_transform("windows", "the client is a Windows host", OTHER)
def windows(frames: Sequence[Frame], r: random.Random) -> View | None:
    """TTL 128; MSS, NOP, window scale, NOP, NOP, SACK permitted; no timestamps."""
    found = [s for s in segments(frames) if s is not None]
    if any(s.tsval is not None or (s.flags & SYN and s.wscale is None) for s in found):
        return None

    def options(s: Segment) -> bytes:
        mss = struct.pack("!BBH", OPT_MSS, 4, s.mss or 1460)
        return mss + bytes((NOP, OPT_WSCALE, 3, s.wscale or 0, NOP, NOP, OPT_SACK_PERM, 2))

    return _foreign(frames, options, 128, 64240)


@_transform("bsd", "the client is a FreeBSD host", OTHER)
def bsd(frames: Sequence[Frame], r: random.Random) -> View | None:
    """MSS, NOP, window scale, SACK permitted, timestamps; a window of 65535."""
    found = [s for s in segments(frames) if s is not None and s.flags & SYN]
    if not found or any(s.tsval is None or s.wscale is None or not s.sack_perm for s in found):
        return None

    def options(s: Segment) -> bytes:
        mss = struct.pack("!BBH", OPT_MSS, 4, s.mss or 1460)
        stamps = struct.pack("!BBII", OPT_TIMESTAMP, 10, s.tsval or 0, s.tsecr or 0)
        return mss + bytes((NOP, OPT_WSCALE, 3, s.wscale or 0, OPT_SACK_PERM, 2)) + stamps

    return _foreign(frames, options, 64, 65535)


# ---------------------------------------------------------------- what the capture did to the frames


@_transform("dropped-said", "the capture lost frames, and says how many", OTHER)
def dropped_said(frames: Sequence[Frame], r: random.Random) -> View | None:
    """Up to a tenth of the frames, with the interface's ifdrop."""
    return _dropped(frames, r, True)


@_transform("dropped-unsaid", "the capture lost frames and does not say so", OTHER)
def dropped_unsaid(frames: Sequence[Frame], r: random.Random) -> View | None:
    """The same where the file has no counters, as in pcap."""
    return _dropped(frames, r, False)


def _dropped(frames: Sequence[Frame], r: random.Random, said: bool) -> View | None:
    if len(frames) < 6:
        return None
    lost = set(r.sample(range(2, len(frames) - 1), max(1, len(frames) // 10)))
    kept = [f for k, f in enumerate(frames) if k not in lost]
    return View(numbered(kept), len(lost) if said else None)


@_transform("skew", "frames of two processors are stamped and written out of order", CUT, True)
def skew(frames: Sequence[Frame], r: random.Random) -> View | None:
    """Neighbours of opposite directions within 30 us change places; a processor's own frames keep their order."""
    out = list(frames)
    found = segments(frames)
    k, changed = 0, False
    while k + 1 < len(out):
        a, b = found[k], found[k + 1]
        near = out[k + 1].time - out[k].time <= CPU_SKEW
        if a is not None and b is not None and near and a.saddr != b.saddr and r.random() < 0.5:
            out[k], out[k + 1] = replace(out[k + 1], time=out[k].time), replace(out[k], time=out[k + 1].time)
            changed = True
            k += 1
        k += 1
    return View(numbered(out)) if changed else None


@_transform("offload", "nobody has filled the checksums in, as between veth devices", SAME, True)
def offload(frames: Sequence[Frame], r: random.Random) -> View | None:
    """The field holds the pseudo-header's sum only (CHECKSUM_PARTIAL), at either end; what was damaged stays so."""
    found = segments(frames)
    out = [
        f if s is None or _damaged(f) else replace(f, data=_unsummed(f, s)) for f, s in zip(frames, found, strict=True)
    ]
    return View(tuple(out)) if any(s is not None for s in found) else None


def _damaged(f: Frame) -> bool:
    return any(c == Checksum.WRONG for _, c in checksums(decode(f.data, f.linktype, f.orig_len)))


def _unsummed(f: Frame, s: Segment) -> bytes:
    data = bytearray(f.data)
    size = s.payload_at - s.l4 + s.len
    struct.pack_into("!H", data, s.l4 + 16, pseudo_header(s.saddr, s.daddr, 6, size))
    return bytes(data)


@_transform("seen-twice", "the tap sees each frame twice, as on a bridge and its port", CUT, True)
def seen_twice(frames: Sequence[Frame], r: random.Random) -> View | None:
    """Each frame again 1 us later, byte for byte."""
    out = []
    for f in frames:
        out += [f, replace(f, time=f.time + 1000)]
    out.sort(key=lambda f: f.time)
    return View(numbered(out))


@_transform("seen-twice-sometimes", "the tap sees some frames twice", CUT)
def seen_twice_sometimes(frames: Sequence[Frame], r: random.Random) -> View | None:
    """Some frames again 1 to 20 us later."""
    out, changed = [], False
    for f in frames:
        out.append(f)
        if r.random() < 0.1:
            changed = True
            out.append(replace(f, time=f.time + r.randrange(1000, 20_000)))
    out.sort(key=lambda f: f.time)
    return View(numbered(out)) if changed else None


def transform(name: str, frames: Sequence[Frame], seed: int) -> View | None:
    """The capture as transform `name` makes it; None where it does not apply. Raises KeyError."""
    return TRANSFORMS[name].change(frames, random.Random(f"{name} {seed}"))


__all__ = ["CUT", "OTHER", "SAME", "TRANSFORMS", "Transform", "View", "numbered", "segments", "transform"]
