"""The sidecar of a capture: `captures/<case>.toml` beside `captures/<case>.pcapng`.

It says what a capture alone cannot: which kernel and settings made it, where the tap was, what the applications did,
what the kernel counted and announced, and which verdict is expected. Standard library only.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

LAYERS: Final = ("tcp", "neigh", "nic")
KINDS: Final = ("near", "wire")
VERDICTS: Final = ("conforms", "diverges", "inconclusive", "not modelled")

Value = int | str | bool


class SidecarError(ValueError):
    """A sidecar does not say what it must: which file, which key, what was expected."""


@dataclass(frozen=True)
class Kernel:
    """The kernel that ran: `uname -r`, the profile to judge it by, its HZ."""

    release: str
    profile: str
    hz: int


@dataclass(frozen=True)
class Vantage:
    """Where the tap was; `near`: on the host itself, `wire`: outside both."""

    host: str
    interface: str
    kind: str = "near"


@dataclass(frozen=True)
class HostInfo:
    """A host: `linux` is false where a scenario crafted its frames, and then only the others are judged.

    `sysctls` holds what was set; `mib_before` and `mib_after` hold the counters that changed.
    """

    name: str
    linux: bool
    addresses: list[str]
    mac: str
    sysctls: dict[str, Value] = field(default_factory=dict)
    mib_before: dict[str, int] = field(default_factory=dict)
    mib_after: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """What an application did: `time` in s of CLOCK_REALTIME when it called, `returned` when the call was done.

    `result` starts with the number that the call returned; an error's name follows -1, addresses follow a success of
    connect (the local one) and accept (the peer's).
    """

    host: str
    time: float
    call: str
    result: str
    returned: float = 0.0


@dataclass(frozen=True)
class Notification:
    """An RTM_NEWNEIGH or RTM_DELNEIGH that was seen on a host; `time` in s of CLOCK_REALTIME."""

    host: str
    time: float
    event: str
    dst: str
    state: str
    lladdr: str = ""
    probes: int = 0
    flags: int = 0


@dataclass(frozen=True)
class NotModelled:
    """A class of frames that the checker counts and does not judge, and why."""

    frames: str
    reason: str


@dataclass(frozen=True)
class Expected:
    """The verdict that `refmodel check` has to give."""

    verdict: str = "conforms"
    not_modelled: list[NotModelled] = field(default_factory=list)


@dataclass(frozen=True)
class Sidecar:
    """All that is said about one capture; `extra` holds tables of other layers (a NIC's rings), kept as they are."""

    case: str
    scenario: str
    layer: str
    says: str
    kernel: Kernel
    vantage: Vantage
    offloads: dict[str, bool]
    hosts: list[HostInfo]
    calls: list[Call] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    expected: Expected = field(default_factory=Expected)
    extra: dict[str, Any] = field(default_factory=dict)

    def host(self, name: str) -> HostInfo:
        """The host of that name; raises KeyError."""
        for h in self.hosts:
            if h.name == name:
                return h
        raise KeyError(name)


# ---- reading ------------------------------------------------------------------------------------------------------


class _Table:
    """A TOML table with the place it stands at, so that an error can name it."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise SidecarError(f"{where}: a table was expected, found {data!r}")
        self.data: dict[str, Any] = data
        self.where = where

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        if key not in self.data:
            if default is None:
                raise SidecarError(f"{self.where}: {key} is missing")
            return default
        value = self.data[key]
        if isinstance(value, bool) and kind in (int, float, (int, float)):
            raise SidecarError(f"{self.where}: {key} = {value!r}: a number was expected")
        if not isinstance(value, kind):
            names = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(k.__name__ for k in names)
            raise SidecarError(f"{self.where}: {key} = {value!r}: {wanted} was expected")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value: str = self.get(key, str, default)
        if value not in choices:
            raise SidecarError(f"{self.where}: {key} = {value!r}: one of {', '.join(choices)} was expected")
        return value

    def table(self, key: str, default: Any = None) -> "_Table":
        return _Table(self.get(key, dict, default), f"{self.where}: [{key}]")

    def tables(self, key: str, default: Any = None) -> list["_Table"]:
        return [_Table(t, f"{self.where}: [[{key}]] {i}") for i, t in enumerate(self.get(key, list, default), 1)]

    def flat(self, key: str, kind: type | tuple[type, ...]) -> dict[str, Any]:
        t = self.table(key, {})
        return {k: t.get(k, kind) for k in t.data}

    def only(self, *keys: str) -> None:
        for k in self.data:
            if k not in keys:
                raise SidecarError(f"{self.where}: {k} is not a key that is known here")


_KNOWN: Final = (
    *("case", "scenario", "layer", "says", "kernel", "vantage", "offloads"),
    *("hosts", "calls", "notifications", "expected"),
)


def read(path: Path) -> Sidecar:
    """Reads a sidecar; raises SidecarError that names the file and the key, OSError where it cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as e:
        raise SidecarError(f"{path}: not UTF-8 text: {e}") from e


def parse(text: str, where: str = "sidecar") -> Sidecar:
    """The sidecar that a TOML text says; raises SidecarError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise SidecarError(f"{where}: not TOML: {e}") from e
    t = _Table(data, where)
    kernel, vantage = t.table("kernel"), t.table("vantage")
    kernel.only("release", "profile", "hz")
    vantage.only("host", "interface", "kind")
    result = Sidecar(
        case=t.get("case", str),
        scenario=t.get("scenario", str),
        layer=t.choice("layer", LAYERS),
        says=t.get("says", str),
        kernel=Kernel(kernel.get("release", str), kernel.get("profile", str), kernel.get("hz", int)),
        vantage=Vantage(vantage.get("host", str), vantage.get("interface", str), vantage.choice("kind", KINDS, "near")),
        offloads=t.flat("offloads", bool),
        hosts=[_host(h) for h in t.tables("hosts")],
        calls=[_call(c) for c in t.tables("calls", [])],
        notifications=[_notification(n) for n in t.tables("notifications", [])],
        expected=_expected(t.table("expected")),
        extra={k: v for k, v in data.items() if k not in _KNOWN},
    )
    names = {h.name for h in result.hosts}
    for what, name in (
        ("[vantage]", result.vantage.host),
        *(("[[calls]]", c.host) for c in result.calls),
        *(("[[notifications]]", n.host) for n in result.notifications),
    ):
        if name not in names and result.vantage.kind == "near":
            raise SidecarError(f"{where}: {what} names host {name!r}, which is not among {', '.join(sorted(names))}")
    return result


def _host(t: _Table) -> HostInfo:
    t.only("name", "linux", "addresses", "mac", "sysctls", "mib_before", "mib_after")
    return HostInfo(
        t.get("name", str),
        t.get("linux", bool),
        list(t.get("addresses", list)),
        t.get("mac", str),
        t.flat("sysctls", (int, str, bool)),
        t.flat("mib_before", int),
        t.flat("mib_after", int),
    )


def _call(t: _Table) -> Call:
    t.only("host", "time", "call", "result", "returned")
    at = float(t.get("time", (int, float)))
    returned = float(t.get("returned", (int, float), at))
    return Call(t.get("host", str), at, t.get("call", str), t.get("result", str), returned)


def _notification(t: _Table) -> Notification:
    t.only("host", "time", "event", "dst", "state", "lladdr", "probes", "flags")
    return Notification(
        t.get("host", str),
        float(t.get("time", (int, float))),
        t.choice("event", ("NEWNEIGH", "DELNEIGH")),
        t.get("dst", str),
        t.get("state", str),
        t.get("lladdr", str, ""),
        t.get("probes", int, 0),
        t.get("flags", int, 0),
    )


def _expected(t: _Table) -> Expected:
    t.only("verdict", "not_modelled")
    reasons = [NotModelled(n.get("class", str), n.get("reason", str)) for n in t.tables("not_modelled", [])]
    return Expected(t.choice("verdict", VERDICTS), reasons)


# ---- writing ------------------------------------------------------------------------------------------------------


def _quote(v: Value | float | list[str]) -> str:
    if isinstance(v, float):
        return f"{v:.6f}"
    return json.dumps(v, ensure_ascii=False)


def _key(k: str) -> str:
    return k if re.fullmatch(r"[A-Za-z0-9_-]+", k) else json.dumps(k)


def _inline(d: Mapping[str, Value]) -> str:
    return "{ " + ", ".join(f'"{k}" = {_quote(v)}' for k, v in d.items()) + " }" if d else "{}"


def dump(s: Sidecar) -> str:
    """The TOML text of a sidecar; `parse(dump(s)) == s` but for times, which have microseconds."""
    out = [f"{k} = {_quote(getattr(s, k))}" for k in ("case", "scenario", "layer", "says")]
    for name, table in (("kernel", s.kernel), ("vantage", s.vantage)):
        out += ["", f"[{name}]", *(f"{k} = {_quote(v)}" for k, v in vars(table).items())]
    out += ["", "[offloads]", *(f"{k} = {_quote(v)}" for k, v in s.offloads.items())]
    for h in s.hosts:
        out += ["", "[[hosts]]", *(f"{k} = {_quote(getattr(h, k))}" for k in ("name", "linux", "addresses", "mac"))]
        out += [f"sysctls = {_inline(h.sysctls)}"]
        for key in ("mib_before", "mib_after"):
            counters: dict[str, int] = getattr(h, key)
            if counters:
                out += ["", f"[hosts.{key}]", *(f'"{k}" = {v}' for k, v in counters.items())]
    for c in s.calls:
        out += ["", "[[calls]]", *(f"{k} = {_quote(v)}" for k, v in vars(c).items())]
    for n in s.notifications:
        out += ["", "[[notifications]]", *(f"{k} = {_quote(v)}" for k, v in vars(n).items())]
    for name, table in s.extra.items():
        out += ["", f"[{name}]", *(f"{_key(k)} = {_quote(v)}" for k, v in table.items())]
    out += ["", "[expected]", f"verdict = {_quote(s.expected.verdict)}"]
    for m in s.expected.not_modelled:
        out += ["", "[[expected.not_modelled]]", f"class = {_quote(m.frames)}", f"reason = {_quote(m.reason)}"]
    return "\n".join(out) + "\n"
