"""What is true of every neighbour entry and of every step that one takes, in plain words.

Properties marked `falsified` are false in Linux, with the reason; beside each stands what is true instead.
"""

from typing import Any

from refmodel.neigh.life import looked_at
from refmodel.neigh.parms import NeighParms, Ops
from refmodel.neigh.timer import max_probes
from refmodel.neigh.types import (
    CONNECTED,
    IN_TIMER,
    NUD,
    VALID,
    Absent,
    Create,
    Delete,
    Drop,
    DropQueued,
    ErrorReport,
    Flush,
    ForcedGc,
    How,
    Msg,
    Neigh,
    Notify,
    Out,
    Output,
    Override,
    PeriodicGc,
    Queue,
    SendQueued,
    Solicit,
    Stray,
    Timed,
    Timer,
    Transmit,
    Update,
    connected_output,
    plain_output,
)
from refmodel.rule import assume, invariant, transition
from refmodel.types import NEVER

Effects = tuple[Any, ...]


# What the environment does.


@assume
def clock(s: Neigh, e: Timed) -> bool:
    """Time does not run backwards."""
    return e.now >= s.confirmed and e.now >= s.updated and e.now >= s.used


@assume
def timer_due(s: Neigh, e: Timer) -> bool:
    """A timer fires only when it is set and its time has come; one that lost a race finds an untimed state."""
    return s.nud_state not in IN_TIMER or e.now >= s.timer


@assume
def evictions(s: Neigh, e: Output, p: NeighParms) -> bool:
    """Just as many of the oldest packets leave a full queue as make room for the new one, or all of them.

    Each has a size, so that what is left has none exactly if nothing is left.
    """
    left = s.qlen - e.evicted
    left_bytes = s.qbytes - e.evicted_bytes
    return (
        left >= 0
        and left_bytes >= left
        and (left > 0 or left_bytes == 0)
        and e.evicted_bytes >= e.evicted
        and e.evicted_last <= e.evicted_bytes
        and (e.evicted > 0 or e.evicted_bytes == 0)
        and (left_bytes + e.truesize <= p.queue_len_bytes or left == 0)
        and (e.evicted == 0 or left_bytes + e.evicted_last + e.truesize > p.queue_len_bytes)
    )


@assume
def frames_say_little(s: Neigh, e: Update) -> bool:
    """What a frame says is STALE or REACHABLE; every other state, and flags, are an administrator's."""
    said = e.new in (NUD.STALE, NUD.REACHABLE) and not e.use and not e.managed and not e.ext_learned
    return e.admin or said


# One entry.


@invariant()
def timer_only_when_timed(s: Neigh) -> bool:
    """A timer is set only in INCOMPLETE, REACHABLE, DELAY and PROBE."""
    return s.timer == NEVER or s.nud_state in IN_TIMER


@invariant(at=(NUD.REACHABLE, NUD.DELAY, NUD.PROBE))
def timer_when_timed(s: Neigh) -> bool:
    """REACHABLE, DELAY and PROBE always have a timer set."""
    return s.timer < NEVER


@invariant(
    at=NUD.INCOMPLETE, falsified="netlink may set INCOMPLETE, and __neigh_update takes the timer away and sets none"
)
def timer_when_incomplete(s: Neigh) -> bool:
    """INCOMPLETE always has a timer set."""
    return s.timer < NEVER


@invariant(at=VALID)
def valid_has_no_queue(s: Neigh) -> bool:
    """No packet waits at an entry whose address is known."""
    return s.qlen == 0


@invariant(
    at=(NUD.NONE, NUD.FAILED), falsified="netlink may set NONE, and __neigh_update leaves the waiting packets there"
)
def only_incomplete_has_queue(s: Neigh) -> bool:
    """Packets wait only while the address is being resolved."""
    return s.qlen == 0


@invariant()
def queue_sizes(s: Neigh) -> bool:
    """Packets that wait have a size, and nothing has none."""
    return s.qbytes >= s.qlen and (s.qlen > 0 or s.qbytes == 0)


@invariant(at=VALID)
def valid_has_address(s: Neigh, p: NeighParms) -> bool:
    """A valid entry on a device with addresses has one."""
    return s.ha_set or p.addr_len == 0


@invariant()
def header_is_current(s: Neigh) -> bool:
    """A cached header goes to the entry's address."""
    return not s.hh or s.hh_ha == s.ha


@invariant()
def header_where_cached(s: Neigh) -> bool:
    """A header is cached only on a device that caches headers."""
    return not s.hh or s.ops == Ops.HH


@invariant(at=CONNECTED)
def connected_has_fast_path(s: Neigh) -> bool:
    """REACHABLE, NOARP and PERMANENT entries have the connected output."""
    return s.output == connected_output(s.ops)


@invariant(at=(NUD.STALE, NUD.DELAY, NUD.PROBE))
def suspect_has_slow_path(s: Neigh) -> bool:
    """STALE, DELAY and PROBE entries have the output that looks at the state."""
    return s.output == plain_output(s.ops)


