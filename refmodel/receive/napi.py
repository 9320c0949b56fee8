"""NAPI: who polls which device, in which softirq or thread, and for how long.

The law is that of refmodel.nic.napi, the proved machine of one instance, whose decisions are taken here for all
instances of a processor. Busy polling and netpoll are left out.
"""

from collections import deque
from typing import Final

from msgspec.structs import replace

from refmodel.context import Task
from refmodel.nic.napi import Listed, Loop, NapiParams, Prep, counted, defers, loop, prep
from refmodel.receive.gro import gro_normal_list, napi_gro_flush
from refmodel.receive.softnet import NapiStruct, Receive
from refmodel.rule import cited
from refmodel.skbuff import SkBuff
from refmodel.softirq import Vector

HZ_FLUSH_OLD: Final = 1000


def napi_params(napi: NapiStruct) -> NapiParams:
    """The instance's settings in the form in which the machine reads them."""
    return NapiParams(defer_hard_irqs=napi.defer_hard_irqs, gro_flush_timeout=napi.gro_flush_timeout)


@cited("include/linux/netdevice.h:napi_schedule")
def napi_schedule(rx: Receive, napi: NapiStruct) -> bool:
    """Schedules an instance unless someone else has; True if this did."""
    if not napi_schedule_prep(rx, napi):
        return False
    napi_schedule_prepared(rx, napi)
    return True


@cited("net/core/dev.c:napi_schedule_prep")
def napi_schedule_prep(rx: Receive, napi: NapiStruct) -> bool:
    """Takes the right to schedule; whoever comes second leaves a MISSED bit."""
    found = prep(napi.state)
    if found == Prep.FREE:
        napi.state = replace(napi.state, sched=True)
        return True
    rx.env.note(
        "napi_schedule_prep", f"{napi.name}: {'scheduled already, MISSED' if found == Prep.RUNNING else 'down'}"
    )
    if found == Prep.RUNNING:
        napi.state = replace(napi.state, missed=True)
    return False


@cited("net/core/dev.c:__napi_schedule")
def napi_schedule_prepared(rx: Receive, napi: NapiStruct) -> None:
    """Puts an instance on this processor's poll list."""
    rx.napi_schedule_on(rx.sd, napi)


@cited("net/core/dev.c:napi_watchdog")
def napi_watchdog(rx: Receive, napi: NapiStruct) -> None:
    """The instance's timer fires in its interrupt: an idle one is scheduled."""
    if prep(napi.state) == Prep.FREE:
        rx.env.note("napi_watchdog", f"{napi.name}: schedules")
        napi.state = replace(napi.state, sched=True, timer=False)
        napi_schedule_prepared(rx, napi)
    else:
        napi.state = replace(napi.state, timer=False)


@cited("net/core/dev.c:napi_complete_done")
def napi_complete_done(rx: Receive, napi: NapiStruct, work_done: int) -> bool:
    """The driver has found no more: GRO is flushed, SCHED given back; True if it may unmask its interrupt."""
    s, p = napi.state, napi_params(napi)
    if s.npsvc:
        return False
    timeout = napi.gro_flush_timeout if work_done and napi.gro_bitmask else 0
    ret = True
    if (p.defer_hard_irqs if work_done else s.defer_count) > 0:
        timeout = napi.gro_flush_timeout
        ret = not (timeout and defers(s, work_done, p))
    napi.state = replace(s, defer_count=counted(s, work_done, p))
    if napi.gro_bitmask:
        napi_gro_flush(rx.env, napi, timeout > 0)
    gro_normal_list(rx.env, napi)
    s = napi.state  # an interrupt may have left MISSED meanwhile
    if s.missed:
        napi.state = replace(s, sched=True, missed=False)
        rx.env.note("napi_complete_done", f"{napi.name}: MISSED, polled once more")
        napi_schedule_prepared(rx, napi)
        return False
    napi.state = replace(s, sched=False, timer=s.timer or timeout > 0, listed=Listed.NOWHERE)
    if timeout and napi.watchdog is not None:
        napi.watchdog(timeout)
    rx.env.note("napi_complete_done", f"{napi.name}: {work_done}{'' if ret else ', its timer polls next'}")
    return ret


