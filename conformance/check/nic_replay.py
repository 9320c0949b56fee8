"""A register log from the set-up of the rings to the end, played over the machines, and what comes of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any, Final

from msgspec import Struct

from conformance.check.frontier import labels
from conformance.check.nic_half import E1000_IMS_ENABLE_MASK, WIDTH, Frontier, Receive, Rejected
from conformance.check.nic_itr import EITR, Moderate
from conformance.check.nic_send import Other, Transmit
from conformance.check.setup import Setup
from conformance.check.verdict import Divergence, FrameLabel, NearMiss, Outcome, Verdict
from conformance.live.nic_log import (
    AutoMasked,
    CauseSet,
    Geometry,
    Interrupt,
    MaskChanged,
    NicEvent,
    RegisterRead,
    RegisterWrite,
    RxBuffer,
    RxDelivered,
    RxDescriptor,
    RxRefused,
    TxDescriptor,
)
from refmodel.nic.vector import E1000_IMS_OTHER, E1000_IMS_RXQ0, E1000_IMS_TXQ0

LATE: Final = 250_000
"""How long (us) a handler or poll of an emulated processor may take."""

TCTL_EN: Final = 1 << 1
RXSEQ: Final = 1 << 3
"""The cause with which e1000e tests MSI. QEMU's card lacks it, so that the driver falls back to the line."""

ICR_INT_ASSERTED: Final = 1 << 31
JUDGED: Final = ("TDT", "RDT", "IMS", "IMC")
RATES: Final = (*EITR, "ITR")
DEFAULT_ITR: Final = 3
"""InterruptThrottleRate where a sidecar says nothing: the conservative dynamic mode."""
CAUSES: Final = ((E1000_IMS_RXQ0, 0), (E1000_IMS_TXQ0, 1), (E1000_IMS_OTHER, 2))


SET_UP: Final = "set-up"
OTHER: Final = {
    **dict.fromkeys(("RCTL", "TCTL", "CTRL", "CTRL_EXT", "RDH", "TDH", "IVAR", "EIAC", "IAM"), SET_UP),
    **dict.fromkeys(("TIDV", "RDTR", "TADV", "RADV", "RXDCTL", "TXDCTL", "0x5000", "0x5008"), SET_UP),
    "0x20": "MDIC, the way to the PHY",
    "0x14": "EERD, the way to the non-volatile memory",
    "0xf00": "EXTCNF_CTRL, who may use the PHY",
}
"""What is written besides rings and interrupts, and is not judged. 0x5000 is RXCSUM, 0x5008 is RFCTL."""
RANGES: Final = ((0x5200, 0x5400, "multicast table"), (0x5400, 0x5480, "addresses"), (0x5600, 0x5800, "VLAN filter"))


class Sight(Struct, frozen=True):
    """A frame of the wire: its number, whether the card sent it, its length in bytes."""

    number: int
    sent: bool
    length: int


class Part:
    """One machine or pair of machines, the subjects that it stands for, and how its replay went."""

    def __init__(self, frontier: Frontier, ring: str, vector: str) -> None:
        self.frontier = frontier
        self.ring, self.vector = ring, vector
        self.failed: tuple[str, Divergence] | None = None
        self.busy_since: NicEvent | None = None


def _is(e: NicEvent, *registers: str) -> bool:
    return isinstance(e, RegisterWrite) and e.register in registers


class Mask:
    """The card's mask register as writes and messages must have made it."""

    def __init__(self) -> None:
        self.value = 0
        self.wrote: RegisterWrite | None = None
        self.changed: MaskChanged | None = None

    def feed(self, e: NicEvent, auto: int) -> None:
        """Follows an event; raises Rejected where the card's mask is not what was written."""
        if self.wrote is not None and not isinstance(e, MaskChanged):
            raise Rejected(f"{self.wrote.register} of line {self.wrote.line} did not change the mask")
        if self.changed is not None and not (isinstance(e, RegisterRead) and e.register == "ICR"):
            raise Rejected(f"the mask changed in line {self.changed.line} without a write and without a read of ICR")
        self.changed = None
        if isinstance(e, RegisterWrite) and e.register in ("IMS", "IMC"):
            self.wrote = e
        elif isinstance(e, AutoMasked):
            self.value &= ~e.bits
        elif isinstance(e, MaskChanged):
            self._change(e)
        elif isinstance(e, Interrupt) and e.how == "msix" and not e.late and not self.value & auto:
            raise Rejected(f"vector {e.vector} interrupts, and its causes are masked: {self.value:#x}")

    def _change(self, e: MaskChanged) -> None:
        w, self.wrote = self.wrote, None
        if e.old != self.value:
            raise Rejected(f"the mask was {e.old:#x}", [f"{self.value:#x}, as written so far"])
        if w is None:
            self.changed = e
        else:
            new = e.old | w.value & ~RXSEQ if w.register == "IMS" else e.old & ~w.value
            if e.new != new:
                raise Rejected(f"{w.register} = {w.value:#x} made the mask {e.new:#x}", [f"{new:#x}"])
        self.value = e.new


