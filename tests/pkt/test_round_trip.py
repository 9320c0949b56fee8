"""What is printed reads back as the same script, and a script's values survive JSON's encoder."""

import msgspec
from hypothesis import given

from conformance.pkt import ast, printer
from conformance.pkt.ast import bare
from conformance.pkt.parser import parse
from tests.pkt.scripts import SCRIPTS, SERVER


@given(SCRIPTS)
def test_every_script_that_can_be_built_prints_and_reads_back(script: ast.Script) -> None:
    assert bare(parse(printer.script(script))) == bare(script)


def test_a_written_script_prints_and_reads_back() -> None:
    script = parse(SERVER)
    assert bare(parse(printer.script(script))) == bare(script)


def test_printing_a_script_that_was_printed_changes_nothing() -> None:
    once = printer.script(parse(SERVER))
    assert printer.script(parse(once)) == once


def test_every_part_knows_its_place() -> None:
    script = parse(SERVER, "server.pkt")
    lines = SERVER.split("\n")
    for event in script.events:
        assert event.at.file == "server.pkt"
        assert lines[event.at.line - 1][event.at.column - 1 :].startswith(("0", "+", "*"))
        action = event.action
        assert lines[action.at.line - 1][action.at.column - 1] in "<>%`abcdefghijklmnopqrstuvwxyz"


def test_a_script_encodes_as_json() -> None:
    assert b'"node":"Call"' in msgspec.json.encode(parse(SERVER))
