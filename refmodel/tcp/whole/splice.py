"""Moving bytes between a socket, a pipe and a file without the application (fs/splice.c, the splicing half of tcp.c).

The law: what is spliced moves in pieces as it lies in memory, and a pipe has room for 16 pieces. More is announced to
TCP (MSG_MORE) as long as the call has more to send.
"""

import errno
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from refmodel.rule import NotModelled, cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import rcvbuf, recvmsg, stream
from refmodel.tcp.whole.const import FIN, MAX_SKB_FRAGS, PAGE_SIZE, RCV_SHUTDOWN
from refmodel.tcp.whole.net import Wait
from refmodel.tcp.whole.poll import O_NONBLOCK, Blocking, File
from refmodel.tcp.whole.skb import MsgHdr, Skb
from refmodel.tcp.whole.sock import Sock
from refmodel.types import M32

if TYPE_CHECKING:
    from refmodel.tcp.whole.calls import Call, Process
    from refmodel.tcp.whole.files import Pipe
    from refmodel.tcp.whole.sockfile import SocketFile

SPLICE_F_NONBLOCK: Final = 2
SPLICE_F_MORE: Final = 4
SPLICE_F_ALL: Final = 15
MSG_DONTWAIT: Final = 0x40
MSG_MORE: Final = 0x8000
MSG_SPLICE_PAGES: Final = 0x8000000
BVECS: Final = 16  # buffers that one send takes from a pipe
O_ACCMODE: Final = 3
O_WRONLY: Final = 1
O_APPEND: Final = 0o2000
MAX_RW_COUNT: Final = 0x7FFFF000


# ---------------------------------------------------------------- socket to pipe


