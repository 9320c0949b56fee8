"""Tokens: the longest match wins, and what begins no token is shown with its place."""

import pytest

from conformance.pkt.lexer import Kind, tokens
from conformance.pkt.source import ScriptError, Source


def lex(text: str) -> list[tuple[Kind, str]]:
    found = tokens(Source("t", text))
    assert found[-1].kind is Kind.END
    return [(t.kind, t.text) for t in found[:-1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("S.5", [(Kind.WORD, "S"), (Kind.FLOAT, ".5")]),
        ("S. 5", [(Kind.WORD, "S"), (Kind.CHAR, "."), (Kind.INTEGER, "5")]),
        ("0...0.2", [(Kind.INTEGER, "0"), (Kind.ELLIPSIS, "..."), (Kind.FLOAT, "0.2")]),
        ("+.1...1", [(Kind.CHAR, "+"), (Kind.FLOAT, ".1"), (Kind.ELLIPSIS, "..."), (Kind.INTEGER, "1")]),
        ("1.", [(Kind.INTEGER, "1"), (Kind.CHAR, ".")]),
        ("-1 - -.5", [(Kind.INTEGER, "-1"), (Kind.CHAR, "-"), (Kind.FLOAT, "-.5")]),
        ("0x1F 0xg", [(Kind.HEX, "0x1F"), (Kind.WORD, "0xg")]),
        ("00ff 12ab 1234", [(Kind.WORD, "00ff"), (Kind.WORD, "12ab"), (Kind.INTEGER, "1234")]),
        ("192.168.0.1 1.5", [(Kind.IPV4, "192.168.0.1"), (Kind.FLOAT, "1.5")]),
        ("fd3d:0a0b:17d6::1", [(Kind.IPV6, "fd3d:0a0b:17d6::1")]),
        ("::ffff:1.2.3.4", [(Kind.IPV6, "::ffff:1.2.3.4")]),
        ("::2: .", [(Kind.IPV6, "::2"), (Kind.CHAR, ":"), (Kind.CHAR, ".")]),
        ("1:2(3)", [(Kind.INTEGER, "1"), (Kind.CHAR, ":"), (Kind.INTEGER, "2"), (Kind.CHAR, "("),
                    (Kind.INTEGER, "3"), (Kind.CHAR, ")")]),
        ("--mtu=1500", [(Kind.OPTION, "--mtu"), (Kind.CHAR, "="), (Kind.INTEGER, "1500")]),
        ("ack acks", [(Kind.KEYWORD, "ack"), (Kind.WORD, "acks")]),
        ('"a\\"b" `c\nd`', [(Kind.STRING, '"a\\"b"'), (Kind.COMMAND, "`c\nd`")]),
        ("%{ a % b } }%", [(Kind.CODE, "%{ a % b } }%")]),
        ("a // b\nc /* d\n * / */ e", [(Kind.WORD, "a"), (Kind.WORD, "c"), (Kind.WORD, "e")]),
        ("", []),
    ],
)  # fmt: skip
def test_the_longest_match_wins(text: str, expected: list[tuple[Kind, str]]) -> None:
    assert lex(text) == expected


def test_places_count_lines_and_characters_from_1() -> None:
    found = tokens(Source("t", "ä\n".replace("ä", "a") + "\t`x\ny` z"))
    assert [(t.at.line, t.at.column) for t in found] == [(1, 1), (2, 2), (3, 4), (3, 5)]


@pytest.mark.parametrize(
    ("text", "what", "help"),
    [
        ("a # b", "'#' has no meaning here", "a comment starts with //"),
        ("a 'b'", '"\'" has no meaning here', "double quotes"),
        ('a "b', "a string that is not closed", 'close it with "'),
        ("a `b", "a command that is not closed", "close it with `"),
        ("a %{ b", "a code block that is not closed", "close it with }%"),
        ("a /* b", "a comment that is not closed", "close it with */"),
        ("a é", "'é' has no meaning here", ""),
    ],
)
def test_what_begins_no_token_is_shown_with_its_place(text: str, what: str, help: str) -> None:
    with pytest.raises(ScriptError) as why:
        lex(text)
    assert why.value.what == what
    assert help in why.value.help
    assert (why.value.at.line, why.value.at.column) == (1, 3)
