"""An annotated capture is the capture, with what is known of each frame as its comment."""

import gzip
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conformance.check.capture import check_capture
from conformance.check.verdict import FileReport, Verdict
from conformance.frames import Frame
from conformance.pcap import EPB, IDB, ISB, PB, SHB, SPB, CaptureError, Reader, Writer, read
from conformance.report.annotate import annotate, annotate_all, comments
from tests import cli
from tests.report.samples import CONFORMING, CONNECT, DIVERGING, REFUSED, VERDICT

OPEN = cli.CAPTURES / "tcp-active-open.pcapng"
needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
NRB, DSB = 4, 10  # name resolution, decryption secrets


def tshark(path: Path, *args: str) -> list[str]:
    done = subprocess.run(["tshark", "-n", "-r", str(path), *args], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def block(order: str, kind: int, body: bytes) -> bytes:
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def blocks(data: bytes, order: str) -> list[tuple[int, bytes]]:
    out, at = [], 0
    while at < len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        assert struct.unpack_from(order + "I", data, at + size - 4) == (size,)
        out.append((kind, data[at + 8 : at + size - 4]))
        at += size
    return out


def rich_capture(order: str) -> bytes:
    """One of every block: two sections' worth of kinds in one, big or little endian."""
    frame = bytes(12) + b"\x08\x00" + bytes(20)
    end = bytes(4)
    counted = option(order, 4, struct.pack(order + "Q", 4)) + end
    padded = frame + bytes(-len(frame) % 4)
    epb = struct.pack(order + "IIIII", 0, 1, 2, len(frame), len(frame)) + padded
    return b"".join(
        [
            block(order, SHB, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, 4096) + option(order, 1, b"mine") + end),
            block(order, IDB, struct.pack(order + "HHI", 1, 0, 96) + option(order, 2, b"eth0") + end),
            block(order, 0x0BAD, b"what nobody knows   "),
            block(order, EPB, epb),
            block(order, EPB, epb + option(order, 1, b"first") + option(order, 2, bytes(4)) + end),
            block(order, NRB, struct.pack(order + "HH", 0, 0)),
            block(order, SPB, struct.pack(order + "I", len(frame)) + padded),
            block(order, PB, struct.pack(order + "HHIIII", 0, 0, 1, 2, len(frame), len(frame)) + padded),
            block(order, DSB, struct.pack(order + "II", 0x544C534B, 4) + b"keys"),
            block(order, ISB, struct.pack(order + "III", 0, 1, 2) + counted),
        ]
    )


# ---------------------------------------------------------------- what is said of a frame


def test_a_label_is_step_sentence_citation_and_note() -> None:
    said = comments([CONFORMING])
    assert said[1][0].startswith("a: tcp.calls.connect — ")
    assert said[1][0].endswith("(net/ipv4/tcp_ipv4.c:tcp_v4_connect, RFC 9293 3.10.1); connect()")
    assert said[2][0].startswith(f"b: {REFUSED} — ")


def test_a_divergence_says_what_was_allowed_and_what_stood_against_it() -> None:
    (said,) = comments([DIVERGING])[7]
    assert said.startswith("DIVERGES: Linux does not send #7; tcp 10.9.0.1:3 > 10.9.0.2:2; allowed then: Tx(seq=1)")
    assert f"near miss {CONNECT} (net/ipv4/tcp_ipv4.c:tcp_v4_connect, RFC 9293 3.10.1): ack 0 expected" in said


def test_a_register_logs_lines_are_no_frames() -> None:
    assert comments([replace(CONFORMING, layer="nic")]) == {}


