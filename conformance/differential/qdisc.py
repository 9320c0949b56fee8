"""Disciplines, the model against the live kernel: random packets into a tun device with pfifo_fast, fifos and tbf.

A tun device takes whatever its ring has room for, so nothing waits in a discipline of its own. What waits is made to by
a slow tbf, and leaves when tbf is made fast. The model is told when each operation came. Compared are each
send's errno, the order in which the program reads, every number of ``tc -s qdisc``, the device's drops, and the reason
of each drop as the tracepoint skb:kfree_skb tells it.
"""

import errno
import fcntl
import json
import os
import random
import re
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import track

from conformance.differential.qdisc_plan import (
    Change,
    Look,
    Op,
    Outcome,
    Read,
    Scenario,
    Send,
    Stats,
    payload,
    play,
    scenario,
)
from conformance.live.errors import LabUnavailable
from conformance.live.kernel import NetNamespace
from conformance.live.ktrace import Pipe, follow
from refmodel.profile import nearest, version_number

TUNSETIFF: Final = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
ETH_P_IP: Final = 0x0800
SO_SNDBUFFORCE: Final = 32
IP_TOS: Final = 1
SOFTIRQ_LATE: Final = 20_000_000  # ns: a softirq may have to wait for ksoftirqd's turn
QUEUED: Final = re.compile(r"dev=\S+ skbaddr=(\S+) len=(\d+)")
FREED: Final = re.compile(r"skbaddr=(\S+) .*reason: (\w+)")


class Difference(Struct, frozen=True):
    """A scenario of which the model and the kernel make different things."""

    scenario: Scenario
    kernel: Outcome
    model: Outcome

    def text(self) -> str:
        """Which parts differ, and what each side has there."""
        s = self.scenario
        lines = [f"scenario {s.seed}: {s.root} {s.limit} {s.tbf} {s.child} {s.child_limit}, ring of {s.tx_queue_len}"]
        for name in Outcome.__struct_fields__:
            k, m = getattr(self.kernel, name), getattr(self.model, name)
            if k != m:
                lines += [f"  {name}", f"    kernel {k}", f"    model  {m}"]
        return "\n".join(lines)


