"""Disciplines before a stopped queue, the model against the live kernel: a veth whose other end does not look.

The receiving end polls with a NAPI thread that has the sender's processor, and the sender is a real-time task: so until
the sender waits nobody polls, the ring of 256 fills, the driver answers NETDEV_TX_BUSY and stops the queue, and what is
sent then waits in the discipline. When the sender waits the thread polls 64 at a time, and each poll wakes the queue.
When it polled, how much, and how far NET_TX came behind it, tracepoints tell, so that a busy machine decides nothing.
Compared are each send's errno, the order in which frames arrive, every number of ``tc -s qdisc``, and each drop with
its reason.
"""

import os
import random
import socket
import time
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import track

from conformance.differential.gro import real_time
from conformance.differential.qdisc import limit_words, look, reasons, run, running
from conformance.differential.qdisc_model import QdiscEnv
from conformance.differential.qdisc_plan import ENOBUFS, Stats, stats
from conformance.live.errors import LabUnavailable
from conformance.live.kernel import NetNamespace
from conformance.live.ktrace import Pipe, follow
from refmodel.dev.queue import NETDEV_TX_BUSY, NETDEV_TX_OK, NetdevQueue
from refmodel.dev.softirq import net_tx_action
from refmodel.dev.txq import netif_tx_stop_queue, netif_tx_wake_queue
from refmodel.netdevice import NetDevice
from refmodel.ptr_ring import PtrRing, consumed, full, produced
from refmodel.sched.attach import qdisc_create
from refmodel.sched.const import NET_XMIT_CN
from refmodel.sched.xmit import dev_queue_xmit
from refmodel.skbuff import SkBuff

RING: Final = 256
SEND, RUN = -1, -2  # in a script: a packet, a dequeue in NET_TX; any other number is the work of a poll
HANDLE: Final = 0x5A7B
PATIENCE: Final = 5.0  # s
MANY: Final = 1 << 30
SO_RCVBUFFORCE: Final = 33
SO_SNDBUFFORCE: Final = 32
ETH_P_ALL: Final = 3
TYPE: Final = 0x88B6
STEPS: Final = {"net_dev_queue": SEND, "qdisc_dequeue": RUN}
KINDS: Final = ("pfifo_fast", "pfifo", "bfifo", "pfifo_head_drop")


class Scenario(Struct, frozen=True):
    """A discipline with `limit` on a device with `tx_queue_len`; `packets` are (priority, bytes from type on)."""

    seed: int
    kind: str
    limit: int
    tx_queue_len: int
    packets: tuple[tuple[int, int], ...]


class Outcome(Struct, frozen=True):
    """Each send's errno, the statistics when all is through, the order of arrival, the drops."""

    errnos: tuple[int, ...]
    drained: Stats
    arrived: tuple[int, ...]
    reasons: tuple[str, ...]


class Difference(Struct, frozen=True):
    """A scenario of which the model and the kernel make different things."""

    scenario: Scenario
    kernel: Outcome
    model: Outcome

    def text(self) -> str:
        """Which parts differ."""
        s = self.scenario
        lines = [f"scenario {s.seed}: {s.kind} {s.limit}, tx_queue_len {s.tx_queue_len}, {len(s.packets)} packets"]
        for name in Outcome.__struct_fields__:
            k, m = getattr(self.kernel, name), getattr(self.model, name)
            if k != m:
                lines += [f"  {name}", f"    kernel {k}", f"    model  {m}"]
        return "\n".join(lines)


def scenario(seed: int) -> Scenario:
    """The scenario of that seed: the ring is filled, and then some more comes."""
    r = random.Random(seed)
    kind = r.choice(KINDS)
    limit = r.choice((2_000, 30_000, 400_000)) if kind == "bfifo" else r.choice((1, 7, 60, 200, 1000))
    n = RING - r.randint(0, 16) + r.choice((0, 3, 20, 80, 250))
    packets = tuple((r.choice((0, 0, 1, 2, 4, 6, 7, 9, 15, 22)), r.choice((60, 60, 200, 900, 1400))) for _ in range(n))
    return Scenario(seed, kind, limit, r.choice((5, 40, 100, 1000)), packets)


def polled(text: str) -> int:
    """The work of a poll, as the tracepoint tells it."""
    return int(text.split(" work ")[1].split()[0])


# ---------------------------------------------------------------------------------------------------------- the kernel


