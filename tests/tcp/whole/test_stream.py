"""Two sockets on a wire: what calls return, when they sleep, and which segments they cause."""

import errno
from struct import pack

from refmodel.tcp.state import St
from refmodel.tcp.whole import calls, poll
from refmodel.tcp.whole.calls import Call, Task
from refmodel.tcp.whole.const import ACK, FIN, PSH, RST, SYN
from refmodel.tcp.whole.pair import ADDRESSES, Fate, Pair
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Packet, SockAddr
from refmodel.tcp.whole.sock import Sock

MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT, MSG_WAITALL, MSG_MORE = 1, 2, 0x20, 0x40, 0x100, 0x8000
NONBLOCK = 0o4000
SKB = 960  # an skb without payload: a head of 384 bytes, sk_buff and skb_shared_info


class Talk:
    """A connection from host 0 to host 1, and every segment that was sent since it stood."""

    def __init__(self, delay: int = 10_000, connect: bool = True) -> None:
        self.sent: list[tuple[int, Packet]] = []
        params = WholeParams(hz=1000)
        self.pair = Pair(lambda i, n: Fate(delay), (params, params), lambda i, p: self.sent.append((i, p)))
        self.fds = self.pair.connect() if connect else (0, 0)
        self.pair.run(self.pair.now + 100_000)
        self.sent.clear()

    def start(self, i: int, call: Call) -> Task:
        task = self.pair.hosts[i].process.start(call)
        self.pair.settle()
        return task

    def ret(self, i: int, call: Call) -> int:
        task = self.start(i, call)
        assert task.done
        return task.ret.value

    def run(self, us: int = 1_000_000) -> None:
        self.pair.run(self.pair.now + us)

    def sock(self, i: int) -> Sock:
        return self.of(i, self.fds[i])

    def of(self, i: int, fd: int) -> Sock:
        file = self.pair.hosts[i].process.fds[fd]
        assert isinstance(file, calls.StreamFile)
        return file.sk

    def write(self, i: int, n: int, flags: int = 0) -> Task:
        return self.start(i, calls.sys_send(self.pair.hosts[i].process, self.fds[i], n, flags))

    def read(self, i: int, n: int, flags: int = 0) -> Task:
        return self.start(i, calls.sys_recv(self.pair.hosts[i].process, self.fds[i], n, flags))

    def close(self, i: int) -> Task:
        return self.start(i, calls.sys_close(self.pair.hosts[i].process, self.fds[i]))

    def flags(self, i: int) -> list[int]:
        return [p.flags for who, p in self.sent if who == i]


def test_a_write_is_charged_with_its_skb_until_it_is_acknowledged() -> None:
    t = Talk()
    assert t.write(0, 1000).ret.value == 1000
    assert t.sock(0).sk_wmem_queued == SKB + 1000
    assert t.sock(0).sk_forward_alloc == 4096 - SKB - 1000
    assert t.flags(0) == [PSH | ACK]
    t.run()
    assert t.sock(0).sk_wmem_queued == 0
    assert t.read(1, 5000).ret.value == 1000


def test_writes_fill_the_last_unsent_skb() -> None:
    t = Talk()
    for _ in range(3):
        t.write(0, 100, MSG_MORE)
    assert t.sent == []
    assert t.sock(0).sk_wmem_queued == SKB + 300
    assert len(t.sock(0).sk_write_queue) == 1
    t.write(0, 100)
    assert [p.len for _, p in t.sent] == [400]


def test_a_nonblocking_write_takes_what_the_send_buffer_holds() -> None:
    t = Talk()
    t.sock(0).sk_sndbuf = 10_000
    t.sock(0).sk_userlocks |= 1
    t.sock(0).snd_cwnd = 1
    t.sock(0).snd_cwnd_clamp = 1
    done = t.write(0, 200_000, MSG_DONTWAIT).ret.value
    queued = sum(skb.truesize for skb in t.sock(0).sk_write_queue) + sum(s.truesize for s in t.sock(0).tcp_rtx_queue)
    assert t.sock(0).sk_wmem_queued == queued >= 10_000
    assert queued == done + SKB * (len(t.sock(0).sk_write_queue) + len(t.sock(0).tcp_rtx_queue))
    assert t.write(0, 1, MSG_DONTWAIT).ret.value == -errno.EAGAIN
    assert t.sock(0).sk_nospace
    assert not poll.tcp_poll(t.sock(0)) & poll.EPOLLOUT


