"""A host under test and a peer made of raw frames, in two network namespaces joined by a veth pair."""

import ctypes
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from refmodel.neigh.types import NUD, Msg

DEV = "v0"
HOST, PEER = "10.9.0.1", "10.9.0.2"
HOST6, PEER6 = "fe80::9:1", "fe80::9:2"
HOST_MAC, PEER_MAC, OTHER_MAC = 0x020000000901, 0x020000000902, 0x020000000903
BROADCAST = (1 << 48) - 1
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
LIBC = ctypes.CDLL(None, use_errno=True)


def mac(n: int) -> str:
    return ":".join(f"{b:02x}" for b in n.to_bytes(6, "big"))


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(args, check=False, capture_output=True, text=True)


def ok(*args: str) -> str:
    done = run(*args)
    assert done.returncode == 0, f"{' '.join(args)}: {done.stderr}"
    return done.stdout


@contextmanager
def inside(ns: str) -> Iterator[None]:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{ns}", os.O_RDONLY)
    try:
        assert LIBC.setns(there, CLONE_NEWNET) == 0
        yield
    finally:
        LIBC.setns(home, CLONE_NEWNET)
        os.close(there)
        os.close(home)


@dataclass
class Notice:
    msg: Msg
    state: NUD
    lladdr: int | None
    probes: int


@dataclass
class ArpFrame:
    dst: int
    op: int
    sha: int
    sip: str
    tha: int
    tip: str


