"""TCP's timers: retransmission, window probes, keepalive, delayed ACKs, pacing (net/ipv4/tcp_timer.c).

The law: a timer only says that time has passed. Its handler looks at what is pending in the socket, and a timer that is
too early, or whose reason is gone, changes nothing. While an application holds the socket the work is put off until it
lets go. Times are jiffies; `retrans_stamp` and what is measured from it are ms (us with `tcp_usec_ts`).
"""

import errno
from typing import Final

from refmodel.rule import cited
from refmodel.tcp import delack
from refmodel.tcp.state import St
from refmodel.tcp.whole import data, fastopen, inet, listen, minisocks, output, rcv, recovery, retransmit, transmit
from refmodel.tcp.whole.const import (
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
)
from refmodel.tcp.whole.net import (
    inet_csk_delete_keepalive_timer,
    inet_csk_reset_keepalive_timer,
    inet_csk_reset_xmit_timer,
    sk_reset_timer,
    tcp_rto_max,
)
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import CA, RequestSock, Sock
from refmodel.tcp.whole.tcp_h import (
    tcp_in_initial_slowstart,
    tcp_is_sack,
    tcp_rto_min,
    tcp_skb_timestamp_ts,
    tcp_time_stamp_ms,
    tcp_time_stamp_ts,
)
from refmodel.types import H32, M32

TCP_THIN_LINEAR_RETRIES: Final = 6
TCP_TIMEOUT_MIN: Final = 2  # jiffies
SYN_STATES: Final = (St.SYN_SENT, St.SYN_RECV)
GONE: Final = (St.CLOSE, St.LISTEN)


# ---------------------------------------------------------------- include/net/tcp.h: clocks and bounds


def tcp_timeout_init(sk: Sock) -> int:
    """The first timeout (jiffies) of a SYN or SYN-ACK; source include/net/tcp.h:tcp_timeout_init."""
    return min(sk.net.hz, tcp_rto_max(sk))


def tcp_stream_is_thin(sk: Sock) -> bool:
    """Too few segments are out to tell a loss without a timeout; source include/net/tcp.h:tcp_stream_is_thin."""
    return sk.packets_out < 4 and not tcp_in_initial_slowstart(sk)


def tcp_set_rto_value(sk: Sock) -> int:
    """The timeout (jiffies) that the estimate gives; source include/net/tcp.h:__tcp_set_rto."""
    return sk.net.usecs_to_jiffies((sk.srtt_us >> 3) + sk.rttvar_us)


def inet_csk_rto_backoff(sk: Sock, max_when: int) -> int:
    """The timeout (jiffies) with its back-off; source include/net/inet_connection_sock.h:inet_csk_rto_backoff."""
    return min(sk.icsk_rto << sk.icsk_backoff, max_when)


def keepalive_intvl_when(sk: Sock) -> int:
    """Jiffies between keepalive probes; source include/net/tcp.h:keepalive_intvl_when."""
    return sk.keepalive_intvl or sk.net.p.tcp_keepalive_intvl * sk.net.hz


def keepalive_time_when(sk: Sock) -> int:
    """Jiffies of silence before the first probe; source include/net/tcp.h:keepalive_time_when."""
    return sk.keepalive_time or sk.net.p.tcp_keepalive_time * sk.net.hz


def keepalive_probes(sk: Sock) -> int:
    """How many probes may go unanswered; source include/net/tcp.h:keepalive_probes."""
    return sk.keepalive_probes or sk.net.p.tcp_keepalive_probes


def keepalive_time_elapsed(sk: Sock) -> int:
    """Jiffies since anything arrived; source include/net/tcp.h:keepalive_time_elapsed."""
    now = sk.net.jiffies
    return min((now - sk.icsk_ack.lrcvtime) & M32, (now - sk.rcv_tstamp) & M32)


def tcp_fin_time(sk: Sock) -> int:
    """How long (jiffies) an orphan waits for a FIN: 3.5 RTO at least; source include/net/tcp.h:tcp_fin_time."""
    fin_timeout = sk.linger2 or sk.net.p.tcp_fin_timeout * sk.net.hz
    rto = sk.icsk_rto
    return max(fin_timeout, (rto << 2) - (rto >> 1))


