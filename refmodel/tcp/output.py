"""What leaves: segments, their window, and the transmit timer that watches over them.

The law: every segment of a full socket goes through `transmit`, so each carries the current rcv_nxt, settles the
acknowledgment that is owed and remembers the window that it advertised. The transmit timer is armed exactly while
something is unacknowledged (RETRANS) or waits to be sent (PROBE0); `rearm` and `check_probe` keep it so.
"""

from typing import Any

from msgspec.structs import replace

from refmodel.rule import Mib, pure, require, rule
from refmodel.tcp.checks import in_flight, receive_window, unsent, wnd_end
from refmodel.tcp.events import DelackTimer, Output, Retransmit, SendAck, Tx
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import FULL, MAX_WND, OPEN, SENDING, TCP_RTO_MAX, TCP_RTO_MIN, Pending, Sock
from refmodel.types import H32, M32, NEVER, add, before

Effects = tuple[Any, ...]


@pure
def select_window(s: Sock, space: int, p: TcpParams) -> int:
    """The window to advertise: what is promised, rounded up to the scale, or more.

    Source: tcp_output.c:tcp_select_window.
    """
    if s.ack_nomem:
        return 0
    current = receive_window(s)
    shrinks = p.tcp_shrink_window and s.rcv_wscale != 0
    return space if space >= current or shrinks else min(scaled_up(current, s.rcv_wscale), MAX_WND)


@pure
def scaled_up(window: int, shift: int) -> int:
    """`window` rounded up to what the header can say (bytes)."""
    return ((window + (1 << shift) - 1) >> shift) << shift


@pure
def acceptable_seq(s: Sock) -> int:
    """Where a segment without data stands: snd_nxt, or the right edge if the peer pulled it back."""
    edge = wnd_end(s)
    if not before(edge, s.snd_nxt):
        return s.snd_nxt
    return s.snd_nxt if s.wscale_ok and ((s.snd_nxt - edge) & M32) < (1 << s.rcv_wscale) else edge


def transmit(s: Sock, seq: int, length: int, fin: bool, rst: bool, space: int, p: TcpParams) -> tuple[Sock, Effects]:
    """A segment without SYN leaves, acknowledges rcv_nxt and settles what was owed.

    Source: tcp_output.c:__tcp_transmit_skb.
    """
    win = select_window(s, space, p)
    out = replace(s, rcv_wup=s.rcv_nxt, rcv_wnd=win, ack_sched=False, ack_nomem=False, ack_timeout=NEVER)
    return out, (
        Tx(
            seq=seq,
            ack_seq=s.rcv_nxt,
            len=length,
            ack=True,
            fin=fin,
            rst=rst,
            win=win,
            shift=s.rcv_wscale,
            ts=s.ts_ok,
            tsecr=s.ts_recent,
        ),
    )


