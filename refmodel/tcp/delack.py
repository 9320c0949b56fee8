"""When an acknowledgment that isn't sent at once is sent.

The law: the delay is `ato`, Linux's prediction of the interval between segments, bounded by the round trip and by
TCP_DELACK_MAX. A timer that runs is never put off: later data can only bring it forward or, when it is about to run
out, send the acknowledgment at once. Times and delays are jiffies.
"""

from typing import Annotated, Any, ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Params,
    State,
    assume,
    invariant,
    machine,
    pure,
    require,
    rule,
    transition,
)
from refmodel.types import Range

Effects = tuple[Any, ...]
BOUNDED: Final = 612  # the first of our kernels that bounds `ato`; the machine is proved for it and its successors
JIFFIES: Final = 1 << 40
Moment = Annotated[int, Range(0, JIFFIES)]
Ato = Annotated[int, Range(0, 255)]  # eight bits in the kernel


class DelackParams(Params, frozen=True):
    """The tick rate."""

    hz: int = 1000


class Delack(State, frozen=True):
    """icsk_ack as far as the delay goes.

    `timer`: ICSK_ACK_TIMER; `timeout`: when it runs out; `since`: when the oldest acknowledgment owed became so;
    `lrcvtime`: when data arrived last.
    """

    AT: ClassVar[str] = ""

    ato: Ato = 0
    pingpong: bool = False
    timer: bool = False
    timeout: Moment = 0
    since: Moment = 0
    lrcvtime: Moment = 0


class DataOwed(Event, frozen=True):
    """A segment with data arrived whose acknowledgment may wait (the end of __tcp_ack_snd_check).

    `pushed`: ICSK_ACK_PUSHED; `srtt`: the smoothed round trip, 0 without one; `delack_max`: the socket's own bound.
    """

    now: Moment = 0
    pushed: bool = False
    srtt: Annotated[int, Range(0, 1 << 20)] = 0
    icsk_rto: Annotated[int, Range(1, 1 << 20)] = 200
    delack_max: Annotated[int, Range(1, 1000)] = 200


class AckSent(Event, frozen=True):
    """An acknowledgment leaves, with data or without."""


class DelackExpired(Event, frozen=True):
    """The delayed-ACK timer fires."""

    now: Moment = 0
    icsk_rto: Annotated[int, Range(1, 1 << 20)] = 200


class AckNow(Effect, frozen=True):
    """An acknowledgment is sent."""


@pure
def tcp_ato_min(hz: int) -> int:
    """40 ms; source include/net/tcp.h:TCP_ATO_MIN."""
    return hz // 25


@pure
def tcp_delack_max(hz: int) -> int:
    """200 ms; source include/net/tcp.h:TCP_DELACK_MAX."""
    return hz // 5


@pure
def longest_ato(icsk_rto: int, hz: int, kernel: int) -> int:
    """What `ato` may grow to: a timeout and, since 6.12, TCP_DELACK_MAX."""
    return min(icsk_rto, tcp_delack_max(hz)) if kernel >= BOUNDED else icsk_rto


@pure
def ato_after_data(ato: int, gap: int, longest: int, hz: int) -> int:
    """`ato` after data that came `gap` jiffies behind the last; source net/ipv4/tcp_input.c:tcp_event_data_recv."""
    least = tcp_ato_min(hz)
    if ato == 0:
        return least
    if gap <= least // 2:
        return (ato >> 1) + least // 2
    return min((ato >> 1) + gap, longest) if gap < ato else ato


@pure
def ack_delay(ato: int, pingpong: bool, pushed: bool, srtt: int, delack_max: int, hz: int) -> int:
    """How long an acknowledgment may wait; source net/ipv4/tcp_output.c:tcp_send_delayed_ack.

    Beyond 40 ms it waits half a second at most, 200 ms if the data was pushed or the session is interactive, and no
    longer than a round trip.
    """
    least = tcp_ato_min(hz)
    longest = tcp_delack_max(hz) if pingpong or pushed else hz // 2
    bound = min(longest, max(srtt, least)) if srtt != 0 else longest
    return min(min(ato, bound) if ato > least else ato, delack_max)


@pure
def about_to_expire(timer: bool, timeout: int, now: int, delay: int) -> bool:
    """A quarter of the delay or less is left; source net/ipv4/tcp_output.c:tcp_send_delayed_ack."""
    return timer and timeout <= now + (delay >> 2)


@pure
def delayed_until(timer: bool, timeout: int, now: int, delay: int) -> int:
    """When the timer runs out: never later than it would have; source net/ipv4/tcp_output.c:tcp_send_delayed_ack."""
    return min(timeout, now + delay) if timer else now + delay


@pure
def ato_after_expiry(ato: int, pingpong: bool, longest: int, hz: int) -> int:
    """A missed delayed ACK doubles the delay, or ends the interactive session's short one.

    Source: net/ipv4/tcp_timer.c:tcp_delack_timer_handler.
    """
    return tcp_ato_min(hz) if pingpong else min(ato << 1, longest)


