"""Which connection a packet belongs to, what it is to it, and how entries come and go."""

import struct

import pytest

from conformance.differential.netfilter_packets import ip, udp
from refmodel.dropreason import Reason
from refmodel.netfilter.uapi import Ips
from refmodel.rule import NotModelled
from tests.netfilter.play import FAR, ROUTER0, A, B, Router

TRACK = "-A FORWARD -m conntrack --ctstate INVALID -j DROP"


def only(r: Router):  # type: ignore[no-untyped-def]
    (ct,) = r.nf.ct.table.entries()
    return ct


def test_without_a_rule_that_needs_them_no_connections_are_tracked() -> None:
    r = Router("-A FORWARD -p udp -j ACCEPT")
    r.udp()
    assert r.nf.ct.table.entries() == []


def test_connection_is_new_until_it_is_answered() -> None:
    r = Router(TRACK)
    r.udp()
    assert not only(r).status & Ips.SEEN_REPLY
    r.udp()
    r.udp(B, A, 53, 1000, "tap1")
    assert only(r).status & Ips.SEEN_REPLY
    r.udp()
    assert r.states() == ["NEW", "NEW", "ESTABLISHED_REPLY", "ESTABLISHED"]


def test_what_is_dropped_on_its_way_leaves_no_entry() -> None:
    r = Router(TRACK, "-A FORWARD -p udp -j DROP")
    assert r.udp() == []
    assert r.nf.ct.table.entries() == []
    assert r.drops == [Reason.NETFILTER_DROP]


def test_entry_ends_after_its_timeout_and_the_next_packet_is_new() -> None:
    r = Router(TRACK)
    r.udp()
    r.now += 29_990_000
    assert r.nf.ct.nf_conntrack_find_get(only(r).orig) is not None
    r.now += 20_000
    r.udp(B, A, 53, 1000, "tap1")
    assert r.states() == ["NEW", "NEW"]


def test_udp_is_a_stream_once_it_is_answered_and_two_seconds_old() -> None:
    r = Router(TRACK)
    r.udp()
    r.udp(B, A, 53, 1000, "tap1")
    assert r.nf.ct.nf_ct_expires(only(r)) == 30 * 250
    r.now += 1_900_000
    r.udp()
    assert not only(r).status & Ips.ASSURED
    r.now += 200_000
    r.udp()
    assert only(r).status & Ips.ASSURED
    assert r.nf.ct.nf_ct_expires(only(r)) == 120 * 250


def test_untracked_packet_has_no_entry() -> None:
    r = Router("-A FORWARD -m conntrack --ctstate UNTRACKED", raw=("-A PREROUTING -p udp -j CT --notrack",))
    r.udp()
    assert r.nf.ct.table.entries() == []
    assert r.nf.tables["filter"].rules()[0].pcnt == 1


def test_echo_and_its_answer_are_one_connection() -> None:
    r = Router(TRACK)
    r.ping()
    r.ping(B, A, "tap1", kind=0)
    assert r.states() == ["NEW", "ESTABLISHED_REPLY"]


def test_answer_that_nobody_asked_for_is_invalid() -> None:
    r = Router(TRACK)
    assert r.ping(B, A, "tap1", kind=0) == []
    assert r.nf.ct.stat["invalid"] == 1


def error_about(r: Router, kind: int, quoted: bytes, to: str = A, source: str = FAR) -> list[str]:
    from conformance.differential.netfilter_packets import icmp

    return [x.where for x in r.at("tap1", ip(source, to, 1, icmp(kind, 0, 0, quoted)))]


def test_error_about_a_connection_is_related_to_it() -> None:
    r = Router("-A FORWARD -m conntrack --ctstate RELATED -j ACCEPT", "-A FORWARD -p icmp -j DROP")
    quoted = r.udp()[0].data
    assert error_about(r, 11, quoted) == ["tap0"]


def test_error_to_somebody_else_is_not() -> None:
    r = Router("-A FORWARD -m conntrack --ctstate RELATED -j ACCEPT", "-A FORWARD -p icmp -j DROP")
    quoted = r.udp()[0].data
    assert error_about(r, 11, quoted, to="10.0.1.11") == []
    assert r.nf.ct.stat["error"] == 1


