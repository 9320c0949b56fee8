"""GRO, the model against the live kernel: frames into a veth with GRO on, and what comes up on the other end.

A sequence is to fall into one poll. The receiving veth's NAPI is threaded, its thread has the sender's processor, and
the sender is a real-time task: so the thread runs when the sender waits, and takes all that was sent. Where the poll
ended the tracepoint napi:napi_poll tells, and the model polls the same. What comes up is seen by a packet socket with a
virtio header, which tells a super-segment's size and type.
"""

import os
import random
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import track

from conformance.differential.gro_frames import DST, SRC, sequence
from conformance.differential.receive_env import ReceiveEnv, receive
from conformance.live.errors import LabUnavailable
from conformance.live.kernel import NetNamespace
from conformance.live.ktrace import follow
from refmodel.netdevice import NetDevice
from refmodel.profile import nearest, version_number
from refmodel.receive.napi import dev_set_threaded
from refmodel.receive.veth import VethRq, veth_xmit
from refmodel.skbuff import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SKB_GSO_UDP_L4,
    SkBuff,
)

SOL_PACKET: Final = 263
PACKET_VNET_HDR: Final = 15
PACKET_QDISC_BYPASS: Final = 20
SO_RCVBUFFORCE: Final = 33
ETH_P_ALL: Final = 3
VNET = struct.Struct("=BBHHHH")
NEEDS_CSUM, DATA_VALID = 1, 2
GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 1, 4, 5, 0x80
MARKER: Final = DST + SRC + b"\x88\xb6" + b"refmodel" + bytes(40)


class Up(Struct, frozen=True):
    """A packet that came up: its frame, and what the virtio header says of it."""

    frame: bytes
    flags: int
    gso_type: int
    gso_size: int
    csum_start: int
    csum_offset: int

    def text(self) -> str:
        """One line for a reader."""
        head = self.frame[14:74].hex()
        return f"{len(self.frame)} bytes, flags {self.flags}, gso {self.gso_type} of {self.gso_size}: {head}"


# ---------------------------------------------------------------------------------------------------------- the kernel


class Pair:
    """Two ends of a veth, each in a namespace of its own."""

    def __init__(self) -> None:
        self.left, self.right = NetNamespace(), NetNamespace()
        self.sender, self.receiver = f"l{os.getpid() % 100000}", f"r{os.getpid() % 100000}"
        self.cpu = min(os.sched_getaffinity(0))
        with self.left.inside():
            run("ip", "link", "add", self.sender, "address", SRC.hex(":"), "type", "veth", "peer", "name",
                self.receiver, "address", DST.hex(":"), "netns", self.right.path)  # fmt: skip
            quiet(self.sender)
            run("ethtool", "-K", self.sender, "tso", "off", "gso", "off")
        with self.right.inside():
            quiet(self.receiver)
            run("ethtool", "-K", self.receiver, "gro", "on")
            run("ip", "link", "set", self.receiver, "up")
        with self.left.inside():
            run("ip", "link", "set", self.sender, "up")
            self.tx = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.tx.bind((self.sender, 0))
            self.tx.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        with self.right.inside():
            run("unshare", "--mount", "sh", "-c",
                f"mount -t sysfs none /sys && echo 1 > /sys/class/net/{self.receiver}/threaded")  # fmt: skip
            self.rx = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.rx.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            self.rx.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            self.rx.bind((self.receiver, ETH_P_ALL))
            self.rx.settimeout(2.0)
        os.sched_setaffinity(self.thread(), {self.cpu})

    def thread(self) -> int:
        """The process id of the NAPI's thread."""
        for comm in Path("/proc").glob("[0-9]*/comm"):
            if comm.read_text().startswith(f"napi/{self.receiver}-"):
                return int(comm.parent.name)
        raise LabUnavailable(f"no thread polls {self.receiver}: this kernel has no threaded NAPI")

    def forwarding(self, on: bool) -> None:
        """Switches rx-udp-gro-forwarding."""
        with self.right.inside():
            run("ethtool", "-K", self.receiver, "rx-udp-gro-forwarding", "on" if on else "off")

    def play(self, frames: list[bytes]) -> list[Up]:
        """Sends the frames so that one poll takes them, then a marker in a poll of its own; what came up before it."""
        with real_time(self.cpu):
            for f in frames:
                self.tx.send(f)
        seen: list[Up] = []
        left = len(frames)
        while left > 0:
            up = self.receive()
            seen.append(up)
            left -= segments(up)
        self.tx.send(MARKER)
        while (up := self.receive()).frame != MARKER:
            seen.append(up)
        return seen

    def receive(self) -> Up:
        """The next packet that came up; raises TimeoutError."""
        data = self.rx.recv(1 << 17)
        flags, gso_type, _, gso_size, csum_start, csum_offset = VNET.unpack_from(data)
        return Up(data[VNET.size :], flags, gso_type, gso_size, csum_start, csum_offset)

    def close(self) -> None:
        """The pair goes away with its namespaces."""
        self.tx.close()
        self.rx.close()
        with self.left.inside():
            run("ip", "link", "del", self.sender)
        self.left.close()
        self.right.close()


def quiet(device: str) -> None:
    """The kernel itself sends nothing on a device."""
    Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")


