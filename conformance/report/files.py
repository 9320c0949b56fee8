"""The report folder: every format of a run side by side."""

from collections.abc import Sequence
from pathlib import Path

from conformance.check.verdict import FileReport
from conformance.report.annotate import annotate_all
from conformance.report.formats import rendered
from conformance.report.text import of_file, plain

FILES = {"json": "verdicts.json", "junit": "junit.xml", "sarif": "refmodel.sarif", "html": "index.html"}


def write_report(reports: Sequence[FileReport], folder: Path) -> list[str]:
    """Writes all verdicts into `folder`, which is made if need be; gives what was left out and why. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in FILES.items():
        (folder / file).write_text(rendered(name, reports), encoding="utf-8")
    write_summary(reports, folder / "summary.txt")
    return annotate_all(reports, folder / "annotated")[1]


def write_summary(reports: Sequence[FileReport], path: Path) -> None:
    """Writes what `refmodel check -v` shows; raises OSError."""
    with path.open("w", encoding="utf-8") as text:
        for r in reports:
            text.writelines(plain(line) + "\n" for line in of_file(r, verbose=True))
