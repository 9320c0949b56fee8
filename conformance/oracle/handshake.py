"""Opening a connection: SYNs and their retransmissions, SYN-ACKs and what asks for them, the ACK that ends it.

The law: a SYN stays the same until it is answered, and is repeated when its timer says; a SYN-ACK says nothing that its
SYN did not offer. Each SYN-ACK is due to a SYN that came or to its own timer.
"""

from typing import TYPE_CHECKING, Final

from conformance.check.setup import slack
from conformance.oracle.constraint import Constraint
from conformance.oracle.end import Excuse, Label, Refusal, us
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.tcp.state import St
from refmodel.types import M32, after

if TYPE_CHECKING:
    from conformance.oracle.life import Life

CWR: Final = 0x80
ECE: Final = 0x40
AE: Final = 0x100
SECOND: Final = 1_000_000
RTO_MAX: Final = 120 * SECOND
COOKIES: Final = "net.ipv4.tcp_syncookies"
LINEAR: Final = "net.ipv4.tcp_syn_linear_timeouts"
DELACK: Final = 200_000  # us, TCP_DELACK_MAX
RATELIMIT: Final = 500_000  # us, tcp_invalid_ratelimit
SOON: Final = 5_000  # us within which a SYN is answered on a host that is not busy
STARVED: Final = 500_000  # us: no timer runs out so late on a host that is not starved
HELD: Final = 3_200_000  # us that a SYN may wait for its neighbour's address

CONSTRAINTS: Final[tuple[Constraint, ...]] = (
    Constraint(
        "syn-changes",
        "A SYN that is sent again has the number, window and options of the first.",
        ("net/ipv4/tcp_output.c:tcp_retransmit_skb", "RFC 9293 3.8.1"),
    ),
    Constraint(
        "syn-sysctls",
        "A SYN offers SACK, timestamps and window scaling as the sysctls say, a SYN-ACK if the SYN did too.",
        ("net/ipv4/tcp_output.c:tcp_syn_options", "net/ipv4/tcp_input.c:tcp_parse_options"),
    ),
    Constraint(
        "syn-window",
        "The window of a SYN is a multiple of the MSS in it, unless it is the largest or less than one MSS.",
        ("net/ipv4/tcp_output.c:tcp_select_initial_window",),
    ),
    Constraint(
        "syn-timer",
        "A SYN is sent again when its time-out has passed: 1 s, some times the same, then doubled.",
        ("net/ipv4/tcp_timer.c:tcp_retransmit_timer", "RFC 6298 5.5", "RFC 6298 2.1"),
    ),
    Constraint(
        "syn-when-open",
        "A socket that is open, or answers a SYN, sends no SYN without ACK.",
        ("net/ipv4/tcp_output.c:tcp_connect", "RFC 9293 3.5"),
        rfc=True,
    ),
    Constraint(
        "synack-answers-syn",
        "A SYN-ACK acknowledges a SYN that came, and its TSecr echoes it.",
        ("net/ipv4/tcp_output.c:tcp_make_synack", "RFC 9293 3.10.7.2"),
        rfc=True,
    ),
    Constraint(
        "synack-offers",
        "A SYN-ACK offers SACK, timestamps, window scaling and ECN only if the SYN did.",
        ("net/ipv4/tcp_output.c:tcp_synack_options", "net/ipv4/tcp_input.c:tcp_ecn_create_request", "RFC 7323 2.2"),
        rfc=True,
    ),
    Constraint(
        "synack-changes",
        "A SYN-ACK that is sent again has the number, window and options of the first.",
        ("net/ipv4/tcp_output.c:tcp_rtx_synack", "RFC 9293 3.8.1"),
    ),
    Constraint(
        "synack-timer",
        "A SYN-ACK is sent again because the SYN came again, or when its time-out has passed: 1 s, doubled each time.",
        ("net/ipv4/inet_connection_sock.c:reqsk_timer_handler", "net/ipv4/tcp_minisocks.c:tcp_check_req"),
    ),
    Constraint(
        "synack-when-open",
        "An end whose connection is open, or over, sends no SYN-ACK.",
        ("net/ipv4/tcp_minisocks.c:tcp_check_req", "RFC 9293 3.10.7.4"),
        rfc=True,
    ),
    Constraint(
        "handshake-ack-missing",
        "The SYN-ACK is acknowledged at once, or when the delayed-ACK timer has run out.",
        ("net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process", "RFC 9293 3.10.7.3"),
    ),
)


