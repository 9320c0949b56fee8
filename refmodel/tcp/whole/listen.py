"""Listeners: requests for connections, their timers, the accept queue.

The law: a SYN becomes a request, unless the queues are full; its SYN-ACK is sent again with doubled time-outs until it
is acknowledged or given up. At most `sk_max_ack_backlog` + 1 children wait in the accept queue. A listener that closes
resets its waiting children and forgets its requests.
"""

from typing import Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import (
    accecn,
    bind,
    ca,
    fastopen,
    hashtables,
    inet,
    ipv4,
    minisocks,
    options,
    poll,
    rcv,
    route,
    syncookies,
    transmit,
)
from refmodel.tcp.whole.const import AE, CWR, ECE
from refmodel.tcp.whole.net import Net, Timer
from refmodel.tcp.whole.skb import FastopenCookie, Skb
from refmodel.tcp.whole.sock import Dst, RequestSock, RxOpt, Sock
from refmodel.tcp.whole.tcp_h import tcp_clear_options
from refmodel.types import M32, add

INET_ECN_MASK: Final = 3
TCP_RTO_MAX: Final = 120  # s
DST_FEATURE_ECN: Final = 1
DST_FEATURE_ECN_CA: Final = 1 << 31
O_NONBLOCK: Final = 0o4000


