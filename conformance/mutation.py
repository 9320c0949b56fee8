"""How often the checker says no: every kind of mutant over a set of captures, as a table.

`python -m conformance.mutation [CAPTURE|DIR...] [--kinds KIND...] [--each N] [--limit N] [--frames N] [--jobs N]
[--engine oracle|rules] [--markdown]` prints it, with the survivors. The limit is of mutants of a kind, taken evenly
over the captures.
"""

import argparse
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from msgspec import Struct, field
from rich.table import Table

from conformance.check.capture import ENGINES, captures_in, tcp_verdicts
from conformance.check.options import ORACLE
from conformance.check.setup import setup_for
from conformance.check.verdict import Outcome, Verdict
from conformance.console import out
from conformance.mutate import KINDS, REGISTRY, Mutant, mutants
from conformance.mutate_trace import Trace
from conformance.oracle.text import address
from conformance.pcap import read
from refmodel.packet.segment import segment

APPLICATION: Final = ("connect()", "send()", "shutdown", "close()", "recv()", "SO_KEEPALIVE")
REACH: Final = 3_000  # frames: a mutant of a larger capture is checked so far behind its change


class Survivor(Struct, frozen=True):
    """A mutant that was not rejected: its kind, its capture, the frame in the original, what was said of it."""

    kind: str
    capture: str
    frame: int
    outcome: str


class Tally(Struct):
    """Mutants by kind: rejected at the mutated frame, rejected behind it within the connection, not rejected.

    `unfit` are captures whose original was not said to conform: their mutants would prove nothing.
    """

    at: Counter[str] = field(default_factory=Counter)
    later: Counter[str] = field(default_factory=Counter)
    survivors: list[Survivor] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All mutants."""
        return self.at.total() + self.later.total() + len(self.survivors)

    @property
    def rejected(self) -> float:
        """The share that was rejected."""
        return 1 - len(self.survivors) / self.total if self.total else 0.0

    def join(self, other: "Tally") -> None:
        """Adds another tally."""
        self.at += other.at
        self.later += other.later
        self.survivors += other.survivors
        self.unfit += other.unfit


def judge_one(
    path: Path, kinds: Sequence[str] = KINDS, each: int = 1, seed: int = 1, engine: str = ORACLE, most: int = 50_000
) -> Tally:
    """Mutates one capture in `each` ways of every kind and checks the mutants; larger ones than `most` are left out."""
    tally = Tally()
    frames, _ = read(path)
    setup = setup_for(path)
    if setup.layer not in ("", "tcp", "neigh") or len(frames) > most:
        return tally
    t = Trace(frames, setup)
    if not t.mine:
        return tally
    base = tcp_verdicts(frames, setup, engine)
    if any(v.outcome in (Outcome.DIVERGES, Outcome.INCONCLUSIVE) for v in base):
        tally.unfit.append(path.name)
        return tally
    strangers = _strangers(base)
    t.mine = [k for k in t.mine if address(t.facts[k].s.saddr, t.facts[k].s.source) not in strangers]
    free = frozenset(x.number for v in base for x in v.labels if x.note.startswith(APPLICATION))
    for m in mutants(t, kinds, random.Random(f"{path.name} {seed}"), each, free):
        _judged(tally, m, t, path, engine)
    return tally


def _strangers(verdicts: Iterable[Verdict]) -> frozenset[str]:
    """The ends that are not Linux by what the checker infers: a frame of theirs is not mutated, as a crafted peer's."""
    said = (x for v in verdicts for x in v.inferred)
    return frozenset(x.partition(" is not Linux")[0] for x in said if " is not Linux" in x)


def _judged(tally: Tally, m: Mutant, t: Trace, path: Path, engine: str) -> None:
    subject = _ends(t.facts[m.original - 1].way[:4]) if m.original - 1 in t.facts else frozenset()
    verdicts = tcp_verdicts(m.frames[: max(m.at, m.after) + REACH], t.setup, engine)
    found = [v.divergence.frame for v in verdicts if v.divergence is not None and _of(v, m, subject)]
    start = m.at or m.after
    if not any(n >= start for n in found):
        words = "an earlier frame diverges" if found else _worst(verdicts)
        tally.survivors.append(Survivor(m.kind, path.name.partition(".pcap")[0], m.original, words))
    elif m.at and min(found) > m.at:
        tally.later[m.kind] += 1
    else:
        tally.at[m.kind] += 1


def _ends(way: tuple[bytes, int, bytes, int]) -> frozenset[tuple[bytes, int]]:
    return frozenset(((way[0], way[1]), (way[2], way[3])))


def _of(v: Verdict, m: Mutant, subject: frozenset[tuple[bytes, int]]) -> bool:
    """The verdict is on the mutated connection."""
    assert v.divergence is not None
    n = v.divergence.frame
    f = m.frames[n - 1] if 0 < n <= len(m.frames) else m.frames[-1]
    s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
    return s is None or _ends((s.saddr, s.source, s.daddr, s.dest)) == subject


