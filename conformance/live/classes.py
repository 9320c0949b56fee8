"""The classes of frames that the checker counts and does not judge yet, with the reason that a sidecar gives for each.

Standard library only: it runs inside recorded guests too.
"""

import struct
from collections.abc import Iterable
from typing import Final

from conformance.live.sidecar import NotModelled

CUT: Final = "TCP cut by the card"
REASONS: Final = {
    CUT: "QEMU's card cuts segments into IP fragments, which is not what TCP gave to its driver",
    "other protocol": "no layer of the specification reads it",
}

EXPLAINED4: Final = (1, 2, 6, 17)
EXPLAINED6: Final = (6, 17, 44, 58)


def reasons(frames: Iterable[bytes]) -> list[NotModelled]:
    """What a sidecar says of the frames (Ethernet) that the checker will not judge, class by class."""
    found = dict.fromkeys(c for f in frames if (c := frame_class(f)))
    return [NotModelled(c, REASONS[c]) for c in found]


def frame_class(frame: bytes) -> str:
    """The class of one Ethernet frame; '' if a layer of the specification explains it."""
    if len(frame) < 34:
        return ""
    (proto,) = struct.unpack_from("!H", frame, 12)
    if proto == 0x0800:
        return _four(frame)
    return _six(frame) if proto == 0x86DD and len(frame) >= 54 else "" if proto == 0x0806 else "other protocol"


def _four(frame: bytes) -> str:
    later = struct.unpack_from("!H", frame, 20)[0] & 0x1FFF
    return "" if later or frame[23] in EXPLAINED4 else "other protocol"


def _six(frame: bytes) -> str:
    protocol = frame[20]
    if protocol == 0:  # hop-by-hop options, as MLD has them
        protocol = frame[54]
    return "" if protocol in EXPLAINED6 else "other protocol"
