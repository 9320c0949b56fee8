"""Carrier: a driver tells that it came or went, and a work item activates or deactivates the device's disciplines.

The law: a carrier that comes to a device whose disciplines sleep is dealt with at once, everything else once a second.
"""

from collections import deque
from typing import Any, Protocol

from refmodel.dev.env import DevEnv
from refmodel.netdevice import NetDevice
from refmodel.rule import cited


class LinkEnv(DevEnv, Protocol):
    """What the link watch asks beyond that."""

    def dev_get_iflink(self, dev: NetDevice) -> int:
        """The ifindex of the device below, or of the other end; its own where there is none."""

    def dev_activate(self, dev: NetDevice) -> bool:
        """The device's disciplines begin to work."""

    def dev_deactivate(self, dev: NetDevice) -> None:
        """noop takes their place."""


class LinkWatch:
    """The machine's list of devices whose carrier changed. `nextevent`: the jiffy before which only urgent work runs.

    `changes` counts each device's (carrier_up_count, carrier_down_count).
    """

    def __init__(self, env: LinkEnv) -> None:
        self.env = env
        self.pending: deque[NetDevice] = deque()
        self.nextevent = env.jiffies
        self.urgent = False
        self.work: Any = env.timer("linkwatch_work", linkwatch_event, self)
        self.changes: dict[int, tuple[int, int]] = {}


def qdisc_tx_changing(env: LinkEnv, dev: NetDevice) -> bool:
    """A discipline sleeps; source include/net/sch_generic.h:qdisc_tx_changing."""
    return any(txq.qdisc is not txq.qdisc_sleeping for txq in env.netdev_queues(dev))


@cited("net/core/link_watch.c:linkwatch_urgent_event")
def linkwatch_urgent_event(w: LinkWatch, dev: NetDevice) -> bool:
    """A stacked device, or a carrier that came to disciplines that sleep."""
    if not dev.up:
        return False
    if w.env.dev_get_iflink(dev) != dev.ifindex:
        return True
    return dev.carrier and qdisc_tx_changing(w.env, dev)


@cited("net/core/link_watch.c:linkwatch_schedule_work")
def linkwatch_schedule_work(w: LinkWatch, urgent: bool) -> None:
    """Urgent work runs at once, other work when a second has passed since the last."""
    if w.urgent:
        return
    delay = w.nextevent - w.env.jiffies
    if urgent:
        w.urgent = True
    if urgent or not 0 <= delay <= w.env.hz:
        delay = 0
    if urgent or not w.work.pending:
        w.work.start_us(w.env.now + delay * 1_000_000 // w.env.hz)
    w.env.note("linkwatch_schedule_work", f"in {delay} jiffies{', urgent' if urgent else ''}")


@cited("net/core/link_watch.c:linkwatch_fire_event")
def linkwatch_fire_event(w: LinkWatch, dev: NetDevice) -> None:
    """A device is put on the list once."""
    urgent = linkwatch_urgent_event(w, dev)
    if dev not in w.pending:
        w.pending.append(dev)
    elif not urgent:
        return
    linkwatch_schedule_work(w, urgent)


@cited("net/core/link_watch.c:linkwatch_do_dev")
def linkwatch_do_dev(w: LinkWatch, dev: NetDevice) -> None:
    """Disciplines work while the device is up and has carrier."""
    if not dev.up:
        return
    if dev.carrier:
        w.env.dev_activate(dev)
    else:
        w.env.dev_deactivate(dev)
    w.env.note("linkwatch_do_dev", f"{dev.name}: {'activated' if dev.carrier else 'deactivated'}")


@cited("net/core/link_watch.c:linkwatch_event", "net/core/link_watch.c:__linkwatch_run_queue")
def linkwatch_event(w: LinkWatch) -> None:
    """The work item: before the second is over only what is urgent, else everything."""
    now = w.env.jiffies
    urgent_only = w.nextevent > now
    if not urgent_only:
        w.nextevent = now + w.env.hz
    elif w.nextevent > now + w.env.hz:
        w.nextevent = now
    w.urgent = False
    todo = list(w.pending)
    w.pending.clear()
    for dev in todo:
        if urgent_only and not linkwatch_urgent_event(w, dev):
            w.pending.append(dev)
        else:
            linkwatch_do_dev(w, dev)
    if w.pending:
        linkwatch_schedule_work(w, False)


@cited("net/sched/sch_generic.c:netif_carrier_on")
def netif_carrier_on(w: LinkWatch, dev: NetDevice) -> None:
    """The driver has found a carrier."""
    if dev.carrier:
        return
    dev.carrier = True
    up, down = w.changes.get(dev.ifindex, (0, 0))
    w.changes[dev.ifindex] = (up + 1, down)
    linkwatch_fire_event(w, dev)


@cited("net/sched/sch_generic.c:netif_carrier_off")
def netif_carrier_off(w: LinkWatch, dev: NetDevice) -> None:
    """The driver has lost the carrier."""
    if not dev.carrier:
        return
    dev.carrier = False
    up, down = w.changes.get(dev.ifindex, (0, 0))
    w.changes[dev.ifindex] = (up, down + 1)
    linkwatch_fire_event(w, dev)
