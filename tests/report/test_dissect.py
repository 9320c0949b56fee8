"""tshark's view of what diverges."""

from pathlib import Path

import pytest

from conformance.check import capture
from conformance.check.verdict import Divergence, FileReport, Outcome, Verdict
from conformance.pyshark_reader import TsharkFailed, missing
from conformance.report.dissect import dissection, neighbours
from tests import cli

needs_tshark = pytest.mark.skipif(bool(missing()), reason=missing() or "there")
REFUSED = cli.CAPTURES / "tcp-refused.pcapng"


@pytest.mark.parametrize(
    ("around", "numbers"),
    [
        ((), (6, 7, 8)),
        (("#2 0.1 x", "#5 0.2 x", "#7 0.3 x", "#11 0.4 x", "#12 0.5 x"), (5, 7, 11)),
        (("#5 0.2 x", "#7 0.3 x"), (5, 7, 8)),
        (("something else",), (6, 7, 8)),
    ],
)
def test_the_neighbours_are_those_of_the_connection_if_they_are_known(
    around: tuple[str, ...], numbers: tuple[int, ...]
) -> None:
    assert neighbours(Divergence(7, 0.0, "a", "wrong", around=around)) == numbers


@needs_tshark
def test_each_layer_is_shown_with_its_fields() -> None:
    lines = list(dissection(REFUSED, Divergence(3, 0.0, "a", "wrong")))
    assert [x for x in lines if x.startswith("frame")] == ["frame 2", "frame 3 (diverges)", "frame 4"]
    assert [x for x in lines if x in ("  arp", "  ip", "  tcp")] == ["  arp", "  ip", "  tcp", "  ip", "  tcp"]
    assert "    Source Address: 10.9.0.1" in lines
    assert "    Flags: 0x002 (SYN)" in lines


@needs_tshark
def test_the_first_frame_has_no_neighbour_before_it() -> None:
    lines = dissection(REFUSED, Divergence(1, 0.0, "a", "wrong"))
    assert [x for x in lines if x.startswith("frame")] == ["frame 1 (diverges)", "frame 2"]


@needs_tshark
def test_what_tshark_cannot_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.pcap").write_bytes(b"nothing like a capture")
    with pytest.raises(TsharkFailed):
        list(dissection(tmp_path / "x.pcap", Divergence(1, 0.0, "a", "wrong")))


@needs_tshark
def test_check_shows_it_under_the_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Verdict("tcp", "a > b", Outcome.DIVERGES, divergence=Divergence(3, 0.0, "a", "wrong"))
    monkeypatch.setattr(capture, "check_all", lambda *args: iter([FileReport(str(REFUSED), "6.12", 4, [wrong])]))
    text = cli.told("check", REFUSED, "--dissect", status=1)
    assert text.index("diverges tcp") < text.index("tshark on tcp") < text.index("Flags: 0x002 (SYN)")


def test_without_tshark_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.pyshark_reader.missing", lambda: "tshark is not installed")
    assert "tshark is not installed" in cli.told("check", REFUSED, "--dissect", status=2)
