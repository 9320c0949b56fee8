"""Holds a packet that the kernel sent against the line that expects it: which fields are exact, which are free."""

from msgspec import Struct, structs

from conformance.pkt import ast, printer
from conformance.pkt.ast import Ecn, IpInfo
from conformance.pkt.constants import icmp_numbers
from conformance.pkt.wire import ECN_BITS, FLAGS, Wire, written_flags
from refmodel.packet.codec import Packet
from refmodel.packet.icmp import Icmp, Icmp6
from refmodel.packet.ip import Ip, Ip6
from refmodel.packet.transport import Tcp, TcpOption, Timestamp, Udp
from refmodel.types import M32


class Difference(Struct, frozen=True):
    """A field whose value is not the one that the script expects, both as the script would write them."""

    field: str
    expected: str
    got: str


def joined(first: Packet, second: Packet, room: int) -> Packet | Difference:
    """Two consecutive segments as one: the first's place in the sequence, the second's flags, window and ack.

    All pieces but the last have the first one's size; `room` is how many bytes the script still expects.
    """
    a, b = first.get(Tcp), second.get(Tcp)
    if a is None or b is None:
        return Difference("protocol", "tcp", "another")
    if b.seq != (a.seq + first.payload_len) & M32:
        off = (b.seq - a.seq - first.payload_len + (1 << 31)) % (1 << 32) - (1 << 31)
        return Difference("sequence number", "the next byte", f"{off:+} bytes from it")
    if second.payload_len > room:
        return Difference("payload", f"at most {room} bytes more", f"{second.payload_len} bytes")
    loose = FLAGS["F"] | FLAGS["P"] | FLAGS["W"]
    if (a.flags ^ b.flags) & ~loose:
        return Difference("flags", f"{a.flags:#05x} as in the piece before", f"{b.flags:#05x}")
    tcp = structs.replace(b, seq=a.seq, flags=(b.flags & ~FLAGS["W"]) | (a.flags & FLAGS["W"]))
    return structs.replace(
        second,
        layers=tuple(tcp if x is b else x for x in second.layers),
        payload=first.payload + second.payload,
        payload_len=first.payload_len + second.payload_len,
    )


def differences(wire: Wire, live: Packet, expected: ast.Packet) -> list[Difference]:
    """What differs, most telling first; empty where the packet is the expected one."""
    match expected.body:
        case ast.Tcp():
            found = _tcp(wire, live, expected.body)
        case ast.Udp():
            udp = live.get(Udp)
            if udp is None:
                return [Difference("protocol", "udp", _protocol(live))]
            found = _same("length", expected.body.length, live.payload_len)
        case ast.Icmp():
            found = _icmp(wire, live, expected.body)
    return found + (_info(wire, live, expected.info) if expected.info is not None else [])


def _protocol(live: Packet) -> str:
    return live.layers[-1].NAME if live.layers else "no packet"


def _same(field: str, expected: object, got: object) -> list[Difference]:
    return [] if expected == got else [Difference(field, str(expected), str(got))]


def _tcp(wire: Wire, live: Packet, body: ast.Tcp) -> list[Difference]:
    tcp = live.get(Tcp)
    if tcp is None:
        return [Difference("protocol", "tcp", _protocol(live))]
    view = wire.script_view(live).body
    if not isinstance(view, ast.Tcp):
        return [Difference("protocol", "tcp", _protocol(live))]
    out: list[Difference] = []
    if written_flags(body) != tcp.flags:
        out += _same("flags", _flags(body), _flags(view))
    out += _same("sequence number", body.range.seq, view.range.seq)
    out += _same("length", body.range.length, view.range.length)
    if body.ack_flag:
        out += _same("ack", body.ack or 0, view.ack or 0)
    elif tcp.ack_seq:
        out += _same("ack", body.ack or 0, tcp.ack_seq)
    if body.win is not None:
        out += _same("win", body.win, tcp.window)
    out += _same("urg", body.urg or 0, tcp.urg_ptr)
    out += _same("reserved bits", 0, tcp.res1)
    if body.options is not None:
        out += _options(body.options, view.options or ())
    if live.payload.strip(b"\0"):
        out.append(Difference("payload", "zeroes", "other bytes"))
    return out


def _flags(body: ast.Tcp) -> str:
    return (body.flags + ("." if body.ack_flag else "") + (str(body.ace) if body.ace else "")) or "-"


def _options(expected: tuple[TcpOption, ...], got: tuple[TcpOption, ...]) -> list[Difference]:
    if _wire(expected) == _wire(got):
        return []
    return [Difference("options", _shown(expected), _shown(got))]


def _wire(options: tuple[TcpOption, ...]) -> bytes:
    """The bytes that are compared: those of time stamps are labels, and left out."""
    return b"".join(Timestamp(0, 0).wire() if isinstance(o, Timestamp) else o.wire() for o in options)


def _shown(options: tuple[TcpOption, ...]) -> str:
    return ", ".join(printer.option(o) for o in options) or "none"


def _icmp(wire: Wire, live: Packet, body: ast.Icmp) -> list[Difference]:
    icmp = live.get(Icmp) or live.get(Icmp6)
    if icmp is None:
        return [Difference("protocol", "icmp", _protocol(live))]
    numbers = icmp_numbers(wire.config.version, body.type, body.code)
    return _same("icmp type and code", numbers, (icmp.type, icmp.code))


def _info(wire: Wire, live: Packet, info: IpInfo) -> list[Difference]:
    ip = live.get(Ip) or live.get(Ip6)
    if ip is None:
        return [Difference("protocol", "ip", _protocol(live))]
    tos, ttl = (ip.tos, ip.ttl) if isinstance(ip, Ip) else (ip.tclass, ip.hop_limit)
    out: list[Difference] = []
    if info.tos is not None:
        out += _same("tos", hex(info.tos), hex(tos))
    if info.ecn is Ecn.ECT01:
        out += [] if tos & 3 in (1, 2) else _same("ecn", "ect01", tos & 3)
    elif info.ecn is not None:
        out += _same("ecn", ECN_BITS[info.ecn], tos & 3)
    if info.ttl:
        out += _same("ttl", info.ttl, ttl)
    if info.flowlabel is not None and isinstance(ip, Ip6):
        out += _flow_label(wire, info.flowlabel, ip.flow_lbl)
    return out


def _flow_label(wire: Wire, expected: int, got: int) -> list[Difference]:
    """Flow labels are names: one that the script repeats must be the live one of before, another one another."""
    conn = wire.target()
    before, conn.flow_label = conn.flow_label, (expected, got)
    if before is None or (expected == before[0]) == (got == before[1]):
        return []
    return [Difference("flow label", "the one before" if expected == before[0] else "another one", hex(got))]
