"""Register logs: what a driver wrote to its network card and what the card did, as QEMU's e1000e traced it.

A log is the text of `qemu-system-x86_64 -device e1000e -msg timestamp=on -D LOG -trace e1000e_core_write ...`. Each
line that means something to a ring or to the interrupt mask becomes one event, in the log's order. QEMU traces a write
before it takes effect and a read once its value is known, so the effects of a write follow it. Times are in us of the
host's CLOCK_REALTIME, None where the log has none.
"""

import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

REGISTERS: Final = {
    0x0000: "CTRL",
    0x0008: "STATUS",
    0x0018: "CTRL_EXT",
    0x00C0: "ICR",
    0x00C4: "ITR",
    0x00C8: "ICS",
    0x00D0: "IMS",
    0x00D8: "IMC",
    0x00DC: "EIAC",
    0x00E0: "IAM",
    0x00E4: "IVAR",
    0x00E8: "EITR0",
    0x00EC: "EITR1",
    0x00F0: "EITR2",
    0x0100: "RCTL",
    0x0400: "TCTL",
    0x2800: "RDBAL",
    0x2804: "RDBAH",
    0x2808: "RDLEN",
    0x2810: "RDH",
    0x2818: "RDT",
    0x2820: "RDTR",
    0x2828: "RXDCTL",
    0x282C: "RADV",
    0x3800: "TDBAL",
    0x3804: "TDBAH",
    0x3808: "TDLEN",
    0x3810: "TDH",
    0x3818: "TDT",
    0x3820: "TIDV",
    0x3828: "TXDCTL",
    0x382C: "TADV",
}
"""The registers of rings and interrupts, by their offset in bytes; others are named by their offset, as '0x5400'."""

DESCRIPTOR: Final = 16
"""Bytes of a transmit descriptor, and of a receive descriptor as long as packet split is off."""

CTRL_RST: Final = 1 << 26


class NicLogError(ValueError):
    """A register log cannot be read. The text names the file, the line, what stands there and what was expected."""


class NicEvent(Struct, frozen=True, kw_only=True, tag=True):
    """One thing that driver or card did: `time` in us or None, `line` counts from 1 in the log."""

    time: int | None
    line: int


class RegisterWrite(NicEvent, frozen=True):
    """The driver writes `value`; its effects on the card follow in the log."""

    register: str
    value: int


class RegisterRead(NicEvent, frozen=True):
    """The driver has read `value`."""

    register: str
    value: int


class TxDescriptor(NicEvent, frozen=True):
    """The card has fetched the next transmit descriptor, and writes it back at once if `report_status`.

    `lower` and `upper` are its third and fourth 32 bits as the driver left them; `buffer` is its address field.
    """

    buffer: int
    lower: int
    upper: int

    @property
    def context(self) -> bool:
        """A context descriptor: offload parameters for the descriptors behind it, no data."""
        return bool(self.lower & 1 << 29) and not self.lower & 0xF << 20

    @property
    def eop(self) -> bool:
        """The last descriptor of a packet."""
        return not self.context and bool(self.lower & 1 << 24)

    @property
    def report_status(self) -> bool:
        """The card sets DD in it once it is done: RS."""
        return bool(self.lower & 1 << 27)

    @property
    def delayed(self) -> bool:
        """Its interrupt waits for the timer of TIDV: IDE."""
        return bool(self.lower & 1 << 31)

    @property
    def segments(self) -> bool:
        """The card cuts its packet into segments: TSE."""
        return bool(self.lower & 1 << 29) and bool(self.lower & 1 << 26)

    @property
    def length(self) -> int:
        """Bytes of data in its buffer."""
        if self.context:
            return 0
        return self.lower & (0xFFFFF if self.lower & 1 << 29 else 0xFFFF)


class RxDescriptor(NicEvent, frozen=True):
    """The card takes the receive descriptor at `address` (physical) of ring `queue` for the frame that has come."""

    queue: int
    address: int


class RxBuffer(NicEvent, frozen=True):
    """The card has put `length` bytes at `offset` of the buffer at `address`."""

    address: int
    offset: int
    length: int


class RxDelivered(NicEvent, frozen=True):
    """The frame is in memory and its last descriptor is written back; `causes` are the ICR bits it will set."""

    causes: int


class RxRefused(NicEvent, frozen=True):
    """The card has no descriptor for a frame: `waits` if the frame stays on the wire, else it is lost (missed)."""

    waits: bool


