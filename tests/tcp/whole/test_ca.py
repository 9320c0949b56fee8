"""Congestion control: the registry, reno, cubic's glue, dctcp."""

import errno
import struct

import pytest

from refmodel.rule import NotModelled
from refmodel.tcp.cubic import Bictcp
from refmodel.tcp.state import St
from refmodel.tcp.whole import ca
from refmodel.tcp.whole.const import CA_EVENT_TX_START, TCP_ECN_DEMAND_CWR, TCP_ECN_OK, TCP_INFINITE_SSTHRESH
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.sock import CA, AckedSample, Sock


def sock(name: str = "cubic", **sysctls: int) -> Sock:
    net = Net(WholeParams(**sysctls))
    net.tcp_congestion_control = name
    sk = Sock(net, 2)
    sk.tcp_mstamp = net.now
    ca.tcp_assign_congestion_control(sk)
    sk.sk_state = St.ESTABLISHED
    return sk


def test_a_socket_takes_the_sysctl_and_setsockopt_changes_it() -> None:
    sk = sock("reno")
    assert sk.icsk_ca_ops is ca.RENO
    assert ca.tcp_set_congestion_control(sk, "cubic", True, True) == 0
    assert sk.icsk_ca_ops is ca.CUBIC
    assert sk.icsk_ca_setsockopt


def test_an_unknown_algorithm_is_refused() -> None:
    sk = sock()
    assert ca.tcp_set_congestion_control(sk, "nonesuch", True, True) == -errno.ENOENT
    assert ca.tcp_set_default_congestion_control(sk.net, "nonesuch") == -errno.ENOENT


def test_a_known_algorithm_without_a_text_is_not_modelled() -> None:
    with pytest.raises(NotModelled):
        ca.tcp_set_congestion_control(sock(), "vegas", True, True)


def test_a_restricted_algorithm_wants_a_capability() -> None:
    assert ca.tcp_set_congestion_control(sock(), "dctcp", True, False) == -errno.EPERM
    assert ca.tcp_set_congestion_control(sock(), "bbr", True, False) == 0


def test_a_locked_route_rules() -> None:
    sk = sock()
    sk.icsk_ca_dst_locked = True
    assert ca.tcp_set_congestion_control(sk, "reno", True, True) == -errno.EPERM


def test_slow_start_stops_at_the_threshold_and_reno_counts_the_rest() -> None:
    sk = sock("reno")
    sk.is_cwnd_limited = True
    sk.snd_ssthresh = 12
    ca.tcp_reno_cong_avoid(sk, 0, 5)
    assert (sk.snd_cwnd, sk.snd_cwnd_cnt) == (12, 3)
    ca.tcp_reno_cong_avoid(sk, 0, 9)
    assert (sk.snd_cwnd, sk.snd_cwnd_cnt) == (13, 0)


def test_a_window_that_is_not_used_does_not_grow() -> None:
    sk = sock("reno")
    sk.snd_ssthresh = 10
    ca.tcp_reno_cong_avoid(sk, 0, 5)
    assert sk.snd_cwnd == 10


def test_reno_halves_and_remembers() -> None:
    sk = sock("reno")
    sk.snd_cwnd = 3
    assert ca.tcp_reno_ssthresh(sk) == 2
    sk.prior_cwnd = 20
    assert ca.tcp_reno_undo_cwnd(sk) == 20


def test_cubic_takes_three_tenths() -> None:
    sk = sock()
    ca.tcp_init_congestion_control(sk)
    sk.snd_cwnd = 100
    assert sk.icsk_ca_ops.ssthresh(sk) == 70  # 100 * 717 // 1024
    sk.snd_cwnd = 70
    assert sk.icsk_ca_ops.ssthresh(sk) == 49
    assert sk.icsk_ca_priv.last_max_cwnd == 59  # falling: 70 * (1024 + 717) // 2048


def test_cubic_grows_in_avoidance_at_most_by_half_in_a_round_trip() -> None:
    sk = sock()
    ca.tcp_init_congestion_control(sk)
    sk.is_cwnd_limited = True
    sk.snd_cwnd = sk.snd_ssthresh = 10
    for _ in range(10):
        ca.cubictcp_cong_avoid(sk, 0, 1)
    assert 10 <= sk.snd_cwnd <= 15


def test_silence_is_taken_out_of_the_epoch() -> None:
    sk = sock()
    now = sk.net.jiffies
    sk.icsk_ca_priv = Bictcp(epoch_start=now - 5000)
    sk.lsndtime = now - 2000
    ca.cubictcp_cwnd_event(sk, CA_EVENT_TX_START)
    assert sk.icsk_ca_priv.epoch_start == now - 3000


