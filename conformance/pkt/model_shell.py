"""The shell vocabulary of scripts, carried out on the model: sysctls, routes, queueing, counters, files.

A command that the vocabulary has and the model does not is refused with its line. A sysctl that the kernel has and no
function of the model reads may be set and read; one that the kernel lacks makes the command fail, as it would there.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from conformance.pkt import model_text
from conformance.pkt.ast import Command, Script
from conformance.pkt.constants import word_set
from conformance.pkt.look import Files, Look, Nstat, Ss, holds, nstat_lines
from conformance.pkt.mib import NAMES, NETSTAT, SNMP
from conformance.pkt.outcome import CommandFailed
from conformance.pkt.shell import interpret
from conformance.pkt.shell_actions import (
    DEFAULTS,
    Action,
    Defaults,
    Ethtool,
    Exit,
    FileOp,
    FlushMetrics,
    GrepProcNetTcp,
    Nothing,
    NstatCheck,
    NstatReset,
    Qdisc,
    ReadSysctl,
    RestoreSysctls,
    RouteChange,
    SetModuleParameter,
    SetMtu,
    SetSysctl,
    Sleep,
    Step,
)
from conformance.pkt.variant import Config
from refmodel.profile import OutOfRange, UnknownSysctl
from refmodel.rule import NotModelled
from refmodel.tcp.whole import route
from refmodel.tcp.whole.calls import Process
from refmodel.tcp.whole.net import Net
from refmodel.tcp.whole.params import sysctl_fields
from refmodel.tcp.whole.sock import RequestSock, TimewaitSock

CONGESTION: Final = "net.ipv4.tcp_congestion_control"
FASTOPEN_KEY: Final = "net.ipv4.tcp_fastopen_key"
UNREAD: Final = word_set("""
    inet_peer_threshold inet_peer_minttl inet_peer_maxttl tcp_low_latency tcp_available_ulp udp_mem
    icmp_echo_ignore_all icmp_echo_enable_probe icmp_echo_ignore_broadcasts icmp_ignore_bogus_error_responses
    icmp_errors_use_inbound_ifaddr icmp_ratelimit icmp_ratemask icmp_msgs_per_sec icmp_msgs_burst ping_group_range
    ip_dynaddr ip_early_demux udp_early_demux tcp_early_demux ip_local_reserved_ports ip_forward
    ip_forward_use_pmtu ip_forward_update_priority ip_nonlocal_bind fwmark_reflect tcp_fwmark_accept tcp_l3mdev_accept
    tcp_available_congestion_control tcp_allowed_congestion_control fib_multipath_use_neigh fib_multipath_hash_policy
    ip_unprivileged_port_start tcp_ehash_entries tcp_child_ehash_entries udp_rmem_min udp_wmem_min
    tcp_plb_idle_rehash_rounds tcp_plb_rehash_rounds tcp_plb_suspend_rto_sec tcp_plb_cong_thresh tcp_mem
    netdev_max_backlog default_qdisc netdev_budget netdev_budget_usecs max_skb_frags high_order_alloc_disable
    gro_normal_batch busy_poll busy_read rps_sock_flow_entries tstamp_allow_data netdev_tstamp_prequeue txrehash
    tcp_comp_sack_rtt_percent
    wmem_default rmem_default dev_weight skb_defer_max warnings message_cost message_burst
