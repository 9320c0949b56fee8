"""One capture from file to verdicts, and many of them on all cores."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from conformance.check.neigh import Neighbours
from conformance.check.nic import Sight, check_beside, cuts, watch
from conformance.check.setup import Setup, SidecarError, setup_for
from conformance.check.tcp import Connection
from conformance.check.verdict import FileReport, Outcome, Verdict
from conformance.live.classes import CUT
from conformance.live.nic_log import NicLogError
from conformance.pcap import CaptureError, Frame, Reader
from conformance.pyshark_reader import PysharkReader
from refmodel.packet import decode
from refmodel.packet.segment import Segment, segment
from refmodel.profile import OutOfRange, UnknownProfile

ENDINGS = (".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".cap.gz")
LABELS_UP_TO = 20_000

Key = tuple[bytes, int, bytes, int]


def captures_in(paths: Iterable[Path]) -> list[Path]:
    """The files named, and the captures below the folders named, in order; raises FileNotFoundError."""
    found: list[Path] = []
    for p in paths:
        if p.is_dir():
            found += sorted(f for f in p.rglob("*") if f.name.endswith(ENDINGS) and f.is_file())
        elif p.exists():
            found.append(p)
        else:
            raise FileNotFoundError(f"{p}: no such file or folder")
    return found


def check_all(
    files: Sequence[Path],
    kernel: str = "",
    reader: str = "native",
    jobs: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[FileReport]:
    """Checks many captures, on `jobs` processes (0: all cores), in the order given, until `stop()` says so."""
    n = jobs or os.cpu_count() or 1
    if n == 1 or len(files) < 8:
        for f in files:
            if stop():
                return
            yield check_capture(f, kernel, reader, stop)
        return
    with ProcessPoolExecutor(min(n, len(files)), initializer=_worker) as pool:
        for r in pool.map(check_capture, files, [kernel] * len(files), [reader] * len(files), chunksize=4):
            yield r
            if stop():
                pool.shutdown(wait=False, cancel_futures=True)
                return


def _worker() -> None:
    """Ctrl-C is the parent's to handle: what a worker has begun it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _warm()


def _warm() -> None:
    import refmodel.layers  # noqa: F401


def check_capture(
    path: Path, kernel: str = "", reader: str = "native", stop: Callable[[], bool] = lambda: False
) -> FileReport:
    """The verdicts on one capture. What cannot be read is in the report's `error`; nothing is raised for bad input.

    A file that becomes unreadable on the way, or that `stop()` ends, is judged as far as it was read.
    """
    _warm()
    report = FileReport(str(path))
    try:
        setup = setup_for(path, kernel)
        report.profile = setup.kernel
        sights: list[Sight] = []
        frames = _frames(path, reader, report, stop)
        check_frames(watch(frames, setup, sights) if setup.layer == "nic" else frames, setup, report)
        if setup.layer == "nic":
            report.verdicts += check_beside(path, setup, None if stop() or report.error else sights)
    except NicLogError as why:
        report.error = report.error or str(why)
    except (CaptureError, SidecarError, UnknownProfile, OutOfRange) as why:
        report.error = str(why)
    return report


def _frames(path: Path, reader: str, report: FileReport, stop: Callable[[], bool]) -> Iterator[Frame]:
    try:
        with PysharkReader(path) if reader == "pyshark" else Reader(path) as r:
            for f in r:
                if stop():
                    report.notices.append(f"interrupted: judged as far as frame {f.number - 1}")
                    break
                yield f
            report.notices += [str(n) for n in r.notices]
            report.notices += [
                f"interface {i.name or k}: the capture dropped {i.dropped} frames"
                for k, i in enumerate(r.interfaces)
                if i.dropped
            ]
    except CaptureError as why:
        report.error = str(why)


def check_frames(frames: Iterable[Frame], setup: Setup, report: FileReport) -> None:
    """Distributes frames to the checkers of their connections and neighbours, and collects the verdicts."""
    flows: dict[Key, Connection] = {}
    neighbours = Neighbours(setup)
    cut = cuts(setup)
    last = 0
    for f in frames:
        report.frames += 1
        last = max(last, f.time // 1000)
        s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
        if s is None:
            neighbours.frame(f, decode(f.data, f.linktype, f.orig_len))
            continue
        neighbours.frame(f, s)
        if cut:
            neighbours.counts[CUT] += 1
            continue
        _follow(flows, s, setup, report)
    for c in flows.values():
        report.verdicts.append(c.verdict(last))
    report.verdicts += neighbours.finish(last)
    if not report.frames and not report.error:
        report.error = f"{report.path}: no frames: nothing to check"
    elif report.frames and not report.verdicts:
        why = f"none of the {report.frames} frames belongs to a modelled layer"
        report.verdicts.append(Verdict("capture", "", Outcome.NOT_MODELLED, why))


def _follow(flows: dict[Key, Connection], s: Segment, setup: Setup, report: FileReport) -> None:
    ends = ((s.saddr, s.source), (s.daddr, s.dest))
    key = (*min(ends), *max(ends))
    c = flows.get(key)
    if c is None:
        c = flows[key] = Connection(s, setup)
    elif c.begins_anew(s):
        report.verdicts.append(c.verdict(c.last))
        c = flows[key] = Connection(s, setup, c)
    c.feed(s)
