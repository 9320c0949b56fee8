"""Whatever stands in a script, reading it ends with a script or with a ScriptError that shows the place."""

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from conformance.pkt.ast import Code, Command
from conformance.pkt.expr import compile_code
from conformance.pkt.lexer import KEYWORDS
from conformance.pkt.parser import definition, parse
from conformance.pkt.shell import interpret
from conformance.pkt.source import ScriptError
from tests.pkt.scripts import SERVER

PIECES = [
    *sorted(KEYWORDS), "0", "+0", "1:1(0)", ".", "...", "..", ".5", "S.5", "-", "-1", "0x", "0x1f",
    "99999999999999999999", "win 1", "<", ">", "<...>", "(", ")", "[", "]", "{", "}", ",", "=", "|", ":", "*", "~",
    "`", "%{", "}%", "\"", "//", "/*", "*/", "\n", " ", "\\", "#", "\x00", "ü",
    "socket(..., SOCK_STREAM, IPPROTO_TCP) = 3", "--mtu=1", "--define=A=A", "A", "1.2.3.4", "::1", "fd3d::1:",
    "+.1", "+0...1", "+0~+1", "poll([", "EAGAIN", "<nop", "md5", "FO 1",
]  # fmt: skip
SHELL = [
    "sysctl", "-q", "net.ipv4.tcp_ecn=1", "./defaults.sh", "ip", "route", "change", "mtu", "lock", "1", "tc",
    "qdisc", "dev", "tun0", "root", "fq", "nstat", "-s", "|", "grep", "\" 0A \"", "/proc/net/tcp", "&&", "||", ";",
    "\n", ">", "2>&1", "/dev/null", "$PPID", "$((1+1))", "$((9**9**9))", "$((", "$(", "'", "\"", "\\", "#", "dd",
    "of=/tmp/x", "bs=9999999999M", "rm", "echo", "/proc/sys/net/x", "ethtool", "-K", "tso", "on", "*", " ", "ü",
    "set_sysctls.py", "/tmp/../x",
]  # fmt: skip
PYTHON = [
    "assert", "x", "=", "==", "1", "9**9**9", "(", ")", "[", "]", "'", "\"", "f'{x", "}'", "{", "%", "%d", "\n",
    " ", "if", "else", "not", "and", "in", "lambda", ":", "import os", "__class__", ".", ",", "print", "int",
    "round", "max", "\\", "#", "ü", "-", "<<", "1e999", "'a'*9999", ";", "None", "for", "@", "\x00", "\t",
]  # fmt: skip


def soup(pieces: list[str], count: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), max_size=count).map(" ".join) | st.lists(
        st.sampled_from(pieces), max_size=count
    ).map("".join)


def read(text: str) -> ScriptError | None:
    """Reads the script and all that stands in it; the error that ended this, if one did."""
    try:
        script = parse(text)
        for node in (script.init, script.cleanup, *(event.action for event in script.events)):
            if isinstance(node, Command):
                interpret(node, script.source)
            if isinstance(node, Code):
                compile_code(node, script.source)
    except ScriptError as why:
        return why
    return None


def reads_or_says_why(text: str) -> None:
    why = read(text)
    assert why is None or (why.at.line >= 1 and why.at.column >= 1 and why.what)


@given(st.text(max_size=200))
@example("0 " + "[" * 100_000)
@example("0 setsockopt(3, " + "[" * 5_000)
@example("0 setsockopt(3, SOL_SOCKET, " + "{{{" * 5_000)
@example('"' * 100_001)
@example("/*" * 50_000)
@example("%{" * 50_000)
@example("`" * 50_001)
@example("0" * 100_000)
@example("0 < S 0:0(0) win " + "9" * 10_000)
@example(":" * 20_000)
@example("a:" * 20_000)
@example("1." * 20_000)
def test_any_text(text: str) -> None:
    reads_or_says_why(text)


@given(soup(PIECES, 40))
def test_any_pieces_of_the_language(text: str) -> None:
    reads_or_says_why("0 close(3) = 0\n+0 " + text)
    reads_or_says_why(text)


@given(st.integers(0, len(SERVER)), st.integers(0, 12), st.sampled_from(PIECES) | st.text(max_size=3))
def test_a_script_with_one_place_changed(start: int, cut: int, new: str) -> None:
    reads_or_says_why(SERVER[:start] + new + SERVER[start + cut :])


@given(soup(SHELL, 12))
def test_any_shell_text(text: str) -> None:
    with suppress(ScriptError):
        assert all(step.at.line >= 1 for step in interpret(Command(text=text)))


@given(soup(PYTHON, 12), st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=3))
@example("(" * 10_000, 0)
@example("-" * 10_000 + "1", 0)
@example("not " * 4_000 + "1", 0)
@example("+".join("x" * 5_000), 0)
@example("x" + "<x" * 5_000, 0)
@example("f'{" * 100, 0)
@example("x = x + x\n" * 1_000, "abc")
@example("x = x * x\n" * 1_000, 3)
@example("x = (x, x)\n" * 100, 3)
def test_any_code(text: str, value: float | str) -> None:
    with suppress(ScriptError):
        compile_code(Code(text=text.strip())).run({"x": value})


@given(st.text(max_size=20))
def test_any_definition(text: str) -> None:
    with suppress(ScriptError):
        definition(text)
