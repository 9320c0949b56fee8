"""k-induction: where one step from an arbitrary state is not enough, ask of the last step of a run of k.

A property that fails plain induction may hold after every run of k steps whose earlier states have all invariants
(itself among them), and after the first k - 1 steps from the initial states. The runs are chains of lifted rules over
the cells that can follow each other; how many are tried is bounded, and going over the bound proves nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from refmodel.engine import build
from refmodel.engine.cells import Asked, Cell, Reading, Setting
from refmodel.engine.lift import LiftedRule
from refmodel.engine.paths import Explorer, Undecided
from refmodel.engine.report import Counterexample
from refmodel.engine.space import Space, entered
from refmodel.engine.symbols import Symbols, concrete, in_model
from refmodel.rule import NotEnabled, State

CHAINS = 5_000  # runs of rules tried for one property in one rule's cell
Place = tuple[type[State], Any]
Link = tuple[Cell, LiftedRule]


class Outcome(Struct, frozen=True):
    """`k` that sufficed, or 0 with the run that breaks the property, if one was found."""

    k: int
    queries: int
    counterexample: Counterexample | None = None


class Longer:
    """Asks of runs. What can follow what is found once and kept."""

    def __init__(self, reading: Reading, cells: Sequence[Cell], initial: Sequence[State], effort: int) -> None:
        self.reading = reading
        self.cells = cells
        self.initial = initial
        self.effort = effort
        self.queries = 0
        self._before: dict[Place, list[Link]] | None = None

    def proves(self, cell: Cell, r: LiftedRule, a: Asked, k: int) -> Outcome:
        """Whether property `a` holds after the last of 2..k steps, the last being `r` in `cell`."""
        start = self.queries
        worst: Counterexample | None = None
        for length in range(2, k + 1):
            try:
                worst = self._breaks(cell, r, a, length)
                if worst is None:
                    reached = self._breaks_early(cell, r, a, length)
                    return Outcome(0 if reached else length, self.queries - start, reached)
            except Undecided:
                return Outcome(0, self.queries - start)
        return Outcome(0, self.queries - start, worst)

    def _breaks(self, cell: Cell, r: LiftedRule, a: Asked, length: int) -> Counterexample | None:
        """A run of `length` steps from an arbitrary state that breaks `a` in its last step."""
        for tried, links in enumerate(self._chains(cell, r, length)):
            if tried == CHAINS:
                raise Undecided(f"more than {CHAINS} runs of {length} rules")
            found = self._run(links, a, None)
            if found is not None:
                return found
        return None

    def _breaks_early(self, cell: Cell, r: LiftedRule, a: Asked, length: int) -> Counterexample | None:
        """The base case: a run of fewer steps from an initial state that breaks the property."""
        for s in self.initial:
            here = (type(s), getattr(s, s.AT) if s.AT else None)
            for steps in range(1, length):
                for links in self._chains(cell, r, steps):
                    if (links[0][0].state, links[0][0].at) != here:
                        continue
                    found = self._run(links, a, s)
                    if found is not None:
                        return found
        return None

    def _chains(self, cell: Cell, r: LiftedRule, length: int) -> Iterator[tuple[Link, ...]]:
        """Runs of rules that end with `r` in `cell`."""
        if length == 1:
            yield ((cell, r),)
            return
        for before in self._predecessors().get((cell.state, cell.at), []):
            for head in self._chains(*before, length - 1):
                yield (*head, (cell, r))

    def _predecessors(self) -> dict[Place, list[Link]]:
        """Which rules in which cells can lead to a place."""
        if self._before is None:
            self._before = {}
            for cell in self.cells:
                for r in self.reading.rules(cell):
                    for place in self._places(cell, r):
                        self._before.setdefault(place, []).append((cell, r))
        return self._before

    def _places(self, cell: Cell, r: LiftedRule) -> list[Place]:
        out: dict[Place, None] = {}
        with entered(Space()) as here:
            setting = Setting(self.reading, cell)
            if setting.excluded:
                return []
            exists = self.reading.exists(r.rule, setting.kernel)
            explorer = Explorer(here, [*setting.hypotheses, exists], effort=self.effort)
            if explorer.possible(build.boolean(True)):
                for _, (t, _) in explorer.paths(lambda: self.reading.step(r, setting.s, setting.e, setting.p)):
                    out[type(t), getattr(t, t.AT) if t.AT else None] = None
            self.queries += explorer.queries
        return list(out)

    def _run(self, links: tuple[Link, ...], a: Asked, start: State | None) -> Counterexample | None:
        """A run along `links`, from any state or from `start`, that breaks `a` at its end; raises Undecided."""
        with entered(Space()) as here:
            setting = Setting(self.reading, links[0][0])
            first = setting.s
            hypotheses = list(setting.hypotheses)
            if start is not None:
                first = start
                hypotheses = list(setting.symbols.hypotheses)
            exist = [self.reading.exists(r.rule, setting.kernel) for _, r in links]
            explorer = Explorer(here, [*hypotheses, *exist], effort=self.effort)

            def reading() -> Any:
                s, seen = first, []
                for i, (cell, r) in enumerate(links):
                    e = self._event(explorer, cell, s, setting, i) if i or start is not None else setting.e
                    t, effects = self.reading.step(r, s, e, setting.p)
                    seen.append((s, e, t, effects))
                    if i + 1 < len(links):
                        self._is_at(explorer, links[i + 1][0], t, setting.p)
                    s = t
                return seen

            found = None
            if explorer.possible(build.boolean(True)):
                for _, seen in explorer.paths(reading):
                    found = found or self._broken(explorer, a, seen, setting, links)
            self.queries += explorer.queries
            return found

    def _event(self, explorer: Explorer, cell: Cell, s: Any, setting: Setting, i: int) -> Any:
        """A fresh event for step `i` of a run."""
        symbols = Symbols()
        e = symbols.make(cell.event, f"e{i}", beside=s)
        for h in symbols.hypotheses:
            explorer.assume_term(h)
        for _, t in self.reading.assumption_terms(cell, s, e, setting.p):
            explorer.assume_term(t)
        return e

    def _is_at(self, explorer: Explorer, cell: Cell, t: Any, p: Any) -> None:
        """Goes on only where the run is where the next rule starts, with all invariants."""
        at = getattr(t, t.AT) if t.AT else None
        if type(t) is not cell.state or at != cell.at:
            raise NotEnabled("the run goes elsewhere")
        for _, term in self.reading.invariant_terms(cell.state, cell.at, t, p):
            explorer.assume_term(term)

    def _broken(
        self, explorer: Explorer, a: Asked, seen: list[Any], setting: Setting, links: tuple[Link, ...]
    ) -> Counterexample | None:
        s, e, t, effects = seen[-1]
        cell = links[-1][0]
        at = getattr(t, t.AT) if t.AT else None
        if a.property.kind == "invariant":
            if not a.about(type(t), at):
                return None
            term = self.reading.value(a, {"s": t, "p": setting.p})
        else:
            if not a.ends(cell.state, type(t)):
                return None
            term = self.reading.value(a, {"s": s, "e": e, "t": t, "effects": effects, "p": setting.p})
        if not explorer.possible(build.negated(term)):
            return None
        ev = in_model(explorer.solver.model())
        plain = [tuple(concrete(x, ev) for x in step) for step in seen]
        p = concrete(setting.p, ev)
        last_s, last_e, last_t, last_effects = plain[-1]
        return Counterexample(
            state=last_s,
            event=last_e,
            params=p,
            next=last_t,
            effects=last_effects,
            before=tuple((x[0], x[1]) for x in plain[:-1]),
            confirmed=self._replays(links, plain, p),
        )

    def _replays(self, links: tuple[Link, ...], plain: list[Any], p: Any) -> bool:
        """Whether the rules, run on the plain values, take these steps."""
        try:
            return all(r.body(s, e, p)[0] == t for (_, r), (s, e, t, _) in zip(links, plain, strict=True))
        except NotEnabled:
            return False
