"""IPv6 addresses: their types and scopes, the policy table, which one a host sends from, and the routes they bring.

Addresses are 128-bit integers. Duplicate address detection is not part of it: an address is added as valid (nodad).
"""

from enum import IntEnum, IntFlag
from ipaddress import IPv6Address
from typing import Final

from refmodel.env import Env
from refmodel.fib.types import IFA_F_DEPRECATED, IFA_F_OPTIMISTIC, IFA_F_SECONDARY, IFA_F_TENTATIVE
from refmodel.netdevice import NetDevice
from refmodel.rule import cited

IFA_F_TEMPORARY: Final = IFA_F_SECONDARY
IPV6_PREFER_SRC_TMP: Final = 1
IPV6_PREFER_SRC_PUBLIC: Final = 2


class Addr6(IntFlag):
    """Types of IPv6 addresses; source include/net/ipv6.h:IPV6_ADDR_UNICAST and those beside it."""

    ANY = 0
    UNICAST = 1
    MULTICAST = 2
    LOOPBACK = 0x10
    LINKLOCAL = 0x20
    SITELOCAL = 0x40
    COMPATV4 = 0x80
    MAPPED = 0x1000


SCOPE_INVALID: Final = -1
SCOPE_NODELOCAL: Final = 1
SCOPE_LINKLOCAL: Final = 2
SCOPE_SITELOCAL: Final = 5
SCOPE_GLOBAL: Final = 14


def ip6(text: str) -> int:
    """The integer of an address as people write it."""
    return int(IPv6Address(text))


def ip6_text(addr: int) -> str:
    """An address as people write it."""
    return str(IPv6Address(addr))


def mask6(plen: int) -> int:
    """The netmask of a prefix length."""
    return ((1 << 128) - 1) ^ ((1 << (128 - plen)) - 1)


def prefix_equal(a: int, b: int, plen: int) -> bool:
    """Two addresses lie in one prefix; source include/net/ipv6.h:ipv6_prefix_equal."""
    return not (a ^ b) & mask6(plen)


@cited("net/ipv6/addrconf_core.c:__ipv6_addr_type", "RFC 4291 2.4")
def ipv6_addr_type(addr: int) -> tuple[Addr6, int]:
    """The type of an address, and its scope (-1 for ::)."""
    if addr >> 120 == 0xFF:
        scope = addr >> 112 & 0xF
        extra = {
            SCOPE_NODELOCAL: Addr6.LOOPBACK,
            SCOPE_LINKLOCAL: Addr6.LINKLOCAL,
            SCOPE_SITELOCAL: Addr6.SITELOCAL,
        }.get(scope, Addr6.ANY)
        return Addr6.MULTICAST | extra, scope
    if addr >> 118 == 0xFE80 >> 6:
        return Addr6.LINKLOCAL | Addr6.UNICAST, SCOPE_LINKLOCAL
    if addr >> 118 == 0xFEC0 >> 6:
        return Addr6.SITELOCAL | Addr6.UNICAST, SCOPE_SITELOCAL
    if addr == 0:
        return Addr6.ANY, SCOPE_INVALID
    if addr == 1:
        return Addr6.LOOPBACK | Addr6.UNICAST, SCOPE_LINKLOCAL
    if addr >> 32 == 0:
        return Addr6.COMPATV4 | Addr6.UNICAST, SCOPE_GLOBAL
    if addr >> 32 == 0xFFFF:
        return Addr6.MAPPED, SCOPE_GLOBAL
    return Addr6.UNICAST, SCOPE_GLOBAL


def rt6_need_strict(daddr: int) -> bool:
    """A destination that means something only together with its device; source net/ipv6/route.c:rt6_need_strict."""
    return bool(ipv6_addr_type(daddr)[0] & (Addr6.MULTICAST | Addr6.LINKLOCAL | Addr6.LOOPBACK))


