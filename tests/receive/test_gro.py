"""GRO: what is merged, what is not, and that what was merged can be cut again."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.differential.gro_frames import SRC, sequence
from refmodel.ip.gso import skb_gso_segment
from refmodel.ip.net import Ip
from refmodel.receive.gro import MAX_GRO_SKBS
from refmodel.receive.params import ReceiveParams
from refmodel.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    ETH_P_IP,
    SKB_GSO_TCP_FIXEDID,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SKB_GSO_UDP_L4,
    SkBuff,
)
from tests.receive.runs import Veth, cut, segment, stream


def sizes(up: list[SkBuff]) -> list[int]:
    return [skb.gso_segs or 1 for skb in up]


def test_segments_in_line_become_one_packet() -> None:
    f = stream()
    up = Veth().burst(*(segment(f) for _ in range(5)))
    assert sizes(up) == [5]
    assert (up[0].gso_size, up[0].gso_type, up[0].ip_summed) == (100, SKB_GSO_TCPV4, CHECKSUM_PARTIAL)
    assert len(up[0].data) == 40 + 500
    assert int.from_bytes(up[0].data[2:4], "big") == 540


def test_a_segment_alone_comes_up_as_it_was_with_its_checksum_verified() -> None:
    frame = segment(stream())
    (skb,) = Veth().burst(frame)
    assert skb.frame == frame
    assert (skb.gso_size, skb.ip_summed) == (0, CHECKSUM_UNNECESSARY)


def test_without_gro_frames_come_up_one_by_one_through_the_backlog() -> None:
    f, veth = stream(), Veth(gro=False)
    assert sizes(veth.burst(*(segment(f) for _ in range(3)))) == [1, 1, 1]
    assert ("process_backlog", "3 packets: empty") in veth.env.notes
    assert veth.env.up[0].ip_summed == CHECKSUM_NONE


def test_a_push_ends_the_packet() -> None:
    f = stream()
    up = Veth().burst(segment(f), segment(f, "psh"), segment(f), segment(f))
    assert sizes(up) == [2, 2]
    assert up[0].data[33] & 8


def test_a_gap_sends_up_what_is_held() -> None:
    f = stream()
    first = [segment(f), segment(f)]
    f.seq += 100
    assert sizes(Veth().burst(*first, segment(f), segment(f))) == [2, 2]


def test_ids_that_stand_still_are_marked_and_need_df_before_6_18() -> None:
    f = stream(step=0)
    (skb,) = Veth().burst(*(segment(f) for _ in range(3)))
    assert skb.gso_type == SKB_GSO_TCPV4 | SKB_GSO_TCP_FIXEDID
    f = stream(step=0, df=False)
    assert sizes(Veth().burst(*(segment(f) for _ in range(3)))) == [1, 1, 1]
    f = stream(step=0, df=False)
    assert sizes(Veth(params=ReceiveParams(kernel=618)).burst(*(segment(f) for _ in range(3)))) == [3]


def test_ids_that_jump_keep_segments_apart() -> None:
    f = stream(step=2)
    assert sizes(Veth().burst(*(segment(f) for _ in range(3)))) == [1, 1, 1]


def test_after_cwr_the_next_segment_joins_until_6_17_but_not_in_6_18() -> None:
    f = stream(flags=0x90)
    first = segment(f)
    f.flags = 0x10
    rest = [segment(f), segment(f)]
    assert sizes(Veth().burst(first, *rest)) == [3]
    assert sizes(Veth(params=ReceiveParams(kernel=618)).burst(first, *rest)) == [1, 2]


def test_ipv6_merges_without_ids_and_past_an_extension_header() -> None:
    a, b = bytes.fromhex("fd00") + bytes(13) + b"\1", bytes.fromhex("fd00") + bytes(13) + b"\2"
    f = stream(ipv6=True, saddr=a, daddr=b, extension=bytes((0, 0, 1, 4, 0, 0, 0, 0)))
    (skb,) = Veth().burst(*(segment(f) for _ in range(4)))
    assert (skb.gso_segs, skb.gso_type, skb.transport) == (4, SKB_GSO_TCPV6, 48)


def test_datagrams_merge_only_where_forwarding_asks_for_it() -> None:
    f = stream(udp=True)
    assert sizes(Veth().burst(*(segment(f) for _ in range(3)))) == [1, 1, 1]
    f = stream(udp=True)
    (skb,) = Veth("rx-udp-gro-forwarding").burst(*(segment(f) for _ in range(3)))
    assert (skb.gso_segs, skb.gso_type) == (3, SKB_GSO_UDP_L4)


def test_at_most_64_datagrams_merge() -> None:
    f = stream(udp=True, mss=1)
    up = Veth("rx-udp-gro-forwarding").burst(*(segment(f) for _ in range(64)))
    assert sizes(up) == [64]


def test_a_packet_grows_to_less_than_64_kb() -> None:
    f = stream(mss=1448)
    up = Veth().burst(*(segment(f) for _ in range(60)))
    assert sizes(up) == [45, 15]
    assert max(len(skb.data) for skb in up) < 65536


def test_a_ninth_flow_sends_up_the_oldest() -> None:
    flows = [stream(sport=1000 + i) for i in range(MAX_GRO_SKBS + 1)]
    veth = Veth()
    up = veth.burst(*(segment(f) for f in flows))
    assert [int.from_bytes(skb.data[20:22], "big") for skb in up] == [1000 + i for i in range(MAX_GRO_SKBS + 1)]
    assert ("gro_flush_oldest", "8 held: the oldest goes up") in veth.env.notes


def test_a_poll_that_used_up_its_weight_is_flushed_where_a_jiffy_is_long() -> None:
    f = stream(mss=10)
    frames = [segment(f) for _ in range(65)]
    assert sizes(Veth().burst(*frames)) == [64, 1]
    assert sizes(Veth(params=ReceiveParams(hz=1000)).burst(*frames)) == [65]


def test_the_last_tap_sees_an_unwanted_packet_after_those_behind_it() -> None:
    """A tap that nobody follows is served with its run of the list, so the next packet's tap comes first."""
    other = bytes.fromhex("02000000000b") + SRC + b"\x88\xb5" + bytes(46)
    up = Veth().burst(segment(stream()), other)
    assert [skb.protocol for skb in up] == [0x0800, 0x88B5]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from((601, 612, 618)))
