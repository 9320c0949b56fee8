"""What the forwarding information base is made of: struct fib_info, fib_alias, fib_table, flowi4, rtable and others.

IPv4 addresses are integers in host order; 0 is no address. Errors are negative errno values, as in the kernel.
"""

from enum import IntEnum
from typing import Final, NamedTuple

from refmodel.netdevice import NetDevice

RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_SITE: Final = 200
RT_SCOPE_LINK: Final = 253
RT_SCOPE_HOST: Final = 254
RT_SCOPE_NOWHERE: Final = 255

RT_TABLE_UNSPEC: Final = 0
RT_TABLE_DEFAULT: Final = 253
RT_TABLE_MAIN: Final = 254
RT_TABLE_LOCAL: Final = 255

RTPROT_UNSPEC: Final = 0
RTPROT_KERNEL: Final = 2
RTPROT_BOOT: Final = 3
RTPROT_STATIC: Final = 4

RTNH_F_DEAD: Final = 1
RTNH_F_PERVASIVE: Final = 2
RTNH_F_ONLINK: Final = 4
RTNH_F_OFFLOAD: Final = 8
RTNH_F_LINKDOWN: Final = 16
RTNH_F_TRAP: Final = 64
RTNH_COMPARE_MASK: Final = RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_OFFLOAD | RTNH_F_TRAP

NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800

RTCF_REDIRECTED: Final = 0x00040000
RTCF_DOREDIRECT: Final = 0x01000000
RTCF_BROADCAST: Final = 0x10000000
RTCF_MULTICAST: Final = 0x20000000
RTCF_LOCAL: Final = 0x80000000

RTM_F_CLONED: Final = 0x200
RTM_F_LOOKUP_TABLE: Final = 0x1000
RTM_F_FIB_MATCH: Final = 0x2000

RTAX_LOCK: Final = 1
RTAX_MTU: Final = 2
RTAX_CWND: Final = 7
RTAX_ADVMSS: Final = 8
RTAX_HOPLIMIT: Final = 10
RTAX_FEATURES: Final = 12
RTAX_FEATURE_MASK: Final = 0x1F
RTAX_MAX: Final = 17

FIB_LOOKUP_NOREF: Final = 1
FIB_LOOKUP_IGNORE_LINKSTATE: Final = 2

FLOWI_FLAG_ANYSRC: Final = 1
FLOWI_FLAG_KNOWN_NH: Final = 2

IPSKB_DOREDIRECT: Final = 1 << 5
IPSKB_MULTIPATH: Final = 1 << 9

LOOPBACK_IFINDEX: Final = 1
INADDR_LOOPBACK: Final = 0x7F000001
INADDR_BROADCAST: Final = 0xFFFFFFFF
IGMP_ALL_HOSTS: Final = 0xE0000001
IP_MAX_MTU: Final = 0xFFFF
INET_DSCP_MASK: Final = 0xFC

IFA_F_SECONDARY: Final = 0x01
IFA_F_NODAD: Final = 0x02
IFA_F_OPTIMISTIC: Final = 0x04
IFA_F_DADFAILED: Final = 0x08
IFA_F_HOMEADDRESS: Final = 0x10
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
IFA_F_PERMANENT: Final = 0x80
IFA_F_MANAGETEMPADDR: Final = 0x100
IFA_F_NOPREFIXROUTE: Final = 0x200
IFA_F_MCAUTOJOIN: Final = 0x400


class RTN(IntEnum):
    """Types of routes; source include/uapi/linux/rtnetlink.h."""

    UNSPEC = 0
    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    MULTICAST = 5
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9
    NAT = 10
    XRESOLVE = 11


class FrAct(IntEnum):
    """What a policy rule does; source include/uapi/linux/fib_rules.h."""

    UNSPEC = 0
    TO_TBL = 1
    GOTO = 2
    NOP = 3
    RES3 = 4
    RES4 = 5
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8


class NetdevEvent(IntEnum):
    """Notifications about a device that routing acts on; source include/linux/netdevice.h:netdev_cmd."""

    UP = 1
    DOWN = 2
    CHANGE = 4
    REGISTER = 5
    UNREGISTER = 6
    CHANGEMTU = 7


def ip4(text: str) -> int:
    """The integer of a dotted address."""
    a, b, c, d = (int(x) for x in text.split("."))
    return a << 24 | b << 16 | c << 8 | d


def dotted(addr: int) -> str:
    """The dotted form of an address."""
    return ".".join(str(addr >> shift & 0xFF) for shift in (24, 16, 8, 0))


def inet_make_mask(plen: int) -> int:
    """The netmask of a prefix length; source include/linux/inetdevice.h:inet_make_mask."""
    return (0xFFFFFFFF << (32 - plen)) & 0xFFFFFFFF


def ipv4_is_loopback(addr: int) -> bool:
    """It lies in 127.0.0.0/8."""
    return addr >> 24 == 127


def ipv4_is_multicast(addr: int) -> bool:
    """It lies in 224.0.0.0/4."""
    return addr >> 28 == 14


