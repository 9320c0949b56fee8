"""The kernel's side of the IP differential: the world in a namespace, with the other ends of its wires in another.

Frames go in and come out at packet sockets of the other ends. Drops are read from skb:kfree_skb in a trace instance of
its own, of this process on one processor: a frame's whole way through the router runs within the call that sends it.
"""

import fcntl
import os
import re
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from conformance.differential.ip_world import ADDRESSES, IN, MACS, OUT, PEER_MACS, ROUTES, TUN, UDP_PORT, World
from conformance.live import observe
from conformance.live.kernel import NetNamespace, set_features
from conformance.live.lab import run
from conformance.live.tun import IFF_NO_PI, IFF_TUN, IFF_VNET_HDR, TUNSETIFF

ETH_P_ALL: Final = 0x0003
SO_RCVBUFFORCE: Final = 33
PACKET_IGNORE_OUTGOING: Final = 23
SOL_PACKET: Final = 263
NOTHING: Final = {"tso": False, "gso": False, "gro": False, "tx-checksum": False}
CONNTRACK: Final = """table ip tracked {
chain through {
type filter hook forward priority 0; policy accept;
ct state established counter
}
}
"""
EVENT: Final = re.compile(r"kfree_skb: .*location=(\w+).*reason: (\w+)")


def missing() -> str:
    """Why the kernel cannot be asked here; "" if it can."""
    if os.geteuid() != 0:
        return "needs root: it makes network namespaces"
    if shutil.which("ip") is None or shutil.which("nft") is None:
        return "needs iproute2 and nftables"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    return ""


class Drops:
    """The reasons of drops of IPv4 packets in this process, from a trace instance of its own."""

    def __init__(self, cpu: int) -> None:
        self._dir = tempfile.mkdtemp(prefix="refmodel-trace-")
        self._mounted = False
        try:
            run("mount", "-t", "tracefs", "none", self._dir)
            self._mounted = True
            self._sweep()
            self.instance = Path(self._dir) / "instances" / f"refmodel-ip-{os.getpid()}"
            self.instance.mkdir()
            event = self.instance / "events" / "skb" / "kfree_skb"
            (event / "filter").write_text(f"protocol == 0x800 && common_pid == {os.getpid()}")
            (event / "enable").write_text("1")
            self.trace = self.instance / "per_cpu" / f"cpu{cpu}" / "trace"
        except BaseException:
            self.close()
            raise

    def _sweep(self) -> None:
        """Takes away what a process left that was killed."""
        for left in (Path(self._dir) / "instances").glob("refmodel-ip-*"):
            if not Path(f"/proc/{left.name.rsplit('-', 1)[1]}").exists():
                (left / "events" / "skb" / "kfree_skb" / "enable").write_text("0")
                left.rmdir()

    def take(self) -> list[str]:
        """The reasons since the last call, in order."""
        found = EVENT.findall(self.trace.read_text())
        self.trace.write_text("")
        # The taps' namespace drops by its filter. Parts of a packet go with it: skb_release_data tells nothing new.
        return [x for place, x in found if x != "NETFILTER_DROP" and place != "skb_release_data"]

    def close(self) -> None:
        """Takes the instance away."""
        if self._mounted:
            if self.instance.exists():
                (self.instance / "events" / "skb" / "kfree_skb" / "enable").write_text("0")
                self.instance.rmdir()
            run("umount", self._dir)
            self._mounted = False
        os.rmdir(self._dir)


