"""The machine fib_input: what ip_route_input_slow decides of a packet, step by step.

Addresses that no packet may have (martians) come first, then the route of the destination, then the source: would an
answer go out where the packet came in (rp_filter), and is the source not one of this host's own addresses.
"""

from enum import IntEnum
from errno import EHOSTUNREACH, EINVAL, EXDEV
from typing import Annotated, ClassVar

from msgspec.structs import replace

from refmodel.fib.types import RTN
from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Params,
    State,
    assume,
    invariant,
    machine,
    pure,
    require,
    rule,
    transition,
)
from refmodel.types import Range

errno = Annotated[int, Range(0, 133)]


class Stage(IntEnum):
    """How far the decision is."""

    ARRIVED = 0
    ROUTING = 1  # the destination is looked up
    SOURCE = 2  # the source is checked
    LOCAL = 3  # delivered here
    FORWARD = 4
    UNREACHABLE = 5  # a route that answers with an error (ip_error)
    DROPPED = 6


class Martian(IntEnum):
    """What ip_route_input_slow sees in the addresses alone."""

    NO_IP = 0
    SOURCE = 1
    BROADCAST = 2
    DESTINATION = 3
    NONE = 4


class Way(IntEnum):
    """Where the route of the destination leads."""

    NO_ROUTE = 0
    BROADCAST = 1
    LOCAL = 2
    CLOSED = 3
    MARTIAN = 4
    FORWARD = 5


class SourceLook(IntEnum):
    """What fib_validate_source says."""

    ACCEPTED = 0
    INVALID = 1
    RPF = 2


class Arrives(Event, frozen=True):
    """The packet's addresses: which of them are multicast, 255.255.255.255, 0.0.0.0, of net 127.

    `no_in_dev`: IP is off on the device. `is_ip`: it is asked for an IPv4 packet, not for ARP.
    """

    no_in_dev: bool = False
    is_ip: bool = True
    s_multicast: bool = False
    s_lbcast: bool = False
    s_zero: bool = False
    s_loopback: bool = False
    d_lbcast: bool = False
    d_zero: bool = False
    d_loopback: bool = False


class Routed(Event, frozen=True):
    """The lookup's answer: a positive errno, or a route's type."""

    err: errno = 0
    type: RTN = RTN.UNICAST


class Checked(Event, frozen=True):
    """What the check of the source sees.

    `same_device`: it would leave where it came in, and redirects may be sent, so that the full check runs.
    `custom`: there are rules or local routes of the user's. `own`: the source is this host's. `err`, `type`: of the
    source's own route; `dev_match` it leads out of the packet's device; `no_addr` that device has no address.
    """

    same_device: bool = False
    custom: bool = False
    own: bool = False
    err: errno = 0
    type: RTN = RTN.UNICAST
    dev_match: bool = True
    no_addr: bool = False


class InputParams(Params, frozen=True):
    """The device's settings while the packet is routed. `rp_filter` is the greater of the device's and all's."""

    rp_filter: Annotated[int, Range(0, 2)] = 0
    accept_local: bool = False
    route_localnet: bool = False
    forwarding: bool = False
    bc_forwarding: bool = False


class Input(State, frozen=True):
    """One packet. `err`: why it is dropped or unreachable, a positive errno. `broadcast`: it is for everybody here.

    `to`: what will be done if the source is good. The others remember what the packet was.
    """

    AT: ClassVar[str] = "stage"

    stage: Stage = Stage.ARRIVED
    to: Stage = Stage.DROPPED
    err: errno = 0
    broadcast: bool = False
    loopback: bool = False
    bad_source: bool = False
    zero_source: bool = False
    looked: bool = False
    rpf_ok: bool = False
    own: bool = False


class Decided(Effect, frozen=True):
    """ip_route_input_slow returns with a route, or with `err` (positive)."""

    err: int


