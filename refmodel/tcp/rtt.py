"""Round-trip time and retransmission timeout of TCP, in the kernel's own integers.

The law: the floor (tcp_rto_min_us, 200 ms) lies under the variance, not under the timeout, so an RTO is the smoothed
RTT plus at least the floor. Whatever a retransmitted segment could have meant is no sample (Karn). All times are in us
but for `icsk_rto`, the deadlines' clock `now` and the minimum's window, which are in jiffies.
"""

from typing import Annotated, Final

from msgspec.structs import replace

from refmodel.profile import Sysctl
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
    step,
    transition,
)
from refmodel.types import M32, Range, after, near, u8, u32

Effects = tuple[Effect, ...]

INT_MAX: Final = 2**31 - 1
RTT_MAX: Final = 2**29 - 1  # us; what `srtt_us`, the smoothed RTT times 8, can hold: 536.8 s
SECOND: Final = 1_000_000
TCP_TIMEOUT_FALLBACK: Final = 3 * SECOND
TSOPT_MAX: Final = INT_MAX // 1000  # ms; a timestamp echo older than that is no sample

IN: Final = "net/ipv4/tcp_ipv4.c:tcp_sk_init"

Rtt_us = Annotated[int, Range(-1, M32)]  # -1: no sample
Variance = Annotated[int, Range(0, 2**31 + 10_000)]


class RttParams(Params, frozen=True):
    """HZ, the variance's floor (us), the timeout's ceiling (ms, a sysctl since 6.15), the minimum's window (s)."""

    hz: int = 250
    tcp_rto_min_us: Annotated[int, Sysctl("net.ipv4.tcp_rto_min_us", 200_000, 1, INT_MAX, IN)] = 200_000
    tcp_rto_max_ms: Annotated[int, Sysctl("net.ipv4.tcp_rto_max_ms", 120_000, 1_000, 120_000, IN)] = 120_000
    tcp_min_rtt_wlen: Annotated[int, Sysctl("net.ipv4.tcp_min_rtt_wlen", 300, 0, 86_400, IN)] = 300


class MinRtt(State, frozen=True):
    """The three best minima of a sliding window, each with its time in jiffies: v0 is the minimum."""

    t0: u32 = 0
    t1: u32 = 0
    t2: u32 = 0
    v0: u32 = M32
    v1: u32 = M32
    v2: u32 = M32


class Rtt(State, frozen=True):
    """What a sender knows of the path's time: srtt_us is scaled by 8, mdev_us and what follows from it by 4."""

    srtt_us: Annotated[int, Range(0, 8 * RTT_MAX)] = 0
    mdev_us: Annotated[int, Range(0, 4 * RTT_MAX)] = SECOND
    mdev_max_us: Variance = 0
    rttvar_us: Variance = 0
    rtt_seq: u32 = 0
    icsk_rto: Annotated[int, Range(1, 120_000)] = 250
    icsk_backoff: u8 = 0
    rtt_min: MinRtt = MinRtt()


class RttAck(Event, frozen=True):
    """An acknowledgment and what it tells about time.

    `first_us` and `last_us`: how long ago the first and the last segment that it newly acknowledges, and that was never
    repeated, was sent; `sack_first_us` and `sack_last_us` the same of those it newly SACKs; -1 where there is none.
    `retrans_acked`: repeated data is among what it acknowledges. `tsecr`: ticks since the echoed timestamp, -1 without
    one. `acked`: snd_una moved. `maybe_delayed`: a lone runt was acknowledged, perhaps late on purpose.
    """

    now: u32
    snd_una: Annotated[int, Range(0, M32), near("rtt_seq")]
    snd_nxt: Annotated[int, Range(0, M32), near("rtt_seq")]
    first_us: Rtt_us = -1
    last_us: Rtt_us = -1
    sack_first_us: Rtt_us = -1
    sack_last_us: Rtt_us = -1
    retrans_acked: bool = False
    tsecr: Annotated[int, Range(-1, M32)] = -1
    usec_ts: bool = False
    acked: bool = True
    maybe_delayed: bool = False


class RetransmitTimeout(Event, frozen=True):
    """The retransmission timer ran out; `linear`: the stream is thin and its timeouts are not to double."""

    linear: bool = False


