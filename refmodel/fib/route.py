"""Routes of packets: on output ip_route_output_flow, on input ip_route_input_noref, and what netlink says of them."""

from errno import EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV
from typing import Final

from refmodel.fib.devinet import ip_check_mc_rcu
from refmodel.fib.exceptions import find_exception, rt_bind_exception
from refmodel.fib.lookup import fib_lookup
from refmodel.fib.multipath import fib_multipath_hash, fib_select_multipath, flow_dissect
from refmodel.fib.net import Fib, InDevice
from refmodel.fib.saddr import __ip_dev_find, inet_addr_onlink, inet_lookup_ifaddr_rcu, inet_select_addr
from refmodel.fib.select import fib_select_path
from refmodel.fib.source import (
    Arrives,
    Checked,
    InputParams,
    Martian,
    Routed,
    SourceLook,
    Way,
    full_check,
    martian,
    short_check,
    source_look,
    way,
)
from refmodel.fib.types import (
    FIB_LOOKUP_IGNORE_LINKSTATE,
    FLOWI_FLAG_ANYSRC,
    FLOWI_FLAG_KNOWN_NH,
    INADDR_LOOPBACK,
    INET_DSCP_MASK,
    IPSKB_DOREDIRECT,
    IPSKB_MULTIPATH,
    LOOPBACK_IFINDEX,
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTCF_BROADCAST,
    RTCF_LOCAL,
    RTCF_MULTICAST,
    RTN,
    FibInfo,
    FibNh,
    FibResult,
    Flow4,
    Fnhe,
    Route,
    dotted,
    ipv4_is_lbcast,
    ipv4_is_local_multicast,
    ipv4_is_loopback,
    ipv4_is_multicast,
    ipv4_is_zeronet,
)
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import ETH_P_IP, SkBuff

IPPROTO_IGMP: Final = 2


# ------------------------------------------------------------------------------------------------ route objects


def rt_cache_valid(net: Fib, rt: Route | None) -> bool:
    """A cached route may be used; source net/ipv4/route.c:rt_cache_valid."""
    return rt is not None and not rt.obsolete and rt.genid == net.rt_genid


@cited("net/ipv4/route.c:rt_dst_alloc")
def rt_dst_alloc(net: Fib, dev: NetDevice, flags: int, type: int) -> Route:
    """A new route: it sends by ip_output, and if it is local it delivers by ip_local_deliver."""
    return Route(dev, flags, type, net.rt_genid)


def rt_cache_route(nhc: FibNh, rt: Route) -> None:
    """The nexthop keeps a route for the next flow of its direction; source net/ipv4/route.c:rt_cache_route."""
    if rt.is_input:
        nhc.nhc_rth_input = rt
    else:
        nhc.nhc_rth_output = rt


@cited("net/ipv4/route.c:rt_set_nexthop")
def rt_set_nexthop(
    net: Fib, rt: Route, daddr: int, res: FibResult, fnhe: Fnhe | None, fi: FibInfo | None, do_cache: bool
) -> None:
    """A route gets its gateway, its metrics and its exception, and is kept for others if it may be."""
    if fi is None:
        return
    nhc = res.nh
    if nhc.fib_nh_gw4 and nhc.fib_nh_scope == RT_SCOPE_LINK:
        rt.rt_uses_gateway = True
        rt.rt_gw4 = nhc.fib_nh_gw4
    rt.metrics = fi.fib_metrics
    cached = False
    if fnhe is not None:
        cached = rt_bind_exception(net, rt, fnhe, daddr, do_cache)
    elif do_cache:
        rt_cache_route(nhc, rt)
        cached = True
    if not cached:
        rt.rt_gw4 = rt.rt_gw4 or daddr


# ------------------------------------------------------------------------------------------------ output


