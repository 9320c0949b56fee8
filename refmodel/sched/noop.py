"""noop, which drops everything, and noqueue, which is none; source net/sched/sch_generic.c."""

from typing import Any, Final

from refmodel.rule import cited
from refmodel.sched.const import NET_XMIT_CN, TCQ_F_BUILTIN
from refmodel.sched.env import SchedEnv
from refmodel.sched.qdisc import Qdisc, QdiscOps, ToFree, __qdisc_drop
from refmodel.skbuff import SkBuff

COUNTS_SINCE: Final = 612


@cited("net/sched/sch_generic.c:noop_enqueue")
def noop_enqueue(env: SchedEnv, skb: SkBuff, q: Qdisc, to_free: ToFree) -> int:
    """Where a device is down or has no carrier every packet is dropped, and the sender is told of congestion."""
    assert skb.dev is not None
    env.note("noop_enqueue", f"{skb.dev.name} has no running discipline: dropped")
    if env.kernel >= COUNTS_SINCE:
        env.tx_dropped(skb.dev)
    __qdisc_drop(skb, to_free)
    return NET_XMIT_CN


@cited("net/sched/sch_generic.c:noop_dequeue")
def noop_dequeue(env: SchedEnv, q: Qdisc) -> SkBuff | None:
    """Nothing ever waits."""
    return None


@cited("net/sched/sch_generic.c:noqueue_init")
def noqueue_init(env: SchedEnv, q: Qdisc, opt: Any) -> int:
    """Without an enqueue function the device is given packets directly."""
    q.enqueue = None
    return 0


NOOP: Final = QdiscOps("noop", noop_enqueue, noop_dequeue, noop_dequeue, static_flags=TCQ_F_BUILTIN)
NOQUEUE: Final = QdiscOps("noqueue", noop_enqueue, noop_dequeue, noop_dequeue, noqueue_init)
