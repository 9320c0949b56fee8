"""System calls: a process, its descriptors, its calls that run or sleep (net/socket.c).

The law: a call runs until it returns or sleeps. A sleeping call goes on when it is woken or when its time is over, and
only when the driver settles the process: after a packet, a timer or another call has run to its end. A call that does
not sleep takes no time. The process ignores SIGPIPE, and is the superuser's.
"""

import errno
from collections.abc import Generator, Iterable
from typing import Any, Final

from refmodel.rule import cited
from refmodel.tcp.whole import capability, epoll, errqueue, poll
from refmodel.tcp.whole.net import Net, Timer, Wait
from refmodel.tcp.whole.poll import O_CLOEXEC, O_NONBLOCK, Blocking, File
from refmodel.tcp.whole.skb import MsgHdr, SockAddr
from refmodel.tcp.whole.sockfile import SocketFile, StreamFile, __sock_sendmsg, sock_create, sock_recvmsg

MSG_DONTWAIT: Final = 0x40
MSG_CMSG_CLOEXEC: Final = 0x40000000
MSG_INTERNAL_SENDMSG_FLAGS: Final = 0x8000000 | 0x10000 | 0x100000
SOCK_TYPE_MASK: Final = 0xF
MAX_RW_COUNT: Final = 0x7FFFF000
UIO_MAXIOV: Final = 1024
INT_MAX: Final = 0x7FFFFFFF
NOFILE: Final = 1024  # RLIMIT_NOFILE


class Ret:
    """What a call returns: `value` (negative: an errno), and `data` that it filled in."""

    __slots__ = ("data", "value")

    def __init__(self, value: int, data: Any = None) -> None:
        self.value = value
        self.data = data

    def __repr__(self) -> str:
        return f"Ret({self.value}, {self.data!r})" if self.data is not None else f"Ret({self.value})"


Call = Generator[Wait, bool, Ret]


class Msg:
    """What recvmsg fills in: msg_flags, the peer's name, control messages as (level, type, data)."""

    __slots__ = ("cmsgs", "flags", "name")

    def __init__(self, flags: int, name: Any, cmsgs: tuple[tuple[int, int, bytes], ...]) -> None:
        self.flags = flags
        self.name = name
        self.cmsgs = cmsgs


class Task:
    """A call that runs or sleeps: `ret` once it is `done`, and when it `returned` (us)."""

    __slots__ = ("called", "done", "expired", "gen", "ret", "returned", "timer", "wait")

    def __init__(self, gen: Call, net: Net) -> None:
        self.gen = gen
        self.done = False
        self.ret = UNDONE
        self.called = net.now
        self.returned = 0
        self.wait: Wait | None = None
        self.expired = False
        self.timer: Timer | None = None


UNDONE: Final = Ret(0)


def _expire(task: Task) -> None:
    task.expired = True


