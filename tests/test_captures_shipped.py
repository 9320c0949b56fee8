"""The captures that are shipped: each with its sidecar, small, complete, of at least two kernels."""

from collections import Counter
from pathlib import Path

import pytest

from conformance.frames import Frame
from conformance.live.scenarios.registry import load
from conformance.live.sidecar import Sidecar, read
from conformance.pcap import Reader

CAPTURES = Path(__file__).parent.parent / "captures"
CASES = sorted(p.name.removesuffix(".pcapng") for p in CAPTURES.glob("*.pcapng"))
MAX_SIZE = 100_000
MAX_LOAD = 400_000  # a card's load in bulk: most of it zeros, which a repository packs well


def frames(case: str) -> list[Frame]:
    with Reader(CAPTURES / f"{case}.pcapng") as reader:
        return list(reader)


def sidecar(case: str) -> Sidecar:
    return read(CAPTURES / f"{case}.toml")


def test_every_capture_has_a_sidecar_and_every_sidecar_a_capture() -> None:
    assert sorted(p.name.removesuffix(".toml") for p in CAPTURES.glob("*.toml")) == CASES


def test_there_are_at_least_sixty_from_at_least_two_kernels() -> None:
    assert len(CASES) >= 60
    profiles = Counter(sidecar(c).kernel.profile for c in CASES)
    assert len(profiles) >= 2
    layers = Counter(sidecar(c).layer for c in CASES)
    assert set(layers) == {"tcp", "neigh", "nic"}


@pytest.mark.parametrize("case", CASES)
def test_a_shipped_capture_is_whole(case: str) -> None:
    s = sidecar(case)
    assert s.case == case
    assert s.layer == "nic" or s.scenario in load()
    size = MAX_LOAD if s.layer == "nic" else MAX_SIZE
    assert all((CAPTURES / f"{case}.{end}").stat().st_size <= size for end in ("pcapng", "toml"))
    caught = frames(case)
    assert all(len(f.data) == f.orig_len for f in caught)
    assert s.layer == "nic" or not s.expected.not_modelled or s.expected.verdict == "conforms"
    if caught and s.calls:
        # the applications' clock is the capture's clock
        first, last = min(c.time for c in s.calls), max(c.returned for c in s.calls)
        assert first - 5 < caught[0].time / 1e9 < last + 5


def is_tcp_to(data: bytes, mac: bytes) -> bool:
    """Whether a frame is TCP, without extension headers, to `mac`."""
    protocol = {b"\x08\x00": data[23], b"\x86\xdd": data[20]}.get(data[12:14])
    return data[:6] == mac and protocol == 6


NEAR = [c for c in CASES if not c.startswith("nic-") and "loopback" not in c]


@pytest.mark.parametrize("case", NEAR)
def test_the_kernel_counted_every_segment_that_the_tap_saw_come(case: str) -> None:
    s = sidecar(case)
    host = s.host(s.vantage.host)
    mac = bytes.fromhex(host.mac.replace(":", ""))
    seen = sum(is_tcp_to(f.data, mac) for f in frames(case))
    counted = host.mib_after.get("Tcp.InSegs", 0) - host.mib_before.get("Tcp.InSegs", 0)
    lossy = any(c.host == host.name and c.call.startswith("wire loses") for c in s.calls)
    assert counted < seen if lossy else counted == seen
