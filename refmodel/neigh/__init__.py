"""The neighbour machine: address resolution and reachability, shared by IPv4/ARP and IPv6/ND.

Read `types` (what an entry is and what happens to it), then `output`, `timer`, `update` and `life` (its rules), then
`properties` (what is always true). `arp`, `ndisc` and `netlink` say which event a frame or a message is.
"""

from refmodel.neigh import arp, life, ndisc, netlink, output, properties, timer, update
from refmodel.neigh.parms import NeighParms
from refmodel.neigh.types import (
    Absent,
    Confirm,
    Create,
    Delete,
    EventSend,
    Flush,
    ForcedGc,
    Neigh,
    Output,
    PeriodicGc,
    Release,
    Stray,
    Timer,
    Update,
)
from refmodel.rule import Machine, machine

NEIGH = machine(
    Machine(
        name="neigh",
        title="Neighbour entries: ARP and neighbour discovery",
        accepts={
            Absent: (Create,),
            Neigh: (Output, EventSend, Timer, Confirm, Update, Delete, Flush, PeriodicGc, ForcedGc),
            Stray: (Output, EventSend, Timer, Confirm, Update, Release),
        },
        params=NeighParms,
        initial=(Absent(),),
        modules=(
            "refmodel.neigh.parms",
            "refmodel.neigh.types",
            "refmodel.neigh.output",
            "refmodel.neigh.timer",
            "refmodel.neigh.update",
            "refmodel.neigh.life",
            "refmodel.neigh.properties",
        ),
    )
)

__all__ = ["NEIGH", "arp", "life", "ndisc", "netlink", "output", "properties", "timer", "update"]
