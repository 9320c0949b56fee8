"""The table of every part and its judges: complete, and the one that the README shows."""

from pathlib import Path

import pytest

from conformance.rows_table import JUDGES, ROOT, Line, line, markdown
from refmodel.rows import ROWS

LINES = [line(row) for row in ROWS]


@pytest.mark.parametrize("row", LINES, ids=lambda x: x.id)
def test_a_part_has_all_its_functions_tests_by_hypothesis_a_walk_and_a_kernel_that_judges(row: Line) -> None:
    have, _, of = row.executable.removesuffix(" functions").partition(" of ")
    assert have == of or row.executable == "yes"
    assert row.hypothesis != "-"
    assert row.walked
    assert row.compared not in ("", "-")


def test_every_folder_and_file_that_judges_is_there() -> None:
    assert [p for judged in JUDGES.values() for p in judged.tests if not Path(ROOT, p).exists()] == []


def test_the_readme_shows_the_table_as_it_is() -> None:
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    assert markdown() in shown, "put the output of `refmodel rows` into README.md"
