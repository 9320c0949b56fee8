"""Scripts that nobody would write: real ones damaged, and new ones that say impossible things in good grammar.

Every choice is drawn from a `random.Random`, so that a seed names a script and Hypothesis may draw it.
"""

# ruff: noqa: E501 - tables of what a script may say

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

from conformance.pkt import constants
from conformance.pkt.ast import Code, Command
from conformance.pkt.calls import SIGNATURES
from conformance.pkt.expr import compile_code
from conformance.pkt.parser import parse
from conformance.pkt.shell import interpret
from conformance.pkt.source import ScriptError

SCRIPTS = Path(__file__).parent.parent / "scripts"
TOKEN = re.compile(r"\w+|\s+|.", re.DOTALL)
NUMBERS = (
    "0", "1", "-1", "2", "3", "4", "5", "7", "100", "1000", "1460", "8192", "65535", "65536", "100000", "1000000",
    "2147483647", "2147483648", "4294967295", "4294967296", "-2147483648", "-2147483649", "9223372036854775807",
    "-9223372036854775808", "18446744073709551615", "18446744073709551616", "99999999999999999999999", "0x", "0xfff",
    "0xffffffffffffffff", "-0", "00", "1.5", ".5",
)  # fmt: skip
WORDS = (
    *sorted(constants.SYMBOLS)[::9], *sorted(SIGNATURES), "win", "ack", "sack", "TS", "val", "ecr", "md5", "...", "<...>",
    "mss", "wscale", "sackOK", "nop", "eol", "FO", "FOEXP", "ECN", "e0b", "e1b", "ceb", "udp", "icmp", "ipv4", "ipv6",
    "gre", "mpls", "[", "]", "(", ")", "{", "}", ",", "=", "|", "<", ">", "*", "~", "+", "+0", "+.1", "...", "`", "%{",
    "}%", '"', "//", "/*", "*/", "\\", "#", "$", "$(", "\x00", "\u00fc", "\U0001f600", "\ufeff", "\r", "\t", "\n", "\n+0 ", ";",
    "assert", "tcpi_snd_cwnd", "9**9**9", "True", "unreachable", "frag_needed", "mtu",
)  # fmt: skip


@cache
def corpus() -> tuple[str, ...]:
    """The scripts that lie in this project."""
    return tuple(path.read_text() for path in sorted(SCRIPTS.rglob("*.pkt")))


# ---------------------------------------------------------------- damage


def mutant(r: Random, text: str) -> str:
    """A script with up to five changes of bytes, tokens or lines."""
    for _ in range(r.randint(1, 5)):
        text = r.choice(CHANGES)(r, text)
    return text[:100_000]


def repaired(text: str, most: int = 60) -> str:
    """The script without the lines that can't be read, so that the rest of it runs; differences end no run."""
    if r"--non_fatal" not in text:
        text = "--non_fatal=packet,syscall\n" + text
    for _ in range(most):
        try:
            script = parse(text)
            for action in (script.init, script.cleanup, *(e.action for e in script.events)):
                if isinstance(action, Command):
                    interpret(action, script.source)
                if isinstance(action, Code):
                    compile_code(action, script.source)
            return text
        except ScriptError as why:
            lines = text.split("\n")
            if not 0 < why.at.line <= len(lines):
                return text
            del lines[why.at.line - 1]
            text = "\n".join(lines)
    return text


def _bytes(r: Random, text: str) -> str:
    at = r.randrange(len(text) + 1)
    cut = r.choice((0, 0, 1, 1, 2, 9))
    new = "".join(chr(r.choice((r.randrange(32, 127), r.randrange(256)))) for _ in range(r.choice((0, 1, 1, 2, 5))))
    return text[:at] + new + text[at + cut :]


def _token(r: Random, text: str) -> str:
    tokens = TOKEN.findall(text) or [""]
    at = r.randrange(len(tokens))
    tokens[at : at + r.choice((0, 1, 1, 1, 2))] = [r.choice(NUMBERS if r.random() < 0.5 else WORDS)]
    return "".join(tokens)


