"""Running a discipline: who takes packets out, hands them to the device, and takes back what it refused.

The law: one processor at a time runs a discipline. What it leaves undone it leaves to somebody: to the NET_TX softirq
(SCHED), to whoever holds the lock (MISSED), or to the driver that will wake its queue (DRAINING).
"""

from refmodel.rule import cited
from refmodel.sched.const import (
    NET_TX_SOFTIRQ,
    NET_XMIT_MASK,
    NETDEV_TX_BUSY,
    QDISC_STATE_DRAINING,
    QDISC_STATE_MISSED,
    QDISC_STATE_SCHED,
    SLOW_BULK,
    TCQ_F_ONETXQUEUE,
)
from refmodel.sched.env import SchedEnv, Txq
from refmodel.sched.nolock import after_missed_cleared
from refmodel.sched.qdisc import (
    Qdisc,
    frame_len,
    qdisc_backlog_dec,
    qdisc_backlog_inc,
    qdisc_run_begin,
)
from refmodel.skbuff import SkBuff

REQUEUE_AT_HEAD_SINCE = 612


@cited("net/core/dev.c:__netif_reschedule")
def __netif_reschedule(env: SchedEnv, q: Qdisc) -> None:
    """The discipline goes on this processor's output queue."""
    env.softnet.output_queue.append(q)
    env.raise_softirq(NET_TX_SOFTIRQ)


@cited("net/core/dev.c:__netif_schedule")
def __netif_schedule(env: SchedEnv, q: Qdisc) -> None:
    """The NET_TX softirq will run the discipline; it is put on one output queue once."""
    if q.state & QDISC_STATE_SCHED:
        env.note("__netif_schedule", f"{q.ops.id} is scheduled already")
        return
    q.state |= QDISC_STATE_SCHED
    env.note("__netif_schedule", f"{q.ops.id} on the output queue: NET_TX raised")
    __netif_reschedule(env, q)


@cited("net/core/dev.c:netif_schedule_queue")
def netif_schedule_queue(env: SchedEnv, txq: Txq) -> None:
    """A queue that runs again has its discipline scheduled."""
    if not txq.xmit_stopped:
        __netif_schedule(env, txq.qdisc)


@cited("include/net/sch_generic.h:qdisc_run_end")
def qdisc_run_end(env: SchedEnv, q: Qdisc) -> None:
    """Whoever gives the lock back looks for MISSED and has the discipline run again."""
    q.running = False
    if q.nolock and q.state & QDISC_STATE_MISSED:
        env.note("qdisc_run_end", "MISSED is set: run again")
        __netif_schedule(env, q)


@cited("include/net/pkt_sched.h:qdisc_run")
def qdisc_run(env: SchedEnv, q: Qdisc) -> None:
    """The discipline is run unless another processor does."""
    if qdisc_run_begin(env, q):
        __qdisc_run(env, q)
        qdisc_run_end(env, q)


@cited("net/sched/sch_generic.c:qdisc_maybe_clear_missed")
def qdisc_maybe_clear_missed(env: SchedEnv, q: Qdisc, txq: Txq) -> None:
    """In front of a stopped queue MISSED gives way to DRAINING, unless the queue was woken in between."""
    q.state &= ~QDISC_STATE_MISSED
    missed = after_missed_cleared(txq.frozen_or_stopped)
    q.state |= QDISC_STATE_MISSED if missed else QDISC_STATE_DRAINING
    env.note("qdisc_maybe_clear_missed", "MISSED: the queue runs again" if missed else "DRAINING: the queue is stopped")


def txq_of(env: SchedEnv, q: Qdisc, skb: SkBuff) -> Txq:
    """The transmit queue that the packet was mapped to (skb_get_tx_queue)."""
    return env.netdev_queues(q.dev_queue.dev)[skb.queue_mapping]


@cited("net/sched/sch_generic.c:dev_requeue_skb")
def dev_requeue_skb(env: SchedEnv, skbs: list[SkBuff], q: Qdisc) -> None:
    """What the driver refused is part of the queue again, ahead of all others."""
    for skb in skbs:
        q.requeues += 1
        qdisc_backlog_inc(q, skb)
    if env.kernel >= REQUEUE_AT_HEAD_SINCE:
        q.gso_skb.extendleft(reversed(skbs))
    else:
        # Before that fix a packet that came back a second time fell behind those that came back with it.
        q.gso_skb.extend(skbs)
    env.note("dev_requeue_skb", f"{len(skbs)} back: {q.qlen} wait")
    if q.nolock:
        q.state |= QDISC_STATE_MISSED
    else:
        __netif_schedule(env, q)


@cited("net/sched/sch_generic.c:__skb_dequeue_bad_txq", "net/sched/sch_generic.c:qdisc_dequeue_skb_bad_txq")
def __skb_dequeue_bad_txq(env: SchedEnv, q: Qdisc) -> tuple[SkBuff | None, bool]:
    """A packet that was taken out for another transmit queue; the second value: that queue is stopped."""
    skb = q.skb_bad_txq[0]
    txq = txq_of(env, q, skb)
    if txq.frozen_or_stopped:
        qdisc_maybe_clear_missed(env, q, txq)
        return None, True
    q.skb_bad_txq.popleft()
    qdisc_backlog_dec(q, skb)
    return skb, False


