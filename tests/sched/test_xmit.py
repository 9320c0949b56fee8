"""The way into transmission: bypass, queueing, quota, requeue, devices without a queue."""

from refmodel.dev.queue import NETDEV_TX_BUSY, NETDEV_TX_OK, NetdevQueue
from refmodel.dev.softirq import net_tx_action
from refmodel.dev.txq import netif_tx_stop_queue, netif_tx_wake_queue
from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice
from refmodel.sched.attach import dev_activate, dev_deactivate, qdisc_create, qdisc_graft
from refmodel.sched.const import (
    ENETDOWN,
    NET_XMIT_CN,
    NET_XMIT_DROP,
    NET_XMIT_SUCCESS,
    QDISC_STATE_DRAINING,
    QDISC_STATE_MISSED,
    TCQ_F_NOLOCK,
)
from refmodel.sched.tbf import TbfQopt
from refmodel.sched.xmit import dev_queue_xmit
from refmodel.skbuff import SkBuff
from tests.sched.wire import Wire, packet


def marks(wire: Wire) -> list[int]:
    return [s.mark for s in wire.out]


class Card:
    """A driver with room for `room` packets; then it stops its queue, or only says that it is busy."""

    def __init__(self, wire: Wire, room: int, stops: bool = True) -> None:
        self.wire = wire
        self.room = room
        self.stops = stops

    def __call__(self, skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
        if self.room == 0:
            return NETDEV_TX_BUSY
        self.room -= 1
        if self.room == 0 and self.stops:
            netif_tx_stop_queue(self.wire, txq)
        return NETDEV_TX_OK

    def frees(self, txq: NetdevQueue, n: int) -> None:
        self.room += n
        netif_tx_wake_queue(self.wire, txq)
        self.wire.softirqs()


def test_an_empty_discipline_is_bypassed_and_the_packet_counted() -> None:
    wire = Wire()
    dev = wire.device()
    assert dev_queue_xmit(wire, packet(dev, 100)) == NET_XMIT_SUCCESS
    q = wire.root_qdisc(dev)
    assert (q.ops.id, q.packets, q.bytes, q.qlen, len(wire.out)) == ("pfifo_fast", 1, 100, 0, 1)
    assert ("__dev_xmit_skb", "pfifo_fast is empty: bypassed") in wire.notes


def test_behind_a_stopped_queue_bands_leave_in_strict_priority() -> None:
    wire = Wire()
    card = Card(wire, 1)
    dev = wire.device(card)
    txq = wire.netdev_queues(dev)[0]
    dev_queue_xmit(wire, packet(dev))
    for mark, priority in enumerate((2, 0, 6, 2, 0, 6, 4), start=1):
        dev_queue_xmit(wire, packet(dev, priority=priority, mark=mark))
    q = wire.root_qdisc(dev)
    assert q.qlen == 7
    card.frees(txq, 100)
    assert marks(wire) == [0, 1, 3, 6, 2, 5, 7, 4]
    assert (q.qlen, q.backlog, q.packets, q.requeues) == (0, 0, 8, 1)


def test_the_first_packet_before_a_stopped_queue_is_requeued_and_leaves_first_whatever_its_band() -> None:
    wire = Wire()
    card = Card(wire, 1)
    dev = wire.device(card)
    txq = wire.netdev_queues(dev)[0]
    dev_queue_xmit(wire, packet(dev))
    dev_queue_xmit(wire, packet(dev, priority=2, mark=1))
    q = wire.root_qdisc(dev)
    assert q.gso_skb[0].mark == 1
    assert q.state & QDISC_STATE_MISSED
    wire.softirqs()
    assert q.state & QDISC_STATE_DRAINING
    assert not q.state & QDISC_STATE_MISSED
    dev_queue_xmit(wire, packet(dev, priority=6, mark=2))
    card.frees(txq, 9)
    assert marks(wire) == [0, 1, 2]
    assert q.nolock_empty


def test_a_busy_driver_that_stops_nothing_gets_the_packet_again_at_the_next_softirq() -> None:
    wire = Wire()
    card = Card(wire, 0, stops=False)
    dev = wire.device(card)
    dev_queue_xmit(wire, packet(dev, mark=1))
    q = wire.root_qdisc(dev)
    assert (q.requeues, q.qlen, wire.out) == (1, 1, [])
    card.room = 1
    wire.softirqs()
    assert marks(wire) == [1]
    assert q.requeues == 1


def test_a_run_sends_its_quota_and_leaves_the_rest_to_the_softirq() -> None:
    wire = Wire()
    card = Card(wire, 1)
    dev = wire.device(card)
    txq = wire.netdev_queues(dev)[0]
    for mark in range(150):
        dev_queue_xmit(wire, packet(dev, mark=mark))
    card.room = 1000
    netif_tx_wake_queue(wire, txq)
    sent = []
    while wire.raised:
        wire.raised.clear()
        before = len(wire.out)
        net_tx_action(wire)
        sent.append(len(wire.out) - before)
    assert sent == [64, 64, 21]
    assert marks(wire) == list(range(150))


def test_a_list_that_stops_the_queue_is_left_with_its_rest_ahead_of_the_others() -> None:
    wire = Wire()
    card = Card(wire, 3)
    dev = wire.device(card)
    txq = wire.netdev_queues(dev)[0]
    wire.segments = lambda skb: [packet(dev, 100, mark=10 + i) for i in range(5)]
    big = packet(dev, 500)
    big.gso_size, big.gso_segs, big.gso_type, big.transport = 80, 5, 1, 20
    big.data[32] = 0x50
    dev_queue_xmit(wire, big)
    q = wire.root_qdisc(dev)
    assert marks(wire) == [10, 11, 12]
    assert wire.more == [True, True, True]
    assert (q.requeues, q.qlen) == (2, 2)
    # Each segment counts the headers that it has of its own.
    assert (q.packets, q.bytes) == (5, 500 + 4 * 40)
    # The segments that came back have the super-packet's control block, so each counts with its length.
    assert q.backlog == 2 * (500 + 4 * 40)
    dev_queue_xmit(wire, packet(dev, mark=1))
    card.frees(txq, 1)
    card.frees(txq, 1)
    card.frees(txq, 1)
    assert q.backlog == 0
    assert marks(wire) == [10, 11, 12, 13, 14, 1]


def test_before_the_fix_a_packet_that_came_back_twice_fell_behind() -> None:
    orders = {}
    for kernel in (601, 612):
        wire = Wire(kernel)
        card = Card(wire, 1, stops=False)
        dev = wire.device(card)
        wire.segments = lambda skb, dev=dev: [packet(dev, 100, mark=i) for i in range(4)]  # type: ignore[misc]
        big = packet(dev, 400)
        big.gso_size, big.gso_segs, big.gso_type = 100, 4, 1
        dev_queue_xmit(wire, big)
        for room in (0, 9):
            card.room = room
            wire.raised.clear()
            net_tx_action(wire)
        wire.softirqs()
        orders[kernel] = marks(wire)
    assert orders == {601: [0, 2, 3, 1], 612: [0, 1, 2, 3]}


def test_a_device_without_queue_that_stops_loses_the_packet() -> None:
    wire = Wire()
    dev = wire.device(Card(wire, 1), no_queue=True)
    assert dev_queue_xmit(wire, packet(dev)) == 0
    assert dev_queue_xmit(wire, packet(dev)) == -ENETDOWN
    assert [r for _, r in wire.drops] == [Reason.NOT_SPECIFIED]
    assert wire.dropped == 1


def test_devices_without_queue_may_be_stacked_nine_deep() -> None:
    wire = Wire()

    def again(skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
        wire.depth = getattr(wire, "depth", 0) + 1  # type: ignore[attr-defined]
        return 0 if dev_queue_xmit(wire, skb) >= 0 else 1

    dev = wire.device(again, no_queue=True, lltx=True)
    dev_queue_xmit(wire, packet(dev))
    assert wire.depth == 9  # type: ignore[attr-defined]


def test_a_device_without_carrier_drops_all() -> None:
    wire = Wire()
    dev = wire.device()
    dev.carrier = False
    dev_deactivate(wire, dev)
    assert dev_queue_xmit(wire, packet(dev)) == NET_XMIT_CN
    assert [r for _, r in wire.drops] == [Reason.QDISC_DROP]
    dev.carrier = True
    dev_activate(wire, dev)
    assert dev_queue_xmit(wire, packet(dev)) == NET_XMIT_SUCCESS


def test_what_waits_is_purged_when_the_device_goes_down() -> None:
    wire = Wire()
    dev = wire.device(Card(wire, 1))
    for mark in range(4):
        dev_queue_xmit(wire, packet(dev, mark=mark))
    dev_deactivate(wire, dev)
    q = wire.root_qdisc(dev)
    assert (q.qlen, q.backlog, q.drops) == (0, 0, 0)
    # What the driver had refused, then what the rings held.
    assert [(s.mark, str(r)) for s, r in wire.drops] == [
        (2, "NOT_SPECIFIED"), (3, "NOT_SPECIFIED"), (1, "QUEUE_PURGE"),
    ]  # fmt: skip


def test_pfifo_drops_beyond_its_limit_and_pfifo_head_drop_drops_the_oldest() -> None:
    left = {}
    for kind in ("pfifo", "pfifo_head_drop"):
        wire = Wire()
        card = Card(wire, 1)
        dev = wire.device(card)
        qdisc_create(wire, dev, kind, 3)
        codes = [dev_queue_xmit(wire, packet(dev, mark=mark)) for mark in range(7)]
        card.frees(wire.netdev_queues(dev)[0], 9)
        q = wire.root_qdisc(dev)
        left[kind] = (marks(wire), codes.count(NET_XMIT_DROP), codes.count(NET_XMIT_CN), q.drops, q.packets)
    # The first that met the stopped queue was requeued, so it is not in the list and head drop spares it.
    assert left == {
        "pfifo": ([0, 1, 2, 3], 3, 0, 3, 4),
        "pfifo_head_drop": ([0, 1, 5, 6], 0, 3, 3, 4),
    }


def test_a_lockless_discipline_under_tbf_gets_the_lock() -> None:
    wire = Wire()
    dev = wire.device()
    assert qdisc_create(wire, dev, "tbf", TbfQopt(rate=1000, limit=10000, burst=2000)) == 0
    child = qdisc_graft(wire, wire.root_qdisc(dev), "pfifo_fast")
    assert not child.flags & TCQ_F_NOLOCK
