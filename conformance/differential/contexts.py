"""Contexts, the model against the live kernel: who raises NET_RX, who runs it, and what happens in it.

A process sends frames into a router, over a veth with GRO on or off. The kernel's tracepoints of this process tell the
order of netif_rx, softirq_raise, softirq_entry, netif_receive_skb, napi_poll and softirq_exit; the model's contexts do
the same with the same frames, and the router's answers come back over the same veth.
"""

import os
import random
from typing import Final

import click
from rich.console import Console
from rich.progress import track

from conformance.differential.ip6 import Live, missing
from conformance.differential.ip6_packets import Generator
from conformance.differential.ip6_world import IN, MACS, OUT, PEERS, Router, World
from conformance.differential.receive_env import ReceiveEnv
from conformance.live.errors import LabUnavailable
from conformance.live.ktrace import follow
from conformance.live.lab import run
from refmodel.context import Contexts
from refmodel.ip6.input import ipv6_rcv
from refmodel.netdevice import NetDevice
from refmodel.profile import nearest, version_number
from refmodel.receive.core import Tap
from refmodel.receive.napi import net_rx_action
from refmodel.receive.params import ReceiveParams
from refmodel.receive.softnet import Receive
from refmodel.receive.veth import VethRq, veth_xmit
from refmodel.skbuff import PACKET_HOST, SkBuff
from refmodel.softirq import Vector

OUTSIDE: Final = ((IN, "x0"), (OUT, "x1"))
NET_RX: Final = 3
Log = list[tuple[str, str]]


class Modelled(ReceiveEnv):
    """The wire into the router in the model: what happens is told in `log`, as the tracepoints tell it."""

    def __init__(self, kernel: int) -> None:
        super().__init__(kernel)
        self.log: Log = []
        self.router = Router(World(), kernel)
        self.contexts = Contexts(self)
        self.rx = Receive(self, self.contexts, ReceiveParams(kernel=kernel))
        self.rx.taps.append(Tap("trace"))
        self.ends = {name: NetDevice(x, 12 + i, PEERS[name], no_queue=True) for i, (name, x) in enumerate(OUTSIDE)}
        self.inward = {name: VethRq(self.rx, self.router.devs[name]) for name, _ in OUTSIDE}
        self.outward = {name: VethRq(self.rx, self.ends[name]) for name, _ in OUTSIDE}
        self.contexts.open_softirq(Vector.NET_RX, self._net_rx)
        self.router.neigh_output = self._answer  # type: ignore[method-assign]

    def gro(self, on: bool) -> None:
        """Switches GRO of the router's first device."""
        self.router.devs[IN].features = frozenset({"generic-receive-offload"} if on else ())

    def send(self, device: str, frame: bytes) -> Log:
        """A process sends a frame; what happened until it was through."""
        self.log = []
        self.contexts.local_bh_disable()
        skb = SkBuff(frame[14:], 0, dev=self.ends[device], mac_header=frame[:14])
        veth_xmit(self.rx, skb, self.ends[device], self.inward[device])
        self.contexts.local_bh_enable()
        return self.log

    def note(self, fn: str, detail: str = "") -> None:
        """Tells what the tracepoints would."""
        if fn == "netif_rx_internal":
            self.log.append(("netif_rx", detail.rsplit("<", 1)[1].split()[0]))
        elif fn == "raise_softirq_irqoff":
            self.log.append(("softirq_raise", ""))
        elif fn == "handle_softirqs" and detail == "NET_RX":
            self.log.append(("softirq_entry", ""))
        elif fn == "napi_poll":
            name, work = detail.split(": ")
            self.log.append(("napi_poll", f"{name} {work.split()[0]}"))

    def packet_rcv(self, tap: object, skb: SkBuff, orig_dev: NetDevice) -> None:
        """Every packet that comes up."""
        self.log.append(("netif_receive_skb", orig_dev.name))

    def ip_list_rcv(self, skbs: list[SkBuff]) -> None:
        """Nobody sends IPv4."""

    def ipv6_rcv(self, skb: SkBuff, dev: NetDevice) -> None:
        """The router's packets are the router's; outside nobody takes them."""
        if dev is self.router.lo or dev in self.router.devs.values():
            ipv6_rcv(self.router.net, skb, dev)

    def _net_rx(self) -> None:
        net_rx_action(self.rx)
        self.log.append(("softirq_exit", ""))

    def _answer(self, neigh: NetDevice, skb: SkBuff, skip_cache: bool) -> int:
        self.contexts.local_bh_disable()
        if neigh is self.router.lo:
            skb.dev, skb.pkt_type = neigh, PACKET_HOST
            self.rx.netif_rx_in_interrupt(skb)
        else:
            skb.mac_header = PEERS[neigh.name] + MACS[neigh.name] + b"\x86\xdd"
            veth_xmit(self.rx, skb, neigh, self.outward[neigh.name])
        self.contexts.local_bh_enable()
        return 0


def seen(events: list[tuple[str, str]]) -> Log:
    """The kernel's events in the model's words."""
    log: Log = []
    for name, text in events:
        if name == "napi_poll":
            device = text.split(" for device ")[1].split()[0]
            work = text.split(" work ")[1].split()[0]
            log.append((name, f"{'backlog' if device.startswith('(') else device} {work}"))
        elif name in ("netif_rx", "netif_receive_skb"):
            log.append((name, text.split("dev=")[1].split()[0]))
        else:
            log.append((name, ""))
    return log


def compare(n: int, seed: int, progress: bool = False) -> tuple[int, list[str]]:
    """Sends `n` frames on both sides: how many events there were, and the differences.

    Raises LabUnavailable where there are no namespaces.
    """
    if missing():
        raise LabUnavailable(missing())
    rng = random.Random(seed)
    model = Modelled(version_number(nearest(os.uname().release)))
    live = Live(World())
    mine = f"common_pid == {os.getpid()}"
    events = {f"irq/softirq_{x}": f"vec == {NET_RX} && {mine}" for x in ("raise", "entry", "exit")}
    events |= {"net/netif_rx": mine, "net/netif_receive_skb": mine, "napi/napi_poll": mine}
    frames = Generator(seed)
    total, found = 0, []
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with follow(events) as pipe:
            for i in track(range(n), "contexts", disable=not progress, console=Console(stderr=True)):
                if i % 50 == 0:
                    on = rng.random() < 0.5
                    model.gro(on)
                    with live.router.inside():
                        run("ethtool", "-K", IN, "gro", "on" if on else "off")
                    pipe.new()
                device, frame = frames.next()
                here = model.send(device, frame)
                live.send(device, frame)
                there = seen(pipe.new())
                live.take()
                live.received()
                total += len(there)
                if here != there:
                    found.append(f"frame {i} {frame[14:].hex()[:160]}\n  model  {here}\n  kernel {there}")
    finally:
        os.sched_setaffinity(0, before)
        live.close()
    return total, found


@click.command()
@click.option("--n", default=1000, help="Frames to send.")
@click.option("--seed", default=1, help="Of the random frames.")
@click.option("--progress/--no-progress", default=True, help="Show how far it is.")
def main(n: int, seed: int, progress: bool) -> None:
    """Compares in which order and context frames are received with the running kernel."""
    total, found = compare(n, seed, progress)
    for d in found[:5]:
        click.echo(d)
    click.echo(f"{n} frames, {total} events: {len(found)} differences")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
