"""A socket's life: made, bound, connected or accepted, shut down, closed (net/ipv4/af_inet.c and the rest of tcp.c).

The law: an application's socket and its connection end separately. A close that leaves unread data resets; else the
FIN goes and the connection lives on without an application until its peer is done too, or until its time is over.
"""

import errno
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import accecn, capability, poll, stream
from refmodel.tcp.whole.const import (
    FIN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_DEFAULT_SCALING_RATIO,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_MIN_MSS,
)
from refmodel.tcp.whole.net import Wait, inet_csk_clear_xmit_timers
from refmodel.tcp.whole.poll import O_NONBLOCK, Blocking, WaitEntry, add_wait_queue, remove_wait_queue, wait_woken
from refmodel.tcp.whole.skb import SentQueue, SockAddr
from refmodel.tcp.whole.sock import CA, IcskAck, InetSock, RxOpt, Sock
from refmodel.tcp.whole.tcp_h import sk_mem_uncharge, tcp_clear_all_retrans_hints, tcp_wmem_free_skb
from refmodel.types import M32, after

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

AF_UNSPEC: Final = 0
AF_INET: Final = 2
AF_INET6: Final = 10
NPROTO: Final = 46
SOCK_MAX: Final = 11
SOCK_STREAM: Final = 1
IPPROTO_TCP: Final = 6
IPPROTO_MAX: Final = 263

SS_UNCONNECTED: Final = 1
SS_CONNECTING: Final = 2
SS_CONNECTED: Final = 3
SS_DISCONNECTING: Final = 4

SOCK_BINDADDR_LOCK: Final = 4
SOCK_BINDPORT_LOCK: Final = 8
SOCK_MIN_SNDBUF: Final = 4608
RCV_SHUTDOWN: Final = 1
TFO_SERVER_ENABLE: Final = 2
TFO_SERVER_WO_SOCKOPT1: Final = 0x400
TCP_CHRONO_BUSY: Final = 1

NEED_RESET: Final = (St.ESTABLISHED, St.CLOSE_WAIT, St.FIN_WAIT1, St.FIN_WAIT2, St.SYN_RECV)
# Where a close leads, and whether a FIN is due (net/ipv4/tcp.c:new_state).
NEW_STATE: Final = {
    St.ESTABLISHED: (St.FIN_WAIT1, True),
    St.SYN_SENT: (St.CLOSE, False),
    St.SYN_RECV: (St.FIN_WAIT1, True),
    St.FIN_WAIT1: (St.FIN_WAIT1, False),
    St.FIN_WAIT2: (St.FIN_WAIT2, False),
    St.TIME_WAIT: (St.CLOSE, False),
    St.CLOSE: (St.CLOSE, False),
    St.CLOSE_WAIT: (St.LAST_ACK, True),
    St.LAST_ACK: (St.LAST_ACK, False),
    St.LISTEN: (St.CLOSE, False),
    St.CLOSING: (St.CLOSING, False),
    St.NEW_SYN_RECV: (St.CLOSE, False),
}


# ---------------------------------------------------------------- a new socket


@cited("net/ipv4/tcp.c:tcp_init_sock")
def tcp_init_sock(sk: Sock) -> None:
    """A socket's first values, from the namespace's sysctls."""
    from refmodel.tcp.whole import ca

    net = sk.net
    sk.icsk_rto = net.hz
    sk.icsk_rto_min = net.usecs_to_jiffies(net.p.tcp_rto_min_us)
    sk.icsk_delack_max = net.hz // 5
    sk.mdev_us = net.jiffies_to_usecs(net.hz)
    sk.rtt_min.reset(net.jiffies & M32, M32)
    sk.snd_cwnd = TCP_INIT_CWND
    sk.app_limited = M32
    sk.rate_app_limited = True
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    sk.snd_cwnd_clamp = M32
    sk.reordering = net.p.tcp_reordering
    ca.tcp_assign_congestion_control(sk)
    sk.rack.reo_wnd_steps = 1
    sk.sk_sndbuf = net.p.tcp_wmem_1
    sk.sk_rcvbuf = net.p.tcp_rmem_1
    sk.scaling_ratio = TCP_DEFAULT_SCALING_RATIO


def tcp_sock(net: "Net", family: int) -> Sock:
    """A new TCP socket; source net/ipv4/tcp_ipv4.c:tcp_v4_init_sock."""
    sk = Sock(net, family)
    sk.pmtudisc = 0 if net.p.ip_no_pmtu_disc else 1
    tcp_init_sock(sk)
    return sk


