"""Validation of segments, the fast path, urgent data, and the states. Expected values are the source's and RFCs'."""

import errno

import pytest

from refmodel.tcp.state import St
from refmodel.tcp.whole import rcv
from refmodel.tcp.whole.const import ACK, FIN, PSH, RST, SYN, URG
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.skb import Packet, Skb, TcpOptions
from refmodel.tcp.whole.sock import RxOpt
from refmodel.tcp.whole.tcp_h import tcp_hdrlen
from tests.tcp.whole.peer import Peer


def test_predicted_headers_are_counted_and_leave_the_slow_path_out() -> None:
    p = Peer()
    p.data(1, 1000)  # no memory is scheduled yet: not predicted
    assert "TCPHPHits" not in p.counted()
    p.sk.sk_forward_alloc = 8192
    p.data(1001, 1000)
    assert p.counted()["TCPHPHits"] == 1


def test_a_push_is_predicted_and_an_urgent_pointer_is_not() -> None:
    p = Peer()
    p.data(1, 1000)
    p.sk.sk_forward_alloc = 8192
    p.data(1001, 1000, PSH | ACK)
    assert p.counted()["TCPHPHits"] == 1
    p.data(2001, 10, URG | ACK, urg_ptr=5)
    assert p.counted()["TCPHPHits"] == 1
    assert p.sk.pred_flags is None


def test_an_old_timestamp_is_answered_and_changes_nothing() -> None:
    p = Peer(ts=True)
    p.data(1, 1000, tsval=1100)
    answers = p.data(1001, 1000, tsval=900)
    assert [x.ack_seq for x in answers] == [1001]
    assert (p.sk.rcv_nxt, p.sk.rx_opt.ts_recent, p.counted()["PAWSEstab"]) == (1001, 1100, 1)


def test_a_timestamp_may_be_older_by_one() -> None:
    p = Peer(ts=True)
    p.data(1, 1000, tsval=1100)
    p.data(1001, 1000, tsval=1099)
    assert p.sk.rcv_nxt == 2001


def test_bare_segments_out_of_window_are_answered_once_in_500_ms() -> None:
    p = Peer()
    assert len(p.data(200_000, 0)) == 1
    assert len(p.data(200_000, 0)) == 0
    assert p.counted()["TCPACKSkippedSeq"] == 1
    assert len(p.data(200_000, 100)) == 1  # data are always answered
    p.pass_ms(501)
    assert len(p.data(200_000, 0)) == 1


@pytest.mark.parametrize(("offset", "reset"), [(0, True), (1, False), (-1, False), (100, False)])
def test_only_a_reset_at_rcv_nxt_resets(offset: int, reset: bool) -> None:
    p = Peer()
    p.data(1, 1000)
    answers = p.data(1001 + offset, 0, RST, ack=0)
    assert (p.sk.sk_state == St.CLOSE) == reset
    assert p.sk.sk_err == (errno.ECONNRESET if reset else 0)
    assert len(answers) == (offset > 0)


def test_a_reset_at_the_end_of_the_last_sack_block_resets() -> None:
    p = Peer()
    p.data(2001, 1000)
    p.data(501, 100)
    assert len(p.data(601, 0, RST)) == 1
    p.data(3001, 0, RST)
    assert p.sk.sk_state == St.CLOSE


def test_a_reset_that_repeats_the_fin_s_number_resets_in_close_wait() -> None:
    p = Peer()
    p.data(1, 0, FIN | ACK)
    p.data(1, 0, RST)
    assert (p.sk.sk_state, p.sk.sk_err) == (St.CLOSE, errno.EPIPE)


def test_a_syn_is_challenged_and_counted_as_an_error() -> None:
    p = Peer()
    answers = p.data(1, 0, SYN, ack=0)
    assert [x.flags for x in answers] == [ACK]
    assert p.counted() == {"TCPChallengeACK": 1, "TCPSYNChallenge": 1}
    assert p.net.mib["TcpInErrs"] == 1


def test_challenges_are_limited_in_a_namespace_too() -> None:
    p = Peer(tcp_challenge_ack_limit=1, tcp_invalid_ratelimit=0)
    assert sum(len(p.data(1, 0, SYN, ack=0)) for _ in range(20)) == 1


def test_the_urgent_byte_is_the_one_before_the_pointer() -> None:
    p = Peer()
    p.data(1, 1000, URG | ACK, urg_ptr=500)
    assert (p.sk.urg_seq, p.sk.urg_data) == (500, rcv.TCP_URG_VALID)
    assert p.read(5000) == 499


