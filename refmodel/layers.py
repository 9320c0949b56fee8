"""Imports every layer, which fills the registry, in the order in which a reader would take them."""

import refmodel.neigh
import refmodel.neigh.arp
import refmodel.neigh.ndisc
import refmodel.nic
import refmodel.tcp.machine

__all__ = ["refmodel"]
