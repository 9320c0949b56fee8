"""Random scripts can be read and played: the model neither refuses them nor breaks."""

import pytest

from conformance.pkt.model_run import Setting, run_text
from conformance.pkt.outcome import PASSED, Outcome, Sent
from conformance.pkt.variant import Variant
from tests.pkt.random_runs import apart, text


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
@pytest.mark.parametrize("seed", range(25))
def test_a_random_script_is_played_to_its_end(seed: int, kernel: str) -> None:
    played = run_text("random.pkt", text(seed), Variant.IPV4, Setting(kernel, 250))
    assert played.status == PASSED, played.message


def test_a_seed_names_a_script() -> None:
    assert text(7) == text(7) != text(8)


def test_a_counter_counts_where_nothing_else_differs() -> None:
    model = Outcome(PASSED, counters={"TcpInSegs": 3}, packets=(Sent(0, "> . 1:1(0) ack 1"),))
    assert apart(model, model) == ""
    kernel = Outcome(PASSED, counters={"TcpInSegs": 4}, packets=model.packets)
    assert apart(model, kernel) == "TcpInSegs is 3 on the model, 4 on the kernel"
