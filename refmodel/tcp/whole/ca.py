"""Congestion control: what every algorithm offers, the registry, reno, cubic and dctcp.

The law: an algorithm is a table of functions of a socket (struct tcp_congestion_ops); what it lacks is None. It decides
the window's growth, the threshold after a loss, and nothing else; losses and the window during recovery are the core's.
Cubic's arithmetic is that of the proved steps of `refmodel.tcp.cubic`. Its private state stands in `icsk_ca_priv`.
"""

import errno
import struct
from collections.abc import Callable
from typing import Final, cast

from msgspec import Struct
from msgspec.structs import replace

from refmodel.rule import NotModelled, cited
from refmodel.tcp import cong, cubic
from refmodel.tcp.state import St
from refmodel.tcp.whole import timer, transmit
from refmodel.tcp.whole.const import (
    CA_EVENT_ECN_IS_CE,
    CA_EVENT_ECN_NO_CE,
    CA_EVENT_LOSS,
    CA_EVENT_TX_START,
    ICSK_ACK_NOW,
    ICSK_ACK_TIMER,
    SK_PACING_NONE,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_OK,
)
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.sock import CA, AckedSample, RateSample, Sock
from refmodel.tcp.whole.tcp_h import tcp_in_slow_start, tcp_is_cwnd_limited
from refmodel.types import H32, M32, before

TCP_CONG_NON_RESTRICTED: Final = 1
TCP_CONG_NEEDS_ECN: Final = 2
TCP_PLB_SCALE: Final = 8
DCTCP_MAX_ALPHA: Final = 1024
DCTCP_SHIFT_G: Final = 4
HYSTART_ACK_TRAIN: Final = 1
HYSTART_DELAY: Final = 2
INET_ECN_ECT_0: Final = 2
INET_ECN_MASK: Final = 3
INET_DIAG_VEGASINFO: Final = 3
INET_DIAG_DCTCPINFO: Final = 9
INET_DIAG_BBRINFO: Final = 16

# Modules of the kernel that have no text here.
OTHERS: Final = (
    *("bic", "cdg", "highspeed", "htcp", "hybla", "illinois", "lp"),
    *("nv", "scalable", "vegas", "veno", "westwood", "yeah"),
)


class CongestionOps(Struct, frozen=True, kw_only=True):
    """struct tcp_congestion_ops. `get_info` answers (INET_DIAG attribute, bytes), None if nothing was asked for."""

    name: str
    ssthresh: Callable[[Sock], int]
    undo_cwnd: Callable[[Sock], int]
    cong_avoid: Callable[[Sock, int, int], None] | None = None
    set_state: Callable[[Sock, CA], None] | None = None
    cwnd_event: Callable[[Sock, int], None] | None = None
    in_ack_event: Callable[[Sock, int], None] | None = None
    pkts_acked: Callable[[Sock, AckedSample], None] | None = None
    min_tso_segs: Callable[[Sock], int] | None = None
    cong_control: Callable[[Sock, int, int, RateSample], None] | None = None
    sndbuf_expand: Callable[[Sock], int] | None = None
    get_info: Callable[[Sock, int], tuple[int, bytes] | None] | None = None
    init: Callable[[Sock], None] | None = None
    release: Callable[[Sock], None] | None = None
    flags: int = 0


REGISTRY: Final[dict[str, CongestionOps]] = {}


def tcp_register_congestion_control(ca: CongestionOps) -> CongestionOps:
    """Adds an algorithm; source net/ipv4/tcp_cong.c:tcp_register_congestion_control."""
    REGISTRY[ca.name] = ca
    return ca


def tcp_ca_find(name: str) -> CongestionOps | None:
    """The algorithm of that name; NotModelled for one that the kernel has and this text hasn't.

    Source: net/ipv4/tcp_cong.c:tcp_ca_find_autoload.
    """
    if name == "bbr" and name not in REGISTRY:
        from refmodel.tcp.whole import bbr

        tcp_register_congestion_control(bbr.TCP_BBR)
    if name in OTHERS:
        raise NotModelled(f"congestion control {name}")
    return REGISTRY.get(name)


