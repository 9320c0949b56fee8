"""The counters that labels give hold the kernel's own, in every shipped capture."""

from pathlib import Path

import pytest

from conformance.check.capture import captures_in
from conformance.oracle.__main__ import differences, follow
from conformance.oracle.connection import EXACT
from conformance.oracle.end import UNKNOWN

CAPTURES = Path(__file__).parents[2] / "captures"
CASES = [p for p in captures_in([CAPTURES]) if not p.name.startswith(("arp-", "nd-", "neigh-", "nic-"))]

# Counters that the labels miss, and why: each is a fault of the oracle that is not mended yet.
KNOWN = {
    "random-6.1-232": {"a Tcp.OutSegs"},  # the far end of a lossy path: a frame that the network doubled is counted
    "random-6.1-237": {"b Tcp.OutSegs", "b TcpExt.DelayedACKs", "b TcpExt.TCPOrigDataSent"},  # starts in mid-connection
    "random-6.1-250": {"a TcpExt.TCPDSACKRecv"},  # a DSACK that the host dropped behind the tap
    "random-6.18-102": {"a Tcp.ActiveOpens", "a Tcp.OutSegs", "b Tcp.OutSegs"},  # all devices of a router: seen twice
    "random-6.18-3366": {"a TcpExt.TCPLossProbes"},  # a probe of new data behind an ACK that was dropped
    "tcp-bulk-6.12": {"a TcpExt.TCPLossProbes"},  # new data on an ACK at the probe's very time
}


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.name.partition(".pcapng")[0])
def test_the_kernels_counters_lie_in_the_intervals(path: Path) -> None:
    found = {text.partition(":")[0] for text in differences(*follow(path))}
    assert found <= KNOWN.get(path.name.partition(".pcapng")[0], set())


def test_near_the_counting_host_intervals_are_points() -> None:
    _, verdicts = follow(CAPTURES / "tcp-request-response.pcapng")
    (v,) = verdicts
    near = v.counters["a"]
    assert near.keys() >= EXACT
    assert all(near[n][0] == near[n][1] for n in EXACT)
    assert all(high == UNKNOWN for _, high in v.counters["b"].values())