class Pair:
    """Two ends of a veth, the sender's with `queues` transmit queues of which the first alone is used.

    A discipline before several queues may not take for granted that its packets are for one of them. The second queue
    is not used: Linux 6.18.44 wakes the first in its stead where there is no XDP, so it would stand for ever.
    """

    def __init__(self, queues: int, all_used: bool = False) -> None:
        self.queues = queues
        self.left, self.right = NetNamespace(), NetNamespace()
        self.name, self.peer = f"s{queues}{os.getpid() % 100000}", f"p{queues}{os.getpid() % 100000}"
        self.cpu = min(os.sched_getaffinity(0))
        with self.left.inside():
            n = str(queues)
            run("ip", "link", "add", self.name, "numtxqueues", n, "numrxqueues", "1", "type", "veth", "peer",
                "name", self.peer, "numtxqueues", "1", "numrxqueues", n, "netns", self.right.path)  # fmt: skip
            Path(f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6").write_text("1")
            run("ethtool", "-K", self.name, "tso", "off", "gso", "off")
            if queues > 1 and not all_used:
                run("ethtool", "-L", self.name, "tx", "1")
        with self.right.inside():
            Path(f"/proc/sys/net/ipv6/conf/{self.peer}/disable_ipv6").write_text("1")
            run("ethtool", "-K", self.peer, "gro", "on")
            run("ip", "link", "set", self.peer, "up")
        with self.left.inside():
            run("ip", "link", "set", self.name, "up")
            self.tx = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            self.tx.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
        with self.right.inside():
            run("unshare", "--mount", "sh", "-c",
                f"mount -t sysfs none /sys && echo 1 > /sys/class/net/{self.peer}/threaded")  # fmt: skip
            self.rx = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.rx.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            self.rx.bind((self.peer, ETH_P_ALL))
            self.rx.settimeout(2.0)
        for comm in Path("/proc").glob("[0-9]*/comm"):
            if comm.read_text().startswith(f"napi/{self.peer}-"):
                os.sched_setaffinity(int(comm.parent.name), {self.cpu})
        self.to = (self.name, TYPE, 0, 0, b"\xff" * 6)

    def close(self) -> None:
        """The pair goes away with its namespaces."""
        self.tx.close()
        self.rx.close()
        self.left.close()
        self.right.close()

    def play(self, s: Scenario, pipe: Pipe) -> tuple[Outcome, tuple[int, ...]]:
        """What the kernel makes of a scenario, and its script: packets, polls, runs."""
        with self.left.inside():
            run("tc", "qdisc", "replace", "dev", self.name, "root", "handle", "9:", "pfifo", "limit", "1")
            run("ip", "link", "set", self.name, "txqueuelen", str(s.tx_queue_len))
            run("tc", "qdisc", "replace", "dev", self.name, "root", "handle", f"{HANDLE:x}:", s.kind,
                *limit_words(s.kind, s.limit))  # fmt: skip
            pipe.new()
            errnos: list[int] = []
            frames = [number.to_bytes(4, "big").ljust(size, b"\0") for number, (_, size) in enumerate(s.packets, 1)]
            with real_time(self.cpu):
                for (priority, _), frame in zip(s.packets, frames, strict=True):
                    self.tx.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, priority)
                    try:
                        self.tx.sendto(frame, self.to)
                        errnos.append(0)
                    except OSError as e:
                        errnos.append(e.errno or -1)
            arrived: list[int] = []
            began = time.monotonic()
            while True:
                while self.waits():
                    arrived.append(int.from_bytes(self.rx.recv(1 << 16)[14:18], "big"))
                drained = look(self.name)
                if (drained.qlen == 0 and len(arrived) == drained.packets) or time.monotonic() - began > PATIENCE:
                    break
        events = pipe.new()
        script = tuple(STEPS.get(name) or polled(text) for name, text in events if name != "kfree_skb")
        return Outcome(tuple(errnos), drained, tuple(arrived), reasons(events, set(arrived))), script

    def waits(self) -> bool:
        """Something is there to be received."""
        self.rx.settimeout(0.02)
        try:
            self.rx.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        finally:
            self.rx.settimeout(2.0)
        return True


# ----------------------------------------------------------------------------------------------------------- the model


