"""What makes a segment acceptable, in the kernel's order of questions.

The law: each cascade of checks is one classifier that returns an enum, so a rule's guard is a single verdict and two
rules can't both apply. Nothing here changes state.
"""

from enum import IntEnum

from refmodel.rule import pure
from refmodel.tcp.events import Seg
from refmodel.tcp.params import INT_MAX, TcpParams
from refmodel.tcp.state import CLOSING_STATES, Req, Sock, St, Tw
from refmodel.types import H32, M32, add, after, before, between

TCP_PAWS_24DAYS = 60 * 60 * 24 * 24
TCP_PAWS_WRAP = INT_MAX // 1_000_000
TCP_PAWS_MSL = 60


@pure
def end_seq(e: Seg) -> int:
    """The sequence number after the segment: SYN and FIN count one each; source tcp_ipv4.c:tcp_v4_fill_cb."""
    return add(e.seq, e.syn + e.fin + e.len)


@pure
def receive_window(s: Sock) -> int:
    """Bytes that the peer may still send, seen from rcv_nxt; source include/net/tcp.h:tcp_receive_window."""
    win = (s.rcv_wup + s.rcv_wnd - s.rcv_nxt) & M32
    return 0 if win >= H32 else win


@pure
def wnd_end(s: Sock) -> int:
    """The first sequence number that the peer doesn't take yet; source include/net/tcp.h:tcp_wnd_end."""
    return add(s.snd_una, s.snd_wnd)


@pure
def in_flight(s: Sock) -> int:
    """Sequence numbers that were sent and aren't acknowledged: packets_out, in bytes."""
    return (s.snd_nxt - s.snd_una) & M32


@pure
def unsent(s: Sock) -> int:
    """Sequence numbers that wait in the write queue."""
    return (s.write_seq - s.snd_nxt) & M32


@pure
def readable(s: Sock) -> int:
    """Bytes that were delivered and aren't read."""
    n = (s.rcv_nxt - s.done - s.copied_seq) & M32
    return 0 if n >= H32 else n


@pure
def oow_limited(last: int, now: int, p: TcpParams) -> bool:
    """Less than tcp_invalid_ratelimit passed since the last such ACK; source tcp_input.c:__tcp_oow_rate_limited."""
    return last != 0 and last <= now and now - last < p.tcp_invalid_ratelimit


@pure
def challenge_allowed(e: Seg, p: TcpParams) -> bool:
    """The namespace's quota of challenge ACKs has room; source tcp_input.c:tcp_challenge_ack_allowed."""
    return p.tcp_challenge_ack_limit == INT_MAX or e.quota


# ---------------------------------------------------------------- timestamps


@pure
def saw_tstamp(e: Seg, p: TcpParams) -> bool:
    """A timestamp is read where none has been agreed on yet; source tcp_input.c:tcp_parse_options."""
    return e.ts and p.tcp_timestamps != 0


@pure
def tw_saw_tstamp(s: Tw, e: Seg, p: TcpParams) -> bool:
    """A TIME_WAIT socket reads timestamps only if the connection had them."""
    return s.tw_ts_recent_stamp != 0 and saw_tstamp(e, p)


@pure
def paws_old(ts_recent: int, stamp: int, e: Seg, window: int, p: TcpParams) -> bool:
    """The timestamp is older than `ts_recent` by more than `window`; source include/net/tcp.h:tcp_paws_check."""
    older = (ts_recent - e.tsval) & M32
    if not (window < older and older < H32 and ts_recent != 0):
        return False
    idle = (e.secs - stamp) & M32
    # From 6.12 on a connection's clock is believed again after 35 minutes of silence, before that after 24 days.
    wrap = TCP_PAWS_WRAP if p.kernel >= 612 else TCP_PAWS_24DAYS
    return idle >= H32 or idle < wrap


@pure
def paws_reject(ts_recent: int, stamp: int, e: Seg, p: TcpParams) -> bool:
    """PAWS as the small sockets apply it: an RST passes after a minute; source include/net/tcp.h:tcp_paws_reject."""
    idle = (e.secs - stamp) & M32
    return paws_old(ts_recent, stamp, e, 0, p) and not (e.rst and idle >= TCP_PAWS_MSL and idle < H32)


@pure
def may_update_window(s: Sock, e: Seg, p: TcpParams) -> bool:
    """The segment's window is news; source tcp_input.c:tcp_may_update_window."""
    return (
        after(e.ack_seq, s.snd_una)
        or after(e.seq, s.snd_wl1)
        or (e.seq == s.snd_wl1 and (e.win > s.snd_wnd or (e.win == 0 and p.kernel >= 612)))
    )


