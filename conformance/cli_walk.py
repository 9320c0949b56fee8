"""`refmodel walk`: one packet through the stack, on the model or on the running kernel."""

import sys
from pathlib import Path

import click

from conformance.console import STATUSES, fail, interruptible, out
from refmodel.profile import KERNELS, REFERENCE

GROUPS = ("send", "recv", "forward")


@click.command(epilog=STATUSES)
@click.argument("name", required=False, metavar="WALK")
@click.option("--list", "listing", is_flag=True, help="List the walks.")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["text", "json", "mermaid", "svg", "html"]),
    default="text",
    show_default=True,
    help="What to write: text, or a sequence diagram with one lane a layer.",
)
@click.option("--out", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write there.")
@click.option("--detail", is_flag=True, help="Show every call, not only those that decide.")
@click.option("--profile", type=click.Choice(KERNELS), default=REFERENCE, show_default=True, help="Kernel version.")
@interruptible
def walk(name: str | None, listing: bool, kind: str, path: Path | None, detail: bool, profile: str) -> None:
    """Follows one packet: every step with its context, layer, kernel function, decision and reason.

    WALK is send, recv, forward, or another of --list.
    """
    from conformance.walks.draw import FORMATS
    from refmodel.host.walks import SCENARIOS, make

    if listing or name is None:
        for s in sorted(SCENARIOS.values(), key=lambda s: (GROUPS.index(s.group), s.name not in GROUPS)):
            out.print(f"[bold]{s.name:<16}[/] {s.says}")
        return
    if name not in SCENARIOS:
        fail(f"no walk is called {name!r}; there are {', '.join(SCENARIOS)}")
    shown = FORMATS[kind](make(name, profile), detail)
    if path is None:
        sys.stdout.write(shown)
        return
    try:
        path.write_text(shown, encoding="utf-8")
    except OSError as e:
        fail(f"{path}: {e.strerror}")
