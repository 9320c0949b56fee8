"""The shipped scripts on the model and on kernels, and the table of both: docs/scripts.md.

`python -m tests.script_runs` (root) runs every script in every variant on the model and on this machine's kernel and
writes its column; `--guests` runs them on Debian's kernels in guests instead (no root) and writes theirs.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from conformance.live import guest, guest_scripts
from conformance.live.kernel import hz
from conformance.live.pkt_kernel import run_script as run_on_kernel
from conformance.pkt.both import counters, difference
from conformance.pkt.model_run import Setting
from conformance.pkt.model_run import run_script as run_on_model
from conformance.pkt.outcome import PASSED, Outcome
from conformance.pkt.parser import load
from conformance.pkt.variant import Variant, defines, scripts_in, variants
from refmodel.profile import nearest
from tests import script_table
from tests.script_table import Column

SCRIPTS = Path(__file__).parent / "scripts"
AT_ONCE = 6  # runs on the kernel mostly wait
OTHERS = Outcome("others", message="the script is for other kernels")
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
        return [] if self.others else counters(self.model.counters, self.kernel.counters)

    @property
    def apart(self) -> str:
        """What the model does otherwise than the kernel; '' if nothing."""
        return "" if self.others else difference(self.model, self.kernel)

    @property
    def others(self) -> bool:
        """The script is for other kernels than this one."""
        return self.kernel is OTHERS

    @property
    def agree(self) -> bool:
        """Both pass, and the counters are equal."""
        return self.model.status == PASSED and (self.others or (self.kernel.status == PASSED and not self.counters))


def compare(path: Path, wanted: tuple[Variant, ...]) -> list[Compared]:
    """A script on the model with this kernel's profile and HZ, and on the kernel itself; the best of three attempts."""
    release = nearest(os.uname().release)
    out: list[Compared] = []
    for variant in wanted:
        for variant_run, model in run_on_model(path, (variant,), Setting(release, hz(), {}, None, True)):
            runs: list[Compared] = []
            for _ in range(ATTEMPTS):
                live = dict(run_on_kernel(path, (variant,), None, None, True))
                runs.append(Compared(path, variant, model, live.get(variant_run, OTHERS)))
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


def compare_in_guests(
    version: str, wanted: tuple[Variant, ...], guests: int = 1, told: Callable[[Compared], None] = lambda _: None
) -> list[Compared]:
    """Every shipped script on Debian's kernel and on the model of it; what doesn't agree is run again alone."""
    out = _in_guests(version, scripts_in((SCRIPTS,)), wanted, guests)
    for c in out:
        told(c)
    for _ in range(ATTEMPTS - 1):
        odd = {c.path for c in out if not c.agree}
        if odd:
            again = {(c.path, c.variant): c for c in _in_guests(version, sorted(odd), wanted, 1) if c.agree}
            out = [c if c.agree else again.get((c.path, c.variant), c) for c in out]
    return out


def _in_guests(version: str, paths: list[Path], wanted: tuple[Variant, ...], guests: int) -> list[Compared]:
    setting = Setting(version, guest.kernel(version).hz, {}, None, True)
    live = guest_scripts.run_scripts(paths, guest_scripts.Batch(version, wanted, remember=True), guests)
    return [
        Compared(path, variant, model, live[path].get(variant, OTHERS))
        for path in paths
        for variant, model in run_on_model(path, wanted, setting)
    ]


def column(results: list[Compared], release: str) -> Column:
    """A kernel's column of the table."""
    cells = {}
    for name, found in mechanisms(results):
        made = [c for c in found if not c.others]
        agree = sum(c.agree for c in made)
        if made:
            cells[name] = str(agree) if agree == len(made) else f"{agree} of {len(made)}"
    played = {c.variant for c in results}
    return Column(
        release,
        ", ".join(v for v in Variant if v in played),
        len(results),
        sum(c.model.status == PASSED for c in results),
        sum(c.kernel.status == PASSED for c in results),
        sum(not c.counters and not c.others for c in results),
        sum(c.others for c in results),
        cells,
        tuple(_odd(c) for c in results if not c.agree),
    )


def _odd(c: Compared) -> str:
    apart = ", ".join(f"{n} {a} on the model, {b} on the kernel" for n, a, b in c.counters)
    ended = "" if c.kernel.status == PASSED == c.model.status else f"model {c.model.status}, kernel {c.kernel.status}; "
    return f"{c.path.parent.name}/{c.path.name}, {c.variant}: {ended}{apart}"


def shipped() -> dict[str, tuple[int, int]]:
    """How many scripts and runs, in all variants, each mechanism has."""
    runs: dict[str, list[int]] = {}
    for path in scripts_in((SCRIPTS,)):
        script = load(path, defines(Variant.IPV4))
        runs.setdefault(path.parent.name, []).append(len(variants(script, path.stem, tuple(Variant))))
    return {name: (len(found), sum(found)) for name, found in runs.items()}


def write(column: Column) -> None:
    """Writes a kernel's column into docs/scripts.md."""
    columns = script_table.read(script_table.TABLE.read_text()) | {column.release: column}
    script_table.TABLE.write_text(script_table.write(columns.values(), shipped()))


def main() -> None:
    """Runs everything and writes the table; exit status 1 where model and kernel do not agree."""
    parser = argparse.ArgumentParser(prog="script_runs", description="The shipped scripts on the model and on kernels.")
    parser.add_argument("--guests", action="store_true", help="on Debian's 6.1 and 6.12 in guests")
    parser.add_argument("--kernel", choices=guest_scripts.KERNELS, help="with --guests: on this one alone")
    parser.add_argument("--variant", choices=list(Variant), help="in this one alone (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="with --guests: so many guests at once (default: 1)")
    args = parser.parse_args()

    def told(c: Compared) -> None:
        print("same" if c.agree else "DIFFERS", c.variant, c.path, flush=True)

    wanted = (Variant(args.variant),) if args.variant else tuple(Variant)
    agree = True
    for version in ([args.kernel] if args.kernel else guest_scripts.KERNELS) if args.guests else [""]:
        if version:
            results = compare_in_guests(version, wanted, args.jobs, told)
            release = guest.kernel(version).stable
        else:
            results = compare_all(wanted, told)
            release = os.uname().release
        write(column(results, release.split("-")[0]))
        agree = agree and all(c.agree for c in results)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
