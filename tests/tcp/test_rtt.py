# ruff: noqa: E501
"""The RTT estimator and the timeout: proved, seeded with faults, and what their integers give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refmodel.engine.property import machine_tests
from refmodel.engine.prove import prove, prove_with
from refmodel.engine.run import pick
from refmodel.engine.sampled import differences
from refmodel.rule import Event
from refmodel.tcp.rtt import (
    RTT_MAX,
    TCP_RTT,
    MetricsInit,
    MinRtt,
    RetransmitTimeout,
    Rtt,
    RttAck,
    RttParams,
    ack_samples,
    minmax_reset,
    minmax_running_min,
    tcp_rto_max,
    tcp_rtt_estimator,
    tcp_rtt_tsopt_us,
    usecs_to_jiffies,
)

P = RttParams()
RUN = pick(TCP_RTT, check=True)

TestTcpRtt = machine_tests(TCP_RTT)


def sample(us: int, *, now: int = 0, una: int = 1, nxt: int = 2) -> RttAck:
    return RttAck(now=now, snd_una=una, snd_nxt=nxt, first_us=us, last_us=us)


def after_samples(*us: int, p: RttParams = P) -> Rtt:
    s = Rtt()
    for i, u in enumerate(us):
        s, _ = ack_samples(s, sample(u, una=i + 1, nxt=i + 2), p)
    return s


def step(s: Rtt, e: Event) -> Rtt:
    new = RUN.apply(s, e, P)[1]
    assert isinstance(new, Rtt)
    return new


def test_every_law_is_proved() -> None:
    report = prove(TCP_RTT)
    assert report.ok, report.text()
    assert report.never_enabled == ()


def test_the_prover_reads_the_rules_as_they_run() -> None:
    assert differences(TCP_RTT).differences == ()


# name of the property: what is edited, into what, and the cell
FAULTS = {
    "variance_has_a_floor": ("mdev_max_us=max(mdev, floor) if first else floor if", "mdev_max_us=max(mdev, floor) if first else 0 if"),
    "variance_covers_deviation": ("max(s.rttvar_us, mdev) if mdev > s.mdev_max_us", "s.rttvar_us if mdev > s.mdev_max_us"),
    "timeout_in_bounds": ("min(s.icsk_rto << 1, tcp_rto_max(p))", "min(s.icsk_rto << 1, 2 * tcp_rto_max(p))"),
    "minima_are_ordered": ("    if v <= m.v2:\n        return minmax_subwin_update(replace(m, t2=t, v2=v), win, t, v)\n", ""),
    "karn": ("e.first_us >= 0 and not e.retrans_acked:\n        return e.first_us", "e.first_us >= 0:\n        return e.first_us"),
    "mean_moves_to_the_sample": ("err = mrtt_us - (s.srtt_us >> 3)", "err = mrtt_us - (s.srtt_us >> 4)"),
    "timeout_exceeds_the_mean": ("((srtt_us >> 3) + rttvar_us)", "rttvar_us"),
    "minimum_is_no_more_than_the_sample": ("skip = maybe_delayed and rtt_us > tcp_min_rtt(s)", "skip = maybe_delayed"),
    "timeout_at_most_doubles": ("min(s.icsk_rto << 1, tcp_rto_max(p))", "min(s.icsk_rto << 2, tcp_rto_max(p))"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_named(name: str) -> None:
    text, fault = FAULTS[name]
    report = prove_with(TCP_RTT, [("refmodel.tcp.rtt", text, fault)], only="Timeout" if "<<" in text else "RttAck")
    assert name in {x.rsplit(".", 1)[-1] for x in report.failed}, report.text()[-2000:]


def test_every_law_has_a_seeded_fault() -> None:
    assert {q.id.rsplit(".", 1)[1] for k in ("invariant", "transition") for q in TCP_RTT.properties(k)} == set(FAULTS)


def test_without_the_assumption_the_mean_leaves_its_range() -> None:
    report = prove_with(TCP_RTT, [("refmodel.tcp.rtt", "return seq_rtt_us(e) <= RTT_MAX", "return True")])
    assert any("srtt_us" in x for x in report.failed)


def test_beyond_that_bound_the_mean_wraps_as_in_the_kernel() -> None:
    s, _ = tcp_rtt_estimator(Rtt(), RTT_MAX + 2, 1, 2, P)
    assert s.srtt_us == 8


def test_the_first_sample_is_the_mean_and_the_floor_lies_under_the_variance() -> None:
    s = after_samples(10_000)
    assert (s.srtt_us, s.mdev_us, s.rttvar_us, s.icsk_rto) == (80_000, 20_000, 200_000, 53)  # 210 ms in jiffies of 4


def test_a_long_first_sample_makes_the_timeout_three_times_as_long() -> None:
    assert after_samples(300_000).icsk_rto * 4 == 900


def test_a_falling_rtt_widens_the_deviation_at_an_eighth_of_the_pace() -> None:
    s = replace(Rtt(), srtt_us=8 * 100_000, mdev_us=4_000, mdev_max_us=200_000, rttvar_us=200_000)
    up, _ = tcp_rtt_estimator(s, 150_000, 1, 2, P)
    down, _ = tcp_rtt_estimator(s, 50_000, 1, 2, P)
    assert up.mdev_us - s.mdev_us == 49_000
    assert down.mdev_us - s.mdev_us == 49_000 >> 3


def test_the_variance_falls_by_a_quarter_of_the_gap_once_in_a_round_trip() -> None:
    s = Rtt(srtt_us=8 * 100_000, mdev_us=0, mdev_max_us=200_000, rttvar_us=400_000, rtt_seq=100)
    within, _ = tcp_rtt_estimator(s, 100_000, 100, 300, P)
    over, _ = tcp_rtt_estimator(s, 100_000, 101, 300, P)
    assert (within.rttvar_us, within.rtt_seq) == (400_000, 100)
    assert (over.rttvar_us, over.rtt_seq) == (350_000, 300)


def test_timeouts_double_up_to_the_ceiling_and_a_sample_ends_the_back_off() -> None:
    s = after_samples(10_000)
    seen = []
    for _ in range(12):
        s = step(s, RetransmitTimeout())
        seen.append(s.icsk_rto)
    assert seen[:3] == [106, 212, 424]
    assert seen[-1] == tcp_rto_max(P) == 30_000
    assert s.icsk_backoff == 12
    s = step(s, sample(10_000))
    assert (s.icsk_rto, s.icsk_backoff) == (53, 0)


def test_a_thin_stream_does_not_double() -> None:
    s = after_samples(10_000)
    t = step(s, RetransmitTimeout(linear=True))
    assert (t.icsk_rto, t.icsk_backoff) == (53, 0)


def test_a_handshake_without_sample_leaves_three_seconds() -> None:
    s = step(Rtt(), MetricsInit())
    assert (s.icsk_rto, s.rttvar_us, s.srtt_us) == (750, 3_000_000, 0)


def test_repeated_data_gives_a_sample_by_its_timestamp_only() -> None:
    s = after_samples(10_000)
    e = replace(sample(500_000, una=9, nxt=10), retrans_acked=True)
    assert step(s, e) == s
    t = step(s, replace(e, tsecr=7))
    assert t.srtt_us == 80_000 - 10_000 + 7_000


def test_sack_gives_a_sample_where_the_cumulative_part_may_not() -> None:
    s = after_samples(10_000)
    e = replace(sample(500_000, una=9, nxt=10), retrans_acked=True, sack_first_us=18_000, sack_last_us=18_000)
    assert step(s, e).srtt_us == 88_000


@pytest.mark.parametrize(
    ("ticks", "us"), [(-1, -1), (0, 1_000), (1, 1_000), (2_147_482, 2_147_482_000), (2_147_483, -1)]
)
def test_an_echoed_timestamp_of_milliseconds(ticks: int, us: int) -> None:
    assert tcp_rtt_tsopt_us(ticks, False) == us


@given(st.integers(0, 2**31 - 1))
def test_three_hundred_hertz_is_what_the_kernels_reciprocal_gives(u: int) -> None:
    shift = next(s for s in range(64) if (2**s * 300 + 999_999) // 1_000_000 >= 2**31)
    mul, adj = (2**shift * 300 + 999_999) // 1_000_000, 2**shift * 9_999 // 10_000
    assert usecs_to_jiffies(u, 300) == (mul * u + adj) >> shift


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 50)), min_size=1, max_size=40), st.integers(1, 200))
def test_the_windowed_minimum_is_a_sample_of_the_window_and_no_less_than_the_true_one(
    steps: list[tuple[int, int]], win: int
) -> None:
    t = 2**32 - 500
    m, seen = MinRtt(), []
    for i, (gap, v) in enumerate(steps):
        t += gap
        seen.append((t, v))
        m = minmax_running_min(m, win, t % 2**32, v) if i else minmax_reset(t % 2**32, v)
        within = [x for at, x in seen if t - at <= win]
        assert m.v0 in within
        assert min(within) <= m.v0 <= v
