"""Neighbour discovery on the wire: which event of the neighbour machine a received message is, and what is answered.

The twin of `arp`: solicitations, advertisements and router solicitations, in the order of ndisc_rcv, ndisc_recv_ns,
ndisc_recv_na and ndisc_recv_rs. Router advertisements and redirects are not read here.
"""

from enum import IntEnum
from typing import Annotated, Any, Final

from refmodel.neigh.arp import Defer, Learn, Pkt
from refmodel.neigh.parms import u48
from refmodel.neigh.types import NUD, Flush, Override, Timed, Update
from refmodel.profile import Sysctl
from refmodel.rule import Effect, Machine, Params, State, machine, pure, require, rule, transition
from refmodel.types import Range, u8

INT_MIN: Final = -0x80000000
INT_MAX: Final = 0x7FFFFFFF
ALL_NODES: Final = 0xFF020000000000000000000000000001
SOLICITED_NODE: Final = 0xFF0200000000000000000001FF000000

u128 = Annotated[int, Range(0, (1 << 128) - 1)]
Effects = tuple[Any, ...]


def _conf(name: str, default: int, lo: int = INT_MIN, hi: int = INT_MAX) -> Sysctl:
    return Sysctl(f"net.ipv6.conf.all.{name}", default, lo, hi, "net/ipv6/addrconf.c:addrconf_sysctl")


class NdiscParms(Params, frozen=True, kw_only=True):
    """What conf.all and conf.<device> say, and the device itself; truth values are taken as such."""

    forwarding: Annotated[bool, _conf("forwarding", 0)] = False
    accept_untracked_na: Annotated[int, _conf("accept_untracked_na", 0, 0, 2)] = 0
    drop_unsolicited_na: Annotated[bool, _conf("drop_unsolicited_na", 0, 0)] = False
    force_tllao: Annotated[bool, _conf("force_tllao", 0)] = False
    suppress_frag_ndisc: Annotated[bool, _conf("suppress_frag_ndisc", 1)] = True
    ndisc_notify: Annotated[bool, _conf("ndisc_notify", 0)] = False
    ndisc_evict_nocarrier: Annotated[bool, _conf("ndisc_evict_nocarrier", 1, 0, 1)] = True
    proxy_delay: Annotated[
        int, Sysctl("net.ipv6.neigh.default.proxy_delay", 80, 0, INT_MAX, "net/ipv6/ndisc.c:nd_tbl")
    ] = 80
    dev_addr: u48 = 0


class Interface6(State, frozen=True):
    """An IPv6 interface of Ethernet type, as neighbour discovery's receiver."""


class NdIn(Timed, frozen=True):
    """A received neighbour discovery message and what the host knows of its addresses.

    `fragmented`: it came in fragments. `whole`: it has the length of its type. `options_ok`: they parse, `lladdr_ok`:
    the source or target link-layer option, if any, has the device's length. `ours`: target is an address of the
    interface, `tentative`, `optimistic` its flags; `own_nonce`: the option repeats our own. `other`: it is an anycast
    address or proxied for, `other_router` the proxy entry's flag, `requeued` that it comes from the proxy queue.
    `known`: the table has its subject (source of a solicitation, target of an advertisement), `failed` in FAILED;
    `full`: a new entry cannot be made. `own_proxy`: the advertisement is this host's own, sent for a proxied address.
    `saddr_onlink`: its source is in a prefix of the interface.
    """

    pkt_type: Pkt = Pkt.MULTICAST
    fragmented: bool = False
    whole: bool = True
    hop_limit: u8 = 255
    code: u8 = 0
    saddr: u128 = 0
    daddr: u128 = 0
    daddr_multicast: bool = False
    daddr_solicited_node: bool = False
    target: u128 = 0
    target_multicast: bool = False
    options_ok: bool = True
    lladdr: u48 = 0
    has_lladdr: bool = False
    lladdr_ok: bool = True
    own_nonce: bool = False
    ours: bool = False
    tentative: bool = False
    optimistic: bool = False
    other: bool = False
    other_router: bool = False
    requeued: bool = False
    known: bool = False
    failed: bool = False
    full: bool = False
    own_proxy: bool = False
    saddr_onlink: bool = True


class NsIn(NdIn, frozen=True):
    """A neighbour solicitation."""


class NaIn(NdIn, frozen=True):
    """A neighbour advertisement with its flags."""

    router: bool = False
    solicited: bool = False
    override: bool = False


class RsIn(NdIn, frozen=True):
    """A router solicitation."""


class NaOut(Effect, frozen=True):
    """A neighbour advertisement to `daddr` about `target`; `has_lladdr`: with the device's address in an option."""

    daddr: u128
    target: u128
    router: bool
    solicited: bool
    override: bool
    has_lladdr: bool


