"""Which captures and scripts fire each rule and step: the shipped ones, followed once."""

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from msgspec import Struct

from conformance.report.source import ident
from refmodel.rule import STEPS

Step = Callable[[str], None]


class Fired(Struct):
    """By id of a rule or step: the names of captures whose frames it sent, of scripts and walks in which it ran."""

    captures: dict[str, set[str]]
    scripts: dict[str, set[str]]
    walks: dict[str, set[str]]


def in_captures(folder: Path, tell: Step) -> dict[str, set[str]]:
    """The labels of every shipped capture."""
    from conformance.check.capture import check_capture

    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.glob("*.pcapng")):
        tell(path.name)
        for v in check_capture(path, labelled=True).verdicts:
            for x in v.labels:
                for name in {x.by, x.step} - {""}:
                    found[ident(name)].add(path.stem)
    return found


def in_scripts(folder: Path, tell: Step) -> dict[str, set[str]]:
    """The cited functions that ran in each script, in its first variant."""
    from conformance.pkt.model_run import run_script
    from conformance.pkt.variant import Variant

    known: dict[CodeType, str] = {s.fn.__code__: s.id for s in STEPS.values()}
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.rglob("*.pkt")):
        name = str(path.relative_to(folder).with_suffix(""))
        tell(name)
        ran: set[str] = set()

        def event(frame: FrameType, what: str, _: Any, ran: set[str] = ran) -> None:
            if what == "call" and frame.f_code in known:
                ran.add(known[frame.f_code])

        sys.setprofile(event)
        try:
            for _ in run_script(path, (Variant.IPV4,)):
                pass
        finally:
            sys.setprofile(None)
        for one in ran:
            found[one].add(name)
    return found


def in_walks(tell: Step) -> dict[str, set[str]]:
    """The cited functions and the rules of every walk."""
    from refmodel.host.walks import SCENARIOS, make

    found: dict[str, set[str]] = defaultdict(set)
    for name in SCENARIOS:
        tell(name)
        for step in make(name):
            found[step.id].add(name)
            for rule in step.rules:
                found[rule].add(name)
    return found
