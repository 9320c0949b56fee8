"""Segments in the states before and after ESTABLISHED: the two ways to open, and the ways to close.

The law: step by step as RFC 9293 3.10.7: validation, acknowledgment, which may change the state, urgent pointer, text,
FIN. A result other than 0 asks for a RST.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import (
    accecn,
    ack,
    data,
    fastopen,
    inet,
    ipv4,
    minisocks,
    output,
    poll,
    rack,
    rcv,
    rcvbuf,
    recovery,
    route,
    transmit,
    undo,
)
from refmodel.tcp.whole.const import (
    ACK,
    CWR,
    ECE,
    FIN,
    ICSK_TIME_DACK,
    ICSK_TIME_RETRANS,
    RCV_SHUTDOWN,
    RST,
    SEND_SHUTDOWN,
    SYN,
    TCP_ECN_OK,
)
from refmodel.tcp.whole.net import inet_csk_reset_xmit_timer, sk_reset_timer, tcp_rto_max
from refmodel.tcp.whole.skb import FastopenCookie, Packet, Skb
from refmodel.tcp.whole.sock import CA, RxOpt, Sock
from refmodel.tcp.whole.tcp_h import (
    inet_csk_in_pingpong_mode,
    inet_csk_schedule_ack,
    tcp_clear_options,
    tcp_fast_path_on,
    tcp_time_stamp_ts,
)
from refmodel.types import add, after, before, between

FLAG_SLOWPATH: Final = 0x100
FLAG_UPDATE_TS_RECENT: Final = 0x4000
FLAG_NO_CHALLENGE_ACK: Final = 0x8000
TCPOLEN_TSTAMP_ALIGNED: Final = 12
TCP_TIMEOUT_MIN: Final = 2  # jiffies
TFO_DATA_NOT_ACKED: Final = 2
TFO_SYN_RETRANSMITTED: Final = 3
BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB: Final = 4
BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB: Final = 5
RST_WANTED: Final = 1
ABORT_ON_DATA: Final = 2
TIMEWAIT_LEN: Final = 60  # s


def tcp_ecn_rcv_synack(sk: Sock, skb: Skb, th: Packet) -> None:
    """ECN is off unless the SYN-ACK has ECE alone; source net/ipv4/tcp_input.c:tcp_ecn_rcv_synack."""
    if sk.net.p.kernel >= 618:
        if sk.ecn_flags & accecn.TCP_ECN_MODE_ANY:
            accecn.tcp_ecn_rcv_synack(sk, th, skb.ip_dsfield)
    elif sk.ecn_flags & TCP_ECN_OK and (not th.flags & ECE or th.flags & CWR):
        sk.ecn_flags &= ~TCP_ECN_OK


def tcp_ecn_rcv_syn(sk: Sock, skb: Skb, th: Packet) -> None:
    """ECN is off unless the SYN has ECE and CWR; source net/ipv4/tcp_input.c:tcp_ecn_rcv_syn."""
    if sk.net.p.kernel >= 618:
        accecn.tcp_ecn_rcv_syn(sk, skb, th)
    elif sk.ecn_flags & TCP_ECN_OK and (not th.flags & ECE or not th.flags & CWR):
        sk.ecn_flags &= ~TCP_ECN_OK


def inet_csk_reset_keepalive_timer(sk: Sock, length: int) -> None:
    """Arms the keepalive timer; source net/ipv4/inet_connection_sock.c:inet_csk_reset_keepalive_timer."""
    sk_reset_timer(sk, sk.sk_timer, sk.net.jiffies + length)


def tcp_fin_time(sk: Sock) -> int:
    """How long FIN_WAIT2 lasts (jiffies), 3.5 RTOs at least; source include/net/tcp.h:tcp_fin_time."""
    fin_timeout = sk.linger2 or sk.net.p.tcp_fin_timeout * sk.net.hz
    return max(fin_timeout, (sk.icsk_rto << 2) - (sk.icsk_rto >> 1))


# ---------------------------------------------------------------- the active open


@cited("net/ipv4/tcp_input.c:tcp_finish_connect", "RFC 9293 3.10.7.3")
def tcp_finish_connect(sk: Sock, skb: Skb | None) -> None:
    """The active open succeeded: the connection is established and ready to transfer."""
    net = sk.net
    inet.tcp_set_state(sk, St.ESTABLISHED)
    sk.icsk_ack.lrcvtime = net.jiffies
    ack.tcp_init_transfer(sk, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, skb)
    sk.lsndtime = net.jiffies
    if "SOCK_KEEPOPEN" in sk.sk_flags:
        inet_csk_reset_keepalive_timer(sk, sk.keepalive_time or net.p.tcp_keepalive_time * net.hz)
    if not sk.rx_opt.snd_wscale:
        tcp_fast_path_on(sk)
    else:
        sk.pred_flags = None


@cited("net/ipv4/tcp_input.c:tcp_rcv_fastopen_synack", "RFC 7413 4.2.2")
def tcp_rcv_fastopen_synack(sk: Sock, synack: Skb, cookie: FastopenCookie) -> bool:
    """Keeps the cookie; True if the server did not take the data of the SYN, which are then sent again."""
    net = sk.net
    head = sk.tcp_rtx_queue.head if sk.syn_data else None
    mss = sk.rx_opt.mss_clamp
    try_exp = 0
    syn_drop = False
    if mss == sk.rx_opt.user_mss:
        opt = RxOpt()
        rcv.tcp_parse_options(net, synack, opt, 0, None)
        mss = opt.mss_clamp
    if not sk.syn_fastopen:
        cookie.len = -1
    elif sk.total_retrans:
        syn_drop = cookie.len < 0 and head is not None
    elif cookie.len < 0 and not sk.syn_data:
        try_exp = 2 if sk.syn_fastopen_exp else 1
    route.tcp_fastopen_cache_set(sk, mss, cookie, syn_drop, try_exp)
    if head is not None:
        sk.fastopen_client_fail = TFO_SYN_RETRANSMITTED if sk.total_retrans else TFO_DATA_NOT_ACKED
        skb: Skb | None = head
        while skb is not None:
            rack.tcp_mark_skb_lost(sk, skb)
            skb = skb.next
        recovery.tcp_non_congestion_loss_retransmit(sk)
        net.count("TcpExtTCPFastOpenActiveFail")
        return True
    sk.syn_data_acked = sk.syn_data
    if sk.syn_data_acked:
        net.count("TcpExtTCPFastOpenActive")
        if sk.delivered > 1:
            sk.delivered -= 1
    fastopen.tcp_fastopen_add_skb(sk, synack)
    return False


def _undo(sk: Sock, saved_clamp: int) -> None:
    tcp_clear_options(sk.rx_opt)
    sk.rx_opt.mss_clamp = saved_clamp


def _discard_and_undo(sk: Sock, skb: Skb, saved_clamp: int) -> int:
    _undo(sk, saved_clamp)
    data.tcp_drop_reason(sk, skb)
    return 0


@cited("net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process", "RFC 9293 3.10.7.3", "RFC 7323 2", "RFC 7413 4.2.2")
def tcp_rcv_synsent_state_process(sk: Sock, skb: Skb, th: Packet) -> int:
    """An answer to a SYN: -1 the connection is established, 0 that was all, more a RST is to be sent."""
    net = sk.net
    foc = FastopenCookie(-1)
    saved_clamp = sk.rx_opt.mss_clamp
    rx_opt = sk.rx_opt
    rcv.tcp_parse_options(net, skb, rx_opt, 0, foc)
    if rx_opt.saw_tstamp and rx_opt.rcv_tsecr:
        rx_opt.rcv_tsecr = (rx_opt.rcv_tsecr - sk.tsoffset) & 0xFFFFFFFF
    if th.flags & ACK:
        if not after(skb.ack_seq, sk.snd_una) or after(skb.ack_seq, sk.snd_nxt):
            if sk.icsk_retransmits == 0:
                inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, TCP_TIMEOUT_MIN, tcp_rto_max(sk))
            _undo(sk, saved_clamp)
            return RST_WANTED
        if (
            rx_opt.saw_tstamp
            and rx_opt.rcv_tsecr
            and not between(rx_opt.rcv_tsecr, sk.retrans_stamp, tcp_time_stamp_ts(sk))
        ):
            net.count("TcpExtPAWSActive")
            _undo(sk, saved_clamp)
            return RST_WANTED
        if th.flags & RST:
            rcv.tcp_reset(sk, skb)
            return 0
        if not th.flags & SYN:
            return _discard_and_undo(sk, skb, saved_clamp)
        return _synack(sk, skb, th, foc)
    if th.flags & RST:
        return _discard_and_undo(sk, skb, saved_clamp)
    if rx_opt.ts_recent_stamp and rx_opt.saw_tstamp and rcv.tcp_paws_reject(net, rx_opt, False):
        return _discard_and_undo(sk, skb, saved_clamp)
    if th.flags & SYN:
        _crossed_syn(sk, skb, th)
        return 0
    return _discard_and_undo(sk, skb, saved_clamp)


def _tstamps(sk: Sock) -> None:
    sk.rx_opt.tstamp_ok = True
    sk.tcp_header_len = 20 + TCPOLEN_TSTAMP_ALIGNED


def _synack(sk: Sock, skb: Skb, th: Packet, foc: FastopenCookie) -> int:
    """An acceptable SYN-ACK."""
    net = sk.net
    rx_opt = sk.rx_opt
    tcp_ecn_rcv_synack(sk, skb, th)
    sk.snd_wl1 = skb.seq
    undo.tcp_try_undo_spurious_syn(sk)
    ack.tcp_ack(sk, skb, FLAG_SLOWPATH)
    sk.rcv_nxt = add(skb.seq, 1)
    sk.rcv_wup = sk.rcv_nxt
    sk.snd_wnd = th.window
    if not rx_opt.wscale_ok:
        rx_opt.snd_wscale = rx_opt.rcv_wscale = 0
        sk.window_clamp = min(sk.window_clamp, 65535)
    if rx_opt.saw_tstamp:
        _tstamps(sk)
        sk.advmss -= TCPOLEN_TSTAMP_ALIGNED
        rcv.tcp_store_ts_recent(sk)
    else:
        sk.tcp_header_len = 20
    output.tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    rcvbuf.tcp_initialize_rcv_mss(sk)
    sk.copied_seq = sk.rcv_nxt
    tcp_finish_connect(sk, skb)
    fastopen_fail = (sk.syn_fastopen or sk.syn_data) and tcp_rcv_fastopen_synack(sk, skb, foc)
    if "SOCK_DEAD" not in sk.sk_flags:
        poll.sk_state_change(sk)
    if fastopen_fail:
        return -1
    if sk.sk_write_pending or sk.rskq_defer_accept or inet_csk_in_pingpong_mode(sk):
        inet_csk_schedule_ack(sk)
        rcvbuf.tcp_enter_quickack_mode(sk, rcvbuf.TCP_MAX_QUICKACKS)
        inet_csk_reset_xmit_timer(sk, ICSK_TIME_DACK, net.hz // 5, tcp_rto_max(sk))
        return 0
    net.cause = "tcp_rcv_synsent_state_process"
    accecn.tcp_send_ack_reflect_ect(sk, accecn.tcp_ecn_mode_accecn(sk))
    return -1


def _crossed_syn(sk: Sock, skb: Skb, th: Packet) -> None:
    """A SYN without ACK: both ends open actively."""
    inet.tcp_set_state(sk, St.SYN_RECV)
    if sk.rx_opt.saw_tstamp:
        _tstamps(sk)
        rcv.tcp_store_ts_recent(sk)
    else:
        sk.tcp_header_len = 20
    sk.rcv_nxt = add(skb.seq, 1)
    sk.copied_seq = sk.rcv_nxt
    sk.rcv_wup = sk.rcv_nxt
    sk.snd_wnd = th.window
    sk.snd_wl1 = skb.seq
    sk.max_window = sk.snd_wnd
    tcp_ecn_rcv_syn(sk, skb, th)
    output.tcp_mtup_init(sk)
    output.tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    rcvbuf.tcp_initialize_rcv_mss(sk)
    sk.net.cause = "tcp_rcv_synsent_state_process"
    transmit.tcp_send_synack(sk)


# ---------------------------------------------------------------- all states but ESTABLISHED and TIME_WAIT


@cited("net/ipv4/tcp_input.c:tcp_rcv_synrecv_state_fastopen", "RFC 7413 4.2.2")
def tcp_rcv_synrecv_state_fastopen(sk: Sock) -> None:
    """A fast open's handshake is complete: its request goes, and the timer watches data."""
    if sk.icsk_ca_state == CA.Loss and not sk.packets_out:
        undo.tcp_try_undo_recovery(sk)
    if sk.net.p.kernel >= 607:
        recovery.tcp_update_rto_time(sk)
    else:
        sk.retrans_stamp = 0
    sk.icsk_retransmits = 0
    if sk.net.p.kernel >= 612:
        undo.tcp_retrans_stamp_cleanup(sk)
    fastopen.reqsk_fastopen_remove(sk, sk.fastopen_rsk, False)
    ack.tcp_rearm_rto(sk)


