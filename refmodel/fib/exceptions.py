"""Exceptions of nexthops: what path MTU messages and redirects teach about one destination, and how routes use it."""

from typing import Final

from refmodel.fib.fnhe import DeviceMtu, Exception_, Update, UpdatePmtu, believed, device_mtu, expired, locks, update
from refmodel.fib.hashing import hash_64, siphash
from refmodel.fib.lookup import fib_lookup, inet_addr_type
from refmodel.fib.net import Fib
from refmodel.fib.saddr import inet_addr_onlink
from refmodel.fib.select import fib_select_path
from refmodel.fib.types import (
    IP_MAX_MTU,
    RTAX_ADVMSS,
    RTAX_LOCK,
    RTAX_MTU,
    RTCF_REDIRECTED,
    RTN,
    RTNH_F_DEAD,
    FibNh,
    FibResult,
    Flow4,
    Fnhe,
    Route,
    dotted,
    ipv4_is_lbcast,
    ipv4_is_multicast,
    ipv4_is_zeronet,
)
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

FNHE_HASH_SHIFT: Final = 11
FNHE_RECLAIM_DEPTH: Final = 5
IP_RT_GC_TIMEOUT: Final = 300  # seconds
IPV4_HEADERS: Final = 40  # of TCP and IP without options


def fnhe_hashfun(net: Fib, daddr: int) -> int:
    """The bucket of a destination; source net/ipv4/route.c:fnhe_hashfun."""
    word = int.from_bytes(daddr.to_bytes(4, "big"), "little")
    return hash_64(siphash(word.to_bytes(4, "little"), net.fnhe_hash_key), FNHE_HASH_SHIFT)


def fnhe_flush_routes(fnhe: Fnhe) -> None:
    """Forgets the routes that an exception keeps; source net/ipv4/route.c:fnhe_flush_routes."""
    fnhe.rth_input = fnhe.rth_output = None


def fnhe_remove_oldest(chain: list[Fnhe]) -> None:
    """Deletes the exception of a bucket that was used least recently; source net/ipv4/route.c:fnhe_remove_oldest."""
    oldest = chain[0]
    for fnhe in chain:
        if fnhe.stamp < oldest.stamp:
            oldest = fnhe
    oldest.daddr = 0
    fnhe_flush_routes(oldest)
    chain.remove(oldest)


def fill_route_from_fnhe(rt: Route, fnhe: Fnhe) -> None:
    """A route takes over what its exception says; source net/ipv4/route.c:fill_route_from_fnhe."""
    rt.rt_pmtu = fnhe.pmtu
    rt.rt_mtu_locked = fnhe.mtu_locked
    rt.expires = fnhe.expires
    if fnhe.gw:
        rt.rt_flags |= RTCF_REDIRECTED
        rt.rt_uses_gateway = True
        rt.rt_gw4 = fnhe.gw


@cited("net/ipv4/route.c:update_or_create_fnhe")
def update_or_create_fnhe(net: Fib, nhc: FibNh, daddr: int, gw: int, pmtu: int, lock: bool, expires: int) -> None:
    """Renews a destination's exception or makes one; routes that the nexthop had cached are asked for again."""
    chain = nhc.exceptions.setdefault(fnhe_hashfun(net, daddr), [])
    fnhe = next((x for x in chain if x.daddr == daddr), None)
    if fnhe is not None:
        fnhe.genid = net.fnhe_genid
        if gw:
            fnhe.gw = gw
        if pmtu:
            fnhe.pmtu = pmtu
            fnhe.mtu_locked = lock
        fnhe.expires = max(1, expires)
        for rt in (fnhe.rth_input, fnhe.rth_output):
            if rt is not None:
                fill_route_from_fnhe(rt, fnhe)
    else:
        depth = len(chain)
        while depth > FNHE_RECLAIM_DEPTH + net.env.random() * FNHE_RECLAIM_DEPTH // (1 << 32):
            fnhe_remove_oldest(chain)
            depth -= 1
        fnhe = Fnhe(daddr, net.fnhe_genid)
        fnhe.gw = gw
        fnhe.pmtu = pmtu
        fnhe.mtu_locked = lock
        fnhe.expires = max(1, expires)
        chain.insert(0, fnhe)
        for rt in (nhc.nhc_rth_input, nhc.nhc_rth_output):
            if rt is not None:
                rt.obsolete = True
    fnhe.stamp = net.env.jiffies
    net.env.note("update_or_create_fnhe", f"{dotted(daddr)}: mtu {pmtu or fnhe.pmtu}{' locked' if lock else ''}")


@cited("net/ipv4/route.c:ip_del_fnhe")
def ip_del_fnhe(net: Fib, nhc: FibNh, daddr: int) -> None:
    """Deletes a destination's exception."""
    chain = nhc.exceptions[fnhe_hashfun(net, daddr)]
    fnhe = next(x for x in chain if x.daddr == daddr)
    chain.remove(fnhe)
    fnhe.daddr = 0
    fnhe_flush_routes(fnhe)


