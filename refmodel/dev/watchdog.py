"""The transmit watchdog: a queue that has been stopped beyond the device's patience is reported to its driver."""

from typing import Annotated, Final

from msgspec.structs import replace

from refmodel.dev.env import DevEnv
from refmodel.dev.queue import QUEUE_STATE_FROZEN, NetdevQueue
from refmodel.netdevice import NetDevice
from refmodel.rule import (
    Effect,
    Event,
    Machine,
    Params,
    State,
    assume,
    cited,
    invariant,
    machine,
    pure,
    require,
    rule,
    transition,
)
from refmodel.types import Range

TIME: Final = 1 << 53

jiffies_t = Annotated[int, Range(0, TIME)]


class WatchParams(Params, frozen=True):
    """`watchdog_timeo`: the device's patience, in jiffies. `hz`: jiffies in a second."""

    watchdog_timeo: Annotated[int, Range(1, 100_000)] = 1250
    hz: Annotated[int, Range(1, 1000)] = 250


class Watch(State, frozen=True):
    """A queue and the device's timer: `armed` for `expires`. `ready`: the device is present, up, and has carrier."""

    stopped: bool = False
    trans_start: jiffies_t = 0
    armed: bool = False
    expires: jiffies_t = 0
    ready: bool = False
    last: jiffies_t = 0


class Sent(Event, frozen=True):
    """The driver took a packet at `now` and, with `stops`, stopped the queue."""

    now: jiffies_t = 0
    stops: bool = False


class Woken(Event, frozen=True):
    """The driver starts the queue."""

    now: jiffies_t = 0


class Activated(Event, frozen=True):
    """dev_activate: the device is ready. `rounded`: the deadline as round_jiffies gives it."""

    now: jiffies_t = 0
    rounded: jiffies_t = 0


class Deactivated(Event, frozen=True):
    """dev_deactivate."""

    now: jiffies_t = 0


class TimerFires(Event, frozen=True):
    """The timer runs. `rounded`: the next deadline as round_jiffies gives it."""

    now: jiffies_t = 0
    rounded: jiffies_t = 0


class Timeout(Effect, frozen=True):
    """ndo_tx_timeout after `stood` jiffies."""

    stood: int


@pure
def overdue(stopped: bool, trans_start: int, now: int, watchdog_timeo: int) -> bool:
    """The queue has been stopped for longer than the device's patience."""
    return stopped and now > trans_start + watchdog_timeo


@pure
def late(s: Watch, e: TimerFires, p: WatchParams) -> bool:
    """The queue is overdue when the timer runs."""
    return overdue(s.stopped, s.trans_start, e.now, p.watchdog_timeo)


@pure
def base(s: Watch, e: TimerFires, p: WatchParams) -> int:
    """From when the next deadline is counted: now, or since when a queue stands that is not overdue."""
    return s.trans_start if s.stopped and not late(s, e, p) else e.now


Effects = tuple[Effect, ...]


@rule("include/linux/netdevice.h:netif_tx_stop_queue", "include/linux/netdevice.h:txq_trans_update")
def sent(s: Watch, e: Sent, p: WatchParams) -> tuple[Watch, Effects]:
    """Each packet, and each stop, begins the patience anew."""
    return replace(s, trans_start=e.now, stopped=e.stops, last=e.now), ()


@rule("net/core/dev.c:netif_tx_wake_queue")
def woken(s: Watch, e: Woken, p: WatchParams) -> tuple[Watch, Effects]:
    """A queue that runs is not watched."""
    return replace(s, stopped=False, last=e.now), ()


@rule("net/sched/sch_generic.c:__netdev_watchdog_up")
def activated(s: Watch, e: Activated, p: WatchParams) -> tuple[Watch, Effects]:
    """A device that is activated begins to be watched."""
    return replace(s, ready=True, armed=True, expires=e.rounded, trans_start=e.now, last=e.now), ()


@rule("net/sched/sch_generic.c:dev_watchdog_down")
def deactivated(s: Watch, e: Deactivated, p: WatchParams) -> tuple[Watch, Effects]:
    """A device that is deactivated is not watched."""
    return replace(s, ready=False, armed=False, last=e.now), ()


@rule("net/sched/sch_generic.c:dev_watchdog")
def timer_in_time(s: Watch, e: TimerFires, p: WatchParams) -> tuple[Watch, Effects]:
    """A queue that runs, or has not stood too long, is looked at again when its patience may end."""
    require(not late(s, e, p), "no queue stands too long")
    return replace(s, expires=e.rounded, last=e.now), ()


@rule("net/sched/sch_generic.c:dev_watchdog")
def timer_late(s: Watch, e: TimerFires, p: WatchParams) -> tuple[Watch, Effects]:
    """A queue that has stood too long is its driver's to mend."""
    require(late(s, e, p), "a queue stands too long")
    return replace(s, expires=e.rounded, last=e.now), (Timeout(stood=e.now - s.trans_start),)


@assume
def stops_while_sending(s: Watch, e: Sent) -> bool:
    """Packets are sent in the order of time, by a device that is ready and whose queue runs."""
    return s.ready and not s.stopped and e.now >= s.last and (not s.armed or e.now <= s.expires)


@assume
def wakes_in_time(s: Watch, e: Woken) -> bool:
    """Time does not go back, and a timer that is due runs first."""
    return e.now >= s.last and (not s.armed or e.now <= s.expires)


