"""IPv6 of a host: its layer joined to neighbour discovery, to the transport protocols and to the devices.

Addresses are there at once: duplicate address detection, router advertisements and the link-local address that the
kernel makes by itself are the administrator's here.
"""

import errno
from typing import TYPE_CHECKING, Any, Final

from refmodel.dropreason import Reason
from refmodel.engine.run import pick
from refmodel.host.neigh import (
    Neighbour,
    NeighTable,
    dotted,
    neigh_lookup,
    neigh_table_init,
    neigh_update,
    number,
    parms_of,
)
from refmodel.host.neigh import __neigh_create as neigh_create
from refmodel.ip.icmp import icmp_global_allow, icmp_global_consume
from refmodel.ip6.const import ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH
from refmodel.ip6.icmp import icmpv6_send
from refmodel.ip6.input import install, ipv6_rcv
from refmodel.ip6.lookup import ip6_dst_lookup, ipv6_chk_addr
from refmodel.ip6.net import Idev, Ip6
from refmodel.ip6.output import ip6_send_skb, ip6_xmit
from refmodel.ip6.params import Ip6Params
from refmodel.ip6.route import Route6
from refmodel.neigh.arp import Learn, Pkt
from refmodel.neigh.ndisc import NDISC, Interface6, NaIn, NaOut, NdiscParms, NsIn, solicited_node
from refmodel.neigh.parms import Family
from refmodel.neigh.types import NUD, How, Neigh, Solicit
from refmodel.netdevice import IFF_LOOPBACK, NetDevice
from refmodel.packet.wire import ones_sum, pseudo_header
from refmodel.profile import profile
from refmodel.rule import cited
from refmodel.skbuff import CHECKSUM_PARTIAL, SkBuff
from refmodel.tcp.whole.skb import Packet
from refmodel.tcp.whole.sock import Dst
from refmodel.udp.sock import Datagram

if TYPE_CHECKING:
    from refmodel.host.namespace import Namespace

ANY: Final = bytes(16)
LOOPBACK: Final = bytes(15) + b"\x01"
ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
NDISC_SOLICITATION: Final = 135
NDISC_ADVERTISEMENT: Final = 136
ICMPV6: Final = 58
LLADDR: Final = {NDISC_SOLICITATION: 1, NDISC_ADVERTISEMENT: 2}  # the option's type
ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20
TCP: Final = 6
FIN, PSH, CWR = 0x01, 0x08, 0x80


class Handler6:
    """struct inet6_protocol of TCP or UDP on one namespace."""

    final = True
    no_policy = True

    def __init__(self, handler: Any, err_handler: Any) -> None:
        self.handler = handler
        self.err_handler = err_handler


