"""The counters that labels give hold the kernel's own, in every shipped capture."""

from pathlib import Path

import pytest

from conformance.check.capture import captures_in
from conformance.oracle.__main__ import differences, follow
from conformance.oracle.connection import EXACT
from conformance.oracle.end import UNKNOWN

CAPTURES = Path(__file__).parents[2] / "captures"
CASES = [p for p in captures_in([CAPTURES]) if not p.name.startswith(("arp-", "nd-", "neigh-", "nic-"))]


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.name.partition(".pcapng")[0])
def test_the_kernels_counters_lie_in_the_intervals(path: Path) -> None:
    assert differences(*follow(path)) == []


def test_near_the_counting_host_intervals_are_points() -> None:
    _, verdicts = follow(CAPTURES / "tcp-request-response.pcapng")
    (v,) = verdicts
    near = v.counters["a"]
    assert near.keys() >= EXACT
    assert all(near[n][0] == near[n][1] for n in EXACT)
    assert all(high == UNKNOWN for _, high in v.counters["b"].values())
