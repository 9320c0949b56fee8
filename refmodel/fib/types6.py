"""IPv6 routing: what tables, routes and flows are.

What is not modelled: source prefixes, nexthop objects, expiry of routes.
"""

from errno import EACCES, EINVAL, ENETUNREACH
from typing import Final

from refmodel.fib.addrconf import (
    Inet6Dev,
    ip6_text,
)
from refmodel.fib.env import FibEnv
from refmodel.fib.leaf import FIB_PROPS_ERROR
from refmodel.fib.net import FibRule
from refmodel.fib.types import (
    LOOPBACK_IFINDEX,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTN,
    RTNH_F_LINKDOWN,
    RTPROT_BOOT,
    FrAct,
)
from refmodel.netdevice import NetDevice

RTF_GATEWAY: Final = 0x0002
RTF_REJECT: Final = 0x0200
RTF_ADDRCONF: Final = 0x00040000
RTF_NONEXTHOP: Final = 0x00200000
RTF_ANYCAST: Final = 0x00100000
RTF_LOCAL: Final = 0x80000000

RT6_LOOKUP_F_IFACE: Final = 0x1
RT6_LOOKUP_F_REACHABLE: Final = 0x2
RT6_LOOKUP_F_HAS_SADDR: Final = 0x4
RT6_LOOKUP_F_IGNORE_LINKSTATE: Final = 0x40

RT6_NUD_FAIL_HARD: Final = -3
RT6_NUD_FAIL_PROBE: Final = -2
RT6_NUD_SUCCEED: Final = 1

IP6_RT_PRIO_USER: Final = 1024
IP6_RT_PRIO_ADDRCONF: Final = 256
NUD_VALID: Final = 0xDE
NUD_FAILED: Final = 0x20
PREF_RANK: Final = {0: 2, 1: 3, 3: 1, 2: 0}  # router preference as ICMPv6 writes it: medium, high, low, invalid


class Fib6Info:
    """One route: struct fib6_info with its fib6_nh. `gw` 0: none. `pref`: ICMPV6_ROUTER_PREF_*. `siblings`: ECMP."""

    __slots__ = (
        "dev", "fib6_flags", "fib6_metric", "fib6_prefsrc", "fib6_protocol", "fib6_type", "fib_nh_flags", "gw",
        "metrics", "plen", "pref", "prefix", "rt6i_pcpu", "siblings", "tb6_id", "upper_bound", "weight",
    )  # fmt: skip

    def __init__(
        self,
        prefix: int,
        plen: int,
        dev: NetDevice,
        *,
        type: int = RTN.UNICAST,
        gw: int = 0,
        metric: int = IP6_RT_PRIO_USER,
        table: int = RT_TABLE_MAIN,
        protocol: int = RTPROT_BOOT,
        weight: int = 1,
        pref: int = 0,
        prefsrc: int = 0,
    ) -> None:
        self.prefix = prefix
        self.plen = plen
        self.dev = dev
        self.fib6_type = type
        self.gw = gw
        self.fib6_metric = metric
        self.tb6_id = table
        self.fib6_protocol = protocol
        self.fib6_prefsrc = prefsrc
        self.weight = weight
        self.pref = pref
        self.metrics: dict[int, int] = {}
        self.fib_nh_flags = 0
        self.upper_bound = 0
        self.siblings: list[Fib6Info] = []
        self.rt6i_pcpu: Route6 | None = None
        self.fib6_flags = 0
        if FIB_PROPS_ERROR[RTN(type)]:
            self.fib6_flags = RTF_REJECT | RTF_NONEXTHOP
            self.pref = 0
        elif type == RTN.LOCAL:
            self.fib6_flags = RTF_LOCAL
        elif type == RTN.ANYCAST:
            self.fib6_flags = RTF_ANYCAST

    @property
    def qualifies_for_ecmp(self) -> bool:
        """It may share its flows with others of its prefix and metric; source ip6_route.h:rt6_qualify_for_ecmp."""
        return not self.fib6_flags & RTF_ADDRCONF and bool(self.gw)

    def __repr__(self) -> str:
        via = f" via {ip6_text(self.gw)}" if self.gw else ""
        kind = RTN(self.fib6_type).name.lower()
        return f"<{kind} {ip6_text(self.prefix)}/{self.plen}{via} dev {self.dev.name} metric {self.fib6_metric}>"