@pure
def disordered_ack(s: Sock, e: Seg, p: TcpParams) -> bool:
    """A pure duplicate ACK that was overtaken by at most one RTO of the peer's clock.

    Source: tcp_input.c:tcp_disordered_ack.
    """
    older = (s.ts_recent - e.tsval) & M32
    ticks = 1200 if p.kernel >= 612 else 1024
    return (
        e.ack
        and e.seq == end_seq(e)
        and e.seq == s.rcv_nxt
        and e.ack_seq == s.snd_una
        and not may_update_window(s, e, p)
        and (older >= H32 or older * 1_000_000 <= (s.icsk_rto * 1200 if ticks == 1200 else s.icsk_rto * 1024))
    )


@pure
def paws_discard(s: Sock, e: Seg, p: TcpParams) -> bool:
    """PAWS as a full socket applies it; source tcp_input.c:tcp_paws_discard."""
    return s.ts_ok and e.ts and paws_old(s.ts_recent, s.ts_recent_stamp, e, 1, p) and not disordered_ack(s, e, p)


# ---------------------------------------------------------------- full sockets


@pure
def tcp_sequence(s: Sock, e: Seg, p: TcpParams) -> bool:
    """The segment touches the window, whose lower edge is the last advertised rcv_nxt.

    Source: tcp_input.c:tcp_sequence.
    """
    end, right = end_seq(e), add(s.rcv_nxt, receive_window(s))
    # From 6.18 on a segment may overshoot the right edge only while nothing waits to be read; its FIN alone may.
    overshoots = p.kernel >= 618 and after((end - e.fin) & M32, right) and readable(s) != 0
    return not before(end, s.rcv_wup) and not after(e.seq, right) and not overshoots


@pure
def reset_check(s: Sock, e: Seg) -> bool:
    """An RST one below rcv_nxt, from a peer that doesn't count its FIN; source tcp_input.c:tcp_reset_check."""
    return e.seq == ((s.rcv_nxt - 1) & M32) and s.state in (St.CLOSE_WAIT, St.LAST_ACK, St.CLOSING)


@pure
def crossed_synack(s: Sock, e: Seg) -> bool:
    """The SYN-ACK that ends a simultaneous open; source tcp_input.c:tcp_validate_incoming."""
    return (
        s.state == St.SYN_RECV
        and not s.dead
        and e.ack
        and add(e.seq, 1) == end_seq(e)
        and add(e.seq, 1) == s.rcv_nxt
        and e.ack_seq == s.snd_nxt
    )


@pure
def old_ack_floor(s: Sock) -> int:
    """Acknowledgments below it are blind injection, RFC 5961 5.2; source tcp_input.c:tcp_ack."""
    return (s.snd_una - min(s.max_window, s.bytes_acked)) & M32


class V(IntEnum):
    """What tcp_validate_incoming and the head of tcp_ack make of a segment."""

    NO_FLAGS = 0
    PAWS = 1
    PAWS_SYN = 2
    OUTSIDE = 3
    OUTSIDE_SYN = 4
    OUTSIDE_RST = 5
    RESET = 6
    RST_CHALLENGE = 7
    SYN_CHALLENGE = 8
    ACK_TOO_OLD = 9
    ACK_UNSENT = 10
    ACK_OLD = 11
    ACK_OK = 12


@pure
def verdict(s: Sock, e: Seg, p: TcpParams) -> V:
    """The checks of a synchronised socket, in order: flags, PAWS, window, RST, SYN, ACK."""
    if not e.ack and not e.rst and not e.syn:
        return V.NO_FLAGS
    if not e.rst and paws_discard(s, e, p):
        return V.PAWS_SYN if e.syn and p.kernel >= 612 else V.PAWS
    if not tcp_sequence(s, e, p):
        if not e.rst:
            return V.OUTSIDE_SYN if e.syn else V.OUTSIDE
        return V.RESET if reset_check(s, e) else V.OUTSIDE_RST
    if e.rst:
        if e.seq == s.rcv_nxt or reset_check(s, e) or (s.sack_ok and s.ofo and e.seq == s.max_sack):
            return V.RESET
        return V.RST_CHALLENGE
    if e.syn and not crossed_synack(s, e):
        return V.SYN_CHALLENGE
    if before(e.ack_seq, s.snd_una):
        return V.ACK_TOO_OLD if before(e.ack_seq, old_ack_floor(s)) else V.ACK_OLD
    if after(e.ack_seq, s.snd_nxt):
        return V.ACK_UNSENT
    return V.ACK_OK


