"""The shipped scripts on this machine's kernel: each passes as it does on the model, and every counter is equal."""

import pytest

from conformance.live.pkt_kernel import KernelUnavailable, require_kernel
from conformance.pkt.outcome import PASSED
from conformance.pkt.variant import Variant
from tests.script_runs import SCRIPTS, Compared, compare_all

pytestmark = pytest.mark.live

JITTER = ("hystart", "bbr", "pacing")
"""Folders whose counters and windows depend on microseconds of a real round trip."""


@pytest.fixture(scope="module")
def results() -> list[Compared]:
    try:
        require_kernel()
    except KernelUnavailable as why:
        pytest.skip(str(why))
    return compare_all((Variant.IPV4,))


def test_every_script_passes_on_the_kernel(results: list[Compared]) -> None:
    bad = [
        f"{c.path.relative_to(SCRIPTS)}: {c.kernel.message}"
        for c in results
        if c.kernel.status != PASSED and not c.others
    ]
    assert bad == []


def test_every_script_passes_on_the_model_of_this_kernel(results: list[Compared]) -> None:
    bad = [f"{c.path.relative_to(SCRIPTS)}: {c.model.message}" for c in results if c.model.status != PASSED]
    assert bad == []


def test_the_counters_are_equal(results: list[Compared]) -> None:
    apart = {str(c.path.relative_to(SCRIPTS)): c.counters for c in results if c.counters}
    assert {k: v for k, v in apart.items() if not k.startswith(JITTER)} == {}
