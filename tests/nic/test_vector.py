"""e1000e's transmit vector and the one for link and errors."""

import pytest

from refmodel.nic.vector import (
    E1000_IMS_RXQ0,
    NIC_VECTOR,
    ComesUp,
    GoesDown,
    HandlerEnds,
    Happened,
    Vector,
    VectorInterrupt,
    VectorParams,
)
from tests.nic.drive import Drive, kinds


def vector(other: bool = False) -> Drive:
    d = Drive(NIC_VECTOR, Vector(), VectorParams(other=other))
    d.do(Happened())
    return d


def test_transmit_vector_cleans_and_unmasks_itself() -> None:
    assert kinds(vector().do(VectorInterrupt(), HandlerEnds())) == ["VectorUnmask"]


def test_unclean_transmit_ring_fires_the_interrupt_again() -> None:
    d = vector()
    assert kinds(d.do(VectorInterrupt(), HandlerEnds(complete=False))) == ["SetCause", "VectorUnmask"]
    d.do(VectorInterrupt())


@pytest.mark.parametrize(("stolen", "writes"), [(0, []), (E1000_IMS_RXQ0, ["SetCause"])])
def test_other_vector_gives_back_the_causes_of_the_queues(stolen: int, writes: list[str]) -> None:
    effects = vector(other=True).do(VectorInterrupt(), HandlerEnds(stolen=stolen))
    assert kinds(effects) == ["VectorReadsIcr", *writes, "VectorUnmask"]


def test_what_happens_in_the_handler_interrupts_again() -> None:
    d = vector()
    d.do(VectorInterrupt(), Happened(), HandlerEnds(), VectorInterrupt())


@pytest.mark.parametrize("other", [False, True])
def test_handler_leaves_the_vector_masked_when_the_driver_goes_down(other: bool) -> None:
    d = vector(other)
    d.do(VectorInterrupt(), GoesDown())
    assert kinds(d.do(HandlerEnds())) == []
    assert d.at.masked
    assert kinds(d.do(ComesUp())) == ["VectorUnmask"]
