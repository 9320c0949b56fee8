"""Building segments and handing them to IP: header, window, options, ECN, acknowledgments (net/ipv4/tcp_output.c).

The law: every segment of a full socket passes `__tcp_transmit_skb`. It chooses the window, counts what leaves, stamps
the skb with the time of its departure, and says in `Packet.by` which decision sent it.
"""

from typing import Any, Final

from refmodel.rule import cited
from refmodel.tcp import delack, window
from refmodel.tcp.state import St
from refmodel.tcp.whole import (
    accecn,
    ca,
    errqueue,
    md5,
    options,
    output,
    rate,
    rcvbuf,
    recovery,
    timer,
)
from refmodel.tcp.whole.const import (
    ACK,
    CA_EVENT_TX_START,
    CWR,
    ECE,
    FIN,
    ICSK_ACK_NOMEM,
    ICSK_ACK_PUSHED,
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_DACK,
    MAX_TCP_WINDOW,
    PSH,
    RST,
    SK_PACING_NONE,
    SYN,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_OK,
    TCP_ECN_QUEUE_CWR,
    TCP_MAX_WSCALE,
    URG,
)
from refmodel.tcp.whole.net import inet_csk_clear_xmit_timer, sk_reset_timer
from refmodel.tcp.whole.skb import Packet, Skb, TcpOptions
from refmodel.tcp.whole.sock import Dst, Sock
from refmodel.tcp.whole.tcp_h import (
    inet_csk_ack_scheduled,
    inet_csk_in_pingpong_mode,
    tcp_packets_in_flight,
    tcp_receive_window,
    tcp_rto_min,
    tcp_wnd_end,
)
from refmodel.types import M32, add, after, before

AF_INET6: Final = 10
NO_PACING_RATE: Final = 0xFFFFFFFFFFFFFFFF
NSEC_PER_SEC: Final = 1_000_000_000
NET_XMIT_CN: Final = 2
U16_MAX: Final = 65535
U8_MAX: Final = 255
DEFERRED: Final = frozenset(
    (
        "TCP_TSQ_DEFERRED",
        "TCP_WRITE_TIMER_DEFERRED",
        "TCP_DELACK_TIMER_DEFERRED",
        "TCP_MTU_REDUCED_DEFERRED",
        "TCP_ACK_DEFERRED",
    )
)


def tcp_mstamp_refresh(sk: Sock) -> None:
    """The socket takes note of the time, which goes on by 1 us at least: what is done later is later.

    Source: net/ipv4/tcp_output.c:tcp_mstamp_refresh.
    """
    net = sk.net
    if net.now <= sk.tcp_mstamp:
        net.now = sk.tcp_mstamp + 1
    sk.tcp_mstamp = net.now
    sk.tcp_clock_cache = sk.tcp_mstamp * 1000


@cited("net/ipv4/tcp_output.c:tcp_acceptable_seq", "RFC 9293 3.10.7.4")
def tcp_acceptable_seq(sk: Sock) -> int:
    """The sequence number of a segment without data: the next one, unless the peer shrank its window below it."""
    end = tcp_wnd_end(sk)
    if not before(end, sk.snd_nxt):
        return sk.snd_nxt
    if sk.rx_opt.wscale_ok and (sk.snd_nxt - end) & M32 < 1 << sk.rx_opt.rcv_wscale:
        return sk.snd_nxt
    return end


# ---------------------------------------------------------------- what a segment that leaves changes


@cited("net/ipv4/tcp_output.c:tcp_event_data_sent", "RFC 5681 4.1")
def tcp_event_data_sent(sk: Sock) -> None:
    """Data leave: congestion control hears of a start after idleness, and a quick answer counts as interactive."""
    now = sk.net.jiffies
    if tcp_packets_in_flight(sk) == 0:
        ca.tcp_ca_event(sk, CA_EVENT_TX_START)
    sk.lsndtime = now
    ack = sk.icsk_ack
    if (now - ack.lrcvtime) & M32 < ack.ato and ack.pingpong < U8_MAX:
        ack.pingpong += 1


