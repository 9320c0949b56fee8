"""What may be sent now, and how much at once (net/ipv4/tcp_output.c).

The law: `tcp_write_xmit` takes the unsent skbs in order and stops at the first that pacing, the congestion window, the
peer's window, Nagle's rule, the wish for larger super-segments or full device queues hold back. What it sends moves to
the retransmit queue at the instant of sending.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp import nagle
from refmodel.tcp.state import St
from refmodel.tcp.whole import accecn, ack, ca, retransmit, route, sendmsg, shift, transmit
from refmodel.tcp.whole.const import (
    ACK,
    CA_EVENT_CWND_RESTART,
    FIN,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    SK_PACING_NONE,
    TCP_ECN_MODE_ACCECN,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
)
from refmodel.tcp.whole.net import tcp_reset_xmit_timer, tcp_rto_max
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import CA, Sock
from refmodel.tcp.whole.tcp_h import (
    sk_mem_charge,
    tcp_current_ssthresh,
    tcp_in_cwnd_reduction,
    tcp_is_cwnd_limited,
    tcp_min_rtt,
    tcp_packets_in_flight,
    tcp_probe0_base,
    tcp_skb_can_collapse,
    tcp_wnd_end,
)
from refmodel.types import M32, add, after, before

NSEC_PER_MSEC: Final = 1_000_000
TCP_CHRONO_UNSPEC: Final = 0
TCP_CHRONO_BUSY: Final = 1
TCP_CHRONO_RWND_LIMITED: Final = 2
TCP_CHRONO_SNDBUF_LIMITED: Final = 3
SENDING: Final = (St.ESTABLISHED, St.FIN_WAIT1, St.CLOSING, St.CLOSE_WAIT, St.LAST_ACK)
TCP_SEND_QUEUE: Final = 2


def tcp_under_memory_pressure(sk: Sock) -> bool:
    """All TCP memory together is scarce; source include/net/tcp.h:tcp_under_memory_pressure."""
    return sk.net.tcp_memory_pressure


def rebuild_header(sk: Sock) -> int:
    """icsk_af_ops->rebuild_header: the route, looked up again if it was lost."""
    return 0 if sk.sk_dst is not None else route.inet_sk_rebuild_header(sk)


@cited("net/ipv4/tcp_output.c:tcp_event_new_data_sent", "RFC 6298 5.1")
def tcp_event_new_data_sent(sk: Sock, skb: Skb) -> None:
    """An skb has left for the first time: it waits for its acknowledgment now, and the timeout runs."""
    prior_packets = sk.packets_out
    sk.snd_nxt = skb.end_seq
    sk.sk_write_queue.unlink(skb)
    sk.tcp_rtx_queue.append(skb)
    if sk.highest_sack is None:
        sk.highest_sack = skb
    segs = skb.gso_segs
    sk.packets_out = prior_packets + segs
    if not prior_packets or sk.icsk_pending == ICSK_TIME_LOSS_PROBE:
        ack.tcp_rearm_rto(sk)
    sk.net.count("TcpExtTCPOrigDataSent", segs)
    ack.tcp_check_space(sk)


# ---------------------------------------------------------------- the congestion window of an idle or limited sender


@cited("net/ipv4/tcp_output.c:tcp_cwnd_restart", "RFC 2861 3", "RFC 5681 4.1")
def tcp_cwnd_restart(sk: Sock, delta: int) -> None:
    """After idleness of `delta` jiffies the congestion window halves once for each timeout, down to the initial one."""
    restart_cwnd = ack.tcp_init_cwnd(sk)
    cwnd = sk.snd_cwnd
    ca.tcp_ca_event(sk, CA_EVENT_CWND_RESTART)
    sk.snd_ssthresh = tcp_current_ssthresh(sk)
    restart_cwnd = min(restart_cwnd, cwnd)
    delta -= sk.icsk_rto
    while delta > 0 and cwnd > restart_cwnd:
        cwnd >>= 1
        delta -= sk.icsk_rto
    sk.snd_cwnd = max(cwnd, restart_cwnd)
    sk.snd_cwnd_stamp = sk.net.jiffies
    sk.snd_cwnd_used = 0


@cited("net/ipv4/tcp_output.c:tcp_cwnd_application_limited", "RFC 2861 3")
def tcp_cwnd_application_limited(sk: Sock) -> None:
    """The window was not full for one timeout: it shrinks half way to what was used."""
    if sk.icsk_ca_state == CA.Open and sk.has_socket and not sk.sk_nospace:
        win_used = max(sk.snd_cwnd_used, ack.tcp_init_cwnd(sk))
        if win_used < sk.snd_cwnd:
            sk.snd_ssthresh = tcp_current_ssthresh(sk)
            sk.snd_cwnd = (sk.snd_cwnd + win_used) >> 1
        sk.snd_cwnd_used = 0
    sk.snd_cwnd_stamp = sk.net.jiffies


@cited("net/ipv4/tcp_output.c:tcp_cwnd_validate", "RFC 2861 3")
def tcp_cwnd_validate(sk: Sock, is_cwnd_limited: bool) -> None:
    """Remembers whether this flight filled the congestion window."""
    if (
        not before(sk.snd_una, sk.cwnd_usage_seq)
        or is_cwnd_limited
        or (not sk.is_cwnd_limited and sk.packets_out > sk.max_packets_out)
    ):
        sk.is_cwnd_limited = is_cwnd_limited
        sk.max_packets_out = sk.packets_out
        sk.cwnd_usage_seq = sk.snd_nxt
    if tcp_is_cwnd_limited(sk):
        sk.snd_cwnd_used = 0
        sk.snd_cwnd_stamp = sk.net.jiffies
        return
    if sk.packets_out > sk.snd_cwnd_used:
        sk.snd_cwnd_used = sk.packets_out
    if (
        sk.net.p.tcp_slow_start_after_idle
        and sk.net.jiffies - sk.snd_cwnd_stamp >= sk.icsk_rto
        and sk.icsk_ca_ops.cong_control is None
    ):
        tcp_cwnd_application_limited(sk)
    if (
        sk.sk_write_queue.head is None
        and sk.has_socket
        and sk.sk_nospace
        and sk.sk_state in (St.ESTABLISHED, St.CLOSE_WAIT)
    ):
        tcp_chrono_start(sk, TCP_CHRONO_SNDBUF_LIMITED)


# ---------------------------------------------------------------- Nagle


@cited("net/ipv4/tcp_output.c:tcp_minshall_check", "RFC 9293 3.7.4")
def tcp_minshall_check(sk: Sock) -> bool:
    """A small segment is unacknowledged."""
    return nagle.tcp_minshall_check(sk.snd_sml, sk.snd_una, sk.snd_nxt)


def tcp_nagle_check(partial: bool, sk: Sock, nonagle: int) -> bool:
    """A partial segment has to wait; source net/ipv4/tcp_output.c:tcp_nagle_check, RFC 9293 3.7.4."""
    out, small = sk.packets_out > 0, tcp_minshall_check(sk)
    return nagle.tcp_nagle_check(partial, nonagle != 0, nonagle & TCP_NAGLE_CORK != 0, out, small)


@cited("net/ipv4/tcp_output.c:tcp_nagle_test", "RFC 9293 3.7.4")
def tcp_nagle_test(sk: Sock, skb: Skb, cur_mss: int, nonagle: int) -> bool:
    """Nagle's rule lets the skb go: it is full, urgent, the end, or nothing small is unacknowledged."""
    if nonagle & TCP_NAGLE_PUSH:
        return True
    if sk.snd_una != sk.snd_up or skb.tcp_flags & FIN:
        return True
    return not tcp_nagle_check(skb.len < cur_mss, sk, nonagle)


