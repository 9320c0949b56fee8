"""The sender's state as acknowledgments move it: what is SACKed, the congestion states, undo, the timer.

The law: the kernel's order of tcp_ack, with one difference. Which segments it holds for lost shows only when it sends
them again, so Recovery begins here with the first retransmission that arrivals excuse (`enter_recovery`), and a
retransmission that was lost again counts with its successor. Times are the tap's, in us.
"""

from typing import ClassVar, Final

from conformance.oracle.end import Counts
from conformance.oracle.scoreboard import EVER, Board, L, R, S, Sent, segments
from conformance.oracle.timers import RTO_MAX, Rtt

OPEN, DISORDER, CWR, RECOVERY, LOSS = range(5)
STATES: Final = ("Open", "Disorder", "CWR", "Recovery", "Loss")
NONE, RTO, TLP = range(3)  # which timer runs

DATA: Final = 0x01  # flags of tcp_ack, as in refmodel.tcp.whole.acktag
WIN_UPDATE: Final = 0x02
DATA_ACKED: Final = 0x04
RETRANS_ACKED: Final = 0x08
DATA_SACKED: Final = 0x20
ECE: Final = 0x40
ORIG_SACK_ACKED: Final = 0x200
UNA_ADVANCED: Final = 0x400
DSACKING: Final = 0x800
SET_TIMER: Final = 0x1000
RENEGING: Final = 0x2000
DSACK_TLP: Final = 0x20000
NOT_DUP: Final = DATA | WIN_UPDATE | DATA_ACKED
CA_ALERT: Final = DATA_SACKED | ECE | DSACKING

H32: Final = 0x80000000
M32: Final = 0xFFFFFFFF
INIT_CWND: Final = 10  # TCP_INIT_CWND
MAX_REORDERING: Final = 300  # net.ipv4.tcp_max_reordering
NOISE: Final = 100  # us by which the tap's round trips differ from the kernel's
RENEGE_WAIT: Final = 10_000  # us

Block = tuple[int, int]


