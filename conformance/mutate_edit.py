"""Edits of one captured TCP segment: fields, options and payload, with lengths and checksums put right again.

Used where a capture is changed on purpose: mutants, and other vantages. A checksum that was wrong, or that a device was
to fill in, stays that way.
"""

import struct
from typing import Final

from msgspec.structs import replace

from conformance.frames import Frame
from refmodel.packet.segment import Segment, segment
from refmodel.packet.wire import checksum, ones_sum, pseudo_header
from refmodel.types import M32

SEQ, ACK_SEQ, WINDOW, URGENT = 4, 8, 14, 18
OPT_MSS, OPT_WSCALE, OPT_SACK_PERM, OPT_SACK, OPT_TIMESTAMP = 2, 3, 4, 5, 8
NOP: Final = 1


class Edit:
    """A segment's frame under change; `frame()` is the result. `s` is the segment as it was."""

    def __init__(self, f: Frame, s: Segment) -> None:
        self.f, self.s = f, s
        self.data = bytearray(f.data)
        self.l3, self.l4, self.payload_at = s.l3, s.l4, s.payload_at
        self.v4 = len(s.saddr) == 4
        self.length = s.len
        self.cut = f.orig_len > len(f.data)
        self.sealed = self._transport() in (0, 0xFFFF) if not self.cut else False
        self.partial = (
            not self.sealed and int.from_bytes(self.data[self.l4 + 16 : self.l4 + 18], "big") == self._pseudo()
        )

    # Numbers in the header

    def _get(self, at: int, form: str) -> int:
        return int(struct.unpack_from("!" + form, self.data, self.l4 + at)[0])

    def _put(self, at: int, form: str, value: int) -> None:
        struct.pack_into("!" + form, self.data, self.l4 + at, value)

    def add(self, at: int, by: int) -> None:
        """Adds to the 32-bit number at an offset of the TCP header (SEQ, ACK_SEQ)."""
        self._put(at, "I", (self._get(at, "I") + by) & M32)

    def window(self, value: int) -> None:
        """Sets the window field."""
        self._put(WINDOW, "H", value & 0xFFFF)

    def urgent(self, value: int) -> None:
        """Sets the urgent pointer."""
        self._put(URGENT, "H", value & 0xFFFF)

    def port(self, source: bool, value: int) -> None:
        """Sets the source or the destination port."""
        self._put(0 if source else 2, "H", value)

    @property
    def flags(self) -> int:
        """The low eight flags."""
        return self.data[self.l4 + 13]

    @flags.setter
    def flags(self, value: int) -> None:
        self.data[self.l4 + 13] = value

    # The network header

    def ttl(self, value: int) -> None:
        """Sets the TTL or the hop limit."""
        self.data[self.l3 + (8 if self.v4 else 7)] = value & 0xFF

    def tos(self, value: int) -> None:
        """Sets the TOS byte or the traffic class."""
        if self.v4:
            self.data[self.l3 + 1] = value
        else:
            (word,) = struct.unpack_from("!I", self.data, self.l3)
            struct.pack_into("!I", self.data, self.l3, word & ~0x0FF00000 | value << 20)

    def ip_id(self, by: int) -> None:
        """Adds to the IPv4 id; over IPv6 there is none."""
        if self.v4:
            (old,) = struct.unpack_from("!H", self.data, self.l3 + 4)
            struct.pack_into("!H", self.data, self.l3 + 4, (old + by) & 0xFFFF)

    def address(self, source: bool, value: bytes) -> None:
        """Sets an address of the same family."""
        at = self.l3 + ((12 if source else 16) if self.v4 else (8 if source else 24))
        self.data[at : at + len(value)] = value

    # Options and payload

    def option(self, kind: int) -> int:
        """Where in `data` an option stands, -1 if it doesn't."""
        i, end = self.l4 + 20, self.payload_at
        while i < end:
            if self.data[i] == kind:
                return i
            if self.data[i] == 0:
                break
            i += 1 if self.data[i] == NOP else max(self.data[i + 1], 2) if i + 1 < end else 2
        return -1

    @property
    def options(self) -> bytes:
        """The option area."""
        return bytes(self.data[self.l4 + 20 : self.payload_at])

    def set_options(self, area: bytes) -> None:
        """Replaces the option area by one of whole words; raises ValueError if it is none."""
        if len(area) % 4 or len(area) > 40:
            raise ValueError(f"an option area of {len(area)} bytes")
        self.data[self.l4 + 20 : self.payload_at] = area
        self.payload_at = self.l4 + 20 + len(area)
        self.data[self.l4 + 12] = (5 + len(area) // 4) << 4 | self.data[self.l4 + 12] & 0x0F
        self._lengths()

    def set_payload(self, payload: bytes) -> None:
        """Replaces the payload."""
        self.data[self.payload_at : self.payload_at + self.length] = payload
        self.length = len(payload)
        self._lengths()

    def _lengths(self) -> None:
        size = self.payload_at - self.l4 + self.length
        if self.v4:
            struct.pack_into("!H", self.data, self.l3 + 2, self.l4 - self.l3 + size)
        else:
            struct.pack_into("!H", self.data, self.l3 + 4, self.l4 - self.l3 - 40 + size)

    # Checksums

    def _transport(self) -> int:
        end = self.payload_at + self.length
        start = pseudo_header(self._address(True), self._address(False), 6, end - self.l4)
        return ones_sum(bytes(self.data[self.l4 : end]), start) ^ 0xFFFF

    def _pseudo(self) -> int:
        """The pseudo-header's sum alone, which stands in the field where a device is to complete the checksum."""
        size = self.payload_at - self.l4 + self.length
        return ones_sum(b"", pseudo_header(self._address(True), self._address(False), 6, size))

    def _address(self, source: bool) -> bytes:
        n = 4 if self.v4 else 16
        at = self.l3 + ((12 if source else 16) if self.v4 else (8 if source else 24))
        return bytes(self.data[at : at + n])

    def _seal(self) -> None:
        if self.v4:
            struct.pack_into("!H", self.data, self.l3 + 10, 0)
            struct.pack_into("!H", self.data, self.l3 + 10, checksum(bytes(self.data[self.l3 : self.l4])))
        if self.sealed:
            self._put(16, "H", 0)
            self._put(16, "H", self._transport())
        elif self.partial:
            self._put(16, "H", self._pseudo())

    def frame(self, **given: int) -> Frame:
        """The frame with its checksums; `given` replaces `time` or `number`."""
        self._seal()
        n = self.f.orig_len - len(self.f.data) + len(self.data)
        return replace(self.f, data=bytes(self.data), orig_len=n, **given)


def edit(f: Frame) -> Edit | None:
    """The edit of a frame that is a TCP segment with its whole header, else None."""
    s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
    return Edit(f, s) if s is not None and not s.truncated else None


__all__ = [
    "ACK_SEQ", "NOP", "OPT_MSS", "OPT_SACK", "OPT_SACK_PERM", "OPT_TIMESTAMP", "OPT_WSCALE", "SEQ", "URGENT", "WINDOW",
    "Edit", "edit",
]  # fmt: skip