# ---------------------------------------------------------------- how much at once


@cited("net/ipv4/tcp_output.c:tcp_tso_autosize")
def tcp_tso_autosize(sk: Sock, mss_now: int, min_tso_segs: int) -> int:
    """Segments of a super-segment: about 1 ms at the pacing rate, more to a near peer."""
    nbytes = sk.sk_pacing_rate >> sk.sk_pacing_shift
    r = tcp_min_rtt(sk) >> sk.net.p.tcp_tso_rtt_log
    if r < 32:
        nbytes += sk.sk_gso_max_size >> r
    return max(min(nbytes, sk.sk_gso_max_size) // mss_now, min_tso_segs)


@cited("net/ipv4/tcp_output.c:tcp_tso_segs")
def tcp_tso_segs(sk: Sock, mss_now: int) -> int:
    """How many segments an skb that leaves shall have."""
    min_tso_segs = sk.icsk_ca_ops.min_tso_segs
    min_tso = min_tso_segs(sk) if min_tso_segs is not None else sk.net.p.tcp_min_tso_segs
    return min(tcp_tso_autosize(sk, mss_now, min_tso), sk.sk_gso_max_segs)


@cited("net/ipv4/tcp_output.c:tcp_mss_split_point", "RFC 9293 3.8.6.2.1")
def tcp_mss_split_point(sk: Sock, skb: Skb, mss_now: int, max_segs: int, nonagle: int) -> int:
    """How many bytes of the skb may go right away."""
    window = (tcp_wnd_end(sk) - skb.seq) & M32
    max_len = mss_now * max_segs
    if max_len <= window and skb is not sk.sk_write_queue.tail:
        return max_len
    needed = min(skb.len, window)
    if max_len <= needed:
        return max_len
    partial = needed % mss_now
    if tcp_nagle_check(partial != 0, sk, nonagle):
        return needed - partial
    return needed


@cited("net/ipv4/tcp_output.c:tcp_cwnd_test", "RFC 5681 3.1")
def tcp_cwnd_test(sk: Sock) -> int:
    """How many segments the congestion window lets go: at most half of it at once."""
    in_flight = tcp_packets_in_flight(sk)
    cwnd = sk.snd_cwnd
    if in_flight >= cwnd:
        return 0
    return min(max(cwnd >> 1, 1), cwnd - in_flight)


@cited("net/ipv4/tcp_output.c:tcp_snd_wnd_test", "RFC 9293 3.8.6")
def tcp_snd_wnd_test(sk: Sock, skb: Skb, cur_mss: int) -> bool:
    """At least the first segment of the skb fits into the peer's window."""
    end_seq = add(skb.seq, cur_mss) if skb.len > cur_mss else skb.end_seq
    return not after(end_seq, tcp_wnd_end(sk))


@cited("net/ipv4/tcp_output.c:tcp_tso_should_defer")
def tcp_tso_should_defer(sk: Sock, skb: Skb, max_segs: int) -> tuple[bool, bool, bool]:
    """Whether to wait for a larger super-segment, and what limits it, as (defer, cwnd limited, rwnd limited)."""
    go = (False, False, False)
    if sk.icsk_ca_state >= CA.Recovery:
        return go
    if sk.tcp_clock_cache - sk.tcp_wstamp_ns - NSEC_PER_MSEC > 0:
        return go
    mss = sk.mss_cache
    send_win = (tcp_wnd_end(sk) - skb.seq) & M32
    cong_win = (sk.snd_cwnd - tcp_packets_in_flight(sk)) * mss
    limit = min(send_win, cong_win)
    if limit >= max_segs * mss:
        return go
    if skb is not sk.sk_write_queue.tail and limit >= skb.len:
        return go
    win_divisor = sk.net.p.tcp_tso_win_divisor
    if win_divisor:
        if limit >= min(sk.snd_wnd, sk.snd_cwnd * mss) // win_divisor:
            return go
    elif limit > 3 * mss:
        return go
    head = sk.tcp_rtx_queue.head
    if head is None:
        return go
    srtt_in_ns = 125 * sk.srtt_us
    how_far_is_the_ack = head.tstamp + srtt_in_ns - sk.tcp_clock_cache
    if how_far_is_the_ack - min(srtt_in_ns >> 1, NSEC_PER_MSEC) > 0:
        return go
    if cong_win < send_win:
        if cong_win <= skb.len:
            return True, True, False
    elif send_win <= skb.len:
        return True, False, True
    if skb.tcp_flags & FIN or skb.eor:
        return go
    return True, False, False


# ---------------------------------------------------------------- pacing, device queues


@cited("net/ipv4/tcp_output.c:tcp_pacing_check")
def tcp_pacing_check(sk: Sock) -> bool:
    """Pacing holds the next segment back: the timer will send it."""
    if sk.sk_pacing_status != 1 or sk.tcp_wstamp_ns <= sk.tcp_clock_cache:
        return False
    if not sk.pacing_timer.pending:
        sk.pacing_timer.start_us(-(-sk.tcp_wstamp_ns // 1000))
    return True


@cited("net/ipv4/tcp_output.c:tcp_small_queue_check")
def tcp_small_queue_check(sk: Sock, skb: Skb, factor: int) -> bool:
    """Enough of this connection waits in this host's queues already."""
    if sk.sk_wmem_alloc == 0:
        return False
    limit = max(2 * skb.truesize, sk.sk_pacing_rate >> sk.sk_pacing_shift)
    if sk.sk_pacing_status == SK_PACING_NONE:
        limit = min(limit, sk.net.p.tcp_limit_output_bytes)
    limit <<= factor
    if sk.tcp_tx_delay:
        limit += sk.sk_pacing_rate * sk.tcp_tx_delay >> 19
    if sk.sk_wmem_alloc + 1 > limit:
        rtx = sk.tcp_rtx_queue
        if rtx.head is rtx.tail:
            return False
        sk.sk_tsq_flags.add("TSQ_THROTTLED")
        return True
    return False


@cited("net/ipv4/tcp_output.c:tcp_tsq_write")
def tcp_tsq_write(sk: Sock) -> None:
    """The device or pacing lets more go."""
    if sk.sk_state in SENDING:
        if sk.lost_out > sk.retrans_out and sk.snd_cwnd > tcp_packets_in_flight(sk):
            transmit.tcp_mstamp_refresh(sk)
            retransmit.tcp_xmit_retransmit_queue(sk)
        tcp_write_xmit(sk, tcp_current_mss(sk), sk.nonagle, 0)


@cited("net/ipv4/tcp_output.c:tcp_tsq_handler")
def tcp_tsq_handler(sk: Sock) -> None:
    """The same, later if an application holds the socket."""
    if not sk.sk_owned:
        tcp_tsq_write(sk)
    else:
        sk.sk_tsq_flags.add("TCP_TSQ_DEFERRED")


# ---------------------------------------------------------------- what limits the sender


def tcp_chrono_set(sk: Sock, new: int) -> None:
    """Another reason limits the sender from now on; source net/ipv4/tcp_output.c:tcp_chrono_set."""
    now = sk.net.jiffies
    if sk.chrono_type > TCP_CHRONO_UNSPEC:
        sk.chrono_stat[sk.chrono_type - 1] += now - sk.chrono_start
    sk.chrono_start = now
    sk.chrono_type = new


@cited("net/ipv4/tcp_output.c:tcp_chrono_start")
def tcp_chrono_start(sk: Sock, type: int) -> None:
    """A reason begins: it counts if it ranks above the present one."""
    if type > sk.chrono_type:
        tcp_chrono_set(sk, type)


@cited("net/ipv4/tcp_output.c:tcp_chrono_stop")
def tcp_chrono_stop(sk: Sock, type: int) -> None:
    """A reason ends; while data are in the queues the sender is busy."""
    if sk.tcp_rtx_queue.head is None and sk.sk_write_queue.head is None:
        tcp_chrono_set(sk, TCP_CHRONO_UNSPEC)
    elif type == sk.chrono_type:
        tcp_chrono_set(sk, TCP_CHRONO_BUSY)


# ---------------------------------------------------------------- sending


@cited("net/ipv4/tcp_output.c:tcp_grow_skb")
def tcp_grow_skb(sk: Sock, skb: Skb, amount: int) -> None:
    """Takes up to `amount` bytes from the next skb, so that this one makes a larger super-segment."""
    next_skb = skb.next
    if next_skb is None or not tcp_skb_can_collapse(skb, next_skb):
        return
    nlen = min(amount, next_skb.len)
    if not nlen or not shift.skb_shift(skb, next_skb, nlen):
        return
    skb.end_seq = add(skb.end_seq, nlen)
    next_skb.seq = add(next_skb.seq, nlen)
    if not next_skb.len:
        skb.end_seq = next_skb.end_seq
        tcp_eat_one_skb(sk, skb, next_skb)


@cited("net/ipv4/tcp_output.c:tcp_write_xmit", "RFC 9293 3.8.6.2.1", "RFC 5681 3.1")
def tcp_write_xmit(sk: Sock, mss_now: int, nonagle: int, push_one: int) -> bool:
    """Sends what may be sent: all, one skb (`push_one` 1), or one against the congestion window (2).

    True: nothing is in flight, and what is queued can't go.
    """
    net = sk.net
    cause = net.cause or "tcp_write_xmit"
    sent_pkts = 0
    is_cwnd_limited = is_rwnd_limited = False
    grows = net.p.kernel >= 612
    transmit.tcp_mstamp_refresh(sk)
    if sk.ecn_flags & TCP_ECN_MODE_ACCECN and accecn.tcp_accecn_option_beacon_check(sk):
        mss_now = tcp_current_mss(sk)
    if not push_one and sk.icsk_mtup.enabled:
        result = tcp_mtu_probe(sk)
        if result == 0:
            net.cause = ""
            return False
        if result > 0:
            sent_pkts = 1
    max_segs = tcp_tso_segs(sk, mss_now)
    queue = sk.sk_write_queue
    while (skb := queue.head) is not None:
        if sk.repair and sk.repair_queue == TCP_SEND_QUEUE:
            sk.tcp_wstamp_ns = sk.tcp_clock_cache
            skb.tstamp = sk.tcp_wstamp_ns
            skb.skb_mstamp = sk.tcp_mstamp
            sk.tsorted_sent_queue.append(skb)
            retransmit.tcp_init_tso_segs(skb, mss_now)
        else:
            if tcp_pacing_check(sk):
                break
            if grows:
                cwnd_quota = tcp_cwnd_test(sk)
            else:
                tso_segs = retransmit.tcp_init_tso_segs(skb, mss_now)
                cwnd_quota = 1 if skb.tcp_flags & FIN and tso_segs == 1 else tcp_cwnd_test(sk)
            if not cwnd_quota:
                if push_one != 2:
                    break
                cwnd_quota = 1
            cwnd_quota = min(cwnd_quota, max_segs)
            if grows:
                missing_bytes = cwnd_quota * mss_now - skb.len
                if missing_bytes > 0 and skb.next is not None:
                    tcp_grow_skb(sk, skb, missing_bytes)
                tso_segs = retransmit.tcp_set_skb_tso_segs(skb, mss_now)
            if not tcp_snd_wnd_test(sk, skb, mss_now):
                is_rwnd_limited = True
                break
            if tso_segs == 1:
                if not tcp_nagle_test(sk, skb, mss_now, nonagle if skb.next is None else TCP_NAGLE_PUSH):
                    break
            elif not push_one:
                defer, by_cwnd, by_rwnd = tcp_tso_should_defer(sk, skb, max_segs)
                if defer:
                    is_cwnd_limited = is_cwnd_limited or by_cwnd
                    is_rwnd_limited = is_rwnd_limited or by_rwnd
                    break
            limit = mss_now
            if tso_segs > 1 and sk.snd_una == sk.snd_up:
                limit = tcp_mss_split_point(sk, skb, mss_now, cwnd_quota, nonagle)
            if skb.len > limit and retransmit.tso_fragment(sk, skb, limit, mss_now):
                break
            if tcp_small_queue_check(sk, skb, 0):
                break
            if skb.end_seq == skb.seq:
                break
            net.cause = cause
            if transmit.tcp_transmit_skb(sk, skb, True):
                break
        tcp_event_new_data_sent(sk, skb)
        segs = skb.gso_segs
        if skb.len < segs * mss_now:
            sk.snd_sml = skb.end_seq
        sent_pkts += segs
        if push_one:
            break
    net.cause = ""
    if is_rwnd_limited:
        tcp_chrono_start(sk, TCP_CHRONO_RWND_LIMITED)
    else:
        tcp_chrono_stop(sk, TCP_CHRONO_RWND_LIMITED)
    is_cwnd_limited = is_cwnd_limited or tcp_packets_in_flight(sk) >= sk.snd_cwnd
    if sent_pkts or is_cwnd_limited:
        tcp_cwnd_validate(sk, is_cwnd_limited)
    if sent_pkts:
        if tcp_in_cwnd_reduction(sk):
            sk.prr_out += sent_pkts
        if push_one != 2:
            retransmit.tcp_schedule_loss_probe(sk, False)
        return False
    return not sk.packets_out and queue.head is not None


def tcp_check_probe_timer(sk: Sock) -> None:
    """Nothing is in flight and nothing can go: a window probe will; source include/net/tcp.h:tcp_check_probe_timer."""
    if not sk.packets_out and not sk.icsk_pending:
        tcp_reset_xmit_timer(sk, ICSK_TIME_PROBE0, tcp_probe0_base(sk), tcp_rto_max(sk))


@cited("net/ipv4/tcp_output.c:__tcp_push_pending_frames")
def __tcp_push_pending_frames(sk: Sock, cur_mss: int, nonagle: int) -> None:
    """Sends what may be sent, and probes the window if nothing may."""
    if sk.sk_state != St.CLOSE and tcp_write_xmit(sk, cur_mss, nonagle, 0):
        tcp_check_probe_timer(sk)


def tcp_push_pending_frames(sk: Sock) -> None:
    """The same with Nagle's rule as the socket has it; source include/net/tcp.h:tcp_push_pending_frames."""
    if sk.sk_write_queue.head is not None:
        __tcp_push_pending_frames(sk, tcp_current_mss(sk), sk.nonagle)


@cited("net/ipv4/tcp_output.c:tcp_push_one")
def tcp_push_one(sk: Sock, mss_now: int) -> None:
    """Sends the one skb that is queued and full."""
    tcp_write_xmit(sk, mss_now, TCP_NAGLE_PUSH, 1)


@cited("net/ipv4/tcp_output.c:tcp_send_fin", "RFC 9293 3.10.4")
def tcp_send_fin(sk: Sock) -> None:
    """Sends a FIN, on the last unsent skb if there is one."""
    tail = sk.sk_write_queue.tail
    tskb = tail
    if tskb is None and tcp_under_memory_pressure(sk):
        tskb = sk.tcp_rtx_queue.tail
    if tskb is not None:
        tskb.tcp_flags |= FIN
        tskb.end_seq = add(tskb.end_seq, 1)
        sk.write_seq = add(sk.write_seq, 1)
        if tail is None:
            sk.snd_nxt = add(sk.snd_nxt, 1)
            return
    else:
        skb = sendmsg.tcp_stream_alloc_skb(sk, True)
        transmit.tcp_init_nondata_skb(skb, sk.write_seq, ACK | FIN)
        tcp_queue_skb(sk, skb)
    sk.net.cause = sk.net.cause or "tcp_send_fin"
    __tcp_push_pending_frames(sk, tcp_current_mss(sk), TCP_NAGLE_OFF)
    sk.net.cause = ""


@cited("net/ipv4/tcp_output.c:tcp_queue_skb")
def tcp_queue_skb(sk: Sock, skb: Skb) -> None:
    """Puts an skb behind all others."""
    sk.write_seq = skb.end_seq
    sk.sk_write_queue.append(skb)
    if sk.sk_write_queue.head is skb:
        tcp_chrono_start(sk, TCP_CHRONO_BUSY)
    sk.sk_wmem_queued += skb.truesize
    sk_mem_charge(sk, skb.truesize)


from refmodel.tcp.whole.mtu import (  # noqa: E402
    __tcp_mtu_to_mss,
    net_header_len,
    tcp_current_mss,
    tcp_eat_one_skb,
    tcp_mss_to_mtu,
    tcp_mtu_check_reprobe,
    tcp_mtu_probe,
    tcp_mtu_to_mss,
    tcp_mtup_init,
    tcp_sync_mss,
)
from refmodel.tcp.whole.retransmit import (  # noqa: E402
    TCP_FRAG_IN_RTX_QUEUE,
    TCP_FRAG_IN_WRITE_QUEUE,
    __tcp_retransmit_skb,
    tcp_adjust_pcount,
    tcp_fragment,
    tcp_has_tx_tstamp,
    tcp_init_tso_segs,
    tcp_retransmit_skb,
    tcp_schedule_loss_probe,
    tcp_send_loss_probe,
    tcp_send_probe0,
    tcp_send_window_probe,
    tcp_set_skb_tso_segs,
    tcp_skb_collapse_tstamp,
    tcp_trim_head,
    tcp_write_wakeup,
    tcp_xmit_probe_skb,
    tcp_xmit_retransmit_queue,
    tso_fragment,
)

__all__ = [
    "TCP_FRAG_IN_RTX_QUEUE",
    "TCP_FRAG_IN_WRITE_QUEUE",
    "__tcp_mtu_to_mss",
    "__tcp_retransmit_skb",
    "net_header_len",
    "tcp_adjust_pcount",
    "tcp_current_mss",
    "tcp_eat_one_skb",
    "tcp_fragment",
    "tcp_has_tx_tstamp",
    "tcp_init_tso_segs",
    "tcp_mss_to_mtu",
    "tcp_mtu_check_reprobe",
    "tcp_mtu_probe",
    "tcp_mtu_to_mss",
    "tcp_mtup_init",
    "tcp_retransmit_skb",
    "tcp_schedule_loss_probe",
    "tcp_send_loss_probe",
    "tcp_send_probe0",
    "tcp_send_window_probe",
    "tcp_set_skb_tso_segs",
    "tcp_skb_collapse_tstamp",
    "tcp_sync_mss",
    "tcp_trim_head",
    "tcp_write_wakeup",
    "tcp_xmit_probe_skb",
    "tcp_xmit_retransmit_queue",
    "tso_fragment",
]
