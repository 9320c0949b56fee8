"""Rtnetlink as bytes: requests about routes, rules, addresses and links, and what the kernel answers.

Written out here, and not taken from a library, because the differential must send malformed requests as they are,
with no default filled in and no field checked. Standard library only.
"""

import os
import socket
import struct
from collections.abc import Iterator
from typing import Any, Final

from refmodel.fib.getroute import Message

NLM_F_REQUEST: Final = 1
NLM_F_ACK: Final = 4
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34

SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12

Attr = tuple[int, bytes]


def u32(x: int) -> bytes:
    """A number in the machine's order."""
    return struct.pack("=I", x & 0xFFFFFFFF)


def addr4(x: int) -> bytes:
    """An IPv4 address in network order."""
    return x.to_bytes(4, "big")


def attrs(items: list[Attr]) -> bytes:
    """Attributes one after another, each padded to four bytes."""
    out = b""
    for kind, body in items:
        out += struct.pack("=HH", len(body) + 4, kind) + body + bytes(-len(body) % 4)
    return out


def parse_attrs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in a message's body."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


class Refused(Exception):
    """The kernel refused: `errno` positive, `text` what it says beside it."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(f"{os.strerror(errno)} {text}".strip())
        self.errno = errno
        self.text = text


class Rtnl:
    """A socket to rtnetlink in the calling thread's network namespace."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            self._sock.setsockopt(SOL_NETLINK, option, 1)
        self._sock.settimeout(10)
        self._sock.bind((0, 0))
        self._seq = 0

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()

    def request(self, kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
        """Sends one request; returns the answers as (type, body), or raises Refused."""
        self._seq += 1
        flags |= NLM_F_REQUEST | (0 if flags & NLM_F_DUMP == NLM_F_DUMP and kind % 4 == 2 else NLM_F_ACK)
        self._sock.send(struct.pack("=IHHII", len(body) + 16, kind, flags, self._seq, 0) + body)
        out: list[tuple[int, bytes]] = []
        while True:
            data = self._sock.recv(1 << 18)
            at = 0
            while at + 16 <= len(data):
                length, what, mflags, seq, _ = struct.unpack_from("=IHHII", data, at)
                payload = data[at + 16 : at + length]
                at += (length + 3) & ~3
                if seq != self._seq:
                    continue
                if what in (NLMSG_ERROR, NLMSG_DONE):
                    error = struct.unpack_from("=i", payload)[0]
                    if error:
                        raise Refused(-error, _text(payload, what, mflags))
                    return out
                out.append((what, payload))


def _text(payload: bytes, what: int, flags: int) -> str:
    """The kernel's words in an acknowledgement; source net/netlink/af_netlink.c:netlink_ack."""
    start = 4 if what == NLMSG_DONE else 20
    if not flags & 0x200 and what != NLMSG_DONE:
        return ""
    for kind, body in parse_attrs(payload[start:]):
        if kind == 1:
            return body.rstrip(b"\0").decode()
    return ""


RTA: Final = {
    1: ("dst", "a"), 2: ("src", "a"), 3: ("iif", "u"), 4: ("oif", "u"), 5: ("gateway", "a"), 6: ("priority", "u"),
    7: ("prefsrc", "a"), 15: ("table", "u"), 16: ("mark", "u"), 20: ("pref", "b"),
}  # fmt: skip


def parse_route(body: bytes) -> Message:
    """A route message as named fields, as refmodel.fib.getroute tells it. IPv6 addresses are 128-bit integers."""
    _, dst_len, src_len, tos, table, protocol, scope, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    out: dict[str, Any] = {
        "dst_len": dst_len, "src_len": src_len, "tos": tos, "table": table, "type": kind, "scope": scope,
        "protocol": protocol, "flags": flags,
    }  # fmt: skip
    for a, v in parse_attrs(body[12:]):
        if a in RTA:
            name, form = RTA[a]
            out[name] = int.from_bytes(v, "big") if form == "a" else v[0] if form == "b" else struct.unpack("=I", v)[0]
        elif a == 8:
            out["metrics"] = {k: struct.unpack("=I", m)[0] for k, m in parse_attrs(v)}
        elif a == 9:
            out["multipath"] = _hops(v)
    return out


def _hops(data: bytes) -> list[Message]:
    hops = []
    while len(data) >= 8:
        length, flags, weight, ifindex = struct.unpack_from("=HBBi", data)
        hop: dict[str, Any] = {"flags": flags, "hops": weight, "oif": ifindex}
        for a, v in parse_attrs(data[8:length]):
            if a == 5:
                hop["gateway"] = int.from_bytes(v, "big")
        hops.append(hop)
        data = data[(length + 3) & ~3 :]
    return hops
