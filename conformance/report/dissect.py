"""The diverging frame and its neighbours as tshark dissects them, through pyshark."""

import asyncio
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from conformance.check.verdict import Divergence, FileReport
from conformance.pcap import CaptureError
from conformance.pyshark_reader import TsharkFailed, TsharkMissing, missing, opened
from conformance.report.clean import printable

_NUMBERED: Final = re.compile(r"#(\d+) ")


def print_dissections(report: FileReport, to: Console) -> None:
    """Prints tshark's view of each frame that diverges; where tshark fails, what it said."""
    for v in report.verdicts:
        if v.divergence is None or v.layer == "nic":
            continue
        to.print(f"  tshark on {v.layer} {printable(v.subject)}:", markup=False)
        try:
            for line in dissection(Path(report.path), v.divergence):
                to.print(f"    {line}", markup=False)
        except CaptureError as why:
            to.print(f"    {printable(str(why))}", markup=False)


def neighbours(d: Divergence) -> tuple[int, ...]:
    """The diverging frame's number and its neighbours': in its connection if `around` tells, else in the file."""
    around = sorted({int(m[1]) for line in d.around if (m := _NUMBERED.match(line)) is not None} - {d.frame})
    before = [n for n in around if n < d.frame]
    after = [n for n in around if n > d.frame]
    return (before[-1] if before else d.frame - 1, d.frame, after[0] if after else d.frame + 1)


def dissection(path: Path, d: Divergence) -> Iterator[str]:
    """tshark's view of these frames, in lines: each layer, and its fields as Wireshark's tree shows them.

    Raises TsharkMissing if pyshark or tshark is not installed, TsharkFailed if tshark cannot read the file.
    """
    lacking = missing()
    if lacking:
        raise TsharkMissing(str(path), 0, lacking, "pyshark and tshark", "Leave out --dissect.")
    wanted = " || ".join(f"frame.number == {n}" for n in neighbours(d) if n > 0)
    loop = asyncio.new_event_loop()
    capture = opened(str(path), loop, wanted, tree=True)
    try:
        packets = iter(capture)
        with warnings.catch_warnings():
            # Before the first packet pyshark leaves its cache file to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            packet = next(packets, None)
        while packet is not None:
            number = int(packet.frame_info.number)
            yield f"frame {number}{' (diverges)' if number == d.frame else ''}"
            for layer in (packet.frame_info, *packet.layers):
                yield f"  {printable(layer.layer_name)}"
                yield from _fields(layer)
            packet = next(packets, None)
    finally:
        capture.close()
        loop.close()
    if capture.failed:
        said = capture._last_error_line or "tshark failed"
        raise TsharkFailed(str(path), 0, said, "a file that tshark reads", f"Try: tshark -r {path}")


def _fields(layer: Any) -> Iterator[str]:
    for field in layer._get_all_fields_with_alternates():
        said = field.showname or f"{field.name}: {field.show}"
        if said and not field.hide:
            yield f"    {printable(said)}"
