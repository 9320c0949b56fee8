"""System calls: every form of argument reads as what it says, every call has its own shape."""

import socket
from collections.abc import Sequence

import pytest

from conformance.pkt import constants
from conformance.pkt.ast import (
    Address,
    Arg,
    Auto,
    Call,
    Cmsg,
    EpollEvent,
    ExtErr,
    Gre,
    IoVec,
    Items,
    Linger,
    Mpls,
    MsgHdr,
    Or,
    PollFd,
    ScmTime,
    SockAddr,
    Stats,
    Text,
)
from conformance.pkt.calls import SIGNATURES, CannotCall, number
from conformance.pkt.parser import parse
from conformance.pkt.source import ScriptError

FORMS = [
    "socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
    "socket(AF_INET6, SOCK_DGRAM|SOCK_NONBLOCK, 0) = 3",
    "bind(3, ..., ...) = 0",
    'bind(3, {sa_family = AF_INET, sin_port = htons(8080), sin_addr = inet_addr("192.0.2.1")}, ...) = 0',
    "listen(3, 1) = 0",
    "accept(3, ..., ...) = 4",
    "connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)",
    "connect(3, AF_UNSPEC, ...) = 0",
    "read(3, ..., 1000) = 1000",
    "read(3, 0, 1000) = -1 EFAULT (Bad address)",
    "readv(3, [{..., 10}, {..., 20}], 2) = 30",
    "recv(3, ..., 10, MSG_PEEK) = 10",
    "recvfrom(3, ..., 10, 0, ..., ...) = 10",
    "recvmsg(3, {msg_name(...)=..., msg_iov(1)=[{..., 10}], msg_flags=0}, 0) = 10",
    "write(3, ..., 1000) = 1000",
    "writev(3, [{..., 10}, {..., 20}], 2) = 30",
    "send(3, ..., 10, MSG_MORE|MSG_DONTWAIT) = 10",
    "sendto(3, ..., 500, MSG_FASTOPEN, ..., ...) = -1 EINPROGRESS (Operation now in progress)",
    "sendmsg(3, {msg_name(...)=..., msg_iov(1)=[{..., 10}], msg_flags=0, msg_control=[]}, MSG_ZEROCOPY) = 10",
    "fcntl(3, F_GETFL) = 0x2 (flags O_RDWR)",
    "fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0",
    "ioctl(3, SIOCINQ, [1000]) = 0",
    "close(3) = 0",
    "shutdown(3, SHUT_WR) = 0",
    "getsockopt(3, SOL_TCP, TCP_MAXSEG, [1460], [4]) = 0",
    'getsockopt(3, IPPROTO_TCP, TCP_CONGESTION, "cubic", [5]) = 0',
    "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0",
    "setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0",
    'setsockopt(3, SOL_TCP, TCP_CONGESTION, "reno", 4) = 0',
    'setsockopt(3, SOL_IPV6, IPV6_NEXTHOP, inet6_addr("fd3d::1"), 16) = 0',
    "setsockopt(3, SOL_IP, 1, gre flags [key], key 5, 4) = 0",
    "setsockopt(3, SOL_IP, 1, mpls (label 16, tc 0, [S], ttl 64), 4) = 0",
    "poll([{fd=3, events=POLLIN|POLLOUT, revents=POLLOUT}], 1, 0) = 1",
    "cap_set(CAP_EFFECTIVE, CAP_NET_ADMIN, CAP_CLEAR) = 0",
    'open("/tmp/testfile", O_RDONLY) = 5',
    "sendfile(4, 5, [0], 1000) = 1000",
    "epoll_create(1) = 5",
    "epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN|EPOLLET, fd=4}) = 0",
    "epoll_ctl(5, EPOLL_CTL_MOD, 4, {events=EPOLLIN, u64=0xffffffffffffffff}) = 0",
    "epoll_wait(5, {events=EPOLLERR|EPOLLOUT, ptr=4}, 1, 0) = 1",
    "pipe([5, 6]) = 0",
    "splice(3, 0, 6, 0, 1000, SPLICE_F_NONBLOCK) = 1000",
    "psp_rx_assoc(3) = 0",
    "psp_tx_assoc(3, 1) = 0",
]


def call(text: str) -> Call:
    action = parse(f"0 {text}").events[0].action
    assert isinstance(action, Call)
    return action


@pytest.mark.parametrize("text", FORMS)
def test_every_call_has_its_form(text: str) -> None:
    assert call(text).name == text.partition("(")[0]


def test_all_32_calls_are_shown_above() -> None:
    assert len(SIGNATURES) == 32
    assert {text.partition("(")[0] for text in FORMS} == set(SIGNATURES)


