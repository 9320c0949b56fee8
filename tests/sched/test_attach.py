"""Which discipline stands at which device, mq and its children, and packets for different transmit queues."""

import pytest

from refmodel.dev.queue import NETDEV_TX_OK
from refmodel.dev.txq import netif_tx_stop_queue, netif_tx_wake_queue
from refmodel.netdevice import NetDevice
from refmodel.sched.attach import dev_qdisc_change_tx_queue_len, mq_dump, qdisc_create, qdisc_graft
from refmodel.sched.const import EINVAL, TCQ_F_CAN_BYPASS, TCQ_F_ONETXQUEUE
from refmodel.sched.params import SchedParams
from refmodel.sched.pfifo_fast import rt_tos2priority
from refmodel.sched.tbf import TbfQopt, psched_l2t_ns, psched_ratecfg_precompute
from refmodel.sched.xmit import dev_queue_xmit
from refmodel.skbuff import SkBuff
from tests.sched.wire import Wire, packet

HASHES = (0, 0x40000000, 0x80000000, 0xC0000000)


def hashed(dev: NetDevice, hash: int, mark: int = 0) -> SkBuff:
    skb = packet(dev, mark=mark)
    skb.hash = hash
    return skb


def test_a_device_with_one_queue_gets_pfifo_fast_and_one_that_wants_none_noqueue() -> None:
    wire = Wire()
    assert wire.root_qdisc(wire.device()).ops.id == "pfifo_fast"
    assert wire.root_qdisc(wire.device(no_queue=True)).ops.id == "noqueue"


def test_several_queues_get_mq_with_a_pfifo_fast_each_and_the_hash_chooses() -> None:
    wire = Wire()
    dev = wire.device(num_tx_queues=4)
    root = wire.root_qdisc(dev)
    assert root.ops.id == "mq"
    for h in (*HASHES, 0xFFFFFFFF):
        dev_queue_xmit(wire, hashed(dev, h))
    assert [q.qdisc.packets for q in wire.netdev_queues(dev)] == [1, 1, 1, 2]
    assert all(q.qdisc.flags & TCQ_F_ONETXQUEUE for q in wire.netdev_queues(dev))
    assert (mq_dump(wire, root).packets, root.bytes) == (5, 500)


def test_pfifo_fast_without_a_queue_length_falls_back_to_noqueue() -> None:
    wire = Wire()
    assert wire.root_qdisc(wire.device(tx_queue_len=0)).ops.id == "noqueue"
    assert wire.root_qdisc(wire.device(tx_queue_len=0, num_tx_queues=2)).ops.id == "noqueue"


def test_a_packet_for_a_stopped_queue_is_set_aside_and_holds_the_others_up() -> None:
    wire = Wire()
    dev = wire.device(lambda skb, dev, txq, more: NETDEV_TX_OK, num_tx_queues=2)
    qdisc_create(wire, dev, "pfifo", 100)
    first, second = wire.netdev_queues(dev)
    q = wire.root_qdisc(dev)
    netif_tx_stop_queue(wire, first)
    dev_queue_xmit(wire, hashed(dev, 0, 1))
    for mark, h in ((2, 0), (3, 0xFFFFFFFF), (4, 0xFFFFFFFF)):
        dev_queue_xmit(wire, hashed(dev, h, mark))
    # The first came back from the stopped queue; as long as it waits nothing else is looked at.
    assert (len(q.gso_skb), q.qlen, wire.out) == (1, 4, [])
    netif_tx_stop_queue(wire, second)
    netif_tx_wake_queue(wire, first)
    wire.softirqs()
    assert [s.mark for s in wire.out] == [1, 2]
    # Behind the second came one for the other queue: it was taken out, and set aside.
    assert [s.mark for s in q.skb_bad_txq] == [3]
    netif_tx_wake_queue(wire, second)
    wire.softirqs()
    assert [s.mark for s in wire.out] == [1, 2, 3, 4]
    assert (q.qlen, q.backlog) == (0, 0)


def test_the_quota_of_a_run_is_dev_weight_times_its_bias() -> None:
    wire = Wire()
    wire.softnet.params = SchedParams(dev_weight=3, dev_weight_tx_bias=2)
    dev = wire.device()
    txq = wire.netdev_queues(dev)[0]
    netif_tx_stop_queue(wire, txq)
    for _ in range(20):
        dev_queue_xmit(wire, packet(dev))
    netif_tx_wake_queue(wire, txq)
    wire.softirqs()
    assert sum(1 for fn, text in wire.notes if fn == "__qdisc_run") == 3
    assert ("__qdisc_run", "quota of 6 packets used up") in wire.notes


def test_another_queue_length_empties_the_device_and_makes_new_rings() -> None:
    wire = Wire()
    dev = wire.device(tx_queue_len=10)
    netif_tx_stop_queue(wire, wire.netdev_queues(dev)[0])
    for _ in range(5):
        dev_queue_xmit(wire, packet(dev))
    assert dev_qdisc_change_tx_queue_len(wire, dev, 2) == 0
    q = wire.root_qdisc(dev)
    assert (q.qlen, q.priv.size, len(wire.drops)) == (0, 2, 5)


