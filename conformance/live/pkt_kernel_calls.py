"""A script's system calls, made for real through libc, and their results held against the script's.

Descriptors in a script are names for live ones; a number that names none is given to the kernel as a bad descriptor.

A script may come from a stranger, and runs as root: sockets are IPv4 and IPv6 ones of the run's own namespace, files
are opened only under its own /tmp, addresses in memory are not taken, and what reaches other processes is refused.
"""

import ctypes
import errno
import struct
from collections.abc import Callable
from typing import Any, Final

from conformance.live.pkt_kernel_buffers import Buffers
from conformance.live.pkt_kernel_rights import cap_set, genl_family
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
from conformance.pkt.msg import compare_control, compare_sockopt, sockopt_bytes
from conformance.pkt.outcome import CannotCall, Returned, Unequal
from conformance.pkt.wire import State, Wire

NO_DESCRIPTOR: Final = 1_000_000
AF_UNSPEC, AF_INET, AF_INET6, SOCK_STREAM, SOCK_DGRAM = 0, 2, 10, 1, 2
SOL_SOCKET, SO_TYPE = 1, 3
MSG_FASTOPEN, MSG_ZEROCOPY = 0x20000000, 0x4000000
MAKES_DESCRIPTOR: Final = frozenset(("socket", "accept", "open", "epoll_create"))
IPPROTO_TCP, TCP_CONGESTION = 6, 13
ADDRESS_SPACE: Final = 128
OPTION_SPACE: Final = 4096
LARGEST: Final = 64 << 20
FIRST_PAGE: Final = 4096  # addresses below it are never mapped
PAGE: Final = 4096
FCNTL: Final = frozenset((0, 1, 2, 3, 4, 1031, 1032))  # F_DUPFD to F_SETFL, F_SETPIPE_SZ, F_GETPIPE_SZ
IOCTL: Final = frozenset(
    constants.SYMBOLS[n]
    for n in ("SIOCINQ", "SIOCOUTQ", "SIOCOUTQNSD", "SIOCATMARK", "FIONBIO", "FIOCLEX", "FIONCLEX", "FIOQSIZE")
)

_libc = ctypes.CDLL(None, use_errno=True)
for _name in ("read", "write", "readv", "writev", "recv", "send", "recvfrom", "sendto", "recvmsg", "sendmsg",
              "sendfile", "splice"):  # fmt: skip
    getattr(_libc, _name).restype = ctypes.c_ssize_t