@cited("net/ipv4/route.c:__mkroute_output")
def __mkroute_output(
    net: Fib, res: FibResult, fl4: Flow4, orig_oif: int, dev_out: NetDevice, flags: int
) -> Route | int:
    """Makes the route of a flow, or takes the one that its nexthop keeps; or a negative errno.

    A kept route is handed out whatever it was made for: a multicast flow's serves a unicast flow of the nexthop.
    """
    fi = res.fi
    type_ = res.type
    in_dev = net.in_devs.get(dev_out.ifindex)
    if in_dev is None:
        return -EINVAL
    if not net.orconf(dev_out, "route_localnet") and ipv4_is_loopback(fl4.saddr) and not dev_out.loopback:
        return -EINVAL
    if ipv4_is_lbcast(fl4.daddr):
        type_ = RTN.BROADCAST
        fi = None
    elif ipv4_is_multicast(fl4.daddr):
        type_ = RTN.MULTICAST
    elif ipv4_is_zeronet(fl4.daddr):
        return -EINVAL
    if dev_out.loopback:
        flags |= RTCF_LOCAL
    do_cache = True
    if type_ == RTN.BROADCAST:
        flags |= RTCF_BROADCAST | RTCF_LOCAL
    elif type_ == RTN.MULTICAST:
        flags |= RTCF_MULTICAST | RTCF_LOCAL
        if ip_check_mc_rcu(in_dev, fl4.daddr):
            do_cache = False
        else:
            flags &= ~RTCF_LOCAL
        if fi is not None and res.prefixlen < 4:
            fi = None
    elif type_ == RTN.LOCAL and orig_oif != 0 and orig_oif != dev_out.ifindex:
        do_cache = False
    fnhe: Fnhe | None = None
    do_cache = do_cache and fi is not None
    if fi is not None:
        nhc = res.nh
        fnhe = find_exception(net, nhc, fl4.daddr)
        if do_cache:
            gatewayed = nhc.fib_nh_gw4 and nhc.fib_nh_scope == RT_SCOPE_LINK
            if fnhe is None and fl4.flags & FLOWI_FLAG_KNOWN_NH and not gatewayed:
                do_cache = False
            else:
                kept = fnhe.rth_output if fnhe is not None else nhc.nhc_rth_output
                if kept is not None and rt_cache_valid(net, kept):
                    net.env.note("__mkroute_output", f"{dotted(fl4.daddr)}: the nexthop's cached route")
                    return kept
    rth = rt_dst_alloc(net, dev_out, flags, type_)
    rth.rt_iif = orig_oif
    if flags & (RTCF_BROADCAST | RTCF_MULTICAST) and flags & RTCF_LOCAL and not dev_out.loopback:
        rth.output = "ip_mc_output"
    if type_ == RTN.MULTICAST and net.andconf(dev_out, "mc_forwarding") and not ipv4_is_local_multicast(fl4.daddr):
        rth.input, rth.output = "ip_mr_input", "ip_mc_output"
    rt_set_nexthop(net, rth, fl4.daddr, res, fnhe, fi, do_cache)
    net.env.note("__mkroute_output", f"{dotted(fl4.daddr)}: {rth!r} from {dotted(fl4.saddr)}")
    return rth


