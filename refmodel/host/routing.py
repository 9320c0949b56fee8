"""Routing of a host: the FIB as IP, netfilter, ARP and the transport protocols ask it."""

import errno
from typing import TYPE_CHECKING, Any

from refmodel.dropreason import Reason
from refmodel.fib import lookup, saddr
from refmodel.fib.net import Fib
from refmodel.fib.types import RT_SCOPE_LINK, RTAX_ADVMSS, RTAX_HOPLIMIT, RTAX_MTU, Flow4, Route, dotted
from refmodel.neigh.arp import RTN
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff
from refmodel.tcp.whole.sock import Dst

if TYPE_CHECKING:
    from refmodel.host.namespace import Namespace


def number(addr: bytes) -> int:
    """An IPv4 address as routing has it."""
    return int.from_bytes(addr, "big")


def raw(addr: int) -> bytes:
    """An IPv4 address as packets have it."""
    return addr.to_bytes(4, "big")
