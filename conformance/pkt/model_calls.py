"""A script's system calls on the model: each as the model's own call, and what its result is held against.

Descriptors in a script are names for the model's; a number that names none is given to the model as a bad descriptor.
"""

import errno
from collections.abc import Callable, Generator
from typing import Any, Final

from msgspec import Struct

from conformance.pkt import constants, printer
from conformance.pkt.ast import (
    Arg,
    Auto,
    Call,
    EpollEvent,
    IoVec,
    Items,
    MsgHdr,
    Number,
    PollFd,
    SockAddr,
    Text,
)
from conformance.pkt.calls import number
from conformance.pkt.msg import CMSG_HEADER, Control, compare_control, compare_sockopt, packed, sockopt_bytes
from conformance.pkt.outcome import CannotCall, Returned, Unequal
from conformance.pkt.wire import State, Wire
from refmodel.tcp.whole import calls
from refmodel.tcp.whole.calls import Process, Ret
from refmodel.udp.file import DgramFile

NO_DESCRIPTOR: Final = 1_000_000
AF_UNSPEC, AF_INET, AF_INET6, MSG_FASTOPEN = 0, 2, 10, 0x20000000
SIZEOF_SOCKADDR: Final = {AF_INET: 16, AF_INET6: 28}
SIN6_LEN_RFC2133: Final = 24
MAKES_DESCRIPTOR: Final = frozenset(("socket", "accept", "open", "epoll_create"))
ANY_SIZE: Final = 128
LARGEST: Final = 1 << 40

Held = Generator[Any, Any, Ret]
Then = Callable[[Ret], None]


class Made(Struct):
    """A call that can be started, and what its return is held against."""

    run: Held
    then: Then