# ---------------------------------------------------------------- bind, listen, accept


def _is_mapped(addr: bytes) -> bool:
    return addr[:12] == bytes(10) + b"\xff\xff"


def _local(net: "Net", addr: bytes) -> bool:
    """The address is this host's."""
    if len(addr) == 4 and addr[0] == 127:
        return True
    return not net.local_addrs or addr in net.local_addrs or addr == bytes(15) + b"\x01"


@cited(
    "net/ipv4/af_inet.c:inet_bind", "net/ipv4/af_inet.c:__inet_bind", "net/ipv6/af_inet6.c:inet6_bind",
    "net/ipv6/af_inet6.c:__inet6_bind",
)  # fmt: skip
def inet_bind(sk: InetSock, addr: SockAddr) -> int:
    """Gives the socket a local address and port: 0, or a negative errno."""

    net = sk.net
    own = addr.addr
    v6 = sk.sk_family == AF_INET6
    if addr.len < (24 if v6 else 16):
        return -errno.EINVAL
    if v6:
        if addr.family != AF_INET6:
            return -errno.EAFNOSUPPORT
        if own[:1] == b"\xff":
            return -errno.EINVAL
    else:
        if addr.family != AF_INET and (addr.family != AF_UNSPEC or any(own)):
            return -errno.EAFNOSUPPORT
        nonlocal_ok = bool(sk.sk_flags & {"FREEBIND", "TRANSPARENT"})
        multicast = bool(own) and own[0] >= 224
        if any(own) and not multicast and not nonlocal_ok and not _local(net, own):
            return -errno.EADDRNOTAVAIL
    low = addr.port and addr.port < net.p.ip_unprivileged_port_start
    if low and not capability.ns_capable(net, capability.CAP_NET_BIND_SERVICE):
        return -errno.EACCES
    if sk.sk_state != St.CLOSE or sk.inet_num:
        return -errno.EINVAL
    if v6 and any(own):
        if _is_mapped(own):
            if sk.sk_ipv6only:
                return -errno.EINVAL
            own = own[12:]
        if any(own) and not sk.sk_flags & {"FREEBIND", "TRANSPARENT"} and not _local(net, own):
            return -errno.EADDRNOTAVAIL
    stream.lock_sock(sk)
    mapped_any = v6 and len(own) == 4 and not any(own)
    sk.inet_rcv_saddr = sk.inet_saddr = own if any(own) or mapped_any else b""
    if not v6 and own and own[0] >= 224:
        sk.inet_saddr = b""
    saved_ipv6only = sk.sk_ipv6only
    if v6 and len(own) == 16 and any(own):
        sk.sk_ipv6only = True
    if addr.port or "BIND_ADDRESS_NO_PORT" not in sk.sk_flags:
        err = sk.get_port(addr.port)
        if err:
            sk.sk_ipv6only = saved_ipv6only
            sk.inet_saddr = sk.inet_rcv_saddr = b""
            stream.release_sock(sk)
            return err
    if any(own) or mapped_any:
        sk.sk_userlocks |= SOCK_BINDADDR_LOCK
    if addr.port:
        sk.sk_userlocks |= SOCK_BINDPORT_LOCK
    sk.inet_sport = sk.inet_num
    sk.inet_daddr = b""
    sk.inet_dport = 0
    sk.sk_dst = None
    stream.release_sock(sk)
    return 0


@cited("net/ipv4/af_inet.c:inet_listen", "net/ipv4/af_inet.c:__inet_listen_sk", "net/socket.c:__sys_listen")
def inet_listen(sk: Sock, backlog: int) -> int:
    """Makes the socket a listener for `backlog` + 1 connections that wait: 0, or a negative errno."""
    from refmodel.tcp.whole import fastopen, listen

    net = sk.net
    if backlog & M32 > net.p.somaxconn:
        backlog = net.p.somaxconn
    if sk.ss_state != SS_UNCONNECTED or sk.sk_state not in (St.CLOSE, St.LISTEN):
        return -errno.EINVAL
    stream.lock_sock(sk)
    sk.sk_max_ack_backlog = backlog
    err = 0
    if sk.sk_state != St.LISTEN:
        tfo = net.p.tcp_fastopen
        if tfo & TFO_SERVER_WO_SOCKOPT1 and tfo & TFO_SERVER_ENABLE and not sk.fastopenq_max_qlen:
            sk.fastopenq_max_qlen = min(backlog, net.p.somaxconn)
            fastopen.tcp_fastopen_init_key_once(net)
        err = listen.inet_csk_listen_start(sk)
    stream.release_sock(sk)
    return err


