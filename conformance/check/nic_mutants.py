"""Mutants of register logs: one thing that driver or card did is changed, to see that the check says no.

`python -m conformance.check.nic_mutants captures/nic-*.log.gz` prints the table. What the card says of its mask is put
right where a write to it is changed, so that it is the driver's behaviour that is judged.
"""

import argparse
import gzip
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from conformance.check.nic import check_log, watch
from conformance.check.nic_half import E1000_IMS_ENABLE_MASK
from conformance.check.nic_replay import RATES, Sight
from conformance.check.setup import Setup, setup_for
from conformance.check.verdict import Divergence, Outcome
from conformance.live.nic_log import (
    Geometry,
    Interrupt,
    NicEvent,
    RegisterRead,
    RegisterWrite,
    RxBuffer,
    RxDelivered,
    RxDescriptor,
    TxDescriptor,
    bring_up,
    parse,
)
from conformance.pcap import Reader
from refmodel.nic.drivers import E1000E
from refmodel.nic.vector import E1000_IMS_OTHER, E1000_IMS_RXQ0, E1000_IMS_TXQ0, IMS_OTHER_MASK

Lines = list[str]
VALUE: Final = re.compile(r"0x[0-9a-f]+$")
PLACES: Final = 3
NEAR: Final = 40
TRIES: Final = 20


class Mutant(Struct, frozen=True):
    """A changed log; `at` is the line (in the mutant) that is wrong, or behind which something is missing."""

    kind: str
    at: int
    lines: tuple[str, ...]


class Kind(Struct, frozen=True):
    """A way to change a log: which events, and what becomes of the lines of one of them (None: not this one)."""

    name: str
    of: Callable[[NicEvent], bool]
    change: Callable[[Lines, NicEvent, Geometry], tuple[Lines, int] | None]


def _writes(register: str) -> Callable[[NicEvent], bool]:
    return lambda e: isinstance(e, RegisterWrite) and e.register == register


def _value(how: Callable[[int, Geometry], int]) -> Callable[[Lines, NicEvent, Geometry], tuple[Lines, int] | None]:
    def change(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int]:
        assert isinstance(e, RegisterWrite)
        i = e.line - 1
        return [*lines[:i], VALUE.sub(hex(how(e.value, g)), lines[i]), *lines[i + 1 :]], e.line

    return change


def _leave_out(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int]:
    return lines[: e.line - 1] + lines[e.line :], e.line


def _twice(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int]:
    return lines[: e.line] + lines[e.line - 1 :], e.line + 1


def _mask(lines: Lines, i: int, value: int) -> int:
    """Follows from line `i` on what the card says of its mask, `value` before it; the number of changes made."""
    changes = 0
    for k in range(i, len(lines)):
        m = re.search(r"(Setting|Clearing) IMS bits (0x[0-9a-f]+): (0x[0-9a-f]+) --> (0x[0-9a-f]+)", lines[k])
        if m is not None:
            if int(m[3], 16) == value:
                break
            new = value | int(m[2], 16) if m[1] == "Setting" else value & ~int(m[2], 16)
            lines[k] = f"{lines[k][: m.start()]}{m[1]} IMS bits {m[2]}: {value:#x} --> {new:#x}"
            value, changes = new, changes + 1
        cleared = re.search(r"Clearing ICR bits due to EIAC, ICR: \S+, EIAC: (0x[0-9a-f]+)", lines[k])
        if cleared is not None:
            cause = re.search(r"cause: (0x[0-9a-f]+)", lines[k - 1])
            value &= ~(int(cleared[1], 16) & int(cause[1], 16)) if cause is not None else -1
    return changes


def _old_mask(line: str) -> int:
    m = re.search(r": (0x[0-9a-f]+) -->", line)
    return int(m[1], 16) if m is not None else 0


def _mask_left_out(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int]:
    """The write, and what the card said of it."""
    i = e.line - 1
    out = lines[:i] + lines[i + 2 :]
    _mask(out, i, _old_mask(lines[i + 1]))
    return out, e.line


def _mask_twice(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int]:
    i = e.line - 1
    again = [lines[i], re.sub(r": 0x[0-9a-f]+ --> (0x[0-9a-f]+)", r": \1 --> \1", lines[i + 1])]
    return lines[: i + 2] + again + lines[i + 2 :], e.line + 2


def _of_another(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int] | None:
    """The handler unmasks another vector's causes than its own."""
    assert isinstance(e, RegisterWrite)
    other = E1000_IMS_OTHER | IMS_OTHER_MASK
    turn = {E1000_IMS_RXQ0: E1000_IMS_TXQ0, E1000_IMS_TXQ0: E1000_IMS_RXQ0, other: E1000_IMS_TXQ0}
    new = turn.get(e.value, E1000_IMS_RXQ0 if e.value == E1000_IMS_ENABLE_MASK else 0)
    if not new:
        return None
    i = e.line - 1
    old = _old_mask(lines[i + 1])
    head = lines[i + 1].partition("Setting")[0]
    out = list(lines)
    out[i] = VALUE.sub(hex(new), out[i])
    out[i + 1] = f"{head}Setting IMS bits {new:#x}: {old:#x} --> {old | new:#x}"
    _mask(out, i + 2, old | new)
    return out, e.line


