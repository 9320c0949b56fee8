"""What the sender half knows of its end, and the questions that its parts share."""

from collections import deque
from collections.abc import Iterator
from typing import Final, Self

from conformance.check.setup import slack
from conformance.oracle.end import End, Excuse, Label, Stack
from conformance.oracle.recovery import (
    CWR,
    DISORDER,
    OPEN,
    Flow,
)
from conformance.oracle.sack import Range, unwrap
from conformance.oracle.scoreboard import segments
from conformance.oracle.sender_rules import (
    BY_WRITE,
    EARLY,
    H32,
    IDS,
    IP_MIN,
    IPV6_MIN,
    JIFFY,
    JUMP,
    LAG,
    LEAST_MSS,
    M32,
    NOTHING,
    PAST,
    QUEUED,
    TICK,
    WSCALE_MAX,
    version,
)
from conformance.oracle.timers import RTO_MIN, Rtt
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, AE, FIN, RST, SYN
from refmodel.packet.transport import ECE as F_ECE

FIELDS: Final = (
    "_end", "agreed", "at", "beyond", "blind", "classified", "contiguous", "doubt", "early", "ecn", "f", "fin",
    "fresh", "from_start", "full", "heard", "hi", "hidden", "hollow", "how", "iss", "last_id", "last_ts", "lo",
    "middle", "missed", "mss_key", "mss_now", "now", "older", "opened", "past", "probed", "rack", "reordering",
    "retreats", "right",
    "scaled", "soon", "started", "steady", "sure", "syn", "syn_at", "syn_lost", "syns", "tick", "told", "trimmed",
    "ts_base", "unseen", "what", "wl1", "wscale",
    "zero_is_news",
)  # fmt: skip


def _steady(stack: Stack) -> bool:
    """Whether the recorder knows that no ICMP message made the path's MTU smaller: the host counted none.

    Source net/ipv4/tcp_ipv4.c:tcp_v4_mtu_reduced, net/ipv6/tcp_ipv6.c:tcp_v6_mtu_reduced.
    """
    host = stack.host
    probes = stack.told.get("net.ipv4.tcp_mtu_probing", 0)
    told = ("Icmp.InDestUnreachs", "Icmp6.InDestUnreachs", "Icmp6.InPktTooBigs")
    return host is not None and bool(host.mib) and not probes and not any(host.mib.get(n, 0) for n in told)


def path_least(s: Segment) -> int:
    """The least MTU (bytes) that a path of the frame's kind is taken to have."""
    return IP_MIN if len(s.saddr) == 4 else IPV6_MIN