def _promises(life: "Life", s: Segment, offer: Segment | None) -> None:
    """Raises Refusal if a SYN or SYN-ACK doesn't offer what the host's sysctls say; `offer` is the SYN answered."""
    stack = life.end.stack
    if not stack.given or s.truncated or s.data[s.l4 + 20 : s.l4 + 24] == b"\x01\x01\x13\x12":
        return
    told = stack.told
    cookie = told.get(COOKIES) == 2 or life.host.counted("TcpExt.SyncookiesSent")
    if offer is not None and cookie and offer.tsval is None:
        return
    for name, sysctl, mine, theirs in (
        ("SACK", "net.ipv4.tcp_sack", s.sack_perm, offer is not None and offer.sack_perm),
        ("timestamps", "net.ipv4.tcp_timestamps", s.tsval is not None, offer is not None and offer.tsval is not None),
        (
            "scaling",
            "net.ipv4.tcp_window_scaling",
            s.wscale is not None,
            offer is not None and offer.wscale is not None,
        ),
    ):
        wanted = told.get(sysctl, 1) != 0 and (offer is None or theirs)
        if mine != wanted:
            verb = "offered" if mine else "not offered"
            raise Refusal("syn-sysctls", f"{name} is {verb}, though {sysctl} is {told.get(sysctl, 1)}")
    if s.wscale is not None and not cookie and life.host.recorded:
        largest = 14 if life.host.called("SO_RCVBUF", before=us(s)) else _largest(stack.kernel)
        if s.wscale > largest:
            raise Refusal("syn-sysctls", f"window scale {s.wscale}, but the default buffers give {largest} at most")


def _largest(kernel: str) -> int:
    """The window scale of the default tcp_rmem[2]: 6 MiB, and 32 MiB from 6.17 on."""
    return 10 if _release(kernel) >= (6, 17) else 7


def _window(s: Segment) -> None:
    """Raises Refusal for a first window that is no multiple of the MSS.

    Source net/ipv4/tcp_output.c:tcp_select_initial_window.
    """
    mss = s.mss or 536
    if s.window > mss and s.window not in (65535, 32767) and s.window % mss and s.window % max(mss - 12, 1):
        raise Refusal("syn-window", f"window {s.window} of a SYN, which is no multiple of its MSS {mss}")


def _same(old: Segment, new: Segment, steady: bool) -> str:
    """What differs in a SYN that is sent again, '' if nothing that stays. `steady`: no path's MTU became smaller.

    Source net/ipv4/tcp_output.c:tcp_advertise_mss, tcp_make_synack.
    """
    for name in ("window", "wscale", "sack_perm"):
        if getattr(old, name) != getattr(new, name):
            return f"{name} {getattr(new, name)}, {getattr(old, name)} before"
    if (old.tsval is None) != (new.tsval is None):
        return "timestamps are offered only once"
    if (new.mss or 0) > (old.mss or 0) or (steady and new.mss != old.mss):
        return f"MSS {new.mss}, {old.mss} before"
    return ""


def _passed(old: Segment, new: Segment) -> int:
    """How long (us) after `old` `new` was made: by their timestamps, which neighbour resolution doesn't delay."""
    if old.tsval is not None and new.tsval is not None:
        ticks = (new.tsval - old.tsval) & M32
        if ticks < 1 << 31:
            return max(ticks * 1_000, 0)
    return us(new) - us(old)


# ---------------------------------------------------------------- the active open


