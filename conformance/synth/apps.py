"""Applications of the synthesized hosts: scripts of steps beside a reader, on system calls that do not block.

A step is a tuple whose first word names it:

* ``("write", n)``, ``("oob", n)``: n bytes, the latter with MSG_OOB; waits while the send buffer is full.
* ``("await", n)``: goes on when n bytes more have been read. ``("eof",)``: when the peer ended its stream.
* ``("pause", us)``. ``("option", level, name, value)``.
* ``("shutdown",)``, ``("close",)``, ``("abort",)`` (a close with SO_LINGER of 0).
"""

from typing import Any, Final

from msgspec import Struct

from refmodel.tcp.whole import calls
from refmodel.tcp.whole.skb import SockAddr

EAGAIN: Final = -11
MSG_OOB: Final = 1
MSG_DONTWAIT: Final = 0x40
SOL_SOCKET: Final = 1
SO_LINGER: Final = 13
SHUT_WR: Final = 1
NONBLOCK: Final = 0o4000

Step = tuple[Any, ...]


class App(Struct, frozen=True):
    """What one end's application does with a connection.

    It reads `piece` bytes at a time, each `every` us (0: whatever comes, at once), and nothing in its first `deaf` us.
    `options` are set on the socket before it connects or listens, as (level, name, value).
    """

    steps: tuple[Step, ...] = ()
    every: int = 0
    piece: int = 1 << 20
    deaf: int = 0
    options: tuple[tuple[int, int, int], ...] = ()


class Side:
    """One application's end of one connection."""

    def __init__(self, process: calls.Process, fd: int, app: App, now: int) -> None:
        self.process, self.fd, self.app = process, fd, app
        self.todo = list(app.steps)
        self.left = 0  # of a write that was begun, or of what is awaited
        self.begun = False
        self.got = 0
        self.used = 0  # of `got`, by earlier awaits
        self.until = now  # a pause ends
        self.next_read = now + app.deaf
        self.ended = self.closed = False

    def _call(self, made: Any) -> int:
        task = self.process.start(made)
        if task.ret is None:
            raise RuntimeError("a call that should not block does")
        return int(task.ret.value)

    def option(self, level: int, name: int, value: int | bytes) -> None:
        """setsockopt(2)."""
        set_option(self.process, self.fd, level, name, value)

    def act(self, now: int) -> bool:
        """Does whatever can be done at `now` (us); False if that was nothing."""
        if self.closed:
            return False
        moved = self._read(now)
        while self.todo and not self.closed and self._step(now):
            moved = True
        return moved

    def _read(self, now: int) -> bool:
        moved = False
        while not self.ended and now >= self.next_read:
            n = self._call(calls.sys_recv(self.process, self.fd, self.app.piece, MSG_DONTWAIT))
            if n == EAGAIN:
                if self.app.every:
                    self.next_read = now + self.app.every
                break
            moved = True
            self.ended = n <= 0
            self.got += max(n, 0)
            if self.app.every:
                self.next_read = now + self.app.every
        return moved

    def _step(self, now: int) -> bool:
        """Carries the next step out; False if it has to wait."""
        step = self.todo[0]
        word = step[0]
        if word in ("write", "oob"):
            if not self._write(step):
                return False
        elif word == "await":
            if self.got - self.used < step[1] and not self.ended:
                return False
            self.used += step[1]
        elif word == "eof":
            if not self.ended:
                return False
        elif word == "pause":
            if not self.begun:
                self.begun, self.until = True, now + step[1]
            if now < self.until:
                return False
        elif word == "option":
            self.option(*step[1:])
        elif word == "shutdown":
            self._call(calls.sys_shutdown(self.process, self.fd, SHUT_WR))
        else:
            if word == "abort":
                self.option(SOL_SOCKET, SO_LINGER, (1).to_bytes(4, "little") + bytes(4))
            self.closed = True
            self._call(calls.sys_close(self.process, self.fd))
        self.begun = False
        self.todo.pop(0)
        return True

    def _write(self, step: Step) -> bool:
        """Writes on; True when all of it is written, or nothing more can be."""
        if not self.begun:
            self.begun, self.left = True, step[1]
        flags = MSG_DONTWAIT | (MSG_OOB if step[0] == "oob" else 0)
        while self.left:
            n = self._call(calls.sys_send(self.process, self.fd, self.left, flags))
            if n == EAGAIN:
                return False
            if n < 0:
                break
            self.left -= n
        return True

    def wake(self, now: int) -> int | None:
        """When it will do something by itself (us); None: never."""
        if self.closed:
            return None
        times = []
        if not self.ended and self.next_read > now:
            times.append(self.next_read)
        if self.todo and self.todo[0][0] == "pause" and self.begun and self.until > now:
            times.append(self.until)
        return min(times, default=None)


def set_option(process: calls.Process, fd: int, level: int, name: int, value: int | bytes) -> None:
    """setsockopt(2); raises ValueError if the kernel refuses it."""
    raw = value if isinstance(value, bytes) else value.to_bytes(4, "little")
    task = process.start(calls.sys_setsockopt(process, fd, level, name, raw))
    if task.ret is None or task.ret.value:
        raise ValueError(f"setsockopt {level} {name} {value!r}: {task.ret and task.ret.value}")


def address(raw: bytes, port: int) -> SockAddr:
    """The socket address of a host's address."""
    return SockAddr(10 if len(raw) == 16 else 2, raw, port)


__all__ = ["App", "Side", "Step", "address", "set_option"]
