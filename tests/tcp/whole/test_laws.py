"""No law is vacuous: for each there is a fault in the code that breaks it, and the code as it is breaks none."""

import pytest

from refmodel.tcp.whole.history import every_law
from tests.tcp.whole.driver import SERIES, Program, run, shown
from tests.tcp.whole.edited import replaced, source_of
from tests.tcp.whole.faults import FAULTS


@pytest.mark.parametrize("program", SERIES, ids=lambda p: f"seed {p.seed}")
def test_the_code_breaks_no_law(program: Program) -> None:
    assert run(program) == [], shown(program)


@pytest.mark.parametrize("law", FAULTS)
def test_a_seeded_fault_breaks_its_law(law: str) -> None:
    with replaced(*FAULTS[law]):
        for program in SERIES:
            try:
                found = run(program, lambda broken: law in broken)
            except Exception:
                continue  # a fault may also crash the code
            if law in found:
                return
    pytest.fail(f"no program breaks {law}")


def test_every_law_has_a_seeded_fault() -> None:
    assert set(FAULTS) == set(every_law())


def fail_with_a_fault() -> None:
    from refmodel.tcp.whole import data

    before = data.tcp_queue_rcv.__code__
    with replaced("data", "    sk.rcv_nxt = skb.end_seq\n", "    sk.rcv_nxt = skb.seq\n") as names:
        assert names == ["tcp_queue_rcv"]
        assert data.tcp_queue_rcv.__code__ is not before
        raise KeyError


def test_a_fault_is_gone_when_its_test_is_over() -> None:
    from refmodel.tcp.whole import data, timer

    before = data.tcp_queue_rcv.__code__
    with pytest.raises(KeyError):
        fail_with_a_fault()
    assert data.tcp_queue_rcv.__code__ is before
    with replaced("timer", "TCP_TIMEOUT_MIN: Final = 2", "TCP_TIMEOUT_MIN: Final = 3") as names:
        assert (names, timer.TCP_TIMEOUT_MIN) == (["TCP_TIMEOUT_MIN"], 3)
    assert timer.TCP_TIMEOUT_MIN == 2


def test_an_edit_that_hits_nothing_or_changes_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="occurs 0 times"), replaced("data", "no such text", ""):
        pass
    with (
        pytest.raises(ValueError, match="changes no function"),
        replaced("data", "whether to acknowledge\n", "acknowledging\n"),
    ):
        pass
    assert "whether to acknowledge" in source_of("data")
