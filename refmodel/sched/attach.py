"""Which discipline stands at a device: default ones, those that are set, and what happens as it goes up and down."""

from typing import Any, Final

from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.sched.const import (
    EINVAL,
    QDISC_STATE_DEACTIVATED,
    QDISC_STATE_DRAINING,
    QDISC_STATE_MISSED,
    TC_H_ROOT,
    TCQ_F_BUILTIN,
    TCQ_F_CPUSTATS,
    TCQ_F_MQROOT,
    TCQ_F_NOLOCK,
    TCQ_F_NOPARENT,
    TCQ_F_ONETXQUEUE,
)
from refmodel.sched.env import SchedEnv, Txq
from refmodel.sched.fifo import BFIFO, PFIFO, PFIFO_HEAD_DROP
from refmodel.sched.noop import NOOP, NOQUEUE, noop_dequeue, noop_enqueue
from refmodel.sched.pfifo_fast import PFIFO_FAST
from refmodel.sched.qdisc import Qdisc, QdiscOps, qdisc_reset
from refmodel.sched.tbf import TBF, tbf_graft


@cited("net/sched/sch_mq.c:mq_init")
def mq_init(env: SchedEnv, q: Qdisc, opt: Any) -> int:
    """mq has a default discipline for every transmit queue, and is for devices with several."""
    dev = q.dev_queue.dev
    if q.parent != TC_H_ROOT or dev.num_tx_queues == 1:
        return -EINVAL
    q.priv = []
    for txq in env.netdev_queues(dev):
        child = qdisc_create_dflt(env, txq, PFIFO_FAST, 0)
        if child is None:
            return -EINVAL
        child.flags |= TCQ_F_ONETXQUEUE | TCQ_F_NOPARENT
        q.priv.append(child)
    q.flags |= TCQ_F_MQROOT
    return 0


@cited("net/sched/sch_mq.c:mq_attach")
def mq_attach(env: SchedEnv, q: Qdisc) -> None:
    """Each transmit queue gets its own discipline."""
    for child in q.priv:
        dev_graft_qdisc(env, child.dev_queue, child)


@cited("net/sched/sch_mq.c:mq_dump")
def mq_dump(env: SchedEnv, q: Qdisc) -> Qdisc:
    """mq's numbers are the sums of its children's, worked out when they are asked for."""
    children = [txq.qdisc_sleeping for txq in env.netdev_queues(q.dev_queue.dev)]
    for name in ("bytes", "packets", "drops", "overlimits", "requeues", "backlog", "qlen"):
        setattr(q, name, sum(getattr(c, name) for c in children))
    return q


MQ: Final = QdiscOps("mq", noop_enqueue, noop_dequeue, noop_dequeue, mq_init, attach=mq_attach)

DISCIPLINES: Final = {o.id: o for o in (PFIFO_FAST, PFIFO, BFIFO, PFIFO_HEAD_DROP, TBF, MQ, NOQUEUE, NOOP)}


def noop_qdisc(txq: Txq) -> Qdisc:
    """What a queue has before it has a discipline."""
    return Qdisc(NOOP, txq)


@cited("net/sched/sch_generic.c:qdisc_alloc")
def qdisc_alloc(env: SchedEnv, txq: Txq, ops: QdiscOps) -> Qdisc:
    """A discipline with its own flags and empty books."""
    return Qdisc(ops, txq)


@cited("net/sched/sch_generic.c:qdisc_create_dflt")
def qdisc_create_dflt(env: SchedEnv, txq: Txq, ops: QdiscOps, parent: int) -> Qdisc | None:
    """A discipline with its default parameters; None if it refuses to be."""
    q = qdisc_alloc(env, txq, ops)
    q.parent = parent
    if ops.init is not None and ops.init(env, q, None) != 0:
        return None
    return q


@cited("net/sched/sch_generic.c:dev_graft_qdisc")
def dev_graft_qdisc(env: SchedEnv, txq: Txq, q: Qdisc | None) -> Qdisc:
    """A new discipline is put at a transmit queue; until the device is activated again noop drops all. The old one."""
    old: Qdisc = txq.qdisc_sleeping
    txq.qdisc_sleeping = q if q is not None else noop_qdisc(txq)
    txq.qdisc = noop_qdisc(txq)
    return old


@cited("net/sched/sch_generic.c:attach_one_default_qdisc")
def attach_one_default_qdisc(env: SchedEnv, dev: NetDevice, txq: Txq, no_queue: bool) -> None:
    """A device that queues gets pfifo_fast, one that needs no queue noqueue."""
    q = qdisc_create_dflt(env, txq, NOQUEUE if no_queue else PFIFO_FAST, TC_H_ROOT)
    if q is None:
        return
    if dev.num_tx_queues == 1:
        q.flags |= TCQ_F_ONETXQUEUE | TCQ_F_NOPARENT
    txq.qdisc_sleeping = q


@cited("net/sched/sch_generic.c:attach_default_qdiscs")
def attach_default_qdiscs(env: SchedEnv, dev: NetDevice) -> None:
    """One queue, or none wanted: its discipline is the root; several: mq. What fails is replaced by noqueue."""
    queues = env.netdev_queues(dev)
    if dev.num_tx_queues == 1 or dev.no_queue:
        for txq in queues:
            attach_one_default_qdisc(env, dev, txq, dev.no_queue)
        env.set_root_qdisc(dev, queues[0].qdisc_sleeping)
    else:
        mq = qdisc_create_dflt(env, queues[0], MQ, TC_H_ROOT)
        if mq is not None:
            env.set_root_qdisc(dev, mq)
            mq_attach(env, mq)
    if env.root_qdisc(dev).ops is NOOP:
        env.note("attach_default_qdiscs", f"{dev.name}: pfifo_fast fails, falls back to noqueue")
        for txq in queues:
            attach_one_default_qdisc(env, dev, txq, True)
        env.set_root_qdisc(dev, queues[0].qdisc_sleeping)
    env.note("attach_default_qdiscs", f"{dev.name}: {env.root_qdisc(dev).ops.id}")


