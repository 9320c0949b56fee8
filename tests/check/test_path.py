"""What ICMP tells of a TCP connection's path."""

import struct

from conformance.check.path import Fall, fall, may_be_icmp
from refmodel.packet import LINKTYPE_ETHERNET, decode
from tests.oracle.frames import ACK, APORT, BPORT, A, B, Tap, checksum


def told(mtu: int, code: int = 4, quoted: bytes = b"") -> bytes:
    """A router's message to A, of a frame to B."""
    quoted = quoted or Tap().frame(0, ACK, 1, 1).data[14:42]
    icmp = struct.pack("!BBHI", 3, code, 0, mtu) + quoted
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0, bytes((10, 0, 0, 9)), A)
    return bytes(12) + b"\x08\x00" + ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + icmp


def test_fragmentation_needed_names_the_connection() -> None:
    data = told(1300)
    assert may_be_icmp(data, LINKTYPE_ETHERNET)
    assert fall(decode(data, LINKTYPE_ETHERNET)) == Fall((A, APORT), (B, BPORT), 1300)


def test_a_route_learns_no_less_than_min_pmtu() -> None:
    found = fall(decode(told(0), LINKTYPE_ETHERNET))
    assert found is not None
    assert found.mtu == 552


def test_other_messages_tell_nothing() -> None:
    assert fall(decode(told(1300, code=1), LINKTYPE_ETHERNET)) is None
    assert fall(decode(told(1300, quoted=b"\x45" + bytes(27)), LINKTYPE_ETHERNET)) is None
    segment = Tap().frame(0, ACK, 1, 1).data
    assert not may_be_icmp(segment, LINKTYPE_ETHERNET)
    assert fall(decode(segment, LINKTYPE_ETHERNET)) is None
