"""The real e1000e driver's register logs, replayed: each register write is the effect that a rule gives next.

What a log does not show (a clean pass, a poll's steps) is run when a register write needs it. The model may be behind
the driver, never ahead of it.
"""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from msgspec.structs import replace

from conformance.live import nic_log
from conformance.live.nic_log import (
    Geometry,
    Interrupt,
    NicEvent,
    RegisterRead,
    RegisterWrite,
    RxDelivered,
    RxDescriptor,
    RxRefused,
    TxDescriptor,
)
from conformance.live.sidecar import read as read_sidecar
from refmodel.nic import napi, rx, tx, vector
from refmodel.nic.drivers import E1000E
from refmodel.nic.ring import dist
from refmodel.rule import AssumptionBroken
from tests.nic.drive import Drive

CAPTURES = Path(__file__).parents[2] / "captures"
LOGS = sorted(CAPTURES.glob("nic-*.log.gz"))
ENABLE = 0x9D  # IMS_ENABLE_MASK: MSI and INTx


class Sender:
    """The transmit ring beside the log."""

    def __init__(self, count: int) -> None:
        self.d = Drive(tx.NIC_TX, tx.TxRing(), replace(E1000E.tx, count=count))
        self.lengths: list[int] = []  # of the packets in the ring, oldest first

    def clean(self) -> None:
        """One pass over what is written back."""
        self.d.do(tx.PollTx())
        while self.d.at.clean != tx.Clean.IDLE:
            n = self.lengths[0] if self.lengths else 1
            freed = [x for x in self.d.do(tx.CleanStep(n=n)) if isinstance(x, tx.Completed)]
            del self.lengths[: len(freed)]

    def call(self, e: tx.Send) -> list[object]:
        out = self.d.do(e)
        while self.d.at.xmit != tx.Xmit.IDLE:
            out += self.d.do(tx.SendStep())
        return out

    def doorbell(self, tail: int, packets: list[list[TxDescriptor]]) -> None:
        """The driver wrote `tail`; the card will fetch `packets`."""
        rung: list[int] = []
        for i, packet in enumerate(packets):
            context = packet[0].context
            data = len(packet) - context
            e = tx.Send(data=data, context=context, more=i + 1 < len(packets), batched=i > 0)
            if self.d.at.stopped or tx.room(self.d.at, self.d.params) < tx.size(data, context, self.d.params):
                self.clean()
            out = self.call(e)
            assert tx.TxOk(by="nic.tx.step_doorbell", queued=True) in out
            self.lengths.append(len(packet))
            rung += [x.tail for x in out if isinstance(x, tx.Doorbell)]
        assert rung == [tail]

    def fetched(self, x: TxDescriptor) -> None:
        """The card read a descriptor; with RS it writes the packet back at once."""
        self.d.do(tx.DeviceFetched(n=1))
        if x.eop and x.report_status:
            self.d.do(tx.DeviceWroteBack(n=dist(self.d.at.done, self.d.at.head, self.d.params.count)))


class Receiver:
    """The receive ring beside the log."""

    def __init__(self, count: int) -> None:
        self.d = Drive(rx.NIC_RX, rx.RxRing(), replace(E1000E.rx, count=count))
        self.d.do(rx.Configure())
        self.tails: list[int] = []

    def step(self) -> bool:
        """One step of the driver; False where it has nothing to do."""
        if self.d.at.rx == rx.Rx.IDLE and self.d.at.frames == 0:
            return False
        event = rx.PollRx() if self.d.at.rx == rx.Rx.IDLE else rx.RxStep()
        self.tails += [x.tail for x in self.d.do(event) if isinstance(x, rx.RxTail)]
        return True

    def tail(self, value: int) -> None:
        """The driver wrote `value`: the next tail that the rules write."""
        while not self.tails:
            assert self.step(), f"RDT = {value}, and no rule would write it"
        assert self.tails.pop(0) == value


def packets_from(events: list[NicEvent], start: int, slots: int) -> list[list[TxDescriptor]]:
    """The packets whose `slots` descriptors the card fetches from event `start` on, before the next doorbell."""
    quiet = takewhile(lambda e: not (isinstance(e, RegisterWrite) and e.register == "TDT"), events[start + 1 :])
    fetched = [e for e in quiet if isinstance(e, TxDescriptor)]
    assert len(fetched) == slots, "QEMU's card fetches at the doorbell what the tail covers"
    out: list[list[TxDescriptor]] = [[]]
    for x in fetched:
        out[-1].append(x)
        if x.eop:
            out.append([])
    assert out.pop() == []
    return out


Log = tuple[Geometry, list[NicEvent], dict[str, object], dict[str, int]]


@pytest.fixture(scope="module", params=LOGS, ids=[p.name.removesuffix(".log.gz") for p in LOGS])
def log(request: pytest.FixtureRequest) -> Log:
    path: Path = request.param
    geometry, events = nic_log.bring_up(nic_log.read(path))
    extra = read_sidecar(path.with_name(path.name.replace(".log.gz", ".toml"))).extra
    return geometry, list(events), extra["nic"], extra["nic_statistics"]