def skb_pieces(skb: Skb, offset: int, length: int) -> list[int]:
    """The lengths of the pieces in which bytes of an skb lie: its head, then its page fragments.

    Source: net/core/skbuff.c:__skb_splice_bits.
    """
    paged = skb.len - skb.linear if skb.frags else 0
    lengths = [skb.len - paged]
    if skb.frags:
        each = -(-paged // skb.frags)
        lengths += [min(each, paged - i * each) for i in range(skb.frags)]
    pieces = []
    for piece in lengths:
        if offset >= piece:
            offset -= piece
            continue
        part = min(piece - offset, length)
        offset = 0
        length -= part
        pieces.append(part)
        if not length:
            break
    return pieces[:MAX_SKB_FRAGS]


@cited("net/core/skbuff.c:skb_splice_bits", "fs/splice.c:splice_to_pipe")
def skb_splice_bits(skb: Skb, offset: int, pipe: "Pipe", length: int) -> int:
    """Hangs bytes of an skb into a pipe, piece by piece, until it is full: how many bytes, or a negative errno."""
    from refmodel.tcp.whole.files import PipeBuffer

    pieces = skb_pieces(skb, offset, length)
    if not pieces:
        return 0
    if not pipe.readers:
        return -errno.EPIPE
    done = 0
    for piece in pieces:
        if pipe.full():
            break
        pipe.bufs.append(PipeBuffer(piece))
        done += piece
    return done or -errno.EAGAIN


@cited("net/ipv4/tcp.c:__tcp_read_sock", "net/ipv4/tcp.c:tcp_read_sock")
def tcp_read_sock(sk: Sock, count: int, pipe: "Pipe") -> int:
    """Moves up to `count` bytes from the receive queue into a pipe, not beyond urgent data."""
    seq = sk.copied_seq
    copied = 0
    if sk.sk_state == St.LISTEN:
        return -errno.ENOTCONN
    while True:
        skb, offset = recvmsg.tcp_recv_skb(sk, seq)
        if skb is None:
            break
        if offset < skb.len:
            length = skb.len - offset
            if sk.urg_data:
                urg_offset = (sk.urg_seq - seq) & M32
                length = min(length, urg_offset)
                if not length:
                    break
            used = skb_splice_bits(skb, offset, pipe, min(count, length))
            if used <= 0:
                copied = copied or used
                break
            count -= used
            seq = (seq + used) & M32
            copied += used
            offset += used
            if offset != skb.len:
                continue
        if skb.tcp_flags & FIN:
            recvmsg.tcp_eat_recv_skb(sk, skb)
            seq = (seq + 1) & M32
            break
        recvmsg.tcp_eat_recv_skb(sk, skb)
        if not count:
            break
        sk.copied_seq = seq
    sk.copied_seq = seq
    rcvbuf.tcp_rcv_space_adjust(sk)
    if copied > 0:
        recvmsg.tcp_recv_skb(sk, seq)
        recvmsg.tcp_cleanup_rbuf(sk, copied)
    return copied


@cited("net/ipv4/tcp.c:tcp_splice_read")
def tcp_splice_read(sk: Sock, pipe: "Pipe", length: int, noblock: bool) -> Blocking:
    """Moves up to `length` bytes from a socket into a pipe; a socket that may block waits for the first."""
    spliced = ret = 0
    stream.lock_sock(sk)
    timeo = stream.sock_rcvtimeo(sk, noblock)
    while length:
        ret = tcp_read_sock(sk, length, pipe)
        if ret < 0:
            break
        if ret == 0:
            if spliced or "SOCK_DONE" in sk.sk_flags:
                break
            if sk.sk_err:
                ret = stream.sock_error(sk)
                break
            if sk.sk_shutdown & RCV_SHUTDOWN:
                break
            if sk.sk_state == St.CLOSE:
                ret = -errno.ENOTCONN
                break
            if not timeo:
                ret = -errno.EAGAIN
                break
            if sk.sk_receive_queue:
                break
            rc, timeo = yield from stream.sk_wait_data(sk, timeo, None)
            if rc < 0:
                ret = rc
                break
            continue
        length -= ret
        spliced += ret
        if not length or not timeo:
            break
        stream.release_sock(sk)
        stream.lock_sock(sk)
        if sk.sk_err or sk.sk_state == St.CLOSE or sk.sk_shutdown & RCV_SHUTDOWN:
            break
    stream.release_sock(sk)
    return spliced or ret


# ---------------------------------------------------------------- pipe to socket


@cited("fs/splice.c:splice_to_socket")
def splice_to_socket(pipe: "Pipe", file: "SocketFile", length: int, flags: int) -> Blocking:
    """Sends what is in a pipe, 16 buffers at a time; MSG_MORE while the pipe holds more of it."""
    from refmodel.tcp.whole.files import take
    from refmodel.tcp.whole.sockfile import __sock_sendmsg

    spliced = ret = 0
    freed = False
    while length > 0:
        while pipe.empty():
            ret = 0
            if not pipe.writers or spliced:
                break
            if flags & SPLICE_F_NONBLOCK:
                ret = -errno.EAGAIN
                break
            yield Wait(lambda: not pipe.empty() or not pipe.writers, None)
        if pipe.empty():
            break
        segs = []
        remain = length
        for buf in pipe.bufs:
            seg = min(remain, buf.len)
            segs.append(seg)
            remain -= seg
            if remain == 0 or len(segs) >= BVECS:
                break
        used = len(segs) - (remain == 0 or len(segs) >= BVECS)  # buffers that the kernel has stepped over
        msg_flags = MSG_SPLICE_PAGES
        if flags & SPLICE_F_MORE or (remain and len(pipe.bufs) - used > 0):
            msg_flags |= MSG_MORE
        if file.flags & O_NONBLOCK:
            msg_flags |= MSG_DONTWAIT
        size = length - remain
        ret = yield from __sock_sendmsg(file, MsgHdr(size, msg_flags, frags=tuple(segs)), size)
        if ret <= 0:
            break
        spliced += ret
        length -= ret
        before = len(pipe.bufs)
        while ret > 0:
            ret -= take(pipe, ret)
        freed = freed or len(pipe.bufs) < before
    if freed:
        pipe.wake_writers()
    return spliced or ret


# ---------------------------------------------------------------- the calls


def _may(file: File, write: bool) -> bool:
    mode = file.flags & O_ACCMODE
    return mode != 0 if write else mode != O_WRONLY


def _file_to_pipe(file: File, pos: int, pipe: "Pipe", length: int) -> int:
    """Hangs pages of an ordinary file into a pipe; source mm/filemap.c:filemap_splice_read."""
    from refmodel.tcp.whole.files import OrdinaryFile, PipeBuffer

    assert isinstance(file, OrdinaryFile)
    end = min(file.size, pos + min(length, (pipe.max_usage - len(pipe.bufs)) * PAGE_SIZE))
    done = 0
    while pos < end and not pipe.full():
        part = min(PAGE_SIZE - pos % PAGE_SIZE, end - pos)
        pipe.bufs.append(PipeBuffer(part, pos % PAGE_SIZE))
        pos += part
        done += part
    return done


@cited("fs/splice.c:splice_file_to_pipe", "fs/splice.c:do_splice_read")
def splice_file_to_pipe(file: File, pos: int, pipe: "Pipe", length: int, flags: int) -> Blocking:
    """Fills a pipe from a socket or a file, once there is room in it."""
    from refmodel.tcp.whole.sockfile import SocketFile, StreamFile

    while True:
        if not pipe.readers:
            return -errno.EPIPE
        if not pipe.full():
            break
        if flags & SPLICE_F_NONBLOCK:
            return -errno.EAGAIN
        yield Wait(lambda: not pipe.full() or not pipe.readers, None)
    length = min(length, (pipe.max_usage - len(pipe.bufs)) * PAGE_SIZE, MAX_RW_COUNT)
    if isinstance(file, SocketFile) and not isinstance(file, StreamFile):
        raise NotModelled("splice from a socket that is no stream")
    if isinstance(file, StreamFile):
        ret = yield from tcp_splice_read(file.sk, pipe, length, bool(file.flags & O_NONBLOCK))
    else:
        ret = _file_to_pipe(file, pos, pipe, length)
    if ret > 0:
        pipe.wake_readers()
    return ret


@cited("fs/splice.c:splice_pipe_to_pipe")
def splice_pipe_to_pipe(ipipe: "Pipe", opipe: "Pipe", length: int, flags: int) -> Blocking:
    """Moves buffers from one pipe to another."""
    from refmodel.tcp.whole.files import PipeBuffer, take

    done = 0
    while length:
        if not opipe.readers:
            return done or -errno.EPIPE
        if ipipe.empty() and not ipipe.writers:
            break
        if ipipe.empty() or opipe.full():
            if done:
                break
            if flags & SPLICE_F_NONBLOCK:
                return -errno.EAGAIN
            yield Wait(lambda: not (ipipe.empty() and ipipe.writers) and not (opipe.full() and opipe.readers), None)
            continue
        part = take(ipipe, length)
        opipe.bufs.append(PipeBuffer(part))
        done += part
        length -= part
    if done:
        opipe.wake_readers()
        ipipe.wake_writers()
    return done


@cited("fs/splice.c:do_splice", "fs/splice.c:__do_splice")
def do_splice(source: File, off_in: int | None, dest: File, off_out: int | None, length: int, flags: int) -> Blocking:
    """splice(2) between two files, one of them a pipe."""
    from refmodel.tcp.whole.files import OrdinaryFile, PipeEnd, take
    from refmodel.tcp.whole.sockfile import SocketFile

    ipipe = source.pipe if isinstance(source, PipeEnd) else None
    opipe = dest.pipe if isinstance(dest, PipeEnd) else None
    if (ipipe is not None and off_in is not None) or (opipe is not None and off_out is not None):
        return -errno.ESPIPE
    if not _may(source, False) or not _may(dest, True):
        return -errno.EBADF
    if ipipe is not None and opipe is not None:
        if ipipe is opipe:
            return -errno.EINVAL
        if (source.flags | dest.flags) & O_NONBLOCK:
            flags |= SPLICE_F_NONBLOCK
        return (yield from splice_pipe_to_pipe(ipipe, opipe, length, flags))
    if ipipe is not None:
        if off_out is not None and isinstance(dest, SocketFile):
            return -errno.EINVAL
        if dest.flags & O_APPEND:
            return -errno.EINVAL
        if source.flags & O_NONBLOCK:
            flags |= SPLICE_F_NONBLOCK
        if isinstance(dest, SocketFile):
            return (yield from splice_to_socket(ipipe, dest, length, flags))
        if not isinstance(dest, OrdinaryFile):
            return -errno.EINVAL
        done = 0
        while length and not ipipe.empty():
            part = take(ipipe, length)
            done, length = done + part, length - part
        pos = dest.pos if off_out is None else off_out
        dest.files[dest.path] = max(dest.size, pos + done)
        if off_out is None:
            dest.pos = pos + done
        return done
    if opipe is None:
        return -errno.EINVAL
    if off_in is not None and not isinstance(source, OrdinaryFile):
        return -errno.EINVAL
    if dest.flags & O_NONBLOCK:
        flags |= SPLICE_F_NONBLOCK
    pos = off_in if off_in is not None else source.pos if isinstance(source, OrdinaryFile) else 0
    ret = yield from splice_file_to_pipe(source, pos, opipe, length, flags)
    if ret >= 0 and off_in is None and isinstance(source, OrdinaryFile):
        source.pos = pos + ret
    return ret


def _held(proc: "Process", gen: Blocking, *files: File) -> "Call":
    """Runs a call that holds files, and lets go of them."""
    from refmodel.tcp.whole import calls

    for file in files:
        file.f_count += 1
    ret = yield from gen
    for file in files:
        yield from proc.fput(file)
    return calls.Ret(ret)


def _refused(err: int) -> "Call":
    from refmodel.tcp.whole import calls

    return calls.Ret(err)
    yield


def sys_splice(
    proc: "Process", fd_in: int, off_in: int | None, fd_out: int, off_out: int | None, n: int, flags: int
) -> "Call":
    """splice(2); source fs/splice.c:SYSCALL_DEFINE6(splice)."""
    if not n:
        return _refused(0)
    if flags & ~SPLICE_F_ALL:
        return _refused(-errno.EINVAL)
    source, dest = proc.fds.get(fd_in), proc.fds.get(fd_out)
    if source is None or dest is None:
        return _refused(-errno.EBADF)
    return _held(proc, do_splice(source, off_in, dest, off_out, n, flags), source, dest)


@cited("fs/splice.c:splice_direct_to_actor", "fs/splice.c:do_splice_direct")
def splice_direct_to_actor(
    source: File, pos: int, dest: "SocketFile", length: int
) -> Generator[Wait, bool, tuple[int, int]]:
    """Moves a file to a socket through a pipe of its own, 16 pages at a time: (bytes or a negative errno, position)."""
    from refmodel.tcp.whole.files import Pipe

    done = ret = 0
    while length:
        pipe = Pipe()
        pipe.readers = 1
        read_len = ret = _file_to_pipe(source, pos, pipe, min(length, pipe.max_usage * PAGE_SIZE))
        if ret <= 0:
            if done:
                dest.splice_eof()
            break
        ret = yield from splice_to_socket(pipe, dest, read_len, SPLICE_F_MORE if read_len < length else 0)
        if ret <= 0:
            break
        done += ret
        length -= ret
        pos += ret
        if ret < read_len:
            break
    return done or ret, pos


@cited("fs/read_write.c:do_sendfile")
def do_sendfile(dest: File, source: File, off: int | None, length: int) -> Blocking:
    """sendfile(2) from an ordinary file into a socket or a pipe."""
    from refmodel.tcp.whole.files import OrdinaryFile, PipeEnd
    from refmodel.tcp.whole.sockfile import SocketFile

    if not _may(source, False):
        return -errno.EBADF
    if off is not None:
        if not isinstance(source, OrdinaryFile):
            return -errno.ESPIPE
        if off < 0:
            return -errno.EINVAL
    if not _may(dest, True):
        return -errno.EBADF
    if not isinstance(source, OrdinaryFile) or dest.flags & O_APPEND:
        return -errno.EINVAL
    pos = source.pos if off is None else off
    if isinstance(dest, SocketFile):
        ret, pos = yield from splice_direct_to_actor(source, pos, dest, min(length, MAX_RW_COUNT))
    elif isinstance(dest, PipeEnd):
        flags = SPLICE_F_NONBLOCK if dest.flags & O_NONBLOCK else 0
        ret = yield from splice_file_to_pipe(source, pos, dest.pipe, length, flags)
        pos += max(ret, 0)
    else:
        raise NotModelled("sendfile into an ordinary file")
    if ret > 0 and off is None:
        source.pos = pos
    return ret


def sys_sendfile(proc: "Process", out: int, infd: int, off: int | None, n: int) -> "Call":
    """sendfile(2)."""
    source, dest = proc.fds.get(infd), proc.fds.get(out)
    if source is None or dest is None:
        return _refused(-errno.EBADF)
    return _held(proc, do_sendfile(dest, source, off, n), source, dest)
