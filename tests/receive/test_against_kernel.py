"""GRO against the live kernel: the same packets come up on both sides."""

import pytest

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