@cited("net/ipv4/route.c:find_exception")
def find_exception(net: Fib, nhc: FibNh, daddr: int) -> Fnhe | None:
    """A destination's exception; one that expired is deleted here."""
    if not nhc.exceptions:
        return None
    fnhe = next((x for x in nhc.exceptions.get(fnhe_hashfun(net, daddr), []) if x.daddr == daddr), None)
    if fnhe is not None and expired(Exception_(expires=fnhe.expires), net.env.jiffies):
        ip_del_fnhe(net, nhc, daddr)
        return None
    return fnhe


@cited("net/ipv4/route.c:rt_bind_exception")
def rt_bind_exception(net: Fib, rt: Route, fnhe: Fnhe, daddr: int, do_cache: bool) -> bool:
    """A route takes over its exception and is kept by it; one of an older generation is emptied first."""
    if fnhe.daddr != daddr:
        return False
    if fnhe.genid != net.fnhe_genid:
        fnhe.genid = net.fnhe_genid
        fnhe.gw = fnhe.pmtu = fnhe.expires = 0
        fnhe.mtu_locked = False
        fnhe_flush_routes(fnhe)
    fill_route_from_fnhe(rt, fnhe)
    rt.rt_gw4 = rt.rt_gw4 or daddr
    if do_cache:
        if rt.is_input:
            fnhe.rth_input = rt
        else:
            fnhe.rth_output = rt
    fnhe.stamp = net.env.jiffies
    return do_cache


# ------------------------------------------------------------------------------------------------ MTU


def dst_metric_locked(rt: Route, metric: int) -> bool:
    """The administrator locked a metric of the route; source include/net/dst.h:dst_metric_locked."""
    return bool(rt.metrics.get(RTAX_LOCK, 0) & 1 << metric)


def ip_mtu_locked(rt: Route) -> bool:
    """The route's MTU may not be discovered; source include/net/ip.h:ip_mtu_locked."""
    return rt.rt_mtu_locked or dst_metric_locked(rt, RTAX_MTU)


@cited("include/net/ip.h:ip_dst_mtu_maybe_forward", "RFC 1191 3")
def ip_dst_mtu_maybe_forward(net: Fib, rt: Route, forwarding: bool) -> int:
    """The MTU of a route in bytes: what the path taught (not for forwarding), the route's own, the device's."""
    learned = net.params.ip_forward_use_pmtu or ip_mtu_locked(rt) or not forwarding
    if learned and rt.rt_pmtu and net.env.jiffies < rt.expires:
        return min(rt.rt_pmtu, IP_MAX_MTU)
    mtu = rt.metrics.get(RTAX_MTU, 0)
    if not mtu:
        mtu = rt.dev.mtu
        if ip_mtu_locked(rt) and rt.rt_uses_gateway and mtu > 576:
            mtu = 576
    return min(mtu, IP_MAX_MTU)


def ipv4_mtu(net: Fib, rt: Route) -> int:
    """dst_mtu of an IPv4 route; source net/ipv4/route.c:ipv4_mtu."""
    return ip_dst_mtu_maybe_forward(net, rt, False)


@cited("net/ipv4/route.c:ipv4_default_advmss")
def ipv4_default_advmss(net: Fib, rt: Route) -> int:
    """The MSS that a route advertises in bytes: its own, else from the MTU, at least min_adv_mss.

    Since a fix in the stable kernels what the path taught does not count; the route's or the device's MTU does.
    """
    own = rt.metrics.get(RTAX_ADVMSS, 0)
    if own:
        return own
    mtu = min(rt.metrics.get(RTAX_MTU, 0) or rt.dev.mtu, IP_MAX_MTU)
    return min(max(mtu - IPV4_HEADERS, net.params.min_adv_mss), 65535 - IPV4_HEADERS)


@cited("net/ipv4/route.c:ip_mtu_from_fib_result")
def ip_mtu_from_fib_result(net: Fib, res: FibResult, daddr: int) -> int:
    """The MTU of a lookup's answer in bytes, without a route of its own."""
    metrics = res.info.fib_metrics
    mtu = 0
    if net.params.ip_forward_use_pmtu or metrics.get(RTAX_LOCK, 0) & 1 << RTAX_MTU:
        mtu = metrics.get(RTAX_MTU, 0)
    if not mtu:
        fnhe = find_exception(net, res.nh, daddr)
        if fnhe is not None and net.env.jiffies < fnhe.expires:
            mtu = fnhe.pmtu
    return mtu or min(res.dev.mtu, IP_MAX_MTU)


