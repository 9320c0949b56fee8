"""A connection followed from both sides: frames in, labels and a verdict out.

The law: a frame is explained by the hypotheses decided so far; `following` does that, `hypotheses` what is tried where
one is refused, and here stand the verdict and what it tells.
"""

from functools import lru_cache
from typing import Final

from conformance.check.verdict import FrameLabel, Outcome, Verdict
from conformance.oracle.end import UNKNOWN, End, Interval, Refusal, us
from conformance.oracle.evidence import Evidence
from conformance.oracle.following import CUT, UNJUDGED
from conformance.oracle.hypotheses import Hypotheses
from conformance.oracle.view import cut
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.tcp.state import St

CLOSED: Final = (St.CLOSE, St.TIME_WAIT, St.LISTEN)

# Counters that the labels give exactly where the tap is on the counting host and nothing is lost before it.
EXACT: Final = frozenset({
    "Tcp.OutSegs", "Tcp.RetransSegs", "TcpExt.TCPOrigDataSent", "Tcp.ActiveOpens", "Tcp.PassiveOpens", "Tcp.OutRsts",
    "TcpExt.TCPSynRetrans", "TcpExt.TCPTimeouts", "TcpExt.TCPLossProbes", "TcpExt.TCPFastRetrans",
    "TcpExt.TCPSlowStartRetrans", "TcpExt.TCPSackRecovery", "TcpExt.TCPLostRetransmit", "TcpExt.TCPDSACKOldSent",
    "TcpExt.TCPDSACKRecv", "TcpExt.DelayedACKs", "TcpExt.TCPChallengeACK", "TcpExt.TCPWinProbe",
    "TcpExt.TCPKeepAlive", "TcpExt.TCPToZeroWindowAdv",
})  # fmt: skip
# Of these a segment that the tap saw is one that the kernel counted, whatever it did not see.
SURE: Final = frozenset({"Tcp.OutSegs", "Tcp.ActiveOpens"})


@lru_cache(1_024)
def _order(names: frozenset[str]) -> tuple[str, ...]:
    """The counters that a verdict names, in order."""
    return tuple(sorted(EXACT | names))


@lru_cache(4_096)
def _interval(low: int, high: int) -> Interval:
    """One value for all intervals that are alike: a capture may have very many connections."""
    return low, high


