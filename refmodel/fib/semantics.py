"""What a route means: the checks of a new one, its nexthops and their scopes; struct fib_info and who shares it."""

from errno import EINVAL, ENETDOWN, ENODEV

from refmodel.fib.leaf import FIB_PROPS_ERROR, FIB_PROPS_SCOPE
from refmodel.fib.lookup import (
    fib_get_table,
    fib_lookup,
    fib_table_lookup,
    inet_addr_type_table,
)
from refmodel.fib.multipath import fib_rebalance
from refmodel.fib.net import Fib
from refmodel.fib.saddr import fib_info_update_nhc_saddr
from refmodel.fib.types import (
    FIB_LOOKUP_IGNORE_LINKSTATE,
    FIB_LOOKUP_NOREF,
    LOOPBACK_IFINDEX,
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTAX_ADVMSS,
    RTAX_CWND,
    RTAX_FEATURE_MASK,
    RTAX_FEATURES,
    RTAX_HOPLIMIT,
    RTAX_LOCK,
    RTAX_MAX,
    RTAX_MTU,
    RTN,
    RTNH_COMPARE_MASK,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTNH_F_ONLINK,
    RTNH_F_PERVASIVE,
    FibConfig,
    FibInfo,
    FibNh,
    FibResult,
    Flow4,
)
from refmodel.rule import cited


@cited("net/ipv4/metrics.c:ip_metrics_convert")
def ip_metrics_convert(net: Fib, mx: dict[int, int] | None) -> dict[int, int] | int:
    """The metrics of a request with their limits applied, or -EINVAL."""
    metrics: dict[int, int] = {}
    for kind, val in (mx or {}).items():
        if kind > RTAX_MAX:
            return net.refuse(EINVAL, "Invalid metric type")
        if kind == RTAX_ADVMSS:
            val = min(val, 65535 - 40)
        elif kind == RTAX_MTU:
            val = min(val, 65535 - 15)
        elif kind == RTAX_HOPLIMIT:
            val = min(val, 255)
        elif kind == RTAX_FEATURES and val & ~RTAX_FEATURE_MASK:
            return net.refuse(EINVAL, "Unknown flag set in feature mask in metrics attribute")
        metrics[kind] = val
    # A late fix, in 6.1 and 6.12 by way of their stable series; 6.18.44 does not have it.
    if net.env.kernel < 618 and metrics.get(RTAX_LOCK, 0) & 1 << RTAX_CWND and not metrics.get(RTAX_CWND, 0):
        return net.refuse(EINVAL, "Locked cwnd metric must be non zero")
    return {kind: val for kind, val in metrics.items() if val}


def fib_metrics_match(cfg: FibConfig, fi: FibInfo) -> bool:
    """A route has the metrics that a deletion names; source net/ipv4/fib_semantics.c:fib_metrics_match."""
    return all(kind <= RTAX_MAX and fi.fib_metrics.get(kind, 0) == val for kind, val in (cfg.fc_mx or {}).items())


@cited("net/ipv4/fib_semantics.c:fib_nh_match")
def fib_nh_match(cfg: FibConfig, fi: FibInfo) -> bool:
    """A route has the nexthops that a deletion names: device and gateway are held against its first one only."""
    if cfg.fc_priority and cfg.fc_priority != fi.fib_priority:
        return False
    if cfg.fc_oif or cfg.fc_gw4:
        nh = fi.fib_nh[0]
        return (not cfg.fc_oif or cfg.fc_oif == nh.fib_nh_oif) and (not cfg.fc_gw4 or cfg.fc_gw4 == nh.fib_nh_gw4)
    if not cfg.fc_mp:
        return True
    for i, nh in enumerate(fi.fib_nh):
        if i >= len(cfg.fc_mp):
            return False
        asked = cfg.fc_mp[i]
        if asked.rtnh_ifindex and asked.rtnh_ifindex != nh.fib_nh_oif:
            return False
        if asked.gw and asked.gw != nh.fib_nh_gw4:
            return False
    return True


