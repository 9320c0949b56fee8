"""Capture files: a streaming reader for pcap and pcapng, plain or gzipped, and a pcapng writer.

A `Reader` yields every frame that can be read. What a damaged file lacks does not raise once frames were yielded: it
becomes a `Notice`, so that nothing read is lost. What cannot be read at all raises a `CaptureError` that says where,
what was expected and what would help. Memory does not grow with the file.
"""

import gzip
import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Literal, cast

from conformance.frames import Direction, Frame, Interface, Notice

CHUNK: Final = 1 << 18
MAX_FRAME: Final = 1 << 18  # libpcap's MAXIMUM_SNAPLEN: a longer record is damage
MAX_BLOCK: Final = 1 << 24

SHB: Final = 0x0A0D0D0A
IDB: Final = 1
PB: Final = 2
SPB: Final = 3
ISB: Final = 5
EPB: Final = 6
NO_MORE: Final = bytes(4)  # opt_endofopt
DIRECTIONS: Final[tuple[Direction, ...]] = ("", "in", "out", "")  # by the low bits of epb_flags

# pcap's first word: byte order, nanoseconds per tick, bytes of a record's header
_MAGIC: Final[dict[bytes, tuple[str, int, int]]] = {
    b"\xa1\xb2\xc3\xd4": (">", 1000, 16),
    b"\xd4\xc3\xb2\xa1": ("<", 1000, 16),
    b"\xa1\xb2\x3c\x4d": (">", 1, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 1, 16),
    b"\xa1\xb2\xcd\x34": (">", 1000, 24),  # Kuznetzov's patch: 8 bytes more a record
    b"\x34\xcd\xb2\xa1": ("<", 1000, 24),
}


class CaptureError(Exception):
    """A file from which nothing can be read: `path`, byte `offset`, what was `expected`, what would help (`advice`)."""

    def __init__(self, path: str, offset: int, found: str, expected: str, advice: str) -> None:
        super().__init__(f"{path}: {found} at byte {offset}; expected {expected}. {advice}")
        self.path = path
        self.offset = offset
        self.found = found
        self.expected = expected
        self.advice = advice


class EmptyCapture(CaptureError):
    """The file has no bytes."""


class NotACapture(CaptureError):
    """The file is neither pcap nor pcapng."""


class DamagedCapture(CaptureError):
    """The file starts as a capture and breaks off, or makes no sense, before its first frame could be."""


class UnreadableCapture(CaptureError):
    """The operating system does not let the file be read."""


class _Ends(Exception):
    """The stream ends or makes no sense: (what was found, what was expected)."""


