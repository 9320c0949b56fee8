"""One capture from file to verdicts, and many of them on all cores."""

import gc
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from conformance.check.datagrams import Datagrams
from conformance.check.flows import MOST_OPEN, Flows, Share
from conformance.check.lacking import Stamps, doubt, doubted
from conformance.check.neigh import PARTIES, WATCHES
from conformance.check.neigh_taps import Taps
from conformance.check.nic import check_beside, cuts, watch
from conformance.check.nic_replay import Sight
from conformance.check.options import ORACLE, RULES, Options
from conformance.check.path import fall, may_be_icmp
from conformance.check.setup import Setup, SidecarError, setup_for, tap_of
from conformance.check.spread import LARGE, Part, none_modelled, spread
from conformance.check.tcp import Connection as Rules
from conformance.check.verdict import FileReport, Verdict
from conformance.frames import Frame
from conformance.live.classes import CUT
from conformance.live.nic_log import NicLogError
from conformance.oracle.connection import Connection as Oracle
from conformance.oracle.passing import Passing
from conformance.pcap import CaptureError, Reader
from conformance.pyshark_reader import PysharkReader
from refmodel.packet import LINKTYPE_ETHERNET, decode
from refmodel.packet.segment import segment
from refmodel.profile import OutOfRange, UnknownProfile
from refmodel.tcp.params import tcp_params

ENDINGS = (".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".cap.gz")
FEW: Final = 8  # files: so many small ones are not worth another process
GARBAGE: Final = 50_000  # objects between two looks for cycles: connections are long-lived, and many
WHOLE: Final = Share()
ENGINES: Final[dict[str, Callable[..., Any]]] = {ORACLE: Oracle, RULES: Rules}


def _never() -> bool:
    return False


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
    stop: Callable[[], bool] = _never,
    labelled: bool = False,
    engine: str = ORACLE,
    scheduler: str = "",
) -> Iterator[FileReport]:
    """Checks many captures, on `jobs` processes (0: all cores), in the order given, until `stop()` says so.

    Many files are spread over the processes, and each large one is shared by all of them. `labelled` keeps the label
    of every frame of a large capture too. `scheduler` is a dask scheduler's address: then its workers check, which must
    find the files under the same names; raises ClusterError.
    """
    if scheduler:
        from conformance.check.cluster import on_cluster

        yield from on_cluster(scheduler, files, Options(kernel, reader, labelled, engine), stop)
        return
    n = jobs or os.cpu_count() or 1
    if n == 1 or (len(files) < FEW and all(f.stat().st_size < LARGE for f in files)):
        for f in files:
            if stop():
                return
            yield check_capture(f, kernel, reader, stop, labelled, engine)
        return
    yield from check_together(files, kernel, reader, n, stop, labelled, engine)


def _worker(stopped: Any = None) -> None:
    """Ctrl-C is the parent's to handle: what a worker has begun it ends, unless `stopped` is set."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _STOPPED.append(stopped)
    _warm()


_STOPPED: list[Any] = []


def _stopped() -> bool:
    return bool(_STOPPED) and bool(_STOPPED[-1].is_set())


def check_together(
    files: Sequence[Path],
    kernel: str = "",
    reader: str = "native",
    jobs: int = 2,
    stop: Callable[[], bool] = _never,
    labelled: bool = False,
    engine: str = ORACLE,
) -> Iterator[FileReport]:
    """`check_all` by `jobs` processes of this machine, which stay until all is done."""
    options = Options(kernel, reader, labelled, engine)
    context = get_context()
    stopped = context.Event()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_worker, initargs=(stopped,)) as pool:
        whole, part = partial(check_files, options), partial(check_part, options)
        yield from spread(pool, files, jobs, whole, part, stop, stopped.set)


def check_files(options: Options, files: Sequence[Path]) -> list[FileReport]:
    """The reports on several captures, in a process of a pool: as far as it was not stopped."""
    found = []
    for f in files:
        if _stopped():
            break
        found.append(check_capture(f, options.kernel, options.reader, _stopped, options.labelled, options.engine))
    return found


def check_part(options: Options, path: Path, k: int, parts: int) -> Part:
    """What the `k`th of `parts` processes finds in a capture, with the first frames of its connections."""
    report = FileReport(str(path))
    share = Share(k, parts)
    firsts = _check_into(
        report, path, options.kernel, options.reader, _stopped, options.labelled, share, options.engine
    )
    return report, firsts


def _warm() -> None:
    import refmodel.layers  # noqa: F401


def check_capture(
    path: Path,
    kernel: str = "",
    reader: str = "native",
    stop: Callable[[], bool] = _never,
    labelled: bool = False,
    engine: str = ORACLE,
) -> FileReport:
    """The verdicts on one capture. What cannot be read is in the report's `error`; nothing is raised for bad input.

    A file that becomes unreadable on the way, or that `stop()` ends, is judged as far as it was read.
    """
    _warm()
    report = FileReport(str(path))
    _check_into(report, path, kernel, reader, stop, labelled, WHOLE, engine)
    return report


def _check_into(
    report: FileReport,
    path: Path,
    kernel: str,
    reader: str,
    stop: Callable[[], bool],
    labelled: bool,
    share: Share,
    engine: str,
) -> list[int]:
    """Fills `report` with what falls to `share`; its connections' first frames come back, as in `check_frames`."""
    firsts: list[int] = []
    thresholds = gc.get_threshold()
    gc.set_threshold(GARBAGE, 5, 5)
    gc.freeze()  # what is there already is no garbage of this check
    try:
        setup = setup_for(path, kernel)
        report.profile = setup.kernel
        for h in setup.hosts:
            tcp_params(setup.profile_of(h))  # says which sysctl is out of its range
        sights: list[Sight] = []
        lost: list[int] = []
        frames = _frames(path, reader, report, stop, lost)
        frames = watch(frames, setup, sights) if setup.layer == "nic" else frames
        firsts = check_frames(frames, setup, report, labelled, share, engine)
        if sum(lost):
            lacking = f"the capture dropped {sum(lost)} frames, it says"
            report.verdicts = [doubted(v, lacking) for v in report.verdicts]
        if setup.layer == "nic" and share.part == 0:
            report.verdicts += check_beside(path, setup, None if stop() or report.error else sights)
    except NicLogError as log:
        report.error = report.error or str(log)
    except (CaptureError, SidecarError, UnknownProfile, OutOfRange) as why:
        report.error = str(why)
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
    return firsts


