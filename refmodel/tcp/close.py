"""The end of a connection as applications ask for it: close(), shutdown(), linger, and what becomes of orphans.

The law: close() resets if data was left unread or if SO_LINGER says 0 s, else it sends a FIN and leaves the rest to
the kernel; a descriptor may wait for that if SO_LINGER says so. An orphan in FIN_WAIT2 soon gives way to a small
socket.
"""

from msgspec.structs import replace

from refmodel.rule import Mib, pure, require, rule, step
from refmodel.tcp.checks import closing_for, readable
from refmodel.tcp.events import CallResult, Close, ListenStop, Release, Shutdown, Wake
from refmodel.tcp.input import poll_mask, queue_fin, tcp_fin_time, tcp_time_wait
from refmodel.tcp.output import Effects, stopped, tcp_send_active_reset
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import FULL, SS, SYNC, TCP_TIMEWAIT_LEN, Errno, Sock, St, Tw
from refmodel.types import NEVER, add

NEED_RESET = (St.ESTABLISHED, St.CLOSE_WAIT, St.FIN_WAIT1, St.FIN_WAIT2, St.SYN_RECV)


@pure
def shut(s: Sock) -> Sock:
    """Both directions are shut for whoever still holds the socket."""
    return replace(s, rcv_shut=True, snd_shut=True)


@pure
def closed(s: Sock) -> Sock:
    """The socket in CLOSE without timers; source net/ipv4/tcp.c:tcp_set_state."""
    return replace(stopped(s), state=St.CLOSE, ofo=False, syn_out=False, fin_queued=False, linger_until=NEVER)


@pure
def disconnected(s: Sock, err: Errno) -> Sock:
    """A socket as good as new, but for its error and where its next sequence number starts.

    Source: tcp.c:tcp_disconnect.
    """
    seq = add(s.write_seq, s.max_window + 2)
    return Sock(
        state=St.CLOSE,
        write_seq=seq if seq != 0 else 1,
        snd_una=seq if seq != 0 else 1,
        snd_nxt=seq if seq != 0 else 1,
        rcv_nxt=s.rcv_nxt,
        rcv_wup=s.rcv_nxt,
        copied_seq=s.rcv_nxt,
        snd_wl1=s.rcv_nxt,
        advmss=s.advmss,
        dead=s.dead,
        err=err,
        err_soft=s.err_soft,
        linger=s.linger,
        lingertime=s.lingertime,
        linger2=s.linger2,
        keepopen=s.keepopen,
        keepalive_time=s.keepalive_time,
        keepalive_intvl=s.keepalive_intvl,
        keepalive_probes=s.keepalive_probes,
        user_timeout=s.user_timeout,
        syn_retries=s.syn_retries,
    )


@pure
def disconnect_resets(s: Sock) -> bool:
    """The ABORT call sends an RST: data or a FIN may be missing at the peer; source net/ipv4/tcp.c:tcp_disconnect."""
    return s.state in NEED_RESET or (s.state in (St.CLOSING, St.LAST_ACK) and s.snd_nxt != s.write_seq)


@step("net/ipv4/tcp.c:tcp_disconnect", "RFC 9293 3.10.5")
def tcp_disconnect(s: Sock, space: int, p: TcpParams) -> tuple[Sock, Effects]:
    """The connection is aborted."""
    if disconnect_resets(s):
        t, fx = tcp_send_active_reset(s, space, p)
        t = disconnected(t, Errno.ECONNRESET)
        return t, (*fx, Wake(poll=poll_mask(t, True)))
    t = disconnected(s, Errno.ECONNRESET if s.state == St.SYN_SENT else s.err)
    return t, (Wake(poll=poll_mask(t, True)),)


# ---------------------------------------------------------------- close()


