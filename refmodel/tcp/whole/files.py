"""Descriptors beside sockets: pipes and ordinary files, and ioctl and fcntl on all of them.

The law: a pipe is a ring of 16 buffers, each a page or a part of one, so that many small pieces fill it as well as a
few large ones. An ordinary file is a length; its bytes are nobody's business here. It is always ready.
"""

import errno
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final

from refmodel.rule import cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import poll
from refmodel.tcp.whole.const import PAGE_SIZE
from refmodel.tcp.whole.net import Wait
from refmodel.tcp.whole.poll import O_CLOEXEC, O_NONBLOCK, Blocking, File, WaitEntry
from refmodel.tcp.whole.sock import Sock
from refmodel.tcp.whole.splice import sys_sendfile, sys_splice
from refmodel.types import M32, before

if TYPE_CHECKING:
    from refmodel.tcp.whole.calls import Call, Process

PIPE_DEF_BUFFERS: Final = 16
PIPE_MAX_SIZE: Final = 1048576
O_RDONLY: Final = 0
O_WRONLY: Final = 1
O_RDWR: Final = 2
O_ACCMODE: Final = 3
O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_DIRECT: Final = 0o40000
O_LARGEFILE: Final = 0o100000
O_NOATIME: Final = 0o1000000
SETFL_MASK: Final = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME

SIOCINQ: Final = 0x541B
SIOCOUTQ: Final = 0x5411
FIONBIO: Final = 0x5421
FIONCLEX: Final = 0x5450
FIOCLEX: Final = 0x5451
FIOASYNC: Final = 0x5452
FIOQSIZE: Final = 0x5460
FIOSETOWN: Final = 0x8901
SIOCSPGRP: Final = 0x8902
FIOGETOWN: Final = 0x8903
SIOCGPGRP: Final = 0x8904
SIOCATMARK: Final = 0x8905
SIOCOUTQNSD: Final = 0x894B

F_DUPFD: Final = 0
F_GETFD: Final = 1
F_SETFD: Final = 2
F_GETFL: Final = 3
F_SETFL: Final = 4
F_SETOWN: Final = 8
F_GETOWN: Final = 9
F_SETSIG: Final = 10
F_GETSIG: Final = 11
F_DUPFD_CLOEXEC: Final = 1030
F_SETPIPE_SZ: Final = 1031
F_GETPIPE_SZ: Final = 1032
NSIG: Final = 64
NOFILE: Final = 1024


class PipeBuffer:
    """struct pipe_buffer: `len` bytes at `offset` of a page; writes may add to it if `can_merge`."""

    __slots__ = ("can_merge", "len", "offset")

    def __init__(self, len: int, offset: int = 0, can_merge: bool = False) -> None:
        self.len = len
        self.offset = offset
        self.can_merge = can_merge


class Pipe:
    """struct pipe_inode_info."""

    def __init__(self) -> None:
        self.bufs: deque[PipeBuffer] = deque()
        self.max_usage = PIPE_DEF_BUFFERS
        self.readers = 0
        self.writers = 0
        self.poll_usage = False
        self.rd_wait: list[WaitEntry] = []
        self.wr_wait: list[WaitEntry] = []

    def empty(self) -> bool:
        """Nothing is in it."""
        return not self.bufs

    def full(self) -> bool:
        """No buffer is free, however little is in each."""
        return len(self.bufs) >= self.max_usage

    def bytes(self) -> int:
        """What is in it."""
        return sum(buf.len for buf in self.bufs)

    def wake_readers(self, key: int = 0) -> None:
        """Something is in it, or its last writer is gone."""
        if self.rd_wait:
            poll.wake_up(self.rd_wait, key)

    def wake_writers(self, key: int = 0) -> None:
        """A buffer is free, or its last reader is gone."""
        if self.wr_wait:
            poll.wake_up(self.wr_wait, key)