# ---------------------------------------------------------------- when to give up


@cited("net/ipv4/tcp_timer.c:tcp_clamp_rto_to_user_timeout", "RFC 5482 3")
def tcp_clamp_rto_to_user_timeout(sk: Sock) -> int:
    """The timeout (jiffies), cut so that the timer runs out no later than the application's patience."""
    user_timeout = sk.icsk_user_timeout
    if not user_timeout:
        return sk.icsk_rto
    elapsed = (tcp_time_stamp_ts(sk) - sk.retrans_stamp) & M32
    if sk.tcp_usec_ts:
        elapsed //= 1000
    remaining = user_timeout - elapsed
    if remaining <= 0:
        return 1
    return min(sk.icsk_rto, sk.net.msecs_to_jiffies(remaining))


@cited("net/ipv4/tcp_timer.c:tcp_clamp_probe0_to_user_timeout", "RFC 5482 3")
def tcp_clamp_probe0_to_user_timeout(sk: Sock, when: int) -> int:
    """A window probe's interval (jiffies), cut likewise, two jiffies at least."""
    user_timeout = sk.icsk_user_timeout
    if not user_timeout or not sk.icsk_probes_tstamp:
        return when
    elapsed = max(sk.net.jiffies - sk.icsk_probes_tstamp, 0)
    remaining = max(sk.net.msecs_to_jiffies(user_timeout) - elapsed, TCP_TIMEOUT_MIN)
    return min(remaining, when)


@cited("net/ipv4/tcp_timer.c:tcp_write_err")
def tcp_write_err(sk: Sock) -> None:
    """The connection is given up: the application gets the last soft error, or ETIMEDOUT."""
    err = sk.sk_err_soft or errno.ETIMEDOUT
    sk.net.note("tcp_write_err", errno.errorcode.get(err, str(err)))
    rcv.tcp_done_with_error(sk, err)
    sk.net.count("TcpExtTCPAbortOnTimeout")


@cited("net/ipv4/tcp_timer.c:tcp_out_of_resources")
def tcp_out_of_resources(sk: Sock, do_reset: bool) -> bool:
    """An orphan is killed if there are too many of them; one that long sent nothing counts for more."""
    shift = 0
    if sk.net.jiffies - sk.lsndtime > 2 * tcp_rto_max(sk) or not do_reset:
        shift += 1
    if sk.sk_err_soft:
        shift += 1
    if inet.tcp_check_oom(sk, shift):
        if sk.net.jiffies - sk.lsndtime <= 60 * sk.net.hz or (not sk.snd_wnd and not sk.packets_out):
            do_reset = True
        if do_reset:
            sk.net.cause = "tcp_out_of_resources"
            transmit.tcp_send_active_reset(sk)
        inet.tcp_done(sk)
        sk.net.count("TcpExtTCPAbortOnMemory")
        return True
    return False


@cited("net/ipv4/tcp_timer.c:tcp_orphan_retries")
def tcp_orphan_retries(sk: Sock, alive: bool) -> int:
    """How often an orphan is retried: the sysctl, eight times if that is 0 and the timeout hasn't reached its top."""
    retries = sk.net.p.tcp_orphan_retries
    if sk.sk_err_soft and not alive:
        retries = 0
    if retries == 0 and alive:
        retries = 8
    return retries


@cited("net/ipv4/tcp_timer.c:tcp_mtu_probing", "RFC 4821 7.6.1")
def tcp_mtu_probing(sk: Sock) -> None:
    """After tcp_retries1 timeouts a black hole is suspected: the search for the MTU starts, or its floor is halved."""
    p = sk.net.p
    if not p.tcp_mtu_probing:
        return
    if not sk.icsk_mtup.enabled:
        sk.icsk_mtup.enabled = True
        sk.icsk_mtup.probe_timestamp = sk.net.jiffies
    else:
        mss = output.tcp_mtu_to_mss(sk, sk.icsk_mtup.search_low) >> 1
        mss = min(p.tcp_base_mss, mss)
        mss = max(mss, p.tcp_mtu_probe_floor)
        mss = max(mss, p.tcp_min_snd_mss)
        sk.icsk_mtup.search_low = output.tcp_mss_to_mtu(sk, mss)
    sk.net.note("tcp_mtu_probing", f"search_low {sk.icsk_mtup.search_low}")
    output.tcp_sync_mss(sk, sk.icsk_pmtu_cookie)