class MetricsInit(Event, frozen=True):
    """The handshake is over and nothing is cached of the path."""


# ---------------------------------------------------------------- the clocks


@pure
def usecs_to_jiffies(u: int, hz: int) -> int:
    """Jiffies that are not shorter than `u` us; source include/linux/jiffies.h:usecs_to_jiffies."""
    if hz == 100:
        return (u + 9_999) // 10_000
    if hz == 250:
        return (u + 3_999) // 4_000
    if hz == 300:
        return (3 * u + 9_999) // 10_000
    return (u + 999) // 1_000


@pure
def jiffies_to_usecs(j: int, hz: int) -> int:
    """The length of `j` jiffies in us; source kernel/time/time.c:jiffies_to_usecs."""
    if hz == 100:
        return j * 10_000
    if hz == 250:
        return j * 4_000
    if hz == 300:
        return j * 10_000 // 3
    return j * 1_000


@pure
def seconds_to_jiffies(s: int, hz: int) -> int:
    """`s` seconds in jiffies: the kernel's product with HZ."""
    if hz == 100:
        return s * 100
    if hz == 250:
        return s * 250
    if hz == 300:
        return s * 300
    return s * 1_000


@pure
def tcp_rto_min(p: RttParams) -> int:
    """The floor in jiffies, as a socket takes it from the sysctl; source net/ipv4/tcp.c:tcp_init_sock."""
    return usecs_to_jiffies(p.tcp_rto_min_us, p.hz)


@pure
def tcp_rto_min_us(p: RttParams) -> int:
    """The floor in us, rounded up to whole jiffies; source include/net/tcp.h:tcp_rto_min_us."""
    return jiffies_to_usecs(tcp_rto_min(p), p.hz)


@pure
def tcp_rto_max(p: RttParams) -> int:
    """The ceiling in jiffies; source include/net/tcp.h:TCP_RTO_MAX."""
    return usecs_to_jiffies(p.tcp_rto_max_ms * 1_000, p.hz)


# ---------------------------------------------------------------- samples


@pure
def tcp_rtt_tsopt_us(tsecr: int, usec_ts: bool) -> int:
    """The sample (us) that an echoed timestamp gives, -1 for none; source net/ipv4/tcp_input.c:tcp_rtt_tsopt_us.

    A tick is 1 ms, and an echo within the same tick counts as one.
    """
    if tsecr < 0:
        return -1
    if usec_ts:
        return tsecr if tsecr <= INT_MAX else -1
    return max(tsecr, 1) * 1_000 if tsecr < TSOPT_MAX else -1


@pure
def own_rtt_us(e: RttAck) -> int:
    """The sample (us) that the send times give, -1 for none; source net/ipv4/tcp_input.c:tcp_clean_rtx_queue.

    Karn: if any of what is acknowledged was repeated, cumulative acknowledgment tells no time.
    """
    if e.first_us >= 0 and not e.retrans_acked:
        return e.first_us
    return e.sack_first_us


@pure
def seq_rtt_us(e: RttAck) -> int:
    """The sample (us) that the estimator gets, -1 for none; source net/ipv4/tcp_input.c:tcp_ack_update_rtt."""
    return own_rtt_us(e) if own_rtt_us(e) >= 0 or not e.acked else tcp_rtt_tsopt_us(e.tsecr, e.usec_ts)


@pure
def ca_rtt_us(e: RttAck) -> int:
    """The sample (us) of the last segment, which congestion control gets; source as `seq_rtt_us`."""
    if own_rtt_us(e) < 0 and e.acked and e.tsecr >= 0:
        return tcp_rtt_tsopt_us(e.tsecr, e.usec_ts)
    if e.sack_first_us >= 0:
        return e.sack_last_us
    return e.last_us if e.first_us >= 0 and not e.retrans_acked else -1


# ---------------------------------------------------------------- the windowed minimum


@pure
def minmax_reset(t: int, v: int) -> MinRtt:
    """All three places hold the same sample; source include/linux/win_minmax.h:minmax_reset."""
    return MinRtt(t0=t, t1=t, t2=t, v0=v, v1=v, v2=v)


