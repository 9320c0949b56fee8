"""The prove engine: rules total and pairwise disjoint, ranges kept, invariants inductive, for all parameters in range.

Cell by cell: are the hypotheses satisfiable? Is some rule enabled whatever happens (totality)? At most one
(disjointness)? Then each path of each rule: does the result keep its ranges and invariants, does the step have its
transition properties? An answer `unknown` is a failure. A property registered as falsified must be found false.

    python -m refmodel.engine.prove NAME [--only TEXT] [-k N] [-j N]
"""

import argparse
import importlib
import importlib.util
import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from refmodel.engine.cells import Cell, cells, may_apply
from refmodel.engine.paths import EFFORT
from refmodel.engine.prover import CellResult, Prover
from refmodel.engine.report import Failure, Falsified, Proof, Report
from refmodel.engine.source import Edit
from refmodel.engine.space import Unprovable
from refmodel.rule import MACHINES, Machine, NotModelled

Progress = Callable[[str, int, int], None]  # (cell, cells done, cells in all)
LAYERS = "refmodel.layers"


def prove(
    machine: Machine,
    *,
    only: str = "",
    k: int = 1,
    progress: Progress | None = None,
    processes: int = 1,
    effort: int = EFFORT,
) -> Report:
    """Proves a machine.

    `only`: cells whose name contains it or, if none does, the rules whose id contains it. `k`: how long the runs may be
    where plain induction fails. `processes`: cells are spread over so many; the verdict is the same. `effort`: z3
    resource units a query may use before it counts as unknown. Raises Unprovable where the source can't be read.
    """
    return _prove(machine, (), only, k, progress, processes, effort)


def prove_with(
    machine: Machine, edits: Iterable[tuple[str, str, str]], *, only: str = "", k: int = 1, effort: int = EFFORT
) -> Report:
    """Proves a machine whose source has seeded faults: (module, old text, new text), the old text must occur.

    Neither the files nor the registry change. `Report.failed` names what the faults broke.
    """
    return _prove(machine, tuple(Edit(*e) for e in edits), only, k, None, 1, effort)


def _prove(
    machine: Machine, edits: tuple[Edit, ...], only: str, k: int, progress: Progress | None, processes: int, effort: int
) -> Report:
    start = time.perf_counter()
    every = cells(machine)
    wanted, only_rules = _selected(machine, every, only)
    results: list[CellResult] = []
    failures: list[Failure] = []
    extra = 0
    source = _in_processes if processes > 1 else _here
    prover = Prover(machine, edits, k, effort)
    if not only:
        failures, extra = prover.initial()
    for result in source(prover, wanted, only_rules, processes):
        results.append(result)
        if progress is not None:
            progress(result.cell, len(results), len(wanted))
    return _report(machine, prover, results, failures, extra, only, time.perf_counter() - start)


def _selected(machine: Machine, every: Sequence[Cell], only: str) -> tuple[list[Cell], str]:
    named = [c for c in every if only in c.name]
    if named:
        return named, ""
    rules = [r for r in machine.rules if only in r.id]
    if not rules:
        raise ValueError(f"neither a cell nor a rule of {machine.name} contains {only!r}")
    return [c for c in every if any(may_apply(r, c) for r in rules)], only


def _here(prover: Prover, wanted: Sequence[Cell], only_rules: str, _: int) -> Iterator[CellResult]:
    for c in wanted:
        yield prover.prove_cell(c, only_rules)


_worker: Prover | None = None


def _start_worker(name: str, modules: tuple[str, ...], edits: tuple[Edit, ...], k: int, effort: int) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for m in modules:
        importlib.import_module(m)
    _worker = Prover(MACHINES[name], edits, k, effort)


def _work(index: int, only_rules: str) -> CellResult:
    if _worker is None:
        raise RuntimeError("the worker was not started")
    return _worker.prove_cell(_worker.cells[index], only_rules)


