"""Two dissectors, one opinion: every field of every capture is the same through the native reader and tshark."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from conformance.frames import Frame
from conformance.pcap import Reader, Writer, read
from conformance.pyshark_reader import (
    Difference,
    PysharkReader,
    TsharkFailed,
    TsharkMissing,
    compare,
    missing,
    same_fields,
)
from refmodel.packet import (
    AE,
    CWR,
    ECE,
    SYN,
    Ether,
    Fastopen,
    Icmp,
    Icmp6,
    Icmp6Word,
    Ip,
    Ip6,
    Md5,
    Mptcp,
    Mss,
    Nop,
    Null,
    Sack,
    SackPerm,
    Sll,
    Sll2,
    Tcp,
    Udp,
    Unknown,
    Vlan,
    Wscale,
    decode,
    encode,
    seal,
)
from tests.test_packet import ETH4, ETH6, IP6_TCP, IP_TCP, MAC1, MAC2, ND, OTHERS, SYN_OPTIONS, TS, frame, tcp

CAPTURES = sorted((Path(__file__).parent.parent / "captures").glob("*.pcapng"))

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

COOKIE = bytes(range(8))
FRAMES: list[bytes] = [
    *(encode(seal(x, b"data" if isinstance(x[-1], Tcp) else b"")) for x in OTHERS),
    *(encode(seal((ETH6, replace(IP6_TCP, nexthdr=58, hop_limit=255), Icmp6(kind, 0, 0), body))) for kind, body in ND),
    frame(ETH4, IP_TCP, tcp(SYN_OPTIONS, SYN)),
    frame(ETH6, IP6_TCP, tcp(SYN_OPTIONS, SYN | AE | CWR | ECE), payload=b"early"),
    frame(ETH4, IP_TCP, tcp((*TS, Nop(), Nop(), Sack(((0xFFFFFFF0, 5), (10, 20), (30, 40))))), payload=b""),
    frame(ETH4, IP_TCP, tcp((Nop(), Nop(), Md5(bytes(16))))),
    frame(ETH4, IP_TCP, tcp((Mss(1460), Nop(), Nop(), Fastopen(COOKIE)), SYN)),
    frame(ETH4, IP_TCP, tcp((Nop(), Nop(), Fastopen(), Fastopen(COOKIE, exp=True)), SYN)),
    frame(ETH4, IP_TCP, tcp((Mptcp(bytes.fromhex("0181") + bytes(8)),), SYN)),
    frame(ETH4, IP_TCP, tcp((Unknown(200, b"ab"), Wscale(14), SackPerm(), Nop(), Nop(), Nop()), SYN)),
    frame(ETH4, IP_TCP, tcp(res1=5, urg_ptr=7, window=0, seq=0xFFFFFFFF), payload=b"x" * 1000),
    frame(ETH4, IP_TCP, tcp(), trailer=bytes(6)),
    frame(Ether(MAC2, MAC1, 0x88A8), Vlan(0x2005, 0x8100), Vlan(0xF007, 0x0800), IP_TCP, tcp(TS), payload=b"q"),
    frame(Ether(MAC2, MAC1, 0x8100), Vlan(7, 0x8100), Vlan(9, 0x86DD), IP6_TCP, tcp(TS), payload=b"q"),
    frame(ETH4, replace(IP_TCP, protocol=1), Icmp(3, 4, 0, 1400), payload=frame(IP_TCP, tcp())[:28]),
    frame(ETH4, replace(IP_TCP, protocol=1), Icmp(5, 1, 0, 0x0A000003), payload=frame(IP_TCP, tcp())[:28]),
    frame(ETH6, replace(IP6_TCP, nexthdr=58), Icmp6(2, 0, 0), Icmp6Word(1280), payload=frame(IP6_TCP, tcp())),
    frame(ETH4, replace(IP_TCP, frag_off=0x2000, protocol=17), Udp(1, 2, 0, 0), payload=bytes(16)),
    frame(ETH4, replace(IP_TCP, frag_off=3), payload=bytes(40)),
    frame(ETH4, replace(IP_TCP, protocol=132), payload=bytes(40)),
    frame(Ether(MAC2, MAC1, 0x88CC), payload=bytes(40)),
]


def written(path: Path, frames: list[bytes], linktype: int = 1, snaplen: int = 262144) -> Path:
    with Writer(path) as w:
        w.interface(linktype, "test0", snaplen)
        for n, data in enumerate(frames):
            w.frame(Frame(0, 10**18 + n * 1001, linktype, 0, data[:snaplen], len(data)))
    return path


def agreed(path: Path) -> None:
    assert [str(d) for d in same_fields(path)] == []


def test_every_protocol_is_seen_alike(tmp_path: Path) -> None:
    agreed(written(tmp_path / "all.pcapng", FRAMES))


def test_frames_cut_by_any_snaplen_are_seen_alike_as_far_as_they_go(tmp_path: Path) -> None:
    whole = [frame(ETH4, IP_TCP, tcp(SYN_OPTIONS, SYN), payload=bytes(30)), frame(ETH6, IP6_TCP, tcp(TS))]
    with Writer(tmp_path / "cut.pcapng") as w:
        for data, snaplen in itertools.product(whole, range(14, 90)):
            w.frame(Frame(0, 0, 1, 0, data[:snaplen], len(data)))
    agreed(tmp_path / "cut.pcapng")


def test_each_flipped_bit_of_a_header_is_seen_alike(tmp_path: Path) -> None:
    """Only bits that leave the frame's structure alone: lengths and types have their own tests."""
    data = frame(ETH4, IP_TCP, tcp(TS), payload=b"payload")
    flipped = []
    for at in (0, 6, 15, 18, 19, 22, 24, 26, 30, 34, 36, 38, 42, 47, 48, 50, 52, 58, 62, 67):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            flipped.append(bytes(changed))
    agreed(written(tmp_path / "bits.pcapng", flipped))


