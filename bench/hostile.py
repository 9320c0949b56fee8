"""Captures that would make a checker grow without bound: what they take in time and memory.

Run as ``python -m bench.hostile [--size N]``: a million SYNs that nobody answers, one connection's ports used again
N / 100 times, and a pcapng of N blocks that nobody knows between the frames of a few connections.
"""

import argparse
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.measure import CONSOLE, command, refmodel, table
from bench.traffic import GAP, Side, connection
from conformance.frames import Frame
from conformance.pcap import Writer
from refmodel.packet import SYN

SIZE: Final = 1_000_000
START: Final = 1_700_000_000_000_000_000
AGAIN: Final = 2_000_000_000  # ns from one use of a connection's ports to the next
UNKNOWN_BLOCK: Final = 0x0BAD0BAD


def syns(n: int) -> Iterator[tuple[int, bytes]]:
    """SYNs of as many connections, 10 us apart, that nobody answers."""
    server = Side(b"\x0a\x09\x00\x02", 80, 0, 0, 0)
    for k in range(n):
        address = b"\x0a" + (k // 60_000 + 16 << 8 | 9).to_bytes(3, "big")
        yield Side(address, 1024 + k % 60_000, k * 2654435761 & 0xFFFFFFFF, 1, 1).send(server, k * 10_000, SYN)


def reused(n: int) -> Iterator[tuple[int, bytes]]:
    """One connection's ports used `n` times, each time with later numbers and timestamps."""
    sent = list(connection(0))
    for k in range(n):
        for at, data in sent:
            b = bytearray(data)
            stamps = 62 if data[47] & SYN else 58
            for where, more in (
                (38, k * 0x01000193),
                (42, k * 0x01000193),
                (stamps, k * 2_000),
                (stamps + 4, k * 2_000),
            ):
                was = int.from_bytes(b[where : where + 4], "big")
                if was or where == 38:
                    b[where : where + 4] = (was + more & 0xFFFFFFFF).to_bytes(4, "big")
            yield at + k * AGAIN, bytes(b)


def frames(path: Path, sent: Iterator[tuple[int, bytes]]) -> int:
    """Writes what was sent; the number of frames."""
    number = 0
    with path.open("wb") as out, Writer(out) as w:
        w.interface(1, "bench0")
        for number, (at, data) in enumerate(sent, 1):
            w.frame(Frame(number, START + at, 1, 0, data, len(data)))
    return number


def blocks(path: Path, n: int) -> int:
    """Writes a few connections with unknown blocks between their frames; the number of frames."""
    sent = [x for k in range(4) for x in connection(k, 50 * GAP)]
    each = n // len(sent)
    block = struct.pack("<II8sI", UNKNOWN_BLOCK, 20, b"whatever", 20)
    with path.open("wb") as out, Writer(out) as w:
        w.interface(1, "bench0")
        for number, (at, data) in enumerate(sent, 1):
            out.write(block * each)
            w.frame(Frame(number, START + at, 1, 0, data, len(data)))
    return len(sent)


KINDS: Final[dict[str, Callable[[Path, int], int]]] = {
    "SYNs to as many ports": lambda path, n: frames(path, syns(n)),
    "one connection, a hundredth as often": lambda path, n: frames(path, reused(n // 100)),
    "unknown blocks": blocks,
}


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", type=int, default=SIZE)
    size = options.parse_args().size
    t = table(
        f"captures that want to grow, size {size:,}, load {os.getloadavg()[0]:.1f}",
        "what", "frames", "CPU s", "us CPU a frame", "peak MiB", "peak MiB at half the size",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hostile.pcapng")
        for what, write in KINDS.items():
            write(path, size // 2)
            half = command(refmodel("check", "-j1", str(path)), any_status=True)
            count = write(path, size)
            whole = command(refmodel("check", "-j1", str(path)), any_status=True)
            t.add_row(
                what, f"{count:,}", f"{whole.cpu:.1f}", f"{whole.cpu / count * 1e6:.0f}", f"{whole.peak:.0f}",
                f"{half.peak:.0f}",
            )  # fmt: skip
    CONSOLE.print(t)


if __name__ == "__main__":
    main()
