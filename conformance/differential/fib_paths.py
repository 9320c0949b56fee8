"""What ICMP teaches routing, the model against the running kernel: path MTU, redirects, and how long they hold.

    python -m conformance.differential.fib_paths --n 1000 --seed 1

ICMP errors are sent into a device of the kernel's namespace from its far end, quoting an echo reply, which the kernel
takes up whoever sent it. After each one the route to the destination is asked for: its MTU, lock, gateway and flags.
"""

import random
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.progress import Progress

from conformance.differential import rtnl
from conformance.differential.fib import Difference, Tally, ask, tell
from conformance.differential.fib_world import (
    SEED,
    Addr,
    Conf,
    Kernel,
    Link,
    Model,
    Op,
    Routing,
    StillEnv,
    running_version,
)
from conformance.differential.rtnl import addr4, attrs, u32
from conformance.live.errors import ScenarioFailed
from refmodel.fib.asked import ipv4_redirect, ipv4_update_pmtu
from refmodel.fib.devinet import netdevice_event
from refmodel.fib.getroute import Query
from refmodel.fib.net import Fib
from refmodel.fib.params import FibParams
from refmodel.fib.types import NLM_F_CREATE, NLM_F_REPLACE, RT_SCOPE_LINK, Flow4, NetdevEvent, NhConfig, ip4
from refmodel.netdevice import NetDevice
from refmodel.packet.wire import checksum
from refmodel.skbuff import SkBuff

LOCAL: Final = ip4("10.0.0.1")
GATES: Final = (ip4("10.0.0.2"), ip4("10.0.0.3"), ip4("10.0.0.4"))
FAR: Final = (*(ip4(f"192.0.2.{i}") for i in range(1, 7)), ip4("10.0.0.9"), ip4("198.51.100.1"))
OPS_AN_EPISODE: Final = 60


class FragNeeded(NamedTuple):
    """ICMP says that the path to `daddr` takes `mtu` bytes."""

    daddr: int
    mtu: int
    tos: int = 0


class Redirect(NamedTuple):
    """The router `by` says that `daddr` goes better by `gw`."""

    daddr: int
    by: int
    gw: int
    code: int = 1


class Neighbour(NamedTuple):
    """A permanent neighbour is set, so that it is valid."""

    gw: int


class DeviceMtu(NamedTuple):
    """The device gets another MTU."""

    mtu: int


class MinPmtu(NamedTuple):
    """net.ipv4.route.min_pmtu is written."""

    value: int


class Flush(NamedTuple):
    """net.ipv4.route.flush is written."""


Path_ = FragNeeded | Redirect | Neighbour | DeviceMtu | MinPmtu | Flush


def icmp(kind: int, code: int, rest: bytes, quoted: bytes) -> bytes:
    """An ICMP message."""
    body = bytes((kind, code, 0, 0)) + rest + quoted
    return body[:2] + checksum(body).to_bytes(2, "big") + body[4:]


def ip(src: int, dst: int, proto: int, body: bytes, tos: int = 0) -> bytes:
    """An IPv4 packet."""
    head = struct.pack(">BBHHHBBH", 0x45, tos, 20 + len(body), 1, 0x4000, 64, proto, 0) + addr4(src) + addr4(dst)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body


def quoted(daddr: int, tos: int) -> bytes:
    """What an error quotes: an echo reply that the host sent."""
    return ip(LOCAL, daddr, 1, icmp(0, 0, bytes(4), b""), tos)


def redirect(op: Redirect) -> bytes:
    """A redirect as a packet."""
    return ip(op.by, LOCAL, 1, icmp(5, op.code, addr4(op.gw), quoted(op.daddr, 0)))