def _number(r: Random, text: str) -> str:
    found = list(re.finditer(r"-?\d+", text))
    if not found:
        return text
    m = r.choice(found)
    value = int(m.group())
    if r.random() < 0.5:
        new = r.choice(NUMBERS)
    else:
        new = str(value + r.choice((-1, 1, 2, -2, 10, 1 << 16, 1 << 31, 1 << 32, value, -2 * value)))
    return text[: m.start()] + new + text[m.end() :]


def _lines(r: Random, text: str) -> str:
    lines = text.split("\n")
    at, to = r.randrange(len(lines)), r.randrange(len(lines))
    what = r.randrange(5)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines[at], lines[to] = lines[to], lines[at]
    elif what == 2:
        lines[at:at] = [lines[to]] * r.choice((1, 1, 2, 30))
    elif what == 3:
        lines = lines[:at]
    else:
        other = r.choice(corpus()).split("\n")
        start = r.randrange(len(other))
        lines[at:at] = other[start : start + r.randint(1, 8)]
    return "\n".join(lines)


def _event(r: Random, text: str) -> str:
    lines = text.split("\n")
    at = r.randrange(len(lines) + 1)
    return "\n".join([*lines[:at], event(r), *lines[at:]])


def _time(r: Random, text: str) -> str:
    found = list(re.finditer(r"^ *\+?[\d.]+|^ *\*", text, re.MULTILINE))
    if not found:
        return text
    m = r.choice(found)
    return text[: m.start()] + time(r) + text[m.end() :]


CHANGES: tuple[Callable[[Random, str], str], ...] = (
    _bytes,
    _token,
    _token,
    _number,
    _number,
    _lines,
    _event,
    _event,
    _time,
)


# ---------------------------------------------------------------- grammar


def number(r: Random) -> str:
    """A number: mostly a small one."""
    return r.choice(NUMBERS[:14] if r.random() < 0.8 else NUMBERS)


def time(r: Random) -> str:
    """When an event is."""
    return r.choice(
        ("+0", "+0", "+0", "+.001", "+.1", "+1", "+100", "0", "*", "+0~+1", "+0...0", "+0...1", "+.1...10", "999999999",
         "+999999999", "+0...999999999", "+86400", "-1", "1e9", "+0~+999999999")
    )  # fmt: skip


def flags(r: Random) -> str:
    """Flags of a segment."""
    letters = "".join(x for x in "FSRPUEWA" if r.random() < 0.15)
    return r.choice(("S", ".", ".", ".", "P.", "F.", "R", "R.", "-", letters + ".", letters or "S", letters + ".5"))


def tcp_options(r: Random) -> str:
    """Options of a segment, often of a good length."""

    def sack() -> str:
        blocks = " ".join(f"{seq(r)}:{seq(r)}" for _ in range(r.randint(1, 4)))
        return f"sack {blocks}"

    one = (
        lambda: f"mss {number(r)}", lambda: "sackOK", lambda: "nop", lambda: "eol", lambda: f"wscale {r.randint(0, 255)}",
        lambda: f"TS val {seq(r)} ecr {seq(r)}", sack, lambda: "md5 " + "0" * 32, lambda: "FO", lambda: "FO 0011",
        lambda: "FO " + "ab" * r.randint(0, 17), lambda: "FOEXP", lambda: f"ECN e0b {r.randrange(9)} ceb 0 e1b 1",
    )  # fmt: skip
    good = (
        "", "<mss 1000,sackOK,nop,nop,nop,wscale 7>", "<nop,nop,TS val 100 ecr 0>", "<mss 0>", "<mss 65535>", "<mss 1,nop,wscale 14>",
        "<mss 1000,sackOK,TS val 100 ecr 0,nop,wscale 14>", f"<nop,nop,sack {seq(r)}:{seq(r)}>", "<mss 40,nop,nop,FO>",
        f"<nop,nop,TS val {seq(r)} ecr {seq(r)}>", "<nop,nop,md5 00000000000000000000000000000000>",
    )  # fmt: skip
    if r.random() < 0.7:
        return r.choice(good)
    return "<" + ",".join(r.choice(one)() for _ in range(r.randint(1, 5))) + ">"


