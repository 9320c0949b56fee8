"""The command line: `refmodel check|record|explore|prove|rules`."""

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.cli_run import run as run_scripts
from conformance.cli_walk import walk
from conformance.console import (
    DIVERGED,
    INTERRUPTED,
    OK,
    STATUSES,
    UNDECIDED,
    UNUSABLE,
    err,
    fail,
    interruptible,
    out,
    progress,
    searching,
)
from refmodel import __version__
from refmodel.profile import KERNELS, REFERENCE

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
KERNEL = click.Choice(KERNELS)


def load_machines() -> None:
    """Imports every layer, which fills the registry."""
    import refmodel.layers  # noqa: F401


def write_json(value: Any) -> None:
    """Prints `value` as one JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n")


@click.group(context_settings=CONTEXT, epilog=STATUSES)
@click.version_option(__version__, prog_name="refmodel")
def main() -> None:
    """An executable, proved and kernel-checked reference model of Linux's TCP/IP stack."""


@main.command(epilog=STATUSES)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--profile", "kernel", default="", help="Kernel to hold the capture against: 6.1, 6.12 or 6.18.")
@click.option("--reader", type=click.Choice(["native", "pyshark"]), default="native", show_default=True)
@click.option("--jobs", "-j", type=click.IntRange(min=0), default=0, help="Processes; 0 means all cores.")
@click.option("--scheduler", default="", metavar="ADDRESS", help="Check on the workers of this dask scheduler.")
@click.option(
    "--engine",
    type=click.Choice(["oracle", "rules"]),
    default="oracle",
    show_default=True,
    help="Who follows TCP: an oracle of the whole, or a search over the proved connection rules.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["text", "json", "junit", "sarif", "html", "github"]),
    default="text",
    help="What to print: text (the default), or one document in another format.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON: --format json.")
@click.option("--report", type=click.Path(path_type=Path), help="Write every format into this folder too.")
@click.option("--annotate", type=click.Path(path_type=Path), help="Write captures with labels as comments there.")
@click.option("--dissect", is_flag=True, help="Show a diverging frame and its neighbours as tshark sees them.")
@click.option("--verbose", "-v", is_flag=True, help="Show every verdict and the rule behind every frame.")
@interruptible
def check(
    paths: tuple[Path, ...],
    kernel: str,
    reader: str,
    jobs: int,
    scheduler: str,
    engine: str,
    kind: str,
    as_json: bool,
    report: Path | None,
    annotate: Path | None,
    dissect: bool,
    verbose: bool,
) -> None:
    """Check captures (or folders of them) frame by frame against the specification.

    Ctrl-C ends the check and reports the captures that are done.

    \b
    Examples:
      refmodel check captures/
      refmodel check -v captures/tcp-active-open.pcapng
      refmodel check --profile 6.1 --json mine.pcap
      refmodel check --report out --format github captures/
      refmodel check --scheduler tcp://10.0.0.1:8786 captures/
    """
    from conformance.check.capture import captures_in, check_all
    from conformance.check.spread import ClusterError
    from conformance.check.verdict import FileReport
    from conformance.pyshark_reader import missing
    from conformance.report.annotate import annotate_all
    from conformance.report.dissect import print_dissections
    from conformance.report.files import FILES, write_report
    from conformance.report.formats import ExtraMissing, rendered, require
    from conformance.report.text import print_file
    from refmodel.engine.explore_stop import Interrupt

    if as_json:
        kind = "json"
    try:
        require(kind, *(FILES if report is not None else ()))
    except ExtraMissing as why:
        fail(str(why))
    if dissect and missing():
        fail(f"--dissect: {missing()}")
    if kernel and kernel not in KERNELS:
        fail(f"no profile for kernel {kernel!r}; there are {', '.join(KERNELS)}")
    load_machines()
    try:
        files = captures_in(paths)
    except OSError as why:
        fail(str(why))
    if not files:
        fail(f"no captures (*.pcap, *.pcapng, *.cap, also .gz) in {', '.join(map(str, paths))}")
    reports: list[FileReport] = []
    labelled = verbose or kind != "text" or report is not None or annotate is not None
    try:
        with progress("checking", len(files)) as step, Interrupt() as interrupted:
            for r in check_all(files, kernel, reader, jobs, interrupted, labelled, engine, scheduler):
                reports.append(r)
                step(Path(r.path).name)
                if kind == "text":
                    print_file(r, out, verbose)
                    if dissect:
                        print_dissections(r, out)
    except ClusterError as why:
        fail(str(why))
    if kind != "text":
        sys.stdout.write(rendered(kind, reports))
    elif len(reports) > 1:
        worst = [r for r in reports if r.exit_status]
        subjects = sum(len(r.verdicts) for r in reports)
        frames = sum(r.frames for r in reports)
        out.print(
            f"{len(reports)} captures, {frames} frames, {subjects} subjects: {len(worst)} captures do not conform"
        )
    notes: list[str] = []
    try:
        if report is not None:
            notes += write_report(reports, report)
        if annotate is not None:
            notes += annotate_all(reports, annotate)[1]
    except OSError as why:
        fail(f"the report cannot be written: {why}")
    for n in dict.fromkeys(notes):
        err.print(f"refmodel: {n}", markup=False)
    if interrupted():
        err.print(f"interrupted: {len(reports)} of {len(files)} captures were checked")
        sys.exit(INTERRUPTED)
    statuses = {r.exit_status for r in reports}
    sys.exit(DIVERGED if DIVERGED in statuses else UNUSABLE if UNUSABLE in statuses else max(statuses, default=OK))


