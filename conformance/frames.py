"""What a capture file holds: frames, the interfaces that they were taken from, and where reading was disturbed."""

from typing import Literal

from msgspec import Struct

Direction = Literal["in", "out", ""]


class Frame(Struct, frozen=True, gc=False):
    """One captured frame: its number in the file (from 1), its time in ns since 1970 (0 if the file gives none).

    `orig_len` is its length on the wire in bytes, `data` what was captured of it. `interface` counts from 0 over the
    whole file. `direction` is as seen from the capturing host, '' if the file does not say.
    """

    number: int
    time: int
    linktype: int
    interface: int
    data: bytes
    orig_len: int
    direction: Direction = ""
    comment: str = ""


class Interface(Struct):
    """One interface of a capture; counters are None if the file does not hold them (they stand at its end)."""

    linktype: int
    snaplen: int
    name: str = ""
    description: str = ""
    filter: str = ""
    os: str = ""
    ticks: int = 1_000_000  # a second
    offset: int = 0  # s, added to each time
    received: int | None = None
    dropped: int | None = None
    os_dropped: int | None = None


class Notice(Struct, frozen=True):
    """Damage that reading survived: at which byte of the (unzipped) file, what was found, what was expected."""

    path: str
    offset: int
    found: str
    expected: str
    frames: int

    def __str__(self) -> str:
        return (
            f"{self.path}: at byte {self.offset}, after frame {self.frames}: {self.found}; expected {self.expected}. "
            "All frames before it were read."
        )
