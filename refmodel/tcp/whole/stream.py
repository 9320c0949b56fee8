"""Waiting for a stream: net/core/stream.c and the parts of net/core/sock.c that a system call goes through.

The law: an application holds a socket while its call runs, and lets it go before it sleeps. What arrives while it is
held stands in the backlog and is processed as it is let go.
"""

import errno
from collections.abc import Callable, Generator
from typing import Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import poll
from refmodel.tcp.whole.const import SEND_SHUTDOWN
from refmodel.tcp.whole.net import Net, Wait
from refmodel.tcp.whole.poll import (
    MAX_SCHEDULE_TIMEOUT,
    Blocking,
    WaitEntry,
    add_wait_queue,
    remove_wait_queue,
    sk_stream_memory_free,
    wait_woken,
)
from refmodel.tcp.whole.skb import Skb
from refmodel.tcp.whole.sock import InetSock, Sock

WaitEvent = Generator[Wait, bool, tuple[int, int]]

CONNECTING: Final = (St.SYN_SENT, St.SYN_RECV)
OPEN: Final = (St.ESTABLISHED, St.CLOSE_WAIT)
CLOSING: Final = (St.FIN_WAIT1, St.CLOSING, St.LAST_ACK)


def lock_sock(sk: InetSock) -> None:
    """The application holds the socket; source net/core/sock.c:lock_sock_nested."""
    sk.sk_owned = True


@cited("net/core/sock.c:__release_sock")
def __release_sock(sk: InetSock) -> None:
    """Processes what arrived while the socket was held."""
    while sk.sk_backlog:
        sk.backlog_rcv(sk.sk_backlog.popleft())


@cited("net/core/sock.c:release_sock")
def release_sock(sk: InetSock) -> None:
    """Lets the socket go: the backlog first, then what timers and the device left to do."""
    if sk.sk_backlog:
        __release_sock(sk)
    if sk.sk_tsq_flags:
        sk.release_cb()
    sk.sk_owned = False


def flush_backlog(sk: Sock) -> bool:
    """Processes the backlog without letting the socket go; source include/net/sock.h:sk_flush_backlog."""
    if not sk.sk_backlog:
        return False
    __release_sock(sk)
    return True


def _jiffies(net: Net, us: int) -> int:
    return MAX_SCHEDULE_TIMEOUT if us < 0 else net.usecs_to_jiffies(us)


def sock_rcvtimeo(sk: InetSock, noblock: bool) -> int:
    """How long a read may block (jiffies); source include/net/sock.h:sock_rcvtimeo."""
    return 0 if noblock else _jiffies(sk.net, sk.sk_rcvtimeo)


def sock_sndtimeo(sk: InetSock, noblock: bool) -> int:
    """How long a write or connect may block (jiffies); source include/net/sock.h:sock_sndtimeo."""
    return 0 if noblock else _jiffies(sk.net, sk.sk_sndtimeo)


def sock_lingertime(sk: InetSock) -> int:
    """How long a close may block (jiffies); source include/net/sock.h:sk_lingertime."""
    return _jiffies(sk.net, sk.sk_lingertime)


def sock_error(sk: InetSock) -> int:
    """Takes the pending error, as a negative number; source include/net/sock.h:sock_error."""
    err = sk.sk_err
    sk.sk_err = 0
    return -err


@cited("include/net/sock.h:sk_wait_event")
def sk_wait_event(sk: Sock, timeo: int, condition: Callable[[], bool], wait: WaitEntry) -> WaitEvent:
    """Lets the socket go and sleeps until woken: (1 if the condition holds then, EPIPE if disconnected), time left."""
    dis = sk.sk_disconnects
    release_sock(sk)
    if not condition():
        timeo = yield from wait_woken(sk.net, wait, timeo)
    lock_sock(sk)
    return int(condition()) if dis == sk.sk_disconnects else -errno.EPIPE, timeo


@cited("net/core/sock.c:sk_wait_data")
def sk_wait_data(sk: Sock, timeo: int, skb: Skb | None) -> WaitEvent:
    """Sleeps until the receive queue ends in another skb than `skb`."""
    wait = WaitEntry()
    wq = sk.sk_wq
    add_wait_queue(wq, wait)
    rc, timeo = yield from sk_wait_event(sk, timeo, lambda: sk.sk_receive_queue.tail is not skb, wait)
    remove_wait_queue(wq, wait)
    return rc, timeo


