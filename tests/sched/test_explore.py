"""Every interleaving of two processors at a lockless discipline, from the beginning."""

from refmodel.engine.explore import explore
from refmodel.sched.systems import NO_LOST_WAKEUP, NOTHING_LEFT, nolock


def test_no_wakeup_is_lost_and_everything_can_be_sent() -> None:
    result = explore(nolock(packets=2, refusals=2), always=[NO_LOST_WAKEUP], goal=NOTHING_LEFT)
    assert result.exhausted, result.text()
    assert not result.findings, result.text()
