"""The second transmit queue of a veth stands on 6.18; the first is woken everywhere."""

import os

import pytest

from conformance.live.errors import LabUnavailable
from conformance.live.walk_trace import TraceError
from refmodel.profile import nearest

pytestmark = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and tracepoints need root")]


@pytest.mark.parametrize("queue", [0, 1])
def test_a_full_veth_wakes_its_first_queue_and_on_6_18_no_other(queue: int) -> None:
    from conformance.differential.veth_queue import left_behind

    if queue and nearest(os.uname().release) != "6.18":
        pytest.skip("seen on 6.18 only")
    try:
        waiting = left_behind(queue)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(str(e))
    assert (waiting > 0) == bool(queue)
