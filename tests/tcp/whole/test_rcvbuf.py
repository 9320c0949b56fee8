"""Receive memory and windows. Truesizes and windows are those of a kernel that got the same packets."""

import pytest

from refmodel.profile import profile
from refmodel.tcp.whole import rcvbuf
from refmodel.tcp.whole.const import ACK, ICSK_ACK_PUSHED, ICSK_ACK_PUSHED2, PSH
from refmodel.tcp.whole.params import WholeParams, whole_params
from tests.tcp.whole.peer import Peer


@pytest.mark.parametrize(
    ("length", "truesize"),
    [
        (40, 960),  # the small head: 704, and 256 of sk_buff
        (320, 960),
        (321, 1280),
        (1040, 2304),
        (1500, 2304),
        (1664, 2304),
        (1665, 4352),
        (4031, 8448),  # one head of 8192: 64 + 4031 bytes are less than a page
        (4032, 8448),  # a page of head, and a page of 320 bytes
        (3712 + 8192 + 64, 4352 + 8192 + 4096),
        (65535, 4352 + 32768 + 16384 + 8192 + 8192),
    ],
)
def test_the_memory_of_a_packet_from_a_tun_device(length: int, truesize: int) -> None:
    assert rcvbuf.tun_truesize(length, WholeParams()) == truesize


def test_the_measured_6_18_has_small_heads() -> None:
    p = whole_params(profile("6.18"))
    assert [rcvbuf.tun_truesize(n, p) for n in (40, 192, 193)] == [832, 832, 1280]
    assert whole_params(profile("6.12")).max_header == 176


def test_before_6_3_small_heads_are_of_the_next_power_of_two() -> None:
    assert [rcvbuf.tun_truesize(n, WholeParams(kernel=601)) for n in (40, 300, 1040, 10000)] == [768, 1280, 2304, 16640]


def test_the_first_full_segment_tells_how_much_memory_is_payload() -> None:
    p = Peer()
    p.data(1, 1000)
    assert p.sk.icsk_ack.rcv_mss == 1000
    assert p.sk.scaling_ratio == (1000 << 8) // 2304 == 111
    assert p.sk.window_clamp == 131072 * 111 >> 8 == 56832


def test_before_6_6_the_share_is_a_sysctl() -> None:
    p = Peer(kernel=601)
    p.data(1, 1000)
    assert rcvbuf.tcp_full_space(p.sk) == 131072 // 2
    p.net.sysctl("net.ipv4.tcp_adv_win_scale", "-2")
    assert rcvbuf.tcp_full_space(p.sk) == 131072 // 4
    p.net.sysctl("net.ipv4.tcp_adv_win_scale", "2")
    assert rcvbuf.tcp_full_space(p.sk) == 131072 * 3 // 4


def test_the_window_opens_by_two_segments_with_each_that_uses_memory_well() -> None:
    p = Peer()
    p.sk.rcv_ssthresh = 10_000
    p.sk.scaling_ratio = 128
    p.sk.icsk_ack.rcv_mss = 1400
    p.data(1, 1400)
    assert p.sk.rcv_ssthresh == 10_000 + 2 * p.sk.advmss


def test_small_segments_do_not_open_it() -> None:
    p = Peer()
    p.sk.rcv_ssthresh = 10_000
    p.data(1, 127)
    assert p.sk.rcv_ssthresh == 10_000


def test_small_pushed_segments_are_remembered_once_and_twice() -> None:
    p = Peer()
    p.sk.icsk_ack.pingpong = 1
    p.data(1, 10, PSH | ACK)
    assert p.sk.icsk_ack.pending & (ICSK_ACK_PUSHED | ICSK_ACK_PUSHED2) == ICSK_ACK_PUSHED
    p.data(11, 10, PSH | ACK)
    assert p.sk.icsk_ack.pending & ICSK_ACK_PUSHED2


def test_two_segments_of_one_smaller_size_make_it_the_peer_s() -> None:
    p = Peer()
    p.data(1, 1000)
    p.data(1001, 600)
    assert p.sk.icsk_ack.rcv_mss == 1000
    p.data(1601, 600)
    assert p.sk.icsk_ack.rcv_mss == 600


@pytest.mark.parametrize(("window", "quick"), [(64240, 16), (10_000, 9), (900, 2)])
def test_quick_acknowledgments_are_half_a_window_s_segments_two_at_least_sixteen_at_most(
    window: int, quick: int
) -> None:
    p = Peer()
    p.sk.rcv_wnd = window
    p.sk.icsk_ack.quick = 0
    p.sk.icsk_ack.rcv_mss = 536
    rcvbuf.tcp_incr_quickack(p.sk, 16)
    assert p.sk.icsk_ack.quick == quick


def test_the_delay_follows_the_rhythm_of_data() -> None:
    p = Peer(hz=1000)
    p.data(1, 1000)
    assert p.sk.icsk_ack.ato == 40
    p.pass_ms(5)
    p.data(1001, 1000)
    assert p.sk.icsk_ack.ato == 40
    p.pass_ms(30)
    p.data(2001, 1000)
    assert p.sk.icsk_ack.ato == 50
    p.pass_ms(100)
    p.data(3001, 1000)
    assert p.sk.icsk_ack.ato == 50


def test_the_buffer_grows_with_what_is_read_in_a_round_trip() -> None:
    p = Peer()
    sk = p.sk
    sk.rcv_rtt_est.rtt_us = 10_000 << 3
    sk.scaling_ratio = 128
    sk.rcvq_space.space, sk.rcvq_space.seq, sk.rcvq_space.time = 20_000, sk.copied_seq, p.net.now
    p.pass_ms(10)
    sk.rcv_nxt = sk.copied_seq = sk.copied_seq + 80_000
    rcvbuf.tcp_rcv_space_adjust(sk)
    window = 2 * 80_000 + 16 * sk.advmss
    window += 2 * (window * 60_000 // 20_000)
    assert sk.sk_rcvbuf == 2 * window
    assert (sk.window_clamp, sk.rcvq_space.space) == (window, 80_000)


def test_a_buffer_set_by_the_application_stays() -> None:
    p = Peer(rcvbuf=50_000)
    sk = p.sk
    sk.rcv_rtt_est.rtt_us = 8000
    p.pass_ms(10)
    sk.rcv_nxt = sk.copied_seq = sk.copied_seq + 80_000
    rcvbuf.tcp_rcv_space_adjust(sk)
    assert sk.sk_rcvbuf == 100_000


def test_tiny_segments_out_of_order_are_collapsed_before_any_is_dropped() -> None:
    p = Peer(rcvbuf=20_000)
    p.data(1, 1000)
    p.net.tap = True  # a packet socket holds clones, so that none is copied behind another
    for i in range(60):
        p.data(1002 + i, 1)
    assert p.sk.sk_rmem_alloc <= p.sk.sk_rcvbuf + 2304
    assert p.counted()["TCPRcvCollapsed"] > 0
    assert "OfoPruned" not in p.counted()
    p.data(1001, 1)
    assert p.read(5000) == 1061


def test_an_overrun_buffer_drops_the_highest_segments_out_of_order() -> None:
    p = Peer(rcvbuf=5_000)
    p.data(1, 1000)
    for seq in (3001, 2501, 2001, 1501):
        p.data(seq, 400)
    p.sk.sk_rcvbuf = 5_000
    p.data(1401, 100)
    assert p.counted()["OfoPruned"] >= 1
    assert p.counted()["PruneCalled"] >= 1
    left = [x.seq for x in p.sk.out_of_order_queue]
    assert left == sorted(left)
    assert 3001 not in left
