"""Proportional rate reduction: how the window falls to the threshold within one round trip.

The law: while more is in flight than the threshold, what was sent since the reduction began stays in proportion to what
was delivered; below the threshold as much is sent as was delivered, and one more for each ACK that moves snd_una and
brings no news of loss. `sndcnt` is how many segments may be sent now, and the window is what is in flight plus that.
"""

from typing import Annotated, Final

from msgspec.structs import replace

from refmodel.rule import (
    Event,
    Machine,
    Params,
    assume,
    invariant,
    machine,
    pure,
    require,
    rule,
    step,
    transition,
)
from refmodel.tcp.cong import (
    CA,
    TCP_INFINITE_SSTHRESH,
    Cwnd,
    Effects,
    Segments,
    slow_start_leftover,
    tcp_current_ssthresh,
    tcp_cwnd_restart,
    tcp_cwnd_validate,
    tcp_enter_loss,
    tcp_in_cwnd_reduction,
    tcp_in_slow_start,
    tcp_is_cwnd_limited,
    tcp_reno_ssthresh,
    tcp_reno_undo_cwnd,
    tcp_slow_start,
    tcp_undo_cwnd_reduction,
)
from refmodel.types import M32, Range, near, u32


@step("net/ipv4/tcp_input.c:tcp_init_cwnd_reduction", "RFC 6937 3")
def tcp_init_cwnd_reduction(s: Cwnd, ssthresh: int, snd_nxt: int) -> tuple[Cwnd, Effects]:
    """A reduction begins: `ssthresh` is its aim, the window of now the measure of its proportion."""
    t = replace(
        s,
        high_seq=snd_nxt,
        snd_cwnd_cnt=0,
        prior_cwnd=s.snd_cwnd,
        prr_delivered=0,
        prr_out=0,
        snd_ssthresh=ssthresh,
    )
    return t, ()


@pure
def prr_share(ssthresh: int, delivered: int, prior_cwnd: int) -> int:
    """The share of `delivered` segments that may have been sent: delivered * ssthresh / prior_cwnd, rounded up."""
    return (ssthresh * delivered + prior_cwnd - 1) // prior_cwnd


@pure
def prr_sndcnt(s: Cwnd, in_flight: int, delivered: int, advanced: bool, newly_lost: int, share: int) -> int:
    """How many segments may be sent now; source net/ipv4/tcp_input.c:tcp_cwnd_reduction.

    `share` is `prr_share` of all that was delivered, this ACK's `delivered` segments included. The first retransmission
    is always let out.
    """
    room = s.snd_ssthresh - in_flight
    made_up = max(s.prr_delivered + delivered - s.prr_out, delivered) + (1 if advanced and newly_lost == 0 else 0)
    sndcnt = share - s.prr_out if room < 0 else min(room, made_up)
    return max(sndcnt, 0 if s.prr_out != 0 else 1)


@step("net/ipv4/tcp_input.c:tcp_cwnd_reduction", "RFC 6937 3")
def tcp_cwnd_reduction(
    s: Cwnd, delivered: int, newly_lost: int, advanced: bool, in_flight: int, share: int
) -> tuple[Cwnd, Effects]:
    """An ACK that delivers something moves the window on its way to the threshold; no other does."""
    if delivered <= 0 or s.prior_cwnd == 0:
        return s, ()
    sndcnt = prr_sndcnt(s, in_flight, delivered, advanced, newly_lost, share)
    return replace(s, prr_delivered=s.prr_delivered + delivered, snd_cwnd=in_flight + sndcnt), ()


@step("net/ipv4/tcp_input.c:tcp_end_cwnd_reduction", "RFC 6937 3")
def tcp_end_cwnd_reduction(s: Cwnd, now: int) -> tuple[Cwnd, Effects]:
    """The reduction is over: the window is the threshold, unless the reduction was taken back."""
    sets = s.snd_ssthresh < TCP_INFINITE_SSTHRESH and (s.ca_state == CA.TCP_CA_CWR or s.undo)
    return replace(
        s, snd_cwnd=s.snd_ssthresh if sets else s.snd_cwnd, snd_cwnd_stamp=now if sets else s.snd_cwnd_stamp
    ), ()


