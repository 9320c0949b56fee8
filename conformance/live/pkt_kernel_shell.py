"""The shell vocabulary of scripts, carried out in the run's own namespace: sysctls by their files, ip, tc, ethtool.

Nothing of a script's text reaches a shell: every argument is one that the interpreter has read as a number, a name of a
known form or an address. What a command could change beyond the namespace is refused before anything runs: sysctls
other than net.*, parameters of modules other than those of congestion controls.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from conformance.pkt.ast import Command, Script
from conformance.pkt.look import Files, Look, Nstat, Ss, holds, nstat_lines
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
from conformance.pkt.source import ScriptError, Source

LIMIT: Final = 10.0  # s for a tool
CONGESTION: Final = "net.ipv4.tcp_congestion_control"
AVAILABLE: Final = "tcp_available_congestion_control"
_METRIC_TIMES: Final = frozenset(("rtt", "rttvar", "rto_min"))


def read_command(command: Command, source: Source) -> tuple[Step, ...]:
    """A command's steps; raises ScriptError for what is not interpreted, or would reach beyond the namespace."""
    steps = interpret(command, source)
    for step in steps:
        match step.action:
            case SetSysctl(name=name) | ReadSysctl(name=name) if not name.startswith("net."):
                raise ScriptError(f"the sysctl {name} belongs to the whole machine", step.at, source, "net.*")
            case SetModuleParameter(module=module) if not module.startswith("tcp_"):
                raise ScriptError(f"the module {module} is no congestion control", step.at, source, "tcp_*")
            case _:
                pass
    return steps


def tool(*command: str, given: str = "") -> str:
    """Runs a tool to its end, which may read what is `given`; raises CommandFailed with what it said."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=LIMIT)
    except (OSError, subprocess.TimeoutExpired) as why:
        raise CommandFailed(f"{' '.join(command)}: {why}") from why
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def counters() -> dict[str, int]:
    """The namespace's MIB counters by nstat's names, such as TcpActiveOpens and TcpExtTCPTimeouts."""
    found: dict[str, int] = {}
    for path in (Path("/proc/net/snmp"), Path("/proc/net/netstat")):
        lines = path.read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            prefix, rest = names.split(":", 1)
            found |= {prefix + n: int(v) for n, v in zip(rest.split(), values.split(":", 1)[1].split(), strict=True)}
    six = Path("/proc/net/snmp6")
    for line in six.read_text().splitlines() if six.exists() else ():
        name, value = line.split()
        found[name] = int(value)
    return found


def module_parameters(script: Script) -> Iterator[Path]:
    """The files under /sys/module that a script writes: they belong to the whole machine, and are to be restored."""
    commands = [script.init, script.cleanup, *(e.action for e in script.events)]
    for command in commands:
        if isinstance(command, Command):
            for step in read_command(command, script.source):
                if isinstance(step.action, SetModuleParameter):
                    yield _module_file(step.action)


def slept(script: Script) -> int:
    """How long a script's commands sleep, all together (us)."""
    commands = [script.init, script.cleanup, *(e.action for e in script.events)]
    steps = [s for c in commands if isinstance(c, Command) for s in read_command(c, script.source)]
    return sum(s.action.us for s in steps if isinstance(s.action, Sleep))


def _module_file(action: SetModuleParameter) -> Path:
    return Path("/sys/module") / action.module / "parameters" / action.name


