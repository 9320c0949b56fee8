"""Routes as TCP sees them: MTU, the MSS to advertise, what ICMP taught about a path, what connections left behind.

The law: every peer has one `Dst`, made from the default route at its first use unless the driver gave it one. A path
MTU that ICMP reports lowers `dst_mtu` for ten minutes, and with it what is advertised to that peer.
"""

from typing import TYPE_CHECKING, Any, Final

from refmodel.rule import cited
from refmodel.tcp.whole.const import TCP_INFINITE_SSTHRESH, TCP_MIN_MSS
from refmodel.tcp.whole.skb import FastopenCookie
from refmodel.tcp.whole.sock import CA, Dst, InetSock, RequestSock, Sock
from refmodel.tcp.whole.tcp_h import tcp_in_initial_slowstart, tcp_rto_min

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

IP_MAX_MTU: Final = 65535
IP6_MAX_MTU: Final = 65535 + 40
IPV4_MAX_PMTU: Final = 65535
IPV6_MIN_MTU: Final = 1280
IPV6_MAXPLEN: Final = 65535
IP6_RT_MIN_ADVMSS: Final = IPV6_MIN_MTU - 20 - 40
GSO_BY_FRAGS: Final = 0xFFFF
IP_PMTUDISC_DONT: Final = 0
IP_PMTUDISC_WANT: Final = 1
IP_PMTUDISC_DO: Final = 2
IP_PMTUDISC_INTERFACE: Final = 4
IP_PMTUDISC_OMIT: Final = 5
TCP_METRICS_TIMEOUT: Final = 60 * 60  # seconds

METRICS: Final = (
    "advmss", "cc", "cwnd", "dev_mtu", "fastopen_no_cookie", "features", "hoplimit", "initcwnd", "initrwnd", "mtu",
    "quickack", "reordering", "rto_min", "rtt", "rttvar", "ssthresh", "window",
)  # fmt: skip


# ---------------------------------------------------------------- net/ipv4/route.c, net/ipv6/route.c


def _copy_metrics(dst: Dst, of: Dst) -> None:
    for name in METRICS:
        setattr(dst, name, getattr(of, name))
    dst.lock = set(of.lock)


def ip_route_output(net: "Net", daddr: bytes) -> Dst:
    """The route to `daddr`: what the layers below say, or without such a host's only route."""
    if net.below is None:
        return ip_route_output_flow(net, daddr)
    dst = net.dst.get(daddr)
    if dst is None:
        dst = net.dst[daddr] = Dst()
    net.below.route(daddr, dst)
    return _looked_at(net, dst, daddr)


@cited("net/ipv4/route.c:ip_route_output_flow", "net/ipv6/route.c:ip6_route_output_flags")
def ip_route_output_flow(net: "Net", daddr: bytes) -> Dst:
    """The route to `daddr`: its own, or the default route with what was learnt about this peer."""
    dst = net.dst.get(daddr)
    if dst is None:
        dst = net.dst[daddr] = Dst()
        dst.own = True
    if dst.own:
        _copy_metrics(dst, net.default_dst)
    return _looked_at(net, dst, daddr)


def _looked_at(net: "Net", dst: Dst, daddr: bytes) -> Dst:
    dst.v6 = len(daddr) == 16
    dst.net = net
    if dst.pmtu and net.jiffies >= dst.pmtu_expires:
        dst.pmtu, dst.mtu_locked = 0, False
    return dst


def change_route(net: "Net", daddr: bytes = b"", **metrics: Any) -> None:
    """Changes metrics of the default route, or of one peer's, as `ip route change` does; what was learnt is forgotten.

    Names are those of `Dst`; `lock` is a set of them.
    """
    dst = net.default_dst if not daddr else net.dst.setdefault(daddr, Dst(net.default_dst.dev_mtu))
    for name, value in metrics.items():
        setattr(dst, name, value)
    for other in net.dst.values():
        if other.own and not daddr:
            _copy_metrics(other, dst)
            other.pmtu, other.mtu_locked = 0, False


def set_dev_mtu(net: "Net", mtu: int) -> None:
    """Changes the device's MTU, which every route without its own follows at once."""
    net.default_dst.dev_mtu = mtu
    for dst in net.dst.values():
        dst.dev_mtu = mtu


