"""Whatever becomes of a capture's bytes, the check ends with a report."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.check.capture import check_capture
from conformance.check.verdict import FileReport

CAPTURES = Path(__file__).parent.parent / "captures"
CASES = ("tcp-active-open", "tcp-urgent", "tcp-active-open-v6", "arp-first-reply-wins", "tcp-zero-window")
HERE = tuple(c for c in CASES if (CAPTURES / f"{c}.pcapng").exists())


def checked(data: bytes, case: str, sidecar: bool) -> FileReport:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{case}.pcapng"
        path.write_bytes(data)
        if sidecar:
            path.with_suffix(".toml").write_bytes((CAPTURES / f"{case}.toml").read_bytes())
        report = check_capture(path)
    assert report.verdicts or report.error or not report.frames
    assert report.exit_status in (0, 1, 2, 3)
    return report


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(HERE), st.booleans(), st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 7)), max_size=12)
)
def test_flipped_bits_end_in_a_report(case: str, sidecar: bool, flips: list[tuple[int, int]]) -> None:
    data = bytearray((CAPTURES / f"{case}.pcapng").read_bytes())
    for at, bit in flips:
        data[at % len(data)] ^= 1 << bit
    checked(bytes(data), case, sidecar)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(HERE), st.booleans(), st.integers(0, 1 << 30), st.binary(max_size=40))
def test_a_file_cut_anywhere_with_anything_behind_ends_in_a_report(
    case: str, sidecar: bool, at: int, tail: bytes
) -> None:
    data = (CAPTURES / f"{case}.pcapng").read_bytes()
    checked(data[: at % len(data)] + tail, case, sidecar)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_report(data: bytes) -> None:
    checked(data, "any", False)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(HERE), st.integers(0, 1 << 30), st.binary(min_size=1, max_size=4))
def test_a_damaged_sidecar_ends_in_a_report(case: str, at: int, other: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{case}.pcapng"
        path.write_bytes((CAPTURES / f"{case}.pcapng").read_bytes())
        text = (CAPTURES / f"{case}.toml").read_bytes()
        at %= len(text)
        path.with_suffix(".toml").write_bytes(text[:at] + other + text[at + len(other) :])
        report = check_capture(path)
    assert report.exit_status in (0, 1, 2, 3)


@pytest.mark.parametrize("case", HERE)
def test_the_captures_that_are_damaged_here_conform_whole(case: str) -> None:
    assert check_capture(CAPTURES / f"{case}.pcapng").exit_status == 0