def test_with_stdurg_the_urgent_byte_is_at_the_pointer() -> None:
    p = Peer(tcp_stdurg=1)
    p.data(1, 1000, URG | ACK, urg_ptr=500)
    assert p.sk.urg_seq == 501


def test_our_fin_acknowledged_is_fin_wait2_and_their_fin_time_wait() -> None:
    p = Peer()
    sk = p.sk
    assert [x.flags for x in p.close()] == [FIN | ACK]
    assert sk.sk_state.name == "FIN_WAIT1"
    p.data(1, 0, ack=2)
    assert sk.sk_state.name == "CLOSE"  # what is left is in FIN_WAIT2
    answers = p.data(1, 0, FIN | ACK, ack=2)
    assert [(x.flags, x.ack_seq) for x in answers] == [(ACK, 2)]


def test_crossed_fins_are_closing_and_answered_at_once() -> None:
    p = Peer()
    sk = p.sk
    p.close()
    answers = p.data(1, 0, FIN | ACK, ack=1)
    assert (sk.sk_state, [x.ack_seq for x in answers]) == (St.CLOSING, [2])
    p.data(2, 0, ack=2)
    assert sk.sk_state.name == "CLOSE"


def test_data_for_a_closed_socket_are_reset() -> None:
    p = Peer()
    p.close()
    answers = p.data(1, 500, ack=2)
    assert [x.flags & RST for x in answers] == [RST]
    assert p.counted()["TCPAbortOnData"] == 1


def test_the_last_acknowledgment_closes() -> None:
    p = Peer()
    p.data(1, 0, FIN | ACK)
    sk = p.sk
    p.close()
    assert sk.sk_state.name == "LAST_ACK"
    p.data(2, 0, ack=2)
    assert sk.sk_state.name == "CLOSE"


@pytest.mark.parametrize(
    ("opts", "length"),
    [
        (TcpOptions(), 20),
        (TcpOptions(tsval=1, tsecr=2), 32),
        (TcpOptions(sacks=((1, 2), (3, 4))), 40),
        (TcpOptions(tsval=1, sacks=((1, 2), (3, 4), (5, 6))), 60),
        (TcpOptions(mss=1460, sack_perm=True, wscale=7), 32),
        (TcpOptions(mss=1460, sack_perm=True, tsval=1, wscale=7), 40),
        (TcpOptions(mss=1460, fastopen=bytes(8)), 36),
    ],
)
def test_the_header_is_as_long_as_its_options(opts: TcpOptions, length: int) -> None:
    assert tcp_hdrlen(Packet(b"", b"", 1, 2, 0, 0, ACK, 0, opts=opts)) == length


def syn(opts: TcpOptions) -> Skb:
    skb = Skb(0, 1, 0, SYN)
    skb.packet = Packet(b"", b"", 1, 2, 0, 0, SYN, 0, opts=opts)
    return skb


def test_a_window_scale_above_14_is_14_and_the_user_s_mss_bounds_the_peer_s() -> None:
    rx_opt = RxOpt()
    rx_opt.user_mss = 1000
    rcv.tcp_parse_options(Net(), syn(TcpOptions(mss=1460, wscale=20)), rx_opt, 0, None)
    assert (rx_opt.mss_clamp, rx_opt.snd_wscale) == (1000, 14)


def test_sysctls_switch_options_off() -> None:
    net = Net()
    for name in ("timestamps", "sack", "window_scaling"):
        net.sysctl("net.ipv4.tcp_" + name, "0")
    rx_opt = RxOpt()
    rcv.tcp_parse_options(net, syn(TcpOptions(mss=1460, wscale=7, sack_perm=True, tsval=1)), rx_opt, 0, None)
    assert (rx_opt.saw_tstamp, rx_opt.sack_ok, rx_opt.wscale_ok) == (False, 0, False)


@pytest.mark.parametrize(("idle", "ok"), [(0, False), (2146, False), (2147, True)])
def test_a_timestamp_of_half_an_hour_ago_proves_nothing(idle: int, ok: bool) -> None:
    net = Net()
    rx_opt = RxOpt()
    rx_opt.ts_recent, rx_opt.rcv_tsval, rx_opt.ts_recent_stamp = 1000, 500, net.secs
    net.now += idle * 1_000_000
    assert rcv.tcp_paws_check(net, rx_opt, 1) == ok
