"""The queues of a listening socket.

The law: a connection waits for accept() only if fewer than backlog + 1 already do. Connections and requests are
objects of their own; here they are counted, and `acceptq_full` and `synq_full` are the facts that segments ask for.
"""

from msgspec.structs import replace

from refmodel.rule import assume, pure, require, rule
from refmodel.tcp.events import (
    POLLIN,
    Accept,
    CallResult,
    ChildQueued,
    Close,
    Listen,
    Poll,
    ReqAdded,
    ReqRemoved,
    ReqTimedOut,
)
from refmodel.tcp.output import Effects
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import Errno, Listener


@pure
def acceptq_full(s: Listener) -> bool:
    """More connections wait than the backlog says, so backlog + 1 do; source include/net/sock.h:sk_acceptq_is_full."""
    return s.sk_ack_backlog > s.sk_max_ack_backlog


@pure
def synq_full(s: Listener) -> bool:
    """More requests wait than the backlog says; source inet_connection_sock.h:inet_csk_reqsk_queue_is_full."""
    return s.qlen > s.sk_max_ack_backlog


def allowed_retries(s: Listener, retries: int) -> int:
    """How often a SYN-ACK is repeated at this length of the queue; source inet_connection_sock.c:reqsk_timer_handler.

    In a queue that is half full old requests make room for young ones: the fewer young, the fewer retries, down to two.
    """
    if s.qlen * 2 > max(8, s.sk_max_ack_backlog):
        young = s.young * 2
        while retries > 2 and s.qlen >= young:
            retries -= 1
            young *= 2
    return retries


@assume
def children_find_room(s: Listener, e: ChildQueued) -> bool:
    """A connection is only made while the accept queue isn't full and the listener lives."""
    return s.listening and not acceptq_full(s)


@assume
def requests_leave_once(s: Listener, e: ReqRemoved) -> bool:
    """A request that leaves was in the queue."""
    return s.qlen > 0 and (s.young > 0 if e.young else s.qlen > s.young)


@assume
def requests_age_once(s: Listener, e: ReqTimedOut) -> bool:
    """A request whose timer fires for the first time was young."""
    return s.young > 0


@assume
def queues_are_finite(s: Listener, e: ReqAdded) -> bool:
    """Memory ends before the counter does."""
    return s.listening and s.qlen < 1 << 31


@rule("net/ipv4/inet_connection_sock.c:inet_csk_reqsk_queue_hash_add")
def req_added(s: Listener, e: ReqAdded, p: TcpParams) -> tuple[Listener, Effects]:
    """A request joins, young."""
    return replace(s, qlen=s.qlen + 1, young=s.young + 1), ()


@rule("net/ipv4/inet_connection_sock.c:reqsk_timer_handler")
def req_timed_out(s: Listener, e: ReqTimedOut, p: TcpParams) -> tuple[Listener, Effects]:
    """A request that had to repeat its SYN-ACK is young no more."""
    return replace(s, young=s.young - 1), ()


@rule("net/ipv4/inet_connection_sock.c:inet_csk_reqsk_queue_drop")
def req_removed(s: Listener, e: ReqRemoved, p: TcpParams) -> tuple[Listener, Effects]:
    """A request became a connection, or was dropped."""
    return replace(s, qlen=s.qlen - 1, young=s.young - 1 if e.young else s.young), ()


@rule("net/ipv4/inet_connection_sock.c:inet_csk_reqsk_queue_add")
def child_queued(s: Listener, e: ChildQueued, p: TcpParams) -> tuple[Listener, Effects]:
    """A connection waits for accept()."""
    return replace(s, sk_ack_backlog=s.sk_ack_backlog + 1), ()


@rule("net/ipv4/inet_connection_sock.c:inet_csk_accept", "RFC 9293 3.9.1")
def accept(s: Listener, e: Accept, p: TcpParams) -> tuple[Listener, Effects]:
    """accept() takes the connection that waited longest."""
    require(s.listening and s.sk_ack_backlog != 0, "a connection waits")
    return replace(s, sk_ack_backlog=s.sk_ack_backlog - 1), (CallResult(),)


@rule("net/ipv4/inet_connection_sock.c:inet_csk_accept")
def accept_nothing(s: Listener, e: Accept, p: TcpParams) -> tuple[Listener, Effects]:
    """With nothing to accept the call would wait; without listener it fails."""
    require(not (s.listening and s.sk_ack_backlog != 0), "no connection waits")
    return s, (CallResult(errno=Errno.EAGAIN if s.listening else Errno.EINVAL),)


@rule("net/socket.c:__sys_listen", "net/ipv4/af_inet.c:__inet_listen_sk")
def backlog(s: Listener, e: Listen, p: TcpParams) -> tuple[Listener, Effects]:
    """listen() sets the backlog, within somaxconn; connections that wait already stay."""
    return replace(s, sk_max_ack_backlog=min(e.backlog, p.somaxconn), listening=True), (CallResult(),)


@rule("net/ipv4/inet_connection_sock.c:inet_csk_listen_stop")
def stop(s: Listener, e: Close, p: TcpParams) -> tuple[Listener, Effects]:
    """close() drops every connection that waits."""
    return replace(s, sk_ack_backlog=0, listening=False), (CallResult(),)


@rule("include/net/inet_connection_sock.h:inet_csk_listen_poll")
def listen_poll(s: Listener, e: Poll, p: TcpParams) -> tuple[Listener, Effects]:
    """A listener is readable while a connection waits."""
    return s, (CallResult(value=POLLIN if s.sk_ack_backlog != 0 else 0),)