class Flow:
    """One direction's sender. Sequence numbers are unwrapped; `sack_ok` and `ts_ok` are None while not known."""

    __slots__: ClassVar[tuple[str, ...]] = (
        "armed", "backoff", "board", "ca", "cache", "counts", "delivered", "dsack_dups", "due", "echo", "fack", "frto",
        "high_seq", "kind", "max_window", "may_frto", "mss", "nxt", "rack_end", "rack_rtt", "rack_time", "reno",
        "reord_seen", "reordering", "retrans_stamp", "retransmits", "rtt", "sack_ok", "tlp_high",
        "tlp_on", "tlp_retrans", "total_retrans", "ts_ok", "una", "undo_marker", "undo_retrans", "wnd",
    )  # fmt: skip

    def __init__(self, counts: Counts, rtt: Rtt) -> None:
        self.counts, self.rtt, self.board = counts, rtt, Board()
        self.una = self.nxt = self.high_seq = self.fack = 0
        self.wnd = self.max_window = 0
        self.mss = 0  # of one segment, without options; 0: not known
        self.sack_ok: bool | None = None
        self.ts_ok: bool | None = None
        self.ca = OPEN
        self.frto = self.tlp_retrans = False
        self.tlp_on = self.may_frto = True
        self.undo_marker = -1
        self.undo_retrans = -1
        self.retrans_stamp = -1  # TSval of the first retransmission, -1: none
        self.tlp_high = -1
        self.retransmits = self.backoff = self.total_retrans = self.dsack_dups = 0
        self.reno = 0  # duplicate acknowledgments without SACK
        self.rack_time = self.rack_end = self.rack_rtt = 0
        self.reord_seen = self.delivered = 0
        self.reordering = 3
        self.kind = NONE
        self.echo = -1  # the round trip (us) that the acknowledgment's TSecr tells, -1: not known
        self.armed = self.due = 0
        self.cache: list[Block] = []

    def copy(self) -> "Flow":
        """A copy that shares nothing that changes."""
        new = Flow(self.counts, self.rtt)
        for name in Flow.__slots__:
            setattr(new, name, getattr(self, name))
        new.board, new.rtt, new.cache = self.board.copy(), self.rtt.copy(), list(self.cache)
        return new

    # -- the timer

    def rto(self) -> int:
        """The timeout as it stands, backed off, in us."""
        return min(self.rtt.rto() << self.backoff, RTO_MAX)

    def set_timer(self, now: int) -> None:
        """Something was acknowledged: the probe of the tail, else the timeout, runs anew.

        Source net/ipv4/tcp_input.c:tcp_set_xmit_timer.
        """
        q = self.board.q
        self.armed = now
        if not q:
            self.kind = NONE
            return
        rto = self.rto()
        if self.ca in (OPEN, CWR) and self.sack_ok and self.tlp_on:
            left = q[0].time + rto - now
            self.kind = TLP
            pto = self.rtt.pto(self.board.out == 1)
            self.due = now + (left if 0 < left < pto else pto)
        elif self.kind == TLP:
            self.kind = RTO
            self.due = max(q[0].time + rto, now)
        else:
            self.kind = RTO
            self.due = now + rto

    def restart(self, now: int) -> None:
        """The timeout runs in full from now."""
        self.kind, self.armed, self.due = RTO, now, now + self.rto()

    # -- acknowledgments

    def ack(
        self, ack: int, now: int, flag: int, blocks: list[Block], tsecr: int, cum: int, dups: int, old: bool
    ) -> None:
        """An acknowledgment of `ack`; `cum` is the field itself, `old`: it lies below snd_una.

        Source net/ipv4/tcp_input.c:tcp_ack.
        """
        prior_una, board = self.una, self.board
        if old:
            flag, sackt = self.sacktag(blocks, cum, prior_una, now, flag)
            self.alert(now, flag, 0, tsecr)
            return
        if ack > prior_una:
            flag |= UNA_ADVANCED
            self.retransmits = 0
            self.una = ack
        prior_out, prior_sacked = board.out, board.sacked
        sackt = (0, 0)
        if blocks and (prior_out or self.sack_ok is not False):
            flag, sackt = self.sacktag(blocks, cum, prior_una, now, flag)
        if not prior_out:
            if flag & DSACKING:
                self.alert(now, flag, 0, tsecr)
            if self.tlp_high >= 0:
                self.tlp_ack(ack, flag)
            return
        flag = self.clean(now, flag, tsecr, sackt, prior_una, prior_sacked)
        if self.tlp_high >= 0:
            self.tlp_ack(ack, flag)
        if not flag & NOT_DUP or flag & CA_ALERT or self.ca != OPEN:
            num = 0
            if not flag & (UNA_ADVANCED | NOT_DUP | DSACKING):
                num = dups
            flag = self.alert(now, flag, num, tsecr)
        if flag & SET_TIMER:
            self.set_timer(now)

    def clean(self, now: int, flag: int, tsecr: int, sackt: Block, prior_una: int, prior_sacked: int) -> int:
        """Frees what is acknowledged and takes samples of time; source net/ipv4/tcp_input.c:tcp_clean_rtx_queue."""
        board, una = self.board, self.una
        q = board.q
        n = acked = first = last = 0
        partial = False
        reord = self.nxt
        fack = self.fack if prior_sacked else prior_una
        for e in q:
            bits = e.sacked
            if e.end > una:
                if e.segs == 1 or una <= e.seq:
                    break
                pcount = board.trim(una)
                if not pcount:
                    break
                partial = True
            else:
                board.forget(e)
                pcount = e.segs
                n += 1
            acked += pcount
            if bits & (R | EVER):
                flag |= RETRANS_ACKED
            elif not bits & S:
                last = e.time
                if not first:
                    first = last
                reord = min(reord, e.seq)
                if e.end <= self.high_seq:
                    flag |= ORIG_SACK_ACKED
            if not bits & S:
                self.delivered += pcount
                if self.sack_ok and not (bits & (R | EVER) and self.ts_ok and _before(tsecr, e.tsval)):
                    self.rack(e, now)
            flag |= DATA_ACKED
            if partial:
                break
        if n:
            board.drop(n)
        if not flag & DATA_ACKED:
            if q and q[0].sacked & S:
                flag |= RENEGING
            if sackt[0]:
                self.sample(now - sackt[0], now - sackt[1], now)
                if q and sackt[0] < q[0].time:
                    flag |= SET_TIMER
            return flag
        if q and q[0].sacked & S:
            flag |= RENEGING
        if first and not flag & RETRANS_ACKED:
            self.sample(now - first, now - (sackt[1] or last), now)
        elif sackt[0]:
            self.sample(now - sackt[0], now - sackt[1], now)
        elif self.echo >= 0:
            self.sample(self.echo, self.echo, now)
        elif self.ts_ok and tsecr >= 0:
            self.backoff = 0  # a sample of the echo, which from here can't be told
        flag |= SET_TIMER
        if self.sack_ok is False:
            self.reno = max(0, self.reno - max(acked - 1, 0))
            self.reno_reordering(acked)
            if flag & RETRANS_ACKED:
                flag &= ~ORIG_SACK_ACKED
        elif reord < fack:
            self.reordered(reord)
        return flag

    def sample(self, m: int, least: int, now: int) -> None:
        """A sample of the round trip; it takes back every doubling of the timeout."""
        self.rtt.least(max(least, 0), now)
        self.rtt.sample(max(m, 0), self.una, self.nxt)
        self.backoff = 0

    def rack(self, e: Sent, now: int) -> None:
        """The entry arrived: RACK's clock moves; source net/ipv4/tcp_recovery.c:tcp_rack_advance, RFC 8985 6.2."""
        rtt = max(now - e.time, 0)
        if rtt + (rtt >> 3) + NOISE < self.rtt.min_rtt and e.sacked & (R | EVER):
            return
        self.rack_rtt = rtt
        if (e.time, e.end) > (self.rack_time, self.rack_end):
            self.rack_time, self.rack_end = e.time, e.end

    def reordered(self, low: int) -> None:
        """Data above `low` arrived before it; source net/ipv4/tcp_input.c:tcp_check_sack_reordering."""
        if low >= self.fack:
            return
        mss = self.mss
        if mss and self.fack - low > self.reordering * mss:
            self.reordering = min(-(-(self.fack - low) // mss), MAX_REORDERING)
        self.reord_seen += 1
        self.counts.add("TcpExt.TCPSACKReorder")

    # -- SACK

    def sacktag(self, blocks: list[Block], cum: int, prior_una: int, now: int, flag: int) -> tuple[int, Block]:
        """Tags what the blocks cover; the flags, and when the first and last never-repeated one had left (us; 0: none).

        Source net/ipv4/tcp_input.c:tcp_sacktag_write_queue, RFC 2018 5, RFC 2883 4.
        """
        board = self.board
        if not board.sacked:
            self.fack = self.una
            self.cache = []
        reord = self.nxt
        dsack = self.is_dsack(blocks, cum)
        if dsack:
            dups = self.dsack(blocks[0], prior_una)
            flag |= dups
            dsack = dups != 0
        if not board.out:
            return flag, (0, 0)
        sp = []
        for i, (lo, hi) in enumerate(blocks):
            if hi > self.nxt or lo >= hi:
                continue
            if lo <= self.una and not (i == 0 and dsack and self.undo_marker >= 0 and hi <= self.una):
                continue
            if hi <= prior_una:
                continue
            sp.append((lo, hi, i == 0 and dsack))
        sp.sort()
        first = last = 0
        for lo, hi, dup in sp:
            if dup:
                flag, first, last, reord = self.tag(lo, hi, True, now, flag, first, last, reord)
                continue
            at = lo
            for c, d in self.cache:
                if c < hi and d > at:
                    if at < c:
                        flag, first, last, reord = self.tag(at, c, False, now, flag, first, last, reord)
                    at = max(at, d)
            if at < hi:
                flag, first, last, reord = self.tag(at, hi, False, now, flag, first, last, reord)
        self.cache = [(lo, hi) for lo, hi, _ in sp]
        if self.ca != LOSS or self.undo_marker >= 0:
            self.reordered(reord)
        return flag, (first, last)

    def is_dsack(self, blocks: list[Block], cum: int) -> bool:
        """The first block is a DSACK; source net/ipv4/tcp_input.c:tcp_check_dsack."""
        lo, hi = blocks[0]
        if lo < cum:
            self.counts.add("TcpExt.TCPDSACKRecv")
            return True
        if len(blocks) > 1 and hi <= blocks[1][1] and lo >= blocks[1][0]:
            self.counts.add("TcpExt.TCPDSACKOfoRecv")
            return True
        return False

    def dsack(self, block: Block, prior_una: int) -> int:
        """What a DSACK says: flags, or 0 if what was repeated can't explain it; source tcp_input.c:tcp_dsack_seen."""
        lo, hi = block
        if lo >= hi or hi - lo > max(self.max_window, 1):
            return 0
        segs, flag = 1, DSACKING
        if self.mss and hi - lo > self.mss:
            segs = segments(hi - lo, self.mss)
        elif self.tlp_high >= 0 and self.tlp_high == hi:
            flag |= DSACK_TLP
        self.dsack_dups += segs
        if self.dsack_dups > self.total_retrans:
            return 0
        self.delivered += segs
        if self.undo_marker >= 0 and self.undo_retrans > 0 and self.undo_marker < hi <= prior_una:
            self.undo_retrans = max(0, self.undo_retrans - segs)
        return flag

    def tag(
        self, lo: int, hi: int, dup: bool, now: int, flag: int, first: int, last: int, reord: int
    ) -> tuple[int, int, int, int]:
        """Tags the entries in [lo, hi), cutting one at a segment's edge; source tcp_input.c:tcp_match_skb_to_sack."""
        board, high = self.board, self.high_seq
        q = board.q
        i = board.index(lo)
        if i < 0:
            i = 0
        while i < len(q):
            e = q[i]
            if e.seq >= hi:
                break
            if e.end <= lo:
                i += 1
                continue
            if not (lo <= e.seq and hi >= e.end):
                if e.segs == 1:
                    i += 1
                    continue
                # The kernel cuts where a segment ends; the peer's edge is such a place, whatever the MSS was.
                cut = lo if lo > e.seq else hi
                if not e.seq < cut < e.end - e.fin:
                    i += 1
                    continue
                board.split(i, cut)
                if lo > e.seq:
                    i += 1
                    continue
            bits = e.sacked
            repeated = dup and bits & (R | EVER)
            if repeated and 0 <= self.undo_marker < e.end and self.undo_retrans > 0:
                self.undo_retrans = max(0, self.undo_retrans - e.segs)
            if repeated and bits & S:
                reord = min(reord, e.seq)
            if e.end > self.una and not bits & S:
                self.rack(e, now)
                if bits & R:
                    board.retrans -= e.segs
                elif not bits & EVER:
                    if e.seq < self.fack:
                        reord = min(reord, e.seq)
                    if e.end <= high:
                        flag |= ORIG_SACK_ACKED
                    if not first:
                        first = e.time
                    last = e.time
                if bits & L:
                    board.lost -= e.segs
                e.sacked = bits & EVER | S | (EVER if bits & R else 0)
                board.sacked += e.segs
                self.delivered += e.segs
                flag |= DATA_SACKED
            if e.seq >= self.fack:
                self.fack = e.end
            i += 1
        return flag, first, last, reord

    # -- the congestion states

    def tlp_ack(self, ack: int, flag: int) -> None:
        """The probe of the tail is answered; source net/ipv4/tcp_input.c:tcp_process_tlp_ack, RFC 8985 7.4."""
        if ack < self.tlp_high:
            return
        if not self.tlp_retrans or flag & DSACK_TLP:
            self.tlp_high = -1
        elif ack > self.tlp_high:
            self.high_seq, self.tlp_high = self.nxt, -1
            self.ca = CWR
            self.keep_open()
            self.counts.add("TcpExt.TCPLossProbeRecovery")
        elif not flag & (UNA_ADVANCED | NOT_DUP | DATA_SACKED):
            self.tlp_high = -1

    def any_retrans(self) -> bool:
        """Something that is out was repeated; source net/ipv4/tcp_input.c:tcp_any_retrans_done."""
        b = self.board
        return b.retrans > 0 or bool(b.q and b.q[0].sacked & EVER)

    def keep_open(self) -> None:
        """Open or Disorder; source net/ipv4/tcp_input.c:tcp_try_keep_open."""
        b = self.board
        state = DISORDER if b.sacked or b.lost or self.reno or self.any_retrans() else OPEN
        if self.ca != state:
            self.ca = state
            self.high_seq = self.nxt

    def try_to_open(self, flag: int) -> None:
        """CWR by a congestion mark, else Open or Disorder; source net/ipv4/tcp_input.c:tcp_try_to_open."""
        if not self.any_retrans():
            self.retrans_stamp = -1
        if flag & ECE and self.ca < CWR:
            self.undo_marker = -1
            self.high_seq, self.tlp_high = self.nxt, -1
            self.ca = CWR
        if self.ca != CWR:
            self.keep_open()

    def delayed(self, tsecr: int) -> bool:
        """What is acknowledged was only late; source net/ipv4/tcp_input.c:tcp_packet_delayed, RFC 3522 3.2."""
        if self.retrans_stamp >= 0:
            return bool(self.ts_ok) and tsecr > 0 and _before(tsecr, self.retrans_stamp)
        return self.sack_ok is not False or self.una < self.high_seq

    def add_reno(self, num: int) -> None:
        """Without SACK a duplicate stands for a segment; source net/ipv4/tcp_input.c:tcp_add_reno_sack."""
        if num and self.sack_ok is False:
            self.reno += num
            self.reno_reordering(0)

    def reno_reordering(self, acked: int) -> None:
        """More duplicates than segments can have caused them: the path reorders, and so far in segments.

        Source net/ipv4/tcp_input.c:tcp_check_reno_reordering; the metric may fall below the sysctl's.
        """
        out = self.board.out
        holes = min(max(self.board.lost, 1), out)
        if self.reno + holes > out:
            self.reno = out - holes
            self.reordering = min(out + acked, MAX_REORDERING)
            self.reord_seen += 1
            self.counts.add("TcpExt.TCPRenoReorder")

    def may_undo(self, tsecr: int) -> bool:
        """There is a reduction to take back and proof that it was wrong; source tcp_input.c:tcp_may_undo."""
        return self.undo_marker >= 0 and (self.undo_retrans == 0 or self.delayed(tsecr))

    def undo(self, unmark: bool) -> None:
        """Takes the reduction back; source net/ipv4/tcp_input.c:tcp_undo_cwnd_reduction."""
        if unmark:
            for e in self.board.q:
                e.sacked &= ~L
            self.board.lost = 0
        self.undo_marker = -1

    def reopen(self) -> bool:
        """Back to Open; False: without SACK it is too early; source tcp_input.c:tcp_is_non_sack_preventing_reopen."""
        if self.una == self.high_seq and self.sack_ok is False:
            if not self.any_retrans():
                self.retrans_stamp = -1
            return False
        self.ca = OPEN
        return True

    def alert(self, now: int, flag: int, num: int, tsecr: int) -> int:
        """States end, begin and go on; source net/ipv4/tcp_input.c:tcp_fastretrans_alert."""
        count = self.counts.add
        if flag & RENEGING and flag & UNA_ADVANCED:
            self.kind, self.armed = RTO, now
            self.due = now + max(self.rtt.srtt >> 4, RENEGE_WAIT)
            return flag & ~SET_TIMER
        if self.ca == OPEN:
            self.retrans_stamp = -1
        elif self.una >= self.high_seq:
            if self.ca == CWR:
                if self.una != self.high_seq:
                    self.ca = OPEN
            elif self.ca == RECOVERY:
                self.reno = 0
                if self.may_undo(tsecr):
                    self.undo(False)
                    count("TcpExt.TCPFullUndo")
                if not self.reopen():
                    return flag
        if self.ca == RECOVERY:
            if not flag & UNA_ADVANCED:
                self.add_reno(num)
            elif self.undo_marker >= 0 and self.delayed(tsecr):
                if self.board.retrans:
                    return flag
                if not self.any_retrans():
                    self.retrans_stamp = -1
                self.undo(True)
                count("TcpExt.TCPPartialUndo")
                self.keep_open()
            if self.undo_marker >= 0 and self.undo_retrans == 0:
                self.undo(False)
                count("TcpExt.TCPDSACKUndo")
                self.try_to_open(flag)
            if self.ca != RECOVERY and self.board.lost:
                self.enter_recovery()
            return flag
        if self.ca == LOSS:
            self.process_loss(flag, num, tsecr)
            if self.ca != OPEN:
                return flag
        if self.sack_ok is False:
            if flag & UNA_ADVANCED:
                self.reno = 0
            self.add_reno(num)
        if self.ca <= DISORDER and self.undo_marker >= 0 and self.undo_retrans == 0:
            self.undo(False)
            count("TcpExt.TCPDSACKUndo")
        if self.board.lost:
            self.enter_recovery()
        else:
            self.try_to_open(flag)
        return flag

    def undo_loss(self, frto: bool, tsecr: int) -> bool:
        """A timeout proved wrong; source net/ipv4/tcp_input.c:tcp_try_undo_loss, RFC 5682 3.1."""
        if not (frto or self.may_undo(tsecr)):
            return False
        self.undo(True)
        self.counts.add("TcpExt.TCPLossUndo")
        if frto:
            self.counts.add("TcpExt.TCPSpuriousRTOs")
        self.retransmits = 0
        if self.reopen_after_loss(frto):
            self.ca = OPEN
        return True

    def reopen_after_loss(self, frto: bool) -> bool:
        """Whether an undone Loss is Open at once; tail of net/ipv4/tcp_input.c:tcp_try_undo_loss."""
        if self.una == self.high_seq and self.sack_ok is False:
            return False
        return frto or self.sack_ok is not False

    def process_loss(self, flag: int, num: int, tsecr: int) -> None:
        """An acknowledgment in Loss; source net/ipv4/tcp_input.c:tcp_process_loss."""
        recovered = self.una >= self.high_seq
        if flag & UNA_ADVANCED and self.undo_loss(False, tsecr):
            return
        if self.frto:
            if flag & ORIG_SACK_ACKED and self.undo_loss(True, tsecr):
                return
            if self.nxt > self.high_seq:
                if flag & DATA_SACKED or num:
                    self.frto = False
            elif flag & UNA_ADVANCED and not recovered:
                self.high_seq = self.nxt
        if recovered:
            self.reno = 0
            if self.may_undo(tsecr):
                self.undo(False)
                self.counts.add("TcpExt.TCPLossUndo")
            self.reopen()
            return
        if self.sack_ok is False:
            if self.nxt > self.high_seq and num:
                self.add_reno(num)
            elif flag & UNA_ADVANCED:
                self.reno = 0

    # -- what left

    def enter_recovery(self) -> None:
        """Arrivals showed a loss; source net/ipv4/tcp_input.c:tcp_enter_recovery."""
        self.counts.add("TcpExt.TCPRenoRecovery" if self.sack_ok is False else "TcpExt.TCPSackRecovery")
        self.init_undo()
        if self.ca not in (CWR, RECOVERY):
            self.high_seq, self.tlp_high = self.nxt, -1
        self.ca = RECOVERY

    def init_undo(self) -> None:
        """A reduction begins that may be taken back; source net/ipv4/tcp_input.c:tcp_init_undo."""
        self.undo_marker = self.una
        self.undo_retrans = self.board.retrans
        if self.tlp_high >= 0 and self.tlp_retrans:
            self.undo_retrans += 1
        if not self.undo_retrans:
            self.undo_retrans = -1

    def enter_loss(self, now: int) -> None:
        """A timeout; source net/ipv4/tcp_input.c:tcp_enter_loss, tcp_timeout_mark_lost."""
        b, count = self.board, self.counts.add
        new_recovery = self.ca < RECOVERY
        head = b.q[0]
        if head.sacked & S:
            for e in b.q:
                e.sacked &= ~S
            b.sacked, self.cache = 0, []
            count("TcpExt.TCPSACKReneging")
        self.reno = 0
        for e in b.q:
            if e.sacked & S or (e is not head and self.sack_ok and self.rack_rtt - (now - e.time) > 0):
                continue
            if e.sacked & R:
                e.sacked &= ~R
                b.retrans -= e.segs
                count("TcpExt.TCPLostRetransmit", e.segs)
            if not e.sacked & L:
                e.sacked |= L
                b.lost += e.segs
        if self.ca <= DISORDER or self.high_seq <= self.una or (self.ca == LOSS and not self.retransmits):
            self.init_undo()
        self.ca, self.high_seq, self.tlp_high = LOSS, self.nxt, -1
        self.frto = self.may_frto and (new_recovery or self.retransmits > 0)

    def timeout(self, now: int) -> None:
        """The retransmission timer ran out; source net/ipv4/tcp_timer.c:tcp_retransmit_timer."""
        count, b = self.counts.add, self.board
        if self.wnd or not self.max_window:
            count("TcpExt.TCPTimeouts")
            if not self.retransmits:
                kind = "Reno" if self.sack_ok is False else "Sack"
                if self.ca == RECOVERY:
                    count(f"TcpExt.TCP{kind}RecoveryFail")
                elif self.ca == LOSS:
                    count("TcpExt.TCPLossFailures")
                elif self.ca == DISORDER or b.sacked or self.reno:
                    count(f"TcpExt.TCP{kind}Failures")
            self.enter_loss(now)
            self.retransmits += 1
        else:
            self.enter_loss(now)
        self.backoff = min(self.backoff + 1, 32)

    def again(self, i: int, end: int, now: int, tsval: int, mss: int, probe: bool = False) -> int:
        """Entry `i` left again up to `end`; how many segments that were. `probe`: it is the tail's probe, uncounted.

        Source net/ipv4/tcp_output.c:tcp_retransmit_skb, tcp_retrans_try_collapse.
        """
        b = self.board
        e = b.q[i]
        if end < e.end and (end < e.end - e.fin or end - e.seq > 0):
            b.split(i, end)
        while e.end < end and i + 1 < len(b.q):
            n = b.q[i + 1]
            if n.end > end:
                b.split(i + 1, end)
            del b.q[i + 1]
            b.forget(n)
            e.end, e.fin = n.end, n.fin
            e.sacked |= n.sacked & EVER
            e.source = None
        e.mss = mss
        b.recount(e, segments(e.end - e.fin - e.seq, mss))
        e.time, e.tsval = now, tsval
        self.total_retrans += e.segs
        if probe:
            e.sacked |= EVER
            return e.segs
        if not e.sacked & R:
            b.retrans += e.segs
        if not e.sacked & L:
            b.lost += e.segs
        e.sacked |= R | EVER | L
        if self.retrans_stamp < 0:
            self.retrans_stamp = tsval
        if self.undo_retrans < 0:
            self.undo_retrans = 0
        self.undo_retrans += e.segs
        return e.segs


def _before(a: int, b: int) -> bool:
    """Timestamp `a` is earlier than `b`."""
    return a >= 0 and ((a - b) & M32) >= H32
