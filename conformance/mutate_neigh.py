"""Mutants of neighbour resolution in a capture: one thing changed that Linux would not have done.

Only what a Linux host sent is changed, in ARP, in discovery, or in the link-layer destination of a packet; or a
notification of the sidecar. A frame of a crafted peer is left alone: the specification does not constrain it.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.neigh_frames import ArpSight, IpSight, NaSight, NdSight, NsSight, Sight, is_group, sight
from conformance.check.setup import Setup
from conformance.frames import Frame
from refmodel.packet import decode, encode, seal

LATE: Final = 500_000_000  # ns: longer than the slack of a timer of a second
STRANGE: Final = bytes.fromhex("020000000077")

Change = Callable[[bytearray, Sight], bool]


class Mutant(Struct, frozen=True):
    """A changed capture: `at` is the number of the frame that is wrong or, if one is missing, of the one before.

    `time` (us) is when what is wrong happened.
    """

    kind: str
    original: int
    at: int
    time: int
    frames: tuple[Frame, ...]
    setup: Setup
    says: str


def _arp(change: Callable[[bytearray, ArpSight], bool]) -> Change:
    return lambda d, x: isinstance(x, ArpSight) and change(d, x)


def _nd(change: Callable[[bytearray, NdSight], bool]) -> Change:
    return lambda d, x: isinstance(x, NdSight) and change(d, x)


def _add(at: int, by: int = 1) -> Callable[[bytearray, Sight], bool]:
    def change(data: bytearray, x: Sight) -> bool:
        data[at] = (data[at] + by) & 0xFF
        return True

    return change


def _flag(bit: int) -> Change:
    def change(data: bytearray, x: Sight) -> bool:
        if not isinstance(x, NaSight):
            return False
        data[58] ^= bit
        return True

    return change


def _operation(data: bytearray, x: Sight) -> bool:
    data[21] = 3 - data[21] if data[21] in (1, 2) else 1
    return True


def _source(data: bytearray, x: Sight) -> bool:
    data[6:12] = STRANGE
    return True


def _cast(data: bytearray, x: Sight) -> bool:
    """Unicast becomes broadcast and the other way round."""
    data[0:6] = STRANGE if is_group(x.dst) else b"\xff" * 6
    return True


def _elsewhere(data: bytearray, x: Sight) -> bool:
    if not isinstance(x, IpSight) or is_group(x.dst):
        return False
    data[0:6] = STRANGE
    return True


def _no_option(data: bytearray, x: NdSight) -> bool:
    if x.lladdr < 0:
        return False
    data[78] = 200
    return True


def _option(data: bytearray, x: NdSight) -> bool:
    if x.lladdr < 0:
        return False
    data[85] ^= 0x40
    return True


CHANGES: Final[dict[str, tuple[str, Change]]] = {
    "arp-sender-mac": ("ARP sender's hardware address", _arp(_add(27, 0x40))),
    "arp-sender-ip": ("ARP sender's address", _arp(_add(31, 0x40))),
    "arp-target-mac": ("ARP target's hardware address", _arp(_add(37, 0x40))),
    "arp-target-ip": ("ARP target's address", _arp(_add(41, 0x40))),
    "arp-operation": ("request for reply, reply for request", _arp(_operation)),
    "arp-hardware": ("ARP hardware type", _arp(_add(15))),
    "link-source": ("link-layer source", lambda d, x: isinstance(x, ArpSight | NdSight) and _source(d, x)),
    "cast": ("unicast for broadcast, broadcast for unicast", lambda d, x: not isinstance(x, IpSight) and _cast(d, x)),
    "elsewhere": ("packet to another link-layer address", _elsewhere),
    "nd-target": ("ND target", _nd(_add(77, 0x40))),
    "nd-source": ("ND message's source", _nd(lambda d, x: any(x.saddr) and _add(37, 0x40)(d, x))),
    "nd-destination": ("ND message's destination", _nd(_add(53, 0x40))),
    "nd-hop-limit": ("ND hop limit 254", _nd(_add(21, -1))),
    "nd-option": ("ND link-layer option's address", _nd(_option)),
    "nd-no-option": ("ND link-layer option made unknown", _nd(_no_option)),
    "nd-type": (
        "solicitation for advertisement, and back",
        _nd(lambda d, x: _add(54, 1 if d[54] == 135 else -1)(d, x)),
    ),
    "nd-router": ("router flag", _flag(0x80)),
    "nd-solicited": ("solicited flag", _flag(0x40)),
    "nd-override": ("override flag", _flag(0x20)),
}
ORDER: Final = ("drop", "repeat", "late", "early", "swap")
NOTES: Final = ("note-state", "note-lladdr", "note-probes", "note-drop", "note-repeat", "note-late")
KINDS: Final = (*CHANGES, *ORDER, *NOTES)


def mutants(frames: Sequence[Frame], setup: Setup, rng: random.Random, each: int = 1) -> Iterator[Mutant]:
    """Up to `each` mutants of every kind."""
    macs = {int.from_bytes(h.mac, "big") for h in setup.hosts if h.linux}
    seen = [sight(f.number, f.time // 1000, decode(f.data, f.linktype, f.orig_len)) for f in frames]
    mine = [k for k, x in enumerate(seen) if x is not None and x.src in macs and _constrained(x)]
    for kind, (says, change) in CHANGES.items():
        found = 0
        for k in rng.sample(mine, len(mine)):
            x, data = seen[k], bytearray(frames[k].data)
            if x is None or found == each or not change(data, x):
                continue
            found += 1
            sealed = _sealed(bytes(data)) if isinstance(x, NdSight) else bytes(data)
            new = (*frames[:k], replace(frames[k], data=sealed), *frames[k + 1 :])
            yield Mutant(kind, k + 1, k + 1, x.time, new, setup, says)
    asked = [k for k in mine if not isinstance(seen[k], IpSight)]
    for kind in ORDER:
        for k in rng.sample(asked, min(each, len(asked))):
            m = _reordered(kind, frames, setup, k)
            if m is not None:
                yield m
    yield from _notes(setup, tuple(frames), rng, each)


def _sealed(data: bytes) -> bytes:
    """The frame with its checksums put right again."""
    p = decode(data)
    return encode(seal(p.layers, p.payload, p.trailer))


def _constrained(x: Sight) -> bool:
    return not isinstance(x, NsSight) or any(x.saddr)


def _reordered(kind: str, frames: Sequence[Frame], setup: Setup, k: int) -> Mutant | None:
    f = frames[k]
    rest = [*frames[:k], *frames[k + 1 :]]

    def made(new: Sequence[Frame], at: int, time: int, says: str) -> Mutant:
        numbered = tuple(replace(g, number=n) for n, g in enumerate(new, 1))
        return Mutant(kind, k + 1, at, time // 1000, numbered, setup, says)

    if kind == "drop":
        return made(rest, k, f.time, "frame removed")
    if kind == "repeat":
        again = replace(f, time=f.time + 1_000_000)
        later = [*frames[: k + 1], again, *frames[k + 1 :]]
        later.sort(key=lambda g: g.time)
        return made(later, later.index(again) + 1, again.time, "frame repeated 1 ms later")
    if kind == "early" and not _follows(frames, k):
        return None
    if kind in ("late", "early"):
        moved = replace(f, time=f.time + (LATE if kind == "late" else -LATE))
        new = sorted([*rest, moved], key=lambda g: g.time)
        return made(new, min(new.index(moved), k) + 1, min(f.time, moved.time), f"frame half a second {kind}")
    if k + 1 == len(frames):
        return None
    g = frames[k + 1]
    if g.data == f.data:
        return None
    new = [*frames[:k], replace(g, time=f.time), replace(f, time=g.time), *frames[k + 2 :]]
    return made(new, k + 1, f.time, "frame and the next in each other's place")


def _follows(frames: Sequence[Frame], k: int) -> bool:
    """The frame answers another, or asks again: its time isn't the application's choice."""
    x = sight(0, 0, decode(frames[k].data))
    if isinstance(x, NaSight) or (isinstance(x, ArpSight) and x.op == 2):
        return True
    return k > 0 and frames[k].data == frames[k - 1].data


def _notes(setup: Setup, frames: tuple[Frame, ...], rng: random.Random, each: int) -> Iterator[Mutant]:
    ns = setup.notifications
    for kind in NOTES:
        for k in rng.sample(range(len(ns)), min(each, len(ns))):
            n = ns[k]
            changed = {
                "note-state": (replace(n, state="STALE" if n.state != "STALE" else "REACHABLE"),),
                "note-lladdr": (replace(n, lladdr="02:00:00:00:00:77"),),
                "note-probes": (replace(n, probes=n.probes + 1),),
                "note-drop": (),
                "note-repeat": (n, replace(n, time=n.time + 1_000)),
                "note-late": (replace(n, time=n.time + 1_000_000),),
            }[kind]
            new = tuple(sorted((*ns[:k], *changed, *ns[k + 1 :]), key=lambda x: x.time))
            yield Mutant(kind, 0, 0, n.time, frames, replace(setup, notifications=new), f"{n.host}'s notification")