class Process:
    """A process: its descriptor table, its time, and its calls that sleep."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.fds: dict[int, File] = {}
        self.blocked: list[Task] = []
        self.files: dict[str, int] = {}  # ordinary files: their lengths by path
        self.cred = capability.Cred()
        self.exiting = False

    # Descriptors

    def install(self, file: File, lowest: int = 3) -> int:
        """The lowest free number for `file`, or -EMFILE."""
        fd = lowest
        while fd in self.fds:
            fd += 1
        if fd >= NOFILE:
            return -errno.EMFILE
        self.fds[fd] = file
        return fd

    def fdget(self, fd: int) -> File | None:
        """The file of a descriptor, held until `fput`; source fs/file.c:fdget."""
        file = self.fds.get(fd)
        if file is not None:
            file.f_count += 1
        return file

    def fput(self, file: File) -> Blocking:
        """Lets go of a file; the last holder releases it; source fs/file_table.c:fput."""
        file.f_count -= 1
        if file.f_count == 0:
            if file.f_ep:
                epoll.eventpoll_release_file(file)
            return (yield from file.release(self))
        return 0

    # Calls

    def start(self, gen: Call) -> Task:
        """Runs a call until it returns or sleeps."""
        task = Task(gen, self.net)
        self._go_on(task, None)
        if not task.done:
            self.blocked.append(task)
        return task

    def _go_on(self, task: Task, held: bool | None) -> None:
        if task.timer is not None:
            task.timer.stop()
            task.timer = None
        task.expired = False
        before, self.net.current = self.net.current, self.cred
        try:
            wait = task.gen.send(held)  # type: ignore[arg-type]
        except StopIteration as e:
            task.done = True
            task.wait = None
            task.ret = e.value
            task.returned = self.net.now
            return
        finally:
            self.net.current = before
        task.wait = wait
        if wait.timeout is not None:
            task.timer = Timer(self.net, "schedule_timeout", _expire, task)
            if wait.hr:
                task.timer.start_us(self.net.now + wait.timeout)
            else:
                task.timer.mod(self.net.jiffies + self.net.usecs_to_jiffies(wait.timeout))

    def settle(self) -> None:
        """Lets every sleeping call go on that was woken or whose time is over, until none can."""
        progress = bool(self.blocked)
        while progress:
            progress = False
            for task in tuple(self.blocked):
                if task.done:
                    continue
                assert task.wait is not None
                held = task.wait.ready()
                if held or task.expired:
                    self._go_on(task, held)
                    progress = True
                    if task.done:
                        self.blocked.remove(task)

    def exit(self) -> None:
        """Ends the process: every descriptor is closed, and no close lingers."""
        self.exiting = True
        for fd in sorted(self.fds):
            self.start(sys_close(self, fd))


def _socket(proc: Process, fd: int) -> SocketFile | int:
    """The socket of a descriptor, held; -EBADF or -ENOTSOCK."""
    file = proc.fds.get(fd)
    if file is None:
        return -errno.EBADF
    if not isinstance(file, SocketFile):
        return -errno.ENOTSOCK
    file.f_count += 1
    return file


def _done(proc: Process, file: File, value: int, data: Any = None) -> Call:
    """Lets go of the file, at the end of a call."""
    file.f_count -= 1
    if file.f_count == 0:
        file.f_count = 1
        yield from proc.fput(file)
    return Ret(value, data)


# ---------------------------------------------------------------- making and naming


@cited("net/socket.c:__sys_socket")
def sys_socket(proc: Process, domain: int, type: int, protocol: int) -> Call:
    """A new socket's descriptor."""
    flags = type & ~SOCK_TYPE_MASK
    if flags & ~(O_CLOEXEC | O_NONBLOCK):
        return Ret(-errno.EINVAL)
    file = sock_create(proc.net, domain, type & SOCK_TYPE_MASK, protocol, flags)
    return Ret(file if isinstance(file, int) else proc.install(file))
    yield


@cited("net/socket.c:__sys_bind")
def sys_bind(proc: Process, fd: int, addr: SockAddr) -> Call:
    """Gives a socket its local name."""
    file = _socket(proc, fd)
    if isinstance(file, int):
        return Ret(file)
    return (yield from _done(proc, file, file.bind(addr)))


@cited("net/socket.c:__sys_listen")
def sys_listen(proc: Process, fd: int, backlog: int) -> Call:
    """Makes a socket a listener."""
    file = _socket(proc, fd)
    if isinstance(file, int):
        return Ret(file)
    return (yield from _done(proc, file, file.listen(backlog)))


@cited("net/socket.c:__sys_accept4", "net/socket.c:do_accept")
def sys_accept(proc: Process, fd: int, flags: int = 0) -> Call:
    """The next connection's descriptor, with SOCK_NONBLOCK if `flags` say so; `data` is the peer's name."""
    file = proc.fds.get(fd)
    if file is None:
        return Ret(-errno.EBADF)
    if flags & ~(O_CLOEXEC | O_NONBLOCK):
        return Ret(-errno.EINVAL)
    if not isinstance(file, SocketFile):
        return Ret(-errno.ENOTSOCK)
    file.f_count += 1
    newfile = yield from file.accept(flags)
    if isinstance(newfile, int):
        return (yield from _done(proc, file, newfile))
    name = newfile.getname(2)
    if isinstance(name, int):
        yield from proc.fput(newfile)
        return (yield from _done(proc, file, -errno.ECONNABORTED))
    return (yield from _done(proc, file, proc.install(newfile), name))


@cited("net/socket.c:__sys_connect")
def sys_connect(proc: Process, fd: int, addr: SockAddr) -> Call:
    """Connects a socket, or disconnects it (AF_UNSPEC)."""
    file = _socket(proc, fd)
    if isinstance(file, int):
        return Ret(file)
    err = yield from file.connect(addr)
    return (yield from _done(proc, file, err))


