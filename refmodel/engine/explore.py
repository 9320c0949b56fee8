"""The explore engine: breadth-first search of a system, with the shortest run to whatever is wrong.

Levels of packed states are expanded as arrays (explore_sites) against one table of all states seen (explore_table).
A search covers every state within the system's own bound (budgets, wires) unless `max_states` or `max_depth` stops it
first; the result says which. Parents are not stored: a counterexample's run is found by searching the levels backwards.
"""

import time
from array import array
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct

from refmodel.engine.explore_check import Predicate, predicate
from refmodel.engine.explore_judge import Judge
from refmodel.engine.explore_paths import run_to
from refmodel.engine.explore_sites import Move, Sites
from refmodel.engine.explore_stop import Interrupt
from refmodel.engine.explore_system import Problem, System
from refmodel.engine.explore_table import KeySet, Words
from refmodel.engine.runs import Run

CHUNK: Final = 1 << 17
VERSION: Final = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or belongs to another system or other rules."""


class Finding(Struct, frozen=True):
    """One thing that is wrong, and the shortest run to it.

    `kind` is invariant, transition, not modelled, overlap, difference (found in one component), property, deadlock or
    liveness (found in the whole). `id` is the property's id or text, `component` whose it is ('' for the whole).
    """

    kind: str
    id: str
    says: str
    component: str
    run: Run


class Progress(Struct, frozen=True):
    """How far a search is. `frontier` is the size of the level under way, `done` how many of it are expanded."""

    states: int
    depth: int
    frontier: int
    done: int
    edges: int
    seconds: float

    @property
    def rate(self) -> float:
        """States found per second."""
        return self.states / self.seconds if self.seconds else 0.0


class Result(Struct, frozen=True, kw_only=True):
    """What a search covered and found.

    `stopped` is "exhausted" (nothing left within the system's bound), "found", "max_states", "max_depth" or
    "interrupted". `depth` is the number of complete levels after the start. `cut` counts states with a move that a full
    lossless wire forbade, `skipped` local steps that an assumption rules out. `rules` are the ids that fired.
    """

    system: str
    bound: str
    states: int
    edges: int
    depth: int
    seconds: float
    stopped: str
    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    undecided: tuple[str, ...]
    locals: tuple[tuple[str, int, int], ...]
    cut: int
    skipped: int
    rules: frozenset[str]

    @property
    def exhausted(self) -> bool:
        """Every state within the bound was seen."""
        return self.stopped == "exhausted"

    @property
    def ok(self) -> bool:
        """Nothing wrong was found, and nothing that was asked is undecided."""
        return not self.findings and not self.undecided and self.stopped != "interrupted"

    def text(self) -> str:
        """The result in lines for a person."""
        rate = self.states / self.seconds if self.seconds else 0.0
        how = {
            "exhausted": f"all states, {self.depth} steps deep",
            "found": f"stopped at the first finding, {self.depth} steps deep",
        }.get(self.stopped, f"not all: {self.stopped} after {self.depth} whole levels")
        lines = [
            f"{self.system}: {self.states:,} states, {self.edges:,} moves, {self.seconds:.1f} s ({rate:,.0f} states/s)",
            f"  covered: {how}; bound: {self.bound}",
        ]
        if self.cut:
            lines.append(f"  {self.cut:,} states had a move that a full lossless wire forbade")
        if self.skipped:
            lines.append(f"  {self.skipped:,} local steps are ruled out by assumptions")
        lines += [f"  undecided: {u}" for u in self.undecided]
        lines += [f"  {f.kind}: {f.id}: {f.says}\n{f.run.text()}" for f in self.findings]
        return "\n".join(lines if self.findings or self.undecided else [*lines, "  nothing wrong found"])


class _Saved(Struct, frozen=True):
    version: int
    fingerprint: str
    system: str
    log: bytes
    levels: tuple[bytes, ...]
    partial: bytes
    cursor: int
    edges: int
    cut: int
    skipped: int
    seconds: float
    asked: tuple[str, ...]


class Search:
    """One search under way. `explore` is the usual way in; a Search can be kept to ask for more runs afterwards."""

    def __init__(
        self,
        system: System,
        *,
        always: Iterable[Predicate | str] = (),
        final: Predicate | str | None = None,
        goal: Predicate | str | None = None,
        stop_at: int = 1,
        workers: int = 1,
    ) -> None:
        self.system = system
        self.sites = Sites(system)
        self.always = [Judge(self.sites, _read(p, system)) for p in always]
        self.final = Judge(self.sites, _read(final, system)) if final is not None else None
        self.goal = Judge(self.sites, _read(goal, system)) if goal is not None else None
        self.stop_at = stop_at
        self.workers = workers
        self.seen = [KeySet() for _ in range(workers)]
        self.locks = [Lock() for _ in range(workers)]
        self.levels: list[Words] = [self.sites.start]
        self.partial: list[Words] = []
        self.cursor = 0
        self.edges = 0
        self.cut = 0
        self.spent = 0.0
        self.findings: dict[tuple[str, str, str], Finding] = {}
        self._insert(self.sites.start)

    # -- the search ----------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        max_states: int | None = None,
        max_depth: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Result:
        """Searches until nothing is left, a limit is reached, enough is found or `stop()` says so."""
        began = time.monotonic() - self.spent
        if len(self.levels) == 1 and not self.cursor:
            self._judge(self.sites.start, 0)
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self.workers)) if self.workers > 1 else None
            stopped = ""
            while not stopped:
                frontier = self.levels[-1]
                if self._enough():
                    stopped = "found"
                elif not len(frontier):
                    stopped = "exhausted"
                elif max_depth is not None and len(self.levels) > max_depth:
                    stopped = "max_depth"
                elif max_states is not None and self.states >= max_states:
                    stopped = "max_states"
                elif stop():
                    stopped = "interrupted"
                else:
                    self._batch(frontier, pool)
                self.spent = time.monotonic() - began
                if progress:
                    edges, done = self.edges, self.cursor
                    progress(Progress(self.states, len(self.levels) - 1, len(frontier), done, edges, self.spent))
        undecided: list[str] = []
        if self.goal is not None and not self._enough():
            if stopped == "exhausted":
                self._liveness()
            else:
                undecided.append(f"can every state still reach {self.goal.predicate.text}: the search is not complete")
        self.spent = time.monotonic() - began
        return self._result("found" if self._enough() and stopped == "exhausted" else stopped, tuple(undecided))

    @property
    def asked(self) -> tuple[str, ...]:
        """The questions that are answered along the way."""
        final = [f"final: {self.final.predicate.text}"] if self.final is not None else []
        return (*(j.predicate.text for j in self.always), *final)

    @property
    def states(self) -> int:
        """How many states have been seen."""
        return sum(s.size for s in self.seen)

    def _enough(self) -> bool:
        return bool(self.stop_at) and len(self.findings) >= self.stop_at

    def _batch(self, frontier: Words, pool: ThreadPoolExecutor | None) -> None:
        """Expands the next chunks of the frontier, and closes the level after the last."""
        depth = len(self.levels) - 1
        size = min(CHUNK, max(4096, len(frontier) // self.workers + 1))
        chunks = [frontier[at : at + size] for at in range(self.cursor, len(frontier), size)][: self.workers]
        done = pool.map(self._expand, chunks) if pool and len(chunks) > 1 else map(self._expand, chunks)
        for chunk, (new, edges, cut, stuck) in zip(chunks, done, strict=True):
            self.edges += edges
            self.cut += cut
            self.partial.append(new)
            self._judge_steps(depth)
            if self.final is not None and len(stuck):
                bad = stuck[~self.final(stuck)]
                if len(bad):
                    self._found(
                        "deadlock", "deadlock", "no move is possible and the state is not final", "", bad, depth
                    )
            self._judge(new, depth + 1)
            self.cursor += len(chunk)
        if self.cursor >= len(frontier):
            self.levels.append(np.concatenate(self.partial))
            self.partial, self.cursor = [], 0

    def _expand(self, chunk: Words) -> tuple[Words, int, int, Words]:
        after, origin, cut = self.sites.successors(chunk)
        stuck = chunk[:0]
        if self.final is not None:
            moves = np.bincount(origin, minlength=len(chunk))
            stuck = chunk[(moves == 0) & ~cut]
        return self._insert(after), len(after), int(cut.sum()), stuck

    def _insert(self, keys: Words) -> Words:
        """Adds the states that were not seen yet and returns them."""
        if self.workers == 1:
            new = self.seen[0].missing(keys)
            self.seen[0].add(new)
            return new
        owner = (keys ^ (keys >> np.uint64(31)) ^ (keys >> np.uint64(11))) % np.uint64(self.workers)
        fresh: list[Words] = []
        for k, table in enumerate(self.seen):
            mine = keys[owner == k]
            with self.locks[k]:
                new = table.missing(mine)
                table.add(new)
            fresh.append(new)
        return np.concatenate(fresh)

    # -- the checks ----------------------------------------------------------------------------------------------

    def _judge(self, new: Words, depth: int) -> None:
        """Asks the components' invariants and the system's properties of new states."""
        for k, site in enumerate(self.sites.sites):
            if not site.wrong:
                continue
            local = self.sites.locals_of(k, new)
            for state, problems in tuple(site.wrong.items()):
                bad = np.array([i for i in range(len(site.locals.items)) if site.state_of(i) == state], np.int64)
                where = new[np.isin(local, bad)]
                if len(where):
                    for p in problems:
                        self._found(p.kind, p.id, p.says, site.component.name, where, depth)
        for judge in self.always:
            bad_ones = new[~judge(new)]
            if len(bad_ones):
                self._found("property", judge.predicate.text, "does not hold", "", bad_ones, depth)

    def _judge_steps(self, depth: int) -> None:
        """Reports wrong steps of local states that were expanded for the first time."""
        fresh, self.sites.fresh = self.sites.fresh, []
        for index, local in fresh:
            where = self.levels[depth][self.sites.locals_of(index, self.levels[depth]) == local]
            name = self.sites.sites[index].component.name
            for move in self.sites.moves(index, local):
                for p in move.taken.problems if move.taken else ():
                    self._found(p.kind, p.id, p.says, name, where, depth, (index, move), p)

    def _found(
        self,
        kind: str,
        ident: str,
        says: str,
        component: str,
        where: Words,
        depth: int,
        last: tuple[int, Move] | None = None,
        problem: Problem | None = None,
    ) -> None:
        key = (kind, ident if kind != "not modelled" else says, component)
        if key in self.findings or self._enough():
            return
        title = f"{kind}: {problem.says if problem else says}" if kind != "property" else f"not always: {ident}"
        run = run_to(self.sites, self.levels, int(where[0]), depth, title, last)
        self.findings[key] = Finding(kind, ident, says, component, run)

    def _liveness(self) -> None:
        """Finds the shallowest state from which no goal state can be reached, over the whole graph."""
        assert self.goal is not None
        every = np.concatenate(self.levels)
        rank = np.argsort(every)
        ordered = every[rank]
        good = self.goal(every)
        edges: list[tuple[Any, Any]] = []
        for at in range(0, len(every), CHUNK):
            after, origin, _ = self.sites.successors(every[at : at + CHUNK])
            source, target = origin + at, rank[np.searchsorted(ordered, after)]
            open_ = ~good[source]
            edges.append((source[open_].astype(np.int32), target[open_].astype(np.int32)))
        changed = True
        while changed:
            changed = False
            for i in reversed(range(len(edges))):
                source, target = edges[i]
                hit = good[target]
                if hit.any():
                    good[source[hit]] = True
                    left = ~good[source]
                    edges[i] = (source[left], target[left])
                    changed = True
        lost = np.flatnonzero(~good)
        if len(lost):
            starts = np.cumsum([len(level) for level in self.levels])
            depth = int(np.searchsorted(starts, lost[0], side="right"))
            text = self.goal.predicate.text
            says = f"{len(lost):,} of {len(every):,} states can no longer reach it"
            self._found("liveness", text, says, "", every[lost[:1]], depth)

    # -- results, checkpoints ------------------------------------------------------------------------------------

    def _result(self, stopped: str, undecided: tuple[str, ...]) -> Result:
        checked = [j.predicate.text for j in self.always]
        checked += ["deadlock"] if self.final is not None else []
        checked += [f"liveness: {self.goal.predicate.text}"] if self.goal is not None and not undecided else []
        last = 1 if len(self.levels[-1]) else 2
        return Result(
            system=self.system.name,
            bound=self.system.bound,
            states=self.states,
            edges=self.edges,
            depth=max(0, len(self.levels) - last),
            seconds=self.spent,
            stopped=stopped,
            findings=tuple(self.findings.values()),
            checked=tuple(checked),
            undecided=undecided,
            locals=tuple((s.component.name, len(s.states.items), len(s.locals.items)) for s in self.sites.sites),
            cut=self.cut,
            skipped=self.sites.skipped,
            rules=frozenset(self.sites.rules),
        )

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which `resume` goes on with the same counts."""
        saved = _Saved(
            version=VERSION,
            fingerprint=self.system.fingerprint(),
            system=self.system.name,
            log=self.sites.log.tobytes(),
            levels=tuple(level.tobytes() for level in self.levels),
            partial=b"".join(p.tobytes() for p in self.partial),
            cursor=self.cursor,
            edges=self.edges,
            cut=self.cut,
            skipped=self.sites.skipped,
            seconds=self.spent,
            asked=self.asked,
        )
        beside = path.with_name(path.name + ".part")
        beside.write_bytes(msgspec.msgpack.encode(saved))
        beside.replace(path)

    def load(self, path: Path) -> None:
        """Takes up a checkpoint; raises CheckpointError."""
        try:
            saved = msgspec.msgpack.decode(path.read_bytes(), type=_Saved)
        except OSError as e:
            raise CheckpointError(f"{path}: {e.strerror}") from e
        except msgspec.DecodeError as e:
            raise CheckpointError(f"{path} is no checkpoint of a search: {e}") from e
        if saved.version != VERSION or saved.system != self.system.name:
            raise CheckpointError(f"{path} holds a search of {saved.system} in version {saved.version} of the format")
        if saved.fingerprint != self.system.fingerprint():
            raise CheckpointError(f"{path}: the rules or the bound of {saved.system} have changed since; search anew")
        if saved.asked != self.asked:
            told = "; ".join(saved.asked) or "no properties"
            raise CheckpointError(f"{path} was asked other questions ({told}): ask the same, or search anew")
        log = array("q")
        log.frombytes(saved.log)
        self.sites.replay(log)
        self.sites.skipped = saved.skipped
        self.levels = [np.frombuffer(level, np.uint64) for level in saved.levels]
        self.partial = [np.frombuffer(saved.partial, np.uint64)] if saved.partial else []
        self.cursor, self.edges, self.cut, self.spent = saved.cursor, saved.edges, saved.cut, saved.seconds
        for level in [*self.levels[1:], *self.partial]:
            for at in range(0, len(level), 1 << 20):
                self._insert(level[at : at + (1 << 20)])


def _read(p: Predicate | str, system: System) -> Predicate:
    return predicate(p, system) if isinstance(p, str) else p


def explore(
    system: System,
    *,
    always: Iterable[Predicate | str] = (),
    final: Predicate | str | None = None,
    goal: Predicate | str | None = None,
    max_states: int | None = None,
    max_depth: int | None = None,
    stop_at: int = 1,
    workers: int = 1,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Result:
    """Searches `system` breadth first.

    `always` are properties of every state, besides those that the components bring. `final` turns the deadlock check
    on: a state without moves in which it is false is a finding. `goal` turns the liveness check on: from every state a
    goal state must stay reachable (decided only if the search is exhausted). `stop_at` findings end the search (0:
    never). `workers` threads share the work. On Ctrl-C the search stops within a chunk, is saved to `checkpoint` if one
    is named, and its partial result is returned; `resume` goes on from that file.
    """
    search = Search(system, always=always, final=final, goal=goal, stop_at=stop_at, workers=workers)
    if resume:
        if checkpoint is None:
            raise CheckpointError("resume needs the name of a checkpoint")
        search.load(checkpoint)
    with Interrupt() as interrupt:
        result = search.run(max_states=max_states, max_depth=max_depth, progress=progress, stop=interrupt)
    if checkpoint is not None and result.stopped in ("interrupted", "max_states", "max_depth"):
        search.save(checkpoint)
    return result
