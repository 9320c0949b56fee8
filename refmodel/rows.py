"""The parts of Linux's send and receive path that the specification covers, row by row from the top to the wire.

A row names the kernel functions that a packet's walk passes there. What stands in the tables of the documentation is
counted from this list and the registry.
"""

from typing import Final

from msgspec import Struct


class Row(Struct, frozen=True):
    """One part of the path.

    `id` begins with S on the way out, R on the way in, E for who does the work. `functions` are the kernel's, in the
    order in which a packet meets them; `machines` the proved machines behind them.
    """

    id: str
    part: str
    functions: tuple[str, ...]
    machines: tuple[str, ...] = ()


def _row(ident: str, part: str, functions: str, machines: str = "") -> Row:
    return Row(ident, part, tuple(functions.split()), tuple(machines.split()))


TCP_PARTS: Final = "tcp tcp_cwnd tcp_cubic tcp_nagle tcp_window tcp_scoreboard"

ROWS: Final = (
    _row("S1", "system calls", "sock_write_iter __sys_sendto __sock_sendmsg sock_sendmsg_nosec inet_sendmsg"),
    _row("S2", "socket API", "inet_bind inet_listen inet_accept inet_stream_connect inet_shutdown", "tcp"),
    _row(
        "S3",
        "TCP output",
        (
            "tcp_sendmsg tcp_sendmsg_locked tcp_push tcp_push_one __tcp_push_pending_frames "
            "tcp_write_xmit __tcp_transmit_skb"
        ),
        TCP_PARTS,
    ),
    _row("S4", "UDP output", "udp_sendmsg udp_send_skb", "udp_cork"),
    _row(
        "S5", "IP output", "ip_queue_xmit __ip_queue_xmit ip_local_out __ip_local_out dst_output ip_output", "ip-idents"
    ),
    _row(
        "S6",
        "FIB",
        "fib_lookup fib_table_lookup ip_route_output_key_hash_rcu inet_rtm_newaddr inet_rtm_deladdr",
        "fib_leaf fib_policy fib_fnhe",
    ),
    _row("S7", "netfilter", "nf_hook NF_HOOK_COND", "conntrack_tcp xt_limit"),
    _row(
        "S8",
        "GSO and fragmentation",
        ("ip_finish_output __ip_finish_output ip_finish_output_gso ip_fragment ip_do_fragment ip_finish_output2"),
        "ip-fragment",
    ),
    _row(
        "S9",
        "neighbours",
        (
            "ip_neigh_for_gw neigh_output neigh_hh_output neigh_resolve_output neigh_connected_output "
            "neigh_direct_output __neigh_event_send neigh_probe neigh_timer_handler neigh_update "
            "neigh_connect neigh_suspect __neigh_create neigh_destroy neigh_hh_init neigh_parms_alloc "
            "neigh_table_init neigh_add neigh_delete"
        ),
        "neigh",
    ),
    _row("S10", "ARP", "arp_constructor arp_solicit arp_send arp_create arp_xmit arp_rcv arp_process", "arp"),
    _row(
        "S11",
        "queueing",
        ("dev_queue_xmit __dev_queue_xmit __dev_xmit_skb sch_direct_xmit __qdisc_run pfifo_fast_enqueue"),
        "qdisc_fifo pfifo_fast tbf qdisc_nolock",
    ),
    _row(
        "S12",
        "device transmit",
        "dev_hard_start_xmit xmit_one netdev_start_xmit net_tx_action",
        "bql dev_watchdog ptr_ring",
    ),
    _row("S13", "NIC transmit ring", "igb_xmit_frame igb_xmit_frame_ring igb_tx_map igb_clean_tx_irq", "nic_tx"),
    _row("S14", "physical layer", "", "csma_cd pause irq_delay"),
    _row("R1", "NIC receive ring", "igb_clean_rx_irq igb_alloc_rx_buffers", "nic_rx"),
    _row(
        "R2",
        "interrupt and NAPI",
        ("__napi_schedule netif_napi_add net_rx_action napi_poll napi_complete_done netif_rx process_backlog"),
        "napi nic_vector nic_itr backlog",
    ),
    _row("R3", "GRO", "napi_gro_receive", "gro"),
    _row("R4", "core receive", "netif_receive_skb __netif_receive_skb_core __netif_receive_skb_one_core"),
    _row(
        "R5",
        "IP input",
        (
            "ip_rcv ip_rcv_core ip_rcv_finish ip_rcv_finish_core dst_input ip_local_deliver "
            "ip_local_deliver_finish ip_protocol_deliver_rcu ip_forward"
        ),
        "ip-reassembly fib_input",
    ),
    _row("R6", "ICMP errors and PMTU", "icmp_send tcp_v4_err", "icmp-limits"),
    _row(
        "R7",
        "TCP demultiplexing",
        (
            "tcp_v4_rcv tcp_v4_early_demux tcp_check_req tcp_child_process tcp_timewait_state_process "
            "tcp_v4_send_reset tcp_add_backlog"
        ),
        "tcp",
    ),
    _row(
        "R8",
        "TCP input",
        ("tcp_v4_do_rcv tcp_rcv_established tcp_rcv_state_process tcp_ack tcp_data_queue tcp_queue_rcv"),
        f"{TCP_PARTS} tcp_rtt tcp_delack",
    ),
    _row("R9", "UDP input", "udp_rcv udp_queue_rcv_skb"),
    _row("R10", "reading", "tcp_recvmsg inet_recvmsg sock_recvmsg __sys_recvfrom"),
    _row("R11", "IPv6", "ipv6_rcv ndisc_rcv", "ndisc ip6-cut ip6-reassembly"),
    _row("E1", "execution contexts", "", "softirq"),
    _row("E2", "sequence diagrams", ""),
    _row("E3", "the worked example", ""),
)

NAMED: Final = frozenset(f for row in ROWS for f in row.functions)
"""The functions that the rows name: what a walk shows even where nothing was decided."""
