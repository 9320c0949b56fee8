"""Requests about routes and rules, and what addresses and devices do to routes as they come and go."""

from errno import EEXIST, EINVAL, ENOBUFS, ENOENT, ESRCH
from typing import Final

from refmodel.fib.exceptions import fib_sync_mtu
from refmodel.fib.lookup import fib_get_table, fib_new_table, inet_addr_type_table
from refmodel.fib.multipath import fib_rebalance
from refmodel.fib.net import Fib, FibRule, InDevice, InIfaddr
from refmodel.fib.trie import fib_table_delete, fib_table_flush, fib_table_insert, fib_unmerge, rt_cache_flush
from refmodel.fib.types import (
    IFA_F_NOPREFIXROUTE,
    IFA_F_SECONDARY,
    INADDR_BROADCAST,
    INET_DSCP_MASK,
    LOOPBACK_IFINDEX,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTN,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTPROT_KERNEL,
    FibConfig,
    FrAct,
    NetdevEvent,
    dotted,
    ipv4_is_zeronet,
)
from refmodel.netdevice import NetDevice
from refmodel.rule import cited

RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
FIB_MAX_AUTO_TABLE_ID: Final = 4096
IPTOS_TOS_MASK: Final = 0x1E


# ------------------------------------------------------------------------------------------------ routes by netlink


@cited("net/ipv4/fib_frontend.c:rtm_to_fib_config")
def rtm_to_fib_config(net: Fib, cfg: FibConfig) -> int:
    """Checks the form of a request; 0 or -EINVAL."""
    if cfg.fc_dscp & ~INET_DSCP_MASK:
        return net.refuse(EINVAL, "Invalid dsfield (tos): ECN bits must be 0")
    if cfg.fc_type > RTN.XRESOLVE:
        return net.refuse(EINVAL, "Invalid route type")
    if cfg.fc_dst_len > 32:
        return net.refuse(EINVAL, "Invalid prefix length")
    if cfg.fc_dst_len < 32 and cfg.fc_dst << cfg.fc_dst_len & 0xFFFFFFFF:
        return net.refuse(EINVAL, "Invalid prefix for given prefix length")
    cfg.fc_table = cfg.fc_table or RT_TABLE_MAIN
    return 0


@cited("net/ipv4/fib_frontend.c:inet_rtm_newroute")
def inet_rtm_newroute(net: Fib, cfg: FibConfig) -> int:
    """Adds a route; 0 or a negative errno."""
    net.extack = ""
    err = rtm_to_fib_config(net, cfg) or fib_table_insert(net, fib_new_table(net, cfg.fc_table), cfg)
    if not err and cfg.fc_type == RTN.LOCAL:
        net.fib_has_custom_local_routes = True
    return err


@cited("net/ipv4/fib_frontend.c:inet_rtm_delroute")
def inet_rtm_delroute(net: Fib, cfg: FibConfig) -> int:
    """Deletes a route; 0 or a negative errno."""
    net.extack = ""
    err = rtm_to_fib_config(net, cfg)
    if err:
        return err
    tb = fib_get_table(net, cfg.fc_table)
    if tb is None:
        return net.refuse(ESRCH, "FIB table does not exist")
    return fib_table_delete(net, tb, cfg)


# ------------------------------------------------------------------------------------------------ rules by netlink


def fib_default_rule_pref(net: Fib) -> int:
    """The preference of a rule that names none: before the second one; source fib_rules.c:fib_default_rule_pref."""
    return net.rules[1].pref - 1 if len(net.rules) > 1 and net.rules[1].pref else 0


def _port_range_valid(ports: tuple[int, int]) -> bool:
    return ports == (0, 0) or (ports[0] != 0 and ports[1] != 0 and ports[1] < 0xFFFF and ports[0] <= ports[1])


def _bind_names(net: Fib, rule: FibRule) -> None:
    by_name = {dev.name: dev.ifindex for dev in net.devs.values()}
    if rule.iifname:
        rule.iifindex = by_name.get(rule.iifname, -1)
    if rule.oifname:
        rule.oifindex = by_name.get(rule.oifname, -1)


