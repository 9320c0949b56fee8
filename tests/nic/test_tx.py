"""The transmit ring: what each driver does with a packet, a full ring, a completion, a hang and a lost link."""

import pytest

from refmodel.nic.drivers import E1000E, IGB, IXGBE, Driver
from refmodel.nic.tx import (
    NIC_TX,
    Clean,
    CleanDone,
    CleanStep,
    Completed,
    DeviceFetched,
    DeviceWroteBack,
    Discarded,
    Doorbell,
    Drained,
    HangSuspected,
    HangTask,
    LinkChanged,
    Mapped,
    NotAsked,
    PollTx,
    QueueStarted,
    QueueStopped,
    Reset,
    Send,
    SendStep,
    TxBusy,
    TxOk,
    TxParams,
    TxRing,
    Watchdog,
    Xmit,
    free,
    room,
)
from tests.nic.drive import Drive, kinds

ALL = pytest.mark.parametrize("driver", [IGB, E1000E, IXGBE], ids=lambda d: d.name)


def ring(driver: Driver = IGB, **params: int) -> Drive:
    p = driver.tx
    return Drive(NIC_TX, TxRing(), TxParams(**({f: getattr(p, f) for f in p.__struct_fields__} | params)))


def send(d: Drive, **e: object) -> list[object]:
    """One whole call of ndo_start_xmit."""
    out = d.do(Send(**e))  # type: ignore[arg-type]
    while d.at.xmit != Xmit.IDLE:
        out += d.do(SendStep())
    return out


def device(d: Drive, *lengths: int) -> None:
    """The device reads and writes back packets of these lengths."""
    for n in lengths:
        d.do(DeviceFetched(n=n), DeviceWroteBack(n=n))


def clean(d: Drive, *lengths: int, **e: object) -> list[object]:
    """One whole pass that finds packets of these lengths."""
    out = d.do(PollTx())
    for n in lengths:
        out += d.do(CleanStep(n=n))
    while d.at.clean != Clean.IDLE:
        out += d.do(CleanStep(**e))  # type: ignore[arg-type]
    return out


@ALL
def test_one_packet_fills_its_slots_and_rings(driver: Driver) -> None:
    d = ring(driver)
    assert send(d, data=2, context=True) == [
        Mapped(by="nic.tx.send_map", first=0, n=3),
        Doorbell(by="nic.tx.step_doorbell", tail=3),
        TxOk(by="nic.tx.step_doorbell", queued=True),
    ]


def test_more_packets_promised_put_the_doorbell_off() -> None:
    d = ring()
    assert kinds(send(d, more=True)) == ["Mapped", "TxOk"]
    assert d.at.tail == 0
    assert Doorbell(by="nic.tx.step_doorbell", tail=2) in send(d)


def test_byte_queue_limits_ring_although_more_is_promised() -> None:
    d = ring()
    assert "Doorbell" in kinds(send(d, more=True, bql_off=True))
    assert kinds(send(d)) == ["NotAsked"]
    assert "Doorbell" in kinds(send(d, more=True, batched=True))


@ALL
def test_queue_stops_when_the_next_packet_might_not_fit(driver: Driver) -> None:
    d = ring(driver, count=64)
    stops = [i for i in range(63) if not d.at.stopped and "QueueStopped" in kinds(send(d, more=True))]
    assert len(stops) == 1
    assert room(d.at, d.params) == driver.tx.stop_below - 1
    assert d.at.tail == d.at.next_to_use
    assert send(d) == [NotAsked(by="nic.tx.send_not_asked")]


def test_packet_that_does_not_fit_is_busy_and_leaves_the_ring() -> None:
    d = ring(count=64)
    for _ in range(3):
        send(d, data=14)
    before = d.at
    assert room(before, d.params) == 21
    assert kinds(send(d, data=19)) == ["QueueStopped", "TxBusy"]
    assert (d.at.next_to_use, d.at.packets, d.at.tail) == (before.next_to_use, before.packets, before.tail)


def test_reprieve_maps_the_packet_after_all() -> None:
    d = ring(count=64)
    for _ in range(3):
        send(d, data=14)
    device(d, 14)
    d.do(Send(data=19), PollTx(), CleanStep(n=14), CleanStep(), Drained())
    assert d.at.clean == Clean.IDLE
    assert d.do(SendStep()) == []
    assert d.do(SendStep())[:2] == [
        QueueStarted(by="nic.tx.step_reprieve", schedule=True),
        Mapped(by="nic.tx.step_reprieve", first=42, n=19),
    ]


@ALL
def test_driver_frees_whole_packets_that_are_written_back(driver: Driver) -> None:
    d = ring(driver)
    send(d, data=3)
    send(d, data=2)
    device(d, 3)
    assert clean(d, 3) == [
        Completed(by="nic.tx.clean_free", first=0, n=3),
        CleanDone(by="nic.tx.clean_wake", complete=True),
    ]
    assert (d.at.packets, d.at.next_to_clean) == (1, 3)


def test_pass_ends_at_its_work_limit_and_says_so() -> None:
    d = ring(work_limit=2)
    for _ in range(3):
        send(d)
    device(d, 1, 1, 1)
    assert clean(d, 1, 1)[-1] == CleanDone(by="nic.tx.clean_wake", complete=False)
    assert d.at.packets == 1


@ALL
def test_stopped_queue_wakes_at_the_threshold_and_not_before(driver: Driver) -> None:
    d = ring(driver, count=64)
    while not d.at.stopped:
        send(d)
    woken_at = 0
    while d.at.stopped:
        device(d, 1)
        clean(d, 1)
        woken_at = free(d.at, d.params)
    assert woken_at == driver.tx.wake_at
    assert isinstance(d.effects[-2], QueueStarted)


