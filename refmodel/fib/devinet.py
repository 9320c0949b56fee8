"""Addresses and devices: addresses are added and deleted, promoted; devices are registered, come up and go down."""

from errno import EADDRNOTAVAIL, EEXIST, EINVAL, ENODEV

from refmodel.fib.fnhe import LEAST_MTU
from refmodel.fib.frontend import (
    fib_add_ifaddr,
    fib_del_ifaddr,
    fib_inetaddr_event,
    fib_modify_prefix_metric,
    fib_netdev_event,
    fib_rules_event,
)
from refmodel.fib.net import Fib, InDevice, InIfaddr
from refmodel.fib.trie import rt_cache_flush
from refmodel.fib.types import (
    IFA_F_DADFAILED,
    IFA_F_HOMEADDRESS,
    IFA_F_MANAGETEMPADDR,
    IFA_F_NODAD,
    IFA_F_OPTIMISTIC,
    IFA_F_PERMANENT,
    IFA_F_SECONDARY,
    IFA_F_TENTATIVE,
    IGMP_ALL_HOSTS,
    INADDR_LOOPBACK,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RT_SCOPE_HOST,
    NetdevEvent,
    dotted,
)
from refmodel.netdevice import NetDevice
from refmodel.rule import cited

IPV6ONLY_FLAGS = (
    IFA_F_NODAD | IFA_F_OPTIMISTIC | IFA_F_DADFAILED | IFA_F_HOMEADDRESS | IFA_F_TENTATIVE | IFA_F_MANAGETEMPADDR
)


def ip_mc_inc_group(in_dev: InDevice, group: int) -> None:
    """A device listens to a group once more; source net/ipv4/igmp.c:ip_mc_inc_group."""
    in_dev.mc_list[group] = in_dev.mc_list.get(group, 0) + 1


def ip_mc_dec_group(in_dev: InDevice, group: int) -> None:
    """A device listens to a group once less; source net/ipv4/igmp.c:ip_mc_dec_group."""
    left = in_dev.mc_list.get(group, 0) - 1
    if left > 0:
        in_dev.mc_list[group] = left
    else:
        in_dev.mc_list.pop(group, None)


def ip_check_mc_rcu(in_dev: InDevice, group: int) -> bool:
    """The device is in a group, with whatever source; source net/ipv4/igmp.c:ip_check_mc_rcu."""
    return group in in_dev.mc_list


# ------------------------------------------------------------------------------------------------ addresses


@cited("net/ipv4/devinet.c:__inet_insert_ifa")
def __inet_insert_ifa(net: Fib, ifa: InIfaddr) -> int:
    """Puts an address on its device: secondary behind another one of its subnet, primary by its scope; 0 or errno."""
    if not ifa.ifa_local:
        return 0
    in_dev = ifa.ifa_dev
    ifa.ifa_flags &= ~(IFA_F_SECONDARY | IPV6ONLY_FLAGS)
    last_primary = 0
    for i, ifa1 in enumerate(in_dev.ifa_list):
        if not ifa1.ifa_flags & IFA_F_SECONDARY and ifa.ifa_scope <= ifa1.ifa_scope:
            last_primary = i + 1
        if ifa1.ifa_mask == ifa.ifa_mask and ifa.match(ifa1.ifa_address):
            if ifa1.ifa_local == ifa.ifa_local:
                return -EEXIST
            if ifa1.ifa_scope != ifa.ifa_scope:
                return net.refuse(EINVAL, "ipv4: Invalid scope value")
            ifa.ifa_flags |= IFA_F_SECONDARY
    secondary = bool(ifa.ifa_flags & IFA_F_SECONDARY)
    in_dev.ifa_list.insert(len(in_dev.ifa_list) if secondary else last_primary, ifa)
    net.addr_lst.insert(0, ifa)
    kind = "secondary" if secondary else "primary"
    net.env.note("__inet_insert_ifa", f"{kind} {dotted(ifa.ifa_local)}/{ifa.ifa_prefixlen} on {in_dev.dev.name}")
    fib_inetaddr_event(net, ifa, NetdevEvent.UP)
    return 0


