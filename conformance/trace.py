"""The one exchange format of runs: captures, counterexamples and live runs all become Traces.

A Trace prints as a numbered run, as a ladder between its parts, and as JSON; `conformance.script` prints it as a .pkt.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct


class Kind(StrEnum):
    """What a label is of."""

    CALL = "call"
    FRAME_IN = "frame in"
    FRAME_OUT = "frame out"
    TIMER = "timer"
    WIRE = "wire"
    HIDDEN = "hidden"


ALIEN = "peer"
"""The part that stands for whoever sends the frames that a machine without a partner receives."""


class TraceError(ValueError):
    """The text is not a Trace; says where and what was expected."""


class Label(Struct, frozen=True):
    """One step: at `time` us, `part` did or met `event`, by `rule`, of which `says` is the sentence.

    `changes` are (field, before, after), `sent` what went to other parts, `effects` what else was done.
    """

    part: str
    kind: Kind
    event: str
    time: int = 0
    rule: str = ""
    says: str = ""
    changes: tuple[tuple[str, str, str], ...] = ()
    sent: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()


class Trace(Struct, frozen=True):
    """A run of one or more parts; `bound` says how much was searched for it, `property` what it is a run of."""

    title: str
    parts: tuple[str, ...]
    labels: tuple[Label, ...]
    property: str = ""
    bound: str = ""
    version: int = 1


def to_json(trace: Trace) -> bytes:
    """The trace as JSON text."""
    return msgspec.json.format(msgspec.json.encode(trace), indent=1)


def from_json(text: bytes, name: str = "trace") -> Trace:
    """Reads `to_json`'s output; raises TraceError."""
    try:
        return msgspec.json.decode(text, type=Trace)
    except msgspec.MsgspecError as why:
        raise TraceError(f"{name}: {why}") from why


def load(path: Path) -> Trace:
    """Reads a trace from a file; raises TraceError or OSError."""
    return from_json(path.read_bytes(), str(path))


def numbered(trace: Trace) -> str:
    """The trace as a numbered run: event, rule, what changed, what was sent."""
    lines = [trace.title]
    if trace.property:
        lines.append(f"property: {trace.property}")
    if trace.bound:
        lines.append(f"searched: {trace.bound}")
    for n, x in enumerate(trace.labels, 1):
        lines.append(f"{n:3}. {x.part}: {x.event}")
        if x.rule:
            lines.append(f"     rule {x.rule}: {x.says}".rstrip(": "))
        if x.changes:
            lines.append("     " + ", ".join(f"{name} {old} -> {new}" for name, old, new in x.changes))
        lines += [f"     sends {s}" for s in x.sent]
        lines += [f"     {e}" for e in x.effects]
    return "\n".join(lines) + "\n"


def ladder(trace: Trace) -> str:
    """The trace as a ladder: one lane a part, arrows for what is sent from one to another."""
    lanes = trace.parts
    longest = max((len(s) for x in trace.labels for s in (*x.sent, x.event)), default=0)
    width = max(24, longest + 8) | 1
    lines = ["".join(p.center(width) for p in lanes).rstrip()]
    for n, x in enumerate(trace.labels, 1):
        alien = next((p for p in lanes if p != x.part), "") if len(lanes) == 2 else ""
        if x.kind is Kind.FRAME_IN and alien == ALIEN:
            lines.append(_arrow(lanes, ALIEN, x.event.removeprefix("receives "), width))
            lines.append(_lane(lanes, x.part, f"{n}. {x.rule.rsplit('.', 1)[-1]}", width))
        else:
            lines.append(_lane(lanes, x.part, f"{n}. {x.event}", width))
        for s in x.sent:
            lines.append(_arrow(lanes, x.part, s, width))
    return "\n".join(lines) + "\n"


def _lane(lanes: Sequence[str], part: str, text: str, width: int) -> str:
    k = lanes.index(part) if part in lanes else 0
    cells = ["|".center(width)] * len(lanes)
    cells[k] = text[: width - 2].center(width)
    return "".join(cells).rstrip()


def _arrow(lanes: Sequence[str], part: str, text: str, width: int) -> str:
    if len(lanes) != 2 or part not in lanes:
        return _lane(lanes, part, "sends " + text, width)
    span = width - 1
    body = f" {text} ".center(span, "-")
    body = body[:-1] + ">" if lanes.index(part) == 0 else "<" + body[1:]
    return " " * (width // 2) + "|" + body + "|"
