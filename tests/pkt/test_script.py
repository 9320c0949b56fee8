"""Whole scripts: times, options, definitions, commands, code, and errors that show the line."""

from pathlib import Path

import pytest

from conformance.pkt.ast import Code, Command, Form, Packet, Symbol, Tcp, Text, Time
from conformance.pkt.parser import definition, load, parse
from conformance.pkt.source import ScriptError
from tests.pkt.scripts import SERVER

CLOSE = "close(3) = 0"
OUT = "> . 1:1(0)"


def time(line: str) -> Time:
    return parse(f"0 {CLOSE}\n{line}").events[1].time


def refused(text: str, **defines: str) -> ScriptError:
    with pytest.raises(ScriptError) as why:
        parse(text, defines=defines)
    return why.value


@pytest.mark.parametrize(
    ("line", "relative", "form", "start", "end"),
    [
        (f"1.25 {CLOSE}", False, Form.POINT, 1_250_000, None),
        (f"7 {CLOSE}", False, Form.POINT, 7_000_000, None),
        (f"+.000001 {CLOSE}", True, Form.POINT, 1, None),
        (f"+0.0000019 {CLOSE}", True, Form.POINT, 1, None),
        (f"+ 0.5 {CLOSE}", True, Form.POINT, 500_000, None),
        (f"* {OUT}", False, Form.ANY, 0, None),
        (f"1~1.5 {OUT}", False, Form.RANGE, 1_000_000, 1_500_000),
        (f"+.1~+.2 {OUT}", True, Form.RANGE, 100_000, 200_000),
        (f"0...0.2 {CLOSE}", False, Form.BLOCKING, 0, 200_000),
        (f"+.1...0.3 {CLOSE}", True, Form.BLOCKING, 100_000, 300_000),
        (f"+0...0 {CLOSE}", True, Form.BLOCKING, 0, 0),
    ],
)
def test_times_are_microseconds(line: str, relative: bool, form: Form, start: int, end: int | None) -> None:
    t = time(line)
    assert (t.relative, t.form, t.start, t.end) == (relative, form, start, end)


@pytest.mark.parametrize(
    ("line", "what", "help"),
    [
        (f"-1 {CLOSE}", "the time -1 is negative", "forward"),
        (f"+-1 {CLOSE}", "the time -1 is negative", "forward"),
        (f"* {CLOSE}", "* is only for packets that are expected", ""),
        ("* < . 1:1(0) win 1", "* is only for packets that are expected", ""),
        (f"0~1 {CLOSE}", "a range of times is only for packets that are expected", ""),
        (f"0~+1 {OUT}", "the ends of a range are both absolute or both relative", "T1~T2"),
        (f"+0~1 {OUT}", "the ends of a range are both absolute or both relative", "T1~T2"),
        (f"+1~+.5 {OUT}", "the time ends before it starts", ""),
        (f"+1...0.5 {CLOSE}", "the time ends before it starts", ""),
        (f"+0...+1 {CLOSE}", "found '+'", "same base"),
        (f"+0...1 {OUT}", "only a system call can block", ""),
        (f"9999999999 {CLOSE}", "the time 9999999999 is out of range", ""),
        (f"+1e3 {CLOSE}", "found word '1e3'", "such as 0, .1"),
        ("+0", "found end of the script", ""),
        ("+0 ) 1", "found ')'", ""),
    ],
)
def test_times_that_cannot_be(line: str, what: str, help: str) -> None:
    why = refused(f"0 {CLOSE}\n{line}")
    assert why.what.startswith(what)
    assert help in why.help
    assert why.at.line == 2


def test_time_goes_forward() -> None:
    assert refused(f"0 {CLOSE}\n2 {CLOSE}\n+1 {CLOSE}\n1.5 {CLOSE}").what == "this time is before that of line 2"
    assert refused(f"1 {CLOSE}").what == "the first event is not at time 0"
    assert refused(f"* {OUT}").what == "the first event is not at time 0"
    assert len(parse(f"+0 {CLOSE}\n2 {CLOSE}\n2 {CLOSE}").events) == 3


def test_a_script_has_its_parts() -> None:
    script = parse(SERVER)
    assert [(o.name, o.define, o.value) for o in script.options] == [
        ("tolerance_usecs", None, "10000"), ("define", "COOKIE", "3021b9d889017eeb"),
    ]  # fmt: skip
    assert script.init is not None
    assert script.init.text == "./defaults.sh\nsysctl -q net.ipv4.tcp_ecn=2"
    assert script.cleanup is not None
    assert script.cleanup.text == "/tmp/sysctl_restore_${PPID}.sh"
    assert len(script.events) == 15


def test_commands_and_code_stand_verbatim_with_their_places() -> None:
    script = parse(f"0 {CLOSE}\n+0 `a\n b`\n+1 %{{  \n assert x,\\\n  1 }}%")
    command, code = script.events[1].action, script.events[2].action
    assert isinstance(command, Command)
    assert (command.text, command.text_at.line, command.text_at.column) == ("a\n b", 2, 5)
    assert isinstance(code, Code)
    assert (code.text, code.text_at.line, code.text_at.column) == ("assert x,\\\n  1", 5, 2)


def test_an_event_ends_where_the_next_begins() -> None:
    script = parse(f"0 {CLOSE} +0 {OUT} ack\n1 <nop,\nnop,nop\n,nop> 3 listen(3,\n1)\n= 0")
    assert [e.time.start for e in script.events] == [0, 0, 3_000_000]