def _worst(verdicts: Sequence[Verdict]) -> str:
    order = (Outcome.CONFORMS, Outcome.NOT_MODELLED, Outcome.INCONCLUSIVE, Outcome.DIVERGES)
    worst = max(verdicts, key=lambda v: order.index(v.outcome), default=None)
    return str(Outcome.INCONCLUSIVE) if worst is None else str(worst.outcome)


def judge(
    captures: Iterable[Path],
    each: int = 1,
    seed: int = 1,
    kinds: Sequence[str] = KINDS,
    limit: int = 0,
    engine: str = ORACLE,
    jobs: int = 1,
    most: int = 50_000,
) -> Tally:
    """Mutants of many captures: `each` of a kind and capture, at most about `limit` (0: all) of a kind in all.

    With a limit every kind draws its own captures, evenly; a kind that few captures have is made of all of them.
    """
    paths = sorted(captures)
    tally = Tally()
    for part in _parts(paths, kinds, each, seed, limit, engine, jobs, most):
        tally.join(part)
    return tally


def _parts(
    paths: Sequence[Path], kinds: Sequence[str], each: int, seed: int, limit: int, engine: str, jobs: int, most: int
) -> Iterator[Tally]:
    shuffled = random.Random(seed).sample(list(paths), len(paths))
    if jobs == 1:
        left = dict.fromkeys(kinds, limit or 1 << 60)
        for p in shuffled:
            wanted = [k for k in kinds if left[k] > 0]
            if not wanted:
                return
            part = judge_one(p, wanted, each, seed, engine, most)
            _less(left, part)
            yield part
        return
    with ProcessPoolExecutor(jobs) as pool:
        left = dict.fromkeys(kinds, limit or 1 << 60)
        step = 4 * jobs
        for at in range(0, len(shuffled), step):
            wanted = [k for k in kinds if left[k] > 0]
            if not wanted:
                return
            futures = [pool.submit(judge_one, p, wanted, each, seed, engine, most) for p in shuffled[at : at + step]]
            for f in futures:
                part = f.result()
                _less(left, part)
                yield part


def _less(left: dict[str, int], part: Tally) -> None:
    for k, n in (part.at + part.later + Counter(s.kind for s in part.survivors)).items():
        left[k] -= n


def table(tally: Tally) -> Table:
    """The tally by kind, with the reason why some may survive."""
    left: defaultdict[str, int] = defaultdict(int)
    for s in tally.survivors:
        left[s.kind] += 1
    t = Table("kind", "mutants", "at the frame", "behind it", "survived", "why", box=None)
    t.columns[0].no_wrap = True
    for name in KINDS:
        n = tally.at[name] + tally.later[name] + left[name]
        if n:
            why = REGISTRY[name].free if left[name] else ""
            t.add_row(name, str(n), str(tally.at[name]), str(tally.later[name]), str(left[name]), why)
    return t


def markdown(tally: Tally) -> list[str]:
    """The same as lines of Markdown, with what each kind changes and what constrains it."""
    left = Counter(s.kind for s in tally.survivors)
    out = [
        "| kind | what is changed | constrained by | mutants | at | behind | survived |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in KINDS:
        k, n = REGISTRY[name], tally.at[name] + tally.later[name] + left[name]
        counts = f"{n} | {tally.at[name]} | {tally.later[name]} | {left[name]}"
        out.append(f"| {name}{'*' if k.sidecar else ''} | {k.says} | {k.constraint} | {counts} |")
    return out


def main(argv: Sequence[str] = ()) -> int:
    """Prints the table for the captures named (default: captures/)."""
    parser = argparse.ArgumentParser(prog="python -m conformance.mutation", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("captures")])
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="a further folder of captures")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--each", type=int, default=1, help="mutants of a kind and capture")
    parser.add_argument("--limit", type=int, default=0, help="mutants of a kind in all, about (0: no limit)")
    parser.add_argument("--frames", type=int, default=50_000, help="the largest capture taken")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--engine", choices=sorted(ENGINES), default=ORACLE)
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/mutants.md")
    given = parser.parse_args(list(argv))
    paths = captures_in([*given.paths, *given.corpus])
    tally = judge(paths, given.each, given.seed, given.kinds, given.limit, given.engine, given.jobs, given.frames)
    if given.markdown:
        for line in markdown(tally):
            out.print(line, markup=False)
    else:
        out.print(table(tally))
    for s in tally.survivors:
        out.print(f"  survived: {s.kind} of frame {s.frame} in {s.capture}: {s.outcome}")
    for name in tally.unfit:
        out.print(f"  not mutated: {name}: the checker doesn't accept it as it is")
    if tally.total:
        at = tally.at.total() / tally.total
        out.print(f"{tally.total} mutants, {tally.rejected:.1%} rejected, {at:.1%} at the frame")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