def _same_subnet(a: InIfaddr, b: InIfaddr) -> bool:
    return a.ifa_mask == b.ifa_mask and b.match(a.ifa_address)


@cited("net/ipv4/devinet.c:__inet_del_ifa")
def __inet_del_ifa(net: Fib, in_dev: InDevice, ifa1: InIfaddr) -> None:
    """Takes an address off its device; with a primary go its secondaries, or the first of them takes its place."""
    at = in_dev.ifa_list.index(ifa1)
    promote: InIfaddr | None = None
    last_prim: InIfaddr | None = None
    moved = False
    if not in_dev.dead and not ifa1.ifa_flags & IFA_F_SECONDARY:
        for ifa in in_dev.ifa_list[at + 1 :]:
            secondary = bool(ifa.ifa_flags & IFA_F_SECONDARY)
            if not secondary and ifa1.ifa_scope <= ifa.ifa_scope:
                last_prim = ifa
            if not secondary or not _same_subnet(ifa1, ifa):
                moved = True
                continue
            if net.orconf(in_dev.dev, "promote_secondaries"):
                promote = ifa
                break
            net.addr_lst.remove(ifa)
            in_dev.ifa_list.remove(ifa)
            fib_inetaddr_event(net, ifa, NetdevEvent.DOWN)
    if promote is not None:
        for ifa in in_dev.ifa_list[in_dev.ifa_list.index(promote) :]:
            if _same_subnet(ifa1, ifa):
                fib_del_ifaddr(net, ifa, ifa1)
    in_dev.ifa_list.remove(ifa1)
    net.addr_lst.remove(ifa1)
    fib_inetaddr_event(net, ifa1, NetdevEvent.DOWN)
    if promote is not None:
        rest = in_dev.ifa_list[in_dev.ifa_list.index(promote) + 1 :]
        if moved:
            in_dev.ifa_list.remove(promote)
            in_dev.ifa_list.insert(at if last_prim is None else in_dev.ifa_list.index(last_prim) + 1, promote)
        promote.ifa_flags &= ~IFA_F_SECONDARY
        net.env.note("__inet_del_ifa", f"{dotted(promote.ifa_local)} promoted after {dotted(ifa1.ifa_local)}")
        fib_inetaddr_event(net, promote, NetdevEvent.UP)
        for ifa in rest:
            if _same_subnet(ifa1, ifa):
                fib_add_ifaddr(net, ifa)


@cited("net/ipv4/devinet.c:inet_rtm_newaddr")
def inet_rtm_newaddr(
    net: Fib,
    ifindex: int,
    local: int,
    prefixlen: int,
    *,
    address: int = 0,
    broadcast: int = 0,
    scope: int = 0,
    flags: int = 0,
    rt_priority: int = 0,
    nlflags: int = 0,
) -> int:
    """Adds an address, or with REPLACE changes the metric of its subnet's route; 0 or a negative errno.

    `address` is the peer's on a point-to-point link (0: `local`); `flags` are IFA_F_*.
    """
    net.extack = ""
    if prefixlen > 32:
        return net.refuse(EINVAL, "ipv4: Invalid prefix length")
    if ifindex not in net.devs:
        return net.refuse(ENODEV, "ipv4: Device not found")
    in_dev = net.in_devs[ifindex]
    ifa = InIfaddr(in_dev, local, prefixlen)
    ifa.ifa_address = address or local
    ifa.ifa_broadcast = broadcast
    ifa.ifa_scope = scope
    ifa.ifa_flags = flags | IFA_F_PERMANENT
    ifa.ifa_rt_priority = rt_priority
    old = next((x for x in in_dev.ifa_list if _same_subnet(x, ifa) and x.ifa_local == local), None) if local else None
    if old is None:
        return __inet_insert_ifa(net, ifa)
    if nlflags & NLM_F_EXCL or not nlflags & NLM_F_REPLACE:
        return net.refuse(EEXIST, "ipv4: Address already assigned")
    if old.ifa_rt_priority != rt_priority:
        fib_modify_prefix_metric(net, old, rt_priority)
        old.ifa_rt_priority = rt_priority
    return 0


