"""What the queueing layer asks of its surroundings: the device below, and the processor that it runs on."""

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from refmodel.env import Env
from refmodel.netdevice import NetDevice
from refmodel.sched.params import SchedParams
from refmodel.skbuff import SkBuff

if TYPE_CHECKING:
    from refmodel.sched.qdisc import Qdisc


class Softnet:
    """One processor's softnet_data as far as transmission uses it.

    `output_queue`: disciplines that the NET_TX softirq will run. `completion_queue`: packets that it will free, each
    with its reason. `recursion`: how deep the processor is in devices without a queue. `params` are the machine's.
    """

    __slots__ = ("completion_queue", "cpu", "output_queue", "params", "recursion")

    def __init__(self, cpu: int = 0, params: SchedParams | None = None) -> None:
        self.cpu = cpu
        self.params = params or SchedParams()
        self.output_queue: deque[Qdisc] = deque()
        self.completion_queue: list[tuple[SkBuff, Any]] = []
        self.recursion = 0


class Txq(Protocol):
    """A struct netdev_queue as the queueing layer sees it; the device layer owns it."""

    dev: NetDevice
    index: int
    trans_start: int
    xmit_lock_owner: int
    qdisc: Any
    qdisc_sleeping: Any

    @property
    def xmit_stopped(self) -> bool:
        """The driver or byte queue limits stopped it (netif_xmit_stopped)."""

    @property
    def frozen_or_stopped(self) -> bool:
        """It is stopped or frozen (netif_xmit_frozen_or_stopped)."""

    @property
    def dql_avail(self) -> int:
        """Bytes that byte queue limits still let in (netdev_queue_dql_avail)."""


class SchedEnv(Env, Protocol):
    """A namespace with devices: `softnet` is the processor's that runs now."""

    softnet: Softnet

    def ktime_get_ns(self) -> int:
        """The monotonic clock in ns."""

    def local_bh_disable(self) -> None:
        """No softirq runs on this processor until local_bh_enable (rcu_read_lock_bh)."""

    def local_bh_enable(self) -> None:
        """Softirqs that were raised meanwhile run now (rcu_read_unlock_bh)."""

    def raise_softirq(self, nr: str) -> None:
        """Marks a softirq as pending on this processor."""

    def netdev_queues(self, dev: NetDevice) -> tuple[Txq, ...]:
        """The device's transmit queues."""

    def root_qdisc(self, dev: NetDevice) -> Any:
        """The discipline that stands at the device's root (dev->qdisc)."""

    def set_root_qdisc(self, dev: NetDevice, q: Any) -> None:
        """Writes dev->qdisc."""

    def tx_dropped(self, dev: NetDevice) -> None:
        """Adds to the device's own count of packets dropped on the way out (dev_core_stats_tx_dropped_inc)."""

    def tcf_classify(self, skb: SkBuff, dev: NetDevice) -> None:
        """Programs and filters at egress; without any, nothing (sch_handle_egress)."""

    def skb_get_hash(self, skb: SkBuff) -> int:
        """The packet's flow hash, 32 bits."""

    def validate_xmit_skb(self, skb: SkBuff, dev: NetDevice) -> list[SkBuff]:
        """The packet as the device can send it: itself, its segments, or nothing if it had to be dropped."""

    def validate_xmit_skb_list(self, skbs: list[SkBuff], dev: NetDevice) -> list[SkBuff]:
        """The same for several."""

    def skb_gso_segment(self, skb: SkBuff) -> list[SkBuff] | None:
        """The segments of a super-packet with all the work done in software; None if it cannot be cut."""

    def dev_hard_start_xmit(self, skbs: list[SkBuff], dev: NetDevice, txq: Any) -> tuple[list[SkBuff], int]:
        """Hands packets to the driver; what it did not take, and its last return code."""
