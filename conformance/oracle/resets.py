"""RSTs: why one is sent, in which form, and which of those that come are believed.

The law: an RST answers a segment that found no socket, or one that its socket had no use for, and then it is made of
that segment alone; or an end that is open resets the peer of its own accord, once, with its own numbers.
"""

from typing import TYPE_CHECKING, Final

from conformance.oracle.constraint import Constraint
from conformance.oracle.end import Excuse, Label, Refusal, us
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.tcp.state import St
from refmodel.types import H32, M32, after, before

if TYPE_CHECKING:
    from conformance.oracle.life import Life

ANSWERED: Final = frozenset(
    {St.CLOSE, St.LISTEN, St.SYN_SENT, St.NEW_SYN_RECV}
    | {St.SYN_RECV, St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSING, St.LAST_ACK}
)
NEED_RESET: Final = frozenset(
    (St.ESTABLISHED, St.SYN_RECV, St.CLOSE_WAIT, St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSING, St.LAST_ACK)
)
AFTER_FIN: Final = (St.CLOSE_WAIT, St.LAST_ACK, St.CLOSING)
ON_ITS_WAY: Final = 1_500_000  # us: an RST leaves at once, and takes no longer to the tap
SILENT: Final = 400_000  # us without an answer before a socket may have given up: two of the least time-outs
TIMEWAIT_LEN: Final = 60_000_000  # us
OVERFLOW: Final = "TcpExt.TCPTimeWaitOverflow"

CONSTRAINTS: Final[tuple[Constraint, ...]] = (
    Constraint(
        "reset-form",
        "An RST that answers a segment has no options, no window and the id 0.",
        ("net/ipv4/tcp_ipv4.c:tcp_v4_send_reset", "RFC 9293 3.5.2"),
    ),
    Constraint(
        "reset-without-cause",
        "An RST that answers a segment takes its number from it, and comes where no socket has a use for the segment.",
        ("net/ipv4/tcp_ipv4.c:tcp_v4_send_reset", "net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.5.2"),
        rfc=True,
    ),
    Constraint(
        "reset-numbers",
        "An end that resets its peer does so with the next number that it would send.",
        ("net/ipv4/tcp_output.c:tcp_send_active_reset", "net/ipv4/tcp_output.c:tcp_acceptable_seq", "RFC 9293 3.10.5"),
    ),
    Constraint(
        "reset-of-nothing",
        "Only an open connection is reset by its own end, and only once.",
        ("net/ipv4/tcp.c:tcp_disconnect", "net/ipv4/tcp.c:__tcp_close", "RFC 9293 3.10.5"),
    ),
)


# ---------------------------------------------------------------- RSTs that come


def accepted(life: "Life", s: Segment, st: St) -> bool:
    """Whether an RST resets; source net/ipv4/tcp_input.c:tcp_validate_incoming, RFC 5961 3.2."""
    end = life.end
    rx = end.rx
    nxt = rx.rcv_nxt
    if not end.stack.linux or not rx.known or rx.fuzzy:
        return True
    if s.seq == nxt or (s.seq == (nxt - 1) & M32 and st in AFTER_FIN):
        return True
    ranges = rx.re.ranges
    return bool(ranges) and s.seq == ranges[-1][1] & M32


def in_window(life: "Life", s: Segment) -> bool:
    """Whether an RST with another number than the next lies in the window, so that it is challenged."""
    rx = life.end.rx
    return not before(s.seq, rx.wup & M32) and (s.seq - rx.rcv_nxt) & M32 < 1 << 30


# ---------------------------------------------------------------- RSTs that leave


def explain(life: "Life", s: Segment) -> Label:
    """The label of an RST; raises Refusal."""
    own = s.flags & ACK and not (s.seq == 0 and not s.window and s.payload_at - s.l4 == 20)
    return _active(life, s) if own else _reply(life, s)


def _matches(p: Segment, s: Segment) -> bool:
    """Whether an RST was made of a segment; source net/ipv4/tcp_ipv4.c:tcp_v4_send_reset."""
    if p.flags & RST:
        return False
    if p.flags & ACK:
        return not s.flags & ACK and s.seq == p.ack_seq
    return s.flags & ACK != 0 and s.ack_seq == p.end_seq and s.seq == 0