def run(*command: str) -> None:
    """A command in this thread's namespace; raises LabUnavailable with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")


def segments(up: Up) -> int:
    """How many frames a packet was made of."""
    if not up.gso_size:
        return 1
    behind = up.csum_start + (8 if up.gso_type & 0x7F == GSO_UDP_L4 else (up.frame[up.csum_start + 12] >> 4) * 4)
    return -(-(len(up.frame) - behind) // up.gso_size)


@contextmanager
def real_time(cpu: int) -> Iterator[None]:
    """This process has a processor to itself meanwhile, but when it waits."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, before)


# ----------------------------------------------------------------------------------------------------------- the model


def model(
    frames: list[bytes], forwarding: bool, kernel: int, polls: Sequence[int] = ()
) -> tuple[list[Up], list[tuple[str, str]]]:
    """What comes up in the model, and its notes. `polls`: the frames of each poll of the kernel; none: one has all."""
    env = ReceiveEnv(kernel)
    rx = receive(env)
    left = NetDevice("left", 2, SRC)
    on = {"generic-receive-offload"} | ({"rx-udp-gro-forwarding"} if forwarding else set())
    rq = VethRq(rx, NetDevice("right", 3, DST, features=frozenset(on)))
    dev_set_threaded(rx, rq.napi, True)
    ends = set(accumulate(polls))
    for i, f in enumerate(frames, 1):
        skb = SkBuff(f[14:], 0, dev=left, mac_header=f[:14])
        rx.contexts.local_bh_disable()
        veth_xmit(rx, skb, left, rq)
        rx.contexts.local_bh_enable()
        if i in ends or i == len(frames):
            rx.contexts.settle()
    return [up_of(s) for s in env.up], env.notes


def up_of(skb: SkBuff) -> Up:
    """A packet of the model as the packet socket would show it."""
    if skb.ip_summed == CHECKSUM_PARTIAL:
        udp = bool(skb.gso_type & SKB_GSO_UDP_L4)
        kind = GSO_UDP_L4 if udp else GSO_TCPV4 if skb.gso_type & SKB_GSO_TCPV4 else 0
        kind = GSO_TCPV6 if skb.gso_type & SKB_GSO_TCPV6 else kind
        kind |= GSO_ECN if skb.gso_type & SKB_GSO_TCP_ECN else 0
        return Up(skb.frame, NEEDS_CSUM, kind, skb.gso_size, 14 + (skb.transport or 0), 6 if udp else 16)
    return Up(skb.frame, DATA_VALID if skb.ip_summed == CHECKSUM_UNNECESSARY else 0, 0, 0, 0, 0)


class Difference(Struct, frozen=True):
    """A sequence of which the model and the kernel make different packets."""

    seed: int
    frames: list[bytes]
    kernel: list[Up]
    model: list[Up]
    polls: list[int]
    notes: list[tuple[str, str]]

    def text(self) -> str:
        """Both sides' packets, and which frame was the first to differ."""
        lines = [f"sequence {self.seed}: {len(self.frames)} frames in polls of {self.polls}"]
        for i in range(max(len(self.kernel), len(self.model))):
            k = self.kernel[i] if i < len(self.kernel) else None
            m = self.model[i] if i < len(self.model) else None
            if k != m:
                lines += [f"packet {i}", f"  kernel {k.text() if k else '-'}", f"  model  {m.text() if m else '-'}"]
                break
        return "\n".join(lines)


def running() -> int:
    """The running kernel's version as an integer, as the model knows it."""
    return version_number(nearest(os.uname().release))


def compare(n: int, seed: int, progress: bool = False) -> tuple[int, int, int, list[Difference]]:
    """Plays `n` sequences on both sides: frames, packets, merged packets, and the differences.

    Raises LabUnavailable without root, veth or threaded NAPI.
    """
    kernel = running()
    frames = packets = merged = 0
    found: list[Difference] = []
    try:
        pair = Pair()
    except PermissionError as e:
        raise LabUnavailable("namespaces need root") from e
    wanted = {"napi/napi_poll": f'dev_name == "{pair.receiver}"'}
    try:
        with follow(wanted) as pipe:
            for i in track(range(n), "gro", disable=not progress, console=Console(stderr=True)):
                # A packet socket of 6.1 cannot tell of merged datagrams.
                forwarding = i >= n // 2 and kernel >= 612
                if i == n // 2 and forwarding:
                    pair.forwarding(True)
                sent = sequence(random.Random(seed * 1_000_003 + i))
                there = pair.play(sent)
                polls = [int(text.split(" work ")[1].split()[0]) for _, text in pipe.new()]
                here, notes = model(sent, forwarding, kernel, polls)
                frames, packets = frames + len(sent), packets + len(there)
                merged += sum(1 for u in there if u.gso_size)
                if there != here:
                    found.append(Difference(i, sent, there, here, polls, notes))
    finally:
        pair.close()
    return frames, packets, merged, found


@click.command()
@click.option("--n", default=2000, help="Sequences to play.")
@click.option("--seed", default=1, help="Of the random sequences.")
@click.option("--progress/--no-progress", default=True, help="Show how far it is.")
def main(n: int, seed: int, progress: bool) -> None:
    """Compares GRO's merged packets with those of the running kernel."""
    frames, packets, merged, found = compare(n, seed, progress)
    for d in found[:5]:
        click.echo(d.text())
    click.echo(f"{n} sequences, {frames} frames, {packets} packets up, {merged} merged: {len(found)} differences")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
