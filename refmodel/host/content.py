"""What the bytes say: TCP and UDP of the model move lengths, a host's wire carries content.

The law: a byte's place in its stream names it. The sender's bytes are kept by sequence number as the application wrote
them, the receiver's as they came off the wire; both by offset from the first byte of the stream.
"""

from typing import Final

from refmodel.types import M32

HALF: Final = 1 << 31


class Stream:
    """The bytes of one direction of a connection; `base` is the sequence number of its first byte.

    `taken` bytes of them an application has read.
    """

    __slots__ = ("base", "data", "taken")

    def __init__(self, base: int) -> None:
        self.base = base
        self.data = bytearray()
        self.taken = 0

    def put(self, seq: int, data: bytes) -> None:
        """Keeps `data`, which begins at sequence number `seq`; what lies before the stream's beginning is cut."""
        at = (seq - self.base) & M32
        if at >= HALF:
            data, at = data[M32 + 1 - at :], 0
        end = at + len(data)
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        self.data[at:end] = data

    def get(self, seq: int, n: int) -> bytes:
        """`n` bytes from sequence number `seq` on; zeros where nothing was kept."""
        at = (seq - self.base) & M32
        found = bytes(self.data[at : at + n]) if at < HALF else b""
        return found + bytes(n - len(found))
