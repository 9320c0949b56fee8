"""What ARP and neighbour discovery make of a frame, and netlink of a request."""

from typing import Any

import pytest

from refmodel.engine.run import pick
from refmodel.neigh.arp import (
    ARP,
    ARPOP_REPLY,
    ARPOP_REQUEST,
    RTN,
    ArpIn,
    ArpParms,
    ArpReply,
    Defer,
    Interface,
    Learn,
    Pkt,
    announce,
    announces,
    netdev_event,
)
from refmodel.neigh.ndisc import (
    ALL_NODES,
    NDISC,
    DadFailure,
    Interface6,
    NaIn,
    NaOut,
    NdIn,
    NdiscParms,
    NsIn,
    RsIn,
    solicited_node,
    source,
)
from refmodel.neigh.ndisc import announces as announces6
from refmodel.neigh.ndisc import netdev_event as netdev_event6
from refmodel.neigh.netlink import EEXIST, ENOENT, NewNeigh, neigh_add, neigh_fill_info
from refmodel.neigh.types import NUD, Create, Errno, EventSend, Flush, Override, Update
from tests.neigh.runs import MAC, OTHER, SECOND, Run, reachable, stale

OURS, PEER, ELSE = 0x0A090001, 0x0A090002, 0x0A090063
MINE = 0x020000000001
ASK, ANSWER = pick(ARP, check=True), pick(NDISC, check=True)
OURS6, PEER6 = (0xFE80 << 112) + 1, (0xFE80 << 112) + 2


def arp(p: ArpParms | None = None, **frame: Any) -> tuple[str, tuple[Any, ...]]:
    """The rule and effects of a frame; by default the peer's broadcast request for our address."""
    given: dict[str, Any] = {"sha": MAC, "sip": PEER, "tip": OURS, "tip_local": True, "route": RTN.LOCAL}
    r, _, fx = ASK.apply(Interface(), ArpIn(5, **(given | frame)), p or ArpParms(dev_addr=MINE))
    return r.id.rsplit(".", 1)[1], fx


def reply(**frame: Any) -> dict[str, Any]:
    return {"ar_op": ARPOP_REPLY, "pkt_type": Pkt.HOST, "tha": MINE, "known": True} | frame


def test_a_request_for_us_is_learnt_and_answered() -> None:
    name, (learnt, answer) = arp()
    assert name == "arp_request"
    assert learnt.create
    assert (learnt.update.new, learnt.update.lladdr, learnt.update.override) == (NUD.STALE, MAC, Override.YES)
    assert answer == ArpReply(dst=MAC, sha=MINE, sip=OURS, tha=MAC, tip=PEER, by="neigh.arp.arp_request")


def test_a_probe_is_answered_and_not_learnt() -> None:
    name, effects = arp(sip=0)
    assert name == "arp_probe"
    assert effects == (ArpReply(dst=MAC, sha=MINE, sip=OURS, tha=MAC, tip=0, by="neigh.arp.arp_probe"),)


def test_a_unicast_reply_proves_reachability_and_a_broadcast_one_does_not() -> None:
    assert arp(**reply())[1][0].update.new == NUD.REACHABLE
    assert arp(**reply(pkt_type=Pkt.BROADCAST))[1][0].update.new == NUD.STALE


def test_an_unsolicited_reply_of_a_stranger_is_void() -> None:
    assert arp(**reply(known=False)) == ("arp_unknown", ())


@pytest.mark.parametrize(
    ("accept", "subnet", "made"), [(1, False, True), (2, True, True), (2, False, False), (3, True, False)]
)
def test_arp_accept_lets_strangers_in(accept: int, subnet: bool, made: bool) -> None:
    name, _ = arp(ArpParms(arp_accept=accept), **reply(known=False, sip_subnet=subnet))
    assert (name == "arp_accepted") == made


def test_a_gratuitous_arp_overrides_at_once_and_an_ordinary_one_after_locktime() -> None:
    told: dict[str, Any] = {"sip": PEER, "tip": PEER, "known": True, "route": RTN.UNICAST}
    assert arp(ar_op=ARPOP_REQUEST, **told)[1][0].update.override == Override.YES
    assert arp(ar_op=ARPOP_REPLY, tha=MAC, **told)[1][0].update.override == Override.YES
    assert arp(ar_op=ARPOP_REPLY, tha=OTHER, **told)[1][0].update.override == Override.AFTER_LOCKTIME


def test_drop_gratuitous_arp_drops_it() -> None:
    name, _ = arp(ArpParms(drop_gratuitous_arp=True), sip=PEER, tip=PEER, known=True)
    assert name == "arp_gratuitous_dropped"


@pytest.mark.parametrize(
    ("mode", "facts", "answered"),
    [
        (0, {"tip_here": False, "tip_same_subnet": False, "tip_wide": False}, True),
        (1, {"tip_here": False, "tip_same_subnet": False}, False),
        (2, {"tip_same_subnet": False}, False),
        (2, {}, True),
        (3, {"tip_wide": False}, False),
        (4, {"tip_here": False, "tip_same_subnet": False}, True),
        (8, {}, False),
        (9, {}, True),
        (-1, {}, True),
    ],
)
def test_arp_ignore_decides_who_is_answered(mode: int, facts: dict[str, bool], answered: bool) -> None:
    name, effects = arp(ArpParms(arp_ignore=mode), **facts)
    assert (name == "arp_request") == answered
    assert bool(effects) == answered


