"""Segments as they are built: options and their order, windows, the SYN's window scale, acknowledgments that wait."""

import pytest

from refmodel.packet.transport import (
    Eol,
    Fastopen,
    Md5,
    Mss,
    Nop,
    Option,
    Sack,
    SackPerm,
    Timestamp,
    Unknown,
    Wscale,
    tcp_options,
)
from refmodel.tcp.state import St
from refmodel.tcp.whole import ca, output, transmit
from refmodel.tcp.whole.const import (
    ACK,
    CWR,
    ECE,
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    SYN,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_OK,
    TCP_ECN_QUEUE_CWR,
)
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.options import tcp_established_options
from refmodel.tcp.whole.params import WholeParams
from refmodel.tcp.whole.skb import FastopenRequest, Skb, TcpOptions
from refmodel.tcp.whole.sock import Dst, SackBlock, Sock


def sock(**params: int) -> Sock:
    net = Net(WholeParams(**params))
    sk = Sock(net, 2)
    sk.inet_saddr, sk.inet_daddr = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    sk.inet_sport, sk.inet_dport = 1000, 2000
    sk.sk_dst = Dst()
    sk.sk_state = St.ESTABLISHED
    sk.sk_rcvbuf, sk.sk_sndbuf = 131072, 16384
    sk.rx_opt.mss_clamp = 1460
    sk.rx_opt.sack_ok = 1
    sk.advmss = 1460
    sk.icsk_rto = sk.icsk_rto_min = net.hz // 5
    sk.icsk_delack_max = net.hz // 5
    sk.snd_una = sk.snd_nxt = sk.write_seq = sk.snd_up = sk.snd_sml = sk.pushed_seq = 1
    sk.snd_wnd = sk.max_window = 65535
    sk.window_clamp = sk.rcv_ssthresh = sk.rcv_wnd = 65535
    sk.icsk_ack.rcv_mss = 1460
    ca.tcp_assign_congestion_control(sk)
    output.tcp_sync_mss(sk, 1500)
    transmit.tcp_mstamp_refresh(sk)
    return sk


COOKIE = bytes(8)


@pytest.mark.parametrize(
    ("opts", "wire"),
    [
        (
            TcpOptions(mss=1460, wscale=7, sack_perm=True, tsval=1, tsecr=0),
            (Mss(1460), SackPerm(), Timestamp(1, 0), Nop(), Wscale(7)),
        ),
        (TcpOptions(mss=1460, wscale=0, sack_perm=True), (Mss(1460), Nop(), Nop(), SackPerm(), Nop(), Wscale(0))),
        (TcpOptions(tsval=5, tsecr=6), (Nop(), Nop(), Timestamp(5, 6))),
        (
            TcpOptions(tsval=5, tsecr=6, sacks=((1, 2),)),
            (Nop(), Nop(), Timestamp(5, 6), Nop(), Nop(), Sack(((1, 2),))),
        ),
        (TcpOptions(md5=bytes(16), mss=1460), (Nop(), Nop(), Md5(bytes(16)), Mss(1460))),
        (TcpOptions(mss=1460, fastopen=b""), (Mss(1460), Fastopen(b""), Nop(), Nop())),
        (TcpOptions(mss=1460, fastopen=COOKIE), (Mss(1460), Fastopen(COOKIE), Nop(), Nop())),
        (TcpOptions(mss=1460, fastopen=COOKIE[:6]), (Mss(1460), Fastopen(COOKIE[:6]))),
        (TcpOptions(mss=1460, fastopen=b"", fastopen_exp=True), (Mss(1460), Fastopen(b"", True))),
        (
            TcpOptions(mss=1460, fastopen=COOKIE[:6], fastopen_exp=True),
            (Mss(1460), Fastopen(COOKIE[:6], True), Nop(), Nop()),
        ),
    ],
)
def test_options_stand_in_the_kernels_order_and_fill_words(opts: TcpOptions, wire: tuple[Option, ...]) -> None:
    assert transmit.wire_options(opts, 0) == wire
    assert sum(len(o.wire()) for o in wire) % 4 == 0


def test_of_each_option_the_last_one_is_read() -> None:
    raw = Mss(1000).wire() + Mss(0).wire() + Mss(900).wire() + Wscale(20).wire() + b"\x01" + b"\x02\x03\x00"
    opts = transmit.read_options(tcp_options(raw))
    assert (opts.mss, opts.wscale, opts.unknown) == (900, 20, (2,))
    opts = transmit.read_options(tcp_options(Mss(1000).wire() + Mss(0).wire()))
    assert opts.mss == 1000


