"""e1000e's interrupt moderation: the rate that it asks of the card, and what its watchdog pushes out every two seconds.

After each poll the driver looks at how much the last interrupt brought and takes one of three rates; a higher one it
comes to in steps. With MSI-X the new rate waits until the next receive interrupt, which writes it (EITR of the receive
vector alone: the others keep the rate of the set-up). With one vector it is written at once (ITR).
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
    pure,
    require,
    rule,
    transition,
)
from refmodel.types import u32

E1000_TIDV_FPD: Final = 1 << 31
E1000_RDTR_FPD: Final = 1 << 31
E1000_ICS_RXDMT0: Final = 0x10
START: Final = 20_000
"""Interrupts a second with which the dynamic modes begin."""
SLOW: Final = 4_000
"""For links that are not gigabit, and for bulk."""
HIGHEST: Final = 70_000
SIMPLE_LOW, SIMPLE_HIGH = 2_000, 8_000


class Latency(IntEnum):
    """What the traffic of one direction asks for: `enum latency_range`."""

    LOWEST = 0
    LOW = 1
    BULK = 2


class Throttle(IntEnum):
    """What the module parameter InterruptThrottleRate asks for: its value, FIXED for 0 and all from 100 on."""

    FIXED = 0
    DYNAMIC = 1
    CONSERVATIVE = 3
    SIMPLE = 4


class Watchdog(IntEnum):
    """What e1000_watchdog_task writes next."""

    IDLE = 0
    ASKS = 1
    TIDV = 2
    RDTR = 3
    TIDV_AGAIN = 4
    RDTR_AGAIN = 5


class ItrParams(Params, frozen=True):
    """`throttle` is the mode, `msix`: there are three vectors.

    `burst`: the card writes descriptors back in bursts, so that the watchdog pushes them out.
    """

    throttle: Throttle = Throttle.CONSERVATIVE
    msix: bool = True
    burst: bool = True


class Moderation(State, frozen=True):
    """The driver's rate `itr` in interrupts a second (0: none asked for), and whether it `waits` for its interrupt.

    Before the link's speed is known it is none, and so not a gigabit.
    """

    AT: ClassVar[str] = "watchdog"

    watchdog: Watchdog = Watchdog.IDLE
    itr: u32 = START
    waits: bool = False
    rx_itr: Latency = Latency.LOWEST
    tx_itr: Latency = Latency.LOWEST
    gigabit: bool = False


class PollEnds(Event, frozen=True):
    """e1000e_poll has completed: packets and bytes of either direction since their handlers last began to count."""

    rx_packets: u32 = 0
    rx_bytes: u32 = 0
    tx_packets: u32 = 0
    tx_bytes: u32 = 0


class RxInterrupt(Event, frozen=True):
    """The receive vector's handler begins."""


class LinkSpeed(Event, frozen=True):
    """The link is up, with a gigabit or less."""

    gigabit: bool


class WatchdogRuns(Event, frozen=True):
    """e1000_watchdog_task comes to the link's end of its work; `itr` is what the simple mode computes of the bytes."""

    itr: u32 = SIMPLE_HIGH


class WatchdogStep(Event, frozen=True):
    """The watchdog's next write."""


class WriteRate(Effect, frozen=True):
    """The driver writes `itr` interrupts a second: to EITR of the receive vector, or to all that there are."""

    itr: u32
    every: bool


class AskRx(Effect, frozen=True):
    """The watchdog fires the receive interrupt by itself (ICS)."""


class FlushTx(Effect, frozen=True):
    """The watchdog writes TIDV with FPD: transmit descriptors that wait for their timer are written back."""


class FlushRx(Effect, frozen=True):
    """The watchdog writes RDTR with FPD: receive descriptors that wait for their timer are written back."""


@pure
def dynamic(p: ItrParams) -> bool:
    """Whether each poll looks at its traffic: `itr_setting & 3`."""
    return p.throttle == Throttle.DYNAMIC or p.throttle == Throttle.CONSERVATIVE


