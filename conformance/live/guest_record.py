"""Runs the recorder inside guests, so that the same scenarios are captured under other kernels.

`python -m conformance.live.guest_record SCENARIO... --kernel 6.1 --out DIR` boots the kernel once for all scenarios;
each capture's name ends in the kernel's version.
"""

import argparse
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from conformance.live import guest
from conformance.live.scenarios import registry

MODULES: Final = (
    *("crc32c_generic", "veth", "tun", "bridge", "nf_tables", "nft_numgen", "nft_limit"),
    *("nft_reject_ipv4", "nft_reject_ipv6", "nft_reject_inet"),
)
"""nf_tables needs a crc32c that its dependencies do not name: the kernel would ask modprobe for it."""

WARM_UP: Final = "tcp-active-open"
"""Recorded first and thrown away: code that runs for the first time is translated first, which takes tens of ms."""

BINARIES: Final = ("ip", "tcpdump", "nft", "ethtool")


def record(names: Sequence[str], outdir: Path, version: str, seconds: float) -> tuple[list[Path], str]:
    """Records the scenarios `names` under Debian's kernel `version`; gives the captures and what the recorder said.

    A scenario that failed has no capture and a line in what was said. Raises guest.GuestError if the guest fails.
    """
    k = guest.kernel(version)
    machine = guest.Machine(modules=dict.fromkeys(MODULES, ""), binaries=BINARIES, seconds=seconds)
    command = (
        "export REFMODEL_SETTLE=5\n"
        f"python3 -m conformance.live.record {WARM_UP} --out /tmp/warm-up\n"
        f"python3 -m conformance.live.record {shlex.join(names)} --out /results/captures --suffix -{version}"
    )
    with tempfile.TemporaryDirectory(prefix="refmodel-record-") as scratch:
        result = guest.boot(k, machine, command, Path(scratch))
        made = sorted((Path(scratch) / "captures").glob("*"))
        outdir.mkdir(parents=True, exist_ok=True)
        for path in made:
            shutil.copyfile(path, outdir / path.name)
        return [outdir / p.name for p in made if p.suffix == ".pcapng"], result.output


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0 all recorded, 1 a scenario or the guest failed, 2 usage or a tool is missing."""
    parser = argparse.ArgumentParser(prog="guest_record", description="Record captures of other kernels, in guests.")
    parser.add_argument("names", nargs="+", help="scenarios, as `python -m conformance.live.record` lists them")
    parser.add_argument("--kernel", default="6.1", choices=("6.1", "6.12"), help="the guest's kernel (default: 6.1)")
    parser.add_argument("--out", type=Path, default=Path("captures"), help="where to write (default: captures)")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long the guest may live (default: 600)")
    args = parser.parse_args(argv)
    known = registry.load()
    unknown = [n for n in args.names if n.replace("-", "_") not in known]
    lacking = guest.missing_tools()
    if unknown or lacking:
        why = f"no scenario is named {', '.join(unknown)}" if unknown else f"guests need {'; '.join(lacking)}"
        print(f"guest_record: {why}", file=sys.stderr)
        return 2
    try:
        made, said = record(args.names, args.out, args.kernel, args.seconds)
    except guest.GuestError as e:
        print(f"guest_record: {e}", file=sys.stderr)
        return 1
    for path in made:
        print(path)
    complaints = [line for line in said.splitlines() if line.startswith("record:") or "Error" in line]
    print("\n".join(complaints), file=sys.stderr)
    return 0 if len(made) == len(args.names) else 1


if __name__ == "__main__":
    sys.exit(main())
