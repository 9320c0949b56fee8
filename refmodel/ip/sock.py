"""What IP reads of the socket that sends, and the flow that a route is asked for with."""

from typing import TYPE_CHECKING

from refmodel.ip.const import (
    INADDR_ANY,
    IP_PMTUDISC_DO,
    IP_PMTUDISC_OMIT,
    IP_PMTUDISC_PROBE,
    IP_PMTUDISC_WANT,
    RTAX_LOCK,
    RTAX_MTU,
)

if TYPE_CHECKING:
    from refmodel.ip.env import Route
    from refmodel.ip.net import IpOptions
    from refmodel.skbuff import SkBuff


class Flowi4:
    """struct flowi4. Addresses are 4 bytes; ports are 0 where the protocol has none; `oif` 0 is any device.

    `icmp_type` is that of an ICMP message; `known_nh`: a raw socket's that writes IP headers itself.
    """

    __slots__ = ("daddr", "dport", "icmp_type", "known_nh", "mark", "oif", "proto", "saddr", "sport", "tos")

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
        self.icmp_type = 0
        self.known_nh = False


class Ipcm:
    """struct ipcm_cookie: what one call to send asks for. `tos` -1 and `ttl` 0 are the socket's."""

    __slots__ = ("addr", "gso_size", "mark", "opt", "priority", "tos", "ttl")

    def __init__(self, addr: bytes, opt: "IpOptions | None" = None) -> None:
        self.addr = addr
        self.opt = opt
        self.gso_size = 0
        self.tos = -1
        self.ttl = 0
        self.mark = 0
        self.priority = 0


class Cork:
    """struct inet_cork: a datagram that is being put together; `length` bytes are in it, `fragsize` is the MTU."""

    __slots__ = ("addr", "dst", "fragsize", "gso_size", "length", "mark", "opt", "priority", "tos", "ttl")

    def __init__(self, ipc: Ipcm, rt: "Route", fragsize: int) -> None:
        self.fragsize = fragsize
        self.opt = ipc.opt.copy() if ipc.opt is not None else None
        self.addr = ipc.addr
        self.gso_size = ipc.gso_size
        self.dst = rt
        self.length = 0
        self.ttl = ipc.ttl
        self.tos = ipc.tos
        self.mark = ipc.mark
        self.priority = ipc.priority


class IpSock:
    """struct inet_sock as far as IP reads it; the host fills it in from the transport's own socket.

    `raw`: its type is SOCK_RAW. `inet_daddr` is INADDR_ANY while not connected, `uc_ttl` -1 for the route's. `inet_id`
    counts identifications of a
    connected socket. `sk_sndbuf` bytes of memory, twice, may one datagram's pieces
    take (0: there is no limit). `write_queue` and `cork` are a datagram that is being put together.
    """

    def __init__(self, sk_protocol: int) -> None:
        self.sk_protocol = sk_protocol
        self.raw = False
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
        self.sk_sndbuf = 0
        self.sk_priority = 0
        self.sk_mark = 0
        self.sk_bound_dev_if = 0
        self.sk_dst: Route | None = None
        self.write_queue: list[SkBuff] = []
        self.cork: Cork | None = None


def ip_mtu_locked(rt: "Route") -> bool:
    """The path's MTU must not be learnt; source include/net/ip.h:ip_mtu_locked."""
    return rt.rt_mtu_locked or bool(rt.metrics.get(RTAX_LOCK, 0) & 1 << RTAX_MTU)


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
