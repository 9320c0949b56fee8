"""e1000e's two interrupt vectors without NAPI: the transmit vector, which cleans its ring, and the one for the rest.

With MSI-X e1000e has three vectors. The receive vector is the NAPI instance of `napi`. The handler of each of these two
does its work at once, in the hard interrupt, and unmasks at its end. The message has masked the vector (EIAC, EIAME).
"""

from enum import IntEnum
from typing import ClassVar, Final

from msgspec.structs import replace

from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Params,
    State,
    assume,
    invariant,
    machine,
    require,
    rule,
    transition,
)
from refmodel.types import u32

E1000_IMS_RXQ0: Final = 0x00100000
E1000_IMS_TXQ0: Final = 0x00400000
E1000_IMS_OTHER: Final = 0x01000000
IMS_OTHER_MASK: Final = 0x00070244  # LSC, RXO, MDAC, SRPD, ACK, MNG
E1000_IMS_UP: Final = E1000_IMS_RXQ0 | E1000_IMS_TXQ0 | E1000_IMS_OTHER | IMS_OTHER_MASK


class Phase(IntEnum):
    """Whether the handler runs."""

    IDLE = 0
    HANDLER = 1


class VectorParams(Params, frozen=True):
    """`other`: the vector is the one for link and errors, whose handler reads the cause register; else transmit's.

    `ims`: what the handler writes to the mask-set register, `ims_up`: what the driver writes when it comes up.
    """

    other: bool = False
    ims: u32 = E1000_IMS_TXQ0
    ims_up: u32 = E1000_IMS_UP


class Vector(State, frozen=True):
    """One vector: its cause bit and mask. `pending`: something happened that the handler has not looked at yet."""

    AT: ClassVar[str] = "phase"

    phase: Phase = Phase.IDLE
    pending: bool = False
    cause: bool = False
    masked: bool = False
    down: bool = False


class Happened(Event, frozen=True):
    """The device writes a transmit descriptor back, or the link changes: it sets the cause bit."""


class VectorInterrupt(Event, frozen=True):
    """The vector's message reaches the processor."""


class HandlerEnds(Event, frozen=True):
    """The handler has done its work.

    `complete`: the transmit ring was cleaned to the end. `stolen`: the causes of the queues that the cause register
    held, which reading it has cleared.
    """

    complete: bool = True
    stolen: u32 = 0


class GoesDown(Event, frozen=True):
    """The driver goes down and masks everything."""


class ComesUp(Event, frozen=True):
    """The driver comes up and unmasks."""


class VectorReadsIcr(Effect, frozen=True):
    """The handler reads the cause register (ICR)."""


class SetCause(Effect, frozen=True):
    """The handler writes `mask` to the cause-set register (ICS): these interrupts will come again."""

    mask: u32


class VectorUnmask(Effect, frozen=True):
    """The driver writes `mask` to the mask-set register (IMS)."""

    mask: u32


class VectorMask(Effect, frozen=True):
    """The driver writes the mask-clear register (IMC): all causes are masked."""


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_configure_msix")
def happened(s: Vector, e: Happened, p: VectorParams) -> tuple[Vector, tuple[Effect, ...]]:
    """The device sets the cause bit, masked or not."""
    return replace(s, pending=True, cause=True), ()


