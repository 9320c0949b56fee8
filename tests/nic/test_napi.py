"""Interrupt, NAPI and softirq: masking, MISSED, weight, budget, squeeze, deferral, down and up."""

import pytest

from refmodel.engine.run import pick
from refmodel.nic.napi import (
    NAPI,
    DeviceWork,
    Disable,
    DriverStep,
    Enable,
    Interrupt,
    Listed,
    MaskIrq,
    Napi,
    NapiParams,
    NapiScheduled,
    NetRxStep,
    Poll,
    PollOther,
    PollReturned,
    RaiseSoftirq,
    ReadIcr,
    Schedule,
    Softirq,
    TimerArmed,
    TimeSqueeze,
    UnmaskIrq,
    WatchdogTimer,
)
from refmodel.profile import profile
from tests.nic.drive import Drive, kinds


def napi(kernel: str = "6.12", **p: object) -> Drive:
    version = {"6.1": 601, "6.12": 612}[kernel]
    return Drive(NAPI, Napi(), NapiParams(kernel=version, **p), kernel)  # type: ignore[arg-type]


def interrupted(d: Drive, frames: int = 1) -> Drive:
    d.do(*[DeviceWork()] * frames, Interrupt())
    return d


def in_driver(d: Drive) -> Drive:
    d.do(Softirq(), NetRxStep())
    assert d.at.poll == Poll.DRIVER
    return d


def test_one_frame_from_interrupt_to_unmask() -> None:
    d = interrupted(napi())
    assert (d.at.masked, d.at.sched, d.at.softirq) == (True, True, True)
    in_driver(d)
    assert d.do(DriverStep(work=1), DriverStep(), DriverStep()) == [
        UnmaskIrq(by="nic.napi.driver_unmasks", mask=1),
        PollReturned(by="nic.napi.driver_unmasks", work=1, weight=64),
    ]
    assert d.do(NetRxStep(), NetRxStep()) == []
    assert d.at == Napi()


def test_handler_reads_the_cause_register_where_the_read_masks() -> None:
    d = napi(reads_icr=True)
    assert d.do(DeviceWork(), Interrupt())[0] == ReadIcr(by="nic.napi.interrupt")
    assert d.do(DeviceWork()) == []
    assert d.at.masked


def test_work_that_comes_after_the_last_look_interrupts_again() -> None:
    d = in_driver(interrupted(napi()))
    d.do(DriverStep(work=1), DeviceWork(), DriverStep(), DriverStep())
    assert (d.at.pending, d.at.cause, d.at.masked) == (1, True, False)
    assert d.do(Interrupt()) == [NapiScheduled(by="nic.napi.interrupt", raised=False)]


def test_missed_schedules_again_and_keeps_the_interrupt_masked() -> None:
    d = in_driver(interrupted(napi()))
    d.do(DriverStep(work=1), Schedule())
    assert d.at.missed
    assert d.do(DriverStep()) == [
        NapiScheduled(by="nic.napi.complete_again", raised=False),
        PollReturned(by="nic.napi.complete_again", work=1, weight=64),
    ]
    assert (d.at.masked, d.at.sched, d.at.missed, d.at.listed) == (True, True, False, Listed.PENDING)


def test_interrupt_while_scheduled_by_software_is_missed() -> None:
    d = napi()
    d.do(Schedule(), DeviceWork(), Interrupt())
    assert d.at.missed
    assert d.at.masked


def test_poll_that_uses_up_its_weight_is_polled_again_without_interrupt() -> None:
    d = in_driver(interrupted(napi(), 100))
    assert d.do(DriverStep(work=64)) == [PollReturned(by="nic.napi.driver_full", work=64, weight=64)]
    d.do(NetRxStep())
    assert d.at.listed == Listed.REPOLL
    assert d.do(NetRxStep()) == [RaiseSoftirq(by="nic.napi.list_repoll")]
    assert (d.at.softirq, d.at.masked) == (True, True)


def test_unclean_transmit_ring_returns_the_weight() -> None:
    d = in_driver(interrupted(napi()))
    assert d.do(DriverStep(work=0, tx_left=True)) == [PollReturned(by="nic.napi.driver_full", work=64, weight=64)]


def test_budget_of_300_lets_four_full_polls_and_a_fifth_squeezes() -> None:
    d = interrupted(napi(), 1)
    d.do(Softirq())
    for _ in range(4):
        assert d.do(PollOther(work=64)) == []
    assert kinds(d.do(PollOther(work=64))) == ["TimeSqueeze", "RaiseSoftirq"]
    assert (d.at.listed, d.at.softirq, d.at.in_action) == (Listed.PENDING, True, False)


def test_time_limit_squeezes_with_budget_left() -> None:
    d = in_driver(interrupted(napi()))
    d.do(DriverStep(work=1), DriverStep(), DriverStep())
    assert d.do(NetRxStep(time_up=True)) == [TimeSqueeze(by="nic.napi.poll_squeezed")]
    assert not d.at.softirq