class PipeEnd(File):
    """A descriptor of a pipe, for reading or for writing; source fs/pipe.c:pipefifo_fops."""

    def __init__(self, pipe: Pipe, writes: bool, flags: int = 0) -> None:
        super().__init__((O_WRONLY if writes else O_RDONLY) | flags)
        self.pipe = pipe
        self.writes = writes
        if writes:
            pipe.writers += 1
        else:
            pipe.readers += 1

    def wait_queue(self) -> list[WaitEntry]:
        """Who waits for its events."""
        return self.pipe.wr_wait if self.writes else self.pipe.rd_wait

    def poll(self) -> int:
        """Its events now; source fs/pipe.c:pipe_poll."""
        pipe = self.pipe
        pipe.poll_usage = True
        mask = 0
        if not self.writes:
            if not pipe.empty():
                mask |= poll.EPOLLIN | poll.EPOLLRDNORM
            if not pipe.writers:
                mask |= poll.EPOLLHUP
        else:
            if not pipe.full():
                mask |= poll.EPOLLOUT | poll.EPOLLWRNORM
            if not pipe.readers:
                mask |= poll.EPOLLERR
        return mask

    def read(self, proc: "Process", n: int) -> Blocking:
        """read(2); source fs/pipe.c:pipe_read."""
        pipe = self.pipe
        if self.writes:
            return -errno.EBADF
        if not n:
            return 0
        done = 0
        was_full = pipe.full()
        while True:
            while pipe.bufs and n:
                taken = take(pipe, n)
                done += taken
                n -= taken
            if not n or not pipe.writers or done:
                break
            if self.flags & O_NONBLOCK:
                done = -errno.EAGAIN
                break
            yield Wait(lambda: not pipe.empty() or not pipe.writers, None)
            was_full = pipe.full()
        if was_full:
            pipe.wake_writers(poll.EPOLLOUT | poll.EPOLLWRNORM)
        return done

    def write(self, proc: "Process", n: int) -> Blocking:
        """write(2): whole pages begin at a page's begin, what is left over fills the last buffer.

        Source: fs/pipe.c:pipe_write.
        """
        pipe = self.pipe
        if not self.writes:
            return -errno.EBADF
        if not n:
            return 0
        if not pipe.readers:
            return -errno.EPIPE
        done = 0
        was_empty = pipe.empty()
        chars = n % PAGE_SIZE
        if chars and not was_empty:
            last = pipe.bufs[-1]
            if last.can_merge and last.offset + last.len + chars <= PAGE_SIZE:
                last.len += chars
                done = chars
        while done < n:
            if not pipe.readers:
                done = done or -errno.EPIPE
                break
            if not pipe.full():
                part = min(PAGE_SIZE, n - done)
                pipe.bufs.append(PipeBuffer(part, 0, True))
                done += part
                continue
            if self.flags & O_NONBLOCK:
                done = done or -errno.EAGAIN
                break
            if was_empty:
                pipe.wake_readers(poll.EPOLLIN | poll.EPOLLRDNORM)
            yield Wait(lambda: not pipe.full() or not pipe.readers, None)
            was_empty = pipe.empty()
        if was_empty or pipe.poll_usage:
            pipe.wake_readers(poll.EPOLLIN | poll.EPOLLRDNORM)
        return done

    def release(self, proc: "Process") -> Blocking:
        """One end is closed; source fs/pipe.c:pipe_release."""
        pipe = self.pipe
        if self.writes:
            pipe.writers -= 1
        else:
            pipe.readers -= 1
        if bool(pipe.readers) != bool(pipe.writers):
            key = poll.EPOLLIN | poll.EPOLLRDNORM | poll.EPOLLERR | poll.EPOLLHUP
            pipe.wake_readers(key)
            pipe.wake_writers(poll.EPOLLOUT | poll.EPOLLWRNORM | poll.EPOLLERR | poll.EPOLLHUP)
        return 0
        yield


def take(pipe: Pipe, n: int) -> int:
    """Takes up to `n` bytes from a pipe's first buffer."""
    buf = pipe.bufs[0]
    taken = min(n, buf.len)
    buf.offset += taken
    buf.len -= taken
    if not buf.len:
        pipe.bufs.popleft()
    return taken


