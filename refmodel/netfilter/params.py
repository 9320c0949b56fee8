"""The sysctls of connection tracking, net.netfilter.nf_conntrack_*, in microseconds where they are times.

The kernel takes any 32-bit number of jiffies for a time; a negative one is left out here.
"""

from typing import Annotated, Final

from refmodel.profile import Sysctl
from refmodel.rule import Params

SECOND: Final = 1_000_000
SECONDS_MAX: Final = 0x7FFFFFFF // 100  # INT_MAX jiffies at HZ=100, the widest
NF: Final = "net.netfilter.nf_conntrack_"
TCP: Final = "net/netfilter/nf_conntrack_proto_tcp.c:tcp_timeouts"
INIT: Final = "net/netfilter/nf_conntrack_proto_tcp.c:nf_conntrack_tcp_init_net"
UDP: Final = "net/netfilter/nf_conntrack_proto_udp.c:udp_timeouts"
CORE: Final = "net/netfilter/nf_conntrack_standalone.c:nf_ct_sysctl_table"


def _time(name: str, seconds: int, cite: str) -> Sysctl:
    return Sysctl(NF + name, seconds, 0, SECONDS_MAX, cite, SECOND)


SYN_SENT: Final = _time("tcp_timeout_syn_sent", 120, TCP)
SYN_RECV: Final = _time("tcp_timeout_syn_recv", 60, TCP)
ESTABLISHED: Final = _time("tcp_timeout_established", 432_000, TCP)
FIN_WAIT: Final = _time("tcp_timeout_fin_wait", 120, TCP)
CLOSE_WAIT: Final = _time("tcp_timeout_close_wait", 60, TCP)
LAST_ACK: Final = _time("tcp_timeout_last_ack", 30, TCP)
TIME_WAIT: Final = _time("tcp_timeout_time_wait", 120, TCP)
CLOSE: Final = _time("tcp_timeout_close", 10, TCP)
RETRANS: Final = _time("tcp_timeout_max_retrans", 300, TCP)
UNACK: Final = _time("tcp_timeout_unacknowledged", 300, TCP)
LOOSE: Final = Sysctl(NF + "tcp_loose", 1, 0, 1, INIT)
BE_LIBERAL: Final = Sysctl(NF + "tcp_be_liberal", 0, 0, 1, INIT)
IGNORE_INVALID_RST: Final = Sysctl(NF + "tcp_ignore_invalid_rst", 0, 0, 1, INIT)
MAX_RETRANS: Final = Sysctl(NF + "tcp_max_retrans", 3, 0, 255, INIT)
UDP_UNREPLIED: Final = _time("udp_timeout", 30, UDP)
UDP_REPLIED: Final = _time("udp_timeout_stream", 120, UDP)
ICMP: Final = _time("icmp_timeout", 30, "net/netfilter/nf_conntrack_proto_icmp.c:nf_ct_icmp_timeout")
GENERIC: Final = _time("generic_timeout", 600, "net/netfilter/nf_conntrack_proto_generic.c:nf_ct_generic_timeout")
CHECKSUM: Final = Sysctl(NF + "checksum", 1, 0, 1, CORE)
MAX: Final = Sysctl(NF + "max", 262_144, 0, 0x7FFFFFFF, CORE)
ACCT: Final = Sysctl(NF + "acct", 0, 0, 1, CORE)


class TcpCtParams(Params, frozen=True):
    """What the TCP tracker reads. SYN_SENT2 has no sysctl of its own: it is 120 s."""

    syn_sent: Annotated[int, SYN_SENT] = 120 * SECOND
    syn_recv: Annotated[int, SYN_RECV] = 60 * SECOND
    established: Annotated[int, ESTABLISHED] = 432_000 * SECOND
    fin_wait: Annotated[int, FIN_WAIT] = 120 * SECOND
    close_wait: Annotated[int, CLOSE_WAIT] = 60 * SECOND
    last_ack: Annotated[int, LAST_ACK] = 30 * SECOND
    time_wait: Annotated[int, TIME_WAIT] = 120 * SECOND
    close: Annotated[int, CLOSE] = 10 * SECOND
    max_retrans_timeout: Annotated[int, RETRANS] = 300 * SECOND
    unacknowledged: Annotated[int, UNACK] = 300 * SECOND
    tcp_loose: Annotated[bool, LOOSE] = True
    tcp_be_liberal: Annotated[bool, BE_LIBERAL] = False
    tcp_ignore_invalid_rst: Annotated[bool, IGNORE_INVALID_RST] = False
    tcp_max_retrans: Annotated[int, MAX_RETRANS] = 3
    kernel: int = 612


class CtParams(Params, frozen=True):
    """What the rest of connection tracking reads."""

    udp_timeout: Annotated[int, UDP_UNREPLIED] = 30 * SECOND
    udp_timeout_stream: Annotated[int, UDP_REPLIED] = 120 * SECOND
    icmp_timeout: Annotated[int, ICMP] = 30 * SECOND
    generic_timeout: Annotated[int, GENERIC] = 600 * SECOND
    sysctl_checksum: Annotated[bool, CHECKSUM] = True
    nf_conntrack_max: Annotated[int, MAX] = 262_144
    sysctl_acct: Annotated[bool, ACCT] = False
    kernel: int = 612