def tcp_ca_needs_ecn(sk: Sock) -> bool:
    """The algorithm lives on marks; source include/net/tcp.h:tcp_ca_needs_ecn."""
    return bool(sk.icsk_ca_ops.flags & TCP_CONG_NEEDS_ECN)


def tcp_ca_event(sk: Sock, event: int) -> None:
    """Tells the algorithm of an event; source include/net/tcp.h:tcp_ca_event."""
    cwnd_event = sk.icsk_ca_ops.cwnd_event
    if cwnd_event is not None:
        cwnd_event(sk, event)


def INET_ECN_xmit(sk: Sock) -> None:
    """What is sent says that it may be marked; source include/net/inet_ecn.h:INET_ECN_xmit."""
    sk.inet_tos |= INET_ECN_ECT_0
    sk.tclass |= INET_ECN_ECT_0


def INET_ECN_dontxmit(sk: Sock) -> None:
    """What is sent is not to be marked; source include/net/inet_ecn.h:INET_ECN_dontxmit."""
    sk.inet_tos &= ~INET_ECN_MASK
    sk.tclass &= ~INET_ECN_MASK


def ecn_by_ca(sk: Sock) -> None:
    """Sets the IP header's mark as the algorithm needs it."""
    if tcp_ca_needs_ecn(sk):
        INET_ECN_xmit(sk)
    else:
        INET_ECN_dontxmit(sk)


@cited("net/ipv4/tcp_cong.c:tcp_set_ca_state")
def tcp_set_ca_state(sk: Sock, ca_state: CA) -> None:
    """The state of loss recovery changes, and the algorithm is told before."""
    set_state = sk.icsk_ca_ops.set_state
    if set_state is not None:
        set_state(sk, ca_state)
    sk.icsk_ca_state = ca_state


@cited("net/ipv4/tcp_cong.c:tcp_assign_congestion_control")
def tcp_assign_congestion_control(sk: Sock) -> None:
    """A new socket takes the namespace's algorithm."""
    sk.icsk_ca_ops = tcp_ca_find(sk.net.tcp_congestion_control) or RENO
    sk.icsk_ca_priv = None
    ecn_by_ca(sk)


@cited("net/ipv4/tcp_cong.c:tcp_init_congestion_control")
def tcp_init_congestion_control(sk: Sock) -> None:
    """The connection begins, and with it the algorithm's own state."""
    sk.prior_ssthresh = 0
    init = sk.icsk_ca_ops.init
    if init is not None:
        init(sk)
    ecn_by_ca(sk)
    sk.icsk_ca_initialized = True


@cited("net/ipv4/tcp_cong.c:tcp_reinit_congestion_control")
def tcp_reinit_congestion_control(sk: Sock, ca: CongestionOps) -> None:
    """Another algorithm takes over; it starts at once if the connection has begun."""
    tcp_cleanup_congestion_control(sk)
    sk.icsk_ca_ops = ca
    sk.icsk_ca_setsockopt = True
    sk.icsk_ca_priv = None
    ecn_by_ca(sk)
    if sk.sk_state not in (St.CLOSE, St.LISTEN):
        tcp_init_congestion_control(sk)


@cited("net/ipv4/tcp_cong.c:tcp_cleanup_congestion_control")
def tcp_cleanup_congestion_control(sk: Sock) -> None:
    """The algorithm is let go."""
    release = sk.icsk_ca_ops.release
    if release is not None:
        release(sk)


@cited("net/ipv4/tcp_cong.c:tcp_set_default_congestion_control")
def tcp_set_default_congestion_control(net: Net, name: str) -> int:
    """net.ipv4.tcp_congestion_control: 0 or -ENOENT."""
    if tcp_ca_find(name) is None:
        return -errno.ENOENT
    net.tcp_congestion_control = name
    net.tcp_allowed_congestion_control |= {name}
    return 0


