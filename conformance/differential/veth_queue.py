"""A veth's transmit queue that stands: each queue is filled, the other end polls, and what still waits is counted.

Frames of different EtherTypes have different flow hashes and so go to different queues; which, the tracepoint tells.
"""

import re
import time
from typing import Final

import click

from conformance.differential.gro import real_time
from conformance.differential.qdisc import look, run
from conformance.differential.qdisc_veth import RING, Pair
from conformance.live.errors import LabUnavailable
from conformance.live.ktrace import Pipe, follow

MAPPING: Final = re.compile(r"queue_mapping=(\d+)")
TYPES: Final = range(0x88B0, 0x8900)
MORE: Final = 20


def queue_of(pair: Pair, pipe: Pipe, wanted: int) -> int:
    """An EtherType whose frames go to the queue `wanted`; raises LabUnavailable if there is none."""
    for kind in TYPES:
        pipe.new()
        pair.tx.sendto(bytes(60), (pair.name, kind, 0, 0, b"\xff" * 6))
        found = [int(m[1]) for _, text in pipe.new() if (m := MAPPING.search(text))]
        if wanted in found:
            return kind
    raise LabUnavailable(f"no EtherType goes to queue {wanted}")


def left_behind(queue: int, wait: float = 0.5) -> int:
    """How many packets still wait `wait` seconds after the other end had time to poll.

    Raises LabUnavailable without root, veth, threaded NAPI or a tracepoint.
    """
    try:
        pair = Pair(2, all_used=True)
    except PermissionError as e:
        raise LabUnavailable("namespaces need root") from e
    try:
        with pair.left.inside(), follow({"net/net_dev_start_xmit": f'name == "{pair.name}"'}) as pipe:
            run("tc", "qdisc", "replace", "dev", pair.name, "root", "handle", "1:", "pfifo", "limit", "1000")
            kind = queue_of(pair, pipe, queue)
            with real_time(pair.cpu):
                for _ in range(RING + MORE):
                    pair.tx.sendto(bytes(60), (pair.name, kind, 0, 0, b"\xff" * 6))
            time.sleep(wait)
            return look(pair.name).qlen
    finally:
        pair.close()


@click.command()
def main() -> None:
    """Tells for both queues of a veth how many packets are left behind."""
    for queue in (0, 1):
        click.echo(f"queue {queue}: {left_behind(queue)} packets still wait")


if __name__ == "__main__":
    main()