# The default policy table (RFC 6724 2.1, and Linux's own labels): prefix, length, label; longer prefixes first.
LABELS: Final = tuple(
    (ip6(p), n, label)
    for p, n, label in (
        ("::1", 128, 0), ("::", 96, 3), ("::ffff:0:0", 96, 4), ("2001::", 32, 6), ("2001:10::", 28, 7),
        ("2002::", 16, 2), ("3ffe::", 16, 12), ("fec0::", 10, 11), ("fc00::", 7, 5), ("::", 0, 1),
    )
)  # fmt: skip


@cited("net/ipv6/addrlabel.c:ipv6_addr_label", "RFC 6724 2.1")
def ipv6_addr_label(addr: int) -> int:
    """The label of an address in the policy table."""
    return next(label for prefix, n, label in LABELS if prefix_equal(addr, prefix, n))


def ipv6_addr_orchid(addr: int) -> bool:
    """It lies in 2001:10::/28 (RFC 4843)."""
    return prefix_equal(addr, ip6("2001:10::"), 28)


class Inet6Ifaddr:
    """An IPv6 address of a device: struct inet6_ifaddr."""

    __slots__ = ("addr", "dev", "flags", "prefix_len")

    def __init__(self, dev: NetDevice, addr: int, prefix_len: int, flags: int = 0) -> None:
        self.dev = dev
        self.addr = addr
        self.prefix_len = prefix_len
        self.flags = flags


class Inet6Dev:
    """The IPv6 part of a device: struct inet6_dev. `addr_list`: wide scopes first, among equals the newest first."""

    __slots__ = ("addr_list", "dev", "ignore_routes_with_linkdown", "use_oif_addrs_only", "use_tempaddr")

    def __init__(self, dev: NetDevice) -> None:
        self.dev = dev
        self.addr_list: list[Inet6Ifaddr] = []
        self.use_tempaddr = 0
        self.use_oif_addrs_only = False
        self.ignore_routes_with_linkdown = False


def ipv6_link_dev_addr(idev: Inet6Dev, ifp: Inet6Ifaddr) -> None:
    """Puts an address on its device's list; source net/ipv6/addrconf.c:ipv6_link_dev_addr."""
    scope = ipv6_addr_type(ifp.addr)[1]
    at = next((i for i, x in enumerate(idev.addr_list) if scope >= ipv6_addr_type(x.addr)[1]), len(idev.addr_list))
    idev.addr_list.insert(at, ifp)


class SaddrRule(IntEnum):
    """The rules of source address selection, in their order; source net/ipv6/addrconf.c:IPV6_SADDR_RULE_INIT."""

    INIT = 0
    LOCAL = 1
    SCOPE = 2
    PREFERRED = 3
    OIF = 4
    LABEL = 5
    PRIVACY = 6
    ORCHID = 7
    PREFIX = 8
    NOT_OPTIMISTIC = 9


class Candidate:
    """What the rules say of one address so far, and by how much (`scopedist`)."""

    __slots__ = ("ifa", "scopedist", "values")

    def __init__(self, ifa: Inet6Ifaddr | None) -> None:
        self.ifa = ifa
        self.scopedist = 0
        self.values: dict[SaddrRule, int] = {}


class SaddrDst:
    """The destination that a source is chosen for."""

    __slots__ = ("addr", "ifindex", "label", "prefs", "scope")

    def __init__(self, daddr: int, ifindex: int, prefs: int) -> None:
        self.addr = daddr
        self.ifindex = ifindex
        self.scope = ipv6_addr_type(daddr)[1]
        self.label = ipv6_addr_label(daddr)
        self.prefs = prefs


@cited("net/ipv6/addrconf.c:ipv6_get_saddr_eval", "RFC 6724 5")
def ipv6_get_saddr_eval(score: Candidate, dst: SaddrDst, idevs: dict[int, Inet6Dev], rule: SaddrRule) -> int:
    """What one rule says of an address: the greater the better."""
    if rule not in score.values:
        score.values[rule] = _eval(score, dst, idevs, rule)
    return score.values[rule]


