"""Neighbours in captures of several taps and behind routers: each link has its judge, each host is judged once."""

import random
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from conformance.check.neigh_taps import Taps, at_link
from conformance.check.setup import Host, Notification, Setup, SidecarError, setup_for
from conformance.check.verdict import Outcome, Verdict
from conformance.frames import Frame
from conformance.mutate_neigh import KINDS, mutants
from conformance.pcap import Reader
from refmodel.packet import decode, segment
from tests.check.neigh_runs import CAPTURES, IP_A, IP_B, OTHER, START, A, B, S, reply, request, udp

RA, RB = bytes.fromhex("0200000000fe"), bytes.fromhex("0200000001fe")
GW_A, GW_B = bytes([10, 9, 0, 254]), bytes([10, 9, 1, 254])
FAR_B = bytes([10, 9, 1, 2])
A0, B0 = 0, 1
LINKS = {
    "a.a0": "02:00:00:00:00:01",
    "b.b0": "02:00:00:00:00:02",
    "r.ra": "02:00:00:00:00:fe",
    "r.rb": "02:00:00:00:01:fe",
}
BOTH = {"interfaces": ["a0", "b0"], "hosts": ["a", "b"], "kinds": ["near", "near"]}
AT_ROUTER = {"interfaces": ["ra", "rb"], "hosts": ["r", "r"], "kinds": ["wire", "wire"]}
AT_A = {"interfaces": ["a0"], "hosts": ["a"], "kinds": ["near"]}

Shot = tuple[float, int, bytes]  # seconds after the start, tap, frame


def frames(*shots: Shot) -> list[Frame]:
    return [Frame(n, START + round(t * S), 1, tap, data, len(data)) for n, (t, tap, data) in enumerate(shots, 1)]


