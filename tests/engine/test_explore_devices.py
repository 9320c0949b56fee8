"""The rings, NAPI and the neighbour entry under search: what always ends well, and the one way in which it does not."""

import pytest

from refmodel.engine.explore import explore
from refmodel.neigh.parms import Family
from refmodel.neigh_systems import NO_QUEUE, entry
from refmodel.nic.systems import (
    NAPI_IDLE,
    RX_READ,
    TX_CAN_SEND,
    TX_SENT,
    VECTOR_IDLE,
    interrupts,
    rx_ring,
    tx_ring,
    vectors,
)


@pytest.mark.parametrize("driver", ["igb", "e1000e", "ixgbe"])
@pytest.mark.parametrize("goal", [TX_CAN_SEND, TX_SENT])
def test_a_stopped_queue_can_always_run_again_if_no_doorbell_is_put_off(driver: str, goal: str) -> None:
    result = explore(tx_ring(driver=driver, batches=False), goal=goal)
    assert result.exhausted
    assert result.ok, result.text()


def test_a_doorbell_put_off_can_leave_a_queue_stopped_for_good() -> None:
    (finding,) = explore(tx_ring(), goal=TX_CAN_SEND).findings
    assert finding.kind == "liveness"
    rules = [s.rule.split(".")[-1] for s in finding.run.steps]
    late = rules.index("step_low_barrier", len(rules) - 6)
    assert rules[late:] == ["step_low_barrier", "step_low", "clean_wake", "step_doorbell", "send_full"]
    assert finding.run.steps[-1].before.tail != finding.run.steps[-1].before.next_to_use


def test_a_reset_mends_every_stopped_queue() -> None:
    assert explore(tx_ring(hangs=True), goal=TX_CAN_SEND).ok


@pytest.mark.parametrize("driver", ["igb", "e1000e"])
def test_what_the_device_received_can_always_be_read(driver: str) -> None:
    result = explore(rx_ring(driver=driver, frames=2), goal=RX_READ)
    assert result.exhausted
    assert result.ok, result.text()


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
@pytest.mark.parametrize("defer", [0, 2])
def test_work_is_always_polled_and_the_interrupt_unmasked(kernel: str, defer: int) -> None:
    result = explore(interrupts(kernel=kernel, defer=defer, pending=1), goal=NAPI_IDLE)
    assert result.exhausted
    assert result.ok, result.text()


@pytest.mark.parametrize("other", [False, True])
def test_a_vector_without_napi_is_always_served(other: bool) -> None:
    assert explore(vectors(other=other), goal=VECTOR_IDLE).ok


@pytest.mark.parametrize("family", list(Family))
def test_a_queued_packet_can_always_be_sent_or_reported(family: Family) -> None:
    result = explore(entry(family=family, netlink=False, gc=False, queue=1, addresses=1), goal=NO_QUEUE)
    assert result.exhausted
    assert result.ok, result.text()
