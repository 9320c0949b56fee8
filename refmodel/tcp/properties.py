"""What is always true of a connection, each in one sentence.

Invariants hold of every reachable state. All are proved for every sysctl in range and every sequence number, wrapped
or not. Those that Linux doesn't have are registered as false, with the reason.
"""

from refmodel.rule import assume, invariant
from refmodel.tcp.checks import in_flight, readable, unsent
from refmodel.tcp.events import Seg
from refmodel.tcp.state import (
    CLOSING_STATES,
    FULL,
    MAX_QUEUE,
    MAX_SEG,
    SYNC,
    Listener,
    Pending,
    Req,
    Sock,
    St,
    Tw,
)
from refmodel.types import M32, NEVER, add

QUIET = (St.CLOSE, St.LISTEN)


# ---------------------------------------------------------------- the environment


@assume
def memory_is_finite(s: Sock, e: Seg) -> bool:
    """Memory for more data is found only while less than 1 GiB is unread."""
    return not e.rmem_ok or readable(s) <= MAX_QUEUE


# ---------------------------------------------------------------- which object has which states


@invariant(at=[x for x in St if x not in FULL])
def full_states(s: Sock) -> bool:
    """A full socket is never in TIME_WAIT or NEW_SYN_RECV: those are small sockets."""
    return False


@invariant(at=[x for x in St if x not in (St.FIN_WAIT2, St.TIME_WAIT)])
def small_states(s: Tw) -> bool:
    """A small socket is in FIN_WAIT2 or TIME_WAIT."""
    return False


# ---------------------------------------------------------------- sending


@invariant(at=[x for x in FULL if x not in QUIET])
def send_order(s: Sock) -> bool:
    """snd_una <= snd_nxt <= write_seq, and the queue is bounded."""
    queued = (s.write_seq - s.snd_una) & M32
    return in_flight(s) <= queued and queued <= MAX_QUEUE + (2 if s.fin_queued else 1)


@invariant(at=CLOSING_STATES)
def fin_unacked(s: Sock) -> bool:
    """In FIN_WAIT1, CLOSING and LAST_ACK our FIN isn't acknowledged."""
    return s.snd_una != s.write_seq


@invariant(at=St.FIN_WAIT2)
def fin_acked(s: Sock) -> bool:
    """In FIN_WAIT2 everything that we queued is acknowledged."""
    return s.snd_una == s.write_seq and s.snd_nxt == s.write_seq


@invariant(at=[x for x in FULL if x not in QUIET])
def fin_queued_where(s: Sock) -> bool:
    """A FIN of ours is queued exactly in FIN_WAIT1, FIN_WAIT2, CLOSING and LAST_ACK."""
    return s.fin_queued == (s.state in (St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSING, St.LAST_ACK))


@invariant(at=FULL)
def fin_shuts(s: Sock) -> bool:
    """Who queued a FIN can't send."""
    return not s.fin_queued or s.snd_shut


@invariant(at=St.SYN_SENT)
def syn_alone(s: Sock) -> bool:
    """In SYN_SENT our SYN and nothing else is under way."""
    return s.syn_out and s.snd_nxt == add(s.snd_una, 1) and s.write_seq == s.snd_nxt


@invariant(at=St.SYN_RECV)
def synack_alone(s: Sock) -> bool:
    """In SYN_RECV nothing but our SYN-ACK can be under way."""
    return s.write_seq == s.snd_nxt and in_flight(s) == s.syn_out


@invariant(at=FULL)
def syn_in_flight(s: Sock) -> bool:
    """A SYN that may be repeated is in flight."""
    return not s.syn_out or in_flight(s) != 0


# ---------------------------------------------------------------- receiving


@invariant(at=[x for x in FULL if x not in QUIET])
def done_where(s: Sock) -> bool:
    """The peer's FIN was taken exactly in CLOSE_WAIT, CLOSING and LAST_ACK."""
    return s.done == (s.state in (St.CLOSE_WAIT, St.CLOSING, St.LAST_ACK))


@invariant(at=FULL)
def done_shuts(s: Sock) -> bool:
    """After the peer's FIN no more is received."""
    return not s.done or s.rcv_shut


@invariant(at=[*SYNC])
def window_promise(s: Sock) -> bool:
    """rcv_nxt passes the promised right edge by at most a segment, what it brings in order, and a FIN."""
    return ((s.rcv_nxt - s.rcv_wup) & M32) <= s.rcv_wnd + 2 * MAX_SEG + (2 if s.done else 1)


