"""From the application to the device: udp_sendmsg, the datagram that grows while it is corked, fragments, segments.

The law: a datagram leaves at once or not at all, but for one that is corked: it grows until the cork is drawn. One that
is larger than the path carries is cut into fragments, unless the socket forbids it. UDP_SEGMENT makes many datagrams of
one call; the device that the model stands for does not cut them, so they leave one by one.
"""

import errno
from struct import unpack_from
from typing import TYPE_CHECKING, Final

from refmodel.rule import NotModelled, cited
from refmodel.tcp.whole import bind, errqueue, ipopt, ipv4, route, stream
from refmodel.tcp.whole.const import SEND_SHUTDOWN, SKB_TRUESIZE, skb_end_offset
from refmodel.tcp.whole.poll import Blocking
from refmodel.tcp.whole.skb import MsgHdr, SockAddr
from refmodel.tcp.whole.sock import Dst
from refmodel.types import M32
from refmodel.udp import table
from refmodel.udp.sock import AF_INET, AF_INET6, UDP_HLEN, UDP_MAX_SEGMENTS, Cork, Datagram, UdpSock

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

AF_UNSPEC: Final = 0
MSG_OOB: Final = 0x1
MSG_PROBE: Final = 0x10
MSG_MORE: Final = 0x8000
MSG_ZEROCOPY: Final = 0x4000000
SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
IP_TOS: Final = 1
IP_TTL: Final = 2
IPV6_HOPLIMIT: Final = 52
IPV6_DONTFRAG: Final = 62
IPV6_TCLASS: Final = 67
IP_MAX_MTU: Final = 0xFFFF
IP6_MAX_MTU: Final = 0xFFFF + 40
IP_PMTUDISC_DO: Final = 2
IP_PMTUDISC_PROBE: Final = 3
IP_PMTUDISC_OMIT: Final = 5
IPHDR: Final = 20
IPV6HDR: Final = 40
FRAG_HDR: Final = 8
HH_LEN: Final = 16  # LL_RESERVED_SPACE of a device without a header
BROADCAST: Final = b"\xff\xff\xff\xff"


def _count(sk: UdpSock, v4: bool, name: str) -> None:
    sk.net.count(f"Udp{'' if v4 else '6'}{name}")


# ---------------------------------------------------------------- what a call says


@cited(
    "net/ipv4/udp.c:udp_cmsg_send", "net/ipv4/ip_sockglue.c:ip_cmsg_send", "net/ipv6/datagram.c:ip6_datagram_send_ctl"
)
def _cmsg_send(sk: UdpSock, cork: Cork, cmsgs: tuple[tuple[int, int, bytes], ...], v4: bool) -> int:
    """Takes control messages into what is said of the datagram: 0, or a negative errno."""
    err, cork.tsflags = errqueue.sock_cmsg_send(sk, cmsgs)
    if err:
        return err
    for level, type, data in cmsgs:
        value = int.from_bytes(data[:4], "little", signed=True)
        if level == SOL_UDP:
            if type != UDP_SEGMENT or len(data) != 2:
                return -errno.EINVAL
            (cork.gso_size,) = unpack_from("<H", data)
        elif level == errqueue.SOL_IP and v4:
            if type == IP_TTL and len(data) == 4 and 1 <= value <= 255:
                cork.ttl = value
            elif type == IP_TOS and len(data) in (1, 4) and 0 <= value <= 255:
                cork.tos = value
            elif type in (IP_TTL, IP_TOS):
                return -errno.EINVAL
            else:
                raise NotModelled(f"the control message {type} of IP on a datagram")
        elif level == errqueue.SOL_IPV6 and not v4:
            if len(data) != 4:
                return -errno.EINVAL
            if type == IPV6_HOPLIMIT and -1 <= value <= 255:
                cork.ttl = value
            elif type == IPV6_TCLASS and -1 <= value <= 255:
                cork.tos = value
            elif type == IPV6_DONTFRAG and value in (0, 1):
                cork.dontfrag = bool(value)
            elif type in (IPV6_HOPLIMIT, IPV6_TCLASS, IPV6_DONTFRAG):
                return -errno.EINVAL
            else:
                raise NotModelled(f"the control message {type} of IPv6 on a datagram")
        elif level not in (errqueue.SOL_SOCKET, errqueue.SOL_IPV6):
            return -errno.EINVAL
    return 0


