"""System calls: their arguments, the structures among them, and which call takes what."""

from typing import Final

from conformance.pkt import constants
from conformance.pkt.ast import (
    Address,
    Arg,
    Auto,
    Call,
    Cmsg,
    EpollEvent,
    ExtErr,
    Gre,
    IoVec,
    Items,
    Linger,
    Mpls,
    MsgHdr,
    Number,
    Or,
    PollFd,
    ScmTime,
    SockAddr,
    Stats,
    Symbol,
    Text,
)
from conformance.pkt.cursor import U16, Cursor
from conformance.pkt.lexer import Kind, Token
from conformance.pkt.packets import address, gre, mpls

DEEPEST: Final = 16
NUMERIC: Final = (Number, Symbol, Or)
_N: Final = NUMERIC
_A: Final = (*NUMERIC, Auto)
_BUF: Final = (Auto, Number, Symbol)
_ADDR: Final = (*NUMERIC, Auto, SockAddr)
_LIST: Final = (Items, Number, Symbol, Auto)
_VALUE: Final = (*NUMERIC, Auto, Items, Text, Linger, Address, Gre, Mpls)

Kinds = tuple[type[object], ...]

SIGNATURES: Final[dict[str, tuple[int, tuple[Kinds, ...]]]] = {
    "socket": (3, (_A, _N, _N)),
    "bind": (3, (_N, _ADDR, _A)),
    "listen": (2, (_N, _N)),
    "accept": (3, (_N, _LIST, _LIST)),
    "connect": (3, (_N, _ADDR, _A)),
    "read": (3, (_N, _BUF, _N)),
    "readv": (3, (_N, (Items,), _N)),
    "recv": (4, (_N, _BUF, _N, _N)),
    "recvfrom": (6, (_N, _BUF, _N, _N, _LIST, _LIST)),
    "recvmsg": (3, (_N, (MsgHdr,), _N)),
    "write": (3, (_N, _BUF, _N)),
    "writev": (3, (_N, (Items,), _N)),
    "send": (4, (_N, _BUF, _N, _N)),
    "sendto": (6, (_N, _BUF, _N, _N, _ADDR, _A)),
    "sendmsg": (3, (_N, (MsgHdr,), _N)),
    "fcntl": (2, (_N, _N, _N)),
    "ioctl": (2, (_N, _N, _LIST)),
    "close": (1, (_N,)),
    "shutdown": (2, (_N, _N)),
    "getsockopt": (5, (_N, _N, _N, _VALUE, _LIST)),
    "setsockopt": (5, (_N, _N, _N, _VALUE, _A)),
    "poll": (3, ((Items,), _N, _N)),
    "cap_set": (3, (_N, _N, _N)),
    "open": (2, ((Text, Auto), _N, _N)),
    "sendfile": (4, (_N, _N, _LIST, _N)),
    "epoll_create": (1, (_N,)),
    "epoll_ctl": (4, (_N, _N, _N, (EpollEvent, Number, Symbol))),
    "epoll_wait": (4, (_N, (EpollEvent, Auto), _N, _N)),
    "pipe": (1, ((Items,),)),
    "splice": (6, (_N, _LIST, _N, _LIST, _N, _N)),
    "psp_rx_assoc": (1, (_VALUE,) * 6),
    "psp_tx_assoc": (1, (_VALUE,) * 6),
}
"""Every call: how many arguments it needs, and what each may be."""

_NAMES: Final[dict[type[object], str]] = {
    Auto: "...",
    Number: "a number",
    Symbol: "a constant",
    Or: "constants joined by |",
    Items: "a [list]",
    Text: "a string",
    Linger: "{onoff=, linger=}",
    EpollEvent: "{events=, fd=}",
    MsgHdr: "{msg_iov(N)=[...], ...}",
    SockAddr: "{sa_family=, ...}",
}


class CannotCall(Exception):
    """A call that is not made here; the message says why."""


