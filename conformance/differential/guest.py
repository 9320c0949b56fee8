"""The differentials of GRO, IPv4 and IPv6 in a guest: Debian's 6.1 or 6.12 instead of the running kernel.

`python -m conformance.differential.guest gro --kernel 6.1 --n 500` boots the guest, runs the differential in it, and
prints what it said.
"""

import tempfile
from pathlib import Path
from typing import Final

import click

from conformance.live import guest

MODULES: Final = {
    "gro": ("veth",),
    "ip": ("veth", "tun", "crc32c_generic", "nf_tables", "nft_ct"),
    "ip6": ("veth", "crc32c_generic", "nf_tables"),
}
BINARIES: Final = ("ip", "ethtool", "nft", "unshare", "mount")
BOOT: Final = 400.0
SECONDS_A_ROUND: Final = 1.5


def run_in_guest(name: str, version: str, n: int, seed: int) -> tuple[int, str]:
    """Runs the differential `name` in a guest with Debian's kernel `version`: its exit status and what it printed.

    Raises guest.GuestError if the guest fails.
    """
    k = guest.kernel(version)
    machine = guest.Machine(
        modules=dict.fromkeys(MODULES[name], ""),
        binaries=BINARIES,
        imports=(f"conformance.differential.{name}",),
        memory=1024,
        seconds=BOOT + SECONDS_A_ROUND * n,
    )
    command = f"python3 -m conformance.differential.{name} --n {n} --seed {seed} --no-progress"
    with tempfile.TemporaryDirectory(prefix="refmodel-differential-") as scratch:
        result = guest.boot(k, machine, command, Path(scratch) / "results")
    return result.status, result.output


@click.command()
@click.argument("name", type=click.Choice(sorted(MODULES)))
@click.option("--kernel", default="6.12", type=click.Choice(["6.1", "6.12"]), help="The guest's kernel.")
@click.option("--n", default=300, help="Sequences or packets.")
@click.option("--seed", default=1, help="Of the random input.")
def main(name: str, kernel: str, n: int, seed: int) -> None:
    """Runs a differential in a guest."""
    status, output = run_in_guest(name, kernel, n, seed)
    click.echo(output)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
