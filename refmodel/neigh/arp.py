"""ARP on the wire: which event of the neighbour machine a received frame is, what is answered, how one asks.

The interface's receiving side keeps no state of its own: every ArpIn carries what routing and the table say of its
addresses. `classify` is arp_rcv and arp_process in the kernel's order.
"""

from enum import IntEnum
from typing import Annotated, Any, Final

from refmodel.neigh.parms import u48
from refmodel.neigh.types import NUD, Flush, Override, Timed, Update
from refmodel.profile import Sysctl
from refmodel.rule import Effect, Machine, Params, State, assume, machine, pure, require, rule, transition
from refmodel.types import u16, u32

ARPHRD_ETHER: Final = 1
ARPHRD_IEEE802: Final = 6
ETH_P_IP: Final = 0x0800
ARPOP_REQUEST: Final = 1
ARPOP_REPLY: Final = 2
MULTICAST_FIRST: Final = 0xE0000000
MULTICAST_LAST: Final = 0xEFFFFFFF
LOOPBACK_FIRST: Final = 0x7F000000
LOOPBACK_LAST: Final = 0x7FFFFFFF
INT_MIN: Final = -0x80000000
INT_MAX: Final = 0x7FFFFFFF

Effects = tuple[Any, ...]


class Pkt(IntEnum):
    """skb->pkt_type: to whom the link-layer header is addressed."""

    HOST = 0
    BROADCAST = 1
    MULTICAST = 2
    OTHERHOST = 3
    LOOPBACK = 5


class RTN(IntEnum):
    """What an address or a route is, of those that ARP tells apart."""

    UNSPEC = 0
    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    MULTICAST = 5
    OTHER = 6


def _conf(name: str, default: int, lo: int = INT_MIN) -> Sysctl:
    return Sysctl(f"net.ipv4.conf.all.{name}", default, lo, INT_MAX, "net/ipv4/devinet.c:devinet_sysctl")


class ArpParms(Params, frozen=True, kw_only=True):
    """What conf.all and conf.<device> together say (IN_DEV_MAXCONF, ORCONF, ANDCONF), and the device itself.

    The kernel takes any int for each of them; truth values are taken as such.
    """

    arp_ignore: Annotated[int, _conf("arp_ignore", 0)] = 0
    arp_announce: Annotated[int, _conf("arp_announce", 0)] = 0
    arp_accept: Annotated[int, _conf("arp_accept", 0)] = 0
    arp_filter: Annotated[bool, _conf("arp_filter", 0, 0)] = False
    arp_notify: Annotated[bool, _conf("arp_notify", 0, 0)] = False
    arp_evict_nocarrier: Annotated[bool, _conf("arp_evict_nocarrier", 1, 0)] = True
    drop_gratuitous_arp: Annotated[bool, _conf("drop_gratuitous_arp", 0, 0)] = False
    route_localnet: Annotated[bool, _conf("route_localnet", 0, 0)] = False
    forwarding: Annotated[bool, _conf("forwarding", 0, 0)] = False
    proxy_delay: Annotated[
        int, Sysctl("net.ipv4.neigh.default.proxy_delay", 80, 0, INT_MAX, "net/ipv4/arp.c:arp_tbl")
    ] = 80
    dev_addr: u48 = 0
    noarp: bool = False


class Interface(State, frozen=True):
    """An IPv4 interface of Ethernet type, as ARP's receiver."""


class ArpIn(Timed, frozen=True):
    """A received ARP frame and what the host knows of its addresses.

    `whole`: ar_hln and ar_pln fit the device and the frame is long enough. `tip_local`, `sip_type`:
    inet_addr_type_dev_table. `routed`: ip_route_input accepts tip from sip, with type `route` and maybe out of the same
    device. `tip_here`: tip is this interface's; `tip_same_subnet`: and in sip's subnet; `tip_wide`: some interface has
    it with at most link scope. `filtered`: the way back to sip is another device. `sip_subnet`: sip is in a subnet of
    this interface. `proxied`: proxy_arp, pvlan or a proxy entry answers for tip. `requeued`: it comes from the proxy
    queue. `known`: sip has an entry; `full`: a new one cannot be made.
    """

    pkt_type: Pkt = Pkt.BROADCAST
    whole: bool = True
    ar_hrd: u16 = ARPHRD_ETHER
    ar_pro: u16 = ETH_P_IP
    ar_op: u16 = ARPOP_REQUEST
    sha: u48 = 0
    sip: u32 = 0
    tha: u48 = 0
    tip: u32 = 0
    tip_local: bool = False
    routed: bool = True
    route: RTN = RTN.UNICAST
    sip_type: RTN = RTN.UNICAST
    tip_here: bool = True
    tip_same_subnet: bool = True
    tip_wide: bool = True
    filtered: bool = False
    sip_subnet: bool = True
    proxied: bool = False
    requeued: bool = False
    known: bool = False
    full: bool = False


