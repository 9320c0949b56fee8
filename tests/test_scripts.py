"""The shipped scripts on the model, in every variant that they are meant for, and what they have to cover."""

import re
from pathlib import Path

import pytest

from conformance.pkt.model_run import Setting, run_script
from conformance.pkt.outcome import PASSED
from conformance.pkt.variant import Variant, scripts_in
from tests.script_runs import SCRIPTS

ALL = scripts_in((SCRIPTS,))


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_script_passes_on_the_model(path: Path) -> None:
    for variant, outcome in run_script(path):
        assert outcome.status == PASSED, f"{variant}: {outcome.message}\n{outcome.why}"


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_script_passes_on_the_model_of_a_newer_kernel_with_slower_ticks(path: Path) -> None:
    for variant, outcome in run_script(path, (Variant.IPV4,), Setting(kernel="6.18", hz=250)):
        assert outcome.status == PASSED, f"{variant}: {outcome.message}\n{outcome.why}"


def test_every_mechanism_has_three_scripts() -> None:
    folders = [x for x in SCRIPTS.iterdir() if x.is_dir() and x.name not in ("findings",)]
    assert [x.name for x in folders if len(list(x.glob("*.pkt"))) < 3] == []


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_script_says_what_it_shows_and_where_that_stands(path: Path) -> None:
    text = path.read_text().splitlines()
    said = [line for line in text[:12] if line.startswith("//")]
    assert said
    assert re.search(r"\b(net|fs|include|drivers)/|RFC \d", " ".join(said))
