"""What is true of every step of a connection, each in one sentence.

A property speaks of the state before, the event, the state after and what was done. All are proved for every sysctl
in range and every sequence number, wrapped or not. The one that Linux doesn't have is registered as false, with the
reason.
"""

from typing import Any

from refmodel.rule import Event, pure, transition
from refmodel.tcp.checks import (
    V,
    beyond,
    end_seq,
    oow_limited,
    readable,
    receive_window,
    reset_check,
    verdict,
    wnd_end,
)
from refmodel.tcp.events import (
    Close,
    DelackTimer,
    Deliver,
    GetError,
    KeepaliveTimer,
    Output,
    Poll,
    Read,
    Retransmit,
    Seg,
    SendAck,
    Shutdown,
    Tx,
    Write,
    WriteTimer,
)
from refmodel.tcp.input import SECOND_FIN
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import FULL, OPEN, SENDING, SYNC, TCP_TIMEWAIT_LEN, Errno, Listener, Req, Sock, St, Tw
from refmodel.types import H32, M32, add, after, before

Effects = tuple[Any, ...]
AFTER_FIN = (St.CLOSE_WAIT, St.CLOSING, St.LAST_ACK)


# ---------------------------------------------------------------- receiving


@transition(Seg, at=AFTER_FIN, falsified=SECOND_FIN)
def fin_once(s: Sock, e: Seg, t: Sock) -> bool:
    """After the peer's FIN rcv_nxt never moves again."""
    return t.rcv_nxt == s.rcv_nxt


@transition(Seg, at=AFTER_FIN)
def fin_once_but(s: Sock, e: Seg, t: Sock) -> bool:
    """After the peer's FIN rcv_nxt moves only for a segment that ends in a FIN one further, and then by one."""
    again = e.fin and end_seq(e) == add(s.rcv_nxt, 1) and t.rcv_nxt == add(s.rcv_nxt, 1)
    return t.rcv_nxt == s.rcv_nxt or again


@transition(Seg, at=SYNC)
def receives_forward(s: Sock, e: Seg, t: Sock) -> bool:
    """rcv_nxt never moves back."""
    return ((t.rcv_nxt - s.rcv_nxt) & M32) < H32


@transition(Seg, at=SYNC)
def acked_forward(s: Sock, e: Seg, t: Sock) -> bool:
    """snd_una never moves back, and never beyond what was sent."""
    return ((t.snd_una - s.snd_una) & M32) < H32 and not after(t.snd_una, s.snd_nxt)


@transition(Seg, at=SYNC)
def delivers_in_window(s: Sock, e: Seg, t: Sock, effects: Effects) -> bool:
    """What is delivered starts at rcv_nxt, comes from a segment that covers it, and needs an open window."""
    return all(
        x.seq == s.rcv_nxt
        and not after(e.seq, s.rcv_nxt)
        and not before(end_seq(e), s.rcv_nxt)
        and (x.end == x.seq or receive_window(s) != 0)
        for x in effects
        if isinstance(x, Deliver)
    )


@transition(Seg, at=OPEN)
def orphans_read_nothing(s: Sock, e: Seg, t: Sock, effects: Effects) -> bool:
    """An orphan is delivered nothing."""
    return not s.dead or all(x.end == x.seq for x in effects if isinstance(x, Deliver))


@transition(Seg, at=OPEN)
def refused_changes_nothing(s: Sock, e: Seg, t: Sock, effects: Effects, p: TcpParams) -> bool:
    """A segment that is neither accepted nor resets changes neither state nor sequence numbers nor send window."""
    same = (
        t.state == s.state
        and t.rcv_nxt == s.rcv_nxt
        and t.snd_una == s.snd_una
        and t.snd_nxt == s.snd_nxt
        and t.snd_wnd == s.snd_wnd
        and t.copied_seq == s.copied_seq
        and t.err == s.err
    )
    return verdict(s, e, p) in (V.ACK_OK, V.ACK_OLD, V.RESET) or same


@transition(Seg, at=SYNC)
def resets_listed(s: Sock, e: Seg, t: Sock) -> bool:
    """A connection fails only by an RST at rcv_nxt or at the two listed places, or by data that nobody will read."""
    failed = t.err != s.err and t.err in (Errno.ECONNRESET, Errno.EPIPE)
    placed = e.seq == s.rcv_nxt or reset_check(s, e) or (s.sack_ok and s.ofo and e.seq == s.max_sack)
    return not failed or (e.rst and placed) or (s.rcv_shut and beyond(s, e))


@transition(Seg, at=OPEN)
def challenges_limited(s: Sock, e: Seg, t: Sock, effects: Effects, p: TcpParams) -> bool:
    """RST and SYN are answered at most once in tcp_invalid_ratelimit."""
    limited = oow_limited(s.last_oow_ack_time, e.now, p)
    return not (e.rst or e.syn) or not limited or not any(isinstance(x, Tx) for x in effects)


@transition(Seg, at=FULL)
def rst_unanswered(s: Sock, e: Seg, t: Sock, effects: Effects) -> bool:
    """An RST is never answered by an RST."""
    return not e.rst or not any(x.rst for x in effects if isinstance(x, Tx))


# ---------------------------------------------------------------- sending


@pure
def right_edge(s: Sock) -> int:
    """The first sequence number that the peer may not use."""
    return add(s.rcv_wup, s.rcv_wnd)


