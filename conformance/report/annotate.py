"""An annotated capture: the same pcapng, where each labelled frame carries its label as a comment.

A pcapng is copied block by block; a labelled frame's block gains a comment option, every other block stays as it is,
whatever it is. A pcap becomes a pcapng of one interface. The format is draft-ietf-opsawg-pcapng.
"""

import gzip
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, cast

from msgspec.structs import replace

from conformance.check.verdict import Divergence, FileReport, Verdict
from conformance.pcap import EPB, IDB, PB, SHB, SPB, CaptureError, Reader, Writer
from conformance.report.clean import printable
from conformance.report.source import citation, told, violated

MARK: Final = "DIVERGES"
LONGEST: Final = 8_000  # characters of a comment: at most 4 bytes each, and an option has 65,535
_OPT_END: Final = 0
_OPT_COMMENT: Final = 1
_DATA_AT: Final = 20  # where a frame's bytes start in the body of an enhanced, and of an obsolete, packet block

Comments = Mapping[int, Sequence[str]]


def comments(verdicts: Iterable[Verdict]) -> dict[int, list[str]]:
    """The comments of each frame, by its number: its labels, and what diverges there. Ring logs have no frames."""
    found: dict[int, list[str]] = defaultdict(list)
    for v in verdicts:
        if v.layer == "nic":
            continue
        for x in v.labels:
            found[x.number].append(f"{x.host}: {told(x)}" if x.host else told(x))
        if v.divergence is not None:
            found[v.divergence.frame].append(diverges(v, v.divergence))
    return {n: [printable(t)[:LONGEST] for t in dict.fromkeys(texts)] for n, texts in found.items()}


def diverges(v: Verdict, d: Divergence) -> str:
    """What diverges, what was allowed, what stood against the nearest rules, in a line."""
    parts = [f"{MARK}: {d.what}", f"{v.layer} {v.subject}"]
    parts += [f"violates {violated(d.constraint)}"] * bool(d.constraint)
    parts += [f"allowed then: {x}" for x in d.allowed]
    for n in d.near:
        cite = citation(n.rule)
        parts.append(f"near miss {n.rule}{f' ({cite})' if cite else ''}: {n.why}" if n.rule else f"near miss: {n.why}")
    return "; ".join(parts)


def annotate_all(reports: Sequence[FileReport], folder: Path) -> tuple[list[Path], list[str]]:
    """Writes an annotated copy of each capture that could be read into `folder`.

    Gives the files written, and why others were not: a capture that only tshark reads, or that is gone.

    A copy is called as its capture, with .pcapng; a name that is taken, or that is a capture's own, gets a number.
    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = {Path(r.path).resolve() for r in reports}
    written: list[Path] = []
    notes: list[str] = []
    for r in reports:
        if not r.frames:
            continue
        source = Path(r.path)
        stem = source.name.removesuffix(".gz").rpartition(".")[0] or source.name
        names = (folder / f"{stem}{f'-{k}' if k > 1 else ''}.pcapng" for k in range(1, len(reports) + len(taken) + 2))
        target = next(n for n in names if n.resolve() not in taken)
        taken.add(target.resolve())
        try:
            annotate(source, target, comments(r.verdicts))
            written.append(target)
        except CaptureError as why:
            notes.append(f"not annotated: {printable(str(why))}")
    return written, notes


def annotate(source: Path, target: Path, texts: Comments) -> None:
    """Writes `source` as the pcapng `target` with these comments added; ends where `source` is damaged.

    Raises CaptureError if `source` is no capture, OSError if one of the two cannot be used.
    """
    with Reader(source) as reader:
        if reader.format == "pcap":
            with Writer(target) as writer:
                writer.interface(reader.interfaces[0].linktype, like=reader.interfaces[0])
                for frame in reader:
                    text = "\n".join(texts.get(frame.number, ()))[: 2 * LONGEST]
                    writer.frame(replace(frame, direction=""), text)
            return
        for _ in reader:
            pass
        end = min((n.offset for n in reader.notices), default=None)
    with _opened(source) as file, target.open("wb") as out:
        for block in _annotated(_blocks(file, end), texts):
            out.write(block)


def _opened(source: Path) -> BinaryIO:
    with source.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(source, "rb")) if zipped else source.open("rb")


def _blocks(file: BinaryIO, end: int | None) -> Iterator[tuple[str, int, bytes]]:
    """Byte order, type and body of each block that a Reader takes: up to the offset `end`, where it met damage."""
    order = "<"
    at = 0
    try:
        while (end is None or at < end) and len(head := file.read(8)) == 8:
            if int.from_bytes(head[:4], "big") == SHB:
                mark = file.read(4)
                order = ">" if mark == b"\x1a\x2b\x3c\x4d" else "<"
                head += mark
            kind, size = struct.unpack_from(order + "II", head)
            at += size
            rest = file.read(size - len(head))
            yield order, kind, head[8:] + rest[:-4]
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return


def _annotated(blocks: Iterable[tuple[str, int, bytes]], texts: Comments) -> Iterator[bytes]:
    number = 0
    snaplens: list[int] = []
    for order, kind, body in blocks:
        if kind == SHB:
            snaplens = []
            body = body[:8] + b"\xff" * 8 + body[16:]  # the section's length is not known any more
        elif kind == IDB:
            snaplens.append(struct.unpack_from(order + "I", body, 4)[0])
        elif kind in (EPB, PB, SPB):
            number += 1
            added = texts.get(number)
            if added and kind == SPB:
                # A simple packet block has no room for options.
                kind, body = EPB, _enhanced(order, body, snaplens[0] if snaplens else 0)
            if added:
                body = _with_comments(order, body, added)
        yield _block(order, kind, body)


def _enhanced(order: str, body: bytes, snaplen: int) -> bytes:
    """A simple packet block's body as that of an enhanced one, of the same interface, without a time."""
    (orig_len,) = struct.unpack_from(order + "I", body)
    data = body[4 : 4 + min(orig_len, len(body) - 4, snaplen or orig_len)]
    return struct.pack(order + "IIIII", 0, 0, 0, len(data), orig_len) + data + bytes(-len(data) % 4)


def _with_comments(order: str, body: bytes, texts: Sequence[str]) -> bytes:
    """The body of a packet block with comments behind the options that it has."""
    caplen = struct.unpack_from(order + "I", body, 12)[0]
    at = _DATA_AT + (caplen + 3 & ~3)
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, at)
        if code == _OPT_END:
            break
        at += 4 + (size + 3 & ~3)
    out = body[:at]
    for text in texts:
        value = text.encode("utf-8")
        out += struct.pack(order + "HH", _OPT_COMMENT, len(value)) + value + bytes(-len(value) % 4)
    return out + bytes(4)


def _block(order: str, kind: int, body: bytes) -> bytes:
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size
