"""What a script says, as immutable values; each node knows its place.

Times are microseconds. Sequence numbers are the script's own, relative ones. A defined word has been replaced by its
value. `bare` takes the places away, so that two scripts can be compared by what they say.
"""

from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct, structs

from conformance.pkt.source import NOWHERE, Pos, Source
from refmodel.packet.transport import TcpOption


class Node(Struct, frozen=True, tag=True, tag_field="node", kw_only=True):
    """A part of a script."""

    at: Pos = NOWHERE


# Call arguments


class Auto(Node, frozen=True):
    """`...`: the runner supplies the value."""


class Number(Node, frozen=True):
    """An integer."""

    value: int


class Symbol(Node, frozen=True):
    """A constant by its name; `constants.SYMBOLS` has its value."""

    name: str


class Or(Node, frozen=True):
    """`A|B`: the parts' bits together."""

    parts: "tuple[Number | Symbol, ...]"


class Text(Node, frozen=True):
    """A string, its escapes resolved."""

    value: bytes


class Items(Node, frozen=True):
    """`[a, b]`."""

    items: "tuple[Arg, ...]"


class Linger(Node, frozen=True):
    """`{onoff=, linger=}`: struct linger."""

    onoff: "Arg"
    linger: "Arg"


class PollFd(Node, frozen=True):
    """`{fd=, events=, revents=}`: struct pollfd."""

    fd: "Arg"
    events: "Arg"
    revents: "Arg | None" = None


class EpollEvent(Node, frozen=True):
    """`{events=, fd=|ptr=|u32=|u64=}`: struct epoll_event; `member` names the union's member."""

    events: "Arg"
    member: str
    data: "Arg"


class IoVec(Node, frozen=True):
    """`{..., len}`: struct iovec."""

    base: "Arg"
    len: "Arg"


class SockAddr(Node, frozen=True):
    """`{sa_family=, sin_port=htons(), sin_addr=inet_addr("")}`: struct sockaddr_in or sockaddr_in6."""

    sa_family: "Arg"
    port: "Arg"
    addr: str


class Address(Node, frozen=True):
    """`inet_addr("")` or `inet6_addr("")`."""

    addr: str


class ScmTime(Node, frozen=True):
    """`{scm_sec=, scm_nsec=}`: a time stamp in script time; zeroes stand for any."""

    sec: "Arg"
    nsec: "Arg"


class ExtErr(Node, frozen=True):
    """`{ee_errno=, ...}`: struct sock_extended_err."""

    errno: "Arg"
    origin: "Arg"
    type: "Arg"
    code: "Arg"
    info: "Arg"
    data: "Arg"


class Stats(Node, frozen=True):
    """`{TCP_NLA_X=, ...}`: the attributes of SCM_TIMESTAMPING_OPT_STATS."""

    values: "tuple[tuple[Symbol, Arg], ...]"


class Cmsg(Node, frozen=True):
    """`{cmsg_level=, cmsg_type=, cmsg_data=}`."""

    level: "Arg"
    type: "Arg"
    data: "Arg"


class MsgHdr(Node, frozen=True):
    """`{msg_name(N)=, msg_iov(N)=, msg_flags=, msg_control=}`: struct msghdr; a member not written is None."""

    name: "Arg | None" = None
    name_len: "Arg | None" = None
    iov: "Arg | None" = None
    iov_len: "Arg | None" = None
    flags: "Arg | None" = None
    control: "tuple[Cmsg, ...] | None" = None


class Gre(Node, frozen=True):
    """A GRE header: the flags written, and the fields that they announce."""

    flags: tuple[str, ...] = ()
    sum: int | None = None
    off: int | None = None
    key: int | None = None
    seq: int | None = None


class Label(Node, frozen=True):
    """One entry of an MPLS stack; `bottom` is its S bit."""

    label: int
    tc: int
    ttl: int
    bottom: bool = False


class Mpls(Node, frozen=True):
    """An MPLS label stack."""

    labels: tuple[Label, ...]


Arg = (
    Auto
    | Number
    | Symbol
    | Or
    | Text
    | Items
    | Linger
    | PollFd
    | EpollEvent
    | IoVec
    | SockAddr
    | Address
    | ScmTime
    | ExtErr
    | Stats
    | Cmsg
    | MsgHdr
    | Gre
    | Mpls
)

# Packets


class Direction(StrEnum):
    """Which way a packet goes: into the stack under test, or out of it."""

    IN = "<"
    OUT = ">"