@transition(Seg, at=OPEN)
def window_kept(s: Sock, e: Seg, t: Sock, effects: Effects, p: TcpParams) -> bool:
    """The right edge of the receive window never moves back, but for lack of memory or by tcp_shrink_window."""
    excused = p.tcp_shrink_window or s.ack_nomem or not e.rmem_ok
    return excused or ((right_edge(t) - right_edge(s)) & M32) < H32


@transition(Output, Retransmit, SendAck, DelackTimer, WriteTimer, KeepaliveTimer, Read, Write, Shutdown, at=OPEN)
def window_kept_otherwise(s: Sock, e: Event, t: Sock, effects: Effects, p: TcpParams) -> bool:
    """The right edge never moves back by what we do of our own accord, with the same exceptions."""
    excused = p.tcp_shrink_window or s.ack_nomem or t.state == St.CLOSE
    return excused or ((right_edge(t) - right_edge(s)) & M32) < H32


@transition(at=OPEN)
def segments_acknowledge(s: Sock, e: Event, t: Sock, effects: Effects) -> bool:
    """Every segment of an open connection but an RST acknowledges all that has arrived in order."""
    return t.state == St.CLOSE or all(
        x.ack and x.ack_seq == t.rcv_nxt for x in effects if isinstance(x, Tx) and not x.rst
    )


@transition(Output, WriteTimer, at=SENDING)
def sends_in_window(s: Sock, e: Event, t: Sock) -> bool:
    """New data and FINs never leave the window that the peer offers."""
    return t.state == St.CLOSE or t.snd_nxt == s.snd_nxt or not after(t.snd_nxt, wnd_end(s))


@transition(Output, Retransmit, WriteTimer, at=OPEN)
def sends_queued(s: Sock, e: Event, t: Sock, effects: Effects) -> bool:
    """Only what is queued and unacknowledged is sent, or an empty probe one below it."""
    return all(
        x.rst
        or (x.len + x.fin + x.syn == 0 and x.seq == ((s.snd_una - 1) & M32))
        or ((x.seq - s.snd_una) & M32) + x.len + x.fin + x.syn <= ((s.write_seq - s.snd_una) & M32)
        for x in effects
        if isinstance(x, Tx)
    )


@transition(SendAck, DelackTimer, Poll, GetError, Write, Shutdown, at=OPEN)
def acks_have_cause(s: Sock, e: Event, t: Sock, effects: Effects) -> bool:
    """Without a segment, data or a probe, an acknowledgment leaves only if one is owed."""
    return s.ack_sched or not any(isinstance(x, Tx) for x in effects)


@transition(Read, at=OPEN)
def reads_have_cause(s: Sock, e: Read, t: Sock, effects: Effects) -> bool:
    """Reading sends an acknowledgment only if one is owed or the window at least doubles."""
    doubles = e.space != 0 and e.space >= 2 * receive_window(s)
    return s.ack_sched or doubles or not any(isinstance(x, Tx) for x in effects)


@transition(WriteTimer, at=(St.SYN_SENT, *SENDING))
def backs_off(s: Sock, e: WriteTimer, t: Sock) -> bool:
    """The wait before the next retransmission never gets shorter by retransmitting."""
    return t.state == St.CLOSE or t.icsk_rto >= s.icsk_rto


@transition(Close, at=SYNC)
def close_with_unread(s: Sock, e: Close, t: Sock, effects: Effects) -> bool:
    """close() with data unread ends the connection by an RST."""
    reset = t.state == St.CLOSE and any(x.rst for x in effects if isinstance(x, Tx))
    return readable(s) == 0 or reset


# ---------------------------------------------------------------- requests, small sockets, queues


@transition(Seg)
def children_acknowledge(s: Req, e: Seg, t: Sock) -> bool:
    """A request becomes a socket only by an ACK of our SYN-ACK, while the accept queue has room."""
    return t.state == St.LISTEN or (e.ack and e.ack_seq == add(s.snt_isn, 1) and not e.acceptq_full)


@transition(Seg)
def requests_keep_rst_quiet(s: Req, e: Seg, t: Sock | Req, effects: Effects) -> bool:
    """A request never answers an RST by an RST."""
    return not e.rst or not any(x.rst for x in effects if isinstance(x, Tx))


@transition(Seg)
def small_quiet(s: Tw, e: Seg, t: Sock | Req | Tw, effects: Effects) -> bool:
    """A small socket delivers nothing and never answers an RST by an RST."""
    return not any(isinstance(x, Deliver) or (isinstance(x, Tx) and x.rst and e.rst) for x in effects)


@transition(Seg)
def sixty_seconds(s: Tw, e: Seg, t: Tw) -> bool:
    """TIME_WAIT ends 60 s after the segment that started it last."""
    return t.tw_timeout == s.tw_timeout or t.tw_timeout == e.now + TCP_TIMEWAIT_LEN


@transition(Seg, at=SYNC)
def sixty_seconds_first(s: Sock, e: Seg, t: Tw) -> bool:
    """TIME_WAIT lasts 60 s."""
    return t.tw_substate != St.TIME_WAIT or t.tw_timeout == e.now + TCP_TIMEWAIT_LEN


@transition(Seg, at=St.TIME_WAIT)
def reuse_beyond(s: Tw, e: Seg, t: Req) -> bool:
    """A connection that takes the place of TIME_WAIT starts beyond all that the old one sent."""
    return after(t.snt_isn, s.tw_snd_nxt)


@transition()
def backlog_plus_one(s: Listener, e: Event, t: Listener) -> bool:
    """No connection joins while more than the backlog wait: backlog + 1 fit."""
    return t.sk_ack_backlog <= s.sk_ack_backlog or t.sk_ack_backlog <= s.sk_max_ack_backlog + 1
