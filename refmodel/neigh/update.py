"""What a neighbour says of itself, or an administrator of it: __neigh_update.

`verdict` is the kernel's cascade; each outcome has its rule. Flags of the event that an outcome does not read are void.
"""

from enum import IntEnum

from msgspec.structs import replace

from refmodel.neigh.output import Effects
from refmodel.neigh.parms import NeighParms, Ops
from refmodel.neigh.timer import invalidate
from refmodel.neigh.types import (
    CONNECTED,
    IN_TIMER,
    NUD,
    STATES,
    VALID,
    Errno,
    Neigh,
    Out,
    Override,
    Result,
    SendQueued,
    Stray,
    Update,
    connected_output,
    newneigh,
    plain_output,
)
from refmodel.rule import pure, require, rule, step
from refmodel.types import NEVER


class Verdict(IntEnum):
    """The outcomes of __neigh_update in the kernel's order."""

    REFUSED = 0  # only an administrator changes NOARP and PERMANENT
    USE = 1  # NTF_USE, NTF_MANAGED: no state is taken over
    INVALID = 2  # the new state is not a valid one
    NO_LLADDR = 3  # no address given and none known
    KEPT = 4  # another address and no right to override: only `confirmed` may move
    SAME = 5  # the state stays; the address may change
    MOVED = 6


@pure
def override(s: Neigh, e: Update, p: NeighParms) -> bool:
    """The known address may be replaced; source net/ipv4/arp.c:arp_process for locktime."""
    return e.override == Override.YES or (e.override == Override.AFTER_LOCKTIME and e.now > s.updated + p.locktime)


@pure
def differs(s: Neigh, e: Update, p: NeighParms) -> bool:
    """A link-layer address other than the known valid one is offered."""
    return p.addr_len != 0 and e.has_lladdr and not (s.nud_state in VALID and e.lladdr == s.ha)


@pure
def suspected(s: Neigh, e: Update, p: NeighParms) -> bool:
    """Another address without the right to override makes a connected entry stale (NEIGH_UPDATE_F_WEAK_OVERRIDE)."""
    return s.nud_state in CONNECTED and differs(s, e, p) and not override(s, e, p) and e.weak_override


@pure
def target(s: Neigh, e: Update, p: NeighParms) -> NUD:
    """The state that the entry takes.

    STALE with the known address says nothing new, unless an administrator says it.
    """
    if suspected(s, e, p):
        return NUD.STALE
    if s.nud_state in VALID and not differs(s, e, p) and e.new == NUD.STALE and not e.admin:
        return s.nud_state
    return e.new


@pure
def verdict(s: Neigh, e: Update, p: NeighParms) -> Verdict:
    """Classifies an update; source net/core/neighbour.c:__neigh_update."""
    if not e.admin and s.nud_state in (NUD.NOARP, NUD.PERMANENT):
        return Verdict.REFUSED
    if e.use or e.managed:
        return Verdict.USE
    if e.new not in VALID:
        return Verdict.INVALID
    if p.addr_len != 0 and not e.has_lladdr and s.nud_state not in VALID:
        return Verdict.NO_LLADDR
    if s.nud_state in VALID and differs(s, e, p) and not override(s, e, p) and not suspected(s, e, p):
        return Verdict.KEPT
    if target(s, e, p) == s.nud_state:
        return Verdict.SAME
    return Verdict.MOVED


@pure
def confirms(s: Neigh, e: Update) -> int:
    """`confirmed` after the news.

    It moves before the address is compared: a reply with another address that may not override still confirms.
    """
    return e.now if e.new in CONNECTED else s.confirmed


@pure
def flagged(s: Neigh, e: Update) -> Neigh:
    """An administrator's update sets or clears NTF_EXT_LEARNED and NTF_MANAGED; source neigh_update_flags.

    gc_list membership follows at the end of the update; source neigh_update_gc_list.
    """
    learned = e.ext_learned if e.admin else s.ext_learned
    return replace(s, ext_learned=learned, managed=e.managed if e.admin else s.managed)


@pure
def reflagged(s: Neigh, e: Update) -> bool:
    """The administrator's flags differ from the entry's."""
    return e.admin and (e.ext_learned != s.ext_learned or e.managed != s.managed)


