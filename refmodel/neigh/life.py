"""How entries come and go: constructor, deletion, device events, garbage collection."""

from enum import IntEnum

from msgspec.structs import replace

from refmodel.neigh.output import Effects
from refmodel.neigh.parms import NeighParms, Ops
from refmodel.neigh.types import (
    IN_TIMER,
    NUD,
    STATES,
    VALID,
    Absent,
    Confirm,
    Create,
    Delete,
    Drop,
    DropQueued,
    Errno,
    EventSend,
    Flush,
    ForcedGc,
    Neigh,
    PeriodicGc,
    Reason,
    Release,
    Stray,
    Update,
    connected_output,
    delneigh,
    plain_output,
)
from refmodel.neigh.update import fail
from refmodel.rule import Mib, pure, require, rule, step
from refmodel.types import NEVER

GC_OLD = 5_000_000  # us: neigh_forced_gc spares what was updated within 5 s


class Setup(IntEnum):
    """What the constructor makes of a key, in the kernel's order."""

    DIRECT = 0  # the device has no headers
    MULTICAST = 1  # the group's mapped address
    OWN = 2  # IFF_NOARP or IFF_LOOPBACK: the device's own address
    BROADCAST = 3  # a broadcast address, or IFF_POINTOPOINT: the device's broadcast address
    RESOLVE = 4


@pure
def setup(e: Create, p: NeighParms) -> Setup:
    """Classifies a key; source net/ipv4/arp.c:arp_constructor, net/ipv6/ndisc.c:ndisc_constructor."""
    if p.ops == Ops.DIRECT:
        return Setup.DIRECT
    if e.multicast:
        return Setup.MULTICAST
    if p.noarp or p.loopback:
        return Setup.OWN
    if e.broadcast or p.pointopoint:
        return Setup.BROADCAST
    return Setup.RESOLVE


@pure
def exempt(e: Create, p: NeighParms) -> bool:
    """The entry stays off gc_list; loopback's do since 6.12. Source net/core/neighbour.c:__neigh_create, neigh_add."""
    return e.permanent or e.ext_learned if e.netlink else p.loopback and p.kernel >= 612


@pure
def full(e: Create, p: NeighParms) -> bool:
    """The table is full and collecting freed nothing; source net/core/neighbour.c:neigh_alloc."""
    return not exempt(e, p) and e.entries >= p.gc_thresh3 and e.gc_freed == 0


@pure
def newborn(e: Create, p: NeighParms) -> Neigh:
    """An entry as ___neigh_create leaves it, but for state, output and address."""
    return Neigh(
        nud_state=NUD.NONE,
        ops=p.ops,
        output=plain_output(p.ops),
        ha=0,
        ha_set=False,
        hh=False,
        hh_ha=0,
        probes=0,
        confirmed=e.now - 2 * p.base_reachable_time,
        updated=e.now,
        used=e.now,
        timer=NEVER,
        qlen=0,
        qbytes=0,
        router=False,
        ext_learned=e.netlink and e.ext_learned,
        managed=e.netlink and e.managed,
        on_gc_list=not exempt(e, p),
    )


@rule("net/core/neighbour.c:___neigh_create", "net/ipv4/arp.c:arp_constructor")
def create(s: Absent, e: Create, p: NeighParms) -> tuple[Neigh, Effects]:
    """A unicast address on a device with addresses is yet to be resolved."""
    require(not full(e, p), "the table has room")
    require(setup(e, p) == Setup.RESOLVE, "the address is to be resolved")
    return newborn(e, p), (Mib(name="allocs"),)


@rule("net/core/neighbour.c:___neigh_create", "net/ipv4/arp.c:arp_constructor")
def create_noarp(s: Absent, e: Create, p: NeighParms) -> tuple[Neigh, Effects]:
    """An address that needs no resolution is NOARP from its birth."""
    require(not full(e, p), "the table has room")
    require(setup(e, p) != Setup.RESOLVE, "the address needs no resolution")
    kind = setup(e, p)
    known = (
        e.mc_ha
        if kind == Setup.MULTICAST
        else p.dev_addr
        if kind == Setup.OWN
        else p.broadcast
        if kind == Setup.BROADCAST
        else 0
    )
    t = replace(newborn(e, p), nud_state=NUD.NOARP, ha=known, ha_set=True, output=connected_output(p.ops))
    return t, (Mib(name="allocs"),)