@cited("net/ipv4/inet_connection_sock.c:inet_csk_wait_for_connect")
def inet_csk_wait_for_connect(sk: Sock, timeo: int) -> Blocking:
    """Sleeps until a connection waits; only one sleeper is woken for each."""
    wait = WaitEntry(exclusive=True)
    wq = sk.sk_wq
    add_wait_queue(wq, wait)
    try:
        while True:
            stream.release_sock(sk)
            if not sk.accept_queue:
                timeo = yield from wait_woken(sk.net, wait, timeo)
            stream.lock_sock(sk)
            if sk.accept_queue:
                return 0
            if sk.sk_state != St.LISTEN:
                return -errno.EINVAL
            if not timeo:
                return -errno.EAGAIN
    finally:
        remove_wait_queue(wq, wait)


@cited("net/ipv4/inet_connection_sock.c:inet_csk_accept")
def inet_csk_accept(sk: Sock, flags: int) -> Generator[Wait, bool, Sock | int]:
    """Takes the first connection that waits, or a negative errno."""
    from refmodel.tcp.whole import listen

    stream.lock_sock(sk)
    err = 0
    if sk.sk_state != St.LISTEN:
        err = -errno.EINVAL
    elif not sk.accept_queue:
        timeo = stream.sock_rcvtimeo(sk, bool(flags & O_NONBLOCK))
        err = (yield from inet_csk_wait_for_connect(sk, timeo)) if timeo else -errno.EAGAIN
    if err:
        stream.release_sock(sk)
        return err
    newsk = listen.inet_csk_accept_child(sk)
    stream.release_sock(sk)
    return newsk


@cited("net/ipv4/af_inet.c:__inet_accept", "include/net/sock.h:sock_graft")
def __inet_accept(newsk: Sock) -> None:
    """The connection gets a socket of its own."""
    newsk.sk_wq = []
    newsk.has_socket = True
    newsk.sk_nospace = False
    newsk.ss_state = SS_CONNECTED


@cited("net/ipv4/af_inet.c:inet_accept")
def inet_accept(sk: Sock, flags: int) -> Generator[Wait, bool, Sock | int]:
    """accept(2) of a listener; source net/ipv4/af_inet.c:inet_accept."""
    newsk = yield from inet_csk_accept(sk, flags)
    if not isinstance(newsk, int):
        stream.lock_sock(newsk)
        __inet_accept(newsk)
        stream.release_sock(newsk)
    return newsk


# ---------------------------------------------------------------- connect


@cited("net/ipv4/af_inet.c:inet_wait_for_connect")
def inet_wait_for_connect(sk: Sock, timeo: int, writebias: int) -> Blocking:
    """Sleeps until the handshake is over; returns the jiffies that are left."""
    wait = WaitEntry()
    wq = sk.sk_wq
    add_wait_queue(wq, wait)
    sk.sk_write_pending += writebias
    while sk.sk_state in stream.CONNECTING:
        stream.release_sock(sk)
        timeo = yield from wait_woken(sk.net, wait, timeo)
        stream.lock_sock(sk)
        if not timeo:
            break
    remove_wait_queue(wq, wait)
    sk.sk_write_pending -= writebias
    return timeo