@cited("net/core/fib_rules.c:fib_nl2rule")
def fib_nl2rule(net: Fib, rule: FibRule) -> int:
    """Checks a rule in a request and completes it; 0 or -EINVAL.

    6.18 looks last at where a GOTO goes, 6.12 does so before the ports.
    """
    _bind_names(net, rule)
    if rule.action == FrAct.GOTO and not rule.target:
        return net.refuse(EINVAL, "Missing goto target for action goto")
    if rule.action != FrAct.GOTO and rule.target:
        return net.refuse(EINVAL, "Unexpected goto")
    first, then = (_check_ports, _check_target) if net.env.kernel >= 618 else (_check_target, _check_ports)
    return first(net, rule) or then(net, rule)


def _check_target(net: Fib, rule: FibRule) -> int:
    if rule.action == FrAct.GOTO and rule.target <= rule.pref:
        return net.refuse(EINVAL, "Backward goto not supported")
    return 0


def _check_ports(net: Fib, rule: FibRule) -> int:
    if not _port_range_valid(rule.sport_range):
        return net.refuse(EINVAL, "Invalid sport range")
    if not _port_range_valid(rule.dport_range):
        return net.refuse(EINVAL, "Invalid dport range")
    return 0


@cited("net/ipv4/fib_rules.c:fib4_rule_configure")
def fib4_rule_configure(net: Fib, rule: FibRule) -> int:
    """The IPv4 part of a new rule: from now on rules are asked, and local and main are two tables."""
    if not rule.dscp_full:
        if rule.dscp & ~INET_DSCP_MASK:
            return net.refuse(EINVAL, "Invalid dsfield (tos): ECN bits must be 0")
        if rule.dscp & ~IPTOS_TOS_MASK:
            return net.refuse(EINVAL, "Invalid tos")
    fib_unmerge(net)
    if rule.table == 0 and rule.action == FrAct.TO_TBL:
        free = next((i for i in range(1, FIB_MAX_AUTO_TABLE_ID + 1) if i not in net.tables), None)
        if free is None:
            return -ENOBUFS
        rule.table = fib_new_table(net, free).tb_id
    if fib_rule_requires_fldissect(rule):
        net.fib_rules_require_fldissect += 1
    net.fib_has_custom_rules = True
    return 0


def fib_rule_requires_fldissect(rule: FibRule) -> bool:
    """Packets must be looked into for a rule; not for one of what this host sends; source include/net/fib_rules.h."""
    ports = rule.ip_proto or rule.sport_range[0] or rule.dport_range[0]
    return rule.iifindex != LOOPBACK_IFINDEX and bool(ports)


_SAME: Final = (
    "action", "table", "pref", "iifname", "oifname", "mark", "suppress_prefixlen", "mark_mask", "uid_range", "ip_proto",
    "proto", "sport_range", "dport_range",
)  # fmt: skip


def fib4_rule_compare(r: FibRule, rule: FibRule) -> bool:
    """`r` has the addresses and the DSCP that `rule` names; source net/ipv4/fib_rules.c:fib4_rule_compare."""
    if rule.src_len and (r.src_len, r.src) != (rule.src_len, rule.src):
        return False
    if rule.dst_len and (r.dst_len, r.dst) != (rule.dst_len, rule.dst):
        return False
    if rule.dscp_full:
        return r.dscp_full and r.dscp == rule.dscp
    return not rule.dscp or (not r.dscp_full and r.dscp == rule.dscp)


@cited("net/core/fib_rules.c:fib_nl_newrule")
def fib_nl_newrule(net: Fib, rule: FibRule, nlflags: int = NLM_F_CREATE | NLM_F_EXCL, user_pref: bool = True) -> int:
    """Adds a policy rule behind those of the same preference; 0 or a negative errno."""
    net.extack = ""
    if not user_pref:
        rule.pref = fib_default_rule_pref(net)
    err = fib_nl2rule(net, rule)
    if err:
        return err
    if nlflags & NLM_F_EXCL and any(
        all(getattr(r, name) == getattr(rule, name) for name in _SAME) and fib4_rule_compare(r, rule) for r in net.rules
    ):
        return -EEXIST
    err = fib4_rule_configure(net, rule)
    if err:
        return err
    rule.ctarget = next((r for r in net.rules if r.pref == rule.target), None)
    net.rules.insert(sum(1 for r in net.rules if r.pref <= rule.pref), rule)
    for r in net.rules:
        if r.action == FrAct.GOTO and r.target == rule.pref and r.ctarget is None:
            r.ctarget = rule
    rt_cache_flush(net)
    return 0


_FIND: Final = ("action", "table", "iifname", "oifname", "mark", "mark_mask", "ip_proto", "proto")


