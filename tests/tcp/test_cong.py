"""Reno's growth, idleness and undo: the divisions, which are tested rather than proved, and a live kernel's windows."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refmodel.tcp.cong import (
    CA,
    TCP_INFINITE_SSTHRESH,
    Cwnd,
    idle_periods,
    slow_start_after_idle,
    slow_start_leftover,
    tcp_cong_avoid_ai,
    tcp_cwnd_restart,
    tcp_cwnd_validate,
    tcp_enter_loss,
    tcp_init_cwnd,
    tcp_is_cwnd_limited,
    tcp_may_raise_cwnd,
    tcp_reno_cong_avoid,
    tcp_reno_ssthresh,
    tcp_reno_undo_cwnd,
    tcp_slow_start,
    tcp_undo_cwnd_reduction,
    transfer_cwnd,
)
from tests.tcp.record_steps import recorded

windows = st.integers(1, 2**20)


@given(windows, windows, st.integers(2, 2**31 - 1), st.integers(1, 2**32 - 1))
def test_slow_start_spends_each_segment_once(cwnd: int, acked: int, ssthresh: int, clamp: int) -> None:
    s = Cwnd(snd_cwnd=cwnd, snd_ssthresh=max(ssthresh, cwnd + 1), snd_cwnd_clamp=max(clamp, cwnd))
    t, _ = tcp_slow_start(s, acked)
    left = slow_start_leftover(s, acked)
    assert 0 <= left <= acked
    assert t.snd_cwnd == min(cwnd + acked - left, s.snd_cwnd_clamp)
    assert left == 0 or cwnd + acked - left == s.snd_ssthresh


@given(windows, windows, st.integers(0, 2**20), st.integers(0, 2**20))
def test_additive_increase_keeps_its_credit_below_a_window(cwnd: int, w: int, acked: int, cnt: int) -> None:
    t, _ = tcp_cong_avoid_ai(Cwnd(snd_cwnd=cwnd, snd_cwnd_cnt=cnt), w, acked)
    assert t.snd_cwnd_cnt < w
    assert cwnd <= t.snd_cwnd <= cwnd + 1 + (acked + w - 1) // w


def test_one_by_one_and_at_once_reno_grows_alike_exhaustively() -> None:
    for cwnd in range(2, 30):
        at_once, _ = tcp_cong_avoid_ai(Cwnd(snd_cwnd=cwnd), cwnd, cwnd)
        s = Cwnd(snd_cwnd=cwnd)
        for _ in range(cwnd):
            s, _ = tcp_cong_avoid_ai(s, s.snd_cwnd, 1)
        assert s.snd_cwnd == at_once.snd_cwnd == cwnd + 1


def test_slow_start_hands_the_rest_to_congestion_avoidance() -> None:
    s = Cwnd(snd_cwnd=14, snd_ssthresh=15, is_cwnd_limited=True)
    t, _ = tcp_reno_cong_avoid(s, 5, 9)
    assert (t.snd_cwnd, t.snd_cwnd_cnt, t.snd_cwnd_stamp) == (15, 4, 9)


def test_a_window_that_is_not_used_does_not_grow_but_half_of_it_is_enough_in_slow_start() -> None:
    s = Cwnd(snd_cwnd=20, max_packets_out=10)
    assert not tcp_is_cwnd_limited(s)
    assert tcp_reno_cong_avoid(s, 10, 0)[0].snd_cwnd == 20
    assert tcp_is_cwnd_limited(replace(s, max_packets_out=11))
    assert not tcp_is_cwnd_limited(replace(s, max_packets_out=20, snd_ssthresh=20))


@given(st.integers(1, 10**6), st.integers(1, 30_000), st.integers(1, 2**20), st.integers(0, 50))
def test_silence_halves_as_the_kernels_loop_does(idle: int, rto: int, cwnd: int, initcwnd: int) -> None:
    restart, looped, delta = min(tcp_init_cwnd(initcwnd, 2**32 - 1), cwnd), cwnd, idle - rto
    while delta > 0 and looped > restart:
        looped >>= 1
        delta -= rto
    t, _ = tcp_cwnd_restart(Cwnd(snd_cwnd=cwnd), idle_periods(idle, rto), initcwnd, 7)
    assert t.snd_cwnd == max(looped, restart)
    assert (t.snd_cwnd_stamp, t.snd_cwnd_used) == (7, 0)


def test_silence_counts_after_a_timeout_with_nothing_out() -> None:
    assert slow_start_after_idle(51, 50, 0, True)
    assert not slow_start_after_idle(50, 50, 0, True)
    assert not slow_start_after_idle(51, 50, 1, True)
    assert not slow_start_after_idle(51, 50, 0, False)


@pytest.mark.parametrize(("retrans", "window"), [(0, 10), (1, 10), (2, 1)])
def test_more_than_one_repeated_syn_leaves_one_segment(retrans: int, window: int) -> None:
    assert transfer_cwnd(0, 2**32 - 1, retrans, True) == window


def test_a_window_that_was_half_full_for_a_timeout_falls_half_way() -> None:
    s = Cwnd(snd_cwnd=40, snd_ssthresh=20, snd_cwnd_stamp=100, cwnd_usage_seq=5)
    t, _ = tcp_cwnd_validate(s, False, 20, 5, 6, 150, 50, True, False, 0)
    assert (t.snd_cwnd, t.snd_ssthresh, t.snd_cwnd_stamp) == (30, 30, 150)
    early, _ = tcp_cwnd_validate(s, False, 20, 5, 6, 149, 50, True, False, 0)
    assert (early.snd_cwnd, early.snd_cwnd_used) == (40, 20)
    short, _ = tcp_cwnd_validate(s, False, 20, 5, 6, 150, 50, True, True, 0)
    assert (short.snd_cwnd, short.snd_cwnd_stamp) == (40, 150)


def test_a_second_timeout_of_the_same_window_keeps_the_threshold() -> None:
    s, _ = tcp_enter_loss(Cwnd(snd_cwnd=40), 20, 0, 100, 200, 0, 1)
    assert (s.snd_ssthresh, s.snd_cwnd, s.prior_cwnd, s.ca_state) == (20, 1, 40, CA.TCP_CA_Loss)
    again, _ = tcp_enter_loss(s, tcp_reno_ssthresh(s), 0, 100, 200, 1, 2)
    assert (again.snd_ssthresh, again.prior_cwnd) == (20, 40)


@pytest.mark.parametrize(
    ("reordering", "progress", "acked", "raises"),
    [(3, True, False, False), (3, False, True, True), (4, True, False, True), (4, False, True, False)],
)
def test_a_path_that_reorders_grows_by_any_progress(reordering: int, progress: bool, acked: bool, raises: bool) -> None:
    assert tcp_may_raise_cwnd(reordering, 3, progress, acked) is raises


@pytest.mark.parametrize(("name", "least"), [("reno_growth", 38), ("reno_frto", 9), ("reno_prr", 5)])
def test_recorded_windows_are_renos(name: str, least: int) -> None:
    """The sender had always more to send, so the window limited it throughout."""
    rows = recorded(name)
    s = Cwnd(snd_cwnd=rows[0]["snd_cwnd"], is_cwnd_limited=True)
    compared = 0
    for was, row in pairwise(rows):
        if row["ca_state"] in (CA.TCP_CA_CWR, CA.TCP_CA_Recovery):
            break
        if row["backoff"] > was["backoff"]:
            s, _ = tcp_enter_loss(s, tcp_reno_ssthresh(s), 0, was["una"], was["una"] + 99, 0, 0)
        elif row["snd_ssthresh"] > was["snd_ssthresh"]:
            # F-RTO: an ACK of what was not repeated takes the timeout back; its state is Open before it may grow.
            s, _ = tcp_undo_cwnd_reduction(s, tcp_reno_undo_cwnd(s), 0)
            s, _ = tcp_reno_cong_avoid(replace(s, ca_state=CA.TCP_CA_Open), row["delivered"] - was["delivered"], 0)
        else:
            s, _ = tcp_reno_cong_avoid(s, row["delivered"] - was["delivered"], 0)
        assert (s.snd_cwnd, s.snd_ssthresh) == (row["snd_cwnd"], row["snd_ssthresh"]), row
        compared += 1
    assert compared >= least
    assert rows[0]["snd_ssthresh"] == TCP_INFINITE_SSTHRESH
