"""The sysctls of IPv4 below the transport protocols; source net/ipv4/sysctl_net_ipv4.c, ip_fragment.c, route.c."""

from typing import Annotated

from refmodel.profile import Sysctl
from refmodel.rule import Params

INT_MAX = (1 << 31) - 1
ULONG_MAX = (1 << 64) - 1


def _sysctl(name: str, default: int, hi: int = INT_MAX, lo: int = 0, file: str = "sysctl_net_ipv4.c") -> Sysctl:
    return Sysctl(f"net.ipv4.{name}", default, lo, hi, f"net/ipv4/{file}")


class IpParams(Params, frozen=True):
    """Sysctls as IP reads them. Times of `icmp_ratelimit` are in ms, of `ipfrag_time` in s, sizes in bytes."""

    kernel: int = 612
    hz: int = 250
    ip_default_ttl: Annotated[int, _sysctl("ip_default_ttl", 64, 255, 1)] = 64
    ip_early_demux: Annotated[bool, _sysctl("ip_early_demux", 1, 255)] = True
    tcp_early_demux: Annotated[bool, _sysctl("tcp_early_demux", 1, 255)] = True
    udp_early_demux: Annotated[bool, _sysctl("udp_early_demux", 1, 255)] = True
    ip_no_pmtu_disc: Annotated[int, _sysctl("ip_no_pmtu_disc", 0, 255)] = 0
    ip_forward_use_pmtu: Annotated[bool, _sysctl("ip_forward_use_pmtu", 0, 255)] = False
    ip_forward_update_priority: Annotated[bool, _sysctl("ip_forward_update_priority", 1, 1)] = True
    icmp_echo_ignore_all: Annotated[bool, _sysctl("icmp_echo_ignore_all", 0, 1)] = False
    icmp_echo_enable_probe: Annotated[bool, _sysctl("icmp_echo_enable_probe", 0, 1)] = False
    icmp_echo_ignore_broadcasts: Annotated[bool, _sysctl("icmp_echo_ignore_broadcasts", 1, 1)] = True
    icmp_ignore_bogus_error_responses: Annotated[bool, _sysctl("icmp_ignore_bogus_error_responses", 1, 1)] = True
    icmp_errors_use_inbound_ifaddr: Annotated[bool, _sysctl("icmp_errors_use_inbound_ifaddr", 0, 1)] = False
    icmp_ratelimit: Annotated[int, _sysctl("icmp_ratelimit", 1000)] = 1000
    icmp_ratemask: Annotated[int, _sysctl("icmp_ratemask", 0x1818)] = 0x1818
    icmp_msgs_per_sec: Annotated[int, _sysctl("icmp_msgs_per_sec", 1000)] = 1000
    icmp_msgs_burst: Annotated[int, _sysctl("icmp_msgs_burst", 50)] = 50
    ipfrag_high_thresh: Annotated[int, _sysctl("ipfrag_high_thresh", 4 << 20, ULONG_MAX, 0, "ip_fragment.c")] = 4 << 20
    ipfrag_low_thresh: Annotated[int, _sysctl("ipfrag_low_thresh", 3 << 20, ULONG_MAX, 0, "ip_fragment.c")] = 3 << 20
    ipfrag_time: Annotated[int, _sysctl("ipfrag_time", 30, INT_MAX // 1000, 0, "ip_fragment.c")] = 30
    ipfrag_max_dist: Annotated[int, _sysctl("ipfrag_max_dist", 64, INT_MAX, 0, "ip_fragment.c")] = 64
    route_min_pmtu: Annotated[int, _sysctl("route.min_pmtu", 552, INT_MAX, 68, "route.c")] = 552