@pytest.mark.parametrize(
    ("linktype", "link"),
    [
        (113, [Sll(4, 1, 6, MAC1 + bytes(2), 0x0800)]),
        (276, [Sll2(0x0800, 0, 3, 1, 0, 6, MAC1 + bytes(2))]),
        (0, [Null(2, "little")]),
        (108, [Null(2, "big")]),
        (101, []),
        (12, []),
        (14, []),
        (228, []),
    ],
    ids=["sll", "sll2", "null", "loop", "raw", "raw12", "raw14", "ipv4"],
)  # fmt: skip
def test_every_link_type_is_seen_alike(tmp_path: Path, linktype: int, link: list[Sll | Sll2 | Null]) -> None:
    agreed(written(tmp_path / "link.pcapng", [frame(*link, IP_TCP, tcp(TS), payload=b"abc")], linktype))


def test_the_shipped_captures_are_seen_alike(tmp_path: Path) -> None:
    """All captures in one file of many sections, for one run of tshark."""
    if not CAPTURES:
        pytest.skip("no captures are shipped")
    joined = tmp_path / "all.pcapng"
    ends = []
    with joined.open("wb") as out:
        total = 0
        for path in CAPTURES:
            out.write(path.read_bytes())
            total += len(read(path)[0])
            ends.append(total)
    found = [
        f"{next(p.name for p, end in zip(CAPTURES, ends, strict=True) if d.number <= end)}: {d}"
        for d in same_fields(joined)
    ]
    assert found == []


# The comparison can say no


@pytest.mark.parametrize(("at", "field"), [(3, "eth.dst"), (26, "ip.src"), (41, "tcp.seq_raw"), (60, "tcp.options")])
def test_a_changed_byte_is_a_difference(tmp_path: Path, at: int, field: str) -> None:
    data = frame(ETH4, IP_TCP, tcp(TS))
    path = written(tmp_path / "one.pcapng", [data])
    with PysharkReader(path) as reader:
        other, layers = next(iter(list(reader.fields())))
    changed = bytearray(data)
    changed[at] ^= 1
    fields = {d.field for d in compare(replace(other, data=bytes(changed)), other, layers)}
    assert {field, "frame.data"} <= fields


def test_a_protocol_that_only_tshark_sees_is_a_difference(tmp_path: Path) -> None:
    path = written(tmp_path / "one.pcapng", [frame(ETH4, IP_TCP, tcp(TS))])
    with PysharkReader(path) as reader:
        other, layers = next(iter(list(reader.fields())))
    unknown = frame(ETH4, replace(IP_TCP, protocol=200), payload=bytes(32))
    found = compare(replace(other, data=unknown, orig_len=len(unknown)), other, layers)
    assert Difference(1, "tcp", None, "present") in found


# The reader


def test_frames_come_with_their_bytes_times_and_comments(tmp_path: Path) -> None:
    frames = [
        Frame(1, 1_700_000_000_123_456_789, 1, 0, frame(ETH4, IP_TCP, tcp()), 54, "in", "a comment"),
        Frame(2, 1_700_000_000_123_456_790, 1, 1, frame(ETH6, IP6_TCP, tcp())[:60], 74, "out", ""),
    ]
    path = tmp_path / "two.pcapng"
    with Writer(path) as w:
        for f in frames:
            w.frame(f)
    with PysharkReader(path) as theirs, Reader(path) as ours:
        assert list(theirs) == list(ours) == frames


