"""igb and e1000e as functions that a packet walks through: what happens in the rings the rules of tx and rx decide.

An `Adapter` is a card with one pair of rings. Its driver's side are the kernel's functions; its device's side are
`device_transmit` and `device_receive`, which move packets between the rings and the medium.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from refmodel.dropreason import Reason
from refmodel.netdevice import ETH_HLEN, NetDevice
from refmodel.nic.drivers import Driver
from refmodel.nic.env import NicEnv
from refmodel.nic.ring import dist
from refmodel.nic.rx import (
    AllocFailed,
    Configure,
    DeviceReceived,
    FrameDropped,
    FrameMissed,
    FrameUp,
    PollRx,
    Rx,
    RxDone,
    RxRing,
    RxStep,
    RxTail,
)
from refmodel.nic.tx import (
    Clean,
    CleanDone,
    CleanStep,
    Completed,
    DeviceFetched,
    DeviceWroteBack,
    Doorbell,
    Drained,
    Mapped,
    PollTx,
    QueueStarted,
    QueueStopped,
    Send,
    SendStep,
    TxBusy,
    TxRing,
    Walk,
    Xmit,
    room,
    size,
    walk,
)
from refmodel.rule import Event, Params, State, cited
from refmodel.skbuff import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, SKB_GSO_TCPV4, SKB_GSO_TCPV6, SkBuff

NETDEV_TX_OK: Final = 0x00
NETDEV_TX_BUSY: Final = 0x10
QUEUE_STATE_STACK_XOFF: Final = 1 << 1
MIN_FRAME: Final = 17  # what the card pads by itself, with TCTL.PSP, it takes from this length on
BUFFER: Final = 2048  # bytes of a receive buffer
UDP_HLEN: Final = 8

Apply = Callable[[State, Event, Params], tuple[Any, Any, tuple[Any, ...]]]


class Adapter:
    """A card of `driver`, its device `dev`, its transmit queue `txq` and its NAPI instance `napi`.

    `apply` runs the one rule that is enabled: (state, event, parameters) to (rule, new state, effects). `wire` takes
    the frames that the card sends, `irq` raises its interrupt. `sent` are the packets in the transmit ring with their
    descriptors and bytes, `buffers` the frames' parts in the receive ring, each with whether it is the last.
    """

    def __init__(
        self,
        env: NicEnv,
        dev: NetDevice,
        driver: Driver,
        apply: Apply,
        wire: Callable[[SkBuff], None],
        irq: Callable[["Adapter"], None],
    ) -> None:
        self.env = env
        self.dev = dev
        self.driver = driver
        self.apply = apply
        self.wire = wire
        self.irq = irq
        self.txq: Any = None
        self.napi: Any = None
        self.tx = TxRing()
        self.rx = RxRing()
        self.sent: deque[tuple[SkBuff, int, int]] = deque()
        self.buffers: deque[tuple[bytes, bool]] = deque()
        self.part = b""
        self.masked = False
        self.missed = 0
        self.registers: list[tuple[str, int]] = []

    def tx_event(self, e: Event) -> tuple[Any, ...]:
        """One step of the transmit ring; byte queue limits' bit is as the queue has it."""
        off = bool(self.txq.state & QUEUE_STATE_STACK_XOFF)
        _, self.tx, effects = self.apply(replace(self.tx, stack_xoff=off), e, self.driver.tx)
        for x in effects:
            if isinstance(x, QueueStopped):
                self.env.netif_tx_stop_queue(self.txq)
            elif isinstance(x, QueueStarted):
                wake = self.env.netif_tx_wake_queue if x.schedule else self.env.netif_tx_start_queue
                wake(self.txq)
            elif isinstance(x, Doorbell):
                self.registers.append(("TDT", x.tail))
        return effects

    def rx_event(self, e: Event) -> tuple[Any, ...]:
        """One step of the receive ring."""
        _, self.rx, effects = self.apply(self.rx, e, self.driver.rx)
        for x in effects:
            if isinstance(x, RxTail):
                self.registers.append(("RDT", x.tail))
        return effects


def some(n: int, what: str) -> str:
    """A number of things in words: 1 packet, 2 packets."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def bytecount(skb: SkBuff, driver: Driver) -> int:
    """Bytes that byte queue limits count: igb adds the headers of a super-packet's other segments."""
    length = len(skb.mac_header) + skb.len
    if driver.name == "e1000e" or not skb.is_gso or skb.transport is None:
        return length
    tcp = skb.gso_type & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6)
    hdr_len = len(skb.mac_header) + skb.transport + ((skb.data[skb.transport + 12] >> 4) * 4 if tcp else UDP_HLEN)
    return length + (skb.gso_segs - 1) * hdr_len