class Tun:
    """A tun device in a namespace of its own, what sends into it, and who reads."""

    def __init__(self) -> None:
        self.name = f"q{os.getpid() % 1000000}"
        self.ns = NetNamespace()
        with self.ns.inside():
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", self.name.encode(), IFF_TUN | IFF_NO_PI))
            Path(f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6").write_text("1")
            run("ip", "address", "add", "10.9.0.1/24", "dev", self.name)
            run("ip", "link", "set", self.name, "up")
            self.raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            self.raw.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
            self.udp.connect(("10.9.0.2", 9))
        self.to = (self.name, ETH_P_IP)

    def close(self) -> None:
        """The device goes away with its namespace."""
        self.raw.close()
        self.udp.close()
        os.close(self.fd)
        self.ns.close()

    def tc(self, *words: str) -> str:
        """What tc says; raises LabUnavailable if it refuses."""
        with self.ns.inside():
            return run("tc", *words)

    def dropped(self) -> int:
        """The device's tx_dropped."""
        for line in Path(f"/proc/{os.getpid()}/task/{self.task()}/net/dev").read_text().splitlines():
            if line.strip().startswith(self.name + ":"):
                return int(line.split(":")[1].split()[11])
        raise LabUnavailable(f"{self.name} is not in /proc/net/dev")

    def task(self) -> int:
        """This thread, which is in the device's namespace when it asks."""
        return int(Path("/proc/thread-self").readlink().name)

    def reset(self, s: Scenario) -> int:
        """The device as the scenario wants it, empty; its count of drops so far."""
        with self.ns.inside():
            run("tc", "qdisc", "del", "dev", self.name, "root", fails=True)
            self.read(1 << 20)
            run("ip", "link", "set", self.name, "down")
            run("ip", "link", "set", self.name, "txqueuelen", str(s.tx_queue_len))
            run("ip", "link", "set", self.name, "up")
            self.read(1 << 20)
            # The ring keeps its slots' positions: a ring of another size and back starts at its first slot.
            run("ip", "link", "set", self.name, "txqueuelen", str(s.tx_queue_len + 1))
            run("ip", "link", "set", self.name, "txqueuelen", str(s.tx_queue_len))
            # pfifo_fast is made anew, with empty books.
            run("tc", "qdisc", "replace", "dev", self.name, "root", "handle", "9:", "pfifo", "limit", "1")
            if s.tbf is not None:
                run("tc", "qdisc", "replace", "dev", self.name, "root", "handle", "1:", "tbf", *tbf_words(s.tbf))
                if s.child:
                    run("tc", "qdisc", "add", "dev", self.name, "parent", "1:1", "handle", "2:", s.child,
                        *limit_words(s.child, s.child_limit))  # fmt: skip
            elif s.root == "noqueue":
                run("tc", "qdisc", "replace", "dev", self.name, "root", "noqueue")
            else:
                run("tc", "qdisc", "replace", "dev", self.name, "root", "handle", "1:", s.root,
                    *limit_words(s.root, s.limit))  # fmt: skip
            return self.dropped()

    def read(self, n: int) -> list[int]:
        """The numbers of the next `n` packets, or of those that there are."""
        found: list[int] = []
        for _ in range(n):
            try:
                data = os.read(self.fd, 1 << 17)
            except BlockingIOError:
                break
            at = 28 if data[9] == socket.IPPROTO_UDP else 0
            found.append(int.from_bytes(data[at + 2 : at + 6], "big"))
        return found

    def send(self, op: Send, number: int) -> int:
        """Sends a packet; the errno."""
        try:
            if op.tos >= 0:
                self.udp.setsockopt(socket.IPPROTO_IP, IP_TOS, op.tos)
                self.udp.send(payload(number, op.size))
            else:
                self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, op.priority)
                self.raw.sendto(payload(number, op.size), self.to)
        except OSError as e:
            return e.errno or errno.EIO
        return 0

    def play(self, s: Scenario, pipe: Pipe) -> tuple[Outcome, tuple[tuple[int, int], ...]]:
        """What the kernel makes of a scenario, and when each operation began and ended (ns since the start)."""
        before = self.reset(s)
        began = time.monotonic_ns()
        pipe.new()
        errnos: list[int] = []
        read: list[int] = []
        looks: list[tuple[Stats, ...]] = []
        times: list[tuple[int, int]] = []
        number = 0
        for op in s.ops:
            start = time.monotonic_ns()
            if isinstance(op, Send):
                number += 1
                errnos.append(self.send(op, number))
            elif isinstance(op, Read):
                read += [*self.read(op.n), -1]
            elif isinstance(op, Change):
                self.tc("qdisc", "change", "dev", self.name, "root", "handle", "1:", "tbf", *tbf_words(op))
            else:
                with self.ns.inside():
                    looks.append(all_looks(self.name))
            times.append((start - began, time.monotonic_ns() - began))
        with self.ns.inside():
            dropped = self.dropped() - before
        return Outcome(tuple(errnos), tuple(read), tuple(looks), dropped, reasons(pipe.new(), set(read))), tuple(times)


def reasons(events: list[tuple[str, str]], read: set[int]) -> tuple[str, ...]:
    """The drops in order: each packet's number, by the order in which packets were queued, and the reason."""
    number: dict[str, int] = {}
    found: list[str] = []
    sent = 0
    for name, text in events:
        if name == "net_dev_queue" and (m := QUEUED.search(text)):
            sent += 1
            number[m[1]] = sent
        elif name == "kfree_skb" and (m := FREED.search(text)) and m[1] in number and number[m[1]] not in read:
            found.append(f"{number.pop(m[1])} {m[2]}")
    return tuple(found)


