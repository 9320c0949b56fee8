"""Socket options: lengths, ranges and what they answer, as net/core/sock.c, tcp.c and ip_sockglue.c have them."""

import errno
from struct import calcsize, pack

import pytest

from refmodel.tcp.whole import inet, info, ipopt, sockopt, tcpopt
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.sock import Sock

SOCKET, TCP, IP, IPV6 = 1, 6, 0, 41


def sock(family: int = 2, **params: int) -> Sock:
    sk = inet.tcp_sock(Net(WholeParams(**params)), family)
    assert isinstance(sk, Sock)
    return sk


def put(sk: Sock, level: int, name: int, value: int, size: int = 4) -> int:
    return sockopt.do_sock_setsockopt(sk, level, name, pack("<q", value)[:size])


def get(sk: Sock, level: int, name: int, size: int = 4) -> int | bytes:
    err, value = sockopt.do_sock_getsockopt(sk, level, name, size)
    return err or (int.from_bytes(value, "little", signed=True) if size <= 4 else value)


def test_buffers_are_doubled_within_bounds() -> None:
    sk = sock(wmem_max=200_000, rmem_max=200_000)
    for value, sndbuf in ((1, 4608), (5000, 10_000), (10**9, 400_000), (-1, 400_000)):
        assert put(sk, SOCKET, sockopt.SO_SNDBUF, value) == 0
        assert get(sk, SOCKET, sockopt.SO_SNDBUF) == sndbuf
    assert put(sk, SOCKET, sockopt.SO_RCVBUFFORCE, 2**31 - 1) == 0
    assert get(sk, SOCKET, sockopt.SO_RCVBUF) == 2**31 - 2


@pytest.mark.parametrize(("seconds", "count", "back"), [(0, 0, 0), (1, 1, 1), (2, 2, 3), (4, 3, 7), (127, 7, 127)])
def test_deferring_counts_retransmissions(seconds: int, count: int, back: int) -> None:
    assert tcpopt.secs_to_retrans(seconds, 1, 120) == count
    assert tcpopt.retrans_to_secs(count, 1, 120) == back


def test_a_short_value_is_refused_where_the_kernel_does() -> None:
    sk = sock()
    assert put(sk, SOCKET, sockopt.SO_REUSEADDR, 1, 3) == -errno.EINVAL
    assert put(sk, TCP, tcpopt.TCP_NODELAY, 1, 3) == -errno.EINVAL
    assert put(sk, IP, ipopt.IP_TOS, 8, 1) == 0
    assert get(sk, IP, ipopt.IP_TOS, 1) == 8
    assert put(sk, IPV6, ipopt.IPV6_TCLASS, 8) == -errno.ENOPROTOOPT
    assert get(sk, IPV6, ipopt.IPV6_TCLASS) == -errno.EOPNOTSUPP


def test_an_ipv6_socket_takes_options_of_both() -> None:
    sk = sock(10)
    assert put(sk, IPV6, ipopt.IPV6_TCLASS, 0xB8) == 0
    assert put(sk, IP, ipopt.IP_TOS, 0x10) == 0
    assert (sk.tclass, sk.inet_tos, sk.sk_priority) == (0xB8, 0x10, 6)
    assert put(sk, IPV6, ipopt.IPV6_UNICAST_HOPS, 256) == -errno.EINVAL


def test_a_timeout_is_rounded_up_to_jiffies() -> None:
    sk = sock(hz=250)
    assert sockopt.do_sock_setsockopt(sk, SOCKET, sockopt.SO_RCVTIMEO_OLD, pack("<qq", 1, 5000)) == 0
    assert get(sk, SOCKET, sockopt.SO_RCVTIMEO_OLD, 16) == pack("<qq", 1, 8000)
    assert sockopt.do_sock_setsockopt(sk, SOCKET, sockopt.SO_RCVTIMEO_OLD, bytes(16)) == 0
    assert sk.sk_rcvtimeo == -1
    assert sockopt.do_sock_setsockopt(sk, SOCKET, sockopt.SO_RCVTIMEO_OLD, pack("<qq", -1, 0)) == 0
    assert sk.sk_rcvtimeo == 0
    assert put(sk, SOCKET, sockopt.SO_RCVTIMEO_OLD, 0, 8) == -errno.EINVAL


def test_an_error_is_told_once() -> None:
    sk = sock()
    sk.sk_err, sk.sk_err_soft = errno.ECONNRESET, errno.EHOSTUNREACH
    told = [get(sk, SOCKET, sockopt.SO_ERROR) for _ in range(3)]
    assert told == [errno.ECONNRESET, errno.EHOSTUNREACH, 0]


def test_tcp_info_has_the_kernels_layout() -> None:
    assert len(info.tcp_info_bytes(sock())) == 248
    assert len(info.tcp_info_bytes(sock(kernel=601))) == 232
    sk = sock()
    sk.snd_cwnd = 0x01020304
    at = 8 + 4 * info.WORDS.index("snd_cwnd")
    assert info.tcp_info_bytes(sk)[at : at + 4] == bytes((4, 3, 2, 1))
    assert info.tcp_info(sk)["tcpi_snd_cwnd"] == 0x01020304
    assert sockopt.do_sock_getsockopt(sk, TCP, tcpopt.TCP_INFO, 10) == (0, info.tcp_info_bytes(sk)[:10])


def test_statistics_are_netlink_attributes_in_order() -> None:
    from refmodel.tcp.whole.skb import Skb

    raw = info.tcp_get_timestamping_opt_stats(sock(), Skb(), None)
    kinds, at = [], 0
    while at < len(raw):
        size, kind = int.from_bytes(raw[at : at + 2], "little"), int.from_bytes(raw[at + 2 : at + 4], "little")
        kinds.append(kind)
        at += size + 3 & ~3
    assert kinds == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 13, 14, 18, 19, 20, 21, 22, 23, 24, 25, 27]
    assert calcsize("<HHQ") == 12
    assert len(raw) == 10 * 12 + 12 * 8 + 3 * 8 + 8
