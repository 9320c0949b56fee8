"""What is guessed of one neighbour entry, and what a host's circumstances are: the words that its checker shares."""

from typing import Any, Final

from msgspec import Struct

from conformance.check.frontier import Apply, Trail
from refmodel.neigh.netlink import NewNeigh
from refmodel.neigh.parms import NeighParms
from refmodel.neigh.types import Absent, Neigh, Notify, Stray

NOTE_LATE: Final = 400_000
TRUESIZE: Final = 768

State = Absent | Neigh | Stray


class Told(Struct, frozen=True):
    """A notice that the machine gave at `since`; somebody must have read it by `due` (us)."""

    effect: Notify
    rule: str
    since: int
    due: int


class Waiting(Struct, frozen=True):
    """`n` packets of arp_queue that must leave for `ha` by `due` (us)."""

    n: int
    ha: int
    rule: str
    step: str
    due: int


class Guess(Struct, frozen=True):
    """One way in which everything seen so far can have come about.

    `loose` is a deadline whose start nobody saw, and how much earlier (us) it may lie; `calls` counts the
    administrator's requests that took effect. `took` and `lost` are requests
    not yet answered.
    """

    state: State
    waiting: Waiting | None = None
    told: tuple[Told, ...] = ()
    loose: tuple[int, int] = (0, 0)
    calls: int = 0
    took: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    cost: int = 0
    trail: Trail | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells guesses apart for the future."""
        return self.state, self.waiting, self.told, self.loose, self.calls, self.took, self.lost


class Administered(Struct, frozen=True):
    """What an administrator did to the entry between `time` and `until` (us): RTM_NEWNEIGH, or RTM_DELNEIGH if None."""

    time: int
    until: int
    request: NewNeigh | None

    @property
    def uses(self) -> bool:
        """The request asks for resolution."""
        return self.request is not None and self.request.use


class Ways(Struct, frozen=True):
    """How the host was observed: `noted`: its notifications were recorded; `late` and `hz` as in the setup.

    `upheavals` are the times (us) at which devices were changed: entries may have gone with them. `path` is how much
    later (us) than the host sends something the tap may see it, and `lossy` that something did not get there.
    """

    apply: Apply
    params: NeighParms
    hz: int
    late: int
    noted: bool
    upheavals: tuple[tuple[int, int], ...] = ()
    path: int = 0
    lossy: bool = False