# ---------------------------------------------------------------- the copy


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_block_stays_and_labelled_frames_gain_a_comment(tmp_path: Path, order: str) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(rich_capture(order))
    annotate(source, target, {2: ["second", "third"], 4: ["of an obsolete block"]})
    before, after = blocks(source.read_bytes(), order), blocks(target.read_bytes(), order)
    assert [k for k, _ in before] == [k for k, _ in after]
    changed = [k for k, (x, y) in enumerate(zip(before, after, strict=True)) if x != y]
    assert changed == [0, 4, 7]  # the section's length, the frames 2 and 4
    assert struct.unpack_from(order + "q", after[0][1], 8) == (-1,)
    assert after[4][1].startswith(before[4][1][:-4])
    assert [f.comment for f in read(target)[0]] == ["", "first\nsecond\nthird", "", "of an obsolete block"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_simple_packet_becomes_an_enhanced_one_to_carry_its_comment(tmp_path: Path, order: str) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(rich_capture(order))
    annotate(source, target, {3: ["simple"]})
    before, after = read(source)[0], read(target)[0]
    assert after[2] == replace(before[2], comment="simple")
    assert [after[k] for k in (0, 1, 3)] == [before[k] for k in (0, 1, 3)]


def test_without_comments_the_copy_differs_in_the_sections_length_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(rich_capture("<"))
    annotate(source, target, {})
    assert blocks(source.read_bytes(), "<")[1:] == blocks(target.read_bytes(), "<")[1:]


def pcap(nanoseconds: bool) -> bytes:
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    head = struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 96, 101)
    data = bytes.fromhex("4500001400000000400100000a0000010a000002")
    return head + b"".join(struct.pack("<IIII", 1_700_000_000 + k, 999_999 + k, 20, 60) + data for k in (0, 1))