def _route(sk: UdpSock, daddr: bytes, connected: bool) -> Dst | int:
    """The route to a destination, or a negative errno."""
    v6 = len(daddr) == 16
    if (daddr[0] == 0xFF) if v6 else 224 <= daddr[0] < 240:
        raise NotModelled("datagrams to groups")
    if daddr == BROADCAST and "SOCK_BROADCAST" not in sk.sk_flags:
        return -errno.EACCES
    if connected and sk.sk_dst is not None:
        route.dst_mtu(sk.sk_dst)
        return sk.sk_dst
    if sk.net.below is not None and (err := sk.net.below.route_error(daddr)):
        if err == -errno.ENETUNREACH:
            sk.net.count("Ip6OutNoRoutes" if v6 else "IpOutNoRoutes")
        return err
    dst = route.ip_route_output(sk.net, daddr)
    if connected:
        sk.sk_dst = dst
    return dst


# ---------------------------------------------------------------- the call


def udp_sendmsg(sk: UdpSock, msg: MsgHdr, size: int) -> Blocking:
    """sendmsg(2): how many bytes were taken, or a negative errno; source net/ipv4/af_inet.c:inet_sendmsg."""
    if not sk.inet_num:
        if sk.get_port(0):
            return -errno.EAGAIN
        sk.inet_sport = sk.inet_num
    return _udpv6_sendmsg(sk, msg, size) if sk.sk_family == AF_INET6 else _udp_sendmsg(sk, msg, size)
    yield


@cited("net/ipv6/udp.c:udpv6_sendmsg")
def _udpv6_sendmsg(sk: UdpSock, msg: MsgHdr, size: int) -> int:
    """A send of an IPv6 socket: over IPv4 where the destination is an IPv4 one in IPv6's clothes."""
    name = msg.msg_name
    daddr: bytes | None = None
    if name is not None and name.family == AF_INET6:
        daddr = name.addr
        if bind.is_any(daddr) and len(sk.inet_saddr) == 4 and not bind.is_any(sk.inet_saddr):
            daddr = ipv4.MAPPED + ipv4.LOOPBACK4
    elif name is not None and name.family == AF_INET:
        return -errno.ENETUNREACH if sk.sk_ipv6only else _udp_sendmsg(sk, msg, size)
    elif name is not None and name.family == AF_UNSPEC:
        name = None
    elif name is not None:
        return -errno.EINVAL
    elif not sk.pending:
        if not sk.inet_dport or not sk.inet_daddr:
            return -errno.EDESTADDRREQ
        daddr = ipv4.MAPPED + sk.inet_daddr if sk.mapped else sk.inet_daddr
    if daddr is not None and ipv4.is_mapped(daddr):
        if sk.sk_ipv6only:
            return -errno.ENETUNREACH
        port = name.port if name is not None else sk.inet_dport
        msg.msg_name = SockAddr(AF_INET, daddr[12:], port)
        return _udp_sendmsg(sk, msg, size)
    if size > 0x7FFFFFFF - UDP_HLEN:
        return -errno.EMSGSIZE
    if sk.pending == AF_INET:
        return _udp_sendmsg(sk, msg, size)
    if sk.pending:
        return _append(sk, msg, size, False)
    connected = name is None
    if name is not None:
        if not name.port:
            return -errno.EINVAL
        dport = name.port
    else:
        if not sk.inet_daddr:
            return -errno.EDESTADDRREQ
        daddr, dport = sk.inet_daddr, sk.inet_dport
    assert daddr is not None
    cork = Cork(ipv4.LOOPBACK6 if bind.is_any(daddr) else daddr, dport, b"")
    return _begin(sk, msg, size, cork, connected, False)


