"""A segment arrives at a synchronised socket.

The law: `checks.verdict` decides first, in the kernel's order, whether the segment is looked at at all; the rules of
the first half answer those that aren't. The rules of the second half take the acknowledgment (`tcp_ack`), change the
state by it, then take the text and the FIN (`tcp_data_queue`), and decide on the acknowledgment that goes back.
"""

from enum import IntEnum

from msgspec.structs import replace

from refmodel.rule import Mib, pure, require, rule, step
from refmodel.tcp.checks import (
    V,
    accepted,
    all_acked,
    beyond,
    challenge_allowed,
    end_seq,
    in_flight,
    may_update_window,
    oow_limited,
    paws_old,
    readable,
    receive_window,
    unsent,
    verdict,
)
from refmodel.tcp.events import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, Deliver, Seg, Tx, Wake
from refmodel.tcp.output import Effects, check_probe, probe0_when, stopped, tcp_send_ack
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import OPEN, SYNC, TCP_TIMEWAIT_LEN, Errno, Pending, Sock, St, Tw
from refmodel.types import H32, M32, NEVER, add, after, before

# ---------------------------------------------------------------- waking and ending


@pure
def poll_mask(s: Sock, writable: bool) -> int:
    """What poll() reports of a socket that isn't listening; source net/ipv4/tcp.c:tcp_poll."""
    both = s.rcv_shut and s.snd_shut
    speaks = s.state not in (St.SYN_SENT, St.SYN_RECV)
    ready = speaks and readable(s) != 0
    return (
        (POLLHUP if both or s.state == St.CLOSE else 0)
        + (POLLIN if s.rcv_shut or ready else 0)
        + (POLLRDHUP if s.rcv_shut else 0)
        + (POLLOUT if speaks and (s.snd_shut or writable) else 0)
        + (POLLERR if s.err != Errno.NONE else 0)
    )


@step("net/ipv4/tcp.c:tcp_done")
def tcp_done(s: Sock, err: Errno) -> tuple[Sock, Effects]:
    """The connection is over: queues and timers go, both directions are shut, `err` waits for the next call."""
    t = replace(
        stopped(s),
        state=St.CLOSE,
        err=err if err != Errno.NONE else s.err,
        rcv_shut=True,
        snd_shut=True,
        ofo=False,
        syn_out=False,
        fin_queued=False,
    )
    return t, (Wake(poll=poll_mask(t, True)),)


@step("net/ipv4/tcp_minisocks.c:tcp_time_wait", "RFC 9293 3.6")
def tcp_time_wait(s: Sock, substate: St, timeo: int, now: int, full: bool) -> tuple[Sock | Tw, Effects]:
    """A small socket takes over for `timeo` us, at least 3.5 RTO, in TIME_WAIT 60 s; without room for it all ends."""
    if full:
        t, fx = tcp_done(s, Errno.NONE)
        return t, (Mib(name="TcpExtTCPTimeWaitOverflow"), *fx)
    at_least = s.icsk_rto * 3 + (s.icsk_rto >> 1)
    length = TCP_TIMEWAIT_LEN if substate == St.TIME_WAIT else max(timeo, at_least)
    return Tw(
        tw_substate=substate,
        tw_rcv_nxt=s.rcv_nxt,
        tw_snd_nxt=s.snd_nxt,
        tw_rcv_wnd=receive_window(s),
        tw_rcv_wscale=s.rcv_wscale,
        tw_ts_recent=s.ts_recent,
        tw_ts_recent_stamp=s.ts_recent_stamp,
        tw_timeout=now + length,
    ), ()


@pure
def tcp_fin_time(s: Sock, p: TcpParams) -> int:
    """How long an orphan waits in FIN_WAIT2 (us); source include/net/tcp.h:tcp_fin_time."""
    chosen = p.tcp_fin_timeout if s.linger2 == 0 else s.linger2
    return max(chosen, s.icsk_rto * 3 + (s.icsk_rto >> 1))


# ---------------------------------------------------------------- answers to segments that aren't accepted