def test_a_blocked_write_goes_on_when_a_third_of_the_buffer_is_free() -> None:
    t = Talk()
    task = t.write(0, 3_000_000)
    assert not task.done
    reading = 0
    while not task.done:
        assert t.pair.step()
        part = t.read(1, 1_000_000, MSG_DONTWAIT).ret.value
        reading += max(part, 0)
    assert task.ret.value == 3_000_000
    while reading < 3_000_000:
        assert t.pair.step()
        reading += max(t.read(1, 1_000_000, MSG_DONTWAIT).ret.value, 0)
    t.run()
    assert reading == 3_000_000
    assert t.sock(0).sk_wmem_queued == 0


def test_a_read_sleeps_until_data_arrive_and_waits_for_all_if_told_so() -> None:
    t = Talk()
    some, more = t.read(1, 300), t.read(1, 300, MSG_WAITALL)
    t.write(0, 100)
    t.run()
    assert some.done
    assert some.ret.value == 100
    assert not more.done
    t.write(0, 400)
    t.run()
    assert more.done
    assert more.ret.value == 300
    assert t.read(1, 300, MSG_DONTWAIT).ret.value == 100
    assert t.read(1, 300, MSG_DONTWAIT).ret.value == -errno.EAGAIN


def test_peeked_bytes_stay_and_truncated_ones_are_gone() -> None:
    t = Talk()
    t.write(0, 100)
    t.run()
    assert t.read(1, 60, MSG_PEEK).ret.value == 60
    assert t.read(1, 500, MSG_PEEK).ret.value == 100
    assert t.read(1, 30, MSG_TRUNC).ret.value == 30
    assert t.read(1, 500).ret.value == 70


def test_the_urgent_byte_stands_beside_the_stream() -> None:
    t = Talk()
    t.write(0, 5, MSG_OOB)
    t.run()
    assert poll.tcp_poll(t.sock(1)) & poll.EPOLLPRI
    assert t.read(1, 10).ret.value == 4
    assert t.read(1, 1, MSG_OOB).ret.value == 1
    assert t.read(1, 1, MSG_OOB).ret.value == -errno.EINVAL
    assert t.read(1, 10, MSG_DONTWAIT).ret.value == -errno.EAGAIN


def test_a_close_ends_the_stream_and_the_peer_can_still_write_until_it_is_reset() -> None:
    t = Talk()
    t.close(0)
    t.run()
    assert t.flags(0) == [FIN | ACK]
    assert t.sock(1).sk_state == St.CLOSE_WAIT
    assert poll.tcp_poll(t.sock(1)) & poll.EPOLLRDHUP
    assert t.read(1, 10).ret.value == 0
    assert t.write(1, 10).ret.value == 10
    t.run()
    assert t.flags(0)[-1] & RST
    assert t.sock(1).sk_err == errno.EPIPE
    assert t.write(1, 10).ret.value == -errno.EPIPE
    assert t.read(1, 10).ret.value == 0


def test_a_close_with_unread_data_resets() -> None:
    t = Talk()
    t.write(0, 10)
    t.run()
    t.sent.clear()
    t.close(1)
    assert t.flags(1) == [RST | ACK]
    assert t.pair.hosts[1].net.mib["TcpExtTCPAbortOnClose"] == 1
    t.run()
    assert t.read(0, 10).ret.value == -errno.ECONNRESET
    assert t.read(0, 10).ret.value == 0


def test_lingering_for_no_time_resets_and_for_some_time_waits_for_the_acknowledgment() -> None:
    t = Talk()
    t.sock(0).sk_flags.add("SOCK_LINGER")
    assert t.close(0).done
    assert t.flags(0) == [RST | ACK]

    t = Talk()
    t.sock(0).sk_flags.add("SOCK_LINGER")
    t.sock(0).sk_lingertime = 2_000_000
    began = t.pair.now
    task = t.close(0)
    assert not task.done
    t.run()
    assert task.done
    tick = (began + 10_000) // 1000 * 1000 + 1000  # a FIN without data is acknowledged at the next tick
    assert task.returned == tick + 10_000


def test_a_shutdown_of_the_sending_side_leaves_the_other() -> None:
    t = Talk()
    assert t.ret(0, calls.sys_shutdown(t.pair.hosts[0].process, t.fds[0], 1)) == 0
    assert t.write(0, 1).ret.value == -errno.EPIPE
    t.run()
    assert t.sock(0).sk_state == St.FIN_WAIT2
    t.write(1, 10)
    t.run()
    assert t.read(0, 100).ret.value == 10


