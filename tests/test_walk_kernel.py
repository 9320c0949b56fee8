"""The kernel's own walk of a packet: what is read from a trace, and what the running kernel shows."""

import os
from pathlib import Path

import pytest

from conformance.live.walk_record import CASES, record
from conformance.live.walk_trace import KernelWalk, TraceError, own, parse, split, tracer

ENTRY = " => do_syscall_64\n => entry_SYSCALL_64_after_hwframe\n"
TRACE = f"""# tracer: nop
  python3-77  [001] b.... 35657.864394: net_dev_queue: dev=walk0a skbaddr=000000007b652bc7 len=166
  python3-77  [001] b.... 35657.864406: <stack trace>
 => trace_event_raw_event_net_dev_template
 => __dev_queue_xmit
 => ip_finish_output2
{ENTRY}  python3-77  [001] ..s1. 35657.864440: softirq_entry: vec=3 [action=NET_RX]
  python3-77  [001] ..s1. 35657.864445: <stack trace>
 => trace_event_raw_event_softirq
 => handle_softirqs
 => do_softirq.part.0
 => __dev_queue_xmit
 => ip_finish_output2
{ENTRY}  python3-77  [001] ..s1. 35657.864448: netif_receive_skb: dev=eth0 skbaddr=0000000011111111 len=52
  python3-77  [001] ..s1. 35657.864449: netif_receive_skb: dev=walk0b skbaddr=000000007b652bc7 len=152
  python3-77  [001] ..s1. 35657.864453: <stack trace>
 => trace_event_raw_event_net_dev_template
 => __netif_receive_skb_core.constprop.0
 => net_rx_action
 => handle_softirqs
 => do_softirq.part.0
 => __dev_queue_xmit
 => ip_finish_output2
{ENTRY}  python3-77  [001] ..s1. 35657.864460: consume_skb: skbaddr=000000007b652bc7 location=x
  python3-99  [000] ..... 35657.864461: sk_data_ready: family=2 protocol=6 func=sock_def_readable
  python3-77  [001] b.... 35657.864470: net_dev_queue: dev=walk0a skbaddr=000000007b652bc7 len=66
"""


def test_a_stack_is_outermost_first_without_the_tracer_and_compilers_suffixes() -> None:
    first, entered, _, received, *_ = parse(TRACE)
    assert first.stack == ("entry_SYSCALL_64_after_hwframe", "do_syscall_64", "ip_finish_output2", "__dev_queue_xmit")
    assert first.time == 35_657_864_394_000
    assert entered.stack[-2:] == ("do_softirq", "handle_softirqs")
    assert received.stack[-1] == "__netif_receive_skb_core"


def test_a_frame_without_a_stack_is_refused() -> None:
    with pytest.raises(TraceError, match="a frame without a stack: => ip_rcv"):
        parse(" => ip_rcv\n")


def test_a_softirq_s_chain_is_its_own_and_what_it_came_upon_stands_beside_it() -> None:
    stack = ("do_syscall_64", "__dev_queue_xmit", "do_softirq", "handle_softirqs", "net_rx_action")
    assert split(stack, "softirq") == (stack[:3], stack[3:])
    assert split(stack, "process") == ((), stack)


def test_other_devices_and_processes_are_left_out() -> None:
    calls = own(parse(TRACE), {77}, {"walk0a", "walk0b"})
    assert [c.event for c in calls] == [
        *("net_dev_queue", "softirq_entry", "netif_receive_skb", "consume_skb", "net_dev_queue")
    ]
    assert [c.context for c in calls] == ["process", "softirq", "softirq", "softirq", "process"]


def test_an_address_that_was_freed_is_another_packet() -> None:
    calls = own(parse(TRACE), {77}, {"walk0a", "walk0b"})
    assert [c.packet for c in calls] == [0, -1, 0, 0, 1]


def test_a_walk_is_the_same_after_json() -> None:
    walk = KernelWalk("tcp_lo", "A walk.", "6.12", "tracepoints", own(parse(TRACE), {77}, {"walk0a", "walk0b"}))
    assert KernelWalk.from_json(walk.to_json()) == walk


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="tracepoints need root")
def test_every_case_is_recorded_and_nothing_is_left_behind() -> None:
    before = set(Path("/sys/class/net").iterdir())
    try:
        with tracer() as trace:
            folder = trace.folder
            walks = {name: record(name, trace) for name in CASES}
    except TraceError as e:
        pytest.skip(str(e))
    assert not folder.exists()
    assert set(Path("/sys/class/net").iterdir()) == before
    assert all(w.calls for w in walks.values())
    assert "sch_direct_xmit" in walks["tcp_tun"].functions()
    assert "sch_direct_xmit" not in walks["tcp_veth"].functions()
    assert {"__release_sock", "tcp_v4_do_rcv"} <= walks["backlog"].functions()
    dropped = [c.detail for c in walks["backlog_full"].calls if c.event == "kfree_skb"]
    assert dropped
    assert "SOCKET_BACKLOG" in dropped[0]
    assert any(c.event == "net_dev_xmit" and "rc=16" in c.detail for c in walks["stopped_queue"].calls)
    assert {"net_tx_action", "__qdisc_run", "napi_threaded_poll"} <= walks["stopped_queue"].functions()
