"""One self-contained HTML page for a run: verdicts, ladders, plots, the state machine, coverage.

The page's table is plain JSON in the page. What belongs to one subject is packed, many subjects a pack, and unpacked by
the browser when the subject is opened. Nothing is loaded from anywhere, which the page's own policy forbids.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec
from jinja2 import DictLoader, Environment, StrictUndefined
from msgspec import Struct

from conformance.check.verdict import FileReport, FrameLabel, Outcome, Verdict
from conformance.report.clean import cleaned
from conformance.report.coverage import Fired, coverage
from conformance.report.drawing import AROUND, Drawing, drawings, room_for
from conformance.report.machine import MOVES, Visits, together, visits
from conformance.report.source import citation, ident, says, violated
from refmodel import __version__

PACK: Final = 50  # subjects
BARE: Final = 2_000  # labels of a subject of which no frame is drawn
SCRIPTS: Final = ("base.js", "list.js", "ladder.js", "plot.js", "machine.js", "subject.js", "main.js")
OUTCOMES: Final = tuple(Outcome)


class Row(Struct, array_like=True):
    """A subject in the table; `file`, `outcome`, `hosts` and `names` are indices into the run's lists."""

    file: int
    layer: str
    subject: str
    outcome: int
    reason: str
    hosts: list[int]
    names: list[int]
    frames: int


class Name(Struct, array_like=True):
    """What a label calls its rule or step, with the id that this has in the registry, sentence and citations."""

    name: str
    id: str
    says: str
    cites: str


class Near(Struct, array_like=True):
    """A near miss, with the rule's citations."""

    rule: str
    cites: str
    why: str


class Detail(Struct, omit_defaults=True):
    """What the page shows of one subject. `labels` are [frame, host, name of by, name of step or -1, note, state].

    `labelled` and `happened` count the labels and the hidden events that there are, shown or not.
    """

    drawing: Drawing
    labels: list[tuple[int, int, int, int, str, str]]
    visits: Visits
    divergence: dict[str, Any] | None = None
    violated: str = ""
    near: list[Near] = []
    inferred: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    unmodelled: dict[str, int] = {}
    counters: dict[str, dict[str, tuple[int, int]]] = {}
    unit: str = "frame"
    labelled: int = 0
    happened: int = 0


class _Table:
    """Texts that many subjects share, by number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __getitem__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


class _Run:
    """A run while its page is put together."""

    def __init__(self, reports: Sequence[FileReport]) -> None:
        self.reports = reports
        self.clean = [cleaned(r) for r in reports]
        self.room = room_for(reports)
        self.hosts = _Table()
        self.names = _Table()
        self.rows: list[Row] = []
        self.visits: list[Visits] = []

    def details(self) -> Iterator[Detail]:
        """The subjects in the order of the rows, which are made on the way."""
        for k, (report, clean) in enumerate(zip(self.reports, self.clean, strict=True)):
            found, _ = drawings(report, self.room)
            for v, drawing in zip(clean.verdicts, found, strict=True):
                yield self._detail(k, v, drawing)

    def _detail(self, file: int, v: Verdict, drawing: Drawing) -> Detail:
        hosts = dict.fromkeys(self.hosts[x.host] for x in v.labels)
        if v.divergence is not None and v.divergence.host:
            hosts[self.hosts[v.divergence.host]] = None
        names = dict.fromkeys(self.names[n] for x in v.labels for n in (x.by, x.step) if n)
        frames = drawing.total or len({x.number for x in v.labels})
        outcome = OUTCOMES.index(v.outcome)
        self.rows.append(Row(file, v.layer, v.subject, outcome, v.reason, list(hosts), list(names), frames))
        seen = visits(v.labels)
        self.visits.append(seen)
        near = v.divergence.near if v.divergence is not None else ()
        return Detail(
            drawing=drawing,
            labels=[self._label(x) for x in _shown(v.labels, drawing)],
            visits=seen,
            divergence=msgspec.to_builtins(v.divergence) if v.divergence is not None else None,
            violated=violated(v.divergence.constraint) if v.divergence is not None and v.divergence.constraint else "",
            near=[Near(n.rule, citation(n.rule), n.why) for n in near],
            inferred=v.inferred,
            events=v.events[: 2 * self.room],
            unmodelled=v.unmodelled,
            counters=v.counters,
            unit="line" if v.layer == "nic" else "frame",
            labelled=len(v.labels),
            happened=len(v.events),
        )

    def _label(self, x: FrameLabel) -> tuple[int, int, int, int, str, str]:
        step = self.names[x.step] if x.step and x.step != x.by else -1
        return x.number, self.hosts[x.host], self.names[x.by], step, x.note, x.state

    def index(self) -> dict[str, Any]:
        """What the page knows before a subject is opened."""
        fired: list[Fired] = coverage(v for r in self.clean for v in r.verdicts)
        return {
            "version": __version__,
            "outcomes": OUTCOMES,
            "files": [(r.path, r.profile, r.frames, r.error, r.notices) for r in self.clean],
            "hosts": list(self.hosts.numbers),
            "names": [Name(n, ident(n), says(n), citation(n)) for n in self.names.numbers],
            "rows": self.rows,
            "coverage": fired,
            "visits": together(self.visits),
            "moves": MOVES,
            "pack": PACK,
            "room": self.room,
            "around": AROUND,
        }


def _shown(labels: Sequence[FrameLabel], drawing: Drawing) -> Iterator[FrameLabel]:
    """The labels of the frames that are drawn; all of them up to a bound where no frame is."""
    if not drawing.frames:
        yield from labels[:BARE]
        return
    drawn = {d.number for d in drawing.frames}
    yield from (x for x in labels if x.number in drawn)


def html(reports: Sequence[FileReport]) -> str:
    """The page. Captures are read again for it; one that cannot be any more is shown without its frames."""
    run = _Run(reports)
    packs = list(_packs(run.details()))
    page = files("conformance.report") / "page"
    env = Environment(
        loader=DictLoader({"page": (page / "page.html").read_text(encoding="utf-8")}),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return env.get_template("page").render(
        style=(page / "style.css").read_text(encoding="utf-8"),
        script="\n".join((page / s).read_text(encoding="utf-8") for s in SCRIPTS),
        run=_inert(msgspec.json.encode(run.index()).decode()),
        packs=packs,
        version=__version__,
    )


def _inert(json: str) -> str:
    """JSON that cannot end the script element which holds it."""
    return json.replace("<", "\\u003c")


def _packs(details: Iterable[Detail]) -> Iterator[str]:
    """Details in groups of PACK, each as JSON, deflated, in base 64."""
    group: list[Detail] = []
    for d in details:
        group.append(d)
        if len(group) == PACK:
            yield _packed(group)
            group = []
    if group:
        yield _packed(group)


def _packed(group: Sequence[Detail]) -> str:
    return base64.b64encode(zlib.compress(msgspec.json.encode(group), 6)).decode("ascii")
