"""The receiving half of an end: what arrived, what is acknowledged, in which blocks and windows, and why just now.

The law: an acknowledgment says rcv_nxt, the timestamp that came last at or before what was acknowledged, and what waits
behind holes in the order in which it changed. Each output is held to the position that it shows; a pure acknowledgment
needs a cause, and one cause sends one.
"""

from typing import Any, Final

from conformance.oracle.astray import LEAST_MSS, Astray, behind, is_refused, overtaken
from conformance.oracle.clock import SWAPPED
from conformance.oracle.constraint import Constraint
from conformance.oracle.delays import OLD_DELACK_MAX, TCP_DELACK_MAX, AckClock
from conformance.oracle.end import End, Excuse, Label, Refusal, us
from conformance.oracle.position import FAR_BACK, Found, Origin, blocks_fit, find, newer, room, shortfall
from conformance.oracle.promise import U16_MAX, UNBOUNDED, Promise
from conformance.oracle.sack import BEHIND_HOLE, FILLED, IN_ORDER, OLD, Range, Reassembly, unwrap
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, AE, CWR, ECE, FIN, RST, SYN
from refmodel.tcp.state import St
from refmodel.types import H32, M32

CONSTRAINTS: Final = (
    Constraint(
        "ack-of-what-did-not-arrive",
        "Only what arrived is acknowledged.",
        ("net/ipv4/tcp_output.c:__tcp_send_ack", "RFC 9293 3.4"),
        rfc=True,
    ),
    Constraint(
        "ack-goes-back",
        "What was acknowledged stays acknowledged.",
        ("net/ipv4/tcp_input.c:tcp_rcv_nxt_update", "RFC 9293 3.4"),
        rfc=True,
    ),
    Constraint(
        "ack-is-rcv-nxt",
        "An acknowledgment names the end of what arrived in order.",
        ("net/ipv4/tcp_output.c:tcp_send_ack", "RFC 9293 3.10.7.4"),
    ),
    Constraint(
        "echo-is-ts-recent",
        "TSecr is the timestamp of the last segment that began at or before the last acknowledgment.",
        ("net/ipv4/tcp_input.c:tcp_replace_ts_recent", "RFC 7323 4.3"),
    ),
    Constraint(
        "sack-blocks",
        "SACK blocks are what waits behind holes, the last that changed first, after a DSACK of what came twice.",
        (
            "net/ipv4/tcp_input.c:tcp_sack_new_ofo_skb",
            "net/ipv4/tcp_output.c:tcp_established_options",
            "RFC 2018 4",
            "RFC 2883 4",
        ),
    ),
    Constraint(
        "sack-not-permitted",
        "SACK blocks are sent only if both SYNs permitted them.",
        ("net/ipv4/tcp_input.c:tcp_is_sack", "RFC 2018 3"),
        rfc=True,
    ),
    Constraint(
        "window-retreats",
        "The right edge of the window doesn't move back, unless memory is out.",
        ("net/ipv4/tcp_output.c:tcp_select_window", "RFC 9293 3.8.6"),
    ),
    Constraint(
        "window-too-wide",
        "The window opens with the data that came, from what the SYN offered.",
        ("net/ipv4/tcp_input.c:tcp_grow_window", "net/ipv4/tcp_output.c:__tcp_select_window", "RFC 9293 3.8.6.2.2"),
    ),
    Constraint(
        "congestion-echo",
        "ECE is sent from a CE mark on data until CWR comes, and at no other time.",
        ("net/ipv4/tcp_output.c:tcp_ecn_send", "RFC 3168 6.1.3"),
    ),
    Constraint(
        "ack-without-cause",
        "An acknowledgment without data has a cause: something arrived, the window at least doubled, a timer ran out.",
        ("net/ipv4/tcp_input.c:__tcp_ack_snd_check", "net/ipv4/tcp.c:__tcp_cleanup_rbuf", "RFC 9293 3.8.6.3"),
    ),
    Constraint(
        "ack-withheld",
        "What arrived is acknowledged before the delayed-ACK timer has run out.",
        ("net/ipv4/tcp_output.c:tcp_send_delayed_ack", "RFC 9293 3.8.6.3", "RFC 1122 4.2.3.2"),
    ),
)

OPEN: Final = frozenset((St.ESTABLISHED, St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSE_WAIT, St.CLOSING, St.LAST_ACK))
QUEUED: Final = 4_000_000  # us: no frame waits longer between its making and a tap on its host
HELD_LEAST: Final = 90  # us: no compressed acknowledgment is held back for less than the timer's slack of 100
READS: Final = 20  # us: a reader takes longer to wake, the interrupt's own acknowledgment seldom does
READS_LATE: Final = 2_000  # us: later than that no acknowledgment is sent at once
FAR_AWAY: Final = 1_000_000  # us in which an answer comes from far away
HELD_BACK: Final = 5_000  # us: a compressed acknowledgment may wait 1 ms by default, and the timer's slack
TCP_FASTRETRANS_THRESH: Final = 3
TCP_PAWS_WINDOW: Final = 1
ECN_CE: Final = 3
DAYS24: Final = 2_147_000_000_000  # us after which a timestamp has lost its meaning
REMEMBERED: Final = 64
FORGOTTEN: Final = 512  # inputs between two outputs