class OrdinaryFile(File):
    """A descriptor of an ordinary file of the process's `files`, by path."""

    can_poll: ClassVar[bool] = False

    def __init__(self, files: dict[str, int], path: str, flags: int) -> None:
        super().__init__(flags)
        self.files = files
        self.path = path
        self.pos = 0

    @property
    def size(self) -> int:
        """The file's length."""
        return self.files.get(self.path, 0)

    def read(self, proc: "Process", n: int) -> Blocking:
        """read(2)."""
        if self.flags & O_ACCMODE == O_WRONLY:
            return -errno.EBADF
        done = max(0, min(n, self.size - self.pos))
        self.pos += done
        return done
        yield

    def write(self, proc: "Process", n: int) -> Blocking:
        """write(2)."""
        if self.flags & O_ACCMODE == O_RDONLY:
            return -errno.EBADF
        if self.flags & O_APPEND:
            self.pos = self.size
        self.pos += n
        self.files[self.path] = max(self.size, self.pos)
        return n
        yield


# ---------------------------------------------------------------- making them


def _refused(value: int) -> "Call":
    from refmodel.tcp.whole import calls

    return calls.Ret(value)
    yield


@cited("fs/pipe.c:do_pipe2")
def sys_pipe(proc: "Process", flags: int = 0) -> "Call":
    """pipe(2): `data` are the descriptors for reading and for writing."""
    from refmodel.tcp.whole import calls

    pipe = Pipe()
    keep = flags & (O_NONBLOCK | O_CLOEXEC)
    return calls.Ret(0, (proc.install(PipeEnd(pipe, False, keep)), proc.install(PipeEnd(pipe, True, keep))))
    yield


@cited("fs/open.c:do_sys_openat2")
def sys_open(proc: "Process", path: str, flags: int) -> "Call":
    """open(2) of an ordinary file."""
    from refmodel.tcp.whole import calls

    if path in proc.files:
        if flags & O_CREAT and flags & O_EXCL:
            return calls.Ret(-errno.EEXIST)
        if flags & O_TRUNC:
            proc.files[path] = 0
    elif flags & O_CREAT:
        proc.files[path] = 0
    else:
        return calls.Ret(-errno.ENOENT)
    keep = flags & ~(O_CREAT | O_EXCL | O_TRUNC) | O_LARGEFILE
    return calls.Ret(proc.install(OrdinaryFile(proc.files, path, keep)))
    yield


# ---------------------------------------------------------------- ioctl


@cited("include/net/tcp.h:tcp_inq")
def tcp_inq(sk: Sock) -> int:
    """Bytes to read up to urgent data, a FIN not counted."""
    if sk.sk_state in (St.SYN_SENT, St.SYN_RECV):
        return 0
    if (
        "SOCK_URGINLINE" in sk.sk_flags
        or not sk.urg_data
        or before(sk.urg_seq, sk.copied_seq)
        or not before(sk.urg_seq, sk.rcv_nxt)
    ):
        answ = (sk.rcv_nxt - sk.copied_seq) & M32
        return answ - 1 if answ and "SOCK_DONE" in sk.sk_flags else answ
    return (sk.urg_seq - sk.copied_seq) & M32


@cited("net/ipv4/tcp.c:tcp_ioctl")
def tcp_ioctl(sk: Sock, cmd: int) -> tuple[int, int]:
    """How much is unread, unacknowledged or unsent, and whether the urgent mark is reached: (error, answer)."""
    if cmd == SIOCATMARK:
        return 0, int(bool(sk.urg_data) and sk.urg_seq == sk.copied_seq)
    if cmd not in (SIOCINQ, SIOCOUTQ, SIOCOUTQNSD):
        return -errno.ENOTTY, 0
    if sk.sk_state == St.LISTEN:
        return -errno.EINVAL, 0
    if cmd == SIOCINQ:
        return 0, tcp_inq(sk)
    if sk.sk_state in (St.SYN_SENT, St.SYN_RECV):
        return 0, 0
    return 0, (sk.write_seq - (sk.snd_una if cmd == SIOCOUTQ else sk.snd_nxt)) & M32


