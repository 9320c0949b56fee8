"""`refmodel check` beside tshark's TCP analysis, on the same capture of at least 200,000 frames.

Run as ``python -m bench.check [CONNECTIONS]``. The capture is made anew (bench.traffic), 21.5 frames a connection on
average. tshark follows every connection too and filters by what it found. Rates are frames a second of CPU, which other
work on the machine changes least, and of the clock. Memory is measured at the capture and at one of twice the
connections: it must not grow with the file, but for the list of verdicts.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from bench.measure import CONSOLE, Cost, command, refmodel, table
from bench.traffic import write

CONNECTIONS = 10_000


def tshark(path: Path) -> Cost | None:
    """tshark's analysis of `path`; None where there is no tshark."""
    program = shutil.which("tshark")
    if program is None:
        return None
    return command([program, "-r", str(path), "-Y", "tcp.analysis.flags", "-T", "fields", "-e", "frame.number"])


def main() -> None:
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else CONNECTIONS
    with tempfile.TemporaryDirectory() as folder:
        once, twice, small = (Path(folder, name) for name in ("once.pcapng", "twice.pcapng", "small.pcapng"))
        frames, more = write(once, connections), write(twice, 2 * connections)
        few = write(small, 1)
        start = command(refmodel("check", "-j1", str(small)))
        whole = tshark(once)
        runs = [
            ("tshark -Y tcp.analysis.flags", frames, whole),
            ("refmodel check -j1", frames, command(refmodel("check", "-j1", str(once)))),
            ("refmodel check, all cores", frames, command(refmodel("check", str(once)))),
            ("refmodel check -j1, twice the file", more, command(refmodel("check", "-j1", str(twice)))),
            (f"refmodel check -j1, {few} frames", few, start),
        ]
        t = table(
            f"check: {frames:,} frames in {connections:,} connections, {once.stat().st_size >> 20} MiB",
            "command", "frames", "CPU s", "clock s", "frames/CPU s", "frames/s", "of tshark", "by clock",
            "peak MiB",
        )  # fmt: skip
        for what, n, cost in runs:
            if cost is None:
                t.add_row(what, "not installed")
                continue
            ratios = ("", "")
            if whole is not None and n > few:
                ratios = (
                    f"{n / cost.cpu / (frames / whole.cpu):.2f}",
                    f"{n / cost.clock / (frames / whole.clock):.2f}",
                )
            t.add_row(
                what, f"{n:,}", f"{cost.cpu:.1f}", f"{cost.clock:.1f}", f"{n / cost.cpu:,.0f}",
                f"{n / cost.clock:,.0f}", *ratios, f"{cost.peak:.0f}",
            )  # fmt: skip
        CONSOLE.print(t)
        for _, _, cost in runs[1:4]:
            if cost is not None:
                CONSOLE.print(cost.said.replace(folder + "/", ""))


if __name__ == "__main__":
    main()
