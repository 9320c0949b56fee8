"""SYN and SYN-ACK: beginning a connection and answering one (net/ipv4/tcp_output.c).

The law: a SYN stays in the retransmit queue until it is answered; a SYN-ACK of a request stays nowhere, it is built
anew each time.
"""

import errno
from typing import Any, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole.const import ACK, ICSK_TIME_RETRANS, MAX_TCP_HEADER, PAGE_SIZE, PSH, SHARED_INFO_SIZE, SYN
from refmodel.tcp.whole.net import inet_csk_reset_xmit_timer, tcp_rto_max
from refmodel.tcp.whole.skb import FastopenCookie, Packet, Skb, TcpOptions
from refmodel.tcp.whole.sock import Dst, RequestSock, Sock
from refmodel.tcp.whole.tcp_h import (
    sk_forced_mem_schedule,
    sk_mem_charge,
    sk_mem_uncharge,
    tcp_mss_clamp,
    tcp_time_stamp_ts,
    tx_skb_truesize,
)
from refmodel.types import add

SOCK_RCVBUF_LOCK: Final = 2
FRAG_PAGE: Final = 32768


@cited("net/ipv4/tcp_output.c:tcp_send_synack", "RFC 9293 3.5")
def tcp_send_synack(sk: Sock) -> int:
    """Answers a SYN that crossed ours: our SYN becomes a SYN-ACK."""
    skb = sk.tcp_rtx_queue.head
    if skb is None or not skb.tcp_flags & SYN:
        return -errno.EFAULT
    if not skb.tcp_flags & ACK:
        if sk.net.tap and any(p.flags & SYN for p in sk.net.out):
            # Somebody still holds a clone of it: what becomes the SYN-ACK is a copy, in memory of its own.
            sk_mem_uncharge(sk, skb.truesize)
            sk_mem_charge(sk, skb.truesize)
        skb.tcp_flags |= ACK
        accecn.tcp_ecn_send_synack(sk, skb)
    return transmit.tcp_transmit_skb(sk, skb, True)


@cited("net/ipv4/tcp_output.c:tcp_make_synack", "RFC 9293 3.10.7.2")
def tcp_make_synack(
    sk: Sock,
    dst: Dst,
    req: RequestSock,
    foc: FastopenCookie | None,
    synack_type: int,
    syn_skb: Any = None,
) -> Packet:
    """Builds the SYN-ACK of a request."""
    net = sk.net
    mss = tcp_mss_clamp(sk, route.tcp_dst_advmss(dst))
    skb = Skb()
    now = net.now
    if synack_type == options.TCP_SYNACK_COOKIE and req.tstamp_ok:
        skb.skb_mstamp = syncookies.cookie_init_timestamp(req, now)
    else:
        skb.skb_mstamp = now
        if not req.snt_synack:
            req.snt_synack = now
    key = md5.tcp_md5_lookup(sk, req) if net.tcp_md5_needed else None
    opts = TcpOptions()
    options.tcp_synack_options(sk, req, mss, skb, opts, key, foc, synack_type)
    packet = Packet(
        req.ir_loc_addr,
        req.ir_rmt_addr,
        req.ir_num,
        req.ir_rmt_port,
        req.snt_isn,
        req.rcv_nxt,
        SYN | ACK | accecn.tcp_ecn_make_synack(req, synack_type == options.TCP_SYNACK_RETRANS),
        min(req.rsk_rcv_wnd, 65535),
        0,
        opts,
    )
    packet.ttl = transmit.ttl_of(sk, dst, len(req.ir_rmt_addr) == 16)
    packet.by = net.cause or "tcp_make_synack"
    net.cause = ""
    net.count("TcpOutSegs")
    if key is not None:
        md5.calc_md5_hash(key, None, packet)
    packet.tstamp = (now + sk.tcp_tx_delay) * 1000
    return packet


@cited("net/ipv4/tcp_output.c:tcp_rtx_synack", "RFC 9293 3.8.1")
def tcp_rtx_synack(sk: Sock, req: RequestSock) -> int:
    """Sends the SYN-ACK of a request again."""

    net = sk.net
    net.cause = net.cause or "tcp_rtx_synack"
    res = ipv4.tcp_v4_send_synack(sk, None, None, req, None, options.TCP_SYNACK_RETRANS, None)
    net.cause = ""
    if not res:
        net.count("TcpRetransSegs")
        net.count("TcpExtTCPSynRetrans")
        if sk.sk_state == St.SYN_RECV and sk.fastopen_rsk is not None:
            sk.total_retrans += 1
    return res