class Ipv6:
    """IPv6 of one namespace: `net` its layer, `nd` its neighbours."""

    def __init__(self, ns: "Namespace") -> None:
        self.ns = ns
        self.params = profile(ns.machine.profile, ns.machine.hz).params(Ip6Params)
        self.nd_apply = pick(NDISC, ns.machine.profile).apply
        self.nd_parms: dict[int, NdiscParms] = {}
        self.net = Ip6(ns)
        install(self.net)
        kernel = ns.machine.profile
        self.nd = neigh_table_init(ns, Family.INET6, kernel, self.solicit, ndisc_error_report, ndisc_constructor)

    def solicit(self, n: Neighbour, x: Solicit) -> None:
        """neigh_ops->solicit."""
        ndisc_solicit(self, n, x)

    def parms(self, dev: NetDevice) -> NdiscParms:
        """A device's parameters, made at the first question."""
        found = self.nd_parms.get(dev.ifindex)
        if found is None:
            found = profile(self.ns.machine.profile, self.ns.machine.hz).params(
                NdiscParms, dev_addr=number(dev.dev_addr)
            )
            self.nd_parms[dev.ifindex] = found
        return found

    def newaddr(self, dev: NetDevice, address: bytes, plen: int) -> None:
        """``ip -6 address add ... nodad``: the address, the route to itself and that to its prefix."""
        idev = self.net.idevs.get(dev.ifindex)
        if idev is None:
            idev = self.net.idevs[dev.ifindex] = Idev(dev)
            self.net.table.add(Route6(b"\xff" + bytes(15), 8, dev, "multicast", metric=256))
        idev.addresses.append((address, plen))
        prefix = number(address) >> (128 - plen) << (128 - plen)
        self.net.table.add(Route6(address, 128, self.ns.lo, "local", metric=0, idev=dev))
        if plen < 128:
            self.net.table.add(Route6(prefix.to_bytes(16, "big"), plen, dev, metric=256))
        self.ns.local_addrs.append(address)

    def newroute(self, prefix: bytes, plen: int, dev: NetDevice, gateway: bytes = b"", mtu: int = 0) -> None:
        """``ip -6 route add``."""
        self.net.table.add(Route6(prefix, plen, dev, gateway=gateway, mtu=mtu))

    # The transport protocols

    def xmit(self, packet: Packet, skb: SkBuff) -> int:
        """A segment leaves."""
        rt, _ = ip6_dst_lookup(self.net, packet.daddr, packet.saddr)
        if rt is None:
            self.ns.kfree_skb(skb, Reason.IP_OUTNOROUTES)
            return -errno.EHOSTUNREACH
        skb.dst = rt
        return ip6_xmit(self.net, skb, packet.saddr, packet.daddr, 6, packet.tos, packet.flowlabel, packet.ttl)

    def send_datagram(self, packet: Datagram, message: bytes) -> int:
        """A datagram leaves, in fragments if need be."""
        rt, source = ip6_dst_lookup(self.net, packet.daddr, packet.saddr)
        if rt is None:
            return -errno.ENETUNREACH
        first = 6 << 28 | packet.tos << 20 | packet.flowlabel
        head = first.to_bytes(4, "big") + len(message).to_bytes(2, "big") + bytes((17, packet.ttl))
        skb = SkBuff(head + source + packet.daddr + message, 0x86DD, by=packet.by)
        skb.transport = 40
        skb.dst = rt
        skb.ignore_df = True
        return ip6_send_skb(self.net, skb)

    def route(self, daddr: bytes, dst: Dst) -> None:
        """What the tables say of the way to `daddr`."""
        rt, _ = ip6_dst_lookup(self.net, daddr, ANY)
        if rt is not None:
            dst.own = False
            dst.dev_mtu, dst.mtu, dst.hoplimit = rt.dev.mtu, rt.mtu, rt.hoplimit

    def route_error(self, daddr: bytes) -> int:
        """0, or a negative errno."""
        rt, _ = ip6_dst_lookup(self.net, daddr, ANY)
        return 0 if rt is not None else -errno.ENETUNREACH

    def source_address(self, daddr: bytes) -> bytes:
        """The address that is chosen."""
        return ip6_dst_lookup(self.net, daddr, ANY)[1]

    def port_unreachable(self, skb: SkBuff) -> None:
        """A datagram found no socket."""
        icmpv6_send(self.net, skb, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0)

    # Neighbours

    def ip_neigh_gw6(self, dev: NetDevice, addr: bytes) -> Neighbour | None:
        """The entry of a next hop."""
        n = neigh_lookup(self.nd, addr, dev)
        self.ns.note("ip_neigh_gw6", f"{dotted(addr)}: {n.nud.name if n is not None else 'no entry'}")
        return n if n is not None else neigh_create(self.nd, addr, dev)

    def ndisc_recv(self, skb: SkBuff, type: int) -> Reason | None:
        """A solicitation or an advertisement."""
        if type == NDISC_SOLICITATION:
            return ndisc_recv_ns(self, skb)
        if type == NDISC_ADVERTISEMENT:
            return ndisc_recv_na(self, skb)
        return None


# ---------------------------------------------------------------- net/ipv6/ndisc.c