@cited("net/ipv4/fib_semantics.c:fib_check_nh_v4_gw")
def fib_check_nh_v4_gw(net: Fib, nh: FibNh, table: int, scope: int) -> int:
    """A gateway must be reachable by a route of narrower scope, or be said to be on the link; 0 or a negative errno."""
    if nh.fib_nh_flags & RTNH_F_ONLINK:
        if scope >= RT_SCOPE_LINK:
            return net.refuse(EINVAL, "Nexthop has invalid scope")
        dev = net.devs.get(nh.fib_nh_oif)
        if dev is None:
            return net.refuse(ENODEV, "Nexthop device required for onlink")
        if not dev.up:
            return net.refuse(ENETDOWN, "Nexthop device is not up")
        if inet_addr_type_table(net, nh.fib_nh_gw4, RT_TABLE_LOCAL) != RTN.UNICAST:
            return net.refuse(EINVAL, "Nexthop has invalid gateway")
        if not dev.carrier:
            nh.fib_nh_flags |= RTNH_F_LINKDOWN
        nh.fib_nh_dev = dev
        nh.fib_nh_scope = RT_SCOPE_LINK
        return 0
    fl4 = Flow4(nh.fib_nh_gw4, scope=max(scope + 1, RT_SCOPE_LINK), oif=nh.fib_nh_oif, iif=LOOPBACK_IFINDEX)
    res = FibResult()
    tbl = fib_get_table(net, table) if table and table != RT_TABLE_MAIN else None
    err = 0
    if tbl is not None:
        err = fib_table_lookup(net, tbl, fl4, res, FIB_LOOKUP_IGNORE_LINKSTATE | FIB_LOOKUP_NOREF)
    if tbl is None or err:
        err = fib_lookup(net, fl4, res, FIB_LOOKUP_IGNORE_LINKSTATE)
    if err:
        return net.refuse(-err, "Nexthop has invalid gateway")
    if res.type not in (RTN.UNICAST, RTN.LOCAL):
        return net.refuse(EINVAL, "Nexthop has invalid gateway")
    nh.fib_nh_scope = res.scope
    nh.fib_nh_oif = res.nh.fib_nh_oif
    nh.fib_nh_dev = res.dev
    if not res.dev.carrier:
        nh.fib_nh_flags |= RTNH_F_LINKDOWN
    return 0 if res.dev.up else -ENETDOWN


@cited("net/ipv4/fib_semantics.c:fib_check_nh_nongw")
def fib_check_nh_nongw(net: Fib, nh: FibNh) -> int:
    """A nexthop without gateway needs a device that is up and speaks IP; 0 or a negative errno."""
    if nh.fib_nh_flags & (RTNH_F_PERVASIVE | RTNH_F_ONLINK):
        return net.refuse(EINVAL, "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set")
    in_dev = net.in_devs.get(nh.fib_nh_oif)
    if in_dev is None:
        return -ENODEV
    if not in_dev.dev.up:
        return net.refuse(ENETDOWN, "Device for nexthop is not up")
    nh.fib_nh_dev = in_dev.dev
    nh.fib_nh_scope = RT_SCOPE_HOST
    if not in_dev.dev.carrier:
        nh.fib_nh_flags |= RTNH_F_LINKDOWN
    return 0


@cited("net/ipv4/fib_semantics.c:fib_check_nh")
def fib_check_nh(net: Fib, nh: FibNh, table: int, scope: int) -> int:
    """Checks one nexthop and finds its device and scope; 0 or a negative errno."""
    return fib_check_nh_v4_gw(net, nh, table, scope) if nh.fib_nh_gw4 else fib_check_nh_nongw(net, nh)


def fib_valid_prefsrc(net: Fib, cfg: FibConfig) -> bool:
    """A route's `src` is an address of this host; source net/ipv4/fib_semantics.c:fib_valid_prefsrc."""
    if cfg.fc_type == RTN.LOCAL and cfg.fc_dst and cfg.fc_prefsrc == cfg.fc_dst:
        return True
    tb_id = RT_TABLE_LOCAL if cfg.fc_table == RT_TABLE_MAIN else cfg.fc_table
    kind = inet_addr_type_table(net, cfg.fc_prefsrc, tb_id)
    if kind != RTN.LOCAL and tb_id != RT_TABLE_LOCAL:
        kind = inet_addr_type_table(net, cfg.fc_prefsrc, RT_TABLE_LOCAL)
    return kind == RTN.LOCAL


def _nh_key(nh: FibNh) -> tuple[int, ...]:
    """What two nexthops are compared by; source net/ipv4/fib_semantics.c:nh_comp."""
    flags = nh.fib_nh_flags & ~RTNH_COMPARE_MASK
    return nh.fib_nh_oif, nh.fib_nh_gw4, nh.fib_nh_scope, nh.fib_nh_weight, flags


def fib_find_info(net: Fib, nfi: FibInfo) -> FibInfo | None:
    """One with the same properties that routes use already; source net/ipv4/fib_semantics.c:fib_find_info."""
    for fi in net.infos:
        if (
            len(fi.fib_nh) == len(nfi.fib_nh)
            and nfi.fib_protocol == fi.fib_protocol
            and nfi.fib_scope == fi.fib_scope
            and nfi.fib_prefsrc == fi.fib_prefsrc
            and nfi.fib_priority == fi.fib_priority
            and nfi.fib_type == fi.fib_type
            and nfi.fib_tb_id == fi.fib_tb_id
            and nfi.fib_metrics == fi.fib_metrics
            and not (nfi.fib_flags ^ fi.fib_flags) & ~RTNH_COMPARE_MASK
            and all(_nh_key(a) == _nh_key(b) for a, b in zip(fi.fib_nh, nfi.fib_nh, strict=True))
        ):
            return fi
    return None