class Replay:
    """A log's events from the set-up of the rings to the end, played over the machines."""

    def __init__(self, geometry: Geometry, events: Sequence[NicEvent], setup: Setup, lines: Sequence[str]) -> None:
        self.geometry, self.events, self.setup, self.lines = geometry, events, setup, lines
        host = setup.near or (setup.hosts[0].name if setup.hosts else "")
        self.host = host
        first = next((e for e in events if _is(e, "IMS")), None)
        self.shared = isinstance(first, RegisterWrite) and first.value == E1000_IMS_ENABLE_MASK
        self.rx = Receive(geometry.rx_count, setup.kernel, host, self.shared)
        self.tx = Transmit(geometry.tx_count, setup.kernel, host, self.shared)
        self.other = Other(setup.kernel, host)
        self.receive = Part(self.rx, "receive ring", "vector 0 (all)" if self.shared else "vector 0 (receive)")
        self.transmit = Part(self.tx, "transmit ring", "" if self.shared else "vector 1 (transmit)")
        self.last = Part(self.other, "", "" if self.shared else "vector 2 (other)")
        self.parts = (self.receive, self.transmit, self.last)
        throttle = setup.extra.get("nic", {}).get("throttle", DEFAULT_ITR)
        self.rate = Moderate(throttle, setup.kernel, host, self.shared)
        self.moderation = Part(self.rate, "", "interrupt moderation")
        self.mask = Mask()
        self.mask_failed: Divergence | None = None
        self.other_write: Divergence | None = None
        self.up = self.down = self.configured = False
        self.tested = _msi_test(events)
        self.closing: NicEvent | None = None
        self.slot: RxDescriptor | None = None
        self.given = 0
        self.tail = 0
        self.rest: Counter[str] = Counter()

    # -- the log, event by event

    def run(self) -> None:
        """Plays all events; what is rejected is kept as the divergence of its part."""
        for i, e in enumerate(self.events):
            self._mask(e)
            if not self.down:
                self._event(i, e)
        if self.mask.wrote is not None:
            self._mask_failed(self.events[-1], f"{self.mask.wrote.register} did not change the mask")
        if not self.down and self.closing is not None:
            self._not_masked(self.events[-1])
        for part in self._in_use():
            self._overdue(part, self.events[-1], 0 if not self.down else LATE)

    def _not_masked(self, e: NicEvent) -> None:
        for part in self._vectors():
            self._fail(part, e, Rejected("the driver went down (TCTL.EN off) and IMC is missing", ["IMC"]), part.vector)

    def _in_use(self) -> list[Part]:
        return [p for p in (*self.parts, self.moderation) if p.failed is None and (p.ring or p.vector)]

    def _vectors(self) -> list[Part]:
        return [p for p in self._in_use() if p is not self.moderation]

    def _mask(self, e: NicEvent) -> None:
        if self.mask_failed is not None:
            return
        auto = CAUSES[e.vector][0] if isinstance(e, Interrupt) and e.vector < len(CAUSES) else 0
        try:
            self.mask.feed(e, auto)
        except Rejected as why:
            self.mask_failed = self._divergence(e, why)

    def _mask_failed(self, e: NicEvent, what: str) -> None:
        if self.mask_failed is None:
            self.mask_failed = self._divergence(e, Rejected(what))

    def _event(self, i: int, e: NicEvent) -> None:
        if e.line <= self.tested and (isinstance(e, CauseSet | Interrupt) or _is_mask(e)):
            self.rest["MSI test"] += 1
        elif isinstance(e, RegisterWrite):
            self._written(i, e)
        elif isinstance(e, RegisterRead):
            if e.register == "ICR":
                self._icr(e)
            else:
                self.rest["reads: status and statistics"] += 1
        elif isinstance(e, TxDescriptor):
            self._do(self.transmit, e, lambda: self.tx.fetched(e), "transmit ring")
        elif isinstance(e, RxDescriptor | RxBuffer | RxDelivered | RxRefused):
            self._received(e)
        elif isinstance(e, CauseSet):
            self._caused(e)
        elif isinstance(e, Interrupt):
            self._interrupt(e)
        if isinstance(e, Interrupt) or _is(e, *JUDGED):
            for part in self._in_use():
                self._overdue(part, e, LATE)

    def _do(self, part: Part, e: NicEvent, act: Callable[[], Any], subject: str) -> None:
        if part.failed is None:
            try:
                act()
                if isinstance(e, RegisterWrite | RegisterRead):
                    part.busy_since = None
            except Rejected as why:
                self._fail(part, e, why, subject)

    def _fail(self, part: Part, e: NicEvent, why: Rejected, subject: str) -> None:
        part.failed = subject or part.ring, self._divergence(e, why)

    def _overdue(self, part: Part, e: NicEvent, late: int) -> None:
        """Rejects what has been under way for longer than `late` us."""
        f = part.frontier
        assert isinstance(f, Receive | Transmit | Other | Moderate)
        if not self.up or f.settled():
            part.busy_since = None
            return
        part.busy_since = since = part.busy_since or e
        if e.time is not None and since.time is not None and e.time - since.time > late:
            what = f"the interrupt of line {since.line} has had no end: {part.vector or part.ring} is still busy"
            if part is self.moderation:
                what = f"the watchdog, at work in line {since.line}, has not pushed all out"
            self._fail(
                part,
                e,
                Rejected(what, ["TIDV, RDTR" if part is self.moderation else "IMS"], state=f.state()),
                part.vector,
            )

    # -- what the driver does

    def _written(self, i: int, e: RegisterWrite) -> None:
        if e.register == "TDT":
            self._doorbell(i, e)
        elif e.register == "RDT":
            if self.configured:
                self._do(self.receive, e, lambda: self.rx.tail(e.line, e.value), "receive ring")
            else:
                self.rest["tails of empty rings"] += 1
        elif e.register == "IMS":
            self._unmasked(e)
        elif e.register == "IMC":
            self._masked(e)
        elif e.register == "ICS":
            self._caused_itself(e)
        elif e.register in RATES:
            self._do(self.moderation, e, lambda: self.rate.rate(e.line, e.register, e.value), "interrupt moderation")
        elif e.register in ("TIDV", "RDTR") and self.up:
            self._do(self.moderation, e, lambda: self.rate.flush(e.line, e.register, e.value), "interrupt moderation")
        else:
            self._of_set_up(e)
            if e.register == "RCTL":
                self.configured = True
            elif e.register == "TCTL" and self.up:
                self.closing = None if e.value & TCTL_EN else e
                if e.value & TCTL_EN:
                    self.rate.linked()
            elif e.register == "EIAC" and self.closing is not None and not e.value:
                self._not_masked(e)

    def _of_set_up(self, e: RegisterWrite) -> None:
        """A write that has nothing to do with rings and interrupts, by its kind."""
        kind = OTHER.get(e.register) or next((k for low, high, k in RANGES if low <= _offset(e.register) < high), "")
        self.rest[f"writes: {kind}" if kind else "writes"] += 1
        if not kind and self.other_write is None:
            why = Rejected(f"{e.register} = {e.value:#x}: a register that the driver does not write while it is up")
            self.other_write = self._divergence(e, why)

    def _caused_itself(self, e: RegisterWrite) -> None:
        """The driver fires an interrupt by itself: a handler that was not done, or the watchdog."""
        self.given |= e.value
        if self.up and self.rate.fires(e.value):
            self.rest["ICS of the link"] += 1
        elif self.up and e.value == self.rate.asks:
            self._do(self.moderation, e, lambda: self.rate.asked(e.line, e.value), "interrupt moderation")
        else:
            self.rest["ICS"] += 1

    def _doorbell(self, i: int, e: RegisterWrite) -> None:
        count = self.geometry.tx_count
        if e.value >= count:
            what = f"TDT = {e.value:#x}: the ring has {count} slots"
            self._do(self.transmit, e, lambda: _reject(what, [f"TDT < {count:#x}"]), "transmit ring")
            return
        slots, self.tail = (e.value - self.tail) % count, e.value
        packets = packets_from(self.events, i)
        fetched = sum(len(p) for p in packets)
        if fetched != slots:
            # QEMU's card fetches what the tail covers before the write returns.
            what = f"TDT = {e.value:#x} hands over {slots} descriptors, the card fetches {fetched}"
            near = [NearMiss("nic.tx.step_doorbell", f"next_to_use is not {e.value}")]
            allowed = [f"TDT = {(e.value - slots + fetched) % count:#x}"]
            self._do(self.transmit, e, lambda: _reject(what, allowed, near), "transmit ring")
        elif packets:
            self._do(self.transmit, e, lambda: self.tx.doorbell(e.line, e.value, packets), "transmit ring")
        else:
            what = f"TDT = {e.value:#x} again: no packet was queued"
            self._do(self.transmit, e, lambda: _reject(what), "transmit ring")

    def _unmasked(self, e: RegisterWrite) -> None:
        rx, tx, other = (p.vector for p in self.parts)
        n, v = e.line, e.value
        if not self.up:
            self.up = True
            self._do(self.receive, e, lambda: self.rx.enable(n, v), rx)
            self._do(self.moderation, e, lambda: self.rate.enable(n), "interrupt moderation")
            if not self.shared:
                self._do(self.transmit, e, lambda: self.tx.enable(n, v), tx)
                self._do(self.last, e, lambda: self.other.enable(n, v), other)
        elif v == self.rx.napi.params.ims:
            self._do(self.receive, e, lambda: self.rx.unmask(n, v), rx)
            self._do(self.moderation, e, lambda: self.rate.unmask(n), "interrupt moderation")
            if self.shared:
                self._do(self.transmit, e, lambda: self.tx.unmask(n, v), "transmit ring")
        elif v == self.tx.vector.params.ims and not self.shared:
            self._do(self.transmit, e, lambda: self.tx.unmask(n, v), tx)
        elif v == self.other.vector.params.ims and not self.shared:
            given, self.given = self.given, 0
            self._do(self.last, e, lambda: self.other.unmask(n, v, given), other)
        else:
            params = [self.rx.napi.params, self.tx.vector.params, self.other.vector.params][: 1 if self.shared else 3]
            allowed = [f"IMS = {p.ims:#x}" for p in params]
            self._do(self.receive, e, lambda: _reject(f"IMS = {v:#x}: no vector's causes", allowed), rx)

    def _masked(self, e: RegisterWrite) -> None:
        if not self.up:
            self.rest["IMC before the device is up"] += 1
            return
        self.down = True
        for part in self._vectors():
            f = part.frontier
            assert isinstance(f, Receive | Transmit | Other)
            if self.closing is None:
                self._fail(part, e, Rejected("IMC although the driver does not go down"), part.vector)
            elif part.vector:
                self._do(part, e, lambda f=f: f.disable(e.line), part.vector)  # type: ignore[misc]

    def _icr(self, e: RegisterRead) -> None:
        if not self.up:
            self.rest["ICR before the device is up"] += 1
        elif not self.shared:
            self.given = 0
            self._do(self.last, e, lambda: self.other.read_icr(e.line, e.value), self.last.vector)
        elif not e.value & ICR_INT_ASSERTED:
            self.rest["ICR read for another device's interrupt"] += 1
        else:
            self._do(self.receive, e, lambda: self.rx.read_icr(e.line, e.value), self.receive.vector)
            self._do(self.transmit, e, lambda: self.tx.raised(False), "transmit ring")

    # -- what the card does

    def _received(self, e: RxDescriptor | RxBuffer | RxDelivered | RxRefused) -> None:
        ring = "receive ring"
        if isinstance(e, RxDescriptor):
            if self.slot is not None:
                self._do(self.receive, e, lambda: _reject("a second descriptor for one frame", ["write-back"]), ring)
            self.slot = e
            self._do(self.receive, e, lambda: self.rx.taken(self._index(e)), ring)
        elif isinstance(e, RxDelivered):
            if self.slot is None:
                self._do(self.receive, e, lambda: _reject("a write-back without a descriptor that was taken"), ring)
            self.slot = None
            self._do(self.receive, e, self.rx.delivered, ring)
        elif isinstance(e, RxRefused):
            self._do(self.receive, e, self.rx.refused, ring)
        elif self.slot is None:
            self._do(self.receive, e, lambda: _reject("a buffer filled without a descriptor that was taken"), ring)

    def _index(self, e: RxDescriptor) -> int:
        try:
            return self.geometry.rx_index(e)
        except ValueError as why:
            raise Rejected(str(why).partition(": ")[2]) from why

    def _caused(self, e: CauseSet) -> None:
        if not self.up:
            return
        if self.shared:
            if e.bits & E1000_IMS_ENABLE_MASK:
                self._do(self.receive, e, self.rx.cause, self.receive.vector)
            return
        for part, act, bit in zip(self.parts, (self.rx.cause, self.tx.cause, self.other.cause), CAUSES, strict=True):
            if e.bits & bit[0]:
                self._do(part, e, act, part.vector)

    def _interrupt(self, e: Interrupt) -> None:
        vector = 0 if self.shared else e.vector
        part = self.parts[vector]
        act = (self.rx.raised, self.tx.raised, self.other.raised)[vector]
        self._do(part, e, lambda: act(e.late), part.vector)

    # -- verdicts

    def _divergence(self, e: NicEvent, why: Rejected) -> Divergence:
        n = e.line
        near = sorted(why.near, key=lambda m: not m.rule.startswith("nic."))[:6]
        return Divergence(
            frame=n,
            time=(e.time or 0) / 1e6,
            host=self.host,
            what=why.what,
            allowed=why.allowed[:6],
            near=tuple(near),
            state=(why.state,) if why.state else (),
            around=tuple(f"{k}: {self.lines[k - 1]}" for k in range(max(n - 3, 1), min(n + 3, len(self.lines)) + 1)),
        )

    def verdicts(self, frames: Sequence[Sight] | None) -> list[Verdict]:
        """Plays the log and says what came of it."""
        self.run()
        self._count()
        found = [v for part in (*self.parts, self.moderation) for v in self._of(part)]
        outcome = Outcome.DIVERGES if self.mask_failed else Outcome.CONFORMS
        found.append(Verdict("nic", "interrupt mask", outcome, divergence=self.mask_failed))
        outcome = Outcome.DIVERGES if self.other_write else Outcome.CONFORMS
        found.append(Verdict("nic", "other registers", outcome, divergence=self.other_write))
        if frames is not None:
            found.append(self._wire(frames))
        return found

    def _count(self) -> None:
        """Holds the model's counts against the driver's own, where the sidecar has them."""
        told = self.setup.extra.get("nic_statistics")
        if told is None:
            return
        if self.receive.failed is None:
            up, want = self.rx.finish(), told.get("rx_packets", 0)
            if want not in up:
                why = Rejected(f"the driver counts rx_packets = {want}", [f"{n}" for n in sorted(up)])
                self._fail(self.receive, self.events[-1], why, "receive ring")
        if self.transmit.failed is None:
            sent, pair = self.tx.finish(), (told.get("tx_packets", 0), told.get("tx_restart_queue", 0))
            if pair not in sent:
                why = Rejected(f"the driver counts (tx_packets, tx_restart_queue) = {pair}", [f"{n}" for n in sent])
                self._fail(self.transmit, self.events[-1], why, "transmit ring")

    def _of(self, part: Part) -> list[Verdict]:
        made, events = labels(part.frontier.alive[0].trail, self.host)
        out = []
        for subject in filter(None, (part.ring, part.vector)):
            mine = tuple(x for x in made if _of_ring(x) == (subject == part.ring))
            outcome, reason, divergence = Outcome.CONFORMS, "", None
            if part.failed is not None and part.frontier.bounded:
                # Who survives is a witness, however many were let go; who fails then proves nothing.
                outcome, divergence = Outcome.INCONCLUSIVE, part.failed[1]
                reason = f"line {divergence.frame} has no explanation among the {WIDTH} hypotheses that were kept"
            elif part.failed is not None and part.failed[0] == subject:
                outcome, divergence = Outcome.DIVERGES, part.failed[1]
            elif part.failed is not None:
                outcome = Outcome.INCONCLUSIVE
                reason = f"followed up to line {part.failed[1].frame}, where {part.failed[0]} diverges"
            out.append(
                Verdict(
                    "nic",
                    subject,
                    outcome,
                    reason,
                    labels=mine,
                    divergence=divergence,
                    inferred=self._inferred(),
                    events=events if subject == (part.vector or part.ring) else (),
                )
            )
        return out

    def _inferred(self) -> tuple[str, ...]:
        left = ", ".join(f"{n} {name}" for name, n in sorted(self.rest.items()))
        return (*self.setup.inferred, f"not judged: {left}") if left else self.setup.inferred

    def _wire(self, frames: Sequence[Sight]) -> Verdict:
        """The frames of the capture, in order, are those of the descriptors, with their lengths."""
        packets = _packets(self.events)
        cut = sum(any(d.segments for d in p) for p in packets)
        got = [(e.line, e.length) for e in self.events if isinstance(e, RxBuffer)]
        sent = [(p[-1].line, sum(d.length for d in p)) for p in packets]
        divergence = self._differ(got, [f for f in frames if not f.sent], "received")
        if not cut and divergence is None:
            divergence = self._differ(sent, [f for f in frames if f.sent], "sent")
        outcome = Outcome.CONFORMS if divergence is None else Outcome.DIVERGES
        note = f"{cut} packets were cut into segments by the card: what it sent is not held against the wire"
        return Verdict("nic", "wire", outcome, divergence=divergence, inferred=(note,) if cut else ())

    def _differ(self, told: Sequence[tuple[int, int]], seen: Sequence[Sight], how: str) -> Divergence | None:
        for (line, length), f in zip(told, seen, strict=False):
            if length != f.length:
                what = f"line {line}: {length} bytes {how}, and frame {f.number} has {f.length}"
                return Divergence(line, 0.0, self.host, what, (f"{f.length} bytes",))
        if len(told) != len(seen):
            what = f"the log has {len(told)} frames {how}, the wire {len(seen)}"
            line = told[len(seen)][0] if len(told) > len(seen) else self.events[-1].line
            return Divergence(line, 0.0, self.host, what, (f"{len(seen)} frames",))
        return None


