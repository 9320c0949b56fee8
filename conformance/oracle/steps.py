"""The steps that send: from the name that a label carries to its citation and sentence.

They are the registry's, or those of BESIDE for what no layer of the model sends.
"""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from msgspec import Struct

from refmodel.rule import STEPS, Step

WHOLE: Final = ("tcp.whole", "udp", "icmp")
BESIDE: Final = {
    "igmpv3_sendpack": (("net/ipv4/igmp.c:igmpv3_sendpack",), ("RFC 3376 4.2",), "A host reports its IPv4 groups."),
    "mld_sendpack": (("net/ipv6/mcast.c:mld_sendpack",), ("RFC 3810 5.2",), "A host reports its IPv6 groups."),
    "ndisc_send_ns": (
        ("net/ipv6/ndisc.c:ndisc_send_ns",),
        ("RFC 4861 4.3", "RFC 4862 5.4.2"),
        "A host asks who has an address, its own tentative one included.",
    ),
    "ndisc_send_rs": (("net/ipv6/ndisc.c:ndisc_send_rs",), ("RFC 4861 6.3.7",), "A host asks for routers."),
    "ndisc_send_redirect": (
        ("net/ipv6/ndisc.c:ndisc_send_redirect",),
        ("RFC 4861 8.2",),
        "A router names a better first hop.",
    ),
    "ndisc_send_skb": (
        ("net/ipv6/ndisc.c:ndisc_send_skb",),
        ("RFC 4861 4",),
        "A message of neighbour discovery leaves, with hop limit 255.",
    ),
    "raw_sendmsg": (("net/ipv4/raw.c:raw_sendmsg",), ("RFC 792",), "An application sends its own ICMP message."),
    "rawv6_sendmsg": (
        ("net/ipv6/raw.c:rawv6_sendmsg",),
        ("RFC 4443 4.1",),
        "An application sends its own ICMPv6 message.",
    ),
    "ip_output": (
        ("net/ipv4/ip_output.c:ip_output",),
        ("RFC 791 3.1",),
        "A datagram leaves through its route's device.",
    ),
}


class Sends(Struct, frozen=True):
    """A function of the kernel that sends: its id in the registry, its citations, what it does in one sentence."""

    name: str
    id: str
    kernel: tuple[str, ...]
    rfc: tuple[str, ...]
    says: str


@cache
def _whole() -> tuple[Step, ...]:
    """The functions of the whole of TCP, then those of UDP and ICMP."""
    for name in WHOLE:
        package = import_module(f"refmodel.{name}")
        for m in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{m.name}")
    return tuple(s for name in WHOLE for s in STEPS.values() if s.id.startswith(f"{name}."))


@cache
def sender(name: str) -> Sends:
    """The step called `name`, as `Packet.by` has it.

    What no layer of the model sends (multicast reports, router messages, raw sockets) has its citation in BESIDE; a
    name that neither knows has none.
    """
    found = [s for s in _whole() if s.id.endswith(f".{name}")]
    found += [s for s in _whole() if any(k.rpartition(":")[2] == name for k in s.kernel)]
    if not found:
        return Sends(name, name, *BESIDE.get(name, ((), (), "")))
    s = found[0]
    return Sends(name, s.id, s.kernel, s.rfc, s.says)
