"""The kernel's own walk of a packet: what is read from a trace, and what the running kernel shows."""

import os
from pathlib import Path

import pytest

from conformance.live.walk_check import against_model, live
from conformance.live.walk_classes import ALIASES, CLASSES, class_of
from conformance.live.walk_compare import Comparison, Step, compare, context_of, read, shipped
from conformance.live.walk_graph import parse_graph
from conformance.live.walk_inside import CARD_CASES
from conformance.live.walk_known import KNOWN
from conformance.live.walk_model import CASES as MODELLED
from conformance.live.walk_record import CASES, record
from conformance.live.walk_trace import KernelCall, KernelWalk, TraceError, own, parse, split, tracer
from conformance.live.walk_tree import Alignment, Forest, Node
from refmodel.rows import ROWS

WALKS = shipped(Path(__file__).parents[1] / "captures" / "walks")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="tracepoints need root")

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
@ROOT
def test_every_case_is_recorded_and_nothing_is_left_behind() -> None:
    try:
        with tracer() as trace:
            folder = trace.folder
            walks = {name: record(name, trace) for name in CASES}
    except TraceError as e:
        pytest.skip(str(e))
    assert not folder.exists()
    assert [link for link in Path("/sys/class/net").iterdir() if link.name.startswith("walk")] == []
    assert all(w.calls for w in walks.values())
    assert "sch_direct_xmit" in walks["tcp_tun"].functions()
    assert "sch_direct_xmit" not in walks["tcp_veth"].functions()
    assert {"__release_sock", "tcp_v4_do_rcv"} <= walks["backlog"].functions()
    dropped = [c.detail for c in walks["backlog_full"].calls if c.event == "kfree_skb"]
    assert dropped
    assert "SOCKET_BACKLOG" in dropped[0]
    assert any(c.event == "net_dev_xmit" and "rc=16" in c.detail for c in walks["stopped_queue"].calls)
    assert {"net_tx_action", "__qdisc_run", "napi_threaded_poll"} <= walks["stopped_queue"].functions()


# ---- function_graph

GRAPH = """# tracer: function_graph
 10.000001 |   0)  python3-77  |  __sys_sendto() {
 10.000002 |   0)  python3-77  |    ip_rcv.constprop.0 [ipv9]() {
 10.000003 |   0)  python3-77  |      skb_push();
 10.000004 |   0)  python3-77  |    }
 10.000005 |   0)  python3-77  |    handle_softirqs() {
 10.000006 |   0)  python3-77  |      net_rx_action() {
 10.000007 |   0)  python3-77  |      }
 10.000008 |   0)  python3-77  |    }
 10.000009 |   0)  python3-77  |    __common_interrupt() {
 10.000010 |   0)  python3-77  |      handle_irq_event();
 10.000011 |   0)  python3-77  |    }
 10.000012 |   0)  python3-77  |    sk_free();
"""


def test_calls_nest_as_they_are_drawn_and_contexts_begin_anew() -> None:
    calls = parse_graph(GRAPH)
    assert [(c.context, c.chain) for c in calls] == [
        ("process", ("__sys_sendto",)),
        ("process", ("__sys_sendto", "ip_rcv")),
        ("process", ("__sys_sendto", "ip_rcv", "skb_push")),
        ("softirq", ("handle_softirqs",)),
        ("softirq", ("handle_softirqs", "net_rx_action")),
        ("hardirq", ("__common_interrupt",)),
        ("hardirq", ("__common_interrupt", "handle_irq_event")),
        ("process", ("__sys_sendto", "sk_free")),
    ]
    assert {c.within for c in calls if c.context != "process"} == {("__sys_sendto",)}
    assert calls[0].time == 10_000_001_000


# ---- the comparison

MODEL = [
    Step("sendmsg"),
    Step("push", 0),
    Step("xmit", 1),
    Step("net_rx_action", 2, "softirq"),
    Step("rcv", 3, "softirq"),
    Step("rcv", 3, "softirq"),
    Step("release", 0),
]
NAMES = {"sendmsg", "push", "xmit", "net_rx_action", "rcv", "release"}


def kernel(*calls: tuple[str, str]) -> KernelWalk:
    made = [KernelCall(n, context, tuple(chain.split()), "an_event") for n, (context, chain) in enumerate(calls)]
    return KernelWalk("case", "A case.", "6.12", "tracepoints", tuple(made))


def graph(*calls: tuple[str, str]) -> KernelWalk:
    made = [KernelCall(n, context, tuple(chain.split()), "call") for n, (context, chain) in enumerate(calls)]
    return KernelWalk("case", "A case.", "6.12", "function_graph", tuple(made))


def whys(walk: KernelWalk) -> list[str]:
    return [d.why for d in compare(walk, MODEL, NAMES).differences]


def test_a_chain_may_leave_out_what_the_kernel_inlined() -> None:
    walk = kernel(("process", "do_syscall_64 sendmsg xmit"), ("softirq", "net_rx_action rcv"), ("process", "sendmsg"))
    found = compare(walk, MODEL, NAMES)
    assert found.differences == []
    assert found.placed == [(0, 2), (1, 4), (2, 0)]
    assert found.left_out == {"system call entry": {"do_syscall_64"}}
    assert found.unseen == ["push", "release"]


def test_the_model_may_not_leave_out_what_the_kernel_passes() -> None:
    assert whys(kernel(("process", "sendmsg release xmit"))) == ["the model's walk has no xmit within release"]
    assert whys(kernel(("process", "sendmsg enqueue"))) == ["enqueue is not in the model and in no class"]


