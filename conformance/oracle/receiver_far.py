"""What an end far from the tap may say: what was on its way to it, and nothing less than it said before."""

from conformance.oracle.astray import is_refused
from conformance.oracle.end import Refusal, us
from conformance.oracle.position import newer, room
from conformance.oracle.promise import UNBOUNDED
from conformance.oracle.receiver_excuses import Excusing
from conformance.oracle.receiver_rules import DAYS24, OPEN, as_ranges, merged, tells_twice
from conformance.oracle.recovery import OPEN as CA_OPEN
from conformance.oracle.sack import Range, unwrap
from refmodel.packet.segment import Segment
from refmodel.packet.transport import FIN, RST, SYN


class Faraway(Excusing):
    """An end whose inputs the tap sees before they are lost, doubled and overtaken."""

    __slots__ = ()

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
        re.ranges = merged(told + [r for r in re.ranges if r[0] > ack])
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
        return same and not (s.sack and tells_twice(s))

    def _hides_twice(self, s: Segment) -> bool:
        """Whether a far end shows by its echo that it got what it had acknowledged before, and tells no DSACK.

        Nothing may have left unseen before it. What an input's acknowledgment sends leaves before its text is read.
        """
        if s.len or s.flags & FIN or s.truncated or not (self.re.sack and self.sack_known) or self.dsack_off:
            return False
        if self.end.ident.steps_since_last(s) != 0 or s.ip_id == 0 or (s.sack and tells_twice(s)):
            return False
        if s.tsecr is None or any(tsval == s.tsecr for _, _, tsval, _ in self.astray.recent):
            return False
        carriers = [p for p in self.end.pending if p.tsval == s.tsecr]
        text = all(p.seg_len and not p.flags & (SYN | RST) for p in carriers)
        return bool(carriers) and text and all(unwrap(p.end_seq, self.wup) <= self.wup for p in carriers)

    def _unacknowledged(self, s: Segment) -> str:
        """What a far end shows by its echo that it got in order, and does not acknowledge; "" if nothing is.

        Of a segment behind a hole no timestamp is taken, and only in recovery something leaves before its text is
        taken; what memory has no room for is dropped. Source: net/ipv4/tcp_input.c:tcp_replace_ts_recent,
        tcp_data_queue.
        """
        t, stack, tx = s.tsecr, self.end.stack, self.end.tx
        if not t or s.truncated or not self.ts_ok or (s.seg_len and (s.seq != tx.snd_nxt or tx.f.ca != CA_OPEN)):
            return ""
        if self.end.state not in OPEN or not s.window or self.fuzzy:
            return ""
        mib = stack.host.mib if stack.host is not None else {}
        plenty = bool(mib) and not any(mib.get(f"TcpExt.{n}", 0) for n in ("TCPRcvQDrop", "TCPZeroWindowDrop"))
        ack, mss = unwrap(s.ack_seq, self.re.nxt), self.promise.advmss
        if self.astray.forgets(t):
            return ""
        carriers = [(low, high) for low, high, tsval, _ in self.astray.recent if tsval == t]
        for p in self.end.pending:
            if p.tsval == t:
                if p.flags & (SYN | RST):
                    return ""
                low = unwrap(p.seq, ack)
                carriers.append((low, low + p.seg_len))
        if t == self.peer_stamp or not carriers:
            return ""
        for low, high in carriers:
            bare = high - low == 1
            if not (bare or plenty) or ack >= (high if high - low <= mss else low + 1):
                return ""
        return as_ranges(carriers)

    def _misorders(self, s: Segment) -> bool:
        """Whether the second block told is the one that changed, though the segment that came last stands first.

        A segment that came twice may have put an old block first, but is told in a DSACK; a fourth block is hidden
        where three have room. `s` must have left directly behind the last output. Source: net/ipv4/tcp_input.c:
        tcp_sack_new_ofo_skb, where an acknowledgment that was held back leaves before only the third is put first.
        """
        last, end = self.latest, self.end
        if last is None or not last.sack or len(s.sack) < 2 or s.ack_seq != last.ack_seq or tells_twice(s):
            return False
        if last is not end.last_sent or end.ident.steps_since_last(s) != 0 or s.truncated or not self.sack_known:
            return False
        told = last.sack[1:] if tells_twice(last) else last.sack
        first, second = s.sack[0], s.sack[1]
        if first not in told or second in told:
            return False
        if len(last.sack) < room(last)[0]:
            return True
        ack = unwrap(s.ack_seq, self.re.nxt)
        low, high = (unwrap(x, ack) for x in second)
        return any(low <= unwrap(a, ack) and unwrap(b, ack) <= high for a, b in told)

    def _forgotten(self, s: Segment) -> list[Range]:
        """Blocks that the last output told of, and this one, which left behind it, does not though it has room.

        Source: net/ipv4/tcp_input.c:tcp_sack_remove, tcp_prune_ofo_queue, which forgets them when memory is out.
        """
        last = self.latest
        if last is None or not last.sack or len(s.sack) >= room(s)[0] or s.truncated or not self.left_behind(s, last):
            return []
        if s.ack_seq != last.ack_seq:
            return []  # where a fifth block comes the fourth is forgotten, and the others may be filled by then
        stack, ack = self.end.stack, unwrap(s.ack_seq, self.re.nxt)
        if stack.host is not None and any(n.endswith("OfoPruned") and v for n, v in stack.host.mib.items()):
            return []
        if (stack.host is None or not stack.host.mib) and s.window < last.window // 2:
            return []
        if self.end.life.peer_fin == s.ack_seq or s.ip_id == 0 or not (stack.linux and self.sack_known):
            return []
        told = last.sack[1:] if tells_twice(last) else last.sack
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
