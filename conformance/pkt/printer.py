"""A script as text again: what is printed reads back as the same script."""

from conformance.pkt.ast import (
    Action,
    Address,
    Arg,
    Auto,
    Call,
    Cmsg,
    Code,
    Command,
    Encap,
    EpollEvent,
    Event,
    ExtErr,
    Form,
    Gre,
    Icmp,
    IoVec,
    IpInfo,
    IpLayer,
    Items,
    Linger,
    Mpls,
    MsgHdr,
    Number,
    Option,
    Or,
    Packet,
    PollFd,
    Ports,
    Range,
    ScmTime,
    Script,
    SockAddr,
    Stats,
    Symbol,
    Tcp,
    Text,
    Time,
    Udp,
)
from refmodel.packet.transport import AccEcn, Fastopen, Md5, Mss, Nop, Sack, SackPerm, TcpOption, Timestamp, Wscale


def script(script: Script) -> str:
    """The whole script, one event a line."""
    lines = [_option(x) for x in script.options]
    if script.init:
        lines.append(_command(script.init))
    lines += [event(x) for x in script.events]
    if script.cleanup:
        lines.append(_command(script.cleanup))
    return "\n".join(lines) + "\n"


def event(event: Event) -> str:
    """One event."""
    return f"{time(event.time)} {action(event.action)}"


def seconds(us: int) -> str:
    """us as seconds, without zeros that say nothing."""
    whole, part = divmod(us, 1_000_000)
    return f"{whole}.{part:06}".rstrip("0") if part else str(whole)


def time(time: Time) -> str:
    """An event's time."""
    sign = "+" if time.relative else ""
    start = f"{sign}{seconds(time.start)}"
    match time.form:
        case Form.ANY:
            return "*"
        case Form.RANGE:
            return f"{start}~{sign}{seconds(time.end or 0)}"
        case Form.BLOCKING:
            return f"{start}...{seconds(time.end or 0)}"
        case _:
            return start


def action(action: Action) -> str:
    """What happens, without its time."""
    match action:
        case Packet():
            return packet(action)
        case Call():
            return call(action)
        case Command():
            return _command(action)
        case Code():
            return f"%{{ {action.text} }}%"


def _option(x: Option) -> str:
    if x.define is not None:
        return f"--define={x.define}={x.value}"
    return f"--{x.name}" if x.value is None else f"--{x.name}={x.value}"


def _command(x: Command) -> str:
    return f"`{x.text}`"


# Packets


def packet(x: Packet) -> str:
    """A packet line."""
    parts = [str(x.direction), *(f"{_layer(layer)}:" for layer in x.layers)]
    if x.info:
        parts.append(ip_info(x.info))
    body = x.body
    match body:
        case Tcp():
            parts.append(tcp(body))
        case Udp():
            parts.append(" ".join(["udp", *_ports(body.ports), f"({body.length})"]))
        case Icmp():
            parts.append(_icmp(body))
    return " ".join(parts)


def _layer(x: Encap) -> str:
    match x:
        case IpLayer():
            info = [ip_info(x.info)] if x.info else []
            return " ".join([f"ipv{x.version}", *info, x.source, ">", x.dest, ""])
        case Gre():
            return gre(x) + " "
        case Mpls():
            return mpls(x) + " "


def gre(x: Gre) -> str:
    """A GRE header."""
    flags = [f"flags [{', '.join(x.flags)}]"] if x.flags else []
    fields = [f"{name} {value}" for name in ("sum", "off", "key", "seq") if (value := getattr(x, name)) is not None]
    return " ".join(["gre", ", ".join([*flags, *fields])]).rstrip()


def mpls(x: Mpls) -> str:
    """An MPLS label stack."""
    entries = (f"(label {n.label}, tc {n.tc}, {'[S], ' if n.bottom else ''}ttl {n.ttl})" for n in x.labels)
    return " ".join(["mpls", *entries])


def ip_info(x: IpInfo) -> str:
    """What is said of the IP header."""
    parts = [str(x.ecn)] if x.ecn else []
    parts += [f"tos {x.tos:#x}"] if x.tos is not None else []
    parts += [f"flowlabel {x.flowlabel:#x}"] if x.flowlabel is not None else []
    parts += [f"ttl {x.ttl}"] if x.ttl is not None else []
    return f"[{', '.join(parts)}]"


def _ports(x: Ports | None) -> list[str]:
    return [f"{x.source} > {x.dest}"] if x else []


def span(x: Range) -> str:
    """`S:E(L)`."""
    return f"{x.seq}:{x.end}({x.length})"


def flags(x: Tcp) -> str:
    """The flags as the language writes them."""
    ace = "" if x.ace is None else str(x.ace)
    return x.flags + ("." if x.ack_flag else "") + ace or "-"


def tcp(x: Tcp) -> str:
    """A TCP segment."""
    parts = [f"encap psp spi {x.spi}"] if x.spi is not None else []
    parts += [*_ports(x.ports), flags(x), span(x.range)]
    named = (("ack", x.ack), ("win", x.win), ("urg", x.urg))
    parts += [f"{name} {value}" for name, value in named if value is not None]
    if x.options is None:
        parts.append("<...>")
    elif x.options:
        parts.append(f"<{','.join(option(o) for o in x.options)}>")
    return " ".join(parts)


