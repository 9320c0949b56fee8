"""A script's text as tokens: the longest match wins, as in the language's own lexer.

So `S.5` is the word S and the number .5, and `0...0.2` is 0, an ellipsis, 0.2.
"""

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

from conformance.pkt.constants import word_set
from conformance.pkt.source import Pos, ScriptError, Source


class Kind(StrEnum):
    """What a token is, in the words of an error message."""

    FLOAT = "decimal number"
    INTEGER = "number"
    HEX = "hexadecimal number"
    WORD = "word"
    KEYWORD = "keyword"
    OPTION = "option"
    IPV4 = "IPv4 address"
    IPV6 = "IPv6 address"
    STRING = "string"
    COMMAND = "back-quoted command"
    CODE = "code block"
    ELLIPSIS = "..."
    CHAR = "character"
    END = "end of the script"


class Token(Struct, frozen=True):
    """A token as it stands in the text, quotes included."""

    kind: Kind
    text: str
    at: Pos

    def describe(self) -> str:
        """The token as an error shows it."""
        if self.kind is Kind.END:
            return str(self.kind)
        shown = self.text if len(self.text) <= 40 else self.text[:37] + "..."
        return f"{self.kind} {shown!r}" if self.kind is not Kind.CHAR else repr(shown)


KEYWORDS: Final = word_set(
    """
    ack win urg sack sackOK mss TS val ecr nop eol wscale FO FOEXP md5 ECN e0b e1b ceb icmp udp ipv4 ipv6 gre GREv0
    mpls label tc ttl tos flowlabel ect0 ect1 ect01 ce noecn mtu id raw encap psp spi none checksum key seq sum off
    present flags Flags fd events revents ptr u32 u64 onoff linger sa_family sin_port sin_addr htons inet_addr
    inet6_addr msg_name msg_iov msg_flags msg_control cmsg_level cmsg_type cmsg_data ee_errno ee_origin ee_type ee_code
    ee_info ee_data scm_sec scm_nsec
    """
)

_H = "[0-9a-fA-F]{1,4}"
_V4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w)"
_TOKEN: Final = re.compile(
    rf"""
    (?P<skip>(?:\s|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)+)
  | (?P<ellipsis>\.\.\.)
  | (?P<option>--[A-Za-z0-9_]+)
  | (?P<ipv6>(?:(?:{_H}:){{6}}|(?:{_H}(?::{_H}){{0,5}})?::(?:{_H}:){{0,5}}){_V4}
            |(?:{_H}:){{7}}{_H}(?!\w)
            |(?:{_H}(?::{_H}){{0,6}})?::(?:{_H}(?::{_H}){{0,6}}(?!\w))?)
  | (?P<ipv4>{_V4})
  | (?P<float>-?[0-9]*\.[0-9]+)
  | (?P<hex>0x[0-9a-fA-F]+(?!\w))
  | (?P<integer>-[0-9]+|[0-9]+(?!\w))
  | (?P<word>\w+)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<command>`(?:[^`\\]|\\.)*`)
  | (?P<code>%\{{(?:[^}}]|\}}(?!%))*\}}%)
  | (?P<char>[-+*~<>()\[\]{{}},.:=|]|/(?!\*))
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)

_UNCLOSED: Final = {
    '"': ("a string that is not closed", 'close it with "'),
    "`": ("a command that is not closed", "close it with `"),
    "%{": ("a code block that is not closed", "close it with }%"),
    "/*": ("a comment that is not closed", "close it with */"),
}
_HINTS: Final = {
    "#": "a comment starts with //",
    "'": 'strings stand in double quotes: "..."',
    ";": "an event needs no end mark",
    "$": "variables stand only in back-quoted commands",
    "%": "code stands in %{ and }%",
}


class _Place:
    """Line and column of a growing offset."""

    def __init__(self, source: Source) -> None:
        self.text, self.name = source.text, source.name
        self.offset, self.line, self.start = 0, 1, 0

    def __call__(self, offset: int) -> Pos:
        lines = self.text.count("\n", self.offset, offset)
        if lines:
            self.line += lines
            self.start = self.text.rindex("\n", self.offset, offset) + 1
        self.offset = offset
        return Pos(self.line, offset - self.start + 1, self.name)


def tokens(source: Source) -> list[Token]:
    """The text's tokens, an END last; raises ScriptError for what begins none."""
    out: list[Token] = []
    text, place, offset = source.text, _Place(source), 0
    while offset < len(text):
        found = _TOKEN.match(text, offset)
        if found is None:
            raise _no_token(source, place(offset), offset)
        if found.lastgroup != "skip":
            kind = Kind[str(found.lastgroup).upper()]
            word = found.group()
            if kind is Kind.WORD and word in KEYWORDS:
                kind = Kind.KEYWORD
            out.append(Token(kind, word, place(offset)))
        offset = found.end()
    out.append(Token(Kind.END, "", place(len(text))))
    return out


def _no_token(source: Source, at: Pos, offset: int) -> ScriptError:
    for mark, (what, help) in _UNCLOSED.items():
        if source.text.startswith(mark, offset):
            return ScriptError(what, at, source, help=help)
    char = source.text[offset]
    return ScriptError(f"{char!r} has no meaning here", at, source, help=_HINTS.get(char, ""))
