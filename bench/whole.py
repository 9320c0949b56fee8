"""Segments per second through the whole TCP, both ends of a connection in one process.

Run as ``python -m bench.whole``. Bulk transfers of growing length show whether a segment costs more when much went
before. Then a connection is frozen: what starts the stream never arrives and thousands of skbs wait behind it. One step
of that connection must not cost the length of its queues.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

from bench.measure import CONSOLE, best, table
from refmodel.tcp.whole import calls
from refmodel.tcp.whole.const import ACK
from refmodel.tcp.whole.pair import Fate, Pair, copy
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import Packet, TcpOptions
from refmodel.tcp.whole.sock import Sock
from refmodel.types import M32

DONTWAIT = 0x40
MSG_EOR = 0x80
SOL_TCP = 6
TCP_INFO = 11
POLLIN = 1
SIOCOUTQ = 0x5411
SIZES = (1_000_000, 4_000_000, 16_000_000)
LENGTHS = (1_000, 4_000, 16_000)
STEPS = 200
ARRIVES = Fate(delay=5_000)
LOST = Fate(copies=0)
HUGE = 1 << 30
TIMEOUT = "a retransmission timeout"


class Transfer:
    """`total` bytes from host 0 to host 1 over a wire of 5 ms, which the receiver reads as they come."""

    def __init__(self, total: int) -> None:
        big = WholeParams(tcp_rmem_1=6_291_456, tcp_wmem_1=4_194_304)
        self.total, self.left, self.got = total, total, 0
        self.pair = Pair(lambda host, number: ARRIVES, (big, big))
        self.fds = self.pair.connect()
        self.segments = -sum(self.pair.sent)

    def run(self, seconds: float = 600.0) -> None:
        """Sends and reads until all is there, or model time is over."""
        pair = self.pair
        sender, receiver = pair.hosts[0].process, pair.hosts[1].process
        fd, other = self.fds
        writing, reading = sender.fds[fd].sk, receiver.fds[other].sk
        end = pair.now + int(seconds * 1e6)
        acked = -1
        while self.got < self.total and pair.now < end:
            if writing.snd_una != acked:
                acked = writing.snd_una
                while self.left > 0:
                    n = sender.start(calls.sys_send(sender, fd, min(self.left, 65536), DONTWAIT)).ret.value
                    if n <= 0:
                        break
                    self.left -= n
            if reading.rcv_nxt != reading.copied_seq:
                self.got += receiver.start(calls.sys_recv(receiver, other, 1 << 20, DONTWAIT)).ret.value
            pair.settle()
            if not pair.step():
                break
        self.segments += sum(pair.sent)


class Frozen:
    """A connection whose first `length` segments are out, each an skb of its own, over a wire that swallows all."""

    def __init__(self, length: int) -> None:
        huge = WholeParams(tcp_rmem_1=HUGE, tcp_rmem_2=HUGE, tcp_wmem_1=HUGE, tcp_wmem_2=HUGE)
        self.pair = Pair(self.fate, (huge, huge), self.seen)
        self.open = True
        self.last: list[Packet] = []
        self.fds = self.pair.connect()
        self.fd, self.process = self.fds[0], self.pair.hosts[0].process
        self.call(calls.sys_send(self.process, self.fd, 1, DONTWAIT))
        self.pair.settle()
        self.pair.run(self.pair.now + 1_000_000)
        self.open = False
        self.sk: Sock = self.process.fds[self.fd].sk  # type: ignore[attr-defined]
        self.peer: Sock = self.pair.hosts[1].process.fds[self.fds[1]].sk  # type: ignore[attr-defined]
        self.mss = self.sk.mss_cache
        self.start = self.sk.snd_una
        self.like = next(p for p in reversed(self.last) if p.sport == self.peer.inet_sport)
        self.data = next(p for p in reversed(self.last) if p.dport == self.peer.inet_sport)
        self.length = length
        self.pick = random.Random(length)

    def fate(self, host: int, number: int) -> Fate:
        return ARRIVES if self.open else LOST

    def seen(self, host: int, packet: Packet) -> None:
        if self.open:
            self.last.append(packet)

    def at(self, n: int) -> int:
        """Where segment `n` begins."""
        return (self.start + n * self.mss) & M32

    def send(self, count: int) -> None:
        """That many segments leave."""
        self.sk.snd_cwnd, self.sk.snd_wnd, self.sk.sk_sndbuf = 1 << 20, HUGE, HUGE
        self.sk.sk_pacing_rate = (1 << 64) - 1
        for _ in range(count):
            self.call(calls.sys_send(self.process, self.fd, self.mss, DONTWAIT | MSG_EOR))
        self.pair.settle()

    def call(self, gen: calls.Call) -> calls.Ret:
        """A call that does not block."""
        return self.process.start(gen).ret

    def tick(self) -> None:
        """A microsecond passes for both."""
        for host in self.pair.hosts:
            host.net.now += 1

    def acked(self, blocks: Iterable[tuple[int, int]]) -> None:
        """The peer acknowledges nothing but these blocks of segments, three at most."""
        p = copy(self.like)
        p.ack_seq, p.window = self.start, self.like.window
        tsval = p.opts.tsval
        sacks = tuple((self.at(a), self.at(b)) for a, b in blocks)
        p.opts = TcpOptions(tsval=tsval, tsecr=p.opts.tsecr, sacks=sacks, size=16 + 8 * len(sacks) if sacks else 12)
        self.tick()
        self.pair.hosts[0].net.receive(p)
        self.pair.settle()

    def arrives(self, n: int) -> None:
        """Segment `n` arrives at the peer."""
        p = copy(self.data)
        p.seq, p.len, p.flags = (self.peer.rcv_nxt + n * self.mss) & M32, self.mss, ACK
        self.tick()
        self.pair.hosts[1].net.receive(p)
        self.pair.settle()


def one_hole(length: int) -> Frozen:
    """All but the first segment are SACKed."""
    f = Frozen(length)
    f.send(length)
    f.acked([(1, length)])
    return f


def many_holes(length: int) -> Frozen:
    """Every fourth segment is SACKed."""
    f = Frozen(length)
    f.send(length)
    for n in range(1, length - 12, 12):
        f.acked([(n + k, n + k + 1) for k in (0, 4, 8)])
    return f


def out_of_order(length: int) -> Frozen:
    """Of every four segments one has arrived, and the first has not."""
    f = Frozen(length)
    f.peer.sk_rcvbuf = f.peer.window_clamp = f.peer.rcv_ssthresh = f.peer.rcv_wnd = HUGE
    for n in range(length):
        f.arrives(4 * n + 1)
    return f


def scattered(f: Frozen, step: int) -> Iterator[int]:
    """Segments between those that are there, in any order."""
    places = [step * n + 3 for n in range(f.length * 4 // step // 4 - 8)]
    f.pick.shuffle(places)
    yield from places


Step = Callable[[], object]


def steps() -> Iterator[tuple[str, Callable[[int], Frozen], Callable[[Frozen], Step]]]:
    """What a connection with long queues is asked to do, by its name: the state, and the step in it."""

    def again(f: Frozen) -> Step:
        return lambda: f.acked([(1, f.length)])

    def longer(f: Frozen) -> Step:
        def step() -> None:
            f.send(1)
            f.length += 1
            f.acked([(1, f.length)])

        return step

    def between(f: Frozen) -> Step:
        places = scattered(f, 4)

        def step() -> None:
            n = next(places)
            f.acked([(n, n + 1)])

        return step

    def arrival(f: Frozen) -> Step:
        places = [4 * n + 3 for n in range(f.length - 1)]
        f.pick.shuffle(places)
        return lambda: f.arrives(places.pop())

    def behind(f: Frozen) -> Step:
        def step() -> None:
            f.length += 1
            f.arrives(4 * f.length + 1)

        return step

    def look(f: Frozen) -> Step:
        def step() -> None:
            f.call(calls.sys_getsockopt(f.process, f.fd, SOL_TCP, TCP_INFO, 256))
            f.call(calls.sys_ioctl(f.process, f.fd, SIOCOUTQ))
            f.call(calls.sys_poll(f.process, [(f.fd, POLLIN)], 0))

        return step

    def timeout(f: Frozen) -> Step:
        return f.pair.step

    yield "the same SACK again", one_hole, again
    yield "one more segment, SACKed", one_hole, longer
    yield "TCP_INFO, SIOCOUTQ, poll", one_hole, look
    yield TIMEOUT, one_hole, timeout
    yield "a SACK anywhere between", many_holes, between
    yield "a segment behind the last one out of order", out_of_order, behind
    yield "a segment anywhere out of order", out_of_order, arrival


def one_step(step: Step, count: int = STEPS) -> float:
    """us of CPU that one step takes: the median, so that Python's own housekeeping doesn't count."""
    took = []
    for _ in range(count):
        started = time.process_time_ns()
        step()
        took.append(time.process_time_ns() - started)
    return statistics.median(took) / 1000


def main() -> None:
    t = table("bulk transfer: segments in both directions", "bytes", "segments", "CPU s", "segments/s", "us a segment")
    for size in SIZES:
        transfer = Transfer(size)
        seconds = best(1, transfer.run)
        n = transfer.segments
        t.add_row(f"{size:,}", f"{n:,}", f"{seconds:.2f}", f"{n / seconds:,.0f}", f"{1e6 * seconds / n:.1f}")
    CONSOLE.print(t)
    CONSOLE.print()
    t = table("us of one step, by skbs in the queue", "step", *(f"{n:,}" for n in LENGTHS), "last to first")
    for name, state, make in steps():
        took = [one_step(make(state(n)), 10 if name == TIMEOUT else STEPS) for n in LENGTHS]
        t.add_row(name, *(f"{us:.0f}" for us in took), f"{took[-1] / took[0]:.1f}")
    CONSOLE.print(t)


if __name__ == "__main__":
    main()