@cited("net/core/fib_rules.c:fib_nl_delrule")
def fib_nl_delrule(net: Fib, rule: FibRule, user_pref: bool = True) -> int:
    """Deletes the first rule that has all that the request names; GOTOs to it go to the next of its preference."""
    net.extack = ""
    if not user_pref:
        rule.pref = fib_default_rule_pref(net)
    err = fib_nl2rule(net, rule)
    if err:
        return err
    found = next((r for r in net.rules if _found(r, rule, user_pref)), None)
    if found is None:
        return -ENOENT
    fib_unmerge(net)
    net.fib_has_custom_rules = True
    if net.fib_rules_require_fldissect and fib_rule_requires_fldissect(found):
        net.fib_rules_require_fldissect -= 1
    i = net.rules.index(found)
    after = net.rules[i + 1] if i + 1 < len(net.rules) and net.rules[i + 1].pref == found.pref else None
    del net.rules[i]
    for r in net.rules:
        if r.ctarget is found:
            r.ctarget = after
    rt_cache_flush(net)
    return 0


def _found(r: FibRule, rule: FibRule, user_pref: bool) -> bool:
    return (
        all(not getattr(rule, name) or getattr(r, name) == getattr(rule, name) for name in _FIND)
        and (not user_pref or r.pref == rule.pref)
        and rule.suppress_prefixlen in (-1, r.suppress_prefixlen)
        and (rule.uid_range == (0, 0xFFFFFFFF) or r.uid_range == rule.uid_range)
        and (not rule.sport_range[0] or r.sport_range == rule.sport_range)
        and (not rule.dport_range[0] or r.dport_range == rule.dport_range)
        and fib4_rule_compare(r, rule)
    )


# ------------------------------------------------------------------------------------------------ addresses


@cited("net/ipv4/fib_frontend.c:fib_magic")
def fib_magic(net: Fib, cmd: int, type: int, dst: int, dst_len: int, ifa: InIfaddr, rt_priority: int) -> None:
    """Adds or deletes a route that comes with an address; whether that succeeds is nobody's concern."""
    tb = fib_new_table(net, RT_TABLE_MAIN if type == RTN.UNICAST else RT_TABLE_LOCAL)
    cfg = FibConfig(
        dst, dst_len, type=type, oif=ifa.ifa_dev.dev.ifindex, table=tb.tb_id, priority=rt_priority,
        prefsrc=ifa.ifa_local, scope=RT_SCOPE_HOST if type == RTN.LOCAL else RT_SCOPE_LINK, protocol=RTPROT_KERNEL,
        nlflags=NLM_F_CREATE | NLM_F_APPEND,
    )  # fmt: skip
    if cmd == RTM_NEWROUTE:
        err = fib_table_insert(net, tb, cfg)
    else:
        err = fib_table_delete(net, tb, cfg)
    verb = "add" if cmd == RTM_NEWROUTE else "delete"
    net.env.note("fib_magic", f"{verb} {RTN(type).name.lower()} {dotted(dst)}/{dst_len} table {tb.tb_id}: {err}")


def inet_ifa_byprefix(in_dev: InDevice, prefix: int, mask: int) -> InIfaddr | None:
    """The first address of a subnet, which is its primary; source net/ipv4/devinet.c:inet_ifa_byprefix."""
    return next((ifa for ifa in in_dev.ifa_list if ifa.ifa_mask == mask and ifa.match(prefix)), None)


def _prefix_type(dev: NetDevice) -> int:
    return RTN.LOCAL if dev.loopback else RTN.UNICAST