@cited("net/socket.c:__sys_getsockname", "net/socket.c:__sys_getpeername")
def sys_getsockname(proc: Process, fd: int, peer: int = 0) -> Call:
    """A socket's name, or its peer's; `data` is the SockAddr."""
    file = _socket(proc, fd)
    if isinstance(file, int):
        return Ret(file)
    name = file.getname(peer)
    if isinstance(name, int):
        return (yield from _done(proc, file, name))
    return (yield from _done(proc, file, 0, name))


def sys_getpeername(proc: Process, fd: int) -> Call:
    """The peer's name; source net/socket.c:__sys_getpeername."""
    return sys_getsockname(proc, fd, 1)


@cited("net/socket.c:__sys_shutdown")
def sys_shutdown(proc: Process, fd: int, how: int) -> Call:
    """Ends one direction of a connection or both."""
    file = _socket(proc, fd)
    if isinstance(file, int):
        return Ret(file)
    return (yield from _done(proc, file, file.shutdown(how)))


@cited("fs/open.c:close", "fs/file_table.c:__fput")
def sys_close(proc: Process, fd: int) -> Call:
    """Frees a descriptor."""
    file = proc.fds.pop(fd, None)
    if file is None:
        return Ret(-errno.EBADF)
    yield from proc.fput(file)
    return Ret(0)


# ---------------------------------------------------------------- bytes


@cited("fs/read_write.c:vfs_read")
def sys_read(proc: Process, fd: int, n: int, fault: bool = False) -> Call:
    """read(2); `fault`: the buffer is no memory of the process."""
    if fault and n and isinstance(proc.fds.get(fd), SocketFile):
        return (yield from sys_recvfrom(proc, fd, n, 0, True))
    file = proc.fdget(fd)
    if file is None:
        return Ret(-errno.EBADF)
    value = yield from file.read(proc, min(n, MAX_RW_COUNT))
    return (yield from _done(proc, file, value))


@cited("fs/read_write.c:vfs_write")
def sys_write(proc: Process, fd: int, n: int, fault: bool = False) -> Call:
    """write(2); `fault`: the buffer is no memory of the process."""
    if fault and n and isinstance(proc.fds.get(fd), SocketFile):
        return (yield from sys_sendto(proc, fd, n, 0, None, True))
    file = proc.fdget(fd)
    if file is None:
        return Ret(-errno.EBADF)
    value = yield from file.write(proc, min(n, MAX_RW_COUNT))
    return (yield from _done(proc, file, value))


def _total(iov: Iterable[int], too_many: int) -> int:
    """The bytes of a vector, or a negative errno; source lib/iov_iter.c:import_iovec."""
    sizes = tuple(iov)
    if len(sizes) > UIO_MAXIOV:
        return too_many
    if any(size < 0 for size in sizes):
        return -errno.EINVAL
    return min(sum(sizes), MAX_RW_COUNT)


def sys_readv(proc: Process, fd: int, iov: Iterable[int]) -> Call:
    """readv(2); source fs/read_write.c:vfs_readv."""
    if fd not in proc.fds:
        return Ret(-errno.EBADF)
    n = _total(iov, -errno.EINVAL)
    return Ret(n) if n <= 0 else (yield from sys_read(proc, fd, n))


def sys_writev(proc: Process, fd: int, iov: Iterable[int]) -> Call:
    """writev(2); source fs/read_write.c:vfs_writev."""
    if fd not in proc.fds:
        return Ret(-errno.EBADF)
    n = _total(iov, -errno.EINVAL)
    return Ret(n) if n <= 0 else (yield from sys_write(proc, fd, n))


@cited("net/socket.c:__sys_sendto")
def sys_sendto(
    proc: Process, fd: int, n: int, flags: int = 0, addr: SockAddr | None = None, fault: bool = False
) -> Call:
    """sendto(2)."""
    file = _socket(proc, fd)
    if isinstance(file, int):
        return Ret(file)
    n = min(n, MAX_RW_COUNT)
    flags &= ~MSG_INTERNAL_SENDMSG_FLAGS
    if file.flags & O_NONBLOCK:
        flags |= MSG_DONTWAIT
    msg = MsgHdr(n, flags, addr)
    msg.fault = fault
    value = yield from __sock_sendmsg(file, msg, n)
    if file.f_count > 1:
        file.f_count -= 1
        return Ret(value)
    return (yield from _done(proc, file, value))


