"""Loss recovery: the states Open, Disorder, CWR, Recovery and Loss, and the window in them (net/ipv4/tcp_input.c).

The law: a loss that arrivals show begins Recovery, a timeout begins Loss, a congestion mark begins CWR; each lasts
until what was out when it began is acknowledged, or until it proves wrong. In CWR and Recovery the window falls by PRR
to congestion control's threshold; in Loss it starts anew behind what is in flight.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp import cong, prr
from refmodel.tcp.state import St
from refmodel.tcp.whole import ack, ca, output, rack, sack, shift, undo
from refmodel.tcp.whole.acktag import (
    FLAG_DATA_SACKED,
    FLAG_ECE,
    FLAG_LOST_RETRANS,
    FLAG_ORIG_SACK_ACKED,
    FLAG_SACK_RENEGING,
    FLAG_SET_XMIT_TIMER,
    FLAG_SND_UNA_ADVANCED,
    REXMIT_LOST,
    REXMIT_NEW,
    REXMIT_NONE,
)
from refmodel.tcp.whole.const import (
    CA_EVENT_COMPLETE_CWR,
    CA_EVENT_LOSS,
    ICSK_TIME_RETRANS,
    TCP_ECN_OK,
    TCP_ECN_QUEUE_CWR,
    TCP_INFINITE_SSTHRESH,
    TCP_NAGLE_OFF,
    TCPCB_SACKED_ACKED,
)
from refmodel.tcp.whole.net import inet_csk_reset_xmit_timer, tcp_rto_max
from refmodel.tcp.whole.sock import CA, Sock
from refmodel.tcp.whole.tcp_h import (
    tcp_clear_all_retrans_hints,
    tcp_clear_retrans_hints_partial,
    tcp_current_ssthresh,
    tcp_highest_sack_seq,
    tcp_in_cwnd_reduction,
    tcp_is_reno,
    tcp_left_out,
    tcp_packets_in_flight,
    tcp_time_stamp_ms,
    tcp_wnd_end,
)
from refmodel.types import M32, add, after, before

MS_10: Final = 10


# ---------------------------------------------------------------- the window in a reduction


def tcp_ecn_queue_cwr(sk: Sock) -> None:
    """The next data shall carry CWR; source net/ipv4/tcp_input.c:tcp_ecn_queue_cwr, RFC 3168 6.1.2."""
    if sk.ecn_flags & TCP_ECN_OK:
        sk.ecn_flags |= TCP_ECN_QUEUE_CWR


@cited("net/ipv4/tcp_input.c:tcp_init_cwnd_reduction", "RFC 6937 3")
def tcp_init_cwnd_reduction(sk: Sock) -> None:
    """A reduction begins: to congestion control's threshold, until what is out now is acknowledged."""
    sk.high_seq = sk.snd_nxt
    sk.tlp_high_seq = 0
    sk.snd_cwnd_cnt = 0
    sk.prior_cwnd = sk.snd_cwnd
    sk.prr_delivered = 0
    sk.prr_out = 0
    sk.snd_ssthresh = sk.icsk_ca_ops.ssthresh(sk)
    tcp_ecn_queue_cwr(sk)


@cited("net/ipv4/tcp_input.c:tcp_cwnd_reduction", "RFC 6937 3")
def tcp_cwnd_reduction(sk: Sock, newly_acked_sacked: int, newly_lost: int, flag: int) -> None:
    """What was delivered lets out in proportion, until the window is at the threshold."""
    if newly_acked_sacked <= 0 or sk.prior_cwnd == 0:
        return
    s = cong.Cwnd(
        snd_ssthresh=sk.snd_ssthresh, prior_cwnd=sk.prior_cwnd, prr_delivered=sk.prr_delivered, prr_out=sk.prr_out
    )
    share = prr.prr_share(sk.snd_ssthresh, sk.prr_delivered + newly_acked_sacked, sk.prior_cwnd)
    advanced = flag & FLAG_SND_UNA_ADVANCED != 0
    t, _ = prr.tcp_cwnd_reduction(s, newly_acked_sacked, newly_lost, advanced, tcp_packets_in_flight(sk), share)
    sk.prr_delivered = t.prr_delivered
    sk.snd_cwnd = t.snd_cwnd