@pure
def gc_listed(s: Neigh, t: Neigh) -> bool:
    """gc_list holds what is neither permanent nor external, re-read when either changes."""
    changed = (s.nud_state == NUD.PERMANENT) != (t.nud_state == NUD.PERMANENT) or s.ext_learned != t.ext_learned
    return not (t.nud_state == NUD.PERMANENT or t.ext_learned) if changed else s.on_gc_list


@pure
def routed(s: Neigh, e: Update, p: NeighParms) -> bool:
    """NTF_ROUTER after the news, where it may be overridden; source neigh_update_is_router."""
    return e.isrouter if e.override_isrouter and not suspected(s, e, p) else s.router


@pure
def renamed(s: Neigh, e: Update, p: NeighParms) -> bool:
    """The entry takes the offered address."""
    return differs(s, e, p) and not suspected(s, e, p)


@pure
def addressed(s: Neigh, e: Update, p: NeighParms, new: NUD) -> Neigh:
    """Address, cached header and `confirmed` of an entry that becomes `new`; source neigh_update_hhs.

    An address that is taken over unconfirmed counts as confirmed long ago, so that it will be probed.
    """
    moved = renamed(s, e, p)
    seen = confirms(s, e)
    return replace(
        s,
        ha=e.lladdr if moved else s.ha,
        ha_set=s.ha_set or moved,
        hh_ha=e.lladdr if moved and s.hh else s.hh_ha,
        confirmed=e.now - 2 * p.base_reachable_time if moved and new not in CONNECTED else seen,
    )


@pure
def moved(s: Neigh, e: Update, p: NeighParms, new: NUD) -> Neigh:
    """The entry in its `new` valid state, its queue not yet sent."""
    t = addressed(flagged(s, e), e, p, new)
    seen = confirms(s, e)
    armed = new in IN_TIMER
    t = replace(
        t,
        nud_state=new,
        updated=e.now,
        used=max(s.used, seen) if armed else s.used,
        timer=(e.now + p.reachable_time if new == NUD.REACHABLE else e.now) if armed else NEVER,
        probes=0 if new == NUD.PROBE else s.probes,
        output=connected_output(s.ops) if new in CONNECTED else plain_output(s.ops),
        router=routed(s, e, p),
    )
    return replace(t, on_gc_list=gc_listed(s, t))


@step("net/core/neighbour.c:__neigh_update", "RFC 4861 7.2.5")
def settle(s: Neigh, e: Update, t: Neigh) -> tuple[Neigh, Effects]:
    """What waited is sent through the entry as it now is, and listeners are told; `s` is the entry before."""
    if s.nud_state in VALID or s.qlen == 0:
        return t, (newneigh(t), Result(Errno.OK))
    first = t.output == Out.RESOLVE and t.ops == Ops.HH and not t.hh
    u = replace(
        t,
        qlen=0,
        qbytes=0,
        used=e.now if t.output == Out.RESOLVE else t.used,
        hh=t.hh or first,
        hh_ha=t.ha if first else t.hh_ha,
    )
    return u, (SendQueued(s.qlen, t.output, t.ha), newneigh(u), Result(Errno.OK))


