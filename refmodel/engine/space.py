"""The space of one question: its z3 context, its atoms with their bounds, its caches, and who decides branches.

A space is made for one question and thrown away, so that answers don't depend on what was asked before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import z3


class Unprovable(Exception):
    """The source uses something that the prover doesn't read. Its text says where, what, and what to write instead."""


class CannotMerge(Exception):
    """Two values have no common shape: the reading must fork."""


class Decider(Protocol):
    """Who answers an `if` on a symbolic condition."""

    def decide(self, term: Any) -> bool:
        """The branch to take for the simplified z3 term."""


class Atom(NamedTuple):
    """A z3 integer term that forms are built from, with bounds that are known to hold."""

    term: Any
    lo: int
    hi: int


class Space:
    """The arena of one question: z3 context, atoms, caches, and who decides branches at the moment."""

    def __init__(self) -> None:
        self.ctx = z3.Context()
        self.true = z3.BoolVal(True, self.ctx)
        self.false = z3.BoolVal(False, self.ctx)
        self.true_id = int(self.true.get_id())
        self.false_id = int(self.false.get_id())
        self.numerals: dict[int, Any] = {}
        self.atoms: dict[int, Atom] = {}
        self.reduced: dict[Any, Any] = {}
        self.pure: dict[Any, tuple[Any, Any]] = {}
        self.decider: Decider | None = None

    def atom(self, term: Any, lo: int, hi: int) -> int:
        """Registers `term`, known to lie in [lo, hi]; the key stays valid as long as the space."""
        key = int(term.get_id())
        old = self.atoms.get(key)
        self.atoms[key] = Atom(term, lo, hi) if old is None else Atom(term, max(lo, old.lo), min(hi, old.hi))
        return key

    def decide(self, term: Any) -> bool:
        """Takes a branch; raises Unprovable where nobody may (a property's annotation or a constant)."""
        t = z3.simplify(term)
        known = int(t.get_id())
        if known == self.true_id:
            return True
        if known == self.false_id:
            return False
        if self.decider is None:
            raise Unprovable("a symbolic condition was used as a plain truth value outside a rule")
        return self.decider.decide(t)


_current: list[Space] = []


def space() -> Space:
    """The space of the question under way."""
    if not _current:
        raise Unprovable("symbolic values exist only while a proof is under way")
    return _current[-1]


@contextmanager
def entered(s: Space) -> Iterator[Space]:
    """Makes `s` the current space."""
    _current.append(s)
    try:
        yield s
    finally:
        _current.pop()
