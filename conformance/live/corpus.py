"""Records the corpus: random workloads under three kernels, several at a time, and an index of what came of them.

`python -m conformance.live.corpus --out build/corpus` records the running kernel and, in guests, Debian's 6.1 and 6.12.
What is there already is not recorded again. `index.json` lists every recording of the folder.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from types import FrameType
from typing import Any, Final

from conformance.live import guest, sidecar
from conformance.live.guest_record import BINARIES, MODULES
from conformance.live.lab import QUIET_V6
from conformance.live.workload_net import OF_THE_MACHINE
from conformance.live.workload_run import CONGESTION, profile_of

GUEST_MODULES: Final = (
    *MODULES,
    *("sch_netem", "sch_tbf", "tcp_bbr", "nft_chain_nat", "nft_masq", "nft_nat", "nft_ct"),
)
GUEST_BINARIES: Final = (*BINARIES, "tc")
BULK: Final = (
    *(537, 1147, 1163, 1691, 1765, 1882, 2139, 2144, 2272, 2438, 2750, 2765, 2858, 3047, 3157, 3213, 3295),
    *(3325, 3366, 3785, 3936, 3951, 4280, 5321, 5333, 5428, 5962),
)
"""The seeds from 500 to 6000 whose flows send more than 2 MB."""
SEEDS: Final = {"6.18": (*range(0, 140), *BULK), "6.1": range(200, 300), "6.12": range(300, 400)}
"""The default seeds: other workloads under each kernel, so that together they cover more."""
BIGGEST: Final = 60_000  # bytes of a file that is shipped
IN_EACH: Final = {*OF_THE_MACHINE, CONGESTION, *QUIET_V6, "net.ipv6.conf.default.disable_ipv6"}
"""Sysctls that every recording sets or notes."""
AT_A_TIME: Final = 12  # seeds of one boot of a guest


def record_here(seeds: Sequence[int], outdir: Path, jobs: int, say: Callable[[str], None]) -> None:
    """Records `seeds` under the running kernel in `jobs` processes; `say` gets a line for each recording or failure."""
    outdir.mkdir(parents=True, exist_ok=True)
    shares = [[str(s) for s in seeds[n::jobs]] for n in range(jobs)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "conformance.live.workload_run", *share, "--out", str(outdir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for share in shares
        if share
    ]

    def listen(p: subprocess.Popen[str]) -> None:
        assert p.stdout is not None
        for line in p.stdout:
            say(line.rstrip())

    threads = [threading.Thread(target=listen, args=(p,)) for p in processes]
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        for p in processes:
            p.terminate()
            p.wait()


def record_in_guest(
    module: str,
    version: str,
    outdir: Path,
    seconds: float,
    say: Callable[[str], None],
    binaries: Sequence[str] = (),
) -> None:
    """Runs the recorder `module` (with its arguments) under Debian's kernel `version` in one boot of a guest.

    Its recordings go to `outdir`, what it said to `say`, a line at a time. The guest has `binaries` of this machine
    besides the recorder's. Its clock counts instructions and jumps over idle time, so that its timers are as punctual
    as a machine's. Raises guest.GuestError.
    """
    machine = guest.Machine(
        modules=dict.fromkeys(GUEST_MODULES, ""),
        binaries=(*GUEST_BINARIES, *binaries),
        seconds=seconds,
        memory=1024,
        steady=True,
    )
    command = f"python3 -m {module} --out /results/captures"
    with tempfile.TemporaryDirectory(prefix="refmodel-corpus-") as scratch:
        result = guest.boot(guest.kernel(version), machine, command, Path(scratch))
        outdir.mkdir(parents=True, exist_ok=True)
        for path in sorted((Path(scratch) / "captures").glob("*-*")):
            shutil.copyfile(path, outdir / path.name)
        for line in result.output.splitlines():
            say(line)


def missing(version: str, seeds: Sequence[int], outdir: Path) -> list[int]:
    """Those of `seeds` that `outdir` has no recording of."""
    return [s for s in seeds if not (outdir / f"random-{version}-{s}.toml").exists()]


def index(outdir: Path) -> list[dict[str, Any]]:
    """Writes `index.json`: a line for each recording of the folder, from its sidecar; gives what it wrote."""
    rows = []
    for path in sorted(outdir.glob("*.toml")):
        s = sidecar.read(path)
        capture = path.with_suffix(".pcapng.gz")
        rows.append(
            {
                "case": s.case,
                "kernel": s.kernel.profile,
                "bytes": capture.stat().st_size,
                "sidecar_bytes": path.stat().st_size,
                "offloads": sorted(k for k, v in s.offloads.items() if v) or ["none"],
                "sysctls": sorted({k for h in s.hosts for k in h.sysctls if k not in IN_EACH}),
                "vantage": s.vantage.kind,
                "says": s.says,
                **{k: s.extra["taps"][k] for k in ("interfaces", "hosts", "frames", "snaplen", "start")},
                **s.extra["workload"],
                "drops": {k: v for k, v in s.extra["drops"].items() if v},
            }
        )
    (outdir / "index.json").write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n", encoding="utf-8")
    return rows


def _stop(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def features(row: Mapping[str, Any]) -> set[str]:
    """What a recording shows, by which a choice is made."""
    found = {
        f"{k} {row[k]}" for k in ("topology", "congestion", "family", "snaplen", "start", "nat", "mtu", "path_mtu")
    }
    found |= {f"{k} {v}" for k in ("kinds", "interfaces", "offloads", "sysctls") for v in row[k]}
    found |= {f"drops {place}" for place in row["drops"] if "passed" not in place}
    found |= {" ".join(w for w in i.split() if w[0].isalpha()) for i in row["impairments"]}
    return found


def choose(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """`count` of the recordings that are small enough to ship, as many of each kernel, which show as much as possible.

    One after another that is taken which shows most of what those before it show least.
    """
    left = sorted(
        (r for r in rows if r["frames"] and max(r["bytes"], r["sidecar_bytes"]) < BIGGEST), key=itemgetter("case")
    )
    kernels = sorted({r["kernel"] for r in left})
    seen: Counter[str] = Counter()
    chosen: list[Mapping[str, Any]] = []
    while len(chosen) < count and left:
        kernel = kernels[len(chosen) % len(kernels)]
        fitting = [r for r in left if r["kernel"] == kernel] or left
        best = max(fitting, key=lambda r: sum(1 / (1 + seen[f]) ** 2 for f in features(r)) / (1 + r["bytes"] / BIGGEST))
        left.remove(best)
        seen.update(features(best))
        chosen.append(best)
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0 all recorded, 1 something failed."""
    parser = argparse.ArgumentParser(prog="corpus", description="Record the corpus of random workloads.")
    parser.add_argument("--out", type=Path, default=Path("build/corpus"), help="where to write (default: build/corpus)")
    parser.add_argument("--kernel", action="append", choices=("here", "6.1", "6.12"), help="only this one; repeatable")
    parser.add_argument("--seeds", help="FIRST-LAST instead of the kernel's own, for instance 0-9")
    parser.add_argument("--jobs", type=int, default=3, help="recordings at a time, under the running kernel")
    parser.add_argument("--seconds", type=float, default=1500.0, help="how long a guest may live (default: 1500)")
    parser.add_argument("--ship", type=Path, help="record nothing: copy a hundred small ones of --out into this folder")
    args = parser.parse_args(argv)
    if args.ship is not None:
        args.ship.mkdir(parents=True, exist_ok=True)
        for row in choose(index(args.out), 102):
            for end in (".toml", ".pcapng.gz"):
                shutil.copyfile(args.out / f"{row['case']}{end}", args.ship / f"{row['case']}{end}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    failed = 0

    def say(line: str) -> None:
        print(line, flush=True)

    for name in args.kernel or ("here", "6.1", "6.12"):
        version = profile_of_this_machine() if name == "here" else name
        seeds: Sequence[int] = SEEDS.get(version, SEEDS["6.18"])
        if args.seeds:
            first, last = args.seeds.split("-")
            seeds = range(int(first), int(last) + 1)
        wanted = missing(version, seeds, args.out)
        if name == "here":
            record_here(wanted, args.out, args.jobs, say)
        else:
            for at in range(0, len(wanted), AT_A_TIME):
                seeds_now = shlex.join(str(n) for n in wanted[at : at + AT_A_TIME])
                try:
                    module = f"conformance.live.workload_run {seeds_now}"
                    record_in_guest(module, version, args.out, args.seconds, say)
                except guest.GuestError as e:
                    print(f"corpus: {version}: {e}", file=sys.stderr)
        failed += len(missing(version, seeds, args.out))
    rows = index(args.out)
    print(f"{len(rows)} recordings in {args.out}; {failed} wanted ones failed")
    return 1 if failed else 0


def profile_of_this_machine() -> str:
    """The running kernel's profile, which names its recordings."""
    return profile_of(os.uname().release)


if __name__ == "__main__":
    sys.exit(main())
