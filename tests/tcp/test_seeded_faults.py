"""Each property has a fault that the proof catches and names: what cannot fail proves nothing."""

import pytest

from refmodel.engine.prove import prove_with
from refmodel.rule import MACHINES
from refmodel.tcp.machine import TCP

# ruff: noqa: E501
# property: (module, text, fault, cell)
FAULTS = {
    # Which object has which states.
    "full_states": ("close", "return replace(stopped(s), state=St.CLOSE, ofo", "return replace(stopped(s), state=St.TIME_WAIT, ofo", "Sock.SYN_SENT+Close"),
    "small_states": ("input", "return tcp_time_wait(tcp_ack(s, e, p), St.TIME_WAIT, 0, e.now", "return tcp_time_wait(tcp_ack(s, e, p), St.CLOSING, 0, e.now", "Sock.CLOSING+Seg"),
    # Sending.
    "send_order": ("output", "return n != 0 and n <= unsent(s) and n <= room", "return n != 0 and n <= room", "Sock.ESTABLISHED+Output"),
    "fin_unacked": ("input", "require(accepted(s, e, p) and not all_acked(s, e)", "require(accepted(s, e, p)", "Sock.CLOSING+Seg"),
    "fin_acked": ("input", '    require(accepted(s, e, p) and all_acked(s, e), "an acceptable segment that acknowledges our FIN")\n    require(not s.dead', '    require(accepted(s, e, p), "an acceptable segment")\n    require(not s.dead', "Sock.FIN_WAIT1+Seg"),
    "fin_queued_where": ("input", "write_seq=add(s.write_seq, 1), fin_queued=True, snd_shut=True", "write_seq=add(s.write_seq, 1), snd_shut=True", "Sock.ESTABLISHED+Shutdown"),
    "fin_shuts": ("input", "write_seq=add(s.write_seq, 1), fin_queued=True, snd_shut=True", "write_seq=add(s.write_seq, 1), fin_queued=True, snd_shut=False", "Sock.ESTABLISHED+Shutdown"),
    "syn_alone": ("calls", "write_seq=add(isn, 1)", "write_seq=add(isn, 2)", "Sock.CLOSE+Connect"),
    "synack_alone": ("close", "t = fin_sent(t, e.now) if e.wr and s.state != St.SYN_RECV else t", "t = replace(t, write_seq=add(t.write_seq, 1)) if e.wr and s.state == St.SYN_RECV else t", "Sock.SYN_RECV+Shutdown"),
    "syn_in_flight": ("input", "syn_out=s.syn_out and not new", "syn_out=s.syn_out", "Sock.SYN_RECV+Seg"),
    # Receiving.
    "done_where": ("input", "t = replace(s, rcv_shut=True, done=True, ofo=False", "t = replace(s, rcv_shut=True, ofo=False", "Sock.ESTABLISHED+Seg"),
    "done_shuts": ("input", "t = replace(s, rcv_shut=True, done=True", "t = replace(s, done=True", "Sock.ESTABLISHED+Seg"),
    "window_promise": ("input", "        if win == 0 and not bare_fin:\n            return D.ZERO_WINDOW\n", "", "Sock.ESTABLISHED+Seg"),
    "unread_bounded": ("calls", "copied_seq=add(s.copied_seq, n)", "copied_seq=add(s.copied_seq, n + 1)", "Sock.ESTABLISHED+Read"),
    "nothing_received": ("synsent", "copied_seq=nxt", "copied_seq=e.seq", "Sock.SYN_SENT+Seg"),
    "nothing_ahead": ("input", "rcv_shut=True, done=True, ofo=False", "rcv_shut=True, done=True", "Sock.ESTABLISHED+Seg"),
    # Ownership.
    "orphans": ("close", "t, fx = orphan(shut(fin_sent(s, e.now)), e.now", "t, fx = orphan(s, e.now", "Sock.ESTABLISHED+Close"),
    "lingering": ("close", "replace(shut(fin_sent(s, e.now)), linger_until", "replace(fin_sent(s, e.now), linger_until", "Sock.ESTABLISHED+Close"),
    "orphans_wait": ("close", "if s.linger2 < 0:", "if s.linger2 < -1:", "Sock.FIN_WAIT2+Close"),
    # Timers.
    "retransmit_timer": ("output", "        icsk_pending=Pending.RETRANS,\n        icsk_timeout=e.now + s.icsk_rto if idle", "        icsk_timeout=e.now + s.icsk_rto if idle", "Sock.ESTABLISHED+Output"),
    "probe_timer": ("calls", "return check_probe(replace(s, write_seq=add(s.write_seq, e.n)), e.now), (", "return replace(s, write_seq=add(s.write_seq, e.n)), (", "Sock.ESTABLISHED+Write"),
    "pending_has_deadline": ("input", "else when if waits else NEVER", "else when", "Sock.ESTABLISHED+Seg"),
    "quiet": ("input", "        stopped(s),\n        state=St.CLOSE", "        s,\n        state=St.CLOSE", "Sock.ESTABLISHED+Seg"),
    "delack_owes": ("output", "ack_sched=False, ack_nomem=False, ack_timeout=NEVER)", "ack_sched=False, ack_nomem=False)", "Sock.ESTABLISHED+Output"),
    "orphans_end": ("close", "        t = replace(t, keepalive_timeout=now + tcp_fin_time(s, p) - TCP_TIMEWAIT_LEN)\n", "", "Sock.FIN_WAIT2+Close"),
    "request_timer": ("listen", "rsk_timeout=e.now + TCP_TIMEOUT_INIT", "rsk_timeout=NEVER", "Sock.LISTEN+Seg"),
    "small_timer": ("input", "tw_timeout=now + length", "tw_timeout=NEVER", "Sock.CLOSING+Seg"),
    "young_requests": ("acceptq", "qlen=s.qlen - 1, young=s.young - 1 if e.young else s.young", "qlen=s.qlen - 1, young=s.young", "Listener+ReqRemoved"),
    # Receiving, step by step.
    "fin_once_but": ("checks", "return end_seq(e) != e.seq and after((end_seq(e) - e.fin) & M32, s.rcv_nxt)", "return end_seq(e) == e.seq and after((end_seq(e) - e.fin) & M32, s.rcv_nxt)", "Sock.LAST_ACK+Seg"),
    "receives_forward": ("input", "    if not after(end, s.rcv_nxt):\n        return D.OLD\n", "", "Sock.ESTABLISHED+Seg"),
    "acked_forward": ("input", "    new = count != 0 and not old\n", "    new = count != 0\n", "Sock.ESTABLISHED+Seg"),
    "delivers_in_window": ("input", "        if win == 0 and not bare_fin:\n            return D.ZERO_WINDOW\n", "", "Sock.ESTABLISHED+Seg"),
    "orphans_read_nothing": ("input", "    return s.rcv_shut and beyond(s, e)", "    return s.done and beyond(s, e)", "Sock.FIN_WAIT2+Seg"),
    "refused_changes_nothing": ("input", "t = replace(s, last_oow_ack_time=max(e.now, 1) if limited", "t = replace(s, snd_wnd=e.win, last_oow_ack_time=max(e.now, 1) if limited", "Sock.ESTABLISHED+Seg"),
    "resets_listed": ("checks", "            return V.RESET\n        return V.RST_CHALLENGE", "            return V.RESET\n        return V.RESET", "Sock.ESTABLISHED+Seg"),
    "challenges_limited": ("input", '    if oow_limited(s.last_oow_ack_time, e.now, p):\n        return s, (Mib(name="TcpExtTCPACKSkippedChallenge"),)\n', "", "Sock.ESTABLISHED+Seg"),
    "rst_unanswered": ("synsent", "    if e.rst:\n        return hurried(s, e, p), ()\n", "", "Sock.SYN_SENT+Seg"),
    # Sending, step by step.
    "window_kept": ("output", "return space if space >= current or shrinks else", "return space if True else", "Sock.ESTABLISHED+Seg"),
    "window_kept_otherwise": ("output", "return space if space >= current or shrinks else", "return space if True else", "Sock.ESTABLISHED+DelackTimer"),
    "segments_acknowledge": ("output", "            ack_seq=s.rcv_nxt,\n            len", "            ack_seq=s.rcv_wup,\n            len", "Sock.ESTABLISHED+Output"),
    "sends_in_window": ("output", "return n != 0 and n <= unsent(s) and n <= room and room < H32", "return n != 0 and n <= unsent(s)", "Sock.ESTABLISHED+Output"),
    "sends_queued": ("output", "return n != 0 and off + n <= in_flight(s) and not s.syn_out", "return n != 0 and not s.syn_out", "Sock.ESTABLISHED+Retransmit"),
    "acks_have_cause": ("output", 'require(s.ack_sched and s.ack_timeout <= e.now, "the delayed-ACK timer is due")', 'require(True, "always")', "Sock.ESTABLISHED+DelackTimer"),
    "reads_have_cause": ("calls", "return e.ack_now and s.state in OPEN and (s.ack_sched or opens)", "return e.ack_now and s.state in OPEN", "Sock.ESTABLISHED+Read"),
    "backs_off": ("timers", "min(s.icsk_rto * 2, TCP_RTO_MAX)", "s.icsk_rto >> 1", "Sock.ESTABLISHED+WriteTimer"),
    "close_with_unread": ("close", 'require(readable(s) == 0 and not (s.linger', 'require(not (s.linger', "Sock.ESTABLISHED+Close"),
    # Requests, small sockets, queues.
    "children_acknowledge": ("checks", "return RV.OVERFLOW if e.acceptq_full else RV.ESTABLISH", "return RV.ESTABLISH", "Req+Seg"),
    "requests_keep_rst_quiet": ("checks", "if e.ack and not e.rst and e.ack_seq != add(s.snt_isn, 1):", "if e.ack and e.ack_seq != add(s.snt_isn, 1):", "Req+Seg"),
    "small_quiet": ("checks", "        if e.rst:\n            return TV.KILL\n        if e.syn and", "        if e.rst:\n            return TV.RST\n        if e.syn and", "Tw.FIN_WAIT2+Seg"),
    "sixty_seconds": ("timewait", "return replace(stamped(s, e, p), tw_timeout=e.now + TCP_TIMEWAIT_LEN), ()", "return replace(stamped(s, e, p), tw_timeout=e.now), ()", "Tw.TIME_WAIT+Seg"),
    "sixty_seconds_first": ("input", "length = TCP_TIMEWAIT_LEN if substate == St.TIME_WAIT else", "length =", "Sock.CLOSING+Seg"),
    "reuse_beyond": ("timewait", "isn = add(s.tw_snd_nxt, 65537)", "isn = s.tw_rcv_nxt", "Tw.TIME_WAIT+Seg"),
    "backlog_plus_one": ("acceptq", "sk_ack_backlog=s.sk_ack_backlog + 1", "sk_ack_backlog=s.sk_ack_backlog + 2", "Listener+ChildQueued"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_named(name: str) -> None:
    module, text, fault, cell = FAULTS[name]
    report = prove_with(TCP, [(f"refmodel.tcp.{module}", text, fault)], only=cell)
    assert name in {x.rsplit(".", 1)[-1] for x in report.failed}, report.text()[-2000:]


def test_a_missing_case_leaves_a_gap() -> None:
    text = 'require(s.dead and (s.linger2 < 0 or beyond(s, e)), "an orphan that doesn\'t wait, or got data")'
    fault = 'require(s.dead and s.linger2 < 0, "an orphan that doesn\'t wait")'
    report = prove_with(TCP, [("refmodel.tcp.input", text, fault)], only="Sock.FIN_WAIT1+Seg")
    assert "total" in report.failed


def test_a_wider_guard_is_an_overlap() -> None:
    text = 'require(not may_send(s, e.n), "nothing queued fits into the peer\'s window")'
    report = prove_with(TCP, [("refmodel.tcp.output", text, 'require(True, "always")')], only="Sock.ESTABLISHED+Output")
    assert "disjoint" in report.failed


def test_a_lost_bound_leaves_the_range() -> None:
    text = "icsk_rto=e.rto if sample else s.icsk_rto"
    report = prove_with(TCP, [("refmodel.tcp.input", text, "icsk_rto=2 * s.icsk_rto")], only="Sock.ESTABLISHED+Seg")
    assert any("icsk_rto" in x for x in report.failed)


def test_every_property_has_a_seeded_fault() -> None:
    names = {
        q.id.rsplit(".", 1)[1]
        for kind in ("invariant", "transition")
        for q in MACHINES["tcp"].properties(kind)
        if not q.falsified
    }
    assert names == set(FAULTS)
