"""The IP differential's clocks: limits of ICMP errors and redirects, and the time for reassembly, against the kernel.

Both sides see the same packets at the same moments, but their ticks need not begin together: near an edge of a limit
the model may be a tick off. So the times of sending are chosen away from the edges.
"""

import time
from collections.abc import Callable

from conformance.differential.ip_compare import MARGIN, alike, off_multiple
from conformance.differential.ip_env import IpWorldEnv
from conformance.differential.ip_live import Live
from conformance.differential.ip_packets import Sent, header, udp
from conformance.differential.ip_world import IN, World
from refmodel.ip.input import ip_rcv
from refmodel.ip.net import InetPeer

SENDER = "10.1.77.7"
NO_LIMIT = {"icmp_msgs_burst": 10_000, "icmp_msgs_per_sec": 10_000}


class Clocked:
    """Both sides of a world on one clock; `differences` are in words."""

    def __init__(self, world: World, cpu: int, kernel: str) -> None:
        self.live = Live(world, cpu)
        self.model = IpWorldEnv(world, kernel)
        self.began = time.monotonic_ns()
        self.sent = 0
        self.came = 0
        self.differences: list[str] = []
        self.was = self.live.counters()

    def wait(self, seconds: float, edge: Callable[[InetPeer, int], int] | None = None) -> None:
        """Both clocks go on; the model's timers fire. If `edge` says that a limit is near, a little longer.

        `edge` gets what is known of SENDER and the tick, and says how many ticks off the limit is.
        """
        time.sleep(seconds)
        self.sync()
        peer = self.model.net.peers.get(bytes(int(x) for x in SENDER.split(".")))
        while edge is not None and peer is not None and abs(edge(peer, self.model.jiffies)) <= MARGIN:
            time.sleep(0.004)
            self.sync()

    def sync(self) -> None:
        """The model's clock is set to the time that has passed."""
        self.model.advance(100_000_000 + (time.monotonic_ns() - self.began) // 1000 - self.model.now)

    def send(self, data: bytes) -> None:
        """A packet comes in on both sides."""
        self.sync()
        sent = Sent(IN, data)
        self.live.send(IN, sent.frame)
        skb = sent.skb()
        skb.dev = self.model.devices[IN]
        skb.skb_iif = skb.dev.ifindex
        ip_rcv(self.model.net, skb, skb.dev)
        self.sent += 1

    def compare(self, what: str) -> int:
        """What came out and was counted since the last call must be alike: how many packets came."""
        time.sleep(0.02)
        theirs, ours = self.live.take(), self.model.out
        self.model.out = []
        # Timers of one tick fire in any order: what goes to one host stays in order.
        ours.sort(key=lambda x: (x[0], x[1][16:20]))
        theirs.sort(key=lambda x: (x[0], x[1][16:20]))
        if len(ours) != len(theirs) or not all(alike(a, b) for a, b in zip(ours, theirs, strict=True)):
            self.differences.append(f"{what}: {len(ours)} packets of the model, {len(theirs)} of the kernel")
        now = self.live.counters()
        kernel = {k: now[k] - self.was.get(k, 0) for k in now if now[k] != self.was.get(k, 0)}
        mine = {k: v for k, v in self.model.mib.items() if k.startswith(("Ip", "Icmp"))}
        self.model.mib.clear()
        self.was = now
        if kernel != mine:
            self.differences.append(f"{what}: counters {mine} of the model, {kernel} of the kernel")
        self.came += len(theirs)
        return len(theirs)

    def close(self) -> None:
        """Takes the kernel's side away."""
        self.live.close()


def host_limit(cpu: int, kernel: str) -> Clocked:
    """Errors to one host: six at once, then one for each icmp_ratelimit."""
    c = Clocked(World(sysctls={"icmp_ratemask": 0x1818, "icmp_ratelimit": 200, **NO_LIMIT}), cpu, kernel)
    try:
        for wait in (0.0, 0.3, 0.5, 0.1, 0.9, 1.9):
            c.wait(wait)
            for i in range(9):
                c.wait(0, lambda peer, now: off_multiple(peer.rate_tokens + now - peer.rate_last, 50))
                c.send(header(SENDER, "10.1.0.1", 17, udp(SENDER, "10.1.0.1", 9, bytes(i))))
            c.compare(f"nine errors to one host after {wait} s")
    finally:
        c.close()
    return c


def refused_limit(cpu: int, kernel: str) -> Clocked:
    """Packets without a route: five errors at once, then one a second."""
    c = Clocked(World(sysctls={"icmp_ratemask": 0}), cpu, kernel)
    try:
        for wait in (0.0, 0.5, 0.8, 2.3):
            c.wait(wait)
            for i in range(7):
                c.wait(0, lambda peer, now: off_multiple(peer.rate_tokens + now - peer.rate_last, 250))
                c.send(header(SENDER, "203.0.113.7", 253, bytes(i)))
            c.compare(f"seven packets without a route after {wait} s")
    finally:
        c.close()
    return c


def redirect_limit(cpu: int, kernel: str) -> Clocked:
    """Redirects to a host that does not listen: ever rarer, nine in all."""
    c = Clocked(World(), cpu, kernel)
    try:
        for wait in (0.0, 0.01, 0.06, 0.03, 0.12, 0.24, 0.1, 0.4):
            c.wait(wait, lambda peer, now: now - peer.rate_last - (5 << peer.n_redirects))
            c.send(header(SENDER, "10.4.1.1", 253, bytes(8)))
            c.compare(f"a packet with a shorter way after {wait} s")
    finally:
        c.close()
    return c


def reassembly_time(cpu: int, kernel: str) -> Clocked:
    """Datagrams that never become whole: after ipfrag_time their senders are told, if the first fragment came."""
    c = Clocked(World(sysctls={"ipfrag_time": 1}), cpu, kernel)
    try:
        for i in range(40):
            source = f"10.1.78.{i + 2}"
            parts = [
                header(source, "10.1.0.1", 253, bytes(64), id=i, frag_off=at | 0x2000, options=options)
                for at in (0, 8, 24)
                for options in (bytes((7, 7, 4)) + bytes(5) if i % 3 == 0 else b"",)
            ]
            for j, p in enumerate(parts):
                if (i >> j) & 1:
                    c.send(p)
        c.compare("fragments that wait")
        c.wait(1.4)
        c.compare("fragments whose time is over")
    finally:
        c.close()
    return c


ALL = (host_limit, refused_limit, redirect_limit, reassembly_time)