class DadFailure(Effect, frozen=True):
    """Somebody else has the tentative address (addrconf_dad_failure)."""


class Verdict(IntEnum):
    """What becomes of a message, in the kernel's order."""

    DROPPED = 0  # malformed or forbidden: no trace
    COLLISION = 1  # somebody has or wants our tentative address
    SILENT = 2  # nothing to do
    LATER = 3  # proxied or anycast: wait
    DAD = 4  # somebody wants an address that we have
    ANSWER = 5
    NO_ROOM = 6  # the asker is not in the table and cannot be
    LEARN = 7


@pure
def void(e: NdIn, p: NdiscParms) -> bool:
    """No message of discovery passes a router or in pieces; source net/ipv6/ndisc.c:ndisc_rcv."""
    return (e.fragmented and p.suppress_frag_ndisc) or e.hop_limit != 255 or e.code != 0 or not e.whole


@pure
def creates(e: NsIn) -> bool:
    """An unknown asker gets an entry if its address is given, or if it asked by unicast."""
    return not e.daddr_multicast or e.has_lladdr


@pure
def solicitation(e: NsIn, p: NdiscParms) -> Verdict:
    """Classifies a neighbour solicitation; source net/ipv6/ndisc.c:ndisc_recv_ns."""
    dad = e.saddr == 0
    if void(e, p) or e.target_multicast or (dad and not e.daddr_solicited_node) or not e.options_ok:
        return Verdict.DROPPED
    if e.has_lladdr and (not e.lladdr_ok or dad):
        return Verdict.DROPPED
    if e.ours and (e.tentative or e.optimistic):
        if dad:
            return Verdict.SILENT if e.own_nonce else Verdict.COLLISION
        if not e.optimistic:
            return Verdict.SILENT
    if not e.ours and not e.other:
        return Verdict.SILENT
    waits = not e.requeued and e.pkt_type != Pkt.HOST and e.daddr_multicast and p.proxy_delay != 0
    if not e.ours and waits:
        return Verdict.LATER
    if dad:
        return Verdict.DAD
    if not e.known and (not creates(e) or e.full):
        return Verdict.NO_ROOM
    return Verdict.ANSWER


@pure
def is_router(e: NsIn, p: NdiscParms) -> bool:
    """The router flag of an answer: the proxy entry's, else forwarding."""
    return e.other_router if not e.ours and e.other else p.forwarding


