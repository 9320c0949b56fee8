"""A datagram socket's life: connected, disconnected, shut down, closed (net/ipv4/datagram.c, net/ipv6/datagram.c).

The law: to connect sends nothing. It names the only peer that is heard, and whose ICMP errors are told.
"""

import errno
from typing import TYPE_CHECKING, Final

from refmodel.rule import NotModelled, cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import bind, errqueue, ipv4, poll, route, stream
from refmodel.tcp.whole.const import SHUTDOWN_MASK
from refmodel.tcp.whole.skb import SockAddr
from refmodel.udp import output, table
from refmodel.udp.sock import AF_INET, AF_INET6, UdpSock

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

AF_UNSPEC: Final = 0
SOCK_BINDADDR_LOCK: Final = 4
SOCK_BINDPORT_LOCK: Final = 8


@cited("net/ipv4/udp.c:udp_init_sock", "include/net/udp.h:udp_lib_init_sock")
def udp_sock(net: "Net", family: int) -> UdpSock:
    """A new UDP socket."""
    sk = UdpSock(net, family)
    sk.pmtudisc = 0 if net.p.ip_no_pmtu_disc else 1
    sk.sk_sndbuf = net.p.wmem_default
    sk.sk_rcvbuf = net.p.rmem_default
    sk.sk_ipv6only = family == AF_INET6 and bool(net.p.bindv6only)
    sk.forward_threshold = sk.sk_rcvbuf >> 2
    return sk


@cited("net/ipv4/af_inet.c:inet_dgram_connect")
def inet_dgram_connect(sk: UdpSock, uaddr: SockAddr) -> int:
    """connect(2): 0, or a negative errno; AF_UNSPEC disconnects."""
    if uaddr.len < 2:
        return -errno.EINVAL
    if uaddr.family == AF_UNSPEC:
        stream.lock_sock(sk)
        udp_disconnect(sk)
        stream.release_sock(sk)
        return 0
    if not sk.inet_num:
        if sk.get_port(0):
            return -errno.EAGAIN
        sk.inet_sport = sk.inet_num
    stream.lock_sock(sk)
    err = _ip6_datagram_connect(sk, uaddr) if sk.sk_family == AF_INET6 else _ip4_datagram_connect(sk, uaddr)
    stream.release_sock(sk)
    return err


@cited("net/ipv4/datagram.c:__ip4_datagram_connect")
def _ip4_datagram_connect(sk: UdpSock, uaddr: SockAddr) -> int:
    """Names an IPv4 peer; without an address of its own the socket gets the one that routing chooses."""
    if uaddr.len < 16:
        return -errno.EINVAL
    if uaddr.family != AF_INET:
        return -errno.EAFNOSUPPORT
    net, daddr = sk.net, uaddr.addr or bytes(4)
    if not any(daddr):
        daddr = sk.inet_saddr if len(sk.inet_saddr) == 4 and any(sk.inet_saddr) else ipv4.LOOPBACK4
    if 224 <= daddr[0] < 240:
        raise NotModelled("datagrams to groups")
    if daddr == output.BROADCAST and "SOCK_BROADCAST" not in sk.sk_flags:
        return -errno.EACCES
    sk.mapped = sk.sk_family == AF_INET6
    _connected(sk, daddr, uaddr.port, ipv4.source_address(net, daddr))
    return 0