@main.command(epilog=STATUSES)
@click.argument("names", nargs=-1, metavar="SCENARIO...")
@click.option("--list", "listing", is_flag=True, help="List the scenarios.")
@click.option("--all", "every", is_flag=True, help="Record every scenario.")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("captures"), show_default=True)
@click.option("--suffix", default="", help="Appended to the case name, for instance -6.1.")
@click.option("--random", "seed", type=int, help="Record the random workload of this seed instead of a scenario.")
@click.option("--count", type=click.IntRange(1), default=1, help="With --random: as many workloads, of seeds in a row.")
@click.option("--json", "as_json", is_flag=True, help="Print what was recorded, or the list, as JSON.")
@interruptible
def record(
    names: tuple[str, ...],
    listing: bool,
    every: bool,
    folder: Path,
    suffix: str,
    seed: int | None,
    count: int,
    as_json: bool,
) -> None:
    """Record captures of this machine's kernel, in network namespaces made for the purpose (root, tcpdump).

    \b
    Examples:
      refmodel record --list
      refmodel record tcp_active_open --out mine
      refmodel record --all --out mine
      refmodel record --random 17 --count 3 --out mine
    """
    from conformance.live.errors import LabUnavailable, RecordError
    from conformance.live.record import record_case, scenarios
    from conformance.live.workload_run import record_random

    known = scenarios()
    if seed is not None and (names or every):
        fail("--random records a workload: name no scenario with it")
    seeds = {f"random-{n}": n for n in range(seed, seed + count)} if seed is not None else {}
    if listing:
        if as_json:
            write_json(known)
        else:
            for name, says in sorted(known.items()):
                out.print(f"{name:36} {says}", markup=False)
        return
    wanted = list(seeds) or (sorted(known) if every else list(names))
    if not wanted:
        fail("name a scenario (refmodel record --list shows them), or --all")
    for name in wanted:
        if name not in known and name not in seeds:
            fail(f"no scenario {name!r}; refmodel record --list shows them")
    recorded: dict[str, str] = {}
    failed: dict[str, str] = {}
    interrupted = False
    with progress("recording", len(wanted)) as step:
        for name in wanted:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path = record_random(seeds[name], folder) if seeds else record_case(name, folder, suffix)
                recorded[name] = str(path)
                step(name)
                if not as_json:
                    out.print(f"recorded {recorded[name]}", markup=False)
            except LabUnavailable as why:
                fail(str(why))
            except RecordError as why:
                failed[name] = str(why)
                err.print(f"refmodel: not recorded: {why}", markup=False)
            except OSError as why:
                fail(f"{name}: {why}")
            except KeyboardInterrupt:
                interrupted = True
                break
    if as_json:
        write_json({"recorded": recorded, "failed": failed})
    if interrupted:
        err.print(f"interrupted: {len(recorded)} of {len(wanted)} scenarios were recorded")
        sys.exit(INTERRUPTED)
    sys.exit(DIVERGED if failed else OK)


