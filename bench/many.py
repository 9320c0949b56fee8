"""What a file costs `refmodel check`: a folder of very many small captures.

Run as ``python -m bench.many [--files N]``. The folder holds copies of one short connection at other ports, 21 or 22
frames each. The cost of a file is what the whole folder takes less what one file takes, by the number of files.
"""

import argparse
import os
import tempfile
from itertools import islice
from pathlib import Path

from bench.measure import CONSOLE, command, refmodel, table
from bench.traffic import connection
from conformance.frames import Frame
from conformance.pcap import Writer

FILES = 2_500


def fill(folder: Path, files: int) -> None:
    """Writes so many captures of one connection each."""
    for k in range(files):
        with Writer(folder / f"c{k:05}.pcapng") as w:
            w.interface(1, "bench0")
            for number, (at, data) in enumerate(islice(connection(k), 100), 1):
                w.frame(Frame(number, 1_700_000_000_000_000_000 + at, 1, 0, data, len(data)))


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--files", type=int, default=FILES)
    files = options.parse_args().files
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, files)
        one = command(refmodel("check", "-j1", str(folder / "c00000.pcapng")))
        t = table(
            f"{files:,} captures of one connection each, load {os.getloadavg()[0]:.1f}",
            "command", "CPU s", "clock s", "ms CPU a file", "peak MiB",
        )  # fmt: skip
        t.add_row("one file", f"{one.cpu:.2f}", f"{one.clock:.2f}", "", f"{one.peak:.0f}")
        for jobs in (1, 2):
            cost = command(refmodel("check", f"-j{jobs}", str(folder)))
            each = (cost.cpu - one.cpu) / (files - 1) * 1_000
            t.add_row(
                f"refmodel check -j{jobs} FOLDER", f"{cost.cpu:.1f}", f"{cost.clock:.1f}", f"{each:.2f}",
                f"{cost.peak:.0f}",
            )  # fmt: skip
        CONSOLE.print(t)
        CONSOLE.print(cost.said)


if __name__ == "__main__":
    main()
