"""Writes the book's pages as Markdown, and the configuration of the site."""

import inspect
import re
from collections.abc import Iterable
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Final

from conformance.book.chapters import CHAPTERS, Chapter, chapter_of
from conformance.book.diagram import edges, svg
from conformance.book.fired import Fired
from conformance.walks.draw import svg as walk_svg
from conformance.walks.shown import said, shown
from refmodel.host.walks import SCENARIOS, make
from refmodel.rows import ROWS
from refmodel.rule import MACHINES, PROPERTIES, RULES, STEPS, Machine, Property, Rule, Step

SHOWN: Final = 6  # captures, scripts or walks named beside a rule

CONFIG: Final = """site_name: refmodel
site_description: An executable reference model of Linux's TCP/IP stack
docs_dir: docs
site_dir: site
use_directory_urls: false
theme:
  name: material
  font: false
  features: [navigation.indexes, navigation.top, toc.follow, search.suggest]
  palette:
    - media: "(prefers-color-scheme: light)"
      scheme: default
    - media: "(prefers-color-scheme: dark)"
      scheme: slate
markdown_extensions: [attr_list, md_in_html, tables, toc]
plugins: [search]
validation:
  links: {not_found: warn, anchors: warn, unrecognized_links: warn}
nav:
"""


def module_of(ident: str) -> str:
    """The module of a rule, step or property by its id."""
    return "refmodel." + ident.rsplit(".", 1)[0]


def anchor(ident: str) -> str:
    """An anchor for an id."""
    return re.sub(r"[^a-z0-9]+", "-", ident.lower()).strip("-")


def plain(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)


def cites(kernel: Iterable[str], rfc: Iterable[str]) -> str:
    """Citations in a line."""
    return ", ".join([*(f"`{k}`" for k in kernel), *rfc])


def where(names: set[str], what: str) -> str:
    """How many captures, scripts or walks there are, and the first of them."""
    if not names:
        return ""
    some = sorted(names)
    rest = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return f"{len(some)} {what}{'s' if len(some) > 1 else ''} ({', '.join(some[:SHOWN])}{rest})"


def fires(ident: str, fired: Fired) -> str:
    """What was seen to fire a rule or step."""
    found = [
        where(fired.captures.get(ident, set()), "capture"),
        where(fired.scripts.get(ident, set()), "script"),
        where(fired.walks.get(ident, set()), "walk"),
    ]
    return "; ".join(x for x in found if x)


def rule_text(r: Rule, fired: Fired) -> str:
    """One rule: its sentence, where it applies, its sources, what fires it."""
    lines = [f"#### `{r.id}` {{ #{anchor(r.id)} }}", "", plain(r.says), ""]
    if r.at:
        lines.append(f"- at {', '.join(f'`{a.name}`' for a in r.at)}, by `{r.event.__name__}`")
    else:
        lines.append(f"- by `{r.event.__name__}`")
    lines.append(f"- {cites(r.kernel, r.rfc)}")
    if r.since or r.until:
        lines.append(f"- {f'since {r.since}' if r.since else ''} {f'until {r.until}' if r.until else ''}".rstrip())
    if r.deviates:
        lines.append(f"- deviates: {plain(r.deviates)}")
    seen = fires(r.id, fired)
    if seen:
        lines.append(f"- fired by {seen}")
    return "\n".join([*lines, ""])


def step_row(s: Step, fired: Fired) -> str:
    """One function in a table."""
    name = s.id.rsplit(".", 1)[-1]
    mark = f"<span id='{anchor(s.id)}'></span>"
    return f"| {mark}`{name}` | {plain(s.says)} | {cites(s.kernel, s.rfc)} | {fires(s.id, fired)} |"


def property_row(q: Property) -> str:
    """One property in a table."""
    at = ", ".join(a.name for a in q.at)
    told = "false of Linux: " + plain(q.falsified) if q.falsified else "assumed" if q.kind == "assumption" else "proved"
    return f"| `{q.id.rsplit('.', 1)[-1]}` | {q.kind} | {at} | {plain(q.says)} | {told} |"


def machine_text(m: Machine) -> str:
    """A machine: its title, its diagram, what is always true of it."""
    picture = svg(m)
    lines = [
        f"### Machine {m.name} {{ #machine-{anchor(m.name)} }}",
        "",
        f"{plain(m.title)}. {len(m.rules)} rules.",
        "",
    ]
    if picture is not None:
        lines += [f'<div class="machine" markdown="0">{picture}</div>', ""]
    else:
        lines += ["| from | to | by |", "| --- | --- | --- |"]
        lines += [f"| {a} | {b} | {', '.join(names)} |" for (a, b), names in sorted(edges(m).items())]
        lines.append("")
    properties = [q for kind in ("invariant", "transition", "assumption") for q in m.properties(kind)]
    if properties:
        lines += ["| property | kind | at | says | |", "| --- | --- | --- | --- | --- |"]
        lines += [property_row(q) for q in properties]
        lines.append("")
    return "\n".join(lines)


