"""The backlog, NAPI's polls and packet steering: bounded, fair, and nobody waits in vain."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from conformance.differential.gro_frames import DST
from conformance.differential.receive_env import ReceiveEnv, receive
from refmodel.dropreason import Reason
from refmodel.netdevice import IFF_UP, NetDevice
from refmodel.receive.core import NET_RX_DROP, NET_RX_SUCCESS
from refmodel.receive.napi import dev_set_threaded, napi_schedule, napi_watchdog
from refmodel.receive.params import ReceiveParams
from refmodel.receive.rfs import FlowTables
from refmodel.receive.softnet import FlowLimit, NapiStruct, Receive
from refmodel.skbuff import SkBuff
from refmodel.softirq import Vector
from tests.receive.runs import Veth, poller, segment, stream

DEV = NetDevice("eth0", 2, DST, kind="tun")


def packet(dev: NetDevice = DEV, hash: int = 0) -> SkBuff:
    skb = SkBuff(bytes(40), 0x0800, dev=dev)
    skb.hash = hash
    return skb


def fresh(cpus: int = 1, **given: int) -> tuple[ReceiveEnv, Receive]:
    params = ReceiveParams(**given)
    env = ReceiveEnv(params.kernel, params.hz)
    return env, receive(env, tap=False, cpus=cpus, params=params)


def interrupt(rx: Receive, napi: NapiStruct) -> None:
    """The handler of a device's interrupt."""
    napi_schedule(rx, napi)


def test_netif_rx_from_a_task_processes_the_packet_before_it_returns() -> None:
    env, rx = fresh()
    assert rx.netif_rx(packet()) == NET_RX_SUCCESS
    assert [name for name, _ in env.delivered] == ["ip_rcv"]


def test_netif_rx_from_an_interrupt_waits_for_its_end() -> None:
    env, rx = fresh()
    rx.contexts.irq_enter("eth0")
    rx.netif_rx(packet())
    assert env.delivered == []
    rx.contexts.irq_exit()
    assert len(env.delivered) == 1


def test_the_1002nd_packet_is_dropped_and_counted() -> None:
    env, rx = fresh()
    rx.contexts.local_bh_disable()
    results = [rx.netif_rx(packet()) for _ in range(1002)]
    assert results.count(NET_RX_SUCCESS) == 1001
    assert results[-1] == NET_RX_DROP
    assert [reason for _, reason in env.drops] == [Reason.CPU_BACKLOG]
    assert rx.sd.softnet_stat()[:2] == (0, 1)
    assert rx.dev_stats["eth0", "rx_dropped"] == 1
    rx.contexts.local_bh_enable()
    rx.contexts.settle()
    assert rx.sd.softnet_stat()[:2] == (1001, 1)


@pytest.mark.parametrize(("kernel", "reason", "counted"), [(601, "NOT_SPECIFIED", 1), (612, "DEV_READY", 0)])
def test_a_packet_of_a_device_that_went_down_is_dropped(kernel: int, reason: str, counted: int) -> None:
    env, rx = fresh(kernel=kernel)
    down = NetDevice("eth1", 3, DST)
    down.flags &= ~IFF_UP
    rx.netif_rx(packet(down))
    assert [r.value for _, r in env.drops] == [reason]
    assert rx.sd.dropped == counted


def test_a_backlog_of_more_than_its_weight_is_polled_again_within_the_budget() -> None:
    env, rx = fresh()
    rx.contexts.local_bh_disable()
    for _ in range(200):
        rx.netif_rx(packet())
    rx.contexts.local_bh_enable()
    assert len(env.delivered) == 200
    assert rx.sd.time_squeeze == 0
    polls = [d for f, d in env.notes if f == "napi_poll"]
    assert polls == ["backlog: 64 of 64"] * 3 + ["backlog: 8 of 64"]


def test_a_run_ends_with_the_budget_and_counts_the_squeeze() -> None:
    _, rx = fresh(netdev_budget=64)
    rx.contexts.local_bh_disable()
    for _ in range(200):
        rx.netif_rx(packet())
    rx.contexts.local_bh_enable()
    assert rx.sd.time_squeeze == 3
    assert rx.sd.processed == 200


