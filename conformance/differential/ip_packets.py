"""Random IPv4 packets for the IP differential: valid and broken headers, options, fragments, ICMP, super-segments."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from conformance.differential.ip_world import IN, MACS, OUT, PEER_MACS, TUN, UDP_PORT, World
from refmodel.packet.wire import checksum, pseudo_header
from refmodel.skbuff import (
    CHECKSUM_PARTIAL,
    ETH_P_IP,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    SKB_GSO_DODGY,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCPV4,
    SKB_GSO_UDP_L4,
    SkBuff,
)

KINDS: Final = {
    PACKET_HOST: b"",
    PACKET_BROADCAST: b"\xff" * 6,
    PACKET_MULTICAST: bytes.fromhex("01005e000001"),
    PACKET_OTHERHOST: bytes.fromhex("020000000077"),
}
VNET: Final = struct.Struct("=BBHHHH")


@dataclass(frozen=True)
class Sent:
    """A packet that comes in: at which device, in what kind of frame; a super-segment has `gso_size`."""

    device: str
    data: bytes
    pkt_type: int = PACKET_HOST
    gso_size: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    what: str = ""

    @property
    def frame(self) -> bytes:
        """As it is written to the wire, or to the tun device."""
        if self.device == TUN:
            flags = 1 if self.gso_size else 0
            kind = {SKB_GSO_TCPV4: 1, SKB_GSO_UDP_L4: 5}.get(self.gso_type & ~SKB_GSO_TCP_ECN, 0)
            kind |= 0x80 if self.gso_type & SKB_GSO_TCP_ECN else 0
            at = (self.data[0] & 15) * 4
            field = 16 if self.gso_type & SKB_GSO_TCPV4 else 6
            return (
                VNET.pack(flags, kind, self.hdr_len, self.gso_size, at if flags else 0, field if flags else 0)
                + self.data
            )
        to = KINDS[self.pkt_type] or MACS[self.device]
        return to + PEER_MACS[self.device] + b"\x08\x00" + self.data

    def skb(self) -> SkBuff:
        """The packet for the model, without its device."""
        skb = SkBuff(self.data, ETH_P_IP, pkt_type=self.pkt_type)
        if self.gso_size:
            skb.gso_size, skb.gso_type = self.gso_size, self.gso_type | SKB_GSO_DODGY
            skb.ip_summed = CHECKSUM_PARTIAL
        return skb


def header(
    saddr: str,
    daddr: str,
    protocol: int,
    payload: bytes,
    *,
    options: bytes = b"",
    tos: int = 0,
    id: int = 0,
    frag_off: int = 0,
    ttl: int = 64,
    tot_len: int | None = None,
    bad_check: int = 0,
) -> bytes:
    """A packet with a right checksum, off by `bad_check`."""
    ihl = 5 + len(options) // 4
    length = ihl * 4 + len(payload) if tot_len is None else tot_len
    address = [bytes(int(x) for x in a.split(".")) for a in (saddr, daddr)]
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | ihl, tos, length, id, frag_off, ttl, protocol, 0, *address) + options
    check = checksum(head) ^ bad_check
    return head[:10] + check.to_bytes(2, "big") + head[12:] + payload


def udp(saddr: str, daddr: str, dport: int, body: bytes, sum: bool = True) -> bytes:
    """A datagram."""
    address = [bytes(int(x) for x in a.split(".")) for a in (saddr, daddr)]
    head = struct.pack("!HHHH", 4000, dport, 8 + len(body), 0)
    if not sum:
        return head + body
    check = checksum(head + body, pseudo_header(address[0], address[1], 17, 8 + len(body))) or 0xFFFF
    return head[:6] + check.to_bytes(2, "big") + body


def tcp(
    saddr: str, daddr: str, flags: int, body: bytes, seq: int = 1000, ack: int = 0, *, partial: bool = False
) -> bytes:
    """A segment; with `partial` the checksum is yet to be made."""
    address = [bytes(int(x) for x in a.split(".")) for a in (saddr, daddr)]
    head = struct.pack("!HHIIBBHHH", 4000, 81, seq, ack, 0x50, flags, 1000, 0, 0)
    pseudo = pseudo_header(address[0], address[1], 6, 20 + len(body))
    check = pseudo if partial else checksum(head + body, pseudo)
    return head[:16] + check.to_bytes(2, "big") + head[18:] + body


def icmp(type: int, code: int, rest: bytes, body: bytes) -> bytes:
    """A message with a right checksum."""
    message = struct.pack("!BBH", type, code, 0) + rest + body
    return message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


class Generator:
    """A reproducible stream of packets for one world."""

    def __init__(self, world: World, seed: int, udp_gso: bool = True) -> None:
        self.world = world
        self.udp_gso = udp_gso  # a tun device takes such since 6.2 (VIRTIO_NET_HDR_GSO_UDP_L4)
        self.rng = random.Random(seed)
        self.next_source = 0

    # ---- pieces

    def source(self, device: str) -> str:
        """An address that was not used before, so that no limit of a host plays a part."""
        r = self.rng
        self.next_source += 1
        a, b = self.next_source // 250 % 200 + 20, self.next_source % 250 + 2
        base = {IN: "10.1", OUT: "10.2"}.get(device, "10.1")
        if device == TUN:
            return f"10.11.0.{r.randrange(2, 250)}"
        if r.random() < 0.15:
            return f"10.3.{a}.{b}"
        if r.random() < 0.02:
            return r.choice(["127.0.0.1", "224.1.2.3", "255.255.255.255"])
        return f"{base}.{a}.{b}"

    def destination(self) -> str:
        """Local, across, through gateways, back where it came from, refused, to groups and all."""
        r = self.rng
        host = f"{r.randrange(0, 254)}.{r.randrange(2, 250)}"
        across = r.choice(["10.2", "10.3", "10.8", "10.9", "10.2", "10.3"])
        return r.choices(
            [
                "10.1.0.1",
                "10.2.0.1",
                f"{across}.{host}",
                f"10.4.{host}",
                f"10.1.{host}",
                r.choice([f"10.5.{host}", f"10.6.{host}", f"10.7.{host}", f"203.0.113.{r.randrange(1, 250)}"]),
                r.choice(["255.255.255.255", "10.1.255.255", "10.2.255.255"]),
                r.choice(["224.0.0.1", "224.0.0.251", "239.1.1.1"]),
                r.choice(["127.0.0.1", "240.0.0.1"]) if r.random() < 0.3 else "10.1.0.1",
            ],
            [20, 8, 45, 4, 4, 8, 4, 4, 3],
        )[0]

    def body(self, most: int = 1400) -> bytes:
        """Payload of a random length, short ones more often."""
        r = self.rng
        n = r.choice([0, r.randrange(0, 64), r.randrange(0, most), most])
        return r.randbytes(n)

    def address_option(self) -> bytes:
        """An address for an option."""
        r = self.rng
        text = r.choice(["10.1.0.1", "10.2.0.1", f"10.2.9.{r.randrange(2, 250)}", f"10.3.1.{r.randrange(2, 250)}"])
        return bytes(int(x) for x in text.split("."))

    def option(self) -> bytes:
        """One option, usually valid."""
        r = self.rng
        kind = r.choice([7, 7, 68, 68, 68, 131, 137, 148, 130, 136, 134, 1, 0, r.randrange(256)])
        if kind <= 1:
            return bytes((kind,)) * r.randrange(1, 4)
        if kind in (7, 131, 137):
            slots = r.randrange(0, 6)
            pointer = r.choice([4, 4, 4 + 4 * r.randrange(0, slots + 2), r.randrange(256)])
            filled = b"".join(self.address_option() if r.random() < 0.7 else bytes(4) for _ in range(slots))
            out = bytes((kind, 3 + 4 * slots, pointer)) + filled
        elif kind == 68:
            flag = r.choice([0, 1, 3, 3, r.randrange(16)])
            step = 4 if flag == 0 else 8
            slots = r.randrange(0, 4)
            pointer = r.choice([5, 5, 5 + step * r.randrange(0, slots + 2), r.randrange(256)])
            overflow = r.choice([0, 0, 15, r.randrange(16)])
            content = b"".join(self.address_option() + bytes(step - 4) for _ in range(slots))
            out = bytes((kind, 4 + step * slots, pointer, overflow << 4 | flag)) + content
        elif kind == 148:
            out = bytes((kind, 4, 0, r.choice([0, 0, 1])))
        else:
            size = r.randrange(2, 12)
            out = bytes((kind, size)) + r.randbytes(size - 2)
        if r.random() < 0.08 and len(out) > 2:
            out = out[:1] + bytes((r.choice([0, 1, 2, 3, out[1] + 1, 40, r.randrange(256)]) & 0xFF,)) + out[2:]
        return out

    def options(self, chance: float = 0.25) -> bytes:
        """Options of up to 40 bytes, padded."""
        r = self.rng
        if r.random() > chance:
            return b""
        out = b""
        for _ in range(r.choice([1, 1, 2, 3])):
            more = self.option()
            if len(out) + len(more) <= 40:
                out += more
        return out + bytes((r.choice([0, 0, 1]),)) * (-len(out) % 4)

    def transport(self, saddr: str, daddr: str) -> tuple[int, bytes]:
        """(protocol, payload)."""
        r = self.rng
        kind = r.random()
        if kind < 0.3:
            return 17, udp(saddr, daddr, r.choice([UDP_PORT, UDP_PORT, 7, 9999]), self.body(), r.random() < 0.7)
        if kind < 0.4:
            return 6, tcp(saddr, daddr, r.choice([2, 16, 24, 17, 4, 18]), self.body(600), r.getrandbits(32), 77)
        if kind < 0.75:
            return 1, self.message(saddr, daddr)
        return r.choice([253, 254, 99, 255]), self.body()

    def message(self, saddr: str, daddr: str) -> bytes:
        """An ICMP message: questions, answers, errors, unknown types, short and broken ones."""
        r = self.rng
        type = r.choice([8, 8, 8, 13, 0, 3, 3, 5, 11, 12, 4, 17, 15, r.randrange(256)])
        if type == 42:
            type = 8
        code = r.choice([0, 0, 1, 3, 4, r.randrange(20)])
        if type in (3, 4, 5, 11, 12):
            quoted = header(daddr, saddr, r.choice([17, 6, 1, 253, 255]), r.randbytes(r.choice([0, 4, 8, 40])))
            if r.random() < 0.1:
                quoted = bytes((r.choice([0x44, 0x4F]),)) + quoted[1:]
            body = quoted[: r.choice([len(quoted), len(quoted), 27, 19, 0])]
        else:
            body = self.body(200) if type != 13 else r.randbytes(r.choice([12, 12, 4, 3, 0]))
        out = icmp(type, code, r.randbytes(4), body)
        if r.random() < 0.05:
            out = out[:2] + r.randbytes(2) + out[4:]
        if r.random() < 0.03:
            out = out[: r.randrange(0, 8)]
        return out

    # ---- packets

    def whole(self) -> Sent:
        """One packet that is no fragment, valid or not."""
        r = self.rng
        device = r.choice([IN, IN, IN, OUT])
        saddr, daddr = self.source(device), self.destination()
        protocol, payload = self.transport(saddr, daddr)
        pkt_type = r.choices([PACKET_HOST, PACKET_OTHERHOST, PACKET_BROADCAST, PACKET_MULTICAST], [90, 3, 4, 3])[0]
        data = header(
            saddr, daddr, protocol, payload, options=self.options(), tos=r.choice([0, 0, 0x10, 0xB8, r.randrange(256)]),
            id=r.getrandbits(16), frag_off=r.choice([0, 0, 0x4000, 0x8000]),
            ttl=r.choice([64, 64, 64, 255, 2, 1, 0]),
        )  # fmt: skip
        return Sent(device, self.broken(data), pkt_type, what=f"{saddr} -> {daddr} protocol {protocol}")

    def broken(self, data: bytes) -> bytes:
        """Now and then something in the header is wrong, or the frame is padded or cut."""
        r = self.rng
        if len(data) < 46 and r.random() < 0.5:
            data += bytes(46 - len(data))
        if r.random() > 0.12:
            return data
        way = r.randrange(7)
        out = bytearray(data)
        if way == 0:
            out[0] = r.choice([0x44, 0x65, 0x40, 0x4F, r.randrange(256)])
        elif way == 1:
            out[10] ^= 1 << r.randrange(8)
        elif way == 2:
            out[2:4] = r.randrange(0, 1600).to_bytes(2, "big")
            out = mended(out)
        elif way == 3:
            del out[r.randrange(1, len(out)) :]
        elif way == 4:
            out += r.randbytes(r.randrange(1, 40))
        elif way == 5:
            out[2:4] = r.randrange(0, 24).to_bytes(2, "big")
            out = mended(out)
        else:
            del out[r.randrange(1, 24) :]
        return bytes(out) or b"\x45"

    def fragments(self) -> Iterator[Sent]:
        """A datagram in fragments: in any order, some twice, some overlapping, some missing."""
        r = self.rng
        device = r.choice([IN, IN, OUT])
        saddr = self.source(device)
        near = ["10.1.0.1"] if self.world.conntrack else ["10.1.0.1", "10.1.0.1", "10.2.0.1"]
        daddr = r.choice([*near, self.destination(), f"10.2.{r.randrange(250)}.9" if self.world.conntrack else near[0]])
        protocol = r.choice([17, 17, 1, 253])
        largest = r.choice([65000, 65515 - 8, 65520])
        size = r.choice([r.randrange(16, 200), r.randrange(200, 4000), largest])
        if protocol == 17:
            payload = udp(saddr, daddr, r.choice([UDP_PORT, 7]), r.randbytes(max(0, size - 8)), size < 60000)
        elif protocol == 1:
            payload = icmp(8, 0, r.randbytes(4), r.randbytes(size))
        else:
            payload = r.randbytes(size)
        ident = r.getrandbits(16)
        options = self.options(0.1)
        tos = r.choice([0, 0, 2, 1])
        cuts = self.cuts(len(payload), 1400 if size > 5000 else r.choice([8, 24, 64, 512, 1400]))
        parts = []
        df = r.random() < 0.2
        for start, end in cuts:
            offset, mf = start // 8, 0x2000 if end < len(payload) else 0
            ecn = r.choice([3, 0, 1]) if r.random() < 0.05 else tos
            parts.append((offset | mf | (0x4000 if df and r.random() < 0.7 else 0), payload[start:end], ecn))
        self.disturb(parts, payload)
        for frag_off, piece, ecn in parts:
            data = header(
                saddr, daddr, protocol, piece, options=options, tos=ecn, id=ident, frag_off=frag_off,
                ttl=r.choice([64, 64, 1 if r.random() < 0.05 else 64]),
            )  # fmt: skip
            yield Sent(device, data, what=f"{saddr} -> {daddr} fragment {frag_off:#06x} of {len(payload)} bytes")

    def cuts(self, size: int, room: int) -> list[tuple[int, int]]:
        """Where a datagram is cut: at multiples of 8."""
        r = self.rng
        out: list[tuple[int, int]] = []
        at = 0
        while at < size:
            n = min(size - at, room if r.random() < 0.7 else r.randrange(1, room // 8 + 1) * 8)
            if len(out) >= 60 and size - at <= 1400:
                n = size - at
            elif len(out) >= 60:
                n = 1400
            out.append((at, at + n))
            at += n
        return out

    def disturb(self, parts: list[tuple[int, bytes, int]], payload: bytes) -> None:
        """Changes order, doubles, drops, overlaps, contradicts."""
        r = self.rng
        way = r.random()
        if way < 0.45:
            r.shuffle(parts)
        elif way < 0.6:
            parts.reverse()
        if r.random() < 0.3:
            parts.insert(r.randrange(len(parts) + 1), r.choice(parts))
        if r.random() < 0.15:
            parts.pop(r.randrange(len(parts)))
        if r.random() < 0.25 and len(payload) > 24:
            start = r.randrange(0, len(payload) // 8) * 8
            end = min(len(payload), start + r.choice([8, 16, 24, 20]))
            more = 0x2000 if end < len(payload) or r.random() < 0.3 else 0
            parts.insert(
                r.randrange(len(parts) + 1), (start // 8 | more, payload[start:end], parts[0][2] if parts else 0)
            )
        if r.random() < 0.06:
            parts.insert(
                r.randrange(len(parts) + 1),
                (r.randrange(8192) | r.choice([0, 0x2000]), r.randbytes(r.choice([0, 5, 8])), 0),
            )

    def super_segment(self) -> Sent:
        """A TCP or UDP super-segment that comes in over the tun device."""
        r = self.rng
        saddr = self.source(TUN)
        daddr = r.choice(
            [f"10.2.1.{r.randrange(2, 250)}", f"10.3.1.{r.randrange(2, 250)}", f"10.8.1.{r.randrange(2, 250)}"]
        )
        mss = r.choice([100, 500, 536, 1000, 1448, 1460, r.randrange(8, 1460)])
        body = r.randbytes(mss * r.randrange(1, 30) + r.randrange(1, mss + 1))[:60000]
        df = 0x4000 if r.random() < 0.6 else 0
        options = self.options(0.15) if r.random() < 0.3 else b""
        if r.random() < 0.7 or not self.udp_gso:
            flags = r.choice([16, 24, 25, 16 | 0x80, 24 | 0x80])
            segment = tcp(saddr, daddr, flags, body, r.getrandbits(32), 5, partial=True)
            kind = SKB_GSO_TCPV4 | (SKB_GSO_TCP_ECN if flags & 0x80 else 0)
            head = 20
        else:
            body = body[: mss * 100]
            address = [bytes(int(x) for x in a.split(".")) for a in (saddr, daddr)]
            pseudo = pseudo_header(address[0], address[1], 17, 8 + len(body))
            segment = struct.pack("!HHHH", 4000, 53, 8 + len(body), pseudo) + body
            kind, head = SKB_GSO_UDP_L4, 8
        ttl = r.choice([64, 64, 64, 1])
        data = header(
            saddr, daddr, 6 if head == 20 else 17, segment, options=options, id=r.getrandbits(16), frag_off=df, ttl=ttl
        )
        return Sent(TUN, data, PACKET_HOST, mss, kind, 20 + len(options) + head, f"{saddr} -> {daddr} of {mss}")

    def stream(self, n: int) -> Iterator[Sent]:
        """At least `n` packets that fit the wires."""
        made = 0
        while made < n:
            for p in self.some():
                if p.device != OUT or len(p.data) <= self.world.mtu:
                    yield p
                    made += 1

    def some(self) -> Iterator[Sent]:
        """A packet, or the fragments of one."""
        x = self.rng.random()
        if self.world.tun and x < 0.6:
            yield self.super_segment()
        elif x < 0.72:
            yield self.whole()
        else:
            yield from self.fragments()


def mended(out: bytearray) -> bytearray:
    """The checksum is made right for what the header says."""
    size = (out[0] & 15) * 4
    if 20 <= size <= len(out):
        out[10:12] = bytes(2)
        out[10:12] = checksum(bytes(out[:size])).to_bytes(2, "big")
    return out
