"""The short functions of include/net/tcp.h, include/net/sock.h and inet_connection_sock.h on the objects of `sock`."""

from refmodel.tcp import window
from refmodel.tcp.whole.const import (
    ACK,
    ICSK_ACK_SCHED,
    MAX_TCP_HEADER,
    PAGE_SIZE,
    SK_PACING_NEEDED,
    SKB_TRUESIZE,
    TCP_INFINITE_SSTHRESH,
    skb_end_offset,
)
from refmodel.tcp.whole.skb import Packet, Skb, TcpOptions
from refmodel.tcp.whole.sock import CA, RxOpt, Sock


def tcp_skb_pcount(skb: Skb) -> int:
    """How many segments the skb stands for; source include/net/tcp.h:tcp_skb_pcount."""
    return skb.gso_segs


def tcp_in_initial_slowstart(sk: Sock) -> bool:
    """No loss has set a threshold yet; source include/net/tcp.h:tcp_in_initial_slowstart."""
    return sk.snd_ssthresh >= TCP_INFINITE_SSTHRESH


def tcp_packets_in_flight(sk: Sock) -> int:
    """Segments in the network as far as is known; source include/net/tcp.h:tcp_packets_in_flight."""
    return sk.packets_out - (sk.sacked_out + sk.lost_out) + sk.retrans_out


def tcp_is_sack(sk: Sock) -> bool:
    """The peer permitted SACK; source include/net/tcp.h:tcp_is_sack."""
    return sk.rx_opt.sack_ok != 0


def tcp_write_queue_head(sk: Sock) -> Skb | None:
    """The first unsent skb (tcp_send_head); source include/net/tcp.h:tcp_send_head."""
    return sk.sk_write_queue.head


# ---------------------------------------------------------------- inlines of include/net/tcp.h and include/net/sock.h


def tcp_wnd_end(sk: Sock) -> int:
    """The right edge of the peer's window; source include/net/tcp.h:tcp_wnd_end."""
    return (sk.snd_una + sk.snd_wnd) & 0xFFFFFFFF


def tcp_left_out(sk: Sock) -> int:
    """Segments that left the network or are lost; source include/net/tcp.h:tcp_left_out."""
    return sk.sacked_out + sk.lost_out


def tcp_receive_window(sk: Sock) -> int:
    """What is left of the window that we advertised; source include/net/tcp.h:tcp_receive_window."""
    return window.tcp_receive_window(sk.rcv_nxt, sk.rcv_wup, sk.rcv_wnd)


def tcp_in_slow_start(sk: Sock) -> bool:
    """The congestion window is below the threshold; source include/net/tcp.h:tcp_in_slow_start."""
    return sk.snd_cwnd < sk.snd_ssthresh


def tcp_in_cwnd_reduction(sk: Sock) -> bool:
    """The state is CWR or Recovery; source include/net/tcp.h:tcp_in_cwnd_reduction."""
    return sk.icsk_ca_state in (CA.CWR, CA.Recovery)


def tcp_current_ssthresh(sk: Sock) -> int:
    """The threshold to go on with after idleness; source include/net/tcp.h:tcp_current_ssthresh."""
    if tcp_in_cwnd_reduction(sk):
        return sk.snd_ssthresh
    return max(sk.snd_ssthresh, (sk.snd_cwnd >> 1) + (sk.snd_cwnd >> 2))


def tcp_is_cwnd_limited(sk: Sock) -> bool:
    """The congestion window held sending back; source include/net/tcp.h:tcp_is_cwnd_limited."""
    if sk.is_cwnd_limited:
        return True
    return tcp_in_slow_start(sk) and sk.snd_cwnd < 2 * sk.max_packets_out


def tcp_min_rtt(sk: Sock) -> int:
    """The least round trip seen lately (us), 2**32 - 1 if none; source include/net/tcp.h:tcp_min_rtt."""
    return sk.rtt_min.get()


def tcp_skb_mss(skb: Skb) -> int:
    """The segment size of a super-segment; source include/net/tcp.h:tcp_skb_mss."""
    return skb.gso_size


def tcp_skb_can_collapse_to(skb: Skb) -> bool:
    """Data may be added to it; source include/net/tcp.h:tcp_skb_can_collapse_to."""
    return not skb.eor


