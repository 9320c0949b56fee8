"""The congestion window: what every congestion control shares, and reno.

The law: the window is at least 1 and at most `snd_cwnd_clamp` where it grows; it grows only while it limits the sender;
a loss sets `snd_ssthresh`, never below 2. Windows count segments; `snd_cwnd_stamp` and `now` are jiffies.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import Effect, State, pure, step
from refmodel.types import H32, M32, Range, after, before, near, u32

Effects = tuple[Effect, ...]

TCP_INIT_CWND: Final = 10
TCP_INFINITE_SSTHRESH: Final = 0x7FFFFFFF

Window = Annotated[int, Range(1, TCP_INFINITE_SSTHRESH)]
Threshold = Annotated[int, Range(2, TCP_INFINITE_SSTHRESH)]
Segments = Annotated[int, Range(0, 2**29)]


class CA(IntEnum):
    """The states of loss recovery; source include/uapi/linux/tcp.h:tcp_ca_state."""

    TCP_CA_Open = 0
    TCP_CA_Disorder = 1
    TCP_CA_CWR = 2
    TCP_CA_Recovery = 3
    TCP_CA_Loss = 4


class Cwnd(State, frozen=True):
    """The congestion window of one sender and what its bookkeeping needs. All counts are segments."""

    AT: ClassVar[str] = "ca_state"

    ca_state: CA = CA.TCP_CA_Open
    snd_cwnd: Window = TCP_INIT_CWND
    snd_ssthresh: Threshold = TCP_INFINITE_SSTHRESH
    snd_cwnd_cnt: u32 = 0
    snd_cwnd_clamp: Annotated[int, Range(1, M32)] = M32
    snd_cwnd_used: Segments = 0
    snd_cwnd_stamp: u32 = 0
    prior_cwnd: Annotated[int, Range(0, TCP_INFINITE_SSTHRESH)] = 0
    prior_ssthresh: Annotated[int, Range(0, TCP_INFINITE_SSTHRESH)] = 0
    is_cwnd_limited: bool = False
    max_packets_out: Segments = 0
    cwnd_usage_seq: u32 = 0
    high_seq: Annotated[int, Range(0, M32), near("cwnd_usage_seq")] = 0
    undo: bool = False
    """`undo_marker` is set: there is a reduction that may be taken back."""
    prr_delivered: Segments = 0
    prr_out: Segments = 0


# ---------------------------------------------------------------- what the window is


@pure
def tcp_init_cwnd(initcwnd: int, clamp: int) -> int:
    """The window to start with: the route's initcwnd, else 10; source net/ipv4/tcp_input.c:tcp_init_cwnd, RFC 6928."""
    return min(initcwnd if initcwnd != 0 else TCP_INIT_CWND, clamp)


@pure
def transfer_cwnd(initcwnd: int, clamp: int, total_retrans: int, undo: bool) -> int:
    """The window after the handshake: 1 if more than one SYN or SYN-ACK was repeated.

    Source net/ipv4/tcp_input.c:tcp_init_transfer, RFC 5681 3.1.
    """
    return 1 if total_retrans > 1 and undo else tcp_init_cwnd(initcwnd, clamp)


@pure
def tcp_in_slow_start(s: Cwnd) -> bool:
    """The window is below the threshold; source include/net/tcp.h:tcp_in_slow_start."""
    return s.snd_cwnd < s.snd_ssthresh


@pure
def tcp_in_cwnd_reduction(s: Cwnd) -> bool:
    """The window is being reduced, segment by segment; source include/net/tcp.h:tcp_in_cwnd_reduction."""
    return s.ca_state in (CA.TCP_CA_CWR, CA.TCP_CA_Recovery)


@pure
def tcp_current_ssthresh(s: Cwnd) -> int:
    """The threshold that is worth keeping: three quarters of the window or more, unless it is being reduced.

    Source include/net/tcp.h:tcp_current_ssthresh.
    """
    if tcp_in_cwnd_reduction(s):
        return s.snd_ssthresh
    return max(s.snd_ssthresh, (s.snd_cwnd >> 1) + (s.snd_cwnd >> 2))


@pure
def tcp_is_cwnd_limited(s: Cwnd) -> bool:
    """The window limits the sender; in slow start it is enough that half of it was used.

    Source include/net/tcp.h:tcp_is_cwnd_limited, RFC 2861.
    """
    return s.is_cwnd_limited or (tcp_in_slow_start(s) and s.snd_cwnd < 2 * s.max_packets_out)