def tcp_ca_dst_init(sk: Sock, dst: Dst) -> None:
    """The route's congestion control, if it names one; source net/ipv4/tcp_output.c:tcp_ca_dst_init."""
    if dst.cc:
        ops = ca.tcp_ca_find(dst.cc)
        if ops is not None:
            sk.icsk_ca_dst_locked = "cc" in dst.lock
            sk.icsk_ca_ops = ops


@cited("net/ipv4/tcp_output.c:tcp_connect_init", "RFC 9293 3.10.1")
def tcp_connect_init(sk: Sock) -> None:
    """Sets up what a connection starts with: MSS, windows, sequence numbers, timeout."""
    net = sk.net
    p = net.p
    dst = sk.sk_dst
    assert dst is not None
    rx_opt = sk.rx_opt
    sk.tcp_header_len = 20
    if p.tcp_timestamps:
        sk.tcp_header_len += options.TCPOLEN_TSTAMP_ALIGNED
    if p.kernel < 612 and sk.md5sig_info is not None and md5.tcp_get_current_key(sk) is not None:
        sk.tcp_header_len += options.TCPOLEN_MD5SIG_ALIGNED
    if rx_opt.user_mss:
        rx_opt.mss_clamp = rx_opt.user_mss
    sk.max_window = 0
    output.tcp_mtup_init(sk)
    output.tcp_sync_mss(sk, route.dst_mtu(dst))
    tcp_ca_dst_init(sk, dst)
    if not sk.window_clamp:
        sk.window_clamp = dst.window
    sk.advmss = tcp_mss_clamp(sk, route.tcp_dst_advmss(dst))
    rcvbuf.tcp_initialize_rcv_mss(sk)
    full_space = rcvbuf.tcp_full_space(sk)
    if sk.sk_userlocks & SOCK_RCVBUF_LOCK and (sk.window_clamp > full_space or sk.window_clamp == 0):
        sk.window_clamp = full_space
    sk.rcv_wnd, sk.window_clamp, rx_opt.rcv_wscale = transmit.tcp_select_initial_window(
        sk,
        full_space,
        sk.advmss - (sk.tcp_header_len - 20 if rx_opt.ts_recent_stamp else 0),
        sk.window_clamp,
        p.tcp_window_scaling != 0,
        dst.initrwnd,
    )
    sk.rcv_ssthresh = sk.rcv_wnd
    sk.sk_err = 0
    sk.sk_flags.discard("SOCK_DONE")
    sk.snd_wnd = 0
    sk.snd_wl1 = 0
    inet.tcp_write_queue_purge(sk)
    sk.snd_una = sk.write_seq
    sk.snd_sml = sk.write_seq
    sk.snd_up = sk.write_seq
    sk.snd_nxt = sk.write_seq
    if not sk.repair:
        sk.rcv_nxt = 0
    else:
        sk.rcv_tstamp = net.jiffies
    sk.rcv_wup = sk.rcv_nxt
    sk.copied_seq = sk.rcv_nxt
    sk.icsk_rto = timer.tcp_timeout_init(sk)
    sk.icsk_retransmits = 0
    undo.tcp_clear_retrans(sk)


def tcp_connect_queue_skb(sk: Sock, skb: Skb) -> None:
    """An skb of a SYN counts as sent; source net/ipv4/tcp_output.c:tcp_connect_queue_skb."""
    skb.end_seq = add(skb.end_seq, skb.len)
    sk.sk_wmem_queued += skb.truesize
    sk_mem_charge(sk, skb.truesize)
    sk.write_seq = skb.end_seq
    sk.packets_out += skb.gso_segs


def _copy_to_syn(sk: Sock, syn_data: Skb, space: int) -> int:
    """Copies what fits into the task's page frag, in 6.1 into the head: how many bytes."""
    net = sk.net
    if net.p.kernel < 612:
        space = min(space, PAGE_SIZE - MAX_TCP_HEADER(net.p.max_header) - SHARED_INFO_SIZE)
        syn_data.len += space
        syn_data.truesize = tx_skb_truesize(sk, space)
        sk_forced_mem_schedule(sk, syn_data.truesize)
        sk.fastopen_req.data.left -= space
        return space
    left = -net.task_frag % FRAG_PAGE
    if left < min(space, PAGE_SIZE):
        net.task_frag += left
        left = FRAG_PAGE
    space = min(space, left)
    sk_forced_mem_schedule(sk, space)
    net.task_frag += space
    syn_data.frags = 1
    syn_data.frag_at = net.task_frag if net.task_frag % FRAG_PAGE else -1
    syn_data.len += space
    syn_data.truesize += space
    sk.fastopen_req.data.left -= space
    return space


