"""Super-segments: cut where no device does it; the pieces joined are what was there."""

from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.differential.ip_packets import header, tcp
from conformance.differential.ip_world import World
from refmodel.ip.gso import skb_gso_network_seglen, skb_gso_segment, skb_gso_validate_network_len
from refmodel.packet.wire import ones_sum, pseudo_header
from refmodel.skbuff import CHECKSUM_PARTIAL, SKB_GSO_TCP_FIXEDID, SKB_GSO_TCPV4, SKB_GSO_UDP_L4, SkBuff
from tests.ip.bench import Router

A, B = "10.11.0.7", "10.2.3.4"
ADDRESSES = [bytes(int(x) for x in a.split(".")) for a in (A, B)]


def super_segment(body: bytes, mss: int, flags: int = 24, frag_off: int = 0x4000, ident: int = 0xFFFE) -> SkBuff:
    data = header(A, B, 6, tcp(A, B, flags, body, 5000, 77, partial=True), id=ident, frag_off=frag_off)
    skb = SkBuff(data)
    skb.gso_size, skb.gso_type, skb.ip_summed, skb.transport = mss, SKB_GSO_TCPV4, CHECKSUM_PARTIAL, 20
    return skb


def cut(skb: SkBuff, features: frozenset[str] = frozenset()) -> list[SkBuff]:
    segs = skb_gso_segment(Router().net, skb, features)
    assert isinstance(segs, list)
    return segs


@given(size=st.integers(2, 9000), mss=st.integers(1, 1460), flags=st.integers(0, 255))
@settings(max_examples=60)
def test_segments_joined_are_the_super_segment(size: int, mss: int, flags: int) -> None:
    if size <= mss:
        return
    body = bytes(i * 7 & 0xFF for i in range(size))
    segs = cut(super_segment(body, mss, flags))
    assert b"".join(bytes(s.data[40:]) for s in segs) == body
    assert [s.data[4] << 8 | s.data[5] for s in segs] == [(0xFFFE + i) & 0xFFFF for i in range(len(segs))]
    for i, s in enumerate(segs):
        assert int.from_bytes(s.data[24:28], "big") == 5000 + i * mss
        assert ones_sum(bytes(s.data[:20])) == 0xFFFF
        assert ones_sum(bytes(s.data[20:]), pseudo_header(*ADDRESSES, 6, len(s.data) - 20)) == 0xFFFF
        assert s.data[33] == flags & (0xFF if i == 0 else 0x7F) & (0xFF if i == len(segs) - 1 else 0xF6)


@given(size=st.integers(2, 9000), mss=st.integers(1, 1472))
@settings(max_examples=40)
def test_datagrams_joined_are_the_super_datagram(size: int, mss: int) -> None:
    if size <= mss:
        return
    body = bytes(i * 11 & 0xFF for i in range(size))
    skb = SkBuff(header(A, B, 17, pack("!HHHH", 4000, 53, 8 + size, pseudo_header(*ADDRESSES, 17, 8 + size)) + body))
    skb.gso_size, skb.gso_type, skb.ip_summed, skb.transport = mss, SKB_GSO_UDP_L4, CHECKSUM_PARTIAL, 20
    segs = cut(skb)
    assert b"".join(bytes(s.data[28:]) for s in segs) == body
    for s in segs:
        assert int.from_bytes(s.data[24:26], "big") == len(s.data) - 20
        assert ones_sum(bytes(s.data[20:]), pseudo_header(*ADDRESSES, 17, len(s.data) - 20)) == 0xFFFF


def test_a_device_that_sums_gets_the_pseudo_headers_sum() -> None:
    first = cut(super_segment(bytes(100), 60), frozenset({"tx-checksum-ip-generic"}))[0]
    assert first.ip_summed == CHECKSUM_PARTIAL
    assert int.from_bytes(first.data[36:38], "big") == pseudo_header(*ADDRESSES, 6, 80)


def test_a_device_that_cuts_gets_the_super_segment() -> None:
    skb = super_segment(bytes(100), 30)
    assert skb_gso_segment(Router().net, skb, frozenset({"tx-tcp-segmentation"})) is None
    assert skb.gso_segs == 4


def test_a_fixed_identification_stays_and_needs_df() -> None:
    skb = super_segment(bytes(100), 60)
    skb.gso_type |= SKB_GSO_TCP_FIXEDID
    assert {bytes(s.data[4:6]) for s in cut(skb)} == {b"\xff\xfe"}
    skb = super_segment(bytes(100), 60, frag_off=0)
    skb.gso_type |= SKB_GSO_TCP_FIXEDID
    assert isinstance(skb_gso_segment(Router().net, skb, frozenset()), int)


def test_a_super_segment_counts_by_its_segments() -> None:
    skb = super_segment(bytes(9000), 1460)
    assert skb_gso_network_seglen(skb) == 1500
    assert skb_gso_validate_network_len(skb, 1500)
    assert not skb_gso_validate_network_len(skb, 1499)


def test_segments_that_do_not_fit_are_cut_and_then_fragmented_where_they_may() -> None:
    r = Router(World(mtu=600, tun=True))
    whole = super_segment(bytes(3000), 1000, frag_off=0)
    r.receive(bytes(whole.data), "t0", gso_size=1000, gso_type=SKB_GSO_TCPV4, ip_summed=CHECKSUM_PARTIAL)
    assert [len(b) for _, b in r.out] == [596, 464] * 3
    assert r.env.mib["IpFragOKs"] == 3


def test_segments_that_do_not_fit_and_must_not_be_cut_are_told_of() -> None:
    r = Router(World(mtu=600, tun=True))
    whole = super_segment(bytes(3000), 1000)
    r.receive(bytes(whole.data), "t0", gso_size=1000, gso_type=SKB_GSO_TCPV4, ip_summed=CHECKSUM_PARTIAL)
    assert r.reasons == ["PKT_TOO_BIG"]
    assert r.out[0][1][20:22] == b"\x03\x04"
