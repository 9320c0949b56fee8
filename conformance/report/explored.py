"""What a search found, for a person and for other tools: numbered runs, ladders, traces in JSON, .pkt scripts."""

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape

from conformance.report import words
from conformance.script import NotAScript, to_pkt
from conformance.trace import ALIEN, Kind, Label, Trace, ladder, numbered, to_json
from refmodel.engine.explore import Finding, Result
from refmodel.engine.runs import Run, RunStep, brief
from refmodel.rule import Mib
from refmodel.systems import Entry
from refmodel.tcp.events import Call, Seg, Tx


def trace_of(run: Run, bound: str = "") -> Trace:
    """The run as a Trace. A machine that is alone with its environment gets a lane for the peer that it talks to."""
    parts = tuple(name for name, _ in run.start)
    alone = len(parts) == 1 and any(isinstance(s.event, Seg) or _segments(s) for s in run.steps)
    labels = tuple(_label(s, alone) for s in run.steps)
    return Trace(run.system, (*parts, ALIEN) if alone else parts, labels, run.title, bound)


def _segments(step: RunStep) -> list[Any]:
    return [x for x in step.effects if isinstance(x, Tx)]


def _label(step: RunStep, alone: bool) -> Label:
    said = words.event(step.event)
    if step.kind == "lose":
        return Label(step.component, Kind.WIRE, f"{said} from {step.wire.split('->')[0]} is lost", _time(step.event))
    kind = _kind(step)
    if kind is Kind.FRAME_IN:
        said = f"receives {said}" + (", a copy stays on the wire" if step.kind == "deliver copy" else "")
    sent = [m for _, m in step.sent] or (_segments(step) if alone else [])
    return Label(
        part=step.component,
        kind=kind,
        event=said,
        time=_time(step.event),
        rule=step.rule,
        says=step.says,
        changes=tuple((c.field, brief(c.before), brief(c.after)) for c in step.changed),
        sent=tuple(words.effect(m) for m in sent),
        effects=tuple(brief(x) for x in step.effects if not isinstance(x, Mib | Tx)),
    )


def _time(event: Any) -> int:
    return int(getattr(event, "now", 0))


def _kind(step: RunStep) -> Kind:
    if step.kind.startswith("deliver") or isinstance(step.event, Seg):
        return Kind.FRAME_IN
    if isinstance(step.event, Call):
        return Kind.CALL
    return Kind.TIMER if type(step.event).__name__.endswith("Timer") else Kind.HIDDEN


def print_result(result: Result, to: Console) -> None:
    """Prints what was covered, and each finding as a numbered run and, where parts talk to each other, a ladder."""
    for line in covered(result):
        to.print(escape(line))
    for f in result.findings:
        trace = trace_of(f.run)
        to.print(f"[red]found: {f.kind}[/] {escape(f.id if f.id not in f.run.title else '')}".rstrip())
        to.print(escape(numbered(trace)), end="")
        if any(x.sent for x in trace.labels):
            to.print("\n" + escape(ladder(trace)), end="")
    for u in result.undecided:
        to.print(f"[yellow]undecided:[/] {escape(u)}")
    if not result.findings and not result.undecided:
        to.print("[green]nothing wrong found[/] within what was covered")


def covered(result: Result) -> Iterator[str]:
    """What a search covered, its bound, and what it asked, in lines."""
    rate = result.states / result.seconds if result.seconds else 0.0
    how = {
        "exhausted": f"all states within the bound, {result.depth} steps deep",
        "found": f"stopped at what was found, {result.depth} whole levels deep",
        "interrupted": f"interrupted after {result.depth} whole levels",
    }.get(result.stopped, f"not all: the limit was reached ({result.stopped}) after {result.depth} whole levels")
    yield (
        f"{result.system}: {result.states:,} states, {result.edges:,} moves in {result.seconds:.1f} s "
        f"({rate:,.0f} states/s)"
    )
    yield f"  covered: {how}"
    yield f"  bound: {result.bound}"
    asked = ["every rule's guard, every invariant and transition property", *result.checked]
    yield f"  asked: {'; '.join(asked)}"
    if result.cut:
        yield f"  {result.cut:,} states had a move that a full lossless wire forbade"
    if result.skipped:
        yield f"  {result.skipped:,} local steps are ruled out by assumptions"


def as_builtins(result: Result, saved: list[str]) -> dict[str, Any]:
    """The result in JSON's types; each finding carries its run as a Trace."""
    said: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(result, findings=(), rules=frozenset()))
    found = [
        {
            "kind": f.kind,
            "id": f.id,
            "says": f.says,
            "component": f.component,
            "trace": msgspec.to_builtins(trace_of(f.run, result.bound)),
        }
        for f in result.findings
    ]
    return said | {"findings": found, "rules": sorted(result.rules), "saved": saved}


def save(result: Result, name: str, folder: Path) -> tuple[list[Path], list[str]]:
    """Writes each finding as `<system>-<what>.json` and, if it drives TCP, as `.pkt`; gives paths and what failed.

    Raises OSError if the folder cannot be written.
    """
    paths: list[Path] = []
    notes: list[str] = []
    for f in result.findings:
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{name}-{slug(f.id)}"
        json = stem.with_name(stem.name + ".json")
        json.write_bytes(to_json(trace_of(f.run, result.bound)))
        paths.append(json)
        if name.startswith("tcp"):
            try:
                text = to_pkt(f.run, component_of(f))
            except NotAScript as why:
                notes.append(f"no .pkt: {why}")
                continue
            pkt = stem.with_name(stem.name + ".pkt")
            pkt.write_text(text, encoding="utf-8")
            paths.append(pkt)
    return paths, notes


def component_of(f: Finding) -> str:
    """The part that a script should drive: the one whose step is wrong, else the one that took the last step."""
    steps = [s for s in f.run.steps if s.kind != "lose"]
    return f.component or (steps[-1].component if steps else f.run.start[0][0])


def shown_bounds(entry: Entry) -> dict[str, Any]:
    """The bounds of a system that a command line can set."""
    return {n: v for n, v in entry.bounds.items() if isinstance(v, bool | int | str) and not isinstance(v, Enum)}


def print_catalogue(entries: Iterable[Entry], to: Console) -> None:
    """Prints each system: its name, its sentence, its bounds and the question that it is usually asked."""
    for e in entries:
        to.print(f"[bold]{e.name}[/]: {escape(e.says)}")
        to.print(f"    bounds: {', '.join(f'{n}={v}' for n, v in shown_bounds(e).items())}", markup=False)
        if e.goal:
            to.print(f"    goal: {e.goal}", markup=False)


def slug(text: str) -> str:
    """A finding's id as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text.removeprefix("tcp.")).strip("-").lower()[:48].rstrip("-")
