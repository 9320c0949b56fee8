"""From the device to the application: which socket, is there room, what a read gives; and ICMP errors.

The law: a datagram is kept whole or dropped, and a read takes one of them whatever its size. Memory that a reader has
freed is given back in one go, once it is a quarter of the receive buffer or the reader has taken all there was.
"""

import errno
from struct import pack
from typing import TYPE_CHECKING, Final

from refmodel.icmp import send as icmp_send
from refmodel.rule import NotModelled, cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import errqueue, ipopt, poll, rcvbuf, route, stream
from refmodel.tcp.whole.const import PAGE_SIZE, RCV_SHUTDOWN
from refmodel.tcp.whole.icmp import ICMP_ERR_CONVERT, icmpv6_err_convert
from refmodel.tcp.whole.poll import Blocking, WaitEntry, add_wait_queue, remove_wait_queue, wait_woken
from refmodel.tcp.whole.skb import IcmpError, SockAddr
from refmodel.udp import table
from refmodel.udp.sock import AF_INET, AF_INET6, UDP_HLEN, Datagram, RxSkb, UdpSock

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

MSG_PEEK: Final = 0x2
MSG_TRUNC: Final = 0x20
MSG_DONTWAIT: Final = 0x40
MSG_ERRQUEUE: Final = 0x2000
SO_MARK: Final = 36
SO_RXQ_OVFL: Final = 40
SOL_UDP: Final = 17
INT_MAX: Final = 0x7FFFFFFF
ICMP_DEST_UNREACH: Final = 3
ICMP_SOURCE_QUENCH: Final = 4
ICMP_REDIRECT: Final = 5
ICMP_TIME_EXCEEDED: Final = 11
ICMP_PARAMETERPROB: Final = 12
ICMP_FRAG_NEEDED: Final = 4
ICMP_PORT_UNREACH: Final = 3
ICMPV6_DEST_UNREACH: Final = 1
ICMPV6_PKT_TOOBIG: Final = 2
ICMPV6_PORT_UNREACH: Final = 4
NDISC_REDIRECT: Final = 137
FATAL: Final = frozenset((2, 3, 6, 7, 8, 9, 10, 13, 14, 15))
"""Codes of an unreachable destination that end what waits for an answer (icmp_err_convert's fatal)."""


def _count(net: "Net", v4: bool, name: str) -> None:
    net.count(f"Udp{'' if v4 else '6'}{name}")


# ---------------------------------------------------------------- datagrams that arrive


@cited("net/ipv4/udp.c:udp_rcv", "net/ipv4/udp.c:__udp4_lib_rcv", "net/ipv6/udp.c:__udp6_lib_rcv", "RFC 1122 4.1.3")
def udp_rcv(net: "Net", packet: Datagram) -> None:
    """A datagram arrives from IP: to its socket, or to nobody, which its sender is told."""
    v4 = len(packet.saddr) == 4
    if packet.frag is not None:
        raise NotModelled("fragments that arrive")
    if packet.ulen > packet.len + UDP_HLEN or packet.ulen < UDP_HLEN:
        _count(net, v4, "InErrors")
        return
    sk = table.udp_lib_lookup(net, packet.saddr, packet.sport, packet.daddr, packet.dport)
    no_sum = not v4 and not packet.check and not (sk is not None and sk.no_check6_rx)
    if no_sum or (sk is None and packet.check and packet.bad_csum):
        _count(net, v4, "InCsumErrors")
        _count(net, v4, "InErrors")
        return
    if sk is not None:
        udp_queue_rcv_skb(sk, packet)
        return
    _count(net, v4, "NoPorts")
    net.note("udp_rcv", f"nobody has port {packet.dport}")
    if net.below is not None:
        net.below.port_unreachable()
    elif v4:
        icmp_send.icmp_send(net, packet.saddr, packet.daddr, packet.tos, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH,
                            20 + packet.ulen)  # fmt: skip
    else:
        icmp_send.icmpv6_send(net, packet.saddr, packet.daddr, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH,
                              40 + packet.ulen)  # fmt: skip


@cited("net/ipv4/udp.c:udp_queue_rcv_skb", "net/ipv4/udp.c:udp_queue_rcv_one_skb", "net/ipv4/udp.c:__udp_queue_rcv_skb")
def udp_queue_rcv_skb(sk: UdpSock, packet: Datagram) -> int:
    """Charges a datagram to its socket: 0, or -1 if there is no room."""
    net, v4 = sk.net, len(packet.saddr) == 4
    header = 20 if v4 else 40
    truesize = packet.truesize or rcvbuf.tun_truesize(header + UDP_HLEN + packet.len, net.p)
    rc = udp_enqueue_schedule_skb(sk, RxSkb(packet, truesize, net.now))
    if rc:
        _count(net, v4, "RcvbufErrors" if rc == -errno.ENOMEM else "MemErrors")
        _count(net, v4, "InErrors")
        return -1
    return 0