def test_definitions_replace_whole_words_only() -> None:
    text = f'0 {CLOSE}\n+0 listen(N, NN)=0\n+0 open("N", N)=3\n+0 `N`'
    script = parse(text, defines={"N": "5", "NN": "SOL_TCP"})
    listen, opened, command = (e.action for e in script.events[1:])
    assert [type(a).__name__ for a in listen.args] == ["Number", "Symbol"]  # type: ignore[union-attr]
    assert isinstance(opened.args[0], Text)  # type: ignore[union-attr]
    assert opened.args[0].value == b"N"  # type: ignore[union-attr]
    assert isinstance(command, Command)
    assert command.text == "N"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("0x7", "listen(3, X) = 0"),
        ("SOL_IP", "listen(3, X) = 0"),
        ('"a b"', "open(X, 0) = 3"),
        ("`true`", "X"),
        ("frag_needed", "< icmp unreachable X mtu 1000"),
        ("00ff", "> S 0:0(0) <FO X>"),
        ("SEW", "> X 0:0(0)"),
    ],
)
def test_a_definition_may_be_any_kind_of_word(value: str, line: str) -> None:
    assert len(parse(f"0 {CLOSE}\n+0 {line}", defines={"X": value}).events) == 2
    assert len(parse(f"--define=X={value}\n0 {CLOSE}\n+0 {line}").events) == 2


def test_the_callers_definitions_win() -> None:
    text = "--define=X=SOL_IP\n0 listen(3, X) = 0"
    for defines, name in (({}, "SOL_IP"), ({"X": "SOL_IPV6"}, "SOL_IPV6")):
        action = parse(text, defines=defines).events[0].action
        assert isinstance(action.args[1], Symbol)  # type: ignore[union-attr]
        assert action.args[1].name == name  # type: ignore[union-attr]


def test_definitions_that_cannot_be() -> None:
    assert "leads back to itself" in refused("0 listen(3, A) = 0", A="B", B="A").what
    assert refused("0 listen(3, A) = 0", A="1 2").what == "no value of a definition"
    assert refused("--define=id=5\n0 close(3) = 0").help == "reserved words cannot be defined"
    assert refused("--define\n0 close(3) = 0").expected.startswith("'=' and NAME=VALUE")
    assert definition("A=5") == ("A", "5")
    assert definition('A="x y"') == ("A", '"x y"')
    for text in ("A", "=5", "A=", "a b=5", "A=1 2"):
        with pytest.raises(ScriptError):
            definition(text)


def test_options() -> None:
    script = parse(
        "--ip_version=ipv6 --mtu=1520 --local_ip=fd3d:0a0b:17d6::1 --remote_ip=192.0.2.1 --strict_segments\n"
        f'--non_fatal=packet --code_command="python3"\n0 {CLOSE}'
    )
    assert [(o.name, o.value) for o in script.options] == [
        ("ip_version", "ipv6"), ("mtu", "1520"), ("local_ip", "fd3d:0a0b:17d6::1"), ("remote_ip", "192.0.2.1"),
        ("strict_segments", None), ("non_fatal", "packet"), ("code_command", '"python3"'),
    ]  # fmt: skip
    assert parse(f"--ip_version=ipv4-mapped-ipv6\n0 {CLOSE}").options[0].value == "ipv4-mapped-ipv6"
    assert refused(f"--mut=1\n0 {CLOSE}").help == "did you mean mtu?"
    assert "no option values" in refused(f"--mtu=1.5\n0 {CLOSE}").help
    assert "options stand before" in refused(f"0 {CLOSE}\n--mtu=5").help


def test_scripts_that_are_none() -> None:
    assert refused("").expected.startswith("an event such as: 0 socket")
    assert refused("`true`").expected.startswith("an event such as: 0 socket")
    why = refused(f"0 {CLOSE}\n`true`\n+0 {CLOSE}")
    assert why.what == "this stands after the last command, which has no time"
    assert "line 2" in why.help


def test_an_error_shows_the_line_and_the_place() -> None:
    why = refused(f"0 {CLOSE}\n\t+0 < . 1:1(0)\tack 1 wim 2")
    assert str(why).split("\n") == [
        "script:2:22: found word 'wim'",
        "    2 | \t+0 < . 1:1(0)\tack 1 wim 2",
        "      | \t             \t      ^",
        "  expected: 'win' and a window of 0 to 65535",
        "  help: a segment to inject needs its window field",
    ]


def test_an_error_shows_a_part_of_a_long_line() -> None:
    why = refused(f"0 {CLOSE} " + " " * 5000 + "!")
    shown, caret = str(why).split("\n")[1:3]
    assert len(shown) < 200
    assert shown[caret.index("^")] == "!"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.pkt"
    path.write_text(SERVER)
    assert load(path).events[0].at.file == str(path)
    path.write_bytes(b"0 close(3) = 0\n+0 \xff")
    with pytest.raises(ScriptError, match=r"2:4: byte 0xff is no UTF-8"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.pkt")


def test_segments_may_follow_each_other_on_a_line() -> None:
    script = parse(f"0 {CLOSE} +0 > . 1:1(0) ack 1 +0 < . 1:1(0) ack 1 win 5 0.1 > S.3 0:0(0)")
    bodies = [e.action.body for e in script.events[1:] if isinstance(e.action, Packet)]
    assert [b.ace for b in bodies if isinstance(b, Tcp)] == [None, None, 3]
