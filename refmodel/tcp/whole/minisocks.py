"""What stands for a connection before and after its full socket: requests that become children, and time-wait.

The law: a request becomes a child by the one acceptable ACK, and is destroyed by an acceptable RST or by a SYN in its
window. A time-wait socket answers for 60 s, ends by an acceptable RST, and gives way to a newer SYN.
"""

import copy
from enum import IntEnum
from typing import Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import (
    accecn,
    ack,
    bind,
    ca,
    fastopen,
    hashtables,
    inet,
    ipv4,
    listen,
    md5,
    poll,
    rcv,
    rcvbuf,
    route,
    transmit,
)
from refmodel.tcp.whole.const import ACK, FIN, RST, SYN, TCP_MSS_DEFAULT
from refmodel.tcp.whole.net import inet_csk_reset_keepalive_timer
from refmodel.tcp.whole.skb import OfoQueue, RtxQueue, SentQueue, Skb, SkbQueue
from refmodel.tcp.whole.sock import CA, Dst, RequestSock, RxOpt, Sock, TimewaitSock
from refmodel.tcp.whole.tcp_h import tcp_hdrlen, tcp_mss_clamp, tcp_receive_window
from refmodel.types import M32, add, after, before

TCPOLEN_TSTAMP_ALIGNED: Final = 12
TCP_PAWS_WRAP: Final = (2**31 - 1) // 1_000_000  # seconds
TCP_PAWS_MSL: Final = 60  # seconds
SOCK_RCVBUF_LOCK: Final = 2
S32_MAX: Final = 2**31 - 1


class TcpTwStatus(IntEnum):
    """enum tcp_tw_status: what is to be done with a segment that met a time-wait socket."""

    SUCCESS = 0
    RST = 1
    ACK = 2
    SYN = 3


def tcp_timewait_len(hz: int) -> int:
    """TCP_TIMEWAIT_LEN in jiffies; source include/net/tcp.h."""
    return 60 * hz


def tcp_in_window(seq: int, end_seq: int, s_win: int, e_win: int) -> bool:
    """The segment touches the window; source net/ipv4/tcp_minisocks.c:tcp_in_window."""
    if seq == s_win:
        return True
    if after(end_seq, s_win) and before(seq, e_win):
        return True
    return seq == e_win and seq == end_seq


def _s32(n: int) -> int:
    n &= M32
    return n - (1 << 32) if n > S32_MAX else n


@cited("include/net/tcp.h:tcp_paws_reject", "include/net/tcp.h:tcp_paws_check", "RFC 7323 5.3")
def tcp_paws_reject(secs: int, rx_opt: RxOpt, rst: bool) -> bool:
    """The timestamp is older than the last one, within 24 days; an RST is let in after a minute. `secs`: now."""
    if _s32(rx_opt.ts_recent - rx_opt.rcv_tsval) <= 0:
        return False
    if _s32(secs - rx_opt.ts_recent_stamp - TCP_PAWS_WRAP) >= 0 or not rx_opt.ts_recent:
        return False
    return not (rst and _s32(secs - rx_opt.ts_recent_stamp - TCP_PAWS_MSL) >= 0)


# ---------------------------------------------------------------- time-wait


@cited("net/ipv4/tcp_minisocks.c:tcp_timewait_check_oow_rate_limit")
def tcp_timewait_check_oow_rate_limit(tw: TimewaitSock, skb: Skb, mib_idx: str) -> TcpTwStatus:
    """An ACK is due, unless one was sent a moment ago."""
    if not rcv.tcp_oow_rate_limited(tw.net, skb, mib_idx, tw, "tw_last_oow_ack_time"):
        return TcpTwStatus.ACK
    return TcpTwStatus.SUCCESS


