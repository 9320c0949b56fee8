"""The entry's timer: neigh_timer_handler, state by state."""

from msgspec.structs import replace

from refmodel.neigh.output import Effects, probe, retransmit
from refmodel.neigh.parms import Family, NeighParms
from refmodel.neigh.types import (
    NUD,
    ErrorReport,
    Neigh,
    Reason,
    Stray,
    Timer,
    connected_output,
    newneigh,
    plain_output,
)
from refmodel.rule import Mib, pure, require, rule, step
from refmodel.types import NEVER


@pure
def max_probes(s: Neigh, p: NeighParms) -> int:
    """How many solicitations a failure takes; source net/core/neighbour.c:neigh_max_probes."""
    return p.ucast_probes + p.app_probes + (p.mcast_reprobes if s.nud_state == NUD.PROBE else p.mcast_probes)


@pure
def probing_max(p: NeighParms) -> int:
    """How many solicitations PROBE may send before it fails."""
    return p.ucast_probes + p.app_probes + p.mcast_reprobes


@pure
def fresh(s: Neigh, now: int, p: NeighParms) -> bool:
    """Reachability was confirmed within reachable_time."""
    return now <= s.confirmed + p.reachable_time


@pure
def in_use(s: Neigh, now: int, p: NeighParms) -> bool:
    """The entry was used within delay_first_probe_time."""
    return now <= s.used + p.delay_probe_time


@pure
def confirmed_lately(s: Neigh, now: int, p: NeighParms) -> bool:
    """Reachability was confirmed within delay_first_probe_time."""
    return now <= s.confirmed + p.delay_probe_time


@pure
def not_before(when: int, now: int, p: NeighParms) -> int:
    """No deadline is nearer than HZ/100."""
    return max(when, now + p.timer_floor)


@step("net/core/neighbour.c:neigh_invalidate", "RFC 4861 7.2.2")
def invalidate(s: Neigh, now: int, p: NeighParms) -> tuple[Neigh, Effects]:
    """Resolution failed: every waiting packet is reported to its sender."""
    t = replace(s, nud_state=NUD.FAILED, updated=now, timer=NEVER, qlen=0, qbytes=0)
    if s.qlen > 0:
        reason = Reason.NEIGH_FAILED if p.family == Family.INET else Reason.NOT_SPECIFIED
        return t, (Mib(name="res_failed"), ErrorReport(s.qlen, reason))
    return t, (Mib(name="res_failed"),)


@rule("net/core/neighbour.c:neigh_timer_handler", "RFC 4861 7.3.3", at=NUD.REACHABLE)
def reachable_still(s: Neigh, e: Timer, p: NeighParms) -> tuple[Neigh, Effects]:
    """A confirmation that came meanwhile keeps the entry REACHABLE until that one grows old."""
    require(fresh(s, e.now, p), "confirmed within reachable_time")
    return replace(s, timer=not_before(s.confirmed + p.reachable_time, e.now, p)), ()


@rule("net/core/neighbour.c:neigh_timer_handler", "RFC 4861 7.3.3", at=NUD.REACHABLE)
def reachable_used(s: Neigh, e: Timer, p: NeighParms) -> tuple[Neigh, Effects]:
    """An unconfirmed entry in use goes to DELAY without a packet and without a notice."""
    require(not fresh(s, e.now, p), "not confirmed within reachable_time")
    require(in_use(s, e.now, p), "used within delay_first_probe_time")
    t = replace(s, updated=e.now, output=plain_output(s.ops))
    return replace(t, nud_state=NUD.DELAY, timer=not_before(e.now + p.delay_probe_time, e.now, p)), ()