@pure
def martian(e: Arrives, p: InputParams) -> Martian:
    """The tests of the addresses in ip_route_input_slow's order."""
    return (
        Martian.NO_IP
        if e.no_in_dev
        else Martian.SOURCE
        if e.s_multicast or e.s_lbcast
        else Martian.BROADCAST
        if e.d_lbcast or (e.s_zero and e.d_zero)
        else Martian.SOURCE
        if e.s_zero
        else Martian.DESTINATION
        if e.d_zero
        else (Martian.NONE if p.route_localnet else Martian.DESTINATION)
        if e.d_loopback
        else Martian.SOURCE
        if e.s_loopback and not p.route_localnet
        else Martian.NONE
    )


@pure
def way(e: Routed, p: InputParams) -> Way:
    """Where the lookup's answer leads."""
    return (
        Way.NO_ROUTE
        if e.err != 0
        else (Way.FORWARD if p.bc_forwarding else Way.BROADCAST)
        if e.type == RTN.BROADCAST
        else Way.LOCAL
        if e.type == RTN.LOCAL
        else Way.CLOSED
        if not p.forwarding
        else Way.FORWARD
        if e.type == RTN.UNICAST
        else Way.MARTIAN
    )


@pure
def last_resort(p: InputParams) -> SourceLook:
    """Without a way back the packet is accepted only where nobody asked for one."""
    return SourceLook.RPF if p.rp_filter != 0 else SourceLook.ACCEPTED


@pure
def full_check(e: Checked, p: InputParams) -> SourceLook:
    """__fib_validate_source."""
    return (
        last_resort(p)
        if e.err != 0
        else SourceLook.INVALID
        if e.type != RTN.UNICAST and (e.type != RTN.LOCAL or not p.accept_local)
        else SourceLook.ACCEPTED
        if e.dev_match
        else last_resort(p)
        if e.no_addr
        else SourceLook.RPF
        if p.rp_filter == 1
        else SourceLook.ACCEPTED
    )


@pure
def short_check(e: Checked, p: InputParams) -> bool:
    """Nothing asks for the way back, so a look at the own addresses is enough."""
    return p.rp_filter == 0 and not e.same_device and (p.accept_local or not e.custom)


@pure
def source_look(e: Checked, p: InputParams) -> SourceLook:
    """fib_validate_source."""
    return (
        full_check(e, p)
        if not short_check(e, p)
        else SourceLook.INVALID
        if e.own and not p.accept_local
        else SourceLook.ACCEPTED
    )


@rule("net/ipv4/route.c:ip_route_input_slow", "RFC 1812 5.3.7", at=Stage.ARRIVED)
def martian_dropped(s: Input, e: Arrives, p: InputParams) -> tuple[Input, tuple[Effect, ...]]:
    """A packet on a device without IP, or with an address that nobody may have there, is dropped with EINVAL."""
    m = martian(e, p)
    require(
        m == Martian.NO_IP
        or m == Martian.SOURCE
        or m == Martian.DESTINATION
        or (m == Martian.BROADCAST and not e.is_ip),
        "a martian",
    )
    return replace(s, stage=Stage.DROPPED, err=EINVAL), (Decided(err=EINVAL),)


@rule("net/ipv4/route.c:ip_route_input_slow", at=Stage.ARRIVED)
def limited_broadcast(s: Input, e: Arrives, p: InputParams) -> tuple[Input, tuple[Effect, ...]]:
    """255.255.255.255 needs no route; a source 0.0.0.0 is not checked, for a host without an address has no other."""
    require(martian(e, p) == Martian.BROADCAST and e.is_ip, "for everybody")
    t = replace(s, broadcast=True, loopback=e.s_loopback or e.d_loopback, zero_source=e.s_zero)
    t = replace(t, bad_source=e.s_multicast or e.s_lbcast, to=Stage.LOCAL)
    if e.s_zero:
        return replace(t, stage=Stage.LOCAL), (Decided(err=0),)
    return replace(t, stage=Stage.SOURCE), ()


