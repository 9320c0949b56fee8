"""BBR: a model of the path, bandwidth and delay, instead of loss (net/ipv4/tcp_bbr.c).

The law: the pacing rate is a gain times the greatest delivery rate of the last ten round trips, less a per cent; the
window is a gain times that rate times the least delay of the last ten seconds. STARTUP fills the pipe, DRAIN empties
the queue that this made, PROBE_BW cycles through gains, PROBE_RTT goes down to four segments. Rates are segments per us
times 2**24, gains are times 256, times us unless named otherwise. Where the kernel's 32 bits wrap, these do.
"""

import struct
from enum import IntEnum
from typing import Final, cast

from refmodel.rule import cited
from refmodel.tcp.whole.ca import INET_DIAG_BBRINFO, INET_DIAG_VEGASINFO, TCP_CONG_NON_RESTRICTED, CongestionOps
from refmodel.tcp.whole.const import (
    CA_EVENT_TX_START,
    GSO_LEGACY_MAX_SIZE,
    MAX_TCP_HEADER,
    SK_PACING_NEEDED,
    SK_PACING_NONE,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
)
from refmodel.tcp.whole.sock import CA, MinMax, RateSample, Sock
from refmodel.tcp.whole.tcp_h import tcp_min_rtt, tcp_packets_in_flight, tcp_stamp_us_delta
from refmodel.types import H32, M32, after, before

