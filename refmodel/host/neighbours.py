"""The neighbours of a host, as IP and routing ask for them."""

from typing import TYPE_CHECKING, Any

from refmodel.host.arp import Arp, arp_rcv
from refmodel.host.neigh import Neighbour, ip_neigh_gw4, neigh_add, neigh_delete, neigh_lookup, neigh_output
from refmodel.host.neigh import __neigh_create as neigh_create
from refmodel.host.routing import raw
from refmodel.neigh.types import Flush
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff

if TYPE_CHECKING:
    from refmodel.host.machine import Machine


class Neighbours:
    """The part of a namespace that its neighbour tables are."""

    machine: "Machine"
    now: int

    def __init__(self) -> None:
        self.arps = Arp(self, self.machine.profile)  # type: ignore[arg-type]

    def neighbour(self, address: bytes, dev: NetDevice, lladdr: bytes) -> None:
        """``ip neighbour add``: a permanent entry."""
        neigh_add(self.arps.tbl, address, dev, lladdr)

    def forget(self, address: bytes, dev: NetDevice) -> int:
        """``ip neighbour del``: 0, or a negative errno."""
        return neigh_delete(self.arps.tbl, address, dev)

    def ip_neigh_gw4(self, dev: NetDevice, daddr: bytes) -> Neighbour | None:
        """The entry of an IPv4 address, made if need be."""
        return ip_neigh_gw4(self.arps.tbl, daddr, dev)

    def neigh_output(self, neigh: Neighbour, skb: SkBuff, skip_cache: bool) -> int:
        """Hands a packet to its neighbour."""
        return neigh_output(neigh, skb, skip_cache)

    def arp_rcv(self, skb: SkBuff, dev: NetDevice) -> None:
        """ARP's handler."""
        arp_rcv(self.arps, skb)

    def neigh_nud_state(self, dev: NetDevice, gw: int) -> int | None:
        """The state of a gateway's entry, for the choice among nexthops."""
        n = neigh_lookup(self.arps.tbl, raw(gw), dev)
        return int(n.nud) if n is not None else None

    def neigh_event_send(self, dev: NetDevice, gw: int) -> None:
        """A gateway is asked for although no packet waits."""
        n = neigh_lookup(self.arps.tbl, raw(gw), dev) or neigh_create(self.arps.tbl, raw(gw), dev)
        if n is not None:
            n.event_send()

    def arp_ifdown(self, dev: NetDevice) -> None:
        """All entries of a device go."""
        for n in [n for n in self.arps.tbl.hash.values() if n.dev is dev]:
            n.flush(Flush(self.now))

    def arp_invalidate(self, dev: NetDevice, addr: int) -> None:
        """An entry whose address is a broadcast address now goes."""
        n = neigh_lookup(self.arps.tbl, raw(addr), dev)
        if n is not None:
            n.flush(Flush(self.now))

    def ndisc_solicit(self, n: Neighbour, x: Any) -> None:
        """IPv6 asks by neighbour discovery, which the IPv6 part of the namespace does."""
        raise NotImplementedError
