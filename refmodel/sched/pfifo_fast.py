"""pfifo_fast: three rings in strict priority; source net/sched/sch_generic.c."""

from collections import deque
from typing import Any, Final

from refmodel.dropreason import Reason
from refmodel.ptr_ring import PtrRing, consumed, full, produced
from refmodel.rule import cited
from refmodel.sched.bands import band_of, first_band
from refmodel.sched.const import (
    EINVAL,
    IP_TOS2PRIO,
    IPTOS_TOS_MASK,
    NET_XMIT_SUCCESS,
    QDISC_STATE_DRAINING,
    QDISC_STATE_MISSED,
    QDISC_STATE_NON_EMPTY,
    TCQ_F_CAN_BYPASS,
    TCQ_F_CPUSTATS,
    TCQ_F_NOLOCK,
)
from refmodel.sched.env import SchedEnv
from refmodel.sched.qdisc import (
    Qdisc,
    QdiscOps,
    ToFree,
    qdisc_backlog_dec,
    qdisc_backlog_inc,
    qdisc_bstats_update,
    qdisc_drop,
)
from refmodel.skbuff import SkBuff

BANDS: Final = 3
OVERLIMIT_REASON_SINCE: Final = 618  # of pfifo_fast alone: what fifos and tbf refuse is QDISC_DROP still


class Rings:
    """struct pfifo_fast_priv: `size` slots a ring, their states and the packets in them."""

    __slots__ = ("queues", "rings", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.rings = [PtrRing()] * BANDS
        self.queues: list[deque[SkBuff]] = [deque() for _ in range(BANDS)]

    @property
    def first(self) -> int:
        """The first band with a packet, BANDS if there is none."""
        return first_band(*(r.waiting for r in self.rings))

    def consume(self, band: int) -> SkBuff:
        """Takes the oldest packet of a band that has one."""
        self.rings[band] = consumed(self.rings[band], self.size)
        return self.queues[band].popleft()


@cited("include/net/route.h:rt_tos2priority")
def rt_tos2priority(tos: int) -> int:
    """The priority of a packet by its type of service: of EF (0xb8) that is 4, and so band 1 and not 0."""
    return IP_TOS2PRIO[(tos & IPTOS_TOS_MASK) >> 1]


@cited("net/sched/sch_generic.c:pfifo_fast_enqueue")
def pfifo_fast_enqueue(env: SchedEnv, skb: SkBuff, q: Qdisc, to_free: ToFree) -> int:
    """A packet enters the ring of its priority's band, or is dropped where that ring is full."""
    priv: Rings = q.priv
    band = band_of(skb.priority)
    ring = priv.rings[band]
    if full(ring, priv.size):
        held = f", {ring.held} slots not free yet" if ring.held else ""
        env.note("pfifo_fast_enqueue", f"band {band}: {ring.waiting} of {priv.size}{held}: dropped")
        if env.kernel >= OVERLIMIT_REASON_SINCE:
            skb.cb.drop_reason = Reason.QDISC_OVERLIMIT
        return qdisc_drop(skb, q, to_free)
    priv.rings[band] = produced(ring)
    priv.queues[band].append(skb)
    qdisc_backlog_inc(q, skb)
    env.note("pfifo_fast_enqueue", f"priority {skb.priority}: band {band}, {ring.waiting + 1} of {priv.size}")
    return NET_XMIT_SUCCESS


@cited("net/sched/sch_generic.c:pfifo_fast_dequeue")
def pfifo_fast_dequeue(env: SchedEnv, q: Qdisc) -> SkBuff | None:
    """The oldest packet of the first band that has one; where none has, MISSED and DRAINING are cleared."""
    priv: Rings = q.priv
    band = priv.first
    if band == BANDS:
        if q.state & QDISC_STATE_NON_EMPTY:
            q.state &= ~(QDISC_STATE_MISSED | QDISC_STATE_DRAINING)
            env.note("pfifo_fast_dequeue", "three empty rings: MISSED and DRAINING cleared")
        return None
    skb = priv.consume(band)
    qdisc_backlog_dec(q, skb)
    qdisc_bstats_update(q, skb)
    env.note("pfifo_fast_dequeue", f"band {band}")
    return skb


@cited("net/sched/sch_generic.c:pfifo_fast_peek")
def pfifo_fast_peek(env: SchedEnv, q: Qdisc) -> SkBuff | None:
    """The packet that would leave next, which stays."""
    priv: Rings = q.priv
    return priv.queues[priv.first][0] if priv.first < BANDS else None


@cited("net/sched/sch_generic.c:pfifo_fast_reset")
def pfifo_fast_reset(env: SchedEnv, q: Qdisc) -> None:
    """What the rings hold is freed."""
    priv: Rings = q.priv
    for band in range(BANDS):
        while priv.queues[band]:
            env.kfree_skb(priv.consume(band), Reason.NOT_SPECIFIED)
    q.qlen = 0
    q.backlog = 0


@cited("net/sched/sch_generic.c:pfifo_fast_init")
def pfifo_fast_init(env: SchedEnv, q: Qdisc, opt: Any) -> int:
    """Each band gets a ring of tx_queue_len slots; without any there is no pfifo_fast."""
    qlen = q.dev_queue.dev.tx_queue_len
    if not qlen:
        return -EINVAL
    q.priv = Rings(qlen)
    q.flags |= TCQ_F_CAN_BYPASS
    return 0


@cited("net/sched/sch_generic.c:pfifo_fast_change_tx_queue_len")
def pfifo_fast_change_tx_queue_len(env: SchedEnv, q: Qdisc, new_len: int) -> int:
    """The rings are made anew; what no longer fits is freed."""
    old: Rings = q.priv
    q.priv = Rings(new_len)
    for band in range(BANDS):
        kept = list(old.queues[band])[:new_len]
        for skb in list(old.queues[band])[new_len:]:
            env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        q.priv.queues[band].extend(kept)
        q.priv.rings[band] = PtrRing(waiting=len(kept))
    return 0


PFIFO_FAST: Final = QdiscOps(
    "pfifo_fast",
    pfifo_fast_enqueue,
    pfifo_fast_dequeue,
    pfifo_fast_peek,
    pfifo_fast_init,
    pfifo_fast_reset,
    TCQ_F_NOLOCK | TCQ_F_CPUSTATS,
    pfifo_fast_change_tx_queue_len,
)