@cited("net/ipv4/route.c:ip_route_output_key_hash_rcu", "RFC 1122 3.3.1")
def ip_route_output_key_hash_rcu(net: Fib, fl4: Flow4, res: FibResult, skb: SkBuff | None) -> Route | int:
    """Finds the route of a flow and completes the flow's addresses and device; or a negative errno."""
    orig_oif = fl4.oif
    dev_out: NetDevice | None = None
    if fl4.saddr:
        if ipv4_is_multicast(fl4.saddr) or ipv4_is_lbcast(fl4.saddr) or ipv4_is_zeronet(fl4.saddr):
            return -EINVAL
        if fl4.oif == 0 and (ipv4_is_multicast(fl4.daddr) or ipv4_is_lbcast(fl4.daddr)):
            dev_out = __ip_dev_find(net, fl4.saddr)
            if dev_out is None:
                return -ENETUNREACH
            fl4.oif = dev_out.ifindex
            return __mkroute_output(net, res, fl4, orig_oif, dev_out, 0)
        if not fl4.flags & FLOWI_FLAG_ANYSRC and __ip_dev_find(net, fl4.saddr) is None:
            return -ENETUNREACH
    if fl4.oif:
        dev_out = net.devs.get(fl4.oif)
        if dev_out is None:
            return -ENODEV
        if not dev_out.up or dev_out.ifindex not in net.in_devs:
            return -ENETUNREACH
        if ipv4_is_local_multicast(fl4.daddr) or ipv4_is_lbcast(fl4.daddr) or fl4.proto == IPPROTO_IGMP:
            fl4.saddr = fl4.saddr or inet_select_addr(net, dev_out, 0, RT_SCOPE_LINK)
            return __mkroute_output(net, res, fl4, orig_oif, dev_out, 0)
        if not fl4.saddr:
            if ipv4_is_multicast(fl4.daddr):
                fl4.saddr = inet_select_addr(net, dev_out, 0, fl4.scope)
            elif not fl4.daddr:
                fl4.saddr = inet_select_addr(net, dev_out, 0, RT_SCOPE_HOST)
    if not fl4.daddr:
        fl4.daddr = fl4.saddr
        if not fl4.daddr:
            fl4.daddr = fl4.saddr = INADDR_LOOPBACK
        fl4.oif = LOOPBACK_IFINDEX
        res.type = RTN.LOCAL
        return __mkroute_output(net, res, fl4, orig_oif, net.loopback_dev, RTCF_LOCAL)
    err = fib_lookup(net, fl4, res, 0)
    if err:
        res.fi = None
        res.table = None
        if not fl4.oif:
            return err
        # With a device named, a destination without a route is taken to be on its link.
        assert dev_out is not None
        fl4.saddr = fl4.saddr or inet_select_addr(net, dev_out, 0, RT_SCOPE_LINK)
        res.type = RTN.UNICAST
        return __mkroute_output(net, res, fl4, orig_oif, dev_out, 0)
    if res.type == RTN.LOCAL:
        fl4.saddr = fl4.saddr or res.info.fib_prefsrc or fl4.daddr
        orig_oif = res.nh.fib_nh_oif
        fl4.oif = net.loopback_dev.ifindex
        return __mkroute_output(net, res, fl4, orig_oif, net.loopback_dev, RTCF_LOCAL)
    fib_select_path(net, res, fl4, skb)
    return __mkroute_output(net, res, fl4, orig_oif, res.dev, 0)


@cited("net/ipv4/route.c:ip_route_output_key_hash")
def ip_route_output_key_hash(net: Fib, fl4: Flow4, skb: SkBuff | None) -> Route | int:
    """Finds the route of a flow that this host sends; or a negative errno."""
    fl4.iif = LOOPBACK_IFINDEX
    fl4.tos &= INET_DSCP_MASK
    return ip_route_output_key_hash_rcu(net, fl4, FibResult(), skb)


@cited("net/ipv4/route.c:ip_route_output_flow")
def ip_route_output_flow(net: Fib, fl4: Flow4) -> Route | int:
    """Finds the route of a socket's flow, whose `saddr` and `oif` it fills in; or a negative errno."""
    rt = ip_route_output_key_hash(net, fl4, None)
    if not isinstance(rt, int) and fl4.proto:
        fl4.oif = rt.dev.ifindex
    return rt


# ------------------------------------------------------------------------------------------------ input


def fib_info_nh_uses_dev(fi: FibInfo, dev: NetDevice) -> bool:
    """One of a route's nexthops is on the device; source net/ipv4/fib_frontend.c:fib_info_nh_uses_dev."""
    return any(nh.fib_nh_dev is dev for nh in fi.fib_nh)


def _input_params(net: Fib, in_dev: InDevice) -> InputParams:
    dev = in_dev.dev
    return InputParams(
        rp_filter=net.maxconf(dev, "rp_filter"),
        accept_local=net.orconf(dev, "accept_local"),
        route_localnet=net.orconf(dev, "route_localnet"),
        forwarding=bool(in_dev.conf.forwarding),
        bc_forwarding=net.andconf(dev, "bc_forwarding"),
    )


def _errno(look: SourceLook) -> int:
    return {SourceLook.ACCEPTED: 0, SourceLook.INVALID: -22, SourceLook.RPF: -18}[look]


