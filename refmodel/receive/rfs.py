"""Receive flow steering: a flow's packets follow the processor whose task reads them.

The law: a flow changes its processor only when all of its packets that wait at the old one have been processed, so it
stays in order. A reader's processor stands in a table by the flow's hash; where the flow's packets go now stands in a
table of the device's.
"""

from typing import Final

from refmodel.rule import cited, pure
from refmodel.types import H32, M32

RPS_NO_CPU: Final = 0xFFFF


@pure
def moves(now: int, wanted: int, cpus: int, head: int, last_qtail: int) -> bool:
    """A flow goes to the processor that is wanted: it was nowhere, or all it has at `now` is processed.

    `head`: packets that processor has taken from its backlog, `last_qtail`: how many it had got with the flow's last.
    """
    return now != wanted and (now >= cpus or (head - last_qtail) & M32 < H32)


class RpsDevFlow:
    """struct rps_dev_flow: where a flow's packets go, and the backlog's tail when its last one joined."""

    __slots__ = ("cpu", "last_qtail")

    def __init__(self) -> None:
        self.cpu = RPS_NO_CPU
        self.last_qtail = 0


class FlowTables:
    """rps_sock_flow_table of a host and rps_dev_flow_table of each device, of `entries` each (a power of two)."""

    def __init__(self, entries: int, cpus: int) -> None:
        self.mask = entries - 1
        self.cpu_mask = (1 << max(cpus - 1, 1).bit_length()) - 1
        self.ents: dict[int, int] = {}
        self.flows: dict[tuple[int, int], RpsDevFlow] = {}

    @cited("include/net/rps.h:rps_record_sock_flow")
    def record(self, hash: int, cpu: int) -> None:
        """A task on `cpu` reads what the flow brings."""
        if hash:
            self.ents[hash & self.mask] = (hash & M32 & ~self.cpu_mask) | cpu

    def wanted(self, hash: int) -> int | None:
        """The processor whose task reads the flow; None if the table's entry is another flow's."""
        ident = self.ents.get(hash & self.mask)
        if ident is None or (ident ^ hash) & M32 & ~self.cpu_mask:
            return None
        return ident & self.cpu_mask

    def flow(self, ifindex: int, hash: int) -> RpsDevFlow:
        """Where the flow's packets from a device go."""
        return self.flows.setdefault((ifindex, hash & self.mask), RpsDevFlow())
