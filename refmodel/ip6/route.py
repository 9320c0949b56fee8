"""IPv6's routes: a table with the longest prefix, and the choice of a source address.

The law: the longest prefix wins, among equal ones the smallest metric; a route's type says what becomes of a packet.
Rules, source routing, multipath and exceptions beyond the path MTU are left out.
"""

from typing import Final

from msgspec import Struct

from refmodel.netdevice import NetDevice

RTN: Final = ("unicast", "local", "anycast", "multicast", "unreachable", "prohibit", "blackhole")
ERRORS: Final = {"unreachable": 113, "prohibit": 13, "blackhole": 22}  # EHOSTUNREACH, EACCES, EINVAL
ENETUNREACH: Final = 101
INPUTS: Final = {
    "unicast": "ip6_forward",
    "local": "ip6_input",
    "anycast": "ip6_input",
    "multicast": "ip6_mc_input",
    "unreachable": "ip6_pkt_discard",
    "prohibit": "ip6_pkt_prohibit",
    "blackhole": "dst_discard",
}


class Route6(Struct, eq=False):
    """struct rt6_info: a route as a packet has it.

    `plen` bits of `dst` must agree; `gateway` is b"" on the link. `dev` is where packets leave (lo for local ones),
    `idev` the device whose address it is. `error` is a positive errno of a route that refuses. `mtu`: the metric (0:
    the device's), `hoplimit` another. `prefsrc`: the source that it asks for.
    """

    dst: bytes
    plen: int
    dev: NetDevice
    type: str = "unicast"
    gateway: bytes = b""
    metric: int = 1024
    mtu: int = 0
    hoplimit: int = 0
    prefsrc: bytes = b""
    idev: NetDevice | None = None

    @property
    def error(self) -> int:
        """The errno of a route that refuses, 0 otherwise."""
        return ERRORS.get(self.type, 0)

    @property
    def input(self) -> str:
        """The function that dst_input calls."""
        return INPUTS[self.type]

    @property
    def output(self) -> str:
        """The function that dst_output calls."""
        return "ip6_output" if not self.error else INPUTS[self.type]

    def nexthop(self, daddr: bytes) -> bytes:
        """Whom the link layer sends to; source include/net/ip6_route.h:rt6_nexthop."""
        return self.gateway or daddr


def agrees(addr: bytes, prefix: bytes, plen: int) -> bool:
    """The first `plen` bits are equal."""
    shift = 128 - plen
    return int.from_bytes(addr, "big") >> shift == int.from_bytes(prefix, "big") >> shift


def common(a: bytes, b: bytes) -> int:
    """How many leading bits are equal; source include/net/ipv6.h:ipv6_addr_diff."""
    return 128 - (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_length()


class Table6:
    """All routes of a namespace. `pmtu` is what ICMPv6 taught by destination, `null` the route of what has none."""

    def __init__(self) -> None:
        self.routes: list[Route6] = []
        self.pmtu: dict[bytes, int] = {}

    def add(self, route: Route6) -> None:
        """Adds a route."""
        self.routes.append(route)

    def lookup(self, addr: bytes, dev: NetDevice | None = None) -> Route6 | None:
        """The best route; `dev`: only over that device (RT6_LOOKUP_F_IFACE)."""
        best: Route6 | None = None
        for r in self.routes:
            if dev is not None and r.dev is not dev and r.idev is not dev:
                continue
            if agrees(addr, r.dst, r.plen) and (best is None or (r.plen, -r.metric) > (best.plen, -best.metric)):
                best = r
        return best
