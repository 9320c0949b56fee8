"""Which address a host sends from: inet_select_addr, inet_confirm_addr and the search by address."""

from refmodel.fib.lookup import fib_get_table, fib_table_lookup
from refmodel.fib.net import Fib, InDevice, InIfaddr
from refmodel.fib.types import (
    FIB_LOOKUP_NOREF,
    IFA_F_SECONDARY,
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_TABLE_LOCAL,
    RTN,
    FibInfo,
    FibNh,
    FibResult,
    Flow4,
    dotted,
)
from refmodel.netdevice import NetDevice
from refmodel.rule import cited


def in_dev_select_addr(in_dev: InDevice, scope: int) -> int:
    """The first primary address of wide enough scope that is not of scope link; source devinet.c:in_dev_select_addr."""
    for ifa in in_dev.ifa_list:
        if not ifa.ifa_flags & IFA_F_SECONDARY and ifa.ifa_scope != RT_SCOPE_LINK and ifa.ifa_scope <= scope:
            return ifa.ifa_local
    return 0


@cited("net/ipv4/devinet.c:inet_select_addr", "RFC 1122 3.3.4.3")
def inet_select_addr(net: Fib, dev: NetDevice, dst: int, scope: int) -> int:
    """The source address for `dst` on `dev`: of its subnet, else the device's first, else another device's; 0 if none.

    Secondary addresses and those of narrower scope than asked for are never chosen.
    """
    addr = 0
    in_dev = net.in_devs.get(dev.ifindex)
    if in_dev is not None:
        localnet_scope = RT_SCOPE_LINK if net.orconf(dev, "route_localnet") else RT_SCOPE_HOST
        for ifa in in_dev.ifa_list:
            if ifa.ifa_flags & IFA_F_SECONDARY or min(ifa.ifa_scope, localnet_scope) > scope:
                continue
            if not dst or ifa.match(dst):
                addr = ifa.ifa_local
                break
            addr = addr or ifa.ifa_local
    if not addr:
        for other in net.devs.values():
            in_other = net.in_devs.get(other.ifindex)
            if in_other is not None:
                addr = in_dev_select_addr(in_other, scope)
                if addr:
                    break
    net.env.note("inet_select_addr", f"{dotted(addr)} on {dev.name} for {dotted(dst)}, scope {scope}")
    return addr


def confirm_addr_indev(net: Fib, in_dev: InDevice, dst: int, local: int, scope: int) -> int:
    """The address of one device that inet_confirm_addr asks for; source net/ipv4/devinet.c:confirm_addr_indev."""
    localnet_scope = RT_SCOPE_LINK if net.orconf(in_dev.dev, "route_localnet") else RT_SCOPE_HOST
    addr = 0
    same = False
    for ifa in in_dev.ifa_list:
        min_scope = min(ifa.ifa_scope, localnet_scope)
        if not addr and (not local or local == ifa.ifa_local) and min_scope <= scope:
            addr = ifa.ifa_local
            if same:
                break
        if not same:
            same = (not local or ifa.match(local)) and (not dst or ifa.match(dst))
            if same and addr:
                if local or not dst or ifa.match(addr):
                    break
                if min_scope <= scope:
                    addr = ifa.ifa_local
                    break
                same = False
    return addr if same else 0


@cited("net/ipv4/devinet.c:inet_confirm_addr")
def inet_confirm_addr(net: Fib, in_dev: InDevice | None, dst: int, local: int, scope: int) -> int:
    """The local address that fits `dst`, `local` (0: any) and `scope`, on one device or on any; 0 if there is none."""
    if in_dev is not None:
        return confirm_addr_indev(net, in_dev, dst, local, scope)
    for dev in net.devs.values():
        each = net.in_devs.get(dev.ifindex)
        addr = confirm_addr_indev(net, each, dst, local, scope) if each is not None else 0
        if addr:
            return addr
    return 0


def inet_addr_onlink(in_dev: InDevice, a: int, b: int) -> bool:
    """Both addresses (`b` may be 0) lie in one subnet of the device; source net/ipv4/devinet.c:inet_addr_onlink."""
    return any(ifa.match(a) and (not b or ifa.match(b)) for ifa in in_dev.ifa_list)


def inet_lookup_ifaddr_rcu(net: Fib, addr: int) -> InIfaddr | None:
    """The newest assignment of an address; source net/ipv4/devinet.c:inet_lookup_ifaddr_rcu."""
    return next((ifa for ifa in net.addr_lst if ifa.ifa_local == addr), None)


@cited("net/ipv4/devinet.c:__ip_dev_find")
def __ip_dev_find(net: Fib, addr: int) -> NetDevice | None:
    """The device that has an address, or that table local has a local route to it by."""
    ifa = inet_lookup_ifaddr_rcu(net, addr)
    if ifa is not None:
        return ifa.ifa_dev.dev
    local = fib_get_table(net, RT_TABLE_LOCAL)
    res = FibResult()
    if local is None or fib_table_lookup(net, local, Flow4(addr), res, FIB_LOOKUP_NOREF) or res.type != RTN.LOCAL:
        return None
    return res.dev


@cited("net/ipv4/fib_semantics.c:fib_info_update_nhc_saddr")
def fib_info_update_nhc_saddr(net: Fib, nh: FibNh, scope: int) -> int:
    """Chooses a nexthop's source address anew and remembers when."""
    assert nh.fib_nh_dev is not None
    nh.nh_saddr = inet_select_addr(net, nh.fib_nh_dev, nh.fib_nh_gw4, scope)
    nh.nh_saddr_genid = net.dev_addr_genid
    return nh.nh_saddr


@cited("net/ipv4/fib_semantics.c:fib_result_prefsrc")
def fib_result_prefsrc(net: Fib, fi: FibInfo, nh: FibNh) -> int:
    """The source address of a route: its `src`, else the one remembered, else a new choice."""
    if fi.fib_prefsrc:
        return fi.fib_prefsrc
    if nh.nh_saddr_genid == net.dev_addr_genid:
        return nh.nh_saddr
    return fib_info_update_nhc_saddr(net, nh, fi.fib_scope)
