"""Capture files: every format a tap writes is read, damage loses nothing before it, and errors say what would help."""

import gzip
import io
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from conformance.frames import Frame, Interface
from conformance.pcap import (
    CaptureError,
    DamagedCapture,
    EmptyCapture,
    NotACapture,
    Reader,
    UnreadableCapture,
    Writer,
    read,
)
from refmodel.packet import Tcp, decode, encode, segment

T = 1_700_000_000_123_456_789


def pcap(order: str = "<", magic: int = 0xA1B23C4D, frames: int = 3, linktype: int = 1, snaplen: int = 262144) -> bytes:
    """A pcap file of frames of 20 bytes, 4 s apart, 60 bytes long on the wire."""
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, linktype)]
    for n in range(frames):
        fraction = 123_456_789 if magic == 0xA1B23C4D else 123_456
        out.append(struct.pack(order + "IIII", 1_700_000_000 + 4 * n, fraction, 20, 60))
        out.append(struct.pack("II", 0, 0) * (magic == 0xA1B2CD34) + bytes([n % 256]) * 20)
    return b"".join(out)


def block(order: str, kind: int, body: bytes) -> bytes:
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def idb(order: str, linktype: int = 1, options: bytes = b"", snaplen: int = 0) -> bytes:
    return block(order, 1, struct.pack(order + "HHI", linktype, 0, snaplen) + options)


def epb(order: str, interface: int, ticks: int, data: bytes, options: bytes = b"") -> bytes:
    head = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(order, 6, head + data + bytes(-len(data) % 4) + options)


def of(data: bytes) -> tuple[list[Frame], Reader]:
    reader = Reader(io.BytesIO(data))
    return list(reader), reader


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "fraction"), [(0xA1B2C3D4, 456_000), (0xA1B23C4D, 456_789), (0xA1B2CD34, 456_000)])
def test_pcap_is_read_in_both_byte_orders_and_both_resolutions(order: str, magic: int, fraction: int) -> None:
    frames, reader = of(pcap(order, magic))
    assert [f.number for f in frames] == [1, 2, 3]
    assert frames[0].time == 1_700_000_000_123_000_000 + fraction
    assert frames[2] == Frame(3, frames[0].time + 8_000_000_000, 1, 0, b"\2" * 20, 60)
    assert (reader.format, reader.notices) == ("pcap", [])


def test_pcap_longer_than_the_buffer_is_read_whole() -> None:
    frames, reader = of(pcap(frames=30_000))
    assert len(frames) == 30_000
    assert reader.notices == []


