"""The book: every rule and function stands in a chapter, links lead somewhere, and a browser shows it."""

import re
import shutil
from pathlib import Path

import pytest

import refmodel.layers  # noqa: F401
from conformance.book import write
from conformance.book.chapters import CHAPTERS, chapter_of
from conformance.book.diagram import dot, edges
from conformance.book.fired import Fired
from refmodel.host.walks import SCENARIOS
from refmodel.rule import MACHINES, RULES, STEPS

NOTHING = Fired({}, {}, {})


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "svg", lambda machine: None)
        patch.setattr(write, "edges", lambda machine: {})
        write.book(folder, NOTHING)
    return folder


def test_every_rule_and_function_belongs_to_a_chapter() -> None:
    homeless = [i for i in (*RULES, *STEPS) if chapter_of(write.module_of(i)) is None]
    assert homeless == []


def test_every_rule_stands_in_its_chapter_with_its_sentence(pages: Path) -> None:
    text = {c.slug: (pages / "docs" / f"{c.slug}.md").read_text() for c in CHAPTERS}
    for r in RULES.values():
        c = chapter_of(write.module_of(r.id))
        assert c is not None
        assert f"`{r.id}`" in text[c.slug]
        assert write.plain(r.says) in text[c.slug]


def test_every_machine_stands_in_a_chapter(pages: Path) -> None:
    text = "".join(p.read_text() for p in (pages / "docs").glob("*.md"))
    assert [m for m in MACHINES if f"### Machine {m} " not in text] == []


def test_links_lead_to_pages_and_anchors_that_exist(pages: Path) -> None:
    docs = pages / "docs"
    text = {p.name: p.read_text() for p in docs.glob("*.md")}
    for name, page in text.items():
        for target, anchor in re.findall(r"\]\(([a-z0-9-]+\.md)(?:#([a-z0-9-]+))?\)", page):
            assert target in text, f"{name} leads to {target}"
            if anchor:
                marks = (f"#{anchor} }}", f"id='{anchor}'")
                assert any(m in text[target] for m in marks), f"{name}: no {anchor} in {target}"


def test_every_walk_has_a_page(pages: Path) -> None:
    for name in SCENARIOS:
        assert "<svg" in (pages / "docs" / f"walk-{name}.md").read_text()


def test_a_machines_diagram_has_its_moves() -> None:
    found = edges(MACHINES["neigh"])
    assert ("Neigh.STALE", "Neigh.DELAY") in found
    assert '"STALE" -> "DELAY"' in dot(MACHINES["neigh"])


@pytest.mark.slow
def test_the_site_is_built_without_a_broken_link_and_a_browser_shows_it(pages: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(pages / "mkdocs.yml"), strict=True))
    with sync.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto((pages / "site" / "index.html").as_uri())
        page.click("text=Neighbours >> nth=0")
        assert page.locator("h1").inner_text().startswith("Neighbours")
        page.goto((pages / "site" / "walk-send.html").as_uri())
        assert page.locator(".walk svg g").count() > 40
        browser.close()
        assert errors == []