@step("net/ipv4/tcp_input.c:tcp_enter_cwr", "RFC 3168 6.1.2")
def tcp_enter_cwr(s: Cwnd, ssthresh: int, snd_nxt: int) -> tuple[Cwnd, Effects]:
    """A congestion mark, or a full queue of our own, begins a reduction that is never taken back."""
    t = replace(s, prior_ssthresh=0)
    if s.ca_state in (CA.TCP_CA_Open, CA.TCP_CA_Disorder):
        t, _ = tcp_init_cwnd_reduction(t, ssthresh, snd_nxt)
        return replace(t, undo=False, ca_state=CA.TCP_CA_CWR), ()
    return t, ()


@step("net/ipv4/tcp_input.c:tcp_enter_recovery", "RFC 6675 5")
def tcp_enter_recovery(s: Cwnd, ssthresh: int, snd_nxt: int, ece: bool) -> tuple[Cwnd, Effects]:
    """A loss begins a reduction, unless one is under way; without a congestion mark it may be taken back."""
    t = replace(s, prior_ssthresh=0, undo=True)
    if not tcp_in_cwnd_reduction(s):
        t = replace(t, prior_ssthresh=0 if ece else tcp_current_ssthresh(s))
        t, _ = tcp_init_cwnd_reduction(t, ssthresh, snd_nxt)
    return replace(t, ca_state=CA.TCP_CA_Recovery), ()


# ---------------------------------------------------------------- the window as a machine of its own, with reno


class CwndParams(Params, frozen=True):
    """`initcwnd` is the route's metric, 0 without one; `tcp_slow_start_after_idle` the sysctl."""

    initcwnd: Annotated[int, Range(0, 2**30)] = 0
    tcp_slow_start_after_idle: bool = True


class CwndAck(Event, frozen=True):
    """An ACK that may raise the window acknowledges `acked` segments in slow start."""

    acked: Segments
    now: u32 = 0


class CwndSent(Event, frozen=True):
    """Data was sent; `limited`: the window stopped the sender; `nospace`: the application waits for memory."""

    limited: bool
    packets_out: Segments
    snd_una: Annotated[int, Range(0, M32), near("cwnd_usage_seq")]
    snd_nxt: Annotated[int, Range(0, M32), near("cwnd_usage_seq")]
    icsk_rto: Annotated[int, Range(1, 120_000)] = 50
    now: u32 = 0
    nospace: bool = False


class CwndIdle(Event, frozen=True):
    """Data is to be sent after a silence of `periods` timeouts (see `idle_periods`)."""

    periods: Annotated[int, Range(0, 31)]
    now: u32 = 0


class CwndCongested(Event, frozen=True):
    """A congestion mark (or a full queue) comes without loss."""

    snd_nxt: u32


class CwndLost(Event, frozen=True):
    """A loss was found; `ece`: by an ACK with a congestion mark."""

    snd_nxt: u32
    ece: bool = False


class CwndDelivered(Event, frozen=True):
    """An ACK in a reduction delivered `delivered` segments; `share` is `prr_share` of all that was delivered."""

    delivered: Segments
    in_flight: Segments
    share: Annotated[int, Range(0, 2**30)]
    newly_lost: Segments = 0
    advanced: bool = True


class CwndReductionSent(Event, frozen=True):
    """`n` segments were sent in a reduction, new or again."""

    n: Segments


class CwndReduced(Event, frozen=True):
    """snd_una passed high_seq: the reduction is over."""

    now: u32 = 0


class CwndTimeout(Event, frozen=True):
    """The retransmission timer ran out, `retransmits` times before; `in_flight` counts what is not held for lost."""

    in_flight: Segments
    snd_una: Annotated[int, Range(0, M32), near("high_seq")]
    snd_nxt: Annotated[int, Range(0, M32), near("high_seq")]
    retransmits: Annotated[int, Range(0, 255)] = 0
    now: u32 = 0


class CwndUndo(Event, frozen=True):
    """What was repeated proved not lost."""

    now: u32 = 0


