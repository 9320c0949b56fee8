"""ARP of a host: how an entry asks, what is answered, what is learnt from the wire."""

from typing import Final

from msgspec.structs import replace

from refmodel.dropreason import Reason
from refmodel.engine.run import pick
from refmodel.host.env import Below
from refmodel.host.neigh import (
    Neighbour,
    NeighTable,
    __neigh_create,
    dotted,
    neigh_lookup,
    neigh_table_init,
    neigh_update,
    number,
    parms_of,
)
from refmodel.neigh import arp
from refmodel.neigh.arp import ARP, ARPOP_REPLY, ARPOP_REQUEST, RTN, ArpIn, ArpParms, ArpReply, Interface, Learn, Pkt
from refmodel.neigh.parms import Family
from refmodel.neigh.types import NUD, How, Solicit
from refmodel.netdevice import ETH_BROADCAST, IFF_LOOPBACK, IFF_NOARP, NetDevice
from refmodel.profile import profile
from refmodel.rule import cited
from refmodel.skbuff import ETH_P_ARP, ETH_P_IP, SkBuff

ARP_LEN: Final = 28
HARDWARE_ETHER: Final = 1


class Arp:
    """arp_tbl of one namespace, and what ARP itself keeps of each device."""

    def __init__(self, env: Below, kernel: str = "6.12") -> None:
        self.env = env
        self.kernel = kernel
        self.tbl = neigh_table_init(env, Family.INET, kernel, self.solicit, arp_error_report, arp_constructor)
        self.apply = pick(ARP, kernel).apply
        self.parms: dict[int, ArpParms] = {}

    def parms_of(self, dev: NetDevice) -> ArpParms:
        """A device's parameters, made at the first question."""
        found = self.parms.get(dev.ifindex)
        if found is None:
            noarp = bool(dev.flags & (IFF_NOARP | IFF_LOOPBACK))
            found = profile(self.kernel, self.env.hz).params(ArpParms, dev_addr=number(dev.dev_addr), noarp=noarp)
            self.parms[dev.ifindex] = found
        return found

    def solicit(self, n: Neighbour, x: Solicit) -> None:
        """neigh_ops->solicit."""
        arp_solicit(self, n, x)


@cited("net/ipv4/arp.c:arp_constructor")
def arp_constructor(n: Neighbour) -> None:
    """A new entry: whether its address has to be asked for at all, and which output it begins with."""
    n.tbl.env.note("arp_constructor", "to be resolved" if n.nud == NUD.NONE else f"{n.nud.name}: nothing to ask")


@cited("net/ipv4/arp.c:arp_error_report")
def arp_error_report(n: Neighbour, skb: SkBuff) -> None:
    """Who sent a packet that waited in vain is told that the host is unreachable."""
    n.tbl.env.dst_link_failure(skb)
    n.tbl.env.kfree_skb(skb, Reason.NEIGH_FAILED)


@cited("net/ipv4/arp.c:arp_solicit", "RFC 826")
def arp_solicit(arps: Arp, n: Neighbour, x: Solicit) -> None:
    """Asks who has the address: everybody, or in PROBE the address that is believed to have it."""
    env, dev = n.tbl.env, n.dev
    p = arps.parms_of(dev)
    target = n.primary_key
    newest = n.arp_queue[-1] if n.arp_queue and x.from_packet else None
    saddr = bytes(newest.data[12:16]) if newest is not None and newest.protocol == ETH_P_IP else bytes(4)
    selected = env.inet_select_addr(dev, target)
    local = env.inet_addr_type(saddr, dev) == RTN.LOCAL
    sip = arp.announce(p, x.from_packet, number(saddr), local, True, number(selected))
    if x.how == How.APP:
        env.note("arp_solicit", "a user-space daemon is asked")
        return
    unicast = x.how == How.UNICAST
    dst = x.ha.to_bytes(6, "big") if unicast else ETH_BROADCAST
    env.note("arp_solicit", f"who has {dotted(target)}, tell {dotted(sip.to_bytes(4, 'big'))}, to {dst.hex(':')}")
    arp_send(arps.env, dev, ARPOP_REQUEST, target, sip.to_bytes(4, "big"), dst, dev.dev_addr, bytes(6))


@cited("net/ipv4/arp.c:arp_send", "net/ipv4/arp.c:arp_send_dst")
def arp_send(
    env: Below,
    dev: NetDevice,
    op: int,
    dest_ip: bytes,
    src_ip: bytes,
    dest_hw: bytes,
    src_hw: bytes,
    target: bytes,
) -> None:
    """An ARP frame is made and sent, but on a device without ARP."""
    if dev.flags & IFF_NOARP:
        return
    arp_xmit(env, arp_create(dev, op, dest_ip, src_ip, dest_hw, src_hw, target))


