"""The IP differential: random packets through the model and through the running kernel, compared packet by packet.

Compared: the packets that come out, byte by byte and by device, what a UDP socket gets, the reasons of drops, and all
counters of Ip, IpExt, Icmp and IcmpMsg. Free: the identification of what is sent without DF by the kernel itself, which
it draws at random (its checksum must be right); times in options, as long as they lie within the sending.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress

from conformance.differential.ip_compare import MARGIN, alike, clock, clock_span, off_multiple
from conformance.differential.ip_env import IpWorldEnv
from conformance.differential.ip_limits import ALL
from conformance.differential.ip_live import Live, missing, pinned
from conformance.differential.ip_packets import Generator, Sent
from conformance.differential.ip_send import send_differential
from conformance.differential.ip_world import World
from refmodel.ip.input import ip_rcv
from refmodel.profile import nearest

WORLDS: Final = (
    World(),
    World(mtu=600),
    World(mtu=1280, drop_unicast_in_l2_multicast=True, send_redirects=False),
    World(mtu=296, sysctls={"icmp_echo_ignore_broadcasts": 0, "icmp_errors_use_inbound_ifaddr": 1}),
    World(forwarding=False, accept_source_route=False),
    World(mtu=576, tun=True),
    World(tun=True, sysctls={"ip_default_ttl": 7, "ip_no_pmtu_disc": 1}),
    World(conntrack=True),
    World(mtu=600, conntrack=True),
    World(mtu=68, sysctls={"ip_forward_use_pmtu": 1, "icmp_ignore_bogus_error_responses": 0}),
)
BATCH: Final = 20
SETTLE: Final = 0.5  # s that is waited for a packet that the model expects


@dataclass
class Difference:
    """What the two sides did otherwise, and the packets that led to it."""

    world: World
    number: int
    sent: Sent
    what: str
    model: object
    kernel: object
    notes: list[tuple[str, str]]

    def __str__(self) -> str:
        return (
            f"{self.what} after packet {self.number} ({self.sent.what}, at {self.sent.device}, "
            f"{self.sent.data[:60].hex()}) of {self.world}:\n  model  {self.model}\n  kernel {self.kernel}\n"
            f"  model's notes {self.notes}"
        )


@dataclass
class Outcome:
    """How many packets were compared, and what was seen on the way."""

    packets: int = 0
    out: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    def summary(self) -> str:
        """One line."""
        kinds = ", ".join(f"{k} {n}" for k, n in self.drops.most_common())
        return f"{self.packets} packets in, {self.out} out, {len(self.differences)} differences; drops: {kinds}"


class Run:
    """One world on both sides."""

    def __init__(self, world: World, seed: int, cpu: int, kernel: str) -> None:
        self.world = world
        self.model = IpWorldEnv(world, kernel)
        self.live = Live(world, cpu)
        self.packets = Generator(world, seed, kernel != "6.1")
        self.began = time.monotonic_ns()

    def near_edge(self, sent: Sent) -> bool:
        """A redirect or an error to the packet's sender becomes due about now: the two clocks may not agree."""
        peer = self.model.net.peers.get(sent.data[12:16])
        if peer is None:
            return False
        self.model.now = 100_000_000 + (time.monotonic_ns() - self.began) // 1000
        passed = self.model.jiffies - peer.rate_last
        redirect = peer.n_redirects > 0 and abs(passed - (5 << peer.n_redirects)) <= MARGIN
        refused = peer.rate_tokens > 0 and abs(off_multiple(peer.rate_tokens + passed, 250)) <= MARGIN
        return redirect or (refused and peer.rate_tokens + passed < 1250)

    def one(self, sent: Sent) -> tuple[str, object, object] | None:
        """A packet through both sides: what differs, or None."""
        model, live = self.model, self.live
        while self.near_edge(sent):
            time.sleep(0.004)
        before = time.time()
        live.send(sent.device, sent.frame)
        after = time.time()
        came = live.take()
        model.ms = clock(before, after, came)
        model.now = 100_000_000 + (time.monotonic_ns() - self.began) // 1000
        skb = sent.skb()
        skb.dev = model.devices[sent.device]
        skb.skb_iif = skb.dev.ifindex
        model.out, model.delivered, model.notes = [], [], []
        ip_rcv(model.net, skb, skb.dev)
        model.deliver_looped()
        until = time.monotonic() + SETTLE
        while len(came) < len(model.out) and time.monotonic() < until:
            came += live.take()
        ours = sorted(model.out, key=lambda x: x[0])
        theirs = sorted(came, key=lambda x: x[0])
        if len(ours) != len(theirs) or not all(
            alike(a, b, clock_span(before, after)) for a, b in zip(ours, theirs, strict=True)
        ):
            return "packets", [(d, b.hex(), w) for d, b, w in ours], [(d, b.hex()) for d, b in theirs]
        got = live.received()
        if got != model.delivered:
            return "delivery", [x.hex()[:80] for x in model.delivered], [x.hex()[:80] for x in got]
        return None

    def close(self) -> None:
        """Takes the kernel's side away."""
        self.live.close()