@rule(
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_intr_msix_tx",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_msix_other",
    at=Phase.IDLE,
)
def vector_interrupt(s: Vector, e: VectorInterrupt, p: VectorParams) -> tuple[Vector, tuple[Effect, ...]]:
    """The message masks the vector, clears its cause and starts the handler."""
    t = replace(s, phase=Phase.HANDLER, pending=False, cause=False, masked=True)
    if p.other:
        return t, (VectorReadsIcr(),)
    return t, ()


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_intr_msix_tx", at=Phase.HANDLER)
def handler_again(s: Vector, e: HandlerEnds, p: VectorParams) -> tuple[Vector, tuple[Effect, ...]]:
    """A transmit ring that was not cleaned to the end fires its interrupt again."""
    require(not p.other, "transmit vector")
    require(not e.complete, "ring not clean")
    t = replace(s, phase=Phase.IDLE, pending=True, cause=True, masked=s.down)
    if s.down:
        return t, (SetCause(mask=p.ims),)
    return t, (SetCause(mask=p.ims), VectorUnmask(mask=p.ims))


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_intr_msix_tx", at=Phase.HANDLER)
def handler_ends(s: Vector, e: HandlerEnds, p: VectorParams) -> tuple[Vector, tuple[Effect, ...]]:
    """The transmit ring is clean: the vector is unmasked, unless the driver goes down."""
    require(not p.other, "transmit vector")
    require(e.complete, "ring clean")
    t = replace(s, phase=Phase.IDLE, masked=s.down)
    if s.down:
        return t, ()
    return t, (VectorUnmask(mask=p.ims),)


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_msix_other", at=Phase.HANDLER)
def other_ends(s: Vector, e: HandlerEnds, p: VectorParams) -> tuple[Vector, tuple[Effect, ...]]:
    """The other vector gives back the queues' causes that it has read away, then unmasks itself."""
    require(p.other, "the other vector")
    t = replace(s, phase=Phase.IDLE, masked=s.down)
    if e.stolen != 0 and s.down:
        return t, (SetCause(mask=e.stolen),)
    if e.stolen != 0:
        return t, (SetCause(mask=e.stolen), VectorUnmask(mask=p.ims))
    if s.down:
        return t, ()
    return t, (VectorUnmask(mask=p.ims),)


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_irq_disable")
def goes_down(s: Vector, e: GoesDown, p: VectorParams) -> tuple[Vector, tuple[Effect, ...]]:
    """The driver goes down: all is masked."""
    return replace(s, down=True, masked=True), (VectorMask(),)


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_irq_enable", at=Phase.IDLE)
def comes_up(s: Vector, e: ComesUp, p: VectorParams) -> tuple[Vector, tuple[Effect, ...]]:
    """The driver comes up: the vector is unmasked, and a cause still set interrupts."""
    return replace(s, down=False, masked=False), (VectorUnmask(mask=p.ims_up),)


@assume
def vector_has_cause(s: Vector, e: VectorInterrupt) -> bool:
    """The device interrupts only for a cause that is not masked, and the handler does not interrupt itself."""
    return s.cause and not s.masked and s.phase == Phase.IDLE


@assume
def handler_runs(s: Vector, e: HandlerEnds) -> bool:
    """Only a running handler ends."""
    return s.phase == Phase.HANDLER


@assume
def up_after_down(s: Vector, e: ComesUp) -> bool:
    """The driver comes up only from down, its handlers ended (synchronize_irq)."""
    return s.down and s.phase == Phase.IDLE


@invariant()
def masked_in_handler(s: Vector) -> bool:
    """A vector is masked exactly while its handler runs or the driver is down."""
    return s.masked == (s.phase == Phase.HANDLER or s.down)


@invariant()
def cause_for_pending(s: Vector) -> bool:
    """What the handler has not looked at has its cause bit set, so that the interrupt comes."""
    return not s.pending or s.cause


@transition(HandlerEnds)
def handler_unmasks(s: Vector, e: HandlerEnds, t: Vector, effects: tuple[object, ...]) -> bool:
    """A handler that ends unmasks its vector, and not while the driver goes down."""
    return any(isinstance(x, VectorUnmask) for x in effects) == (not s.down)


NIC_VECTOR: Final = machine(
    Machine(
        name="nic_vector",
        title="e1000e's transmit and other vectors",
        accepts={Vector: (Happened, VectorInterrupt, HandlerEnds, GoesDown, ComesUp)},
        params=VectorParams,
        modules=("refmodel.nic.vector",),
    )
)
