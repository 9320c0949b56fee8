"""The receiver's sequence space: what is in order, what waits behind a hole, and which blocks tell the peer of it.

The law: `nxt` ends what is in order; `ranges` are sorted, apart, and lie beyond it; `blocks` are the kernel's
selective_acks, the one that changed last first, four at most; `dsack` is what arrived twice and was not yet told.
Sequence numbers are unwrapped: they go on beyond 2^32, so that they compare as integers.
"""

from typing import Final

from refmodel.types import H32, M32

NOTHING: Final = 0  # no sequence space
IN_ORDER: Final = 1
FILLED: Final = 2  # in order, and nothing is left behind a hole
BEHIND_HOLE: Final = 3
OLD: Final = 4  # wholly received before
OUT_OF_WINDOW: Final = 5
TCP_NUM_SACKS: Final = 4
TCP_SACK_BLOCKS_EXPECTED: Final = 2
Range = tuple[int, int]


def unwrap(seq: int, near: int) -> int:
    """The unwrapped number that `seq` stands for, within 2^31 of `near`."""
    d = (seq - near) & M32
    return near + d if d < H32 else near + d - (1 << 32)


class Reassembly:
    """rcv_nxt, the out-of-order queue as ranges, the SACK blocks in the kernel's order, a DSACK that is due.

    `sure`: each Linux would report `dsack`; where segments behind a hole overlap, that depends on how skbs were joined.
    `tells`: DSACKs are on (net.ipv4.tcp_dsack). `twice`: the segment that was taken last had bytes which were there
    already. `midway`: the blocks of an acknowledgment that was held back and left as the last segment's block was made:
    it is extended, and not yet the first. `fin`: where a FIN behind a hole ends, -1 without one. `joined`: `dsack` if
    the segment and those before it, which came twice too, were joined while a process held the socket.
    """

    __slots__ = (
        "blocks", "dsack", "fin", "joined", "midway", "nxt", "ranges", "sack", "sure", "tells", "told_at_fin", "twice",
    )  # fmt: skip

    def __init__(self, nxt: int = 0, sack: bool = False, tells: bool = True) -> None:
        self.nxt, self.sack, self.tells = nxt, sack, tells
        self.ranges: list[Range] = []
        self.blocks: list[Range] = []
        self.dsack: Range | None = None
        self.joined: Range | None = None
        self.sure = self.twice = False
        self.midway: tuple[Range, ...] | None = None
        self.fin = -1
        self.told_at_fin: tuple[Range, ...] | None = None

    def copy(self) -> "Reassembly":
        """A copy to go on from."""
        new = Reassembly(self.nxt, self.sack, self.tells)
        new.ranges, new.blocks = list(self.ranges), list(self.blocks)
        new.dsack, new.sure, new.twice, new.midway = self.dsack, self.sure, self.twice, self.midway
        new.joined = self.joined
        new.fin, new.told_at_fin = self.fin, self.told_at_fin
        return new

    def take(self, seq: int, end: int, fin: bool, window: int, bare: bool) -> int:
        """Queues a segment's text; `bare`: a FIN alone, which 6.12 takes though the window is closed.

        Source: net/ipv4/tcp_input.c:tcp_data_queue, net/ipv4/tcp_ipv4.c:tcp_add_backlog. Returns what became of it.
        """
        if seq == end:
            return NOTHING
        last, self.joined = self.dsack and (self.joined or self.dsack), None
        self.dsack = self.told_at_fin = self.midway = None
        self.twice = False
        nxt = self.nxt
        if seq == nxt:
            if window == 0 and not bare:
                return OUT_OF_WINDOW
            return self._in_order(end, fin)
        if end <= nxt:
            self._duplicate(seq, end)
            self._joins(last, seq, end)
            return OLD
        if seq >= nxt + window:
            return OUT_OF_WINDOW
        if seq < nxt:
            self._duplicate(seq, nxt)
            return self._in_order(end, fin) if window else OUT_OF_WINDOW
        self._behind_hole(seq, end, fin)
        return BEHIND_HOLE

    def refused(self, seq: int, end: int) -> None:
        """What validation refuses came twice; source net/ipv4/tcp_input.c:tcp_send_dupack."""
        last, self.joined = self.dsack and (self.joined or self.dsack), None
        self.dsack, self.sure = (seq, end), True
        self._joins(last, seq, end)

    def _joins(self, last: Range | None, seq: int, end: int) -> None:
        if last is not None and last[1] == seq:
            self.joined = (last[0], end)

    def _duplicate(self, seq: int, end: int, sure: bool = True) -> None:
        """What arrived twice is told by the next acknowledgment; source net/ipv4/tcp_input.c:tcp_dsack_set."""
        self.twice = True
        if self.sack and self.tells:
            self.dsack, self.sure = (seq, end), sure

    def _in_order(self, end: int, fin: bool) -> int:
        """Source net/ipv4/tcp_input.c:tcp_queue_rcv, tcp_ofo_queue, tcp_fin, tcp_sack_remove."""
        self.nxt = end
        if fin:
            self._fin()
            return IN_ORDER
        if not self.ranges:
            return IN_ORDER
        while self.ranges and self.ranges[0][0] <= self.nxt:
            start, stop = self.ranges.pop(0)
            if start < end and not self.twice:
                self._duplicate(start, min(stop, end))
            self.nxt = max(self.nxt, stop)
            if 0 <= self.fin <= self.nxt:
                self._fin()
                return FILLED
        if not self.ranges:
            self.blocks.clear()
            return FILLED
        self.blocks = [b for b in self.blocks if b[0] > self.nxt]
        return IN_ORDER

    def _fin(self) -> None:
        """What an acknowledgment within tcp_fin tells is what was told before; then nothing is left to tell."""
        self.told_at_fin = tuple(self.blocks)
        self.ranges.clear()
        self.blocks.clear()
        self.fin = -1

    def _behind_hole(self, seq: int, end: int, fin: bool) -> None:
        """Source net/ipv4/tcp_input.c:tcp_data_queue_ofo."""
        first = not self.ranges
        start, stop, i = seq, end, 0
        ranges = self.ranges
        while i < len(ranges) and ranges[i][1] < seq:
            i += 1
        j = i
        while j < len(ranges) and ranges[j][0] <= end:
            low, high = ranges[j]
            if not self.twice and max(low, seq) < min(high, end):
                self._duplicate(max(low, seq), min(high, end), False)
            start, stop = min(start, low), max(stop, high)
            j += 1
        ranges[i:j] = [(start, stop)]
        if fin:
            self.fin = end
        if self.sack:
            if first:
                self.blocks = [(seq, end)]
            else:
                self._new_block(seq, end)

    def _new_block(self, seq: int, end: int) -> None:
        """Puts the block of a segment first; source net/ipv4/tcp_input.c:tcp_sack_new_ofo_skb.

        One that stands behind TCP_SACK_BLOCKS_EXPECTED others sends what tcp_sack_compress_send_ack held back.
        """
        blocks = self.blocks
        for i, (low, high) in enumerate(blocks):
            if seq <= high and low <= end:
                low, high = min(low, seq), max(high, end)
                if i >= TCP_SACK_BLOCKS_EXPECTED:
                    self.midway = (*blocks[:i], (low, high), *blocks[i + 1 :])
                del blocks[i]
                rest = []
                for b in blocks:
                    if low <= b[1] and b[0] <= high:
                        low, high = min(low, b[0]), max(high, b[1])
                    else:
                        rest.append(b)
                self.blocks = [(low, high), *rest]
                return
        if len(blocks) >= TCP_NUM_SACKS:
            del blocks[TCP_NUM_SACKS - 1 :]
        blocks.insert(0, (seq, end))
