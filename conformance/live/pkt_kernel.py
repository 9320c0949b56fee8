"""Runs .pkt scripts on the machine's own kernel, each in a process and in namespaces of its own.

A process reads the script, leaves for a network namespace with a tun device, and plays the other host. However it ends,
the namespace ends with it; what belongs to the whole machine (a module's parameters) is put back here.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from conformance.live.pkt_kernel_run import Job
from conformance.live.pkt_kernel_shell import module_parameters, slept
from conformance.pkt.ast import Script
from conformance.pkt.outcome import FAILED, REFUSED, UNAVAILABLE, Outcome
from conformance.pkt.parser import parse
from conformance.pkt.source import ScriptError, read_source
from conformance.pkt.variant import Variant, defines, holds, variants

MODULES: Final = "/sys/module"  # the directory itself is what runs lock
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


class Planned(Struct, frozen=True):
    """A run to be made: the job, s that it may take, and the files of module parameters that are put back after it."""

    job: Job
    limit: float
    parameters: tuple[str, ...]


def plan(
    path: Path,
    release: str,
    wanted: tuple[Variant, ...] = tuple(Variant),
    words: Mapping[str, str] | None = None,
    tolerance_usecs: int | None = None,
    remember: bool = False,
) -> tuple[list[Planned], Outcome | None]:
    """The runs of a script on a kernel `release`, one for each of the `wanted` variants that it is meant for.

    None for a script that is for other kernels; the Outcome says why a script is refused. Raises OSError if it cannot
    be read.
    """
    try:
        source = read_source(path)
        if not holds(release, source.text):
            return [], None
        script = parse(source.text, source.name, {**defines(wanted[0]), **(words or {})})
        meant = variants(script, path.stem, wanted)
        parameters = tuple(sorted(str(p) for p in set(module_parameters(script))))
    except ScriptError as why:
        return [], Outcome(REFUSED, why.at.line, str(why))
    limit = _limit(script)
    given = dict(words or {})
    jobs = [Job(source.name, source.text, v, given, tolerance_usecs, remember) for v in meant]
    return [Planned(job, limit, parameters) for job in jobs], None


def run_script(
    path: Path,
    wanted: tuple[Variant, ...] = tuple(Variant),
    words: Mapping[str, str] | None = None,
    tolerance_usecs: int | None = None,
    remember: bool = False,
) -> Iterator[tuple[Variant, Outcome]]:
    """Runs a script in those of the `wanted` variants that it is meant for; raises OSError if it cannot be read.

    A script for other kernels than this one is left out. `words` are the caller's defines; `tolerance_usecs` replaces
    the script's own; `remember` asks for counters and packets.
    """
    planned, refused = plan(path, os.uname().release, wanted, words, tolerance_usecs, remember)
    if refused is not None:
        yield wanted[0], refused
    for run in planned:
        with put_back(run.parameters):
            yield run.job.variant, _run(run)


@contextmanager
def put_back(parameters: Iterable[str]) -> Iterator[None]:
    """Gives files of module parameters, which belong to the whole machine, their values again in the end.

    Whoever changes one waits until no other run is on its way, and the others wait for him.
    """
    paths = tuple(parameters)
    lock = os.open(MODULES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if paths else fcntl.LOCK_SH)
        with _restored(paths):
            yield
    finally:
        os.close(lock)


@contextmanager
def _restored(parameters: tuple[str, ...]) -> Iterator[None]:
    before = {p: p.read_text() for p in map(Path, parameters) if p.exists()}
    try:
        yield
    finally:
        for path, value in before.items():
            path.write_text(value)


def _limit(script: Script) -> float:
    total = sum(max(e.time.start, e.time.end or 0) if e.time.relative else 0 for e in script.events)
    latest = max(max(e.time.start, e.time.end or 0) for e in script.events)
    return (total + latest + slept(script)) * 1.25 / 1e6 + GRACE


def still_running(run: Planned) -> Outcome:
    """The outcome of a run that took longer than it may."""
    return Outcome(FAILED, 0, f"{run.job.name}: still running after {run.limit:.0f} s: a call blocks, or a packet "
                   "that may come at any time (*) never came")  # fmt: skip


def _run(run: Planned) -> Outcome:
    command = (sys.executable, "-m", "conformance.live.pkt_kernel_run")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(msgspec.json.encode(run.job), timeout=run.limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return still_running(run)
        except BaseException:
            process.kill()
            raise
    if not out:
        said = err.decode(errors="replace").strip().splitlines()
        return Outcome(UNAVAILABLE, 0, f"{run.job.name}: the run ended without a result: {said[-1] if said else ''}")
    return msgspec.json.decode(out, type=Outcome)
