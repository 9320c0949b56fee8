"""The parser's place among the tokens: looking, taking, numbers within bounds, errors that say what was expected."""

from collections.abc import Collection, Mapping
from typing import NoReturn

from conformance.pkt import constants
from conformance.pkt.lexer import Kind, Token, tokens
from conformance.pkt.source import Pos, ScriptError, Source

U8, U16, U24, U32, U64 = (1 << 8) - 1, (1 << 16) - 1, (1 << 24) - 1, (1 << 32) - 1, (1 << 64) - 1
NUMBERS = (Kind.INTEGER, Kind.HEX)
DEEPEST = 64
"""Definitions that lead from one word to the next."""


class Cursor:
    """The tokens of a script; a word that is defined reads as its value."""

    def __init__(self, source: Source, defines: Mapping[str, Token]) -> None:
        self.source = source
        self.tokens = tokens(source)
        self.defines = dict(defines)
        self.index = 0

    def raw(self, ahead: int = 0) -> Token:
        """The token `ahead` as it is written."""
        return self.tokens[min(self.index + ahead, len(self.tokens) - 1)]

    def peek(self, ahead: int = 0) -> Token:
        """The token `ahead`, a defined word as its value."""
        token = self.raw(ahead)
        seen: set[str] = set()
        while token.kind is Kind.WORD and token.text in self.defines:
            if len(seen) == DEEPEST:
                raise self.error(f"more than {DEEPEST} definitions lead from {self.raw(ahead).text!r} to its value")
            if token.text in seen:
                raise self.error(f"the definition of {token.text!r} leads back to itself", self.raw(ahead))
            seen.add(token.text)
            value = self.defines[token.text]
            token = Token(value.kind, value.text, token.at)
        return token

    def take(self) -> Token:
        """The next token, passed over."""
        token = self.peek()
        self.index += 1
        return token

    @property
    def at(self) -> Pos:
        """Where the next token stands."""
        return self.raw().at

    def error(self, what: str, token: Token | None = None, expected: str = "", help: str = "") -> ScriptError:
        """An error at a token."""
        return ScriptError(what, (token or self.raw()).at, self.source, expected, help)

    def fail(self, expected: str, help: str = "") -> NoReturn:
        """The next token is not what the language wants here."""
        raise self.error(f"found {self.peek().describe()}", self.raw(), expected, help)

    def is_char(self, text: str, ahead: int = 0) -> bool:
        """Is the token `ahead` this character?"""
        token = self.raw(ahead)
        return token.kind is Kind.CHAR and token.text == text

    def is_kind(self, *kinds: Kind, ahead: int = 0) -> bool:
        """Is the token `ahead` of one of these kinds?"""
        return self.peek(ahead).kind in kinds

    def is_word(self, *texts: str, ahead: int = 0) -> bool:
        """Is the token `ahead` one of these words or keywords?"""
        token = self.peek(ahead)
        return token.kind in (Kind.WORD, Kind.KEYWORD) and token.text in texts

    def skip(self, char: str) -> bool:
        """Passes over this character if it comes next."""
        if self.is_char(char):
            self.index += 1
            return True
        return False

    def skip_word(self, *texts: str) -> bool:
        """Passes over one of these words if it comes next."""
        if self.is_word(*texts):
            self.index += 1
            return True
        return False

    def want(self, char: str, where: str, help: str = "") -> Token:
        """This character, or an error."""
        if not self.is_char(char):
            self.fail(f"{char!r} {where}", help)
        return self.take()

    def want_word(self, text: str, where: str) -> Token:
        """This word, or an error."""
        if not self.is_word(text):
            self.fail(f"{text!r} {where}")
        return self.take()

    def one_of(self, names: Collection[str], what: str) -> str:
        """One of these names, or an error with the nearest of them."""
        token = self.peek()
        if token.kind not in (Kind.WORD, Kind.KEYWORD):
            self.fail(what)
        if token.text not in names:
            raise self.error(f"{token.text!r} is no {what}", self.raw(), help=constants.nearest(token.text, names))
        return self.take().text

    def number(self, what: str, high: int, low: int = 0) -> int:
        """An integer in [low, high], or an error."""
        token = self.peek()
        if token.kind not in NUMBERS:
            self.fail(what)
        value = self.value_of(token)
        if not low <= value <= high:
            raise self.error(f"{what} {token.text} is out of range", self.raw(), f"{low} to {high}")
        self.take()
        return value

    def value_of(self, token: Token) -> int:
        """An integer token's value; one of more than 64 bits is an error."""
        if len(token.text) > 32:
            raise self.error(f"{token.describe()} is out of range", token, "at most 64 bits")
        value = int(token.text, 16 if token.kind is Kind.HEX else 10)
        if not -(1 << 63) <= value <= U64:
            raise self.error(f"{token.text} is out of range", token, "at most 64 bits")
        return value

    def hex_bytes(self, what: str) -> bytes:
        """Bytes written as hexadecimal digits, which may look like a word or like a decimal number."""
        token = self.peek()
        if token.kind not in (Kind.WORD, Kind.INTEGER, Kind.KEYWORD):
            self.fail(f"{what} in hexadecimal digits", "leave 0x out" if token.kind is Kind.HEX else "")
        if len(token.text) % 2 or not all(c in "0123456789abcdefABCDEF" for c in token.text):
            help = "two digits a byte"
            if token.kind is Kind.WORD and token.text.upper() == token.text and not token.text.isdigit():
                help = f"is {token.text} to be given with -D {token.text}=...?"
            raise self.error(f"{token.describe()} is no {what}", self.raw(), f"{what} in hexadecimal digits", help)
        self.take()
        return bytes.fromhex(token.text)

    def time_us(self) -> int:
        """Seconds as a count of us; parts of a us are dropped."""
        token = self.peek()
        if token.kind not in (Kind.FLOAT, Kind.INTEGER):
            self.fail("a time in seconds", "such as 0, .1 or 1.25")
        if token.text.startswith("-"):
            raise self.error(f"the time {token.text} is negative", self.raw(), help="events go forward only")
        whole, _, part = token.text.partition(".")
        if len(whole) > 9:
            raise self.error(f"the time {token.text} is out of range", self.raw(), "at most 999999999 s")
        self.take()
        return int(whole or "0") * 1_000_000 + int(part[:6].ljust(6, "0"))
