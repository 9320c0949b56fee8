"""Ending: FINs in every order, RSTs, orphans, linger, TIME_WAIT."""

import pytest

from refmodel.tcp.events import (
    Close,
    Connect,
    DelackTimer,
    KeepaliveTimer,
    Output,
    Poll,
    Read,
    Release,
    Seg,
    SetKeepalive,
    SetLinger,
    SetLinger2,
    Shutdown,
    TwTimer,
    Write,
    WriteTimer,
)
from refmodel.tcp.state import Errno, Pending, Sock, St, Tw
from tests.tcp.drive import SECOND, Run, established, seg, send_all

IN, OUT, ERR, HUP, RDHUP = 1, 4, 8, 16, 0x2000


def fin_wait1(**given: int) -> Run:
    """Closed for sending, with the FIN at 1001 under way."""
    run = established(**given)
    run.do(Shutdown(now=3 * SECOND))
    (fin,) = send_all(run)
    assert (fin.fin, fin.seq, fin.len) == (True, 1001, 0)
    return run


def test_active_close() -> None:
    run = fin_wait1()
    assert run.state.state == St.FIN_WAIT1
    run.do(seg(ack_seq=1002))
    assert run.state.state == St.FIN_WAIT2
    assert run.result(Poll()).value == OUT
    (ack,) = run.sent(seg(ack_seq=1002, fin=True))
    assert (ack.seq, ack.ack_seq) == (1002, 5002)
    assert (run.state.tw_substate, run.state.tw_timeout) == (St.TIME_WAIT, 63 * SECOND)
    run.do(TwTimer(now=63 * SECOND - 1))
    assert isinstance(run.state, Tw)
    run.do(TwTimer(now=63 * SECOND))
    assert run.state.state == St.CLOSE


def test_passive_close() -> None:
    run = established()
    assert run.sent(seg(fin=True, ack_now=False, delack=40_000)) == []
    assert run.state.state == St.CLOSE_WAIT
    assert run.result(Poll()).value == IN + OUT + RDHUP
    assert (run.result(Read(n=10)).value, run.result(Read(n=10)).errno) == (0, Errno.NONE)
    assert [x.ack_seq for x in run.sent(DelackTimer(now=3 * SECOND + 40_000))] == [5002]
    assert run.result(Write(n=3)).value == 3
    run.do(Close(now=4 * SECOND))
    assert run.state.state == St.LAST_ACK
    (last,) = send_all(run)
    assert (last.len, last.fin) == (3, True)
    run.do(seg(seq=5002, ack_seq=1005))
    assert (run.state.state, run.state.err) == (St.CLOSE, Errno.NONE)


def test_simultaneous_close() -> None:
    run = fin_wait1()
    (ack,) = run.sent(seg(fin=True))
    assert (run.state.state, ack.ack_seq) == (St.CLOSING, 5002)
    run.do(seg(seq=5002, ack_seq=1002))
    assert run.state.tw_substate == St.TIME_WAIT


def test_fin_and_ack_in_one_segment() -> None:
    run = fin_wait1()
    run.do(seg(ack_seq=1002, fin=True, len=3))
    assert (run.state.tw_substate, run.state.tw_rcv_nxt) == (St.TIME_WAIT, 5005)


def test_half_closed_data_is_still_read() -> None:
    run = fin_wait1()
    run.do(seg(ack_seq=1002))
    run.do(seg(ack_seq=1002, len=5))
    assert run.result(Read(n=100)).value == 5
    assert run.result(Write(n=1)).sigpipe


def test_a_fin_is_consumed_twice() -> None:
    run = established()
    run.do(seg(fin=True))
    assert run.state.rcv_nxt == 5002
    run.do(seg(seq=5001, len=1, fin=True))
    assert run.state.rcv_nxt == 5003


