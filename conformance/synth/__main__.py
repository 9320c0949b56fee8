"""`python -m conformance.synth --seed N --count M --out DIR`: captures with sidecars and truths, on all cores."""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from conformance.console import out
from conformance.synth.truth import synthesize, write


def _one(folder: Path, seed: int) -> str:
    truth = synthesize(seed)
    path = write(truth, folder)
    return f"{path}: {len(truth.frames)} frames; {truth.says}"


def main() -> None:
    """Writes the captures, one line each."""
    parser = argparse.ArgumentParser(prog="python -m conformance.synth", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds from there")
    parser.add_argument("--out", type=Path, default=Path("build/synth"), help="the folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    seeds = range(given.seed, given.seed + given.count)
    with ProcessPoolExecutor(given.jobs) as pool:
        for line in pool.map(partial(_one, given.out), seeds):
            out.print(line, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
