"""How fast captures are read: the native reader, the flat and the layered decoder, pyshark, other container readers.

Run as ``python -m bench.reader [FRAMES]``. It makes its own capture, prints frames per CPU second and peak memory; the
readers of other packages are measured if they are installed (python-pcapng, dpkt, scapy).
"""

import importlib
import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from conformance.frames import Frame
from conformance.pcap import Reader, Writer
from conformance.pyshark_reader import PysharkReader, missing
from refmodel.packet import ACK, PSH, Ether, Ip, Nop, Tcp, Timestamp, decode, encode, seal, segment


def make(path: Path, frames: int) -> None:
    """A capture of `frames` TCP segments with timestamps, data and pure ACKs in turn, 40 frames a connection."""
    eth = Ether(b"\2\0\0\0\0\2", b"\2\0\0\0\0\1", 0x0800)
    with Writer(path) as w:
        w.interface(1, "bench0")
        for n in range(frames):
            tcp = Tcp(
                10_000 + n // 40 % 50_000,
                80,
                n * 100 & 0xFFFFFFFF,
                7,
                8,
                ACK | PSH if n % 2 else ACK,
                502,
                options=(Nop(), Nop(), Timestamp(n, n)),
            )
            ip = Ip(5, 0, 0, n & 0xFFFF, 0x4000, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
            data = encode(seal((eth, ip, tcp), b"x" * 100 if n % 2 else b""))
            w.frame(Frame(0, n * 1000, 1, 0, data, len(data)))


def cpu() -> float:
    """CPU seconds of this process and of those it waited for (tshark)."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def rate(name: str, frames: int, frames_read: Iterable[object]) -> None:
    """Prints frames per CPU second, which says the same on a busy machine."""
    started = cpu()
    count = sum(1 for _ in frames_read)
    print(f"{name:44} {count / (cpu() - started):>12,.0f} frames/s of CPU   ({count} of {frames})")


def native(path: Path) -> Iterator[object]:
    with Reader(path) as r:
        yield from r


def flat(path: Path) -> Iterator[object]:
    with Reader(path) as r:
        for f in r:
            yield segment(f.number, f.time, f.data, f.linktype, f.orig_len)


def layered(path: Path) -> Iterator[object]:
    with Reader(path) as r:
        for f in r:
            yield decode(f.data, f.linktype, f.orig_len)


def classic(source: Path, target: Path) -> None:
    """The same frames as a pcap file."""
    with Reader(source) as r, target.open("wb") as out:
        out.write(bytes.fromhex("4d3cb2a1 0200 0400 00000000 00000000 00000400 01000000"))
        for f in r:
            sec, ns = divmod(f.time, 1_000_000_000)
            for word in (sec, ns, len(f.data), f.orig_len):
                out.write(word.to_bytes(4, "little"))
            out.write(f.data)


def others(pcapng: Path, frames: int) -> None:
    """The container readers that were considered; docs/readers.md holds the outcome."""
    few = pcapng.with_suffix(".few.pcapng")
    make(few, min(frames, 20_000))
    for name in ("pcapng", "dpkt.pcapng", "scapy.utils"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            print(f"{name:44} not installed")
            continue
        if name == "pcapng":
            with few.open("rb") as file:
                blocks = (b for b in module.FileScanner(file) if hasattr(b, "packet_data"))
                rate("python-pcapng, container only", min(frames, 20_000), blocks)
        elif name == "dpkt.pcapng":
            with pcapng.open("rb") as file:
                rate("dpkt, container only", frames, module.Reader(file))
        else:
            reader = module.RawPcapNgReader(str(few))
            rate("scapy RawPcapNgReader, container only", min(frames, 20_000), reader)
            reader.close()


def through_tshark(pcapng: Path, frames: int) -> None:
    """pyshark in its fastest mode, and all that it dissects."""
    lacking = missing()
    if lacking:
        print(f"{'pyshark (ek)':44} {lacking}")
        return
    few = pcapng.with_suffix(".tshark.pcapng")
    make(few, min(frames, 10_000))
    with PysharkReader(few) as r:
        rate("pyshark (ek), frames and fields", min(frames, 10_000), r)


def main() -> None:
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as folder:
        pcapng, pcap = Path(folder, "bench.pcapng"), Path(folder, "bench.pcap")
        make(pcapng, frames)
        classic(pcapng, pcap)
        rate("native pcapng, container only", frames, native(pcapng))
        rate("native pcap, container only", frames, native(pcap))
        rate("native pcapng + segment", frames, flat(pcapng))
        rate("native pcap + segment", frames, flat(pcap))
        rate("native pcapng + decode (all layers)", frames, layered(pcapng))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"peak memory {peak} MiB for a file of {pcapng.stat().st_size >> 20} MiB")
        through_tshark(pcapng, frames)
        others(pcapng, frames)


if __name__ == "__main__":
    main()
