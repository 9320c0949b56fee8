"""Random IPv6 packets: for this router, through it, and to nowhere; whole, malformed, with headers of every kind."""

import random
from typing import Final

from conformance.differential.ip6_world import IN, MACS, OUT, PEERS, UDP_PORT, addr
from refmodel.packet.wire import checksum, pseudo_header

LOCAL: Final = ("2001:db8:1::1", "2001:db8:2::1", "fe80::1", "fe80::2")
GROUP: Final = ("ff02::1", "ff02::2", "ff05::2", "ff02::5", "ff01::1", "ff00::1", "ff0e::9", "ff05::99")
AWAY: Final = ("2001:db8:9::5", "2001:db8:a::5", "2001:db8:4::5", "2001:db8:7::5", "2001:db8:2::55")
NOWHERE: Final = ("2001:db8:dead::1", "2001:db8:bad::1", "2001:db8:b1ac::1", "2001:db9::1", "::", "::1")
ANYCAST: Final = ("2001:db8:1::", "2001:db8:2::", "fe80::")
SOURCES: Final = ("2001:db8:1::10", "2001:db8:1::20", "2001:db8:9::7", "2001:db8:a::8", "fe80::10")
ODD_SOURCES: Final = ("::", "::1", "ff02::1", "2001:db8:dead::9", "2001:db9::9", "2001:db8:1::1", "2001:db8:b1ac::4")