def _eval(score: Candidate, dst: SaddrDst, idevs: dict[int, Inet6Dev], rule: SaddrRule) -> int:
    ifa = score.ifa
    if ifa is None:
        return 0
    kind, scope = ipv6_addr_type(ifa.addr)
    if rule is SaddrRule.INIT:
        return 1
    if rule is SaddrRule.LOCAL:
        return int(ifa.addr == dst.addr)
    if rule is SaddrRule.SCOPE:
        score.scopedist = -scope if scope >= dst.scope else scope - 128
        return score.scopedist
    if rule is SaddrRule.PREFERRED:
        old = bool(kind & (Addr6.MAPPED | Addr6.COMPATV4 | Addr6.LOOPBACK))
        return int(old or not ifa.flags & (IFA_F_DEPRECATED | IFA_F_OPTIMISTIC))
    if rule is SaddrRule.OIF:
        return int(not dst.ifindex or dst.ifindex == ifa.dev.ifindex)
    if rule is SaddrRule.LABEL:
        return int(ipv6_addr_label(ifa.addr) == dst.label)
    if rule is SaddrRule.PRIVACY:
        asked = dst.prefs & (IPV6_PREFER_SRC_PUBLIC | IPV6_PREFER_SRC_TMP)
        temporary = bool(dst.prefs & IPV6_PREFER_SRC_TMP) if asked else idevs[ifa.dev.ifindex].use_tempaddr >= 2
        return int((not ifa.flags & IFA_F_TEMPORARY) != temporary)
    if rule is SaddrRule.ORCHID:
        return int(ipv6_addr_orchid(ifa.addr) == ipv6_addr_orchid(dst.addr))
    if rule is SaddrRule.PREFIX:
        return min(128 - (ifa.addr ^ dst.addr).bit_length(), ifa.prefix_len)
    return int(not ifa.flags & IFA_F_OPTIMISTIC)


@cited("net/ipv6/addrconf.c:__ipv6_dev_get_saddr", "RFC 6724 5")
def __ipv6_dev_get_saddr(dst: SaddrDst, idev: Inet6Dev, idevs: dict[int, Inet6Dev], best: Candidate) -> Candidate:
    """Holds one device's addresses against the best one so far; the first rule that differs decides."""
    for ifa in idev.addr_list:
        if ifa.flags & IFA_F_TENTATIVE and not ifa.flags & IFA_F_OPTIMISTIC:
            continue
        kind = ipv6_addr_type(ifa.addr)[0]
        if kind == Addr6.ANY or kind & Addr6.MULTICAST:
            continue
        score = Candidate(ifa)
        for rule in SaddrRule:
            high = ipv6_get_saddr_eval(best, dst, idevs, rule)
            mine = ipv6_get_saddr_eval(score, dst, idevs, rule)
            if high > mine:
                break
            if high < mine:
                best = score
                break
    return best


@cited("net/ipv6/addrconf.c:ipv6_dev_get_saddr", "RFC 6724 4", "RFC 6724 5")
def ipv6_dev_get_saddr(
    env: Env, idevs: dict[int, Inet6Dev], dst_dev: NetDevice | None, daddr: int, prefs: int = 0
) -> int | None:
    """The address to send from to `daddr` by `dst_dev`, None if there is none; `prefs` are IPV6_PREFER_SRC_*.

    For link-local and multicast destinations only the device's own addresses are candidates.
    """
    dst = SaddrDst(daddr, dst_dev.ifindex if dst_dev is not None else 0, prefs)
    best = Candidate(None)
    own = idevs.get(dst.ifindex)
    multicast = bool(ipv6_addr_type(daddr)[0] & Addr6.MULTICAST)
    only = own is not None and own.use_oif_addrs_only
    if dst_dev is not None and (multicast or dst.scope <= SCOPE_LINKLOCAL or only):
        if own is not None:
            best = __ipv6_dev_get_saddr(dst, own, idevs, best)
    else:
        for idev in idevs.values():
            best = __ipv6_dev_get_saddr(dst, idev, idevs, best)
    chosen = None if best.ifa is None else best.ifa.addr
    why = "none" if chosen is None else ip6_text(chosen)
    env.note("ipv6_dev_get_saddr", f"{why} for {ip6_text(daddr)}")
    return chosen