@cited("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.2", "RFC 9293 3.10.7.4", "RFC 9293 3.6")
def tcp_rcv_state_process(sk: Sock, skb: Skb) -> int:
    """A segment in a state other than ESTABLISHED and TIME_WAIT: not zero if it is to be answered by a RST."""
    th = skb.packet
    assert th is not None
    if not skb.truesize:
        rcvbuf.tun_skb(sk.net, skb)
    flags = th.flags
    state = sk.sk_state
    if state == St.CLOSE:
        data.tcp_drop_reason(sk, skb)
        return 0
    if state == St.LISTEN:
        return _listen(sk, skb, flags)
    sk.rx_opt.saw_tstamp = False
    transmit.tcp_mstamp_refresh(sk)
    if state == St.SYN_SENT:
        queued = tcp_rcv_synsent_state_process(sk, skb, th)
        if queued >= 0:
            return queued
        rcv.tcp_urg(sk, skb, th)
        ack.tcp_data_snd_check(sk)
        return 0
    req = sk.fastopen_rsk
    if req is not None and minisocks.tcp_check_req(sk, skb, req, True) is None:
        data.tcp_drop_reason(sk, skb)
        return 0
    if not flags & (ACK | RST | SYN):
        data.tcp_drop_reason(sk, skb)
        return 0
    if not rcv.tcp_validate_incoming(sk, skb, th, 0):
        return 0
    reason = ack.tcp_ack(sk, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT | FLAG_NO_CHALLENGE_ACK)
    if reason <= 0:
        if sk.sk_state == St.SYN_RECV:
            return -reason or RST_WANTED
        if reason < 0:
            rcv.tcp_send_challenge_ack(sk)
            data.tcp_drop_reason(sk, skb)
            return 0
    state = sk.sk_state
    if state == St.SYN_RECV:
        _syn_recv(sk, skb, th)
    elif state == St.FIN_WAIT1:
        done = _fin_wait1(sk, skb, th)
        if done is not None:
            return done
    elif state == St.CLOSING:
        if sk.snd_una == sk.write_seq:
            minisocks.tcp_time_wait(sk, St.TIME_WAIT, 0)
            return 0
    elif state == St.LAST_ACK and sk.snd_una == sk.write_seq:
        route.tcp_update_metrics(sk)
        inet.tcp_done(sk)
        return 0
    rcv.tcp_urg(sk, skb, th)
    return _text(sk, skb, th)


