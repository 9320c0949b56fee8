"""Drivers' answers, byte queue limits, the watchdog, taps, validation, tun and loopback."""

import pytest

from refmodel.dev.drivers import TunFile, tun_net_xmit, tun_ring_recv
from refmodel.dev.queue import NETDEV_TX_OK, NetdevQueue
from refmodel.dev.softirq import dev_kfree_skb_irq_reason
from refmodel.dev.txq import (
    __netdev_tx_sent_queue,
    netdev_tx_completed_queue,
    netdev_tx_sent_queue,
    netif_tx_stop_queue,
    netif_tx_wake_queue,
)
from refmodel.dev.watchdog import Watchdog, __netdev_watchdog_up, round_jiffies
from refmodel.dev.xmit import netif_skb_features, validate_xmit_skb
from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice
from refmodel.sched.attach import qdisc_create
from refmodel.sched.xmit import dev_queue_xmit
from refmodel.skbuff import CHECKSUM_PARTIAL, PACKET_OUTGOING, SKB_GSO_TCPV4, SkBuff
from tests.sched.wire import Wire, packet

more_follow = __netdev_tx_sent_queue
watchdog_up = __netdev_watchdog_up


def queue(wire: Wire) -> NetdevQueue:
    return wire.netdev_queues(wire.device())[0]


def test_the_first_packet_stops_a_queue_without_experience_and_its_completion_raises_the_limit() -> None:
    wire = Wire()
    txq = queue(wire)
    netdev_tx_sent_queue(wire, txq, 1500)
    assert txq.xmit_stopped
    netdev_tx_completed_queue(wire, txq, 1, 1500)
    # The device ran dry though it was over the limit of 0: the limit grows by what was sent in that time.
    assert (txq.dql.limit, txq.xmit_stopped) == (1500, False)


def test_a_device_that_runs_dry_gets_ever_more() -> None:
    wire = Wire()
    txq = queue(wire)
    limits = []
    for _ in range(6):
        while not txq.xmit_stopped:
            netdev_tx_sent_queue(wire, txq, 1500)
        netdev_tx_completed_queue(wire, txq, 1, (txq.dql.num_queued - txq.dql.num_completed) & 0xFFFFFFFF)
        limits.append(txq.dql.limit)
    assert limits == sorted(limits)
    assert limits[-1] > limits[0]


def test_a_limit_that_is_never_needed_falls_after_the_hold_time() -> None:
    wire = Wire()
    txq = queue(wire)
    for _ in range(6):
        while not txq.xmit_stopped:
            netdev_tx_sent_queue(wire, txq, 1500)
        netdev_tx_completed_queue(wire, txq, 1, (txq.dql.num_queued - txq.dql.num_completed) & 0xFFFFFFFF)
    high = txq.dql.limit
    while not txq.xmit_stopped:
        netdev_tx_sent_queue(wire, txq, 1500)
    for _ in range(3):
        netdev_tx_completed_queue(wire, txq, 1, 1500)
        assert txq.dql.limit == high
        if not txq.xmit_stopped:
            netdev_tx_sent_queue(wire, txq, 1500)
    wire.advance(1_500_000)
    netdev_tx_completed_queue(wire, txq, 1, 1500)
    assert txq.dql.limit < high


def test_inside_a_list_byte_queue_limits_only_count() -> None:
    wire = Wire()
    txq = queue(wire)
    assert not more_follow(wire, txq, 1500, True)
    assert not txq.xmit_stopped
    assert more_follow(wire, txq, 1500, False)
    assert txq.xmit_stopped


def test_a_run_takes_as_many_packets_at_once_as_byte_queue_limits_let_in() -> None:
    wire = Wire()
    dev = wire.device(lambda skb, dev, txq, more: sent(wire, skb, txq, more))
    txq = wire.netdev_queues(dev)[0]
    qdisc_create(wire, dev, "pfifo", 100)
    dev_queue_xmit(wire, packet(dev, 1000))
    for mark in range(9):
        dev_queue_xmit(wire, packet(dev, 1000, mark=mark))
    netdev_tx_completed_queue(wire, txq, 1, 1000)
    wire.more.clear()
    wire.softirqs()
    # 1000 bytes are learned. The first packet uses them up exactly, the second goes beyond and stops the queue.
    assert wire.more == [False, False]
    netdev_tx_completed_queue(wire, txq, 2, 2000)
    wire.more.clear()
    wire.softirqs()
    # The device ran dry again, and now 3000 bytes are free: three packets make a list, and one more goes beyond.
    assert txq.dql.limit == 3000
    assert wire.more == [True, True, False, False]