@pytest.mark.parametrize("nanoseconds", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pcap_keeps_its_times_link_type_lengths_and_bytes(tmp_path: Path, nanoseconds: bool, zipped: bool) -> None:
    source, target = tmp_path / ("in.pcap" + ".gz" * zipped), tmp_path / "out.pcapng"
    raw = pcap(nanoseconds)
    source.write_bytes(gzip.compress(raw) if zipped else raw)
    annotate(source, target, {2: ["here"]})
    before, after = read(source)[0], read(target)[0]
    assert after == [before[0], replace(before[1], comment="here")]
    with Reader(target) as r:
        assert len(list(r)) == 2
        assert (r.format, r.interfaces[0].linktype, r.interfaces[0].snaplen) == ("pcapng", 101, 96)


def test_a_zipped_pcapng_is_unpacked(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcapng.gz", tmp_path / "out.pcapng"
    source.write_bytes(gzip.compress(rich_capture("<")))
    annotate(source, target, {1: ["x"]})
    assert read(target)[0][0].comment == "x"


@pytest.mark.parametrize("cut", [5, 30, 90, 150, 200])
def test_a_damaged_capture_is_copied_as_far_as_it_can_be_read(tmp_path: Path, cut: int) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(rich_capture("<")[:-cut])
    annotate(source, target, {1: ["x"]})
    frames, notices = read(target)
    assert not notices
    assert len(frames) == len(read(source)[0])


@settings(deadline=None, max_examples=60)
@given(st.lists(VERDICT, max_size=3), st.binary(max_size=80))
def test_no_text_breaks_the_copy(
    tmp_path_factory: pytest.TempPathFactory, verdicts: list[Verdict], data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    numbers = sorted(comments(verdicts))[:4]
    texts = {k + 1: comments(verdicts)[n] for k, n in enumerate(numbers)}
    frames = [Frame(k + 1, 10**18 + k, 1, 0, data, len(data)) for k in range(4)]
    with Writer(folder / "in.pcapng") as w:
        for f in frames:
            w.frame(f)
    annotate(folder / "in.pcapng", folder / "out.pcapng", texts)
    after, notices = read(folder / "out.pcapng")
    assert not notices
    assert [replace(f, comment="") for f in after] == frames
    assert {f.number: f.comment for f in after if f.comment} == {n: t for n, x in texts.items() if (t := "\n".join(x))}


FLIP = st.tuples(st.integers(0, 10_000), st.integers(0, 255))  # where, and the byte that stands there


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from("<>"), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4), st.booleans()
)
def test_a_capture_with_damage_is_copied_up_to_it(
    tmp_path_factory: pytest.TempPathFactory, order: str, flips: list[tuple[int, int]], zipped: bool
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    raw = bytearray(rich_capture(order))
    for at, value in flips:
        raw[at % len(raw)] = value
    source, target = folder / "in.pcapng", folder / "out.pcapng"
    source.write_bytes(gzip.compress(raw, 1) if zipped else raw)
    try:
        frames, _ = read(source)
    except CaptureError:
        with pytest.raises(CaptureError):
            annotate(source, target, {})
        return
    annotate(source, target, {n: ["here"] for n in range(1, 5)})
    if not frames:
        return  # there may be no block to copy
    after, notices = read(target)
    assert not notices
    assert [replace(f, comment="") for f in after] == [replace(f, comment="") for f in frames]
    assert all(f.comment.endswith("here") for f in after)


# ---------------------------------------------------------------- many captures


def test_two_captures_of_one_name_are_two_files(tmp_path: Path) -> None:
    reports = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(OPEN, tmp_path / name / "x.pcapng")
        reports.append(FileReport(str(tmp_path / name / "x.pcapng"), frames=1))
    assert [p.name for p in annotate_all(reports, tmp_path / "out")[0]] == ["x.pcapng", "x-2.pcapng"]


def test_a_capture_is_never_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "x.pcapng"
    shutil.copy(OPEN, mine)
    before = mine.read_bytes()
    assert [p.name for p in annotate_all([FileReport(str(mine), frames=1)], tmp_path)[0]] == ["x-2.pcapng"]
    assert mine.read_bytes() == before


def test_a_capture_that_is_gone_is_said_and_the_others_are_written(tmp_path: Path) -> None:
    reports = [FileReport(str(tmp_path / "gone.pcap"), frames=1), FileReport(str(OPEN), frames=1)]
    written, notes = annotate_all(reports, tmp_path / "out")
    assert [p.name for p in written] == [OPEN.name]
    assert [n.split(": ")[0] for n in notes] == ["not annotated"]


# ---------------------------------------------------------------- as tshark sees it


@needs_tshark
def test_tshark_finds_labels_and_the_divergence(tmp_path: Path) -> None:
    report = check_capture(OPEN, labelled=True)
    wrong = replace(DIVERGING, divergence=replace(DIVERGING.divergence, frame=3))  # type: ignore[type-var]
    annotate(OPEN, tmp_path / "out.pcapng", comments([*report.verdicts, wrong]))
    number = ("-T", "fields", "-e", "frame.number")
    assert tshark(tmp_path / "out.pcapng", "-Y", 'frame.comment contains "DIVERGES"', *number) == ["3"]
    labelled = {x.number for v in report.verdicts for x in v.labels}
    numbers = tshark(tmp_path / "out.pcapng", "-Y", "frame.comment", *number)
    assert {int(n) for n in numbers} == labelled | {3}


@needs_tshark
def test_tshark_sees_the_same_frames_in_the_copy(tmp_path: Path) -> None:
    report = check_capture(OPEN, labelled=True)
    annotate(OPEN, tmp_path / "out.pcapng", comments(report.verdicts))
    seen = [x for f in ("time_epoch", "interface_name", "len", "protocols") for x in ("-e", f"frame.{f}")]
    assert tshark(tmp_path / "out.pcapng", "-T", "fields", *seen) == tshark(OPEN, "-T", "fields", *seen)


def test_check_annotates_into_the_folder_that_is_named(tmp_path: Path) -> None:
    cli.told("check", OPEN, "--annotate", tmp_path / "a", "--report", tmp_path / "r")
    for path in (tmp_path / "a" / OPEN.name, tmp_path / "r" / "annotated" / OPEN.name):
        assert any("connect" in f.comment for f in read(path)[0])


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    assert "cannot be written" in cli.told("check", OPEN, "--annotate", tmp_path / "taken", status=2)