def _compare_batch(run: Run, base: Counter[str], was: dict[str, int]) -> tuple[str, object, object] | None:
    """Reasons and counters since the last batch."""
    model, live = run.model, run.live
    assert live.drops is not None
    theirs = live.drops.take()
    ours = [str(x) for x in model.drops]
    model.drops = []
    # 6.1 tells no function that freed, so the parts of a datagram cannot be told from packets.
    if ours != theirs and model.kernel >= 612:
        return "reasons", ours, theirs
    now = live.counters()
    kernel = {k: now[k] - was.get(k, 0) for k in now if now[k] != was.get(k, 0)}
    mine = {k: n for k, n in (model.mib - base).items() if k.startswith(("Ip", "Icmp"))}
    if kernel != mine:
        return (
            "counters",
            {k: n for k, n in mine.items() if kernel.get(k) != n},
            {k: n for k, n in kernel.items() if mine.get(k) != n},
        )
    was.clear()
    was.update(now)
    base.clear()
    base.update(model.mib)
    return None


def run_world(
    world: World, n: int, seed: int, cpu: int, outcome: Outcome, kernel: str, progress: Progress | None = None
) -> None:
    """Sends at least `n` packets through both sides of one world; stops at the first difference."""
    run = Run(world, seed, cpu, kernel)
    kind = f"mtu {world.mtu}{' tun' if world.tun else ''}{' conntrack' if world.conntrack else ''}"
    task = progress.add_task(kind, total=n) if progress is not None else None
    try:
        was = run.live.counters()
        assert run.live.drops is not None
        run.live.drops.take()
        base: Counter[str] = Counter()
        pending: list[Sent] = []
        for i, sent in enumerate(run.packets.stream(n)):
            found = run.one(sent)
            outcome.packets += 1
            outcome.out += len(run.model.out)
            pending.append(sent)
            last = i + 1 >= n
            if found is None and (len(pending) >= BATCH or last):
                outcome.drops.update(str(x) for x in run.model.drops)
                found = _compare_batch(run, base, was)
                if found is None:
                    pending = []
            if progress is not None and task is not None:
                progress.advance(task)
            if found is not None:
                what, ours, theirs = found
                outcome.differences.append(Difference(world, i, sent, what, ours, theirs, run.model.notes))
                return
    finally:
        run.close()


def differential(n: int, seed: int, worlds: Sequence[World] = WORLDS, progress: Progress | None = None) -> Outcome:
    """Sends `n` packets, divided among the worlds, through the model and the running kernel."""
    outcome = Outcome()
    kernel = nearest(os.uname().release)
    with pinned() as cpu:
        for i, world in enumerate(worlds):
            run_world(world, -(-n // len(worlds)), seed * 1000 + i, cpu, outcome, kernel, progress)
    return outcome


def everything(
    n: int,
    sends: int,
    limits: bool,
    seed: int,
    say: Callable[[str], None] = print,
    progress: Progress | None = None,
    worlds: Sequence[World] = WORLDS,
) -> bool:
    """Packets, datagrams and limits on both sides; `say` is told what differs and how many there were. True: alike."""
    kernel = nearest(os.uname().release)
    outcome = differential(n, seed, worlds, progress) if n else Outcome()
    found = [str(d) for d in outcome.differences]
    quiet = [w for w in worlds if not w.tun]
    sent = came = 0
    with pinned() as cpu:
        if sends and quiet:
            task = progress.add_task("sends", total=len(quiet)) if progress is not None else None
            for i, w in enumerate(quiet):
                each = -(-sends // len(quiet))
                out, difference = send_differential(each, seed * 1000 + i, w, cpu, kernel)
                sent, came = sent + each, came + out
                found += [difference] if difference else []
                if progress is not None and task is not None:
                    progress.advance(task)
        clocked = [f(cpu, kernel) for f in ALL] if limits else []
    for c in clocked:
        found += c.differences
    for text in found:
        say(text)
    say(outcome.summary())
    say(f"{sent} datagrams sent in {came} packets")
    say(f"limits: {sum(c.sent for c in clocked)} packets in, {sum(c.came for c in clocked)} out")
    return not found


@click.command()
@click.option("--n", default=5000, help="How many packets.")
@click.option(
    "--sends", default=-1, help="How many datagrams the router sends itself; a fifth of the packets if not given."
)
@click.option("--limits/--no-limits", default=True, help="Also the limits of errors and the time for reassembly.")
@click.option("--seed", default=1, help="Which packets.")
@click.option("--progress/--no-progress", "shown", default=True, help="Show a progress bar.")
@click.option("--world", default=-1, help="Only that world, by its number.")
def main(n: int, sends: int, limits: bool, seed: int, shown: bool, world: int) -> None:
    """Compares IPv4 of the model with the running kernel's."""
    console = Console()
    why = missing()
    if why:
        raise click.ClickException(why)
    worlds = WORLDS if world < 0 else WORLDS[world : world + 1]
    sends = n // 5 if sends < 0 else sends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not shown:
        raise SystemExit(0 if everything(n, sends, limits, seed, worlds=worlds) else 1)
    with Progress(console=console) as progress:
        same = everything(
            n, sends, limits, seed, lambda text: console.print(text, markup=False, highlight=False), progress, worlds
        )
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
