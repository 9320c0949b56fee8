"""struct Qdisc: a queueing discipline, its state bits and its statistics.

The law: a packet that enters is counted once when it leaves, or once as a drop. What comes back from a busy driver is
put at the head of `gso_skb`, is part of the queue again, and counts as a requeue.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from refmodel.dropreason import Reason
from refmodel.netdevice import ARPHRD_ETHER, ARPHRD_LOOPBACK, ETH_HLEN, NetDevice
from refmodel.rule import cited
from refmodel.sched.const import (
    NET_XMIT_DROP,
    NET_XMIT_SUCCESS,
    QDISC_STATE_MISSED,
    QDISC_STATE_NON_EMPTY,
    TCQ_F_NOLOCK,
)
from refmodel.sched.env import SchedEnv, Txq
from refmodel.skbuff import SkBuff

PURGE_REASON_SINCE: Final = 612

ToFree = list[SkBuff]
Enqueue = Callable[[SchedEnv, SkBuff, "Qdisc", ToFree], int]
Dequeue = Callable[[SchedEnv, "Qdisc"], SkBuff | None]


class QdiscCb:
    """struct qdisc_skb_cb: `pkt_len` bytes as the discipline counts them, and why the packet would be dropped."""

    __slots__ = ("drop_reason", "pkt_len")

    def __init__(self, pkt_len: int, drop_reason: Reason = Reason.QDISC_DROP) -> None:
        self.pkt_len = pkt_len
        self.drop_reason = drop_reason


class QdiscOps:
    """struct Qdisc_ops: what makes a discipline; `enqueue` is None for noqueue alone."""

    __slots__ = ("attach", "change_tx_queue_len", "dequeue", "enqueue", "id", "init", "peek", "reset", "static_flags")

    def __init__(
        self,
        id: str,
        enqueue: Enqueue | None,
        dequeue: Dequeue,
        peek: Dequeue,
        init: Callable[[SchedEnv, "Qdisc", Any], int] | None = None,
        reset: Callable[[SchedEnv, "Qdisc"], None] | None = None,
        static_flags: int = 0,
        change_tx_queue_len: Callable[[SchedEnv, "Qdisc", int], int] | None = None,
        attach: Callable[[SchedEnv, "Qdisc"], None] | None = None,
    ) -> None:
        self.id = id
        self.enqueue = enqueue
        self.dequeue = dequeue
        self.peek = peek
        self.init = init
        self.reset = reset
        self.static_flags = static_flags
        self.change_tx_queue_len = change_tx_queue_len
        self.attach = attach


class Qdisc:
    """One queueing discipline on one transmit queue.

    `q` is the plain list of those that have one, `qlen` packets and `backlog` bytes are all that wait, `gso_skb` what
    came back from the driver, `skb_bad_txq` what was taken out for another transmit queue. `bytes` and `packets` are
    what was sent, `drops`, `overlimits`, `requeues` as ``tc -s qdisc`` prints them. `running` is the sequence lock of a
    discipline without lock (`seqlock`), or __QDISC_STATE2_RUNNING. `priv` is the discipline's own.
    """

    __slots__ = (
        "backlog", "bytes", "dequeue", "dev_queue", "drops", "enqueue", "flags", "gso_skb", "handle", "limit", "ops",
        "overlimits", "owner", "packets", "parent", "parent_qdisc", "priv", "q", "qlen", "requeues", "running",
        "skb_bad_txq", "state",
    )  # fmt: skip

    def __init__(self, ops: QdiscOps, dev_queue: Txq | None, parent: int = 0) -> None:
        self.ops = ops
        self.enqueue = ops.enqueue
        self.dequeue = ops.dequeue
        self.flags = ops.static_flags
        self.dev_queue: Any = dev_queue
        self.parent = parent
        self.parent_qdisc: Qdisc | None = None
        self.handle = 0
        self.limit = 0
        self.q: deque[SkBuff] = deque()
        self.gso_skb: deque[SkBuff] = deque()
        self.skb_bad_txq: deque[SkBuff] = deque()
        self.qlen = 0
        self.backlog = 0
        self.bytes = 0
        self.packets = 0
        self.drops = 0
        self.overlimits = 0
        self.requeues = 0
        self.state = 0
        self.running = False
        self.owner = -1
        self.priv: Any = None

    @property
    def nolock(self) -> bool:
        """It runs without the root lock (TCQ_F_NOLOCK)."""
        return bool(self.flags & TCQ_F_NOLOCK)

    @property
    def nolock_empty(self) -> bool:
        """Neither MISSED nor DRAINING: nothing waits, as far as the bits know (nolock_qdisc_is_empty)."""
        return not self.state & QDISC_STATE_NON_EMPTY

    def __repr__(self) -> str:
        return f"<{self.ops.id} {self.qlen}p {self.backlog}b>"


def qdisc_pkt_len(skb: SkBuff) -> int:
    """The packet's length in bytes as disciplines count it; source include/net/sch_generic.h:qdisc_pkt_len."""
    return int(skb.cb.pkt_len)