@cited("net/ipv4/tcp_input.c:tcp_end_cwnd_reduction", "RFC 6937 3")
def tcp_end_cwnd_reduction(sk: Sock) -> None:
    """The reduction is over: the window is the threshold, unless it was taken back."""
    if sk.icsk_ca_ops.cong_control is not None:
        return
    if sk.snd_ssthresh < TCP_INFINITE_SSTHRESH and (sk.icsk_ca_state == CA.CWR or sk.undo_marker):
        sk.snd_cwnd = sk.snd_ssthresh
        sk.snd_cwnd_stamp = sk.net.jiffies
    ca.tcp_ca_event(sk, CA_EVENT_COMPLETE_CWR)


@cited("net/ipv4/tcp_input.c:tcp_enter_cwr", "RFC 3168 6.1.2")
def tcp_enter_cwr(sk: Sock) -> None:
    """A congestion mark, or a full queue of our own, begins a reduction that is never taken back."""
    sk.prior_ssthresh = 0
    if sk.icsk_ca_state < CA.CWR:
        sk.undo_marker = 0
        tcp_init_cwnd_reduction(sk)
        ca.tcp_set_ca_state(sk, CA.CWR)
        sk.net.note("tcp_enter_cwr", f"cwnd {sk.prior_cwnd} ssthresh {sk.snd_ssthresh}")


# ---------------------------------------------------------------- Open and Disorder


@cited("net/ipv4/tcp_input.c:tcp_try_keep_open")
def tcp_try_keep_open(sk: Sock) -> None:
    """Open if nothing is out of order or repeated, else Disorder."""
    state = CA.Disorder if tcp_left_out(sk) or undo.tcp_any_retrans_done(sk) else CA.Open
    if sk.icsk_ca_state != state:
        ca.tcp_set_ca_state(sk, state)
        sk.high_seq = sk.snd_nxt


@cited("net/ipv4/tcp_input.c:tcp_try_to_open")
def tcp_try_to_open(sk: Sock, flag: int) -> None:
    """No loss: CWR by a congestion mark, else Open or Disorder."""
    undo.tcp_retrans_stamp_cleanup(sk)
    if flag & FLAG_ECE:
        tcp_enter_cwr(sk)
    if sk.icsk_ca_state != CA.CWR:
        tcp_try_keep_open(sk)


# ---------------------------------------------------------------- search for the MTU


@cited("net/ipv4/tcp_input.c:tcp_mtup_probe_failed", "RFC 4821 7.6")
def tcp_mtup_probe_failed(sk: Sock) -> None:
    """The probe was lost: the path's MTU is less."""
    sk.icsk_mtup.search_high = sk.icsk_mtup.probe_size - 1
    sk.icsk_mtup.probe_size = 0
    sk.net.count("TcpExtTCPMTUPFail")