def number(arg: Arg) -> int:
    """The value of a number, a constant or constants joined by |; raises CannotCall for any other argument."""
    match arg:
        case Number():
            return arg.value
        case Symbol():
            return constants.SYMBOLS[arg.name]
        case Or():
            value = 0
            for part in arg.parts:
                value |= number(part)
            return value
        case _:
            raise CannotCall(f"a number is wanted where {_NAMES.get(type(arg), 'something else')} stands")


def call(c: Cursor) -> Call:
    """A system call from its name to its note."""
    name = c.raw()
    if name.text not in SIGNATURES:
        help = constants.nearest(name.text, SIGNATURES) or f"the language has {', '.join(SIGNATURES)}"
        raise c.error(f"unknown system call {name.text[:40]!r}", name, help=help)
    c.take()
    c.want("(", "after a call's name")
    starts: list[Token] = []
    args: list[Arg] = []
    while not c.skip(")"):
        if args:
            c.want(",", "or ')' after an argument")
        starts.append(c.raw())
        args.append(argument(c))
    _check_args(c, name, starts, args)
    c.want("=", "and the call's result", "every call has its result, such as = 0 or = -1 EAGAIN (...)")
    result = argument(c)
    if not isinstance(result, (*NUMERIC, Auto)):
        raise c.error("a call's result is a number", name)
    errno: str | None = None
    if c.is_kind(Kind.WORD):
        errno = c.one_of(constants.ERRNO, "error name")
    return Call(at=name.at, name=name.text, args=tuple(args), result=result, errno=errno, note=_note(c))


def _check_args(c: Cursor, name: Token, starts: list[Token], args: list[Arg]) -> None:
    least, kinds = SIGNATURES[name.text]
    if not least <= len(args) <= len(kinds):
        count = str(least) if least == len(kinds) else f"{least} to {len(kinds)}"
        raise c.error(f"{name.text} with {len(args)} arguments", name, f"{count} arguments")
    for n, (token, arg, allowed) in enumerate(zip(starts, args, kinds, strict=False), 1):
        if not isinstance(arg, allowed):
            wanted = ", ".join(_NAMES.get(k, k.__name__) for k in allowed)
            raise c.error(f"argument {n} of {name.text} is something else", token, wanted)


def _note(c: Cursor) -> str:
    if not c.is_char("("):
        return ""
    start = c.take()
    words: list[str] = []
    while not c.skip(")"):
        if c.is_kind(Kind.END) or c.raw().at.line > start.at.line + 2:
            raise c.error("a note that is not closed", start, help="close it with )")
        words.append(c.raw().text)
        c.index += 1
    return " ".join(words)


def argument(c: Cursor, depth: int = 0) -> Arg:
    """One argument, or one member of a structure."""
    if depth > DEEPEST:
        raise c.error(f"more than {DEEPEST} brackets within each other")
    token = c.peek()
    at = c.at
    match token.kind:
        case Kind.ELLIPSIS:
            c.take()
            return Auto(at=at)
        case Kind.INTEGER | Kind.HEX | Kind.WORD:
            return _or(c)
        case Kind.STRING:
            value = bytearray()
            while c.is_kind(Kind.STRING):
                value += _unescaped(c, c.peek())
                c.take()
            return Text(at=at, value=bytes(value))
        case Kind.KEYWORD if token.text in ("gre", "GREv0"):
            return gre(c)
        case Kind.KEYWORD if token.text == "mpls":
            return mpls(c)
        case Kind.KEYWORD if token.text in ("inet_addr", "inet6_addr"):
            return Address(at=at, addr=_inet_addr(c))
        case Kind.CHAR if token.text == "[":
            return Items(at=at, items=_list(c, depth))
        case Kind.CHAR if token.text == "{":
            return _structure(c, depth)
        case _:
            c.fail("an argument", "reserved words cannot be constants" if token.kind is Kind.KEYWORD else "")


def _list(c: Cursor, depth: int) -> tuple[Arg, ...]:
    c.want("[", "before a list")
    items: list[Arg] = []
    while not c.skip("]"):
        if items:
            c.want(",", "or ']' after an item")
        items.append(argument(c, depth + 1))
    return tuple(items)


