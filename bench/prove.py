"""How long the proofs of each machine take: totality, disjointness, every invariant and transition property.

Run as ``python -m bench.prove [MACHINE...]``.
"""

import sys
import time

import refmodel.layers  # noqa: F401
from bench.measure import CONSOLE, table
from refmodel.engine.prove import prove
from refmodel.rule import MACHINES


def main() -> None:
    names = sys.argv[1:] or list(MACHINES)
    t = table("prove", "machine", "rules", "invariants", "transition properties", "CPU s", "clock s", "failures")
    total = [0.0, 0.0]
    for name in names:
        m = MACHINES[name]
        cpu, clock = time.process_time(), time.perf_counter()
        report = prove(m)
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        total = [total[0] + cpu, total[1] + clock]
        invariants, transitions = len(m.properties("invariant")), len(m.properties("transition"))
        t.add_row(
            name, str(len(m.rules)), str(invariants), str(transitions), f"{cpu:.1f}", f"{clock:.1f}",
            str(len(report.failures)),
        )  # fmt: skip
    t.add_row("all", "", "", "", f"{total[0]:.1f}", f"{total[1]:.1f}", "")
    CONSOLE.print(t)


if __name__ == "__main__":
    main()
