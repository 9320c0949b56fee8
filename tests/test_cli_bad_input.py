"""Whatever a user hands over: one clear message, a documented status, and what could be read is reported."""

import gzip
import os
import struct
from pathlib import Path

import pytest

from tests.cli import CAPTURES, told

OPEN = CAPTURES / "tcp-active-open.pcapng"
BARE_PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def record(data: bytes) -> bytes:
    return struct.pack("<IIII", 1, 0, len(data), len(data)) + data


def alone(capture: Path, folder: Path) -> Path:
    """A copy of a shipped capture without its sidecar."""
    copy = folder / capture.name
    copy.write_bytes(capture.read_bytes())
    return copy


def with_sidecar(text: str, folder: Path) -> Path:
    copy = alone(OPEN, folder)
    copy.with_suffix(".toml").write_text(text)
    return copy


# ---------------------------------------------------------------- files


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "nothing.pcap: no such file or folder" in told("check", tmp_path / "nothing.pcap", status=2)


def test_a_folder_without_captures(tmp_path: Path) -> None:
    assert "no captures (*.pcap, *.pcapng" in told("check", tmp_path, status=2)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcapng"
    path.touch()
    assert "an empty file at byte 0; expected a pcap or pcapng header" in told("check", path, status=2)


def test_a_file_that_is_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "text.pcap"
    path.write_text("hello, this is no capture\n")
    text = told("check", path, status=2)
    assert "bytes 68 65 6c 6c at byte 0" in text
    assert "editcap" in text


def test_a_file_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "silence.pcap"
    path.write_bytes(BARE_PCAP)
    assert "no frames: nothing to check" in told("check", path, status=2)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_ends_in_a_frame_is_judged_up_to_there(packed: bool, tmp_path: Path) -> None:
    data = OPEN.read_bytes()[:-60]
    path = tmp_path / ("cut.pcapng.gz" if packed else "cut.pcapng")
    path.write_bytes(gzip.compress(data) if packed else data)
    text = told("check", path)
    assert "the file ends after" in text
    assert "All frames before it were read." in text
    assert "conforms" in text


def test_damaged_gzip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcapng.gz"
    path.write_bytes(gzip.compress(OPEN.read_bytes())[:100])
    assert "expected a complete gzip file" in told("check", path, status=2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = alone(OPEN, tmp_path)
    path.chmod(0)
    assert "ermission" in told("check", path, status=2)


def test_one_bad_file_among_good_ones_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "text.pcap"
    path.write_text("no capture")
    text = told("check", OPEN, path, status=2)
    assert "conforms" in text
    assert "2 captures" in text
    assert "1 captures do not conform" in text


# ---------------------------------------------------------------- what is in them


def test_a_capture_without_a_layer_that_is_modelled(tmp_path: Path) -> None:
    path = tmp_path / "noise.pcap"
    path.write_bytes(BARE_PCAP + record(bytes(12) + b"\x88\xb5" + bytes(46)))
    text = told("check", path, status=3)
    assert "not modelled" in text
    assert "1 frames of other protocol" in text


def test_a_capture_that_starts_in_the_middle_of_a_connection(tmp_path: Path) -> None:
    from conformance.pcap import Reader

    path = tmp_path / "middle.pcap"
    with Reader(CAPTURES / "tcp-urgent.pcapng") as frames:
        kept = [f for f in frames if f.number > 4]
    path.write_bytes(BARE_PCAP + b"".join(record(f.data) for f in kept))
    text = told("check", "--verbose", path)
    assert f"{len(kept)} frames" in text
    assert "its handshake was not seen" in text
    assert "inconclusive" in told("check", "--engine", "rules", path, status=3)


def test_a_capture_without_a_sidecar_says_what_it_takes_for_granted(tmp_path: Path) -> None:
    text = told("check", "--verbose", alone(OPEN, tmp_path))
    assert "kernel 6.12: the reference kernel, since there is no sidecar (--profile says otherwise)" in text


# ---------------------------------------------------------------- sidecars and profiles


def test_a_kernel_that_has_no_profile() -> None:
    assert "no profile for kernel '5.4'; there are 6.1, 6.12, 6.18" in told("check", "--profile", "5.4", OPEN, status=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", "tcp-active-open.toml: Invalid"),
        ("", "tcp-active-open.toml: kernel.profile (or kernel.release) is missing"),
        ('[kernel]\nprofile = "5.4"', "tcp-active-open.toml: no profile for kernel '5.4'"),
        ('[kernel]\nprofile = "6.12"\nhz = "fast"', "Expected `int`, got `str` - at `$.kernel.hz`"),
        ('[kernel]\nprofile = "6.12"\n[[hosts]]\nlinux = true', "missing required field `name` - at `$.hosts[0]`"),
        (
            '[kernel]\nprofile = "6.12"\n[[hosts]]\nname = "a"\naddresses = ["10.9"]',
            "'10.9' does not appear to be an IPv4 or IPv6 address - at `$.hosts[0].addresses`",
        ),
        (
            '[kernel]\nprofile = "6.12"\n[[hosts]]\nname = "a"\naddresses = ["10.9.0.1"]\n'
            'sysctls = { "net.ipv4.tcp_syn_retries" = 900 }',
            "net.ipv4.tcp_syn_retries = 900: the kernel takes 1 to 127",
        ),
    ],
)
def test_a_sidecar_that_is_wrong_says_where(text: str, message: str, tmp_path: Path) -> None:
    assert message in told("check", with_sidecar(text, tmp_path), status=2)


