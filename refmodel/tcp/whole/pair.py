"""Two whole TCPs and the wire between them.

The law: a packet that leaves one host is cut into segments as a network device would cut it, and each segment meets its
own fate: lost, delivered late, twice, or damaged (a bad checksum). Deliveries, timers and the applications' calls
happen in the order of their times; equal times in the order in which they were put there. The same fates give the same
run.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from refmodel.tcp.whole.calls import Process, SockAddr
from refmodel.tcp.whole.const import CWR, FIN, PSH
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Packet
from refmodel.types import add

AF_INET: Final = 2
ADDRESSES: Final = (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))


class Fate(Struct, frozen=True):
    """What the wire does to one segment: `copies` of it arrive (0: lost), each `delay` us later; `damaged`: unread."""

    delay: int = 10_000
    copies: int = 1
    damaged: bool = False


class Host:
    """A namespace, its one process, and its address."""

    def __init__(self, address: bytes, params: WholeParams) -> None:
        self.net = Net(params)
        self.net.local_addrs.append(address)
        self.process = Process(self.net)
        self.address = address


class Pair:
    """Two hosts on a wire. `fate` is asked for each segment (host index, segment's number); `seen` is told of each."""

    def __init__(
        self,
        fate: Callable[[int, int], Fate],
        params: tuple[WholeParams, WholeParams] = (WholeParams(), WholeParams()),
        seen: Callable[[int, Packet], None] | None = None,
    ) -> None:
        self.hosts = (Host(ADDRESSES[0], params[0]), Host(ADDRESSES[1], params[1]))
        self.fate = fate
        self.seen = seen
        self.sent = [0, 0]
        self._wire: list[tuple[int, int, int, Packet]] = []
        self._order = 0

    @property
    def now(self) -> int:
        """us."""
        return self.hosts[0].net.now

    def collect(self) -> None:
        """Puts what left either host on the wire."""
        for i, host in enumerate(self.hosts):
            out = host.net.out
            while out:
                packet = out.popleft()
                for part in cut(packet) if packet.gso_size and packet.len > packet.gso_size else (copy(packet),):
                    self._launch(i, part)

    def _launch(self, i: int, part: Packet) -> None:
        """One segment of host `i` meets its fate."""
        if self.seen is not None:
            self.seen(i, part)
        fate = self.fate(i, self.sent[i])
        self.sent[i] += 1
        at = self.hosts[0].net.now + fate.delay
        for n in range(fate.copies):
            self._order += 1
            arriving = copy(part) if n else part
            arriving.bad_csum = part.bad_csum or fate.damaged
            heapq.heappush(self._wire, (at + n, self._order, 1 - i, arriving))

    def settle(self) -> None:
        """Lets both processes go on as far as they can, and puts on the wire what leaves."""
        for host in self.hosts:
            if host.process.blocked:
                host.process.settle()
        self.collect()

    def next(self) -> int | None:
        """When the next delivery or timer is (us); None: nothing will ever happen by itself."""
        when = self._wire[0][0] if self._wire else None
        for host in self.hosts:
            timer = host.net.next_timer()
            if timer is not None and (when is None or timer < when):
                when = timer
        return when

    def step(self) -> bool:
        """Lets time pass to the next delivery or timer and carries it out; False if there is none."""
        when = self.next()
        if when is None:
            return False
        for host in self.hosts:
            net = host.net
            if net.now < when:
                net.now = when
        if self._wire and self._wire[0][0] <= when:
            _, _, to, packet = heapq.heappop(self._wire)
            self.hosts[to].net.receive(packet)
        else:
            for host in self.hosts:
                host.net.advance(when)
        self.settle()
        return True

    def run(self, until: int) -> None:
        """Lets everything happen up to a time (us)."""
        while (when := self.next()) is not None and when <= until:
            self.step()
        for host in self.hosts:
            host.net.advance(until)
        self.settle()

    def connect(self, port: int = 8080, limit: int = 300_000_000) -> tuple[int, int]:
        """A connection from host 0 to host 1: both descriptors; raises TimeoutError after `limit` us."""
        from refmodel.tcp.whole import calls

        client, server = self.hosts[0].process, self.hosts[1].process
        s = server.start(calls.sys_socket(server, AF_INET, 1, 0)).ret.value
        server.start(calls.sys_bind(server, s, SockAddr(AF_INET, ADDRESSES[1], port)))
        server.start(calls.sys_listen(server, s, 10))
        accepting = server.start(calls.sys_accept(server, s))
        c = client.start(calls.sys_socket(client, AF_INET, 1, 0)).ret.value
        connecting = client.start(calls.sys_connect(client, c, SockAddr(AF_INET, ADDRESSES[1], port)))
        self.settle()
        end = self.now + limit
        while not (accepting.done and connecting.done):
            if self.now > end or not self.step():
                raise TimeoutError(f"not connected after {limit / 1e6:.0f} s")
        if connecting.ret.value < 0:
            raise ConnectionError(f"connect: errno {-connecting.ret.value}")
        server.start(calls.sys_close(server, s))
        self.settle()
        return c, accepting.ret.value


def copy(p: Packet) -> Packet:
    """A packet of its own with the same content, as one segment."""
    return Packet(
        p.saddr, p.daddr, p.sport, p.dport, p.seq, p.ack_seq, p.flags, p.window, p.len, p.opts, p.urg_ptr, p.tos, p.ttl,
        0, 1, 0, p.by, p.time, p.bad_csum, p.md5_ok, p.flowlabel,
    )  # fmt: skip


def cut(p: Packet) -> Iterator[Packet]:
    """A super-segment as the segments that a device makes of it; source net/ipv4/tcp_offload.c:tcp_gso_segment."""
    for at in range(0, p.len, p.gso_size):
        part = copy(p)
        part.seq, part.len = add(p.seq, at), min(p.gso_size, p.len - at)
        part.flags = p.flags & ~(CWR if at and not p.accecn else 0) & ~(FIN | PSH if at + part.len < p.len else 0)
        yield part


__all__ = ["ADDRESSES", "Fate", "Host", "Pair", "copy", "cut"]
