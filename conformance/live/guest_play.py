"""In a guest: plays .pkt scripts on its kernel, one after the other, and writes down how each ended.

`python -m conformance.live.guest_play RUNS OUTCOMES DONE` reads a list of Planned and writes one Outcome a line, in
order; for each it writes a byte to the serial line DONE. Each run is a process forked from this one, which has imported
everything: an emulated CPU imports slowly.
"""

import gc
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from conformance.live.pkt_kernel import Planned, put_back, still_running
from conformance.live.pkt_kernel_run import alone
from conformance.pkt.outcome import UNAVAILABLE, Outcome

SETTLE: Final = 0.05  # s between two runs, in which the kernel takes down the first one's namespace
AGE: Final = 430.0
"""s of uptime before the first run. Jiffies begin 300 s before their lower half wraps (INITIAL_JIFFIES); for the 120 s
after that a new listener seems to have overflowed lately (include/net/tcp.h:tcp_synq_no_recent_overflow)."""


def play(run: Planned) -> Outcome:
    """Makes a run in a process of its own."""
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(mine)
            with open(theirs, "wb") as out:
                out.write(msgspec.json.encode(alone(run.job)))
            status = 0
        finally:
            if status:
                sys.excepthook(*sys.exc_info())
            os._exit(status)
    os.close(theirs)
    end = time.monotonic() + run.limit
    said = b""
    with open(mine, "rb", buffering=0) as answer:
        while True:
            if not select.select([answer], [], [], max(end - time.monotonic(), 0.0))[0]:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return still_running(run)
            part = answer.read(1 << 20)
            if not part:
                break
            said += part
    status = os.waitpid(child, 0)[1]
    if status or not said:
        return Outcome(UNAVAILABLE, 0, f"{run.job.name}: the run ended without a result, with status {status}")
    return msgspec.json.decode(said, type=Outcome)


def main() -> None:
    """Plays what the first argument lists and appends to the second argument's file."""
    time.sleep(max(AGE - time.clock_gettime(time.CLOCK_BOOTTIME), 0.0))
    gc.freeze()  # what is imported stays, and is not looked through again by each run
    runs = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=list[Planned])
    with Path(sys.argv[2]).open("ab", buffering=0) as out, Path(sys.argv[3]).open("wb", buffering=0) as done:
        for first in runs[:1]:  # once for nothing: the first of all pays for code that nobody used yet
            with put_back(first.parameters):
                play(first)
            time.sleep(SETTLE)
        for run in runs:
            with put_back(run.parameters):
                out.write(msgspec.json.encode(play(run)) + b"\n")
            done.write(b".")
            time.sleep(SETTLE)


if __name__ == "__main__":
    main()