@pure
def update_itr(was: Latency, packets: u32, size: u32) -> Latency:
    """What `packets` with `size` bytes in all ask for; source netdev.c:e1000_update_itr.

    A mean of more than n bytes, in whole bytes, is size >= (n + 1) * packets.
    """
    lowest = Latency.BULK if size >= 8001 * packets else Latency.LOW if packets < 5 and size > 512 else Latency.LOWEST
    much = (
        Latency.BULK
        if size >= 8001 * packets or packets < 10 or size >= 1201 * packets
        else Latency.LOWEST
        if packets > 35
        else Latency.LOW
    )
    little = Latency.BULK if size >= 2001 * packets else Latency.LOWEST if packets <= 2 and size < 512 else Latency.LOW
    low = much if size > 10_000 else little
    calm = packets > 35 if size > 25_000 else size < 6_000
    bulk = Latency.LOW if calm else Latency.BULK
    asked = lowest if was == Latency.LOWEST else low if was == Latency.LOW else bulk
    return was if packets == 0 else asked


@pure
def asked(was: Latency, packets: u32, size: u32, p: ItrParams) -> Latency:
    """update_itr, the lowest latency taken away from the conservative mode; source netdev.c:e1000_set_itr."""
    found = update_itr(was, packets, size)
    return Latency.LOW if p.throttle == Throttle.CONSERVATIVE and found == Latency.LOWEST else found


@pure
def rate(rx: Latency, tx: Latency) -> u32:
    """The rate of the slower of two directions; source netdev.c:e1000_set_itr."""
    bulk = rx == Latency.BULK or tx == Latency.BULK
    return SLOW if bulk else START if rx == Latency.LOW or tx == Latency.LOW else HIGHEST


