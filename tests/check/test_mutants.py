"""The checker can say no: a mutant that changes what the specification constrains is rejected."""

from pathlib import Path

import pytest

from conformance.check.capture import captures_in
from conformance.mutate import KINDS
from conformance.mutation import REASONS, Tally, judge

CAPTURES = Path(__file__).parents[2] / "captures"


@pytest.fixture(scope="module")
def tally() -> Tally:
    """One mutant of every kind of every shipped TCP capture."""
    return judge(p for p in captures_in([CAPTURES]) if p.name.startswith("tcp-"))


@pytest.mark.slow
def test_at_least_95_in_100_mutants_are_rejected(tally: Tally) -> None:
    assert tally.total > 3000
    assert tally.rejected >= 0.95


@pytest.mark.slow
def test_at_least_90_in_100_are_rejected_at_the_mutated_frame(tally: Tally) -> None:
    assert tally.at.total() / tally.total >= 0.90


@pytest.mark.slow
def test_every_kind_is_exercised_and_each_surviving_kind_has_its_reason(tally: Tally) -> None:
    assert {k for k in KINDS if tally.at[k] + tally.later[k]} == set(KINDS)
    assert {s.kind for s in tally.survivors} <= set(REASONS)
