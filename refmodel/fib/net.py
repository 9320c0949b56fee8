"""The state of routing in one namespace: tables, rules, addresses, devices."""

from typing import Final

from refmodel.fib.env import FibEnv
from refmodel.fib.params import DevConf, FibParams
from refmodel.fib.types import (
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    FibInfo,
    FibTable,
    FrAct,
    inet_make_mask,
)
from refmodel.netdevice import NetDevice

FIB_RULE_PERMANENT: Final = 1
FIB_RULE_INVERT: Final = 2


class InIfaddr:
    """An IPv4 address of a device: struct in_ifaddr."""

    __slots__ = (
        "ifa_address", "ifa_broadcast", "ifa_dev", "ifa_flags", "ifa_local", "ifa_mask", "ifa_prefixlen",
        "ifa_rt_priority", "ifa_scope",
    )  # fmt: skip

    def __init__(self, in_dev: "InDevice", local: int, prefixlen: int) -> None:
        self.ifa_dev = in_dev
        self.ifa_local = local
        self.ifa_address = local
        self.ifa_prefixlen = prefixlen
        self.ifa_mask = inet_make_mask(prefixlen)
        self.ifa_broadcast = 0
        self.ifa_flags = 0
        self.ifa_scope = 0
        self.ifa_rt_priority = 0

    def match(self, addr: int) -> bool:
        """`addr` lies in this address' subnet; source include/linux/inetdevice.h:inet_ifa_match."""
        return not (addr ^ self.ifa_address) & self.ifa_mask


class InDevice:
    """The IPv4 part of a device: struct in_device. `mc_list` are the multicast groups that it is in."""

    __slots__ = ("conf", "dead", "dev", "ifa_list", "mc_list")

    def __init__(self, dev: NetDevice, conf: DevConf) -> None:
        self.dev = dev
        self.conf = conf
        self.dead = False
        self.ifa_list: list[InIfaddr] = []
        self.mc_list: dict[int, int] = {}


class FibRule:
    """A policy rule: struct fib4_rule. `iifindex`, `oifindex` are 0 without a name and -1 for one that is not there."""

    __slots__ = (
        "action", "ctarget", "dport_range", "dscp", "dscp_full", "dst", "dst_len", "flags", "iifindex", "iifname",
        "ip_proto", "mark", "mark_mask", "oifindex", "oifname", "pref", "proto", "sport_range", "src", "src_len",
        "suppress_prefixlen", "table", "target", "uid_range",
    )  # fmt: skip

    def __init__(self, pref: int, action: int = FrAct.TO_TBL, table: int = 0) -> None:
        self.pref = pref
        self.action = action
        self.table = table
        self.flags = 0
        self.target = 0
        self.ctarget: FibRule | None = None
        self.iifname = ""
        self.iifindex = 0
        self.oifname = ""
        self.oifindex = 0
        self.mark = 0
        self.mark_mask = 0
        self.ip_proto = 0
        self.proto = 0
        self.sport_range = (0, 0)
        self.dport_range = (0, 0)
        self.suppress_prefixlen = -1
        self.src = 0
        self.src_len = 0
        self.dst = 0
        self.dst_len = 0
        self.dscp = 0
        self.dscp_full = False
        self.uid_range = (0, 0xFFFFFFFF)

    def __repr__(self) -> str:
        return f"<rule {self.pref} {FrAct(self.action).name} {self.table or self.target}>"


def _default_rule(pref: int, table: int) -> FibRule:
    rule = FibRule(pref, FrAct.TO_TBL, table)
    rule.proto = 2
    return rule


class Fib:
    """Routing in one namespace: struct netns_ipv4's part of it.

    `devs` are the devices by ifindex, in the order of their registration. The functions of this package take it as
    their first argument, as the kernel's take a struct net. `extack` is the text that the last refused request got.
    """

    def __init__(self, env: FibEnv, params: FibParams | None = None) -> None:
        self.env = env
        self.params = params or FibParams()
        self.devs: dict[int, NetDevice] = {}
        self.in_devs: dict[int, InDevice] = {}
        self.conf_all = DevConf()
        self.conf_default = DevConf()
        self.addr_lst: list[InIfaddr] = []
        self.tables: dict[int, FibTable] = {}
        self.infos: list[FibInfo] = []
        # The default rules are not of the kind that custom ones are: lookups pass them by until there is another one.
        self.rules = [
            _default_rule(0, RT_TABLE_LOCAL),
            _default_rule(0x7FFE, RT_TABLE_MAIN),
            _default_rule(0x7FFF, RT_TABLE_DEFAULT),
        ]
        self.fib_has_custom_rules = False
        self.fib_has_custom_local_routes = False
        self.fib_rules_require_fldissect = 0
        self.nr_goto_rules = 0
        self.unresolved_rules = 0
        self.rt_genid = 0
        self.fnhe_genid = 0
        self.dev_addr_genid = 1
        self.fnhe_hash_key = (self._random64(), self._random64())
        self.multipath_seed = env.random()
        self.extack = ""

    def _random64(self) -> int:
        return self.env.random() << 32 | self.env.random()

    @property
    def loopback_dev(self) -> NetDevice:
        """The device lo; it is the first that a namespace has."""
        return self.devs[1]

    def refuse(self, errno: int, text: str) -> int:
        """Notes why a request is refused (NL_SET_ERR_MSG) and gives -errno."""
        self.extack = text
        return -errno

    def orconf(self, dev: NetDevice, name: str) -> bool:
        """IN_DEV_ORCONF: it is set for all devices or for this one; False where IP is disabled."""
        in_dev = self.in_devs.get(dev.ifindex)
        return in_dev is not None and bool(getattr(self.conf_all, name) or getattr(in_dev.conf, name))

    def andconf(self, dev: NetDevice, name: str) -> bool:
        """IN_DEV_ANDCONF: it is set for all devices and for this one."""
        in_dev = self.in_devs.get(dev.ifindex)
        return in_dev is not None and bool(getattr(self.conf_all, name) and getattr(in_dev.conf, name))

    def maxconf(self, dev: NetDevice, name: str) -> int:
        """IN_DEV_MAXCONF: the greater of the values for all devices and for this one."""
        in_dev = self.in_devs[dev.ifindex]
        return max(int(getattr(self.conf_all, name)), int(getattr(in_dev.conf, name)))

    def forwarding(self, dev: NetDevice) -> bool:
        """IN_DEV_FORWARD: the device's own value alone counts."""
        return bool(self.in_devs[dev.ifindex].conf.forwarding)


__all__ = ["RT_TABLE_DEFAULT", "RT_TABLE_LOCAL", "RT_TABLE_MAIN", "Fib", "FibRule", "InDevice", "InIfaddr"]
