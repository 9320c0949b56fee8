"""A processor's backlog, as a machine: packets wait, the backlog is scheduled, its poll empties it.

The law: packets that wait have a poll to come. At most netdev_max_backlog + 1 packets wait in the input queue, since
the queue is looked at before the packet joins it.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.profile import Sysctl
from refmodel.rule import Effect, Event, Machine, Params, State, machine, pure, require, rule
from refmodel.types import Range

INT_MAX: Final = 2147483647
QLEN_MAX: Final = INT_MAX + 1


class Room(IntEnum):
    """What enqueue_to_backlog finds."""

    EMPTY = 0  # nobody waits: the backlog must be scheduled
    SOME = 1
    FULL = 2
    DOWN = 3  # the packet's device is down


@pure
def room(qlen: int, max_backlog: int, running: bool, kernel: int) -> Room:
    """enqueue_to_backlog's cascade; 6.1 looks at the device first. A negative limit refuses everything."""
    return (
        Room.DOWN
        if kernel < 612 and not running
        else Room.FULL
        if qlen > max_backlog
        else Room.DOWN
        if not running
        else Room.EMPTY
        if qlen == 0
        else Room.SOME
    )


@pure
def counts(found: Room, kernel: int) -> bool:
    """softnet_data.dropped counts it; a packet of a device that is down only in 6.1."""
    return found == Room.FULL or (found == Room.DOWN and kernel < 612)


class Polled(IntEnum):
    """Whether process_backlog runs."""

    NO = 0
    YES = 1


class BacklogParams(Params, frozen=True):
    """The version, the limit, and the packets that a poll may take."""

    kernel: Annotated[int, Range(601, 618)] = 612
    netdev_max_backlog: Annotated[
        int,
        Sysctl("net.core.netdev_max_backlog", 1000, -INT_MAX - 1, INT_MAX, "net/core/sysctl_net_core.c:net_core_table"),
    ] = 1000
    quota: Annotated[int, Range(1, 65536)] = 64


class Backlog(State, frozen=True):
    """One processor's backlog.

    `input`: packets in input_pkt_queue, `process`: in process_queue. `sched`: NAPI_STATE_SCHED of its NAPI instance, so
    that it is on the poll list or polled. `work`: packets that this poll took.
    """

    AT: ClassVar[str] = "polled"

    polled: Polled = Polled.NO
    input: Annotated[int, Range(0, QLEN_MAX)] = 0
    process: Annotated[int, Range(0, QLEN_MAX)] = 0
    sched: bool = False
    work: Annotated[int, Range(0, 65536)] = 0


class Packet(Event, frozen=True):
    """enqueue_to_backlog of a packet. `running`: its device is up; `limited`: the flow limit refuses it."""

    running: bool = True
    limited: bool = False


class Poll(Event, frozen=True):
    """net_rx_action polls the backlog."""


class Step(Event, frozen=True):
    """process_backlog goes on."""


class Taken(Effect, frozen=True):
    """A packet goes from the process queue to __netif_receive_skb."""


class Dropped(Effect, frozen=True):
    """A packet is dropped. `counted`: softnet_data.dropped counts it, with SKB_DROP_REASON_CPU_BACKLOG."""

    counted: bool


class Scheduled(Effect, frozen=True):
    """The backlog's NAPI instance is put on the poll list."""


@pure
def found(s: Backlog, e: Packet, p: BacklogParams) -> Room:
    """Where a packet can go, the flow limit included."""
    r = room(s.input, p.netdev_max_backlog, e.running, p.kernel)
    return Room.FULL if e.limited and (e.running or p.kernel >= 612) else r


@rule("net/core/dev.c:enqueue_to_backlog")
def first(s: Backlog, e: Packet, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """The first packet schedules the backlog."""
    require(found(s, e, p) == Room.EMPTY and not s.sched, "nobody waits, not scheduled")
    return replace(s, input=s.input + 1, sched=True), (Scheduled(),)


@rule("net/core/dev.c:enqueue_to_backlog")
def further(s: Backlog, e: Packet, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """A further packet waits behind the others, or behind those that the poll has taken over."""
    require(
        found(s, e, p) == Room.SOME or (found(s, e, p) == Room.EMPTY and s.sched), "others wait, or the poll is at it"
    )
    return replace(s, input=s.input + 1), ()


@rule("net/core/dev.c:enqueue_to_backlog")
def refused(s: Backlog, e: Packet, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """A packet too many is dropped and counted."""
    require(found(s, e, p) == Room.FULL, "too many wait")
    return s, (Dropped(counted=True),)


@rule("net/core/dev.c:enqueue_to_backlog")
def device_down(s: Backlog, e: Packet, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """A packet of a device that is down is dropped with a reason of its own."""
    require(found(s, e, p) == Room.DOWN, "device down")
    return s, (Dropped(counted=p.kernel < 612),)


@rule("net/core/dev.c:process_backlog", at=Polled.NO)
def poll(s: Backlog, e: Poll, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """The poll begins with what an earlier one has left."""
    require(s.sched, "scheduled")
    return replace(s, polled=Polled.YES, work=0), ()


@rule("net/core/dev.c:napi_poll", at=Polled.NO)
def not_polled(s: Backlog, e: Poll, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """An instance that is not scheduled is not polled."""
    require(not s.sched, "not scheduled")
    return s, ()


@rule("net/core/dev.c:net_rx_action", at=Polled.YES)
def already(s: Backlog, e: Poll, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """Nobody else polls it meanwhile."""
    return s, ()


@rule("net/core/dev.c:process_backlog", at=Polled.YES)
def take(s: Backlog, e: Step, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """A packet goes up, and the poll goes on."""
    require(s.process > 0 and s.work + 1 < p.quota, "packets, and quota left")
    return replace(s, process=s.process - 1, work=s.work + 1), (Taken(),)


@rule("net/core/dev.c:process_backlog", at=Polled.YES)
def take_last(s: Backlog, e: Step, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """The packet that uses up the quota goes up, and the backlog stays scheduled."""
    require(s.process > 0 and s.work + 1 >= p.quota, "packets, and the quota's last")
    return replace(s, process=s.process - 1, polled=Polled.NO, work=0), (Taken(),)


@rule("net/core/dev.c:process_backlog", at=Polled.YES)
def take_over(s: Backlog, e: Step, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """The whole input queue becomes the process queue."""
    require(s.process == 0 and s.input > 0, "process queue empty, packets wait")
    return replace(s, process=s.input, input=0), ()


@rule("net/core/dev.c:process_backlog", at=Polled.YES)
def empty(s: Backlog, e: Step, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """Both queues are empty: the backlog is no longer scheduled."""
    require(s.process == 0 and s.input == 0, "both queues empty")
    return replace(s, polled=Polled.NO, sched=False, work=0), ()


@rule("net/core/dev.c:net_rx_action", at=Polled.NO)
def idle(s: Backlog, e: Step, p: BacklogParams) -> tuple[Backlog, tuple[Effect, ...]]:
    """Nothing happens without a poll."""
    return s, ()


BACKLOG = machine(
    Machine(
        name="backlog",
        title="A processor's backlog",
        accepts={Backlog: (Packet, Poll, Step)},
        params=BacklogParams,
        modules=("refmodel.receive.backlog", "refmodel.receive.backlog_properties"),
        initial=(Backlog(),),
    )
)
