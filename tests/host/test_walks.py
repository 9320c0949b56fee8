"""A packet's walk names every function of the send and receive tables, in the order in which the kernel calls them."""

import gc
import json
import xml.etree.ElementTree as ElementTree
from functools import cache

import pytest
from click.testing import CliRunner

from conformance.cli import main
from conformance.walks.draw import FORMATS, mermaid, svg, text
from conformance.walks.shown import lanes, said, shown
from refmodel.host import walks
from refmodel.host.network import Network
from refmodel.rows import ROWS
from refmodel.walk import Walk

NEVER = {
    "neigh_connected_output": "Ethernet caches headers, so its entries have neigh_resolve_output",
}

SENT = (
    "__sys_sendto __sock_sendmsg sock_sendmsg_nosec inet_sendmsg tcp_sendmsg "
    "tcp_sendmsg_locked tcp_push __tcp_push_pending_frames tcp_write_xmit __tcp_transmit_skb "
    "ip_queue_xmit __ip_queue_xmit ip_local_out __ip_local_out nf_hook "
    "dst_output ip_output NF_HOOK_COND ip_finish_output __ip_finish_output "
    "ip_finish_output2 ip_neigh_for_gw neigh_output neigh_hh_output dev_queue_xmit "
    "__dev_queue_xmit __dev_xmit_skb sch_direct_xmit dev_hard_start_xmit xmit_one "
    "netdev_start_xmit igb_xmit_frame igb_xmit_frame_ring igb_tx_map igb_msix_ring "
    "net_rx_action napi_poll igb_poll igb_clean_tx_irq napi_complete_done "
)
RECEIVED = (
    "igb_msix_ring __napi_schedule net_rx_action napi_poll igb_poll "
    "igb_clean_rx_irq napi_gro_receive igb_alloc_rx_buffers napi_complete_done __netif_receive_skb_core "
    "ip_list_rcv ip_rcv_core ip_sublist_rcv ip_rcv_finish_core tcp_v4_early_demux ip_sublist_rcv_finish "
    "dst_input ip_local_deliver ip_local_deliver_finish ip_protocol_deliver_rcu tcp_v4_rcv "
    "tcp_v4_do_rcv tcp_rcv_established tcp_ack tcp_data_queue tcp_queue_rcv "
    "__sys_recvfrom sock_recvmsg inet_recvmsg tcp_recvmsg "
)


@cache
def walk(name: str) -> Walk:
    return walks.make(name)


def in_order(names: list[str], found: list[str]) -> bool:
    """`names` occur in `found` in this order, perhaps with others between them."""
    rest = iter(found)
    return all(n in rest for n in names)


def test_a_sent_packet_passes_the_layers_in_the_kernels_order() -> None:
    assert in_order(SENT.split(), walk("send").functions())


def test_a_received_packet_passes_the_layers_in_the_kernels_order() -> None:
    assert in_order(RECEIVED.split(), walk("recv").functions())


@pytest.mark.parametrize("row", [r for r in ROWS if r.functions], ids=lambda r: r.id)
def test_every_function_of_a_row_stands_in_a_walk(row: object) -> None:
    seen = {f for name in walks.SCENARIOS for f in walk(name).functions()}
    functions = row.functions  # type: ignore[attr-defined]
    assert [f for f in functions if f not in seen and f not in NEVER] == []


def test_a_reachable_neighbour_with_a_cached_header_is_told_as_such() -> None:
    [step] = [s for s in walk("send") if s.function == "neigh_output"]
    assert step.decision == "REACHABLE and header cached: neigh_hh_output"
    assert [s.rules for s in walk("send") if s.function == "neigh_hh_output"] == [["neigh.output.cached"]]


def test_the_first_packet_to_a_neighbour_waits_until_arp_has_answered() -> None:
    w = walk("first-contact")
    assert in_order(
        ["neigh_resolve_output", "__neigh_event_send", "neigh_probe", "arp_solicit", "arp_rcv", "neigh_update"],
        w.functions(),
    )
    [send] = [s for s in w if s.function == "__neigh_event_send" and "INCOMPLETE" in s.decision]
    assert send.decision == "NONE -> INCOMPLETE: the packet waits in arp_queue"


def test_what_e1000e_has_sent_is_freed_by_the_softirq() -> None:
    steps = {s.function: s.context for s in walk("write")}
    assert steps["dev_kfree_skb_irq_reason"] == "irq eth0"
    assert steps["net_tx_action"] == steps["tcp_wfree"] == "softirq NET_TX"