def test_what_is_over_does_not_come_again() -> None:
    walk = kernel(("process", "sendmsg release"), ("process", "sendmsg push xmit"))
    assert whys(walk) == ["the model's walk has xmit there only before release"]


def test_another_context_is_a_difference() -> None:
    assert whys(kernel(("softirq", "sendmsg release"))) == ["the model does release in process"]


def test_a_softirq_comes_after_what_it_came_upon() -> None:
    walk = kernel(("process", "sendmsg release"), ("softirq", "net_rx_action rcv"))
    assert whys(walk) == ["the model's walk has rcv there only before release"]


def test_functions_that_the_kernel_has_not_out_of_line_are_named_as_inlined() -> None:
    found = compare(kernel(("process", "sendmsg xmit")), MODEL, NAMES, out_of_line={"sendmsg", "xmit", "rcv"})
    assert found.inlined == ["push", "net_rx_action", "release"]
    assert found.unseen == ["rcv"]


def test_a_body_stands_for_its_function() -> None:
    walk = kernel(("process", "__neigh_update"))
    found = compare(walk, [Step("neigh_update")], {"neigh_update"})
    assert (found.differences, found.renamed) == ([], {"__neigh_update": "neigh_update"})


def test_call_trees_are_aligned_in_order() -> None:
    same = (("process", "sendmsg"), ("process", "sendmsg push"), ("softirq", "net_rx_action"))
    twice = (("softirq", "net_rx_action rcv"), ("softirq", "net_rx_action rcv"))
    assert compare(graph(*same, *twice), MODEL, NAMES).differences == []
    third = compare(graph(*same, *twice, twice[0]), MODEL, NAMES)
    assert [d.why for d in third.differences] == ["the model's walk has no rcv within net_rx_action, in this order"]
    swapped = graph(("process", "sendmsg"), ("process", "sendmsg release"), ("process", "sendmsg xmit"))
    assert len(compare(swapped, MODEL, NAMES).differences) == 1


def test_what_the_model_passes_and_the_kernel_does_not_is_named() -> None:
    walk = graph(("process", "sendmsg"), ("process", "sendmsg push"), ("softirq", "net_rx_action"))
    steps = [*MODEL, Step("push", 6)]
    assert compare(walk, steps, NAMES).only_model == ["push"]


def test_an_alignment_pairs_as_much_as_it_can() -> None:
    one = Forest([Node("a", "process", -1), Node("b", "process", 0), Node("c", "process", 0)])
    other = Forest([Node("a", "process", -1), Node("a", "process", -1), Node("c", "process", 1)])
    assert Alignment(one, other).pairs == {0: 1, 2: 2}
    assert Alignment(one, other).missing() == [1]


def test_what_a_task_calls_after_it_slept_is_still_within_what_it_called_before() -> None:
    others = (("softirq", "net_rx_action"), ("process", "rcv"))
    walk = graph(("process", "sendmsg"), ("process", "sendmsg push"), *others, ("process", "sendmsg push xmit"))
    assert [d.function for d in compare(walk, MODEL, NAMES).differences] == ["rcv"]


def test_the_context_of_an_interrupt_is_its_own() -> None:
    words = {"irq nic0": "hardirq", "irq timer": "hardirq", "softirq NET_RX": "softirq", "client": "process"}
    assert {w: context_of(w) for w in words} == words


def test_a_function_that_is_inlined_in_one_place_only_is_looked_through() -> None:
    one = Forest([Node("a", "process", -1), Node("c", "process", 0), Node("b", "process", -1)])
    other = Forest([Node("a", "process", -1), Node("b", "process", 0), Node("c", "process", 1)])
    found = Alignment(one, other)
    assert (found.pairs, found.opened) == ({0: 0, 1: 2}, [1])


def test_no_class_leaves_out_a_function_of_the_rows() -> None:
    rows = {f for r in ROWS for f in r.functions}
    assert [f for f in sorted(rows) if class_of(f) is not None] == []
    assert [f for f in ALIASES if f in rows and ALIASES[f][0] not in rows] == []


def test_every_class_and_name_has_its_reason() -> None:
    assert all(c.why for c in CLASSES)
    assert all(why for _, why in ALIASES.values())
    assert all(k.why for k in KNOWN)


# ---- the model beside recorded kernels


@pytest.mark.parametrize("path", WALKS, ids=lambda p: p.name.removesuffix(".walk.json.gz"))
def test_the_model_s_walk_is_a_recorded_kernel_s(path: Path) -> None:
    walk, functions = read(path)
    assert walk.calls
    found = against_model(walk, functions)
    if found is None:
        pytest.skip("the model has no such case yet")
    assert [d.text(walk) for d in found.unexplained(walk)] == []
    assert len(found.placed) >= min(6, len(walk.calls))


def test_every_case_of_the_model_is_compared_with_all_kernels() -> None:
    recorded = {p.name.removesuffix(".walk.json.gz") for p in WALKS}
    guests = {f"{case}-{version}" for case in MODELLED for version in ("6.1", "6.12")}
    assert guests | {f"{case}-6.18" for case in MODELLED if case not in CARD_CASES} <= recorded


@pytest.mark.live
@ROOT
def test_the_model_s_walk_is_the_running_kernel_s() -> None:
    try:
        walks: list[tuple[KernelWalk, Comparison]] = list(live(["tcp_lo", "udp_veth", "first_contact", "filtered"]))
    except TraceError as e:
        pytest.skip(str(e))
    assert [d.text(w) for w, c in walks for d in c.unexplained(w)] == []