def sys_send(proc: Process, fd: int, n: int, flags: int = 0, fault: bool = False) -> Call:
    """send(2); source net/socket.c:__sys_sendto."""
    return sys_sendto(proc, fd, n, flags, None, fault)


@cited("net/socket.c:____sys_sendmsg")
def sys_sendmsg(
    proc: Process,
    fd: int,
    iov: Iterable[int],
    flags: int = 0,
    addr: SockAddr | None = None,
    cmsgs: tuple[tuple[int, int, bytes], ...] = (),
) -> Call:
    """sendmsg(2)."""
    file = _socket(proc, fd)
    if isinstance(file, int):
        return Ret(file)
    sizes = tuple(iov)
    n = _total(sizes, -errno.EMSGSIZE)
    if n < 0:
        return (yield from _done(proc, file, n))
    flags &= ~MSG_INTERNAL_SENDMSG_FLAGS
    if file.flags & O_NONBLOCK:
        flags |= MSG_DONTWAIT
    value = yield from __sock_sendmsg(file, MsgHdr(n, flags, addr, tuple(cmsgs), iov=sizes), n)
    return (yield from _done(proc, file, value))


@cited("net/socket.c:__sys_recvfrom")
def sys_recvfrom(proc: Process, fd: int, n: int, flags: int = 0, fault: bool = False) -> Call:
    """recvfrom(2)."""
    file = _socket(proc, fd)
    if isinstance(file, int):
        return Ret(file)
    if file.flags & O_NONBLOCK:
        flags |= MSG_DONTWAIT
    msg = errqueue.RecvMsg()
    value = yield from sock_recvmsg(file, msg, min(n, MAX_RW_COUNT), flags, fault)
    if file.f_count > 1:
        file.f_count -= 1
        return Ret(value, msg.msg_name)
    return (yield from _done(proc, file, value, msg.msg_name))


def sys_recv(proc: Process, fd: int, n: int, flags: int = 0, fault: bool = False) -> Call:
    """recv(2); source net/socket.c:__sys_recvfrom."""
    return sys_recvfrom(proc, fd, n, flags, fault)


@cited("net/socket.c:____sys_recvmsg")
def sys_recvmsg(proc: Process, fd: int, iov: Iterable[int], flags: int = 0, controllen: int = 0) -> Call:
    """recvmsg(2); `data` is a Msg."""
    file = _socket(proc, fd)
    if isinstance(file, int):
        return Ret(file)
    n = _total(iov, -errno.EMSGSIZE)
    if n < 0:
        return (yield from _done(proc, file, n))
    if file.flags & O_NONBLOCK:
        flags |= MSG_DONTWAIT
    msg = errqueue.RecvMsg(controllen, flags & MSG_CMSG_CLOEXEC)
    value = yield from sock_recvmsg(file, msg, n, flags)
    data = Msg(msg.msg_flags, msg.msg_name, tuple(msg.cmsgs)) if value >= 0 else None
    return (yield from _done(proc, file, value, data))


# ---------------------------------------------------------------- readiness


@cited("fs/select.c:poll")
def sys_poll(proc: Process, fds: list[tuple[int, int]], timeout_ms: int) -> Call:
    """poll(2); `data` are the events of each."""
    if len(fds) > NOFILE:
        return Ret(-errno.EINVAL)
    count, revents = yield from poll.do_poll(proc, fds, timeout_ms)
    return Ret(count, revents)


def sys_epoll_create(proc: Process, flags: int = 0) -> Call:
    """epoll_create1(2); source fs/eventpoll.c:do_epoll_create."""
    if flags & ~O_CLOEXEC:
        return Ret(-errno.EINVAL)
    return Ret(proc.install(epoll.EventPoll(proc)))
    yield


def sys_epoll_ctl(proc: Process, epfd: int, op: int, fd: int, events: int = 0, data: int = 0) -> Call:
    """epoll_ctl(2); source fs/eventpoll.c:do_epoll_ctl."""
    return Ret(epoll.do_epoll_ctl(proc, epfd, op, fd, events, data))
    yield


