"""The command `refmodel run`: .pkt scripts on the machine's own kernel."""

import sys
from pathlib import Path

import click
import msgspec

from conformance.console import DIVERGED, OK, STATUSES, UNDECIDED, UNUSABLE, fail, interruptible, out, progress

VARIANTS = ("ipv4", "ipv6", "mapped", "all")


class Row(msgspec.Struct, frozen=True):
    """One run of one script, as --json prints it."""

    path: str
    variant: str
    status: str
    line: int
    message: str
    field: str
    expected: str
    got: str
    sent: str


@click.command(epilog=STATUSES)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--kernel", is_flag=True, help="Run on this machine's own kernel, through a tun device (root).")
@click.option("--variant", type=click.Choice(VARIANTS), default="all", show_default=True, help="Sockets and wire.")
@click.option("--define", "-D", "defines", multiple=True, metavar="NAME=VALUE", help="Replaces a word of the script.")
@click.option("--tolerance-usecs", type=click.IntRange(min=0), help="Instead of the script's own (4000).")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@interruptible
def run(
    paths: tuple[Path, ...],
    kernel: bool,
    variant: str,
    defines: tuple[str, ...],
    tolerance_usecs: int | None,
    as_json: bool,
) -> None:
    """Run .pkt scripts (or folders of them), and report where the kernel does something else.

    Each run has a network namespace of its own, which ends with it. Shell commands and code blocks of a script are
    interpreted, never executed.

    \b
    Examples:
      refmodel run --kernel tests/scripts/connection
      refmodel run --kernel --variant ipv4 mine.pkt
    """
    if not kernel:
        fail("the whole TCP is not modelled yet: scripts run with --kernel only", UNDECIDED)
    from conformance.live.pkt_kernel import KernelUnavailable, require_kernel, run_script, scripts_in
    from conformance.live.pkt_kernel_config import Variant
    from conformance.pkt.parser import definition
    from conformance.pkt.source import ScriptError

    try:
        words = dict(definition(d) for d in defines)
        require_kernel()
        files = scripts_in(paths)
    except (ScriptError, KernelUnavailable, OSError) as why:
        fail(str(why))
    if not files:
        fail(f"no scripts (*.pkt) in {', '.join(map(str, paths))}")
    wanted = tuple(Variant) if variant == "all" else (Variant(variant),)
    rows: list[Row] = []
    with progress("running", len(files)) as step:
        for path in files:
            try:
                for which, o in run_script(path, wanted, words, tolerance_usecs):
                    rows.append(Row(str(path), which, o.status, o.line, o.message, o.field, o.expected, o.got, o.sent))
                    if not as_json:
                        out.print(f"{o.status:7} {which:6} {path}", markup=False)
                        if o.message:
                            out.print(o.message, markup=False)
            except OSError as why:
                fail(str(why))
            step(path.name)
    statuses = [r.status for r in rows]
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode() + "\n")
    else:
        out.print(f"{len(rows)} runs of {len(files)} scripts: {statuses.count('passed')} passed")
    if "failed" in statuses:
        sys.exit(DIVERGED)
    sys.exit(UNUSABLE if {"refused", "unavailable"} & set(statuses) else OK)
