"""pfifo, bfifo, pfifo_head_drop; source net/sched/sch_fifo.c."""

from typing import Any, Final

from refmodel.rule import cited
from refmodel.sched.account import Kind, bfifo_fits, bypassable, pfifo_fits
from refmodel.sched.const import NET_XMIT_CN, TCQ_F_CAN_BYPASS
from refmodel.sched.env import SchedEnv
from refmodel.sched.qdisc import (
    Qdisc,
    QdiscOps,
    ToFree,
    __qdisc_queue_drop_head,
    psched_mtu,
    qdisc_dequeue_head,
    qdisc_drop,
    qdisc_enqueue_tail,
    qdisc_peek_head,
    qdisc_pkt_len,
    qdisc_reset_queue,
    qdisc_tree_reduce_backlog,
)
from refmodel.skbuff import SkBuff

U32: Final = 0xFFFFFFFF


@cited("net/sched/sch_fifo.c:bfifo_enqueue")
def bfifo_enqueue(env: SchedEnv, skb: SkBuff, q: Qdisc, to_free: ToFree) -> int:
    """A packet enters while all bytes that wait and its own stay within the limit."""
    if bfifo_fits(q.backlog, qdisc_pkt_len(skb), q.limit):
        return qdisc_enqueue_tail(skb, q)
    env.note("bfifo_enqueue", f"{q.backlog} and {qdisc_pkt_len(skb)} bytes > {q.limit}: dropped")
    return qdisc_drop(skb, q, to_free)


@cited("net/sched/sch_fifo.c:pfifo_enqueue")
def pfifo_enqueue(env: SchedEnv, skb: SkBuff, q: Qdisc, to_free: ToFree) -> int:
    """A packet enters while fewer than `limit` wait."""
    if pfifo_fits(q.qlen, q.limit):
        return qdisc_enqueue_tail(skb, q)
    env.note("pfifo_enqueue", f"{q.qlen} packets wait, limit {q.limit}: dropped")
    return qdisc_drop(skb, q, to_free)


@cited("net/sched/sch_fifo.c:pfifo_tail_enqueue")
def pfifo_tail_enqueue(env: SchedEnv, skb: SkBuff, q: Qdisc, to_free: ToFree) -> int:
    """pfifo_head_drop always takes the packet; where there is no room the oldest one goes."""
    if q.limit == 0:
        return qdisc_drop(skb, q, to_free)
    if pfifo_fits(q.qlen, q.limit):
        return qdisc_enqueue_tail(skb, q)
    env.note("pfifo_tail_enqueue", f"{q.qlen} packets wait, limit {q.limit}: the oldest is dropped")
    prev_backlog = q.backlog
    __qdisc_queue_drop_head(q, to_free)
    q.drops += 1
    qdisc_enqueue_tail(skb, q)
    qdisc_tree_reduce_backlog(q, 0, prev_backlog - q.backlog)
    return NET_XMIT_CN


@cited("net/sched/sch_fifo.c:__fifo_init")
def __fifo_init(env: SchedEnv, q: Qdisc, opt: int | None) -> int:
    """`opt`: the limit in packets, or bytes of bfifo; without one tx_queue_len packets or as many full frames."""
    dev = q.dev_queue.dev
    kind = Kind.BFIFO if q.ops.id == "bfifo" else Kind.PFIFO
    if opt is None:
        q.limit = dev.tx_queue_len * (psched_mtu(dev) if kind == Kind.BFIFO else 1) & U32
    else:
        q.limit = opt
    if bypassable(kind, q.limit, psched_mtu(dev)):
        q.flags |= TCQ_F_CAN_BYPASS
    else:
        q.flags &= ~TCQ_F_CAN_BYPASS
    return 0


@cited("net/sched/sch_fifo.c:fifo_init")
def fifo_init(env: SchedEnv, q: Qdisc, opt: Any) -> int:
    """Sets the limit, at first and when it is changed."""
    return __fifo_init(env, q, opt)


PFIFO: Final = QdiscOps("pfifo", pfifo_enqueue, qdisc_dequeue_head, qdisc_peek_head, fifo_init, qdisc_reset_queue)
BFIFO: Final = QdiscOps("bfifo", bfifo_enqueue, qdisc_dequeue_head, qdisc_peek_head, fifo_init, qdisc_reset_queue)
PFIFO_HEAD_DROP: Final = QdiscOps(
    "pfifo_head_drop", pfifo_tail_enqueue, qdisc_dequeue_head, qdisc_peek_head, fifo_init, qdisc_reset_queue
)


@cited("net/sched/sch_fifo.c:fifo_set_limit")
def fifo_set_limit(env: SchedEnv, q: Qdisc, limit: int) -> int:
    """Changes a fifo's limit; of what else stands there nothing is changed."""
    if q.ops.id[1:5] != "fifo" or q.ops.id == "pfifo_fast":
        return 0
    return fifo_init(env, q, limit)
