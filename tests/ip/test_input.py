"""What comes in: the first thing that is wrong decides, and each has its counter and reason."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.differential.ip_packets import header, udp
from conformance.differential.ip_world import UDP_PORT, World
from refmodel.ip.input import Header, header_verdict
from refmodel.skbuff import PACKET_BROADCAST, PACKET_OTHERHOST
from tests.ip.bench import Router

A, HERE = "10.1.5.5", "10.1.0.1"


def good(**fields: int) -> bytes:
    return header(A, HERE, 17, udp(A, HERE, UDP_PORT, b"hello"), **fields)


def changed(at: int, value: bytes) -> bytes:
    data = bytearray(good())
    data[at : at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason", "counters"),
    [
        (good()[:19], "IP_INHDR", {"IpInHdrErrors"}),
        (changed(0, b"\x65"), "IP_INHDR", {"IpInHdrErrors"}),
        (changed(0, b"\x44"), "IP_INHDR", {"IpInHdrErrors"}),
        (changed(0, b"\x4f"), "IP_INHDR", {"IpInHdrErrors", "IpExtInNoECTPkts"}),
        (changed(8, b"\x01"), "IP_CSUM", {"IpInHdrErrors", "IpExtInCsumErrors", "IpExtInNoECTPkts"}),
        (good(tot_len=500), "PKT_TOO_SMALL", {"IpExtInTruncatedPkts", "IpExtInNoECTPkts"}),
        (good(tot_len=19), "IP_INHDR", {"IpInHdrErrors", "IpExtInNoECTPkts"}),
    ],
    ids=["short", "version", "ihl", "options beyond the end", "checksum", "truncated", "shorter than its header"],
)
def test_what_is_wrong_with_a_header_is_counted_and_dropped(data: bytes, reason: str, counters: set[str]) -> None:
    r = Router()
    r.receive(data)
    assert r.reasons == [reason]
    assert set(r.env.mib) == counters | {"IpInReceives", "IpExtInOctets"}


def test_a_frame_for_another_host_is_not_counted() -> None:
    r = Router()
    r.receive(good(), pkt_type=PACKET_OTHERHOST)
    assert r.reasons == ["OTHERHOST"]
    assert not r.env.mib


def test_padding_is_cut_off() -> None:
    r = Router()
    r.receive(good() + bytes(13))
    assert r.env.delivered == [b"hello"]
    assert r.env.mib["IpExtInOctets"] == len(good()) + 13


@given(st.binary(max_size=120), st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_any_bytes_have_one_end(data: bytes, pkt_type: int) -> None:
    r = Router()
    r.receive(b"\x45" + data, pkt_type=pkt_type)
    held = sum(len(run.skbs) for q in r.net.frags.values() for run in q.runs)
    ends = len(r.reasons) + len(r.env.delivered) + held + sum(1 for d, b, by in r.env.out if not by)
    assert ends + r.env.consumed == 1


@given(
    st.booleans(),
    st.integers(0, 2000),
    st.integers(0, 15),
    st.integers(0, 15),
    st.integers(0, 65535),
    st.integers(0, 65535),
)
def test_a_header_has_one_verdict(other: bool, size: int, version: int, ihl: int, csum: int, tot_len: int) -> None:
    v = header_verdict(other, size, version, ihl, csum, tot_len)
    good = not other and version == 4 and ihl >= 5 and csum == 0xFFFF and 4 * ihl <= tot_len <= size
    assert (v == Header.GOOD) == good


def test_a_packet_for_one_host_in_a_frame_to_many_is_dropped_where_that_is_wanted() -> None:
    for wanted, reasons in ((False, []), (True, ["UNICAST_IN_L2_MULTICAST"])):
        r = Router(World(drop_unicast_in_l2_multicast=wanted))
        r.receive(good(), pkt_type=PACKET_BROADCAST)
        assert r.reasons == reasons


def test_a_protocol_that_nobody_has_is_told_of() -> None:
    r = Router()
    r.receive(header(A, HERE, 253, bytes(100)))
    ((device, message),) = r.out
    assert device == "r0"
    assert message[20:22] == b"\x03\x02"
    assert message[28:48] == header(A, HERE, 253, bytes(100))[:20]
    assert r.reasons == ["IP_NOPROTO"]
    assert r.env.mib["IpInUnknownProtos"] == 1


def test_a_host_does_not_forward() -> None:
    r = Router(World(forwarding=False))
    r.receive(header(A, "10.2.3.4", 253, bytes(8)))
    assert r.out == []
    assert r.reasons == ["IP_INADDRERRORS"]
    assert r.env.mib["IpInAddrErrors"] == 1
