"""Readiness: what a descriptor may do now, who sleeps until it may do more, and who is woken.

The law: a sleeper is an entry in a wait queue. An event wakes entries with a mask; an entry's function decides whether
the event concerns it. Exclusive entries stand last, and only the first of them that takes an event is woken. A woken
sleeper looks again at what it waits for: to be woken is not to be served.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, ClassVar, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole.const import RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK
from refmodel.tcp.whole.net import Net, Wait
from refmodel.tcp.whole.sock import InetSock, Sock
from refmodel.tcp.whole.tcp_h import tcp_receive_window
from refmodel.types import M32

if TYPE_CHECKING:
    from refmodel.tcp.whole.calls import Process

EPOLLIN: Final = 0x001
EPOLLPRI: Final = 0x002
EPOLLOUT: Final = 0x004
EPOLLERR: Final = 0x008
EPOLLHUP: Final = 0x010
EPOLLNVAL: Final = 0x020
EPOLLRDNORM: Final = 0x040
EPOLLRDBAND: Final = 0x080
EPOLLWRNORM: Final = 0x100
EPOLLWRBAND: Final = 0x200
EPOLLMSG: Final = 0x400
EPOLLRDHUP: Final = 0x2000
DEFAULT_POLLMASK: Final = EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM

TCP_URG_VALID: Final = 0x0100
TCP_URG_NOTYET: Final = 0x0200
TCP_URG_READ: Final = 0x0400

MAX_SCHEDULE_TIMEOUT: Final = 1 << 62  # jiffies: for ever
O_NONBLOCK: Final = 0o4000
O_CLOEXEC: Final = 0o2000000
O_RDWR: Final = 2

Blocking = Generator[Wait, bool, int]


class WaitEntry:
    """struct wait_queue_entry: `func(entry, key)` says whether it took the event. `woken` is WQ_FLAG_WOKEN."""

    __slots__ = ("exclusive", "func", "owner", "woken")

    def __init__(
        self, func: "Callable[[WaitEntry, int], bool] | None" = None, owner: Any = None, exclusive: bool = False
    ) -> None:
        self.func = func
        self.owner = owner
        self.exclusive = exclusive
        self.woken = False


def add_wait_queue(wq: list[WaitEntry], entry: WaitEntry) -> None:
    """Joins a wait queue, newest first, exclusive entries last; source kernel/sched/wait.c:add_wait_queue."""
    if entry.exclusive:
        wq.append(entry)
    else:
        wq.insert(0, entry)


def remove_wait_queue(wq: list[WaitEntry], entry: WaitEntry) -> None:
    """Leaves a wait queue; source kernel/sched/wait.c:remove_wait_queue."""
    if entry in wq:
        wq.remove(entry)


@cited("kernel/sched/wait.c:__wake_up_common")
def wake_up(wq: list[WaitEntry], key: int = 0, nr_exclusive: int = 1) -> None:
    """Tells every entry of the event `key` (0: none in particular), and of exclusive ones `nr_exclusive` (0: all)."""
    for entry in tuple(wq):
        if entry.func is None:
            taken = entry.woken = True
        else:
            taken = entry.func(entry, key)
        if taken and entry.exclusive:
            nr_exclusive -= 1
            if nr_exclusive == 0:
                return


@cited("kernel/sched/wait.c:wait_woken", "kernel/time/timer.c:schedule_timeout")
def wait_woken(net: Net, entry: WaitEntry, timeo: int) -> Blocking:
    """Sleeps until the entry is woken or `timeo` jiffies are over; returns what is left of them."""
    if not entry.woken:
        if timeo >= MAX_SCHEDULE_TIMEOUT:
            yield Wait(lambda: entry.woken, None)
        else:
            expire = net.jiffies + timeo
            yield Wait(lambda: entry.woken, net.jiffies_to_usecs(timeo))
            timeo = max(0, expire - net.jiffies)
    entry.woken = False
    return timeo


# ---------------------------------------------------------------- what TCP tells who waits (net/core/sock.c, stream.c)


@cited("net/core/sock.c:sock_def_readable")
def sk_data_ready(sk: InetSock) -> None:
    """Data, a connection or the end of the stream is there."""
    if sk.sk_wq:
        wake_up(sk.sk_wq, EPOLLIN | EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND)


@cited("net/core/stream.c:sk_stream_write_space")
def sk_write_space(sk: Sock) -> None:
    """Room came into the send buffer; who waits is told only once a third of it is free."""
    if sk.has_socket and __sk_stream_is_writeable(sk, 1):
        sk.sk_nospace = False
        if sk.sk_wq:
            wake_up(sk.sk_wq, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)


@cited("net/core/sock.c:sock_def_error_report")
def sk_error_report(sk: InetSock) -> None:
    """An error is pending, or a message in the error queue."""
    if sk.sk_wq:
        wake_up(sk.sk_wq, EPOLLERR)


@cited("net/core/sock.c:sock_def_wakeup")
def sk_state_change(sk: InetSock) -> None:
    """The connection's state changed: everyone looks again."""
    if sk.sk_wq:
        wake_up(sk.sk_wq, 0, 0)