CALM: Final = (CA.TCP_CA_Open, CA.TCP_CA_Disorder)
GROWS: Final = (CA.TCP_CA_Open, CA.TCP_CA_Disorder, CA.TCP_CA_Loss)
REDUCES: Final = (CA.TCP_CA_CWR, CA.TCP_CA_Recovery)


@rule("net/ipv4/tcp_cong.c:tcp_reno_cong_avoid", at=GROWS)
def ack_grows(s: Cwnd, e: CwndAck, p: CwndParams) -> tuple[Cwnd, Effects]:
    """In slow start each acknowledged segment makes room for one more."""
    require(tcp_is_cwnd_limited(s), "the window limits the sender")
    t, _ = tcp_slow_start(s, e.acked)
    return replace(t, snd_cwnd_stamp=e.now), ()


@rule("net/ipv4/tcp_cong.c:tcp_reno_cong_avoid", at=GROWS)
def ack_does_not_grow(s: Cwnd, e: CwndAck, p: CwndParams) -> tuple[Cwnd, Effects]:
    """A window that isn't used up doesn't grow."""
    require(not tcp_is_cwnd_limited(s), "the window doesn't limit the sender")
    return replace(s, snd_cwnd_stamp=e.now), ()


@rule("net/ipv4/tcp_output.c:tcp_cwnd_validate")
def sent(s: Cwnd, e: CwndSent, p: CwndParams) -> tuple[Cwnd, Effects]:
    """Sending remembers how full the window was; one that is never full shrinks."""
    return tcp_cwnd_validate(
        s,
        e.limited,
        e.packets_out,
        e.snd_una,
        e.snd_nxt,
        e.now,
        e.icsk_rto,
        p.tcp_slow_start_after_idle,
        e.nospace,
        p.initcwnd,
    )


@rule("net/ipv4/tcp_output.c:tcp_cwnd_restart")
def idle(s: Cwnd, e: CwndIdle, p: CwndParams) -> tuple[Cwnd, Effects]:
    """Silence takes the window towards the initial one."""
    return tcp_cwnd_restart(s, e.periods, p.initcwnd, e.now)


@rule("net/ipv4/tcp_input.c:tcp_enter_cwr")
def congested(s: Cwnd, e: CwndCongested, p: CwndParams) -> tuple[Cwnd, Effects]:
    """A congestion mark halves the window, within a round trip and once in it."""
    return tcp_enter_cwr(s, tcp_reno_ssthresh(s), e.snd_nxt)


@rule("net/ipv4/tcp_input.c:tcp_enter_recovery", at=(*CALM, CA.TCP_CA_CWR))
def lost(s: Cwnd, e: CwndLost, p: CwndParams) -> tuple[Cwnd, Effects]:
    """A loss halves the window, unless a mark has begun to."""
    return tcp_enter_recovery(s, tcp_reno_ssthresh(s), e.snd_nxt, e.ece)


@rule("net/ipv4/tcp_input.c:tcp_fastretrans_alert", at=(CA.TCP_CA_Recovery, CA.TCP_CA_Loss))
def lost_again(s: Cwnd, e: CwndLost, p: CwndParams) -> tuple[Cwnd, Effects]:
    """Further losses of a window change nothing."""
    return s, ()


@rule("net/ipv4/tcp_input.c:tcp_cwnd_reduction", at=REDUCES)
def delivered(s: Cwnd, e: CwndDelivered, p: CwndParams) -> tuple[Cwnd, Effects]:
    """What arrives lets out in proportion."""
    return tcp_cwnd_reduction(s, e.delivered, e.newly_lost, e.advanced, e.in_flight, e.share)


@rule(
    "net/ipv4/tcp_output.c:tcp_write_xmit",
    "net/ipv4/tcp_output.c:tcp_xmit_retransmit_queue",
    at=REDUCES,
)
def reduction_sent(s: Cwnd, e: CwndReductionSent, p: CwndParams) -> tuple[Cwnd, Effects]:
    """What is sent in a reduction is counted."""
    return replace(s, prr_out=s.prr_out + e.n), ()