@cited("net/ipv4/tcp_cong.c:tcp_set_congestion_control")
def tcp_set_congestion_control(sk: Sock, name: str, load: bool, cap_net_admin: bool) -> int:
    """setsockopt(TCP_CONGESTION): 0, or -EPERM (the route rules, or not allowed), or -ENOENT."""
    if sk.icsk_ca_dst_locked:
        return -errno.EPERM
    ca = tcp_ca_find(name)
    if ca is sk.icsk_ca_ops:
        sk.icsk_ca_setsockopt = True
        return 0
    if ca is None:
        return -errno.ENOENT
    if not (ca.flags & TCP_CONG_NON_RESTRICTED or ca.name in sk.net.tcp_allowed_congestion_control or cap_net_admin):
        return -errno.EPERM
    tcp_reinit_congestion_control(sk, ca)
    return 0


# ---------------------------------------------------------------- reno


@cited("net/ipv4/tcp_cong.c:tcp_slow_start", "RFC 5681 3.1")
def tcp_slow_start(sk: Sock, acked: int) -> int:
    """Each acknowledged segment makes room for one more, up to the threshold; returns those left over."""
    cwnd = cong.slow_start_window(cast(cong.Cwnd, sk), acked)
    acked -= cwnd - sk.snd_cwnd
    sk.snd_cwnd = min(cwnd, sk.snd_cwnd_clamp)
    return acked


@cited("net/ipv4/tcp_cong.c:tcp_cong_avoid_ai", "RFC 5681 3.1")
def tcp_cong_avoid_ai(sk: Sock, w: int, acked: int) -> None:
    """Every `w` acknowledged segments make room for one more; credit from a greater `w` counts for one at most."""
    cwnd = sk.snd_cwnd
    cnt = sk.snd_cwnd_cnt
    if cnt >= w:
        cnt = 0
        cwnd += 1
    cnt += acked
    if cnt >= w:
        cwnd += cnt // w
        cnt %= w
    sk.snd_cwnd_cnt = cnt
    sk.snd_cwnd = min(cwnd, sk.snd_cwnd_clamp)


@cited("net/ipv4/tcp_cong.c:tcp_reno_cong_avoid", "RFC 5681 3.1")
def tcp_reno_cong_avoid(sk: Sock, ack: int, acked: int) -> None:
    """Reno grows by slow start and then by one segment in a round trip, while the window limits the sender."""
    if not tcp_is_cwnd_limited(sk):
        return
    if tcp_in_slow_start(sk):
        acked = tcp_slow_start(sk, acked)
        if not acked:
            return
    tcp_cong_avoid_ai(sk, sk.snd_cwnd, acked)


@cited("net/ipv4/tcp_cong.c:tcp_reno_ssthresh", "RFC 5681 3.1")
def tcp_reno_ssthresh(sk: Sock) -> int:
    """Half the window, 2 at least."""
    return cong.tcp_reno_ssthresh(cast(cong.Cwnd, sk))


@cited("net/ipv4/tcp_cong.c:tcp_reno_undo_cwnd")
def tcp_reno_undo_cwnd(sk: Sock) -> int:
    """The window as it was before a reduction that proved wrong."""
    return cong.tcp_reno_undo_cwnd(cast(cong.Cwnd, sk))


RENO: Final = tcp_register_congestion_control(
    CongestionOps(
        name="reno",
        flags=TCP_CONG_NON_RESTRICTED,
        ssthresh=tcp_reno_ssthresh,
        cong_avoid=tcp_reno_cong_avoid,
        undo_cwnd=tcp_reno_undo_cwnd,
    )
)


# ---------------------------------------------------------------- cubic


CUBIC_PARAMS: Final = {hz: cubic.CubicParams(hz=hz) for hz in (100, 250, 300, 1000)}


def bictcp(sk: Sock) -> cubic.Bictcp:
    """The socket's struct bictcp, all zero before the connection stands."""
    if sk.icsk_ca_priv is None:
        sk.icsk_ca_priv = cubic.Bictcp()
    return cast(cubic.Bictcp, sk.icsk_ca_priv)


@cited("net/ipv4/tcp_cubic.c:cubictcp_init")
def cubictcp_init(sk: Sock) -> None:
    """Nothing is known, and a round begins."""
    sk.icsk_ca_priv, _ = cubic.bictcp_reset(cubic.Bictcp(), sk.tcp_mstamp & M32, sk.snd_nxt)