@cited("net/ipv4/tcp_output.c:tcp_event_ack_sent", "include/net/tcp.h:tcp_dec_quickack_mode", "RFC 9293 3.8.6.3")
def tcp_event_ack_sent(sk: Sock, rcv_nxt: int) -> None:
    """An acknowledgment leaves: none is owed any more, and one quick one less is left."""
    if sk.compressed_ack:
        sk.net.count("TcpExtTCPAckCompressed", sk.compressed_ack)
        sk.compressed_ack = 0
        sk.compressed_ack_timer.stop()
    if rcv_nxt != sk.rcv_nxt:
        return
    ack = sk.icsk_ack
    if ack.quick:
        pkts = 1 if inet_csk_ack_scheduled(sk) else 0
        if pkts >= ack.quick:
            ack.quick = 0
            ack.ato = sk.net.hz // 25
        else:
            ack.quick -= pkts
    inet_csk_clear_xmit_timer(sk, ICSK_TIME_DACK)


# ---------------------------------------------------------------- windows


@cited("net/ipv4/tcp_output.c:tcp_select_initial_window", "RFC 7323 2.2")
def tcp_select_initial_window(
    sk: Sock, space: int, mss: int, window_clamp: int, wscale_ok: bool, init_rcv_wnd: int
) -> tuple[int, int, int]:
    """The first window to offer, the clamp and the shift, as (rcv_wnd, window_clamp, rcv_wscale)."""
    p = sk.net.p
    space = max(space, 0)
    if window_clamp == 0:
        window_clamp = U16_MAX << TCP_MAX_WSCALE
    space = min(window_clamp, space)
    if space > mss:
        space -= space % mss
    if p.tcp_workaround_signed_windows:
        rcv_wnd = min(space, MAX_TCP_WINDOW)
    else:
        rcv_wnd = space if p.kernel >= 612 else min(space, U16_MAX)
    if init_rcv_wnd:
        rcv_wnd = min(rcv_wnd, init_rcv_wnd * mss)
    rcv_wscale = 0
    if wscale_ok:
        space = min(max(space, p.tcp_rmem_2, p.rmem_max), window_clamp)
        rcv_wscale = min(max(space.bit_length() - 1 - 15, 0), TCP_MAX_WSCALE)
    return rcv_wnd, min(U16_MAX << rcv_wscale, window_clamp), rcv_wscale


@cited("net/ipv4/tcp_output.c:tcp_select_window", "RFC 9293 3.8.6", "RFC 7323 2.3")
def tcp_select_window(sk: Sock) -> int:
    """The window field of the next segment; what was offered once is not taken back unless the sysctl says so."""
    net = sk.net
    rx_opt = sk.rx_opt
    wscale = rx_opt.rcv_wscale
    old_win = sk.rcv_wnd
    if sk.icsk_ack.pending & ICSK_ACK_NOMEM:
        sk.pred_flags = None
        sk.rcv_wnd = 0
        sk.rcv_wup = sk.rcv_nxt
        return 0
    cur_win = tcp_receive_window(sk)
    new_win = __tcp_select_window(sk)
    if new_win < cur_win and (not net.p.tcp_shrink_window or not wscale):
        if new_win == 0:
            net.count("TcpExtTCPWantZeroWindowAdv")
        new_win = window.scaled_up(cur_win, wscale)
    sk.rcv_wnd = new_win
    sk.rcv_wup = sk.rcv_nxt
    new_win = window.header_bound(new_win, wscale, net.p.tcp_workaround_signed_windows != 0) >> wscale
    if new_win == 0:
        sk.pred_flags = None
        if old_win:
            net.count("TcpExtTCPToZeroWindowAdv")
    elif old_win == 0:
        net.count("TcpExtTCPFromZeroWindowAdv")
    return new_win