@cited("include/net/dst.h:dst_mtu", "net/ipv4/route.c:ipv4_mtu", "net/ipv6/route.c:ip6_mtu")
def dst_mtu(dst: Dst) -> int:
    """The MTU to the peer: the path's as long as it is remembered, else the route's, else the device's."""
    if dst.pmtu and dst.net is not None:
        if dst.net.jiffies < dst.pmtu_expires:
            return dst.pmtu
        dst.pmtu, dst.mtu_locked = 0, False
    return min(dst.mtu or dst.dev_mtu, IP6_MAX_MTU if dst.v6 else IP_MAX_MTU)


def dst_metric_locked(dst: Dst, metric: str) -> bool:
    """The administrator fixed the metric; source include/net/dst.h:dst_metric_locked."""
    return metric in dst.lock


@cited(
    "include/net/dst.h:dst_metric_advmss",
    "net/ipv4/route.c:ipv4_default_advmss",
    "net/ipv6/route.c:ip6_default_advmss",
    "RFC 9293 3.7.1",
)
def dst_metric_advmss(dst: Dst) -> int:
    """The MSS to advertise to the peer: the route's, else what fits into its MTU behind plain headers.

    What ICMP taught about the path counts too. (Late stable releases take the configured MTU instead.)
    """
    if dst.advmss:
        return dst.advmss
    mtu = dst_mtu(dst)
    if dst.v6:
        advmss = max(mtu - 60, dst.net.p.route6_min_adv_mss if dst.net is not None else IP6_RT_MIN_ADVMSS)
        return min(IPV6_MAXPLEN, GSO_BY_FRAGS - 1) if advmss > IPV6_MAXPLEN - 20 else advmss
    return min(max(mtu - 40, dst.net.p.route_min_adv_mss if dst.net is not None else 256), IPV4_MAX_PMTU - 40)


def tcp_dst_advmss(dst: Dst, net: "Net | None" = None) -> int:
    """The MSS to advertise, at least TCP_MIN_MSS; source include/net/tcp.h:tcp_dst_advmss."""
    return max(dst_metric_advmss(dst), TCP_MIN_MSS)


def ip_mtu_locked(dst: Dst) -> bool:
    """The path's MTU must not be learnt; source include/net/ip.h:ip_mtu_locked."""
    return dst.mtu_locked or "mtu" in dst.lock


def ip_dont_fragment(sk: InetSock, dst: Dst) -> bool:
    """Packets leave with DF; source include/net/ip.h:ip_dont_fragment."""
    return sk.pmtudisc == IP_PMTUDISC_DO or (sk.pmtudisc == IP_PMTUDISC_WANT and not ip_mtu_locked(dst))


def ip_sk_accept_pmtu(sk: InetSock) -> bool:
    """The socket believes ICMP about the path's MTU; source include/net/ip.h:ip_sk_accept_pmtu."""
    return sk.pmtudisc not in (IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT)


@cited("net/ipv4/route.c:__ip_rt_update_pmtu", "net/ipv4/route.c:update_or_create_fnhe", "RFC 1191 3")
def ip_rt_update_pmtu(dst: Dst, net: "Net", mtu: int) -> None:
    """Learns from ICMP that the path carries `mtu` at most; less than the minimum means the minimum without DF."""
    if ip_mtu_locked(dst):
        return
    old_mtu = dst_mtu(dst)
    if old_mtu < mtu:
        return
    lock = False
    if mtu < net.p.route_min_pmtu:
        lock = True
        mtu = min(old_mtu, net.p.route_min_pmtu)
    expires = net.p.route_mtu_expires * net.hz
    if dst.pmtu == mtu and not lock and net.jiffies < dst.pmtu_expires - expires // 2:
        return
    dst.pmtu = mtu
    dst.mtu_locked = lock
    dst.pmtu_expires = max(1, net.jiffies + expires)


@cited("net/ipv6/route.c:__ip6_rt_update_pmtu", "net/ipv6/route.c:rt6_do_update_pmtu", "RFC 8201 4")
def ip6_rt_update_pmtu(dst: Dst, net: "Net", mtu: int) -> None:
    """Learns from ICMPv6 that the path carries `mtu` at most; a route's lock does not hinder it."""
    if mtu < IPV6_MIN_MTU or mtu >= dst_mtu(dst):
        return
    dst.pmtu = mtu
    dst.pmtu_expires = net.jiffies + net.p.route6_mtu_expires * net.hz