@pure
def accepted(s: Sock, e: Seg, p: TcpParams) -> bool:
    """The segment passes: its ACK is news, a duplicate or harmlessly old."""
    return verdict(s, e, p) in (V.ACK_OK, V.ACK_OLD)


@pure
def all_acked(s: Sock, e: Seg) -> bool:
    """After this segment everything that we queued is acknowledged."""
    return (e.ack_seq if after(e.ack_seq, s.snd_una) else s.snd_una) == s.write_seq


@pure
def beyond(s: Sock, e: Seg) -> bool:
    """The segment carries data after rcv_nxt, its FIN not counted."""
    return end_seq(e) != e.seq and after((end_seq(e) - e.fin) & M32, s.rcv_nxt)


@pure
def closing_for(st: St) -> bool:
    """Our FIN isn't acknowledged yet; source net/core/stream.c:sk_stream_closing."""
    return st in CLOSING_STATES


# ---------------------------------------------------------------- SYN_SENT


class SV(IntEnum):
    """What tcp_rcv_synsent_state_process makes of a segment."""

    BAD_ACK = 0
    BAD_TSECR = 1
    REFUSED = 2
    NO_SYN = 3
    SYNACK = 4
    RST = 5
    PAWS = 6
    CROSSED = 7
    NOTHING = 8


@pure
def synsent_verdict(s: Sock, e: Seg, p: TcpParams) -> SV:
    """The checks of a socket that has sent its SYN, in order."""
    if e.ack:
        if not after(e.ack_seq, s.snd_una) or after(e.ack_seq, s.snd_nxt):
            return SV.BAD_ACK
        if saw_tstamp(e, p) and e.tsecr != 0 and not between(e.tsecr, s.ts_syn, e.ts_now):
            return SV.BAD_TSECR
        if e.rst:
            return SV.REFUSED
        return SV.SYNACK if e.syn else SV.NO_SYN
    if e.rst:
        return SV.RST
    if s.ts_recent_stamp != 0 and saw_tstamp(e, p) and paws_old(s.ts_recent, s.ts_recent_stamp, e, 0, p):
        return SV.PAWS
    return SV.CROSSED if e.syn else SV.NOTHING


# ---------------------------------------------------------------- LISTEN


class LV(IntEnum):
    """What a listener makes of a segment that belongs to no request."""

    RST = 0
    COOKIE = 1
    COOKIE_FULL = 2
    RESET = 3
    FLAGS = 4
    DROP_SYNQ = 5
    DROP_ACCEPTQ = 6
    DROP_UNPROVEN = 7
    SEND_COOKIE = 8
    REQUEST = 9


@pure
def listen_verdict(e: Seg, from_tw: bool, p: TcpParams) -> LV:
    """tcp_v4_cookie_check, the LISTEN case of tcp_rcv_state_process, then tcp_conn_request, in order.

    `from_tw`: the SYN takes a TIME_WAIT socket's place and skips the limits of the SYN queue.
    """
    if not e.syn and e.ack and not e.rst and p.tcp_syncookies != 0 and e.cookie_recent and e.cookie:
        return LV.COOKIE_FULL if e.acceptq_full else LV.COOKIE
    if e.rst:
        return LV.RST
    if e.ack:
        return LV.RESET
    if not e.syn or e.fin:
        return LV.FLAGS
    wants_cookie = not from_tw and (p.tcp_syncookies == 2 or e.synq_full)
    if wants_cookie and not e.flood_action:
        return LV.DROP_SYNQ
    if e.acceptq_full:
        return LV.DROP_ACCEPTQ
    if wants_cookie:
        return LV.SEND_COOKIE
    return LV.DROP_UNPROVEN if not from_tw and p.tcp_syncookies == 0 and not e.proven else LV.REQUEST


# ---------------------------------------------------------------- small sockets


@pure
def in_window(seq: int, end: int, s_win: int, e_win: int) -> bool:
    """[seq, end) touches [s_win, e_win); source tcp_minisocks.c:tcp_in_window."""
    return seq == s_win or (after(end, s_win) and before(seq, e_win)) or (seq == e_win and seq == end)


class RV(IntEnum):
    """What tcp_check_req makes of a segment."""

    DUP_SYN = 0
    BAD_ACK = 1
    OUTSIDE = 2
    RST_CHALLENGE = 3
    RST = 4
    SYN = 5
    NO_ACK = 6
    DEFER = 7
    OVERFLOW = 8
    ESTABLISH = 9