def seq(r: Random) -> int:
    """A sequence number: mostly near the start of the stream."""
    return r.choice(
        (0, 1, 2, 1001, 2001, 3001, r.randrange(20000), r.randrange(1 << 32), 0xFFFFFFFF, 0x7FFFFFFF, 0x80000001)
    )


def segment(r: Random, direction: str) -> str:
    """A TCP segment."""
    start = seq(r)
    length = r.choice((0, 0, 0, 1, 10, 1000, 1460, 5000, 65495, 65535))
    end = (start + length) & 0xFFFFFFFF
    ack = f" ack {seq(r)}" if r.random() < 0.8 else ""
    win = f" win {r.choice((0, 1, 257, 1000, 32792, 65535))}" if direction == "<" or r.random() < 0.3 else ""
    urg = f" urg {r.choice((0, 1, 2, 65535))}" if r.random() < 0.1 else ""
    ip = r.choice(("[ect0] ", "[ce] ", "[tos 255] ", "[ttl 0] ", "[noecn, ttl 1] ")) if r.random() < 0.1 else ""
    return f"{direction} {ip}{flags(r)} {start}:{end}({length}){ack}{win}{urg} {tcp_options(r)}"


def icmp(r: Random) -> str:
    """An ICMP message."""
    kind = r.choice((*constants.ICMP_TYPES, *constants.ICMP6_TYPES, "unreachable", "packet_too_big"))
    codes = [*constants.ICMP_CODES.get(kind, ()), *constants.ICMP6_CODES.get(kind, ()), "code_255", ""]
    code = r.choice(codes)
    mtu = (
        f" mtu {r.choice((0, 1, 68, 296, 552, 1280, 1500, 65535, 4294967295))}"
        if code == "frag_needed" or kind == "packet_too_big"
        else ""
    )
    start = seq(r)
    return f"< icmp {kind} {code}{mtu} [{start}:{(start + 1000) & 0xFFFFFFFF}(1000)]"


def fd(r: Random) -> str:
    """A descriptor."""
    return r.choice(("3", "4", "4", "4", "5", "6", "-1", "999", "100000"))


def constant(r: Random, prefixes: tuple[str, ...]) -> str:
    """A constant whose name begins so, a few of them joined, or a number."""
    names = [n for n in _symbols() if n.startswith(prefixes)]
    if r.random() < 0.1:
        return number(r)
    return " | ".join(r.choice(names) for _ in range(r.choice((1, 1, 1, 2))))


@cache
def _symbols() -> tuple[str, ...]:
    return tuple(sorted(constants.VALUES))


def value(r: Random, depth: int = 0) -> str:
    """An option's value."""
    return r.choice(
        (
            f"[{number(r)}]", f"[{number(r)}]", f"[{number(r)}]", number(r), "...", "[...]", "NULL", "[]", '"cubic"', '"bbr"', '"reno"',
            '"\\x00\\xff"', '"' + "x" * 300 + '"', "{onoff=1, linger=0}", f"{{onoff={number(r)}, linger={number(r)}}}",
            f"[{number(r)}, {number(r)}]", "[[1]]", 'inet_addr("1.2.3.4")', f'"{"ab" * r.randrange(9)}"',
        )
    )  # fmt: skip


def address(r: Random) -> str:
    """A socket address."""
    return r.choice(
        (
            "...", "...", "...", '{sa_family = AF_INET, sin_port = htons(8080), sin_addr = inet_addr("192.0.2.1")}',
            '{sa_family = AF_UNSPEC, sin_port = htons(0), sin_addr = inet_addr("0.0.0.0")}',
            '{sa_family = 77, sin_port = ..., sin_addr = inet_addr("255.255.255.255")}',
            '{sa_family = AF_INET6, sin_port = htons(65535), sin_addr = inet6_addr("::")}',
            '{sa_family = AF_INET6, sin_port = htons(1), sin_addr = inet6_addr("fd3d:fa7b:d17d::1")}',
            '{sa_family = AF_INET, sin_port = htons(1), sin_addr = inet_addr("127.0.0.1")}', "0", "NULL", number(r),
        )
    )  # fmt: skip


