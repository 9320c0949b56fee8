"""What IPv6 asks of its neighbours: hooks, neighbour entries, transport protocols, sockets, ICMP's common limits."""

from collections.abc import Callable
from typing import Any, Protocol

from refmodel.dropreason import Reason
from refmodel.env import Env
from refmodel.ip6.params import Ip6Params
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff

Okfn = Callable[[SkBuff], int]


class Inet6Protocol(Protocol):
    """struct inet6_protocol: who takes packets of one next header.

    `handler` takes the packet, whose header is at `skb.transport`: 0 if it is done, a positive number to go on (with
    the next extension header, or, after a `final` protocol, with that number), negative if the packet is gone.
    `err_handler(skb, type, code, offset, info)` gets an ICMPv6 error about a packet quoted in `skb.data`.
    """

    final: bool
    no_policy: bool

    @property
    def handler(self) -> Callable[[SkBuff], int]:
        """Takes a packet."""

    @property
    def err_handler(self) -> Callable[[SkBuff, int, int, int, int], None] | None:
        """Takes an ICMPv6 error, if the protocol cares."""


class Ip6Env(Env, Protocol):
    """The namespace as IPv6 sees it."""

    @property
    def ip6(self) -> Ip6Params:
        """The sysctls."""

    # devices
    def dev_get_by_index(self, ifindex: int) -> NetDevice | None:
        """The device of that number."""

    def dev_loopback_xmit(self, skb: SkBuff) -> int:
        """A copy comes in again as if it had been received."""

    def skb_gso_segment(self, skb: SkBuff) -> list[SkBuff] | None:
        """Cuts a super-segment."""

    # netfilter
    def nf_hook6(self, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None, okfn: Okfn) -> int:
        """Runs an NF_INET_ hook: 1 if the packet goes on; else it was taken (0) or dropped (a negative errno)."""

    def nf_reset_ct(self, skb: SkBuff) -> None:
        """The packet forgets its conntrack entry."""

    def nf_ct_attach(self, new: SkBuff, skb: SkBuff) -> None:
        """An error belongs to the connection of the packet that it is about."""

    # neighbours
    def ip_neigh_gw6(self, dev: NetDevice, addr: bytes) -> Any:
        """The neighbour entry of an IPv6 address, made if need be; None if that fails."""

    def neigh_output(self, neigh: Any, skb: SkBuff, skip_cache: bool) -> int:
        """Hands the packet to the neighbour's output: 0, or an error."""

    def ndisc_recv(self, skb: SkBuff, type: int) -> Reason | None:
        """A valid neighbour discovery message; None if it was taken, else the reason to drop it."""

    def neigh_lladdr(self, dev: NetDevice, addr: bytes) -> bytes | None:
        """The link-layer address of a neighbour whose entry is valid."""

    def pneigh_lookup(self, addr: bytes, dev: NetDevice) -> bool:
        """This host answers for that address (proxy_ndp)."""

    # transport
    def tcp_v6_early_demux(self, skb: SkBuff) -> None:
        """Looks for a connection, which may know the route."""

    def udp_v6_early_demux(self, skb: SkBuff) -> None:
        """The same for UDP."""

    def raw6_local_deliver(self, skb: SkBuff, nexthdr: int) -> bool:
        """Gives copies to raw sockets: whether there is one."""

    def raw6_icmp_error(self, skb: SkBuff, nexthdr: int, type: int, code: int, inner: int, info: int) -> None:
        """Tells raw sockets of an ICMPv6 error."""

    def ip6_ra_chain(self, skb: SkBuff, sel: int) -> bool:
        """Sockets with IPV6_ROUTER_ALERT get the packet: whether there is one."""

    def ping6_rcv(self, skb: SkBuff) -> Reason | None:
        """A ping socket gets an answer; NO_SOCKET if there is none."""

    def ping6_err(self, skb: SkBuff, inner: int, info: int) -> None:
        """A ping socket gets an error about what it sent."""

    def ip6_multipath_hash(self, skb: SkBuff) -> int:
        """The flow's hash, from which a flow label is made (skb_get_hash_flowi6)."""

    # multicast membership
    def ipv6_chk_mcast_addr(self, dev: NetDevice, group: bytes, source: bytes | None) -> bool:
        """This host listens to a group on a device."""

    def igmp6_event(self, skb: SkBuff, type: int) -> None:
        """A multicast listener query or report; it is consumed."""

    # common to ICMP and ICMPv6
    def icmp_global_allow(self) -> bool:
        """The host's common share of ICMP messages has one left."""

    def icmp_global_consume(self) -> None:
        """One of them is used."""

    def inet_peer_xrlim_allow(self, addr: bytes, timeout: int) -> bool:
        """The peer's own share, a message each `timeout` ticks."""