def test_the_cleaner_may_come_between_stop_and_recheck() -> None:
    """Every interleaving of a stopping sender with a cleaner that empties the ring leaves the queue running."""

    def run(order: str) -> TxRing:
        d = ring(count=64)
        for _ in range(2):
            send(d, data=18)
        device(d, 18, 18)
        d.do(Send(data=18))
        for who in order:
            if who == "S":
                d.do(SendStep())
            elif d.at.clean != Clean.IDLE:
                d.do(CleanStep(n=18))
            else:
                d.do(PollTx())
        while d.at.clean != Clean.IDLE:
            d.do(CleanStep(n=18))
        while d.at.xmit != Xmit.IDLE:
            d.do(SendStep())
        return d.at

    def orders(s: int, c: int) -> list[str]:
        if s == 0 or c == 0:
            return ["S" * s + "C" * c]
        return ["S" + x for x in orders(s - 1, c)] + ["C" + x for x in orders(s, c - 1)]

    ends = [run(o) for o in orders(3, 6)]
    assert len(ends) == 84
    assert all(s.packets == 1 and not s.stopped for s in ends)


def test_a_wake_at_the_wrong_moment_leaves_a_doorbell_unwritten() -> None:
    """The sender fills the ring between the cleaner's test of the room and its look at the stop bit."""
    d = ring(count=64)
    send(d, data=18)
    device(d, 18)
    d.do(PollTx(), CleanStep(n=18), CleanStep())
    assert d.at.clean == Clean.BARRIER
    send(d, data=18, more=True)
    d.do(CleanStep())
    d.do(Send(data=18, context=True, more=True, batched=True))
    d.do(Send(data=1))  # waits for the lock
    while d.at.xmit != Xmit.TAIL:
        d.do(SendStep())
    send_left = room(d.at, d.params)
    assert send_left >= d.params.stop_below
    d.do(SendStep())
    d.do(Send(data=18, more=True, batched=True), SendStep(), SendStep())
    assert (d.at.xmit, d.at.stopped) == (Xmit.TAIL, True)
    d.do(CleanStep())  # wakes a full ring
    assert kinds(d.do(SendStep())) == ["TxOk"]
    assert kinds(send(d, data=18, batched=True)) == ["QueueStopped", "TxBusy"]
    assert d.at.stopped
    assert d.at.tail != d.at.next_to_use
    assert d.at.head == d.at.tail  # the device has nothing to send: no completion will wake the queue


def test_drop_of_the_last_packet_leaves_the_doorbell_of_the_earlier_ones() -> None:
    d = ring()
    send(d, more=True)
    assert send(d, drop=True, batched=True) == [TxOk(by="nic.tx.send_drop", queued=False)]
    assert (d.at.tail, d.at.next_to_use) == (0, 1)


def test_igb_stops_the_queue_for_a_hang_in_the_pass() -> None:
    d = ring()
    send(d)
    d.do(Watchdog())
    assert kinds(clean(d, overdue=True)) == ["HangSuspected", "CleanDone"]
    assert d.at.stopped


def test_e1000e_leaves_a_suspected_hang_to_a_work_item() -> None:
    d = ring(E1000E)
    send(d)
    d.do(Watchdog())
    assert HangSuspected(by="nic.tx.clean_end", stopped=False) in clean(d, overdue=True)
    assert d.do(HangTask()) == [QueueStopped(by="nic.tx.hang_task")]
    d.do(DeviceFetched(n=1))
    assert d.do(HangTask()) == []


def test_no_hang_without_the_watchdog_or_without_packets() -> None:
    d = ring()
    d.do(Watchdog())
    assert kinds(clean(d, overdue=True)) == ["CleanDone"]
    send(d)
    assert kinds(clean(d, overdue=True)) == ["CleanDone"]


@pytest.mark.parametrize(
    ("driver", "down", "up"),
    [(IGB, [], []), (E1000E, ["QueueStopped"], ["QueueStarted"]), (IXGBE, [], ["QueueStarted"])],
)
def test_link_stops_and_wakes_the_queue_where_the_driver_says(driver: Driver, down: list[str], up: list[str]) -> None:
    d = ring(driver)
    assert kinds(d.do(LinkChanged(up=False))) == down
    assert kinds(d.do(LinkChanged(up=True))) == up


def test_igb_queue_emptied_without_carrier_stays_stopped() -> None:
    d = ring(count=64)
    while not d.at.stopped:
        send(d, data=18)
    packets = d.at.packets
    device(d, *[18] * packets)
    d.do(LinkChanged(up=False))
    clean(d, *[18] * packets)
    d.do(LinkChanged(up=True))
    assert d.at.stopped
    assert d.at.packets == 0


def test_reset_frees_all_and_starts_the_queue() -> None:
    d = ring()
    send(d)
    send(d)
    assert d.do(Reset()) == [
        Discarded(by="nic.tx.reset", packets=2),
        QueueStarted(by="nic.tx.reset", schedule=False),
    ]
    assert d.at == TxRing()


def test_reset_waits_for_sender_and_cleaner() -> None:
    d = ring()
    d.do(Send())
    assert d.do(Reset()) == []
    d.do(SendStep(), PollTx())
    assert d.do(Reset()) == []


def test_ring_wraps() -> None:
    d = ring(count=64)
    for _ in range(20):
        send(d, data=7)
        device(d, 7)
        clean(d, 7)
    assert d.at.next_to_use == 140 % 64
    assert d.at.packets == 0


def test_busy_is_never_returned_while_room_is_seen() -> None:
    d = ring()
    for _ in range(300):
        assert TxBusy not in [type(x) for x in send(d)]
        device(d, 1)
        clean(d, 1)