@cited("net/ipv4/tcp_timer.c:tcp_model_timeout")
def tcp_model_timeout(sk: Sock, boundary: int, rto_base: int) -> int:
    """How long (ms) `boundary` timeouts take that double from `rto_base` (jiffies) up to the ceiling."""
    rto_max = tcp_rto_max(sk)
    linear_backoff_thresh = (rto_max // rto_base).bit_length() - 1
    if boundary <= linear_backoff_thresh:
        timeout = ((2 << boundary) - 1) * rto_base
    else:
        timeout = ((2 << linear_backoff_thresh) - 1) * rto_base + (boundary - linear_backoff_thresh) * rto_max
    return sk.net.jiffies_to_msecs(timeout & M32)


@cited("net/ipv4/tcp_timer.c:retransmits_timed_out", "RFC 9293 3.8.3")
def retransmits_timed_out(sk: Sock, boundary: int, timeout: int) -> bool:
    """Retransmission has gone on for `timeout` ms, or, if that is 0, for as long as `boundary` timeouts from 200 ms.

    Time counts and not tries; it starts with the first retransmission.
    """
    if not sk.icsk_retransmits:
        return False
    if timeout == 0:
        rto_base = sk.net.hz // 5
        if sk.sk_state in SYN_STATES:
            rto_base = tcp_timeout_init(sk)
        timeout = tcp_model_timeout(sk, boundary, rto_base)
    if sk.tcp_usec_ts:
        delta = sk.tcp_mstamp - sk.retrans_stamp + sk.net.jiffies_to_usecs(1)
        return (delta - timeout * 1000) & M32 < H32
    return (tcp_time_stamp_ts(sk) - sk.retrans_stamp - timeout) & M32 < H32


def dst_negative_advice(sk: Sock) -> None:
    """The route is doubted: one that expires (a learnt PMTU) is looked up anew.

    Source: net/ipv4/route.c:ipv4_negative_advice.
    """
    if sk.sk_dst is not None and sk.sk_dst.pmtu_expires:
        sk_dst_reset(sk)


def sk_dst_reset(sk: Sock) -> None:
    """The route is forgotten; source include/net/sock.h:__sk_dst_reset."""
    sk.sk_dst = None


def sk_rethink_txhash(sk: Sock) -> bool:
    """Another hash, so that the path may change; source include/net/sock.h:sk_rethink_txhash."""
    if sk.sk_txhash and sk.sk_txrehash == 1:
        sk.sk_txhash = sk.net.random() or 1
        return True
    return False


@cited("net/ipv4/tcp_timer.c:tcp_write_timeout", "RFC 9293 3.8.3", "RFC 1122 4.2.3.5")
def tcp_write_timeout(sk: Sock) -> bool:
    """A retransmission timeout has consequences beyond the retransmission: doubt in the route, or the end.

    True: the connection is gone. SYNs are counted; later segments are timed.
    """
    p = sk.net.p
    expired = False
    if sk.sk_state in SYN_STATES:
        if sk.icsk_retransmits:
            dst_negative_advice(sk)
        retry_until = sk.icsk_syn_retries or p.tcp_syn_retries
        max_retransmits = retry_until
        if sk.sk_state == St.SYN_SENT and p.kernel >= 612:
            max_retransmits += p.tcp_syn_linear_timeouts
        expired = sk.icsk_retransmits >= max_retransmits
    else:
        if retransmits_timed_out(sk, p.tcp_retries1, 0):
            tcp_mtu_probing(sk)
            dst_negative_advice(sk)
        retry_until = p.tcp_retries2
        if "SOCK_DEAD" in sk.sk_flags:
            alive = sk.icsk_rto < tcp_rto_max(sk)
            retry_until = tcp_orphan_retries(sk, alive)
            do_reset = alive or not retransmits_timed_out(sk, retry_until, 0)
            if tcp_out_of_resources(sk, do_reset):
                return True
    if not expired:
        expired = retransmits_timed_out(sk, retry_until, sk.icsk_user_timeout)
    fastopen.tcp_fastopen_active_detect_blackhole(sk, expired)
    if expired:
        tcp_write_err(sk)
        return True
    if sk_rethink_txhash(sk):
        sk.timeout_rehash += 1
        sk.net.count("TcpExtTcpTimeoutRehash")
    return False


# ---------------------------------------------------------------- delayed ACKs


@cited("net/ipv4/tcp_timer.c:tcp_delack_timer_handler", "RFC 9293 3.8.6.3", "RFC 1122 4.2.3.2")
def tcp_delack_timer_handler(sk: Sock) -> None:
    """The ACK that was put off is sent; the next may be put off longer, or, in a dialogue, shorter."""
    if sk.sk_state in GONE:
        return
    ack = sk.icsk_ack
    if sk.compressed_ack:
        transmit.tcp_mstamp_refresh(sk)
        data.tcp_sack_compress_send_ack(sk)
        return
    if not ack.pending & ICSK_ACK_TIMER:
        return
    if ack.timeout > sk.net.jiffies:
        sk_reset_timer(sk, sk.icsk_delack_timer, ack.timeout)
        return
    ack.pending &= ~ICSK_ACK_TIMER
    if ack.pending & ICSK_ACK_SCHED:
        pingpong = ack.pingpong >= sk.net.p.tcp_pingpong_thresh
        longest = delack.longest_ato(sk.icsk_rto, sk.net.hz, sk.net.p.kernel)
        ack.ato = delack.ato_after_expiry(ack.ato, pingpong, longest, sk.net.hz)
        if pingpong:
            ack.pingpong = 0
        transmit.tcp_mstamp_refresh(sk)
        sk.net.cause = "tcp_delack_timer_handler"
        transmit.tcp_send_ack(sk)
        sk.net.count("TcpExtDelayedACKs")


@cited("net/ipv4/tcp_timer.c:tcp_delack_timer")
def tcp_delack_timer(sk: Sock) -> None:
    """The delayed-ACK timer ran out."""
    if not sk.sk_owned:
        tcp_delack_timer_handler(sk)
    else:
        sk.net.count("TcpExtDelayedACKLocked")
        sk.sk_tsq_flags.add("TCP_DELACK_TIMER_DEFERRED")


@cited("net/ipv4/tcp_timer.c:tcp_compressed_ack_kick")
def tcp_compressed_ack_kick(sk: Sock) -> None:
    """The time for which SACKs were gathered is over: one ACK stands for all."""
    if not sk.sk_owned:
        if sk.compressed_ack:
            # The one that is sent doesn't count as compressed.
            sk.compressed_ack -= 1
            sk.net.cause = "tcp_compressed_ack_kick"
            transmit.tcp_send_ack(sk)
    else:
        sk.sk_tsq_flags.add("TCP_DELACK_TIMER_DEFERRED")


# ---------------------------------------------------------------- window probes


@cited("net/ipv4/tcp_timer.c:tcp_probe_timer", "RFC 9293 3.8.6.1", "RFC 1122 4.2.2.17")
def tcp_probe_timer(sk: Sock) -> None:
    """A closed window is probed for as long as the peer answers; an orphan's or an impatient one's only so long."""
    if sk.packets_out or sk.sk_write_queue.head is None:
        sk.icsk_probes_out = 0
        sk.icsk_probes_tstamp = 0
        return
    user_timeout = sk.icsk_user_timeout
    if not sk.icsk_probes_tstamp:
        sk.icsk_probes_tstamp = sk.net.jiffies
    elif user_timeout and sk.net.jiffies - sk.icsk_probes_tstamp >= sk.net.msecs_to_jiffies(user_timeout):
        tcp_write_err(sk)
        return
    max_probes = sk.net.p.tcp_retries2
    if "SOCK_DEAD" in sk.sk_flags:
        rto_max = tcp_rto_max(sk)
        alive = inet_csk_rto_backoff(sk, rto_max) < rto_max
        max_probes = tcp_orphan_retries(sk, alive)
        if not alive and sk.icsk_backoff >= max_probes:
            tcp_write_err(sk)
            return
        if tcp_out_of_resources(sk, True):
            return
    if sk.icsk_probes_out >= max_probes:
        tcp_write_err(sk)
    else:
        retransmit.tcp_send_probe0(sk)


# ---------------------------------------------------------------- retransmission


@cited("net/ipv4/tcp_timer.c:tcp_update_rto_stats")
def tcp_update_rto_stats(sk: Sock) -> None:
    """Counts a timeout, and the first of a row with its time (ms)."""
    if not sk.icsk_retransmits:
        sk.total_rto_recoveries += 1
        sk.rto_stamp = tcp_time_stamp_ms(sk)
    sk.icsk_retransmits = (sk.icsk_retransmits + 1) & 0xFF
    sk.total_rto += 1


@cited("net/ipv4/tcp_timer.c:tcp_fastopen_synack_timer", "RFC 7413 4.2.2")
def tcp_fastopen_synack_timer(sk: Sock, req: RequestSock) -> None:
    """The SYN-ACK of a fast open is repeated on the child's timer, once more often than others."""
    tcp_syn_ack_timeout(req)
    max_retries = sk.icsk_syn_retries or sk.net.p.tcp_synack_retries + 1
    if req.num_timeout >= max_retries:
        tcp_write_err(sk)
        return
    if sk.icsk_retransmits == 1:
        recovery.tcp_enter_loss(sk)
    sk.net.cause = "tcp_fastopen_synack_timer"
    listen.inet_rtx_syn_ack(sk, req)
    req.num_timeout += 1
    tcp_update_rto_stats(sk)
    if not sk.retrans_stamp:
        sk.retrans_stamp = tcp_time_stamp_ts(sk)
    inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, req.timeout << req.num_timeout, tcp_rto_max(sk))