@pytest.mark.parametrize(
    ("seq", "err"), [(5001, Errno.ECONNRESET), (5002, Errno.NONE), (5000, Errno.NONE), (5001 + 65536, Errno.NONE)]
)
def test_an_rst_must_stand_at_rcv_nxt(seq: int, err: Errno) -> None:
    run = established()
    sent = run.sent(seg(seq=seq, rst=True))
    assert run.state.err == err
    in_window = 5001 < seq <= 5001 + 65535
    assert [x.ack_seq for x in sent] == ([5001] if in_window else [])
    if err:
        assert run.result(Poll()).value == IN + OUT + ERR + HUP + RDHUP
        assert run.result(Read()).errno == err
        assert run.result(Read()).errno == Errno.NONE


def test_an_rst_after_the_fin_is_epipe_even_one_below_rcv_nxt() -> None:
    run = established()
    run.do(seg(fin=True))
    run.do(seg(seq=5001, rst=True))
    assert run.state.err == Errno.EPIPE


def test_challenges_are_limited_in_time() -> None:
    run = established()
    times = [3 * SECOND, 3 * SECOND + 499_999, 3 * SECOND + 500_000]
    assert [len(run.sent(seg(syn=True, now=t))) for t in times] == [1, 0, 1]


def test_close_with_unread_data_resets() -> None:
    run = established()
    run.do(seg(len=4))
    (rst,) = run.sent(Close(now=4 * SECOND))
    assert (rst.rst, rst.ack, rst.seq, rst.ack_seq) == (True, True, 1001, 5005)
    assert run.state.state == St.CLOSE


def test_linger_of_no_time_resets() -> None:
    run = established()
    run.do(SetLinger(on=True, time=0))
    assert [x.rst for x in run.sent(Close(now=4 * SECOND))] == [True]


def test_linger_waits_for_the_fins_acknowledgment() -> None:
    run = established()
    run.do(SetLinger(on=True, time=2 * SECOND))
    assert run.do(Close(now=4 * SECOND)) == ()
    assert run.do(Release(now=5 * SECOND)) == ()
    send_all(run)
    run.do(seg(ack_seq=1002))
    assert run.result(Release(now=5 * SECOND)).errno == Errno.NONE
    assert run.state.tw_substate == St.FIN_WAIT2


def test_linger_ends_with_its_time() -> None:
    run = established()
    run.do(SetLinger(on=True, time=2 * SECOND))
    run.do(Close(now=4 * SECOND))
    run.result(Release(now=6 * SECOND))
    assert (run.state.state, run.state.dead) == (St.FIN_WAIT1, True)


def orphan(**given: int) -> Run:
    """An orphan in FIN_WAIT1."""
    run = established(**given)
    run.do(Close(now=4 * SECOND))
    send_all(run)
    return run


def test_an_orphan_leaves_fin_wait2_to_a_small_socket() -> None:
    run = orphan()
    run.do(seg(ack_seq=1002))
    assert (run.state.tw_substate, run.state.tw_timeout) == (St.FIN_WAIT2, 63 * SECOND)


def test_a_long_fin_timeout_splits() -> None:
    run = orphan(tcp_fin_timeout=90 * SECOND)
    run.do(seg(ack_seq=1002))
    assert (run.state.state, run.state.keepalive_timeout) == (St.FIN_WAIT2, 33 * SECOND)
    run.do(KeepaliveTimer(now=33 * SECOND))
    assert (run.state.tw_substate, run.state.tw_timeout) == (St.FIN_WAIT2, 63 * SECOND)


def test_linger2_forbids_to_wait() -> None:
    run = established()
    run.do(SetLinger2(time=-1))
    run.do(Close(now=4 * SECOND))
    send_all(run)
    assert [x.rst for x in run.sent(seg(ack_seq=1002))] == [True]
    assert run.state.state == St.CLOSE


@pytest.mark.parametrize("small", [False, True])
def test_an_orphan_resets_new_data(small: bool) -> None:
    run = orphan()
    if small:
        run.do(seg(ack_seq=1002))
    assert [x.rst for x in run.sent(seg(ack_seq=1002, len=1))] == [True]
    assert run.state.state == St.CLOSE


