"""A pytest plugin: captures are test items.

`pytest --refmodel DIR` (or `refmodel = true` in the configuration) collects every capture below DIR; a capture that is
named on the command line is collected without it. An item passes if the capture conforms, and fails with the verdict.
"""

from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from refmodel.profile import KERNELS

ENDINGS = (".pcap", ".pcapng", ".pcap.gz", ".pcapng.gz")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --refmodel, --refmodel-profile and the configuration value `refmodel`."""
    group = parser.getgroup("refmodel")
    group.addoption("--refmodel", action="store_true", help="collect captures as test items")
    group.addoption("--refmodel-profile", default="", help="kernel that captures are held against (6.1, 6.12, 6.18)")
    parser.addini("refmodel", "collect captures as test items", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Refuses a kernel that has no profile before anything is collected."""
    kernel = config.getoption("--refmodel-profile")
    if kernel and kernel not in KERNELS:
        raise pytest.UsageError(f"no profile for kernel {kernel!r}; there are {', '.join(KERNELS)}")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "CaptureFile | None":
    """Collects a capture if captures are wanted or this one was named."""
    if not file_path.name.endswith(ENDINGS):
        return None
    config = parent.config
    named = any(Path(str(a).split("::")[0]).resolve() == file_path for a in config.args)
    if not (named or config.getoption("--refmodel") or config.getini("refmodel")):
        return None
    return CaptureFile.from_parent(parent, path=file_path)


class CaptureFile(pytest.File):
    """One capture file."""

    def collect(self) -> Iterable["CaptureItem"]:
        """One item: the whole capture."""
        yield CaptureItem.from_parent(self, name="conforms")


class NotConforming(AssertionError):
    """The capture does not conform; the text is the verdict."""


class CaptureItem(pytest.Item):
    """Checks one capture."""

    def runtest(self) -> None:
        """Fails with the printed verdict unless every subject conforms."""
        from conformance.check.capture import check_capture
        from conformance.report.text import print_file

        report = check_capture(self.path, kernel=self.config.getoption("--refmodel-profile"))
        if report.exit_status:
            text = StringIO()
            print_file(report, Console(file=text, soft_wrap=True, color_system=None, highlight=False))
            raise NotConforming(text.getvalue())

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The verdict alone for a capture that does not conform."""
        if isinstance(excinfo.value, NotConforming):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where the item is: the capture."""
        return self.path, None, f"capture {self.path.name}"