def test_what_was_merged_is_cut_into_what_came(seed: int, kernel: int) -> None:
    """Every TCP packet that comes up is one that came, or is cut into ones that came, each of them once."""
    frames = sequence(random.Random(seed))
    up = Veth(params=ReceiveParams(kernel=kernel)).burst(*frames)
    came = sorted(bytes(f[14:]) for f in frames)
    cutted = sorted(part for skb in up for part in cut(skb))
    assert cutted == came


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from((601, 612, 618)))
def test_what_was_merged_is_cut_by_gso_into_what_came(seed: int, kernel: int) -> None:
    """IPv4 super-segments that are forwarded leave as the segments that came.

    Datagrams too, but for their ids: whether those stood still GRO remembers for TCP only.
    """
    frames = sequence(random.Random(seed))
    veth = Veth("rx-udp-gro-forwarding", params=ReceiveParams(kernel=kernel))
    came = {but_datagram_ids(bytes(f[14:])) for f in frames}
    for skb in veth.burst(*frames):
        if skb.is_gso and skb.protocol == ETH_P_IP:
            segments = skb_gso_segment(Ip(veth.env), skb, frozenset())  # type: ignore[arg-type]
            assert isinstance(segments, list)
            assert len(segments) == skb.gso_segs
            assert {but_datagram_ids(bytes(s.data)) for s in segments} <= came


def but_datagram_ids(packet: bytes) -> bytes:
    """The packet, for UDP over IPv4 without its id and header checksum."""
    udp = packet[:1] == b"\x45" and packet[9:10] == b"\x11"
    return packet[:4] + packet[6:10] + packet[12:] if udp else packet
