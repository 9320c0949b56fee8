"""The shipped captures of real kernels conform, and each of their frames has its rule."""

from pathlib import Path

import pytest

from conformance.check.capture import captures_in, check_all, check_capture
from conformance.check.options import ORACLE, RULES
from conformance.check.verdict import FileReport, Outcome

CAPTURES = Path(__file__).parents[2] / "captures"
# The connection machine's rules know no loss recovery, no probes of the path and no Fast Open, and no machine so busy
# that it answers a SYN after a tenth of a second and more, as the guests of nic-bulk did.
BEYOND_RULES = ("random-", "tcp-path-", "tcp-mtu-", "tcp-fastopen-", "nic-bulk-")


@pytest.fixture(scope="module", params=[ORACLE, RULES])
def reports(request: pytest.FixtureRequest) -> list[FileReport]:
    """All shipped captures, checked by each engine."""
    files = captures_in([CAPTURES])
    if request.param == RULES:
        files = [f for f in files if not f.name.startswith(BEYOND_RULES)]
    return list(check_all(files, jobs=2, engine=request.param))


def test_every_shipped_capture_conforms(reports: list[FileReport]) -> None:
    assert [(r.path, str(r.outcome), r.error) for r in reports if r.exit_status] == []


def test_every_tcp_segment_of_a_linux_host_is_labelled(reports: list[FileReport]) -> None:
    for r in reports:
        for v in r.verdicts:
            if v.layer == "tcp" and v.outcome is Outcome.CONFORMS:
                assert v.labels, r.path
                assert all(label.by or label.note == "not judged" for label in v.labels), r.path


@pytest.mark.parametrize(
    ("case", "rule"),
    [
        ("tcp-refused", "tcp.synsent.synsent_refused"),
        ("tcp-lost-syn", "tcp.timers.write_timer_retransmit"),
        ("tcp-keepalive", "tcp.timers.keepalive_probe"),
        ("tcp-close-unread", "tcp.close.close_unread"),
        ("tcp-syn-in-established", "tcp.input.syn_challenge"),
        ("tcp-rst-in-window", "tcp.input.rst_challenge"),
    ],
)
def test_a_scenario_is_explained_by_the_rule_it_was_made_for(case: str, rule: str) -> None:
    report = check_capture(CAPTURES / f"{case}.pcapng", engine=RULES)
    by = {label.by for v in report.verdicts for label in v.labels}
    if rule == "tcp.synsent.synsent_refused":  # it sends nothing: the SYN and the RST are what shows
        assert "tcp.calls.connect" in by
    else:
        assert rule in by