@pure
def synack_window(s: Req, p: TcpParams) -> int:
    """The window that the SYN-ACK offered, which is unscaled; source include/net/request_sock.h:tcp_synack_window."""
    return min(s.rsk_rcv_wnd, 65535) if p.kernel >= 612 else s.rsk_rcv_wnd


@pure
def req_paws(s: Req, e: Seg, p: TcpParams) -> bool:
    """PAWS against the SYN's timestamp, whose age is taken to be the request's timeout.

    Source: tcp_minisocks.c:tcp_check_req.

    That age is at most 120 s: too short for a wrapped clock, long enough after one retry to let an RST pass.
    """
    older = (s.ts_recent - e.tsval) & M32
    relaxed = e.rst and reqsk_timeout(s.timeout, s.num_timeout) >= TCP_PAWS_MSL * 1_000_000
    return e.ts and older > 0 and older < H32 and s.ts_recent != 0 and not relaxed


@pure
def backed_off(base: int, backoff: int, limit: int) -> int:
    """`base` doubled `backoff` times, at most `limit` (us)."""
    return min(base << min(backoff, 10), limit)


@pure
def reqsk_timeout(base: int, num_timeout: int) -> int:
    """How long the request's timer runs (us); source include/net/inet_connection_sock.h:reqsk_timeout."""
    return backed_off(base, num_timeout, 120_000_000)


@pure
def req_verdict(s: Req, e: Seg, p: TcpParams) -> RV:
    """The checks of a request, in order."""
    paws = req_paws(s, e, p)
    nxt = add(s.rcv_isn, 1)
    if e.seq == s.rcv_isn and e.syn and not e.ack and not e.rst and not paws:
        return RV.DUP_SYN
    if e.ack and not e.rst and e.ack_seq != add(s.snt_isn, 1):
        return RV.BAD_ACK
    if paws or not in_window(e.seq, end_seq(e), nxt, add(nxt, synack_window(s, p))):
        return RV.OUTSIDE
    if e.rst:
        return RV.RST if e.seq == nxt else RV.RST_CHALLENGE
    if e.syn and e.seq != s.rcv_isn:
        return RV.SYN
    if not e.ack:
        return RV.NO_ACK
    if s.num_timeout < e.defer_accept and end_seq(e) == nxt:
        return RV.DEFER
    return RV.OVERFLOW if e.acceptq_full else RV.ESTABLISH


class TV(IntEnum):
    """What tcp_timewait_state_process makes of a segment."""

    OUTSIDE = 0
    KILL = 1
    RST = 2
    IGNORE = 3
    FIN = 4
    REFRESH = 5
    RFC1337 = 6
    SYN = 7
    ACK = 8


@pure
def tw_paws(s: Tw, e: Seg, p: TcpParams) -> bool:
    """PAWS of a TIME_WAIT socket; source tcp_minisocks.c:tcp_timewait_state_process."""
    return tw_saw_tstamp(s, e, p) and paws_reject(s.tw_ts_recent, s.tw_ts_recent_stamp, e, p)


@pure
def tw_verdict(s: Tw, e: Seg, p: TcpParams) -> TV:
    """The checks of a TIME_WAIT socket, in order; the first half is for those that wait in FIN_WAIT2."""
    paws = tw_paws(s, e, p)
    end = end_seq(e)
    if s.tw_substate == St.FIN_WAIT2:
        if paws or not in_window(e.seq, end, s.tw_rcv_nxt, add(s.tw_rcv_nxt, s.tw_rcv_wnd)):
            return TV.OUTSIDE
        if e.rst:
            return TV.KILL
        if e.syn and not before(e.seq, s.tw_rcv_nxt):
            return TV.RST
        if not e.ack or not after(end, s.tw_rcv_nxt) or end == e.seq:
            return TV.IGNORE
        return TV.FIN if e.fin and end == add(s.tw_rcv_nxt, 1) else TV.RST
    if not paws and e.seq == s.tw_rcv_nxt and (e.seq == end or e.rst):
        if not e.rst:
            return TV.REFRESH
        return TV.RFC1337 if p.tcp_rfc1337 else TV.KILL
    newer = tw_saw_tstamp(s, e, p) and before(s.tw_ts_recent, e.tsval)
    if e.syn and not e.rst and not e.ack and not paws and (after(e.seq, s.tw_rcv_nxt) or newer):
        return TV.SYN
    return TV.IGNORE if e.rst else TV.ACK