@cited("net/ipv4/af_inet.c:__inet_stream_connect")
def __inet_stream_connect(sk: Sock, uaddr: SockAddr | None, noblock: bool, is_sendmsg: bool) -> Blocking:
    """Connects, or disconnects if the address is AF_UNSPEC: 0, or a negative errno."""
    from refmodel.tcp.whole import ipv4

    if uaddr is not None:
        if uaddr.len < 2:
            return -errno.EINVAL
        if uaddr.family == AF_UNSPEC:
            sk.sk_disconnects += 1
            tcp_disconnect(sk, 0)
            sk.ss_state = SS_UNCONNECTED
            return 0
    if sk.ss_state == SS_CONNECTED:
        return -errno.EISCONN
    if sk.ss_state == SS_CONNECTING:
        if sk.defer_connect:
            err = -errno.EINPROGRESS if is_sendmsg else -errno.EISCONN
        else:
            err = -errno.EALREADY
    elif sk.ss_state == SS_UNCONNECTED:
        if sk.sk_state != St.CLOSE:
            return -errno.EISCONN
        if uaddr is None:
            return -errno.EINVAL
        err = ipv4.tcp_v4_connect(sk, uaddr)
        if err < 0:
            return err
        sk.ss_state = SS_CONNECTING
        if sk.defer_connect:
            return err
        err = -errno.EINPROGRESS
    else:
        return -errno.EINVAL
    timeo = stream.sock_sndtimeo(sk, noblock)
    if sk.sk_state in stream.CONNECTING:
        writebias = int(sk.fastopen_req is not None and sk.fastopen_req.data is not None)
        dis = sk.sk_disconnects
        if not timeo or not (yield from inet_wait_for_connect(sk, timeo, writebias)):
            return err
        if dis != sk.sk_disconnects:
            return -errno.EPIPE
    if sk.sk_state == St.CLOSE:
        err = stream.sock_error(sk) or -errno.ECONNABORTED
        sk.ss_state = SS_UNCONNECTED
        sk.sk_disconnects += 1
        tcp_disconnect(sk, 0)
        return err
    sk.ss_state = SS_CONNECTED
    return 0


@cited("net/ipv4/af_inet.c:inet_stream_connect")
def inet_stream_connect(sk: Sock, uaddr: SockAddr, noblock: bool) -> Blocking:
    """connect(2); source net/ipv4/af_inet.c:inet_stream_connect."""
    stream.lock_sock(sk)
    err = yield from __inet_stream_connect(sk, uaddr, noblock, False)
    stream.release_sock(sk)
    return err


@cited("net/ipv4/af_inet.c:inet_getname", "net/ipv6/af_inet6.c:inet6_getname")
def inet_getname(sk: InetSock, peer: int) -> SockAddr | int:
    """The socket's own name, its peer's (1), or its peer's even if it is closed (2)."""
    if peer:
        if not sk.inet_dport or (sk.sk_state in (St.CLOSE, St.SYN_SENT) and peer == 1):
            return -errno.ENOTCONN
        addr, port = sk.inet_daddr, sk.inet_dport
    else:
        addr, port = sk.inet_rcv_saddr or sk.inet_saddr, sk.inet_sport
    if sk.sk_family == AF_INET6:
        addr = bytes(10) + b"\xff\xff" + addr if len(addr) == 4 else addr or bytes(16)
    return SockAddr(sk.sk_family, addr or bytes(4), port)


# ---------------------------------------------------------------- states


@cited("net/ipv4/tcp.c:tcp_set_state")
def tcp_set_state(sk: Sock, state: St) -> None:
    """Changes the state; a closed connection can't be found any more, and gives up a port that it didn't ask for."""
    oldstate = sk.sk_state
    net = sk.net
    if state == St.ESTABLISHED:
        if oldstate != St.ESTABLISHED:
            net.count("TcpCurrEstab")
    elif state == St.CLOSE_WAIT:
        if oldstate == St.SYN_RECV:
            net.count("TcpCurrEstab")
    else:
        open_before = oldstate in (St.ESTABLISHED, St.CLOSE_WAIT)
        if state == St.CLOSE:
            from refmodel.tcp.whole import bind, hashtables

            if open_before:
                net.count("TcpEstabResets")
            hashtables.inet_unhash(sk)
            if sk.icsk_bind_hash is not None and not sk.sk_userlocks & SOCK_BINDPORT_LOCK:
                bind.inet_put_port(sk)
        if open_before:
            net.count("TcpCurrEstab", -1)
    sk.sk_state = state


@cited("net/ipv4/tcp.c:tcp_close_state")
def tcp_close_state(sk: Sock) -> bool:
    """Takes the state that a close leads to; True if a FIN is due."""
    state, fin = NEW_STATE[sk.sk_state]
    tcp_set_state(sk, state)
    return fin


@cited("net/ipv4/tcp.c:tcp_shutdown", "RFC 9293 3.6")
def tcp_shutdown(sk: Sock, how: int) -> None:
    """Ends the sending direction."""
    from refmodel.tcp.whole import output

    if not how & SEND_SHUTDOWN:
        return
    if sk.sk_state in (St.ESTABLISHED, St.SYN_SENT, St.CLOSE_WAIT) and tcp_close_state(sk):
        output.tcp_send_fin(sk)