@cited("net/ipv4/tcp_cubic.c:cubictcp_cwnd_event")
def cubictcp_cwnd_event(sk: Sock, event: int) -> None:
    """When sending starts again the time of silence is taken out of the epoch."""
    if event == CA_EVENT_TX_START:
        sk.icsk_ca_priv, _ = cubic.cubictcp_tx_start(bictcp(sk), sk.net.jiffies & M32, sk.lsndtime & M32)


@cited("net/ipv4/tcp_cubic.c:cubictcp_cong_avoid", "RFC 9438 4.4")
def cubictcp_cong_avoid(sk: Sock, ack: int, acked: int) -> None:
    """Cubic grows by slow start and then along its function, while the window limits the sender."""
    if not tcp_is_cwnd_limited(sk):
        return
    if tcp_in_slow_start(sk):
        acked = tcp_slow_start(sk, acked)
        if not acked:
            return
    net = sk.net
    ca, _ = cubic.bictcp_update(bictcp(sk), sk.snd_cwnd, acked, net.jiffies & M32, CUBIC_PARAMS[net.hz])
    sk.icsk_ca_priv = ca
    tcp_cong_avoid_ai(sk, ca.cnt, acked)


@cited("net/ipv4/tcp_cubic.c:cubictcp_recalc_ssthresh", "RFC 9438 4.6")
def cubictcp_recalc_ssthresh(sk: Sock) -> int:
    """A loss ends the epoch and remembers the maximum; the threshold is 0.7 of the window."""
    ca = bictcp(sk)
    cwnd = sk.snd_cwnd
    sk.icsk_ca_priv = replace(ca, epoch_start=0, last_max_cwnd=cubic.cubic_max(cwnd, ca.last_max_cwnd))
    return cubic.cubic_ssthresh(cwnd)


@cited("net/ipv4/tcp_cubic.c:cubictcp_state")
def cubictcp_state(sk: Sock, new_state: CA) -> None:
    """After a timeout everything is forgotten."""
    if new_state == CA.Loss:
        sk.icsk_ca_priv, _ = cubic.bictcp_reset(bictcp(sk), sk.tcp_mstamp & M32, sk.snd_nxt)


@cited("net/ipv4/tcp_cubic.c:hystart_update", "RFC 9406 4.2")
def hystart_update(sk: Sock, ca: cubic.Bictcp, delay: int) -> cubic.Bictcp:
    """A train of ACKs that lasts, or a delay that grows, ends slow start at this window."""
    e = cubic.BictcpAcked(
        rtt_us=delay,
        now=sk.net.jiffies & M32,
        mstamp=sk.tcp_mstamp & M32,
        snd_una=sk.snd_una,
        snd_nxt=sk.snd_nxt,
        snd_cwnd=sk.snd_cwnd,
        ack_delay=cubic.hystart_ack_delay(sk.sk_pacing_rate, sk.sk_gso_max_size),
        paced=sk.sk_pacing_status != SK_PACING_NONE,
    )
    ca = cubic.hystart_round(ca, e)
    cwnd = sk.snd_cwnd
    if cwnd < cubic.HYSTART_LOW_WINDOW:
        return ca
    net = sk.net
    if net.hystart_detect & HYSTART_ACK_TRAIN and cubic.in_train(ca, e):
        found = cubic.hystart_train(ca, e)
        ca = replace(ca, last_ack=e.mstamp, found=found or ca.found)
        if found:
            net.note("hystart_update", f"ACK train, cwnd {cwnd}")
            net.count("TcpExtTCPHystartTrainDetect")
            net.count("TcpExtTCPHystartTrainCwnd", cwnd)
            sk.snd_ssthresh = cwnd
    if net.hystart_detect & HYSTART_DELAY:
        curr_rtt = min(ca.curr_rtt, delay)
        found = cubic.hystart_delay(ca, curr_rtt)
        ca = replace(
            ca,
            curr_rtt=curr_rtt,
            sample_cnt=min(ca.sample_cnt + 1, cubic.HYSTART_MIN_SAMPLES),
            found=found or ca.found,
        )
        if found:
            net.note("hystart_update", f"delay {curr_rtt} us, cwnd {cwnd}")
            net.count("TcpExtTCPHystartDelayDetect")
            net.count("TcpExtTCPHystartDelayCwnd", cwnd)
            sk.snd_ssthresh = cwnd
    return ca