@pure
def owed(s: Delack, e: DataOwed, p: DelackParams) -> Delack:
    """The state as the data has changed it."""
    return replace(
        s,
        ato=ato_after_data(s.ato, e.now - s.lrcvtime, longest_ato(e.icsk_rto, p.hz, BOUNDED), p.hz),
        lrcvtime=e.now,
        since=s.since if s.timer else e.now,
    )


@pure
def delay_of(s: Delack, e: DataOwed, p: DelackParams) -> int:
    """The delay that this data may have."""
    t = owed(s, e, p)
    return ack_delay(t.ato, t.pingpong, e.pushed, e.srtt, min(e.delack_max, tcp_delack_max(p.hz)), p.hz)


@rule("net/ipv4/tcp_output.c:tcp_send_delayed_ack", "RFC 9293 3.8.6.3")
def data_delays(s: Delack, e: DataOwed, p: DelackParams) -> tuple[Delack, Effects]:
    """The acknowledgment waits for the timer, which later data never puts off."""
    delay = delay_of(s, e, p)
    require(
        not about_to_expire(s.timer, s.timeout, e.now, delay), "the timer has more than a quarter of the delay left"
    )
    t = owed(s, e, p)
    return replace(t, timer=True, timeout=delayed_until(s.timer, s.timeout, e.now, delay)), ()


@rule("net/ipv4/tcp_output.c:tcp_send_delayed_ack")
def data_hurries(s: Delack, e: DataOwed, p: DelackParams) -> tuple[Delack, Effects]:
    """With the timer about to run out the acknowledgment goes at once."""
    delay = delay_of(s, e, p)
    require(about_to_expire(s.timer, s.timeout, e.now, delay), "the timer has a quarter of the delay left or less")
    return replace(owed(s, e, p), timer=False), (AckNow(),)


@rule("include/net/inet_connection_sock.h:inet_csk_clear_xmit_timer", "net/ipv4/tcp_output.c:tcp_event_ack_sent")
def sent(s: Delack, e: AckSent, p: DelackParams) -> tuple[Delack, Effects]:
    """Whatever carries an acknowledgment settles what was owed."""
    return replace(s, timer=False), ()


@rule("net/ipv4/tcp_timer.c:tcp_delack_timer_handler", "RFC 9293 3.8.6.3")
def expired(s: Delack, e: DelackExpired, p: DelackParams) -> tuple[Delack, Effects]:
    """The delay is over."""
    require(s.timer and s.timeout <= e.now, "the timer is due")
    ato = ato_after_expiry(s.ato, s.pingpong, longest_ato(e.icsk_rto, p.hz, BOUNDED), p.hz)
    return replace(s, timer=False, ato=ato, pingpong=False), (AckNow(),)


@rule("net/ipv4/tcp_timer.c:tcp_delack_timer_handler")
def expired_early(s: Delack, e: DelackExpired, p: DelackParams) -> tuple[Delack, Effects]:
    """A timer that isn't due, or has lost its reason, changes nothing."""
    require(not (s.timer and s.timeout <= e.now), "the timer isn't due")
    return s, ()


@assume
def time_goes_on(s: Delack, e: DataOwed) -> bool:
    """Data doesn't arrive before the data before it, nor behind a timer that should have fired."""
    return s.lrcvtime <= e.now and e.now <= JIFFIES - 1000 and (not s.timer or e.now <= s.timeout)


@invariant()
def delay_is_bounded(s: Delack, p: DelackParams) -> bool:
    """An acknowledgment that is owed waits 200 ms at most, counted from the first data that it acknowledges."""
    return not s.timer or s.timeout <= s.since + tcp_delack_max(p.hz)


@invariant()
def ato_is_bounded(s: Delack, p: DelackParams) -> bool:
    """The prediction never exceeds 200 ms, nor eight bits where HZ allows."""
    return s.ato <= max(tcp_delack_max(p.hz), tcp_ato_min(p.hz))


@transition(DataOwed)
def never_put_off(s: Delack, e: DataOwed, t: Delack) -> bool:
    """Later data never moves a running timer further away."""
    return not (s.timer and t.timer) or t.timeout <= s.timeout


@transition(DataOwed)
def owed_is_kept_or_sent(s: Delack, e: DataOwed, t: Delack, effects: Effects) -> bool:
    """Data is acknowledged at once or a timer stands for it."""
    return t.timer or any(isinstance(x, AckNow) for x in effects)


@transition(DelackExpired)
def interactive_ends(s: Delack, e: DelackExpired, t: Delack, effects: Effects, p: DelackParams) -> bool:
    """A missed delayed ACK ends the interactive session, and its delay is the shortest."""
    missed = s.timer and s.timeout <= e.now and s.pingpong
    return not missed or (not t.pingpong and t.ato == tcp_ato_min(p.hz))


TCP_DELACK: Final = machine(
    Machine(
        name="tcp_delack",
        title="TCP's delayed acknowledgments",
        accepts={Delack: (DataOwed, AckSent, DelackExpired)},
        params=DelackParams,
        modules=(__name__,),
    )
)