@rule("net/core/neighbour.c:neigh_timer_handler", "RFC 4861 7.3.3", at=NUD.REACHABLE)
def reachable_idle(s: Neigh, e: Timer, p: NeighParms) -> tuple[Neigh, Effects]:
    """An unconfirmed entry that nobody uses goes to STALE."""
    require(not fresh(s, e.now, p), "not confirmed within reachable_time")
    require(not in_use(s, e.now, p), "not used within delay_first_probe_time")
    t = replace(s, nud_state=NUD.STALE, updated=e.now, output=plain_output(s.ops), timer=NEVER)
    return t, (newneigh(t),)


@rule("net/core/neighbour.c:neigh_timer_handler", "RFC 4861 7.3.3", at=NUD.DELAY)
def delay_confirmed(s: Neigh, e: Timer, p: NeighParms) -> tuple[Neigh, Effects]:
    """Confirmed by an upper layer during the delay, the entry is REACHABLE again."""
    require(confirmed_lately(s, e.now, p), "confirmed within delay_first_probe_time")
    t = replace(s, nud_state=NUD.REACHABLE, updated=e.now, output=connected_output(s.ops))
    t = replace(t, timer=not_before(s.confirmed + p.reachable_time, e.now, p))
    return t, (newneigh(t),)


@rule("net/core/neighbour.c:neigh_timer_handler", "RFC 4861 7.3.3", at=NUD.DELAY)
def delay_over(s: Neigh, e: Timer, p: NeighParms) -> tuple[Neigh, Effects]:
    """The delay passed without confirmation: the neighbour is asked directly."""
    require(not confirmed_lately(s, e.now, p), "not confirmed within delay_first_probe_time")
    require(probing_max(p) > 0, "PROBE may send a solicitation")
    t = replace(s, nud_state=NUD.PROBE, updated=e.now, probes=0, timer=not_before(retransmit(e.now, p), e.now, p))
    u, asked = probe(t, p)
    return u, (*asked, newneigh(u))


@rule("net/core/neighbour.c:neigh_timer_handler", at=NUD.DELAY)
def delay_unaskable(s: Neigh, e: Timer, p: NeighParms) -> tuple[Neigh, Effects]:
    """The delay passed without confirmation and PROBE may not send: the entry fails at once."""
    require(not confirmed_lately(s, e.now, p), "not confirmed within delay_first_probe_time")
    require(probing_max(p) == 0, "PROBE may send no solicitation")
    t, reported = invalidate(replace(s, probes=0), e.now, p)
    return t, (*reported, newneigh(t))


@rule("net/core/neighbour.c:neigh_timer_handler", "RFC 4861 7.2.2", at=(NUD.INCOMPLETE, NUD.PROBE))
def ask_again(s: Neigh, e: Timer, p: NeighParms) -> tuple[Neigh, Effects]:
    """No answer yet: another solicitation, and nobody is notified."""
    require(s.probes < max_probes(s, p), "fewer solicitations than allowed were sent")
    return probe(replace(s, timer=not_before(retransmit(e.now, p), e.now, p)), p)


@rule("net/core/neighbour.c:neigh_timer_handler", "RFC 4861 7.2.2", at=(NUD.INCOMPLETE, NUD.PROBE))
def give_up(s: Neigh, e: Timer, p: NeighParms) -> tuple[Neigh, Effects]:
    """As many solicitations as allowed went unanswered: the entry fails and waiting packets are reported."""
    require(s.probes >= max_probes(s, p), "as many solicitations as allowed were sent")
    t, reported = invalidate(s, e.now, p)
    return t, (*reported, newneigh(t))


@rule("net/core/neighbour.c:neigh_timer_handler", at=(NUD.NONE, NUD.STALE, NUD.FAILED, NUD.NOARP, NUD.PERMANENT))
def late(s: Neigh, e: Timer, p: NeighParms) -> tuple[Neigh, Effects]:
    """A timer that lost the race with a change to an untimed state does nothing."""
    return s, ()


@rule("net/core/neighbour.c:neigh_timer_handler")
def stray_late(s: Stray, e: Timer, p: NeighParms) -> tuple[Stray, Effects]:
    """A timer that lost the race with the entry's death does nothing."""
    return s, ()