def frame_len(skb: SkBuff) -> int:
    """Bytes from the link-layer header on: what skb->len is between the stack and the driver."""
    return len(skb.mac_header) + skb.len


def hard_header_len(dev: NetDevice) -> int:
    """Bytes of the device's link-layer header (dev->hard_header_len)."""
    return ETH_HLEN if dev.type in (ARPHRD_ETHER, ARPHRD_LOOPBACK) else 0


def psched_mtu(dev: NetDevice) -> int:
    """The longest frame that the device takes, in bytes; source include/net/pkt_sched.h:psched_mtu."""
    return dev.mtu + hard_header_len(dev)


def qdisc_root(q: Qdisc) -> Qdisc:
    """The discipline at the root of q's tree, as the transmit queue has it now."""
    root: Qdisc = q.dev_queue.qdisc
    return root


def qdisc_backlog_inc(q: Qdisc, skb: SkBuff) -> None:
    """One packet more waits; source include/net/sch_generic.h:qdisc_qstats_backlog_inc."""
    q.backlog += qdisc_pkt_len(skb)
    q.qlen += 1


def qdisc_backlog_dec(q: Qdisc, skb: SkBuff) -> None:
    """One packet less waits; source include/net/sch_generic.h:qdisc_qstats_backlog_dec."""
    q.backlog -= qdisc_pkt_len(skb)
    q.qlen -= 1


@cited("include/net/sch_generic.h:qdisc_bstats_update")
def qdisc_bstats_update(q: Qdisc, skb: SkBuff) -> None:
    """A packet that leaves is counted with its bytes; a super-packet counts as its segments."""
    q.bytes += qdisc_pkt_len(skb)
    q.packets += skb.gso_segs if skb.is_gso else 1


@cited("include/net/sch_generic.h:__qdisc_drop")
def __qdisc_drop(skb: SkBuff, to_free: ToFree) -> None:
    """The packet goes on the list of those that the caller frees when it has dropped its locks."""
    to_free.insert(0, skb)


@cited("include/net/sch_generic.h:qdisc_drop", "include/net/sch_generic.h:qdisc_drop_cpu")
def qdisc_drop(skb: SkBuff, q: Qdisc, to_free: ToFree) -> int:
    """A packet that a discipline refuses is counted as dropped."""
    __qdisc_drop(skb, to_free)
    q.drops += 1
    return NET_XMIT_DROP


@cited("include/net/sch_generic.h:qdisc_enqueue_tail")
def qdisc_enqueue_tail(skb: SkBuff, q: Qdisc) -> int:
    """The packet goes to the end of the plain list."""
    q.q.append(skb)
    qdisc_backlog_inc(q, skb)
    return NET_XMIT_SUCCESS