# ---------------------------------------------------------------- sending


def _xmit(a: Adapter, skb: SkBuff, more: bool, fn: str, map_fn: Callable[..., None]) -> int:
    data = a.driver.descriptors(len(skb.mac_header) + skb.len)
    context = skb.is_gso or skb.ip_summed == CHECKSUM_PARTIAL
    wanted = size(data, context, a.driver.tx)
    left = room(a.tx, a.driver.tx)
    if left < wanted:
        a.env.note(fn, f"{wanted} descriptors wanted, {left} free: the queue stops, then one more look")
        a.tx_event(Send(data=data, context=context, more=more, batched=True))
        a.tx_event(SendStep())
        if room(a.tx, a.driver.tx) < wanted:
            effects = a.tx_event(SendStep())
            if any(isinstance(x, TxBusy) for x in effects):
                a.env.note(fn, "still no room: NETDEV_TX_BUSY")
                return NETDEV_TX_BUSY
        map_fn(a, skb, SendStep())
    else:
        a.env.note(fn, f"{wanted} descriptors wanted with the gap, {left} free")
        map_fn(a, skb, Send(data=data, context=context, more=more, batched=True))
    return NETDEV_TX_OK


def _map(a: Adapter, skb: SkBuff, e: Event, fn: str) -> None:
    count = bytecount(skb, a.driver)
    for x in a.tx_event(e):
        if isinstance(x, Mapped):
            a.sent.append((skb, x.n, count))
            slots = a.driver.tx.count
            taken = dist(a.tx.next_to_clean, a.tx.next_to_use, slots)
            a.env.note(fn, f"{some(x.n, 'descriptor')} from slot {x.first}: {taken} of {slots} in use")
    a.env.netdev_tx_sent_queue(a.txq, count)
    rang = False
    while a.tx.xmit != Xmit.IDLE:
        rang = rang or any(isinstance(x, Doorbell) for x in a.tx_event(SendStep()))
    a.env.note(fn, f"doorbell: tail {a.tx.tail}" if rang else "more packets follow: no doorbell yet")


@cited("drivers/net/ethernet/intel/igb/igb_main.c:igb_tx_map")
def igb_tx_map(a: Adapter, skb: SkBuff, e: Event) -> None:
    """The packet is mapped for the card, byte queue limits book it, and the tail register is written."""
    _map(a, skb, e, "igb_tx_map")


@cited("drivers/net/ethernet/intel/igb/igb_main.c:igb_xmit_frame_ring")
def igb_xmit_frame_ring(a: Adapter, skb: SkBuff, more: bool) -> int:
    """A packet with room in the ring is mapped, one without is the stack's again."""
    return _xmit(a, skb, more, "igb_xmit_frame_ring", igb_tx_map)


@cited("drivers/net/ethernet/intel/igb/igb_main.c:igb_xmit_frame")
def igb_xmit_frame(a: Adapter, skb: SkBuff, more: bool = False) -> int:
    """The card pads frames, but not shorter ones than 17 bytes."""
    short = MIN_FRAME - len(skb.mac_header) - skb.len
    if short > 0:
        skb.data.extend(bytes(short))
    return igb_xmit_frame_ring(a, skb, more)


@cited("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_tx_map")
def e1000_tx_map(a: Adapter, skb: SkBuff, e: Event) -> None:
    """The packet is mapped for the card, byte queue limits book it, and the tail register is written."""
    _map(a, skb, e, "e1000_tx_map")


@cited("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_xmit_frame")
def e1000_xmit_frame(a: Adapter, skb: SkBuff, more: bool = False) -> int:
    """A packet of at least 17 bytes with room in the ring is mapped, one without is the stack's again."""
    short = MIN_FRAME - len(skb.mac_header) - skb.len
    if short > 0:
        skb.data.extend(bytes(short))
    return _xmit(a, skb, more, "e1000_xmit_frame", e1000_tx_map)


# ---------------------------------------------------------------- the card


