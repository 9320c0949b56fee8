"""What the device layer asks of its surroundings: the queueing layer above, the drivers below, taps beside."""

from typing import Any, Protocol

from refmodel.env import Env
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff


class Softnet(Protocol):
    """A processor's softnet_data as far as the NET_TX softirq uses it."""

    output_queue: Any
    completion_queue: list[tuple[SkBuff, Any]]


class DevEnv(Env, Protocol):
    """A namespace with devices: `softnet` is the processor's that runs now."""

    @property
    def softnet(self) -> Softnet:
        """What this processor keeps for transmission."""

    def raise_softirq(self, nr: str) -> None:
        """Marks a softirq as pending on this processor."""

    def netdev_queues(self, dev: NetDevice) -> tuple[Any, ...]:
        """The device's transmit queues (refmodel.dev.queue.NetdevQueue)."""

    def netif_schedule(self, q: Any) -> None:
        """Has the NET_TX softirq run a discipline (__netif_schedule)."""

    def netif_schedule_queue(self, txq: Any) -> None:
        """The same of a queue's discipline, unless the queue is stopped."""

    def qdisc_run(self, q: Any) -> None:
        """Runs a discipline of this namespace."""

    def tx_dropped(self, dev: NetDevice) -> None:
        """Adds to the device's own count of packets dropped on the way out (dev_core_stats_tx_dropped_inc)."""

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice, txq: Any, more: bool) -> int:
        """The driver's function: NETDEV_TX_OK, NETDEV_TX_BUSY or NET_XMIT_DROP."""

    def ndo_tx_timeout(self, dev: NetDevice, index: int) -> None:
        """The driver is told that a queue has stood still."""

    def ptype_all(self, dev: NetDevice) -> list[Any]:
        """The taps that see what the device sends: those of all devices, then its own."""

    def packet_rcv(self, tap: Any, skb: SkBuff, orig_dev: NetDevice) -> None:
        """A tap's handler, with a copy of its own."""

    def skb_gso_segment(self, skb: SkBuff) -> list[SkBuff] | None:
        """A super-packet cut in software; None if it cannot be cut."""

    def skb_checksum_help(self, skb: SkBuff) -> int:
        """Fills in the transport's checksum; 0, or a negative errno."""

    def eth_type_trans(self, skb: SkBuff, dev: NetDevice) -> int:
        """Takes the link-layer header off."""

    def netif_rx(self, skb: SkBuff) -> int:
        """Hands a packet to this processor's backlog: 0, or 1 if it was dropped (__netif_rx)."""