@cited("net/ipv6/ndisc.c:ndisc_constructor")
def ndisc_constructor(n: Neighbour) -> None:
    """A new entry: a group or a device without discovery needs no question."""
    n.tbl.env.note("ndisc_constructor", "to be resolved" if n.nud == NUD.NONE else f"{n.nud.name}: nothing to ask")


@cited("net/ipv6/ndisc.c:ndisc_error_report")
def ndisc_error_report(n: Neighbour, skb: SkBuff) -> None:
    """Who sent a packet that waited in vain is told."""
    n.tbl.env.dst_link_failure(skb)
    n.tbl.env.kfree_skb(skb, Reason.NEIGH_FAILED)


@cited("net/ipv6/ndisc.c:ndisc_solicit", "RFC 4861 7.2.2")
def ndisc_solicit(v6: Ipv6, n: Neighbour, x: Solicit) -> None:
    """Asks who has the address: the group of all that may have it, or in PROBE the one believed to."""
    target = n.primary_key
    source = ip6_dst_lookup(v6.net, target, ANY)[1]
    unicast = x.how == How.UNICAST
    dest = target if unicast else solicited_node(number(target)).to_bytes(16, "big")
    v6.ns.note("ndisc_solicit", f"who has {dotted(target)}, to {dotted(dest)}")
    ndisc_send_ns(v6, n.dev, target, dest, source)


@cited("net/ipv6/ndisc.c:ndisc_send_ns", "RFC 4861 4.3")
def ndisc_send_ns(v6: Ipv6, dev: NetDevice, target: bytes, dest: bytes, source: bytes) -> None:
    """A solicitation with this device's address."""
    ndisc_send_skb(v6, dev, NDISC_SOLICITATION, bytes(4), target, dest, source, True)


@cited("net/ipv6/ndisc.c:ndisc_send_na", "RFC 4861 4.4")
def ndisc_send_na(v6: Ipv6, dev: NetDevice, x: NaOut) -> None:
    """An advertisement of an address of ours."""
    flags = ROUTER * x.router | SOLICITED * x.solicited | OVERRIDE * x.override
    target, dest = x.target.to_bytes(16, "big"), x.daddr.to_bytes(16, "big")
    ndisc_send_skb(v6, dev, NDISC_ADVERTISEMENT, bytes((flags, 0, 0, 0)), target, dest, target, x.has_lladdr)


@cited("net/ipv6/ndisc.c:ndisc_send_skb")
def ndisc_send_skb(
    v6: Ipv6, dev: NetDevice, type: int, word: bytes, target: bytes, dest: bytes, source: bytes, lladdr: bool
) -> None:
    """The message with its option and checksum, hop limit 255, and the way to the device."""
    message = bytes((type, 0, 0, 0)) + word + target
    if lladdr:
        message += bytes((LLADDR[type], 1)) + dev.dev_addr
    check = ones_sum(message, pseudo_header(source, dest, ICMPV6, len(message))) ^ 0xFFFF
    message = message[:2] + check.to_bytes(2, "big") + message[4:]
    head = b"\x60\x00\x00\x00" + len(message).to_bytes(2, "big") + bytes((ICMPV6, 255))
    skb = SkBuff(head + source + dest + message, 0x86DD, by="ndisc_send_ns" if type == 135 else "ndisc_send_na")
    skb.transport = 40
    rt = v6.net.table.lookup(dest, dev)
    if rt is None:
        v6.ns.kfree_skb(skb, Reason.IP_OUTNOROUTES)
        return
    skb.dst = rt
    v6.ns.count("Icmp6OutMsgs")
    v6.ns.count(f"Icmp6OutType{type}")
    ip6_send_skb(v6.net, skb)


