"""A packet leaves through a neighbour: neigh_output, neigh_resolve_output and __neigh_event_send."""

from typing import Any

from msgspec.structs import replace

from refmodel.neigh.parms import NeighParms, Ops
from refmodel.neigh.types import (
    CONNECTED,
    NUD,
    STATES,
    Confirm,
    Drop,
    DropQueued,
    Errno,
    EventSend,
    How,
    Neigh,
    Out,
    Output,
    Queue,
    Reason,
    Solicit,
    Stray,
    Transmit,
)
from refmodel.rule import Mib, pure, require, rule, step

Effects = tuple[Any, ...]


@pure
def way(s: Neigh, e: Output) -> Out:
    """The function that takes the packet; source include/net/neighbour.h:neigh_output."""
    return Out.HH if s.nud_state in CONNECTED and s.hh and not e.skip_cache else s.output


@pure
def confirmed(s: Neigh, e: Output) -> int:
    """When reachability was last confirmed; source include/net/sock.h:sock_confirm_neigh."""
    return e.now if e.confirm else s.confirmed


@pure
def hh_init(s: Neigh) -> Neigh:
    """The header cache is filled where the device has one; source net/core/neighbour.c:neigh_hh_init."""
    first = s.ops == Ops.HH and not s.hh
    return replace(s, hh=s.hh or first, hh_ha=s.ha if first else s.hh_ha)


@pure
def retransmit(now: int, p: NeighParms) -> int:
    """The deadline of the next solicitation (us)."""
    return now + max(p.retrans_time, p.timer_floor)


@pure
def how(probes: int, p: NeighParms) -> How:
    """Unicast first, then the daemon, then everybody.

    Source net/ipv4/arp.c:arp_solicit, net/ipv6/ndisc.c:ndisc_solicit.
    """
    if probes < p.ucast_probes:
        return How.UNICAST
    if probes < p.ucast_probes + p.app_probes:
        return How.APP
    return How.MULTICAST


@step("net/core/neighbour.c:neigh_probe", "RFC 4861 7.2.2")
def probe(s: Neigh, p: NeighParms) -> tuple[Neigh, Effects]:
    """One more solicitation is sent and counted; a device without headers has nobody to ask but counts as well."""
    t = replace(s, probes=s.probes + 1)
    if s.ops == Ops.DIRECT:
        return t, ()
    return t, (Solicit(how(s.probes, p), s.ha, s.qlen > 0),)


@step("net/core/neighbour.c:__neigh_event_send")
def enqueue(s: Neigh, e: Output) -> tuple[Neigh, Effects]:
    """The packet waits in arp_queue, and the oldest ones make room for it."""
    t = replace(s, qlen=s.qlen - e.evicted + 1, qbytes=s.qbytes - e.evicted_bytes + e.truesize)
    if e.evicted > 0:
        gone = DropQueued(e.evicted, Reason.NEIGH_QUEUEFULL)
        return t, (gone, Mib(name="unresolved_discards", n=e.evicted), Queue())
    return t, (Queue(),)


@step("net/core/neighbour.c:__neigh_event_send")
def start(s: Neigh, now: int, p: NeighParms) -> tuple[Neigh, Effects]:
    """Resolution starts: the count begins at ucast_probes, so that the first solicitation goes to everybody."""
    t = replace(s, nud_state=NUD.INCOMPLETE, probes=p.ucast_probes, updated=now, timer=retransmit(now, p))
    return probe(t, p)


@pure
def hopeless(p: NeighParms) -> bool:
    """Nobody may be asked about an address that is not known."""
    return p.mcast_probes + p.app_probes == 0


@rule("include/net/neighbour.h:neigh_hh_output", at=CONNECTED)
def cached(s: Neigh, e: Output, p: NeighParms) -> tuple[Neigh, Effects]:
    """A connected entry with a cached header sends at once and leaves no trace: even `used` stays."""
    require(way(s, e) == Out.HH, "a cached header may be used")
    return replace(s, confirmed=confirmed(s, e)), (Transmit(Out.HH, s.hh_ha),)


@rule("net/core/neighbour.c:neigh_connected_output", at=STATES)
def connected(s: Neigh, e: Output, p: NeighParms) -> tuple[Neigh, Effects]:
    """On a device without header cache a connected entry builds the header and sends."""
    require(way(s, e) == Out.CONNECTED, "output is neigh_connected_output")
    return replace(s, confirmed=confirmed(s, e)), (Transmit(Out.CONNECTED, s.ha),)


@rule("net/core/neighbour.c:neigh_direct_output", at=STATES)
def direct(s: Neigh, e: Output, p: NeighParms) -> tuple[Neigh, Effects]:
    """On a device without link-layer headers the packet goes out as it is."""
    require(way(s, e) == Out.DIRECT, "output is neigh_direct_output")
    return replace(s, confirmed=confirmed(s, e)), (Transmit(Out.DIRECT, s.ha),)


@rule("net/core/neighbour.c:neigh_resolve_output", at=(*CONNECTED, NUD.DELAY, NUD.PROBE))
def resolved(s: Neigh, e: Output, p: NeighParms) -> tuple[Neigh, Effects]:
    """An entry that is connected, delayed or probed sends to the address it has and remembers that it was used."""
    require(way(s, e) == Out.RESOLVE, "output is neigh_resolve_output")
    return hh_init(replace(s, used=e.now, confirmed=confirmed(s, e))), (Transmit(Out.RESOLVE, s.ha),)


