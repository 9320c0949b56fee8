"""What a script looks at: texts of /proc, of nstat and of ss, through grep and its like, all of it interpreted.

A text comes from whoever runs the script; the filters are the same everywhere.
"""

from typing import Final

from msgspec import Struct

from conformance.pkt.pattern import Pattern

PROC_NET: Final = ("netstat", "snmp", "snmp6", "tcp", "tcp6", "udp", "udp6")
"""Files of /proc/net that may be read."""


class Files(Struct, frozen=True, tag=True):
    """The texts of files, one behind the other."""

    paths: tuple[str, ...]


class Nstat(Struct, frozen=True, tag=True):
    """nstat: counters' growth since the last one; `update`: this one is the last from now on.

    `names` are patterns of names (empty: all). `zeros`: those that did not move too. `absolute`: since boot.
    """

    names: tuple[str, ...] = ()
    update: bool = True
    zeros: bool = False
    absolute: bool = False


class Ss(Struct, frozen=True, tag=True):
    """ss with these one-letter options, in the order of the alphabet."""

    options: str


class Grep(Struct, frozen=True, tag=True):
    """Lines that match, or do not (`invert`); `count`: how many, `quiet`: nothing but the status."""

    pattern: Pattern
    invert: bool = False
    count: bool = False
    quiet: bool = False


class Fields(Struct, frozen=True, tag=True):
    """awk '{print $N, ...}': words of each line, 0 for the whole line."""

    numbers: tuple[int, ...]


class Lines(Struct, frozen=True, tag=True):
    """head (the first `n` lines), tail (the last), wc (how many), sort, uniq."""

    verb: str
    n: int = 10


Source = Files | Nstat | Ss
Filter = Grep | Fields | Lines


class Look(Struct, frozen=True, tag=True):
    """A text and what it goes through; the status is that of the last filter."""

    source: Source
    filters: tuple[Filter, ...] = ()


def holds(lines: list[str], filters: tuple[Filter, ...]) -> bool:
    """Whether a text that goes through the filters gives status 0: the last grep found something."""
    status = True
    for f in filters:
        status = True
        match f:
            case Grep():
                lines = [x for x in lines if f.pattern.matches(x) != f.invert]
                status = bool(lines)
                if f.count:
                    lines = [str(len(lines))]
                elif f.quiet:
                    lines = []
            case Fields():
                lines = [" ".join(_field(x, n) for n in f.numbers) for x in lines]
            case Lines(verb="head"):
                lines = lines[: f.n]
            case Lines(verb="tail"):
                lines = lines[-f.n :] if f.n else []
            case Lines(verb="sort"):
                lines = sorted(lines)
            case Lines(verb="uniq"):
                lines = [x for n, x in enumerate(lines) if n == 0 or lines[n - 1] != x]
            case Lines(verb="wc"):
                lines = [str(len(lines))]
    return status


def _field(line: str, n: int) -> str:
    if n == 0:
        return line
    words = line.split()
    return words[n - 1] if n <= len(words) else ""


def nstat_lines(now: dict[str, int], base: dict[str, int], look: Nstat) -> list[str]:
    """What nstat prints: one counter a line, its growth and a rate that is 0 without its daemon."""
    out = ["#kernel"]
    for name, value in now.items():
        grown = value - (0 if look.absolute else base.get(name, 0))
        wanted = not look.names or any(_glob(p, name) for p in look.names)
        if wanted and (grown or look.zeros):
            out.append(f"{name:<32}{grown:<16}{0.0:6.1f}")
    return out


def _glob(pattern: str, name: str) -> bool:
    head, star, tail = pattern.partition("*")
    return name == pattern if not star else name.startswith(head) and name.endswith(tail)
