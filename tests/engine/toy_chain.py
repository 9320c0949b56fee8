"""A toy machine whose property needs runs of three steps: a value moves along a chain of fields."""

from msgspec.structs import replace

from refmodel.rule import Effect, Event, Machine, Params, State, invariant, machine, rule


class Chain(State, frozen=True):
    a: bool = True
    b: bool = True
    c: bool = True


class Move(Event, frozen=True):
    pass


class NoParams(Params, frozen=True):
    pass


@rule("toy.c:move")
def move(s: Chain, e: Move, p: NoParams) -> tuple[Chain, tuple[Effect, ...]]:
    """Everything moves on by one; the first stays."""
    return replace(s, b=s.a, c=s.b), ()


@invariant()
def last_is_true(s: Chain) -> bool:
    """The last field is always true."""
    return s.c


CHAIN = machine(Machine("chain", "A chain", {Chain: (Move,)}, NoParams, (__name__,)))
