"""What a driver asks of its surroundings: the device layer above, NAPI, and the medium."""

from typing import Any, Protocol

from refmodel.env import Env
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff


class NicEnv(Env, Protocol):
    """A namespace with a network card."""

    def netif_tx_stop_queue(self, txq: Any) -> None:
        """The driver's stop bit is set."""

    def netif_tx_start_queue(self, txq: Any) -> None:
        """The driver's stop bit is cleared."""

    def netif_tx_wake_queue(self, txq: Any) -> None:
        """The driver's stop bit is cleared and the discipline scheduled."""

    def netdev_tx_sent_queue(self, txq: Any, count: int) -> None:
        """Byte queue limits book `count` bytes."""

    def netdev_tx_completed_queue(self, txq: Any, pkts: int, count: int) -> None:
        """Byte queue limits book `count` bytes as sent."""

    def dev_consume_skb_any(self, skb: SkBuff) -> None:
        """The card has sent the packet: it is freed here, or in a hard interrupt left to NET_TX."""

    def napi_schedule(self, napi: Any) -> None:
        """NAPI will poll."""

    def napi_complete_done(self, napi: Any, work: int) -> bool:
        """The poll is over; False: NAPI stays scheduled."""

    def napi_gro_receive(self, napi: Any, skb: SkBuff) -> None:
        """A received packet goes up."""

    def eth_type_trans(self, skb: SkBuff, dev: NetDevice) -> int:
        """Takes the link-layer header off; the protocol."""
