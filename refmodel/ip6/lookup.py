"""Which way an IPv6 packet takes, and from which address.

The law: link-local and multicast destinations are looked up on the packet's own device only. A source address is
chosen by scope, device, label and the longest common prefix with the destination.
"""

from typing import Final

from refmodel.ip6.const import (
    ANY,
    IP6_MAX_MTU,
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_LOOPBACK,
    IPV6_ADDR_MULTICAST,
    IPV6_ADDR_SCOPE_GLOBAL,
    IPV6_ADDR_SCOPE_LINKLOCAL,
    IPV6_ADDR_SCOPE_SITELOCAL,
    IPV6_ADDR_SITELOCAL,
    IPV6_MIN_MTU,
)
from refmodel.ip6.net import Ip6, daddr, ipv6_addr_type
from refmodel.ip6.route import Route6, agrees, common
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

LABELS: Final = tuple(
    (bytes.fromhex(prefix.ljust(32, "0")), plen, label)
    for prefix, plen, label in (
        ("00000000000000000000000000000001", 128, 0),
        ("", 0, 1),
        ("fc", 7, 5),
        ("fec0", 10, 11),
        ("2002", 16, 2),
        ("3ffe", 16, 12),
        ("2001", 32, 6),
        ("20010010", 28, 7),
        ("00000000000000000000ffff", 96, 4),
        ("", 96, 3),
    )
)


@cited("net/ipv6/route.c:rt6_need_strict")
def rt6_need_strict(addr: bytes) -> bool:
    """An address means something on one link only."""
    return bool(ipv6_addr_type(addr) & (IPV6_ADDR_MULTICAST | IPV6_ADDR_LINKLOCAL | IPV6_ADDR_LOOPBACK))


@cited("net/ipv6/route.c:ip6_route_input", "net/ipv6/route.c:ip6_route_input_lookup")
def ip6_route_input(net: Ip6, skb: SkBuff) -> None:
    """Routes a packet that came in; without a route it gets the one that discards."""
    dest = daddr(skb)
    found = net.table.lookup(dest, skb.dev if rt6_need_strict(dest) else None)
    skb.dst = found if found is not None else null_entry(net, skb.dev)


def null_entry(net: Ip6, dev: NetDevice | None) -> Route6:
    """The route of what has none: ip6_null_entry, unreachable over lo."""
    lo = net.env.dev_get_by_index(1)
    if lo is None:
        raise ValueError("a namespace has lo")
    return Route6(ANY, 0, lo, "unreachable", metric=0xFFFFFFFF)


@cited("net/ipv6/route.c:ip6_route_output_flags")
def ip6_route_output(net: Ip6, dest: bytes, source: bytes, oif: int = 0, strict: bool = False) -> Route6:
    """Routes a packet from here; the null entry where there is none. `strict`: over device `oif` only."""
    dev = net.env.dev_get_by_index(oif) if oif else None
    found = net.table.lookup(dest, dev if strict or rt6_need_strict(dest) or source == ANY else None)
    return found if found is not None else null_entry(net, None)


@cited("net/ipv6/ip6_output.c:ip6_dst_lookup", "net/ipv6/ip6_output.c:ip6_dst_lookup_tail")
def ip6_dst_lookup(net: Ip6, dest: bytes, source: bytes, oif: int = 0) -> tuple[Route6 | None, bytes]:
    """The route (None: there is no way) and the source address of a packet from here, chosen if it has none."""
    chosen = source == ANY
    rt = ip6_route_output(net, dest, source, oif)
    if chosen:
        source = rt.prefsrc or ipv6_dev_get_saddr(net, None if rt.error else rt.idev or rt.dev, dest)
        if source == ANY:
            return None, source
        if rt.error:
            rt = ip6_route_output(net, dest, source, oif, strict=oif != 0)
    if rt.error:
        net.env.note("ip6_dst_lookup", f"no way to {dest.hex()}")
        if rt.plen == 0 and rt.type == "unreachable":
            net.env.count("Ip6OutNoRoutes")
        return None, source
    return rt, source