class KernelPaths(Kernel):
    """The running kernel, with a way to send frames to its first device."""

    def __init__(self) -> None:
        super().__init__()
        with self.far.inside():
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.wire.bind(("b0", 0x0800))
        body = struct.pack("=BBHiII", 0, 0, 0, 2, 0, 0)
        self.mac = dict(rtnl.parse_attrs(self.rtnl.request(rtnl.RTM_GETLINK, 0, body)[0][1][16:]))[1]

    def ready(self) -> None:
        """Waits until the far end sends: without a carrier it would drop."""
        self._settle(self.far_rtnl, "b0")

    def close(self) -> None:
        """Lets the namespaces go."""
        self.wire.close()
        super().close()

    def _received(self) -> int:
        with self.ns.inside():
            lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
        return int(lines[1].split()[3])

    def _send(self, packet: bytes) -> None:
        """Sends a packet, and a harmless one after it: when that is counted, the first is through."""
        before = self._received()
        for each in (packet, ip(GATES[0], LOCAL, 1, icmp(0, 0, bytes(4), b""))):
            self.wire.send(self.mac + bytes((2, 0, 0, 0, 0, 9)) + b"\x08\x00" + each)
        end = time.monotonic() + 5
        while self._received() < before + 2:
            if time.monotonic() > end:
                raise ScenarioFailed("the kernel does not take the packet")

    def path(self, op: Path_) -> None:
        """Does one operation."""
        if isinstance(op, FragNeeded):
            rest = struct.pack(">HH", 0, op.mtu)
            self._send(ip(GATES[0], LOCAL, 1, icmp(3, 4, rest, quoted(op.daddr, op.tos))))
        elif isinstance(op, Redirect):
            self._send(redirect(op))
        elif isinstance(op, Neighbour):
            body = struct.pack("=BBHiHBB", 2, 0, 0, 2, 0x80, 0, 0)
            items = [(1, addr4(op.gw)), (2, bytes((2, 0, 0, 0, 1, op.gw & 0xFF)))]
            self.rtnl.request(28, NLM_F_CREATE | NLM_F_REPLACE, body + attrs(items))
        elif isinstance(op, DeviceMtu):
            body = struct.pack("=BBHiII", 0, 0, 0, 2, 0, 0)
            self.rtnl.request(rtnl.RTM_NEWLINK, 0, body + attrs([(4, u32(op.mtu))]))
        else:
            name, value = ("flush", 1) if isinstance(op, Flush) else ("min_pmtu", op.value)
            with self.ns.inside():
                self._write(f"/proc/sys/net/ipv4/route/{name}", value)


class PathEnv(StillEnv):
    """Surroundings with the neighbours that were set; `asked` are those that routing wanted to know of."""

    def __init__(self, kernel: int) -> None:
        super().__init__(kernel)
        self.neighbours: set[int] = set()
        self.asked: set[int] = set()

    def neigh_nud_state(self, dev: NetDevice, gw: int) -> int | None:
        """Set ones are permanent, asked ones incomplete."""
        return 0x80 if gw in self.neighbours else 0x01 if gw in self.asked else None

    def neigh_event_send(self, dev: NetDevice, gw: int) -> None:
        """It is incomplete from now on."""
        self.asked.add(gw)


class ModelPaths(Model):
    """The same in the model."""

    def __init__(self) -> None:
        super().__init__(running_version())
        self.neigh = PathEnv(running_version())
        self.env = self.neigh
        self.fib.env = self.neigh

    def path(self, op: Path_) -> None:
        """Does one operation."""
        self.env.log.clear()
        fib, dev = self.fib, self.devs["a0"]
        if isinstance(op, FragNeeded):
            ipv4_update_pmtu(fib, Flow4(op.daddr, LOCAL, tos=op.tos, proto=1), op.mtu)
        elif isinstance(op, Redirect):
            skb = SkBuff(redirect(op))
            ipv4_redirect(fib, Flow4(op.daddr, LOCAL, proto=1), dev, op.code, op.by, op.gw, skb)
        elif isinstance(op, Neighbour):
            self.neigh.neighbours.add(op.gw)
        elif isinstance(op, DeviceMtu):
            orig, dev.mtu = dev.mtu, op.mtu
            if orig != op.mtu:
                netdevice_event(fib, dev, NetdevEvent.CHANGEMTU, orig)
        elif isinstance(op, MinPmtu):
            fib.params = FibParams(fib_multipath_hash_seed=SEED, min_pmtu=op.value)
        else:
            flush(fib)


def flush(fib: Fib) -> None:
    """Cached routes and exceptions are of an older generation; source net/ipv4/route.c:ipv4_sysctl_rtcache_flush."""
    fib.rt_genid += 1
    fib.fnhe_genid += 1