def _text(sk: Sock, skb: Skb, th: Packet) -> int:
    """Step 7, the segment's text, and what is to be sent then."""
    state = sk.sk_state
    queued = False
    if state in (St.CLOSE_WAIT, St.CLOSING, St.LAST_ACK):
        takes = before(skb.seq, sk.rcv_nxt)
    else:
        takes = state in (St.ESTABLISHED, St.FIN_WAIT1, St.FIN_WAIT2)
    if takes:
        if (
            state != St.ESTABLISHED
            and sk.sk_shutdown & RCV_SHUTDOWN
            and skb.end_seq != skb.seq
            and after((skb.end_seq - (th.flags & FIN)) & 0xFFFFFFFF, sk.rcv_nxt)
        ):
            sk.net.count("TcpExtTCPAbortOnData")
            rcv.tcp_reset(sk, skb)
            return ABORT_ON_DATA
        data.tcp_data_queue(sk, skb)
        queued = True
    if sk.sk_state != St.CLOSE:
        ack.tcp_data_snd_check(sk)
        data.tcp_ack_snd_check(sk)
    if not queued:
        data.tcp_drop_reason(sk, skb)
    return 0


def _listen(sk: Sock, skb: Skb, flags: int) -> int:
    """A segment for a listener: only a SYN without ACK, RST and FIN is of use."""
    if flags & ACK:
        return RST_WANTED
    if not flags & RST and flags & SYN and not flags & FIN:
        ipv4.tcp_v4_conn_request(sk, skb)
        return 0
    data.tcp_drop_reason(sk, skb)
    return 0


