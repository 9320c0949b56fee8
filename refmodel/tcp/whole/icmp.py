"""ICMP errors that quote a segment of ours: what they end, what they teach, what is only remembered.

The law: an error counts only if it quotes a sequence number in flight. It ends a handshake; to an established
connection it is a soft error, but for the path's MTU, and for an unreachable network, which takes a doubled RTO back.
"""

import errno
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import errqueue, hashtables, listen, output, poll, rcv, recovery, route, timer
from refmodel.tcp.whole.const import ICSK_TIME_RETRANS
from refmodel.tcp.whole.net import inet_csk_reset_xmit_timer, tcp_rto_max
from refmodel.tcp.whole.skb import IcmpError
from refmodel.tcp.whole.sock import RequestSock, Sock, TimewaitSock
from refmodel.types import M32, between

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

AF_INET6: Final = 10
IPV6_MIN_MTU: Final = 1280
ICMP_DEST_UNREACH: Final = 3
ICMP_SOURCE_QUENCH: Final = 4
ICMP_REDIRECT: Final = 5
ICMP_TIME_EXCEEDED: Final = 11
ICMP_PARAMETERPROB: Final = 12
ICMP_NET_UNREACH: Final = 0
ICMP_HOST_UNREACH: Final = 1
ICMP_FRAG_NEEDED: Final = 4
ICMP_EXC_FRAGTIME: Final = 1
NR_ICMP_UNREACH: Final = 15
ICMPV6_DEST_UNREACH: Final = 1
ICMPV6_PKT_TOOBIG: Final = 2
ICMPV6_TIME_EXCEED: Final = 3
ICMPV6_PARAMPROB: Final = 4
ICMPV6_NOROUTE: Final = 0
NDISC_REDIRECT: Final = 137
E_NONET: Final = 64
ICMP_ERR_CONVERT: Final = (
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOPROTOOPT, errno.ECONNREFUSED, errno.EMSGSIZE, errno.EOPNOTSUPP,
    errno.ENETUNREACH, errno.EHOSTDOWN, E_NONET, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETUNREACH,
    errno.EHOSTUNREACH, errno.EHOSTUNREACH, errno.EHOSTUNREACH, errno.EHOSTUNREACH,
)  # fmt: skip
ICMPV6_UNREACH: Final = (
    (errno.ENETUNREACH, False), (errno.EACCES, True), (errno.EHOSTUNREACH, False), (errno.EHOSTUNREACH, False),
    (errno.ECONNREFUSED, True), (errno.EACCES, True), (errno.EACCES, True),
)  # fmt: skip


@cited(
    "net/ipv4/tcp_ipv4.c:tcp_v4_mtu_reduced", "net/ipv6/tcp_ipv6.c:tcp_v6_mtu_reduced", "RFC 1191 6.4", "RFC 8201 5.4"
)
def tcp_v4_mtu_reduced(sk: Sock) -> None:
    """The path carries less than was thought: smaller segments, and what was sent goes again at once."""
    if sk.sk_state in (St.LISTEN, St.CLOSE):
        return
    mtu = sk.mtu_info
    v6 = sk.sk_family == AF_INET6 and not sk.mapped
    if v6 and output.tcp_mtu_to_mss(sk, mtu) >= sk.mss_cache:
        return
    dst = route.inet_csk_update_pmtu(sk, mtu)
    if dst is None:
        return
    dmtu = route.dst_mtu(dst)
    if not v6:
        if mtu < dmtu and route.ip_dont_fragment(sk, dst):
            sk.sk_err_soft = errno.EMSGSIZE
        if sk.pmtudisc == route.IP_PMTUDISC_DONT or not route.ip_sk_accept_pmtu(sk):
            return
    if sk.icsk_pmtu_cookie > dmtu:
        sk.net.note("tcp_v4_mtu_reduced", f"path MTU {dmtu}")
        output.tcp_sync_mss(sk, dmtu)
        sk.net.cause = "tcp_simple_retransmit"
        recovery.tcp_simple_retransmit(sk)


@cited("net/ipv4/tcp_ipv4.c:tcp_req_err")
def tcp_req_err(req: RequestSock, seq: int, abort: bool) -> None:
    """An ICMP error for a request: a lasting one ends it, in silence."""
    if seq != req.snt_isn:
        req.net.count("TcpExtOutOfWindowIcmps")
    elif abort:
        listen.inet_csk_reqsk_queue_drop(req.rsk_listener, req)
        listen.tcp_listendrop(req.rsk_listener)


@cited("net/ipv4/tcp_ipv4.c:tcp_ld_RTO_revert", "RFC 6069 4")
def tcp_ld_RTO_revert(sk: Sock, seq: int) -> None:
    """An unreachable network explains a time-out: the last doubling of the RTO is taken back."""
    net = sk.net
    if sk.sk_owned or seq != sk.snd_una or not sk.icsk_retransmits or not sk.icsk_backoff:
        return
    skb = sk.tcp_rtx_queue.head
    if skb is None:
        return
    sk.icsk_backoff -= 1
    sk.icsk_rto = timer.tcp_set_rto_value(sk) if sk.srtt_us else net.hz
    sk.icsk_rto = timer.inet_csk_rto_backoff(sk, tcp_rto_max(sk))
    sk.tcp_mstamp = net.now
    delta_us = (sk.tcp_mstamp - skb.skb_mstamp) & M32
    remaining = sk.icsk_rto - net.usecs_to_jiffies(delta_us)
    if remaining > 0:
        inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, remaining, tcp_rto_max(sk))
    else:
        timer.tcp_retransmit_timer(sk)