@cited("net/ipv4/arp.c:arp_create", "RFC 826")
def arp_create(
    dev: NetDevice,
    op: int,
    dest_ip: bytes,
    src_ip: bytes,
    dest_hw: bytes,
    src_hw: bytes,
    target: bytes,
) -> SkBuff:
    """The frame: Ethernet header and ARP for IPv4 over Ethernet."""
    body = HARDWARE_ETHER.to_bytes(2, "big") + ETH_P_IP.to_bytes(2, "big") + b"\x06\x04" + op.to_bytes(2, "big")
    skb = SkBuff(body + src_hw + src_ip + target + dest_ip, ETH_P_ARP, dev=dev)
    skb.mac_header = dest_hw + dev.dev_addr + ETH_P_ARP.to_bytes(2, "big")
    skb.by = "arp_solicit" if op == ARPOP_REQUEST else "arp_process"
    return skb


@cited("net/ipv4/arp.c:arp_xmit")
def arp_xmit(env: Below, skb: SkBuff) -> int:
    """Hands the frame to the device, past the ARP hook of netfilter."""
    return env.dev_queue_xmit(skb)


@cited("net/ipv4/arp.c:arp_rcv", "RFC 826")
def arp_rcv(arps: Arp, skb: SkBuff) -> None:
    """An ARP frame arrives: it is looked at if it is whole and for this host."""
    arp_process(arps, skb)


def arp_in(tbl: NeighTable, skb: SkBuff) -> ArpIn:
    """The event of a frame: its fields, and what routing and the table say of its addresses."""
    env, data = tbl.env, bytes(skb.data)
    dev = skb.dev
    assert dev is not None
    if len(data) < ARP_LEN:
        return ArpIn(env.now, Pkt(skb.pkt_type), whole=False)
    sip, tip = data[14:18], data[24:28]
    sip_type, tip_type = env.inet_addr_type(sip, dev), env.inet_addr_type(tip, dev)
    route = env.arp_route(tip, sip, dev)
    here = tip in env.addresses(dev)
    return ArpIn(
        env.now,
        Pkt(skb.pkt_type),
        whole=data[4:6] == b"\x06\x04",
        ar_hrd=number(data[0:2]),
        ar_pro=number(data[2:4]),
        ar_op=number(data[6:8]),
        sha=number(data[8:14]),
        sip=number(sip),
        tha=number(data[18:24]),
        tip=number(tip),
        tip_local=tip_type == RTN.LOCAL,
        routed=route != RTN.UNSPEC,
        route=RTN.UNICAST if route == RTN.UNSPEC else route,
        sip_type=sip_type,
        tip_here=here,
        tip_same_subnet=here,
        tip_wide=tip_type == RTN.LOCAL,
        known=neigh_lookup(tbl, sip, dev) is not None,
        full=len(tbl.hash) >= parms_of(tbl, dev).gc_thresh3,
    )


@cited("net/ipv4/arp.c:arp_process", "RFC 826")
def arp_process(arps: Arp, skb: SkBuff) -> None:
    """A request for this host's address is answered, and its sender learnt; other frames update whom they are from."""
    env, tbl, dev = arps.env, arps.tbl, skb.dev
    assert dev is not None
    p = arps.parms_of(dev)
    e = arp_in(tbl, skb)
    verdict = arp.classify(e, p)
    env.note("arp_process", f"{'request' if e.ar_op == ARPOP_REQUEST else 'reply'}: {verdict.name}")
    _, _, effects = arps.apply(Interface(), e, p)
    sip = e.sip.to_bytes(4, "big")
    for x in effects:
        if isinstance(x, Learn):
            n = neigh_lookup(tbl, sip, dev)
            if n is None and x.create:
                n = __neigh_create(tbl, sip, dev)
            if n is not None:
                neigh_update(n, replace(x.update, now=env.now))
        elif isinstance(x, ArpReply):
            arp_send(
                env, dev, ARPOP_REPLY, x.tip.to_bytes(4, "big"), x.sip.to_bytes(4, "big"), x.dst.to_bytes(6, "big"),
                x.sha.to_bytes(6, "big"), x.tha.to_bytes(6, "big"),
            )  # fmt: skip
    env.consume_skb(skb)
