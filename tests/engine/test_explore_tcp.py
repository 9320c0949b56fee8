"""Two TCP machines back to back: what a million states show, and what they cannot do."""

import pytest

from refmodel.engine.explore import explore
from refmodel.rule import PROPERTIES
from refmodel.tcp.systems import GIVEN_UP, ISN_A, OPENED, OVER, any_peer, handshake, transfer, two_kernels, two_tcps


def test_a_million_states_keep_every_invariant_and_transition_property() -> None:
    result = explore(two_tcps(), max_states=1_000_000)
    assert result.states >= 1_000_000
    assert result.findings == ()


def test_a_small_bound_is_exhausted() -> None:
    result = explore(two_tcps(writes=0, closes=1, timers=0, capacity=1))
    assert result.exhausted
    assert result.ok


@pytest.mark.parametrize("simultaneous", [False, True])
def test_every_handshake_can_finish(simultaneous: bool) -> None:
    result = explore(handshake(simultaneous=simultaneous), goal=f"({OPENED}) or ({GIVEN_UP})")
    assert result.exhausted
    assert result.ok, result.text()


def test_a_client_that_never_writes_may_stay_half_open() -> None:
    (finding,) = explore(handshake(writes=0), goal=f"({OPENED}) or ({GIVEN_UP})").findings
    assert finding.kind == "liveness"
    assert finding.run.steps[-1].kind == "lose"
    assert "synsent_established" in finding.run.text()


def test_the_only_deadlocks_of_a_handshake_are_its_ends() -> None:
    ends = f"({OPENED}) or ({GIVEN_UP}) or (a.type == 'Sock' and a.state == ESTABLISHED and b.type == 'Sock')"
    assert explore(handshake(writes=0), final=ends).ok


@pytest.mark.slow
def test_every_connection_can_finish_whatever_the_wire_loses() -> None:
    result = explore(transfer(), goal=OVER)
    assert result.exhausted
    assert result.ok, result.text()


def test_a_fin_is_consumed_twice_by_a_connection_from_its_start() -> None:
    (finding,) = explore(any_peer(segments=3, wanted=("tcp.transitions.fin_once",))).findings
    assert finding.id == "tcp.transitions.fin_once"
    steps = finding.run.steps
    assert [s.rule.split(".")[-1] for s in steps] == ["connect", "synsent_established", "established", "close_wait"]
    fin, again = steps[2].event, steps[3].event
    assert fin.fin
    assert again.fin
    assert (again.seq, again.len) == (steps[3].before.rcv_nxt - 1, 1)
    assert steps[3].after.rcv_nxt == steps[3].before.rcv_nxt + 1


def test_the_property_is_false_and_not_asked_unless_wanted() -> None:
    assert PROPERTIES["tcp.transitions.fin_once"].falsified
    assert explore(any_peer(segments=3)).ok


def test_the_older_kernel_gives_its_syn_up_earlier() -> None:
    (finding,) = explore(two_kernels("6.1", "6.18")).findings
    assert finding.kind == "difference"
    assert [type(s.event).__name__ for s in finding.run.steps] == ["Connect"] + ["WriteTimer"] * 7
    assert "6.1 (tcp.timers.write_timer_expired)" in finding.says
    assert "6.18 (tcp.timers.write_timer_retransmit)" in finding.says


def test_one_kernel_cannot_be_told_from_itself() -> None:
    assert explore(two_kernels("6.12", "6.12", timers=1)).ok


def both_open(a: object, b: object) -> bool:
    """Never are both ends open at once."""
    return not (getattr(a, "state", 0) == 1 and getattr(b, "state", 0) == 1)


def test_a_users_own_function_is_a_property() -> None:
    (finding,) = explore(two_tcps(), always=["tests.engine.test_explore_tcp:both_open"]).findings
    assert len(finding.run.steps) == 4
    assert finding.run.steps[0].event.isn == ISN_A


def test_a_run_of_two_machines_is_told_in_words() -> None:
    (finding,) = explore(two_tcps(), always=["a.type != 'Sock' or a.state != FIN_WAIT1"]).findings
    text = finding.run.text()
    assert text.startswith("not always: a.type != 'Sock' or a.state != FIN_WAIT1 (")
    assert "rule tcp.close.close_fin" in text or "rule tcp.close.shutdown" in text