@invariant(
    at=(NUD.NONE, NUD.INCOMPLETE, NUD.FAILED),
    falsified="NTF_USE on a PERMANENT entry makes it NONE and leaves neigh_connected_output, where no header is cached",
)
def unresolved_has_slow_path(s: Neigh) -> bool:
    """An entry without a valid address never has the connected output."""
    return s.output == plain_output(s.ops)


@invariant()
def output_fits_device(s: Neigh) -> bool:
    """The output pointer is one of the two that the device's operations name."""
    return s.output == plain_output(s.ops) or s.output == connected_output(s.ops)


@invariant()
def direct_has_no_queue(s: Neigh) -> bool:
    """No packet waits on a device without link-layer headers."""
    return s.ops != Ops.DIRECT or s.qlen == 0


@invariant()
def probes_bounded(s: Neigh, p: NeighParms) -> bool:
    """Never more solicitations are counted than the sysctls allow."""
    return s.probes <= p.ucast_probes + p.app_probes + max(p.mcast_probes, p.mcast_reprobes)


@invariant(at=NUD.INCOMPLETE)
def resolving_skips_unicast(s: Neigh, p: NeighParms) -> bool:
    """While its timer runs, an entry being resolved counts from ucast_solicit on, for it knows no address to ask."""
    return s.timer == NEVER or (
        s.probes >= p.ucast_probes and s.probes <= p.ucast_probes + p.app_probes + p.mcast_probes
    )


@invariant()
def off_gc_list(s: Neigh) -> bool:
    """A permanent or external entry is not on gc_list."""
    return not s.on_gc_list or (s.nud_state != NUD.PERMANENT and not s.ext_learned)


# One step.


@transition()
def times_are_past(s: Neigh, e: Timed, t: Neigh) -> bool:
    """Nothing is confirmed, updated or used in the future."""
    return t.confirmed <= e.now and t.updated <= e.now and t.used <= e.now


@transition()
def packets_are_accounted(s: Neigh, e: Timed, t: Neigh, fx: Effects) -> bool:
    """Every packet that waited or came to wait is sent, reported, dropped with a reason, or still waits."""
    came = sum(x.n for x in fx if isinstance(x, Queue))
    went = sum(x.n for x in fx if isinstance(x, (SendQueued, ErrorReport, DropQueued)))
    return s.qlen + came == t.qlen + went


@transition()
def packets_die_accounted(s: Neigh, e: Timed, t: Absent | Stray, fx: Effects) -> bool:
    """When an entry dies every packet that waits is sent, reported or dropped with a reason."""
    return s.qlen == sum(x.n for x in fx if isinstance(x, (SendQueued, ErrorReport, DropQueued)))


@transition(Output)
def output_has_one_fate(s: Neigh, e: Output, t: Neigh, fx: Effects) -> bool:
    """A packet is transmitted, queued or dropped: exactly one of them."""
    return sum(1 for x in fx if isinstance(x, (Transmit, Queue, Drop))) == 1


@transition(Output)
def new_packet_is_kept(s: Neigh, e: Output, t: Neigh, fx: Effects) -> bool:
    """A full queue drops its oldest packets, never the newest."""
    kept = sum(1 for x in fx if isinstance(x, Queue)) == 1
    return not kept or (t.qlen > 0 and t.qbytes >= e.truesize)


@transition(Output)
def queue_is_bounded(s: Neigh, e: Output, t: Neigh, fx: Effects, p: NeighParms) -> bool:
    """After a packet joined, the queue holds at most unres_qlen_bytes, or just that packet."""
    kept = sum(1 for x in fx if isinstance(x, Queue)) == 1
    return not kept or t.qbytes <= p.queue_len_bytes or t.qlen == 1


@transition(Output)
def sent_to_known_address(s: Neigh, e: Output, t: Neigh, fx: Effects) -> bool:
    """Where headers are cached, a packet is sent only through a valid entry and to its address."""
    sent = sum(1 for x in fx if isinstance(x, Transmit)) == 1
    return (
        not sent
        or s.ops != Ops.HH
        or (s.nud_state in VALID and all(x.ha == s.ha for x in fx if isinstance(x, Transmit)))
    )


@transition()
def solicits_only_while_asking(s: Neigh, e: Timed, t: Neigh, fx: Effects) -> bool:
    """A solicitation leaves only an entry that is INCOMPLETE or in PROBE, one at a time, and is counted."""
    asked = sum(1 for x in fx if isinstance(x, Solicit))
    return asked == 0 or (asked == 1 and t.nud_state in (NUD.INCOMPLETE, NUD.PROBE) and t.probes > 0)


@transition()
def unicast_only_in_probe(s: Neigh, e: Timed, t: Neigh, fx: Effects) -> bool:
    """A unicast solicitation leaves only an entry in PROBE, and goes to its address."""
    return all(
        x.how != How.UNICAST or (t.nud_state == NUD.PROBE and x.ha == t.ha) for x in fx if isinstance(x, Solicit)
    )


@transition(Timer, at=(NUD.INCOMPLETE, NUD.PROBE))
def fails_only_when_exhausted(s: Neigh, e: Timer, t: Neigh, fx: Effects, p: NeighParms) -> bool:
    """The timer fails an entry exactly when as many solicitations as allowed were counted."""
    return (t.nud_state == NUD.FAILED) == (s.probes >= max_probes(s, p))


