"""The shell vocabulary of scripts, interpreted and never executed.

`interpret` turns a back-quoted text into typed actions for whoever runs the script; a command or an argument that it
does not know is refused with its place.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final

from conformance.pkt.ast import Command
from conformance.pkt.shell_actions import (
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
    RouteMetric,
    SetModuleParameter,
    SetMtu,
    SetSysctl,
    Sleep,
    Step,
)
from conformance.pkt.shell_look import SOURCES, look
from conformance.pkt.shell_words import Pipeline, Simple, Word, pipelines
from conformance.pkt.source import ScriptError, Source


def interpret(command: Command, source: Source | None = None) -> tuple[Step, ...]:
    """A shell text's actions in order; raises ScriptError for what is outside the vocabulary."""
    steps: list[Step] = []
    for pipeline in pipelines(command, source):
        actions = _Interpreter(source).pipeline(pipeline)
        steps += [Step(a, pipeline.commands[0].at, "&&") for a in actions[:-1]]
        steps.append(Step(actions[-1], pipeline.commands[0].at, pipeline.then))
    return tuple(steps)


_SYSCTL: Final = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_:@-]+)+")
_PROC: Final = "/proc/sys/"
_MODULE: Final = re.compile(r"/sys/module/(\w+)/parameters/(\w+)")
_DEVICE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_RESTORE: Final = "/tmp/sysctl_restore_$PPID.sh"
_TIME_US: Final = {"ms": 1000, "msec": 1000, "msecs": 1000, "s": 1_000_000, "sec": 1_000_000, "secs": 1_000_000}
_ROUTE_NUMBERS: Final = frozenset(
    ("advmss", "mtu", "window", "ssthresh", "cwnd", "initcwnd", "initrwnd", "reordering", "hoplimit", "quickack")
) | {"fastopen_no_cookie"}
_ROUTE_TIMES: Final = frozenset(("rtt", "rttvar", "rto_min"))
_ROUTE_WORDS: Final = frozenset(("features", "congctl"))
_ROUTE_VERBS: Final = {"add": "add", "change": "change", "replace": "replace", "del": "del", "delete": "del"}
_QDISC_VERBS: Final = {"add": "add", "replace": "replace", "change": "change", "del": "del", "delete": "del"}
_QDISC_OPTIONS: Final = {
    "pfifo": frozenset(("limit",)),
    "fq": frozenset(("limit", "flow_limit", "quantum", "initial_quantum", "maxrate", "buckets", "ce_threshold")),
}
_QDISC_FLAGS: Final = frozenset(("pacing", "nopacing"))
_SIZES: Final = {"": 1, "c": 1, "k": 1024, "K": 1024, "M": 1024 * 1024}
_COUNTER: Final = re.compile(r"[A-Z][A-Za-z0-9]+")
_COUNTER_VALUE: Final = re.compile(r"([A-Z][A-Za-z]+)(?: +\*?|\\s[+*]|\.\*| \*)+([0-9]{1,18})(?: |\\s)*")
_SLEEP: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})([smhd]?)")
_SLEEP_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_SLEEP: Final = 3600 * 1_000_000  # us
LARGEST_FILE: Final = 1 << 30


class _Args:
    """A command's words from the second on, taken one by one."""

    def __init__(self, command: Simple, source: Source | None) -> None:
        self.words, self.source, self.index = command.words, source, 1

    def __bool__(self) -> bool:
        return self.index < len(self.words)

    def refuse(self, expected: str, back: int = 0) -> ScriptError:
        """The word that was taken last (or that comes next) is not what the vocabulary has."""
        index = self.index - back
        name = self.words[0].text
        if index >= len(self.words):
            return ScriptError(f"{name} ends too early", self.words[-1].at, self.source, expected)
        return ScriptError(f"{name}: {self.words[index].text[:60]!r} is not interpreted", self.words[index].at,
                           self.source, expected)  # fmt: skip

    def take(self, expected: str) -> str:
        if not self:
            raise self.refuse(expected)
        self.index += 1
        return self.words[self.index - 1].text

    def matching(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        found = pattern.fullmatch(self.take(expected))
        if not found:
            raise self.refuse(expected, 1)
        return found

    def number(self, what: str, high: int = (1 << 32) - 1) -> int:
        text = self.take(what)
        if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) > high:
            raise self.refuse(what, 1)
        return int(text)

    def skip(self, *texts: str) -> bool:
        if self and self.words[self.index].text in texts:
            self.index += 1
            return True
        return False

    def flags(self, known: str) -> str:
        """The one-letter options that come next."""
        out = ""
        while self and re.fullmatch(r"-[A-Za-z]+", self.words[self.index].text):
            letters = self.take("")[1:]
            if not set(letters) <= set(known):
                raise self.refuse(f"options {' '.join('-' + k for k in known)}", 1)
            out += letters
        return out

    def end(self) -> None:
        if self:
            raise self.refuse("the end of the command")


