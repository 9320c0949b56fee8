"""The sysctls that TCP's connection machine reads, with the ranges that net/ipv4/sysctl_net_ipv4.c enforces."""

from typing import Annotated, Final

from refmodel.profile import Profile, Sysctl
from refmodel.rule import Params
from refmodel.types import Range

IN: Final = "net/ipv4/tcp_ipv4.c:tcp_sk_init"
NET: Final = "net.ipv4."
INT_MAX: Final = 2**31 - 1
DAY: Final = 24 * 3600
YEAR: Final = 366 * DAY  # where the kernel bounds a time only by its integers


class TcpParams(Params, frozen=True):
    """Sysctls (times in us), kernel version and the length of a jiffy (us)."""

    kernel: Annotated[int, Range(601, 699)] = 612
    jiffy: Annotated[int, Range(1_000, 10_000)] = 4_000
    tcp_syn_retries: Annotated[int, Sysctl(NET + "tcp_syn_retries", 6, 1, 127, IN)] = 6
    tcp_syn_linear_timeouts: Annotated[
        int, Sysctl(NET + "tcp_syn_linear_timeouts", 4, 0, 127, IN, changed=(("6.1", 0),))
    ] = 4
    tcp_synack_retries: Annotated[int, Sysctl(NET + "tcp_synack_retries", 5, 0, 255, IN)] = 5
    tcp_retries1: Annotated[int, Sysctl(NET + "tcp_retries1", 3, 0, 255, IN)] = 3
    tcp_retries2: Annotated[int, Sysctl(NET + "tcp_retries2", 15, 0, 255, IN)] = 15
    tcp_orphan_retries: Annotated[int, Sysctl(NET + "tcp_orphan_retries", 0, 0, 255, IN)] = 0
    tcp_fin_timeout: Annotated[int, Sysctl(NET + "tcp_fin_timeout", 60, 0, YEAR, IN, scale=1_000_000)] = 60_000_000
    tcp_keepalive_time: Annotated[int, Sysctl(NET + "tcp_keepalive_time", 7200, 0, YEAR, IN, scale=1_000_000)] = (
        7_200_000_000
    )
    tcp_keepalive_intvl: Annotated[int, Sysctl(NET + "tcp_keepalive_intvl", 75, 0, YEAR, IN, scale=1_000_000)] = (
        75_000_000
    )
    tcp_keepalive_probes: Annotated[int, Sysctl(NET + "tcp_keepalive_probes", 9, 0, 255, IN)] = 9
    tcp_invalid_ratelimit: Annotated[int, Sysctl(NET + "tcp_invalid_ratelimit", 500, 0, INT_MAX, IN, scale=1_000)] = (
        500_000
    )
    tcp_challenge_ack_limit: Annotated[int, Sysctl(NET + "tcp_challenge_ack_limit", INT_MAX, 0, INT_MAX, IN)] = INT_MAX
    tcp_rfc1337: Annotated[bool, Sysctl(NET + "tcp_rfc1337", 0, 0, 255, IN)] = False
    tcp_abort_on_overflow: Annotated[bool, Sysctl(NET + "tcp_abort_on_overflow", 0, 0, 255, IN)] = False
    tcp_syncookies: Annotated[int, Sysctl(NET + "tcp_syncookies", 1, 0, 255, IN)] = 1
    tcp_timestamps: Annotated[int, Sysctl(NET + "tcp_timestamps", 1, 0, 255, IN)] = 1
    tcp_window_scaling: Annotated[bool, Sysctl(NET + "tcp_window_scaling", 1, 0, 255, IN)] = True
    tcp_sack: Annotated[bool, Sysctl(NET + "tcp_sack", 1, 0, 255, IN)] = True
    tcp_shrink_window: Annotated[bool, Sysctl(NET + "tcp_shrink_window", 0, 0, 1, IN)] = False
    tcp_tw_reuse: Annotated[int, Sysctl(NET + "tcp_tw_reuse", 2, 0, 2, IN)] = 2
    somaxconn: Annotated[
        int, Sysctl("net.core.somaxconn", 4096, 0, INT_MAX, "net/core/net_namespace.c:preinit_net")
    ] = 4096


def tcp_params(profile: Profile, **given: int) -> TcpParams:
    """The parameters of `profile`, `jiffy` from its HZ; raises OutOfRange."""
    return profile.params(TcpParams, jiffy=1_000_000 // profile.hz, **given)
