"""Two variants of a system run in lockstep until an outsider can tell them apart."""

import pytest

from refmodel.engine.difference import Both, NotAlike, difference
from refmodel.engine.explore import explore
from refmodel.engine.explore_system import Taken
from tests.engine.toy import Data, Receiver, receive, transfer


def receive_silently(s: Receiver, e: Data) -> Taken:
    """A receiver that does not acknowledge what it has already."""
    return receive(s, e) if e.bit == s.bit else Taken("toy.silent", "ignores a repeated item", s, ())


def test_equal_variants_cannot_be_told_apart() -> None:
    result = explore(difference(transfer(), transfer()))
    assert result.ok
    assert result.states == explore(transfer()).states


def test_the_shortest_run_that_tells_two_variants_apart() -> None:
    both = difference(transfer(), transfer(receiver=receive_silently), names=("old", "new"))
    (finding,) = explore(both).findings
    assert finding.kind == "difference"
    assert "old (toy.again) shows Put(data=False, bit=0) but new (toy.silent) shows nothing" in finding.says
    assert [s.rule for s in finding.run.steps] == ["toy.go", "toy.timeout", "toy.data", "toy.again / toy.silent"]
    assert isinstance(finding.run.steps[-1].before, Both)


def test_what_is_not_observed_is_no_difference() -> None:
    both = difference(transfer(), transfer(receiver=receive_silently), observe=lambda x: None)
    assert explore(both).ok


def test_systems_with_other_bounds_cannot_be_compared() -> None:
    with pytest.raises(NotAlike):
        difference(transfer(), transfer(timeouts=9))
