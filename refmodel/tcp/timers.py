"""The transmit and keepalive timers of a full socket, and ICMP errors.

The law: the transmit timer repeats the head of the queue, or probes a closed window, twice as late each time, until
the connection has been silent for too long; what too long means depends on who still waits for it.
"""

from enum import IntEnum

from msgspec.structs import replace

from refmodel.rule import Mib, pure, require, rule, step
from refmodel.tcp.checks import in_flight, unsent, wnd_end
from refmodel.tcp.events import Icmp, KeepaliveTimer, ListenStop, ReqGone, Wake, WriteTimer
from refmodel.tcp.input import poll_mask, tcp_done, tcp_fin_time, tcp_time_wait
from refmodel.tcp.listen import listening
from refmodel.tcp.output import Effects, probe0_when, syn_segment, tcp_send_active_reset, transmit
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import (
    FULL,
    OPEN,
    SECOND,
    SYNC,
    TCP_RTO_MAX,
    TCP_RTO_MIN,
    TCP_TIMEOUT_INIT,
    TCP_TIMEWAIT_LEN,
    Errno,
    Pending,
    Req,
    Sock,
    St,
    Tw,
)
from refmodel.tcp.synsent import keepalive_time_when
from refmodel.types import M32, NEVER, add, before, between

TCP_RESOURCE_PROBE_INTERVAL = SECOND // 2
KEEPALIVE_OWNED = SECOND // 20
HANDSHAKE = (St.SYN_SENT, St.SYN_RECV)


# ---------------------------------------------------------------- how long is too long


@pure
def model_timeout(boundary: int, base: int) -> int:
    """What `boundary` retransmissions from an RTO of `base` us would take; source tcp_timer.c:tcp_model_timeout.

    The doubling ends at 120 s: after 6 steps from 1 s, after 9 from 200 ms.
    """
    steps = 6 if base == TCP_TIMEOUT_INIT else 9
    doubled = ((2 << min(boundary, steps)) - 1) * (TCP_TIMEOUT_INIT if base == TCP_TIMEOUT_INIT else TCP_RTO_MIN)
    return doubled + max(boundary - steps, 0) * TCP_RTO_MAX


@pure
def timed_out(s: Sock, now: int, boundary: int, user_timeout: int) -> bool:
    """The first retransmission is too long ago; source net/ipv4/tcp_timer.c:retransmits_timed_out."""
    base = TCP_TIMEOUT_INIT if s.state in HANDSHAKE else TCP_RTO_MIN
    limit = user_timeout if user_timeout != 0 else model_timeout(boundary, base)
    return s.icsk_retransmits != 0 and now - s.retrans_stamp >= limit


@pure
def syn_boundary(s: Sock, p: TcpParams) -> int:
    """How often a SYN is repeated."""
    return s.syn_retries if s.syn_retries != 0 else p.tcp_syn_retries


@pure
def orphan_retries(s: Sock, alive: bool, p: TcpParams) -> int:
    """How often an orphan may try; source net/ipv4/tcp_timer.c:tcp_orphan_retries."""
    told = s.err_soft != Errno.NONE and not alive
    n = 0 if told else p.tcp_orphan_retries
    return 8 if n == 0 and alive else n


@pure
def write_expired(s: Sock, now: int, p: TcpParams) -> bool:
    """Retransmission is over; source net/ipv4/tcp_timer.c:tcp_write_timeout."""
    if s.state in HANDSHAKE:
        linear = p.tcp_syn_linear_timeouts if s.state == St.SYN_SENT else 0
        often = s.icsk_retransmits >= syn_boundary(s, p) + linear
        return often or timed_out(s, now, syn_boundary(s, p), s.user_timeout)
    retries = orphan_retries(s, s.icsk_rto < TCP_RTO_MAX, p) if s.dead else p.tcp_retries2
    return timed_out(s, now, retries, s.user_timeout)


@pure
def shrunk_window_expired(s: Sock, e: WriteTimer) -> bool:
    """The peer closed its window over data in flight and is silent; source tcp_timer.c:tcp_rtx_probe0_timed_out."""
    age = e.now - s.retrans_stamp if s.retrans_stamp != 0 else e.head_age
    limit = 2 * TCP_RTO_MAX if s.user_timeout == 0 else min(2 * TCP_RTO_MAX, s.user_timeout)
    if s.user_timeout != 0 and age > s.user_timeout:
        return True
    return s.icsk_timeout - s.rcv_tstamp > limit and age > limit


