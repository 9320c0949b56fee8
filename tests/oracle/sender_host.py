"""A host whose sender half is real, and whose other parts agree with everything."""

from collections import deque
from typing import Any

from conformance.oracle.end import End, Label, Refusal, Stack
from conformance.oracle.sender import Sender
from refmodel.packet.segment import Segment
from refmodel.packet.transport import RST, SYN
from refmodel.tcp.state import St
from tests.oracle.frames import ACK, APORT, FIN, PSH, A, Tap, syn_options, ts

MSS = 1448
MS = 1_000
SECOND = 1_000_000


class Quiet:
    """A part that says nothing. `gap` is what the ids tell of the frame: segments that left unseen, None: nothing."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.gap: int | None = None
        self.late = False
        self.trusted = True

    def steps_since_last(self, s: Segment) -> int | None:
        return self.gap

    def overtaken(self, s: Segment) -> bool:
        return self.late

    def takes(self, s: Segment) -> bool:
        return True

    def explain(self, s: Segment) -> Label | None:
        if s.flags & RST:
            return Label("tcp_send_active_reset")
        if s.flags & SYN:
            return Label("tcp_retransmit_timer" if self.end.tx.iss == s.seq else "tcp_connect")
        return None

    def nothing(self, *args: Any) -> None:
        """Agrees."""

    heard = check = missed = overdue = sent = moves = nothing

    def cause(self, s: Segment) -> Label:
        return Label("tcp_send_ack")


class Eager(Quiet):
    """A receiver that has processed whatever came."""

    def explain(self, s: Segment) -> None:
        while self.end.pending and not self.end.held(self.end.pending[0], s.number):
            self.end.process()


class Host:
    """A, near the tap, opened to B with timestamps and SACK, round trip `rtt` us. Sequence numbers count from 1."""

    def __init__(self, rtt: int = 10 * MS, sack: bool = True, wscale: int | None = 7, **stack: Any) -> None:
        self.tap = Tap()
        given: dict[str, Any] = {"kernel": "6.12", "near": True, "given": True, "lossy": False, "exact": True}
        self.end = End("a", 0, (A, APORT), Stack(**(given | stack)))
        self.peer = End("b", 1, (b"", 0), Stack())
        self.end.peer, self.peer.peer = self.peer, self.end
        self.tx = self.end.tx = Sender(self.end)
        self.peer.tx = Sender(self.peer)
        self.ident = self.end.ident = Quiet(self.end)
        self.end.life, self.end.rx = Quiet(self.end), Eager(self.end)
        self.end.state = St.ESTABLISHED
        self.seq = 0
        self.una = 1
        self.clock0 = self.tap.us
        self.sack = sack
        self.end.sends(self.tap.frame(0, SYN, 0, options=syn_options(self.now, sack=sack, ws=wscale)))
        answer = self.tap.frame(
            1, SYN | ACK, 0, 1, options=syn_options(7, self.now, sack=sack, ws=wscale), after=rtt, window=64_240
        )
        self.peer.tx.syn = answer
        self.end.hears(answer)
        self.seq = 1
        self.sends(b"")

    @property
    def now(self) -> int:
        """The timestamp clock, in ms."""
        return 50_000 + (self.tap.us - self.clock0) // MS

    def at(self, us: int) -> None:
        """Time passes."""
        self.tap.us += us

    def frame(self, payload: bytes = b"", seq: int = -1, flags: int = ACK, **fields: Any) -> Segment:
        """A frame of A: the next one, or at `seq`."""
        self.at(fields.pop("after", 10))
        fields.setdefault("options", ts(self.now, 7))
        bits, at = flags | (PSH if payload else 0), self.seq if seq < 0 else seq
        return self.tap.frame(0, bits, at, 1, payload=payload, after=0, **fields)

    def sends(self, payload: bytes = b"", seq: int = -1, flags: int = ACK, **fields: Any) -> str:
        """A sends it; the label."""
        s = self.frame(payload, seq, flags, **fields)
        label = self.end.sends(s)
        if seq < 0:
            self.seq += len(payload) + (1 if flags & FIN else 0)
        return label.by

    def data(self, segments: int = 1, size: int = MSS) -> None:
        """A sends new data, a segment a frame."""
        for _ in range(segments):
            self.sends(bytes(size))

    def refuses(self, payload: bytes = b"", seq: int = -1, flags: int = ACK, **fields: Any) -> Refusal:
        """The refusal of a frame of A."""
        try:
            self.end.sends(self.frame(payload, seq, flags, **fields))
        except Refusal as why:
            return why
        raise AssertionError("the frame was not refused")

    def hears(
        self,
        ack: int,
        *blocks: tuple[int, int],
        window: int = 502,
        payload: bytes = b"",
        echo: int = 0,
        after: int = 10,
    ) -> Segment:
        """B acknowledges up to `ack`, with SACK blocks; `echo` is its TSecr (0: now)."""
        self.at(after)
        options = ts(7, echo or self.now)
        if blocks:
            n = len(blocks)
            options += (
                b"\x01\x01" + bytes((5, 2 + 8 * n)) + b"".join(x.to_bytes(4, "big") for block in blocks for x in block)
            )
        s = self.tap.frame(1, ACK, 1, ack, options=options, window=window, payload=payload, after=0)
        self.end.hears(s)
        return s

    def takes(self, ack: int, *blocks: tuple[int, int], **fields: Any) -> Segment:
        """The same, processed at once."""
        s = self.hears(ack, *blocks, **fields)
        self.end.pending, waiting = deque(), self.end.pending
        for x in waiting:
            self.end.pending.append(x)
            self.end.process()
        return s

    def count(self, name: str) -> int | tuple[int, int]:
        """A derived counter: its value, or its interval where that is not known."""
        low, high = self.end.counts.low.get(name, 0), self.end.counts.high.get(name, 0)
        return low if low == high else (low, high)
