"""Routes with several nexthops: the share of each, the hash of a flow, and which nexthop it takes."""

from typing import Final, NamedTuple

from refmodel.fib.hashing import flow_hash_from_keys
from refmodel.fib.net import Fib
from refmodel.fib.types import RT_SCOPE_LINK, RTNH_F_DEAD, RTNH_F_LINKDOWN, FibInfo, FibNh, FibResult, Flow4
from refmodel.rule import NotModelled, cited
from refmodel.skbuff import SkBuff

NUD_VALID: Final = 0xDE  # PERMANENT | NOARP | REACHABLE | PROBE | STALE | DELAY
NUD_REACHABLE: Final = 0x02

IPPROTO_ICMP: Final = 1
PORTS: Final = (6, 17, 33, 50, 132, 136)  # protocols whose header begins with two ports (ESP: its SPI)
ICMP_ERRORS: Final = (3, 4, 5, 11, 12)  # icmp_is_err


class FlowKeys(NamedTuple):
    """What the flow dissector reads of a packet; addresses as 4 bytes."""

    src: bytes
    dst: bytes
    ip_proto: int
    sport: int
    dport: int


def flow_dissect(skb: SkBuff) -> FlowKeys:
    """Addresses, protocol and ports of an IPv4 packet; a fragment has no ports; source flow_dissector.c."""
    data = bytes(skb.data)
    proto = data[9]
    ihl = (data[0] & 0xF) * 4
    fragment = int.from_bytes(data[6:8], "big") & 0x3FFF
    ports = data[ihl : ihl + 4]
    if fragment or proto not in PORTS or len(ports) < 4:
        return FlowKeys(data[12:16], data[16:20], proto, 0, 0)
    return FlowKeys(data[12:16], data[16:20], proto, int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big"))


def ip_multipath_l3_keys(skb: SkBuff) -> tuple[bytes, bytes]:
    """The addresses that are hashed: of an ICMP error those of the packet that it quotes; source net/ipv4/route.c."""
    data = bytes(skb.data)
    ihl = (data[0] & 0xF) * 4
    offset = int.from_bytes(data[6:8], "big") & 0x1FFF
    inner = data[ihl + 8 : ihl + 28]
    if data[9] == IPPROTO_ICMP and not offset and len(inner) == 20 and data[ihl] in ICMP_ERRORS:
        return inner[12:16], inner[16:20]
    return data[12:16], data[16:20]


@cited("net/ipv4/fib_semantics.c:fib_rebalance")
def fib_rebalance(net: Fib, fi: FibInfo) -> None:
    """Gives each nexthop its part of the 31-bit hash by its weight; those that are dead get none."""
    if len(fi.fib_nh) < 2:
        return
    live = [nh for nh in fi.fib_nh if _takes_part(net, nh)]
    total = sum(nh.fib_nh_weight for nh in live)
    w = 0
    for nh in fi.fib_nh:
        if nh not in live:
            nh.fib_nh_upper_bound = -1
        else:
            w += nh.fib_nh_weight
            nh.fib_nh_upper_bound = ((w << 31) + total // 2) // total - 1


def _takes_part(net: Fib, nh: FibNh) -> bool:
    if nh.fib_nh_flags & RTNH_F_DEAD:
        return False
    ignore = nh.fib_nh_dev is not None and net.orconf(nh.fib_nh_dev, "ignore_routes_with_linkdown")
    return not (ignore and nh.fib_nh_flags & RTNH_F_LINKDOWN)


@cited("net/ipv4/route.c:fib_multipath_hash")
def fib_multipath_hash(net: Fib, fl4: Flow4 | None, skb: SkBuff | None) -> int:
    """The 31-bit hash of a flow: over addresses (policy 0) or addresses, protocol and ports (policy 1)."""
    policy = net.params.fib_multipath_hash_policy
    if policy > 1:
        raise NotModelled(f"fib_multipath_hash_policy {policy}")
    seed = net.params.fib_multipath_hash_seed or net.multipath_seed
    proto = sport = dport = 0
    if skb is not None and policy == 1:
        keys = flow_dissect(skb)
        src, dst, proto, sport, dport = keys
    elif skb is not None:
        src, dst = ip_multipath_l3_keys(skb)
    else:
        assert fl4 is not None
        src, dst = fl4.saddr.to_bytes(4, "big"), fl4.daddr.to_bytes(4, "big")
        if policy == 1:
            proto, sport, dport = fl4.proto, fl4.sport, fl4.dport
    h = flow_hash_from_keys(src, dst, proto, sport, dport, seed) >> 1
    net.env.note("fib_multipath_hash", f"policy {policy}: {h:#x}")
    return h


def fib_good_nh(net: Fib, nh: FibNh) -> bool:
    """The gateway's neighbour entry is valid, or there is none; source net/ipv4/fib_semantics.c:fib_good_nh."""
    state: int | None = NUD_REACHABLE
    if nh.fib_nh_scope == RT_SCOPE_LINK:
        assert nh.fib_nh_dev is not None
        state = net.env.neigh_nud_state(nh.fib_nh_dev, nh.fib_nh_gw4)
    return state is None or bool(state & NUD_VALID)


@cited("net/ipv4/fib_semantics.c:fib_select_multipath")
def fib_select_multipath(net: Fib, res: FibResult, h: int, fl4: Flow4 | None) -> None:
    """Chooses the first nexthop whose upper bound is not below the hash.

    From 6.16 on a nexthop whose source address is the flow's is preferred to that.
    """
    use_neigh = bool(net.params.fib_multipath_use_neigh)
    if net.env.kernel >= 616:
        _select_by_score(net, res, h, fl4.saddr if fl4 is not None else 0, use_neigh)
    else:
        first = False
        for nhsel, nh in enumerate(res.info.fib_nh):
            if use_neigh:
                if not fib_good_nh(net, nh):
                    continue
                if not first:
                    res.nh_sel, res.nhc, first = nhsel, nh, True
            if h <= nh.fib_nh_upper_bound:
                res.nh_sel, res.nhc = nhsel, nh
                break
    net.env.note("fib_select_multipath", f"hash {h:#x}: nexthop {res.nh_sel} of {len(res.info.fib_nh)}")


def _select_by_score(net: Fib, res: FibResult, h: int, saddr: int, use_neigh: bool) -> None:
    best = -1
    for nhsel, nh in enumerate(res.info.fib_nh):
        if nh.fib_nh_upper_bound == -1 or (use_neigh and not fib_good_nh(net, nh)):
            continue
        score = (2 if saddr and nh.nh_saddr == saddr else 0) + (1 if h <= nh.fib_nh_upper_bound else 0)
        if best < score:
            res.nh_sel, res.nhc, best = nhsel, nh, score
            if score == 3 or (not saddr and score == 1):
                return
