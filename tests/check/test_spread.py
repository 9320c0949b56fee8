"""How files are handed to the processes of a pool, and in which order their reports come back."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from conformance.check import spread as spread_module
from conformance.check.capture import captures_in, check_all
from conformance.check.spread import Part, handed, spread
from conformance.check.verdict import FileReport
from tests import cli


class Slow(Executor):
    """A pool that does what it is told to when the test says so."""

    def __init__(self) -> None:
        self.work: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kw: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.work.append((future, lambda: fn(*args, **kw)))
        return future

    def does(self, k: int) -> None:
        """Does the work that was handed over as the `k`th."""
        future, run = self.work[k]
        if future.set_running_or_notify_cancel():
            future.set_result(run())


def whole(files: Sequence[Path]) -> list[FileReport]:
    return [FileReport(str(f), frames=1, error="bad") for f in files]


def part(path: Path, k: int, parts: int) -> Part:
    return FileReport(str(path), frames=1, error=f"part {k} of {parts}"), []


def never() -> bool:
    return False


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Five files, the third of which is large."""
    found = [tmp_path / f"{k}.pcap" for k in range(5)]
    for k, p in enumerate(found):
        p.write_bytes(bytes(10 if k != 2 else 2000))
    return found


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_module, "LARGE", 1000)
    monkeypatch.setattr(spread_module, "POLL", 0.001)


def test_small_files_travel_in_batches_and_a_large_one_in_parts(files: list[Path]) -> None:
    work = handed(Slow(), files * 8, 2, whole, part)
    assert [len(w.files) for w in work[:5]] == [2, 1, 4, 1, 4]
    assert [len(w.futures) for w in work[:5]] == [1, 2, 1, 2, 1]
    assert [f for w in work for f in w.files] == files * 8


def test_reports_come_in_the_order_of_the_files(files: list[Path]) -> None:
    pool = Slow()

    def stop() -> bool:
        for k in reversed(range(len(pool.work))):
            if not pool.work[k][0].done():
                pool.does(k)
        return False

    reports = spread(pool, files, 2, whole, part, stop, lambda: None)
    assert [r.path for r in reports] == [str(f) for f in files]


def test_what_is_done_when_the_user_stops_is_reported_and_nothing_more_begins(files: list[Path]) -> None:
    pool, told = Slow(), list[str]()

    def stop() -> bool:
        pool.does(0)
        pool.does(4)
        return True

    reports = list(spread(pool, files, 2, whole, part, stop, lambda: told.append("ends")))
    assert [Path(r.path).name for r in reports] == ["0.pcap", "3.pcap"]
    assert told == ["ends"]
    assert pool.work[5][0].cancelled()


def test_a_process_that_dies_is_the_error_of_its_files(files: list[Path]) -> None:
    pool = Slow()

    def stop() -> bool:
        for k, (future, _) in enumerate(pool.work):
            if k == 1 and not future.done():
                future.set_exception(BrokenProcessPool("it was killed"))
            elif not future.done():
                pool.does(k)
        return False

    errors = [r.error for r in spread(pool, files, 2, whole, part, stop, lambda: None)]
    assert "1.pcap: not checked: it was killed" in errors[1]
    assert errors[0] == "bad"
    assert errors[2] == "part 0 of 2"


def test_a_folder_of_captures_is_judged_the_same_by_several_processes() -> None:
    found = captures_in(sorted(cli.CAPTURES.glob("tcp-*.pcapng")))[:20]
    assert list(check_all(found, jobs=2)) == list(check_all(found, jobs=1))
