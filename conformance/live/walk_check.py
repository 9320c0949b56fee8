"""Holds the model's walks against a kernel's: recorded ones, or those of the running kernel.

`python -m conformance.live.walk_check [PATH...]` compares recorded walks; `--live [CASE...]` records on this machine.
Exit status 0 no unexplained difference, 1 there is one, 2 usage or not root.
"""

import argparse
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

import conformance.live.walk_model_card  # noqa: F401  (registers the card's cases)
import refmodel.layers  # noqa: F401  (registers the functions that the model has)
from conformance.live import walk_record
from conformance.live.walk_compare import Comparison, compare, read, shipped, steps_of, version_of
from conformance.live.walk_known import known
from conformance.live.walk_model import CASES
from conformance.live.walk_trace import KernelWalk, TraceError, out_of_line, tracer


def against_model(walk: KernelWalk, functions: Collection[str] | None) -> Comparison | None:
    """A kernel's walk beside the model's of the same case, by that kernel's version; None if the model has none."""
    make = CASES.get(walk.name)
    return compare(walk, steps_of(make(version_of(walk))), out_of_line=functions) if make is not None else None


def live(names: Sequence[str]) -> Iterator[tuple[KernelWalk, Comparison]]:
    """Records cases on the running kernel and compares each; raises TraceError and OSError."""
    functions = out_of_line()
    with tracer() as trace:
        for name in names:
            walk = walk_record.record(name, trace)
            comparison = against_model(walk, functions)
            if comparison is not None:
                yield walk, comparison


def show(walk: KernelWalk, c: Comparison) -> bool:
    """Prints what came of a comparison; whether nothing is unexplained."""
    unexplained = c.unexplained(walk)
    print(f"{walk.name} on {walk.release} ({walk.how}): {c.summary()}")
    for d in c.differences:
        entry = known(walk.name, walk.how, d.function, d.within)
        print(f"    {'known' if entry else 'DIFFERS'}: {d.why}{': ' + entry.why if entry else ''}")
    return not unexplained


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="walk_check", description="Hold the model's walks against a kernel's.")
    parser.add_argument("what", nargs="*", help="recorded walks or folders of them; with --live: cases (default: all)")
    parser.add_argument("--live", action="store_true", help="record on this machine; needs root")
    args = parser.parse_args(argv)
    good = True
    if args.live:
        here = [n for n in CASES if n in walk_record.CASES]
        unknown = [n for n in args.what if n not in here]
        if unknown or os.geteuid() != 0:
            why = f"model and recorder have no case {', '.join(unknown)}" if unknown else "recording needs root"
            print(f"walk_check: {why}", file=sys.stderr)
            return 2
        try:
            for walk, comparison in live(args.what or here):
                good &= show(walk, comparison)
        except (TraceError, OSError) as e:
            print(f"walk_check: {e}", file=sys.stderr)
            return 2
        return 0 if good else 1
    paths = [p for w in args.what or ["captures/walks"] for p in (shipped(Path(w)) if Path(w).is_dir() else [Path(w)])]
    for path in paths:
        try:
            walk, functions = read(path)
        except (OSError, msgspec.DecodeError) as e:
            print(f"walk_check: {path} is no recorded walk: {e}", file=sys.stderr)
            return 2
        found = against_model(walk, functions)
        if found is not None:
            good &= show(walk, found)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
