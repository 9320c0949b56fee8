"""Patterns of grep: what they match, what is refused, and that none of them takes long."""

import re
import subprocess
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.pkt.look import Fields, Grep, Lines, Nstat, holds, nstat_lines
from conformance.pkt.pattern import BadPattern, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        ("cwnd:10", " cwnd:10 ssthresh:7", True),
        ("cwnd:10 ", " cwnd:100 ", False),
        ("^Tcp", "Tcp: 1", True),
        ("^Tcp", " Tcp: 1", False),
        ("0$", "10", True),
        ("0$", "101", False),
        ("TcpExtTCPTimeouts *2 ", "TcpExtTCPTimeouts               2    0.0", True),
        (r"x\|y", "y", True),
        ("x|y", "y", False),
        ("x|y", "x|y", True),
        (r"ab\+c", "abbbc", True),
        (r"ab\+c", "ac", False),
        ("ab+c", "ab+c", True),
        ("[0-9][0-9]*%", "47%", True),
        ("[^0-9]", "123", False),
        ("[[:digit:]]x", "7x", True),
        ("[]x]", "]", True),
        (r"\.", "a", False),
        (r"\s1", " 1", True),
        ("*x", "*x", True),
        ("", "anything", True),
    ],
)
def test_a_basic_pattern_is_grep_s(pattern: str, line: str, found: bool) -> None:
    assert compile_pattern(pattern).matches(line) is found
    said = subprocess.run(["grep", "-q", "--", pattern], input=line + "\n", text=True)
    assert (said.returncode == 0) is found


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        ("x|y", "y", True),
        ("ab+c", "abbc", True),
        ("ab?c", "ac", True),
        (r"a\+", "a+", True),
        (r"skmem:\(r0,", "skmem:(r0,", True),
    ],
)
def test_an_extended_pattern_is_grep_s(pattern: str, line: str, found: bool) -> None:
    assert compile_pattern(pattern, extended=True).matches(line) is found
    assert (subprocess.run(["grep", "-qE", "--", pattern], input=line, text=True).returncode == 0) is found


def test_words_case_and_fixed_texts() -> None:
    assert compile_pattern("tcp", fold=True).matches("TCP")
    assert not compile_pattern("Tcp", word=True).matches("TcpExt")
    assert compile_pattern("Tcp", word=True).matches("x Tcp: y")
    assert not compile_pattern("a.c", fixed=True).matches("abc")


@pytest.mark.parametrize("pattern", ["(a)", "a{3}", "+a", "[a", "[z-a]", "\\", "[[:no:]]", "x" * 201])
def test_what_is_not_interpreted_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_pattern(pattern, extended=True)


def test_no_pattern_takes_long() -> None:
    hard = compile_pattern(".*" * 60 + "x")
    assert not hard.matches("a" * 3000)


@given(st.text("ab.*[]^$", max_size=8), st.text("ab", max_size=6))
def test_a_pattern_that_is_taken_finds_what_python_finds(pattern: str, line: str) -> None:
    try:
        found = compile_pattern(pattern).matches(line)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Python says so of a bracket within brackets
            wanted = re.search(pattern, line)
    except (BadPattern, re.error):
        return
    if not re.search(r"\*\*|^\^?\*|.\^|\$.", pattern):
        assert found is (wanted is not None)


def test_filters_pass_lines_on_and_the_last_grep_decides() -> None:
    lines = ["b 2", "a 1", "a 1"]
    one = Grep(compile_pattern("^1$"))
    assert holds(lines, (Grep(compile_pattern("a")), Fields((2,)), Lines("uniq"), one))
    assert not holds(lines, (Grep(compile_pattern("a")), Fields((1,)), one))
    assert holds(lines, (Grep(compile_pattern("a"), count=True), Grep(compile_pattern("2"))))
    assert holds(lines, (Grep(compile_pattern("c"), invert=True),))
    assert not holds(lines, (Grep(compile_pattern("b"), quiet=True), Grep(compile_pattern("b"))))
    assert holds(lines, (Lines("sort"), Lines("head", 1), Grep(compile_pattern("a"))))


def test_nstat_shows_what_moved() -> None:
    now, base = {"TcpInSegs": 5, "TcpOutSegs": 2}, {"TcpInSegs": 2, "TcpOutSegs": 2}
    shown = nstat_lines(now, base, Nstat())
    assert [x.split()[:2] for x in shown[1:]] == [["TcpInSegs", "3"]]
    assert [x.split()[1] for x in nstat_lines(now, base, Nstat(zeros=True, absolute=True))[1:]] == ["5", "2"]
    assert len(nstat_lines(now, base, Nstat(("TcpOut*",), zeros=True))) == 2