@cited("net/ipv6/datagram.c:__ip6_datagram_connect")
def _ip6_datagram_connect(sk: UdpSock, uaddr: SockAddr) -> int:
    """Names an IPv6 peer, or an IPv4 one by its mapped address."""
    if uaddr.family == AF_INET:
        return -errno.EAFNOSUPPORT if sk.sk_ipv6only else _ip4_datagram_connect(sk, uaddr)
    if uaddr.len < 24:
        return -errno.EINVAL
    if uaddr.family != AF_INET6:
        return -errno.EAFNOSUPPORT
    daddr = uaddr.addr
    if bind.is_any(daddr):
        v4 = len(sk.inet_rcv_saddr) == 4 and any(sk.inet_rcv_saddr)
        daddr = ipv4.MAPPED + ipv4.LOOPBACK4 if v4 else ipv4.LOOPBACK6
    if ipv4.is_mapped(daddr):
        if sk.sk_ipv6only:
            return -errno.ENETUNREACH
        return _ip4_datagram_connect(sk, SockAddr(AF_INET, daddr[12:], uaddr.port))
    if daddr[0] == 0xFF:
        raise NotModelled("datagrams to groups")
    if daddr[0] == 0xFE and daddr[1] & 0xC0 == 0x80 and not sk.inet_opts.get("bound_dev_if"):
        return -errno.EINVAL
    sk.mapped = False
    _connected(sk, daddr, uaddr.port, ipv4.source_address(sk.net, daddr))
    return 0


def _connected(sk: UdpSock, daddr: bytes, dport: int, saddr: bytes) -> None:
    if bind.is_any(sk.inet_saddr):
        sk.inet_saddr = saddr
    if bind.is_any(sk.inet_rcv_saddr):
        sk.inet_rcv_saddr = saddr
    sk.inet_daddr = daddr
    sk.inet_dport = dport
    sk.sk_state = St.ESTABLISHED
    sk.sk_txhash = sk.net.random() or 1
    sk.sk_dst = route.ip_route_output(sk.net, daddr)


@cited("net/ipv4/udp.c:__udp_disconnect")
def udp_disconnect(sk: UdpSock) -> None:
    """Forgets the peer, and what bind() hadn't asked for of address and port."""
    sk.sk_state = St.CLOSE
    sk.inet_daddr = b""
    sk.inet_dport = 0
    sk.mapped = False
    sk.inet_opts.pop("bound_dev_if", None)
    if not sk.sk_userlocks & SOCK_BINDADDR_LOCK:
        sk.inet_saddr = sk.inet_rcv_saddr = b""
    if not sk.sk_userlocks & SOCK_BINDPORT_LOCK:
        table.udp_lib_unhash(sk)
        sk.inet_sport = 0
    sk.sk_dst = None


@cited("net/ipv4/af_inet.c:inet_shutdown")
def inet_shutdown(sk: UdpSock, how: int) -> int:
    """shutdown(2): 0, or a negative errno; a socket without a peer is shut down too, and told that it has none."""
    how += 1
    if how & ~SHUTDOWN_MASK or not how:
        return -errno.EINVAL
    sk.sk_shutdown |= how
    poll.sk_state_change(sk)
    return -errno.ENOTCONN if sk.sk_state == St.CLOSE else 0


@cited("net/ipv4/udp.c:udp_destroy_sock", "include/net/udp.h:udp_lib_close", "net/core/sock.c:sk_common_release")
def udp_close(sk: UdpSock) -> None:
    """The last descriptor is gone: what is corked or unread goes with it."""
    sk.sk_flags.add("SOCK_DEAD")
    sk.has_socket = False
    sk.sk_wq = []
    output.udp_flush_pending_frames(sk)
    table.udp_lib_unhash(sk)
    for skb in (*sk.reader_queue, *sk.sk_receive_queue):
        sk.sk_rmem_alloc -= skb.truesize
    sk.reader_queue.clear()
    sk.sk_receive_queue.clear()
    for entry in sk.sk_error_queue:
        errqueue.free_err_skb(sk, entry)
    sk.sk_error_queue.clear()


@cited("net/ipv4/udp.c:udp_abort")
def udp_abort(sk: UdpSock, err: int) -> int:
    """An administrator ends the association with an error: 0."""
    if "SOCK_DEAD" not in sk.sk_flags:
        sk.sk_err = err
        poll.sk_error_report(sk)
        udp_disconnect(sk)
    return 0
