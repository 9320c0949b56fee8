"""One end of a TCP connection as the frontier sees it: what a segment means to it, which hidden events could send one.

The law: a proposal never invents a fact that the capture does not show. The window that memory allows is read off the
segment that was sent; the application is assumed to have written just what was sent, and to have read what had to be
read for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from conformance.check.frontier import Arrival, Observation, Proposal, Timer
from conformance.check.known import CLOSES, SENDS, Known
from conformance.check.setup import jiffy, slack
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, PSH, RST, SYN
from refmodel.rule import State
from refmodel.tcp.checks import in_flight, readable, receive_window, unsent
from refmodel.tcp.events import (
    Close,
    Connect,
    DelackTimer,
    KeepaliveTimer,
    ListenStop,
    Output,
    Read,
    ReqTimer,
    Retransmit,
    Seg,
    SendAck,
    SetKeepalive,
    SetLinger,
    SetLinger2,
    Shutdown,
    Tx,
    Write,
    WriteTimer,
    raw_window,
)
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import (
    OPEN,
    TCP_DELACK_MAX,
    TCP_RTO_MIN,
    Pending,
    Req,
    Sock,
    St,
    Tw,
)
from refmodel.types import M32, NEVER, after, before

ATO_MIN: Final = 40_000
MSS_MIN: Final = 536
TCP_TIMEOUT_MIN: Final = 2_000  # us: a tail loss probe comes no sooner; source tcp_output.c:tcp_schedule_loss_probe
RECOVERY: Final = "loss recovery"


def us(segment: Segment) -> int:
    """When the tap stamped the segment, in us."""
    return segment.time // 1000


def snd_wscale(state: State) -> int:
    """What the peer's window is scaled by, as this end reads it."""
    return state.snd_wscale if isinstance(state, Sock | Req) else 0


def rcv_wscale(state: State) -> int:
    """What this end's window is scaled by."""
    if isinstance(state, Sock | Req):
        return state.rcv_wscale
    return state.tw_rcv_wscale if isinstance(state, Tw) else 0


def too_late(state: State, x: Segment) -> bool:
    """The end has moved on: it acknowledges or echoes more than `x` does already, and takes neither back."""
    if not isinstance(state, Sock) or state.state not in OPEN or x.flags & (SYN | RST):
        return False
    return after(state.rcv_nxt, x.ack_seq) or (state.ts_ok and x.tsecr is not None and after(state.ts_recent, x.tsecr))