@cited("net/ipv4/udp.c:udp_sendmsg", "RFC 768")
def _udp_sendmsg(sk: UdpSock, msg: MsgHdr, size: int) -> int:
    """A send over IPv4: address and port from the call or from connect(), then the datagram or a part of one."""
    if size > 0xFFFF:
        return -errno.EMSGSIZE
    if msg.msg_flags & MSG_OOB:
        return -errno.EOPNOTSUPP
    if sk.pending:
        return -errno.EINVAL if sk.pending != AF_INET else _append(sk, msg, size, True)
    name = msg.msg_name
    if name is not None:
        if name.len < 16:
            return -errno.EINVAL
        if name.family not in (AF_INET, AF_UNSPEC):
            return -errno.EAFNOSUPPORT
        if not name.port:
            return -errno.EINVAL
        daddr, dport = name.addr or bytes(4), name.port
    else:
        if not sk.inet_daddr:
            return -errno.EDESTADDRREQ
        daddr, dport = sk.inet_daddr, sk.inet_dport
    cork = Cork(daddr if any(daddr) else ipv4.LOOPBACK4, dport, b"")
    return _begin(sk, msg, size, cork, name is None, True)


def _begin(sk: UdpSock, msg: MsgHdr, size: int, cork: Cork, connected: bool, v4: bool) -> int:
    """A datagram begins: its route and what the call says of it, then its bytes."""
    net = sk.net
    cork.gso_size = sk.gso_size
    cork.tsflags = sk.sk_tsflags
    if msg.cmsgs:
        err = _cmsg_send(sk, cork, msg.cmsgs, v4)
        if err:
            return err
        connected = connected and all(level == SOL_UDP for level, _, _ in msg.cmsgs)
    dst = _route(sk, cork.daddr, connected)
    if isinstance(dst, int):
        return dst
    own = sk.inet_saddr
    _settle_header(sk, cork, v4)
    cork.saddr = own if len(own) == len(cork.daddr) and not bind.is_any(own) else ipv4.source_address(net, cork.daddr)
    _setup_cork(sk, cork, dst, v4)
    if not (sk.corkflag or msg.msg_flags & MSG_MORE):
        if msg.msg_flags & MSG_PROBE:
            return _sent(sk, msg, size, 0, v4)
        err = _ip_append_data(sk, cork, msg, size, True, v4)
        return _sent(sk, msg, size, err or udp_send_skb(sk, cork, v4), v4)
    stream.lock_sock(sk)
    sk.pending = AF_INET if v4 else AF_INET6
    sk.cork = cork
    stream.release_sock(sk)
    return _append(sk, msg, size, v4)


def _settle_header(sk: UdpSock, cork: Cork, v4: bool) -> None:
    """What the IP header will have is settled as a datagram begins, but for IPv4's TTL, and its TOS up to 6.12."""
    if not v4:
        cork.tos = cork.tos if cork.tos >= 0 else sk.tclass
        cork.ttl = cork.ttl if cork.ttl >= 0 else sk.hop_limit
    elif sk.net.p.kernel >= 618 and cork.tos < 0:
        cork.tos = sk.inet_tos


@cited("net/ipv4/ip_output.c:ip_setup_cork", "net/ipv6/ip6_output.c:ip6_setup_cork")
def _setup_cork(sk: UdpSock, cork: Cork, dst: Dst, v4: bool) -> None:
    """How large a packet to this destination may be."""
    discover = sk.pmtudisc if v4 else sk.np_pmtudisc
    cork.fragsize = route.dst_mtu(dst) if discover < IP_PMTUDISC_PROBE else dst.dev_mtu
    if not v4:
        frag_size = sk.inet_opts.get("frag_size", 0)
        if 0 < frag_size < cork.fragsize:
            cork.fragsize = frag_size
        cork.dontfrag = cork.dontfrag or bool(sk.inet_opts.get("DONTFRAG"))


def _append(sk: UdpSock, msg: MsgHdr, size: int, v4: bool) -> int:
    """More bytes for the datagram that is corked; without MSG_MORE and UDP_CORK it leaves. MSG_PROBE adds none."""
    cork = sk.cork
    assert cork is not None
    stream.lock_sock(sk)
    corked = sk.corkflag or bool(msg.msg_flags & MSG_MORE)
    probe = msg.msg_flags & MSG_PROBE
    err = 0 if probe else _ip_append_data(sk, cork, msg, size, cork.length == 0, v4)
    if err:
        udp_flush_pending_frames(sk)
    elif not corked:
        err = udp_push_pending_frames(sk)
    elif cork.length == 0:
        udp_flush_pending_frames(sk)  # its queue is empty, and so nothing is pending
    stream.release_sock(sk)
    return _sent(sk, msg, size, err, v4)