def _syn_data(sk: Sock, syn: Skb) -> int | None:
    """Sends the SYN with data if there is a cookie, or none is needed: an error or 0; None: it went without data."""
    fo = sk.fastopen_req
    sk.rx_opt.mss_clamp = sk.advmss
    ok, mss = fastopen.tcp_fastopen_cookie_check(sk, fo.cookie)
    if mss:
        sk.rx_opt.mss_clamp = mss
    if not ok:
        return None
    sk.rx_opt.mss_clamp = tcp_mss_clamp(sk, sk.rx_opt.mss_clamp)
    output.tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    space = output.__tcp_mtu_to_mss(sk, sk.icsk_pmtu_cookie) - options.MAX_TCP_OPTION_SPACE
    space = min(space, fo.size)
    syn_data = sendmsg.tcp_stream_alloc_skb(sk, False)
    syn_data.seq, syn_data.end_seq, syn_data.tcp_flags = syn.seq, syn.end_seq, syn.tcp_flags
    syn_data.gso_segs = syn.gso_segs
    if space and fo.data.fault:
        return None
    if space:
        space = _copy_to_syn(sk, syn_data, space)
        if fo.uarg is not None:
            errqueue.skb_zcopy_set(syn_data, fo.uarg)
    if space == fo.size:
        fo.data = None
    fo.copied = space
    tcp_connect_queue_skb(sk, syn_data)
    if syn_data.len:
        output.tcp_chrono_start(sk, output.TCP_CHRONO_BUSY)
    err = transmit.tcp_transmit_skb(sk, syn_data, True)
    syn.tstamp, syn.skb_mstamp = syn_data.tstamp, syn_data.skb_mstamp
    syn_data.seq = add(syn_data.seq, 1)
    syn_data.tcp_flags = ACK | PSH
    if not err:
        sk.syn_data = fo.copied > 0
        sk.tcp_rtx_queue.append(syn_data)
        sk.net.count("TcpExtTCPOrigDataSent")
        return 0
    sk.sk_write_queue.append(syn_data)
    sk.packets_out -= syn_data.gso_segs
    return None


@cited("net/ipv4/tcp_output.c:tcp_send_syn_data", "RFC 7413 4.2.1")
def tcp_send_syn_data(sk: Sock, syn: Skb) -> int:
    """Sends a SYN with data and cookie; without a cookie, a SYN that asks for one."""
    fo = sk.fastopen_req
    err = _syn_data(sk, syn)
    if err is None:
        if fo.cookie.len > 0:
            fo.cookie.len = 0
        err = transmit.tcp_transmit_skb(sk, syn, True)
        if err:
            sk.syn_fastopen = False
    fo.cookie.len = -1
    return err


@cited("net/ipv4/tcp_output.c:tcp_connect", "RFC 9293 3.10.1")
def tcp_connect(sk: Sock) -> int:
    """Sends the SYN and arms its timeout: 0, or a negative errno."""
    net = sk.net
    if output.rebuild_header(sk):
        return -errno.EHOSTUNREACH
    tcp_connect_init(sk)
    if sk.repair:
        rcv.tcp_finish_connect(sk, None)
        return 0
    buff = sendmsg.tcp_stream_alloc_skb(sk, True)
    transmit.tcp_init_nondata_skb(buff, sk.write_seq, SYN)
    sk.write_seq = add(sk.write_seq, 1)
    transmit.tcp_mstamp_refresh(sk)
    sk.retrans_stamp = tcp_time_stamp_ts(sk)
    tcp_connect_queue_skb(sk, buff)
    accecn.tcp_ecn_send_syn(sk, buff)
    sk.tcp_rtx_queue.append(buff)
    err = tcp_send_syn_data(sk, buff) if sk.fastopen_req is not None else transmit.tcp_transmit_skb(sk, buff, True)
    if err == -errno.ECONNREFUSED:
        return err
    sk.snd_nxt = sk.write_seq
    sk.pushed_seq = sk.write_seq
    unsent = sk.sk_write_queue.head
    if unsent is not None:
        sk.snd_nxt = unsent.seq
        sk.pushed_seq = unsent.seq
    net.count("TcpActiveOpens")
    inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, sk.icsk_rto, tcp_rto_max(sk))
    return 0


from refmodel.tcp.whole import (  # noqa: E402
    accecn,
    ca,
    errqueue,
    fastopen,
    inet,
    ipv4,
    md5,
    options,
    output,
    rcv,
    rcvbuf,
    route,
    sendmsg,
    syncookies,
    timer,
    transmit,
    undo,
)
