"""One neighbour entry as a host or a checker drives it: the rules' state, and what arp_queue holds."""

from collections.abc import Callable
from typing import Any

from refmodel.neigh.parms import NeighParms
from refmodel.neigh.types import Absent, Neigh, Output, Queue, Stray
from refmodel.rule import Event, Params, Rule, State
from refmodel.types import NEVER


def evictions(sizes: tuple[int, ...], truesize: int, limit: int) -> tuple[int, int, int]:
    """(packets, bytes, bytes of the last) that leave the head of a queue of `sizes` for a packet of `truesize` bytes.

    Source net/core/neighbour.c:__neigh_event_send.
    """
    n, total, last = 0, sum(sizes), 0
    gone = 0
    while n < len(sizes) and total - gone + truesize > limit:
        last = sizes[n]
        gone += last
        n += 1
    return n, gone, last


Apply = Callable[[State, Event, Params], tuple[Rule, State, tuple[Any, ...]]]


class Entry:
    """An entry's run: `feed` applies the one enabled rule and keeps the sizes of the packets that wait.

    `apply` is a dispatcher's over the machine's rules, as `pick(NEIGH).apply`.
    """

    def __init__(self, parms: NeighParms, apply: Apply, state: Absent | Neigh | Stray | None = None) -> None:
        self.parms = parms
        self.state: Absent | Neigh | Stray = Absent() if state is None else state
        self.sizes: tuple[int, ...] = ()
        self._apply = apply

    @property
    def deadline(self) -> int:
        """When the timer fires (us), or NEVER."""
        return self.state.timer if isinstance(self.state, Neigh) else NEVER

    def feed(self, e: Event) -> tuple[Rule, tuple[Any, ...]]:
        """Applies an event; raises NotModelled or AssumptionBroken."""
        r, new, effects = self._apply(self.state, e, self.parms)
        if isinstance(e, Output) and any(isinstance(x, Queue) for x in effects):
            self.sizes = (*self.sizes[e.evicted :], e.truesize)
        if not (isinstance(new, Neigh) and new.qlen):
            self.sizes = ()
        if not isinstance(new, (Absent, Neigh, Stray)):
            raise TypeError(f"{r.id} gives a {type(new).__name__}")
        self.state = new
        return r, effects

    def output(
        self, now: int, truesize: int, confirm: bool = False, skip_cache: bool = False
    ) -> tuple[Rule, tuple[Any, ...]]:
        """A packet of `truesize` bytes goes out at `now` (us); the sizes say whom it drives out of the queue."""
        n, gone, last = evictions(self.sizes, truesize, self.parms.queue_len_bytes)
        return self.feed(Output(now, truesize, confirm, skip_cache, n, gone, last))