def _syn_recv(sk: Sock, skb: Skb, th: Packet) -> None:
    """The handshake is complete."""
    net = sk.net
    req = sk.fastopen_rsk
    sk.delivered += 1
    if not sk.srtt_us:
        ack.tcp_synack_rtt_meas(sk, req)
    if sk.rx_opt.tstamp_ok:
        sk.advmss -= TCPOLEN_TSTAMP_ALIGNED
    if req is not None:
        tcp_rcv_synrecv_state_fastopen(sk)
    else:
        undo.tcp_try_undo_spurious_syn(sk)
        sk.retrans_stamp = 0
        ack.tcp_init_transfer(sk, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, skb)
        sk.copied_seq = sk.rcv_nxt
    inet.tcp_set_state(sk, St.ESTABLISHED)
    poll.sk_state_change(sk)
    sk.snd_una = skb.ack_seq
    sk.snd_wnd = th.window << sk.rx_opt.snd_wscale
    sk.snd_wl1 = skb.seq
    if sk.icsk_ca_ops.cong_control is None:
        ack.tcp_update_pacing_rate(sk)
    sk.lsndtime = net.jiffies
    rcvbuf.tcp_initialize_rcv_mss(sk)
    if accecn.tcp_ecn_mode_accecn(sk):
        accecn.tcp_accecn_third_ack(sk, skb, sk.syn_ect_snt)
    tcp_fast_path_on(sk)
    if sk.sk_shutdown & SEND_SHUTDOWN:
        inet.tcp_shutdown(sk, SEND_SHUTDOWN)


