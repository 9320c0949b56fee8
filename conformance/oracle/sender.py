"""The sender half: what an end has out, what its peer said of it, and which step sent a frame.

The law: a frame in sequence is new data; one behind it is a retransmission that a timer, arrivals or a smaller path MTU
excuse; an empty one below is a probe. `classify` finds the step without changing anything, `sent` applies it.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from conformance.check.setup import slack
from conformance.oracle.constraint import Constraint
from conformance.oracle.end import End, Excuse, Label, Refusal
from conformance.oracle.recovery import (
    CWR,
    DATA,
    DISORDER,
    ECE,
    INIT_CWND,
    LOSS,
    OPEN,
    RECOVERY,
    STATES,
    TLP,
    WIN_UPDATE,
    Flow,
)
from conformance.oracle.scoreboard import EVER, R, S, Sent, segments
from conformance.oracle.timers import RTO_MIN, Rtt
from conformance.oracle.vantage import unfilled
from refmodel.packet.codec import checksums
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, AE, FIN, RST, SYN, URG
from refmodel.packet.transport import ECE as F_ECE
from refmodel.packet.wire import Checksum
from refmodel.tcp.state import St

CONSTRAINTS: Final = (
    Constraint(
        "sequence-gap",
        "New data begin where the last ended; a gap is data that left and was not seen.",
        ("net/ipv4/tcp_output.c:tcp_event_new_data_sent", "RFC 9293 3.4"),
    ),
    Constraint(
        "data-after-fin",
        "Behind the FIN nothing is sent.",
        ("net/ipv4/tcp_output.c:tcp_send_fin", "RFC 9293 3.10.4"),
        True,
    ),
    Constraint(
        "beyond-window",
        "New data end within the furthest edge that the peer ever offered.",
        ("net/ipv4/tcp_output.c:tcp_snd_wnd_test", "RFC 9293 3.8.6"),
        True,
    ),
    Constraint(
        "beyond-congestion-window",
        "No more is in flight than the initial window and one segment for each that was delivered.",
        ("net/ipv4/tcp_output.c:tcp_cwnd_test", "net/ipv4/tcp_cong.c:tcp_slow_start", "RFC 5681 3.1", "RFC 6928 2"),
    ),
    Constraint(
        "overlaps-new",
        "A segment holds either data that were sent before or new data, not both.",
        ("net/ipv4/tcp_output.c:__tcp_retransmit_skb",),
    ),
    Constraint(
        "retransmits-acknowledged",
        "What is acknowledged is not sent again.",
        ("net/ipv4/tcp_output.c:__tcp_retransmit_skb", "RFC 9293 3.8.1"),
    ),
    Constraint(
        "retransmits-sacked",
        "What the peer holds by SACK is not sent again, but for a tail's probe and after a time-out that voids it.",
        ("net/ipv4/tcp_output.c:tcp_xmit_retransmit_queue", "RFC 2018 5.1"),
    ),
    Constraint(
        "retransmission-boundary",
        "A retransmission begins where a segment began, and ends where one ended or where MSS or window cut it.",
        ("net/ipv4/tcp_output.c:tcp_fragment", "net/ipv4/tcp_output.c:tcp_retrans_try_collapse"),
    ),
    Constraint(
        "retransmission-content",
        "A retransmission carries the bytes that were sent before.",
        ("net/ipv4/tcp_output.c:__tcp_retransmit_skb", "RFC 9293 3.7.4"),
        True,
    ),
    Constraint(
        "retransmission-cause",
        "A retransmission follows a timer that ran out, or arrivals of what was sent after it.",
        (
            "net/ipv4/tcp_timer.c:tcp_retransmit_timer",
            "net/ipv4/tcp_output.c:tcp_send_loss_probe",
            "net/ipv4/tcp_recovery.c:tcp_rack_detect_loss",
            "RFC 6298 5",
            "RFC 8985 6.2",
        ),
    ),
    Constraint(
        "retransmission-early",
        "No timer runs out early: a time-out is a round trip and 200 ms at least, a tail is probed after two of them.",
        ("net/ipv4/tcp_input.c:tcp_rearm_rto", "net/ipv4/tcp_output.c:tcp_schedule_loss_probe", "RFC 6298 5"),
    ),
    Constraint(
        "probe-cause",
        "An empty segment below the next number is a probe: nothing is out, and 200 ms have passed without an answer.",
        ("net/ipv4/tcp_timer.c:tcp_probe_timer", "net/ipv4/tcp_timer.c:tcp_keepalive_timer", "RFC 9293 3.8.6.1"),
    ),
    Constraint(
        "empty-sequence",
        "An empty segment has the next sequence number, the window's edge if that shrank, or is a probe below them.",
        ("net/ipv4/tcp_output.c:tcp_acceptable_seq", "RFC 9293 3.10.7.4"),
    ),
    Constraint(
        "retransmission-overdue",
        "What is not acknowledged is sent again when the time-out has passed.",
        ("net/ipv4/tcp_timer.c:tcp_retransmit_timer", "RFC 6298 5.4"),
    ),
)

M32: Final = 0xFFFFFFFF
H32: Final = 0x80000000
NOTHING, NEW, AGAIN, PROBE, OLD, FILL = range(6)  # what a frame is
BY_WRITE, BY_FIN, BY_TLP, BY_RTO, BY_LOST, BY_PROBE0, BY_KEEPALIVE, BY_PATH = range(8)
NAMES: Final = (
    "tcp_write_xmit",
    "tcp_send_fin",
    "tcp_send_loss_probe",
    "tcp_retransmit_timer",
    "tcp_xmit_retransmit_queue",
    "tcp_send_probe0",
    "tcp_keepalive_timer",
    "tcp_xmit_retransmit_queue",
)
LABELS: Final = tuple(Label(n) for n in NAMES)
TIMERS: Final = ("tcp_retransmit_timer", "reqsk_timer_handler", "tcp_fastopen_synack_timer")
PAST: Final = 48  # inputs that are remembered
JIFFY: Final = 10_000  # us; the longest of any kernel
EARLY: Final = 500  # us between making a frame and its stamp
BURST: Final = 300  # us in which an acknowledgment is answered by new data
TICK: Final = 1_000  # us of the timestamp clock
QUEUED: Final = 2_500  # us that a TSval lies back only behind a queue
IDS: Final = 64  # segments that may be overtaken
KEEPALIVE: Final = 1_000_000  # us; TCP_KEEPIDLE and TCP_KEEPINTVL are whole seconds
IP_MIN: Final = 552  # net.ipv4.route.min_pmtu
WSCALE_MAX: Final = 14
SECOND: Final = 1_000_000
SYN_STATES: Final = (St.SYN_SENT, St.SYN_RECV, St.LISTEN, St.CLOSE)


def version(kernel: str) -> tuple[int, ...]:
    """The release that a kernel's name begins with, (6, 12) for "6.12.43"."""
    return tuple(int(n) for n in kernel.split(".")[:2] if n.isdigit())