def device_transmit(a: Adapter) -> int:
    """The card reads what the doorbell handed over, sends it, writes the descriptors back and interrupts: packets."""
    p = a.driver.tx
    waiting = dist(a.tx.head, a.tx.tail, p.count)
    if waiting:
        a.tx_event(DeviceFetched(n=waiting))
    done = 0
    for skb, n, _ in list(a.sent)[a.tx.dd :]:
        if dist(a.tx.done, a.tx.head, p.count) < n:
            break
        a.tx_event(DeviceWroteBack(n=n))
        a.wire(skb)
        done += 1
    if done:
        a.env.note("device_transmit", f"{some(done, 'packet')} sent and written back: interrupt")
        a.irq(a)
    return done


def device_receive(a: Adapter, frame: bytes) -> bool:
    """The card writes a frame into the buffers that it has, and interrupts; without a buffer the frame is missed."""
    parts = [frame[i : i + BUFFER] for i in range(0, len(frame), BUFFER)]
    for i, part in enumerate(parts):
        eop = i == len(parts) - 1
        if any(isinstance(x, FrameMissed) for x in a.rx_event(DeviceReceived(eop=eop))):
            a.missed += 1
            a.env.note("device_receive", "no buffer: the frame is missed")
            return False
        a.buffers.append((part, eop))
    a.irq(a)
    return True


# ---------------------------------------------------------------- interrupt and poll


@cited("drivers/net/ethernet/intel/igb/igb_main.c:igb_msix_ring")
def igb_msix_ring(a: Adapter) -> None:
    """The message has masked its vector; NAPI is scheduled."""
    a.masked = True
    a.env.napi_schedule(a.napi)


@cited("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_intr_msix_rx")
def e1000_intr_msix_rx(a: Adapter) -> None:
    """The message has masked its vector; NAPI is scheduled."""
    a.masked = True
    a.env.napi_schedule(a.napi)


@cited("drivers/net/ethernet/intel/igb/igb_main.c:igb_ring_irq_enable")
def igb_ring_irq_enable(a: Adapter) -> None:
    """The vector is unmasked."""
    a.masked = False
    a.registers.append(("IMS", a.driver.napi.ims))


def _clean_tx(a: Adapter, fn: str, free: Callable[[SkBuff], None]) -> bool:
    packets = count = 0
    complete = False
    booked = False
    a.tx_event(PollTx())
    while a.tx.clean != Clean.IDLE:
        n = a.sent[0][1] if a.sent else 1
        if not booked and a.tx.clean == Clean.WALK and walk(a.tx, CleanStep(n=n), a.driver.tx) != Walk.FREE:
            a.env.netdev_tx_completed_queue(a.txq, packets, count)
            booked = True
        for x in a.tx_event(CleanStep(n=n)):
            if isinstance(x, Completed):
                skb, _, length = a.sent.popleft()
                free(skb)
                packets += 1
                count += length
            elif isinstance(x, CleanDone):
                complete = x.complete
    a.tx_event(Drained())
    a.env.note(fn, f"{some(packets, 'packet')} of {count} bytes sent" + ("" if complete else "; more to do"))
    return complete


@cited("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq")
def igb_clean_tx_irq(a: Adapter, budget: int) -> bool:
    """What the card has sent is freed, byte queue limits book it, and a stopped queue with room is woken."""
    return _clean_tx(a, "igb_clean_tx_irq", a.env.consume_skb)


@cited("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_clean_tx_irq")
def e1000_clean_tx_irq(a: Adapter) -> bool:
    """What the card has sent is freed, byte queue limits book it, and a stopped queue with room is woken."""
    return _clean_tx(a, "e1000_clean_tx_irq", a.env.dev_consume_skb_any)


def _alloc(a: Adapter, fn: str) -> int:
    work = -1
    before = a.rx.next_to_use
    tails: list[int] = []
    while a.rx.rx in (Rx.REFILL, Rx.REFILL_END):
        for x in a.rx_event(RxStep()):
            if isinstance(x, RxDone):
                work = x.work
            elif isinstance(x, RxTail):
                tails.append(x.tail)
    filled = dist(before, a.rx.next_to_use, a.driver.rx.count)
    a.env.note(fn, f"{filled} slots get buffers, tail {', '.join(map(str, tails)) if tails else 'not written'}")
    return work


@cited("drivers/net/ethernet/intel/igb/igb_main.c:igb_alloc_rx_buffers")
def igb_alloc_rx_buffers(a: Adapter) -> int:
    """Slots that were read get buffers, and the tail register is written; the poll's work if it ends so, else -1."""
    return _alloc(a, "igb_alloc_rx_buffers")


@cited("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_alloc_rx_buffers")
def e1000_alloc_rx_buffers(a: Adapter) -> int:
    """Slots get buffers, the tail register is written at each sixteenth; the poll's work if it ends so, else -1."""
    return _alloc(a, "e1000_alloc_rx_buffers")


