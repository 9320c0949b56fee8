"""The passive open: segments for nobody, for a listener, and for a request.

The law: a SYN makes a request (or, when there are too many, a cookie and nothing at all); only a segment that
acknowledges our SYN-ACK makes a socket, and only if the accept queue has room. Until then the application sees
nothing.
"""

from msgspec.structs import replace

from refmodel.rule import Mib, pure, require, rule, step
from refmodel.tcp.checks import (
    LV,
    RV,
    end_seq,
    listen_verdict,
    oow_limited,
    req_verdict,
    reqsk_timeout,
    saw_tstamp,
    synack_window,
)
from refmodel.tcp.events import Child, ReqGone, ReqQueued, ReqTimer, Seg, Tx
from refmodel.tcp.input import synrecv_done, tcp_send_challenge_ack, text
from refmodel.tcp.output import Effects
from refmodel.tcp.params import INT_MAX, TcpParams
from refmodel.tcp.state import SS, TCP_TIMEOUT_INIT, Req, Sock, St, Tw
from refmodel.types import M32, NEVER, add, after

# ---------------------------------------------------------------- nobody


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_rcv", "RFC 9293 3.10.7.1", at=St.CLOSE)
def nobody_rst(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An RST for nobody is dropped."""
    require(e.rst, "an RST")
    return s, ()


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_send_reset", "RFC 9293 3.5.2", at=St.CLOSE)
def nobody_ack(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A segment with ACK for nobody is answered by an RST that stands where the sender expects us."""
    require(e.ack and not e.rst, "a segment with ACK and without RST")
    return s, (Tx(seq=e.ack_seq, rst=True),)


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_send_reset", "RFC 9293 3.5.2", at=St.CLOSE)
def nobody_no_ack(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A segment without ACK for nobody is answered by an RST that acknowledges it."""
    require(not e.ack and not e.rst, "a segment with neither ACK nor RST")
    return s, (Tx(ack_seq=end_seq(e), ack=True, rst=True),)


# ---------------------------------------------------------------- LISTEN


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.2", at=St.LISTEN)
def listen_reset(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment of nothing we sent is answered by an RST."""
    require(listen_verdict(e, False, p) == LV.RESET, "an ACK for a listener that isn't a cookie")
    return s, (Tx(seq=e.ack_seq, rst=True),)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.2", at=St.LISTEN)
def listen_ignored(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An RST, a SYN with FIN and a segment without flags are dropped."""
    require(listen_verdict(e, False, p) in (LV.RST, LV.FLAGS), "an RST, or not a plain SYN")
    return s, ()


@rule("net/ipv4/tcp_input.c:tcp_conn_request", at=St.LISTEN)
def listen_full(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A SYN is dropped while backlog + 1 connections wait for accept()."""
    require(listen_verdict(e, False, p) == LV.DROP_ACCEPTQ, "a SYN while the accept queue is full")
    return s, (Mib(name="TcpExtListenOverflows"), Mib(name="TcpExtListenDrops"))


@rule("net/ipv4/tcp_input.c:tcp_conn_request", at=St.LISTEN)
def listen_dropped(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A SYN is dropped while there are too many requests and cookies are off."""
    require(
        listen_verdict(e, False, p) in (LV.DROP_SYNQ, LV.DROP_UNPROVEN),
        "a SYN while the SYN queue is full and no cookie may be sent",
    )
    return s, (Mib(name="TcpExtListenDrops"),)


@pure
def synack_segment(r: Req) -> Tx:
    """A request's SYN-ACK, with an unscaled window and the options that the SYN offered.

    Source: tcp_output.c:tcp_make_synack.
    """
    return Tx(
        seq=r.snt_isn,
        ack_seq=add(r.rcv_isn, 1),
        syn=True,
        ack=True,
        win=min(r.rsk_rcv_wnd, 65535),
        ts=r.ts_ok,
        tsecr=r.ts_recent,
        mss=r.advmss,
        wscale_ok=r.wscale_ok,
        wscale=r.rcv_wscale,
        sack_ok=r.sack_ok,
    )


@pure
def request(e: Seg, isn: int, cookie: bool, p: TcpParams) -> Req:
    """The request that a SYN makes; source tcp_input.c:tcp_openreq_init, tcp_minisocks.c:tcp_openreq_init_rwin."""
    ts = saw_tstamp(e, p)
    keep = ts or not cookie
    scaled = e.wscale_ok and p.tcp_window_scaling and keep
    return Req(
        rcv_isn=e.seq,
        snt_isn=isn,
        rsk_rcv_wnd=e.space,
        mss=e.mss if e.mss != 0 else 536,
        advmss=e.advmss,
        wscale_ok=scaled,
        snd_wscale=e.wscale if scaled else 0,
        rcv_wscale=e.rcv_wscale if scaled else 0,
        sack_ok=e.sack_ok and p.tcp_sack and keep,
        ts_ok=ts,
        ts_recent=e.tsval if ts else 0,
        timeout=TCP_TIMEOUT_INIT,
        rsk_timeout=e.now + TCP_TIMEOUT_INIT,
        keepopen=e.keepopen,
    )


@rule("net/ipv4/tcp_input.c:tcp_conn_request", "RFC 9293 3.10.7.2", at=St.LISTEN)
def listen_syn(s: Sock, e: Seg, p: TcpParams) -> tuple[Req, Effects]:
    """A SYN makes a request and is answered by a SYN-ACK; there is no socket yet."""
    require(listen_verdict(e, False, p) == LV.REQUEST, "a SYN that the queues have room for")
    r = inherit(request(e, e.isn, False, p), s)
    return r, (synack_segment(r), ReqQueued())


@pure
def inherit(r: Req, s: Sock) -> Req:
    """What the request's socket will have from its listener."""
    return replace(r, keepopen=s.keepopen, linger=s.linger, lingertime=s.lingertime, linger2=s.linger2)


@rule("net/ipv4/tcp_input.c:tcp_conn_request", "RFC 4987 3.6", at=St.LISTEN)
def listen_send_cookie(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """With too many requests the SYN-ACK carries a cookie as sequence number and nothing is remembered."""
    require(listen_verdict(e, False, p) == LV.SEND_COOKIE, "a SYN while the SYN queue is full, or cookies always")
    return s, (synack_segment(request(e, e.isn, True, p)), Mib(name="TcpExtSyncookiesSent"))


@rule("net/ipv4/syncookies.c:cookie_v4_check", "RFC 4987 3.6", at=St.LISTEN)
def listen_cookie(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """An acknowledgment of a cookie establishes the connection out of nothing but the segment."""
    require(listen_verdict(e, False, p) == LV.COOKIE, "an ACK of one of our cookies")
    ts = saw_tstamp(e, p)
    r = inherit(
        Req(
            rcv_isn=(e.seq - 1) & M32,
            snt_isn=(e.ack_seq - 1) & M32,
            rsk_rcv_wnd=e.space,
            mss=e.cookie_mss,
            advmss=e.advmss,
            wscale_ok=e.cookie_wscale_ok,
            snd_wscale=e.cookie_wscale if e.cookie_wscale_ok else 0,
            rcv_wscale=e.rcv_wscale if e.cookie_wscale_ok else 0,
            sack_ok=e.cookie_sack,
            ts_ok=ts,
            ts_recent=e.tsval if ts else 0,
        ),
        s,
    )
    t, fx = text(synrecv_done(openreq_child(r, e, p), e, p), e, p)
    return t, (Mib(name="TcpExtSyncookiesRecv"), Child(), *fx)


@rule("net/ipv4/syncookies.c:tcp_get_cookie_sock", at=St.LISTEN)
def listen_cookie_full(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment of a cookie is dropped while the accept queue is full."""
    require(listen_verdict(e, False, p) == LV.COOKIE_FULL, "an ACK of a cookie while the accept queue is full")
    return s, (
        Mib(name="TcpExtSyncookiesRecv"),
        Mib(name="TcpExtListenOverflows"),
        Mib(name="TcpExtListenDrops"),
    )


# ---------------------------------------------------------------- NEW_SYN_RECV


@pure
def listening(r: Req) -> Sock:
    """The address pair after its request is gone: the listener answers again."""
    return Sock(
        state=St.LISTEN,
        keepopen=r.keepopen,
        linger=r.linger,
        lingertime=r.lingertime,
        linger2=r.linger2,
    )


@pure
def openreq_child(r: Req, e: Seg, p: TcpParams) -> Sock:
    """The socket that a request becomes, in SYN_RECV for a moment; source tcp_minisocks.c:tcp_create_openreq_child."""
    rcv, snd = add(r.rcv_isn, 1), add(r.snt_isn, 1)
    newer = saw_tstamp(e, p) and not after(e.seq, rcv)
    return Sock(
        state=St.SYN_RECV,
        snd_una=snd,
        snd_nxt=snd,
        write_seq=snd,
        snd_wnd=e.win,
        snd_wl1=r.rcv_isn,
        max_window=e.win,
        rcv_nxt=rcv,
        rcv_wup=rcv,
        rcv_wnd=r.rsk_rcv_wnd,
        copied_seq=rcv,
        wscale_ok=r.wscale_ok,
        snd_wscale=r.snd_wscale,
        rcv_wscale=r.rcv_wscale,
        sack_ok=r.sack_ok,
        ts_ok=r.ts_ok,
        ts_recent=e.tsval if newer else r.ts_recent,
        ts_recent_stamp=e.secs if r.ts_ok else 0,
        mss_clamp=r.mss,
        advmss=r.advmss,
        ss=SS.CONNECTED,
        keepopen=r.keepopen,
        keepalive_timeout=e.now + p.tcp_keepalive_time if r.keepopen else NEVER,
        linger=r.linger,
        lingertime=r.lingertime,
        linger2=r.linger2,
        icsk_rto=e.rto if e.rto != 0 else TCP_TIMEOUT_INIT,
        lrcvtime=e.now,
        rcv_tstamp=e.now,
    )


@rule("net/ipv4/tcp_minisocks.c:tcp_check_req", "RFC 9293 3.10.7.4")
def req_dup_syn(s: Req, e: Seg, p: TcpParams) -> tuple[Req, Effects]:
    """The same SYN again is answered by the same SYN-ACK, within the rate, and the timer starts again."""
    require(req_verdict(s, e, p) == RV.DUP_SYN, "the request's own SYN")
    if oow_limited(s.last_oow_ack_time, e.now, p):
        return s, (Mib(name="TcpExtTCPACKSkippedSynRecv"),)
    wait = reqsk_timeout(s.timeout, s.num_timeout)
    return replace(s, last_oow_ack_time=max(e.now, 1), rsk_timeout=e.now + wait), (
        synack_segment(s),
        Mib(name="TcpRetransSegs"),
        Mib(name="TcpExtTCPSynRetrans"),
    )


@rule("net/ipv4/tcp_minisocks.c:tcp_check_req", "RFC 9293 3.10.7.4")
def req_bad_ack(s: Req, e: Seg, p: TcpParams) -> tuple[Req, Effects]:
    """An acknowledgment of something other than our SYN-ACK is answered by the listener, with an RST."""
    require(req_verdict(s, e, p) == RV.BAD_ACK, "an ACK of something other than our SYN-ACK")
    return s, (Tx(seq=e.ack_seq, rst=True),)


@step("net/ipv4/tcp_ipv4.c:tcp_v4_reqsk_send_ack")
def req_send_ack(s: Req, p: TcpParams) -> tuple[Req, Effects]:
    """A request tells the peer where it stands."""
    return s, (
        Tx(
            seq=add(s.snt_isn, 1),
            ack_seq=add(s.rcv_isn, 1),
            ack=True,
            win=synack_window(s, p),
            shift=s.rcv_wscale,
            ts=s.ts_recent != 0,
            tsecr=s.ts_recent,
        ),
    )


@rule("net/ipv4/tcp_minisocks.c:tcp_check_req", "RFC 9293 3.10.7.4")
def req_outside(s: Req, e: Seg, p: TcpParams) -> tuple[Req, Effects]:
    """A segment outside the window or from the past gets an ACK, within the rate unless it has data."""
    require(req_verdict(s, e, p) == RV.OUTSIDE, "a segment outside the window, or a timestamp from the past")
    limited = end_seq(e) == e.seq or e.syn
    if e.rst or (limited and oow_limited(s.last_oow_ack_time, e.now, p)):
        return s, ()
    t, fx = req_send_ack(s, p)
    return replace(t, last_oow_ack_time=max(e.now, 1) if limited else s.last_oow_ack_time), fx


@rule("net/ipv4/tcp_input.c:tcp_reqsk_send_challenge_ack", "RFC 5961 3.2")
def req_rst_challenge(s: Req, e: Seg, p: TcpParams) -> tuple[Req, Effects]:
    """An RST in the window, but not at its start, is challenged."""
    require(req_verdict(s, e, p) == RV.RST_CHALLENGE, "an RST in the window, but not at its start")
    if oow_limited(s.last_oow_ack_time, e.now, p):
        return s, (Mib(name="TcpExtTCPACKSkippedChallenge"),)
    t = replace(s, last_oow_ack_time=max(e.now, 1))
    if p.tcp_challenge_ack_limit != INT_MAX and not e.quota:
        return t, ()
    t, fx = req_send_ack(t, p)
    return t, (Mib(name="TcpExtTCPChallengeACK"), *fx)


@rule("net/ipv4/tcp_minisocks.c:tcp_check_req", "RFC 9293 3.10.7.4")
def req_rst(s: Req, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An RST at the start of the window ends the request."""
    require(req_verdict(s, e, p) == RV.RST, "an RST at the start of the window")
    return listening(s), (
        ReqGone(young=s.num_timeout == 0),
        Mib(name="TcpAttemptFails"),
        Mib(name="TcpExtEmbryonicRsts"),
    )


@rule("net/ipv4/tcp_minisocks.c:tcp_check_req", "RFC 9293 3.10.7.4")
def req_syn(s: Req, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """Another SYN in the window ends the request by an RST."""
    require(req_verdict(s, e, p) == RV.SYN, "another SYN in the window")
    gone = (ReqGone(young=s.num_timeout == 0), Mib(name="TcpAttemptFails"), Mib(name="TcpExtEmbryonicRsts"))
    if e.ack:
        return listening(s), (Tx(seq=e.ack_seq, rst=True), *gone)
    return listening(s), (Tx(ack_seq=end_seq(e), ack=True, rst=True), *gone)


@rule("net/ipv4/tcp_minisocks.c:tcp_check_req", "RFC 9293 3.10.7.4")
def req_no_ack(s: Req, e: Seg, p: TcpParams) -> tuple[Req, Effects]:
    """A segment without ACK is dropped."""
    require(req_verdict(s, e, p) == RV.NO_ACK, "a segment in the window without ACK")
    return s, ()


@rule("net/ipv4/tcp_minisocks.c:tcp_check_req")
def req_defer(s: Req, e: Seg, p: TcpParams) -> tuple[Req, Effects]:
    """With TCP_DEFER_ACCEPT the handshake's last ACK is only noted; the socket waits for data."""
    require(req_verdict(s, e, p) == RV.DEFER, "a bare ACK while accept is deferred")
    return replace(s, acked=True), (Mib(name="TcpExtTCPDeferAcceptDrop"),)


@rule(
    "net/ipv4/tcp_minisocks.c:tcp_check_req", deviates="The peer believes it is connected while nobody is at this end."
)
def req_overflow(s: Req, e: Seg, p: TcpParams) -> tuple[Req, Effects]:
    """With a full accept queue the handshake's last ACK is dropped; the SYN-ACK will be repeated."""
    require(req_verdict(s, e, p) == RV.OVERFLOW, "the handshake's last ACK while the accept queue is full")
    require(not p.tcp_abort_on_overflow, "tcp_abort_on_overflow is off")
    return replace(s, acked=True), (Mib(name="TcpExtListenOverflows"), Mib(name="TcpExtListenDrops"))


@rule("net/ipv4/tcp_minisocks.c:tcp_check_req")
def req_overflow_abort(s: Req, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """With a full accept queue and tcp_abort_on_overflow the handshake's last ACK is answered by an RST."""
    require(req_verdict(s, e, p) == RV.OVERFLOW, "the handshake's last ACK while the accept queue is full")
    require(p.tcp_abort_on_overflow, "tcp_abort_on_overflow is on")
    return listening(s), (
        Mib(name="TcpExtListenOverflows"),
        Mib(name="TcpExtListenDrops"),
        Tx(seq=e.ack_seq, rst=True),
        ReqGone(young=s.num_timeout == 0),
        Mib(name="TcpExtEmbryonicRsts"),
    )


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_syn_recv_sock", "net/ipv4/tcp_minisocks.c:tcp_child_process", "RFC 9293 3.10.7.4")
def req_established(s: Req, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """The acknowledgment of our SYN-ACK makes the socket, which takes the segment's data at once."""
    require(req_verdict(s, e, p) == RV.ESTABLISH and not e.syn, "the handshake's last ACK")
    r, fx = text(synrecv_done(openreq_child(s, e, p), e, p), e, p)
    return r, (Child(), ReqGone(young=s.num_timeout == 0), Mib(name="TcpPassiveOpens"), *fx)


@rule("net/ipv4/tcp_minisocks.c:tcp_child_process", "RFC 5961 4.2")
def req_syn_again(s: Req, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """If that ACK repeats the SYN before its data, the socket is made but challenges it, and stays in SYN_RECV."""
    require(req_verdict(s, e, p) == RV.ESTABLISH and e.syn, "the handshake's last ACK with the SYN again and data")
    t, fx = tcp_send_challenge_ack(openreq_child(s, e, p), e, p)
    return t, (
        Child(),
        ReqGone(young=s.num_timeout == 0),
        Mib(name="TcpPassiveOpens"),
        Mib(name="TcpExtTCPSYNChallenge"),
        *fx,
    )


# ---------------------------------------------------------------- the request's timer


@pure
def req_expires(s: Req, e: ReqTimer) -> bool:
    """The SYN-ACK was repeated often enough; source inet_connection_sock.c:syn_ack_recalc."""
    return s.num_timeout >= e.max_retries and (e.defer_accept == 0 or not s.acked or s.num_timeout >= e.defer_accept)


@pure
def req_resends(s: Req, e: ReqTimer) -> bool:
    """The SYN-ACK is repeated; source inet_connection_sock.c:syn_ack_recalc."""
    return e.defer_accept == 0 or not s.acked or s.num_timeout + 1 >= e.defer_accept


@pure
def req_again(s: Req, e: ReqTimer) -> Req:
    """The request waits twice as long; source include/net/inet_connection_sock.h:reqsk_timeout."""
    n = min(s.num_timeout + 1, 255)
    return replace(s, num_timeout=n, rsk_timeout=e.now + reqsk_timeout(s.timeout, n))


@rule("net/ipv4/inet_connection_sock.c:reqsk_timer_handler")
def req_timer_early(s: Req, e: ReqTimer, p: TcpParams) -> tuple[Req, Effects]:
    """Before its time the timer does nothing."""
    require(e.now < s.rsk_timeout, "the request's timer isn't due")
    return s, ()


@rule("net/ipv4/inet_connection_sock.c:reqsk_timer_handler", "RFC 6298 5.5")
def req_timer_resend(s: Req, e: ReqTimer, p: TcpParams) -> tuple[Req, Effects]:
    """The SYN-ACK is repeated and the wait doubles."""
    require(e.now >= s.rsk_timeout, "the request's timer is due")
    require(not req_expires(s, e) and req_resends(s, e) and e.sent, "a retry is left and the SYN-ACK can be sent")
    return req_again(s, e), (
        Mib(name="TcpExtTCPTimeouts"),
        synack_segment(s),
        Mib(name="TcpRetransSegs"),
        Mib(name="TcpExtTCPSynRetrans"),
    )


@rule("net/ipv4/inet_connection_sock.c:reqsk_timer_handler")
def req_timer_wait(s: Req, e: ReqTimer, p: TcpParams) -> tuple[Req, Effects]:
    """The peer's ACK is noted and accept is deferred: the request waits on without a SYN-ACK."""
    require(e.now >= s.rsk_timeout, "the request's timer is due")
    require(
        not req_expires(s, e) and (not req_resends(s, e) or (s.acked and not e.sent)),
        "a retry is left, and the SYN-ACK isn't repeated",
    )
    return req_again(s, e), (Mib(name="TcpExtTCPTimeouts"),)


@rule("net/ipv4/inet_connection_sock.c:reqsk_timer_handler")
def req_timer_drop(s: Req, e: ReqTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """After the last retry the request is forgotten, silently."""
    require(e.now >= s.rsk_timeout, "the request's timer is due")
    require(
        req_expires(s, e) or (req_resends(s, e) and not e.sent and not s.acked),
        "no retry is left, or the SYN-ACK can't be sent",
    )
    return listening(s), (Mib(name="TcpExtTCPTimeouts"), ReqGone(young=s.num_timeout == 0))
