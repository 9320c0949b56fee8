"""The applications of a random workload: threads that do what a plan says, each call logged with time and result.

A failure of a call is a result like another: it is logged and ends the thread's steps. What still blocks when the time
is over is ended by shutdown(2), which is logged too. Standard library only.
"""

import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from conformance.live.lab import SOCKOPTS, Host, endpoint, letters
from conformance.live.workload_flows import Flow, Lane, Step
from conformance.live.workload_net import WorkloadNet

T = TypeVar("T")

MSG_FASTOPEN: Final = 0x20000000
OPTIONS: Final = {
    **SOCKOPTS,
    **{"TCP_CONGESTION": 13, "TCP_QUICKACK": 12, "TCP_MAXSEG": 2, "TCP_WINDOW_CLAMP": 10, "TCP_FASTOPEN": 23},
    **{"TCP_NOTSENT_LOWAT": 25, "TCP_THIN_LINEAR_TIMEOUTS": 16, "SO_MAX_PACING_RATE": 47},
}


class Ended(Exception):
    """A call failed: the steps that follow make no sense."""


class Socket:
    """A socket of a workload's application; each method is one system call, logged, which raises Ended if it fails."""

    def __init__(self, host: Host, real: socket.socket, fd: int) -> None:
        self.host, self.real, self.fd = host, real, fd
        self.sent = 0

    @classmethod
    def made(cls, host: Host, kind: str = "SOCK_STREAM") -> "Socket":
        """socket(2)."""
        s = host.socket(kind)
        return cls(host, s.real, s.fd)

    def call(self, text: str, f: Callable[[], T], shown: Callable[[T], str] = str) -> T:
        """Does `f`, logged as the call `text`; `shown` writes its result."""
        began = time.time()
        try:
            value = f()
        except OSError as e:
            self.host.log(text, f"-1 {errno.errorcode.get(e.errno or 0, str(e.errno))}", began)
            raise Ended(text) from e
        self.host.log(text, shown(value), began)
        return value

    def option(self, level: str, name: str, value: int | str) -> None:
        """setsockopt(2); SO_LINGER is switched on with `value` seconds. A refused option is a logged result."""
        number = OPTIONS.get(name) or getattr(socket, name)
        data: int | bytes
        shown = str(value)
        if name == "SO_LINGER":
            data, shown = struct.pack("ii", 1, int(value)), f"1, {value}"
        else:
            data = value.encode() if isinstance(value, str) else value
        text = f"setsockopt({self.fd}, {level}, {name}, {shown})"
        try:
            self.call(text, lambda: self.real.setsockopt(getattr(socket, level), number, data), _zero)
        except Ended:
            return

    def send(self, n: int, flags: str) -> None:
        """send(2) of the next `n` bytes of the stream."""
        bits = getattr(socket, flags) if flags else 0
        at = self.sent % 26
        data = memoryview(letters(n + 26))[at : at + n]
        text = f"send({self.fd}, {n}{', ' + flags if flags else ''})"
        self.sent += self.call(text, lambda: self.real.send(data, bits | socket.MSG_NOSIGNAL))

    def fast_open(self, n: int, where: str, port: int) -> None:
        """sendto(2) with MSG_FASTOPEN: connect with the first `n` bytes."""
        text = f"sendto({self.fd}, {n}, MSG_FASTOPEN, {endpoint(where, port)})"
        self.sent = self.call(text, lambda: self.real.sendto(letters(n), MSG_FASTOPEN, (where, port)))

    def connect(self, where: str, port: int) -> None:
        """connect(2)."""
        text = f"connect({self.fd}, {endpoint(where, port)})"
        self.call(text, lambda: self.real.connect((where, port)), lambda _: f"0 {self.local()}")

    def local(self) -> str:
        """The local address and port."""
        return endpoint(*self.real.getsockname()[:2])

    def accept(self) -> "Socket":
        """accept(2)."""
        fd = self.host.next_fd()
        got = self.call(f"accept({self.fd})", self.real.accept, lambda v: f"{fd} {endpoint(*v[1][:2])}")
        self.host.sockets.append(got[0])
        return Socket(self.host, got[0], fd)

    def recv(self, n: int) -> int:
        """recv(2): how many bytes came, 0 at the end of the stream."""
        return len(self.call(f"recv({self.fd}, {n})", lambda: self.real.recv(n), lambda v: str(len(v))))

    def echo(self) -> int:
        """recvfrom(2), and sendto(2) of as many bytes back to where they came from."""
        data, sender = self.call(f"recvfrom({self.fd}, 65536)", lambda: self.real.recvfrom(65536), _datagram)
        if not sender:
            return 0
        where = endpoint(*sender[:2])
        self.call(f"sendto({self.fd}, {len(data)}, {where})", lambda: self.real.sendto(data, sender))
        return len(data)

    def shutdown(self, how: str) -> None:
        """shutdown(2)."""
        self.call(f"shutdown({self.fd}, {how})", lambda: self.real.shutdown(getattr(socket, how)), _zero)

    def end(self, how: str) -> None:
        """close(2), or abort: SO_LINGER 0 before it; `leave` does nothing."""
        if how == "abort":
            self.option("SOL_SOCKET", "SO_LINGER", 0)
        if how != "leave":
            self.call(f"close({self.fd})", self.real.close, _zero)


def _zero(_: object) -> str:
    return "0"


def _datagram(got: tuple[bytes, tuple[str, int]]) -> str:
    return f"{len(got[0])} {endpoint(*got[1][:2])}" if got[1] else str(len(got[0]))


