"""Where a script's parts stand, and the one error that whatever reads a script raises."""

from pathlib import Path
from typing import Final

from msgspec import Struct

LARGEST: Final = 1024 * 1024
"""Scripts of more bytes are refused: the longest real ones have about 100 KiB."""


SHOWN: Final = 160
"""How much of a line an error shows, in characters."""


class Pos(Struct, frozen=True, order=True):
    """A place in a file; line and column count characters from 1, 0 is nowhere."""

    line: int = 0
    column: int = 0
    file: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE: Final = Pos()


class Source(Struct, frozen=True):
    """A script's name and text."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """The line of that number, counted from 1; empty where there is none."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


class ScriptError(ValueError):
    """A script that cannot be read: what was found, at which place, what was expected and what would help."""

    def __init__(self, what: str, at: Pos, source: Source | None = None, expected: str = "", help: str = "") -> None:
        self.what, self.at, self.source, self.expected, self.help = what, at, source, expected, help
        super().__init__(self.render())

    def render(self) -> str:
        """The error with the script's line and a caret under the place."""
        out = [f"{self.at}: {self.what}" if self.at.line else f"{self.at.file or 'script'}: {self.what}"]
        line = self.source.line(self.at.line) if self.source else ""
        if line:
            first = max(0, self.at.column - SHOWN // 2)
            shown = "".join(c if c.isprintable() or c == "\t" else "?" for c in line[first : first + SHOWN])
            blank = "".join("\t" if c == "\t" else " " for c in shown[: self.at.column - 1 - first])
            out.append(f"{self.at.line:5} | {shown}")
            out.append(f"{'':5} | {blank}^")
        if self.expected:
            out.append(f"  expected: {self.expected}")
        if self.help:
            out.append(f"  help: {self.help}")
        return "\n".join(out)


def inside(at: Pos, text: str, offset: int) -> Pos:
    """The place `offset` characters into a text that starts at `at`."""
    lines = text.count("\n", 0, offset)
    column = offset - text.rfind("\n", 0, offset) if lines else at.column + offset
    return Pos(at.line + lines, column, at.file)


def read_source(path: Path) -> Source:
    """Reads a script file; raises ScriptError for text that is no UTF-8 or too long, OSError as usual."""
    data = path.read_bytes()
    name = str(path)
    if len(data) > LARGEST:
        raise ScriptError(f"{len(data)} bytes are more than a script may have ({LARGEST})", Pos(file=name))
    try:
        return Source(name, data.decode())
    except UnicodeDecodeError as why:
        before = data[: why.start].decode(errors="replace")
        at = Pos(before.count("\n") + 1, len(before) - before.rfind("\n"), name)
        what = f"byte 0x{data[why.start]:02x} is no UTF-8"
        raise ScriptError(what, at, help="save the script as UTF-8; in strings write \\xhh for a byte") from why