def _or(c: Cursor) -> Number | Symbol | Or:
    at = c.at
    parts = [_atom(c)]
    while c.skip("|"):
        parts.append(_atom(c))
    return parts[0] if len(parts) == 1 else Or(at=at, parts=tuple(parts))


def _atom(c: Cursor) -> Number | Symbol:
    token = c.peek()
    if token.kind in (Kind.INTEGER, Kind.HEX):
        c.take()
        return Number(at=token.at, value=c.value_of(token))
    return Symbol(at=token.at, name=c.one_of(constants.SYMBOLS, "constant"))


_ESCAPES: Final = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, '"': 34, "\\": 92}


def _unescaped(c: Cursor, token: Token) -> bytes:
    """A string token's bytes."""
    out = bytearray()
    text, n = token.text[1:-1], 0
    while n < len(text):
        if text[n] != "\\":
            out += text[n].encode()
            n += 1
            continue
        mark = text[n + 1]
        digits = text[n + 2 : n + 4]
        if mark in _ESCAPES:
            out.append(_ESCAPES[mark])
            n += 2
        elif mark == "x" and len(digits) == 2 and all(x in "0123456789abcdefABCDEF" for x in digits):
            out.append(int(digits, 16))
            n += 4
        else:
            expected = r"\n \t \r \f \v \" \\ or \xhh"
            raise c.error(f"no such escape in a string: {text[n : n + 2]!r}", token, expected)
    return bytes(out)


def _inet_addr(c: Cursor) -> str:
    name = c.take().text
    c.want("(", f"after {name}")
    token = c.peek()
    if token.kind is not Kind.STRING:
        c.fail("an address in double quotes")
    text = address(c, token, token.text[1:-1])
    if (":" in text) != (name == "inet6_addr"):
        raise c.error(f"{text} is no address for {name}", token)
    c.take()
    c.want(")", "after the address")
    return text


# Structures


def _structure(c: Cursor, depth: int) -> Arg:
    """A `{...}`; its first member says which."""
    start = c.take()
    first = c.peek()
    if c.is_kind(Kind.WORD) and c.is_char("=", ahead=1):
        return _stats(c, start, depth)
    if first.kind is not Kind.KEYWORD:
        base = argument(c, depth + 1)
        c.want(",", "after a buffer", "an element of an iovec is {..., length}")
        length = argument(c, depth + 1)
        c.want("}", "after the buffer's length")
        return IoVec(at=start.at, base=base, len=length)
    if first.text == "sa_family":
        return _sockaddr(c, start, depth)
    members = _members(c, depth)
    for names, least in _SHAPES:
        if set(members) <= set(names) and set(least) <= set(members):
            return _shaped(c, start, names[0], members)
    raise c.error(f"no structure has the members {', '.join(members)}", start, help=f"known: {_SHAPES_TEXT}")


_MSG: Final = ("msg_name", "msg_iov", "msg_flags", "msg_control")
_EE: Final = ("ee_errno", "ee_origin", "ee_type", "ee_code", "ee_info", "ee_data")
_SHAPES: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (("onoff", "linger"), ("onoff", "linger")),
    (("revents", "fd", "events"), ("fd", "events", "revents")),
    (("events", "fd"), ("events", "fd")),
    (("events", "ptr"), ("events", "ptr")),
    (("events", "u32"), ("events", "u32")),
    (("events", "u64"), ("events", "u64")),
    (("scm_sec", "scm_nsec"), ("scm_sec", "scm_nsec")),
    (("cmsg_level", "cmsg_type", "cmsg_data"), ("cmsg_level", "cmsg_type", "cmsg_data")),
    (_EE, _EE),
    (_MSG, ()),
)
_SHAPES_TEXT: Final = "; ".join(", ".join(names) for names, _ in _SHAPES)

Member = tuple[Arg | None, Arg]


