"""Captures and scripts as test items."""

import shutil
import sys
from pathlib import Path

import pytest

from conformance.check import capture
from conformance.pcap import Reader
from conformance.pkt import model_run
from refmodel import layers
from tests.cli import CAPTURES
from tests.test_cli_bad_input import BARE_PCAP, record

pytest_plugins = ["pytester"]

LOADED = (capture, model_run, layers)
"""What the items import: loaded here, so that all inner sessions share one registry of rules."""

PLUGIN = ("-p", "no:cacheprovider")


@pytest.fixture
def folder(pytester: pytest.Pytester) -> Path:
    """A folder with two captures that conform."""
    for name in ("tcp-active-open", "arp-reply"):
        for end in (".pcapng", ".toml"):
            shutil.copy(CAPTURES / (name + end), pytester.path)
    return pytester.path


def wrong(folder: Path) -> None:
    """A capture whose SYN carries an acknowledgment number."""
    with Reader(CAPTURES / "tcp-active-open.pcapng") as r:
        frames = [bytearray(f.data) for f in r]
    syn = frames[2]
    syn[14 + 20 + 8] ^= 0x40
    (folder / "wrong.pcap").write_bytes(BARE_PCAP + b"".join(record(bytes(f)) for f in frames))


def test_captures_are_collected_when_wanted(pytester: pytest.Pytester, folder: Path) -> None:
    result = pytester.runpytest(*PLUGIN, "--refmodel", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*arp-reply.pcapng::conforms PASSED*", "*tcp-active-open.pcapng::conforms PASSED*"])


def test_captures_are_left_alone_when_not(pytester: pytest.Pytester, folder: Path) -> None:
    result = pytester.runpytest(*PLUGIN)
    result.assert_outcomes()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_capture_that_is_named_is_collected_without_asking(pytester: pytest.Pytester, folder: Path) -> None:
    pytester.runpytest(*PLUGIN, "arp-reply.pcapng").assert_outcomes(passed=1)


def test_the_configuration_can_want_them(pytester: pytest.Pytester, folder: Path) -> None:
    pytester.makeini("[pytest]\nrefmodel = true\n")
    pytester.runpytest(*PLUGIN).assert_outcomes(passed=2)


def test_a_capture_that_does_not_conform_fails_with_the_verdict(pytester: pytest.Pytester, folder: Path) -> None:
    wrong(folder)
    result = pytester.runpytest(*PLUGIN, "wrong.pcap")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*wrong.pcap: * frames, kernel 6.12:*diverges*", "*frame 3 at *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_file_that_is_no_capture_fails_with_the_reason(pytester: pytest.Pytester) -> None:
    (pytester.path / "text.pcap").write_text("hello")
    result = pytester.runpytest(*PLUGIN, "--refmodel")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*text.pcap: bytes 68 65 6c 6c at byte 0*"])


def test_a_kernel_can_be_named(pytester: pytest.Pytester, folder: Path) -> None:
    pytester.runpytest(*PLUGIN, "--refmodel", "--refmodel-profile", "6.18").assert_outcomes(passed=2)


def test_an_unknown_kernel_is_a_usage_error(pytester: pytest.Pytester, folder: Path) -> None:
    result = pytester.runpytest(*PLUGIN, "--refmodel", "--refmodel-profile", "5.4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no profile for kernel '5.4'; there are 6.1, 6.12, 6.18*"])


def test_the_plugin_is_installed_under_its_name(pytester: pytest.Pytester) -> None:
    result = pytester.run(sys.executable, "-m", "pytest", "--help")
    result.stdout.fnmatch_lines(["*--refmodel-profile*"])


SCRIPT = """\
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 close(3) = 0
"""


def test_a_script_has_an_item_for_each_variant(pytester: pytest.Pytester) -> None:
    (pytester.path / "short.pkt").write_text(SCRIPT)
    pytester.runpytest(*PLUGIN).assert_outcomes()
    result = pytester.runpytest(*PLUGIN, "--refmodel", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*short.pkt::ipv4 PASSED*", "*short.pkt::ipv6 PASSED*", "*short.pkt::mapped PASSED*"])
    pytester.runpytest(*PLUGIN, "--refmodel", "--pkt-variant", "ipv6").assert_outcomes(passed=1)


def test_a_script_that_fails_tells_why(pytester: pytest.Pytester) -> None:
    (pytester.path / "wrong.pkt").write_text(SCRIPT.replace("close(3) = 0", "close(3) = 1"))
    result = pytester.runpytest(*PLUGIN, "wrong.pkt", "--pkt-variant", "ipv4", "--pkt-profile", "6.1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*wrong.pkt:2:3: close: the result is 0, expected 1*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_script_that_cannot_be_read_fails_and_one_that_is_not_modelled_is_skipped(pytester: pytest.Pytester) -> None:
    (pytester.path / "bad.pkt").write_text("0 nonsense(3) = 0\n")
    (pytester.path / "udp.pkt").write_text(SCRIPT + "+0 socket(..., SOCK_RAW, IPPROTO_UDP) = 5\n")
    result = pytester.runpytest(*PLUGIN, "--refmodel", "--pkt-variant", "ipv4")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*unknown system call*"])
