"""What is known of a capture before its frames are read: the hosts, their kernels and sysctls, and the vantage.

It comes from the sidecar `.toml` where there is one; otherwise it is inferred, and every inference is said.
"""

import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from conformance.check.schema import validate
from refmodel.packet.wire import LINKTYPE_LINUX_SLL2
from refmodel.profile import Profile, UnknownProfile, nearest, profile


class SidecarError(ValueError):
    """The sidecar cannot be used; the text names the file, the key and what was expected."""


class Notification(Struct, frozen=True):
    """An RTM_NEWNEIGH or RTM_DELNEIGH that `host` received; `time` in us on the capture's clock."""

    host: str
    time: int
    event: str
    dst: str
    state: str
    lladdr: str
    probes: int


class Call(Struct, frozen=True):
    """A system call that an application made; `time` and `returned` in us on the capture's clock (0: not known)."""

    host: str
    time: int
    call: str
    result: str
    returned: int = 0


class Host(Struct, frozen=True):
    """A host of the capture. `linux` is False for a peer whose frames were crafted: it is not judged."""

    name: str
    linux: bool = True
    addresses: frozenset[bytes] = frozenset()
    mac: bytes = b""
    sysctls: dict[str, int] = field(default_factory=dict)
    mib: dict[str, int] = field(default_factory=dict)


class Setup(Struct, frozen=True):
    """Everything the checkers take as given. `late` is how long (us) the host may take to process what was stamped."""

    kernel: str
    hz: int = 250
    hosts: tuple[Host, ...] = ()
    near: str = ""
    layer: str = ""
    notifications: tuple[Notification, ...] = ()
    calls: tuple[Call, ...] = ()
    unmodelled: dict[str, str] = field(default_factory=dict)
    expected: str = ""
    inferred: tuple[str, ...] = ()
    late: int = 50_000
    extra: dict[str, Any] = field(default_factory=dict)

    def loses(self, host: Host | None, time: int) -> bool:
        """Whether the recorder made the wire to `host` lose frames at `time` (us); source the sidecar's calls."""
        losing = False
        for c in self.calls:
            if c.time > time:
                break
            if host is not None and c.host == host.name and c.call.startswith(LOSES):
                losing = c.call != f"{LOSES} nothing"
        return losing

    def host_of(self, address: bytes) -> Host | None:
        """The host that owns a network address."""
        for h in self.hosts:
            if address in h.addresses:
                return h
        return None

    def profile_of(self, host: Host | None) -> Profile:
        """The profile of a host: the capture's kernel with that host's sysctls."""
        return profile(self.kernel, self.hz, host.sysctls if host is not None else {})


LOSES = "wire loses:"
EXTRA = ("ring", "nic", "nic_statistics", "scenario", "offloads", "vantage", "taps", "drops", "links", "gateways")


def at_tap(setup: Setup, tap: int) -> Setup:
    """What is known at one of several taps of a capture: whose host it is on, and for which hosts it counts.

    A host is counted at the first tap on it, or else at the first tap of all.
    """
    taps = setup.extra.get("taps", {})
    hosts, kinds = list(taps.get("hosts", ())), list(taps.get("kinds", ()))
    if not hosts and tap:
        return replace(setup, near="")  # the vantage that the sidecar names is the first tap's
    if len(hosts) < 2 or tap >= len(hosts) or len(hosts) != len(kinds):
        return setup
    names = [h.name for h in setup.hosts]
    near = hosts[tap] if kinds[tap] == "near" and hosts[tap] in names else ""
    first = {n: next((k for k, (h, kind) in enumerate(zip(hosts, kinds, strict=True)) if h == n and kind == "near"), 0)
             for n in names}  # fmt: skip
    counted = [n for n in names if first[n] == tap]
    vantage = {"host": hosts[tap], "interface": taps.get("interfaces", hosts)[tap], "kind": kinds[tap]}
    return replace(setup, near=near, extra={**setup.extra, "vantage": vantage, "counted": counted})


def tap_of(interface: int, linktype: int, data: bytes) -> int:
    """Which tap saw a frame: the capture's interface, or the device that a capture of all devices names."""
    if linktype == LINKTYPE_LINUX_SLL2 and len(data) >= 8:
        return int.from_bytes(data[4:8], "big")
    return interface


def jiffy(hz: int) -> int:
    """The length of a jiffy in us."""
    return 1_000_000 // hz