M64: Final = 2**64 - 1
BW_SCALE: Final = 24
BW_UNIT: Final = 1 << BW_SCALE
BBR_SCALE: Final = 8
BBR_UNIT: Final = 1 << BBR_SCALE
CYCLE_LEN: Final = 8
BW_RTTS: Final = CYCLE_LEN + 2
MIN_RTT_WIN_SEC: Final = 10
PROBE_RTT_MODE_MS: Final = 200
MIN_TSO_RATE: Final = 1_200_000  # bits a second
PACING_MARGIN_PERCENT: Final = 1
HIGH_GAIN: Final = BBR_UNIT * 2885 // 1000 + 1
DRAIN_GAIN: Final = BBR_UNIT * 1000 // 2885
CWND_GAIN: Final = BBR_UNIT * 2
PACING_GAIN: Final = (BBR_UNIT * 5 // 4, BBR_UNIT * 3 // 4, *(BBR_UNIT,) * 6)
CYCLE_RAND: Final = 7
CWND_MIN_TARGET: Final = 4
FULL_BW_THRESH: Final = BBR_UNIT * 5 // 4
FULL_BW_CNT: Final = 3
LT_INTVL_MIN_RTTS: Final = 4
LT_LOSS_THRESH: Final = 50
LT_BW_RATIO: Final = BBR_UNIT // 8
LT_BW_DIFF: Final = 4000 // 8
LT_BW_MAX_RTTS: Final = 48
EXTRA_ACKED_GAIN: Final = BBR_UNIT
EXTRA_ACKED_WIN_RTTS: Final = 5
ACK_EPOCH_ACKED_RESET_THRESH: Final = 1 << 20
EXTRA_ACKED_MAX_US: Final = 100_000


class Mode(IntEnum):
    """enum bbr_mode."""

    STARTUP = 0
    DRAIN = 1
    PROBE_BW = 2
    PROBE_RTT = 3


class Bbr:
    """struct bbr: stamps named so are jiffies, `lt_last_stamp` is ms, `_mstamp` us."""

    __slots__ = (
        "ack_epoch_acked",
        "ack_epoch_mstamp",
        "bw",
        "cwnd_gain",
        "cycle_idx",
        "cycle_mstamp",
        "extra_acked",
        "extra_acked_win_idx",
        "extra_acked_win_rtts",
        "full_bw",
        "full_bw_cnt",
        "full_bw_reached",
        "has_seen_rtt",
        "idle_restart",
        "lt_bw",
        "lt_is_sampling",
        "lt_last_delivered",
        "lt_last_lost",
        "lt_last_stamp",
        "lt_rtt_cnt",
        "lt_use_bw",
        "min_rtt_stamp",
        "min_rtt_us",
        "mode",
        "next_rtt_delivered",
        "pacing_gain",
        "packet_conservation",
        "prev_ca_state",
        "prior_cwnd",
        "probe_rtt_done_stamp",
        "probe_rtt_round_done",
        "round_start",
        "rtt_cnt",
    )

    def __init__(self) -> None:
        self.min_rtt_us = 0
        self.min_rtt_stamp = 0
        self.probe_rtt_done_stamp = 0
        self.bw = MinMax()
        self.rtt_cnt = 0
        self.next_rtt_delivered = 0
        self.cycle_mstamp = 0
        self.mode = Mode.STARTUP
        self.prev_ca_state = CA.Open
        self.packet_conservation = False
        self.round_start = False
        self.idle_restart = False
        self.probe_rtt_round_done = False
        self.lt_is_sampling = False
        self.lt_rtt_cnt = 0
        self.lt_use_bw = False
        self.lt_bw = 0
        self.lt_last_delivered = 0
        self.lt_last_stamp = 0
        self.lt_last_lost = 0
        self.pacing_gain = 0
        self.cwnd_gain = 0
        self.full_bw_reached = False
        self.full_bw_cnt = 0
        self.cycle_idx = 0
        self.has_seen_rtt = False
        self.prior_cwnd = 0
        self.full_bw = 0
        self.ack_epoch_mstamp = 0
        self.extra_acked = [0, 0]
        self.ack_epoch_acked = 0
        self.extra_acked_win_rtts = 0
        self.extra_acked_win_idx = 0


def bbr_of(sk: Sock) -> Bbr:
    """The socket's struct bbr; one that was never initialised is all zeros."""
    if sk.icsk_ca_priv is None:
        sk.icsk_ca_priv = Bbr()
    return cast(Bbr, sk.icsk_ca_priv)


# ---------------------------------------------------------------- rates


def bbr_max_bw(bbr: Bbr) -> int:
    """The greatest delivery rate of late; source net/ipv4/tcp_bbr.c:bbr_max_bw."""
    return bbr.bw.get()


def bbr_bw(bbr: Bbr) -> int:
    """The path's bandwidth, or what a policer lets through; source net/ipv4/tcp_bbr.c:bbr_bw."""
    return bbr.lt_bw if bbr.lt_use_bw else bbr.bw.get()


def bbr_extra_acked(bbr: Bbr) -> int:
    """By how much at most ACKs of late ran ahead of the rate; source net/ipv4/tcp_bbr.c:bbr_extra_acked."""
    return max(bbr.extra_acked)


@cited("net/ipv4/tcp_bbr.c:bbr_rate_bytes_per_sec")
def bbr_rate_bytes_per_sec(sk: Sock, rate: int, gain: int) -> int:
    """A rate times a gain in bytes a second, less a per cent."""
    rate = rate * sk.mss_cache & M64
    rate = (rate * gain & M64) >> BBR_SCALE
    return (rate * (1_000_000 // 100 * (100 - PACING_MARGIN_PERCENT)) & M64) >> BW_SCALE


def bbr_bw_to_pacing_rate(sk: Sock, bw: int, gain: int) -> int:
    """The same, no more than the socket's own limit; source net/ipv4/tcp_bbr.c:bbr_bw_to_pacing_rate."""
    return min(bbr_rate_bytes_per_sec(sk, bw & M32, gain), sk.sk_max_pacing_rate)


@cited("net/ipv4/tcp_bbr.c:bbr_init_pacing_rate_from_rtt")
def bbr_init_pacing_rate_from_rtt(sk: Sock) -> None:
    """The first rate: 2.89 windows in a round trip, of 1 ms while none is known."""
    if sk.srtt_us:
        rtt_us = max(sk.srtt_us >> 3, 1)
        bbr_of(sk).has_seen_rtt = True
    else:
        rtt_us = 1000
    sk.sk_pacing_rate = bbr_bw_to_pacing_rate(sk, sk.snd_cwnd * BW_UNIT // rtt_us, HIGH_GAIN)


@cited("net/ipv4/tcp_bbr.c:bbr_set_pacing_rate")
def bbr_set_pacing_rate(sk: Sock, bw: int, gain: int) -> None:
    """The rate follows the bandwidth; it doesn't fall before the pipe was full."""
    bbr = bbr_of(sk)
    rate = bbr_bw_to_pacing_rate(sk, bw, gain)
    if not bbr.has_seen_rtt and sk.srtt_us:
        bbr_init_pacing_rate_from_rtt(sk)
    if bbr.full_bw_reached or rate > sk.sk_pacing_rate:
        sk.sk_pacing_rate = rate


@cited("net/ipv4/tcp_bbr.c:bbr_min_tso_segs")
def bbr_min_tso_segs(sk: Sock) -> int:
    """Below 1.2 Mbit/s segments leave one by one."""
    return 1 if sk.sk_pacing_rate < MIN_TSO_RATE >> 3 else 2


@cited("net/ipv4/tcp_bbr.c:bbr_tso_segs_goal")
def bbr_tso_segs_goal(sk: Sock) -> int:
    """How many segments leave together: those of about a millisecond."""
    size = min(sk.sk_pacing_rate >> sk.sk_pacing_shift, GSO_LEGACY_MAX_SIZE - 1 - MAX_TCP_HEADER(sk.net.p.max_header))
    return min(max(size // sk.mss_cache, bbr_min_tso_segs(sk)), 0x7F)


@cited("net/ipv4/tcp_bbr.c:bbr_save_cwnd")
def bbr_save_cwnd(sk: Sock) -> None:
    """The last good window is remembered, to come back to it."""
    bbr = bbr_of(sk)
    if bbr.prev_ca_state < CA.Recovery and bbr.mode != Mode.PROBE_RTT:
        bbr.prior_cwnd = sk.snd_cwnd
    else:
        bbr.prior_cwnd = max(bbr.prior_cwnd, sk.snd_cwnd)


@cited("net/ipv4/tcp_bbr.c:bbr_cwnd_event")
def bbr_cwnd_event(sk: Sock, event: int) -> None:
    """When an application sends again after silence, it does so at the known rate."""
    if event != CA_EVENT_TX_START or not sk.app_limited:
        return
    bbr = bbr_of(sk)
    bbr.idle_restart = True
    bbr.ack_epoch_mstamp = sk.tcp_mstamp
    bbr.ack_epoch_acked = 0
    if bbr.mode == Mode.PROBE_BW:
        bbr_set_pacing_rate(sk, bbr_bw(bbr), BBR_UNIT)
    elif bbr.mode == Mode.PROBE_RTT:
        bbr_check_probe_rtt_done(sk)


# ---------------------------------------------------------------- the window


@cited("net/ipv4/tcp_bbr.c:bbr_bdp")
def bbr_bdp(sk: Sock, bw: int, gain: int) -> int:
    """What the path holds, times a gain, rounded up; ten segments while no delay is known."""
    bbr = bbr_of(sk)
    if bbr.min_rtt_us == M32:
        return TCP_INIT_CWND
    w = bw * bbr.min_rtt_us
    return (((w * gain & M64) >> BBR_SCALE) + BW_UNIT - 1) // BW_UNIT & M32


@cited("net/ipv4/tcp_bbr.c:bbr_quantization_budget")
def bbr_quantization_budget(sk: Sock, cwnd: int) -> int:
    """Room for three bursts, an even number, and two more where the rate is probed."""
    bbr = bbr_of(sk)
    cwnd += 3 * bbr_tso_segs_goal(sk)
    cwnd = (cwnd + 1) & ~1
    if bbr.mode == Mode.PROBE_BW and bbr.cycle_idx == 0:
        cwnd += 2
    return cwnd


def bbr_inflight(sk: Sock, bw: int, gain: int) -> int:
    """What is to be in flight at that rate; source net/ipv4/tcp_bbr.c:bbr_inflight."""
    return bbr_quantization_budget(sk, bbr_bdp(sk, bw, gain))


@cited("net/ipv4/tcp_bbr.c:bbr_packets_in_net_at_edt")
def bbr_packets_in_net_at_edt(sk: Sock, inflight_now: int) -> int:
    """What will be in the network when the next segment may leave."""
    bbr = bbr_of(sk)
    now_ns = sk.tcp_clock_cache
    interval_us = (max(sk.tcp_wstamp_ns, now_ns) - now_ns) // 1000
    interval_delivered = bbr_bw(bbr) * interval_us >> BW_SCALE & M32
    inflight_at_edt = inflight_now
    if bbr.pacing_gain > BBR_UNIT:
        inflight_at_edt += bbr_tso_segs_goal(sk)
    return max(inflight_at_edt - interval_delivered, 0)


@cited("net/ipv4/tcp_bbr.c:bbr_ack_aggregation_cwnd")
def bbr_ack_aggregation_cwnd(sk: Sock) -> int:
    """Room for what ACKs run ahead: what comes in 100 ms at most."""
    bbr = bbr_of(sk)
    if not bbr.full_bw_reached:
        return 0
    max_aggr_cwnd = bbr_bw(bbr) * EXTRA_ACKED_MAX_US // BW_UNIT
    return min(EXTRA_ACKED_GAIN * bbr_extra_acked(bbr) >> BBR_SCALE, max_aggr_cwnd)


@cited("net/ipv4/tcp_bbr.c:bbr_set_cwnd_to_recover_or_restore")
def bbr_set_cwnd_to_recover_or_restore(sk: Sock, rs: RateSample, acked: int) -> tuple[bool, int]:
    """In the first round trip of recovery one segment leaves for each that arrived; after it the old window returns.

    Answers whether that rule holds now, and the window.
    """
    bbr = bbr_of(sk)
    prev_state, state = bbr.prev_ca_state, sk.icsk_ca_state
    cwnd = sk.snd_cwnd
    if rs.losses > 0:
        cwnd = max(cwnd - rs.losses, 1)
    if state == CA.Recovery and prev_state != CA.Recovery:
        bbr.packet_conservation = True
        bbr.next_rtt_delivered = sk.delivered
        cwnd = tcp_packets_in_flight(sk) + acked
    elif prev_state >= CA.Recovery and state < CA.Recovery:
        cwnd = max(cwnd, bbr.prior_cwnd)
        bbr.packet_conservation = False
    bbr.prev_ca_state = state
    if bbr.packet_conservation:
        return True, max(cwnd, tcp_packets_in_flight(sk) + acked)
    return False, cwnd


@cited("net/ipv4/tcp_bbr.c:bbr_set_cwnd")
def bbr_set_cwnd(sk: Sock, rs: RateSample, acked: int, bw: int, gain: int) -> None:
    """The window goes to its target as fast as slow start, and down to it at once when the pipe was full."""
    bbr = bbr_of(sk)
    cwnd = sk.snd_cwnd
    conserving = True
    if acked:
        conserving, cwnd = bbr_set_cwnd_to_recover_or_restore(sk, rs, acked)
    if not conserving:
        target_cwnd = bbr_quantization_budget(sk, bbr_bdp(sk, bw, gain) + bbr_ack_aggregation_cwnd(sk))
        if bbr.full_bw_reached:
            cwnd = min(cwnd + acked, target_cwnd)
        elif cwnd < target_cwnd or sk.delivered < TCP_INIT_CWND:
            cwnd += acked
        cwnd = max(cwnd, CWND_MIN_TARGET)
    sk.snd_cwnd = min(cwnd, sk.snd_cwnd_clamp)
    if bbr.mode == Mode.PROBE_RTT:
        sk.snd_cwnd = min(sk.snd_cwnd, CWND_MIN_TARGET)


# ---------------------------------------------------------------- the cycle of gains


@cited("net/ipv4/tcp_bbr.c:bbr_is_next_cycle_phase")
def bbr_is_next_cycle_phase(sk: Sock, rs: RateSample) -> bool:
    """A phase lasts a least delay; the probing one until it filled the path or lost, the draining one no longer."""
    bbr = bbr_of(sk)
    is_full_length = tcp_stamp_us_delta(sk.delivered_mstamp, bbr.cycle_mstamp) > bbr.min_rtt_us
    if bbr.pacing_gain == BBR_UNIT:
        return is_full_length
    inflight = bbr_packets_in_net_at_edt(sk, rs.prior_in_flight)
    bw = bbr_max_bw(bbr)
    if bbr.pacing_gain > BBR_UNIT:
        return is_full_length and (rs.losses != 0 or inflight >= bbr_inflight(sk, bw, bbr.pacing_gain))
    return is_full_length or inflight <= bbr_inflight(sk, bw, BBR_UNIT)


@cited("net/ipv4/tcp_bbr.c:bbr_advance_cycle_phase")
def bbr_advance_cycle_phase(sk: Sock) -> None:
    """The next gain of the cycle."""
    bbr = bbr_of(sk)
    bbr.cycle_idx = (bbr.cycle_idx + 1) & (CYCLE_LEN - 1)
    bbr.cycle_mstamp = sk.delivered_mstamp


def bbr_update_cycle_phase(sk: Sock, rs: RateSample) -> None:
    """Source net/ipv4/tcp_bbr.c:bbr_update_cycle_phase."""
    if bbr_of(sk).mode == Mode.PROBE_BW and bbr_is_next_cycle_phase(sk, rs):
        bbr_advance_cycle_phase(sk)


@cited("net/ipv4/tcp_bbr.c:bbr_reset_probe_bw_mode")
def bbr_reset_probe_bw_mode(sk: Sock) -> None:
    """The cycle begins at a random phase, but never at the draining one."""
    bbr = bbr_of(sk)
    bbr.mode = Mode.PROBE_BW
    sk.net.note("bbr_reset_probe_bw_mode", f"bw {bbr_bw(bbr)}, min_rtt_us {bbr.min_rtt_us}")
    bbr.cycle_idx = CYCLE_LEN - 1 - (sk.net.random() * CYCLE_RAND >> 32)
    bbr_advance_cycle_phase(sk)


def bbr_reset_mode(sk: Sock) -> None:
    """After PROBE_RTT, back; source net/ipv4/tcp_bbr.c:bbr_reset_mode."""
    bbr = bbr_of(sk)
    if not bbr.full_bw_reached:
        bbr.mode = Mode.STARTUP
    else:
        bbr_reset_probe_bw_mode(sk)


# ---------------------------------------------------------------- policers


@cited("net/ipv4/tcp_bbr.c:bbr_reset_lt_bw_sampling_interval")
def bbr_reset_lt_bw_sampling_interval(sk: Sock) -> None:
    """A long-term interval begins."""
    bbr = bbr_of(sk)
    bbr.lt_last_stamp = sk.delivered_mstamp // 1000 & M32
    bbr.lt_last_delivered = sk.delivered
    bbr.lt_last_lost = sk.lost
    bbr.lt_rtt_cnt = 0


@cited("net/ipv4/tcp_bbr.c:bbr_reset_lt_bw_sampling")
def bbr_reset_lt_bw_sampling(sk: Sock) -> None:
    """Nothing is known of a policer."""
    bbr = bbr_of(sk)
    bbr.lt_bw = 0
    bbr.lt_use_bw = False
    bbr.lt_is_sampling = False
    bbr_reset_lt_bw_sampling_interval(sk)


@cited("net/ipv4/tcp_bbr.c:bbr_lt_bw_interval_done")
def bbr_lt_bw_interval_done(sk: Sock, bw: int) -> None:
    """Two lossy intervals of nearly the same rate betray a policer."""
    bbr = bbr_of(sk)
    if bbr.lt_bw:
        diff = abs(bw - bbr.lt_bw)
        if (diff * BBR_UNIT & M32) <= (LT_BW_RATIO * bbr.lt_bw & M32) or bbr_rate_bytes_per_sec(
            sk, diff, BBR_UNIT
        ) <= LT_BW_DIFF:
            bbr.lt_bw = (bw + bbr.lt_bw & M32) >> 1
            bbr.lt_use_bw = True
            bbr.pacing_gain = BBR_UNIT
            bbr.lt_rtt_cnt = 0
            sk.net.note("bbr_lt_bw_interval_done", f"policed: lt_bw {bbr.lt_bw}")
            return
    bbr.lt_bw = bw
    bbr_reset_lt_bw_sampling_interval(sk)


@cited("net/ipv4/tcp_bbr.c:bbr_lt_bw_sampling")
def bbr_lt_bw_sampling(sk: Sock, rs: RateSample) -> None:
    """Intervals of 4 to 16 round trips, from loss to loss, with a fifth lost, measure what a policer lets through."""
    bbr = bbr_of(sk)
    if bbr.lt_use_bw:
        if bbr.mode == Mode.PROBE_BW and bbr.round_start:
            bbr.lt_rtt_cnt = (bbr.lt_rtt_cnt + 1) & 0x7F
            if bbr.lt_rtt_cnt >= LT_BW_MAX_RTTS:
                bbr_reset_lt_bw_sampling(sk)
                bbr_reset_probe_bw_mode(sk)
        return
    if not bbr.lt_is_sampling:
        if not rs.losses:
            return
        bbr_reset_lt_bw_sampling_interval(sk)
        bbr.lt_is_sampling = True
    if rs.is_app_limited:
        bbr_reset_lt_bw_sampling(sk)
        return
    if bbr.round_start:
        bbr.lt_rtt_cnt = (bbr.lt_rtt_cnt + 1) & 0x7F
    if bbr.lt_rtt_cnt < LT_INTVL_MIN_RTTS:
        return
    if bbr.lt_rtt_cnt > 4 * LT_INTVL_MIN_RTTS:
        bbr_reset_lt_bw_sampling(sk)
        return
    if not rs.losses:
        return
    lost = (sk.lost - bbr.lt_last_lost) & M32
    delivered = (sk.delivered - bbr.lt_last_delivered) & M32
    if not delivered or (lost << BBR_SCALE & M32) < (LT_LOSS_THRESH * delivered & M32):
        return
    t = (sk.delivered_mstamp // 1000 - bbr.lt_last_stamp) & M32
    if t == 0 or t >= H32:
        return
    if t >= M32 // 1000:
        bbr_reset_lt_bw_sampling(sk)
        return
    bbr_lt_bw_interval_done(sk, delivered * BW_UNIT // (t * 1000) & M32)


# ---------------------------------------------------------------- the model of the path


@cited("net/ipv4/tcp_bbr.c:bbr_update_bw")
def bbr_update_bw(sk: Sock, rs: RateSample) -> None:
    """A sample of the delivery rate; one that the application limited counts only if it is the greatest."""
    bbr = bbr_of(sk)
    bbr.round_start = False
    if rs.delivered < 0 or rs.interval_us <= 0:
        return
    if not before(rs.prior_delivered & M32, bbr.next_rtt_delivered & M32):
        bbr.next_rtt_delivered = sk.delivered
        bbr.rtt_cnt += 1
        bbr.round_start = True
        bbr.packet_conservation = False
    bbr_lt_bw_sampling(sk, rs)
    bw = rs.delivered * BW_UNIT // rs.interval_us
    if not rs.is_app_limited or bw >= bbr_max_bw(bbr):
        bbr.bw.running_max(BW_RTTS, bbr.rtt_cnt, bw & M32)


@cited("net/ipv4/tcp_bbr.c:bbr_update_ack_aggregation")
def bbr_update_ack_aggregation(sk: Sock, rs: RateSample) -> None:
    """By how much ACKs ran ahead of the rate, at most, within the last five to ten round trips."""
    bbr = bbr_of(sk)
    if rs.acked_sacked <= 0 or rs.delivered < 0 or rs.interval_us <= 0:
        return
    if bbr.round_start:
        bbr.extra_acked_win_rtts = min(0x1F, bbr.extra_acked_win_rtts + 1)
        if bbr.extra_acked_win_rtts >= EXTRA_ACKED_WIN_RTTS:
            bbr.extra_acked_win_rtts = 0
            bbr.extra_acked_win_idx ^= 1
            bbr.extra_acked[bbr.extra_acked_win_idx] = 0
    epoch_us = tcp_stamp_us_delta(sk.delivered_mstamp, bbr.ack_epoch_mstamp) & M32
    expected_acked = bbr_bw(bbr) * epoch_us // BW_UNIT & M32
    if bbr.ack_epoch_acked <= expected_acked or bbr.ack_epoch_acked + rs.acked_sacked >= ACK_EPOCH_ACKED_RESET_THRESH:
        bbr.ack_epoch_acked = 0
        bbr.ack_epoch_mstamp = sk.delivered_mstamp
        expected_acked = 0
    bbr.ack_epoch_acked = min(0xFFFFF, bbr.ack_epoch_acked + rs.acked_sacked)
    extra_acked = min((bbr.ack_epoch_acked - expected_acked) & M32, sk.snd_cwnd)
    if extra_acked > bbr.extra_acked[bbr.extra_acked_win_idx]:
        bbr.extra_acked[bbr.extra_acked_win_idx] = extra_acked & 0xFFFF


@cited("net/ipv4/tcp_bbr.c:bbr_check_full_bw_reached")
def bbr_check_full_bw_reached(sk: Sock, rs: RateSample) -> None:
    """The pipe is full when the rate hasn't grown by a quarter in three round trips."""
    bbr = bbr_of(sk)
    if bbr.full_bw_reached or not bbr.round_start or rs.is_app_limited:
        return
    if bbr_max_bw(bbr) >= bbr.full_bw * FULL_BW_THRESH >> BBR_SCALE & M32:
        bbr.full_bw = bbr_max_bw(bbr)
        bbr.full_bw_cnt = 0
        return
    bbr.full_bw_cnt = (bbr.full_bw_cnt + 1) & 3
    bbr.full_bw_reached = bbr.full_bw_cnt >= FULL_BW_CNT
    if bbr.full_bw_reached:
        sk.net.note("bbr_check_full_bw_reached", f"bw {bbr.full_bw}")


@cited("net/ipv4/tcp_bbr.c:bbr_check_drain")
def bbr_check_drain(sk: Sock, rs: RateSample) -> None:
    """When the pipe is full the queue is drained, until no more is in flight than the path holds."""
    bbr = bbr_of(sk)
    if bbr.mode == Mode.STARTUP and bbr.full_bw_reached:
        bbr.mode = Mode.DRAIN
        sk.snd_ssthresh = bbr_inflight(sk, bbr_max_bw(bbr), BBR_UNIT)
    if bbr.mode == Mode.DRAIN and bbr_packets_in_net_at_edt(sk, tcp_packets_in_flight(sk)) <= bbr_inflight(
        sk, bbr_max_bw(bbr), BBR_UNIT
    ):
        bbr_reset_probe_bw_mode(sk)


@cited("net/ipv4/tcp_bbr.c:bbr_check_probe_rtt_done")
def bbr_check_probe_rtt_done(sk: Sock) -> None:
    """After 200 ms and a round trip with four segments the old window comes back."""
    bbr = bbr_of(sk)
    now = sk.net.jiffies & M32
    if not (bbr.probe_rtt_done_stamp and after(now, bbr.probe_rtt_done_stamp)):
        return
    bbr.min_rtt_stamp = now
    sk.snd_cwnd = max(sk.snd_cwnd, bbr.prior_cwnd)
    bbr_reset_mode(sk)


@cited("net/ipv4/tcp_bbr.c:bbr_update_min_rtt")
def bbr_update_min_rtt(sk: Sock, rs: RateSample) -> None:
    """The least delay; one of ten seconds ago is measured anew, with four segments in flight."""
    bbr = bbr_of(sk)
    now = sk.net.jiffies & M32
    filter_expired = after(now, (bbr.min_rtt_stamp + MIN_RTT_WIN_SEC * sk.net.hz) & M32)
    if rs.rtt_us >= 0 and (rs.rtt_us < bbr.min_rtt_us or (filter_expired and not rs.is_ack_delayed)):
        bbr.min_rtt_us = rs.rtt_us & M32
        bbr.min_rtt_stamp = now
    if filter_expired and not bbr.idle_restart and bbr.mode != Mode.PROBE_RTT:
        bbr.mode = Mode.PROBE_RTT
        sk.net.note("bbr_update_min_rtt", "PROBE_RTT")
        bbr_save_cwnd(sk)
        bbr.probe_rtt_done_stamp = 0
    if bbr.mode == Mode.PROBE_RTT:
        in_flight = tcp_packets_in_flight(sk)
        sk.app_limited = (sk.delivered + in_flight) & M32 or 1
        if not bbr.probe_rtt_done_stamp and in_flight <= CWND_MIN_TARGET:
            bbr.probe_rtt_done_stamp = (now + sk.net.msecs_to_jiffies(PROBE_RTT_MODE_MS)) & M32
            bbr.probe_rtt_round_done = False
            bbr.next_rtt_delivered = sk.delivered
        elif bbr.probe_rtt_done_stamp:
            if bbr.round_start:
                bbr.probe_rtt_round_done = True
            if bbr.probe_rtt_round_done:
                bbr_check_probe_rtt_done(sk)
    if rs.delivered > 0:
        bbr.idle_restart = False


@cited("net/ipv4/tcp_bbr.c:bbr_update_gains")
def bbr_update_gains(sk: Sock) -> None:
    """Each mode has its gains."""
    bbr = bbr_of(sk)
    if bbr.mode == Mode.STARTUP:
        bbr.pacing_gain = HIGH_GAIN
        bbr.cwnd_gain = HIGH_GAIN
    elif bbr.mode == Mode.DRAIN:
        bbr.pacing_gain = DRAIN_GAIN
        bbr.cwnd_gain = HIGH_GAIN
    elif bbr.mode == Mode.PROBE_BW:
        bbr.pacing_gain = BBR_UNIT if bbr.lt_use_bw else PACING_GAIN[bbr.cycle_idx]
        bbr.cwnd_gain = CWND_GAIN
    else:
        bbr.pacing_gain = BBR_UNIT
        bbr.cwnd_gain = BBR_UNIT


def bbr_update_model(sk: Sock, rs: RateSample) -> None:
    """All of it in order; source net/ipv4/tcp_bbr.c:bbr_update_model."""
    bbr_update_bw(sk, rs)
    bbr_update_ack_aggregation(sk, rs)
    bbr_update_cycle_phase(sk, rs)
    bbr_check_full_bw_reached(sk, rs)
    bbr_check_drain(sk, rs)
    bbr_update_min_rtt(sk, rs)
    bbr_update_gains(sk)


@cited("net/ipv4/tcp_bbr.c:bbr_main")
def bbr_main(sk: Sock, ack: int, flag: int, rs: RateSample) -> None:
    """An acknowledgment moves the model, and the model the rate and the window."""
    bbr_update_model(sk, rs)
    bbr = bbr_of(sk)
    bw = bbr_bw(bbr)
    bbr_set_pacing_rate(sk, bw, bbr.pacing_gain)
    bbr_set_cwnd(sk, rs, rs.acked_sacked, bw, bbr.cwnd_gain)


@cited("net/ipv4/tcp_bbr.c:bbr_init")
def bbr_init(sk: Sock) -> None:
    """The connection begins in STARTUP, paced."""
    bbr = bbr_of(sk)
    bbr.prior_cwnd = 0
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    bbr.rtt_cnt = 0
    bbr.next_rtt_delivered = sk.delivered
    bbr.prev_ca_state = CA.Open
    bbr.packet_conservation = False
    bbr.probe_rtt_done_stamp = 0
    bbr.probe_rtt_round_done = False
    bbr.min_rtt_us = tcp_min_rtt(sk)
    bbr.min_rtt_stamp = sk.net.jiffies & M32
    bbr.bw.reset(bbr.rtt_cnt, 0)
    bbr.has_seen_rtt = False
    bbr_init_pacing_rate_from_rtt(sk)
    bbr.round_start = False
    bbr.idle_restart = False
    bbr.full_bw_reached = False
    bbr.full_bw = 0
    bbr.full_bw_cnt = 0
    bbr.cycle_mstamp = 0
    bbr.cycle_idx = 0
    bbr_reset_lt_bw_sampling(sk)
    bbr.mode = Mode.STARTUP
    bbr.ack_epoch_mstamp = sk.tcp_mstamp
    bbr.ack_epoch_acked = 0
    bbr.extra_acked_win_rtts = 0
    bbr.extra_acked_win_idx = 0
    bbr.extra_acked = [0, 0]
    if sk.sk_pacing_status == SK_PACING_NONE:
        sk.sk_pacing_status = SK_PACING_NEEDED


def bbr_sndbuf_expand(sk: Sock) -> int:
    """Memory for three windows; source net/ipv4/tcp_bbr.c:bbr_sndbuf_expand."""
    return 3


@cited("net/ipv4/tcp_bbr.c:bbr_undo_cwnd")
def bbr_undo_cwnd(sk: Sock) -> int:
    """A loss that was none: the search for the full pipe starts anew, the window stays."""
    bbr = bbr_of(sk)
    bbr.full_bw = 0
    bbr.full_bw_cnt = 0
    bbr_reset_lt_bw_sampling(sk)
    return sk.snd_cwnd


@cited("net/ipv4/tcp_bbr.c:bbr_ssthresh")
def bbr_ssthresh(sk: Sock) -> int:
    """A loss doesn't move the threshold; the window of before is remembered."""
    bbr_save_cwnd(sk)
    return sk.snd_ssthresh


@cited("net/ipv4/tcp_bbr.c:bbr_get_info")
def bbr_get_info(sk: Sock, ext: int) -> tuple[int, bytes] | None:
    """struct tcp_bbr_info: bandwidth in bytes a second, least delay, gains."""
    if not ext & (1 << (INET_DIAG_BBRINFO - 1) | 1 << (INET_DIAG_VEGASINFO - 1)):
        return None
    bbr = bbr_of(sk)
    bw = (bbr_bw(bbr) * sk.mss_cache * 1_000_000 & M64) >> BW_SCALE
    return INET_DIAG_BBRINFO, struct.pack("=5I", bw & M32, bw >> 32, bbr.min_rtt_us, bbr.pacing_gain, bbr.cwnd_gain)


@cited("net/ipv4/tcp_bbr.c:bbr_set_state")
def bbr_set_state(sk: Sock, new_state: CA) -> None:
    """A timeout ends a round trip."""
    if new_state != CA.Loss:
        return
    bbr = bbr_of(sk)
    rs = RateSample()
    rs.losses = 1
    bbr.prev_ca_state = CA.Loss
    bbr.full_bw = 0
    bbr.round_start = True
    bbr_lt_bw_sampling(sk, rs)


TCP_BBR: Final = CongestionOps(
    name="bbr",
    flags=TCP_CONG_NON_RESTRICTED,
    init=bbr_init,
    cong_control=bbr_main,
    sndbuf_expand=bbr_sndbuf_expand,
    undo_cwnd=bbr_undo_cwnd,
    cwnd_event=bbr_cwnd_event,
    ssthresh=bbr_ssthresh,
    min_tso_segs=bbr_min_tso_segs,
    get_info=bbr_get_info,
    set_state=bbr_set_state,
)
