"""The command `refmodel run`: .pkt scripts on the model, on a kernel (the machine's own or a guest's), or on both."""

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.console import DIVERGED, OK, STATUSES, UNDECIDED, UNUSABLE, fail, interruptible, out, progress
from refmodel.profile import KERNELS, REFERENCE, nearest

VARIANTS = ("ipv4", "ipv6", "mapped", "all")
GUESTS = ("6.1", "6.12")
MANY = 20  # scripts from which on several processes are worth their start


class Row(msgspec.Struct, frozen=True):
    """One run of one script, as --json prints it; `differs` is where model and kernel differ (--both)."""

    path: str
    variant: str
    on: str
    status: str
    line: int
    message: str
    field: str
    expected: str
    got: str
    sent: str
    why: str = ""
    differs: str = ""
    counters: dict[str, int] = {}
    differing_counters: list[tuple[str, int, int]] = []


@click.command(epilog=STATUSES)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--kernel", is_flag=True, help="Run on this machine's own kernel, through a tun device (root).")
@click.option("--both", is_flag=True, help="Run on the model and on the kernel, and show where the two differ (root).")
@click.option(
    "--guest", type=click.Choice(GUESTS), help="With --kernel or --both: Debian's kernel in a guest (no root)."
)
@click.option("--profile", type=click.Choice(KERNELS), help=f"The model's kernel ({REFERENCE}; with --both that one).")
@click.option("--hz", type=click.IntRange(100, 1000), help="The model's HZ (1000; with --both that kernel's).")
@click.option("--variant", type=click.Choice(VARIANTS), default="all", show_default=True, help="Sockets and wire.")
@click.option("--define", "-D", "defines", multiple=True, metavar="NAME=VALUE", help="Replaces a word of the script.")
@click.option("--tolerance-usecs", type=click.IntRange(min=0), help="Instead of the script's own (4000).")
@click.option("--jobs", "-j", type=click.IntRange(min=0), default=0, help="Processes; 0: as many as are worth it.")
@click.option("--counters", is_flag=True, help="Also show the MIB counters that moved; with --both, those that differ.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@interruptible
def run(
    paths: tuple[Path, ...],
    kernel: bool,
    both: bool,
    guest: str | None,
    profile: str | None,
    hz: int | None,
    variant: str,
    defines: tuple[str, ...],
    tolerance_usecs: int | None,
    jobs: int,
    counters: bool,
    as_json: bool,
) -> None:
    """Run .pkt scripts (or folders of them), and report where the stack does something else, and why.

    Scripts run on the model, in virtual time: no root, no waiting, the same result each time. With --kernel they run on
    this machine's own kernel, with --guest 6.1 on Debian's kernel of that version in QEMU, with a clock that does not
    depend on what else the machine does. Shell commands and code blocks of a script are interpreted, never executed.

    \b
    Examples:
      refmodel run tests/scripts
      refmodel run --profile 6.1 --variant ipv4 mine.pkt
      refmodel run --both --counters mine.pkt
      refmodel run --both --guest 6.1 mine.pkt
    """
    from conformance.pkt.parser import definition
    from conformance.pkt.source import ScriptError
    from conformance.pkt.variant import Variant, scripts_in

    live = kernel or both
    if kernel and both:
        fail("--both runs on the kernel too: leave --kernel out")
    if guest and not live:
        fail("--guest names a kernel: --kernel or --both go with it")
    try:
        words = dict(definition(d) for d in defines)
        if live and not guest:
            _require_kernel()
        files = scripts_in(paths)
    except (ScriptError, OSError) as why:
        fail(str(why))
    if not files:
        fail(f"no scripts (*.pkt) in {', '.join(map(str, paths))}")
    wanted = tuple(Variant) if variant == "all" else (Variant(variant),)
    if both:
        profile = profile or guest or nearest(os.uname().release)
        hz = hz or _kernel_hz(guest)
    remember = both or (kernel and counters)
    job = partial(
        _run_one,
        wanted=wanted,
        words=words,
        tolerance=tolerance_usecs,
        kernel=profile or REFERENCE,
        hz=hz or 1000,
        remember=remember,
        on=("model", "kernel") if both else ("kernel",) if kernel else ("model",),
        played=_in_guest(files, guest, wanted, words, tolerance_usecs, remember, jobs) if guest else None,
    )
    rows: list[Row] = []
    with progress("running", len(files)) as step:
        try:
            for path, found in _each(job, files, 1 if live else jobs):
                rows += found
                if not as_json:
                    _show(found, counters)
                step(path.name)
        except OSError as why:
            fail(str(why))
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode() + "\n")
    else:
        _summary(rows, len(files))
    sys.exit(_status(rows))


def _require_kernel() -> None:
    from conformance.live.pkt_kernel import KernelUnavailable, require_kernel

    try:
        require_kernel()
    except KernelUnavailable as why:
        fail(str(why))