class Receiver:
    """What came and what was said of it. See the module's docstring; the constraints are `CONSTRAINTS`."""

    __slots__ = (
        "arrivals", "asking", "astray", "ce", "clock", "compressed", "credit_at", "credit_by", "credits", "dsack_off",
        "dup_acks", "ecn_ok", "ecn_syn", "end", "fastest", "fin_due", "fuzzy", "half", "known", "latest", "loose",
        "may_miss_dsack", "ofo_told", "old_sets", "origin", "promise", "re", "sack_known", "skips", "stale", "stamps",
        "text_at", "top", "ts_at", "ts_loose", "ts_ok", "ts_recent", "untold", "wup",
    )  # fmt: skip

    def __init__(self, end: End) -> None:
        self.end = end
        stack = end.stack
        self.re = Reassembly()
        self.promise = Promise()
        self.clock = AckClock(stack.jiffy, 1 if not stack.given or _release(stack.kernel) >= (6, 7) else 3)
        self.known = self.fuzzy = False
        self.sack_known = False  # both SYNs were seen: `re.sack` is certain
        self.ts_ok: bool | None = None
        self.ts_recent: int | None = None
        self.ts_at = 0  # when ts_recent was taken
        self.stamps: list[tuple[int, int, int]] = []  # the last that moved ts_recent: number, us, timestamp
        self.top: int | None = None  # the latest timestamp that came
        self.ts_loose = False
        self.wup = 0
        self.credits, self.credit_at, self.credit_by = 0, 0, ""
        self.compressed = 0
        self.dup_acks = 0
        self.fastest = DAYS24  # us: the least between a text and the acknowledgment that a far end sent of it
        self.text_at = 0  # when the last text came
        self.fin_due = False
        self.dsack_off = stack.told.get("net.ipv4.tcp_dsack", 1) == 0
        self.may_miss_dsack = self.dsack_off or stack.near is not True or stack.lossy is not False
        self.old_sets = 0  # segments that set a DSACK below rcv_nxt since the last output
        self.untold = 0  # the same beyond it
        self.ofo_told = 0  # segments queued behind a hole since the last output
        self.ecn_ok: bool | None = None
        self.ecn_syn: tuple[bool, int, int] | None = None
        self.ce = False
        self.loose = stack.near is not True
        self.astray = Astray()
        self.latest: Segment | None = None  # the last output but for those that others had overtaken
        self.origin: Origin | None = None  # from the first input behind the last output on
        # An input whose acknowledgment may have sent the last output before its text was taken: number, rcv_wup, TSval.
        self.half: tuple[int, int, int | None] = (0, 0, None)
        self.asking = False  # the state machine is asked for a cause
        self.stale = False  # the output that is explained left before others that were seen
        self.skips = False  # the input that is processed is not known to have arrived yet
        self.arrivals: list[tuple[int, int, int, int]] = []  # the last with text: number, us, from, to

    def copy(self) -> "Receiver":
        """A copy that shares nothing that changes."""
        new = Receiver.__new__(Receiver)
        for name in Receiver.__slots__:
            setattr(new, name, getattr(self, name))
        new.re, new.promise, new.clock = self.re.copy(), self.promise.copy(), self.clock.copy()
        new.origin = None if self.origin is None else self.origin.copy()
        new.arrivals, new.stamps, new.astray = list(self.arrivals), list(self.stamps), self.astray.copy()
        return new

    @property
    def rcv_nxt(self) -> int:
        """The number that is expected next."""
        return self.re.nxt & M32

    # -- inputs

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
                re.dsack, re.sure = (seq, min(end, re.nxt)), True
        self._credit(us(s), "tcp_send_dupack")

    def missed(self, s: Segment) -> None:
        """An input was dropped behind the tap; on its way to a far end it may only be late."""
        if self.loose and self.known:
            seq = unwrap(s.seq, self.re.nxt)
            self.astray.comes(seq, seq + s.seg_len, self._pieces(s), s.tsval, us(s))
            self._grows(s)
            self.ofo_told += self._pieces(s) if s.len else 0

    def acceptable(self, s: Segment, nxt: int, recent: int | None) -> str:
        """Why a segment's text is not looked at: "paws", "old", "beyond" the window, ACK of what is "unsent"; else "".

        `nxt` is the unwrapped rcv_nxt, `recent` the ts_recent to judge by.
        """
        tsval = s.tsval
        flags = s.flags
        if tsval is not None and recent and self.ts_ok and not flags & RST:
            back = (recent - tsval) & M32
            if TCP_PAWS_WINDOW < back < H32 and us(s) - self.ts_at < DAYS24 and not self._disordered(s, nxt):
                return "paws"
        d = (s.seq - nxt) & M32
        seq = d if d < H32 else d - (1 << 32)
        if nxt + seq + s.len + (flags & FIN) < self.wup:
            return "old"
        if seq > self.room_left(nxt):
            return "beyond"
        stack = self.end.stack
        if not (stack.given and stack.near is True and self.sack_known and flags & ACK):
            return ""
        return "unsent" if newer(s.ack_seq, self.end.tx.snd_nxt) else ""

    def _disordered(self, s: Segment, nxt: int) -> bool:
        """An acknowledgment without news that was overtaken; source net/ipv4/tcp_input.c:tcp_disordered_ack."""
        return not s.seg_len and s.seq == nxt & M32 and s.ack_seq == self.end.tx.snd_una

    def newer_echo(self, s: Segment, seq: int, recent: int | None) -> int | None:
        """ts_recent after a segment; source net/ipv4/tcp_input.c:tcp_replace_ts_recent, called by tcp_ack."""
        tsval = s.tsval
        if tsval is None or recent is None:
            return tsval if self.ts_ok else None
        if seq > self.wup or tsval == recent or not newer(tsval, recent):
            return recent
        if s.number == self.half[0] and seq > self.half[1]:
            return recent  # it was looked at before the last output acknowledged that far, or just behind it
        una: int | None = getattr(self.end.tx, "snd_una", None)
        if una is not None and (s.ack_seq - una) & M32 >= H32:
            return recent
        return tsval

    def room_left(self, nxt: int) -> int:
        """What is left of the window at `nxt`, as far as it is known exactly."""
        return self.promise.left(nxt) if self.end.stack.near is True else FAR_BACK

    def _syn(self, s: Segment) -> None:
        """The peer's SYN or SYN-ACK came."""
        if self.known and s.flags & ACK and self.re.nxt & M32 == (s.seq + 1) & M32:
            self.old_sets += 1
            self._credit(us(s), "__tcp_ack_snd_check")
        self.known = True
        self.re = Reassembly(s.seq + 1, self.re.sack, not self.dsack_off)
        self.wup = self.re.nxt
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

    def _pieces(self, s: Segment) -> int:
        """In how many segments what the tap saw in one may have come."""
        return 1 if not self.loose else -(-s.len // min(LEAST_MSS, self.promise.advmss or LEAST_MSS)) or 1

    def _grows(self, s: Segment) -> None:
        self.promise.grows(s.len, True, self._pieces(s))

    def _credit(self, at: int, by: str) -> None:
        """An input may be answered by an acknowledgment that brings nothing new."""
        self.credits += 1
        self.credit_at, self.credit_by = at, by

    def _srtt(self) -> int:
        flow: Any = getattr(self.end.tx, "f", None)
        return flow.rtt.srtt >> 3 if flow is not None else 0

    # -- where an output stands

    def explain(self, s: Segment) -> None:
        """Processes the inputs that the output shows; raises Refusal if it fits no position."""
        if not s.flags & ACK:
            return
        if not self.known:
            self._begin(s)
            return
        end = self.end
        if not end.stack.linux:
            self._foreign(s)
            return
        at = us(s)
        self.stale = self._superseded(s)
        if self.stale:
            return
        self.echo_advances(s)
        if self.credits and at - self.credit_at > (FAR_AWAY if self.loose else self.end.stack.late + HELD_BACK):
            self.credits = 0
        if 0 <= self.clock.since < at - TCP_DELACK_MAX and end.ident.steps_since_last(s) == 0 and self._withholds(at):
            self._refuse_silence(at)
        if self._plain(s, at):
            return
        seen = tuple((unwrap(a, self.re.nxt), unwrap(b, self.re.nxt)) for a, b in s.sack)
        if seen and self.sack_known and not self.re.sack:
            raise Refusal("sack-not-permitted", "SACK blocks, though the handshake did not permit them")
        if not self.sack_known and seen:
            self.re.sack = True
        if self.loose and (gone := self._forgotten(s)):
            raise Refusal("sack-blocks", f"SACK {_ranges(seen)}, but {_ranges(gone)} waited before, and waits still")
        if self.loose and self._hides_twice(s):
            raise Refusal(
                "sack-blocks",
                f"TSecr {s.tsecr} is of what had been acknowledged before, and no DSACK tells that it came twice",
            )
        found = find(self, s, seen, self.end.stack.lossy is not False)
        if found is None:
            self._refuse_position(s, seen)
        else:
            self._settle_at(found)
        self._check_window(s)

    def _plain(self, s: Segment, at: int) -> bool:
        """The usual case: everything in order, nothing to tell. False if it isn't that."""
        re, end = self.re, self.end
        if s.sack or re.ranges or re.dsack is not None or re.told_at_fin is not None or self.fuzzy:
            return False
        pending = end.pending
        ack = unwrap(s.ack_seq, re.nxt)
        limit = at - end.stack.base
        nxt, recent, count = re.nxt, self.ts_recent, 0
        for p in pending:
            if p.flags & (SYN | RST | FIN | CWR) or p.tos & 3 == ECN_CE or self.acceptable(p, nxt, recent):
                return False
            seq = unwrap(p.seq, nxt)
            stop = seq + p.len
            if stop != seq and seq != nxt:
                return False
            if stop > ack:
                break
            if us(p) > limit and nxt == ack and self.echoes(s, recent):
                break
            later = self.newer_echo(p, seq, recent)
            if self.denies_echo(s, later) or end.held(p, s.number):
                break
            nxt, recent, count = max(nxt, stop), later, count + 1
        if nxt != ack or not self.echoes(s, recent):
            return False
        if nxt <= self.wup and not s.len and not s.flags & FIN and count < len(pending) and not self.credits:
            return False
        for _ in range(count):
            end.process()
        self._check_window(s)
        return True

    def _settle_at(self, found: Found) -> None:
        end = self.end
        for i in range(found.count):
            if i in found.dropped:
                p = end.pending.popleft()
                self.missed(p)
                if not self.loose:
                    end.notes.append(f"frame {p.number} was dropped behind the tap")
            else:
                end.process()

    def echoes(self, s: Segment, recent: int | None) -> bool:
        """Whether TSecr may be what `s` echoes when ts_recent is `recent`."""
        t = s.tsecr
        if t is None or recent is None or t in (recent, self.half[2]) or not self.ts_ok:
            return True
        if not (self.ts_loose or self.end.stack.near is not True or self._gap(s)):
            return False
        if not newer(t, recent):
            return False
        return any(p.tsval == t for p in self.end.pending) or (self.top is not None and not newer(t, self.top))

    def denies_echo(self, s: Segment, recent: int | None) -> bool:
        """Whether TSecr shows that ts_recent was not yet `recent`."""
        t = s.tsecr
        return t is not None and recent is not None and self.ts_ok is True and newer(recent, t)

    def _gap(self, s: Segment) -> bool:
        """Whether this end may have sent something that the tap did not see, by its IPv4 ids."""
        steps: int | None = self.end.ident.steps_since_last(s)
        return steps is None or steps > 0

    def misses_dsack(self, r: Reassembly) -> bool:
        """Whether the DSACK that is due at `r` may be missing: the first copy may not have come, unless it was told."""
        return self.dsack_off or (self.may_miss_dsack and (r.dsack is None or r.dsack[1] > self.wup))

    def opens_window(self, s: Segment, ack: int) -> bool:
        """Whether a read alone could have sent it."""
        return self.promise.opens(self.promise.says(s), ack)

    def may_discard(self, p: Segment, seq: int, s: Segment) -> bool:
        """Whether the end itself may have dropped an input: beyond its window, or memory was out.

        Source: net/ipv4/tcp_input.c:tcp_try_rmem_schedule. The right edge does not move on then.
        """
        window = self.promise.says(s)
        ack = unwrap(s.ack_seq, self.re.nxt)
        return window == 0 or (window > 0 and ack + window <= self.promise.edge)

    def _begin(self, s: Segment) -> None:
        """The first output of a connection whose handshake wasn't seen."""
        end = self.end
        self.known = self.fuzzy = True
        self.re = Reassembly(s.ack_seq + (1 << 32), bool(s.sack), not self.dsack_off)
        self.wup = self.re.nxt
        while end.pending and not (end.pending[0].end_seq - s.ack_seq - 1) & M32 < H32:
            end.process()
        if s.sack:
            low = [(unwrap(a, self.re.nxt), unwrap(b, self.re.nxt)) for a, b in s.sack]
            self.re.blocks = [b for b in low if b[0] > self.re.nxt]
            self.re.ranges = sorted(self.re.blocks)
        if s.tsecr is not None and s.tsecr:
            self.ts_ok, self.ts_recent, self.ts_at = True, s.tsecr, us(s)
            self.top = s.tsecr if self.top is None or newer(s.tsecr, self.top) else self.top
        elif s.tsecr is None:
            self.ts_ok = False

    def _foreign(self, s: Segment) -> None:
        """A stack that is not Linux: it acknowledges no more than arrived, and takes nothing back."""
        end = self.end
        ack = unwrap(s.ack_seq, self.re.nxt)
        limit = us(s) - end.stack.base
        while end.pending and (us(end.pending[0]) <= limit or self.re.nxt < ack):
            end.process()
        self._check_bounds(s, ack)
        if ack != self.re.nxt:
            self.re.nxt = ack
            self.re.ranges = [r for r in self.re.ranges if r[0] > ack]
            self.re.blocks = [b for b in self.re.blocks if b[0] > ack]

    def _highest(self) -> int:
        """The end of the furthest that the tap saw arrive."""
        nxt = self.re.nxt
        high = max((r[1] for r in self.re.ranges), default=nxt)
        for p in self.end.pending:
            high = max(high, unwrap(p.seq, nxt) + p.seg_len)
        if self.loose:
            high = max(high, self.astray.top, unwrap(self.end.peer.tx.snd_nxt, nxt))
        return max(high, nxt)

    def _check_bounds(self, s: Segment, ack: int) -> None:
        """What binds every TCP."""
        why = self.end.decided.get(s.number)
        high = self._highest()
        if ack > high and not self.fuzzy:
            if why is not None and why.kind == "unheard":
                self._jump(ack)
                return
            raise Refusal(
                "ack-of-what-did-not-arrive",
                f"ack {s.ack_seq}, but nothing arrived beyond {high & M32}",
                [f"ack {self.re.nxt & M32}"],
                excuses=self._lacks(s, f"it acknowledges {ack & M32}"),
            )
        if ack < self.wup:
            raise Refusal(
                "ack-goes-back",
                f"ack {s.ack_seq}, but {self.wup & M32} was acknowledged before",
                [f"ack {self.re.nxt & M32}"],
            )

    def _superseded(self, s: Segment) -> bool:
        """Whether the output left before others that the tap saw earlier: then it shows nothing new."""
        end, last = self.end, self.latest
        if last is None:
            return False
        if end.ident.overtaken(s):
            return True
        if end.ident.duplicate(s):
            self.may_miss_dsack = True  # the tap, or the network behind it, doubles frames
            return True
        goes_back = unwrap(s.ack_seq, self.re.nxt) < self.wup
        if not goes_back and (not self.loose or not s.sack or not s.ip_id):
            return False
        return behind(s, last)

    def _jump(self, ack: int) -> None:
        """The tap missed what this acknowledges."""
        re = self.re
        re.nxt = ack
        re.ranges = [r for r in re.ranges if r[0] > ack]
        re.blocks = [b for b in re.blocks if b[0] > ack]
        re.dsack = None
        self.fuzzy = self.ts_loose = True

    def _refuse_position(self, s: Segment, seen: tuple[Range, ...]) -> None:
        """No position fits: says what is wrong, and what would excuse it."""
        re = self.re
        ack = unwrap(s.ack_seq, re.nxt)
        self._check_bounds(s, ack)
        if self.loose and self._believe(s, ack, seen):
            return
        if self.fuzzy:
            self._resync(s, ack, seen)
            return
        why = self.end.decided.get(s.number)
        if why is not None and why.kind == "unheard" and ack >= self.wup:
            self._jump(ack)
            self._resync(s, ack, seen)
            return
        again = self._again_from_origin(s, seen)
        wrong = shortfall(self, s)
        if wrong == "echo":
            raise Refusal(
                "echo-is-ts-recent",
                f"TSecr {s.tsecr}, but the timestamp to echo is {self.ts_recent}",
                [f"TSecr {self.ts_recent}"],
                excuses=again
                or (*self._unheard(s), *self._drops(s, self.wup), *self._lacks(s, f"it echoes {s.tsecr}")),
            )
        if wrong == "sack":
            told = ([re.dsack] if re.dsack is not None else []) + re.blocks
            raise Refusal(
                "sack-blocks",
                f"SACK {_ranges(seen)}, but what waits is {_ranges(told)}",
                [f"SACK {_ranges(told)}"],
                excuses=again or (*self._drops(s, self.wup), *self._lacks(s, "its SACK blocks")),
            )
        raise Refusal(
            "ack-is-rcv-nxt",
            f"ack {s.ack_seq}, but {re.nxt & M32} is expected next, and {self._highest() & M32} ends what arrived",
            [f"ack {re.nxt & M32}"],
            excuses=again or (*self._drops(s, ack), *(self._lacks(s, "it acknowledges more") if ack > re.nxt else ())),
        )

    def _resync(self, s: Segment, ack: int, seen: tuple[Range, ...]) -> None:
        """What went before is not known: the output is believed."""
        end = self.end
        while end.pending and unwrap(end.pending[0].seq, ack) + end.pending[0].seg_len <= ack:
            end.process()
        re = self.re
        re.nxt = max(ack, self.wup)
        re.dsack = None
        re.blocks = [b for b in seen if b[0] > re.nxt]
        re.ranges = sorted(re.blocks)
        if s.tsecr:
            self.ts_recent = s.tsecr

    def _believe(self, s: Segment, ack: int, seen: tuple[Range, ...]) -> bool:
        """A far end's words are possible: what they show arrived, in an order that only they tell. False if not."""
        end, re = self.end, self.re
        pending = [(unwrap(p.seq, ack), unwrap(p.seq, ack) + p.seg_len) for p in end.pending]
        texts = [r for r in pending if r[0] < r[1]]
        unknown = ack > re.nxt and not texts and not self.astray.under_way  # its state let them pass unseen
        if ack not in (re.nxt, self.wup) and not unknown and not self.astray.borders(ack, texts, self.promise.advmss):
            return False
        if not all(self.astray.holds(b, ack, texts, self.promise.advmss) for b in seen):
            return False
        if end.stack.whole and not unknown and not self.astray.covers(self.wup, ack, texts):
            return False
        t = s.tsecr
        news = t is not None and self.ts_recent is not None and t != self.ts_recent and self.ts_ok
        if news and not (unknown or self.was_stamped(t) or any(t == p.tsval for p in end.pending)):
            return False
        shown = 0
        for i, (low, high) in enumerate(pending):
            if low < high and (high <= ack or any(a <= low and high <= b for a, b in seen)):
                shown = i + 1
        self.skips = True
        for _ in range(shown):
            end.process()
        self.skips = False
        self.credits += 1
        self.credit_at, self.credit_by = us(s), "__tcp_ack_snd_check"
        told = [b for b in seen if b[0] > ack]
        if len(told) < len(seen):
            self.old_sets += 1
            self.astray.inputs += 1
        re.nxt, re.dsack = ack, None
        re.blocks = told + [b for b in re.blocks if b[0] > ack and not any(c[0] <= b[0] and b[1] <= c[1] for c in told)]
        re.ranges = _merged(told + [r for r in re.ranges if r[0] > ack])
        if t is not None and self.ts_ok:
            self.ts_recent = t
        return True

    def was_stamped(self, t: int | None) -> bool:
        """Whether a timestamp was on its way to this end, or may have been before what the tap remembers."""
        stamps = self.astray.stamps
        if t in stamps or not stamps:
            return True
        return (self.astray.middle or len(stamps) == stamps.maxlen) and newer(stamps[0], t or 0)

    def echo_advances(self, s: Segment) -> None:
        """Raises Refusal if `s`, which left behind the last output, echoes less: ts_recent does not go back.

        Source: net/ipv4/tcp_input.c:tcp_store_ts_recent, net/ipv4/tcp_minisocks.c:tcp_timewait_state_process.
        """
        last = self.latest
        if last is None or not last.tsecr or s.tsecr is None or not self.end.stack.linux or s.flags & SYN:
            return
        if newer(last.tsecr, s.tsecr) and self.left_behind(s, last) and us(s) - us(last) < DAYS24:
            raise Refusal(
                "echo-is-ts-recent",
                f"TSecr {s.tsecr}, but frame {last.number}, which left before it, echoes {last.tsecr}",
                [f"TSecr from {last.tsecr}"],
            )

    def left_behind(self, s: Segment, last: Segment) -> bool:
        """Whether `s` left behind `last` for certain: by its id, its timestamp, its numbers, or the tap's place."""
        ids = self.end.ident.ids
        if s.ip_id and last.ip_id and ids.trusted:
            return not ids.kind
        if s.tsval is not None and last.tsval is not None and s.tsval != last.tsval:
            return newer(s.tsval, last.tsval)
        if newer(s.ack_seq, last.ack_seq) or (s.len and s.seq == last.end_seq == self.end.tx.snd_nxt):
            return True
        return self.end.stack.exact and us(s) - us(last) > SWAPPED

    def _lacks(self, s: Segment, what: str) -> tuple[Excuse, ...]:
        """The capture may lack what an output answers, unless the recorder says that the tap missed nothing."""
        if self.end.stack.whole:
            return ()
        return (Excuse("unheard", s.number, f"{what}: the capture may lack what it answers", cost=6),)

    def _drops(self, s: Segment, above: int) -> tuple[Excuse, ...]:
        """Inputs with text that were taken for processed, and were late or dropped."""
        found = [(n, at) for n, at, _, stop in self.arrivals if stop > above and self._free(n, s)]
        there = [(n, at) for n, at, seq, stop in self.arrivals if seq <= above < stop and self._free(n, s)]
        if len(there) == 1:
            return self._excuses(s, there, "it ends where this begins", 0)
        return self._excuses(s, there or found, "what it brought is not acknowledged")

    def _free(self, n: int, s: Segment) -> bool:
        """Whether input `n` may be late or dropped at output `s`: one that was late before may still be."""
        why = self.end.decided.get(n)
        return why is None or (why.kind == "late" and why.until < s.number)

    def _unheard(self, s: Segment) -> tuple[Excuse, ...]:
        """Inputs whose timestamps are later than the one that is echoed."""
        t = s.tsecr
        if t is None:
            return ()
        found = [(n, at) for n, at, tsval in self.stamps if newer(tsval, t) and self._free(n, s)]
        return self._excuses(s, found[:1], "its timestamp is not echoed")

    def _again_from_origin(self, s: Segment, seen: tuple[Range, ...]) -> tuple[Excuse, ...]:
        """The one hypothesis that comes first on the way to where the output stands, counted from the last output."""
        origin, stack = self.origin, self.end.stack
        if origin is None:
            return ()
        found = find(self, s, seen, stack.lossy is not False, origin)
        if found is None:
            return ()
        since = origin.since
        first = found.dropped[0] if found.dropped else found.count
        if first >= len(since):
            return ()
        p = since[first]
        if p.number in self.end.decided:
            return ()
        if first < found.count:
            return (Excuse("dropped", p.number, f"frame {s.number} shows what came later, not this", cost=0),)
        return self._excuses(s, [(p.number, us(p))], f"frame {s.number} does not show it", 0)

    def _excuses(self, s: Segment, found: list[tuple[int, int]], evidence: str, cost: int = 1) -> tuple[Excuse, ...]:
        stack = self.end.stack
        made = us(s) - self._waited(s)
        out = []
        for n, at in found[:3]:
            if at > made - stack.jiffy:
                stack.late = min(max(stack.late, 2 * (us(s) - at)), QUEUED)
                out.append(Excuse("late", n, f"{evidence}, and frame {s.number} waited for the tap", s.number, cost))
            elif stack.lossy is not False:
                out.append(Excuse("dropped", n, evidence, cost=cost))
        return tuple(out)

    def _waited(self, s: Segment) -> int:
        """How long (us) a frame waited between its making, which its timestamp tells, and the tap."""
        clock = self.end.ident.clock
        if s.tsval is None or clock.first is None:
            return 0
        at, tsval = clock.first
        ticks = (s.tsval - tsval) & M32
        return 0 if ticks >= H32 else max(us(s) - at - ticks * 1_000_000 // clock.rate, 0)

    def _check_window(self, s: Segment) -> None:
        if s.flags & RST or not self.end.stack.linux:
            return
        if self.end.life.small:
            self._small_window(s)
            return
        told = self.end.stack.near is True and not self.end.stack.close  # else a router behind the tap may mark
        if self.ecn_ok and told and not self.fuzzy and not self._echoes_marks(s):
            what = "ECE, though no mark came" if s.flags & ECE else "no ECE, though a mark came and no CWR"
            raise Refusal("congestion-echo", what, excuses=self._drops(s, self.wup))
        promise = self.promise
        window = promise.says(s)
        if window < 0 or self.fuzzy:
            return
        ack = unwrap(s.ack_seq, self.re.nxt)
        most = promise.too_wide(window, ack)
        if most >= 0 and self.loose:
            for p in self.end.pending:  # a part of each may have come
                self._grows(p)
            most = promise.too_wide(window, ack)
        if most >= 0:
            raise Refusal("window-too-wide", f"window {window}, but it opens to {most} at most by what came")
        stack = self.end.stack
        if promise.retreats(window, ack) and (
            stack.exact or (stack.near is True and stack.given) or self._follows(s, ack)
        ):
            shrinks = stack.told.get("net.ipv4.tcp_shrink_window", 0)
            late = _release(stack.kernel) >= (6, 5) or not stack.given
            nomem = window == 0 and late and (self.fuzzy or self._highest() > ack)
            if not shrinks and not nomem:
                raise Refusal(
                    "window-retreats",
                    f"the window ends at {(ack + window) & M32}, but {promise.edge & M32} was promised",
                    [f"window {promise.edge - ack}"],
                )

    def _echoes_marks(self, s: Segment) -> bool:
        """Whether ECE is as it should be; the acknowledgment in the next input may have sent `s`, and had a CWR."""
        if bool(s.flags & ECE) is self.ce:
            return True
        pending = self.end.pending
        return self.ce and bool(s.len and pending and pending[0].flags & CWR)

    def _follows(self, s: Segment, ack: int) -> bool:
        """Whether the output left behind all others that were seen: by its id, its number or its timestamp."""
        ids, last = self.end.ident.ids, self.end.last_sent
        if ids.trusted and s.ip_id:
            return not ids.kind
        later = s.tsval is not None and last is not None and last.tsval is not None and newer(s.tsval, last.tsval)
        return ack > self.wup or later

    def _small_window(self, s: Segment) -> None:
        """Holds a time-wait socket to the window that it inherited; source tcp_minisocks.c:tcp_time_wait."""
        promise = self.promise
        if promise.edge >= UNBOUNDED or promise.shift < 0 or self.fuzzy or not self.known:
            return
        if promise.window >= U16_MAX << promise.shift:
            return  # a larger rcv_wnd may be behind it, of which a time-wait socket says the low 16 bits
        least = (promise.edge - promise.give - unwrap(s.ack_seq, self.re.nxt)) >> promise.shift
        if s.window < min(least, U16_MAX):
            what = f"window {s.window} in TIME_WAIT, but the socket left {least} of what it promised"
            raise Refusal("window-retreats", what, [f"window {least}"])

    # -- why just now

    def cause(self, s: Segment) -> Label:
        """What made this end send a pure ACK; raises Refusal where nothing could."""
        re, clock, end = self.re, self.clock, self.end
        at = us(s)
        if self.stale:
            return Label("tcp_send_ack", "it left before frames that were seen earlier")
        if self.fin_due:
            return Label("tcp_fin")
        opens = self.promise.says(s) > self.promise.window
        if re.nxt > self.wup:
            return self._advance(at, opens)
        if self.credits:
            if self.credit_by == "tcp_compressed_ack_kick" and (opens or at - self.text_at < HELD_LEAST):
                return Label("__tcp_ack_snd_check", "quick acknowledgments are on")
            return Label(self.credit_by)
        asked: Label | None = end.life.cause(s)
        end.life.moves()
        if asked is None and end.state not in OPEN and not self.asking:
            self.asking = True
            try:
                asked = end.life.explain(s)
            finally:
                self.asking = False
        if asked is not None:
            return asked
        if self.opens_window(s, re.nxt):
            return Label("__tcp_cleanup_rbuf", "a read opened the window")
        if clock.mandated or clock.since >= 0:
            return Label("__tcp_ack_snd_check")
        if not end.stack.linux or self.fuzzy or not self.known:
            return Label("tcp_send_ack")
        if (
            self.loose
            and (self.astray.inputs > 0 or end.pending)
            and not (self._bare(s) and not self._answers_refused(s))
        ):
            return Label("__tcp_ack_snd_check", "of what overtook, or came twice, behind the tap")
        last = self.latest
        if last is not None and overtaken(s, last):
            return Label("tcp_send_ack", "it left before frames that were seen earlier")
        last = end.last_sent
        if last is not None and self._again(s, last):
            return Label("tcp_send_ack", "the same frame once more: the network duplicated it")
        why = end.decided.get(s.number)
        if why is not None and why.kind == "unheard":
            return Label("tcp_send_ack", "of what the capture lacks")
        raise Refusal(
            "ack-without-cause",
            f"ack {s.ack_seq} says nothing new, and nothing came that it answers",
            near=(
                ("__tcp_cleanup_rbuf", f"the window {self.promise.says(s)} isn't twice {self.promise.left(re.nxt)}"),
                ("tcp_delack_timer_handler", "no acknowledgment was owed"),
                ("__tcp_ack_snd_check", "no input without an answer"),
            ),
            excuses=(*self._drops(s, self.wup - 1), *self._lacks(s, "it answers something")),
        )

    def _bare(self, s: Segment) -> bool:
        """Whether it tells of no text that came: what came out of order or twice would show in its SACK blocks.

        Source: net/ipv4/tcp_input.c:tcp_data_queue, tcp_data_queue_ofo.
        """
        last = self.latest
        if last is None or last.flags & SYN or not (self.re.sack and self.sack_known) or self.dsack_off:
            return False
        if s.truncated or s.ip_id == 0 or (s.ip_id is None and self.end.life.fin_end):
            return False
        same = s.ack_seq == last.ack_seq and s.window == last.window and s.sack == last.sack
        return same and not (s.sack and _tells_twice(s))

    def _hides_twice(self, s: Segment) -> bool:
        """Whether a far end shows by its echo that it got what it had acknowledged before, and tells no DSACK.

        Nothing may have left unseen before it. What an input's acknowledgment sends leaves before its text is read.
        """
        if s.len or s.flags & FIN or s.truncated or not (self.re.sack and self.sack_known) or self.dsack_off:
            return False
        if self.end.ident.steps_since_last(s) != 0 or s.ip_id == 0 or (s.sack and _tells_twice(s)):
            return False
        if s.tsecr is None or any(tsval == s.tsecr for _, _, tsval, _ in self.astray.recent):
            return False
        carriers = [p for p in self.end.pending if p.tsval == s.tsecr]
        text = all(p.seg_len and not p.flags & (SYN | RST) for p in carriers)
        return bool(carriers) and text and all(unwrap(p.end_seq, self.wup) <= self.wup for p in carriers)

    def _forgotten(self, s: Segment) -> list[Range]:
        """Blocks that the last output told of, and this one, which left behind it, does not though it has room.

        Source: net/ipv4/tcp_input.c:tcp_sack_remove, tcp_prune_ofo_queue, which forgets them when memory is out.
        """
        last = self.latest
        if last is None or not last.sack or len(s.sack) >= room(s)[0] or s.truncated or not self.left_behind(s, last):
            return []
        stack, ack = self.end.stack, unwrap(s.ack_seq, self.re.nxt)
        if stack.host is not None and any(n.endswith("OfoPruned") and v for n, v in stack.host.mib.items()):
            return []
        if (stack.host is None or not stack.host.mib) and s.window < last.window // 2:
            return []
        if self.end.life.peer_fin is not None or s.ip_id == 0 or not (stack.linux and self.sack_known):
            return []
        told = last.sack[1:] if _tells_twice(last) else last.sack
        told = tuple((unwrap(a, ack), unwrap(b, ack)) for a, b in told)
        seen = [(unwrap(a, ack), unwrap(b, ack)) for a, b in s.sack]
        return [(a, b) for a, b in told if a > ack and not any(c <= a and b <= d for c, d in seen)]

    def _answers_refused(self, s: Segment) -> bool:
        """Whether a segment that the end did not look into may have asked for it: an old one, a SYN or an RST.

        Source: net/ipv4/tcp_input.c:tcp_validate_incoming, tcp_oow_rate_limited: at most two a second without text.
        """
        ack, window = unwrap(s.ack_seq, self.re.nxt), self.promise.says(s)
        edge = ack + window if window >= 0 else UNBOUNDED
        for p in self.end.pending:
            seq = unwrap(p.seq, ack)
            if p.flags & (SYN | RST) or is_refused(seq, seq + p.seg_len, p.tsval, ack, edge, s.tsecr):
                return True
        return self.astray.asked(ack, edge, s.tsecr, us(s) - self.end.stack.late)

    def _advance(self, at: int, opens: bool) -> Label:
        """What acknowledged new data: at once, the timer, or a read.

        A window that opens as data come has turned quick acknowledgments on (net/ipv4/tcp_input.c:tcp_grow_window);
        else who answers within the interrupt is told from a reader by the time it took.
        """
        clock = self.clock
        waited = at - self.text_at
        if self.loose:  # what is far answers a round trip later
            self.fastest = min(self.fastest, waited)
            waited, at = waited - self.fastest, at - self.fastest
        if (clock.timer_fires(at) or clock.least_delay(waited)) and not (clock.now and waited < READS_LATE):
            return Label("tcp_delack_timer_handler", f"{at - clock.since} us after the first arrival")
        if clock.now:
            if waited > READS_LATE:
                return Label("__tcp_cleanup_rbuf", "what was read is acknowledged")
            return Label("__tcp_ack_snd_check")
        if (opens and clock.pingpong < clock.thresh and waited < READS_LATE) or waited < READS:
            return Label("__tcp_ack_snd_check", "quick acknowledgments are on")
        return Label("__tcp_cleanup_rbuf", "what was read is acknowledged")

    def _again(self, s: Segment, last: Segment) -> bool:
        if self.end.stack.near is True and not self.end.ident.duplicate(s):
            return False
        same = (s.seq, s.ack_seq, s.window, s.sack, s.tsval, s.ip_id)
        return same == (last.seq, last.ack_seq, last.window, last.sack, last.tsval, last.ip_id)

    def sent(self, s: Segment, label: Label) -> None:
        """The output left: what it acknowledged is settled, its window stands."""
        flags = s.flags
        if not flags & ACK and not flags & SYN:
            return
        promise, re, end = self.promise, self.re, self.end
        if self.stale:
            self.stale = False
            return
        self.latest, self.origin = s, None
        p = end.pending[0] if end.pending and s.len else None
        self.half = (p.number, self.wup, p.tsval) if p is not None and p.seg_len else (0, 0, None)
        if flags & SYN:
            if flags & ACK and self.known:
                re.nxt = self.wup = unwrap(s.ack_seq, re.nxt)
            promise.offers(s, re.nxt, self._cookies())
            self._agree(True, s)
            return
        ack = unwrap(s.ack_seq, re.nxt)
        newest = ack >= self.wup
        advances = ack > self.wup
        window = promise.says(s)
        self._count(s, label, window, ack)
        promise.sent(window, ack, newest)
        if newest:
            if ack > re.nxt and end.state in OPEN and self.known:
                re.nxt = ack
            self.wup = ack
        clock = self.clock
        if label.by == "tcp_delack_timer_handler":
            clock.expired()
        clock.sent()
        if s.len:
            clock.data_sent(us(s))
        pure = not s.len and not flags & FIN
        if self.loose:
            self.astray.acknowledged(ack)
            self.astray.inputs -= pure and self.astray.inputs > 0
        if re.sack and not self.dsack_off and not s.truncated:
            self.credits = 0  # the blocks show the position exactly
        elif pure and self.credits and not advances:
            self.credits -= 1
        self.compressed = 0
        self.fin_due = False
        re.told_at_fin = None
        re.dsack = None
        if self.fuzzy and not s.sack and ack >= self._highest():
            self.fuzzy = False
        if s.tsecr is not None and self.ts_ok and self.ts_recent is not None and newer(s.tsecr, self.ts_recent):
            self.ts_recent = s.tsecr
        if not self.end.pending:
            self.ts_loose = False

    def _cookies(self) -> bool:
        """Whether this host may have sent SYN cookies."""
        host = self.end.stack.host
        return host is None or not host.mib or host.mib.get("TcpExt.SyncookiesSent", 0) > 0

    def _count(self, s: Segment, label: Label, window: int, ack: int) -> None:
        """Counts what left, and what was taken since the last output."""
        counts, re = self.end.counts, self.re
        if label.by == "tcp_delack_timer_handler":
            counts.add("TcpExt.DelayedACKs", 0 if self.loose else 1, 1)
        if window == 0 and self.promise.window != 0:
            counts.add("TcpExt.TCPToZeroWindowAdv")
        elif window > 0 and self.promise.window == 0:
            counts.add("TcpExt.TCPFromZeroWindowAdv")
        if window > 0 and ack + window - self.promise.edge in range(max(1 << self.promise.shift, 1)):
            counts.add("TcpExt.TCPWantZeroWindowAdv", 0, 1)
        n = self.old_sets
        if n:
            told = re.dsack is not None and bool(s.sack) and unwrap(s.sack[0][0], re.nxt) == re.dsack[0]
            low = 0 if self.loose else n if not self.may_miss_dsack else 1 if told else 0
            counts.add("TcpExt.DelayedACKLost", low, n)
            if re.sack and not self.dsack_off:
                counts.add("TcpExt.TCPDSACKOldSent", low, n)
            self.old_sets = 0
        if self.untold:
            counts.add("TcpExt.TCPDSACKOfoSent", 0, self.untold)
            self.untold = 0
        if self.ofo_told:
            counts.add("TcpExt.TCPOFOQueue", 1 if s.sack and not self.loose else 0, self.ofo_told)
            self.ofo_told = 0

    # -- what is overdue

    def overdue(self, now: int) -> None:
        """Raises Refusal if an acknowledgment that Linux would have sent by `now` (us) did not show."""
        clock = self.clock
        if clock.since < 0:
            return
        stack = self.end.stack
        if now - clock.since < TCP_DELACK_MAX + stack.late or not stack.exact or not self._withholds(now):
            return
        self._refuse_silence(now)

    def _withholds(self, now: int) -> bool:
        """Whether the time is over in which what is owed must be acknowledged."""
        stack, clock = self.end.stack, self.clock
        if clock.since < 0 or stack.near is not True or not stack.linux or self.fuzzy or not self.known:
            return False
        longest = TCP_DELACK_MAX if stack.given and _release(stack.kernel) >= (5, 10) else OLD_DELACK_MAX
        state = self.end.state
        # In TIME_WAIT the FIN that led there is acknowledged, at once.
        asked = state in OPEN or (state is St.TIME_WAIT and self.re.nxt > self.wup)
        return asked and now > clock.latest(longest, stack.hz) + stack.late

    def _refuse_silence(self, now: int) -> None:
        stack, clock = self.end.stack, self.clock
        raise Refusal(
            "ack-withheld",
            f"frame {clock.frame} came {now - clock.since} us ago and is not acknowledged",
            [f"ack {self.re.nxt & M32}"],
            excuses=() if stack.lossy is False else (Excuse("dropped", clock.frame, "it was never acknowledged"),),
        )

    def loosens(self) -> None:
        """The capture showed that frames are lost or overtaken on the way."""
        stack = self.end.stack
        self.may_miss_dsack = self.dsack_off or stack.near is not True or stack.lossy is not False
        self.loose = stack.near is not True

    def words(self) -> str:
        """The state in words."""
        re = self.re
        text = f"rcv_nxt {re.nxt & M32}, acknowledged {self.wup & M32}"
        if self.promise.edge < FAR_BACK << 2:
            text += f", window to {self.promise.edge & M32}"
        if re.ranges:
            text += f", behind holes {_ranges(re.ranges)}"
        return text


def _release(kernel: str) -> tuple[int, ...]:
    return tuple(int(n) for n in kernel.split(".")[:2] if n.isdigit())


def _tells_twice(s: Segment) -> bool:
    """Whether the first SACK block is a DSACK; source net/ipv4/tcp_input.c:tcp_check_dsack."""
    (low, high), *rest = s.sack
    if (low - s.ack_seq) & M32 >= H32:
        return True
    return bool(rest) and (low - rest[0][0]) & M32 < H32 and (rest[0][1] - high) & M32 < H32


def _merged(ranges: list[Range]) -> list[Range]:
    out: list[Range] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return out


def _ranges(blocks: tuple[Range, ...] | list[Range]) -> str:
    return " ".join(f"{a & M32}-{b & M32}" for a, b in blocks) or "none"


__all__ = ["CONSTRAINTS", "OLD", "Receiver", "blocks_fit", "room"]
