"""Interrupt, NAPI and softirq: who polls a ring, when, and how its interrupt is masked meanwhile.

The law: an interrupt is masked only while someone has promised to poll, and work that a poll did not see raises an
interrupt or a MISSED bit. One NAPI instance is modelled whole; the others that share the processor's poll list appear
as events that use up the budget. Everything happens on one processor: interrupt handlers and timers may come between
any two steps of the softirq.

Left to other layers: which context runs the softirq (on return from an interrupt or ksoftirqd: the host), netif_rx's
backlog, GRO. Threaded NAPI and busy polling are not modelled.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec.structs import replace

from refmodel.profile import Sysctl
from refmodel.rule import Effect, Event, Machine, Params, State, assume, machine, pure, require, rule
from refmodel.types import Range, u32

NAPI_POLL_WEIGHT: Final = 64
PENDING_MAX: Final = 4096
S32_MAX: Final = 2147483647


class Poll(IntEnum):
    """How far the processor is with this instance."""

    OUT = 0  # not in its poll
    DRIVER = 1  # in the driver's clean functions
    EMPTY = 2  # they found nothing more; napi_complete_done comes next
    COMPLETED = 3  # napi_complete_done returned true; the driver unmasks next
    RETURNED = 4  # back in __napi_poll with the work done


class Listed(IntEnum):
    """Which list the instance is on."""

    NOWHERE = 0
    PENDING = 1  # softnet_data.poll_list
    TAKEN = 2  # net_rx_action's list of those to poll
    REPOLL = 3  # net_rx_action's list of those to poll again


class NapiParams(Params, frozen=True):
    """Settings that NAPI reads, and how the device masks.

    `kernel`: its version. `defer_hard_irqs`, `gro_flush_timeout` (ns): the device's napi_defer_hard_irqs and
    gro_flush_timeout. `reads_icr`: the handler reads the cause register, which masks (MSI, INTx); else the message
    itself masks (MSI-X with EIAM or EIAC). `ims`: what the driver writes to its mask-set register after a poll;
    `ims_up`: when it comes up.
    """

    kernel: Annotated[int, Range(601, 618)] = 612
    weight: Annotated[int, Range(1, NAPI_POLL_WEIGHT)] = NAPI_POLL_WEIGHT
    netdev_budget: Annotated[
        int, Sysctl("net.core.netdev_budget", 300, -S32_MAX - 1, S32_MAX, "net/core/sysctl_net_core.c:net_core_table")
    ] = 300
    defer_hard_irqs: Annotated[int, Range(0, S32_MAX)] = 0
    gro_flush_timeout: Annotated[int, Range(0, 1 << 53)] = 0
    reads_icr: bool = False
    ims: u32 = 1
    ims_up: u32 = 1


class Napi(State, frozen=True):
    """One NAPI instance, its interrupt, and the softirq that polls it.

    `sched`, `missed`, `disable`, `npsvc`: bits of napi_struct.state. `pending`: pieces of work that the device has
    written and the driver not seen; `cause`: the device's cause bit. `masked`: its interrupt is masked. `timer`:
    napi_watchdog is armed; `defer_count`: defer_hard_irqs_count. `softirq`: NET_RX_SOFTIRQ is raised. `in_action`:
    net_rx_action runs; `sd_in_action`: softnet_data.in_net_rx_action. `budget`: what is left of it. `work`: the poll's.
    """

    AT: ClassVar[str] = "poll"

    poll: Poll = Poll.OUT
    listed: Listed = Listed.NOWHERE
    sched: bool = False
    missed: bool = False
    disable: bool = False
    npsvc: bool = False
    pending: Annotated[int, Range(0, PENDING_MAX)] = 0
    cause: bool = False
    masked: bool = False
    timer: bool = False
    defer_count: Annotated[int, Range(0, S32_MAX)] = 0
    softirq: bool = False
    in_action: bool = False
    sd_in_action: bool = False
    budget: Annotated[int, Range(-S32_MAX - 65, S32_MAX)] = 0
    work: Annotated[int, Range(0, NAPI_POLL_WEIGHT)] = 0


class DeviceWork(Event, frozen=True):
    """The device writes `n` descriptors back, or has another reason (n = 0), and sets its cause bit."""

    n: Annotated[int, Range(0, 1)] = 1


class Interrupt(Event, frozen=True):
    """The device's interrupt reaches the processor."""