def test_a_sidecar_that_is_no_text(tmp_path: Path) -> None:
    path = alone(OPEN, tmp_path)
    path.with_suffix(".toml").write_bytes(b"\xff\xfe\x00")
    assert "tcp-active-open.toml: " in told("check", path, status=2)


# ---------------------------------------------------------------- output


def test_a_report_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    text = told("check", OPEN, "--report", tmp_path / "taken", status=2)
    assert "conforms" in text
    assert "the report cannot be written" in text


def test_counterexamples_that_cannot_be_saved_are_shown_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    text = told("explore", "nic-vector", "--property", "not vector.masked", "--save", tmp_path / "taken", status=1)
    assert "  1. vector: " in text
    assert "the counterexamples cannot be saved" in text


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path) -> None:
    text = told("explore", "tcp-pair", "--checkpoint", tmp_path / "no" / "where", status=2)
    assert "the checkpoint cannot be written" in text
    assert "covered" not in text  # it is said before the search, not after hours of it


def test_a_recording_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    assert "taken" in told("record", "tcp_refused", "--out", tmp_path / "taken", status=2)


# ---------------------------------------------------------------- names and properties


def test_an_unknown_system_names_those_there_are() -> None:
    assert "no system is called 'tcp'; there are tcp-pair, " in told("explore", "tcp", status=2)


def test_no_system_at_all() -> None:
    assert "name a system; refmodel explore --list shows them" in told("explore", status=2)


def test_an_unknown_machine_names_those_there_are() -> None:
    text = told("prove", "udp", status=2)
    assert "no machine 'udp'; there are " in text
    assert "tcp" in text


def test_a_part_that_no_machine_has() -> None:
    assert "contains 'NOWHERE'" in told("prove", "nic_vector", "--only", "NOWHERE", status=2)


def test_an_unknown_scenario_points_to_the_list() -> None:
    assert "no scenario 'tcp_nope'; refmodel record --list" in told("record", "tcp_nope", status=2)


def test_no_scenario_at_all() -> None:
    assert "name a scenario" in told("record", status=2)


def test_a_pattern_that_no_rule_has() -> None:
    assert "no rule, step or property has 'nope' in its id" in told("rules", "nope", status=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.state == CLOSE and", "is not an expression: invalid syntax"),
        ("c.state == CLOSE", "no component is called c; there are a, b"),
        ("a.colour == 1", "no state of a has the field colour"),
        ("a.state == PURPLE", "PURPLE: neither a component nor an enum member"),
        ("open('x') == 1", "Call is not part of the property language"),
        ("b.state != CLOSING", "a Req has no such field: ask b.type == '…' first"),
        ("nowhere.module:fn", "No module named 'nowhere'"),
        ("tests.cli:nothing", "has no attribute 'nothing'"),
        ("tests.cli:told", "parameter 'args' is no component of"),
    ],
)
def test_a_property_that_cannot_be_asked_says_why(text: str, message: str, tmp_path: Path) -> None:
    assert message in told("explore", "tcp-pair", "--property", text, "--save", tmp_path, status=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("writes", "--set takes NAME=VALUE, not 'writes'; there are writes=1, closes=1"),
        ("colour=1", "--set takes NAME=VALUE, not 'colour=1'"),
        ("writes=many", "--set writes takes a number, not 'many'"),
        ("loss=maybe", "--set loss takes true or false, not 'maybe'"),
    ],
)
def test_a_bound_that_cannot_be_set_says_why(text: str, message: str) -> None:
    assert message in told("explore", "tcp-pair", "--set", text, status=2)


def test_a_system_that_is_the_same_in_all_kernels_has_no_difference() -> None:
    assert "nic-rx has no bound 'kernel'" in told("explore", "nic-rx", "--difference", "6.1", "6.18", status=2)


@pytest.mark.parametrize(
    ("data", "message"),
    [(None, "No such file or directory"), (b"no checkpoint", "is no checkpoint of a search")],
)
def test_a_checkpoint_that_cannot_be_read(data: bytes | None, message: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    if data is not None:
        kept.write_bytes(data)
    assert message in told("explore", "nic-vector", "--checkpoint", kept, "--resume", status=2)


def test_a_checkpoint_of_another_search(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    told("explore", "nic-napi", "--depth", 2, "--checkpoint", kept)
    assert "holds a search of" in told("explore", "nic-vector", "--checkpoint", kept, "--resume", status=2)


def test_resuming_needs_a_checkpoint() -> None:
    assert "--resume needs --checkpoint FILE" in told("explore", "nic-vector", "--resume", status=2)