@cited("fs/ioctl.c:do_vfs_ioctl", "net/socket.c:sock_ioctl")
def sys_ioctl(proc: "Process", fd: int, cmd: int, arg: int = 0) -> "Call":
    """ioctl(2): `data` is the number that the kernel fills in, None where it fills in none."""
    from refmodel.tcp.whole import calls
    from refmodel.tcp.whole.sockfile import SocketFile

    file = proc.fds.get(fd)
    if file is None:
        return calls.Ret(-errno.EBADF)
    if cmd in (FIOCLEX, FIONCLEX):
        file.flags = file.flags | O_CLOEXEC if cmd == FIOCLEX else file.flags & ~O_CLOEXEC
        return calls.Ret(0)
    if cmd == FIONBIO:
        file.flags = file.flags | O_NONBLOCK if arg else file.flags & ~O_NONBLOCK
        return calls.Ret(0)
    if cmd == FIOASYNC and not isinstance(file, OrdinaryFile):
        return calls.Ret(0)
    if isinstance(file, SocketFile):
        if cmd in (FIOSETOWN, SIOCSPGRP):
            return calls.Ret(0)
        if cmd in (FIOGETOWN, SIOCGPGRP):
            return calls.Ret(0, 0)
        err, answer = file.ioctl(cmd)
        return calls.Ret(err, answer if err == 0 else None)
    if isinstance(file, PipeEnd) and cmd == SIOCINQ:
        return calls.Ret(0, file.pipe.bytes())
    if isinstance(file, OrdinaryFile):
        if cmd == SIOCINQ:
            return calls.Ret(0, file.size - file.pos)
        if cmd == FIOQSIZE:
            return calls.Ret(0, file.size)
    return calls.Ret(-errno.ENOTTY)
    yield


# ---------------------------------------------------------------- fcntl


def _setpipe(pipe: Pipe, size: int) -> int:
    """F_SETPIPE_SZ: a power of two of pages that holds what is in it; source fs/pipe.c:pipe_set_size."""
    pages = max(1, -(-size // PAGE_SIZE))
    pages = 1 << (pages - 1).bit_length()
    if size < 0 or pages * PAGE_SIZE > 1 << 31:
        return -errno.EINVAL
    if pages < len(pipe.bufs):
        return -errno.EBUSY
    pipe.max_usage = pages
    return pages * PAGE_SIZE


@cited("fs/fcntl.c:do_fcntl")
def sys_fcntl(proc: "Process", fd: int, cmd: int, arg: int = 0) -> "Call":
    """fcntl(2)."""
    from refmodel.tcp.whole import calls

    file = proc.fds.get(fd)
    if file is None:
        return calls.Ret(-errno.EBADF)
    return calls.Ret(_fcntl(proc, file, cmd, arg))
    yield


def _fcntl(proc: "Process", file: File, cmd: int, arg: int) -> int:
    if cmd in (F_DUPFD, F_DUPFD_CLOEXEC):
        if not 0 <= arg < NOFILE:
            return -errno.EINVAL
        new = proc.install(file, arg)
        if new >= 0:
            file.f_count += 1
        return new
    if cmd == F_GETFD:
        return int(bool(file.flags & O_CLOEXEC))
    if cmd == F_SETFD:
        file.flags = file.flags | O_CLOEXEC if arg & 1 else file.flags & ~O_CLOEXEC
        return 0
    if cmd == F_GETFL:
        return file.flags & ~O_CLOEXEC
    if cmd == F_SETFL:
        file.flags = file.flags & ~SETFL_MASK | arg & SETFL_MASK
        return 0
    if cmd in (F_SETOWN, F_GETOWN, F_GETSIG):
        return 0
    if cmd == F_SETSIG:
        return 0 if 0 <= arg <= NSIG else -errno.EINVAL
    if cmd in (F_SETPIPE_SZ, F_GETPIPE_SZ):
        if not isinstance(file, PipeEnd):
            return -errno.EBADF
        return file.pipe.max_usage * PAGE_SIZE if cmd == F_GETPIPE_SZ else _setpipe(file.pipe, arg)
    return -errno.EINVAL


__all__ = [
    "OrdinaryFile", "Pipe", "PipeBuffer", "PipeEnd", "sys_fcntl", "sys_ioctl", "sys_open", "sys_pipe", "sys_sendfile",
    "sys_splice", "take", "tcp_inq", "tcp_ioctl",
]  # fmt: skip