@pytest.mark.parametrize(
    ("tos", "priority"), [(0, 0), (0x02, 0), (0x08, 2), (0x10, 6), (0x1C, 4), (0xB8, 4), (0xFF, 4)]
)
def test_priority_by_type_of_service(tos: int, priority: int) -> None:
    assert rt_tos2priority(tos) == priority


def test_a_fifo_whose_limit_no_frame_fits_is_not_bypassed() -> None:
    wire = Wire()
    dev = wire.device()
    flags = {}
    for kind, limit in (("pfifo", 0), ("pfifo", 1), ("bfifo", 1499), ("bfifo", 1500)):
        qdisc_create(wire, dev, kind, limit)
        flags[kind, limit] = bool(wire.root_qdisc(dev).flags & TCQ_F_CAN_BYPASS)
    assert flags == {("pfifo", 0): False, ("pfifo", 1): True, ("bfifo", 1499): False, ("bfifo", 1500): True}


def test_a_fifo_without_parameters_takes_its_limit_from_the_device() -> None:
    wire = Wire()
    dev = wire.device(tx_queue_len=7)
    qdisc_create(wire, dev, "pfifo")
    assert wire.root_qdisc(dev).limit == 7
    qdisc_create(wire, dev, "bfifo")
    assert wire.root_qdisc(dev).limit == 7 * 1500


@pytest.mark.parametrize(
    "opt",
    [
        None,
        TbfQopt(rate=1000, limit=1000, burst=0),
        TbfQopt(rate=1000, limit=1000, burst=2000, peakrate=1000, pburst=1500),
        TbfQopt(rate=1000, limit=1000, burst=2000, peakrate=2000, pburst=0),
    ],
)
def test_tbf_refuses_parameters_that_make_no_sense(opt: TbfQopt | None) -> None:
    wire = Wire()
    dev = wire.device()
    assert qdisc_create(wire, dev, "tbf", opt) == -EINVAL
    assert wire.root_qdisc(dev).ops.id == "pfifo_fast"


def test_a_length_in_time() -> None:
    """1 MB/s is a microsecond a byte; 3 bytes a second do not come out even, and are rounded down."""
    assert psched_l2t_ns(psched_ratecfg_precompute(1_000_000), 1500) == 1_500_000
    assert psched_l2t_ns(psched_ratecfg_precompute(3), 1) == 333_333_333
    assert psched_l2t_ns(psched_ratecfg_precompute(1_000_000, overhead=14, mpu=64), 10) == 64_000
    assert psched_l2t_ns(psched_ratecfg_precompute(1_000_000, atm=True), 49) == 106_000


def test_the_watchdog_lets_out_what_waited_in_tbf() -> None:
    wire = Wire()
    dev = wire.device()
    qdisc_create(wire, dev, "tbf", TbfQopt(rate=100_000, limit=100_000, burst=1500))
    for mark in range(5):
        dev_queue_xmit(wire, packet(dev, 1000, mark=mark))
    assert [s.mark for s in wire.out] == [0]
    # 500 bytes are left, 500 more take 5 ms; then 10 ms a packet.
    for ms in (5, 10, 10, 10):
        before = len(wire.out)
        wire.advance(ms * 1000 - 1)
        wire.softirqs()
        assert len(wire.out) == before
        wire.advance(1)
        wire.softirqs()
        assert len(wire.out) == before + 1
    assert wire.root_qdisc(dev).qlen == 0


def test_a_super_packet_longer_than_the_bucket_is_cut_before_it_waits() -> None:
    wire = Wire()
    dev = wire.device()
    qdisc_create(wire, dev, "tbf", TbfQopt(rate=100_000, limit=100_000, burst=1600))
    wire.segments = lambda skb: [packet(dev, 1000, mark=i) for i in range(3)]
    big = packet(dev, 3000)
    big.gso_size, big.gso_segs, big.gso_type, big.transport = 960, 3, 1, 20
    big.data[32] = 0x50
    dev_queue_xmit(wire, big)
    q = wire.root_qdisc(dev)
    assert ([s.mark for s in wire.out], q.qlen, q.backlog) == ([0], 2, 2000)
    big = packet(dev, 3000)
    big.gso_size, big.gso_segs, big.gso_type, big.transport = 1600, 2, 1, 20
    big.data[32] = 0x50
    dev_queue_xmit(wire, big)
    assert q.drops == 1


def test_what_a_child_of_tbf_held_goes_with_it() -> None:
    wire = Wire()
    dev = wire.device()
    qdisc_create(wire, dev, "tbf", TbfQopt(rate=1000, limit=100_000, burst=1500))
    for mark in range(4):
        dev_queue_xmit(wire, packet(dev, 1000, mark=mark))
    root = wire.root_qdisc(dev)
    qdisc_graft(wire, root, "pfifo", 3)
    assert (root.qlen, root.backlog, root.drops) == (0, 0, 3)
