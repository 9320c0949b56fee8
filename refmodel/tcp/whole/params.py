"""The sysctls that the whole TCP reads, in their own units, with the kernel's ranges and defaults."""

from functools import cache
from typing import Annotated, Final

from refmodel.profile import OutOfRange, Profile, Sysctl, sysctl_of, version_number
from refmodel.rule import Params

IN: Final = "net/ipv4/tcp_ipv4.c:tcp_sk_init"
TABLE: Final = "net/ipv4/sysctl_net_ipv4.c:ipv4_net_table"
INIT: Final = "net/ipv4/tcp.c:tcp_init"
CORE: Final = "net/core/sysctl_net_core.c:net_core_table"
TABLE6: Final = "net/ipv6/sysctl_net_ipv6.c:ipv6_table_template"
N: Final = "net.ipv4."
I32: Final = 2**31 - 1
U32: Final = 2**32 - 1
U64: Final = 2**64 - 1
INT_MIN: Final = -(2**31)
SECONDS: Final = I32 // 1000  # what is kept in jiffies has to fit an int


DISTRIBUTION: Final = 176  # MAX_HEADER where drivers of any kind are built: 128 and 48 for tunnels
SMALL_KERNEL: Final = 32  # MAX_HEADER without wireless drivers and tunnels


class WholeParams(Params, frozen=True):
    """Kernel version, HZ and sysctls; each field is called like its sysctl. A triple is split: tcp_rmem_0, _1, _2.

    `max_header` is MAX_HEADER (bytes, include/linux/netdevice.h), which the kernel's configuration decides: the heads
    of small skbs are as large as it wants, and with them what an skb costs.
    """

    kernel: int = 612
    hz: int = 1000
    max_header: int = DISTRIBUTION
    tcp_syn_retries: Annotated[int, Sysctl(N + "tcp_syn_retries", 6, 1, 127, IN)] = 6
    tcp_synack_retries: Annotated[int, Sysctl(N + "tcp_synack_retries", 5, 0, 255, IN)] = 5
    tcp_syn_linear_timeouts: Annotated[
        int, Sysctl(N + "tcp_syn_linear_timeouts", 4, 0, 127, IN, changed=(("6.1", 0),))
    ] = 4
    tcp_syncookies: Annotated[int, Sysctl(N + "tcp_syncookies", 1, 0, 255, IN)] = 1
    tcp_max_syn_backlog: Annotated[int, Sysctl(N + "tcp_max_syn_backlog", 4096, INT_MIN, I32, IN)] = 4096
    tcp_abort_on_overflow: Annotated[int, Sysctl(N + "tcp_abort_on_overflow", 0, 0, 255, IN)] = 0
    tcp_migrate_req: Annotated[int, Sysctl(N + "tcp_migrate_req", 0, 0, 1, IN)] = 0
    tcp_timestamps: Annotated[int, Sysctl(N + "tcp_timestamps", 1, 0, 255, IN)] = 1
    tcp_window_scaling: Annotated[int, Sysctl(N + "tcp_window_scaling", 1, 0, 255, IN)] = 1
    tcp_sack: Annotated[int, Sysctl(N + "tcp_sack", 1, 0, 255, IN)] = 1
    tcp_dsack: Annotated[int, Sysctl(N + "tcp_dsack", 1, 0, 255, IN)] = 1
    tcp_fack: Annotated[int, Sysctl(N + "tcp_fack", 0, 0, 255, TABLE)] = 0
    tcp_ecn: Annotated[int, Sysctl(N + "tcp_ecn", 2, 0, 5, IN)] = 2
    tcp_ecn_option: Annotated[int, Sysctl(N + "tcp_ecn_option", 2, 0, 3, IN)] = 2
    tcp_ecn_option_beacon: Annotated[int, Sysctl(N + "tcp_ecn_option_beacon", 3, 0, 3, IN)] = 3
    tcp_ecn_fallback: Annotated[int, Sysctl(N + "tcp_ecn_fallback", 1, 0, 1, IN)] = 1
    tcp_retries1: Annotated[int, Sysctl(N + "tcp_retries1", 3, 0, 255, IN)] = 3
    tcp_retries2: Annotated[int, Sysctl(N + "tcp_retries2", 15, 0, 255, IN)] = 15
    tcp_orphan_retries: Annotated[int, Sysctl(N + "tcp_orphan_retries", 0, 0, 255, IN)] = 0
    tcp_fin_timeout: Annotated[int, Sysctl(N + "tcp_fin_timeout", 60, -SECONDS, SECONDS, IN)] = 60
    tcp_keepalive_time: Annotated[int, Sysctl(N + "tcp_keepalive_time", 7200, -SECONDS, SECONDS, IN)] = 7200
    tcp_keepalive_intvl: Annotated[int, Sysctl(N + "tcp_keepalive_intvl", 75, -SECONDS, SECONDS, IN)] = 75
    tcp_keepalive_probes: Annotated[int, Sysctl(N + "tcp_keepalive_probes", 9, 0, 255, IN)] = 9
    tcp_invalid_ratelimit: Annotated[int, Sysctl(N + "tcp_invalid_ratelimit", 500, INT_MIN, I32, IN)] = 500
    tcp_challenge_ack_limit: Annotated[int, Sysctl(N + "tcp_challenge_ack_limit", I32, INT_MIN, I32, IN)] = I32
    tcp_rfc1337: Annotated[int, Sysctl(N + "tcp_rfc1337", 0, 0, 255, IN)] = 0
    tcp_tw_reuse: Annotated[int, Sysctl(N + "tcp_tw_reuse", 2, 0, 2, IN)] = 2
    tcp_max_tw_buckets: Annotated[int, Sysctl(N + "tcp_max_tw_buckets", 262144, INT_MIN, I32, IN)] = 262144
    tcp_max_orphans: Annotated[int, Sysctl(N + "tcp_max_orphans", 262144, INT_MIN, I32, INIT)] = 262144
    tcp_reordering: Annotated[int, Sysctl(N + "tcp_reordering", 3, 1, 300, IN)] = 3
    tcp_max_reordering: Annotated[int, Sysctl(N + "tcp_max_reordering", 300, 1, I32, IN)] = 300
    tcp_recovery: Annotated[int, Sysctl(N + "tcp_recovery", 1, 0, 255, IN)] = 1
    tcp_early_retrans: Annotated[int, Sysctl(N + "tcp_early_retrans", 3, 0, 4, IN)] = 3
    tcp_frto: Annotated[int, Sysctl(N + "tcp_frto", 2, 0, 255, IN)] = 2
    tcp_thin_linear_timeouts: Annotated[int, Sysctl(N + "tcp_thin_linear_timeouts", 0, 0, 255, TABLE)] = 0
    tcp_retrans_collapse: Annotated[int, Sysctl(N + "tcp_retrans_collapse", 1, 0, 255, IN)] = 1
    tcp_slow_start_after_idle: Annotated[int, Sysctl(N + "tcp_slow_start_after_idle", 1, 0, 255, IN)] = 1
    tcp_no_metrics_save: Annotated[int, Sysctl(N + "tcp_no_metrics_save", 0, 0, 255, IN)] = 0
    tcp_no_ssthresh_metrics_save: Annotated[int, Sysctl(N + "tcp_no_ssthresh_metrics_save", 1, 0, 1, IN)] = 1
    tcp_moderate_rcvbuf: Annotated[int, Sysctl(N + "tcp_moderate_rcvbuf", 1, 0, 255, IN)] = 1
    tcp_app_win: Annotated[int, Sysctl(N + "tcp_app_win", 31, 0, 31, IN)] = 31
    tcp_adv_win_scale: Annotated[int, Sysctl(N + "tcp_adv_win_scale", 1, -31, 31, IN)] = 1
    tcp_shrink_window: Annotated[int, Sysctl(N + "tcp_shrink_window", 0, 0, 1, IN)] = 0
    tcp_workaround_signed_windows: Annotated[int, Sysctl(N + "tcp_workaround_signed_windows", 0, 0, 255, TABLE)] = 0
    tcp_stdurg: Annotated[int, Sysctl(N + "tcp_stdurg", 0, 0, 255, TABLE)] = 0
    tcp_tso_win_divisor: Annotated[int, Sysctl(N + "tcp_tso_win_divisor", 3, 0, 255, IN)] = 3
    tcp_limit_output_bytes: Annotated[
        int, Sysctl(N + "tcp_limit_output_bytes", 1048576, INT_MIN, I32, IN, changed=(("6.18", 4194304),))
    ] = 1048576
    tcp_min_tso_segs: Annotated[int, Sysctl(N + "tcp_min_tso_segs", 2, 1, 255, IN)] = 2
    tcp_tso_rtt_log: Annotated[int, Sysctl(N + "tcp_tso_rtt_log", 9, 0, 31, IN)] = 9
    tcp_min_rtt_wlen: Annotated[int, Sysctl(N + "tcp_min_rtt_wlen", 300, 0, 86400, IN)] = 300
    tcp_autocorking: Annotated[int, Sysctl(N + "tcp_autocorking", 1, 0, 1, IN)] = 1
    tcp_pacing_ss_ratio: Annotated[int, Sysctl(N + "tcp_pacing_ss_ratio", 200, 0, 1000, IN)] = 200
    tcp_pacing_ca_ratio: Annotated[int, Sysctl(N + "tcp_pacing_ca_ratio", 120, 0, 1000, IN)] = 120
    tcp_notsent_lowat: Annotated[int, Sysctl(N + "tcp_notsent_lowat", U32, 0, U32, IN)] = U32
    tcp_comp_sack_delay_ns: Annotated[int, Sysctl(N + "tcp_comp_sack_delay_ns", 1_000_000, 0, U64, IN)] = 1_000_000
    tcp_comp_sack_slack_ns: Annotated[int, Sysctl(N + "tcp_comp_sack_slack_ns", 100_000, 0, U64, IN)] = 100_000
    tcp_comp_sack_nr: Annotated[int, Sysctl(N + "tcp_comp_sack_nr", 44, 0, 255, IN)] = 44
    tcp_backlog_ack_defer: Annotated[int, Sysctl(N + "tcp_backlog_ack_defer", 1, 0, 1, IN)] = 1
    tcp_reflect_tos: Annotated[int, Sysctl(N + "tcp_reflect_tos", 0, 0, 1, TABLE)] = 0
    tcp_pingpong_thresh: Annotated[int, Sysctl(N + "tcp_pingpong_thresh", 1, 1, 255, IN)] = 1
    tcp_rto_min_us: Annotated[int, Sysctl(N + "tcp_rto_min_us", 200_000, 1, I32, IN)] = 200_000
    tcp_rto_max_ms: Annotated[int, Sysctl(N + "tcp_rto_max_ms", 120_000, 1000, 120_000, IN)] = 120_000
    tcp_mtu_probing: Annotated[int, Sysctl(N + "tcp_mtu_probing", 0, 0, 2, IN)] = 0
    tcp_base_mss: Annotated[int, Sysctl(N + "tcp_base_mss", 1024, INT_MIN, I32, IN)] = 1024
    tcp_min_snd_mss: Annotated[int, Sysctl(N + "tcp_min_snd_mss", 48, 48, 65535, IN)] = 48
    tcp_mtu_probe_floor: Annotated[int, Sysctl(N + "tcp_mtu_probe_floor", 48, 48, 65535, IN)] = 48
    tcp_probe_threshold: Annotated[int, Sysctl(N + "tcp_probe_threshold", 8, INT_MIN, I32, IN)] = 8
    tcp_probe_interval: Annotated[int, Sysctl(N + "tcp_probe_interval", 600, 0, U32 // 1000, IN)] = 600
    tcp_fastopen: Annotated[int, Sysctl(N + "tcp_fastopen", 1, INT_MIN, I32, IN)] = 1
    tcp_fastopen_blackhole_timeout_sec: Annotated[
        int, Sysctl(N + "tcp_fastopen_blackhole_timeout_sec", 0, 0, I32, IN)
    ] = 0
    tcp_plb_enabled: Annotated[int, Sysctl(N + "tcp_plb_enabled", 0, 0, 1, IN)] = 0
    tcp_plb_idle_rehash_rounds: Annotated[int, Sysctl(N + "tcp_plb_idle_rehash_rounds", 3, 0, 31, IN)] = 3
    tcp_plb_rehash_rounds: Annotated[int, Sysctl(N + "tcp_plb_rehash_rounds", 12, 0, 31, IN)] = 12
    tcp_plb_suspend_rto_sec: Annotated[int, Sysctl(N + "tcp_plb_suspend_rto_sec", 60, 0, 255, IN)] = 60
    tcp_plb_cong_thresh: Annotated[int, Sysctl(N + "tcp_plb_cong_thresh", 128, 0, 256, IN)] = 128
    tcp_rmem_0: Annotated[int, Sysctl(N + "tcp_rmem[0]", 4096, 4096, I32, INIT)] = 4096
    tcp_rmem_1: Annotated[int, Sysctl(N + "tcp_rmem[1]", 131072, 4096, I32, INIT)] = 131072
    tcp_rmem_2: Annotated[int, Sysctl(N + "tcp_rmem[2]", 6291456, 4096, I32, INIT, changed=(("6.18", 33554432),))] = (
        6291456
    )
    tcp_wmem_0: Annotated[int, Sysctl(N + "tcp_wmem[0]", 4096, 1, I32, INIT)] = 4096
    tcp_wmem_1: Annotated[int, Sysctl(N + "tcp_wmem[1]", 16384, 1, I32, INIT)] = 16384
    tcp_wmem_2: Annotated[int, Sysctl(N + "tcp_wmem[2]", 4194304, 1, I32, INIT)] = 4194304
    tcp_tw_reuse_delay: Annotated[int, Sysctl(N + "tcp_tw_reuse_delay", 1000, 1, I32, IN)] = 1000
    tcp_rcvbuf_low_rtt: Annotated[int, Sysctl(N + "tcp_rcvbuf_low_rtt", 1000, 0, I32, IN)] = 1000
    ip_local_port_range_0: Annotated[int, Sysctl(N + "ip_local_port_range[0]", 32768, 1, 65535, TABLE)] = 32768
    ip_local_port_range_1: Annotated[int, Sysctl(N + "ip_local_port_range[1]", 60999, 1, 65535, TABLE)] = 60999
    ip_autobind_reuse: Annotated[int, Sysctl(N + "ip_autobind_reuse", 0, 0, 1, TABLE)] = 0
    route_min_pmtu: Annotated[int, Sysctl(N + "route.min_pmtu", 552, 68, I32, TABLE)] = 552
    route_mtu_expires: Annotated[int, Sysctl(N + "route.mtu_expires", 600, 0, I32, TABLE)] = 600
    route_min_adv_mss: Annotated[int, Sysctl(N + "route.min_adv_mss", 256, 0, I32, TABLE)] = 256
    ip_default_ttl: Annotated[int, Sysctl(N + "ip_default_ttl", 64, 1, 255, TABLE)] = 64
    ip_no_pmtu_disc: Annotated[int, Sysctl(N + "ip_no_pmtu_disc", 0, 0, 255, TABLE)] = 0
    icmp_ratelimit: Annotated[int, Sysctl(N + "icmp_ratelimit", 1000, 0, I32, TABLE)] = 1000
    icmp_ratemask: Annotated[int, Sysctl(N + "icmp_ratemask", 0x1818, 0, I32, TABLE)] = 0x1818
    icmp_msgs_per_sec: Annotated[int, Sysctl(N + "icmp_msgs_per_sec", 1000, 0, I32, TABLE)] = 1000
    icmp_msgs_burst: Annotated[int, Sysctl(N + "icmp_msgs_burst", 50, 0, I32, TABLE)] = 50
    icmp_echo_ignore_all: Annotated[int, Sysctl(N + "icmp_echo_ignore_all", 0, 0, 1, TABLE)] = 0
    icmpv6_ratelimit: Annotated[int, Sysctl("net.ipv6.icmp.ratelimit", 1000, 0, I32, TABLE6)] = 1000
    somaxconn: Annotated[int, Sysctl("net.core.somaxconn", 4096, 0, I32, CORE)] = 4096
    rmem_max: Annotated[int, Sysctl("net.core.rmem_max", 212992, 2304, I32, CORE, changed=(("6.18", 4194304),))] = (
        212992
    )
    wmem_max: Annotated[int, Sysctl("net.core.wmem_max", 212992, 4608, I32, CORE, changed=(("6.18", 4194304),))] = (
        212992
    )
    optmem_max: Annotated[int, Sysctl("net.core.optmem_max", 131072, 0, I32, CORE, changed=(("6.1", 20480),))] = 131072
    txrehash: Annotated[int, Sysctl("net.core.txrehash", 1, 0, 1, CORE)] = 1
    ip_nonlocal_bind: Annotated[int, Sysctl(N + "ip_nonlocal_bind", 0, 0, 255, TABLE)] = 0
    ip_unprivileged_port_start: Annotated[int, Sysctl(N + "ip_unprivileged_port_start", 1024, 0, 65535, TABLE)] = 1024
    fwmark_reflect: Annotated[int, Sysctl(N + "fwmark_reflect", 0, 0, 255, TABLE)] = 0
    tcp_fwmark_accept: Annotated[int, Sysctl(N + "tcp_fwmark_accept", 0, 0, 255, TABLE)] = 0
    bindv6only: Annotated[int, Sysctl("net.ipv6.bindv6only", 0, 0, 1, TABLE6)] = 0
    auto_flowlabels: Annotated[int, Sysctl("net.ipv6.auto_flowlabels", 1, 0, 3, TABLE6)] = 1
    flowlabel_reflect: Annotated[int, Sysctl("net.ipv6.flowlabel_reflect", 0, 0, 7, TABLE6)] = 0
    route6_mtu_expires: Annotated[int, Sysctl("net.ipv6.route.mtu_expires", 600, 0, I32, TABLE6)] = 600
    route6_min_adv_mss: Annotated[int, Sysctl("net.ipv6.route.min_adv_mss", 1220, 0, I32, TABLE6)] = 1220
    wmem_default: Annotated[int, Sysctl("net.core.wmem_default", 212992, 4608, I32, CORE)] = 212992
    rmem_default: Annotated[int, Sysctl("net.core.rmem_default", 212992, 2304, I32, CORE)] = 212992
    max_skb_frags: Annotated[int, Sysctl("net.core.max_skb_frags", 17, 1, 17, CORE)] = 17
    tstamp_allow_data: Annotated[int, Sysctl("net.core.tstamp_allow_data", 1, 0, 1, CORE)] = 1
    high_order_alloc_disable: Annotated[int, Sysctl("net.core.high_order_alloc_disable", 0, 0, 1, CORE)] = 0


# Before 6.18 there is no Accurate ECN. 6.18 has all of it but the values that ask for it; they are taken here, because
# no script can mean another thing by them, and make the model behave as 7.0, the first kernel to take them.
CLASSIC_ECN: Final = {"net.ipv4.tcp_ecn": 2, "net.ipv4.tcp_ecn_option": 2}


def upper_limit(kernel: int, name: str, limit: int) -> int:
    """The largest value that the kernel takes for a sysctl whose range was widened since; `limit` is the last one's."""
    return min(limit, CLASSIC_ECN.get(name, limit)) if kernel < 618 else limit


# The kernel keeps these and nothing that is modelled reads them.
INERT: Final = frozenset(
    {
        "net.core.busy_poll",
        "net.core.busy_read",
        "net.core.gro_normal_batch",
        "net.core.netdev_budget",
        "net.core.netdev_budget_usecs",
        "net.core.netdev_max_backlog",
        "net.core.netdev_tstamp_prequeue",
        "net.core.skb_defer_max",
        "net.ipv4.inet_peer_maxttl",
        "net.ipv4.inet_peer_minttl",
        "net.ipv4.inet_peer_threshold",
        "net.ipv4.ip_dynaddr",
        "net.ipv4.ip_early_demux",
        "net.ipv4.ip_forward",
        "net.ipv4.ip_forward_use_pmtu",
        "net.ipv4.route.flush",
        "net.ipv4.tcp_child_ehash_entries",
        "net.ipv4.tcp_early_demux",
        "net.ipv4.tcp_ehash_entries",
        "net.ipv4.tcp_l3mdev_accept",
        "net.ipv4.tcp_low_latency",
        "net.ipv4.tcp_mem",
        "net.ipv6.flowlabel_consistency",
        "net.ipv6.flowlabel_state_ranges",
        "net.ipv6.ip_nonlocal_bind",
    }
)


def whole_params(profile: Profile) -> WholeParams:
    """The parameters of `profile`; raises OutOfRange.

    The 6.18 that was measured is a small one: its small skbs have heads of 576 bytes, where distributions have 704.
    """
    p = profile.params(WholeParams, max_header=SMALL_KERNEL if profile.kernel == "6.18" else DISTRIBUTION)
    for name, limit in CLASSIC_ECN.items():
        if p.kernel < 618 and profile.sysctls.get(name, 0) > limit:
            raise OutOfRange(f"{name} = {profile.sysctls[name]}: the kernel takes 0 to {limit}")
    return p


@cache
def sysctl_fields() -> dict[str, tuple[str, Sysctl]]:
    """Every sysctl by its dotted name (a triple's parts as net.ipv4.tcp_rmem[0]): its field and its range."""
    from typing import get_type_hints

    out: dict[str, tuple[str, Sysctl]] = {}
    for name, hint in get_type_hints(WholeParams, include_extras=True).items():
        s = sysctl_of(hint)
        if s is not None:
            out[s.name] = (name, s)
    return out


__all__ = ["WholeParams", "sysctl_fields", "upper_limit", "version_number", "whole_params"]