@transition(Update, at=(NUD.NOARP, NUD.PERMANENT))
def only_admin_moves_fixed(s: Neigh, e: Update, t: Neigh) -> bool:
    """A NOARP or PERMANENT entry keeps state and address unless an administrator changes it."""
    return e.admin or (t.nud_state == s.nud_state and t.ha == s.ha and t.confirmed == s.confirmed)


@transition(at=VALID)
def address_needs_update(s: Neigh, e: Timed, t: Neigh) -> bool:
    """A valid entry's address changes only by an update."""
    return t.ha == s.ha or isinstance(e, Update)


@transition(Update, at=VALID)
def override_changes_address(s: Neigh, e: Update, t: Neigh) -> bool:
    """A valid entry's address changes only by an update that may override it."""
    return t.ha == s.ha or e.override != Override.NO


@transition(Update, at=VALID)
def locktime_protects_address(s: Neigh, e: Update, t: Neigh, fx: Effects, p: NeighParms) -> bool:
    """Within locktime of the last change the first answer wins: an ordinary ARP cannot change a valid address."""
    return t.ha == s.ha or e.override != Override.AFTER_LOCKTIME or e.now > s.updated + p.locktime


@transition()
def address_change_is_told(s: Neigh, e: Timed, t: Neigh, fx: Effects) -> bool:
    """Listeners are told of every new address."""
    return t.ha == s.ha or any(x.msg == Msg.NEWNEIGH for x in fx if isinstance(x, Notify))


@transition()
def told_as_it_is(s: Neigh, e: Timed, t: Neigh, fx: Effects) -> bool:
    """What listeners are told is the entry as it is after the step, with the address only if it is valid."""
    return all(
        x.nud_state == t.nud_state and x.ha == t.ha and x.probes == t.probes and x.has_lladdr == (t.nud_state in VALID)
        for x in fx
        if isinstance(x, Notify)
    )


@transition()
def failure_and_success_are_told(s: Neigh, e: Timed, t: Neigh, fx: Effects) -> bool:
    """Listeners are told whenever a valid entry turns invalid or an invalid one valid, but by NTF_USE."""
    told = any(x.msg == Msg.NEWNEIGH for x in fx if isinstance(x, Notify))
    return (s.nud_state in VALID) == (t.nud_state in VALID) or told or s.nud_state == NUD.PERMANENT


@transition(Output, at=NUD.STALE)
def stale_output_delays(s: Neigh, e: Output, t: Neigh, fx: Effects, p: NeighParms) -> bool:
    """A packet through a stale entry starts its delay, except on a device without headers."""
    return s.ops == Ops.DIRECT or (t.nud_state == NUD.DELAY and t.timer == e.now + p.delay_probe_time)


@transition()
def unarmed_incomplete_is_admins(s: Neigh, e: Timed, t: Neigh) -> bool:
    """An entry being resolved loses its timer only by an update that says INCOMPLETE."""
    lost = t.nud_state == NUD.INCOMPLETE and t.timer == NEVER
    return not lost or (s.nud_state == NUD.INCOMPLETE and s.timer == NEVER) or isinstance(e, Update)


@transition(PeriodicGc, ForcedGc)
def collected_unheld(s: Neigh, e: PeriodicGc | ForcedGc, t: Absent) -> bool:
    """Collection never takes an entry that is permanent, external, timed or held."""
    return not e.held and s.nud_state != NUD.PERMANENT and not s.ext_learned and s.timer == NEVER


@transition(PeriodicGc)
def collected_above_threshold(s: Neigh, e: PeriodicGc, t: Absent, fx: Effects, p: NeighParms) -> bool:
    """Periodic collection takes nothing while the table holds fewer entries than gc_thresh1."""
    return looked_at(s, e, p)


@transition(Delete, Flush, PeriodicGc, ForcedGc)
def death_is_told(s: Neigh, e: Timed, t: Absent | Stray, fx: Effects) -> bool:
    """Listeners are told once of every entry that leaves the table."""
    return sum(1 for x in fx if isinstance(x, Notify) and x.msg == Msg.DELNEIGH) == 1


@transition(Create)
def born_silent(s: Absent, e: Create, t: Neigh, fx: Effects) -> bool:
    """A new entry is NONE or NOARP, has no timer and no queue, and nobody is told."""
    silent = all(not isinstance(x, Notify) for x in fx)
    return silent and t.nud_state in (NUD.NONE, NUD.NOARP) and t.timer == NEVER and t.qlen == 0


@transition(Output)
def blackhole_swallows(s: Stray, e: Output, t: Stray, fx: Effects) -> bool:
    """A dead entry without a cached header sends nothing."""
    return s.hh or all(not isinstance(x, Transmit) for x in fx)


@transition(Output, at=CONNECTED)
def fast_path_leaves_no_use(s: Neigh, e: Output, t: Neigh, fx: Effects) -> bool:
    """A packet through the cached header does not count as a use."""
    return all(x.path != Out.HH or t.used == s.used for x in fx if isinstance(x, Transmit))
