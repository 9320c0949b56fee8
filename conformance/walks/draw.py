"""A walk as text, JSON, Mermaid, SVG and HTML."""

from collections.abc import Callable
from html import escape
from typing import Final

import msgspec

from conformance.walks.shown import Shown, lanes, said, shown
from refmodel.walk import Walk

LANE: Final = 132  # px
ROW: Final = 26
HEAD: Final = 46
LEFT: Final = 96
NOTE: Final = 430
COLOURS: Final = ("#dbeafe", "#dcfce7", "#fef9c3", "#fee2e2", "#ede9fe", "#e0f2fe", "#fae8ff", "#ecfccb")


def text(walk: Walk, detail: bool = False) -> str:
    """Indented lines: when, in which context, function, decision; a line of its own where host or context change."""
    out = [walk.title, ""] if walk.title else []
    rows = shown(walk, detail)
    start = rows[0].step.now if rows else 0
    place: tuple[str, str] | None = None
    for r in rows:
        s = r.step
        if (s.host, s.context) != place:
            place = (s.host, s.context)
            out.append(f"{(s.now - start) / 1000:10.3f} ms  {s.host}, {s.context}")
        told = said(s)
        out.append(f"    {r.lane:<12} {' ' * r.indent}{s.function}{': ' + told if told else ''}")
    return "\n".join(out) + "\n"


def json(walk: Walk, detail: bool = False) -> str:
    """The walk as it was recorded, all steps."""
    return msgspec.json.format(msgspec.json.encode(walk), indent=1).decode() + "\n"


def mermaid(walk: Walk, detail: bool = False) -> str:
    """A Mermaid sequence diagram, one participant a lane; contexts are notes over all lanes."""
    rows = shown(walk, detail)
    names = lanes(rows)
    ident = {lane: f"L{i}" for i, lane in enumerate(names)}
    out = ["sequenceDiagram"]
    if walk.title:
        out.insert(0, f"---\ntitle: {_plain(walk.title)}\n---")
    out += [f"    participant {ident[lane]} as {lane}" for lane in names]
    place: tuple[str, str] | None = None
    for r in rows:
        s = r.step
        if (s.host, s.context) != place:
            place = (s.host, s.context)
            ends = ident[names[0]] + ("," + ident[names[-1]] if len(names) > 1 else "")
            out.append(f"    Note over {ends}: {_plain(s.host)}, {_plain(s.context)}")
        source = ident[r.caller or r.lane]
        out.append(f"    {source}->>{ident[r.lane]}: {s.function}")
        told = said(s)
        if told:
            out.append(f"    Note right of {ident[r.lane]}: {_plain(told)}")
    return "\n".join(out) + "\n"


def _plain(s: str) -> str:
    """Text that Mermaid takes for nothing else."""
    return s.replace(";", ",").replace("#", "no. ").replace("\n", " ").replace("%", " percent")


def svg(walk: Walk, detail: bool = False) -> str:
    """The sequence diagram as an SVG of its own: contexts at the left edge, decisions at the right."""
    rows = shown(walk, detail)
    names = lanes(rows)
    at = {lane: LEFT + LANE * i + LANE // 2 for i, lane in enumerate(names)}
    right = LEFT + LANE * len(names)
    width, height = right + NOTE, HEAD + ROW * (len(rows) + 1)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="11" role="img">',
        f"<title>{escape(walk.title or 'a walk')}</title>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#334155"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    out += _bands(rows, width)
    for lane, x in at.items():
        out.append(f'<line x1="{x}" y1="{HEAD}" x2="{x}" y2="{height}" stroke="#cbd5e1"/>')
        out.append(f'<text x="{x}" y="{HEAD - 14}" text-anchor="middle" font-weight="600">{escape(lane)}</text>')
    for i, r in enumerate(rows):
        y = HEAD + ROW * i + ROW - 8
        x, x0 = at[r.lane], at[r.caller or r.lane]
        name = escape(r.step.function)
        out.append(f"<g><title>{escape(f'{r.step.file}:{r.step.function}')}</title>")
        if x == x0:
            out.append(f'<circle cx="{x}" cy="{y}" r="3" fill="#334155"/>')
            out.append(f'<text x="{x + 7}" y="{y + 4}">{name}</text>')
        else:
            out.append(f'<line x1="{x0}" y1="{y}" x2="{x}" y2="{y}" stroke="#334155" marker-end="url(#a)"/>')
            out.append(f'<text x="{(x + x0) / 2:.0f}" y="{y - 3}" text-anchor="middle">{name}</text>')
        told = said(r.step)
        if told:
            short = told if len(told) < 78 else told[:75] + "..."
            out.append(f'<text x="{right + 6}" y="{y + 4}" fill="#475569">{escape(short)}</text>')
        out.append("</g>")
    return "\n".join([*out, "</svg>"]) + "\n"


def _bands(rows: list[Shown], width: int) -> list[str]:
    """A coloured band behind the steps of each stay in one context."""
    out: list[str] = []
    colours: dict[str, str] = {}
    i = 0
    while i < len(rows):
        place = (rows[i].step.host, rows[i].step.context)
        j = i
        while j < len(rows) and (rows[j].step.host, rows[j].step.context) == place:
            j += 1
        colour = colours.setdefault(place[1], COLOURS[len(colours) % len(COLOURS)])
        y = HEAD + ROW * i
        out.append(f'<rect x="0" y="{y}" width="{width}" height="{ROW * (j - i)}" fill="{colour}" opacity="0.55"/>')
        out.append(f'<text x="6" y="{y + 14}" fill="#0f172a">{escape(place[0])}</text>')
        if j - i > 1:
            out.append(f'<text x="6" y="{y + 28}" fill="#475569">{escape(place[1])}</text>')
        i = j
    return out


def html(walk: Walk, detail: bool = False) -> str:
    """A page of its own: the diagram, and a table of all steps that can be filtered."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(loader=PackageLoader("conformance.walks"), autoescape=True, undefined=StrictUndefined)
    page = env.get_template("walk.html")
    return page.render(walk=walk, svg=svg(walk, detail), rows=shown(walk, True), said=said, main=shown(walk, False))


FORMATS: Final[dict[str, Callable[[Walk, bool], str]]] = {
    "text": text,
    "json": json,
    "mermaid": mermaid,
    "svg": svg,
    "html": html,
}