@cited("net/ipv4/tcp_input.c:tcp_mtup_probe_success", "RFC 4821 7.6")
def tcp_mtup_probe_success(sk: Sock) -> None:
    """The probe arrived: segments grow, and the window shrinks to as many bytes."""
    mtup = sk.icsk_mtup
    sk.prior_ssthresh = tcp_current_ssthresh(sk)
    sk.snd_cwnd = max(1, sk.snd_cwnd * output.tcp_mss_to_mtu(sk, sk.mss_cache) // mtup.probe_size)
    sk.snd_cwnd_cnt = 0
    sk.snd_cwnd_stamp = sk.net.jiffies
    sk.snd_ssthresh = tcp_current_ssthresh(sk)
    mtup.search_low = mtup.probe_size
    mtup.probe_size = 0
    output.tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    sk.net.count("TcpExtTCPMTUPSuccess")


# ---------------------------------------------------------------- losses without congestion


@cited("net/ipv4/tcp_input.c:tcp_non_congestion_loss_retransmit")
def tcp_non_congestion_loss_retransmit(sk: Sock) -> None:
    """What was lost for its size, or for its cookie, goes again in the window of before, in state Loss."""
    if sk.icsk_ca_state != CA.Loss:
        sk.high_seq = sk.snd_nxt
        sk.snd_ssthresh = tcp_current_ssthresh(sk)
        sk.prior_ssthresh = 0
        sk.undo_marker = 0
        ca.tcp_set_ca_state(sk, CA.Loss)
    output.tcp_xmit_retransmit_queue(sk)


@cited("net/ipv4/tcp_input.c:tcp_simple_retransmit", "RFC 1191 6.5")
def tcp_simple_retransmit(sk: Sock) -> None:
    """The path's MTU fell: what is larger is lost and goes again at once."""
    mss = -1 if sk.syn_data and sk.sk_state is St.SYN_SENT else output.tcp_current_mss(sk)
    skb = sk.tcp_rtx_queue.head
    while skb is not None:
        if shift.tcp_skb_seglen(skb) > mss:
            rack.tcp_mark_skb_lost(sk, skb)
        skb = skb.next
    tcp_clear_retrans_hints_partial(sk)
    if sk.lost_out == 0:
        return
    if tcp_is_reno(sk):
        sack.tcp_limit_reno_sacked(sk)
    tcp_non_congestion_loss_retransmit(sk)


# ---------------------------------------------------------------- Loss


@cited("net/ipv4/tcp_input.c:tcp_timeout_mark_lost", "RFC 8985 6.3")
def tcp_timeout_mark_lost(sk: Sock) -> None:
    """A timeout loses the first segment and what was sent as long ago; if the first was SACKed, SACKs are void."""
    head = sk.tcp_rtx_queue.head
    is_reneg = head is not None and head.sacked & TCPCB_SACKED_ACKED != 0
    if is_reneg:
        sk.net.count("TcpExtTCPSACKReneging")
        sk.sacked_out = 0
        sk.is_sack_reneg = True
    elif tcp_is_reno(sk):
        sack.tcp_reset_reno_sack(sk)
    is_rack = rack.tcp_is_rack(sk)
    skb = head
    while skb is not None:
        if is_reneg:
            skb.sacked &= ~TCPCB_SACKED_ACKED
        elif skb.sacked & TCPCB_SACKED_ACKED or (
            is_rack and skb is not head and rack.tcp_rack_skb_timeout(sk, skb, 0) > 0
        ):
            skb = skb.next
            continue
        rack.tcp_mark_skb_lost(sk, skb)
        skb = skb.next
    tcp_clear_all_retrans_hints(sk)


@cited("net/ipv4/tcp_input.c:tcp_enter_loss", "RFC 5681 3.1", "RFC 5682 3.1")
def tcp_enter_loss(sk: Sock) -> None:
    """A timeout: the threshold falls unless it has within this window, and the window is one more than is in flight."""
    p = sk.net.p
    new_recovery = sk.icsk_ca_state < CA.Recovery
    tcp_timeout_mark_lost(sk)
    if (
        sk.icsk_ca_state <= CA.Disorder
        or not after(sk.high_seq, sk.snd_una)
        or (sk.icsk_ca_state == CA.Loss and sk.icsk_retransmits == 0)
    ):
        sk.prior_ssthresh = tcp_current_ssthresh(sk)
        sk.prior_cwnd = sk.snd_cwnd
        sk.snd_ssthresh = sk.icsk_ca_ops.ssthresh(sk)
        ca.tcp_ca_event(sk, CA_EVENT_LOSS)
        undo.tcp_init_undo(sk)
    sk.snd_cwnd = tcp_packets_in_flight(sk) + 1
    sk.snd_cwnd_cnt = 0
    sk.snd_cwnd_stamp = sk.net.jiffies
    if sk.icsk_ca_state <= CA.Disorder and sk.sacked_out >= p.tcp_reordering:
        sk.reordering = min(sk.reordering, p.tcp_reordering)
    ca.tcp_set_ca_state(sk, CA.Loss)
    sk.high_seq = sk.snd_nxt
    sk.tlp_high_seq = 0
    tcp_ecn_queue_cwr(sk)
    sk.frto = bool(p.tcp_frto and (new_recovery or sk.icsk_retransmits) and not sk.icsk_mtup.probe_size)
    sk.net.note("tcp_enter_loss", f"lost {sk.lost_out} of {sk.packets_out} ssthresh {sk.snd_ssthresh}")


@cited("net/ipv4/tcp_input.c:tcp_update_rto_time")
def tcp_update_rto_time(sk: Sock) -> None:
    """The time that timeouts cost is added up."""
    if sk.rto_stamp:
        sk.total_rto_time += (tcp_time_stamp_ms(sk) - sk.rto_stamp) & M32
        sk.rto_stamp = 0


@cited("net/ipv4/tcp_input.c:tcp_process_loss", "RFC 5682 3.1")
def tcp_process_loss(sk: Sock, flag: int, num_dupack: int, rexmit: int) -> int:
    """An acknowledgment in state Loss: the timeout proves wrong, is over, or more goes again. Returns what to send."""
    recovered = not before(sk.snd_una, sk.high_seq)
    if (flag & FLAG_SND_UNA_ADVANCED or sk.fastopen_rsk is not None) and undo.tcp_try_undo_loss(sk, False):
        return rexmit
    if sk.frto:
        if flag & FLAG_ORIG_SACK_ACKED and undo.tcp_try_undo_loss(sk, True):
            return rexmit
        if after(sk.snd_nxt, sk.high_seq):
            if flag & FLAG_DATA_SACKED or num_dupack:
                sk.frto = False
        elif flag & FLAG_SND_UNA_ADVANCED and not recovered:
            sk.high_seq = sk.snd_nxt
            if sk.sk_write_queue.head is not None and after(tcp_wnd_end(sk), sk.snd_nxt):
                return REXMIT_NEW
            sk.frto = False
    if recovered:
        undo.tcp_try_undo_recovery(sk)
        return rexmit
    if tcp_is_reno(sk):
        if after(sk.snd_nxt, sk.high_seq) and num_dupack:
            sack.tcp_add_reno_sack(sk, num_dupack, flag & FLAG_ECE != 0)
        elif flag & FLAG_SND_UNA_ADVANCED:
            sack.tcp_reset_reno_sack(sk)
    return REXMIT_LOST


# ---------------------------------------------------------------- Recovery


@cited("net/ipv4/tcp_input.c:tcp_enter_recovery", "RFC 6675 5")
def tcp_enter_recovery(sk: Sock, ece_ack: bool) -> None:
    """A loss begins a reduction, unless one is under way; without a congestion mark it may be taken back."""
    undo.tcp_retrans_stamp_cleanup(sk)
    sk.net.count("TcpExtTCPRenoRecovery" if tcp_is_reno(sk) else "TcpExtTCPSackRecovery")
    sk.prior_ssthresh = 0
    undo.tcp_init_undo(sk)
    if not tcp_in_cwnd_reduction(sk):
        if not ece_ack:
            sk.prior_ssthresh = tcp_current_ssthresh(sk)
        tcp_init_cwnd_reduction(sk)
    ca.tcp_set_ca_state(sk, CA.Recovery)
    sk.net.note("tcp_enter_recovery", f"lost {sk.lost_out} of {sk.packets_out} ssthresh {sk.snd_ssthresh}")


@cited("net/ipv4/tcp_recovery.c:tcp_rack_reo_timeout", "RFC 8985 6.2")
def tcp_rack_reo_timeout(sk: Sock) -> None:
    """The wait for overtaken segments is over: what is still missing is lost and goes again."""
    lost = sk.lost
    prior_inflight = tcp_packets_in_flight(sk)
    rack.tcp_rack_detect_loss(sk)
    if prior_inflight != tcp_packets_in_flight(sk):
        if sk.icsk_ca_state != CA.Recovery:
            tcp_enter_recovery(sk, False)
            if sk.icsk_ca_ops.cong_control is None:
                tcp_cwnd_reduction(sk, 1, sk.lost - lost, 0)
        output.tcp_xmit_retransmit_queue(sk)
    if sk.icsk_pending != ICSK_TIME_RETRANS:
        ack.tcp_rearm_rto(sk)


@cited("net/ipv4/tcp_input.c:tcp_check_sack_reneging", "RFC 2018 8")
def tcp_check_sack_reneging(sk: Sock, ack_flag: int) -> tuple[bool, int]:
    """The acknowledgment reaches up to SACKed data: the receiver gets a little time before its SACKs are void.

    Returns whether that is so, and the acknowledgment's flags.
    """
    if ack_flag & FLAG_SACK_RENEGING and ack_flag & FLAG_SND_UNA_ADVANCED:
        net = sk.net
        delay = max(net.usecs_to_jiffies(sk.srtt_us >> 4), net.msecs_to_jiffies(MS_10))
        inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, delay, tcp_rto_max(sk))
        return True, ack_flag & ~FLAG_SET_XMIT_TIMER
    return False, ack_flag