class Generator:
    """Frames, and fragments of datagrams that come one after the other in any order."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.waiting: list[tuple[str, bytes]] = []
        self.ident = 0

    def next(self) -> tuple[str, bytes]:
        """The next frame, and the device where it comes in."""
        if self.waiting and self.rng.random() < 0.6:
            return self.waiting.pop(self.rng.randrange(len(self.waiting)))
        if self.rng.random() < 0.03:
            return self.nearer()
        if self.rng.random() < 0.15:
            self.fragments()
            return self.waiting.pop(0)
        return self.single()

    def nearer(self) -> tuple[str, bytes]:
        """A packet that goes back to its link: its sender is redirected, unless it or the next hop is elsewhere."""
        r = self.rng
        source = addr(r.choice(("2001:db8:1::", "2001:db8:9::")))[:8] + r.randbytes(8)
        dest = addr(r.choice(("2001:db8:1::", "2001:db8:6::", "2001:db8:7::")))[:8] + r.randbytes(8)
        body = r.randbytes(r.choice((0, 9, 600, 1400)))
        return IN, MACS[IN] + PEERS[IN] + b"\x86\xdd" + self.header(source, dest, 253, len(body)) + body

    def addresses(self, device: str) -> tuple[bytes, bytes, bool]:
        """Source, destination, and whether a transport protocol here may get it.

        Nothing goes back to the link where it came from but over a gateway with a global address: no redirects.
        """
        r = self.rng
        local = LOCAL[:3] if device == IN else (*LOCAL[:2], LOCAL[3])
        where = r.choice((local, local, local, AWAY if device == IN else local, AWAY, GROUP, NOWHERE, ANYCAST))
        where = local if where is AWAY and device == OUT else where
        source = r.choice(ODD_SOURCES) if r.random() < 0.12 else r.choice(SOURCES)
        return addr(source), addr(r.choice(where)), where is local

    def single(self) -> tuple[str, bytes]:
        """A packet of its own."""
        r = self.rng
        device = OUT if r.random() < 0.1 else IN
        source, dest, here = self.addresses(device)
        chain = [self.extension() for _ in range(r.choice((0, 0, 0, 1, 1, 2, 3)))]
        nexthdr, upper = self.upper(source, dest, here)
        if r.random() < 0.06:
            upper = upper[: r.randrange(len(upper) + 1)] if nexthdr in (58, 253) else upper
        body, first = upper, nexthdr
        for kind, header in reversed(chain):
            body, first = bytes((first,)) + header[1:] + body, kind
        length = len(body)
        odd = r.random()
        if odd < 0.03:
            length = max(0, length - r.randrange(1, 9)) if nexthdr == 253 else length
        elif odd < 0.06:
            length += r.randrange(1, 9)
        packet = self.header(source, dest, first, length) + body
        if r.random() < 0.05:
            packet += bytes(r.randrange(1, 20))
        if r.random() < 0.02:
            packet = packet[: r.randrange(1, 48)]
        return self.framed(device, packet)

    def header(self, source: bytes, dest: bytes, nexthdr: int, length: int) -> bytes:
        """The IPv6 header."""
        r = self.rng
        version = r.choice((4, 5, 7)) if r.random() < 0.02 else 6
        hops = r.choice((0, 1, 2, 255)) if r.random() < 0.3 else 64
        tclass = r.choice((0, 0, 1, 2, 3, 0x20))
        word = version << 28 | tclass << 20 | r.choice((0, 0x12345))
        return word.to_bytes(4, "big") + (length & 0xFFFF).to_bytes(2, "big") + bytes((nexthdr, hops)) + source + dest

    def framed(self, device: str, packet: bytes) -> tuple[str, bytes]:
        """The packet in a frame."""
        r = self.rng
        dest = MACS[device]
        if r.random() < 0.06:
            dest = r.choice((b"\xff" * 6, bytes.fromhex("333300000001"), bytes.fromhex("020000000999")))
        return device, dest + PEERS[device] + b"\x86\xdd" + packet[: 1500 if device == IN else 1280]

    def extension(self) -> tuple[int, bytes]:
        """An extension header: its kind, and its bytes with the next header to be filled in."""
        r = self.rng
        kind = r.choice((0, 60, 60, 43, 44))
        if kind == 44:
            frag_off = r.choice((0, 0, 0, 6, 8, 1)) if r.random() < 0.5 else 0
            self.ident += 1
            return 44, b"\0\0" + frag_off.to_bytes(2, "big") + (0x70000000 + self.ident).to_bytes(4, "big")
        if kind == 43:
            left = r.choice((0, 0, 1, 2))
            words = r.choice((0, 2))
            return 43, bytes((0, words, r.choice((0, 1, 2, 3, 4, 200)), left)) + bytes(4 + 8 * words)
        options = b"".join(self.option() for _ in range(r.choice((0, 1, 1, 2, 3, 10))))
        pad = -(len(options) + 2) % 8
        if r.random() < 0.9:
            options += b"\0" if pad == 1 else bytes((1, pad - 2)) + bytes(pad - 2) if pad else b""
        else:
            options += r.randbytes(pad)
        words = (len(options) + 2) // 8 - 1
        if r.random() < 0.04:
            words += r.randrange(1, 4)
        return kind, bytes((0, words)) + options

    def option(self) -> bytes:
        """One option."""
        r = self.rng
        kind = r.choice((0, 1, 1, 5, 5, 7, 49, 194, 201, 0x1E, 0x3E, 0x5E, 0x9E, 0xDE, 0xC2))
        if kind == 0:
            return bytes(r.randrange(1, 4))
        if kind == 1:
            n = r.choice((0, 1, 2, 4, 5, 6))
            return bytes((1, n)) + (bytes(n) if r.random() < 0.8 else r.randbytes(n))
        n = {5: 2, 194: 4, 7: 8}.get(kind, r.randrange(8))
        if r.random() < 0.1:
            n = r.randrange(12)
        return bytes((kind, n)) + r.randbytes(n)

    def upper(self, source: bytes, dest: bytes, here: bool) -> tuple[int, bytes]:
        """What stands behind the extension headers."""
        r = self.rng
        what = r.choice(("echo", "echo", "udp", "raw", "none", "error", "icmp", "nd", "tcp"))
        if what in ("udp", "tcp") and not here and dest[0] == 0xFF:
            what = "echo"
        if what == "tcp" and (here or dest in {addr(a) for a in ANYCAST}):
            what = "udp"
        if what == "udp" and dest in {addr(a) for a in ANYCAST}:
            what = "raw"
        if what == "raw":
            return 253, r.randbytes(r.choice((0, 8, 100, 1300, 1440)))
        if what == "none":
            return 59, r.randbytes(r.choice((0, 8)))
        if what == "tcp":
            return 6, self.sealed(source, dest, 6, r.randbytes(20) + bytes(r.choice((0, 1000, 1380))), 16)
        if what == "udp":
            port = r.choice((UDP_PORT, UDP_PORT, 7))
            data = r.randbytes(r.choice((1, 100, 1300)))
            head = b"\x10\0" + port.to_bytes(2, "big") + (8 + len(data)).to_bytes(2, "big") + b"\0\0"
            return 17, self.sealed(source, dest, 17, head + data, 6)
        return 58, self.icmp(source, dest, what)

    def icmp(self, source: bytes, dest: bytes, what: str) -> bytes:
        """An ICMPv6 message."""
        r = self.rng
        if what == "echo":
            message = bytes((128, 0, 0, 0)) + r.randbytes(4) + r.randbytes(r.choice((0, 10, 1000, 1380)))
        elif what == "nd":
            message = bytes((r.choice((133, 134, 135, 136, 137)), 1, 0, 0)) + r.randbytes(20)
        elif what == "icmp":
            message = bytes((r.choice((129, 132, 138, 143, 144, 150, 200, 255)), 0, 0, 0)) + r.randbytes(8)
        else:
            quoted = self.header(dest, source, r.choice((253, 58, 60, 43)), 100) + r.choice((b"", bytes(8), bytes(40)))
            quoted = quoted[: r.choice((len(quoted), 39, 44))]
            kind = r.choice((1, 2, 3, 4, 5, 100))
            message = bytes((kind, r.randrange(4), 0, 0)) + r.choice((0, 1100, 1300)).to_bytes(4, "big") + quoted
        return self.sealed(source, dest, 58, message, 2)

    def sealed(self, source: bytes, dest: bytes, proto: int, upper: bytes, at: int) -> bytes:
        """The upper header with its checksum, in one of twenty ICMPv6 messages a wrong one."""
        upper = upper[:at] + b"\0\0" + upper[at + 2 :]
        check = checksum(upper, pseudo_header(source, dest, proto, len(upper))) or 0xFFFF
        if proto == 58 and self.rng.random() < 0.05:
            check ^= 0x1234
        return upper[:at] + check.to_bytes(2, "big") + upper[at + 2 :]

    def fragments(self) -> None:
        """A datagram in fragments: some missing, doubled, overlapping, or of odd length."""
        r = self.rng
        source, dest = addr(r.choice(SOURCES[:4])), addr(r.choice((*LOCAL[:2], *LOCAL[:2], *AWAY)))
        here = dest in {addr(a) for a in LOCAL}
        data = r.randbytes(r.choice((100, 1000, 3000)))
        head = b"\x10\0" + UDP_PORT.to_bytes(2, "big") + (8 + len(data)).to_bytes(2, "big") + b"\0\0"
        if r.random() < 0.5:
            nexthdr, whole = 17, self.sealed(source, dest, 17, head + data, 6)
        else:
            message = bytes((128, 0, 0, 0)) + r.randbytes(4) + data
            nexthdr, whole = 58, self.sealed(source, dest, 58, message, 2)
        self.ident += 1
        step = r.choice((64, 504, 1200)) // 8 * 8
        cuts = [(i, min(i + step, len(whole))) for i in range(0, len(whole), step)]
        if r.random() < 0.3:
            cuts = [self.spoiled(c, len(whole)) if r.random() < 0.3 else c for c in cuts]
        if r.random() < 0.2:
            cuts.append(r.choice(cuts))
        if r.random() < 0.5:
            r.shuffle(cuts)
        if r.random() < 0.1 and here and len(cuts) > 1:
            cuts.pop()
        tclass = r.choice((0, 0, 2))
        for start, end in cuts:
            more = end < len(whole) if r.random() < 0.97 else r.random() < 0.5
            ecn = 3 if tclass and r.random() < 0.3 else 0
            ecn = r.choice((0, 1)) if r.random() < 0.02 else ecn or tclass
            own = bytes((nexthdr, 0)) + (start | int(more)).to_bytes(2, "big") + self.ident.to_bytes(4, "big")
            body = own + whole[start:end]
            word = 6 << 28 | ecn << 20
            packet = word.to_bytes(4, "big") + len(body).to_bytes(2, "big") + bytes((44, 64)) + source + dest + body
            self.waiting.append((IN, MACS[IN] + PEERS[IN] + b"\x86\xdd" + packet))

    def spoiled(self, cut: tuple[int, int], size: int) -> tuple[int, int]:
        """A fragment that overlaps, falls short or is cut at no multiple of 8."""
        r = self.rng
        start, end = cut
        return r.choice(
            ((max(0, start - 8), end), (start, max(start, end - 8)), (start, max(start, end - 3)), (start, start))
        )