@cited("net/core/stream.c:sk_stream_wait_connect")
def sk_stream_wait_connect(sk: Sock, timeo: int) -> WaitEvent:
    """Sleeps until the connection stands; (0 or a negative errno, time left)."""
    while True:
        err = sock_error(sk)
        if err:
            return err, timeo
        if sk.sk_state not in CONNECTING:
            return -errno.EPIPE, timeo
        if not timeo:
            return -errno.EAGAIN, timeo
        wait = WaitEntry()
        wq = sk.sk_wq
        add_wait_queue(wq, wait)
        sk.sk_write_pending += 1
        done, timeo = yield from sk_wait_event(sk, timeo, lambda: not sk.sk_err and sk.sk_state in OPEN, wait)
        remove_wait_queue(wq, wait)
        sk.sk_write_pending -= 1
        if done:
            return min(done, 0), timeo


@cited("net/core/stream.c:sk_stream_wait_close")
def sk_stream_wait_close(sk: Sock, timeout: int) -> Generator[Wait, bool, None]:
    """Sleeps until the peer acknowledged the FIN, `timeout` jiffies at most."""
    if not timeout:
        return
    wait = WaitEntry()
    wq = sk.sk_wq
    add_wait_queue(wq, wait)
    while True:
        rc, timeout = yield from sk_wait_event(sk, timeout, lambda: sk.sk_state not in CLOSING, wait)
        if rc or not timeout:
            break
    remove_wait_queue(wq, wait)


@cited("net/core/stream.c:sk_stream_wait_memory")
def sk_stream_wait_memory(sk: Sock, timeo: int) -> WaitEvent:
    """Sleeps until the send buffer has room again: (0 or a negative errno, time left).

    Room that came while the caller pushed (TCP_NOTSENT_LOWAT) is taken for a lack of memory: Linux then sleeps for a
    random time of up to 200 ms and two ticks, unless it is woken.
    """
    wait = WaitEntry()
    wq = sk.sk_wq
    add_wait_queue(wq, wait)
    current_timeo = timeo
    vm_wait = 0
    if sk_stream_memory_free(sk):
        current_timeo = vm_wait = sk.net.random() % (sk.net.hz // 5) + 2
    try:
        while True:
            if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
                return -errno.EPIPE, timeo
            if not timeo:
                sk.sk_nospace = True
                return -errno.EAGAIN, timeo
            if sk_stream_memory_free(sk) and not vm_wait:
                return 0, timeo
            sk.sk_nospace = True
            sk.sk_write_pending += 1
            slept_for_memory = bool(vm_wait)
            ret, current_timeo = yield from sk_wait_event(
                sk,
                current_timeo,
                lambda m=slept_for_memory: bool(  # type: ignore[misc]
                    sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN or (sk_stream_memory_free(sk) and not m)
                ),
                wait,
            )
            sk.sk_write_pending -= 1
            if ret < 0:
                return -errno.EPIPE, timeo
            if vm_wait:
                vm_wait -= current_timeo
                current_timeo = timeo
                if current_timeo != MAX_SCHEDULE_TIMEOUT:
                    current_timeo = max(0, current_timeo - vm_wait)
                vm_wait = 0
            timeo = current_timeo
    finally:
        remove_wait_queue(wq, wait)


@cited("net/core/stream.c:sk_stream_error")
def sk_stream_error(sk: Sock, flags: int, err: int) -> int:
    """A broken stream gives the pending error if there is one; the process ignores SIGPIPE."""
    if err == -errno.EPIPE:
        err = sock_error(sk) or -errno.EPIPE
    return err


__all__ = [
    "Blocking",
    "flush_backlog",
    "lock_sock",
    "poll",
    "release_sock",
    "sk_stream_error",
    "sk_stream_wait_close",
    "sk_stream_wait_connect",
    "sk_stream_wait_memory",
    "sk_wait_data",
    "sk_wait_event",
    "sock_error",
    "sock_lingertime",
    "sock_rcvtimeo",
    "sock_sndtimeo",
]
