"""Crafted peers: a host without a stack, whose frames the scenario writes byte by byte.

For what a real peer would not send: a reset at the wrong number, a SYN inside a connection, a forged ARP reply.
IPv4 only for TCP. Standard library only.
"""

import ipaddress
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

from conformance.live.errors import ScenarioFailed
from conformance.live.lab import Host, Lab, letters

FLAGS: Final = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10, "U": 0x20}
MASK: Final = 0xFFFFFFFF
BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
ETH_P_ARP: Final = 0x0806
ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD


def mac(text: str) -> bytes:
    """The six bytes of '02:00:00:00:00:01'."""
    return bytes.fromhex(text.replace(":", ""))


def ip(text: str) -> bytes:
    """The bytes of an IPv4 or IPv6 address."""
    return ipaddress.ip_address(text).packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def arp(op: int, sha: str, sip: str, tha: str, tip: str, to: str = BROADCAST, sender: str | None = None) -> bytes:
    """An Ethernet frame with an ARP packet: op 1 asks, op 2 answers."""
    head = mac(to) + mac(sender or sha) + struct.pack("!H", ETH_P_ARP)
    return head + struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, op) + mac(sha) + ip(sip) + mac(tha) + ip(tip)


def nd(kind: int, sender: str, to: str, src: str, dst: str, target: str, flags: int = 0, option: bytes = b"") -> bytes:
    """An Ethernet frame with a neighbour solicitation (kind 135) or advertisement (136); `flags` is R 4, S 2, O 1."""
    body = struct.pack("!BBHI", kind, 0, 0, flags << 29) + ip(target) + option
    pseudo = ip(src) + ip(dst) + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + ip(src) + ip(dst)
    return mac(to) + mac(sender) + struct.pack("!H", ETH_P_IPV6) + head + body


def lladdr(kind: int, address: str) -> bytes:
    """The link-layer address option of neighbour discovery: kind 1 is the source's, 2 the target's."""
    return struct.pack("!BB", kind, 1) + mac(address)


def udp4(src: Host, dst: Host, sport: int, dport: int, n: int) -> bytes:
    """An Ethernet frame with a UDP datagram of `n` bytes."""
    body = struct.pack("!HHHH", sport, dport, 8 + n, 0) + letters(n)
    return _eth_ip4(src, dst, 17, body)


def icmp4(src: Host, dst: Host, kind: int, code: int, rest: int, payload: bytes, source: str | None = None) -> bytes:
    """An Ethernet frame with an ICMP message about the IP packet `payload` (its first 28 bytes are quoted)."""
    body = struct.pack("!BBHI", kind, code, 0, rest) + payload[:28]
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return _eth_ip4(src, dst, 1, body, source)


def _eth_ip4(src: Host, dst: Host, protocol: int, body: bytes, source: str | None = None) -> bytes:
    addresses = ip(source or src.v4) + ip(dst.v4)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0) + addresses
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return mac(dst.mac) + mac(src.mac) + struct.pack("!H", ETH_P_IP) + head + body


@dataclass(frozen=True)
class Segment:
    """A TCP segment as the crafted peer saw it; `flags` in the order FSRPAU, `ip` is the whole IP packet."""

    sport: int
    dport: int
    seq: int
    ack: int
    flags: str
    window: int
    options: bytes
    payload: bytes
    ip: bytes

    @property
    def timestamp(self) -> tuple[int, int] | None:
        """The (tsval, tsecr) of the timestamps option."""
        at = 0
        while at < len(self.options):
            kind = self.options[at]
            if kind == 0:
                return None
            if kind == 1:
                at += 1
                continue
            if kind == 8:
                val, ecr = struct.unpack_from("!II", self.options, at + 2)
                return val, ecr
            at += self.options[at + 1]
        return None


def tcp4(
    src: Host,
    dst: Host,
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: str,
    window: int = 65535,
    options: bytes = b"",
    payload: bytes = b"",
    urgent: int = 0,
) -> bytes:
    """An Ethernet frame with a TCP segment; `options` has to be padded to four bytes."""
    bits = sum(FLAGS[f] for f in flags)
    offset = (20 + len(options)) // 4 << 4
    body = struct.pack("!HHIIBBHHH", sport, dport, seq & MASK, ack & MASK, offset, bits, window, 0, urgent)
    body += options + payload
    pseudo = ip(src.v4) + ip(dst.v4) + struct.pack("!HH", 6, len(body))
    body = body[:16] + struct.pack("!H", checksum(pseudo + body)) + body[18:]
    return _eth_ip4(src, dst, 6, body)


def mss(value: int) -> bytes:
    """The maximum segment size option."""
    return struct.pack("!BBH", 2, 4, value)


def timestamps(value: int, echo: int) -> bytes:
    """The timestamps option, padded with two NOPs in front as Linux does."""
    return struct.pack("!BBBBII", 1, 1, 8, 10, value & MASK, echo & MASK)


