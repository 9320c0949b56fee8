"""Register logs: each trace line's meaning, clear errors, and what the shipped logs of e1000e show."""

import gzip
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from conformance.live import nic_log
from conformance.live.nic_log import (
    AutoMasked,
    CauseSet,
    Interrupt,
    InterruptPostponed,
    MaskChanged,
    NicEvent,
    NicLogError,
    RegisterRead,
    RegisterWrite,
    RxBuffer,
    RxDelivered,
    RxDescriptor,
    RxRefused,
    ThrottleEnded,
    TimerArmed,
    TxDescriptor,
)
from conformance.live.sidecar import Sidecar
from conformance.live.sidecar import read as read_sidecar
from conformance.pcap import Reader

CAPTURES = Path(__file__).parent.parent / "captures"
LOGS = sorted(CAPTURES.glob("nic-*.log.gz"))
STAMP = "0@1795316180.154152:"
T = 1795316180154152
REFILL = 16

MEANINGS = [
    (
        "e1000e_core_write Write to register 0x3818, 4 byte(s), value: 0x2",
        RegisterWrite(time=T, line=1, register="TDT", value=2),
    ),
    (
        "e1000e_core_write Write to register 0x5414, 4 byte(s), value: 0x0",
        RegisterWrite(time=T, line=1, register="0x5414", value=0),
    ),
    (
        "e1000e_core_read Read from register 0xc0, 4 byte(s), value: 0x81000004",
        RegisterRead(time=T, line=1, register="ICR", value=0x81000004),
    ),
    (
        "e1000e_tx_descr 0x1e6e0802 : 8b000282 0",
        TxDescriptor(time=T, line=1, buffer=0x1E6E0802, lower=0x8B000282, upper=0),
    ),
    ("e1000e_tx_descr (nil) : 20000000 0", TxDescriptor(time=T, line=1, buffer=0, lower=0x20000000, upper=0)),
    (
        "e1000e_rx_descr Next RX descriptor: ring #0, PA: 0x1ad7a360, length: 16",
        RxDescriptor(time=T, line=1, queue=0, address=0x1AD7A360),
    ),
    (
        "e1000e_rx_desc_buff_write buffer #0, addr: 0x29df840, offset: 0, from: 0x7f01, length: 242",
        RxBuffer(time=T, line=1, address=0x29DF840, offset=0, length=242),
    ),
    (
        "e1000e_rx_written_to_guest Received packet written to guest (ICR causes 1048576)",
        RxDelivered(time=T, line=1, causes=1 << 20),
    ),
    (
        "e1000e_rx_not_written_to_guest Received packet NOT written to guest (ICR causes 64)",
        RxRefused(time=T, line=1, waits=False),
    ),
    ("e1000e_rx_can_recv_rings_full Cannot receive: all rings are full", RxRefused(time=T, line=1, waits=True)),
    (
        "e1000e_irq_set_cause_exit Set IRQ cause 0x400002, ICR: 0x81400006",
        CauseSet(time=T, line=1, bits=0x400002, icr=0x81400006),
    ),
    (
        "e1000e_irq_set_ims Setting IMS bits 0x400000: 0x1170244 --> 0x1570244",
        MaskChanged(time=T, line=1, old=0x1170244, new=0x1570244),
    ),
    (
        "e1000e_irq_clear_ims Clearing IMS bits 0xffffffff: 0x1570244 --> 0x0",
        MaskChanged(time=T, line=1, old=0x1570244, new=0),
    ),
    ("e1000e_irq_msix_notify_vec MSI-X notify vector 0x1", Interrupt(time=T, line=1, how="msix", vector=1)),
    (
        "e1000e_irq_msix_notify_postponed_vec Sending MSI-X postponed by EITR[1]",
        Interrupt(time=T, line=1, how="msix", vector=1, late=True),
    ),
    ("e1000e_irq_msi_notify MSI notify 0x80", Interrupt(time=T, line=1, how="msi", vector=0)),
    (
        "e1000e_irq_msi_notify_postponed Sending MSI postponed by ITR",
        ThrottleEnded(time=T, line=1, vector=0, pending=True),
    ),
    (
        "e1000e_irq_throttling_no_pending_vec No pending interrupts for vector 2",
        ThrottleEnded(time=T, line=1, vector=2, pending=False),
    ),
    (
        "e1000e_irq_postponed_by_xitr Interrupt postponed by [E]ITR register 0xec",
        InterruptPostponed(time=T, line=1, register="EITR1"),
    ),
    (
        "e1000e_irq_rearm_timer Mitigation timer armed for register 0xEC, delay 128000 ns",
        TimerArmed(time=T, line=1, register="EITR1", delay=128_000),
    ),
]