@cited("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "RFC 9293 3.10.7.4", "RFC 6191 2", "RFC 1337 3")
def tcp_timewait_state_process(tw: TimewaitSock, skb: Skb) -> tuple[TcpTwStatus, int]:
    """Judges a segment that meets a time-wait socket; with SYN also the number with which the next one begins."""
    net = tw.net
    rcv_nxt = tw.tw_rcv_nxt
    tmp_opt = RxOpt()
    paws_reject = False
    rst = bool(skb.tcp_flags & RST)
    syn = bool(skb.tcp_flags & SYN)
    has_ack = bool(skb.tcp_flags & ACK)
    packet = skb.packet
    assert packet is not None
    if tcp_hdrlen(packet) > 20 and tw.tw_ts_recent_stamp:
        rcv.tcp_parse_options(net, skb, tmp_opt, 0, None)
        if tmp_opt.saw_tstamp:
            if tmp_opt.rcv_tsecr:
                tmp_opt.rcv_tsecr = (tmp_opt.rcv_tsecr - tw.tw_ts_offset) & M32
            tmp_opt.ts_recent = tw.tw_ts_recent
            tmp_opt.ts_recent_stamp = tw.tw_ts_recent_stamp
            paws_reject = tcp_paws_reject(net.secs, tmp_opt, rst)

    if tw.tw_substate == St.FIN_WAIT2:
        if paws_reject or not tcp_in_window(skb.seq, skb.end_seq, rcv_nxt, add(rcv_nxt, tw.tw_rcv_wnd)):
            return tcp_timewait_check_oow_rate_limit(tw, skb, "TcpExtTCPACKSkippedFinWait2"), 0
        if rst:
            hashtables.inet_twsk_deschedule_put(tw)
            return TcpTwStatus.SUCCESS, 0
        if syn and not before(skb.seq, rcv_nxt):
            return TcpTwStatus.RST, 0
        if not has_ack or not after(skb.end_seq, rcv_nxt) or skb.end_seq == skb.seq:
            return TcpTwStatus.SUCCESS, 0
        if not skb.tcp_flags & FIN or skb.end_seq != add(rcv_nxt, 1):
            return TcpTwStatus.RST, 0
        tw.tw_substate = St.TIME_WAIT
        tw.tw_rcv_nxt = skb.end_seq
        tw.tw_entry_stamp = net.now // 1000
        if tmp_opt.saw_tstamp:
            tw.tw_ts_recent_stamp = net.secs
            tw.tw_ts_recent = tmp_opt.rcv_tsval
        hashtables.inet_twsk_reschedule(tw, tcp_timewait_len(net.hz))
        net.note("tcp_timewait_state_process", "FIN arrived, TIME_WAIT begins")
        return TcpTwStatus.ACK, 0

    if not paws_reject and skb.seq == rcv_nxt and (skb.seq == skb.end_seq or rst):
        if rst:
            if not net.p.tcp_rfc1337:
                hashtables.inet_twsk_deschedule_put(tw)
                return TcpTwStatus.SUCCESS, 0
        else:
            hashtables.inet_twsk_reschedule(tw, tcp_timewait_len(net.hz))
        if tmp_opt.saw_tstamp:
            tw.tw_ts_recent = tmp_opt.rcv_tsval
            tw.tw_ts_recent_stamp = net.secs
        return TcpTwStatus.SUCCESS, 0

    # A new SYN is accepted unless it may be an old duplicate.
    newer = after(skb.seq, rcv_nxt) or (tmp_opt.saw_tstamp and _s32(tw.tw_ts_recent - tmp_opt.rcv_tsval) < 0)
    if syn and not rst and not has_ack and not paws_reject and newer:
        isn = add(tw.tw_snd_nxt, 65535 + 2)
        return TcpTwStatus.SYN, isn or 1

    if paws_reject:
        net.count("TcpExtPAWSTimewait" if net.p.kernel >= 616 else "TcpExtPAWSEstab")
    if not rst:
        if paws_reject or has_ack:
            hashtables.inet_twsk_reschedule(tw, tcp_timewait_len(net.hz))
        return tcp_timewait_check_oow_rate_limit(tw, skb, "TcpExtTCPACKSkippedTimeWait"), 0
    return TcpTwStatus.SUCCESS, 0


@cited("net/ipv4/tcp_minisocks.c:tcp_time_wait", "net/ipv4/tcp_minisocks.c:tcp_time_wait_init", "RFC 9293 3.6")
def tcp_time_wait(sk: Sock, state: St, timeo: int) -> None:
    """Replaces a socket by a time-wait socket for `timeo` jiffies (60 s in TIME_WAIT itself), and closes it."""
    net = sk.net
    tw = hashtables.inet_twsk_alloc(sk, state)
    if tw is not None:
        rto = (sk.icsk_rto << 2) - (sk.icsk_rto >> 1)
        tw.tw_mark = sk.sk_mark
        tw.tw_priority = sk.sk_priority
        tw.tw_rcv_wscale = sk.rx_opt.rcv_wscale
        tw.tw_rcv_nxt = sk.rcv_nxt
        tw.tw_snd_nxt = sk.snd_nxt
        tw.tw_rcv_wnd = tcp_receive_window(sk)
        tw.tw_ts_recent = sk.rx_opt.ts_recent
        tw.tw_ts_recent_stamp = sk.rx_opt.ts_recent_stamp
        tw.tw_ts_offset = sk.tsoffset
        tw.tw_usec_ts = sk.tcp_usec_ts
        tw.tw_last_oow_ack_time = 0
        tw.tw_txhash = sk.sk_txhash
        tw.tw_entry_stamp = net.now // 1000
        if tw.sk_family == hashtables.AF_INET6:
            tw.tw_ipv6only = sk.sk_ipv6only
            if not sk.mapped:
                tw.tw_tos = sk.tclass
        if net.tcp_md5_needed:
            tw.tw_md5_key = copy.copy(md5.tcp_md5_lookup(sk, sk))
        timeo = max(timeo, rto)
        if state == St.TIME_WAIT:
            timeo = tcp_timewait_len(net.hz)
        hashtables.inet_twsk_hashdance_schedule(tw, sk, timeo)
    else:
        net.count("TcpExtTCPTimeWaitOverflow")
    route.tcp_update_metrics(sk)
    inet.tcp_done(sk)


# ---------------------------------------------------------------- children


@cited("net/ipv4/tcp_minisocks.c:tcp_openreq_init_rwin")
def tcp_openreq_init_rwin(req: RequestSock, sk_listener: Sock, dst: Dst) -> None:
    """Chooses the window and the scale that the SYN-ACK offers."""
    full_space = rcvbuf.tcp_full_space(sk_listener)
    mss = tcp_mss_clamp(sk_listener, route.tcp_dst_advmss(dst))
    req.rsk_window_clamp = sk_listener.window_clamp or dst.window
    if sk_listener.sk_userlocks & SOCK_RCVBUF_LOCK and (req.rsk_window_clamp > full_space or req.rsk_window_clamp == 0):
        req.rsk_window_clamp = full_space
    req.rsk_rcv_wnd, req.rsk_window_clamp, req.rcv_wscale = transmit.tcp_select_initial_window(
        sk_listener,
        full_space,
        mss - (TCPOLEN_TSTAMP_ALIGNED if req.tstamp_ok else 0),
        req.rsk_window_clamp,
        req.wscale_ok,
        dst.initrwnd,
    )


@cited("net/ipv4/tcp_minisocks.c:tcp_ca_openreq_child")
def tcp_ca_openreq_child(sk: Sock, dst: Dst) -> None:
    """Gives a child its congestion control: the route's, the one set on the listener, or the system's."""
    ca_ops = ca.tcp_ca_find(dst.cc) if dst.cc else None
    if ca_ops is not None:
        sk.icsk_ca_dst_locked = "cc" in dst.lock
        sk.icsk_ca_ops = ca_ops
    elif not sk.icsk_ca_setsockopt or sk.icsk_ca_ops is None:
        ca.tcp_assign_congestion_control(sk)
    ca.tcp_set_ca_state(sk, CA.Open)


@cited("net/core/sock.c:sk_clone_lock", "net/ipv4/inet_connection_sock.c:inet_csk_clone_lock")
def inet_csk_clone_lock(sk: Sock, req: RequestSock) -> Sock:
    """A socket in SYN_RECV with the options of its listener and nothing in its queues."""
    newsk = copy.copy(sk)
    for name in ("icsk_ack", "icsk_mtup", "rx_opt", "rack", "rcv_rtt_est", "rcvq_space", "rtt_min"):
        setattr(newsk, name, copy.copy(getattr(sk, name)))
    newsk.rtt_min.s = list(sk.rtt_min.s)
    newsk.sk_receive_queue, newsk.sk_write_queue = SkbQueue(), SkbQueue()
    newsk.tcp_rtx_queue = RtxQueue()
    newsk.out_of_order_queue = OfoQueue()
    newsk.tsorted_sent_queue = SentQueue()
    for name in ("duplicate_sack", "selective_acks", "recv_sack_cache"):
        setattr(newsk, name, [copy.copy(block) for block in getattr(sk, name)])
    newsk.chrono_stat = list(sk.chrono_stat)
    newsk.inet_opts = dict(sk.inet_opts)
    newsk.icsk_ca_priv = copy.copy(sk.icsk_ca_priv)
    for name in ("sk_error_queue", "sk_backlog", "accept_queue", "fastopenq_rskq_rst"):
        setattr(newsk, name, type(getattr(sk, name))())
    newsk.sk_flags = sk.sk_flags - {"SOCK_DONE", "SOCK_RCU_FREE"}
    newsk.sk_tsq_flags = set()
    newsk.sk_wq = []
    newsk.sk_owned = False
    newsk.sk_rmem_alloc = newsk.sk_wmem_alloc = newsk.sk_omem_alloc = 0
    newsk.sk_wmem_queued = newsk.sk_forward_alloc = newsk.sk_reserved_mem = 0
    newsk.sk_dst = None
    newsk.sk_hash = None
    newsk.sk_drops = 0
    newsk.sk_userlocks = sk.sk_userlocks & ~bind.SOCK_BINDPORT_LOCK
    newsk.sk_zckey = 0
    newsk.sk_err = newsk.sk_err_soft = 0
    newsk.sk_priority = 0
    newsk.sk_nospace = False
    newsk.has_socket = False
    newsk.ss_state = 1
    newsk.net.init_timers(newsk)

    newsk.sk_state = St.SYN_RECV
    newsk.icsk_bind_hash = None
    newsk.inet_dport = req.ir_rmt_port
    newsk.inet_num = newsk.inet_sport = req.ir_num
    newsk.sk_mark = req.ir_mark
    newsk.icsk_retransmits = 0
    newsk.icsk_backoff = 0
    newsk.icsk_probes_out = 0
    newsk.icsk_probes_tstamp = 0
    newsk.icsk_pending = newsk.icsk_ack.pending = 0
    newsk.requests = {}
    newsk.sk_ack_backlog = sk.sk_ack_backlog
    newsk.qlen = newsk.young = 0
    newsk.rskq_defer_accept = 0
    newsk.synflood_warned = False
    newsk.fastopenq_max_qlen = newsk.fastopenq_qlen = 0
    newsk.fastopenq_ctx = None
    return newsk


@cited("net/ipv4/tcp_minisocks.c:tcp_create_openreq_child")
def tcp_create_openreq_child(sk: Sock, req: RequestSock, skb: Skb) -> Sock:
    """A full socket out of a request and the segment that completes it."""
    net = sk.net
    newsk = inet_csk_clone_lock(sk, req)
    packet = skb.packet
    assert packet is not None
    newsk.pred_flags = None
    seq = add(req.rcv_isn, 1)
    newsk.rcv_wup = newsk.copied_seq = newsk.rcv_nxt = seq
    newsk.segs_in = 1
    seq = add(req.snt_isn, 1)
    newsk.snd_sml = newsk.snd_una = newsk.snd_nxt = newsk.snd_up = seq
    newsk.snd_wl1 = req.rcv_isn
    newsk.rtt_min.reset(net.jiffies & M32, M32)
    newsk.icsk_ack.lrcvtime = net.jiffies
    newsk.lsndtime = net.jiffies
    newsk.sk_txhash = req.txhash
    newsk.total_retrans = req.num_retrans
    newsk.write_seq = newsk.pushed_seq = seq
    if "SOCK_KEEPOPEN" in newsk.sk_flags:
        inet_csk_reset_keepalive_timer(newsk, newsk.keepalive_time or net.p.tcp_keepalive_time * net.hz)
    rx_opt = newsk.rx_opt
    rx_opt.tstamp_ok = req.tstamp_ok
    rx_opt.sack_ok = int(req.sack_ok)
    newsk.window_clamp = req.rsk_window_clamp
    newsk.rcv_ssthresh = req.rsk_rcv_wnd
    newsk.rcv_wnd = req.rsk_rcv_wnd
    rx_opt.wscale_ok = req.wscale_ok
    if rx_opt.wscale_ok:
        rx_opt.snd_wscale = req.snd_wscale
        rx_opt.rcv_wscale = req.rcv_wscale
    else:
        rx_opt.snd_wscale = rx_opt.rcv_wscale = 0
        newsk.window_clamp = min(newsk.window_clamp, 65535)
    newsk.snd_wnd = packet.window << rx_opt.snd_wscale
    newsk.max_window = newsk.snd_wnd
    if rx_opt.tstamp_ok:
        newsk.tcp_usec_ts = req.req_usec_ts
        rx_opt.ts_recent = req.ts_recent
        rx_opt.ts_recent_stamp = net.secs
        newsk.tcp_header_len = 20 + TCPOLEN_TSTAMP_ALIGNED
    else:
        newsk.tcp_usec_ts = False
        rx_opt.ts_recent_stamp = 0
        newsk.tcp_header_len = 20
    if req.num_timeout:
        newsk.total_rto = req.num_timeout
        newsk.undo_marker = req.snt_isn
        if newsk.tcp_usec_ts:
            newsk.retrans_stamp = req.snt_synack & M32
            newsk.total_rto_time = ((net.now - req.snt_synack) & M32) // 1000
        else:
            newsk.retrans_stamp = (req.snt_synack // 1000) & M32
            newsk.total_rto_time = ((net.now // 1000) - newsk.retrans_stamp) & M32
        newsk.total_rto_recoveries = 1
    newsk.tsoffset = req.ts_off
    newsk.md5sig_info = None
    if net.p.kernel < 612 and md5.tcp_md5_lookup(sk, req) is not None:
        newsk.tcp_header_len += 20
    length = skb.len + tcp_hdrlen(packet)
    if length >= TCP_MSS_DEFAULT + newsk.tcp_header_len:
        newsk.icsk_ack.last_seg_size = length - newsk.tcp_header_len
    rx_opt.mss_clamp = req.mss
    accecn.tcp_ecn_openreq_child(newsk, req, skb)
    newsk.fastopen_req = None
    newsk.fastopen_rsk = None
    net.count("TcpPassiveOpens")
    return newsk


@cited(
    "net/ipv4/tcp_minisocks.c:tcp_check_req",
    "RFC 9293 3.10.7.4",
    "RFC 5961 3.2",
    "RFC 7323 5.3",
    "RFC 7413 4.2",
)
def tcp_check_req(sk: Sock, skb: Skb, req: RequestSock, fastopen_child: bool) -> Sock | None:
    """Judges a segment that meets a request; the child to feed it to, the listener if that must answer, or None.

    `sk` is the listener, or with `fastopen_child` the child that stands already.
    """
    net = req.net
    tmp_opt = RxOpt()
    flg = skb.tcp_flags & (RST | SYN | ACK)
    paws_reject = False
    packet = skb.packet
    assert packet is not None
    if tcp_hdrlen(packet) > 20:
        rcv.tcp_parse_options(net, skb, tmp_opt, 0, None)
        if tmp_opt.saw_tstamp:
            tmp_opt.ts_recent = req.ts_recent
            if tmp_opt.rcv_tsecr:
                tmp_opt.rcv_tsecr = (tmp_opt.rcv_tsecr - req.ts_off) & M32
            tmp_opt.ts_recent_stamp = net.secs - listen.reqsk_timeout(req) // net.hz
            paws_reject = tcp_paws_reject(net.secs, tmp_opt, bool(flg & RST))

    if skb.seq == req.rcv_isn and flg == SYN and not paws_reject:
        # The SYN again: so is the SYN-ACK, at most twice a second.
        if not rcv.tcp_oow_rate_limited(net, skb, "TcpExtTCPACKSkippedSynRecv", req):
            net.cause = "tcp_check_req"
            accecn.syn_again(sk, skb, req)
            if not listen.inet_rtx_syn_ack(sk, req):
                accecn.synack_sent_again(req)
                expires = net.jiffies + listen.reqsk_timeout(req)
                if fastopen_child:
                    req.expires = expires
                elif req.rsk_timer.pending:
                    req.rsk_timer.mod(expires)
        return None

    if flg & ACK and not flg & RST and not fastopen_child and skb.ack_seq != add(req.snt_isn, 1):
        return sk

    window = add(req.rcv_nxt, listen.tcp_synack_window(req))
    if paws_reject or not tcp_in_window(skb.seq, skb.end_seq, req.rcv_nxt, window):
        if not flg & RST and not rcv.tcp_oow_rate_limited(net, skb, "TcpExtTCPACKSkippedSynRecv", req):
            net.cause = "tcp_check_req"
            ipv4.tcp_v4_reqsk_send_ack(sk, skb, req)
        if paws_reject:
            net.count("TcpExtPAWSEstab")
        return None

    if skb.seq == req.rcv_isn:
        flg &= ~SYN
    if flg & RST and skb.seq != req.rcv_nxt:
        rcv.tcp_reqsk_send_challenge_ack(sk, skb, req)
        return None
    if flg & (RST | SYN):
        net.count("TcpAttemptFails")
        _embryonic_reset(sk, skb, req, flg, fastopen_child)
        return None
    if not flg & ACK:
        return None
    accecn.request_option(sk, req, tmp_opt.accecn)
    if fastopen_child:
        return sk
    if req.num_timeout < sk.rskq_defer_accept and skb.end_seq == add(req.rcv_isn, 1):
        req.acked = True
        net.count("TcpExtTCPDeferAcceptDrop")
        return None

    child = ipv4.tcp_v4_syn_recv_sock(sk, skb, req, None, req)
    if child is None:
        if sk is not req.rsk_listener:
            net.count("TcpExtTCPMigrateReqFailure")
        if not net.p.tcp_abort_on_overflow:
            req.acked = True
            return None
        _embryonic_reset(sk, skb, req, flg, fastopen_child)
        return None
    if tmp_opt.saw_tstamp and not after(skb.seq, req.rcv_nxt):
        child.rx_opt.ts_recent = tmp_opt.rcv_tsval
    ack.tcp_synack_rtt_meas(child, req)
    return listen.inet_csk_complete_hashdance(sk, child, req)


def _embryonic_reset(sk: Sock, skb: Skb, req: RequestSock, flg: int, fastopen_child: bool) -> None:
    net = req.net
    net.note("tcp_check_req", "the request is reset")
    if not flg & RST:
        net.cause = "tcp_check_req"
        ipv4.tcp_v4_send_reset(sk, skb, "INVALID_SYN")
    elif fastopen_child:
        fastopen.reqsk_fastopen_remove(sk, req, True)
        rcv.tcp_reset(sk, skb)
    if not fastopen_child and listen.inet_csk_reqsk_queue_drop(sk, req):
        net.count("TcpExtEmbryonicRsts")


@cited("net/ipv4/tcp_minisocks.c:tcp_child_process")
def tcp_child_process(parent: Sock, child: Sock, skb: Skb) -> object:
    """Feeds a new child the segment that made it, and tells who waits in accept(); true if it wants a reset."""
    reason: object = 0
    state = child.sk_state
    ipv4.tcp_segs_in(child, skb)
    if not child.sk_owned:
        reason = rcv.tcp_rcv_state_process(child, skb)
        if state == St.SYN_RECV and child.sk_state != state:
            poll.sk_data_ready(parent)
    else:
        child.sk_backlog.append(skb)
    return reason
