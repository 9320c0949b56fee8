"""`check --scheduler`: captures on the workers of a dask cluster, and what stands in the way of it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.traffic import write
from conformance.check import spread as spread_module
from conformance.check.capture import captures_in, check_all
from conformance.check.cluster import on_cluster
from conformance.check.options import Options
from conformance.check.spread import ClusterError
from tests import cli

pytest.importorskip("distributed", reason="dask is not installed: pip install 'refmodel[cluster]'")

FILES = captures_in(sorted(cli.CAPTURES.glob("tcp-*.pcapng")))[:40]


STARTS = """
import sys
from distributed import LocalCluster
with LocalCluster(n_workers=int(sys.argv[1]), threads_per_worker=1, dashboard_address=":0") as cluster:
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@contextmanager
def started(workers: int) -> Iterator[str]:
    """The address of a scheduler with so many workers, processes of this machine, while the context lasts."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTS, str(workers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A scheduler with two workers."""
    with started(2) as address:
        yield address


def test_a_cluster_says_what_one_process_says(cluster: str) -> None:
    assert list(check_all(FILES, scheduler=cluster)) == list(check_all(FILES, jobs=1))


def test_a_large_capture_is_shared_by_the_workers(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.pcapng"
    write(path, 30)
    monkeypatch.setattr(spread_module, "LARGE", 1)
    assert list(check_all([path, FILES[0]], scheduler=cluster)) == list(check_all([path, FILES[0]], jobs=1))


def test_a_capture_that_the_workers_cannot_read_has_that_as_its_error(cluster: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pcapng"
    empty.touch()
    gone, there = list(check_all([empty, FILES[0]], scheduler=cluster))
    assert "empty file" in gone.error
    assert not there.error


def test_a_check_that_the_user_stops_ends_in_order(cluster: str) -> None:
    found = [r.path for r in on_cluster(cluster, FILES, Options(), lambda: True)]
    assert found == [str(f) for f in FILES if str(f) in found]


def test_the_command_uses_a_scheduler(cluster: str) -> None:
    here = cli.told("check", *FILES[:3])
    assert cli.told("check", "--scheduler", cluster, *FILES[:3]) == here


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.check.cluster.PATIENCE", 0.5)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{s.getsockname()[1]}"
        assert f"no dask scheduler answers at {address}" in cli.told(
            "check", "--scheduler", address, FILES[0], status=2
        )


def test_a_scheduler_without_workers_is_said() -> None:
    with started(0) as address, pytest.raises(ClusterError, match="has no workers"):
        list(check_all(FILES[:1], scheduler=address))


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        return None if name == "distributed" else object()

    monkeypatch.setattr("conformance.check.cluster.find_spec", find)
    assert "refmodel[cluster]" in cli.told("check", "--scheduler", "tcp://127.0.0.1:1", FILES[0], status=2)
