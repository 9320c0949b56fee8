"""Retransmissions: what made the sender repeat something, and what no sender repeats so."""

from conformance.check.setup import slack
from conformance.oracle.end import Label, Refusal
from conformance.oracle.recovery import CWR, LOSS, OPEN, RECOVERY, RTO, TLP
from conformance.oracle.scoreboard import EVER, R, S, Sent
from conformance.oracle.sender_input import Inputs
from conformance.oracle.sender_rules import (
    AGAIN,
    BY_LOST,
    BY_PATH,
    BY_RTO,
    BY_TLP,
    BY_WRITE,
    FILL,
    H32,
    HEADERS,
    JIFFY,
    LABELS,
    LAG,
    M32,
    OLD,
    SWAPPED,
    THIN,
    TICK,
)
from conformance.oracle.sender_state import path_least
from conformance.oracle.timers import RTO_MAX, RTO_MIN
from conformance.oracle.vantage import unfilled
from refmodel.packet.codec import checksums
from refmodel.packet.segment import Segment
from refmodel.packet.transport import FIN, SYN
from refmodel.packet.wire import Checksum
from refmodel.tcp.state import St


def _sound(s: Segment) -> bool:
    """Whether all of the frame was captured as it was sent: its checksum is right, or a device was to fill it in."""
    tcp = [c for name, c in checksums(s.packet()) if name == "tcp"]
    return bool(tcp) and (tcp[0] == Checksum.OK or unfilled(s))