@cited("net/ipv4/inet_connection_sock.c:inet_csk_update_pmtu", "net/ipv6/inet6_connection_sock.c:inet6_csk_update_pmtu")
def inet_csk_update_pmtu(sk: Sock, mtu: int) -> Dst | None:
    """Lets the connection's route learn a path MTU; the route is looked up anew if it was dropped."""
    if sk.sk_dst is None:
        sk.sk_dst = ip_route_output(sk.net, sk.inet_daddr)
    if sk.sk_dst.v6:
        ip6_rt_update_pmtu(sk.sk_dst, sk.net, mtu)
    else:
        ip_rt_update_pmtu(sk.sk_dst, sk.net, mtu)
    return sk.sk_dst


@cited("net/ipv4/af_inet.c:inet_sk_rebuild_header", "net/ipv4/inet_connection_sock.c:inet_csk_rebuild_route")
def inet_sk_rebuild_header(sk: Sock) -> int:
    """Looks the route up again if the connection lost it; 0, or a negative errno."""
    if sk.sk_dst is None:
        sk.sk_dst = ip_route_output(sk.net, sk.inet_daddr)
    return 0


# ---------------------------------------------------------------- net/ipv4/tcp_metrics.c


class TcpMetrics:
    """struct tcp_metrics_block: what connections to one peer measured (us, segments), and its fast open cookie."""

    __slots__ = (
        "cookie", "cwnd", "last_syn_loss", "lock", "mss", "reordering", "rtt", "rttvar", "ssthresh", "stamp",
        "syn_loss", "try_exp",
    )  # fmt: skip

    def __init__(self, net: "Net", dst: Dst) -> None:
        self.cookie = FastopenCookie(0)
        self.mss = 0
        self.syn_loss = 0
        self.last_syn_loss = 0  # jiffies
        self.try_exp = 0
        self.suck_dst(net, dst)

    @cited("net/ipv4/tcp_metrics.c:tcpm_suck_dst")
    def suck_dst(self, net: "Net", dst: Dst) -> None:
        """Takes the route's own metrics for what is known."""
        self.stamp = net.jiffies
        self.lock = dst.lock & {"rtt", "rttvar", "ssthresh", "cwnd", "reordering"}
        self.rtt = dst.rtt * 1000
        self.rttvar = dst.rttvar * 1000
        self.ssthresh = dst.ssthresh
        self.cwnd = dst.cwnd
        self.reordering = dst.reordering


def tcpm_check_stamp(net: "Net", tm: TcpMetrics, dst: Dst) -> None:
    """After an hour what was measured is forgotten; source net/ipv4/tcp_metrics.c:tcpm_check_stamp."""
    if net.jiffies > tm.stamp + TCP_METRICS_TIMEOUT * net.hz:
        tm.suck_dst(net, dst)


@cited("net/ipv4/tcp_metrics.c:tcp_get_metrics", "net/ipv4/tcp_metrics.c:tcpm_new")
def tcp_get_metrics(sk: Sock, dst: Dst, create: bool) -> TcpMetrics | None:
    """What is known of the connection's pair of addresses."""
    net = sk.net
    key = (sk.inet_saddr, sk.inet_daddr)
    tm: TcpMetrics | None = net.tcp_metrics.get(key)
    if tm is None and create:
        tm = net.tcp_metrics[key] = TcpMetrics(net, dst)
    elif tm is not None:
        tcpm_check_stamp(net, tm, dst)
    return tm


@cited("net/ipv4/tcp_metrics.c:tcp_update_metrics")
def tcp_update_metrics(sk: Sock) -> None:
    """Keeps what a connection that ends well measured, for the next one to the same peer."""
    net, dst = sk.net, sk.sk_dst
    if net.p.tcp_no_metrics_save or dst is None:
        return
    if sk.icsk_backoff or not sk.srtt_us:
        tm = tcp_get_metrics(sk, dst, False)
        if tm is not None and "rtt" not in tm.lock:
            tm.rtt = 0
        return
    tm = tcp_get_metrics(sk, dst, True)
    assert tm is not None
    rtt = tm.rtt
    m = rtt - sk.srtt_us
    # A longer time than before is believed at once, a shorter one by an eighth.
    if "rtt" not in tm.lock:
        tm.rtt = sk.srtt_us if m <= 0 else rtt - (m >> 3)
    if "rttvar" not in tm.lock:
        m = max(abs(m) >> 1, sk.mdev_us)
        var = tm.rttvar
        tm.rttvar = m if m >= var else var - ((var - m) >> 2)
    save_ssthresh = not net.p.tcp_no_ssthresh_metrics_save and "ssthresh" not in tm.lock
    save_cwnd = "cwnd" not in tm.lock
    if tcp_in_initial_slowstart(sk):
        if save_ssthresh and tm.ssthresh and (sk.snd_cwnd >> 1) > tm.ssthresh:
            tm.ssthresh = sk.snd_cwnd >> 1
        if save_cwnd and sk.snd_cwnd > tm.cwnd:
            tm.cwnd = sk.snd_cwnd
    elif sk.snd_cwnd >= sk.snd_ssthresh and sk.icsk_ca_state == CA.Open:
        if save_ssthresh:
            tm.ssthresh = max(sk.snd_cwnd >> 1, sk.snd_ssthresh)
        if save_cwnd:
            tm.cwnd = (tm.cwnd + sk.snd_cwnd) >> 1
    else:
        if save_cwnd:
            tm.cwnd = (tm.cwnd + sk.snd_ssthresh) >> 1
        if save_ssthresh and tm.ssthresh and sk.snd_ssthresh > tm.ssthresh:
            tm.ssthresh = sk.snd_ssthresh
        if "reordering" not in tm.lock and tm.reordering < sk.reordering and sk.reordering != net.p.tcp_reordering:
            tm.reordering = sk.reordering
    tm.stamp = net.jiffies


