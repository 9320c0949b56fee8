"""The types of a sidecar's tables: what `msgspec` holds a `.toml` against before anything is made of it."""

from ipaddress import ip_address
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(ge=0, le=1e11)]
Count = Annotated[int, Meta(ge=0)]
Counters = dict[str, int]
Mac = Annotated[str, Meta(pattern=r"^([0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})*)?$")]


class KernelTable(Struct):
    """[kernel]: one of `profile` and `release` is needed."""

    release: Annotated[str, Meta(pattern=r"^([0-9]+\.[0-9]+.*)?$")] = ""
    profile: str = ""
    hz: Annotated[int, Meta(ge=1, le=10_000)] = 250


class HostTable(Struct):
    """[[hosts]]."""

    name: str
    linux: bool = True
    addresses: list[str] = field(default_factory=list)
    mac: Mac = ""
    sysctls: dict[str, int | float | str | bool] = field(default_factory=dict)
    mib_before: Counters = field(default_factory=dict)
    mib_after: Counters = field(default_factory=dict)


class CallTable(Struct):
    """[[calls]]."""

    host: str
    time: Seconds
    call: str
    result: str | int
    returned: Seconds = 0.0


class NotificationTable(Struct):
    """[[notifications]]."""

    host: str
    time: Seconds
    event: str
    dst: str
    state: str = ""
    lladdr: Mac = ""
    probes: Count = 0


class UnmodelledTable(Struct, rename={"name": "class"}):
    """[[expected.not_modelled]]."""

    name: str
    reason: str


class ExpectedTable(Struct):
    """[expected]."""

    verdict: str = ""
    not_modelled: list[UnmodelledTable] = field(default_factory=list)


class VantageTable(Struct):
    """[vantage]."""

    host: str = ""
    interface: str = ""
    kind: str = ""


class NicTable(Struct):
    """[nic]."""

    log: str = ""
    driver: str = ""


class SidecarTables(Struct):
    """A sidecar as a whole; keys that are not named here are left to whom they concern."""

    kernel: KernelTable = field(default_factory=KernelTable)
    layer: str = ""
    scenario: str = ""
    vantage: VantageTable = field(default_factory=VantageTable)
    hosts: list[HostTable] = field(default_factory=list)
    calls: list[CallTable] = field(default_factory=list)
    notifications: list[NotificationTable] = field(default_factory=list)
    expected: ExpectedTable = field(default_factory=ExpectedTable)
    offloads: dict[str, bool] = field(default_factory=dict)
    nic: NicTable = field(default_factory=NicTable)
    nic_statistics: Counters = field(default_factory=dict)


def validate(raw: dict[str, Any]) -> None:
    """Raises ValueError, with the place in the file, unless every table has its types and every address is one."""
    tables = msgspec.convert(raw, SidecarTables)
    for i, h in enumerate(tables.hosts):
        for a in h.addresses:
            _address(a, f"hosts[{i}].addresses")
    for i, n in enumerate(tables.notifications):
        _address(n.dst, f"notifications[{i}].dst")


def _address(text: str, where: str) -> None:
    try:
        ip_address(text)
    except ValueError as why:
        raise ValueError(f"{why} - at `$.{where}`") from why