class ArpReply(Effect, frozen=True):
    """ARPOP_REPLY to link-layer `dst`, fields as on the wire; sent with the device's address as source."""

    dst: u48
    sha: u48
    sip: u32
    tha: u48
    tip: u32


class Learn(Effect, frozen=True):
    """`update` goes to the entry of the sender, which is made if `create` and it isn't there."""

    update: Update
    create: bool


class Defer(Effect, frozen=True):
    """The frame waits in the proxy queue up to proxy_delay (pneigh_enqueue) and comes again."""


class Verdict(IntEnum):
    """What arp_rcv and arp_process make of a frame, in their order."""

    IGNORED = 0  # not for ARP or not for us: consumed
    MALFORMED = 1
    FOREIGN = 2  # another hardware, protocol or operation
    BAD_TARGET = 3
    GRATUITOUS = 4  # drop_gratuitous_arp
    PROBE = 5  # sip 0: a duplicate address detection for our address
    PROBE_VOID = 6
    REQUEST = 7  # for our address, answered
    REQUEST_FULL = 8  # for our address, but its sender finds no room in the table
    REQUEST_MUTE = 9  # for our address, and arp_ignore or arp_filter says no
    PROXY = 10
    PROXY_LATER = 11
    NEWS = 12  # of a known sender
    ACCEPTED = 13  # of an unknown sender, with arp_accept
    UNKNOWN = 14


@pure
def ignored(e: ArpIn, p: ArpParms) -> bool:
    """arp_ignore keeps the host silent about tip; source net/ipv4/arp.c:arp_ignore."""
    if p.arp_ignore == 1:
        return not e.tip_here
    if p.arp_ignore == 2:
        return not e.tip_same_subnet
    if p.arp_ignore == 3:
        return not e.tip_wide
    return p.arp_ignore == 8


@pure
def accepts(e: ArpIn, p: ArpParms) -> bool:
    """arp_accept lets an unsolicited frame make an entry; source net/ipv4/arp.c:arp_accept."""
    return p.arp_accept == 1 or (p.arp_accept == 2 and e.sip_subnet)


@pure
def is_garp(e: ArpIn) -> bool:
    """A gratuitous ARP: it tells of its sender; as a reply it names the same hardware twice.

    Source net/ipv4/arp.c:arp_is_garp.
    """
    same = e.tip == e.sip and (e.ar_op != ARPOP_REPLY or e.tha == e.sha)
    return same and e.sip_type == RTN.UNICAST


@pure
def classify(e: ArpIn, p: ArpParms) -> Verdict:
    """The fate of a frame; source net/ipv4/arp.c:arp_rcv, arp_process."""
    if p.noarp or e.pkt_type in (Pkt.OTHERHOST, Pkt.LOOPBACK):
        return Verdict.IGNORED
    if not e.whole:
        return Verdict.MALFORMED
    if e.ar_hrd not in (ARPHRD_ETHER, ARPHRD_IEEE802) or e.ar_pro != ETH_P_IP:
        return Verdict.FOREIGN
    if e.ar_op not in (ARPOP_REPLY, ARPOP_REQUEST):
        return Verdict.FOREIGN
    if e.tip >= MULTICAST_FIRST and e.tip <= MULTICAST_LAST:
        return Verdict.BAD_TARGET
    if not p.route_localnet and e.tip >= LOOPBACK_FIRST and e.tip <= LOOPBACK_LAST:
        return Verdict.BAD_TARGET
    if e.sip == e.tip and p.drop_gratuitous_arp:
        return Verdict.GRATUITOUS
    if e.sip == 0:
        answer = e.ar_op == ARPOP_REQUEST and e.tip_local and not ignored(e, p)
        return Verdict.PROBE if answer else Verdict.PROBE_VOID
    if e.ar_op == ARPOP_REQUEST and e.routed and e.route == RTN.LOCAL:
        if ignored(e, p) or (p.arp_filter and e.filtered):
            return Verdict.REQUEST_MUTE
        return Verdict.REQUEST if e.known or not e.full else Verdict.REQUEST_FULL
    if e.ar_op == ARPOP_REQUEST and e.routed and p.forwarding and e.route == RTN.UNICAST and e.proxied:
        at_once = e.requeued or e.pkt_type == Pkt.HOST or p.proxy_delay == 0
        return Verdict.PROXY if at_once else Verdict.PROXY_LATER
    if e.known:
        return Verdict.NEWS
    told = is_garp(e) or (e.ar_op == ARPOP_REPLY and e.sip_type == RTN.UNICAST)
    return Verdict.ACCEPTED if accepts(e, p) and told and not e.full else Verdict.UNKNOWN


