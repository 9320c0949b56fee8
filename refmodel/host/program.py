"""Programs: the system calls that an application makes, written once and run on the model or on a kernel.

A program is a generator that yields one `Syscall` after the other and is given what each returned, as C would see it: a
number, negative errno for an error, or for a read the bytes. Whoever runs it (`Run` here, a live driver elsewhere)
keeps the list of calls with their results.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from refmodel.tcp.whole import calls
from refmodel.tcp.whole.calls import Process, Task
from refmodel.tcp.whole.skb import SockAddr
from refmodel.tcp.whole.sock import Sock
from refmodel.tcp.whole.sockfile import SocketFile

if TYPE_CHECKING:
    from refmodel.host.namespace import Namespace

AF_INET: Final = 2
AF_INET6: Final = 10
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SHUT_WR: Final = 1


class Syscall(Struct, frozen=True):
    """One call: its name and arguments. Addresses are (address bytes, port); what is written are bytes."""

    name: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(_shown, self.args))})"


def _shown(x: Any) -> str:
    if isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], bytes):
        dotted = ".".join(map(str, x[0])) if len(x[0]) == 4 else x[0].hex(":", 2)
        return f"{dotted}:{x[1]}"
    return repr(x)


class Done(Struct):
    """A call that returned: when it was made and when it returned (us), and what it returned."""

    call: Syscall
    called: int
    returned: int
    result: int | bytes


Program = Generator[Syscall, Any, None]


def socket(family: int = AF_INET, type: int = SOCK_STREAM) -> Syscall:
    """socket(2)."""
    return Syscall("socket", (family, type, 0))


def bind(fd: int, address: bytes, port: int) -> Syscall:
    """bind(2)."""
    return Syscall("bind", (fd, (address, port)))


def listen(fd: int, backlog: int) -> Syscall:
    """listen(2)."""
    return Syscall("listen", (fd, backlog))


def accept(fd: int) -> Syscall:
    """accept(2)."""
    return Syscall("accept", (fd,))


def connect(fd: int, address: bytes, port: int) -> Syscall:
    """connect(2)."""
    return Syscall("connect", (fd, (address, port)))


def send(fd: int, data: bytes) -> Syscall:
    """send(2)."""
    return Syscall("send", (fd, data))


def write(fd: int, data: bytes) -> Syscall:
    """write(2)."""
    return Syscall("write", (fd, data))


def sendto(fd: int, data: bytes, address: bytes, port: int) -> Syscall:
    """sendto(2)."""
    return Syscall("sendto", (fd, data, (address, port)))


def recv(fd: int, n: int) -> Syscall:
    """recv(2) of up to `n` bytes."""
    return Syscall("recv", (fd, n))


def shutdown(fd: int, how: int = SHUT_WR) -> Syscall:
    """shutdown(2)."""
    return Syscall("shutdown", (fd, how))


def close(fd: int) -> Syscall:
    """close(2)."""
    return Syscall("close", (fd,))


def setsockopt(fd: int, level: int, name: int, value: int) -> Syscall:
    """setsockopt(2) of an int."""
    return Syscall("setsockopt", (fd, level, name, value))


def sleep(us: int) -> Syscall:
    """Does nothing for a while."""
    return Syscall("sleep", (us,))


def family_of(address: bytes) -> int:
    """AF_INET or AF_INET6."""
    return AF_INET if len(address) == 4 else AF_INET6


class Run:
    """A program that runs on the model: `calls` are those that returned, `waiting` the one that has not yet.

    It is over when `over`; the network asks it to go on after each event (`poke`). Between a call that returned and the
    next one the program takes `pace` us.
    """

    def __init__(self, ns: "Namespace", program: Program, name: str = "", start: int = 0, pace: int = 0) -> None:
        self.ns = ns
        self.name = name
        self.program = program
        self.process = Process(ns)
        self.calls: list[Done] = []
        self.waiting: Syscall | None = None
        self.task: Task | None = None
        self.over = False
        self.wake = max(start, ns.now)  # when it wants to go on although no call returns (us)
        self.pace = pace
        self._begun = False
        self._given: int | bytes | None = None  # what the program has yet to be told

    def poke(self) -> bool:
        """Goes on as far as it can now; whether anything happened."""
        moved = False
        while not self.over:
            if self.task is not None:
                if not self._wakes():
                    return moved
                self._returned(self._result(self.task))
            elif self.ns.now < self.wake:
                return moved
            elif self.waiting is not None:
                self._returned(0)
            else:
                self._next(self._given)
            moved = True
        return moved

    def _wakes(self) -> bool:
        """The sleeping call goes on if it can; whether it is over."""
        assert self.task is not None
        wait = self.task.wait
        if not self.task.done and wait is not None and (self.task.expired or wait.ready()):
            self.ns.machine.process(self.ns, self.process.settle, self.name or "process")
        return self.task.done

    def _call(self, call: Syscall) -> None:
        self.task = self.process.start(self._start(call))

    def _returned(self, result: int | bytes) -> None:
        assert self.waiting is not None
        called = self.task.called if self.task is not None else self.wake
        self.calls.append(Done(self.waiting, called, self.ns.now, result))
        self.task = self.waiting = None
        self._given = result
        if self.pace:
            self.wake = self.ns.now + self.pace
        else:
            self._next(result)

    def _next(self, result: Any) -> None:
        try:
            call = self.program.send(result) if self._begun else next(self.program)
        except StopIteration:
            self.over = True
            return
        self._begun = True
        self.waiting = call
        if call.name == "sleep":
            self.wake = self.ns.now + call.args[0]
        else:
            self.ns.machine.process(self.ns, lambda: self._call(call), self.name or "process")

    def _sock(self, fd: int) -> Any:
        file = self.process.fds.get(fd)
        return file.sk if isinstance(file, SocketFile) else None

    def _start(self, call: Syscall) -> calls.Call:
        a, p = call.args, self.process
        if call.name in ("send", "write", "sendto"):
            sk = self._sock(a[0])
            if isinstance(sk, Sock):
                self.ns.content.wrote(sk, a[1])
            elif sk is not None:
                self.ns.outgoing = a[1]
        make = CALLS.get(call.name)
        if make is None:
            raise ValueError(f"no program may call {call.name}; there are {', '.join(CALLS)}")
        return make(p, *a)

    def _result(self, task: Task) -> int | bytes:
        ret = task.ret
        assert self.waiting is not None
        if self.waiting.name in ("recv", "read") and ret.value >= 0:
            sk = self._sock(self.waiting.args[0])
            if isinstance(sk, Sock):
                return self.ns.content.read(sk, ret.value)
            return self.ns.incoming[: ret.value]
        return ret.value


def _address(a: tuple[bytes, int]) -> SockAddr:
    return SockAddr(family_of(a[0]), a[0], a[1])


CALLS: Final[dict[str, Callable[..., calls.Call]]] = {
    "socket": calls.sys_socket,
    "bind": lambda p, fd, a: calls.sys_bind(p, fd, _address(a)),
    "listen": calls.sys_listen,
    "accept": calls.sys_accept,
    "connect": lambda p, fd, a: calls.sys_connect(p, fd, _address(a)),
    "send": lambda p, fd, data: calls.sys_send(p, fd, len(data)),
    "write": lambda p, fd, data: calls.sys_write(p, fd, len(data)),
    "sendto": lambda p, fd, data, a: calls.sys_sendto(p, fd, len(data), 0, _address(a)),
    "recv": calls.sys_recv,
    "read": calls.sys_read,
    "shutdown": calls.sys_shutdown,
    "close": calls.sys_close,
    "setsockopt": lambda p, fd, level, name, value: calls.sys_setsockopt(
        p, fd, level, name, value.to_bytes(4, "little", signed=True)
    ),
}
"""How each call is made on the model."""
