"""Frames as neighbour resolution reads them: ARP, neighbour discovery, and any packet with its next hop's address.

A `Sight` is what the tap saw; `arp_in`, `ns_in` and `na_in` say which event it is to a host that receives it. Addresses
are integers here, as the machine has them; network addresses also come as bytes.
"""

from ipaddress import ip_address
from typing import Any, Final

from msgspec import Struct

from conformance.check.datagrams import concerns
from refmodel.neigh.arp import RTN, ArpIn, Pkt
from refmodel.neigh.ndisc import NaIn, NsIn
from refmodel.packet import Arp, Ether, Icmp6, Icmp6Type, Ip, Ip6, Ip6Frag, NdNa, NdNs, NdOption, Packet, Tcp

BROADCAST: Final = (1 << 48) - 1
ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2
SOURCE_LLADDR: Final = 1
TARGET_LLADDR: Final = 2
ICMP_ERRORS: Final = (3, 4, 5, 11, 12)
LISTENER: Final = (
    Icmp6Type.ICMPV6_MGM_QUERY,
    Icmp6Type.ICMPV6_MGM_REPORT,
    Icmp6Type.ICMPV6_MGM_REDUCTION,
    Icmp6Type.ICMPV6_MLD2_REPORT,
)
ROUTER: Final = (
    Icmp6Type.NDISC_ROUTER_SOLICITATION,
    Icmp6Type.NDISC_ROUTER_ADVERTISEMENT,
    Icmp6Type.NDISC_REDIRECT,
)


class Sight(Struct, frozen=True, kw_only=True):
    """A frame as seen: number, time in us, link-layer ends."""

    number: int
    time: int
    dst: int
    src: int


class ArpSight(Sight, frozen=True, kw_only=True):
    """An ARP frame; the fields are those of the wire, network addresses 4 bytes. `whole`: nothing of it is missing."""

    hrd: int
    pro: int
    op: int
    sha: int
    sip: bytes
    tha: int
    tip: bytes
    whole: bool


class NdSight(Sight, frozen=True, kw_only=True):
    """What solicitations and advertisements share; `lladdr` is the option's, -1 without one."""

    saddr: bytes
    daddr: bytes
    hop_limit: int
    code: int
    target: bytes
    lladdr: int
    lladdr_ok: bool
    options_ok: bool
    fragmented: bool
    whole: bool


class NsSight(NdSight, frozen=True, kw_only=True):
    """A neighbour solicitation."""


class NaSight(NdSight, frozen=True, kw_only=True):
    """A neighbour advertisement with its flags."""

    router: bool
    solicited: bool
    override: bool


class IpSight(Sight, frozen=True, kw_only=True):
    """Any other IP packet; `tcp`: it may confirm its neighbour."""

    saddr: bytes
    daddr: bytes
    tcp: bool


def mac(n: int) -> str:
    """A link-layer address as text."""
    return n.to_bytes(6, "big").hex(":")


def number(raw: bytes) -> int:
    """Bytes as the integer that the machine has."""
    return int.from_bytes(raw, "big")


def ip(raw: bytes) -> str:
    """A network address as text."""
    return str(ip_address(raw))


def link_local(hw: int) -> bytes:
    """The address that addrconf makes of a link-layer one (EUI-64)."""
    raw = hw.to_bytes(6, "big")
    return b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]


def group_mac(daddr: bytes) -> int:
    """The link-layer address of an IPv6 group; source include/net/if_inet6.h:ipv6_eth_mc_map."""
    return 0x333300000000 | number(daddr[12:])


def is_group(hw: int) -> bool:
    """A broadcast or multicast link-layer address."""
    return bool(hw >> 40 & 1)


def sight(n: int, time: int, packet: Packet) -> Sight | None:
    """What neighbour resolution sees in a frame; None for what is no concern of it or was cut by the snaplen."""
    eth = packet.get(Ether)
    if eth is None or (packet.truncated and packet.get(Ip) is None and packet.get(Ip6) is None):
        return None
    dst, src = number(eth.h_dest), number(eth.h_source)
    arp = packet.get(Arp)
    if arp is not None:
        return _arp(n, time, dst, src, arp, packet)
    nd = packet.get(NdNs) or packet.get(NdNa)
    six = packet.get(Ip6)
    if nd is not None and six is not None and packet.truncated:
        return None
    if nd is not None and six is not None:
        return _nd(n, time, dst, src, six, nd, packet)
    four = packet.get(Ip)
    if four is not None:
        return IpSight(number=n, time=time, dst=dst, src=src, saddr=four.saddr, daddr=four.daddr, tcp=False)
    if six is not None:
        return IpSight(number=n, time=time, dst=dst, src=src, saddr=six.saddr, daddr=six.daddr, tcp=False)
    return None