def iov(r: Random) -> str:
    """A vector."""
    return (
        "["
        + ", ".join(f"{{..., {number(r)}}}" for _ in range(r.choice((0, 1, 1, 2, 2, 5)) if r.random() < 0.99 else 1025))
        + "]"
    )


def msghdr(r: Random) -> str:
    """A struct msghdr."""
    control = r.choice(
        (
            "", ", msg_control=[]",
            ", msg_control=[{cmsg_level=SOL_SOCKET, cmsg_type=SO_TIMESTAMPING, cmsg_data=SOF_TIMESTAMPING_TX_ACK}]",
            f", msg_control=[{{cmsg_level={number(r)}, cmsg_type={number(r)}, cmsg_data={number(r)}}}]",
            ", msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=1}]",
        )
    )  # fmt: skip
    name = r.choice(("msg_name(...)=...", f"msg_name({number(r)})={address(r)}", ""))
    parts = [name, f"msg_iov({r.choice(('1', '2', number(r)))})={iov(r)}", f"msg_flags={number(r)}"]
    return "{" + ", ".join(p for p in parts if p) + control + "}"


MSG = ("MSG_",)
PATHS = ('"/tmp/x"', '"/dev/zero"', '""', '"/etc/passwd"')
CALLS: dict[str, Callable[[Random], str]] = {
    "socket": lambda r: f"{r.choice(('...', 'AF_INET', 'AF_INET6', number(r)))}, {r.choice(('SOCK_STREAM', constant(r, ('SOCK_',))))}, {r.choice(('IPPROTO_TCP', number(r)))}",
    "bind": lambda r: f"{fd(r)}, {address(r)}, {r.choice(('...', number(r)))}",
    "listen": lambda r: f"{fd(r)}, {number(r)}",
    "accept": lambda r: f"{fd(r)}, ..., ...",
    "connect": lambda r: f"{fd(r)}, {address(r)}, {r.choice(('...', '...', number(r)))}",
    "read": lambda r: f"{fd(r)}, {r.choice(('...', '...', number(r)))}, {number(r)}",
    "readv": lambda r: f"{fd(r)}, {iov(r)}, {number(r)}",
    "recv": lambda r: f"{fd(r)}, ..., {number(r)}, {constant(r, MSG)}",
    "recvfrom": lambda r: f"{fd(r)}, ..., {number(r)}, {constant(r, MSG)}, ..., ...",
    "recvmsg": lambda r: f"{fd(r)}, {msghdr(r)}, {constant(r, MSG)}",
    "write": lambda r: f"{fd(r)}, {r.choice(('...', '...', number(r)))}, {number(r)}",
    "writev": lambda r: f"{fd(r)}, {iov(r)}, {number(r)}",
    "send": lambda r: f"{fd(r)}, ..., {number(r)}, {constant(r, MSG)}",
    "sendto": lambda r: f"{fd(r)}, ..., {number(r)}, {constant(r, MSG)}, {address(r)}, {r.choice(('...', number(r)))}",
    "sendmsg": lambda r: f"{fd(r)}, {msghdr(r)}, {constant(r, MSG)}",
    "fcntl": lambda r: f"{fd(r)}, {constant(r, ('F_',))}, {constant(r, ('O_',))}",
    "ioctl": lambda r: f"{fd(r)}, {constant(r, ('SIOC', 'FIO'))}, {value(r)}",
    "close": lambda r: fd(r),
    "shutdown": lambda r: f"{fd(r)}, {constant(r, ('SHUT_',))}",
    "getsockopt": lambda r: f"{fd(r)}, {level(r)}, {value(r)}, {r.choice(('[4]', '[0]', '[1]', '[-1]', '[99999]', '...', number(r)))}",
    "setsockopt": lambda r: f"{fd(r)}, {level(r)}, {value(r)}, {r.choice(('4', '8', '4', '16', number(r), '...'))}",
    "poll": lambda r: f"[{{fd={fd(r)}, events={constant(r, ('POLL',))}, revents={constant(r, ('POLL',))}}}], {number(r)}, {number(r)}",
    "open": lambda r: f"{r.choice(PATHS)}, {constant(r, ('O_',))}",
    "sendfile": lambda r: f"{fd(r)}, {fd(r)}, {value(r)}, {number(r)}",
    "epoll_create": lambda r: number(r),
    "epoll_ctl": lambda r: f"{fd(r)}, {constant(r, ('EPOLL_CTL',))}, {fd(r)}, {{events={constant(r, ('EPOLL',))}, fd={fd(r)}}}",
    "epoll_wait": lambda r: f"{fd(r)}, {{events={constant(r, ('EPOLL',))}, fd={fd(r)}}}, {number(r)}, {number(r)}",
    "pipe": lambda r: f"[{r.randint(5, 9)}, {r.randint(5, 9)}]",
    "splice": lambda r: f"{fd(r)}, {value(r)}, {fd(r)}, {value(r)}, {number(r)}, {constant(r, ('SPLICE_',))}",
    "cap_set": lambda r: f"{number(r)}, {constant(r, ('CAP_',))}, {constant(r, ('CAP_SET', 'CAP_CLEAR'))}",
    "psp_rx_assoc": lambda r: fd(r),
    "psp_tx_assoc": lambda r: f"{fd(r)}, {number(r)}",
}  # fmt: skip


