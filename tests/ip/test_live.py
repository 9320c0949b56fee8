"""The model and the running kernel, packet by packet."""

import os

import pytest

from conformance.differential import ip_limits
from conformance.differential.ip import WORLDS, differential
from conformance.differential.ip_live import missing, pinned
from conformance.differential.ip_send import send_differential
from conformance.differential.ip_world import World
from refmodel.profile import nearest

pytestmark = [pytest.mark.live, pytest.mark.skipif(bool(missing()), reason=missing() or "the kernel can be asked")]
KERNEL = nearest(os.uname().release)


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: f"mtu-{w.mtu}{'-tun' if w.tun else ''}-{w.forwarding}")
def test_packets_come_out_alike(world: World) -> None:
    outcome = differential(120, 7, [world])
    assert [str(d) for d in outcome.differences] == []
    assert outcome.packets >= 120


@pytest.mark.parametrize("number", [0, 1])
def test_datagrams_go_out_alike(number: int) -> None:
    with pinned() as cpu:
        out, difference = send_differential(60, number, WORLDS[number], cpu, KERNEL)
    assert difference == ""
    assert out > 60


def test_the_time_for_reassembly_ends_alike() -> None:
    with pinned() as cpu:
        c = ip_limits.reassembly_time(cpu, KERNEL)
    assert c.differences == []
    assert c.came > 0


def test_errors_about_refused_packets_are_limited_alike() -> None:
    with pinned() as cpu:
        c = ip_limits.refused_limit(cpu, KERNEL)
    assert c.differences == []
    assert 5 <= c.came < c.sent
