"""Acknowledgments: what an ACK does to the sender (tcp_ack and its like in net/ipv4/tcp_input.c).

The law: an ACK counts if it lies in [snd_una, snd_nxt]; an older one may still carry SACKs. In this order it moves
snd_una and the window, tags what it SACKs, frees what it acknowledges and takes samples of time from it, finds losses,
arms the timer, lets congestion control set the window, and only then sends what recovery calls for.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp import cong
from refmodel.tcp.whole import (
    accecn,
    ca,
    errqueue,
    output,
    poll,
    rack,
    rate,
    rcv,
    rcvbuf,
    recovery,
    route,
    rttm,
    sack,
    sendmsg,
    timer,
    undo,
)
from refmodel.tcp.whole.acktag import (
    FLAG_ACK_MAYBE_DELAYED,
    FLAG_ACKED,
    FLAG_CA_ALERT,
    FLAG_DATA,
    FLAG_DATA_ACKED,
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ECE,
    FLAG_FORWARD_PROGRESS,
    FLAG_NOT_DUP,
    FLAG_ORIG_SACK_ACKED,
    FLAG_RETRANS_DATA_ACKED,
    FLAG_SACK_RENEGING,
    FLAG_SET_XMIT_TIMER,
    FLAG_SLOWPATH,
    FLAG_SND_UNA_ADVANCED,
    FLAG_SYN_ACKED,
    FLAG_WIN_UPDATE,
    REXMIT_NONE,
    TCP_ACK_UNSENT_DATA,
    TCP_TOO_OLD_ACK,
    SacktagState,
)
from refmodel.tcp.whole.acktag import FLAG_NO_CHALLENGE_ACK as FLAG_NO_CHALLENGE_ACK
from refmodel.tcp.whole.acktag import FLAG_UPDATE_TS_RECENT as FLAG_UPDATE_TS_RECENT
from refmodel.tcp.whole.const import (
    CA_ACK_ECE,
    CA_ACK_SLOWPATH,
    CA_ACK_WIN_UPDATE,
    CWR,
    ECE,
    ICSK_ACK_NOW,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    MAX_TCP_HEADER,
    SHARED_INFO_SIZE,
    SK_BUFF_SIZE,
    SYN,
    TCP_CHRONO_BUSY,
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_MODE_ACCECN,
    TCP_ECN_OK,
    TCP_INIT_CWND,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
)
from refmodel.tcp.whole.net import (
    inet_csk_clear_xmit_timer,
    tcp_reset_xmit_timer,
    tcp_rto_delta_us,
    tcp_rto_max,
)
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import CA, AckedSample, Dst, RateSample, RequestSock, Sock
from refmodel.tcp.whole.tcp_h import (
    tcp_fast_path_check,
    tcp_highest_sack_seq,
    tcp_in_cwnd_reduction,
    tcp_packets_in_flight,
    tcp_probe0_when,
    tcp_rtx_queue_unlink_and_free,
    tcp_wnd_end,
)
from refmodel.types import H32, M32, after, before, between

SOCK_SNDBUF_LOCK: Final = 1
BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB: Final = 4
BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB: Final = 5


# ---------------------------------------------------------------- time


@cited("net/ipv4/tcp_input.c:tcp_synack_rtt_meas")
def tcp_synack_rtt_meas(sk: Sock, req: RequestSock | None) -> None:
    """The first sample of a passive connection: from its SYN-ACK, if that was sent once, to the ACK."""
    rtt_us = -1
    if req is not None and not req.num_retrans and req.snt_synack:
        rtt_us = max(sk.net.now - req.snt_synack, 0)
    rttm.tcp_ack_update_rtt(sk, FLAG_SYN_ACKED, rtt_us, -1, rtt_us, RateSample())


@cited("net/ipv4/tcp_input.c:tcp_rearm_rto", "RFC 6298 5.3")
def tcp_rearm_rto(sk: Sock) -> None:
    """The retransmission timer runs anew while something is out: from now, or instead of another timer for the rest."""
    if sk.fastopen_rsk is not None:
        return
    if sk.packets_out == 0:
        inet_csk_clear_xmit_timer(sk, ICSK_TIME_RETRANS)
        return
    rto = sk.icsk_rto
    if sk.icsk_pending in (ICSK_TIME_REO_TIMEOUT, ICSK_TIME_LOSS_PROBE):
        rto = sk.net.usecs_to_jiffies(max(tcp_rto_delta_us(sk), 1))
    tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, rto, tcp_rto_max(sk))


@cited("net/ipv4/tcp_input.c:tcp_set_xmit_timer", "RFC 8985 7.2")
def tcp_set_xmit_timer(sk: Sock) -> None:
    """A probe of the tail is scheduled, else the timeout."""
    if not output.tcp_schedule_loss_probe(sk, True):
        tcp_rearm_rto(sk)


# ---------------------------------------------------------------- the window


@cited("net/ipv4/tcp_input.c:tcp_update_pacing_rate")
def tcp_update_pacing_rate(sk: Sock) -> None:
    """The pace is the window in a round trip, doubled in slow start and a fifth more after it."""
    p = sk.net.p
    pace = sk.mss_cache * 80_000
    pace *= p.tcp_pacing_ss_ratio if sk.snd_cwnd < sk.snd_ssthresh // 2 else p.tcp_pacing_ca_ratio
    pace *= max(sk.snd_cwnd, sk.packets_out)
    if sk.srtt_us:
        pace //= sk.srtt_us
    sk.sk_pacing_rate = min(pace, sk.sk_max_pacing_rate)


def tcp_init_cwnd(sk: Sock, dst: Dst | None = None) -> int:
    """The window to start with, on a route (the socket's); source net/ipv4/tcp_input.c:tcp_init_cwnd, RFC 6928 2."""
    if dst is None:
        dst = sk.sk_dst
    return cong.tcp_init_cwnd(dst.initcwnd if dst is not None else 0, sk.snd_cwnd_clamp)


@cited("net/ipv4/tcp_input.c:tcp_cong_avoid")
def tcp_cong_avoid(sk: Sock, ack: int, acked: int) -> None:
    """Congestion control lets the window grow."""
    sk.icsk_ca_ops.cong_avoid(sk, ack, acked)
    sk.snd_cwnd_stamp = sk.net.jiffies


@cited("net/ipv4/tcp_input.c:tcp_cong_control")
def tcp_cong_control(sk: Sock, ack: int, acked_sacked: int, flag: int, rs: RateSample) -> None:
    """The window moves: by congestion control's own rule, down by PRR, or up; then the pace follows it."""
    ops = sk.icsk_ca_ops
    if ops.cong_control is not None:
        ops.cong_control(sk, ack, flag, rs)
        return
    if tcp_in_cwnd_reduction(sk):
        recovery.tcp_cwnd_reduction(sk, acked_sacked, rs.losses, flag)
    elif cong.tcp_may_raise_cwnd(
        sk.reordering,
        sk.net.p.tcp_reordering,
        flag & FLAG_FORWARD_PROGRESS != 0,
        flag & FLAG_DATA_ACKED != 0,
    ):
        tcp_cong_avoid(sk, ack, acked_sacked)
    tcp_update_pacing_rate(sk)


@cited("net/ipv4/tcp_input.c:tcp_ack_probe", "RFC 9293 3.8.6.1")
def tcp_ack_probe(sk: Sock) -> None:
    """With nothing out, an ACK that opens the window ends the probing, and one that doesn't times the next probe."""
    head = sk.sk_write_queue.head
    if head is None:
        return
    if not after(head.end_seq, tcp_wnd_end(sk)):
        sk.icsk_backoff = 0
        sk.icsk_probes_tstamp = 0
        inet_csk_clear_xmit_timer(sk, ICSK_TIME_PROBE0)
    else:
        rto_max = tcp_rto_max(sk)
        when = timer.tcp_clamp_probe0_to_user_timeout(sk, tcp_probe0_when(sk, rto_max))
        tcp_reset_xmit_timer(sk, ICSK_TIME_PROBE0, when, rto_max)


@cited("net/ipv4/tcp_input.c:tcp_may_update_window", "RFC 9293 3.10.7.4")
def tcp_may_update_window(sk: Sock, ack: int, ack_seq: int, nwin: int) -> bool:
    """The segment's window is news: it acknowledges more, comes later, or opens (or closes) the window."""
    return (
        after(ack, sk.snd_una)
        or after(ack_seq, sk.snd_wl1)
        or (ack_seq == sk.snd_wl1 and (nwin > sk.snd_wnd or (nwin == 0 and sk.net.p.kernel >= 612)))
    )


def tcp_snd_una_update(sk: Sock, ack: int) -> None:
    """Moves snd_una and counts bytes; source net/ipv4/tcp_input.c:tcp_snd_una_update."""
    sk.bytes_acked += (ack - sk.snd_una) & M32
    sk.snd_una = ack


@cited("net/ipv4/tcp_input.c:tcp_ack_update_window", "RFC 9293 3.10.7.4")
def tcp_ack_update_window(sk: Sock, skb: Skb, ack: int, ack_seq: int) -> int:
    """Takes the window of the segment if it is news, and moves snd_una; returns flags."""
    assert skb.packet is not None
    flag = 0
    nwin = skb.packet.window
    if not skb.tcp_flags & SYN:
        nwin <<= sk.rx_opt.snd_wscale
    if tcp_may_update_window(sk, ack, ack_seq, nwin):
        flag |= FLAG_WIN_UPDATE
        sk.snd_wl1 = ack_seq
        if sk.snd_wnd != nwin:
            sk.snd_wnd = nwin
            sk.pred_flags = None
            tcp_fast_path_check(sk)
            if sk.sk_write_queue.head is not None:
                sendmsg.tcp_slow_start_after_idle_check(sk)
            if nwin > sk.max_window:
                sk.max_window = nwin
                output.tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    tcp_snd_una_update(sk, ack)
    return flag


# ---------------------------------------------------------------- the retransmit queue


@cited("net/ipv4/tcp_input.c:tcp_tso_acked")
def tcp_tso_acked(sk: Sock, skb: Skb) -> int:
    """Of a super-segment the front is acknowledged: how many segments that is."""
    packets_acked = skb.gso_segs
    if output.tcp_trim_head(sk, skb, (sk.snd_una - skb.seq) & M32):
        return 0
    return packets_acked - skb.gso_segs


@cited("net/ipv4/tcp_input.c:tcp_clean_rtx_queue", "RFC 9293 3.10.7.4", "RFC 6298 3")
def tcp_clean_rtx_queue(
    sk: Sock, ack_skb: Skb, prior_fack: int, prior_snd_una: int, state: SacktagState, ece_ack: bool
) -> int:
    """Frees what is acknowledged, takes the samples of time from what was never repeated; returns flags."""
    ops = sk.icsk_ca_ops
    rs = state.rate
    snd_una = sk.snd_una
    high_seq = sk.high_seq
    is_sack = sk.rx_opt.sack_ok != 0
    prior_sacked = sk.sacked_out
    reord = sk.snd_nxt
    first_ackt = last_ackt = 0
    fully_acked = True
    pkts_acked = 0
    flag = 0
    skb = sk.tcp_rtx_queue.head
    while skb is not None:
        start_seq = skb.seq
        sacked = skb.sacked
        if (snd_una - skb.end_seq) & M32 >= H32:
            if skb.gso_segs == 1 or not after(snd_una, start_seq):
                break
            acked_pcount = tcp_tso_acked(sk, skb)
            if acked_pcount == 0:
                break
            fully_acked = False
        else:
            acked_pcount = skb.gso_segs
        if sacked & TCPCB_RETRANS:
            if sacked & TCPCB_SACKED_RETRANS:
                sk.retrans_out -= acked_pcount
            flag |= FLAG_RETRANS_DATA_ACKED
        elif not sacked & TCPCB_SACKED_ACKED:
            last_ackt = skb.skb_mstamp
            if first_ackt == 0:
                first_ackt = last_ackt
            if before(start_seq, reord):
                reord = start_seq
            if not after(skb.end_seq, high_seq):
                flag |= FLAG_ORIG_SACK_ACKED
        if sacked & TCPCB_SACKED_ACKED:
            sk.sacked_out -= acked_pcount
            state.delivered_bytes -= skb.len
        elif is_sack:
            sk.delivered += acked_pcount
            if ece_ack:
                sk.delivered_ce += acked_pcount
            if not sacked & TCPCB_RETRANS or not undo.tcp_skb_spurious_retrans(sk, skb):
                rack.tcp_rack_advance(sk, sacked, skb.end_seq, skb.skb_mstamp)
        if sacked & TCPCB_LOST:
            sk.lost_out -= acked_pcount
        sk.packets_out -= acked_pcount
        pkts_acked += acked_pcount
        rate.tcp_rate_skb_delivered(sk, skb, rs)
        if skb.tcp_flags & SYN:
            flag |= FLAG_SYN_ACKED
            sk.retrans_stamp = 0
        else:
            flag |= FLAG_DATA_ACKED
        if not fully_acked:
            break
        if skb.txstamp_ack:
            errqueue.tcp_ack_tstamp(sk, skb, ack_skb.packet, prior_snd_una)
        behind = skb.next
        if skb is sk.retransmit_skb_hint:
            sk.retransmit_skb_hint = None
        if skb is sk.lost_skb_hint:
            sk.lost_skb_hint = None
        if skb is sk.highest_sack:
            sk.highest_sack = behind
        tcp_rtx_queue_unlink_and_free(skb, sk)
        skb = behind
    if skb is None:
        output.tcp_chrono_stop(sk, TCP_CHRONO_BUSY)
    if between(sk.snd_up, prior_snd_una, snd_una):
        sk.snd_up = snd_una
    if skb is not None:
        if skb.txstamp_ack:
            errqueue.tcp_ack_tstamp(sk, skb, ack_skb.packet, prior_snd_una)
        if skb.sacked & TCPCB_SACKED_ACKED:
            flag |= FLAG_SACK_RENEGING
    now = sk.tcp_mstamp
    seq_rtt_us = sack_rtt_us = ca_rtt_us = -1
    if first_ackt and not flag & FLAG_RETRANS_DATA_ACKED:
        seq_rtt_us = max(now - first_ackt, 0)
        ca_rtt_us = max(now - last_ackt, 0)
        if (
            pkts_acked == 1
            and fully_acked
            and prior_sacked == 0
            and ((snd_una - prior_snd_una) & M32) < sk.mss_cache
            and rs.prior_delivered + 1 == sk.delivered
            and not flag & (FLAG_CA_ALERT | FLAG_SYN_ACKED)
        ):
            flag |= FLAG_ACK_MAYBE_DELAYED
    if state.first_sackt:
        sack_rtt_us = max(now - state.first_sackt, 0)
        ca_rtt_us = max(now - state.last_sackt, 0)
    rtt_update = rttm.tcp_ack_update_rtt(sk, flag, seq_rtt_us, sack_rtt_us, ca_rtt_us, rs)
    if flag & FLAG_ACKED:
        flag |= FLAG_SET_XMIT_TIMER
        if sk.icsk_mtup.probe_size and not after(sk.mtu_probe_seq_end, snd_una):
            recovery.tcp_mtup_probe_success(sk)
        if not is_sack:
            sack.tcp_remove_reno_sacks(sk, pkts_acked, ece_ack)
            if flag & FLAG_RETRANS_DATA_ACKED:
                flag &= ~FLAG_ORIG_SACK_ACKED
        else:
            if before(reord, prior_fack):
                sack.tcp_check_sack_reordering(sk, reord, False)
            sk.lost_cnt_hint -= min(sk.lost_cnt_hint, prior_sacked - sk.sacked_out)
    elif skb is not None and rtt_update and sack_rtt_us >= 0 and sack_rtt_us > max(now - skb.skb_mstamp, 0):
        flag |= FLAG_SET_XMIT_TIMER
    if ops.pkts_acked is not None:
        in_flight = (sk.mss_cache * (sk.delivered - rs.prior_delivered)) & M32
        ops.pkts_acked(sk, AckedSample(pkts_acked, rs.rtt_us, in_flight))
    if is_sack and sk.packets_out == 0:
        sk.lost_out = sk.sacked_out = sk.retrans_out = 0  # what an undo let leak ends with the queue
    return flag


# ---------------------------------------------------------------- the acknowledgment


@cited("net/ipv4/tcp_input.c:tcp_process_tlp_ack", "RFC 8985 7.4")
def tcp_process_tlp_ack(sk: Sock, ack: int, flag: int) -> None:
    """The probe of the tail is answered: if it repaired a loss the window falls, else nothing was lost."""
    if before(ack, sk.tlp_high_seq):
        return
    if not sk.tlp_retrans or flag & FLAG_DSACK_TLP:
        sk.tlp_high_seq = 0
    elif after(ack, sk.tlp_high_seq):
        recovery.tcp_init_cwnd_reduction(sk)
        ca.tcp_set_ca_state(sk, CA.CWR)
        recovery.tcp_end_cwnd_reduction(sk)
        recovery.tcp_try_keep_open(sk)
        sk.net.count("TcpExtTCPLossProbeRecovery")
        sk.net.note("tcp_process_tlp_ack", f"the probe repaired a loss: cwnd {sk.snd_cwnd}")
    elif not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DATA_SACKED):
        sk.tlp_high_seq = 0


