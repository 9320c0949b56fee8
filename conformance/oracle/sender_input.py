"""Inputs to the sender half: acknowledgments, windows, what the handshake agreed on."""

from conformance.oracle.recovery import DATA, ECE, WIN_UPDATE
from conformance.oracle.sender_rules import (
    ECHO_MAX,
    H32,
    M32,
    RETREATS,
    TICK,
    TOLD,
)
from conformance.oracle.sender_state import SenderState
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, SYN
from refmodel.packet.transport import ECE as F_ECE


class Inputs(SenderState):
    """What arrives."""

    __slots__ = ()

    def takes(self, s: Segment) -> None:
        """Processes an input's ACK, window and SACK blocks; source net/ipv4/tcp_input.c:tcp_ack."""
        flags = s.flags
        if not flags & ACK or s.number == self.early:
            return
        f = self.f
        if not self.started:
            if flags & SYN:
                return
            self._begin(s.ack_seq)
        if not self.agreed:
            self._agree()
        una = f.una
        ack = una + ((s.ack_seq - una + H32) & M32) - H32
        now = s.time // 1000
        if ack > f.nxt:
            if self._end.stack.near is not True or self.middle:
                self.beyond = max(self.beyond, ack)
            return
        self.heard = now
        if ack > una and self.doubt:
            self._answered()
        if una == self.iss and ack > una:
            rtt = now - self.syn_at if self.syns == 1 else self._echo(s, now)
            if rtt >= 0:
                f.rtt.least(rtt, now)
                f.rtt.sample(rtt, ack, f.nxt)
            f.una = una = self.iss + 1
            if flags & SYN:
                f.wnd = f.max_window = s.window
                self.wl1 = s.seq
                self.right = max(self.right, ack + s.window)
                self.past.append((s.number, now, self.iss, ack, s.tsval))
                self.syn_lost = ack == una and bool(f.board.q)
                if self.syn_lost:
                    f.restart(now)
                if ack > una and f.board.q:
                    f.ack(ack, now, DATA, [], -1, ack, 0, False)
                return
        if flags & SYN:
            return
        if s.truncated:
            self.blind = True  # SACK blocks were cut off
        if f.ts_ok is None:
            f.ts_ok = s.tsval is not None
        sack = s.sack
        blocks = [(self._number(a), self._number(b)) for a, b in sack[:4]] if sack else []
        if blocks:
            self.told.append((s.number, now, blocks))
            if len(self.told) > TOLD:
                del self.told[0]
        if ack < una:
            if blocks and ack >= una - max(f.max_window, 1):
                self.past.append((s.number, now, una, una, None))
                f.ack(ack, now, self._ece(flags), blocks, -1 if s.tsecr is None else s.tsecr, ack, 0, True)
            return
        win = s.window << self.wscale
        if ack + win > self.right:
            self.right = ack + win
        elif ack + win < self.right or not win:
            self.retreats = (*self.retreats, ack + win)[-RETREATS:]
        d = (s.seq - self.wl1) & M32
        news = ack > una or 0 < d < H32 or (d == 0 and (win > f.wnd or (win == 0 and self.zero_is_news)))
        if news:
            self.wl1 = s.seq
            f.wnd = win
            if win > f.max_window:
                f.max_window = win
        if f.board.out or blocks or f.tlp_high >= 0:
            flag = self._ece(flags)
            if s.len or flags & FIN:
                flag |= DATA
            if news:
                flag |= WIN_UPDATE
            f.echo = self._echo(s, now) if f.total_retrans else -1
            f.ack(ack, now, flag, blocks, -1 if s.tsecr is None else s.tsecr, ack, 1, False)
        else:
            f.una = ack
        self.past.append((s.number, now, una, f.una, s.tsval))

    def _echo(self, s: Segment, now: int) -> int:
        """The round trip in us that the echoed timestamp tells, -1 for none; source tcp_input.c:tcp_rtt_tsopt_us."""
        if self.ts_base is None or not s.tsecr:
            return -1
        tsval, at = self.ts_base
        rtt = now - at - (((s.tsecr - tsval + H32) & M32) - H32) * TICK
        return max(rtt, TICK) if rtt < ECHO_MAX else -1

    def _ece(self, flags: int) -> int:
        return ECE if flags & F_ECE and self.ecn and not flags & SYN else 0

    def _answered(self) -> None:
        """Something was acknowledged: the timer did not end the connection."""
        if self.doubt:
            self.doubt = False
            self._end.counts.add("TcpExt.TCPTimeouts", 0, -1)

    def _doubtful(self) -> None:
        """A timer runs whose last expiry, which ends the connection, would send nothing."""
        if not self.doubt:
            self.doubt = True
            self._end.counts.add("TcpExt.TCPTimeouts", 0, 1)
