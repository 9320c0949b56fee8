"""Most steps that a wire can show are seen in the shipped captures, and each that isn't has its reason."""

import re
from pathlib import Path

import pytest

from conformance.check.capture import captures_in, check_capture
from conformance.oracle.coverage import ALIKE, REASONS, SHOWN, fired, share
from conformance.oracle.steps import sender

ROOT = Path(__file__).parents[2]
WHOLE = ROOT / "refmodel" / "tcp" / "whole"
OTHERS = {"tcp_retransmit_skb", "tcp_make_synack", "tcp_rtx_synack", "tcp_send_synack", "tcp_send_active_reset"}
INNER = {"tcp_xmit_probe_skb", "tcp_write_wakeup", "tcp_simple_retransmit", "tcp_send_delayed_ack"}


def test_the_list_is_what_the_whole_tcp_names() -> None:
    named = set()
    for path in WHOLE.glob("*.py"):
        for m in re.finditer(r'cause = (?:[\w.]+ or )?"(\w+)"', path.read_text()):
            named.add(m.group(1))
    assert named <= {*SHOWN, *REASONS, *ALIKE, *OTHERS, *INNER}


@pytest.mark.parametrize("name", SHOWN)
def test_every_step_has_its_source(name: str) -> None:
    if name != "tcp_send_ack":
        assert sender(name).kernel


@pytest.mark.slow
def test_nine_in_ten_steps_fire_in_accepted_captures() -> None:
    files = [p for p in captures_in([ROOT / "captures"]) if "tcp-" in p.name or "random" in p.name]
    found = fired(check_capture(p, labelled=True) for p in files)
    assert share(found) >= 0.9
    assert [n for n in SHOWN if not found[n]] == []