@cited("net/ipv6/icmp.c:icmpv6_err_convert")
def icmpv6_err_convert(type: int, code: int) -> tuple[int, bool]:
    """The errno that an ICMPv6 error means, and whether it lasts."""
    if type == ICMPV6_DEST_UNREACH:
        return ICMPV6_UNREACH[code] if code < len(ICMPV6_UNREACH) else (errno.EPROTO, True)
    if type == ICMPV6_PKT_TOOBIG:
        return errno.EMSGSIZE, False
    if type == ICMPV6_TIME_EXCEED:
        return errno.EHOSTUNREACH, False
    return errno.EPROTO, type == ICMPV6_PARAMPROB


@cited("net/ipv4/icmp.c:icmp_unreach")
def icmp_reaches_socket(net: "Net", error: IcmpError) -> bool:
    """The error reaches its protocol; sets what it says of the MTU as ip_no_pmtu_disc allows."""
    if error.type == ICMP_DEST_UNREACH:
        if error.code & 15 == ICMP_FRAG_NEEDED:
            if net.p.ip_no_pmtu_disc == 2:
                return False
            if net.p.ip_no_pmtu_disc not in (0, 3):
                error.info = 0
        return error.code <= NR_ICMP_UNREACH
    return not (error.type == ICMP_TIME_EXCEEDED and error.code == ICMP_EXC_FRAGTIME)


@cited("net/ipv4/tcp_ipv4.c:tcp_v4_err", "net/ipv6/tcp_ipv6.c:tcp_v6_err", "RFC 1122 4.2.3.9", "RFC 5927 4")
def tcp_v4_err(net: "Net", error: IcmpError) -> int:
    """An ICMP error that quotes a segment of ours: it ends a handshake, teaches the MTU, or is remembered."""
    v6 = len(error.saddr) == 16
    if not v6 and not icmp_reaches_socket(net, error):
        return 0
    sk = hashtables.inet_lookup_established(net, error.daddr, error.dport, error.saddr, error.sport)
    if sk is None:
        net.count("Icmp6InErrors" if v6 else "IcmpInErrors")
        return -errno.ENOENT
    if isinstance(sk, TimewaitSock):
        return 0
    type, code, seq = error.type, error.code, error.seq
    if isinstance(sk, RequestSock):
        if v6:
            abort = icmpv6_err_convert(type, code)[1]
        else:
            abort = type in (ICMP_PARAMETERPROB, ICMP_TIME_EXCEEDED) or (
                type == ICMP_DEST_UNREACH and code in (ICMP_NET_UNREACH, ICMP_HOST_UNREACH)
            )
        tcp_req_err(sk, seq, abort)
        return 0
    too_big = type == ICMPV6_PKT_TOOBIG if v6 else type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED
    if sk.sk_owned and not too_big:
        net.count("TcpExtLockDroppedIcmps")
    if sk.sk_state == St.CLOSE:
        return 0
    req: RequestSock | None = sk.fastopen_rsk
    snd_una = req.snt_isn if req is not None else sk.snd_una
    if sk.sk_state != St.LISTEN and not between(seq, snd_una, sk.snd_nxt):
        net.count("TcpExtOutOfWindowIcmps")
        return 0
    if too_big:
        _too_big(sk, error, v6)
        return 0
    handshake = sk.sk_state in (St.SYN_SENT, St.SYN_RECV)
    if v6:
        if type == NDISC_REDIRECT:
            return 0
        err = icmpv6_err_convert(type, code)[0]
        if not handshake and req is None and type == ICMPV6_DEST_UNREACH and code == ICMPV6_NOROUTE:
            tcp_ld_RTO_revert(sk, seq)
    elif type == ICMP_PARAMETERPROB:
        err = errno.EPROTO
    elif type == ICMP_DEST_UNREACH:
        err = ICMP_ERR_CONVERT[code]
        if req is None and code in (ICMP_NET_UNREACH, ICMP_HOST_UNREACH):
            tcp_ld_RTO_revert(sk, seq)
    elif type == ICMP_TIME_EXCEEDED:
        err = errno.EHOSTUNREACH
    else:
        return 0
    if handshake and not (req is not None and req.sk is None):
        errqueue.ip_icmp_error(sk, error, err, error.dport, error.info)
        if not sk.sk_owned:
            net.note("tcp_v4_err", f"ICMP {type}/{code} ends the handshake")
            rcv.tcp_done_with_error(sk, err)
        else:
            sk.sk_err_soft = err
        return 0
    if not sk.sk_owned and (sk.recverr6 if v6 else sk.recverr):
        sk.sk_err = err
        poll.sk_error_report(sk)
    else:
        sk.sk_err_soft = err
    return 0


def _too_big(sk: Sock, error: IcmpError, v6: bool) -> None:
    if sk.sk_state == St.LISTEN:
        return
    if v6 and (sk.np_pmtudisc in (route.IP_PMTUDISC_INTERFACE, route.IP_PMTUDISC_OMIT) or error.info < IPV6_MIN_MTU):
        return
    sk.mtu_info = error.info
    if sk.sk_owned:
        sk.sk_tsq_flags.add("TCP_MTU_REDUCED_DEFERRED")
    else:
        tcp_v4_mtu_reduced(sk)