def start(r: random.Random) -> list[Op]:
    """An address, and routes by gateways: plain, with an MTU of their own, with a locked one, with several nexthops."""
    via = {"gw": GATES[0], "protocol": 4}
    far = ip4("192.0.2.0")
    special: dict[str, Any] = r.choice(
        ({"mx": {2: 1400}}, {"mx": {1: 4, 2: 1300}}, {}, {"mp": tuple(NhConfig(2, gw) for gw in GATES[:2])})
    )
    route = ({"protocol": 4} if "mp" in special else via) | special
    return [
        Link("lo", True),
        Link("a0", True),
        Addr(True, 2, LOCAL, 24),
        Routing(True, 0, 0, via),
        Routing(True, far, 24, route),
        Routing(True, FAR[-1], 32, {"oif": 2, "scope": RT_SCOPE_LINK, "protocol": 4}),
        Conf("a0", "accept_redirects", r.choice((0, 1, 1, 1))),
        Conf("all", "accept_redirects", 0),
        Conf("a0", "shared_media", r.choice((0, 1))),
        Conf("all", "shared_media", 0),
    ]


def choose(r: random.Random) -> Path_ | Routing:
    """The next operation."""
    x = r.random()
    if x < 0.45:
        mtu = r.choice((68, 300, 551, 552, 576, 1000, 1280, 1300, 1399, 1400, 1499, 1500, 1501, 9000))
        return FragNeeded(r.choice(FAR), mtu, r.choice((0, 0, 0x10)))
    if x < 0.65:
        return Redirect(
            r.choice(FAR), r.choice((*GATES[:2], GATES[0])), r.choice((*GATES, FAR[0])), r.choice((0, 1, 3, 4))
        )
    if x < 0.75:
        return Neighbour(r.choice(GATES))
    if x < 0.86:
        return DeviceMtu(r.choice((1500, 1400, 1280, 600, 9000, 500)))
    if x < 0.9:
        return MinPmtu(r.choice((552, 552, 68, 1000)))
    if x < 0.94:
        return Flush()
    mx = r.choice((None, {2: 1450}))
    values = {"gw": r.choice(GATES[:2]), "protocol": 4, "mx": mx, "nlflags": NLM_F_CREATE | NLM_F_REPLACE}
    return Routing(True, 0, 0, values)


def episode(seed: int, tally: Tally) -> int:
    """One namespace's life; returns how many questions were asked."""
    r = random.Random(seed)
    kernel, model = KernelPaths(), ModelPaths()
    asked = 0
    history: list[str] = []
    try:
        for op in start(r):
            kernel.apply(op)
            model.apply(op)
            history.append(str(op))
        kernel.ready()
        for _ in range(OPS_AN_EPISODE):
            step = choose(r)
            history.append(str(step))
            if isinstance(step, Routing):
                kernel.apply(step)
                model.apply(step)
            else:
                kernel.path(step)
                model.path(step)
            told = list(model.env.log)
            for _ in range(2):
                q = Query(dst=r.choice(FAR), src=LOCAL if r.random() < 0.5 else 0, tos=r.choice((0, 0, 0x10)))
                asked += 1
                tally.counts["query"] += 1
                k, m = kernel.query(q), model.query(q)
                if isinstance(k, dict) and "metrics" in k:
                    tally.counts["taught"] += 1
                if k != m:
                    tally.differences.append(
                        Difference(seed, f"query {q}", k, m, (*history, "", *told, *model.env.log))
                    )
                    return asked
        return asked
    finally:
        kernel.close()


def run(n: int, seed: int, progress: Progress | None = None, stop: int = 5) -> Tally:
    """Asks `n` questions or a few more, as `ask` does: an episode asks all of its own."""
    return ask(lambda seed, tally, _: episode(seed, tally), n, seed, progress, stop)


@click.command()
@click.option("--n", default=1000, help="Questions to ask.")
@click.option("--seed", default=1, help="The first episode's seed.")
def main(n: int, seed: int) -> None:
    """Holds what ICMP teaches the model's routing against the running kernel's."""
    with Progress() as progress:
        tally = run(n, seed, progress)
    sys.exit(tell(tally, f"{tally.counts['query']} questions ({tally.counts['taught']} with metrics)"))


if __name__ == "__main__":
    main()
