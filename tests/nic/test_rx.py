"""The receive ring: filling, refilling in batches, frames of one and more buffers, running out of buffers."""

import pytest

from refmodel.nic.drivers import E1000E, IGB, IXGBE, Driver
from refmodel.nic.ring import dist
from refmodel.nic.rx import (
    NIC_RX,
    Configure,
    DeviceReceived,
    FrameMissed,
    FrameUp,
    PollRx,
    ResetRx,
    Rx,
    RxDone,
    RxParams,
    RxRing,
    RxStep,
    RxTail,
    room,
)
from tests.nic.drive import Drive, kinds

ALL = pytest.mark.parametrize("driver", [IGB, E1000E, IXGBE], ids=lambda d: d.name)


def ring(driver: Driver = IGB, count: int = 64) -> Drive:
    p = driver.rx
    given = {f: getattr(p, f) for f in p.__struct_fields__} | {"count": count}
    d = Drive(NIC_RX, RxRing(), RxParams(**given))
    d.do(Configure())
    finish(d)
    return d


def finish(d: Drive, **e: bool) -> list[object]:
    out: list[object] = []
    while d.at.rx != Rx.IDLE:
        out += d.do(RxStep(**e))
    return out


def poll(d: Drive, budget: int = 64, **e: bool) -> list[object]:
    return d.do(PollRx(budget=budget)) + finish(d, **e)


def tails(effects: list[object]) -> list[int]:
    return [x.tail for x in effects if isinstance(x, RxTail)]


@ALL
def test_new_ring_gets_a_buffer_in_all_slots_but_one(driver: Driver) -> None:
    d = ring(driver, driver.rx.count)
    assert room(d.at, d.params) == 0
    assert d.at.next_to_use == driver.rx.count - 1


def test_igb_writes_the_tail_once_for_a_new_ring() -> None:
    assert tails(ring(IGB, 256).effects) == [255]


def test_e1000e_writes_the_tail_at_every_sixteenth_slot_of_a_new_ring() -> None:
    assert tails(ring(E1000E, 256).effects) == list(range(0, 256, 16))


@pytest.mark.parametrize("count", [64, 72, 256])
def test_e1000e_tail_is_a_multiple_of_sixteen_for_ever(count: int) -> None:
    d = ring(E1000E, count)
    for _ in range(3 * count):
        d.do(DeviceReceived())
        poll(d)
    assert set(tails(d.effects)) == set(range(0, count, 16))
    assert d.at.tail == (d.at.next_to_use - 1) // 16 * 16 or d.at.next_to_use == 0


def test_igb_refills_a_lone_frame_at_the_end_of_its_poll() -> None:
    d = ring()
    d.do(DeviceReceived())
    assert poll(d) == [
        FrameUp(by="nic.rx.take_frame", slot=0),
        RxTail(by="nic.rx.fill_last", tail=0),
        RxDone(by="nic.rx.fill_last", work=1),
    ]


def test_igb_refills_sixteen_in_the_middle_of_a_poll() -> None:
    d = ring()
    d.do(*[DeviceReceived()] * 40)
    assert tails(poll(d)) == [15, 31, 39]


def test_igb_looks_at_its_budget_before_it_refills_a_batch() -> None:
    d = ring()
    d.do(*[DeviceReceived()] * 40)
    assert kinds(poll(d, budget=16))[-2:] == ["RxTail", "RxDone"]
    assert d.rules.count("nic.rx.step_batch") == 0


def test_e1000e_refills_a_batch_before_it_looks_at_its_budget() -> None:
    d = ring(E1000E)
    d.do(*[DeviceReceived()] * 40)
    poll(d, budget=16)
    assert d.rules.count("nic.rx.step_batch") == 1


@ALL
def test_poll_stops_at_its_budget(driver: Driver) -> None:
    d = ring(driver)
    d.do(*[DeviceReceived()] * 20)
    assert poll(d, budget=8)[-1].work == 8  # type: ignore[attr-defined]
    assert dist(d.at.next_to_clean, d.at.head, d.params.count) == 12


def test_igb_joins_the_buffers_of_a_long_frame() -> None:
    d = ring()
    d.do(DeviceReceived(eop=False), DeviceReceived(eop=False))
    assert kinds(poll(d, eop=False)) == ["RxTail", "RxDone"]
    assert d.at.open
    d.do(DeviceReceived())
    out = poll(d)
    assert [x for x in out if isinstance(x, FrameUp)] == [FrameUp(by="nic.rx.take_frame", slot=2)]
    assert out[-1].work == 1  # type: ignore[attr-defined]


def test_e1000e_throws_away_a_frame_longer_than_its_buffer_and_counts_each_descriptor() -> None:
    d = ring(E1000E)
    d.do(DeviceReceived(eop=False), DeviceReceived(), DeviceReceived())
    d.do(PollRx())
    assert kinds(d.do(RxStep(eop=False), RxStep(), RxStep())) == ["FrameDropped", "FrameUp"]
    assert finish(d)[-1].work == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(("driver", "work"), [(IGB, 0), (E1000E, 1)])
def test_bad_frame_is_dropped(driver: Driver, work: int) -> None:
    d = ring(driver)
    d.do(DeviceReceived(), PollRx())
    assert kinds(d.do(RxStep(error=True))) == ["FrameDropped"]
    assert finish(d)[-1].work == work  # type: ignore[attr-defined]


@ALL
def test_device_without_buffers_misses_frames(driver: Driver) -> None:
    d = ring(driver)
    own = dist(d.at.head, d.at.tail, d.params.count)
    assert own == (48 if driver is E1000E else 63)
    assert d.do(*[DeviceReceived()] * (own + 1)) == [FrameMissed(by="nic.rx.device_missed")]
    assert d.at.head == d.at.tail


def test_device_waits_for_a_buffer_in_the_middle_of_a_frame() -> None:
    d = ring()
    d.do(*[DeviceReceived(eop=False)] * 63)
    assert d.do(DeviceReceived()) == []


def test_without_memory_igb_hands_over_what_it_has_and_catches_up_later() -> None:
    d = ring()
    d.do(*[DeviceReceived()] * 3)
    d.do(PollRx(), RxStep(), RxStep(), RxStep(), RxStep(), RxStep())
    assert kinds(d.do(RxStep(ok=False))) == ["AllocFailed", "RxTail", "RxDone"]
    assert room(d.at, d.params) == 2
    poll(d)
    assert room(d.at, d.params) == 0


def test_without_an_skb_igb_leaves_the_frame_in_the_ring() -> None:
    d = ring()
    d.do(DeviceReceived(), PollRx())
    assert kinds(d.do(RxStep(no_skb=True))) == ["AllocFailed", "RxDone"]
    assert d.at.frames == 1
    assert kinds(poll(d))[0] == "FrameUp"


def test_netpoll_budget_of_none_reads_nothing() -> None:
    d = ring()
    d.do(DeviceReceived())
    assert poll(d, budget=0) == [RxDone(by="nic.rx.step_end", work=0)]


def test_full_ring_is_not_filled_again() -> None:
    assert ring().do(Configure()) == []


def test_reset_takes_all_buffers_back() -> None:
    d = ring()
    d.do(DeviceReceived(), ResetRx())
    assert d.at == RxRing()