@pure
def minmax_subwin_update(m: MinRtt, win: int, t: int, v: int) -> MinRtt:
    """Time passes: an old minimum gives way, and each quarter of the window gets a choice of its own.

    Source lib/win_minmax.c:minmax_subwin_update.
    """
    dt = (t - m.t0) & M32
    if dt > win:
        if ((t - m.t1) & M32) > win:
            return MinRtt(t0=m.t2, v0=m.v2, t1=t, v1=v, t2=t, v2=v)
        return MinRtt(t0=m.t1, v0=m.v1, t1=m.t2, v1=m.v2, t2=t, v2=v)
    if m.t1 == m.t0 and dt > win // 4:
        return replace(m, t1=t, v1=v, t2=t, v2=v)
    if m.t2 == m.t1 and dt > win // 2:
        return replace(m, t2=t, v2=v)
    return m


@pure
def minmax_running_min(m: MinRtt, win: int, t: int, v: int) -> MinRtt:
    """A new sample: the least within the last `win` jiffies, nearly; source lib/win_minmax.c:minmax_running_min."""
    if v <= m.v0 or ((t - m.t2) & M32) > win:
        return minmax_reset(t, v)
    if v <= m.v1:
        return minmax_subwin_update(replace(m, t1=t, v1=v, t2=t, v2=v), win, t, v)
    if v <= m.v2:
        return minmax_subwin_update(replace(m, t2=t, v2=v), win, t, v)
    return minmax_subwin_update(m, win, t, v)


@pure
def tcp_min_rtt(s: Rtt) -> int:
    """The least RTT of late, in us, 2**32 - 1 before any; source include/net/tcp.h:tcp_min_rtt."""
    return s.rtt_min.v0


@step("net/ipv4/tcp_input.c:tcp_update_rtt_min")
def tcp_update_rtt_min(s: Rtt, rtt_us: int, maybe_delayed: bool, now: int, p: RttParams) -> tuple[Rtt, Effects]:
    """The minimum takes the sample, unless it may be a late ACK; a sample of 0 counts as a jiffy."""
    wlen = seconds_to_jiffies(p.tcp_min_rtt_wlen, p.hz)
    skip = maybe_delayed and rtt_us > tcp_min_rtt(s)
    v = rtt_us if rtt_us != 0 else jiffies_to_usecs(1, p.hz)
    return replace(s, rtt_min=s.rtt_min if skip else minmax_running_min(s.rtt_min, wlen, now, v)), ()


# ---------------------------------------------------------------- the estimator


@pure
def mdev_error(err: int, mdev_us: int) -> int:
    """By how much a sample that is `err` us off the mean moves the mean deviation (times 4).

    A falling RTT makes the deviation grow at an eighth of the pace only. Source net/ipv4/tcp_input.c:tcp_rtt_estimator.
    """
    m = abs(err) - (mdev_us >> 2)
    return m >> 3 if err < 0 and m > 0 else m


@step("net/ipv4/tcp_input.c:tcp_rtt_estimator", "RFC 6298 2")
def tcp_rtt_estimator(s: Rtt, mrtt_us: int, snd_una: int, snd_nxt: int, p: RttParams) -> tuple[Rtt, Effects]:
    """A sample moves the mean by an eighth; the variance rises at once and falls once in a round trip by a quarter."""
    floor = tcp_rto_min_us(p)
    first = s.srtt_us == 0
    err = mrtt_us - (s.srtt_us >> 3)
    mdev = mrtt_us << 1 if first else s.mdev_us + mdev_error(err, s.mdev_us)
    top = max(mdev, s.mdev_max_us)
    rttvar = max(s.rttvar_us, mdev) if mdev > s.mdev_max_us else s.rttvar_us
    round_over = after(snd_una, s.rtt_seq)
    falls = round_over and top < rttvar
    later = rttvar - ((rttvar - top) >> 2) if falls else rttvar
    t = replace(
        s,
        srtt_us=max(1, (mrtt_us << 3 if first else s.srtt_us + err) & M32),
        mdev_us=mdev & M32,
        mdev_max_us=max(mdev, floor) if first else floor if round_over else top,
        rttvar_us=max(mdev, floor) if first else later,
        rtt_seq=snd_nxt if first or round_over else s.rtt_seq,
    )
    return t, ()


