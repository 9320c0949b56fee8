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
NLM_F_REQUEST_ACK: Final = 5
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
    """One entry of /proc/net/nf_conntrack; raises ValueError for a line that isn't one."""

    def __init__(self, row: str) -> None:
        words = row.split()
        if words[0] != "ipv4":
            raise ValueError(f"unreadable line of nf_conntrack: {row!r}")
        self.protonum = int(words[3])
        self.expires = int(words[4])
        self.state = "" if "=" in words[5] or words[5].startswith("[") else words[5]
        starts = [i for i, w in enumerate(words) if w.startswith("src=")]
        ends = (*starts[1:], len(words))
        self.tuples = [_tuple(words[i:j], self.protonum) for i, j in zip(starts, ends, strict=True)]
        self.unreplied = "[UNREPLIED]" in words
        self.assured = "[ASSURED]" in words
        self.mark = next(int(w[5:]) for w in words if w.startswith("mark="))

    def key(self) -> tuple[object, ...]:
        """All but the time that it has left."""
        return (*self.tuples, self.state, self.unreplied, self.assured, self.mark)


def _tuple(words: list[str], protonum: int) -> Tuple:
    f = dict(w.split("=") for w in words if "=" in w)
    src, dst = socket.inet_aton(f["src"]), socket.inet_aton(f["dst"])
    if protonum == 1:
        return Tuple(src, int(f["id"]), dst, int(f["type"]) << 8 | int(f["code"]), protonum)
    return Tuple(src, int(f.get("sport", 0)), dst, int(f.get("dport", 0)), protonum)


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
        rows = Path("/proc/thread-self/net/nf_conntrack").read_text().splitlines()
        return [Seen(row) for row in rows]

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