def test_reading_may_stop_early(tmp_path: Path) -> None:
    path = written(tmp_path / "many.pcapng", [frame(ETH4, IP_TCP, tcp())] * 2000)
    with PysharkReader(path) as reader:
        frames = iter(reader)
        assert next(frames).number == 1
        frames.close()  # type: ignore[attr-defined]


def test_a_truncated_file_is_a_notice(tmp_path: Path) -> None:
    path = written(tmp_path / "cut.pcapng", [frame(ETH4, IP_TCP, tcp())] * 3)
    path.write_bytes(path.read_bytes()[:-10])
    with PysharkReader(path) as reader:
        assert len(list(reader)) == 2
    assert "cut short" in reader.notices[0].found


def test_what_tshark_cannot_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "text.pcap"
    path.write_text("no capture at all, only text\n" * 10)
    with PysharkReader(path) as reader, pytest.raises(TsharkFailed, match=r"text\.pcap"):
        list(reader)
    with PysharkReader(tmp_path / "none.pcap") as reader, pytest.raises(TsharkFailed, match="No such file"):
        list(reader)


def test_a_machine_without_tshark_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(TsharkMissing, match="apt-get install tshark"):
        PysharkReader("any.pcap")


# Captures of the machine's own kernel

# In a network namespace of its own: TCP, UDP, a closed port and echoes on the loopback device, under four taps.
TRAFFIC = """
import signal, socket, subprocess, sys, time

def too_late(*_):
    raise TimeoutError("the taps did not see the last frame within 60 s")

signal.signal(signal.SIGALRM, too_late)
signal.alarm(60)
out = sys.argv[1]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
taps = {
    "lo": ["-i", "lo"],
    "short": ["-i", "lo", "-s", "62"],
    "sll": ["-i", "any", "-y", "LINUX_SLL"],
    "sll2": ["-i", "any", "-y", "LINUX_SLL2"],
}
dumps = []
try:
    for name, options in taps.items():
        command = ["tcpdump", "-Z", "root", "-U", "--time-stamp-precision=nano", *options]
        dump = subprocess.Popen([*command, "-w", f"{out}/{name}.pcap"], stderr=subprocess.PIPE)
        dumps.append(dump)
    for dump in dumps:
        while b"listening on" not in dump.stderr.readline():
            assert dump.poll() is None, "a tap ended"
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server = socket.create_server((host, 0), family=family)
        client = socket.create_connection(server.getsockname()[:2])
        peer, _ = server.accept()
        client.sendall(b"x" * 5000)
        got = 0
        while got < 5000:
            got += len(peer.recv(5000))
        client.close()
        assert peer.recv(1) == b""
        peer.close()
        server.close()
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.connect((host, 9))
        udp.send(b"nobody listens")
        try:
            udp.recv(1)
        except ConnectionRefusedError:
            pass
        udp.close()
    # Taps write in order: where one of these has arrived, all before it have.
    last = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while not all(b"the last frame" in open(f"{out}/{name}.pcap", "rb").read() for name in taps):
        last.sendto(b"the last frame", ("127.0.0.1", 9))
        time.sleep(0.1)
finally:
    for dump in dumps:
        dump.terminate()
    for dump in dumps:
        dump.wait()
        dump.stderr.close()
"""


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="taps need root")
@pytest.mark.skipif(
    any(shutil.which(t) is None for t in ("tcpdump", "unshare", "ip")), reason="needs tcpdump, unshare and ip"
)
def test_what_tcpdump_records_here_is_seen_alike(tmp_path: Path) -> None:
    subprocess.run(
        ["unshare", "--net", sys.executable, "-c", TRAFFIC, str(tmp_path)], check=True, timeout=120, capture_output=True
    )
    for name, linktype in (("lo", 1), ("short", 1), ("sll", 113), ("sll2", 276)):
        path = tmp_path / f"{name}.pcap"
        frames, notices = read(path)
        assert notices == []
        packets = [decode(f.data, f.linktype, f.orig_len) for f in frames]
        assert {type(x) for p in packets for x in p.layers} >= {Ip, Ip6, Tcp, Udp, Icmp, Icmp6}
        assert {f.linktype for f in frames} == {linktype}
        agreed(path)
