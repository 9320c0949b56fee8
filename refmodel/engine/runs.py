"""Runs: what a search hands back, step by step, for a person to read and for other tools to replay."""

from collections.abc import Iterable
from enum import Enum
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from refmodel.types import NEVER


class Change(Struct, frozen=True):
    """One field of a state, before and after a step."""

    field: str
    before: Any
    after: Any


class RunStep(Struct, frozen=True, kw_only=True):
    """One step of a run.

    `kind` is "move" (an event of the component's own environment), "deliver" (a message arrives), "deliver copy" (it
    arrives and a duplicate stays on the wire) or "lose" (the wire loses it: no rule, no change). `before` and `after`
    are the component's states, `sent` the messages that the step put on wires, each with its wire's name.
    """

    component: str
    kind: str
    event: Any
    rule: str = ""
    says: str = ""
    before: Any = None
    after: Any = None
    effects: tuple[Any, ...] = ()
    sent: tuple[tuple[str, Any], ...] = ()
    wire: str = ""

    @property
    def changed(self) -> tuple[Change, ...]:
        """The fields that the step changed; a change of the state's type comes first."""
        return tuple(changes(self.before, self.after))

    def text(self) -> str:
        """The step in a few lines: event, rule, what changed, what was sent."""
        via = f" from {self.wire}" if self.wire else ""
        head = {"move": "", "deliver": f"receives{via} ", "deliver copy": f"receives{via}, a copy stays, "}
        if self.kind == "lose":
            return f"{self.component}: the wire {self.wire} loses {brief(self.event)}"
        lines = [f"{self.component}: {head[self.kind]}{brief(self.event)}"]
        lines.append(f"     rule {self.rule}: {self.says}" if self.rule else "     no rule")
        shown = [f"{c.field} {brief(c.before)} -> {brief(c.after)}" for c in self.changed]
        lines += [f"     {', '.join(shown)}"] if shown else []
        lines += [f"     {brief(x)}" + (f"  [{x.by}]" if getattr(x, "by", "") else "") for x in self.effects]
        return "\n".join(lines)


class Run(Struct, frozen=True, kw_only=True):
    """A run from the start of a system: the shortest way to what `title` says."""

    system: str
    title: str
    start: tuple[tuple[str, Any], ...]
    steps: tuple[RunStep, ...]

    def text(self) -> str:
        """The numbered run."""
        lines = [f"{self.title} ({len(self.steps)} steps, {self.system})"]
        lines += [f"  0. {name} starts as {brief(state)}" for name, state in self.start]
        lines += [f"{n:3}. {s.text()}" for n, s in enumerate(self.steps, 1)]
        return "\n".join(lines)

    def builtins(self) -> dict[str, Any]:
        """The run as dicts, lists and scalars: structs carry their type's name under "type", enums are names."""
        return {
            "system": self.system,
            "title": self.title,
            "start": {name: plain(state) for name, state in self.start},
            "steps": [plain(s) | {"changed": plain(s.changed)} for s in self.steps],
        }

    def json(self) -> bytes:
        """The run as JSON."""
        return msgspec.json.format(msgspec.json.encode(self.builtins()))


def plain(value: Any) -> Any:
    """`value` in JSON's types: a struct becomes a dict with "type", an enum its name, a tuple a list."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Struct):
        return {"type": type(value).__name__} | {k: plain(v) for k, v in asdict(value).items()}
    if isinstance(value, tuple | list | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return value


def brief(value: Any) -> str:
    """`value` for a line of text: a struct shows its fields that differ from their defaults."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Struct):
        shown = [f"{n}={brief(v)}" for n, v in _told(value)]
        return f"{type(value).__name__}({', '.join(shown)})"
    if isinstance(value, tuple):
        return "(" + ", ".join(brief(v) for v in value) + ")"
    if isinstance(value, int) and not isinstance(value, bool) and value >= NEVER:
        return "never"
    return str(value)


def _told(value: Struct) -> Iterable[tuple[str, Any]]:
    for f in msgspec.structs.fields(type(value)):
        v = getattr(value, f.name)
        if f.name != "by" and (f.required or v != f.default):
            yield f.name, v


def changes(before: Any, after: Any, prefix: str = "") -> Iterable[Change]:
    """Field by field what differs; states of different types differ in "type" and are not compared further."""
    if type(before) is not type(after):
        yield Change(prefix + "type", type(before).__name__, brief(after))
        return
    if not isinstance(before, Struct):
        if before != after:
            yield Change(prefix.rstrip("."), before, after)
        return
    for name in before.__struct_fields__:
        b, a = getattr(before, name), getattr(after, name)
        if b == a:
            continue
        if isinstance(b, Struct) and isinstance(a, Struct):
            yield from changes(b, a, f"{prefix}{name}.")
        else:
            yield Change(prefix + name, b, a)
