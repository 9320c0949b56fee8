"""Holds a checker against the truth: false alarms, wrong labels, wrong counters.

`python -m conformance.synth.judge [DIR...] [--seed N --count M] [--engine oracle|rules]` judges written truths, or
seeds, and prints three tables; `--verbose` shows each alarm, each wrong label and each wrong counter.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct, field
from rich.table import Table

from conformance.check.capture import ENGINES, tcp_verdicts
from conformance.check.options import ORACLE
from conformance.check.setup import Setup
from conformance.check.verdict import Outcome, Verdict
from conformance.console import out
from conformance.frames import Frame
from conformance.synth.truth import Truth, load, synthesize

Checker = Callable[[Sequence[Frame], Setup], list[Verdict]]
EQUAL, INSIDE, WRONG = "equal", "in interval", "wrong"
SHOWN: Final = 40


class CounterJudgement(Struct, frozen=True):
    """One counter of one host: the derived interval, the true value, and where the tap was: near, far or middle."""

    host: str
    name: str
    low: int
    high: int
    true: int
    vantage: str

    @property
    def said(self) -> str:
        """EQUAL if the interval is the true value, INSIDE if it holds it among others, else WRONG."""
        if not self.low <= self.true <= self.high:
            return WRONG
        return EQUAL if self.low == self.high else INSIDE


class Judgement(Struct):
    """One truth judged.

    `alarms` are what conforming frames were said to break, with the frame's number and its true senders; `undecided`
    are verdicts that are not a pass without an alarm. `labels` counts (true, said) functions; `mislabelled` are the
    frames where they differ, with said and note. A label is right if it names one of the frame's true senders. `crash`
    is what the checker raised.
    """

    seed: int
    says: str
    frames: int = 0
    alarms: list[tuple[int, str, str]] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    mislabelled: list[tuple[int, str, str, str]] = field(default_factory=list)
    counters: list[CounterJudgement] = field(default_factory=list)
    crash: str = ""

    @property
    def clean(self) -> bool:
        """No alarm, nothing undecided, no wrong label, no wrong counter."""
        wrong = any(c.said == WRONG for c in self.counters)
        return not (self.alarms or self.undecided or self.mislabelled or wrong or self.crash)


def judge(truth: Truth, checker: Checker = tcp_verdicts) -> Judgement:
    """Runs the checker over a truth."""
    found = Judgement(truth.seed, truth.says, len(truth.frames))
    verdicts = checker(truth.captured(), truth.setup)
    by = {f.number: f.by for f in truth.frames}
    taps = {f.number: f.tap for f in truth.frames}
    derived: dict[tuple[str, str, str], tuple[int, int]] = {}
    for v in verdicts:
        if v.divergence is not None:
            n = v.divergence.frame
            found.alarms.append((n, v.divergence.what, " ".join(by.get(n, ()))))
        elif v.outcome is not Outcome.CONFORMS:
            found.undecided.append(f"{v.outcome}: {v.reason}")
        for x in v.labels:
            true = by[x.number]
            found.labels[true[0], x.by if x.by not in true else true[0]] += 1
            if x.by not in true:
                found.mislabelled.append((x.number, true[0], x.by, x.note))
        seen = {taps[x.number] for x in v.labels} or {truth.vantage[0]}
        for host, counters in v.counters.items():
            where = host if host in seen else min(seen)
            for name, (low, high) in counters.items():
                a, b = derived.get((where, host, name), (0, 0))
                derived[where, host, name] = a + low, b + high
    if not found.alarms and not found.undecided:
        _count(found, truth, derived)
    return found


def _count(found: Judgement, truth: Truth, derived: dict[tuple[str, str, str], tuple[int, int]]) -> None:
    """Compares counters, of every host and every name that the checker derives anywhere.

    Where both hosts were tapped a checker may judge each tap's frames alone: then a host's counters are compared as
    each tap gave them.
    """
    names = sorted({n for _, _, n in derived})
    taps = sorted({t for t, _, _ in derived})
    for host, mib in truth.mib.items():
        for tap in taps:
            if not any((tap, host, n) in derived for n in names):
                continue
            where = "near" if tap == host else "middle" if tap == "m" else "far"
            for name in names:
                low, high = derived.get((tap, host, name), (0, 0))
                found.counters.append(CounterJudgement(host, name, low, high, mib.get(name, 0), where))


class Summary(Struct):
    """Many judgements."""

    each: list[Judgement] = field(default_factory=list)

    @property
    def labels(self) -> Counter[tuple[str, str]]:
        """The confusion matrix: how often (true, said)."""
        return sum((j.labels for j in self.each), Counter())

    def counters(self) -> dict[tuple[str, str], Counter[str]]:
        """By counter and vantage: how often EQUAL, INSIDE, WRONG."""
        found: dict[tuple[str, str], Counter[str]] = {}
        for j in self.each:
            for c in j.counters:
                if c.true or c.high:
                    found.setdefault((c.name, c.vantage), Counter())[c.said] += 1
        return found

    def verdicts(self) -> Table:
        """Truths by what was said of them."""
        t = Table("truths", "frames", "passed", "false alarms", "undecided", "crashes", "all right", box=None)
        n = self.each
        passed = sum(not (j.alarms or j.undecided or j.crash) for j in n)
        t.add_row(
            str(len(n)), str(sum(j.frames for j in n)), str(passed), str(sum(bool(j.alarms) for j in n)),
            str(sum(bool(j.undecided) for j in n)), str(sum(bool(j.crash) for j in n)), str(sum(j.clean for j in n)),
        )  # fmt: skip
        return t

    def confusion(self) -> Table:
        """The confusion matrix, as one line a true function."""
        t = Table("sent by", "frames", "right", "said instead", box=None)
        t.columns[0].no_wrap = True
        cells = self.labels
        for true in sorted({a for a, _ in cells}):
            row = {b: n for (a, b), n in cells.items() if a == true}
            others = sorted(((n, b) for b, n in row.items() if b != true), reverse=True)
            t.add_row(true, str(sum(row.values())), str(row.get(true, 0)), ", ".join(f"{b} {n}" for n, b in others))
        return t

    def counted(self) -> Table:
        """Counters by vantage: equal / in interval / wrong, of hosts where either is not zero."""
        t = Table("counter: equal / in interval / wrong", "near", "far", "middle", box=None)
        t.columns[0].no_wrap = True
        cells = self.counters()
        for name in sorted({n for n, _ in cells}):
            row = []
            for where in ("near", "far", "middle"):
                c = cells.get((name, where), Counter())
                row.append(f"{c[EQUAL]} / {c[INSIDE]} / {c[WRONG]}" if c else "")
            t.add_row(name, *row)
        return t


def _judged(engine: str, what: int | Path) -> Judgement:
    truth = synthesize(what) if isinstance(what, int) else load(what)
    return judge(truth, partial(tcp_verdicts, engine=engine))


def judge_all(what: Iterable[int | Path], engine: str = ORACLE, jobs: int = 0) -> Iterator[Judgement]:
    """Judges seeds or written truths on `jobs` processes (0: all cores), in order; an exception is a crash."""
    todo = list(what)
    with ProcessPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        futures = [pool.submit(_judged, engine, x) for x in todo]
        for x, future in zip(todo, futures, strict=True):
            why = future.exception()
            yield Judgement(-1, str(x), crash=repr(why)) if why is not None else future.result()


def main(argv: Sequence[str]) -> int:
    """Prints the tables; 0 if nothing was wrong, else 1."""
    parser = argparse.ArgumentParser(prog="python -m conformance.synth.judge", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="folders or captures of `python -m conformance.synth`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--engine", choices=sorted(ENGINES), default=ORACLE)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args(argv)
    what: list[int | Path] = list(range(given.seed, given.seed + given.count))
    if given.folders:
        what = [f for p in given.folders for f in (sorted(p.glob("*.pcapng")) if p.is_dir() else [p])]
    summary = Summary()
    for j in judge_all(what, given.engine, given.jobs):
        summary.each.append(j)
        if given.verbose:
            for line in lines(j):
                out.print(line, markup=False)
    for table in (summary.verdicts(), summary.confusion(), summary.counted()):
        out.print(table)
        out.print()
    return 0 if all(j.clean for j in summary.each) else 1


def lines(j: Judgement) -> Iterator[str]:
    """What was wrong in one judgement, a line each."""
    where = f"seed {j.seed} ({j.says})"
    if j.crash:
        yield f"{where}: {j.crash}"
    for n, what, by in j.alarms:
        yield f"{where}: false alarm at frame {n}, sent by {by}: {what}"
    for text in j.undecided:
        yield f"{where}: {text}"
    for n, true, said, note in j.mislabelled[:SHOWN]:
        yield f"{where}: frame {n} was sent by {true}, not by {said} ({note})"
    for c in j.counters:
        if c.said == WRONG:
            yield f"{where}: {c.host} {c.name} ({c.vantage}): {c.low}..{c.high}, truly {c.true}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
