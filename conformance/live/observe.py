"""What is watched while a scenario runs: the frames at a tap, the MIB counters, the neighbour notifications.

Standard library and tcpdump only, so that the same code runs inside a small guest.
"""

import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from conformance.live.errors import CaptureLost

RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTMGRP_NEIGH: Final = 4
NDA_DST: Final = 1
NDA_LLADDR: Final = 2
NDA_PROBES: Final = 4
NUD: Final = {
    0x00: "NONE",
    0x01: "INCOMPLETE",
    0x02: "REACHABLE",
    0x04: "STALE",
    0x08: "DELAY",
    0x10: "PROBE",
    0x20: "FAILED",
    0x40: "NOARP",
    0x80: "PERMANENT",
}


# ---- MIB ----------------------------------------------------------------------------------------------------------


def mib() -> dict[str, int]:
    """The counters of the calling thread's namespace: 'Tcp.ActiveOpens', 'TcpExt.TCPTimeouts', 'Ip6.InReceives', ..."""
    here = Path("/proc/thread-self/net")
    counters: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        lines = (here / name).read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            group, *keys = names.split()
            for key, value in zip(keys, values.split()[1:], strict=True):
                counters[f"{group[:-1]}.{key}"] = int(value)
    snmp6 = here / "snmp6"
    if snmp6.exists():
        for line in snmp6.read_text().splitlines():
            key, value = line.split()
            if m := re.match(r"(Ip6|Icmp6|UdpLite6|Udp6)(\w+)$", key):
                counters[f"{m[1]}.{m[2]}"] = int(value)
    return counters


