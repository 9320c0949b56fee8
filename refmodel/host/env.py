"""What the neighbour table asks of its host."""

from typing import Any, Protocol

from refmodel.env import Env
from refmodel.neigh.arp import RTN
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff


class Below(Env, Protocol):
    """The host as its neighbour tables see it."""

    def dev_queue_xmit(self, skb: SkBuff) -> int:
        """Hands a frame to its device."""

    def dst_link_failure(self, skb: SkBuff) -> None:
        """The next hop of a packet cannot be reached (ipv4_link_failure)."""

    def inet_addr_type(self, addr: bytes, dev: NetDevice | None) -> RTN:
        """What an address is to this host (inet_addr_type_dev_table)."""

    def inet_select_addr(self, dev: NetDevice, dst: bytes) -> bytes:
        """The address of a device with which to speak to `dst`."""

    def arp_route(self, tip: bytes, sip: bytes, dev: NetDevice) -> RTN:
        """What routing makes of a packet from `sip` to `tip` that came in on `dev`; UNSPEC: it refuses it."""

    def addresses(self, dev: NetDevice) -> list[bytes]:
        """A device's IPv4 addresses."""

    def ndisc_solicit(self, n: Any, x: Any) -> None:
        """Asks for an IPv6 neighbour."""
