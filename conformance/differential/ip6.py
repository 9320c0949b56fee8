"""The IPv6 differential: random packets through the model and through the running kernel, compared packet by packet.

Compared: what comes out, byte by byte and by device, what a UDP socket gets, the reasons of drops, and all counters of
Ip6 and Icmp6. Free: the identification of fragments that the kernel makes itself, which it draws at random.
"""

import os
import shutil
import socket
import time
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import track

from conformance.differential.ip6_packets import Generator
from conformance.differential.ip6_world import ADDRESSES, IN, MACS, OUT, PEERS, ROUTES, UDP_PORT, Router, World
from conformance.live.errors import LabUnavailable
from conformance.live.kernel import NetNamespace, set_features
from conformance.live.ktrace import Pipe, follow
from conformance.live.lab import run
from refmodel.profile import nearest, version_number

WORLDS: Final = (
    World(),
    World(mtu=1280),
    World(mtu=1400, max_hbh_opts_number=1, max_dst_opts_number=-2),
    World(forwarding=0),
    World(mtu=1300, echo_ignore_multicast=1, anycast_src_echo_reply=1, flowlabel_reflect=7, max_hbh_length=16),
    World(echo_ignore_anycast=1, error_anycast_as_unicast=1, max_dst_opts_length=8),
)
SOL_PACKET, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE = 263, 23, 33
ETH_P_ALL: Final = 3
NOTHING: Final = {"tso": False, "gso": False, "gro": False, "tx-checksum": False}


class Live:
    """The world in a namespace, with the other ends of its wires in another."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.router, self.outside = NetNamespace(), NetNamespace()
        self.taps: dict[str, socket.socket] = {}
        with self.outside.inside():
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        with self.router.inside():
            self._router(world)
        with self.outside.inside():
            for name, peer in ((IN, "x0"), (OUT, "x1")):
                run("ip", "link", "set", peer, "up")
                set_features(peer, NOTHING)
                # What the taps have seen is dropped before the other namespace's IPv6 looks at it.
                chain = f"type filter hook ingress device {peer} priority 0; policy drop;"
                run("nft", "-f", "-", stdin=f"table netdev taps_{peer} {{\nchain wire {{\n{chain}\n}}\n}}\n")
                tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
                tap.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
                tap.bind((peer, ETH_P_ALL))
                tap.setblocking(False)
                self.taps[name] = tap
        time.sleep(0.3)
        self.take()

    def _router(self, world: World) -> None:
        sysctl = Path("/proc/sys/net/ipv6")
        for name, value in {"addr_gen_mode": "1", "mldv2_unsolicited_report_interval": "0", "accept_ra": "0"}.items():
            (sysctl / "conf/default" / name).write_text(value)
        for key, value in world.settings().items():
            (sysctl / key).write_text(value + "\n")
        (sysctl / "conf/all/forwarding").write_text(str(world.forwarding))
        run("ip", "link", "set", "lo", "up")
        for name, peer in ((IN, "x0"), (OUT, "x1")):
            run("ip", "link", "add", name, "address", MACS[name].hex(":"), "type", "veth", "peer", "name", peer,
                "address", PEERS[name].hex(":"), "netns", self.outside.path)  # fmt: skip
            set_features(name, NOTHING)
            run("ip", "link", "set", name, "arp", "off")
        run("ip", "link", "set", OUT, "mtu", str(world.mtu))
        for name in (IN, OUT):
            run("ip", "link", "set", name, "up")
            for a in ADDRESSES[name]:
                run("ip", "-6", "addr", "add", a, "dev", name, "nodad")
        for prefix, kind, gateway, name, mtu in ROUTES:
            where = ["via", gateway, "dev", name] if gateway else []
            run("ip", "-6", "route", "add", kind, prefix, *where, *(["mtu", str(mtu)] if mtu else []))
        self.udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.udp.bind(("::", UDP_PORT))
        self.udp.setblocking(False)

    def send(self, device: str, frame: bytes) -> None:
        """A frame comes in at a device."""
        self.taps[device].send(frame)

    def take(self) -> list[tuple[str, bytes]]:
        """The IPv6 packets that came out since the last call, by device; listener reports left out."""
        found = []
        for name, tap in self.taps.items():
            while True:
                try:
                    frame = tap.recv(1 << 17)
                except BlockingIOError:
                    break
                if frame[12:14] == b"\x86\xdd" and not (frame[20] == 0 and frame[62:63] == b"\x8f"):
                    found.append((name, frame[14:]))
        return found

    def received(self) -> list[bytes]:
        """What the UDP socket got since the last call."""
        found: list[bytes] = []
        while True:
            try:
                found.append(self.udp.recv(1 << 17))
            except BlockingIOError:
                return found

    def mib(self) -> dict[str, int]:
        """The counters of Ip6 and Icmp6 that are not 0."""
        with self.router.inside():
            lines = Path("/proc/thread-self/net/snmp6").read_text().splitlines()
        pairs = (line.split() for line in lines)
        return {k: int(v) for k, v in pairs if k.startswith(("Ip6", "Icmp6"))}

    def close(self) -> None:
        """Everything goes away."""
        for tap in self.taps.values():
            tap.close()
        self.udp.close()
        with self.router.inside():
            run("ip", "link", "del", IN)
            run("ip", "link", "del", OUT)
        self.router.close()
        self.outside.close()


class Difference(Struct, frozen=True):
    """What the two sides did otherwise."""

    world: str
    number: int
    device: str
    frame: bytes
    what: str
    model: object
    kernel: object
    notes: list[tuple[str, str]]

    def text(self) -> str:
        """Some lines for a reader."""
        return (
            f"{self.what} after packet {self.number} at {self.device} of {self.world}\n"
            f"  frame  {self.frame[14:].hex()[:240]}\n"
            f"  model  {self.model}\n  kernel {self.kernel}\n  notes  {self.notes}"
        )


def settled(packets: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Packets by device, with the identification of fragments made here taken out."""
    return sorted(((d, plain(p)) for d, p in packets), key=lambda x: x[0])


