"""Why an acknowledgment left just now, and when one is overdue."""

from conformance.oracle.astray import overtaken
from conformance.oracle.delays import OLD_DELACK_MAX, TCP_DELACK_MAX
from conformance.oracle.end import Excuse, Label, Refusal, us
from conformance.oracle.receiver_far import Faraway
from conformance.oracle.receiver_rules import HELD_LEAST, OPEN, READS, READS_LATE, release
from refmodel.packet.segment import Segment
from refmodel.tcp.state import St
from refmodel.types import M32


class Causes(Faraway):
    """The causes of acknowledgments without data."""

    __slots__ = ()

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
        if self.loose and end.life.got_twice(s):
            return Label("tcp_send_challenge_ack", "the network doubled the SYN-ACK")
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
        if clock.since < 0 or not (stack.near is True or stack.plain) or not stack.linux:
            return False
        if self.fuzzy or not self.known:
            return False
        state = self.end.state
        # In TIME_WAIT the FIN that led there is acknowledged, at once.
        asked = state in OPEN or (state is St.TIME_WAIT and self.re.nxt > self.wup)
        return asked and now > self._deadline()

    def _deadline(self) -> int:
        """When (us) what is owed must have been acknowledged."""
        stack = self.end.stack
        longest = TCP_DELACK_MAX if stack.given and release(stack.kernel) >= (5, 10) else OLD_DELACK_MAX
        return self.clock.latest(longest, stack.hz) + stack.late

    def _refuse_silence(self, now: int) -> None:
        raise Refusal(
            "ack-withheld",
            f"frame {self.clock.frame} came {now - self.clock.since} us ago and is not acknowledged",
            [f"ack {self.re.nxt & M32}"],
            excuses=self._silenced(now),
        )

    def _silenced(self, now: int) -> tuple[Excuse, ...]:
        """What came and was not answered in its time never arrived: one input, or all whose time is over."""
        clock = self.clock
        if self.end.stack.lossy is False or self.end.stack.plain:
            return ()
        one = Excuse("dropped", clock.frame, "it was never acknowledged", cost=1)
        late = now - self._deadline() + clock.since
        rest = [n for n, at, _, stop in self.arrivals if n != clock.frame and stop > self.wup and at < late]
        rest = [n for n in rest if n not in self.end.decided]
        return (Excuse("dropped", clock.frame, one.evidence, cost=0, also=tuple(rest)), one) if rest else (one,)
