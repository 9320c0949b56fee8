"""Path enumeration: run a reading again and again, taking each feasible combination of branches once."""

from collections.abc import Callable, Iterator
from typing import Any

import z3

from refmodel.engine import build
from refmodel.engine.linear import merge, truth
from refmodel.engine.space import CannotMerge, Space, Unprovable, space
from refmodel.rule import NotEnabled

EFFORT = 40_000_000  # z3 resource units a query may use: some ten seconds, and the same on every machine
Decision = tuple[Any, bool]


class Undecided(Exception):
    """z3 gave no answer within its effort. Never counted as success."""


class Path(tuple[Decision, ...]):
    """The branches taken, each with the condition that was decided."""


def conjunction(decisions: tuple[Decision, ...] | list[Decision]) -> list[Any]:
    """The decisions as terms that hold on the path."""
    return [t if taken else build.negated(t) for t, taken in decisions]


class Explorer:
    """Enumerates the paths of a reading under hypotheses, with one incremental solver.

    Re-execution is Python only: a branch that an earlier run settled is not asked again. Without `feasible` branches
    are enumerated by syntax alone, which costs no query and may visit paths that cannot happen.
    """

    def __init__(self, within: Space, hypotheses: list[Any], feasible: bool = True, effort: int = EFFORT) -> None:
        self.space = within
        self.feasible = feasible
        self.solver: Any = None
        if feasible:
            self.solver = z3.Solver(ctx=within.ctx)
            self.solver.set(rlimit=effort, ctrl_c=False)  # Ctrl-C ends the proof; z3 would call it an unknown answer
            self.solver.add(hypotheses)
        self.queries = 0
        self._depth = 0
        self._prefix: list[Decision] = []
        self._taken: list[Decision] = []
        self._todo: list[list[Decision]] = []

    def ask(self, *terms: Any) -> Any:
        """Whether `terms` can hold on the current path: z3.sat, z3.unsat or z3.unknown."""
        self.queries += 1
        return self.solver.check(*terms)

    def possible(self, term: Any) -> bool:
        """Whether `term` can hold on the current path; raises Undecided."""
        answer = self.ask(term)
        if answer == z3.unknown:
            raise Undecided(str(self.solver.reason_unknown()))
        return bool(answer == z3.sat)

    def decide(self, term: Any) -> bool:
        """Takes a branch and remembers the other one for later."""
        i = len(self._taken)
        if i < len(self._prefix):
            return self._enter(term, self._prefix[i][1], i == len(self._prefix) - 1)
        yes = not self.feasible or self.possible(term)
        no = not self.feasible or not yes or self.possible(build.negated(term))
        if yes and no:
            self._todo.append([*self._taken, (term, False)])
        return self._enter(term, yes, True)

    def assume(self, condition: Any, why: str = "") -> None:
        """Goes on only where `condition` holds, without a fork; raises NotEnabled where it cannot."""
        self.assume_term(truth(condition), why)

    def assume_term(self, term: Any, why: str = "") -> None:
        """As `assume`, of a z3 term."""
        t = z3.simplify(term)
        if build.is_true(t):
            return
        if build.is_false(t):
            raise NotEnabled(why)
        i = len(self._taken)
        if i < len(self._prefix):
            self._enter(t, True, i == len(self._prefix) - 1)
            return
        if self.feasible and not self.possible(t):
            raise NotEnabled(why)
        self._enter(t, True, True)

    def _enter(self, term: Any, taken: bool, fresh: bool) -> bool:
        self._taken.append((term, taken))
        if fresh and self.feasible:
            self.solver.push()
            self._depth += 1
            self.solver.add(term if taken else build.negated(term))
        return taken

    def paths(self, reading: Callable[[], Any]) -> Iterator[tuple[Path, Any]]:
        """Each path with its result; the solver holds hypotheses and path while the caller looks.

        A path whose `require` failed is not given.
        """
        work: list[list[Decision]] = [[]]
        while work:
            self._prefix, self._taken, self._todo = work.pop(), [], []
            keep = max(len(self._prefix) - 1, 0)
            if self._depth > keep:
                self.solver.pop(self._depth - keep)
                self._depth = keep
            outer, self.space.decider = self.space.decider, self
            enabled, result = True, None
            try:
                result = reading()
            except NotEnabled:
                enabled = False
            finally:
                self.space.decider = outer
            work += self._todo
            if enabled:
                yield Path(self._taken), result
        if self._depth:
            self.solver.pop(self._depth)
            self._depth = 0


class _Local:
    """Decides by syntax within one run of a helper that is being merged."""

    def __init__(self, prefix: list[Decision]) -> None:
        self.prefix = prefix
        self.taken: list[Decision] = []
        self.known: dict[int, bool] = {}

    def decide(self, term: Any) -> bool:
        key = int(term.get_id())
        if key in self.known:
            return self.known[key]
        i = len(self.taken)
        value = self.prefix[i][1] if i < len(self.prefix) else True
        self.taken.append((term, value))
        self.known[key] = value
        return value


def merged(fn: Callable[[], Any]) -> Any:
    """The result of `fn` over all its branches as one value; raises CannotMerge if the branches differ in shape."""
    here = space()

    def tree(prefix: list[Decision]) -> Any:
        local = _Local(prefix)
        outer, here.decider = here.decider, local
        try:
            leaf = fn()
        finally:
            here.decider = outer
        for i in range(len(local.taken) - 1, len(prefix) - 1, -1):
            cond = local.taken[i][0]
            leaf = merge(cond, leaf, tree([*local.taken[:i], (cond, False)]))
        return leaf

    return tree([])


def term_of(fn: Callable[..., Any], *args: Any) -> Any:
    """A predicate's value as one simplified z3 term; raises Unprovable if it is not a truth value."""
    try:
        value = merged(lambda: fn(*args))
    except CannotMerge as why:
        raise Unprovable(f"{fn.__name__} does not give a truth value on every branch: {why}") from why
    return z3.simplify(truth(value))