@cited("net/sched/sch_generic.c:transition_one_qdisc")
def transition_one_qdisc(env: SchedEnv, txq: Txq) -> None:
    """The sleeping discipline starts to work."""
    q: Qdisc = txq.qdisc_sleeping
    if not q.flags & TCQ_F_BUILTIN:
        q.state &= ~QDISC_STATE_DEACTIVATED
    txq.qdisc = q
    txq.trans_start = env.jiffies


@cited("net/sched/sch_generic.c:dev_activate")
def dev_activate(env: SchedEnv, dev: NetDevice) -> bool:
    """A device that comes up gets its disciplines, but they work only while it has carrier: whether they do."""
    if env.root_qdisc(dev).ops is NOOP:
        attach_default_qdiscs(env, dev)
    if not dev.carrier:
        env.note("dev_activate", f"{dev.name} has no carrier: not yet")
        return False
    for txq in env.netdev_queues(dev):
        transition_one_qdisc(env, txq)
    return True


@cited("net/sched/sch_generic.c:qdisc_deactivate")
def qdisc_deactivate(q: Qdisc) -> None:
    """Whoever comes to the discipline from now on is turned away."""
    if not q.flags & TCQ_F_BUILTIN:
        q.state |= QDISC_STATE_DEACTIVATED


@cited("net/sched/sch_generic.c:dev_deactivate_queue")
def dev_deactivate_queue(env: SchedEnv, txq: Txq) -> None:
    """noop takes the discipline's place."""
    qdisc_deactivate(txq.qdisc)
    txq.qdisc = noop_qdisc(txq)


@cited("include/net/sch_generic.h:dev_reset_queue")
def dev_reset_queue(env: SchedEnv, txq: Txq) -> None:
    """Everything that waits is thrown away, and nothing is left to be seen to."""
    q: Qdisc = txq.qdisc_sleeping
    qdisc_reset(env, q)
    if q.nolock:
        q.state &= ~(QDISC_STATE_MISSED | QDISC_STATE_DRAINING)


@cited("net/sched/sch_generic.c:dev_deactivate")
def dev_deactivate(env: SchedEnv, dev: NetDevice) -> None:
    """A device that goes down, or loses its carrier, drops what waits and all that comes."""
    for txq in env.netdev_queues(dev):
        dev_deactivate_queue(env, txq)
    for txq in env.netdev_queues(dev):
        dev_reset_queue(env, txq)


@cited("net/sched/sch_generic.c:dev_qdisc_change_tx_queue_len")
def dev_qdisc_change_tx_queue_len(env: SchedEnv, dev: NetDevice, new_len: int) -> int:
    """Another tx_queue_len is for the disciplines with rings; the device is emptied before."""
    dev.tx_queue_len = new_len
    if dev.up:
        dev_deactivate(env, dev)
    ret = 0
    for txq in env.netdev_queues(dev):
        ops = txq.qdisc_sleeping.ops
        ret = ops.change_tx_queue_len(env, txq.qdisc_sleeping, new_len) if ops.change_tx_queue_len else 0
        if ret:
            break
    if dev.up:
        dev_activate(env, dev)
    return ret


@cited("net/sched/sch_api.c:qdisc_create", "net/sched/sch_api.c:qdisc_graft")
def qdisc_create(env: SchedEnv, dev: NetDevice, kind: str, opt: Any = None, handle: int = 0x80010000) -> int:
    """``tc qdisc replace dev DEV root KIND``: 0, or -EINVAL if the discipline refuses its parameters."""
    queues = env.netdev_queues(dev)
    q = qdisc_alloc(env, queues[0], DISCIPLINES[kind])
    q.parent = TC_H_ROOT
    q.handle = handle
    if dev.num_tx_queues == 1:
        q.flags |= TCQ_F_ONETXQUEUE
    if q.ops.init is not None:
        err = q.ops.init(env, q, opt)
        if err:
            return err
    if dev.up:
        dev_deactivate(env, dev)
    if q.ops.attach is not None:
        q.ops.attach(env, q)
    else:
        for txq in queues:
            old = dev_graft_qdisc(env, txq, q)
            qdisc_reset(env, old)
    env.set_root_qdisc(dev, q)
    if dev.up:
        dev_activate(env, dev)
    return 0


@cited("net/sched/sch_api.c:qdisc_graft")
def qdisc_graft(env: SchedEnv, parent: Qdisc, kind: str, opt: Any = None, handle: int = 0x80020000) -> Qdisc:
    """``tc qdisc replace ... parent 1:1 KIND``: under tbf, which locks, a lockless discipline is run with the lock."""
    child = qdisc_alloc(env, parent.dev_queue, DISCIPLINES[kind])
    child.handle = handle
    assert child.ops.init is not None
    child.ops.init(env, child, opt)
    if child.nolock and not parent.nolock:
        child.flags &= ~(TCQ_F_NOLOCK | TCQ_F_CPUSTATS)
    tbf_graft(env, parent, child)
    return child