@cited("net/sched/sch_generic.c:try_bulk_dequeue_skb")
def try_bulk_dequeue_skb(env: SchedEnv, q: Qdisc, skbs: list[SkBuff], txq: Txq, budget: int) -> int:
    """As many packets more as byte queue limits let in, at most `budget`: how many."""
    bytelimit = txq.dql_avail - frame_len(skbs[0])
    cnt = 0
    while bytelimit > 0:
        nskb = q.dequeue(env, q)
        if nskb is None:
            break
        bytelimit -= frame_len(nskb)
        skbs.append(nskb)
        cnt += 1
        if cnt >= budget:
            break
    return cnt


@cited("net/sched/sch_generic.c:try_bulk_dequeue_skb_slow")
def try_bulk_dequeue_skb_slow(env: SchedEnv, q: Qdisc, skbs: list[SkBuff]) -> int:
    """Up to eight packets more for the same transmit queue; one for another is set aside."""
    mapping = skbs[0].queue_mapping
    cnt = 0
    while cnt < SLOW_BULK:
        nskb = q.dequeue(env, q)
        if nskb is None:
            break
        if nskb.queue_mapping != mapping:
            q.skb_bad_txq.append(nskb)
            qdisc_backlog_inc(q, nskb)
            env.note("try_bulk_dequeue_skb_slow", f"transmit queue {nskb.queue_mapping}, not {mapping}: set aside")
            break
        skbs.append(nskb)
        cnt += 1
    return cnt


@cited("net/sched/sch_generic.c:dequeue_skb")
def dequeue_skb(env: SchedEnv, q: Qdisc, budget: int) -> tuple[list[SkBuff], bool, int]:
    """The next packets for the device, whether they must be validated, and how many count against the quota."""
    txq: Txq = q.dev_queue
    if q.gso_skb:
        skb = q.gso_skb[0]
        txq = txq_of(env, q, skb)
        if txq.frozen_or_stopped:
            env.note("dequeue_skb", f"a requeued packet waits: queue {txq.index} is stopped")
            qdisc_maybe_clear_missed(env, q, txq)
            return [], False, 1
        q.gso_skb.popleft()
        qdisc_backlog_dec(q, skb)
        env.note("dequeue_skb", "a requeued packet first, validated before")
        return [skb], False, 1
    if q.flags & TCQ_F_ONETXQUEUE and txq.frozen_or_stopped:
        env.note("dequeue_skb", f"queue {txq.index} is stopped: nothing is taken out")
        qdisc_maybe_clear_missed(env, q, txq)
        return [], True, 1
    first = None
    if q.skb_bad_txq:
        first, stopped = __skb_dequeue_bad_txq(env, q)
        if stopped:
            return [], True, 1
    if first is None:
        first = q.dequeue(env, q)
    if first is None:
        env.note("dequeue_skb", f"{q.ops.id} has nothing to give, {q.qlen} wait")
        return [], True, 1
    skbs = [first]
    packets = 1
    if q.flags & TCQ_F_ONETXQUEUE:
        packets += try_bulk_dequeue_skb(env, q, skbs, txq, budget)
    else:
        packets += try_bulk_dequeue_skb_slow(env, q, skbs)
    env.note("dequeue_skb", f"{packets} of {q.qlen + packets} packets, {txq.dql_avail} bytes free below")
    return skbs, True, packets


@cited("net/sched/sch_generic.c:sch_direct_xmit")
def sch_direct_xmit(env: SchedEnv, skbs: list[SkBuff], q: Qdisc, txq: Txq, validate: bool) -> bool:
    """Packets go to the driver; False: it refused, they are queued again, and the runner gives up."""
    dev = txq.dev
    if validate:
        skbs = env.validate_xmit_skb_list(skbs, dev)
    if not skbs:
        env.note("sch_direct_xmit", "nothing left to send after validation")
        return True
    ret = NETDEV_TX_BUSY
    locked = txq.xmit_lock_owner
    txq.xmit_lock_owner = env.softnet.cpu if not dev.lltx else locked
    if txq.frozen_or_stopped:
        env.note("sch_direct_xmit", f"queue {txq.index} of {dev.name} is stopped: the driver is not asked")
        qdisc_maybe_clear_missed(env, q, txq)
    else:
        env.note("sch_direct_xmit", f"{len(skbs)} for {dev.name}'s driver, queue {txq.index} runs")
        skbs, ret = env.dev_hard_start_xmit(skbs, dev, txq)
    txq.xmit_lock_owner = locked
    if ret >= NET_XMIT_MASK:
        env.note("sch_direct_xmit", f"{dev.name} is busy: {len(skbs)} packets are queued again")
        dev_requeue_skb(env, skbs, q)
        return False
    return True


@cited("net/sched/sch_generic.c:qdisc_restart")
def qdisc_restart(env: SchedEnv, q: Qdisc, budget: int) -> tuple[bool, int]:
    """Takes packets out and sends them: whether to go on, and how many they were."""
    skbs, validate, packets = dequeue_skb(env, q, budget)
    if not skbs:
        return False, packets
    return sch_direct_xmit(env, skbs, q, txq_of(env, q, skbs[0]), validate), packets


@cited("net/sched/sch_generic.c:__qdisc_run")
def __qdisc_run(env: SchedEnv, q: Qdisc) -> None:
    """The runner sends until the discipline is empty or throttled, the driver refuses, or its quota is used up."""
    weight = env.softnet.params.dev_tx_weight
    quota = weight
    while True:
        more, packets = qdisc_restart(env, q, quota)
        if not more:
            return
        quota -= packets
        if quota <= 0:
            env.note("__qdisc_run", f"quota of {weight} packets used up")
            if q.nolock:
                q.state |= QDISC_STATE_MISSED
            else:
                __netif_schedule(env, q)
            return
