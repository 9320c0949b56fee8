"""Scripts per second: every script of tests/scripts on the model, in each variant that it is meant for, in one process.

Run as ``python -m bench.scripts [FOLDER ...]``. The kernel's own scripts are measured too if REFMODEL_SELFTESTS names
their folder (`make selftests` fetches them).
"""

import os
import sys
from collections import Counter
from pathlib import Path

from bench.measure import CONSOLE, best, table
from conformance.pkt.model_run import run_script
from conformance.pkt.variant import scripts_in

OWN = Path(__file__).parent.parent / "tests" / "scripts"


def run_all(files: list[Path]) -> Counter[str]:
    """How many runs ended how."""
    ends: Counter[str] = Counter()
    for path in files:
        ends.update(outcome.status for _, outcome in run_script(path))
    return ends


def main() -> None:
    folders = [Path(a) for a in sys.argv[1:]] or [OWN]
    if "REFMODEL_SELFTESTS" in os.environ:
        folders.append(Path(os.environ["REFMODEL_SELFTESTS"]))
    t = table("run: scripts on the model, one process", "folder", "scripts", "runs", "passed", "CPU s", "runs/s", "ms")
    for folder in folders:
        files = scripts_in((folder,))
        ends: Counter[str] = Counter()
        seconds = best(1, lambda files=files, ends=ends: ends.update(run_all(files)))  # type: ignore[misc]
        runs = ends.total()
        t.add_row(folder.name, f"{len(files)}", f"{runs}", f"{ends['passed']}", f"{seconds:.2f}",
                  f"{runs / seconds:.0f}", f"{1000 * seconds / runs:.1f}")  # fmt: skip
    CONSOLE.print(t)


if __name__ == "__main__":
    main()