def _fin_wait1(sk: Sock, skb: Skb, th: Packet) -> int | None:
    """If our FIN is acknowledged: FIN_WAIT2, as a socket, or as what is left of one; None if the segment goes on."""
    net = sk.net
    if sk.fastopen_rsk is not None:
        tcp_rcv_synrecv_state_fastopen(sk)
    if sk.snd_una != sk.write_seq:
        return None
    inet.tcp_set_state(sk, St.FIN_WAIT2)
    sk.sk_shutdown |= SEND_SHUTDOWN
    if "SOCK_DEAD" not in sk.sk_flags:
        poll.sk_state_change(sk)
        return None
    if sk.linger2 < 0:
        inet.tcp_done(sk)
        net.count("TcpExtTCPAbortOnData")
        return ABORT_ON_DATA
    fin = th.flags & FIN
    if skb.end_seq != skb.seq and after((skb.end_seq - fin) & 0xFFFFFFFF, sk.rcv_nxt):
        if sk.syn_fastopen and fin:
            fastopen.tcp_fastopen_active_disable(sk)
        inet.tcp_done(sk)
        net.count("TcpExtTCPAbortOnData")
        return ABORT_ON_DATA
    tmo = tcp_fin_time(sk)
    if tmo > TIMEWAIT_LEN * net.hz:
        inet_csk_reset_keepalive_timer(sk, tmo - TIMEWAIT_LEN * net.hz)
    elif fin or sk.sk_owned:
        inet_csk_reset_keepalive_timer(sk, tmo)
    else:
        minisocks.tcp_time_wait(sk, St.FIN_WAIT2, tmo)
        return 0
    return None