@cited("net/ipv4/fib_frontend.c:__fib_validate_source", "RFC 3704 2.2")
def __fib_validate_source(
    net: Fib, skb: SkBuff, src: int, dst: int, tos: int, oif: int, in_dev: InDevice, p: InputParams
) -> int:
    """Looks up the way back to `src`; 0, 1 (the source is on the link) or a negative errno."""
    dev = in_dev.dev
    fl4 = Flow4(src, dst, iif=oif or LOOPBACK_IFINDEX, tos=tos, scope=RT_SCOPE_UNIVERSE)
    fl4.mark = skb.mark if net.orconf(dev, "src_valid_mark") else 0
    if net.fib_rules_require_fldissect:
        keys = flow_dissect(skb)
        fl4.proto, fl4.sport, fl4.dport = keys.ip_proto, keys.dport, keys.sport
    res = FibResult()
    err = fib_lookup(net, fl4, res, 0)
    match = err == 0 and (fib_info_nh_uses_dev(res.info, dev) or (res.type == RTN.LOCAL and dev is net.loopback_dev))
    e = Checked(err=-err, type=RTN(res.type), dev_match=match, no_addr=not in_dev.ifa_list)
    look = full_check(e, p)
    if look is not SourceLook.ACCEPTED or err:
        return _errno(look)
    if match:
        return 1 if res.nh.fib_nh_scope >= RT_SCOPE_HOST else 0
    if not in_dev.ifa_list:
        return 0
    fl4.oif = dev.ifindex
    if fib_lookup(net, fl4, res, FIB_LOOKUP_IGNORE_LINKSTATE) == 0 and res.type == RTN.UNICAST:
        return 1 if res.nh.fib_nh_scope >= RT_SCOPE_HOST else 0
    return 0


@cited("net/ipv4/fib_frontend.c:fib_validate_source", "RFC 3704 2.2")
def fib_validate_source(net: Fib, skb: SkBuff, src: int, dst: int, tos: int, oif: int, in_dev: InDevice) -> int:
    """A packet's source may be that; 0, 1 (it is on the link) or a negative errno: -EXDEV by rp_filter, -EINVAL."""
    p = _input_params(net, in_dev)
    e = Checked(
        same_device=in_dev.dev.ifindex == oif and net.orconf(in_dev.dev, "send_redirects"),
        custom=net.fib_has_custom_local_routes or net.fib_has_custom_rules,
        own=inet_lookup_ifaddr_rcu(net, src) is not None,
    )
    if short_check(e, p):
        err = _errno(source_look(e, p))
    else:
        err = __fib_validate_source(net, skb, src, dst, tos, oif, in_dev, p)
    net.env.note("fib_validate_source", f"{dotted(src)} on {in_dev.dev.name}, rp_filter {p.rp_filter}: {err}")
    return err


@cited("net/ipv4/route.c:ip_handle_martian_source", "RFC 1812 5.3.8")
def ip_handle_martian_source(net: Fib, in_dev: InDevice, daddr: int, saddr: int) -> None:
    """A packet with an impossible source was seen."""
    net.env.note("ip_handle_martian_source", f"{dotted(saddr)} to {dotted(daddr)} on {in_dev.dev.name}")


@cited("net/ipv4/route.c:__mkroute_input")
def __mkroute_input(net: Fib, skb: SkBuff, res: FibResult, in_dev: InDevice, daddr: int, saddr: int, tos: int) -> int:
    """The route of a packet that is forwarded: its source is checked; 0 or a negative errno."""
    nhc = res.nh
    out_dev = net.in_devs.get(res.dev.ifindex)
    if out_dev is None:
        return -EINVAL
    err = fib_validate_source(net, skb, saddr, daddr, tos, nhc.fib_nh_oif, in_dev)
    if err < 0:
        ip_handle_martian_source(net, in_dev, daddr, saddr)
        return err
    is_ip = skb.protocol == ETH_P_IP
    back = out_dev is in_dev and err and net.orconf(out_dev.dev, "send_redirects") and is_ip
    if back and (net.orconf(out_dev.dev, "shared_media") or inet_addr_onlink(out_dev, saddr, nhc.fib_nh_gw4)):
        net.env.ipcb_flags(skb, IPSKB_DOREDIRECT)
    if not is_ip and out_dev is in_dev:
        return -EINVAL
    fnhe = find_exception(net, nhc, daddr)
    kept = fnhe.rth_input if fnhe is not None else nhc.nhc_rth_input
    if rt_cache_valid(net, kept):
        skb.dst = kept
        return 0
    rth = rt_dst_alloc(net, out_dev.dev, 0, res.type)
    rth.is_input = True
    rth.input = "ip_forward"
    rt_set_nexthop(net, rth, daddr, res, fnhe, res.fi, True)
    skb.dst = rth
    net.env.note("__mkroute_input", f"{dotted(daddr)}: {rth!r}")
    return 0