@cited("net/ipv4/af_inet.c:inet_shutdown")
def inet_shutdown(sk: Sock, how: int) -> int:
    """shutdown(2): SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2; 0, or a negative errno."""
    how += 1
    if how & ~SHUTDOWN_MASK or not how:
        return -errno.EINVAL
    stream.lock_sock(sk)
    if sk.ss_state == SS_CONNECTING:
        early = sk.sk_state in (St.SYN_SENT, St.SYN_RECV, St.CLOSE)
        sk.ss_state = SS_DISCONNECTING if early else SS_CONNECTED
    err = 0
    if sk.sk_state == St.LISTEN and not how & RCV_SHUTDOWN:
        pass
    elif sk.sk_state in (St.LISTEN, St.SYN_SENT):
        tcp_disconnect(sk, 0)
        sk.ss_state = SS_UNCONNECTED
    else:
        if sk.sk_state == St.CLOSE:
            err = -errno.ENOTCONN
        sk.sk_shutdown |= how
        tcp_shutdown(sk, how)
    poll.sk_state_change(sk)
    stream.release_sock(sk)
    return err


def tcp_clear_xmit_timers(sk: Sock) -> None:
    """Stops all timers of a connection; source include/net/tcp.h:tcp_clear_xmit_timers."""
    sk.pacing_timer.stop()
    sk.compressed_ack_timer.stop()
    inet_csk_clear_xmit_timers(sk)


@cited("net/ipv4/tcp.c:tcp_done")
def tcp_done(sk: Sock) -> None:
    """The connection is over; without an application the socket is destroyed."""
    from refmodel.tcp.whole import fastopen, listen

    req = sk.fastopen_rsk
    if sk.sk_state in stream.CONNECTING:
        sk.net.count("TcpAttemptFails")
    tcp_set_state(sk, St.CLOSE)
    tcp_clear_xmit_timers(sk)
    if req is not None:
        fastopen.reqsk_fastopen_remove(sk, req, False)
    sk.sk_shutdown = SHUTDOWN_MASK
    if "SOCK_DEAD" not in sk.sk_flags:
        poll.sk_state_change(sk)
    else:
        listen.inet_csk_destroy_sock(sk)


def send_reset(sk: Sock, by: str) -> None:
    """Resets the peer, and says who decided it; source net/ipv4/tcp_output.c:tcp_send_active_reset."""
    from refmodel.tcp.whole import transmit

    sk.net.cause = by
    transmit.tcp_send_active_reset(sk)
    sk.net.cause = ""


@cited("net/ipv4/tcp.c:tcp_abort")
def tcp_abort(sk: Sock, err: int) -> int:
    """An administrator ends the connection with the error `err`: 0, or a negative errno."""
    from refmodel.tcp.whole import listen, rcv

    if sk.sk_state == St.CLOSE:
        return -errno.ENOENT
    stream.lock_sock(sk)
    if sk.sk_state == St.LISTEN:
        tcp_set_state(sk, St.CLOSE)
        listen.inet_csk_listen_stop(sk)
    if sk.sk_state in NEED_RESET:
        send_reset(sk, "tcp_abort")
    rcv.tcp_done_with_error(sk, err)
    stream.release_sock(sk)
    return 0


# ---------------------------------------------------------------- close


def orphans(net: "Net") -> int:
    """Connections without an application, as counted every 100 ms; source net/ipv4/tcp.c:tcp_orphan_update."""
    period = net.now // 100_000
    if period != net.orphan_period:
        net.orphan_period = period
        net.orphan_cache = max(net.orphan_count, 0)
    return net.orphan_cache


@cited("net/ipv4/tcp.c:tcp_check_oom", "net/ipv4/tcp.c:tcp_too_many_orphans")
def tcp_check_oom(sk: Sock, shift: int) -> bool:
    """There are too many connections without an application."""
    return orphans(sk.net) << shift > sk.net.p.tcp_max_orphans


@cited("net/ipv4/tcp.c:tcp_write_queue_purge", "net/ipv4/tcp.c:tcp_rtx_queue_purge")
def tcp_write_queue_purge(sk: Sock) -> None:
    """Forgets all that was to be sent or acknowledged."""
    from refmodel.tcp.whole import output

    output.tcp_chrono_stop(sk, TCP_CHRONO_BUSY)
    while (skb := sk.sk_write_queue.pop()) is not None:
        tcp_wmem_free_skb(sk, skb)
    sk.highest_sack = None
    while (skb := sk.tcp_rtx_queue.pop()) is not None:
        tcp_wmem_free_skb(sk, skb)
    sk.tsorted_sent_queue = SentQueue()
    tcp_clear_all_retrans_hints(sk)
    sk.packets_out = 0
    sk.icsk_backoff = 0


