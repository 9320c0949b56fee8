"""How often the checker says no: every kind of mutant over a set of captures, as a table.

`python -m conformance.mutation [CAPTURE|DIR...]` prints it, with the survivors.
"""

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct, field
from rich.table import Table

from conformance.check.capture import captures_in, check_frames
from conformance.check.setup import setup_for
from conformance.check.verdict import FileReport, Outcome
from conformance.console import out
from conformance.mutate import KINDS, mutants
from conformance.pcap import read

APPLICATION: Final = ("connect()", "send()", "shutdown", "close()", "recv()", "SO_KEEPALIVE")

CUT: Final = "inconclusive: in a connection with loss more hypotheses arise than are followed"

# Why a mutant of a kind may survive: what the specification leaves free.
REASONS: Final = {
    "drop": "nothing tells of the frame: over IPv6, from a request or TIME_WAIT (id 0), or the last of its socket",
    "wscale": "a SYN's window scale is memory's choice up to the default's, and nothing was sent by it afterwards",
    "shorter": "how much an application sends is its own choice, and nobody acknowledged it",
    "late": "the frame is an application's doing, though no note says so, or no timer watches over it",
    "early": "the frame before its cause is another cause's effect",
    "flag-fin": "a FIN that was lost may go again",
    "swap": "the two segments are the same but for fields that are free",
    "flag-rst": "an application may abort a connection",
    "seq-one": CUT,
    "window-zero": CUT,
    "repeat": "a second answer to an input that came twice",
}


class Survivor(Struct, frozen=True):
    """A mutant that was not rejected: its kind, its capture, the frame in the original, what was said of it."""

    kind: str
    capture: str
    frame: int
    outcome: str


class Tally(Struct):
    """Mutants by kind: rejected at the mutated frame, rejected behind it within the connection, not rejected."""

    at: Counter[str] = field(default_factory=Counter)
    later: Counter[str] = field(default_factory=Counter)
    survivors: list[Survivor] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All mutants."""
        return self.at.total() + self.later.total() + len(self.survivors)

    @property
    def rejected(self) -> float:
        """The share that was rejected."""
        return 1 - len(self.survivors) / self.total if self.total else 0.0


def judge(captures: Iterable[Path], each: int = 1, seed: int = 1) -> Tally:
    """Mutates every TCP capture in `each` ways of every kind and checks the mutants."""
    tally = Tally()
    for path in captures:
        frames, _ = read(path)
        setup = setup_for(path)
        if setup.layer == "nic" or not setup.hosts:
            continue
        base = FileReport(str(path))
        check_frames(frames, setup, base)
        free = frozenset(x.number for v in base.verdicts for x in v.labels if x.note.startswith(APPLICATION))
        linux = frozenset(a for h in setup.hosts if h.linux for a in h.addresses)
        for m in mutants(frames, linux.__contains__, random.Random(seed), each, free):
            report = FileReport(str(path))
            check_frames(m.frames, setup, report)
            found = [v.divergence.frame for v in report.verdicts if v.layer == "tcp" and v.divergence is not None]
            if not found:
                tally.survivors.append(Survivor(m.kind, path.stem, m.original, _said(report)))
            elif m.at and min(found) > m.at:
                tally.later[m.kind] += 1
            else:
                tally.at[m.kind] += 1
    return tally


def _said(report: FileReport) -> str:
    return str(report.outcome if report.verdicts else Outcome.INCONCLUSIVE)


def table(tally: Tally) -> Table:
    """The tally by kind, with the reason why some survive."""
    left: defaultdict[str, int] = defaultdict(int)
    for s in tally.survivors:
        left[s.kind] += 1
    t = Table("kind", "mutants", "at the frame", "behind it", "survived", "why", box=None)
    for kind in KINDS:
        n = tally.at[kind] + tally.later[kind] + left[kind]
        if n:
            why = REASONS.get(kind, "") if left[kind] else ""
            t.add_row(kind, str(n), str(tally.at[kind]), str(tally.later[kind]), str(left[kind]), why)
    return t


def main(argv: Sequence[str] = ()) -> int:
    """Prints the table for the captures named (default: captures/)."""
    tally = judge(captures_in([Path(a) for a in argv] or [Path("captures")]))
    out.print(table(tally))
    for s in tally.survivors:
        out.print(f"  survived: {s.kind} of frame {s.frame} in {s.capture}: {s.outcome}")
    out.print(
        f"{tally.total} mutants, {tally.rejected:.1%} rejected, {tally.at.total() / tally.total:.1%} at the frame"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