@cited("net/ipv4/tcp_output.c:__tcp_select_window", "RFC 9293 3.8.6.2.2")
def __tcp_select_window(sk: Sock) -> int:
    """How much the receiver wants to offer: no silly window, nothing while little memory is free."""
    icsk_ack = sk.icsk_ack
    mss = icsk_ack.rcv_mss
    wscale = sk.rx_opt.rcv_wscale
    free_space = rcvbuf.tcp_space(sk)
    allowed_space = rcvbuf.tcp_full_space(sk)
    full_space = min(sk.window_clamp, allowed_space)
    if mss > full_space:
        mss = full_space
        if mss <= 0:
            return 0
    if sk.net.p.tcp_shrink_window and wscale:
        return _shrinking_window(sk, mss, free_space, allowed_space, full_space)
    if free_space < full_space >> 1:
        icsk_ack.quick = 0
        if output.tcp_under_memory_pressure(sk):
            rcvbuf.tcp_adjust_rcv_ssthresh(sk)
    if window.is_silly(free_space, full_space, allowed_space, mss, wscale):
        return 0
    space = window.offered(free_space, full_space, sk.rcv_ssthresh, wscale)
    if wscale:
        return window.scaled_up(space, wscale)
    return window.unscaled_window(sk.rcv_wnd, space, full_space, mss, space - space % mss)


def _shrinking_window(sk: Sock, mss: int, free_space: int, allowed_space: int, full_space: int) -> int:
    """The same where the window may shrink; source net/ipv4/tcp_output.c:__tcp_select_window."""
    wscale = sk.rx_opt.rcv_wscale
    if window.scaled_down(free_space, wscale) < full_space >> 1:
        sk.icsk_ack.quick = 0
        if output.tcp_under_memory_pressure(sk):
            rcvbuf.tcp_adjust_rcv_ssthresh(sk)
    return window.shrunk_space(free_space, allowed_space, sk.window_clamp, sk.rcv_ssthresh, mss, wscale)


# ---------------------------------------------------------------- ECN


def tcp_ecn_clear_syn(sk: Sock, skb: Skb) -> None:
    """A SYN sent again asks for ECN no more; source net/ipv4/tcp_output.c:tcp_ecn_clear_syn, RFC 3168 6.1.1.1."""
    if sk.net.p.tcp_ecn_fallback:
        skb.tcp_flags &= ~accecn.TCPHDR_ACE


@cited("net/ipv4/tcp_output.c:tcp_ecn_send", "RFC 3168 6.1.2", "RFC 3168 6.1.5")
def tcp_ecn_send(sk: Sock, skb: Skb) -> int:
    """New data are ECN-capable, ACKs and retransmissions are not; the flags to add: CWR once, ECE until CWR arrives."""
    flags = 0
    if skb.len and not before(skb.seq, sk.snd_nxt):
        ca.INET_ECN_xmit(sk)
        if sk.ecn_flags & TCP_ECN_QUEUE_CWR:
            sk.ecn_flags &= ~TCP_ECN_QUEUE_CWR
            flags = CWR
    elif not ca.tcp_ca_needs_ecn(sk):
        ca.INET_ECN_dontxmit(sk)
    if sk.ecn_flags & TCP_ECN_DEMAND_CWR:
        flags |= ECE
    return flags


# ---------------------------------------------------------------- transmission


def tcp_init_nondata_skb(skb: Skb, seq: int, flags: int) -> None:
    """An skb without data; source net/ipv4/tcp_output.c:tcp_init_nondata_skb."""
    skb.tcp_flags = flags
    skb.gso_segs = 1
    skb.seq = seq
    skb.end_seq = add(seq, 1) if flags & (SYN | FIN) else seq