def test_arp_filter_mutes_the_wrong_interface() -> None:
    assert arp(ArpParms(arp_filter=True), filtered=True) == ("arp_request_mute", ())
    assert arp(ArpParms(arp_filter=False), filtered=True)[0] == "arp_request"


@pytest.mark.parametrize(
    "frame",
    [
        {"whole": False},
        {"ar_hrd": 2},
        {"ar_pro": 0x86DD},
        {"ar_op": 3},
        {"tip": 0xE0000001},
        {"tip": 0x7F000001},
    ],
)
def test_frames_that_arp_drops(frame: dict[str, Any]) -> None:
    assert arp(**frame) == ("arp_dropped", ())


@pytest.mark.parametrize("to", [Pkt.OTHERHOST, Pkt.LOOPBACK])
def test_frames_that_arp_does_not_look_at(to: Pkt) -> None:
    assert arp(pkt_type=to) == ("arp_ignored", ())


def test_a_proxy_answers_broadcasts_later() -> None:
    asked: dict[str, Any] = {"tip": ELSE, "tip_local": False, "route": RTN.UNICAST, "proxied": True}
    p = ArpParms(forwarding=True, dev_addr=MINE)
    name, effects = arp(p, **asked)
    assert name == "arp_proxy_later"
    assert isinstance(effects[1], Defer)
    assert arp(p, requeued=True, **asked)[0] == "arp_proxy"
    assert arp(ArpParms(forwarding=True, proxy_delay=0), **asked)[0] == "arp_proxy"


def test_a_known_host_that_asks_for_another_is_updated() -> None:
    name, effects = arp(tip=ELSE, tip_local=False, route=RTN.UNICAST, known=True)
    assert name == "arp_news"
    assert effects[0].update.new == NUD.STALE


@pytest.mark.parametrize(
    ("mode", "packet", "local", "onlink", "chosen"),
    [
        (0, True, True, False, 1),
        (0, True, False, True, 2),
        (0, False, True, True, 2),
        (1, True, True, True, 1),
        (1, True, True, False, 2),
        (2, True, True, True, 2),
        (3, True, True, False, 1),
    ],
)
def test_arp_announce_chooses_the_source(mode: int, packet: bool, local: bool, onlink: bool, chosen: int) -> None:
    assert announce(ArpParms(arp_announce=mode), packet, 1, local, onlink, 2) == chosen


def test_what_device_events_do_to_entries() -> None:
    p, p6 = ArpParms(), NdiscParms()
    for happened in (netdev_event(5, False, False, False, True, p), netdev_event6(5, False, False, False, True, p6)):
        assert happened == Flush(5, skip_perm=True)
    assert netdev_event(5, False, False, False, True, ArpParms(arp_evict_nocarrier=False)) is None
    assert netdev_event6(5, False, False, False, True, NdiscParms(ndisc_evict_nocarrier=False)) is None
    assert netdev_event(5, True, False, False, False, p) == Flush(5) == netdev_event6(5, False, False, True, False, p6)


def test_who_announces_itself_unasked() -> None:
    assert [announces(True, False, False, ArpParms(arp_notify=x)) for x in (False, True)] == [False, True]
    assert [announces6(False, True, False, NdiscParms(ndisc_notify=x)) for x in (False, True)] == [False, True]
    assert announces(False, False, True, ArpParms())
    assert announces6(False, False, True, NdiscParms())


def nd(kind: type[NdIn], p: NdiscParms | None = None, **facts: Any) -> tuple[str, tuple[Any, ...]]:
    """The rule and effects of a message; by default from the peer for or about the right address."""
    given: dict[str, Any] = {
        "saddr": PEER6,
        "target": PEER6 if kind is NaIn else OURS6,
        "lladdr": MAC,
        "has_lladdr": True,
    }
    given |= {"ours": True, "daddr_multicast": True, "daddr_solicited_node": True} if kind is NsIn else {"known": True}
    r, _, fx = ANSWER.apply(Interface6(), kind(5, **(given | facts)), p or NdiscParms())
    return r.id.rsplit(".", 1)[1], fx


def test_a_multicast_solicitation_is_learnt_and_answered_with_override() -> None:
    name, (learnt, answer) = nd(NsIn)
    assert name == "ns_answer"
    assert (learnt.create, learnt.update.new, learnt.update.weak_override) == (True, NUD.STALE, True)
    assert (answer.daddr, answer.solicited, answer.override, answer.has_lladdr) == (PEER6, True, True, True)


