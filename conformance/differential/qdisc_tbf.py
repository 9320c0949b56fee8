"""tbf's clock, the model against the live kernel: when packets leave a tbf that makes them wait.

Packets of random sizes come faster than the rate. Each departure that the tracepoint net:net_dev_start_xmit shows must
be one that the buckets allow by then. How much later than possible it came is told, but decides nothing. Rates, bursts,
peak rates and overheads are random.
"""

import random
import time
from typing import Final

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import track

from conformance.differential.qdisc import Tun, run
from conformance.differential.qdisc_plan import payload
from conformance.live.errors import LabUnavailable
from conformance.live.ktrace import Pipe, follow
from refmodel.sched.bucket import ptoks, toks, wait
from refmodel.sched.tbf import psched_l2t_ns, psched_ratecfg_precompute

EARLY: Final = 50_000  # ns: between tbf's look at its clock and the tracepoint a hard interrupt may run
MOST: Final = 0.15  # s that a scenario lasts


class Scenario(Struct, frozen=True):
    """A tbf: `rate` and `peak` bytes a second, `burst` and `mtu` bytes, `overhead` bytes; packets' sizes."""

    rate: int
    burst: int
    peak: int
    mtu: int
    overhead: int
    sizes: tuple[int, ...]


class Outcome(Struct, frozen=True):
    """A scenario's departures in us, the first one 0, and what each had left (ns) when it left: negative is too early.

    `late`: by how many ns each came later than it could have; 0 if it found enough at once.
    """

    departures: tuple[int, ...]
    left: tuple[int, ...]
    late: tuple[int, ...]

    @property
    def early(self) -> int:
        """The worst earliness in ns; 0 or less: none."""
        return -min(self.left)


def scenario(seed: int) -> Scenario:
    """The scenario of that seed."""
    r = random.Random(seed)
    rate = r.choice((50_000, 200_000, 777_777, 1_250_000))
    peak = r.choice((0, 0, 2 * rate, 5 * rate + 1))
    burst = r.choice((1600, 3000, 5000))
    sizes: list[int] = []
    while sum(sizes) < MOST * rate * r.uniform(0.3, 1.0) + burst and len(sizes) < 60:
        sizes.append(r.choice((60, 100, 333, 700, 1000, 1500)))
    return Scenario(rate, burst, peak, 1600 if peak else 0, r.choice((0, 0, 14, 24)), tuple(sizes))


def play(tun: Tun, s: Scenario, pipe: Pipe) -> Outcome:
    """Sends the scenario's packets at once and judges when they left. Raises LabUnavailable if not all were seen."""
    words = ["rate", f"{8 * s.rate}bit", "burst", f"{s.burst}b", "limit", "1000000"]
    words += ["peakrate", f"{8 * s.peak}bit", "mtu", f"{s.mtu}b"] if s.peak else []
    words += ["overhead", str(s.overhead)] if s.overhead else []
    with tun.ns.inside():
        run("tc", "qdisc", "replace", "dev", tun.name, "root", "handle", "9:", "pfifo", "limit", "1")
        run("tc", "qdisc", "replace", "dev", tun.name, "root", "handle", "1:", "tbf", *words)
    pipe.new()
    for number, size in enumerate(s.sizes, 1):
        tun.raw.sendto(payload(number, size), tun.to)
    seen: list[int] = []
    until = time.monotonic() + 2.0
    while len(seen) < len(s.sizes) and time.monotonic() < until:
        time.sleep(0.01)
        seen += [us for us, name, _ in pipe.stamped() if name == "net_dev_start_xmit"]
        tun.read(1000)
    if len(seen) != len(s.sizes):
        raise LabUnavailable(f"{len(seen)} of {len(s.sizes)} packets left")
    return judge(s, tuple(us - seen[0] for us in seen))


def judge(s: Scenario, departures: tuple[int, ...]) -> Outcome:
    """Runs the buckets along the departures."""
    rate = psched_ratecfg_precompute(s.rate, s.overhead)
    peak = psched_ratecfg_precompute(s.peak, s.overhead)
    buffer = psched_l2t_ns(rate, s.burst)
    mtu = psched_l2t_ns(peak, s.mtu) if s.peak else 0
    tokens, ptokens, t_c = buffer, mtu, 0
    left: list[int] = []
    late: list[int] = []
    for size, us in zip(s.sizes, departures, strict=True):
        need = psched_l2t_ns(rate, size)
        pneed = psched_l2t_ns(peak, size) if s.peak else 0
        now = us * 1000
        at_once = wait(toks(tokens, 0, need, buffer), ptoks(ptokens, 0, pneed, buffer, mtu, bool(s.peak)))
        a = toks(tokens, now - t_c, need, buffer)
        b = ptoks(ptokens, now - t_c, pneed, buffer, mtu, bool(s.peak))
        left.append(min(a, b) if s.peak else a)
        late.append(max(now - t_c - at_once, 0) if at_once > 0 else 0)
        tokens, ptokens, t_c = max(a, 0), max(b, 0), now
    return Outcome(departures, tuple(left), tuple(late))


class Summary(Struct):
    """What was played; `early` ns at worst, `late` ns in the middle of all packets that waited."""

    scenarios: int = 0
    packets: int = 0
    waited: int = 0
    early: int = 0
    late: list[int] = []
    differences: list[tuple[Scenario, Outcome]] = []

    def text(self) -> str:
        """One line."""
        middle = sorted(self.late)[len(self.late) // 2] if self.late else 0
        return (
            f"{self.scenarios} scenarios, {self.packets} packets, {self.waited} waited, left {middle / 1000:.0f} us"
            f" after they could (median), {max(self.early, 0) / 1000:.0f} us early at worst:"
            f" {len(self.differences)} differences"
        )


def compare(n: int, seed: int, progress: bool = False) -> Summary:
    """Plays `n` scenarios. Raises LabUnavailable without root, tun or a tracepoint."""
    done = Summary(late=[], differences=[])
    try:
        tun = Tun()
    except PermissionError as e:
        raise LabUnavailable("namespaces and tun need root") from e
    names = random.Random(seed)
    try:
        with tun.ns.inside():
            run("ip", "link", "set", tun.name, "txqueuelen", "1000")
        with follow({"net/net_dev_start_xmit": f'name == "{tun.name}"'}) as pipe:
            for _ in track(range(n), "tbf", disable=not progress, console=Console(stderr=True)):
                s = scenario(names.getrandbits(31))
                outcome = play(tun, s, pipe)
                waited = [x for x in outcome.late if x > 0]
                done.scenarios += 1
                done.packets += len(s.sizes)
                done.waited += len(waited)
                done.late += waited
                done.early = max(done.early, outcome.early)
                if outcome.early > EARLY:
                    done.differences.append((s, outcome))
    finally:
        tun.close()
    return done


@click.command()
@click.option("--n", default=100, help="Scenarios to play.")
@click.option("--seed", default=1, help="Of the random scenarios.")
@click.option("--progress/--no-progress", default=True, help="Show how far it is.")
def main(n: int, seed: int, progress: bool) -> None:
    """Compares when packets leave tbf with when they may."""
    done = compare(n, seed, progress)
    for s, outcome in done.differences[:3]:
        click.echo(f"{s}\n  {outcome}")
    click.echo(done.text())
    raise SystemExit(1 if done.differences else 0)


if __name__ == "__main__":
    main()