@cited("net/ipv4/fib_frontend.c:fib_add_ifaddr")
def fib_add_ifaddr(net: Fib, ifa: InIfaddr) -> None:
    """An address brings a local route, and on a device that is up its broadcast routes and its subnet's route."""
    in_dev = ifa.ifa_dev
    mask, addr = ifa.ifa_mask, ifa.ifa_local
    prefix = ifa.ifa_address & mask
    prim: InIfaddr | None = ifa
    if ifa.ifa_flags & IFA_F_SECONDARY:
        prim = inet_ifa_byprefix(in_dev, prefix, mask)
        if prim is None:
            return
    assert prim is not None
    fib_magic(net, RTM_NEWROUTE, RTN.LOCAL, addr, 32, prim, 0)
    if not in_dev.dev.up:
        return
    if ifa.ifa_broadcast and ifa.ifa_broadcast != INADDR_BROADCAST:
        fib_magic(net, RTM_NEWROUTE, RTN.BROADCAST, ifa.ifa_broadcast, 32, prim, 0)
        net.env.arp_invalidate(in_dev.dev, ifa.ifa_broadcast)
    if (
        not ipv4_is_zeronet(prefix)
        and not ifa.ifa_flags & IFA_F_SECONDARY
        and (prefix != addr or ifa.ifa_prefixlen < 32)
    ):
        if not ifa.ifa_flags & IFA_F_NOPREFIXROUTE:
            kind = _prefix_type(in_dev.dev)
            fib_magic(net, RTM_NEWROUTE, kind, prefix, ifa.ifa_prefixlen, prim, ifa.ifa_rt_priority)
        if ifa.ifa_prefixlen < 31:
            brd = prefix | ~mask & 0xFFFFFFFF
            fib_magic(net, RTM_NEWROUTE, RTN.BROADCAST, brd, 32, prim, 0)
            net.env.arp_invalidate(in_dev.dev, brd)


@cited("net/ipv4/fib_frontend.c:fib_modify_prefix_metric")
def fib_modify_prefix_metric(net: Fib, ifa: InIfaddr, new_metric: int) -> None:
    """The subnet's route is added with the new metric and deleted with the old one."""
    prefix = ifa.ifa_address & ifa.ifa_mask
    dev = ifa.ifa_dev.dev
    if (
        not dev.up
        or ifa.ifa_flags & (IFA_F_SECONDARY | IFA_F_NOPREFIXROUTE)
        or ipv4_is_zeronet(prefix)
        or (prefix == ifa.ifa_local and ifa.ifa_prefixlen == 32)
    ):
        return
    fib_magic(net, RTM_NEWROUTE, _prefix_type(dev), prefix, ifa.ifa_prefixlen, ifa, new_metric)
    fib_magic(net, RTM_DELROUTE, _prefix_type(dev), prefix, ifa.ifa_prefixlen, ifa, ifa.ifa_rt_priority)


@cited("net/ipv4/fib_frontend.c:fib_del_ifaddr")
def fib_del_ifaddr(net: Fib, ifa: InIfaddr, iprim: InIfaddr | None) -> None:
    """An address takes its routes along, except those that another address of the device still needs.

    With `iprim` the addresses of that one's subnet count as gone: a secondary address is about to take its place.
    """
    in_dev = ifa.ifa_dev
    dev = in_dev.dev
    brd = ifa.ifa_address | ~ifa.ifa_mask & 0xFFFFFFFF
    any_ = ifa.ifa_address & ifa.ifa_mask
    prim = ifa
    subnet = False
    if ifa.ifa_flags & IFA_F_SECONDARY:
        found = inet_ifa_byprefix(in_dev, any_, ifa.ifa_mask)
        if found is None or (iprim is not None and iprim is not found):
            return
        prim = found
    elif not ipv4_is_zeronet(any_) and (any_ != ifa.ifa_local or ifa.ifa_prefixlen < 32):
        if not ifa.ifa_flags & IFA_F_NOPREFIXROUTE:
            fib_magic(net, RTM_DELROUTE, _prefix_type(dev), any_, ifa.ifa_prefixlen, prim, 0)
        subnet = True
    needed = _Needed() if in_dev.dead else _still_needed(ifa, prim, iprim, brd, any_)
    if not needed.brd:
        fib_magic(net, RTM_DELROUTE, RTN.BROADCAST, ifa.ifa_broadcast, 32, prim, 0)
    if subnet and ifa.ifa_prefixlen < 31:
        if not needed.brd1:
            fib_magic(net, RTM_DELROUTE, RTN.BROADCAST, brd, 32, prim, 0)
        if not needed.brd0:
            fib_magic(net, RTM_DELROUTE, RTN.BROADCAST, any_, 32, prim, 0)
    if not needed.local:
        fib_magic(net, RTM_DELROUTE, RTN.LOCAL, ifa.ifa_local, 32, prim, 0)
        kind = inet_addr_type_table(net, ifa.ifa_local, RT_TABLE_LOCAL)
        if needed.gone and kind != RTN.LOCAL and fib_sync_down_addr(net, ifa.ifa_local):
            fib_flush(net)


