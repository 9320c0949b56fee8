"""UDP, ICMP and fragments: each frame has a sender, and what no stack sends is refused."""

import pytest

from conformance.check.datagrams import Datagrams
from conformance.check.setup import Host, Setup
from conformance.check.verdict import Outcome
from conformance.frames import Frame
from conformance.report.source import cites, says
from refmodel.packet import decode, encode
from refmodel.packet.codec import seal
from refmodel.packet.ether import Ether
from refmodel.packet.icmp import Icmp, Icmp6, Icmp6Word, NdRs
from refmodel.packet.ip import Ip, Ip6
from refmodel.packet.transport import Udp
from refmodel.packet.wire import Layer

SENDERS = (
    "udp_send_skb", "udp_v6_send_skb", "icmp_reply", "__icmp_send", "icmp6_send", "icmpv6_echo_reply", "raw_sendmsg",
    "rawv6_sendmsg", "ip_do_fragment", "ip6_fragment", "igmpv3_sendpack", "mld_sendpack", "ndisc_send_ns",
    "ndisc_send_rs", "ndisc_send_skb", "ndisc_send_redirect", "ip_output",
)  # fmt: skip
A, B = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
A6, B6 = bytes(15) + b"\x01", bytes(15) + b"\x02"
HOSTS = (Host("a", True, frozenset({A, A6})), Host("b", True, frozenset({B, B6})))
RECORDED = Setup(kernel="6.12", hosts=HOSTS, near="a")
WILD = Setup(kernel="6.12")


def ip(saddr: bytes, daddr: bytes, protocol: int, frag_off: int = 0) -> Ip:
    return Ip(5, 0, 0, 7, frag_off, 64, protocol, 0, saddr, daddr)


def ip6(saddr: bytes, daddr: bytes, hop_limit: int = 64) -> Ip6:
    return Ip6(0, 0, 0, 58, hop_limit, saddr, daddr)


def frame(number: int, *layers: Layer, payload: bytes = b"", change: tuple[int, int] | None = None) -> Frame:
    six = any(isinstance(x, Ip6) for x in layers)
    whole = seal((Ether(bytes(6), bytes(6), 0x86DD if six else 0x0800), *layers), payload)
    data = bytearray(encode(whole))
    if change is not None:
        data[change[0]] ^= change[1]
    return Frame(number, number * 1_000_000, 1, 0, bytes(data), len(data))


def judged(setup: Setup, *frames: Frame) -> list[tuple[Outcome, str]]:
    d = Datagrams(setup)
    for f in frames:
        assert d.frame(f, decode(f.data))
    return [(v.outcome, v.divergence.constraint if v.divergence else "") for v in d.finish()]


def ask(number: int, payload: bytes = b"question") -> Frame:
    return frame(number, ip(A, B, 1), Icmp(8, 0, 0, 7 << 16 | 1), payload=payload)


def answer(number: int, payload: bytes = b"question") -> Frame:
    return frame(number, ip(B, A, 1), Icmp(0, 0, 0, 7 << 16 | 1), payload=payload)


def test_an_echo_is_answered_with_its_own_data():
    assert judged(RECORDED, ask(1), answer(2)) == [(Outcome.CONFORMS, "")]
    assert judged(RECORDED, ask(1), answer(2, b"other"))[0] == (Outcome.DIVERGES, "answer-differs")


def test_nobody_answers_what_was_not_asked_once_all_frames_are_known():
    assert judged(RECORDED, answer(1))[0] == (Outcome.DIVERGES, "answer-without-question")
    assert judged(WILD, answer(1))[0] == (Outcome.CONFORMS, "")


def error(number: int, quoted: bytes, to: bytes = A) -> Frame:
    return frame(number, ip(B, to, 1), Icmp(3, 3, 0), payload=quoted)


def test_an_error_quotes_a_datagram_of_the_host_it_goes_to():
    udp = frame(1, ip(A, B, 17), Udp(1000, 2000, 0, 0), payload=b"hello")
    quoted = udp.data[14:]
    assert {o for o, _ in judged(RECORDED, udp, error(2, quoted))} == {Outcome.CONFORMS}
    assert (Outcome.DIVERGES, "error-quotes") in judged(RECORDED, udp, error(2, quoted, to=bytes((10, 0, 0, 9))))
    assert (Outcome.DIVERGES, "error-quotes") in judged(RECORDED, udp, error(2, b"no datagram"))
    assert (Outcome.DIVERGES, "error-size") in judged(RECORDED, udp, error(2, quoted + bytes(600)))


def test_no_error_is_about_an_error():
    about = error(1, frame(1, ip(A, B, 17), Udp(1, 2, 0, 0)).data[14:]).data[14:]
    assert judged(RECORDED, error(2, about[:12] + A + about[16:]))[0] == (Outcome.DIVERGES, "error-about-error")


def test_a_near_hosts_checksum_is_right_or_left_to_its_device():
    good = frame(1, ip(A, B, 17), Udp(1000, 2000, 0, 0), payload=b"hello")
    bad = frame(1, ip(A, B, 17), Udp(1000, 2000, 0, 0), payload=b"hello", change=(43, 1))
    assert judged(RECORDED, good) == [(Outcome.CONFORMS, "")]
    assert judged(RECORDED, bad) == [(Outcome.DIVERGES, "checksum")]
    assert judged(WILD, bad) == [(Outcome.CONFORMS, "")]


def test_a_udp_length_is_the_rest_of_the_packet():
    bad = frame(1, ip(A, B, 17), Udp(1000, 2000, 0, 0), payload=b"hello", change=(39, 2))
    assert judged(WILD, bad) == [(Outcome.DIVERGES, "udp-length")]


@pytest.mark.parametrize(("more", "size", "found"), [(0x2000, 16, ""), (0x2000, 15, "fragment-size"), (2, 15, "")])
def test_a_fragment_with_more_to_come_is_a_multiple_of_eight_bytes(more, size, found):
    piece = frame(1, ip(A, B, 17, more), payload=bytes(size))
    assert judged(WILD, piece)[0][1] == found


def test_neighbour_discovery_crosses_no_router():
    here = frame(1, ip6(A6, B6, 255), Icmp6(133, 0, 0), NdRs())
    routed = frame(1, ip6(A6, B6, 254), Icmp6(133, 0, 0), NdRs())
    assert judged(WILD, here) == [(Outcome.CONFORMS, "")]
    assert judged(WILD, routed) == [(Outcome.DIVERGES, "nd-hop-limit")]


def test_each_frame_names_the_function_that_sent_it():
    d = Datagrams(RECORDED)
    six = frame(3, ip6(A6, B6), Icmp6(128, 0, 0), Icmp6Word(1))
    for f in (ask(1), answer(2), six):
        d.frame(f, decode(f.data))
    assert dict(d.fired) == {"raw_sendmsg": 1, "icmp_reply": 1, "rawv6_sendmsg": 1}


@pytest.mark.parametrize("name", SENDERS)
def test_what_sends_a_datagram_has_its_citation(name: str) -> None:
    # The model may have a function under the name of IPv4's; where it cuts a datagram up, under that of ip_output.
    kernel = [k for k in cites(name) if k.startswith("net/")]
    assert any(k.endswith(f":{name}") for k in kernel) or name == "ip_output"
    assert kernel
    assert says(name)
