"""Scripts: options, the command before the start, events with their times, the command after the end.

`parse` reads a text, `load` a file. Both replace defined words by their values, those of the caller before those of the
script. Every fault is a ScriptError that names its place and what would help.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn

from conformance.pkt import constants
from conformance.pkt.ast import Action, Code, Command, Event, Form, Option, Packet, Script, Time
from conformance.pkt.calls import call
from conformance.pkt.cursor import Cursor
from conformance.pkt.lexer import Kind, Token, tokens
from conformance.pkt.packets import packet
from conformance.pkt.source import LARGEST, Pos, ScriptError, Source, inside, read_source

VALUES: Final = (Kind.INTEGER, Kind.HEX, Kind.WORD, Kind.STRING, Kind.COMMAND)


def load(path: Path, defines: Mapping[str, str] | None = None) -> Script:
    """The script in a file, its `defines` as with -D; raises ScriptError, OSError."""
    source = read_source(path)
    return _script(source, defines or {})


def parse(text: str, name: str = "script", defines: Mapping[str, str] | None = None) -> Script:
    """The script in a text; `defines` maps words to a number, a word, a "string" or a `command`; raises ScriptError."""
    if len(text) > LARGEST:
        raise ScriptError(f"{len(text)} characters are more than a script may have ({LARGEST})", Pos(1, 1, name))
    return _script(Source(name, text), defines or {})


def definition(text: str) -> tuple[str, str]:
    """NAME=VALUE, as -D takes it, apart; raises ScriptError."""
    name, equals, value = text.partition("=")
    source = Source("-D", text)
    if not equals or not name.isascii() or not name.replace("_", "a").isalnum():
        raise ScriptError("no definition", Pos(1, 1, "-D"), source, "NAME=VALUE")
    _defined(name, value)
    return name, value


def _defined(name: str, value: str) -> Token:
    source = Source(f"-D {name}", value)
    found = tokens(source)
    if len(found) != 2 or found[0].kind not in (*VALUES, Kind.KEYWORD):
        raise ScriptError(
            "no value of a definition", Pos(1, 1, source.name), source, 'a number, a word, a "string" or a `command`'
        )
    return found[0]


def _script(source: Source, defines: Mapping[str, str]) -> Script:
    c = Cursor(source, {name: _defined(name, value) for name, value in defines.items()})
    options = tuple(_options(c, frozenset(defines)))
    init = _command(c) if c.is_kind(Kind.COMMAND) else None
    events: list[Event] = []
    cleanup: Command | None = None
    last: Time | None = None
    while not c.is_kind(Kind.END):
        if c.is_kind(Kind.COMMAND) and events:
            cleanup = _command(c)
            if not c.is_kind(Kind.END):
                raise c.error(
                    "this stands after the last command, which has no time",
                    help=f"give the command in line {cleanup.at.line} a time, such as +0",
                )
            break
        event = _event(c, last)
        if not events and (event.time.start != 0 or event.time.form is Form.ANY):
            raise ScriptError("the first event is not at time 0", event.at, source, help="write 0 or +0")
        if not event.time.relative and event.time.form is not Form.ANY:
            last = event.time
        events.append(event)
    if not events:
        c.fail("an event such as: 0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3")
    return Script(source=source, options=options, init=init, events=tuple(events), cleanup=cleanup)


# Options


def _options(c: Cursor, fixed: frozenset[str]) -> Iterator[Option]:
    """The options; those in `fixed` stay as the caller defined them."""
    while c.is_kind(Kind.OPTION):
        token = c.take()
        name = token.text.removeprefix("--")
        if name not in constants.OPTIONS:
            help = constants.nearest(name, constants.OPTIONS)
            raise c.error(f"unknown option {token.text[:60]}", token, help=help)
        if not c.skip("="):
            if name == "define":
                c.fail("'=' and NAME=VALUE after --define")
            yield Option(at=token.at, name=name)
        elif name == "define":
            yield _define(c, token, fixed)
        else:
            yield Option(at=token.at, name=name, value=_value(c, name))


def _define(c: Cursor, token: Token, fixed: frozenset[str]) -> Option:
    word = c.raw()
    if word.kind is not Kind.WORD:
        c.fail("a word to define", "reserved words cannot be defined" if word.kind is Kind.KEYWORD else "")
    c.index += 1
    c.want("=", "after the word to define")
    value = c.raw()
    if value.kind not in (*VALUES, Kind.KEYWORD):
        c.fail('a number, a word, a "string" or a `command`')
    c.index += 1
    if word.text not in fixed:
        c.defines[word.text] = value
    return Option(at=token.at, name="define", define=word.text, value=value.text)


def _value(c: Cursor, name: str) -> str:
    token = c.peek()
    if token.kind not in (*VALUES, Kind.KEYWORD, Kind.IPV4, Kind.IPV6):
        c.fail(f"a value for --{name}", "numbers with a decimal point are no option values")
    c.take()
    if name == "ip_version":
        return token.text + _dashed(c)
    return token.text


def _dashed(c: Cursor) -> str:
    """The rest of a word with dashes, as ipv4-mapped-ipv6 is one."""
    rest = ""
    while c.is_char("-") and c.is_kind(Kind.WORD, Kind.KEYWORD, ahead=1):
        c.index += 1
        rest += f"-{c.take().text}"
    return rest


# Events


def _command(c: Cursor) -> Command:
    token = c.take()
    return Command(at=token.at, text=token.text[1:-1], text_at=inside(token.at, token.text, 1))


def _code(c: Cursor) -> Code:
    token = c.take()
    inner = token.text[2:-2]
    text = inner.strip()
    return Code(at=token.at, text=text, text_at=inside(token.at, token.text, 2 + len(inner) - len(inner.lstrip())))


def _event(c: Cursor, last: Time | None) -> Event:
    at = c.at
    time = _time(c)
    if c.is_kind(Kind.ELLIPSIS):
        time = _blocking(c, time)
    action = _action(c)
    outbound = isinstance(action, Packet) and action.direction == ">"
    if time.form in (Form.ANY, Form.RANGE) and not outbound:
        what = "*" if time.form is Form.ANY else "a range of times"
        raise ScriptError(f"{what} is only for packets that are expected (>)", at, c.source, help="write one time")
    if last and not time.relative and time.form is not Form.ANY and time.start < last.start:
        what = f"this time is before that of line {last.at.line}"
        raise ScriptError(what, at, c.source, help="times go forward only; +T counts from the event before")
    return Event(at=at, time=time, action=action)


def _action(c: Cursor) -> Action:
    token = c.peek()
    if c.is_char("<") or c.is_char(">"):
        return packet(c)
    if token.kind is Kind.COMMAND:
        return _command(c)
    if token.kind is Kind.CODE:
        return _code(c)
    if token.kind in (Kind.WORD, Kind.KEYWORD):
        return call(c)
    c.fail("a packet (< or >), a system call, a `command` or a %{ code block }%")


def _time(c: Cursor) -> Time:
    at = c.at
    if c.skip("*"):
        return Time(at=at, form=Form.ANY)
    if not (c.is_char("+") or c.is_kind(Kind.FLOAT, Kind.INTEGER)):
        _no_time(c)
    relative = c.skip("+")
    start = c.time_us()
    if not c.skip("~"):
        return Time(at=at, start=start, relative=relative)
    if c.is_char("+") != relative:
        raise c.error("the ends of a range are both absolute or both relative", help="T1~T2 or +T1~+T2")
    c.skip("+")
    return Time(at=at, start=start, relative=relative, form=Form.RANGE, end=_end(c, start))


def _no_time(c: Cursor) -> NoReturn:
    expected = "the time of an event"
    if c.is_kind(Kind.COMMAND):
        c.fail(expected)
    if c.is_kind(Kind.OPTION):
        c.fail(expected, "options stand before the first command or event")
    c.fail(expected, "such as 0, +0, +.1, 1.25, * or +0~+.1")


def _end(c: Cursor, start: int) -> int:
    token = c.raw()
    end = c.time_us()
    if end < start:
        raise c.error("the time ends before it starts", token)
    return end


def _blocking(c: Cursor, time: Time) -> Time:
    dots = c.take()
    if time.form is not Form.POINT:
        raise c.error("a blocking call has one time to start and one to return", dots, "T1...T2 or +T1...T2")
    if c.is_char("+"):
        c.fail("the time of the call's return", "it counts from the same base as the start: write +.1...0.3")
    end = _end(c, time.start)
    if c.is_char("<") or c.is_char(">") or c.is_kind(Kind.COMMAND, Kind.CODE):
        raise c.error("only a system call can block", dots, help="write one time")
    return Time(at=time.at, start=time.start, relative=time.relative, form=Form.BLOCKING, end=end)