class Shell:
    """Carries out commands, and remembers what later ones restore or compare with."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.saved: dict[str, str] = {}
        self.base: dict[str, int] = {}
        self.congestion = ""

    def run(self, command: Command) -> None:
        """A whole command; raises CommandFailed if the last step that ran failed, ScriptError for an unknown one."""
        failed: CommandFailed | None = None
        skip = False
        for step in read_command(command, self.script.source):
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
        """One action; raises CommandFailed."""
        match action:
            case Defaults():
                for part in DEFAULTS:
                    try:
                        self.do(part)
                    except CommandFailed:
                        # The defaults are a shell script without `set -e`: only its last line's status counts.
                        if part is DEFAULTS[-1]:
                            raise
            case SetSysctl():
                self.set_sysctl(action)
            case ReadSysctl():
                self.read(self.sysctl(action.name))
            case RestoreSysctls():
                for name, value in self.saved.items():
                    self.write(self.sysctl(name), value)
                self.saved.clear()
            case SetModuleParameter():
                self.write(_module_file(action), action.value)
            case FlushMetrics():
                tool("ip", "tcp_metrics", "flush", "all")
            case RouteChange():
                tool(*_route(action))
            case SetMtu():
                tool("ip", "link", "set", "dev", action.dev, "mtu", str(action.mtu))
            case Qdisc():
                options = [w for name, value in action.options for w in (name, value) if w is not None]
                kind = [action.kind] if action.kind else []
                tool("tc", "qdisc", action.verb, "dev", action.dev, "root", *kind, *options)
            case Ethtool():
                words = [w for name, on in action.features for w in (name, "on" if on else "off")]
                tool("ethtool", "-K", action.dev, *words)
            case NstatReset():
                self.base = counters()
            case NstatCheck():
                self.nstat(action)
            case GrepProcNetTcp():
                self.grep(action)
            case FileOp():
                self.file(action)
            case Sleep():
                time.sleep(action.us / 1e6)
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
                lines = [line for path in paths for line in self.read(Path(path)).splitlines()]
            case Nstat() as asked:
                now = counters()
                lines = nstat_lines(now, self.base, asked)
                if asked.update:
                    self.base = now
            case Ss(options=options):
                lines = tool("ss", *([f"-{options}"] if options else [])).splitlines()
        if not holds(lines, action.filters):
            raise CommandFailed("nothing found in:\n" + "\n".join(lines[:20]))

    def sysctl(self, name: str) -> Path:
        """A sysctl's file."""
        return Path("/proc/sys") / name.replace(".", "/")

    def read(self, path: Path) -> str:
        """A file's text; raises CommandFailed."""
        try:
            return path.read_text().strip()
        except OSError as why:
            raise CommandFailed(f"{path}: {why.strerror}") from why

    def write(self, path: Path, value: str) -> None:
        """Writes a file of /proc or /sys; raises CommandFailed."""
        try:
            path.write_text(value)
        except OSError as why:
            raise CommandFailed(f"{path} = {value}: {why.strerror}") from why

    def set_sysctl(self, action: SetSysctl) -> None:
        """Sets a sysctl; one that is missing is no failure where the command says so."""
        path = self.sysctl(action.name)
        if action.ignore_missing and not path.exists():
            return
        if action.restore:
            self.saved.setdefault(action.name, self.read(path))
        if action.name == CONGESTION and action.value in self.read(path.with_name(AVAILABLE)).split():
            self.choose(path, action.value)
        else:
            self.write(path, action.value)

    def choose(self, path: Path, name: str) -> None:
        """Sets the namespace's congestion control, or notes it for each socket.

        A namespace may choose only what the initial one allows to all; a privileged socket may choose whatever there
        is, and hands it down to its children. That leaves the machine as it was. net/ipv4/tcp_cong.c:
        tcp_set_default_congestion_control, tcp_set_congestion_control, tcp_ca_openreq_child.
        """
        try:
            path.write_text(name)
            self.congestion = ""
        except PermissionError:
            self.congestion = name
        except OSError as why:
            raise CommandFailed(f"{path} = {name}: {why.strerror}") from why

    def nstat(self, action: NstatCheck) -> None:
        """Compares counters' growth; raises CommandFailed with what they are."""
        now = counters()
        base = {} if action.absolute else self.base
        grown = {n: v - base.get(n, 0) for n, v in now.items() if action.counter in n}
        seen = {n: v for n, v in grown.items() if v or action.zeros}
        if action.update:
            self.base = now
        if not any(action.value is None or v == action.value for v in seen.values()):
            said = ", ".join(f"{n} {v}" for n, v in grown.items()) or "no such counter"
            raise CommandFailed(f"nstat: {action.counter} is not {action.value}: {said}")

    def grep(self, action: GrepProcNetTcp) -> None:
        """Looks for a socket; raises CommandFailed if there is none."""
        for name in action.files:
            for line in self.read(Path(name)).splitlines()[1:]:
                words = line.split()
                ports = {int(w.rsplit(":", 1)[1], 16) for w in words[1:3]}
                state = action.state is None or int(words[3], 16) == action.state
                if state and (action.port is None or action.port in ports):
                    return
        raise CommandFailed(f"grep: no such socket in {', '.join(action.files)}")

    def file(self, action: FileOp) -> None:
        """Makes or removes a file in the run's own /tmp."""
        if not re.fullmatch(r"/tmp/[A-Za-z0-9_.$-]+", action.path):
            raise CommandFailed(f"{action.path} is no file of /tmp")
        try:
            if action.verb == "create":
                with open(action.path, "wb") as f:
                    f.truncate(action.size)
            else:
                Path(action.path).unlink(missing_ok=True)
        except OSError as why:
            raise CommandFailed(f"{action.path}: {why.strerror}") from why


def _route(action: RouteChange) -> list[str]:
    words = ["ip", "-6" if action.version == 6 else "-4", "route", action.verb, action.destination]
    for name in ("via", "dev", "src"):
        value = getattr(action, name)
        if value is not None:
            words += [name, value]
    for metric in action.metrics:
        value = f"{int(metric.value) // 1000}ms" if metric.name in _METRIC_TIMES else str(metric.value)
        words += [metric.name, *(["lock"] if metric.lock else []), value]
    return words
