"""Records a packet's walk in a guest: Debian's kernel, its function_graph tracer, and the e1000e driver.

`python -m conformance.live.guest_walk CASE... --out DIR [--kernel 6.1]` writes `<case>-<kernel>.walk.json.gz` for each
and `functions-<kernel>.txt.gz`, the functions which that kernel has out of line.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from conformance.live import guest
from conformance.live.guest_load import CARD_MAC, PEER_MAC
from conformance.live.walk_inside import CARD_CASES
from conformance.live.walk_record import CASES, write, write_functions
from conformance.live.walk_trace import KernelWalk

NETFILTER: Final = (
    *(
        "crc32c_generic",
        "ip_tables",
        "iptable_filter",
        "iptable_nat",
        "nf_conntrack",
        "nf_nat",
        "xt_MASQUERADE",
        "xt_nat",
        "xt_tcpudp",
    ),
)

FILTERING: Final = ("masquerade", "dnat", "filtered")
"""The cases that need them: they are recorded in a guest of their own, since loaded hooks show in every walk."""


def record_walks(names: Sequence[str], version: str, seconds: float = 900.0) -> tuple[list[KernelWalk], list[str]]:
    """The walks of these cases on Debian's kernel `version`, and its functions; raises guest.GuestError."""
    k = guest.kernel(version)
    card = bool(set(names) & set(CARD_CASES))
    throttle = 100 if "card_full" in names else 3
    modules = {"veth": "", "tun": ""} | (dict.fromkeys(NETFILTER, "") if set(names) & set(FILTERING) else {})
    if card:
        modules = {"e1000e": f"InterruptThrottleRate={throttle}", "virtio_net": ""}
    with tempfile.TemporaryDirectory(prefix="refmodel-walk-") as scratch:
        machine = guest.Machine(
            modules=modules,
            binaries=("ip", "tc", "ethtool", "iptables-legacy"),
            files={f"xtables/{p.name}": p for p in Path("/usr/lib/x86_64-linux-gnu/xtables").glob("lib*.so")},
            devices=_card() if card else (),
            imports=("conformance.live.walk_inside",),
            memory=1024,
            seconds=seconds,
            append="lsm=capability",  # hooks of AppArmor or SELinux would show in every walk
        )
        command = f"XTABLES_LIBDIR=/guest/xtables python3 -m conformance.live.walk_inside {' '.join(names)}"
        result = guest.boot(k, machine, command, Path(scratch) / "results")
        if result.status:
            raise guest.GuestError(f"the guest could not record: {result.output.strip()[-1500:]}")
        walks = [KernelWalk.from_json((result.folder / f"{n}.walk.json").read_bytes()) for n in names]
        functions = (result.folder / "functions.txt").read_text().splitlines()
    return [replace(w, release=k.stable or k.release) for w in walks], functions


def _card() -> tuple[str, ...]:
    return (
        *("-netdev", "hubport,id=n0,hubid=0", "-netdev", "hubport,id=n1,hubid=0"),
        *("-device", f"e1000e,netdev=n0,mac={CARD_MAC}", "-device", f"virtio-net-pci,netdev=n1,mac={PEER_MAC}"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit status 0 all recorded, 1 the guest failed, 2 usage or a tool is missing."""
    parser = argparse.ArgumentParser(prog="guest_walk", description="Record a packet's walk in a guest.")
    parser.add_argument("cases", nargs="*", help="cases; without any, they are listed")
    parser.add_argument("--out", type=Path, default=Path("captures/walks"), help="where to write")
    parser.add_argument("--kernel", default="6.12", choices=("6.1", "6.12"), help="the guest's kernel (default: 6.12)")
    args = parser.parse_args(argv)
    every = {**CASES, **CARD_CASES}
    if not args.cases:
        for name, case in every.items():
            print(f"{name:20} {case.__doc__}")
        return 0
    unknown = [n for n in args.cases if n not in every]
    lacking = guest.missing_tools()
    if unknown or lacking:
        why = f"no case is named {', '.join(unknown)}" if unknown else f"guests need {'; '.join(lacking)}"
        print(f"guest_walk: {why}", file=sys.stderr)
        return 2
    groups = [[n for n in args.cases if n in some] for some in (FILTERING, CARD_CASES)]
    groups.append([n for n in args.cases if not any(n in g for g in groups)])
    try:
        done = [record_walks(g, args.kernel) for g in groups if g]
    except guest.GuestError as e:
        print(f"guest_walk: {e}", file=sys.stderr)
        return 1
    for w in (w for walks, _ in done for w in walks):
        print(write(w, args.out), len(w.calls), "calls", flush=True)
    write_functions(sorted({f for _, functions in done for f in functions}), args.kernel, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