# ---------------------------------------------------------------- what a socket may do now


@cited("net/ipv4/tcp_ipv4.c:tcp_stream_memory_free")
def tcp_stream_memory_free(sk: Sock, wake: int) -> bool:
    """The unsent bytes are below TCP_NOTSENT_LOWAT, below half of it for a wake-up."""
    notsent_bytes = (sk.write_seq - sk.snd_nxt) & M32
    return ((notsent_bytes << wake) & M32) < (sk.notsent_lowat or sk.net.p.tcp_notsent_lowat)


def sk_stream_memory_free(sk: Sock, wake: int = 0) -> bool:
    """Another skb may be queued; source include/net/sock.h:__sk_stream_memory_free."""
    return sk.sk_wmem_queued < sk.sk_sndbuf and tcp_stream_memory_free(sk, wake)


def __sk_stream_is_writeable(sk: Sock, wake: int) -> bool:
    return sk.sk_sndbuf - sk.sk_wmem_queued >= sk.sk_wmem_queued >> 1 and sk_stream_memory_free(sk, wake)


def sk_stream_is_writeable(sk: Sock, wake: int = 0) -> bool:
    """A third of the send buffer is free; source include/net/sock.h:__sk_stream_is_writeable."""
    return __sk_stream_is_writeable(sk, wake)


def tcp_rmem_pressure(sk: Sock) -> bool:
    """Seven eighths of the receive buffer are taken; source include/net/tcp.h:tcp_rmem_pressure."""
    rcvbuf = sk.sk_rcvbuf
    return sk.sk_rmem_alloc > rcvbuf - (rcvbuf >> 3)


@cited("include/net/tcp.h:tcp_epollin_ready")
def tcp_epollin_ready(sk: Sock, target: int) -> bool:
    """`target` bytes are there to read, or fewer if no more will fit."""
    avail = (sk.rcv_nxt - sk.copied_seq) & M32
    if avail == 0 or avail > 0x7FFFFFFF:
        return False
    return avail >= target or tcp_rmem_pressure(sk) or tcp_receive_window(sk) <= sk.icsk_ack.rcv_mss


def sock_rcvlowat(sk: Sock, waitall: bool, len: int) -> int:
    """How many bytes a read waits for; source include/net/sock.h:sock_rcvlowat."""
    return (len if waitall else min(sk.sk_rcvlowat, len)) or 1