class CauseSet(NicEvent, frozen=True):
    """The card sets `bits` in ICR, which then is `icr`."""

    bits: int
    icr: int


class MaskChanged(NicEvent, frozen=True):
    """IMS goes from `old` to `new` because the driver wrote IMS or IMC, or read ICR with auto-mask on."""

    old: int
    new: int


class AutoMasked(NicEvent, frozen=True):
    """The card clears `bits` of ICR and IMS for an MSI-X message, sent or only due: they are in EIAC."""

    bits: int


class Interrupt(NicEvent, frozen=True):
    """The card raises an interrupt: `how` is 'msix' (then `vector`), 'msi' or 'legacy'.

    `late` if the throttling timer of `vector` raises it. QEMU 7.2 forgets that it has: once one was postponed, each end
    of that timer raises another, cause or no cause, mask or no mask.
    """

    how: str
    vector: int
    late: bool = False


class InterruptPostponed(NicEvent, frozen=True):
    """An interrupt is due but waits for the timer that `register` (ITR, EITR0, ...) has started."""

    register: str


class TimerArmed(NicEvent, frozen=True):
    """The timer of `register` starts, for `delay` ns.

    Until a throttling timer (ITR, EITR0, ...) ends no interrupt of its vector is raised; a delaying one (RDTR, RADV,
    TIDV, TADV) raises the interrupt as it ends.
    """

    register: str
    delay: int


class ThrottleEnded(NicEvent, frozen=True):
    """The throttling timer of `vector` has ended; `pending` if an interrupt waits, which then follows."""

    vector: int
    pending: bool


Maker = Callable[[re.Match[str], int | None, int], NicEvent]


def _hex(text: str) -> int:
    return int(text, 16)


def _register(offset: int) -> str:
    return REGISTERS.get(offset, f"{offset:#x}")


