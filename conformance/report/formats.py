"""The formats that a check's verdicts can be written in, each made by a module that is loaded when it is asked for."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Final

import msgspec

from conformance.check.verdict import FileReport
from conformance.report.clean import cleaned

# format: the function that makes it, what it needs besides refmodel itself
FORMATS: Final = {
    "json": ("conformance.report.formats", "as_json", ""),
    "junit": ("conformance.report.junit", "junit", "junitparser"),
    "sarif": ("conformance.report.sarif", "sarif", ""),
    "html": ("conformance.report.html", "html", "jinja2"),
    "github": ("conformance.report.github", "github", ""),
}


class ExtraMissing(Exception):
    """A format needs a library that the extra `report` brings and that is not installed."""


def require(*names: str) -> None:
    """Raises ExtraMissing unless these formats can be written here."""
    for name in names:
        library = FORMATS[name][2] if name in FORMATS else ""
        if library and find_spec(library) is None:
            raise ExtraMissing(f"{name} reports need {library}; install it with: pip install 'refmodel[report]'")


def rendered(name: str, reports: Sequence[FileReport]) -> str:
    """The verdicts as a document in the format `name`; its characters can all be encoded."""
    module, function, _ = FORMATS[name]
    render: Callable[[Sequence[FileReport]], str] = getattr(import_module(module), function)
    return render(reports)


def as_json(reports: Sequence[FileReport]) -> str:
    """The verdicts as one JSON document."""
    return msgspec.json.format(msgspec.json.encode([cleaned(r) for r in reports]), indent=1).decode() + "\n"