class _Interpreter:
    def __init__(self, source: Source | None) -> None:
        self.source = source

    def pipeline(self, pipeline: Pipeline) -> list[Action]:
        first, *rest = pipeline.commands
        name = first.words[0].text
        if rest or name in ("nstat", "grep", "egrep", "fgrep", "ss") or (name == "cat" and _looks(first)):
            for command in pipeline.commands:
                self.quiet(command)
            return [self.look(pipeline)]
        base = name.rsplit("/", 1)[-1]
        if name == _RESTORE:
            handler: Callable[[Simple], list[Action]] = self.restore
        elif base in ("defaults.sh", "set_sysctls.py") and name != base:
            handler = self.defaults if base == "defaults.sh" else self.set_sysctls
        elif name in self.commands:
            handler = self.commands[name]
        else:
            known = ", ".join(sorted({*self.commands, "nstat", "grep", "./defaults.sh", "./set_sysctls.py"}))
            raise self.refuse(first.words[0], f"known are {known}; nothing is ever executed")
        if name != "echo":
            self.quiet(first)
        return handler(first)

    def look(self, pipeline: Pipeline) -> Action:
        """What a pipe looks at: the two forms that the suites have, or any other."""
        first, *rest = pipeline.commands
        name = first.words[0].text
        if name not in SOURCES:
            raise self.refuse(rest[0].words[0], f"pipes begin with {', '.join(SOURCES)}")
        try:
            if name == "nstat":
                return self.nstat(first, rest)
            if name == "grep":
                return self.grep(first, rest)
        except ScriptError:
            return look(pipeline, self.unknown)
        return look(pipeline, self.unknown)

    def unknown(self, word: Word, help: str) -> ScriptError:
        return ScriptError(f"{word.text[:60]!r} is not interpreted", word.at, self.source, help=help)

    def refuse(self, word: Word, help: str) -> ScriptError:
        return ScriptError(f"shell command {word.text[:60]!r} is not interpreted", word.at, self.source, help=help)

    def quiet(self, command: Simple) -> None:
        """Output may go nowhere, or where it would go anyway."""
        for r in command.redirects:
            if r.operator != "2>&1" and r.target != "/dev/null":
                raise ScriptError(f"output to {r.target[:60]!r} is not interpreted", r.at, self.source, "/dev/null")

    def args(self, command: Simple) -> _Args:
        return _Args(command, self.source)

    # Scripts that come with the suites

    def defaults(self, command: Simple) -> list[Action]:
        self.args(command).end()
        return [Defaults(command.words[0].text)]

    def restore(self, command: Simple) -> list[Action]:
        self.args(command).end()
        return [RestoreSysctls()]

    def set_sysctls(self, command: Simple) -> list[Action]:
        args = self.args(command)
        out: list[Action] = []
        while not out or args:
            name, equals, value = args.take("/proc/sys/NAME=VALUE").partition("=")
            if not equals or not name.startswith(_PROC):
                raise args.refuse("/proc/sys/NAME=VALUE", 1)
            out.append(SetSysctl(self.sysctl_name(args, name.removeprefix(_PROC)), _value(value), restore=True))
        return out

    # Sysctls and files

    def sysctl_name(self, args: _Args, name: str) -> str:
        if not _SYSCTL.fullmatch(name):
            raise args.refuse("a sysctl's name such as net.ipv4.tcp_ecn", 1)
        return name.replace("/", ".")

    def sysctl(self, command: Simple) -> list[Action]:
        args = self.args(command)
        flags = args.flags("qewn")
        out: list[Action] = []
        while not out or args:
            name, equals, value = args.take("NAME=VALUE").partition("=")
            name = self.sysctl_name(args, name)
            if equals:
                out.append(SetSysctl(name, _value(value), ignore_missing="e" in flags))
            else:
                out.append(ReadSysctl(name))
        return out

    def echo(self, command: Simple) -> list[Action]:
        args = self.args(command)
        args.flags("n")
        value = " ".join(w.text for w in command.words[args.index :])
        files = [r for r in command.redirects if r.operator != "2>&1" and r.target != "/dev/null"]
        if not files:
            return [Nothing()]
        at, target = files[0].at, files[0].target
        if len(files) == 1 and files[0].operator == ">":
            if target.startswith(_PROC) and _SYSCTL.fullmatch(target.removeprefix(_PROC)):
                return [SetSysctl(target.removeprefix(_PROC).replace("/", "."), _value(value))]
            if found := _MODULE.fullmatch(target):
                return [SetModuleParameter(found[1], found[2], _value(value))]
        expected = "/proc/sys/NAME or /sys/module/MODULE/parameters/NAME"
        raise ScriptError(f"echo to {target[:60]!r} is not interpreted", at, self.source, expected)

    def cat(self, command: Simple) -> list[Action]:
        args = self.args(command)
        out: list[Action] = []
        while not out or args:
            name = args.take("/proc/sys/NAME")
            if not name.startswith(_PROC):
                raise args.refuse("/proc/sys/NAME", 1)
            out.append(ReadSysctl(self.sysctl_name(args, name.removeprefix(_PROC))))
        return out

    def path(self, args: _Args, text: str) -> str:
        if not re.fullmatch(r"/tmp/[A-Za-z0-9_.$-]+", text) or "/.." in text:
            raise args.refuse("a file in /tmp", 1)
        return text

    def dd(self, command: Simple) -> list[Action]:
        args = self.args(command)
        found = {"bs": 512, "count": 0}
        path = ""
        while args:
            name, _, value = args.take("").partition("=")
            if name in found:
                match = re.fullmatch(r"([0-9]{1,10})([ckKM]?)", value)
                if not match:
                    raise args.refuse(f"{name}=NUMBER", 1)
                found[name] = int(match[1]) * _SIZES[match[2]]
            elif name == "of":
                path = self.path(args, value)
            elif (name, value) not in (("if", "/dev/zero"), ("status", "none")):
                raise args.refuse("if=/dev/zero of=/tmp/FILE bs=N count=N status=none", 1)
        size = found["bs"] * found["count"]
        if not path or not 0 < size <= LARGEST_FILE:
            raise ScriptError("dd without of= or count=, or with too much", command.at, self.source,
                              f"if=/dev/zero of=/tmp/FILE bs=N count=N, at most {LARGEST_FILE} bytes")  # fmt: skip
        return [FileOp("create", path, size)]

    def rm(self, command: Simple) -> list[Action]:
        args = self.args(command)
        args.flags("f")
        out: list[Action] = []
        while not out or args:
            out.append(FileOp("remove", self.path(args, args.take("a file in /tmp"))))
        return out

    def true(self, command: Simple) -> list[Action]:
        return [Nothing()]

    def false(self, command: Simple) -> list[Action]:
        return [Nothing(fails=True)]

    def exit(self, command: Simple) -> list[Action]:
        args = self.args(command)
        status = args.number("a status of 0 to 255", 255) if args else 0
        args.end()
        return [Exit(status)]

    def sleep(self, command: Simple) -> list[Action]:
        args = self.args(command)
        total = 0
        while not total or args:
            found = args.matching(_SLEEP, "a time such as 0.5, 2s or 1m")
            total += int(float(found[1]) * _SLEEP_UNITS[found[2]] * 1_000_000)
            if not args:
                break
        if total > LONGEST_SLEEP:
            raise args.refuse("at most an hour", 1)
        return [Sleep(total)]

    # Network

    def ip(self, command: Simple) -> list[Action]:
        args = self.args(command)
        version = 6 if args.skip("-6") else 4
        args.skip("-4")
        if args.skip("tcp_metrics", "tcpmetrics"):
            if not args.skip("flush"):
                raise args.refuse("flush")
            args.skip("all")
            args.end()
            return [FlushMetrics()]
        if args.skip("link"):
            if not args.skip("set"):
                raise args.refuse("set")
            args.skip("dev")
            dev = args.matching(_DEVICE, "a device").group()
            if not args.skip("mtu"):
                raise args.refuse("mtu NUMBER")
            mtu = args.number("an MTU", 65535)
            args.end()
            return [SetMtu(dev, mtu)]
        if args.skip("route", "ro", "r"):
            return [self.route(args, version)]
        raise args.refuse("tcp_metrics flush, link set or route")

    def route(self, args: _Args, version: int) -> RouteChange:
        verb = args.take("add, change, replace or del")
        if verb not in _ROUTE_VERBS:
            raise args.refuse("add, change, replace or del", 1)
        destination = args.take("a destination")
        if destination != "default":
            version = self.network(args, destination)
        named: dict[str, str] = {}
        metrics: list[RouteMetric] = []
        while args:
            word = args.take("")
            if word in ("via", "src"):
                named[word] = args.take("an address")
                self.network(args, named[word])
            elif word == "dev":
                named[word] = args.matching(_DEVICE, "a device").group()
            elif word in ("proto", "scope"):
                args.take(f"a {word}")
            else:
                metrics.append(self.metric(args, word))
        return RouteChange(
            _ROUTE_VERBS[verb], version, destination, named.get("via"), named.get("dev"), named.get("src"),
            tuple(metrics),
        )  # fmt: skip

    def network(self, args: _Args, text: str) -> int:
        try:
            return ipaddress.ip_network(text, strict=False).version
        except ValueError as why:
            raise args.refuse("an address or a network", 1) from why

    def metric(self, args: _Args, name: str) -> RouteMetric:
        if name in _ROUTE_NUMBERS:
            lock = args.skip("lock")
            return RouteMetric(name, args.number(f"the {name}"), lock)
        if name in _ROUTE_TIMES:
            lock = args.skip("lock")
            found = args.matching(re.compile(r"([0-9]{1,9})(ms|msecs?|s|secs?)"), "a time such as 200ms")
            return RouteMetric(name, int(found[1]) * _TIME_US[found[2]], lock)
        if name in _ROUTE_WORDS:
            lock = args.skip("lock")
            return RouteMetric(name, args.matching(re.compile(r"[a-z0-9_]+"), f"a word for {name}").group(), lock)
        raise args.refuse("via, dev, src or a metric such as advmss N, mtu lock N", 1)

    def tc(self, command: Simple) -> list[Action]:
        args = self.args(command)
        if not args.skip("qdisc"):
            raise args.refuse("qdisc")
        verb = args.take("add, replace or del")
        if verb not in _QDISC_VERBS:
            raise args.refuse("add, replace, change or del", 1)
        if not args.skip("dev"):
            raise args.refuse("dev")
        dev = args.matching(_DEVICE, "a device").group()
        if not args.skip("root"):
            raise args.refuse("root")
        kind: str | None = None
        if args or _QDISC_VERBS[verb] != "del":
            kind = args.take("pfifo or fq")
            if kind not in _QDISC_OPTIONS:
                raise args.refuse("pfifo or fq", 1)
        options: list[tuple[str, str | None]] = []
        while args and kind:
            name = args.take("")
            if kind == "fq" and name in _QDISC_FLAGS:
                options.append((name, None))
            elif name in _QDISC_OPTIONS[kind]:
                options.append((name, args.matching(re.compile(r"[0-9]{1,12}\w{0,8}"), "a number").group()))
            else:
                raise args.refuse(f"an option of {kind}", 1)
        return [Qdisc(_QDISC_VERBS[verb], dev, kind, tuple(options))]

    def ethtool(self, command: Simple) -> list[Action]:
        args = self.args(command)
        if not args.skip("-K", "--offload", "--features"):
            raise args.refuse("-K")
        dev = args.matching(_DEVICE, "a device").group()
        features: list[tuple[str, bool]] = []
        while not features or args:
            name = args.matching(re.compile(r"[a-z][a-z0-9-]*"), "a feature such as tso").group()
            features.append((name, args.matching(re.compile("on|off"), "on or off").group() == "on"))
        return [Ethtool(dev, tuple(features))]

    # What a script looks at

    def patterns(self, commands: list[Simple]) -> Iterator[tuple[str, _Args]]:
        """The pattern of each grep of a pipe."""
        for command in commands:
            if command.words[0].text != "grep":
                raise self.refuse(command.words[0], "the output of nstat and grep goes through grep only")
            args = self.args(command)
            args.flags("q")
            yield args.take("a pattern"), args
            args.end()

    def nstat(self, first: Simple, rest: list[Simple]) -> Action:
        args = self.args(first)
        flags = args.flags("nsazr")
        name = args.matching(_COUNTER, "a counter's name").group() if args else ""
        args.end()
        if not rest:
            if "s" in flags or name:
                raise ScriptError("this nstat has no effect", first.at, self.source, "nstat -n, or nstat | grep ...")
            return NstatReset()
        value: int | None = None
        for pattern, grep in self.patterns(rest):
            if found := _COUNTER_VALUE.fullmatch(pattern):
                name, value = found[1], int(found[2])
            elif found := re.fullmatch(r"\s*([0-9]{1,18})\s*", pattern):
                value = int(found[1])
            elif _COUNTER.fullmatch(pattern.strip()):
                name = pattern.strip()
            else:
                raise grep.refuse("a counter's name or its value between blanks", 1)
        if not name:
            raise ScriptError("nstat without a counter's name", first.at, self.source, "nstat | grep TcpExtNAME | ...")
        return NstatCheck(name, value, update="s" not in flags, zeros="z" in flags, absolute="a" in flags)

    def grep(self, first: Simple, rest: list[Simple]) -> Action:
        args = self.args(first)
        args.flags("q")
        patterns = [(args.take("a pattern"), args.words[args.index - 1].at)]
        files: list[str] = []
        while not files or args:
            files.append(args.matching(re.compile("/proc/net/tcp6?"), "/proc/net/tcp or /proc/net/tcp6").group())
        patterns += [(pattern, grep.words[grep.index - 1].at) for pattern, grep in self.patterns(rest)]
        state: int | None = None
        port: int | None = None
        for pattern, at in patterns:
            if found := re.fullmatch(" (0[0-9A-F]) ", pattern):
                state = int(found[1], 16)
            elif found := re.fullmatch(":([0-9A-F]{4}) ?", pattern):
                port = int(found[1], 16)
            else:
                expected = 'a state " 0A " or a port ":1F90"'
                raise ScriptError(f"grep for {pattern[:60]!r} is not interpreted", at, self.source, expected)
        return GrepProcNetTcp(tuple(files), state, port)

    @property
    def commands(self) -> dict[str, Callable[[Simple], list[Action]]]:
        """The commands by name."""
        return {
            "sysctl": self.sysctl, "echo": self.echo, "cat": self.cat, "dd": self.dd, "rm": self.rm, "ip": self.ip,
            "tc": self.tc, "ethtool": self.ethtool, "true": self.true, ":": self.true, "false": self.false,
            "exit": self.exit, "sleep": self.sleep,
        }  # fmt: skip


def _looks(command: Simple) -> bool:
    """A cat of other files than sysctls' is a look at them."""
    return any(w.text.startswith("/proc/") and not w.text.startswith(_PROC) for w in command.words[1:])


def _value(text: str) -> str:
    """A sysctl's value, its blanks as the kernel reads them."""
    return " ".join(text.split())