@cited("net/ipv4/tcp_timer.c:tcp_rtx_probe0_timed_out")
def tcp_rtx_probe0_timed_out(sk: Sock, skb: Skb, rtx_delta: int) -> bool:
    """Retransmissions into a window that shrank to 0 are given up after twice the longest timeout without an answer.

    `rtx_delta` (ms) is how long they have gone on; an impatient application counts from the first.
    """
    net = sk.net
    user_timeout = sk.icsk_user_timeout
    timeout = tcp_rto_max(sk) * 2
    if user_timeout:
        if (rtx_delta if net.p.kernel >= 612 else net.msecs_to_jiffies(rtx_delta)) > user_timeout:
            return True
        timeout = min(timeout, net.msecs_to_jiffies(user_timeout))
    rcv_delta = sk.icsk_timeout - sk.rcv_tstamp
    if rcv_delta <= timeout:
        return False
    return net.msecs_to_jiffies(rtx_delta) > timeout


def failure_counter(sk: Sock) -> str:
    """The counter of what the first timeout of a row put an end to, "" for none."""
    if sk.icsk_ca_state == CA.Recovery:
        return "TcpExtTCPSackRecoveryFail" if tcp_is_sack(sk) else "TcpExtTCPRenoRecoveryFail"
    if sk.icsk_ca_state == CA.Loss:
        return "TcpExtTCPLossFailures"
    if sk.icsk_ca_state == CA.Disorder or sk.sacked_out:
        return "TcpExtTCPSackFailures" if tcp_is_sack(sk) else "TcpExtTCPRenoFailures"
    return ""