@rule("net/core/neighbour.c:__neigh_event_send", "RFC 4861 7.3.3", at=NUD.STALE)
def stale(s: Neigh, e: Output, p: NeighParms) -> tuple[Neigh, Effects]:
    """The first packet to a stale neighbour is sent and starts the delay; nobody is notified."""
    require(way(s, e) == Out.RESOLVE, "output is neigh_resolve_output")
    t = replace(s, confirmed=confirmed(s, e), used=e.now, updated=e.now)
    return hh_init(replace(t, nud_state=NUD.DELAY, timer=e.now + p.delay_probe_time)), (Transmit(Out.RESOLVE, s.ha),)


@rule("net/core/neighbour.c:__neigh_event_send", "RFC 4861 7.2.2", at=NUD.INCOMPLETE)
def waiting(s: Neigh, e: Output, p: NeighParms) -> tuple[Neigh, Effects]:
    """While the address is being resolved a packet waits."""
    require(way(s, e) == Out.RESOLVE, "output is neigh_resolve_output")
    return enqueue(replace(s, used=e.now, confirmed=confirmed(s, e)), e)


@rule("net/core/neighbour.c:__neigh_event_send", "RFC 4861 7.2.2", at=(NUD.NONE, NUD.FAILED))
def first(s: Neigh, e: Output, p: NeighParms) -> tuple[Neigh, Effects]:
    """The first packet to an unknown neighbour waits, and a solicitation goes out at once."""
    require(way(s, e) == Out.RESOLVE, "output is neigh_resolve_output")
    require(not hopeless(p), "mcast_solicit or app_solicit is positive")
    t, queued = enqueue(replace(s, used=e.now, confirmed=confirmed(s, e)), e)
    u, asked = start(t, e.now, p)
    return u, queued + asked


@rule("net/core/neighbour.c:__neigh_event_send", at=(NUD.NONE, NUD.FAILED))
def unaskable(s: Neigh, e: Output, p: NeighParms) -> tuple[Neigh, Effects]:
    """Where nobody may be asked the packet is dropped and the entry fails without a report."""
    require(way(s, e) == Out.RESOLVE, "output is neigh_resolve_output")
    require(hopeless(p), "neither mcast_solicit nor app_solicit is positive")
    t = replace(s, used=e.now, confirmed=confirmed(s, e), updated=e.now, nud_state=NUD.FAILED)
    return t, (Drop(Reason.NEIGH_FAILED),)


@rule("include/net/neighbour.h:neigh_event_send_probe", at=(*CONNECTED, NUD.DELAY, NUD.PROBE, NUD.INCOMPLETE))
def poke_known(s: Neigh, e: EventSend, p: NeighParms) -> tuple[Neigh, Effects]:
    """A use without a packet is remembered."""
    return replace(s, used=e.now), ()


@rule("net/core/neighbour.c:__neigh_event_send", at=NUD.STALE)
def poke_stale(s: Neigh, e: EventSend, p: NeighParms) -> tuple[Neigh, Effects]:
    """A use without a packet starts a stale entry's delay."""
    t = replace(s, used=e.now, updated=e.now, timer=e.now + p.delay_probe_time)
    return replace(t, nud_state=NUD.DELAY), ()


@rule("net/core/neighbour.c:__neigh_event_send", at=(NUD.NONE, NUD.FAILED))
def poke_first(s: Neigh, e: EventSend, p: NeighParms) -> tuple[Neigh, Effects]:
    """A use of an unknown neighbour asks for it at once."""
    require(e.immediate_ok, "the caller may send now")
    require(not hopeless(p), "mcast_solicit or app_solicit is positive")
    return start(replace(s, used=e.now), e.now, p)


@rule("net/core/neighbour.c:neigh_managed_work", at=(NUD.NONE, NUD.FAILED))
def poke_later(s: Neigh, e: EventSend, p: NeighParms) -> tuple[Neigh, Effects]:
    """The managed work may not send under the table's lock: the timer asks, one jiffy later."""
    require(not e.immediate_ok, "the caller may not send now")
    require(not hopeless(p), "mcast_solicit or app_solicit is positive")
    t = replace(s, used=e.now, updated=e.now, probes=p.ucast_probes, timer=e.now + p.tick)
    return replace(t, nud_state=NUD.INCOMPLETE), ()


@rule("net/core/neighbour.c:__neigh_event_send", at=(NUD.NONE, NUD.FAILED))
def poke_unaskable(s: Neigh, e: EventSend, p: NeighParms) -> tuple[Neigh, Effects]:
    """Where nobody may be asked a use makes the entry fail."""
    require(hopeless(p), "neither mcast_solicit nor app_solicit is positive")
    return replace(s, used=e.now, updated=e.now, nud_state=NUD.FAILED), ()


@rule("include/net/neighbour.h:neigh_confirm", "RFC 4861 7.3.1", at=STATES)
def confirm(s: Neigh, e: Confirm, p: NeighParms) -> tuple[Neigh, Effects]:
    """An upper layer's confirmation sets the time only; the state changes when the timer looks."""
    return replace(s, confirmed=e.now), ()


@rule("include/net/neighbour.h:neigh_hh_output")
def stray_cached(s: Stray, e: Output, p: NeighParms) -> tuple[Stray, Effects]:
    """A dead entry that was valid still sends through its cached header."""
    require(s.valid and s.hh and not e.skip_cache, "a cached header may be used")
    return s, (Transmit(Out.HH, s.hh_ha),)


@rule("net/core/neighbour.c:neigh_blackhole")
def stray_blackhole(s: Stray, e: Output, p: NeighParms) -> tuple[Stray, Effects]:
    """A dead entry swallows what has no cached header."""
    require(not (s.valid and s.hh and not e.skip_cache), "no cached header may be used")
    return s, (Drop(Reason.NOT_SPECIFIED, Errno.ENETDOWN),)
