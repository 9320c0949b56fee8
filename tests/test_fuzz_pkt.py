"""Whatever a script says, its run ends soon, with a verdict or with a place in the script, and executes nothing.

The scripts are those of `tests/pkt/mutants.py`; HYPOTHESIS_PROFILE=wide tries thousands of them.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.pkt import model_run
from conformance.pkt.model_run import Setting, run_text
from conformance.pkt.outcome import BROKEN, FAILED, REFUSED, Outcome
from conformance.pkt.source import LARGEST
from conformance.pkt.variant import Variant
from tests.cli import refmodel
from tests.pkt.mutants import corpus, mutant, repaired, written

SEEDS = st.integers(0, 1 << 32)
VARIANTS = st.sampled_from(tuple(Variant))
FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.remove",
    "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.kill", "socket.connect", "socket.bind", "shutil.rmtree",
)  # fmt: skip
SOCKET = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"
OPEN = (
    SOCKET + "+0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n"
    "+0 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>\n+0 > S. 0:0(0) ack 1 <...>\n"
    "+.01 < . 1:1(0) ack 1 win 257\n+0 accept(3, ..., ...) = 4\n"
)
watching: list[str] = []


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if not watching:
        return
    if event in FORBIDDEN or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")):
        watching.append(f"{event} {args}")


sys.addaudithook(_watch)


@contextmanager
def nothing_executed() -> Iterator[None]:
    """No command runs, no file is written, no connection is made."""
    watching.append("")
    try:
        yield
    finally:
        done = watching[1:]
        watching.clear()
    assert not done


def run(text: str, variant: Variant = Variant.IPV4, kernel: str = "6.12") -> Outcome:
    started = time.process_time()
    with nothing_executed():
        o = run_text("case.pkt", text, variant, Setting(kernel=kernel))
    assert o.status != BROKEN, o.message
    if o.status == REFUSED:
        assert o.line >= 1, o.message
        assert o.message.startswith(f"case.pkt:{o.line}:")
    assert time.process_time() - started < 30
    return o


@given(SEEDS, VARIANTS)
def test_a_damaged_script(seed: int, variant: Variant) -> None:
    r = Random(seed)
    run(mutant(r, r.choice(corpus())), variant)


@given(SEEDS, VARIANTS, st.sampled_from(("6.1", "6.12", "6.18")))
def test_a_damaged_script_that_can_be_read(seed: int, variant: Variant, kernel: str) -> None:
    r = Random(seed)
    run(repaired(mutant(r, r.choice(corpus()))), variant, kernel)


@given(SEEDS, VARIANTS, st.sampled_from(("6.1", "6.12", "6.18")))
def test_good_grammar_with_impossible_sense(seed: int, variant: Variant, kernel: str) -> None:
    run(repaired(written(Random(seed))), variant, kernel)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("--bind_port=65536\n0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 bind(3, ..., ...) = 0", 1),
        ("--connect_port=-1\n0 close(3) = 0", 1),
        ("--mtu=0\n0 close(3) = 0", 1),
        ("--tolerance_percent=99999999999999999999999\n0 close(3) = 0", 1),
        (SOCKET + "+0 setsockopt(3, SOL_SOCKET, SO_DEBUG, [[1]], 4) = 0", 2),
        (SOCKET + "+0 sendmsg(3, {msg_iov(1)=[{..., ...}], msg_flags=0}, 0) = 0", 2),
        (SOCKET + "+0 read(3, ..., -1) = 0", 2),
        (SOCKET + "+0 read(3, ..., 99999999999999999999) = 0", 2),
        (SOCKET + "+0 readv(3, [{..., -5}], 1) = 0", 2),
        (SOCKET + "+0 frobnicate(3) = 0", 2),
        (SOCKET + "+0 close(3) = 0\n+0 < S 0:0(5) win 1", 3),
        (SOCKET + "+0 < . 1:1(0) win 1 <mss 1>", 2),
        ("`rm -rf /`\n" + SOCKET, 1),
        (SOCKET + "+0 `$(touch /tmp/x)`", 2),
        (SOCKET + "+0 %{ assert __import__('os').system('true') }%", 2),
        (SOCKET + "+0 %{ assert " + "(" * 5000 + " }%", 2),
        (SOCKET + "+0 setsockopt(3, " + "[" * 5000 + ")", 2),
        ("0 close(" + "9" * 100_000 + ") = 0", 1),
        ("".join(f"--define=A{n}=A{n + 1}\n" for n in range(20_000)) + "0 close(A0) = 0", 20_001),
        ("--define=A=B\n--define=B=A\n0 close(A) = 0", 3),
        ("+" * (LARGEST // 4), 1),
        ("x" * (LARGEST + 1), 1),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_with_its_line(text: str, line: int) -> None:
    o = run(text)
    assert (o.status, o.line) == (REFUSED, line), o.message


@pytest.mark.parametrize(
    "line",
    [
        "+0 read(4, ..., 1) = 1",
        "+0...1 read(4, ..., 1) = 1\n+0 close(3) = 0",
        "+0 accept(3, ..., ...) = 5",
        "+0 poll([{fd=4, events=POLLIN, revents=POLLIN}], 1, -1) = 1",
        "* > P. 1:2(1) ack 1",
        "+999999999 > . 1:1(0) ack 1",
    ],
)
def test_what_never_comes_ends_the_run(line: str) -> None:
    o = run(OPEN + line)
    assert (o.status, o.line) == (FAILED, 8), o.message


def test_a_run_has_so_many_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_run, "MOST_TIMERS", 3)
    o = run(OPEN + "+0 write(4, ..., 1000) = 1000\n+0 > P. 1:1001(1000) ack 1\n+10000 close(4) = 0")
    assert o.status == FAILED
    assert "the script has no end" in o.message


@pytest.mark.parametrize(
    ("text", "status", "shown"),
    [
        (SOCKET + "+0 frobnicate(3) = 0\n", 2, ":2:4: unknown system call"),
        ("--mtu=0\n0 close(3) = 0\n", 2, ":1:1: --mtu=0"),
        (SOCKET + "+0 `rm -rf /`\n", 2, ":2:"),
        (SOCKET + "+0 socket(..., SOCK_RAW, IPPROTO_UDP) = 4\n", 3, ":1:"),
    ],
)
def test_the_command_says_where_and_with_which_status(tmp_path: Path, text: str, status: int, shown: str) -> None:
    path = tmp_path / "case.pkt"
    path.write_text(text)
    result = refmodel("run", "--variant", "ipv4", str(path))
    assert result.exit_code == status, result.output
    assert f"case.pkt{shown}" in result.output.replace("\n", "")
