"""A frame on the medium: preamble, start delimiter, padding and frame check sequence; source IEEE 802.3 clauses 3, 4.

Bits go out with each octet's least significant bit first, so that the check sequence's polynomial is used reflected.
"""

import zlib
from typing import Final, NamedTuple

PREAMBLE: Final = b"\x55" * 7
SFD: Final = b"\xd5"
MIN_FRAME: Final = 64  # octets from the destination address to the check sequence
MAX_BASIC_FRAME: Final = 1518
MAX_TAGGED_FRAME: Final = 1522
FCS_LEN: Final = 4
POLYNOMIAL: Final = 0xEDB88320  # x^32 + x^26 + x^23 + ... + 1, its bits in the order in which they are sent
RESIDUE: Final = 0x2144DF1C  # the check sequence of a frame together with its own


class BadFrame(ValueError):
    """What came from the medium is no frame; the text says why."""


class Frame(NamedTuple):
    """What the MAC client gets: the frame without its check sequence, and with the pad that it may have."""

    data: bytes


def crc_by_bits(data: bytes) -> int:
    """The check sequence as IEEE 802.3 3.2.9 defines it: division by the polynomial, bit by bit."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def crc32(data: bytes) -> int:
    """The frame check sequence as a number; its least significant octet is sent first."""
    return zlib.crc32(data)


def pad(data: bytes) -> bytes:
    """A frame that would be shorter than 64 octets is filled up with zeros."""
    return data.ljust(MIN_FRAME - FCS_LEN, b"\0")


def on_medium(data: bytes) -> bytes:
    """The octets that the medium carries for a frame without pad and check sequence."""
    padded = pad(data)
    return PREAMBLE + SFD + padded + crc32(padded).to_bytes(FCS_LEN, "little")


def from_medium(octets: bytes, longest: int = MAX_TAGGED_FRAME) -> Frame:
    """The frame in what the medium carried, however much of the preamble was lost.

    Raises BadFrame: no start delimiter, too short, longer than `longest` octets, check sequence wrong.
    """
    start = octets.find(SFD)
    if start < 0 or octets[:start] != PREAMBLE[:start]:
        raise BadFrame("no start frame delimiter behind a preamble")
    body = octets[start + 1 :]
    if len(body) < MIN_FRAME:
        raise BadFrame(f"{len(body)} octets, a frame has {MIN_FRAME} at least: a collision's fragment")
    if len(body) > longest:
        raise BadFrame(f"{len(body)} octets, more than {longest}")
    if crc32(body) != RESIDUE:
        raise BadFrame(f"check sequence {body[-FCS_LEN:].hex()}, the frame's is {crc_text(body[:-FCS_LEN])}")
    return Frame(body[:-FCS_LEN])


def crc_text(data: bytes) -> str:
    """The check sequence's octets as they are sent, in hexadecimal."""
    return crc32(data).to_bytes(FCS_LEN, "little").hex()