def first(life: "Life", s: Segment) -> Label:
    """A SYN without ACK leaves: the first, or again."""
    end = life.end
    if life.isn is None or (end.state == St.CLOSE and life.isn != s.seq):
        if end.state not in (St.CLOSE, St.LISTEN) and end.stack.linux:
            raise Refusal("syn-when-open", f"a SYN of an end in {end.state.name}")
        if end.stack.linux:
            _promises(life, s, None)
            _window(s)
        life.isn, life.role = s.seq, "active"
        life.syn, life.syns, life.syn_at, life.tries = s, 1, us(s), 0
        end.state = St.SYN_SENT
        end.counts.add("Tcp.ActiveOpens")
        life.repeated(True)
        return Label("tcp_connect")
    if not end.stack.linux:
        life.syn = s
        return Label("tcp_retransmit_timer")
    if end.ident.duplicate(s) or end.ident.again(s):
        return life.double(s)
    if s.seq != life.isn:
        raise Refusal("syn-changes", f"seq {s.seq} of a SYN, the first had {life.isn}")
    assert life.syn is not None
    if end.state != St.SYN_SENT or life.role != "active":
        raise Refusal("syn-when-open", f"a SYN of an end in {end.state.name}", ("tcp_send_ack",), (), _moved(life, s))
    why = _same(life.syn, s, life.end.tx.steady)
    if why:
        raise Refusal("syn-changes", f"a SYN sent again differs: {why}")
    if s.len:
        raise Refusal("syn-changes", "a SYN sent again carries data")
    _syn_timer(life, s)
    life.syn = s
    life.syns += 1
    life.tries += 1
    life.syn_at = us(s)
    life.hurry = False
    life.repeated(False)
    return Label("tcp_retransmit_timer", f"time-out {life.tries}")


def _moved(life: "Life", s: Segment) -> tuple[Excuse, ...]:
    """The input that opened the connection may have been dropped, or may be late."""
    n = life.owes_ack.number if life.owes_ack is not None else life.closing
    if not n:
        return ()
    evidence = "the SYN was sent again"
    soon = life.owes_ack is not None and us(s) - us(life.owes_ack) < life.end.stack.late
    late = (Excuse("late", n, evidence, s.number, cost=1 if soon else 3),)
    return late if life.end.stack.lossy is False else (*late, Excuse("dropped", n, evidence, cost=2))


def _expected(life: "Life") -> tuple[int, int]:
    """The least and the most time-out (us) that a SYN waits now."""
    stack = life.end.stack
    linear = stack.told.get(LINEAR, 4 if _release(stack.kernel) >= (6, 5) else 0) if stack.given else -1
    most = min(SECOND << min(life.tries, 7), RTO_MAX)
    if linear < 0:
        return SECOND, most
    exact = min(SECOND << min(max(life.tries - linear, 0), 7), RTO_MAX)
    return (exact if not life.host.counted("Icmp.InDestUnreachs", "Icmp.InMsgs") else SECOND), exact


def _syn_timer(life: "Life", s: Segment) -> None:
    end = life.end
    assert life.syn is not None
    passed = _passed(life.syn, s)
    low, high = _expected(life)
    stack = end.stack
    held = 0 if life.syn.tsval is not None else HELD
    if passed < low - stack.jiffy - 2_000 - held and not life.hurry:
        raise Refusal("syn-timer", f"a SYN {passed} us behind the last, its time-out is {low} us at least")
    direct = stack.exact or (stack.given and end.ident.steps_since_last(s) == 0)
    latest = high + slack(high, stack.hz) + stack.late + held
    if direct and passed > latest:
        raise Refusal("syn-timer", f"a SYN {passed} us behind the last, its time-out is {high} us")


def syn_sent(life: "Life", s: Segment) -> bool:
    """An input in SYN_SENT; source net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process."""
    end = life.end
    isn = life.isn or 0
    if s.flags & ACK:
        beyond = (life.syn.len if life.syn is not None else 0) + 1
        if not after(s.ack_seq, isn) or after(s.ack_seq, (isn + beyond) & M32):
            life.hurry = True
            return False
        if s.flags & RST:
            end.state = St.CLOSE
            life.closer(s)
            end.counts.add("Tcp.AttemptFails", life.sure, 1)
            return False
        if not s.flags & SYN:
            return False
        end.state = St.ESTABLISHED
        life.owes_ack = s
        if s.flags & FIN:
            life.peer_fin = s.end_seq
        return True
    if s.flags & RST or not s.flags & SYN:
        return False
    end.state = St.SYN_RECV
    life.req = s
    life.asks.append(s)
    return True


def third(life: "Life", s: Segment) -> Label | None:
    """The first segment behind a SYN-ACK: the ACK that ends the handshake, alone or with data."""
    end = life.end
    answer = life.owes_ack
    assert answer is not None
    life.owes_ack = None
    _unrepeated(life, s, answer)
    end.rx.explain(s)
    label: Label | None = end.tx.classify(s)
    if label is not None:
        return label
    waited = us(s) - us(answer)
    if s.ack_seq != (answer.seq + 1) & M32:
        return end.rx.cause(s)
    if waited >= DELACK - end.stack.jiffy:
        return Label("tcp_delack_timer_handler", f"{waited} us after the SYN-ACK")
    return Label("tcp_rcv_synsent_state_process")


