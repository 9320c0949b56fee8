"""The kernel's functions under Hypothesis: packets come, the driver takes them, refuses, stops, wakes as it likes."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from refmodel.dev.queue import NETDEV_TX_BUSY, NETDEV_TX_OK, NetdevQueue
from refmodel.dev.softirq import net_tx_action
from refmodel.dev.txq import netif_tx_stop_queue, netif_tx_wake_queue
from refmodel.netdevice import NetDevice
from refmodel.sched.attach import qdisc_create
from refmodel.sched.bands import band_of
from refmodel.sched.xmit import dev_queue_xmit
from refmodel.skbuff import SkBuff
from tests.sched.wire import Wire, packet

LIMITS = {"pfifo_fast": None, "pfifo": 5, "bfifo": 900, "pfifo_head_drop": 5}


class Queueing(RuleBasedStateMachine):
    """A device whose driver has room for some packets, stops its queue or only refuses, under one discipline."""

    @initialize(kind=st.sampled_from(sorted(LIMITS)), qlen=st.sampled_from((1, 4, 33)), stops=st.booleans())
    def begin(self, kind: str, qlen: int, stops: bool) -> None:
        self.wire = Wire()
        self.room = 1
        self.stops = stops
        self.kind = kind
        self.entered = 0
        self.dev = self.wire.device(self.driver, tx_queue_len=qlen)
        if kind != "pfifo_fast":
            qdisc_create(self.wire, self.dev, kind, LIMITS[kind])
        self.txq = self.wire.netdev_queues(self.dev)[0]

    def driver(self, skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
        if self.room == 0:
            return NETDEV_TX_BUSY
        self.room -= 1
        if self.room == 0 and self.stops:
            netif_tx_stop_queue(self.wire, txq)
        return NETDEV_TX_OK

    @rule(priority=st.integers(0, 20), size=st.sampled_from((60, 100, 400)), times=st.integers(1, 6))
    def send(self, priority: int, size: int, times: int) -> None:
        for _ in range(times):
            self.entered += 1
            dev_queue_xmit(self.wire, packet(self.dev, size, priority, self.entered))

    @rule(n=st.integers(1, 70))
    def frees(self, n: int) -> None:
        self.room += n
        netif_tx_wake_queue(self.wire, self.txq)

    @rule()
    def softirq(self) -> None:
        raised = len(self.wire.raised)
        self.wire.raised.clear()
        if raised:
            net_tx_action(self.wire)

    @rule()
    def drains(self) -> None:
        """With room for all and every softirq run nothing waits: no wake-up was lost."""
        self.room += 10_000
        netif_tx_wake_queue(self.wire, self.txq)
        self.wire.softirqs()
        assert self.wire.root_qdisc(self.dev).qlen == 0
        self.room = 1

    @invariant()
    def books_are_right(self) -> None:
        q = self.wire.root_qdisc(self.dev)
        assert self.entered == len(self.wire.out) + q.qlen + q.drops
        assert q.drops == len(self.wire.drops)
        assert (q.backlog == 0) == (q.qlen == 0)
        assert q.packets == self.entered - q.drops - (q.qlen - len(q.gso_skb))

    @invariant()
    def order_is_kept(self) -> None:
        bands = range(3) if self.kind == "pfifo_fast" else (None,)
        for band in bands:
            marks = [s.mark for s in self.wire.out if band is None or band_of(s.priority) == band]
            assert marks == sorted(marks)


TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(max_examples=40, stateful_step_count=25, deadline=None, derandomize=True)