class Schedule(Event, frozen=True):
    """Someone calls napi_schedule without an interrupt."""


class WatchdogTimer(Event, frozen=True):
    """napi_watchdog's timer fires."""


class Softirq(Event, frozen=True):
    """The processor runs NET_RX_SOFTIRQ. `others`: other instances are on the list, too."""

    others: bool = False


class PollOther(Event, frozen=True):
    """net_rx_action polls another instance, which does `work`. `time_up`: the time limit has passed."""

    work: Annotated[int, Range(0, NAPI_POLL_WEIGHT)] = 0
    time_up: bool = False
    others: bool = False


class NetRxStep(Event, frozen=True):
    """net_rx_action goes on.

    `time_up`: netdev_budget_usecs have passed. `others`: the lists hold other instances when the loop ends.
    """

    time_up: bool = False
    others: bool = False


class DriverStep(Event, frozen=True):
    """The driver's poll goes on.

    `work`: what its clean functions did. `tx_left`: the transmit ring was not cleaned to the end. `gro`: GRO holds
    segments of this instance.
    """

    work: Annotated[int, Range(0, NAPI_POLL_WEIGHT)] = 0
    tx_left: bool = False
    gro: bool = False


class Disable(Event, frozen=True):
    """The driver goes down: it masks all interrupts and calls napi_disable, which looks again every 20 to 200 us."""


class Enable(Event, frozen=True):
    """The driver comes up: napi_enable, then it unmasks its interrupts."""


class ReadIcr(Effect, frozen=True):
    """The driver reads the cause register, which clears it and masks (ICR with IAM)."""


class MaskIrq(Effect, frozen=True):
    """The driver writes the mask-clear register (IMC, EIMC): all causes are masked."""


class UnmaskIrq(Effect, frozen=True):
    """The driver writes `mask` to the mask-set register (IMS, EIMS)."""

    mask: u32


class NapiScheduled(Effect, frozen=True):
    """__napi_schedule puts the instance on the poll list; with `raised` NET_RX_SOFTIRQ is raised."""

    raised: bool


class TimeSqueeze(Effect, frozen=True):
    """softnet_data.time_squeeze counts a run that ended for budget or time (/proc/net/softnet_stat, third column)."""


class RaiseSoftirq(Effect, frozen=True):
    """net_rx_action raises NET_RX_SOFTIRQ again, since its lists are not empty."""


class PollReturned(Effect, frozen=True):
    """The driver's poll returns `work` of `weight` (tracepoint napi:napi_poll)."""

    work: int
    weight: int


class TimerArmed(Effect, frozen=True):
    """napi_watchdog's timer is started for `ns`."""

    ns: int


class Prep(IntEnum):
    """What napi_schedule_prep finds."""

    DISABLED = 0
    RUNNING = 1
    FREE = 2


class Complete(IntEnum):
    """What napi_complete_done does."""

    AGAIN = 0  # MISSED: schedules itself once more, returns false
    DEFER = 1  # the timer will poll, returns false
    TIMED = 2  # returns true, and the timer will flush GRO
    DONE = 3  # returns true


class Loop(IntEnum):
    """What net_rx_action does once a poll has returned, or where it has none."""

    GO_ON = 0
    SQUEEZED = 1


@pure
def prep(s: Napi) -> Prep:
    """napi_schedule_prep's cascade."""
    return Prep.DISABLED if s.disable else Prep.RUNNING if s.sched else Prep.FREE


@pure
def raises(s: Napi, p: NapiParams) -> bool:
    """____napi_schedule raises the softirq: always in 6.1, later only outside net_rx_action."""
    return p.kernel < 612 or not s.sd_in_action


@pure
def scheduled(s: Napi, p: NapiParams) -> Napi:
    """The instance is put on the poll list."""
    return replace(s, sched=True, listed=Listed.PENDING, softirq=s.softirq or raises(s, p))