def _sound(s: Segment) -> bool:
    """Whether all of the frame was captured as it was sent: its checksum is right, or a device was to fill it in."""
    tcp = [c for name, c in checksums(s.packet()) if name == "tcp"]
    return bool(tcp) and (tcp[0] == Checksum.OK or unfilled(s))


class Sender:
    """What is out and what the peer said of it; sequence space of this end."""

    def __init__(self, end: End) -> None:
        stack = end.stack
        floor = stack.told.get("net.ipv4.tcp_rto_min_us", RTO_MIN)
        self._end = end
        release = version(stack.kernel)
        self.f = Flow(end.counts, Rtt(stack.jiffy, floor))
        self.f.tlp_on = stack.told.get("net.ipv4.tcp_early_retrans", 3) in (3, 4)
        self.rack = stack.told.get("net.ipv4.tcp_recovery", 1) & 1 != 0 or release >= (6, 17)
        self.zero_is_news = release >= (6, 7)
        self.reordering = stack.told.get("net.ipv4.tcp_reordering", 3)
        self.full = True
        self.doubt = self.blind = self.syn_lost = False
        self.ts_base: tuple[int, int] | None = None
        self.syn: Segment | None = None
        self.syn_at = self.syns = 0
        self.iss = -1
        self.started = self.middle = self.agreed = self.scaled = False
        self.ecn = False
        self.wscale = WSCALE_MAX
        self.right = -1
        self.wl1 = 0
        self.fin = -1
        self.heard = 0
        self.probed = 0
        self.beyond = -1  # an acknowledgment of what the tap did not see
        self.last_ts = -1
        self.past: deque[tuple[int, int, int, int]] = deque(maxlen=PAST)
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

    def copy(self) -> "Sender":
        """A copy that shares nothing that changes."""
        new = Sender.__new__(Sender)
        new.__dict__.update(self.__dict__)
        new.f = self.f.copy()
        new.past = self.past.copy()
        return new

    # -- the handshake

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

    # -- inputs

    def takes(self, s: Segment) -> None:
        """Processes an input's ACK, window and SACK blocks; source net/ipv4/tcp_input.c:tcp_ack."""
        flags = s.flags
        if not flags & ACK:
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
            if self.syns == 1:
                f.rtt.least(now - self.syn_at, now)
                f.rtt.sample(now - self.syn_at, ack, f.nxt)
            f.una = una = self.iss + 1
            if flags & SYN:
                f.wnd = f.max_window = s.window
                self.wl1 = s.seq
                self.right = max(self.right, ack + s.window)
                self.past.append((s.number, now, self.iss, ack))
                self.syn_lost = ack == una and bool(f.board.q)
                if ack > una and f.board.q:
                    f.ack(ack, now, DATA, [], -1, ack, 0, False)
                return
        if flags & SYN:
            return
        if s.truncated:
            self.blind = True  # SACK blocks were cut off
        win = s.window << self.wscale
        tsecr = -1 if s.tsecr is None else s.tsecr
        if f.ts_ok is None:
            f.ts_ok = s.tsval is not None
        blocks = [(una + ((a - una + H32) & M32) - H32, una + ((b - una + H32) & M32) - H32) for a, b in s.sack[:4]]
        if ack < una:
            if blocks and ack >= una - max(f.max_window, 1):
                self.past.append((s.number, now, una, una))
                f.ack(ack, now, self._ece(flags), blocks, tsecr, ack, 0, True)
            return
        edge = ack + win
        if edge > self.right:
            self.right = edge
        flag = self._ece(flags)
        if s.len or flags & FIN:
            flag |= DATA
        d = (s.seq - self.wl1) & M32
        if ack > una or 0 < d < H32 or (d == 0 and (win > f.wnd or (win == 0 and self.zero_is_news))):
            flag |= WIN_UPDATE
            self.wl1 = s.seq
            if win != f.wnd:
                f.wnd = win
                if win > f.max_window:
                    f.max_window = win
        if f.board.out or blocks:
            dups = 1 if s.len else max(1, 1)
            f.ack(ack, now, flag, blocks, tsecr, ack, dups, False)
        else:
            f.una = ack
        self.past.append((s.number, now, una, f.una))

    def _ece(self, flags: int) -> int:
        return ECE if flags & F_ECE and self.ecn and not flags & SYN else 0

    # -- outputs

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
        stamp = 12 if f.ts_ok else 0
        most = f.mss - stamp
        if f.max_window:
            half = f.max_window >> 1 if f.max_window > 536 else f.max_window
            most = min(most, max(half, 68 - 20 - stamp))
        return max(most - ((s.data[s.l4 + 12] >> 4 << 2) - 20 - stamp), 1)

    def classify(self, s: Segment) -> Label | None:
        """Which step sent the output; None for a pure ACK. Raises Refusal."""
        f = self.f
        flags = s.flags
        self.sure = True
        self.now = self._left(s)
        if not self.started:
            self._begin(s.seq)
        if not self.agreed:
            self._agree()
        nxt = f.nxt
        lo = self.lo = nxt + ((s.seq - nxt + H32) & M32) - H32
        hi = self.hi = lo + s.len + (flags & FIN)
        if hi == lo:
            return self._empty(s, lo)
        if lo >= nxt:
            return self._new(s, lo, hi)
        if hi > nxt:
            return self._overlap(s, lo, hi)
        return self._again(s, lo, hi)

    @property
    def _near(self) -> bool:
        return self._end.stack.near is True and self._end.stack.linux

    def _gap(self, s: Segment, lo: int) -> None:
        """The frame begins behind what was seen: something left unseen. Raises Refusal where that can't be."""
        stack = self._end.stack
        if self.middle and not self.f.board.q and self.f.una == self.f.nxt:
            return
        if stack.near is not True or not stack.linux or self.beyond > self.f.nxt:
            return
        why = self._end.decided.get(s.number)
        if why is not None and why.kind == "unseen":
            return
        missing = lo - self.f.nxt
        steps = self._end.ident.steps_since_last(s)
        if steps or self.hidden > 0:
            return
        raise Refusal(
            "sequence-gap",
            f"{missing} bytes before it were never seen",
            [f"seq {self.snd_nxt}"],
            excuses=[Excuse("unseen", s.number, f"{missing} bytes are missing", cost=3)] if steps is None else [],
        )

    def _new(self, s: Segment, lo: int, hi: int) -> Label:
        f = self.f
        self.what, self.how = NEW, BY_WRITE
        if lo > f.nxt:
            self._gap(s, lo)
        if 0 <= self.fin < hi:
            raise Refusal("data-after-fin", "the FIN has left, nothing comes behind it", ["retransmissions", "ACKs"])
        fin = s.flags & FIN
        now = self.now
        if 0 <= self.right < hi - fin and f.una != self.iss:
            self._catch_up(s)
            if self.right < hi - fin:
                raise Refusal(
                    "beyond-window",
                    f"its end lies {hi - fin - self.right} bytes beyond the furthest edge that was offered",
                    [f"data up to {self.right & M32}", "a window probe"],
                )
        if self._near and not self.middle and self._end.stack.given and f.ca <= DISORDER:
            out = f.board.out - f.board.sacked
            most = INIT_CWND + f.delivered + 2
            if out + segments(s.len, self._mss(s)) > most:
                self._catch_up(s)
                out = f.board.out - f.board.sacked
                most = INIT_CWND + f.delivered + 2
                n = out + segments(s.len, self._mss(s))
                if n > most and self._end.stack.told.get("net.ipv4.tcp_congestion_control", 0) == 0:
                    raise Refusal(
                        "beyond-congestion-window", f"{n} segments in flight, at most {most} can be", ["ACKs"]
                    )
        if not f.board.out:
            if self._wakes(s, now):
                self.how = BY_PROBE0
        elif f.kind == TLP and f.tlp_high < 0 and not self._behind(s) and self._fires(f.due, f.due - f.armed, now):
            self.how = BY_TLP
        if self.how == BY_WRITE and fin and (not s.len or now - self.heard > BURST):
            self.how = BY_FIN
        return LABELS[self.how]

    def _behind(self, s: Segment) -> bool:
        """Whether inputs wait that came before the frame: then nobody knows when the last was processed."""
        pending = self._end.pending
        return bool(pending) and pending[0].time < s.time

    def _fires(self, due: int, delay: int, now: int) -> bool:
        """Whether a timer of `delay` us that is due at `due` fires at `now`: never early, late by slack."""
        return -EARLY <= now - due <= slack(delay, self._end.stack.hz) + EARLY

    def _wakes(self, s: Segment, now: int) -> bool:
        """Data that were corked, or for which the window was too small, leave by the probe timer.

        Source net/ipv4/tcp_output.c:tcp_write_wakeup.
        """
        rto = self.f.rto()
        last = max(self.heard, self.probed)
        runt = 0 < s.len < self._mss(s) and not s.flags & FIN
        return runt and self.full and bool(self.past) and self._fires(last + rto, rto, now)

    def _catch_up(self, s: Segment) -> None:
        """Processes inputs without data that were stamped before the frame: it shows that they were."""
        end = self._end
        while end.pending:
            p = end.pending[0]
            if p.time > s.time or p.len or p.flags & (SYN | FIN | RST) or end.held(p, s.number):
                return
            end.process()

    def _overlap(self, s: Segment, lo: int, hi: int) -> Label:
        f = self.f
        if hi == f.nxt + 1 and s.flags & FIN and self.fin < 0:
            self.what, self.how = AGAIN, BY_FIN
            return self._again(s, lo, hi)
        if self._near:
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

    # -- empty segments

    def _empty(self, s: Segment, lo: int) -> Label | None:
        f = self.f
        self.what = NOTHING
        if lo == f.nxt:
            return None
        if lo > f.nxt:
            self._gap(s, lo)
            return None
        now = s.time // 1000
        if lo == f.una - 1 or (lo == f.una and s.flags & URG):
            return self._probe(s, now)
        if not self._near or (self.middle and not self.past) or self._overtook(s):
            return None
        if lo == f.una + f.wnd or (f.una + f.wnd < f.nxt and f.una <= lo):
            return None
        raise Refusal(
            "empty-sequence",
            f"seq {s.seq} of an empty segment, the next number is {self.snd_nxt}",
            [f"seq {self.snd_nxt}", f"a probe with seq {(f.una - 1) & M32}"],
            excuses=self._unprocessed(s, lo + 1, False),
        )

    def _probe(self, s: Segment, now: int) -> Label | None:
        f = self.f
        self.what = PROBE
        idle = now - max(self.heard, self.probed)
        room = f.una + f.wnd - f.nxt
        mss = self._mss(s) if f.mss else 1
        self.how = BY_PROBE0 if room < mss and (room <= 0 or idle < KEEPALIVE) else BY_KEEPALIVE
        if not self._near or (self.middle and not self.past):
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
        if self.past and idle < least - JIFFY - EARLY:
            raise Refusal(
                "probe-cause",
                f"a probe {idle} us after the last answer or probe",
                ["an ACK", "new data"],
                excuses=self._unprocessed(s, lo=f.una, strict=False, last=True),
            )
        return LABELS[self.how]

    # -- retransmissions

    def _unprocessed(self, s: Segment, lo: int, strict: bool, last: bool = False) -> Iterator[Excuse]:
        """Inputs that may have been processed only behind the frame, or never: those that moved snd_una beyond `lo`.

        `last`: the last input, whatever it moved.
        """
        stack = self._end.stack
        now = s.time // 1000
        for n, at, before, after in self.past:
            if not (after > lo >= before or (last and n == self.past[-1][0])):
                continue
            if now - at <= stack.late:
                yield Excuse("late", n, f"it came {now - at} us before frame {s.number}", until=s.number)
            if stack.lossy is not False:
                yield Excuse("dropped", n, f"frame {s.number} repeats what it acknowledged", cost=2)
            return

    def _news(self, s: Segment) -> Iterator[Excuse]:
        """The last inputs, each of which may have been dropped or late."""
        stack = self._end.stack
        now = s.time // 1000
        for k, (n, at, before, after) in enumerate(list(self.past)[:-4:-1]):
            if now - at <= min(stack.late, 2_000):
                yield Excuse("late", n, f"it came {now - at} us before frame {s.number}", until=s.number, cost=1 + k)
            if stack.lossy is not False and after >= before:
                yield Excuse("dropped", n, f"frame {s.number} was sent as if it had not come", cost=2 + k)

    def _again(self, s: Segment, lo: int, hi: int) -> Label:
        f, near = self.f, self._near
        board = f.board
        self.what = AGAIN
        now = self.now
        if lo < f.una:
            self.what = OLD
            if lo < self.iss + 1 or (self.middle and not board.q) or (not near):
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
        mss = self._mss(s)
        if near:
            self._boundary(s, i, lo, hi, mss)
        self._content(s, i, lo, hi)
        self.at = i
        if self._behind(s) and not self._excused(s, i, lo, hi, now):
            self._catch_up(s)
            if lo < f.una or (i := board.index(lo)) < 0:
                return self._again(s, lo, hi)
            self.at = i
        self.how = self._cause(s, i, lo, hi, now)
        return LABELS[self.how]

    def _excused(self, s: Segment, i: int, lo: int, hi: int, now: int) -> bool:
        try:
            self._cause(s, i, lo, hi, now)
        except Refusal:
            return False
        return True

    def _overtook(self, s: Segment) -> bool:
        """Whether the frame left before others that the tap saw earlier, as its id and its TSval tell."""
        if self._end.ident.overtaken(s):
            return True
        last = self._end.last_sent
        if last is None or not s.ip_id or not last.ip_id or not 0 < (last.ip_id - s.ip_id) & 0xFFFF < IDS:
            return False
        return s.tsval is None or last.tsval is None or (s.tsval - last.tsval - 1) & M32 >= H32

    def _fill(self, s: Segment, i: int, now: int) -> Label:
        """What the tap had not seen: the frame itself, overtaken, or its retransmission."""
        self.at = i
        e = self.f.board.q[i]
        stack = self._end.stack
        older = self._overtook(s) or (
            stack.near is not True
            and (
                (s.tsval is not None and self.last_ts >= 0 and ((s.tsval - self.last_ts) & M32) >= H32)
                or (now - e.first < 3_000 and self._end.ident.steps_since_last(s) is None)
            )
        )
        if older:
            self.what, self.how = FILL, BY_WRITE
            return LABELS[BY_WRITE]
        self.how = self._cause(s, i, self.lo, self.hi, now)
        return LABELS[self.how]

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
        cut = s.len % mss == 0 or hi >= self.f.una + self.f.wnd
        smaller = s.len < mss and s.orig_len - s.l3 >= IP_MIN and e.end - e.seq > s.len
        if not (whole or cut or smaller) or (j > i and s.len > mss and any(x.segs == 1 for x in q[i:j])):
            raise Refusal(
                "retransmission-boundary",
                f"it ends {end - t.seq} bytes inside a segment of {t.end - t.seq}",
                [f"{e.end - lo} bytes", f"{mss} bytes"],
                excuses=self._unprocessed(s, lo, False),
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
        early = JIFFY + EARLY
        since = now - max(f.armed, e.time)
        silent = now - max(self.heard, f.armed) >= f.rto() - early
        rto_low = rtt.rto_low()
        if (
            head
            and (ca == LOSS or e.sacked & R or not overtaken or silent)
            and now >= f.due - early
            and not (tail and self._may_tlp() and f.kind == TLP)
        ) and (now - e.time >= rto_low - early or f.due - f.armed < rto_low):
            return BY_RTO
        if self.syn_lost and not e.sacked & EVER and e is board.q[0]:
            return BY_PATH
        if overtaken and not e.sacked & S and not (e.sacked & R and head and since >= f.rto() - early):
            return BY_LOST
        if ca == LOSS and not e.sacked & (S | R) and e.seq < max(f.high_seq, f.una + 1):
            return BY_LOST
        if tail and self._may_tlp():
            pto = rtt.pto_low(board.out == 1)
            left = board.q[0].time + rto_low - f.armed
            if now - f.armed >= min(pto, max(left, 0)) - early or not self._near:
                return BY_TLP
        if head and now - e.time >= rto_low - early:
            return BY_RTO
        if self._smaller(s, e, lo, hi):
            return BY_PATH
        if not self._near or self.middle or self.blind:
            self.sure = False
            return BY_RTO if head and since >= RTO_MIN - early else BY_LOST
        if e.sacked & S:
            raise Refusal(
                "retransmits-sacked", "the peer holds it by SACK", ["what is not SACKed"], excuses=self._news(s)
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

    def _may_tlp(self) -> bool:
        f = self.f
        return f.tlp_on and f.sack_ok is not False and f.tlp_high < 0 and f.ca in (OPEN, CWR, DISORDER)

    def _overtaken(self, e: Sent, lo: int, hi: int) -> bool:
        """Something that left after the entry has arrived, or enough duplicates came."""
        f = self.f
        if f.sack_ok is False:
            if f.ca == RECOVERY:
                return lo == f.una and not e.sacked & R
            return lo == f.una and (f.reno >= 3 or (f.ca == CWR and f.reno >= 3))
        if f.undo_marker < 0 and f.ca == OPEN and not f.board.sacked and not f.any_retrans():
            return (e.time, hi) < (f.rack_time, f.rack_end)
        if not self.rack:
            return f.fack > lo and (f.ca >= CWR or f.board.sacked >= self.reordering)
        return (e.time, hi) < (f.rack_time, f.rack_end)

    def _smaller(self, s: Segment, e: Sent, lo: int, hi: int) -> bool:
        """The path's MTU fell: what is larger goes again in smaller pieces, at once."""
        f = self.f
        size = s.orig_len - s.l3
        if self.syn_lost and not e.sacked & EVER:
            return True  # the SYN's data were not taken: tcp_rcv_fastopen_synack
        if f.ca == LOSS and not e.sacked & (R | S):
            return True
        return e.segs >= 1 and hi < e.end and s.len < min(e.mss, e.end - e.seq) and size >= IP_MIN

    # -- it left

    def sent(self, s: Segment, label: Label) -> None:
        """The output left: queues, states and counters follow."""
        flags = s.flags
        count = self._end.counts.add
        if flags & (SYN | RST):
            if flags & SYN:
                self._left(s)
            self._opening(s, label)
            return
        f = self.f
        now = self.now
        what = self.what
        if what == NOTHING:
            count("Tcp.OutSegs")
            if self.lo > f.nxt:
                self._unseen(self.lo, now, s)
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

    def _syn_again(self, s: Segment, label: Label) -> None:
        """A SYN or SYN-ACK left again, or crossed SYNs made a SYN-ACK of a SYN, which counts as nothing."""
        count = self._end.counts.add
        assert self.syn is not None
        before, self.syn = self.syn, s
        self.syns += 1
        self.syn_at = s.time // 1000
        if s.flags & ACK and not before.flags & ACK:
            return
        count("Tcp.RetransSegs")
        if s.flags & ACK:
            count("Tcp.OutSegs")
        if label.by in TIMERS:
            count("TcpExt.TCPTimeouts")
            if not s.flags & ACK and self.syns > 2:
                count("TcpExt.TCPLostRetransmit")
            self._doubtful()

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

    def _unseen(self, lo: int, now: int, s: Segment) -> None:
        """What lies before the frame left without being seen."""
        f = self.f
        if self.middle and not f.board.q and f.una == f.nxt:
            f.una = f.nxt = f.fack = f.high_seq = lo
            return
        n = lo - f.nxt
        mss = self._mss(s)
        segs = segments(n, mss)
        e = Sent(f.nxt, lo, now, mss, segs)
        e.unseen = True
        f.board.append(e)
        f.nxt = lo
        known = min(segs, self.hidden)  # the ids told of them at an earlier frame
        if known and not self._end.ident.steps_since_last(s):
            self.hidden -= known
            self._end.counts.add("Tcp.OutSegs", 0, -known)
            self._end.counts.add("Tcp.RetransSegs", 0, -known)
        self.unseen = segs
        self._end.counts.add("Tcp.OutSegs", segs)
        self._end.counts.add("TcpExt.TCPOrigDataSent", segs)
        if self.beyond > f.una and self.beyond <= lo:
            f.ack(self.beyond, now, 0, [], -1, self.beyond, 0, False)
            self.beyond = -1

    def _append(self, s: Segment, now: int, mss: int) -> Sent:
        f = self.f
        n = s.len
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
        self.full = s.len % e.mss == 0
        if first or f.kind == TLP:
            f.restart(now)
        if f.ca in (OPEN, CWR):
            f.set_timer(now)

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

    # -- time

    def overdue(self, now: int) -> None:
        """Raises Refusal if what is out was not sent again long after its time-out."""
        f = self.f
        if not f.board.out or self._end.stack.near is not True or not self._end.stack.linux or self.middle:
            return
        wait = 4 * f.rto() + SECOND
        if now - f.due < wait or now - f.armed < wait or self._end.stack.lossy is not False:
            return
        if self._end.state in SYN_STATES or f.retransmits:
            return
        raise Refusal(
            "retransmission-overdue",
            f"{f.board.out} segments are out, and nothing was sent for {now - f.armed} us",
            ["a retransmission"],
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