@pytest.mark.parametrize(
    ("line", "meaning"), MEANINGS, ids=[type(m).__name__ + str(i) for i, (_, m) in enumerate(MEANINGS)]
)
def test_each_trace_line_becomes_its_event(line: str, meaning: NicEvent) -> None:
    assert nic_log.parse([STAMP + line]).events == (meaning,)


def test_a_log_without_stamps_has_events_without_times() -> None:
    (event,) = nic_log.parse(["e1000e_irq_msi_notify MSI notify 0x80\n"]).events
    assert event.time is None


def test_lines_that_no_ring_needs_are_counted_by_name() -> None:
    log = nic_log.parse(
        [MEANINGS[0][0], "e1000e_irq_fix_icr_asserted ICR_ASSERTED bit fixed: 0x0", "e1000e_irq_fix_icr_asserted x"]
    )
    assert len(log.events) == 1
    assert log.others == {"e1000e_irq_fix_icr_asserted": 2}


def test_auto_masked_bits_are_those_of_the_cause_that_eiac_names() -> None:
    log = nic_log.parse(
        [
            "e1000e_irq_iam_clear_eiame Clearing IMS due to EIAME, IAM: 0xFEAFFFFF, cause: 0x400000",
            "e1000e_irq_icr_clear_eiac Clearing ICR bits due to EIAC, ICR: 0x81400006, EIAC: 0x500000",
        ]
    )
    assert log.events == (AutoMasked(time=None, line=2, bits=0x400000),)


def test_the_interrupt_line_interrupts_once_as_it_rises() -> None:
    log = nic_log.parse([f"e1000e_irq_legacy_notify IRQ line state: {level}" for level in (1, 1, 0, 0, 1)])
    assert [e.line for e in log.events] == [1, 5]


def test_descriptors_tell_their_kind() -> None:
    context = TxDescriptor(time=0, line=1, buffer=0, lower=0x2D00_05DC, upper=0)
    legacy = TxDescriptor(time=0, line=1, buffer=0, lower=0x8B00_0282, upper=0)
    data = TxDescriptor(time=0, line=1, buffer=0, lower=0x2610_1000, upper=0)
    assert (context.context, context.eop, context.length) == (True, False, 0)
    assert (legacy.context, legacy.eop, legacy.report_status, legacy.delayed, legacy.length) == (
        False,
        True,
        True,
        True,
        0x282,
    )
    assert (data.context, data.eop, data.segments, data.length) == (False, False, True, 0x1000)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["\x7fELF"], "line 1: '\\x7fELF': a trace line"),
        (
            [MEANINGS[0][0], "e1000e_tx_descr 0x0 : what"],
            "line 2: 'e1000e_tx_descr 0x0 : what': e1000e_tx_descr followed by",
        ),
        (["e1000e_irq_icr_clear_eiac nothing"], "line 1"),
        ([], "no line of an e1000e register trace"),
        (["e1000e_link_status Link up: 1"], "no line of an e1000e register trace"),
    ],
)
def test_what_is_no_register_log_is_refused_with_its_line(lines: list[str], says: str) -> None:
    with pytest.raises(NicLogError) as e:
        nic_log.parse(lines, "some.log")
    assert str(e.value).startswith("some.log: ")
    assert says in str(e.value)


def test_a_damaged_or_binary_file_is_refused(tmp_path: Path) -> None:
    cut = tmp_path / "cut.log.gz"
    cut.write_bytes(gzip.compress(MEANINGS[0][0].encode() * 100)[:-12])
    with pytest.raises(NicLogError, match="gzip data is damaged"):
        nic_log.read(cut)
    binary = tmp_path / "binary.log"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(NicLogError, match="byte 0 is not ASCII"):
        nic_log.read(binary)


def test_a_log_without_rings_says_so() -> None:
    with pytest.raises(NicLogError, match="shows no rings"):
        nic_log.bring_up(nic_log.parse([MEANINGS[0][0]]))


def test_a_descriptor_outside_the_ring_is_refused() -> None:
    geometry = nic_log.Geometry(tx_base=0, tx_count=64, rx_base=0x1000, rx_count=64)
    assert geometry.rx_index(RxDescriptor(time=0, line=1, queue=0, address=0x1010)) == 1
    for outside in (0x0FF0, 0x1400, 0x1008):
        with pytest.raises(ValueError, match="line 7: no receive descriptor"):
            geometry.rx_index(RxDescriptor(time=0, line=7, queue=0, address=outside))


# ---- the shipped logs ---------------------------------------------------------------------------------------------


def writes(events: tuple[NicEvent, ...], register: str) -> Iterator[RegisterWrite]:
    return (e for e in events if isinstance(e, RegisterWrite) and e.register == register)


@pytest.fixture(scope="module", params=LOGS, ids=[p.name.removesuffix(".log.gz") for p in LOGS])
def shipped(request: pytest.FixtureRequest) -> tuple[nic_log.Geometry, tuple[NicEvent, ...], Sidecar, Path]:
    path: Path = request.param
    geometry, events = nic_log.bring_up(nic_log.read(path))
    return geometry, events, read_sidecar(path.with_name(path.name.replace(".log.gz", ".toml"))), path


