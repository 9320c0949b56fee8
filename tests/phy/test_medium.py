"""Frames on the medium, their times, and a station of CSMA/CD step by step."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmodel.phy.csma import CSMA, Carrier, Collision, CsmaParams, Elapse, Mac, Offer, Station, due
from refmodel.phy.frame import BadFrame, crc32, crc_by_bits, from_medium, on_medium
from refmodel.phy.link import Port, frame_time_ns, frames_per_second
from tests.nic.drive import Drive, kinds

ARP = bytes.fromhex("ffffffffffff00010203040508060001080006040001000102030405c0a80001000000000000c0a80002")


def test_the_check_value_of_crc_32() -> None:
    assert crc32(b"123456789") == crc_by_bits(b"123456789") == 0xCBF43926


@given(st.binary(max_size=300))
def test_division_bit_by_bit_gives_what_tables_give(data: bytes) -> None:
    assert crc_by_bits(data) == crc32(data) == zlib.crc32(data)


@given(st.binary(min_size=14, max_size=1514))
def test_what_is_sent_is_received_with_its_pad(data: bytes) -> None:
    octets = on_medium(data)
    assert len(octets) >= 72
    assert octets[:8] == b"\x55" * 7 + b"\xd5"
    assert from_medium(octets).data == data.ljust(60, b"\0")
    assert from_medium(octets[3:]).data == data.ljust(60, b"\0")


@given(st.binary(min_size=14, max_size=200), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_octet_is_noticed(data: bytes, at: int, change: int) -> None:
    octets = bytearray(on_medium(data))
    octets[8 + at % (len(octets) - 8)] ^= change
    with pytest.raises(BadFrame, match="check sequence"):
        from_medium(bytes(octets))


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (bytes(80), "no start frame delimiter"),
        (on_medium(ARP)[:40], "a collision's fragment"),
        (on_medium(bytes(1600)), "more than 1522"),
    ],
)
def test_what_is_no_frame_says_why(octets: bytes, why: str) -> None:
    with pytest.raises(BadFrame, match=why):
        from_medium(octets)


@pytest.mark.parametrize(
    ("length", "speed", "ns", "rate"),
    [
        (60, 10, 57_600, 14_880),
        (60, 100, 5_760, 148_809),
        (60, 1000, 576, 1_488_095),
        (60, 10_000, 58, 14_880_952),
        (1514, 1000, 12_208, 81_274),
        (42, 1000, 576, 1_488_095),
    ],
)
def test_how_long_a_frame_takes_and_how_many_there_are_in_a_second(length: int, speed: int, ns: int, rate: int) -> None:
    assert frame_time_ns(length, speed) == ns
    assert frames_per_second(length, speed) == rate


def test_a_port_leaves_the_gap_between_frames() -> None:
    port = Port(1000)
    assert [port.transmit(0, 60), port.transmit(0, 60)] == [(0, 576), (672, 1248)]
    assert port.transmit(5000, 60) == (5000, 5576)


def test_a_paused_port_sends_control_frames_only() -> None:
    port = Port(1000)
    port.pause(0, 10)
    assert port.transmit(0, 60, control=True) == (0, 576)
    assert port.transmit(0, 60) == (5120, 5696)
    port.pause(0, 0)
    assert port.transmit(0, 60)[0] == 5792


# ---------------------------------------------------------------- CSMA/CD


def station(gigabit: bool = False) -> Drive:
    return Drive(CSMA, Station(), CsmaParams(gigabit=gigabit))


def to_deadline(d: Drive, **given: int | bool) -> list[str]:
    return kinds(d.do(Elapse(n=due(d.at, d.params), **given)))  # type: ignore[arg-type]


def test_a_quiet_medium_is_used_at_once() -> None:
    d = station()
    assert kinds(d.do(Offer(size=512))) == ["Begins"]
    assert to_deadline(d) == ["Done"]
    assert d.effects[-1].bits == 576


def test_the_next_frame_waits_for_the_gap() -> None:
    d = station()
    d.do(Offer(size=512))
    to_deadline(d)
    d.do(Offer(size=512), Elapse(n=95))
    assert d.at.mac == Mac.DEFER
    assert kinds(d.do(Elapse(n=1))) == ["Begins"]


def test_a_carrier_in_the_first_two_thirds_of_the_gap_starts_it_anew_and_later_it_does_not() -> None:
    waits = {}
    for at in (63, 64):
        d = station()
        d.do(Carrier(on=True), Offer(size=512), Carrier(on=False), Elapse(n=at), Carrier(on=True))
        d.do(Elapse(n=32)) if at == 64 else d.do(Elapse(n=1000), Carrier(on=False))
        waits[at] = d.at.mac
    assert waits == {63: Mac.DEFER, 64: Mac.TRANSMIT}


def test_a_collision_in_the_preamble_lets_it_end_and_then_jams_thirty_two_bits() -> None:
    d = station()
    d.do(Offer(size=512), Elapse(n=10))
    assert kinds(d.do(Collision())) == ["Jams"]
    assert d.at.jam == 54 + 32


def test_the_range_of_the_back_off_doubles_ten_times_and_the_sixteenth_collision_ends_it() -> None:
    d = station()
    d.do(Offer(size=512))
    waits = []
    for attempt in range(1, 17):
        d.do(Elapse(n=100), Collision())
        most = 2 ** min(attempt, 10) - 1
        if attempt == 16:
            assert to_deadline(d) == ["GivesUp"]
            break
        assert to_deadline(d, slots=most) == ["BacksOff"]
        waits.append(d.at.wait // 512)
        to_deadline(d)
        assert to_deadline(d) == ["Begins"]
    assert waits == [1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023, 1023, 1023, 1023, 1023]
    assert d.at.mac == Mac.IDLE


def test_a_late_collision_is_tried_again_at_100_and_given_up_at_1000() -> None:
    ends = {}
    for gigabit in (False, True):
        d = station(gigabit)
        d.do(Offer(size=12_000), Elapse(n=5000), Collision())
        assert d.at.late
        ends[gigabit] = to_deadline(d, slots=0)
    assert ends == {False: ["BacksOff"], True: ["GivesUp"]}


def test_at_1000_a_short_frame_is_extended_and_a_burst_goes_on_without() -> None:
    d = station(gigabit=True)
    d.do(Offer(size=512))
    assert to_deadline(d) == []
    assert d.at.mac == Mac.EXTEND
    assert to_deadline(d, next=True, size=512) == ["Done"]
    assert d.effects[-1].bits == 64 + 4096
    assert to_deadline(d) == ["Begins"]
    assert to_deadline(d) == ["Done"]
    assert d.effects[-1].bits == 64 + 512


def test_a_station_that_defers_for_two_frames_time_says_so_once() -> None:
    d = station()
    d.do(Carrier(on=True), Offer(size=512))
    assert kinds(d.do(Elapse(n=24_288))) == []
    assert kinds(d.do(Elapse(n=1), Elapse(n=1))) == ["DefersLong"]