def test_the_flow_limit_refuses_a_flow_that_fills_the_backlog_alone() -> None:
    _, rx = fresh(netdev_max_backlog=100)
    rx.sd.flow_limit = FlowLimit(4096)
    rx.contexts.local_bh_disable()
    results = [rx.netif_rx(packet(hash=7)) for _ in range(101)]
    # From the 51st on its share is counted; more than 64 of the last 128 are too many. 101 packets make 51 counted.
    assert results.count(NET_RX_DROP) == 0
    rx.sd.flow_limit.buckets[7] = 64
    rx.sd.input_pkt_queue.pop()
    assert rx.netif_rx(packet(hash=7)) == NET_RX_DROP
    assert rx.netif_rx(packet(hash=8)) == NET_RX_SUCCESS
    assert rx.sd.flow_limit_count == 1


def test_packet_steering_moves_a_flow_to_another_processor_by_an_interrupt() -> None:
    env, rx = fresh(cpus=2)
    rx.rps_maps[DEV.ifindex] = (0, 1)
    seen: list[str] = []
    env.ip_rcv = lambda skb, dev: seen.append(f"{rx.contexts.cpu.number} {rx.contexts.where}")  # type: ignore[method-assign]
    rx.netif_rx(packet(hash=0xC0000000))
    rx.netif_rx(packet(hash=0x10000000))
    rx.contexts.settle()
    assert seen == ["0 softirq NET_RX", "1 softirq NET_RX"]
    assert (rx.softnet[0].received_rps, rx.softnet[1].received_rps) == (0, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("send", "read", "settle")), st.integers(0, 1)), max_size=60))
def test_a_flow_that_follows_its_reader_stays_in_order(steps: list[tuple[str, int]]) -> None:
    """Whatever processor the reader is on, and whichever the packets come in on, none overtakes another."""
    env, rx = fresh(cpus=2)
    rx.rfs = FlowTables(64, 2)
    rx.contexts.local_bh_disable()
    sent = 0
    for what, cpu in steps:
        if what == "read":
            rx.rfs.record(0x1234_5678, cpu)
        elif what == "send":
            skb = packet(hash=0x1234_5678)
            skb.mark = sent
            sent += 1
            rx.netif_rx(skb)
        else:
            rx.contexts.local_bh_enable()
            rx.contexts.settle()
            rx.contexts.local_bh_disable()
    rx.contexts.local_bh_enable()
    rx.contexts.settle()
    assert [skb.mark for _, skb in env.delivered] == list(range(sent))


def test_a_flow_moves_to_its_reader_once_nothing_of_it_waits() -> None:
    _, rx = fresh(cpus=2)
    rx.rfs = FlowTables(64, 2)
    rx.rfs.record(7 << 8, 1)
    assert rx.get_rps_cpu(packet(hash=7 << 8)) == 1
    rx.contexts.local_bh_disable()
    rx.netif_rx(packet(hash=7 << 8))
    rx.rfs.record(7 << 8, 0)
    assert rx.get_rps_cpu(packet(hash=7 << 8)) == 1
    rx.contexts.local_bh_enable()
    rx.contexts.settle()
    assert rx.get_rps_cpu(packet(hash=7 << 8)) == 0
    assert rx.get_rps_cpu(packet(hash=9 << 8)) == -1


def test_a_device_is_polled_until_it_has_no_more() -> None:
    env, rx = fresh()
    napi = poller(rx, DEV, [packet() for _ in range(70)])
    rx.contexts.hardirq("eth0", lambda: interrupt(rx, napi))
    assert len(env.delivered) == 70
    assert not napi.state.sched


def test_an_interrupt_during_the_poll_leaves_missed_and_is_not_lost() -> None:
    env, rx = fresh()
    packets = [packet()]
    napi = poller(rx, DEV, packets)
    inner = env.ip_rcv

    def late(skb: SkBuff, dev: NetDevice) -> None:
        inner(skb, dev)
        if len(env.delivered) == 1:
            packets.append(packet())
            rx.contexts.hardirq("eth0", lambda: interrupt(rx, napi))

    env.ip_rcv = late  # type: ignore[method-assign]
    rx.contexts.hardirq("eth0", lambda: interrupt(rx, napi))
    assert len(env.delivered) == 2


