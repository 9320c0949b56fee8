"""TIME_WAIT: what is left of a connection, and the ACKs with which it answers.

The law: for 60 s a small socket acknowledges what it had to whatever comes, but to an RST, and to what changes nothing.
Its ACKs are its own: IPv4 id 0, the window that stood, the timestamp of now.
"""

from typing import TYPE_CHECKING, Final

from conformance.oracle.constraint import Constraint
from conformance.oracle.end import End, Label, Refusal, us
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.tcp.state import St
from refmodel.types import after, before

if TYPE_CHECKING:
    from conformance.oracle.life import Life

OF_TIMEWAIT: Final = ("tcp_fin", "tcp_send_dupack", "tcp_v4_timewait_ack", "__tcp_ack_snd_check", "tcp_send_ack")
OVERTAKEN: Final = 3_000_000  # us: how much later than others a segment may arrive that a network held back
TIMEWAIT_LEN: Final = 60_000_000  # us

CONSTRAINTS: Final[tuple[Constraint, ...]] = (
    Constraint(
        "time-wait-answers",
        "A socket in TIME_WAIT sends nothing but an ACK of what it had, and only to a segment that asks for it.",
        ("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "net/ipv4/tcp_ipv4.c:tcp_v4_timewait_ack"),
    ),
    Constraint(
        "time-wait-numbers",
        "The ACK of a TIME_WAIT socket has the sequence and acknowledgment numbers with which it ended.",
        ("net/ipv4/tcp_ipv4.c:tcp_v4_timewait_ack", "RFC 9293 3.10.7.4"),
        rfc=True,
    ),
)


class TimeWait:
    """What a finished connection leaves behind. Times in us."""

    __slots__ = ("asked", "rcv_nxt", "since", "snd_nxt", "ts_recent")

    def __init__(self, rcv_nxt: int, snd_nxt: int, ts_recent: int, since: int) -> None:
        self.rcv_nxt, self.snd_nxt, self.ts_recent, self.since = rcv_nxt, snd_nxt, ts_recent, since
        self.asked = 0

    def copy(self) -> "TimeWait":
        """A copy."""
        new = TimeWait(self.rcv_nxt, self.snd_nxt, self.ts_recent, self.since)
        new.asked = self.asked
        return new


def left(old: End) -> TimeWait:
    """What the end of a connection in TIME_WAIT knows on."""
    last = old.last_sent
    recent = last.tsecr if last is not None and last.tsecr is not None else 0
    return TimeWait(old.rx.rcv_nxt, old.tx.snd_nxt, recent, old.life.tw_at)


def takes(life: "Life", s: Segment) -> None:
    """A segment meets a TIME_WAIT socket. Source net/ipv4/tcp_minisocks.c:tcp_timewait_state_process."""
    end = life.end
    rcv_nxt = end.rx.rcv_nxt
    if s.flags & RST:
        if s.seq == rcv_nxt and not end.stack.told.get("net.ipv4.tcp_rfc1337", 0):
            end.state = St.CLOSE
            life.closer(s)
            life.spared = not end.stack.given
        return
    life.tw_at = us(s)
    if s.seq == rcv_nxt and not s.len and not s.flags & (FIN | SYN) and not _old(life, s):
        return
    life.due("tcp_v4_timewait_ack", s)


def _old(life: "Life", s: Segment) -> bool:
    last = life.end.last_sent
    recent = last.tsecr if last is not None else None
    return s.tsval is not None and recent is not None and s.tsval != recent and after(recent, s.tsval)


def explain(life: "Life", s: Segment) -> Label | None:
    """A frame of an end in TIME_WAIT; None: it is still the full socket's. Raises Refusal."""
    end = life.end
    rx, tx = end.rx, end.tx
    last = end.last_sent
    pure = not s.len and not s.flags & FIN
    if pure and s.ack_seq == rx.rcv_nxt and (last is None or last.ack_seq != rx.rcv_nxt):
        # What acknowledges the FIN may still be the full socket.
        return answers(life, s) if _of_small(life, s) else None
    far = life.overtaken(s)
    if pure and life.dues:
        if s.seq != tx.snd_nxt or s.ack_seq != rx.rcv_nxt:
            what = f"seq {s.seq}, ack {s.ack_seq} in TIME_WAIT, which ended with {tx.snd_nxt}, {rx.rcv_nxt}"
            raise Refusal("time-wait-numbers", what)
        if life.cause(s) is not None:
            return _answer(life, s, "")
    if not end.stack.linux:
        return None
    if far and (before(s.seq, tx.snd_nxt) or after(rx.rcv_nxt, s.ack_seq)):
        return None  # the network overtook it, or its peer's ACKs never reached it
    if end.ident.again(s):
        return _answer(life, s, "the network doubled it")
    if (far or end.stack.near is None) and pure and any(us(s) - us(p) <= OVERTAKEN for p, _ in life.heard):
        return _answer(life, s, "what it answers may have been overtaken")
    excuses = life.undone(s)
    what = "a segment in TIME_WAIT that nothing asked for"
    raise Refusal("time-wait-answers", what, ("tcp_v4_timewait_ack",), (), excuses)


def _answer(life: "Life", s: Segment, note: str) -> Label:
    life.end.rx.echo_advances(s)
    life.end.tx.classify(s)
    return Label("tcp_v4_timewait_ack", note)


def _of_small(life: "Life", s: Segment) -> bool:
    """Whether a time-wait socket sent an ACK: its IPv4 id tells. Over IPv6 applications are taken to have closed."""
    if s.ip_id is not None:
        return s.ip_id == 0 and bool(life.end.ident.ids.kind == "zero")
    return not life.half


def small(life: "Life", s: Segment) -> bool:
    """Whether an ACK behind the end's FIN comes from a time-wait socket of FIN_WAIT2, or of TIME_WAIT soon.

    Over IPv6 only if the FIN was acknowledged before the peer's came, else the full socket goes on.
    """
    state = life.end.state
    if revives(life, s):
        return False
    if not life.end.stack.linux or state == St.TIME_WAIT or not _of_small(life, s):
        return False
    return s.ip_id is not None or state == St.FIN_WAIT2 or (state == St.FIN_WAIT1 and _acked_alone(life))


def revives(life: "Life", s: Segment) -> bool:
    """Whether `s` shows that the RST that ended TIME_WAIT did not: tcp_rfc1337, of which nothing was known, is 1."""
    end = life.end
    if not life.spared or end.state != St.CLOSE or not end.stack.linux or s.ip_id != 0:
        return False
    end.state, life.spared = St.TIME_WAIT, False
    end.notes.append(f"net.ipv4.tcp_rfc1337 = 1: frame {s.number} is of TIME_WAIT, behind an RST")
    return True


def _acked_alone(life: "Life") -> bool:
    """Whether an ACK of the FIN waits before the peer's FIN."""
    for p in life.end.pending:
        if p.flags & FIN:
            return False
        if p.flags & ACK and p.ack_seq == life.fin_end:
            return True
    return False


def answers(life: "Life", s: Segment) -> Label:
    """The label of an ACK that a time-wait socket seems to have sent."""
    end = life.end
    life.small = True
    try:
        end.rx.explain(s)
    finally:
        life.small = False
    label: Label | None = end.tx.classify(s)
    life.moves()
    if label is not None:
        return label
    cause: Label = end.rx.cause(s)
    if end.state in (St.FIN_WAIT2, St.TIME_WAIT) and cause.by in OF_TIMEWAIT:
        return Label("tcp_v4_timewait_ack")
    return cause