def _frames(path: Path, reader: str, report: FileReport, stop: Callable[[], bool], lost: list[int]) -> Iterator[Frame]:
    try:
        with PysharkReader(path) if reader == "pyshark" else Reader(path) as r:
            for f in r:
                if stop():
                    report.notices.append(f"interrupted: judged as far as frame {f.number - 1}")
                    break
                yield f
            report.notices += [str(n) for n in r.notices]
            lost += [i.dropped for i in r.interfaces if i.dropped]
            report.notices += [
                f"interface {i.name or k}: the capture dropped {i.dropped} frames"
                for k, i in enumerate(r.interfaces)
                if i.dropped
            ]
    except CaptureError as why:
        report.error = str(why)


def tcp_verdicts(frames: Iterable[Frame], setup: Setup, engine: str = ORACLE) -> list[Verdict]:
    """What one of the engines says of the TCP connections in `frames`, with every label."""
    report = FileReport("frames")
    check_frames(frames, setup, report, True, engine=engine)
    return [v for v in report.verdicts if v.layer == "tcp"]


def check_frames(
    frames: Iterable[Frame],
    setup: Setup,
    report: FileReport,
    labelled: bool = False,
    share: Share = WHOLE,
    engine: str = ORACLE,
) -> list[int]:
    """Distributes frames to the checkers of their connections and neighbours, and collects the verdicts.

    The first frames of the connections come back, in the order of their verdicts, which are the first in the report.
    `engine` decides who follows TCP: `oracle` with the whole of it, `rules` with the proved connection machine, which
    knows no loss recovery and searches all that may have happened: slower, and a second judge.
    """
    flows = Flows(setup, labelled, ENGINES[engine], share.parts == 1)
    neighbours = Taps(setup) if share.part == 0 else None
    datagrams = Datagrams(setup)
    cut = cuts(setup)
    shared = share.parts > 1
    count = last = 0
    passing = Passing(setup) if Passing.applies(setup) else None
    follow = flows.follow
    hear = neighbours.frame if neighbours is not None else None
    stamps = Stamps()
    sees = stamps.sees
    try:
        for f in frames:
            count += 1
            time, data, linktype = f.time, f.data, f.linktype
            sees(time)
            if time > last:
                last = time
            mine = not shared or share.sees(f)
            if not mine and hear is None:
                continue
            s = segment(f.number, time, data, linktype, f.orig_len)
            if s is None:
                icmp = may_be_icmp(data, linktype)
                if neighbours is not None or icmp:
                    packet = decode(data, linktype, f.orig_len)
                    if icmp and (told := fall(packet)) is not None:
                        flows.path_falls(told, time // 1000, f.interface)
                    if neighbours is not None:
                        neighbours.frame(f, packet)
                        datagrams.frame(f, packet)
                continue
            if hear is not None:
                hear(f, s)
            if cut:
                if neighbours is not None:
                    neighbours.counts[CUT] += 1
            elif mine:
                tap = f.interface if linktype == LINKTYPE_ETHERNET else tap_of(f.interface, linktype, data)
                follow(s, tap)
                if passing is not None:
                    passing.frame(s, tap)
    finally:
        report.frames += count
    last //= 1000
    judged = flows.finish(last, report.frames)
    if passing is not None:
        judged = passing.judged(judged)
    if flows.crowded_out:
        report.notices.append(
            f"{flows.crowded_out} connections were judged before their end: more than {MOST_OPEN} were open"
        )
    report.verdicts += [v for _, v in judged]
    if neighbours is not None:
        if neighbours.crowded:
            report.notices.append(
                f"of one link's neighbours {PARTIES} hosts and {WATCHES} entries were followed, no more"
            )
        assumed = None if setup.hosts or setup.extra.get("told", True) else flows.linux
        report.verdicts += neighbours.finish(last, assumed) + datagrams.finish()
    if not setup.hosts and (why := stamps.why_none()):
        report.notices.append(why)
    if share.parts == 1:
        doubt(report)
        none_modelled(report)
    return [n for n, _ in judged]
