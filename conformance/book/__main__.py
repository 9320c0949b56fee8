"""Makes the book: ``python -m conformance.book [--out DIR] [--without-runs]``.

Follows the shipped captures and scripts once to tell what fires each rule, writes the pages, and has mkdocs make the
site, which fails on a broken link.
"""

import sys
from pathlib import Path

import click

import refmodel.layers  # noqa: F401
from conformance.book import fired
from conformance.book.write import book
from conformance.console import STATUSES, fail, interruptible, out, progress

ROOT = Path(__file__).parents[2]


@click.command(epilog=STATUSES)
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("build/book"), show_default=True)
@click.option(
    "--without-runs", is_flag=True, help="Do not follow captures and scripts: rules do not say what fires them."
)
@interruptible
def main(folder: Path, without_runs: bool) -> None:
    """Makes the site of the specification."""
    try:
        from mkdocs.commands.build import build
        from mkdocs.config import load_config
        from mkdocs.exceptions import Abort, MkDocsException
    except ImportError:
        fail("mkdocs-material is not installed: pip install 'refmodel[book]'")
    captures, scripts = ROOT / "captures", ROOT / "tests" / "scripts"
    with progress("following", None) as tell:
        found = fired.Fired(
            {} if without_runs or not captures.is_dir() else fired.in_captures(captures, tell),
            {} if without_runs or not scripts.is_dir() else fired.in_scripts(scripts, tell),
            fired.in_walks(tell),
        )
        pages = book(folder, found)
    try:
        build(load_config(str(folder / "mkdocs.yml"), strict=True))
    except (Abort, MkDocsException) as e:
        fail(f"mkdocs: {e}")
    out.print(f"{len(pages)} pages: {folder / 'site' / 'index.html'}")


if __name__ == "__main__":
    sys.exit(main())
