"""The sender half: what an end has out, what its peer said of it, and which step sent a frame.

The law: a frame in sequence is new data; one behind it is a retransmission that a timer, arrivals or a smaller path MTU
excuse; an empty one below is a probe. `classify` finds the step without changing anything, `sent` applies it.
"""

from collections.abc import Iterator

from conformance.oracle.departures import Departures
from conformance.oracle.end import Excuse, Label, Refusal
from conformance.oracle.recovery import INIT_CWND, NONE, OPEN, STATES, TLP
from conformance.oracle.sack import unwrap
from conformance.oracle.scoreboard import EVER, Sent, segments
from conformance.oracle.sender_rules import (
    AGAIN,
    BURST,
    BY_FIN,
    BY_KEEPALIVE,
    BY_PROBE0,
    BY_TLP,
    BY_WRITE,
    H32,
    KEEPALIVE,
    LABELS,
    LATE,
    LEAST_MSS,
    M32,
    NEW,
    NOTHING,
    PROBE,
    SAMPLES,
    SYN_STATES,
)
from conformance.oracle.timers import RTO_MIN, TIMEOUT_FALLBACK
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, URG


class Sender(Departures):
    """What is out and what the peer said of it; sequence space of this end."""

    __slots__ = ()

    def classify(self, s: Segment) -> Label | None:
        """Which step sent the output; None for a pure ACK. Raises Refusal."""
        f = self.f
        flags = s.flags
        self.sure = True
        self.classified = s.number
        self.now = self._left(s)
        if not self.started:
            self._begin(s.seq)
        if not self.agreed:
            self._agree()
        self._counts_ids(s)
        if f.board.out and self.now - f.due > LATE:
            self._late(s)
        nxt = f.nxt
        lo = self.lo = nxt + ((s.seq - nxt + H32) & M32) - H32
        hi = self.hi = lo + s.len + (flags & FIN)
        if self.soon >= 0:
            self._answered_soon(s, lo, hi)
        if lo < self.iss and self._end.stack.linux:
            raise Refusal(
                "retransmits-acknowledged",
                f"seq {s.seq} lies before the SYN's",
                [f"seq from {self.snd_una}"],
            )
        if hi == lo:
            return self._empty(s, lo)
        if lo >= nxt:
            return self._new(s, lo, hi)
        if hi > nxt:
            return self._overlap(s, lo, hi)
        if flags & FIN and hi < nxt:
            raise Refusal("data-after-fin", f"a FIN {nxt - hi} numbers before the end of what was sent", ["ACK"])
        return self._again(s, lo, hi)

    def _gap(self, s: Segment, lo: int) -> None:
        """The frame begins behind what was seen: something left unseen. Raises Refusal where that can't be."""
        stack = self._end.stack
        if not stack.linux or self._starts():
            return
        missing = lo - self.f.nxt
        if not self._contiguous(s):
            if stack.near is not True or self.missed > 0 or self.beyond > self.f.nxt:
                return
            why = self._end.decided.get(s.number)
            if why is not None and why.kind == "unseen":
                return
            excuses = [Excuse("unseen", s.number, f"{missing} bytes are missing", cost=3)]
        else:
            excuses = []
        raise Refusal(
            "sequence-gap",
            f"{missing} bytes before it were never seen",
            [f"seq {self.snd_nxt}"],
            excuses=excuses,
        )

    def _new(self, s: Segment, lo: int, hi: int) -> Label:
        f = self.f
        self.what, self.how = NEW, BY_WRITE
        if lo > f.nxt:
            self._gap(s, lo)
        if self.fresh and self._end.stack.linux and self._end.ident.overtaken(s):
            raise Refusal("ip-id-back", f"new data with IPv4 id {s.ip_id}, though what came before them left behind it")
        if 0 <= self.fin < hi:
            raise Refusal("data-after-fin", "the FIN has left, nothing comes behind it", ["retransmissions", "ACKs"])
        fin = s.flags & FIN
        now = self.now
        if 0 <= self.right < hi - fin and f.una != self.iss:
            self._catch_up(s)
            if max(self.right, self._pending_edge()) < hi - fin:
                raise Refusal(
                    "beyond-window",
                    f"its end lies {hi - fin - self.right} bytes beyond the furthest edge that was offered",
                    [f"data up to {self.right & M32}", "a window probe"],
                )
        if self._over(s, fin) > 0:
            self._catch_up(s)
            over = self._over(s, fin)
            if over > 0 and not self._fires(f.due, f.due - f.armed, now):
                raise Refusal(
                    "beyond-congestion-window",
                    f"{over} segments more are out than the window can allow: {INIT_CWND} and one for each of the "
                    f"{f.delivered} that were delivered",
                    ["ACKs", "retransmissions"],
                    excuses=self._news(s),
                )
        if not f.board.out:
            if self._wakes(s, now):
                self.how = BY_PROBE0
        elif f.kind == TLP and f.tlp_high < 0 and not self._lags(s) and self._fires(f.due, f.due - f.armed, now):
            self.how = BY_TLP
        if self.how == BY_WRITE and fin and (not s.len or now - self.heard > BURST):
            self.how = BY_FIN
        return LABELS[self.how]

    def _over(self, s: Segment, fin: int) -> int:
        """By how many segments the frame exceeds what the congestion window can be; a probe and a FIN may by one."""
        f, stack = self.f, self._end.stack
        board = f.board
        least = board.out + 1 - INIT_CWND - f.delivered
        if least <= 0 and s.len <= LEAST_MSS:
            return 0
        if f.ca != OPEN or board.sacked or self.middle or not (stack.given and stack.near and stack.linux):
            return 0
        out = board.out + segments(s.len, self._mss(s))
        return out - INIT_CWND - f.delivered - (f.tlp_high >= 0) - fin

    def _pending_edge(self) -> int:
        """The furthest edge that inputs offered which are not processed yet, where it is unknown when they are."""
        if self._near:
            return -1
        return max((self._number(p.ack_seq) + (p.window << self.wscale) for p in self._end.pending), default=-1)

    def _wakes(self, s: Segment, now: int) -> bool:
        """Data that were corked, or for which the window was too small, leave by the probe timer.

        Source net/ipv4/tcp_output.c:tcp_write_wakeup.
        """
        rto = self.f.rto()
        last = max(self.heard, self.probed)
        runt = 0 < s.len < self._mss(s) and not s.flags & FIN
        return runt and self.full and bool(self.past) and self._fires(last + rto, rto, now)

    def _overlap(self, s: Segment, lo: int, hi: int) -> Label:
        f = self.f
        if hi == f.nxt + 1 and s.flags & FIN and self.fin < 0:
            self.what, self.how = AGAIN, BY_FIN
            return self._again(s, lo, hi)
        if self._near or (self._end.stack.linux and self._contiguous(s)):
            raise Refusal(
                "overlaps-new",
                f"{f.nxt - lo} of its bytes were sent before, {hi - f.nxt} are new",
                [f"seq {self.snd_nxt}"],
                excuses=self._seen_before(s, hi),
            )
        self.what, self.how = NEW, BY_WRITE
        return LABELS[BY_WRITE]

    def _seen_before(self, s: Segment, hi: int) -> Iterator[Excuse]:
        if self._end.ident.steps_since_last(s) != 0:
            yield Excuse("unseen", s.number, "its first bytes were sent before", cost=4)

    def _empty(self, s: Segment, lo: int) -> Label | None:
        f = self.f
        self.what = NOTHING
        if lo == f.nxt:
            return None
        if lo > f.nxt:
            edge = max(self.right, self._pending_edge()) + 1
            if 0 < edge < lo and f.una != self.iss and self._end.stack.linux:
                raise Refusal(
                    "empty-sequence",
                    f"seq {s.seq} of an empty segment lies beyond every edge that was offered",
                    [f"seq {self.snd_nxt}"],
                )
            self._gap(s, lo)
            return None
        sure = self._near and not self._end.stack.close
        if sure and (i := f.board.index(lo)) >= 0 and self._inside(f.board.q[i], lo):
            raise Refusal(
                "empty-sequence",
                f"seq {s.seq} of an empty segment lies inside one that was sent whole",
                [f"seq {self.snd_nxt}"],
                excuses=self._unprocessed(s, lo + 1, False),
            )
        now = s.time // 1000
        if (lo == f.una - 1 or (lo == f.una and s.flags & URG)) and not self._end.ident.overtaken(s):
            return self._probe(s, now)
        strict = self._near or (self.contiguous and self._end.stack.linux and lo != f.nxt - 1) or self._goes_back(s)
        if not strict or (self.middle and not self.past) or self._strays(s):
            return None
        if lo == f.una + f.wnd or (f.una + f.wnd < f.nxt and f.una <= lo) or self._was_edge(lo):
            return None
        raise Refusal(
            "empty-sequence",
            f"seq {s.seq} of an empty segment, the next number is {self.snd_nxt}",
            [f"seq {self.snd_nxt}", f"a probe with seq {(f.una - 1) & M32}"],
            excuses=self._unprocessed(s, lo + 1, False),
        )

    def _was_edge(self, lo: int) -> bool:
        """Whether a peer closed its window at `lo`: a far end may have heard of it behind what opened it again.

        Source net/ipv4/tcp_output.c:tcp_acceptable_seq, net/ipv4/tcp_input.c:tcp_may_update_window.
        """
        if self._near:
            return False
        waits = (self._number(p.ack_seq) + (p.window << self.wscale) for p in self._end.pending)
        return lo in self.retreats or lo in waits

    def _inside(self, e: Sent, lo: int) -> bool:
        """Whether `lo` lies inside a segment that left once, whole: no number was the next one there.

        But the window's edge may lie anywhere. Source net/ipv4/tcp_output.c:tcp_acceptable_seq.
        """
        f = self.f
        edge = f.una + f.wnd <= f.nxt or lo in self.retreats
        return e.seq < lo and e.segs == 1 and not (e.unseen or e.sacked & EVER or edge)

    def _goes_back(self, s: Segment) -> bool:
        """Whether a far end's empty segment left for certain behind one that ended further on."""
        last, rx = self._end.rx.latest, self._end.rx
        if last is None or not self._end.stack.linux or last.end_seq != self.snd_nxt or not rx.known or rx.stale:
            return False
        return bool(rx.left_behind(s, last))

    def _probe(self, s: Segment, now: int) -> Label | None:
        f = self.f
        self.what = PROBE
        idle = now - max(self.heard, self.probed)
        room = f.una + f.wnd - f.nxt
        mss = self._mss(s) if f.mss else 1
        self.how = BY_PROBE0 if room < mss and (room <= 0 or idle < KEEPALIVE) else BY_KEEPALIVE
        if not self._near or (self.middle and not self.past):
            self._probes_soon(s, now)
            return LABELS[self.how]
        self._catch_up(s)
        if f.board.out:
            raise Refusal(
                "probe-cause",
                "an empty segment below the next number while data are out",
                ["a retransmission"],
                excuses=self._unprocessed(s, lo=f.una, strict=False),
            )
        least = KEEPALIVE if self.how == BY_KEEPALIVE else RTO_MIN
        if self.past and idle < least - self.tick:
            raise Refusal(
                "probe-cause",
                f"a probe {idle} us after the last answer or probe",
                ["an ACK", "new data"],
                excuses=self._unprocessed(s, lo=f.una, strict=False, last=True),
            )
        return LABELS[self.how]

    def _probes_soon(self, s: Segment, now: int) -> None:
        """Raises Refusal if a far end's probe shows an input that passed the tap less than a time-out before.

        Every acknowledgment puts the probe off. Source net/ipv4/tcp_input.c:tcp_ack_probe.
        """
        shown = self._answered_at(s)
        if not self._end.stack.linux or shown < 0 or self._strays(s) or self._end.ident.duplicate(s):
            return
        last = self._end.last_sent
        if last is not None and last.flags & (RST | ACK) == RST:
            return  # its socket is gone: the frame left before the RST that no socket sent
        if now - shown < RTO_MIN - self.tick:
            raise Refusal(
                "probe-cause",
                f"a probe that answers what passed the tap {now - shown} us before it",
                ["an ACK", "new data"],
            )

    def _answered_at(self, s: Segment) -> int:
        """When (us) the tap first saw what `s` shows that its end had got, by ack and TSecr; -1: unknown."""
        end = self._end
        rx, peer = end.rx, end.peer.tx
        shown = -1
        if s.flags & ACK and rx.known:
            found = [at for _, at, seq, stop in rx.arrivals if seq < unwrap(s.ack_seq, stop) <= stop]
            found += [p.time // 1000 for p in end.pending if p.seg_len and 0 < (s.ack_seq - p.seq) & M32 <= p.seg_len]
            if peer.syn is not None and peer.syns == 1 and s.ack_seq == (peer.syn.seq + 1) & M32:
                found.append(peer.syn.time // 1000)
            shown = min(found, default=-1)
        if s.tsecr:
            found = [at for _, at, _, _, tsval in self.past if tsval == s.tsecr]
            found += [p.time // 1000 for p in end.pending if p.tsval == s.tsecr]
            shown = max(shown, min(found, default=-1))
        return shown

    def overdue(self, now: int) -> None:
        """Nothing is missed before a frame of this end shows that none before it was lost: see `_late`."""

    def _late(self, s: Segment) -> None:
        """Raises Refusal if what is out should have been sent again long before the frame, and was not.

        The ids must show that nothing left unseen since the frame before.
        """
        f, end = self.f, self._end
        if not f.board.out or f.kind == NONE or self.middle or end.state in SYN_STATES or not self._near:
            return
        most = f.rto() + LATE + (3 * self.opened if f.delivered < SAMPLES else 0)
        if not f.rtt.srtt:
            most += TIMEOUT_FALLBACK
        if self.now - max(f.due, f.armed) < most or not self.contiguous:
            return
        if not f.delivered and end.stack.cached and f.kind != TLP:
            return  # the first time-out may be that of connections before: tcp_init_metrics; a tail's probe is not
        raise Refusal(
            "retransmission-overdue",
            f"{f.board.out} segments are out, and nothing was sent again for {self.now - f.armed} us",
            ["a retransmission"],
            excuses=self._news(s),
        )

    def words(self) -> str:
        """The state in words, for a divergence."""
        f = self.f
        if not self.started:
            return ""
        b = f.board
        edge = "" if self.right < 0 else f", right edge {self.right & M32}"
        return (
            f"snd_una {self.snd_una}, snd_nxt {self.snd_nxt}{edge}, {STATES[f.ca]}, out {b.out} sacked {b.sacked} "
            f"repeated {b.retrans}, srtt {f.rtt.srtt >> 3} us, timeout {f.rto()} us"
        )