def changed(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """The counters whose value differs, as they were and as they are."""
    keys = sorted(k for k in after if after[k] != before.get(k, 0))
    return {k: before.get(k, 0) for k in keys}, {k: after[k] for k in keys}


# ---- neighbour notifications --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Notification:
    """One RTM_NEWNEIGH or RTM_DELNEIGH: `time` in s of CLOCK_REALTIME, when it was read, soon after it was sent."""

    time: float
    event: str
    dst: str
    state: str
    lladdr: str
    probes: int
    flags: int


def parse_neigh(message: bytes, now: float) -> list[Notification]:
    """The neighbour notifications in one netlink datagram."""
    found = []
    at = 0
    while at + 16 <= len(message):
        length, kind = struct.unpack_from("=IH", message, at)
        if length < 16:
            break
        if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            family, _, _, _, state, flags, _ = struct.unpack_from("=BBHiHBB", message, at + 16)
            attrs = _attributes(message[at + 28 : at + length])
            if family in (socket.AF_INET, socket.AF_INET6) and NDA_DST in attrs:
                found.append(
                    Notification(
                        now,
                        "NEWNEIGH" if kind == RTM_NEWNEIGH else "DELNEIGH",
                        socket.inet_ntop(family, attrs[NDA_DST]),
                        NUD.get(state, f"{state:#x}"),
                        attrs.get(NDA_LLADDR, b"").hex(":"),
                        int.from_bytes(attrs.get(NDA_PROBES, b""), "little"),
                        flags,
                    )
                )
        at += (length + 3) & ~3
    return found


def _attributes(data: bytes) -> dict[int, bytes]:
    attrs = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        attrs[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return attrs


class NeighMonitor:
    """Listens to RTMGRP_NEIGH in the namespace of the thread that makes it."""

    def __init__(self) -> None:
        self.seen: list[Notification] = []
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.bind((0, RTMGRP_NEIGH))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="neighbours", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while select.select([self._sock], [], [], 0.05)[0] or not self._stop.is_set():
            if select.select([self._sock], [], [], 0)[0]:
                data = self._sock.recv(65536)
                self.seen += parse_neigh(data, time.time())

    def stop(self) -> list[Notification]:
        """What was seen, in order; all that was told until now is in it."""
        time.sleep(0.02)
        self._stop.set()
        self._thread.join()
        self._sock.close()
        return self.seen


# ---- frames -------------------------------------------------------------------------------------------------------


def _dies_with_us() -> list[str]:
    """A prefix that makes a command end when this process does, even by SIGKILL; empty where util-linux lacks."""
    tool = shutil.which("setpriv")
    if tool is None or Path(tool).resolve().name == "busybox":
        return []
    return [tool, "--pdeathsig", "KILL"]


class Capture:
    """A tcpdump at one interface of the calling thread's namespace; ready when it is made.

    `options` are tcpdump's. Without --immediate-mode frames wait in blocks of a ring for up to a second: `held`. Then
    `stop` waits for all that came before it was called; what comes while it waits may be missing. Raises CaptureLost if
    tcpdump does not start, or if it dropped or did not write a frame.
    """

    def __init__(
        self, device: str, options: Sequence[str] = ("-s", "0", "--immediate-mode"), held: bool = False
    ) -> None:
        self.device = device
        self._held = held
        command = [*_dies_with_us(), "tcpdump", "-i", device, "-n", "-U", *options]
        command += ["--time-stamp-precision=nano", "-Z", "root", "-w", "-"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._err: list[str] = []
        self._data = bytearray()
        self._ready = threading.Event()
        self._readers = [
            threading.Thread(target=self._read_data, args=(self._process.stdout,), name="tcpdump", daemon=True),
            threading.Thread(target=self._read_err, args=(self._process.stderr,), name="tcpdump-err", daemon=True),
        ]
        for t in self._readers:
            t.start()
        if not self._ready.wait(15) or self._process.poll() is not None:
            self.close()
            raise CaptureLost(f"tcpdump did not start on {device}: {' '.join(self._err)}")

    def _read_data(self, pipe: IO[bytes]) -> None:
        while chunk := pipe.read1(65536):  # type: ignore[attr-defined]
            self._data += chunk

    def _read_err(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            self._err.append(line.decode(errors="replace").strip())
            if b"listening on" in line:
                self._ready.set()
        self._ready.set()

    def _counted(self) -> tuple[int, int]:
        """How many frames tcpdump has captured and its filter has met until now, as it answers to SIGUSR1."""
        known = len(self._err)
        self._process.send_signal(signal.SIGUSR1)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            answer = " ".join(self._err[known:])
            if m := re.search(r"(\d+) packets? captured, (\d+) packets? received by filter, \d+ packets?", answer):
                return int(m[1]), int(m[2]) // (2 if self.device == "lo" else 1)
            time.sleep(0.01)
        raise CaptureLost(f"tcpdump does not say what it captured: {' '.join(self._err)}")

    @property
    def frames(self) -> int:
        """How many frames were written so far."""
        return sum(1 for _ in pcap_records(bytes(self._data)))

    def stop(self) -> bytes:
        """Ends the capture and returns it as a classic pcap with nanoseconds."""
        time.sleep(0.1)
        came = 0
        if self._held:
            _, came = self._counted()
            until = time.monotonic() + 10
            while self._counted()[0] < came and time.monotonic() < until:
                time.sleep(0.1)
        self._process.send_signal(signal.SIGINT)
        self.close(patience=5)
        text = " ".join(self._err)
        count = {
            k: int(v) for v, k in re.findall(r"(\d+) packets? (captured|received by filter|dropped by kernel)", text)
        }
        if count.get("captured") is None or count.get("dropped by kernel") != 0:
            raise CaptureLost(f"tcpdump lost frames: {text}")
        met = count.get("received by filter", 0) // (2 if self.device == "lo" else 1)  # lo shows each frame twice
        complete = count["captured"] >= came if self._held else count["captured"] == met
        if not complete or count["captured"] != self.frames:
            raise CaptureLost(f"tcpdump did not write every frame: {text}")
        return bytes(self._data)

    def close(self, patience: float = 0.0) -> None:
        """Makes sure that tcpdump has ended, by force after `patience` seconds."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for t in self._readers:
            t.join(5)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


PCAP_NSEC: Final = 0xA1B23C4D


def pcap_records(data: bytes) -> list[tuple[int, int, bytes]]:
    """The (time in ns, original length, bytes) of each complete record of tcpdump's own pcap output."""
    if len(data) < 24:
        return []
    (magic,) = struct.unpack_from("=I", data)
    if magic != PCAP_NSEC:
        raise CaptureLost(f"tcpdump wrote no pcap with nanoseconds: magic {magic:#x}")
    records = []
    at = 24
    while at + 16 <= len(data):
        sec, nsec, cap, orig = struct.unpack_from("=IIII", data, at)
        if at + 16 + cap > len(data):
            break
        records.append((sec * 1_000_000_000 + nsec, orig, data[at + 16 : at + 16 + cap]))
        at += 16 + cap
    return records


def write_pcapng(path: Path, pcap: bytes, interface: str, comment: str) -> None:
    """Writes tcpdump's pcap as a pcapng with one interface, nanoseconds and the case's sentence as its comment."""
    linktype = struct.unpack_from("=I", pcap, 20)[0] & 0xFFFF

    def option(code: int, value: bytes) -> bytes:
        return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)

    def block(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    end = struct.pack("<HH", 0, 0)
    out = [
        block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + option(1, comment.encode()) + end),
        block(1, struct.pack("<HHI", linktype, 0, 0) + option(2, interface.encode()) + option(9, b"\x09") + end),
    ]
    for ns, orig, data in pcap_records(pcap):
        body = struct.pack("<IIIII", 0, ns >> 32, ns & 0xFFFFFFFF, len(data), orig) + data + bytes(-len(data) % 4)
        out.append(block(6, body))
    path.write_bytes(b"".join(out))