Shipped = tuple[nic_log.Geometry, tuple[NicEvent, ...], Sidecar, Path]


def test_six_loads_and_two_kernels_are_shipped() -> None:
    sidecars = [read_sidecar(p.with_name(p.name.replace(".log.gz", ".toml"))) for p in LOGS]
    assert len({s.extra["nic"]["load"] for s in sidecars}) >= 6
    assert {s.kernel.profile for s in sidecars} >= {"6.1", "6.12"}


def test_each_log_has_its_capture_and_stays_small(shipped: Shipped) -> None:
    *_, path = shipped
    assert path.with_name(path.name.replace(".log.gz", ".pcapng")).is_file()
    assert path.stat().st_size < 100_000


def test_the_sidecar_tells_the_rings_of_the_log(shipped: Shipped) -> None:
    geometry, events, sidecar, path = shipped
    assert sidecar.layer == "nic"
    assert sidecar.extra["nic"]["log"] == path.name
    assert (geometry.tx_count, geometry.rx_count) == (sidecar.extra["nic"]["tx_ring"], sidecar.extra["nic"]["rx_ring"])
    assert len(events) == sidecar.extra["nic"]["events"]


def test_times_do_not_go_back(shipped: Shipped) -> None:
    _, events, _, _ = shipped
    times = [e.time for e in events if e.time is not None]
    assert len(times) == len(events)
    assert all(a <= b for a, b in pairwise(times))


def test_the_receive_tail_moves_in_whole_refill_batches(shipped: Shipped) -> None:
    geometry, events, _, _ = shipped
    tails = [w.value for w in writes(events, "RDT")]
    assert all(t % REFILL == 0 for t in tails)
    moved = [t for t in tails if t][0:1] + tails[tails.index(next(t for t in tails if t)) + 1 :]
    assert all((b - a) % geometry.rx_count == REFILL for a, b in pairwise(moved))


def test_the_card_fetches_exactly_what_the_transmit_tail_covers(shipped: Shipped) -> None:
    geometry, events, _, _ = shipped
    tail = head = 0
    for e in events:
        if isinstance(e, RegisterWrite) and e.register == "TDT":
            assert head == tail
            tail = e.value
        elif isinstance(e, TxDescriptor):
            assert head != tail
            head = (head + 1) % geometry.tx_count
    assert head == tail


def test_the_card_takes_receive_descriptors_in_ring_order(shipped: Shipped) -> None:
    geometry, events, _, _ = shipped
    taken = [geometry.rx_index(e) for e in events if isinstance(e, RxDescriptor)]
    assert taken == [i % geometry.rx_count for i in range(len(taken))]


def test_the_driver_and_the_log_count_the_same_frames(shipped: Shipped) -> None:
    _, events, sidecar, _ = shipped
    told = sidecar.extra["nic_statistics"]
    assert sum(isinstance(e, TxDescriptor) and e.eop for e in events) == told.get("tx_packets", 0)
    assert sum(isinstance(e, RxDelivered) for e in events) == told.get("rx_packets", 0)


def test_with_msix_only_the_other_vector_reads_icr(shipped: Shipped) -> None:
    _, events, sidecar, _ = shipped
    reads = sum(isinstance(e, RegisterRead) and e.register == "ICR" for e in events)
    other = sum(isinstance(e, Interrupt) and e.vector == 2 for e in events)
    interrupts = sum(isinstance(e, Interrupt) for e in events)
    if sidecar.extra["nic"]["interrupts"] == "msix":
        assert reads == other
    else:
        assert reads >= interrupts > 0


def test_the_small_ring_fills_and_the_queue_wakes() -> None:
    for path in sorted(CAPTURES.glob("nic-burst-out*.toml")):
        assert read_sidecar(path).extra["nic_statistics"]["tx_restart_queue"] > 0


def test_the_wire_shows_the_frames_of_the_log_at_the_times_of_the_log(shipped: Shipped) -> None:
    _, events, sidecar, path = shipped
    mac = bytes.fromhex(sidecar.host("a").mac.replace(":", ""))
    with Reader(path.with_name(path.name.replace(".log.gz", ".pcapng"))) as frames:
        wire = [(f.time, f.data[6:12] == mac) for f in frames]
    sent = [e.time for e in events if isinstance(e, TxDescriptor) and e.eop]
    received = [e.time for e in events if isinstance(e, RxDelivered)]
    assert sum(not ours for _, ours in wire) == len(received)
    if not sidecar.offloads["tso"]:
        assert sum(ours for _, ours in wire) == len(sent)
    first = min(t for t in (*sent[:1], *received[:1]) if t is not None)
    assert abs(wire[0][0] // 1000 - first) < 10_000