@cited("net/ipv4/udp.c:__udp_enqueue_schedule_skb")
def udp_enqueue_schedule_skb(sk: UdpSock, skb: RxSkb) -> int:
    """A datagram joins the receive queue: 0, or -ENOMEM where there is no room.

    Up to 6.12 one more is taken than fits; 6.18 takes one that does not fit only if nothing else is there.
    """
    rmem, limit, size = sk.sk_rmem_alloc, sk.sk_rcvbuf, skb.truesize
    if sk.net.p.kernel < 612:
        full = rmem > limit
    else:
        beyond = rmem > (0 if sk.net.p.kernel >= 618 else limit)
        full = rmem + size > limit and (limit > INT_MAX >> 1 or beyond)
    if full:
        sk.sk_drops += 1
        return -errno.ENOMEM
    sk.sk_rmem_alloc += size
    if size > sk.sk_forward_alloc:
        sk.sk_forward_alloc += size - sk.sk_forward_alloc + PAGE_SIZE - 1 & ~(PAGE_SIZE - 1)
    sk.sk_forward_alloc -= size
    skb.drops = sk.sk_drops
    sk.sk_receive_queue.append(skb)
    if "SOCK_DEAD" not in sk.sk_flags:
        poll.sk_data_ready(sk)
    return 0


# ---------------------------------------------------------------- ICMP errors


@cited("net/ipv4/udp.c:__udp4_lib_err", "net/ipv6/udp.c:__udp6_lib_err", "RFC 1122 4.1.3.3")
def udp_err(net: "Net", error: IcmpError) -> int:
    """An ICMP error that quotes a datagram of ours: to its socket, if that is connected or asks for errors."""
    v6 = len(error.saddr) == 16
    sk = table.udp_lib_lookup(net, error.daddr, error.dport, error.saddr, error.sport)
    if v6 and error.type == ICMPV6_PKT_TOOBIG:
        route.ip6_rt_update_pmtu(route.ip_route_output(net, error.daddr), net, error.info)
    if sk is None:
        net.count("Icmp6InErrors" if v6 else "IcmpInErrors")
        return -errno.ENOENT
    found = _convert6(sk, error) if v6 else _convert4(sk, net, error)
    if found is None:
        return 0
    err, harderr = found
    if not (sk.recverr6 if v6 else sk.recverr):
        if not harderr or sk.sk_state != St.ESTABLISHED:
            return 0
    else:
        errqueue.ip_icmp_error(sk, error, err, error.dport, error.info, quoted=0)
    sk.sk_err = err
    poll.sk_error_report(sk)
    return 0


def _convert4(sk: UdpSock, net: "Net", error: IcmpError) -> tuple[int, bool] | None:
    """The errno that an ICMP error means and whether it is hard, None if it means none."""
    type, code = error.type, error.code
    if type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
        route.ip_rt_update_pmtu(route.ip_route_output(net, error.daddr), net, error.info)
        return (errno.EMSGSIZE, True) if sk.pmtudisc != route.IP_PMTUDISC_DONT else None
    if type == ICMP_DEST_UNREACH:
        return (ICMP_ERR_CONVERT[code], code in FATAL) if code < len(ICMP_ERR_CONVERT) else (errno.EHOSTUNREACH, False)
    if type == ICMP_PARAMETERPROB:
        return errno.EPROTO, True
    if type in (ICMP_SOURCE_QUENCH, ICMP_REDIRECT):
        return None
    return errno.EHOSTUNREACH, False


def _convert6(sk: UdpSock, error: IcmpError) -> tuple[int, bool] | None:
    """The same for ICMPv6."""
    err, harderr = icmpv6_err_convert(error.type, error.code)
    if error.type == ICMPV6_PKT_TOOBIG:
        if sk.np_pmtudisc in (route.IP_PMTUDISC_INTERFACE, route.IP_PMTUDISC_OMIT):
            return None
        harderr = sk.np_pmtudisc != route.IP_PMTUDISC_DONT or harderr
    return None if error.type == NDISC_REDIRECT else (err, harderr)


# ---------------------------------------------------------------- reading