_H = r"(0x[0-9a-fA-F]+)"
_X = r"([0-9a-fA-F]+)"
_FORMS: Final[Mapping[str, tuple[str, Maker]]] = {
    "e1000e_core_write": (
        rf"Write to register {_H}, \d+ byte\(s\), value: {_H}",
        lambda m, t, n: RegisterWrite(time=t, line=n, register=_register(_hex(m[1])), value=_hex(m[2])),
    ),
    "e1000e_core_read": (
        rf"Read from register {_H}, \d+ byte\(s\), value: {_H}",
        lambda m, t, n: RegisterRead(time=t, line=n, register=_register(_hex(m[1])), value=_hex(m[2])),
    ),
    "e1000e_tx_descr": (
        rf"({_H}|\(nil\)) : {_X} {_X}",
        lambda m, t, n: TxDescriptor(time=t, line=n, buffer=_hex(m[2] or "0"), lower=_hex(m[3]), upper=_hex(m[4])),
    ),
    "e1000e_rx_descr": (
        rf"Next RX descriptor: ring #(\d+), PA: {_H}, length: \d+",
        lambda m, t, n: RxDescriptor(time=t, line=n, queue=int(m[1]), address=_hex(m[2])),
    ),
    "e1000e_rx_desc_buff_write": (
        rf"buffer #\d+, addr: {_H}, offset: (\d+), from: \S+, length: (\d+)",
        lambda m, t, n: RxBuffer(time=t, line=n, address=_hex(m[1]), offset=int(m[2]), length=int(m[3])),
    ),
    "e1000e_rx_written_to_guest": (
        r"Received packet written to guest \(ICR causes (\d+)\)",
        lambda m, t, n: RxDelivered(time=t, line=n, causes=int(m[1])),
    ),
    "e1000e_rx_not_written_to_guest": (
        r"Received packet NOT written to guest \(ICR causes (\d+)\)",
        lambda m, t, n: RxRefused(time=t, line=n, waits=False),
    ),
    "e1000e_rx_can_recv_rings_full": (
        r"Cannot receive: all rings are full",
        lambda m, t, n: RxRefused(time=t, line=n, waits=True),
    ),
    "e1000e_irq_set_ims": (
        rf"Setting IMS bits {_H}: {_H} --> {_H}",
        lambda m, t, n: MaskChanged(time=t, line=n, old=_hex(m[2]), new=_hex(m[3])),
    ),
    "e1000e_irq_clear_ims": (
        rf"Clearing IMS bits {_H}: {_H} --> {_H}",
        lambda m, t, n: MaskChanged(time=t, line=n, old=_hex(m[2]), new=_hex(m[3])),
    ),
    "e1000e_irq_set_cause_exit": (
        rf"Set IRQ cause {_H}, ICR: {_H}",
        lambda m, t, n: CauseSet(time=t, line=n, bits=_hex(m[1]), icr=_hex(m[2])),
    ),
    "e1000e_irq_msix_notify_vec": (
        rf"MSI-X notify vector {_H}",
        lambda m, t, n: Interrupt(time=t, line=n, how="msix", vector=_hex(m[1])),
    ),
    "e1000e_irq_msix_notify_postponed_vec": (
        r"Sending MSI-X postponed by EITR\[(\d+)\]",
        lambda m, t, n: Interrupt(time=t, line=n, how="msix", vector=int(m[1]), late=True),
    ),
    "e1000e_irq_msi_notify": (
        rf"MSI notify {_H}",
        lambda m, t, n: Interrupt(time=t, line=n, how="msi", vector=0),
    ),
    "e1000e_irq_msi_notify_postponed": (
        r"Sending MSI postponed by ITR",
        lambda m, t, n: ThrottleEnded(time=t, line=n, vector=0, pending=True),
    ),
    "e1000e_irq_legacy_notify_postponed": (
        r"Raising legacy IRQ postponed by ITR",
        lambda m, t, n: ThrottleEnded(time=t, line=n, vector=0, pending=True),
    ),
    "e1000e_irq_throttling_no_pending_interrupts": (
        r"No pending interrupts to notify",
        lambda m, t, n: ThrottleEnded(time=t, line=n, vector=0, pending=False),
    ),
    "e1000e_irq_throttling_no_pending_vec": (
        r"No pending interrupts for vector (\d+)",
        lambda m, t, n: ThrottleEnded(time=t, line=n, vector=int(m[1]), pending=False),
    ),
    "e1000e_irq_postponed_by_xitr": (
        rf"Interrupt postponed by \[E\]ITR register {_H}",
        lambda m, t, n: InterruptPostponed(time=t, line=n, register=_register(_hex(m[1]))),
    ),
    "e1000e_irq_rearm_timer": (
        rf"Mitigation timer armed for register {_H}, delay (\d+) ns",
        lambda m, t, n: TimerArmed(time=t, line=n, register=_register(_hex(m[1])), delay=int(m[2])),
    ),
}
_COMPILED: Final = {name: (re.compile(form), form, maker) for name, (form, maker) in _FORMS.items()}
_LINE: Final = re.compile(r"(?:\d+@(\d+)\.(\d{6}):)?([a-z]\w*)(?: (.*))?$")
_EIAME: Final = re.compile(rf"Clearing IMS due to EIAME, IAM: {_H}, cause: {_H}")
_EIAC: Final = re.compile(rf"Clearing ICR bits due to EIAC, ICR: {_H}, EIAC: {_H}")
_LEVEL: Final = re.compile(r"IRQ line state: (\d)")


class NicLog(Struct, frozen=True):
    """A whole log: its events in order, and how many lines of each trace name have no meaning here."""

    events: tuple[NicEvent, ...]
    others: dict[str, int]


class Geometry(Struct, frozen=True):
    """Where the rings lie (physical addresses) and how many descriptors each has."""

    tx_base: int
    tx_count: int
    rx_base: int
    rx_count: int

    def rx_index(self, d: RxDescriptor) -> int:
        """The place of `d` in the receive ring; raises ValueError for an address outside."""
        index, rest = divmod(d.address - self.rx_base, DESCRIPTOR)
        if rest or not 0 <= index < self.rx_count:
            raise ValueError(f"line {d.line}: no receive descriptor lies at {d.address:#x}")
        return index