class Apps:
    """All applications of a plan. `start` them, `join` them; those that take too long are ended.

    `cut` says afterwards whether some had to be.
    """

    def __init__(self, net: WorkloadNet, congestion: str) -> None:
        self.net = net
        self.cut = False
        self.first_connected = threading.Event()
        self._congestion = congestion
        self._open: list[Socket] = []
        self._threads: list[threading.Thread] = []
        self._echo_threads: list[threading.Thread] = []
        self._faults: list[BaseException] = []

    def start(self) -> None:
        """Makes the servers listen, then starts every application."""
        began = time.monotonic()
        for flow in self.net.plan.flows:
            udp = flow.kind == "datagrams"
            if flow.server:
                listener = self._socket(self.net.server, udp)
                for level, name, value in flow.server_options:
                    if not udp or level == "SOL_SOCKET":
                        listener.option(level, name, value)
                where = self.net.server.address
                listener.call(
                    f"bind({listener.fd}, {endpoint(where, flow.port)})",
                    lambda s=listener, w=where, f=flow: s.real.bind((w, f.port)),  # type: ignore[misc]
                    _zero,
                )
                if udp:
                    self._echo_threads.append(self._go(self._echoes, listener))
                else:
                    if flow.fast_open:
                        listener.option("IPPROTO_TCP", "TCP_FASTOPEN", 16)
                    listener.call(f"listen({listener.fd}, 8)", lambda s=listener: s.real.listen(8), _zero)  # type: ignore[misc]
                    self._go(self._serve, flow, listener)
        for flow in self.net.plan.flows:
            self._go(self._client, flow, began)

    def join(self, seconds: float) -> None:
        """Waits until all have ended, ends them by shutdown(2) after `seconds`; raises what an application raised.

        Servers of datagrams know no end: they are ended by shutdown(2) when the others are done.
        """
        until = time.monotonic() + seconds
        others = [t for t in self._threads if t not in self._echo_threads]
        for t in others:
            t.join(max(0.0, until - time.monotonic()))
        self.cut = any(t.is_alive() for t in others)
        patience = time.monotonic() + 3
        while any(t.is_alive() for t in self._threads) and time.monotonic() < patience:
            for s in list(self._open):
                if s.real.fileno() >= 0:
                    self._interrupt(s)
            for t in self._threads:
                t.join(0.1)
        if self._faults:
            raise self._faults[0]

    def _interrupt(self, s: Socket) -> None:
        try:
            s.shutdown("SHUT_RDWR")
        except Ended:
            return

    def _go(self, f: Callable[..., None], *args: object) -> threading.Thread:
        def body() -> None:
            try:
                f(*args)
            except Ended:
                return
            except BaseException as e:
                self._faults.append(e)

        t = threading.Thread(target=body, daemon=True, name="application")
        self._threads.append(t)
        t.start()
        return t

    def _socket(self, host: Host, udp: bool) -> Socket:
        s = Socket.made(host, "SOCK_DGRAM" if udp else "SOCK_STREAM")
        self._open.append(s)
        if not udp:
            s.option("SOL_SOCKET", "SO_REUSEADDR", 1)
            if self._congestion:
                s.option("IPPROTO_TCP", "TCP_CONGESTION", self._congestion)
        return s

    def _serve(self, flow: Flow, listener: Socket) -> None:
        s = listener.accept()
        self._open.append(s)
        listener.end("close")
        self._lanes(s, flow.server, flow.ends[1])

    def _client(self, flow: Flow, began: float) -> None:
        time.sleep(max(0.0, began + flow.after - time.monotonic()))
        udp = flow.kind == "datagrams"
        s = self._socket(self.net.client, udp)
        for level, name, value in flow.options:
            if not udp or level == "SOL_SOCKET":
                s.option(level, name, value)
        try:
            if flow.fast_open:
                s.fast_open(flow.fast_open, self.net.target, flow.port)
            else:
                s.connect(self.net.target, flow.port)
        except Ended:
            s.end("close")
            return
        self.first_connected.set()
        self._lanes(s, flow.client, flow.ends[0])

    def _lanes(self, s: Socket, lanes: Sequence[Lane], ends: str) -> None:
        threads = [threading.Thread(target=self._lane, args=(s, lane), daemon=True) for lane in lanes[1:]]
        for t in threads:
            t.start()
        for lane in lanes[:1]:
            self._lane(s, lane)
        for t in threads:
            t.join()
        s.end(ends)

    def _lane(self, s: Socket, lane: Lane) -> None:
        try:
            for step in lane:
                self._step(s, step)
        except Ended:
            return

    def _step(self, s: Socket, step: Step) -> None:
        if step.call == "pause":
            time.sleep(step.pause)
        elif step.call == "shutdown":
            s.shutdown("SHUT_WR")
        elif step.call == "option":
            s.option("IPPROTO_TCP", step.flags, step.size)
        elif step.call == "send":
            left = step.size
            while left > 0:
                s.send(min(step.chunk, left), step.flags)
                left -= step.chunk
                if step.pause:
                    time.sleep(step.pause)
        else:
            left = step.size
            while left:
                got = s.recv(step.chunk if left < 0 else min(step.chunk, left))
                if got == 0:
                    return
                left -= got if left > 0 else 0
                if step.pause:
                    time.sleep(step.pause)

    def _echoes(self, s: Socket) -> None:
        while s.echo():
            pass
        s.end("close")