def test_a_result_has_an_error_and_a_note() -> None:
    c = call("connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)")
    assert (number(c.result), c.errno, c.note) == (-1, "EINPROGRESS", "Operation now in progress")
    c = call("fcntl(3, F_GETFL) = 0x2 (flags O_RDWR)")
    assert (number(c.result), c.errno, c.note) == (2, None, "flags O_RDWR")
    assert call("read(3, ..., 5) = -1 EIO (Input/output error)").note == "Input / output error"


def args(text: str) -> tuple[Arg, ...]:
    return call(text).args


def kinds(of: Sequence[Arg]) -> list[type]:
    return [type(x) for x in of]


def test_numbers() -> None:
    assert number(args("close(0x1F) = 0")[0]) == 31
    assert number(args("send(3, ..., 1, MSG_OOB|MSG_DONTWAIT|0x4000) = 1")[3]) == 1 | 64 | 0x4000
    assert isinstance(args("send(3, ..., 1, MSG_OOB|MSG_MORE) = 1")[3], Or)
    with pytest.raises(CannotCall, match=r"where \.\.\. stands"):
        number(Auto())


def test_strings_resolve_their_escapes_and_join() -> None:
    value = args(r'open("a\n\t\r\f\v\"\\\x00\xff" "b", 0) = 3')[0]
    assert isinstance(value, Text)
    assert value.value == b'a\n\t\r\f\v"\\\x00\xffb'


def test_structures() -> None:
    linger = args("setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0")[3]
    assert isinstance(linger, Linger)
    poll = args("poll([{fd=3, events=POLLIN, revents=0}], 1, 0) = 1")[0]
    assert isinstance(poll, Items)
    assert isinstance(poll.items[0], PollFd)
    event = args("epoll_wait(5, {events=EPOLLERR, ptr=4}, 1, 0) = 1")[1]
    assert isinstance(event, EpollEvent)
    assert (event.member, number(event.data)) == ("ptr", 4)
    addr = args('bind(3, {sa_family = AF_INET, sin_port = htons(80), sin_addr = inet_addr("1.2.3.4")}, ...) = 0')[1]
    assert isinstance(addr, SockAddr)
    assert (addr.addr, number(addr.port)) == ("1.2.3.4", 80)
    assert isinstance(args('setsockopt(3, 0, 0, inet6_addr("::1"), 16) = 0')[3], Address)
    assert isinstance(args("setsockopt(3, 0, 0, gre flags [key], key 5, 4) = 0")[3], Gre)
    assert isinstance(args("setsockopt(3, 0, 0, mpls (label 1, tc 0, ttl 1), 4) = 0")[3], Mpls)


def test_messages_and_their_control_data() -> None:
    header = args(
        """recvmsg(4, {msg_name(...)=..., msg_iov(2)=[{..., 0}, {..., 5}], msg_flags=MSG_ERRQUEUE|MSG_TRUNC,
             msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=9000},
                          {cmsg_level=SOL_SOCKET, cmsg_type=SCM_TIMESTAMPING, cmsg_data={scm_sec=0, scm_nsec=10000000}},
                          {cmsg_level=SOL_SOCKET, cmsg_type=SCM_TIMESTAMPING_OPT_STATS,
                           cmsg_data={TCP_NLA_BUSY=20000, TCP_NLA_SND_CWND=10}},
                          {cmsg_level=SOL_IP, cmsg_type=IP_RECVERR,
                           cmsg_data={ee_errno=ENOMSG, ee_origin=SO_EE_ORIGIN_TIMESTAMPING, ee_type=0, ee_code=0,
                                      ee_info=SCM_TSTAMP_ACK, ee_data=1}}]}, MSG_ERRQUEUE) = 0"""
    )[1]
    assert isinstance(header, MsgHdr)
    assert isinstance(header.iov, Items)
    assert kinds(header.iov.items) == [IoVec, IoVec]
    assert header.control is not None
    assert all(isinstance(c, Cmsg) for c in header.control)
    assert kinds([c.data for c in header.control])[1:] == [ScmTime, Stats, ExtErr]
    stats = header.control[2].data
    assert isinstance(stats, Stats)
    assert [(n.name, number(v)) for n, v in stats.values] == [("TCP_NLA_BUSY", 20000), ("TCP_NLA_SND_CWND", 10)]