class _Needed:
    """Which routes of an address another address of the device has too; `gone`: the address is off the list."""

    __slots__ = ("brd", "brd0", "brd1", "gone", "local")

    def __init__(self) -> None:
        self.local = self.brd = self.brd0 = self.brd1 = False
        self.gone = True


def _still_needed(ifa: InIfaddr, prim: InIfaddr, iprim: InIfaddr | None, brd: int, any_: int) -> _Needed:
    ok = _Needed()
    prim1: InIfaddr | None = None
    same_prefsrc = False
    for ifa1 in ifa.ifa_dev.ifa_list:
        if ifa1 is ifa:
            ok.gone = False
            continue
        if iprim is not None and ifa1.ifa_mask == iprim.ifa_mask and iprim.match(ifa1.ifa_address):
            continue
        if ifa1.ifa_flags & IFA_F_SECONDARY:
            if ifa1.ifa_mask == prim.ifa_mask and prim.match(ifa1.ifa_address):
                prim1 = prim
            else:
                if not same_prefsrc:
                    continue
                if prim1 is None or ifa1.ifa_mask != prim1.ifa_mask or not prim1.match(ifa1.ifa_address):
                    prim1 = inet_ifa_byprefix(ifa.ifa_dev, ifa1.ifa_address, ifa1.ifa_mask)
                if prim1 is None or prim1.ifa_local != prim.ifa_local:
                    continue
        else:
            if prim.ifa_local != ifa1.ifa_local:
                continue
            prim1 = ifa1
            if prim is not prim1:
                same_prefsrc = True
        ok.local |= ifa.ifa_local == ifa1.ifa_local
        ok.brd |= ifa.ifa_broadcast == ifa1.ifa_broadcast
        ok.brd1 |= brd == ifa1.ifa_broadcast
        ok.brd0 |= any_ == ifa1.ifa_broadcast
        if prim1 is ifa1 and ifa1.ifa_prefixlen < 31:
            any1 = ifa1.ifa_address & ifa1.ifa_mask
            if not ipv4_is_zeronet(any1):
                both = (ifa1.ifa_address | ~ifa1.ifa_mask & 0xFFFFFFFF, any1)
                ok.brd |= ifa.ifa_broadcast in both
                ok.brd1 |= brd in both
                ok.brd0 |= any_ in both
    return ok


# ------------------------------------------------------------------------------------------------ devices


def fib_sync_down_addr(net: Fib, local: int) -> int:
    """Routes whose `src` is gone die; returns how many; source net/ipv4/fib_semantics.c:fib_sync_down_addr."""
    if local == 0:
        return 0
    gone = [fi for fi in net.infos if fi.fib_tb_id == RT_TABLE_MAIN and fi.fib_prefsrc == local]
    for fi in gone:
        fi.fib_flags |= RTNH_F_DEAD
    return len(gone)


@cited("net/ipv4/fib_frontend.c:fib_flush")
def fib_flush(net: Fib) -> None:
    """Removes dead routes from all tables."""
    if sum([fib_table_flush(net, tb) for tb in net.tables.values()]):
        rt_cache_flush(net)


@cited("net/ipv4/fib_semantics.c:fib_sync_down_dev")
def fib_sync_down_dev(net: Fib, dev: NetDevice, event: NetdevEvent, force: bool) -> int:
    """Nexthops on a device that goes down die, those without carrier are marked; returns how many routes it ends.

    Local routes stay, unless `force`: the last address or the device itself is gone.
    """
    scope = -1 if force else RT_SCOPE_NOWHERE
    ret = 0
    for fi in [fi for fi in net.infos if any(nh.fib_nh_dev is dev for nh in fi.fib_nh)]:
        dead = 0
        for nh in fi.fib_nh:
            if nh.fib_nh_flags & RTNH_F_DEAD:
                dead += 1
            elif nh.fib_nh_dev is dev and nh.fib_nh_scope != scope:
                if event in (NetdevEvent.DOWN, NetdevEvent.UNREGISTER):
                    nh.fib_nh_flags |= RTNH_F_DEAD
                nh.fib_nh_flags |= RTNH_F_LINKDOWN
                dead += 1
            if event is NetdevEvent.UNREGISTER and nh.fib_nh_dev is dev:
                dead = len(fi.fib_nh)
                break
        if dead == len(fi.fib_nh):
            if event in (NetdevEvent.DOWN, NetdevEvent.UNREGISTER):
                fi.fib_flags |= RTNH_F_DEAD
            fi.fib_flags |= RTNH_F_LINKDOWN
            ret += 1
        fib_rebalance(net, fi)
    return ret


