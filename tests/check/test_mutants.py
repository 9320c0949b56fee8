"""The checker can say no: a mutant that changes what the specification constrains is rejected."""

from pathlib import Path

import pytest

from conformance.check.capture import captures_in
from conformance.check.options import RULES
from conformance.mutate import KINDS, REGISTRY
from conformance.mutation import Tally, judge

CAPTURES = Path(__file__).parents[2] / "captures"
# What the connection machine's rules do not look at: ECN, the urgent pointer, the order of options, loss recovery.
UNSEEN = {
    "cwr", "dsack-invented", "dsack-moved", "dsack-removed", "ece", "ect", "mss-small", "options-order",
    "retransmit-bytes", "retransmit-len", "retransmit-seq", "rto-early", "sack-invented", "sack-left", "sack-order",
    "sack-removed", "sack-unsent", "tlp-early", "urg-unsaid",
}  # fmt: skip
SEEN = tuple(k for k in KINDS if k not in UNSEEN)
RARE = {"beyond-cwnd", "wscale-small"}  # no shipped capture of theirs is large enough
COUNTED = {"drop"}  # only the random captures say how many frames their tap missed


@pytest.fixture(scope="module")
def tally() -> Tally:
    """Mutants of the shipped TCP captures, some of every kind, held against the rules."""
    paths = [p for p in captures_in([CAPTURES]) if p.name.startswith("tcp-")]
    return judge(paths, kinds=SEEN, limit=60, jobs=2, engine=RULES)


@pytest.mark.slow
def test_at_least_95_in_100_mutants_are_rejected(tally: Tally) -> None:
    assert tally.total > 1500
    assert tally.rejected >= 0.95


@pytest.mark.slow
def test_at_least_90_in_100_are_rejected_at_the_mutated_frame(tally: Tally) -> None:
    assert tally.at.total() / tally.total >= 0.90


@pytest.mark.slow
def test_every_kind_is_exercised(tally: Tally) -> None:
    assert {k for k in SEEN if tally.at[k] + tally.later[k]} | RARE | COUNTED == set(SEEN)


def test_every_kind_says_what_constrains_it() -> None:
    assert len(KINDS) > 60
    assert all(k.constraint and k.says for k in REGISTRY.values())