class SenderState:
    """What is out and what the peer said of it; sequence space of this end."""

    __slots__ = FIELDS

    def __init__(self, end: End) -> None:
        stack = end.stack
        floor = stack.told.get("net.ipv4.tcp_rto_min_us", RTO_MIN)
        self._end = end
        release = version(stack.kernel)
        self.f = Flow(end.counts, Rtt(stack.jiffy, floor))
        self.f.tlp_on = stack.told.get("net.ipv4.tcp_early_retrans", 3) in (3, 4)
        self.rack = stack.told.get("net.ipv4.tcp_recovery", 1) & 1 != 0 or release >= (6, 17)
        self.zero_is_news = release >= (6, 7)
        self.reordering = self.f.reordering = stack.told.get("net.ipv4.tcp_reordering", 3)
        self.f.may_frto = stack.told.get("net.ipv4.tcp_frto", 2) != 0
        self.full = True
        self.classified = -1
        self.mss_key: tuple[int, int, int, bool | None] = (0, 0, 0, None)
        self.mss_now = 1
        self.last_id = -1
        self.missed = 0
        self.contiguous = self.from_start = False
        self.older = False  # the frame has an id before the furthest
        self.fresh = False  # the frame with the furthest id was new data, or had the next number
        self.hollow = True  # something that takes sequence numbers may have left unseen
        self.tick = (stack.jiffy if stack.given else JIFFY) + EARLY  # us by which a timer seems to fire early
        self.steady = _steady(stack)
        self.opened = 0  # us from the SYN-ACK of a passive end to the first frame that shows the connection open
        self.soon = -1  # a frame that repeats the one before it at once: the next id tells whether it was cut smaller
        self.trimmed: tuple[int, int, int] | None = None  # of that frame: its end, its length, the MSS before it
        self.early = -1  # the input whose ACK was processed before its data
        self.doubt = self.blind = self.syn_lost = False
        self.ts_base: tuple[int, int] | None = None
        self.syn: Segment | None = None
        self.syn_at = self.syns = 0
        self.iss = -1
        self.started = self.middle = self.agreed = self.scaled = False
        self.ecn = False
        self.wscale = WSCALE_MAX
        self.right = -1
        self.retreats: tuple[int, ...] = ()  # edges further left than one before, and of closed windows
        self.wl1 = 0
        self.fin = -1
        self.heard = 0
        self.probed = 0
        self.beyond = -1  # an acknowledgment of what the tap did not see
        self.last_ts = -1
        # Inputs: number, us, snd_una before and after, TSval (None: an old one).
        self.past: deque[tuple[int, int, int, int, int | None]] = deque(maxlen=PAST)
        self.told: list[tuple[int, int, list[Range]]] = []  # inputs with SACK blocks: number, us, blocks
        self.what = NOTHING
        self.how = BY_WRITE
        self.lo = self.hi = self.at = self.now = self.unseen = self.hidden = 0
        self.sure = True

    @property
    def end(self) -> End:
        """The owner."""
        return self._end

    @end.setter
    def end(self, end: End) -> None:
        self._end = end
        self.f.counts = end.counts

    @property
    def snd_una(self) -> int:
        """The oldest number that is not acknowledged."""
        return self.f.una & M32

    @property
    def snd_nxt(self) -> int:
        """The next number to be sent."""
        return self.f.nxt & M32

    def copy(self) -> Self:
        """A copy that shares nothing that changes."""
        new = type(self)(self._end)
        for name in FIELDS:
            setattr(new, name, getattr(self, name))
        new.f = self.f.copy()
        new.past = self.past.copy()
        new.told = list(self.told)
        return new

    def takes(self, s: Segment) -> None:
        """Processes an input; see `Inputs`."""
        raise NotImplementedError

    def classify(self, s: Segment) -> Label | None:
        """Which step sent an output; see `Sender`."""
        raise NotImplementedError

    def _agree(self) -> None:
        """Both ends' SYNs are known: what they agreed on."""
        mine, other = self.syn, self._end.peer.tx.syn
        if mine is None or other is None:
            return
        f = self.f
        self.agreed = True
        self.wscale = min(other.wscale, WSCALE_MAX) if mine.wscale is not None and other.wscale is not None else 0
        f.sack_ok = mine.sack_perm and other.sack_perm
        f.ts_ok = mine.tsval is not None and other.tsval is not None
        f.mss = min(other.mss or 536, mine.mss or 65_535)
        both = mine.flags | other.flags
        answer = mine.flags if mine.flags & ACK else other.flags
        self.ecn = both & F_ECE != 0 and answer & F_ECE != 0 and not both & AE

    def _begin(self, seq: int) -> None:
        """The capture begins in mid-connection."""
        self.started = self.middle = True
        f = self.f
        f.una = f.nxt = f.fack = f.high_seq = seq
        f.sack_ok = True

    def _starts(self) -> bool:
        """Whether no acknowledgment told yet where this end is, in a capture that begins in mid-connection."""
        return self.middle and not self.past and not self.f.board.q and self.f.una == self.f.nxt

    def _number(self, seq: int) -> int:
        """A sequence number of this end's space, unwrapped."""
        una = self.f.una
        return una + ((seq - una + H32) & M32) - H32

    def _left(self, s: Segment) -> int:
        """When the frame left TCP, in us: a queue before the tap shows in how far its TSval lies back."""
        now = s.time // 1000
        if s.tsval is None or self._end.stack.near is not True:
            return now
        if self.ts_base is None:
            self.ts_base = (s.tsval, now)
            return now
        tsval, at = self.ts_base
        lag = now - at - (((s.tsval - tsval + H32) & M32) - H32) * TICK
        if lag < 0:
            self.ts_base = (s.tsval, now)
            return now
        return now if lag < QUEUED else now - lag + TICK

    def _mss(self, s: Segment) -> int:
        """What a segment with this header holds at most; source net/ipv4/tcp_output.c:tcp_current_mss."""
        f = self.f
        if not f.mss:
            return s.len or 1
        key = (s.data[s.l4 + 12], f.mss, f.max_window, f.ts_ok)
        if key == self.mss_key:
            return self.mss_now
        stamp = 12 if f.ts_ok else 0
        most = f.mss - stamp
        if f.max_window:
            half = f.max_window >> 1 if f.max_window > 536 else f.max_window
            most = min(most, max(half, 68 - 20 - stamp))
        self.mss_key, self.mss_now = key, max(most - ((s.data[s.l4 + 12] >> 4 << 2) - 20 - stamp), 1)
        return self.mss_now

    @property
    def _near(self) -> bool:
        return self._end.stack.near is True and self._end.stack.linux

    def _counts_ids(self, s: Segment) -> None:
        """Follows the IPv4 ids: `missed` segments left unseen so far, `contiguous` if none since the frame before.

        A full socket counts one up for each segment; source include/net/ip.h:ip_select_ident_segs.
        """
        last = self.last_id
        exact = self.contiguous = self._end.stack.exact
        self.older = False
        ip_id = s.ip_id
        if ip_id:
            self.last_id = (ip_id + (1 if s.len <= LEAST_MSS else segments(s.len, self._mss(s)))) & 0xFFFF
            step = (ip_id - last) & 0xFFFF
            self.contiguous = last >= 0 and not step
            if last < 0:
                self.from_start = exact  # what left before the first that counts is not known
                self.contiguous = exact
            elif step > 0xFFFF - JUMP:
                self.last_id = last
                self.older = True
            elif step:
                self.missed += min(step, JUMP)
                self.hollow = True

    def _contiguous(self, s: Segment) -> bool:
        """Whether nothing left unseen that could fill a gap, by the ids or the recorder.

        An empty segment has the next number: by it all is known that left before.
        """
        if not self.contiguous:
            return False
        if not self.hollow and self._end.ident.trusted:
            return True
        return (self.from_start or (self._end.stack.exact and not s.ip_id)) and self.missed <= 0

    def _lags(self, s: Segment) -> bool:
        """Whether the host seems to be at inputs that came a moment before the frame: not if they lie long behind."""
        pending = self._end.pending
        return bool(pending) and 0 < s.time - pending[0].time < LAG * 1000

    def _behind(self, s: Segment) -> bool:
        """Whether inputs wait that came before the frame: then nobody knows when the last was processed."""
        pending = self._end.pending
        return bool(pending) and pending[0].time < s.time

    def _catch_up(self, s: Segment) -> None:
        """Processes inputs without data that were stamped before the frame: it shows that they were."""
        end = self._end
        while end.pending:
            p = end.pending[0]
            if p.time > s.time or end.held(p, s.number):
                return
            why = end.decided.get(p.number)
            dropped = why is not None and why.kind == "dropped"
            if not dropped and (p.len or p.flags & (SYN | FIN | RST)):
                # Its ACK is processed before its data are: what it makes the sender repeat still carries the old ack.
                if not p.flags & (SYN | RST) and p.number != self.early:
                    self.takes(p)
                    self.early = p.number
                return
            end.process()

    def _overtook(self, s: Segment) -> bool:
        """Whether the frame left with or before others that the tap saw earlier, as its id or an older TSval tells."""
        if self._end.ident.overtaken(s):
            return True
        last = self._end.last_sent
        if last is None or self._end.stack.in_order or last.flags & SYN:
            return False
        if s.ip_id and last.ip_id:
            back = (last.ip_id - s.ip_id) & 0xFFFF
            older = s.tsval is None or last.tsval is None or (s.tsval - last.tsval - 1) & M32 >= H32
            return older and (0 < back < IDS or (back == 0 and s.seq == last.seq))
        return s.tsval is not None and last.tsval is not None and (s.tsval - last.tsval) & M32 >= H32

    def _strays(self, s: Segment) -> bool:
        """The same for a frame that nothing else explains: within a tick of the clock the order is not told."""
        if self._overtook(s):
            return True
        last = self._end.last_sent
        if last is None or self._end.stack.in_order or last.flags & SYN or (s.ip_id and last.ip_id):
            return False
        return s.tsval is None or s.tsval == last.tsval

    def fills(self, s: Segment) -> bool:
        """Whether a queue let frames overtake `s`: it fills the gap that they left, and its TSval is no later.

        Where IPv4 ids tell the order they do. A retransmission within the same tick of the clock is not told from it.
        """
        if not s.len or s.ip_id or s.tsval is None or self._end.stack.exact:
            return False
        board = self.f.board
        i = board.index(self._number(s.seq))
        return i >= 0 and board.q[i].unseen and board.q[i].tsval > 0 and (board.q[i].tsval - s.tsval) & M32 < H32

    def _may_tlp(self) -> bool:
        f = self.f
        return f.tlp_on and f.sack_ok is not False and f.tlp_high < 0 and f.ca in (OPEN, CWR, DISORDER)

    def _fires(self, due: int, delay: int, now: int) -> bool:
        """Whether a timer of `delay` us that is due at `due` fires at `now`: never early, late by slack."""
        return -EARLY <= now - due <= slack(delay, self._end.stack.hz) + EARLY

    def _echoed(self, s: Segment) -> int:
        """How far the end had been acknowledged for certain when it sent `s`: TSecr shows which input it had, -1: none.

        What the peer sent before the timestamp that is echoed acknowledged no more than what it sent with it.
        """
        t = s.tsecr
        if self.middle and (not t or not self.past or self.past[0][4] in (t, None)):
            return -1  # another input of that tick may lie before the capture
        if not t:
            return self._brought(s)
        older, same = -1, 0
        inputs = [(tsval, after) for _, _, _, after, tsval in self.past if tsval is not None]
        for p in self._end.pending:
            if p.tsval is not None and p.flags & (ACK | SYN | RST) == ACK:
                inputs.append((p.tsval, self._number(p.ack_seq)))
        for tsval, after in inputs:
            if tsval == t:
                same = min(same or after, after)
            elif (t - tsval) & M32 < H32:
                older = max(older, after)
        return max(older, same or -1)

    def _brought(self, s: Segment) -> int:
        """The same by the acknowledgment number of `s`, where there are no timestamps: what brought its last byte."""
        rx = self._end.rx
        if s.tsval is not None or not s.flags & ACK or not rx.known:
            return -1
        told = {n: after for n, _, _, after, _ in self.past}
        found = [told.get(n, -1) for n, _, seq, end in rx.arrivals if seq < unwrap(s.ack_seq, end) <= end]
        for p in self._end.pending:
            if p.seg_len and 0 < (s.ack_seq - p.seq) & M32 <= p.seg_len:
                found.append(self._number(p.ack_seq))
        return min(found, default=-1)

    def _unprocessed(self, s: Segment, lo: int, strict: bool, last: bool = False) -> Iterator[Excuse]:
        """Inputs that may have been processed only behind the frame, or never: those that moved snd_una beyond `lo`.

        `last`: the last input, whatever it moved.
        """
        stack = self._end.stack
        now = s.time // 1000
        for n, at, before, after, _ in self.past:
            if not (after > lo >= before or (last and n == self.past[-1][0])):
                continue
            if now - at <= stack.late:
                yield Excuse("late", n, f"it came {now - at} us before frame {s.number}", until=s.number)
            if stack.lossy is not False:
                yield Excuse("dropped", n, f"frame {s.number} repeats what it acknowledged", cost=2)
            return

    def _sacked_by(self, s: Segment, lo: int, hi: int) -> Iterator[Excuse]:
        """The input that first told by SACK of what the frame repeats: it may have been late or dropped."""
        stack = self._end.stack
        for n, at, blocks in self.told:
            if any(a <= lo and hi <= b for a, b in blocks):
                if s.time // 1000 - at <= stack.late:
                    yield Excuse("late", n, f"frame {s.number} repeats what it tells of", until=s.number, cost=0)
                if stack.lossy is not False:
                    yield Excuse("dropped", n, f"frame {s.number} repeats what it tells of")
                return

    def _news(self, s: Segment) -> Iterator[Excuse]:
        """The last inputs, each of which may have been dropped or late."""
        stack = self._end.stack
        now = s.time // 1000
        if stack.lossy is not False and self._behind(s):
            waits = self._end.pending[0].number
            yield Excuse("dropped", waits, f"what came behind it would explain frame {s.number}")
        for k, (n, at, before, after, _) in enumerate(list(self.past)[:-4:-1]):
            if now - at <= min(stack.late, 2_000):
                yield Excuse("late", n, f"it came {now - at} us before frame {s.number}", until=s.number, cost=1 + k)
            if stack.lossy is not False and after >= before:
                yield Excuse("dropped", n, f"frame {s.number} was sent as if it had not come", cost=2 + k)