def ipv4_is_local_multicast(addr: int) -> bool:
    """It lies in 224.0.0.0/24."""
    return addr >> 8 == 0xE00000


def ipv4_is_lbcast(addr: int) -> bool:
    """It is 255.255.255.255."""
    return addr == INADDR_BROADCAST


def ipv4_is_zeronet(addr: int) -> bool:
    """It is 0.0.0.0: the rest of net 0 is like any other net; source include/linux/in.h:ipv4_is_zeronet."""
    return addr == 0


class NhConfig(NamedTuple):
    """One nexthop of a multipath request: struct rtnexthop with its gateway."""

    rtnh_ifindex: int = 0
    gw: int = 0
    rtnh_hops: int = 0
    rtnh_flags: int = 0


class FibConfig:
    """A request to add or delete a route: struct fib_config. `fc_mx` are metrics by RTAX number."""

    __slots__ = (
        "fc_dscp", "fc_dst", "fc_dst_len", "fc_flags", "fc_gw4", "fc_mp", "fc_mx", "fc_nlflags", "fc_oif",
        "fc_prefsrc", "fc_priority", "fc_protocol", "fc_scope", "fc_table", "fc_type",
    )  # fmt: skip

    def __init__(
        self,
        dst: int = 0,
        dst_len: int = 0,
        *,
        type: int = RTN.UNICAST,
        oif: int = 0,
        gw: int = 0,
        table: int = RT_TABLE_MAIN,
        scope: int = RT_SCOPE_UNIVERSE,
        priority: int = 0,
        prefsrc: int = 0,
        dscp: int = 0,
        flags: int = 0,
        protocol: int = RTPROT_BOOT,
        nlflags: int = NLM_F_CREATE | NLM_F_EXCL,
        mp: tuple[NhConfig, ...] = (),
        mx: dict[int, int] | None = None,
    ) -> None:
        self.fc_dst = dst
        self.fc_dst_len = dst_len
        self.fc_type = type
        self.fc_oif = oif
        self.fc_gw4 = gw
        self.fc_table = table
        self.fc_scope = scope
        self.fc_priority = priority
        self.fc_prefsrc = prefsrc
        self.fc_dscp = dscp
        self.fc_flags = flags
        self.fc_protocol = protocol
        self.fc_nlflags = nlflags
        self.fc_mp = mp
        self.fc_mx = mx


class Route:
    """What a packet carries as its destination: struct rtable.

    `rt_flags` are RTCF_*; `rt_gw4` is the next hop where `rt_uses_gateway`, else perhaps the destination itself;
    `rt_pmtu` in bytes and `expires` (jiffies) come from a nexthop exception; `error` is a positive errno. `input` and
    `output` are names of kernel functions ("" where the kernel has dst_discard). `metrics` by RTAX number.
    """

    __slots__ = (
        "dev", "error", "expires", "genid", "input", "is_input", "metrics", "obsolete", "output", "rt_flags", "rt_gw4",
        "rt_iif", "rt_mtu_locked", "rt_pmtu", "rt_type", "rt_uses_gateway",
    )  # fmt: skip

    def __init__(self, dev: NetDevice, flags: int, type: int, genid: int) -> None:
        self.dev = dev
        self.rt_flags = flags
        self.rt_type = type
        self.genid = genid
        self.obsolete = False
        self.is_input = False
        self.rt_iif = 0
        self.rt_pmtu = 0
        self.rt_mtu_locked = False
        self.rt_uses_gateway = False
        self.rt_gw4 = 0
        self.expires = 0
        self.error = 0
        self.input = "ip_local_deliver" if flags & RTCF_LOCAL else ""
        self.output = "ip_output"
        self.metrics: dict[int, int] = {}

    @property
    def gateway(self) -> bytes:
        """The next hop as packets have it; b"" on the link."""
        return self.rt_gw4.to_bytes(4, "big") if self.rt_gw4 else b""

    @property
    def hoplimit(self) -> int:
        """The route's own time to live; 0: none."""
        return self.metrics.get(RTAX_HOPLIMIT, 0)

    def nexthop(self, daddr: int) -> int:
        """The neighbour to send to; source include/net/route.h:rt_nexthop."""
        return self.rt_gw4 or daddr

    def __repr__(self) -> str:
        via = f" via {dotted(self.rt_gw4)}" if self.rt_uses_gateway else ""
        return f"<{RTN(self.rt_type).name.lower()}{via} dev {self.dev.name} {self.input or self.output}>"


class Fnhe:
    """An exception of a nexthop for one destination: struct fib_nh_exception. `expires` and `stamp` in jiffies."""

    __slots__ = ("daddr", "expires", "genid", "gw", "mtu_locked", "pmtu", "rth_input", "rth_output", "stamp")

    def __init__(self, daddr: int, genid: int) -> None:
        self.daddr = daddr
        self.genid = genid
        self.gw = 0
        self.pmtu = 0
        self.mtu_locked = False
        self.expires = 0
        self.stamp = 0
        self.rth_input: Route | None = None
        self.rth_output: Route | None = None


