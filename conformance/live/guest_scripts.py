"""Runs .pkt scripts on Debian's kernels, each batch in one guest with a steady clock.

The guest's clock counts instructions, so that a run's times do not depend on what else this machine does, and silence
costs nothing. It needs no root.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from conformance.live import guest
from conformance.live.pkt_kernel import Planned, plan
from conformance.pkt.outcome import Outcome
from conformance.pkt.variant import Variant

KERNELS: Final = ("6.1", "6.12")
MODULES: Final = ("tun", "tcp_bbr", "sch_fq", "tcp_diag", "udp_diag")
BINARIES: Final = ("ip", "tc", "ethtool", "ss")
MEMORY: Final = 2048
"""MB: with less, the kernel would give TCP less than its usual tcp_rmem and tcp_wmem (net/ipv4/tcp.c:tcp_init)."""
DONE: Final = "done"
BOOT: Final = 300.0
SECONDS_A_RUN: Final = 30.0
"""s of work that a run may take on an emulated CPU on average; most take about one."""

Outcomes = dict[Variant, Outcome]


@dataclass
class Batch:
    """On which kernel, in which variants, with which defines and tolerance scripts are run, as in pkt_kernel.plan."""

    version: str
    wanted: tuple[Variant, ...] = tuple(Variant)
    words: Mapping[str, str] = field(default_factory=dict)
    tolerance_usecs: int | None = None
    remember: bool = False


def run_scripts(
    paths: Sequence[Path], batch: Batch, guests: int = 1, told: Callable[[int, int], None] = lambda done, of: None
) -> dict[Path, Outcomes]:
    """How each script ends in each variant that it is meant for, on so many guests at once.

    `told` is called about once a second with how many runs are done, and of how many. A script for other kernels has
    no outcomes. Raises guest.GuestError if a guest fails, OSError for a script that cannot be read.
    """
    k = guest.kernel(batch.version)
    out: dict[Path, Outcomes] = {path: {} for path in paths}
    planned: list[tuple[Path, Planned]] = []
    for path in paths:
        runs, refused = plan(
            path, k.stable or k.release, batch.wanted, batch.words, batch.tolerance_usecs, batch.remember
        )
        if refused is not None:
            out[path][batch.wanted[0]] = refused
        planned += [(path, run) for run in runs]
    shares = [planned[n::guests] for n in range(min(guests, len(planned)))]
    with tempfile.TemporaryDirectory(prefix="refmodel-scripts-") as scratch, ThreadPoolExecutor(guests) as pool:
        folders = [Path(scratch) / str(n) for n in range(len(shares))]
        under_way = [
            pool.submit(_boot, k, [run for _, run in share], folder)
            for share, folder in zip(shares, folders, strict=True)
        ]
        while wait(under_way, timeout=1.0).not_done:
            told(sum(_size(folder / DONE) for folder in folders), len(planned))
        for share, made in zip(shares, under_way, strict=True):
            for (path, run), outcome in zip(share, made.result(), strict=True):
                out[path][run.job.variant] = outcome
    return {path: {v: found[v] for v in batch.wanted if v in found} for path, found in out.items()}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _boot(k: guest.Kernel, runs: Sequence[Planned], folder: Path) -> list[Outcome]:
    """The outcomes of runs in one guest, in their order; `folder` is for its files."""
    folder.mkdir()
    jobs = folder / "runs"
    jobs.write_bytes(msgspec.json.encode(runs))
    machine = guest.Machine(
        modules=dict.fromkeys(MODULES, ""),
        binaries=BINARIES,
        files={"runs": jobs},
        devices=("-serial", f"file:{folder / DONE}"),
        imports=("conformance.live.guest_play",),
        memory=MEMORY,
        seconds=BOOT + SECONDS_A_RUN * len(runs),
        steady=True,
    )
    command = "python3 -m conformance.live.guest_play /guest/runs /results/outcomes /dev/ttyS1"
    result = guest.boot(k, machine, command, folder / "results")
    path = result.folder / "outcomes"
    lines = path.read_bytes().splitlines() if path.exists() else []
    if result.status or len(lines) != len(runs):
        said = result.output.strip()[-1000:]
        raise guest.GuestError(f"the guest played {len(lines)} of {len(runs)} runs: {said}")
    return [msgspec.json.decode(line, type=Outcome) for line in lines]