def tcp_skb_can_collapse(to: Skb, frm: Skb) -> bool:
    """Two skbs may become one; source include/net/tcp.h:tcp_skb_can_collapse."""
    return not to.eor and skb_zcopy_pure(to) == skb_zcopy_pure(frm)


def skb_zcopy_pure(skb: Skb) -> bool:
    """All its data are a user's pages; source include/linux/skbuff.h:skb_zcopy_pure."""
    return skb.uarg is not None and skb.pure_zcopy


def tcp_rto_min(sk: Sock) -> int:
    """The least RTO (jiffies), a route's if it is locked; source include/net/tcp.h:tcp_rto_min."""
    dst = sk.sk_dst
    if dst is not None and "rto_min" in dst.lock:
        return sk.net.usecs_to_jiffies(dst.rto_min)
    return sk.icsk_rto_min


def tcp_rto_min_us(sk: Sock) -> int:
    """The least RTO in us; source include/net/tcp.h:tcp_rto_min_us."""
    return sk.net.jiffies_to_usecs(tcp_rto_min(sk))


def tcp_probe0_base(sk: Sock) -> int:
    """The first interval of window probes (jiffies); source include/net/tcp.h:tcp_probe0_base."""
    return max(sk.icsk_rto, sk.net.hz // 5)


def tcp_probe0_when(sk: Sock, max_when: int) -> int:
    """The next interval of window probes (jiffies); source include/net/tcp.h:tcp_probe0_when."""
    hz = sk.net.hz
    backoff = min((120 * hz // (hz // 5)).bit_length(), sk.icsk_backoff)
    return min(tcp_probe0_base(sk) << backoff, max_when)


def tcp_pacing_delay(sk: Sock) -> int:
    """In how many jiffies pacing lets the next segment go; source include/net/tcp.h:tcp_pacing_delay."""
    delay = sk.tcp_wstamp_ns - sk.tcp_clock_cache
    return delay * sk.net.hz // 1_000_000_000 if delay > 0 else 0


def tcp_needs_internal_pacing(sk: Sock) -> bool:
    """TCP paces by a timer of its own; source include/net/tcp.h:tcp_needs_internal_pacing."""
    return sk.sk_pacing_status == SK_PACING_NEEDED


def tcp_time_stamp_ts(sk: Sock) -> int:
    """The timestamp clock; source include/net/tcp.h:tcp_time_stamp_ts."""
    return (sk.tcp_mstamp if sk.tcp_usec_ts else sk.tcp_mstamp // 1000) & 0xFFFFFFFF


def tcp_skb_timestamp_ts(usec_ts: bool, skb: Skb) -> int:
    """An skb's departure in the timestamp clock; source include/net/tcp.h:tcp_skb_timestamp_ts."""
    return (skb.skb_mstamp if usec_ts else skb.skb_mstamp // 1000) & 0xFFFFFFFF


def tcp_mss_clamp(sk: Sock, mss: int) -> int:
    """`mss`, or the user's if that is less; source include/linux/tcp.h:tcp_mss_clamp."""
    user_mss = sk.rx_opt.user_mss
    return user_mss if 0 < user_mss < mss else mss


def inet_csk_in_pingpong_mode(sk: Sock) -> bool:
    """The session is interactive; source include/net/inet_connection_sock.h:inet_csk_in_pingpong_mode."""
    return sk.icsk_ack.pingpong >= sk.net.p.tcp_pingpong_thresh


def inet_csk_ack_scheduled(sk: Sock) -> bool:
    """An acknowledgment is owed; source include/net/inet_connection_sock.h:inet_csk_ack_scheduled."""
    return bool(sk.icsk_ack.pending & ICSK_ACK_SCHED)


def tcp_urg_mode(sk: Sock) -> bool:
    """Urgent data are unacknowledged; source net/ipv4/tcp_output.c:tcp_urg_mode."""
    return sk.snd_una != sk.snd_up


def tcp_highest_sack_replace(sk: Sock, old: Skb, new: Skb | None) -> None:
    """`new` stands where `old` stood; source include/net/tcp.h:tcp_highest_sack_replace."""
    if sk.highest_sack is old:
        sk.highest_sack = new


def sk_wmem_queued_add(sk: Sock, val: int) -> None:
    """Memory of both send queues; source include/net/sock.h:sk_wmem_queued_add."""
    sk.sk_wmem_queued += val


def sk_mem_charge(sk: Sock, size: int) -> None:
    """Takes memory from what is scheduled; source include/net/sock.h:sk_mem_charge."""
    sk.sk_forward_alloc -= size


def sk_mem_reclaim(sk: Sock) -> None:
    """Gives whole pages back; source include/net/sock.h:sk_mem_reclaim."""
    if sk.sk_forward_alloc >= PAGE_SIZE:
        sk.sk_forward_alloc %= PAGE_SIZE


def sk_mem_uncharge(sk: Sock, size: int) -> None:
    """Puts memory back to what is scheduled; source include/net/sock.h:sk_mem_uncharge."""
    sk.sk_forward_alloc += size
    sk_mem_reclaim(sk)


def sk_forced_mem_schedule(sk: Sock, size: int) -> None:
    """Schedules memory whatever the limits say; source net/ipv4/tcp_output.c:sk_forced_mem_schedule."""
    delta = size - sk.sk_forward_alloc
    if delta > 0:
        sk.sk_forward_alloc += -(-delta // PAGE_SIZE) * PAGE_SIZE


def tcp_is_reno(sk: Sock) -> bool:
    """The peer did not permit SACK; source include/net/tcp.h:tcp_is_reno."""
    return sk.rx_opt.sack_ok == 0


def tcp_stamp_us_delta(t1: int, t0: int) -> int:
    """From `t0` to `t1` in us, 0 if that is negative; source include/net/tcp.h:tcp_stamp_us_delta."""
    return t1 - t0 if t1 > t0 else 0


def tcp_time_stamp_ms(sk: Sock) -> int:
    """The socket's clock in ms; source include/net/tcp.h:tcp_time_stamp_ms."""
    return (sk.tcp_mstamp // 1000) & 0xFFFFFFFF


def tcp_skb_sent_after(t1: int, t2: int, seq1: int, seq2: int) -> bool:
    """The first was sent later, or at the same time and lies behind; source include/net/tcp.h:tcp_skb_sent_after."""
    return t1 > t2 or (t1 == t2 and ((seq2 - seq1) & 0xFFFFFFFF) >= 0x80000000)


def tcp_highest_sack_seq(sk: Sock) -> int:
    """Where the skb behind the last SACKed one begins; source include/net/tcp.h:tcp_highest_sack_seq."""
    if sk.sacked_out == 0:
        return sk.snd_una
    return sk.snd_nxt if sk.highest_sack is None else sk.highest_sack.seq


def tcp_advance_highest_sack(sk: Sock, skb: Skb) -> None:
    """The highest SACK is `skb`; source include/net/tcp.h:tcp_advance_highest_sack."""
    sk.highest_sack = skb.next


def tcp_highest_sack_reset(sk: Sock) -> None:
    """Nothing is SACKed; source include/net/tcp.h:tcp_highest_sack_reset."""
    sk.highest_sack = sk.tcp_rtx_queue.head


def tcp_clear_retrans_hints_partial(sk: Sock) -> None:
    """Forgets where loss marking stood; source include/net/tcp.h:tcp_clear_retrans_hints_partial."""
    sk.lost_skb_hint = None


def tcp_clear_all_retrans_hints(sk: Sock) -> None:
    """Forgets where loss marking and retransmission stood; source include/net/tcp.h:tcp_clear_all_retrans_hints."""
    sk.lost_skb_hint = None
    sk.retransmit_skb_hint = None


def tcp_rtx_queue_unlink_and_free(skb: Skb, sk: Sock) -> None:
    """Frees an skb of the retransmit queue; source include/net/tcp.h:tcp_rtx_queue_unlink_and_free."""
    sk.tsorted_sent_queue.unlink(skb)
    sk.tcp_rtx_queue.unlink(skb)
    tcp_wmem_free_skb(sk, skb)


def sk_wmem_schedule(sk: Sock, size: int) -> bool:
    """Schedules memory for sending; source include/net/sock.h:sk_wmem_schedule."""
    sk_forced_mem_schedule(sk, size)
    return True


def sk_stream_wspace(sk: Sock) -> int:
    """How much the send buffer still takes; source include/net/sock.h:sk_stream_wspace."""
    return sk.sk_sndbuf - sk.sk_wmem_queued


def tx_skb_truesize(sk: Sock, size: int = 0) -> int:
    """Memory of an skb that TCP allocates, `size` bytes in its head; source net/ipv4/tcp.c:tcp_stream_alloc_skb."""
    p = sk.net.p
    return SKB_TRUESIZE(skb_end_offset(MAX_TCP_HEADER(p.max_header) + size, p.kernel, p.max_header))


def tcp_wmem_free_skb(sk: Sock, skb: Skb) -> None:
    """Frees an skb of a send queue; source include/net/tcp.h:tcp_wmem_free_skb."""
    sk.sk_wmem_queued -= skb.truesize
    if skb.uarg is None:
        sk_mem_uncharge(sk, skb.truesize)
        return
    from refmodel.tcp.whole import errqueue

    sk_mem_uncharge(sk, tx_skb_truesize(sk) if skb.pure_zcopy else skb.truesize)
    errqueue.skb_zcopy_clear(skb, True)


# ---------------------------------------------------------------- the receiver's inlines


def options_size(opts: TcpOptions) -> int:
    """How many bytes of options a header carries; source net/ipv4/tcp_output.c:tcp_options_write."""
    if opts.size >= 0:
        return opts.size
    n = 0
    if opts.md5 is not None:
        n += 20
    if opts.mss:
        n += 4
    if opts.tsval is not None:
        n += 12
    elif opts.sack_perm:
        n += 4
    if opts.wscale is not None:
        n += 4
    if opts.sacks:
        n += 4 + 8 * len(opts.sacks)
    if opts.fastopen is not None:
        n += (len(opts.fastopen) + (4 if opts.fastopen_exp else 2) + 3) & ~3
    if opts.accecn is not None:
        n += (5 + 3 * len(opts.accecn[1])) & ~3
    opts.size = n
    return n


def tcp_hdrlen(packet: Packet) -> int:
    """The length of the TCP header in bytes; source include/linux/tcp.h:tcp_hdrlen."""
    return 20 + options_size(packet.opts)


def tcp_fast_path_on(sk: Sock) -> None:
    """Predicts the next header: its length, the window and the flags, with Accurate ECN those of the last mark.

    source include/net/tcp.h:tcp_fast_path_on
    """
    ace = (sk.delivered_ce + 5 & 7) << 6 if sk.ecn_flags & 17 == 16 else 0
    sk.pred_flags = (sk.tcp_header_len, sk.snd_wnd >> sk.rx_opt.snd_wscale, ACK | ace)


def tcp_fast_path_check(sk: Sock) -> None:
    """Predicts headers unless something needs a closer look; source include/net/tcp.h:tcp_fast_path_check."""
    if sk.out_of_order_queue.head is None and sk.rcv_wnd and sk.sk_rmem_alloc < sk.sk_rcvbuf and not sk.urg_data:
        tcp_fast_path_on(sk)


def tcp_sack_reset(rx_opt: RxOpt) -> None:
    """Forgets the SACK blocks that are to be sent; source include/net/tcp.h:tcp_sack_reset."""
    rx_opt.dsack = False
    rx_opt.num_sacks = 0


def tcp_clear_options(rx_opt: RxOpt) -> None:
    """Nothing was agreed on; source include/linux/tcp.h:tcp_clear_options."""
    rx_opt.tstamp_ok = False
    rx_opt.sack_ok = 0
    rx_opt.wscale_ok = False
    rx_opt.snd_wscale = 0


def inet_csk_schedule_ack(sk: Sock) -> None:
    """An acknowledgment is owed; source include/net/inet_connection_sock.h:inet_csk_schedule_ack."""
    sk.icsk_ack.pending |= ICSK_ACK_SCHED


def inet_csk_enter_pingpong_mode(sk: Sock) -> None:
    """Takes the session for interactive; source include/net/inet_connection_sock.h:inet_csk_enter_pingpong_mode."""
    sk.icsk_ack.pingpong = sk.net.p.tcp_pingpong_thresh


def inet_csk_exit_pingpong_mode(sk: Sock) -> None:
    """Takes the session for a bulk transfer; source include/net/inet_connection_sock.h:inet_csk_exit_pingpong_mode."""
    sk.icsk_ack.pingpong = 0


def sk_rmem_schedule(sk: Sock, size: int) -> bool:
    """Schedules memory for receiving; source include/net/sock.h:sk_rmem_schedule."""
    sk_forced_mem_schedule(sk, size)
    return True