@pure
def tcp_may_raise_cwnd(reordering: int, tcp_reordering: int, forward_progress: bool, data_acked: bool) -> bool:
    """An ACK may raise the window: in order, or by any progress on a path that is known to reorder.

    Source net/ipv4/tcp_input.c:tcp_may_raise_cwnd.
    """
    return forward_progress if reordering > tcp_reordering else data_acked


# ---------------------------------------------------------------- growth


@pure
def slow_start_window(s: Cwnd, acked: int) -> int:
    """Where slow start takes the window, before its clamp."""
    return min(s.snd_cwnd + acked, s.snd_ssthresh)


@step("net/ipv4/tcp_cong.c:tcp_slow_start", "RFC 5681 3.1")
def tcp_slow_start(s: Cwnd, acked: int) -> tuple[Cwnd, Effects]:
    """Each acknowledged segment makes room for one more, up to the threshold."""
    return replace(s, snd_cwnd=min(slow_start_window(s, acked), s.snd_cwnd_clamp)), ()


@pure
def slow_start_leftover(s: Cwnd, acked: int) -> int:
    """Of `acked` segments, those that slow start had no use for: congestion avoidance counts them."""
    return acked - (slow_start_window(s, acked) - s.snd_cwnd)


@step("net/ipv4/tcp_cong.c:tcp_cong_avoid_ai", "RFC 5681 3.1")
def tcp_cong_avoid_ai(s: Cwnd, w: int, acked: int) -> tuple[Cwnd, Effects]:
    """Every `w` acknowledged segments make room for one more; credit from a greater `w` counts for one at most."""
    spend = s.snd_cwnd_cnt >= w
    cnt = (0 if spend else s.snd_cwnd_cnt) + acked
    cwnd = s.snd_cwnd + (1 if spend else 0) + cnt // w
    return replace(s, snd_cwnd=min(cwnd, s.snd_cwnd_clamp), snd_cwnd_cnt=cnt % w), ()


@step("net/ipv4/tcp_cong.c:tcp_reno_cong_avoid", "net/ipv4/tcp_input.c:tcp_cong_avoid", "RFC 5681 3.1")
def tcp_reno_cong_avoid(s: Cwnd, acked: int, now: int) -> tuple[Cwnd, Effects]:
    """Reno grows by slow start and then by one segment in a round trip, while the window limits the sender."""
    t, left = s, acked
    if tcp_is_cwnd_limited(s):
        if tcp_in_slow_start(s):
            left = slow_start_leftover(s, acked)
            t, _ = tcp_slow_start(s, acked)
        if left > 0:
            t, _ = tcp_cong_avoid_ai(t, t.snd_cwnd, left)
    return replace(t, snd_cwnd_stamp=now), ()


@pure
def tcp_reno_ssthresh(s: Cwnd) -> int:
    """Half the window, 2 at least; source net/ipv4/tcp_cong.c:tcp_reno_ssthresh, RFC 5681 3.1."""
    return max(s.snd_cwnd >> 1, 2)


@pure
def tcp_reno_undo_cwnd(s: Cwnd) -> int:
    """The window as it was before a reduction that proved wrong; source net/ipv4/tcp_cong.c:tcp_reno_undo_cwnd."""
    return max(s.snd_cwnd, s.prior_cwnd)


# ---------------------------------------------------------------- a window that isn't used