@step("net/ipv4/tcp.c:__tcp_close")
def orphan(s: Sock, now: int, space: int, oom: bool, tw_full: bool, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """The socket loses its descriptor; in FIN_WAIT2 it waits on in part, or not at all."""
    t = replace(shut(s), dead=True, linger_until=NEVER)
    if s.state == St.FIN_WAIT2:
        if s.linger2 < 0:
            r, fx = tcp_send_active_reset(t, space, p)
            return closed(r), (*fx, Mib(name="TcpExtTCPAbortOnLinger"))
        if tcp_fin_time(s, p) <= TCP_TIMEWAIT_LEN:
            return tcp_time_wait(t, St.FIN_WAIT2, tcp_fin_time(s, p), now, tw_full)
        t = replace(t, keepalive_timeout=now + tcp_fin_time(s, p) - TCP_TIMEWAIT_LEN)
    if oom and s.state != St.CLOSE:
        r, fx = tcp_send_active_reset(t, space, p)
        return closed(r), (*fx, Mib(name="TcpExtTCPAbortOnMemory"))
    return t, ()


@rule("net/ipv4/tcp.c:__tcp_close", "RFC 9293 3.10.4", at=St.CLOSE)
def close_closed(s: Sock, e: Close, p: TcpParams) -> tuple[Sock, Effects]:
    """A socket without connection is given up."""
    return replace(shut(s), dead=True), (CallResult(),)


@rule("net/ipv4/inet_connection_sock.c:inet_csk_listen_stop", "RFC 9293 3.10.4", at=St.LISTEN)
def close_listen(s: Sock, e: Close, p: TcpParams) -> tuple[Sock, Effects]:
    """A listener is given up, and with it whatever waits for accept()."""
    return replace(shut(closed(s)), dead=True), (CallResult(),)


@rule("net/ipv4/tcp.c:__tcp_close", "RFC 9293 3.10.4", at=St.SYN_SENT)
def close_synsent(s: Sock, e: Close, p: TcpParams) -> tuple[Sock, Effects]:
    """A connection that isn't there yet is given up silently."""
    return replace(shut(closed(s)), dead=True), (CallResult(),)


@rule("net/ipv4/tcp.c:__tcp_close", "RFC 2525 2.17", "RFC 1122 4.2.2.13", at=SYNC)
def close_unread(s: Sock, e: Close, p: TcpParams) -> tuple[Sock, Effects]:
    """Data that nobody read is answered by an RST."""
    require(readable(s) != 0, "data is unread")
    t, fx = tcp_send_active_reset(shut(s), e.space, p)
    return replace(closed(t), dead=True), (Mib(name="TcpExtTCPAbortOnClose"), *fx, CallResult())


@rule("net/ipv4/tcp.c:__tcp_close", "RFC 9293 3.10.5", at=SYNC)
def close_linger0(s: Sock, e: Close, p: TcpParams) -> tuple[Sock, Effects]:
    """With SO_LINGER of 0 s close() aborts the connection."""
    require(readable(s) == 0 and s.linger and s.lingertime == 0, "all data is read, and SO_LINGER is 0 s")
    t, fx = tcp_disconnect(s, e.space, p)
    return replace(t, dead=True), (*fx, Mib(name="TcpExtTCPAbortOnData"), CallResult())


@pure
def fin_sent(s: Sock, now: int) -> Sock:
    """close() and shutdown() queue a FIN unless one is; source net/ipv4/tcp.c:tcp_close_state."""
    if s.state in (St.ESTABLISHED, St.SYN_RECV):
        return queue_fin(s, St.FIN_WAIT1, now)
    return queue_fin(s, St.LAST_ACK, now) if s.state == St.CLOSE_WAIT else s


@pure
def waits(s: Sock, e: Close) -> bool:
    """This close() waits until the FIN is acknowledged; source net/core/stream.c:sk_stream_wait_close."""
    return s.linger and s.lingertime != 0 and not e.exiting and s.state != St.FIN_WAIT2


@rule("net/ipv4/tcp.c:__tcp_close", "RFC 9293 3.10.4", at=SYNC)
def close_fin(s: Sock, e: Close, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """close() sends a FIN after what is queued and leaves the connection to the kernel."""
    require(readable(s) == 0 and not (s.linger and s.lingertime == 0), "all data is read, and SO_LINGER isn't 0 s")
    require(not waits(s, e), "SO_LINGER doesn't ask to wait")
    t, fx = orphan(shut(fin_sent(s, e.now)), e.now, e.space, e.oom, e.tw_full, p)
    return t, (*fx, CallResult())


@rule("net/core/stream.c:sk_stream_wait_close", "RFC 9293 3.10.4", at=SYNC)
def close_waits(s: Sock, e: Close, p: TcpParams) -> tuple[Sock, Effects]:
    """With SO_LINGER close() sends a FIN and waits for its acknowledgment."""
    require(readable(s) == 0 and not (s.linger and s.lingertime == 0), "all data is read, and SO_LINGER isn't 0 s")
    require(waits(s, e), "SO_LINGER asks to wait")
    return replace(shut(fin_sent(s, e.now)), linger_until=e.now + s.lingertime), ()


@pure
def released(s: Sock, e: Release) -> bool:
    """The close() that waits has nothing to wait for any more."""
    return s.linger_until != NEVER and (not closing_for(s.state) or e.now >= s.linger_until or e.signal)


@rule("net/ipv4/tcp.c:__tcp_close", at=FULL)
def release(s: Sock, e: Release, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """The FIN is acknowledged, or the time is over: close() returns and leaves the connection to the kernel."""
    require(released(s, e), "the close() that waits may return")
    t, fx = orphan(s, e.now, e.space, e.oom, e.tw_full, p)
    return t, (*fx, CallResult())


@rule("net/core/stream.c:sk_stream_wait_close", at=FULL)
def release_early(s: Sock, e: Release, p: TcpParams) -> tuple[Sock, Effects]:
    """No close() waits, or it waits on."""
    require(not released(s, e), "no close() may return")
    return s, ()


# ---------------------------------------------------------------- shutdown()


@pure
def parted(s: Sock, e: Shutdown) -> Sock:
    """The directions that shutdown() names are shut, and a connect() under way is over.

    Source: af_inet.c:inet_shutdown.
    """
    early = s.state in (St.SYN_SENT, St.SYN_RECV, St.CLOSE)
    return replace(
        s,
        rcv_shut=s.rcv_shut or e.rd,
        snd_shut=s.snd_shut or e.wr,
        ss=(SS.DISCONNECTING if early else SS.CONNECTED) if s.ss == SS.CONNECTING else s.ss,
    )


@rule("net/ipv4/af_inet.c:inet_shutdown", at=FULL)
def shutdown_nothing(s: Sock, e: Shutdown, p: TcpParams) -> tuple[Sock, Effects]:
    """shutdown() of neither direction is refused."""
    require(not e.rd and not e.wr, "neither direction is named")
    return s, (CallResult(errno=Errno.EINVAL),)


@rule(
    "net/ipv4/af_inet.c:inet_shutdown",
    at=St.CLOSE,
    deviates="The call fails and shuts the direction all the same: a later connection can't use it.",
)
def shutdown_closed(s: Sock, e: Shutdown, p: TcpParams) -> tuple[Sock, Effects]:
    """A socket without connection can't be shut down."""
    require(e.rd or e.wr, "a direction is named")
    t = parted(s, e)
    return t, (CallResult(errno=Errno.ENOTCONN), Wake(poll=poll_mask(t, True)))


@rule("net/ipv4/af_inet.c:inet_shutdown", at=St.LISTEN)
def shutdown_listen(s: Sock, e: Shutdown, p: TcpParams) -> tuple[Sock, Effects]:
    """SHUT_RD stops a listener."""
    require(e.rd, "SHUT_RD is named")
    t = disconnected(s, s.err)
    return t, (CallResult(), Wake(poll=poll_mask(t, True)))


@rule("net/ipv4/af_inet.c:inet_shutdown", at=St.LISTEN)
def shutdown_listen_write(s: Sock, e: Shutdown, p: TcpParams) -> tuple[Sock, Effects]:
    """SHUT_WR does nothing to a listener."""
    require(e.wr and not e.rd, "SHUT_WR alone is named")
    return s, (CallResult(),)


@rule("net/ipv4/af_inet.c:inet_shutdown", at=St.SYN_SENT)
def shutdown_synsent(s: Sock, e: Shutdown, p: TcpParams) -> tuple[Sock, Effects]:
    """Any shutdown() gives a connection up that isn't there yet."""
    require(e.rd or e.wr, "a direction is named")
    t = disconnected(s, Errno.ECONNRESET)
    return t, (CallResult(), Wake(poll=poll_mask(t, True)))


@rule("net/ipv4/tcp.c:tcp_shutdown", "RFC 9293 3.6", at=SYNC)
def shutdown(s: Sock, e: Shutdown, p: TcpParams) -> tuple[Sock, Effects]:
    """SHUT_WR sends a FIN if none was sent, in SYN_RECV once the handshake is over; SHUT_RD sends nothing."""
    require(e.rd or e.wr, "a direction is named")
    t = parted(s, e)
    t = fin_sent(t, e.now) if e.wr and s.state != St.SYN_RECV else t
    return t, (CallResult(), Wake(poll=poll_mask(t, True)))


# ---------------------------------------------------------------- the listener goes


@rule("net/ipv4/inet_connection_sock.c:inet_child_forget", at=SYNC)
def listen_stop(s: Sock, e: ListenStop, p: TcpParams) -> tuple[Sock, Effects]:
    """A connection that nobody accepted is aborted when its listener goes."""
    t, fx = tcp_disconnect(s, e.space, p)
    return replace(t, dead=True), fx


@rule("net/ipv4/inet_connection_sock.c:inet_csk_listen_stop", at=[x for x in FULL if x not in SYNC])
def listen_stop_early(s: Sock, e: ListenStop, p: TcpParams) -> tuple[Sock, Effects]:
    """Without a connection there is only the listener to forget."""
    return replace(s, state=St.CLOSE if s.state == St.LISTEN else s.state), ()
