"""A wire between two network cards: descriptors, interrupts and frames as events in virtual time.

The law: the card works on its own: it reads what the doorbell handed over, sends it, writes back, and interrupts once
its vector is unmasked; frames reach the other end after the wire's delay, unless their fate is another.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from refmodel.engine.run import Dispatcher
from refmodel.host.ipv6 import tcp6_gso_segment
from refmodel.host.namespace import Namespace
from refmodel.ip import gso
from refmodel.ip.fragment import skb_checksum_help
from refmodel.ip6.output import skb_checksum_help as skb_checksum_help6
from refmodel.netdevice import NetDevice
from refmodel.nic.driver import (
    Adapter,
    device_receive,
    device_transmit,
    e1000_intr_msix_rx,
    e1000_intr_msix_tx,
    e1000_xmit_frame,
    e1000e_poll,
    igb_configure,
    igb_msix_ring,
    igb_poll,
    igb_xmit_frame,
)
from refmodel.nic.drivers import E1000E, IGB, Driver
from refmodel.nic.rx import NIC_RX
from refmodel.nic.tx import NIC_TX
from refmodel.skbuff import CHECKSUM_PARTIAL, ETH_P_IPV6, SkBuff

if TYPE_CHECKING:
    from refmodel.host.network import Network

NIC_FEATURES: Final = frozenset(
    {
        "scatter-gather", "tx-checksum-ip-generic", "rx-checksum", "tx-tcp-segmentation",
        "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation",
        "generic-segmentation-offload", "generic-receive-offload", "highdma",
    }
)  # fmt: skip
"""What these cards have on."""
DMA: Final = 1  # us from the doorbell to the frame on the medium
HERE: Final = 1  # us from the frame to the interrupt


class Fate(Struct, frozen=True):
    """What becomes of one frame: `copies` of it arrive (0: lost), each `delay` us later."""

    delay: int = 100
    copies: int = 1


Choose = Callable[[int, int], Fate]
"""(end that sends, number of the frame of that end) to its fate."""


def both(_: int, __: int) -> Fate:
    """A wire without faults."""
    return Fate()


class Card:
    """One end: the adapter, and whether its interrupt waits. `carrier` goes with the wire; `sent` counts its frames."""

    def __init__(self, wire: "Wire", end: int, ns: Namespace, dev: NetDevice, driver: Driver) -> None:
        self.wire, self.end, self.ns, self.dev = wire, end, ns, dev
        self.igb = driver.name == "igb"
        apply = Dispatcher((*NIC_TX.rules, *NIC_RX.rules), wire.net.kernel).apply
        self.adapter = Adapter(ns, dev, driver, apply, self.frame, self.interrupt)
        self.pending = False
        self.due = False
        self.sends = False
        self.sent = 0
        ns.register(dev, self.xmit)
        self.adapter.txq = ns.queues[dev.ifindex][0]
        poll = igb_poll if self.igb else e1000e_poll
        self.adapter.napi = ns.netif_napi_add(dev, lambda n, budget: poll(self.adapter, budget))
        igb_configure(self.adapter)

    def xmit(self, skb: SkBuff, dev: NetDevice, txq: object, more: bool) -> int:
        """ndo_start_xmit, and behind the doorbell the card begins to work."""
        rc = (igb_xmit_frame if self.igb else e1000_xmit_frame)(self.adapter, skb, more)
        self.work()
        return rc

    def work(self) -> None:
        """The card looks at its ring soon, if that is not already due."""
        if not self.due and self.wire.reading[self.end] and self.adapter.tx.head != self.adapter.tx.tail:
            self.due = True
            self.wire.net.at(self.wire.net.now + DMA, self.transmit)

    def transmit(self) -> None:
        """The card sends what it was given."""
        self.due = False
        self.sends = True
        with self.wire.net.unseen():
            device_transmit(self.adapter)
        self.sends = False

    def frame(self, skb: SkBuff) -> None:
        """A packet goes on the medium, cut and with its checksums."""
        parts = [skb.copy()]
        v6 = skb.protocol == ETH_P_IPV6
        if skb.is_gso:
            cut = tcp6_gso_segment(skb) if v6 else gso.skb_gso_segment(self.ns.ipv4, skb.copy(), frozenset())
            parts = cut if isinstance(cut, list) else parts
        for part in parts:
            if part.ip_summed == CHECKSUM_PARTIAL:
                (skb_checksum_help6 if v6 else skb_checksum_help)(part)
            self.wire.carry(self.end, part.frame)

    def interrupt(self, _: Adapter) -> None:
        """The card asks for an interrupt; e1000e has a vector of its own for what was sent."""
        if self.sends and not self.igb:
            self.wire.net.at(self.wire.net.now + HERE, lambda: self.handle(e1000_intr_msix_tx))
            return
        self.pending = True
        self.wire.net.at(self.wire.net.now + HERE, self.fire)

    def fire(self) -> None:
        """The interrupt, unless its vector is masked: then it comes when it is unmasked."""
        if not self.pending or self.adapter.masked:
            return
        self.pending = False
        self.handle(igb_msix_ring if self.igb else e1000_intr_msix_rx)

    def handle(self, handler: Callable[[Adapter], None]) -> None:
        """A hard interrupt."""
        ns = self.ns
        contexts = ns.machine.contexts
        ns.machine.within(ns, lambda: contexts.hardirq(self.dev.name, lambda: handler(self.adapter)))
        contexts.settle()


class Wire:
    """A full duplex wire between two cards. `fate` decides of each frame; `reading` says whether an end's card works.

    `seen` are the frames that were put on it, as (us, end, bytes).
    """

    def __init__(
        self,
        net: "Network",
        a: Namespace,
        b: Namespace,
        names: tuple[str, str],
        macs: tuple[bytes, bytes],
        fate: Choose = both,
        driver: str = "igb",
        features: frozenset[str] = NIC_FEATURES,
        mtu: int = 1500,
    ) -> None:
        self.net = net
        self.fate = fate
        self.reading = [True, True]
        self.seen: list[tuple[int, int, bytes]] = []
        kind = {"igb": IGB, "e1000e": E1000E}[driver]
        devs = [
            NetDevice(name, ns.next_ifindex(), mac, kind=driver, features=features, mtu=mtu)
            for ns, name, mac in zip((a, b), names, macs, strict=True)
        ]
        self.cards = (Card(self, 0, a, devs[0], kind), Card(self, 1, b, devs[1], kind))
        self.dev = (devs[0], devs[1])

    def carry(self, end: int, frame: bytes) -> None:
        """One frame of an end meets its fate."""
        card = self.cards[end]
        self.seen.append((self.net.now, end, frame))
        fate = self.fate(end, card.sent)
        card.sent += 1
        for i in range(fate.copies):
            self.net.at(self.net.now + fate.delay + i, lambda: self._arrive(1 - end, frame))

    def _arrive(self, end: int, frame: bytes) -> None:
        with self.net.unseen():
            device_receive(self.cards[end].adapter, frame)

    def resume(self, end: int) -> None:
        """A card that stood still goes on."""
        self.reading[end] = True
        self.cards[end].work()

    def poke(self) -> None:
        """Interrupts that waited for their vector come."""
        for card in self.cards:
            if card.pending and not card.adapter.masked:
                self.net.at(self.net.now, card.fire)


__all__ = ["Card", "Fate", "Wire", "both"]
