"""Packet lines: direction, outer headers, TCP segments with their options, UDP datagrams, ICMP messages."""

import ipaddress
from typing import Final

from conformance.pkt import constants
from conformance.pkt.ast import (
    Direction,
    Ecn,
    Encap,
    Gre,
    Icmp,
    IpInfo,
    IpLayer,
    Label,
    Mpls,
    Packet,
    Ports,
    Quoted,
    Range,
    Tcp,
    Udp,
)
from conformance.pkt.cursor import U8, U16, U24, U32, Cursor
from conformance.pkt.lexer import Kind, Token
from conformance.pkt.source import Pos
from refmodel.packet.transport import (
    AccEcn,
    Eol,
    Fastopen,
    Md5,
    Mss,
    Nop,
    Sack,
    SackPerm,
    TcpOption,
    Timestamp,
    Wscale,
)

FLAGS: Final = "FSRPUEWA"
OPTION_NAMES: Final = ("mss", "wscale", "sackOK", "sack", "TS", "nop", "eol", "md5", "FO", "FOEXP", "ECN")
OPTION_SPACE: Final = 40
WITH_MTU: Final = frozenset({"frag_needed", "packet_too_big"})
GRE_FLAGS: Final = ("none", "checksum", "key", "seq")


def packet(c: Cursor) -> Packet:
    """A packet line from its direction on."""
    at = c.at
    direction = Direction.IN if c.take().text == "<" else Direction.OUT
    layers: list[Encap] = []
    while c.is_word("ipv4", "ipv6", "gre", "GREv0", "mpls"):
        layers.append(_layer(c, direction))
    info = ip_info(c, direction)
    body: Tcp | Udp | Icmp
    if c.is_word("udp"):
        body = _udp(c)
    elif c.is_word("icmp"):
        body = _icmp(c)
    else:
        body = _tcp(c, direction)
    return Packet(at=at, direction=direction, body=body, layers=tuple(layers), info=info)


# Outer headers


def _layer(c: Cursor, direction: Direction) -> Encap:
    layer: Encap
    if c.is_word("mpls"):
        layer = mpls(c)
    elif c.is_word("ipv4", "ipv6"):
        at = c.at
        version = 4 if c.take().text == "ipv4" else 6
        info = ip_info(c, direction)
        source = _address(c, version)
        c.want(">", "between two addresses")
        layer = IpLayer(at=at, version=version, source=source, dest=_address(c, version), info=info)
    else:
        layer = gre(c)
    c.want(":", "after an outer header")
    return layer


def _address(c: Cursor, version: int) -> str:
    token = c.peek()
    if token.kind is not (Kind.IPV4 if version == 4 else Kind.IPV6):
        c.fail(f"an IPv{version} address")
    address(c, token, token.text)
    return c.take().text


def address(c: Cursor, token: Token, text: str) -> str:
    """An IPv4 or IPv6 address, checked."""
    try:
        ipaddress.ip_address(text)
    except ValueError as why:
        raise c.error(f"{text[:60]!r} is no address: {str(why)[:80]}", token) from why
    return text


def gre(c: Cursor) -> Gre:
    """A GRE header up to its colon."""
    at = c.at
    c.take()
    flags: tuple[str, ...] | None = None
    fields: dict[str, int] = {}
    names = ("flags", "Flags", *GRE_FIELDS)
    while c.is_word(*names) or (c.is_char(",") and c.is_word(*names, ahead=1)):
        c.skip(",")
        token = c.take()
        if token.text in ("flags", "Flags"):
            if flags is not None:
                raise c.error("the flags are written twice", token)
            flags = _gre_flags(c)
            continue
        if token.text in fields:
            raise c.error(f"{token.text} is written twice", token)
        c.skip("=")
        fields[token.text] = c.number(f"GRE {token.text}", GRE_FIELDS[token.text])
    return Gre(at=at, flags=flags or (), **fields)


GRE_FIELDS: Final = {"sum": U16, "off": U16, "key": U32, "seq": U32}


def _gre_flags(c: Cursor) -> tuple[str, ...]:
    c.want("[", "before the flags")
    flags: list[str] = []
    while not c.skip("]"):
        if flags:
            c.want(",", "between two flags")
        flags.append(c.one_of(GRE_FLAGS, "GRE flag"))
        c.skip_word("present")
    return tuple(flags)


def mpls(c: Cursor) -> Mpls:
    """An MPLS label stack up to its colon."""
    at = c.at
    c.take()
    labels: list[Label] = []
    while c.is_char("("):
        here = c.take().at
        c.want_word("label", "first in an MPLS entry")
        label = c.number("label", (1 << 20) - 1)
        c.want(",", "after the label")
        c.want_word("tc", "after the label")
        tc = c.number("traffic class", 7)
        c.want(",", "after the traffic class")
        bottom = c.skip("[")
        if bottom:
            c.want_word("S", "between brackets")
            c.want("]", "after S")
            c.skip(",")
        c.want_word("ttl", "last in an MPLS entry")
        ttl = c.number("ttl", U8)
        c.want(")", "after an MPLS entry")
        labels.append(Label(at=here, label=label, tc=tc, ttl=ttl, bottom=bottom))
    if not labels:
        c.fail("an MPLS entry such as (label 16, tc 0, [S], ttl 64)")
    return Mpls(at=at, labels=tuple(labels))


