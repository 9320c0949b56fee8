"""What a script's shell commands ask for: one value for each thing that a runner has to do or to look at."""

from msgspec import Struct

from conformance.pkt.look import Look
from conformance.pkt.source import Pos


class Defaults(Struct, frozen=True, tag=True):
    """defaults.sh: every sysctl that the suites pin, metrics flushed, pfifo on the device."""

    path: str


class SetSysctl(Struct, frozen=True, tag=True):
    """`name` with dots; `ignore_missing` is sysctl -e; `restore` asks RestoreSysctls to set the old value again."""

    name: str
    value: str
    ignore_missing: bool = False
    restore: bool = False


class ReadSysctl(Struct, frozen=True, tag=True):
    """A sysctl is read; the command fails where there is none."""

    name: str


class RestoreSysctls(Struct, frozen=True, tag=True):
    """The sysctls set with `restore` get their old values."""


class SetModuleParameter(Struct, frozen=True, tag=True):
    """A file of /sys/module/MODULE/parameters is written."""

    module: str
    name: str
    value: str


class FlushMetrics(Struct, frozen=True, tag=True):
    """The TCP metrics, Fast Open cookies among them, are forgotten."""


class RouteMetric(Struct, frozen=True, tag=True):
    """One metric of a route: a number (times in us), or the name of a feature or a congestion control."""

    name: str
    value: int | str
    lock: bool = False


class RouteChange(Struct, frozen=True, tag=True):
    """`ip route`: add, change, replace or del, for IP `version`."""

    verb: str
    version: int
    destination: str
    via: str | None = None
    dev: str | None = None
    src: str | None = None
    metrics: tuple[RouteMetric, ...] = ()


class SetMtu(Struct, frozen=True, tag=True):
    """A device's MTU in bytes."""

    dev: str
    mtu: int


class Qdisc(Struct, frozen=True, tag=True):
    """`tc qdisc`: add, replace, change or del of a device's root; a flag among the options has no value."""

    verb: str
    dev: str
    kind: str | None = None
    options: tuple[tuple[str, str | None], ...] = ()


class Ethtool(Struct, frozen=True, tag=True):
    """Offloads of a device, on or off."""

    dev: str
    features: tuple[tuple[str, bool], ...]


class NstatReset(Struct, frozen=True, tag=True):
    """Later counters count from here."""


class NstatCheck(Struct, frozen=True, tag=True):
    """Succeeds if a counter whose name contains `counter` grew by `value` since the last reset.

    `update`: the check is itself a reset. `zeros`: counters that did not move are listed too. `absolute`: since boot.
    """

    counter: str
    value: int | None
    update: bool = True
    zeros: bool = False
    absolute: bool = False


class GrepProcNetTcp(Struct, frozen=True, tag=True):
    """Succeeds if a socket listed in `files` has this state and one of its ports is `port`."""

    files: tuple[str, ...]
    state: int | None = None
    port: int | None = None


class FileOp(Struct, frozen=True, tag=True):
    """create (a file of `size` zero bytes) or remove, of a file under /tmp."""

    verb: str
    path: str
    size: int = 0


class Exit(Struct, frozen=True, tag=True):
    """The whole text ends here with this status."""

    status: int


class Sleep(Struct, frozen=True, tag=True):
    """Time passes (us)."""

    us: int


class Nothing(Struct, frozen=True, tag=True):
    """A command without effect here: true, echo to nowhere; false where it `fails`."""

    fails: bool = False


Action = (
    Defaults
    | SetSysctl
    | ReadSysctl
    | RestoreSysctls
    | SetModuleParameter
    | FlushMetrics
    | RouteChange
    | SetMtu
    | Qdisc
    | Ethtool
    | NstatReset
    | NstatCheck
    | GrepProcNetTcp
    | FileOp
    | Nothing
    | Exit
    | Sleep
    | Look
)


class Step(Struct, frozen=True):
    """An action, its place, and what joins the next: ; && || or nothing."""

    action: Action
    at: Pos
    then: str = ""


DEFAULTS: tuple[Action, ...] = (
    FlushMetrics(),
    *(
        SetSysctl(f"net.ipv4.{name}", value)
        for name, value in (
            ("tcp_rmem", "4096 540000 15728640"),
            ("tcp_wmem", "4096 262144 4194304"),
            ("tcp_timestamps", "1"),
            ("tcp_syn_retries", "5"),
            ("tcp_synack_retries", "5"),
            ("tcp_frto", "2"),
            ("tcp_sack", "1"),
            ("tcp_dsack", "1"),
            ("tcp_fack", "0"),
            ("tcp_reordering", "3"),
            ("tcp_congestion_control", "cubic"),
            ("tcp_slow_start_after_idle", "0"),
            ("tcp_early_retrans", "4"),
            ("tcp_recovery", "1"),
            ("tcp_tso_win_divisor", "3"),
            ("tcp_ecn", "0"),
            ("tcp_pacing_ss_ratio", "200"),
            ("tcp_pacing_ca_ratio", "120"),
            ("tcp_notsent_lowat", "4294967295"),
            ("tcp_fastopen", "0x70403"),
            ("tcp_fastopen_key", "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"),
            ("tcp_syncookies", "1"),
        )
    ),
    Qdisc("add", "tun0", "pfifo"),
)
"""What Defaults stands for: tools/testing/selftests/net/packetdrill/defaults.sh."""