@cited("net/ipv4/tcp_timer.c:tcp_retransmit_timer", "RFC 6298 5.4", "RFC 6298 5.5", "RFC 9293 3.8.1")
def tcp_retransmit_timer(sk: Sock) -> None:
    """The oldest segment is repeated, all that was sent counts as lost, and the timeout doubles."""
    net = sk.net
    req = sk.fastopen_rsk
    if req is not None:
        tcp_fastopen_synack_timer(sk, req)
        return
    if not sk.packets_out:
        return
    skb = sk.tcp_rtx_queue.head
    if skb is None:
        return
    if not sk.snd_wnd and "SOCK_DEAD" not in sk.sk_flags and sk.sk_state not in SYN_STATES:
        # The peer took its window back: what is repeated are probes, and they end only without an answer.
        since = sk.retrans_stamp or tcp_skb_timestamp_ts(sk.tcp_usec_ts, skb)
        rtx_delta = (tcp_time_stamp_ts(sk) - since) & M32
        if sk.tcp_usec_ts:
            rtx_delta //= 1000
        if tcp_rtx_probe0_timed_out(sk, skb, rtx_delta):
            tcp_write_err(sk)
            return
        recovery.tcp_enter_loss(sk)
        net.cause = "tcp_retransmit_timer"
        retransmit.tcp_retransmit_skb(sk, skb, 1)
        sk_dst_reset(sk)
    else:
        net.count("TcpExtTCPTimeouts")
        if tcp_write_timeout(sk):
            return
        if sk.icsk_retransmits == 0:
            mib = failure_counter(sk)
            if mib:
                net.count(mib)
        recovery.tcp_enter_loss(sk)
        tcp_update_rto_stats(sk)
        net.note("tcp_retransmit_timer", f"timeout {sk.icsk_retransmits}, icsk_rto {sk.icsk_rto}")
        net.cause = "tcp_retransmit_timer"
        head = sk.tcp_rtx_queue.head
        assert head is not None
        if retransmit.tcp_retransmit_skb(sk, head, 1) > 0:
            inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, net.hz // 2, tcp_rto_max(sk))
            return
        if net.p.kernel < 612:
            sk.icsk_backoff = (sk.icsk_backoff + 1) & 0xFF
    back_off(sk)
    inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, tcp_clamp_rto_to_user_timeout(sk), tcp_rto_max(sk))
    if retransmits_timed_out(sk, net.p.tcp_retries1 + 1, 0):
        sk_dst_reset(sk)