class _Stream:
    """A buffered view of a file: `buf[pos:]` is unread, `base` the offset of `buf[0]` in the file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.buf = b""
        self.pos = 0
        self.base = 0

    @property
    def offset(self) -> int:
        return self.base + self.pos

    def more(self, n: int) -> bool:
        """Makes at least `n` unread bytes available; False at the end of the file."""
        while len(self.buf) - self.pos < n:
            try:
                chunk = self.file.read(max(CHUNK, n))
            except (EOFError, zlib.error, gzip.BadGzipFile) as e:
                raise _Ends(f"damaged gzip data ({e})", "a complete gzip file") from e
            if not chunk:
                return False
            self.base += self.pos
            self.buf = self.buf[self.pos :] + chunk
            self.pos = 0
        return True

    def take(self, n: int, what: str) -> bytes:
        """The next `n` bytes; raises _Ends if there are fewer."""
        if not self.more(n):
            raise _Ends(f"the file ends after {len(self.buf) - self.pos} of {n} bytes", what)
        out = self.buf[self.pos : self.pos + n]
        self.pos += n
        return out


class Reader:
    """Reads one capture, frame by frame; a context manager and an iterator.

    After the iteration `notices` holds what damage was found and `interfaces` the counters of drops. `format` is 'pcap'
    or 'pcapng'. Raises EmptyCapture, NotACapture, DamagedCapture or UnreadableCapture when it is made.
    """

    def __init__(self, path: str | os.PathLike[str] | BinaryIO) -> None:
        self.path = _name(path)
        self.notices: list[Notice] = []
        self.interfaces: list[Interface] = []
        self.comments: list[str] = []
        self.frames = 0
        self._section = 0  # index of the first interface of the current section
        self._order = "<"
        self._ns = 1000
        self._record = 16
        try:
            self._raw = _file(path, "rb")
            self._open()
        except OSError as e:
            self.close()
            advice = "Give a file that this user may read."
            raise UnreadableCapture(self.path, 0, e.strerror or str(e), "a readable file", advice) from e
        except CaptureError:
            self.close()
            raise

    def _open(self) -> None:
        raw = self._raw
        file = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
        start = file.peek(4)
        if not start:
            raise EmptyCapture(
                self.path,
                0,
                "an empty file",
                "a pcap or pcapng header",
                "Was the capture stopped before anything was written? tcpdump -U writes each frame at once.",
            )
        zipped = start[:2] == b"\x1f\x8b"
        self._stream = _Stream(cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb")) if zipped else file)
        try:
            self._stream.more(4)
            magic = self._stream.buf[:4]
            if int.from_bytes(magic, "big") == SHB:
                self.format = "pcapng"
                self._section_order()
            elif magic in _MAGIC:
                self.format = "pcap"
                self._order, self._ns, self._record = _MAGIC[magic]
                self._pcap_header()
            else:
                raise NotACapture(
                    self.path,
                    0,
                    f"bytes {magic.hex(' ')}",
                    "the magic number of pcap or pcapng, perhaps gzipped",
                    "Convert other formats with: editcap -F pcapng INPUT OUTPUT.pcapng",
                )
        except _Ends as e:
            found, expected = e.args
            raise DamagedCapture(
                self.path, self._stream.offset, found, expected, "Copy or record the file again."
            ) from e

    def _pcap_header(self) -> None:
        head = self._stream.take(24, "pcap's file header of 24 bytes")
        snaplen, network = struct.unpack_from(self._order + "II", head, 16)
        self.interfaces.append(Interface(linktype=network & 0xFFFF, snaplen=snaplen))

    def _section_order(self) -> None:
        if not self._stream.more(12):
            raise _Ends("the file ends in its first block", "a section header block")
        mark = self._stream.buf[self._stream.pos + 8 : self._stream.pos + 12]
        if mark == b"\x1a\x2b\x3c\x4d":
            self._order = ">"
        elif mark == b"\x4d\x3c\x2b\x1a":
            self._order = "<"
        else:
            raise _Ends(f"byte-order magic {mark.hex(' ')}", "1a 2b 3c 4d in one of the two byte orders")

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        raw = getattr(self, "_raw", None)
        if raw is not None:
            raw.close()

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._pcap() if self.format == "pcap" else self._pcapng()
        except _Ends as e:
            found, expected = e.args
            self.notices.append(Notice(self.path, self._stream.offset, found, expected, self.frames))
        except OSError as failed:
            found = failed.strerror or str(failed)
            self.notices.append(Notice(self.path, self._stream.offset, found, "readable data", self.frames))

    def _pcap(self) -> Iterator[Frame]:
        stream, ns, size = self._stream, self._ns, self._record
        linktype = self.interfaces[0].linktype
        limit = max(self.interfaces[0].snaplen, MAX_FRAME)
        limit = limit if limit <= MAX_BLOCK else MAX_FRAME
        head = struct.Struct(self._order + "IIII").unpack_from
        cooked = linktype in (113, 276)
        while stream.more(size):
            # Every record that lies whole in the buffer is cut out of it without another look at the file.
            buf, pos, end = stream.buf, stream.pos, len(stream.buf)
            while pos + size <= end:
                sec, fraction, caplen, orig_len = head(buf, pos)
                if caplen > limit:
                    stream.pos = pos
                    raise _Ends(f"a frame of {caplen} bytes", f"at most {limit}")
                stop = pos + size + caplen
                if stop > end:
                    break
                data = buf[pos + size : stop]
                pos = stop
                self.frames += 1
                stream.pos = pos
                direction = _cooked_direction(data, linktype) if cooked else ""
                yield Frame(
                    self.frames, sec * 1_000_000_000 + fraction * ns, linktype, 0, data, orig_len, direction, ""
                )
            stream.pos = pos
            if pos + size <= end and not stream.more(stop - pos):
                left = len(stream.buf) - stream.pos - size
                raise _Ends(f"the file ends after {left} of {caplen} bytes", f"the rest of frame {self.frames + 1}")
        if len(stream.buf) > stream.pos:
            left = len(stream.buf) - stream.pos
            raise _Ends(f"the file ends after {left} of {size} bytes", f"the header of frame {self.frames + 1}")

    def _pcapng(self) -> Iterator[Frame]:
        stream = self._stream
        while stream.more(1):
            yield from self._plain()
            if not stream.more(1):
                break
            if not stream.more(12):
                raise _Ends(f"the file ends after {len(stream.buf) - stream.pos} bytes", "a block of 12 or more")
            if int.from_bytes(stream.buf[stream.pos : stream.pos + 4], "big") == SHB:
                self._section_order()
            kind, size = struct.unpack_from(self._order + "II", stream.buf, stream.pos)
            if size < 12 or size % 4 or size > MAX_BLOCK:
                raise _Ends(f"a block of {size} bytes", f"a multiple of 4 from 12 to {MAX_BLOCK}")
            if not stream.more(size):
                left = len(stream.buf) - stream.pos
                raise _Ends(f"the file ends after {left} of {size} bytes", "a complete block")
            (again,) = struct.unpack_from(self._order + "I", stream.buf, stream.pos + size - 4)
            if again != size:
                raise _Ends(f"a block of {size} bytes that ends with the length {again}", "twice the same length")
            body = stream.buf[stream.pos + 8 : stream.pos + size - 4]
            try:
                frame = self._block(kind, body)
            except struct.error as e:
                raise _Ends(f"a block of type {kind} with only {len(body)} bytes of body", "its fixed fields") from e
            stream.pos += size
            if frame is not None:
                yield frame

    def _plain(self) -> Iterator[Frame]:
        """The frames that stand next in the buffer in blocks without options, or with their direction only."""
        stream = self._stream
        head = struct.Struct(self._order + "IIIIIII").unpack_from
        tail = struct.Struct(self._order + "I").unpack_from
        flags = struct.pack(self._order + "HH", 2, 4)
        buf, end = stream.buf, len(stream.buf)
        pos, n = stream.pos, self.frames
        last = -1  # the interface of the frame before: its number in the section
        at = linktype = scale = offset = 0
        direction: Direction = ""
        while pos + 32 <= end:
            kind, size, number, high, low, caplen, orig_len = head(buf, pos)
            stop = pos + size
            padded = 32 + (caplen + 3 & ~3)
            if kind != EPB or stop > end or size < padded or tail(buf, stop - 4)[0] != size:
                break
            if size != padded:
                # Beside nothing, only the direction: epb_flags of four bytes, and the end of the options.
                options = pos + padded - 4
                if options + 16 != stop or buf[options : options + 4] != flags or buf[stop - 8 : stop - 4] != NO_MORE:
                    break
                direction = DIRECTIONS[tail(buf, options + 4)[0] & 3]
            elif direction:
                direction = ""
            if number != last:
                at = self._section + number
                if at >= len(self.interfaces) or (i := self.interfaces[at]).linktype in (113, 276):
                    break
                last, linktype, offset = number, i.linktype, i.offset * 1_000_000_000
                scale = 0 if 1_000_000_000 % i.ticks else 1_000_000_000 // i.ticks
            n += 1
            data = pos + 28
            pos = stop
            ticks = high << 32 | low
            self.frames, stream.pos = n, pos
            yield Frame(
                n,
                (ticks * scale if scale else ticks * 1_000_000_000 // self.interfaces[at].ticks) + offset,
                linktype,
                at,
                buf[data : data + caplen],
                orig_len,
                direction,
                "",
            )
        self.frames, stream.pos = n, pos

    def _block(self, kind: int, body: bytes) -> Frame | None:
        if kind == EPB:
            return self._packet(body)
        if kind == SHB:
            self._section = len(self.interfaces)
            self.comments += [_text(v) for code, v in self._options(body, 16) if code == 1]
        elif kind == IDB:
            self._interface(body)
        elif kind == SPB:
            (orig_len,) = struct.unpack_from(self._order + "I", body)
            i = self._find(0)
            caplen = min(orig_len, len(body) - 4, i.snaplen or orig_len)
            return self._frame(0, self._section, i, body[4 : 4 + caplen], orig_len, {})
        elif kind == PB:
            number, _, high, low, caplen, orig_len = struct.unpack_from(self._order + "HHIIII", body)
            return self._timed(number, high << 32 | low, body, 20, caplen, orig_len)
        elif kind == ISB:
            self._statistics(body)
        return None

    def _packet(self, body: bytes) -> Frame:
        number, high, low, caplen, orig_len = struct.unpack_from(self._order + "IIIII", body)
        return self._timed(number, high << 32 | low, body, 20, caplen, orig_len)

    def _timed(self, number: int, ticks: int, body: bytes, at: int, caplen: int, orig_len: int) -> Frame:
        i = self._find(number)
        if at + caplen > len(body):
            raise _Ends(f"a frame of {caplen} bytes in a block of {len(body)}", "a frame inside its block")
        time = ticks * 1_000_000_000 // i.ticks + i.offset * 1_000_000_000
        after = at + (caplen + 3 & ~3)
        options = dict(self._options(body, after)) if after < len(body) else {}
        return self._frame(time, self._section + number, i, body[at : at + caplen], orig_len, options)

    def _frame(
        self, time: int, number: int, i: Interface, data: bytes, orig_len: int, options: dict[int, bytes]
    ) -> Frame:
        direction: Direction = ""
        if 2 in options:
            flags = int.from_bytes(options[2][:4], "little" if self._order == "<" else "big") & 3
            direction = "in" if flags == 1 else "out" if flags == 2 else ""
        if not direction and i.linktype in (113, 276):
            direction = _cooked_direction(data, i.linktype)
        self.frames += 1
        return Frame(self.frames, time, i.linktype, number, data, orig_len, direction, _text(options.get(1, b"")))

    def _find(self, number: int) -> Interface:
        at = self._section + number
        if at >= len(self.interfaces):
            raise _Ends(f"a frame of interface {number}", "an interface description block before it")
        return self.interfaces[at]

    def _interface(self, body: bytes) -> None:
        linktype, _, snaplen = struct.unpack_from(self._order + "HHI", body)
        i = Interface(linktype=linktype, snaplen=snaplen)
        for code, value in self._options(body, 8):
            if code == 2:
                i.name = _text(value)
            elif code == 3:
                i.description = _text(value)
            elif code == 9 and value:
                i.ticks = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == 11 and value[:1] == b"\0":
                i.filter = _text(value[1:])
            elif code == 12:
                i.os = _text(value)
            elif code == 14 and len(value) == 8:
                (i.offset,) = struct.unpack(self._order + "q", value)
        self.interfaces.append(i)

    def _statistics(self, body: bytes) -> None:
        (number,) = struct.unpack_from(self._order + "I", body)
        i = self._find(number)
        for code, value in self._options(body, 12):
            if code in (4, 5, 7) and len(value) == 8:
                (n,) = struct.unpack(self._order + "Q", value)
                if code == 4:
                    i.received = n
                elif code == 5:
                    i.dropped = n
                else:
                    i.os_dropped = n

    def _options(self, body: bytes, at: int) -> list[tuple[int, bytes]]:
        """(code, value) of each option from `at`; several comments of one block are joined by the caller's dict."""
        out: list[tuple[int, bytes]] = []
        comments: list[bytes] = []
        while at + 4 <= len(body):
            code, n = struct.unpack_from(self._order + "HH", body, at)
            if code == 0:
                break
            if at + 4 + n > len(body):
                raise _Ends(f"an option of {n} bytes", "an option inside its block")
            value = body[at + 4 : at + 4 + n]
            if code == 1:
                comments.append(value)
            else:
                out.append((code, value))
            at += 4 + (n + 3 & ~3)
        return [*out, (1, b"\n".join(comments))] if comments else out


