"""The lookups themselves, the model against the running kernel: every fib:fib_table_lookup, in order, with its answer.

    python -m conformance.differential.fib_trace --n 1000 --seed 1

The same operations and questions as in conformance.differential.fib; after each one the tracepoint's events of this
thread, in an own trace instance, are held against the calls of the model's fib_table_lookup.
"""

import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

import click
from rich.progress import Progress

from conformance.differential.fib import OPS_AN_EPISODE, Difference, Source, Tally, start
from conformance.differential.fib_world import Kernel, Model, running_version
from refmodel.fib import lookup, saddr, semantics
from refmodel.fib.net import Fib
from refmodel.fib.types import FibResult, FibTable, Flow4, dotted

TRACING: Final = Path("/sys/kernel/tracing")
EVENT: Final = re.compile(
    r"fib_table_lookup: table (\d+) oif (-?\d+) iif (-?\d+) proto (\d+) ([\d.]+)/(\d+) -> ([\d.]+)/(\d+) tos (\d+) "
    r"scope (\d+) flags (\w+) ==> dev (\S+) gw ([\d.]+)/\S+ err (-?\d+)"
)

Call = tuple[Any, ...]


class Instance:
    """A trace instance of this process with the one event; `close` takes it away."""

    def __init__(self) -> None:
        self.path = TRACING / "instances" / f"fib-{os.getpid()}"
        self.path.mkdir()
        event = self.path / "events/fib/fib_table_lookup"
        (event / "filter").write_text(f"common_pid == {threading.get_native_id()}", encoding="ascii")
        (event / "enable").write_text("1", encoding="ascii")

    def take(self) -> list[Call]:
        """The events since the last time: table, oif, iif, protocol, addresses, ports, TOS, scope, nexthop, errno."""
        text = (self.path / "trace").read_text(encoding="ascii", errors="replace")
        (self.path / "trace").write_text("", encoding="ascii")
        calls: list[Call] = []
        for line in text.splitlines():
            if m := EVENT.search(line):
                t, oif, iif, proto, src, sport, dst, dport, tos, scope, _, dev, gw, err = m.groups()
                numbers = (int(t), int(oif), int(iif), int(proto))
                calls.append((*numbers, src, int(sport), dst, int(dport), int(tos), int(scope), dev, gw, int(err)))
        return calls

    def close(self) -> None:
        """Takes the instance away."""
        self.path.rmdir()


@contextmanager
def recorded(calls: list[Call]) -> Iterator[None]:
    """The model's lookups are kept in `calls` meanwhile."""
    real = lookup.fib_table_lookup

    def fib_table_lookup(net: Fib, tb: FibTable, flp: Flow4, res: FibResult, fib_flags: int) -> int:
        asked = (tb.tb_id, flp.oif, flp.iif, flp.proto, dotted(flp.saddr))
        ports = (flp.sport, flp.dport) if flp.proto in (6, 17) else (0, 0)
        rest = (ports[0], dotted(flp.daddr), ports[1], flp.tos, flp.scope)
        err = real(net, tb, flp, res, fib_flags)
        found = (res.dev.name, dotted(res.nh.fib_nh_gw4)) if err == 0 else ("-", "0.0.0.0")
        calls.append((*asked, *rest, *found, err))
        return err

    with (
        mock.patch.object(lookup, "fib_table_lookup", fib_table_lookup),
        mock.patch.object(saddr, "fib_table_lookup", fib_table_lookup),
        mock.patch.object(semantics, "fib_table_lookup", fib_table_lookup),
    ):
        yield


def episode(seed: int, tally: Tally, queries: int, instance: Instance) -> int:
    """One namespace's life; returns how many questions were asked. It ends with the first difference."""
    s = Source(seed)
    kernel, model = Kernel(), Model(running_version())
    rules = s.chance(0.6)
    asked = 0
    calls: list[Call] = []

    def same(what: str) -> bool:
        seen, made = instance.take(), list(calls)
        calls.clear()
        tally.counts["lookup"] += len(seen)
        # Of a nexthop without gateway the tracepoint leaves the field as the ring buffer had it.
        told = [(*m[:11], k[11], *m[12:]) if m[11] == "0.0.0.0" else m for k, m in zip(seen, made, strict=False)]
        if seen == told and len(seen) == len(made):
            return True
        tally.differences.append(Difference(seed, what, seen, made, tuple(model.env.log)))
        return False

    try:
        instance.take()
        todo = [*start(s)]
        for _ in range(OPS_AN_EPISODE):
            op = todo.pop(0) if todo else s.op(model.fib, rules)
            kernel.apply(op)
            with recorded(calls):
                model.apply(op)
            tally.counts["op"] += 1
            if not same(f"op {op}"):
                return asked
            for _ in range(s.r.choice((0, 1, 2, 4)) if not todo else 0):
                if asked >= queries:
                    return asked
                q = s.query([a.ifa_local for a in model.fib.addr_lst])
                asked += 1
                tally.counts["query"] += 1
                kernel.query(q)
                with recorded(calls):
                    model.query(q)
                if not same(f"query {q}"):
                    return asked
        return asked
    finally:
        kernel.close()


def run(n: int, seed: int, progress: Progress | None = None, stop: int = 5) -> Tally:
    """Asks `n` questions in as many episodes as they take, until `stop` of them ended with a difference."""
    tally = Tally(Counter(), [])
    task = progress.add_task("questions", total=n) if progress is not None else None
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    instance = Instance()
    try:
        asked = 0
        while asked < n and len(tally.differences) < stop:
            asked += episode(seed, tally, n - asked, instance)
            seed += 1
            if progress is not None and task is not None:
                progress.update(task, completed=asked)
    finally:
        instance.close()
        os.sched_setaffinity(0, before)
    return tally


@click.command()
@click.option("--n", default=1000, help="Questions to ask.")
@click.option("--seed", default=1, help="The first episode's seed.")
def main(n: int, seed: int) -> None:
    """Holds the model's table lookups against the running kernel's."""
    # Whoever ends it takes the trace instance away as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Progress() as progress:
        tally = run(n, seed, progress)
    for d in tally.differences:
        print(f"\nseed {d.seed}: {d.what}")
        for who, calls in (("kernel", d.kernel), ("model", d.model)):
            for call in calls:
                print(f"  {who} {call}")
    c, n = tally.counts, len(tally.differences)
    print(f"{c['lookup']} lookups of {c['query']} questions and {c['op']} operations: {n} differences")
    sys.exit(bool(tally.differences))


if __name__ == "__main__":
    main()