def tcp_timeout_init(net: Net) -> int:
    """The first time-out of a SYN or SYN-ACK in jiffies; source include/net/tcp.h:tcp_timeout_init."""
    return min(net.hz, net.p.tcp_rto_max_ms * net.hz // 1000)


def reqsk_timeout(req: RequestSock) -> int:
    """A request's next time-out in jiffies, which tcp_rto_max_ms does not bound.

    Source include/net/inet_connection_sock.h:reqsk_timeout.
    """
    return min(req.timeout << req.num_timeout, TCP_RTO_MAX * req.net.hz)


def tcp_synack_window(req: RequestSock) -> int:
    """The window as the SYN-ACK can say it; source include/net/request_sock.h:tcp_synack_window."""
    return min(req.rsk_rcv_wnd, 65535) if req.net.p.kernel >= 612 else req.rsk_rcv_wnd


def sk_acceptq_is_full(sk: Sock) -> bool:
    """No further child may wait; source include/net/sock.h:sk_acceptq_is_full."""
    return sk.sk_ack_backlog > sk.sk_max_ack_backlog


def inet_csk_reqsk_queue_is_full(sk: Sock) -> bool:
    """No further request may wait; source include/net/inet_connection_sock.h:inet_csk_reqsk_queue_is_full."""
    return sk.qlen > sk.sk_max_ack_backlog


def tcp_listendrop(sk: Sock) -> None:
    """The listener dropped a segment; source include/net/tcp.h:tcp_listendrop."""
    sk.sk_drops += 1
    sk.net.count("TcpExtListenDrops")


# ---------------------------------------------------------------- requests


def reqsk_queue_added(sk: Sock) -> None:
    """The listener has one more request; source include/net/request_sock.h:reqsk_queue_added."""
    sk.young += 1
    sk.qlen += 1


def reqsk_queue_removed(sk: Sock, req: RequestSock) -> None:
    """The listener has one request less; source include/net/request_sock.h:reqsk_queue_removed."""
    if req.num_timeout == 0:
        sk.young -= 1
    sk.qlen -= 1


@cited("net/ipv4/inet_connection_sock.c:inet_reqsk_alloc")
def inet_reqsk_alloc(sk_listener: Sock) -> RequestSock:
    """A request on behalf of a listener."""
    req = RequestSock(sk_listener.net, sk_listener)
    req.timeout = sk_listener.net.hz
    req.rsk_timer = Timer(sk_listener.net, "reqsk", reqsk_timer_handler, req)
    return req


@cited("net/ipv4/inet_connection_sock.c:reqsk_queue_unlink")
def reqsk_queue_unlink(req: RequestSock) -> bool:
    """Makes a request unfindable; whether it was findable."""
    key = req.sk_hash
    if key is None:
        return False
    req.sk_hash = None
    if req.net.ehash.get(key) is req:
        del req.net.ehash[key]
    return True


@cited("net/ipv4/inet_connection_sock.c:__inet_csk_reqsk_queue_drop")
def inet_csk_reqsk_queue_drop(sk: Sock, req: RequestSock) -> bool:
    """Forgets a request; whether this was the first to do so."""
    unlinked = reqsk_queue_unlink(req)
    req.rsk_timer.stop()
    if unlinked:
        reqsk_queue_removed(sk, req)
        sk.requests.pop(req_key(req), None)
    return unlinked


def req_key(req: RequestSock) -> hashtables.Key:
    """The connection of a request as ehash is keyed."""
    return req.ir_rmt_addr, req.ir_rmt_port, req.ir_loc_addr, req.ir_num


@cited("net/ipv4/inet_connection_sock.c:inet_csk_reqsk_queue_hash_add")
def inet_csk_reqsk_queue_hash_add(sk: Sock, req: RequestSock, timeout: int) -> bool:
    """Makes a request findable and starts its timer; False if the connection stands already."""
    if not hashtables.inet_ehash_insert(req, req_key(req), None, True):
        return False
    req.rsk_timer.mod(sk.net.jiffies + timeout)
    sk.requests[req_key(req)] = req
    reqsk_queue_added(sk)
    return True


@cited("net/ipv4/inet_connection_sock.c:inet_rtx_syn_ack")
def inet_rtx_syn_ack(parent: Sock, req: RequestSock) -> int:
    """Sends the SYN-ACK again."""
    err = transmit.tcp_rtx_synack(parent, req)
    if not err:
        req.num_retrans += 1
    return err


@cited("net/ipv4/inet_connection_sock.c:syn_ack_recalc")
def syn_ack_recalc(req: RequestSock, max_syn_ack_retries: int, rskq_defer_accept: int) -> tuple[bool, bool]:
    """Whether a request is given up, and whether its SYN-ACK is sent again: not while data are waited for."""
    if not rskq_defer_accept:
        return req.num_timeout >= max_syn_ack_retries, True
    expire = req.num_timeout >= max_syn_ack_retries and (not req.acked or req.num_timeout >= rskq_defer_accept)
    return expire, not req.acked or req.num_timeout >= rskq_defer_accept - 1


@cited("net/ipv4/inet_connection_sock.c:reqsk_timer_handler", "net/ipv4/tcp_timer.c:tcp_syn_ack_timeout")
def reqsk_timer_handler(req: RequestSock) -> None:
    """The SYN-ACK wasn't acknowledged in time: again, or given up, sooner where old requests fill the queue."""
    net = req.net
    sk_listener = req.rsk_listener
    if sk_listener.sk_state != St.LISTEN:
        nsk = reuseport_migrate_sock(sk_listener, req)
        if nsk is None:
            _drop_from_timer(req)
            return
        _migrate_req(req, nsk)
        sk_listener = nsk
    max_syn_ack_retries = sk_listener.icsk_syn_retries or net.p.tcp_synack_retries
    qlen = sk_listener.qlen
    if (qlen << 1) > max(8, sk_listener.sk_max_ack_backlog):
        young = sk_listener.young << 1
        while max_syn_ack_retries > 2 and qlen >= young:
            max_syn_ack_retries -= 1
            young <<= 1
    expire, resend = syn_ack_recalc(req, max_syn_ack_retries, sk_listener.rskq_defer_accept)
    net.count("TcpExtTCPTimeouts")
    net.cause = "reqsk_timer_handler"
    if not expire and (not resend or not inet_rtx_syn_ack(sk_listener, req) or req.acked):
        net.cause = ""
        accecn.synack_sent_again(req)
        if req.num_timeout == 0:
            sk_listener.young -= 1
        req.num_timeout += 1
        req.rsk_timer.mod(net.jiffies + reqsk_timeout(req))
        return
    net.cause = ""
    net.note("reqsk_timer_handler", f"request given up after {req.num_timeout} time-outs")
    _drop_from_timer(req)


def _drop_from_timer(req: RequestSock) -> None:
    inet_csk_reqsk_queue_drop(req.rsk_listener, req)


@cited("net/core/sock_reuseport.c:reuseport_migrate_sock")
def reuseport_migrate_sock(sk: Sock, req: RequestSock | Sock) -> Sock | None:
    """A listener that shares the port of one that closed, if requests may move (tcp_migrate_req)."""
    net = sk.net
    if not sk.sk_reuseport or not net.p.tcp_migrate_req:
        return None
    if isinstance(req, RequestSock):
        key = req_key(req)
    else:
        key = hashtables.sk_key(req)
    for other in net.lhash.get(key[3], []):
        if other.sk_reuseport and other.sk_family == sk.sk_family and other is not sk:
            return hashtables.inet_lookup_reuseport(net, other, key)
    return None


@cited("net/ipv4/inet_connection_sock.c:inet_reqsk_clone", "net/ipv4/inet_connection_sock.c:reqsk_queue_migrated")
def _migrate_req(req: RequestSock, nsk: Sock) -> None:
    """Moves a request to another listener."""
    old = req.rsk_listener
    reqsk_queue_removed(old, req)
    old.requests.pop(req_key(req), None)
    req.rsk_listener = nsk
    if req.num_timeout == 0:
        nsk.young += 1
    nsk.qlen += 1
    nsk.requests[req_key(req)] = req
    req.net.count("TcpExtTCPMigrateReqSuccess")


# ---------------------------------------------------------------- net/ipv4/tcp_input.c: SYNs


@cited("net/ipv4/tcp_input.c:tcp_syn_flood_action")
def tcp_syn_flood_action(sk: Sock) -> bool:
    """The queue of requests is full: a SYN cookie is sent, or the SYN is dropped."""
    net = sk.net
    want_cookie = net.p.tcp_syncookies != 0
    net.count("TcpExtTCPReqQFullDoCookies" if want_cookie else "TcpExtTCPReqQFullDrop")
    if not sk.synflood_warned and net.p.tcp_syncookies != 2:
        sk.synflood_warned = True
        net.note("tcp_syn_flood_action", "sends cookies" if want_cookie else "drops requests")
    return want_cookie


@cited("net/ipv4/tcp_input.c:tcp_openreq_init")
def tcp_openreq_init(req: RequestSock, rx_opt: RxOpt, skb: Skb, sk: Sock) -> None:
    """Fills a request from a SYN's header and options."""
    assert skb.packet is not None
    req.rsk_rcv_wnd = 0
    req.rcv_isn = skb.seq
    req.rcv_nxt = add(skb.seq, 1)
    req.snt_synack = 0
    req.last_oow_ack_time = 0
    req.mss = rx_opt.mss_clamp
    req.ts_recent = rx_opt.rcv_tsval if rx_opt.saw_tstamp else 0
    req.tstamp_ok = rx_opt.tstamp_ok
    req.sack_ok = bool(rx_opt.sack_ok)
    req.snd_wscale = rx_opt.snd_wscale
    req.wscale_ok = rx_opt.wscale_ok
    req.acked = False
    req.ecn_ok = False
    req.accecn_ok = False
    req.saw_accecn_opt = req.accecn_fail_mode = req.syn_ect_rcv = req.syn_ect_snt = 0
    req.ir_rmt_port = skb.packet.sport
    req.ir_num = skb.packet.dport
    req.ir_mark = sk.sk_mark


@cited("net/ipv4/tcp_input.c:tcp_ecn_create_request", "RFC 3168 6.1.1")
def tcp_ecn_create_request(req: RequestSock, skb: Skb, listen_sk: Sock, dst: Dst) -> None:
    """Agrees to ECN if the SYN asks for it and this end or its congestion control wants it."""
    flags = skb.tcp_flags
    if accecn.request_wants_accecn(req, skb, listen_sk) or not (flags & ECE and flags & CWR):
        return
    ect = bool(skb.ip_dsfield & INET_ECN_MASK)
    ecn_ok_dst = dst.features & (DST_FEATURE_ECN | DST_FEATURE_ECN_CA)
    ecn_ok = bool(listen_sk.net.p.tcp_ecn or ecn_ok_dst)
    needs_ecn = listen_sk.icsk_ca_ops is not None and ca.tcp_ca_needs_ecn(listen_sk)
    if ((not ect or flags & AE) and ecn_ok) or needs_ecn or ecn_ok_dst & DST_FEATURE_ECN_CA:
        req.ecn_ok = True


@cited("net/ipv4/tcp_input.c:tcp_reqsk_record_syn")
def tcp_reqsk_record_syn(sk: Sock, req: RequestSock, skb: Skb) -> None:
    """Keeps the SYN's headers for TCP_SAVED_SYN."""
    if sk.save_syn:
        req.saved_syn = ipv4.header_bytes(skb, sk.save_syn == 2)


@cited("net/ipv4/tcp_input.c:tcp_get_syncookie_mss")
def tcp_get_syncookie_mss(sk: Sock, skb: Skb) -> int:
    """The MSS for a cookie, if one has to be sent; else 0."""
    if sk.net.p.tcp_syncookies != 2 and not inet_csk_reqsk_queue_is_full(sk):
        return 0
    if not tcp_syn_flood_action(sk):
        return 0
    if sk_acceptq_is_full(sk):
        sk.net.count("TcpExtListenOverflows")
        return 0
    assert skb.packet is not None
    mss = skb.packet.opts.mss or 0
    if mss and sk.rx_opt.user_mss:
        mss = min(mss, sk.rx_opt.user_mss)
    return mss or ipv4.mss_clamp(skb)


@cited("net/ipv4/tcp_input.c:tcp_conn_request", "RFC 9293 3.10.7.2", "RFC 4987 3.6", "RFC 7413 4.2.2")
def tcp_conn_request(sk: Sock, skb: Skb) -> int:
    """A SYN for a listener: a request and a SYN-ACK, a SYN cookie, a fast open, or nothing."""
    net = sk.net
    packet = skb.packet
    assert packet is not None
    foc = FastopenCookie()
    isn = skb.tw_isn
    from_tw = isn != 0
    want_cookie = False
    syncookies = net.p.tcp_syncookies
    # A SYN that a time-wait socket let through isn't subject to the limits.
    if not from_tw and (syncookies == 2 or inet_csk_reqsk_queue_is_full(sk)):
        want_cookie = tcp_syn_flood_action(sk)
        if not want_cookie:
            tcp_listendrop(sk)
            return 0
    if sk_acceptq_is_full(sk):
        net.count("TcpExtListenOverflows")
        net.note("tcp_conn_request", "the accept queue is full")
        tcp_listendrop(sk)
        return 0

    req = inet_reqsk_alloc(sk)
    req.syncookie = want_cookie
    req.ts_off = 0
    req.req_usec_ts = False
    tmp_opt = RxOpt()
    tcp_clear_options(tmp_opt)
    tmp_opt.mss_clamp = ipv4.mss_clamp(skb)
    tmp_opt.user_mss = sk.rx_opt.user_mss
    rcv.tcp_parse_options(net, skb, tmp_opt, 0, None if want_cookie else foc)
    if want_cookie and not tmp_opt.saw_tstamp:
        tcp_clear_options(tmp_opt)
    tmp_opt.tstamp_ok = tmp_opt.saw_tstamp
    tcp_openreq_init(req, tmp_opt, skb, sk)
    dst = ipv4.tcp_v4_route_req(sk, skb, req)

    seq, ts_off = ipv4.tcp_v4_init_seq_and_ts_off(net, skb)
    if tmp_opt.tstamp_ok:
        req.req_usec_ts = ipv4.dst_tcp_usec_ts(dst)
        req.ts_off = ts_off
    if not want_cookie and not from_tw:
        max_syn_backlog = net.p.tcp_max_syn_backlog
        if (
            not syncookies
            and max_syn_backlog - sk.qlen < max_syn_backlog >> 2
            and not route.tcp_peer_is_proven(req, dst)
        ):
            net.note("tcp_conn_request", "the last quarter of the backlog is for peers that are known")
            tcp_listendrop(sk)
            return 0
        isn = seq
    tcp_ecn_create_request(req, skb, sk, dst)
    if want_cookie:
        isn = syncookies_init_sequence(sk, skb, req)
        if not tmp_opt.tstamp_ok:
            req.ecn_ok = False
    req.snt_isn = isn
    req.txhash = net.random() or 1
    req.syn_tos = skb.ip_dsfield
    minisocks.tcp_openreq_init_rwin(req, sk, dst)
    fastopen_sk: Sock | None = None
    if not want_cookie:
        tcp_reqsk_record_syn(sk, req, skb)
        fastopen_sk = fastopen.tcp_try_fastopen(sk, skb, req, foc, dst)
    net.cause = "tcp_conn_request"
    if fastopen_sk is not None:
        ipv4.tcp_v4_send_synack(fastopen_sk, dst, None, req, foc, options.TCP_SYNACK_FASTOPEN, skb)
        if inet_csk_reqsk_queue_add(sk, req, fastopen_sk) is None:
            tcp_listendrop(sk)
            return 0
        poll.sk_data_ready(sk)
        return 0
    req.tfo_listener = False
    if not want_cookie:
        req.timeout = tcp_timeout_init(net)
        if not inet_csk_reqsk_queue_hash_add(sk, req, req.timeout):
            return 0
    kind = options.TCP_SYNACK_COOKIE if want_cookie else options.TCP_SYNACK_NORMAL
    ipv4.tcp_v4_send_synack(sk, dst, None, req, foc, kind, skb)
    return 0


@cited("include/net/tcp.h:cookie_init_sequence")
def syncookies_init_sequence(sk: Sock, skb: Skb, req: RequestSock) -> int:
    """The cookie that becomes the SYN-ACK's sequence number; the request's MSS is rounded to what it encodes."""
    syncookies.tcp_synq_overflow(sk)
    sk.net.count("TcpExtSyncookiesSent")
    seq, req.mss = syncookies.cookie_init_sequence(skb, sk.net, req.mss)
    return seq & M32


# ---------------------------------------------------------------- the accept queue


@cited("net/ipv4/inet_connection_sock.c:inet_csk_reqsk_queue_add")
def inet_csk_reqsk_queue_add(sk: Sock, req: RequestSock, child: Sock) -> Sock | None:
    """Puts a child into the accept queue; None, and the child is reset, if the listener closed."""
    if sk.sk_state != St.LISTEN:
        inet_child_forget(sk, req, child)
        return None
    req.sk = child
    sk.accept_queue.append(req)
    sk.sk_ack_backlog += 1
    return child


@cited("net/ipv4/inet_connection_sock.c:inet_csk_complete_hashdance")
def inet_csk_complete_hashdance(sk: Sock, child: Sock, req: RequestSock) -> Sock | None:
    """A request that became a child leaves its queue, and the child enters the accept queue."""
    listener = req.rsk_listener
    req.rsk_timer.stop()
    listener.requests.pop(req_key(req), None)
    reqsk_queue_removed(listener, req)
    if sk is not listener:
        req.rsk_listener = sk
        req.net.count("TcpExtTCPMigrateReqSuccess")
    return inet_csk_reqsk_queue_add(sk, req, child)


@cited("include/net/request_sock.h:reqsk_queue_remove")
def reqsk_queue_remove(sk: Sock) -> RequestSock | None:
    """Takes the oldest request out of the accept queue."""
    if not sk.accept_queue:
        return None
    req: RequestSock = sk.accept_queue.popleft()
    sk.sk_ack_backlog -= 1
    return req


@cited("net/ipv4/inet_connection_sock.c:inet_csk_accept")
def inet_csk_accept_child(sk: Sock) -> Sock:
    """The oldest child of a queue that isn't empty; a fast open's request lives on until its handshake ends."""
    req = reqsk_queue_remove(sk)
    assert req is not None
    assert req.sk is not None
    newsk = req.sk
    if req.tfo_listener:
        req.sk = None
    return newsk


@cited("net/ipv4/inet_connection_sock.c:inet_csk_listen_start")
def inet_csk_listen_start(sk: Sock) -> int:
    """Begins to listen on the bound port, or on a free one: 0, or a negative errno."""
    sk.fastopenq_rskq_rst.clear()
    sk.fastopenq_qlen = 0
    sk.accept_queue.clear()
    sk.sk_ack_backlog = 0
    sk.icsk_ack = type(sk.icsk_ack)()
    sk.sk_state = St.LISTEN
    err = bind.inet_csk_get_port(sk, sk.inet_num)
    if not err:
        sk.inet_sport = sk.inet_num
        sk.sk_dst = None
        err = hashtables.inet_hash(sk)
        if not err:
            return 0
    sk.sk_state = St.CLOSE
    return err


@cited("net/ipv4/inet_connection_sock.c:inet_child_forget")
def inet_child_forget(sk: Sock, req: RequestSock, child: Sock) -> None:
    """Resets a child that nobody will accept."""
    inet.tcp_disconnect(child, O_NONBLOCK)
    child.sk_flags.add("SOCK_DEAD")
    child.has_socket = False
    sk.net.orphan_count += 1
    if req.tfo_listener:
        child.fastopen_rsk = None
    inet_csk_destroy_sock(child)


@cited("net/ipv4/inet_connection_sock.c:inet_csk_listen_stop")
def inet_csk_listen_stop(sk: Sock) -> None:
    """Ends a listener's queues: children that wait are reset, or move to a listener that shares the port."""
    while (req := reqsk_queue_remove(sk)) is not None:
        child = req.sk
        assert child is not None
        nsk = reuseport_migrate_sock(sk, child)
        if nsk is not None:
            req.rsk_listener = nsk
            if req.tfo_listener:
                sk.fastopenq_qlen -= 1
                nsk.fastopenq_qlen += 1
            if inet_csk_reqsk_queue_add(nsk, req, child) is not None:
                sk.net.count("TcpExtTCPMigrateReqSuccess")
                poll.sk_data_ready(nsk)
            else:
                sk.net.count("TcpExtTCPMigrateReqFailure")
            continue
        sk.net.cause = "inet_csk_listen_stop"
        inet_child_forget(sk, req, child)
    sk.fastopenq_rskq_rst.clear()


# ---------------------------------------------------------------- the end of a socket


@cited("net/ipv4/inet_connection_sock.c:inet_csk_destroy_sock", "net/core/stream.c:sk_stream_kill_queues")
def inet_csk_destroy_sock(sk: Sock) -> None:
    """Frees a closed socket that no application holds."""
    ipv4.tcp_v4_destroy_sock(sk)
    sk.sk_receive_queue.clear()
    sk.sk_error_queue.clear()
    sk.sk_rmem_alloc = 0
    sk.sk_forward_alloc = 0
    sk.net.orphan_count -= 1


@cited("net/ipv4/inet_connection_sock.c:inet_csk_prepare_for_destroy_sock")
def inet_csk_prepare_for_destroy_sock(sk: Sock) -> None:
    """No application holds the socket any more."""
    sk.sk_flags.add("SOCK_DEAD")
    sk.net.orphan_count += 1


@cited("net/ipv4/inet_connection_sock.c:inet_csk_prepare_forced_close")
def inet_csk_prepare_forced_close(sk: Sock) -> None:
    """Prepares a child that failed for its end."""
    inet_csk_prepare_for_destroy_sock(sk)
    sk.inet_num = 0
