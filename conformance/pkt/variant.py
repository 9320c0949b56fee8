"""How a script is run: addresses, ports and tolerances of its variant, then its own options."""

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Final

from msgspec import Struct, structs

from conformance.pkt.ast import Option, Script
from conformance.pkt.source import ScriptError
from refmodel.profile import version_number

CMSG4: Final = {"CMSG_LEVEL_IP": "SOL_IP", "CMSG_TYPE_RECVERR": "IP_RECVERR"}
CMSG6: Final = {"CMSG_LEVEL_IP": "SOL_IPV6", "CMSG_TYPE_RECVERR": "IPV6_RECVERR"}
_SINCE: Final = re.compile(r"^// from Linux (\d+\.\d+)\b", re.MULTILINE)
_BEFORE: Final = re.compile(r"^// before Linux (\d+\.\d+)\b", re.MULTILINE)
_NOT: Final = re.compile(r"^// not on Linux (\d+\.\d+\.\d+)\b", re.MULTILINE)
COOKIES4: Final = {"TFO_COOKIE": "3021b9d889017eeb", "TFO_COOKIE_ZERO": "b7c12350a90dc8f5"}
COOKIES6: Final = {"TFO_COOKIE": "c1d1e9742a47a9bc", "TFO_COOKIE_ZERO": "82af1a8f9a205c34"}


