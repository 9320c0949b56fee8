# ruff: noqa: E501
"""CUBIC and HyStart: proved where linear, tested where cubic, and replayed from a live 6.18 kernel."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refmodel.engine.property import machine_tests
from refmodel.engine.prove import prove, prove_with
from refmodel.engine.run import pick
from refmodel.engine.sampled import differences
from refmodel.rule import Effect, Mib
from refmodel.tcp.cong import CA, Cwnd, tcp_enter_loss
from refmodel.tcp.cubic import (
    BETA_SCALE,
    CUBE_FACTOR,
    TCP_CUBIC,
    Bictcp,
    BictcpAcked,
    CubicParams,
    SetSsthresh,
    bictcp_reset,
    bictcp_update,
    cubic_delta,
    cubic_root,
    cubic_ssthresh,
    cubic_target,
    cubictcp_cong_avoid,
    cubictcp_recalc_ssthresh,
    cubictcp_tx_start,
    friendly,
    hystart_ack_delay,
)
from tests.tcp.record_steps import recorded

P = CubicParams()
RUN = pick(TCP_CUBIC, check=True)

TestTcpCubic = machine_tests(TCP_CUBIC)


def step(s: Bictcp, e: BictcpAcked) -> tuple[Bictcp, tuple[Effect, ...]]:
    _, new, fx = RUN.apply(s, e, P)
    assert isinstance(new, Bictcp)
    return new, fx


def test_every_law_is_proved() -> None:
    report = prove(TCP_CUBIC)
    assert report.ok, report.text()
    assert report.never_enabled == ()


def test_the_prover_reads_the_rules_as_they_run() -> None:
    assert differences(TCP_CUBIC).differences == ()


FAULTS = {
    "found_needs_a_delay": ("delay = max(e.rtt_us, 1)", "delay = e.rtt_us"),
    "least_delay_falls": ("ca.delay_min > delay else", "ca.delay_min < delay else"),
    "threshold_only_when_found": ('require(hystart_asked(s, e, p) and e.snd_cwnd >= HYSTART_LOW_WINDOW, "a window in slow start")', 'require(hystart_asked(s, e, p) and e.snd_cwnd >= HYSTART_LOW_WINDOW - 1, "a window in slow start")'),
    "found_sets_the_threshold": ("return t, (*by_delay, SetSsthresh(snd_ssthresh=e.snd_cwnd))", "return t, by_delay"),
    "loss_takes_three_tenths": ("BETA: Final = 717", "BETA: Final = 617"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_named(name: str) -> None:
    text, fault = FAULTS[name]
    report = prove_with(TCP_CUBIC, [("refmodel.tcp.cubic", text, fault)])
    assert name in {x.rsplit(".", 1)[-1] for x in report.failed}, report.text()[-2000:]


def test_every_law_has_a_seeded_fault() -> None:
    assert {q.id.rsplit(".", 1)[1] for k in ("invariant", "transition") for q in TCP_CUBIC.properties(k)} == set(FAULTS)


# ---------------------------------------------------------------- the function


def test_scale_factors_are_those_of_the_module() -> None:
    assert (CUBE_FACTOR, BETA_SCALE) == (2**40 // 410, 15)


@given(st.integers(64, 2**52))
def test_the_root_is_within_two_per_cent(a: int) -> None:
    root = cubic_root(a)
    assert (root * 0.98 - 1) ** 3 <= a <= (root * 1.02 + 1) ** 3


def test_small_roots_exhaustively() -> None:
    assert cubic_root(0) == 0
    for a in range(1, 4096):
        assert abs(cubic_root(a) - a ** (1 / 3)) <= 1


@given(st.integers(2, 2**20), st.data())
def test_k_is_when_the_function_comes_back_to_its_origin(top: int, data: st.DataObject) -> None:
    cwnd = data.draw(st.integers(1, top - 1))
    k = cubic_root(CUBE_FACTOR * (top - cwnd))
    assert abs(cubic_delta(k) - (top - cwnd)) <= 2 + (top - cwnd) // 20


@given(st.integers(2, 2**16), st.data())
def test_the_target_never_falls_between_losses(top: int, data: st.DataObject) -> None:
    cwnd = data.draw(st.integers(max(top * 7 // 10, 1), top))
    ca = Bictcp(epoch_start=1_000, bic_origin_point=top, bic_K=cubic_root(CUBE_FACTOR * (top - cwnd)), delay_min=20_000)
    at = sorted(data.draw(st.lists(st.integers(1_000, 16_000), min_size=2, max_size=10)))
    targets = [cubic_target(ca, now, 250) for now in at]
    assert targets == sorted(targets)


@given(st.integers(1, 2**20), st.lists(st.tuples(st.integers(0, 300), st.integers(1, 64)), min_size=1, max_size=25))
def test_the_window_never_falls_between_losses_and_grows_by_half_of_what_arrives_at_most(
    top: int, acks: list[tuple[int, int]]
) -> None:
    ca = Bictcp(last_max_cwnd=top, delay_min=10_000)
    s = Cwnd(snd_cwnd=max(top * 7 // 10, 2), snd_ssthresh=2, is_cwnd_limited=True)
    now = 1_000
    for gap, acked in acks:
        now += gap
        (t, ca), _ = cubictcp_cong_avoid(s, ca, acked, now, P)
        assert ca.cnt >= 2
        assert s.snd_cwnd <= t.snd_cwnd <= s.snd_cwnd + 1 + (acked + 1) // 2
        s = t


@given(st.integers(1, 5_000), st.integers(0, 40_000), st.integers(1, 5_000))
def test_reno_is_counted_as_the_kernels_loop_counts_it(cwnd: int, acks: int, other: int) -> None:
    per, left, reno = (cwnd * BETA_SCALE) >> 3, acks, other
    while left > per:
        left -= per
        reno += 1
    t = friendly(Bictcp(ack_cnt=acks, tcp_cwnd=other, cnt=10**6), cwnd)
    assert (t.ack_cnt, t.tcp_cwnd) == (left, reno)
    assert t.cnt == (min(10**6, cwnd // (reno - cwnd)) if reno > cwnd else 10**6)


def test_cnt_is_computed_once_in_eight_jiffies_while_the_window_stands() -> None:
    ca, _ = bictcp_update(Bictcp(last_max_cwnd=100), 70, 1, 1_000, P)
    later, _ = bictcp_update(ca, 70, 1, 1_007, P)
    assert (later.cnt, later.last_time, later.ack_cnt) == (ca.cnt, 1_000, 2)
    assert bictcp_update(ca, 70, 1, 1_008, P)[0].last_time == 1_008


def test_silence_moves_the_epoch_but_not_beyond_now() -> None:
    ca = Bictcp(epoch_start=1_000)
    assert cubictcp_tx_start(ca, 2_000, 1_900)[0].epoch_start == 1_100
    assert cubictcp_tx_start(ca, 2_000, 500)[0].epoch_start == 2_000
    assert cubictcp_tx_start(Bictcp(), 2_000, 500)[0].epoch_start == 0


@pytest.mark.parametrize(
    ("cwnd", "last", "ssthresh", "top"), [(100, 0, 70, 100), (100, 150, 70, 85), (2, 0, 2, 2), (1, 9, 2, 0)]
)
def test_a_loss_takes_three_tenths_and_makes_room_for_newcomers(cwnd: int, last: int, ssthresh: int, top: int) -> None:
    ca, fx = cubictcp_recalc_ssthresh(Bictcp(last_max_cwnd=last, epoch_start=9), cwnd)
    assert [x.snd_ssthresh for x in fx if isinstance(x, SetSsthresh)] == [ssthresh]
    assert (ca.last_max_cwnd, ca.epoch_start) == (top, 0)


# ---------------------------------------------------------------- HyStart


def acked(us: int, cwnd: int, mstamp: int, una: int = 5, nxt: int = 50) -> BictcpAcked:
    return BictcpAcked(rtt_us=us, now=1, mstamp=mstamp, snd_una=una, snd_nxt=nxt, snd_cwnd=cwnd)


def test_a_train_of_acks_that_outlasts_half_the_delay_ends_slow_start() -> None:
    s, _ = bictcp_reset(Bictcp(), 0, 100)
    found = []
    for at in range(0, 8_000, 1_000):
        s, fx = step(s, acked(10_000, 30, at))
        found.append([x.name for x in fx if isinstance(x, Mib)])
    assert found == [[]] * 6 + [["TcpExtTCPHystartTrainDetect", "TcpExtTCPHystartTrainCwnd"]] + [[]]


def test_a_gap_in_the_train_ends_it_for_the_round() -> None:
    s, _ = bictcp_reset(Bictcp(), 0, 100)
    for at in (1_000, 4_000, 5_000, 6_000, 7_000):
        s, fx = step(s, acked(10_000, 30, at))
        assert fx == ()


def test_eight_samples_and_then_a_delay_above_the_margin_end_slow_start() -> None:
    s = replace(bictcp_reset(Bictcp(), 0, 100)[0], delay_min=40_000, last_ack=2**31)
    for i in range(8):
        s, fx = step(s, acked(45_001, 30, 5_000 * i))
        assert fx == ()
    _, fx = step(s, acked(45_001, 31, 50_000))
    assert [x.snd_ssthresh for x in fx if isinstance(x, SetSsthresh)] == [31]


@pytest.mark.parametrize(("rate", "us"), [(0, 0), (10**6, 1_000), (10**9, 262)])
def test_offload_adds_a_millisecond_at_most(rate: int, us: int) -> None:
    assert hystart_ack_delay(rate, 65_536) == us


# ---------------------------------------------------------------- the live kernel


def replayed(name: str) -> tuple[int, int]:
    """Follows a recorded series but for its recovery; gives the rows compared and the most histories of jiffies that fit at a time.

    An ACK came in one of the jiffies that were read before and after it was sent: a history for each is kept while its
    windows are the kernel's.
    """
    rows = recorded(name)
    start = (Cwnd(snd_cwnd=rows[0]["snd_cwnd"], is_cwnd_limited=True), bictcp_reset(Bictcp(), 0, 0)[0])
    known = [start]
    compared = widest = 0
    for was, row in pairwise(rows):
        if row["ca_state"] == CA.TCP_CA_Recovery and was["ca_state"] != CA.TCP_CA_Recovery:
            known = [(s, cubictcp_recalc_ssthresh(ca, s.snd_cwnd)[0]) for s, ca in known]
        if row["ca_state"] == CA.TCP_CA_Recovery or "sacked_to" in row:
            continue
        if was["ca_state"] == CA.TCP_CA_Recovery:
            # The ACK that ends recovery sets the window to the threshold and may raise it at once.
            known = [
                (replace(s, snd_cwnd=row["snd_ssthresh"], snd_ssthresh=row["snd_ssthresh"], snd_cwnd_cnt=0), ca)
                for s, ca in known
            ]
        after: list[tuple[Cwnd, Bictcp]] = []
        for s, ca in known:
            if row["backoff"] > was["backoff"]:
                ca, fx = cubictcp_recalc_ssthresh(ca, s.snd_cwnd)
                s, _ = tcp_enter_loss(s, cubic_ssthresh(s.snd_cwnd), 0, was["una"], was["una"] + 99, 0, 0)
                assert fx
                after.append((s, bictcp_reset(ca, 0, was["una"] + was["unacked"])[0]))
                continue
            for now in range(row["jiffies"][0], row["jiffies"][1] + 1):
                e = BictcpAcked(
                    rtt_us=row["min_rtt"] if row["min_rtt"] != was["min_rtt"] else -1,
                    now=now,
                    mstamp=now * 4_000 % 2**32,
                    snd_una=row["una"],
                    snd_nxt=was["una"] + was["unacked"],
                    snd_cwnd=s.snd_cwnd,
                    slow_start=s.snd_cwnd < s.snd_ssthresh,
                )
                acked_ca, fx = step(ca, e)
                t = s
                for x in fx:
                    t = replace(t, snd_ssthresh=x.snd_ssthresh) if isinstance(x, SetSsthresh) else t
                after.append(cubictcp_cong_avoid(t, acked_ca, row["delivered"] - was["delivered"], now, P)[0])
        fits = [x for x in after if (x[0].snd_cwnd, x[0].snd_ssthresh) == (row["snd_cwnd"], row["snd_ssthresh"])]
        assert fits, (row, [(x.snd_cwnd, x.snd_ssthresh, y.cnt) for x, y in after])
        known = list(dict.fromkeys(fits))
        compared, widest = compared + 1, max(widest, len(known))
    return compared, widest


@pytest.mark.parametrize(
    ("name", "rows"), [("cubic_growth", 79), ("cubic_hystart", 66), ("cubic_prr", 8), ("cubic_two_lost", 130)]
)
def test_recorded_windows_are_cubics(name: str, rows: int) -> None:
    compared, histories = replayed(name)
    assert compared >= rows
    assert histories < 20_000
