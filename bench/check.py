"""`refmodel check` beside tshark's TCP analysis, on two captures: bulk flows with loss, and short connections.

Run as ``python -m bench.check [--frames N] [--connections N]``. The captures are made anew: N frames of 16 bulk flows
with loss (bench.bulk), and N connections of 21.5 frames each (bench.traffic). tshark follows every connection too and
filters by what it found. Rates are frames a second of CPU, which other work on the machine changes least, and of the
clock; ratios are to tshark on the same file in the same run. Memory is measured at the short connections and at twice
as many: it must not grow with the file, but for the list of verdicts. Both builds are measured, the compiled
one (`make compiled`, which is called where it is out of date) and the interpreted source.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from bench import bulk
from bench.measure import CONSOLE, Cost, builds, command, refmodel, table
from bench.traffic import write

CONNECTIONS = 10_000
FRAMES = 1_000_000


def tshark(path: Path) -> Cost | None:
    """tshark's analysis of `path`; None where there is no tshark."""
    program = shutil.which("tshark")
    if program is None:
        return None
    return command([program, "-r", str(path), "-Y", "tcp.analysis.flags", "-T", "fields", "-e", "frame.number"])


def compare(title: str, path: Path, frames: int, more: tuple[Path, int] | None = None) -> None:
    """Prints a table of tshark and of `refmodel check` on `path`; `more`: a larger file, for the memory it takes."""
    whole = tshark(path)
    runs = [
        ("tshark -Y tcp.analysis.flags", frames, whole),
    ]
    for how, package in builds():
        for jobs in ("-j1", "-j2"):
            runs.append((f"{how} {jobs}", frames, command(refmodel("check", jobs, str(path), package=package))))
        if more is not None:
            again = command(refmodel("check", "-j1", str(more[0]), package=package))
            runs.append((f"{how} -j1, twice the file", more[1], again))
    t = table(
        f"{title}: {frames:,} frames, {path.stat().st_size >> 20} MiB, load {os.getloadavg()[0]:.1f}",
        "command", "frames", "CPU s", "clock s", "frames/CPU s", "frames/s", "of tshark", "by clock", "peak MiB",
    )  # fmt: skip
    for what, n, cost in runs:
        if cost is None:
            t.add_row(what, "not installed")
            continue
        ratios = ("", "")
        if whole is not None:
            ratios = (f"{n / cost.cpu / (frames / whole.cpu):.2f}", f"{n / cost.clock / (frames / whole.clock):.2f}")
        t.add_row(
            what, f"{n:,}", f"{cost.cpu:.1f}", f"{cost.clock:.1f}", f"{n / cost.cpu:,.0f}", f"{n / cost.clock:,.0f}",
            *ratios, f"{cost.peak:.0f}",
        )  # fmt: skip
    CONSOLE.print(t)
    for _, _, cost in runs[1:]:
        if cost is not None:
            CONSOLE.print(cost.said.replace(f"{path.parent}/", ""))


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--frames", type=int, default=FRAMES, help="frames of the bulk flows")
    options.add_argument("--connections", type=int, default=CONNECTIONS, help="short connections")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        flows, once, twice = (Path(folder, name) for name in ("bulk.pcapng", "once.pcapng", "twice.pcapng"))
        compare("16 bulk flows with loss", flows, bulk.write(flows, given.frames))
        frames, more = write(once, given.connections), write(twice, 2 * given.connections)
        compare(f"{given.connections:,} short connections", once, frames, (twice, more))


if __name__ == "__main__":
    main()
