"""TCP's small machines: delayed ACKs, Nagle's rule, the window, the scoreboard. Proved, and seeded with faults."""

import pytest
import z3

from refmodel.engine.property import machine_tests
from refmodel.engine.prove import prove, prove_with
from refmodel.engine.sampled import differences
from refmodel.rule import Machine
from refmodel.tcp.delack import TCP_DELACK
from refmodel.tcp.nagle import TCP_NAGLE
from refmodel.tcp.scoreboard import TCP_SCOREBOARD
from refmodel.tcp.window import TCP_WINDOW

TestTcpDelack = machine_tests(TCP_DELACK)
TestTcpNagle = machine_tests(TCP_NAGLE)
TestTcpScoreboard = machine_tests(TCP_SCOREBOARD)
TestTcpWindow = machine_tests(TCP_WINDOW)

MACHINES = (TCP_DELACK, TCP_NAGLE, TCP_SCOREBOARD, TCP_WINDOW)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_every_law_is_proved(machine: Machine) -> None:
    report = prove(machine)
    assert report.ok, report.text()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_prover_reads_the_rules_as_they_run(machine: Machine) -> None:
    assert differences(machine).differences == ()


# machine: name of the property: what is edited, into what
FAULTS = {
    "tcp_delack": {
        "delay_is_bounded": ("min(timeout, now + delay) if timer", "now + delay if timer"),
        "ato_is_bounded": ("min(icsk_rto, tcp_delack_max(hz)) if", "min(icsk_rto, 255) if"),
        "never_put_off": ("min(timeout, now + delay) if timer", "max(timeout, now + delay) if timer"),
        "owed_is_kept_or_sent": ("timer=False), (AckNow(),)", "timer=False), ()"),
        "interactive_ends": ("timer=False, ato=ato, pingpong=False", "timer=False, ato=ato"),
    },
    "tcp_nagle": {
        "out_is_short": ("s.snd_nxt - s.snd_una) & M32) <= QUEUE", "s.snd_nxt - s.snd_una) & M32) <= M32"),
        "full_segments_are_never_held": ("return partial and (cork or", "return (cork or"),
        "nothing_out_lets_go": ("(not nodelay and out and small)", "not nodelay"),
        "fin_and_urgent_data_are_never_held": ("push or urg or fin or not", "push or urg or not"),
        "nodelay_is_never_held": ("(not nodelay and out and small)", "out"),
        "one_small_segment_is_out": ("small and nonagle == 0)", "small and nonagle == 1)"),
        "a_push_is_spent": ("tail=Tail.NOTHING, push=False", "tail=Tail.NOTHING"),
    },
    "tcp_scoreboard": {
        "packets_out_is_the_sum": ("packets_out=s.packets_out - n", "packets_out=s.packets_out - 1"),
        "sacked_out_is_the_sum": ("s.sacked_out + (0 if s.sacked else s.pcount)", "s.sacked_out + s.pcount"),
        "lost_out_is_the_sum": ("s.lost_out + (0 if s.lost else s.pcount)", "s.lost_out + s.pcount"),
        "retrans_out_is_the_sum": ("s.retrans_out + (0 if s.retrans else s.pcount)", "s.retrans_out + s.pcount"),
        "marks_exclude_each_other": ("        sacked=True,\n        lost=False,\n", "        sacked=True,\n"),
        "the_rest_excludes_too": ("return e.sacked + e.lost <= e.rest and", "return e.sacked <= e.rest and"),
        "left_out_is_out": ("packets_out=s.rest + n", "packets_out=s.rest"),
        "in_flight_is_not_negative": ("s.lost_out - (s.pcount if repaired else 0)", "s.lost_out + s.pcount"),
        "a_loss_frees_the_window": ("s.lost_out + (0 if s.lost else s.pcount)", "s.lost_out - 1"),
        "splitting_counts_nothing": ("        rest=s.rest + e.n,\n", "        rest=s.rest + e.n, lost_out=0,\n"),
    },
    "tcp_window": {
        "promise_covers_what_arrived": ("rcv_wup=s.rcv_nxt, rcv_wnd=selected", "rcv_wnd=selected"),
        "promise_fits_the_header": ("min(scaled_down(free, shift) if free < full >> 1 else free, ssthresh)", "free"),
        "right_edge_never_shrinks": ("if new < current and not shrinks else new", "if False else new"),
        "grows_by_segments": ("return whole\n", "return space\n"),
        "never_beyond_the_threshold": ("full >> 1 else free, ssthresh)", "full >> 1 else free, full)"),
        "silly_windows_are_zero": ("if seg <= 0 or is_silly(", "if seg <= 0 or False and is_silly("),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "name"), [(m, n) for m in MACHINES for n in FAULTS[m.name]], ids=lambda x: getattr(x, "name", x)
)
def test_a_seeded_fault_is_named(machine: Machine, name: str) -> None:
    text, fault = FAULTS[machine.name][name]
    report = prove_with(machine, [(machine.modules[0], text, fault)])
    assert name in {x.rsplit(".", 1)[-1] for x in report.failed}, report.text()[-2000:]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_every_law_has_a_seeded_fault(machine: Machine) -> None:
    laws = {q.id.rsplit(".", 1)[1] for k in ("invariant", "transition") for q in machine.properties(k)}
    assert laws == set(FAULTS[machine.name])


# ---------------------------------------------------------------- sequence numbers, at every wrap


A, B, C, N = z3.BitVecs("a b c n", 32)
HALF = z3.BitVecVal(1 << 31, 32)
LEMMAS = {
    "an order is one way": z3.Implies(A - B < 0, z3.Or(z3.Not(B - A < 0), A - B == HALF)),
    "what is neither before nor after is equal": z3.Implies(z3.And(z3.Not(A - B < 0), z3.Not(B - A < 0)), A == B),
    "advancing by less than half goes forward": z3.Implies(z3.And(z3.UGT(N, 0), z3.ULT(N, HALF)), A - (A + N) < 0),
    "a distance undoes an advance": (A + N) - A == N,
    "within half the space the order is transitive": z3.Implies(
        z3.And(z3.ULT(B - A, HALF), z3.ULT(C - B, HALF), z3.ULT(C - A, HALF), A != B), z3.And(A - B < 0, A - C < 0)
    ),
    "between is where both distances say so": z3.Implies(
        z3.And(z3.ULT(C - A, HALF)), (z3.UGE(C - A, B - A)) == z3.And(z3.ULE(B - A, C - A))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEMMAS)
def test_a_lemma_of_sequence_numbers_holds_at_every_wrap(name: str) -> None:
    solver = z3.Solver()
    solver.add(z3.Not(LEMMAS[name]))
    assert solver.check() == z3.unsat


def test_opposite_numbers_are_before_each_other() -> None:
    from refmodel.types import after, before

    assert before(0, 1 << 31)
    assert before(1 << 31, 0)
    assert after(0, 1 << 31)