@cited("net/ipv4/tcp_input.c:tcp_time_to_recover", "RFC 6675 5")
def tcp_time_to_recover(sk: Sock) -> bool:
    """A loss is known; or, with RACK off, there are more duplicates than reordering explains."""
    return sk.lost_out != 0 or (not rack.tcp_is_rack(sk) and sk.sacked_out + 1 > sk.reordering)


@cited("net/ipv4/tcp_input.c:tcp_force_fast_retransmit")
def tcp_force_fast_retransmit(sk: Sock) -> bool:
    """What is SACKed lies further ahead than reordering explains."""
    return after(tcp_highest_sack_seq(sk), add(sk.snd_una, sk.reordering * sk.mss_cache))


@cited("net/ipv4/tcp_input.c:tcp_identify_packet_loss")
def tcp_identify_packet_loss(sk: Sock, ack_flag: int) -> int:
    """Looks for losses by RACK, or as NewReno does; returns the acknowledgment's flags."""
    if sk.tcp_rtx_queue.head is None:
        return ack_flag
    if tcp_is_reno(sk):
        rack.tcp_newreno_mark_lost(sk, ack_flag & FLAG_SND_UNA_ADVANCED != 0)
    elif rack.tcp_is_rack(sk):
        prior_retrans = sk.retrans_out
        if rack.tcp_rack_mark_lost(sk):
            ack_flag &= ~FLAG_SET_XMIT_TIMER
        if prior_retrans > sk.retrans_out:
            ack_flag |= FLAG_LOST_RETRANS
    return ack_flag