def _of_all(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int] | None:
    """The handler unmasks nothing at all: IMS = 0."""
    i = e.line - 1
    old = _old_mask(lines[i + 1])
    out = list(lines)
    out[i] = VALUE.sub("0x0", out[i])
    out[i + 1] = f"{lines[i + 1].partition('Setting')[0]}Setting IMS bits 0x0: {old:#x} --> {old:#x}"
    _mask(out, i + 2, old)
    return out, e.line


def _rest(line: str, form: str) -> str:
    """What a line says, without where a packet's bytes lie: that shows nowhere else."""
    return re.sub(r" (0x[0-9a-f]+|\(nil\)) :", "", line.partition(form)[2]) if "tx" in form else line.partition(form)[2]


def _swapped(form: str) -> Callable[[Lines, NicEvent, Geometry], tuple[Lines, int] | None]:
    """The line and the next of the same form change places."""

    def change(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int] | None:
        i = e.line - 1
        k = next((k for k in range(i + 1, len(lines)) if form in lines[k]), None)
        if k is None or _rest(lines[i], form) == _rest(lines[k], form):
            return None
        out = list(lines)
        out[i], out[k] = lines[k], lines[i]
        return out, e.line

    return change


def _longer(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int]:
    i = e.line - 1
    out = list(lines)
    out[i] = re.sub(r"length: (\d+)$", lambda m: f"length: {int(m[1]) + 2}", out[i])
    return out, e.line


def _refused(lines: Lines, e: NicEvent, g: Geometry) -> tuple[Lines, int]:
    i = e.line - 1
    line = f"{lines[i].partition(':')[0]}:e1000e_rx_can_recv_rings_full Cannot receive: all rings are full"
    return [*lines[:i], line, *lines[i:]], e.line


def _rate(e: NicEvent) -> bool:
    return isinstance(e, RegisterWrite) and e.register in RATES


def _handler_s(e: NicEvent) -> bool:
    return isinstance(e, RegisterWrite) and e.register == "IMS" and e.value != E1000E.napi.ims_up


KINDS: Final = (
    Kind("TDT one slot further", _writes("TDT"), _value(lambda v, g: (v + 1) % g.tx_count)),
    Kind("TDT one slot back", _writes("TDT"), _value(lambda v, g: (v - 1) % g.tx_count)),
    Kind("TDT beyond the ring", _writes("TDT"), _value(lambda v, g: g.tx_count)),
    Kind("TDT left out", _writes("TDT"), _leave_out),
    Kind("TDT twice", _writes("TDT"), _twice),
    Kind("descriptor fetched twice", lambda e: isinstance(e, TxDescriptor), _twice),
    Kind("descriptors out of order", lambda e: isinstance(e, TxDescriptor), _swapped("e1000e_tx_descr")),
    Kind("RDT one slot further", _writes("RDT"), _value(lambda v, g: (v + 1) % g.rx_count)),
    Kind("RDT one slot back", _writes("RDT"), _value(lambda v, g: (v - 1) % g.rx_count)),
    Kind("RDT a batch further", _writes("RDT"), _value(lambda v, g: (v + 16) % g.rx_count)),
    Kind("RDT beyond the ring", _writes("RDT"), _value(lambda v, g: g.rx_count)),
    Kind("RDT left out", _writes("RDT"), _leave_out),
    Kind("RDT twice", _writes("RDT"), _twice),
    Kind("receive slot taken out of order", lambda e: isinstance(e, RxDescriptor), _swapped("e1000e_rx_descr")),
    Kind("receive slot taken twice", lambda e: isinstance(e, RxDescriptor), _twice),
    Kind("receive slot written back twice", lambda e: isinstance(e, RxDelivered), _twice),
    Kind("receive slot not written back", lambda e: isinstance(e, RxDelivered), _leave_out),
    Kind("frame of another length", lambda e: isinstance(e, RxBuffer), _longer),
    Kind("frame refused by a ring with buffers", lambda e: isinstance(e, RxDescriptor), _refused),
    Kind("IMS left out", _handler_s, _mask_left_out),
    Kind("IMS twice", _handler_s, _mask_twice),
    Kind("IMS of another vector", _handler_s, _of_another),
    Kind("IMS of nothing", _handler_s, _of_all),
    Kind("IMC left out", _writes("IMC"), _mask_left_out),
    Kind("IMC twice", _writes("IMC"), _twice),
    Kind("ICR not read", lambda e: isinstance(e, RegisterRead) and e.register == "ICR", _leave_out),
    Kind("ICR read twice", lambda e: isinstance(e, RegisterRead) and e.register == "ICR", _twice),
    Kind("interrupt left out", lambda e: isinstance(e, Interrupt), _leave_out),
    Kind("rate one unit further", _rate, _value(lambda v, g: v + 1)),
    Kind("rate of half", _rate, _value(lambda v, g: 2 * v)),
    Kind("rate left out", _rate, _leave_out),
    Kind("rate twice", _rate, _twice),
    Kind("TIDV of another delay", _writes("TIDV"), _value(lambda v, g: v + 1)),
    Kind("TIDV left out", _writes("TIDV"), _leave_out),
    Kind("TIDV twice", _writes("TIDV"), _twice),
    Kind("RDTR without FPD", _writes("RDTR"), _value(lambda v, g: v & ~(1 << 31))),
    Kind("RDTR left out", _writes("RDTR"), _leave_out),
    Kind("RDTR twice", _writes("RDTR"), _twice),
    Kind("ICS left out", _writes("ICS"), _leave_out),
    Kind("ICS of another vector", _writes("ICS"), _value(lambda v, g: E1000_IMS_TXQ0)),
)