""")
"""Sysctls of net.ipv4 and net.core that the kernel has and no function of the model reads."""
SINCE: Final = {
    "tcp_plb_enabled": 602,
    "tcp_plb_idle_rehash_rounds": 602,
    "tcp_plb_rehash_rounds": 602,
    "tcp_plb_suspend_rto_sec": 602,
    "tcp_plb_cong_thresh": 602,
    "tcp_syn_linear_timeouts": 605,
    "tcp_pingpong_thresh": 607,
    "tcp_backlog_ack_defer": 607,
    "tcp_rto_min_us": 611,
    "tcp_rto_max_ms": 615,
    "tcp_tw_reuse_delay": 614,
    "tcp_rcvbuf_low_rtt": 619,
    "tcp_ecn_option": 618,
    "tcp_ecn_option_beacon": 618,
    "tcp_comp_sack_rtt_percent": 619,
}
"""Sysctls that came after the oldest kernel, and with which version."""
METRICS: Final = (
    "advmss", "cwnd", "fastopen_no_cookie", "features", "hoplimit", "initcwnd", "initrwnd", "mtu", "quickack",
    "reordering", "rto_min", "rtt", "rttvar", "ssthresh", "window",
)  # fmt: skip
FEATURES: Final = {"ecn": 1, "tcp_usec_ts": 16}
HZ_OF_METRIC: Final = {"rtt": 8, "rttvar": 4}  # iproute2 keeps a round trip in 1/8 ms, its variance in 1/4 ms
TSO: Final = frozenset(("tso", "tx-tcp-segmentation", "tx-tcp6-segmentation"))


def read_command(command: Command, script: Script) -> tuple[Step, ...]:
    """A command's steps; raises ScriptError for what is not interpreted."""
    return interpret(command, script.source)


