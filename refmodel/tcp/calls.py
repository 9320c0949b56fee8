"""What the other system calls return in each state: connect, listen, recv, send, poll, SO_ERROR, socket options.

The law: calls never wait here; one that would wait returns EAGAIN, EINPROGRESS or EALREADY, and a host that models a
blocking call makes it again when it is woken. An error is reported once, by whichever call comes first.
"""

from msgspec.structs import replace

from refmodel.rule import assume, pure, require, rule
from refmodel.tcp.checks import readable, receive_window
from refmodel.tcp.close import disconnected
from refmodel.tcp.events import (
    POLLIN,
    Call,
    CallResult,
    Connect,
    GetError,
    Listen,
    Poll,
    Read,
    SetKeepalive,
    SetLinger,
    SetLinger2,
    SetUserTimeout,
    Wake,
    Write,
)
from refmodel.tcp.input import poll_mask
from refmodel.tcp.output import Effects, check_probe, syn_segment, tcp_send_ack
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import (
    FULL,
    MAX_QUEUE,
    OPEN,
    SS,
    TCP_TIMEOUT_INIT,
    Errno,
    Pending,
    Sock,
    St,
)
from refmodel.tcp.synsent import keepalive_time_when
from refmodel.types import M32, NEVER, add


@assume
def calls_need_a_descriptor(s: Sock, e: Call) -> bool:
    """A socket whose last descriptor is closed, or is being closed, gets no more calls."""
    return not s.dead and s.linger_until == NEVER


# ---------------------------------------------------------------- connect()


@pure
def first_seq(s: Sock, e: Connect) -> int:
    """Where the new connection starts: where the socket's last one left off, else at the ISN; source tcp_v4_connect."""
    return s.write_seq if s.write_seq != 0 else e.isn


@pure
def syn_sent(s: Sock, e: Connect, p: TcpParams) -> Sock:
    """The socket with its SYN under way; source net/ipv4/tcp_output.c:tcp_connect_init, tcp_output.c:tcp_connect."""
    isn = first_seq(s, e)
    return replace(
        s,
        state=St.SYN_SENT,
        ss=SS.CONNECTING,
        snd_una=isn,
        snd_nxt=add(isn, 1),
        write_seq=add(isn, 1),
        syn_out=True,
        fin_queued=False,
        snd_wnd=0,
        snd_wl1=0,
        max_window=0,
        bytes_acked=0,
        rcv_nxt=0,
        rcv_wup=0,
        copied_seq=0,
        ofo=False,
        rcv_wnd=e.space,
        rcv_wscale=e.rcv_wscale if p.tcp_window_scaling else 0,
        advmss=e.advmss,
        ts_recent=e.ts_recent,
        ts_recent_stamp=e.ts_recent_stamp,
        ts_syn=e.ts_now,
        err=Errno.NONE,
        done=False,
        icsk_rto=TCP_TIMEOUT_INIT,
        icsk_retransmits=0,
        icsk_backoff=0,
        icsk_probes_out=0,
        icsk_probes_tstamp=0,
        icsk_pending=Pending.RETRANS,
        icsk_timeout=e.now + TCP_TIMEOUT_INIT,
        retrans_stamp=max(e.now, 1),
    )


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_connect", "RFC 9293 3.10.1", at=St.CLOSE)
def connect(s: Sock, e: Connect, p: TcpParams) -> tuple[Sock, Effects]:
    """connect() sends a SYN."""
    require(s.ss == SS.UNCONNECTED and e.errno == Errno.NONE, "the socket isn't connected, and there is a route")
    t = syn_sent(s, e, p)
    return t, (syn_segment(t, False, p), CallResult(errno=Errno.EINPROGRESS))


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_connect", at=St.CLOSE)
def connect_unroutable(s: Sock, e: Connect, p: TcpParams) -> tuple[Sock, Effects]:
    """Without a route or a port connect() fails at once."""
    require(s.ss == SS.UNCONNECTED and e.errno != Errno.NONE, "the socket isn't connected, and there is no route")
    return s, (CallResult(errno=e.errno),)


@rule("net/ipv4/af_inet.c:__inet_stream_connect", at=St.CLOSE)
def connect_failed(s: Sock, e: Connect, p: TcpParams) -> tuple[Sock, Effects]:
    """connect() again after the attempt failed reports why, and the socket may be used again."""
    require(s.ss == SS.CONNECTING, "the connection attempt is over")
    t = disconnected(s, Errno.NONE)
    return t, (CallResult(errno=s.err if s.err != Errno.NONE else Errno.ECONNABORTED), Wake(poll=poll_mask(t, True)))


@rule("net/ipv4/af_inet.c:__inet_stream_connect", at=FULL)
def connect_refused_state(s: Sock, e: Connect, p: TcpParams) -> tuple[Sock, Effects]:
    """connect() on a connected, listening or half shut socket fails."""
    require(
        s.ss in (SS.CONNECTED, SS.DISCONNECTING) or (s.ss == SS.UNCONNECTED and s.state != St.CLOSE),
        "the socket is in use",
    )
    return s, (CallResult(errno=Errno.EINVAL if s.ss == SS.DISCONNECTING else Errno.EISCONN),)