@cited("net/ipv4/udp.c:udp_rmem_release")
def udp_rmem_release(sk: UdpSock, size: int, partial: bool = True) -> None:
    """Gives memory back: at once if all was read, else when enough of it has gathered."""
    if partial:
        sk.forward_deficit += size
        size = sk.forward_deficit
        if size < sk.forward_threshold and sk.reader_queue:
            return
    else:
        size += sk.forward_deficit
    sk.forward_deficit = 0
    amt = size + sk.sk_forward_alloc - int(partial) & ~(PAGE_SIZE - 1)
    sk.sk_forward_alloc += size - amt
    sk.sk_rmem_alloc -= size
    _splice(sk)


def _splice(sk: UdpSock) -> None:
    sk.reader_queue.extend(sk.sk_receive_queue)
    sk.sk_receive_queue.clear()


@cited("net/ipv4/udp.c:__first_packet_length")
def first_packet_length(sk: UdpSock) -> int:
    """The length of the next datagram to read, -1 if there is none; those with a wrong checksum are dropped."""
    total = 0
    if not sk.reader_queue:
        _splice(sk)
    while sk.reader_queue and _bad(sk.reader_queue[0]):
        skb = sk.reader_queue.popleft()
        _csum_error(sk, skb)
        sk.sk_drops += 1
        total += skb.truesize
        if not sk.reader_queue:
            _splice(sk)
    res = sk.reader_queue[0].len if sk.reader_queue else -1
    if total:
        udp_rmem_release(sk, total)
    return res


def _bad(skb: RxSkb) -> bool:
    return skb.packet.check and skb.packet.bad_csum


def _csum_error(sk: UdpSock, skb: RxSkb) -> None:
    v4 = len(skb.packet.saddr) == 4
    _count(sk.net, v4, "InCsumErrors")
    _count(sk.net, v4, "InErrors")


@cited("net/core/datagram.c:__skb_try_recv_from_queue")
def _try_recv(sk: UdpSock, flags: int, off: int) -> RxSkb | None:
    """The next datagram, left in the queue if it is only peeked at; `off` bytes of peeked ones are passed over."""
    for skb in sk.reader_queue:
        if flags & MSG_PEEK:
            if off >= skb.len and (off or skb.peeked) and skb.len <= off and sk.sk_peek_off >= 0:
                off -= skb.len
                continue
            skb.peeked = True
            skb.off = off if sk.sk_peek_off >= 0 else 0
        else:
            sk.reader_queue.remove(skb)
            skb.off = 0
            udp_rmem_release(sk, skb.truesize)
        return skb
    return None


@cited("net/ipv4/udp.c:__skb_recv_udp", "net/core/datagram.c:__skb_wait_for_more_packets")
def _skb_recv_udp(sk: UdpSock, flags: int, off: int) -> Blocking:
    """Waits until a datagram is there: 1, or 0 at the end of a socket that was shut down, or a negative errno."""
    timeo = stream.sock_rcvtimeo(sk, bool(flags & MSG_DONTWAIT))
    while True:
        err = stream.sock_error(sk)
        if err:
            return err
        if not sk.reader_queue or (flags & MSG_PEEK and sk.sk_peek_off >= 0):
            _splice(sk)
        if _waiting(sk, flags, off):
            return 1
        if not timeo:
            return -errno.EAGAIN
        wait = WaitEntry(exclusive=True)
        wq = sk.sk_wq
        add_wait_queue(wq, wait)
        err = stream.sock_error(sk)
        if not err and sk.sk_shutdown & RCV_SHUTDOWN:
            remove_wait_queue(wq, wait)
            return 0
        if not err:
            timeo = yield from wait_woken(sk.net, wait, timeo)
        remove_wait_queue(wq, wait)
        if err:
            return err


def _waiting(sk: UdpSock, flags: int, off: int) -> bool:
    if flags & MSG_PEEK and sk.sk_peek_off >= 0:
        return sum(s.len for s in sk.reader_queue) > off or (bool(sk.reader_queue) and not off)
    return bool(sk.reader_queue)


@cited("net/ipv4/udp.c:udp_recvmsg", "net/ipv6/udp.c:udpv6_recvmsg")
def udp_recvmsg(sk: UdpSock, msg: errqueue.RecvMsg, size: int, flags: int, fault: bool = False) -> Blocking:
    """recvmsg(2): bytes of one datagram, or a negative errno."""
    if flags & MSG_ERRQUEUE:
        return errqueue.inet_recv_error(sk, msg, size)
    while True:
        off = sk.sk_peek_off if flags & MSG_PEEK and sk.sk_peek_off >= 0 else 0
        found = yield from _skb_recv_udp(sk, flags, off)
        if found <= 0:
            return found
        skb = _try_recv(sk, flags, off)
        assert skb is not None
        v4 = len(skb.packet.saddr) == 4
        if _bad(skb):
            if flags & MSG_PEEK:
                sk.reader_queue.remove(skb)
                udp_rmem_release(sk, skb.truesize)
            _csum_error(sk, skb)
            continue
        copied = min(size, skb.len - skb.off)
        if copied < skb.len - skb.off or (copied < skb.len and skb.off == 0):
            msg.msg_flags |= MSG_TRUNC
        if fault and copied:
            if not flags & MSG_PEEK:
                sk.sk_drops += 1
                _count(sk.net, v4, "InErrors")
            return -errno.EFAULT
        if not flags & MSG_PEEK:
            _count(sk.net, v4, "InDatagrams")
        _recv_cmsgs(sk, msg, skb)
        if sk.net.below is not None:
            sk.net.below.datagram_read(skb.packet.payload[skb.off : skb.off + copied])
        got = skb.len if flags & MSG_TRUNC else copied
        if sk.sk_peek_off >= 0:
            sk.sk_peek_off = max(0, sk.sk_peek_off + (got if flags & MSG_PEEK else -got))
        return got


