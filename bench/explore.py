"""How fast the explore engine searches two TCP machines and a wire: states and moves a second, bytes a state.

    python bench/explore.py [states] [workers ...]      (default: 5000000 states, 1 and then 2 workers)

A hundred million states need about 5 GB and three minutes: python bench/explore.py 100000000 1
"""

import resource
import sys

from refmodel.engine.explore import Progress, explore
from refmodel.tcp.systems import two_tcps


def tell(p: Progress) -> None:
    if sys.stderr.isatty():
        print(f"\r  {p.states:,} states, depth {p.depth}, {p.rate:,.0f}/s", end="", file=sys.stderr)


def main() -> None:
    states = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    workers = [int(w) for w in sys.argv[2:]] or [1, 2]
    first = 0.0
    for w in workers:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        r = explore(two_tcps(writes=2, closes=2, timers=2), max_states=states, workers=w, progress=tell)
        cpu = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        rate = r.states / r.seconds
        first = first or rate
        print(
            f"{w} worker(s): {r.states:,} states, {r.edges:,} moves in {r.seconds:.1f} s ({cpu:.1f} s of processor): "
            f"{rate:,.0f} states/s, {r.edges / r.seconds:,.0f} moves/s, {rate / first:.2f} times the first; "
            f"peak {peak / 1e9:.2f} GB, {peak / r.states:.0f} bytes a state; {r.stopped} after {r.depth} levels"
        )


if __name__ == "__main__":
    main()