@cited("net/ipv4/tcp.c:tcp_poll")
def tcp_poll(sk: Sock) -> int:
    """The events that a socket has now; asking for room that isn't there makes TCP tell when it comes."""
    state = sk.sk_state
    if state == St.LISTEN:
        return EPOLLIN | EPOLLRDNORM if sk.accept_queue else 0
    mask = 0
    shutdown = sk.sk_shutdown
    if shutdown == SHUTDOWN_MASK or state == St.CLOSE:
        mask |= EPOLLHUP
    if shutdown & RCV_SHUTDOWN:
        mask |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP
    if state != St.SYN_SENT and (state != St.SYN_RECV or sk.fastopen_rsk is not None):
        target = sk.sk_rcvlowat or 1
        if sk.urg_data and sk.urg_seq == sk.copied_seq and "SOCK_URGINLINE" not in sk.sk_flags:
            target += 1
        if tcp_epollin_ready(sk, target):
            mask |= EPOLLIN | EPOLLRDNORM
        if shutdown & SEND_SHUTDOWN or __sk_stream_is_writeable(sk, 1):
            mask |= EPOLLOUT | EPOLLWRNORM
        else:
            sk.sk_nospace = True
        if sk.urg_data & TCP_URG_VALID:
            mask |= EPOLLPRI
    elif state == St.SYN_SENT and sk.defer_connect:
        mask |= EPOLLOUT | EPOLLWRNORM
    if sk.sk_err or sk.sk_error_queue:
        mask |= EPOLLERR
    return mask


# ---------------------------------------------------------------- descriptors


class File:
    """struct file: anything that a descriptor names.

    `f_count` counts the descriptors and running calls that hold it; at zero it is released. A kind of file overrides
    what it can do; calls are generators, so that they may block, and return a result or a negative errno.
    """

    can_poll: ClassVar[bool] = True

    def __init__(self, flags: int = 0) -> None:
        self.flags = flags  # O_*
        self.f_count = 1
        self.f_ep: list[Any] = []  # refmodel.tcp.whole.epoll.Epitem of every epoll that watches it
        self.wq: list[WaitEntry] = []

    def wait_queue(self) -> list[WaitEntry]:
        """Who waits for its events."""
        return self.wq

    def poll(self) -> int:
        """Its events now."""
        return DEFAULT_POLLMASK

    def read(self, proc: "Process", n: int) -> Blocking:
        """read(2) of `n` bytes."""
        return -22
        yield

    def write(self, proc: "Process", n: int) -> Blocking:
        """write(2) of `n` bytes."""
        return -22
        yield

    def release(self, proc: "Process") -> Blocking:
        """The last descriptor is gone."""
        return 0
        yield


def _pollwake(entry: WaitEntry, key: int) -> bool:
    wanted, table = entry.owner
    if key and not key & wanted:
        return False
    table[0] = True
    return True


@cited("fs/select.c:do_poll", "fs/select.c:do_sys_poll")
def do_poll(
    proc: "Process", fds: list[tuple[int, int]], timeout_ms: int
) -> Generator[Wait, bool, tuple[int, list[int]]]:
    """Waits until one of the descriptors has an event that is asked for; a negative time-out is for ever (ms)."""
    net = proc.net
    triggered = [False]
    joined: list[tuple[list[WaitEntry], WaitEntry]] = []
    register = timeout_ms != 0
    timed_out = timeout_ms == 0
    expires = net.now + timeout_ms * 1000
    files = {fd: file for fd, _ in fds if (file := proc.fds.get(fd)) is not None}
    try:
        while True:
            revents: list[int] = []
            count = 0
            for fd, events in fds:
                mask = 0
                if fd >= 0:
                    file = files.get(fd)
                    if file is None:
                        mask = EPOLLNVAL
                    else:
                        wanted = (events & 0xFFFF) | EPOLLERR | EPOLLHUP
                        if register and file.can_poll:
                            wq = file.wait_queue()
                            entry = WaitEntry(_pollwake, (wanted, triggered))
                            add_wait_queue(wq, entry)
                            joined.append((wq, entry))
                        mask = file.poll() & wanted
                if mask:
                    count += 1
                    register = False
                revents.append(mask)
            register = False
            if count or timed_out:
                return count, revents
            if not triggered[0]:
                left = None if timeout_ms < 0 else max(0, expires - net.now)
                timed_out = not (yield Wait(lambda: triggered[0], left, hr=True))
            triggered[0] = False
    finally:
        for wq, entry in joined:
            remove_wait_queue(wq, entry)