@cited("include/net/sch_generic.h:qdisc_dequeue_head")
def qdisc_dequeue_head(env: SchedEnv, q: Qdisc) -> SkBuff | None:
    """The first packet of the plain list leaves and is counted as sent."""
    if not q.q:
        return None
    skb = q.q.popleft()
    qdisc_backlog_dec(q, skb)
    qdisc_bstats_update(q, skb)
    return skb


@cited("include/net/sch_generic.h:__qdisc_queue_drop_head")
def __qdisc_queue_drop_head(q: Qdisc, to_free: ToFree) -> int:
    """The oldest packet is dropped; how many bytes it had."""
    if not q.q:
        return 0
    skb = q.q.popleft()
    qdisc_backlog_dec(q, skb)
    __qdisc_drop(skb, to_free)
    return qdisc_pkt_len(skb)


@cited("include/net/sch_generic.h:qdisc_peek_head")
def qdisc_peek_head(env: SchedEnv, q: Qdisc) -> SkBuff | None:
    """The first packet of the plain list, which stays."""
    return q.q[0] if q.q else None


@cited("include/net/sch_generic.h:qdisc_peek_dequeued")
def qdisc_peek_dequeued(env: SchedEnv, q: Qdisc) -> SkBuff | None:
    """Who cannot look without taking takes the packet and keeps it in gso_skb, still part of the queue."""
    if q.gso_skb:
        return q.gso_skb[0]
    skb = q.dequeue(env, q)
    if skb is not None:
        q.gso_skb.appendleft(skb)
        qdisc_backlog_inc(q, skb)
    return skb


@cited("include/net/sch_generic.h:qdisc_dequeue_peeked")
def qdisc_dequeue_peeked(env: SchedEnv, q: Qdisc) -> SkBuff | None:
    """The packet that was looked at before leaves."""
    if not q.gso_skb:
        return q.dequeue(env, q)
    skb = q.gso_skb.popleft()
    qdisc_backlog_dec(q, skb)
    return skb


@cited("net/sched/sch_api.c:qdisc_tree_reduce_backlog")
def qdisc_tree_reduce_backlog(q: Qdisc, n: int, length: int) -> None:
    """What a child lost by itself all its parents count as dropped and as no longer theirs."""
    parent = q.parent_qdisc
    while parent is not None:
        parent.qlen -= n
        parent.backlog -= length
        parent.drops += max(n, 0)
        parent = parent.parent_qdisc


@cited("include/net/sch_generic.h:qdisc_run_begin")
def qdisc_run_begin(env: SchedEnv, q: Qdisc) -> bool:
    """Only one processor runs a discipline; who comes second leaves MISSED for the first."""
    if not q.running:
        q.running = True
        env.note("qdisc_run_begin", "nobody runs it")
        return True
    if q.nolock:
        q.state |= QDISC_STATE_MISSED
    env.note("qdisc_run_begin", "it is run already" + (": MISSED" if q.nolock else ""))
    return False


@cited("net/sched/sch_generic.c:qdisc_reset")
def qdisc_reset(env: SchedEnv, q: Qdisc) -> None:
    """Everything that waits is thrown away."""
    if q.ops.reset is not None:
        q.ops.reset(env, q)
    waiting = [*q.gso_skb, *q.skb_bad_txq]
    q.gso_skb.clear()
    q.skb_bad_txq.clear()
    for skb in waiting:
        env.kfree_skb(skb, Reason.QUEUE_PURGE if env.kernel >= PURGE_REASON_SINCE else Reason.NOT_SPECIFIED)
    q.qlen = 0
    q.backlog = 0


@cited("include/net/sch_generic.h:qdisc_reset_queue")
def qdisc_reset_queue(env: SchedEnv, q: Qdisc) -> None:
    """The plain list is freed."""
    while q.q:
        env.kfree_skb(q.q.popleft(), Reason.NOT_SPECIFIED)