@cited("net/ipv4/tcp_metrics.c:tcp_init_metrics", "RFC 6298 5.7")
def tcp_init_metrics(sk: Sock) -> None:
    """Starts an established connection from what is known of its peer; without a sample the RTO becomes 3 s."""
    net, dst = sk.net, sk.sk_dst
    crtt = 0
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    tm = tcp_get_metrics(sk, dst, False) if dst is not None else None
    if tm is not None:
        if "cwnd" in tm.lock:
            sk.snd_cwnd_clamp = tm.cwnd
        val = 0 if net.p.tcp_no_ssthresh_metrics_save else tm.ssthresh
        if val:
            sk.snd_ssthresh = min(val, sk.snd_cwnd_clamp)
        if tm.reordering and sk.reordering != tm.reordering:
            sk.reordering = tm.reordering
        crtt = tm.rtt
    if crtt > sk.srtt_us:
        crtt //= 8 * 1_000_000 // net.hz
        sk.icsk_rto = crtt + max(2 * crtt, tcp_rto_min(sk))
    elif sk.srtt_us == 0:
        fallback = 3 * net.hz
        sk.rttvar_us = net.jiffies_to_usecs(fallback)
        sk.mdev_us = sk.mdev_max_us = sk.rttvar_us
        sk.icsk_rto = fallback


@cited("net/ipv4/tcp_metrics.c:tcp_peer_is_proven")
def tcp_peer_is_proven(req: RequestSock, dst: Dst) -> bool:
    """A connection with the SYN's sender has measured a round trip before."""
    tm = req.net.tcp_metrics.get((req.ir_loc_addr, req.ir_rmt_addr))
    if tm is None:
        return False
    tcpm_check_stamp(req.net, tm, dst)
    return bool(tm.rtt)


@cited("net/ipv4/tcp_metrics.c:tcp_fastopen_cache_get")
def tcp_fastopen_cache_get(sk: Sock, cookie: FastopenCookie) -> int:
    """Reads the peer's cookie into `cookie`; the MSS that came with it, 0 if none is known."""
    mss = 0
    tm = tcp_get_metrics(sk, sk.sk_dst, False) if sk.sk_dst is not None else None
    if tm is not None:
        mss = tm.mss
        cookie.len, cookie.val, cookie.exp = tm.cookie.len, tm.cookie.val, tm.cookie.exp
        if cookie.len <= 0 and tm.try_exp == 1:
            cookie.exp = True
    return mss


@cited("net/ipv4/tcp_metrics.c:tcp_fastopen_cache_set")
def tcp_fastopen_cache_set(sk: Sock, mss: int, cookie: FastopenCookie | None, syn_lost: bool, try_exp: int) -> None:
    """Keeps the peer's cookie and MSS, which option kind to try next, and how many SYNs with data were lost."""
    dst = sk.sk_dst
    if dst is None:
        return
    tm = tcp_get_metrics(sk, dst, True)
    assert tm is not None
    if mss:
        tm.mss = mss
    if cookie is not None and cookie.len > 0:
        tm.cookie = FastopenCookie(cookie.len, cookie.val, cookie.exp)
    elif try_exp > tm.try_exp and tm.cookie.len <= 0 and not tm.cookie.exp:
        tm.try_exp = try_exp
    if syn_lost:
        tm.syn_loss += 1
        tm.last_syn_loss = sk.net.jiffies
    else:
        tm.syn_loss = 0
