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
            *("ksys_read", "ksys_write", "vfs_read", "vfs_write", "ret_from_fork*", "kthread", "__sys_connect_file"),
        ),
    ),
    Class(
        "interrupt entry",
        "how the processor comes to an interrupt's handler; the model begins at the handler",
        (
            *("asm_common_interrupt", "common_interrupt", "__common_interrupt", "handle_edge_irq", "handle_irq_event"),
            *("__handle_irq_event_percpu", "handle_fasteoi_irq", "asm_sysvec_*", "sysvec_*", "irq_exit_rcu"),
            *("run_timer_softirq", "call_timer_fn", "raise_softirq", "raw_notifier_call_chain"),
        ),
    ),
    Class(
        "another card's driver",
        "the model's cards have igb's or e1000e's; these stand where its ndo_start_xmit, poll and interrupt stand",
        (
            *("veth_xmit", "veth_poll", "veth_xdp_rcv", "veth_xdp_rcv_skb", "loopback_xmit", "skb_scrub_packet"),
            *("__dev_forward_skb", "__dev_forward_skb2", "tun_net_xmit", "tun_get_user", "tun_do_read"),
            *("tun_chr_read_iter", "tun_chr_write_iter", "tun_sock_write_space", "start_xmit", "virtnet_*"),
            *("__free_old_xmit", "free_old_xmit", "free_old_xmit_skbs", "check_sq_full_and_disable", "receive_buf"),
            *("page_to_skb", "skb_recv_done", "skb_xmit_done", "try_fill_recv", "skb_to_sgvec", "__skb_to_sgvec"),
        ),
    ),
    Class(
        "pieces of e1000e",
        "of the clean-up, the checksum and the counters; rings, interrupts and moderation are the machines' of nic",
        (
            *("e1000_put_txbuf", "e1000_rx_checksum", "e1000_update_itr", "e1000e_get_stats64", "e1000e_update_stats"),
            *("e1000_maybe_stop_tx", "e1000_receive_skb"),
        ),
    ),
    Class("tracing", "there only to be seen", ("call_trace_sock_send_length", "call_trace_sock_recv_length")),
    Class(
        "locking",
        "one processor at a time owns a socket; that a process owns it the model says itself",
        ("lock_sock_nested", "__lock_sock_fast", "__lock_sock", "nf_conntrack_double_lock", "__sk_flush_backlog"),
    ),
    Class(
        "waking",
        "the scheduler's side of sock_def_readable and its kin",
        ("__wake_up", "__wake_up_common", "__wake_up_common_lock", "__wake_up_sync_key", "sock_def_write_space"),
    ),
    Class(
        "the end of a packet",
        "how the memory of a packet is given back; that it ended, and why, the model says by consume_skb and kfree_skb",
        (
            *("sk_skb_reason_drop", "kfree_skb_reason", "skb_attempt_defer_free", "skb_release_data"),
            *("skb_release_head_state", "kfree_skbmem", "__kfree_skb", "kfree_skb_list_reason", "kfree_skb_list"),
            *("consume_skb", "skb_free_frag", "napi_consume_skb", "__skb_ext_put", "skb_free_head", "skb_consume_udp"),
            *("__dev_kfree_skb_any", "__dev_kfree_skb_irq", "dev_kfree_skb_any_reason", "dev_kfree_skb_irq_reason"),
            *("__napi_kfree_skb", "napi_skb_cache_put", "skb_queue_purge_reason", "skb_free_datagram", "skb_tx_error"),
        ),
    ),
    Class(
        "the memory of a packet",
        "where its bytes lie, and moving its ends: the model's packets are their bytes",
        (
            *("__napi_alloc_skb", "napi_alloc_skb", "__napi_build_skb", "napi_skb_cache_get", "sock_alloc_send_pskb"),
            *("skb_clone", "__skb_clone", "tcp_bpf_clone", "skb_morph", "skb_push", "skb_put", "skb_pull", "skb_trim"),
            *("skb_pull_rcsum", "skb_headers_offset_update", "skb_ensure_writable", "skb_copy_bits", "eth_header"),
            *("skb_page_frag_refill", "skb_queue_tail", "skb_dequeue", "tcp_rbtree_insert", "ip_copy_metadata"),
            *("ip_fraglist_init", "ip_fraglist_prepare", "skb_condense", "skb_try_coalesce", "skb_partial_csum_set"),
            *("eth_header_cache", "tcp_gro_pull_header", "__skb_try_recv_datagram", "__skb_recv_datagram"),
            *("skb_recv_datagram", "sock_gen_put", "sock_edemux", "skb_network_protocol", "__netdev_alloc_skb"),
        ),
    ),
    Class(
        "accounting of memory",
        "how much of the machine's memory sockets may have together; a single socket's limits are the model's",
        (
            *("__sk_mem_schedule", "__sk_mem_raise_allocated", "__sk_mem_reclaim", "__sk_mem_reduce_allocated"),
            *("sk_forced_mem_schedule", "sk_leave_memory_pressure", "tcp_leave_memory_pressure", "tcp_wmem_schedule"),
            *("skb_set_owner_w", "sock_wfree", "__sock_wfree", "sock_rfree", "tcp_wfree", "sk_free", "__sk_free"),
            *("tcp_orphan_update", "tcp_orphan_count_sum", "inet_send_prepare"),
        ),
    ),
    Class(
        "checksums",
        "the sum over bytes; whether it is asked for, and what comes of it, is the model's",
        (
            *("skb_checksum", "__skb_checksum", "skb_checksum_help", "__skb_checksum_complete", "nf_checksum"),
            *("__skb_gro_checksum_complete", "tcp_v4_send_check", "__tcp_v4_send_check", "udp4_hwcsum"),
            *("skb_copy_and_csum_bits", "skb_copy_and_csum_datagram_msg", "inet_proto_csum_replace4"),
        ),
    ),
    Class(
        "copying",
        "the bytes' way to and from the user's memory; the model's packets are copied in one step",
        (
            *("skb_copy_datagram_iter", "__skb_datagram_iter", "skb_copy_datagram_from_iter", "simple_copy_to_iter"),
            *("ip_generic_getfrag", "icmp_glue_bits"),
        ),
    ),
    Class(
        "routes' memory",
        "how long an entry lives and whether it still holds: the model asks the tables",
        (
            *("dst_alloc", "dst_release", "rt_dst_alloc", "rt_set_nexthop", "rt_cache_route", "ipv4_dst_check"),
            *("sk_dst_check", "__sk_dst_check", "ip4_datagram_release_cb", "inet_sk_rx_dst_set", "ipv4_mtu"),
            *("ipv4_default_advmss", "ipv4_neigh_lookup", "inet_putpeer", "__tcp_get_metrics"),
        ),
    ),
    Class(
        "lookup in a table",
        "hashing, comparing, indexing: the model's tables are dictionaries",
        (
            *("inet_ehashfn", "__inet_lookup_established", "inet_lookup_reuseport", "inet_lhash2_lookup", "arp_hash"),
            *("arp_key_eq", "ip4_key_hashfn", "ip4_obj_hashfn", "ip4_obj_cmpfn", "hash_conntrack_raw", "hash_by_src"),
            *("__nf_conntrack_find_get", "__nf_conntrack_hash_insert", "__nf_conntrack_insert_prepare"),
            *("inet_bind2_bucket_*", "__inet_bhash2_update_saddr", "inet_lookup_ifaddr_rcu", "dev_get_by_index_rcu"),
            *("inet_frag_find", "ip4_frag_init", "ip4_frag_free", "__skb_flow_dissect", "__skb_flow_get_ports"),
        ),
    ),
    Class(
        "timers and clocks",
        "the kernel's timers behind the model's; reading the clock",
        (
            *("sk_reset_timer", "neigh_add_timer", "neigh_del_timer", "tcp_mstamp_refresh", "tcp_init_xmit_timers"),
            *("inet_csk_init_xmit_timers",),
        ),
    ),
    Class(
        "the making of a socket",
        "its memory, its inode, its file",
        (
            *("sk_alloc", "sk_prot_alloc", "sk_destruct", "__sk_destruct", "sk_clone_lock", "sock_alloc*"),
            *("sock_init_data*", "sock_free_inode", "__sock_release", "sock_i_uid", "inet_sock_destruct"),
            *("udp_destruct_*", "tcp_v4_reqsk_destructor", "inet_sk_set_state"),
        ),
    ),
    Class(
        "nobody is there",
        "asked in passing, and nobody has asked for it: raw sockets, socket filters, IPsec, MD5 and AO, time stamping",
        (
            *("raw_local_deliver", "raw_icmp_error", "sk_filter_trim_cap", "tcp_filter", "validate_xmit_xfrm"),
            *("tcp_inbound_hash", "tcp_inbound_md5_hash", "tcp_do_parse_auth_options", "tcp_parse_md5sig_option"),
            *("tcp_v4_md5_lookup", "skb_clone_tx_timestamp", "skb_defer_rx_timestamp", "nf_xfrm_me_harder"),
            *("ip_mc_drop_socket", "tcp_poll", "tcp_ack_tstamp", "tcp_tx_timestamp", "arp_accept", "arp_ignore"),
        ),
    ),
    Class(
        "part of another function",
        "a piece of one that the model has, and has in one: its caller",
        (
            *("udp_unicast_rcv_skb", "inet_frag_reasm_prepare", "inet_frag_reasm_finish", "neigh_event_ns"),
            *("inet_csk_route_req", "inet_csk_route_child_sock", "tcp_v4_route_req", "inet_hash_connect"),
            *("inet_sk_get_local_port_range", "inet_frag_destroy_rcu", "inet_frag_rbtree_purge", "inet_frag_destroy"),
            *("tcp_cleanup_rbuf", "tcp_data_ready", "tcp_send_ack", "tcp_release_cb", "tcp_xmit_recovery"),
            *("tcp_init_cwnd", "ipv4_pktinfo_prepare", "sk_error_report", "sock_def_error_report", "udp_err"),
            *("udp_v4_get_port", "inet_autobind", "udp_v4_early_demux", "arp_send_dst", "inet_addr_type_dev_table"),
            *("nf_ct_ext_add", "nf_ct_nat_ext_add", "nf_ct_ecache_ext_add", "nf_ct_acct_add", "ipv4_confirm"),
            *("ipv4_get_l4proto", "nf_ct_attach", "masquerade_tg", "xt_dnat_target_v2", "udp_mt", "ip_options_build"),
        ),
    ),
    Class(
        "notification",
        "told to whoever listens on netlink, counted for whoever asks",
        (
            *("__neigh_notify", "nlmsg_notify", "netlink_broadcast_filtered", "rtmsg_ifa", "netdev_core_stats_*"),
            *("inet_netconf_notify_devconf", "neigh_fill_info", "__dev_get_by_index"),
        ),
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
    "napi_threaded_poll_loop": ("napi_threaded_poll", "its loop"),
    "inet_sk_state_store": ("tcp_set_state", "the store, after which sock:inet_sock_set_state is told"),
}
"""Where a kernel has, or shows, another function for one that the model has: (the model's, what the kernel's is)."""


def class_of(function: str) -> Class | None:
    """The class that leaves a function out; None if none does."""
    return next((c for c in CLASSES if any(fnmatchcase(function, p) for p in c.functions)), None)
