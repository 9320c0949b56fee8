"""Many captures, and the parts of large ones, on the processes of a pool: this machine's, or a cluster's.

The law: reports come in the order of the files, whatever is done first. Small files travel in batches, since handing
one over costs more than checking it; a large one is shared by all processes (conformance.check.flows.Share). When the
user stops the check, what was done stays, what has begun is ended, and nothing more begins.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

from conformance.check.lacking import doubt
from conformance.check.verdict import FileReport, Outcome, Verdict

LARGE: Final = 8 << 20  # bytes: a file from here on is worth several processes
BATCH: Final = 16  # files that travel together, at most
BATCH_BYTES: Final = 2 << 20  # the same by their sizes
POLL: Final = 0.2  # s

Part = tuple[FileReport, list[int]]  # what one process found in a file, and the first frames of its connections
Check = Callable[[Sequence[Path]], list[FileReport]]
CheckPart = Callable[[Path, int, int], Part]


class ClusterError(Exception):
    """A scheduler that cannot be used, and why."""


class Work:
    """Files that were handed over: one `future` for a batch of whole files, several for the parts of one."""

    def __init__(self, files: Sequence[Path], futures: Sequence[Future[Any]]) -> None:
        self.files, self.futures = files, futures

    def reports(self, lost: tuple[type[BaseException], ...]) -> list[FileReport]:
        """What was found; a file whose process was lost (`lost`: how that shows) has that as its error."""
        try:
            results = [f.result() for f in self.futures]
        except CancelledError:
            return []
        except lost as why:
            return [FileReport(str(p), error=f"{p}: not checked: {str(why) or type(why).__name__}") for p in self.files]
        if len(self.futures) == 1:
            found: list[FileReport] = results[0]
            return found
        return [joined(results)]


def none_modelled(report: FileReport) -> None:
    """Says of a capture that nothing in it can be judged, if that is so."""
    if not report.frames and not report.error:
        report.error = f"{report.path}: no frames: nothing to check"
    elif report.frames and not report.verdicts:
        why = f"none of the {report.frames} frames belongs to a modelled layer"
        report.verdicts.append(Verdict("capture", "", Outcome.NOT_MODELLED, why))


def joined(parts: Sequence[Part]) -> FileReport:
    """One report of the parts of a file; the first has what is not TCP's, and all that is said of the file."""
    report, firsts = parts[0]
    connections = [x for r, numbers in parts for x in zip(numbers, r.verdicts, strict=False)]
    others = report.verdicts[len(firsts) :]
    report.verdicts = [v for _, v in sorted(connections, key=lambda x: x[0])] + others
    report.notices += [n for r, _ in parts[1:] for n in r.notices if n not in report.notices]
    doubt(report)
    none_modelled(report)
    return report


def handed(pool: Executor, files: Sequence[Path], processes: int, whole: Check, part: CheckPart) -> list[Work]:
    """Hands all files over, in order."""
    work: list[Work] = []
    batch: list[Path] = []
    size = 0

    def close() -> None:
        nonlocal size
        if batch:
            work.append(Work(tuple(batch), [pool.submit(whole, tuple(batch))]))
            batch.clear()
            size = 0

    most = max(1, min(BATCH, len(files) // (4 * processes)))
    for p in files:
        n = p.stat().st_size if p.exists() else 0
        if n >= LARGE and processes > 1:
            close()
            work.append(Work((p,), [pool.submit(part, p, k, processes) for k in range(processes)]))
            continue
        batch.append(p)
        size += n
        if len(batch) >= most or size >= BATCH_BYTES:
            close()
    close()
    return work


def spread(
    pool: Executor,
    files: Sequence[Path],
    processes: int,
    whole: Check,
    part: CheckPart,
    stop: Callable[[], bool],
    stopping: Callable[[], None],
    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,),
) -> Iterator[FileReport]:
    """The reports on `files`, in order, by a pool of so many `processes`.

    `whole` checks files, `part` one part of several of a file. Once `stop()` says so, `stopping()` is called, nothing
    new begins, and the reports of what is done or ends now still come.
    """
    work = handed(pool, files, processes, whole, part)
    stopped = False
    for k, w in enumerate(work):
        while not stopped:
            if stop():
                stopped = True
                stopping()
                for later in work[k:]:
                    for f in later.futures:
                        f.cancel()
            elif not wait(w.futures, POLL).not_done:
                break
        yield from w.reports(lost)