def test_a_train_of_acks_ends_slow_start_only_where_it_is_looked_for() -> None:
    for detect, ends in ((3, True), (1, True), (2, False), (0, False)):
        sk = sock()
        sk.net.hystart_detect = detect
        ca.tcp_init_congestion_control(sk)
        sk.snd_cwnd = 20
        for _ in range(12):
            ca.cubictcp_acked(sk, AckedSample(1, 10_000, 10))
            sk.net.now += 1000
            sk.tcp_mstamp = sk.net.now
        assert (sk.snd_ssthresh == 20) == ends
        assert (sk.net.mib["TcpExtTCPHystartTrainDetect"] == 1) == ends
        assert sk.net.mib["TcpExtTCPHystartTrainCwnd"] == (20 if ends else 0)


def test_a_growing_delay_ends_slow_start() -> None:
    sk = sock()
    ca.tcp_init_congestion_control(sk)
    sk.snd_cwnd = 16
    ca.cubictcp_acked(sk, AckedSample(1, 10_000, 10))
    sk.snd_una = 1
    sk.tcp_mstamp += 10_000
    for n in range(9):
        assert sk.snd_ssthresh == TCP_INFINITE_SSTHRESH, n
        ca.cubictcp_acked(sk, AckedSample(1, 15_000, 10))
        sk.snd_una = sk.snd_nxt  # within the round
        sk.tcp_mstamp += 3000
    assert sk.snd_ssthresh == 16
    assert sk.net.mib["TcpExtTCPHystartDelayDetect"] == 1


def test_below_sixteen_segments_hystart_is_silent() -> None:
    sk = sock()
    ca.tcp_init_congestion_control(sk)
    sk.snd_cwnd = 15
    for _ in range(20):
        ca.cubictcp_acked(sk, AckedSample(1, 10_000, 10))
        sk.tcp_mstamp += 1000
    assert sk.snd_ssthresh == TCP_INFINITE_SSTHRESH


def test_dctcp_without_ecn_is_reno() -> None:
    sk = sock("dctcp")
    assert sk.inet_tos & 3 == 2
    ca.tcp_init_congestion_control(sk)
    assert sk.icsk_ca_ops is ca.DCTCP_RENO
    assert sk.inet_tos & 3 == 0
    assert ca.dctcp_get_info(sk, 0xFFFFFFFF) == (9, bytes(16))


def test_dctcp_averages_the_marks() -> None:
    sk = sock("dctcp")
    sk.ecn_flags = TCP_ECN_OK
    ca.tcp_init_congestion_control(sk)
    sk.delivered, sk.delivered_ce = 10, 0
    ca.dctcp_update_alpha(sk, 0)
    assert ca.dctcp_of(sk).dctcp_alpha == 960  # 1024 - 1024 / 16
    sk.delivered, sk.delivered_ce = 20, 5
    ca.dctcp_update_alpha(sk, 0)
    assert ca.dctcp_of(sk).dctcp_alpha == 932  # 960 - 60 + 64 * 5 / 10
    sk.snd_cwnd = 100
    assert ca.dctcp_ssthresh(sk) == 55  # 100 - 100 * 932 / 2048
    info = ca.dctcp_get_info(sk, 0xFFFFFFFF)
    assert info is not None
    assert struct.unpack("=HHIII", info[1]) == (1, 0, 932, 0, 0)


def test_dctcp_marks_acks_while_marks_arrive() -> None:
    sk = sock("dctcp")
    sk.ecn_flags = TCP_ECN_OK
    ca.tcp_init_congestion_control(sk)
    ca.tcp_ca_event(sk, 5)  # CA_EVENT_ECN_IS_CE
    assert sk.ecn_flags & TCP_ECN_DEMAND_CWR
    assert sk.icsk_ack.pending & 16
    ca.tcp_ca_event(sk, 4)
    assert not sk.ecn_flags & TCP_ECN_DEMAND_CWR


def test_dctcp_halves_on_recovery_once() -> None:
    sk = sock("dctcp")
    sk.ecn_flags = TCP_ECN_OK
    ca.tcp_init_congestion_control(sk)
    sk.snd_cwnd = 20
    ca.tcp_set_ca_state(sk, CA.Recovery)
    assert (sk.snd_ssthresh, sk.icsk_ca_state) == (10, CA.Recovery)
    sk.snd_cwnd = 12
    assert sk.icsk_ca_ops.undo_cwnd(sk) == 20