@rule("net/core/neighbour.c:__neigh_update", at=(NUD.NOARP, NUD.PERMANENT))
def refused(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Nothing but an administrator changes a NOARP or PERMANENT entry."""
    require(verdict(s, e, p) == Verdict.REFUSED, "not administrative")
    return s, (Result(Errno.EPERM),)


@rule("net/core/neighbour.c:__neigh_update", at=tuple(x for x in NUD if x != NUD.PERMANENT))
def used(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """NTF_USE and NTF_MANAGED keep state and address; a use by neigh_event_send follows."""
    require(verdict(s, e, p) == Verdict.USE, "flagged NTF_USE or NTF_MANAGED")
    t = flagged(s, e)
    t = replace(t, on_gc_list=gc_listed(s, t))
    if reflagged(s, e):
        return t, (newneigh(t), Result(Errno.OK))
    return t, (Result(Errno.OK),)


@rule("net/core/neighbour.c:__neigh_update", at=NUD.PERMANENT)
def used_permanent(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """NTF_USE and NTF_MANAGED on a PERMANENT entry make it NONE, and its output stays as it was."""
    require(verdict(s, e, p) == Verdict.USE, "flagged NTF_USE or NTF_MANAGED")
    t = replace(flagged(s, e), nud_state=NUD.NONE)
    t = replace(t, on_gc_list=gc_listed(s, t))
    if reflagged(s, e):
        return t, (newneigh(t), Result(Errno.OK))
    return t, (Result(Errno.OK),)


@pure
def voided(s: Neigh, e: Update, new: NUD) -> Neigh:
    """The entry in its `new` invalid state: no timer, no fast path; `updated` and the queue stay."""
    t = flagged(s, e)
    t = replace(t, nud_state=new, timer=NEVER, output=plain_output(s.ops) if s.nud_state in CONNECTED else s.output)
    return replace(t, on_gc_list=gc_listed(s, t))


@step("net/core/neighbour.c:__neigh_update")
def told(s: Neigh, t: Neigh) -> tuple[Neigh, Effects]:
    """Listeners are told that an entry is invalid only if it was valid."""
    if s.nud_state in VALID:
        return t, (newneigh(t), Result(Errno.OK))
    return t, (Result(Errno.OK),)


@rule("net/core/neighbour.c:__neigh_update", at=STATES)
def to_none(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Set to NONE, an entry keeps the packets that wait, and no timer looks after them."""
    require(verdict(s, e, p) == Verdict.INVALID, "the new state is not valid")
    require(e.new == NUD.NONE, "the new state is NONE")
    return told(s, voided(s, e, NUD.NONE))


@rule("net/core/neighbour.c:__neigh_update", at=STATES)
def to_incomplete(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Set to INCOMPLETE by hand, an entry has no timer: it solicits nothing and waits for ever."""
    require(verdict(s, e, p) == Verdict.INVALID, "the new state is not valid")
    require(e.new == NUD.INCOMPLETE, "the new state is INCOMPLETE")
    return told(s, voided(s, e, NUD.INCOMPLETE))


@step("net/core/neighbour.c:__neigh_update")
def fail(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Set to FAILED, an entry that was being resolved or probed reports its packets; another keeps quiet."""
    t = voided(s, e, NUD.FAILED)
    if s.nud_state in (NUD.INCOMPLETE, NUD.PROBE):
        u, reported = invalidate(t, e.now, p)
        return u, (*reported, newneigh(u), Result(Errno.OK))
    return told(s, t)


@rule("net/core/neighbour.c:__neigh_update", at=STATES)
def to_failed(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Set to FAILED, an entry forgets its timer and reports what it was resolving."""
    require(verdict(s, e, p) == Verdict.INVALID, "the new state is not valid")
    require(e.new == NUD.FAILED, "the new state is FAILED")
    return fail(s, e, p)


@rule("net/core/neighbour.c:__neigh_update", at=(NUD.NONE, NUD.INCOMPLETE, NUD.FAILED))
def no_lladdr(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """A valid state without an address, given or known, is refused; flags are taken all the same."""
    require(verdict(s, e, p) == Verdict.NO_LLADDR, "no address given and none known")
    t = flagged(s, e)
    t = replace(t, on_gc_list=gc_listed(s, t))
    if reflagged(s, e):
        return t, (newneigh(t), Result(Errno.EINVAL))
    return t, (Result(Errno.EINVAL),)


@rule(
    "net/core/neighbour.c:__neigh_update",
    "RFC 4861 7.2.5",
    at=VALID,
    deviates="a solicited answer with another address and no override confirms the old address",
)
def kept(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Another address without the right to override is ignored, though the answer itself confirms the entry."""
    require(verdict(s, e, p) == Verdict.KEPT, "another address may not override")
    t = replace(flagged(s, e), confirmed=confirms(s, e))
    t = replace(t, on_gc_list=gc_listed(s, t))
    if reflagged(s, e):
        return t, (newneigh(t), Result(Errno.OK))
    return t, (Result(Errno.OK),)


@rule("net/core/neighbour.c:__neigh_update", "RFC 4861 7.2.5", at=VALID)
def same(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """The state stays and its timer runs on; a new address or flag is taken over and told."""
    require(verdict(s, e, p) == Verdict.SAME, "the state stays")
    t = addressed(flagged(s, e), e, p, s.nud_state)
    t = replace(t, router=routed(s, e, p), updated=e.now if renamed(s, e, p) else s.updated)
    t = replace(t, on_gc_list=gc_listed(s, t))
    if renamed(s, e, p) or t.router != s.router or reflagged(s, e):
        return t, (newneigh(t), Result(Errno.OK))
    return t, (Result(Errno.OK),)


@rule("net/core/neighbour.c:__neigh_update", "RFC 4861 7.2.5", at=tuple(x for x in NUD if x != NUD.REACHABLE))
def to_reachable(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """A solicited answer makes the neighbour REACHABLE, and what waited is sent."""
    require(verdict(s, e, p) == Verdict.MOVED, "the state changes")
    require(target(s, e, p) == NUD.REACHABLE, "it becomes REACHABLE")
    return settle(s, e, moved(s, e, p, NUD.REACHABLE))


@rule("net/core/neighbour.c:__neigh_update", "RFC 4861 7.2.3", at=tuple(x for x in NUD if x != NUD.STALE))
def to_stale(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """An address learnt in passing makes the neighbour STALE."""
    require(verdict(s, e, p) == Verdict.MOVED, "the state changes")
    require(target(s, e, p) == NUD.STALE, "it becomes STALE")
    require(s.nud_state in VALID or s.qlen == 0, "no packet waits")
    return settle(s, e, moved(s, e, p, NUD.STALE))


@rule("net/core/neighbour.c:__neigh_update", "RFC 4861 7.2.3", at=(NUD.NONE, NUD.INCOMPLETE, NUD.FAILED))
def to_stale_and_on(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """An address learnt in passing sends what waits, and the first such packet starts the delay."""
    require(verdict(s, e, p) == Verdict.MOVED, "the state changes")
    require(target(s, e, p) == NUD.STALE, "it becomes STALE")
    require(s.qlen > 0, "a packet waits")
    t = moved(s, e, p, NUD.STALE)
    return settle(s, e, replace(t, nud_state=NUD.DELAY, timer=e.now + p.delay_probe_time))


@rule("net/core/neighbour.c:__neigh_update", at=tuple(x for x in NUD if x != NUD.DELAY))
def to_delay(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Set to DELAY, an entry's timer looks at once."""
    require(verdict(s, e, p) == Verdict.MOVED, "the state changes")
    require(target(s, e, p) == NUD.DELAY, "it becomes DELAY")
    return settle(s, e, moved(s, e, p, NUD.DELAY))


@rule("net/core/neighbour.c:__neigh_update", at=tuple(x for x in NUD if x != NUD.PROBE))
def to_probe(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Set to PROBE, an entry's timer asks at once."""
    require(verdict(s, e, p) == Verdict.MOVED, "the state changes")
    require(target(s, e, p) == NUD.PROBE, "it becomes PROBE")
    return settle(s, e, moved(s, e, p, NUD.PROBE))


@rule("net/core/neighbour.c:__neigh_update", at=tuple(x for x in NUD if x != NUD.NOARP))
def to_noarp(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Set to NOARP, an entry is never asked about again."""
    require(verdict(s, e, p) == Verdict.MOVED, "the state changes")
    require(target(s, e, p) == NUD.NOARP, "it becomes NOARP")
    return settle(s, e, moved(s, e, p, NUD.NOARP))


@rule("net/core/neighbour.c:__neigh_update", at=tuple(x for x in NUD if x != NUD.PERMANENT))
def to_permanent(s: Neigh, e: Update, p: NeighParms) -> tuple[Neigh, Effects]:
    """Set to PERMANENT, an entry is never asked about again nor collected."""
    require(verdict(s, e, p) == Verdict.MOVED, "the state changes")
    require(target(s, e, p) == NUD.PERMANENT, "it becomes PERMANENT")
    return settle(s, e, moved(s, e, p, NUD.PERMANENT))


@rule("net/core/neighbour.c:__neigh_update")
def stray_refused(s: Stray, e: Update, p: NeighParms) -> tuple[Stray, Effects]:
    """A dead entry is not updated."""
    return s, (Result(Errno.EPERM),)
