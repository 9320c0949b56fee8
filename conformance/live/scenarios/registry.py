"""What a scenario is, and the registry of them all."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

from conformance.live.errors import UnknownScenario
from conformance.live.lab import Lab
from conformance.live.sidecar import NotModelled, Value


@dataclass(frozen=True)
class Scenario:
    """A named run: the lab it needs, what its applications do, and what has to have happened for it to count.

    `counts` names MIB counters that must have risen by exactly so much, as 'a.Tcp.ActiveOpens'; `announces` the
    neighbour states that must have been announced, each host's in this order (others may lie between), as 'a FAILED'.
    """

    name: str
    layer: str
    says: str
    body: Callable[[Lab], None]
    hosts: tuple[str, ...] = ("a", "b")
    raw: tuple[str, ...] = ()
    family: int = 4
    vantage: str = "a"
    interface: str | None = None
    mtu: int = 1500
    sysctls: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    announces: tuple[str, ...] = ()
    not_modelled: tuple[NotModelled, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def case(self) -> str:
        """The capture's file name without its ending."""
        return self.name.replace("_", "-")


SCENARIOS: Final[dict[str, Scenario]] = {}

LOSS_RECOVERY: Final = NotModelled("loss recovery", "retransmission of data is modelled with congestion control, later")


def scenario(
    layer: str,
    *,
    families: tuple[int, ...] = (4,),
    hosts: tuple[str, ...] = ("a", "b"),
    raw: tuple[str, ...] = (),
    vantage: str = "a",
    interface: str | None = None,
    mtu: int = 1500,
    sysctls: Mapping[str, Mapping[str, Value]] | None = None,
    counts: Mapping[str, int] | None = None,
    announces: tuple[str, ...] = (),
    not_modelled: tuple[NotModelled, ...] = (),
    tools: tuple[str, ...] = (),
) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    """Registers a scenario under its function's name; the IPv6 twin of one with two `families` ends in `_v6`."""

    def add(body: Callable[[Lab], None]) -> Callable[[Lab], None]:
        for family in families:
            name = body.__name__ + ("_v6" if len(families) > 1 and family == 6 else "")
            if name in SCENARIOS:
                raise ValueError(f"there are two scenarios named {name}")
            says = " ".join((body.__doc__ or "").split()) + " Over IPv6." * name.endswith("_v6")
            SCENARIOS[name] = Scenario(
                *(name, layer, says, body, hosts, raw, family, vantage, interface, mtu),
                *(sysctls or {}, counts or {}, announces, not_modelled, tools),
            )
        return body

    return add


def load() -> dict[str, Scenario]:
    """All scenarios: imports the modules beside this one."""
    package = importlib.import_module("conformance.live.scenarios")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return SCENARIOS


def find(name: str) -> Scenario:
    """The scenario of that name, written with - or _; raises UnknownScenario."""
    known = load()
    try:
        return known[name.replace("-", "_")]
    except KeyError:
        near = get_close_matches(name.replace("-", "_"), known, 3, 0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownScenario(f"no scenario is named {name!r}{hint}") from None
