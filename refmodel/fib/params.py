"""The sysctls that routing reads: those of the namespace, and those of a device (net.ipv4.conf.*)."""

from typing import Annotated, Final

from refmodel.profile import Sysctl
from refmodel.rule import Params

INT_MAX: Final = (1 << 31) - 1
INT_MIN: Final = -(1 << 31)


class FibParams(Params, frozen=True):
    """Sysctls of the namespace; times in jiffies are made where they are used."""

    fib_multipath_hash_policy: Annotated[
        int, Sysctl("net.ipv4.fib_multipath_hash_policy", 0, 0, 3, "net/ipv4/sysctl_net_ipv4.c")
    ] = 0
    fib_multipath_use_neigh: Annotated[
        int, Sysctl("net.ipv4.fib_multipath_use_neigh", 0, 0, 1, "net/ipv4/sysctl_net_ipv4.c")
    ] = 0
    fib_multipath_hash_seed: Annotated[
        int, Sysctl("net.ipv4.fib_multipath_hash_seed", 0, 0, 0xFFFFFFFF, "net/ipv4/sysctl_net_ipv4.c")
    ] = 0
    ip_forward_use_pmtu: Annotated[
        int, Sysctl("net.ipv4.ip_forward_use_pmtu", 0, 0, 255, "net/ipv4/sysctl_net_ipv4.c")
    ] = 0
    min_pmtu: Annotated[int, Sysctl("net.ipv4.route.min_pmtu", 552, 68, INT_MAX, "net/ipv4/route.c")] = 552
    mtu_expires: Annotated[int, Sysctl("net.ipv4.route.mtu_expires", 600, 0, INT_MAX, "net/ipv4/route.c")] = 600
    min_adv_mss: Annotated[int, Sysctl("net.ipv4.route.min_adv_mss", 256, 0, INT_MAX, "net/ipv4/route.c")] = 256


class DevConf:
    """Sysctls of one device, of `all` or of `default`: net.ipv4.conf.*; source net/ipv4/devinet.c:ipv4_devconf."""

    __slots__ = (
        "accept_local", "accept_redirects", "bc_forwarding", "forwarding", "ignore_routes_with_linkdown",
        "mc_forwarding", "promote_secondaries", "route_localnet", "rp_filter", "secure_redirects", "send_redirects",
        "shared_media", "src_valid_mark",
    )  # fmt: skip

    def __init__(self) -> None:
        self.forwarding = 0
        self.mc_forwarding = 0
        self.bc_forwarding = 0
        self.rp_filter = 0
        self.src_valid_mark = 0
        self.accept_local = 0
        self.route_localnet = 0
        self.ignore_routes_with_linkdown = 0
        self.promote_secondaries = 0
        self.accept_redirects = 1
        self.secure_redirects = 1
        self.send_redirects = 1
        self.shared_media = 1

    def copy(self) -> "DevConf":
        """A conf of its own with the same values, as a new device gets of `default`."""
        new = DevConf()
        for name in DevConf.__slots__:
            setattr(new, name, getattr(self, name))
        return new