class Variant(StrEnum):
    """Which sockets and which wire: AF_INET on IPv4, AF_INET6 on IPv6, AF_INET6 on IPv4."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    MAPPED = "mapped"


class Config(Struct, frozen=True):
    """A run's parameters; times in us, `prefix` and `remote_prefix` the lengths of the
    networks at either end.

    `mss` is the gso_size of packets that are injected, `non_fatal` what kinds of differences are only noted, `remember`
    whether the packets that left are kept.
    """

    variant: Variant
    local_ip: str
    gateway_ip: str
    remote_ip: str
    prefix: int
    remote_prefix: int
    mtu: int
    bind_port: int = 8080
    connect_port: int = 8080
    tolerance_usecs: int = 4000
    tolerance_percent: float = 12.5
    ts_tick_usecs: int = 0
    ts_ecr_scaled: bool = False
    strict_segments: bool = False
    mss: int = 0
    non_fatal: tuple[str, ...] = ()
    dry_run: bool = False
    init_scripts: tuple[str, ...] = ()
    remember: bool = False

    @property
    def version(self) -> int:
        """The IP version on the wire."""
        return 6 if self.variant is Variant.IPV6 else 4


BASES: Final = {
    Variant.IPV4: Config(Variant.IPV4, "192.168.0.1", "192.168.0.1", "192.0.2.1", 16, 24, 1500),
    Variant.MAPPED: Config(Variant.MAPPED, "192.168.0.1", "192.168.0.1", "192.0.2.1", 16, 24, 1500),
    Variant.IPV6: Config(
        Variant.IPV6, "fd3d:0a0b:17d6::1", "fd3d:0a0b:17d6:8888::1", "fd3d:fa7b:d17d::1", 48, 48, 1520
    ),
}

_NUMBERS: Final = {
    "mtu": ("mtu", 68, 65535),
    "bind_port": ("bind_port", 0, 65535),
    "connect_port": ("connect_port", 0, 65535),
    "tolerance_usecs": ("tolerance_usecs", 0, 1 << 40),
    "tcp_ts_tick_usecs": ("ts_tick_usecs", 0, 1 << 20),
    "mss": ("mss", 0, 65535),
}
"""Options that are numbers: the field, the least and the largest value."""
_ADDRESSES: Final = ("local_ip", "gateway_ip", "remote_ip")
_WITHOUT_EFFECT: Final = ("verbose", "debug", "define", "ip_version", "speed", "send_omit_free", "is_anyip")
_NOT_ON_KERNEL: Final = ("non_fatal", "dry_run", "init_scripts", "is_anyip")
_VERSIONS: Final = {
    "ipv4": (Variant.IPV4,),
    "ipv6": (Variant.IPV6,),
    "ipv4-mapped-ipv6": (Variant.MAPPED,),
    "ipv4_mapped_ipv6": (Variant.MAPPED,),
}


def defines(variant: Variant) -> dict[str, str]:
    """The words that the runner itself defines for a variant."""
    if variant is Variant.IPV4:
        return {**CMSG4, **COOKIES4}
    return {**CMSG6, **(COOKIES6 if variant is Variant.IPV6 else COOKIES4)}


def variants(script: Script, name: str, wanted: tuple[Variant, ...]) -> tuple[Variant, ...]:
    """Those of `wanted` that a script is meant for: by its --ip_version, and by a name ending in v4 or v6."""
    for option in script.options:
        if option.name == "ip_version" and option.value in _VERSIONS:
            return tuple(v for v in wanted if v in _VERSIONS[option.value])
    if name.endswith("v4"):
        return tuple(v for v in wanted if v is Variant.IPV4)
    if name.endswith("v6"):
        return tuple(v for v in wanted if v is Variant.IPV6)
    return wanted


def configure(script: Script, variant: Variant, tolerance_usecs: int | None = None) -> Config:
    """The variant's parameters with the script's options; raises ScriptError for an option that cannot be honoured."""
    config = BASES[variant]
    for option in script.options:
        config = _with(config, option, script)
    if tolerance_usecs is not None:
        config = structs.replace(config, tolerance_usecs=tolerance_usecs)
    return config


def _with(config: Config, option: Option, script: Script) -> Config:
    value = (option.value or "").strip('"')

    def wrong(expected: str) -> ScriptError:
        return ScriptError(f"--{option.name}={value[:40]}", option.at, script.source, expected)

    try:
        if option.name in _NUMBERS:
            field, low, high = _NUMBERS[option.name]
            if not low <= int(value, 0) <= high:
                raise wrong(f"{low} to {high}")
            return structs.replace(config, **{field: int(value, 0)})
        if option.name == "tolerance_percent":
            if not 0 <= float(value) <= 1_000_000:
                raise wrong("0 to 1000000")
            return structs.replace(config, tolerance_percent=float(value))
        if option.name in _ADDRESSES:
            address = ipaddress.ip_address(value)
            if address.version != config.version:
                raise wrong(f"an IPv{config.version} address in the variant {config.variant}")
            return structs.replace(config, **{option.name: value})
        if option.name == "netmask_ip":
            return structs.replace(config, prefix=ipaddress.ip_network(f"0.0.0.0/{value}").prefixlen)
    except ValueError as why:
        if isinstance(why, ScriptError):
            raise
        raise wrong("a number or an address") from why
    if option.name == "strict_segments":
        return structs.replace(config, strict_segments=True)
    if option.name == "tcp_ts_ecr_scaled":
        return structs.replace(config, ts_ecr_scaled=True)
    if option.name in _WITHOUT_EFFECT:
        return config
    if option.name == "dry_run":
        return structs.replace(config, dry_run=True)
    if option.name == "non_fatal":
        kinds = tuple(value.split(","))
        if not set(kinds) <= {"packet", "syscall"}:
            raise wrong("packet, syscall or both")
        return structs.replace(config, non_fatal=config.non_fatal + kinds)
    if option.name == "init_scripts":
        return structs.replace(config, init_scripts=tuple(value.split(",")))
    raise ScriptError(f"--{option.name} is not honoured", option.at, script.source, help="leave it out")


def since(text: str) -> str:
    """From which kernel on a script holds: what it says in a comment `// from Linux 6.18`; "" for any kernel."""
    said = _SINCE.search(text)
    return said[1] if said else ""


def before(text: str) -> str:
    """From which kernel on a script holds no longer: a comment `// before Linux 6.12`; "" if it goes on holding."""
    said = _BEFORE.search(text)
    return said[1] if said else ""


def holds(kernel: str, text: str) -> bool:
    """The script is for `kernel` (6.18, or a release of uname).

    A stable release may have a later kernel's change: the comment `// not on Linux 6.12.117` leaves out that one alone.
    """
    if kernel.split("-")[0].split("+")[0] in _NOT.findall(text):
        return False
    first, end, version = since(text), before(text), version_number(kernel)
    return not (first and version < version_number(first)) and not (end and version >= version_number(end))


def refuse_for_kernel(script: Script) -> None:
    """Raises ScriptError for an option that only the model honours."""
    for option in script.options:
        if option.name in _NOT_ON_KERNEL:
            what = f"--{option.name} is not honoured on the machine's own kernel"
            raise ScriptError(what, option.at, script.source, help="leave it out")


def scripts_in(paths: tuple[Path, ...]) -> list[Path]:
    """The .pkt files among and under `paths`, sorted within a folder; raises OSError for a path that does not exist."""
    out: list[Path] = []
    for path in paths:
        if path.is_dir():
            out += sorted(path.rglob("*.pkt"))
        else:
            path.stat()
            out.append(path)
    return out