@contextmanager
def pinned() -> Iterator[int]:
    """The process stays on one processor meanwhile."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, before)


class Live:
    """A router in a namespace; `close` takes everything away."""

    def __init__(self, world: World, cpu: int) -> None:
        self.world = world
        self.router = NetNamespace()
        self.outside = NetNamespace()
        self.drops: Drops | None = None
        self.taps: dict[str, socket.socket] = {}
        self.tun = -1
        self.udp: socket.socket | None = None
        try:
            self._build()
            self.drops = Drops(cpu)
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        world = self.world
        with self.outside.inside():
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        with self.router.inside():
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            lines = ["link set lo up"]
            for name, peer in ((IN, "x0"), (OUT, "x1")):
                lines.append(
                    f"link add {name} address {MACS[name].hex(':')} type veth peer name {peer} "
                    f"address {PEER_MACS[name].hex(':')} netns {self.outside.path}"
                )
            lines.append(f"link set {OUT} mtu {world.mtu}")
            run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
            for k, v in world.settings().items():
                (Path("/proc/sys/net/ipv4") / k.replace(".", "/")).write_text(str(v))
            if world.tun:
                self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                fcntl.ioctl(
                    self.tun, TUNSETIFF, struct.pack("16sH22x", TUN.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
                )
            lines = []
            for name in (IN, OUT, *([TUN] if world.tun else [])):
                address, length = ADDRESSES[name]
                lines.append(f"addr add {address}/{length} brd + dev {name}")
                lines.append(f"link set {name} arp off up")
            run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
            for name in (IN, OUT):
                set_features(name, NOTHING)
            if world.conntrack:
                run("nft", "-f", "-", stdin=CONNTRACK)
        with self.outside.inside():
            run("ip", "-batch", "-", stdin="link set x0 up\nlink set x1 up\n")
            for name, peer in ((IN, "x0"), (OUT, "x1")):
                set_features(peer, NOTHING)
                # What the taps have seen is dropped before the other namespace's IP looks at it.
                chain = f"type filter hook ingress device {peer} priority 0; policy drop;"
                run("nft", "-f", "-", stdin=f"table netdev taps_{peer} {{\nchain wire {{\n{chain}\n}}\n}}\n")
                tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
                tap.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
                tap.bind((peer, ETH_P_ALL))
                tap.setblocking(False)
                self.taps[name] = tap
        time.sleep(0.05)
        with self.router.inside():
            run("ip", "-batch", "-", stdin="".join(f"route add {r.text()}\n" for r in ROUTES))
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            self.udp.bind(("0.0.0.0", UDP_PORT))
            self.udp.setblocking(False)
        self.take()
        self.received()

    def send(self, device: str, frame: bytes) -> None:
        """A frame comes in to the router at a device; to the tun device a virtio header and a packet."""
        if device == TUN:
            os.write(self.tun, frame)
        else:
            self.taps[device].send(frame)

    def take(self) -> list[tuple[str, bytes]]:
        """The IPv4 packets that came out since the last call, by device."""
        found = []
        for name, tap in self.taps.items():
            while True:
                try:
                    frame = tap.recv(1 << 17)
                except BlockingIOError:
                    break
                if frame[12:14] == b"\x08\x00":
                    found.append((name, frame[14:]))
        while self.tun >= 0:
            try:
                packet = os.read(self.tun, 1 << 17)[10:]
            except BlockingIOError:
                break
            if packet[:1] and packet[0] >> 4 == 4:
                found.append((TUN, packet))
        return found

    def received(self) -> list[bytes]:
        """What the UDP socket got since the last call."""
        found: list[bytes] = []
        assert self.udp is not None
        while True:
            try:
                found.append(self.udp.recv(1 << 17))
            except BlockingIOError:
                return found

    def counters(self) -> dict[str, int]:
        """IP's and ICMP's counters, named as the model names them."""
        with self.router.inside():
            return {
                k.replace(".", ""): v
                for k, v in observe.mib().items()
                if k.split(".")[0] in ("Ip", "Icmp", "IpExt", "IcmpMsg")
            }

    def close(self) -> None:
        """Takes everything away."""
        if self.drops is not None:
            self.drops.close()
            self.drops = None
        for tap in self.taps.values():
            tap.close()
        if self.udp is not None:
            self.udp.close()
        if self.tun >= 0:
            os.close(self.tun)
        self.router.close()
        self.outside.close()