@assume
def activates_with_clean_queue(s: Watch, e: Activated, p: WatchParams) -> bool:
    """round_jiffies moves a deadline by at most a second and not into the past."""
    return e.now >= s.last and e.now < e.rounded and e.rounded <= e.now + p.watchdog_timeo + p.hz


@assume
def deactivates_in_time(s: Watch, e: Deactivated) -> bool:
    """Time does not go back."""
    return e.now >= s.last


@assume
def timer_is_due(s: Watch, e: TimerFires, p: WatchParams) -> bool:
    """An armed timer runs when it is due, and the next deadline is the base and the patience, rounded."""
    due = base(s, e, p) + p.watchdog_timeo
    after = e.now >= s.expires and e.now >= s.last and e.now < e.rounded
    return s.armed and s.ready and after and e.rounded <= max(due, e.now) + p.hz


@invariant()
def watched_while_ready(s: Watch) -> bool:
    """The timer is armed exactly while the device is ready."""
    return s.armed == s.ready


@invariant()
def times_are_past(s: Watch) -> bool:
    """What has happened is not in the future."""
    return s.trans_start <= s.last


@invariant()
def standing_is_found(s: Watch, p: WatchParams) -> bool:
    """The timer runs a second after the patience of a queue that stands at the latest."""
    return not s.armed or s.expires <= max(s.trans_start, s.last) + p.watchdog_timeo + p.hz


@transition(TimerFires)
def only_standing_times_out(s: Watch, e: TimerFires, t: Watch, effects: tuple[object, ...], p: WatchParams) -> bool:
    """A driver is called only for a queue that has stood for longer than its patience."""
    return all(s.stopped and x.stood > p.watchdog_timeo for x in effects if isinstance(x, Timeout))


@transition(TimerFires)
def standing_times_out(s: Watch, e: TimerFires, t: Watch, effects: tuple[object, ...], p: WatchParams) -> bool:
    """When the timer runs, a queue that has stood too long is not passed over."""
    stands = s.stopped and e.now > s.trans_start + p.watchdog_timeo
    return not stands or any(True for x in effects if isinstance(x, Timeout))


@transition(TimerFires)
def looks_again(s: Watch, e: TimerFires, t: Watch) -> bool:
    """The timer is armed again, and does not touch the queue."""
    return t.armed and t.expires > e.now and t.stopped == s.stopped


WATCHDOG: Final = machine(
    Machine(
        name="dev_watchdog",
        title="The transmit watchdog",
        accepts={Watch: (Sent, Woken, Activated, Deactivated, TimerFires)},
        params=WatchParams,
        modules=("refmodel.dev.watchdog",),
    )
)


def round_jiffies(j: int, now: int, hz: int) -> int:
    """Rounds a deadline to a whole second so that timers run together; source kernel/time/timer.c:round_jiffies."""
    rem = j % hz
    rounded = j - rem if rem < hz // 4 else j - rem + hz
    return rounded if rounded > now else j


class Watchdog:
    """A device's watchdog_timer; `timeo` is its patience in jiffies, five seconds if the driver names none."""

    def __init__(self, env: DevEnv, dev: NetDevice, timeo: int = 0) -> None:
        self.env = env
        self.dev = dev
        self.timeo = timeo or 5 * env.hz
        self.present = True
        self.timer = env.timer("dev_watchdog", dev_watchdog, self)


@cited("net/sched/sch_generic.c:__netdev_watchdog_up")
def __netdev_watchdog_up(w: Watchdog) -> None:
    """The timer is armed."""
    now = w.env.jiffies
    w.timer.mod(round_jiffies(now + w.timeo, now, w.env.hz))


@cited("net/sched/sch_generic.c:dev_watchdog_down")
def dev_watchdog_down(w: Watchdog) -> None:
    """The timer is disarmed."""
    w.timer.stop()


def freeze(queues: tuple[NetdevQueue, ...]) -> None:
    """Nobody may send; source net/sched/sch_generic.c:netif_freeze_queues."""
    for txq in queues:
        txq.state |= QUEUE_STATE_FROZEN


def unfreeze(env: DevEnv, queues: tuple[NetdevQueue, ...]) -> None:
    """Whoever waited is scheduled; source net/sched/sch_generic.c:netif_unfreeze_queues."""
    for txq in queues:
        txq.state &= ~QUEUE_STATE_FROZEN
        if not txq.xmit_stopped:
            env.netif_schedule(txq.qdisc)


@cited("net/sched/sch_generic.c:dev_watchdog")
def dev_watchdog(w: Watchdog) -> None:
    """Looks for a queue that stands too long; the first one found is its driver's to mend."""
    env, dev = w.env, w.dev
    queues: tuple[NetdevQueue, ...] = env.netdev_queues(dev)
    if all(q.qdisc.ops.id == "noop" for q in queues) or not (w.present and dev.up and dev.carrier):
        return
    now = env.jiffies
    oldest = now
    for txq in queues:
        if not txq.xmit_stopped:
            continue
        if overdue(True, txq.trans_start, now, w.timeo):
            ms = (now - txq.trans_start) * 1000 // env.hz
            txq.trans_timeout += 1
            env.note("dev_watchdog", f"NETDEV WATCHDOG: {dev.name}: transmit queue {txq.index} timed out {ms} ms")
            freeze(queues)
            env.ndo_tx_timeout(dev, txq.index)
            unfreeze(env, queues)
            break
        oldest = min(oldest, txq.trans_start)
    w.timer.mod(round_jiffies(oldest + w.timeo, now, env.hz))