@rule("net/ipv4/af_inet.c:__inet_stream_connect", at=[x for x in FULL if x != St.CLOSE])
def connect_again(s: Sock, e: Connect, p: TcpParams) -> tuple[Sock, Effects]:
    """connect() again says that the attempt is under way, or, once, that it succeeded."""
    require(s.ss == SS.CONNECTING, "a connection attempt is under way, or succeeded")
    waits = s.state in (St.SYN_SENT, St.SYN_RECV)
    return replace(s, ss=SS.CONNECTING if waits else SS.CONNECTED), (
        CallResult(errno=Errno.EALREADY if waits else Errno.NONE),
    )


# ---------------------------------------------------------------- listen()


@rule("net/ipv4/inet_connection_sock.c:inet_csk_listen_start", "RFC 9293 3.10.1", at=(St.CLOSE, St.LISTEN))
def listen(s: Sock, e: Listen, p: TcpParams) -> tuple[Sock, Effects]:
    """listen() makes a socket that isn't connected wait for SYNs, or changes its backlog."""
    require(s.ss == SS.UNCONNECTED, "the socket isn't connected")
    return replace(s, state=St.LISTEN), (CallResult(),)


@rule("net/ipv4/af_inet.c:inet_listen", at=FULL)
def listen_refused(s: Sock, e: Listen, p: TcpParams) -> tuple[Sock, Effects]:
    """listen() on a socket in use fails."""
    require(s.ss != SS.UNCONNECTED or s.state not in (St.CLOSE, St.LISTEN), "the socket is in use")
    return s, (CallResult(errno=Errno.EINVAL),)


# ---------------------------------------------------------------- recv()


@pure
def read_acks(s: Sock, e: Read, copied: bool) -> bool:
    """Reading sends an acknowledgment: one is owed, or the window at least doubles; source tcp.c:__tcp_cleanup_rbuf."""
    opens = copied and not s.rcv_shut and e.space != 0 and e.space >= 2 * receive_window(s)
    return e.ack_now and s.state in OPEN and (s.ack_sched or opens)


@rule("net/ipv4/tcp.c:tcp_recvmsg_locked", "RFC 9293 3.10.3", at=[x for x in FULL if x != St.LISTEN])
def read(s: Sock, e: Read, p: TcpParams) -> tuple[Sock, Effects]:
    """recv() takes what is there, data before any error, and may tell the peer of the room that it made."""
    require(readable(s) != 0, "data is there")
    n = min(readable(s), e.n)
    t = replace(s, copied_seq=add(s.copied_seq, n))
    if read_acks(s, e, n != 0):
        t, fx = tcp_send_ack(t, e.space, p)
        return t, (CallResult(value=n), *fx)
    return t, (CallResult(value=n),)


@pure
def read_error(s: Sock) -> Errno:
    """Why recv() returns without data; NONE is the end of the stream; source net/ipv4/tcp.c:tcp_recvmsg_locked."""
    if s.done:
        return Errno.NONE
    if s.err != Errno.NONE:
        return s.err
    if s.rcv_shut:
        return Errno.NONE
    return Errno.ENOTCONN if s.state == St.CLOSE else Errno.EAGAIN


@rule("net/ipv4/tcp.c:tcp_recvmsg_locked", "RFC 9293 3.10.3", at=[x for x in FULL if x != St.LISTEN])
def read_nothing(s: Sock, e: Read, p: TcpParams) -> tuple[Sock, Effects]:
    """Without data recv() returns 0 after the peer's FIN, else the error, 0 after SHUT_RD, ENOTCONN or EAGAIN."""
    require(readable(s) == 0, "no data is there")
    t = replace(s, err=s.err if s.done else Errno.NONE)
    if read_acks(s, e, False):
        t, fx = tcp_send_ack(t, e.space, p)
        return t, (CallResult(errno=read_error(s)), *fx)
    return t, (CallResult(errno=read_error(s)),)


@rule("net/ipv4/tcp.c:tcp_recvmsg_locked", at=St.LISTEN)
def read_listen(s: Sock, e: Read, p: TcpParams) -> tuple[Sock, Effects]:
    """A listener has nothing to read."""
    return s, (CallResult(errno=Errno.ENOTCONN),)


# ---------------------------------------------------------------- send()


@pure
def queue_room(s: Sock, n: int) -> bool:
    """`n` more bytes don't make the queue longer than any buffer."""
    return n != 0 and ((s.write_seq - s.snd_una) & M32) + n <= MAX_QUEUE


@pure
def writes(s: Sock) -> bool:
    """send() may queue data."""
    return s.err == Errno.NONE and not s.snd_shut


@rule("net/ipv4/tcp.c:tcp_sendmsg_locked", "RFC 9293 3.10.2", at=(St.ESTABLISHED, St.CLOSE_WAIT))
def write(s: Sock, e: Write, p: TcpParams) -> tuple[Sock, Effects]:
    """send() queues data."""
    require(writes(s) and queue_room(s, e.n), "the direction is open and the buffer has room")
    return check_probe(replace(s, write_seq=add(s.write_seq, e.n)), e.now), (CallResult(value=e.n),)