def test_the_answer_to_a_unicast_solicitation_does_not_override() -> None:
    _, (_, answer) = nd(NsIn, daddr_multicast=False, daddr_solicited_node=False)
    assert (answer.override, answer.has_lladdr) == (False, False)
    _, (_, answer) = nd(NsIn, NdiscParms(force_tllao=True), daddr_multicast=False, daddr_solicited_node=False)
    assert answer.has_lladdr


def test_an_unknown_asker_without_address_is_not_answered() -> None:
    assert nd(NsIn, has_lladdr=False) == ("ns_no_room", ())
    assert nd(NsIn, has_lladdr=False, known=True)[0] == "ns_answer"


def test_duplicate_address_detection() -> None:
    probe: dict[str, Any] = {"saddr": 0, "has_lladdr": False}
    name, effects = nd(NsIn, **probe)
    assert (name, effects[0].daddr, effects[0].solicited) == ("ns_dad", ALL_NODES, False)
    assert isinstance(effects[0], NaOut)
    assert isinstance(nd(NsIn, tentative=True, **probe)[1][0], DadFailure)
    assert nd(NsIn, tentative=True, own_nonce=True, **probe) == ("ns_silent", ())
    assert nd(NsIn, tentative=True) == ("ns_silent", ())
    assert nd(NsIn, daddr_solicited_node=False, **probe) == ("ns_dropped", ())
    assert nd(NsIn, saddr=0) == ("ns_dropped", ())
    assert isinstance(nd(NaIn, ours=True, tentative=True)[1][0], DadFailure)


@pytest.mark.parametrize("kind", [NsIn, NaIn, RsIn])
def test_discovery_never_crosses_a_router(kind: type[NdIn]) -> None:
    name, effects = nd(kind, NdiscParms(forwarding=True), hop_limit=254)
    assert name.endswith("_dropped")
    assert effects == ()


def test_an_advertisements_flags_become_the_updates() -> None:
    _, (learnt,) = nd(NaIn, solicited=True, override=True, router=True)
    u = learnt.update
    assert (u.new, u.override, u.weak_override, u.override_isrouter, u.isrouter) == (
        NUD.REACHABLE,
        Override.YES,
        True,
        True,
        True,
    )
    _, (learnt,) = nd(NaIn)
    assert (learnt.update.new, learnt.update.override) == (NUD.STALE, Override.NO)


def test_an_advertisement_does_not_revive_a_failed_entry() -> None:
    assert nd(NaIn, failed=True, solicited=True) == ("na_silent", ())


def test_a_router_may_accept_untracked_advertisements() -> None:
    p = NdiscParms(forwarding=True, accept_untracked_na=1)
    name, (learnt,) = nd(NaIn, p, known=False, solicited=True)
    assert (name, learnt.create, learnt.update.new) == ("na_learn", True, NUD.STALE)
    assert nd(NaIn, known=False)[0] == "na_silent"
    assert nd(NaIn, NdiscParms(drop_unsolicited_na=True))[0] == "na_dropped"


def test_a_router_learns_who_solicits_it() -> None:
    assert nd(RsIn)[0] == "rs_dropped"
    assert isinstance(nd(RsIn, NdiscParms(forwarding=True))[1][0], Learn)


def test_solicitations_go_to_the_solicited_node_group_from_a_settled_address() -> None:
    assert solicited_node(OURS6) == (0xFF02 << 112) + (0x1FF << 24) + 1
    assert [source(True, 1, True, 2), source(True, 1, False, 2), source(False, 1, True, 0)] == [1, 2, 0]


def test_netlink_adds_an_entry() -> None:
    err, (made, update) = neigh_add(NewNeigh(5, NUD.PERMANENT, MAC), exists=False)
    assert err == 0
    assert made == Create(5, netlink=True, permanent=True)
    assert isinstance(update, Update)
    assert (update.new, update.admin, update.override) == (NUD.PERMANENT, True, Override.YES)


def test_netlink_refuses_what_contradicts_itself() -> None:
    assert neigh_add(NewNeigh(5, NUD.STALE, create=False), exists=False) == (ENOENT, ())
    assert neigh_add(NewNeigh(5, NUD.STALE, excl=True), exists=True) == (EEXIST, ())
    assert neigh_add(NewNeigh(5, NUD.PERMANENT, managed=True), exists=False) == (Errno.EINVAL, ())


def test_without_replace_netlink_may_not_override() -> None:
    _, (update,) = neigh_add(NewNeigh(5, NUD.STALE, MAC), exists=True)
    assert isinstance(update, Update)
    assert update.override == Override.NO


def test_a_used_entry_is_asked_for() -> None:
    _, events = neigh_add(NewNeigh(5, NUD.NONE, use=True), exists=True)
    assert isinstance(events[-1], EventSend)


def test_a_dump_shows_the_address_only_of_a_valid_entry() -> None:
    r = reachable()
    r.wait(2)
    info = neigh_fill_info(r.n, r.now)
    assert (info.state, info.lladdr, info.updated) == (NUD.REACHABLE, MAC, 2 * SECOND)
    assert neigh_fill_info(Run().n, r.now).lladdr == -1
    assert neigh_fill_info(stale().n, r.now).state == NUD.STALE
