"""One end of a connection as the oracle sees it, and the words that its parts speak.

The law: an input is stamped by the tap and processed by the stack at two times. What was stamped waits in `pending`; it
is processed when a frame of this end shows it, when it is older than `base` (the least time in which this end was seen
to answer) as the end sends, and at the latest `late` behind its stamp.
"""

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from conformance.oracle.terms import UNKNOWN, Excuse, Interval, Kind, Label, Refusal, Stack
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, RST, SYN
from refmodel.tcp.state import St

if TYPE_CHECKING:
    from conformance.oracle.identity import Identity
    from conformance.oracle.life import Life
    from conformance.oracle.receiver import Receiver
    from conformance.oracle.sender import Sender


class Counts:
    """Counters derived from labels, each an interval of the kernel's value."""

    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low: dict[str, int] = {}
        self.high: dict[str, int] = {}

    def add(self, name: str, low: int = 1, high: int | None = None) -> None:
        """The kernel counted between `low` and `high` more; `name` as in a sidecar, "TcpExt.TCPTimeouts"."""
        self.low[name] = self.low.get(name, 0) + low
        self.high[name] = self.high.get(name, 0) + (low if high is None else high)

    def copy(self) -> "Counts":
        """A copy to go on from."""
        new = Counts()
        new.low, new.high = dict(self.low), dict(self.high)
        return new

    def intervals(self) -> dict[str, Interval]:
        """Every counter touched."""
        return {n: (self.low[n], self.high[n]) for n in sorted(self.low)}


def us(s: Segment) -> int:
    """When the tap stamped the segment, in us."""
    return s.time // 1000


class End:
    """One end. `rx`, `tx`, `life`, `ident` are its parts, `peer` the other end; `state` its TCP state.

    `given_up` says why a foreign end is not followed any more.
    """

    __deletable__: ClassVar[list[str]] = ["ident", "life", "peer", "rx", "tx"]  # by `following.take_apart`
    __slots__ = (
        "address",
        "counts",
        "decided",
        "given_up",
        "ident",
        "last_sent",
        "life",
        "longest",
        "name",
        "notes",
        "peer",
        "pending",
        "rx",
        "side",
        "stack",
        "state",
        "tx",
    )  # fmt: skip

    def __init__(self, name: str, side: int, address: tuple[bytes, int], stack: Stack) -> None:
        self.name, self.side, self.address, self.stack = name, side, address, stack
        self.state = St.CLOSE
        self.pending: deque[Segment] = deque()
        self.decided: Mapping[int, Excuse] = {}
        self.counts = Counts()
        self.notes: list[str] = []
        self.last_sent: Segment | None = None
        self.given_up = ""
        self.longest = 0  # bytes of the longest segment of new data, while the path's MTU is probed
        self.peer: End
        self.rx: Receiver
        self.tx: Sender
        self.life: Life
        self.ident: Identity

    def copy(self) -> "End":
        """A copy to go on from; the caller sets `peer`."""
        new = End(self.name, self.side, self.address, self.stack)
        new.state, new.pending, new.decided = self.state, deque(self.pending), self.decided
        new.counts, new.notes, new.last_sent = self.counts.copy(), list(self.notes), self.last_sent
        new.given_up, new.longest = self.given_up, self.longest
        new.rx, new.tx, new.life, new.ident = self.rx.copy(), self.tx.copy(), self.life.copy(), self.ident.copy()
        new.rx.end = new.tx.end = new.life.end = new.ident.end = new
        return new

    # -- inputs

    def hears(self, s: Segment) -> None:
        """The tap saw a frame to this end."""
        self.ident.heard(s)
        self.pending.append(s)

    def process(self) -> Segment:
        """Processes the next input, unless it is decided that it was dropped."""
        s = self.pending.popleft()
        why = self.decided.get(s.number)
        if why is not None and why.kind == "dropped":
            self.rx.missed(s)
        elif self.life.takes(s):
            self.tx.takes(s)
            self.rx.takes(s)
            if self.state is not St.ESTABLISHED:
                self.life.moves()
        return s

    def held(self, s: Segment, before: int) -> bool:
        """Whether it is decided that input `s` was processed only after frame `before` left."""
        why = self.decided.get(s.number)
        return why is not None and why.kind == "late" and before <= why.until

    def settle(self, now: int, frame: int = UNKNOWN) -> None:
        """Processes what is older than `late` at `now` (us); what must have shown by then is asked for."""
        oldest = now - self.stack.late
        while self.pending and us(self.pending[0]) < oldest and not self.held(self.pending[0], frame):
            self.process()
        try:
            self.rx.overdue(now)
            self.tx.overdue(now)
            self.life.overdue(now)
        except Refusal as why:
            why.side = self.side
            raise

    # -- outputs

    def sends(self, s: Segment) -> Label:
        """Explains an output; raises Refusal."""
        self.ident.check(s)
        self.settle(us(s), s.number)
        label: Label | None = self.life.explain(s)
        if label is None:
            self.rx.explain(s)
            label = self.tx.classify(s)
            if label is None:
                label = self.rx.cause(s)
        elif s.flags & (SYN | ACK | RST) == ACK and self.stack.linux:
            self.rx.answers(s)
        if not s.flags & RST:
            self.rx.sent(s, label)
        self.tx.sent(s, label)
        self.life.sent(s, label)
        self.last_sent = s
        return label

    @property
    def probing(self) -> bool:
        """Whether this host is known to search for its path's MTU."""
        return bool(self.stack.told.get("net.ipv4.tcp_mtu_probing"))

    def grown(self, s: Segment, label: Label) -> Label:
        """The label of new data where the MTU is probed for: a segment longer than all before it is a probe.

        Source net/ipv4/tcp_output.c:tcp_mtu_probe.
        """
        before, self.longest = self.longest, max(self.longest, s.len)
        return Label("tcp_mtu_probe", f"{s.len} bytes, {before} before") if 0 < before < s.len else label

    def words(self) -> str:
        """The state in words."""
        parts = (self.life, self.tx, self.rx)
        return f"{self.name} {self.state.name}: " + "; ".join(w for p in parts if (w := p.words()))


__all__ = ["UNKNOWN", "Counts", "End", "Excuse", "Interval", "Kind", "Label", "Refusal", "Stack", "us"]