@rule("net/ipv4/route.c:ip_route_input_slow", at=Stage.ARRIVED)
def looked_up(s: Input, e: Arrives, p: InputParams) -> tuple[Input, tuple[Effect, ...]]:
    """Everything else is looked up."""
    require(martian(e, p) == Martian.NONE, "addresses that may be")
    t = replace(s, stage=Stage.ROUTING, loopback=e.s_loopback or e.d_loopback, zero_source=e.s_zero, looked=True)
    return replace(t, bad_source=e.s_multicast or e.s_lbcast), ()


@rule("net/ipv4/route.c:ip_route_input_slow", at=Stage.ROUTING)
def no_route(s: Input, e: Routed, p: InputParams) -> tuple[Input, tuple[Effect, ...]]:
    """Without a route the packet gets one that says so: EHOSTUNREACH where this host does not forward."""
    require(way(e, p) == Way.NO_ROUTE or way(e, p) == Way.CLOSED, "no route, or forwarding is off")
    err = e.err if e.err != 0 and p.forwarding else EHOSTUNREACH
    return replace(s, stage=Stage.UNREACHABLE, err=err), (Decided(err=0),)


@rule("net/ipv4/route.c:ip_route_input_slow", at=Stage.ROUTING)
def routed_martian(s: Input, e: Routed, p: InputParams) -> tuple[Input, tuple[Effect, ...]]:
    """A route of a type that packets cannot follow makes the destination a martian."""
    require(way(e, p) == Way.MARTIAN, "a strange type")
    return replace(s, stage=Stage.DROPPED, err=EINVAL), (Decided(err=EINVAL),)


@rule("net/ipv4/route.c:ip_route_input_slow", at=Stage.ROUTING)
def routed(s: Input, e: Routed, p: InputParams) -> tuple[Input, tuple[Effect, ...]]:
    """The packet is for this host, for everybody here, or for somewhere else: now its source is checked."""
    require(way(e, p) == Way.LOCAL or way(e, p) == Way.BROADCAST or way(e, p) == Way.FORWARD, "a route")
    to = Stage.FORWARD if way(e, p) == Way.FORWARD else Stage.LOCAL
    return replace(s, stage=Stage.SOURCE, to=to, broadcast=way(e, p) == Way.BROADCAST), ()


@rule("net/ipv4/fib_frontend.c:fib_validate_source", "RFC 3704 2.2", at=Stage.SOURCE)
def source_good(s: Input, e: Checked, p: InputParams) -> tuple[Input, tuple[Effect, ...]]:
    """A source that is nobody's here and that an answer would reach the same way is accepted."""
    require(source_look(e, p) == SourceLook.ACCEPTED, "source accepted")
    ok = e.err == 0 and e.dev_match
    if s.to == Stage.FORWARD:
        return replace(s, stage=Stage.FORWARD, rpf_ok=ok, own=e.own), (Decided(err=0),)
    return replace(s, stage=Stage.LOCAL, rpf_ok=ok, own=e.own), (Decided(err=0),)


@rule("net/ipv4/route.c:ip_handle_martian_source", "RFC 3704 2.2", at=Stage.SOURCE)
def source_bad(s: Input, e: Checked, p: InputParams) -> tuple[Input, tuple[Effect, ...]]:
    """Any other source is a martian: EXDEV if rp_filter says so, else EINVAL."""
    require(source_look(e, p) != SourceLook.ACCEPTED, "source refused")
    if source_look(e, p) == SourceLook.RPF:
        return replace(s, stage=Stage.DROPPED, err=EXDEV), (Decided(err=EXDEV),)
    return replace(s, stage=Stage.DROPPED, err=EINVAL), (Decided(err=EINVAL),)


@assume
def arrives_once(s: Input, e: Arrives) -> bool:
    """A packet arrives once, and no address is of two classes."""
    return (
        s.stage == Stage.ARRIVED
        and not (e.s_zero and (e.s_loopback or e.s_multicast or e.s_lbcast))
        and not (e.d_zero and (e.d_loopback or e.d_lbcast))
        and not (e.s_loopback and (e.s_multicast or e.s_lbcast))
        and not (e.d_loopback and e.d_lbcast)
    )


