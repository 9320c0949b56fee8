"""Timers: how long retransmission goes on, and how an impatient application cuts it short."""

import pytest

from refmodel.tcp.state import St
from refmodel.tcp.whole import timer
from refmodel.tcp.whole.const import ICSK_TIME_DACK, ICSK_TIME_RETRANS
from refmodel.tcp.whole.net import Net, inet_csk_clear_xmit_timer, inet_csk_reset_xmit_timer
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.sock import CA, Sock


def sock(**sysctls: int) -> Sock:
    sk = Sock(Net(WholeParams(**sysctls)), 2)
    sk.sk_state = St.ESTABLISHED
    sk.tcp_mstamp = sk.net.now
    return sk


@pytest.mark.parametrize(
    ("boundary", "ms"),
    # (2 ** (n + 1) - 1) * 200 ms up to nine doublings, then 120 s each: 924.6 s for tcp_retries2 = 15
    [(3, 3000), (8, 102_200), (9, 204_600), (10, 324_600), (15, 924_600)],
)
def test_default_timeouts_double_from_200_ms_to_120_s(boundary: int, ms: int) -> None:
    sk = sock()
    assert timer.tcp_model_timeout(sk, boundary, sk.net.hz // 5) == ms


def test_a_connection_without_a_retransmission_has_not_timed_out() -> None:
    sk = sock()
    sk.retrans_stamp = 0
    assert not timer.retransmits_timed_out(sk, 3, 1)


def test_time_is_counted_from_the_first_retransmission() -> None:
    sk = sock()
    sk.icsk_retransmits = 1
    now = sk.tcp_mstamp // 1000
    sk.retrans_stamp = now - 2999
    assert not timer.retransmits_timed_out(sk, 3, 0)
    sk.retrans_stamp = now - 3000
    assert timer.retransmits_timed_out(sk, 3, 0)


def test_user_timeout_cuts_the_last_timeout() -> None:
    sk = sock()
    sk.icsk_rto = 800
    now = sk.tcp_mstamp // 1000
    assert timer.tcp_clamp_rto_to_user_timeout(sk) == 800
    sk.icsk_user_timeout = 1000
    sk.retrans_stamp = now - 600
    assert timer.tcp_clamp_rto_to_user_timeout(sk) == 400
    sk.retrans_stamp = now - 1000
    assert timer.tcp_clamp_rto_to_user_timeout(sk) == 1


def test_user_timeout_cuts_the_last_probe_but_not_below_two_jiffies() -> None:
    sk = sock()
    sk.icsk_user_timeout = 1000
    assert timer.tcp_clamp_probe0_to_user_timeout(sk, 5000) == 5000
    sk.icsk_probes_tstamp = sk.net.jiffies - 900
    assert timer.tcp_clamp_probe0_to_user_timeout(sk, 5000) == 100
    sk.icsk_probes_tstamp = sk.net.jiffies - 2000
    assert timer.tcp_clamp_probe0_to_user_timeout(sk, 5000) == 2


def test_orphans_are_retried_eight_times_while_the_timeout_grows() -> None:
    sk = sock()
    assert timer.tcp_orphan_retries(sk, True) == 8
    assert timer.tcp_orphan_retries(sk, False) == 0
    sk = sock(tcp_orphan_retries=3)
    assert timer.tcp_orphan_retries(sk, False) == 3
    sk.sk_err_soft = 113
    assert timer.tcp_orphan_retries(sk, False) == 0


def test_an_orphan_waits_for_a_fin_at_least_three_and_a_half_timeouts() -> None:
    sk = sock(tcp_fin_timeout=1)
    sk.icsk_rto = 200
    assert timer.tcp_fin_time(sk) == 1000
    sk.icsk_rto = 1000
    assert timer.tcp_fin_time(sk) == 3500


@pytest.mark.parametrize(
    ("state", "sacked", "sack", "name"),
    [
        (CA.Recovery, 1, True, "TcpExtTCPSackRecoveryFail"),
        (CA.Recovery, 1, False, "TcpExtTCPRenoRecoveryFail"),
        (CA.Loss, 0, True, "TcpExtTCPLossFailures"),
        (CA.Disorder, 1, True, "TcpExtTCPSackFailures"),
        (CA.Open, 1, False, "TcpExtTCPRenoFailures"),
        (CA.Open, 0, True, ""),
    ],
)
def test_the_first_timeout_of_a_row_counts_what_it_ended(state: CA, sacked: int, sack: bool, name: str) -> None:
    sk = sock()
    sk.icsk_ca_state = state
    sk.sacked_out = sacked
    sk.rx_opt.sack_ok = int(sack)
    assert timer.failure_counter(sk) == name


def test_thin_streams_time_out_linearly_six_times() -> None:
    sk = sock(tcp_thin_linear_timeouts=1)
    sk.snd_ssthresh = 10
    sk.packets_out = 1
    sk.srtt_us = 8 * 50_000
    sk.rttvar_us = 200_000
    sk.icsk_rto = sk.icsk_rto_min = 200
    sk.icsk_retransmits = 6
    timer.back_off(sk)
    assert (sk.icsk_rto, sk.icsk_backoff) == (250, 0)
    sk.icsk_retransmits = 7
    timer.back_off(sk)
    assert (sk.icsk_rto, sk.icsk_backoff) == (500, 1)


def test_the_first_syns_time_out_linearly() -> None:
    sk = sock()
    sk.sk_state = St.SYN_SENT
    sk.icsk_rto = 1000
    seen = []
    for n in range(1, 8):
        sk.total_rto = n
        timer.back_off(sk)
        seen.append(sk.icsk_rto)
    assert seen == [1000, 1000, 1000, 1000, 2000, 4000, 8000]


def test_before_6_12_every_syn_timeout_doubles() -> None:
    sk = sock(kernel=601)
    sk.sk_state = St.SYN_SENT
    sk.icsk_rto = 1000
    sk.total_rto = 1
    timer.back_off(sk)
    assert sk.icsk_rto == 2000


def test_no_timeout_exceeds_two_minutes() -> None:
    sk = sock()
    sk.icsk_rto = 100_000
    timer.back_off(sk)
    assert sk.icsk_rto == 120_000


def test_a_timer_that_was_cleared_still_fires_and_finds_nothing() -> None:
    sk = sock()
    inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, 200, 120_000)
    inet_csk_clear_xmit_timer(sk, ICSK_TIME_RETRANS)
    assert sk.icsk_pending == 0
    assert sk.icsk_retransmit_timer.pending
    assert sk.net.fire() is sk.icsk_retransmit_timer
    assert not sk.net.out


def test_a_timer_that_fires_too_early_is_armed_again() -> None:
    sk = sock()
    inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, 200, 120_000)
    sk.icsk_timeout += 100
    sk.net.fire()
    assert sk.icsk_pending == ICSK_TIME_RETRANS
    assert sk.icsk_retransmit_timer.jiffy == sk.icsk_timeout


def test_while_the_application_holds_the_socket_timers_wait() -> None:
    sk = sock()
    sk.sk_owned = True
    inet_csk_reset_xmit_timer(sk, ICSK_TIME_DACK, 40, 120_000)
    timer.tcp_delack_timer(sk)
    timer.tcp_write_timer(sk)
    assert sk.sk_tsq_flags == {"TCP_DELACK_TIMER_DEFERRED", "TCP_WRITE_TIMER_DEFERRED"}
    assert sk.net.mib["TcpExtDelayedACKLocked"] == 1


def test_keepalive_counts_from_the_last_segment_of_either_kind() -> None:
    sk = sock()
    sk.rcv_tstamp = sk.net.jiffies - 500
    sk.icsk_ack.lrcvtime = sk.net.jiffies - 300
    assert timer.keepalive_time_elapsed(sk) == 300