def sent(wire: Wire, skb: SkBuff, txq: NetdevQueue, more: bool) -> int:
    more_follow(wire, txq, skb.len, more)
    return NETDEV_TX_OK


@pytest.mark.parametrize(("j", "rounded"), [(1000, 1000), (1061, 1000), (1062, 1250), (1249, 1250)])
def test_deadlines_are_rounded_to_whole_seconds(j: int, rounded: int) -> None:
    assert round_jiffies(j, 0, 250) == rounded


def test_a_deadline_is_not_rounded_into_the_past() -> None:
    assert round_jiffies(1010, 1005, 250) == 1010


def test_a_queue_that_stands_for_five_seconds_is_its_drivers_to_mend() -> None:
    wire = Wire()
    dev = wire.device()
    txq = wire.netdev_queues(dev)[0]
    dog = Watchdog(wire, dev)
    watchdog_up(dog)
    netif_tx_stop_queue(wire, txq)
    wire.advance(4_900_000)
    assert wire.timeouts == []
    wire.advance(3_000_000)
    assert wire.timeouts == [0]
    assert txq.trans_timeout == 1
    netif_tx_wake_queue(wire, txq)
    wire.advance(20_000_000)
    assert wire.timeouts == [0]


def test_taps_get_copies_and_the_socket_that_sent_gets_none() -> None:
    wire = Wire()
    dev = wire.device()
    mine, other = object(), object()
    wire.taps = [mine, other]
    skb = packet(dev)
    skb.sk = mine
    dev_queue_xmit(wire, skb)
    assert [s.pkt_type for s in wire.tapped] == [PACKET_OUTGOING]
    assert wire.tapped[0] is not skb


@pytest.mark.parametrize(
    ("features", "cut", "filled"),
    [
        (frozenset(), True, 0),
        ({"tx-checksum-ip-generic"}, True, 0),
        ({"tx-checksum-ip-generic", "tx-tcp-segmentation"}, False, 0),
        ({"tx-tcp-segmentation"}, True, 0),
        ({"tx-checksum-ipv6", "tx-tcp-segmentation"}, True, 0),
    ],
)
def test_who_cuts_a_super_packet(features: set[str], cut: bool, filled: int) -> None:
    wire = Wire()
    wire.segments = lambda skb: [packet(dev), packet(dev)]
    dev = NetDevice("x", 9, features=frozenset(features))
    skb = packet(dev, 3000)
    skb.gso_size, skb.gso_segs, skb.gso_type, skb.ip_summed = 1448, 2, SKB_GSO_TCPV4, CHECKSUM_PARTIAL
    assert len(validate_xmit_skb(wire, skb, dev)) == (2 if cut else 1)
    assert wire.checksums == filled


def test_a_checksum_is_filled_in_where_the_device_cannot() -> None:
    wire = Wire()
    dev = NetDevice("x", 9)
    skb = packet(dev)
    skb.ip_summed = CHECKSUM_PARTIAL
    validate_xmit_skb(wire, skb, dev)
    assert wire.checksums == 1


def test_a_super_packet_that_is_too_long_is_cut_by_the_stack() -> None:
    dev = NetDevice("x", 9, features=frozenset({"tx-checksum-ip-generic", "tx-tcp-segmentation"}))
    skb = packet(dev, 3000)
    skb.gso_size, skb.gso_segs, skb.gso_type, skb.ip_summed = 1448, 2, SKB_GSO_TCPV4, CHECKSUM_PARTIAL
    assert "tx-tcp-segmentation" in netif_skb_features(skb, dev)
    dev.gso_max_size = 3000
    assert "tx-tcp-segmentation" not in netif_skb_features(skb, dev)


def test_a_full_ring_of_tun_stays_full_until_sixteen_were_read() -> None:
    wire = Wire()
    tfile = TunFile(32)
    dev = wire.device(lambda skb, dev, txq, more: tun_net_xmit(wire, skb, dev, tfile, txq))
    for mark in range(33):
        dev_queue_xmit(wire, packet(dev, mark=mark))
    assert [str(r) for _, r in wire.drops] == ["FULL_RING"]
    for _ in range(15):
        tun_ring_recv(wire, tfile)
        dev_queue_xmit(wire, packet(dev))
    assert len(wire.drops) == 16
    tun_ring_recv(wire, tfile)
    dev_queue_xmit(wire, packet(dev))
    assert len(wire.drops) == 16


def test_what_a_hard_interrupt_frees_waits_for_the_softirq() -> None:
    wire = Wire()
    dev = wire.device()
    skb = packet(dev)
    dev_kfree_skb_irq_reason(wire, skb, Reason.CONSUMED)
    assert wire.consumed == []
    wire.softirqs()
    assert wire.consumed == [skb]