@rule("net/ipv4/tcp_input.c:tcp_end_cwnd_reduction", at=REDUCES)
def reduced(s: Cwnd, e: CwndReduced, p: CwndParams) -> tuple[Cwnd, Effects]:
    """The end of a reduction."""
    t, _ = tcp_end_cwnd_reduction(s, e.now)
    return replace(t, ca_state=CA.TCP_CA_Open), ()


@rule("net/ipv4/tcp_input.c:tcp_enter_loss")
def timed_out(s: Cwnd, e: CwndTimeout, p: CwndParams) -> tuple[Cwnd, Effects]:
    """A timeout begins anew with one segment."""
    return tcp_enter_loss(s, tcp_reno_ssthresh(s), e.in_flight, e.snd_una, e.snd_nxt, e.retransmits, e.now)


@rule("net/ipv4/tcp_input.c:tcp_undo_cwnd_reduction")
def undone(s: Cwnd, e: CwndUndo, p: CwndParams) -> tuple[Cwnd, Effects]:
    """A reduction that can be taken back is."""
    require(s.undo, "a reduction that can be taken back")
    t, _ = tcp_undo_cwnd_reduction(s, tcp_reno_undo_cwnd(s), e.now)
    return replace(t, ca_state=CA.TCP_CA_Open), ()


@rule("net/ipv4/tcp_input.c:tcp_may_undo")
def nothing_to_undo(s: Cwnd, e: CwndUndo, p: CwndParams) -> tuple[Cwnd, Effects]:
    """Without a reduction to take back nothing happens."""
    require(not s.undo, "nothing to take back")
    return s, ()


@assume
def in_slow_start(s: Cwnd, e: CwndAck) -> bool:
    """The ACK is spent in slow start: the divisions of congestion avoidance are tested, not proved."""
    return s.ca_state in GROWS and tcp_in_slow_start(s) and slow_start_leftover(s, e.acked) == 0


@assume
def counts_are_small(s: Cwnd, e: CwndDelivered) -> bool:
    """A reduction delivers at most 2**29 segments, and the share is what `prr_share` can be for a threshold of 2."""
    total = s.prr_delivered + e.delivered
    return s.ca_state in REDUCES and total <= 2**29 and e.share <= 2 * total and (e.share >= 1 or e.delivered == 0)


@assume
def sent_is_small(s: Cwnd, e: CwndReductionSent) -> bool:
    """A reduction sends at most 2**29 segments."""
    return s.ca_state in REDUCES and s.prr_out + e.n <= 2**29


@assume
def only_reductions_end(s: Cwnd, e: CwndReduced) -> bool:
    """What ends has begun."""
    return s.ca_state in REDUCES


@invariant()
def something_can_be_sent(s: Cwnd) -> bool:
    """The window is at least one segment, the threshold at least two."""
    return s.snd_cwnd >= 1 and s.snd_ssthresh >= 2


@invariant(at=REDUCES)
def reductions_have_a_measure(s: Cwnd) -> bool:
    """A reduction knows the window that it began with."""
    return s.prior_cwnd >= 1


@invariant(at=CA.TCP_CA_CWR)
def marks_stay(s: Cwnd) -> bool:
    """A reduction by a mark can't be taken back."""
    return not s.undo and s.prior_ssthresh == 0


@transition(CwndAck)
def grows_by_what_arrived(s: Cwnd, e: CwndAck, t: Cwnd) -> bool:
    """Slow start grows by what arrived at most, up to threshold and clamp, and never shrinks what the clamp allows."""
    grows = t.snd_cwnd <= s.snd_cwnd + e.acked and t.snd_cwnd <= s.snd_ssthresh
    return grows and t.snd_cwnd >= min(s.snd_cwnd, s.snd_cwnd_clamp)


@transition(CwndAck)
def unused_windows_stay(s: Cwnd, e: CwndAck, t: Cwnd) -> bool:
    """A window that doesn't limit the sender doesn't grow."""
    return tcp_is_cwnd_limited(s) or t.snd_cwnd == s.snd_cwnd


