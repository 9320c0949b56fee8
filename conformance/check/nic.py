"""Register logs of the real e1000e driver, checked: each write to a ring or to the interrupt mask is a rule's effect.

    receive ring, vector 0 (poll)     nic_rx and napi
    transmit ring, vector 1 (transmit)  nic_tx and nic_vector
    vector 2 (other)                  nic_vector
    interrupt mask                    what the card says of its mask against what was written
    wire                              the capture's frames against the descriptors

With MSI or the interrupt line there is one vector for all. Each ring and each vector gets a verdict of its own; a label
names for each register write the rule that made it, `number` being the line in the log.
"""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from conformance.check.nic_replay import Replay, Sight
from conformance.check.setup import Setup
from conformance.check.verdict import Outcome, Verdict
from conformance.frames import Frame
from conformance.live import nic_log
from conformance.live.nic_log import NicEvent, RegisterWrite
from refmodel.nic.drivers import E1000E

ENDINGS: Final = (".log.gz", ".log")


def log_of(capture: Path, setup: Setup) -> Path | None:
    """The register log beside a capture of layer `nic`: the one that its sidecar names, or of the same name."""
    if setup.layer != "nic":
        return None
    named = setup.extra.get("nic", {}).get("log")
    stem = capture.name
    for end in (".gz", ".pcapng", ".pcap", ".cap"):
        stem = stem.removesuffix(end)
    names = [named] if named else [stem + end for end in ENDINGS]
    return next((p for p in (capture.with_name(n) for n in names) if p.exists()), None)


def cuts(setup: Setup) -> bool:
    """Whether the card cut segments: QEMU's makes IP fragments of them, which no TCP sent, so TCP is not judged."""
    return setup.layer == "nic" and bool(setup.extra.get("offloads", {}).get("tso"))


def watch(frames: Iterable[Frame], setup: Setup, seen: list[Sight]) -> Iterator[Frame]:
    """Passes frames on; each leaves its number, direction and length in `seen`."""
    card = next((h.mac for h in setup.hosts if h.name == setup.near), b"")
    for f in frames:
        seen.append(Sight(f.number, f.data[6:12] == card, f.orig_len))
        yield f


def check_beside(capture: Path, setup: Setup, frames: Sequence[Sight] | None) -> list[Verdict]:
    """The verdicts on the register log beside `capture`; raises nic_log.NicLogError where it cannot be read."""
    log = log_of(capture, setup)
    if log is None:
        why = "the register log that the sidecar speaks of is not beside the capture"
        return [Verdict("nic", capture.name, Outcome.INCONCLUSIVE, why)]
    try:
        return check_log(log, setup, frames)
    except OSError as why:
        raise nic_log.NicLogError(f"{log}: {why.strerror or why}") from why


def check_log(log: Path, setup: Setup, frames: Sequence[Sight] | None = None) -> list[Verdict]:
    """A verdict for each ring and vector that `log` shows, for the card's mask, and with `frames` for the wire.

    Raises nic_log.NicLogError where the log cannot be read or shows no rings, OSError where it cannot be opened.
    """
    driver = setup.extra.get("nic", {}).get("driver", E1000E.name)
    if driver != E1000E.name:
        why = f"register logs of {driver} are not modelled, those of {E1000E.name} are"
        return [Verdict("nic", log.name, Outcome.NOT_MODELLED, why)]
    read = nic_log.read(log)
    geometry, events = nic_log.bring_up(read)
    return Replay(geometry, (*events, *_going_down(read.events, events[-1].line)), setup, _lines(log)).verdicts(frames)


def _going_down(events: Iterable[NicEvent], line: int) -> list[NicEvent]:
    """What follows `line` until the next reset of the card."""
    return list(takewhile(lambda e: not _resets(e), (e for e in events if e.line > line)))


def _resets(e: NicEvent) -> bool:
    return isinstance(e, RegisterWrite) and e.register == "CTRL" and bool(e.value & nic_log.CTRL_RST)


def _lines(log: Path) -> list[str]:
    raw = log.read_bytes()
    return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("ascii").splitlines()
