"""The shipped scripts on the model and on this machine's kernel, and the table of both: docs/scripts.md.

`python -m tests.script_runs` (root) runs every script in every variant on both and writes the table.
"""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from conformance.live.kernel import hz
from conformance.live.pkt_kernel import run_script as run_on_kernel
from conformance.pkt.both import counters, difference
from conformance.pkt.model_run import Setting
from conformance.pkt.model_run import run_script as run_on_model
from conformance.pkt.outcome import PASSED, Outcome
from conformance.pkt.variant import Variant, scripts_in
from refmodel.profile import nearest

SCRIPTS = Path(__file__).parent / "scripts"
TABLE = Path(__file__).parent.parent / "docs" / "scripts.md"
AT_ONCE = 6  # runs on the kernel mostly wait
NEWER = Outcome("newer", message="the script is for a newer kernel than this machine's")
ATTEMPTS = 3  # a run in real time may be disturbed: it is recorded again, the expectation stays as it is


class Compared(Struct, frozen=True):
    """One script in one variant on both sides: what passed, the counters that differ, and the first difference."""

    path: Path
    variant: Variant
    model: Outcome
    kernel: Outcome

    @property
    def counters(self) -> list[tuple[str, int, int]]:
        """Name, the model's, the kernel's of those counters that aren't equal."""
        return [] if self.newer else counters(self.model.counters, self.kernel.counters)

    @property
    def apart(self) -> str:
        """What the model does otherwise than the kernel; '' if nothing."""
        return "" if self.newer else difference(self.model, self.kernel)

    @property
    def newer(self) -> bool:
        """The script is for a newer kernel than this one."""
        return self.kernel is NEWER

    @property
    def agree(self) -> bool:
        """Both pass, and the counters are equal."""
        return self.model.status == PASSED and (self.newer or (self.kernel.status == PASSED and not self.counters))


def compare(path: Path, wanted: tuple[Variant, ...]) -> list[Compared]:
    """A script on the model with this kernel's profile and HZ, and on the kernel itself; the best of three attempts."""
    release = nearest(os.uname().release)
    out: list[Compared] = []
    for variant in wanted:
        for variant_run, model in run_on_model(path, (variant,), Setting(release, hz(), {}, None, True)):
            runs: list[Compared] = []
            for _ in range(ATTEMPTS):
                live = dict(run_on_kernel(path, (variant,), None, None, True))
                runs.append(Compared(path, variant, model, live.get(variant_run, NEWER)))
                if runs[-1].agree:
                    break
            passed = [r for r in runs if r.kernel.status == PASSED]
            out.append(runs[-1] if runs[-1].agree else (passed or runs)[0])
    return out


def compare_all(wanted: tuple[Variant, ...], told: Callable[[Compared], None] = lambda _: None) -> list[Compared]:
    """Every shipped script, several at once; what doesn't agree is run again alone.

    Runs at one time share the machine's CPUs, and the kernel's module parameters, which no namespace divides.
    """
    out: list[Compared] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(lambda p: compare(p, wanted), scripts_in((SCRIPTS,))):
            for c in found:
                told(c)
                out.append(c)
    return [c if c.agree else compare(c.path, (c.variant,))[0] for c in out]


def mechanisms(results: list[Compared]) -> Iterator[tuple[str, list[Compared]]]:
    """The runs of each folder."""
    for name in sorted({c.path.parent.name for c in results}):
        yield name, [c for c in results if c.path.parent.name == name]


def table(results: list[Compared], release: str) -> str:
    """docs/scripts.md."""
    scripts = {c.path for c in results}
    passed = [c for c in results if c.model.status == PASSED], [c for c in results if c.kernel.status == PASSED]
    newer = [c for c in results if c.newer]
    equal = [c for c in results if not c.counters and not c.newer]
    lines = [
        "# Scripts by mechanism",
        "",
        "Each script in `tests/scripts` shows one behaviour of Linux's TCP and is written from the kernel's source and",
        "the RFCs. `python -m tests.script_runs` (root) runs all of them on the model and on the machine's kernel and",
        "writes this table; `tox -e live` repeats the runs on IPv4. A run counts for each variant of a script.",
        "",
        f"Recorded on Linux {release}, HZ {hz()}: {len(scripts)} scripts, {len(results)} runs. {len(passed[0])} pass",
        f"on the model, {len(passed[1])} on the kernel; in {len(equal)} every counter of Tcp and TcpExt is equal.",
        f"{len(newer)} runs are of scripts for newer kernels, which only the model played.",
        "",
        "| mechanism | scripts | runs | pass on the model | pass on the kernel | counters equal |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in mechanisms(results):
        cells = (
            len({c.path for c in found}),
            len(found),
            sum(c.model.status == PASSED for c in found),
            sum(c.kernel.status == PASSED for c in found),
            sum(not c.counters and not c.newer for c in found),
        )
        lines.append(f"| {name} | " + " | ".join(str(x) for x in cells) + " |")
    odd = [c for c in results if not c.agree]
    if odd:
        lines += ["", "## Where the two differ", ""]
    for c in odd:
        apart = ", ".join(f"{n} {a} on the model, {b} on the kernel" for n, a, b in c.counters)
        ended = (
            "" if c.kernel.status == PASSED == c.model.status else f"model {c.model.status}, kernel {c.kernel.status}; "
        )
        lines.append(f"* {c.path.parent.name}/{c.path.name}, {c.variant}: {ended}{apart}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs everything and writes the table."""
    results = compare_all(
        tuple(Variant), lambda c: print("same" if c.agree else "DIFFERS", c.variant, c.path, flush=True)
    )
    TABLE.write_text(table(results, os.uname().release.split("-")[0]))
    sys.exit(0 if all(c.agree for c in results) else 1)


if __name__ == "__main__":
    main()
