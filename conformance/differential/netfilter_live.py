"""The live side of the netfilter differential: the same router in a network namespace of the running kernel."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from conformance.differential.netfilter_world import ADDRESSES, PORTS, ROUTES, Out
from conformance.live.tun import leave
from refmodel.netfilter.tuples import Tuple

TUNSETIFF: Final = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
NETLINK_NETFILTER: Final = 12
CT_DELETE: Final = 0x0102  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
CT_GET: Final = 0x0101
NLM_F_REQUEST_ACK: Final = 5
NLM_F_DUMP: Final = 0x301  # with NLM_F_REQUEST
NLMSG_ERROR, NLMSG_DONE = 2, 3
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO, CTA_TIMEOUT, CTA_MARK = 1, 2, 3, 4, 7, 8
FLAGS: Final = 0x3F  # IP_CT_TCP_FLAG_, without what belongs to last_flags
STAT_NAMES: Final = ("found", "invalid", "insert_failed", "drop", "early_drop", "error", "clash_resolve")
SYSCTLS: Final = {
    "net/ipv4/ip_forward": 1, "net/ipv4/conf/all/rp_filter": 0, "net/ipv4/conf/all/send_redirects": 0,
    "net/ipv4/conf/all/accept_redirects": 0, "net/ipv4/icmp_ratemask": 0, "net/ipv4/ipfrag_time": 3600,
    "net/ipv4/icmp_ratelimit": 0,
    "net/ipv6/conf/all/disable_ipv6": 1, "net/ipv6/conf/default/disable_ipv6": 1,
}  # fmt: skip


def missing() -> str:
    """What this machine lacks for the differential; empty if nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    for tool in ("ip", "iptables-legacy-restore", "iptables-legacy-save"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    return ""


class Seen:
    """One connection as ctnetlink tells it: status bits, TCP's state, scales and flags, mark, seconds left."""

    def __init__(self, message: bytes) -> None:
        a = _attributes(message)
        self.tuples = [_tuple(a[CTA_TUPLE_ORIG]), _tuple(a[CTA_TUPLE_REPLY])]
        self.status = struct.unpack(">I", a[CTA_STATUS])[0]
        self.mark = struct.unpack(">I", a.get(CTA_MARK, bytes(4)))[0]
        self.expires = struct.unpack(">I", a[CTA_TIMEOUT])[0]
        self.tcp: tuple[int, ...] = ()
        if CTA_PROTOINFO in a:
            t = _attributes(_attributes(a[CTA_PROTOINFO])[1])
            self.tcp = (t[1][0], t[2][0], t[3][0], t[4][0] & FLAGS, t[5][0] & FLAGS)

    def key(self) -> tuple[object, ...]:
        """All but the time that it has left."""
        return (*self.tuples, self.status, self.mark, self.tcp)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _tuple(data: bytes) -> Tuple:
    parts = _attributes(data)
    address, proto = _attributes(parts[1]), _attributes(parts[2])
    number = proto[1][0]
    if number == 1:
        return Tuple(address[1], int.from_bytes(proto[4], "big"), address[2], proto[5][0] << 8 | proto[6][0], number)
    ports = [int.from_bytes(proto.get(k, b""), "big") for k in (2, 3)]
    return Tuple(address[1], ports[0], address[2], ports[1], number)


class Live:
    """The router. Made in a process of its own, which it moves into a network namespace."""

    def __init__(self, flavour: str = "legacy") -> None:
        leave()
        self.flavour = flavour
        self.taps = {name: _tap(name) for name in ADDRESSES}
        for name, value in SYSCTLS.items():
            Path("/proc/sys", name).write_text(str(value))
        self.ip("link set lo up")
        for i, (name, address) in enumerate(ADDRESSES.items(), 2):
            Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")
            Path(f"/proc/sys/net/ipv4/conf/{name}/send_redirects").write_text("0")
            self.ip(f"link set {name} address 02:00:00:00:00:{i:02x} arp off up")
            self.ip(f"address add {address} dev {name}")
        for net, name in ROUTES.items():
            self.ip(f"route add {net} dev {name}")
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.udp = {port: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in PORTS}
        for port, s in self.udp.items():
            s.bind(("0.0.0.0", port))
            s.setblocking(False)
        self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.netlink.settimeout(5)

    def ip(self, command: str) -> None:
        """Runs ip(8)."""
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)

    def set_sysctls(self, values: Mapping[str, int]) -> None:
        """Sets the namespace's settings."""
        for name, value in values.items():
            Path("/proc/sys", name.replace(".", "/")).write_text(str(value))

    def restore(self, text: str) -> str:
        """Puts in a ruleset; what iptables-restore complains about, empty if nothing."""
        done = subprocess.run([f"iptables-{self.flavour}-restore"], input=text, text=True, capture_output=True)
        return "" if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"

    def save(self) -> str:
        """The ruleset with its counters."""
        command = [f"iptables-{self.flavour}-save", "-c"]
        return subprocess.run(command, check=True, text=True, capture_output=True).stdout

    def flush_conntrack(self) -> None:
        """Deletes every connection of the namespace."""
        self.netlink.send(struct.pack("=IHHIIBBH", 20, CT_DELETE, NLM_F_REQUEST_ACK, 1, 0, 0, 0, 0))
        answer = self.netlink.recv(4096)
        error = struct.unpack_from("=i", answer, 16)[0]
        if error:
            raise OSError(-error, "flushing connections: " + os.strerror(-error))

    def conntrack(self) -> list[Seen]:
        """The connections there are."""
        self.netlink.send(struct.pack("=IHHIIBBH", 20, CT_GET, NLM_F_DUMP, 2, 0, socket.AF_INET, 0, 0))
        found: list[Seen] = []
        while True:
            data = self.netlink.recv(1 << 18)
            at = 0
            while at < len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", data, at + 16)[0], "listing connections")
                found.append(Seen(data[at + 20 : at + length]))
                at += (length + 3) & ~3

    def stats(self) -> dict[str, int]:
        """The namespace's counters of connection tracking, over all processors."""
        path = Path("/proc/thread-self/net/stat/nf_conntrack")
        names, *rows = [line.split() for line in path.read_text().splitlines()]
        totals = {n: sum(int(r[i], 16) for r in rows) for i, n in enumerate(names)}
        return {n: totals.get(n, totals.get("icmp_error", 0) if n == "error" else 0) for n in STAT_NAMES}

    def receive(self, device: str, frame: bytes) -> list[Out]:
        """A frame comes in; what comes out of it."""
        os.write(self.taps[device], frame)
        return self.outcome()

    def send(self, packet: bytes) -> list[Out]:
        """A raw socket sends; what comes out of it."""
        try:
            self.raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
        except PermissionError:  # a hook has dropped it
            pass
        except OSError as e:
            if e.errno not in (113, 101, 22):
                raise
        return self.outcome()

    def outcome(self) -> list[Out]:
        """What the devices and sockets hold."""
        out = []
        for name, fd in self.taps.items():
            while True:
                try:
                    out.append(Out(name, os.read(fd, 65_536)[14:]))
                except BlockingIOError:
                    break
        for port, s in self.udp.items():
            while True:
                try:
                    out.append(Out(f"udp {port}", s.recv(65_536)))
                except BlockingIOError:
                    break
        return out

    def close(self) -> None:
        """Gives all back; the namespace goes with the process."""
        for fd in self.taps.values():
            os.close(fd)
        for s in (self.raw, self.netlink, *self.udp.values()):
            s.close()


def _tap(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


@contextmanager
def live(flavour: str = "legacy") -> Iterator[Live]:
    """The live router, closed at the end."""
    router = Live(flavour)
    try:
        yield router
    finally:
        router.close()
