"""How segments find their sockets, what listeners answer, and how connections begin and are remembered."""

import errno

from refmodel.tcp.state import St
from refmodel.tcp.whole import calls, fastopen, hashtables, md5, route, secure, syncookies
from refmodel.tcp.whole.const import ACK, FIN, RST, SYN
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import IcmpError, Packet, SockAddr, TcpOptions

LOCAL = bytes((192, 168, 0, 1))
PEER = bytes((192, 0, 2, 1))
LOCAL6 = bytes.fromhex("fd3d0a0b17d600000000000000000001")
PEER6 = bytes.fromhex("fd3dfa7bd17d00000000000000000001")
KEY = "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"
SOL_SOCKET, SO_REUSEADDR, SO_REUSEPORT = 1, 2, 15
SOL_TCP, TCP_FASTOPEN, TCP_MD5SIG = 6, 23, 14


class Server:
    """A namespace with one listener on port 8080, and a peer that sends single segments."""

    def __init__(self, backlog: int = 5, params: WholeParams | None = None, qlen: int = 0) -> None:
        self.net = Net(params)
        self.net.local_addrs.append(LOCAL)
        self.process = calls.Process(self.net)
        self.fd = self.call(calls.sys_socket(self.process, 2, 1, 6))
        assert self.call(calls.sys_bind(self.process, self.fd, SockAddr(2, LOCAL, 8080))) == 0
        if qlen:
            self.option(self.fd, SOL_TCP, TCP_FASTOPEN, qlen)
        assert self.call(calls.sys_listen(self.process, self.fd, backlog)) == 0

    def call(self, gen: calls.Call) -> int:
        """The result of a call that doesn't block."""
        task = self.process.start(gen)
        assert task.done
        return task.ret.value

    def option(self, fd: int, level: int, name: int, value: int) -> None:
        """Sets an option to a number."""
        assert self.call(calls.sys_setsockopt(self.process, fd, level, name, value.to_bytes(4, "little"))) == 0

    def send(
        self, flags: int, seq: int, ack: int = 0, sport: int = 1000, size: int = 0, **opts: object
    ) -> list[Packet]:
        """A segment arrives; what is answered at once."""
        options = TcpOptions(**opts)  # type: ignore[arg-type]
        self.net.receive(Packet(PEER, LOCAL, sport, 8080, seq, ack, flags, 32792, size, options))
        return self.sent()

    def sent(self) -> list[Packet]:
        """What has left."""
        out = list(self.net.out)
        self.net.out.clear()
        return out

    def open(self, sport: int = 1000) -> int:
        """A handshake; the server's initial sequence number."""
        (synack,) = self.send(SYN, 0, sport=sport, mss=1460)
        assert self.send(ACK, 1, synack.seq + 1, sport=sport) == []
        return synack.seq

    def accept(self) -> int:
        """A child's descriptor, or a negative errno."""
        return self.call(calls.sys_accept(self.process, self.fd, 0o4000))


def test_siphash_gives_its_authors_vector_and_the_kernels_cookies() -> None:
    assert secure.siphash(bytes(range(15)), bytes(range(16))) == 0xA129CA6149BE45E5
    key = fastopen.parse_key(KEY)
    assert fastopen.fastopen_cookie(PEER, LOCAL, key).hex() == "3021b9d889017eeb"
    assert fastopen.fastopen_cookie(PEER6, LOCAL6, key).hex() == "c1d1e9742a47a9bc"
    assert fastopen.fastopen_cookie(PEER, LOCAL, bytes(16)).hex() == "b7c12350a90dc8f5"
    assert fastopen.fastopen_cookie(PEER6, LOCAL6, bytes(16)).hex() == "82af1a8f9a205c34"


def test_a_key_reads_as_it_was_written() -> None:
    net = Net()
    net.sysctl("net.ipv4.tcp_fastopen_key", f"{KEY},00000000-00000000-00000000-00000001")
    assert fastopen.get_sysctl_key(net) == f"{KEY},00000000-00000000-00000000-00000001"


