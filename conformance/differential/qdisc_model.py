"""The queueing and the device layer in a namespace of their own: the model's side of the comparison."""

from collections.abc import Callable
from typing import Any

from refmodel.dev.drivers import TunFile, tun_net_xmit, tun_ring_recv
from refmodel.dev.queue import NetdevQueue
from refmodel.dev.softirq import net_tx_action
from refmodel.dev.xmit import dev_hard_start_xmit, validate_xmit_skb, validate_xmit_skb_list
from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice
from refmodel.sched.attach import dev_activate, noop_qdisc
from refmodel.sched.env import Softnet
from refmodel.sched.generic import __netif_schedule, netif_schedule_queue, qdisc_run
from refmodel.sched.qdisc import Qdisc
from refmodel.skbuff import SkBuff

schedule = __netif_schedule
Driver = Callable[[SkBuff, NetDevice, NetdevQueue, bool], int]


class HrTimer:
    """A timer: `expires` in us, None while idle."""

    def __init__(self, env: "QdiscEnv", fn: Callable[[Any], None], arg: Any) -> None:
        self.env = env
        self.fn = fn
        self.arg = arg
        self.expires: int | None = None

    @property
    def pending(self) -> bool:
        """It is armed."""
        return self.expires is not None

    def mod(self, jiffy: int) -> None:
        """Arms it for a jiffy."""
        self.start_us(jiffy * 1_000_000 // self.env.hz)

    def start_us(self, when: int) -> None:
        """Arms it for a moment in us."""
        self.expires = when
        if self not in self.env.timers:
            self.env.timers.append(self)

    def stop(self) -> None:
        """Disarms it."""
        self.expires = None


class QdiscEnv:
    """A namespace of refmodel.sched and refmodel.dev: `drops` are (packet, reason) in order; `ns` is the clock.

    Timers run `late` ns after their time.
    """

    def __init__(self, kernel: int = 612, hz: int = 250) -> None:
        self.ns = 0
        self.late = 0
        self.dequeues = 0
        self.hz = hz
        self.kernel = kernel
        self.softnet = Softnet()
        self.timers: list[HrTimer] = []
        self.drops: list[tuple[SkBuff, Reason]] = []
        self.notes: list[tuple[str, str]] = []
        self.raised = False
        self.dropped = 0
        self.queues: dict[int, tuple[NetdevQueue, ...]] = {}
        self.roots: dict[int, Qdisc] = {}
        self.drivers: dict[int, Driver] = {}

    # ---- refmodel.env.Env

    @property
    def now(self) -> int:
        """The clock in us."""
        return self.ns // 1000

    @now.setter
    def now(self, us: int) -> None:
        self.ns = us * 1000

    @property
    def jiffies(self) -> int:
        """The tick that it is."""
        return self.now * self.hz // 1_000_000

    def note(self, fn: str, detail: str = "") -> None:
        """Keeps a decision, and counts what the tracepoint qdisc:qdisc_dequeue would show."""
        self.notes.append((fn, detail))
        self.dequeues += fn == "dequeue_skb" and "nothing is taken out" not in detail

    def count(self, name: str, n: int = 1) -> None:
        """No layer below IP counts in the MIB."""

    def random(self) -> int:
        """Nothing here is random."""
        return 0

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> HrTimer:
        """A new idle timer."""
        return HrTimer(self, fn, arg)

    def kfree_skb(self, skb: SkBuff, reason: Reason) -> None:
        """Keeps a dropped packet."""
        self.drops.append((skb, reason))

    def consume_skb(self, skb: SkBuff) -> None:
        """The packet came to its end."""

    # ---- the two layers' own

    def ktime_get_ns(self) -> int:
        """The clock in ns."""
        return self.ns

    def raise_softirq(self, nr: str) -> None:
        """NET_TX is the only one here."""
        self.raised = True

    def local_bh_disable(self) -> None:
        """Softirqs run only when the sender is through."""

    def local_bh_enable(self) -> None:
        """What was raised runs now."""
        while self.raised:
            self.raised = False
            net_tx_action(self)

    def netdev_queues(self, dev: NetDevice) -> tuple[NetdevQueue, ...]:
        """The device's transmit queues."""
        return self.queues[dev.ifindex]

    def root_qdisc(self, dev: NetDevice) -> Qdisc:
        """dev->qdisc."""
        return self.roots[dev.ifindex]

    def set_root_qdisc(self, dev: NetDevice, q: Any) -> None:
        """Writes dev->qdisc."""
        self.roots[dev.ifindex] = q

    def tx_dropped(self, dev: NetDevice) -> None:
        """The device's tx_dropped."""
        self.dropped += 1

    def tcf_classify(self, skb: SkBuff, dev: NetDevice) -> None:
        """There are no filters."""

    def skb_get_hash(self, skb: SkBuff) -> int:
        """One transmit queue needs no hash."""
        return skb.hash

    def validate_xmit_skb(self, skb: SkBuff, dev: NetDevice) -> list[SkBuff]:
        """The device layer's."""
        return validate_xmit_skb(self, skb, dev)

    def validate_xmit_skb_list(self, skbs: list[SkBuff], dev: NetDevice) -> list[SkBuff]:
        """The device layer's."""
        return validate_xmit_skb_list(self, skbs, dev)

    def skb_gso_segment(self, skb: SkBuff) -> list[SkBuff] | None:
        """No super-packets are sent here."""
        return None

    def skb_checksum_help(self, skb: SkBuff) -> int:
        """No checksums are left open here."""
        return 0

    def dev_hard_start_xmit(self, skbs: list[SkBuff], dev: NetDevice, txq: Any) -> tuple[list[SkBuff], int]:
        """The device layer's."""
        return dev_hard_start_xmit(self, skbs, dev, txq)

    def netif_schedule(self, q: Any) -> None:
        """The queueing layer's."""
        schedule(self, q)

    def netif_schedule_queue(self, txq: Any) -> None:
        """The queueing layer's."""
        netif_schedule_queue(self, txq)

    def qdisc_run(self, q: Any) -> None:
        """The queueing layer's."""
        qdisc_run(self, q)

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
        """The device's driver."""
        return self.drivers[dev.ifindex](skb, dev, txq, more)

    def ndo_tx_timeout(self, dev: NetDevice, index: int) -> None:
        """No driver here has one."""

    def ptype_all(self, dev: NetDevice) -> list[Any]:
        """There are no taps."""
        return []

    def packet_rcv(self, tap: Any, skb: SkBuff, orig_dev: NetDevice) -> None:
        """There are no taps."""

    def eth_type_trans(self, skb: SkBuff, dev: NetDevice) -> int:
        """A device without link-layer header."""
        return skb.protocol

    def netif_rx(self, skb: SkBuff) -> int:
        """Nothing is received."""
        return 0

    def advance(self, ns: int) -> None:
        """The clock moves to `ns`; timers that are due on the way fire."""
        while due := [t for t in self.timers if t.expires is not None and t.expires * 1000 + self.late <= ns]:
            first = min(due, key=lambda t: t.expires or 0)
            self.ns = max(self.ns, (first.expires or 0) * 1000 + self.late)
            first.expires = None
            first.fn(first.arg)
            self.local_bh_enable()
        self.ns = max(self.ns, ns)

    # ---- devices

    def add(self, dev: NetDevice, driver: Driver) -> None:
        """A device that is up gets its default discipline."""
        self.queues[dev.ifindex] = tuple(NetdevQueue(self, dev, i) for i in range(dev.num_tx_queues))
        for txq in self.queues[dev.ifindex]:
            txq.qdisc = txq.qdisc_sleeping = noop_qdisc(txq)
        self.roots[dev.ifindex] = self.queues[dev.ifindex][0].qdisc
        self.drivers[dev.ifindex] = driver
        dev_activate(self, dev)

    def add_tun(self, dev: NetDevice) -> TunFile:
        """A tun device whose program reads with `read`."""
        tfile = TunFile(dev.tx_queue_len)

        def driver(skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
            return tun_net_xmit(self, skb, dev, tfile, txq)

        self.add(dev, driver)
        return tfile

    def read(self, tfile: TunFile) -> SkBuff | None:
        """The program reads a packet."""
        return tun_ring_recv(self, tfile)
