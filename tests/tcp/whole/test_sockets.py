"""Calls on sockets without a peer: their errors and events, as net/socket.c and net/ipv4/tcp.c have them."""

import errno

import pytest

from refmodel.tcp.whole import calls, poll
from refmodel.tcp.whole.calls import Call, Process, SockAddr
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.sock import Sock

OWN = bytes((10, 0, 0, 1))
NONBLOCK = 0o4000


def process() -> Process:
    net = Net(WholeParams(hz=1000))
    net.local_addrs.append(OWN)
    return Process(net)


def done(proc: Process, call: Call) -> int:
    task = proc.start(call)
    assert task.done
    return task.ret.value


def made(proc: Process, flags: int = 0) -> tuple[int, Sock]:
    fd = done(proc, calls.sys_socket(proc, 2, 1 | flags, 0))
    file = proc.fds[fd]
    assert isinstance(file, calls.StreamFile)
    return fd, file.sk


def listener(proc: Process, flags: int = 0) -> tuple[int, Sock]:
    fd, sk = made(proc, flags)
    assert done(proc, calls.sys_bind(proc, fd, SockAddr(2, OWN, 8080))) == 0
    assert done(proc, calls.sys_listen(proc, fd, 1)) == 0
    return fd, sk


def test_descriptors_are_the_lowest_that_are_free() -> None:
    proc = process()
    assert [made(proc)[0] for _ in range(3)] == [3, 4, 5]
    assert done(proc, calls.sys_close(proc, 4)) == 0
    assert made(proc)[0] == 4
    assert done(proc, calls.sys_close(proc, 9)) == -errno.EBADF


@pytest.mark.parametrize(
    ("domain", "kind", "protocol", "err"),
    [(2, 1, 6, 0), (10, 1, 0, 0), (2, 1, 17, errno.EPROTONOSUPPORT), (2, 1, -1, errno.EINVAL), (99, 1, 0, 97),
     (2, 11, 0, errno.EINVAL), (2, 1 | 1 << 20, 0, errno.EINVAL)],
)  # fmt: skip
def test_a_socket_is_made_of_what_there_is(domain: int, kind: int, protocol: int, err: int) -> None:
    proc = process()
    value = done(proc, calls.sys_socket(proc, domain, kind, protocol))
    assert value == -err if err else value == 3


def test_a_socket_that_never_was_connected_neither_reads_nor_writes() -> None:
    proc = process()
    fd, _ = made(proc)
    assert done(proc, calls.sys_read(proc, fd, 10)) == -errno.ENOTCONN
    assert done(proc, calls.sys_read(proc, fd, 0)) == 0
    assert done(proc, calls.sys_recv(proc, fd, 10, 1)) == -errno.EINVAL
    assert done(proc, calls.sys_write(proc, fd, 10)) == -errno.EPIPE
    assert done(proc, calls.sys_accept(proc, fd)) == -errno.EINVAL
    assert done(proc, calls.sys_getpeername(proc, fd)) == -errno.ENOTCONN
    assert done(proc, calls.sys_shutdown(proc, fd, 3)) == -errno.EINVAL
    assert done(proc, calls.sys_shutdown(proc, fd, 1)) == -errno.ENOTCONN


def test_a_fresh_socket_is_writable_and_hung_up() -> None:
    proc = process()
    _, sk = made(proc)
    assert poll.tcp_poll(sk) == poll.EPOLLOUT | poll.EPOLLWRNORM | poll.EPOLLHUP


def test_a_port_is_bound_once() -> None:
    proc = process()
    fd, sk = made(proc)
    assert done(proc, calls.sys_bind(proc, fd, SockAddr(2, bytes((9, 9, 9, 9)), 80))) == -errno.EADDRNOTAVAIL
    assert done(proc, calls.sys_bind(proc, fd, SockAddr(10, bytes(16), 80))) == -errno.EAFNOSUPPORT
    assert done(proc, calls.sys_bind(proc, fd, SockAddr(2, OWN, 8080))) == 0
    assert done(proc, calls.sys_bind(proc, fd, SockAddr(2, OWN, 8081))) == -errno.EINVAL
    other, _ = made(proc)
    assert done(proc, calls.sys_bind(proc, other, SockAddr(2, bytes(4), 8080))) == -errno.EADDRINUSE
    assert (sk.inet_num, sk.inet_sport) == (8080, 8080)


def test_a_listener_is_only_for_accepting() -> None:
    proc = process()
    fd, sk = listener(proc, NONBLOCK)
    assert done(proc, calls.sys_accept(proc, fd)) == -errno.EAGAIN
    assert done(proc, calls.sys_accept(proc, fd, 1)) == -errno.EINVAL
    assert done(proc, calls.sys_read(proc, fd, 1)) == -errno.ENOTCONN
    assert done(proc, calls.sys_write(proc, fd, 1)) == -errno.EPIPE
    assert done(proc, calls.sys_connect(proc, fd, SockAddr(2, OWN, 1))) == -errno.EISCONN
    assert poll.tcp_poll(sk) == 0
    assert sk.sk_max_ack_backlog == 1
    assert done(proc, calls.sys_listen(proc, fd, -1)) == 0
    assert sk.sk_max_ack_backlog == proc.net.p.somaxconn


def test_accept_sleeps_for_the_receive_timeout_by_a_timer_of_jiffies() -> None:
    proc = process()
    fd, sk = listener(proc)
    sk.sk_rcvtimeo = 20_000
    began = proc.net.jiffies
    task = proc.start(calls.sys_accept(proc, fd))
    assert not task.done
    while not task.done:
        proc.net.fire()
        proc.settle()
    assert task.ret.value == -errno.EAGAIN
    assert task.returned == (began + 21) * 1000


def test_a_listener_that_is_shut_down_wakes_who_accepts() -> None:
    proc = process()
    fd, _ = listener(proc)
    task = proc.start(calls.sys_accept(proc, fd))
    assert done(proc, calls.sys_shutdown(proc, fd, 0)) == 0
    proc.settle()
    assert task.done
    assert task.ret.value == -errno.EINVAL


def test_a_file_lives_while_a_call_holds_it() -> None:
    proc = process()
    fd, sk = listener(proc)
    task = proc.start(calls.sys_accept(proc, fd))
    assert done(proc, calls.sys_close(proc, fd)) == 0
    assert sk.has_socket
    assert made(proc)[0] == fd
    poll.sk_state_change(sk)
    proc.settle()
    assert not task.done
    assert sk.has_socket