class ModelShell:
    """Carries out commands, and remembers what later ones restore or compare with."""

    def __init__(
        self, script: Script, config: Config, process: Process, pass_time: Callable[[int], None] = lambda us: None
    ) -> None:
        self.script, self.config, self.pass_time = script, config, pass_time
        self.process = process
        self.net: Net = process.net
        self.saved: dict[str, str] = {}
        self.unread: dict[str, str] = {}
        self.base: dict[str, int] = {}
        self.tso = True

    def run(self, command: Command) -> None:
        """A whole command; raises CommandFailed if the last step that ran failed, ScriptError, NotModelled."""
        failed: CommandFailed | None = None
        skip = False
        for step in read_command(command, self.script):
            if not skip and isinstance(step.action, Exit):
                if step.action.status:
                    raise CommandFailed(f"exit {step.action.status}")
                return
            if not skip:
                try:
                    self.do(step.action)
                    failed = None
                except CommandFailed as why:
                    failed = why
            skip = (step.then == "&&" and failed is not None) or (step.then == "||" and failed is None)
        if failed is not None:
            raise failed

    def do(self, action: Action) -> None:
        """One action; raises CommandFailed, NotModelled."""
        match action:
            case Defaults():
                self.defaults()
            case SetSysctl():
                if action.restore:
                    self.saved.setdefault(action.name, self.read_sysctl(action.name))
                if not (action.ignore_missing and not self.has_sysctl(action.name)):
                    self.write_sysctl(action.name, action.value)
            case ReadSysctl():
                self.read_sysctl(action.name)
            case RestoreSysctls():
                for name, value in self.saved.items():
                    self.write_sysctl(name, value)
                self.saved.clear()
            case SetModuleParameter():
                self.module_parameter(action)
            case FlushMetrics():
                self.net.tcp_metrics.clear()
            case RouteChange():
                self.route(action)
            case SetMtu():
                if action.dev == "tun0":
                    route.set_dev_mtu(self.net, action.mtu)
            case Qdisc():
                self.qdisc(action)
            case Ethtool():
                for name, on in action.features:
                    if name in TSO:
                        self.tso = on
            case NstatReset():
                self.base = dict(self.net.mib)
            case NstatCheck():
                self.nstat(action)
            case GrepProcNetTcp():
                self.grep(action)
            case FileOp():
                self.file(action)
            case Sleep():
                self.pass_time(action.us)
            case Look():
                self.look(action)
            case Nothing(fails=True):
                raise CommandFailed("false")
            case _:
                pass

    def look(self, action: Look) -> None:
        """Looks at a text; raises CommandFailed where the last grep finds nothing."""
        match action.source:
            case Files(paths=paths):
                lines = [line for path in paths for line in self.text(path)]
            case Nstat() as asked:
                known = [g + n for g in (*SNMP, *NETSTAT) for n in NAMES.get(g, ()) if g + n not in model_text.FIXED]
                now = {n: self.net.mib.get(n, 0) for n in dict.fromkeys((*known, *sorted(self.net.mib)))}
                lines = nstat_lines(now, self.base, asked)
                if asked.update:
                    self.base = now
            case Ss() as asked:
                lines = model_text.ss(self.net, asked)
        if not holds(lines, action.filters):
            raise CommandFailed("nothing found in:\n" + "\n".join(lines[:20]))

    def text(self, path: str) -> list[str]:
        """The lines of a file; raises CommandFailed."""
        if path.startswith("/proc/net/"):
            return model_text.proc_net(self.net, path.removeprefix("/proc/net/"))
        return [self.read_sysctl(path.removeprefix("/proc/sys/").replace("/", "."))]

    def defaults(self) -> None:
        """The defaults are a shell script without `set -e`: only its last line's status counts."""
        for part in DEFAULTS:
            try:
                self.do(part)
            except CommandFailed:
                if part is DEFAULTS[-1]:
                    raise

    # Sysctls

    def has_sysctl(self, name: str) -> bool:
        """Whether this kernel has it."""
        last = name.removeprefix("net.ipv4.").removeprefix("net.core.")
        if self.net.p.kernel < SINCE.get(last, 0):
            return False
        fields = sysctl_fields()
        known = name in fields or f"{name}[0]" in fields or name in (CONGESTION, FASTOPEN_KEY) or last in UNREAD
        return known or name.startswith(("net.ipv6.", "net.ipv4.conf.", "net.ipv4.neigh.", "net.ipv4.route."))

    def write_sysctl(self, name: str, value: str) -> None:
        """Sets a sysctl; raises CommandFailed."""
        if not self.has_sysctl(name):
            raise CommandFailed(
                f"sysctl {name}: Linux {self.net.p.kernel // 100}.{self.net.p.kernel % 100} has none of that name"
            )
        try:
            self.net.sysctl(name, value)
        except UnknownSysctl:
            self.unread[name] = value
        except (OutOfRange, ValueError) as why:
            raise CommandFailed(f"{name} = {value}: Invalid argument ({why})") from why

    def read_sysctl(self, name: str) -> str:
        """A sysctl's value; raises CommandFailed."""
        if not self.has_sysctl(name):
            raise CommandFailed(f"sysctl {name}: No such file or directory")
        if name == CONGESTION:
            return self.net.tcp_congestion_control
        fields = sysctl_fields()
        if name in fields:
            return str(getattr(self.net.p, fields[name][0]))
        parts = [str(getattr(self.net.p, fields[f"{name}[{i}]"][0])) for i in range(3) if f"{name}[{i}]" in fields]
        return " ".join(parts) or self.unread.get(name, "")

    def module_parameter(self, action: SetModuleParameter) -> None:
        """Sets a parameter of a congestion control; raises CommandFailed, NotModelled."""
        if (action.module, action.name) != ("tcp_cubic", "hystart_detect"):
            raise NotModelled(f"the parameter {action.name} of the module {action.module}")
        if not action.value.isdigit():
            raise CommandFailed(f"hystart_detect = {action.value}: Invalid argument")
        self.net.hystart_detect = int(action.value)

    # The device and its routes

    def route(self, action: RouteChange) -> None:
        """Changes the route to the other host; one to elsewhere changes nothing here."""
        remote = ipaddress.ip_address(self.config.remote_ip)
        if action.destination != "default":
            network = ipaddress.ip_network(action.destination, strict=False)
            if network.version != remote.version or remote not in network:
                return
        metrics: dict[str, Any] = dict.fromkeys(METRICS, 0) | {"cc": ""}
        lock: set[str] = set()
        for metric in action.metrics if action.verb != "del" else ():
            name, value = metric.name, metric.value
            if metric.lock:
                lock.add(name)
            if name == "congctl":
                metrics["cc"] = value
            elif name == "features":
                if value not in FEATURES:
                    raise NotModelled(f"the route feature {value}")
                metrics["features"] |= FEATURES[str(value)]
            elif name in HZ_OF_METRIC:
                metrics[name] = int(value) // 1000 * HZ_OF_METRIC[name]
            else:
                metrics[name] = int(value)
        route.change_route(self.net, **metrics, lock=lock)

    def qdisc(self, action: Qdisc) -> None:
        """Changes what stands before the device; pfifo and pfifo_fast let everything through at once."""
        if action.dev != "tun0":
            return
        if action.verb == "del" or action.kind != "fq":
            self.net.qdisc = None
            return
        from refmodel.tcp.whole import fq

        if self.net.qdisc is None or action.verb in ("add", "replace"):
            self.net.qdisc = fq.Fq(self.net, self.config.mtu)
        for name, value in action.options:
            self.fq_option(name, value)

    def fq_option(self, name: str, value: str | None) -> None:
        """One option of fq; raises NotModelled."""
        if name == "maxrate":
            found = re.fullmatch(r"([0-9]+)([kmgt]?)(bit|bps)?", (value or "").lower())
            if found is None:
                raise CommandFailed(f"tc: {value} is no rate")
            rate = int(found[1]) * 1000 ** " kmgt".index(found[2] or " ")
            self.net.qdisc.flow_max_rate = rate if found[3] == "bps" else rate // 8
        elif name in ("quantum", "initial_quantum") and value is not None and value.isdigit():
            setattr(self.net.qdisc, name, int(value))
        elif name not in ("limit", "flow_limit", "buckets", "pacing"):
            raise NotModelled(f"fq with {name} {value or ''}".rstrip())

    # Looking

    def nstat(self, action: NstatCheck) -> None:
        """Compares counters' growth; raises CommandFailed with what they are."""
        now = dict(self.net.mib)
        base = {} if action.absolute else self.base
        grown = {n: v - base.get(n, 0) for n, v in now.items() if action.counter in n}
        if not grown and action.zeros:
            grown = {action.counter: 0}
        seen = {n: v for n, v in grown.items() if v or action.zeros}
        if action.update:
            self.base = now
        if not any(action.value is None or v == action.value for v in seen.values()):
            said = ", ".join(f"{n} {v}" for n, v in grown.items()) or "it did not move"
            raise CommandFailed(f"nstat: {action.counter} is not {action.value}: {said}")

    def sockets(self) -> Iterator[tuple[int, int, int, int]]:
        """What /proc/net/tcp and tcp6 list: family, state, local and remote port."""
        for listeners in self.net.lhash.values():
            for sk in listeners:
                yield sk.sk_family, int(sk.sk_state), sk.inet_num, 0
        for s in self.net.ehash.values():
            if isinstance(s, RequestSock):
                yield s.ireq_family, 3, s.ir_num, s.ir_rmt_port
            elif isinstance(s, TimewaitSock):
                yield s.sk_family, int(s.tw_substate), s.tw_num, s.tw_dport
            else:
                yield s.sk_family, int(s.sk_state), s.inet_num, s.inet_dport

    def grep(self, action: GrepProcNetTcp) -> None:
        """Looks for a socket; raises CommandFailed if there is none."""
        families = {10 if name.endswith("tcp6") else 2 for name in action.files}
        for family, state, local, remote in self.sockets():
            right = family in families and (action.state is None or state == action.state)
            if right and (action.port is None or action.port in (local, remote)):
                return
        raise CommandFailed(f"grep: no such socket in {', '.join(action.files)}")

    def file(self, action: FileOp) -> None:
        """Makes or removes one of the process's files."""
        if action.verb == "create":
            self.process.files[action.path] = action.size
        else:
            self.process.files.pop(action.path, None)
