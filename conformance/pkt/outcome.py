"""How a run of a script ends, and what its reader is told."""

from typing import Final

from msgspec import Struct

from conformance.pkt import printer
from conformance.pkt.ast import Script
from conformance.pkt.calls import CannotCall as CannotCall
from conformance.pkt.match import Difference
from conformance.pkt.source import Pos, ScriptError

PASSED, FAILED, REFUSED, UNAVAILABLE, NOT_MODELLED, BROKEN = (
    "passed", "failed", "refused", "unavailable", "unmodelled", "broken",
)  # fmt: skip
MOST_SENT: Final = 2000  # packets that a run remembers


class Sent(Struct, frozen=True):
    """A packet that left, as the script would write it, when (us since the script's start), and the model's step."""

    time: int
    text: str
    by: str = ""


class Info(Struct, frozen=True):
    """The variables of the socket under test when the code block in `line` asked for them."""

    line: int
    values: dict[str, int]


class Returned(Struct, frozen=True):
    """What the call in `line` returned: a negative value is an errno, 0 stands for any new descriptor."""

    line: int
    call: str
    value: int


class Outcome(Struct, frozen=True):
    """How a run ended.

    `passed`; `failed` (the stack does something else); `refused` (not a script that can run here); `unavailable` (the
    run could not be set up); `unmodelled` (it needs what the model leaves out); `broken` (the model itself failed).
    `message` is the whole report; `line` where, `field`, `expected` and `got` what differs in a packet, `sent` what the
    stack sent, `why` the model's reasons. `counters` are the MIB counters that moved, `packets` what left,
    `infos` what each code block saw, `returns` what each call returned.
    """

    status: str
    line: int = 0
    message: str = ""
    field: str = ""
    expected: str = ""
    got: str = ""
    sent: str = ""
    why: str = ""
    counters: dict[str, int] = {}
    packets: tuple[Sent, ...] = ()
    infos: tuple[Info, ...] = ()
    returns: tuple[Returned, ...] = ()


class Failed(Exception):
    """The stack does something else than the script says."""

    def __init__(self, at: Pos, what: str, differs: Difference | None = None, sent: str = "", why: str = "") -> None:
        self.at, self.what, self.differs, self.sent, self.why = at, what, differs, sent, why
        super().__init__(what)


class CommandFailed(Exception):
    """A command gave a status other than zero; the message says what it said."""


class Unequal(Exception):
    """A call did something else than the script says; the message says what."""


def report(script: Script, why: Failed, who: str = "kernel") -> Outcome:
    """A failure as its reader meets it: the script's line, what `who` sent, what differs, and why."""
    event = next((e for e in script.events if e.at == why.at), None)
    line = script.source.line(why.at.line).strip() or (printer.event(event) if event else "")
    out = [f"{why.at}: {why.what}", f"  script: {line}"]
    if why.sent:
        out.append(f"  {who}: {' ' * (6 - len(who))}{why.sent}")
    if why.why:
        out.append(why.why)
    d = why.differs or Difference("", "", "")
    return Outcome(FAILED, why.at.line, "\n".join(out), d.field, d.expected, d.got, why.sent, why.why)


def refusal(why: ScriptError) -> Outcome:
    """A script that cannot be run."""
    return Outcome(REFUSED, why.at.line, str(why))