def _file(path: str | os.PathLike[str] | BinaryIO, mode: Literal["rb", "wb"]) -> BinaryIO:
    """The file at `path`, or the one that was given; the caller closes it."""
    if isinstance(path, str | os.PathLike):
        return Path(path).open(mode)
    return path


def _name(path: str | os.PathLike[str] | BinaryIO) -> str:
    return os.fspath(path) if isinstance(path, str | os.PathLike) else str(getattr(path, "name", "input"))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").rstrip("\0")


def _cooked_direction(data: bytes, linktype: int) -> Direction:
    """'out' for PACKET_OUTGOING in a cooked header, 'in' for the others."""
    at = 1 if linktype == 113 else 10
    if len(data) <= at:
        return ""
    return "out" if data[at] == 4 else "in"


def read(path: str | os.PathLike[str]) -> tuple[list[Frame], list[Notice]]:
    """All frames of a small capture, and what damage was found; raises CaptureError."""
    with Reader(path) as reader:
        return list(reader), reader.notices


class Writer:
    """Writes a pcapng file with nanosecond times and comments; a context manager.

    `interface` declares interfaces (numbered from 0) before their frames; `frame` writes one, with the comment of the
    frame and `comment` joined; `close` writes the counters of interfaces that have them. Raises OSError.
    """

    def __init__(
        self, path: str | os.PathLike[str] | BinaryIO, comment: str = "", application: str = "refmodel"
    ) -> None:
        self._file = _file(path, "wb")
        self._owned = isinstance(path, str | os.PathLike)
        self.interfaces: list[Interface] = []
        options = _option(1, comment.encode()) if comment else b""
        options += _option(4, application.encode()) if application else b""
        self._block(SHB, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _end(options))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def interface(self, linktype: int, name: str = "", snaplen: int = MAX_FRAME, like: Interface | None = None) -> int:
        """Declares an interface, with the name, texts and counters of `like` if given; returns its number."""
        i = Interface(linktype=linktype, snaplen=snaplen, name=name, ticks=1_000_000_000)
        if like is not None:
            i.snaplen, i.name, i.description, i.filter, i.os = (
                like.snaplen,
                name or like.name,
                like.description,
                like.filter,
                like.os,
            )
            i.received, i.dropped, i.os_dropped = like.received, like.dropped, like.os_dropped
        options = _option(2, i.name.encode()) if i.name else b""
        options += _option(3, i.description.encode()) if i.description else b""
        options += _option(9, b"\x09")
        options += _option(11, b"\0" + i.filter.encode()) if i.filter else b""
        options += _option(12, i.os.encode()) if i.os else b""
        self._block(IDB, struct.pack("<HHI", linktype, 0, i.snaplen) + _end(options))
        self.interfaces.append(i)
        return len(self.interfaces) - 1

    def frame(self, frame: Frame, comment: str = "") -> None:
        """Writes a frame to its interface, which is declared with the frame's link type if there is none yet."""
        while frame.interface >= len(self.interfaces):
            self.interface(frame.linktype)
        text = "\n".join(t for t in (frame.comment, comment) if t)
        options = _option(1, text.encode()) if text else b""
        if frame.direction:
            options += _option(2, struct.pack("<I", 1 if frame.direction == "in" else 2))
        n = len(frame.data)
        head = struct.pack("<IIIII", frame.interface, frame.time >> 32, frame.time & 0xFFFFFFFF, n, frame.orig_len)
        self._block(EPB, head + frame.data + bytes(-n % 4) + _end(options))

    def close(self) -> None:
        """Writes interface counters and closes the file if this writer opened it."""
        if self._file.closed:
            return
        for number, i in enumerate(self.interfaces):
            options = b"".join(
                _option(code, struct.pack("<Q", n))
                for code, n in ((4, i.received), (5, i.dropped), (7, i.os_dropped))
                if n is not None
            )
            if options:
                self._block(ISB, struct.pack("<III", number, 0, 0) + _end(options))
        if self._owned:
            self._file.close()

    def _block(self, kind: int, body: bytes) -> None:
        size = struct.pack("<I", len(body) + 12)
        self._file.write(struct.pack("<I", kind) + size + body + size)


def _option(code: int, value: bytes) -> bytes:
    value = value[:0xFFFF]
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _end(options: bytes) -> bytes:
    return options + b"\0\0\0\0" if options else b""