def scope(addr: bytes) -> int:
    """The scope of an address; source include/net/addrconf.h:ipv6_addr_src_scope."""
    kind = ipv6_addr_type(addr)
    if kind & IPV6_ADDR_MULTICAST:
        return addr[1] & 0x0F
    if kind & (IPV6_ADDR_LINKLOCAL | IPV6_ADDR_LOOPBACK):
        return IPV6_ADDR_SCOPE_LINKLOCAL
    return IPV6_ADDR_SCOPE_SITELOCAL if kind & IPV6_ADDR_SITELOCAL else IPV6_ADDR_SCOPE_GLOBAL


@cited("net/ipv6/addrlabel.c:ipv6_addr_label", "RFC 6724 2.1")
def ipv6_addr_label(addr: bytes) -> int:
    """The label of an address in the default policy table."""
    return max((x for x in LABELS if agrees(addr, x[0], x[1])), key=lambda x: x[1])[2]


@cited("net/ipv6/addrconf.c:ipv6_dev_get_saddr", "net/ipv6/addrconf.c:ipv6_get_saddr_eval", "RFC 6724 5")
def ipv6_dev_get_saddr(net: Ip6, dev: NetDevice | None, dest: bytes) -> bytes:
    """The best source address for a destination over a device; :: if there is none.

    For a destination of one link only that device's addresses count. The rules about tentative, deprecated, temporary
    and home addresses have no case here.
    """
    need = scope(dest)
    strict = bool(ipv6_addr_type(dest) & IPV6_ADDR_MULTICAST) or need <= IPV6_ADDR_SCOPE_LINKLOCAL
    best, best_rank = ANY, (False, 0, False, False, -1)
    for idev in net.idevs.values():
        if strict and idev.dev is not dev:
            continue
        for addr, plen in idev.addresses:
            if ipv6_addr_type(addr) & IPV6_ADDR_MULTICAST:
                continue
            s = scope(addr)
            rank = (
                addr == dest,
                -s if s >= need else s - 128,
                dev is None or idev.dev is dev,
                ipv6_addr_label(addr) == ipv6_addr_label(dest),
                min(common(addr, dest), plen),
            )
            if best == ANY or rank > best_rank:
                best, best_rank = addr, rank
    return best


@cited("include/net/ip6_route.h:ip6_dst_mtu_maybe_forward", "net/ipv6/route.c:ip6_mtu")
def ip6_mtu(net: Ip6, rt: Route6, dest: bytes, forwarding: bool = False) -> int:
    """How large a packet may be on a route: what ICMPv6 taught, the route's metric, or the device's MTU."""
    learnt = 0 if forwarding else net.table.pmtu.get(dest, 0)
    mtu = learnt or (0 if forwarding else rt.mtu) or rt.dev.mtu
    return min(mtu, IP6_MAX_MTU)


@cited("net/ipv6/route.c:__ip6_rt_update_pmtu", "RFC 8201 4")
def ip6_update_pmtu(net: Ip6, dest: bytes, mtu: int) -> None:
    """A smaller MTU on the way is remembered, but none below 1280."""
    rt = net.table.lookup(dest)
    if rt is None or rt.error or mtu < IPV6_MIN_MTU or mtu >= ip6_mtu(net, rt, dest):
        return
    net.table.pmtu[dest] = mtu
    net.env.note("__ip6_rt_update_pmtu", f"{mtu} bytes")


@cited("net/ipv6/output_core.c:ip6_dst_hoplimit")
def ip6_dst_hoplimit(net: Ip6, rt: Route6) -> int:
    """The hop limit of packets from here: the route's metric or the device's."""
    idev = net.idev(rt.dev)
    return rt.hoplimit or (idev.hop_limit if idev is not None else 64)


@cited("net/ipv6/addrconf.c:ipv6_chk_addr")
def ipv6_chk_addr(net: Ip6, addr: bytes, dev: NetDevice | None) -> bool:
    """The address is this host's; one that means something on one link only must be that device's."""
    local = scope(addr) <= IPV6_ADDR_SCOPE_LINKLOCAL
    return any(
        addr == a for idev in net.idevs.values() if dev is None or not local or idev.dev is dev
        for a, _ in idev.addresses
    )  # fmt: skip