@pure
def rto_of(srtt_us: int, rttvar_us: int, p: RttParams) -> int:
    """The timeout in jiffies without back-off and bounds; source include/net/tcp.h:__tcp_set_rto."""
    return usecs_to_jiffies(((srtt_us >> 3) + rttvar_us) & M32, p.hz)


@step("net/ipv4/tcp_input.c:tcp_set_rto", "include/net/tcp.h:tcp_bound_rto", "RFC 6298 2.3")
def tcp_set_rto(s: Rtt, p: RttParams) -> tuple[Rtt, Effects]:
    """The timeout is the mean plus four deviations, at most the ceiling; this takes back every doubling."""
    return replace(s, icsk_rto=min(rto_of(s.srtt_us, s.rttvar_us, p), tcp_rto_max(p))), ()


@rule("net/ipv4/tcp_input.c:tcp_ack_update_rtt", "RFC 6298 2")
def ack_samples(s: Rtt, e: RttAck, p: RttParams) -> tuple[Rtt, Effects]:
    """An acknowledgment with a valid sample feeds minimum and estimator, sets the timeout and ends the back-off."""
    require(seq_rtt_us(e) >= 0, "the acknowledgment gives a sample")
    t, _ = tcp_update_rtt_min(s, ca_rtt_us(e), e.maybe_delayed, e.now, p)
    t, _ = tcp_rtt_estimator(t, seq_rtt_us(e), e.snd_una, e.snd_nxt, p)
    t, _ = tcp_set_rto(t, p)
    return replace(t, icsk_backoff=0), ()


@rule("net/ipv4/tcp_input.c:tcp_ack_update_rtt", "RFC 6298 3")
def ack_without_sample(s: Rtt, e: RttAck, p: RttParams) -> tuple[Rtt, Effects]:
    """An acknowledgment that tells no time leaves estimate, timeout and back-off alone."""
    require(seq_rtt_us(e) < 0, "the acknowledgment gives no sample")
    return s, ()


@rule("net/ipv4/tcp_timer.c:tcp_retransmit_timer", "RFC 6298 5.5")
def timeout_doubles(s: Rtt, e: RetransmitTimeout, p: RttParams) -> tuple[Rtt, Effects]:
    """The timeout itself doubles, up to the ceiling, not a multiplier of it."""
    require(not e.linear, "the stream is not thin")
    return replace(s, icsk_backoff=(s.icsk_backoff + 1) & 0xFF, icsk_rto=min(s.icsk_rto << 1, tcp_rto_max(p))), ()


@rule("net/ipv4/tcp_timer.c:tcp_retransmit_timer")
def timeout_stays(s: Rtt, e: RetransmitTimeout, p: RttParams) -> tuple[Rtt, Effects]:
    """A thin stream's timeout is computed anew, without back-off, between floor and ceiling."""
    require(e.linear, "the stream is thin")
    rto = min(max(rto_of(s.srtt_us, s.rttvar_us, p), tcp_rto_min(p)), tcp_rto_max(p))
    return replace(s, icsk_backoff=0, icsk_rto=rto), ()


@rule("net/ipv4/tcp_metrics.c:tcp_init_metrics", "RFC 6298 5.7")
def no_handshake_sample(s: Rtt, e: MetricsInit, p: RttParams) -> tuple[Rtt, Effects]:
    """A handshake that gave no sample leaves a timeout and a deviation of three seconds."""
    require(s.srtt_us == 0, "no sample so far")
    var = TCP_TIMEOUT_FALLBACK
    rto = seconds_to_jiffies(3, p.hz)
    return replace(s, rttvar_us=var, mdev_us=var, mdev_max_us=var, icsk_rto=rto), ()


@rule("net/ipv4/tcp_metrics.c:tcp_init_metrics")
def handshake_sample_stays(s: Rtt, e: MetricsInit, p: RttParams) -> tuple[Rtt, Effects]:
    """The handshake's own sample stays."""
    require(s.srtt_us != 0, "a sample")
    return s, ()


# ---------------------------------------------------------------- what is proved of them


@assume
def rtt_is_sane(e: RttAck) -> bool:
    """No sample exceeds 536.8 s: beyond it the smoothed RTT wraps, in Linux as in these steps."""
    return seq_rtt_us(e) <= RTT_MAX


