"""Small systems for the explore engine's tests: alternating-bit transfer, written straight as components."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from refmodel.engine.explore_system import Budget, Component, System, Taken, Wire
from refmodel.rule import Effect, Event, State


class Ph(IntEnum):
    READY = 0
    WAITING = 1
    DONE = 2


class Sender(State, frozen=True):
    ph: Ph = Ph.READY
    sent: int = 0
    bit: int = 0


class Receiver(State, frozen=True):
    got: int = 0
    bit: int = 0


class Go(Event, frozen=True):
    pass


class Timeout(Event, frozen=True):
    pass


class Data(Event, frozen=True):
    bit: int


class Ack(Event, frozen=True):
    bit: int


class Put(Effect, frozen=True):
    data: bool
    bit: int


ITEMS = 3
MANY = 6  # the receiver counts no further


def send(s: Sender, e: Event) -> Taken:
    match e:
        case Go():
            return Taken(
                "toy.go", "sends the next item", Sender(Ph.WAITING, s.sent, s.bit), (Put(data=True, bit=s.bit),)
            )
        case Timeout():
            return Taken("toy.timeout", "sends the item again", s, (Put(data=True, bit=s.bit),))
        case Ack() if s.ph == Ph.WAITING and e.bit == s.bit:
            ph = Ph.DONE if s.sent + 1 == ITEMS else Ph.READY
            return Taken("toy.ack", "the item has arrived", Sender(ph, s.sent + 1, 1 - s.bit), ())
    return Taken("toy.stale_ack", "an old acknowledgment says nothing", s, ())


def receive(s: Receiver, e: Event) -> Taken:
    assert isinstance(e, Data)
    if e.bit == s.bit:
        return Taken(
            "toy.data", "takes a new item", Receiver(min(s.got + 1, MANY), 1 - s.bit), (Put(data=False, bit=e.bit),)
        )
    return Taken("toy.again", "acknowledges a repeated item", s, (Put(data=False, bit=e.bit),))


def receive_carelessly(s: Receiver, e: Event) -> Taken:
    assert isinstance(e, Data)
    return Taken(
        "toy.careless", "takes whatever comes", Receiver(min(s.got + 1, MANY), 1 - e.bit), (Put(data=False, bit=e.bit),)
    )


def drive(s: Sender, budget: Budget) -> Iterable[tuple[Event, Budget]]:
    if s.ph == Ph.READY:
        yield Go(), budget
    if s.ph == Ph.WAITING and budget[0]:
        yield Timeout(), (budget[0] - 1,)


def idle(s: Any, budget: Budget) -> Iterable[tuple[Event, Budget]]:
    return ()


def to_receiver(x: Any) -> Data | None:
    return Data(x.bit) if x.data else None


def to_sender(x: Any) -> Ack | None:
    return None if x.data else Ack(x.bit)


def transfer(
    *, timeouts: int = 2, receiver: Any = receive, loss: bool = True, duplicate: bool = False, reorder: bool = False
) -> System:
    """A sender of three items, a receiver, a wire each way."""
    a = Component(
        name="a",
        start=Sender(),
        apply=send,
        moves=drive,
        budget=(timeouts,),
        judge=lambda s: (),
        states=(Sender,),
        sources=(__name__,),
    )
    b = Component(
        name="b",
        start=Receiver(),
        apply=receiver,
        moves=idle,
        judge=lambda s: (),
        states=(Receiver,),
        sources=(__name__,),
    )
    faults = {"loss": loss, "duplicate": duplicate, "reorder": reorder, "capacity": 2}
    return System(
        name="transfer",
        components=(a, b),
        wires=(
            Wire(source="a", target="b", carry=to_receiver, **faults),
            Wire(source="b", target="a", carry=to_sender, **faults),
        ),
        sources=(__name__,),
    )
