"""`python -m conformance.oracle PATH...`: the oracle's verdicts, labels and counters, beside the kernel's own."""

from collections import Counter
from pathlib import Path

import click

from conformance.check.capture import captures_in
from conformance.check.flows import Flows
from conformance.check.setup import Setup, setup_for, tap_of
from conformance.check.verdict import Outcome, Verdict
from conformance.oracle.connection import Connection
from conformance.pcap import Reader
from refmodel.packet.segment import segment


def follow(path: Path) -> tuple[Setup, list[Verdict]]:
    """The setup of a capture and the verdicts on its connections."""
    setup = setup_for(path)
    flows = Flows(setup, True, Connection)
    last, n = 0, 0
    with Reader(path) as r:
        for f in r:
            n += 1
            last = max(last, f.time // 1000)
            s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
            if s is not None:
                flows.follow(s, tap_of(f.interface, f.linktype, f.data))
    return setup, [v for _, v in flows.finish(last, n)]


def differences(setup: Setup, verdicts: list[Verdict]) -> list[str]:
    """Counters whose derived interval does not hold the kernel's value, of each host that a sidecar gives."""
    found = []
    for h in setup.hosts:
        low: Counter[str] = Counter()
        high: Counter[str] = Counter()
        for v in verdicts:
            for name, (least, most) in v.counters.get(h.name, {}).items():
                low[name] += least
                high[name] += most
        for name in sorted(set(low) | set(high)):
            value = h.mib.get(name, 0)
            if h.mib and not low[name] <= value <= high[name]:
                found.append(f"{h.name} {name}: {low[name]}..{high[name]}, the kernel's {value}")
    return found


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--labels", is_flag=True, help="Show the label of every frame.")
@click.option("--counters", is_flag=True, help="Show counters that differ from the sidecar's.")
def main(paths: tuple[Path, ...], labels: bool, counters: bool) -> None:
    """Follow captures with the oracle."""
    outcomes: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for path in captures_in(paths):
        setup, verdicts = follow(path)
        for v in verdicts:
            outcomes[v.outcome] += 1
            if v.outcome is not Outcome.CONFORMS:
                print(f"{path}: {v.subject}: {v.outcome}: {v.reason}")
                if v.divergence is not None:
                    print(f"    [{v.divergence.constraint}] {v.divergence.state}")
                    for x in v.divergence.around:
                        print(f"    {x}")
            if labels:
                for found in v.labels:
                    print(f"  #{found.number} {found.host} {found.by} {found.note} {found.state}")
        if counters:
            for text in differences(setup, verdicts):
                wrong[text.split()[1]] += 1
                print(f"{path}: {text}")
    print(dict(outcomes), dict(wrong) if counters else "")


if __name__ == "__main__":
    main()