def purge_receive_queue(sk: Sock) -> None:
    """Frees what the application hasn't read; source net/core/skbuff.c:__skb_queue_purge."""
    from refmodel.tcp.whole import recvmsg

    while sk.sk_receive_queue.head is not None:
        recvmsg.tcp_eat_recv_skb(sk, sk.sk_receive_queue.head)


@cited("net/ipv4/tcp.c:__tcp_close", "RFC 9293 3.10.4", "RFC 2525 2.17")
def __tcp_close(sk: Sock, timeout: int) -> Generator[Wait, bool, None]:
    """The application lets go; lingering it waits for up to `timeout` jiffies until its data are acknowledged."""
    from refmodel.tcp.whole import fastopen, listen, minisocks, output, recvmsg, timer

    net = sk.net
    sk.sk_shutdown = SHUTDOWN_MASK
    if sk.sk_state == St.LISTEN:
        tcp_set_state(sk, St.CLOSE)
        listen.inet_csk_listen_stop(sk)
    else:
        data_was_unread = False
        while (skb := sk.sk_receive_queue.head) is not None:
            end_seq = (skb.end_seq - 1) & M32 if skb.tcp_flags & FIN else skb.end_seq
            if after(end_seq, sk.copied_seq):
                data_was_unread = True
            recvmsg.tcp_eat_recv_skb(sk, skb)
        if sk.sk_state != St.CLOSE:
            if sk.repair:
                tcp_disconnect(sk, 0)
            elif data_was_unread:
                net.count("TcpExtTCPAbortOnClose")
                net.note("tcp_close", "data were unread: reset")
                tcp_set_state(sk, St.CLOSE)
                send_reset(sk, "tcp_close")
            elif "SOCK_LINGER" in sk.sk_flags and not sk.sk_lingertime:
                tcp_disconnect(sk, 0)
                net.count("TcpExtTCPAbortOnData")
            elif tcp_close_state(sk):
                output.tcp_send_fin(sk)
            yield from stream.sk_stream_wait_close(sk, timeout)
    state = sk.sk_state
    sock_orphan(sk)
    stream.flush_backlog(sk)
    orphans(net)
    net.orphan_count += 1
    if state != St.CLOSE and sk.sk_state == St.CLOSE:
        return
    if sk.sk_state == St.FIN_WAIT2:
        if sk.linger2 < 0:
            tcp_set_state(sk, St.CLOSE)
            send_reset(sk, "tcp_close")
            net.count("TcpExtTCPAbortOnLinger")
        else:
            tmo = timer.tcp_fin_time(sk)
            if tmo > 60 * net.hz:
                sk.sk_timer.mod(net.jiffies + tmo - 60 * net.hz)
            else:
                minisocks.tcp_time_wait(sk, St.FIN_WAIT2, tmo)
                return
    if sk.sk_state != St.CLOSE and tcp_check_oom(sk, 0):
        tcp_set_state(sk, St.CLOSE)
        send_reset(sk, "tcp_close")
        net.count("TcpExtTCPAbortOnMemory")
    if sk.sk_state == St.CLOSE:
        if sk.fastopen_rsk is not None:
            fastopen.reqsk_fastopen_remove(sk, sk.fastopen_rsk, False)
        listen.inet_csk_destroy_sock(sk)


@cited("net/ipv4/tcp.c:tcp_close", "net/ipv4/af_inet.c:inet_release")
def tcp_close(sk: Sock, timeout: int) -> Generator[Wait, bool, None]:
    """The last descriptor of the socket is closed."""
    stream.lock_sock(sk)
    yield from __tcp_close(sk, timeout)
    stream.release_sock(sk)


def sock_orphan(sk: Sock) -> None:
    """The connection has no application any more; source include/net/sock.h:sock_orphan."""
    sk.sk_flags.add("SOCK_DEAD")
    sk.has_socket = False
    sk.sk_wq = []


