"""Code blocks: assertions over given names are evaluated as Python would, and what may not run is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.pkt.ast import Code
from conformance.pkt.expr import FUNCTIONS, Failure, Outcome, Value, calculate, compile_code
from conformance.pkt.parser import parse
from conformance.pkt.source import ScriptError


def run(text: str, **values: Value) -> Outcome:
    return compile_code(Code(text=text)).run(values)


def failure(text: str, **values: Value) -> Failure:
    found = run(text, **values).failure
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text",
    [
        "assert tcpi_snd_cwnd == 10",
        "assert tcpi_snd_cwnd == 10, tcpi_snd_cwnd",
        "assert 9 < tcpi_snd_cwnd <= 10 and not tcpi_unacked",
        "assert tcpi_snd_cwnd in (9, 10) or 1 / 0",
        "assert tcpi_snd_cwnd not in [1, 2]",
        "assert (tcpi_options & TCPI_OPT_SACK) != 0",
        "assert tcpi_state == TCP_ESTABLISHED and tcpi_ca_state == TCP_CA_Open",
        "assert abs(tcpi_rtt - 100000) < 0.1 * 100000",
        "assert max(1, 2) == 2 and min((1, 2)) == 1 and len('abc') == 3 and round(2.6) == 3 and int('7') == 7",
        "assert (1 if tcpi_snd_cwnd else 2) == 1",
        "assert -7 // 2 == -4 and -7 % 3 == 2 and 2 ** 10 == 1024 and ~0 == -1 and 1 << 4 == 16 and 7 ^ 2 == 5",
        "assert f'{tcpi_snd_cwnd:>4}|{tcpi_snd_cwnd!r}' == '  10|10'",
        "assert '%d of %s' % (1, 'x') == '1 of x'",
        "x = tcpi_snd_cwnd\ny = z = x + 1\nx += 2\nassert (x, y, z) == (12, 11, 11)",
        "assert tcpi_snd_cwnd \\\n  == 10 # as it was",
        "assert None is None",
        "pass",
        "",
    ],
)
def test_what_holds(text: str) -> None:
    assert run(text, tcpi_snd_cwnd=10, tcpi_unacked=0, tcpi_options=7, tcpi_state=1, tcpi_ca_state=0,
               tcpi_rtt=105000).failure is None  # fmt: skip


def test_what_fails_says_the_names_values() -> None:
    f = failure("assert tcpi_snd_cwnd == 10, 'cwnd=%d' % tcpi_snd_cwnd", tcpi_snd_cwnd=12, tcpi_rtt=5)
    assert f.assertion == "tcpi_snd_cwnd == 10"
    assert f.message == "cwnd=12"
    assert f.names == (("tcpi_snd_cwnd", 12),)
    assert failure("assert 0, 'cwnd=' + str(3)").message == "cwnd=3"
    assert failure("x = 1; assert x == 2").names == (("x", 1),)


def test_the_first_failure_ends_the_block() -> None:
    out = run("print('a', 1)\nassert 0, 'first'\nassert 0, 'second'\nprint('b')")
    assert out.failure is not None
    assert (out.failure.message, out.printed) == ("first", ("a 1",))


def test_names_live_on_to_the_next_block() -> None:
    first = run("before = tcpi_bytes_acked", tcpi_bytes_acked=5)
    second = compile_code(Code(text="assert tcpi_bytes_acked - before == 10"))
    assert second.wanted == {"tcpi_bytes_acked", "before"}
    assert second.run({"tcpi_bytes_acked": 15}, first.names).failure is None
    assert second.run({"tcpi_bytes_acked": 14}, first.names).failure is not None


def test_a_block_names_what_it_wants() -> None:
    assert compile_code(Code(text="x = a\nassert x == TCP_CLOSE, str(b)")).wanted == {"a", "b"}
    assert compile_code(Code(text="x += 1\ny = y + 1")).wanted == {"x", "y"}


@pytest.mark.parametrize(
    "text",
    [
        "import os", "from os import system", "__import__('os')", "open('/etc/passwd')", "eval('1')", "exec('1')",
        "x.y", "''.join(())", "'{}'.format(1)", "x[0]", "(lambda: 1)()", "[x for x in (1,)]", "{1: 2}", "{1}",
        "if 1: pass", "for x in (1,): pass", "while 1: pass", "def f(): pass", "class C: pass", "with x: pass",
        "try: pass\nexcept: pass", "del x", "global x", "return 1", "raise x", "x: int = 1", "x.y = 1", "x, y = 1, 2",
        "(y := 1)", "print(*(1,))", "print(1, sep='')", "int(x, base=2)", "b'a'", "...", "1j", "await x", "yield 1",
        "__builtins__", "int", "print = 1", "abs = 2", "1 @ 2", "assert", "x ==", "'", "a\n  b", "\x00", "(" * 400,
        "-" * 9000 + "1", "1" + "+1" * 200, "x" * 20000, "f'{x.y}'", "f'{x:{y.z}}'", "async def f(): pass",
        "nonlocal x", "match x:\n case 1: pass", "x if 1", "f'{open(1)}'", "type(1)", "getattr(1, 'a')",
    ],
)  # fmt: skip
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ScriptError):
        compile_code(Code(text=text))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("assert tcpi_snd_cwn == 1", "no variable tcpi_snd_cwn"),
        ("x = 1 / 0", "division by zero"),
        ("x = 1 % 0", ""),
        ("x = 'a' + 1", "can only concatenate str"),
        ("x = 1 < 'a'", "'<' not supported"),
        ("x = 9 ** 9 ** 9", "a number of more than 512 bits"),
        ("x = 1 << 10000000", "a number of more than 512 bits"),
        ("x = 1 << -1", "negative shift count"),
        ("x = 2 ** 300 * 2 ** 300", "a number of more than 512 bits"),
        ("x = (-8) ** 0.5", "a value that is a complex"),
        ("x = 'a' * 1000000000", "a text of more than 10000 characters"),
        ("x = f'{1:1000000000}'", "a format wider than 99"),
        ("x = f'{1.5:.1000000000f}'", "a format wider than 99"),
        ("x = '%1000000000d' % 1", "a format wider than 99"),
        ("x = '%*d' % (1000000000, 1)", "a format with * as its width"),
        ("x = round(5, -1000000000)", "round to more than 99 digits"),
        ("x = (1, 2) * 1000000000", "arithmetic on a tuple"),
        ("x = ((1, 2), 3)", "a tuple within a tuple"),
        ("x = int('x')", "invalid literal"),
        ("x = int(1e300)", "a number of more than 512 bits"),
        ("x = int(1e999)", "cannot convert float infinity"),
        ("x = max()", "max expected at least 1 argument"),
        ("x = 1.0 ** 'a'", "unsupported operand"),
    ],
)
def test_what_cannot_be_computed_says_so(text: str, why: str) -> None:
    with pytest.raises(ScriptError) as error:
        run(text, tcpi_snd_cwnd=1)
    assert error.value.what.startswith(f"cannot be computed: {why}")


def test_a_missing_name_suggests_the_nearest() -> None:
    with pytest.raises(ScriptError) as error:
        run("assert tcpi_snd_cwn == 1", tcpi_snd_cwnd=1)
    assert error.value.help == "did you mean tcpi_snd_cwnd?"


def test_places_are_those_of_the_script() -> None:
    script = parse("0 close(3) = 0\n+0 %{ assert 1 == 1\nx = é.y\nassert ü }%".replace("é.y", "'ä'").replace("ü", "zz"))
    code = script.events[1].action
    assert isinstance(code, Code)
    with pytest.raises(ScriptError) as error:
        compile_code(code, script.source).run({})
    assert (error.value.at.line, error.value.at.column) == (4, 8)
    with pytest.raises(ScriptError) as error:
        compile_code(Code(text="1; 'ä'; import os"))
    assert (error.value.at.line, error.value.at.column) == (1, 9)


def test_arithmetic_alone() -> None:
    assert calculate("15 * 1024*(1024)") == 15728640
    for text in ("x", "'a'", "1; 2", "assert 1", "1.5", ""):
        with pytest.raises(ScriptError):
            calculate(text)


NUMBERS = st.integers(-(1 << 64), 1 << 64) | st.floats(allow_nan=False, allow_infinity=False, width=32)
OPERATORS = st.sampled_from(["+", "-", "*", "<", "<=", "==", "!=", ">", ">=", "and", "or"])


@given(NUMBERS, NUMBERS, NUMBERS, OPERATORS, OPERATORS)
def test_values_are_those_of_python(a: float, b: float, c: float, first: str, second: str) -> None:
    text = f"a {first} b {second} c"
    names: dict[str, Value] = {"a": a, "b": b, "c": c}
    assert run(f"x = {text}", **names).names["x"] == eval(text, {}, dict(names))


@given(st.sampled_from(sorted(set(FUNCTIONS) - {"len"})), st.integers(-1000, 1000))
def test_functions_are_those_of_python(name: str, value: int) -> None:
    text = f"{name}(a, 5)" if name in ("min", "max") else f"{name}(a)"
    assert run(f"x = {text}", a=value).names["x"] == eval(text, {}, {"a": value})
