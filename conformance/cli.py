"""The command line: `refmodel check|record|explore|prove|rules`."""

import sys
from pathlib import Path

import click
import msgspec

from conformance.console import DIVERGED, OK, STATUSES, UNUSABLE, err, fail, interruptible, out, progress
from refmodel import __version__

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def load_machines() -> None:
    """Imports every layer, which fills the registry."""
    import refmodel.layers  # noqa: F401


@click.group(context_settings=CONTEXT, epilog=STATUSES)
@click.version_option(__version__, prog_name="refmodel")
def main() -> None:
    """An executable, proved and kernel-checked reference model of Linux's TCP/IP stack."""


@main.command(epilog=STATUSES)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--profile", "kernel", default="", help="Kernel to hold the capture against: 6.1, 6.12 or 6.18.")
@click.option("--reader", type=click.Choice(["native", "pyshark"]), default="native", show_default=True)
@click.option("--jobs", "-j", type=click.IntRange(min=0), default=0, help="Processes; 0 means all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
@click.option("--report", type=click.Path(path_type=Path), help="Also write verdicts.json and summary.txt there.")
@click.option("--verbose", "-v", is_flag=True, help="Show every verdict and the rule behind every frame.")
@interruptible
def check(
    paths: tuple[Path, ...], kernel: str, reader: str, jobs: int, as_json: bool, report: Path | None, verbose: bool
) -> None:
    """Check captures (or folders of them) frame by frame against the specification.

    \b
    Examples:
      refmodel check captures/
      refmodel check -v captures/tcp-active-open.pcapng
      refmodel check --profile 6.1 --json mine.pcap
    """
    from conformance.check.capture import captures_in, check_all
    from conformance.report.files import write_report
    from conformance.report.text import print_file

    load_machines()
    try:
        files = captures_in(paths)
    except OSError as why:
        fail(str(why))
    if not files:
        fail(f"no captures (*.pcap, *.pcapng, *.cap, also .gz) in {', '.join(map(str, paths))}")
    reports = []
    with progress("checking", len(files)) as step:
        for r in check_all(files, kernel=kernel, reader=reader, jobs=jobs):
            reports.append(r)
            step(Path(r.path).name)
            if not as_json:
                print_file(r, out, verbose)
    if as_json:
        sys.stdout.write(msgspec.json.encode(reports).decode() + "\n")
    elif len(reports) > 1:
        worst = [r for r in reports if r.exit_status]
        subjects = sum(len(r.verdicts) for r in reports)
        frames = sum(r.frames for r in reports)
        out.print(
            f"{len(reports)} captures, {frames} frames, {subjects} subjects: {len(worst)} captures do not conform"
        )
    if report is not None:
        write_report(reports, report)
    statuses = {r.exit_status for r in reports}
    sys.exit(DIVERGED if DIVERGED in statuses else max(statuses, default=OK))


@main.command(epilog=STATUSES)
@click.argument("names", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="List the scenarios.")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("captures"), show_default=True)
@click.option("--suffix", default="", help="Appended to the case name, for instance -6.1.")
@interruptible
def record(names: tuple[str, ...], listing: bool, folder: Path, suffix: str) -> None:
    """Record captures of this machine's kernel, in network namespaces made for the purpose (root, tcpdump).

    \b
    Examples:
      refmodel record --list
      refmodel record tcp_active_open --out /tmp/mine
    """
    from conformance.live.record import RecordError, record_case, scenarios

    known = scenarios()
    if listing or not names:
        for name, says in sorted(known.items()):
            out.print(f"{name:32} {says}", markup=False)
        sys.exit(OK if listing else UNUSABLE)
    for name in names:
        if name not in known:
            fail(f"no scenario {name!r}; refmodel record --list shows them")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        try:
            out.print(f"recorded {record_case(name, folder, suffix)}", markup=False)
        except RecordError as why:
            fail(str(why))


@main.command(epilog=STATUSES)
@click.argument("machines", nargs=-1)
@click.option("--only", default="", help="Only cells whose name contains this text.")
@click.option("-k", "depth", type=click.IntRange(1, 4), default=1, show_default=True, help="k-induction depth.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
@click.option("--verbose", "-v", is_flag=True, help="Show every property and how it was proved.")
@interruptible
def prove(machines: tuple[str, ...], only: str, depth: int, as_json: bool, verbose: bool) -> None:
    """Prove machines total, disjoint and their invariants inductive, for all sysctl values in range.

    \b
    Examples:
      refmodel prove
      refmodel prove neigh --verbose
      refmodel prove tcp --only ESTABLISHED
    """
    from refmodel.engine.prove import prove as run

    from conformance.report.proofs import print_proof
    from refmodel.rule import MACHINES

    load_machines()
    for name in machines:
        if name not in MACHINES:
            fail(f"no machine {name!r}; there are {', '.join(MACHINES)}")
    reports = []
    for name in machines or tuple(MACHINES):
        with progress(f"proving {name}", None) as step:
            reports.append(run(MACHINES[name], only=only, k=depth, progress=lambda *a: step(str(a[0]) if a else "")))
        if not as_json:
            print_proof(reports[-1], out, verbose)
    if as_json:
        sys.stdout.write(msgspec.json.encode(reports).decode() + "\n")
    sys.exit(DIVERGED if any(r.failures for r in reports) else OK)


@main.command(epilog=STATUSES)
@click.argument("pattern", default="")
@click.option("--json", "as_json", is_flag=True, help="Print the registry as JSON.")
@click.option("--properties", is_flag=True, help="List invariants and transition properties too.")
@interruptible
def rules(pattern: str, as_json: bool, properties: bool) -> None:
    """List the rules and steps: id, kernel function, RFC, sentence.

    \b
    Examples:
      refmodel rules
      refmodel rules neigh.timer
      refmodel rules tcp --properties
    """
    from conformance.report.registry import print_registry, registry

    load_machines()
    found = registry(pattern, properties)
    if not found:
        fail(f"no rule, step or property has {pattern!r} in its id")
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        print_registry(found, out)


if __name__ == "__main__":
    main()

__all__ = ["err", "main"]