@rule("net/ipv6/ndisc.c:ndisc_rcv", "net/ipv6/ndisc.c:ndisc_recv_ns", "RFC 4861 7.1.1")
def ns_dropped(s: Interface6, e: NsIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """A solicitation that came over a router, in fragments, malformed or against the rules of its form is dropped."""
    require(solicitation(e, p) == Verdict.DROPPED, "malformed")
    return s, ()


@rule("net/ipv6/ndisc.c:ndisc_recv_ns", "RFC 4862 5.4.3")
def ns_collision(s: Interface6, e: NsIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """Another node that probes for our tentative address makes our detection fail."""
    require(solicitation(e, p) == Verdict.COLLISION, "another node probes for our tentative address")
    return s, (DadFailure(),)


@rule("net/ipv6/ndisc.c:ndisc_recv_ns", "RFC 4861 7.2.3")
def ns_silent(s: Interface6, e: NsIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """A solicitation for another node, for a tentative address, or our own come back, changes nothing."""
    require(solicitation(e, p) == Verdict.SILENT, "not ours to answer")
    return s, ()


@rule("net/ipv6/ndisc.c:ndisc_recv_ns", "RFC 4861 7.2.7")
def ns_later(s: Interface6, e: NsIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """A multicast solicitation for an anycast or proxied address waits a random time."""
    require(solicitation(e, p) == Verdict.LATER, "anycast or proxied, and not yet waited")
    return s, (Defer(),)


@rule("net/ipv6/ndisc.c:ndisc_recv_ns", "RFC 4862 5.4.3", "RFC 4861 7.2.4")
def ns_dad(s: Interface6, e: NsIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """Who probes for our address before using it is answered to all nodes, and not learnt."""
    require(solicitation(e, p) == Verdict.DAD, "a probe for an address that we answer for")
    over = e.ours and not e.optimistic
    return s, (NaOut(ALL_NODES, e.target, is_router(e, p), False, over, True),)


@rule("net/ipv6/ndisc.c:ndisc_recv_ns", "RFC 4861 7.2.3", "RFC 4861 7.2.4")
def ns_answer(s: Interface6, e: NsIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """Who asks for our address is learnt as STALE and answered; the answer to a multicast one carries our address."""
    require(solicitation(e, p) == Verdict.ANSWER, "a solicitation for an address that we answer for")
    over = e.ours and e.daddr_multicast and not e.optimistic
    heard = Update(
        e.now, NUD.STALE, lladdr=e.lladdr, has_lladdr=e.has_lladdr, override=Override.YES, weak_override=True
    )
    named = e.daddr_multicast or (e.ours and p.force_tllao)
    answer = NaOut(e.saddr, e.target, is_router(e, p), True, over, named)
    return s, (Learn(heard, creates(e)), answer)


@rule("net/ipv6/ndisc.c:ndisc_recv_ns")
def ns_no_room(s: Interface6, e: NsIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """An unknown asker that doesn't give its address, or finds the table full, is not answered."""
    require(solicitation(e, p) == Verdict.NO_ROOM, "the asker has no entry and gets none")
    return s, ()


@pure
def untracked(e: NaIn, p: NdiscParms) -> bool:
    """A router may make an entry from an advertisement; source net/ipv6/ndisc.c:accept_untracked_na."""
    may = p.accept_untracked_na == 1 or (p.accept_untracked_na == 2 and e.saddr_onlink)
    return not e.known and e.has_lladdr and p.forwarding and may and not e.full


@pure
def advertisement(e: NaIn, p: NdiscParms) -> Verdict:
    """Classifies a neighbour advertisement; source net/ipv6/ndisc.c:ndisc_recv_na."""
    if void(e, p) or e.target_multicast or (e.daddr_multicast and e.solicited):
        return Verdict.DROPPED
    if (not e.solicited and p.drop_unsolicited_na) or not e.options_ok or (e.has_lladdr and not e.lladdr_ok):
        return Verdict.DROPPED
    if e.ours:
        return Verdict.COLLISION if e.pkt_type != Pkt.LOOPBACK and e.tentative else Verdict.SILENT
    if e.known and (e.failed or (e.has_lladdr and e.own_proxy)):
        return Verdict.SILENT
    return Verdict.LEARN if e.known or untracked(e, p) else Verdict.SILENT


@rule("net/ipv6/ndisc.c:ndisc_rcv", "net/ipv6/ndisc.c:ndisc_recv_na", "RFC 4861 7.1.2")
def na_dropped(s: Interface6, e: NaIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """An advertisement that is malformed, solicited yet multicast, or unsolicited and unwanted is dropped."""
    require(advertisement(e, p) == Verdict.DROPPED, "malformed or unwanted")
    return s, ()


@rule("net/ipv6/ndisc.c:ndisc_recv_na", "RFC 4862 5.4.4")
def na_collision(s: Interface6, e: NaIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """An advertisement of our tentative address makes our detection fail."""
    require(advertisement(e, p) == Verdict.COLLISION, "somebody has our tentative address")
    return s, (DadFailure(),)


@rule("net/ipv6/ndisc.c:ndisc_recv_na", "RFC 4861 7.2.5")
def na_silent(s: Interface6, e: NaIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """An advertisement of our own address, of an unknown node or of one whose resolution failed changes nothing."""
    require(advertisement(e, p) == Verdict.SILENT, "no entry to update")
    return s, ()


@rule("net/ipv6/ndisc.c:ndisc_recv_na", "RFC 4861 7.2.5", "RFC 9131 4.2")
def na_learn(s: Interface6, e: NaIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """An advertisement updates its target's entry: REACHABLE if it was solicited, else STALE; its flags decide more."""
    require(advertisement(e, p) == Verdict.LEARN, "the target has an entry or gets one")
    heard = Update(
        e.now,
        NUD.REACHABLE if e.solicited and e.known else NUD.STALE,
        lladdr=e.lladdr,
        has_lladdr=e.has_lladdr,
        override=Override.YES if e.override else Override.NO,
        weak_override=True,
        override_isrouter=True,
        isrouter=e.router,
    )
    return s, (Learn(heard, untracked(e, p)),)


@pure
def router_solicitation(e: RsIn, p: NdiscParms) -> Verdict:
    """Classifies a router solicitation; source net/ipv6/ndisc.c:ndisc_recv_rs."""
    if void(e, p) or not p.forwarding or e.saddr == 0 or not e.options_ok or (e.has_lladdr and not e.lladdr_ok):
        return Verdict.DROPPED
    return Verdict.LEARN if e.known or not e.full else Verdict.NO_ROOM


@rule("net/ipv6/ndisc.c:ndisc_rcv", "net/ipv6/ndisc.c:ndisc_recv_rs", "RFC 4861 6.2.6")
def rs_dropped(s: Interface6, e: RsIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """A host, or a router asked by nobody in particular, learns nothing from a router solicitation."""
    require(router_solicitation(e, p) in (Verdict.DROPPED, Verdict.NO_ROOM), "malformed, no router, or no room")
    return s, ()


@rule("net/ipv6/ndisc.c:ndisc_recv_rs", "RFC 4861 6.2.6")
def rs_learn(s: Interface6, e: RsIn, p: NdiscParms) -> tuple[Interface6, Effects]:
    """A router learns who solicits it as a host, STALE."""
    require(router_solicitation(e, p) == Verdict.LEARN, "a router was asked by somebody")
    heard = Update(
        e.now,
        NUD.STALE,
        lladdr=e.lladdr,
        has_lladdr=e.has_lladdr,
        override=Override.YES,
        weak_override=True,
        override_isrouter=True,
    )
    return s, (Learn(heard, True),)


@pure
def source(from_packet: bool, saddr: int, saddr_settled: bool, link_local: int) -> int:
    """The source of a solicitation; 0: none, and nothing is sent.

    `saddr` is the newest queued packet's source, `saddr_settled` that it is an address of the interface whose detection
    is over; `link_local` the interface's settled link-local address or 0. Source net/ipv6/ndisc.c:ndisc_solicit,
    ndisc_send_ns.
    """
    return saddr if from_packet and saddr_settled else link_local


@pure
def solicited_node(target: int) -> int:
    """The group ff02::1:ffXX:XXXX of an address; source include/net/addrconf.h:addrconf_addr_solict_mult."""
    return SOLICITED_NODE + (target & 0xFFFFFF)


@pure
def netdev_event(
    now: int, address: bool, noarp_changed: bool, down: bool, carrier_lost: bool, p: NdiscParms
) -> Flush | None:
    """What a device's event does to its entries; None: nothing. Source net/ipv6/ndisc.c:ndisc_netdev_event."""
    if address or noarp_changed or down:
        return Flush(now)
    if carrier_lost and p.ndisc_evict_nocarrier:
        return Flush(now, skip_perm=True)
    return None


@pure
def announces(up: bool, address: bool, notify_peers: bool, p: NdiscParms) -> bool:
    """Whether a device's event sends all nodes an unsolicited advertisement of each settled address, with override.

    Source net/ipv6/ndisc.c:ndisc_netdev_event, ndisc_send_unsol_na.
    """
    return notify_peers or ((up or address) and p.ndisc_notify)


# What is always true of discovery's receiver.


@transition(NsIn, NaIn, RsIn)
def foreign_is_void(s: Interface6, e: NdIn, t: Interface6, fx: Effects) -> bool:
    """A message whose hop limit is not 255 has no effect."""
    return e.hop_limit == 255 or all(not isinstance(x, (Learn, NaOut, DadFailure, Defer)) for x in fx)


@transition(NsIn)
def tentative_never_answers(s: Interface6, e: NsIn, t: Interface6, fx: Effects) -> bool:
    """A tentative address that is not optimistic is never advertised in answer."""
    return not (e.ours and e.tentative and not e.optimistic) or all(not isinstance(x, NaOut) for x in fx)


@transition(NsIn)
def probe_teaches_nothing(s: Interface6, e: NsIn, t: Interface6, fx: Effects) -> bool:
    """Nothing is learnt from a solicitation without a source address."""
    return e.saddr != 0 or all(not isinstance(x, Learn) for x in fx)


@transition(NsIn)
def answer_is_solicited(s: Interface6, e: NsIn, t: Interface6, fx: Effects) -> bool:
    """An answer has the solicited flag exactly if it goes to the asker alone."""
    return all(x.solicited == (e.saddr != 0) and x.target == e.target for x in fx if isinstance(x, NaOut))


@transition(NaIn)
def reachable_needs_solicited(s: Interface6, e: NaIn, t: Interface6, fx: Effects) -> bool:
    """Only a solicited advertisement proves reachability."""
    return e.solicited or all(x.update.new == NUD.STALE for x in fx if isinstance(x, Learn))


@transition(NaIn)
def failed_stays_failed(s: Interface6, e: NaIn, t: Interface6, fx: Effects) -> bool:
    """An advertisement does not revive an entry whose resolution failed."""
    return not (e.known and e.failed) or all(not isinstance(x, Learn) for x in fx)


NDISC: Final = machine(
    Machine(
        name="ndisc",
        title="Neighbour discovery's receiver",
        accepts={Interface6: (NsIn, NaIn, RsIn)},
        params=NdiscParms,
        initial=(Interface6(),),
        modules=("refmodel.neigh.types", "refmodel.neigh.arp", "refmodel.neigh.ndisc"),
    )
)