def replay_transmit(geometry: Geometry, events: list[NicEvent]) -> Sender:
    s = Sender(geometry.tx_count)
    for i, e in enumerate(events):
        if isinstance(e, RegisterWrite) and e.register == "TDT":
            slots = (e.value - s.d.at.tail) % geometry.tx_count
            s.doorbell(e.value, packets_from(events, i, slots))
        elif isinstance(e, TxDescriptor):
            s.fetched(e)
        elif isinstance(e, RegisterWrite) and e.register == "IMS" and e.value in (vector.E1000_IMS_TXQ0, ENABLE):
            s.clean()
    return s


def replay_receive(geometry: Geometry, events: list[NicEvent]) -> Receiver:
    r = Receiver(geometry.rx_count)
    configured = list(takewhile(lambda e: not (isinstance(e, RegisterWrite) and e.register == "RCTL"), events))
    for e in events[len(configured) :]:
        if isinstance(e, RegisterWrite) and e.register == "RDT":
            r.tail(e.value)
        elif isinstance(e, RxDescriptor):
            assert geometry.rx_index(e) == r.d.at.head
            assert r.d.at.head != r.d.at.tail
        elif isinstance(e, RxDelivered):
            r.d.do(rx.DeviceReceived())
        elif isinstance(e, RxRefused):
            assert r.d.do(rx.DeviceReceived()) == [rx.FrameMissed(by="nic.rx.device_missed")]
    while r.step():
        pass
    assert r.tails == []
    return r


def test_transmit_ring_writes_the_driver_s_tails(log: Log) -> None:
    geometry, events, _, told = log
    s = replay_transmit(geometry, events)
    assert s.d.at.tail == s.d.at.head
    assert told.get("tx_packets", 0) == sum(isinstance(x, tx.Mapped) for x in s.d.effects)
    assert told.get("tx_restart_queue", 0) == sum(isinstance(x, tx.QueueStarted) for x in s.d.effects)


def test_receive_ring_writes_the_driver_s_tails(log: Log) -> None:
    geometry, events, _, told = log
    r = replay_receive(geometry, events)
    assert told.get("rx_packets", 0) == sum(isinstance(x, rx.FrameUp) for x in r.d.effects)


@pytest.mark.parametrize("register", ["TDT", "RDT"])
@pytest.mark.parametrize("change", ["left out", "one slot further", "twice"])
def test_a_changed_tail_is_refused(register: str, change: str) -> None:
    geometry, log = nic_log.bring_up(nic_log.read(CAPTURES / "nic-burst-in.log.gz"))
    if register == "TDT":
        geometry, log = nic_log.bring_up(nic_log.read(CAPTURES / "nic-burst-out.log.gz"))
    events = list(log)
    i = [i for i, e in enumerate(events) if isinstance(e, RegisterWrite) and e.register == register][9]
    e = events[i]
    assert isinstance(e, RegisterWrite)
    new = {"left out": [], "one slot further": [replace(e, value=e.value + 1)], "twice": [e, e]}[change]
    events[i : i + 1] = new
    with pytest.raises((AssertionError, AssumptionBroken)):
        (replay_transmit if register == "TDT" else replay_receive)(geometry, events)


def masks(events: list[NicEvent]) -> Iterator[int]:
    """What the driver wrote to IMS after it came up."""
    writes = [e.value for e in events if isinstance(e, RegisterWrite) and e.register == "IMS"]
    assert writes[0] == E1000E.napi.ims_up
    yield from writes[1:]


def test_with_msix_each_handler_unmasks_its_own_vector(log: Log) -> None:
    _, events, told, _ = log
    if told["interrupts"] != "msix":
        pytest.skip("one vector for all")
    polls = Drive(napi.NAPI, napi.Napi(), E1000E.napi)
    others = [Drive(vector.NIC_VECTOR, vector.Vector(), p) for p in E1000E.vectors]
    raised = [0, 0, 0]
    unmasked: list[int] = []
    read = 0
    for e in events:
        if isinstance(e, Interrupt):
            raised[e.vector] += 1
        elif isinstance(e, RegisterRead) and e.register == "ICR":
            read += 1
        elif isinstance(e, RegisterWrite) and e.register == "IMS" and e.value != E1000E.napi.ims_up:
            which = [E1000E.napi.ims, *(p.ims for p in E1000E.vectors)].index(e.value)
            assert raised[which] > 0, "a handler that no interrupt has started"
            raised[which] -= 1
            if which == 0:
                # QEMU sends a message that it had put off even where the vector is masked by then.
                polls.do(napi.Schedule(), napi.Softirq(), napi.NetRxStep())
                out = polls.do(napi.DriverStep(), napi.DriverStep(), napi.DriverStep(), napi.NetRxStep())
                polls.do(napi.NetRxStep())
                unmasked += [x.mask for x in out if isinstance(x, napi.UnmaskIrq)]
            else:
                v = others[which - 1]
                out = v.do(vector.Happened(), vector.VectorInterrupt(), vector.HandlerEnds())
                unmasked += [x.mask for x in out if isinstance(x, vector.VectorUnmask)]
    assert unmasked == list(masks(events))
    assert read == sum(isinstance(x, vector.VectorReadsIcr) for x in others[1].effects)