def _members(c: Cursor, depth: int) -> dict[str, Member]:
    """`name=value` or `name(count)=value`, up to the closing brace."""
    members: dict[str, Member] = {}
    while not c.skip("}"):
        if members:
            c.want(",", "or '}' after a member")
        token = c.raw()
        if token.kind is not Kind.KEYWORD:
            c.fail("a member's name")
        if token.text in members:
            raise c.error(f"{token.text} is written twice", token)
        c.take()
        count: Arg | None = None
        if token.text in ("msg_name", "msg_iov") and c.skip("("):
            count = argument(c, depth + 1)
            c.want(")", f"after the length of {token.text}")
        c.want("=", f"after {token.text}")
        members[token.text] = (count, argument(c, depth + 1))
    return members


def _shaped(c: Cursor, start: Token, first: str, m: dict[str, Member]) -> Arg:
    at = start.at
    match first:
        case "onoff":
            return Linger(at=at, onoff=m["onoff"][1], linger=m["linger"][1])
        case "revents":
            return PollFd(at=at, fd=m["fd"][1], events=m["events"][1], revents=m["revents"][1])
        case "events":
            member = next(name for name in m if name != "events")
            return EpollEvent(at=at, events=m["events"][1], member=member, data=m[member][1])
        case "scm_sec":
            return ScmTime(at=at, sec=m["scm_sec"][1], nsec=m["scm_nsec"][1])
        case "cmsg_level":
            return Cmsg(at=at, level=m["cmsg_level"][1], type=m["cmsg_type"][1], data=m["cmsg_data"][1])
        case "ee_errno":
            return ExtErr(at=at, **{name.removeprefix("ee_"): m[name][1] for name in _EE})
        case _:
            return _msghdr(c, start, m)


def _msghdr(c: Cursor, start: Token, m: dict[str, Member]) -> MsgHdr:
    control: tuple[Cmsg, ...] | None = None
    if "msg_control" in m:
        items = m["msg_control"][1]
        if not isinstance(items, Items):
            raise c.error("msg_control is no list", start, "msg_control=[{cmsg_level=, ...}, ...]")
        messages = [x for x in items.items if isinstance(x, Cmsg)]
        if len(messages) != len(items.items):
            raise c.error("msg_control has an item that is no control message", start)
        control = tuple(messages)
    none: Member = (None, Number(value=0))
    return MsgHdr(
        at=start.at,
        name=m["msg_name"][1] if "msg_name" in m else None,
        name_len=m.get("msg_name", none)[0],
        iov=m["msg_iov"][1] if "msg_iov" in m else None,
        iov_len=m.get("msg_iov", none)[0],
        flags=m["msg_flags"][1] if "msg_flags" in m else None,
        control=control,
    )


def _stats(c: Cursor, start: Token, depth: int) -> Stats:
    values: list[tuple[Symbol, Arg]] = []
    while not c.skip("}"):
        if values:
            c.want(",", "or '}' after an attribute")
        token = c.raw()
        name = c.one_of([n for n in constants.VALUES if n.startswith("TCP_NLA_")], "attribute")
        c.want("=", "after an attribute")
        values.append((Symbol(at=token.at, name=name), argument(c, depth + 1)))
    return Stats(at=start.at, values=tuple(values))


def _sockaddr(c: Cursor, start: Token, depth: int) -> SockAddr:
    c.take()
    c.want("=", "after sa_family")
    family = argument(c, depth + 1)
    c.want(",", "after the family")
    c.want_word("sin_port", "after the family")
    c.want("=", "after sin_port")
    if c.skip_word("htons"):
        c.want("(", "after htons")
        at = c.at
        port: Arg = Number(at=at, value=c.number("port", U16))
        c.want(")", "after the port")
    elif c.is_kind(Kind.ELLIPSIS):
        port = Auto(at=c.take().at)
    else:
        c.fail("htons(PORT)")
    c.want(",", "after the port")
    c.want_word("sin_addr", "after the port")
    c.want("=", "after sin_addr")
    if not c.is_word("inet_addr", "inet6_addr"):
        c.fail('inet_addr("ADDRESS")')
    addr = _inet_addr(c)
    c.want("}", "after the address")
    return SockAddr(at=start.at, sa_family=family, port=port, addr=addr)
