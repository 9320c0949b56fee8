"""The netfilter differential: random rulesets and packets, the model's router held against the running kernel's.

Compared after every packet: what came out where, byte by byte, and how many were dropped with NETFILTER_DROP. After
every ruleset: whether it is taken, the counters of all rules and policies, the connections with their status,
marks, time left, and TCP's states, scales and flags, the counters of connection tracking.
Free: the IP id of what the router sends by itself without DF, and ports that NAT draws by lot (which must be free and
in their range: the model is given the kernel's and has to find it acceptable at the first try).
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import Progress

from conformance.differential.netfilter_live import STAT_NAMES, Live, Seen, live, missing
from conformance.differential.netfilter_packets import Event, Packets
from conformance.differential.netfilter_rules import Rules, sysctls
from conformance.differential.netfilter_world import OracleNat, Out, World
from conformance.live.ktrace import Pipe, follow
from refmodel.netfilter.conn import NfConn
from refmodel.netfilter.restore_words import RestoreError
from refmodel.netfilter.skb import ip_send_check
from refmodel.netfilter.tables import TableError
from refmodel.netfilter.tcp_state import Side
from refmodel.netfilter.tuples import Tuple
from refmodel.netfilter.uapi import IPPROTO_TCP, IPPROTO_UDP, Manip
from refmodel.profile import nearest, version_number

PACKETS: Final = 40
BROKEN: Final = 0.05
PARTS: Final = "location=skb_release_data"  # what hangs on a packet goes with it, for the same reason
COUNTER: Final = re.compile(r"\[(\d+:\d+)\]")


@dataclass
class Outcome:
    """What was compared, and what differed."""

    rulesets: int = 0
    refused: int = 0
    packets: int = 0
    connections: int = 0
    outputs: int = 0
    drops: int = 0
    edges: int = 0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.rulesets} rulesets ({self.refused} refused by both), {self.packets} packets, "
            f"{self.outputs} came out, {self.drops} dropped by hooks, {self.connections} connections, "
            f"{self.edges} times a UDP flow was two seconds old to the tick: "
            f"{len(self.differences)} differences"
        )


def run(n: int, seed: int, packets: int = PACKETS, flavour: str = "legacy", stop: int = 1,
        progress: Progress | None = None) -> Outcome:  # fmt: skip
    """Compares `n` rulesets, until `stop` differences were found. Moves this process into a namespace of its own."""
    outcome = Outcome()
    task = progress.add_task("rulesets", total=n) if progress else None
    drops = {"skb/kfree_skb": f"protocol == 0x800 && common_pid == {os.getpid()}"}
    with follow(drops) as pipe, live(flavour) as kernel:
        for i in range(n):
            one(kernel, pipe, seed, i, packets, outcome)
            if progress and task is not None:
                progress.advance(task)
            if len(outcome.differences) >= stop:
                break
    return outcome


def one(kernel: Live, pipe: Pipe, seed: int, number: int, packets: int, outcome: Outcome) -> None:
    """One ruleset and its packets."""
    rng = Random(f"{seed}/{number}")
    broken = rng.random() < BROKEN
    text = (Rules(rng, broken) if kernel.flavour == "legacy" else Rules(rng, rates=("1/hour",))).text()
    settings = sysctls(rng)
    world = World(version_number(nearest(os.uname().release)), sysctls=settings)
    world.now = since_boot()

    def differs(what: str, model: object, real: object, event: object = "") -> None:
        told = f"ruleset {number} of seed {seed}: {what} {event}\n  model  {model}\n  kernel {real}\n{settings}\n{text}"
        outcome.differences.append(told + "\n".join(f"  {fn}: {d}" for fn, d in world.notes[-25:]))

    outcome.rulesets += 1
    kernel.flush_conntrack()
    kernel.set_sysctls(settings)
    complaint = kernel.restore(text)
    try:
        world.nf.iptables_restore(text, nft=kernel.flavour == "nft")
        refusal = ""
    except (RestoreError, TableError) as e:
        refusal = str(e)
    if bool(complaint) != bool(refusal):
        differs("taken by one only", refusal or "taken", complaint or "taken")
        return
    if complaint:
        outcome.refused += 1
        return
    told = kernel.stats()
    slack, near_edge = 0, False
    nat = world.nf.nat
    assert isinstance(nat, OracleNat)
    nat.chosen = lambda orig, manip: chosen(kernel, orig, manip)
    source = Packets(rng, number * 97 % 60_000 + 1)
    for _ in range(packets):
        event = source.next()
        outcome.packets += 1
        before = since_boot()
        real = kernel.receive(event.device, event.frame) if event.device else kernel.send(event.packet)
        world.now = since_boot()
        slack = max(slack, world.now - before)
        near_edge = near_edge or at_edge(world, slack)
        world.notes.clear()
        world.drops.clear()
        model = world.received(event.device, event.frame) if event.device else world.sent(event.packet)
        freed(model, real)
        outcome.outputs += len(real)
        if key(model) != key(real):
            differs("what came out", model, real, event)
            return
        dropped = sum("NETFILTER_DROP" in text and PARTS not in text for _, text in pipe.new())
        if dropped != len(world.drops):
            differs("drops by a hook", world.drops, dropped, event)
            return
        outcome.drops += dropped
        source.came_out(real)
    outcome.edges += near_edge
    finish(kernel, world, outcome, told, differs, near_edge)


def since_boot() -> int:
    """us on the clock of the kernel's ticks, which reach 0 five minutes after the start (INITIAL_JIFFIES)."""
    return int((time.monotonic() - 300) * 1e6)