def test_budget_of_none_still_polls_once_in_a_run() -> None:
    d = in_driver(interrupted(napi(netdev_budget=0)))
    d.do(DriverStep(work=1), DriverStep(), DriverStep())
    assert kinds(d.do(NetRxStep())) == ["TimeSqueeze"]


def test_scheduled_during_the_run_is_polled_in_the_same_run() -> None:
    d = in_driver(interrupted(napi()))
    d.do(DriverStep(work=1), DriverStep(), DriverStep(), DeviceWork(), Interrupt(), NetRxStep())
    assert not d.at.softirq
    d.do(NetRxStep())
    assert d.rules[-1] == "nic.napi.list_refilled"
    assert d.at.listed == Listed.TAKEN


def test_in_6_1_scheduled_during_the_run_raises_the_softirq_and_waits_for_it() -> None:
    d = in_driver(interrupted(napi("6.1")))
    d.do(DriverStep(work=1), DriverStep(), DriverStep(), DeviceWork())
    assert d.do(Interrupt()) == [NapiScheduled(by="nic.napi.interrupt", raised=True)]
    d.do(NetRxStep(), NetRxStep())
    assert d.rules[-1] == "nic.napi.list_refilled_old"
    assert (d.at.softirq, d.at.listed) == (True, Listed.PENDING)


@pytest.mark.parametrize("timeout", [0, 20_000])
def test_deferred_hard_interrupts_leave_the_interrupt_masked_to_a_timer(timeout: int) -> None:
    d = in_driver(interrupted(napi(defer_hard_irqs=2, gro_flush_timeout=timeout)))
    d.do(DriverStep(work=1))
    out = d.do(DriverStep())
    if timeout == 0:
        assert out == []
        assert d.at.poll == Poll.COMPLETED
        return
    assert out == [
        TimerArmed(by="nic.napi.complete_defers", ns=timeout),
        PollReturned(by="nic.napi.complete_defers", work=1, weight=64),
    ]
    assert (d.at.masked, d.at.sched, d.at.defer_count) == (True, False, 1)
    d.do(NetRxStep(), NetRxStep(), WatchdogTimer())
    in_driver(d)
    d.do(DriverStep(), DriverStep(), NetRxStep(), NetRxStep(), WatchdogTimer())
    in_driver(d)
    assert kinds(d.do(DriverStep(), DriverStep(), DriverStep())) == ["UnmaskIrq", "PollReturned"]


def test_gro_flush_timer_is_armed_beside_an_unmasked_interrupt() -> None:
    d = in_driver(interrupted(napi(gro_flush_timeout=20_000)))
    assert d.do(DriverStep(work=1), DriverStep(gro=True))[0] == TimerArmed(by="nic.napi.complete_done", ns=20_000)
    d.do(DriverStep())
    assert (d.at.masked, d.at.timer) == (False, True)


def test_timer_leaves_no_missed_bit_on_a_scheduled_instance() -> None:
    d = in_driver(interrupted(napi(gro_flush_timeout=20_000)))
    d.do(DriverStep(work=1), DriverStep(gro=True), DriverStep(), NetRxStep(), NetRxStep(), Schedule(), WatchdogTimer())
    assert not d.at.missed


def test_going_down_waits_for_the_poll_and_cancels_the_timer() -> None:
    d = in_driver(interrupted(napi(), 100))
    assert d.do(Disable()) == [MaskIrq(by="nic.napi.disable_waits")]
    assert d.do(Disable()) == []
    d.do(DriverStep(work=64), NetRxStep())
    assert (d.at.sched, d.at.listed) == (False, Listed.NOWHERE)
    d.do(NetRxStep(), Disable())
    assert (d.at.npsvc, d.at.sched, d.at.disable, d.at.timer) == (True, True, False, False)
    assert d.do(Schedule()) == []
    assert d.do(Enable()) == [UnmaskIrq(by="nic.napi.enable", mask=1)]


def test_driver_that_goes_down_does_not_unmask() -> None:
    d = in_driver(interrupted(napi()))
    d.do(DriverStep(work=1), DriverStep(), Disable())
    assert kinds(d.do(DriverStep())) == ["PollReturned"]
    assert d.at.masked


def test_schedule_while_going_down_is_refused() -> None:
    d = in_driver(interrupted(napi()))
    d.do(Disable())
    assert d.do(Schedule()) == []
    assert not d.at.missed


def test_parameters_come_from_the_profile() -> None:
    p = profile("6.1", sysctls={"net.core.netdev_budget": 600}).params(NapiParams)
    assert (p.kernel, p.netdev_budget) == (601, 600)


def test_near_misses_name_the_guard() -> None:
    d = pick(NAPI)
    misses = d.near_misses(Napi(sched=True, listed=Listed.PENDING), Schedule(), NapiParams())
    assert ("nic.napi.schedule", "not scheduled") in misses
