"""What goes through: hops, lengths, redirects, refused packets."""

from itertools import pairwise

import pytest

from conformance.differential.ip_packets import header
from conformance.differential.ip_world import World
from refmodel.packet.wire import ones_sum
from refmodel.skbuff import PACKET_MULTICAST
from tests.ip.bench import Router, fragments

A, FAR = "10.1.5.5", "10.2.3.4"


def icmp_of(packet: bytes) -> tuple[int, int, int]:
    """(type, code, second word)."""
    at = (packet[0] & 15) * 4
    return packet[at], packet[at + 1], int.from_bytes(packet[at + 4 : at + 8], "big")


def test_a_router_takes_one_hop_and_mends_the_checksum() -> None:
    r = Router()
    r.receive(header(A, FAR, 253, b"abc", ttl=9, id=77))
    ((device, packet),) = r.out
    assert device == "r1"
    assert packet == header(A, FAR, 253, b"abc", ttl=8, id=77)
    assert r.env.mib["IpForwDatagrams"] == 1


@pytest.mark.parametrize("ttl", [0, 1])
def test_the_last_hop_is_told(ttl: int) -> None:
    r = Router()
    r.receive(header(A, FAR, 253, b"abc", ttl=ttl))
    ((device, packet),) = r.out
    assert (device, icmp_of(packet)) == ("r0", (11, 0, 0))
    assert r.reasons == ["IP_INHDR"]
    assert r.env.mib["IpForwDatagrams"] == 0


def test_a_packet_that_must_not_be_cut_is_answered_with_the_mtu() -> None:
    r = Router(World(mtu=600))
    r.receive(header(A, FAR, 253, bytes(1000), frag_off=0x4000))
    ((_, packet),) = r.out
    assert icmp_of(packet) == (3, 4, 600)
    assert len(packet) == 576
    assert r.reasons == ["PKT_TOO_BIG"]
    assert r.env.mib["IpFragFails"] == 1
    assert r.env.mib["IpForwDatagrams"] == 1


def test_the_routes_own_mtu_counts() -> None:
    r = Router()
    r.receive(header(A, "10.8.1.1", 253, bytes(1000), frag_off=0x4000))
    assert icmp_of(r.out[0][1]) == (3, 4, 700)


def test_a_fragment_is_cut_again_and_keeps_its_place() -> None:
    r = Router(World(mtu=300))
    r.receive(fragments(bytes(2000), 800, FAR, protocol=253)[1])
    offsets = [int.from_bytes(b[6:8], "big") for _, b in r.out]
    assert offsets == [0x2000 | (800 + at) // 8 for at in (0, 280, 560)]
    assert all(ones_sum(b[:20]) == 0xFFFF for _, b in r.out)
    assert (r.env.mib["IpFragOKs"], r.env.mib["IpFragCreates"]) == (1, 3)


def test_options_without_the_copied_bit_stand_in_the_first_fragment_only() -> None:
    record = bytes((7, 7, 8)) + bytes((1, 2, 3, 4)) + bytes((148, 4, 0, 1)) + b"\0"
    r = Router(World(mtu=100))
    r.receive(header(A, FAR, 253, bytes(150), options=record))
    first, *rest = [b[20:32] for _, b in r.out]
    assert first[:7] == bytes((7, 7, 8, 1, 2, 3, 4))
    assert all(x[:7] == bytes((1,)) * 7 and x[7:11] == bytes((148, 4, 0, 1)) for x in rest)


def test_who_could_have_gone_directly_is_told_and_the_packet_goes_on() -> None:
    r = Router()
    r.receive(header(A, "10.4.1.1", 253, bytes(8)))
    (redirect, packet) = [b for _, b in r.out]
    assert icmp_of(redirect) == (5, 1, 0x0A010009)
    assert packet[8] == 63


def test_redirects_double_their_distance_and_end_after_nine() -> None:
    r = Router()
    told = []
    for _ in range(900):
        r.receive(header(A, "10.4.1.1", 253, bytes(8)))
        told += [r.env.jiffies] * (len(r.out) - 1)
        r.env.out = []
        r.env.now += 40_000
    gaps = [b - a for a, b in pairwise(told)]
    assert len(told) == 9
    assert all((5 << n + 1) < gap <= (5 << n + 1) + 10 for n, gap in enumerate(gaps))


@pytest.mark.parametrize(
    ("daddr", "answer", "reason"),
    [
        ("10.5.1.1", (3, 1, 0), "NOT_SPECIFIED"),
        ("10.6.1.1", (3, 13, 0), "NOT_SPECIFIED"),
        ("10.7.1.1", None, "NOT_SPECIFIED"),
        ("203.0.113.1", (3, 0, 0), "IP_INNOROUTES"),
    ],
)
def test_a_packet_that_no_route_takes(daddr: str, answer: tuple[int, int, int] | None, reason: str) -> None:
    r = Router()
    r.receive(header(A, daddr, 253, bytes(8)))
    assert [icmp_of(b) for _, b in r.out] == ([answer] if answer else [])
    assert r.reasons == [reason]


def test_refused_packets_are_told_of_five_times_and_then_once_a_second() -> None:
    r = Router()
    for _ in range(8):
        r.receive(header(A, "203.0.113.1", 253, bytes(8)))
    assert len(r.out) == 5
    r.env.now += 1_000_000
    r.receive(header(A, "203.0.113.1", 253, bytes(8)))
    r.receive(header(A, "203.0.113.1", 253, bytes(8)))
    assert len(r.out) == 6


def test_what_came_in_a_frame_to_many_is_not_sent_on() -> None:
    r = Router()
    r.receive(header(A, FAR, 253, bytes(8)), pkt_type=PACKET_MULTICAST)
    assert r.out == []
    assert r.reasons == ["NOT_SPECIFIED"]


def test_a_source_route_is_followed_and_recorded() -> None:
    r = Router()
    route = bytes((131, 11, 4)) + bytes((10, 2, 9, 9)) + bytes((10, 3, 1, 1)) + b"\0"
    r.receive(header(A, "10.1.0.1", 253, bytes(8), options=route))
    ((device, packet),) = r.out
    assert (device, packet[16:20]) == ("r1", bytes((10, 2, 9, 9)))
    assert packet[20:32] == bytes((131, 11, 8)) + bytes((10, 2, 0, 1)) + bytes((10, 3, 1, 1)) + b"\0"


def test_a_source_route_is_dropped_where_none_is_accepted() -> None:
    r = Router(World(accept_source_route=False))
    route = bytes((131, 7, 4)) + bytes((10, 2, 9, 9)) + b"\0"
    r.receive(header(A, "10.1.0.1", 253, bytes(8), options=route))
    assert r.out == []


def test_the_octet_of_an_option_that_is_wrong_is_told() -> None:
    r = Router()
    r.receive(header(A, FAR, 253, bytes(8), options=bytes((1, 7, 7, 3)) + bytes(4)))
    assert icmp_of(r.out[0][1]) == (12, 0, 23 << 24)
    assert r.env.mib["IpInHdrErrors"] == 1