@cited("net/ipv4/tcp_input.c:tcp_in_ack_event")
def tcp_in_ack_event(sk: Sock, flag: int) -> None:
    """Congestion control learns what kind of ACK it is."""
    in_ack_event = sk.icsk_ca_ops.in_ack_event
    if in_ack_event is not None:
        ack_ev_flags = 0
        if flag & FLAG_WIN_UPDATE:
            ack_ev_flags |= CA_ACK_WIN_UPDATE
        if flag & FLAG_SLOWPATH:
            ack_ev_flags |= CA_ACK_SLOWPATH
            if flag & FLAG_ECE:
                ack_ev_flags |= CA_ACK_ECE
        in_ack_event(sk, ack_ev_flags)


@cited("net/ipv4/tcp_input.c:tcp_newly_delivered")
def tcp_newly_delivered(sk: Sock, prior_delivered: int, ecn_count: int, flag: int) -> int:
    """How many segments this ACK delivered; with Accurate ECN `ecn_count` of them with marks."""
    delivered = sk.delivered - prior_delivered
    if delivered:
        sk.net.count("TcpExtTCPDelivered", delivered)
    if flag & FLAG_ECE:
        sk.net.count("TcpExtTCPDeliveredCE", delivered if sk.ecn_flags & TCP_ECN_OK else ecn_count)
    return delivered