def test_a_nonblocking_connect_is_in_progress_then_already_then_done() -> None:
    t = Talk(connect=False)
    server, client = t.pair.hosts[1].process, t.pair.hosts[0].process
    s = t.ret(1, calls.sys_socket(server, 2, 1, 0))
    t.ret(1, calls.sys_bind(server, s, SockAddr(2, ADDRESSES[1], 80)))
    t.ret(1, calls.sys_listen(server, s, 1))
    c = t.ret(0, calls.sys_socket(client, 2, 1 | NONBLOCK, 0))
    to = SockAddr(2, ADDRESSES[1], 80)
    assert t.ret(0, calls.sys_connect(client, c, to)) == -errno.EINPROGRESS
    assert t.flags(0) == [SYN]
    assert t.ret(0, calls.sys_connect(client, c, to)) == -errno.EALREADY
    assert t.ret(0, calls.sys_write(client, c, 5)) == -errno.EAGAIN
    assert poll.tcp_poll(t.of(0, c)) == 0
    t.run()
    assert t.ret(0, calls.sys_connect(client, c, to)) == 0
    assert t.ret(0, calls.sys_connect(client, c, to)) == -errno.EISCONN
    assert poll.tcp_poll(t.of(1, s)) == poll.EPOLLIN | poll.EPOLLRDNORM
    fd = t.ret(1, calls.sys_accept(server, s, NONBLOCK))
    assert t.ret(1, calls.sys_read(server, fd, 1)) == -errno.EAGAIN


def test_a_connect_to_nobody_is_refused_and_may_be_tried_again() -> None:
    t = Talk(connect=False)
    client = t.pair.hosts[0].process
    c = t.ret(0, calls.sys_socket(client, 2, 1, 0))
    task = t.start(0, calls.sys_connect(client, c, SockAddr(2, ADDRESSES[1], 81)))
    t.run()
    assert task.ret.value == -errno.ECONNREFUSED
    task = t.start(0, calls.sys_connect(client, c, SockAddr(2, ADDRESSES[1], 81)))
    assert t.flags(0) == [SYN, SYN]


def test_a_disconnect_resets_and_makes_the_socket_as_new() -> None:
    t = Talk()
    client = t.pair.hosts[0].process
    assert t.ret(0, calls.sys_connect(client, t.fds[0], SockAddr(0))) == 0
    assert t.flags(0) == [RST | ACK]
    sk = t.sock(0)
    assert (sk.sk_state, sk.inet_dport, sk.sk_err) == (St.CLOSE, 0, errno.ECONNRESET)


def test_an_edge_triggered_writer_is_told_when_a_third_of_the_buffer_is_free() -> None:
    t = Talk()
    client = t.pair.hosts[0].process
    epfd = t.ret(0, calls.sys_epoll_create(client))
    t.ret(0, calls.sys_epoll_ctl(client, epfd, 1, t.fds[0], poll.EPOLLOUT | 1 << 31, 5))
    assert t.start(0, calls.sys_epoll_wait(client, epfd, 1, 0)).ret.data == [(poll.EPOLLOUT, 5)]
    t.write(0, 3_000_000, MSG_DONTWAIT)
    assert t.start(0, calls.sys_epoll_wait(client, epfd, 1, 0)).ret.data == []
    task = t.start(0, calls.sys_epoll_wait(client, epfd, 1, 1000))
    while not task.done:
        sk = t.sock(0)
        assert t.pair.step()
    assert task.ret.data == [(poll.EPOLLOUT, 5)]
    assert sk.sk_sndbuf - sk.sk_wmem_queued >= sk.sk_wmem_queued >> 1


def test_the_queue_length_rides_on_a_read_if_asked_for() -> None:
    t = Talk()
    t.sock(1).recvmsg_inq = True
    t.write(0, 100)
    t.run()
    task = t.start(1, calls.sys_recvmsg(t.pair.hosts[1].process, t.fds[1], [60], 0, 100))
    assert task.ret.value == 60
    assert task.ret.data.cmsgs == ((6, 36, pack("<I", 40)),)
    task = t.start(1, calls.sys_recvmsg(t.pair.hosts[1].process, t.fds[1], [60], 0, 0))
    assert task.ret.data.flags == 8  # MSG_CTRUNC


def test_a_buffer_that_is_no_memory_gives_no_bytes_and_takes_none() -> None:
    t = Talk()
    server, client = t.pair.hosts[1].process, t.pair.hosts[0].process
    assert t.ret(0, calls.sys_write(client, t.fds[0], 1000, True)) == -errno.EFAULT
    assert t.sock(0).sk_wmem_queued == 0
    assert not t.sock(0).sk_write_queue
    t.write(0, 100)
    t.run()
    assert t.ret(1, calls.sys_read(server, t.fds[1], 1000, True)) == -errno.EFAULT
    assert t.ret(1, calls.sys_recv(server, t.fds[1], 40, MSG_TRUNC, True)) == 40
    assert t.read(1, 1000).ret.value == 60