def _kernel_hz(version: str | None) -> int:
    if version:
        from conformance.live import guest

        try:
            return guest.kernel(version).hz
        except guest.GuestError as why:
            fail(str(why))
    from conformance.live.kernel import hz

    return hz()


def _in_guest(
    files: list[Path],
    version: str,
    wanted: tuple[Any, ...],
    words: Mapping[str, str],
    tolerance: int | None,
    remember: bool,
    jobs: int,
) -> dict[Path, dict[Any, Any]]:
    """How the scripts end on a guest's kernel, in `jobs` guests at once; ends the command where there can be none."""
    from conformance.live import guest, guest_scripts

    batch = guest_scripts.Batch(version, wanted, words, tolerance, remember)
    with progress(f"running in a guest of {version}", len(files)) as step:
        try:
            lacking = guest.missing_tools()
            if lacking:
                raise guest.GuestError("guests need " + "; ".join(lacking))
            return guest_scripts.run_scripts(files, batch, jobs or 1, lambda done, of: step("", done, of))
        except (guest.GuestError, OSError) as why:
            fail(str(why))


def _each(job: Any, files: list[Path], jobs: int) -> Iterator[tuple[Path, list[Row]]]:
    """Each script's rows, in the order of the scripts."""
    processes = min(jobs or (os.cpu_count() or 1 if len(files) >= MANY else 1), len(files))
    if processes == 1:
        yield from ((path, job(path)) for path in files)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from zip(files, pool.map(job, files, chunksize=4), strict=True)


def _run_one(
    path: Path,
    wanted: tuple[Any, ...],
    words: Mapping[str, str],
    tolerance: int | None,
    kernel: str,
    hz: int,
    remember: bool,
    on: tuple[str, ...],
    played: Mapping[Path, Mapping[Any, Any]] | None = None,
) -> list[Row]:
    """A script's runs in each variant, on the model, the kernel or both; `played` holds a guest's outcomes."""
    sides: dict[str, dict[str, Any]] = {}
    if "model" in on:
        from conformance.pkt import model_run

        setting = model_run.Setting(kernel, hz, dict(words), tolerance, remember)
        sides["model"] = dict(model_run.run_script(path, wanted, setting))
    if "kernel" in on and played is not None:
        sides["kernel"] = dict(played[path])
    elif "kernel" in on:
        from conformance.live import pkt_kernel

        sides["kernel"] = dict(pkt_kernel.run_script(path, wanted, words, tolerance, remember))
    rows = []
    for which in wanted:
        for side, outcomes in sides.items():
            if which not in outcomes:
                continue
            o = outcomes[which]
            row = Row(str(path), which, side, o.status, o.line, o.message, o.field, o.expected, o.got, o.sent, o.why,
                      counters=o.counters)  # fmt: skip
            if side == "kernel" and which in sides.get("model", {}):
                row = _held_together(row, sides["model"][which], o)
            rows.append(row)
    return rows


def _held_together(row: Row, model: Any, kernel: Any) -> Row:
    """The kernel's row with what the model does differently."""
    from conformance.pkt.both import counters, difference

    apart = counters(model.counters, kernel.counters)
    return msgspec.structs.replace(row, differs=difference(model, kernel), differing_counters=apart)


def _show(rows: list[Row], counters: bool) -> None:
    for row in rows:
        both = len({r.on for r in rows}) > 1
        where = f"{row.on:6} " if both else ""
        out.print(f"{row.status:10} {where}{row.variant:6} {row.path}", markup=False)
        if row.message:
            out.print(row.message, markup=False)
        if row.differs:
            out.print(f"model and kernel differ: {row.differs}", markup=False)
        if counters and both:
            for name, model, kernel in row.differing_counters:
                out.print(f"  {name}: model {model}, kernel {kernel}", markup=False)
        elif counters:
            for name, value in sorted(row.counters.items()):
                out.print(f"  {name} {value}", markup=False)


def _summary(rows: list[Row], scripts: int) -> None:
    statuses = [r.status for r in rows]
    said = f"{len(rows)} runs of {scripts} scripts: {statuses.count('passed')} passed"
    for status in ("failed", "unmodelled", "broken", "refused", "unavailable"):
        if status in statuses:
            said += f", {statuses.count(status)} {status}"
    if any(r.on == "kernel" for r in rows) and any(r.on == "model" for r in rows):
        said += f"; model and kernel differ in {sum(bool(r.differs) for r in rows)}"
    out.print(said, markup=False)


def _status(rows: list[Row]) -> int:
    statuses = {r.status for r in rows}
    if "failed" in statuses or any(r.differs for r in rows):
        return DIVERGED
    if {"refused", "unavailable"} & statuses:
        return UNUSABLE
    return UNDECIDED if {"unmodelled", "broken"} & statuses else OK
