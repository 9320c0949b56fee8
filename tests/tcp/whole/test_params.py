"""Sysctls: defaults, ranges and names."""

import pytest

from refmodel.profile import OutOfRange, UnknownSysctl
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import INERT, WholeParams, sysctl_fields


def test_every_default_is_its_fields_default_and_in_range() -> None:
    p = WholeParams()
    for name, (field, s) in sysctl_fields().items():
        assert getattr(p, field) == s.default, name
        assert s.min <= s.default <= s.max, name
        assert name not in INERT


@pytest.mark.parametrize(
    ("name", "value"),
    # extra1 and extra2 of the kernel's tables, one beyond
    [
        ("net.ipv4.tcp_ecn", 3),
        ("net.ipv4.tcp_early_retrans", 5),
        ("net.ipv4.tcp_reordering", 301),
        ("net.ipv4.tcp_tso_rtt_log", 32),
        ("net.ipv4.tcp_syn_retries", 0),
        ("net.ipv4.tcp_min_tso_segs", 0),
        ("net.ipv4.tcp_pacing_ss_ratio", 1001),
        ("net.ipv4.tcp_min_rtt_wlen", 86_401),
        ("net.ipv4.tcp_adv_win_scale", 32),
        ("net.ipv4.tcp_app_win", 32),
        ("net.ipv4.tcp_rto_min_us", 0),
        ("net.ipv4.tcp_pingpong_thresh", 0),
        ("net.ipv4.tcp_plb_cong_thresh", 257),
        ("net.core.wmem_max", 4607),
        ("net.core.rmem_max", 2303),
    ],
)
def test_the_kernel_refuses_what_lies_outside(name: str, value: int) -> None:
    with pytest.raises(OutOfRange):
        Net().sysctl(name, str(value))


def test_a_triple_is_set_in_parts() -> None:
    net = Net()
    net.sysctl("net.ipv4.tcp_rmem", "4096 131072 15728640")
    assert (net.p.tcp_rmem_0, net.p.tcp_rmem_1, net.p.tcp_rmem_2) == (4096, 131072, 15_728_640)


def test_an_inert_sysctl_is_taken_and_an_unknown_one_is_not() -> None:
    net = Net()
    net.sysctl("net.ipv4.tcp_low_latency", "1")
    with pytest.raises(UnknownSysctl):
        net.sysctl("net.ipv4.tcp_nonesuch", "1")


def test_an_unknown_congestion_control_is_refused() -> None:
    net = Net()
    net.sysctl("net.ipv4.tcp_congestion_control", "reno")
    assert net.tcp_congestion_control == "reno"
    with pytest.raises(OutOfRange):
        net.sysctl("net.ipv4.tcp_congestion_control", "nonesuch")
