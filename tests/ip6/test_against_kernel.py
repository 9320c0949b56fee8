"""IPv6 against the live kernel: packets, drops, datagrams and counters are the same on both sides."""

import time

import pytest

from conformance.differential.ip6 import Live, compare, missing
from conformance.differential.ip6_world import IN, MACS, PEERS, World
from conformance.live.errors import LabUnavailable
from conformance.live.walk_trace import TraceError
from tests.ip6.runs import ROUTER, Limited, Timed, echo, fragment, packet

pytestmark = [pytest.mark.live, pytest.mark.skipif(bool(missing()), reason=missing() or "the kernel can be asked")]


class Impatient(World):
    """A world whose reassembly waits one second, and whose ICMPv6 has its usual limits if `limited`."""

    def __init__(self, limited: bool) -> None:
        self.limited = limited
        super().__init__()

    def settings(self) -> dict[str, str]:
        usual = {"icmp/ratemask": "0-1,3-127"} if self.limited else {}
        return {**super().settings(), "ip6frag_time": "1", **usual}


def live(world: World) -> Live:
    try:
        return Live(world)
    except OSError as e:
        pytest.skip(f"no namespaces or veth here: {e}")


def test_random_packets_fare_as_in_the_kernel() -> None:
    try:
        came, found = compare(900, 21)
    except (LabUnavailable, TraceError) as e:
        pytest.skip(f"no namespaces, veth or tracefs here: {e}")
    assert came > 200
    assert [d.text() for d in found] == []


WHOLE = echo(ROUTER, bytes(100))
SHORT = echo(ROUTER, bytes(40))


@pytest.mark.parametrize(
    ("parts", "answers"),
    [
        ([fragment(WHOLE, 0, 48)], 1),
        ([fragment(WHOLE, 48, 108)], 0),
        ([fragment(SHORT, 0, 48, more=True), fragment(SHORT, 40, 48, more=False)], 1),
    ],
    ids=["the first only", "the last only", "whole, but the last a duplicate"],
)
def test_a_datagram_that_times_out_is_answered_as_in_the_kernel(parts: list[bytes], answers: int) -> None:
    kernel, model = live(Impatient(False)), Timed()
    try:
        for part in parts:
            kernel.send(IN, MACS[IN] + PEERS[IN] + b"\x86\xdd" + part)
            model.receive(part)
        model.advance(61_000_000)
        deadline = time.monotonic() + 3.0
        there = kernel.take()
        while time.monotonic() < deadline and kernel.mib().get("Ip6ReasmTimeout", 0) == 0:
            time.sleep(0.05)
            there += kernel.take()
        there += kernel.take()
        assert kernel.mib()["Ip6ReasmTimeout"] == 1
    finally:
        kernel.close()
    assert there == model.out
    assert len(there) == answers


def test_a_peer_gets_six_errors_at_once_as_in_the_kernel() -> None:
    kernel = live(Impatient(True))
    frame = MACS[IN] + PEERS[IN] + b"\x86\xdd" + packet("2001:db8:dead::1")
    try:
        for _ in range(20):
            kernel.send(IN, frame)
        there = kernel.take()
    finally:
        kernel.close()
    model = Limited()
    for _ in range(20):
        model.receive(packet("2001:db8:dead::1"))
    assert there == model.out
    assert len(there) == 6
