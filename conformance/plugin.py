"""A pytest plugin: captures and scripts are test items.

`pytest --refmodel DIR` (or `refmodel = true` in the configuration) collects every capture and every .pkt script below
DIR; one that is named on the command line is collected without it. A capture's item passes if it conforms, and fails
with the verdict. A script has an item for each variant that it is meant for, run on the model; it fails with what the
model did and why, and is skipped where it needs what is not modelled.
"""

from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from refmodel.profile import KERNELS, REFERENCE

ENDINGS = (".pcap", ".pcapng", ".pcap.gz", ".pcapng.gz")
SCRIPT = ".pkt"
VARIANTS = ("ipv4", "ipv6", "mapped", "all")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --refmodel, the options of captures and scripts, and the configuration value `refmodel`."""
    group = parser.getgroup("refmodel")
    group.addoption("--refmodel", action="store_true", help="collect captures and scripts as test items")
    group.addoption("--refmodel-profile", default="", help="kernel that captures are held against (6.1, 6.12, 6.18)")
    group.addoption("--pkt-profile", default="", help="kernel that scripts are run on (6.1, 6.12, 6.18)")
    group.addoption("--pkt-hz", type=int, default=1000, help="its HZ")
    group.addoption("--pkt-variant", default="all", help="ipv4, ipv6, mapped or all")
    parser.addini("refmodel", "collect captures and scripts as test items", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Refuses a kernel that has no profile before anything is collected."""
    for option in ("--refmodel-profile", "--pkt-profile"):
        kernel = config.getoption(option)
        if kernel and kernel not in KERNELS:
            raise pytest.UsageError(f"no profile for kernel {kernel!r}; there are {', '.join(KERNELS)}")
    if config.getoption("--pkt-variant") not in VARIANTS:
        raise pytest.UsageError(f"--pkt-variant is one of {', '.join(VARIANTS)}")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "CaptureFile | ScriptFile | None":
    """Collects a capture or a script if they are wanted or this one was named."""
    if not file_path.name.endswith((*ENDINGS, SCRIPT)):
        return None
    config = parent.config
    named = any(Path(str(a).split("::")[0]).resolve() == file_path for a in config.args)
    if not (named or config.getoption("--refmodel") or config.getini("refmodel")):
        return None
    kind = ScriptFile if file_path.name.endswith(SCRIPT) else CaptureFile
    return kind.from_parent(parent, path=file_path)


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


class ScriptFile(pytest.File):
    """One script."""

    def collect(self) -> Iterable["ScriptItem"]:
        """An item for each variant that the script is meant for; one that cannot be read has an item that says why."""
        from conformance.pkt.parser import parse
        from conformance.pkt.source import ScriptError, read_source
        from conformance.pkt.variant import Variant, defines, variants

        chosen = self.config.getoption("--pkt-variant")
        wanted = tuple(Variant) if chosen == "all" else (Variant(chosen),)
        try:
            source = read_source(self.path)
            meant = variants(parse(source.text, source.name, defines(wanted[0])), self.path.stem, wanted)
        except ScriptError:
            meant = wanted[:1]
        for variant in meant:
            yield ScriptItem.from_parent(self, name=str(variant))


class ScriptFailed(AssertionError):
    """The model does something else than the script says, or the script cannot be run; the text is the report."""


class ScriptItem(pytest.Item):
    """Runs one script in one variant on the model."""

    def runtest(self) -> None:
        """Fails with the report unless the script passes."""
        from conformance.pkt.model_run import Setting, run_script
        from conformance.pkt.outcome import NOT_MODELLED, PASSED
        from conformance.pkt.variant import Variant

        kernel = self.config.getoption("--pkt-profile") or REFERENCE
        setting = Setting(kernel, self.config.getoption("--pkt-hz"))
        for _, outcome in run_script(self.path, (Variant(self.name),), setting):
            if outcome.status == NOT_MODELLED:
                pytest.skip(outcome.message)
            if outcome.status != PASSED:
                raise ScriptFailed(outcome.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The report alone for a script that fails."""
        if isinstance(excinfo.value, ScriptFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where the item is: the script and its variant."""
        return self.path, None, f"script {self.path.name} {self.name}"