def chapter_text(c: Chapter, fired: Fired) -> str:
    """A chapter: what its packages say of themselves, machines, rules, functions."""
    modules = sorted(
        {m for m in map(module_of, (*RULES, *STEPS, *PROPERTIES)) if chapter_of(m) is c} | set(c.packages),
        key=lambda m: (next((i for i, p in enumerate(c.packages) if m == p or m.startswith(p + ".")), 99), m),
    )
    lines = [f"# {c.title}", ""]
    if c.walks:
        lines += ["Walks: " + ", ".join(f"[{w}](walk-{w}.md)" for w in c.walks), ""]
    machines = [m for m in MACHINES.values() if next(filter(None, map(chapter_of, reversed(m.modules))), None) is c]
    if machines:
        lines += ["## Machines", ""]
        lines += [machine_text(m) for m in machines]
    for name in modules:
        lines += module_text(name, fired)
    return "\n".join(lines)


def module_text(name: str, fired: Fired) -> list[str]:
    """A module: its text, its rules, its functions."""
    module = import_module(name)
    text = inspect.getdoc(module) or ""
    rules = [r for r in RULES.values() if module_of(r.id) == name]
    steps = [s for s in STEPS.values() if module_of(s.id) == name]
    lines = [f"## {name} {{ #{anchor(name)} }}", ""]
    lines += [indented(text), ""]
    if rules:
        lines += [rule_text(r, fired) for r in rules]
    if steps:
        lines += ["| function | says | source | fired by |", "| --- | --- | --- | --- |"]
        lines += [step_row(s, fired) for s in steps]
        lines.append("")
    return lines


def indented(text: str) -> str:
    """A module's text; drawings in it, which are indented, stay as they are."""
    return "\n".join(line if line.startswith("    ") else plain(line) for line in text.splitlines())


def walk_text(name: str) -> str:
    """A walk: its diagram and its steps."""
    w = make(name)
    lines = [f"# {SCENARIOS[name].says.rstrip('.')}", "", f"`refmodel walk {name}`", ""]
    lines += [f'<div class="walk" markdown="0">{walk_svg(w)}</div>', ""]
    lines += ["| host | context | layer | function | decision |", "| --- | --- | --- | --- | --- |"]
    for r in shown(w):
        name_ = "&nbsp;" * 2 * min(r.indent, 12) + f"`{r.step.function}`"
        lines.append(f"| {r.step.host} | {r.step.context} | {r.lane} | {name_} | {plain(said(r.step))} |")
    return "\n".join([*lines, ""])


def rows_text() -> str:
    """The rows of the path with the functions of each, linked."""
    by_function: dict[str, str] = {}
    for ident, kernel in [*((s.id, s.kernel) for s in STEPS.values()), *((r.id, r.kernel) for r in RULES.values())]:
        c = chapter_of(module_of(ident))
        for k in kernel:
            name = k.rsplit(":", 1)[1]
            if c is not None and name not in by_function:
                by_function[name] = f"{c.slug}.md#{anchor(ident)}"
    lines = ["| row | part | functions | machines |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        functions = ", ".join(f"[`{f}`]({by_function[f]})" if f in by_function else f"`{f}`" for f in row.functions)
        lines.append(f"| {row.id} | {row.part} | {functions} | {', '.join(row.machines)} |")
    return "\n".join([*lines, ""])


def index_text() -> str:
    """The first page."""
    proved = sum(1 for q in PROPERTIES.values() if q.kind != "assumption" and not q.falsified)
    false = sum(1 for q in PROPERTIES.values() if q.falsified)
    lines = [
        "# refmodel",
        "",
        "An executable reference model of Linux's TCP/IP stack, from the system call down to the card's ring.",
        f"{len(RULES)} rules in {len(MACHINES)} proved machines, {proved} properties of them, {false} that are false",
        f"of Linux and shown to be; {len(STEPS)} functions that follow the kernel's, each with its citation.",
        "",
        "The chapters go from the words in which the specification is written to networks of hosts. A rule has a",
        "sentence, its sources in the kernel and the RFCs, the states in which it applies, and what fires it.",
        "",
        "## The path of a packet",
        "",
        rows_text(),
        "## Chapters",
        "",
        *(f"1. [{c.title}]({c.slug}.md)" for c in CHAPTERS),
        "",
        "## Walks",
        "",
        *(f"- [{s.name}](walk-{s.name}.md): {plain(s.says)}" for s in SCENARIOS.values()),
        "",
    ]
    return "\n".join(lines)


STYLE: Final = """.machine svg, .walk svg { max-width: 100%; height: auto; background: #fff; }
.walk { overflow-x: auto; } .walk svg { max-width: none; }
.md-grid { max-width: 80rem; }
"""


def book(folder: Path, fired: Fired) -> list[Path]:
    """Writes the site's sources into `folder`: the pages that were written."""
    docs = folder / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    pages = {"index.md": index_text()}
    pages |= {f"{c.slug}.md": chapter_text(c, fired) for c in CHAPTERS}
    pages |= {f"walk-{name}.md": walk_text(name) for name in SCENARIOS}
    for name, text in pages.items():
        (docs / name).write_text(text, encoding="utf-8")
    (docs / "book.css").write_text(STYLE, encoding="utf-8")
    nav = ["  - index.md", *(f"  - {escape(c.title)}: {c.slug}.md" for c in CHAPTERS), "  - Walks:"]
    nav += [f"      - {s.name}: walk-{s.name}.md" for s in SCENARIOS.values()]
    (folder / "mkdocs.yml").write_text(CONFIG + "\n".join(nav) + "\nextra_css: [book.css]\n", encoding="utf-8")
    return [docs / name for name in pages]