@cited("net/ipv4/tcp_input.c:tcp_fastretrans_alert", "RFC 6675 5", "RFC 6582 3.2", "RFC 3168 6.1.2")
def tcp_fastretrans_alert(sk: Sock, prior_snd_una: int, num_dupack: int, ack_flag: int) -> tuple[int, int]:
    """An acknowledgment that is more than progress in order: states end, begin and go on; what is lost is marked.

    Returns the acknowledgment's flags and what to send again.
    """
    rexmit = REXMIT_NONE
    fast_rexmit = False
    flag = ack_flag
    ece_ack = flag & FLAG_ECE != 0
    do_lost = num_dupack != 0 or (flag & FLAG_DATA_SACKED != 0 and tcp_force_fast_retransmit(sk))
    if sk.packets_out == 0 and sk.sacked_out:
        sk.sacked_out = 0
    if ece_ack:
        sk.prior_ssthresh = 0
    reneging, ack_flag = tcp_check_sack_reneging(sk, ack_flag)
    if reneging:
        return ack_flag, rexmit
    if sk.icsk_ca_state == CA.Open:
        sk.retrans_stamp = 0
    elif not before(sk.snd_una, sk.high_seq):
        if sk.icsk_ca_state == CA.CWR:
            if sk.snd_una != sk.high_seq:
                tcp_end_cwnd_reduction(sk)
                ca.tcp_set_ca_state(sk, CA.Open)
        elif sk.icsk_ca_state == CA.Recovery:
            if tcp_is_reno(sk):
                sack.tcp_reset_reno_sack(sk)
            if undo.tcp_try_undo_recovery(sk):
                return ack_flag, rexmit
            tcp_end_cwnd_reduction(sk)
    if sk.icsk_ca_state == CA.Recovery:
        if not flag & FLAG_SND_UNA_ADVANCED:
            if tcp_is_reno(sk):
                sack.tcp_add_reno_sack(sk, num_dupack, ece_ack)
        else:
            wait, do_lost = undo.tcp_try_undo_partial(sk, prior_snd_una, do_lost)
            if wait:
                return ack_flag, rexmit
        if undo.tcp_try_undo_dsack(sk):
            tcp_try_to_open(sk, flag)
        ack_flag = tcp_identify_packet_loss(sk, ack_flag)
        if sk.icsk_ca_state != CA.Recovery:
            if not tcp_time_to_recover(sk):
                return ack_flag, rexmit
            tcp_enter_recovery(sk, ece_ack)
    else:
        in_loss = sk.icsk_ca_state == CA.Loss
        if in_loss:
            rexmit = tcp_process_loss(sk, flag, num_dupack, rexmit)
            if sk.icsk_ca_state != CA.Loss and sk.net.p.kernel >= 612:
                tcp_update_rto_time(sk)
            ack_flag = tcp_identify_packet_loss(sk, ack_flag)
            if not (sk.icsk_ca_state == CA.Open or ack_flag & FLAG_LOST_RETRANS):
                return ack_flag, rexmit
        if tcp_is_reno(sk):
            if flag & FLAG_SND_UNA_ADVANCED:
                sack.tcp_reset_reno_sack(sk)
            sack.tcp_add_reno_sack(sk, num_dupack, ece_ack)
        if sk.icsk_ca_state <= CA.Disorder:
            undo.tcp_try_undo_dsack(sk)
        ack_flag = tcp_identify_packet_loss(sk, ack_flag)
        if not tcp_time_to_recover(sk):
            tcp_try_to_open(sk, flag)
            return ack_flag, rexmit
        if sk.icsk_ca_state < CA.CWR and sk.icsk_mtup.probe_size and sk.snd_una == sk.mtu_probe_seq_start:
            tcp_mtup_probe_failed(sk)
            sk.snd_cwnd += 1
            tcp_simple_retransmit(sk)
            return ack_flag, rexmit
        tcp_enter_recovery(sk, ece_ack)
        fast_rexmit = True
    if not rack.tcp_is_rack(sk) and do_lost:
        rack.tcp_update_scoreboard(sk, fast_rexmit)
    return ack_flag, REXMIT_LOST


@cited("net/ipv4/tcp_input.c:tcp_xmit_recovery")
def tcp_xmit_recovery(sk: Sock, rexmit: int) -> None:
    """With the window settled, what recovery calls for is sent: new data for F-RTO, else what is lost."""
    if rexmit == REXMIT_NONE or sk.sk_state is St.SYN_SENT:
        return
    if rexmit == REXMIT_NEW:
        output.__tcp_push_pending_frames(sk, output.tcp_current_mss(sk), TCP_NAGLE_OFF)
        if after(sk.snd_nxt, sk.high_seq):
            return
        sk.frto = False
    output.tcp_xmit_retransmit_queue(sk)
