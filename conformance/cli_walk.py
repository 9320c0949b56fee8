"""`refmodel walk`: one packet through the stack, on the model or on the running kernel."""

import os
import sys
from pathlib import Path

import click

from conformance.console import DIVERGED, OK, STATUSES, fail, interruptible, out
from refmodel.profile import KERNELS, REFERENCE

GROUPS = ("send", "recv", "forward")
ON_KERNEL = {
    "send": "tcp_veth",
    "veth": "tcp_veth",
    "recv": "tcp_veth_napi",
    "forward": "forward",
    "nat": "masquerade",
    "ttl": "forward_expired",
    "udp": "udp_veth",
    "fragment": "fragments",
    "first-contact": "first_contact",
    "loopback": "tcp_lo",
    "connect": "tcp_connect",
    "tun": "unread_tun",
    "stopped": "stopped_queue",
    "backlog": "backlog_full",
}
"""Which of the cases that can be played on a kernel shows a walk; a machine without a card of its own has veth."""


def beside_kernel(name: str, detail: bool) -> int:
    """Plays a walk's case on the running kernel and on its model, and shows both: the exit status."""
    from conformance.live import walk_check, walk_model, walk_record
    from conformance.live.walk_compare import version_of
    from conformance.live.walk_trace import TraceError
    from conformance.walks.draw import text

    case = ON_KERNEL.get(name, name.replace("-", "_"))
    both = [c for c in walk_record.CASES if c in walk_model.CASES]
    if case not in both:
        fail(f"{name!r} cannot be played on the running kernel beside the model; these can: {', '.join(both)}")
    if os.geteuid() != 0:
        fail("watching the kernel needs root: it reads tracepoints and makes network namespaces")
    try:
        [(seen, comparison)] = walk_check.live([case])
    except (TraceError, OSError) as e:
        fail(f"the kernel cannot be watched: {e}")
    sys.stdout.write(text(walk_model.CASES[case](version_of(seen)), detail))
    out.print(f"\nLinux {seen.release}, {case}:", markup=False)
    start = seen.calls[0].time if seen.calls else 0
    for call in seen.calls:
        chain = " > ".join(call.chain)
        out.print(f"{(call.time - start) / 1e6:10.3f} ms  {call.context:<8} {call.event}: {chain}", markup=False)
    out.print()
    return OK if walk_check.show(seen, comparison) else DIVERGED


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
@click.option("--kernel", "live", is_flag=True, help="Record the same on the running kernel (root), and show both.")
@click.option("--profile", type=click.Choice(KERNELS), default=REFERENCE, show_default=True, help="Kernel version.")
@interruptible
def walk(name: str | None, listing: bool, kind: str, path: Path | None, detail: bool, live: bool, profile: str) -> None:
    """Follows one packet: every step with its context, layer, kernel function, decision and reason.

    WALK is send, recv, forward, or another of --list. With --kernel each event of the kernel's walk is shown with its
    call chain, and must stand at the same place and in the same order in the model's.
    """
    if live and name is not None:
        sys.exit(beside_kernel(name, detail))
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