def fib_get_nhs(net: Fib, cfg: FibConfig) -> list[FibNh] | int:
    """The nexthops of a multipath request, or -EINVAL; source net/ipv4/fib_semantics.c:fib_get_nhs."""
    nhs = []
    for one in cfg.fc_mp:
        if one.rtnh_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN):
            return net.refuse(EINVAL, "Invalid flags for nexthop - can not contain DEAD or LINKDOWN")
        flags = (cfg.fc_flags & ~0xFF) | one.rtnh_flags
        nhs.append(FibNh(one.rtnh_ifindex, one.gw, flags, one.rtnh_hops + 1))
    if cfg.fc_oif and nhs[0].fib_nh_oif != cfg.fc_oif:
        return net.refuse(EINVAL, "Nexthop device index does not match RTA_OIF")
    if cfg.fc_gw4 and nhs[0].fib_nh_gw4 != cfg.fc_gw4:
        return net.refuse(EINVAL, "Nexthop gateway does not match RTA_GATEWAY or RTA_VIA")
    return nhs


@cited("net/ipv4/fib_semantics.c:fib_create_info")
def fib_create_info(net: Fib, cfg: FibConfig) -> FibInfo | int:
    """Checks a request and makes what its route means, or finds the same made before; or a negative errno."""
    if cfg.fc_type > RTN.XRESOLVE:
        return -EINVAL
    kind = RTN(cfg.fc_type)
    if FIB_PROPS_SCOPE[kind] > cfg.fc_scope:
        return net.refuse(EINVAL, "Invalid scope")
    if cfg.fc_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN):
        return net.refuse(EINVAL, "Invalid rtm_flags - can not contain DEAD or LINKDOWN")
    metrics = ip_metrics_convert(net, cfg.fc_mx)
    if isinstance(metrics, int):
        return metrics
    nhs = fib_get_nhs(net, cfg) if cfg.fc_mp else [FibNh(cfg.fc_oif, cfg.fc_gw4, cfg.fc_flags, 1)]
    if isinstance(nhs, int):
        return nhs
    fi = FibInfo(cfg, metrics, nhs)
    if FIB_PROPS_ERROR[kind]:
        if cfg.fc_gw4 or cfg.fc_oif or cfg.fc_mp:
            return net.refuse(EINVAL, "Gateway, device and multipath can not be specified for this route type")
        return _link(net, fi)
    if kind is RTN.UNSPEC:
        return net.refuse(EINVAL, "Invalid route type")
    if cfg.fc_scope > RT_SCOPE_HOST:
        return net.refuse(EINVAL, "Invalid scope")
    if cfg.fc_scope == RT_SCOPE_HOST:
        if len(nhs) != 1:
            return net.refuse(EINVAL, "Route with host scope can not have multiple nexthops")
        if nhs[0].fib_nh_gw4:
            return net.refuse(EINVAL, "Route with host scope can not have a gateway")
        nhs[0].fib_nh_scope = RT_SCOPE_NOWHERE
        nhs[0].fib_nh_dev = net.devs.get(nhs[0].fib_nh_oif)
        if nhs[0].fib_nh_dev is None:
            return -ENODEV
    else:
        for nh in nhs:
            err = fib_check_nh(net, nh, cfg.fc_table, cfg.fc_scope)
            if err:
                return err
        if all(nh.fib_nh_flags & RTNH_F_LINKDOWN for nh in nhs):
            fi.fib_flags |= RTNH_F_LINKDOWN
    if fi.fib_prefsrc and not fib_valid_prefsrc(net, cfg):
        return net.refuse(EINVAL, "Invalid prefsrc address")
    for nh in nhs:
        fib_info_update_nhc_saddr(net, nh, fi.fib_scope)
    fib_rebalance(net, fi)
    return _link(net, fi)


def _link(net: Fib, fi: FibInfo) -> FibInfo:
    old = fib_find_info(net, fi)
    if old is not None:
        fi.fib_dead = True
        old.fib_treeref += 1
        return old
    fi.fib_treeref = 1
    net.infos.append(fi)
    return fi


def fib_release_info(net: Fib, fi: FibInfo) -> None:
    """A route no longer uses it; the last one ends it; source net/ipv4/fib_semantics.c:fib_release_info."""
    fi.fib_treeref -= 1
    if fi.fib_treeref == 0:
        net.infos.remove(fi)
        fi.fib_dead = True
