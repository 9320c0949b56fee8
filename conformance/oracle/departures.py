"""Departures: what a frame that left changes, and which counters it moves."""

from conformance.oracle.end import Label
from conformance.oracle.recovery import CWR, LOSS, OPEN, RECOVERY, TLP
from conformance.oracle.repeats import Repeats
from conformance.oracle.scoreboard import R, Sent, segments
from conformance.oracle.sender_rules import (
    BY_PATH,
    BY_PROBE0,
    BY_RTO,
    BY_TLP,
    FILL,
    HEADERS,
    HEADERS_6,
    JIFFY,
    M32,
    NEW,
    NOTHING,
    OLD,
    PROBE,
    TIMERS,
)
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, PSH, RST, SYN


class Departures(Repeats):
    """The application of what was classified."""

    __slots__ = ()

    def sent(self, s: Segment, label: Label) -> None:
        """The output left: queues, states and counters follow."""
        flags = s.flags
        count = self._end.counts.add
        if flags & (SYN | RST):
            if flags & SYN:
                self._left(s)
            self._opening(s, label)
            return
        if self.classified != s.number:  # another part knew who sent it: where it lies is asked all the same
            self.classify(s)
        f = self.f
        now = self.now
        what = self.what
        if not self.older:
            self.fresh = what == NEW or (what == NOTHING and self.lo == f.nxt)
        if not self.opened and self.syn is not None and self.syn.flags & ACK:
            # A full accept queue drops ACKs of the handshake: the first sample is as long as that lasts.
            self.opened = max(now - self.syn_at, 1)
        if what == NOTHING:
            count("Tcp.OutSegs")
            if self.lo > f.nxt:
                self._unseen(self.lo, now, s)
            elif s.ip_id and self.lo == f.nxt and self.last_id == (s.ip_id + 1) & 0xFFFF:
                self.hollow = False
        elif what == NEW:
            self._sent_new(s, now)
        elif what == PROBE:
            count("Tcp.OutSegs")
            count("TcpExt.TCPWinProbe" if self.how == BY_PROBE0 else "TcpExt.TCPKeepAlive")
            self.probed = now
        elif what == FILL:
            self._fill_in(s)
        elif what == OLD:
            n = segments(s.len, self._mss(s))
            count("Tcp.RetransSegs", 0 if not self.sure else n, n)
        else:
            self._sent_again(s, now)
        if s.tsval is not None:
            self.last_ts = s.tsval
        if gap := self._end.ident.steps_since_last(s):
            self._hidden(gap)

    def _hidden(self, gap: int) -> None:
        """`gap` segments left unseen before the frame, as the ids tell: acknowledgments or repetitions."""
        if self._end.stack.near is True and gap > self.unseen:
            self.hidden += gap - self.unseen
            self._end.counts.add("Tcp.OutSegs", 0, gap - self.unseen)
            self._end.counts.add("Tcp.RetransSegs", 0, gap - self.unseen)
        self.unseen = 0

    def _opening(self, s: Segment, label: Label) -> None:
        count = self._end.counts.add
        if s.flags & RST:
            count("Tcp.OutSegs")
            return
        f = self.f
        seq = s.seq
        if self.iss >= 0 and seq == self.iss & M32 and self.syn is not None:
            self._syn_again(s, label)
            return
        count("Tcp.OutSegs")
        self.last_id = -1
        self.missed = 0
        if s.ip_id and not s.flags & ACK:
            self.last_id = (s.ip_id + 1) & 0xFFFF
            self.from_start = True
        self.syn, self.iss, self.syns, self.syn_at = s, seq, 1, s.time // 1000
        self.started, self.middle, self.agreed = True, False, False
        f.una, f.nxt = seq, seq + 1
        f.high_seq = f.fack = seq
        f.board.q.clear()
        f.board.drop(0)
        if not s.flags & ACK:
            self._doubtful()
        if s.len:
            self.lo, self.hi = seq + 1, seq + 1 + s.len
            count("TcpExt.TCPOrigDataSent")
            f.mss = s.mss or 536
            self._append(s, self.syn_at, s.len)
            f.restart(self.syn_at)

    def _syn_again(self, s: Segment, label: Label) -> None:
        """A SYN or SYN-ACK left again, or crossed SYNs made a SYN-ACK of a SYN, which counts as nothing."""
        count = self._end.counts.add
        if self._end.life.doubled == s.number:
            return
        assert self.syn is not None
        before, self.syn = self.syn, s
        self.syns += 1
        if s.ip_id and (not s.flags & ACK or s.ip_id == self.last_id):  # a SYN-ACK of crossing SYNs is the socket's
            self.last_id = (s.ip_id + 1) & 0xFFFF
        self.syn_at = s.time // 1000
        if s.flags & ACK and not before.flags & ACK:
            return
        if label.by == "tcp_conn_request":  # a SYN cookie: nothing remembers that there was one before
            count("Tcp.OutSegs")
            return
        count("Tcp.RetransSegs")
        if s.flags & ACK:
            count("Tcp.OutSegs")
        if label.by in TIMERS:
            count("TcpExt.TCPTimeouts")
            if not s.flags & ACK and self.syns > 2:
                count("TcpExt.TCPLostRetransmit")
            self._doubtful()

    def _unseen(self, lo: int, now: int, s: Segment) -> None:
        """What lies before the frame left without being seen."""
        f = self.f
        if self._starts():
            f.una = f.nxt = f.fack = f.high_seq = lo
            return
        n = lo - f.nxt
        mss = self._mss(s)
        segs = segments(n, mss)
        left = f.board.q[-1].first if f.board.q else now  # not before the last that was seen
        e = Sent(f.nxt, lo, left, mss, segs)
        e.first = now
        e.unseen, e.tsval = True, s.tsval or 0
        f.board.append(e)
        f.nxt = lo
        known = min(segs, self.hidden)  # the ids told of them at an earlier frame
        if known and not self._end.ident.steps_since_last(s):
            self.hidden -= known
            self._end.counts.add("Tcp.OutSegs", 0, -known)
            self._end.counts.add("Tcp.RetransSegs", 0, -known)
        self.unseen = segs
        self.missed = max(self.missed - segs, 0)
        self._end.counts.add("Tcp.OutSegs", segs)
        self._end.counts.add("TcpExt.TCPOrigDataSent", segs)
        if self.beyond > f.una and self.beyond <= lo:
            f.ack(self.beyond, now, 0, [], -1, self.beyond, 0, False)
            self.beyond = -1

    def _append(self, s: Segment, now: int, mss: int) -> Sent:
        f = self.f
        n = s.len
        if n > mss and n % mss and f.mss and not s.flags & PSH:
            f.mss += n - mss  # a super-segment has PSH: this is one segment, a cookie's MSS may exceed the peer's
            mss = n
        e = Sent(self.lo, self.hi, now, mss, 1 if n <= mss else -(-n // mss))
        e.source, e.at = s, s.payload_at
        e.fin = s.flags & FIN
        e.tsval = s.tsval or 0
        f.board.append(e)
        f.nxt = self.hi
        return e

    def _sent_new(self, s: Segment, now: int) -> None:
        f, count = self.f, self._end.counts.add
        if self.lo > f.nxt:
            self._unseen(self.lo, now, s)
        elif self.lo < f.nxt:
            self.lo = f.nxt
        first = not f.board.out
        e = self._append(s, now, self._mss(s))
        if e.fin:
            self.fin = e.end
        count("Tcp.OutSegs", e.segs)
        count("TcpExt.TCPOrigDataSent", e.segs)
        if self.how == BY_TLP:
            count("TcpExt.TCPLossProbes")
            f.tlp_high, f.tlp_retrans = f.nxt, False
            f.restart(now)
            return
        if self.how == BY_PROBE0:
            f.restart(now)
            self.probed = now
            return
        self.full = e.end - e.seq >= e.mss and not s.len % e.mss
        if f.sack_ok and f.tlp_on and f.ca in (OPEN, CWR):
            f.set_timer(now)
        elif first or f.kind == TLP:
            f.restart(now)

    def _fill_in(self, s: Segment) -> None:
        """The unseen frame came after all."""
        board = self.f.board
        e = board.q[self.at]
        if self.lo > e.seq:
            board.split(self.at, self.lo)
            e = board.q[self.at + 1]
            self.at += 1
        if self.hi < e.end:
            board.split(self.at, self.hi)
            e = board.q[self.at]
        e.unseen = False
        e.source, e.at, e.tsval = s, s.payload_at, s.tsval or 0

    def _sent_again(self, s: Segment, now: int) -> None:
        f, count, how = self.f, self._end.counts.add, self.how
        board = f.board
        i, lo = self.at, self.lo
        e = board.q[i]
        if lo > e.seq:
            board.split(i, lo)
            i += 1
            e = board.q[i]
        if self.hi > f.nxt:
            e = board.q[-1]
            e.end, e.fin = self.hi, 1
            f.nxt = self.fin = self.hi
        e.unseen = False
        mss = self._mss(s)
        if how == BY_PATH and (mtu := self._path_fell(e, now)):
            f.mss = min(f.mss, mtu - (HEADERS if s.ip_id is not None else HEADERS_6))
            mss = self._mss(s)
        if s.len < min(mss, e.end - e.fin - e.seq) and how == BY_PATH and not self.syn_lost:
            f.mss -= mss - s.len
            mss = s.len
        tsval = s.tsval or 0
        if how == BY_TLP:
            n = f.again(i, self.hi, now, tsval, mss, True)
            count("TcpExt.TCPLossProbes")
            f.tlp_high, f.tlp_retrans = f.nxt, True
            f.restart(now)
        elif how == BY_RTO:
            if now - e.time < (f.rtt.rto_low() << f.backoff) - JIFFY:
                f.backoff = 0  # a thin stream's time-outs are all of one length
            f.timeout(now)
            self._doubtful()
            n = f.again(i, self.hi, now, tsval, mss)
            f.restart(now)
        else:
            n = self._again_lost(e, i, now, tsval, mss)
        count("Tcp.RetransSegs", n)
        self.syn_lost = False

    def _again_lost(self, e: Sent, i: int, now: int, tsval: int, mss: int) -> int:
        """The queue of what is lost goes again; source net/ipv4/tcp_output.c:tcp_xmit_retransmit_queue."""
        f, count = self.f, self._end.counts.add
        board = f.board
        again = e.sacked & R
        if self.how == BY_PATH:
            if f.ca != LOSS:
                f.high_seq, f.undo_marker, f.ca = f.nxt, -1, LOSS
        elif f.ca < RECOVERY or (f.ca == LOSS and again):
            f.enter_recovery()
        f.frto = False
        if again:
            count("TcpExt.TCPLostRetransmit", e.segs)
            e.sacked &= ~R
            board.retrans -= e.segs
        n = f.again(i, self.hi, now, tsval, mss)
        count("TcpExt.TCPSlowStartRetrans" if f.ca == LOSS else "TcpExt.TCPFastRetrans", n)
        if i == 0:
            f.restart(now)
        return n