def _reply(life: "Life", s: Segment) -> Label:
    end = life.end
    linux = end.stack.linux
    if linux and (s.window or (s.payload_at - s.l4 > 20 and not _signed(s))):
        raise Refusal("reset-form", f"an RST with window {s.window} and {s.payload_at - s.l4 - 20} bytes of options")
    if linux and s.ip_id and s.df and end.stack.near is True and end.stack.given:
        raise Refusal("reset-form", f"an RST with the id {s.ip_id}")
    near: list[tuple[str, str]] = []
    oldest = s.time - max(end.stack.late, ON_ITS_WAY) * 1_000
    for p, st in life.heard:
        if p.time >= oldest and life.used.get(p.number, 0) < _segments(life, p) and _matches(p, s):
            if _allowed(life, p, st, s):
                return _answers(life, p, st)
            near.append(("tcp_v4_send_reset", f"frame {p.number} came in {st.name}"))
    while end.pending and us(end.pending[0]) <= us(s) and not end.held(end.pending[0], s.number):
        life.moves()
        p, st = end.pending[0], end.state
        fits = p.time >= oldest and _matches(p, s)
        end.process()
        if fits and _allowed(life, p, st, s):
            return _answers(life, p, st)
        if fits:
            near.append(("tcp_v4_send_reset", f"frame {p.number} came in {st.name}"))
    certain = end.stack.given and end.stack.near is True and life.heard
    if not linux or (life.middle and not certain):
        end.state = St.CLOSE
        return _counted(life, Label("tcp_v4_send_reset"))
    excuses = []
    if s.number in end.decided:
        end.state = St.CLOSE
        return _counted(life, Label("tcp_v4_send_reset", "what it answers is not in the capture"))
    if end.stack.near is not True:
        excuses.append(Excuse("unheard", s.number, "the capture may lack what it answers", cost=5))
    what = f"an RST with seq {s.seq}, ack {s.ack_seq} that answers nothing that came"
    raise Refusal("reset-without-cause", what, ("tcp_send_active_reset",), near, excuses)