@cited("net/ipv4/tcp_input.c:tcp_ecn_accept_cwr", "RFC 3168 6.1.3")
def tcp_ecn_accept_cwr(sk: Sock, skb: Skb) -> None:
    """The peer reduced its window (CWR): marks needn't be echoed any more, and its data get an ACK at once."""
    sk.ecn_flags &= ~TCP_ECN_DEMAND_CWR
    if skb.seq != skb.end_seq:
        sk.icsk_ack.pending |= ICSK_ACK_NOW


@cited("net/ipv4/tcp_input.c:tcp_ack", "RFC 9293 3.10.7.4", "RFC 5961 5.2")
def tcp_ack(sk: Sock, skb: Skb, flag: int) -> int:
    """What an acknowledgment does: 1 done, 0 it is an old one, negative: the segment must be dropped."""
    prior_snd_una = sk.snd_una
    is_sack_reneg = sk.is_sack_reneg
    ack_seq = skb.seq
    ack = skb.ack_seq
    num_dupack = 0
    prior_packets = sk.packets_out
    delivered = sk.delivered
    lost = sk.lost
    if before(ack, prior_snd_una):
        max_window = min(sk.max_window, sk.bytes_acked)
        if before(ack, (prior_snd_una - max_window) & M32):
            if not flag & FLAG_NO_CHALLENGE_ACK:
                rcv.tcp_send_challenge_ack(sk)
            return -TCP_TOO_OLD_ACK
        return old_ack(sk, skb, flag, prior_snd_una)
    if after(ack, sk.snd_nxt):
        if sk.net.p.kernel >= 618 and not flag & FLAG_NO_CHALLENGE_ACK:
            rcv.tcp_send_challenge_ack(sk)
        return -TCP_ACK_UNSENT_DATA
    if ack != prior_snd_una:
        flag |= FLAG_SND_UNA_ADVANCED
        sk.icsk_retransmits = 0
    state: SacktagState | None = None
    prior_fack = prior_snd_una
    if prior_packets or skb.sacked:
        state = SacktagState(RateSample())
        state.rate.prior_in_flight = tcp_packets_in_flight(sk)
        if sk.rx_opt.sack_ok:
            prior_fack = tcp_highest_sack_seq(sk)
    if flag & FLAG_UPDATE_TS_RECENT:
        flag |= rcv.tcp_replace_ts_recent(sk, ack_seq)
    if flag & (FLAG_SLOWPATH | FLAG_SND_UNA_ADVANCED) == FLAG_SND_UNA_ADVANCED:
        sk.snd_wl1 = ack_seq
        tcp_snd_una_update(sk, ack)
        flag |= FLAG_WIN_UPDATE
        sk.net.count("TcpExtTCPHPAcks")
    else:
        if ack_seq != skb.end_seq:
            flag |= FLAG_DATA
        else:
            sk.net.count("TcpExtTCPPureAcks")
        flag |= tcp_ack_update_window(sk, skb, ack, ack_seq)
        if skb.sacked and state is not None:
            flag |= sack.tcp_sacktag_write_queue(sk, skb, prior_snd_una, state)
        if skb.tcp_flags & (ECE | SYN) == ECE and sk.ecn_flags & TCP_ECN_OK:
            flag |= FLAG_ECE
        if state is not None and state.sack_delivered:
            sack.tcp_count_delivered(sk, state.sack_delivered, flag & FLAG_ECE != 0)
    if skb.tcp_flags & CWR and (sk.net.p.kernel < 618 or sk.ecn_flags & TCP_ECN_OK):
        tcp_ecn_accept_cwr(sk, skb)
    sk.sk_err_soft = 0
    sk.icsk_probes_out = 0
    sk.rcv_tstamp = sk.net.jiffies
    if prior_packets == 0 or state is None:
        return no_queue(sk, skb, ack, flag, prior_snd_una, delivered)
    rs = state.rate
    flag |= tcp_clean_rtx_queue(sk, skb, prior_fack, prior_snd_una, state, flag & FLAG_ECE != 0)
    rack.tcp_rack_update_reo_wnd(sk, rs)
    ecn_count = 0
    if sk.ecn_flags & TCP_ECN_MODE_ACCECN:
        ecn_count, flag = accecn.tcp_accecn_process(sk, skb, sk.delivered - delivered, state, flag)
    tcp_in_ack_event(sk, flag)
    if sk.tlp_high_seq:
        tcp_process_tlp_ack(sk, ack, flag)
    rexmit = REXMIT_NONE
    if not flag & FLAG_NOT_DUP or flag & FLAG_CA_ALERT or sk.icsk_ca_state is not CA.Open:
        if not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DSACKING_ACK):
            num_dupack = 1
            if not flag & FLAG_DATA:
                num_dupack = max(1, skb.gso_segs)
        flag, rexmit = recovery.tcp_fastretrans_alert(sk, prior_snd_una, num_dupack, flag)
    if flag & FLAG_SET_XMIT_TIMER:
        tcp_set_xmit_timer(sk)
    delivered = tcp_newly_delivered(sk, delivered, ecn_count, flag)
    rs.is_ack_delayed = flag & FLAG_ACK_MAYBE_DELAYED != 0
    rate.tcp_rate_gen(sk, delivered, sk.lost - lost, is_sack_reneg, rs)
    tcp_cong_control(sk, ack, delivered, flag, rs)
    if rexmit != REXMIT_NONE:
        recovery.tcp_xmit_recovery(sk, rexmit)
    return 1