def _sent(sk: UdpSock, msg: MsgHdr, size: int, err: int, v4: bool) -> int:
    if not err:
        msg.left = 0
        return size
    if err == -errno.ENOBUFS or sk.sk_nospace:
        _count(sk, v4, "SndbufErrors")
    return err


@cited("net/ipv4/ip_output.c:__ip_append_data", "net/ipv6/ip6_output.c:__ip6_append_data")
def _ip_append_data(sk: UdpSock, cork: Cork, msg: MsgHdr, size: int, first: bool, v4: bool) -> int:
    """Adds bytes to a datagram, unless it would become larger than the socket lets it be: 0, or a negative errno."""
    header = IPHDR if v4 else IPV6HDR
    length = size + (UDP_HLEN if first else 0)
    mtu = cork.fragsize if not cork.gso_size else IP_MAX_MTU if v4 else IP6_MAX_MTU
    discover = sk.pmtudisc if v4 else sk.np_pmtudisc
    whole = IP_MAX_MTU if v4 else IPV6HDR + 0xFFFF
    limit = whole if discover < IP_PMTUDISC_DO or discover == IP_PMTUDISC_OMIT else mtu
    if not v4 and cork.length + length > mtu - header and cork.dontfrag:
        return _too_big(sk, cork, mtu, False)
    if cork.length + length > limit - header:
        return _too_big(sk, cork, mtu, v4)
    if first:
        err = stream.sock_error(sk)
        if not err and sk.sk_shutdown & SEND_SHUTDOWN:
            err = -errno.EPIPE
        if err:
            sk.net.count("IpOutDiscards" if v4 else "Ip6OutDiscards")
            return err
    if msg.fault and size:
        sk.net.count("IpOutDiscards" if v4 else "Ip6OutDiscards")
        return -errno.EFAULT
    if msg.msg_flags & MSG_ZEROCOPY and length and "SOCK_ZEROCOPY" in sk.sk_flags:
        before = cork.uarg
        cork.uarg = errqueue.msg_zerocopy_realloc(sk, length, before)
        if cork.uarg is None:
            return -errno.ENOBUFS
        if cork.uarg is before:
            cork.uarg.refcnt -= 1
    added = _truesize(sk, cork, length, first, mtu, header)
    if added < 0:
        sk.net.count("IpOutDiscards" if v4 else "Ip6OutDiscards")
        if cork.uarg is not None:
            errqueue.net_zcopy_put_abort(cork.uarg, False)
        return added
    cork.length += length
    cork.truesize += added
    sk.sk_wmem_alloc += added
    return 0


def _truesize(sk: UdpSock, cork: Cork, length: int, first: bool, mtu: int, header: int) -> int:
    """The memory that more bytes take: what begins a fragment has a head, what fits behind lies in pages.

    -ENOBUFS where a later fragment finds twice the send buffer taken.
    """
    p = sk.net.p
    total = 0
    piece = (mtu - header & ~7) - (0 if header == IPHDR else FRAG_HDR)
    if not first:
        used = cork.length % piece
        behind = length if length <= mtu - header - used else piece - used
        total, length = behind, length - behind
    while length > 0:
        if not first and sk.sk_wmem_alloc + 1 + total > 2 * sk.sk_sndbuf:
            return -errno.ENOBUFS
        first = False
        part = length if length <= mtu - header else piece
        head = part + header if not cork.gso_size else header + UDP_HLEN
        total += SKB_TRUESIZE(skb_end_offset(head + HH_LEN + 15, p.kernel, p.max_header))
        total += part - UDP_HLEN if cork.gso_size else 0
        length -= part
    return total


