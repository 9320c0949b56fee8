"""The IP differential in a guest: the model against Debian's kernels 6.1 and 6.12."""

import tempfile
from pathlib import Path
from typing import Final

import click

from conformance.live import guest

MODULES: Final = ("tun", "veth", "crc32c_generic", "nf_tables")
BOOT: Final = 120.0
SECONDS_A_PACKET: Final = 0.3


def in_guest(version: str, n: int, sends: int, seed: int, out: Path) -> guest.Result:
    """Runs the differential on an emulated machine with that kernel; `out` gets what it leaves."""
    machine = guest.Machine(
        modules=dict.fromkeys(MODULES, ""),
        binaries=("ip", "nft"),
        imports=("conformance.differential.ip",),
        memory=1024,
        seconds=BOOT + SECONDS_A_PACKET * (n + sends) + 60,
        steady=True,
    )
    call = f"raise SystemExit(not everything({n}, {sends}, False, {seed}))"
    command = f"python3 -c 'from conformance.differential.ip import everything; {call}'"
    return guest.boot(guest.kernel(version), machine, command, out)


@click.command()
@click.option("--kernel", default="6.12", type=click.Choice(["6.1", "6.12"]), help="Which of Debian's kernels.")
@click.option("--n", default=400, help="How many packets.")
@click.option("--sends", default=100, help="How many datagrams the router sends itself.")
@click.option("--seed", default=1, help="Which packets.")
def main(kernel: str, n: int, sends: int, seed: int) -> None:
    """Compares IPv4 of the model with a kernel's in a guest."""
    with tempfile.TemporaryDirectory(prefix="refmodel-ip-") as scratch:
        result = in_guest(kernel, n, sends, seed, Path(scratch) / "results")
    click.echo(result.output[-4000:])
    raise SystemExit(result.status)


if __name__ == "__main__":
    main()