@pure
def idle_periods(idle: int, icsk_rto: int) -> int:
    """How often the window halves after `idle` > 0 jiffies of silence: once for each whole timeout, bar the first.

    Source net/ipv4/tcp_output.c:tcp_cwnd_restart. A window of 32 bits is gone after 31.
    """
    return min((idle - 1) // icsk_rto, 31)


@pure
def slow_start_after_idle(idle: int, icsk_rto: int, packets_out: int, enabled: bool) -> bool:
    """Silence outlasted a timeout, nothing is out; source include/net/tcp.h:tcp_slow_start_after_idle_check."""
    return enabled and packets_out == 0 and idle > icsk_rto


@step("net/ipv4/tcp_output.c:tcp_cwnd_restart", "RFC 2861 3.2")
def tcp_cwnd_restart(s: Cwnd, periods: int, initcwnd: int, now: int) -> tuple[Cwnd, Effects]:
    """After silence the window has halved `periods` times, down to the initial one; the threshold remembers it."""
    restart = min(tcp_init_cwnd(initcwnd, s.snd_cwnd_clamp), s.snd_cwnd)
    t = replace(
        s,
        snd_ssthresh=tcp_current_ssthresh(s),
        snd_cwnd=max(s.snd_cwnd >> periods, restart),
        snd_cwnd_stamp=now,
        snd_cwnd_used=0,
    )
    return t, ()


@step("net/ipv4/tcp_output.c:tcp_cwnd_application_limited", "RFC 2861 3.2")
def tcp_cwnd_application_limited(s: Cwnd, initcwnd: int, now: int, nospace: bool) -> tuple[Cwnd, Effects]:
    """A window that was not full for a timeout falls half-way to its use; not in recovery, nor for want of memory."""
    open_ = s.ca_state == CA.TCP_CA_Open and not nospace
    used = max(s.snd_cwnd_used, tcp_init_cwnd(initcwnd, s.snd_cwnd_clamp))
    falls = open_ and used < s.snd_cwnd
    t = replace(
        s,
        snd_ssthresh=tcp_current_ssthresh(s) if falls else s.snd_ssthresh,
        snd_cwnd=(s.snd_cwnd + used) >> 1 if falls else s.snd_cwnd,
        snd_cwnd_used=0 if open_ else s.snd_cwnd_used,
        snd_cwnd_stamp=now,
    )
    return t, ()


@step("net/ipv4/tcp_output.c:tcp_cwnd_validate", "RFC 2861 3.2")
def tcp_cwnd_validate(
    s: Cwnd,
    limited: bool,
    packets_out: int,
    snd_una: int,
    snd_nxt: int,
    now: int,
    icsk_rto: int,
    after_idle: bool,
    nospace: bool,
    initcwnd: int,
) -> tuple[Cwnd, Effects]:
    """After sending, how full the window was is remembered until what was sent is acknowledged.

    `limited`: the window, nothing else, stopped the sender. `after_idle` is the sysctl tcp_slow_start_after_idle.
    """
    news = (
        not before(snd_una, s.cwnd_usage_seq) or limited or (not s.is_cwnd_limited and packets_out > s.max_packets_out)
    )
    t = replace(
        s,
        is_cwnd_limited=limited if news else s.is_cwnd_limited,
        max_packets_out=packets_out if news else s.max_packets_out,
        cwnd_usage_seq=snd_nxt if news else s.cwnd_usage_seq,
    )
    if tcp_is_cwnd_limited(t):
        return replace(t, snd_cwnd_used=0, snd_cwnd_stamp=now), ()
    t = replace(t, snd_cwnd_used=max(t.snd_cwnd_used, packets_out))
    waited = (now - t.snd_cwnd_stamp) & M32
    if after_idle and waited < H32 and waited >= icsk_rto:
        return tcp_cwnd_application_limited(t, initcwnd, now, nospace)
    return t, ()


# ---------------------------------------------------------------- loss by timeout, and undo


@pure
def loss_reduces(s: Cwnd, snd_una: int, retransmits: int) -> bool:
    """A timeout sets the threshold, unless this window's losses have; source net/ipv4/tcp_input.c:tcp_enter_loss."""
    return (
        s.ca_state in (CA.TCP_CA_Open, CA.TCP_CA_Disorder)
        or not after(s.high_seq, snd_una)
        or (s.ca_state == CA.TCP_CA_Loss and retransmits == 0)
    )


@step("net/ipv4/tcp_input.c:tcp_enter_loss", "RFC 5681 3.1")
def tcp_enter_loss(
    s: Cwnd, ssthresh: int, in_flight: int, snd_una: int, snd_nxt: int, retransmits: int, now: int
) -> tuple[Cwnd, Effects]:
    """A timeout leaves room for one segment more than is in flight; `ssthresh` is congestion control's new threshold.

    `in_flight` counts after all that was out has been marked lost.
    """
    first = loss_reduces(s, snd_una, retransmits)
    t = replace(
        s,
        prior_ssthresh=tcp_current_ssthresh(s) if first else s.prior_ssthresh,
        prior_cwnd=s.snd_cwnd if first else s.prior_cwnd,
        snd_ssthresh=ssthresh if first else s.snd_ssthresh,
        undo=first or s.undo,
        snd_cwnd=in_flight + 1,
        snd_cwnd_cnt=0,
        snd_cwnd_stamp=now,
        high_seq=snd_nxt,
        ca_state=CA.TCP_CA_Loss,
    )
    return t, ()


@step("net/ipv4/tcp_input.c:tcp_undo_cwnd_reduction", "RFC 3522 3.2", "RFC 3708 3")
def tcp_undo_cwnd_reduction(s: Cwnd, undo_cwnd: int, now: int) -> tuple[Cwnd, Effects]:
    """A reduction that proved wrong is taken back, unless ECN had proved congestion."""
    known = s.prior_ssthresh != 0
    t = replace(
        s,
        snd_cwnd=undo_cwnd if known else s.snd_cwnd,
        snd_ssthresh=max(s.snd_ssthresh, s.prior_ssthresh),
        snd_cwnd_stamp=now,
        undo=False,
    )
    return t, ()
