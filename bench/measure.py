"""How the measurements measure: CPU time of the best of a few runs, so that a busy machine says nearly the same."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct
from rich.console import Console
from rich.table import Table

CONSOLE = Console(highlight=False, width=150)
ROOT = Path(__file__).parents[1]
COMPILED = ROOT / "build" / "compiled"  # by `make compiled`


class Cost(Struct, frozen=True):
    """What a command took: seconds on the clock, seconds of CPU, peak memory in MiB, its last line."""

    clock: float
    cpu: float
    peak: float
    said: str


def command(words: Sequence[str], any_status: bool = False) -> Cost:
    """Runs a command to its end; raises CalledProcessError if it fails, unless `any_status` will do."""
    started = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read().strip().rsplit("\n", 1)[-1]
        _, status, used = _wait(process)
    clock = time.perf_counter() - started
    if status and not any_status:
        raise subprocess.CalledProcessError(status, list(words))
    return Cost(clock, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said)


def _wait(process: "subprocess.Popen[str]") -> tuple[int, int, resource.struct_rusage]:
    import os

    pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return pid, process.returncode, used


def refmodel(*words: str, package: Path | None = None) -> list[str]:
    """The command line of this project's own program, by this interpreter; `package`: where it is installed."""
    if package is None:
        return [sys.executable, "-m", "conformance.cli", *words]
    return ["env", f"PYTHONPATH={package}", sys.executable, "-P", "-m", "conformance.cli", *words]


def builds() -> list[tuple[str, Path | None]]:
    """The builds to be measured: the compiled one, made anew if the source is younger, and the interpreted source.

    Without a C compiler the compiled one is left out, and that is said.
    """
    found: list[tuple[str, Path | None]] = [("interpreted", None)]
    source = [p for name in ("refmodel", "conformance") for p in (ROOT / name).rglob("*.py")]
    made = next(COMPILED.glob("*__mypyc*"), None)
    if made is None or made.stat().st_mtime < max(p.stat().st_mtime for p in source):
        CONSOLE.print("make compiled ...")
        if subprocess.run(["make", "--silent", "compiled"], cwd=ROOT, check=False).returncode:
            CONSOLE.print("the compiled modules could not be built: only the interpreted ones are measured")
            return found
    return [("compiled", COMPILED), *found]


def best(runs: int, of: Callable[[], object]) -> float:
    """The least CPU seconds of `runs` calls."""
    return min(_once(of) for _ in range(runs))


def _once(of: Callable[[], object]) -> float:
    started = time.process_time()
    of()
    return time.process_time() - started


def table(title: str, *columns: str) -> Table:
    """A table whose columns but the first are numbers."""
    t = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for k, name in enumerate(columns):
        t.add_column(name, justify="right" if k else "left")
    return t
