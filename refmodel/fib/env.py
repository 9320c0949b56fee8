"""What routing asks of its surroundings beyond a namespace's clock, counters and drops."""

from typing import Protocol

from refmodel.env import Env
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff


class FibEnv(Env, Protocol):
    """The neighbours and the IP layer as routing sees them."""

    def neigh_nud_state(self, dev: NetDevice, gw: int) -> int | None:
        """The nud_state of the neighbour `gw` on `dev`, None where there is no entry (neigh_lookup)."""

    def neigh_event_send(self, dev: NetDevice, gw: int) -> None:
        """The neighbour is made if need be, and asked for (neigh_create, neigh_event_send)."""

    def arp_ifdown(self, dev: NetDevice) -> None:
        """All neighbours of a device are forgotten (arp_ifdown)."""

    def arp_invalidate(self, dev: NetDevice, addr: int) -> None:
        """A neighbour whose address became a broadcast address is forgotten (arp_invalidate)."""

    def ipcb_flags(self, skb: SkBuff, flags: int) -> int:
        """Sets IPSKB_ flags in the packet's control block (IPCB(skb)->flags |= flags); returns all that are set."""
