"""docs/scripts.md: what became of the scripts on each kernel; a column stays until its kernel runs again."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

TABLE = Path(__file__).parent.parent / "docs" / "scripts.md"
NONE = "-"
_HEAD = """\
# Scripts by mechanism

Each script in `tests/scripts` shows one behaviour of Linux's TCP and is written from the kernel's source and
the RFCs. `python -m tests.script_runs` (root) runs all of them on the model and on the machine's kernel and
writes this table's column for it; with `--guests` on Debian's 6.1 and 6.12 in guests, and writes theirs.
`tox -e live` repeats the runs on IPv4. A run counts for each variant of a script.

A script that says `// from Linux 6.12`, `// before Linux 6.12` or `// not on Linux 6.12.117` is run on no other kernel:
what it shows came, or went, with that one.
"""
_SUMS = "| kernel | variants | runs | pass on the model | pass on the kernel | every counter equal | not for it |"
_MEANS = """\
A cell says in how many runs both pass and every counter is equal: `15`, or `14 of 15` where one differs.
"""
_ODD = "## Where model and kernel differ"


class Column(Struct, frozen=True):
    """One kernel's results in some variants: sums over all runs, each mechanism's cell, a line for each odd run."""

    release: str
    variants: str
    runs: int
    model: int
    kernel: int
    equal: int
    others: int
    cells: Mapping[str, str]
    odd: tuple[str, ...] = ()


def read(text: str) -> dict[str, Column]:
    """The columns of a table that `write` made, by release."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:2] == "| "]
    sums = {row[0]: (row[1], [int(n) for n in row[2:]]) for row in rows if re.fullmatch(r"\d+\.\d+\.\d+", row[0])}
    head = next((row for row in rows if row[0] == "mechanism"), [])
    cells = [row for row in rows[rows.index(head) + 1 :] if row] if head else []
    odd = [line[2:] for line in text.partition(_ODD)[2].splitlines() if line.startswith("* ")]
    out = {}
    for release, (variants, (runs, model, kernel, equal, others)) in sums.items():
        if release in head:
            own = {row[0]: row[head.index(release)] for row in cells}
            said = tuple(line.partition(": ")[2] for line in odd if line.startswith(f"{release}: "))
            out[release] = Column(release, variants, runs, model, kernel, equal, others, own, said)
    return out


def write(columns: Iterable[Column], shipped: Mapping[str, tuple[int, int]]) -> str:
    """The document; `shipped` has the scripts and the runs of each mechanism."""
    by_age = sorted(columns, key=lambda c: [int(n) for n in c.release.split(".")])
    sums = [
        f"| {c.release} | {c.variants} | {c.runs} | {c.model} | {c.kernel} | {c.equal} | {c.others} |" for c in by_age
    ]
    rows = [
        f"| {name} | {scripts} | {runs} | " + " | ".join(c.cells.get(name, NONE) for c in by_age) + " |"
        for name, (scripts, runs) in sorted(shipped.items())
    ]
    lines = [
        *(_HEAD, _SUMS, "|---" * 7 + "|", *sums, "", _MEANS),
        "| mechanism | scripts | runs | " + " | ".join(c.release for c in by_age) + " |",
        "|---" * (3 + len(by_age)) + "|",
        *rows,
    ]
    odd = [f"* {c.release}: {said}" for c in by_age for said in c.odd]
    return "\n".join([*lines, "", _ODD, "", *odd] if odd else lines) + "\n"
