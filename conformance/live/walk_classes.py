"""What a kernel passes on a packet's way and the model has no function for, by class, and what is called otherwise.

A function that stands in no class, and that the model does not have, is a difference.
"""

from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct


class Class(Struct, frozen=True):
    """Functions that the model leaves out, and why; patterns as in a shell."""

    name: str
    why: str
    functions: tuple[str, ...]


CLASSES: Final = (
    Class(
        "system call entry",
        "the model's calls begin at the socket; how a task comes into the kernel is the processor's",
        (
            *("entry_SYSCALL_64_after_hwframe", "entry_SYSCALL_64", "do_syscall_64", "x64_sys_call", "__x64_sys_*"),
            *("ksys_read", "ksys_write", "vfs_read", "vfs_write", "ret_from_fork*", "kthread"),
        ),
    ),
    Class(
        "interrupt entry",
        "how the processor comes to an interrupt's handler; the model begins at the handler",
        (
            *("asm_common_interrupt", "common_interrupt", "__common_interrupt", "handle_edge_irq", "handle_irq_event"),
            *("__handle_irq_event_percpu", "handle_fasteoi_irq", "asm_sysvec_*", "sysvec_*", "irq_exit_rcu"),
        ),
    ),
    Class(
        "another card's driver",
        "the model's card is igb or e1000e; these stand where its ndo_start_xmit, poll and interrupt stand",
        (
            *("veth_xmit", "veth_poll", "veth_xdp_rcv", "veth_xdp_rcv_skb", "loopback_xmit"),
            *("tun_net_xmit", "tun_get_user", "tun_do_read", "tun_chr_read_iter", "tun_chr_write_iter"),
        ),
    ),
    Class("tracing", "there only to be seen", ("call_trace_sock_send_length", "call_trace_sock_recv_length")),
    Class(
        "the end of a packet",
        "how the memory of a packet is given back; that it ended, and why, the model says by consume_skb and kfree_skb",
        (
            *(
                "sk_skb_reason_drop",
                "kfree_skb_reason",
                "skb_attempt_defer_free",
                "skb_release_data",
                "skb_release_head_state",
                "kfree_skbmem",
                "__kfree_skb",
            ),
            *(
                "kfree_skb_list_reason",
                "kfree_skb_list",
                "consume_skb",
                "skb_free_frag",
                "napi_consume_skb",
                "__skb_ext_put",
                "skb_free_head",
            ),
        ),
    ),
    Class(
        "copying",
        "the bytes' way to and from the user's memory; the model's packets are copied in one step",
        ("skb_copy_datagram_iter", "__skb_datagram_iter", "skb_copy_datagram_from_iter", "simple_copy_to_iter"),
    ),
    Class(
        "part of another function",
        "a piece of one that the model has, and has in one: its caller",
        ("udp_unicast_rcv_skb", "inet_frag_reasm_prepare", "neigh_event_ns", "inet_csk_route_req"),
    ),
    Class(
        "notification",
        "told to whoever listens on netlink",
        ("__neigh_notify", "nlmsg_notify", "netlink_broadcast_filtered", "rtmsg_ifa", "inet_netconf_notify_devconf"),
    ),
)

ALIASES: Final = {
    "___neigh_create": ("__neigh_create", "its body, which takes the flags that neighbours from outside have"),
    "__neigh_update": ("neigh_update", "its body, which says whether the neighbour is to be told of"),
    "__do_softirq": ("handle_softirqs", "its name until 6.9"),
    "gro_receive_skb": ("napi_gro_receive", "its body since 6.16"),
    "netif_receive_skb_list_internal": ("netif_receive_skb_list", "its body"),
    "netif_receive_skb_internal": ("netif_receive_skb", "its body"),
    "netif_rx_internal": ("netif_rx", "its body"),
    "__netif_rx": ("netif_rx", "the form for those who have bottom halves off"),
    "__netif_reschedule": ("__netif_schedule", "its body"),
    "__udp4_lib_rcv": ("udp_rcv", "its body, shared with UDP-Lite"),
    "__udp4_lib_err": ("udp_err", "its body, shared with UDP-Lite"),
    "__icmp_send": ("icmp_send", "its body, which takes options"),
    "__dev_queue_xmit": ("dev_queue_xmit", "its body, which takes a device to send for"),
    "__napi_poll": ("napi_poll", "its body, without the list's lock"),
    "netif_receive_skb": ("netif_receive_skb_internal", "what a driver without NAPI calls"),
    "napi_threaded_poll_loop": ("napi_threaded_poll", "its loop"),
    "inet_sk_state_store": ("tcp_set_state", "the store, after which sock:inet_sock_set_state is told"),
    "inet_sk_set_state": ("tcp_set_state", "the store of a socket that nobody knows yet"),
}
"""Where a kernel has, or shows, another function for one that the model has: (the model's, what the kernel's is)."""


def class_of(function: str) -> Class | None:
    """The class that leaves a function out; None if none does."""
    return next((c for c in CLASSES if any(fnmatchcase(function, p) for p in c.functions)), None)
