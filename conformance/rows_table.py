"""The table of what is specified and how it is judged: a line for every part of the path."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from msgspec import Struct

import refmodel.layers  # noqa: F401  (fills the registry)
from refmodel.rows import ROWS, Row
from refmodel.rule import MACHINES, RULES, STEPS

ROOT: Final = Path(__file__).parents[1]


STATEFUL: Final = ("machine_tests", "run_state_machine_as_test", "walk_tests")


class Judged(Struct, frozen=True):
    """What judges a row: folders or files of tests with Hypothesis, and the kernels that it was compared with, how."""

    tests: tuple[str, ...]
    compared: str


NEIGH: Final = ("tests/engine/test_property_machines.py",)
SCRIPTS: Final = "scripts, captures and counters: 6.1, 6.12, 6.18"
WALKS: Final = "walks: 6.18 (tracepoints), 6.1 and 6.12 (function_graph)"

JUDGES: Final = {
    "S1": Judged(("tests/tcp", "tests/udp"), "results and errno in scripts: 6.1, 6.12, 6.18; walks"),
    "S2": Judged(("tests/tcp",), "scripts: 6.1, 6.12, 6.18; the worked example: 6.18"),
    "S3": Judged(("tests/tcp",), SCRIPTS),
    "S4": Judged(("tests/udp", "tests/host"), "scripts and captures: 6.1, 6.12, 6.18; random corked sends: 6.18"),
    "S5": Judged(("tests/ip",), "`differential.ip`: 6.18; captures"),
    "S6": Judged(("tests/fib",), "`differential.fib`, `ip route get`: 6.18"),
    "S7": Judged(("tests/netfilter",), "`differential.netfilter`, verdicts, bytes, counters, entries: 6.18"),
    "S8": Judged(("tests/ip",), "`differential.ip`: 6.18"),
    "S9": Judged((*NEIGH, "tests/neigh"), "captures with RTM_NEWNEIGH and tracepoints: 6.1, 6.12, 6.18"),
    "S10": Judged((*NEIGH, "tests/neigh"), "captures: 6.1, 6.12, 6.18"),
    "S11": Judged(("tests/sched",), "`differential.qdisc`, order and `tc -s`: 6.18"),
    "S12": Judged(("tests/dev", "tests/sched"), "`differential.qdisc`, " + WALKS),
    "S13": Judged(("tests/nic",), "register logs of e1000e: 6.1, 6.12"),
    "S14": Judged(("tests/phy",), "IEEE 802.3 arithmetic, FCS vectors"),
    "R1": Judged(("tests/nic",), "register logs of e1000e: 6.1, 6.12"),
    "R2": Judged(("tests/nic", "tests/receive"), "register logs: 6.1, 6.12; `differential.gro`: 6.18"),
    "R3": Judged(("tests/receive",), "`differential.gro`, frames in, packets out: 6.18"),
    "R4": Judged(("tests/receive",), WALKS),
    "R5": Judged(("tests/ip",), "`differential.ip`, drop reasons and counters: 6.18; " + WALKS),
    "R6": Judged(("tests/ip", "tests/udp"), "`differential.ip`, bytes and rate limits: 6.18; scripts"),
    "R7": Judged(("tests/tcp",), SCRIPTS),
    "R8": Judged(("tests/tcp",), SCRIPTS),
    "R9": Judged(("tests/udp", "tests/host"), "scripts and captures: 6.1, 6.12, 6.18"),
    "R10": Judged(("tests/tcp",), "scripts: 6.1, 6.12, 6.18; walks"),
    "R11": Judged(("tests/ip6", "tests/neigh"), "`differential.ip6`, `differential.fib6`: 6.18; scripts over IPv6"),
    "E1": Judged(("tests/receive",), WALKS),
    "E2": Judged(("tests/host/test_diagrams.py",), "the walks that are drawn: as E1"),
    "E3": Judged(("tests/host/test_example.py",), "calls and frames side by side: 6.18"),
}


class Line(Struct, frozen=True):
    """One line: functions that the registry has of those the row names, properties under Hypothesis, proofs, walks."""

    id: str
    part: str
    executable: str
    hypothesis: str
    proved: str
    walked: str
    compared: str


@cache
def known() -> frozenset[str]:
    """The kernel functions that rules and functions cite."""
    walked()  # which imports all that a host is made of
    cites = [c for x in STEPS.values() for c in x.kernel] + [c for x in RULES.values() for c in x.kernel]
    return frozenset(c.rsplit(":", 1)[1] for c in cites)


@cache
def walked() -> dict[str, tuple[str, ...]]:
    """The walks that pass each function."""
    from refmodel.host.walks import SCENARIOS, make

    found: dict[str, list[str]] = {}
    for name in SCENARIOS:
        for function in dict.fromkeys(make(name).functions()):
            found.setdefault(function, []).append(name)
    return {f: tuple(names) for f, names in found.items()}


def properties_in(paths: Iterable[str]) -> int:
    """Tests under these paths that Hypothesis drives: functions with @given and stateful machines."""
    count = 0
    for path in paths:
        top = ROOT / path
        for file in [top] if top.suffix == ".py" else sorted(top.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    count += any("given" in ast.unparse(d).split("(")[0] for d in node.decorator_list)
                elif isinstance(node, ast.Assign):
                    count += ast.unparse(node.value).endswith(".TestCase")
                elif isinstance(node, ast.Call):
                    count += ast.unparse(node.func).rsplit(".", 1)[-1] in STATEFUL
    return count


def line(row: Row) -> Line:
    """One row's line."""
    judged = JUDGES[row.id]
    have = [f for f in row.functions if f in known()]
    passed = [f for f in row.functions if f in walked()]
    where = list(dict.fromkeys(w for f in row.functions for w in walked().get(f, ())))
    machines = [MACHINES[m] for m in row.machines]
    properties = sum(
        1 for m in machines for kind in ("invariant", "transition") for q in m.properties(kind) if not q.falsified
    )
    proved = f"{', '.join(m.name for m in machines)}: {properties}" if machines else "-"
    return Line(
        row.id,
        row.part,
        f"{len(have)} of {len(row.functions)} functions" if row.functions else "yes",
        f"{n} tests" if (n := properties_in(judged.tests)) else "-",
        proved,
        f"{len(passed)} of {len(row.functions)}: {', '.join(where[:3])}" if row.functions else "contexts, lanes",
        judged.compared,
    )


HEAD: Final = ("row", "part", "executable", "Hypothesis", "proved", "in walks", "compared with")


def markdown() -> str:
    """The whole table."""
    rows = [line(r) for r in ROWS]
    out = [f"| {' | '.join(HEAD)} |", "| " + " | ".join("---" for _ in HEAD) + " |"]
    out += [
        f"| {x.id} | {x.part} | {x.executable} | {x.hypothesis} | {x.proved} | {x.walked} | {x.compared} |"
        for x in rows
    ]
    return "\n".join(out) + "\n"


__all__ = ["Judged", "Line", "line", "markdown"]
