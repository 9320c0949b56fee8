"""What the recorder watches: netlink messages, MIB counters, tcpdump's output; no privileges needed."""

import struct
from pathlib import Path

import pytest

from conformance.live import kernel, observe
from conformance.live.craft import arp, checksum, lladdr, mss, nd, timestamps
from conformance.live.errors import CaptureLost
from conformance.live.observe import Notification, changed, parse_neigh, pcap_records, write_pcapng
from conformance.pcap import Reader


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def message(kind: int, family: int, state: int, flags: int, attributes: bytes) -> bytes:
    body = struct.pack("=BBHiHBB", family, 0, 0, 7, state, flags, 1) + attributes
    return struct.pack("=IHHII", len(body) + 16, kind, 0, 0, 0) + body


IP4 = attribute(1, bytes((10, 9, 0, 2)))
MAC = attribute(2, bytes((2, 0, 0, 0, 0, 2)))
PROBES = attribute(4, struct.pack("=I", 4))


def test_a_new_neighbour_is_read_with_its_probes() -> None:
    told = parse_neigh(message(28, 2, 0x02, 0, IP4 + MAC + PROBES), 5.0)
    assert told == [Notification(5.0, "NEWNEIGH", "10.9.0.2", "REACHABLE", "02:00:00:00:00:02", 4, 0)]


def test_a_deleted_neighbour_of_ipv6_without_an_address_is_read() -> None:
    told = parse_neigh(message(29, 10, 0x20, 0x80, attribute(1, b"\xfd\x09" + bytes(13) + b"\x02")), 5.0)
    assert told == [Notification(5.0, "DELNEIGH", "fd09::2", "FAILED", "", 0, 0x80)]


def test_several_messages_in_one_datagram_are_all_read() -> None:
    both = message(28, 2, 0x04, 0, IP4 + MAC) + message(28, 2, 0x10, 0, IP4 + MAC)
    assert [n.state for n in parse_neigh(both, 1.0)] == ["STALE", "PROBE"]


def test_messages_of_other_kinds_and_families_are_skipped() -> None:
    assert parse_neigh(message(24, 2, 0x04, 0, IP4) + message(28, 7, 0x04, 0, IP4), 1.0) == []


def test_a_message_cut_short_is_skipped() -> None:
    assert parse_neigh(message(28, 2, 0x04, 0, IP4)[:10], 1.0) == []


def test_only_counters_that_changed_are_kept() -> None:
    before, after = {"Tcp.InSegs": 3, "Tcp.OutSegs": 1}, {"Tcp.InSegs": 5, "Tcp.OutSegs": 1, "TcpExt.X": 1}
    assert changed(before, after) == ({"Tcp.InSegs": 3, "TcpExt.X": 0}, {"Tcp.InSegs": 5, "TcpExt.X": 1})


def test_the_counters_of_this_machine_have_their_groups() -> None:
    counters = observe.mib()
    assert counters["Tcp.ActiveOpens"] >= 0
    assert "TcpExt.TCPTimeouts" in counters
    assert "Ip.InReceives" in counters


def test_hz_is_one_that_kernels_are_built_with() -> None:
    assert kernel.hz() in (100, 250, 300, 1000)


def pcap(*frames: tuple[int, int, bytes]) -> bytes:
    head = struct.pack("=IHHiIII", observe.PCAP_NSEC, 2, 4, 0, 0, 262144, 1)
    return head + b"".join(struct.pack("=IIII", s, ns, len(d), len(d)) + d for s, ns, d in frames)


def test_what_tcpdump_wrote_comes_out_of_the_pcapng(tmp_path: Path) -> None:
    frames = [(1_795_316_154, 701_430_001, bytes(range(60))), (1_795_316_154, 999_999_999, bytes(61))]
    path = tmp_path / "x.pcapng"
    write_pcapng(path, pcap(*frames), "a0", "what it shows")
    with Reader(path) as reader:
        back = [(f.time, f.data, f.orig_len) for f in reader]
    assert back == [(s * 1_000_000_000 + ns, d, len(d)) for s, ns, d in frames]


def test_a_record_that_is_still_being_written_waits() -> None:
    whole = pcap((1, 2, b"abcd"), (3, 4, b"efgh"))
    assert len(pcap_records(whole[:-1])) == 1
    assert pcap_records(whole[:20]) == []


def test_a_capture_in_microseconds_is_refused() -> None:
    with pytest.raises(CaptureLost, match="nanoseconds"):
        pcap_records(b"\xd4\xc3\xb2\xa1" + bytes(40))


def test_an_arp_frame_is_laid_out_as_rfc_826_says() -> None:
    frame = arp(1, "02:00:00:00:00:01", "10.9.0.1", "00:00:00:00:00:00", "10.9.0.2")
    assert frame.hex() == (
        "ffffffffffff" "020000000001" "0806" "0001" "0800" "06" "04" "0001"
        "020000000001" "0a090001" "000000000000" "0a090002"
    )  # fmt: skip


def test_a_neighbour_solicitation_has_a_right_checksum() -> None:
    option = lladdr(1, "02:00:00:00:00:01")
    frame = nd(135, "02:00:00:00:00:01", "33:33:ff:00:00:02", "fd09::1", "ff02::1:ff00:2", "fd09::2", 0, option)
    ip6 = frame[14:]
    pseudo = ip6[8:40] + struct.pack("!II", len(ip6) - 40, 58)
    assert checksum(pseudo + ip6[40:]) == 0


def test_options_are_padded_to_four_bytes() -> None:
    assert mss(1460) == b"\x02\x04\x05\xb4"
    assert timestamps(1, 2).hex() == "0101080a0000000100000002"
