"""Each property catches a fault of its own: a changed rule, what breaks, and what the proof then names."""

from typing import NamedTuple

import pytest

import refmodel.netfilter.tcp_properties  # noqa: F401
from refmodel.engine.prove import prove_with
from refmodel.netfilter.limit import XT_LIMIT
from refmodel.netfilter.tcp import CONNTRACK_TCP
from refmodel.rule import Machine

TCP, WINDOW, STATE, LIMIT = (f"refmodel.netfilter.{x}" for x in ("tcp", "tcp_window", "tcp_state", "limit"))


class Seed(NamedTuple):
    """What goes wrong, where, and the property that says so. `only` names the cells that the fault is in."""

    fault: str
    machine: Machine
    module: str
    old: str
    new: str
    only: str
    caught: str


SEEDS = (
    Seed("a one-sided connection becomes ASSURED", CONNTRACK_TCP, TCP, "return s.seen_reply and old_state",
         "return old_state", "SYN_RECV+", "assured_was_answered"),
    Seed("a scale is taken from an end that offered none", CONNTRACK_TCP, WINDOW,
         "window_scale=e.window_scale if e.options else side.window_scale", "window_scale=False", "NONE+",
         "scale_was_offered"),
    Seed("the note of a SYN forgets that it offered a scale", CONNTRACK_TCP, TCP,
         "last_window_scale=e.window_scale if first else s.last_window_scale", "last_window_scale=False",
         "ESTABLISHED+", "noted_scale_was_offered"),
    Seed("an ACK begins the closing", CONNTRACK_TCP, TCP, "and new == Ct.FIN_WAIT",
         "and new in (Ct.FIN_WAIT, Ct.ESTABLISHED)", "SYN_RECV+", "open_has_no_closer"),
    Seed("a refused first segment leaves a trace", CONNTRACK_TCP, TCP,
         "nor a loose ACK\")\n    return s, (Invalid(),)",
         "nor a loose ACK\")\n    return replace(s, last_reply=True), (Invalid(),)", "NONE+", "nothing_is_known"),
    Seed("crossed SYNs are not marked", CONNTRACK_TCP, TCP,
         "simultaneous_open=s.simultaneous_open or in_table(s, e) == Ct.SYN_SENT2", "simultaneous_open=False",
         "SYN_SENT+", "crossed_is_marked"),
    Seed("an INVALID segment moves the state", CONNTRACK_TCP, TCP, "t = replace(t, last_index",
         "t = replace(t, state=next_state(s, e), last_index", "ESTABLISHED+",
         "not_believed_changes_no_state"),
    Seed("TIME_WAIT after the first FIN", CONNTRACK_TCP, STATE, "SFW: (SIG, SIV, SLA, SCW, SCL, SIV)",
         "SFW: (SIG, SIV, SLA, STW, SCL, SIV)", "FIN_WAIT+", "time_wait_after_last_ack"),
    Seed("an ACK without a SYN-ACK opens", CONNTRACK_TCP, STATE, "SSS: (SSS, SIV, SIV, SIV, SCL, SIV)",
         "SSS: (SSS, SIV, SIV, SES, SCL, SIV)", "SYN_SENT+", "established_after_handshake"),
    Seed("a reset in SYN_RECV opens", CONNTRACK_TCP, STATE, "SSR: (SIG, SSR, SFW, SES, SCL, SIV)",
         "SSR: (SIG, SSR, SFW, SES, SES, SIV)", "SYN_RECV+", "reset_never_opens"),
    Seed("the first packets' own direction counts as an answer", CONNTRACK_TCP, TCP,
         "seen_reply=s.seen_reply or e.reply,\n        assured", "seen_reply=True,\n        assured", "SYN_SENT+",
         "one_packet_never_answers"),
    Seed("unanswered data prolongs a short state", CONNTRACK_TCP, TCP, "repl.data_unacknowledged) and silent",
         "repl.data_unacknowledged)", "SYN_RECV+", "lives_no_longer_than_state"),
    Seed("a SYN takes ASSURED back", CONNTRACK_TCP, TCP, "assured=s.assured or assures(s, e)", "assured=assures(s, e)",
         "ESTABLISHED+", "assured_stays"),
    Seed("acknowledgements of the unseen are believed", CONNTRACK_TCP, WINDOW,
         "    if not acks_seen(m, q):\n        return Win.ACK_OVER\n", "", "ESTABLISHED+",
         "accepted_acks_what_was_sent"),
    Seed("data beyond the window is believed", CONNTRACK_TCP, WINDOW, "return Win.OVERSHOT if small else Win.SEQ_OVER",
         "return Win.ACCEPT if small else Win.SEQ_OVER", "ESTABLISHED+", "accepted_lies_in_window"),
    Seed("the bucket has no bottom", XT_LIMIT, LIMIT, "& M32, p.cap)", "& M32, M32)", "", "never_above_cap"),
    Seed("a match costs nothing", XT_LIMIT, LIMIT, "credit=grown(s, e, p) - p.cost", "credit=grown(s, e, p)", "",
         "match_costs"),
    Seed("the last packet is given away", XT_LIMIT, LIMIT, "require(grown(s, e, p) >= p.cost,",
         "require(grown(s, e, p) + 1 >= p.cost,", "", "no_match_without_credit"),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS, ids=lambda s: s.fault)
def test_fault_is_caught_and_named(seed: Seed) -> None:
    report = prove_with(seed.machine, [(seed.module, seed.old, seed.new)], only=seed.only)
    assert seed.caught in {x.rsplit(".", 1)[-1] for x in report.failed}, report.text()
