"""What arrives: which socket it is for, what a read gives, what there is no room for, and ICMP errors."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmodel.tcp.whole.skb import IcmpError, SockAddr
from refmodel.tcp.whole.sockfile import SocketFile
from refmodel.udp.input import udp_err
from refmodel.udp.sock import AF_INET, AF_INET6
from tests.udp.host import OTHER, OWN, OWN6, PEER, PEER6, Host

MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT = 2, 0x20, 0x40
SOL_SOCKET, SO_REUSEADDR, SO_RCVBUF, SO_REUSEPORT = 1, 2, 8, 15
SOL_IP, IP_RECVERR = 0, 11
EPOLLIN, EPOLLERR = 1, 8


def option(value: int) -> bytes:
    return value.to_bytes(4, "little", signed=True)


def test_the_connected_socket_is_preferred_to_the_bound_one_and_that_to_any() -> None:
    host = Host()
    fds = []
    for address, peer in ((bytes(4), b""), (OWN, b""), (bytes(4), PEER)):
        fd = host.socket()
        host.call("setsockopt", fd, SOL_SOCKET, SO_REUSEADDR, option(1))
        assert host.call("bind", fd, SockAddr(AF_INET, address, 5000)) == 0
        if peer:
            host.call("connect", fd, SockAddr(AF_INET, peer, 9))
        fds.append(fd)
    for closed in (2, 1, 0):
        host.hears(10, 5000)
        heard = [fd for fd in fds[: closed + 1] if host.sock(fd).sk_receive_queue]
        assert heard == [fds[closed]]
        host.call("close", fds[closed])
    host.hears(10, 5000)
    assert host.net.mib["UdpNoPorts"] == 1


def test_a_connected_socket_hears_nobody_else() -> None:
    host = Host()
    fd = host.socket(port=5000, peer=PEER)
    host.hears(10, 5000, saddr=OTHER)
    host.hears(10, 5000, sport=10)
    assert host.call("recv", fd, 10, MSG_DONTWAIT) == -errno.EAGAIN
    assert host.net.mib["UdpNoPorts"] == 2
    assert [p.type for p in host.sent()] == [3, 3]


def test_sockets_that_share_a_port_divide_the_senders() -> None:
    host = Host()
    fds = []
    for _ in range(2):
        fd = host.socket()
        host.call("setsockopt", fd, SOL_SOCKET, SO_REUSEPORT, option(1))
        assert host.call("bind", fd, SockAddr(AF_INET, bytes(4), 5000)) == 0
        fds.append(fd)
    for sport in range(100, 200):
        host.hears(10, 5000, sport=sport)
        host.hears(10, 5000, sport=sport)
    counts = [len(host.sock(fd).sk_receive_queue) for fd in fds]
    assert sum(counts) == 200
    assert all(n > 20 and n % 2 == 0 for n in counts)


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2500)), min_size=1, max_size=12))
def test_each_read_takes_one_datagram_whole_or_cut(reads: list[tuple[int, int]]) -> None:
    host = Host()
    fd = host.socket(port=5000)
    for length, _ in reads:
        host.hears(length, 5000)
    for length, room in reads:
        assert host.call("recv", fd, room, MSG_PEEK) == min(length, room)
        assert host.call("recv", fd, room, MSG_PEEK | MSG_TRUNC) == length
        assert host.call("recv", fd, room) == min(length, room)
    assert host.call("recv", fd, 1, MSG_DONTWAIT) == -errno.EAGAIN
    assert host.sock(fd).sk_rmem_alloc == 0
    assert host.net.mib["UdpInDatagrams"] == len(reads)


@given(
    st.lists(st.integers(0, 9000), min_size=1, max_size=30), st.integers(0, 30_000), st.sampled_from([601, 612, 618])
)
def test_memory_is_what_the_queue_holds_and_bounded(lengths: list[int], rcvbuf: int, kernel: int) -> None:
    host = Host(kernel=kernel)
    fd = host.socket(port=5000)
    host.call("setsockopt", fd, SOL_SOCKET, SO_RCVBUF, option(rcvbuf))
    sk = host.sock(fd)
    for n in lengths:
        before = sk.sk_rmem_alloc
        host.hears(n, 5000)
        taken = [s.truesize for s in sk.sk_receive_queue]
        assert sk.sk_rmem_alloc == sum(taken)
        if sk.sk_rmem_alloc != before:
            assert before <= sk.sk_rcvbuf
            assert kernel < 618 or before == 0 or sk.sk_rmem_alloc <= sk.sk_rcvbuf
    dropped = len(lengths) - len(sk.sk_receive_queue)
    assert host.net.mib["UdpRcvbufErrors"] == host.net.mib["UdpInErrors"] == sk.sk_drops == dropped
    assert sk.sk_receive_queue
    host.call("close", fd)
    assert sk.sk_rmem_alloc == 0


def test_a_wrong_checksum_is_found_by_the_reader() -> None:
    host = Host()
    fd = host.socket(port=5000)
    host.hears(10, 5000, bad_csum=True)
    host.hears(20, 5000)
    assert host.process.fds[fd].poll() & EPOLLIN
    assert host.call("recv", fd, 100) == 20
    assert (host.net.mib["UdpInCsumErrors"], host.net.mib["UdpInErrors"]) == (1, 1)
    host.hears(10, 5000, bad_csum=True)
    assert not host.process.fds[fd].poll() & EPOLLIN


def test_ipv6_wants_a_checksum_unless_the_socket_says_otherwise() -> None:
    host = Host()
    fd = host.socket(AF_INET6, 5000)
    host.hears(10, 5000, saddr=PEER6, check=False)
    assert host.net.mib["Udp6InCsumErrors"] == 1
    host.sock(fd).no_check6_rx = True
    host.hears(10, 5000, saddr=PEER6, check=False)
    assert host.call("recv", fd, 100) == 10


def test_a_read_that_waits_goes_on_with_the_datagram() -> None:
    host = Host()
    fd = host.socket(port=5000)
    task = host.started("recv", fd, 100)
    assert not task.done
    host.hears(30, 5000)
    assert task.done
    assert task.ret.value == 30


@pytest.mark.parametrize(
    ("type", "code", "error", "hard"),
    [
        (3, 0, errno.ENETUNREACH, False),
        (3, 1, errno.EHOSTUNREACH, False),
        (3, 2, errno.ENOPROTOOPT, True),
        (3, 3, errno.ECONNREFUSED, True),
        (3, 13, errno.EHOSTUNREACH, True),
        (11, 0, errno.EHOSTUNREACH, False),
        (12, 0, errno.EPROTO, True),
        (4, 0, 0, False),
        (5, 0, 0, False),
    ],
)
def test_icmp_errors_by_kind(type: int, code: int, error: int, hard: bool) -> None:
    for recverr in (False, True):
        host = Host()
        fd = host.socket(port=5000, peer=PEER)
        host.call("setsockopt", fd, SOL_IP, IP_RECVERR, option(int(recverr)))
        udp_err(host.net, IcmpError(type, code, 0, OWN, PEER, 5000, 9, 0))
        told = error if hard or recverr else 0
        assert host.sock(fd).sk_err == told
        assert len(host.sock(fd).sk_error_queue) == int(recverr and error != 0)
        assert bool(host.process.fds[fd].poll() & EPOLLERR) is bool(told)
        if told:
            assert host.call("send", fd, 1) == -told


def test_an_error_for_nobody_is_counted() -> None:
    host = Host()
    udp_err(host.net, IcmpError(3, 3, 0, OWN, PEER, 5000, 9, 0))
    udp_err(host.net, IcmpError(1, 4, 0, OWN6, PEER6, 5000, 9, 0))
    assert (host.net.mib["IcmpInErrors"], host.net.mib["Icmp6InErrors"]) == (1, 1)


def test_errors_are_limited_to_six_at_once_and_one_a_second() -> None:
    host = Host()
    for _ in range(10):
        host.hears(1, 999)
    assert len(host.sent()) == 6
    assert host.net.mib["IcmpOutRateLimitHost"] == 4
    for seconds in (1, 2, 3):
        host.net.now += 1_000_000
        for _ in range(3):
            host.hears(1, 999)
        assert len(host.sent()) == 1, seconds
    host.hears(1, 999, saddr=OTHER)
    assert len(host.sent()) == 1


def test_a_close_forgets_what_is_unread_and_corked() -> None:
    host = Host()
    fd = host.socket(port=5000, peer=PEER)
    host.hears(10, 5000)
    host.call("send", fd, 10, 0x8000)
    sk = host.sock(fd)
    file = host.process.fds[fd]
    assert isinstance(file, SocketFile)
    assert host.call("close", fd) == 0
    assert (sk.sk_rmem_alloc, sk.sk_wmem_alloc, host.net.udp_table) == (0, 0, {})
    assert host.sent() == []