def _message(v6: Ipv6, skb: SkBuff, tbl: NeighTable, advertisement: bool) -> dict[str, Any]:
    """What the rules want to know of a message."""
    at, d = skb.transport or 40, bytes(skb.data)
    dev = skb.dev
    assert dev is not None
    target = d[at + 8 : at + 24]
    option, lladdr = d[at + 24 : at + 32], b""
    if len(option) == 8 and option[0] == (2 if advertisement else 1) and option[1] == 1:
        lladdr = option[2:]
    source, dest = d[8:24], d[24:40]
    subject = target if advertisement else source
    known = neigh_lookup(tbl, subject, dev)
    return {
        "now": v6.ns.now,
        "pkt_type": Pkt(skb.pkt_type) if skb.pkt_type in (0, 2) else Pkt.MULTICAST,
        "whole": len(d) >= at + 24,
        "hop_limit": d[7],
        "code": d[at + 1],
        "saddr": number(source),
        "daddr": number(dest),
        "daddr_multicast": dest[0] == 0xFF,
        "daddr_solicited_node": dest[:13] == solicited_node(0).to_bytes(16, "big")[:13],
        "target": number(target),
        "target_multicast": target[0] == 0xFF,
        "lladdr": number(lladdr) if lladdr else 0,
        "has_lladdr": bool(lladdr),
        "ours": ipv6_chk_addr(v6.net, target, dev),
        "known": known is not None,
        "failed": known is not None and known.nud == NUD.FAILED,
        "full": len(tbl.hash) >= parms_of(tbl, dev).gc_thresh3,
    }


@cited("net/ipv6/ndisc.c:ndisc_recv_ns", "RFC 4861 7.2.3")
def ndisc_recv_ns(v6: Ipv6, skb: SkBuff) -> Reason | None:
    """A solicitation: who asks for an address of ours is learnt and answered."""
    return _received(v6, skb, NsIn(**_message(v6, skb, v6.nd, False)))


@cited("net/ipv6/ndisc.c:ndisc_recv_na", "RFC 4861 7.2.5")
def ndisc_recv_na(v6: Ipv6, skb: SkBuff) -> Reason | None:
    """An advertisement: the entry of its target is updated."""
    flags = skb.data[(skb.transport or 40) + 4]
    given = _message(v6, skb, v6.nd, True)
    given |= {"router": bool(flags & ROUTER), "solicited": bool(flags & SOLICITED), "override": bool(flags & OVERRIDE)}
    return _received(v6, skb, NaIn(**given))


def _received(v6: Ipv6, skb: SkBuff, e: NsIn | NaIn) -> Reason | None:
    dev = skb.dev
    assert dev is not None
    rule, _, effects = v6.nd_apply(Interface6(), e, v6.parms(dev))
    v6.ns.note("ndisc_rcv", rule.id.rsplit(".", 1)[-1])
    subject = (e.saddr if isinstance(e, NsIn) else e.target).to_bytes(16, "big")
    for x in effects:
        if isinstance(x, Learn):
            n = neigh_lookup(v6.nd, subject, dev)
            if n is None and x.create:
                n = neigh_create(v6.nd, subject, dev)
            if n is not None:
                neigh_update(n, x.update)
        elif isinstance(x, NaOut):
            ndisc_send_na(v6, dev, x)
    return None


@cited("net/ipv6/tcpv6_offload.c:tcp6_gso_segment", "net/ipv6/ip6_offload.c:ipv6_gso_segment")
def tcp6_gso_segment(skb: SkBuff) -> list[SkBuff]:
    """A super-segment over IPv6 as segments with their lengths, sequence numbers, flags and checksums."""
    at, d = skb.transport or 40, bytes(skb.data)
    header = at + 4 * (d[at + 12] >> 4)
    payload, seq = d[header:], number(d[at + 4 : at + 8])
    out = []
    for start in range(0, len(payload), skb.gso_size):
        part = payload[start : start + skb.gso_size]
        last = start + len(part) == len(payload)
        seg = skb.copy()
        seg.data = bytearray(d[:header] + part)
        seg.gso_size = seg.gso_segs = seg.gso_type = 0
        seg.data[4:6] = (len(seg.data) - 40).to_bytes(2, "big")
        seg.data[at + 4 : at + 8] = ((seq + start) & 0xFFFFFFFF).to_bytes(4, "big")
        if not last:
            seg.data[at + 13] &= ~(FIN | PSH) & 0xFF
        if start:
            seg.data[at + 13] &= ~CWR & 0xFF
        length = len(seg.data) - at
        partial = pseudo_header(d[8:24], d[24:40], TCP, length)
        seg.data[at + 16 : at + 18] = partial.to_bytes(2, "big")
        seg.ip_summed = CHECKSUM_PARTIAL
        out.append(seg)
    return out


