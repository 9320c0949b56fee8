"""Random sequences of frames for GRO: a few flows, mostly in order, with everything that keeps segments apart."""

import random
from typing import Final

from msgspec import Struct

from refmodel.packet.wire import checksum, pseudo_header

SRC: Final = bytes.fromhex("02000000000a")
DST: Final = bytes.fromhex("02000000000b")
MTU: Final = 1500
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128


class Flow(Struct):
    """One flow's next segment."""

    ipv6: bool
    udp: bool
    saddr: bytes
    daddr: bytes
    sport: int
    dport: int
    seq: int
    ack: int
    win: int
    mss: int
    ident: int
    step: int
    df: bool
    ttl: int
    tos: int
    label: int
    stamp: int
    options: bool
    extension: bytes
    flags: int = ACK


def flow(rng: random.Random) -> Flow:
    """A flow of either family and protocol."""
    ipv6 = rng.random() < 0.35
    n = rng.randrange(1, 4)
    a = bytes.fromhex("fd00") + bytes(13) + bytes((n,)) if ipv6 else bytes((10, 0, 0, n))
    b = bytes.fromhex("fd00") + bytes(13) + b"\xfe" if ipv6 else bytes((10, 0, 0, 254))
    extension = bytes((0, 0, 1, 4, 0, 0, 0, 0)) if ipv6 and rng.random() < 0.15 else b""
    return Flow(
        ipv6, rng.random() < 0.25, a, b, rng.randrange(1000, 1003), 80,
        rng.choice((1, 0xFFFFF000, rng.getrandbits(32))), rng.getrandbits(32), rng.randrange(65536),
        rng.choice((1, 8, 100, 536, 1000, 1380)), rng.choice((0, 0xFFF0, rng.getrandbits(16))),
        rng.choice((1, 1, 1, 0, 0, 2)), rng.random() < 0.7, 64, rng.choice((0, 0, 2, 8)), rng.getrandbits(20),
        rng.getrandbits(32), rng.random() < 0.5, extension, ACK | rng.choice((0,) * 12 + (CWR, ECE, ECE | CWR)),
    )  # fmt: skip


def sequence(rng: random.Random) -> list[bytes]:
    """One sequence: frames that one poll is to take."""
    flows = [flow(rng) for _ in range(rng.choice((1, 1, 2, 2, 3, 5, 12)))]
    calm = rng.random() < 0.4
    frames: list[bytes] = []
    for _ in range(rng.randrange(2, 40) if rng.random() < 0.9 else rng.randrange(40, 140)):
        f = rng.choice(flows)
        frames.append(one(rng, f, 0.03 if calm else 0.25))
        if not calm and rng.random() < 0.05 and len(frames) > 1:
            frames[-1], frames[-2] = frames[-2], frames[-1]
        if not calm and rng.random() < 0.03:
            frames.append(rng.choice(frames))
    return frames


def one(rng: random.Random, f: Flow, oddness: float) -> bytes:
    """The next segment of a flow, with chance `oddness` something odd about it."""
    odd = rng.choice(ODDITIES) if rng.random() < oddness else ""
    vary(rng, f, odd)
    flags = f.flags | FLAGS.get(odd, 0)
    size = {"short": rng.randrange(1, f.mss + 1), "long": f.mss + rng.randrange(1, 40), "ack": 0}.get(odd, f.mss)
    payload = rng.randbytes(size)
    upper = udp(f, payload, odd) if f.udp else tcp(rng, f, flags, payload, odd)
    if not f.udp:
        f.seq = (f.seq + size) & 0xFFFFFFFF
    packet = ip6(rng, f, upper, odd) if f.ipv6 else ip4(rng, f, upper, odd)
    if odd == "padding":
        packet += bytes(rng.randrange(1, 20))
    if odd == "cut":
        packet = packet[: rng.randrange(1, len(packet))]
    source = bytes.fromhex("0200000000aa") if odd == "mac" else SRC
    ethertype = 0x88B5 if odd == "ethertype" else 0x86DD if f.ipv6 else 0x0800
    return DST + source + ethertype.to_bytes(2, "big") + packet


FLAGS: Final = {"psh": PSH, "fin": FIN | PSH, "syn": SYN, "rst": RST, "urg": URG, "ece": ECE, "cwr": CWR}
ODDITIES: Final = (
    "psh", "fin", "syn", "rst", "urg", "ece", "cwr", "short", "long", "ack", "gap", "back", "newack", "win", "ttl",
    "tos", "df", "ident", "step", "badsum", "badip", "options", "fragment", "padding", "cut", "mac", "ethertype",
    "stamp", "tcpopt", "doff", "proto", "label", "length", "nosum", "reserved", "version",
)  # fmt: skip