class Calls:
    """The process's calls: which live descriptor each of the script's numbers names."""

    def __init__(self, wire: Wire, to_script_ns: Callable[[int], int], tolerance_usecs: int) -> None:
        self.wire, self.to_script_ns, self.tolerance_usecs = wire, to_script_ns, tolerance_usecs
        self.fds: dict[int, int] = {}
        self.returns: list[Returned] = []
        self.congestion: Callable[[], str] = lambda: ""
        self._lent: list[Any] = []  # buffers that the kernel may read until the run ends (MSG_ZEROCOPY)

    def invoke(self, call: Call) -> None:
        """Makes a call and compares what it did; raises Unequal or CannotCall."""
        handler: Callable[[Call], None] | None = getattr(self, f"_{call.name}", None)
        if handler is None:
            raise CannotCall(f"{call.name} is not made on the machine's own kernel")
        handler(call)

    def fd(self, arg: Arg) -> int:
        """The live descriptor that an argument names."""
        return self.fds.get(number(arg), NO_DESCRIPTOR)

    def _result(self, call: Call, function: str, *args: Any) -> int:
        """Calls libc and compares result and errno; gives the result."""
        ctypes.set_errno(0)
        got: int = getattr(_libc, function)(*args)
        return self._compared(call, got, ctypes.get_errno())

    def _compared(self, call: Call, got: int, code: int) -> int:
        """Compares a result and its errno; gives the result."""
        value = -code if got < 0 else 0 if call.name in MAKES_DESCRIPTOR else got
        self.returns.append(Returned(call.at.line, call.name, value))
        if isinstance(call.result, Auto):
            return got
        wanted = number(call.result)
        makes = call.name in MAKES_DESCRIPTOR and wanted >= 0
        if not (got >= 0 if makes else got == wanted):
            raise Unequal(f"the result is {_said(got, code)}, expected {printer.argument(call.result)}{_err(call)}")
        if got < 0 and call.errno is not None and code != constants.ERRNO[call.errno]:
            raise Unequal(f"errno is {errno.errorcode.get(code, code)}, expected {call.errno}")
        if makes:
            self.fds[wanted] = got
        return got

    # Sockets

    def _socket(self, call: Call) -> None:
        auto = AF_INET if self.wire.config.variant == "ipv4" else AF_INET6
        domain = auto if isinstance(call.args[0], Auto) else number(call.args[0])
        if domain not in (AF_INET, AF_INET6):
            raise CannotCall(f"sockets of family {domain} are not made: AF_INET and AF_INET6 are")
        got = self._result(call, "socket", domain, number(call.args[1]), number(call.args[2]))
        if got < 0:
            return
        self.wire.made(number(call.result), got)
        name = self.congestion().encode()
        stream = number(call.args[1]) & 0xF == SOCK_STREAM
        if name and stream and _libc.setsockopt(got, IPPROTO_TCP, TCP_CONGESTION, name, len(name)) != 0:
            raise Unequal(f"the congestion control {name.decode()} cannot be had")

    def _address(self, arg: Arg, remote: bool) -> bytes:
        match arg:
            case SockAddr():
                port = None if isinstance(arg.port, Auto) else number(arg.port)
                return self.wire.sockaddr(remote, number(arg.sa_family), port, arg.addr)
            case Auto():
                return self.wire.sockaddr(remote)
            case _:
                return number(arg).to_bytes(2, "little") + bytes(26)

    def _length(self, arg: Arg, natural: int) -> int:
        if isinstance(arg, Auto):
            return natural
        if number(arg) > max(natural, ADDRESS_SPACE):
            raise CannotCall(f"a length of {number(arg)} for a value of {natural} bytes")
        return number(arg)

    def _bind(self, call: Call) -> None:
        address = self._address(call.args[1], remote=False)
        length = self._length(call.args[2], len(address))
        if self._result(call, "bind", self.fd(call.args[0]), _padded(address), length) == 0:
            conn = self.wire.by_fd(number(call.args[0]))
            if conn is not None:
                conn.local_port = int.from_bytes(address[2:4], "big")

    def _listen(self, call: Call) -> None:
        if self._result(call, "listen", self.fd(call.args[0]), number(call.args[1])) == 0:
            conn = self.wire.by_fd(number(call.args[0]))
            if conn is not None:
                conn.state = State.LISTENING

    def _connecting(self, fd: Arg) -> None:
        conn = self.wire.by_fd(number(fd))
        if conn is not None and conn.state is State.INIT:
            conn.state, conn.remote_port = State.ACTIVE, self.wire.config.connect_port

    def _connect(self, call: Call) -> None:
        address = self._address(call.args[1], remote=True)
        if int.from_bytes(address[:2], "little") != AF_UNSPEC:
            self._connecting(call.args[0])
        length = self._length(call.args[2], len(address))
        self._result(call, "connect", self.fd(call.args[0]), _padded(address), length)
        self._chosen(call)

    def _datagram(self, fd: int) -> bool:
        """The descriptor is one of a datagram socket."""
        kind, size = ctypes.c_int(0), ctypes.c_uint32(4)
        done = _libc.getsockopt(fd, SOL_SOCKET, SO_TYPE, ctypes.byref(kind), ctypes.byref(size))
        return bool(done == 0 and kind.value == SOCK_DGRAM)

    def _chosen(self, call: Call) -> None:
        """A datagram socket that had no port has got one: no packet of its own tells it."""
        conn, fd = self.wire.by_fd(number(call.args[0])), self.fd(call.args[0])
        if conn is None or conn.local_port is not None or not self._datagram(fd):
            return
        address, size = ctypes.create_string_buffer(ADDRESS_SPACE), ctypes.c_uint32(ADDRESS_SPACE)
        if _libc.getsockname(fd, address, ctypes.byref(size)) == 0:
            conn.local_port = int.from_bytes(address.raw[2:4], "big") or None

    def _accept(self, call: Call) -> None:
        address = ctypes.create_string_buffer(ADDRESS_SPACE)
        size = ctypes.c_uint32(ADDRESS_SPACE)
        got = self._result(call, "accept", self.fd(call.args[0]), address, ctypes.byref(size))
        if got >= 0:
            self.wire.accepted(number(call.result), got, int.from_bytes(address.raw[2:4], "big"))

    def _close(self, call: Call) -> None:
        if self._result(call, "close", self.fd(call.args[0])) == 0:
            self.wire.closed(number(call.args[0]))
            self.fds.pop(number(call.args[0]), None)

    def _shutdown(self, call: Call) -> None:
        self._result(call, "shutdown", self.fd(call.args[0]), number(call.args[1]))

    # Data

    def _buffer(self, arg: Arg, size: int) -> Any:
        if isinstance(arg, Auto):
            # What is sent without a copy takes the pages that it lies in: it begins with one.
            room = max(_bounded(size), 1)
            area = ctypes.create_string_buffer(room + PAGE)
            return (ctypes.c_char * room).from_buffer(area, -ctypes.addressof(area) % PAGE)
        if not 0 <= number(arg) < FIRST_PAGE:
            raise CannotCall("a buffer is ... or NULL")
        return ctypes.c_void_p(number(arg))

    def _read(self, call: Call) -> None:
        size = number(call.args[2])
        rest = [number(a) for a in call.args[3:4]]
        buffer = self._buffer(call.args[1], size)
        if rest and rest[0] & MSG_ZEROCOPY:
            self._lent.append(buffer)
        self._result(call, call.name, self.fd(call.args[0]), buffer, ctypes.c_size_t(size), *rest)

    _write = _recv = _send = _read

    def _recvfrom(self, call: Call) -> None:
        size = number(call.args[2])
        self._result(call, "recvfrom", self.fd(call.args[0]), self._buffer(call.args[1], size), ctypes.c_size_t(size),
                     number(call.args[3]), None, None)  # fmt: skip

    def _sendto(self, call: Call) -> None:
        size, flags = number(call.args[2]), number(call.args[3])
        none = not isinstance(call.args[4], (Auto, SockAddr)) and number(call.args[4]) == 0
        address = None if none else self._address(call.args[4], remote=True)
        if address is not None:
            self._connecting(call.args[0])
        buffer = self._buffer(call.args[1], size)
        if flags & MSG_ZEROCOPY:
            self._lent.append(buffer)
        self._result(call, "sendto", self.fd(call.args[0]), buffer, ctypes.c_size_t(size),
                     flags, address and _padded(address), self._length(call.args[5], len(address or b"")))  # fmt: skip
        self._chosen(call)

    def _iov(self, arg: Arg | None) -> list[int]:
        items = arg.items if isinstance(arg, Items) else ()
        sizes = [_bounded(number(x.len)) for x in items if isinstance(x, IoVec)]
        _bounded(sum(sizes))
        return sizes

    def _readv(self, call: Call) -> None:
        sizes = self._iov(call.args[1])
        count = _counted(number(call.args[2]), len(sizes))
        buffers = Buffers(sizes)
        self._result(call, call.name, self.fd(call.args[0]), buffers.vector, count)

    _writev = _readv

    def _sendmsg(self, call: Call) -> None:
        msg, flags = _msghdr(call), number(call.args[2])
        named = isinstance(msg.name, Auto) and (flags & MSG_FASTOPEN or self._datagram(self.fd(call.args[0])))
        address = self.wire.sockaddr(remote=True) if named else b""
        if address:
            self._connecting(call.args[0])
        buffers = Buffers(self._iov(msg.iov), address, msg.control or ())
        if flags & MSG_ZEROCOPY:
            self._lent.append(buffers)
        self._result(call, "sendmsg", self.fd(call.args[0]), ctypes.byref(buffers.msghdr), flags)
        self._chosen(call)

    def _recvmsg(self, call: Call) -> None:
        msg = _msghdr(call)
        buffers = Buffers(self._iov(msg.iov), bytes(ADDRESS_SPACE), None)
        got = self._result(call, "recvmsg", self.fd(call.args[0]), ctypes.byref(buffers.msghdr), number(call.args[2]))
        if got < 0:
            return
        if msg.flags is not None and not isinstance(msg.flags, Auto) and buffers.msghdr.flags != number(msg.flags):
            raise Unequal(f"msg_flags is {buffers.msghdr.flags:#x}, expected {printer.argument(msg.flags)}")
        if msg.control is not None:
            wrong = compare_control(msg.control, buffers.control(), self.to_script_ns, self.tolerance_usecs)
            if wrong:
                raise Unequal(wrong)

    def _open(self, call: Call) -> None:
        path = call.args[0]
        if not isinstance(path, Text) or not path.value.startswith(b"/tmp/") or b".." in path.value:
            raise CannotCall("only files under /tmp are opened, and that /tmp is the run's own")
        mode = number(call.args[2]) if len(call.args) > 2 else 0o600
        self._result(call, "open", path.value, number(call.args[1]), mode)

    def _offset(self, arg: Arg) -> Any:
        value = arg.items[0] if isinstance(arg, Items) and arg.items else arg
        if isinstance(value, (Auto, Items)) or (not isinstance(arg, Items) and number(value) == 0):
            return None
        return ctypes.byref(ctypes.c_int64(number(value)))

    def _sendfile(self, call: Call) -> None:
        size = ctypes.c_size_t(number(call.args[3]))
        self._result(call, "sendfile", self.fd(call.args[0]), self.fd(call.args[1]), self._offset(call.args[2]), size)

    def _splice(self, call: Call) -> None:
        source, at, dest, to, size, flags = call.args
        self._result(call, "splice", self.fd(source), self._offset(at), self.fd(dest), self._offset(to),
                     ctypes.c_size_t(number(size)), number(flags))  # fmt: skip

    def _pipe(self, call: Call) -> None:
        pair = (ctypes.c_int * 2)()
        if self._result(call, "pipe", pair) == 0 and isinstance(call.args[0], Items):
            for arg, live in zip(call.args[0].items, pair, strict=False):
                self.fds[number(arg)] = live

    # Capabilities and keys

    def _cap_set(self, call: Call) -> None:
        which, cap, op = (number(arg) for arg in call.args)
        done = cap_set(which, cap, op)
        self._compared(call, min(done, 0) and -1, -done)

    def _psp_rx_assoc(self, call: Call) -> None:
        error = genl_family("psp")
        if error == 0:
            raise CannotCall("this kernel has PSP: the runner has no device whose keys could be associated")
        self._compared(call, -1, -error)

    _psp_tx_assoc = _psp_rx_assoc

    # Settings

    def _fcntl(self, call: Call) -> None:
        if number(call.args[1]) not in FCNTL:
            raise CannotCall("fcntl has F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL and F_SETPIPE_SZ here")
        self._result(call, "fcntl", self.fd(call.args[0]), *[number(a) for a in call.args[1:]])

    def _ioctl(self, call: Call) -> None:
        wanted = call.args[2] if len(call.args) > 2 else Number(value=0)
        item = wanted.items[0] if isinstance(wanted, Items) and wanted.items else wanted
        value = ctypes.c_int(0 if isinstance(item, (Auto, Items)) else number(item))
        before = value.value
        if number(call.args[1]) not in IOCTL:
            raise CannotCall("ioctl has SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK and FIONBIO here")
        code = ctypes.c_ulong(number(call.args[1]))
        if self._result(call, "ioctl", self.fd(call.args[0]), code, ctypes.byref(value)) == 0 and value.value != before:
            raise Unequal(f"the value is {value.value}, expected {before}")

    def _setsockopt(self, call: Call) -> None:
        value = sockopt_bytes(call.args[3])
        level, name = number(call.args[1]), number(call.args[2])
        length = self._length(call.args[4], len(value))
        padded = value.ljust(ADDRESS_SPACE, b"\0")
        self._result(call, "setsockopt", self.fd(call.args[0]), level, name, padded, length)

    def _getsockopt(self, call: Call) -> None:
        length = call.args[4]
        item = length.items[0] if isinstance(length, Items) and length.items else length
        size = ADDRESS_SPACE if isinstance(item, (Auto, Items)) else number(item)
        if not 0 <= size <= OPTION_SPACE:
            raise CannotCall(f"a length of {size}: at most {OPTION_SPACE} is asked for")
        buffer = ctypes.create_string_buffer(OPTION_SPACE)
        live = ctypes.c_uint32(size)
        level, name = number(call.args[1]), number(call.args[2])
        if self._result(call, "getsockopt", self.fd(call.args[0]), level, name, buffer, ctypes.byref(live)) == 0:
            wrong = compare_sockopt(call.args[3], buffer.raw[: live.value])
            if not wrong and not isinstance(item, (Auto, Items)) and live.value != size:
                wrong = f"the length is {live.value}, expected {size}"
            if wrong:
                raise Unequal(wrong)

    # Waiting

    def _poll(self, call: Call) -> None:
        entries = [x for x in (call.args[0].items if isinstance(call.args[0], Items) else ()) if isinstance(x, PollFd)]
        packed = b"".join(struct.pack("ihh", self.fd(e.fd), number(e.events), 0) for e in entries)
        buffer = ctypes.create_string_buffer(packed, max(len(packed), 1))
        count = ctypes.c_ulong(_counted(number(call.args[1]), len(entries)))
        if self._result(call, "poll", buffer, count, number(call.args[2])) >= 0:
            for n, entry in enumerate(entries):
                revents = struct.unpack_from("ihH", buffer.raw, 8 * n)[2]
                if entry.revents is not None and revents != number(entry.revents):
                    wanted = printer.argument(entry.revents)
                    raise Unequal(f"revents of entry {n + 1} is {revents:#x}, expected {wanted}")

    def _epoll_create(self, call: Call) -> None:
        self._result(call, "epoll_create", number(call.args[0]))

    def _epoll_data(self, event: EpollEvent) -> int:
        return number(event.data)

    def _epoll_ctl(self, call: Call) -> None:
        event, packed = call.args[3], None
        if isinstance(event, EpollEvent):
            packed = struct.pack("<IQ", number(event.events) & 0xFFFFFFFF, self._epoll_data(event) & (1 << 64) - 1)
        self._result(call, "epoll_ctl", self.fd(call.args[0]), number(call.args[1]), self.fd(call.args[2]), packed)

    def _epoll_wait(self, call: Call) -> None:
        most = number(call.args[2])
        buffer = ctypes.create_string_buffer(12 * max(_bounded(most), 1) if most > 0 else 12)
        got = self._result(call, "epoll_wait", self.fd(call.args[0]), buffer, most, number(call.args[3]))
        event = call.args[1]
        if got <= 0 or not isinstance(event, EpollEvent):
            return
        events, data = struct.unpack_from("<IQ", buffer.raw)
        if events != number(event.events) & 0xFFFFFFFF:
            raise Unequal(f"events is {events:#x}, expected {printer.argument(event.events)}")
        if data != self._epoll_data(event) & (1 << 64) - 1:
            raise Unequal(f"{event.member} is {data:#x}, expected {printer.argument(event.data)}")


def _bounded(size: int) -> int:
    """A size that the runner has memory for; raises CannotCall."""
    if not 0 <= size <= LARGEST:
        raise CannotCall(f"a buffer of {size} bytes: from 0 to {LARGEST} are made")
    return size


def _padded(address: bytes) -> bytes:
    """An address with room behind it, whatever length the script gives it."""
    return address.ljust(ADDRESS_SPACE, b"\0")


def _counted(count: int, entries: int) -> int:
    """A count that its list bears out; raises CannotCall."""
    if not 0 <= count <= entries:
        raise CannotCall(f"a count of {count} for a list of {entries}")
    return count


def _msghdr(call: Call) -> MsgHdr:
    msg = call.args[1]
    if not isinstance(msg, MsgHdr):
        raise CannotCall(f"{call.name} without a struct msghdr")
    return msg


def _said(got: int, code: int) -> str:
    return f"{got} {errno.errorcode.get(code, code)}" if got < 0 else str(got)


def _err(call: Call) -> str:
    return f" {call.errno}" if call.errno else ""