@pure
def defers(s: Napi, work: int, p: NapiParams) -> bool:
    """napi_defer_hard_irqs keeps the interrupt masked once more."""
    return (p.defer_hard_irqs if work > 0 else s.defer_count) > 0


@pure
def complete(s: Napi, work: int, gro: bool, p: NapiParams) -> Complete:
    """napi_complete_done's cascade."""
    timed = p.gro_flush_timeout > 0
    return (
        Complete.AGAIN
        if s.missed
        else Complete.DEFER
        if timed and defers(s, work, p)
        else Complete.TIMED
        if timed and work > 0 and gro
        else Complete.DONE
    )


@pure
def counted(s: Napi, work: int, p: NapiParams) -> int:
    """defer_hard_irqs_count after napi_complete_done."""
    return max((p.defer_hard_irqs if work > 0 else s.defer_count) - 1, 0)


@pure
def down(s: Napi) -> bool:
    """The driver goes down or is down."""
    return s.disable or s.npsvc


@pure
def loop(budget: int, time_up: bool) -> Loop:
    """net_rx_action's look at the budget after each poll."""
    return Loop.SQUEEZED if budget <= 0 or time_up else Loop.GO_ON


@pure
def ended(s: Napi, again: bool) -> Napi:
    """net_rx_action ends: what is left goes back to the poll list, and the softirq is raised if that is not empty."""
    return replace(
        s,
        listed=Listed.NOWHERE if s.listed == Listed.NOWHERE else Listed.PENDING,
        softirq=s.softirq or again,
        in_action=False,
        sd_in_action=again,
        budget=0,
    )


@pure
def left(s: Napi, others: bool) -> bool:
    """The lists are not empty."""
    return others or s.listed != Listed.NOWHERE