class ModelCalls:
    """The process's calls: which of the model's descriptors each of the script's numbers names."""

    def __init__(self, process: Process, wire: Wire, to_script_ns: Callable[[int], int], tolerance_usecs: int) -> None:
        self.process, self.wire = process, wire
        self.to_script_ns, self.tolerance_usecs = to_script_ns, tolerance_usecs
        self.fds: dict[int, int] = {}
        self.returns: list[Returned] = []

    def make(self, call: Call) -> Made:
        """A call, ready to run; `then` raises Unequal. Raises CannotCall."""
        handler: Callable[[Call], Made] | None = getattr(self, f"_{call.name}", None)
        if handler is None:
            raise CannotCall(f"the call {call.name} is not made")
        return handler(call)

    def fd(self, arg: Arg) -> int:
        """The model's descriptor that an argument names."""
        return self.fds.get(number(arg), NO_DESCRIPTOR)

    def _made(self, call: Call, run: Held, then: Then | None = None) -> Made:
        """A call whose result is compared first; `then` looks at the rest."""

        def check(ret: Ret) -> None:
            self._result(call, ret.value)
            if then is not None:
                then(ret)

        return Made(run, check)

    def _result(self, call: Call, got: int) -> None:
        value = 0 if got >= 0 and call.name in MAKES_DESCRIPTOR else got
        self.returns.append(Returned(call.at.line, call.name, value))
        if isinstance(call.result, Auto):
            return
        wanted = number(call.result)
        makes = call.name in MAKES_DESCRIPTOR and wanted >= 0
        if got < 0 and wanted < 0:
            if call.errno is not None and -got != constants.ERRNO[call.errno]:
                raise Unequal(f"errno is {errno.errorcode.get(-got, -got)}, expected {call.errno}")
            if wanted == -1:
                return
        if not (got >= 0 if makes else got == wanted):
            said = f"-1 {errno.errorcode.get(-got, -got)}" if got < 0 else str(got)
            wrong = f" {call.errno}" if call.errno else ""
            raise Unequal(f"the result is {said}, expected {printer.argument(call.result)}{wrong}")
        if makes:
            self.fds[wanted] = got

    # Sockets

    def _socket(self, call: Call) -> Made:
        auto = AF_INET if self.wire.config.variant == "ipv4" else AF_INET6
        domain = auto if isinstance(call.args[0], Auto) else number(call.args[0])

        def then(ret: Ret) -> None:
            if ret.value >= 0:
                self.wire.made(number(call.result) if not isinstance(call.result, Auto) else ret.value, ret.value)

        run = calls.sys_socket(self.process, domain, number(call.args[1]), number(call.args[2]))
        return self._made(call, run, then)

    def _address(self, arg: Arg, length: Arg, remote: bool) -> calls.SockAddr | int:
        """An address, or the error that the kernel has for its length."""
        match arg:
            case SockAddr():
                port = None if isinstance(arg.port, Auto) else number(arg.port)
                raw = self.wire.sockaddr(remote, number(arg.sa_family), port, arg.addr)
            case Auto():
                raw = self.wire.sockaddr(remote)
            case _:
                raw = (number(arg) & 0xFFFF).to_bytes(2, "little") + bytes(26)
        size = len(raw) if isinstance(length, Auto) else number(length)
        family = int.from_bytes(raw[:2], "little")
        least = SIN6_LEN_RFC2133 if family == AF_INET6 else SIZEOF_SOCKADDR.get(family, 2)
        if not least <= size <= ANY_SIZE:
            return -errno.EINVAL
        at = slice(8, 24) if family == AF_INET6 else slice(4, 8)
        return calls.SockAddr(family, raw[at] if family in SIZEOF_SOCKADDR else b"", int.from_bytes(raw[2:4], "big"))

    def _bind(self, call: Call) -> Made:
        address = self._address(call.args[1], call.args[2], remote=False)

        def then(ret: Ret) -> None:
            conn = self.wire.by_fd(number(call.args[0]))
            if ret.value == 0 and conn is not None and not isinstance(address, int):
                conn.local_port = address.port or self._local_port(call.args[0])

        fd = self.fd(call.args[0])
        return self._made(call, self._unless(address, lambda a: calls.sys_bind(self.process, fd, a)), then)

    def _local_port(self, fd: Arg) -> int | None:
        sock = getattr(self.process.fds.get(self.fd(fd)), "sk", None)
        return sock.inet_num if sock is not None else None

    def _unless(self, address: calls.SockAddr | int, run: Callable[[calls.SockAddr], Held]) -> Held:
        return _failing(address) if isinstance(address, int) else run(address)

    def _listen(self, call: Call) -> Made:
        def then(ret: Ret) -> None:
            conn = self.wire.by_fd(number(call.args[0]))
            if ret.value == 0 and conn is not None:
                conn.state = State.LISTENING
                if conn.local_port is None:
                    conn.local_port = self._local_port(call.args[0])

        return self._made(call, calls.sys_listen(self.process, self.fd(call.args[0]), number(call.args[1])), then)

    def _connecting(self, fd: Arg) -> None:
        conn = self.wire.by_fd(number(fd))
        if conn is not None and conn.state is State.INIT:
            conn.state, conn.remote_port = State.ACTIVE, self.wire.config.connect_port

    def _connect(self, call: Call) -> Made:
        address = self._address(call.args[1], call.args[2], remote=True)
        if not isinstance(address, int) and address.family != AF_UNSPEC:
            self._connecting(call.args[0])
        fd = self.fd(call.args[0])
        run = self._unless(address, lambda a: calls.sys_connect(self.process, fd, a))
        return self._made(call, run, lambda ret: self._chosen(call))

    def _chosen(self, call: Call) -> None:
        """A datagram socket that had no port has got one: no packet of its own tells it."""
        conn, file = self.wire.by_fd(number(call.args[0])), self.process.fds.get(self.fd(call.args[0]))
        if conn is not None and conn.local_port is None and isinstance(file, DgramFile):
            conn.local_port = file.sk.inet_num or None

    def _accept(self, call: Call) -> Made:
        def then(ret: Ret) -> None:
            if ret.value >= 0 and not isinstance(call.result, Auto):
                sock = getattr(self.process.fds[ret.value], "sk", None)
                port = sock.inet_dport if sock is not None else 0
                self.wire.accepted(number(call.result), ret.value, port)

        return self._made(call, calls.sys_accept(self.process, self.fd(call.args[0])), then)

    def _close(self, call: Call) -> Made:
        def then(ret: Ret) -> None:
            if ret.value == 0:
                self.wire.closed(number(call.args[0]))
                self.fds.pop(number(call.args[0]), None)

        return self._made(call, calls.sys_close(self.process, self.fd(call.args[0])), then)

    def _shutdown(self, call: Call) -> Made:
        return self._made(call, calls.sys_shutdown(self.process, self.fd(call.args[0]), number(call.args[1])))

    # Data

    def _size(self, size: Arg) -> int:
        n = number(size)
        if not 0 <= n <= LARGEST:
            raise CannotCall(f"a buffer of {n} bytes")
        return n

    def _read(self, call: Call) -> Made:
        size = self._size(call.args[2])
        return self._made(call, calls.sys_read(self.process, self.fd(call.args[0]), size, no_memory(call)))

    def _write(self, call: Call) -> Made:
        size = self._size(call.args[2])
        return self._made(call, calls.sys_write(self.process, self.fd(call.args[0]), size, no_memory(call)))

    def _recv(self, call: Call) -> Made:
        flags = number(call.args[3])
        size = self._size(call.args[2])
        return self._made(call, calls.sys_recv(self.process, self.fd(call.args[0]), size, flags, no_memory(call)))

    def _recvfrom(self, call: Call) -> Made:
        flags = number(call.args[3])
        size = self._size(call.args[2])
        return self._made(call, calls.sys_recvfrom(self.process, self.fd(call.args[0]), size, flags, no_memory(call)))

    def _send(self, call: Call) -> Made:
        size, flags = self._size(call.args[2]), number(call.args[3])
        return self._made(call, calls.sys_send(self.process, self.fd(call.args[0]), size, flags, no_memory(call)))

    def _sendto(self, call: Call) -> Made:
        size, flags, fault = self._size(call.args[2]), number(call.args[3]), no_memory(call)
        fd = self.fd(call.args[0])
        if not isinstance(call.args[4], (Auto, SockAddr)) and number(call.args[4]) == 0:
            return self._made(call, calls.sys_sendto(self.process, fd, size, flags, None, fault))
        address = self._address(call.args[4], call.args[5], remote=True)
        self._connecting(call.args[0])
        run = self._unless(address, lambda a: calls.sys_sendto(self.process, fd, size, flags, a, fault))
        return self._made(call, run, lambda ret: self._chosen(call))

    def _iov(self, arg: Arg | None) -> list[int]:
        items = arg.items if isinstance(arg, Items) else ()
        sizes = [number(x.len) for x in items if isinstance(x, IoVec)]
        if any(not 0 <= n <= LARGEST for n in sizes):
            raise CannotCall("a buffer of that size")
        return sizes

    def _counted(self, call: Call) -> list[int]:
        sizes, count = self._iov(call.args[1]), number(call.args[2])
        if not 0 <= count <= len(sizes):
            raise CannotCall(f"a count of {count} for a list of {len(sizes)}")
        return sizes[:count]

    def _readv(self, call: Call) -> Made:
        return self._made(call, calls.sys_readv(self.process, self.fd(call.args[0]), self._counted(call)))

    def _writev(self, call: Call) -> Made:
        return self._made(call, calls.sys_writev(self.process, self.fd(call.args[0]), self._counted(call)))

    def _sendmsg(self, call: Call) -> Made:
        msg, flags = _msghdr(call), number(call.args[2])
        address: calls.SockAddr | None = None
        datagram = isinstance(self.process.fds.get(self.fd(call.args[0])), DgramFile)
        if isinstance(msg.name, Auto) and (flags & MSG_FASTOPEN or datagram):
            found = self._address(msg.name, Auto(), remote=True)
            if not isinstance(found, int):
                address = found
                self._connecting(call.args[0])
        cmsgs = tuple((number(c.level), number(c.type), packed(c)[CMSG_HEADER:][:4]) for c in msg.control or ())
        sizes = self._iov(msg.iov)
        run = calls.sys_sendmsg(self.process, self.fd(call.args[0]), sizes, flags, address, cmsgs)
        return self._made(call, run, lambda ret: self._chosen(call))

    def _recvmsg(self, call: Call) -> Made:
        msg = _msghdr(call)

        def then(ret: Ret) -> None:
            if ret.value < 0:
                return
            flags = msg.flags
            if flags is not None and not isinstance(flags, Auto) and ret.data.flags != number(flags):
                raise Unequal(f"msg_flags is {ret.data.flags:#x}, expected {printer.argument(flags)}")
            if msg.control is not None:
                got = [Control(level, kind, data) for level, kind, data in ret.data.cmsgs]
                wrong = compare_control(msg.control, got, self.to_script_ns, self.tolerance_usecs)
                if wrong:
                    raise Unequal(wrong)

        run = calls.sys_recvmsg(self.process, self.fd(call.args[0]), self._iov(msg.iov), number(call.args[2]), 4096)
        return self._made(call, run, then)

    # Files

    def _open(self, call: Call) -> Made:
        path = call.args[0]
        if not isinstance(path, Text):
            raise CannotCall("a path is a string")
        return self._made(call, calls.sys_open(self.process, path.value.decode(errors="replace"), number(call.args[1])))

    def _offset(self, arg: Arg) -> int | None:
        value = arg.items[0] if isinstance(arg, Items) and arg.items else arg
        if isinstance(value, (Auto, Items)) or (not isinstance(arg, Items) and number(value) == 0):
            return None
        return number(value)

    def _sendfile(self, call: Call) -> Made:
        out, source, at, size = call.args
        run = calls.sys_sendfile(self.process, self.fd(out), self.fd(source), self._offset(at), number(size))
        return self._made(call, run)

    def _splice(self, call: Call) -> Made:
        source, at, dest, to, size, flags = call.args
        run = calls.sys_splice(self.process, self.fd(source), self._offset(at), self.fd(dest), self._offset(to),
                               number(size), number(flags))  # fmt: skip
        return self._made(call, run)

    def _pipe(self, call: Call) -> Made:
        def then(ret: Ret) -> None:
            if ret.value == 0 and isinstance(call.args[0], Items):
                for arg, live in zip(call.args[0].items, ret.data, strict=False):
                    self.fds[number(arg)] = live

        return self._made(call, calls.sys_pipe(self.process), then)

    # Capabilities and keys

    def _cap_set(self, call: Call) -> Made:
        which, cap, op = (number(arg) for arg in call.args)
        return self._made(call, calls.sys_cap_set(self.process, which, cap, op))

    def _psp_rx_assoc(self, call: Call) -> Made:
        # A generic netlink request: without CONFIG_INET_PSP there is no family of that name (net/netlink/genetlink.c).
        return self._made(call, _failing(-errno.ENOENT))

    _psp_tx_assoc = _psp_rx_assoc

    # Settings

    def _fcntl(self, call: Call) -> Made:
        value = number(call.args[2]) if len(call.args) > 2 else 0
        return self._made(call, calls.sys_fcntl(self.process, self.fd(call.args[0]), number(call.args[1]), value))

    def _ioctl(self, call: Call) -> Made:
        wanted = call.args[2] if len(call.args) > 2 else Number(value=0)
        item = wanted.items[0] if isinstance(wanted, Items) and wanted.items else wanted
        expected = None if isinstance(item, (Auto, Items)) else number(item)

        def then(ret: Ret) -> None:
            if ret.value == 0 and ret.data is not None and expected is not None and ret.data != expected:
                raise Unequal(f"the value is {ret.data}, expected {expected}")

        run = calls.sys_ioctl(self.process, self.fd(call.args[0]), number(call.args[1]), expected or 0)
        return self._made(call, run, then)

    def _setsockopt(self, call: Call) -> Made:
        value = sockopt_bytes(call.args[3])
        level, name = number(call.args[1]), number(call.args[2])
        size = len(value) if isinstance(call.args[4], Auto) else number(call.args[4])
        if size < 0:
            return self._made(call, _failing(-errno.EINVAL))
        value = value[:size].ljust(min(size, 4096), b"\0")
        return self._made(call, calls.sys_setsockopt(self.process, self.fd(call.args[0]), level, name, value))

    def _getsockopt(self, call: Call) -> Made:
        length = call.args[4]
        item = length.items[0] if isinstance(length, Items) and length.items else length
        size = ANY_SIZE if isinstance(item, (Auto, Items)) else number(item)

        def then(ret: Ret) -> None:
            if ret.value != 0:
                return
            wrong = compare_sockopt(call.args[3], ret.data)
            if not wrong and not isinstance(item, (Auto, Items)) and len(ret.data) != size:
                wrong = f"the length is {len(ret.data)}, expected {size}"
            if wrong:
                raise Unequal(wrong)

        level, name = number(call.args[1]), number(call.args[2])
        return self._made(call, calls.sys_getsockopt(self.process, self.fd(call.args[0]), level, name, size), then)

    # Waiting

    def _poll(self, call: Call) -> Made:
        entries = [x for x in (call.args[0].items if isinstance(call.args[0], Items) else ()) if isinstance(x, PollFd)]
        count = number(call.args[1])
        if not 0 <= count <= len(entries):
            raise CannotCall(f"a count of {count} for a list of {len(entries)}")

        def then(ret: Ret) -> None:
            for n, entry in enumerate(entries[:count]):
                if ret.value >= 0 and entry.revents is not None and ret.data[n] != number(entry.revents):
                    wanted = printer.argument(entry.revents)
                    raise Unequal(f"revents of entry {n + 1} is {ret.data[n]:#x}, expected {wanted}")

        asked = [(self.fd(e.fd), number(e.events)) for e in entries[:count]]
        return self._made(call, calls.sys_poll(self.process, asked, number(call.args[2])), then)

    def _epoll_create(self, call: Call) -> Made:
        if number(call.args[0]) <= 0:
            return self._made(call, _failing(-errno.EINVAL))
        return self._made(call, calls.sys_epoll_create(self.process))

    def _epoll_ctl(self, call: Call) -> Made:
        event, events, data = call.args[3], 0, 0
        if isinstance(event, EpollEvent):
            events, data = number(event.events) & 0xFFFFFFFF, number(event.data) & (1 << 64) - 1
        run = calls.sys_epoll_ctl(self.process, self.fd(call.args[0]), number(call.args[1]), self.fd(call.args[2]),
                                  events, data)  # fmt: skip
        return self._made(call, run)

    def _epoll_wait(self, call: Call) -> Made:
        event = call.args[1]

        def then(ret: Ret) -> None:
            if ret.value <= 0 or not isinstance(event, EpollEvent):
                return
            events, data = ret.data[0]
            if events != number(event.events) & 0xFFFFFFFF:
                raise Unequal(f"events is {events:#x}, expected {printer.argument(event.events)}")
            if data != number(event.data) & (1 << 64) - 1:
                raise Unequal(f"{event.member} is {data:#x}, expected {printer.argument(event.data)}")

        run = calls.sys_epoll_wait(self.process, self.fd(call.args[0]), number(call.args[2]), number(call.args[3]))
        return self._made(call, run, then)


def no_memory(call: Call) -> bool:
    """The call's buffer is an address that is no memory of the process."""
    return not isinstance(call.args[1], Auto)


def _failing(error: int) -> Held:
    """A call whose arguments the kernel refuses before it looks at anything."""
    return Ret(error)
    yield  # a generator


def _msghdr(call: Call) -> MsgHdr:
    msg = call.args[1]
    if not isinstance(msg, MsgHdr):
        raise CannotCall(f"{call.name} without a struct msghdr")
    return msg