def _offset(register: str) -> int:
    return int(register, 16) if register.startswith("0x") else -1


def _is_mask(e: NicEvent) -> bool:
    return isinstance(e, RegisterWrite | RegisterRead) and e.register in ("IMS", "IMC", "ICS", "ICR")


def _msi_test(events: Sequence[NicEvent]) -> int:
    """The line of the IMC that ends e1000_test_msi_interrupt: it unmasks, writes RXSEQ to ICS, and masks; else 0."""
    asked = None
    for e in events:
        if _is(e, "ICS") and getattr(e, "value", 0) == RXSEQ:
            asked = e
        elif _is(e, "IMC") and asked is not None:
            return e.line
        elif _is(e, "TDT") or isinstance(e, RxDescriptor):
            break
    return 0


def _of_ring(x: FrameLabel) -> bool:
    return x.by.startswith(("nic.rx.", "nic.tx."))


def _reject(what: str, allowed: Iterable[str] = (), near: Iterable[NearMiss] = ()) -> None:
    raise Rejected(what, allowed, near)


def packets_from(events: Sequence[NicEvent], start: int) -> list[list[TxDescriptor]]:
    """The packets whose descriptors the card fetches after event `start`, before the next doorbell."""
    quiet = takewhile(lambda e: not _is(e, "TDT"), events[start + 1 :])
    return _packets(quiet)


def _packets(events: Iterable[NicEvent]) -> list[list[TxDescriptor]]:
    out: list[list[TxDescriptor]] = [[]]
    for x in events:
        if isinstance(x, TxDescriptor):
            out[-1].append(x)
            if x.eop:
                out.append([])
    return out if out[-1] else out[:-1]
