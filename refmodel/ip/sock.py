"""What IP reads of the socket that sends, and the flow that a route is asked for with."""

from typing import TYPE_CHECKING

from refmodel.ip.const import INADDR_ANY, IP_PMTUDISC_DO, IP_PMTUDISC_OMIT, IP_PMTUDISC_PROBE, IP_PMTUDISC_WANT

if TYPE_CHECKING:
    from refmodel.ip.append import Cork
    from refmodel.ip.env import Route
    from refmodel.ip.net import IpOptions
    from refmodel.skbuff import SkBuff


class Flowi4:
    """struct flowi4. Addresses are 4 bytes; ports are 0 where the protocol has none; `oif` 0 is any device."""

    __slots__ = ("daddr", "dport", "mark", "oif", "proto", "saddr", "sport", "tos")

    def __init__(
        self,
        daddr: bytes,
        saddr: bytes = INADDR_ANY,
        tos: int = 0,
        proto: int = 0,
        sport: int = 0,
        dport: int = 0,
        oif: int = 0,
        mark: int = 0,
    ) -> None:
        self.daddr = daddr
        self.saddr = saddr
        self.tos = tos
        self.proto = proto
        self.sport = sport
        self.dport = dport
        self.oif = oif
        self.mark = mark


class IpSock:
    """struct inet_sock as far as IP reads it; the host fills it in from the transport's own socket.

    `inet_daddr` is INADDR_ANY while not connected, `uc_ttl` -1 for the route's. `inet_id` counts identifications of a
    connected socket. `write_queue` and `cork` are a datagram that is being put together.
    """

    def __init__(self, sk_protocol: int) -> None:
        self.sk_protocol = sk_protocol
        self.inet_daddr = INADDR_ANY
        self.inet_saddr = INADDR_ANY
        self.inet_dport = 0
        self.inet_sport = 0
        self.tos = 0
        self.uc_ttl = -1
        self.mc_ttl = 1
        self.mc_loop = True
        self.pmtudisc = IP_PMTUDISC_WANT
        self.inet_id = 0
        self.inet_opt: IpOptions | None = None
        self.sk_priority = 0
        self.sk_mark = 0
        self.sk_bound_dev_if = 0
        self.sk_dst: Route | None = None
        self.write_queue: list[SkBuff] = []
        self.cork: Cork | None = None


def ip_mtu_locked(rt: "Route") -> bool:
    """The path's MTU must not be learnt; source include/net/ip.h:ip_mtu_locked."""
    return rt.mtu_locked


def ip_dont_fragment(sk: IpSock, rt: "Route") -> bool:
    """Packets leave with DF; source include/net/ip.h:ip_dont_fragment."""
    return sk.pmtudisc == IP_PMTUDISC_DO or (sk.pmtudisc == IP_PMTUDISC_WANT and not ip_mtu_locked(rt))


def ip_sk_use_pmtu(sk: IpSock) -> bool:
    """The socket heeds the path's MTU; source include/net/ip.h:ip_sk_use_pmtu."""
    return sk.pmtudisc < IP_PMTUDISC_PROBE


def ip_sk_ignore_df(sk: IpSock) -> bool:
    """What the socket sends may be fragmented here whatever DF says; source include/net/ip.h:ip_sk_ignore_df."""
    return sk.pmtudisc < IP_PMTUDISC_DO or sk.pmtudisc == IP_PMTUDISC_OMIT


def sk_mc_loop(skb: "SkBuff") -> bool:
    """The sender hears its own multicasts; source net/core/sock.c:sk_mc_loop."""
    return skb.sk.mc_loop if isinstance(skb.sk, IpSock) else True