class TcpHalf:
    """One end: its parameters, and what was seen of its clock."""

    def __init__(self, params: TcpParams, hz: int, late: int, known: Known) -> None:
        self.params, self.hz, self.late, self.known = params, hz, late, known
        self.sent_at = 0  # when it last sent data or a FIN (us)
        self.gaps = False  # its peer reported data behind a hole
        self.repeats = 0  # how often its peer repeated its last acknowledgment
        self.heard: Segment | None = None
        self.news = False  # data came to it
        self.ts_base: tuple[int, int] | None = None  # (us, TSval) of the first timestamp that it sent
        self.offer: Segment | None = None  # the SYN that came to it
        self.agreed: Segment | None = None  # its SYN-ACK
        self.inherits = (0, 0)  # ts_recent and its stamp of a TIME_WAIT socket whose port it may take over

    # -- what a segment means

    def ts_now(self, now: int) -> int:
        """This end's timestamp clock at `now` us, with room for a stamp that was taken late."""
        if self.ts_base is None:
            return 0
        at, value = self.ts_base
        return (value + (now - at) // 1000 + 20) & M32

    def forget(self) -> None:
        """Starts over: the same segments will be seen again."""
        self.gaps, self.repeats, self.heard, self.sent_at = False, 0, None, 0

    def hears(self, x: Segment) -> None:
        """Learns from a segment to this end whether its peer misses something."""
        if x.flags & SYN:
            self.offer = x
        last = self.heard
        self.news = self.news or x.len > 0
        self.gaps = self.gaps or bool(x.sack)
        if not x.len and last is not None and x.ack_seq == last.ack_seq and x.window == last.window:
            self.repeats += 1
        else:
            self.repeats = 0
        self.heard = x

    def saw(self, segment: Segment) -> None:
        """Learns the timestamp clock from a segment that this end sent."""
        if segment.flags & SYN:
            self.agreed = segment
        elif segment.seg_len:
            self.sent_at = us(segment)
        if self.ts_base is None and segment.tsval is not None:
            self.ts_base = us(segment), segment.tsval

    def seg(self, state: State, a: Segment, answered: Segment | None, **given: Any) -> Seg:
        """The event that `a` is to an end in `state`; what memory allows is read off `answered`."""
        flags = a.flags
        syn = flags & SYN != 0
        now = us(a)
        fields: dict[str, Any] = {
            "seq": a.seq,
            "ack_seq": a.ack_seq,
            "len": a.len,
            "syn": syn,
            "ack": flags & ACK != 0,
            "rst": flags & RST != 0,
            "fin": flags & FIN != 0,
            "win": a.window if syn else a.window << snd_wscale(state),
            "ts": a.tsval is not None,
            "tsval": a.tsval or 0,
            "tsecr": a.tsecr or 0,
            "now": now,
            "secs": now // 1_000_000,
            "ts_now": self.ts_now(now),
            "rto": TCP_RTO_MIN,
            "delack": ATO_MIN,
            "ack_now": answered is not None,
        }
        if syn:
            fields["mss"] = a.mss or 0
            fields["wscale_ok"] = a.wscale is not None
            fields["wscale"] = min(a.wscale or 0, 14)
            fields["sack_ok"] = a.sack_perm
        if isinstance(state, Req) and answered is not None:
            fields["space"] = answered.window << state.rcv_wscale
        elif isinstance(state, Sock):
            window = receive_window(state)
            left = window - a.len if window > a.len else 0
            unscaled = state.state == St.SYN_SENT and syn and a.wscale is None
            shift = 0 if unscaled else state.rcv_wscale
            fields["space"] = left if answered is None else answered.window << shift
        if answered is not None and answered.flags & SYN:
            fields["space"] = answered.window
            fields["isn"] = answered.seq
            fields["advmss"] = answered.mss or MSS_MIN
            fields["rcv_wscale"] = answered.wscale or 0
        return Seg(**(fields | given))

    # -- Half

    def may_send(self, state: State, seen: Observation) -> bool:
        """Proposals are tried in every state."""
        return True

    def useful_inputs(self, state: State, arrival: Arrival, answered: Observation) -> Sequence[Proposal]:
        """Every input is tried."""
        return self.inputs(state, arrival, answered)

    def matches(self, effect: Any, seen: Observation) -> bool:
        """Whether the model's segment is the observed one."""
        return not self.differs(effect, seen, Sock())

    def visible(self, effect: Any) -> bool:
        """Only segments show on the wire."""
        return isinstance(effect, Tx)

    def accept(self, state: State, effect: Any, seen: Observation) -> State:
        """The window was read off the segment already: nothing to add."""
        return state

    def differs(self, effect: Any, seen: Observation, state: State) -> str:
        """The fields in which the model's segment is not the observed one."""
        x: Segment = seen.what
        t: Tx = effect
        flags = x.flags
        if (
            t.seq == x.seq
            and t.len == x.len
            and (t.ack_seq if t.ack else 0) == x.ack_seq
            and t.syn == (flags & SYN != 0)
            and t.ack == (flags & ACK != 0)
            and t.rst == (flags & RST != 0)
            and t.fin == (flags & FIN != 0)
            and raw_window(t) == x.window
            and t.ts == (x.tsval is not None)
            and (not t.ts or t.tsecr == x.tsecr)
            and not (flags & PSH and (not t.len or t.syn))
            and (
                not t.syn
                or (
                    t.mss == (x.mss or 0)
                    and t.wscale_ok == (x.wscale is not None)
                    and t.wscale == (x.wscale or 0)
                    and t.sack_ok == x.sack_perm
                )
            )
        ):
            return ""
        return _difference(t, x)

    def inputs(self, state: State, arrival: Arrival, answered: Observation | None) -> Sequence[Proposal]:
        """A segment: acknowledged at once if it was answered, else put off; a close() may have gone before an RST."""
        a: Segment = arrival.what
        reply: Segment | None = None if answered is None else answered.what
        if reply is not None and too_late(state, reply):
            return []
        if isinstance(state, Sock) and state.state in OPEN:
            return list(self._text(state, a, reply))
        out = [Proposal((self.seg(state, a, reply),), cost=0)]
        gone = reply is not None and reply.flags & RST and self.known.called("close", before=us(a))
        if gone and isinstance(state, Req):
            out.append(Proposal((ListenStop(now=us(a)), self.seg(state, a, reply)), "close() of the listener", 3))
        if isinstance(state, Req):
            if self.known.counted("TcpExt.ListenOverflows", "TcpExt.ListenDrops"):
                out.append(Proposal((self.seg(state, a, reply, acceptq_full=True),), "the accept queue is full", 5))
            if self.known.called("TCP_DEFER_ACCEPT", before=us(a)):
                out.append(Proposal((self.seg(state, a, reply, defer_accept=255),), "TCP_DEFER_ACCEPT", 6))
        if isinstance(state, Sock) and state.state == St.LISTEN:
            if a.flags & SYN and self.known.counted("TcpExt.ListenOverflows", "TcpExt.ListenDrops"):
                out.append(Proposal((self.seg(state, a, reply, acceptq_full=True),), "the accept queue is full", 5))
            if not self.known.counted("TcpExt.SyncookiesSent", "TcpExt.SyncookiesRecv"):
                return out
            if a.flags & SYN:
                out.append(
                    Proposal((self.seg(state, a, reply, synq_full=True, cookie_recent=True),), "a SYN cookie", 5)
                )
            elif a.flags & ACK:
                cookie = self._cookie_ack(state, a, reply)
                out.append(Proposal((cookie,), "an ACK of our SYN cookie", 5))
                full = replace(cookie, acceptq_full=True)
                out.append(Proposal((full,), "an ACK of our SYN cookie while the accept queue is full", 5))
        if isinstance(state, Sock) and state.state == St.SYN_SENT and a.flags & SYN and _put_off(a, reply):
            out.append(Proposal((self.seg(state, a, reply, ack_now=False, write_pending=True),), "", 1))
        if isinstance(state, Tw):
            out.append(Proposal((self.seg(state, a, reply, listener=True),), cost=0))
        return out

    def _text(self, s: Sock, a: Segment, reply: Segment | None) -> Iterator[Proposal]:
        """A segment to an open connection; with a hole behind it, it may bring more in order than it holds."""
        fills = [0]
        if s.ofo and a.len and not after(a.seq, s.rcv_nxt):
            rest = (s.max_sack - a.end_seq) & M32
            seen = 0 if reply is None else (reply.ack_seq - a.end_seq) & M32
            fills = [n for n in dict.fromkeys((seen, rest, 0)) if n < 1 << 19]
        for n in fills:
            if reply is not None:
                yield Proposal((self.seg(s, a, reply, ofo=n),), cost=0)
        for n in fills:
            yield Proposal((self.seg(s, a, None, ofo=n),), cost=0)
        if reply is not None and reply.flags & RST and not s.dead and self.known.called(*CLOSES, before=us(a)):
            now = us(a)
            gone = (*self._read_all(s, now), Close(now=now))
            yield Proposal((*gone, self.seg(s, a, reply)), "close() before the segment came", 2)
            if self.known.called("TCP_LINGER2", before=now):
                impatient = (SetLinger2(time=-1), *gone, self.seg(s, a, reply))
                yield Proposal(impatient, "TCP_LINGER2 below 0 and close() before the segment came", 4)

    def _cookie_ack(self, state: Sock, a: Segment, reply: Segment | None) -> Seg:
        """A cookie's timestamp remembers the options of the SYN; source syncookies.c:cookie_timestamp_decode."""
        syn, synack = self.offer, self.agreed
        told: dict[str, Any] = {}
        if syn is not None and synack is not None and a.tsval is not None:
            scaled = syn.wscale is not None and synack.wscale is not None
            shift = synack.wscale or 0 if scaled else 0
            wscale = min(syn.wscale or 0, 14) if scaled else 0
            told = {
                "cookie_wscale_ok": scaled,
                "cookie_wscale": wscale,
                "cookie_sack": syn.sack_perm and synack.sack_perm,
                "rcv_wscale": shift,
                "win": a.window << wscale,
                "space": synack.window if reply is None else reply.window << shift,
            }
        return self.seg(state, a, reply, cookie=True, cookie_recent=True, cookie_mss=1460, **told)

    def timers(self, state: State) -> Iterable[Timer]:
        """Timers whose times do not depend on an RTT sample, and the delayed ACK."""
        if isinstance(state, Sock):
            if state.ack_sched and state.ack_timeout != NEVER:
                first = state.ack_timeout
                latest = first - ATO_MIN + TCP_DELACK_MAX + slack(TCP_DELACK_MAX, self.hz) + self.late
                yield Timer(DelackTimer(now=max(latest, first)), first, latest)
            if state.state in (St.SYN_SENT, St.SYN_RECV) and state.icsk_pending == Pending.RETRANS:
                yield self._timer(WriteTimer(now=state.icsk_timeout, n=1), state.icsk_timeout, state.icsk_rto)
        elif isinstance(state, Req) and state.rsk_timeout != NEVER:
            wait = state.timeout << min(state.num_timeout, 7)
            yield self._timer(self._req_timer(state.rsk_timeout), state.rsk_timeout, wait)

    def _req_timer(self, now: int) -> ReqTimer:
        return ReqTimer(now=now, max_retries=self.params.tcp_synack_retries)

    def _timer(self, event: Any, at: int, delay: int) -> Timer:
        return Timer(event, at, at + slack(delay, self.hz) + self.late)

    # -- hidden events

    def _read_all(self, s: Sock, now: int) -> tuple[Read, ...]:
        n = readable(s)
        return (Read(n=n, now=now),) if n else ()

    def proposals(self, state: State, seen: Observation) -> Iterable[Proposal]:
        """Hidden events from which an end in `state` would send the observed segment."""
        x: Segment = seen.what
        now = us(x)
        if isinstance(state, Req):
            if x.flags & SYN and now >= state.rsk_timeout - 1000:
                yield Proposal((self._req_timer(max(now, state.rsk_timeout)),), "SYN-ACK timer")
            return
        if not isinstance(state, Sock):
            return
        if state.state == St.CLOSE:
            yield from self._connect(state, x, now)
        elif state.state in (St.SYN_SENT, St.SYN_RECV) and x.flags & SYN:
            if now >= state.icsk_timeout - 1000:
                yield Proposal((WriteTimer(now=max(now, state.icsk_timeout), n=1),), "retransmission timer")
        elif state.state in OPEN or state.state == St.SYN_RECV:
            yield from self._open(state, x, now)

    def _connect(self, s: Sock, x: Segment, now: int) -> Iterator[Proposal]:
        if x.flags & (SYN | ACK | RST | FIN) == SYN:
            event = Connect(
                now=now,
                isn=x.seq,
                space=x.window,
                advmss=x.mss or MSS_MIN,
                rcv_wscale=x.wscale or 0,
                ts_now=x.tsval or 0,
                ts_recent=self.inherits[0] if x.tsecr else 0,
                ts_recent_stamp=self.inherits[1] if x.tsecr else 0,
            )
            yield Proposal((event,), "connect()")

    def _open(self, s: Sock, x: Segment, now: int) -> Iterator[Proposal]:
        room: dict[str, Any] = {
            "now": now,
            "space": x.window << s.rcv_wscale,
        }
        if x.flags & RST:
            yield from self._resets(s, now, room)
        elif x.flags & FIN or x.len:
            if x.seq == s.snd_nxt:
                yield from self._sends(s, x, now, room)
            elif before(x.seq, s.snd_nxt):
                yield from self._resends(s, x, now, room)
        elif x.seq == s.snd_nxt or after(s.snd_nxt, x.seq):
            yield from self._acks(s, x, now, room)

    def _resets(self, s: Sock, now: int, room: dict[str, Any]) -> Iterator[Proposal]:
        if not s.dead and self.known.called(*CLOSES, before=now):
            if readable(s):
                yield Proposal((Close(**room),), "close() with unread data")
            elif self.known.called("SO_LINGER", before=now):
                yield Proposal((SetLinger(on=True, time=0), Close(**room)), "close() with linger 0", 2)
        if s.icsk_timeout <= now:
            yield Proposal((WriteTimer(oom=True, **room),), "too many orphans", 9)
        if s.keepalive_timeout <= now:
            yield Proposal((KeepaliveTimer(**room),), "keepalive timer", 2)
            if s.icsk_probes_out:
                count = SetKeepalive(on=True, now=now, probes=s.icsk_probes_out)
                yield Proposal((count, KeepaliveTimer(**room)), f"TCP_KEEPCNT {s.icsk_probes_out}", 3)
        if self.known.called("close", before=now):
            yield Proposal((ListenStop(**room),), "close() of the listener before accept()", 6)

    def _sends(self, s: Sock, x: Segment, now: int, room: dict[str, Any]) -> Iterator[Proposal]:
        """New data and FIN: the application wrote and shut down what is not queued yet."""
        fin = 1 if x.flags & FIN else 0
        n = x.len + fin
        missing = x.len + (fin if s.fin_queued else 0) - unsent(s)
        if missing > 0 and not self.known.called(*SENDS, before=now):
            return
        before_it: tuple[Any, ...] = (Write(n=missing, now=now),) if missing > 0 else ()
        out = Output(n=n, **room)
        if not fin or s.fin_queued:
            note = f"send() of {missing} bytes" if before_it else ""
            yield Proposal((*before_it, out), note, 1 if before_it else 0)
            return
        if not self.known.called(*CLOSES, before=now):
            return
        yield Proposal((*before_it, Shutdown(rd=False, wr=True, now=now), out), "shutdown() or close()", 1)
        if not s.dead:
            yield Proposal((*before_it, *self._read_all(s, now), Close(**room), out), "close()", 2)

    def _resends(self, s: Sock, x: Segment, now: int, room: dict[str, Any]) -> Iterator[Proposal]:
        n = x.len + (1 if x.flags & FIN else 0)
        off = (x.seq - s.snd_una) & M32
        if s.icsk_pending == Pending.PROBE0 and now >= s.icsk_timeout - 1000:
            yield Proposal((WriteTimer(n=n, **(room | {"now": max(now, s.icsk_timeout)})),), "window probe timer")
        if s.icsk_pending == Pending.RETRANS and off == 0 and now >= s.icsk_timeout - 1000:
            late = room | {"now": max(now, s.icsk_timeout)}
            yield Proposal((WriteTimer(n=n, **late),), "retransmission timer", 3)
        evidence = self.gaps or self.repeats >= 3 or now - self.sent_at >= max(TCP_TIMEOUT_MIN, jiffy(self.hz))
        if after(s.snd_nxt, s.snd_una) and off < in_flight(s) and evidence:
            yield Proposal((Retransmit(off=off, n=n, **room),), RECOVERY, 4)

    def _acks(self, s: Sock, x: Segment, now: int, room: dict[str, Any]) -> Iterator[Proposal]:
        """An empty segment must have its cause: a put-off ACK, a window that opened, or a timer."""
        if s.ack_sched:
            if now >= s.ack_timeout:
                yield Proposal((DelackTimer(**room),), "delayed-ACK timer")
            unread = readable(s)
            if unread:
                yield Proposal((Read(n=unread, ack_now=True, **room),), "recv()", 2)
            yield Proposal((SendAck(**room),), "release of the socket", 3)
        elif readable(s) and room["space"] >= 2 * receive_window(s):
            yield Proposal((Read(n=readable(s), ack_now=True, **room),), "recv() opens the window", 2)
            if readable(s) > 1:  # what is left may open it again
                part = Read(n=readable(s) // 2, ack_now=True, **room)
                yield Proposal((part,), "recv() of a part opens the window", 3)
        if x.seq == (s.snd_una - 1) & M32:
            yield from self._probes(s, now, room)

    def _probes(self, s: Sock, now: int, room: dict[str, Any]) -> Iterator[Proposal]:
        due = room | {"now": max(now, s.icsk_timeout)}
        if s.icsk_pending == Pending.PROBE0:
            if now >= s.icsk_timeout - 1000:
                yield Proposal((WriteTimer(n=1, **due),), "window probe timer")
        elif s.icsk_pending == Pending.NONE and s.state in (St.ESTABLISHED, St.CLOSE_WAIT):
            when = max(now - max(s.icsk_rto, TCP_RTO_MIN), 0)
            yield Proposal(
                (Write(n=1, now=when), Output(n=1, **(room | {"now": when})), WriteTimer(n=1, **room)),
                "send() into a closed window, then its probe timer",
                3,
            )
        if s.keepalive_timeout != NEVER and now >= s.keepalive_timeout - 1000:
            late = room | {"now": max(now, s.keepalive_timeout)}
            yield Proposal((KeepaliveTimer(**late),), "keepalive timer")
        elif not s.keepopen:
            yield from self._keepalive(s, now, room)

    def _keepalive(self, s: Sock, now: int, room: dict[str, Any]) -> Iterator[Proposal]:
        """The first probe tells TCP_KEEPIDLE; TCP_KEEPINTVL is told by the next one, so it is taken to be the least."""
        if not self.known.called("SO_KEEPALIVE", before=now):
            return
        silence = now - max(s.rcv_tstamp, s.lrcvtime)
        idle = max(silence // 1_000_000 * 1_000_000, 1_000_000)
        if silence >= idle:
            on = SetKeepalive(on=True, now=now - idle, time=idle, intvl=1_000_000)
            yield Proposal((on, KeepaliveTimer(**room)), f"SO_KEEPALIVE with TCP_KEEPIDLE {idle // 1_000_000} s", 4)


def _put_off(a: Segment, reply: Segment | None) -> bool:
    """The handshake's last ACK waits for data of a blocked writer, or for the delayed-ACK timer."""
    return reply is not None and (reply.len > 0 or us(reply) - us(a) >= ATO_MIN)


def _difference(t: Tx, x: Segment) -> str:
    """Field by field, the model's segment first."""
    pairs = (
        ("flags", _flags(t), _seen_flags(x)),
        ("seq", t.seq, x.seq),
        ("len", t.len, x.len),
        ("ack", t.ack_seq if t.ack else 0, x.ack_seq),
        ("window", raw_window(t), x.window),
        ("timestamps", t.ts, x.tsval is not None),
        ("TSecr", t.tsecr if t.ts else None, x.tsecr),
        ("MSS", t.mss if t.syn else 0, x.mss or 0),
        ("window scale", t.wscale if t.syn and t.wscale_ok else None, x.wscale),
        ("SACK permitted", t.syn and t.sack_ok, x.sack_perm),
    )
    said = [f"{name} {a} expected, {b} seen" for name, a, b in pairs if a != b]
    return "; ".join(said) or "PSH on a segment without data"


def _flags(t: Tx) -> str:
    return "".join(c for c, on in (("S", t.syn), ("F", t.fin), ("R", t.rst), (".", t.ack)) if on)


def _seen_flags(x: Segment) -> str:
    return "".join(c for c, bit in (("S", SYN), ("F", FIN), ("R", RST), (".", ACK)) if x.flags & bit)
