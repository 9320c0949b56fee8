"""What the receive side asks of its namespace and of the layers above."""

from typing import Any, Protocol

import refmodel.env
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff


class Env(refmodel.env.Env, Protocol):
    """A namespace that takes packets in. Functions that Linux calls through a pointer are named after their target."""

    def udp_gro_lookup(self, skb: SkBuff, sport: int, dport: int) -> bool | None:
        """The socket that udp4_lib_lookup_skb or udp6_lib_lookup_skb finds: has it UDP_GRO? None: no socket."""

    def ip_rcv(self, skb: SkBuff, dev: NetDevice) -> None:
        """IPv4's packet_type handler."""

    def ip_list_rcv(self, skbs: list[SkBuff]) -> None:
        """IPv4's packet_type list_func."""

    def ipv6_rcv(self, skb: SkBuff, dev: NetDevice) -> None:
        """IPv6's packet_type handler."""

    def arp_rcv(self, skb: SkBuff, dev: NetDevice) -> None:
        """ARP's packet_type handler."""

    def br_handle_frame(self, skb: SkBuff) -> int:
        """The rx_handler of a bridge's port; an RX_HANDLER_ result."""

    def packet_rcv(self, tap: Any, skb: SkBuff, orig_dev: NetDevice) -> None:
        """A packet socket's handler, with a copy of its own."""