class Above:
    """The part of a namespace that IPv6 asks of it, beyond what it shares with IPv4."""

    inet6: Ipv6

    def ip_neigh_gw6(self, dev: NetDevice, addr: bytes) -> Any:
        """The neighbour of an IPv6 address."""
        if dev.flags & IFF_LOOPBACK:
            return self.inet6.ip_neigh_gw6(dev, LOOPBACK)
        return self.inet6.ip_neigh_gw6(dev, addr)

    def ndisc_recv(self, skb: SkBuff, type: int) -> Reason | None:
        """A message of neighbour discovery."""
        return self.inet6.ndisc_recv(skb, type)

    def ndisc_send_redirect(self, skb: SkBuff, target: bytes) -> None:
        """Redirects are not sent: every host of a model's network has its router's address from its administrator."""

    def neigh_lladdr(self, dev: NetDevice, addr: bytes) -> bytes | None:
        """The link-layer address of a neighbour, if it is known."""
        n = neigh_lookup(self.inet6.nd, addr, dev)
        s = n.entry.state if n is not None else None
        return s.ha.to_bytes(6, "big") if isinstance(s, Neigh) and s.ha_set else None

    def pneigh_lookup(self, addr: bytes, dev: NetDevice) -> bool:
        """No proxy."""
        return False

    def nf_hook6(self, hook: int, skb: SkBuff, indev: Any, outdev: Any, okfn: Any) -> int:
        """There are no IPv6 tables."""
        return 1

    def tcp_v6_early_demux(self, skb: SkBuff) -> None:
        """The route is looked up for every packet."""

    def udp_v6_early_demux(self, skb: SkBuff) -> None:
        """The same."""

    def raw6_local_deliver(self, skb: SkBuff, nexthdr: int) -> bool:
        """No raw sockets."""
        return False

    def raw6_icmp_error(self, skb: SkBuff, nexthdr: int, type: int, code: int, inner: int, info: int) -> None:
        """No raw sockets."""

    def ip6_ra_chain(self, skb: SkBuff, sel: int) -> bool:
        """No sockets with IPV6_ROUTER_ALERT."""
        return False

    def ping6_rcv(self, skb: SkBuff) -> Reason | None:
        """No ping sockets."""
        return Reason.NO_SOCKET

    def ping6_err(self, skb: SkBuff, inner: int, info: int) -> None:
        """No ping sockets."""

    def ip6_multipath_hash(self, skb: SkBuff) -> int:
        """The flow's hash."""
        return skb.hash

    def ipv6_chk_mcast_addr(self, dev: NetDevice, group: bytes, source: bytes | None) -> bool:
        """All nodes, and the groups of the device's own addresses."""
        idev = self.inet6.net.idev(dev)
        mine = [solicited_node(number(a)).to_bytes(16, "big") for a, _ in idev.addresses] if idev is not None else []
        return group == ALL_NODES or group in mine

    def igmp6_event(self, skb: SkBuff, type: int) -> None:
        """Queries and reports of listeners are taken."""

    def icmp_global_allow(self) -> bool:
        """IPv4 and IPv6 share what is left."""
        return icmp_global_allow(self.ipv4)  # type: ignore[attr-defined]

    def icmp_global_consume(self) -> None:
        """One is used."""
        icmp_global_consume(self.ipv4)  # type: ignore[attr-defined]

    def inet_peer_xrlim_allow(self, addr: bytes, timeout: int) -> bool:
        """A peer's own share is not kept for IPv6."""
        return True


__all__ = ["Above", "Ipv6", "ipv6_rcv"]