@invariant(at=[*SYNC])
def unread_bounded(s: Sock) -> bool:
    """copied_seq <= rcv_nxt, and what is unread fits the buffer."""
    return ((s.rcv_nxt - s.done - s.copied_seq) & M32) <= MAX_QUEUE + 2 * MAX_SEG + 2


@invariant(at=St.SYN_RECV)
def nothing_received(s: Sock) -> bool:
    """In SYN_RECV nothing was received but the SYN."""
    return s.rcv_nxt == s.rcv_wup and s.copied_seq == s.rcv_nxt and not s.ofo


@invariant(at=[x for x in FULL if x not in (St.ESTABLISHED, St.FIN_WAIT1, St.FIN_WAIT2)])
def nothing_ahead(s: Sock) -> bool:
    """Data ahead of rcv_nxt is kept only while the peer's FIN is still to come."""
    return not s.ofo


# ---------------------------------------------------------------- ownership and errors


@invariant(at=FULL)
def orphans(s: Sock) -> bool:
    """A socket without descriptor is shut both ways, and is closing or closed."""
    closing = s.state in (St.FIN_WAIT1, St.FIN_WAIT2, St.CLOSING, St.LAST_ACK)
    return not s.dead or s.state == St.CLOSE or (s.rcv_shut and s.snd_shut and closing)


@invariant(at=FULL)
def lingering(s: Sock) -> bool:
    """A close() that waits has shut both ways, left the socket a descriptor, and sent its FIN."""
    closing = s.state in (*CLOSING_STATES, St.FIN_WAIT2, St.CLOSE)
    return s.linger_until == NEVER or (s.rcv_shut and s.snd_shut and not s.dead and closing)


@invariant(at=St.FIN_WAIT2)
def orphans_wait(s: Sock) -> bool:
    """An orphan in FIN_WAIT2 was allowed to wait there."""
    return not s.dead or s.linger2 >= 0


# ---------------------------------------------------------------- timers


@invariant(at=[x for x in FULL if x not in QUIET])
def retransmit_timer(s: Sock) -> bool:
    """The retransmit timer is armed exactly while something is in flight."""
    return (s.icsk_pending == Pending.RETRANS) == (in_flight(s) != 0)


@invariant(at=[x for x in FULL if x not in QUIET])
def probe_timer(s: Sock) -> bool:
    """The window probe timer is armed exactly while data waits and nothing is in flight."""
    return (s.icsk_pending == Pending.PROBE0) == (in_flight(s) == 0 and unsent(s) != 0)


@invariant(at=FULL)
def pending_has_deadline(s: Sock) -> bool:
    """The transmit timer has a deadline exactly while it is armed."""
    return (s.icsk_pending == Pending.NONE) == (s.icsk_timeout == NEVER)


@invariant(at=(*QUIET,))
def quiet(s: Sock) -> bool:
    """In CLOSE and LISTEN no timer is armed."""
    return s.icsk_pending == Pending.NONE and s.ack_timeout == NEVER and s.keepalive_timeout == NEVER


@invariant(at=FULL)
def delack_owes(s: Sock) -> bool:
    """The delayed-ACK timer runs only while an acknowledgment is owed."""
    return s.ack_timeout == NEVER or s.ack_sched


@invariant(at=St.FIN_WAIT2)
def orphans_end(s: Sock) -> bool:
    """An orphan in FIN_WAIT2 always has a timer that ends it."""
    return not s.dead or s.keepalive_timeout != NEVER


@invariant()
def request_timer(s: Req) -> bool:
    """A request always has a timer that ends it."""
    return s.rsk_timeout != NEVER


@invariant()
def small_timer(s: Tw) -> bool:
    """A small socket always has a timer that ends it."""
    return s.tw_timeout != NEVER


@invariant()
def young_requests(s: Listener) -> bool:
    """No more requests are young than there are."""
    return s.young <= s.qlen


# ---------------------------------------------------------------- what Linux doesn't have


@invariant(
    at=(St.ESTABLISHED, St.CLOSE_WAIT),
    falsified="shutdown() of a socket that isn't connected fails, shuts it all the same, and connect() keeps that",
)
def open_for_sending(s: Sock) -> bool:
    """Before our FIN is queued we may send."""
    return not s.snd_shut


@invariant(
    at=St.ESTABLISHED,
    falsified="a simultaneous open reaches ESTABLISHED without tcp_finish_connect, which arms the timer",
)
def keepalive_armed(s: Sock) -> bool:
    """An open connection with SO_KEEPALIVE has its keepalive timer armed."""
    return not s.keepopen or s.keepalive_timeout != NEVER
