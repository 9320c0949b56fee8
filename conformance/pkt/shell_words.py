"""The shape of a back-quoted shell text: words with their quotes taken away, redirections, pipes, lists.

Of variables only PPID and of expansions only arithmetic are known; the rest of the shell is refused with its place.
"""

import re
from typing import Final

from msgspec import Struct

from conformance.pkt.ast import Command
from conformance.pkt.expr import calculate
from conformance.pkt.source import Pos, ScriptError, Source, inside


class Word(Struct, frozen=True):
    """A word after quotes and expansions; PPID stays as `$PPID`."""

    text: str
    at: Pos


class Redirect(Struct, frozen=True):
    """`operator` is >, >>, 2>, &> or 2>&1, the last without a target."""

    operator: str
    target: str
    at: Pos


class Simple(Struct, frozen=True):
    """A command's words, and where its output goes."""

    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...] = ()

    @property
    def at(self) -> Pos:
        """Where its first word stands."""
        return self.words[0].at


class Pipeline(Struct, frozen=True):
    """Commands joined by |; `then` is what joins the next pipeline: ; && || or nothing."""

    commands: tuple[Simple, ...]
    then: str


_OPERATOR: Final = re.compile(r"2>&1|&>|2>|>>|>|&&|\|\||\||;|\n")
_ARITHMETIC: Final = re.compile(r"\$\(\(([0-9 +*()<-]*)\)\)")
_PPID: Final = re.compile(r"\$(?:PPID(?!\w)|\{PPID\})")
_REFUSED: Final = {
    "$": "of variables only $PPID is known, and $(( )) with numbers",
    "`": "no command runs within a command",
    "(": "no subshells",
    ")": "no subshells",
    "&": "nothing runs in the background",
    "<": "nothing is read from files",
    "*": "quote it, if it is no pattern for file names",
    "?": "quote it, if it is no pattern for file names",
    "[": "quote it, if it is no pattern for file names",
    "~": "write the path out",
    "{": "no groups and no braces",
    "}": "no groups and no braces",
    "!": "no negation",
}


class _Reader:
    def __init__(self, command: Command, source: Source | None) -> None:
        self.text, self.source = command.text, source
        self.at = command.text_at if command.text_at.line else Pos(1, 1, command.at.file)
        self.offset = 0

    def place(self, offset: int) -> Pos:
        return inside(self.at, self.text, offset)

    def refuse(self, offset: int, help: str = "", what: str = "") -> ScriptError:
        shown = what or f"{self.text[offset : offset + 1]!r} in a shell command is not interpreted"
        return ScriptError(shown, self.place(offset), self.source, help=help)

    def blanks(self) -> None:
        """Passes over blanks, continued lines and comments."""
        found = re.compile(r"(?:[ \t\r]|\\\n)*(?:#[^\n]*)?").match(self.text, self.offset)
        self.offset = found.end() if found else self.offset

    def operator(self) -> str:
        """The operator that comes next, or nothing."""
        found = _OPERATOR.match(self.text, self.offset)
        return found.group() if found else ""

    def word(self) -> Word:
        """The word that comes next, its quotes and expansions resolved."""
        start, text = self.offset, self.text
        out: list[str] = []
        while self.offset < len(text):
            char = text[self.offset]
            if char in " \t\r\n;|>":
                break
            if char == "'":
                out.append(self.single())
            elif char == '"':
                out.append(self.double())
            elif char == "\\":
                out.append(text[self.offset + 1 : self.offset + 2].replace("\n", ""))
                self.offset += 2
            elif char == "$":
                out.append(self.expansion())
            elif char in _REFUSED:
                raise self.refuse(self.offset, _REFUSED[char])
            else:
                out.append(char)
                self.offset += 1
        return Word("".join(out), self.place(start))

    def single(self) -> str:
        end = self.text.find("'", self.offset + 1)
        if end < 0:
            raise self.refuse(self.offset, "close it with '", "a quote that is not closed")
        inner = self.text[self.offset + 1 : end]
        self.offset = end + 1
        return inner

    def double(self) -> str:
        start = self.offset
        out: list[str] = []
        self.offset += 1
        while self.offset < len(self.text):
            char = self.text[self.offset]
            if char == '"':
                self.offset += 1
                return "".join(out)
            if char == "\\" and self.text[self.offset + 1 : self.offset + 2] in ('"', "\\", "$", "`", "\n"):
                out.append(self.text[self.offset + 1].replace("\n", ""))
                self.offset += 2
            elif char == "$" and self.text[self.offset + 1 : self.offset + 2] in ("", '"', " "):
                out.append(char)
                self.offset += 1
            elif char == "$":
                out.append(self.expansion())
            elif char == "`":
                raise self.refuse(self.offset, _REFUSED[char])
            else:
                out.append(char)
                self.offset += 1
        raise self.refuse(start, 'close it with "', "a quote that is not closed")

    def expansion(self) -> str:
        """$PPID, or $(( )) computed."""
        if found := _PPID.match(self.text, self.offset):
            self.offset = found.end()
            return "$PPID"
        if found := _ARITHMETIC.match(self.text, self.offset):
            value = calculate(found[1].strip(), self.place(found.start(1)), self.source)
            self.offset = found.end()
            return str(value)
        raise self.refuse(self.offset, _REFUSED["$"])

    def redirect(self, operator: str) -> Redirect:
        at = self.place(self.offset)
        self.offset += len(operator)
        if operator == "2>&1":
            return Redirect(operator, "", at)
        self.blanks()
        start = self.offset
        target = self.word()
        if self.offset == start:
            raise self.refuse(start, what=f"{operator} without a file")
        return Redirect(operator, target.text, at)

    def simple(self) -> Simple | None:
        """A command, or None where none stands."""
        words: list[Word] = []
        redirects: list[Redirect] = []
        while True:
            self.blanks()
            if self.offset >= len(self.text):
                break
            operator = self.operator()
            if operator in ("2>&1", "&>", "2>", ">>", ">"):
                redirects.append(self.redirect(operator))
            elif operator:
                break
            else:
                words.append(self.word())
        if redirects and not words:
            raise ScriptError("a redirection without a command", redirects[0].at, self.source)
        return Simple(tuple(words), tuple(redirects)) if words else None


def pipelines(command: Command, source: Source | None = None) -> list[Pipeline]:
    """A shell text's pipelines in order; raises ScriptError."""
    reader = _Reader(command, source)
    out: list[Pipeline] = []
    commands: list[Simple] = []
    while True:
        found = reader.simple()
        operator = reader.operator()
        if found:
            commands.append(found)
        waiting = bool(commands) or bool(out and out[-1].then in ("&&", "||"))
        if operator == "\n" and not found and waiting:
            reader.offset += 1
            continue
        if found is None and (commands or operator in ("|", "&&", "||", ";") or (waiting and not operator)):
            raise reader.refuse(reader.offset, what="a command is missing here")
        reader.offset += len(operator)
        if operator == "|":
            continue
        if commands:
            out.append(Pipeline(tuple(commands), ";" if operator == "\n" else operator))
            commands = []
        if not operator:
            return out