def option(x: TcpOption) -> str:
    """A TCP option as the language writes it; the kind's number for one that it has no word for."""
    match x:
        case Mss():
            return f"mss {x.mss}"
        case Wscale():
            return f"wscale {x.shift}"
        case SackPerm():
            return "sackOK"
        case Sack():
            return " ".join(["sack", *(f"{left}:{right}" for left, right in x.blocks)])
        case Timestamp():
            return f"TS val {x.tsval} ecr {x.tsecr}"
        case Md5():
            return f"md5 {x.digest.hex()}"
        case Fastopen():
            return " ".join(["FOEXP" if x.exp else "FO", *([x.cookie.hex()] if x.cookie else [])])
        case AccEcn():
            names = ("e1b", "ceb", "e0b") if x.order else ("e0b", "ceb", "e1b")
            return " ".join(["ECN", *(f"{n} {v}" for n, v in zip(names, x.counters, strict=False))])
        case Nop():
            return "nop"
        case _:
            return "eol" if x.kind == 0 else f"kind {x.kind} {x.body().hex()}".rstrip()


def _icmp(x: Icmp) -> str:
    parts = ["icmp", x.type, *([x.code] if x.code else [])]
    parts += [f"mtu {x.mtu}"] if x.mtu is not None else []
    parts += [f"id {x.id}"] if x.id is not None else []
    if x.quoted:
        quoted = span(x.quoted.range) if x.quoted.range else f"{x.quoted.protocol} ({x.quoted.length})"
        parts.append(f"[{quoted}]")
    return " ".join(parts)


# Calls


def call(x: Call) -> str:
    """A system call with its result."""
    parts = [f"{x.name}({', '.join(argument(a) for a in x.args)}) = {argument(x.result)}"]
    if x.errno:
        parts.append(x.errno)
    if x.note:
        parts.append(f"({x.note})")
    return " ".join(parts)


def argument(x: Arg) -> str:
    """An argument, or a member of a structure."""
    match x:
        case Auto():
            return "..."
        case Number():
            return str(x.value)
        case Symbol():
            return x.name
        case Or():
            return "|".join(argument(part) for part in x.parts)
        case Text():
            return text(x.value)
        case Items():
            return f"[{', '.join(argument(item) for item in x.items)}]"
        case Address():
            return _inet_addr(x.addr)
        case Gre():
            return gre(x)
        case Mpls():
            return mpls(x)
        case IoVec():
            return f"{{{argument(x.base)}, {argument(x.len)}}}"
        case SockAddr():
            port = "..." if isinstance(x.port, Auto) else f"htons({argument(x.port)})"
            family = argument(x.sa_family)
            return f"{{sa_family = {family}, sin_port = {port}, sin_addr = {_inet_addr(x.addr)}}}"
        case _:
            return f"{{{', '.join(f'{name}={value}' for name, value in _members(x))}}}"


def _inet_addr(addr: str) -> str:
    return f'inet{"6" if ":" in addr else ""}_addr("{addr}")'


def _members(
    x: Linger | PollFd | EpollEvent | ScmTime | ExtErr | Stats | Cmsg | MsgHdr,
) -> list[tuple[str, str]]:
    match x:
        case Linger():
            return [("onoff", argument(x.onoff)), ("linger", argument(x.linger))]
        case PollFd():
            revents = [] if x.revents is None else [("revents", argument(x.revents))]
            return [("fd", argument(x.fd)), ("events", argument(x.events)), *revents]
        case EpollEvent():
            return [("events", argument(x.events)), (x.member, argument(x.data))]
        case ScmTime():
            return [("scm_sec", argument(x.sec)), ("scm_nsec", argument(x.nsec))]
        case ExtErr():
            names = ("errno", "origin", "type", "code", "info", "data")
            return [(f"ee_{name}", argument(getattr(x, name))) for name in names]
        case Stats():
            return [(name.name, argument(value)) for name, value in x.values]
        case Cmsg():
            return [
                ("cmsg_level", argument(x.level)),
                ("cmsg_type", argument(x.type)),
                ("cmsg_data", argument(x.data)),
            ]
        case MsgHdr():
            return _msghdr(x)


def _msghdr(x: MsgHdr) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for name, value, count in (("msg_name", x.name, x.name_len), ("msg_iov", x.iov, x.iov_len)):
        if value is not None:
            out.append((name if count is None else f"{name}({argument(count)})", argument(value)))
    if x.flags is not None:
        out.append(("msg_flags", argument(x.flags)))
    if x.control is not None:
        out.append(("msg_control", f"[{', '.join(argument(item) for item in x.control)}]"))
    return out


_NAMED = {10: "\\n", 9: "\\t", 13: "\\r", 12: "\\f", 11: "\\v", 34: '\\"', 92: "\\\\"}


def text(value: bytes) -> str:
    """Bytes as a string literal."""
    return '"' + "".join(_NAMED.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in value) + '"'