def _in_processes(prover: Prover, wanted: Sequence[Cell], only_rules: str, processes: int) -> Iterator[CellResult]:
    m = prover.machine
    modules = tuple(dict.fromkeys([*m.modules, *(r.fn.__module__ for r in m.rules)]))
    given = (m.name, modules, prover.edits, prover.k, prover.effort)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _start_worker, given) as pool:
        indices = [prover.cells.index(c) for c in wanted]
        yield from pool.map(_work, indices, [only_rules] * len(indices), chunksize=1)


def _report(
    machine: Machine,
    prover: Prover,
    results: Sequence[CellResult],
    failures: list[Failure],
    extra: int,
    only: str,
    seconds: float,
) -> Report:
    asked: Counter[str] = Counter()
    longest: dict[str, int] = {}
    falsified: dict[str, Falsified] = {}
    alive = {x.split(" at ")[0] for r in results for x in r.alive}
    dead: dict[str, list[str]] = {}
    for r in results:
        failures += r.failures
        asked.update(r.obligations)
        for ident, k in r.longest.items():
            longest[ident] = max(k, longest.get(ident, 1))
        for x in r.falsified:
            falsified.setdefault(x.id, x)
        for label in r.dead:
            rule, cell = label.split(" at ")
            dead.setdefault(rule, []).append(cell)
    properties = [q for kind in ("invariant", "transition") for q in machine.properties(kind)]
    for q in properties:
        if q.falsified and q.id not in falsified and not only:
            says = f"it is registered as false ({q.falsified}), and no step breaks it"
            failures.append(Failure("not-falsified", q.id, machine.name, says=says))
        elif not q.falsified and not asked[q.id] and not only and not any(q.id in r.excluded for r in results):
            failures.append(Failure("vacuous", q.id, machine.name, says="it is asked of no step: " + q.says))
    never = [f"{rule} anywhere" if rule not in alive else f"{rule} at {c}" for rule, cs in dead.items() for c in cs]
    return Report(
        machine=machine.name,
        seconds=seconds,
        cells=len(results),
        rules=len(prover.reading.lifted.rules),
        pairs=sum(r.pairs for r in results),
        paths=sum(r.paths for r in results),
        queries=sum(r.queries for r in results) + extra,
        obligations=sum(asked.values()) + extra,
        failures=tuple(failures),
        proved=tuple(
            Proof(q.id, q.kind, q.says, asked[q.id], longest.get(q.id, 1)) for q in properties if not q.falsified
        ),
        never_enabled=tuple(dict.fromkeys(never)),
        excluded=tuple(r.excluded for r in results if r.excluded),
        falsified=tuple(falsified.values()),
    )


def find(name: str) -> Machine:
    """The machine of that name, or the first that the module of that name registers.

    Raises NotModelled, with the names that there are.
    """
    if "." in name:
        module = importlib.import_module(name)
        mine = [m for m in vars(module).values() if isinstance(m, Machine)]
        if mine:
            return mine[0]
    if name not in MACHINES:
        importlib.import_module(LAYERS)
    if name not in MACHINES:
        raise NotModelled(f"no machine is called {name}; there are {', '.join(sorted(MACHINES)) or 'none'}")
    return MACHINES[name]


def main(argv: Sequence[str] | None = None) -> int:
    """The plain runner: 0 proved, 1 something fails, 2 usage or a source that can't be read."""
    ap = argparse.ArgumentParser(prog="python -m refmodel.engine.prove", description="Prove a machine.")
    ap.add_argument("name", help="the machine's name, or the module that registers it")
    ap.add_argument("--only", default="", help="cells or rules whose name contains this")
    ap.add_argument("-k", type=int, default=1, help="k-induction up to runs of K steps")
    ap.add_argument("-j", type=int, default=1, help="processes")
    given = ap.parse_args(argv)

    def progress(cell: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} {cell:60.60}", end="" if done < total else "\n", file=sys.stderr, flush=True)

    try:
        report = prove(find(given.name), only=given.only, k=given.k, progress=progress, processes=given.j)
    except (Unprovable, NotModelled, ValueError) as why:
        print(why, file=sys.stderr)
        return 2
    print(report.text())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
