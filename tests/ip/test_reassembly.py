"""Reassembly: in any order, with duplicates, overlaps, contradictions; what is kept and for how long."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from conformance.differential.ip_packets import header, udp
from conformance.differential.ip_world import UDP_PORT, World
from refmodel.ip import ipq
from refmodel.ip.ipq import Phase
from refmodel.ip.net import IPCB
from refmodel.ip.reasm import SIZEOF_IPQ, ip_defrag
from refmodel.skbuff import SkBuff
from tests.ip.bench import Router, fragments

BODY = bytes(range(256)) * 12


def datagram(n: int = 3000) -> bytes:
    return udp("10.1.5.5", "10.1.0.1", UDP_PORT, BODY[: n - 8])


@given(order=st.permutations(range(6)), again=st.lists(st.integers(0, 5), max_size=4))
def test_a_datagram_comes_together_in_any_order_with_any_duplicates(order: list[int], again: list[int]) -> None:
    parts = fragments(datagram(), 512)
    r = Router()
    for i in [*order[:3], *[a for a in again if a in order[:3]], *order[3:]]:
        r.receive(parts[i])
    assert r.env.delivered == [BODY[:2992]]
    assert r.env.mib["IpReasmOKs"] == 1
    assert set(r.reasons) <= {"DUP_FRAG"}
    assert r.net.frag_mem == 0


@given(st.data())
@settings(max_examples=60)
def test_what_is_cut_by_a_small_link_comes_together_again(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 4000))
    mtu = data.draw(st.integers(68, 1500))
    body = BODY[:size] + BODY[: max(0, size - len(BODY))]
    packet = header("10.1.5.5", "10.2.7.7", 253, body, id=9)
    r = Router(World(mtu=mtu))
    r.receive(packet)
    parts = [b for _, b in r.out]
    assert all(len(p) <= mtu for p in parts)
    at_end = Router()
    for p in data.draw(st.permutations(parts)):
        skb = SkBuff(p)
        skb.dev = at_end.env.devices["r0"]
        skb.transport = 20
        done = p[6] & 0x20 == 0 and p[6:8] == b"\0\0"
        if done or not ip_defrag(at_end.net, skb, 0):
            assert bytes(skb.data[20:]) == body


def test_a_fragment_that_crosses_the_edge_of_another_ends_the_datagram() -> None:
    parts = fragments(datagram(), 512)
    r = Router()
    r.receive(parts[0])
    r.receive(parts[2])
    r.receive(header("10.1.5.5", "10.1.0.1", 17, BODY[:512], id=7, frag_off=0x2000 | (512 + 256) // 8))
    assert r.env.mib["IpExtReasmOverlaps"] == 1
    assert r.env.mib["IpReasmFails"] == 1
    assert r.net.frags == {}


def test_bytes_within_a_run_are_a_duplicate_even_across_its_fragments() -> None:
    parts = fragments(datagram(), 512)
    r = Router()
    for p in parts[:3]:
        r.receive(p)
    r.receive(header("10.1.5.5", "10.1.0.1", 17, BODY[:512], id=7, frag_off=0x2000 | 256 // 8))
    assert r.reasons == ["DUP_FRAG"]


def test_bytes_across_two_runs_that_touch_are_an_overlap() -> None:
    parts = fragments(datagram(), 512)
    r = Router()
    for i in (0, 2, 1):
        r.receive(parts[i])
    r.receive(header("10.1.5.5", "10.1.0.1", 17, BODY[:512], id=7, frag_off=0x2000 | 256 // 8))
    assert r.env.mib["IpExtReasmOverlaps"] == 1


def test_the_end_of_a_duplicate_counts() -> None:
    r = Router()
    r.receive(header("10.1.5.5", "10.1.0.1", 17, bytes(16), id=7, frag_off=0x2000))
    r.receive(header("10.1.5.5", "10.1.0.1", 17, bytes(8), id=7, frag_off=1))
    (queue,) = r.net.frags.values()
    assert r.reasons == ["DUP_FRAG"]
    assert queue.s.last_in
    assert queue.s.phase == Phase.OPEN


def test_a_datagram_longer_than_its_length_field_can_tell_is_thrown_away() -> None:
    r = Router()
    r.receive(header("10.1.5.5", "10.1.0.1", 17, bytes(32), id=7, frag_off=8188))
    for at in range(0, 65504, 1456):
        n = min(1456, 65504 - at)
        r.receive(header("10.1.5.5", "10.1.0.1", 17, bytes(n), id=7, frag_off=0x2000 | at // 8))
    assert r.env.mib["IpReasmFails"] == 1
    assert r.env.mib["IpReasmOKs"] == 0
    assert r.net.frag_mem == 0


@pytest.mark.parametrize(("tos", "result"), [((2, 3), 3), ((1, 3), 3), ((2, 2), 2), ((0, 0), 0)])
def test_congestion_of_one_fragment_is_the_datagrams(tos: tuple[int, int], result: int) -> None:
    r = Router()
    skb = None
    for i, t in enumerate(tos):
        packet = header("10.1.5.5", "10.1.0.1", 253, bytes(8), id=7, tos=t, frag_off=0x2000 if i == 0 else 1)
        skb = SkBuff(packet)
        skb.dev = r.env.devices["r0"]
        ip_defrag(r.net, skb, 0)
    assert skb is not None
    assert skb.data[1] == result


def test_fragments_with_and_without_ecn_are_no_datagram() -> None:
    r = Router()
    r.receive(header("10.1.5.5", "10.1.0.1", 253, bytes(8), id=7, tos=0, frag_off=0x2000))
    r.receive(header("10.1.5.5", "10.1.0.1", 253, bytes(8), id=7, tos=3, frag_off=1))
    assert r.env.mib["IpReasmFails"] == 1


def test_df_stays_only_where_the_largest_fragment_had_it() -> None:
    r = Router()
    for largest_has_df in (True, False):
        skb = None
        for at, n, mf in ((0, 64, 0x2000), (8, 16, 0)):
            df = 0x4000 if (n == 64) == largest_has_df else 0
            skb = SkBuff(header("10.1.5.5", "10.1.0.1", 253, bytes(n), id=7, frag_off=at | mf | df))
            skb.dev = r.env.devices["r0"]
            ip_defrag(r.net, skb, 0)
        assert skb is not None
        assert bool(skb.data[6] & 0x40) == largest_has_df
        assert IPCB(skb).frag_max_size == 84


def test_the_time_for_a_datagram_ends_and_its_first_fragment_goes_back() -> None:
    r = Router(World(sysctls={"ipfrag_time": 30}))
    parts = fragments(datagram(), 512)
    r.receive(parts[0])
    r.receive(parts[2])
    r.env.advance(29_900_000)
    assert r.out == []
    r.env.advance(200_000)
    ((device, message),) = r.out
    assert (device, message[20], message[21]) == ("r0", 11, 1)
    assert message[28:48] == parts[0][:20]
    assert r.reasons == ["FRAG_REASM_TIMEOUT"] * 2
    assert r.env.mib["IpReasmTimeout"] == 1
    assert r.net.frag_mem == 0


def test_nobody_is_told_of_a_datagram_without_its_first_fragment() -> None:
    r = Router(World(sysctls={"ipfrag_time": 30}))
    r.receive(fragments(datagram(), 512)[1])
    r.env.advance(31_000_000)
    assert r.out == []
    assert r.env.mib["IpReasmTimeout"] == 1


def test_too_many_bytes_are_held_and_no_new_fragment_is_taken() -> None:
    r = Router(World(sysctls={"ipfrag_high_thresh": 3000, "ipfrag_low_thresh": 100}))
    for ident in range(4):
        r.receive(fragments(datagram(), 512, ident=ident)[0], truesize=1280)
    assert len(r.net.frags) == 3
    assert r.net.frag_mem == 3 * (1280 + SIZEOF_IPQ)
    assert r.env.mib["IpReasmFails"] == 1


def test_a_host_that_sent_much_else_since_begins_its_datagram_anew() -> None:
    r = Router(World(sysctls={"ipfrag_max_dist": 4}))
    r.receive(fragments(datagram(), 512)[0])
    for ident in range(100, 105):
        r.receive(fragments(datagram(), 512, ident=ident)[0])
    r.receive(fragments(datagram(), 512)[1])
    assert r.reasons == ["FRAG_TOO_FAR"]
    assert r.env.mib["IpReasmFails"] == 1


class Queue(RuleBasedStateMachine):
    """Fragments of one datagram, any of them, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router(World(sysctls={"ipfrag_time": 30}))
        self.sent = 0

    @rule(units=st.integers(0, 40), size=st.integers(0, 80), mf=st.booleans(), df=st.booleans(), tos=st.integers(0, 3))
    def fragment(self, units: int, size: int, mf: bool, df: bool, tos: int) -> None:
        if not units and not mf:
            return
        flags = (0x2000 if mf else 0) | (0x4000 if df else 0)
        self.router.receive(header("10.1.5.5", "10.1.0.1", 253, bytes(size), id=7, tos=tos, frag_off=units | flags))
        self.sent += 1

    @precondition(lambda self: self.sent > 0)
    @rule()
    def time_passes(self) -> None:
        self.router.env.advance(31_000_000)
        assert self.router.net.frags == {}

    @invariant()
    def runs_lie_apart_and_in_order(self) -> None:
        for q in self.router.net.frags.values():
            edges = [x for run in q.runs for x in (run.start, run.end)]
            assert edges == sorted(edges)
            assert all(run.start < run.end for run in q.runs)
            assert q.tail is None or q.tail[1] == q.runs[-1].end

    @invariant()
    def numbers_are_those_of_the_fragments(self) -> None:
        for q in self.router.net.frags.values():
            assert q.s.meat == sum(run.end - run.start for run in q.runs)
            assert q.s.first_in == (bool(q.runs) and q.runs[0].start == 0)
            assert ipq.meat_is_within(q.s)
            assert ipq.df_size_is_a_size(q.s)
            assert ipq.open_end_is_at_eights(q.s)
            assert q.timer.pending

    @invariant()
    def memory_is_that_of_the_fragments(self) -> None:
        held = sum(skb.truesize for q in self.router.net.frags.values() for run in q.runs for skb in run.skbs)
        assert self.router.net.frag_mem == held + SIZEOF_IPQ * len(self.router.net.frags)

    @invariant()
    def every_fragment_was_counted(self) -> None:
        assert self.router.env.mib["IpReasmReqds"] == self.sent


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
