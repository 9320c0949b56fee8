"""Frames of neighbour resolution against what the specification would send, field by field, the model's first."""

from collections.abc import Sequence

from conformance.check.neigh_frames import (
    ARP_REPLY,
    ARP_REQUEST,
    BROADCAST,
    ArpSight,
    IpSight,
    NaSight,
    NdSight,
    NsSight,
    Sight,
    group_mac,
    ip,
    mac,
    number,
)
from refmodel.neigh.arp import ArpReply
from refmodel.neigh.ndisc import NaOut, solicited_node
from refmodel.neigh.types import How, Solicit


def line(x: Sight) -> str:
    """A frame as one line: number, link-layer ends, what it says."""
    head = f"#{x.number} {x.time / 1e6:.6f} {mac(x.src)} > {mac(x.dst)} "
    if isinstance(x, ArpSight):
        op = {ARP_REQUEST: "request", ARP_REPLY: "reply"}.get(x.op, f"operation {x.op}")
        ends = f"{_ip(x.sip)} ({mac(x.sha)}) to {_ip(x.tip)} ({mac(x.tha)})"
        return f"{head}ARP {op} {ends}"
    if isinstance(x, NdSight):
        kind = "advertisement" if isinstance(x, NaSight) else "solicitation"
        option = f" lladdr {mac(x.lladdr)}" if x.lladdr >= 0 else ""
        return f"{head}neighbour {kind} {_ip(x.saddr)} > {_ip(x.daddr)} target {_ip(x.target)}{option}"
    if isinstance(x, IpSight):
        return f"{head}{_ip(x.saddr)} > {_ip(x.daddr)}{' TCP' if x.tcp else ''}"
    return head


def _ip(raw: bytes) -> str:
    return ip(raw) if len(raw) in (4, 16) else raw.hex()


# -- fields, the model's first


def _said(pairs: Sequence[tuple[str, object, object]]) -> str:
    return "; ".join(f"{name} {a} expected, {b} seen" for name, a, b in pairs if a != b)


def arp_differs(e: Solicit, x: ArpSight, local: set[bytes]) -> str:
    """'' if the request is the solicitation; source net/ipv4/arp.c:arp_solicit, arp_create."""
    if not x.whole:
        return "a whole ARP packet for IPv4 over Ethernet expected"
    dst = e.ha if e.how == How.UNICAST else BROADCAST
    source = "an address of the host" if x.sip not in local else _ip(x.sip)
    return _said(
        (
            ("link-layer destination", mac(dst), mac(x.dst)),
            ("hardware type", 1, x.hrd),
            ("protocol", 0x0800, x.pro),
            ("sender hardware address", mac(x.src), mac(x.sha)),
            ("sender address", source, _ip(x.sip)),
            ("target hardware address", mac(0), mac(x.tha)),
        )
    )


def announcement_differs(x: ArpSight) -> str:
    """'' if the request announces the host itself; source net/ipv4/devinet.c:inetdev_send_gratuitous_arp."""
    return _said(
        (
            ("link-layer destination", mac(BROADCAST), mac(x.dst)),
            ("sender hardware address", mac(x.src), mac(x.sha)),
            ("target hardware address", mac(0), mac(x.tha)),
        )
    )


def ns_differs(e: Solicit, x: NsSight, local: set[bytes]) -> str:
    """'' if the message is the solicitation; source net/ipv6/ndisc.c:ndisc_solicit, ndisc_send_ns."""
    unicast = e.how == How.UNICAST
    daddr = x.target if unicast else solicited_node(number(x.target)).to_bytes(16, "big")
    dst = e.ha if unicast else group_mac(daddr)
    may = {a for a in local if len(a) == 16 and (e.from_packet or a[:2] == b"\xfe\x80")}
    source = "an address of the host" if x.saddr not in may else _ip(x.saddr)
    return _said(
        (
            ("link-layer destination", mac(dst), mac(x.dst)),
            ("source", source, _ip(x.saddr)),
            ("destination", _ip(daddr), _ip(x.daddr)),
            ("hop limit", 255, x.hop_limit),
            ("source link-layer option", mac(x.src), mac(x.lladdr) if x.lladdr >= 0 else "none"),
        )
    )


def _group(e: NaOut, x: NaSight) -> int:
    """The link-layer address of an answer to a group; that of one to a host is its entry's affair."""
    raw = e.daddr.to_bytes(16, "big")
    return group_mac(raw) if raw[0] == 0xFF else x.dst


def answer_differs(e: ArpReply | NaOut, x: ArpSight | NaSight) -> str:
    """'' if the frame is the answer; source net/ipv4/arp.c:arp_process, net/ipv6/ndisc.c:ndisc_send_na."""
    if isinstance(e, ArpReply):
        if not isinstance(x, ArpSight) or not x.whole:
            return "an ARP reply expected"
        return _said(
            (
                ("operation", ARP_REPLY, x.op),
                ("link-layer destination", mac(e.dst), mac(x.dst)),
                ("hardware type", 1, x.hrd),
                ("protocol", 0x0800, x.pro),
                ("sender hardware address", mac(e.sha), mac(x.sha)),
                ("sender address", ip(e.sip.to_bytes(4, "big")), _ip(x.sip)),
                ("target hardware address", mac(e.tha), mac(x.tha)),
                ("target address", ip(e.tip.to_bytes(4, "big")), _ip(x.tip)),
            )
        )
    if not isinstance(x, NaSight):
        return "a neighbour advertisement expected"
    return _said(
        (
            ("link-layer destination", mac(_group(e, x)), mac(x.dst)),
            ("destination", ip(e.daddr.to_bytes(16, "big")), _ip(x.daddr)),
            ("source", _ip(x.target), _ip(x.saddr)),
            ("target", ip(e.target.to_bytes(16, "big")), _ip(x.target)),
            ("router flag", e.router, x.router),
            ("solicited flag", e.solicited, x.solicited),
            ("override flag", e.override, x.override),
            ("hop limit", 255, x.hop_limit),
            (
                "target link-layer option",
                mac(x.src) if e.has_lladdr else "none",
                mac(x.lladdr) if x.lladdr >= 0 else "none",
            ),
        )
    )
