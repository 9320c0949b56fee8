"""The classes of frames that the checker counts and does not judge yet, with the reason that a sidecar gives for each.

Standard library only: it runs inside recorded guests too.
"""

import struct
from collections.abc import Iterable
from typing import Final

from conformance.live.sidecar import NotModelled

_THROUGH: Final = "; its neighbour entry is judged as it passes"
CUT: Final = "TCP cut by the card"
REASONS: Final = {
    "UDP datagram": "UDP is specified later" + _THROUGH,
    "ICMP error": "who sends an ICMP error, and why, is specified later" + _THROUGH,
    "ICMP message": "ICMP is specified later" + _THROUGH,
    "IP fragment": "fragments are specified later" + _THROUGH,
    "multicast listener": "MLD is specified later",
    "router discovery": "router discovery is specified later",
    "duplicate address detection": "who probes for his own address is specified later; who answers him is judged",
    CUT: "QEMU's card cuts segments into IP fragments, which is not what TCP gave to its driver",
    "other protocol": "no layer of the specification reads it",
}

ERRORS4: Final = (3, 4, 5, 11, 12)
LISTENER: Final = (130, 131, 132, 143)
ROUTER: Final = (133, 134, 137)
SOLICITATION: Final = 135
DISCOVERY: Final = (135, 136)


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
    protocol, at = frame[23], 14 + (frame[14] & 15) * 4
    if struct.unpack_from("!H", frame, 20)[0] & 0x1FFF:
        return "IP fragment"
    if protocol == 1:
        return "ICMP error" if frame[at] in ERRORS4 else "ICMP message"
    return {6: "", 17: "UDP datagram"}.get(protocol, "other protocol")


def _six(frame: bytes) -> str:
    protocol, at = frame[20], 54
    if protocol == 0:  # hop-by-hop options, as MLD has them
        protocol, at = frame[54], 54 + (frame[55] + 1) * 8
    if protocol != 58:
        return {6: "", 17: "UDP datagram"}.get(protocol, "other protocol")
    kind = frame[at]
    if kind == SOLICITATION and not any(frame[22:38]):
        return "duplicate address detection"
    if kind in DISCOVERY:
        return ""
    if kind in LISTENER or kind in ROUTER:
        return "multicast listener" if kind in LISTENER else "router discovery"
    return "ICMP error" if kind < 128 else "ICMP message"