class Connection(Hypotheses):
    """One connection. `before` is the connection whose four-tuple it takes; `known`: that one was over, and let go."""

    def known_linux(self) -> list[bytes]:
        """The addresses of the ends whose handshake is Linux's."""
        if self.prelude is not None:
            return []
        return [
            e.address[0]
            for e in self.ends
            if e.stack.linux and e.stack.sure and any(x.startswith("Linux:") for x in e.stack.evidence)
        ]

    def is_over(self, now: int) -> bool:
        """Both ends are closed or in TIME_WAIT at `now` us, or nothing more will be said."""
        if self.prelude is not None:
            return any(s.flags & (RST | FIN) for s in self.prelude)
        self._flush()
        self._pump(True)
        if self.ended is not None or self.unknown:
            return True
        try:
            self._settle(now)
        except Refusal:
            return False
        return all(e.given_up or e.state in CLOSED for e in self.ends)

    def begins_anew(self, s: Segment) -> bool:
        """A SYN with another number, between ends that are through with this connection, starts a new one."""
        if s.flags & (SYN | ACK | RST) != SYN or not self.frames:
            return False
        if self.prelude is not None:
            same = [x for x in self.prelude if x.flags & SYN and x.saddr == s.saddr and x.source == s.source]
            if any(x.seq == s.seq for x in same):
                return False
            if not any(x.flags & (RST | FIN) for x in self.prelude) and not same:
                return False
            self._start()
        self._flush()
        self._pump(True)
        if self.ended is not None or self.unknown:
            return True
        if cut(s):
            return self.view.is_new(s)
        k = self._side(s)
        for e in self.ends:
            if not e.given_up:
                try:
                    e.settle(us(s), s.number)
                except Refusal:
                    return False
        return bool(self.ends[k].life.begins_anew(s))

    def verdict(self, end: int, keep: bool = True) -> Verdict:
        """The judgement when the capture has shown everything up to `end` us."""
        self._flush()
        if self.prelude is not None:
            self._start()
        self._pump(True)
        if self.ended is None and not self.unknown and self.records:
            try:
                self._settle(end)
            except Refusal as why:
                self._retry(why, self.records[-1], Evidence(self.records, True), end)
        inferred = (*self.setup.inferred, *self._inferred())
        if self.ended is not None:
            return Verdict(
                "tcp", self.subject, Outcome.DIVERGES, self.ended.what, divergence=self.ended, inferred=inferred
            )
        outcome, reason = Outcome.CONFORMS, ""
        if not self.unknown and cut(self.first) and all(label is CUT for _, _, label, _ in self.labels):
            self.unknown = CUT.note
        if self.unknown:
            outcome, reason = Outcome.INCONCLUSIVE, self.unknown
        elif not any(e.stack.linux for e in self.ends):
            outcome, reason = Outcome.NOT_MODELLED, "; ".join(self._strangers())
        return Verdict(
            "tcp",
            self.subject,
            outcome,
            reason,
            labels=self._labels() if keep else (),
            inferred=inferred,
            events=self._events() if keep else (),
            counters=self._counters() if keep else {},
        )

    def _labels(self) -> tuple[FrameLabel, ...]:
        names = [e.name for e in self.ends]
        linux = [e.stack.linux for e in self.ends]
        return tuple(
            FrameLabel(n, names[k], label.by, label.by, label.note, state.name)
            if linux[k]
            else FrameLabel(n, names[k], "", "", UNJUDGED.note, state.name)
            for n, k, label, state in self.labels
        )

    def _counters(self) -> dict[str, dict[str, Interval]]:
        """The counters of each host; on a loopback both ends are of one.

        Where segments may have left beside the tap the labels give the least; what a missing segment may change in the
        labels of others is not known at all.
        """
        hosts: dict[str, dict[str, Interval]] = {}
        for e in self.ends:
            if e.stack.linux and self._counts(e):
                whole = e.stack.near is True and e.stack.exact and not self.ended and not self.unknown
                low, high = e.counts.low, e.counts.high
                before = hosts.get(e.name)
                found: dict[str, Interval] = {}
                for name in _order(frozenset(low).union(before or ())):
                    least = low.get(name, 0) if whole or name in SURE else 0
                    most = high.get(name, 0) if whole else UNKNOWN
                    if before is not None and name in before:
                        least, most = least + before[name][0], min(most + before[name][1], UNKNOWN)
                    found[name] = _interval(least, most)
                hosts[e.name] = found
        return hosts

    def _counts(self, e: End) -> bool:
        """Whether this tap is the one that counts for the host of `e`, which does not only forward."""
        counted = self.setup.extra.get("counted")
        host = e.stack.host
        forwards = host is not None and host.mib.get("Ip.ForwDatagrams", 0) > 0 and not host.mib.get("Tcp.OutSegs", 0)
        return not forwards and (counted is None or e.name in counted)

    def _strangers(self) -> list[str]:
        """What is said of ends that are not Linux."""
        found = [f"{e.name} is not Linux: {e.stack.why_not}" for e in self.ends if not e.stack.linux]
        return found + [f"{e.name} {e.given_up}" for e in self.ends if e.given_up]

    def _inferred(self) -> list[str]:
        return [*self._strangers(), *(f"{e.name}: {x}" for e in self.ends for x in e.stack.evidence)]

    def _events(self) -> tuple[str, ...]:
        names = [e.name for e in self.ends]
        decided = [f"{names[k]}: frame {x.frame} {x.kind}: {x.evidence}" for k, x in self.decided]
        return tuple(decided + [f"{e.name}: {n}" for e in self.ends for n in e.notes])