@cited("net/ipv4/devinet.c:inet_rtm_deladdr")
def inet_rtm_deladdr(net: Fib, ifindex: int, local: int | None, address: tuple[int, int] | None = None) -> int:
    """Deletes the first address that is `local` and in the subnet of `address` with that prefix length; 0 or errno."""
    net.extack = ""
    in_dev = net.in_devs.get(ifindex)
    if in_dev is None:
        return net.refuse(ENODEV, "ipv4: Device not found")
    for ifa in in_dev.ifa_list:
        if local is not None and ifa.ifa_local != local:
            continue
        if address is not None and (address[1] != ifa.ifa_prefixlen or not ifa.match(address[0])):
            continue
        __inet_del_ifa(net, in_dev, ifa)
        return 0
    return net.refuse(EADDRNOTAVAIL, "ipv4: Address not found")


# ------------------------------------------------------------------------------------------------ devices


@cited("net/ipv4/devinet.c:inetdev_event")
def inetdev_event(net: Fib, dev: NetDevice, event: NetdevEvent) -> None:
    """A device gets its IPv4 part when it is registered; lo gets 127.0.0.1/8 whenever it comes up.

    With an MTU below 68 bytes a device has no IPv4 part, and gets a new one when the MTU is valid again.
    """
    in_dev = net.in_devs.get(dev.ifindex)
    valid = dev.mtu >= LEAST_MTU
    if in_dev is None:
        if event is NetdevEvent.REGISTER or (event is NetdevEvent.CHANGEMTU and valid):
            net.in_devs[dev.ifindex] = InDevice(dev, net.conf_default.copy())
        return
    if event is NetdevEvent.UP and valid:
        if dev.loopback:
            ifa = InIfaddr(in_dev, INADDR_LOOPBACK, 8)
            ifa.ifa_scope = RT_SCOPE_HOST
            ifa.ifa_flags = IFA_F_PERMANENT
            __inet_insert_ifa(net, ifa)
        ip_mc_inc_group(in_dev, IGMP_ALL_HOSTS)
    elif event is NetdevEvent.DOWN:
        ip_mc_dec_group(in_dev, IGMP_ALL_HOSTS)
    elif event is NetdevEvent.UNREGISTER or (event is NetdevEvent.CHANGEMTU and not valid):
        in_dev.dead = True
        while in_dev.ifa_list:
            __inet_del_ifa(net, in_dev, in_dev.ifa_list[0])
        del net.in_devs[dev.ifindex]


@cited("net/core/dev.c:call_netdevice_notifiers")
def netdevice_event(net: Fib, dev: NetDevice, event: NetdevEvent, orig_mtu: int = 0) -> None:
    """Tells routing of a device's event, after its flags and carrier changed; the first is REGISTER.

    The order is that of the kernel's notifiers: rules, addresses, routes.
    """
    if event is NetdevEvent.REGISTER:
        net.devs[dev.ifindex] = dev
    elif event is NetdevEvent.UNREGISTER:
        del net.devs[dev.ifindex]
    fib_rules_event(net, dev, event)
    inetdev_event(net, dev, event)
    fib_netdev_event(net, dev, event, orig_mtu)


# ------------------------------------------------------------------------------------------------ sysctls


@cited("net/ipv4/devinet.c:devinet_conf_proc", "net/ipv4/devinet.c:devinet_sysctl_forward")
def devinet_conf_proc(net: Fib, who: str, name: str, value: int) -> None:
    """Writes net.ipv4.conf.`who`.`name`: `who` is "all", "default" or a device's name; flushes cached routes.

    Forwarding of all sets that of every device, and turns off the redirects of all.
    """
    by_name = {in_dev.dev.name: in_dev.conf for in_dev in net.in_devs.values()}
    conf = {"all": net.conf_all, "default": net.conf_default}.get(who) or by_name[who]
    old = getattr(conf, name)
    setattr(conf, name, value)
    if value == old:
        return
    if name == "forwarding":
        if conf is net.conf_all:
            net.conf_all.accept_redirects = int(not value)
            for each in (net.conf_default, *by_name.values()):
                each.forwarding = value
        if conf is not net.conf_default:
            rt_cache_flush(net)
    elif name in ("promote_secondaries", "route_localnet", "bc_forwarding") or (name == "accept_local" and not value):
        rt_cache_flush(net)
