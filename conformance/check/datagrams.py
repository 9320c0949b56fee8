"""UDP, ICMP, fragments, multicast and router messages: which function sent each, and what none would send.

What a datagram holds is its application's choice; what the stack puts around it is not. An answer needs its question,
an error quotes the datagram that it is about, a fragment that is not the last is a multiple of eight bytes long. A host
that no sidecar names may be any stack: it is held only to what binds everyone.
"""

from collections import Counter, OrderedDict
from ipaddress import ip_address
from typing import Final

from msgspec import Struct

from conformance.check.setup import Setup
from conformance.check.verdict import Divergence, FrameLabel, Outcome, Verdict
from conformance.frames import Frame
from refmodel.packet.codec import Packet, checksums
from refmodel.packet.ether import Arp
from refmodel.packet.icmp import ICMP_ERRORS, Icmp, Icmp6, Icmp6Word, NdNa, NdNs
from refmodel.packet.ip import Ip, Ip6, Ip6Frag
from refmodel.packet.transport import Udp
from refmodel.packet.wire import Checksum

ASKED: Final = 4096  # questions remembered
LABELS: Final = 20_000
SUBJECTS: Final = 100_000
IGMP: Final = 2
ICMP_REPLIES: Final = {0: 8, 14: 13}
ICMP6_REPLIES: Final = {129: 128}
ND: Final = range(133, 138)
MLD: Final = (130, 131, 132, 143)
QUOTED: Final = 8  # bytes of the offending datagram's payload at least, RFC 792
ERROR_MAX: Final = {4: 576, 6: 1280}  # bytes; RFC 1812 4.3.2.3, RFC 4443 2.4 (c)
IP_MF: Final = 0x2000
OFFSET: Final = 0x1FFF


class Told(Struct, frozen=True):
    """What was made of a frame: who sent it and by which function; `wrong` is what no Linux would have sent."""

    by: str
    constraint: str = ""
    wrong: str = ""


class Subject:
    """One pair of end points: labels, and the first frame that should not be."""

    def __init__(self, layer: str, name: str) -> None:
        self.layer, self.name = layer, name
        self.labels: list[FrameLabel] = []
        self.ended: Divergence | None = None


def concerns(packet: Packet) -> str:
    """Which of these protocols a frame is of, the layer's name; '' for TCP, ARP, resolution and the unknown."""
    if packet.get(Arp) is not None or packet.get(NdNa) is not None:
        return ""
    four, six = packet.get(Ip), packet.get(Ip6)
    if packet.get(NdNs) is not None:
        return "icmp" if six is not None and not any(six.saddr) else ""
    if packet.get(Icmp) is not None or packet.get(Icmp6) is not None:
        return "icmp"
    if packet.get(Udp) is not None:
        return "udp"
    if four is not None and (four.frag_off & OFFSET or four.protocol == IGMP):
        return "ip"
    frag = packet.get(Ip6Frag)
    return "ip" if frag is not None and frag.frag_off >> 3 else ""


