"""The report folder: verdicts.json for programs, summary.txt for people."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from conformance.check.verdict import FileReport
from conformance.report.text import print_file


def write_report(reports: Sequence[FileReport], folder: Path) -> None:
    """Writes all verdicts into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdicts.json").write_bytes(msgspec.json.format(msgspec.json.encode(list(reports)), indent=1))
    with (folder / "summary.txt").open("w", encoding="utf-8") as text:
        console = Console(file=text, width=140, highlight=False, color_system=None)
        for r in reports:
            print_file(r, console, verbose=True)
