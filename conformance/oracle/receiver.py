"""The receiving half of an end: what arrived, what is acknowledged, in which blocks and windows, and why just now.

The law: an acknowledgment says rcv_nxt, the timestamp that came last at or before what was acknowledged, and what waits
behind holes in the order in which it changed. Each output is held to the position that it shows; a pure acknowledgment
needs a cause, and one cause sends one.
"""

from conformance.oracle.astray import behind
from conformance.oracle.delays import TCP_DELACK_MAX
from conformance.oracle.end import Label, Refusal, us
from conformance.oracle.position import FAR_BACK, WRONG, Found, blocks_fit, find, is_midway, newer, room, shortfall
from conformance.oracle.promise import U16_MAX, UNBOUNDED
from conformance.oracle.receiver_causes import Causes
from conformance.oracle.receiver_rules import (
    CONSTRAINTS,
    ECN_CE,
    FAR_AWAY,
    HELD_BACK,
    OPEN,
    REMEMBERED,
    as_ranges,
    covers,
    release,
)
from conformance.oracle.sack import Range, Reassembly, unwrap
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, CWR, ECE, FIN, PSH, RST, SYN
from refmodel.tcp.state import St
from refmodel.types import H32, M32


class Receiver(Causes):
    """What came and what was said of it. See the module's docstring; the constraints are `CONSTRAINTS`."""

    __slots__ = ()

    def explain(self, s: Segment) -> None:
        """Processes the inputs that the output shows; raises Refusal if it fits no position."""
        if not s.flags & ACK:
            return
        end = self.end
        if not self.known:
            asks = self.latest is not None and self.latest.flags & (SYN | ACK) == SYN
            if asks and end.stack.whole and not any(p.flags & SYN for p in end.pending):
                raise Refusal("ack-of-what-did-not-arrive", f"ack {s.ack_seq}, but no SYN-ACK came")
            self._begin(s)
            return
        if not end.stack.linux:
            self._foreign(s)
            return
        at = us(s)
        self._holds_first(s)
        self.stale = self._superseded(s)
        if self.stale:
            self._was_possible(s)
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
            raise Refusal(
                "sack-blocks", f"SACK {as_ranges(seen)}, but {as_ranges(gone)} waited before, and waits still"
            )
        if self.loose and self._misorders(s):
            raise Refusal("sack-blocks", f"SACK {as_ranges(seen)}, but the block that changed stands first")
        if self.loose and (told := self._unacknowledged(s)):
            raise Refusal("echo-is-ts-recent", f"TSecr {s.tsecr} is of what it does not acknowledge: {told}")
        if self.loose and self._hides_twice(s):
            raise Refusal(
                "sack-blocks",
                f"TSecr {s.tsecr} is of what had been acknowledged before, and no DSACK tells that it came twice",
            )
        found = find(self, s, seen, self.end.stack.lossy is not False) or self._was_pruned(s, seen)
        if found is None:
            self._refuse_position(s, seen)
        else:
            self._settle_at(found)
        self._check_window(s)

    def _was_pruned(self, s: Segment, seen: tuple[Range, ...]) -> Found | None:
        """The position if memory was out, and the furthest of what waited behind holes was forgotten, with all blocks.

        Only where the host counted that it did. Source: net/ipv4/tcp_input.c:tcp_prune_ofo_queue.
        """
        whole, host = self.re, self.end.stack.host
        if not whole.ranges or host is None or not host.mib.get("TcpExt.OfoPruned", 0):
            return None
        for kept in range(len(whole.ranges) - 1, -1, -1):
            self.re = whole.copy()
            self.re.ranges, self.re.blocks = whole.ranges[:kept], []
            found = find(self, s, seen, self.end.stack.lossy is not False)
            if found is not None:
                return found
        self.re = whole
        return None

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
            if seq > nxt or (stop != seq and seq != nxt):
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
        if s.sack and _continues(s, last):
            return True
        if end.ident.overtaken(s):
            return True
        if end.ident.duplicate(s):
            self.may_miss_dsack = True  # the tap, or the network behind it, doubles frames
            return True
        if end.tx.fills(s):
            return True
        goes_back = unwrap(s.ack_seq, self.re.nxt) < self.wup
        if not goes_back and (not self.loose or not s.sack or not s.ip_id):
            return False
        return behind(s, last) and not self.left_behind(s, last)

    def _holds_first(self, s: Segment) -> None:
        """Raises Refusal for what no output says, in whatever order they came: less than the first of all said."""
        ack = unwrap(s.ack_seq, self.re.nxt)
        if ack < self.first:
            raise Refusal(
                "ack-goes-back",
                f"ack {s.ack_seq}, but the peer's data begin at {self.first & M32}",
                [f"ack {self.re.nxt & M32}"],
            )

    def answers(self, s: Segment) -> None:
        """Raises Refusal for numbers that no socket of this end says where the state machine sent `s`."""
        self._holds_first(s)
        if not self.known or self.fuzzy:
            return
        self._holds_first_window(s, unwrap(s.ack_seq, self.re.nxt))
        if self.end.state is St.TIME_WAIT:
            for p in self.end.pending:
                self._grows(p)
            self._is_narrow(s, unwrap(s.ack_seq, self.re.nxt))

    def _holds_first_window(self, s: Segment, ack: int) -> None:
        """Raises Refusal for a right edge before that of the SYN; of a time-wait socket only the low bits are known."""
        promise = self.promise
        host = self.end.stack.host
        if self.end.life.small or self.end.state is St.TIME_WAIT or (host and host.mib.get("TcpExt.PruneCalled", 0)):
            return  # memory that was out has taken the promise back, once and for all
        window = promise.says(s)
        if promise.below_first(window, ack) and not self._may_shrink(window, True):
            raise Refusal(
                "window-retreats",
                f"the window ends at {(ack + window) & M32}, but the SYN's ended at {promise.floor & M32}",
                [f"window {promise.floor - ack}"],
            )

    def _may_shrink(self, window: int, more: bool) -> bool:
        """Whether the right edge may move back: tcp_shrink_window, or memory was out as data came (`more`).

        Source: net/ipv4/tcp_output.c:tcp_select_window; net/ipv4/tcp_input.c:tcp_prune_queue counts when memory is.
        """
        stack = self.end.stack
        if stack.told.get("net.ipv4.tcp_shrink_window", 0):
            return True
        late = release(stack.kernel) >= (6, 5) or not stack.given
        host = stack.host
        full = host is None or not host.mib or host.mib.get("TcpExt.PruneCalled", 0) > 0
        return window == 0 and late and more and full

    def _was_possible(self, s: Segment) -> None:
        """Raises Refusal for an output that left before others, and could not have left then either."""
        t = s.tsecr
        if t and self.ts_ok and self.loose and not self.was_stamped(t) and all(p.tsval != t for p in self.end.pending):
            raise Refusal("echo-is-ts-recent", f"TSecr {t}, a timestamp that did not come")
        ack = unwrap(s.ack_seq, self.re.nxt)
        if not self.fuzzy and not s.flags & RST:
            self._holds_first_window(s, ack)
        if ack > self.wup and not self.fuzzy:
            raise Refusal(
                "ack-is-rcv-nxt", f"ack {s.ack_seq}, but frames that left behind it acknowledge {self.wup & M32}"
            )
        if self.loose:
            coming = [(unwrap(p.seq, ack), unwrap(p.seq, ack) + p.seg_len) for p in self.end.pending]
            for a, b in s.sack:
                low, high = unwrap(a, ack), unwrap(b, ack)
                if not all(self.astray.was_border(x, coming, self.promise.advmss) for x in (low, high)):
                    raise Refusal("sack-blocks", f"SACK {a}-{b}, where no segments began or ended")
            return
        if not self.end.stack.whole or len(self.arrivals) == REMEMBERED:
            return
        if ack > self.first and not any(stop == ack for _, _, _, stop in self.arrivals):
            raise Refusal("ack-is-rcv-nxt", f"ack {s.ack_seq}, where no segment ended")

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
        if why is not None and why.kind == "unheard" and ack >= self.wup and self._could_tell(ack, seen):
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
                or (*self._unheard(s), *self._drops(s, self.wup), *self._lacks(s, f"it echoes {s.tsecr}", True)),
            )
        if wrong == "sack":
            told = ([re.dsack] if re.dsack is not None else []) + re.blocks
            raise Refusal(
                "sack-blocks",
                f"SACK {as_ranges(seen)}, but what waits is {as_ranges(told)}",
                [f"SACK {as_ranges(told)}"],
                excuses=(
                    *(again or self._drops(s, self.wup)),
                    *self._first_copies(s),
                    *(() if again else self._lacks(s, "its SACK blocks", True)),
                ),
            )
        raise Refusal(
            "ack-is-rcv-nxt",
            f"ack {s.ack_seq}, but {re.nxt & M32} is expected next, and {self._highest() & M32} ends what arrived",
            [f"ack {re.nxt & M32}"],
            excuses=again or (*self._drops(s, ack), *(self._lacks(s, "it acknowledges more") if ack > re.nxt else ())),
        )

    def _could_tell(self, ack: int, seen: tuple[Range, ...]) -> bool:
        """Whether SACK blocks are made of segments that the tap saw, where it missed none: at their borders, and whole.

        What came twice did so since the last output.
        """
        if not self.end.stack.whole or self.loose:
            return True
        since = self.origin.since if self.origin is not None else []
        again = [(low, low + p.seg_len) for p in (*since, *self.end.pending) if (low := unwrap(p.seq, ack)) < ack]
        if any(high <= ack and not covers(again, low, high) for low, high in seen):
            return False
        if len(self.arrivals) == REMEMBERED:
            return True
        came = [(seq, stop) for _, _, seq, stop in self.arrivals]
        for p in self.end.pending:
            seq = unwrap(p.seq, ack)
            came.append((seq, seq + p.seg_len))
        known = [*came, *self.re.ranges]
        for low, high in seen:
            if not (any(low == a for a, _ in known) and any(high == b for _, b in known) and covers(known, low, high)):
                return False
        return True

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
            self._goes_back(s)
            return
        ack = unwrap(s.ack_seq, self.re.nxt)
        self._holds_first_window(s, ack)
        self._is_narrow(s, ack)
        stack = self.end.stack
        if (
            promise.retreats(window, ack)
            and (stack.exact or (stack.near is True and stack.given) or self._follows(s, ack))
            and not self._may_shrink(window, self.fuzzy or self._highest() > ack)
        ):
            raise Refusal(
                "window-retreats",
                f"the window ends at {(ack + window) & M32}, but {promise.edge & M32} was promised",
                [f"window {promise.edge - ack}"],
            )

    def _goes_back(self, s: Segment) -> None:
        """Raises Refusal for a window less than at the same acknowledgment before, by whatever scale."""
        last = self.latest
        if self.promise.shift >= 0 or last is None or (last.flags | s.flags) & SYN or not last.flags & ACK:
            return
        if s.ack_seq == last.ack_seq and s.window < last.window and self.left_behind(s, last):
            if last.flags & RST or self.end.state is not St.ESTABLISHED or self._may_shrink(s.window, True):
                return
            raise Refusal(
                "window-retreats", f"window {s.window}, but {last.window} was promised at the same acknowledgment"
            )

    def _is_narrow(self, s: Segment, ack: int) -> None:
        """Raises Refusal for a window wider than what came can have opened it."""
        promise = self.promise
        window = promise.says(s)
        most = promise.too_wide(window, ack) if window >= 0 else -1
        if most >= 0 and self.loose:
            for p in self.end.pending:  # a part of each may have come
                self._grows(p)
            most = promise.too_wide(window, ack)
        if most >= 0:
            raise Refusal("window-too-wide", f"window {window}, but it opens to {most} at most by what came")

    def _echoes_marks(self, s: Segment) -> bool:
        """Whether ECE is as it should be; the acknowledgment in the next input may have sent `s`, and had a CWR."""
        if bool(s.flags & ECE) is self.ce:
            return True
        pending = self.end.pending
        return self.ce and bool(s.len and pending and pending[0].flags & CWR)

    def _follows(self, s: Segment, ack: int) -> bool:
        """Whether the output left behind all others that were seen: by its id, its number or its timestamp."""
        ids, last, newest = self.end.ident.ids, self.end.last_sent, self.latest
        if ids.trusted and s.ip_id:
            return not ids.kind
        if newest is not None and s.tsval is not None and newest.tsval is not None and newer(newest.tsval, s.tsval):
            return False
        later = s.tsval is not None and last is not None and last.tsval is not None and newer(s.tsval, last.tsval)
        return ack > self.wup or later or (last is not None and self.goes_on(s, last))

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
            self.credits = int(self._is_midway(s))  # the blocks show the position exactly
        elif pure and self.credits and not advances:
            self.credits -= 1
        self.compressed = 0
        self.fin_due = False
        re.told_at_fin = re.dsack = re.midway = None
        if self.fuzzy and not s.sack and ack >= self._highest():
            self.fuzzy = False
        if s.tsecr is not None and self.ts_ok and self.ts_recent is not None and newer(s.tsecr, self.ts_recent):
            self.ts_recent = s.tsecr
        if not self.end.pending:
            self.ts_loose = False

    def _is_midway(self, s: Segment) -> bool:
        """Whether the output had been held back and left within the input before it, which is still to be answered."""
        re = self.re
        if re.midway is None or not s.sack:
            return False
        most, crowded = room(s)
        seen = tuple((unwrap(a, re.nxt), unwrap(b, re.nxt)) for a, b in s.sack)
        return blocks_fit(re, seen, most, crowded) == WRONG and is_midway(re, seen, most, crowded)

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

    def words(self) -> str:
        """The state in words."""
        re = self.re
        text = f"rcv_nxt {re.nxt & M32}, acknowledged {self.wup & M32}"
        if self.promise.edge < FAR_BACK << 2:
            text += f", window to {self.promise.edge & M32}"
        if re.ranges:
            text += f", behind holes {as_ranges(re.ranges)}"
        return text


def _continues(s: Segment, last: Segment) -> bool:
    """Whether both were cut from one super-segment, so that the second repeats the options of the first.

    Source net/ipv4/tcp_offload.c:tcp_gso_segment: all but the last have neither PSH nor FIN.
    """
    if not last.len or s.seq != last.end_seq or last.flags & (PSH | FIN) or s.sack != last.sack:
        return False
    return (s.ack_seq, s.window, s.tsval, s.tsecr) == (last.ack_seq, last.window, last.tsval, last.tsecr)


__all__ = ["CONSTRAINTS", "Receiver"]