@rule("net/ipv4/tcp.c:tcp_sendmsg_locked", at=(St.ESTABLISHED, St.CLOSE_WAIT))
def write_full(s: Sock, e: Write, p: TcpParams) -> tuple[Sock, Effects]:
    """A full buffer takes nothing."""
    require(writes(s) and not queue_room(s, e.n), "the direction is open and the buffer is full")
    return s, (CallResult(errno=Errno.EAGAIN),)


@rule("net/ipv4/tcp.c:tcp_sendmsg_locked", "net/core/stream.c:sk_stream_error", at=(St.ESTABLISHED, St.CLOSE_WAIT))
def write_shut(s: Sock, e: Write, p: TcpParams) -> tuple[Sock, Effects]:
    """After SHUT_WR, or with an error pending, send() fails: the error first, EPIPE and a signal afterwards."""
    require(not writes(s), "the direction is shut, or an error is pending")
    none = s.err == Errno.NONE
    failed = Errno.EPIPE if none else s.err
    return replace(s, err=Errno.NONE), (CallResult(errno=failed, sigpipe=failed == Errno.EPIPE),)


@rule(
    "net/core/stream.c:sk_stream_wait_connect",
    "RFC 9293 3.10.2",
    at=[x for x in FULL if x not in (St.ESTABLISHED, St.CLOSE_WAIT)],
)
def write_unconnected(s: Sock, e: Write, p: TcpParams) -> tuple[Sock, Effects]:
    """Before the handshake is over send() would wait; without a connection it fails: the error first, then EPIPE."""
    waits = s.state in (St.SYN_SENT, St.SYN_RECV)
    none = s.err == Errno.NONE
    failed = (Errno.EAGAIN if waits else Errno.EPIPE) if none else s.err
    return replace(s, err=Errno.NONE), (CallResult(errno=failed, sigpipe=failed == Errno.EPIPE),)


# ---------------------------------------------------------------- poll(), SO_ERROR, options


@rule("net/ipv4/tcp.c:tcp_poll", at=FULL)
def poll(s: Sock, e: Poll, p: TcpParams) -> tuple[Sock, Effects]:
    """poll() tells what wouldn't wait."""
    if s.state == St.LISTEN:
        return s, (CallResult(value=POLLIN if e.acceptable else 0),)
    return s, (CallResult(value=poll_mask(s, e.writable)),)


@rule("net/core/sock.c:sk_getsockopt", at=FULL)
def get_error(s: Sock, e: GetError, p: TcpParams) -> tuple[Sock, Effects]:
    """SO_ERROR takes the pending error, or else the soft one."""
    hard = s.err != Errno.NONE
    return replace(s, err=Errno.NONE, err_soft=s.err_soft if hard else Errno.NONE), (
        CallResult(value=s.err if hard else s.err_soft),
    )


@rule("net/core/sock.c:sk_setsockopt", at=FULL)
def set_linger(s: Sock, e: SetLinger, p: TcpParams) -> tuple[Sock, Effects]:
    """SO_LINGER says what close() does about data under way."""
    return replace(s, linger=e.on, lingertime=e.time if e.on else s.lingertime), (CallResult(),)


@rule("net/ipv4/tcp.c:do_tcp_setsockopt", at=FULL)
def set_linger2(s: Sock, e: SetLinger2, p: TcpParams) -> tuple[Sock, Effects]:
    """TCP_LINGER2 says how long an orphan waits in FIN_WAIT2."""
    return replace(s, linger2=e.time), (CallResult(),)


@rule("net/ipv4/tcp_timer.c:tcp_set_keepalive", "RFC 9293 3.8.4", at=FULL)
def set_keepalive(s: Sock, e: SetKeepalive, p: TcpParams) -> tuple[Sock, Effects]:
    """SO_KEEPALIVE arms or stops the timer that probes a silent peer."""
    lives = s.state not in (St.CLOSE, St.LISTEN)
    arm = lives and e.on and not s.keepopen
    kept = NEVER if lives and not e.on else s.keepalive_timeout
    t = replace(
        s,
        keepopen=e.on,
        keepalive_time=e.time if e.time != 0 else s.keepalive_time,
        keepalive_intvl=e.intvl if e.intvl != 0 else s.keepalive_intvl,
        keepalive_probes=e.probes if e.probes != 0 else s.keepalive_probes,
    )
    return replace(t, keepalive_timeout=e.now + keepalive_time_when(t, p) if arm else kept), (CallResult(),)


@rule("net/ipv4/tcp.c:tcp_sock_set_user_timeout", "RFC 5482 3", at=FULL)
def set_user_timeout(s: Sock, e: SetUserTimeout, p: TcpParams) -> tuple[Sock, Effects]:
    """TCP_USER_TIMEOUT says how long data may stay unacknowledged."""
    return replace(s, user_timeout=e.time), (CallResult(),)