def test_a_segment_for_nobody_is_reset_with_its_own_numbers() -> None:
    server = Server()
    (rst,) = server.send(ACK, 7, 77)
    assert (rst.flags, rst.seq, rst.ack_seq, rst.window) == (RST, 77, 0, 0)
    server.net.receive(Packet(PEER, LOCAL, 1, 99, 7, 0, SYN | FIN, 10, 5))
    (rst,) = server.sent()
    assert (rst.flags, rst.seq, rst.ack_seq) == (RST | ACK, 0, 14)
    assert server.send(RST, 7) == []
    assert server.net.mib["TcpOutRsts"] == 2


def test_one_child_more_than_the_backlog_waits_and_the_next_syn_is_dropped() -> None:
    server = Server(backlog=1)
    server.open(1)
    server.open(2)
    assert server.send(SYN, 0, sport=3, mss=1460) == []
    assert server.net.mib["TcpExtListenOverflows"] == server.net.mib["TcpExtListenDrops"] == 1
    assert server.accept() > 0
    assert len(server.send(SYN, 0, sport=3, mss=1460)) == 1


def test_a_listener_that_closes_resets_who_waits_and_forgets_who_has_not_come() -> None:
    server = Server()
    isn = server.open(1)
    server.send(SYN, 0, sport=2, mss=1460)
    assert server.call(calls.sys_close(server.process, server.fd)) == 0
    (rst,) = server.sent()
    assert (rst.flags & RST, rst.dport, rst.seq) == (RST, 1, isn + 1)
    (rst,) = server.send(ACK, 1, 5, sport=2)
    assert (rst.flags, rst.seq) == (RST, 5)
    server.net.advance(server.net.now + 200_000_000)
    assert not server.net.ehash
    assert not server.net.lhash
    assert not server.net.bhash


def test_a_syn_ack_goes_again_after_1_2_4_8_16_seconds_and_then_never() -> None:
    server = Server(params=WholeParams(hz=1000))
    begun = server.net.now
    server.send(SYN, 0, mss=1460)
    server.net.advance(begun + 130_000_000)
    seconds = [round((p.time - begun) / 1e6) for p in server.sent()]
    assert seconds == [1, 3, 7, 15, 32]
    assert not server.net.ehash
    assert server.net.mib["TcpExtTCPTimeouts"] == 6


def test_a_request_answers_its_syn_again_and_an_unacceptable_reset_with_an_ack() -> None:
    server = Server()
    (synack,) = server.send(SYN, 0, mss=1460)
    server.net.now += 600_000
    (again,) = server.send(SYN, 0, mss=1460)
    assert (again.flags, again.seq) == (synack.flags, synack.seq)
    server.net.now += 600_000
    (challenge,) = server.send(RST, 10)
    assert (challenge.flags, challenge.seq, challenge.ack_seq) == (ACK, synack.seq + 1, 1)
    assert server.send(RST, 1) == []
    assert server.net.mib["TcpExtEmbryonicRsts"] == server.net.mib["TcpAttemptFails"] == 1
    assert not server.net.ehash


def test_a_cookie_brings_back_the_mss_below_and_lives_for_two_minutes() -> None:
    server = Server(params=WholeParams(tcp_syncookies=2))
    (synack,) = server.send(SYN, 0, mss=1450)
    assert not server.net.ehash
    server.send(ACK, 1, synack.seq + 1)
    assert server.accept() > 0
    (child,) = server.net.ehash.values()
    assert child.rx_opt.mss_clamp == 1440  # type: ignore[union-attr]
    (synack,) = server.send(SYN, 0, sport=9, mss=1450)
    server.net.advance(server.net.now + 121_000_000)
    (rst,) = server.send(ACK, 1, synack.seq + 1, sport=9)
    assert rst.flags == RST
    assert server.net.mib["TcpExtSyncookiesSent"] == 2
    assert server.net.mib["TcpExtSyncookiesRecv"] == 1