@cited("net/ipv4/tcp_cubic.c:cubictcp_acked")
def cubictcp_acked(sk: Sock, sample: AckedSample) -> None:
    """A sample of the delay counts but for the second after a loss; in slow start HyStart looks at it."""
    delay = sample.rtt_us
    if delay < 0:
        return
    ca = bictcp(sk)
    if ca.epoch_start:
        since = (sk.net.jiffies - ca.epoch_start) & M32
        if since >= H32 or since < sk.net.hz:
            return
    delay = max(delay, 1)
    if ca.delay_min == 0 or ca.delay_min > delay:
        ca = replace(ca, delay_min=delay)
    if not ca.found and sk.net.hystart_detect and tcp_in_slow_start(sk):
        ca = hystart_update(sk, ca, delay)
    sk.icsk_ca_priv = ca


CUBIC: Final = tcp_register_congestion_control(
    CongestionOps(
        name="cubic",
        init=cubictcp_init,
        ssthresh=cubictcp_recalc_ssthresh,
        cong_avoid=cubictcp_cong_avoid,
        set_state=cubictcp_state,
        undo_cwnd=tcp_reno_undo_cwnd,
        cwnd_event=cubictcp_cwnd_event,
        pkts_acked=cubictcp_acked,
    )
)


# ---------------------------------------------------------------- dctcp


class Dctcp:
    """struct dctcp with its tcp_plb_state."""

    __slots__ = (
        "ce_state",
        "consec_cong_rounds",
        "dctcp_alpha",
        "loss_cwnd",
        "next_seq",
        "old_delivered",
        "old_delivered_ce",
        "pause_until",
        "prior_rcv_nxt",
    )

    def __init__(self, sk: Sock) -> None:
        self.prior_rcv_nxt = sk.rcv_nxt
        self.dctcp_alpha = DCTCP_MAX_ALPHA
        self.loss_cwnd = 0
        self.ce_state = 0
        self.consec_cong_rounds = 0
        self.pause_until = 0  # jiffies
        self.next_seq = 0
        self.old_delivered = 0
        self.old_delivered_ce = 0
        self.reset(sk)

    def reset(self, sk: Sock) -> None:
        """A round begins; source net/ipv4/tcp_dctcp.c:dctcp_reset."""
        self.next_seq = sk.snd_nxt
        self.old_delivered = sk.delivered
        self.old_delivered_ce = sk.delivered_ce


def dctcp_of(sk: Sock) -> Dctcp:
    """The socket's struct dctcp; one that was never initialised is all zeros."""
    if sk.icsk_ca_priv is None:
        ca = Dctcp(sk)
        ca.prior_rcv_nxt = ca.dctcp_alpha = ca.next_seq = ca.old_delivered = ca.old_delivered_ce = 0
        sk.icsk_ca_priv = ca
    return cast(Dctcp, sk.icsk_ca_priv)


@cited("net/ipv4/tcp_dctcp.c:dctcp_init", "RFC 8257 3.4")
def dctcp_init(sk: Sock) -> None:
    """With ECN dctcp begins; without, its reno does."""
    if sk.ecn_flags & TCP_ECN_OK or sk.sk_state in (St.LISTEN, St.CLOSE):
        sk.icsk_ca_priv = Dctcp(sk)
        return
    sk.icsk_ca_ops = DCTCP_RENO
    INET_ECN_dontxmit(sk)


@cited("net/ipv4/tcp_dctcp.c:dctcp_ssthresh", "RFC 8257 3.3")
def dctcp_ssthresh(sk: Sock) -> int:
    """The window less half of the share that was marked."""
    ca = dctcp_of(sk)
    ca.loss_cwnd = sk.snd_cwnd
    return max(sk.snd_cwnd - (((sk.snd_cwnd * ca.dctcp_alpha) & M32) >> 11), 2)