def test_gzip_is_seen_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "any.name"
    path.write_bytes(gzip.compress(pcap()))
    frames, notices = read(path)
    assert (len(frames), notices) == (3, [])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("resolution", "ticks"),
    [
        (b"\x06", T // 1000),
        (b"\x09", T),
        (b"\x03", T // 10**6),
        (bytes([0x80 | 30]), (T << 30) // 10**9),
        (b"", T // 1000),
    ],
)
def test_pcapng_times_are_nanoseconds_whatever_their_resolution(order: str, resolution: bytes, ticks: int) -> None:
    options = option(order, 9, resolution) if resolution else b""
    frames, _ = of(section(order) + idb(order, options=options) + epb(order, 0, ticks, b"data"))
    unit = 10 ** (9 - resolution[0]) if resolution and resolution[0] < 0x80 else 1000
    assert frames[0].data == b"data"
    assert T - unit < frames[0].time <= T


def test_pcapng_time_offset_is_added() -> None:
    options = option("<", 14, struct.pack("<q", 1000)) + option("<", 9, b"\x09")
    frames, _ = of(section("<") + idb("<", options=options) + epb("<", 0, 5, b"x"))
    assert frames[0].time == 1000 * 10**9 + 5


def test_blocks_that_hold_no_frames_are_skipped_or_kept_as_facts() -> None:
    order = "<"
    data = (
        section(order)
        + block(order, 4, bytes(8))
        + block(order, 10, bytes(16))
        + idb(order, 1, option(order, 2, b"eth0") + option(order, 12, b"Linux") + option(order, 11, b"\0tcp"))
        + block(order, 0x0BAD, bytes(12))
        + epb(order, 0, 1_000_000, b"abc", option(order, 1, b"one") + option(order, 1, b"two") + option(order, 0, b""))
        + block(order, 2, struct.pack(order + "HHIIII", 0, 7, 0, 2_000_000, 3, 9) + b"old\0")
        + block(order, 3, struct.pack(order + "I", 4) + b"spb!")
        + block(order, 5, struct.pack(order + "III", 0, 0, 0) + option(order, 4, struct.pack("<Q", 5))
                + option(order, 5, struct.pack("<Q", 2)) + option(order, 7, struct.pack("<Q", 1)))
    )  # fmt: skip
    frames, reader = of(data)
    assert frames == [
        Frame(1, 1_000_000_000, 1, 0, b"abc", 3, "", "one\ntwo"),
        Frame(2, 2_000_000_000, 1, 0, b"old", 9),
        Frame(3, 0, 1, 0, b"spb!", 4),
    ]
    i = reader.interfaces[0]
    assert (i.name, i.os, i.filter, i.received, i.dropped, i.os_dropped) == ("eth0", "Linux", "tcp", 5, 2, 1)


def test_sections_and_interfaces_count_on() -> None:
    data = section("<") + idb("<", 1) + idb("<", 101) + epb("<", 1, 1, b"a")
    data += section(">") + idb(">", 113) + epb(">", 0, 1, b"\0\4" + bytes(14))
    frames, reader = of(data)
    assert [(f.number, f.interface, f.linktype, f.direction) for f in frames] == [(1, 1, 101, ""), (2, 2, 113, "out")]
    assert len(reader.interfaces) == 3


def test_direction_comes_from_flags_or_from_a_cooked_header() -> None:
    data = section("<") + idb("<", 1) + idb("<", 276)
    data += epb("<", 0, 1, b"a", option("<", 2, struct.pack("<I", 1)))
    data += epb("<", 0, 1, b"a", option("<", 2, struct.pack("<I", 2)))
    data += epb("<", 1, 1, bytes(20)) + epb("<", 1, 1, bytes(10) + b"\4" + bytes(9))
    assert [f.direction for f in of(data)[0]] == ["in", "out", "in", "out"]


# Damage


@given(st.integers(24, 24 + 3 * 36))
def test_a_pcap_cut_anywhere_yields_every_whole_frame_and_a_notice(at: int) -> None:
    frames, reader = of(pcap()[:at])
    assert len(frames) == (at - 24) // 36
    assert bool(reader.notices) == ((at - 24) % 36 != 0)


@given(st.integers(28, 28 + 20 + 3 * 36))
def test_a_pcapng_cut_anywhere_yields_every_whole_frame_and_a_notice(at: int) -> None:
    frames, reader = of((section("<") + idb("<") + b"".join(epb("<", 0, n, b"data") for n in range(3)))[:at])
    assert len(frames) == max(at - 48, 0) // 36
    assert bool(reader.notices) == (at != 28 and (at - 48) % 36 != 0)


@given(st.integers(0, 155), st.integers(0, 255))
def test_a_changed_byte_gives_frames_or_a_capture_error(at: int, value: int) -> None:
    data = bytearray(section("<") + idb("<") + b"".join(epb("<", 0, n, b"data") for n in range(3)))
    data[at] = value
    with suppress(CaptureError), Reader(io.BytesIO(bytes(data))) as reader:
        assert len(list(reader)) <= 3


def test_a_notice_says_where_and_what_was_expected() -> None:
    _, reader = of(pcap()[:-5])
    assert str(reader.notices[0]) == (
        "input: at byte 96, after frame 2: the file ends after 15 of 20 bytes; expected the rest of frame 3. "
        "All frames before it were read."
    )


def test_a_gzip_file_cut_short_keeps_what_was_read() -> None:
    zipped = gzip.compress(pcap(frames=20_000), 0)
    frames, reader = of(zipped[: len(zipped) // 2])
    assert len(frames) > 1000
    assert "gzip" in reader.notices[0].found


def test_an_impossible_length_is_damage_not_a_request_for_memory() -> None:
    data = bytearray(pcap())
    data[24 + 36 + 8 : 24 + 36 + 12] = b"\xff\xff\xff\x7f"
    frames, reader = of(bytes(data))
    assert len(frames) == 1
    assert "2147483647" in reader.notices[0].found


# What cannot be read


def test_an_empty_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    path.write_bytes(b"")
    with pytest.raises(EmptyCapture, match=r"empty\.pcap: an empty file at byte 0; expected a pcap or pcapng header"):
        Reader(path)


@pytest.mark.parametrize("content", [b"GET / HTTP/1.1\r\n", b"x", gzip.compress(b"hello world", mtime=0)])
def test_another_format_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(NotACapture, match="editcap") as e:
        Reader(path)
    assert (e.value.path, e.value.offset) == (str(path), 0)


@pytest.mark.parametrize(
    "content", [pcap()[:20], section("<")[:10], gzip.compress(pcap(), mtime=0)[:6], section("<")[:8] + b"ABCDabcd"]
)
def test_a_header_that_breaks_off_is_said(content: bytes) -> None:
    with pytest.raises(DamagedCapture, match="expected"):
        Reader(io.BytesIO(content))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCapture, match="No such file"):
        Reader(tmp_path / "none.pcap")


def test_a_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCapture, match="directory"):
        Reader(tmp_path)


def test_a_capture_without_frames_is_no_error() -> None:
    frames, reader = of(pcap(frames=0))
    assert (frames, reader.notices) == ([], [])


# Writing

written = st.builds(
    Frame,
    st.just(0),
    st.integers(0, 2**62),
    st.just(1),
    st.integers(0, 1),
    st.binary(max_size=40),
    st.integers(40, 2000),
    st.sampled_from(["in", "out", ""]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)


@given(st.lists(written, max_size=8))
def test_what_is_written_is_read(frames: list[Frame]) -> None:
    file = io.BytesIO()
    with Writer(file, comment="a test") as w:
        w.interface(1, "veth0")
        w.interface(1, "veth1", like=Interface(1, 96, dropped=3))
        for f in frames:
            w.frame(f)
    again, reader = of(file.getvalue())
    assert again == [replace(f, number=n) for n, f in enumerate(frames, 1)]
    assert (reader.comments, reader.notices) == (["a test"], [])
    assert [(i.name, i.dropped, i.snaplen) for i in reader.interfaces] == [("veth0", None, 262144), ("veth1", 3, 96)]


def test_an_annotation_joins_the_frames_own_comment(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with Writer(path) as w:
        w.frame(Frame(1, 5, 101, 0, b"x", 1, "", "mine"), "rule tcp.input")
    frames, _ = read(path)
    assert frames[0].comment == "mine\nrule tcp.input"
    assert frames[0].linktype == 101


# The shipped captures

CAPTURES = sorted((Path(__file__).parent.parent / "captures").glob("*.pcapng"))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda p: p.stem)
def test_a_shipped_capture_is_whole_and_loses_nothing(path: Path) -> None:
    frames, notices = read(path)
    assert notices == []
    for f in frames:
        p = decode(f.data, f.linktype, f.orig_len)
        assert p.malformed is None, f
        assert encode(p) == f.data
        s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
        assert (s is not None) == (p.get(Tcp) is not None)
        if s is not None:
            assert (s.len, s.options, s.payload) == (p.payload_len, p.layers[-1].options, p.payload)  # type: ignore[attr-defined]