def key(out: list[Out]) -> list[tuple[str, bytes]]:
    """What is compared: by device and socket, in order."""
    return sorted(((x.where, x.data) for x in out), key=lambda x: x[0])


def freed(model: list[Out], real: list[Out]) -> None:
    """The kernel's IP id takes the place of the model's where the kernel draws it."""
    for x in model:
        y = next((y for y in real if y.where == x.where and len(y.data) == len(x.data)), None)
        if x.free_id and y is not None:
            data = bytearray(x.data)
            data[4:6] = y.data[4:6]
            ip_send_check(data)
            x.data = bytes(data)


def chosen(kernel: Live, orig: Tuple, manip: Manip) -> int | None:
    """The port or id that the kernel gave to a connection; None if it has none in its table."""
    for seen in kernel.conntrack():
        if seen.tuples[0] == orig:
            repl = seen.tuples[1]
            return repl.sport if orig.protonum == 1 else repl.dport if manip == Manip.SRC else repl.sport
    return None


def at_edge(world: World, slack: int) -> bool:
    """A UDP flow is two seconds old, as far as the clocks tell: whether it is a stream can't be known from here."""
    ticks = 2 + slack * world.hz // 1_000_000
    return any(
        ct.protonum == IPPROTO_UDP and abs(world.jiffies - ct.stream_ts) <= ticks for ct in world.nf.ct.table.entries()
    )


def finish(
    kernel: Live,
    world: World,
    outcome: Outcome,
    before: dict[str, int],
    differs: Callable[[str, object, object], None],
    near_edge: bool,
) -> None:
    """Counters, connections. `near_edge`: a UDP flow may be a stream or not, so that its entry isn't compared."""
    mine, theirs = by_table(world.nf.iptables_save()), by_table(kernel.save())
    for table, rows in mine.items():
        if [counter(x) for x in rows] != [counter(x) for x in theirs.get(table, [])]:
            wrong = [(a, b) for a, b in zip(rows, theirs.get(table, []), strict=False) if counter(a) != counter(b)]
            differs(f"counters of {table}", [a for a, _ in wrong], [b for _, b in wrong])
            return
    entries = {model_key(ct): world.nf.ct.nf_ct_expires(ct) // world.hz for ct in world.nf.ct.table.entries()}
    seen = {s.key(): s for s in kernel.conntrack()}
    outcome.connections += len(seen)
    if near_edge:
        entries = {k: v for k, v in entries.items() if k[0].protonum != IPPROTO_UDP}
        seen = {k: v for k, v in seen.items() if v.tuples[0].protonum != IPPROTO_UDP}
    if set(entries) != set(seen):
        differs("connections", sorted(set(entries) - set(seen)), sorted(set(seen) - set(entries)))
        return
    late = [(k, left, seen[k].expires) for k, left in entries.items() if not left - 2 <= seen[k].expires <= left + 1]
    if late:
        differs("time left", [x[:2] for x in late], [x[2] for x in late])
        return
    after = kernel.stats()
    told = {n: after[n] - before[n] for n in STAT_NAMES}
    own = {n: world.nf.ct.stat[n] for n in STAT_NAMES}
    if world.rolled and told["found"] > own["found"]:
        own["found"] = told["found"]  # ports that the kernel drew first and found taken
    if told != own:
        differs("counters of connection tracking", own, told)


def user_chain(row: str) -> bool:
    """A user's chain's head, whose counters say nothing."""
    return row.startswith(":") and " - [" in row


def counter(row: str) -> str:
    """The counter of a row."""
    m = COUNTER.search(row)
    return m[1] if m else ""


def by_table(text: str) -> dict[str, list[str]]:
    """The rows with counters of each table: policies by name, rules in order."""
    tables: dict[str, list[str]] = {}
    rows: list[str] = []
    for row in text.splitlines():
        if row.startswith("*"):
            rows = tables.setdefault(row[1:], [])
        elif COUNTER.search(row) and not user_chain(row):
            rows.append(row)
    return {t: sorted(x for x in r if x[0] == ":") + [x for x in r if x[0] == "["] for t, r in tables.items()}


def model_key(ct: NfConn) -> tuple[Any, ...]:
    """A connection as `Seen.key` has it."""
    t = ct.tcp
    tcp = (int(t.state), t.orig.td_scale, t.repl.td_scale, flags(t.orig), flags(t.repl))
    return (ct.orig, ct.repl, int(ct.status), ct.mark, tcp if ct.protonum == IPPROTO_TCP else ())


def flags(side: Side) -> int:
    """IP_CT_TCP_FLAG_ bits."""
    bits = (side.window_scale, side.sack_perm, side.close_init, side.be_liberal, side.data_unacknowledged,
            side.maxack_set)  # fmt: skip
    return sum(bit << i for i, bit in enumerate(bits))


@click.command()
@click.option("--n", default=100, help="Rulesets.")
@click.option("--seed", default=1, help="Of the rulesets and packets.")
@click.option("--packets", default=PACKETS, help="Packets of each ruleset.")
@click.option("--flavour", default="legacy", type=click.Choice(["legacy", "nft"]), help="Which iptables puts rules in.")
@click.option("--stop", default=1, help="Differences after which to stop.")
def main(n: int, seed: int, packets: int, flavour: str, stop: int) -> None:
    """Holds the model of netfilter against the running kernel."""
    lack = missing()
    if lack:
        raise click.ClickException(lack)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the trace instance goes away too
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        outcome = run(n, seed, packets, flavour, stop, progress)
    for d in outcome.differences:
        print(d)
    print(outcome)
    raise SystemExit(1 if outcome.differences else 0)


__all__ = ["Event", "Outcome", "Seen", "run"]

if __name__ == "__main__":
    main()