def test_time_wait_refreshes_on_the_peers_fin_and_dies_by_rst() -> None:
    tw = Tw(tw_rcv_nxt=5002, tw_snd_nxt=1002, tw_rcv_wnd=65535, tw_timeout=60 * SECOND)
    run = Run(tw)
    assert [x.ack_seq for x in run.sent(seg(ack_seq=1002, fin=True, now=20 * SECOND))] == [5002]
    assert run.state.tw_timeout == 80 * SECOND
    assert run.sent(seg(seq=5002, rst=True)) == []
    assert run.state == Sock()
    kept = Run(tw, type(run.params)(tcp_rfc1337=True))
    kept.do(seg(seq=5002, rst=True))
    assert isinstance(kept.state, Tw)


def test_keepalive_probes_and_gives_up() -> None:
    run = established(tcp_keepalive_time=10 * SECOND, tcp_keepalive_intvl=2 * SECOND, tcp_keepalive_probes=2)
    run.do(SetKeepalive(on=True, now=3 * SECOND))
    times = []
    while run.state.state == St.ESTABLISHED:
        now = run.state.keepalive_timeout
        times.append((now // SECOND, [(x.seq, x.rst) for x in run.sent(KeepaliveTimer(now=now))]))
    assert times == [(13, [(1000, False)]), (15, [(1000, False)]), (17, [(1001, True)])]
    assert run.state.err == Errno.ETIMEDOUT


def test_a_closed_window_is_probed_twice_as_late_each_time() -> None:
    run = established()
    run.do(seg(win=0, seq=5001, ack_seq=1001, now=3 * SECOND))
    run.do(Write(n=100, now=4 * SECOND))
    assert run.state.icsk_pending == Pending.PROBE0
    times = []
    for _ in range(4):
        now = run.state.icsk_timeout
        times.append((now // SECOND - 4, [(x.seq, x.len) for x in run.sent(WriteTimer(now=now))]))
    assert times == [(1, [(1000, 0)]), (3, [(1000, 0)]), (7, [(1000, 0)]), (15, [(1000, 0)])]
    run.do(seg(win=1000, now=30 * SECOND))
    assert run.state.icsk_timeout == 31 * SECOND
    assert [x.len for x in run.sent(Output(n=100, now=30 * SECOND))] == [100]
    assert run.state.icsk_pending == Pending.RETRANS


def test_unacknowledged_data_is_repeated_until_retries2() -> None:
    run = established()
    run.do(seg(rto=200_000, ack_seq=1001))
    run.do(Write(n=10, now=4 * SECOND))
    send_all(run, now=4 * SECOND)
    count = 0
    while run.state.state == St.ESTABLISHED:
        now = run.state.icsk_timeout
        count += len(run.sent(WriteTimer(now=now, n=10)))
    assert run.state.err == Errno.ETIMEDOUT
    # 924.6 s after the first retransmission, which the RTO of 1 s put at 5 s: the first timer after 929.6 s.
    assert (count, now) == (13, (4 + 127 + 7 * 120) * SECOND)


def test_a_fresh_socket_that_is_shut_stays_shut() -> None:
    run = Run(Sock())
    assert run.result(Shutdown(rd=False, wr=True)).errno == Errno.ENOTCONN
    run.do(Connect(isn=1000))
    run.do(Seg(seq=5000, ack_seq=1001, syn=True, win=65535))
    assert run.state.state == St.ESTABLISHED
    assert run.result(Write(n=1)).errno == Errno.EPIPE


@pytest.mark.parametrize("state", [St.CLOSE, St.LISTEN, St.SYN_SENT, St.ESTABLISHED])
def test_what_calls_return_before_anything_happened(state: St) -> None:
    run = {St.ESTABLISHED: established}.get(state, lambda: Run(Sock()))()
    if state == St.SYN_SENT:
        run.do(Connect(isn=1000))
    if state == St.LISTEN:
        run = Run(Sock(state=St.LISTEN))
    expect = {
        St.CLOSE: (OUT + HUP, Errno.ENOTCONN, Errno.EPIPE),
        St.LISTEN: (0, Errno.ENOTCONN, Errno.EPIPE),
        St.SYN_SENT: (0, Errno.EAGAIN, Errno.EAGAIN),
        St.ESTABLISHED: (OUT, Errno.EAGAIN, Errno.NONE),
    }[state]
    assert (run.result(Poll()).value, run.result(Read()).errno, run.result(Write(n=1)).errno) == expect