def test_nothing_is_read_behind_the_end_or_an_impossible_length() -> None:
    assert transmit.read_options((Eol(b"\x00"), Mss(1000))).mss is None
    assert transmit.read_options(tcp_options(b"\x08\x00" + Mss(1000).wire())).mss is None
    assert transmit.read_options(tcp_options(b"\xfd\x04ab" + Mss(1000).wire())).mss == 1000
    assert transmit.read_options((Unknown(99),)).unknown == (99,)


def test_a_fast_open_cookie_of_odd_length_is_no_cookie() -> None:
    assert transmit.read_options((Fastopen(b"abcd"), Fastopen(b"abcde"))).fastopen == b"abcd"


def test_three_sack_blocks_fit_beside_a_timestamp_and_the_dsack_is_the_first() -> None:
    sk = sock()
    sk.rx_opt.tstamp_ok = True
    sk.rx_opt.num_sacks = 4
    sk.selective_acks = [SackBlock(10 * i, 10 * i + 5) for i in range(1, 5)]
    sk.duplicate_sack = [SackBlock(1, 2)]
    sk.rx_opt.dsack = True
    opts = TcpOptions()
    assert tcp_established_options(sk, Skb(), opts, None) == 40
    assert opts.sacks == ((1, 2), (10, 15), (20, 25))
    assert not sk.rx_opt.dsack
    sk.rx_opt.tstamp_ok = False
    opts = TcpOptions()
    assert tcp_established_options(sk, Skb(), opts, None) == 36
    assert opts.sacks == ((10, 15), (20, 25), (30, 35), (40, 45))


def test_sack_blocks_make_segments_smaller_for_as_long_as_they_stand() -> None:
    sk = sock()
    assert output.tcp_current_mss(sk) == 1460
    sk.rx_opt.num_sacks = 2
    assert output.tcp_current_mss(sk) == 1460 - 20
    assert sk.mss_cache == 1460


@pytest.mark.parametrize(
    ("space", "mss", "clamp", "wscale_ok", "initrwnd", "want"),
    [
        (65536, 1460, 0, True, 0, (64240, 65535 << 7, 7)),  # a client with tcp_rmem[1] 131072: 44 * 1460
        (65536, 1448, 0, True, 0, (65160, 65535 << 7, 7)),  # a server that agreed on timestamps: 45 * 1448
        (65536, 1460, 0, False, 0, (64240, 65535, 0)),
        (1000, 1460, 0, True, 0, (1000, 65535 << 7, 7)),
        (65536, 1460, 0, True, 10, (14600, 65535 << 7, 7)),
        (65536, 1460, 8000, True, 0, (7300, 8000, 0)),
        (-5, 1460, 0, True, 0, (0, 65535 << 7, 7)),
    ],
)
def test_the_first_window_and_its_scale(
    space: int, mss: int, clamp: int, wscale_ok: bool, initrwnd: int, want: tuple[int, int, int]
) -> None:
    assert transmit.tcp_select_initial_window(sock(), space, mss, clamp, wscale_ok, initrwnd) == want