@rule("net/core/neighbour.c:neigh_alloc")
def create_full(s: Absent, e: Create, p: NeighParms) -> tuple[Absent, Effects]:
    """With gc_thresh3 entries and nothing to collect there is no new entry, and the packet is dropped."""
    require(full(e, p), "the table is full")
    return s, (Mib(name="table_fulls"), Drop(Reason.NEIGH_CREATEFAIL, Errno.ENOBUFS))


@step("net/core/neighbour.c:neigh_destroy")
def destroy(s: Neigh) -> tuple[Absent, Effects]:
    """The entry is freed, listeners are told, and packets that still wait go with it."""
    if s.qlen > 0:
        return Absent(), (delneigh(s), Mib(name="destroys"), DropQueued(s.qlen, Reason.NOT_SPECIFIED))
    return Absent(), (delneigh(s), Mib(name="destroys"))


@pure
def failing(e: Delete) -> Update:
    """neigh_delete first updates the entry to FAILED, administratively."""
    return Update(e.now, NUD.FAILED, has_lladdr=False, admin=True)


@rule("net/core/neighbour.c:neigh_delete", at=STATES)
def delete(s: Neigh, e: Delete, p: NeighParms) -> tuple[Absent, Effects]:
    """A deleted entry fails first, as listeners see, and is then freed."""
    require(not e.held, "nobody else has a reference")
    t, failed = fail(s, failing(e), p)
    u, freed = destroy(t)
    return u, failed + freed


@rule("net/core/neighbour.c:neigh_delete", "net/core/neighbour.c:neigh_del", at=STATES)
def delete_held(s: Neigh, e: Delete, p: NeighParms) -> tuple[Neigh, Effects]:
    """A deleted entry that somebody holds stays in the table, FAILED."""
    require(e.held, "somebody else has a reference")
    return fail(s, failing(e), p)


@rule("net/core/neighbour.c:neigh_flush_dev", at=NUD.PERMANENT)
def flush_spared(s: Neigh, e: Flush, p: NeighParms) -> tuple[Neigh, Effects]:
    """Permanent entries outlive the loss of the carrier."""
    require(e.skip_perm, "only the carrier went")
    return s, ()


@pure
def flushed(s: Neigh, e: Flush) -> bool:
    """The device's loss takes this entry."""
    return not (e.skip_perm and s.nud_state == NUD.PERMANENT)


@rule("net/core/neighbour.c:neigh_flush_dev", at=STATES)
def flush(s: Neigh, e: Flush, p: NeighParms) -> tuple[Absent, Effects]:
    """When the device goes down or changes its address its entries are freed and waiting packets are dropped."""
    require(flushed(s, e), "not spared")
    require(not e.held, "nobody else has a reference")
    return destroy(s)


@step("net/core/neighbour.c:neigh_flush_dev")
def bury(s: Neigh, t: Neigh) -> tuple[Stray, Effects]:
    """The packets that wait are dropped, listeners are told, and the holder keeps a blackhole."""
    u = Stray(t.nud_state in VALID, s.hh, s.hh_ha)
    if s.qlen > 0:
        return u, (DropQueued(s.qlen, Reason.NOT_SPECIFIED), delneigh(t))
    return u, (delneigh(t),)


@rule("net/core/neighbour.c:neigh_flush_dev", at=VALID)
def flush_valid(s: Neigh, e: Flush, p: NeighParms) -> tuple[Stray, Effects]:
    """A valid entry that somebody holds dies as NOARP."""
    require(flushed(s, e), "not spared")
    require(e.held, "somebody else has a reference")
    return bury(s, replace(s, nud_state=NUD.NOARP))


