"""Captures checked by the workers of a dask cluster; needs the extra `cluster`.

Each worker must have this project installed, and find the captures and their sidecars under the same names as here, as
on a shared file system. A worker with one thread checks fastest: `dask worker ADDRESS --nthreads 1 --nworkers auto`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from conformance.check.capture import check_files, check_part
from conformance.check.options import Options
from conformance.check.spread import ClusterError, spread
from conformance.check.verdict import FileReport

PATIENCE: Final = 10  # s until a scheduler must have answered


def on_cluster(address: str, files: Sequence[Path], options: Options, stop: Callable[[], bool]) -> Iterator[FileReport]:
    """The reports on `files`, in order, by the workers of the dask scheduler at `address`; raises ClusterError.

    Once `stop()` says so, what no worker has begun is left, and what is done is still reported.
    """
    if find_spec("distributed") is None:
        raise ClusterError("--scheduler needs dask: pip install 'refmodel[cluster]'")
    from distributed import CancelledError, Client, KilledWorker
    from distributed.comm import CommClosedError

    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, ImportError) as why:
        raise ClusterError(f"no dask scheduler answers at {address}: {why}") from why
    with client:
        processes = _workers(client, address)
        pool = client.get_executor(pure=False, retries=1)
        whole, part = partial(check_files, options), partial(check_part, options)
        named = {str(f.absolute()): f for f in files}
        lost = (KilledWorker, CommClosedError, CancelledError)
        for r in spread(pool, [f.absolute() for f in files], processes, whole, part, stop, _nothing, lost):
            r.path = str(named[r.path])
            yield r


def _workers(client: Any, address: str) -> int:
    """How many processes and threads a cluster has; raises ClusterError if it has none, or none that can check."""
    threads = sum(client.nthreads().values())
    if not threads:
        raise ClusterError(f"the dask scheduler at {address} has no workers")
    try:
        missing = [where for where, there in client.run(_installed).items() if not there]
    except (ImportError, RuntimeError) as why:
        raise ClusterError(f"the workers of {address} cannot check: {why}") from why
    if missing:
        raise ClusterError(f"refmodel is not installed on {', '.join(missing)}")
    return int(threads)


def _installed() -> bool:
    return find_spec("conformance.check.capture") is not None


def _nothing() -> None:
    """What a worker has begun it ends."""
