"""The systems that can be explored by name."""

import pytest

from refmodel.engine.explore import explore
from refmodel.engine.explore_check import predicate
from refmodel.systems import CATALOGUE, UnknownSystem, find


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_every_system_has_a_sentence_a_bound_and_a_goal_that_it_understands(name: str) -> None:
    entry = find(name)
    system = entry.build()
    assert entry.says.endswith(".")
    assert entry.bounds
    assert entry.goal == "" or predicate(entry.goal, system).reads
    assert explore(system, max_depth=3).findings == ()


def test_bounds_are_given_by_name() -> None:
    assert "at most 1 messages" in find("tcp-pair").build(capacity=1).bound
    with pytest.raises(UnknownSystem, match="tcp-pair has no bound 'speed'; it has writes"):
        find("tcp-pair").build(speed=1)
    with pytest.raises(UnknownSystem, match="no system is called 'udp'; there are tcp-pair, tcp-handshake"):
        find("udp")


def test_a_system_is_compared_between_kernels() -> None:
    assert explore(find("tcp-handshake").between("6.1", "6.18", writes=0)).exhausted
    with pytest.raises(UnknownSystem, match="nic-tx has no bound 'kernel'"):
        find("nic-tx").between("6.1", "6.18")