def ip_info(c: Cursor, direction: Direction) -> IpInfo | None:
    """`[...]` or `(...)` about the IP header, if it stands here."""
    close = "]" if c.is_char("[") else ")" if c.is_char("(") else ""
    if not close:
        return None
    at = c.take().at
    ecn: Ecn | None = None
    numbers: dict[str, int] = {}
    while True:
        token = c.raw()
        name = c.one_of(("ect0", "ect1", "ect01", "ce", "noecn", "tos", "flowlabel", "ttl"), "IP header field")
        if name in numbers or (name not in ("flowlabel", "ttl") and (ecn is not None or "tos" in numbers)):
            raise c.error(f"{name} says again what was said before", token)
        if name in _IP_BOUNDS:
            numbers[name] = c.number(name, _IP_BOUNDS[name])
        else:
            ecn = Ecn(name)
            if ecn is Ecn.ECT01 and direction is Direction.IN:
                raise c.error("ect01 can only be expected, not sent", token, help="write ect0 or ect1")
        if not c.skip(","):
            break
    c.want(close, "after the IP header's fields")
    return IpInfo(at=at, ecn=ecn, **numbers)


_IP_BOUNDS: Final = {"tos": U8, "flowlabel": (1 << 20) - 1, "ttl": U8}


# UDP and ICMP


def _ports(c: Cursor) -> Ports | None:
    if not (c.is_kind(Kind.INTEGER, Kind.HEX) and c.is_char(">", ahead=1)):
        return None
    at = c.at
    source = c.number("port", U16)
    c.take()
    return Ports(at=at, source=source, dest=c.number("port", U16))


def _length(c: Cursor) -> int:
    c.want("(", "before the length")
    length = c.number("length", U16)
    c.want(")", "after the length")
    return length


def _udp(c: Cursor) -> Udp:
    at = c.take().at
    ports = _ports(c)
    return Udp(at=at, ports=ports, length=_length(c))


_ALL_TYPES: Final = frozenset(constants.ICMP_TYPES) | frozenset(constants.ICMP6_TYPES)


def _icmp(c: Cursor) -> Icmp:
    at = c.take().at
    kind = c.one_of(_ALL_TYPES, "ICMP type")
    codes = frozenset(constants.ICMP_CODES.get(kind, ())) | frozenset(constants.ICMP6_CODES.get(kind, ()))
    code: str | None = None
    if c.is_kind(Kind.WORD):
        token = c.peek()
        if token.text not in codes and constants.raw_code(token.text) is None:
            help = constants.nearest(token.text, codes) or "code_N gives a number from 0 to 255"
            raise c.error(f"{token.text!r} is no code of icmp {kind}", c.raw(), help=help)
        code = c.take().text
    mtu = ident = None
    if c.is_word("mtu"):
        if kind not in WITH_MTU and code not in WITH_MTU:
            raise c.error("only frag_needed and packet_too_big carry an mtu")
        c.take()
        mtu = c.number("mtu", U32)
    if c.skip_word("id"):
        ident = c.number("id", U16)
    return Icmp(at=at, type=kind, code=code, mtu=mtu, id=ident, quoted=_quoted(c))


def _quoted(c: Cursor) -> Quoted | None:
    if not c.is_char("["):
        return None
    at = c.take().at
    if c.is_word("udp", "raw"):
        quoted = Quoted(at=at, protocol=c.take().text, length=_length(c))
    else:
        span = _range(c)
        quoted = Quoted(at=at, protocol="tcp", length=span.length, range=span)
    c.want("]", "after the quoted packet")
    return quoted


# TCP


def _tcp(c: Cursor, direction: Direction) -> Tcp:
    at = c.at
    spi: int | None = None
    if c.skip_word("encap"):
        c.want_word("psp", "after encap")
        c.want_word("spi", "after psp")
        spi = c.number("spi", U32)
    ports = _ports(c)
    flags, ack_flag, ace = _flags(c)
    span = _range(c)
    ack = c.number("ack", U32) if c.skip_word("ack") else None
    win = c.number("win", U16) if c.skip_word("win") else None
    if win is None and direction is Direction.IN:
        c.fail("'win' and a window of 0 to 65535", "a segment to inject needs its window field")
    urg = c.number("urg", U16) if c.skip_word("urg") else None
    options_at = c.at
    options = _options(c, direction) if c.is_char("<") else ()
    return Tcp(
        at=at, flags=flags, ack_flag=ack_flag, ace=ace, range=span, ack=ack, win=win, urg=urg, options=options,
        spi=spi, ports=ports, options_at=options_at,
    )  # fmt: skip


