"""What `refmodel run` prints and ends with, where no kernel is needed; and that a killed run leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner

from conformance.cli import main
from conformance.live import pkt_kernel
from conformance.live.pkt_kernel import KernelUnavailable, require_kernel

T = TypeVar("T")

SHORT = """\
   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
  +0 close(3) = 0
"""


def ended(*args: str, status: int) -> str:
    result = CliRunner().invoke(main, ["run", *args])
    assert result.exit_code == status, result.output
    return result.output


def test_help_has_examples_and_exit_statuses() -> None:
    text = ended("--help", status=0)
    assert "Examples:" in text
    assert "Exit status" in text


def test_without_root_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkt_kernel.os, "geteuid", lambda: 1000)
    assert "needs root" in ended("--kernel", str(tmp_path), status=2)


@pytest.fixture
def _root() -> None:
    try:
        require_kernel()
    except KernelUnavailable as why:
        pytest.skip(str(why))


@pytest.mark.live
@pytest.mark.usefixtures("_root")
def test_a_missing_or_empty_folder_is_named(tmp_path: Path) -> None:
    assert "nowhere" in ended("--kernel", str(tmp_path / "nowhere"), status=2)
    assert "no scripts" in ended("--kernel", str(tmp_path), status=2)


@pytest.mark.live
@pytest.mark.usefixtures("_root")
def test_statuses_tell_passed_failed_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.pkt"
    path.write_text(SHORT)
    (row,) = json.loads(ended("--kernel", "--variant", "ipv4", "--json", str(path), status=0))
    assert (row["status"], row["variant"]) == ("passed", "ipv4")
    path.write_text(SHORT.replace("close(3) = 0", "close(3) = 1"))
    assert "close: the result is 0, expected 1" in ended("--kernel", "--variant", "ipv4", str(path), status=1)
    path.write_text("0 nonsense(3) = 0\n")
    assert "unknown system call" in ended("--kernel", str(path), status=2)


@pytest.mark.live
@pytest.mark.usefixtures("_root")
def test_a_killed_run_takes_its_namespace_along(tmp_path: Path) -> None:
    path = tmp_path / "long.pkt"
    path.write_text(SHORT + "+60 `true`\n")
    command = (sys.executable, "-m", "conformance.cli", "run", "--kernel", "--variant", "ipv4", str(path))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        (child,) = _until(lambda: _elsewhere(process.pid))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert _until(lambda: not Path(f"/proc/{child}/exe").exists())


def _elsewhere(parent: int) -> list[int]:
    """The children of a process that are in another network namespace."""
    found = []
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return []
    for pid in children:
        if os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"):
            found.append(int(pid))
    return found


def _until(look: Callable[[], T], limit: float = 30.0) -> T:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
