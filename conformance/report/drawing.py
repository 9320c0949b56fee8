"""What a page draws of each connection: its frames, from a second pass over the capture, as many as have room."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from msgspec import Struct

from conformance.check.verdict import FileReport, Verdict
from conformance.fields import dissect
from conformance.frames import Frame
from conformance.pcap import CaptureError, Reader
from conformance.report.clean import printable
from refmodel.packet import Arp, Packet, decode
from refmodel.packet.segment import Segment, segment

PER_SUBJECT: Final = 3_000  # frames from the first on, and as many again of rare steps
AROUND: Final = 100  # frames on either side of a divergence
PER_PAGE: Final = 200_000  # frames that all subjects of a page share
LEAST: Final = 20

End = tuple[bytes, int]
Key = tuple[End, End]


class Drawn(Struct, array_like=True):
    """One frame of a drawing. `time` is in us since the capture's first frame; `source` and `dest` count `ends`.

    `text` tells frames that are no TCP; of a TCP segment the fields follow as they stand in `Segment` (None: not
    there).
    """

    number: int
    time: int
    source: int
    dest: int
    size: int
    text: str = ""
    fields: dict[str, str] | None = None
    flags: int = 0
    seq: int = 0
    ack_seq: int = 0
    window: int = 0
    len: int = 0
    sack: tuple[tuple[int, int], ...] = ()
    mss: int | None = None
    wscale: int | None = None
    sack_perm: bool = False
    tsval: int | None = None
    tsecr: int | None = None
    ip_id: int | None = None
    ttl: int = 0
    tos: int = 0
    urg_ptr: int = 0


class Drawing(Struct):
    """The frames of one subject: `ends` are its addresses, `total` counts what it has, drawn or not.

    `gaps` are (position in `frames`, how many are left out before it).
    """

    ends: list[str]
    frames: list[Drawn]
    total: int = 0
    gaps: list[tuple[int, int]] = []


class _Subject:
    """A verdict while its capture is read again."""

    def __init__(self, v: Verdict, room: int) -> None:
        self.drawing = Drawing([], [])
        self.room = room
        self.diverges = v.divergence.frame if v.divergence is not None else 0
        known = [x.number for x in v.labels] + [self.diverges] * (self.diverges > 0)
        self.first, self.last = min(known, default=0), max(known, default=0)
        self.wanted = _rare(v, room)
        self.before: deque[tuple[int, Drawn]] = deque(maxlen=AROUND)
        self.after = 0
        self.taken: list[tuple[int, Drawn]] = []
        self.index: dict[str | End, int] = {}

    def end(self, end: str | End) -> int:
        """The number of an end of the ladder, a new one if need be."""
        found = self.index.get(end)
        if found is None:
            found = self.index[end] = len(self.index)
            self.drawing.ends.append(end if isinstance(end, str) else _name(end))
        return found

    def room_left(self, number: int) -> bool:
        """Whether a frame is among those that are drawn, or may be; counts it if it is not."""
        if self.drawing.total < self.room or number <= self.diverges or self.after or number in self.wanted:
            return True
        self.drawing.total += 1
        return False

    def add(self, d: Drawn) -> None:
        """Takes a frame if it belongs to those that are drawn."""
        self.drawing.total += 1
        if d.number == self.diverges:
            self.taken += self.before
            self.before.clear()
            self.after = AROUND
        elif self.after:
            self.after -= 1
        elif self.drawing.total > self.room and d.number not in self.wanted:
            if d.number < self.diverges:
                self.before.append((self.drawing.total, d))
            return
        self.taken.append((self.drawing.total, d))

    def drawn(self) -> Drawing:
        """The drawing, when the capture has been read."""
        self.taken.sort(key=lambda x: x[0])
        last = 0
        for k, (ordinal, _) in enumerate(self.taken):
            if ordinal > last + 1:
                self.drawing.gaps.append((k, ordinal - last - 1))
            last = ordinal
        if last < self.drawing.total:
            self.drawing.gaps.append((len(self.taken), self.drawing.total - last))
        self.drawing.frames = [d for _, d in self.taken]
        return self.drawing


def _rare(v: Verdict, room: int) -> frozenset[int]:
    """The frames whose steps are rarest in their connection: retransmissions before plain data."""
    if len(v.labels) <= room:
        return frozenset(x.number for x in v.labels)
    often = Counter(x.step or x.by for x in v.labels)
    rarest = sorted(v.labels, key=lambda x: (often[x.step or x.by], x.number))
    return frozenset(x.number for x in rarest[:room])


def room_for(reports: Sequence[FileReport]) -> int:
    """How many frames, counted from the first, each subject of a page may show so that all have room."""
    sizes = [len(v.labels) or r.frames for r in reports for v in r.verdicts]
    room = PER_SUBJECT
    while room > LEAST and sum(min(2 * room, n) for n in sizes) > PER_PAGE:
        room //= 2
    return max(room, LEAST)


def drawings(report: FileReport, room: int = PER_SUBJECT) -> tuple[list[Drawing], int]:
    """The drawing of each verdict of a capture, in order, and the time of its first frame in ns.

    A capture that has become unreadable since it was checked gives empty ones.
    """
    subjects = [_Subject(v, room) for v in report.verdicts]
    first = 0
    with suppress(CaptureError), Reader(Path(report.path)) as frames:
        first = _fill(frames, report.verdicts, subjects)
    return [s.drawn() for s in subjects], first


def _fill(frames: Iterable[Frame], verdicts: Sequence[Verdict], subjects: Sequence[_Subject]) -> int:
    connections: dict[Key, deque[_Subject]] = defaultdict(deque)
    named: dict[int, list[_Subject]] = defaultdict(list)
    for v, s in zip(verdicts, subjects, strict=True):
        ends = _ends(v)
        if ends is not None:
            connections[min(ends), max(ends)].append(s)
            for end in ends:
                s.end(end)
        elif v.layer != "nic":
            for number in sorted({x.number for x in v.labels} | {s.diverges} - {0})[: 2 * s.room]:
                named[number].append(s)
    first = 0
    for k, f in enumerate(frames):
        if k == 0:
            first = f.time
        seg = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
        if seg is not None:
            source, dest = (seg.saddr, seg.source), (seg.daddr, seg.dest)
            found = connections.get((source, dest) if source < dest else (dest, source))
            if found:
                s = _whose(found, seg)
                if s.room_left(seg.number):
                    s.add(_of_segment(seg, first, s))
        for s in named.get(f.number, ()):
            s.add(_of_frame(f, first, s))
    return first


def _whose(found: deque[_Subject], seg: Segment) -> _Subject:
    """The connection that a segment belongs to, where one follows another between the same ports."""
    opens = seg.flags & 0x12 == 2
    while len(found) > 1 and seg.number > found[0].last and (opens or 0 < found[1].first <= seg.number):
        found.popleft()
        if opens:
            break
    return found[0]


def _ends(v: Verdict) -> tuple[End, End] | None:
    """The two ends that a TCP verdict names, or None."""
    left, arrow, right = v.subject.partition(" > ")
    if v.layer != "tcp" or not arrow:
        return None
    try:
        return _end(left), _end(right)
    except ValueError:
        return None


def _end(text: str) -> End:
    host, _, port = text.rpartition(":")
    return ip_address(host.strip("[]")).packed, int(port)


def _name(end: End) -> str:
    ip = ip_address(end[0])
    return f"[{ip}]:{end[1]}" if ip.version == 6 else f"{ip}:{end[1]}"


def _of_segment(s: Segment, first: int, of: _Subject) -> Drawn:
    return Drawn(
        s.number,
        (s.time - first) // 1000,
        of.end((s.saddr, s.source)),
        of.end((s.daddr, s.dest)),
        s.orig_len or len(s.data),
        flags=s.flags,
        seq=s.seq,
        ack_seq=s.ack_seq,
        window=s.window,
        len=s.len,
        sack=s.sack,
        mss=s.mss,
        wscale=s.wscale,
        sack_perm=s.sack_perm,
        tsval=s.tsval,
        tsecr=s.tsecr,
        ip_id=s.ip_id,
        ttl=s.ttl,
        tos=s.tos,
        urg_ptr=s.urg_ptr,
    )


def _of_frame(f: Frame, first: int, of: _Subject) -> Drawn:
    packet = decode(f.data, f.linktype, f.orig_len)
    fields = {n: printable(str(v)) for n, v in dissect(packet).items()}
    source, dest = _between(packet, fields)
    return Drawn(
        f.number, (f.time - first) // 1000, of.end(source), of.end(dest), f.orig_len, _summary(packet, fields), fields
    )


def _between(packet: Packet, fields: Mapping[str, str]) -> tuple[str, str]:
    """Who speaks to whom, by the highest layer that has addresses."""
    for source, dest in (("ip.src", "ip.dst"), ("ipv6.src", "ipv6.dst"), ("arp.src.proto_ipv4", "arp.dst.proto_ipv4")):
        if source in fields:
            return fields[source], fields[dest]
    return fields.get("eth.src", "?"), fields.get("eth.dst", "?")


_ARP: Final = {1: "who has {1}? tell {0}", 2: "{0} is at {2}"}
_ICMP6: Final = {133: "RS", 134: "RA", 135: "NS", 136: "NA", 137: "redirect"}


def _summary(packet: Packet, fields: Mapping[str, str]) -> str:
    """A frame that is no TCP, in a few words."""
    for x in packet.layers:
        if isinstance(x, Arp) and "arp.src.proto_ipv4" in fields:
            said = _ARP.get(x.ar_op, "ARP operation {3}")
            texts = (fields["arp.src.proto_ipv4"], fields["arp.dst.proto_ipv4"], fields["arp.src.hw_mac"], x.ar_op)
            return said.format(*texts)
    if "icmpv6.type" in fields:
        target = fields.get("icmpv6.nd.ns.target_address") or fields.get("icmpv6.nd.na.target_address") or ""
        kind = int(fields["icmpv6.type"])
        return f"{_ICMP6.get(kind, f'ICMPv6 type {kind}')} {target}".rstrip()
    if "icmp.type" in fields:
        return f"ICMP type {fields['icmp.type']} code {fields['icmp.code']}"
    if "udp.srcport" in fields:
        return f"UDP {fields['udp.srcport']} > {fields['udp.dstport']}"
    return " ".join(_layers(packet)) or "no layers"


def _layers(packet: Packet) -> Iterator[str]:
    for x in packet.layers:
        yield type(x).__name__
