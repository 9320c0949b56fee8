"""The descriptor of a datagram socket (net/ipv4/af_inet.c:inet_dgram_ops); its import makes SOCK_DGRAM known."""

import errno
from collections.abc import Generator
from typing import Final

from refmodel.rule import cited
from refmodel.tcp.whole import errqueue, poll
from refmodel.tcp.whole.const import RCV_SHUTDOWN, SHUTDOWN_MASK
from refmodel.tcp.whole.net import Wait
from refmodel.tcp.whole.poll import O_NONBLOCK, Blocking
from refmodel.tcp.whole.skb import MsgHdr, SockAddr
from refmodel.tcp.whole.sockfile import Protosw, SocketFile, register
from refmodel.udp import datagram, input, opt, output
from refmodel.udp.sock import IPPROTO_UDP, SOCK_DGRAM, UdpSock

SIOCINQ: Final = 0x541B
SIOCOUTQ: Final = 0x5411


class DgramFile(SocketFile):
    """A descriptor of a UDP socket."""

    sk: UdpSock

    @cited("net/ipv4/udp.c:udp_poll", "net/core/datagram.c:datagram_poll")
    def poll(self) -> int:
        """The socket's events now; a blocking reader is not promised a datagram whose checksum is wrong."""
        sk, mask = self.sk, 0
        if sk.sk_err or sk.sk_error_queue:
            mask |= poll.EPOLLERR | (poll.EPOLLPRI if "SOCK_SELECT_ERR_QUEUE" in sk.sk_flags else 0)
        if sk.sk_shutdown & RCV_SHUTDOWN:
            mask |= poll.EPOLLRDHUP | poll.EPOLLIN | poll.EPOLLRDNORM
        if sk.sk_shutdown == SHUTDOWN_MASK:
            mask |= poll.EPOLLHUP
        if sk.sk_receive_queue or sk.reader_queue:
            mask |= poll.EPOLLIN | poll.EPOLLRDNORM
        if sk.sk_wmem_alloc < sk.sk_sndbuf >> 1:
            mask |= poll.EPOLLOUT | poll.EPOLLWRNORM | poll.EPOLLWRBAND
        else:
            sk.sk_nospace = True
        readable = mask & poll.EPOLLRDNORM and not self.flags & O_NONBLOCK and not sk.sk_shutdown & RCV_SHUTDOWN
        if readable and input.first_packet_length(sk) == -1:
            mask &= ~(poll.EPOLLIN | poll.EPOLLRDNORM)
        return mask

    def connect(self, addr: SockAddr) -> Blocking:
        """Names the peer, or none (AF_UNSPEC)."""
        return datagram.inet_dgram_connect(self.sk, addr)
        yield

    def shutdown(self, how: int) -> int:
        """Ends one direction or both."""
        return datagram.inet_shutdown(self.sk, how)

    def sendmsg(self, msg: MsgHdr, n: int) -> Blocking:
        """Sends a datagram, or a part of one."""
        return (yield from output.udp_sendmsg(self.sk, msg, n))

    def splice_eof(self) -> None:
        """What waits for more goes; source net/ipv4/udp.c:udp_splice_eof."""
        if self.sk.pending and not self.sk.corkflag:
            output.udp_push_pending_frames(self.sk)

    def recvmsg(self, msg: errqueue.RecvMsg, n: int, flags: int, fault: bool = False) -> Blocking:
        """Reads a datagram."""
        return (yield from input.udp_recvmsg(self.sk, msg, n, flags, fault))

    @cited("net/ipv4/udp.c:udp_ioctl")
    def ioctl(self, cmd: int) -> tuple[int, int]:
        """The size of the next datagram to read, or the memory of what waits to be sent."""
        if cmd == SIOCOUTQ:
            return 0, self.sk.sk_wmem_alloc
        if cmd == SIOCINQ:
            return 0, max(0, input.first_packet_length(self.sk))
        return -errno.ENOTTY, 0

    def setsockopt(self, level: int, optname: int, optval: bytes) -> int:
        """Sets an option."""
        return opt.udp_setsockopt(self.sk, level, optname, optval)

    def getsockopt(self, level: int, optname: int, length: int) -> tuple[int, bytes]:
        """Reads an option."""
        return opt.udp_getsockopt(self.sk, level, optname, length)

    def close(self, timeout: int) -> Generator[Wait, bool, None]:
        """The socket goes at once."""
        datagram.udp_close(self.sk)
        return
        yield


register(SOCK_DGRAM, Protosw(IPPROTO_UDP, datagram.udp_sock, DgramFile))
