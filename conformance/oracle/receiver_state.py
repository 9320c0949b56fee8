"""What the receiving half knows of its end, and the questions that its parts share."""

from typing import Final, Self

from conformance.oracle.astray import LEAST_MSS, Astray
from conformance.oracle.clock import SWAPPED
from conformance.oracle.delays import AckClock
from conformance.oracle.end import End, us
from conformance.oracle.position import FAR_BACK, Origin, newer
from conformance.oracle.promise import Promise
from conformance.oracle.receiver_rules import DAYS24, TCP_PAWS_WINDOW, release
from conformance.oracle.sack import Reassembly, unwrap
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.tcp.state import St
from refmodel.types import H32, M32

FIELDS: Final = (
    "arrivals", "asking", "astray", "ce", "clock", "compressed", "credit_at", "credit_by", "credits", "dsack_off",
    "dup_acks", "ecn_ok", "ecn_syn", "end", "fastest", "fin_due", "first", "fuzzy", "half", "known", "latest", "loose",
    "may_miss_dsack", "ofo_told", "old_sets", "origin", "peer_stamp", "promise", "re", "sack_known", "skips", "stale",
    "stamps", "text_at", "top", "ts_at", "ts_loose", "ts_ok", "ts_recent", "untold", "wup",
)  # fmt: skip


