"""What a kind of mutant is, and the registry of all kinds."""

import random
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from conformance.frames import Frame
from conformance.mutate_trace import Trace


class Made(Struct, frozen=True):
    """What a kind makes: the frames as a list in their new order, and the index of the wrong one (-1: it is missing).

    `after` is the index of the first frame behind the change if that is not the next one.
    """

    frames: list[Frame]
    at: int
    after: int = -1


Make = Callable[[Trace, int, random.Random], Made | None]


class Kind(Struct, frozen=True):
    """A kind of mutant: what is changed, what constrains it, what may still make one legal ('': nothing).

    `sidecar`: it is wrong only where a sidecar says which kernel and sysctls these were, that the capture lost nothing,
    and which host was tapped. `timed`: an application chooses when these frames go, so that only others are taken.
    """

    name: str
    says: str
    constraint: str
    make: Make
    free: str = ""
    sidecar: bool = False
    timed: bool = False


REGISTRY: Final[dict[str, Kind]] = {}


def kind(
    name: str, says: str, constraint: str, free: str = "", sidecar: bool = False, timed: bool = False
) -> Callable[[Make], Make]:
    """Registers a function as the maker of mutants of a kind."""

    def register(make: Make) -> Make:
        REGISTRY[name] = Kind(name, says, constraint, make, free, sidecar, timed)
        return make

    return register


__all__ = ["REGISTRY", "Kind", "Made", "Make", "kind"]
