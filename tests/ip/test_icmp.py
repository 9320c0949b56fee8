"""ICMP: what is answered, about what no error is sent, how many may be sent."""

import pytest

from conformance.differential.ip_packets import header, icmp, udp
from conformance.differential.ip_world import World
from refmodel.ip.icmp import icmp_err_convert, icmp_global_allow, icmp_global_consume
from refmodel.skbuff import PACKET_BROADCAST
from tests.ip.bench import Router

A, HERE = "10.1.5.5", "10.1.0.1"
LIMITED = {"icmp_ratemask": 0x1818}


def test_a_ping_is_answered_with_the_same_bytes_and_type_of_service() -> None:
    r = Router()
    r.receive(header(A, HERE, 1, icmp(8, 0, b"\1\2\3\4", b"payload"), tos=0x10))
    ((_, packet),) = r.out
    assert packet[20:] == icmp(0, 0, b"\1\2\3\4", b"payload")
    assert (packet[1], packet[12:16], packet[16:20]) == (0x10, bytes((10, 1, 0, 1)), bytes((10, 1, 5, 5)))


def test_an_answer_to_a_question_about_time_is_counted_as_an_echo_reply() -> None:
    r = Router()
    r.env.ms = 0x123456
    r.receive(header(A, HERE, 1, icmp(13, 0, bytes(4), bytes((9, 9, 9, 9)) + bytes(8))))
    ((_, packet),) = r.out
    assert packet[20] == 14
    assert packet[28:] == bytes((9, 9, 9, 9)) + b"\0\x12\x34\x56" * 2
    assert (r.env.mib["IcmpOutEchoReps"], r.env.mib["IcmpOutTimestampReps"]) == (1, 0)


@pytest.mark.parametrize("type", [3, 4, 5, 11, 12, 1, 200])
def test_no_error_about_an_error(type: int) -> None:
    r = Router()
    r.receive(header(A, "10.2.3.4", 1, icmp(type, 0, bytes(4), bytes(28)), ttl=1))
    assert r.out == []


@pytest.mark.parametrize("type", [0, 8, 13, 14, 17])
def test_an_error_about_a_question_or_an_answer(type: int) -> None:
    r = Router()
    r.receive(header(A, "10.2.3.4", 1, icmp(type, 0, bytes(4), bytes(28)), ttl=1))
    assert len(r.out) == 1


def test_no_error_about_a_later_fragment_or_to_many() -> None:
    r = Router()
    r.receive(header(A, "10.2.3.4", 253, bytes(16), ttl=1, frag_off=5))
    r.receive(header(A, HERE, 253, bytes(16)), pkt_type=PACKET_BROADCAST)
    r.receive(header(A, "10.1.255.255", 253, bytes(16)))
    assert r.out == []
    r.receive(header(A, "10.2.3.4", 253, bytes(16), ttl=1, frag_off=0x2000))
    assert len(r.out) == 1


def test_as_much_is_quoted_as_fits_into_576_bytes_with_precedence() -> None:
    r = Router()
    r.receive(header(A, HERE, 253, bytes(1400), tos=0xB8))
    ((_, packet),) = r.out
    assert len(packet) == 576
    assert packet[1] == 0xB8 & 0x1E | 0xC0


@pytest.mark.parametrize(("kernel", "reason"), [("6.12", "UNHANDLED_PROTO"), ("6.18", "INVALID_PROTO")])
def test_a_type_that_nobody_knows_sent_to_all(kernel: str, reason: str) -> None:
    r = Router(kernel=kernel)
    r.receive(header(A, "10.1.255.255", 1, icmp(200, 0, bytes(4), b"")))
    assert r.reasons == [reason]


def test_pings_to_all_are_answered_only_if_that_is_wanted() -> None:
    for ignored, answers in ((1, 0), (0, 1)):
        r = Router(World(sysctls={"icmp_echo_ignore_broadcasts": ignored}))
        r.receive(header(A, "10.1.255.255", 1, icmp(8, 0, bytes(4), b"x")))
        assert len(r.out) == answers


def test_a_host_gets_six_errors_at_once_and_then_one_a_second() -> None:
    r = Router(World(sysctls={**LIMITED, "icmp_msgs_burst": 1000, "icmp_msgs_per_sec": 1000}))
    packet = header(A, HERE, 17, udp(A, HERE, 9, b""))
    for _ in range(10):
        r.receive(packet)
    assert len(r.out) == 6
    assert r.env.mib["IcmpOutRateLimitHost"] == 4
    r.env.now += 1_000_000
    r.receive(packet)
    r.receive(packet)
    assert len(r.out) == 7


def test_all_hosts_together_get_about_a_burst() -> None:
    r = Router(World(sysctls=LIMITED))
    allowed = 0
    for _ in range(400):
        if icmp_global_allow(r.net):
            allowed += 1
            icmp_global_consume(r.net)
    assert 25 <= allowed <= 100
    assert not icmp_global_allow(r.net)
    r.env.now += 20_000
    assert icmp_global_allow(r.net)


def test_what_path_mtu_discovery_needs_is_never_held_back() -> None:
    r = Router(World(mtu=600, sysctls={**LIMITED, "icmp_msgs_burst": 1}))
    for _ in range(30):
        r.receive(header(A, "10.2.3.4", 253, bytes(1000), frag_off=0x4000))
    assert len(r.out) == 30


@pytest.mark.parametrize(
    ("type", "code", "body", "told"),
    [
        (3, 1, 28, True), (3, 1, 27, False), (3, 1, 19, False), (11, 0, 28, True), (11, 1, 28, False),
        (12, 0, 28, True), (3, 16, 28, False), (5, 1, 28, True),
    ],
)  # fmt: skip
def test_an_error_is_worth_what_it_quotes(type: int, code: int, body: int, told: bool) -> None:
    quoted = header(HERE, A, 17, udp(HERE, A, 5000, bytes(40)))[:body]
    r = Router()
    r.receive(header(A, HERE, 1, icmp(type, code, bytes(4), quoted)))
    assert bool(r.env.errors) == told


@pytest.mark.parametrize(("mode", "info"), [(0, [1400]), (1, [0]), (2, []), (3, [])])
def test_the_mtu_of_an_error_is_believed_as_the_administrator_wants(mode: int, info: list[int]) -> None:
    quoted = header(HERE, A, 17, udp(HERE, A, 5000, bytes(40)))[:28]
    r = Router(World(sysctls={"ip_no_pmtu_disc": mode}))
    r.receive(header(A, HERE, 1, icmp(3, 4, b"\0\0" + (1400).to_bytes(2, "big"), quoted)))
    assert [i for _, i in r.env.errors] == info


def test_unreachable_hosts_are_transient_errors_and_unreachable_ports_are_not() -> None:
    assert [e.fatal for e in icmp_err_convert[:6]] == [False, False, True, True, False, False]
    assert len(icmp_err_convert) == 16


def test_an_answer_of_too_many_pieces_is_not_sent() -> None:
    for size, sent in ((50_000, True), (60_000, False)):
        r = Router(World(mtu=296))
        question = icmp(8, 0, bytes(4), bytes(size))
        for at in range(0, len(question), 1400):
            mf = 0x2000 if at + 1400 < len(question) else 0
            r.receive(header("10.2.5.5", HERE, 1, question[at : at + 1400], id=3, frag_off=at // 8 | mf), "r1")
        assert bool(r.out) == sent
        assert r.env.mib["IcmpOutErrors"] == r.env.mib["IpOutDiscards"] == (not sent)