class FibNh:
    """A nexthop: struct fib_nh with its fib_nh_common. `exceptions` are chains by hash."""

    __slots__ = (
        "exceptions", "fib_nh_dev", "fib_nh_flags", "fib_nh_gw4", "fib_nh_oif", "fib_nh_scope", "fib_nh_upper_bound",
        "fib_nh_weight", "nh_saddr", "nh_saddr_genid", "nhc_rth_input", "nhc_rth_output",
    )  # fmt: skip

    def __init__(self, oif: int, gw: int, flags: int, weight: int) -> None:
        self.fib_nh_oif = oif
        self.fib_nh_gw4 = gw
        self.fib_nh_flags = flags
        self.fib_nh_weight = weight
        self.fib_nh_dev: NetDevice | None = None
        self.fib_nh_scope = 0
        self.fib_nh_upper_bound = 0
        self.nh_saddr = 0
        self.nh_saddr_genid = 0
        self.nhc_rth_input: Route | None = None
        self.nhc_rth_output: Route | None = None
        self.exceptions: dict[int, list[Fnhe]] = {}


class FibInfo:
    """What routes with the same properties share: struct fib_info."""

    __slots__ = (
        "fib_dead", "fib_flags", "fib_metrics", "fib_nh", "fib_prefsrc", "fib_priority", "fib_protocol", "fib_scope",
        "fib_tb_id", "fib_treeref", "fib_type",
    )  # fmt: skip

    def __init__(self, cfg: FibConfig, metrics: dict[int, int], nh: list[FibNh]) -> None:
        self.fib_protocol = cfg.fc_protocol
        self.fib_scope = cfg.fc_scope
        self.fib_flags = cfg.fc_flags
        self.fib_priority = cfg.fc_priority
        self.fib_prefsrc = cfg.fc_prefsrc
        self.fib_type = cfg.fc_type
        self.fib_tb_id = cfg.fc_table
        self.fib_metrics = metrics
        self.fib_nh = nh
        self.fib_treeref = 0
        self.fib_dead = False


class FibAlias:
    """One route of one prefix: struct fib_alias."""

    __slots__ = ("fa_accessed", "fa_default", "fa_dscp", "fa_info", "fa_type", "plen", "prefix", "tb_id")

    def __init__(self, fi: FibInfo, prefix: int, plen: int, dscp: int, type: int, tb_id: int) -> None:
        self.fa_info = fi
        self.prefix = prefix
        self.plen = plen
        self.fa_dscp = dscp
        self.fa_type = type
        self.tb_id = tb_id
        self.fa_accessed = False
        self.fa_default = -1


class FibTable:
    """A routing table. `trie` maps (prefix, length) to its routes in the kernel's order; two tables may share it."""

    __slots__ = ("tb_id", "tb_num_default", "trie")

    def __init__(self, tb_id: int, trie: dict[tuple[int, int], list[FibAlias]]) -> None:
        self.tb_id = tb_id
        self.trie = trie
        self.tb_num_default = 0


class FibResult:
    """What a lookup found: struct fib_result."""

    __slots__ = ("dscp", "fa_head", "fi", "nh_sel", "nhc", "prefix", "prefixlen", "scope", "table", "type")

    def __init__(self) -> None:
        self.prefix = 0
        self.prefixlen = 0
        self.nh_sel = 0
        self.type = int(RTN.UNSPEC)
        self.scope = 0
        self.dscp = 0
        self.fi: FibInfo | None = None
        self.nhc: FibNh | None = None
        self.table: FibTable | None = None
        self.fa_head: list[FibAlias] = []

    @property
    def info(self) -> FibInfo:
        """The fib_info of a lookup that succeeded."""
        assert self.fi is not None
        return self.fi

    @property
    def nh(self) -> FibNh:
        """The chosen nexthop of a lookup that succeeded."""
        assert self.nhc is not None
        return self.nhc

    @property
    def dev(self) -> NetDevice:
        """The device of the chosen nexthop: FIB_RES_DEV."""
        dev = self.nh.fib_nh_dev
        assert dev is not None
        return dev


class Flow4:
    """What is looked up: struct flowi4."""

    __slots__ = (
        "daddr", "dport", "flags", "iif", "mark", "multipath_hash", "oif", "proto", "saddr", "scope", "sport", "tos",
        "uid",
    )  # fmt: skip

    def __init__(
        self,
        daddr: int = 0,
        saddr: int = 0,
        *,
        oif: int = 0,
        iif: int = 0,
        mark: int = 0,
        tos: int = 0,
        scope: int = RT_SCOPE_UNIVERSE,
        proto: int = 0,
        sport: int = 0,
        dport: int = 0,
        flags: int = 0,
        uid: int = 0,
        multipath_hash: int = 0,
    ) -> None:
        self.daddr = daddr
        self.saddr = saddr
        self.oif = oif
        self.iif = iif
        self.mark = mark
        self.tos = tos
        self.scope = scope
        self.proto = proto
        self.sport = sport
        self.dport = dport
        self.flags = flags
        self.uid = uid
        self.multipath_hash = multipath_hash
