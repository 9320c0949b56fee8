"""Bulk flows with loss for measurements: one run of two whole TCPs, copied to other ports and shifted in time.

The run is `conformance.synth`'s: a bulk transfer of which the wire loses one segment in 200, tapped at the sender.
`write` returns how many frames it wrote. What its TCPs do is what Linux does, so that a checker has all the work that a
real transfer would give it.
"""

import struct
from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from conformance.frames import Frame
from conformance.pcap import Writer
from conformance.synth import wire
from conformance.synth.apps import App
from conformance.synth.truth import synthesize

PAIRS: Final = 0.75  # frames at the sender's tap for each segment of data
SEED: Final = 7  # its hosts have SACK, timestamps and window scaling, as Linux does unless told otherwise
EVENTS: Final = 8  # at most so many events of the synthesized wire make a frame
SNAPLEN: Final = 96  # bytes: headers are what a checker reads
APART: Final = 137_000  # ns from one flow's start to the next's
_PORTS: Final = struct.Struct("!HH")


def flow(frames: int, seed: int = SEED) -> list[Frame]:
    """About `frames` frames of one bulk transfer with loss."""
    wire.MOST_EVENTS = max(wire.MOST_EVENTS, EVENTS * frames)
    size = int(frames * PAIRS) * 1448
    client = App((("write", size), ("shutdown",), ("eof",), ("close",)))
    server = App((("eof",), ("close",)))
    paths = (
        wire.Path(wire.Half(delay=2_500), wire.Half(delay=2_500, loss=0.005)),
        wire.Path(wire.Half(delay=2_500), wire.Half(delay=2_500)),
    )
    truth = synthesize(
        seed, shape="bulk", kernel="6.12", hz=250, mtu=1500, tx="segments", rx="each", offload=False, taps=("a",),
        paths=paths, client=client, server=server, connections=1, congestion=("cubic", "cubic"), length=3_600_000_000,
        addresses=(bytes((10, 9, 0, 1)), bytes((10, 9, 0, 2))), listens=True,
    )  # fmt: skip
    return truth.captured()


def moved(frames: list[Frame], k: int) -> Iterator[Frame]:
    """The frames of the `k`th flow: the client's port is `k` higher, everything `k` times `APART` later."""
    client = min(_PORTS.unpack_from(frames[0].data, 34))
    for port in _PORTS.unpack_from(frames[0].data, 34):
        if port >= 32768:
            client = port
    for f in frames:
        data = bytearray(f.data)
        for at in (34, 36):
            (port,) = struct.unpack_from("!H", data, at)
            if port == client:
                new = (port - 1000 * k) & 0xFFFF
                struct.pack_into("!H", data, at, new)
                (check,) = struct.unpack_from("!H", data, 50)
                total = (~check & 0xFFFF) + (~port & 0xFFFF) + new
                while total > 0xFFFF:
                    total = (total & 0xFFFF) + (total >> 16)
                struct.pack_into("!H", data, 50, ~total & 0xFFFF)
        yield replace(f, data=bytes(data[:SNAPLEN]), time=f.time + k * APART)


def write(path: Path, frames: int, flows: int = 16) -> int:
    """Writes `flows` bulk flows of about `frames` frames in all, in the order of their times."""
    one = flow(frames // flows)
    count = 0
    with path.open("wb") as out, Writer(out) as w:
        w.interface(1, "a0")
        for f in merge(*(moved(one, k) for k in range(flows)), key=lambda f: f.time):
            count += 1
            w.frame(replace(f, number=count))
    return count