def test_wrong_checksum_makes_a_packet_invalid_only_from_outside() -> None:
    r = Router(TRACK)
    packet = bytearray(ip(A, B, 17, udp(A, B, 1, 2, b"x")))
    packet[-1] ^= 1
    assert r.at("tap0", bytes(packet)) == []
    packet[12:16] = bytes((10, 0, 2, 1))
    assert len(r.sent(bytes(packet))) == 1


def test_fragments_are_tracked_as_the_packet_they_make() -> None:
    r = Router(TRACK)
    body = udp(A, B, 1000, 53, bytes(40))
    assert r.at("tap0", ip(A, B, 17, body[:16], ident=5, frag=0x2000)) == []
    out = r.at("tap0", ip(A, B, 17, body[16:], ident=5, frag=2))
    assert [struct.unpack_from(">H", x.data, 6)[0] for x in out] == [0x2000, 2]
    assert only(r).orig.dport == 53


def test_full_table_drops_what_is_not_assured_in_the_neighbourhood_or_the_packet() -> None:
    r = Router(TRACK)
    r.nf.ct.params = type(r.nf.ct.params)(nf_conntrack_max=2)
    r.nf.ct.table.size = 4
    r.udp(sport=1)
    r.udp(sport=2)
    assert len(r.udp(sport=3)) == 1
    assert r.nf.ct.stat["early_drop"] >= 1
    for ct in r.nf.ct.table.entries():
        ct.status |= Ips.ASSURED
    r.udp(sport=4)
    for ct in r.nf.ct.table.entries():
        ct.status |= Ips.ASSURED
    while len(r.nf.ct.table.entries()) < 2:
        r.udp(sport=5)
        for ct in r.nf.ct.table.entries():
            ct.status |= Ips.ASSURED
    assert r.udp(sport=6) == []
    assert r.nf.ct.stat["drop"] == 1


def test_reset_of_a_rejected_connection_is_related_and_closes_it() -> None:
    r = Router("-A FORWARD -p tcp -m conntrack --ctstate ESTABLISHED -j REJECT --reject-with tcp-reset")
    r.tcp(0x02, 100)
    out = r.tcp(0x12, 500, 101, B, A, 80, 1000, "tap1")
    assert [x.where for x in out] == ["tap1"]
    assert out[0].data[33] == 0x04
    assert only(r).tcp.state.name == "CLOSE"


def test_rejected_datagram_is_answered_with_what_was_asked_for() -> None:
    r = Router("-A FORWARD -p udp -j REJECT --reject-with icmp-admin-prohibited")
    (out,) = r.udp()
    assert (out.where, out.data[20], out.data[21]) == ("tap0", 3, 13)
    assert out.data[12:16] == bytes((10, 0, 1, 1))


def test_rejected_packet_with_a_wrong_checksum_is_not_answered() -> None:
    r = Router("-A FORWARD -p udp -j REJECT")
    packet = bytearray(ip(A, B, 17, udp(A, B, 1, 2, b"x")))
    packet[-1] ^= 1
    assert r.at("tap0", bytes(packet)) == []


def test_packets_to_the_router_pass_input_and_its_own_output() -> None:
    r = Router("-A INPUT -p icmp -m conntrack --ctstate NEW", "-A OUTPUT -p icmp -m conntrack --ctstate ESTABLISHED")
    (out,) = r.ping(A, ROUTER0)
    assert out.where == "tap0"
    assert [e.pcnt for e in r.nf.tables["filter"].rules()] == [1, 1]


def test_protocol_without_a_tracker_is_known_by_its_addresses() -> None:
    r = Router(TRACK)
    r.at("tap0", ip(A, B, 89, b"hello"))
    r.at("tap1", ip(B, A, 89, b"hello"))
    assert r.states() == ["NEW", "ESTABLISHED_REPLY"]
    assert r.nf.ct.nf_ct_expires(only(r)) == 600 * 250


def test_protocol_whose_tracker_is_not_there_is_said_not_to_be() -> None:
    with pytest.raises(NotModelled, match="protocol 132"):
        Router(TRACK).at("tap0", ip(A, B, 132, bytes(12)))