class Datagrams:
    """Follows what is neither TCP nor neighbour resolution."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.subjects: OrderedDict[tuple[str, str], Subject] = OrderedDict()
        self.asked: OrderedDict[tuple[bytes, bytes, int, int], bytes] = OrderedDict()
        self.fired: Counter[str] = Counter()
        self.room = LABELS
        self.complete = bool(setup.hosts)

    def frame(self, f: Frame, packet: Packet) -> bool:
        """Takes the next frame; False if it is not of these protocols."""
        layer = concerns(packet)
        if not layer:
            return False
        net = packet.get(Ip) or packet.get(Ip6)
        if net is None:
            return False
        told = self._told(packet, net)
        self.fired[told.by] += 1
        subject = self._subject(layer, packet, net)
        host = self.setup.host_of(net.saddr)
        name = host.name if host is not None else str(ip_address(net.saddr))
        if told.wrong and subject.ended is None and (host is None or host.linux):
            what = f"{told.wrong}: #{f.number} {subject.name}"
            subject.ended = Divergence(f.number, f.time / 1e9, name, what, constraint=told.constraint)
        elif self.room > 0:
            self.room -= 1
            subject.labels.append(FrameLabel(f.number, name, told.by, told.by))
        return True

    def finish(self) -> list[Verdict]:
        """The verdict on each pair of end points."""
        return [
            Verdict(
                s.layer,
                s.name,
                Outcome.CONFORMS if s.ended is None else Outcome.DIVERGES,
                "" if s.ended is None else s.ended.what,
                labels=tuple(s.labels),
                divergence=s.ended,
                inferred=self.setup.inferred,
            )
            for s in self.subjects.values()
        ]

    def _subject(self, layer: str, packet: Packet, net: Ip | Ip6) -> Subject:
        ends = [(net.saddr, 0), (net.daddr, 0)]
        udp = packet.get(Udp)
        if layer == "udp" and udp is not None:
            ends = [(net.saddr, udp.source), (net.daddr, udp.dest)]
        if len(self.subjects) >= SUBJECTS:
            key = layer, "further end points"
        else:
            a, b = sorted(ends)
            key = layer, f"{_end(*a)} - {_end(*b)}"
        found = self.subjects.get(key)
        if found is None:
            found = self.subjects[key] = Subject(*key)
        return found

    # -- by protocol

    def _told(self, packet: Packet, net: Ip | Ip6) -> Told:
        piece = self._piece(packet, net)
        if piece is not None:
            return piece
        icmp, icmp6, udp = packet.get(Icmp), packet.get(Icmp6), packet.get(Udp)
        if self._corrupt(packet, net):
            return Told("ip_output", "checksum", "its checksum is wrong")
        if icmp is not None:
            return self._icmp(packet, net, icmp.type, icmp.un)
        if icmp6 is not None:
            word = packet.get(Icmp6Word)
            return self._icmp6(packet, net, icmp6.type, word.un if word is not None else 0)
        if udp is not None:
            return self._udp(packet, net, udp)
        return Told("igmpv3_sendpack")

    def _corrupt(self, packet: Packet, net: Ip | Ip6) -> bool:
        """Whether a recorded host that is near sent a frame whose checksum is neither right nor left to its device."""
        host = self.setup.host_of(net.saddr)
        if host is None or host.name != self.setup.near or not host.linux:
            return False
        return any(c is Checksum.WRONG for _, c in checksums(packet))

    def _udp(self, packet: Packet, net: Ip | Ip6, udp: Udp) -> Told:
        whole = isinstance(net, Ip) and not net.frag_off & IP_MF and packet.get(Ip6Frag) is None
        room = net.tot_len - 4 * net.ihl if isinstance(net, Ip) else net.payload_len
        if whole and udp.len and udp.len != room:
            return Told("udp_send_skb", "udp-length", f"UDP length {udp.len} in {room} bytes")
        return Told("udp_v6_send_skb" if isinstance(net, Ip6) else "udp_send_skb")

    def _icmp(self, packet: Packet, net: Ip | Ip6, kind: int, word: int) -> Told:
        if kind in ICMP_REPLIES:
            return self._answer("icmp_reply", packet, net, ICMP_REPLIES[kind], word)
        if kind in ICMP_ERRORS:
            return self._error("__icmp_send", packet, net, 4)
        self._ask(packet, net, kind, word)
        return Told("raw_sendmsg")

    def _icmp6(self, packet: Packet, net: Ip | Ip6, kind: int, word: int) -> Told:
        if kind in ICMP6_REPLIES:
            return self._answer("icmpv6_echo_reply", packet, net, ICMP6_REPLIES[kind], word)
        if kind < 128:
            return self._error("icmp6_send", packet, net, 6)
        if kind in ND:
            hops = net.hop_limit if isinstance(net, Ip6) else 255
            by = {133: "ndisc_send_rs", 135: "ndisc_send_ns", 137: "ndisc_send_redirect"}.get(kind, "ndisc_send_skb")
            if hops != 255:
                return Told(by, "nd-hop-limit", f"neighbour discovery with hop limit {hops}, not 255")
            return Told(by)
        if kind in MLD:
            hops = net.hop_limit if isinstance(net, Ip6) else 1
            if hops != 1:
                return Told(
                    "mld_sendpack", "mld-hop-limit", f"a multicast listener's report with hop limit {hops}, not 1"
                )
            return Told("mld_sendpack")
        self._ask(packet, net, kind, word)
        return Told("rawv6_sendmsg")

    def _ask(self, packet: Packet, net: Ip | Ip6, kind: int, word: int) -> None:
        self.asked[net.saddr, net.daddr, kind, word] = packet.payload
        if len(self.asked) > ASKED:
            self.asked.popitem(last=False)

    def _answer(self, by: str, packet: Packet, net: Ip | Ip6, kind: int, word: int) -> Told:
        """An echo's answer has the question's identifier, number and data. RFC 792; net/ipv4/icmp.c:icmp_echo."""
        question = self.asked.get((net.daddr, net.saddr, kind, word))
        if question is None:
            if self.complete and len(self.asked) < ASKED and not _multicast_asked(self.asked, net, kind, word):
                return Told(by, "answer-without-question", "it answers what nobody asked")
            return Told(by)
        n = min(len(question), len(packet.payload))
        if question[:n] != packet.payload[:n] or (not packet.truncated and len(question) > len(packet.payload)):
            return Told(by, "answer-differs", "its data is not the question's")
        return Told(by)

    def _error(self, by: str, packet: Packet, net: Ip | Ip6, version: int) -> Told:
        """An error goes to the source of the datagram that it quotes. RFC 1122 3.2.2; net/ipv4/icmp.c:__icmp_send."""
        quoted = packet.payload
        need = 20 if version == 4 else 40
        if len(quoted) < need or quoted[0] >> 4 != version:
            if not packet.truncated:
                return Told(by, "error-quotes", "it quotes no datagram")
            return Told(by)
        source = quoted[12:16] if version == 4 else quoted[8:24]
        if source != net.daddr and self.complete:
            return Told(by, "error-quotes", f"it goes to another host than {ip_address(source)}, whom it quotes")
        size = net.tot_len if isinstance(net, Ip) else net.payload_len + 40
        if size > ERROR_MAX[version] and self.complete:
            return Told(by, "error-size", f"{size} bytes; Linux quotes up to {ERROR_MAX[version]} in all")
        if version == 4 and quoted[9] == 1 and len(quoted) > (quoted[0] & 15) * 4:
            if quoted[(quoted[0] & 15) * 4] in ICMP_ERRORS:
                return Told(by, "error-about-error", "an error about an error")
            if int.from_bytes(quoted[6:8], "big") & OFFSET:
                return Told(by, "error-about-fragment", "an error about a fragment that is not the first")
        return Told(by)

    # -- fragments

    def _piece(self, packet: Packet, net: Ip | Ip6) -> Told | None:
        """A later fragment; None if the frame is whole or a first fragment."""
        if isinstance(net, Ip):
            at, more = (net.frag_off & OFFSET) * 8, net.frag_off & IP_MF != 0
            size, by = net.tot_len - 4 * net.ihl, "ip_do_fragment"
        else:
            f = packet.get(Ip6Frag)
            if f is None:
                return None
            at, more, by = f.frag_off & ~7, f.frag_off & 1 != 0, "ip6_fragment"
            size = net.payload_len - 8
        if not at and not more:
            return None
        if more and size % 8:
            return Told(by, "fragment-size", f"a fragment of {size} bytes with more to come: not a multiple of 8")
        if not at:
            return None
        return Told(by)


def _multicast_asked(
    asked: OrderedDict[tuple[bytes, bytes, int, int], bytes], net: Ip | Ip6, kind: int, word: int
) -> bool:
    """Whether the asker had asked a group or everyone."""
    return any(k[0] == net.daddr and k[2:] == (kind, word) for k in asked)


def _end(address: bytes, port: int) -> str:
    ip = ip_address(address)
    if not port:
        return str(ip)
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
