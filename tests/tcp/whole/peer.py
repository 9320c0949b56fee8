"""One namespace with one connection, whose other end is the test: segments go in by hand, and what leaves is kept."""

from refmodel.tcp.whole import calls
from refmodel.tcp.whole.const import ACK, SYN
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Packet, SockAddr, TcpOptions
from refmodel.tcp.whole.sock import Sock

US, THEM = bytes((192, 168, 0, 1)), bytes((192, 0, 2, 1))
PORT, THEIR_PORT = 8080, 40000
M32 = 0xFFFFFFFF


class Peer:
    """A passive connection of `net`, 100 ms after its SYN. Sequence numbers of either end are relative, from 0."""

    def __init__(
        self, ts: bool = False, sack: bool = True, rcvbuf: int = 0, accept: bool = True, **params: int
    ) -> None:
        self.net = net = Net(WholeParams(**params))
        net.local_addrs.append(US)
        self.process = calls.Process(net)
        p, start = self.process, self.process.start
        self.listener = start(calls.sys_socket(p, 2, 1, 0)).ret.value
        if rcvbuf:
            start(calls.sys_setsockopt(p, self.listener, 1, 8, rcvbuf.to_bytes(4, "little")))
        start(calls.sys_bind(p, self.listener, SockAddr(2, US, PORT)))
        start(calls.sys_listen(p, self.listener, 5))
        self.ts = ts
        self.isn = 0
        opts = TcpOptions(mss=1000, sack_perm=sack, wscale=7, tsval=1000 if ts else None)
        self.inject(0, 0, SYN, 32792, opts=opts)
        self.isn = self.out()[0].seq
        self.pass_ms(100)
        self.inject(1, 1, ACK, 257)
        self.fd = start(calls.sys_accept(p, self.listener)).ret.value if accept else -1
        self.net.out.clear()
        self.before = dict(net.mib)

    @property
    def sk(self) -> Sock:
        file = self.process.fds[self.fd]
        assert isinstance(file, calls.StreamFile)
        return file.sk

    def inject(
        self,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        length: int = 0,
        opts: TcpOptions | None = None,
        urg_ptr: int = 0,
    ) -> None:
        self.net.receive(
            Packet(THEM, US, THEIR_PORT, PORT, seq & M32, (self.isn + ack) & M32, flags, window, length, opts, urg_ptr)
        )
        self.process.settle()

    def data(
        self, seq: int, length: int, flags: int = ACK, ack: int = 1, tsval: int | None = None, urg_ptr: int = 0
    ) -> list[Packet]:
        """A segment of theirs; returns what we answer at once."""
        opts = TcpOptions(tsval=tsval, tsecr=self.net.now // 1000 & M32) if tsval is not None else None
        self.inject(seq, ack, flags, 257, length, opts, urg_ptr)
        return self.out()

    def out(self) -> list[Packet]:
        """What has left since the last call."""
        packets = list(self.net.out)
        self.net.out.clear()
        return packets

    def pass_ms(self, ms: int) -> list[Packet]:
        self.net.advance(self.net.now + ms * 1000)
        self.process.settle()
        return self.out()

    def read(self, n: int) -> int:
        task = self.process.start(calls.sys_recv(self.process, self.fd, n, 0x40))
        assert task.ret is not None
        return task.ret.value

    @property
    def state(self) -> str:
        return self.sk.sk_state.name

    def close(self) -> list[Packet]:
        self.process.start(calls.sys_close(self.process, self.fd))
        return self.out()

    def counted(self) -> dict[str, int]:
        """The TcpExt counters that moved since the connection stood."""
        now = self.net.mib
        return {
            k[6:]: v - self.before.get(k, 0) for k, v in now.items() if k[:6] == "TcpExt" and v != self.before.get(k, 0)
        }