def no_queue(sk: Sock, skb: Skb, ack: int, flag: int, prior_snd_una: int, delivered: int) -> int:
    """The ACK comes while nothing is out: a DSACK may undo, a window may open; source as tcp_ack."""
    ecn_count = 0
    if sk.ecn_flags & TCP_ECN_MODE_ACCECN:
        ecn_count, flag = accecn.tcp_accecn_process(sk, skb, sk.delivered - delivered, None, flag)
    tcp_in_ack_event(sk, flag)
    if flag & FLAG_DSACKING_ACK:
        flag, _ = recovery.tcp_fastretrans_alert(sk, prior_snd_una, 0, flag)
        tcp_newly_delivered(sk, delivered, ecn_count, flag)
    tcp_ack_probe(sk)
    if sk.tlp_high_seq:
        tcp_process_tlp_ack(sk, ack, flag)
    return 1


def old_ack(sk: Sock, skb: Skb, flag: int, prior_snd_una: int) -> int:
    """An ACK that was overtaken may SACK or DSACK nevertheless; source as tcp_ack."""
    delivered = sk.delivered
    if flag & FLAG_UPDATE_TS_RECENT:
        rcv.tcp_replace_ts_recent(sk, skb.seq)
    if skb.sacked:
        state = SacktagState(RateSample())
        flag |= sack.tcp_sacktag_write_queue(sk, skb, prior_snd_una, state)
        flag, rexmit = recovery.tcp_fastretrans_alert(sk, prior_snd_una, 0, flag)
        tcp_newly_delivered(sk, delivered, 0, flag)
        recovery.tcp_xmit_recovery(sk, rexmit)
    return 0