def _arp(n: int, time: int, dst: int, src: int, a: Arp, packet: Packet) -> ArpSight:
    whole = a.ar_hln == 6 and a.ar_pln == 4 and packet.malformed is None
    return ArpSight(
        number=n,
        time=time,
        dst=dst,
        src=src,
        hrd=a.ar_hrd,
        pro=a.ar_pro,
        op=a.ar_op,
        sha=number(a.ar_sha) if whole else 0,
        sip=a.ar_sip if whole else bytes(4),
        tha=number(a.ar_tha) if whole else 0,
        tip=a.ar_tip if whole else bytes(4),
        whole=whole,
    )


def _nd(n: int, time: int, dst: int, src: int, six: Ip6, nd: NdNs | NdNa, packet: Packet) -> NdSight:
    icmp = packet.get(Icmp6)
    wanted = SOURCE_LLADDR if isinstance(nd, NdNs) else TARGET_LLADDR
    options = [o for o in nd.options if isinstance(o, NdOption)]
    found = next((o.data for o in options if o.type == wanted), None)
    fields: dict[str, Any] = {
        "number": n,
        "time": time,
        "dst": dst,
        "src": src,
        "saddr": six.saddr,
        "daddr": six.daddr,
        "hop_limit": six.hop_limit,
        "code": icmp.code if icmp is not None else 0,
        "target": nd.target,
        "lladdr": -1 if found is None else number(found[:6]),
        "lladdr_ok": found is None or len(found) == 6,
        "options_ok": len(options) == len(nd.options),
        "fragmented": packet.get(Ip6Frag) is not None,
        "whole": packet.malformed is None,
    }
    if isinstance(nd, NdNs):
        return NsSight(**fields)
    return NaSight(
        **fields,
        router=nd.router,
        solicited=nd.solicited,
        override=nd.override,
    )


def unmodelled_class(packet: Packet) -> str:
    """The class of a frame whose contents no layer of the specification explains; '' for all others."""
    if packet.get(Arp) is not None or packet.get(NdNa) is not None or packet.get(Tcp) is not None:
        return ""
    return "" if packet.get(NdNs) is not None or concerns(packet) else "other protocol"


# -- what a frame is to the host that receives it


def pkt_type(dst: int, own: int) -> Pkt:
    """skb->pkt_type as eth_type_trans sets it."""
    if dst == BROADCAST:
        return Pkt.BROADCAST
    if is_group(dst):
        return Pkt.MULTICAST
    return Pkt.HOST if dst == own else Pkt.OTHERHOST


def arp_in(x: ArpSight, own_mac: int, here: bool, local: bool, known: bool, sender_local: bool) -> ArpIn:
    """The event that an ARP frame is to a host: `here`: tip is the interface's, `local`: it is any of the host's."""
    return ArpIn(
        now=x.time,
        pkt_type=pkt_type(x.dst, own_mac),
        whole=x.whole,
        ar_hrd=x.hrd,
        ar_pro=x.pro,
        ar_op=x.op,
        sha=x.sha,
        sip=number(x.sip),
        tha=x.tha,
        tip=number(x.tip),
        tip_local=local,
        routed=True,
        route=RTN.LOCAL if local else RTN.UNICAST,
        sip_type=RTN.LOCAL if sender_local else RTN.UNICAST,
        tip_here=here,
        tip_same_subnet=here,
        tip_wide=local,
        known=known,
    )


def _nd_in(x: NdSight, own_mac: int) -> dict[str, Any]:
    return {
        "now": x.time,
        "pkt_type": pkt_type(x.dst, own_mac),
        "fragmented": x.fragmented,
        "whole": x.whole,
        "hop_limit": x.hop_limit,
        "code": x.code,
        "saddr": number(x.saddr),
        "daddr": number(x.daddr),
        "daddr_multicast": x.daddr[0] == 0xFF,
        "daddr_solicited_node": x.daddr[:13] == bytes.fromhex("ff0200000000000000000001ff"),
        "target": number(x.target),
        "target_multicast": x.target[0] == 0xFF,
        "options_ok": x.options_ok,
        "lladdr": max(x.lladdr, 0),
        "has_lladdr": x.lladdr >= 0,
        "lladdr_ok": x.lladdr_ok,
    }


def ns_in(x: NsSight, own_mac: int, ours: bool, tentative: bool, known: bool) -> NsIn:
    """The event that a solicitation is to a host that has `x.target` (`ours`) or not."""
    return NsIn(**_nd_in(x, own_mac), ours=ours, tentative=tentative, known=known)


def na_in(x: NaSight, own_mac: int, ours: bool, tentative: bool, known: bool, failed: bool) -> NaIn:
    """The event that an advertisement is to a host."""
    flags: dict[str, Any] = {"router": x.router, "solicited": x.solicited, "override": x.override}
    state: dict[str, Any] = {"ours": ours, "tentative": tentative, "known": known, "failed": failed}
    return NaIn(**_nd_in(x, own_mac), **flags, **state)
