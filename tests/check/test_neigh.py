"""The checker of neighbours: what it accepts, what it rejects, and where."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conformance.check.datagrams import concerns
from conformance.check.neigh_frames import unmodelled_class
from conformance.check.setup import Call, SidecarError
from conformance.check.verdict import Outcome, Verdict
from conformance.live.classes import frame_class
from refmodel.packet import decode
from tests.check.neigh_runs import (
    ALL,
    IP_A,
    IP_B,
    OTHER,
    START,
    A,
    B,
    S,
    cases,
    check,
    reply,
    request,
    setup,
    shipped,
    timed,
    udp,
)

RESOLVED = ((0.0, request()), (0.0001, reply()), (0.0002, udp()))
REACHABLE = (0.0003, "NEWNEIGH", "REACHABLE", "02:00:00:00:00:02", 4)


def worst(verdicts: list[Verdict]) -> Verdict:
    """The first divergence, else the first verdict."""
    return next((v for v in verdicts if v.outcome is Outcome.DIVERGES), verdicts[0])


def why(v: Verdict) -> str:
    """What a user reads of a divergence."""
    assert v.divergence is not None, v
    return " ".join((v.divergence.what, *(n.why for n in v.divergence.near)))


@pytest.mark.parametrize("case", cases("neigh", "arp", "nd", "tcp", "nic"))
def test_shipped_capture_conforms(case):
    frames, under = shipped(case)
    for v in check(frames, under):
        assert v.outcome is Outcome.CONFORMS, why(v) if v.divergence else v.reason


@pytest.mark.parametrize("case", cases("neigh", "arp", "nd"))
def test_every_frame_of_resolution_is_labelled(case):
    frames, under = shipped(case)
    labelled = {x.number for v in check(frames, under) for x in v.labels}
    others = {f.number for f in frames if concerns(p := decode(f.data)) or p.layers[-1].NAME == "tcp"}
    assert {f.number for f in frames if not frame_class(f.data)} <= labelled | others


@pytest.mark.parametrize("case", cases("neigh", "arp", "nd", "tcp", "nic"))
def test_recorder_and_checker_agree_on_classes(case):
    for f in shipped(case)[0]:
        assert frame_class(f.data) == unmodelled_class(decode(f.data))


def test_resolution_is_explained_by_rules():
    v = check(timed(*RESOLVED), setup(REACHABLE))
    entry = next(x for x in v if x.subject == "a: 10.9.0.2")
    assert [(x.number, x.by) for x in entry.labels] == [(1, "neigh.output.first"), (3, "neigh.update.to_reachable")]
    assert entry.outcome is Outcome.CONFORMS


def test_without_a_sidecar_senders_are_taken_for_linux_and_it_is_said():
    v = check(timed(*RESOLVED), setup(hosts=(), near="", layer=""))
    assert {x.outcome for x in v if x.layer == "neigh"} == {Outcome.CONFORMS}
    assert any("each sender is a Linux host" in i for i in v[0].inferred)


def test_packet_before_the_answer_is_rejected():
    v = worst(check(timed((0.0, request()), (0.1, udp())), setup()))
    assert v.divergence is not None
    assert v.divergence.frame == 2
    assert "waits in INCOMPLETE" in why(v)


def test_second_solicitation_before_retrans_time_is_rejected():
    v = worst(check(timed((0.0, request()), (0.5, request())), setup()))
    assert v.divergence is not None
    assert v.divergence.frame == 2
    assert "+0.500 s" in why(v)


def test_third_solicitation_is_due():
    v = worst(check(timed((0.0, request()), (1.01, request())), setup(), end=4))
    assert "Solicit" in why(v)
    assert "missing" in why(v)


def test_fourth_solicitation_is_one_too_many():
    asked = [(1.01 * k, request()) for k in range(4)]
    v = worst(check(timed(*asked), setup()))
    assert v.divergence is not None
    assert v.divergence.frame == 4


def test_failure_is_told():
    asked = [(1.01 * k, request()) for k in range(3)]
    told = check(timed(*asked), setup((3.05, "NEWNEIGH", "FAILED", "", 6)), end=5)
    assert worst(told).outcome is Outcome.CONFORMS
    silent = worst(check(timed(*asked), setup(), end=5))
    assert "nobody was told" in why(silent)


def test_queued_packet_is_due_after_the_answer():
    v = worst(check(timed((0.0, request()), (0.0001, reply())), setup(REACHABLE), end=1))
    assert "queued packets" in why(v)


def test_packet_to_another_mac_is_rejected():
    v = worst(check(timed(*RESOLVED, (0.1, udp(dst=OTHER))), setup(REACHABLE)))
    assert v.divergence is not None
    assert v.divergence.frame == 4
    assert "02:00:00:00:00:02 expected, 02:00:00:00:00:77 seen" in why(v)


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        (request(sip=IP_B), "sender address"),
        (request(sha=OTHER), "no host"),
        (request(dst=B), "link-layer destination"),
    ],
)
def test_solicitation_with_a_wrong_field_is_rejected(frame, field):
    v = worst(check(timed((0.0, frame)), setup(linux_b=True)))
    assert v.divergence is not None
    assert v.divergence.frame == 1
    assert field in why(v)


def test_answer_needs_a_question():
    v = worst(check(timed((0.0, reply(sha=A, sip=IP_A, dst=B, tip=IP_B))), setup()))
    assert "nothing asks for it" in why(v)


def test_question_needs_an_answer():
    ask = request(sha=B, sip=IP_B, tip=IP_A)
    told = setup((0.001, "NEWNEIGH", "STALE", "02:00:00:00:00:02", 0))
    v = worst(check(timed((0.0, ask)), told, end=1))
    assert "does not answer frame 1" in why(v)
    answered = check(timed((0.0, ask), (0.0001, reply(sha=A, sip=IP_A, dst=B, tip=IP_B))), told, end=1)
    assert {x.outcome for x in answered} == {Outcome.CONFORMS}


def test_lost_question_needs_no_answer_where_the_peer_asks_again():
    ask = request(sha=B, sip=IP_B, tip=IP_A)
    v = check(timed((0.0, ask), (1.0, ask)), setup(hosts=(), near="", layer=""), end=3)
    assert worst(v).outcome is not Outcome.DIVERGES


def test_probe_must_not_come_before_the_delay_is_over():
    notes = (REACHABLE, (40.0, "NEWNEIGH", "STALE", "02:00:00:00:00:02", 4))
    probe = request(dst=B)
    later = (46.1, "NEWNEIGH", "PROBE", "02:00:00:00:00:02", 1)
    fine = (*RESOLVED, (41.0, udp()), (46.1, probe))
    assert worst(check(timed(*fine), setup(*notes, later))).outcome is Outcome.CONFORMS
    early = worst(check(timed(*RESOLVED, (41.0, udp()), (44.0, probe)), setup(*notes)))
    assert early.divergence is not None
    assert early.divergence.frame == 5


def test_entry_goes_only_with_its_device_or_by_an_administrator():
    gone = (0.5, "DELNEIGH", "REACHABLE", "02:00:00:00:00:02", 4)
    at = (START + S // 2) // 1000
    down = (Call("a", at - 1000, "ip link set a0 down", "0", at),)
    assert worst(check(timed(*RESOLVED), setup(REACHABLE, gone, calls=down), end=1)).outcome is Outcome.CONFORMS
    assert "does not announce DELNEIGH" in why(worst(check(timed(*RESOLVED), setup(REACHABLE, gone), end=1)))


def test_packets_beyond_the_labelled_are_still_judged(monkeypatch):
    monkeypatch.setattr("conformance.check.neigh.LABELS", 1)
    flood = [(0.1 + k / 1000, udp()) for k in range(50)]
    fine = check(timed(*RESOLVED, *flood), setup(REACHABLE))
    assert worst(fine).outcome is Outcome.CONFORMS
    assert sum(len(v.labels) for v in fine if v.subject == "a: 10.9.0.2") == 2
    v = worst(check(timed(*RESOLVED, *flood, (0.2, udp(dst=OTHER))), setup(REACHABLE)))
    assert v.divergence is not None
    assert v.divergence.frame == 54


def test_sidecar_that_names_no_address_is_refused():
    under = setup(calls=(Call("a", 0, "ip neigh add nowhere lladdr x nud stale dev a0", "0"),))
    with pytest.raises(SidecarError, match="cannot be read"):
        check([], under)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_make_it_stumble(data):
    frames, under = shipped(data.draw(st.sampled_from(["neigh-resolve", "neigh-resolve-v6", "nd-dad-conflict"])))
    k = data.draw(st.integers(0, len(frames) - 1))
    raw = bytearray(frames[k].data)
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=3)):
        raw[at] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(1, len(raw)))])
    changed = [*frames[:k], replace(frames[k], data=cut), *frames[k + 1 :]]
    for how in (under, setup(hosts=(), near="", layer="")):
        assert all(v.outcome for v in check(changed, how))


def test_reachable_time_lies_in_its_range():
    stale = "NEWNEIGH", "STALE", "02:00:00:00:00:02", 4
    for at, outcome in ((10.0, Outcome.DIVERGES), (20.0, Outcome.CONFORMS), (44.0, Outcome.CONFORMS)):
        assert worst(check(timed(*RESOLVED), setup(REACHABLE, (at, *stale)), end=at)).outcome is outcome


def test_frames_of_other_layers_are_counted_and_pass_only_with_a_reason():
    frames = timed(*RESOLVED, (0.3, bytes(12) + b"\x88\xb5" + bytes(46)))
    silent = check(frames, setup(REACHABLE))[-1]
    assert (silent.outcome, silent.unmodelled) == (Outcome.NOT_MODELLED, {"other protocol": 1})
    said = check(frames, setup(REACHABLE, unmodelled={"other protocol": "a test"}))[-1]
    assert (said.outcome, said.reason) == (Outcome.CONFORMS, "other protocol: a test")


def test_crafted_frames_are_marked_and_not_judged():
    v = check(timed((0.0, reply(dst=A)), (0.1, request(sha=OTHER, sip=IP_B, tip=IP_B, dst=ALL))), setup())
    assert {x.outcome for x in v} == {Outcome.CONFORMS}
    assert all("crafted, not judged" in x.note for x in v[0].labels)
