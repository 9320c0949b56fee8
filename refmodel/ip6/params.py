"""IPv6's sysctls, as far as packets ask for them."""

from typing import Annotated, Final

from refmodel.profile import Sysctl
from refmodel.rule import Params
from refmodel.types import Range

INT_MIN: Final = -0x80000000
INT_MAX: Final = 0x7FFFFFFF
TABLE: Final = "net/ipv6/sysctl_net_ipv6.c:ipv6_table_template"
ICMP: Final = "net/ipv6/icmp.c:ipv6_icmp_table_template"
CONF: Final = "net/ipv6/addrconf.c:addrconf_sysctl"
FRAG: Final = "net/ipv6/reassembly.c:ip6_frags_ns_ctl_table"


class Ip6Params(Params, frozen=True):
    """`kernel`, `hz`, and net.ipv6's sysctls. Times in ms (ratelimit) and s (ip6frag_time).

    `mip6`: the kernel was built with CONFIG_IPV6_MIP6, as distributions' are.
    """

    kernel: Annotated[int, Range(601, 618)] = 612
    hz: int = 250
    mip6: bool = False
    forwarding: Annotated[int, Sysctl("net.ipv6.conf.all.forwarding", 0, INT_MIN, INT_MAX, CONF)] = 0
    proxy_ndp: Annotated[int, Sysctl("net.ipv6.conf.all.proxy_ndp", 0, INT_MIN, INT_MAX, CONF)] = 0
    max_hbh_opts_number: Annotated[int, Sysctl("net.ipv6.max_hbh_opts_number", 8, INT_MIN, INT_MAX, TABLE)] = 8
    max_dst_opts_number: Annotated[int, Sysctl("net.ipv6.max_dst_opts_number", 8, INT_MIN, INT_MAX, TABLE)] = 8
    max_hbh_length: Annotated[int, Sysctl("net.ipv6.max_hbh_length", INT_MAX, INT_MIN, INT_MAX, TABLE)] = INT_MAX
    max_dst_opts_length: Annotated[int, Sysctl("net.ipv6.max_dst_opts_length", INT_MAX, INT_MIN, INT_MAX, TABLE)] = (
        INT_MAX
    )
    flowlabel_reflect: Annotated[int, Sysctl("net.ipv6.flowlabel_reflect", 0, 0, 7, TABLE)] = 0
    auto_flowlabels: Annotated[int, Sysctl("net.ipv6.auto_flowlabels", 1, 0, 3, TABLE)] = 1
    anycast_src_echo_reply: Annotated[int, Sysctl("net.ipv6.anycast_src_echo_reply", 0, 0, 255, TABLE)] = 0
    ratelimit: Annotated[int, Sysctl("net.ipv6.icmp.ratelimit", 1000, INT_MIN, INT_MAX, ICMP)] = 1000
    echo_ignore_all: Annotated[int, Sysctl("net.ipv6.icmp.echo_ignore_all", 0, 0, 255, ICMP)] = 0
    echo_ignore_multicast: Annotated[int, Sysctl("net.ipv6.icmp.echo_ignore_multicast", 0, 0, 255, ICMP)] = 0
    echo_ignore_anycast: Annotated[int, Sysctl("net.ipv6.icmp.echo_ignore_anycast", 0, 0, 255, ICMP)] = 0
    error_anycast_as_unicast: Annotated[int, Sysctl("net.ipv6.icmp.error_anycast_as_unicast", 0, 0, 1, ICMP)] = 0
    ip6frag_high_thresh: Annotated[int, Sysctl("net.ipv6.ip6frag_high_thresh", 4194304, 0, INT_MAX, FRAG)] = 4194304
    ip6frag_time: Annotated[int, Sysctl("net.ipv6.ip6frag_time", 60, 0, INT_MAX, FRAG)] = 60
    ratemask: tuple[tuple[int, int], ...] = ((0, 1), (3, 127))
    """Ranges of ICMPv6 types that are limited (net.ipv6.icmp.ratemask)."""

    def limited(self, type: int) -> bool:
        """A type is in the rate mask."""
        return any(lo <= type <= hi for lo, hi in self.ratemask)
