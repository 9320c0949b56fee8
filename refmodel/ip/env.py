"""What IP asks of its neighbours: routes, filter hooks, neighbours, transport protocols, sockets, devices.

Names are the kernel's functions. A route (`Route`) is what stands in `skb.dst`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from refmodel.dropreason import Reason
from refmodel.env import Env
from refmodel.ip.params import IpParams
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff

Okfn = Callable[[SkBuff], int]


class Route(Protocol):
    """struct rtable, as IP reads it: what routing puts into `skb.dst`.

    `rt_type` is an RTN_ number, `rt_flags` RTCF_ bits. `rt_gw4` is the next hop (an integer in host order; 0: the
    destination itself is on the link). `error` is a positive errno of a route that refuses. `rt_pmtu` is what ICMP
    taught (0: nothing) until the tick `expires`; `metrics` are the route's own by RTAX number. `input` and `output`
    name the functions that dst_input and dst_output call ("": dst_discard).
    """

    rt_type: int
    rt_flags: int
    is_input: bool
    rt_uses_gateway: bool
    rt_gw4: int
    dev: NetDevice
    error: int
    rt_pmtu: int
    expires: int
    rt_mtu_locked: bool
    metrics: dict[int, int]
    rt_iif: int
    input: str
    output: str


class InDev(Protocol):
    """What a device's struct in_device says, `all` and the device's own setting already joined."""

    forwarding: bool
    accept_source_route: bool
    send_redirects: bool
    drop_unicast_in_l2_multicast: bool
    nopolicy: bool


class Flow(Protocol):
    """struct flowi4: what a route is asked for with. Addresses are 4 bytes, zeros where unset."""

    daddr: bytes
    saddr: bytes
    tos: int
    proto: int
    sport: int
    dport: int
    oif: int
    mark: int


class NetProtocol(Protocol):
    """struct net_protocol: who takes packets of one protocol.

    `handler` takes the packet, whose transport header is at `skb.transport`; a negative result asks for delivery to
    the protocol of the opposite number. `err_handler` gets an ICMP message whose `transport` is the ICMP header and
    the offset where the quoted IP header begins. `no_policy`: conntrack's entry stays with the packet.
    """

    no_policy: bool
    icmp_strict_tag_validation: bool

    def handler(self, skb: SkBuff) -> int:
        """Takes a packet."""

    def err_handler(self, skb: SkBuff, inner: int, info: int) -> None:
        """Takes an ICMP error: `inner` is the offset of the quoted packet."""


class IpEnv(Env, Protocol):
    """The namespace as IP sees it. `ip` are its sysctls, `inet_protos` the protocols that are there."""

    @property
    def ip(self) -> IpParams:
        """The sysctls."""

    @property
    def inet_protos(self) -> Mapping[int, NetProtocol]:
        """The protocols that are there, by number."""

    # net/ipv4/route.c, fib_frontend.c, devinet.c
    def ip_route_input_noref(self, skb: SkBuff, daddr: bytes, saddr: bytes, dscp: int, dev: NetDevice) -> Reason | None:
        """Routes a packet that came in and sets its dst; a reason to drop it where that fails.

        Up to 6.13 every failure is NOT_SPECIFIED but that of the reverse path filter (EXDEV), which is IP_RPFILTER.
        """

    def ip_route_output_key(self, flow: Flow) -> Route | None:
        """Routes a packet from here; fills in `flow.saddr`. None if there is no way."""

    def fib_compute_spec_dst(self, skb: SkBuff) -> bytes:
        """The local address to answer a packet from."""

    def inet_select_addr(self, dev: NetDevice, dst: bytes, scope: int) -> bytes:
        """A source address for packets to `dst` over `dev`, at most of that scope."""

    def inet_addr_type(self, addr: bytes) -> int:
        """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST or RTN_UNICAST."""

    def inet_addr_type_dev_table(self, dev: NetDevice, addr: bytes) -> int:
        """The same as seen from a device's table."""

    def ip_rt_get_source(self, skb: SkBuff, rt: Route) -> bytes:
        """The address that is written into options for a packet that leaves by `rt`."""

    def ipv4_update_pmtu(self, skb: SkBuff, inner: int, mtu: int, protocol: int) -> None:
        """ICMP says that the way of the packet quoted at `inner` carries `mtu`."""

    def ipv4_redirect(self, skb: SkBuff, inner: int, protocol: int) -> None:
        """ICMP names a better way for the packet quoted at `inner`."""

    # devices
    def in_dev(self, dev: NetDevice) -> InDev | None:
        """The device's IPv4 settings; None if it has no IPv4."""

    def dev_get_by_index(self, ifindex: int) -> NetDevice | None:
        """The device of that number."""

    def dev_loopback_xmit(self, skb: SkBuff) -> int:
        """A copy comes in again as if it had been received; source net/core/dev.c:dev_loopback_xmit."""

    def netif_skb_features(self, skb: SkBuff) -> frozenset[str]:
        """What the packet's device can do for it."""

    # netfilter
    def nf_hook(self, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None, okfn: Okfn) -> int:
        """Runs an NF_INET_ hook: 1 if the packet goes on; else it was taken (0) or dropped (a negative errno)."""

    def nf_reset_ct(self, skb: SkBuff) -> None:
        """The packet forgets its conntrack entry."""

    def nf_ct_attach(self, new: SkBuff, skb: SkBuff) -> None:
        """An error belongs to the connection of the packet that it is about."""

    # neighbours
    def ip_neigh_gw4(self, dev: NetDevice, daddr: bytes) -> Any:
        """The neighbour entry of an IPv4 address, made if need be; None if that fails."""

    def neigh_output(self, neigh: Any, skb: SkBuff, skip_cache: bool) -> int:
        """Hands the packet to the neighbour's output: 0, or an error."""

    # transport
    def tcp_v4_early_demux(self, skb: SkBuff) -> None:
        """Looks for a connection, which may know the route."""

    def udp_v4_early_demux(self, skb: SkBuff) -> Reason | None:
        """The same for UDP; a reason if the packet has to be dropped."""

    def raw_local_deliver(self, skb: SkBuff, protocol: int) -> bool:
        """Gives copies to raw sockets: whether there is one."""

    def raw_icmp_error(self, skb: SkBuff, inner: int, protocol: int, info: int) -> None:
        """Tells raw sockets of an ICMP error."""

    def ra_chain_wants(self, skb: SkBuff) -> bool:
        """A socket with IP_ROUTER_ALERT wants packets of this protocol and device."""

    def ra_chain_deliver(self, skb: SkBuff) -> None:
        """Such sockets get the packet."""

    def ping_rcv(self, skb: SkBuff) -> Reason | None:
        """A ping socket gets an answer; NO_SOCKET if there is none."""

    def ping_err(self, skb: SkBuff, inner: int, info: int) -> None:
        """A ping socket gets an error about what it sent."""

    def clock_ms_of_day(self) -> int:
        """Milliseconds since midnight UTC (inet_current_timestamp)."""
