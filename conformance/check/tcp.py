"""TCP connections of a capture: each end that is Linux is held to the specification, segment by segment.

A connection is first followed with one hypothesis an end (the first explanation of each segment). Only where that fails
it is followed again, from its start or its last checkpoint, with all hypotheses; what fails then diverges.
"""

from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.frontier import WIDTH, Apply, Arrival, Dead, Frontier, Hypothesis, Observation, labels
from conformance.check.infer import not_linux, sysctls
from conformance.check.known import known
from conformance.check.likely import Likely
from conformance.check.loss import losable
from conformance.check.setup import Host, Setup
from conformance.check.tcp_half import RECOVERY, us
from conformance.check.tcp_likely import LikelyTcp
from conformance.check.verdict import Divergence, FrameLabel, NearMiss, Outcome, Verdict
from conformance.check.wire import WireFacts
from refmodel.engine.run import pick
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, PSH, RST, SYN
from refmodel.profile import profile
from refmodel.rule import MACHINES, State
from refmodel.tcp.params import TcpParams, tcp_params
from refmodel.tcp.state import Sock, St, Tw
from refmodel.types import after

CHECKPOINT: Final = 512
OLD_BUFFERS: Final = ("6.1", "6.12")  # tcp_rmem[2] is at most 6 MiB, from 6.17 on 32 MiB
WSCALE_MAX: Final = 7
NEW_WSCALE_MAX: Final = 10
AROUND: Final = 3
OVERTAKES: Final = 1_000  # us: how long after another a segment that left before it may be seen, at the peer's tap
OVERTAKERS: Final = 64  # segments


def address(raw: bytes, port: int) -> str:
    """An address and port as text."""
    from ipaddress import ip_address

    ip = ip_address(raw)
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def line(s: Segment, t0: int = 0) -> str:
    """A segment as one line: number, seconds, who, flags, seq:end(len), ack, win."""
    flags = "".join(c for c, bit in (("S", SYN), ("F", FIN), ("R", RST), ("P", PSH), (".", ACK)) if s.flags & bit)
    ack = f" ack {s.ack_seq}" if s.flags & ACK else ""
    ts = f" TS {s.tsval}/{s.tsecr}" if s.tsval is not None else ""
    return (
        f"#{s.number} {(s.time - t0) / 1e9:.6f} {address(s.saddr, s.source)} > {address(s.daddr, s.dest)} "
        f"{flags} {s.seq}({s.len}){ack} win {s.window}{ts}"
    )


class Snapshot(Struct, frozen=True):
    """Where an end stood: its hypotheses and unprocessed inputs. `recovered` counts labels that were given up."""

    alive: tuple[Hypothesis, ...]
    arrivals: tuple[Arrival, ...]
    base: int
    recovered: int = 0


class End:
    """One end of a connection."""

    def __init__(self, name: str, half: LikelyTcp, apply: Apply, params: TcpParams, starts: Sequence[State]) -> None:
        self.name, self.half, self.apply, self.params = name, half, apply, params
        self.starts = tuple(starts)
        self.wire = WireFacts(half.late, half.known.recorded)
        self.front = self._front(False)
        self.front.alive = [Hypothesis(state=s) for s in self.starts]
        self.recovered = 0
        self.mark = self.next_mark = self.snapshot()

    def _front(self, wide: bool) -> Frontier:
        kind = Frontier if wide else Likely
        return kind(self.half, self.apply, self.params, (), self.half.late, wide)

    def snapshot(self) -> Snapshot:
        """Where the end stands now."""
        return Snapshot(tuple(self.front.alive), tuple(self.front.arrivals), self.front.base, self.recovered)

    def drop_labels(self) -> None:
        """Gives up the labels so far, but for the number of those in loss recovery."""
        if len(self.front.alive) == 1:
            h = self.front.alive[0]
            found, _ = labels(h.trail, self.name)
            self.recovered += sum(x.note == RECOVERY for x in found)
            self.front.alive[0] = replace(h, trail=None)

    def narrow(self) -> None:
        """Goes on with the first explanation of each segment, from every hypothesis that stands."""
        old, self.front = self.front, self._front(False)
        self.front.alive, self.front.arrivals, self.front.base = old.alive, old.arrivals, old.base

    def restart(self, at: Snapshot, lost: frozenset[int]) -> None:
        """Goes back to `at`, with all hypotheses from there on; segments of `lost` may not have arrived."""
        self.front = self._front(True)
        self.front.losable = lost
        self.half.forget()
        self.front.alive = list(at.alive)
        self.front.arrivals = list(at.arrivals)
        self.front.base = at.base
        self.recovered = at.recovered