# ------------------------------------------------------------------------------------------------ device, scheduling


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_irq")
def device_work(s: Napi, e: DeviceWork, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """The device has new work and says so in its cause bit, masked or not."""
    return replace(s, pending=min(s.pending + e.n, PENDING_MAX), cause=True), ()


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_msix_ring",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_intr_msix_rx",
    "net/core/dev.c:__napi_schedule",
)
def interrupt(s: Napi, e: Interrupt, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """An interrupt masks itself and schedules the poll."""
    require(prep(s) == Prep.FREE, "not scheduled")
    t = replace(scheduled(s, p), cause=False, masked=True)
    if p.reads_icr:
        return t, (ReadIcr(), NapiScheduled(raised=raises(s, p)))
    return t, (NapiScheduled(raised=raises(s, p)),)


@rule("net/core/dev.c:napi_schedule_prep")
def interrupt_missed(s: Napi, e: Interrupt, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """An interrupt while the poll is scheduled masks itself and leaves a MISSED bit."""
    require(prep(s) == Prep.RUNNING, "scheduled")
    t = replace(s, missed=True, cause=False, masked=True)
    return t, ((ReadIcr(),) if p.reads_icr else ())


@rule("include/linux/netdevice.h:napi_schedule", "net/core/dev.c:__napi_schedule")
def schedule(s: Napi, e: Schedule, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """napi_schedule puts an idle instance on the poll list."""
    require(prep(s) == Prep.FREE, "not scheduled")
    return scheduled(s, p), (NapiScheduled(raised=raises(s, p)),)


@rule("net/core/dev.c:napi_schedule_prep")
def schedule_missed(s: Napi, e: Schedule, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """napi_schedule while the poll is scheduled leaves a MISSED bit."""
    require(prep(s) == Prep.RUNNING, "scheduled")
    # napi_disable holds SCHED, so this happens to a disabled instance, too; napi_enable leaves the bit.
    return replace(s, missed=True), ()


@rule("net/core/dev.c:napi_schedule_prep")
def schedule_disabled(s: Napi, e: Schedule, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """napi_schedule does nothing while napi_disable is pending."""
    require(prep(s) == Prep.DISABLED, "napi_disable pending")
    return s, ()


@rule("net/core/dev.c:napi_watchdog")
def timer_polls(s: Napi, e: WatchdogTimer, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """The timer schedules an idle instance."""
    require(prep(s) == Prep.FREE, "not scheduled")
    return replace(scheduled(s, p), timer=False), (NapiScheduled(raised=raises(s, p)),)


@rule("net/core/dev.c:napi_watchdog")
def timer_idle(s: Napi, e: WatchdogTimer, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """The timer leaves a scheduled or disabled instance alone, without a MISSED bit."""
    require(prep(s) != Prep.FREE, "scheduled or napi_disable pending")
    return replace(s, timer=False), ()


# ------------------------------------------------------------------------------------------------ net_rx_action


@rule("net/core/dev.c:net_rx_action", at=Poll.OUT)
def softirq(s: Napi, e: Softirq, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """The softirq takes the whole poll list and a fresh budget."""
    return replace(
        s,
        softirq=False,
        in_action=True,
        sd_in_action=True,
        listed=Listed.TAKEN if s.listed == Listed.PENDING else s.listed,
        budget=p.netdev_budget,
    ), ()


@rule("net/core/dev.c:net_rx_action", "net/core/dev.c:napi_poll", at=Poll.OUT)
def poll_starts(s: Napi, e: NetRxStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """The instance leaves the list and the driver's poll is called."""
    require(s.listed == Listed.TAKEN, "on the list")
    return replace(s, poll=Poll.DRIVER, listed=Listed.NOWHERE, work=0), ()


@rule("net/core/dev.c:net_rx_action", at=Poll.OUT)
def list_done(s: Napi, e: NetRxStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """All were polled and none wants more: the softirq ends."""
    require(s.listed == Listed.NOWHERE, "not listed")
    if e.others:
        return ended(s, True), (RaiseSoftirq(),)
    return ended(s, False), ()


@rule("net/core/dev.c:net_rx_action", at=Poll.OUT)
def list_repoll(s: Napi, e: NetRxStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """All were polled and this one used up its weight: the softirq ends and is raised again."""
    require(s.listed == Listed.REPOLL, "to be polled again")
    return ended(s, True), (RaiseSoftirq(),)


@rule("net/core/dev.c:net_rx_action", at=Poll.OUT, since="6.12")
def list_refilled(s: Napi, e: NetRxStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """An instance scheduled during the run is polled in the same run, or if others want more, in the next."""
    require(s.listed == Listed.PENDING, "scheduled meanwhile")
    if e.others:
        return ended(s, True), (RaiseSoftirq(),)
    return replace(s, listed=Listed.TAKEN, sd_in_action=True), ()


@rule("net/core/dev.c:net_rx_action", at=Poll.OUT, until="6.12")
def list_refilled_old(s: Napi, e: NetRxStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """An instance scheduled during the run has raised the softirq itself: the run ends."""
    require(s.listed == Listed.PENDING, "scheduled meanwhile")
    if e.others:
        return ended(s, True), (RaiseSoftirq(),)
    return ended(s, False), ()


@rule("net/core/dev.c:net_rx_action", at=Poll.OUT)
def other_polled(s: Napi, e: PollOther, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """Another instance's work comes out of the same budget."""
    require(loop(s.budget - e.work, e.time_up) == Loop.GO_ON, "budget and time left")
    return replace(s, budget=s.budget - e.work), ()


@rule("net/core/dev.c:net_rx_action", at=Poll.OUT)
def other_squeezed(s: Napi, e: PollOther, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """Another instance's work uses up budget or time: the run ends."""
    require(loop(s.budget - e.work, e.time_up) == Loop.SQUEEZED, "budget or time used up")
    t = ended(s, left(s, e.others))
    if left(s, e.others):
        return t, (TimeSqueeze(), RaiseSoftirq())
    return t, (TimeSqueeze(),)


# ------------------------------------------------------------------------------------------------ the driver's poll


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_poll",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_poll",
    at=Poll.DRIVER,
)
def driver_full(s: Napi, e: DriverStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """A poll that used up its weight, or left the transmit ring unclean, returns the weight and does not complete."""
    require(e.work >= p.weight or e.tx_left, "more to do")
    return replace(s, poll=Poll.RETURNED, pending=s.pending - e.work, work=p.weight), (
        PollReturned(work=p.weight, weight=p.weight),
    )


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_poll",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_poll",
    at=Poll.DRIVER,
)
def driver_empty(s: Napi, e: DriverStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """The rings are empty and the weight is not used up: the poll will complete."""
    require(e.work < p.weight and not e.tx_left, "nothing more to do")
    return replace(s, poll=Poll.EMPTY, pending=s.pending - e.work, work=e.work), ()


@rule("net/core/dev.c:napi_complete_done", at=Poll.EMPTY)
def complete_again(s: Napi, e: DriverStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """A MISSED bit: the instance stays scheduled and goes back on the list; the interrupt stays masked."""
    require(complete(s, s.work, e.gro, p) == Complete.AGAIN, "MISSED")
    t = replace(scheduled(s, p), poll=Poll.RETURNED, missed=False, defer_count=counted(s, s.work, p))
    return t, (NapiScheduled(raised=raises(s, p)), PollReturned(work=s.work, weight=p.weight))


@rule("net/core/dev.c:napi_complete_done", at=Poll.EMPTY)
def complete_defers(s: Napi, e: DriverStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """With napi_defer_hard_irqs the interrupt stays masked, and a timer polls next."""
    require(complete(s, s.work, e.gro, p) == Complete.DEFER, "hard interrupts deferred")
    t = replace(s, poll=Poll.RETURNED, sched=False, timer=True, defer_count=counted(s, s.work, p))
    return t, (TimerArmed(ns=p.gro_flush_timeout), PollReturned(work=s.work, weight=p.weight))


@rule("net/core/dev.c:napi_complete_done", at=Poll.EMPTY)
def complete_done(s: Napi, e: DriverStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """The instance is idle; the driver may unmask. With gro_flush_timeout a timer flushes what GRO holds."""
    require(complete(s, s.work, e.gro, p) in (Complete.TIMED, Complete.DONE), "completed")
    t = replace(s, poll=Poll.COMPLETED, sched=False, defer_count=counted(s, s.work, p))
    if complete(s, s.work, e.gro, p) == Complete.TIMED:
        return replace(t, timer=True), (TimerArmed(ns=p.gro_flush_timeout),)
    return t, ()


@rule(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_ring_irq_enable",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_poll",
    at=Poll.COMPLETED,
)
def driver_unmasks(s: Napi, e: DriverStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """After napi_complete_done returned true, and only then, the driver unmasks its interrupt, unless it goes down."""
    t = replace(s, poll=Poll.RETURNED, masked=s.masked and down(s))
    if down(s):
        return t, (PollReturned(work=s.work, weight=p.weight),)
    return t, (UnmaskIrq(mask=p.ims), PollReturned(work=s.work, weight=p.weight))


# ------------------------------------------------------------------------------------------------ back in the loop


@pure
def after_poll(s: Napi, p: NapiParams) -> Napi:
    """__napi_poll's end: who used up the weight is polled again, or completed if napi_disable waits for it."""
    full = s.work >= p.weight
    quits = full and s.disable
    again = quits and s.missed
    return replace(
        s,
        poll=Poll.OUT,
        listed=Listed.PENDING if again else Listed.REPOLL if full and not quits else s.listed,
        sched=s.sched and not (quits and not s.missed),
        missed=s.missed and not quits,
        softirq=s.softirq or (again and raises(s, p)),
        defer_count=max(s.defer_count - 1, 0) if quits else s.defer_count,
        timer=s.timer or (quits and not s.missed and s.defer_count > 0 and p.gro_flush_timeout > 0),
        budget=s.budget - s.work,
        work=0,
    )


@rule("net/core/dev.c:__napi_poll", "net/core/dev.c:net_rx_action", at=Poll.RETURNED)
def poll_ends(s: Napi, e: NetRxStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """A poll that used up its weight goes on the repoll list; budget and time are left for the next."""
    require(loop(s.budget - s.work, e.time_up) == Loop.GO_ON, "budget and time left")
    return after_poll(s, p), ()


@rule("net/core/dev.c:__napi_poll", "net/core/dev.c:net_rx_action", at=Poll.RETURNED)
def poll_squeezed(s: Napi, e: NetRxStep, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """Budget or time is used up: the run counts a squeeze, ends, and is raised again if anything is left."""
    require(loop(s.budget - s.work, e.time_up) == Loop.SQUEEZED, "budget or time used up")
    t = after_poll(s, p)
    if left(t, e.others):
        return ended(t, True), (TimeSqueeze(), RaiseSoftirq())
    return ended(t, False), (TimeSqueeze(),)


# ------------------------------------------------------------------------------------------------ down and up


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_down", "net/core/dev.c:napi_disable")
def disable_waits(s: Napi, e: Disable, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """napi_disable forbids scheduling and waits for the poll to end."""
    require(s.sched or s.poll != Poll.OUT, "scheduled")
    if s.disable:
        return s, ()
    return replace(s, masked=True, disable=True), (MaskIrq(),)


@rule("drivers/net/ethernet/intel/igb/igb_main.c:igb_down", "net/core/dev.c:napi_disable")
def disable_done(s: Napi, e: Disable, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """napi_disable takes SCHED for itself and cancels the timer."""
    require(not s.sched and s.poll == Poll.OUT, "idle")
    t = replace(s, masked=True, disable=False, sched=True, npsvc=True, timer=False)
    if s.disable:
        return t, ()
    return t, (MaskIrq(),)


@rule("net/core/dev.c:napi_enable", "drivers/net/ethernet/intel/igb/igb_main.c:igb_up")
def enable(s: Napi, e: Enable, p: NapiParams) -> tuple[Napi, tuple[Effect, ...]]:
    """napi_enable gives SCHED back, and the driver unmasks; the rings start empty."""
    return replace(s, sched=False, npsvc=False, masked=False, pending=0), (UnmaskIrq(mask=p.ims_up),)


# ------------------------------------------------------------------------------------------------ the environment


@assume
def interrupt_has_cause(s: Napi, e: Interrupt) -> bool:
    """The device interrupts only for a cause that is not masked."""
    return s.cause and not s.masked


@assume
def timer_was_armed(s: Napi, e: WatchdogTimer) -> bool:
    """The timer fires only when armed."""
    return s.timer


@assume
def softirq_was_raised(s: Napi, e: Softirq) -> bool:
    """The softirq runs only when raised, and not inside itself."""
    return s.softirq and not s.in_action and s.poll == Poll.OUT


@assume
def action_runs(s: Napi, e: NetRxStep) -> bool:
    """net_rx_action goes on only while it runs and is not in the driver's poll."""
    return s.in_action and s.poll in (Poll.OUT, Poll.RETURNED)


@assume
def action_polls(s: Napi, e: PollOther, p: NapiParams) -> bool:
    """net_rx_action polls others between its own steps."""
    return s.in_action and s.poll == Poll.OUT


@assume
def driver_polls(s: Napi, e: DriverStep, p: NapiParams) -> bool:
    """The driver's poll goes on only while it runs; it stops at its weight, or when nothing is left."""
    return (
        s.poll in (Poll.DRIVER, Poll.EMPTY, Poll.COMPLETED)
        and e.work <= p.weight
        and (s.poll != Poll.DRIVER or (e.work <= s.pending and (e.tx_left or e.work in (p.weight, s.pending))))
    )


@assume
def goes_down_once(s: Napi, e: Disable) -> bool:
    """A driver that is down does not go down again."""
    return not s.npsvc


@assume
def comes_up_once(s: Napi, e: Enable) -> bool:
    """napi_enable is called only on a disabled instance, which no one polls."""
    return s.npsvc and s.poll == Poll.OUT


NAPI: Final = machine(
    Machine(
        name="napi",
        title="Interrupt, NAPI and softirq",
        accepts={
            Napi: (
                DeviceWork,
                Interrupt,
                Schedule,
                WatchdogTimer,
                Softirq,
                PollOther,
                NetRxStep,
                DriverStep,
                Disable,
                Enable,
            )
        },
        params=NapiParams,
        modules=("refmodel.nic.napi", "refmodel.nic.napi_properties"),
    )
)