@cited("net/ipv4/route.c:__ip_rt_update_pmtu", "RFC 1191 6.3")
def __ip_rt_update_pmtu(net: Fib, rt: Route, fl4: Flow4, mtu: int) -> None:
    """The path of a flow takes `mtu` bytes: an exception is made for its destination, on every nexthop of its route."""
    timeout = net.params.mtu_expires * net.env.hz
    e = UpdatePmtu(
        now=net.env.jiffies, mtu=mtu, old_mtu=ipv4_mtu(net, rt), mtu_locked=ip_mtu_locked(rt), pmtu_rt=rt.rt_pmtu,
        expires_rt=rt.expires, timeout=timeout,
    )  # fmt: skip
    what = update(e, net.params)
    net.env.note("__ip_rt_update_pmtu", f"{dotted(fl4.daddr)}: {e.old_mtu} to {mtu}: {what.name.lower()}")
    if what is not Update.TAKE:
        return
    res = FibResult()
    if fib_lookup(net, fl4, res, 0) == 0:
        fib_select_path(net, res, fl4, None)
        for nhc in res.info.fib_nh if len(res.info.fib_nh) > 1 else (res.nh,):
            learned = believed(e, net.params)
            update_or_create_fnhe(net, nhc, fl4.daddr, 0, learned, locks(e, net.params), net.env.jiffies + timeout)


@cited("net/ipv4/route.c:ip_rt_update_pmtu")
def ip_rt_update_pmtu(net: Fib, rt: Route, fl4: Flow4, mtu: int) -> None:
    """A socket's or a packet's route learns its path's MTU (dst_ops.update_pmtu)."""
    __ip_rt_update_pmtu(net, rt, fl4, mtu)


@cited("net/ipv4/route.c:fnhe_update_pmtu")
def fnhe_update_pmtu(fnhe: Fnhe, new: int, orig: int) -> None:
    """The device's MTU changed from `orig` to `new` bytes."""
    fnhe.pmtu, fnhe.mtu_locked = device_mtu(
        Exception_(pmtu=fnhe.pmtu, locked=fnhe.mtu_locked), DeviceMtu(new=new, orig=orig)
    )


@cited("net/ipv4/fib_semantics.c:fib_sync_mtu")
def fib_sync_mtu(net: Fib, dev: NetDevice, orig_mtu: int) -> None:
    """All exceptions of nexthops on a device learn that its MTU changed (NETDEV_CHANGEMTU)."""
    for fi in net.infos:
        for nh in fi.fib_nh:
            if nh.fib_nh_dev is dev:
                for chain in nh.exceptions.values():
                    for fnhe in chain:
                        fnhe_update_pmtu(fnhe, dev.mtu, orig_mtu)


# ------------------------------------------------------------------------------------------------ redirects


def in_dev_rx_redirects(net: Fib, dev: NetDevice) -> bool:
    """Redirects are taken on a device; a router needs it set for all devices too (IN_DEV_RX_REDIRECTS)."""
    return net.andconf(dev, "accept_redirects") if net.forwarding(dev) else net.orconf(dev, "accept_redirects")


def ip_fib_check_default(net: Fib, gw: int, dev: NetDevice) -> bool:
    """A route goes by that gateway on that device; source net/ipv4/fib_semantics.c:ip_fib_check_default."""
    return any(
        nh.fib_nh_dev is dev and nh.fib_nh_gw4 == gw and not nh.fib_nh_flags & RTNH_F_DEAD
        for fi in net.infos
        for nh in fi.fib_nh
    )


@cited("net/ipv4/route.c:__ip_do_redirect", "RFC 1122 3.2.2.2")
def __ip_do_redirect(
    net: Fib,
    rt: Route,
    dev: NetDevice,
    code: int,
    old_gw: int,
    new_gw: int,
    fl4: Flow4,
    kill_route: bool,
    skb: SkBuff | None = None,
) -> None:
    """A redirect `skb` came in on `dev` from `old_gw` that names `new_gw`: taken if the route's gateway says so.

    An unknown gateway is asked for first, so that the redirect counts only when it comes again.
    """
    if code & 7 > 3 or rt.rt_gw4 != old_gw or dev.ifindex not in net.in_devs:
        return
    if (
        new_gw == old_gw
        or not in_dev_rx_redirects(net, dev)
        or ipv4_is_multicast(new_gw)
        or ipv4_is_lbcast(new_gw)
        or ipv4_is_zeronet(new_gw)
    ):
        net.env.note("__ip_do_redirect", f"from {dotted(old_gw)} to {dotted(new_gw)} refused")
        return
    in_dev = net.in_devs[dev.ifindex]
    if not net.orconf(dev, "shared_media"):
        if not inet_addr_onlink(in_dev, new_gw, old_gw):
            return
        if net.orconf(dev, "secure_redirects") and not ip_fib_check_default(net, new_gw, dev):
            return
    elif inet_addr_type(net, new_gw) != RTN.UNICAST:
        return
    state = net.env.neigh_nud_state(rt.dev, new_gw)
    if state is None or not state & 0xDE:
        net.env.neigh_event_send(rt.dev, new_gw)
        return
    res = FibResult()
    if fib_lookup(net, fl4, res, 0) == 0:
        # Among several nexthops the redirect's own addresses choose, not those of the packet that it quotes: the other
        # gateway may learn of it in place of the one that is meant.
        fib_select_path(net, res, fl4, SkBuff(bytes(skb.data[:20])) if skb is not None else None)
        expires = net.env.jiffies + IP_RT_GC_TIMEOUT * net.env.hz
        update_or_create_fnhe(net, res.nh, fl4.daddr, new_gw, 0, False, expires)
    if kill_route:
        rt.obsolete = True
