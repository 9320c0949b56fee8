"""Segments per second through the whole TCP, both ends of a connection in one process.

Run as ``python -m bench.whole``. Bulk transfers of growing length show whether a segment's cost depends on how much went
before. In the second table the first data segment never arrives, so that the retransmit queue and the out-of-order queue
are long while everything behind it is SACKed: a step must not cost the length of the queue.
"""

from bench.measure import CONSOLE, best, table
from refmodel.tcp.whole import calls
from refmodel.tcp.whole.pair import Fate, Pair
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.sock import Packet

DONTWAIT = 0x40
SIZES = (1_000_000, 4_000_000, 16_000_000)


class Transfer:
    """`total` bytes from host 0 to host 1 over a wire of 5 ms; `hole`: whatever starts the stream never arrives."""

    def __init__(self, total: int, hole: bool = False) -> None:
        big = WholeParams(tcp_rmem_1=6_291_456, tcp_wmem_1=4_194_304)
        self.total, self.left, self.got = total, total, 0
        self.first: int | None = None
        self.hole = hole
        self.lost = False
        self.pair = Pair(self.fate, (big, big), self.seen)
        self.fds = self.pair.connect()
        self.segments = -sum(self.pair.sent)

    def seen(self, host: int, packet: Packet) -> None:
        """Notes whether a segment is the one that gets lost."""
        if host == 0 and packet.len and self.first is None:
            self.first = packet.seq
        self.lost = self.hole and host == 0 and packet.len > 0 and packet.seq == self.first

    def fate(self, host: int, number: int) -> Fate:
        """The wire."""
        return Fate(delay=5_000, copies=0 if self.lost else 1)

    def run(self, seconds: float = 600.0) -> None:
        """Sends and reads until all is there, or model time is over."""
        sender, receiver = self.pair.hosts[0].process, self.pair.hosts[1].process
        reading = receiver.fds[self.fds[1]].sk
        end = self.pair.now + int(seconds * 1e6)
        acked = -1
        writing = sender.fds[self.fds[0]].sk
        while self.got < self.total and self.pair.now < end:
            if writing.snd_una != acked:
                acked = writing.snd_una
                while self.left > 0:
                    n = sender.start(calls.sys_send(sender, self.fds[0], min(self.left, 65536), DONTWAIT)).ret.value
                    if n <= 0:
                        break
                    self.left -= n
            if reading.rcv_nxt != reading.copied_seq:
                self.got += receiver.start(calls.sys_recv(receiver, self.fds[1], 1 << 20, DONTWAIT)).ret.value
            self.pair.settle()
            if not self.pair.step():
                break
        self.segments += sum(self.pair.sent)


def main() -> None:
    t = table("bulk transfer: segments in both directions", "bytes", "segments", "CPU s", "segments/s", "us a segment")
    for size in SIZES:
        transfer = Transfer(size)
        seconds = best(1, transfer.run)
        n = transfer.segments
        t.add_row(f"{size:,}", f"{n:,}", f"{seconds:.2f}", f"{n / seconds:,.0f}", f"{1e6 * seconds / n:.1f}")
    CONSOLE.print(t)


if __name__ == "__main__":
    main()
