"""What is left of a connection: the small socket in TIME_WAIT, or in FIN_WAIT2 after its owner went.

The law: it answers what it doesn't understand with an ACK, dies by its timer, by an RST or by a new SYN, and never
delivers anything. Its four outcomes are the kernel's TCP_TW_SUCCESS, TCP_TW_ACK, TCP_TW_RST and TCP_TW_SYN.
"""

from msgspec.structs import replace

from refmodel.rule import Mib, pure, require, rule, step
from refmodel.tcp.checks import LV, TV, end_seq, listen_verdict, oow_limited, tw_paws, tw_saw_tstamp, tw_verdict
from refmodel.tcp.events import ReqQueued, Seg, TwTimer, Tx
from refmodel.tcp.listen import request, synack_segment
from refmodel.tcp.output import Effects
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import TCP_TIMEWAIT_LEN, Req, Sock, St, Tw
from refmodel.types import add


@pure
def forgotten() -> Sock:
    """The address pair after its last socket is gone."""
    return Sock(state=St.CLOSE)


@pure
def stamped(s: Tw, e: Seg, p: TcpParams) -> Tw:
    """The segment's timestamp is the connection's latest."""
    seen = tw_saw_tstamp(s, e, p)
    return replace(
        s,
        tw_ts_recent=e.tsval if seen else s.tw_ts_recent,
        tw_ts_recent_stamp=e.secs if seen else s.tw_ts_recent_stamp,
    )


@step("net/ipv4/tcp_ipv4.c:tcp_v4_timewait_ack")
def tw_ack(s: Tw) -> tuple[Tw, Effects]:
    """The small socket tells the peer where the connection ended."""
    return s, (
        Tx(
            seq=s.tw_snd_nxt,
            ack_seq=s.tw_rcv_nxt,
            ack=True,
            win=s.tw_rcv_wnd,
            shift=s.tw_rcv_wscale,
            ts=s.tw_ts_recent != 0,
            tsecr=s.tw_ts_recent,
        ),
    )


@step("net/ipv4/tcp_minisocks.c:tcp_timewait_check_oow_rate_limit")
def tw_ack_limited(s: Tw, e: Seg, p: TcpParams) -> tuple[Tw, Effects]:
    """The same within the rate; data without SYN isn't limited."""
    limited = end_seq(e) == e.seq or e.syn
    if limited and oow_limited(s.tw_last_oow_ack_time, e.now, p):
        return s, ()
    return tw_ack(replace(s, tw_last_oow_ack_time=max(e.now, 1) if limited else s.tw_last_oow_ack_time))