def tcp_send_ack(s: Sock, space: int, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment without data; source net/ipv4/tcp_output.c:__tcp_send_ack."""
    return transmit(s, acceptable_seq(s), 0, False, False, space, p)


def tcp_send_active_reset(s: Sock, space: int, p: TcpParams) -> tuple[Sock, Effects]:
    """An RST of our own accord, with ACK, window and timestamp; source net/ipv4/tcp_output.c:tcp_send_active_reset."""
    return transmit(s, acceptable_seq(s), 0, False, True, space, p)


@pure
def syn_segment(s: Sock, ack: bool, p: TcpParams) -> Tx:
    """Our SYN, or SYN-ACK of a simultaneous open; its window is unscaled; source tcp_output.c:tcp_syn_options."""
    return Tx(
        seq=s.snd_una,
        ack_seq=s.rcv_nxt if ack else 0,
        syn=True,
        ack=ack,
        win=min(s.rcv_wnd, 65535),
        ts=p.tcp_timestamps != 0,
        tsecr=s.ts_recent if p.tcp_timestamps != 0 else 0,
        mss=s.advmss,
        wscale_ok=p.tcp_window_scaling,
        wscale=s.rcv_wscale if p.tcp_window_scaling else 0,
        sack_ok=p.tcp_sack,
    )


# ---------------------------------------------------------------- the transmit timer


@pure
def probe0_base(rto: int) -> int:
    """The first interval of window probes (us); source include/net/tcp.h:tcp_probe0_base."""
    return max(rto, TCP_RTO_MIN)


@pure
def probe0_when(rto: int, backoff: int) -> int:
    """The interval to the next window probe (us); source include/net/tcp.h:tcp_probe0_when."""
    return min(probe0_base(rto) << min(backoff, 10), TCP_RTO_MAX)


@pure
def check_probe(s: Sock, now: int) -> Sock:
    """With data queued and nothing in flight the peer's window will be probed.

    Source: include/net/tcp.h:tcp_check_probe_timer.
    """
    arm = s.icsk_pending == Pending.NONE and in_flight(s) == 0 and unsent(s) != 0
    return replace(
        s,
        icsk_pending=Pending.PROBE0 if arm else s.icsk_pending,
        icsk_timeout=now + probe0_base(s.icsk_rto) if arm else s.icsk_timeout,
    )


@pure
def rearm_rto(s: Sock, now: int) -> Sock:
    """The retransmit timer starts again if something is in flight, else it stops; source tcp_input.c:tcp_rearm_rto."""
    fly = in_flight(s) != 0
    return replace(
        s,
        icsk_pending=Pending.RETRANS if fly else Pending.NONE,
        icsk_timeout=now + s.icsk_rto if fly else NEVER,
    )


# ---------------------------------------------------------------- sending


@pure
def may_send(s: Sock, n: int) -> bool:
    """`n` sequence numbers are queued and the peer's window takes them, a FIN too.

    Source: tcp_output.c:tcp_snd_wnd_test.
    """
    room = (wnd_end(s) - s.snd_nxt) & M32
    return n != 0 and n <= unsent(s) and n <= room and room < H32


@rule("net/ipv4/tcp_output.c:tcp_write_xmit", "RFC 9293 3.8.6", at=SENDING)
def output(s: Sock, e: Output, p: TcpParams) -> tuple[Sock, Effects]:
    """Queued data that the window admits leaves, with the FIN if it is the last."""
    require(may_send(s, e.n), "queued data fits into the peer's window")
    fin = s.fin_queued and e.n == unsent(s)
    idle = in_flight(s) == 0
    t, fx = transmit(s, s.snd_nxt, e.n - fin, fin, False, e.space, p)
    t = replace(
        t,
        snd_nxt=add(s.snd_nxt, e.n),
        icsk_pending=Pending.RETRANS,
        icsk_timeout=e.now + s.icsk_rto if idle else s.icsk_timeout,
    )
    return t, fx


@rule("net/ipv4/tcp_output.c:tcp_write_xmit", at=SENDING)
def output_blocked(s: Sock, e: Output, p: TcpParams) -> tuple[Sock, Effects]:
    """Nothing is queued, or the peer's window is closed for it: nothing leaves."""
    require(not may_send(s, e.n), "nothing queued fits into the peer's window")
    return s, ()


@rule("net/ipv4/tcp_output.c:tcp_write_xmit", at=[x for x in FULL if x not in SENDING])
def output_nothing(s: Sock, e: Output, p: TcpParams) -> tuple[Sock, Effects]:
    """In a state without a write queue nothing leaves."""
    return s, ()


@pure
def in_rtx_queue(s: Sock, off: int, n: int) -> bool:
    """[snd_una + off, + n) was sent and isn't acknowledged, and our SYN isn't part of it."""
    return n != 0 and off + n <= in_flight(s) and not s.syn_out


@rule("net/ipv4/tcp_output.c:__tcp_retransmit_skb", "RFC 8985 6", "RFC 6675 5", at=SENDING)
def retransmit(s: Sock, e: Retransmit, p: TcpParams) -> tuple[Sock, Effects]:
    """Loss recovery sends a part of the retransmit queue again."""
    require(in_rtx_queue(s, e.off, e.n), "the range is in the retransmit queue")
    fin = s.fin_queued and s.snd_nxt == s.write_seq and e.off + e.n == in_flight(s)
    t, fx = transmit(s, add(s.snd_una, e.off), e.n - fin, fin, False, e.space, p)
    t = replace(t, retrans_stamp=max(e.now, 1) if s.retrans_stamp == 0 else s.retrans_stamp)
    return t, (*fx, Mib(name="TcpRetransSegs"))


@rule("net/ipv4/tcp_output.c:__tcp_retransmit_skb", at=SENDING)
def retransmit_gone(s: Sock, e: Retransmit, p: TcpParams) -> tuple[Sock, Effects]:
    """What is no longer in the retransmit queue isn't sent again."""
    require(not in_rtx_queue(s, e.off, e.n), "the range isn't in the retransmit queue")
    return s, ()


@rule("net/ipv4/tcp_output.c:__tcp_retransmit_skb", at=[x for x in FULL if x not in SENDING])
def retransmit_nothing(s: Sock, e: Retransmit, p: TcpParams) -> tuple[Sock, Effects]:
    """Outside the sending states loss recovery has nothing to send."""
    return s, ()


# ---------------------------------------------------------------- acknowledgments that were put off


@rule("net/ipv4/tcp_output.c:tcp_release_cb", "net/ipv4/tcp_timer.c:tcp_compressed_ack_kick", at=OPEN)
def send_ack(s: Sock, e: SendAck, p: TcpParams) -> tuple[Sock, Effects]:
    """An acknowledgment that was owed and put off leaves."""
    require(s.ack_sched, "an acknowledgment is owed")
    return tcp_send_ack(s, e.space, p)


@rule("net/ipv4/tcp_output.c:tcp_release_cb", at=FULL)
def send_ack_nothing(s: Sock, e: SendAck, p: TcpParams) -> tuple[Sock, Effects]:
    """Without an acknowledgment that is owed, none leaves."""
    require(not (s.state in OPEN and s.ack_sched), "no acknowledgment is owed")
    return s, ()


@rule("net/ipv4/tcp_timer.c:tcp_delack_timer_handler", "RFC 9293 3.8.6.3", "RFC 1122 4.2.3.2", at=OPEN)
def delack_timer(s: Sock, e: DelackTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """The delayed acknowledgment is due."""
    require(s.ack_sched and s.ack_timeout <= e.now, "the delayed-ACK timer is due")
    t, fx = tcp_send_ack(s, e.space, p)
    return t, (*fx, Mib(name="TcpExtDelayedACKs"))


@rule("net/ipv4/tcp_timer.c:tcp_delack_timer_handler", at=FULL)
def delack_timer_nothing(s: Sock, e: DelackTimer, p: TcpParams) -> tuple[Sock, Effects]:
    """The delayed-ACK timer finds nothing to do, or fires early and waits on."""
    require(
        not (s.state in OPEN and s.ack_sched and s.ack_timeout <= e.now),
        "the delayed-ACK timer isn't due",
    )
    return s, ()


@pure
def stopped(s: Sock) -> Sock:
    """Every timer of the socket is off; source tcp_output.c:tcp_clear_xmit_timers."""
    return replace(
        s,
        icsk_pending=Pending.NONE,
        icsk_timeout=NEVER,
        ack_sched=False,
        ack_nomem=False,
        ack_timeout=NEVER,
        keepalive_timeout=NEVER,
    )