class RawPeer:
    """A crafted host `peer` that speaks to `other`, which gets a permanent neighbour entry for it by default."""

    def __init__(self, lab: Lab, peer: str = "b", other: str = "a", neighbour: bool = True) -> None:
        self.lab, self.host, self.other = lab, lab[peer], lab[other]
        with self.host.netns.inside():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.sock.bind((self.host.interface, 3))
        self.host.sockets.append(self.sock)
        if neighbour:
            h = self.host
            self.other.ip(f"neigh replace {h.v4} lladdr {h.mac} nud permanent dev {self.other.interface}")

    def send(self, frame: bytes) -> None:
        """Puts a frame on the wire."""
        self.sock.send(frame)

    def frame(self, limit: float = 3.0) -> bytes | None:
        """The next frame from the other side, or None after `limit` s."""
        until = time.monotonic() + limit
        while (left := until - time.monotonic()) > 0:
            if select.select([self.sock], [], [], left)[0]:
                data, address = self.sock.recvfrom(65536)
                if address[2] != socket.PACKET_OUTGOING:
                    return data
        return None

    def segment(self, limit: float = 3.0) -> Segment | None:
        """The next TCP segment from the other side, or None after `limit` s."""
        until = time.monotonic() + limit
        while (left := until - time.monotonic()) > 0:
            data = self.frame(left)
            if data and data[12:14] == b"\x08\x00" and data[23] == 6:
                return _segment(data[14:])
        return None

    def solicited(self, limit: float = 3.0) -> str:
        """Waits for an ARP request or a neighbour solicitation; gives the destination MAC, else ScenarioFailed."""
        until = time.monotonic() + limit
        while (left := until - time.monotonic()) > 0:
            data = self.frame(left)
            if data is None:
                break
            asks_arp = data[12:14] == b"\x08\x06" and data[21] == 1
            asks_nd = data[12:14] == b"\x86\xdd" and data[54] == 135
            if asks_arp or asks_nd:
                return data[:6].hex(":")
        raise ScenarioFailed("no solicitation came")

    def answer(self, address: str = "") -> None:
        """Answers a solicitation of the peer's address with `address`, or with its own MAC."""
        own, other = self.host, self.other
        if self.lab.family == 6:
            self.send(nd(136, own.mac, other.mac, own.v6, other.v6, own.v6, 3, lladdr(2, address or own.mac)))
        else:
            self.send(arp(2, address or own.mac, own.v4, other.mac, other.v4, other.mac, own.mac))


def _segment(packet: bytes) -> Segment:
    packet = packet[: struct.unpack_from("!H", packet, 2)[0]]
    at = (packet[0] & 15) * 4
    sport, dport, seq, ack, offset, bits, window = struct.unpack_from("!HHIIBBH", packet, at)
    end = at + (offset >> 4) * 4
    flags = "".join(k for k, b in FLAGS.items() if bits & b)
    return Segment(sport, dport, seq, ack, flags, window, packet[at + 20 : end], packet[end:], packet)


class RawConn:
    """One end of a TCP connection held by a crafted peer: it keeps the numbers, the scenario chooses the segments."""

    def __init__(self, peer: RawPeer, sport: int, dport: int = 0, isn: int = 1000, use_ts: bool = False) -> None:
        self.peer, self.sport, self.dport = peer, sport, dport
        self.seq, self.ack = isn, 0
        self.isn, self.peer_isn = isn, 0
        self.use_ts, self.ts_val, self.ts_ecr = use_ts, 5000, 0

    def options(self, flags: str) -> bytes:
        """The options of a segment: MSS on a SYN, timestamps where they are used."""
        return (mss(1460) if "S" in flags else b"") + (timestamps(self.ts_val, self.ts_ecr) if self.use_ts else b"")

    def put(self, flags: str, n: int = 0, seq: int = 0, ack: int = 0, window: int = 65535, ts: int = 0) -> None:
        """Sends a segment `seq` and `ack` beside the right numbers, without remembering it."""
        peer = self.peer
        options = timestamps(self.ts_val + ts, self.ts_ecr) if ts else self.options(flags)
        where = (self.seq + seq, self.ack + ack if "A" in flags else 0)
        payload = letters(n)
        peer.send(tcp4(peer.host, peer.other, self.sport, self.dport, *where, flags, window, options, payload))

    def send(self, flags: str, n: int = 0, window: int = 65535) -> None:
        """Sends the next segment in order."""
        self.put(flags, n, window=window)
        self.seq += n + ("S" in flags) + ("F" in flags)

    def expect(self, flags: str, limit: float = 3.0) -> Segment:
        """Waits for a segment with exactly these flags (PSH apart) and follows its numbers; else ScenarioFailed."""
        s = self.peer.segment(limit)
        if s is None:
            raise ScenarioFailed(f"no segment came, expected {flags}")
        if s.flags.replace("P", "") != flags.replace("P", ""):
            raise ScenarioFailed(f"a segment {s.flags} came, expected {flags}")
        if "S" in flags:
            self.dport, self.peer_isn = s.sport, s.seq
        if "R" not in flags:
            self.ack = s.seq + len(s.payload) + ("S" in flags) + ("F" in flags)
        if s.timestamp:
            self.ts_ecr = s.timestamp[0]
        return s

    def silent(self, limit: float = 0.3) -> None:
        """Nothing may come for `limit` s; else ScenarioFailed."""
        s = self.peer.segment(limit)
        if s is not None:
            raise ScenarioFailed(f"a segment {s.flags} came where none was expected")

    def passive_open(self) -> None:
        """Answers the other side's SYN and takes its ACK."""
        self.expect("S")
        self.send("SA")
        self.expect("A")

    def active_open(self) -> None:
        """Opens a connection to the other side's listener."""
        self.send("S")
        self.expect("SA")
        self.send("A")