@transition(CwndDelivered)
def sends_in_proportion(s: Cwnd, e: CwndDelivered, t: Cwnd) -> bool:
    """Above the threshold what was sent stays within the share, but for the first retransmission."""
    if e.delivered == 0 or e.in_flight <= s.snd_ssthresh:
        return True
    return s.prr_out + t.snd_cwnd - e.in_flight <= max(e.share, s.prr_out, 1)


@transition(CwndDelivered)
def sends_what_left(s: Cwnd, e: CwndDelivered, t: Cwnd) -> bool:
    """At or below the threshold at most one more is sent than was delivered and not made up for."""
    if e.delivered == 0 or e.in_flight > s.snd_ssthresh:
        return True
    owed = max(t.prr_delivered - s.prr_out, e.delivered)
    return t.snd_cwnd <= max(s.snd_ssthresh, e.in_flight + 1) and t.snd_cwnd - e.in_flight <= owed + 1


@transition(CwndDelivered)
def first_one_goes(s: Cwnd, e: CwndDelivered, t: Cwnd) -> bool:
    """Nothing that is in flight is called back, and the first retransmission is let out."""
    return e.delivered == 0 or (t.snd_cwnd >= e.in_flight and (s.prr_out != 0 or t.snd_cwnd > e.in_flight))


@transition(CwndReduced)
def ends_at_the_threshold(s: Cwnd, e: CwndReduced, t: Cwnd) -> bool:
    """A reduction that was not taken back ends at the threshold."""
    stays = s.ca_state == CA.TCP_CA_Recovery and not s.undo
    return stays or s.snd_ssthresh == TCP_INFINITE_SSTHRESH or t.snd_cwnd == s.snd_ssthresh


@transition(CwndCongested, CwndLost, CwndTimeout)
def halves_once(s: Cwnd, e: CwndCongested | CwndLost | CwndTimeout, t: Cwnd) -> bool:
    """The threshold becomes half the window, two at least, or stays."""
    return t.snd_ssthresh in (max(s.snd_cwnd >> 1, 2), s.snd_ssthresh)


@transition(CwndCongested, CwndLost)
def reductions_begin_gently(s: Cwnd, e: CwndCongested | CwndLost, t: Cwnd) -> bool:
    """A mark or a loss leaves the window alone: the ACKs that follow reduce it."""
    return t.snd_cwnd == s.snd_cwnd


@transition(CwndIdle)
def silence_shrinks(s: Cwnd, e: CwndIdle, t: Cwnd, effects: Effects, p: CwndParams) -> bool:
    """Silence never raises the window nor lowers the threshold, and leaves the initial window."""
    least = min(s.snd_cwnd, p.initcwnd if p.initcwnd != 0 else 10, s.snd_cwnd_clamp)
    return least <= t.snd_cwnd and t.snd_cwnd <= s.snd_cwnd and t.snd_ssthresh >= s.snd_ssthresh


@transition(CwndSent)
def sending_shrinks_by_half_at_most(s: Cwnd, e: CwndSent, t: Cwnd) -> bool:
    """Sending never raises the window, and takes less than half of it."""
    return t.snd_cwnd <= s.snd_cwnd and 2 * t.snd_cwnd >= s.snd_cwnd


@transition(CwndUndo)
def undo_restores(s: Cwnd, e: CwndUndo, t: Cwnd) -> bool:
    """Taking back lowers neither window nor threshold, and restores both if they were kept."""
    kept = s.prior_ssthresh == 0 or not s.undo
    back = t.snd_cwnd >= s.prior_cwnd and t.snd_ssthresh >= s.prior_ssthresh
    return t.snd_cwnd >= s.snd_cwnd and t.snd_ssthresh >= s.snd_ssthresh and (kept or back)


TCP_CWND: Final = machine(
    Machine(
        name="tcp_cwnd",
        title="TCP's congestion window with reno and PRR",
        accepts={
            Cwnd: (
                CwndAck,
                CwndSent,
                CwndIdle,
                CwndCongested,
                CwndLost,
                CwndDelivered,
                CwndReductionSent,
                CwndReduced,
                CwndTimeout,
                CwndUndo,
            )
        },
        params=CwndParams,
        modules=("refmodel.tcp.cong", __name__),
    )
)