@pure
def towards(itr: u32, new: u32) -> u32:
    """One step to a higher rate, a quarter of it at most; all at once to a lower one; source netdev.c:e1000_set_itr."""
    return min(itr + new // 4, new) if new > itr else new


@pure
def new_rate(s: Moderation, e: PollEnds, p: ItrParams) -> u32:
    """The rate after a poll; source netdev.c:e1000_set_itr."""
    rx, tx = asked(s.rx_itr, e.rx_packets, e.rx_bytes, p), asked(s.tx_itr, e.tx_packets, e.tx_bytes, p)
    return towards(s.itr, rate(rx, tx) if s.gigabit else SLOW)


def register(itr: int) -> int:
    """The register's value for a rate: units of 256 ns between two interrupts; source netdev.c:e1000e_write_itr."""
    return 1_000_000_000 // (itr * 256) if itr else 0


@pure
def after_poll(s: Moderation, e: PollEnds, p: ItrParams, waits: bool) -> Moderation:
    """The state after a poll that looked at its traffic."""
    rx, tx = asked(s.rx_itr, e.rx_packets, e.rx_bytes, p), asked(s.tx_itr, e.tx_packets, e.tx_bytes, p)
    return replace(
        s,
        itr=new_rate(s, e, p),
        waits=waits,
        rx_itr=rx if s.gigabit else s.rx_itr,
        tx_itr=tx if s.gigabit else s.tx_itr,
    )


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_poll")
def poll_ends_fixed(s: Moderation, e: PollEnds, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """A rate that is fixed, or left to the watchdog, is no matter of the poll's."""
    require(not dynamic(p), "not a dynamic mode")
    return s, ()


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_set_itr")
def poll_ends_same(s: Moderation, e: PollEnds, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """The traffic asks for the rate that there is."""
    require(dynamic(p), "a dynamic mode")
    require(new_rate(s, e, p) == s.itr, "the rate stays")
    return after_poll(s, e, p, s.waits), ()


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_set_itr")
def poll_ends_later(s: Moderation, e: PollEnds, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """Another rate waits for the next receive interrupt."""
    require(dynamic(p), "a dynamic mode")
    require(new_rate(s, e, p) != s.itr, "the rate changes")
    require(p.msix, "MSI-X")
    return after_poll(s, e, p, waits=True), ()


@rule(
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_set_itr",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_write_itr",
)
def poll_ends_now(s: Moderation, e: PollEnds, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """With one vector another rate is written at once."""
    require(dynamic(p), "a dynamic mode")
    require(new_rate(s, e, p) != s.itr, "the rate changes")
    require(not p.msix, "one vector")
    return after_poll(s, e, p, waits=False), (WriteRate(itr=new_rate(s, e, p), every=True),)


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_intr_msix_rx")
def interrupt_writes(s: Moderation, e: RxInterrupt, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """The handler writes the rate that the last poll left."""
    require(s.waits, "a rate waits")
    return replace(s, waits=False), (WriteRate(itr=s.itr, every=False),)


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_intr_msix_rx")
def interrupt_quiet(s: Moderation, e: RxInterrupt, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """No new rate: nothing is written."""
    require(not s.waits, "no rate waits")
    return s, ()


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_watchdog_task")
def link_speed(s: Moderation, e: LinkSpeed, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """The driver knows how fast the link is."""
    return replace(s, gigabit=e.gigabit), ()


@rule(
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_watchdog_task",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_write_itr",
    at=Watchdog.IDLE,
)
def watchdog_simple(s: Moderation, e: WatchdogRuns, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """The simple mode writes a rate between 2000 and 8000, by how one-sided the traffic is; it is not remembered."""
    require(p.throttle == Throttle.SIMPLE, "the simple mode")
    return replace(s, watchdog=Watchdog.ASKS), (WriteRate(itr=e.itr, every=True),)


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_watchdog_task", at=Watchdog.IDLE)
def watchdog_runs(s: Moderation, e: WatchdogRuns, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """The other modes write no rate here."""
    require(p.throttle != Throttle.SIMPLE, "not the simple mode")
    return replace(s, watchdog=Watchdog.ASKS), ()


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_watchdog_task", at=Watchdog.ASKS)
def watchdog_asks(s: Moderation, e: WatchdogStep, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """The receive interrupt is fired, so that a ring which lost one is read."""
    return replace(s, watchdog=Watchdog.TIDV if p.burst else Watchdog.IDLE), (AskRx(),)


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_flush_descriptors", at=(Watchdog.TIDV, Watchdog.TIDV_AGAIN))
def watchdog_tidv(s: Moderation, e: WatchdogStep, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """Transmit descriptors are pushed out."""
    after = Watchdog.RDTR if s.watchdog == Watchdog.TIDV else Watchdog.RDTR_AGAIN
    return replace(s, watchdog=after), (FlushTx(),)


@rule("drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_flush_descriptors", at=(Watchdog.RDTR, Watchdog.RDTR_AGAIN))
def watchdog_rdtr(s: Moderation, e: WatchdogStep, p: ItrParams) -> tuple[Moderation, tuple[Effect, ...]]:
    """Receive descriptors are pushed out; then once more, because the card may miss the first time."""
    after = Watchdog.TIDV_AGAIN if s.watchdog == Watchdog.RDTR else Watchdog.IDLE
    return replace(s, watchdog=after), (FlushRx(),)


@assume
def bytes_fit(e: PollEnds) -> bool:
    """A poll's packets are fewer than 2^16, and of each less than 64 kB."""
    return e.rx_packets < 65_536 and e.tx_packets < 65_536 and e.rx_bytes < 1 << 31 and e.tx_bytes < 1 << 31


@assume
def simple_rate(e: WatchdogRuns) -> bool:
    """dif * 6000 / goc + 2000 with dif <= goc, and 8000 without traffic."""
    return SIMPLE_LOW <= e.itr <= SIMPLE_HIGH


@assume
def watchdog_alone(s: Moderation, e: WatchdogRuns) -> bool:
    """The watchdog is one work item: it does not run twice at once."""
    return s.watchdog == Watchdog.IDLE


@assume
def watchdog_under_way(s: Moderation, e: WatchdogStep) -> bool:
    """Only a watchdog that runs writes."""
    return s.watchdog != Watchdog.IDLE


@assume
def handlers_of_msix(e: RxInterrupt, p: ItrParams) -> bool:
    """Only MSI-X has a receive vector."""
    return p.msix


@invariant()
def rate_in_range(s: Moderation, p: ItrParams) -> bool:
    """A dynamic rate lies between 4000 and 70000, in the conservative mode 20000."""
    return not dynamic(p) or SLOW <= s.itr <= (START if p.throttle == Throttle.CONSERVATIVE else HIGHEST)


@transition(PollEnds)
def conservative_is_never_lowest(s: Moderation, e: PollEnds, t: Moderation, effects: object, p: ItrParams) -> bool:
    """On a gigabit link the conservative mode leaves the lowest latency to nobody."""
    low = t.rx_itr == Latency.LOWEST or t.tx_itr == Latency.LOWEST
    return p.throttle != Throttle.CONSERVATIVE or not s.gigabit or not low


@invariant()
def waits_for_its_vector(s: Moderation, p: ItrParams) -> bool:
    """A rate waits only where a receive vector will write it, and only in a dynamic mode."""
    return not s.waits or (p.msix and dynamic(p))


@transition(PollEnds)
def rises_in_steps(s: Moderation, e: PollEnds, t: Moderation) -> bool:
    """A rate rises by at most 17500 a poll."""
    return t.itr <= s.itr + HIGHEST // 4


@transition(PollEnds)
def falls_at_once(s: Moderation, e: PollEnds, t: Moderation) -> bool:
    """A rate that falls is one of the two that traffic can ask for below the highest."""
    return t.itr >= s.itr or t.itr in (SLOW, START)


@transition(PollEnds)
def change_is_written(s: Moderation, e: PollEnds, t: Moderation, effects: tuple[object, ...], p: ItrParams) -> bool:
    """A rate that changes is written, or waits to be."""
    return t.itr == s.itr or t.waits or any(isinstance(x, WriteRate) and x.itr == t.itr for x in effects)


@transition(RxInterrupt)
def interrupt_leaves_none(s: Moderation, e: RxInterrupt, t: Moderation, effects: tuple[object, ...]) -> bool:
    """After a receive interrupt no rate waits, and what it wrote is the driver's rate."""
    return not t.waits and all(not isinstance(x, WriteRate) or x.itr == t.itr for x in effects)


@transition(RxInterrupt)
def writes_only_changes(s: Moderation, e: RxInterrupt, t: Moderation, effects: tuple[object, ...]) -> bool:
    """A handler writes a rate exactly if one waited."""
    return s.waits == any(isinstance(x, WriteRate) for x in effects)


@transition(WatchdogStep)
def pushed_in_turn(s: Moderation, e: WatchdogStep, t: Moderation, effects: tuple[object, ...]) -> bool:
    """Transmit goes before receive, and the watchdog ends after receive (or where there is nothing to push)."""
    flushed = any(isinstance(x, FlushRx) for x in effects)
    return flushed == (s.watchdog in (Watchdog.RDTR, Watchdog.RDTR_AGAIN)) and (
        t.watchdog != Watchdog.IDLE or flushed or s.watchdog == Watchdog.ASKS
    )


NIC_ITR: Final = machine(
    Machine(
        name="nic_itr",
        title="e1000e's interrupt moderation",
        accepts={Moderation: (PollEnds, RxInterrupt, LinkSpeed, WatchdogRuns, WatchdogStep)},
        params=ItrParams,
        modules=("refmodel.nic.itr",),
    )
)
