"""The chapters in reading order: which packages each one holds."""

from typing import Final, NamedTuple


class Chapter(NamedTuple):
    """One chapter: its file's name, its title, the packages or modules that it holds, and the walks that show it."""

    slug: str
    title: str
    packages: tuple[str, ...]
    walks: tuple[str, ...] = ()


CHAPTERS: Final = (
    Chapter(
        "words",
        "The vocabulary",
        ("refmodel.rule", "refmodel.types", "refmodel.skbuff", "refmodel.netdevice", "refmodel.walk"),
    ),
    Chapter(
        "contexts",
        "Who does the work",
        ("refmodel.context", "refmodel.softirq", "refmodel.softirq_properties"),
        ("send", "recv"),
    ),
    Chapter(
        "sockets",
        "System calls and sockets",
        (
            "refmodel.tcp.whole.calls", "refmodel.tcp.whole.sockfile", "refmodel.tcp.whole.inet",
            "refmodel.tcp.whole.poll", "refmodel.tcp.whole.epoll", "refmodel.tcp.whole.files",
        ),
        ("connect", "write"),
    ),
    Chapter("tcp", "TCP, what any Linux may do", ("refmodel.tcp",), ()),
    Chapter("tcp-whole", "TCP, what Linux does", ("refmodel.tcp.whole",), ("bulk", "backlog", "time-wait")),
    Chapter("udp", "UDP and ICMP", ("refmodel.udp", "refmodel.icmp"), ("udp", "ttl")),
    Chapter("routing", "Routing", ("refmodel.fib",), ("setup",)),
    Chapter("netfilter", "Netfilter", ("refmodel.netfilter",), ("nat",)),
    Chapter("ip", "IPv4", ("refmodel.ip",), ("fragment", "forward", "pmtu")),
    Chapter("ip6", "IPv6", ("refmodel.ip6",), ()),
    Chapter(
        "neighbours",
        "Neighbours",
        ("refmodel.neigh", "refmodel.host.neigh", "refmodel.host.arp"),
        ("first-contact", "unreachable"),
    ),
    Chapter("queueing", "Queueing", ("refmodel.sched",), ("stopped",)),
    Chapter("devices", "Devices", ("refmodel.dev", "refmodel.ptr_ring", "refmodel.bridge"), ("tun", "bridge")),
    Chapter("cards", "Network cards", ("refmodel.nic",), ("send", "recv")),
    Chapter("medium", "The medium", ("refmodel.phy",), ()),
    Chapter("receiving", "Receiving", ("refmodel.receive",), ("recv", "veth")),
    Chapter("hosts", "Hosts and networks", ("refmodel.host",), ("broadcast", "loopback", "refused")),
)  # fmt: skip
"""A module belongs to the chapter that names it most exactly."""


def chapter_of(module: str) -> Chapter | None:
    """The chapter of a module; None if it is in none."""
    best: tuple[int, Chapter] | None = None
    for c in CHAPTERS:
        for p in c.packages:
            if (module == p or module.startswith(p + ".")) and (best is None or len(p) > best[0]):
                best = (len(p), c)
    return best[1] if best else None
