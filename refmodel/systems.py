"""The catalogue of systems that can be explored by name, each with the questions that it is usually asked."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from refmodel import neigh_systems
from refmodel.engine.difference import difference, visible
from refmodel.engine.explore_system import System
from refmodel.nic import systems as nic
from refmodel.sched import systems as qdisc
from refmodel.tcp import systems as tcp


class UnknownSystem(ValueError):
    """There is no system of that name, or it has no such bound."""


class Entry(Struct, frozen=True):
    """One system of the catalogue.

    `make` builds it; its keyword parameters are its bounds, with defaults. `goal` is what should stay reachable ('': no
    such question), `observe` what an outsider sees of an effect in a difference search, which is given the bounds in
    `apart` where it is told no others.
    """

    name: str
    make: Callable[..., System]
    goal: str = ""
    observe: Callable[[Any], Any] = visible
    apart: Mapping[str, Any] = {}

    @property
    def says(self) -> str:
        """What the system is, in a sentence or two."""
        return (inspect.getdoc(self.make) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds by name with their defaults."""
        return {n: q.default for n, q in inspect.signature(self.make).parameters.items()}

    def build(self, **bounds: Any) -> System:
        """The system within `bounds`; raises UnknownSystem for a bound that it does not have."""
        for n in bounds:
            if n not in self.bounds:
                raise UnknownSystem(f"{self.name} has no bound {n!r}; it has {', '.join(self.bounds)}")
        return self.make(**bounds)

    def between(self, one: str, other: str, **bounds: Any) -> System:
        """The system under two kernels in lockstep; raises UnknownSystem if it is the same in all kernels."""
        given = {**self.apart, **bounds}
        left, right = self.build(kernel=one, **given), self.build(kernel=other, **given)
        return difference(left, right, self.observe, (one, other))


CATALOGUE: Final = {
    e.name: e
    for e in (
        Entry("tcp-pair", tcp.two_tcps, observe=tcp.observed, apart=tcp.QUIET),
        Entry("tcp-handshake", tcp.handshake, f"({tcp.OPENED}) or ({tcp.GIVEN_UP})", tcp.observed),
        Entry("tcp-transfer", tcp.transfer, tcp.OVER, tcp.observed),
        Entry("tcp-any-peer", tcp.any_peer, observe=tcp.observed),
        Entry("neigh", neigh_systems.entry, neigh_systems.NO_QUEUE),
        Entry("nic-tx", nic.tx_ring, nic.TX_CAN_SEND),
        Entry("nic-rx", nic.rx_ring, nic.RX_READ),
        Entry("nic-napi", nic.interrupts, nic.NAPI_IDLE),
        Entry("nic-vector", nic.vectors, nic.VECTOR_IDLE),
        Entry("qdisc-nolock", qdisc.nolock, qdisc.NOTHING_LEFT),
    )
}


def find(name: str) -> Entry:
    """The entry of that name; raises UnknownSystem."""
    if name not in CATALOGUE:
        raise UnknownSystem(f"no system is called {name!r}; there are {', '.join(CATALOGUE)}")
    return CATALOGUE[name]