@rule("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "RFC 9293 3.10.7.4", at=St.FIN_WAIT2)
def tw_outside(s: Tw, e: Seg, p: TcpParams) -> tuple[Tw, Effects]:
    """In FIN_WAIT2 a segment outside the window or from the past gets an ACK, even if it is an RST."""
    require(tw_verdict(s, e, p) == TV.OUTSIDE, "a segment outside the window, or a timestamp from the past")
    return tw_ack_limited(s, e, p)


@rule("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "RFC 9293 3.10.7.4", at=(St.FIN_WAIT2, St.TIME_WAIT))
def tw_kill(s: Tw, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """An RST ends it: anywhere in the window in FIN_WAIT2, at rcv_nxt alone in TIME_WAIT."""
    require(tw_verdict(s, e, p) == TV.KILL, "an RST that is believed")
    return forgotten(), ()


@rule("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "RFC 1122 4.2.2.13", at=St.FIN_WAIT2)
def tw_reset(s: Tw, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """In FIN_WAIT2 new data that nobody will read, or a SYN in the window, is answered by an RST and ends it."""
    require(tw_verdict(s, e, p) == TV.RST, "new data or a SYN in the window")
    if e.ack:
        return forgotten(), (Tx(seq=e.ack_seq, rst=True),)
    return forgotten(), (Tx(ack_seq=end_seq(e), ack=True, rst=True),)


@rule("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "RFC 9293 3.10.7.4", at=(St.FIN_WAIT2, St.TIME_WAIT))
def tw_ignore(s: Tw, e: Seg, p: TcpParams) -> tuple[Tw, Effects]:
    """Nothing new in FIN_WAIT2, or an RST elsewhere in TIME_WAIT, is dropped."""
    require(tw_verdict(s, e, p) == TV.IGNORE, "nothing new, or an RST that isn't believed")
    return s, ()


@rule("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "RFC 9293 3.10.7.4", at=St.FIN_WAIT2)
def tw_fin(s: Tw, e: Seg, p: TcpParams) -> tuple[Tw, Effects]:
    """The peer's FIN, alone and in order, turns FIN_WAIT2 into TIME_WAIT for 60 s and is acknowledged."""
    require(tw_verdict(s, e, p) == TV.FIN, "the peer's FIN at rcv_nxt without data")
    t = replace(
        stamped(s, e, p),
        tw_substate=St.TIME_WAIT,
        tw_rcv_nxt=end_seq(e),
        tw_timeout=e.now + TCP_TIMEWAIT_LEN,
    )
    return tw_ack(t)


@rule("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "RFC 9293 3.10.7.4", at=St.TIME_WAIT)
def tw_refresh(s: Tw, e: Seg, p: TcpParams) -> tuple[Tw, Effects]:
    """A bare segment at rcv_nxt starts the 60 s again, silently."""
    require(tw_verdict(s, e, p) == TV.REFRESH, "a bare segment at rcv_nxt")
    return replace(stamped(s, e, p), tw_timeout=e.now + TCP_TIMEWAIT_LEN), ()


@rule("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "RFC 1337 4", at=St.TIME_WAIT)
def tw_rfc1337(s: Tw, e: Seg, p: TcpParams) -> tuple[Tw, Effects]:
    """With tcp_rfc1337 an RST at rcv_nxt doesn't end TIME_WAIT."""
    require(tw_verdict(s, e, p) == TV.RFC1337, "an RST at rcv_nxt with tcp_rfc1337")
    return stamped(s, e, p), ()


@pure
def reuse_isn(s: Tw) -> int:
    """Where a connection that takes the place of this one starts: beyond all that was sent, and never 0."""
    isn = add(s.tw_snd_nxt, 65537)
    return isn if isn != 0 else 1


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_rcv", "RFC 6191 2", "RFC 1122 4.2.2.13", at=St.TIME_WAIT)
def tw_syn(s: Tw, e: Seg, p: TcpParams) -> tuple[Req, Effects]:
    """A newer SYN to a listener takes the place of TIME_WAIT: its request starts beyond the old sequence numbers."""
    require(tw_verdict(s, e, p) == TV.SYN and e.listener, "a SYN newer than this connection, and a listener")
    require(listen_verdict(e, True, p) == LV.REQUEST, "the accept queue has room")
    r = request(e, reuse_isn(s), False, p)
    return r, (synack_segment(r), ReqQueued())


@rule("net/ipv4/tcp_input.c:tcp_conn_request", at=St.TIME_WAIT)
def tw_syn_dropped(s: Tw, e: Seg, p: TcpParams) -> tuple[Sock, Effects]:
    """A newer SYN ends TIME_WAIT even if the listener then drops it."""
    require(tw_verdict(s, e, p) == TV.SYN and e.listener, "a SYN newer than this connection, and a listener")
    require(listen_verdict(e, True, p) != LV.REQUEST, "the listener refuses the SYN")
    if e.fin:
        return Sock(state=St.LISTEN), ()
    return Sock(state=St.LISTEN), (Mib(name="TcpExtListenOverflows"), Mib(name="TcpExtListenDrops"))


@rule("net/ipv4/tcp_ipv4.c:tcp_v4_rcv", at=St.TIME_WAIT)
def tw_syn_ack(s: Tw, e: Seg, p: TcpParams) -> tuple[Tw, Effects]:
    """A newer SYN that no listener wants gets an ACK."""
    require(tw_verdict(s, e, p) == TV.SYN and not e.listener, "a SYN newer than this connection, and no listener")
    return tw_ack(s)


@rule("net/ipv4/tcp_minisocks.c:tcp_timewait_state_process", "RFC 9293 3.10.7.4", at=St.TIME_WAIT)
def tw_answer(s: Tw, e: Seg, p: TcpParams) -> tuple[Tw, Effects]:
    """Anything else gets an ACK, within the rate, and starts the 60 s again unless it is an old SYN."""
    require(tw_verdict(s, e, p) == TV.ACK, "a segment that TIME_WAIT answers")
    again = e.ack or tw_paws(s, e, p)
    return tw_ack_limited(replace(s, tw_timeout=e.now + TCP_TIMEWAIT_LEN if again else s.tw_timeout), e, p)


@rule("net/ipv4/inet_timewait_sock.c:tw_timer_handler", "RFC 9293 3.10.8")
def tw_timer(s: Tw, e: TwTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """When its time is over the small socket is forgotten."""
    require(e.now >= s.tw_timeout, "the time is over")
    return forgotten(), ()


@rule("net/ipv4/inet_timewait_sock.c:tw_timer_handler")
def tw_timer_early(s: Tw, e: TwTimer, p: TcpParams) -> tuple[Tw, Effects]:
    """Before its time the timer does nothing."""
    require(e.now < s.tw_timeout, "the time isn't over")
    return s, ()
