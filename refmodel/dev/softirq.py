"""The NET_TX softirq: it frees what drivers could not free themselves, and runs disciplines that were left."""

from refmodel.dev.env import DevEnv
from refmodel.dev.queue import NET_TX_SOFTIRQ
from refmodel.dropreason import Reason
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

STATE_SCHED = 1 << 0
STATE_DEACTIVATED = 1 << 1


@cited("net/core/dev.c:dev_kfree_skb_irq_reason")
def dev_kfree_skb_irq_reason(env: DevEnv, skb: SkBuff, reason: Reason) -> None:
    """In a hard interrupt nothing is freed: the packet waits for the softirq."""
    env.softnet.completion_queue.insert(0, (skb, reason))
    env.raise_softirq(NET_TX_SOFTIRQ)


@cited("net/core/dev.c:net_tx_action")
def net_tx_action(env: DevEnv) -> None:
    """Frees the completion queue, then runs each discipline of the output queue, SCHED cleared before."""
    sd = env.softnet
    if sd.completion_queue:
        freed = list(sd.completion_queue)
        sd.completion_queue.clear()
        env.note("net_tx_action", f"{len(freed)} packets are freed")
        for skb, reason in freed:
            if reason is Reason.CONSUMED:
                env.consume_skb(skb)
            else:
                env.kfree_skb(skb, reason)
    if sd.output_queue:
        queue = list(sd.output_queue)
        sd.output_queue.clear()
        for q in queue:
            q.state &= ~STATE_SCHED
            home: DevEnv = q.dev_queue.env
            if q.nolock and q.state & STATE_DEACTIVATED:
                home.note("net_tx_action", f"{q.ops.id} is deactivated: not run")
                continue
            home.note("net_tx_action", f"{q.ops.id} is run, {q.qlen} wait")
            home.qdisc_run(q)