def slack(delay: int, hz: int) -> int:
    """How late (us) the timer wheel may fire a timer armed `delay` us ahead; source kernel/time/timer.c:calc_index.

    The wheel rounds up to its level's granularity: 1 jiffy below 64, 8 below 512, and so on by 8.
    """
    jiffies = delay * hz // 1_000_000 + 1
    granularity = 1
    while jiffies >= 64 * granularity:
        granularity *= 8
    return (granularity + 2) * jiffy(hz)


def sidecar_path(capture: Path) -> Path:
    """Where the sidecar of `capture` stands."""
    name = capture.name
    for end in (".gz", ".pcapng", ".pcap", ".cap", ".log"):
        name = name.removesuffix(end)
    return capture.with_name(name + ".toml")


def _time(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", "")) if text else b""


def _changed(raw: dict[str, Any]) -> dict[str, int]:
    before, after = raw.get("mib_before", {}), raw.get("mib_after", {})
    return {k: int(v) - int(before.get(k, 0)) for k, v in after.items()}


def _host(raw: dict[str, Any]) -> Host:
    return Host(
        name=raw["name"],
        linux=bool(raw.get("linux", True)),
        addresses=frozenset(ip_address(a).packed for a in raw.get("addresses", ())),
        mac=_mac(raw.get("mac", "")),
        sysctls={k: v for k, v in raw.get("sysctls", {}).items() if isinstance(v, int)},
        mib=_changed(raw),
    )


def read_sidecar(path: Path, kernel: str = "") -> Setup:
    """The setup that a sidecar describes; `kernel` overrides its profile. Raises SidecarError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as why:
        raise SidecarError(f"{path}: {why}") from why
    try:
        validate(raw)
        k = raw.get("kernel", {})
        if not (kernel or k.get("profile") or k.get("release")):
            raise SidecarError(f"{path}: kernel.profile (or kernel.release) is missing: which kernel was this?")
        name = kernel or k.get("profile") or nearest(k["release"])
        _known(name, path, kernel)
        return Setup(
            kernel=name,
            hz=int(k.get("hz", 250)),
            hosts=tuple(_host(h) for h in raw.get("hosts", ())),
            near=raw.get("vantage", {}).get("host", ""),
            layer=raw.get("layer", ""),
            notifications=tuple(
                Notification(
                    host=n["host"],
                    time=_time(n["time"]),
                    event=n["event"],
                    dst=n["dst"],
                    state=n.get("state", ""),
                    lladdr=n.get("lladdr", ""),
                    probes=int(n.get("probes", 0)),
                )
                for n in raw.get("notifications", ())
            ),
            calls=tuple(
                Call(c["host"], _time(c["time"]), c["call"], str(c["result"]), _time(c.get("returned", 0)))
                for c in raw.get("calls", ())
            ),
            unmodelled={u["class"]: u["reason"] for u in raw.get("expected", {}).get("not_modelled", ())},
            expected=raw.get("expected", {}).get("verdict", ""),
            inferred=(f"kernel {name} and sysctls from {path.name}",),
            extra={key: value for key, value in raw.items() if key in EXTRA},
        )
    except (SidecarError, UnknownProfile):
        raise
    except KeyError as why:
        raise SidecarError(f"{path}: the key {why} is missing; docs/captures.md describes the format") from why
    except (TypeError, ValueError, AttributeError) as why:
        raise SidecarError(f"{path}: {why}; docs/captures.md describes the format") from why


def _known(name: str, path: Path, asked: str) -> None:
    """Raises UnknownProfile for a kernel that was asked for, SidecarError for one that the sidecar names."""
    try:
        profile(name)
    except UnknownProfile as why:
        if asked:
            raise
        raise SidecarError(f"{path}: {why}") from why


def setup_for(capture: Path, kernel: str = "") -> Setup:
    """The setup of a capture: its sidecar, or what can be said without one. Raises SidecarError, UnknownProfile."""
    side = sidecar_path(capture)
    if side.exists():
        return read_sidecar(side, kernel)
    name = profile(kernel).kernel if kernel else profile().kernel
    how = "as told" if kernel else "the reference kernel, since there is no sidecar (--profile says otherwise)"
    return Setup(kernel=name, inferred=(f"kernel {name}: {how}",), extra={"told": bool(kernel)})
