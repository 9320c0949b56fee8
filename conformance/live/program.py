"""Programs on the machine's own kernel: the same calls that the model runs, made by real sockets in a namespace."""

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from conformance.live import observe
from conformance.live.errors import ScenarioFailed
from conformance.live.lab import Host, Lab, require_lab
from refmodel.host.program import Done, Program, Syscall

LIMIT: Final = 20.0  # s that a program may take
QUIET: Final = 0.15  # s without a frame after which a run is over

Endpoint = tuple[bytes, int]


def _where(a: Endpoint) -> tuple[str, int]:
    return str(ipaddress.ip_address(a[0])), a[1]


class LiveRun:
    """A program that runs in a thread, in the namespace of a lab's host; `calls` are those that returned.

    Descriptors are numbered from 3 by the lowest free one, as in a process that has nothing else open.
    """

    def __init__(self, host: Host, program: Program) -> None:
        self.host = host
        self.program = program
        self.calls: list[Done] = []
        self.sockets: dict[int, socket.socket] = {}
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._body, daemon=True, name=f"program on {host.name}")

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def join(self, seconds: float = LIMIT) -> None:
        """Waits for the end; raises ScenarioFailed if it does not come, or what the program raised."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise ScenarioFailed(f"{self.host.name}: the program still runs after {seconds} s")
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Lets every descriptor go."""
        for s in self.sockets.values():
            s.close()

    def _body(self) -> None:
        try:
            with self.host.netns.inside():
                self._steps()
        except BaseException as e:
            self.error = e

    def _steps(self) -> None:
        try:
            call = next(self.program)
            while True:
                began = time.time_ns() // 1000
                result = self._make(call)
                self.calls.append(Done(call, began, time.time_ns() // 1000, result))
                call = self.program.send(result)
        except StopIteration:
            return

    def _install(self, s: socket.socket) -> int:
        fd = 3
        while fd in self.sockets:
            fd += 1
        self.sockets[fd] = s
        return fd

    def _make(self, call: Syscall) -> int | bytes:
        try:
            return self._do(call.name, call.args)
        except OSError as e:
            return -(e.errno or 0)

    def _do(self, name: str, a: tuple[Any, ...]) -> int | bytes:
        if name == "socket":
            return self._install(socket.socket(*a))
        if name == "sleep":
            time.sleep(a[0] / 1e6)
            return 0
        s = self.sockets[a[0]]
        if name == "accept":
            return self._install(s.accept()[0])
        if name == "close":
            del self.sockets[a[0]]
            s.close()
            return 0
        if name in ("recv", "read"):
            return s.recv(a[1])
        if name in ("send", "write"):
            return s.send(a[1], socket.MSG_NOSIGNAL)
        if name == "sendto":
            return s.sendto(a[1], socket.MSG_NOSIGNAL, _where(a[2]))
        simple: dict[str, Callable[[], Any]] = {
            "bind": lambda: s.bind(_where(a[1])),
            "connect": lambda: s.connect(_where(a[1])),
            "listen": lambda: s.listen(a[1]),
            "shutdown": lambda: s.shutdown(a[1]),
            "setsockopt": lambda: s.setsockopt(a[1], a[2], a[3]),
        }
        simple[name]()
        return 0


class Recorded:
    """What two programs did on the machine's kernel: `calls` of each host, `frames` as (us, bytes) at the first one."""

    def __init__(self, calls: dict[str, list[Done]], frames: list[tuple[int, bytes]]) -> None:
        self.calls = calls
        self.frames = frames


def record(programs: dict[str, Callable[[Lab], Program]], pause: float = 0.05, tap: str = "") -> Recorded:
    """Runs one program on each host of a lab and captures one host's interface, the first one's unless `tap` names it.

    The programs start in order, `pause` s apart. Raises LabUnavailable without root or a tool, ScenarioFailed,
    CaptureLost.
    """
    require_lab()
    with Lab(tuple(programs), offloads={"tso": False, "gso": False, "gro": False, "tx-checksum": False}) as lab:
        for h in lab.hosts.values():
            h.set_sysctl("net.ipv4.tcp_congestion_control", "reno")
        lab.settle()
        first = lab[tap or next(iter(programs))]
        with first.netns.inside():
            capture = observe.Capture(first.interface)
        runs = {name: LiveRun(lab[name], make(lab)) for name, make in programs.items()}
        try:
            for run in runs.values():
                run.start()
                time.sleep(pause)
            for run in runs.values():
                run.join()
            time.sleep(QUIET)
            pcap = capture.stop()
        finally:
            capture.close()
            for run in runs.values():
                run.close()
    frames = [(ns // 1000, data) for ns, _, data in observe.pcap_records(pcap)]
    return Recorded({name: run.calls for name, run in runs.items()}, frames)


def kernel() -> str:
    """The running kernel's release."""
    return os.uname().release


__all__ = ["LiveRun", "Recorded", "kernel", "record"]
