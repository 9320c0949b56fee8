"""Inputs to the receiving half: timestamps, text, FINs, what the handshake agreed on."""

from conformance.oracle.end import us
from conformance.oracle.position import Origin, newer
from conformance.oracle.receiver_rules import ECN_CE, FORGOTTEN, REMEMBERED, TCP_FASTRETRANS_THRESH
from conformance.oracle.receiver_state import ReceiverState
from conformance.oracle.sack import BEHIND_HOLE, FILLED, IN_ORDER, OLD, Reassembly, unwrap
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, AE, CWR, ECE, FIN, SYN
from refmodel.tcp.state import St
from refmodel.types import M32


class Arriving(ReceiverState):
    """What arrives."""

    __slots__ = ()

    def takes(self, s: Segment) -> None:
        """Processes an input behind validation: timestamp, text, FIN; source net/ipv4/tcp_input.c:tcp_data_queue."""
        flags = s.flags
        if flags & SYN:
            self._syn(s)
            return
        if not self.known:
            self._first_text(s)
            return
        re = self.re
        nxt = re.nxt
        if self.origin is None:
            self.origin = Origin(re, self.ts_recent)
        if len(self.origin.since) < FORGOTTEN:
            self.origin.since.append(s)
        seq = unwrap(s.seq, nxt)
        end = seq + s.len + (flags & FIN)
        at = us(s)
        if self.loose:
            self.astray.comes(seq, end, self._pieces(s), s.tsval, at)
        why = self.acceptable(s, nxt, self.ts_recent)
        if why:
            self.refuses(s, why)
            return
        recent = self.newer_echo(s, seq, self.ts_recent)
        if recent != self.ts_recent and recent is not None:
            self.ts_recent, self.ts_at = recent, at
            self.stamps.append((s.number, at, recent))
            if len(self.stamps) > REMEMBERED:
                del self.stamps[0]
        tsval = s.tsval
        if tsval is not None and (self.top is None or newer(tsval, self.top)):
            self.top = tsval
            self.ts_loose = self.ts_loose or (recent != tsval and seq <= self.wup)
        if flags & CWR and self.ce:
            self.ce = False
        if seq == end:
            return
        if self.skips:
            self._grows(s)
            self.ofo_told += self._pieces(s)
            return
        if flags & CWR:
            self.clock.mandated = True
        self._text(s, seq, end, at)

    def _text(self, s: Segment, seq: int, end: int, at: int) -> None:
        re, clock, promise = self.re, self.clock, self.promise
        nxt = re.nxt
        flags = s.flags
        kind = re.take(seq, end, flags & FIN != 0, self.room_left(nxt), s.len == 0)
        self.text_at = at
        self.arrivals.append((s.number, at, seq, end))
        if len(self.arrivals) > REMEMBERED:
            del self.arrivals[0]
        if kind in (IN_ORDER, FILLED):
            if s.len:
                window = max(promise.window, 0)
                clock.measure(s.len, flags, s.payload_at - s.l4, 32 if s.tsval is not None else 20)
                clock.data(at, window)
                promise.grows(s.len, False, self._pieces(s))
                if s.tos & 3 == ECN_CE:
                    self._marked(window)
            clock.owes(at, s.number)
            if kind == FILLED:
                clock.mandated = True
            self.dup_acks = 0
            if re.twice:
                self.old_sets += 1
            if re.told_at_fin is not None:
                self._fin()
            clock.check(at, re.nxt - self.wup, bool(re.ranges), self._srtt())
            return
        clock.owes(at, s.number)
        if kind == BEHIND_HOLE:
            promise.grows(s.len, True, self._pieces(s))
            self.ofo_told += 1
            self.untold += re.twice
            if s.tos & 3 == ECN_CE:
                self._marked(max(promise.window, 0))
            if clock.quick and clock.pingpong < clock.thresh:
                self._credit(at, "__tcp_ack_snd_check")
            elif re.sack and self.dup_acks >= TCP_FASTRETRANS_THRESH:
                self.compressed += 1
                self._credit(at, "tcp_compressed_ack_kick")
            else:
                self.dup_acks += 1
                self._credit(at, "__tcp_ack_snd_check")
            return
        if kind == OLD:
            self.old_sets += 1
        clock.enter_quick(max(promise.window, 0))
        self._credit(at, "__tcp_ack_snd_check")

    def refuses(self, s: Segment, why: str) -> None:
        """An input outside the window or with an old timestamp (`why` of `acceptable`): a duplicate ACK may answer it.

        Source: net/ipv4/tcp_input.c:tcp_send_dupack.
        """
        re = self.re
        if why == "unsent":
            self.end.life.due("tcp_send_challenge_ack", s)
            return
        seq = unwrap(s.seq, re.nxt)
        end = seq + s.seg_len
        if end != seq and seq < re.nxt:
            self.clock.enter_quick(max(self.promise.window, 0))
            self.old_sets += 1
            if re.sack and re.tells:
                re.refused(seq, min(end, re.nxt))
        self._credit(us(s), "tcp_send_dupack")

    def missed(self, s: Segment) -> None:
        """An input was dropped behind the tap; on its way to a far end it may only be late."""
        if self.loose and self.known:
            seq = unwrap(s.seq, self.re.nxt)
            self.astray.comes(seq, seq + s.seg_len, self._pieces(s), s.tsval, us(s))
            self._grows(s)
            self.ofo_told += self._pieces(s) if s.len else 0

    def _syn(self, s: Segment) -> None:
        """The peer's SYN or SYN-ACK came."""
        if self.known and s.flags & ACK and self.re.nxt & M32 == (s.seq + 1) & M32:
            self.old_sets += 1
            self._credit(us(s), "__tcp_ack_snd_check")
        self.known = True
        self.re = Reassembly(s.seq + 1, self.re.sack, not self.dsack_off)
        self.wup = self.first = self.re.nxt
        self.peer_stamp = s.tsval
        self.ts_recent, self.ts_at, self.top = s.tsval, us(s), s.tsval
        self.ts_ok = s.tsval is not None
        self.astray.stamped(s.tsval)
        self.astray.middle = False
        self.promise.asks(s, self.re.nxt)
        self._agree(False, s)

    def _agree(self, mine: bool, s: Segment) -> None:
        """What both SYNs say: SACK, ECN."""
        if self.ecn_syn is None or self.ecn_syn[0] == mine:
            self.ecn_syn = (mine, s.flags, s.tos)
            self.re.sack = s.sack_perm
            return
        _, flags, tos = self.ecn_syn
        self.re.sack = self.re.sack and s.sack_perm
        self.sack_known = True
        self.ts_ok = self.ts_ok is not False and s.tsval is not None
        classic = flags & (AE | ECE | CWR) == ECE | CWR and s.flags & (AE | ECE | CWR) == ECE
        # Congestion control that needs ECN marks its SYN too, and echoes each mark.
        self.ecn_ok = classic and not (tos | s.tos) & 3
        window = max(self.promise.window, 0)
        stamps = 12 if self.ts_ok else 0
        self.promise.advmss = max(self.promise.advmss - stamps, 0)
        self.clock.established(self.promise.advmss, 0, window, us(s))

    def _first_text(self, s: Segment) -> None:
        """A start in mid-connection: the first output will tell what was expected."""
        if s.tsval is not None:
            self.ts_ok, self.ts_recent, self.ts_at, self.top = True, s.tsval, us(s), s.tsval
            self.ts_loose = True

    def _marked(self, window: int) -> None:
        """Data came with a congestion mark; source net/ipv4/tcp_input.c:__tcp_ecn_check_ce."""
        if self.ecn_ok and not self.ce:
            self.ce = True
            self.clock.enter_quick(window, 2)

    def _fin(self) -> None:
        """The peer's FIN came into order; source net/ipv4/tcp_input.c:tcp_fin."""
        end = self.end
        before = end.state
        end.life.moves()
        if end.state == before:
            end.state = {
                St.SYN_RECV: St.CLOSE_WAIT,
                St.ESTABLISHED: St.CLOSE_WAIT,
                St.FIN_WAIT1: St.CLOSING,
                St.FIN_WAIT2: St.TIME_WAIT,
            }.get(before, before)
        if before in (St.SYN_RECV, St.ESTABLISHED):
            self.clock.pingpong = self.clock.thresh
        elif before in (St.FIN_WAIT1, St.FIN_WAIT2):
            self.fin_due = True