def plain(packet: bytes) -> bytes:
    """A packet of this host's own in fragments, without its identification."""
    own = packet[6] == 44 and packet[8:24] in OWN
    return packet[:44] + bytes(4) + packet[48:] if own else packet


HERE: Final = (*(a.split("/")[0] for x in ADDRESSES.values() for a in x), "2001:db8:1::", "2001:db8:2::", "fe80::")
OWN: Final = {socket.inet_pton(socket.AF_INET6, a) for a in HERE}


def reasons(pipe: Pipe) -> list[str]:
    """The reasons of drops since the last call."""
    found = [text for _, text in pipe.new() if "location=skb_release_data" not in text]
    return [r for t in found if (r := t.rsplit("reason: ", 1)[1]) != "NETFILTER_DROP"]


def one(world: World, n: int, seed: int, progress: bool) -> tuple[int, list[Difference]]:
    """Sends `n` packets through one world on both sides: packets that came out, and the differences."""
    live = Live(world)
    wanted = {"skb/kfree_skb": f"protocol == 0x86dd && common_pid == {os.getpid()}"}
    found: list[Difference] = []
    came = 0
    try:
        # Only a kernel built for mobile IPv6 has this function.
        mip6 = " rawv6_mh_filter_register\n" in Path("/proc/kallsyms").read_text()
        model = Router(world, version_number(nearest(os.uname().release)), mip6)
        generator = Generator(seed)
        with follow(wanted) as pipe:
            before = live.mib()
            pipe.new()
            for i in track(range(n), repr(world), disable=not progress, console=Console(stderr=True)):
                device, frame = generator.next()
                model.out, model.drops, model.notes = [], [], []
                model.send(device, frame)
                live.send(device, frame)
                there, datagrams, drops = live.take(), live.received(), reasons(pipe)
                came += len(there)
                pairs: tuple[tuple[str, object, object], ...] = (
                    ("packets", settled(model.out), settled(there)),
                    ("drops", sorted(model.drops), sorted(drops)),
                    ("datagrams", model.udp.received, datagrams),
                )
                for what, here, kernel in pairs:
                    if here != kernel:
                        found.append(Difference(repr(world), i, device, frame, what, here, kernel, model.notes))
                model.udp.received = []
            after = live.mib()
            kernel_mib = {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}
            model_mib = {k: v for k, v in model.mib.items() if v and k.startswith(("Ip6", "Icmp6"))}
            if kernel_mib != model_mib:
                differ = {
                    k for k in kernel_mib.keys() | model_mib.keys() if kernel_mib.get(k, 0) != model_mib.get(k, 0)
                }
                ours = {k: model_mib.get(k, 0) for k in sorted(differ)}
                theirs = {k: kernel_mib.get(k, 0) for k in sorted(differ)}
                found.append(Difference(repr(world), n, "", b"", "counters", ours, theirs, []))
    finally:
        live.close()
    return came, found


def missing() -> str:
    """Why the kernel cannot be asked here; "" if it can."""
    if os.geteuid() != 0:
        return "needs root: it makes network namespaces"
    return "" if shutil.which("ip") and shutil.which("nft") else "needs iproute2 and nftables"


def compare(n: int, seed: int, progress: bool = False) -> tuple[int, list[Difference]]:
    """Sends `n` packets in all, through each world in turn: packets that came out, and the differences."""
    if missing():
        raise LabUnavailable(missing())
    came = 0
    found: list[Difference] = []
    for i, world in enumerate(WORLDS):
        if version_number(nearest(os.uname().release)) < 612:
            world.sysctls.pop("error_anycast_as_unicast", None)  # 6.1 has no such setting
        more, differ = one(world, n // len(WORLDS), seed * 1000 + i, progress)
        came += more
        found += differ
    return came, found


@click.command()
@click.option("--n", default=3000, help="Packets to send.")
@click.option("--seed", default=1, help="Of the random packets.")
@click.option("--progress/--no-progress", default=True, help="Show how far it is.")
def main(n: int, seed: int, progress: bool) -> None:
    """Compares what IPv6 does with packets with the running kernel."""
    came, found = compare(n, seed, progress)
    for d in found[:8]:
        click.echo(d.text())
    click.echo(f"{n} packets in, {came} out: {len(found)} differences")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