@cited("net/ipv4/ip_sockglue.c:ip_local_error", "net/ipv6/datagram.c:ipv6_local_error")
def _too_big(sk: UdpSock, cork: Cork, mtu: int, v4: bool) -> int:
    """The datagram is too large: -EMSGSIZE, and in the error queue what would fit."""
    if sk.recverr if v4 else sk.recverr6:
        skb = errqueue.ErrSkb(errqueue.alloc_skb(sk, IPHDR if v4 else IPV6HDR))
        skb.ee_errno = errno.EMSGSIZE
        skb.ee_origin = errqueue.SO_EE_ORIGIN_LOCAL
        skb.ee_info = mtu
        skb.addr = cork.daddr
        skb.port = sk.inet_dport if v4 else cork.dport
        errqueue.sock_queue_err_skb(sk, skb)
    return -errno.EMSGSIZE


@cited("net/ipv4/udp.c:udp_flush_pending_frames")
def udp_flush_pending_frames(sk: UdpSock) -> None:
    """Forgets the datagram that is corked."""
    if sk.pending and sk.cork is not None:
        _free(sk, sk.cork)
    sk.pending = 0
    sk.cork = None


def _free(sk: UdpSock, cork: Cork) -> None:
    sk.sk_wmem_alloc -= cork.truesize
    cork.truesize = 0
    if cork.uarg is not None:
        errqueue.msg_zerocopy_complete(cork.uarg, False)
        cork.uarg = None


@cited("net/ipv4/udp.c:udp_push_pending_frames")
def udp_push_pending_frames(sk: UdpSock) -> int:
    """The datagram that is corked leaves: 0, or a negative errno."""
    cork, v4 = sk.cork, sk.pending == AF_INET
    sk.pending = 0
    sk.cork = None
    return udp_send_skb(sk, cork, v4) if cork is not None else 0


# ---------------------------------------------------------------- the datagram leaves


@cited("net/ipv4/udp.c:udp_send_skb", "net/ipv6/udp.c:udp_v6_send_skb")
def udp_send_skb(sk: UdpSock, cork: Cork, v4: bool) -> int:
    """Gives a datagram its header and hands it to IP: 0, or a negative errno."""
    datalen = cork.length - UDP_HLEN
    size = cork.gso_size
    no_check = "sk_no_check_tx" in sk.sk_flags if v4 else sk.no_check6_tx
    err = 0
    if size:
        hlen = (IPHDR if v4 else IPV6HDR) + UDP_HLEN
        if hlen + min(datalen, size) > cork.fragsize:
            err = -errno.EMSGSIZE
        elif datalen > size * UDP_MAX_SEGMENTS or no_check:
            err = -errno.EINVAL
    if err:
        _free(sk, cork)
        return err
    parts = [min(size, datalen - at) for at in range(0, datalen, size)] if 0 < size < datalen else [datalen]
    for part in parts:
        err = _ip_send_skb(sk, cork, part, not no_check, v4) or err
    _tstamp_tx(sk, cork, datalen, v4)
    _free(sk, cork)
    if err and not (err == -errno.ENOBUFS and not (sk.recverr if v4 else sk.recverr6)):
        return err
    if err:
        _count(sk, v4, "SndbufErrors")
        return 0
    _count(sk, v4, "OutDatagrams")
    return 0


def _tstamp_tx(sk: UdpSock, cork: Cork, datalen: int, v4: bool) -> None:
    """The moments of the way out that the application wants to know; source net/core/skbuff.c:__skb_tstamp_tx."""
    tsflags = cork.tsflags
    wanted = errqueue.SOF_TIMESTAMPING_TX_SCHED | errqueue.SOF_TIMESTAMPING_TX_SOFTWARE
    if not tsflags & wanted:
        return
    key = sk.sk_tskey
    if sk.sk_tsflags & errqueue.SOF_TIMESTAMPING_OPT_ID:
        sk.sk_tskey = (key + 1) & M32
    for flag, kind in (
        (errqueue.SOF_TIMESTAMPING_TX_SCHED, errqueue.SCM_TSTAMP_SCHED),
        (errqueue.SOF_TIMESTAMPING_TX_SOFTWARE, errqueue.SCM_TSTAMP_SND),
    ):
        if not tsflags & flag:
            continue
        length = 0 if sk.sk_tsflags & errqueue.SOF_TIMESTAMPING_OPT_TSONLY else cork.length + (IPHDR if v4 else IPV6HDR)
        skb = errqueue.ErrSkb(errqueue.alloc_skb(sk) if not length else cork.truesize, length)
        if length:
            skb.iif = errqueue.TUN_IFINDEX
            skb.saddr = cork.saddr
        skb.tstamp = sk.net.now
        skb.ee_errno = errno.ENOMSG
        skb.ee_origin = errqueue.SO_EE_ORIGIN_TIMESTAMPING
        skb.ee_info = kind
        if sk.sk_tsflags & errqueue.SOF_TIMESTAMPING_OPT_ID:
            skb.ee_data = key
        errqueue.sock_queue_err_skb(sk, skb)