def note(host: str, t: float, dst: str, state: str, lladdr: str, probes: int) -> Notification:
    return Notification(host, (START + round(t * S)) // 1000, "NEWNEIGH", dst, state, lladdr, probes)


def cable(taps: dict[str, Any] = BOTH, **extra: Any) -> Setup:
    """a and b on one cable."""
    hosts = (Host("a", True, frozenset({IP_A}), A), Host("b", True, frozenset({IP_B}), B))
    notes = (
        note("b", 0.0003, "10.9.0.1", "STALE", "02:00:00:00:00:01", 0),
        note("a", 0.0004, "10.9.0.2", "REACHABLE", "02:00:00:00:00:02", 4),
    )
    return Setup("6.12", hosts=hosts, near="a", layer="tcp", notifications=notes, extra={"taps": taps, **extra})


def routed(taps: dict[str, Any] = BOTH) -> Setup:
    """a, r, b: r has an interface, an address and a link-layer address on each of two links."""
    hosts = (
        Host("a", True, frozenset({IP_A}), A),
        Host("b", True, frozenset({FAR_B}), B),
        Host("r", True, frozenset({GW_A, GW_B}), RA),
    )
    notes = (
        note("r", 0.0001, "10.9.0.1", "STALE", "02:00:00:00:00:01", 0),
        note("a", 0.0002, "10.9.0.254", "REACHABLE", "02:00:00:00:00:fe", 4),
        note("b", 0.0011, "10.9.1.254", "STALE", "02:00:00:00:01:fe", 0),
        note("r", 0.0012, "10.9.1.2", "REACHABLE", "02:00:00:00:00:02", 4),
    )
    extra = {"taps": taps, "links": LINKS, "gateways": {"a": "10.9.0.254", "b": "10.9.1.254"}}
    return Setup("6.12", hosts=hosts, near="a", layer="tcp", notifications=notes, extra=extra)


ON_A = (
    (0.0, A0, request(tip=GW_A)),
    (0.0001, A0, reply(sha=RA, sip=GW_A)),
    (0.0002, A0, udp(dst=RA, daddr=FAR_B)),
)
ON_B = (
    (0.001, B0, request(sip=GW_B, sha=RB, tip=FAR_B)),
    (0.0011, B0, reply(sip=FAR_B, dst=RB, tip=GW_B)),
    (0.0012, B0, udp(src=RB, daddr=FAR_B)),
)


def check(shots: Iterable[Frame], under: Setup, end: float = 0.9) -> list[Verdict]:
    taps, last = Taps(under), (START + round(end * S)) // 1000
    for f in shots:
        last = max(last, f.time // 1000)
        s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
        taps.frame(f, s if s is not None else decode(f.data, f.linktype, f.orig_len))
    return taps.finish(last)


def wrong(found: Sequence[Verdict]) -> list[str]:
    return [f"{v.subject}: {v.reason}" for v in found if v.outcome is not Outcome.CONFORMS]


def twice(*shots: tuple[float, bytes]) -> list[Frame]:
    """Each frame at both taps of the cable, 1 us apart."""
    return frames(*(x for t, data in shots for x in ((t, A0, data), (t + 1e-6, B0, data))))


def test_a_frame_that_both_taps_of_a_cable_saw_is_one_event() -> None:
    found = check(twice((0, request()), (0.0001, reply()), (0.0002, udp())), cable())
    assert wrong(found) == []
    assert {v.subject for v in found} == {"a: 10.9.0.2", "b: 10.9.0.1", "b: answers"}


def test_each_host_is_judged_at_its_own_tap() -> None:
    answered_at_a = check(frames((0, A0, request()), (1e-6, B0, request()), (0.0001, A0, reply())), cable())
    assert any("b does not answer" in w for w in wrong(answered_at_a))
    asked_at_b = check(frames((0, B0, request()), (0.0001, A0, reply()), (0.0001, B0, reply())), cable())
    assert any(w.startswith("a: ") for w in wrong(asked_at_b))


def test_what_is_wrong_at_one_tap_diverges_there() -> None:
    found = check(twice((0, request()), (0.0001, reply()), (0.0002, udp(dst=OTHER))), cable())
    assert [v.subject for v in found if v.outcome is Outcome.DIVERGES] == ["a: 10.9.0.2"]


def test_a_frame_looks_the_same_at_both_taps() -> None:
    found = check(
        frames(
            (0, A0, request()),
            (1e-6, B0, request()),
            (0.0001, B0, reply()),
            (0.000101, A0, reply()),
            (0.0002, A0, udp()),
            (0.000201, B0, udp()),
            (1.5, A0, request(dst=B)),
            (1.500001, B0, request(dst=B, tip=IP_B, sip=bytes(4))),
        ),
        cable(),
    )
    assert any("a sent no frame that looks like #8" in w for w in wrong(found))


def test_a_router_has_entries_and_an_address_on_each_link() -> None:
    for taps in (BOTH, AT_ROUTER):
        found = check(frames(*ON_A, *ON_B), routed(taps))
        assert wrong(found) == []
        assert {"a: 10.9.0.254", "r: 10.9.0.1", "r: 10.9.1.2", "b: 10.9.1.254"} <= {v.subject for v in found}


def test_of_a_link_without_a_tap_nothing_is_said() -> None:
    found = check(frames(*ON_A), routed(AT_A))
    assert wrong(found) == []
    assert {v.subject for v in found} == {"a: 10.9.0.254", "r: 10.9.0.1", "r: answers"}


@pytest.mark.parametrize(
    ("shots", "who"),
    [
        (((0.0, A0, request(tip=GW_A)), (0.0001, A0, reply(sha=RB, sip=GW_A)), ON_A[2]), "unknown host"),
        ((*ON_A[:2], (0.0002, A0, udp(dst=B, daddr=FAR_B))), "a: 10.9.0.254"),
        (((0.0, A0, request(tip=FAR_B)),), "a: 10.9.0.254"),
        ((*ON_A, ON_B[0], (0.0011, B0, reply(sip=FAR_B, sha=OTHER, dst=RB, tip=GW_B)), ON_B[2]), "unknown host"),
        ((*ON_A, ON_B[0], ON_B[1], (0.0012, B0, udp(src=RB, dst=A, daddr=FAR_B))), "r: 10.9.1.2"),
        ((*ON_A, ON_B[2]), "r: 10.9.1.2"),
    ],
)
def test_on_a_link_a_router_is_held_to_that_link(shots: tuple[Shot, ...], who: str) -> None:
    found = check(frames(*shots), routed())
    assert who in {v.subject for v in found if v.outcome is Outcome.DIVERGES}, wrong(found)


def test_notifications_of_one_link_are_no_evidence_on_the_other() -> None:
    under = routed()
    missing = replace(under, notifications=under.notifications[:3])
    assert [w.split(":")[0] for w in wrong(check(frames(*ON_A, *ON_B), missing))] == ["r"]


def test_a_host_behind_what_delays_frames_answers_later() -> None:
    late = frames((0, A0, request()), (0.3, A0, reply()), (0.3001, A0, udp()))
    notes = (
        note("b", 0.15, "10.9.0.1", "STALE", "02:00:00:00:00:01", 0),
        note("a", 0.3001, "10.9.0.2", "REACHABLE", "02:00:00:00:00:02", 4),
    )
    plain = replace(cable(AT_A), notifications=notes)
    delayed = replace(cable(AT_A, drops={"b.qdisc": 0}), notifications=notes)
    assert any("b does not answer" in w for w in wrong(check(late, plain)))
    assert wrong(check(late, delayed)) == []


@pytest.mark.parametrize(
    ("drops", "excused"),
    [({}, False), ({"b.qdisc": 0}, False), ({"b.ingress": 7}, False), ({"b.qdisc": 1}, True)],
)
def test_an_answer_may_be_missing_only_where_frames_were_dropped(drops: dict[str, int], excused: bool) -> None:
    asked = frames((0, A0, request()), (1.024, A0, request()), (1.0241, A0, reply()), (1.0242, A0, udp()))
    notes = (
        note("b", 1.0240, "10.9.0.1", "STALE", "02:00:00:00:00:01", 0),
        note("a", 1.0242, "10.9.0.2", "REACHABLE", "02:00:00:00:00:02", 5),
    )
    under = replace(cable(AT_A, drops=drops), notifications=notes)
    assert (wrong(check(asked, under, 2.5)) == []) is excused


def test_a_solicitation_lost_in_the_own_qdisc_counts_as_a_probe() -> None:
    asked = frames((0, A0, request()), (0.0001, A0, reply()), (0.0002, A0, udp()))
    notes = (
        note("b", 0.0003, "10.9.0.1", "STALE", "02:00:00:00:00:01", 0),
        note("a", 0.0004, "10.9.0.2", "REACHABLE", "02:00:00:00:00:02", 5),
    )
    assert wrong(check(asked, replace(cable(AT_A, drops={"a.qdisc": 1}), notifications=notes), 2.5)) == []
    assert wrong(check(asked, replace(cable(AT_A), notifications=notes), 2.5)) != []


def test_a_second_tap_that_no_sidecar_describes_judges_no_recorded_host() -> None:
    under = replace(cable(), extra={})
    assert wrong(check(twice((0, request()), (0.0001, reply()), (0.0002, udp())), under)) == []


def test_gateways_that_are_no_addresses_are_told() -> None:
    with pytest.raises(SidecarError, match="links or gateways"):
        at_link(replace(routed(), extra={**routed().extra, "gateways": {"a": "nowhere"}}), 0)


@cache
def recorded(case: str) -> tuple[tuple[Frame, ...], Setup]:
    path = CAPTURES / "random" / f"{case}.pcapng.gz"
    with Reader(path) as r:
        return tuple(r), setup_for(path)


# Two taps on a cable, at both ends of a router, at both sides of a router that masquerades.
RECORDED = ("random-6.1-213", "random-6.1-224", "random-6.1-266", "random-6.12-351", "random-6.18-2765")
# What may survive: a packet, or its absence, at the tap that judges somebody else; half a second behind a qdisc that
# delays; a notification about a link without a tap, or one of the capture's last moments.
MAY_SURVIVE = {"elsewhere", "drop", "repeat", "late", *(k for k in KINDS if k.startswith("note-"))}


@pytest.mark.parametrize("case", RECORDED)
def test_recorded_captures_of_two_taps_conform_and_their_mutants_do_not(case: str) -> None:
    shots, under = recorded(case)
    assert wrong(check(shots, under)) == []
    for m in mutants(shots, under, random.Random(case)):
        if m.kind not in MAY_SURVIVE:
            assert wrong(check(m.frames, m.setup)) != [], (m.kind, m.at, m.says)