# ---------------------------------------------------------------- the send buffer


@cited("net/ipv4/tcp_input.c:tcp_sndbuf_expand")
def tcp_sndbuf_expand(sk: Sock) -> None:
    """The send buffer holds two windows, counted in the memory that single segments take."""
    per_mss = max(sk.rx_opt.mss_clamp, sk.mss_cache) + MAX_TCP_HEADER(sk.net.p.max_header) + SHARED_INFO_SIZE
    per_mss = (1 << (per_mss - 1).bit_length()) + SK_BUFF_SIZE
    nr_segs = max(TCP_INIT_CWND, sk.snd_cwnd, sk.reordering + 1)
    ops = sk.icsk_ca_ops
    sndmem = (ops.sndbuf_expand(sk) if ops.sndbuf_expand is not None else 2) * nr_segs * per_mss
    if sk.sk_sndbuf < sndmem:
        sk.sk_sndbuf = min(sndmem, sk.net.p.tcp_wmem_2)


@cited("net/ipv4/tcp_input.c:tcp_should_expand_sndbuf")
def tcp_should_expand_sndbuf(sk: Sock) -> bool:
    """The buffer grows unless the user set it, or the window is full anyway."""
    return not sk.sk_userlocks & SOCK_SNDBUF_LOCK and tcp_packets_in_flight(sk) < sk.snd_cwnd


