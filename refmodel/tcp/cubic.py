"""CUBIC: the window as a cubic function of the time since the last loss, and HyStart, which ends slow start early.

The law: after a loss at window W the window is 0.7 W; it grows back to W with a falling slope, stays near it, and then
searches on with a rising one, whatever the round-trip time. It never grows slower than reno would, nor faster than by
half in a round trip. `now` and what is compared with it are jiffies, `mstamp` and delays us, K and t 1/1024 s.

The kernel's arithmetic is that of u32 and u64; by its own word it doesn't overflow below a million segments.
"""

from typing import Annotated, Final

from msgspec.structs import replace

from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Mib,
    Params,
    State,
    invariant,
    machine,
    pure,
    require,
    rule,
    step,
    transition,
)
from refmodel.tcp.cong import (
    Cwnd,
    Effects,
    slow_start_leftover,
    tcp_cong_avoid_ai,
    tcp_in_slow_start,
    tcp_is_cwnd_limited,
    tcp_slow_start,
)
from refmodel.tcp.rtt import usecs_to_jiffies
from refmodel.types import H32, M32, Range, after, near, u32

M64: Final = 2**64 - 1
BICTCP_BETA_SCALE: Final = 1024
BICTCP_HZ: Final = 10
BETA: Final = 717
BIC_SCALE: Final = 41
CUBE_RTT_SCALE: Final = BIC_SCALE * 10
CUBE_FACTOR: Final = (1 << (10 + 3 * BICTCP_HZ)) // (BIC_SCALE * 10)
BETA_SCALE: Final = 8 * (BICTCP_BETA_SCALE + BETA) // 3 // (BICTCP_BETA_SCALE - BETA)
HYSTART_LOW_WINDOW: Final = 16
HYSTART_ACK_DELTA_US: Final = 2_000
HYSTART_MIN_SAMPLES: Final = 8
HYSTART_DELAY_MIN: Final = 4_000  # us
HYSTART_DELAY_MAX: Final = 16_000  # us
CWND_SANE: Final = 2**20

# cbrt(x << 18) - 1 for x in [0, 63], as the kernel's table has them: (v[x] + 10) >> 6 is the root.
ROOTS: Final = (
    *(0, 54, 54, 54, 118, 118, 118, 118, 123, 129, 134, 138, 143, 147, 151, 156),
    *(157, 161, 164, 168, 170, 173, 176, 179, 181, 185, 187, 190, 192, 194, 197, 199),
    *(200, 202, 204, 206, 209, 211, 213, 215, 217, 219, 221, 222, 224, 225, 227, 229),
    *(231, 232, 234, 236, 237, 239, 240, 242, 244, 245, 246, 248, 250, 251, 252, 254),
)


class CubicParams(Params, frozen=True):
    """HZ; the module's own parameters stand at their defaults."""

    hz: int = 250


class Bictcp(State, frozen=True):
    """What cubic keeps of a connection, named as in struct bictcp."""

    cnt: u32 = 0
    last_max_cwnd: Annotated[int, Range(0, CWND_SANE)] = 0
    last_cwnd: u32 = 0
    last_time: u32 = 0
    bic_origin_point: u32 = 0
    bic_K: u32 = 0
    delay_min: u32 = 0
    epoch_start: u32 = 0
    ack_cnt: u32 = 0
    tcp_cwnd: u32 = 0
    sample_cnt: Annotated[int, Range(0, HYSTART_MIN_SAMPLES)] = 0
    found: bool = False
    round_start: Annotated[int, Range(0, M32), near("last_ack")] = 0
    end_seq: u32 = 0
    last_ack: u32 = 0
    curr_rtt: u32 = 0


class SetSsthresh(Effect, frozen=True):
    """Congestion control sets the threshold to `snd_ssthresh` segments."""

    snd_ssthresh: Annotated[int, Range(2, CWND_SANE)]


# ---------------------------------------------------------------- the cubic function