def test_a_cookies_timestamp_is_not_later_than_now_and_holds_the_options() -> None:
    server = Server(params=WholeParams(tcp_syncookies=2))
    (synack,) = server.send(SYN, 0, mss=1460, sack_perm=True, wscale=9, tsval=100)
    offset = secure.secure_tcp_seq_and_ts_off(server.net, LOCAL, PEER, 8080, 1000)[1]
    assert synack.opts.tsval is not None
    ts = (synack.opts.tsval - offset) & 0xFFFFFFFF
    assert ts & 63 == 9 | syncookies.TS_OPT_SACK
    assert 0 <= server.net.now // 1000 - ts < 64


def test_a_right_cookie_opens_with_the_syn_and_a_wrong_one_gets_the_right_one() -> None:
    server = Server(params=WholeParams(tcp_fastopen=3), qlen=1)
    server.net.sysctl("net.ipv4.tcp_fastopen_key", KEY)
    (synack,) = server.send(SYN, 0, size=10, mss=1460, fastopen=bytes(8))
    assert (synack.ack_seq, synack.opts.fastopen) == (1, bytes.fromhex("3021b9d889017eeb"))
    (synack,) = server.send(SYN, 0, sport=2, size=10, mss=1460, fastopen=synack.opts.fastopen)
    assert (synack.ack_seq, synack.opts.fastopen) == (11, None)
    fd = server.accept()
    assert server.call(calls.sys_read(server.process, fd, 100)) == 10
    # The queue is full until the handshake ends.
    (synack,) = server.send(SYN, 0, sport=3, size=10, mss=1460, fastopen=bytes.fromhex("3021b9d889017eeb"))
    assert synack.ack_seq == 1
    counts = ("TcpExtTCPFastOpenPassive", "TcpExtTCPFastOpenPassiveFail", "TcpExtTCPFastOpenListenOverflow")
    assert [server.net.mib[c] for c in counts] == [1, 1, 1]


def test_time_wait_lasts_a_minute_and_lets_a_newer_syn_begin_above_it() -> None:
    server = Server(params=WholeParams(hz=1000))
    isn = server.open()
    fd = server.accept()
    server.call(calls.sys_close(server.process, fd))
    server.sent()
    (last,) = server.send(FIN | ACK, 1, isn + 2)
    assert (last.flags, last.ack_seq) == (ACK, 2)
    (tw,) = server.net.ehash.values()
    assert tw.sk_state == St.TIME_WAIT
    (synack,) = server.send(SYN, 50_000, mss=1460)
    assert synack.seq == isn + 2 + 65537
    assert server.net.tw_count == 0


def test_a_port_is_shared_only_by_sockets_that_all_allow_it() -> None:
    server = Server()
    first, second = (server.call(calls.sys_socket(server.process, 2, 1, 6)) for _ in range(2))
    where = SockAddr(2, bytes(4), 9000)
    assert server.call(calls.sys_bind(server.process, first, where)) == 0
    assert server.call(calls.sys_bind(server.process, second, where)) == -errno.EADDRINUSE
    server.option(first, SOL_SOCKET, SO_REUSEADDR, 1)
    server.option(second, SOL_SOCKET, SO_REUSEADDR, 1)
    assert server.call(calls.sys_bind(server.process, second, where)) == 0
    assert server.call(calls.sys_listen(server.process, second, 1)) == 0
    assert server.call(calls.sys_listen(server.process, first, 1)) == -errno.EADDRINUSE