class Ecn(StrEnum):
    """The two ECN bits; ECT01 is either ECT."""

    NOECN = "noecn"
    ECT0 = "ect0"
    ECT1 = "ect1"
    CE = "ce"
    ECT01 = "ect01"


class IpInfo(Node, frozen=True):
    """`[...]` before a packet's body: what of the IP header is set or compared; None is neither."""

    ecn: Ecn | None = None
    tos: int | None = None
    flowlabel: int | None = None
    ttl: int | None = None


class IpLayer(Node, frozen=True):
    """An outer IP header of version 4 or 6."""

    version: int
    source: str
    dest: str
    info: IpInfo | None = None


Encap = IpLayer | Gre | Mpls


class Ports(Node, frozen=True):
    """`SPORT > DPORT`."""

    source: int
    dest: int


class Range(Node, frozen=True):
    """`S:E(L)`: sequence numbers from S up to E, L bytes of data."""

    seq: int
    end: int
    length: int


class Tcp(Node, frozen=True):
    """A TCP segment.

    `flags` are the letters written, in the order FSRPUEWA; `ack_flag` is the dot; `ace` the digit behind it.
    `win` None: not compared. `options` None: `<...>`, not compared; empty: the segment has none.
    """

    flags: str
    ack_flag: bool
    range: Range
    ack: int | None = None
    win: int | None = None
    urg: int | None = None
    options: tuple[TcpOption, ...] | None = ()
    ace: int | None = None
    spi: int | None = None
    ports: Ports | None = None
    options_at: Pos = NOWHERE


class Udp(Node, frozen=True):
    """A UDP datagram of `length` bytes of data."""

    length: int
    ports: Ports | None = None


class Quoted(Node, frozen=True):
    """What an ICMP error quotes: `[S:E(L)]`, `[udp (L)]` or `[raw (L)]`."""

    protocol: str
    length: int
    range: Range | None = None


class Icmp(Node, frozen=True):
    """An ICMP message by the names of type and code; `constants.icmp_numbers` has their numbers."""

    type: str
    code: str | None = None
    mtu: int | None = None
    id: int | None = None
    quoted: Quoted | None = None


class Packet(Node, frozen=True):
    """A packet to inject or to expect; `layers` are the outer headers, outermost first."""

    direction: Direction
    body: Tcp | Udp | Icmp
    layers: tuple[Encap, ...] = ()
    info: IpInfo | None = None


# Events


class Call(Node, frozen=True):
    """A system call with the result it must have; `errno` is a name, `note` what the script says of it."""

    name: str
    args: tuple[Arg, ...]
    result: Arg
    errno: str | None = None
    note: str = ""


class Command(Node, frozen=True):
    """A back-quoted shell text; `text_at` is where it starts. `shell.interpret` reads it."""

    text: str
    text_at: Pos = NOWHERE


class Code(Node, frozen=True):
    """A `%{ }%` snippet, blanks around it taken away; `text_at` is where it starts. `expr.compile_code` reads it."""

    text: str
    text_at: Pos = NOWHERE


Action = Packet | Call | Command | Code


class Form(StrEnum):
    """How a time is written."""

    POINT = "point"
    RANGE = "range"
    BLOCKING = "blocking"
    ANY = "any"


class Time(Node, frozen=True):
    """When an event happens, in us from the script's start, or from the event before where `relative`.

    A RANGE ends at `end`; a BLOCKING call returns at `end`; both have the base that `start` has.
    """

    start: int = 0
    relative: bool = False
    form: Form = Form.POINT
    end: int | None = None


class Event(Node, frozen=True):
    """One line of the script: a time and what happens then."""

    time: Time
    action: Action


class Option(Node, frozen=True):
    """`--name` or `--name=value`, the value as it stands in the script; `define` names the word of a `--define`."""

    name: str
    value: str | None = None
    define: str | None = None


class Script(Struct, frozen=True, kw_only=True):
    """A whole script: options, a command before the start, events, a command after the end."""

    source: Source
    options: tuple[Option, ...] = ()
    init: Command | None = None
    events: tuple[Event, ...] = ()
    cleanup: Command | None = None


T = TypeVar("T")


def bare(node: T) -> T:
    """The same without places: equal where two scripts say the same."""
    return _bare(node)  # type: ignore[no-any-return]


def _bare(node: Any) -> Any:
    if isinstance(node, Pos):
        return NOWHERE
    if isinstance(node, Source):
        return Source("", "")
    if isinstance(node, tuple):
        return tuple(_bare(x) for x in node)
    if isinstance(node, Struct) and not isinstance(node, TcpOption):
        return structs.replace(node, **{f: _bare(getattr(node, f)) for f in node.__struct_fields__})
    return node