def level(r: Random) -> str:
    """A level and an option of it."""
    where, names = r.choice(
        (
            ("SOL_SOCKET", ("SO_",)), ("IPPROTO_TCP", ("TCP_",)), ("SOL_TCP", ("TCP_",)), ("IPPROTO_IP", ("IP_",)),
            ("SOL_IPV6", ("IPV6_",)), (number(r), ("SO_", "TCP_", "IP")),
        )
    )  # fmt: skip
    return f"{where}, {constant(r, names)}"


def call(r: Random) -> str:
    """A system call and its result."""
    name = r.choice(tuple(CALLS))
    result = r.choice(("...", "...", "...", "...", "...", "0", "5", "6", "-1", "-1 EAGAIN (...)", number(r)))
    return f"{name}({CALLS[name](r)}) = {result}"


SHELL = (
    "sysctl -q net.ipv4.tcp_sack={n}", "sysctl -q net.ipv4.tcp_rmem='{n} {n} {n}'", "sysctl -q net.ipv4.tcp_wmem='{n} {n} {n}'",
    "sysctl -q net.ipv4.tcp_timestamps={n}", "sysctl -q net.ipv4.tcp_congestion_control={w}", "sysctl -q net.ipv4.tcp_min_tso_segs={n}",
    "sysctl -q net.ipv4.tcp_notsent_lowat={n}", "sysctl -q net.ipv4.tcp_ecn={n}", "sysctl -q net.ipv4.tcp_reordering={n}",
    "sysctl -q net.ipv4.tcp_pingpong_thresh={n}", "sysctl -q net.ipv4.tcp_retries2={n}", "sysctl -q net.ipv4.tcp_rto_min_us={n}",
    "sysctl -q net.ipv4.tcp_mtu_probing={n} net.ipv4.tcp_base_mss={n}", "sysctl -q net.ipv4.tcp_syncookies={n}",
    "sysctl -q net.ipv4.tcp_shrink_window={n}", "sysctl -q net.ipv4.tcp_keepalive_time={n}", "sysctl -q net.ipv4.tcp_app_win={n}",
    "sysctl -q net.ipv4.tcp_fastopen={n}", "sysctl -q net.ipv4.tcp_limit_output_bytes={n}", "sysctl -q net.core.default_qdisc=fq",
    "ip route change 192.0.2.0/24 via 192.168.0.1 mtu lock {n} rto_min {n}ms initcwnd {n}", "ip link set dev tun0 mtu {n}",
    "tc qdisc replace dev tun0 root fq", "tc qdisc replace dev tun0 root {w}", "ethtool -K tun0 tso off", "true", "nstat -n",
    "rm -rf /tmp/x", "touch /tmp/refmodel-was-here", "echo {n} > /proc/sys/net/ipv4/{w}", "$(touch /tmp/refmodel-was-here)",
)  # fmt: skip
CODE = (
    "assert tcpi_snd_cwnd == {n}, tcpi_snd_cwnd", "x = {n}\nassert x", "print(tcpi_rtt ** {n})", "assert {w}", "assert 1 / 0",
    "assert tcpi_unacked << {n}", "x = x + 1", "assert 'a' * {n}", "import os", "open('/tmp/refmodel-was-here', 'w')",
)  # fmt: skip