class _Reader:
    """Turns lines into events; remembers what one trace line says for the next."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.others: Counter[str] = Counter()
        self._cause = 0
        self._level = 0

    def event(self, number: int, line: str) -> NicEvent | None:
        found = _LINE.match(line)
        if found is None:
            raise self.error(number, line, "a trace line as 'PID@SECONDS.MICROSECONDS:event text'")
        time = int(found[1]) * 1_000_000 + int(found[2]) if found[1] else None
        name, text = found[3], found[4] or ""
        if name in _COMPILED:
            pattern, form, make = _COMPILED[name]
            m = pattern.fullmatch(text)
            if m is None:
                raise self.error(number, line, f"{name} followed by '{form}'")
            return make(m, time, number)
        if name == "e1000e_irq_iam_clear_eiame":
            self._cause = _hex(self._need(_EIAME, number, line, text)[2])
        elif name == "e1000e_irq_icr_clear_eiac":
            eiac = _hex(self._need(_EIAC, number, line, text)[2])
            return AutoMasked(time=time, line=number, bits=eiac & self._cause)
        elif name == "e1000e_irq_legacy_notify":
            before, self._level = self._level, int(self._need(_LEVEL, number, line, text)[1])
            if self._level and not before:
                return Interrupt(time=time, line=number, how="legacy", vector=0)
        else:
            self.others[name] += 1
        return None

    def _need(self, pattern: re.Pattern[str], number: int, line: str, text: str) -> re.Match[str]:
        m = pattern.fullmatch(text)
        if m is None:
            raise self.error(number, line, f"'{pattern.pattern}'")
        return m

    def error(self, number: int, line: str, expected: str) -> NicLogError:
        return NicLogError(f"{self.name}: line {number}: {line[:120]!r}: {expected} was expected")


def parse(lines: Iterable[str], name: str = "register log") -> NicLog:
    """Reads the lines of a log; raises NicLogError where a line is not QEMU's or one that it knows is malformed."""
    reader = _Reader(name)
    events = []
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if not text:
            continue
        event = reader.event(number, text)
        if event is not None:
            events.append(event)
    if not events:
        raise NicLogError(f"{name}: no line of an e1000e register trace in it")
    return NicLog(tuple(events), dict(reader.others))


def read(path: Path) -> NicLog:
    """Reads a log from `path`, plain or gzipped; raises NicLogError, or OSError where the file cannot be read."""
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        return parse(text.decode("ascii").splitlines(), str(path))
    except (EOFError, gzip.BadGzipFile) as e:
        raise NicLogError(f"{path}: its gzip data is damaged: {e}") from e
    except UnicodeDecodeError as e:
        raise NicLogError(f"{path}: byte {e.start} is not ASCII: not a register log") from e


def bring_up(log: NicLog) -> tuple[Geometry, tuple[NicEvent, ...]]:
    """The rings as the driver last set them up, and the events from there until it takes the card down.

    A driver sets the rings up again after each reset; the last set-up that moved a tail carried the traffic. The card
    is taken down where IMC masks everything. Raises NicLogError if the log shows no set-up.
    """
    best: tuple[Geometry, tuple[NicEvent, ...]] | None = None
    for part in _between_resets(log.events):
        geometry = _geometry(part)
        if geometry is not None and any(_tail(e) for e in part):
            start = max(i for i, e in enumerate(part) if _set_up(e)) + 1
            busy = max(i for i, e in enumerate(part) if _tail(e) or isinstance(e, TxDescriptor | RxDescriptor))
            down = next((i for i, e in enumerate(part) if i > busy and _down(e)), len(part))
            best = geometry, tuple(part[start:down])
    if best is None:
        raise NicLogError("the log shows no rings: TDLEN and RDLEN are never written with a tail behind them")
    return best


def _between_resets(events: Iterable[NicEvent]) -> list[list[NicEvent]]:
    parts: list[list[NicEvent]] = [[]]
    for e in events:
        if isinstance(e, RegisterWrite) and e.register == "CTRL" and e.value & CTRL_RST:
            parts.append([])
        parts[-1].append(e)
    return parts


def _geometry(events: Iterable[NicEvent]) -> Geometry | None:
    last = {e.register: e.value for e in events if isinstance(e, RegisterWrite)}
    if not {"TDBAL", "TDLEN", "RDBAL", "RDLEN"} <= last.keys():
        return None
    return Geometry(
        tx_base=last.get("TDBAH", 0) << 32 | last["TDBAL"],
        tx_count=last["TDLEN"] // DESCRIPTOR,
        rx_base=last.get("RDBAH", 0) << 32 | last["RDBAL"],
        rx_count=last["RDLEN"] // DESCRIPTOR,
    )


def _tail(e: NicEvent) -> bool:
    return isinstance(e, RegisterWrite) and e.register in ("TDT", "RDT") and e.value > 0


def _set_up(e: NicEvent) -> bool:
    return isinstance(e, RegisterWrite) and e.register in ("TDLEN", "RDLEN")


def _down(e: NicEvent) -> bool:
    return isinstance(e, RegisterWrite) and e.register == "IMC" and e.value == 0xFFFFFFFF