def test_an_address_of_its_own_is_found_before_any_and_ipv4_before_ipv6() -> None:
    net = Net()
    process = calls.Process(net)

    def listener(family: int, addr: bytes) -> int:
        fd = process.start(calls.sys_socket(process, family, 1, 6)).ret.value
        for name in (SO_REUSEADDR, SO_REUSEPORT):
            process.start(calls.sys_setsockopt(process, fd, SOL_SOCKET, name, b"\1\0\0\0"))
        assert process.start(calls.sys_bind(process, fd, SockAddr(family, addr, 80))).ret.value == 0
        assert process.start(calls.sys_listen(process, fd, 1)).ret.value == 0
        return fd

    any6 = process.fds[listener(10, bytes(16))].sk  # type: ignore[attr-defined]
    assert hashtables.inet_lookup_listener(net, PEER, 1, LOCAL, 80) is any6
    any4 = process.fds[listener(2, bytes(4))].sk  # type: ignore[attr-defined]
    assert hashtables.inet_lookup_listener(net, PEER, 1, LOCAL, 80) is any4
    own = process.fds[listener(2, LOCAL)].sk  # type: ignore[attr-defined]
    assert hashtables.inet_lookup_listener(net, PEER, 1, LOCAL, 80) is own
    assert hashtables.inet_lookup_listener(net, PEER6, 1, LOCAL6, 80) is any6
    assert hashtables.inet_lookup_listener(net, PEER, 1, LOCAL, 81) is None


def test_a_path_mtu_is_believed_for_ten_minutes_down_to_the_minimum() -> None:
    net = Net()
    dst = route.ip_route_output(net, PEER)
    assert (route.dst_mtu(dst), route.dst_metric_advmss(dst)) == (1500, 1460)
    route.ip_rt_update_pmtu(dst, net, 1200)
    assert (route.dst_mtu(dst), route.dst_metric_advmss(dst)) == (1200, 1160)
    route.ip_rt_update_pmtu(dst, net, 1300)
    assert route.dst_mtu(dst) == 1200
    route.ip_rt_update_pmtu(dst, net, 100)
    assert route.dst_mtu(dst) == 552
    net.now += 600_000_000
    assert route.dst_mtu(dst) == 1500
    dst6 = route.ip_route_output(net, PEER6)
    assert route.dst_metric_advmss(dst6) == 1440
    route.ip6_rt_update_pmtu(dst6, net, 1279)
    assert route.dst_mtu(dst6) == 1500


def test_an_icmp_error_ends_a_handshake_only_if_it_quotes_the_syn() -> None:
    net = Net()
    net.local_addrs.append(LOCAL)
    process = calls.Process(net)
    fd = process.start(calls.sys_socket(process, 2, 1 | 0o4000, 6)).ret.value
    assert process.start(calls.sys_connect(process, fd, SockAddr(2, PEER, 80))).ret.value == -errno.EINPROGRESS
    syn = net.out.popleft()
    assert 32768 <= syn.sport <= 60999
    assert syn.sport % 2 == 0
    net.receive_icmp(IcmpError(3, 1, 0, LOCAL, PEER, syn.sport, 80, (syn.seq + 5) & 0xFFFFFFFF))
    assert net.mib["TcpExtOutOfWindowIcmps"] == 1
    net.receive_icmp(IcmpError(3, 3, 0, LOCAL, PEER, syn.sport, 80, syn.seq))
    assert process.fds[fd].sk.sk_err == errno.ECONNREFUSED  # type: ignore[attr-defined]
    assert not net.ehash


def test_a_signature_is_rfc_2385s_and_what_lacks_it_is_dropped() -> None:
    server = Server()
    key = bytes((2, 0, 0, 0)) + PEER + bytes(120) + bytes((0, 0, 6, 0)) + bytes(4) + b"secret" + bytes(74)
    assert server.call(calls.sys_setsockopt(server.process, server.fd, SOL_TCP, TCP_MD5SIG, key)) == 0
    assert server.send(SYN, 0, mss=1460) == []
    assert server.net.mib["TcpExtTCPMD5NotFound"] == 1
    (synack,) = server.send(SYN, 0, mss=1460, md5=bytes(16))
    assert synack.opts.md5 == md5.digest(b"secret", synack)
    assert synack.opts.md5 != md5.digest(b"Secret", synack)
    assert server.send(ACK, 1, synack.seq + 1) == []
    assert server.net.mib["TcpExtTCPMD5NotFound"] == 2
    server.send(ACK, 1, synack.seq + 1, md5=bytes(16))
    assert server.accept() > 0
