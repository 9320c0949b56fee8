"""Reads the options of matches."""

from typing import Final

from refmodel.netfilter import matches as m
from refmodel.netfilter.restore_words import (
    PROTOCOLS,
    Words,
    address,
    ip_range,
    masked,
    number,
    port_pair,
    ports,
)  # fmt: skip
from refmodel.netfilter.tuples import PORTS
from refmodel.netfilter.uapi import IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP
from refmodel.skbuff import PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST

FLAGS: Final = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ALL": 63, "NONE": 0}
ICMP_TYPES: Final = {
    "any": (255, 0, 255), "echo-reply": (0, 0, 255), "pong": (0, 0, 255), "destination-unreachable": (3, 0, 255),
    "network-unreachable": (3, 0, 0), "host-unreachable": (3, 1, 1), "protocol-unreachable": (3, 2, 2),
    "port-unreachable": (3, 3, 3), "fragmentation-needed": (3, 4, 4), "communication-prohibited": (3, 13, 13),
    "source-quench": (4, 0, 255), "redirect": (5, 0, 255), "echo-request": (8, 0, 255), "ping": (8, 0, 255),
    "time-exceeded": (11, 0, 255), "ttl-zero-during-transit": (11, 0, 0), "parameter-problem": (12, 0, 255),
    "timestamp-request": (13, 0, 255), "timestamp-reply": (14, 0, 255), "address-mask-request": (17, 0, 255),
    "address-mask-reply": (18, 0, 255),
}  # fmt: skip
STATES: Final = ("INVALID", "NEW", "ESTABLISHED", "RELATED", "UNTRACKED")
TYPES: Final = (
    "UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT",
)  # fmt: skip
UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


class Builder:
    """A match that is being read: `names` are its options, `_read` takes one and its values."""

    names: tuple[str, ...] = ()

    def option(self, words: Words, name: str, invert: bool) -> bool:
        """Takes the option if it is this match's."""
        if name not in self.names:
            return False
        self._read(words, name, invert)
        return True

    def build(self) -> m.Match:
        """The match."""
        return self._build()

    def _read(self, words: Words, name: str, invert: bool) -> None:
        """Reads an option's values."""

    def _build(self) -> m.Match:
        raise NotImplementedError


class TcpB(Builder):
    """-m tcp."""

    names = (
        "--sport", "--source-port", "--dport", "--destination-port", "--tcp-flags", "--syn", "--tcp-option",
    )  # fmt: skip

    def __init__(self) -> None:
        self.it = m.Tcp(spts=m.Ports(), dpts=m.Ports())

    def _read(self, words: Words, name: str, invert: bool) -> None:
        if name in ("--sport", "--source-port"):
            self.it.spts = ports(words, words.next("a port"), invert)
        elif name in ("--dport", "--destination-port"):
            self.it.dpts = ports(words, words.next("a port"), invert)
        elif name == "--tcp-option":
            self.it.option = number(words, words.next("an option's kind"), 1, 255, "an option's kind")
            self.it.invert_option = invert
        else:
            self.it.mask, self.it.comp = (0x17, 0x02) if name == "--syn" else (_flags(words), _flags(words))
            self.it.invert_flags = invert

    def _build(self) -> m.Match:
        return self.it


def _flags(words: Words) -> int:
    text = words.next("TCP flags")
    bits = 0
    for name in text.split(","):
        if name not in FLAGS:
            raise words.error(name, f"TCP flags: {', '.join(FLAGS)}")
        bits |= FLAGS[name]
    return bits


class UdpB(Builder):
    """-m udp."""

    names = ("--sport", "--source-port", "--dport", "--destination-port")

    def __init__(self) -> None:
        self.it = m.Udp(spts=m.Ports(), dpts=m.Ports())

    def _read(self, words: Words, name: str, invert: bool) -> None:
        if name in ("--sport", "--source-port"):
            self.it.spts = ports(words, words.next("a port"), invert)
        else:
            self.it.dpts = ports(words, words.next("a port"), invert)

    def _build(self) -> m.Match:
        return self.it


