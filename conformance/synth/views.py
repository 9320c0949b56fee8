"""Holds a checker against captures seen from other vantages: what is said must be among what may be said.

`python -m conformance.synth.views [CAPTURE|DIR...] [--kinds ...] [--engine oracle|rules]` transforms TCP captures of
real kernels (default: captures/) in every way of `vantage` and prints a table by kind, with the verdicts that may not
be. A capture of which the checker doesn't say that it conforms as it stands is left out.
"""

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct
from rich.table import Table

from conformance.check.capture import ENGINES, captures_in, check_capture
from conformance.check.options import ORACLE
from conformance.check.setup import setup_for, sidecar_path
from conformance.check.verdict import Outcome, Verdict
from conformance.console import out
from conformance.pcap import read
from conformance.synth.vantage import TRANSFORMS, View, transform


class Seen(Struct, frozen=True):
    """What was said of a view: of which capture, with or without its sidecar, the verdicts and the first reason."""

    kind: str
    capture: str
    sidecar: bool
    outcomes: tuple[str, ...]
    why: str

    @property
    def may_be(self) -> bool:
        """All that was said may be said."""
        return set(self.outcomes) <= {str(o) for o in TRANSFORMS[self.kind].allowed}


def check(path: Path, engine: str = ORACLE) -> list[Verdict]:
    """What `refmodel check` says of the TCP connections of a file, by one of its engines."""
    return [v for v in check_capture(path, engine=engine).verdicts if v.layer == "tcp"]


def look(path: Path, kinds: Iterable[str] = TRANSFORMS, seed: int = 1, engine: str = ORACLE) -> list[Seen]:
    """One capture of TCP between Linux hosts from every vantage, with its sidecar where that holds, and without."""
    setup = setup_for(path)
    if setup.layer not in ("", "tcp") or any(not h.linux for h in setup.hosts):
        return []
    if {v.outcome for v in check(path, engine)} != {Outcome.CONFORMS}:
        return []
    frames, _ = read(path)
    found = []
    for kind in kinds:
        view = transform(kind, frames, seed)
        if view is None:
            continue
        for sidecar in (False, True) if TRANSFORMS[kind].sidecar else (False,):
            found.append(seen(path, kind, view, sidecar, engine))
    return found


def seen(path: Path, kind: str, view: View, sidecar: bool, engine: str = ORACLE) -> Seen:
    """Writes a view as a file, beside the capture's sidecar or alone, and checks it."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{path.name.partition('.pcap')[0]}.pcapng"
        file.write_bytes(view.pcapng())
        if sidecar and sidecar_path(path).exists():
            shutil.copy(sidecar_path(path), sidecar_path(file))
        verdicts = check(file, engine)
    wrong = [v for v in verdicts if v.outcome not in TRANSFORMS[kind].allowed]
    why = wrong[0].divergence.what if wrong and wrong[0].divergence else wrong[0].reason if wrong else ""
    said = tuple(sorted({str(v.outcome) for v in verdicts}))
    return Seen(kind, path.name, sidecar, said, why)


def look_all(paths: Sequence[Path], kinds: Sequence[str], engine: str, jobs: int = 0) -> Iterator[Seen]:
    """Many captures, on `jobs` processes (0: all cores)."""
    with ProcessPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        futures = [pool.submit(look, p, kinds, 1, engine) for p in paths]
        for f in futures:
            yield from f.result()


def table(found: Iterable[Seen]) -> Table:
    """Views by kind: what was said, and how often that may not be."""
    said: dict[str, Counter[str]] = {}
    wrong: Counter[str] = Counter()
    for x in found:
        said.setdefault(x.kind, Counter()).update(["/".join(x.outcomes)])
        wrong[x.kind] += not x.may_be
    t = Table("vantage", "views", "wrong", "said", box=None)
    for kind, c in said.items():
        t.add_row(kind, str(c.total()), str(wrong[kind]), ", ".join(f"{k} {n}" for k, n in c.most_common()))
    return t


def main(argv: Sequence[str]) -> int:
    """Prints the table; 0 if nothing was said that may not be, else 1."""
    parser = argparse.ArgumentParser(prog="python -m conformance.synth.views", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("captures")])
    parser.add_argument("--kinds", nargs="*", choices=sorted(TRANSFORMS), default=list(TRANSFORMS))
    parser.add_argument("--engine", choices=sorted(ENGINES), default=ORACLE)
    parser.add_argument("--every", type=int, default=1, help="only every n-th capture")
    parser.add_argument("--jobs", type=int, default=0)
    given = parser.parse_args(argv)
    paths = [p for p in captures_in(given.paths) if not p.name.startswith(("nic-", "arp-", "nd-", "neigh-"))]
    found = list(look_all(paths[:: given.every], given.kinds, given.engine, given.jobs))
    out.print(table(found))
    for x in found:
        if not x.may_be:
            with_sidecar = "with" if x.sidecar else "without"
            out.print(
                f"  {x.kind} of {x.capture} {with_sidecar} sidecar: {'/'.join(x.outcomes)}: {x.why}", markup=False
            )
    return 0 if all(x.may_be for x in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