@cited("net/ipv4/ip_output.c:__ip_make_skb", "net/ipv6/ip6_output.c:__ip6_make_skb", "net/ipv4/ip_output.c:ip_send_skb")
def _ip_send_skb(sk: UdpSock, cork: Cork, datalen: int, check: bool, v4: bool) -> int:
    """The IP header of a datagram, and the way to the device or to a socket of this host: 0, or a negative errno."""
    net = sk.net
    dst = route.ip_route_output(net, cork.daddr)
    packet = Datagram(cork.saddr, cork.daddr, sk.inet_sport, cork.dport, datalen)
    packet.by = "udp_send_skb"
    packet.check = check
    if v4:
        packet.tos = cork.tos if cork.tos >= 0 else sk.inet_tos
        packet.ttl = (
            cork.ttl if cork.ttl > 0 else sk.inet_ttl if sk.inet_ttl >= 0 else dst.hoplimit or net.p.ip_default_ttl
        )
        fits = datalen + UDP_HLEN + IPHDR <= route.dst_mtu(dst)
        packet.df = sk.pmtudisc in (IP_PMTUDISC_DO, IP_PMTUDISC_PROBE) or (fits and route.ip_dont_fragment(sk, dst))
    else:
        packet.tos = max(cork.tos, 0)
        packet.ttl = cork.ttl if cork.ttl >= 0 else dst.hoplimit or ipopt.IPV6_HOPLIMIT_DEFAULT
        if sk.inet_opts.get("AUTOFLOWLABEL", int(net.p.auto_flowlabels == 1)):
            packet.flowlabel = table.flow_hash(cork.saddr, sk.inet_sport, cork.daddr, cork.dport) & 0xFFFFF
    if net.below is not None:
        return net.below.send_datagram(sk, packet, cork.fragsize)
    ip_output(net, packet, cork.fragsize)
    return 0


@cited("net/ipv4/ip_output.c:ip_do_fragment", "net/ipv6/ip6_output.c:ip6_fragment", "RFC 791 2.3", "RFC 8200 4.5")
def ip_output(net: "Net", packet: Datagram, mtu: int) -> None:
    """A datagram goes to this host itself, or to the device: whole, or in fragments where it is larger than `mtu`."""
    if packet.daddr in net.local_addrs or ipv4.is_loopback(packet.daddr):
        from refmodel.udp.input import udp_rcv

        udp_rcv(net, packet)
        return
    v4 = len(packet.saddr) == 4
    header = IPHDR if v4 else IPV6HDR
    total = packet.len + UDP_HLEN
    if total + header <= mtu:
        xmit(net, packet)
        return
    room = mtu - header - (0 if v4 else FRAG_HDR) & ~7
    for at in range(0, total, room):
        part = Datagram(packet.saddr, packet.daddr, packet.sport, packet.dport, 0, packet.tos, packet.ttl)
        size = min(room, total - at)
        part.len = size - UDP_HLEN if at == 0 else size
        part.ulen = packet.ulen
        part.frag = at
        part.more = at + size < total
        part.flowlabel, part.check, part.by = packet.flowlabel, packet.check, "ip_output"
        xmit(net, part)


def xmit(net: "Net", packet: Datagram) -> None:
    """Hands a datagram to the device; raises NotModelled where fq stands before it."""
    if net.qdisc is not None:
        raise NotModelled("datagrams through the queueing discipline fq")
    net.xmit(packet)