def _unrepeated(life: "Life", s: Segment, answer: Segment) -> None:
    """Raises Refusal if the SYN's time-out passed before its answer came, and it was not sent again."""
    end = life.end
    stack = end.stack
    if life.syn is None or life.role != "active" or not stack.linux or life.middle:
        return
    waited = us(answer) - us(life.syn)
    high = _expected(life)[1]
    if waited <= high + slack(high, stack.hz) + min(stack.late, STARVED) or end.state != St.ESTABLISHED:
        return
    excuses = () if stack.exact else (Excuse("unseen", s.number, "its SYN was not sent again", cost=3),)
    if s.number in end.decided:
        return
    what = f"the SYN of frame {life.syn.number} was answered after {waited} us, and not sent again before"
    raise Refusal("syn-timer", what, ("tcp_retransmit_timer",), (), excuses)


def overdue(life: "Life", now: int) -> None:
    """Raises Refusal if the handshake's ACK, which nothing withholds, did not show."""
    end = life.end
    answer = life.owes_ack
    if answer is None or end.stack.near is not True or not end.stack.linux or end.state != St.ESTABLISHED:
        return
    waited = now - us(answer)
    if waited <= DELACK + slack(DELACK, end.stack.hz) + end.stack.late:
        return
    excuses = () if end.stack.lossy is False else (Excuse("dropped", answer.number, "it was never acknowledged"),)
    what = f"the SYN-ACK of frame {answer.number} is not acknowledged after {waited} us"
    raise Refusal("handshake-ack-missing", what, ("tcp_rcv_synsent_state_process",), (), excuses)


# ---------------------------------------------------------------- the passive open


def synack(life: "Life", s: Segment) -> Label:
    """A SYN-ACK leaves: to a SYN that came, or again."""
    end = life.end
    if life.role == "active":
        return _crossed(life, s)
    _hear(life, s)
    st = end.state
    if not end.stack.linux:
        return _foreign(life, s)
    if end.ident.again(s):
        return life.double(s)
    if st in (St.ESTABLISHED, St.CLOSE_WAIT) and not life.confirmed:
        _take_back(life, s)
        st = end.state
    if st not in (St.CLOSE, St.LISTEN, St.NEW_SYN_RECV, St.SYN_RECV):
        raise Refusal("synack-when-open", f"a SYN-ACK of an end in {st.name}", ("tcp_send_challenge_ack",))
    if life.isn is None or (life.isn != s.seq and life.asks) or st in (St.CLOSE, St.LISTEN):
        return _request(life, s)
    return _again(life, s)


def _hear(life: "Life", s: Segment) -> None:
    """Processes what waits, as far as the SYN that the SYN-ACK answers."""
    end = life.end
    seqs = [p.number for p in end.pending if p.flags & (SYN | ACK | RST) == SYN and us(p) <= us(s)]
    if not seqs:
        return
    last = seqs[-1]
    while end.pending and end.pending[0].number <= last and not end.held(end.pending[0], s.number):
        end.process()


def damaged(life: "Life", s: Segment) -> Label:
    """A SYN-ACK whose fields cannot be relied on: its SYN is answered."""
    _hear(life, s)
    return _foreign(life, s)


def _foreign(life: "Life", s: Segment) -> Label:
    life.syn, life.isn, life.role = s, s.seq, life.role or "passive"
    life.syns += 1
    if life.asks:
        life.req = life.asks[-1]
    if life.end.state in (St.CLOSE, St.LISTEN):
        life.end.state = St.NEW_SYN_RECV if life.req is not None else St.ESTABLISHED
    life.asks.clear()
    return Label("tcp_conn_request")


