"""GRO and contexts against the live kernel: the same packets come up, in the same contexts and order."""

import pytest

from conformance.differential import contexts
from conformance.differential.gro import compare
from conformance.live.errors import LabUnavailable
from conformance.live.walk_trace import TraceError

pytestmark = pytest.mark.live


def test_merged_packets_equal_the_kernels() -> None:
    try:
        frames, packets, merged, found = compare(120, 11)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(f"no namespaces, veth or tracefs here: {e}")
    assert merged > 100
    assert packets < frames
    assert [d.text() for d in found] == []


def test_who_raises_and_who_runs_the_softirq_is_as_in_the_kernel() -> None:
    try:
        events, found = contexts.compare(150, 5)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(f"no namespaces, veth or tracefs here: {e}")
    assert events > 500
    assert found == []