class Repeats(Inputs):
    """The classification of what was sent before."""

    __slots__ = ()

    def _again(self, s: Segment, lo: int, hi: int) -> Label:
        f, near = self.f, self._near
        board = f.board
        self.what = AGAIN
        now = self.now
        if lo < (known := self._echoed(s)) and self._end.stack.linux:
            raise Refusal(
                "retransmits-acknowledged",
                f"seq {s.seq} lies {known - lo} bytes below what the segment acknowledges whose timestamp it echoes",
                [f"seq from {known & M32}"],
            )
        if lo < f.una:
            self.what = OLD
            if (self.middle and not self.past) or not near or self._strays(s):
                self.sure = False
                self.how = BY_LOST
                return LABELS[BY_LOST]
            raise Refusal(
                "retransmits-acknowledged",
                f"seq {s.seq} lies {f.una - lo} bytes below what is acknowledged",
                [f"seq from {self.snd_una}"],
                excuses=self._unprocessed(s, lo, True),
            )
        i = board.index(lo)
        if i < 0:
            self.what, self.how, self.sure = OLD, BY_LOST, False
            return LABELS[BY_LOST]
        e = board.q[i]
        if e.unseen:
            return self._fill(s, i, now)
        if self._overtook(s):
            self.what, self.how, self.sure = OLD, BY_WRITE, False
            return LABELS[BY_WRITE]
        mss = self._mss(s)
        if (near and not self._end.stack.close) or self._counted() or self._pieces(s, i, hi):
            self._boundary(s, i, lo, hi, mss)
        self._content(s, i, lo, hi)
        if self._at_once(s, e, hi):
            if near or self.steady or s.orig_len - s.l3 < path_least(s):
                raise self._too_soon(s.number)
            self.soon = s.number if s.len <= mss or s.len % mss == 0 else -1
        self.at = i
        if self._behind(s) and not self._excused(s, i, lo, hi, now):
            self._catch_up(s)
            if lo < f.una or (i := board.index(lo)) < 0:
                return self._again(s, lo, hi)
            self.at = i
        try:
            self.how = self._cause(s, i, lo, hi, now)
        except Refusal:
            if not self._strays(s):
                raise
            self.what, self.how, self.sure = OLD, BY_WRITE, False
        return LABELS[self.how]

    def _at_once(self, s: Segment, e: Sent, hi: int) -> bool:
        """The frame before carries the same, and no time passed since: no arrival tells of its loss, and no timer ran.

        Source net/ipv4/tcp_output.c:tcp_schedule_loss_probe, which waits for TCP_TIMEOUT_MIN_US at least.
        """
        last = self._end.last_sent
        if last is None or not self.contiguous or not self._end.stack.linux or self.syn_lost or hi < e.end:
            return False
        if self._path_fell(e, s.time // 1000):
            return False
        again = last.seg_len and (last.seq - s.seq) & M32 == 0 and last.end_seq == s.end_seq and not last.flags & SYN
        return bool(again) and s.tsval is not None and s.tsval == last.tsval and not self._strays(s)

    def _too_soon(self, number: int) -> Refusal:
        """Frame `number` repeats the frame before it; the ids tell where a smaller path MTU may be behind it."""
        self.soon = -1
        return Refusal(
            "retransmission-early",
            f"frame {number} left at once behind a frame that carries the same",
            ["new data", "an ACK"],
            [("tcp_send_loss_probe", "2 ms are the least")],
        )

    def _excused(self, s: Segment, i: int, lo: int, hi: int, now: int) -> bool:
        try:
            self._cause(s, i, lo, hi, now)
        except Refusal:
            return False
        return True

    def _fill(self, s: Segment, i: int, now: int) -> Label:
        """What the tap had not seen: the frame itself, overtaken, or its retransmission."""
        self.at = i
        e = self.f.board.q[i]
        stack = self._end.stack
        older = (
            self._overtook(s)
            or (now - e.first < SWAPPED and self._strays(s))
            or self.fills(s)
            or (
                stack.near is not True
                and (
                    (s.tsval is not None and self.last_ts >= 0 and ((s.tsval - self.last_ts) & M32) >= H32)
                    or (now - e.first < SWAPPED and self._end.ident.steps_since_last(s) is None)
                )
            )
        )
        if older:
            self.what, self.how = FILL, BY_WRITE
            return LABELS[BY_WRITE]
        self.how = self._cause(s, i, self.lo, self.hi, now)
        return LABELS[self.how]

    def _pieces(self, s: Segment, i: int, hi: int) -> bool:
        """Whether a far end without ids repeats what the tap saw in the segments in which it left, of one size.

        They may have been joined or cut on the way, but only at the MSS, which no path's MTU changed.
        """
        if s.ip_id is not None or not self.steady or not self._end.stack.linux or self.f.max_window >> 1 < self.f.mss:
            return False
        q = self.f.board.q
        while i < len(q) and q[i].seq < hi:
            if q[i].unseen:
                return False
            i += 1
        return True

    def _boundary(self, s: Segment, i: int, lo: int, hi: int, mss: int) -> None:
        q = self.f.board.q
        e = q[i]
        off = lo - e.seq
        if off and not (e.segs > 1 and (off % e.mss == 0 or off % mss == 0)):
            raise Refusal(
                "retransmission-boundary",
                f"it begins {off} bytes inside a segment of {e.end - e.seq}",
                [f"seq {e.seq & M32}"],
                excuses=self._unprocessed(s, lo, False),
            )
        j = i
        while q[j].end < hi and j + 1 < len(q):
            j += 1
        t = q[j]
        end = hi - (s.flags & FIN)
        whole = hi == t.end or end - t.seq in (t.mss, mss) or (t.segs > 1 and (end - t.seq) % t.mss == 0)
        cut = s.len % mss == 0 or hi in (self.f.una + self.f.wnd, self.right)
        smaller = (
            s.len < mss
            and s.orig_len - s.l3 >= path_least(s)
            and e.end - e.seq > s.len
            and not (self.steady and e.segs == 1)
        )
        told = self._end.stack.told.get("net.ipv4.tcp_mtu_probing", 0) == 0 and self._end.stack.given
        if smaller and not (whole or cut):
            self.soon, self.trimmed = s.number, (hi, s.len, mss)
        # A tap on the other host sees in one frame what its card has joined.
        joined = self._near and j > i and s.len > mss and any(x.segs == 1 for x in q[i:j])
        if (told and not (whole or cut or smaller)) or joined:
            raise Refusal(
                "retransmission-boundary",
                f"it ends {end - t.seq} bytes inside a segment of {t.end - t.seq}",
                [f"{e.end - lo} bytes", f"{mss} bytes"],
                excuses=self._unprocessed(s, lo, False),
            )

    def _counted(self) -> bool:
        """Whether the ids say of every frame that it was as many segments as it seems, and that none left unseen."""
        return self._end.stack.linux and self.contiguous and self.missed <= 0 and bool(self._end.ident.trusted)

    def _answered_soon(self, s: Segment, lo: int, hi: int) -> None:
        """A frame behind one that the path's MTU may have cut smaller: it shows whether that fell. Raises Refusal."""
        number, self.soon = self.soon, -1
        if self.trimmed is None:
            if self.contiguous:
                raise self._too_soon(number)
            return
        end, least, mss = self.trimmed
        if lo == hi or (lo != end and s.len <= least):
            self.soon = number  # it does not tell
            return
        self.trimmed = None
        whole = s.len <= mss if s.len > least else False
        if lo != end and (whole or (s.len % mss == 0 and s.len % least)):
            raise Refusal(
                "retransmission-boundary",
                f"frame {number} ends inside a segment, as where a path's MTU fell, but {s.len} bytes follow in one",
                [f"{least} bytes"],
            )

    def _content(self, s: Segment, i: int, lo: int, hi: int) -> None:
        q = self.f.board.q
        at, have = s.payload_at, min(s.len, len(s.data) - s.payload_at)
        while i < len(q) and q[i].seq < hi and have > 0:
            e = q[i]
            off = max(lo, e.seq)
            n = min(e.end - e.fin, lo + have) - off
            if n > 0 and e.source is not None:
                old = e.source.data[e.at + off - e.seq : e.at + off - e.seq + n]
                new = s.data[at + off - lo : at + off - lo + len(old)]
                if old[: len(new)] != new and _sound(s) and _sound(e.source):
                    raise Refusal("retransmission-content", "its bytes are not those that were sent before")
            i += 1

    def _cause(self, s: Segment, i: int, lo: int, hi: int, now: int) -> int:
        """What made the sender repeat entry `i`: a BY_ value. Raises Refusal."""
        f, rtt = self.f, self.f.rtt
        board = f.board
        e = board.q[i]
        head = lo == f.una or i == 0
        tail = hi == f.nxt
        ca = f.ca
        overtaken = self._overtaken(e, lo, hi)
        early = self.tick
        since = now - max(f.armed, e.time)
        # What an arrival sends follows it soon; an acknowledgment that repeats the last does not arm the timer again.
        quiet = min(f.rto() - early, 2 * max(self._end.stack.late, rtt.srtt >> 3))
        silent = now - f.armed >= f.rto() - early and now - self.heard >= quiet
        rto_low = rtt.rto_low()
        if (
            head
            and (ca == LOSS or e.sacked & R or not overtaken or silent)
            and now >= f.due - early
            and not (tail and self._may_tlp() and f.kind == TLP)
        ) and (self._fired(now - e.time, rto_low) or (f.kind == RTO and f.due - f.armed < rto_low)):
            return BY_RTO
        if self.syn_lost and not e.sacked & EVER and e is board.q[0]:
            return BY_PATH
        if overtaken and not e.sacked & S and not (e.sacked & R and head and since >= f.rto() - early):
            return BY_LOST
        if ca == LOSS and not e.sacked & (S | R) and e.seq < max(f.high_seq, f.una + 1):
            return BY_LOST
        if not self._near and self._alone(s, e, tail):
            raise Refusal(
                "retransmission-early",
                f"nothing else is out, and its timestamp is {(s.tsval or 0) - e.tsval} ms behind its last",
                ["new data", "an ACK"],
                [("tcp_retransmit_timer", f"{rtt.floor} us are the least")],
            )
        if tail and self._may_tlp():
            pto = rtt.pto_low(board.out == 1)
            left = board.q[0].time + rto_low - f.armed
            if now - f.armed >= min(pto, max(left, 0)) - early or not self._near:
                return BY_TLP
        if head and self._fired(
            since if self._near and f.kind == RTO and f.due - f.armed >= rto_low else now - e.time, rto_low
        ):
            return BY_RTO
        if self._smaller(s, e, lo, hi):
            return BY_PATH
        if not self._near or self.middle or self.blind or self.missed > 0:
            self.sure = False
            return BY_RTO if head and since >= RTO_MIN - early else BY_LOST
        if e.sacked & S:
            raise Refusal(
                "retransmits-sacked",
                "the peer holds it by SACK",
                ["what is not SACKed"],
                excuses=[*self._sacked_by(s, lo, hi), *self._news(s)],
            )
        timers = head or (tail and self._may_tlp())
        raise Refusal(
            "retransmission-early" if timers else "retransmission-cause",
            f"{now - e.time} us after it left last, {now - f.armed} us after the timer was set, nothing that was sent "
            "later has arrived",
            ["new data", "an ACK"],
            [
                ("tcp_send_loss_probe", f"{now - f.armed} us of {rtt.pto(board.out == 1)} have passed"),
                ("tcp_retransmit_timer", f"{now - e.time} us of {f.rto()} have passed"),
                ("tcp_xmit_retransmit_queue", f"{board.sacked} segments are SACKed, {f.reno} duplicates came"),
            ],
            excuses=self._news(s),
        )

    def _alone(self, s: Segment, e: Sent, tail: bool) -> bool:
        """Whether a far end repeats all that it has out before any of its timers, by its own clock.

        Larger segments may be cut by a path's smaller MTU. Source net/ipv4/tcp_output.c:tcp_schedule_loss_probe.
        """
        f = self.f
        only = tail and f.board.out == 1 and not e.unseen and not self.syn_lost and (s.ip_id is None or self._counted())
        if not only or s.tsval is None or not e.tsval or s.orig_len - s.l3 >= path_least(s) or self._strays(s):
            return False
        if self._echoed(s) < e.seq:
            return False  # for all that it shows, more is out
        return (s.tsval - e.tsval) & M32 < (f.rtt.floor - 2 * JIFFY) // TICK

    def _fired(self, since: int, least: int) -> bool:
        """Whether the time-out can have passed: it doubles, but for a thin stream's, which comes at its first length.

        Thin are the first of an established connection's, until one doubled. Source
        net/ipv4/tcp_timer.c:tcp_retransmit_timer.
        """
        f = self.f
        early = self.tick
        if since >= min(least << f.backoff, RTO_MAX) - early:
            return True
        if f.backoff > 1 or f.board.out >= THIN or self._end.state is not St.ESTABLISHED:
            return False
        once = f.rtt.rto()
        return since >= least - early and since <= once + slack(once, self._end.stack.hz) + LAG

    def _overtaken(self, e: Sent, lo: int, hi: int) -> bool:
        """Something that left after the entry has arrived, or enough duplicates came."""
        f = self.f
        if f.sack_ok is False:
            if f.ca == RECOVERY:
                return lo == f.una and not e.sacked & R
            return lo == f.una and f.reno >= min(f.reordering, self.reordering)
        if f.undo_marker < 0 and f.ca == OPEN and not f.board.sacked and not f.any_retrans():
            return (e.time, hi) < (f.rack_time, f.rack_end)
        if not self.rack:
            return f.fack > lo and (f.ca >= CWR or f.board.sacked >= self.reordering)
        return (e.time, hi) < (f.rack_time, f.rack_end)

    def _path_fell(self, e: Sent, now: int) -> int:
        """The path MTU of which ICMP told since the entry left, and for which its segments are too large; 0: none.

        Source net/ipv4/tcp_ipv4.c:tcp_v4_mtu_reduced, net/ipv4/tcp_input.c:tcp_simple_retransmit.
        """
        size = min(e.end - e.fin - e.seq, e.mss)
        return next((mtu for at, mtu in self._end.stack.falls if e.time <= at <= now and size + HEADERS > mtu), 0)

    def _smaller(self, s: Segment, e: Sent, lo: int, hi: int) -> bool:
        """The path's MTU fell: what is larger goes again in smaller pieces, at once."""
        f = self.f
        size = s.orig_len - s.l3
        if self.syn_lost and not e.sacked & EVER:
            return True  # the SYN's data were not taken: tcp_rcv_fastopen_synack
        if f.ca == LOSS and not e.sacked & (R | S):
            return True
        if self._path_fell(e, s.time // 1000):
            return True
        return hi < e.end and s.len < min(e.mss, e.end - e.seq, self._mss(s)) and size >= path_least(s)
