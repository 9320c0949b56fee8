"""What netfilter asks of its namespace beyond refmodel.env: routes, addresses, and IP for what it sends itself.

Addresses are 4 or 16 bytes. Names are the kernel's functions.
"""

from typing import Protocol

from msgspec import Struct

from refmodel.env import Env
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff


class Route(Protocol):
    """struct rtable, as netfilter reads it: `error` is a positive errno of a route that refuses."""

    rt_type: int
    rt_flags: int
    rt_uses_gateway: bool
    gateway: bytes
    dev: NetDevice
    error: int
    hoplimit: int


class Flow(Struct):
    """struct flowi4: what a route is asked for with. `anysrc`: FLOWI_FLAG_ANYSRC, the source need not be local."""

    daddr: bytes = bytes(4)
    saddr: bytes = bytes(4)
    tos: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0
    oif: int = 0
    mark: int = 0
    anysrc: bool = False


class NetfilterEnv(Env, Protocol):
    """The namespace as netfilter sees it."""

    def ip_route_output_key(self, flow: Flow) -> Route | None:
        """Routes a packet from here; None if there is no way."""

    def inet_addr_type_dev_table(self, dev: NetDevice, addr: bytes) -> int:
        """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST or RTN_UNICAST, as seen from a device's table."""

    def inet_dev_addr_type(self, dev: NetDevice | None, addr: bytes) -> int:
        """The RTN_ type of an address; with a device only its own addresses are local."""

    def inet_select_addr(self, dev: NetDevice, dst: bytes, scope: int) -> bytes:
        """A source address for packets to `dst` over `dev`; zeros or nothing if there is none."""

    def ifa_local(self, dev: NetDevice) -> bytes:
        """The first address of a device (in_dev->ifa_list); b"" if it has none."""

    def sysctl_ip_default_ttl(self) -> int:
        """net.ipv4.ip_default_ttl."""

    def sysctl_fwmark_reflect(self) -> bool:
        """net.ipv4.fwmark_reflect: replies of nobody's carry the mark of what they answer."""

    def ip_defrag(self, skb: SkBuff, user: int) -> int:
        """Reassembles: 0 if `skb` now is the whole packet, an errno (EINPROGRESS) if it was taken."""

    def icmp_send(self, skb: SkBuff, type: int, code: int, info: int) -> None:
        """Sends an ICMP error about `skb`."""

    def ip_local_out(self, skb: SkBuff) -> int:
        """Sends a packet of this host's, through LOCAL_OUT."""