class Peer:
    """The other end's ring, whose position outlives a scenario; it polls when it is told to."""

    def __init__(self) -> None:
        self.ring = PtrRing()

    def play(self, s: Scenario, kernel: int, queues: int, script: tuple[int, ...]) -> Outcome:
        """What the model makes of a scenario whose packets and polls come as the script says."""
        env = QdiscEnv(kernel)
        dev = NetDevice("v", 2, bytes(6), tx_queue_len=s.tx_queue_len, num_tx_queues=queues, lltx=True)
        waiting: list[int] = []
        arrived: list[int] = []

        def driver(skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
            if full(self.ring, RING):
                netif_tx_stop_queue(env, txq)
                return NETDEV_TX_BUSY
            self.ring = produced(self.ring)
            waiting.append(skb.mark)
            return NETDEV_TX_OK

        env.add(dev, driver)
        qdisc_create(env, dev, s.kind, s.limit)
        txq = env.netdev_queues(dev)[0]
        root = env.root_qdisc(dev)
        errnos: list[int] = []
        due = 0
        for step in script:
            if step == RUN:
                due += 1
                while env.raised and env.dequeues < due:
                    env.raised = False
                    net_tx_action(env)
            elif step == SEND:
                number = len(errnos) + 1
                priority, size = s.packets[number - 1]
                skb = SkBuff(bytes(size), TYPE, dev=dev, mac_header=bytes(14), priority=priority, mark=number)
                rc = dev_queue_xmit(env, skb)
                errnos.append(ENOBUFS if rc > 0 and rc != NET_XMIT_CN else max(-rc, 0))
                due = MANY
            else:
                due = env.dequeues
                for _ in range(step):
                    arrived.append(waiting.pop(0))
                    self.ring = consumed(self.ring, RING)
                netif_tx_wake_queue(env, txq)
        drops = tuple(f"{skb.mark} {reason}" for skb, reason in env.drops)
        return Outcome(tuple(errnos), stats(root), tuple(arrived), drops)


class Summary(Struct):
    """What was played."""

    scenarios: int = 0
    packets: int = 0
    requeues: int = 0
    dropped: int = 0
    differences: list[Difference] = []

    def text(self) -> str:
        """One line."""
        return (
            f"{self.scenarios} scenarios, {self.packets} packets, {self.requeues} requeued, {self.dropped} dropped:"
            f" {len(self.differences)} differences"
        )


def compare(n: int, seed: int, progress: bool = False) -> Summary:
    """Plays `n` scenarios on both sides. Raises LabUnavailable without root, veth, threaded NAPI or a tracepoint."""
    done = Summary(differences=[])
    names = random.Random(seed)
    for queues in (1, 2):
        try:
            pair = Pair(queues)
        except PermissionError as e:
            raise LabUnavailable("namespaces need root") from e
        peer = Peer()
        events = {
            "net/net_dev_queue": f'name == "{pair.name}"',
            "napi/napi_poll": f'dev_name == "{pair.peer}"',
            "qdisc/qdisc_dequeue": f"handle == {HANDLE << 16:#x}",
            "skb/kfree_skb": "",
        }
        try:
            with follow(events) as pipe:
                half = n // 2 + (n % 2 if queues == 1 else 0)
                what = f"qdisc, {queues} transmit queues"
                for _ in track(range(half), what, disable=not progress, console=Console(stderr=True)):
                    s = scenario(names.getrandbits(31))
                    there, script = pair.play(s, pipe)
                    here = peer.play(s, running(), queues, script)
                    done.scenarios += 1
                    done.packets += len(s.packets)
                    done.requeues += here.drained.requeues
                    done.dropped += len(here.reasons)
                    if there != here:
                        done.differences.append(Difference(s, there, here))
                        peer.ring = consume_all(peer.ring, len(there.arrived) - len(here.arrived))
        finally:
            pair.close()
    return done


def consume_all(ring: PtrRing, more: int) -> PtrRing:
    """The ring as it is when the kernel's had `more` packets than the model's."""
    at = (ring.head + more) % RING
    return PtrRing(held=at % 16, head=at)


@click.command()
@click.option("--n", default=300, help="Scenarios to play.")
@click.option("--seed", default=1, help="Of the random scenarios.")
@click.option("--progress/--no-progress", default=True, help="Show how far it is.")
def main(n: int, seed: int, progress: bool) -> None:
    """Compares disciplines before a stopped queue with those of the running kernel."""
    done = compare(n, seed, progress)
    for d in done.differences[:5]:
        click.echo(d.text())
    click.echo(done.text())
    raise SystemExit(1 if done.differences else 0)


if __name__ == "__main__":
    main()