@cited("net/core/dev.c:napi_poll", "net/core/dev.c:__napi_poll")
def napi_poll(rx: Receive, napi: NapiStruct, repoll: deque[NapiStruct]) -> int:
    """Calls the driver's poll; one that used up its weight is flushed and polled again later. Its work."""
    work, weight = 0, napi.weight
    if napi.state.sched:
        napi.state = replace(napi.state, listed=Listed.NOWHERE)
        work = napi.poll(napi, weight)
        rx.env.note("napi_poll", f"{napi.name}: {work} of {weight}")
    if work > weight:
        raise ValueError(f"the poll of {napi.name} did {work}, more than its budget of {weight}")
    if work < weight:
        return work
    if napi.state.disable:
        napi_complete_done(rx, napi, 0)
        return work
    if napi.gro_bitmask:
        # With HZ below 1000 a jiffy is so long that everything goes.
        napi_gro_flush(rx.env, napi, rx.params.hz >= HZ_FLUSH_OLD)
    gro_normal_list(rx.env, napi)
    if napi.state.listed == Listed.NOWHERE:
        napi.state = replace(napi.state, listed=Listed.REPOLL)
        repoll.append(napi)
    return work


@cited("net/core/dev.c:net_rx_action")
def net_rx_action(rx: Receive) -> None:
    """NET_RX: polls the instances on the list in turn until none is left, or budget or time is used up."""
    sd = rx.sd
    tick = 1_000_000 // rx.params.hz
    time_limit = rx.env.jiffies + -(-rx.params.netdev_budget_usecs // tick)
    budget = rx.params.netdev_budget
    repoll: deque[NapiStruct] = deque()
    sd.in_net_rx_action = True
    todo, sd.poll_list = sd.poll_list, deque()
    while True:
        if not todo:
            if not repoll:
                sd.in_net_rx_action = False
                if rx.params.kernel >= 612 and sd.poll_list:
                    rx.env.note("net_rx_action", "scheduled meanwhile: once more")
                    sd.in_net_rx_action = True
                    todo, sd.poll_list = sd.poll_list, deque()
                    continue
                if not sd.rps_ipi_list:
                    return
            break
        budget -= napi_poll(rx, todo.popleft(), repoll)
        if loop(budget, rx.env.jiffies >= time_limit) == Loop.SQUEEZED:
            sd.time_squeeze += 1
            rx.env.note("net_rx_action", "the budget is used up" if budget <= 0 else "the time is used up")
            break
    left = [*todo, *sd.poll_list, *repoll]
    for napi in left:
        napi.state = replace(napi.state, listed=Listed.PENDING)
    sd.poll_list = deque(left)
    if left:
        rx.env.note("net_rx_action", f"{len(left)} to be polled: raised again")
        rx.contexts.raise_softirq_quietly(Vector.NET_RX)
    else:
        sd.in_net_rx_action = False
    rx.net_rps_action(sd)


@cited("net/core/dev.c:napi_threaded_poll", "net/core/dev.c:napi_threaded_poll_loop")
def napi_threaded_poll(rx: Receive, napi: NapiStruct) -> None:
    """An instance's own thread polls it with bottom halves disabled until it has no more work."""
    while napi.state.sched:
        repoll: deque[NapiStruct] = deque()
        rx.contexts.local_bh_disable()
        sd = rx.sd
        sd.in_napi_threaded_poll = True
        napi_poll(rx, napi, repoll)
        sd.in_napi_threaded_poll = False
        if sd.rps_ipi_list:
            rx.net_rps_action(sd)
        rx.contexts.local_bh_enable()
        if not repoll:
            return


@cited("net/core/dev.c:dev_set_threaded", "net/core/dev.c:napi_kthread_create")
def dev_set_threaded(rx: Receive, napi: NapiStruct, threaded: bool) -> Task | None:
    """An instance gets a thread of its own, or loses it."""
    napi.thread = None
    if threaded:
        napi.thread = rx.contexts.kthread(f"napi/{napi.name}", lambda: napi_threaded_poll(rx, napi))
    return napi.thread


def held(napi: NapiStruct) -> list[SkBuff]:
    """What GRO holds, the oldest of each bucket first."""
    return [skb for bucket in napi.gro_hash for skb in reversed(bucket)]
