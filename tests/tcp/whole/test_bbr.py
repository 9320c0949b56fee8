"""BBR: rates, gains and modes, with numbers worked out from tcp_bbr.c's constants."""

import struct

from refmodel.tcp.whole import bbr, ca
from refmodel.tcp.whole.const import CA_EVENT_TX_START, SK_PACING_NEEDED
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.sock import CA, RateSample, Sock


def sock() -> Sock:
    net = Net()
    net.tcp_congestion_control = "bbr"
    sk = Sock(net, 2)
    sk.tcp_mstamp = net.now
    sk.mss_cache = 1000
    sk.rtt_min.reset(net.jiffies, 10_000)
    sk.srtt_us = 8 * 10_000
    ca.tcp_assign_congestion_control(sk)
    ca.tcp_init_congestion_control(sk)
    return sk


def sample(sk: Sock, delivered: int, interval_us: int, rtt_us: int = 10_000, app_limited: bool = False) -> RateSample:
    """An ACK for `delivered` segments that were sent a round trip ago."""
    rs = RateSample()
    rs.prior_delivered = sk.delivered
    sk.delivered += delivered
    sk.delivered_mstamp = sk.tcp_mstamp
    rs.delivered = rs.acked_sacked = delivered
    rs.interval_us = interval_us
    rs.rtt_us = rtt_us
    rs.is_app_limited = app_limited
    return rs


def test_gains_are_those_of_the_kernel() -> None:
    assert (bbr.HIGH_GAIN, bbr.DRAIN_GAIN, bbr.CWND_GAIN) == (739, 88, 512)
    assert bbr.PACING_GAIN == (320, 192, 256, 256, 256, 256, 256, 256)


def test_the_first_rate_is_a_high_gain_of_the_window_in_a_round_trip() -> None:
    sk = sock()
    bw = 10 * 2**24 // 10_000
    assert sk.sk_pacing_rate == (((bw * 1000 * 739) >> 8) * 990_000) >> 24
    assert 2_850_000 < sk.sk_pacing_rate < 2_860_000  # 10 kB / 10 ms * 2.887 * 0.99
    assert sk.sk_pacing_status == SK_PACING_NEEDED


def test_three_rounds_without_growth_fill_the_pipe_and_drain_it() -> None:
    sk = sock()
    b = bbr.bbr_of(sk)
    for n in range(4):
        assert b.mode == bbr.Mode.STARTUP, n
        sk.tcp_mstamp += 10_000
        sk.icsk_ca_ops.cong_control(sk, 0, 0, sample(sk, 20, 10_000))
    assert b.full_bw_reached
    # nothing is in flight, so the queue is drained at once
    assert b.mode == bbr.Mode.PROBE_BW
    assert b.cycle_idx != 1
    assert b.pacing_gain in (320, 256)


def test_a_sample_that_the_application_limited_counts_only_upwards() -> None:
    sk = sock()
    b = bbr.bbr_of(sk)
    bbr.bbr_main(sk, 0, 0, sample(sk, 20, 10_000))
    best = bbr.bbr_max_bw(b)
    assert best == 20 * 2**24 // 10_000
    bbr.bbr_main(sk, 0, 0, sample(sk, 5, 10_000, app_limited=True))
    assert bbr.bbr_max_bw(b) == best
    bbr.bbr_main(sk, 0, 0, sample(sk, 40, 10_000, app_limited=True))
    assert bbr.bbr_max_bw(b) == 40 * 2**24 // 10_000


def test_the_bdp_is_rounded_up_and_ten_without_a_delay() -> None:
    sk = sock()
    b = bbr.bbr_of(sk)
    b.min_rtt_us = 10_000
    assert bbr.bbr_bdp(sk, 2**24 // 1000, 256) == 10
    assert bbr.bbr_bdp(sk, 2**24 // 1000 + 2, 256) == 11
    b.min_rtt_us = 0xFFFFFFFF
    assert bbr.bbr_bdp(sk, 1, 256) == 10


def test_an_old_least_delay_is_measured_with_four_segments() -> None:
    sk = sock()
    b = bbr.bbr_of(sk)
    sk.net.now += 10_001_000
    sk.tcp_mstamp = sk.net.now
    sk.packets_out = 4
    sk.snd_cwnd = 30
    bbr.bbr_main(sk, 0, 0, sample(sk, 2, 10_000, rtt_us=12_000))
    assert b.mode == bbr.Mode.PROBE_RTT
    assert b.min_rtt_us == 12_000
    assert (sk.snd_cwnd, b.prior_cwnd) == (4, 30)
    assert b.probe_rtt_done_stamp == sk.net.jiffies + 200
    assert sk.app_limited == sk.delivered + 4
    sk.net.now += 201_000
    sk.tcp_mstamp = sk.net.now
    bbr.bbr_main(sk, 0, 0, sample(sk, 2, 10_000, rtt_us=12_000))
    assert int(b.mode) == bbr.Mode.STARTUP
    assert sk.snd_cwnd >= 30


def test_recovery_begins_with_conservation_and_ends_with_the_old_window() -> None:
    sk = sock()
    b = bbr.bbr_of(sk)
    sk.snd_cwnd = 20
    assert bbr.bbr_ssthresh(sk) == sk.snd_ssthresh
    sk.icsk_ca_state = CA.Recovery
    sk.packets_out = 15
    rs = sample(sk, 0, 0)
    rs.losses = 1
    assert bbr.bbr_set_cwnd_to_recover_or_restore(sk, rs, 2) == (True, 17)
    sk.snd_cwnd = 17
    sk.icsk_ca_state = CA.Open
    rs.losses = 0
    assert bbr.bbr_set_cwnd_to_recover_or_restore(sk, rs, 2) == (False, 20)
    assert not b.packet_conservation


def test_two_lossy_intervals_of_one_rate_are_a_policer() -> None:
    sk = sock()
    b = bbr.bbr_of(sk)
    bbr.bbr_lt_bw_interval_done(sk, 16_000)
    assert not b.lt_use_bw
    bbr.bbr_lt_bw_interval_done(sk, 17_000)
    assert b.lt_use_bw
    assert bbr.bbr_bw(b) == 16_500


def test_sending_after_silence_starts_at_the_known_rate() -> None:
    sk = sock()
    b = bbr.bbr_of(sk)
    b.mode = bbr.Mode.PROBE_BW
    b.full_bw_reached = True
    b.bw.reset(0, 2**24 // 1000)
    sk.app_limited = 1
    bbr.bbr_cwnd_event(sk, CA_EVENT_TX_START)
    assert b.idle_restart
    assert 985_000 < sk.sk_pacing_rate < 990_001  # a segment of 1000 bytes in a ms, less a per cent


def test_tcp_bbr_info_tells_the_bandwidth_in_bytes() -> None:
    sk = sock()
    bbr.bbr_of(sk).bw.reset(0, 2**24 // 1000)
    info = bbr.bbr_get_info(sk, 0xFFFFFFFF)
    assert info is not None
    low, high, rtt, pacing, _ = struct.unpack("=5I", info[1])
    assert (high, rtt, pacing) == (0, 10_000, 0)
    assert 999_900 < low <= 1_000_000