def _segments(life: "Life", p: Segment) -> int:
    """How many segments a frame was on the wire: each of them is answered."""
    return max(-(-p.len // (life.end.peer.ident.ids.single or 536)), 1)


def _signed(s: Segment) -> bool:
    return s.data[s.l4 + 20 : s.l4 + 24] == b"\x01\x01\x13\x12"


def _allowed(life: "Life", p: Segment, st: St, s: Segment) -> bool:
    """Whether a segment that came in state `st` is answered by an RST."""
    end = life.end
    if (life.far or end.stack.near is not True or end.stack.sheds) and not end.stack.exact:
        return True  # what closed it may be behind this RST on the way to the tap, or was lost there
    isn = life.isn
    if st == St.SYN_SENT:
        opened = end.rx.latest is not None and end.rx.latest.number > p.number  # it was answered by an ACK
        wrong = isn is not None and not _acks_syn(life, p)
        return life.owes_ack is p or wrong or (end.state == St.CLOSE and not opened)
    if st == St.NEW_SYN_RECV:
        wrong = isn is not None and p.ack_seq != (isn + 1) & M32
        return wrong or p.flags & SYN != 0 or not life.confirmed or end.state in (St.CLOSE, St.LISTEN)
    if st in ANSWERED:
        return True
    if life.middle and not life.syns:
        return True
    if st == St.TIME_WAIT:
        old = us(p) - life.tw_at >= TIMEWAIT_LEN - 1_000_000
        return old or bool(p.len or p.flags & SYN) or not end.stack.given or life.host.counted(OVERFLOW)
    tx = end.tx
    if st == St.CLOSE_WAIT and p.len and after((p.seq + p.len) & M32, end.rx.rcv_nxt):
        return True
    last = end.last_sent
    quiet = us(p) - us(last) if last is not None else 0
    if tx.snd_una != tx.snd_nxt or (last is not None and (tx.snd_nxt - last.seq) & M32 == 1 and not last.len):
        return quiet >= SILENT  # retransmissions, probes or keepalives went unanswered: it may have given up
    if life.repeats and quiet >= SILENT:
        return True  # what answered them may have been dropped behind the tap
    return not life.confirmed or life.owes_ack is not None


def _acks_syn(life: "Life", p: Segment) -> bool:
    """Whether a segment acknowledges the SYN, or the SYN's data too."""
    beyond = 1 + (life.syn.len if life.syn is not None else 0)
    return 0 < (p.ack_seq - (life.isn or 0)) & M32 <= beyond


def _answers(life: "Life", p: Segment, st: St) -> Label:
    end = life.end
    life.used[p.number] = life.used.get(p.number, 0) + 1
    by = "tcp_v4_send_reset"
    if st == St.NEW_SYN_RECV and p.flags & SYN:
        by, end.state = "tcp_check_req", St.LISTEN
        end.counts.add("Tcp.AttemptFails")
        end.counts.add("TcpExt.EmbryonicRsts")
    elif st == St.SYN_SENT:
        if end.state == St.ESTABLISHED:
            end.state, life.owes_ack = St.CLOSE, None
    elif st not in (St.CLOSE, St.LISTEN, St.NEW_SYN_RECV):
        if p.len and st in (St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSING, St.LAST_ACK):
            end.counts.add("TcpExt.TCPAbortOnData", 0, 1)
        end.state = St.CLOSE
        life.closer(p)
    if len(life.used) > 256:
        life.used = {p.number: life.used[p.number]}
    return _counted(life, Label(by, f"answers frame {p.number}"))


def _counted(life: "Life", label: Label) -> Label:
    life.end.counts.add("Tcp.OutRsts")
    return label


def _active(life: "Life", s: Segment) -> Label:
    """An end resets its peer of its own accord; source net/ipv4/tcp_output.c:tcp_send_active_reset."""
    end = life.end
    linux = end.stack.linux
    while end.state not in NEED_RESET and end.pending and us(end.pending[0]) <= us(s):
        if end.state in (St.CLOSE, St.TIME_WAIT) and life.closing:
            break
        end.process()
        life.moves()
    if end.state not in NEED_RESET:
        if not linux or (life.middle and not life.syns):
            end.state = St.CLOSE
            return _counted(life, Label("tcp_send_active_reset"))
        excuses = [] if life.aborted else life.undone(s)
        what = f"an RST of an end in {end.state.name}"
        raise Refusal("reset-of-nothing", what, ("tcp_v4_send_reset",), (), excuses)
    st = end.state
    life.owes_ack = None
    end.rx.explain(s)
    if linux and not life.middle:
        _numbers(life, s)
    label = _who(life, s, st)
    if st in (St.ESTABLISHED, St.CLOSE_WAIT):
        end.counts.add("Tcp.EstabResets", life.idle, 1)
    elif st == St.SYN_RECV:
        end.counts.add("Tcp.AttemptFails")
    for name in ("TCPAbortOnClose", "TCPAbortOnData", "TCPAbortOnLinger", "TCPAbortOnMemory", "TCPAbortOnTimeout"):
        end.counts.add(f"TcpExt.{name}", 0, 1)
    end.state, life.aborted = St.CLOSE, True
    return _counted(life, label)


def _numbers(life: "Life", s: Segment) -> None:
    end = life.end
    tx = end.tx
    nxt, una = tx.snd_nxt, tx.snd_una
    if s.seq == nxt:
        return
    ahead = (s.seq - nxt) & M32
    if ahead < H32:
        steps = end.ident.steps_since_last(s)
        if (end.stack.near is not True and not end.stack.exact) or (steps is not None and steps > 0):
            return  # what it counts was lost before the tap
    elif not before(s.seq, una):
        return  # the peer took its window back: the number is the window's end
    raise Refusal("reset-numbers", f"an RST with seq {s.seq}, the next number is {nxt}", (f"seq {nxt}",))


def _who(life: "Life", s: Segment, st: St) -> Label:
    """Which function decided it, as far as anything tells."""
    end = life.end
    last = end.last_sent
    probe = (
        last is not None and not last.len and not last.flags & (SYN | FIN) and (end.tx.snd_nxt - last.seq) & M32 == 1
    )
    if probe and last is not None and us(s) - us(last) >= 900_000:
        return Label("tcp_keepalive_timer", "no keepalive was answered")
    host = life.host
    if not life.confirmed:
        return Label("inet_csk_listen_stop", "the listener closed")
    if host.recorded:
        unread, linger = host.counted("TcpExt.TCPAbortOnClose"), host.counted("TcpExt.TCPAbortOnData")
        if unread != linger:
            return Label("tcp_close", "data were unread") if unread else Label("tcp_disconnect", "linger 0")
    if st == St.FIN_WAIT2:
        return Label("tcp_close")
    got = life.got
    return Label("tcp_close", "data may be unread") if got else Label("tcp_disconnect", "no data came: linger 0")