@step("net/ipv4/tcp_input.c:tcp_send_challenge_ack", "RFC 5961 7")
def tcp_send_challenge_ack(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A challenge ACK, within the socket's and then the namespace's rate."""
    if oow_limited(s.last_oow_ack_time, e.now, p):
        return s, (Mib(name="TcpExtTCPACKSkippedChallenge"),)
    t = replace(s, last_oow_ack_time=max(e.now, 1))
    if not challenge_allowed(e, p):
        return t, ()
    t, fx = tcp_send_ack(t, e.space, p)
    return t, (Mib(name="TcpExtTCPChallengeACK"), *fx)


@step("net/ipv4/tcp_input.c:tcp_send_dupack", "RFC 9293 3.10.7.4")
def tcp_send_dupack(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A duplicate ACK tells the peer where we are; data without SYN gets one each time, the rest within the rate."""
    limited = end_seq(e) == e.seq or e.syn
    if limited and oow_limited(s.last_oow_ack_time, e.now, p):
        return s, ()
    t = replace(s, last_oow_ack_time=max(e.now, 1) if limited else s.last_oow_ack_time)
    return tcp_send_ack(t, e.space, p)


@rule("net/ipv4/tcp_input.c:tcp_rcv_established", "net/ipv4/tcp_input.c:tcp_rcv_state_process", at=SYNC)
def no_flags(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A segment without ACK, RST and SYN is dropped."""
    require(verdict(s, e, p) == V.NO_FLAGS, "a segment with neither ACK nor RST nor SYN")
    return s, ()


@rule("net/ipv4/tcp_input.c:tcp_validate_incoming", "RFC 7323 5.3", at=SYNC)
def paws(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A timestamp from the past gets a duplicate ACK."""
    require(verdict(s, e, p) == V.PAWS, "a timestamp from the past")
    t, fx = tcp_send_dupack(s, e, p)
    return t, (Mib(name="TcpExtPAWSEstabRejected"), *fx)


@rule("net/ipv4/tcp_input.c:tcp_validate_incoming", "RFC 5961 4.2", at=SYNC, since="6.12")
def paws_syn(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A SYN with a timestamp from the past is challenged."""
    require(verdict(s, e, p) == V.PAWS_SYN, "a SYN with a timestamp from the past")
    t, fx = tcp_send_challenge_ack(s, e, p)
    return t, (Mib(name="TcpExtTCPSYNChallenge"), *fx)


@rule("net/ipv4/tcp_input.c:tcp_validate_incoming", "RFC 9293 3.10.7.4", at=SYNC)
def outside(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A segment outside the window gets a duplicate ACK."""
    require(verdict(s, e, p) == V.OUTSIDE, "a segment outside the window, not RST, not SYN")
    return tcp_send_dupack(s, e, p)


@rule("net/ipv4/tcp_input.c:tcp_validate_incoming", "RFC 5961 4.2", at=SYNC)
def outside_syn(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A SYN outside the window is challenged."""
    require(verdict(s, e, p) == V.OUTSIDE_SYN, "a SYN outside the window")
    t, fx = tcp_send_challenge_ack(s, e, p)
    return t, (Mib(name="TcpExtTCPSYNChallenge"), *fx)


@rule("net/ipv4/tcp_input.c:tcp_validate_incoming", "RFC 5961 3.2", at=SYNC)
def outside_rst(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An RST outside the window is dropped."""
    require(verdict(s, e, p) == V.OUTSIDE_RST, "an RST outside the window")
    return s, ()


@rule(
    "net/ipv4/tcp_input.c:tcp_reset",
    "RFC 5961 3.2",
    at=SYNC,
    deviates="Besides rcv_nxt, Linux takes rcv_nxt - 1 after the peer's FIN, and the highest right edge it SACKed.",
)
def reset(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An RST at rcv_nxt ends the connection: EPIPE after the peer's FIN, ECONNRESET otherwise."""
    require(verdict(s, e, p) == V.RESET, "an RST where the peer must stand")
    return tcp_done(s, Errno.EPIPE if s.state == St.CLOSE_WAIT else Errno.ECONNRESET)


@rule("net/ipv4/tcp_input.c:tcp_validate_incoming", "RFC 5961 3.2", at=SYNC)
def rst_challenge(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An RST elsewhere in the window is challenged."""
    require(verdict(s, e, p) == V.RST_CHALLENGE, "an RST in the window, but not where the peer must stand")
    return tcp_send_challenge_ack(s, e, p)


@rule("net/ipv4/tcp_input.c:tcp_validate_incoming", "RFC 5961 4.2", at=SYNC)
def syn_challenge(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A SYN in the window is challenged, but for the SYN-ACK that ends a simultaneous open."""
    require(verdict(s, e, p) == V.SYN_CHALLENGE, "a SYN in the window")
    t, fx = tcp_send_challenge_ack(s, e, p)
    return t, (Mib(name="TcpExtTCPSYNChallenge"), *fx)


@rule("net/ipv4/tcp_input.c:tcp_ack", "RFC 5961 5.2", at=OPEN)
def ack_too_old(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment further back than any window the peer offered is challenged."""
    require(verdict(s, e, p) == V.ACK_TOO_OLD, "an ACK older than the largest window")
    return tcp_send_challenge_ack(s, e, p)


@rule(
    "net/ipv4/tcp_input.c:tcp_ack",
    "RFC 9293 3.10.7.4",
    at=St.ESTABLISHED,
    until="6.18",
    deviates="RFC 9293 wants an ACK in reply; ESTABLISHED drops silently.",
)
def ack_unsent(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment of data that was never sent is dropped."""
    require(verdict(s, e, p) == V.ACK_UNSENT, "an ACK of unsent data")
    return s, ()


@rule("net/ipv4/tcp_input.c:tcp_rcv_established", "RFC 9293 3.10.7.4", at=St.ESTABLISHED, since="6.18")
def ack_unsent_answered(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment of data that was never sent is challenged, in ESTABLISHED too."""
    require(verdict(s, e, p) == V.ACK_UNSENT, "an ACK of unsent data")
    return tcp_send_challenge_ack(s, e, p)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", at=[x for x in OPEN if x != St.ESTABLISHED])
def ack_unsent_challenge(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment of data that was never sent is challenged once the connection closes."""
    require(verdict(s, e, p) == V.ACK_UNSENT, "an ACK of unsent data")
    return tcp_send_challenge_ack(s, e, p)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.4", at=St.SYN_RECV)
def synrecv_bad_ack(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """In a simultaneous open an acknowledgment of anything but our SYN is answered by an RST; the socket stays."""
    require(verdict(s, e, p) in (V.ACK_TOO_OLD, V.ACK_UNSENT, V.ACK_OLD), "an ACK of something other than our SYN")
    return s, (Tx(seq=e.ack_seq, rst=True),)


# ---------------------------------------------------------------- the acknowledgment


@pure
def rearm(s: Sock, e: Seg, new: bool) -> Sock:
    """The transmit timer after an acknowledgment; source tcp_input.c:tcp_rearm_rto, tcp_input.c:tcp_ack_probe.

    `s` is already acknowledged. News restarts the retransmit timer. With nothing in flight a queued segment is probed
    for: after the first interval if its window opened just now, else after the backed-off one.
    """
    fly = in_flight(s) != 0
    waits = not fly and unsent(s) != 0
    probing = waits and s.icsk_pending == Pending.PROBE0
    backoff = 0 if probing and e.head_fits else s.icsk_backoff
    when = e.now + probe0_when(s.icsk_rto, backoff if probing else 0)
    return replace(
        s,
        icsk_pending=Pending.RETRANS if fly else Pending.PROBE0 if waits else Pending.NONE,
        icsk_timeout=(e.now + s.icsk_rto if new else s.icsk_timeout) if fly else when if waits else NEVER,
        icsk_backoff=backoff,
        icsk_probes_tstamp=0 if probing and e.head_fits else s.icsk_probes_tstamp,
    )


@pure
def tcp_ack(s: Sock, e: Seg, p: TcpParams) -> Sock:
    """snd_una, the peer's window, ts_recent and the transmit timer after an accepted segment.

    Source: tcp_input.c:tcp_ack.
    """
    count = (e.ack_seq - s.snd_una) & M32
    old = count >= H32
    new = count != 0 and not old
    window = not old and may_update_window(s, e, p)
    stamp = s.ts_ok and e.ts and not after(e.seq, s.rcv_wup) and not paws_old(s.ts_recent, s.ts_recent_stamp, e, 0, p)
    sample = new and e.rto != 0
    t = replace(
        s,
        snd_una=e.ack_seq if new else s.snd_una,
        bytes_acked=min(s.bytes_acked + count, M32) if new else s.bytes_acked,
        syn_out=s.syn_out and not new,
        snd_wnd=e.win if window else s.snd_wnd,
        snd_wl1=e.seq if window else s.snd_wl1,
        max_window=max(s.max_window, e.win) if window else s.max_window,
        ts_recent=e.tsval if stamp else s.ts_recent,
        ts_recent_stamp=e.secs if stamp else s.ts_recent_stamp,
        icsk_retransmits=0 if new else s.icsk_retransmits,
        retrans_stamp=0 if new else s.retrans_stamp,
        icsk_rto=e.rto if sample else s.icsk_rto,
        icsk_backoff=0 if sample else s.icsk_backoff,
        icsk_probes_out=s.icsk_probes_out if old else 0,
        err_soft=s.err_soft if old else Errno.NONE,
        rcv_tstamp=s.rcv_tstamp if old else e.now,
    )
    return rearm(t, e, new) if new or (s.icsk_pending == Pending.PROBE0 and not old) else t


# ---------------------------------------------------------------- the text


@step("net/ipv4/tcp_input.c:tcp_fin", "RFC 9293 3.10.7.4")
def tcp_fin(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """The peer's FIN is in order: no more data will come."""
    t = replace(s, rcv_shut=True, done=True, ofo=False, ack_sched=True)
    if s.state in (St.SYN_RECV, St.ESTABLISHED):
        t = replace(t, state=St.CLOSE_WAIT)
        return t, (Wake(poll=poll_mask(t, True)),)
    if s.state == St.FIN_WAIT1:
        t, fx = tcp_send_ack(t, e.space, p)
        t = replace(t, state=St.CLOSING)
        return t, (*fx, Wake(poll=poll_mask(t, True)))
    if s.state == St.FIN_WAIT2:
        t, fx = tcp_send_ack(t, e.space, p)
        w, fx2 = tcp_time_wait(t, St.TIME_WAIT, 0, e.now, e.tw_full)
        return w, (*fx, *fx2, Wake(poll=POLLIN + POLLOUT + POLLHUP + POLLRDHUP))
    return t, ()


@step("net/ipv4/tcp_input.c:tcp_queue_rcv")
def tcp_queue_rcv(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Text in order becomes readable, with what the out-of-order queue adds to it; a FIN is taken after it."""
    end = end_seq(e)
    more = e.ofo if s.ofo and not e.fin else 0
    fin = e.fin or (more != 0 and e.ofo_fin)
    nxt = add(end, more)
    t = replace(
        s,
        rcv_nxt=nxt,
        ofo=s.ofo and before(nxt, s.max_sack),
        ack_sched=True,
        ack_nomem=s.ack_nomem or (not e.rmem_ok and p.kernel >= 612),
        lrcvtime=e.now,
    )
    data = Deliver(seq=s.rcv_nxt, end=(nxt - fin) & M32)
    if fin:
        w, fx = tcp_fin(t, e, p)
        return w, (data, *fx)
    return t, (data,)


class D(IntEnum):
    """What tcp_data_queue does with the text of a segment."""

    NOTHING = 0
    QUEUE = 1
    LATER = 2
    ZERO_WINDOW = 3
    OLD = 4
    OVER_WINDOW = 5
    NO_MEMORY = 6


@pure
def text_verdict(s: Sock, e: Seg, p: TcpParams) -> D:
    """Where the text lies: in order, old, ahead, beyond the window; source tcp_input.c:tcp_data_queue."""
    end, win = end_seq(e), receive_window(s)
    bare_fin = e.len == 0 and e.fin and p.kernel >= 612
    if end == e.seq:
        return D.NOTHING
    if e.seq == s.rcv_nxt:
        if win == 0 and not bare_fin:
            return D.ZERO_WINDOW
        return D.NO_MEMORY if not e.rmem_ok and e.len != 0 and readable(s) != 0 else D.QUEUE
    if not after(end, s.rcv_nxt):
        return D.OLD
    if not before(e.seq, add(s.rcv_nxt, win)):
        return D.OVER_WINDOW
    if not before(e.seq, s.rcv_nxt):
        return D.LATER
    if win == 0:
        return D.ZERO_WINDOW
    return D.NO_MEMORY if not e.rmem_ok and e.len != 0 and readable(s) != 0 else D.QUEUE


@step("net/ipv4/tcp_input.c:tcp_data_queue_ofo", "RFC 2018 3")
def tcp_data_queue_ofo(s: Sock, e: Seg) -> tuple[Sock, Effects]:
    """Text ahead of rcv_nxt is kept if memory allows, and acknowledged."""
    if not e.rmem_ok:
        return replace(s, ack_sched=True), (Mib(name="TcpExtTCPOFODrop"),)
    end = end_seq(e)
    further = not s.ofo or after(end, s.max_sack)
    return replace(s, ofo=True, max_sack=end if further else s.max_sack, ack_sched=True), (
        Mib(name="TcpExtTCPOFOQueue"),
    )


@step("net/ipv4/tcp_input.c:tcp_data_queue", "RFC 9293 3.10.7.4")
def tcp_data_queue(s: Sock, e: Seg, d: D, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Text is taken, kept for later, or refused; what is refused is acknowledged at once."""
    if d == D.QUEUE:
        return tcp_queue_rcv(s, e, p)
    if d == D.LATER:
        return tcp_data_queue_ofo(s, e)
    if d == D.NOTHING:
        return s, ()
    t = replace(
        s,
        ack_sched=s.ack_sched or d != D.NO_MEMORY or p.kernel >= 612,
        ack_nomem=s.ack_nomem or (d == D.NO_MEMORY and p.kernel >= 612),
    )
    if d == D.ZERO_WINDOW:
        return t, (Mib(name="TcpExtTCPZeroWindowDrop"),)
    if d == D.OLD:
        return t, (Mib(name="TcpExtDelayedACKLost"),)
    if d == D.NO_MEMORY:
        return t, (Mib(name="TcpExtTCPRcvQDrop"),)
    return t, ()


@step("net/ipv4/tcp_input.c:__tcp_ack_snd_check", "RFC 9293 3.8.6.3", "RFC 5681 4.2")
def tcp_ack_snd_check(s: Sock, e: Seg, at_once: bool, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment that is owed goes now, or by the delayed-ACK timer, or when the socket's owner lets go."""
    if s.ack_sched and (at_once or s.ack_nomem or e.ack_now) and not e.ack_deferred:
        return tcp_send_ack(s, e.space, p)
    delay = s.ack_sched and not e.ack_deferred
    return replace(s, ack_timeout=min(s.ack_timeout, e.now + e.delack) if delay else s.ack_timeout), ()


def text(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """The text, the FIN and the acknowledgment that they need; source net/ipv4/tcp_input.c:tcp_rcv_state_process."""
    d = text_verdict(s, e, p)
    r, fx = tcp_data_queue(s, e, d, p)
    if isinstance(r, Tw) or r.state == St.CLOSE:
        return r, fx
    t, fx2 = tcp_ack_snd_check(r, e, d in (D.ZERO_WINDOW, D.OLD, D.OVER_WINDOW), p)
    return t, (*fx, *fx2)


@pure
def aborts(s: Sock, e: Seg) -> bool:
    """Data arrives that nobody will read; source tcp_input.c:tcp_rcv_state_process."""
    return s.rcv_shut and beyond(s, e)


@step("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 1122 4.2.2.13")
def abort_on_data(s: Sock, e: Seg, err: Errno) -> tuple[Sock, Effects]:
    """New data for a socket that no longer reads ends the connection by an RST."""
    t, fx = tcp_done(s, err)
    if e.ack:
        return t, (Mib(name="TcpExtTCPAbortOnData"), *fx, Tx(seq=e.ack_seq, rst=True))
    return t, (Mib(name="TcpExtTCPAbortOnData"), *fx, Tx(ack_seq=end_seq(e), ack=True, rst=True))


# ---------------------------------------------------------------- accepted segments, state by state


@pure
def synrecv_done(s: Sock, e: Seg, p: TcpParams) -> Sock:
    """The socket of a simultaneous open after its handshake.

    Source: tcp_input.c:tcp_rcv_state_process, case TCP_SYN_RECV.
    """
    t = tcp_ack(s, e, p)
    return replace(
        t,
        state=St.ESTABLISHED,
        snd_una=e.ack_seq,
        snd_wnd=e.win,
        snd_wl1=e.seq,
        copied_seq=s.rcv_nxt,
        retrans_stamp=0,
    )


@rule(
    "net/ipv4/tcp_input.c:tcp_rcv_state_process",
    "RFC 9293 3.10.7.4",
    at=St.SYN_RECV,
    deviates="An ACK of snd_una itself, which acknowledges nothing, completes the handshake too.",
)
def synrecv_established(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """The acknowledgment of our SYN ends a simultaneous open."""
    require(verdict(s, e, p) == V.ACK_OK, "an ACK of our SYN")
    t = synrecv_done(s, e, p)
    r, fx = text(queue_fin(t, St.FIN_WAIT1, e.now) if s.snd_shut else t, e, p)
    return r, (Wake(poll=POLLOUT), *fx)


@pure
def queue_fin(s: Sock, to: St, now: int) -> Sock:
    """A FIN joins the write queue; source tcp_output.c:tcp_send_fin."""
    return check_probe(replace(s, state=to, write_seq=add(s.write_seq, 1), fin_queued=True, snd_shut=True), now)


@rule("net/ipv4/tcp_input.c:tcp_rcv_established", "RFC 9293 3.10.7.4", at=St.ESTABLISHED)
def established(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Acknowledgment, data and FIN of an open connection."""
    require(accepted(s, e, p), "an acceptable segment")
    return text(tcp_ack(s, e, p), e, p)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.4", at=St.FIN_WAIT1)
def fin_wait1(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Our FIN isn't acknowledged yet: data and the peer's FIN are taken."""
    require(accepted(s, e, p) and not all_acked(s, e), "an acceptable segment that leaves our FIN unacknowledged")
    t = tcp_ack(s, e, p)
    if aborts(t, e):
        return abort_on_data(t, e, Errno.ECONNRESET)
    return text(t, e, p)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.4", at=St.FIN_WAIT1)
def fin_wait1_acked(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Our FIN is acknowledged and an application still holds the socket."""
    require(accepted(s, e, p) and all_acked(s, e), "an acceptable segment that acknowledges our FIN")
    require(not s.dead, "the socket has a descriptor")
    t = replace(tcp_ack(s, e, p), state=St.FIN_WAIT2)
    if aborts(t, e):
        return abort_on_data(t, e, Errno.ECONNRESET)
    r, fx = text(t, e, p)
    return r, (Wake(poll=poll_mask(t, True)), *fx)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", at=St.FIN_WAIT1)
def fin_wait1_acked_no_wait(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """Our FIN is acknowledged and TCP_LINGER2 forbids to wait for the peer's, or data came for nobody: an RST."""
    require(accepted(s, e, p) and all_acked(s, e), "an acceptable segment that acknowledges our FIN")
    require(s.dead and (s.linger2 < 0 or beyond(s, e)), "an orphan that doesn't wait, or got data")
    return abort_on_data(tcp_ack(s, e, p), e, Errno.NONE)


@pure
def fin2_stays(s: Sock, e: Seg, p: TcpParams) -> bool:
    """An orphan in FIN_WAIT2 keeps its full socket: the wait is long, or this segment may still bring the FIN."""
    return tcp_fin_time(s, p) > TCP_TIMEWAIT_LEN or e.fin or e.owned


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", at=St.FIN_WAIT1)
def fin_wait1_acked_orphan(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Our FIN is acknowledged and nobody holds the socket: it waits in full, for all but the last 60 s of its time."""
    require(accepted(s, e, p) and all_acked(s, e), "an acceptable segment that acknowledges our FIN")
    require(s.dead and s.linger2 >= 0 and not beyond(s, e), "an orphan that waits for the peer's FIN")
    require(fin2_stays(tcp_ack(s, e, p), e, p), "tcp_fin_time is over 60 s, or the segment has a FIN")
    t = tcp_ack(s, e, p)
    tmo = tcp_fin_time(t, p)
    wait = tmo - TCP_TIMEWAIT_LEN if tmo > TCP_TIMEWAIT_LEN else tmo
    return text(replace(t, state=St.FIN_WAIT2, keepalive_timeout=e.now + wait), e, p)


@rule("net/ipv4/tcp_minisocks.c:tcp_time_wait", at=St.FIN_WAIT1)
def fin_wait1_acked_small(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Our FIN is acknowledged and nobody holds the socket: a small one waits for the peer's FIN."""
    require(accepted(s, e, p) and all_acked(s, e), "an acceptable segment that acknowledges our FIN")
    require(s.dead and s.linger2 >= 0 and not beyond(s, e), "an orphan that waits for the peer's FIN")
    require(not fin2_stays(tcp_ack(s, e, p), e, p), "tcp_fin_time is at most 60 s and the segment has no FIN")
    t = tcp_ack(s, e, p)
    return tcp_time_wait(replace(t, state=St.FIN_WAIT2), St.FIN_WAIT2, tcp_fin_time(t, p), e.now, e.tw_full)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.4", at=St.FIN_WAIT2)
def fin_wait2(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Our half is closed; data and the peer's FIN are taken."""
    require(accepted(s, e, p), "an acceptable segment")
    t = tcp_ack(s, e, p)
    if aborts(t, e):
        return abort_on_data(t, e, Errno.ECONNRESET)
    return text(t, e, p)


def after_fin(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """After the peer's FIN only what starts before rcv_nxt reaches the text.

    Source: tcp_input.c:tcp_rcv_state_process.
    """
    if not before(e.seq, s.rcv_nxt):
        return tcp_ack_snd_check(s, e, False, p)
    if aborts(s, e):
        return abort_on_data(s, e, Errno.EPIPE if s.state == St.CLOSE_WAIT else Errno.ECONNRESET)
    return text(s, e, p)


SECOND_FIN = "A segment [rcv_nxt - 1, rcv_nxt] with FIN passes all checks and moves rcv_nxt past the FIN a second time."


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.4", at=St.CLOSE_WAIT, deviates=SECOND_FIN)
def close_wait(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """The peer has closed; its acknowledgments count."""
    require(accepted(s, e, p), "an acceptable segment")
    return after_fin(tcp_ack(s, e, p), e, p)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.4", at=St.CLOSING, deviates=SECOND_FIN)
def closing(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Both FINs are under way and ours isn't acknowledged."""
    require(accepted(s, e, p) and not all_acked(s, e), "an acceptable segment that leaves our FIN unacknowledged")
    return after_fin(tcp_ack(s, e, p), e, p)


@rule("net/ipv4/tcp_minisocks.c:tcp_time_wait", "RFC 9293 3.10.7.4", at=St.CLOSING)
def closing_acked(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """Our FIN is acknowledged after the peer's arrived: TIME_WAIT."""
    require(accepted(s, e, p) and all_acked(s, e), "an acceptable segment that acknowledges our FIN")
    return tcp_time_wait(tcp_ack(s, e, p), St.TIME_WAIT, 0, e.now, e.tw_full)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.4", at=St.LAST_ACK, deviates=SECOND_FIN)
def last_ack(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """The last FIN is ours and isn't acknowledged."""
    require(accepted(s, e, p) and not all_acked(s, e), "an acceptable segment that leaves our FIN unacknowledged")
    return after_fin(tcp_ack(s, e, p), e, p)


@rule("net/ipv4/tcp_input.c:tcp_rcv_state_process", "RFC 9293 3.10.7.4", at=St.LAST_ACK)
def last_ack_acked(s: Sock, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """The last FIN is acknowledged: the connection is over."""
    require(accepted(s, e, p) and all_acked(s, e), "an acceptable segment that acknowledges our FIN")
    return tcp_done(tcp_ack(s, e, p), Errno.NONE)
