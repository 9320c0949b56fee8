"""Descriptors of sockets: struct socket, and what each call does on a socket of its kind (struct proto_ops).

The law: a call on a descriptor is the protocol's. What a protocol leaves out answers as sock_no_listen() and its
kin do. A protocol joins by `register`, as inet_register_protosw() lets it; TCP is there from the beginning.
"""

import errno
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from refmodel.rule import NotModelled, cited
from refmodel.tcp.whole import errqueue, files, inet, poll, recvmsg, sendmsg, sockopt, stream
from refmodel.tcp.whole.net import Net, Wait
from refmodel.tcp.whole.poll import O_NONBLOCK, O_RDWR, Blocking, File, WaitEntry
from refmodel.tcp.whole.skb import MsgHdr, SockAddr
from refmodel.tcp.whole.sock import InetSock, Sock

if TYPE_CHECKING:
    from refmodel.tcp.whole.calls import Process

MSG_DONTWAIT: Final = 0x40
SOCK_STREAM: Final = 1
UNKNOWN_TYPES: Final = frozenset((3, 5, 6, 10))  # SOCK_RAW, SOCK_SEQPACKET, SOCK_DCCP, SOCK_PACKET
UNKNOWN_PROTOCOLS: Final = frozenset((1, 58, 132, 136, 262))  # ping sockets, SCTP, UDP-Lite, MPTCP
Accepted = Generator[Wait, bool, "SocketFile | int"]


class SocketFile(File):
    """A descriptor of a socket; source net/socket.c:socket_file_ops."""

    sk: InetSock

    def __init__(self, sk: InetSock, flags: int = 0) -> None:
        super().__init__(O_RDWR | flags)
        self.sk = sk

    def wait_queue(self) -> list[WaitEntry]:
        """Who waits for the socket's events."""
        return self.sk.sk_wq

    def noblock(self) -> int:
        """MSG_DONTWAIT if the descriptor never blocks."""
        return MSG_DONTWAIT if self.flags & O_NONBLOCK else 0

    def read(self, proc: "Process", n: int) -> Blocking:
        """read(2)."""
        return (yield from sock_read_iter(self, n))

    def write(self, proc: "Process", n: int) -> Blocking:
        """write(2)."""
        return (yield from sock_write_iter(self, n))

    def release(self, proc: "Process") -> Blocking:
        """The last descriptor is closed: so is the socket; source net/ipv4/af_inet.c:inet_release."""
        timeout = stream.sock_lingertime(self.sk) if "SOCK_LINGER" in self.sk.sk_flags and not proc.exiting else 0
        yield from self.close(timeout)
        return 0

    # struct proto_ops and struct proto

    def bind(self, addr: SockAddr) -> int:
        """bind(2): 0, or a negative errno."""
        return inet.inet_bind(self.sk, addr)

    def listen(self, backlog: int) -> int:
        """listen(2); source net/core/sock.c:sock_no_listen."""
        return -errno.EOPNOTSUPP

    def accept(self, flags: int) -> Accepted:
        """accept(2); source net/core/sock.c:sock_no_accept."""
        return -errno.EOPNOTSUPP
        yield

    def connect(self, addr: SockAddr) -> Blocking:
        """connect(2): 0, or a negative errno."""
        raise NotImplementedError

    def getname(self, peer: int) -> SockAddr | int:
        """getsockname(2), getpeername(2)."""
        return inet.inet_getname(self.sk, peer)

    def shutdown(self, how: int) -> int:
        """shutdown(2)."""
        raise NotImplementedError

    def sendmsg(self, msg: MsgHdr, n: int) -> Blocking:
        """Sends `n` bytes: how many went, or a negative errno."""
        raise NotImplementedError

    def splice_eof(self) -> None:
        """A sendfile ends earlier than was said: what waits for more goes (proto_ops->splice_eof)."""
        raise NotImplementedError

    def recvmsg(self, msg: errqueue.RecvMsg, n: int, flags: int, fault: bool = False) -> Blocking:
        """Receives up to `n` bytes."""
        raise NotImplementedError

    def ioctl(self, cmd: int) -> tuple[int, int]:
        """ioctl(2): (0 or a negative errno, answer)."""
        raise NotImplementedError

    def setsockopt(self, level: int, optname: int, optval: bytes) -> int:
        """setsockopt(2): 0, or a negative errno."""
        return sockopt.do_sock_setsockopt(self.sk, level, optname, optval)

    def getsockopt(self, level: int, optname: int, length: int) -> tuple[int, bytes]:
        """getsockopt(2): (0 or a negative errno, value)."""
        return sockopt.do_sock_getsockopt(self.sk, level, optname, length)

    def close(self, timeout: int) -> Generator[Wait, bool, None]:
        """The socket's last descriptor is gone; it may linger for `timeout` jiffies."""
        raise NotImplementedError


# net/socket.c: from the descriptor to the protocol


@cited("net/socket.c:sock_read_iter")
def sock_read_iter(file: SocketFile, n: int) -> Blocking:
    """A read; nothing asked for is nothing read."""
    if not n:
        return 0
    return (yield from sock_recvmsg(file, errqueue.RecvMsg(), n, file.noblock()))


@cited("net/socket.c:sock_write_iter")
def sock_write_iter(file: SocketFile, n: int) -> Blocking:
    """A write is a sendmsg without address, flags and control messages."""
    return (yield from __sock_sendmsg(file, MsgHdr(n, file.noblock()), n))