def all_looks(device: str) -> tuple[Stats, ...]:
    """The numbers of a device's disciplines, the root's first."""
    text = run("tc", "-s", "-j", "qdisc", "show", "dev", device, "invisible")
    shown = [x for x in json.loads(text) if x["kind"] != "noop"]
    shown.sort(key=lambda x: "root" not in x)
    return tuple(Stats(*(x[name] for name in Stats.__struct_fields__)) for x in shown)


def look(device: str) -> Stats:
    """The numbers of a device's root discipline."""
    return all_looks(device)[0]


def run(*command: str, fails: bool = False) -> str:
    """A command in this thread's namespace and what it says; raises LabUnavailable unless it may fail."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not fails:
        raise LabUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def tbf_words(c: Change) -> list[str]:
    """tbf's parameters for tc."""
    words = ["rate", f"{8 * c.rate}bit", "burst", f"{c.burst}b", "limit", str(c.limit)]
    return [*words, "peakrate", f"{8 * c.peak}bit", "mtu", f"{c.mtu}b"] if c.peak else words


def limit_words(kind: str, limit: int) -> list[str]:
    """A fifo's limit for tc."""
    return [] if kind == "pfifo_fast" else ["limit", str(limit)]


def explained(s: Scenario, kernel: int, times: tuple[tuple[int, int], ...], there: Outcome) -> Outcome:
    """What the model makes of a scenario: like the kernel if some moment within the operations explains it.

    When exactly within an operation the kernel looked at its clock is not known, nor how long after tbf's watchdog its
    softirq ran.
    """
    outcomes = [play(s, kernel, tuple(t[end] for t in times), late)[0] for late in (0, SOFTIRQ_LATE) for end in (0, 1)]
    return there if there in outcomes else outcomes[0]


def running() -> int:
    """The running kernel's version as an integer, as the model knows it."""
    return version_number(nearest(os.uname().release))


def count(ops: tuple[Op, ...], kind: type[Op]) -> int:
    """How many operations are of a kind."""
    return sum(1 for op in ops if isinstance(op, kind))


class Summary(Struct):
    """What was played: scenarios, packets sent and dropped, statistics read."""

    scenarios: int = 0
    packets: int = 0
    dropped: int = 0
    looks: int = 0
    differences: list[Difference] = []

    def text(self) -> str:
        """One line."""
        return (
            f"{self.scenarios} scenarios, {self.packets} packets, {self.dropped} drops, {self.looks} readings of the"
            f" statistics: {len(self.differences)} differences"
        )


def compare(n: int, seed: int, progress: bool = False) -> Summary:
    """Plays `n` scenarios on both sides. Raises LabUnavailable without root, tun or a tracepoint."""
    done = Summary(differences=[])
    try:
        tun = Tun()
    except PermissionError as e:
        raise LabUnavailable("namespaces and tun need root") from e
    names = random.Random(seed)
    events = {"net/net_dev_queue": f'name == "{tun.name}"', "skb/kfree_skb": ""}
    try:
        with follow(events) as pipe:
            for _ in track(range(n), "qdisc", disable=not progress, console=Console(stderr=True)):
                s = scenario(names.getrandbits(31))
                there, times = tun.play(s, pipe)
                here = explained(s, running(), times, there)
                done.scenarios += 1
                done.packets += count(s.ops, Send)
                done.looks += count(s.ops, Look)
                done.dropped += len(here.reasons)
                if there != here:
                    done.differences.append(Difference(s, there, here))
    finally:
        tun.close()
    return done


@click.command()
@click.option("--n", default=1000, help="Scenarios to play.")
@click.option("--seed", default=1, help="Of the random scenarios.")
@click.option("--progress/--no-progress", default=True, help="Show how far it is.")
def main(n: int, seed: int, progress: bool) -> None:
    """Compares disciplines with those of the running kernel."""
    done = compare(n, seed, progress)
    for d in done.differences[:5]:
        click.echo(d.text())
    click.echo(done.text())
    raise SystemExit(1 if done.differences else 0)


if __name__ == "__main__":
    main()
