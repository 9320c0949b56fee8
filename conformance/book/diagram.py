"""A machine's diagram: its places and the moves between them, laid out by Graphviz."""

import shutil
import subprocess
from collections import defaultdict

from conformance.report.machine import MOVES
from refmodel.engine.moves import moves
from refmodel.rule import Machine


def edges(machine: Machine) -> dict[tuple[str, str], list[str]]:
    """What leads from one place to another: names of rules, or for TCP what RFC 9293 calls it."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    if machine.name == "tcp":
        for source, target, why in MOVES:
            found[source, target].append(why)
        return found
    for m in moves(machine):
        name = m.rule.rsplit(".", 1)[-1]
        if name not in found[m.source, m.target]:
            found[m.source, m.target].append(name)
    return found


def dot(machine: Machine) -> str:
    """The diagram in Graphviz' language; a move to the same place is left out, but of a machine with one place."""
    found = edges(machine)
    places = {p for edge in found for p in edge}
    short = {p: p.split(".", 1)[-1] for p in places}
    if len(set(short.values())) < len(places):
        short = {p: p for p in places}
    out = [
        f'digraph "{machine.name}" {{',
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor="#eef2ff", fontname="sans-serif", fontsize=11];',
        '  edge [fontname="sans-serif", fontsize=9, color="#475569"]; bgcolor="transparent";',
    ]
    out += [f'  "{short[p]}";' for p in sorted(places)]
    for (source, target), names in sorted(found.items()):
        if source == target and len(places) > 1:
            continue
        label = "\\n".join(names[:4]) + (f"\\nand {len(names) - 4} more" if len(names) > 4 else "")
        out.append(f'  "{short[source]}" -> "{short[target]}" [label="{label}"];')
    return "\n".join([*out, "}"]) + "\n"


def svg(machine: Machine) -> str | None:
    """The diagram as SVG without its prologue; None where Graphviz is not installed."""
    program = shutil.which("dot")
    if program is None:
        return None
    p = subprocess.run([program, "-Tsvg"], input=dot(machine), capture_output=True, text=True, timeout=120, check=True)
    return p.stdout[p.stdout.index("<svg") :]
