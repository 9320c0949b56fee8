"""The few kernel interfaces that the lab needs and Python's library lacks: namespaces, device features, HZ.

Standard library only, so that the same code runs inside a small guest.
"""

import array
import ctypes
import fcntl
import gzip
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CLONE_NEWNET: Final = 0x40000000
SIOCETHTOOL: Final = 0x8946

FEATURES: Final = {
    # name in the sidecar: (ETHTOOL_G*, ETHTOOL_S*)
    "rx-checksum": (0x14, 0x15),
    "tx-checksum": (0x16, 0x17),
    "tso": (0x1E, 0x1F),
    "gso": (0x23, 0x24),
    "gro": (0x2B, 0x2C),
}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{what}: {os.strerror(e)}")


class NetNamespace:
    """A network namespace without a name: it lives as long as something refers to it, so no path can leak it.

    It ends when `close` is called or the process ends, however it ends, and takes its devices along.
    """

    def __init__(self) -> None:
        """Makes an empty namespace; raises OSError (EPERM without root)."""
        done: list[int | OSError] = []

        def make() -> None:
            try:
                _check(_libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
                done.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            except OSError as e:
                done.append(e)

        t = threading.Thread(target=make, name="netns")
        t.start()
        t.join()
        if isinstance(done[0], OSError):
            raise done[0]
        self.fd: int = done[0]

    @property
    def path(self) -> str:
        """A path by which `ip link set ... netns PATH` finds the namespace."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the namespace meanwhile; sockets and child processes made there belong to it."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fd, CLONE_NEWNET), "setns")
            try:
                yield
            finally:
                _check(_libc.setns(back, CLONE_NEWNET), "setns back")
        finally:
            os.close(back)

    def close(self) -> None:
        """Lets go of the namespace."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _ethtool(sock: socket.socket, device: str, command: int, value: int = 0) -> int:
    data = array.array("B", struct.pack("=II", command, value))
    request = struct.pack("16sP", device.encode(), data.buffer_info()[0])
    fcntl.ioctl(sock, SIOCETHTOOL, request)
    return int(struct.unpack("=II", data.tobytes())[1])


def features(device: str) -> dict[str, bool]:
    """The offloads of `device` in the calling thread's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return {name: bool(_ethtool(s, device, get)) for name, (get, _) in FEATURES.items()}


def set_features(device: str, on: dict[str, bool]) -> None:
    """Switches offloads of `device` in the calling thread's namespace; raises OSError where the device refuses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for name, value in on.items():
            _ethtool(s, device, FEATURES[name][1], int(value))


def hz() -> int:
    """The kernel's HZ: from its configuration where it is readable, else measured from the jiffies counter."""
    release = os.uname().release
    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{release}")):
        if path.exists():
            raw = path.read_bytes()
            text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(errors="replace")
            if m := re.search(r"^CONFIG_HZ=(\d+)$", text, re.M):
                return int(m[1])
    return _measured_hz()


def _measured_hz() -> int:
    def sample() -> tuple[int, int]:
        text = Path("/proc/timer_list").read_text()
        now, jiffies = re.search(r"now at (\d+) nsecs", text), re.search(r"^jiffies: (\d+)", text, re.M)
        if now is None or jiffies is None:
            raise OSError("HZ is in neither /proc/config.gz, /boot nor /proc/timer_list")
        return int(now[1]), int(jiffies[1])

    t0, j0 = sample()
    time.sleep(0.4)
    t1, j1 = sample()
    rate = (j1 - j0) * 1e9 / (t1 - t0)
    return min((100, 250, 300, 1000), key=lambda h: abs(h - rate))
