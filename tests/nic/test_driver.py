"""igb and e1000e as a packet walks through them: their rings, byte queue limits, the interrupt and the poll."""

from typing import Any

import pytest
from msgspec.structs import replace

from refmodel.dev.queue import NetdevQueue
from refmodel.dev.txq import (
    netdev_tx_completed_queue,
    netdev_tx_sent_queue,
    netif_tx_start_queue,
    netif_tx_stop_queue,
    netif_tx_wake_queue,
)
from refmodel.engine.run import pick
from refmodel.netdevice import NetDevice
from refmodel.nic import driver as nic
from refmodel.nic.drivers import E1000E, IGB, Driver
from refmodel.nic.rx import NIC_RX, RxRing
from refmodel.nic.tx import NIC_TX, TxRing
from refmodel.sched.attach import qdisc_create
from refmodel.sched.xmit import dev_queue_xmit
from refmodel.skbuff import ETH_P_IP, SkBuff
from tests.sched.wire import Wire, packet


class Card(Wire):
    """A namespace with a card, whose interrupt schedules one poll that `poll` runs."""

    def __init__(self, driver: Driver, qdisc: str = "pfifo", limit: int = 1000) -> None:
        super().__init__()
        tx, rx = pick(NIC_TX), pick(NIC_RX)
        self.up: list[SkBuff] = []
        self.wired: list[SkBuff] = []
        self.scheduled = False
        dev = NetDevice("eth0", 2, bytes(6), kind=driver.name)

        def apply(s: Any, e: Any, p: Any) -> Any:
            return (tx if isinstance(s, TxRing) else rx).apply(s, e, p)

        irq = nic.igb_msix_ring if driver is IGB else nic.e1000_intr_msix_rx
        self.card = nic.Adapter(self, dev, driver, apply, self.wired.append, irq)
        xmit = nic.igb_xmit_frame if driver is IGB else nic.e1000_xmit_frame
        self.dev = self.device(lambda skb, dev, txq, more: xmit(self.card, skb, more), name="eth0")
        self.card.txq = self.netdev_queues(self.dev)[0]
        qdisc_create(self, self.dev, qdisc, limit)
        nic.igb_configure(self.card)

    def netif_tx_stop_queue(self, txq: NetdevQueue) -> None:
        netif_tx_stop_queue(self, txq)

    def netif_tx_start_queue(self, txq: NetdevQueue) -> None:
        netif_tx_start_queue(self, txq)

    def netif_tx_wake_queue(self, txq: NetdevQueue) -> None:
        netif_tx_wake_queue(self, txq)

    def netdev_tx_sent_queue(self, txq: NetdevQueue, count: int) -> None:
        netdev_tx_sent_queue(self, txq, count)

    def netdev_tx_completed_queue(self, txq: NetdevQueue, pkts: int, count: int) -> None:
        netdev_tx_completed_queue(self, txq, pkts, count)

    def dev_consume_skb_any(self, skb: SkBuff) -> None:
        self.consume_skb(skb)

    def napi_schedule(self, napi: Any) -> None:
        self.scheduled = True

    def napi_complete_done(self, napi: Any, work: int) -> bool:
        self.scheduled = False
        return True

    def napi_gro_receive(self, napi: Any, skb: SkBuff) -> None:
        self.up.append(skb)

    def eth_type_trans(self, skb: SkBuff, dev: NetDevice) -> int:
        return int.from_bytes(skb.mac_header[12:14], "big")

    def poll(self, budget: int = 64) -> int:
        """One poll, and the softirqs that it raised."""
        done = (nic.igb_poll if self.card.driver is IGB else nic.e1000e_poll)(self.card, budget)
        if self.card.driver is E1000E:
            nic.e1000_intr_msix_tx(self.card)
        self.softirqs()
        return done


@pytest.mark.parametrize("driver", [IGB, E1000E], ids=lambda d: d.name)
def test_packets_leave_in_order_and_are_freed(driver: Driver) -> None:
    c = Card(driver)
    for mark in range(300):
        dev_queue_xmit(c, packet(c.dev, 1000, mark=mark))
    turns = 0
    while len(c.wired) < 300 and turns < 400:
        nic.device_transmit(c.card)
        c.poll()
        turns += 1
    assert [s.mark for s in c.wired] == list(range(300))
    assert (c.root_qdisc(c.dev).qlen, len(c.card.sent), len(c.consumed)) == (0, 0, 300)
    assert not c.card.txq.xmit_stopped


@pytest.mark.parametrize(("driver", "fits"), [(IGB, 235), (E1000E, 234)], ids=lambda x: getattr(x, "name", ""))
def test_a_ring_that_the_card_does_not_empty_stops_the_queue(driver: Driver, fits: int) -> None:
    c = Card(driver)
    # Byte queue limits let everything in.
    c.card.txq.dql = replace(c.card.txq.dql, limit=1 << 24, adj_limit=1 << 24)
    for mark in range(300):
        dev_queue_xmit(c, packet(c.dev, 100, mark=mark))
    # 255 slots may be filled. igb stops when fewer than 21 are left behind a packet, e1000e when fewer than 22 are.
    assert len(c.card.sent) == fits
    assert c.card.txq.drv_stopped
    assert c.root_qdisc(c.dev).qlen == 300 - (fits)


def test_a_list_rings_once() -> None:
    c = Card(IGB)
    c.card.txq.dql = replace(c.card.txq.dql, limit=1 << 24, adj_limit=1 << 24)
    netif_tx_stop_queue(c, c.card.txq)
    for mark in range(5):
        dev_queue_xmit(c, packet(c.dev, 100, mark=mark))
    before = len(c.card.registers)
    netif_tx_wake_queue(c, c.card.txq)
    c.softirqs()
    # The first was requeued when the queue was stopped, so it goes alone; the other four are a list.
    assert c.card.registers[before:] == [("TDT", 1), ("TDT", 5)]


@pytest.mark.parametrize("driver", [IGB, E1000E], ids=lambda d: d.name)
def test_frames_that_the_card_received_go_up_in_order(driver: Driver) -> None:
    c = Card(driver)
    frames = [bytes(12) + b"\x08\x00" + bytes([i]) * 60 for i in range(100)]
    for f in frames:
        assert nic.device_receive(c.card, f)
    assert c.scheduled
    work = [c.poll(), c.poll()]
    assert work == [64, 36]
    assert [bytes(s.data)[0] for s in c.up] == list(range(100))
    assert {s.protocol for s in c.up} == {ETH_P_IP}
    assert not c.card.masked


def test_a_frame_without_a_buffer_is_missed() -> None:
    c = Card(IGB)
    c.card.rx = RxRing()
    assert not nic.device_receive(c.card, bytes(60))
    assert c.card.missed == 1


def test_a_frame_longer_than_a_buffer_is_joined_by_igb_and_thrown_away_by_e1000e() -> None:
    sizes = {}
    for driver in (IGB, E1000E):
        c = Card(driver)
        nic.device_receive(c.card, bytes(5000))
        c.poll()
        sizes[driver.name] = [len(s.mac_header) + s.len for s in c.up]
    assert sizes == {"igb": [5000], "e1000e": []}
