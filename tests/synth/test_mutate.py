"""A mutant changes what its kind says, where the specification constrains it, and nothing else."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from conformance.check.setup import setup_for
from conformance.mutate import KINDS, REGISTRY, Mutant, finished, mutants
from conformance.mutate_trace import MS, Trace, ahead, postponed
from conformance.pcap import read
from conformance.synth.apps import App
from conformance.synth.truth import synthesize
from conformance.synth.wire import Half
from conformance.synth.wire import Path as Wire
from refmodel.packet import Checksum, checksums, decode
from refmodel.packet.segment import Segment, segment
from refmodel.packet.transport import SYN
from refmodel.tcp.whole.params import WholeParams

CAPTURES = Path(__file__).parents[2] / "captures"
LOSSY = Wire(Half(delay=2000, loss=0.04), Half(delay=2000))
CLEAN = Wire(Half(delay=3000), Half(delay=3000))
TWICE = Wire(Half(delay=3000, copies=0.1), Half(delay=3000, reorder=0.1, hold=2500))


SENDS = App((("write", 80_000), ("shutdown",), ("eof",), ("close",)))
READS = App((("eof",), ("close",)))


def lossy(seed: int, path: Wire = LOSSY, tap: str = "a") -> Trace:
    """A bulk transfer with loss, seen near its sender."""
    t = synthesize(
        seed, shape="bulk", taps=(tap,), paths=(path, path), tx="segments", rx="each", offload=False, mtu=1500,
        client=SENDS, server=READS, sysctls=({}, {}), params=(WholeParams(hz=250), WholeParams(hz=250)), kernel="6.12",
        hz=250, congestion=("cubic", "cubic"),
    )  # fmt: skip
    t.setup.extra["taps"] = {"dropped": 0, "start": "whole"}  # a synthesized tap misses nothing
    return Trace(t.captured(), t.setup)


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    shapes = ("bulk", "both ways", "requests", "zero window", "slow reader", "keepalive", "stream")
    out = [*(lossy(seed) for seed in range(1, 5)), *(lossy(seed, TWICE, "b") for seed in (1, 2))]
    for seed, shape in enumerate((*shapes, *shapes[2:]), 20):
        near = "ab"[seed % 2]
        paths = (LOSSY, CLEAN) if seed < 27 else (CLEAN, CLEAN)
        t = synthesize(seed, shape=shape, taps=(near,), paths=paths, offload=False, tx="segments", rx="each")
        out.append(Trace(t.captured(), t.setup))
    for name in ("tcp-lost-data", "tcp-lost-syn", "tcp-zero-window-probes", "tcp-keepalive"):
        path = CAPTURES / f"{name}.pcapng"
        out.append(Trace(read(path)[0], setup_for(path)))
    return out


@pytest.fixture(scope="module")
def made(traces: list[Trace]) -> list[tuple[Trace, Mutant]]:
    return [(t, m) for t in traces for m in mutants(t, KINDS, random.Random(1))]


def parsed(m: Mutant) -> list[Segment | None]:
    return [segment(f.number, f.time, f.data, f.linktype, f.orig_len) for f in m.frames]


def test_every_kind_is_made_of_some_run(made: list[tuple[Trace, Mutant]]) -> None:
    assert set(KINDS) - {m.kind for _, m in made} == set()


def test_a_mutant_has_right_checksums_and_its_frames_in_order_of_their_numbers(
    made: list[tuple[Trace, Mutant]],
) -> None:
    for t, m in made:
        assert [f.number for f in m.frames] == list(range(1, len(m.frames) + 1))
        old = {f.data for f in t.frames}
        for f in (x for x in m.frames if x.data not in old):
            assert {c for _, c in checksums(decode(f.data, f.linktype, f.orig_len))} <= {Checksum.OK}, (
                m.kind,
                f.number,
            )


def test_a_mutant_differs_from_its_original(made: list[tuple[Trace, Mutant]]) -> None:
    for t, m in made:
        assert [(f.time, f.data) for f in m.frames] != [(f.time, f.data) for f in t.frames], m.kind
        assert t.facts[m.original - 1].s.saddr in t.linux
        assert 0 <= m.at <= len(m.frames)


def test_kinds_of_one_field_leave_every_other_frame_alone(made: list[tuple[Trace, Mutant]]) -> None:
    fields = [k for k in KINDS if REGISTRY[k].make.__module__.endswith(("mutate_fields", "mutate_recovery"))]
    for t, m in made:
        if m.kind in fields:
            changed = [a.number for a, b in zip(t.frames, m.frames, strict=True) if a.data != b.data]
            assert changed == [m.original] == [m.at], m.kind


def test_what_the_kinds_of_order_take_out_or_put_in_leaves_no_gap_in_the_ids(
    made: list[tuple[Trace, Mutant]],
) -> None:
    for t, m in made:
        if m.kind not in ("unsent", "ack-withheld", "repeat", "ack-uncaused", "retransmit-acked"):
            continue
        way = t.facts[m.original - 1].way
        before = steps([t.facts[k].s for k in t.ways[way]])
        after = steps([s for s in parsed(m) if s is not None and (s.saddr, s.source, s.daddr, s.dest) == way[:4]])
        assert max(after) <= max(before), m.kind


def steps(series: list[Segment]) -> list[int]:
    ids = [s.ip_id for s in series if s.ip_id]
    return [(b - a) & 0xFFFF for a, b in pairwise(ids)] or [0]


def test_a_segment_that_is_sent_before_its_cause_is_so_by_a_millisecond(made: list[tuple[Trace, Mutant]]) -> None:
    for t, m in made:
        if m.kind in ("early", "beyond-window", "beyond-cwnd"):
            f = t.facts[m.original - 1]
            assert t.frames[f.theirs_before].time - m.frames[m.at - 1].time == MS


def test_retransmissions_are_changed_only_where_the_tap_saw_the_original(made: list[tuple[Trace, Mutant]]) -> None:
    found = [(t, m) for t, m in made if m.kind.startswith("retransmit-") and m.kind != "retransmit-acked"]
    assert found
    for t, m in found:
        f = t.facts[m.original - 1]
        assert f.again
        assert ahead(f.s.end_seq, f.nxt) <= 0


def test_sack_kinds_rewrite_the_blocks_they_name() -> None:
    seen = set()
    for seed in range(1, 12):
        t = lossy(seed)
        for m in mutants(t, [k for k in KINDS if "sack" in k and k != "no-sack-permitted"], random.Random(2), 3):
            old, new = t.facts[m.original - 1].s, parsed(m)[m.at - 1]
            assert new is not None
            seen.add(m.kind)
            if m.kind == "sack-removed":
                assert old.sack
                assert not new.sack
            elif m.kind == "sack-order":
                assert new.sack == (old.sack[1], old.sack[0], *old.sack[2:])
            elif m.kind == "sack-left":
                assert new.sack[0] == (old.sack[0][0] - 1, old.sack[0][1])
            elif m.kind == "dsack-removed":
                assert new.sack == old.sack[1:]
            else:
                assert new.sack != old.sack
            assert (new.seq, new.ack_seq, new.window, new.len) == (old.seq, old.ack_seq, old.window, old.len)
    assert seen >= {"sack-left", "sack-unsent", "sack-removed", "sack-invented"}


def test_a_connection_that_is_put_off_takes_its_timestamps_along() -> None:
    t = lossy(3)
    k = t.mine[len(t.mine) // 2]
    frames = postponed(t, k, 700 * MS)
    for j, f in t.facts.items():
        s = segment(1, frames[j].time, frames[j].data, frames[j].linktype, frames[j].orig_len)
        assert s is not None
        late = 700 if j >= k else 0
        assert frames[j].time - t.frames[j].time == late * MS
        if s.tsval is not None and f.s.tsval is not None:
            assert s.tsval - f.s.tsval == late


def test_no_frame_of_a_crafted_peer_is_mutated() -> None:
    path = CAPTURES / "tcp-rst-exact.pcapng"
    t = Trace(read(path)[0], setup_for(path))
    linux = {a for h in t.setup.hosts if h.linux for a in h.addresses}
    found = list(mutants(t, KINDS, random.Random(1), 3))
    assert found
    assert all(t.facts[m.original - 1].s.saddr in linux for m in found)


def test_facts_of_a_trace() -> None:
    t = lossy(2)
    syn, synack = (next(f for f in t.facts.values() if f.s.flags & 0x12 == bits) for bits in (SYN, 0x12))
    assert syn.nxt is None
    assert syn.theirs_behind == synack.k
    assert synack.theirs_before == syn.k
    for f in t.facts.values():
        if f.s.len and not f.again and f.nxt is not None and f.way == syn.way:
            assert ahead(f.s.seq, f.nxt) >= 0
    data = [f for f in t.facts.values() if f.s.len and f.way == syn.way]
    assert any(f.again for f in data)
    assert finished("ttl", 1, REGISTRY["ttl"].make(t, syn.k, random.Random(1)) or pytest.fail("no ttl")).at == syn.k + 1
