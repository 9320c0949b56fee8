"""Imports every layer, which fills the registry, in the order in which a reader would take them."""

import refmodel.neigh
import refmodel.neigh.arp
import refmodel.neigh.ndisc
import refmodel.nic
import refmodel.tcp.cubic
import refmodel.tcp.delack
import refmodel.tcp.machine
import refmodel.tcp.nagle
import refmodel.tcp.prr
import refmodel.tcp.rtt
import refmodel.tcp.scoreboard
import refmodel.tcp.window

__all__ = ["refmodel"]
