"""Runs .pkt scripts on the machine's own kernel, each in a process and in namespaces of its own.

A process reads the script, leaves for a network namespace with a tun device, and plays the other host. However it ends,
the namespace ends with it; what belongs to the whole machine (a module's parameters) is put back here.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from conformance.live.pkt_kernel_run import Job
from conformance.live.pkt_kernel_shell import module_parameters
from conformance.pkt.ast import Script
from conformance.pkt.outcome import FAILED, REFUSED, UNAVAILABLE, Outcome
from conformance.pkt.parser import parse
from conformance.pkt.source import ScriptError, read_source
from conformance.pkt.variant import Variant, defines, older, variants

GRACE: Final = 20.0  # s beyond what a script's own times add up to


class KernelUnavailable(Exception):
    """Scripts cannot be run on this machine's kernel; the message says why."""


def require_kernel() -> None:
    """Raises KernelUnavailable unless this is root on Linux with a tun device."""
    if not sys.platform.startswith("linux"):
        raise KernelUnavailable("--kernel runs scripts on a Linux kernel; this is another system")
    if os.geteuid() != 0:
        raise KernelUnavailable("--kernel needs root: it makes a network namespace and a tun device")
    if not Path("/dev/net/tun").exists():
        raise KernelUnavailable("--kernel needs /dev/net/tun: load the module tun (modprobe tun)")


def run_script(
    path: Path,
    wanted: tuple[Variant, ...] = tuple(Variant),
    words: Mapping[str, str] | None = None,
    tolerance_usecs: int | None = None,
    remember: bool = False,
) -> Iterator[tuple[Variant, Outcome]]:
    """Runs a script in those of the `wanted` variants that it is meant for; raises OSError if it cannot be read.

    A script for a later kernel than this one is left out. `words` are the caller's defines; `tolerance_usecs` replaces
    the script's own; `remember` asks for counters and packets.
    """
    try:
        source = read_source(path)
        if older(os.uname().release, source.text):
            return
        script = parse(source.text, source.name, {**defines(wanted[0]), **(words or {})})
        meant = variants(script, path.stem, wanted)
        parameters = set(module_parameters(script))
    except ScriptError as why:
        yield wanted[0], Outcome(REFUSED, why.at.line, str(why))
        return
    for variant in meant:
        with _put_back(parameters):
            job = Job(source.name, source.text, variant, dict(words or {}), tolerance_usecs, remember)
            yield variant, _run(job, script)


@contextmanager
def _put_back(parameters: set[Path]) -> Iterator[None]:
    before = {p: p.read_text() for p in parameters if p.exists()}
    try:
        yield
    finally:
        for path, value in before.items():
            path.write_text(value)


def _limit(script: Script) -> float:
    total = sum(max(e.time.start, e.time.end or 0) if e.time.relative else 0 for e in script.events)
    latest = max(max(e.time.start, e.time.end or 0) for e in script.events)
    return (total + latest) * 1.25 / 1e6 + GRACE


def _run(job: Job, script: Script) -> Outcome:
    limit = _limit(script)
    command = (sys.executable, "-m", "conformance.live.pkt_kernel_run")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(msgspec.json.encode(job), timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return Outcome(FAILED, 0, f"{job.name}: still running after {limit:.0f} s: a call blocks, or a packet "
                           "that may come at any time (*) never came")  # fmt: skip
        except BaseException:
            process.kill()
            raise
    if not out:
        said = err.decode(errors="replace").strip().splitlines()
        return Outcome(UNAVAILABLE, 0, f"{job.name}: the run ended without a result: {said[-1] if said else ''}")
    return msgspec.json.decode(out, type=Outcome)