@cited("net/ipv4/tcp_dctcp.c:dctcp_update_alpha", "RFC 8257 3.3")
def dctcp_update_alpha(sk: Sock, flags: int) -> None:
    """Once in a round trip the share of marked segments moves the average by a sixteenth."""
    ca = dctcp_of(sk)
    if before(sk.snd_una, ca.next_seq):
        return
    delivered = (sk.delivered - ca.old_delivered) & M32
    delivered_ce = (sk.delivered_ce - ca.old_delivered_ce) & M32
    alpha = ca.dctcp_alpha
    if delivered > 0 and sk.net.p.kernel >= 612:
        tcp_plb_update_state(sk, ca, (delivered_ce << TCP_PLB_SCALE) // delivered)
        tcp_plb_check_rehash(sk, ca)
    less = alpha >> DCTCP_SHIFT_G
    alpha -= min(alpha, less) if less else alpha
    if delivered_ce:
        share = (delivered_ce << (10 - DCTCP_SHIFT_G) & M32) // max(1, delivered)
        alpha = min(alpha + share, DCTCP_MAX_ALPHA)
    ca.dctcp_alpha = alpha
    ca.reset(sk)


@cited("net/ipv4/tcp_dctcp.c:dctcp_react_to_loss", "RFC 8257 3.5")
def dctcp_react_to_loss(sk: Sock) -> None:
    """A loss halves the threshold as reno's does."""
    dctcp_of(sk).loss_cwnd = sk.snd_cwnd
    sk.snd_ssthresh = max(sk.snd_cwnd >> 1, 2)


@cited("net/ipv4/tcp_dctcp.c:dctcp_state")
def dctcp_state(sk: Sock, new_state: CA) -> None:
    """Fast recovery begins with a reduction; a timeout has its own event."""
    if new_state == CA.Recovery and new_state != sk.icsk_ca_state:
        dctcp_react_to_loss(sk)


def dctcp_ece_ack_cwr(sk: Sock, ce_state: int) -> None:
    """Whether ACKs carry ECE; source net/ipv4/tcp_dctcp.h:dctcp_ece_ack_cwr."""
    if ce_state == 1:
        sk.ecn_flags |= TCP_ECN_DEMAND_CWR
    else:
        sk.ecn_flags &= ~TCP_ECN_DEMAND_CWR


@cited("net/ipv4/tcp_dctcp.h:dctcp_ece_ack_update", "RFC 8257 3.2")
def dctcp_ece_ack_update(sk: Sock, evt: int, ca: Dctcp) -> None:
    """Where marks begin or end, what was received before is acknowledged at once, with its own ECE."""
    new_ce_state = 1 if evt == CA_EVENT_ECN_IS_CE else 0
    if ca.ce_state != new_ce_state:
        if sk.icsk_ack.pending & ICSK_ACK_TIMER:
            dctcp_ece_ack_cwr(sk, ca.ce_state)
            sk.net.cause = "dctcp_ece_ack_update"
            transmit.__tcp_send_ack(sk, ca.prior_rcv_nxt, 0)
        sk.icsk_ack.pending |= ICSK_ACK_NOW
    ca.prior_rcv_nxt = sk.rcv_nxt
    ca.ce_state = new_ce_state
    dctcp_ece_ack_cwr(sk, new_ce_state)


@cited("net/ipv4/tcp_dctcp.c:dctcp_cwnd_event")
def dctcp_cwnd_event(sk: Sock, ev: int) -> None:
    """Marks that arrive change the ACKs; a timeout halves the threshold."""
    ca = dctcp_of(sk)
    if ev in (CA_EVENT_ECN_IS_CE, CA_EVENT_ECN_NO_CE):
        dctcp_ece_ack_update(sk, ev, ca)
    elif ev == CA_EVENT_LOSS:
        if sk.net.p.kernel >= 612:
            tcp_plb_update_state_upon_rto(sk, ca)
        dctcp_react_to_loss(sk)
    elif ev == CA_EVENT_TX_START and sk.net.p.kernel >= 612:
        tcp_plb_check_rehash(sk, ca)


@cited("net/ipv4/tcp_dctcp.c:dctcp_get_info")
def dctcp_get_info(sk: Sock, ext: int) -> tuple[int, bytes] | None:
    """struct tcp_dctcp_info: all zeros while reno stands in for it."""
    if not ext & (1 << (INET_DIAG_DCTCPINFO - 1) | 1 << (INET_DIAG_VEGASINFO - 1)):
        return None
    if sk.icsk_ca_ops is DCTCP_RENO:
        return INET_DIAG_DCTCPINFO, bytes(16)
    ca = dctcp_of(sk)
    ecn = sk.mss_cache * ((sk.delivered_ce - ca.old_delivered_ce) & M32) & M32
    tot = sk.mss_cache * ((sk.delivered - ca.old_delivered) & M32) & M32
    return INET_DIAG_DCTCPINFO, struct.pack("=HHIII", 1, ca.ce_state, ca.dctcp_alpha, ecn, tot)


@cited("net/ipv4/tcp_dctcp.c:dctcp_cwnd_undo")
def dctcp_cwnd_undo(sk: Sock) -> int:
    """The window of before the last reduction, or this one if it is greater."""
    return max(sk.snd_cwnd, dctcp_of(sk).loss_cwnd)


# ---------------------------------------------------------------- tcp_plb.c


@cited("net/ipv4/tcp_plb.c:tcp_plb_update_state")
def tcp_plb_update_state(sk: Sock, plb: Dctcp, cong_ratio: int) -> None:
    """Counts the round trips in a row in which the path was congested."""
    p = sk.net.p
    if not p.tcp_plb_enabled or cong_ratio < 0:
        return
    if cong_ratio < p.tcp_plb_cong_thresh:
        plb.consec_cong_rounds = 0
    elif plb.consec_cong_rounds < p.tcp_plb_rehash_rounds:
        plb.consec_cong_rounds += 1


@cited("net/ipv4/tcp_plb.c:tcp_plb_check_rehash")
def tcp_plb_check_rehash(sk: Sock, plb: Dctcp) -> None:
    """After so many congested round trips another path is sought by another hash; an idle one moves sooner."""
    p = sk.net.p
    if not p.tcp_plb_enabled:
        return
    forced = plb.consec_cong_rounds >= p.tcp_plb_rehash_rounds
    idle = (
        p.tcp_plb_idle_rehash_rounds != 0
        and not sk.packets_out
        and plb.consec_cong_rounds >= p.tcp_plb_idle_rehash_rounds
    )
    if not forced and not idle:
        return
    now = sk.net.jiffies & M32
    max_suspend = 2 * p.tcp_plb_suspend_rto_sec * sk.net.hz
    if plb.pause_until and (not before(now, plb.pause_until) or before((now + max_suspend) & M32, plb.pause_until)):
        plb.pause_until = 0
    if plb.pause_until:
        return
    timer.sk_rethink_txhash(sk)
    plb.consec_cong_rounds = 0
    sk.plb_rehash += 1
    sk.net.count("TcpExtTCPPLBRehash")


@cited("net/ipv4/tcp_plb.c:tcp_plb_update_state_upon_rto")
def tcp_plb_update_state_upon_rto(sk: Sock, plb: Dctcp) -> None:
    """A timeout changes the path by itself: no other change for a minute or two."""
    p = sk.net.p
    if not p.tcp_plb_enabled:
        return
    pause = p.tcp_plb_suspend_rto_sec * sk.net.hz
    pause += sk.net.random() * pause >> 32
    plb.pause_until = (sk.net.jiffies + pause) & M32
    plb.consec_cong_rounds = 0


DCTCP: Final = tcp_register_congestion_control(
    CongestionOps(
        name="dctcp",
        flags=TCP_CONG_NEEDS_ECN,
        init=dctcp_init,
        in_ack_event=dctcp_update_alpha,
        cwnd_event=dctcp_cwnd_event,
        ssthresh=dctcp_ssthresh,
        cong_avoid=tcp_reno_cong_avoid,
        undo_cwnd=dctcp_cwnd_undo,
        set_state=dctcp_state,
        get_info=dctcp_get_info,
    )
)
DCTCP_RENO: Final = CongestionOps(
    name="dctcp-reno",
    ssthresh=tcp_reno_ssthresh,
    cong_avoid=tcp_reno_cong_avoid,
    undo_cwnd=tcp_reno_undo_cwnd,
    get_info=dctcp_get_info,
)