def back_off(sk: Sock) -> None:
    """The timeout doubles, but for a thin stream's first six and the first SYNs; tail of tcp_retransmit_timer."""
    p = sk.net.p
    if (
        sk.sk_state == St.ESTABLISHED
        and (sk.thin_lto or p.tcp_thin_linear_timeouts)
        and tcp_stream_is_thin(sk)
        and sk.icsk_retransmits <= TCP_THIN_LINEAR_RETRIES
    ):
        sk.icsk_backoff = 0
        sk.icsk_rto = min(max(tcp_set_rto_value(sk), tcp_rto_min(sk)), tcp_rto_max(sk))
    elif p.kernel < 612:
        sk.icsk_rto = min(sk.icsk_rto << 1, tcp_rto_max(sk))
    elif sk.sk_state != St.SYN_SENT or sk.total_rto > p.tcp_syn_linear_timeouts:
        sk.icsk_backoff = (sk.icsk_backoff + 1) & 0xFF
        sk.icsk_rto = min(sk.icsk_rto << 1, tcp_rto_max(sk))


@cited("net/ipv4/tcp_timer.c:tcp_write_timer_handler")
def tcp_write_timer_handler(sk: Sock) -> None:
    """Does what the retransmission timer was armed for, if its time has come."""
    if sk.sk_state in GONE or not sk.icsk_pending:
        return
    if sk.icsk_timeout > sk.net.jiffies:
        sk_reset_timer(sk, sk.icsk_retransmit_timer, sk.icsk_timeout)
        return
    transmit.tcp_mstamp_refresh(sk)
    event = sk.icsk_pending
    if event == ICSK_TIME_REO_TIMEOUT:
        recovery.tcp_rack_reo_timeout(sk)
    elif event == ICSK_TIME_LOSS_PROBE:
        retransmit.tcp_send_loss_probe(sk)
    elif event == ICSK_TIME_RETRANS:
        sk.icsk_pending = 0
        tcp_retransmit_timer(sk)
    elif event == ICSK_TIME_PROBE0:
        sk.icsk_pending = 0
        tcp_probe_timer(sk)