def vary(rng: random.Random, f: Flow, odd: str) -> None:
    """What changes for the flow from here on."""
    if odd == "gap":
        f.seq = (f.seq + rng.choice((1, f.mss))) & 0xFFFFFFFF
    elif odd == "back":
        f.seq = (f.seq - f.mss) & 0xFFFFFFFF
    elif odd == "newack":
        f.ack = (f.ack + 1) & 0xFFFFFFFF
    elif odd == "win":
        f.win = rng.randrange(65536)
    elif odd == "ttl":
        f.ttl = rng.choice((1, 63, 64, 65))
    elif odd == "tos":
        f.tos ^= rng.choice((1, 2, 3, 8, 0x40))
    elif odd == "df":
        f.df = not f.df
    elif odd == "ident":
        f.ident = rng.getrandbits(16)
    elif odd == "step":
        f.step = rng.choice((0, 1, 2))
    elif odd == "stamp":
        f.stamp = (f.stamp + 1) & 0xFFFFFFFF
    elif odd == "tcpopt":
        f.options = not f.options
    elif odd == "label":
        f.label = rng.getrandbits(20)


def sealed(f: Flow, proto: int, upper: bytes, at: int, odd: str) -> bytes:
    """The transport header with its checksum, wrong if that is odd."""
    check = checksum(upper, pseudo_header(f.saddr, f.daddr, proto, len(upper)))
    if odd == "badsum":
        check ^= 0x5A5A
    return upper[:at] + check.to_bytes(2, "big") + upper[at + 2 :]


def tcp(rng: random.Random, f: Flow, flags: int, payload: bytes, odd: str) -> bytes:
    """A TCP segment."""
    options = b"\x01\x01\x08\x0a" + f.stamp.to_bytes(4, "big") + b"\0\0\0\1" if f.options else b""
    if odd == "doff":
        doff = rng.randrange(16)
    else:
        doff = 5 + len(options) // 4
    reserved = rng.randrange(16) if odd == "reserved" else 0
    head = f.sport.to_bytes(2, "big") + f.dport.to_bytes(2, "big") + f.seq.to_bytes(4, "big") + f.ack.to_bytes(4, "big")
    head += bytes((doff << 4 | reserved, flags)) + f.win.to_bytes(2, "big") + bytes(4)
    return sealed(f, 6, head + options + payload, 16, odd)


def udp(f: Flow, payload: bytes, odd: str) -> bytes:
    """A UDP datagram."""
    length = len(payload) + 8 + (3 if odd == "length" else 0)
    head = f.sport.to_bytes(2, "big") + f.dport.to_bytes(2, "big") + length.to_bytes(2, "big") + b"\0\0"
    return head + payload if odd == "nosum" else sealed(f, 17, head + payload, 6, odd)


def protocol(f: Flow, odd: str) -> int:
    """What the IP header says that follows."""
    return 253 if odd == "proto" else 17 if f.udp else 6


def ip4(rng: random.Random, f: Flow, upper: bytes, odd: str) -> bytes:
    """An IPv4 packet."""
    options = b"\x01\x01\x01\x00" if odd == "options" else b""
    frag = (0x4000 if f.df else 0) | (rng.choice((0x2000, 0x8000, 0x0001)) if odd == "fragment" else 0)
    total = 20 + len(options) + len(upper) + (5 if odd == "length" else 0)
    version = 0x60 if odd == "version" else 0x40
    head = bytes((version | 5 + len(options) // 4, f.tos)) + total.to_bytes(2, "big") + f.ident.to_bytes(2, "big")
    head += frag.to_bytes(2, "big") + bytes((f.ttl, protocol(f, odd), 0, 0)) + f.saddr + f.daddr + options
    f.ident = (f.ident + f.step) & 0xFFFF
    check = checksum(head) ^ (0x1111 if odd == "badip" else 0)
    return head[:10] + check.to_bytes(2, "big") + head[12:] + upper


def ip6(rng: random.Random, f: Flow, upper: bytes, odd: str) -> bytes:
    """An IPv6 packet, perhaps with a hop-by-hop header."""
    extension = bytes((protocol(f, odd),)) + f.extension[1:] if f.extension else b""
    length = len(extension) + len(upper) + (5 if odd == "length" else 0)
    word = (4 if odd == "version" else 6) << 28 | f.tos << 20 | f.label
    first = 0 if extension else protocol(f, odd)
    head = word.to_bytes(4, "big") + length.to_bytes(2, "big") + bytes((first, f.ttl)) + f.saddr + f.daddr
    return head + extension + upper