@rule("net/core/neighbour.c:neigh_flush_dev", at=(NUD.NONE, NUD.INCOMPLETE, NUD.FAILED))
def flush_invalid(s: Neigh, e: Flush, p: NeighParms) -> tuple[Stray, Effects]:
    """An invalid entry that somebody holds dies as NONE."""
    require(e.held, "somebody else has a reference")
    return bury(s, replace(s, nud_state=NUD.NONE))


@pure
def last_used(s: Neigh, e: PeriodicGc) -> int:
    """A confirmation counts as a use."""
    return max(s.used, s.confirmed) if s.confirmed <= e.now else s.used


@pure
def looked_at(s: Neigh, e: PeriodicGc, p: NeighParms) -> bool:
    """The periodic work reads this entry at all."""
    return (
        e.entries >= p.gc_thresh1 and s.nud_state != NUD.PERMANENT and s.nud_state not in IN_TIMER and not s.ext_learned
    )


@pure
def collectable(s: Neigh, e: PeriodicGc, p: NeighParms) -> bool:
    """The periodic work frees this entry; source net/core/neighbour.c:neigh_periodic_work."""
    since = last_used(s, e)
    young = since <= e.now and e.now < since + p.gc_staletime
    return looked_at(s, e, p) and not e.held and (s.nud_state == NUD.FAILED or not young)


@rule("net/core/neighbour.c:neigh_periodic_work", at=STATES)
def gc_spared(s: Neigh, e: PeriodicGc, p: NeighParms) -> tuple[Neigh, Effects]:
    """Below gc_thresh1 nothing is collected, and never what is timed, permanent, external, held or young."""
    require(not collectable(s, e, p), "not to be collected")
    return replace(s, used=last_used(s, e) if looked_at(s, e, p) else s.used), ()


@rule("net/core/neighbour.c:neigh_periodic_work", at=STATES)
def gc_collected(s: Neigh, e: PeriodicGc, p: NeighParms) -> tuple[Absent, Effects]:
    """A failed entry, or one unused for gc_stale_time, is freed."""
    require(collectable(s, e, p), "to be collected")
    return destroy(s)


@pure
def purgeable(s: Neigh, e: ForcedGc) -> bool:
    """The forced collection frees this entry; source net/core/neighbour.c:neigh_forced_gc.

    A pending timer has a reference of its own.
    """
    old = not (e.now - GC_OLD <= s.updated and s.updated <= e.now)
    dispensable = s.nud_state == NUD.FAILED or s.nud_state == NUD.NOARP or e.multicast or old
    return s.on_gc_list and not e.held and s.timer == NEVER and dispensable


@rule("net/core/neighbour.c:neigh_forced_gc", at=STATES)
def purge_spared(s: Neigh, e: ForcedGc, p: NeighParms) -> tuple[Neigh, Effects]:
    """A full table keeps what is held, timed, permanent, external or younger than 5 s."""
    require(not purgeable(s, e), "not to be collected")
    return s, ()


@rule("net/core/neighbour.c:neigh_forced_gc", at=STATES)
def purged(s: Neigh, e: ForcedGc, p: NeighParms) -> tuple[Absent, Effects]:
    """A full table frees what failed, needs no resolution or was not updated for 5 s."""
    require(purgeable(s, e), "to be collected")
    return destroy(s)


@rule("net/core/neighbour.c:neigh_destroy")
def released(s: Stray, e: Release, p: NeighParms) -> tuple[Absent, Effects]:
    """The last holder of a dead entry frees it."""
    return Absent(), (Mib(name="destroys"),)


@rule("net/core/neighbour.c:__neigh_event_send")
def stray_poke(s: Stray, e: EventSend, p: NeighParms) -> tuple[Stray, Effects]:
    """A use of a dead entry asks nobody."""
    return s, ()


@rule("include/net/neighbour.h:neigh_confirm")
def stray_confirm(s: Stray, e: Confirm, p: NeighParms) -> tuple[Stray, Effects]:
    """A confirmation of a dead entry changes nothing that anybody reads."""
    return s, ()