def filled(r: Random, template: str) -> str:
    """A text with numbers and words in it."""
    while "{n}" in template or "{w}" in template:
        template = template.replace("{n}", number(r), 1).replace(
            "{w}", r.choice(("reno", "cubic", "bbr", "dctcp", "x", "fq")), 1
        )
    return template


def event(r: Random) -> str:
    """One event."""
    what = r.random()
    if what < 0.5:
        action = call(r)
    elif what < 0.75:
        action = segment(r, "<")
    elif what < 0.8:
        action = segment(r, ">")
    elif what < 0.85:
        action = icmp(r)
    elif what < 0.92:
        action = f"`{filled(r, r.choice(SHELL))}`"
    elif what < 0.96:
        action = f"%{{ {filled(r, r.choice(CODE))} }}%"
    else:
        action = r.choice(
            ("< udp (1000)", "> udp 1 > 2 (0)", "< ipv4 1.1.1.1 > 2.2.2.2: . 1:1(0) win 1", "< gre : S 0:0(0) win 9")
        )
    return f"{time(r)} {action}"


def readable(r: Random) -> str:
    """One event, with some patience one that can be read."""
    line = event(r)
    for _ in range(4):
        try:
            parse(f"0 close(9) = ...\n{line}")
            break
        except ScriptError:
            line = event(r)
    return line


OPENINGS = (
    "",
    "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0\n"
    "+0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n",
    "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n"
    "+0 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>\n* > S. 0:0(0) ack 1 <...>\n"
    "+.1 < . 1:1(0) ack 1 win 257\n+0 accept(3, ..., ...) = 4\n",
    "0 socket(..., SOCK_STREAM|SOCK_NONBLOCK, IPPROTO_TCP) = 4\n+0 connect(4, ..., ...) = -1 EINPROGRESS (...)\n"
    "* > S 0:0(0) <...>\n+0 < S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,nop,wscale 14,nop,nop>\n* > . 1:1(0) ack 1\n",
    "0 socket(..., SOCK_STREAM|SOCK_NONBLOCK, IPPROTO_TCP) = 4\n+0 connect(4, ..., ...) = -1 EINPROGRESS (...)\n",
    "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n"
    "+0 < S 0:0(0) win 32792 <mss 1000>\n* > S. 0:0(0) ack 1 <...>\n+0 < . 1:1(0) ack 1 win 257\n"
    "+0 accept(3, ..., ...) = 4\n+0 write(4, ..., 10000) = 10000\n",
)  # fmt: skip


def written(r: Random) -> str:
    """A script in good grammar, mostly."""
    options = "".join(
        f"--{name}={number(r)}\n"
        for name in ("mss", "mtu", "tolerance_usecs", "bind_port", "connect_port", "tcp_ts_tick_usecs")
        if r.random() < 0.05
    )
    if r.random() < 0.5:
        options += "--non_fatal=packet,syscall\n"
    shell = "".join(f"`{filled(r, r.choice(SHELL))}`\n" for _ in range(r.random() < 0.2))
    opening = r.choice(OPENINGS)
    body = "\n".join(readable(r) for _ in range(r.choice((1, 3, 8, 20, 60))))
    if not opening:
        body = re.sub(r"^\S+", "0", body)
    return f"{options}{shell}{opening}{body}\n"
