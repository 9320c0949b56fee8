"""Outer headers: packets within IPv4, IPv6, GRE and MPLS, as they are injected, and why none is expected.

What is injected goes to the stack as it is written, as the language's own tool does it. A stack without tunnel devices
has no handler for such a packet, and says so by ICMP. It sends none either: a line that expects one is refused.
"""

import ipaddress
import itertools
import struct
from typing import Final

from conformance.pkt import ast
from conformance.pkt.ast import Direction, Gre, IpLayer, Mpls, Script
from conformance.pkt.source import ScriptError
from refmodel.packet.codec import encode, seal
from refmodel.packet.ip import Ip, Ip6
from refmodel.packet.wire import checksum

IPPROTO_IPIP, IPPROTO_IPV6, IPPROTO_GRE = 4, 41, 47
ETH_P_IP, ETH_P_IPV6, ETH_P_MPLS_UC = 0x0800, 0x86DD, 0x8847
GRE_CHECKSUM, GRE_KEY, GRE_SEQ = 0x8000, 0x2000, 0x1000
ECN: Final = {ast.Ecn.NOECN: 0, ast.Ecn.ECT1: 1, ast.Ecn.ECT0: 2, ast.Ecn.CE: 3}


def check(script: Script) -> None:
    """Raises ScriptError for a packet that nothing could send, or that no device takes."""
    for event in script.events:
        packet = event.action
        if not isinstance(packet, ast.Packet):
            continue
        if isinstance(packet.body, ast.Tcp) and packet.body.spi is not None:
            raise ScriptError("a packet within PSP", packet.at, script.source,
                              help="PSP takes a device that has keys, and the device of a run has none")  # fmt: skip
        if not packet.layers:
            continue
        if packet.direction is Direction.OUT:
            raise ScriptError("a packet with outer headers is expected", packet.at, script.source,
                              help="it takes a tunnel device, and no command of scripts makes one")  # fmt: skip
        wrong = misplaced(packet.layers)
        if wrong:
            raise ScriptError(wrong, packet.at, script.source)


def misplaced(layers: tuple[ast.Encap, ...]) -> str:
    """What is wrong with the order of outer headers; '' where nothing is."""
    if not isinstance(layers[0], IpLayer):
        return "the outermost header is IPv4's or IPv6's: the device takes no other"
    for outer, inner in itertools.pairwise(layers):
        if isinstance(inner, Mpls) and not isinstance(outer, Gre):
            return "MPLS follows GRE: IP has no number for it here"
        if isinstance(inner, Gre) and not isinstance(outer, IpLayer):
            return "GRE follows IPv4 or IPv6"
    return ""


def wrap(layers: tuple[ast.Encap, ...], inner: bytes) -> bytes:
    """`inner`, an IP packet, within its outer headers: lengths, protocols and checksums filled in."""
    data = inner
    following: ast.Encap | None = None
    for layer in reversed(layers):
        match layer:
            case IpLayer():
                data = _ip(layer, following, data, inner[0] >> 4)
            case Gre():
                data = _gre(layer, following, data, inner[0] >> 4)
            case Mpls():
                data = _mpls(layer) + data
        following = layer
    return data


def protocol(layers: tuple[ast.Encap, ...], inner_version: int) -> int:
    """What the outermost header says that it carries."""
    return _protocol(layers[1] if len(layers) > 1 else None, inner_version)


def _protocol(following: ast.Encap | None, inner_version: int) -> int:
    if isinstance(following, Gre):
        return IPPROTO_GRE
    version = following.version if isinstance(following, IpLayer) else inner_version
    return IPPROTO_IPIP if version == 4 else IPPROTO_IPV6


def _ip(layer: IpLayer, following: ast.Encap | None, data: bytes, inner_version: int) -> bytes:
    info = layer.info
    tos, ttl, flow = 0, 255, 0
    if info is not None:
        tos = info.tos if info.tos is not None else ECN.get(info.ecn, 0) if info.ecn is not None else 0
        ttl, flow = info.ttl or 255, info.flowlabel or 0
    source, dest = (ipaddress.ip_address(a).packed for a in (layer.source, layer.dest))
    number = _protocol(following, inner_version)
    ip: Ip | Ip6 = Ip6(tos, flow, 0, number, ttl, source, dest)
    if layer.version == 4:
        ip = Ip(5, tos, 0, 0, 0, ttl, number, 0, source, dest)
    return encode(seal((ip,), data))


def _gre(layer: Gre, following: ast.Encap | None, data: bytes, inner_version: int) -> bytes:
    """RFC 2784 2.1, RFC 2890 2."""
    version = following.version if isinstance(following, IpLayer) else inner_version
    proto = ETH_P_MPLS_UC if isinstance(following, Mpls) else ETH_P_IP if version == 4 else ETH_P_IPV6
    with_sum = "checksum" in layer.flags
    flags = GRE_CHECKSUM if with_sum else 0
    fields = b""
    if "key" in layer.flags:
        flags |= GRE_KEY
        fields += struct.pack("!I", layer.key or 0)
    if "seq" in layer.flags:
        flags |= GRE_SEQ
        fields += struct.pack("!I", layer.seq or 0)
    head = struct.pack("!HH", flags, proto)
    if not with_sum:
        return head + fields + data
    offset = layer.off or 0
    total = layer.sum if layer.sum is not None else checksum(head + struct.pack("!HH", 0, offset) + fields + data)
    return head + struct.pack("!HH", total, offset) + fields + data


def _mpls(layer: Mpls) -> bytes:
    """RFC 3032 2.1."""
    words = (x.label << 12 | x.tc << 9 | int(x.bottom) << 8 | x.ttl for x in layer.labels)
    return b"".join(struct.pack("!I", word) for word in words)