@pytest.mark.parametrize(
    ("text", "what", "expected", "help"),
    [
        ("sokcet(..., 1, 2) = 3", "unknown system call 'sokcet'", "", "did you mean socket?"),
        ("fork() = 3", "unknown system call 'fork'", "", "the language has socket, bind"),
        ("listen(3) = 0", "listen with 1 arguments", "2 arguments", ""),
        ("fcntl(3, 1, 2, 3) = 0", "fcntl with 4 arguments", "2 to 3 arguments", ""),
        ("listen(3, [1]) = 0", "argument 2 of listen is something else", "a number", ""),
        ("recvmsg(3, ..., 0) = 0", "argument 2 of recvmsg is something else", "msg_iov", ""),
        ("close(3)", "found end of the script", "'=' and the call's result", "= -1 EAGAIN"),
        ("close(3 = 0", "found '='", "',' or ')' after an argument", ""),
        ("close(3) = 0 EGAIN", "'EGAIN' is no error name", "", "did you mean EAGAIN"),
        ("close(3) = [1]", "a call's result is a number", "", ""),
        ("close(3) = 0 (never closed", "a note that is not closed", "", "close it with )"),
        ("listen(3, SOCK_STREAMS) = 0", "'SOCK_STREAMS' is no constant", "", "did you mean SOCK_STREAM"),
        ("listen(3, id) = 0", "found keyword 'id'", "an argument", "reserved words"),
        ("close(99999999999999999999) = 0", "99999999999999999999 is out of range", "at most 64 bits", ""),
        (r'open("\q", 0) = 3', r"no such escape in a string: '\\q'", r"\xhh", ""),
        (r'open("\x1", 0) = 3', r"no such escape in a string: '\\x'", r"\xhh", ""),
        ("poll([{fd=1, ptr=2}], 1, 0) = 0", "no structure has the members fd, ptr", "", "known: onoff"),
        ("poll([{fd=1, fd=2}], 1, 0) = 0", "fd is written twice", "", ""),
        ("recvmsg(3, {msg_control=[1]}, 0) = 0", "msg_control has an item that is no control message", "", ""),
        ("recvmsg(3, {msg_control=1}, 0) = 0", "msg_control is no list", "msg_control=[", ""),
        ("readv(3, [{...}], 1) = 0", "found '}'", "',' after a buffer", "{..., length}"),
        ('setsockopt(3, 0, 0, inet6_addr("1.2.3.4"), 16) = 0', "1.2.3.4 is no address for inet6_addr", "", ""),
        ('setsockopt(3, 0, 0, inet_addr("x"), 16) = 0', "'x' is no address", "", ""),
        ("ioctl(3, 1, " + "[" * 30 + "]" * 30 + ") = 0", "more than 16 brackets within each other", "", ""),
    ],
)
def test_refusals(text: str, what: str, expected: str, help: str) -> None:
    with pytest.raises(ScriptError) as why:
        call(text)
    assert why.value.what.startswith(what)
    assert expected in why.value.expected
    assert help in why.value.help
    assert why.value.at.line == 1


def test_constants_are_those_of_linux() -> None:
    known = {
        "SOCK_STREAM": 1, "SOL_SOCKET": 1, "SO_REUSEADDR": 2, "SO_ZEROCOPY": 60, "TCP_INQ": 36, "MSG_ZEROCOPY":
        0x4000000, "O_NONBLOCK": 0x800, "EPOLLONESHOT": 1 << 30, "EPOLLET": 1 << 31, "EINPROGRESS": 115, "SIOCINQ":
        0x541B, "SIOCOUTQ": 0x5411, "SCM_TSTAMP_ACK": 2, "TCP_NLA_BUSY": 1, "IPV6_RECVERR": 25,
        "SO_EE_ORIGIN_ZEROCOPY": 5, "SHUT_RDWR": 2, "POLLRDHUP": 0x2000, "F_SETFL": 4, "TCP_CM_INQ": 36, "AF_UNSPEC":
        0
    }  # fmt: skip
    assert {name: constants.SYMBOLS[name] for name in known} == known


@pytest.mark.skipif(not hasattr(socket, "MSG_ERRQUEUE"), reason="this machine's socket module is not Linux's")
def test_constants_agree_with_this_linux() -> None:
    here = {n: int(getattr(socket, n)) for n in constants.VALUES if isinstance(getattr(socket, n, None), int)}
    assert len(here) > 100
    assert {n: constants.VALUES[n] for n in here} == here


def test_icmp_names_have_the_numbers_of_their_ip_version() -> None:
    assert constants.icmp_numbers(4, "unreachable", "frag_needed") == (3, 4)
    assert constants.icmp_numbers(6, "unreachable", "port_unreachable") == (1, 4)
    assert constants.icmp_numbers(6, "packet_too_big", None) == (2, 0)
    assert constants.icmp_numbers(4, "unreachable", "code_13") == (3, 13)
    assert constants.icmp_numbers(4, "packet_too_big", None) is None
    assert constants.icmp_numbers(6, "unreachable", "frag_needed") is None