@cited("net/ipv4/tcp_timer.c:tcp_write_timer")
def tcp_write_timer(sk: Sock) -> None:
    """The retransmission timer ran out."""
    if not sk.sk_owned:
        tcp_write_timer_handler(sk)
    else:
        sk.sk_tsq_flags.add("TCP_WRITE_TIMER_DEFERRED")


@cited("net/ipv4/tcp_timer.c:tcp_syn_ack_timeout")
def tcp_syn_ack_timeout(req: RequestSock) -> None:
    """Counts the timeout of a SYN-ACK."""
    req.net.count("TcpExtTCPTimeouts")


@cited("net/ipv4/tcp_output.c:tcp_pace_kick")
def tcp_pace_kick(sk: Sock) -> None:
    """The time has come at which pacing lets the next segment go."""
    output.tcp_tsq_handler(sk)


# ---------------------------------------------------------------- keepalive


@cited("net/ipv4/tcp_timer.c:tcp_set_keepalive", "RFC 9293 3.8.4")
def tcp_set_keepalive(sk: Sock, val: int) -> None:
    """SO_KEEPALIVE is set or cleared; the flag itself changes afterwards."""
    if sk.sk_state in GONE:
        return
    if val and "SOCK_KEEPOPEN" not in sk.sk_flags:
        inet_csk_reset_keepalive_timer(sk, keepalive_time_when(sk))
    elif not val:
        inet_csk_delete_keepalive_timer(sk)


@cited("net/ipv4/tcp_timer.c:tcp_keepalive_timer", "RFC 9293 3.8.4", "RFC 1122 4.2.3.6")
def tcp_keepalive_timer(sk: Sock) -> None:
    """A silent peer is probed and given up; an orphan in FIN-WAIT-2 has waited long enough for the peer's FIN."""
    net = sk.net
    if sk.sk_owned:
        inet_csk_reset_keepalive_timer(sk, net.hz // 20)
        return
    if sk.sk_state == St.LISTEN:
        return
    transmit.tcp_mstamp_refresh(sk)
    if sk.sk_state == St.FIN_WAIT2 and "SOCK_DEAD" in sk.sk_flags:
        if sk.linger2 >= 0:
            tmo = tcp_fin_time(sk) - 60 * net.hz
            if tmo > 0:
                minisocks.tcp_time_wait(sk, St.FIN_WAIT2, tmo)
                return
        net.cause = "tcp_keepalive_timer"
        transmit.tcp_send_active_reset(sk)
        inet.tcp_done(sk)
        return
    if "SOCK_KEEPOPEN" not in sk.sk_flags or sk.sk_state in (St.CLOSE, St.SYN_SENT):
        return
    elapsed = keepalive_time_when(sk)
    if not sk.packets_out and sk.sk_write_queue.head is None:
        elapsed = keepalive_time_elapsed(sk)
        if elapsed >= keepalive_time_when(sk):
            user_timeout = sk.icsk_user_timeout
            if (
                sk.icsk_probes_out > 0 and elapsed >= net.msecs_to_jiffies(user_timeout)
                if user_timeout
                else sk.icsk_probes_out >= keepalive_probes(sk)
            ):
                net.cause = "tcp_keepalive_timer"
                transmit.tcp_send_active_reset(sk)
                tcp_write_err(sk)
                return
            net.cause = "tcp_keepalive_timer"
            if retransmit.tcp_write_wakeup(sk, "TcpExtTCPKeepAlive") <= 0:
                sk.icsk_probes_out = (sk.icsk_probes_out + 1) & 0xFF
                elapsed = keepalive_intvl_when(sk)
            else:
                elapsed = net.hz // 2
        else:
            elapsed = keepalive_time_when(sk) - elapsed
    inet_csk_reset_keepalive_timer(sk, elapsed)


@cited("net/ipv4/tcp_timer.c:tcp_init_xmit_timers")
def tcp_init_xmit_timers(sk: Sock) -> None:
    """A socket begins without any timer armed and nothing pending."""
    sk.icsk_pending = 0
    sk.icsk_ack.pending = 0
    sk.net.init_timers(sk)
