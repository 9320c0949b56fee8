"""Opening: active, passive, simultaneous; refused, lost, overflowing."""

import pytest

from refmodel.tcp.acceptq import acceptq_full, allowed_retries
from refmodel.tcp.events import (
    Accept,
    Child,
    ChildQueued,
    Connect,
    Icmp,
    Listen,
    ListenStop,
    ReqTimer,
    Seg,
    WriteTimer,
    raw_window,
)
from refmodel.tcp.params import TcpParams
from refmodel.tcp.state import SS, Errno, Listener, Pending, Req, Sock, St, Tw
from tests.tcp.drive import SECOND, Run, listening, only, requested, seg, syn_sent


def syn_times(run: Run) -> list[int]:
    """When the SYN is repeated, in seconds, and at last when the attempt fails."""
    times = []
    while run.state.state == St.SYN_SENT:
        now = run.state.icsk_timeout
        run.do(WriteTimer(now=now))
        times.append(now // SECOND - 1)
    return times


def test_syns_go_evenly_four_times_then_twice_as_late() -> None:
    assert syn_times(syn_sent()) == [1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 131]


def test_without_linear_timeouts_each_syn_waits_twice_as_long() -> None:
    assert syn_times(syn_sent(tcp_syn_linear_timeouts=0)) == [1, 3, 7, 15, 31, 63, 127]


def test_the_attempt_fails_with_etimedout_or_what_icmp_told() -> None:
    run = syn_sent(tcp_syn_retries=1, tcp_syn_linear_timeouts=0)
    syn_times(run)
    assert run.state.err == Errno.ETIMEDOUT
    assert run.result(Connect()).errno == Errno.ETIMEDOUT
    run = syn_sent()
    run.do(Icmp(seq=1000, errno=Errno.EHOSTUNREACH))
    assert run.result(Connect()).errno == Errno.EHOSTUNREACH


def test_a_synack_establishes_and_is_acknowledged() -> None:
    run = syn_sent()
    assert run.state.icsk_pending == Pending.RETRANS
    (ack,) = run.sent(
        Seg(
            seq=5000,
            ack_seq=1001,
            syn=True,
            win=65535,
            wscale_ok=True,
            wscale=7,
            sack_ok=True,
            now=2 * SECOND,
            space=64256,
        )
    )
    assert (ack.seq, ack.ack_seq, ack.ack, ack.shift, raw_window(ack)) == (1001, 5001, True, 7, 502)
    s = run.state
    assert (s.state, s.snd_una, s.snd_wscale, s.rcv_wscale, s.sack_ok) == (St.ESTABLISHED, 1001, 7, 7, True)
    assert s.icsk_pending == Pending.NONE
    assert run.result(Connect()).errno == Errno.NONE
    assert run.result(Connect()).errno == Errno.EISCONN


def test_a_writer_that_waits_saves_the_handshakes_last_ack() -> None:
    run = syn_sent()
    assert run.sent(Seg(seq=5000, ack_seq=1001, syn=True, win=65535, write_pending=True, now=2 * SECOND)) == []
    assert run.state.ack_timeout == 2 * SECOND + 200_000


def test_refused() -> None:
    run = syn_sent()
    assert run.sent(Seg(seq=0, ack_seq=1001, rst=True)) == []
    assert run.state.state == St.CLOSE
    assert run.result(Connect()).errno == Errno.ECONNREFUSED
    assert run.state.ss == SS.UNCONNECTED
    # The next attempt starts beyond the sequence number of the last.
    (syn,) = [x for x in run.sent(Connect(isn=77)) if x.syn]
    assert syn.seq == 1003


@pytest.mark.parametrize("ack", [1000, 1002, 999])
def test_a_wrong_ack_in_syn_sent_is_reset_and_hurries_the_syn(ack: int) -> None:
    run = syn_sent()
    (rst,) = run.sent(Seg(seq=1, ack_seq=ack, now=SECOND + 1))
    assert (rst.rst, rst.seq, rst.ack) == (True, ack, False)
    assert run.state.icsk_timeout == SECOND + 1 + 8_000


def test_an_echo_that_is_not_ours_is_reset() -> None:
    run = syn_sent()
    assert [x.rst for x in run.sent(Seg(ack_seq=1001, syn=True, ts=True, tsecr=499, ts_now=600))] == [True]
    assert run.sent(Seg(ack_seq=1001, syn=True, ts=True, tsecr=550, ts_now=600))[0].rst is False


def test_a_simultaneous_open() -> None:
    run = syn_sent()
    (synack,) = run.sent(Seg(seq=5000, syn=True, ack=False, win=1000, now=2 * SECOND))
    assert (synack.syn, synack.ack, synack.seq, synack.ack_seq) == (True, True, 1000, 5001)
    assert run.state.state == St.SYN_RECV
    (ack,) = run.sent(Seg(seq=5000, ack_seq=1001, syn=True, win=1000, now=3 * SECOND))
    assert run.state.state == St.ESTABLISHED
    assert (ack.seq, ack.ack_seq) == (1001, 5001)


def test_nothing_that_anyone_does_before_the_ack_makes_a_socket() -> None:
    run = requested()
    assert isinstance(run.state, Req)
    assert [x.syn for x in run.sent(Seg(seq=9000, syn=True, ack=False, now=2 * SECOND))] == [True]
    assert run.sent(Seg(seq=9000, syn=True, ack=False, now=2 * SECOND + 1)) == []
    assert [x.rst for x in run.sent(Seg(seq=9001, ack_seq=7002))] == [True]
    assert run.sent(Seg(seq=9001, ack=False, rst=False, syn=False, fin=True)) == []
    assert isinstance(run.state, Req)


def test_the_handshakes_last_ack_makes_a_socket_and_takes_its_data() -> None:
    run = requested()
    effects = run.do(Seg(seq=9001, ack_seq=7001, len=10, win=500, now=2 * SECOND))
    assert only(Child, effects)
    s = run.state
    assert (s.state, s.rcv_nxt, s.snd_una, s.snd_wnd) == (St.ESTABLISHED, 9011, 7001, 500)


def test_a_full_accept_queue_drops_the_last_ack_or_resets() -> None:
    ack = Seg(seq=9001, ack_seq=7001, acceptq_full=True)
    run = requested()
    assert run.sent(ack) == []
    assert run.state.acked
    run = requested(tcp_abort_on_overflow=True)
    assert [x.rst for x in run.sent(ack)] == [True]
    assert run.state.state == St.LISTEN


def test_a_synack_is_repeated_five_times_and_forgotten() -> None:
    run = requested()
    times = []
    while isinstance(run.state, Req):
        now = run.state.rsk_timeout
        times.append((now // SECOND - 1, len(run.sent(ReqTimer(now=now)))))
    assert times == [(1, 1), (3, 1), (7, 1), (15, 1), (31, 1), (63, 0)]
    assert run.state.state == St.LISTEN


def test_accept_is_deferred_until_data() -> None:
    run = requested()
    assert run.sent(Seg(seq=9001, ack_seq=7001, defer_accept=2)) == []
    assert run.state.acked
    assert run.sent(ReqTimer(now=run.state.rsk_timeout, defer_accept=3)) == []
    run.do(Seg(seq=9001, ack_seq=7001, len=1, defer_accept=2))
    assert run.state.state == St.ESTABLISHED


@pytest.mark.parametrize(("seq", "gone"), [(9001, True), (9002, False)])
def test_an_rst_ends_a_request_only_at_its_exact_place(seq: int, gone: bool) -> None:
    run = requested()
    sent = run.sent(Seg(seq=seq, rst=True, ack=False, now=2 * SECOND))
    assert isinstance(run.state, Sock) is gone
    assert [(x.rst, x.ack_seq) for x in sent] == ([] if gone else [(False, 9001)])


def test_syns_are_dropped_or_get_cookies_when_queues_are_full() -> None:
    syn = {"seq": 9000, "syn": True, "ack": False, "isn": 7000, "space": 65535}
    run = listening()
    assert run.sent(Seg(**syn, acceptq_full=True)) == []
    (cookie,) = run.sent(Seg(**syn, synq_full=True, mss=1460, wscale_ok=True, wscale=7, sack_ok=True))
    assert (cookie.seq, cookie.syn, cookie.wscale_ok, cookie.sack_ok) == (7000, True, False, False)
    assert run.state.state == St.LISTEN
    assert Run(run.state, TcpParams(tcp_syncookies=0)).sent(Seg(**syn, synq_full=True, flood_action=False)) == []
    run.do(Seg(seq=9001, ack_seq=7001, cookie=True, cookie_recent=True, cookie_mss=1460, space=65535))
    assert (run.state.state, run.state.mss_clamp, run.state.rcv_nxt) == (St.ESTABLISHED, 1460, 9001)


def test_a_listener_resets_acks_and_ignores_the_rest() -> None:
    run = listening()
    assert [(x.rst, x.seq) for x in run.sent(Seg(seq=1, ack_seq=42))] == [(True, 42)]
    assert run.sent(Seg(rst=True)) == run.sent(Seg(syn=True, fin=True, ack=False)) == []


def test_nobody_answers_by_rst() -> None:
    run = Run(Sock())
    assert [(x.seq, x.ack) for x in run.sent(Seg(seq=1, ack_seq=42))] == [(42, False)]
    assert [(x.seq, x.ack_seq) for x in run.sent(Seg(seq=7, ack=False, syn=True, len=2))] == [(0, 10)]
    assert run.sent(Seg(rst=True)) == []


def test_backlog_plus_one_connections_fit() -> None:
    run = Run(Listener())
    run.do(Listen(backlog=1))
    for _ in range(2):
        assert not acceptq_full(run.state)
        run.do(ChildQueued())
    assert acceptq_full(run.state)
    assert run.result(Accept()).errno == Errno.NONE
    assert not acceptq_full(run.state)
    run.do(Accept())
    assert run.result(Accept()).errno == Errno.EAGAIN


def test_old_requests_make_room_for_young_ones() -> None:
    assert allowed_retries(Listener(qlen=4, young=0, sk_max_ack_backlog=8), 5) == 5
    assert allowed_retries(Listener(qlen=5, young=5, sk_max_ack_backlog=8), 5) == 5
    assert allowed_retries(Listener(qlen=5, young=2, sk_max_ack_backlog=8), 5) == 4
    assert allowed_retries(Listener(qlen=5, young=0, sk_max_ack_backlog=8), 5) == 2


def test_a_listener_that_goes_resets_whoever_waits() -> None:
    run = requested()
    run.do(Seg(seq=9001, ack_seq=7001, now=2 * SECOND))
    assert [(x.rst, x.ack) for x in run.sent(ListenStop(now=3 * SECOND))] == [(True, True)]
    run = requested()
    assert run.sent(ListenStop()) == []
    assert [x.rst for x in run.sent(Seg(seq=9001, ack_seq=7001))] == [True]


def test_a_new_syn_takes_the_place_of_time_wait() -> None:
    tw = Tw(tw_rcv_nxt=9000, tw_snd_nxt=7000, tw_timeout=60 * SECOND)
    run = Run(tw)
    (synack,) = run.sent(Seg(seq=9001, syn=True, ack=False, listener=True, space=65535))
    assert synack.seq == 7000 + 65537
    run = Run(tw)
    assert [x.syn for x in run.sent(Seg(seq=9001, syn=True, ack=False))] == [False]
    run = Run(tw)
    assert [x.syn for x in run.sent(Seg(seq=8999, syn=True, ack=False, listener=True))] == [False]
    assert run.state.tw_timeout == 60 * SECOND


def test_versions_differ_in_a_syn_from_the_past() -> None:
    s = Sock(
        state=St.ESTABLISHED, rcv_nxt=5001, rcv_wup=5001, rcv_wnd=65535, copied_seq=5001, snd_una=1001, snd_nxt=1001
    )
    s = type(s)(
        **{f: getattr(s, f) for f in s.__struct_fields__} | {"write_seq": 1001, "ts_ok": True, "ts_recent": 100}
    )
    old = seg(syn=True, ts=True, tsval=50, secs=2)
    for kernel, rule in (("6.1", "tcp.input.paws"), ("6.12", "tcp.input.paws_syn")):
        run = Run(s, kernel=kernel)
        run.do(old)
        assert run.rules == [rule]