@cited("net/ipv4/tcp_input.c:tcp_new_space")
def tcp_new_space(sk: Sock) -> None:
    """There is room again: the buffer may grow, and whoever waits to write is told."""
    if tcp_should_expand_sndbuf(sk):
        tcp_sndbuf_expand(sk)
        sk.snd_cwnd_stamp = sk.net.jiffies
    poll.sk_write_space(sk)


@cited("net/ipv4/tcp_input.c:tcp_check_space")
def tcp_check_space(sk: Sock) -> None:
    """An application that found no room is told once there is some."""
    if sk.has_socket and sk.sk_nospace:
        tcp_new_space(sk)
        if not sk.sk_nospace:
            output.tcp_chrono_stop(sk, TCP_CHRONO_SNDBUF_LIMITED)


@cited("net/ipv4/tcp_input.c:tcp_data_snd_check")
def tcp_data_snd_check(sk: Sock) -> None:
    """After a segment was processed: what may be sent is, and room is announced."""
    output.tcp_push_pending_frames(sk)
    tcp_check_space(sk)


# ---------------------------------------------------------------- the beginning


@cited("net/ipv4/tcp_input.c:tcp_init_transfer", "RFC 5681 3.1")
def tcp_init_transfer(sk: Sock, bpf_op: int = 0, skb: Skb | None = None) -> None:
    """The connection is established: the path's metrics, the first window, congestion control, the buffers."""
    output.tcp_mtup_init(sk)
    route.inet_sk_rebuild_header(sk)
    route.tcp_init_metrics(sk)
    dst = sk.sk_dst
    initcwnd = dst.initcwnd if dst is not None else 0
    sk.snd_cwnd = cong.transfer_cwnd(initcwnd, sk.snd_cwnd_clamp, sk.total_retrans, sk.undo_marker != 0)
    sk.snd_cwnd_stamp = sk.net.jiffies
    if not sk.icsk_ca_initialized:
        ca.tcp_init_congestion_control(sk)
    rcvbuf.tcp_init_buffer_space(sk)


@cited("net/ipv4/tcp_input.c:tcp_rcv_spurious_retrans")
def tcp_rcv_spurious_retrans(sk: Sock, skb: Skb) -> None:
    """The peer repeats what arrived, by another path: our ACKs may be lost, so they take another path too (IPv6)."""
    if sk.net.p.kernel < 612:
        if skb.seq == sk.duplicate_sack[0].start_seq and timer.sk_rethink_txhash(sk):
            sk.net.count("TcpExtTcpDuplicateDataRehash")
        return
    packet = skb.packet
    if (
        sk.icsk_ca_state is not CA.Loss
        and packet is not None
        and len(packet.saddr) == 16
        and sk.icsk_ack.lrcv_flowlabel != packet.flowlabel
        and timer.sk_rethink_txhash(sk)
    ):
        sk.net.count("TcpExtTcpDuplicateDataRehash")
    rcvbuf.tcp_save_lrcv_flowlabel(sk, skb)
    accecn.dsack_of_lost_option(sk, skb)