class IcmpB(Builder):
    """-m icmp."""

    names = ("--icmp-type",)

    def __init__(self) -> None:
        self.it = m.Icmp(type=255)

    def _read(self, words: Words, name: str, invert: bool) -> None:
        text = words.next("an ICMP type")
        if text in ICMP_TYPES:
            kind, low, high = ICMP_TYPES[text]
        else:
            first, _, code = text.partition("/")
            kind = number(words, first, 0, 255, "an ICMP type, as a name or a number")
            low, high = (number(words, code, 0, 255, "an ICMP code"),) * 2 if code else (0, 255)
        self.it = m.Icmp(type=kind, code=(low, high), invert=invert)

    def _build(self) -> m.Match:
        return self.it


class MultiportB(Builder):
    """-m multiport."""

    names = ("--sports", "--source-ports", "--dports", "--destination-ports", "--ports")

    def __init__(self) -> None:
        self.it: m.Multiport | None = None

    def _read(self, words: Words, name: str, invert: bool) -> None:
        which = "source" if "s" in name[2:3] else "destination" if name[2] == "d" else "either"
        text = words.next("ports")
        pairs = tuple(port_pair(words, x, ":") for x in text.split(","))
        if sum(1 + (low != high) for low, high in pairs) > 15:
            raise words.error(text, "at most 15 ports, a range counting twice")
        self.it = m.Multiport(which=which, ports=pairs, invert=invert)

    def _build(self) -> m.Match:
        return self.it or m.Multiport(which="either", ports=())


class StateB(Builder):
    """-m state."""

    names = ("--state",)

    def __init__(self) -> None:
        self.it: frozenset[str] = frozenset()

    def _read(self, words: Words, name: str, invert: bool) -> None:
        states = _names(words, STATES)
        self.it = frozenset(STATES) - states if invert else states

    def _build(self) -> m.Match:
        return m.ConnState(self.it)


def _names(words: Words, allowed: tuple[str, ...]) -> frozenset[str]:
    text = words.next(f"some of {', '.join(allowed)}")
    for name in text.split(","):
        if name not in allowed:
            raise words.error(name, f"some of {', '.join(allowed)}")
    return frozenset(text.split(","))


class ConntrackB(Builder):
    """-m conntrack."""

    names = (
        "--ctstate", "--ctproto", "--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst", "--ctorigsrcport",
        "--ctorigdstport", "--ctreplsrcport", "--ctrepldstport", "--ctstatus", "--ctexpire", "--ctdir",
    )  # fmt: skip

    def __init__(self) -> None:
        self.it = m.Conntracked()

    def _read(self, words: Words, name: str, invert: bool) -> None:
        it = self.it
        if name == "--ctstate":
            it.states, it.invert_state = _names(words, (*STATES, "SNAT", "DNAT")), invert
        elif name == "--ctproto":
            text = words.next("a protocol")
            it.proto = PROTOCOLS[text] if text in PROTOCOLS else number(words, text, 1, 255, "a protocol")
            it.invert_proto = invert
        elif name.endswith("port"):
            it.ports = (*it.ports, m.CtPorts(name[4:-4], ports(words, words.next("a port"), invert)))
        elif name == "--ctstatus":
            it.status, it.invert_status = 0, invert
            for word in _names(words, (*m.STATUS, "NONE")) - {"NONE"}:
                it.status |= m.STATUS[word]
        elif name == "--ctexpire":
            low, high = words.next("seconds").partition(":")[::2]
            it.expires = (
                number(words, low, 0, 0xFFFFFFFF, "seconds"),
                number(words, high or low, 0, 0xFFFFFFFF, "seconds"),
            )
            it.invert_expires = invert
        elif name == "--ctdir":
            text = words.next("ORIGINAL or REPLY")
            if text not in ("ORIGINAL", "REPLY"):
                raise words.error(text, "ORIGINAL or REPLY")
            it.direction = int(text == "REPLY")
        else:
            addr, mask = address(words, words.next("an address"))
            it.addresses = (*it.addresses, m.CtAddress(name[4:], addr, mask, invert))

    def _build(self) -> m.Match:
        return self.it