def test_a_threaded_napi_is_polled_by_its_thread() -> None:
    veth = Veth()
    dev_set_threaded(veth.rx, veth.rq.napi, True)
    where: list[str] = []
    veth.env.ip_rcv = lambda skb, dev: where.append(veth.rx.contexts.context)  # type: ignore[method-assign]
    veth.burst(segment(stream()))
    assert where == []
    veth.rx.contexts.settle()
    assert where == ["napi/right"]


def test_deferred_interrupts_leave_the_next_poll_to_the_timer() -> None:
    env, rx = fresh()
    packets = [packet()]
    napi = poller(rx, DEV, packets)
    armed: list[int] = []
    napi.gro_flush_timeout, napi.defer_hard_irqs, napi.watchdog = 20_000, 1, armed.append
    rx.contexts.hardirq("eth0", lambda: interrupt(rx, napi))
    assert armed == [20_000]
    packets.append(packet())
    rx.contexts.hrtimer(lambda: napi_watchdog(rx, napi))
    assert len(env.delivered) == 2


def test_a_full_ring_is_busy_with_a_queue_at_the_sender_and_drops_without() -> None:
    veth = Veth()
    dev_set_threaded(veth.rx, veth.rq.napi, True)
    f = stream()
    assert {veth.send(segment(f)) for _ in range(256)} == {0}
    assert veth.send(segment(f)) == 1
    assert veth.rq.dropped == 1


class Polls(RuleBasedStateMachine):
    """Packets, interrupts and polls in any order, on two processors."""

    def __init__(self) -> None:
        super().__init__()
        self.env, self.rx = fresh(cpus=2, netdev_max_backlog=20, netdev_budget=30, dev_weight=8)
        self.waiting: list[SkBuff] = []
        self.napi = poller(self.rx, DEV, self.waiting)
        self.rx.rps_maps[DEV.ifindex] = ()
        self.sent = 0

    @rule(n=st.integers(1, 40), hash=st.integers(0, (1 << 32) - 1))
    def send(self, n: int, hash: int) -> None:
        for _ in range(n):
            self.rx.netif_rx(packet(hash=hash))
        self.sent += n

    @rule(n=st.integers(1, 40))
    def interrupt(self, n: int) -> None:
        self.waiting += [packet() for _ in range(n)]
        self.sent += n
        self.rx.contexts.hardirq("eth0", lambda: interrupt(self.rx, self.napi))

    @precondition(lambda self: self.rx.contexts.cpu.bh < 3)
    @rule()
    def disable(self) -> None:
        self.rx.contexts.local_bh_disable()

    @precondition(lambda self: self.rx.contexts.cpu.bh > 0)
    @rule()
    def enable(self) -> None:
        self.rx.contexts.local_bh_enable()

    @precondition(lambda self: self.rx.contexts.cpu.bh == 0)
    @rule()
    def settle(self) -> None:
        self.rx.contexts.settle()
        assert not self.waiting
        assert all(not sd.poll_list and not sd.input_pkt_queue and not sd.process_queue for sd in self.rx.softnet)

    @rule(on=st.booleans())
    def steer(self, on: bool) -> None:
        self.rx.rps_maps[DEV.ifindex] = (0, 1) if on else ()

    @invariant()
    def nothing_is_lost(self) -> None:
        waiting = sum(len(sd.input_pkt_queue) + len(sd.process_queue) for sd in self.rx.softnet) + len(self.waiting)
        held = len(self.napi.rx_list)
        assert self.sent == len(self.env.delivered) + len(self.env.drops) + waiting + held

    @invariant()
    def a_listed_poll_is_owed(self) -> None:
        contexts = self.rx.contexts
        for sd, cpu in zip(self.rx.softnet, contexts.cpus, strict=True):
            raised = Vector.NET_RX in cpu.pending
            assert not sd.poll_list or raised
            assert not raised or cpu.bh or contexts.daemons[cpu.number].woken

    @invariant()
    def the_backlog_is_bounded(self) -> None:
        assert all(len(sd.input_pkt_queue) <= 21 for sd in self.rx.softnet)

    @invariant()
    def every_drop_is_counted(self) -> None:
        assert sum(sd.dropped for sd in self.rx.softnet) == len(self.env.drops)


Polls.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestPolls = Polls.TestCase