def _request(life: "Life", s: Segment) -> Label:
    end = life.end
    if not life.asks:
        if life.middle or (end.stack.near is not True and not life.opens):
            life.middle = True
            end.state, life.isn, life.syn, life.role = St.ESTABLISHED, s.seq, s, "passive"
            return Label("tcp_conn_request", "its SYN is not in the capture")
        raise Refusal("synack-answers-syn", "a SYN-ACK, but no SYN came")
    fitting = [q for q in life.asks if _answers(q, s) and (s.tsval is None or s.tsecr == q.tsval)]
    if not fitting:
        q = life.asks[-1]
        what = f"ack {s.ack_seq}, TSecr {s.tsecr}; the SYN had seq {q.seq}, TSval {q.tsval}"
        raise Refusal("synack-answers-syn", f"a SYN-ACK to no SYN that came: {what}")
    req = fitting[-1]
    _offers(req, s)
    _promises(life, s, req)
    _window(s)
    life.isn, life.role, life.req, life.syn = s.seq, "passive", req, s
    life.syns, life.tries, life.syn_at = 1, 0, us(s)
    # The network may have doubled the SYN: what came behind the one answered is still to be answered.
    life.asks = [q for q in life.asks if q.number > fitting[0].number and us(s) - us(q) <= SOON]
    life.repeated(True)
    fast = s.ack_seq != (req.seq + 1) & M32
    end.state = St.SYN_RECV if fast else St.NEW_SYN_RECV
    if fast:
        end.counts.add("Tcp.PassiveOpens")
        end.counts.add("TcpExt.TCPFastOpenPassive")
    return Label("tcp_conn_request")


def _answers(req: Segment, s: Segment) -> bool:
    n = (s.ack_seq - req.seq - 1) & M32
    return n in (0, req.len)


def _offers(req: Segment, s: Segment) -> None:
    """Raises Refusal for an option that the SYN didn't offer."""
    for name, mine, theirs in (
        ("a timestamp", s.tsval is not None, req.tsval is not None),
        ("SACK", s.sack_perm, req.sack_perm),
        ("a window scale", s.wscale is not None, req.wscale is not None),
    ):
        if mine and not theirs:
            raise Refusal("synack-offers", f"{name} in a SYN-ACK, though the SYN had none")
    asked = req.flags & (AE | CWR | ECE)
    said = s.flags & (AE | CWR | ECE)
    if said and (not asked or (asked == (CWR | ECE) and said != ECE)):
        raise Refusal("synack-offers", "ECN in a SYN-ACK, though the SYN did not ask for it")


def _take_back(life: "Life", s: Segment) -> None:
    """The SYN-ACK is sent again: the ACK was not taken, for want of room or of data (TCP_DEFER_ACCEPT)."""
    end = life.end
    brought = [n for n in life.since if n not in end.decided]
    if brought:
        evidence = "the SYN-ACK was sent again behind it"
        excuses = [Excuse("dropped", n, evidence) for n in brought[:4]]
        what = "a SYN-ACK of an end whose connection is open"
        raise Refusal("synack-when-open", what, ("tcp_send_challenge_ack",), (), excuses)
    end.state = St.NEW_SYN_RECV
    life.confirmed = True
    end.counts.add("TcpExt.ListenOverflows", 0, 1)
    end.counts.add("TcpExt.ListenDrops", 0, 1)
    end.counts.add("Tcp.PassiveOpens", 0, -1)


def _again(life: "Life", s: Segment) -> Label:
    end = life.end
    assert life.syn is not None
    req = life.req
    if s.seq != life.isn:
        raise Refusal("synack-changes", f"seq {s.seq} of a SYN-ACK, the first had {life.isn}")
    why = _same(life.syn, s, life.end.tx.steady)
    if not why and s.tsecr != life.syn.tsecr:
        why = f"TSecr {s.tsecr}, {life.syn.tsecr} before"
    if not why and s.ack_seq != life.syn.ack_seq:
        why = f"ack {s.ack_seq}, {life.syn.ack_seq} before"
    if why:
        raise Refusal("synack-changes", f"a SYN-ACK sent again differs: {why}")
    now = us(s)
    passed = now - life.syn_at
    timeout = min(SECOND << min(life.tries, 7), RTO_MAX)
    stack = end.stack
    due = passed >= timeout - 2 * stack.jiffy - (0 if stack.near is True else stack.late)
    asked = next((q for q in reversed(life.asks) if req is not None and q.seq == req.seq), None)
    cookies = stack.told.get("net.ipv4.tcp_syncookies") == 2
    counted = end.counts.add
    if asked is not None and (not due or (now - us(asked) <= SOON and not life.far)):
        life.asks.clear()
        life.syn, life.syns = s, life.syns + 1
        if cookies:
            return Label("tcp_conn_request", "a SYN cookie")
        life.syn_at = now
        life.repeated(False)
        return Label("tcp_check_req", f"the SYN came again as frame {asked.number}")
    if not due:
        if life.far and now - life.limited >= RATELIMIT:
            life.limited = now
            life.syn, life.syns, life.syn_at = s, life.syns + 1, now
            counted("TcpExt.TCPSynRetrans", 0, 1)
            return Label("tcp_check_req", "the SYN may have been doubled behind the tap")
        raise Refusal("synack-timer", f"a SYN-ACK {passed} us behind the last, its time-out is {timeout} us")
    latest = timeout + slack(timeout, stack.hz) + stack.late
    if stack.exact and stack.near and passed > latest and asked is None and not deferred(life, now):
        raise Refusal("synack-timer", f"a SYN-ACK {passed} us behind the last, its time-out is {timeout} us")
    life.syn, life.syns, life.syn_at = s, life.syns + 1, now
    while timeout * 2 <= passed and life.tries < 7 and stack.near is not True:
        timeout <<= 1
        life.tries += 1
    life.tries += 1
    life.repeated(False)
    by = "reqsk_timer_handler" if end.state == St.NEW_SYN_RECV else "tcp_fastopen_synack_timer"
    return Label(by, f"time-out {life.tries}")