class Connection:
    """One connection: two ends, of which those that are judged have an `End`.

    `before` is the connection whose place this one takes; `known`: there was one, and both its ends were closed.
    """

    def __init__(self, first: Segment, setup: Setup, before: "Connection | None" = None, known: bool = False) -> None:
        self.first, self.setup, self.known = first, setup, known
        self.labelled = True
        self.marked = 0
        self.sides = ((first.saddr, first.source), (first.daddr, first.dest))
        self.subject = f"{address(*self.sides[0])} > {address(*self.sides[1])}"
        self.records: list[Segment] = []
        self.kept: deque[Segment] = deque(maxlen=2 * AROUND + 1)
        self.wide = False
        self.lost: tuple[frozenset[int], ...] = ()
        self.ended: Divergence | None = None
        self.unknown = ""
        self.last = us(first)
        self.frames = 0
        self.hosts = tuple(setup.host_of(a) for a, _ in self.sides)
        self.told: list[dict[str, int] | None] = [None, None]
        self.foreign = ["", ""]
        self._infer(first, 0)
        self.ends: list[End | None] = [self._end(k, before) for k in (0, 1)]
        self.judged = [e.name for e in self.ends if e is not None]

    # -- set-up

    def _end(self, side: int, before: "Connection | None") -> End | None:
        host = self.hosts[side]
        if not self._judges(host) or self.foreign[side]:
            return None
        starts = self._starts(side)
        if not starts:
            self.unknown = "the capture starts in mid-connection: what was agreed in the handshake is not known"
            return None
        old = before.side(self.sides[side]) if before is not None else None
        waiting = [h.state for h in old.front.alive if isinstance(h.state, Tw)] if old is not None else []
        name = host.name if host is not None else address(*self.sides[side])
        given = host.sysctls if host is not None else self.told[side] or {}
        params = _params(self.setup.kernel, self.setup.hz, tuple(given.items()))
        half = LikelyTcp(params, self.setup.hz, self.setup.late, known(self.setup, host))
        if waiting:
            half.inherits = waiting[0].tw_ts_recent, waiting[0].tw_ts_recent_stamp
            starts = [*waiting, *starts]
        return End(name, half, dispatcher(self.setup.kernel), params, starts)

    def _infer(self, s: Segment, side: int) -> None:
        """Without a sidecar an end's first SYN tells whether it is Linux, and with which sysctls."""
        if self.setup.hosts or not s.flags & SYN or self.told[side] is not None:
            return
        self.foreign[side] = not_linux(s)
        self.told[side] = sysctls(s, self.first if side else None)

    def _meet(self, s: Segment) -> None:
        """The second end's first SYN: it may turn out not to be Linux, or to have other sysctls than were assumed."""
        self._infer(s, 1)
        old = self.ends[1]
        if old is None:
            return
        if self.foreign[1]:
            self.ends[1] = None
        elif self.told[1]:
            new = self._end(1, None)
            if new is not None:
                new.front.arrivals = old.front.arrivals
                new.mark = new.snapshot()
            self.ends[1] = new
        self.judged = [e.name for e in self.ends if e is not None]

    def _judges(self, host: Host | None) -> bool:
        return host.linux if host is not None else not self.setup.hosts

    def _starts(self, side: int) -> list[State]:
        opens = self.opens
        crafted = any(h is not None and not h.linux for h in self.hosts)
        whole = self.known or bool(self.setup.hosts)  # a recorded case starts before its connections do
        if side == 0:
            return [Sock()] if opens or whole else []
        return [Sock(state=St.LISTEN), Sock()] if opens or crafted or whole else []

    @property
    def opens(self) -> bool:
        """Whether its first segment is a SYN."""
        return self.first.flags & (SYN | ACK | RST | FIN) == SYN

    def is_over(self, now: int) -> bool:
        """Both ends are closed, or wait in TIME_WAIT, at `now` us; or nothing more will be said of it."""
        if self.ended is not None or not self.judged:
            return True
        for e in self.ends:
            if e is not None:
                e.front.advance(now)
                if not e.front.alive or any(h.owed or not _over(h.state) for h in e.front.alive):
                    return False
        return True

    def side(self, who: tuple[bytes, int]) -> End | None:
        """The end that is `who`."""
        return self.ends[self.sides.index(who)] if who in self.sides else None

    def known_linux(self) -> list[bytes]:
        """The addresses of the ends whose SYN is Linux's."""
        return [a for k, (a, _) in enumerate(self.sides) if self.told[k] is not None and not self.foreign[k]]

    # -- following

    def begins_anew(self, s: Segment) -> bool:
        """A SYN with another number between ends that are through with this connection starts a new one."""
        if s.flags & (SYN | ACK | RST) != SYN or not self.frames:
            return False
        if (s.saddr, s.source) == self.sides[0] and s.seq == self.first.seq:
            return False
        for e in self.ends:
            if e is not None and self.ended is None:
                e.front.advance(us(s))
        through = [
            self.ended is not None or not self.judged or any(_over(h.state) for h in e.front.alive)
            for e in self.ends
            if e is not None
        ]
        sender = self.side((s.saddr, s.source))
        if sender is not None and self.frames < 4 and self.side((s.daddr, s.dest)) is not None:
            opening = any(isinstance(h.state, Sock) and h.state.state == St.CLOSE for h in sender.front.alive)
            first_syn = (s.saddr, s.source) == self.sides[1] and opening
            if first_syn:
                return False
        return bool(through) and all(through)

    def feed(self, s: Segment) -> None:
        """Takes the next segment."""
        self.frames += 1
        at = s.time // 1000
        if at > self.last:
            self.last = at
        self.kept.append(s)
        if self.told[1] is None and s.flags & SYN and not self.setup.hosts and self._sender(s) is self.ends[1]:
            self._meet(s)
        if self.ended is not None or not self.judged:
            return
        self.records.append(s)
        wire = self._wire(s)
        if wire:
            self._diverge(s, self._sender(s), wire, ())
            return
        if not self._take(s) and not self._again():
            return
        if len(self.records) - self.marked >= CHECKPOINT:
            self._checkpoint()

    def _sender(self, s: Segment) -> End | None:
        return self.ends[0 if (s.saddr, s.source) == self.sides[0] else 1]

    def _wire(self, s: Segment) -> str:
        k = 0 if s.source == self.sides[0][1] and s.saddr == self.sides[0][0] else 1
        e, other = self.ends[k], self.ends[1 - k]
        if e is None:
            return ""
        why = e.wire.differs(s)
        largest = WSCALE_MAX if self.setup.kernel in OLD_BUFFERS else NEW_WSCALE_MAX
        facing = other.wire if other is not None else None
        return why or e.wire.agreed(s, facing) or e.wire.window(s, facing, e.half.news, largest)

    def _take(self, s: Segment) -> bool:
        k = 0 if s.source == self.sides[0][1] and s.saddr == self.sides[0][0] else 1
        sender, receiver = self.ends[k], self.ends[1 - k]
        at = s.time // 1000
        if receiver is not None:
            receiver.half.hears(s)
            receiver.front.arrive(Arrival(s.number, at, s))
            if not receiver.front.alive:
                return False
        if sender is None:
            return True
        explained = sender.front.observe(Observation(s.number, at, s))
        sender.half.saw(s)
        return explained

    def _again(self) -> bool:
        """Follows the connection again with all hypotheses; records the divergence if that fails too."""
        lost = tuple(losable(self.records, who) | self._said(k) for k, who in enumerate(self.sides))
        if self.wide and lost == self.lost:
            return self._failed(self.records[-1])
        self.wide, self.lost = True, lost
        for k, e in enumerate(self.ends):
            if e is not None:
                e.restart(e.mark, lost[k])
        for s in self.records:
            if not self._take(s):
                return self._failed(s)
        return True

    def _said(self, k: int) -> frozenset[int]:
        """The segments to side `k` that the recorder's own rules may have lost."""
        to, host = self.sides[k], self.hosts[k]
        return frozenset(s.number for s in self.records if (s.daddr, s.dest) == to and self.setup.loses(host, us(s)))

    def _overtaken(self, s: Segment) -> bool:
        """Without a sidecar the tap may be the peer's: whether `s` left its host before a segment seen already.

        A host takes no acknowledgment back. Its ids tell the order, or over IPv6 that `s` acknowledges whole segments.
        """
        if self.setup.hosts or s.flags & (SYN | RST) or not s.flags & ACK:
            return False
        own = [x for x in self.kept if x is not s and (x.saddr, x.source) == (s.saddr, s.source)]
        ahead = [x for x in own if after(x.ack_seq, s.ack_seq) and us(s) - us(x) <= OVERTAKES]
        if not ahead or any(x.ack_seq == s.ack_seq for x in own):
            return False
        if s.ip_id:
            return all(0 < ((x.ip_id or 0) - s.ip_id) & 0xFFFF < OVERTAKERS for x in ahead)
        return any(x.end_seq == s.ack_seq for x in self.records if x.len and x.saddr == s.daddr)

    def _failed(self, s: Segment) -> bool:
        if self._overtaken(s):
            self.unknown = f"the tap shows segments in another order than they were sent in: {line(s, self.first.time)}"
            self.judged = []
            return False
        for e in self.ends:
            if e is not None and not e.front.alive:
                if e.front.bounded:
                    self.unknown = f"more explanations than are followed ({WIDTH}) before {line(s, self.first.time)}"
                    self.judged = []
                    return False
                missing = e is not self._sender(s)
                what = "a segment that Linux would have sent is missing before" if missing else "Linux does not send"
                self._diverge(s, e, f"{what} {line(s, self.first.time)}", e.front.dead)
                return False
        raise AssertionError("an end failed but has hypotheses")

    def _checkpoint(self) -> None:
        """Starts over from the checkpoint before this one from now on, and searches no more until it has to."""
        for e in self.ends:
            if e is not None:
                if not self.labelled:
                    e.drop_labels()
                e.mark, e.next_mark = e.next_mark, e.snapshot()
                if self.wide:
                    e.narrow()
        self.wide = False
        del self.records[: self.marked]
        self.marked = len(self.records)

    def _diverge(self, s: Segment, e: End | None, what: str, dead: Sequence[Dead]) -> None:
        near = tuple(dict.fromkeys(n for d in dead for n in d.near))
        other = tuple(dict.fromkeys(NearMiss("", d.why) for d in dead if not d.near))
        self.ended = Divergence(
            frame=s.number,
            time=s.time / 1e9,
            host=e.name if e is not None else "",
            what=what,
            allowed=tuple(dict.fromkeys(a for d in dead for a in d.allowed))[:6],
            near=(*near, *other)[:8],
            state=tuple(dict.fromkeys(words(d.state) for d in dead))[:3],
            around=tuple(line(x, self.first.time) for x in self.kept),
        )

    # -- the end

    def verdict(self, end: int, keep: bool = True) -> Verdict:
        """The judgement when the capture has shown everything up to `end` us."""
        if not self.judged:
            why = self.unknown or "; ".join(self._strangers()) or "neither end is a Linux host of this capture"
            return Verdict("tcp", self.subject, Outcome.INCONCLUSIVE if self.unknown else Outcome.NOT_MODELLED, why)
        best: dict[str, Hypothesis] = {}
        if self.ended is None:
            best = self._finish(end)
        if self.ended is not None:
            return Verdict("tcp", self.subject, Outcome.DIVERGES, self.ended.what, divergence=self.ended)
        found: list[FrameLabel] = []
        events: list[str] = []
        for name, h in best.items():
            got, hidden = labels(h.trail, name)
            found += got
            events += [f"{name}: {x}" for x in hidden]
        recovered = sum(x.note == RECOVERY for x in found) + sum(e.recovered for e in self.ends if e is not None)
        counts = {RECOVERY: recovered} if recovered else {}
        reasons = [f"{n} frames of {c}" for c, n in counts.items() if c not in self.setup.unmodelled]
        outcome = Outcome.NOT_MODELLED if reasons else Outcome.CONFORMS
        if self.unknown:
            outcome, reasons = Outcome.INCONCLUSIVE, [self.unknown]
        return Verdict(
            "tcp",
            self.subject,
            outcome,
            "; ".join(reasons),
            labels=tuple(sorted(found, key=lambda x: x.number)) if keep else (),
            unmodelled=counts,
            inferred=(*self.setup.inferred, *self._strangers(), *self._settings()),
            events=tuple(events) if keep else (),
        )

    def _strangers(self) -> list[str]:
        return [
            f"{address(*self.sides[k])} is not judged: {why}, so it is not Linux or was rewritten"
            for k, why in enumerate(self.foreign)
            if why
        ]

    def _settings(self) -> list[str]:
        return [
            f"{address(*self.sides[k])} has {', '.join(f'{n} = {v}' for n, v in told.items())}: its SYN tells"
            for k, told in enumerate(self.told)
            if told
        ]

    def _finish(self, end: int) -> dict[str, Hypothesis]:
        best: dict[str, Hypothesis] = {}
        for e in self.ends:
            if e is None:
                continue
            left = e.front.finish(end)
            if not left and self._again():
                left = e.front.finish(end)
            if self.ended is not None:
                return {}
            if not left:
                last = self.kept[-1]
                what = f"a segment that Linux would have sent is missing after {line(last, self.first.time)}"
                self._diverge(last, e, what, e.front.dead)
                return {}
            best[e.name] = min(left, key=lambda h: h.cost)
        return best


def _over(state: State) -> bool:
    return isinstance(state, Tw) or (isinstance(state, Sock) and state.state in (St.CLOSE, St.LISTEN))


def words(state: State) -> str:
    """The fields of a state that differ from a fresh one, in words."""
    fresh = type(state)()
    changed = (
        f"{f}={getattr(getattr(state, f), 'name', getattr(state, f))}"
        for f in state.__struct_fields__
        if getattr(state, f) != getattr(fresh, f)
    )
    return f"{type(state).__name__}({', '.join(changed)})"


@cache
def _params(kernel: str, hz: int, sysctls: tuple[tuple[str, int], ...]) -> TcpParams:
    return tcp_params(profile(kernel, hz, dict(sysctls)))


_DISPATCH: dict[str, Any] = {}


def dispatcher(kernel: str) -> Apply:
    """The run engine's `apply` over TCP's rules as of `kernel`, made once."""
    found = _DISPATCH.get(kernel)
    if found is None:
        found = _DISPATCH[kernel] = pick(MACHINES["tcp"], kernel).apply
    return found