@cited("net/ipv4/fib_semantics.c:fib_sync_up")
def fib_sync_up(net: Fib, dev: NetDevice, nh_flags: int) -> None:
    """Nexthops on a device that came up, or whose carrier did, live again."""
    if not dev.up:
        return
    if nh_flags & RTNH_F_DEAD and dev.carrier:
        nh_flags |= RTNH_F_LINKDOWN
    for fi in [fi for fi in net.infos if any(nh.fib_nh_dev is dev for nh in fi.fib_nh)]:
        alive = 0
        for nh in fi.fib_nh:
            if not nh.fib_nh_flags & nh_flags:
                alive += 1
            elif nh.fib_nh_dev is dev and dev.ifindex in net.in_devs:
                alive += 1
                nh.fib_nh_flags &= ~nh_flags
        if alive:
            fi.fib_flags &= ~nh_flags
        fib_rebalance(net, fi)


@cited("net/ipv4/fib_frontend.c:fib_disable_ip")
def fib_disable_ip(net: Fib, dev: NetDevice, event: NetdevEvent, force: bool) -> None:
    """IP on a device ends: its routes die, and its neighbours are forgotten."""
    if fib_sync_down_dev(net, dev, event, force):
        fib_flush(net)
    else:
        rt_cache_flush(net)
    net.env.arp_ifdown(dev)


@cited("net/ipv4/fib_frontend.c:fib_inetaddr_event")
def fib_inetaddr_event(net: Fib, ifa: InIfaddr, event: NetdevEvent) -> None:
    """An address was added (UP) or taken off its device (DOWN)."""
    dev = ifa.ifa_dev.dev
    if event is NetdevEvent.UP:
        fib_add_ifaddr(net, ifa)
        fib_sync_up(net, dev, RTNH_F_DEAD)
        net.dev_addr_genid += 1
        rt_cache_flush(net)
        return
    fib_del_ifaddr(net, ifa, None)
    net.dev_addr_genid += 1
    if ifa.ifa_dev.ifa_list:
        rt_cache_flush(net)
    else:
        fib_disable_ip(net, dev, event, True)


@cited("net/ipv4/fib_frontend.c:fib_netdev_event")
def fib_netdev_event(net: Fib, dev: NetDevice, event: NetdevEvent, orig_mtu: int = 0) -> None:
    """A device came up, went down, changed its carrier or MTU (it was `orig_mtu`), or goes away; its fields are new."""
    if event is NetdevEvent.UNREGISTER:
        fib_disable_ip(net, dev, event, True)
        return
    in_dev = net.in_devs.get(dev.ifindex)
    if in_dev is None:
        return
    if event is NetdevEvent.UP:
        for ifa in in_dev.ifa_list:
            fib_add_ifaddr(net, ifa)
        fib_sync_up(net, dev, RTNH_F_DEAD)
        net.dev_addr_genid += 1
        rt_cache_flush(net)
    elif event is NetdevEvent.DOWN:
        fib_disable_ip(net, dev, event, False)
    elif event is NetdevEvent.CHANGE:
        if dev.up and dev.carrier:
            fib_sync_up(net, dev, RTNH_F_LINKDOWN)
        else:
            fib_sync_down_dev(net, dev, event, False)
        rt_cache_flush(net)
    elif event is NetdevEvent.CHANGEMTU:
        fib_sync_mtu(net, dev, orig_mtu)
        rt_cache_flush(net)


@cited("net/core/fib_rules.c:fib_rules_event")
def fib_rules_event(net: Fib, dev: NetDevice, event: NetdevEvent) -> None:
    """Rules that name a device find it when it appears and lose it when it goes."""
    for rule in net.rules:
        if event is NetdevEvent.REGISTER:
            rule.iifindex = dev.ifindex if rule.iifindex == -1 and rule.iifname == dev.name else rule.iifindex
            rule.oifindex = dev.ifindex if rule.oifindex == -1 and rule.oifname == dev.name else rule.oifindex
        elif event is NetdevEvent.UNREGISTER:
            rule.iifindex = -1 if rule.iifindex == dev.ifindex else rule.iifindex
            rule.oifindex = -1 if rule.oifindex == dev.ifindex else rule.oifindex