def test_a_window_that_was_offered_is_not_taken_back() -> None:
    sk = sock()
    sk.rx_opt.rcv_wscale = 7
    sk.rcv_wnd, sk.rcv_wup, sk.rcv_nxt = 60000, 1000, 1100
    sk.sk_rmem_alloc = sk.sk_rcvbuf  # nothing is free
    assert transmit.tcp_select_window(sk) == -(-59900 // 128)
    assert sk.net.mib["TcpExtTCPWantZeroWindowAdv"] == 1
    sk.rcv_nxt = sk.rcv_wup + sk.rcv_wnd  # the peer used it up
    assert transmit.tcp_select_window(sk) == 0
    assert sk.net.mib["TcpExtTCPToZeroWindowAdv"] == 1
    sk.sk_rmem_alloc = 0
    assert transmit.tcp_select_window(sk) == 512
    assert sk.net.mib["TcpExtTCPFromZeroWindowAdv"] == 1


def test_with_the_sysctl_a_window_shrinks() -> None:
    sk = sock(tcp_shrink_window=1)
    sk.rx_opt.rcv_wscale = 7
    sk.sk_rmem_alloc = sk.sk_rcvbuf
    assert transmit.tcp_select_window(sk) == 0


def test_an_unscaled_window_is_whole_segments_and_moves_by_one_at_least() -> None:
    sk = sock()
    sk.rcv_wnd = 14600
    sk.rcv_ssthresh = 15000
    assert transmit.__dict__["__tcp_select_window"](sk) == 14600
    sk.rcv_ssthresh = 16500
    assert transmit.__dict__["__tcp_select_window"](sk) == 16060


def test_a_syn_that_asks_for_a_cookie_carries_all_options() -> None:
    sk = sock()
    sk.fastopen_req = FastopenRequest(0)
    sk.rx_opt.rcv_wscale = 7
    skb = Skb()
    transmit.tcp_init_nondata_skb(skb, 1, SYN)
    transmit.tcp_transmit_skb(sk, skb, True)
    p = sk.net.out.popleft()
    assert (p.flags, p.window, p.opts.fastopen, p.opts.size) == (SYN, 65535, b"", 24)
    assert sk.syn_fastopen


def test_new_data_are_ecn_capable_and_the_rest_is_not() -> None:
    sk = sock()
    sk.ecn_flags = TCP_ECN_OK | TCP_ECN_QUEUE_CWR | TCP_ECN_DEMAND_CWR
    skb = Skb(1, 101, 100, ACK)
    skb.gso_segs = 1
    sk.packets_out = 1
    transmit.tcp_transmit_skb(sk, skb, True)
    p = sk.net.out.popleft()
    assert (p.flags, p.tos) == (ACK | CWR | ECE, 2)
    sk.snd_nxt = 101
    transmit.tcp_transmit_skb(sk, skb, True)
    p = sk.net.out.popleft()
    assert (p.flags, p.tos) == (ACK | ECE, 0)


def test_urgent_data_are_pointed_at_within_64_kib() -> None:
    sk = sock()
    sk.snd_nxt = 200_001
    skb = Skb(1, 101, 100, ACK)
    skb.gso_segs = 1
    sk.snd_up = 50
    transmit.tcp_transmit_skb(sk, skb, True)
    assert sk.net.out.popleft().urg_ptr == 49
    sk.snd_up = 100_000
    transmit.tcp_transmit_skb(sk, skb, True)
    assert sk.net.out.popleft().urg_ptr == 0
    sk.snd_nxt = 60_000
    transmit.tcp_transmit_skb(sk, skb, True)
    assert sk.net.out.popleft().urg_ptr == 0xFFFF


def test_a_delayed_ack_waits_for_ato_and_no_longer_than_a_round_trip() -> None:
    sk = sock()
    sk.icsk_ack.ato = 40
    now = sk.net.jiffies
    transmit.tcp_send_delayed_ack(sk)
    assert sk.icsk_ack.timeout == now + 40
    assert sk.icsk_ack.pending == ICSK_ACK_SCHED | ICSK_ACK_TIMER
    sk.net.advance(sk.net.now + 31_000)
    transmit.tcp_send_delayed_ack(sk)  # due in 9 jiffies, less than a quarter of ato: now
    assert len(sk.net.out) == 1
    assert not sk.icsk_ack.pending
    sk.icsk_ack.ato = 150
    sk.srtt_us = 60_000 << 3
    transmit.tcp_send_delayed_ack(sk)
    assert sk.icsk_ack.timeout == sk.net.jiffies + 60


def test_the_delayed_ack_never_waits_as_long_as_the_least_timeout() -> None:
    sk = sock()
    sk.icsk_rto_min = 5
    sk.icsk_ack.ato = 40
    transmit.tcp_send_delayed_ack(sk)
    assert sk.icsk_ack.timeout == sk.net.jiffies + 4


def test_a_sequence_number_without_data_stays_within_a_shrunk_window() -> None:
    sk = sock()
    sk.snd_nxt = 1001
    sk.snd_wnd = 500
    assert transmit.tcp_acceptable_seq(sk) == 501
    sk.rx_opt.wscale_ok = True
    sk.rx_opt.rcv_wscale = 9
    assert transmit.tcp_acceptable_seq(sk) == 1001


def test_a_closed_socket_sends_no_ack() -> None:
    sk = sock()
    sk.sk_state = St.CLOSE
    transmit.tcp_send_ack(sk)
    assert not sk.net.out


def test_pacing_leaves_the_first_ten_segments_alone() -> None:
    sk = sock()
    sk.sk_pacing_status = 1
    sk.sk_pacing_rate = 1_000_000
    skb = Skb(1, 1001, 1000, ACK)
    skb.gso_segs = 1
    for _ in range(9):
        transmit.tcp_transmit_skb(sk, skb, True)
    assert sk.tcp_wstamp_ns == sk.net.now * 1000
    transmit.tcp_transmit_skb(sk, skb, True)
    assert sk.tcp_wstamp_ns == sk.net.now * 1000 + 1_000_000  # 1000 bytes at 1 MB/s
    assert output.tcp_pacing_check(sk)
    assert sk.pacing_timer.expires == sk.net.now + 1000


def test_a_clock_that_is_read_twice_has_gone_on() -> None:
    net = Net(WholeParams())
    sk = Sock(net, 2)
    transmit.tcp_mstamp_refresh(sk)
    first = sk.tcp_mstamp
    transmit.tcp_mstamp_refresh(sk)
    assert sk.tcp_mstamp == first + 1 == net.now
    assert sk.tcp_clock_cache == sk.tcp_mstamp * 1000
    net.now += 10
    transmit.tcp_mstamp_refresh(sk)
    assert sk.tcp_mstamp == first + 11
