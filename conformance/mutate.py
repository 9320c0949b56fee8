"""Mutants of captures: one thing changed that a real kernel would not have done, to see that the checker says no.

The law: a mutant is made only where the specification constrains what is changed: its kind says by what, and looks at
the frames around for what would make the change legal. A frame of a crafted peer is never mutated. Checksums are put
right again, ids and timestamps go along where the change would otherwise show in them alone, so that it is the
behaviour that is judged. The kinds themselves are in `mutate_fields`, `mutate_order` and `mutate_recovery`.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

import conformance.mutate_fields
import conformance.mutate_order
import conformance.mutate_recovery  # noqa: F401  (they register their kinds)
from conformance.frames import Frame
from conformance.mutate_kind import REGISTRY, Kind, Made
from conformance.mutate_trace import Trace, numbered

KINDS: Final = tuple(REGISTRY)


class Mutant(Struct, frozen=True):
    """A changed capture: `at` is the number (in the mutant) of the frame that is wrong, 0 if a frame is missing.

    `after` is the number of the first frame behind the change, `original` that of the mutated frame in the original.
    """

    kind: str
    original: int
    at: int
    after: int
    frames: tuple[Frame, ...]
    says: str


def mutants(
    t: Trace,
    kinds: Sequence[str],
    rng: random.Random,
    each: int = 1,
    free: frozenset[int] = frozenset(),
    tries: int = 400,
) -> Iterator[Mutant]:
    """Up to `each` mutants of every kind, at frames drawn evenly; at most `tries` frames are looked at for a kind.

    `free` are the numbers of frames whose time an application chose.
    """
    for name in kinds:
        k = REGISTRY[name]
        if k.sidecar and not t.setup.hosts:
            continue
        found = 0
        for i in rng.sample(t.mine, len(t.mine))[:tries]:
            if found == each:
                break
            if k.timed and t.frames[i].number in free:
                continue
            made = k.make(t, i, rng)
            if made is not None:
                found += 1
                yield finished(name, t.frames[i].number, made)


def finished(name: str, original: int, made: Made) -> Mutant:
    """The mutant with its frames numbered."""
    at = made.at + 1 if made.at >= 0 else 0
    after = made.after + 1 if made.after >= 0 else at + 1 if at else original
    return Mutant(name, original, at, after, numbered(made.frames), REGISTRY[name].says)


__all__ = ["KINDS", "REGISTRY", "Kind", "Mutant", "finished", "mutants"]