# ---------------------------------------------------------------- what the transmit timer does


class W(IntEnum):
    """What tcp_write_timer_handler does."""

    IDLE = 0
    SPURIOUS = 1
    WINDOW_EXPIRED = 2
    WINDOW = 3
    MEMORY = 4
    EXPIRED = 5
    RETRANSMIT = 6
    PROBE_EXPIRED = 7
    PROBE_DATA = 8
    PROBE = 9


@pure
def probes_expired(s: Sock, e: WriteTimer, alive: bool, p: TcpParams) -> bool:
    """The closed window was probed for too long; source net/ipv4/tcp_timer.c:tcp_probe_timer."""
    user = s.icsk_probes_tstamp != 0 and s.user_timeout != 0 and e.now - s.icsk_probes_tstamp >= s.user_timeout
    limit = orphan_retries(s, alive, p) if s.dead else p.tcp_retries2
    return user or s.icsk_probes_out >= limit


@pure
def probe_given_up(s: Sock, e: WriteTimer, alive: bool, p: TcpParams) -> bool:
    """An orphan's probes ran out of patience before memory is asked for."""
    user = s.icsk_probes_tstamp != 0 and s.user_timeout != 0 and e.now - s.icsk_probes_tstamp >= s.user_timeout
    return user or (s.dead and not alive and s.icsk_backoff >= orphan_retries(s, alive, p))


@pure
def rto_backoff_short(s: Sock) -> bool:
    """The backed-off RTO is below 120 s; source include/net/inet_connection_sock.h:inet_csk_rto_backoff."""
    # An RTO is at least 1 ms, so 17 doublings are beyond 120 s.
    return s.icsk_rto << min(s.icsk_backoff, 27) < TCP_RTO_MAX


@pure
def write_timer_verdict(s: Sock, e: WriteTimer, p: TcpParams) -> W:
    """The questions of tcp_write_timer_handler, tcp_retransmit_timer and tcp_probe_timer, in order."""
    if s.state in (St.CLOSE, St.LISTEN) or s.icsk_pending == Pending.NONE or s.icsk_timeout > e.now:
        return W.IDLE
    if s.icsk_pending == Pending.RETRANS:
        if in_flight(s) == 0:
            return W.SPURIOUS
        if s.snd_wnd == 0 and not s.dead and s.state not in HANDSHAKE:
            return W.WINDOW_EXPIRED if shrunk_window_expired(s, e) else W.WINDOW
        if s.dead and e.oom and s.state not in HANDSHAKE:
            return W.MEMORY
        return W.EXPIRED if write_expired(s, e.now, p) else W.RETRANSMIT
    if in_flight(s) != 0 or unsent(s) == 0:
        return W.SPURIOUS
    alive = rto_backoff_short(s)
    if probe_given_up(s, e, alive, p):
        return W.PROBE_EXPIRED
    if s.dead and e.oom:
        return W.MEMORY
    if probes_expired(s, e, alive, p):
        return W.PROBE_EXPIRED
    return W.PROBE_DATA if before(s.snd_nxt, wnd_end(s)) and e.n != 0 else W.PROBE


@step("net/ipv4/tcp_timer.c:tcp_write_err", "RFC 9293 3.8.3")
def tcp_write_err(s: Sock) -> tuple[Sock, Effects]:
    """The connection is given up: with what ICMP told, else with ETIMEDOUT."""
    t, fx = tcp_done(s, s.err_soft if s.err_soft != Errno.NONE else Errno.ETIMEDOUT)
    return t, (*fx, Mib(name="TcpExtTCPAbortOnTimeout"))


