"""What another tap makes of a real kernel's traffic is never said to diverge, and what it changes is what it says."""

from pathlib import Path

import pytest

from conformance.check.capture import captures_in
from conformance.frames import Frame
from conformance.pcap import read
from conformance.synth.vantage import TRANSFORMS, numbered, segments, transform
from conformance.synth.views import look
from refmodel.packet import Checksum, Ip, Ip6, Vlan, checksums, decode
from refmodel.packet.transport import SYN

CAPTURES = Path(__file__).parents[2] / "captures"
CASES = ("tcp-request-response", "tcp-passive-open-v6", "tcp-several-writes-v6", "tcp-keepalive", "tcp-delayed-ack")


def frames_of(case: str) -> list[Frame]:
    return read(CAPTURES / f"{case}.pcapng")[0]


@pytest.mark.parametrize("case", [c for c in CASES if (CAPTURES / f"{c}.pcapng").exists()])
def test_no_vantage_makes_a_real_kernel_diverge(case: str) -> None:
    found = look(CAPTURES / f"{case}.pcapng", TRANSFORMS)
    assert found
    assert [(x.kind, x.sidecar, x.outcomes, x.why) for x in found if not x.may_be] == []


def test_every_transform_applies_to_some_shipped_capture() -> None:
    paths = [p for p in captures_in([CAPTURES]) if p.name.startswith("tcp-")]
    left = set(TRANSFORMS)
    for p in paths:
        frames = read(p)[0]
        left -= {k for k in left if transform(k, frames, 1) is not None}
        if not left:
            break
    assert left <= {"windows"}


@pytest.mark.parametrize("kind", sorted(set(TRANSFORMS) - {"offload", "snaplen-64", "snaplen-96", "snaplen-128"}))
def test_what_a_transform_rewrites_has_right_checksums(kind: str) -> None:
    for case in CASES:
        view = transform(kind, frames_of(case), 2)
        for f in view.frames if view is not None else ():
            said = dict(checksums(decode(f.data, f.linktype, f.orig_len)))
            assert set(said.values()) <= {Checksum.OK, Checksum.OFFLOAD}, (kind, case, f.number)


@pytest.mark.parametrize("kind", ["vlan", "qinq", "sll", "sll2", "null"])
def test_below_ip_nothing_of_the_segment_changes(kind: str) -> None:
    frames = [f for f in frames_of("tcp-request-response") if decode(f.data).get(Ip) is not None]
    view = transform(kind, frames, 1)
    assert view is not None
    for a, b in zip(segments(frames), segments(view.frames), strict=True):
        assert a is not None
        assert b is not None
        assert (a.seq, a.ack_seq, a.flags, a.window, a.len, a.tsval, a.ip_id) == (
            b.seq, b.ack_seq, b.flags, b.window, b.len, b.tsval, b.ip_id,
        )  # fmt: skip
        assert a.data[a.l3 :] == b.data[b.l3 :]


def test_qinq_has_two_tags() -> None:
    view = transform("qinq", frames_of("tcp-request-response"), 1)
    assert view is not None
    assert sum(isinstance(x, Vlan) for x in decode(view.frames[-1].data).layers) == 2


def test_nat_changes_one_side_alone() -> None:
    frames = frames_of("tcp-request-response")
    view = transform("nat", frames, 1)
    assert view is not None
    before = {a for s in segments(frames) if s is not None for a in ((s.saddr, s.source), (s.daddr, s.dest))}
    after = {a for s in segments(view.frames) if s is not None for a in ((s.saddr, s.source), (s.daddr, s.dest))}
    assert len(before & after) == 1
    assert len(after) == len(before)


def test_a_router_in_between_lowers_the_ttl_of_the_far_side() -> None:
    view = transform("hops", frames_of("tcp-passive-open-v6"), 1)
    assert view is not None
    limits = [decode(f.data).get(Ip6) for f in view.frames]
    assert any(ip is not None and ip.hop_limit < 64 for ip in limits)


def test_a_late_start_has_no_first_syn_and_numbers_from_one() -> None:
    view = transform("starts-late", frames_of("tcp-request-response"), 3)
    assert view is not None
    assert view.frames == numbered(view.frames)
    first = next(s for s in segments(view.frames) if s is not None)
    assert not first.flags & SYN or first.flags & 0x10


def test_the_capture_programs_drops_are_in_the_file(tmp_path: Path) -> None:
    from conformance.pcap import Reader

    view = transform("dropped-said", frames_of("tcp-request-response"), 1)
    assert view is not None
    path = tmp_path / "x.pcapng"
    path.write_bytes(view.pcapng())
    with Reader(path) as reader:
        n = len(list(reader))
        assert reader.interfaces[0].dropped == len(frames_of("tcp-request-response")) - n > 0