class MarkB(Builder):
    """-m mark, -m connmark."""

    names = ("--mark",)

    def __init__(self, connection: bool) -> None:
        self.connection = connection
        self.value = (0, 0, False)

    def _read(self, words: Words, name: str, invert: bool) -> None:
        self.value = (*masked(words, words.next("a mark"), "a mark"), invert)

    def _build(self) -> m.Match:
        mark, mask, invert = self.value
        if self.connection:
            return m.Connmark(mark, mask, invert)
        return m.Mark(mark=mark, mask=mask, invert=invert)


class LimitB(Builder):
    """-m limit: three an hour, with a burst of five, if nothing is said."""

    names = ("--limit", "--limit-burst")

    def __init__(self) -> None:
        self.it = m.Limit(avg=10_000 * 3600 // 3, burst=5)

    def _read(self, words: Words, name: str, invert: bool) -> None:
        text = words.next("a rate" if name == "--limit" else "packets")
        if name == "--limit-burst":
            self.it.burst = number(words, text, 1, 10_000, "packets")
            return
        count, _, unit = text.partition("/")
        found = [n for u, n in UNITS.items() if unit and u.startswith(unit)] if unit else [1]
        if not found:
            raise words.error(text, "packets a time, as 3/hour: second, minute, hour or day")
        self.it.avg = 10_000 * found[0] // number(words, count, 1, 10_000 * found[0], "packets a time")

    def _build(self) -> m.Match:
        return self.it


class LengthB(Builder):
    """-m length."""

    names = ("--length",)

    def __init__(self) -> None:
        self.it = m.Length(low=0, high=0xFFFF)

    def _read(self, words: Words, name: str, invert: bool) -> None:
        low, high = port_pair(words, words.next("a length"), ":")
        self.it = m.Length(low=low, high=high, invert=invert)

    def _build(self) -> m.Match:
        return self.it


class TtlB(Builder):
    """-m ttl."""

    names = ("--ttl-eq", "--ttl-lt", "--ttl-gt", "--ttl")

    def __init__(self) -> None:
        self.it = m.Ttl(how="eq", ttl=0)

    def _read(self, words: Words, name: str, invert: bool) -> None:
        how = "ne" if invert else name.removeprefix("--ttl-") if name != "--ttl" else "eq"
        self.it = m.Ttl(how=how, ttl=number(words, words.next("a TTL"), 0, 255, "a TTL"))

    def _build(self) -> m.Match:
        return self.it


class PktTypeB(Builder):
    """-m pkttype."""

    names = ("--pkt-type",)

    def __init__(self) -> None:
        self.it = m.PktType(type=0)

    def _read(self, words: Words, name: str, invert: bool) -> None:
        kinds = {"unicast": PACKET_HOST, "broadcast": PACKET_BROADCAST, "multicast": PACKET_MULTICAST}
        text = words.next("a packet type")
        if text not in kinds:
            raise words.error(text, ", ".join(kinds))
        self.it = m.PktType(type=kinds[text], invert=invert)

    def _build(self) -> m.Match:
        return self.it


class AddrTypeB(Builder):
    """-m addrtype."""

    names = ("--src-type", "--dst-type", "--limit-iface-in", "--limit-iface-out")

    def __init__(self) -> None:
        self.it = m.AddrType()

    def _read(self, words: Words, name: str, invert: bool) -> None:
        if name.startswith("--limit"):
            self.it.limit = name.rpartition("-")[2]
            return
        kinds = frozenset(TYPES.index(x) for x in _names(words, TYPES))
        if name == "--src-type":
            self.it.source, self.it.invert_source = kinds, invert
        else:
            self.it.dest, self.it.invert_dest = kinds, invert

    def _build(self) -> m.Match:
        return self.it


class IpRangeB(Builder):
    """-m iprange."""

    names = ("--src-range", "--dst-range")

    def __init__(self) -> None:
        self.it = m.IpRange()

    def _read(self, words: Words, name: str, invert: bool) -> None:
        span = ip_range(words, words.next("FIRST-LAST"))
        if name == "--src-range":
            self.it.src, self.it.invert_src = span, invert
        else:
            self.it.dst, self.it.invert_dst = span, invert

    def _build(self) -> m.Match:
        return self.it


class MacB(Builder):
    """-m mac."""

    names = ("--mac-source",)

    def __init__(self) -> None:
        self.it = m.Mac(addr=bytes(6))

    def _read(self, words: Words, name: str, invert: bool) -> None:
        text = words.next("a MAC address")
        parts = text.split(":")
        if len(parts) != 6:
            raise words.error(text, "a MAC address, as 02:00:00:00:00:01")
        addr = bytes(number(words, "0x" + x, 0, 255, "a byte of a MAC address") for x in parts)
        self.it = m.Mac(addr=addr, invert=invert)

    def _build(self) -> m.Match:
        return self.it


class StatisticB(Builder):
    """-m statistic."""

    names = ("--mode", "--every", "--packet", "--probability")

    def __init__(self) -> None:
        self.mode = ""
        self.every = 1
        self.packet = 0
        self.probability = 0
        self.invert = False

    def _read(self, words: Words, name: str, invert: bool) -> None:
        text = words.next("a value")
        self.invert = self.invert or invert
        if name == "--mode":
            if text not in ("nth", "random"):
                raise words.error(text, "nth or random")
            self.mode = text
        elif name == "--every":
            self.every = number(words, text, 1, 0xFFFFFFFF, "packets")
        elif name == "--packet":
            self.packet = number(words, text, 0, 0xFFFFFFFF, "a packet's number")
        else:
            try:
                self.probability = round(0x80000000 * float(text))
            except ValueError as e:
                raise words.error(text, "a probability from 0 to 1") from e

    def _build(self) -> m.Match:
        if self.mode == "random":
            return m.Random(probability=self.probability, invert=self.invert)
        # The first match comes after `packet` packets: userspace starts the counter that far from its turn.
        return m.Nth(every=self.every - 1, count=(self.every - 1 - self.packet) % self.every, invert=self.invert)


class CommentB(Builder):
    """-m comment."""

    names = ("--comment",)

    def __init__(self) -> None:
        self.text = ""

    def _read(self, words: Words, name: str, invert: bool) -> None:
        self.text = words.next("a comment")

    def _build(self) -> m.Match:
        return m.Comment(text=self.text)


BUILDERS: Final = {
    "tcp": TcpB, "udp": UdpB, "icmp": IcmpB, "multiport": MultiportB, "state": StateB, "conntrack": ConntrackB,
    "limit": LimitB, "length": LengthB, "ttl": TtlB, "pkttype": PktTypeB, "addrtype": AddrTypeB,
    "iprange": IpRangeB, "mac": MacB, "statistic": StatisticB, "comment": CommentB,
}  # fmt: skip
PROTO_OF: Final = {"tcp": (IPPROTO_TCP,), "udp": (IPPROTO_UDP,), "icmp": (IPPROTO_ICMP,), "multiport": PORTS}


def builder(words: Words, name: str, proto: int) -> Builder:
    """What reads a match of that name."""
    if proto not in PROTO_OF.get(name, (proto,)):
        raise words.error(f"-m {name}", f"-p with a protocol that match {name} is for, before it")
    if name in ("mark", "connmark"):
        return MarkB(name == "connmark")
    if name not in BUILDERS:
        raise words.error(name, f"a match that is modelled: {', '.join([*BUILDERS, 'mark', 'connmark'])}")
    made: Builder = BUILDERS[name]()
    return made


def implied(words: Words, proto: int, inverted: bool) -> Builder | None:
    """The match that -p brings along: -p tcp --dport 80."""
    names = {IPPROTO_TCP: "tcp", IPPROTO_UDP: "udp", IPPROTO_ICMP: "icmp"}
    return None if inverted or proto not in names else builder(words, names[proto], proto)
