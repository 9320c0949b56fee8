# ruff: noqa: E501
"""The window and its reduction: proved, seeded with faults, and replayed from a live 6.18 kernel."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refmodel.engine.property import machine_tests
from refmodel.engine.prove import prove, prove_with
from refmodel.engine.sampled import differences
from refmodel.tcp.cong import CA, Cwnd, tcp_reno_ssthresh
from refmodel.tcp.cubic import cubic_ssthresh
from refmodel.tcp.prr import (
    TCP_CWND,
    prr_share,
    tcp_cwnd_reduction,
    tcp_end_cwnd_reduction,
    tcp_enter_cwr,
    tcp_enter_recovery,
)
from tests.tcp.record_steps import recorded

TestTcpCwnd = machine_tests(TCP_CWND)

CONG, PRR = "refmodel.tcp.cong", "refmodel.tcp.prr"


def test_every_law_is_proved() -> None:
    report = prove(TCP_CWND)
    assert report.ok, report.text()
    assert [x for x in report.never_enabled if x.endswith("anywhere")] == []


def test_the_prover_reads_the_rules_as_they_run() -> None:
    assert differences(TCP_CWND).differences == ()


# name of the property: module, what is edited, into what, and the cell
FAULTS = {
    "something_can_be_sent": (CONG, "max(s.snd_cwnd >> 1, 2)", "s.snd_cwnd >> 1", "TCP_CA_Open+CwndLost"),
    "reductions_have_a_measure": (PRR, "        prior_cwnd=s.snd_cwnd,\n", "", "TCP_CA_Open+CwndLost"),
    "marks_stay": (PRR, "replace(t, undo=False, ca_state=CA.TCP_CA_CWR)", "replace(t, ca_state=CA.TCP_CA_CWR)", "TCP_CA_Open+CwndCongested"),
    "grows_by_what_arrived": (CONG, "min(slow_start_window(s, acked), s", "min(slow_start_window(s, acked) + 1, s", "TCP_CA_Open+CwndAck"),
    "unused_windows_stay": (PRR, 'require(tcp_is_cwnd_limited(s), "the window limits the sender")', 'require(True, "always")', "TCP_CA_Open+CwndAck"),
    "sends_in_proportion": (PRR, "share - s.prr_out if room < 0", "share if room < 0", "TCP_CA_Recovery+CwndDelivered"),
    "sends_what_left": (PRR, "min(room, made_up)", "room", "TCP_CA_Recovery+CwndDelivered"),
    "first_one_goes": (PRR, "max(sndcnt, 0 if s.prr_out != 0 else 1)", "max(sndcnt, 0)", "TCP_CA_Recovery+CwndDelivered"),
    "ends_at_the_threshold": (PRR, "(s.ca_state == CA.TCP_CA_CWR or s.undo)", "s.undo", "TCP_CA_CWR+CwndReduced"),
    "halves_once": (CONG, "max(s.snd_cwnd >> 1, 2)", "max(s.snd_cwnd >> 2, 2)", "TCP_CA_Open+CwndLost"),
    "reductions_begin_gently": (PRR, "        prr_out=0,\n", "        prr_out=0,\n        snd_cwnd=ssthresh,\n", "TCP_CA_Open+CwndLost"),
    "silence_shrinks": (CONG, "min(tcp_init_cwnd(initcwnd, s.snd_cwnd_clamp), s.snd_cwnd)", "tcp_init_cwnd(initcwnd, s.snd_cwnd_clamp)", "TCP_CA_Open+CwndIdle"),
    "sending_shrinks_by_half_at_most": (CONG, "(s.snd_cwnd + used) >> 1 if falls", "used if falls", "TCP_CA_Open+CwndSent"),
    "undo_restores": (CONG, "return max(s.snd_cwnd, s.prior_cwnd)", "return s.snd_cwnd", "TCP_CA_Loss+CwndUndo"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_named(name: str) -> None:
    module, text, fault, cell = FAULTS[name]
    report = prove_with(TCP_CWND, [(module, text, fault)], only=cell)
    assert name in {x.rsplit(".", 1)[-1] for x in report.failed}, report.text()[-2000:]


def test_every_law_has_a_seeded_fault() -> None:
    assert {q.id.rsplit(".", 1)[1] for k in ("invariant", "transition") for q in TCP_CWND.properties(k)} == set(FAULTS)


@given(st.integers(2, 2**20), st.integers(1, 2**20), st.integers(1, 2**20))
def test_the_share_is_the_proportion_rounded_up_and_what_the_proof_assumes(ssthresh: int, prior: int, got: int) -> None:
    share = prr_share(ssthresh, got, prior)
    assert (share - 1) * prior < ssthresh * got <= share * prior
    assert share >= 1
    if ssthresh <= max(prior, 2):
        assert share <= 2 * got


def test_shares_of_small_windows_exhaustively() -> None:
    for prior in range(1, 40):
        for ssthresh in range(2, max(prior, 2) + 1):
            total = [prr_share(ssthresh, d, prior) for d in range(1, 2 * prior + 1)]
            assert total[prior - 1] == ssthresh
            assert all(0 <= b - a <= 2 for a, b in pairwise(total))


@given(st.integers(2, 60), st.integers(0, 8), st.data())
def test_a_reduction_that_delivers_its_window_ends_at_the_threshold(cwnd: int, newly: int, data: st.DataObject) -> None:
    s, _ = tcp_enter_recovery(Cwnd(snd_cwnd=cwnd), max(cwnd // 2, 2), 1, False)
    in_flight = cwnd - 1
    for _ in range(cwnd):
        got = data.draw(st.integers(1, 2))
        in_flight = max(in_flight - got, 0)
        s, _ = tcp_cwnd_reduction(
            s, got, newly, False, in_flight, prr_share(s.snd_ssthresh, s.prr_delivered + got, s.prior_cwnd)
        )
        assert s.snd_cwnd >= max(in_flight, 1)
        assert s.snd_cwnd <= max(s.snd_ssthresh, in_flight + got + 1)
        sent = s.snd_cwnd - in_flight
        s, in_flight = replace(s, prr_out=s.prr_out + sent), in_flight + sent
    done, _ = tcp_end_cwnd_reduction(s, 5)
    assert done.snd_cwnd == done.snd_ssthresh == max(cwnd // 2, 2)


def test_a_mark_begins_one_reduction_and_forbids_undo() -> None:
    s, _ = tcp_enter_cwr(Cwnd(snd_cwnd=20, prior_ssthresh=9, undo=True), 10, 77)
    assert (s.ca_state, s.prior_ssthresh, s.undo, s.prior_cwnd, s.high_seq) == (CA.TCP_CA_CWR, 0, False, 20, 77)
    again, _ = tcp_enter_cwr(replace(s, snd_cwnd=15), 7, 99)
    assert again.snd_ssthresh == 10


@pytest.mark.parametrize("name", ["reno_prr", "cubic_prr", "cubic_two_lost"])
def test_a_recorded_recovery_takes_the_same_windows(name: str) -> None:
    """in_flight before sending is what TCP_INFO shows less what was sent since; every transmission adds one to it."""
    rows = recorded(name)
    s = Cwnd()
    compared = 0
    for was, row in pairwise(rows):
        if row["ca_state"] < CA.TCP_CA_Recovery and was["ca_state"] < CA.TCP_CA_Recovery:
            continue
        if row["ca_state"] != CA.TCP_CA_Recovery:
            s, _ = tcp_end_cwnd_reduction(s, 0)
            assert s.snd_cwnd == row["snd_ssthresh"]
            assert row["snd_cwnd"] in (s.snd_cwnd, s.snd_cwnd + 1)
            break
        if was["ca_state"] != CA.TCP_CA_Recovery:
            s = Cwnd(snd_cwnd=was["snd_cwnd"])
            ssthresh = tcp_reno_ssthresh(s) if name == "reno_prr" else cubic_ssthresh(s.snd_cwnd)
            s, _ = tcp_enter_recovery(s, ssthresh, 1, False)
            assert s.snd_ssthresh == row["snd_ssthresh"]
        sent = row["data_segs_out"] - was["data_segs_out"]
        got = row["delivered"] - was["delivered"]
        in_flight = row["unacked"] - row["sacked"] - row["lost"] + row["retrans"] - sent
        s, _ = tcp_cwnd_reduction(
            s,
            got,
            max(row["lost"] - was["lost"], 0),
            row["una"] > was["una"],
            in_flight,
            prr_share(s.snd_ssthresh, s.prr_delivered + got, s.prior_cwnd),
        )
        assert s.snd_cwnd == row["snd_cwnd"], row
        s = replace(s, prr_out=s.prr_out + sent)
        compared += 1
    assert compared >= 18
