"""Where the model's walk is known to be another than the kernel's, each with its reason.

A difference that stands here is named by the comparison and its reason shown; all others fail.
"""

from typing import Final

from msgspec import Struct


class Known(Struct, frozen=True):
    """A difference: the kernel calls `function` in `within` ("" for any), in the cases named (none: all).

    `how`: it shows with that tracer alone.
    """

    function: str
    within: str
    why: str
    cases: tuple[str, ...] = ()
    how: str = ""


def _all(within: str, functions: str, why: str, *cases: str) -> tuple[Known, ...]:
    return tuple(Known(f, within, why, cases) for f in functions.split())


CARDS: Final = ("card_send", "card_receive", "card_first_contact")

KNOWN: Final[tuple[Known, ...]] = (
    Known("nf_hook_slow", "ip_output", "AppArmor's hook at POST_ROUTING, in Debian's kernels", (), "function_graph"),
    *_all(
        "process_backlog",
        "__netif_receive_skb",
        "a namespace of the model has a backlog of its own, a processor of the kernel's one for all: what the kernel "
        "takes in one poll takes the model two",
    ),
    *_all("udp_sendmsg", "ip_make_skb", "the model builds the datagram within udp_send_skb"),
    *_all("udp_send_skb", "ip_send_skb", "the model sends the datagram from where it builds it"),
    *_all("udp_queue_rcv_skb", "udp_queue_rcv_one_skb", "the model has it in its caller"),
    *_all("ip_protocol_deliver_rcu", "udp_queue_rcv_one_skb", "the model has it in its caller"),
    *_all(
        "__skb_recv_udp",
        "__skb_try_recv_from_queue udp_rmem_release",
        "the model takes the datagram in udp_recvmsg, after the wait",
    ),
    *_all("inet_sendmsg", "release_sock", "the model finds a port without locking the socket (inet_autobind)"),
    *_all(
        "arp_constructor",
        "fib_table_lookup __inet_dev_addr_type",
        "the model knows an address's type without asking the table",
    ),
    *_all("neigh_update", "__wake_up_common", "who listens on netlink is woken; the model has nobody there"),
    *_all("ip_rcv_core", "tcp_wfree", "the model gives the sender its room back when ip_rcv is called, not in it"),
    *_all("veth_xdp_rcv", "tcp_wfree", "the model gives the sender its room back when ip_rcv is called, behind GRO"),
    Known(
        "napi_poll",
        "net_rx_action",
        "a namespace of the model has a softnet of its own: what 6.12 polls in the run that polled the receiver, the "
        "model polls in a run of the sender's",
        ("tcp_veth_napi",),
        "function_graph",
    ),
    Known(
        "tcp_v4_do_rcv",
        "tcp_v4_rcv",
        "in the guest the acknowledgment came after the sender had let go of its socket; in the model before",
        ("tcp_veth_napi",),
        "function_graph",
    ),
    *_all("loopback_xmit", "tcp_wfree", "the model gives the sender its room back when ip_rcv is called"),
    *_all(
        "ip_rcv_finish_core",
        "ip_route_input_noref",
        "what waits in a socket's backlog loses its route (tcp_add_backlog), so that the socket never learns it; the "
        "model's does",
        *("tcp_veth", "forward", "tcp_connect", "card_receive"),
    ),
    *_all("ip_route_input_slow", "fib_table_lookup", "the same, one function further", "forward", "tcp_veth"),
    *_all(
        "icmp_route_lookup",
        "__inet_dev_addr_type ip_route_input_noref fib_table_lookup ip_route_output_key_hash",
        "the second look, for IPsec's sake, which the model leaves out",
    ),
    *_all("__icmp_send", "inet_getpeer", "the model finds the peer within inet_peer_xrlim_allow"),
    *_all("__ip_append_data", "nf_ct_attach", "the model attaches the connection when the error is complete"),
    *_all("ip_route_input_slow", "rt_dst_alloc rt_set_nexthop", "the model makes the entry in its caller"),
    *_all("init_conntrack", "nf_ct_invert_tuple", "the model inverts the tuple where the packet is read"),
    *_all("nf_nat_inet_fn", "__nf_nat_alloc_null_binding", "the model has it in nf_nat_inet_fn"),
    *_all(
        "ip_forward", "nf_hook_slow", "the guest's filter table hooks all namespaces; the model's is not loaded", "dnat"
    ),
    *_all(
        "ip_finish_output2",
        "neigh_resolve_output",
        "the recorder's neighbour, entered by hand, has no header yet",
        *("tcp_connect", "forward_expired", "udp_closed", "masquerade", "dnat", "filtered"),
    ),
    *_all("ip_finish_output2", "neigh_connected_output", "a tun has header_ops without a cache; the model's has none"),
    *_all("tun_net_xmit", "sock_def_readable", "the model wakes no reader of a tun"),
    *_all("ip_do_fragment", "ip_send_check", "the model sums each header as it is made"),
    *_all(
        "tcp_v4_connect",
        "ip_route_output_key_hash ip_route_output_flow fib_table_lookup",
        "the kernel asks for the source, for the route, and again with the ports; the model asks once",
        "tcp_connect",
    ),
    *_all("ip_route_output_flow", "ip_route_output_key_hash_rcu", "the same, one function further", "tcp_connect"),
    *_all(
        "ip_route_output_key_hash_rcu",
        "fib_table_lookup __ip_dev_find",
        "the same, two functions further",
        "tcp_connect",
    ),
    *_all("tcp_connect", "inet_sk_rebuild_header", "the model asks for the route in tcp_v4_connect alone"),
    *_all(
        "tcp_v4_rcv", "__inet_lookup_listener tcp_inbound_hash", "the model looks for a listener once", "tcp_connect"
    ),
    *_all("tcp_make_synack", "tcp_options_write", "the model writes the options in tcp_v4_send_synack"),
    *_all("inet_csk_complete_hashdance", "__inet_csk_reqsk_queue_drop", "the model has it in its caller"),
    *_all(
        "",
        "napi_schedule_prep __napi_schedule",
        "the guest's peer is a virtio card: its interrupts are for what it sent, too; the model's is an e1000e",
        *CARDS,
    ),
    *_all(
        "net_rx_action",
        "napi_poll",
        "virtio cleans what it sent in a NAPI of its own; e1000e, which stands for it in the model, in the interrupt",
        *CARDS,
    ),
    *_all("napi_poll", "netif_tx_wake_queue", "virtio's poll wakes its queue each time", *CARDS),
    *_all(
        "net_rx_action",
        "__raise_softirq_irqoff",
        "an interrupt has put another NAPI on the list meanwhile; in the model none comes upon a softirq",
        *CARDS,
    ),
    *_all(
        "net_tx_action",
        "__qdisc_run",
        "virtio's queue runs again when its NAPI has cleaned, in the same softirq; the model's e1000e's before",
        "card_receive",
    ),
    *_all(
        "",
        "net_rx_action net_tx_action",
        "softirqs once more: after a virtio card's interrupt, or for its queue",
        *CARDS,
    ),
    *_all(
        "tcp_v4_rcv",
        "tcp_add_backlog",
        "the interrupt came upon the reader before it gave its socket back; in the model none comes upon a call",
        "card_receive",
    ),
    *_all(
        "release_sock", "__release_sock __tcp_send_ack", "the same: the reader takes the segment itself", "card_receive"
    ),
    *_all("inet_getname", "release_sock", "Python asks for the name of what it has accepted"),
    *_all("", "inet_getname", "Python asks for the name of what it has accepted", "tcp_connect"),
)


def known(case: str, how: str, function: str, within: str) -> Known | None:
    """The entry that explains a difference; None if none does."""
    for k in KNOWN:
        here = k.how in ("", how) and (not k.cases or case in k.cases)
        if here and k.function == function and k.within in ("", within):
            return k
    return None