def unrepeated(life: "Life") -> None:
    """Raises Refusal if a request waited longer than its time-out, and its SYN-ACK was not sent again.

    Source net/ipv4/inet_connection_sock.c:reqsk_timer_handler.
    """
    stack = life.end.stack
    if not (stack.exact and stack.near and stack.linux and stack.given) or life.role != "passive" or life.middle:
        return
    timeout = min(SECOND << min(life.tries, 7), RTO_MAX)
    waited = life.asked - life.syn_at
    if waited <= timeout + slack(timeout, stack.hz) + STARVED:
        return
    told = stack.told
    if stack.host is None or told.get(COOKIES) == 2 or stack.host.mib.get("TcpExt.SyncookiesSent", 0):
        return  # a cookie is sent once
    if life.tries < told.get("net.ipv4.tcp_synack_retries", 5):
        what = f"the SYN-ACK was answered after {waited} us, and not sent again before"
        raise Refusal("synack-timer", what, ("reqsk_timer_handler",))


def deferred(life: "Life", now: int) -> bool:
    """Whether the application may have asked that SYN-ACKs wait for data (TCP_DEFER_ACCEPT), up to `now`."""
    return life.host.called("TCP_DEFER_ACCEPT", before=now)


def _crossed(life: "Life", s: Segment) -> Label:
    """Both ends opened actively: the SYN becomes a SYN-ACK."""
    end = life.end
    while end.state == St.SYN_SENT and end.pending and us(end.pending[0]) <= us(s):
        end.process()
    if not end.stack.linux:
        return Label("tcp_rcv_synsent_state_process")
    if end.state not in (St.SYN_RECV, St.ESTABLISHED):
        raise Refusal("synack-answers-syn", f"a SYN-ACK of an end in {end.state.name} to which no SYN came")
    req = life.req
    if (
        s.seq != life.isn
        or req is None
        or s.ack_seq != (req.seq + 1) & M32
        or (s.tsecr or 0) not in (0, req.tsval or 0)
    ):
        raise Refusal("synack-answers-syn", f"seq {s.seq}, ack {s.ack_seq} of a SYN-ACK where SYNs crossed")
    why = _same(life.syn, s, life.end.tx.steady) if life.syn is not None else ""
    if why:
        raise Refusal("synack-changes", f"a SYN-ACK where SYNs crossed differs from the SYN: {why}")
    if life.asks:
        life.asks.clear()
        life.syn = s  # the SYN's timer runs on
        return Label("tcp_rcv_synsent_state_process")
    passed, stack = us(s) - life.syn_at, end.stack
    if passed < SECOND - stack.jiffy - 2_000 - (0 if stack.near is True else stack.late):
        raise Refusal("syn-timer", f"a SYN-ACK {passed} us behind the last SYN, its time-out is {SECOND} us at least")
    life.tries += 1
    life.syn, life.syn_at = s, us(s)
    life.repeated(False)
    return Label("tcp_retransmit_timer", f"time-out {life.tries}")


def _release(kernel: str) -> tuple[int, ...]:
    return tuple(int(n) for n in kernel.split(".")[:2] if n.isdigit())
