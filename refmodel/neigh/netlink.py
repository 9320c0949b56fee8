"""RTM_NEWNEIGH, RTM_DELNEIGH and dumps: which events of the neighbour machine a request is, and what a dump shows."""

from typing import Final

from msgspec import Struct

from refmodel.neigh.types import NUD, VALID, Create, Errno, EventSend, Neigh, Override, Update

Events = tuple[Create | Update | EventSend, ...]

ENOENT: Final = 2
EEXIST: Final = 17


class NewNeigh(Struct, frozen=True):
    """RTM_NEWNEIGH: ndm_state, NDA_LLADDR, NLM_F_* and NTF_* flags of an entry that is not a proxy's."""

    now: int
    state: NUD
    lladdr: int = 0
    has_lladdr: bool = True
    create: bool = True
    excl: bool = False
    replace: bool = False
    use: bool = False
    managed: bool = False
    ext_learned: bool = False
    router: bool = False


class Info(Struct, frozen=True):
    """What neigh_fill_info says of an entry. Ages are us; -1 for an address says that NDA_LLADDR is absent."""

    state: NUD
    lladdr: int
    probes: int
    used: int
    confirmed: int
    updated: int
    router: bool
    ext_learned: bool
    managed: bool


def neigh_add(r: NewNeigh, exists: bool) -> tuple[int, Events]:
    """(errno, events) of a request, where `exists` says that the table has the entry.

    The events are fed in order; the last Update's Result is the request's own error, and EventSend follows only if
    that is OK. Source net/core/neighbour.c:neigh_add.
    """
    permanent = r.state == NUD.PERMANENT
    made: Events = ()
    over = Override.YES
    over_router = True
    if not exists:
        if not r.create:
            return ENOENT, ()
        if permanent and r.managed:
            return int(Errno.EINVAL), ()
        made = (Create(r.now, netlink=True, permanent=permanent, ext_learned=r.ext_learned, managed=r.managed),)
    else:
        if r.excl:
            return EEXIST, ()
        if not r.replace:
            over, over_router = Override.NO, False
    update = Update(
        r.now,
        r.state,
        lladdr=r.lladdr,
        has_lladdr=r.has_lladdr,
        override=over,
        override_isrouter=over_router,
        isrouter=r.router,
        admin=True,
        use=r.use,
        managed=r.managed,
        ext_learned=r.ext_learned,
    )
    poked: Events = (EventSend(r.now),) if r.use or r.managed else ()
    return 0, (*made, update, *poked)


def neigh_fill_info(s: Neigh, now: int) -> Info:
    """What a dump or a notice shows of `s` at `now` (us); source net/core/neighbour.c:neigh_fill_info."""
    return Info(
        state=s.nud_state,
        lladdr=s.ha if s.nud_state in VALID else -1,
        probes=s.probes,
        used=now - s.used,
        confirmed=now - s.confirmed,
        updated=now - s.updated,
        router=s.router,
        ext_learned=s.ext_learned,
        managed=s.managed,
    )