@rule("net/ipv4/tcp_timer.c:tcp_write_timer_handler", at=FULL)
def write_timer_idle(s: Sock, e: WriteTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """The transmit timer isn't armed, or fires early and waits on."""
    require(write_timer_verdict(s, e, p) == W.IDLE, "the transmit timer isn't due")
    return s, ()


@rule("net/ipv4/tcp_timer.c:tcp_retransmit_timer", "net/ipv4/tcp_timer.c:tcp_probe_timer", at=FULL)
def write_timer_spurious(s: Sock, e: WriteTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """The transmit timer finds nothing to repeat or to probe for."""
    require(write_timer_verdict(s, e, p) == W.SPURIOUS, "nothing is there to repeat or to probe for")
    return replace(s, icsk_pending=Pending.NONE, icsk_timeout=NEVER, icsk_probes_out=0, icsk_probes_tstamp=0), ()


@rule("net/ipv4/tcp_timer.c:tcp_write_timeout", "RFC 9293 3.8.3", "RFC 1122 4.2.3.5", at=FULL)
def write_timer_expired(s: Sock, e: WriteTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """The peer has been silent for too long: the connection is given up without a word."""
    require(write_timer_verdict(s, e, p) in (W.EXPIRED, W.WINDOW_EXPIRED, W.PROBE_EXPIRED), "the retries are over")
    return tcp_write_err(s)


@pure
def oom_resets(s: Sock, e: WriteTimer, p: TcpParams) -> bool:
    """An orphan that goes for lack of memory says so; source net/ipv4/tcp_timer.c:tcp_out_of_resources."""
    if s.icsk_pending == Pending.PROBE0:
        return True
    alive = s.icsk_rto < TCP_RTO_MAX
    late = timed_out(s, e.now, orphan_retries(s, alive, p), 0)
    return alive or not late or e.oom_reset or (s.snd_wnd == 0 and in_flight(s) == 0)


@rule("net/ipv4/tcp_timer.c:tcp_out_of_resources", at=FULL)
def write_timer_memory(s: Sock, e: WriteTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """An orphan that costs too much is given up when its timer fires, mostly with an RST."""
    require(write_timer_verdict(s, e, p) == W.MEMORY, "an orphan, and too many of them or too little memory")
    if oom_resets(s, e, p):
        t, fx = tcp_send_active_reset(s, e.space, p)
        t, fx2 = tcp_done(t, Errno.NONE)
        return t, (*fx, *fx2, Mib(name="TcpExtTCPAbortOnMemory"))
    t, fx = tcp_done(s, Errno.NONE)
    return t, (*fx, Mib(name="TcpExtTCPAbortOnMemory"))


@pure
def clamped_rto(s: Sock, now: int, rto: int, p: TcpParams) -> int:
    """The next wait, cut short by TCP_USER_TIMEOUT; source tcp_timer.c:tcp_clamp_rto_to_user_timeout."""
    left = s.user_timeout - (now - s.retrans_stamp)
    return rto if s.user_timeout == 0 else p.jiffy if left <= 0 else min(rto, left)


@pure
def backed(s: Sock, e: WriteTimer, counts: bool, p: TcpParams) -> Sock:
    """The timer after a retransmission: doubled, but for the first SYNs; source tcp_timer.c:tcp_retransmit_timer."""
    n = min(s.icsk_retransmits + 1, 255) if counts else s.icsk_retransmits
    linear = s.state == St.SYN_SENT and n <= p.tcp_syn_linear_timeouts
    rto = s.icsk_rto if linear or not e.sent else min(s.icsk_rto * 2, TCP_RTO_MAX)
    stamp = max(e.now, 1) if s.retrans_stamp == 0 else s.retrans_stamp
    wait = clamped_rto(replace(s, retrans_stamp=stamp), e.now, rto, p) if e.sent else TCP_RESOURCE_PROBE_INTERVAL
    return replace(
        s,
        icsk_retransmits=n,
        icsk_rto=rto,
        icsk_backoff=s.icsk_backoff if linear or not e.sent else min(s.icsk_backoff + 1, 255),
        retrans_stamp=stamp,
        icsk_pending=Pending.RETRANS,
        icsk_timeout=e.now + wait,
    )


@rule("net/ipv4/tcp_timer.c:tcp_retransmit_timer", "RFC 6298 5.4", "RFC 9293 3.8.1", at=(St.SYN_SENT, *SYNC))
def write_timer_retransmit(s: Sock, e: WriteTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """The head of the queue is sent again, SYN, data or FIN, and the wait doubles; the first SYNs go at even steps."""
    require(
        write_timer_verdict(s, e, p) in (W.RETRANSMIT, W.WINDOW), "something is unacknowledged and retries are left"
    )
    counts = write_timer_verdict(s, e, p) == W.RETRANSMIT
    t = backed(s, e, counts, p)
    if not e.sent:
        return t, (Mib(name="TcpExtTCPTimeouts"),)
    if s.syn_out:
        return t, (Mib(name="TcpExtTCPTimeouts"), syn_segment(s, s.state != St.SYN_SENT, p), Mib(name="TcpRetransSegs"))
    n = max(min(in_flight(s), e.n), 1)
    fin = s.fin_queued and s.snd_nxt == s.write_seq and n == in_flight(s)
    t, fx = transmit(t, s.snd_una, n - fin, fin, False, e.space, p)
    return t, (Mib(name="TcpExtTCPTimeouts"), *fx, Mib(name="TcpRetransSegs"))


@pure
def probe_wait(s: Sock, now: int, wait: int, p: TcpParams) -> int:
    """The wait until the next probe, cut short by TCP_USER_TIMEOUT; source tcp_clamp_probe0_to_user_timeout."""
    left = s.user_timeout - (now - s.icsk_probes_tstamp)
    return wait if s.user_timeout == 0 or s.icsk_probes_tstamp == 0 else min(max(left, 2 * p.jiffy), wait)


@rule("net/ipv4/tcp_timer.c:tcp_probe_timer", "RFC 9293 3.8.6.1", at=OPEN)
def write_timer_probe(s: Sock, e: WriteTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """The closed window is probed by an ACK one below snd_una, and the wait doubles."""
    require(write_timer_verdict(s, e, p) == W.PROBE, "data waits for a closed window")
    t = replace(s, icsk_probes_tstamp=max(e.now, 1) if s.icsk_probes_tstamp == 0 else s.icsk_probes_tstamp)
    backoff = min(s.icsk_backoff + 1, 255) if e.sent and s.icsk_backoff < p.tcp_retries2 else s.icsk_backoff
    wait = probe0_when(s.icsk_rto, backoff) if e.sent else TCP_RESOURCE_PROBE_INTERVAL
    t = replace(
        t,
        icsk_probes_out=min(s.icsk_probes_out + 1, 255),
        icsk_backoff=backoff,
        icsk_timeout=e.now + probe_wait(t, e.now, wait, p),
    )
    if not e.sent:
        return t, (Mib(name="TcpExtTCPWinProbe"),)
    t, fx = transmit(t, (s.snd_una - 1) & M32, 0, False, False, e.space, p)
    return t, (Mib(name="TcpExtTCPWinProbe"), *fx)


@rule("net/ipv4/tcp_output.c:tcp_write_wakeup", "RFC 9293 3.8.6.2.1", at=OPEN)
def write_timer_probe_data(s: Sock, e: WriteTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """A window that is open but small is filled when its probe is due."""
    require(write_timer_verdict(s, e, p) == W.PROBE_DATA, "data waits for a window that is open but small")
    room = (wnd_end(s) - s.snd_nxt) & M32
    n = min(min(e.n, unsent(s)), room)
    fin = s.fin_queued and n == unsent(s)
    t, fx = transmit(s, s.snd_nxt, n - fin, fin, False, e.space, p)
    return replace(
        t,
        snd_nxt=add(s.snd_nxt, n),
        icsk_pending=Pending.RETRANS,
        icsk_timeout=e.now + s.icsk_rto,
        icsk_probes_out=0,
        icsk_backoff=0,
        icsk_probes_tstamp=0,
    ), fx


# ---------------------------------------------------------------- keepalive and the end of FIN_WAIT2


class K(IntEnum):
    """What tcp_keepalive_timer does."""

    IDLE = 0
    OWNED = 1
    SMALL = 2
    DEATH = 3
    OFF = 4
    LATER = 5
    EXPIRED = 6
    PROBE = 7


@pure
def silence(s: Sock, now: int) -> int:
    """How long nothing came from the peer (us); source include/net/tcp.h:keepalive_time_elapsed."""
    return max(now - max(s.lrcvtime, s.rcv_tstamp), 0)


@pure
def keepalive_expired(s: Sock, now: int, p: TcpParams) -> bool:
    """The peer answered no probe; source net/ipv4/tcp_timer.c:tcp_keepalive_timer."""
    probes = s.keepalive_probes if s.keepalive_probes != 0 else p.tcp_keepalive_probes
    if s.user_timeout != 0:
        return silence(s, now) >= s.user_timeout and s.icsk_probes_out > 0
    return s.icsk_probes_out >= probes


@pure
def keepalive_verdict(s: Sock, e: KeepaliveTimer, p: TcpParams) -> K:
    """The questions of tcp_keepalive_timer, in order."""
    if s.keepalive_timeout > e.now or s.state == St.LISTEN:
        return K.IDLE
    if e.owned:
        return K.OWNED
    if s.state == St.FIN_WAIT2 and s.dead:
        return K.SMALL if s.linger2 >= 0 and tcp_fin_time(s, p) > TCP_TIMEWAIT_LEN else K.DEATH
    if not s.keepopen or s.state in (St.CLOSE, St.SYN_SENT):
        return K.OFF
    if in_flight(s) != 0 or unsent(s) != 0 or silence(s, e.now) < keepalive_time_when(s, p):
        return K.LATER
    return K.EXPIRED if keepalive_expired(s, e.now, p) else K.PROBE


@rule("net/ipv4/tcp_timer.c:tcp_keepalive_timer", at=FULL)
def keepalive_idle(s: Sock, e: KeepaliveTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """The keepalive timer isn't armed, or fires early."""
    require(keepalive_verdict(s, e, p) == K.IDLE, "the keepalive timer isn't due")
    return s, ()


@rule("net/ipv4/tcp_timer.c:tcp_keepalive_timer", at=FULL)
def keepalive_owned(s: Sock, e: KeepaliveTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """While an application holds the socket the timer comes back in 50 ms."""
    require(keepalive_verdict(s, e, p) == K.OWNED, "an application holds the socket")
    return replace(s, keepalive_timeout=e.now + KEEPALIVE_OWNED), ()


@rule("net/ipv4/tcp_minisocks.c:tcp_time_wait", at=St.FIN_WAIT2)
def fin_wait2_small(s: Sock, e: KeepaliveTimer, p: TcpParams) -> tuple[Sock | Tw, Effects]:
    """An orphan that waited long in FIN_WAIT2 leaves the rest of its time to a small socket."""
    require(keepalive_verdict(s, e, p) == K.SMALL, "an orphan whose FIN_WAIT2 takes longer than 60 s")
    return tcp_time_wait(s, St.FIN_WAIT2, tcp_fin_time(s, p) - TCP_TIMEWAIT_LEN, e.now, e.tw_full)


@rule("net/ipv4/tcp_timer.c:tcp_keepalive_timer", at=St.FIN_WAIT2)
def fin_wait2_over(s: Sock, e: KeepaliveTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """An orphan whose FIN_WAIT2 is over ends with an RST."""
    require(keepalive_verdict(s, e, p) == K.DEATH, "an orphan whose FIN_WAIT2 is over")
    t, fx = tcp_send_active_reset(s, e.space, p)
    t, fx2 = tcp_done(t, Errno.NONE)
    return t, (*fx, *fx2)


@rule(
    "net/ipv4/tcp_timer.c:tcp_keepalive_timer",
    at=FULL,
    deviates="A timer that fires in SYN_SENT isn't armed again before the connection is established.",
)
def keepalive_off(s: Sock, e: KeepaliveTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """Without SO_KEEPALIVE, or without a connection, the timer stops."""
    require(keepalive_verdict(s, e, p) == K.OFF, "keepalive is off, or there is no connection")
    return replace(s, keepalive_timeout=NEVER), ()


@rule("net/ipv4/tcp_timer.c:tcp_keepalive_timer", "RFC 9293 3.8.4", at=SYNC)
def keepalive_later(s: Sock, e: KeepaliveTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """Data under way, or a peer that spoke lately, needs no probe yet."""
    require(keepalive_verdict(s, e, p) == K.LATER, "data is under way, or the peer spoke lately")
    busy = in_flight(s) != 0 or unsent(s) != 0
    wait = keepalive_time_when(s, p)
    return replace(s, keepalive_timeout=e.now + (wait if busy else wait - silence(s, e.now))), ()


@rule("net/ipv4/tcp_timer.c:tcp_keepalive_timer", "RFC 9293 3.8.4", at=SYNC)
def keepalive_probe(s: Sock, e: KeepaliveTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """A silent peer is probed by an ACK one below snd_una."""
    require(keepalive_verdict(s, e, p) == K.PROBE, "the peer is silent and probes are left")
    wait = s.keepalive_intvl if s.keepalive_intvl != 0 else p.tcp_keepalive_intvl
    t = replace(
        s,
        icsk_probes_out=min(s.icsk_probes_out + 1, 255) if e.sent else s.icsk_probes_out,
        keepalive_timeout=e.now + (wait if e.sent else TCP_RESOURCE_PROBE_INTERVAL),
    )
    if not e.sent:
        return t, (Mib(name="TcpExtTCPKeepAlive"),)
    t, fx = transmit(t, (s.snd_una - 1) & M32, 0, False, False, e.space, p)
    return t, (Mib(name="TcpExtTCPKeepAlive"), *fx)


@rule("net/ipv4/tcp_timer.c:tcp_keepalive_timer", "RFC 9293 3.8.4", at=SYNC)
def keepalive_dead(s: Sock, e: KeepaliveTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """A peer that answers no probe is given up, with an RST."""
    require(keepalive_verdict(s, e, p) == K.EXPIRED, "the peer is silent and no probe is left")
    t, fx = tcp_send_active_reset(s, e.space, p)
    t, fx2 = tcp_write_err(t)
    return t, (*fx, *fx2)


# ---------------------------------------------------------------- ICMP


@pure
def icmp_fits(s: Sock, e: Icmp) -> bool:
    """The quoted segment is one that may be under way; source net/ipv4/tcp_ipv4.c:tcp_v4_err."""
    return between(e.seq, s.snd_una, s.snd_nxt)


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_err", "RFC 5927 4", at=(St.SYN_SENT, *SYNC))
def icmp_outside(s: Sock, e: Icmp, p: TcpParams) -> tuple[Sock, Effects]:
    """An ICMP error that quotes what isn't under way is dropped."""
    require(not icmp_fits(s, e), "an ICMP error about what isn't under way")
    return s, (Mib(name="TcpExtOutOfWindowIcmps"),)


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_err", "RFC 5461 2.2", at=HANDSHAKE)
def icmp_handshake(s: Sock, e: Icmp, p: TcpParams) -> tuple[Sock, Effects]:
    """During the handshake any ICMP error ends the attempt."""
    require(icmp_fits(s, e) and e.errno != Errno.NONE and not e.owned, "an ICMP error about our SYN")
    return tcp_done(s, e.errno)


@pure
def icmp_soft(s: Sock, e: Icmp) -> bool:
    """The ICMP error is only remembered."""
    return e.owned or (s.state not in HANDSHAKE and not e.recverr)


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_err", "RFC 1122 4.2.3.9", at=(St.SYN_SENT, *SYNC))
def icmp_remembered(s: Sock, e: Icmp, p: TcpParams) -> tuple[Sock, Effects]:
    """On a connection an ICMP error is only remembered, in case it fails later."""
    require(icmp_fits(s, e) and e.errno != Errno.NONE and icmp_soft(s, e), "an ICMP error that is only remembered")
    return replace(s, err_soft=e.errno), ()


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_err", at=OPEN)
def icmp_reported(s: Sock, e: Icmp, p: TcpParams) -> tuple[Sock, Effects]:
    """With IP_RECVERR an ICMP error is reported at once."""
    require(icmp_fits(s, e) and e.errno != Errno.NONE and not icmp_soft(s, e), "an ICMP error, and IP_RECVERR")
    t = replace(s, err=e.errno)
    return t, (Wake(poll=poll_mask(t, True)),)


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_err", at=(St.SYN_SENT, *SYNC))
def icmp_harmless(s: Sock, e: Icmp, p: TcpParams) -> tuple[Sock, Effects]:
    """An ICMP message that is no error changes nothing here."""
    require(icmp_fits(s, e) and e.errno == Errno.NONE, "an ICMP message without an error")
    return s, ()


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_err", at=(St.CLOSE, St.LISTEN))
def icmp_nobody(s: Sock, e: Icmp, p: TcpParams) -> tuple[Sock, Effects]:
    """An ICMP error for nobody is dropped."""
    return s, ()


@rule("net/ipv4/tcp_ipv4.c:tcp_req_err", "RFC 5927 4")
def req_icmp(s: Req, e: Icmp, p: TcpParams) -> tuple[Sock, Effects]:
    """An unreachable peer ends its request."""
    require(e.seq == s.snt_isn and e.unreach, "an ICMP error about our SYN-ACK: unreachable")
    return listening(s), (ReqGone(young=s.num_timeout == 0), Mib(name="TcpExtListenDrops"))


@rule("net/ipv4/tcp_ipv4.c:tcp_req_err")
def req_icmp_ignored(s: Req, e: Icmp, p: TcpParams) -> tuple[Req, Effects]:
    """Any other ICMP error leaves the request alone."""
    require(e.seq != s.snt_isn or not e.unreach, "an ICMP error that doesn't end a request")
    if e.seq != s.snt_isn:
        return s, (Mib(name="TcpExtOutOfWindowIcmps"),)
    return s, ()


@rule("net/ipv4/inet_connection_sock.c:inet_csk_listen_stop", "net/ipv4/tcp_ipv4.c:tcp_v4_rcv")
def req_listen_stop(s: Req, e: ListenStop, p: TcpParams) -> tuple[Sock, Effects]:
    """A request without listener is forgotten without a word: what comes next finds nobody."""
    return Sock(state=St.CLOSE), ()