@assume
def routed_when_asked(s: Input, e: Routed) -> bool:
    """The lookup answers when it was asked."""
    return s.stage == Stage.ROUTING


@assume
def checked_when_asked(s: Input, e: Checked) -> bool:
    """The source is checked when a route was found; an own address has its local route."""
    return s.stage == Stage.SOURCE and (not e.own or (e.err == 0 and e.type == RTN.LOCAL))


@invariant(at=(Stage.ROUTING, Stage.SOURCE, Stage.LOCAL, Stage.FORWARD))
def no_martian_source(s: Input) -> bool:
    """No packet from a multicast or broadcast address is delivered or forwarded."""
    return not s.bad_source


@invariant(at=(Stage.ROUTING, Stage.SOURCE, Stage.FORWARD, Stage.UNREACHABLE))
def zero_source_only_to_everybody(s: Input) -> bool:
    """0.0.0.0 is no source but of a limited broadcast."""
    return not s.zero_source


@invariant(at=(Stage.ROUTING, Stage.SOURCE, Stage.LOCAL, Stage.FORWARD))
def loopback_stays_inside(s: Input, p: InputParams) -> bool:
    """Net 127 comes from outside only where route_localnet lets it, or from somebody who speaks to everybody."""
    return not s.loopback or p.route_localnet or (s.broadcast and not s.looked)


@invariant(at=Stage.FORWARD)
def forwards_only_if_asked(s: Input, p: InputParams) -> bool:
    """Nothing is forwarded unless the device forwards; broadcasts need bc_forwarding."""
    return p.forwarding or p.bc_forwarding


@invariant(at=(Stage.LOCAL, Stage.FORWARD))
def strict_means_same_way_back(s: Input, p: InputParams) -> bool:
    """With rp_filter 1 an answer to what is accepted would go out where it came in."""
    return p.rp_filter != 1 or s.rpf_ok or s.zero_source


@invariant(at=(Stage.LOCAL, Stage.FORWARD))
def own_source_only_if_asked(s: Input, p: InputParams) -> bool:
    """This host's own addresses come from outside only where accept_local lets them."""
    return not s.own or p.accept_local


@invariant(at=(Stage.ARRIVED, Stage.ROUTING, Stage.SOURCE, Stage.LOCAL, Stage.FORWARD))
def no_error_on_the_way(s: Input) -> bool:
    """What is accepted has no error."""
    return s.err == 0 and s.stage != Stage.UNREACHABLE


@invariant(at=(Stage.UNREACHABLE, Stage.DROPPED))
def error_where_refused(s: Input) -> bool:
    """What is not accepted has an error."""
    return s.err != 0


@invariant(at=(Stage.ARRIVED, Stage.ROUTING))
def undecided_is_blank(s: Input) -> bool:
    """Before the addresses are seen nothing is known of them, and before the route is known nothing is decided."""
    seen = s.bad_source or s.zero_source or s.loopback or s.looked
    return not s.broadcast and not s.own and not s.rpf_ok and (s.stage == Stage.ROUTING or not seen)


@invariant(at=Stage.SOURCE)
def source_leads_somewhere(s: Input, p: InputParams) -> bool:
    """A source is checked for a delivery or a forward, and a forward only of a device that may."""
    return s.to == Stage.LOCAL or (s.to == Stage.FORWARD and (p.forwarding or p.bc_forwarding))


@transition()
def decided_once(s: Input, e: Event, t: Input, effects: tuple[Effect, ...]) -> bool:
    """The routine returns exactly once."""
    over = t.stage != Stage.ARRIVED and t.stage != Stage.ROUTING and t.stage != Stage.SOURCE
    return len(effects) == (1 if over else 0)


FIB_INPUT = machine(
    Machine(
        name="fib_input",
        title="Routing: what becomes of a packet that comes in",
        accepts={Input: (Arrives, Routed, Checked)},
        params=InputParams,
        initial=(Input(),),
        modules=("refmodel.fib.source",),
    )
)