class ReceiverState:
    """What came and what was said of it. Sequence space of the peer."""

    __slots__ = FIELDS

    def __init__(self, end: End) -> None:
        self.end = end
        stack = end.stack
        self.re = Reassembly()
        self.promise = Promise()
        self.clock = AckClock(stack.jiffy, 1 if not stack.given or release(stack.kernel) >= (6, 7) else 3)
        self.known = self.fuzzy = False
        self.sack_known = False  # both SYNs were seen: `re.sack` is certain
        self.ts_ok: bool | None = None
        self.ts_recent: int | None = None
        self.ts_at = 0  # when ts_recent was taken
        self.stamps: list[tuple[int, int, int]] = []  # the last that moved ts_recent: number, us, timestamp
        self.top: int | None = None  # the latest timestamp that came
        self.ts_loose = False
        self.wup = 0
        self.first = -1  # where the peer's data begin, -1 if its SYN wasn't seen
        self.peer_stamp: int | None = None  # the timestamp of its SYN
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

    def copy(self) -> Self:
        """A copy that shares nothing that changes."""
        new = type(self)(self.end)
        for name in FIELDS:
            setattr(new, name, getattr(self, name))
        new.re, new.promise, new.clock = self.re.copy(), self.promise.copy(), self.clock.copy()
        new.origin = None if self.origin is None else self.origin.copy()
        new.arrivals, new.stamps, new.astray = list(self.arrivals), list(self.stamps), self.astray.copy()
        return new

    @property
    def rcv_nxt(self) -> int:
        """The number that is expected next."""
        return self.re.nxt & M32

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
        told = stack.given or (stack.exact and bool(self.end.peer.given_up))
        if not (told and stack.near is True and self.sack_known and flags & ACK):
            return ""
        return "unsent" if newer(s.ack_seq, self.end.tx.snd_nxt) else ""

    def _disordered(self, s: Segment, nxt: int) -> bool:
        """An acknowledgment without news that was overtaken; source net/ipv4/tcp_input.c:tcp_disordered_ack."""
        return not s.seg_len and s.seq == nxt & M32 and s.ack_seq == self.end.tx.snd_una

    def newer_echo(self, s: Segment, seq: int, recent: int | None) -> int | None:
        """ts_recent after a segment; source net/ipv4/tcp_input.c:tcp_replace_ts_recent, called by tcp_ack."""
        return self.newer_echo_at(s, seq, recent, self.end.tx.snd_una)

    def newer_echo_at(self, s: Segment, seq: int, recent: int | None, una: int | None) -> int | None:
        """The same where snd_una is `una` (None: not known)."""
        tsval = s.tsval
        if tsval is None or recent is None:
            return tsval if self.ts_ok else None
        if seq > self.wup or tsval == recent or not newer(tsval, recent):
            return recent
        if s.number == self.half[0] and seq > self.half[1]:
            return recent  # it was looked at before the last output acknowledged that far, or just behind it
        if una is not None and (s.ack_seq - una) & M32 >= H32:
            return recent
        return tsval

    def room_left(self, nxt: int) -> int:
        """What is left of the window at `nxt`, as far as it is known exactly."""
        return self.promise.left(nxt) if self.end.stack.near is True else FAR_BACK

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
        return self.end.tx.f.rtt.srtt >> 3

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
        end = self.end
        steps: int | None = end.ident.steps_since_last(s)
        if steps is not None:
            return steps > 0
        # A time-wait socket may have taken the timestamp, which the state does not tell before the frame is explained.
        return not (end.stack.exact and end.stack.near is True and end.state in (St.ESTABLISHED, St.CLOSE_WAIT))

    def misses_dsack(self, r: Reassembly) -> bool:
        """Whether the DSACK that is due at `r` may be missing: the first copy may not have come, unless it was told."""
        return self.dsack_off or (self.may_miss_dsack and (r.dsack is None or r.dsack[1] > self.wup))

    def opens_window(self, s: Segment, ack: int) -> bool:
        """Whether a read alone could have sent it."""
        last, heard = self.latest, self.end.peer.last_sent
        if self.promise.shift < 0 and last is not None and not last.flags & SYN and last.ack_seq == s.ack_seq:
            probes = heard is not None and newer(heard.ack_seq, s.seq)
            return probes or s.window > last.window  # by whatever scale
        return self.promise.opens(self.promise.says(s), ack)

    def may_discard(self, p: Segment, seq: int, s: Segment) -> bool:
        """Whether the end itself may have dropped an input: beyond its window, or memory was out.

        Source: net/ipv4/tcp_input.c:tcp_try_rmem_schedule. The right edge does not move on then.
        """
        window = self.promise.says(s)
        ack = unwrap(s.ack_seq, self.re.nxt)
        return window == 0 or (window > 0 and ack + window <= self.promise.edge)

    def _highest(self) -> int:
        """The end of the furthest that the tap saw arrive."""
        nxt = self.re.nxt
        high = max((r[1] for r in self.re.ranges), default=nxt)
        for p in self.end.pending:
            high = max(high, unwrap(p.seq, nxt) + p.seg_len)
        if self.loose:
            high = max(high, self.astray.top, unwrap(self.end.peer.tx.snd_nxt, nxt))
        return max(high, nxt)

    def left_behind(self, s: Segment, last: Segment) -> bool:
        """Whether `s` left behind `last` for certain: by its id, its timestamp, its numbers, or the tap's place."""
        ids = self.end.ident.ids
        if s.ip_id and last.ip_id and ids.trusted:
            return not ids.kind
        if s.tsval is not None and last.tsval is not None and s.tsval != last.tsval:
            return newer(s.tsval, last.tsval)
        if newer(s.ack_seq, last.ack_seq) or self.goes_on(s, last) or self._promises_more(s, last):
            return True
        return self.end.stack.exact and us(s) - us(last) > SWAPPED

    def _promises_more(self, s: Segment, last: Segment) -> bool:
        """Whether `s` ends its window behind that of `last`, at the same acknowledgment: right edges go on only.

        Where memory was out they went back (net/ipv4/tcp_output.c:tcp_select_window).
        """
        stack = self.end.stack
        if s.ack_seq != last.ack_seq or s.window <= last.window or (s.flags | last.flags) & (SYN | RST):
            return False
        host = stack.host
        steady = host is not None and bool(host.mib) and not host.mib.get("TcpExt.PruneCalled", 0)
        return steady and not stack.told.get("net.ipv4.tcp_shrink_window", 0) and self.end.state is St.ESTABLISHED

    def goes_on(self, s: Segment, last: Segment) -> bool:
        """Whether `s` brings what was never sent before, and begins where `last` ended: it left behind it."""
        return bool(s.seg_len) and s.seq == last.end_seq == self.end.tx.snd_nxt

    def loosens(self) -> None:
        """The capture showed that frames are lost or overtaken on the way, or that DSACKs are off or on."""
        stack = self.end.stack
        self.dsack_off = stack.told.get("net.ipv4.tcp_dsack", 1) == 0
        self.re.tells = not self.dsack_off
        self.may_miss_dsack = self.dsack_off or stack.near is not True or stack.lossy is not False
        self.loose = stack.near is not True