def _flags(c: Cursor) -> tuple[str, bool, int | None]:
    """The flags' letters in order, the ACK flag, the ACE digit."""
    token = c.peek()
    letters = ""
    if token.kind is Kind.CHAR and token.text == "-":
        c.take()
        return "", False, None
    if token.kind is Kind.WORD:
        wrong = [x for x in token.text if x not in FLAGS]
        if wrong:
            help = constants.nearest(token.text, ("udp", "icmp")) if len(token.text) > 2 else ""
            raise c.error(f"{token.text[:40]!r} has no TCP flag {wrong[0]!r}", c.raw(), f"letters of {FLAGS}", help)
        letters = "".join(x for x in FLAGS if x in token.text)
        c.take()
    if c.skip("."):
        return letters, True, None
    dot = c.peek()
    if dot.kind is Kind.FLOAT and dot.text.startswith("."):
        if len(dot.text) != 2 or dot.text[1] not in "01234567":
            help = "write a blank between the dot and the sequence number"
            raise c.error(f"{dot.text[:40]!r} is no ACE field", c.raw(), "a dot and one digit from 0 to 7", help)
        if set(letters) & set("EWA"):
            raise c.error(f"the ACE digit {dot.text[1]} and the flags {letters} name the same bits", c.raw())
        c.take()
        if c.is_char(":"):
            c.fail("a sequence number", "write a blank between the dot and the sequence number")
        return letters, True, int(dot.text[1])
    if not letters:
        c.fail("TCP flags, udp or icmp", "flags are letters of FSRPUEWA and a dot for ACK, or - for none")
    return letters, False, None


def _range(c: Cursor) -> Range:
    first = c.raw()
    seq = c.number("sequence number", U32)
    c.want(":", "after the first sequence number")
    end = c.number("sequence number", U32)
    c.want("(", "before the length")
    length = c.number("length", U16)
    c.want(")", "after the length")
    if (seq + length) & U32 != end:
        what = f"{seq}:{end}({length}) does not fit together"
        raise c.error(what, first, help=f"{length} bytes from {seq} end at {(seq + length) & U32}")
    return Range(at=first.at, seq=seq, end=end, length=length)


def _options(c: Cursor, direction: Direction) -> tuple[TcpOption, ...] | None:
    start = c.take()
    if c.is_kind(Kind.ELLIPSIS):
        if direction is Direction.IN:
            raise c.error("<...> can only be expected, not sent", c.raw(), help="write the options out")
        c.take()
        c.want(">", "after the options")
        return None
    options = [_option(c)]
    while c.skip(","):
        options.append(_option(c))
    c.want(">", "or ',' after a TCP option")
    _check_space(c, options, start.at, start)
    return tuple(options)


def _check_space(c: Cursor, options: list[TcpOption], at: Pos, start: Token) -> None:
    size = sum(len(x.wire()) for x in options)
    if size > OPTION_SPACE:
        raise c.error(f"the TCP options take {size} bytes", start, f"at most {OPTION_SPACE}")
    if size % 4:
        help = f"add {4 - size % 4} nop or eol"
        raise c.error(f"the TCP options take {size} bytes", start, "a multiple of 4", help)


def _option(c: Cursor) -> TcpOption:
    name = c.one_of(OPTION_NAMES, "TCP option")
    match name:
        case "mss":
            return Mss(c.number("mss", U16))
        case "wscale":
            return Wscale(c.number("wscale", U8))
        case "sackOK":
            return SackPerm()
        case "sack":
            return _sack(c)
        case "TS":
            c.want_word("val", "after TS")
            val = c.number("TS val", U32)
            c.want_word("ecr", "after TS val")
            return Timestamp(val, c.number("TS ecr", U32))
        case "nop":
            return Nop()
        case "eol":
            return Eol()
        case "md5":
            token = c.raw()
            digest = c.hex_bytes("MD5 digest")
            if len(digest) != 16:
                raise c.error(f"an MD5 digest of {len(digest)} bytes", token, "16 bytes, 32 digits")
            return Md5(digest)
        case "ECN":
            return _acc_ecn(c)
        case _:
            return _fastopen(c, exp=name == "FOEXP")


def _sack(c: Cursor) -> Sack:
    blocks: list[tuple[int, int]] = []
    while not blocks or c.is_kind(Kind.INTEGER, Kind.HEX):
        left = c.number("left edge of a SACK block", U32)
        c.want(":", "between the edges of a SACK block")
        blocks.append((left, c.number("right edge of a SACK block", U32)))
    return Sack(tuple(blocks))


def _fastopen(c: Cursor, exp: bool) -> Fastopen:
    if c.is_char(",") or c.is_char(">"):
        return Fastopen(exp=exp)
    return Fastopen(cookie=c.hex_bytes("Fast Open cookie"), exp=exp)


def _acc_ecn(c: Cursor) -> AccEcn:
    """AccECN0 starts with e0b, AccECN1 with e1b; later counters may be left out from the end."""
    if not c.is_word("e0b", "e1b"):
        c.fail("'e0b' or 'e1b' after ECN")
    order = 0 if c.is_word("e0b") else 1
    counters: list[int] = []
    for name in ("e1b", "ceb", "e0b") if order else ("e0b", "ceb", "e1b"):
        if not c.skip_word(name):
            break
        counters.append(c.number(name, U24))
    return AccEcn(order, tuple(counters))
