"""Disciplines against the running kernel: the same packets, statistics, order and drops."""

import os

import pytest

from conformance.live.errors import LabUnavailable
from conformance.live.walk_trace import TraceError

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, tun and tracepoints need root"),
]


def test_disciplines_on_a_tun_device_do_what_linux_does() -> None:
    from conformance.differential.qdisc import compare

    try:
        done = compare(20, 11)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(str(e))
    assert done.packets > 400
    assert done.differences == [], done.differences[0].text()


def test_disciplines_before_a_stopped_queue_do_what_linux_does() -> None:
    from conformance.differential.qdisc_veth import compare

    try:
        done = compare(12, 5)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(str(e))
    assert done.requeues > 0
    assert done.differences == [], done.differences[0].text()


def test_packets_leave_tbf_when_its_buckets_allow_it() -> None:
    from conformance.differential.qdisc_tbf import compare

    try:
        done = compare(5, 3)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(str(e))
    assert done.waited > 50
    assert done.differences == []