@cited("net/ipv4/tcp_output.c:tcp_update_skb_after_send")
def tcp_update_skb_after_send(sk: Sock, skb: Skb, prior_wstamp: int) -> None:
    """Pacing: the next segment may leave when this one has had its time at the pacing rate; the first ten are free."""
    if sk.sk_pacing_status != SK_PACING_NONE:
        rate_ = sk.sk_pacing_rate
        if rate_ != NO_PACING_RATE and rate_ and sk.data_segs_out >= 10:
            len_ns = skb.len * NSEC_PER_SEC // rate_
            credit = sk.tcp_wstamp_ns - prior_wstamp
            len_ns -= min(len_ns // 2, credit)
            sk.tcp_wstamp_ns += len_ns
    sk.tsorted_sent_queue.append(skb)


def default_by(flags: int, length: int) -> str:
    """The function that usually sends such a segment."""
    if flags & RST:
        return "tcp_send_active_reset"
    if flags & SYN:
        return "tcp_send_synack" if flags & ACK else "tcp_connect"
    if length or flags & FIN:
        return "tcp_write_xmit"
    return "tcp_send_ack"


@cited("net/ipv4/tcp_output.c:__tcp_transmit_skb", "RFC 9293 3.1", "RFC 9293 3.8.5")
def __tcp_transmit_skb(sk: Sock, skb: Skb, clone_it: bool, rcv_nxt: int) -> int:
    """Builds the segment of an skb and sends it; `clone_it`: the skb stays queued. 0, or an error."""
    net = sk.net
    prior_wstamp = sk.tcp_wstamp_ns
    wstamp = sk.tcp_wstamp_ns = max(prior_wstamp, sk.tcp_clock_cache)
    skb.tstamp = wstamp
    skb.skb_mstamp = wstamp // 1000
    opts = TcpOptions()
    key = md5.tcp_get_current_key(sk) if sk.md5sig_info is not None else None
    flags = skb.tcp_flags
    length = skb.len
    if flags & SYN:
        options.tcp_syn_options(sk, skb, opts, key)
        window = min(sk.rcv_wnd, U16_MAX)
    else:
        options.tcp_established_options(sk, skb, opts, key)
        if skb.gso_segs > 1:
            flags |= PSH
            if not clone_it:
                skb.tcp_flags = flags
        window = -1
    seq = skb.seq
    urg_ptr = 0
    wire_flags = flags
    if sk.snd_una != sk.snd_up and before(seq, sk.snd_up):
        if before(sk.snd_up, add(seq, 0x10000)):
            urg_ptr = (sk.snd_up - seq) & M32
            wire_flags |= URG
        elif after(add(seq, 0xFFFF), sk.snd_nxt):
            urg_ptr = 0xFFFF
            wire_flags |= URG
    if window < 0:
        window = tcp_select_window(sk)
        if sk.ecn_flags & TCP_ECN_OK:
            wire_flags |= tcp_ecn_send(sk, skb)
        elif accecn.tcp_ecn_mode_accecn(sk):
            wire_flags |= accecn.tcp_ecn_send(sk, skb)
    v6 = sk.sk_family == AF_INET6 and not sk.mapped
    by = net.cause or default_by(flags, length)
    net.cause = ""
    packet = Packet(
        sk.inet_saddr,
        sk.inet_daddr,
        sk.inet_sport,
        sk.inet_dport,
        seq,
        rcv_nxt,
        wire_flags,
        window,
        length,
        opts,
        urg_ptr,
        sk.tclass if v6 else sk.inet_tos,
        ttl_of(sk, sk.sk_dst, v6),
        skb.gso_size if skb.gso_segs > 1 else 0,
        skb.gso_segs,
        skb.truesize,
        by,
    )
    packet.accecn = not flags & SYN and accecn.tcp_ecn_mode_accecn(sk)
    if key is not None:
        md5.calc_md5_hash(key, sk, packet)
    if flags & ACK:
        tcp_event_ack_sent(sk, rcv_nxt)
    if length:
        tcp_event_data_sent(sk)
        sk.data_segs_out += skb.gso_segs
        sk.bytes_sent += length
    if after(skb.end_seq, sk.snd_nxt) or seq == skb.end_seq:
        net.count("TcpOutSegs", skb.gso_segs)
    sk.segs_out += skb.gso_segs
    packet.tstamp = wstamp + sk.tcp_tx_delay * 1000
    err = queue_xmit(sk, skb, packet, clone_it)
    if err > 0:
        recovery.tcp_enter_cwr(sk)
        err = 0 if err == NET_XMIT_CN else err
    if err == 0 and clone_it:
        tcp_update_skb_after_send(sk, skb, prior_wstamp)
        rate.tcp_rate_skb_sent(sk, skb)
    return err


def tcp_transmit_skb(sk: Sock, skb: Skb, clone_it: bool) -> int:
    """The same with the acknowledgment number of now; source net/ipv4/tcp_output.c:tcp_transmit_skb."""
    return __tcp_transmit_skb(sk, skb, clone_it, sk.rcv_nxt)


def ttl_of(sk: Sock, dst: Dst | None, v6: bool) -> int:
    """The TTL or hop limit of what the socket sends; source include/net/route.h:ip_select_ttl."""
    if v6:
        if sk.hop_limit >= 0:
            return sk.hop_limit
    elif sk.inet_ttl >= 0:
        return sk.inet_ttl
    if dst is not None and dst.hoplimit:
        return dst.hoplimit
    return 64 if v6 else sk.net.p.ip_default_ttl


def queue_xmit(sk: Sock, skb: Skb, packet: Packet, clone: bool) -> int:
    """Hands a segment to IP and the device: it leaves at once, or waits in the queueing discipline on our memory.

    Source net/ipv4/ip_output.c:ip_queue_xmit, net/ipv6/inet6_connection_sock.c:inet6_csk_xmit.
    """
    net = sk.net
    if sk.sk_dst is None:
        from refmodel.tcp.whole import route

        err = route.inet_sk_rebuild_header(sk)
        if err:
            return err
    if skb.tx_flags:
        errqueue.skb_sched_timestamp(sk, skb, packet)
    if net.qdisc is None and net.below is None:
        net.xmit(packet)
        if net.tap and clone:
            skb.packet = packet
        if skb.tx_flags:
            errqueue.skb_tx_timestamp(sk, skb, packet)
        if skb.uarg is not None:
            errqueue.skb_orphan_frags_rx(skb)
        return 0
    packet.sk = sk
    packet.skb = skb if clone else None
    packet.truesize = skb.truesize if clone else 1
    sk.sk_wmem_alloc += packet.truesize
    if clone:
        skb.packet = packet
    return net.xmit(packet)


@cited("drivers/net/tun.c:tun_net_xmit", "net/ipv4/tcp_output.c:tcp_wfree")
def tcp_wfree(packet: Packet) -> None:
    """A segment that waited in the queueing discipline has left: its memory is free, and more may follow."""
    sk = packet.sk
    if sk is None:
        return
    packet.sk = None
    skb = packet.skb
    if skb is not None:
        packet.skb = None
        if skb.packet is packet and not sk.net.tap:
            skb.packet = None
        if skb.tx_flags:
            errqueue.skb_tx_timestamp(sk, skb, packet)
        if skb.uarg is not None:
            errqueue.skb_orphan_frags_rx(skb)
    sk.sk_wmem_alloc -= packet.truesize
    if "TSQ_THROTTLED" in sk.sk_tsq_flags and "TSQ_QUEUED" not in sk.sk_tsq_flags:
        sk.sk_tsq_flags.discard("TSQ_THROTTLED")
        output.tcp_tsq_handler(sk)


@cited("net/ipv4/tcp_output.c:tcp_release_cb")
def tcp_release_cb(sk: Sock) -> None:
    """The application lets go of the socket: what timers and packets put off meanwhile is done now."""
    flags = sk.sk_tsq_flags & DEFERRED
    if not flags:
        return
    sk.sk_tsq_flags -= DEFERRED
    if "TCP_TSQ_DEFERRED" in flags:
        output.tcp_tsq_write(sk)
    if "TCP_WRITE_TIMER_DEFERRED" in flags:
        timer.tcp_write_timer_handler(sk)
    if "TCP_DELACK_TIMER_DEFERRED" in flags:
        timer.tcp_delack_timer_handler(sk)
    if "TCP_MTU_REDUCED_DEFERRED" in flags:
        from refmodel.tcp.whole import ipv4

        ipv4.tcp_v4_mtu_reduced(sk)
    if "TCP_ACK_DEFERRED" in flags and inet_csk_ack_scheduled(sk):
        tcp_send_ack(sk)


# ---------------------------------------------------------------- segments without data


@cited("net/ipv4/tcp_output.c:tcp_send_active_reset", "RFC 9293 3.10.4", "RFC 2525 2.17")
def tcp_send_active_reset(sk: Sock, reason: Any = None) -> None:
    """Sends a reset of our own accord; it is never sent again."""
    sk.net.count("TcpOutRsts")
    skb = Skb()
    tcp_init_nondata_skb(skb, tcp_acceptable_seq(sk), ACK | RST)
    tcp_mstamp_refresh(sk)
    if tcp_transmit_skb(sk, skb, False):
        sk.net.count("TcpExtTCPAbortFailed")


def tcp_delack_max(sk: Sock) -> int:
    """The longest an acknowledgment may wait (jiffies); source net/ipv4/tcp_output.c:tcp_delack_max."""
    return min(sk.icsk_delack_max, max(tcp_rto_min(sk), 2) - 1)


@cited("net/ipv4/tcp_output.c:tcp_send_delayed_ack", "RFC 9293 3.8.6.3", "RFC 1122 4.2.3.2")
def tcp_send_delayed_ack(sk: Sock) -> None:
    """Arms the delayed ACK, or sends it if the one that waits is about to expire anyway."""
    net = sk.net
    icsk_ack = sk.icsk_ack
    pushed = icsk_ack.pending & ICSK_ACK_PUSHED != 0
    srtt = max(net.usecs_to_jiffies(sk.srtt_us >> 3), 1) if sk.srtt_us else 0
    longest = tcp_delack_max(sk) if net.p.kernel >= 606 else sk.icsk_delack_max
    delay = delack.ack_delay(icsk_ack.ato, inet_csk_in_pingpong_mode(sk), pushed, srtt, longest, net.hz)
    timer = icsk_ack.pending & ICSK_ACK_TIMER != 0
    if delack.about_to_expire(timer, icsk_ack.timeout, net.jiffies, delay):
        net.cause = "tcp_send_delayed_ack"
        tcp_send_ack(sk)
        return
    icsk_ack.pending |= ICSK_ACK_SCHED | ICSK_ACK_TIMER
    icsk_ack.timeout = delack.delayed_until(timer, icsk_ack.timeout, net.jiffies, delay)
    sk_reset_timer(sk, sk.icsk_delack_timer, icsk_ack.timeout)


@cited("net/ipv4/tcp_output.c:__tcp_send_ack", "RFC 9293 3.10.7.4")
def __tcp_send_ack(sk: Sock, rcv_nxt: int, flags: int = 0) -> None:
    """Sends an acknowledgment and the window as it is now."""
    if sk.sk_state == St.CLOSE:
        sk.net.cause = ""
        return
    buff = Skb()
    tcp_init_nondata_skb(buff, tcp_acceptable_seq(sk), ACK | flags)
    __tcp_transmit_skb(sk, buff, False, rcv_nxt)


def tcp_send_ack(sk: Sock) -> None:
    """Acknowledges what has arrived in order; source net/ipv4/tcp_output.c:tcp_send_ack."""
    __tcp_send_ack(sk, sk.rcv_nxt)


from refmodel.tcp.whole.connect import (  # noqa: E402
    tcp_connect,
    tcp_connect_init,
    tcp_make_synack,
    tcp_rtx_synack,
    tcp_send_syn_data,
    tcp_send_synack,
)
from refmodel.tcp.whole.options import (  # noqa: E402
    read_options,
    tcp_advertise_mss,
    tcp_established_options,
    wire_options,
)

__all__ = [
    "read_options",
    "tcp_advertise_mss",
    "tcp_connect",
    "tcp_connect_init",
    "tcp_established_options",
    "tcp_make_synack",
    "tcp_rtx_synack",
    "tcp_send_syn_data",
    "tcp_send_synack",
    "wire_options",
]
