"""The router of the IP differential, as a description that both sides are built from: devices, routes, sysctls.

A `World` has two devices towards the outside, r0 and r1, and in some a tun device t0 that takes super-segments.
"""

from dataclasses import dataclass, field
from typing import Final

IN, OUT, TUN = "r0", "r1", "t0"
MACS: Final = {IN: bytes.fromhex("020000000001"), OUT: bytes.fromhex("020000000002")}
PEER_MACS: Final = {IN: bytes.fromhex("0200000000f1"), OUT: bytes.fromhex("0200000000f2")}
ADDRESSES: Final = {IN: ("10.1.0.1", 16), OUT: ("10.2.0.1", 16), TUN: ("10.11.0.1", 24)}
UDP_PORT: Final = 5000


@dataclass(frozen=True)
class RouteTo:
    """A route: `kind` is unicast, unreachable, prohibit or blackhole."""

    prefix: str
    length: int
    kind: str = "unicast"
    via: str = ""
    dev: str = ""
    mtu: int = 0
    lock: bool = False

    def text(self) -> str:
        """As `ip route add` takes it."""
        words = [] if self.kind == "unicast" else [self.kind]
        words.append(f"{self.prefix}/{self.length}")
        words += ["via", self.via] if self.via else []
        words += ["dev", self.dev] if self.dev else []
        if self.mtu:
            words += ["mtu", "lock", str(self.mtu)] if self.lock else ["mtu", str(self.mtu)]
        return " ".join(words)


ROUTES: Final = (
    RouteTo("10.3.0.0", 16, via="10.2.0.2", dev=OUT),
    RouteTo("10.4.0.0", 16, via="10.1.0.9", dev=IN),
    RouteTo("10.5.0.0", 16, "unreachable"),
    RouteTo("10.6.0.0", 16, "prohibit"),
    RouteTo("10.7.0.0", 16, "blackhole"),
    RouteTo("10.8.0.0", 16, via="10.2.0.3", dev=OUT, mtu=700),
    RouteTo("10.9.0.0", 16, via="10.2.0.4", dev=OUT, mtu=580, lock=True),
)


@dataclass(frozen=True)
class World:
    """One configuration of the router. With `conntrack`, fragments are put together before they are routed."""

    mtu: int = 1500
    forwarding: bool = True
    accept_source_route: bool = True
    send_redirects: bool = True
    drop_unicast_in_l2_multicast: bool = False
    tun: bool = False
    conntrack: bool = False
    sysctls: dict[str, int] = field(default_factory=dict)

    def settings(self) -> dict[str, int]:
        """The sysctls of namespace and devices, in the order in which they are to be written."""
        conf = {
            "rp_filter": 0,
            "accept_source_route": int(self.accept_source_route),
            "send_redirects": int(self.send_redirects),
            "drop_unicast_in_l2_multicast": int(self.drop_unicast_in_l2_multicast),
            "arp_ignore": 8,
        }
        out = {"ip_forward": int(self.forwarding)}
        for where in ("all", "default"):
            out |= {f"conf.{where}.{k}": v for k, v in conf.items()}
        # What a namespace is given beyond the kernel's defaults, so that no limit and no timer plays a part.
        out |= {
            "icmp_ratemask": 0,
            "igmp_link_local_mcast_reports": 0,
            "ipfrag_time": 600,
            "ipfrag_high_thresh": 1 << 30,
        }
        return out | self.sysctls
