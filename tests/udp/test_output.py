"""What leaves: datagrams, parts of one, fragments, segments, and what is refused."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmodel.tcp.whole.skb import SockAddr
from refmodel.udp.sock import AF_INET, AF_INET6
from tests.udp.host import OWN, OWN6, PEER, PEER6, Host

MSG_OOB, MSG_MORE = 1, 0x8000
SOL_IP, IP_MTU_DISCOVER, SOL_IPV6, IPV6_DONTFRAG = 0, 10, 41, 62
SOL_UDP, UDP_CORK, UDP_SEGMENT = 17, 1, 103


def option(value: int) -> bytes:
    return value.to_bytes(4, "little", signed=True)


def test_a_datagram_has_the_addresses_and_ports_of_its_socket() -> None:
    host = Host()
    fd = host.socket(port=5000, peer=PEER)
    assert host.call("send", fd, 100) == 100
    (p,) = host.sent()
    assert (p.saddr, p.sport, p.daddr, p.dport, p.len, p.df) == (OWN, 5000, PEER, 9, 100, True)
    assert host.net.mib["UdpOutDatagrams"] == 1


def test_an_unbound_socket_gets_a_port_of_the_range_with_its_first_send() -> None:
    host = Host(ip_local_port_range_0=40_000, ip_local_port_range_1=40_001)
    fd = host.socket()
    assert host.call("sendto", fd, 1, 0, SockAddr(AF_INET, PEER, 9)) == 1
    assert host.sent()[0].sport in (40_000, 40_001)
    second, third = host.socket(), host.socket()
    assert host.call("sendto", second, 1, 0, SockAddr(AF_INET, PEER, 9)) == 1
    assert host.call("sendto", third, 1, 0, SockAddr(AF_INET, PEER, 9)) == -errno.EAGAIN


@pytest.mark.parametrize(
    ("n", "flags", "addr", "error"),
    [
        (1, 0, None, errno.EDESTADDRREQ),
        (1, 0, SockAddr(AF_INET, PEER, 0), errno.EINVAL),
        (1, 0, SockAddr(AF_INET6, PEER6, 9), errno.EAFNOSUPPORT),
        (1, MSG_OOB, SockAddr(AF_INET, PEER, 9), errno.EOPNOTSUPP),
        (65_536, 0, SockAddr(AF_INET, PEER, 9), errno.EMSGSIZE),
        (65_508, 0, SockAddr(AF_INET, PEER, 9), errno.EMSGSIZE),
        (1, 0, SockAddr(AF_INET, b"\xff\xff\xff\xff", 9), errno.EACCES),
    ],
)
def test_what_cannot_be_sent(n: int, flags: int, addr: SockAddr | None, error: int) -> None:
    host = Host()
    assert host.call("sendto", host.socket(), n, flags, addr) == -error
    assert host.sent() == []


def test_an_ipv6_socket_speaks_ipv4_to_a_mapped_address_unless_it_is_ipv6_only() -> None:
    host = Host()
    fd = host.socket(AF_INET6, 5000)
    mapped = SockAddr(AF_INET6, bytes(10) + b"\xff\xff" + PEER, 9)
    assert host.call("sendto", fd, 10, 0, mapped) == 10
    assert host.call("sendto", fd, 10, 0, SockAddr(AF_INET6, PEER6, 9)) == 10
    assert [p.saddr for p in host.sent()] == [OWN, OWN6]
    assert (host.net.mib["UdpOutDatagrams"], host.net.mib["Udp6OutDatagrams"]) == (1, 1)
    host.sock(fd).sk_ipv6only = True
    assert host.call("sendto", fd, 10, 0, mapped) == -errno.ENETUNREACH


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=6), st.booleans())
def test_what_is_corked_leaves_as_one_datagram_and_keeps_no_memory(parts: list[int], option_set: bool) -> None:
    host = Host()
    fd = host.socket(peer=PEER)
    if option_set:
        host.call("setsockopt", fd, SOL_UDP, UDP_CORK, option(1))
    for n in parts:
        assert host.call("send", fd, n, 0 if option_set else MSG_MORE) == n
        assert host.sent() == []
        assert host.sock(fd).sk_wmem_alloc > 0
    if option_set:
        host.call("setsockopt", fd, SOL_UDP, UDP_CORK, option(0))
    else:
        host.call("send", fd, 0)
    fragments = host.sent()
    assert fragments[0].ulen == sum(parts) + 8
    assert sum(p.len for p in fragments) == sum(parts)
    assert host.sock(fd).sk_wmem_alloc == 0


@given(st.integers(1473, 65_507))
def test_fragments_carry_all_bytes_in_pieces_of_eight(length: int) -> None:
    host = Host()
    fd = host.socket(peer=PEER)
    assert host.call("send", fd, length) == length
    parts = host.sent()
    at = 0
    for p in parts:
        assert p.frag == at
        assert not p.df
        size = p.len + (8 if at == 0 else 0)
        assert size + 20 <= 1500
        assert p is parts[-1] or size % 8 == 0
        assert p.more is (p is not parts[-1])
        at += size
    assert at == length + 8


@given(st.integers(1, 1472), st.integers(1, 60_000))
def test_segments_are_equal_but_for_the_last(size: int, length: int) -> None:
    host = Host()
    fd = host.socket(peer=PEER)
    host.call("setsockopt", fd, SOL_UDP, UDP_SEGMENT, option(size))
    got = host.call("send", fd, length)
    lengths = [p.len for p in host.sent()]
    if length > size * 128:
        assert got == -errno.EINVAL
    else:
        assert got == length == sum(lengths)
        assert set(lengths[:-1]) <= {size}
        assert lengths[-1] <= size


def test_who_forbids_fragments_is_told_what_fits() -> None:
    host = Host()
    fd = host.socket(peer=PEER)
    host.call("setsockopt", fd, SOL_IP, IP_MTU_DISCOVER, option(2))
    host.call("setsockopt", fd, SOL_IP, 11, option(1))
    assert host.call("send", fd, 1473) == -errno.EMSGSIZE
    (entry,) = host.sock(fd).sk_error_queue
    assert (entry.ee_errno, entry.ee_origin, entry.ee_info) == (errno.EMSGSIZE, 1, 1500)
    assert host.call("send", fd, 1472) == 1472
    six = host.socket(AF_INET6, peer=PEER6)
    host.call("setsockopt", six, SOL_IPV6, IPV6_DONTFRAG, option(1))
    assert host.call("send", six, 1453) == -errno.EMSGSIZE
    assert host.call("send", six, 1452) == 1452


def test_what_is_sent_to_the_host_itself_arrives_at_once() -> None:
    host = Host()
    server, client = host.socket(port=5000), host.socket(peer=OWN, peer_port=5000)
    assert host.call("send", client, 77) == 77
    assert host.sent() == []
    assert host.call("recv", server, 100) == 77