class Flow6:
    """What is looked up: struct flowi6."""

    __slots__ = (
        "daddr",
        "dport",
        "flowlabel",
        "iif",
        "mark",
        "mp_hash",
        "oif",
        "proto",
        "saddr",
        "sport",
        "tos",
        "uid",
    )

    def __init__(
        self,
        daddr: int,
        saddr: int = 0,
        *,
        oif: int = 0,
        iif: int = 0,
        mark: int = 0,
        tos: int = 0,
        flowlabel: int = 0,
        proto: int = 0,
        sport: int = 0,
        dport: int = 0,
        uid: int = 0,
    ) -> None:
        self.daddr = daddr
        self.saddr = saddr
        self.oif = oif
        self.iif = iif
        self.mark = mark
        self.tos = tos
        self.flowlabel = flowlabel
        self.proto = proto
        self.sport = sport
        self.dport = dport
        self.uid = uid
        self.mp_hash = 0


class Route6:
    """What a packet carries as its destination: struct rt6_info. `error` is a positive errno, `gateway` 0 for none.

    `input` and `output` are names of kernel functions; `origin` is the table's route that it came of, `pref` the router
    preference that it shows.
    """

    __slots__ = ("dev", "error", "gateway", "input", "origin", "output", "pref")

    def __init__(self, dev: NetDevice, origin: Fib6Info | None, error: int) -> None:
        self.dev = dev
        self.origin = origin
        self.error = error
        self.gateway = origin.gw if origin is not None else 0
        self.pref = 0
        self.input = "ip6_pkt_discard"
        self.output = "ip6_pkt_discard_out"

    def nexthop(self, daddr: int) -> int:
        """The neighbour to send to; source include/net/ip6_route.h:rt6_nexthop."""
        return self.gateway or daddr

    def __repr__(self) -> str:
        return f"<{self.origin!r} dev {self.dev.name} {self.output}>"


class Table6:
    """A table: its nodes by (prefix, length), each with its routes by ascending metric."""

    __slots__ = ("nodes", "tb6_id")

    def __init__(self, tb6_id: int) -> None:
        self.tb6_id = tb6_id
        self.nodes: dict[tuple[int, int], list[Fib6Info]] = {}


class Fib6:
    """IPv6 routing in one namespace. `forwarding`: net.ipv6.conf.all.forwarding, `hash_policy`: multipath's (0, 1)."""

    def __init__(self, env: FibEnv, seed: int = 0) -> None:
        self.env = env
        self.devs: dict[int, NetDevice] = {}
        self.idevs: dict[int, Inet6Dev] = {}
        self.tables = {RT_TABLE_LOCAL: Table6(RT_TABLE_LOCAL), RT_TABLE_MAIN: Table6(RT_TABLE_MAIN)}
        self.rules = [FibRule(0, FrAct.TO_TBL, RT_TABLE_LOCAL), FibRule(0x7FFE, FrAct.TO_TBL, RT_TABLE_MAIN)]
        self.fib6_has_custom_rules = False
        self.forwarding = 0
        self.hash_policy = 0
        self.multipath_seed = seed or env.random()

    def register(self, dev: NetDevice) -> None:
        """A device appears and speaks IPv6."""
        self.devs[dev.ifindex] = dev
        self.idevs[dev.ifindex] = Inet6Dev(dev)

    def null_entry(self, error: int = ENETUNREACH) -> Route6:
        """The route that says there is none (ip6_null_entry, or ip6_prohibit_entry, ip6_blk_hole_entry)."""
        rt = Route6(self.devs[LOOPBACK_IFINDEX], None, error)
        if error == EACCES:
            rt.input, rt.output = "ip6_pkt_prohibit", "ip6_pkt_prohibit_out"
        elif error == EINVAL:
            rt.input, rt.output = "dst_discard", "dst_discard_out"
        return rt

    def ignores(self, f6i: Fib6Info) -> bool:
        """The route's device has no carrier, and routes without are ignored there."""
        idev = self.idevs.get(f6i.dev.ifindex)
        down = bool(f6i.fib_nh_flags & RTNH_F_LINKDOWN)
        return down and idev is not None and idev.ignore_routes_with_linkdown
