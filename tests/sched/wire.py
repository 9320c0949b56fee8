"""A namespace with devices, their disciplines and drivers: for tests of the queueing and the device layer together."""

from collections.abc import Callable
from typing import Any

from refmodel.dev.queue import NetdevQueue
from refmodel.dev.softirq import net_tx_action
from refmodel.dev.xmit import dev_hard_start_xmit, validate_xmit_skb, validate_xmit_skb_list
from refmodel.netdevice import ARPHRD_NONE, NetDevice
from refmodel.sched.attach import dev_activate, noop_qdisc
from refmodel.sched.env import Softnet
from refmodel.sched.generic import __netif_schedule, netif_schedule_queue, qdisc_run
from refmodel.sched.qdisc import Qdisc
from refmodel.skbuff import SkBuff
from tests.bare import Bare

Driver = Callable[[SkBuff, NetDevice, NetdevQueue, bool], int]

schedule = __netif_schedule


class Wire(Bare):
    """`out` is what drivers took, in order. A device's driver answers as its function in `drivers` says."""

    def __init__(self, kernel: int = 612) -> None:
        super().__init__()
        self.kernel = kernel
        self.softnet = Softnet()
        self.out: list[SkBuff] = []
        self.more: list[bool] = []
        self.taps: list[Any] = []
        self.tapped: list[SkBuff] = []
        self.raised: list[str] = []
        self.timeouts: list[int] = []
        self.dropped = 0
        self.drivers: dict[int, Driver] = {}
        self.queues: dict[int, tuple[NetdevQueue, ...]] = {}
        self.roots: dict[int, Qdisc] = {}
        self.segments: Callable[[SkBuff], list[SkBuff] | None] = lambda skb: None
        self.checksums = 0
        self.ns = 0

    def device(self, driver: Driver | None = None, name: str = "tun0", **given: Any) -> NetDevice:
        """A device that is up, with its default discipline; without a driver of its own it takes everything."""
        given.setdefault("type", ARPHRD_NONE)
        given.setdefault("kind", "tun")
        dev = NetDevice(name, len(self.queues) + 2, **given)
        self.queues[dev.ifindex] = tuple(NetdevQueue(self, dev, i) for i in range(dev.num_tx_queues))
        for txq in self.queues[dev.ifindex]:
            txq.qdisc = txq.qdisc_sleeping = noop_qdisc(txq)
        self.roots[dev.ifindex] = self.queues[dev.ifindex][0].qdisc
        if driver is not None:
            self.drivers[dev.ifindex] = driver
        dev_activate(self, dev)
        return dev

    def ktime_get_ns(self) -> int:
        return self.now * 1000 + self.ns

    def local_bh_disable(self) -> None:
        pass

    def local_bh_enable(self) -> None:
        pass

    def raise_softirq(self, nr: str) -> None:
        self.raised.append(nr)

    def softirqs(self) -> int:
        """Runs NET_TX until nothing is raised; how often."""
        n = 0
        while self.raised:
            self.raised.clear()
            net_tx_action(self)
            n += 1
        return n

    def netdev_queues(self, dev: NetDevice) -> tuple[NetdevQueue, ...]:
        return self.queues[dev.ifindex]

    def root_qdisc(self, dev: NetDevice) -> Qdisc:
        return self.roots[dev.ifindex]

    def set_root_qdisc(self, dev: NetDevice, q: Any) -> None:
        self.roots[dev.ifindex] = q

    def tx_dropped(self, dev: NetDevice) -> None:
        self.dropped += 1

    def tcf_classify(self, skb: SkBuff, dev: NetDevice) -> None:
        return None

    def skb_get_hash(self, skb: SkBuff) -> int:
        return skb.hash

    def validate_xmit_skb(self, skb: SkBuff, dev: NetDevice) -> list[SkBuff]:
        return validate_xmit_skb(self, skb, dev)

    def validate_xmit_skb_list(self, skbs: list[SkBuff], dev: NetDevice) -> list[SkBuff]:
        return validate_xmit_skb_list(self, skbs, dev)

    def skb_gso_segment(self, skb: SkBuff) -> list[SkBuff] | None:
        return self.segments(skb)

    def skb_checksum_help(self, skb: SkBuff) -> int:
        self.checksums += 1
        return 0

    def dev_hard_start_xmit(self, skbs: list[SkBuff], dev: NetDevice, txq: Any) -> tuple[list[SkBuff], int]:
        return dev_hard_start_xmit(self, skbs, dev, txq)

    def netif_schedule(self, q: Any) -> None:
        schedule(self, q)

    def netif_schedule_queue(self, txq: Any) -> None:
        netif_schedule_queue(self, txq)

    def qdisc_run(self, q: Any) -> None:
        qdisc_run(self, q)

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
        driver = self.drivers.get(dev.ifindex)
        rc = driver(skb, dev, txq, more) if driver is not None else 0
        if rc == 0:
            self.out.append(skb)
            self.more.append(more)
        return rc

    def ndo_tx_timeout(self, dev: NetDevice, index: int) -> None:
        self.timeouts.append(index)

    def ptype_all(self, dev: NetDevice) -> list[Any]:
        return self.taps

    def packet_rcv(self, tap: Any, skb: SkBuff, orig_dev: NetDevice) -> None:
        self.tapped.append(skb)

    def eth_type_trans(self, skb: SkBuff, dev: NetDevice) -> int:
        return skb.protocol

    def netif_rx(self, skb: SkBuff) -> int:
        return 0


def packet(dev: NetDevice, n: int = 100, priority: int = 0, mark: int = 0) -> SkBuff:
    """A packet of `n` bytes; `mark` tells it from others."""
    return SkBuff(bytes(n), dev=dev, priority=priority, mark=mark)