def sys_epoll_wait(proc: Process, epfd: int, maxevents: int, timeout_ms: int) -> Call:
    """epoll_wait(2); `data` are (events, data) of each; source fs/eventpoll.c:do_epoll_wait."""
    if maxevents <= 0 or maxevents > INT_MAX // 12:
        return Ret(-errno.EINVAL)
    file = proc.fdget(epfd)
    if file is None:
        return Ret(-errno.EBADF)
    if not isinstance(file, epoll.EventPoll):
        return (yield from _done(proc, file, -errno.EINVAL))
    events = yield from epoll.ep_poll(file, maxevents, timeout_ms)
    return (yield from _done(proc, file, len(events), events))


# ---------------------------------------------------------------- capabilities


@cited("kernel/capability.c:sys_capset")
def sys_cap_set(proc: Process, which: int, cap: int, op: int) -> Call:
    """Sets or clears one capability in one of the process's sets, as libcap's cap_set_flag and cap_set_proc do."""
    cred = proc.cred
    sets = [cred.cap_effective, cred.cap_permitted, cred.cap_inheritable]
    if not 0 <= which < len(sets) or cap not in capability.ALL or op not in (capability.CAP_CLEAR, capability.CAP_SET):
        return Ret(-errno.EINVAL)
    sets[which] = sets[which] | {cap} if op == capability.CAP_SET else sets[which] - {cap}
    return Ret(capability.cap_capset(cred, sets[0], sets[2], sets[1]))
    yield


# ---------------------------------------------------------------- options and other files


def sys_getsockopt(proc: Process, fd: int, level: int, name: int, optlen: int) -> Call:
    """getsockopt(2); `data` are the bytes."""
    from refmodel.tcp.whole import sockopt

    return sockopt.sys_getsockopt(proc, fd, level, name, optlen)


def sys_setsockopt(proc: Process, fd: int, level: int, name: int, value: bytes) -> Call:
    """setsockopt(2)."""
    from refmodel.tcp.whole import sockopt

    return sockopt.sys_setsockopt(proc, fd, level, name, value)


def sys_ioctl(proc: Process, fd: int, cmd: int, arg: int = 0) -> Call:
    """ioctl(2); `data` is the number."""
    from refmodel.tcp.whole import files

    return files.sys_ioctl(proc, fd, cmd, arg)


def sys_fcntl(proc: Process, fd: int, cmd: int, arg: int = 0) -> Call:
    """fcntl(2)."""
    from refmodel.tcp.whole import files

    return files.sys_fcntl(proc, fd, cmd, arg)


def sys_pipe(proc: Process) -> Call:
    """pipe(2); `data` are the two descriptors."""
    from refmodel.tcp.whole import files

    return files.sys_pipe(proc)


def sys_splice(
    proc: Process, fd_in: int, off_in: int | None, fd_out: int, off_out: int | None, n: int, flags: int
) -> Call:
    """splice(2)."""
    from refmodel.tcp.whole import files

    return files.sys_splice(proc, fd_in, off_in, fd_out, off_out, n, flags)


def sys_open(proc: Process, path: str, flags: int) -> Call:
    """open(2)."""
    from refmodel.tcp.whole import files

    return files.sys_open(proc, path, flags)


def sys_sendfile(proc: Process, out: int, infd: int, off: int | None, n: int) -> Call:
    """sendfile(2)."""
    from refmodel.tcp.whole import files

    return files.sys_sendfile(proc, out, infd, off, n)


__all__ = [
    "Call", "File", "Msg", "Process", "Ret", "SockAddr", "SocketFile", "StreamFile", "Task", "sys_accept", "sys_bind",
    "sys_cap_set", "sys_close", "sys_connect", "sys_epoll_create", "sys_epoll_ctl", "sys_epoll_wait", "sys_fcntl",
    "sys_getpeername", "sys_getsockname", "sys_getsockopt", "sys_ioctl", "sys_listen", "sys_open", "sys_pipe",
    "sys_poll", "sys_read", "sys_readv", "sys_recv", "sys_recvfrom", "sys_recvmsg", "sys_send", "sys_sendfile",
    "sys_sendmsg", "sys_sendto", "sys_setsockopt", "sys_shutdown", "sys_socket", "sys_splice", "sys_write",
    "sys_writev",
]  # fmt: skip
