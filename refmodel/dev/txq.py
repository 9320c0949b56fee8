"""Stopping, starting and waking a transmit queue, by the driver and by byte queue limits."""

from msgspec.structs import replace

from refmodel.dev.dql import Completed, Dql, avail, dql_completed, dql_queued
from refmodel.dev.env import DevEnv
from refmodel.dev.queue import QUEUE_STATE_DRV_XOFF, QUEUE_STATE_STACK_XOFF, NetdevQueue
from refmodel.rule import cited


@cited("include/linux/netdevice.h:netif_tx_stop_queue")
def netif_tx_stop_queue(env: DevEnv, txq: NetdevQueue) -> None:
    """The driver has no room for another packet; the watchdog counts from now."""
    txq.trans_start = env.jiffies
    txq.state |= QUEUE_STATE_DRV_XOFF
    env.note("netif_tx_stop_queue", f"{txq.dev.name} queue {txq.index} is stopped")


@cited("include/linux/netdevice.h:netif_tx_start_queue")
def netif_tx_start_queue(env: DevEnv, txq: NetdevQueue) -> None:
    """The driver may be given packets again; who waits is not told."""
    txq.state &= ~QUEUE_STATE_DRV_XOFF


@cited("net/core/dev.c:netif_tx_wake_queue")
def netif_tx_wake_queue(env: DevEnv, txq: NetdevQueue) -> None:
    """The driver has room again: a queue that was stopped has its discipline scheduled."""
    if not txq.drv_stopped:
        return
    txq.state &= ~QUEUE_STATE_DRV_XOFF
    env.note("netif_tx_wake_queue", f"{txq.dev.name} queue {txq.index} runs again")
    env.netif_schedule(txq.qdisc)


@cited("include/linux/netdevice.h:netdev_tx_sent_queue")
def netdev_tx_sent_queue(env: DevEnv, txq: NetdevQueue, count: int) -> None:
    """Bytes given to the device are booked; over the limit the queue stops."""
    txq.dql = dql_queued(txq.dql, count)
    left = avail(txq.dql)
    if left >= 0:
        return
    txq.trans_start = env.jiffies
    txq.state |= QUEUE_STATE_STACK_XOFF
    env.note("netdev_tx_sent_queue", f"{-left} bytes over the limit of {txq.dql.limit}: queue {txq.index} is stopped")


@cited("include/linux/netdevice.h:__netdev_tx_sent_queue")
def __netdev_tx_sent_queue(env: DevEnv, txq: NetdevQueue, count: int, xmit_more: bool) -> bool:
    """The same for a driver that gets lists: it is stopped only behind the last; whether to ring the doorbell now."""
    if xmit_more:
        txq.dql = dql_queued(txq.dql, count)
        return txq.drv_stopped
    netdev_tx_sent_queue(env, txq, count)
    return True


@cited("include/linux/netdevice.h:netdev_tx_completed_queue")
def netdev_tx_completed_queue(env: DevEnv, txq: NetdevQueue, pkts: int, count: int) -> None:
    """Bytes that the device has sent are booked; with room a queue that was stopped runs again."""
    if not count:
        return
    before = txq.dql.limit
    txq.dql = dql_completed(txq.dql, Completed(count=count, now=env.jiffies), txq.dql_params)
    if txq.dql.limit != before:
        env.note("netdev_tx_completed_queue", f"limit {before} -> {txq.dql.limit} bytes")
    if avail(txq.dql) < 0:
        return
    if txq.state & QUEUE_STATE_STACK_XOFF:
        txq.state &= ~QUEUE_STATE_STACK_XOFF
        env.note("netdev_tx_completed_queue", f"room again: queue {txq.index} runs")
        env.netif_schedule_queue(txq)


@cited("include/linux/netdevice.h:netdev_tx_reset_queue")
def netdev_tx_reset_queue(env: DevEnv, txq: NetdevQueue) -> None:
    """A device that was reset has nothing in hand."""
    txq.state &= ~QUEUE_STATE_STACK_XOFF
    txq.dql = dql_reset(env, txq)


@cited("lib/dynamic_queue_limits.c:dql_reset")
def dql_reset(env: DevEnv, txq: NetdevQueue) -> Dql:
    """All that was learned is forgotten."""
    return replace(Dql(), limit=txq.dql_params.min_limit, slack_start_time=env.jiffies)