@pure
def news(e: ArpIn) -> Update:
    """The end of arp_process: a unicast reply proves reachability; within locktime the first answer wins.

    A gratuitous ARP overrides in any case.
    """
    proof = e.ar_op == ARPOP_REPLY and e.pkt_type == Pkt.HOST
    may = Override.YES if is_garp(e) else Override.AFTER_LOCKTIME
    return Update(e.now, NUD.REACHABLE if proof else NUD.STALE, lladdr=e.sha, override=may)


@pure
def sender(e: ArpIn) -> Update:
    """neigh_event_ns: who asks for us is learnt as STALE, overriding what was known."""
    return Update(e.now, NUD.STALE, lladdr=e.sha, override=Override.YES)


@pure
def reply(e: ArpIn, p: ArpParms) -> ArpReply:
    """The answer to a request: addressed to its sender, saying that tip is at our address."""
    return ArpReply(dst=e.sha, sha=p.dev_addr, sip=e.tip, tha=e.sha, tip=e.sip)


@rule("net/ipv4/arp.c:arp_rcv")
def arp_ignored(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """A frame to another host, a looped one, or any on a device without ARP is not looked at."""
    require(classify(e, p) == Verdict.IGNORED, "not for this host's ARP")
    return s, ()


@rule("net/ipv4/arp.c:arp_rcv", "net/ipv4/arp.c:arp_process", "RFC 826")
def arp_dropped(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """A frame that is cut, of another kind, or asks for a multicast or loopback address is dropped."""
    require(
        classify(e, p) in (Verdict.MALFORMED, Verdict.FOREIGN, Verdict.BAD_TARGET),
        "cut, foreign, or for a multicast or loopback address",
    )
    return s, ()


@rule("net/ipv4/arp.c:arp_process")
def arp_gratuitous_dropped(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """drop_gratuitous_arp drops every frame whose two addresses are one."""
    require(classify(e, p) == Verdict.GRATUITOUS, "gratuitous and unwanted")
    return s, ()


@rule("net/ipv4/arp.c:arp_process", "RFC 5227 2.1.1")
def arp_probe(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """Who probes for our address before using it is answered, and not learnt."""
    require(classify(e, p) == Verdict.PROBE, "a probe for our address")
    return s, (reply(e, p),)


@rule("net/ipv4/arp.c:arp_process", "RFC 5227 2.1.1")
def arp_probe_void(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """A probe for another address, or for one that arp_ignore hides, changes nothing."""
    require(classify(e, p) == Verdict.PROBE_VOID, "a probe that is not ours to answer")
    return s, ()


@rule("net/ipv4/arp.c:arp_process", "RFC 826")
def arp_request(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """Who asks for our address is learnt as STALE and answered."""
    require(classify(e, p) == Verdict.REQUEST, "a request for our address")
    return s, (Learn(sender(e), True), reply(e, p))


@rule("net/ipv4/arp.c:arp_process")
def arp_request_mute(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """A request for our address that arp_ignore or arp_filter hides is neither answered nor learnt from."""
    require(
        classify(e, p) in (Verdict.REQUEST_MUTE, Verdict.REQUEST_FULL),
        "arp_ignore, arp_filter or a full table forbids the answer",
    )
    return s, ()


@rule("net/ipv4/arp.c:arp_process", "RFC 1027 2.4")
def arp_proxy(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """A request for an address that this host answers for by proxy is learnt from and answered."""
    require(classify(e, p) == Verdict.PROXY, "a request answered by proxy now")
    return s, (Learn(sender(e), True), reply(e, p))


@rule("net/ipv4/arp.c:arp_process", "net/core/neighbour.c:pneigh_enqueue")
def arp_proxy_later(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """A broadcast request answered by proxy waits a random time, so that the owner may answer first."""
    require(classify(e, p) == Verdict.PROXY_LATER, "a request answered by proxy later")
    return s, (Learn(sender(e), True), Defer())


@rule("net/ipv4/arp.c:arp_process", "RFC 826")
def arp_news(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """Any other frame of a known sender, request or reply, updates its entry."""
    require(classify(e, p) == Verdict.NEWS, "of a known sender")
    return s, (Learn(news(e), False),)


@rule("net/ipv4/arp.c:arp_process")
def arp_accepted(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """With arp_accept an unsolicited frame makes an entry."""
    require(classify(e, p) == Verdict.ACCEPTED, "of an unknown sender, and arp_accept allows")
    return s, (Learn(news(e), True),)


@rule("net/ipv4/arp.c:arp_process")
def arp_unknown(s: Interface, e: ArpIn, p: ArpParms) -> tuple[Interface, Effects]:
    """An unsolicited frame of an unknown sender changes nothing."""
    require(classify(e, p) == Verdict.UNKNOWN, "of an unknown sender")
    return s, ()


@pure
def announce(p: ArpParms, from_packet: bool, saddr: u32, saddr_local: bool, saddr_onlink: bool, selected: u32) -> u32:
    """The sender address of a solicitation.

    `saddr` is the newest queued packet's source, if there is one; `saddr_onlink`: it shares a subnet of the device with
    the target; `selected` is inet_select_addr's choice. Source net/ipv4/arp.c:arp_solicit.
    """
    if not from_packet or not saddr_local or saddr == 0 or p.arp_announce == 2:
        return selected
    if p.arp_announce == 1 and not saddr_onlink:
        return selected
    return saddr


@pure
def netdev_event(
    now: int, address: bool, noarp_changed: bool, down: bool, carrier_lost: bool, p: ArpParms
) -> Flush | None:
    """What a device's event does to its entries; None: nothing. Source net/ipv4/arp.c:arp_netdev_event, arp_ifdown."""
    if address or noarp_changed or down:
        return Flush(now)
    if carrier_lost and p.arp_evict_nocarrier:
        return Flush(now, skip_perm=True)
    return None


@pure
def announces(up: bool, address: bool, notify_peers: bool, p: ArpParms) -> bool:
    """Whether a device's event broadcasts a request from and for each of its addresses.

    Source net/ipv4/devinet.c:inetdev_event, inetdev_send_gratuitous_arp.
    """
    return notify_peers or ((up or address) and p.arp_notify)


# What is always true of ARP's receiver.


@assume
def subnet_is_here(s: Interface, e: ArpIn) -> bool:
    """An address that this interface has in the sender's subnet is an address of this interface."""
    return not e.tip_same_subnet or e.tip_here


@transition(ArpIn)
def reply_only_to_requests(s: Interface, e: ArpIn, t: Interface, fx: Effects) -> bool:
    """A reply answers a request, once, and goes to whoever asked."""
    replies = sum(1 for x in fx if isinstance(x, ArpReply))
    return replies == 0 or (
        replies == 1
        and e.ar_op == ARPOP_REQUEST
        and all(x.dst == e.sha and x.sip == e.tip and x.tip == e.sip for x in fx if isinstance(x, ArpReply))
    )


@transition(ArpIn)
def reply_only_for_ours(s: Interface, e: ArpIn, t: Interface, fx: Effects) -> bool:
    """A reply speaks for an address of this host or one that it answers for by proxy."""
    ours = e.tip_local or e.route == RTN.LOCAL or e.proxied
    return ours or all(not isinstance(x, ArpReply) for x in fx)


@transition(ArpIn)
def probe_teaches_nothing(s: Interface, e: ArpIn, t: Interface, fx: Effects) -> bool:
    """Nothing is learnt from a frame without a sender address."""
    return e.sip != 0 or all(not isinstance(x, Learn) for x in fx)


@transition(ArpIn)
def ignore_means_silence(s: Interface, e: ArpIn, t: Interface, fx: Effects, p: ArpParms) -> bool:
    """With arp_ignore 8 no address of this host is answered for but by proxy."""
    return p.arp_ignore != 8 or e.proxied or all(not isinstance(x, ArpReply) for x in fx)


@transition(ArpIn)
def reachable_needs_reply(s: Interface, e: ArpIn, t: Interface, fx: Effects) -> bool:
    """Only a reply sent to this host alone proves reachability."""
    proof = e.ar_op == ARPOP_REPLY and e.pkt_type == Pkt.HOST
    return proof or all(x.update.new == NUD.STALE for x in fx if isinstance(x, Learn))


@transition(ArpIn)
def unsolicited_makes_no_entry(s: Interface, e: ArpIn, t: Interface, fx: Effects, p: ArpParms) -> bool:
    """Without arp_accept an entry is made only for who asks this host."""
    may = p.arp_accept in (1, 2) or e.ar_op == ARPOP_REQUEST
    return may or all(not x.create for x in fx if isinstance(x, Learn))


ARP: Final = machine(
    Machine(
        name="arp",
        title="ARP's receiver",
        accepts={Interface: (ArpIn,)},
        params=ArpParms,
        initial=(Interface(),),
        modules=("refmodel.neigh.types", "refmodel.neigh.arp"),
    )
)