@cited("net/ipv4/route.c:ip_mkroute_input")
def ip_mkroute_input(net: Fib, skb: SkBuff, res: FibResult, in_dev: InDevice, daddr: int, saddr: int, tos: int) -> int:
    """The route of a packet that is forwarded, by one of several nexthops if there are; 0 or a negative errno."""
    if len(res.info.fib_nh) > 1:
        fib_select_multipath(net, res, fib_multipath_hash(net, None, skb), None)
        net.env.ipcb_flags(skb, IPSKB_MULTIPATH)
    return __mkroute_input(net, skb, res, in_dev, daddr, saddr, tos)


def _classes(skb: SkBuff, daddr: int, saddr: int, no_in_dev: bool) -> Arrives:
    return Arrives(
        no_in_dev=no_in_dev,
        is_ip=skb.protocol == ETH_P_IP,
        s_multicast=ipv4_is_multicast(saddr),
        s_lbcast=ipv4_is_lbcast(saddr),
        s_zero=ipv4_is_zeronet(saddr),
        s_loopback=ipv4_is_loopback(saddr),
        d_lbcast=ipv4_is_lbcast(daddr),
        d_zero=ipv4_is_zeronet(daddr),
        d_loopback=ipv4_is_loopback(daddr),
    )


@cited("net/ipv4/route.c:ip_route_input_slow", "RFC 1812 5.3.7")
def ip_route_input_slow(net: Fib, skb: SkBuff, daddr: int, saddr: int, tos: int, dev: NetDevice, res: FibResult) -> int:
    """Decides what becomes of a unicast or broadcast packet; sets skb.dst and returns 0, or a negative errno."""
    in_dev = net.in_devs.get(dev.ifindex)
    if in_dev is None:
        return -EINVAL
    p = _input_params(net, in_dev)
    skb.dst = None
    res.fi = None
    res.table = None
    seen = martian(_classes(skb, daddr, saddr, False), p)
    if seen is Martian.SOURCE:
        ip_handle_martian_source(net, in_dev, daddr, saddr)
        return -EINVAL
    if seen is Martian.BROADCAST:
        return _broadcast(net, skb, daddr, saddr, tos, in_dev, res, True)
    if seen is Martian.DESTINATION:
        net.env.note("ip_route_input_slow", f"martian destination {dotted(daddr)} from {dotted(saddr)}")
        return -EINVAL
    fl4 = Flow4(daddr, saddr, iif=dev.ifindex, mark=skb.mark, tos=tos, scope=RT_SCOPE_UNIVERSE)
    if net.fib_rules_require_fldissect:
        keys = flow_dissect(skb)
        fl4.proto, fl4.sport, fl4.dport = keys.ip_proto, keys.sport, keys.dport
    err = fib_lookup(net, fl4, res, 0)
    to = way(Routed(-err, RTN(res.type) if err == 0 else RTN.UNSPEC), p)
    net.env.note("ip_route_input_slow", f"{dotted(daddr)} from {dotted(saddr)} on {dev.name}: {to.name.lower()}")
    if to in (Way.NO_ROUTE, Way.CLOSED):
        res.type = RTN.UNREACHABLE
        res.fi = None
        res.table = None
        return _local(net, skb, res, 0, err if err and p.forwarding else -EHOSTUNREACH, True)
    if to is Way.BROADCAST:
        return _broadcast(net, skb, daddr, saddr, tos, in_dev, res, not net.conf_all.bc_forwarding)
    if to is Way.LOCAL:
        err = fib_validate_source(net, skb, saddr, daddr, tos, 0, in_dev)
        if err < 0:
            ip_handle_martian_source(net, in_dev, daddr, saddr)
            return err
        return _local(net, skb, res, 0, 0, True)
    if to is Way.MARTIAN:
        return -EINVAL
    return ip_mkroute_input(net, skb, res, in_dev, daddr, saddr, tos)


