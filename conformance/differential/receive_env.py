"""A namespace around the receive side alone: what comes up at its taps is kept, protocols take nothing further."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from refmodel.context import Contexts
from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice
from refmodel.receive.core import RxHandler, Tap
from refmodel.receive.params import ReceiveParams
from refmodel.receive.softnet import Receive
from refmodel.skbuff import SkBuff


class Silent:
    """A timer that nobody here arms."""

    expires: int | None = None
    pending = False

    def mod(self, jiffy: int) -> None:
        """Not used by the receive side."""

    def start_us(self, when: int) -> None:
        """Not used by the receive side."""

    def stop(self) -> None:
        """Not used by the receive side."""


class ReceiveEnv:
    """An `Env` of refmodel.receive: `up` is what taps saw, `delivered` what protocols got, `drops` with reasons."""

    def __init__(self, kernel: int = 612, hz: int = 250) -> None:
        self.now = 0
        self.hz = hz
        self.kernel = kernel
        self.up: list[SkBuff] = []
        self.delivered: list[tuple[str, SkBuff]] = []
        self.drops: list[tuple[SkBuff, Reason]] = []
        self.notes: list[tuple[str, str]] = []
        self.mib: Counter[str] = Counter()

    @property
    def jiffies(self) -> int:
        """The tick of `now`."""
        return self.now * self.hz // 1_000_000

    def note(self, fn: str, detail: str = "") -> None:
        """Keeps a decision."""
        self.notes.append((fn, detail))

    def count(self, name: str, n: int = 1) -> None:
        """Counts."""
        self.mib[name] += n

    def random(self) -> int:
        """Nothing here is random."""
        return 0

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> Silent:
        """A timer that stays silent."""
        return Silent()

    def kfree_skb(self, skb: SkBuff, reason: Reason) -> None:
        """Keeps a dropped packet."""
        self.drops.append((skb, reason))

    def consume_skb(self, skb: SkBuff) -> None:
        """The packet came to its end."""
        return None

    def udp_gro_lookup(self, skb: SkBuff, sport: int, dport: int) -> bool | None:
        """There are no sockets."""
        return None

    def ip_rcv(self, skb: SkBuff, dev: NetDevice) -> None:
        """Keeps what IPv4 gets."""
        self.delivered.append(("ip_rcv", skb))

    def ip_list_rcv(self, skbs: list[SkBuff]) -> None:
        """Keeps each of a list."""
        for skb in skbs:
            assert skb.dev is not None
            self.ip_rcv(skb, skb.dev)

    def ipv6_rcv(self, skb: SkBuff, dev: NetDevice) -> None:
        """Keeps what IPv6 gets."""
        self.delivered.append(("ipv6_rcv", skb))

    def arp_rcv(self, skb: SkBuff, dev: NetDevice) -> None:
        """Keeps what ARP gets."""
        self.delivered.append(("arp_rcv", skb))

    def br_handle_frame(self, skb: SkBuff) -> int:
        """There is no bridge."""
        return RxHandler.PASS

    def packet_rcv(self, tap: Any, skb: SkBuff, orig_dev: NetDevice) -> None:
        """Keeps what a tap sees."""
        self.up.append(skb)


def receive(env: ReceiveEnv, tap: bool = True, cpus: int = 1, params: ReceiveParams | None = None) -> Receive:
    """A receive side of its own, with a tap on all devices, and NET_RX opened."""
    from refmodel.receive.napi import net_rx_action
    from refmodel.softirq import Vector

    params = params if params is not None else ReceiveParams(kernel=env.kernel, hz=env.hz)
    rx = Receive(env, Contexts(env, cpus), params)
    rx.contexts.open_softirq(Vector.NET_RX, lambda: net_rx_action(rx))
    if tap:
        rx.taps.append(Tap("tap"))
    return rx
