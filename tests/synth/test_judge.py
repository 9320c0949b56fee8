"""The judge finds a checker's false alarms, wrong labels and wrong counters, and nothing else."""

from collections.abc import Callable, Sequence

import pytest

from conformance.check.setup import Setup
from conformance.check.verdict import Divergence, FrameLabel, Outcome, Verdict
from conformance.frames import Frame
from conformance.synth.judge import EQUAL, INSIDE, WRONG, Summary, judge, lines
from conformance.synth.truth import Truth, synthesize

Checker = Callable[[Sequence[Frame], Setup], list[Verdict]]


@pytest.fixture(scope="module")
def truth() -> Truth:
    return synthesize(4, shape="requests", taps=("a",))


def knowing(t: Truth, wide: int = 0, shift: int = 0, label: str = "", outcome: Outcome = Outcome.CONFORMS) -> Checker:
    """A checker that says the truth: intervals wider by `wide`, moved by `shift`; the first frame is called `label`."""

    def say(frames: Sequence[Frame], setup: Setup) -> list[Verdict]:
        labels = tuple(FrameLabel(f.number, f.host, f.by[0]) for f in t.frames)
        if label:
            labels = (FrameLabel(1, "a", label), *labels[1:])
        counters = {
            host: {name: (n + shift, n + shift + wide) for name, n in mib.items()} for host, mib in t.mib.items()
        }
        return [Verdict("tcp", "x", outcome, labels=labels, counters=counters)]

    return say


def test_a_checker_that_says_the_truth_is_right(truth: Truth) -> None:
    j = judge(truth, knowing(truth))
    assert j.clean
    assert not list(lines(j))
    assert {c.said for c in j.counters} == {EQUAL}
    assert all(a == b for a, b in j.labels)
    assert j.labels.total() == len(truth.frames)


def test_a_wrong_label_is_found_with_its_frame(truth: Truth) -> None:
    j = judge(truth, knowing(truth, label="tcp_send_fin"))
    assert not j.clean
    assert [(n, true, said) for n, true, said, _ in j.mislabelled] == [(1, "tcp_connect", "tcp_send_fin")]
    assert j.labels["tcp_connect", "tcp_send_fin"] == 1


def test_an_interval_that_holds_the_value_is_no_error_and_one_that_does_not_is(truth: Truth) -> None:
    wide = judge(truth, knowing(truth, wide=2))
    assert {c.said for c in wide.counters if c.high} == {INSIDE}
    assert wide.clean
    moved = judge(truth, knowing(truth, shift=1))
    assert {c.said for c in moved.counters if c.high} == {WRONG}
    assert not moved.clean


def test_counters_are_told_apart_by_where_the_tap_was(truth: Truth) -> None:
    j = judge(truth, knowing(truth))
    assert {(c.host, c.vantage) for c in j.counters} == {("a", "near"), ("b", "far")}
    middle = synthesize(4, shape="requests", taps=("m",))
    assert {c.vantage for c in judge(middle, knowing(middle)).counters} == {"middle"}


def test_a_divergence_is_a_false_alarm_and_what_is_not_decided_is_said(truth: Truth) -> None:
    def alarm(frames: Sequence[Frame], setup: Setup) -> list[Verdict]:
        return [Verdict("tcp", "x", Outcome.DIVERGES, divergence=Divergence(2, 0.0, "b", "no"))]

    j = judge(truth, alarm)
    assert j.alarms == [(2, "no", "tcp_conn_request")]
    assert not j.counters
    undecided = judge(truth, knowing(truth, outcome=Outcome.INCONCLUSIVE))
    assert undecided.undecided
    assert not undecided.alarms


def test_the_summary_adds_up(truth: Truth) -> None:
    both = Summary([judge(truth, knowing(truth)), judge(truth, knowing(truth, shift=1))])
    cells = both.counters()
    assert cells["Tcp.OutSegs", "near"] == {EQUAL: 1, WRONG: 1}
    assert both.labels.total() == 2 * len(truth.frames)
    assert both.verdicts().row_count == 1
    assert both.confusion().row_count == len({f.by[0] for f in truth.frames})