def cubic_root(a: int) -> int:
    """The cube root of `a` < 2**63, to a fifth of a per cent; source net/ipv4/tcp_cubic.c:cubic_root.

    A table gives the root of the top six bits or fewer, one step of Newton's method refines it.
    """
    b = a.bit_length()
    if b < 7:
        return (ROOTS[a] + 35) >> 6
    b = ((b * 84) >> 8) - 1
    x = ((ROOTS[a >> (b * 3)] + 10) << b) >> 6
    x = (2 * x + a // (x * (x - 1))) & M32
    return (x * 341 & M32) >> 10


def cubic_delta(offs: int) -> int:
    """How far (segments) the cubic function is from its origin `offs` / 1024 s before or after it."""
    return ((CUBE_RTT_SCALE * offs**3 & M64) >> (10 + 3 * BICTCP_HZ)) & M32


def cubic_time(ca: Bictcp, now: int, hz: int) -> int:
    """The time (1/1024 s) for which the window is computed: one least delay ahead of now, since the epoch began."""
    since = (now - ca.epoch_start) & M32
    t = (since - (1 << 32) if since >= H32 else since) + usecs_to_jiffies(ca.delay_min, hz)
    return ((t << BICTCP_HZ) & M64) // hz


def cubic_target(ca: Bictcp, now: int, hz: int) -> int:
    """The window (segments) that the cubic function gives for now."""
    t = cubic_time(ca, now, hz)
    if t < ca.bic_K:
        return (ca.bic_origin_point - cubic_delta(ca.bic_K - t)) & M32
    return (ca.bic_origin_point + cubic_delta(t - ca.bic_K)) & M32


def epoch_begun(ca: Bictcp, cwnd: int, acked: int, now: int) -> Bictcp:
    """The first ACK after a loss starts the clock and sets origin and K; below the last maximum K > 0."""
    below = ca.last_max_cwnd > cwnd
    return replace(
        ca,
        epoch_start=now,
        ack_cnt=acked,
        tcp_cwnd=cwnd,
        bic_K=cubic_root(CUBE_FACTOR * (ca.last_max_cwnd - cwnd)) if below else 0,
        bic_origin_point=ca.last_max_cwnd if below else cwnd,
    )


def friendly(ca: Bictcp, cwnd: int) -> Bictcp:
    """Counts what reno would have by now; if that is more, growth is hastened.

    Source net/ipv4/tcp_cubic.c:bictcp_update, RFC 9438 4.3.
    """
    per = (cwnd * BETA_SCALE & M32) >> 3
    grown = (ca.ack_cnt - 1) // per if ca.ack_cnt > per else 0
    tcp_cwnd = ca.tcp_cwnd + grown
    cnt = min(ca.cnt, cwnd // (tcp_cwnd - cwnd)) if tcp_cwnd > cwnd else ca.cnt
    return replace(ca, ack_cnt=ca.ack_cnt - grown * per, tcp_cwnd=tcp_cwnd, cnt=cnt)


@step("net/ipv4/tcp_cubic.c:bictcp_update", "RFC 9438 4.2")
def bictcp_update(ca: Bictcp, cwnd: int, acked: int, now: int, p: CubicParams) -> tuple[Bictcp, Effects]:
    """`cnt`, the ACKs for which the window grows by one, takes it to the cubic function in a round trip.

    It is computed anew when the window has changed or after HZ/32 jiffies, and once in a jiffy at most; 2 at least.
    """
    t = replace(ca, ack_cnt=(ca.ack_cnt + acked) & M32)
    since = (now - ca.last_time) & M32
    if ca.last_cwnd == cwnd and (since >= H32 or since <= p.hz // 32):
        return t, ()
    if not (ca.epoch_start != 0 and now == ca.last_time):
        t = replace(t, last_cwnd=cwnd, last_time=now)
        # An epoch that begins at jiffy 0 looks like none: it begins again with the next ACK.
        t = epoch_begun(t, cwnd, acked, now) if ca.epoch_start == 0 else t
        target = cubic_target(t, now, p.hz)
        cnt = cwnd // (target - cwnd) if target > cwnd else 100 * cwnd
        t = replace(t, cnt=min(cnt, 20) if t.last_max_cwnd == 0 else cnt)
    t = friendly(t, cwnd)
    return replace(t, cnt=max(t.cnt, 2)), ()


@step("net/ipv4/tcp_cubic.c:cubictcp_cong_avoid", "RFC 9438 4.4")
def cubictcp_cong_avoid(
    s: Cwnd, ca: Bictcp, acked: int, now: int, p: CubicParams
) -> tuple[tuple[Cwnd, Bictcp], Effects]:
    """Cubic grows by slow start and then along its function, while the window limits the sender."""
    t, left = s, acked
    if tcp_is_cwnd_limited(s):
        if tcp_in_slow_start(s):
            left = slow_start_leftover(s, acked)
            t, _ = tcp_slow_start(s, acked)
        if left > 0:
            ca, _ = bictcp_update(ca, t.snd_cwnd, left, now, p)
            t, _ = tcp_cong_avoid_ai(t, ca.cnt, left)
    return (replace(t, snd_cwnd_stamp=now), ca), ()


@step("net/ipv4/tcp_cubic.c:cubictcp_cwnd_event")
def cubictcp_tx_start(ca: Bictcp, now: int, lsndtime: int) -> tuple[Bictcp, Effects]:
    """Silence since `lsndtime` doesn't count: the epoch moves on by as much, up to now."""
    delta = (now - lsndtime) & M32
    moved = (ca.epoch_start + delta) & M32
    moves = ca.epoch_start != 0 and 0 < delta < H32
    return replace(ca, epoch_start=(now if after(moved, now) else moved) if moves else ca.epoch_start), ()


# ---------------------------------------------------------------- losses


@pure
def cubic_ssthresh(cwnd: int) -> int:
    """717/1024 of the window, 2 at least."""
    return max((cwnd * BETA & M32) // BICTCP_BETA_SCALE, 2)


@pure
def cubic_max(cwnd: int, last_max_cwnd: int) -> int:
    """The maximum to remember: the window, or less if it was already falling, to make room for newcomers."""
    falling = cwnd < last_max_cwnd
    return (cwnd * (BICTCP_BETA_SCALE + BETA) & M32) // (2 * BICTCP_BETA_SCALE) if falling else cwnd


@step("net/ipv4/tcp_cubic.c:cubictcp_recalc_ssthresh", "RFC 9438 4.6", "RFC 9438 4.7")
def cubictcp_recalc_ssthresh(ca: Bictcp, cwnd: int) -> tuple[Bictcp, Effects]:
    """A loss ends the epoch, remembers the maximum and sets the threshold."""
    t = replace(ca, epoch_start=0, last_max_cwnd=cubic_max(cwnd, ca.last_max_cwnd))
    return t, (SetSsthresh(snd_ssthresh=cubic_ssthresh(cwnd)),)


@pure
def bictcp_hystart_reset(ca: Bictcp, mstamp: int, snd_nxt: int) -> Bictcp:
    """A round begins; source net/ipv4/tcp_cubic.c:bictcp_hystart_reset."""
    return replace(ca, round_start=mstamp, last_ack=mstamp, end_seq=snd_nxt, curr_rtt=M32, sample_cnt=0)


@step("net/ipv4/tcp_cubic.c:cubictcp_init", "net/ipv4/tcp_cubic.c:cubictcp_state")
def bictcp_reset(ca: Bictcp, mstamp: int, snd_nxt: int) -> tuple[Bictcp, Effects]:
    """At the start and after a timeout everything is forgotten and a round begins."""
    return bictcp_hystart_reset(Bictcp(), mstamp, snd_nxt), ()


# ---------------------------------------------------------------- HyStart


def hystart_ack_delay(sk_pacing_rate: int, sk_gso_max_size: int) -> int:
    """What segmentation offload may add to the delay (us), 1 ms at most; source as `hystart_train`.

    `sk_pacing_rate` is in bytes a second, 0 before it is known.
    """
    return min(1_000, sk_gso_max_size * 4 * 1_000_000 // sk_pacing_rate) if sk_pacing_rate != 0 else 0


class BictcpAcked(Event, frozen=True):
    """An ACK with a sample of the delay, `rtt_us` (-1: none), and what HyStart asks of the connection.

    `slow_start`: the window is below the threshold; `paced`: the socket is paced by anyone.
    """

    rtt_us: Annotated[int, Range(-1, 2**31 - 1)]
    now: Annotated[int, Range(0, M32), near("epoch_start")]
    mstamp: Annotated[int, Range(0, M32), near("last_ack")]
    snd_una: Annotated[int, Range(0, M32), near("end_seq")]
    snd_nxt: Annotated[int, Range(0, M32), near("end_seq")]
    snd_cwnd: Annotated[int, Range(1, CWND_SANE)] = 10
    slow_start: bool = True
    ack_delay: Annotated[int, Range(0, 1_000)] = 0
    paced: bool = False


class BictcpLoss(Event, frozen=True):
    """A loss or a mark at a window of `snd_cwnd` segments."""

    snd_cwnd: Annotated[int, Range(1, CWND_SANE)]


class BictcpTimeout(Event, frozen=True):
    """The retransmission timer ran out."""

    mstamp: u32
    snd_nxt: u32


@pure
def delay_counts(ca: Bictcp, e: BictcpAcked, p: CubicParams) -> bool:
    """A sample counts but for the second after a loss; source net/ipv4/tcp_cubic.c:cubictcp_acked."""
    since = (e.now - ca.epoch_start) & M32
    return e.rtt_us >= 0 and not (ca.epoch_start != 0 and (since >= H32 or since < p.hz))


@pure
def least_delay(ca: Bictcp, e: BictcpAcked) -> Bictcp:
    """The least delay takes the sample; 0 us counts as 1."""
    delay = max(e.rtt_us, 1)
    return replace(ca, delay_min=delay if ca.delay_min == 0 or ca.delay_min > delay else ca.delay_min)


@pure
def hystart_round(ca: Bictcp, e: BictcpAcked) -> Bictcp:
    """A round ends when what was sent at its beginning is acknowledged; source net/ipv4/tcp_cubic.c:hystart_update."""
    return bictcp_hystart_reset(ca, e.mstamp, e.snd_nxt) if after(e.snd_una, ca.end_seq) else ca


@pure
def in_train(ca: Bictcp, e: BictcpAcked) -> bool:
    """The ACK follows the last one of its train within 2 ms."""
    since = (e.mstamp - ca.last_ack) & M32
    return since >= H32 or since <= HYSTART_ACK_DELTA_US


@pure
def hystart_train(ca: Bictcp, e: BictcpAcked) -> bool:
    """A train of ACKs lasts longer than half the least delay (all of it if paced): the path is full.

    Source net/ipv4/tcp_cubic.c:hystart_update, RFC 9406 1. The comparison is unsigned: a clock that went back detects.
    """
    threshold = ca.delay_min + e.ack_delay
    return in_train(ca, e) and ((e.mstamp - ca.round_start) & M32) > (threshold if e.paced else threshold >> 1)


@pure
def hystart_delay(ca: Bictcp, curr_rtt: int) -> bool:
    """After eight samples of the round its least delay exceeds the least of all by an eighth (4 to 16 ms)."""
    margin = min(max(ca.delay_min >> 3, HYSTART_DELAY_MIN), HYSTART_DELAY_MAX)
    return ca.sample_cnt >= HYSTART_MIN_SAMPLES and curr_rtt > ca.delay_min + margin


@pure
def hystart_asked(ca: Bictcp, e: BictcpAcked, p: CubicParams) -> bool:
    """HyStart looks at samples in slow start until it has found the exit."""
    return delay_counts(ca, e, p) and not ca.found and e.slow_start


@rule("net/ipv4/tcp_cubic.c:cubictcp_acked")
def acked_ignored(s: Bictcp, e: BictcpAcked, p: CubicParams) -> tuple[Bictcp, Effects]:
    """No sample, or one right after a loss, changes nothing."""
    require(not delay_counts(s, e, p), "no sample that counts")
    return s, ()


@rule("net/ipv4/tcp_cubic.c:cubictcp_acked")
def acked_later(s: Bictcp, e: BictcpAcked, p: CubicParams) -> tuple[Bictcp, Effects]:
    """Beyond slow start, or once the exit was found, only the least delay is kept."""
    require(delay_counts(s, e, p) and not hystart_asked(s, e, p), "a sample beyond slow start")
    return least_delay(s, e), ()


@rule("net/ipv4/tcp_cubic.c:hystart_update")
def acked_small(s: Bictcp, e: BictcpAcked, p: CubicParams) -> tuple[Bictcp, Effects]:
    """Below sixteen segments HyStart only keeps the rounds."""
    require(hystart_asked(s, e, p) and e.snd_cwnd < HYSTART_LOW_WINDOW, "a small window in slow start")
    return hystart_round(least_delay(s, e), e), ()


@rule("net/ipv4/tcp_cubic.c:hystart_update", "RFC 9406 4.2")
def acked_hystart(s: Bictcp, e: BictcpAcked, p: CubicParams) -> tuple[Bictcp, Effects]:
    """A train that lasts or a delay that grows ends slow start at this window; both may speak at once."""
    require(hystart_asked(s, e, p) and e.snd_cwnd >= HYSTART_LOW_WINDOW, "a window in slow start")
    ca = hystart_round(least_delay(s, e), e)
    train = hystart_train(ca, e)
    curr = min(ca.curr_rtt, max(e.rtt_us, 1))
    slow = hystart_delay(ca, curr)
    t = replace(
        ca,
        last_ack=e.mstamp if in_train(ca, e) else ca.last_ack,
        curr_rtt=curr,
        sample_cnt=min(ca.sample_cnt + 1, HYSTART_MIN_SAMPLES),
        found=train or slow,
    )
    by_train = (
        Mib(name="TcpExtTCPHystartTrainDetect"),
        Mib(name="TcpExtTCPHystartTrainCwnd", n=e.snd_cwnd),
    )
    by_delay = (
        Mib(name="TcpExtTCPHystartDelayDetect"),
        Mib(name="TcpExtTCPHystartDelayCwnd", n=e.snd_cwnd),
    )
    if train and slow:
        return t, (*by_train, *by_delay, SetSsthresh(snd_ssthresh=e.snd_cwnd))
    if train:
        return t, (*by_train, SetSsthresh(snd_ssthresh=e.snd_cwnd))
    if slow:
        return t, (*by_delay, SetSsthresh(snd_ssthresh=e.snd_cwnd))
    return t, ()


@rule("net/ipv4/tcp_cubic.c:cubictcp_recalc_ssthresh")
def loss(s: Bictcp, e: BictcpLoss, p: CubicParams) -> tuple[Bictcp, Effects]:
    """A loss takes three tenths off the window."""
    return cubictcp_recalc_ssthresh(s, e.snd_cwnd)


@rule("net/ipv4/tcp_cubic.c:cubictcp_state")
def timeout(s: Bictcp, e: BictcpTimeout, p: CubicParams) -> tuple[Bictcp, Effects]:
    """A timeout forgets everything."""
    return bictcp_reset(s, e.mstamp, e.snd_nxt)


@invariant()
def found_needs_a_delay(s: Bictcp) -> bool:
    """The exit of slow start is found only where a delay was measured."""
    return not s.found or s.delay_min != 0


@transition(BictcpAcked)
def least_delay_falls(s: Bictcp, e: BictcpAcked, t: Bictcp) -> bool:
    """The least delay never rises, and no sample that counts is less."""
    return s.delay_min == 0 or t.delay_min <= s.delay_min


@transition(BictcpAcked)
def threshold_only_when_found(s: Bictcp, e: BictcpAcked, t: Bictcp, effects: Effects) -> bool:
    """Slow start ends at the window of the moment, once, never below sixteen segments."""
    sets = [x.snd_ssthresh for x in effects if isinstance(x, SetSsthresh)]
    return all(x == e.snd_cwnd and x >= HYSTART_LOW_WINDOW and t.found and not s.found for x in sets)


@transition(BictcpAcked)
def found_sets_the_threshold(s: Bictcp, e: BictcpAcked, t: Bictcp, effects: Effects) -> bool:
    """Whenever the exit is found the threshold is set."""
    return s.found or not t.found or any(isinstance(x, SetSsthresh) for x in effects)


@transition(BictcpLoss)
def loss_takes_three_tenths(s: Bictcp, e: BictcpLoss, t: Bictcp, effects: Effects) -> bool:
    """The threshold is 2, or below the window and at least 0.7 of it less one; the maximum is at most the window."""
    sets = [x.snd_ssthresh for x in effects if isinstance(x, SetSsthresh)]
    fits = all(x >= 2 and (x == 2 or (10 * x >= 7 * e.snd_cwnd - 10 and x < e.snd_cwnd)) for x in sets)
    return fits and t.last_max_cwnd <= e.snd_cwnd and t.epoch_start == 0


TCP_CUBIC: Final = machine(
    Machine(
        name="tcp_cubic",
        title="CUBIC's losses and HyStart",
        accepts={Bictcp: (BictcpAcked, BictcpLoss, BictcpTimeout)},
        params=CubicParams,
        modules=("refmodel.tcp.cong", "refmodel.tcp.rtt", __name__),
    )
)