@assume
def ages_come_in_pairs(e: RttAck) -> bool:
    """Whoever knows the age of a first segment knows that of a last one, which is no older."""
    own = e.last_us >= 0 and e.last_us <= e.first_us if e.first_us >= 0 else e.last_us < 0
    sack = e.sack_last_us >= 0 and e.sack_last_us <= e.sack_first_us if e.sack_first_us >= 0 else e.sack_last_us < 0
    return own and sack


@invariant()
def variance_has_a_floor(s: Rtt, p: RttParams) -> bool:
    """Once there is a sample, neither the variance nor its measure of this round trip lies below the floor."""
    return s.srtt_us == 0 or (s.rttvar_us >= tcp_rto_min_us(p) and s.mdev_max_us >= tcp_rto_min_us(p))


@invariant()
def variance_covers_deviation(s: Rtt) -> bool:
    """The variance is at least the mean deviation and at least its greatest value of this round trip."""
    return s.srtt_us == 0 or (s.rttvar_us >= s.mdev_us and s.rttvar_us >= s.mdev_max_us)


@invariant()
def timeout_in_bounds(s: Rtt, p: RttParams) -> bool:
    """The timeout lies below the ceiling, but for the initial three seconds, and not below the floor."""
    over = s.icsk_rto <= max(tcp_rto_max(p), seconds_to_jiffies(3, p.hz))
    return over and (s.srtt_us == 0 or s.icsk_rto >= min(tcp_rto_min(p), tcp_rto_max(p)))


@invariant()
def minima_are_ordered(s: Rtt) -> bool:
    """The three minima come best first."""
    return s.rtt_min.v0 <= s.rtt_min.v1 and s.rtt_min.v1 <= s.rtt_min.v2


@transition(RttAck)
def karn(s: Rtt, e: RttAck, t: Rtt) -> bool:
    """What acknowledges repeated data, without SACK and echoed timestamp, changes neither estimate nor timeout."""
    return not (e.retrans_acked and e.sack_first_us < 0 and (e.tsecr < 0 or not e.acked)) or t == s


@transition(RttAck)
def mean_moves_to_the_sample(s: Rtt, e: RttAck, t: Rtt) -> bool:
    """The new mean lies between the old mean and the sample."""
    m = 8 * seq_rtt_us(e)
    if m < 0 or s.srtt_us == 0:
        return True
    return min(s.srtt_us, max(m, 1)) <= t.srtt_us and t.srtt_us <= max(s.srtt_us, m)


@transition(RttAck)
def timeout_exceeds_the_mean(s: Rtt, e: RttAck, t: Rtt, effects: Effects, p: RttParams) -> bool:
    """After a sample the timeout exceeds the mean by the floor at least, unless the ceiling cuts it."""
    least = min(usecs_to_jiffies((t.srtt_us >> 3) + tcp_rto_min_us(p), p.hz), tcp_rto_max(p))
    return seq_rtt_us(e) < 0 or (t.icsk_rto >= least and t.icsk_backoff == 0)


@transition(RttAck)
def minimum_is_no_more_than_the_sample(s: Rtt, e: RttAck, t: Rtt, effects: Effects, p: RttParams) -> bool:
    """No sample is less than the minimum after it; one of 0 counts as a jiffy."""
    v = ca_rtt_us(e)
    return seq_rtt_us(e) < 0 or tcp_min_rtt(t) <= (v if v != 0 else jiffies_to_usecs(1, p.hz))


@transition(RetransmitTimeout)
def timeout_at_most_doubles(s: Rtt, e: RetransmitTimeout, t: Rtt, effects: Effects, p: RttParams) -> bool:
    """A timer that ran out leaves a timeout that is no shorter, but for the ceiling, and at most twice as long."""
    return e.linear or (min(s.icsk_rto, tcp_rto_max(p)) <= t.icsk_rto and t.icsk_rto <= 2 * s.icsk_rto)


TCP_RTT: Final = machine(
    Machine(
        name="tcp_rtt",
        title="TCP's round-trip time and timeout",
        accepts={Rtt: (RttAck, RetransmitTimeout, MetricsInit)},
        params=RttParams,
        modules=(__name__,),
    )
)