@cited("net/socket.c:__sock_sendmsg")
def __sock_sendmsg(file: SocketFile, msg: MsgHdr, n: int) -> Blocking:
    """What a security module has nothing against is sent."""
    return (yield from sock_sendmsg_nosec(file, msg, n))


@cited("net/socket.c:sock_sendmsg_nosec")
def sock_sendmsg_nosec(file: SocketFile, msg: MsgHdr, n: int) -> Blocking:
    """The family's sendmsg: AF_INET and AF_INET6 share the way on from here."""
    return (yield from inet_sendmsg(file, msg, n))


@cited("net/ipv4/af_inet.c:inet_sendmsg", "net/ipv6/af_inet6.c:inet6_sendmsg")
def inet_sendmsg(file: SocketFile, msg: MsgHdr, n: int) -> Blocking:
    """The protocol's sendmsg, tcp_sendmsg or udp_sendmsg."""
    return (yield from file.sendmsg(msg, n))


@cited("net/socket.c:sock_recvmsg")
def sock_recvmsg(file: SocketFile, msg: errqueue.RecvMsg, n: int, flags: int, fault: bool = False) -> Blocking:
    """What a security module has nothing against is received."""
    return (yield from inet_recvmsg(file, msg, n, flags, fault))


@cited("net/ipv4/af_inet.c:inet_recvmsg", "net/ipv6/af_inet6.c:inet6_recvmsg")
def inet_recvmsg(file: SocketFile, msg: errqueue.RecvMsg, n: int, flags: int, fault: bool = False) -> Blocking:
    """The protocol's recvmsg, tcp_recvmsg or udp_recvmsg."""
    return (yield from file.recvmsg(msg, n, flags, fault))


class StreamFile(SocketFile):
    """A descriptor of a TCP socket; source net/ipv4/af_inet.c:inet_stream_ops, net/ipv4/tcp_ipv4.c:tcp_prot."""

    sk: Sock

    def poll(self) -> int:
        """The socket's events now."""
        return poll.tcp_poll(self.sk)

    def listen(self, backlog: int) -> int:
        """Makes the socket a listener."""
        return inet.inet_listen(self.sk, backlog)

    def accept(self, flags: int) -> Accepted:
        """The next connection."""
        newsk = yield from inet.inet_accept(self.sk, flags | self.flags)
        return newsk if isinstance(newsk, int) else StreamFile(newsk, flags)

    def connect(self, addr: SockAddr) -> Blocking:
        """Opens a connection, or ends it (AF_UNSPEC)."""
        return (yield from inet.inet_stream_connect(self.sk, addr, bool(self.flags & O_NONBLOCK)))

    def shutdown(self, how: int) -> int:
        """Ends one direction or both."""
        return inet.inet_shutdown(self.sk, how)

    def sendmsg(self, msg: MsgHdr, n: int) -> Blocking:
        """Queues bytes of the stream."""
        return (yield from sendmsg.tcp_sendmsg(self.sk, msg, n))

    def splice_eof(self) -> None:
        """What waits for more goes."""
        sendmsg.tcp_splice_eof(self.sk)

    def recvmsg(self, msg: errqueue.RecvMsg, n: int, flags: int, fault: bool = False) -> Blocking:
        """Reads bytes of the stream."""
        return (yield from recvmsg.tcp_recvmsg(self.sk, msg, n, flags, fault))

    def ioctl(self, cmd: int) -> tuple[int, int]:
        """What is unread, unacknowledged, unsent."""
        return files.tcp_ioctl(self.sk, cmd)

    def close(self, timeout: int) -> Generator[Wait, bool, None]:
        """The application lets go of the connection."""
        yield from inet.tcp_close(self.sk, timeout)


class Protosw:
    """struct inet_protosw: `protocol`, how its sockets are made, and what stands behind their descriptors."""

    __slots__ = ("file", "make", "protocol")

    def __init__(self, protocol: int, make: Callable[[Net, int], Any], file: type[SocketFile]) -> None:
        self.protocol = protocol
        self.make = make
        self.file = file


INETSW: Final[dict[int, Protosw]] = {SOCK_STREAM: Protosw(inet.IPPROTO_TCP, inet.tcp_sock, StreamFile)}
"""By the socket's type."""


def register(type: int, protosw: Protosw) -> None:
    """A protocol joins; source net/ipv4/af_inet.c:inet_register_protosw."""
    INETSW[type] = protosw


@cited("net/socket.c:__sock_create", "net/ipv4/af_inet.c:inet_create", "net/ipv6/af_inet6.c:inet6_create")
def sock_create(net: Net, family: int, type: int, protocol: int, flags: int = 0) -> SocketFile | int:
    """A new socket with its descriptor's file, or a negative errno."""
    if not 0 <= family < inet.NPROTO:
        return -errno.EAFNOSUPPORT
    if not 0 <= type < inet.SOCK_MAX:
        return -errno.EINVAL
    if family not in (inet.AF_INET, inet.AF_INET6):
        raise NotModelled(f"sockets of family {family}")
    if not 0 <= protocol < inet.IPPROTO_MAX:
        return -errno.EINVAL
    if type in UNKNOWN_TYPES:
        raise NotModelled(f"sockets of type {type}")
    protosw = INETSW.get(type)
    if protosw is None:
        return -errno.ESOCKTNOSUPPORT
    if protocol not in (0, protosw.protocol):
        if protocol in UNKNOWN_PROTOCOLS:
            raise NotModelled(f"protocol {protocol} over sockets of type {type}")
        return -errno.EPROTONOSUPPORT
    return protosw.file(protosw.make(net, family), flags)