@main.command(epilog=STATUSES)
@click.argument("machines", nargs=-1, metavar="MACHINE...")
@click.option("--list", "listing", is_flag=True, help="List the machines.")
@click.option("--only", default="", help="Only cells whose name contains this text, or rules whose id does.")
@click.option("-k", "depth", type=click.IntRange(1, 4), default=1, show_default=True, help="k-induction depth.")
@click.option("--jobs", "-j", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
@click.option("--verbose", "-v", is_flag=True, help="Show every property and how it was proved.")
@interruptible
def prove(
    machines: tuple[str, ...], listing: bool, only: str, depth: int, jobs: int, as_json: bool, verbose: bool
) -> None:
    """Prove machines total, disjoint and their invariants inductive, for all sysctl values in range.

    \b
    Examples:
      refmodel prove
      refmodel prove neigh --verbose
      refmodel prove tcp --only ESTABLISHED
    """
    from conformance.report.proofs import as_builtins, print_proof
    from refmodel.engine.prove import prove as run
    from refmodel.engine.report import Report
    from refmodel.engine.space import Unprovable
    from refmodel.rule import MACHINES

    load_machines()
    if listing:
        if as_json:
            write_json({m.name: m.title for m in MACHINES.values()})
        else:
            for m in MACHINES.values():
                out.print(f"{m.name:12} {m.title} ({len(m.rules)} rules)", markup=False)
        return
    for name in machines:
        if name not in MACHINES:
            fail(f"no machine {name!r}; there are {', '.join(MACHINES)}")
    wanted = machines or tuple(MACHINES)
    reports: list[Report] = []
    interrupted = False
    for name in wanted:
        try:
            with progress(f"proving {name}", None) as step:
                reports.append(
                    run(
                        MACHINES[name],
                        only=only,
                        k=depth,
                        processes=jobs,
                        progress=lambda cell, done, cells: step(cell, done, cells),
                    )
                )
        except Unprovable as why:
            fail(f"{name} cannot be read as logic: {why}")
        except ValueError as why:
            if len(wanted) > 1:
                continue
            fail(str(why))
        except KeyboardInterrupt:
            interrupted = True
            break
        if not as_json:
            print_proof(reports[-1], out, verbose)
    if not reports and not interrupted:
        fail(f"neither a cell nor a rule of {', '.join(wanted)} contains {only!r}")
    if as_json:
        write_json([as_builtins(r) for r in reports])
    if interrupted:
        err.print(f"interrupted: {len(reports)} of {len(wanted)} machines were decided")
        sys.exit(INTERRUPTED)
    sys.exit(DIVERGED if any(r.failures for r in reports) else OK)


def read_bounds(given: tuple[str, ...], known: dict[str, Any]) -> dict[str, Any]:
    """`writes=2` and the like as keyword arguments of the type that the bound has; ends the command on nonsense."""
    bounds: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in known or name == "kernel":
            there = ", ".join(f"{n}={v}" for n, v in known.items() if n not in ("kernel", "wanted", "family"))
            fail(f"--set takes NAME=VALUE, not {text!r}; there are {there}")
        kind = type(known[name])
        if kind is bool and value.lower() in ("true", "false"):
            bounds[name] = value.lower() == "true"
        elif kind is int and value.lstrip("-").isdigit():
            bounds[name] = int(value)
        elif kind is str:
            bounds[name] = value
        else:
            fail(f"--set {name} takes {'true or false' if kind is bool else 'a number'}, not {value!r}")
    return bounds


@main.command(epilog=STATUSES)
@click.argument("name", required=False, metavar="SYSTEM")
@click.option("--list", "listing", is_flag=True, help="List the systems and their bounds.")
@click.option("--states", type=click.IntRange(min=0), default=1_000_000, show_default=True, help="0: no limit.")
@click.option("--depth", type=click.IntRange(min=1), help="Stop after so many steps.")
@click.option(
    "--property",
    "properties",
    multiple=True,
    help="Must hold in every state: an expression, module:function, or the id of a property (refmodel rules).",
)
@click.option("--final", default="", help="What a state without a move must satisfy (else: deadlock).")
@click.option("--goal", help="What must stay reachable from everywhere ('' for nothing; default: the system's own).")
@click.option("--difference", nargs=2, type=KERNEL, help="Run two kernels in lockstep until they can be told apart.")
@click.option("--profile", "kernel", type=KERNEL, help=f"Kernel version (default {REFERENCE}).")
@click.option("--set", "given", multiple=True, metavar="BOUND=VALUE", help="Another bound, see --list.")
@click.option("--findings", type=click.IntRange(min=0), default=1, show_default=True, help="Stop at so many; 0: never.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Threads.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Where an unfinished search is kept.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint.")
@click.option("--save", "folder", type=click.Path(path_type=Path), default=Path("counterexamples"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@interruptible
def explore(
    name: str | None,
    listing: bool,
    states: int,
    depth: int | None,
    properties: tuple[str, ...],
    final: str,
    goal: str | None,
    difference: tuple[str, str] | None,
    kernel: str | None,
    given: tuple[str, ...],
    findings: int,
    workers: int,
    checkpoint: Path | None,
    resume: bool,
    folder: Path,
    as_json: bool,
) -> None:
    """Search a system breadth first and show the shortest run to whatever is wrong.

    A counterexample is printed as a numbered run and a ladder, and saved as a trace in JSON and, for TCP, as a .pkt.
    Ctrl-C ends the search: what it covered is reported and, with --checkpoint, kept.

    \b
    Examples:
      refmodel explore --list
      refmodel explore tcp-pair --states 100000
      refmodel explore tcp-pair --property "not (a.type == 'Sock' and a.state == CLOSING)"
      refmodel explore tcp-any-peer --property tcp.transitions.fin_once
      refmodel explore tcp-pair --difference 6.1 6.18
      refmodel explore tcp-pair --set writes=2 --states 0 --workers 2 --checkpoint pair.search
    """
    from conformance.report import explored
    from refmodel.engine.explore import CheckpointError, Result
    from refmodel.engine.explore import explore as run
    from refmodel.engine.explore_check import PropertyError, predicate
    from refmodel.rule import PROPERTIES
    from refmodel.systems import CATALOGUE, UnknownSystem, find

    load_machines()
    sys.path.insert(0, str(Path.cwd()))  # for module:function, as python itself would find it
    if listing:
        if as_json:
            write_json({e.name: {"says": e.says, "bounds": explored.shown_bounds(e)} for e in CATALOGUE.values()})
        else:
            explored.print_catalogue(CATALOGUE.values(), out)
        return
    if not name:
        fail("name a system; refmodel explore --list shows them")
    if resume and checkpoint is None:
        fail("--resume needs --checkpoint FILE")
    if checkpoint is not None and not os.access(checkpoint.parent, os.W_OK):
        fail(f"the checkpoint cannot be written: no writable folder {checkpoint.parent}")
    if difference and kernel:
        fail("--difference names both kernels; --profile says nothing more")
    try:
        entry = find(name)
        bounds = read_bounds(given, entry.bounds)
        if difference:
            system = entry.between(*difference, **bounds)
        else:
            system = entry.build(**bounds, **({"kernel": kernel} if kernel else {}))
    except UnknownSystem as why:
        fail(str(why))
    wanted = tuple(PROPERTIES[p] for p in properties if p in PROPERTIES)
    own = [p for p in properties if p not in PROPERTIES]
    if goal is None and not difference and not depth:
        goal = entry.goal
    result: Result
    try:
        for text in (*own, final, goal or ""):
            if text:
                predicate(text, system)
        with searching(f"exploring {name}", states) as progress_to:
            result = run(
                system.asking(wanted) if wanted else system,
                always=own,
                final=final or None,
                goal=goal or None,
                max_states=states or None,
                max_depth=depth,
                stop_at=findings,
                workers=workers,
                progress=progress_to,
                checkpoint=checkpoint,
                resume=resume,
            )
    except (PropertyError, CheckpointError) as why:
        fail(str(why))
    except OSError as why:
        fail(f"the checkpoint cannot be written: {why}")
    if not as_json:
        explored.print_result(result, out)
    saved: list[Path] = []
    notes: list[str] = []
    try:
        saved, notes = explored.save(result, name, folder)
    except OSError as why:
        notes = [f"the counterexamples cannot be saved: {why}"]
    if as_json:
        write_json(explored.as_builtins(result, [str(p) for p in saved]))
    else:
        for p in saved:
            out.print(f"saved {p}", markup=False)
    for n in notes:
        err.print(f"refmodel: {n}", markup=False)
    if result.stopped == "interrupted":
        kept = f"; go on with --resume --checkpoint {checkpoint}" if checkpoint else ""
        err.print(f"interrupted{kept}", markup=False)
        sys.exit(INTERRUPTED)
    if result.findings:
        sys.exit(DIVERGED)
    sys.exit(UNDECIDED if result.undecided else OK)


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
        write_json(found)
    else:
        print_registry(found, out)


main.add_command(run_scripts)
main.add_command(walk)


@main.command("rows", epilog=STATUSES)
@interruptible
def rows() -> None:
    """Prints the table of all parts of the path: executable, property-tested, proved, walked, compared."""
    load_machines()
    from conformance.rows_table import markdown

    sys.stdout.write(markdown())


if __name__ == "__main__":
    main()
