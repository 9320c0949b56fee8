"""Systems for the search: one neighbour entry, whoever uses it, and whoever answers.

An entry does not know what time it is, only when things were; `recent` moves its times so that the latest is RECENT and
cuts what lies further back than any parameter looks. An event comes at once, after a while, or when the timer is due.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from refmodel.engine.explore_system import Budget, System, machine_component
from refmodel.neigh import NEIGH
from refmodel.neigh.parms import Family, parms
from refmodel.neigh.types import (
    IN_TIMER,
    NUD,
    Absent,
    Confirm,
    Create,
    Delete,
    EventSend,
    Flush,
    Neigh,
    Output,
    Override,
    PeriodicGc,
    Release,
    Stray,
    Timer,
    Update,
)
from refmodel.profile import REFERENCE, profile
from refmodel.rule import Event
from refmodel.types import NEVER

SECOND: Final = 1_000_000
RECENT: Final = 1_000 * SECOND
HORIZON: Final = 100 * SECOND
PACKET: Final = 1_000
LONG: Final = 70 * SECOND  # beyond reachable time and gc_stale_time

NO_QUEUE: Final = "entry.type != 'Neigh' or entry.qlen == 0"
SETTLED: Final = "entry.type != 'Neigh' or entry.nud_state in (STALE, FAILED, NOARP, PERMANENT, NUD.NONE)"


def recent(s: Any) -> Any:
    """The entry with its times moved: the latest of them is RECENT, none lies more than HORIZON before it."""
    if not isinstance(s, Neigh):
        return s
    latest = max(s.confirmed, s.updated, s.used)
    move = RECENT - latest
    return replace(
        s,
        confirmed=max(s.confirmed + move, RECENT - HORIZON),
        updated=max(s.updated + move, RECENT - HORIZON),
        used=max(s.used + move, RECENT - HORIZON),
        timer=s.timer if s.timer >= NEVER else max(s.timer + move, RECENT - HORIZON),
    )


def entry(
    *,
    family: Family = Family.INET,
    kernel: str = REFERENCE,
    probes: int = 1,
    queue: int = 2,
    addresses: int = 2,
    netlink: bool = True,
    gc: bool = True,
) -> System:
    """One entry with `probes` solicitations of each kind and room for `queue` packets, answered from `addresses`.

    `netlink`: the administrator acts. `gc`: garbage collection and device events happen.
    """
    per = "ipv4" if family == Family.INET else "ipv6"
    knobs = {"ucast_solicit": probes, "mcast_solicit": probes, "unres_qlen_bytes": queue * PACKET}
    chosen = profile(kernel, sysctls={f"net.{per}.neigh.default.{n}": v for n, v in knobs.items()})

    def moves(s: Any, budget: Budget) -> Iterable[tuple[Event, Budget]]:
        for e in proposed(s, queue, addresses, netlink, gc):
            yield e, budget

    part = machine_component(
        "entry", NEIGH, Absent(), parms(chosen, family), moves=moves, canonical=recent, kernel=kernel
    )
    about = f"{probes} solicitations of each kind, room for {queue} packets, {addresses} addresses"
    about += f", administrator: {netlink}, garbage collection and device events: {gc}"
    return System(name=f"a neighbour entry ({per})", components=(part,), sources=(__name__,), about=about)


def proposed(s: Any, queue: int, addresses: int, netlink: bool, gc: bool) -> Iterable[Event]:
    """What may happen to an entry: use, confirmation, its timer, answers, the administrator, garbage collection."""
    if isinstance(s, Absent):
        yield Create(now=RECENT)
        return
    for now in (RECENT, RECENT + LONG):
        if isinstance(s, Neigh):
            evicted = s.qlen if s.qlen < queue else 1
            fits = s.qlen < queue
            yield Output(
                now=now,
                truesize=PACKET,
                evicted=0 if fits else evicted,
                evicted_bytes=0 if fits else PACKET,
                evicted_last=0 if fits else PACKET,
            )
        else:
            yield Output(now=now, truesize=PACKET)
        yield Confirm(now=now)
        for address in range(1, addresses + 1):
            yield Update(now=now, new=NUD.REACHABLE, lladdr=address, override=Override.AFTER_LOCKTIME)
            yield Update(now=now, new=NUD.STALE, lladdr=address, override=Override.YES)
    yield EventSend(now=RECENT)
    if isinstance(s, Stray):
        yield Release(now=RECENT)
        return
    if s.nud_state in IN_TIMER and s.timer < NEVER:
        yield Timer(now=max(s.timer, RECENT))
    for held in (False, True):
        if gc:
            yield PeriodicGc(now=RECENT + LONG, entries=1000, held=held)
            yield Flush(now=RECENT, held=held)
        if netlink:
            yield Delete(now=RECENT, held=held)
    if netlink:
        for new in (NUD.PERMANENT, NUD.NOARP, NUD.FAILED, NUD.DELAY, NUD.PROBE):
            known = new not in (NUD.FAILED,)
            yield Update(now=RECENT, new=new, lladdr=1, has_lladdr=known, override=Override.YES, admin=True)
