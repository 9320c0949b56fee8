"""What all wire formats share: checksum arithmetic, the verdict on a checksum, how a header can fail to decode."""

from enum import StrEnum
from typing import ClassVar, Final

from msgspec import Struct

# Link types as in a capture file's header (pcap's LINKTYPE_ and Linux's DLT_ values of raw IP).
LINKTYPE_NULL: Final = 0
LINKTYPE_ETHERNET: Final = 1
LINKTYPE_RAW: Final = 101
LINKTYPES_RAW: Final = frozenset({12, 14, LINKTYPE_RAW})
LINKTYPE_LOOP: Final = 108
LINKTYPE_LINUX_SLL: Final = 113
LINKTYPE_IPV4: Final = 228
LINKTYPE_IPV6: Final = 229
LINKTYPE_LINUX_SLL2: Final = 276


class Checksum(StrEnum):
    """The verdict on one checksum field."""

    OK = "ok"
    WRONG = "wrong"
    OFFLOAD = "offload"  # only the pseudo-header is summed: the device was to fill in the rest (CHECKSUM_PARTIAL)
    ABSENT = "absent"  # UDP over IPv4 with a zero field: the sender made none
    UNKNOWN = "unknown"  # the capture holds only a part of what is summed


class Malformed(Struct, frozen=True):
    """A header that cannot be one: which layer, why, and the byte offset in the frame where it starts."""

    layer: str
    reason: str
    offset: int


class Layer(Struct, frozen=True):
    """Base of all headers. Fields hold what is on the wire, checksums and lengths too; `NAME` is the protocol's."""

    NAME: ClassVar[str] = ""

    def wire(self) -> bytes:
        """The header's bytes, with every field as it stands."""
        raise NotImplementedError(f"{type(self).__name__} has no wire format")


class Rest(Struct, frozen=True):
    """The end of an option list that could not be read as options: cut by the snaplen, or with an impossible length."""

    raw: bytes

    def wire(self) -> bytes:
        """The bytes as they were."""
        return self.raw


def ones_sum(data: bytes, start: int = 0) -> int:
    """The 16-bit ones' complement sum of `data` (an odd last byte is padded with zero) plus `start`; RFC 1071 1."""
    n = int.from_bytes(data, "big")
    if len(data) & 1:
        n <<= 8
    n += start
    # 2**16 is 1 modulo 65535, so the folded sum is a remainder; only the two zeros need telling apart.
    return n % 0xFFFF or (0xFFFF if n else 0)


def checksum(data: bytes, start: int = 0) -> int:
    """The Internet checksum to be stored for `data`; source include/net/checksum.h:csum_fold, RFC 1071 1."""
    return ones_sum(data, start) ^ 0xFFFF


def pseudo_header(saddr: bytes, daddr: bytes, protocol: int, length: int) -> int:
    """The ones' complement sum of the pseudo-header; source include/net/ip.h:inet_compute_pseudo, RFC 8200 8.1."""
    return ones_sum(saddr + daddr + length.to_bytes(4, "big") + protocol.to_bytes(4, "big"))