def _broadcast(
    net: Fib, skb: SkBuff, daddr: int, saddr: int, tos: int, in_dev: InDevice, res: FibResult, do_cache: bool
) -> int:
    if skb.protocol != ETH_P_IP:
        return -EINVAL
    if not ipv4_is_zeronet(saddr):
        err = fib_validate_source(net, skb, saddr, 0, tos, 0, in_dev)
        if err < 0:
            ip_handle_martian_source(net, in_dev, daddr, saddr)
            return err
    res.type = RTN.BROADCAST
    return _local(net, skb, res, RTCF_BROADCAST, 0, do_cache)


def _local(net: Fib, skb: SkBuff, res: FibResult, flags: int, err: int, do_cache: bool) -> int:
    nhc = res.nh if do_cache and res.fi is not None else None
    if nhc is not None and rt_cache_valid(net, nhc.nhc_rth_input):
        skb.dst = nhc.nhc_rth_input
        return 0
    rth = rt_dst_alloc(net, net.loopback_dev, flags | RTCF_LOCAL, res.type)
    rth.output = "ip_rt_bug"
    rth.is_input = True
    if res.type == RTN.UNREACHABLE:
        rth.input = "ip_error"
        rth.error = -err
        rth.rt_flags &= ~RTCF_LOCAL
    if nhc is not None:
        rt_cache_route(nhc, rth)
    skb.dst = rth
    return 0


@cited("net/ipv4/route.c:ip_mc_validate_source")
def ip_mc_validate_source(net: Fib, skb: SkBuff, daddr: int, saddr: int, tos: int, in_dev: InDevice) -> int:
    """A multicast packet's source may be that; a host without an address may speak to 224.0.0.0/24 and IGMP."""
    if ipv4_is_multicast(saddr) or ipv4_is_lbcast(saddr) or skb.protocol != ETH_P_IP:
        return -EINVAL
    if ipv4_is_loopback(saddr) and not net.orconf(in_dev.dev, "route_localnet"):
        return -EINVAL
    if ipv4_is_zeronet(saddr):
        return 0 if ipv4_is_local_multicast(daddr) or skb.data[9] == IPPROTO_IGMP else -EINVAL
    return min(0, fib_validate_source(net, skb, saddr, 0, tos, 0, in_dev))


@cited("net/ipv4/route.c:ip_route_input_mc")
def ip_route_input_mc(net: Fib, skb: SkBuff, daddr: int, saddr: int, tos: int, in_dev: InDevice, our: bool) -> int:
    """The route of a multicast packet; 0 or a negative errno."""
    err = ip_mc_validate_source(net, skb, daddr, saddr, tos, in_dev)
    if err:
        return err
    rth = rt_dst_alloc(net, net.loopback_dev, RTCF_MULTICAST | (RTCF_LOCAL if our else 0), RTN.MULTICAST)
    rth.output = "ip_rt_bug"
    rth.is_input = True
    if not ipv4_is_local_multicast(daddr) and net.andconf(in_dev.dev, "mc_forwarding"):
        rth.input = "ip_mr_input"
    skb.dst = rth
    return 0


@cited("net/ipv4/route.c:ip_route_input_rcu")
def ip_route_input_rcu(net: Fib, skb: SkBuff, daddr: int, saddr: int, tos: int, dev: NetDevice, res: FibResult) -> int:
    """Multicast is for this host if the device is in the group, or for others if it forwards them."""
    if not ipv4_is_multicast(daddr):
        return ip_route_input_slow(net, skb, daddr, saddr, tos, dev, res)
    in_dev = net.in_devs.get(dev.ifindex)
    if in_dev is None:
        return -EINVAL
    our = ip_check_mc_rcu(in_dev, daddr)
    if our or (not ipv4_is_local_multicast(daddr) and net.andconf(dev, "mc_forwarding")):
        return ip_route_input_mc(net, skb, daddr, saddr, tos, in_dev, our)
    net.env.note("ip_route_input_rcu", f"{dev.name} is not in {dotted(daddr)}")
    return -EINVAL


@cited("net/ipv4/route.c:ip_route_input_noref")
def ip_route_input_noref(net: Fib, skb: SkBuff, daddr: int, saddr: int, tos: int, dev: NetDevice) -> int:
    """Finds the route of a packet that came in on `dev`; sets skb.dst and returns 0, or a negative errno."""
    return ip_route_input_rcu(net, skb, daddr, saddr, tos & INET_DSCP_MASK, dev, FibResult())