def text_of(log: Path) -> Lines:
    """The lines of a log, plain or gzipped."""
    raw = log.read_bytes()
    return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("ascii").splitlines()


def mutants(lines: Lines, places: int = PLACES) -> Iterator[Mutant]:
    """The mutants of a log: of each kind at `places` places, spread over it."""
    log = parse(lines)
    geometry, events = bring_up(log)
    up = next(e.line for e in events if _writes("IMS")(e))
    filled = next(e.line for e in events if _writes("RCTL")(e))
    last = next((e.line for e in log.events if e.line > events[-1].line and _writes("IMC")(e)), 0)
    lived = [e for e in log.events if filled < e.line <= max(events[-1].line, last)]
    for kind in KINDS:
        found = [e for e in lived if kind.of(e) and (e.line > up or _writes("RDT")(e) or _rate(e))]
        picked = dict.fromkeys(found[(2 * k + 1) * len(found) // (2 * places)] for k in range(places) if found)
        for e in picked:
            # Where this one cannot be changed so, one of the next can.
            for later in found[found.index(e) :][:TRIES]:
                made = kind.change(list(lines), later, geometry)
                if made is not None:
                    yield Mutant(kind.name, made[1], tuple(made[0]))
                    break


def wire_of(capture: Path, setup: Setup) -> list[Sight]:
    """What the frames of a capture show of the card's descriptors."""
    seen: list[Sight] = []
    with Reader(capture) as r:
        for _ in watch(r, setup, seen):
            pass
    return seen


def judge(m: Mutant, setup: Setup, frames: Sequence[Sight], folder: Path) -> Divergence | None:
    """The earliest divergence that the check finds in a mutant beside its wire; None if it survives."""
    path = folder / "mutant.log"
    path.write_text("\n".join(m.lines) + "\n", encoding="ascii")
    verdicts = check_log(path, setup, frames)
    found = [v.divergence for v in verdicts if v.outcome is Outcome.DIVERGES and v.divergence is not None]
    return min(found, key=lambda d: d.frame, default=None)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: a table of the kinds; exit status 1 if a log itself does not conform."""
    parser = argparse.ArgumentParser(prog="nic_mutants", description="Mutants of register logs, and how many are seen.")
    parser.add_argument("captures", nargs="+", type=Path, help="captures with a register log beside them")
    parser.add_argument("--places", type=int, default=PLACES, help=f"mutants of each kind and log (default {PLACES})")
    args = parser.parse_args(argv)
    made, seen, there, near = (Counter[str]() for _ in range(4))
    with tempfile.TemporaryDirectory(prefix="refmodel-mutants-") as folder:
        for capture in args.captures:
            setup = setup_for(capture)
            frames = wire_of(capture, setup)
            log = capture.with_name(setup.extra["nic"]["log"])
            if any(v.outcome is not Outcome.CONFORMS for v in check_log(log, setup, frames)):
                print(f"{log} does not conform itself", file=sys.stderr)
                return 1
            for m in mutants(text_of(log), args.places):
                d = judge(m, setup, frames, Path(folder))
                made[m.kind] += 1
                seen[m.kind] += d is not None
                there[m.kind] += d is not None and abs(d.frame - m.at) <= 1
                near[m.kind] += d is not None and abs(d.frame - m.at) <= NEAR
                if d is None:
                    print(f"survives: {m.kind}, line {m.at} of {log.name}")
    print(f"{'':38}  made rejected at the line within {NEAR} lines")
    for n in (*(k.name for k in KINDS), "all"):
        counts = [sum(c.values()) if n == "all" else c[n] for c in (made, seen, there, near)]
        print(f"{n:38} {counts[0]:5} {counts[1]:8} {counts[2]:11} {counts[3]:15}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