def test_a_stopped_queue_lets_the_packet_wait_and_the_softirq_sends_it() -> None:
    w = walk("stopped")
    assert in_order(
        ["pfifo_fast_enqueue", "dequeue_skb", "igb_clean_tx_irq", "__netif_schedule", "net_tx_action", "__qdisc_run",
         "sch_direct_xmit", "igb_xmit_frame"],
        w.functions(),
    )  # fmt: skip
    contexts = {s.context for s in w if s.function == "net_tx_action"}
    assert contexts == {"softirq NET_TX"}


def test_a_full_backlog_drops_and_what_waited_is_processed_when_the_socket_is_let_go() -> None:
    w = walk("backlog")
    decisions = [s.decision for s in w if s.function == "tcp_add_backlog"]
    assert decisions
    assert all("limit" in d and d.endswith("dropped") for d in decisions)
    assert in_order(["release_sock", "tcp_v4_do_rcv"], w.functions())


def test_a_fragmented_datagram_is_whole_again_before_the_hook() -> None:
    w = walk("fragment")
    [done] = [s for s in w if s.function == "ip_frag_queue" and "whole" in s.decision]
    assert done.decision == "bytes 2960 to 4008: the datagram of 4028 bytes is whole"
    assert sum(s.function == "neigh_hh_output" for s in w) == 3


def test_a_forwarded_packet_loses_a_hop_and_meets_no_local_hook() -> None:
    w = walk("forward")
    assert [s.decision for s in w if s.function == "ip_forward"] == ["ttl 64 -> 63, out over eth1"]
    hooks = [s.decision.split(":")[0] for s in w if s.function == "nf_hook"]
    assert hooks == ["PREROUTING", "FORWARD", "POSTROUTING"]


def test_a_masqueraded_connection_is_translated_out_and_back() -> None:
    w = walk("nat")
    ways = [s.decision.split(":")[0] for s in w if s.function == "nf_nat_manip_pkt"]
    assert ways[:2] == ["SRC original", "DST reply"]


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
def test_each_kernel_has_its_walk(kernel: str) -> None:
    assert "igb_tx_map" in walks.make("send", kernel).functions()


def test_the_same_walk_is_recorded_twice() -> None:
    assert walks.make("send") == walks.make("send")


def test_what_a_forgotten_network_left_unfinished_ends_in_no_walk() -> None:
    net = Network()
    net.host("a")
    with net.record():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_neighbour_discovery_answers_over_ipv6() -> None:
    order = ["ndisc_solicit", "ipv6_rcv", "ndisc_rcv", "ndisc_recv_ns", "ndisc_send_na", "ndisc_recv_na", "udp_rcv"]
    assert in_order(order, walk("neighbour6").functions())


def test_contexts_are_told() -> None:
    w = walk("recv")
    where = {s.function: s.context for s in w}
    assert where["igb_msix_ring"] == "irq eth0"
    assert where["tcp_v4_rcv"] == "softirq NET_RX"
    assert where["tcp_recvmsg"] == "server"


# ---------------------------------------------------------------- how a walk is shown


@pytest.mark.parametrize("name", sorted(walks.SCENARIOS))
@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_every_walk_has_every_format(name: str, kind: str) -> None:
    assert FORMATS[kind](walk(name), False)


def test_the_diagram_has_a_lane_for_each_layer_and_an_arrow_for_each_step() -> None:
    w = walk("send")
    root = ElementTree.fromstring(svg(w))
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    for lane in lanes(shown(w)):
        assert lane in texts
    assert sum(1 for _ in root.iter("{http://www.w3.org/2000/svg}g")) == len(shown(w))
    lines = mermaid(w).splitlines()
    assert sum("->>" in line for line in lines) == len(shown(w))


def test_the_text_tells_each_decision() -> None:
    w = walk("send")
    page = text(w)
    for row in shown(w):
        assert row.step.function in page
        assert said(row.step) in page


def test_the_command_lists_draws_and_refuses() -> None:
    run = CliRunner().invoke
    listed = run(main, ["walk", "--list"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in ("send", "recv", "forward"))
    drawn = run(main, ["walk", "udp", "--to", "json"])
    assert json.loads(drawn.output)["steps"][0]["function"] == "__sys_sendto"
    assert run(main, ["walk", "nowhere"]).exit_code == 2