@cited("net/socket.c:__sock_recv_cmsgs", "net/ipv4/ip_sockglue.c:ip_cmsg_recv_offset")
def _recv_cmsgs(sk: UdpSock, msg: errqueue.RecvMsg, skb: RxSkb) -> None:
    """The sender's name, and what else the application wants to know of a datagram."""
    packet = skb.packet
    v4 = len(packet.saddr) == 4
    errqueue.tcp_recv_timestamp(msg, sk, skb.tstamp)
    if "SOCK_RXQ_OVFL" in sk.sk_flags and skb.drops:
        errqueue.put_cmsg(msg, errqueue.SOL_SOCKET, SO_RXQ_OVFL, pack("<I", skb.drops))
    if "SOCK_RCVMARK" in sk.sk_flags:
        errqueue.put_cmsg(msg, errqueue.SOL_SOCKET, SO_MARK, pack("<I", 0))
    addr = packet.saddr if v4 == (sk.sk_family == AF_INET) else bytes(10) + b"\xff\xff" + packet.saddr
    msg.msg_name = SockAddr(sk.sk_family, addr, packet.sport)
    opts = sk.inet_opts
    if sk.sk_family == AF_INET6 and (opts.get("rxinfo") or opts.get("rxoinfo")):
        dest = packet.daddr if not v4 else bytes(10) + b"\xff\xff" + packet.daddr
        for name, type in (("rxinfo", ipopt.IPV6_PKTINFO), ("rxoinfo", ipopt.IPV6_2292PKTINFO)):
            if opts.get(name):
                errqueue.put_cmsg(msg, errqueue.SOL_IPV6, type, dest + pack("<i", errqueue.TUN_IFINDEX))
    if v4:
        _ip_cmsg_recv(sk, msg, packet)
    else:
        for name, type, value in (
            ("rxhlim", ipopt.IPV6_HOPLIMIT, packet.ttl),
            ("rxtclass", ipopt.IPV6_TCLASS, packet.tos),
            ("rxohlim", ipopt.IPV6_2292HOPLIMIT, packet.ttl),
        ):
            if opts.get(name):
                errqueue.put_cmsg(msg, errqueue.SOL_IPV6, type, pack("<i", value))
        if opts.get("rxflow") and (packet.flowlabel or packet.tos):
            word = packet.tos << 20 | packet.flowlabel
            errqueue.put_cmsg(msg, errqueue.SOL_IPV6, ipopt.IPV6_FLOWINFO, pack(">I", word))
        if opts.get("rxorigdstaddr"):
            name6 = errqueue.sockaddr_in(AF_INET6, packet.daddr, packet.dport)
            errqueue.put_cmsg(msg, errqueue.SOL_IPV6, ipopt.IPV6_RECVORIGDSTADDR, name6)


def _ip_cmsg_recv(sk: UdpSock, msg: errqueue.RecvMsg, packet: Datagram) -> None:
    opts = sk.inet_opts
    if opts.get("PKTINFO"):
        info = pack("<i", errqueue.TUN_IFINDEX) + packet.daddr + packet.daddr
        errqueue.put_cmsg(msg, errqueue.SOL_IP, ipopt.IP_PKTINFO, info)
    if sk.recvttl:
        errqueue.put_cmsg(msg, errqueue.SOL_IP, ipopt.IP_TTL, pack("<i", packet.ttl))
    if sk.recvtos:
        errqueue.put_cmsg(msg, errqueue.SOL_IP, ipopt.IP_TOS, bytes([packet.tos]))
    if opts.get("ORIGDSTADDR"):
        name = errqueue.sockaddr_in(AF_INET, packet.daddr, packet.dport)
        errqueue.put_cmsg(msg, errqueue.SOL_IP, ipopt.IP_RECVORIGDSTADDR, name)