def _frame_up(a: Adapter, fn: str) -> None:
    frame, a.part = a.part, b""
    skb = SkBuff(frame[ETH_HLEN:], dev=a.dev, mac_header=frame[:ETH_HLEN], by=fn)
    if "rx-checksum" in a.dev.features:
        skb.ip_summed = CHECKSUM_UNNECESSARY
    skb.protocol = a.env.eth_type_trans(skb, a.dev)
    skb.skb_iif = a.dev.ifindex
    a.env.napi_gro_receive(a.napi, skb)


def _clean_rx(a: Adapter, budget: int, fn: str, alloc: Callable[[Adapter], int]) -> int:
    work = -1
    a.rx_event(PollRx(budget=budget))
    while a.rx.rx != Rx.IDLE:
        if a.rx.rx in (Rx.REFILL, Rx.REFILL_END):
            work = max(alloc(a), work)
            continue
        eop = a.buffers[0][1] if a.buffers else True
        before = a.rx.next_to_clean
        effects = a.rx_event(RxStep(eop=eop))
        if a.rx.next_to_clean != before:
            a.part += a.buffers.popleft()[0]
        for x in effects:
            if isinstance(x, FrameUp):
                _frame_up(a, fn)
            elif isinstance(x, FrameDropped):
                a.env.note(fn, f"{len(a.part)} bytes do not fit a buffer: dropped")
                a.part = b""
            elif isinstance(x, RxDone):
                work = x.work
            elif isinstance(x, AllocFailed):
                a.env.note(fn, "no memory")
    a.env.note(fn, f"{work} of at most {budget} frames")
    return max(work, 0)


@cited("drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_rx_irq")
def igb_clean_rx_irq(a: Adapter, budget: int) -> int:
    """Frames that the card has written go up, and their slots get buffers: how many."""
    return _clean_rx(a, budget, "igb_clean_rx_irq", igb_alloc_rx_buffers)


@cited("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_clean_rx_irq")
def e1000_clean_rx_irq(a: Adapter, budget: int) -> int:
    """Frames that the card has written go up, and their slots get buffers: how many."""
    return _clean_rx(a, budget, "e1000_clean_rx_irq", e1000_alloc_rx_buffers)


@cited("drivers/net/ethernet/intel/igb/igb_main.c:igb_poll")
def igb_poll(a: Adapter, budget: int) -> int:
    """Both rings are cleaned; with nothing left the poll completes and the vector is unmasked."""
    clean_complete = igb_clean_tx_irq(a, budget)
    work_done = igb_clean_rx_irq(a, budget)
    if not clean_complete or work_done >= budget:
        a.env.note("igb_poll", f"not all is done: {budget} is returned, NAPI polls again")
        return budget
    if a.env.napi_complete_done(a.napi, work_done):
        igb_ring_irq_enable(a)
    return work_done


@cited("drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_poll")
def e1000e_poll(a: Adapter, budget: int) -> int:
    """The receive ring, and with one vector the transmit ring, is cleaned; then the vector is unmasked."""
    tx_cleaned = e1000_clean_tx_irq(a) if not a.driver.vectors else True
    work_done = e1000_clean_rx_irq(a, budget)
    if not tx_cleaned or work_done == budget:
        return budget
    if a.env.napi_complete_done(a.napi, work_done):
        a.masked = False
        a.registers.append(("IMS", a.driver.napi.ims))
    return work_done


@cited("drivers/net/ethernet/intel/e1000e/netdev.c:e1000_intr_msix_tx")
def e1000_intr_msix_tx(a: Adapter) -> None:
    """The transmit vector cleans its ring in the hard interrupt."""
    if e1000_clean_tx_irq(a):
        a.env.note("e1000_intr_msix_tx", "the ring is clean")


@cited(
    "drivers/net/ethernet/intel/igb/igb_main.c:igb_configure",
    "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_configure",
)
def igb_configure(a: Adapter) -> None:
    """A card that comes up gets buffers in all slots of its receive ring but one."""
    a.rx_event(Configure())
    if a.driver.name == "e1000e":
        e1000_alloc_rx_buffers(a)
    else:
        igb_alloc_rx_buffers(a)


def drop_ring(a: Adapter) -> None:
    """A card that goes down gives its packets back; source igb_clean_tx_ring."""
    while a.sent:
        a.env.kfree_skb(a.sent.popleft()[0], Reason.NOT_SPECIFIED)