@dataclass
class Lab:
    """Use as a context manager: both namespaces are gone when it ends."""

    sysctls: dict[str, str] = field(default_factory=dict)
    a: str = ""
    b: str = ""
    seen: list[bytes] = field(default_factory=list)

    def __enter__(self) -> "Lab":
        self.a, self.b = f"nga{os.getpid()}", f"ngb{os.getpid()}"
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def _build(self) -> None:
        for ns in (self.a, self.b):
            ok("ip", "netns", "add", ns)
        ok("ip", "link", "add", DEV, "netns", self.a, "type", "veth", "peer", "name", DEV, "netns", self.b)
        for ns, address in ((self.a, HOST_MAC), (self.b, PEER_MAC)):
            ok("ip", "-n", ns, "link", "set", DEV, "address", mac(address))
        ok("ip", "netns", "exec", self.b, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        ok("ip", "netns", "exec", self.a, "sysctl", "-qw", f"net.ipv6.conf.{DEV}.accept_dad=0")
        ok("ip", "netns", "exec", self.a, "sysctl", "-qw", f"net.ipv6.conf.{DEV}.router_solicitations=0")
        ok("ip", "netns", "exec", self.a, "sysctl", "-qw", f"net.ipv6.conf.{DEV}.addr_gen_mode=1")
        self.sysctl(**self.sysctls)
        for ns in (self.b, self.a):
            ok("ip", "-n", ns, "link", "set", DEV, "up")
        ok("ip", "-n", self.a, "addr", "add", f"{HOST}/24", "dev", DEV)
        ok("ip", "-n", self.a, "addr", "add", f"{HOST6}/64", "dev", DEV, "nodad")
        with inside(self.b):
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.wire.bind((DEV, ETH_P_ALL))
        with inside(self.a):
            self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            self.netlink.bind((0, 4))
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            self.index = socket.if_nametoindex(DEV)
        for s in (self.wire, self.netlink):
            s.setblocking(False)

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        for s in (self.wire, self.netlink, self.udp, self.udp6):
            s.close()
        self._remove()

    def _remove(self) -> None:
        for ns in (self.a, self.b):
            run("ip", "netns", "del", ns)

    def sysctl(self, **values: str) -> None:
        """Sets net.<family>.neigh.v0.<name> for both families; names as in NeighParms' sysctls."""
        for name, value in values.items():
            for family in ("ipv4", "ipv6"):
                ok("ip", "netns", "exec", self.a, "sysctl", "-qw", f"net.{family}.neigh.{DEV}.{name}={value}")

    def neigh(self, verb: str, *words: str, to: str = PEER) -> int:
        """`ip neigh VERB to dev v0 ...`; returns its exit status."""
        return run("ip", "-n", self.a, "neigh", verb, to, "dev", DEV, *words).returncode

    def state(self, to: str = PEER) -> NUD | None:
        out = ok("ip", "-n", self.a, "neigh", "show", to, "nud", "all", "dev", DEV).split()
        if not out:
            return None
        return NUD[out[-1]] if out[-1] in NUD.__members__ else NUD.NONE

    def confirmed(self, to: str = PEER) -> int:
        """How many seconds ago the entry was confirmed."""
        out = ok("ip", "-n", self.a, "-s", "neigh", "show", to, "nud", "all", "dev", DEV).split()
        return int(out[out.index("used") + 1].split("/")[1])

    def send(self, n: int = 1, to: str = PEER, size: int = 10) -> None:
        s, peer = (self.udp6, (to, 9, 0, self.index)) if ":" in to else (self.udp, (to, 9))
        for _ in range(n):
            s.sendto(b"x" * size, peer)

    def arp(self, op: int, dst: int, sha: int, sip: str, tha: int, tip: str) -> None:
        """The peer sends an ARP frame."""
        head = dst.to_bytes(6, "big") + sha.to_bytes(6, "big") + b"\x08\x06"
        body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, op)
        ends = sha.to_bytes(6, "big") + socket.inet_aton(sip) + tha.to_bytes(6, "big") + socket.inet_aton(tip)
        self.wire.send(head + body + ends)

    def advertise(self, lladdr: int, router: bool = False, solicited: bool = True, override: bool = True) -> None:
        """The peer sends a unicast neighbour advertisement about itself."""
        src, dst = socket.inet_pton(socket.AF_INET6, PEER6), socket.inet_pton(socket.AF_INET6, HOST6)
        flags = (router << 31) | (solicited << 30) | (override << 29)
        body = struct.pack(">I", flags) + src + b"\x02\x01" + lladdr.to_bytes(6, "big")
        pseudo = src + dst + struct.pack(">II", len(body) + 4, 58)
        total = sum(struct.unpack(f">{(len(pseudo) + len(body) + 4) // 2}H", pseudo + b"\x88\0\0\0" + body))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        icmp = b"\x88\0" + struct.pack(">H", ~total & 0xFFFF) + body
        ip6 = struct.pack(">IHBB", 6 << 28, len(icmp), 58, 255) + src + dst
        head = HOST_MAC.to_bytes(6, "big") + lladdr.to_bytes(6, "big") + b"\x86\xdd"
        self.wire.send(head + ip6 + icmp)

    def _receive(self) -> bytes | None:
        frame, about = self.wire.recvfrom(4096)
        if about[2] == socket.PACKET_OUTGOING:
            return None
        self.seen.append(frame)
        return bytes(frame)

    def frames(self, seconds: float) -> list[bytes]:
        """What the peer received since the last call, and within `seconds` from now."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self.wire], [], [], left)[0]:
                self._receive()
        out, self.seen = self.seen, []
        return out

    def arps(self, seconds: float) -> list[ArpFrame]:
        """The ARP frames that the peer receives within `seconds`."""
        return [parse(f) for f in self.frames(seconds) if f[12:14] == b"\x08\x06"]

    def stirs(self, seconds: float) -> bool:
        """Whether the peer receives an ARP frame, or the kernel gives a notice, within `seconds`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready = select.select([self.wire, self.netlink], [], [], left)[0]
            if self.netlink in ready:
                return True
            frame = self._receive() if ready else None
            if frame is not None and frame[12:14] == b"\x08\x06":
                return True
        return False

    def notices(self, wanted: int = 0, to: str = PEER) -> list[Notice]:
        """What the kernel said of the peer's entry since the last call: `wanted` notices, and more if there are."""
        out: list[Notice] = []
        until = time.monotonic() + 2
        while True:
            quiet = 0.05 if len(out) >= wanted else until - time.monotonic()
            if quiet <= 0 or not select.select([self.netlink], [], [], quiet)[0]:
                return out
            out += notices_of(self.netlink.recv(65536), to)


def parse(f: bytes) -> ArpFrame:
    def n(b: bytes) -> int:
        return int.from_bytes(b, "big")

    return ArpFrame(
        n(f[:6]), n(f[20:22]), n(f[22:28]), socket.inet_ntoa(f[28:32]), n(f[32:38]), socket.inet_ntoa(f[38:42])
    )


def notices_of(data: bytes, to: str) -> list[Notice]:
    key = socket.inet_pton(socket.AF_INET6 if ":" in to else socket.AF_INET, to)
    out: list[Notice] = []
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        state = struct.unpack_from("=H", data, 24)[0]
        found: dict[int, bytes] = {}
        at = 28
        while at + 4 <= length:
            size, name = struct.unpack_from("=HH", data, at)
            found[name] = data[at + 4 : at + size]
            at += (size + 3) & ~3
        if kind in (28, 29) and found.get(1) == key:
            address = int.from_bytes(found[2], "big") if 2 in found else None
            out.append(Notice(Msg(kind), NUD(state), address, int.from_bytes(found[4], "little")))
        data = data[(length + 3) & ~3 :]
    return out
