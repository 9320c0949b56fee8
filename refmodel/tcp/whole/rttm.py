"""Samples of the round trip and what they make of the timeout, on a socket's fields (net/ipv4/tcp_input.c).

The law: `refmodel.tcp.rtt`, whose proved steps these functions apply.
"""

from functools import lru_cache

from refmodel.rule import cited
from refmodel.tcp import rtt
from refmodel.tcp.whole import rcvbuf
from refmodel.tcp.whole.acktag import FLAG_ACK_MAYBE_DELAYED, FLAG_ACKED
from refmodel.tcp.whole.sock import RateSample, Sock
from refmodel.tcp.whole.tcp_h import tcp_rto_min_us


@lru_cache(maxsize=64)
def rtt_params(hz: int, rto_min_us: int, rto_max_ms: int) -> rtt.RttParams:
    """The estimator's parameters with a socket's own floor."""
    return rtt.RttParams(hz=hz, tcp_rto_min_us=rto_min_us, tcp_rto_max_ms=rto_max_ms)


def socket_rtt_params(sk: Sock) -> rtt.RttParams:
    """The estimator's parameters for a socket; source include/net/tcp.h:tcp_rto_min_us."""
    net = sk.net
    return rtt_params(net.hz, tcp_rto_min_us(sk), net.p.tcp_rto_max_ms)


@cited("net/ipv4/tcp_input.c:tcp_rtt_estimator", "RFC 6298 2")
def tcp_rtt_estimator(sk: Sock, mrtt_us: int) -> None:
    """A sample moves mean and variance."""
    s = rtt.Rtt(
        srtt_us=sk.srtt_us,
        mdev_us=sk.mdev_us,
        mdev_max_us=sk.mdev_max_us,
        rttvar_us=sk.rttvar_us,
        rtt_seq=sk.rtt_seq,
    )
    t, _ = rtt.tcp_rtt_estimator(s, mrtt_us, sk.snd_una, sk.snd_nxt, socket_rtt_params(sk))
    sk.srtt_us = t.srtt_us
    sk.mdev_us = t.mdev_us
    sk.mdev_max_us = t.mdev_max_us
    sk.rttvar_us = t.rttvar_us
    sk.rtt_seq = t.rtt_seq


@cited("net/ipv4/tcp_input.c:tcp_set_rto", "include/net/tcp.h:tcp_bound_rto", "RFC 6298 2.3")
def tcp_set_rto(sk: Sock) -> None:
    """The timeout is the mean plus the variance, at most the ceiling."""
    p = socket_rtt_params(sk)
    sk.icsk_rto = min(rtt.rto_of(sk.srtt_us, sk.rttvar_us, p), rtt.tcp_rto_max(p))


@cited("net/ipv4/tcp_input.c:tcp_update_rtt_min")
def tcp_update_rtt_min(sk: Sock, rtt_us: int, flag: int) -> None:
    """The minimum takes the sample, unless it may be a late ACK; a sample of 0 counts as a jiffy."""
    if flag & FLAG_ACK_MAYBE_DELAYED and rtt_us > sk.rtt_min.s[0][1]:
        return
    net = sk.net
    sk.rtt_min.running_min(net.p.tcp_min_rtt_wlen * net.hz, net.jiffies, rtt_us or net.jiffies_to_usecs(1))


@cited("net/ipv4/tcp_input.c:tcp_ack_update_rtt", "RFC 6298 3", "RFC 7323 4.1")
def tcp_ack_update_rtt(sk: Sock, flag: int, seq_rtt_us: int, sack_rtt_us: int, ca_rtt_us: int, rs: RateSample) -> bool:
    """The sample is of what is acknowledged, else of what is SACKed, else of the echoed timestamp; -1 is none."""
    if seq_rtt_us < 0:
        seq_rtt_us = sack_rtt_us
    if seq_rtt_us < 0 and sk.rx_opt.saw_tstamp and sk.rx_opt.rcv_tsecr and flag & FLAG_ACKED:
        seq_rtt_us = ca_rtt_us = rcvbuf.tcp_rtt_tsopt_us(sk, 1)
    rs.rtt_us = ca_rtt_us
    if seq_rtt_us < 0:
        return False
    tcp_update_rtt_min(sk, ca_rtt_us, flag)
    tcp_rtt_estimator(sk, seq_rtt_us)
    tcp_set_rto(sk)
    sk.icsk_backoff = 0
    return True