@cited("net/ipv4/tcp.c:tcp_disconnect", "RFC 9293 3.10.5")
def tcp_disconnect(sk: Sock, flags: int) -> int:
    """Ends the connection at once and makes the socket as new; a peer that may expect more is reset."""
    from refmodel.tcp.whole import bind, ca, fastopen, listen, undo

    net = sk.net
    old_state = sk.sk_state
    if old_state != St.CLOSE:
        tcp_set_state(sk, St.CLOSE)
    if old_state == St.LISTEN:
        listen.inet_csk_listen_stop(sk)
    elif sk.repair:
        sk.sk_err = errno.ECONNABORTED
    elif old_state in NEED_RESET or (sk.snd_nxt != sk.write_seq and old_state in (St.CLOSING, St.LAST_ACK)):
        send_reset(sk, "tcp_disconnect")
        sk.sk_err = errno.ECONNRESET
    elif old_state == St.SYN_SENT:
        sk.sk_err = errno.ECONNRESET
    tcp_clear_xmit_timers(sk)
    purge_receive_queue(sk)
    sk.copied_seq = sk.rcv_nxt
    sk.urg_data = 0
    sk.sk_peek_off = -1
    tcp_write_queue_purge(sk)
    fastopen.tcp_fastopen_active_disable_ofo_check(sk)
    skb_rbtree_purge(sk)
    sk.inet_dport = 0
    bind.inet_bhash2_reset_saddr(sk)
    sk.sk_shutdown = 0
    sk.sk_flags.discard("SOCK_DONE")
    sk.srtt_us = 0
    sk.mdev_us = net.jiffies_to_usecs(net.hz)
    sk.rcv_rtt_last_tsecr = 0
    sk.write_seq = ((sk.write_seq + sk.max_window + 2) & M32) or 1
    sk.icsk_backoff = 0
    sk.icsk_probes_out = 0
    sk.icsk_probes_tstamp = 0
    sk.icsk_rto = net.hz
    sk.icsk_rto_min = net.hz // 5
    sk.icsk_delack_max = net.hz // 5
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    sk.snd_cwnd = TCP_INIT_CWND
    sk.snd_cwnd_cnt = 0
    sk.is_cwnd_limited = False
    sk.max_packets_out = 0
    sk.window_clamp = 0
    sk.delivered = 0
    sk.delivered_ce = 0
    accecn.disconnect(sk)
    if sk.icsk_ca_ops.release is not None:
        sk.icsk_ca_ops.release(sk)
    sk.icsk_ca_priv = None
    sk.icsk_ca_initialized = False
    ca.tcp_set_ca_state(sk, CA.Open)
    sk.is_sack_reneg = False
    undo.tcp_clear_retrans(sk)
    sk.total_retrans = 0
    sk.icsk_ack = IcskAck()
    sk.icsk_ack.rcv_mss = TCP_MIN_MSS
    sk.rx_opt = RxOpt()
    sk.sk_dst = None
    sk.saved_syn = None
    sk.compressed_ack = 0
    sk.segs_in = sk.segs_out = 0
    sk.bytes_sent = sk.bytes_acked = sk.bytes_received = sk.bytes_retrans = 0
    sk.data_segs_in = sk.data_segs_out = 0
    sk.duplicate_sack[0].start_seq = sk.duplicate_sack[0].end_seq = 0
    sk.dsack_dups = 0
    sk.reord_seen = 0
    sk.retrans_out = 0
    sk.sacked_out = 0
    sk.tlp_high_seq = 0
    sk.last_oow_ack_time = 0
    sk.app_limited = M32
    sk.rate_app_limited = True
    sk.rack.mstamp = 0
    sk.rack.advanced = False
    sk.rack.reo_wnd_steps = 1
    sk.rack.last_delivered = 0
    sk.rack.reo_wnd_persist = 0
    sk.rack.dsack_seen = False
    sk.syn_data_acked = False
    sk.syn_fastopen_child = False
    sk.rcv_ooopack = 0
    if sk.fastopen_rsk is not None:
        fastopen.reqsk_fastopen_remove(sk, sk.fastopen_rsk, False)
    sk.fastopen_req = None
    sk.defer_connect = False
    sk.fastopen_client_fail = 0
    poll.sk_error_report(sk)
    return 0


def skb_rbtree_purge(sk: Sock) -> None:
    """Forgets what came out of order; source net/core/skbuff.c:skb_rbtree_purge."""
    while (skb := sk.out_of_order_queue.pop()) is not None:
        sk.sk_rmem_alloc -= skb.truesize
        sk_mem_uncharge(sk, skb.truesize)
    sk.ooo_last_skb = None
