"""Options of levels IPPROTO_IP and IPPROTO_IPV6, as far as TCP sockets have them.

The law: an IPv6 socket takes options of both levels, an IPv4 socket only those of IP. What has no effect on TCP is kept
for who asks for it again. Membership in groups is nothing for TCP.
"""

import errno
from struct import pack, unpack_from
from typing import Final

from refmodel.rule import NotModelled, cited
from refmodel.tcp.state import St
from refmodel.tcp.whole import capability, errqueue, output, route
from refmodel.tcp.whole.sock import InetSock, Sock

IP_TOS: Final = 1
IP_TTL: Final = 2
IP_HDRINCL: Final = 3
IP_OPTIONS: Final = 4
IP_ROUTER_ALERT: Final = 5
IP_RECVOPTS: Final = 6
IP_RETOPTS: Final = 7
IP_PKTINFO: Final = 8
IP_PKTOPTIONS: Final = 9
IP_MTU_DISCOVER: Final = 10
IP_RECVERR: Final = 11
IP_RECVTTL: Final = 12
IP_RECVTOS: Final = 13
IP_MTU: Final = 14
IP_FREEBIND: Final = 15
IP_PASSSEC: Final = 18
IP_TRANSPARENT: Final = 19
IP_RECVORIGDSTADDR: Final = 20
IP_MINTTL: Final = 21
IP_NODEFRAG: Final = 22
IP_CHECKSUM: Final = 23
IP_BIND_ADDRESS_NO_PORT: Final = 24
IP_RECVFRAGSIZE: Final = 25
IP_RECVERR_RFC4884: Final = 26
IP_MULTICAST_IF: Final = 32
IP_MULTICAST_TTL: Final = 33
IP_MULTICAST_LOOP: Final = 34
IP_ADD_MEMBERSHIP: Final = 35
IP_DROP_MEMBERSHIP: Final = 36
IP_MULTICAST_ALL: Final = 49
IP_UNICAST_IF: Final = 50
IP_LOCAL_PORT_RANGE: Final = 51
IP_PROTOCOL: Final = 52

IPV6_ADDRFORM: Final = 1
IPV6_2292PKTINFO: Final = 2
IPV6_2292HOPOPTS: Final = 3
IPV6_2292DSTOPTS: Final = 4
IPV6_2292RTHDR: Final = 5
IPV6_2292HOPLIMIT: Final = 8
IPV6_FLOWINFO: Final = 11
IPV6_UNICAST_HOPS: Final = 16
IPV6_MULTICAST_IF: Final = 17
IPV6_MULTICAST_HOPS: Final = 18
IPV6_MULTICAST_LOOP: Final = 19
IPV6_ADD_MEMBERSHIP: Final = 20
IPV6_DROP_MEMBERSHIP: Final = 21
IPV6_MTU_DISCOVER: Final = 23
IPV6_MTU: Final = 24
IPV6_RECVERR: Final = 25
IPV6_V6ONLY: Final = 26
IPV6_MULTICAST_ALL: Final = 29
IPV6_ROUTER_ALERT_ISOLATE: Final = 30
IPV6_RECVERR_RFC4884: Final = 31
IPV6_FLOWINFO_SEND: Final = 33
IPV6_RECVPKTINFO: Final = 49
IPV6_PKTINFO: Final = 50
IPV6_RECVHOPLIMIT: Final = 51
IPV6_HOPLIMIT: Final = 52
IPV6_RECVHOPOPTS: Final = 53
IPV6_RECVRTHDR: Final = 56
IPV6_RECVDSTOPTS: Final = 58
IPV6_RECVPATHMTU: Final = 60
IPV6_PATHMTU: Final = 61
IPV6_DONTFRAG: Final = 62
IPV6_RECVTCLASS: Final = 66
IPV6_TCLASS: Final = 67
IPV6_AUTOFLOWLABEL: Final = 70
IPV6_ADDR_PREFERENCES: Final = 72
IPV6_MINHOPCOUNT: Final = 73
IPV6_RECVORIGDSTADDR: Final = 74
IPV6_TRANSPARENT: Final = 75
IPV6_UNICAST_IF: Final = 76
IPV6_RECVFRAGSIZE: Final = 77
IPV6_FREEBIND: Final = 78

SOL_IP: Final = 0
SOL_IPV6: Final = 41
AF_INET: Final = 2
AF_INET6: Final = 10
IP_PMTUDISC_OMIT: Final = 5
INET_ECN_MASK: Final = 3
SOCK_STREAM: Final = 1
IPV6_MIN_MTU: Final = 1280
IPV6_HOPLIMIT_DEFAULT: Final = 64
M32: Final = 0xFFFFFFFF

IP_TOS2PRIO: Final = (0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4)
"""ip_tos2prio: best effort, bulk, interactive, interactive bulk."""

IP_BITS: Final = {
    IP_PKTINFO: "PKTINFO",
    IP_RECVOPTS: "RECVOPTS",
    IP_RETOPTS: "RETOPTS",
    IP_PASSSEC: "PASSSEC",
    IP_RECVORIGDSTADDR: "ORIGDSTADDR",
    IP_CHECKSUM: "CHECKSUM",
    IP_FREEBIND: "FREEBIND",
    IP_MULTICAST_LOOP: "MC_LOOP",
    IP_TRANSPARENT: "TRANSPARENT",
    IP_BIND_ADDRESS_NO_PORT: "BIND_ADDRESS_NO_PORT",
}
"""Bits of inet_flags that TCP only keeps."""

NEED_BYTE: Final = frozenset(
    (IP_FREEBIND, IP_MULTICAST_LOOP, IP_MULTICAST_ALL, IP_TRANSPARENT, IP_TTL, IP_MINTTL),
)
"""Options that don't take an empty value for 0."""

Got = tuple[int, bytes]


def rt_tos2priority(tos: int) -> int:
    """The priority of a packet by its TOS; source include/net/route.h:rt_tos2priority."""
    return IP_TOS2PRIO[(tos & 0x1E) >> 1]


@cited("net/ipv4/ip_sockglue.c:__ip_sock_set_tos")
def __ip_sock_set_tos(sk: InetSock, val: int) -> None:
    """TOS of what is sent, and the packets' priority with it; of a stream the two bits of ECN are TCP's own."""
    old_tos = sk.inet_tos
    if sk.sk_type == SOCK_STREAM:
        val = val & ~INET_ECN_MASK | old_tos & INET_ECN_MASK
    if old_tos != val:
        sk.inet_tos = val & 0xFF
        sk.sk_priority = rt_tos2priority(val)


@cited("net/ipv4/ip_sockglue.c:do_ip_setsockopt", "net/ipv4/ip_sockglue.c:ip_setsockopt")
def ip_setsockopt(sk: InetSock, level: int, optname: int, optval: bytes) -> int:
    """Sets an option of IP: 0 or a negative errno. One byte is enough for a value; none is 0 for most."""
    if level != SOL_IP:
        return -errno.ENOPROTOOPT
    optlen = len(optval)
    val = 0
    if optlen >= 4:
        (val,) = unpack_from("<i", optval)
    elif optlen:
        val = optval[0]
    if optname == IP_TRANSPARENT and val and not capability.net_raw_or_admin(sk.net):
        return -errno.EPERM
    if optname in NEED_BYTE and optlen < 1:
        return -errno.EINVAL
    if optname in IP_BITS:
        sk.inet_opts[IP_BITS[optname]] = int(bool(val))
    elif optname == IP_RECVTTL:
        sk.recvttl = bool(val)
    elif optname == IP_RECVTOS:
        sk.recvtos = bool(val)
    elif optname == IP_RECVERR:
        sk.recverr = bool(val)
        if not val:
            errqueue.skb_errqueue_purge(sk)
    elif optname in (IP_RECVERR_RFC4884, IP_MULTICAST_ALL):
        if val not in (0, 1):
            return -errno.EINVAL
        sk.inet_opts["RECVERR_RFC4884" if optname == IP_RECVERR_RFC4884 else "MC_ALL"] = val
    elif optname == IP_TTL:
        if val != -1 and not 1 <= val <= 255:
            return -errno.EINVAL
        sk.inet_ttl = val
    elif optname == IP_MINTTL:
        if not 0 <= val <= 255:
            return -errno.EINVAL
        sk.min_ttl = val
    elif optname == IP_MTU_DISCOVER:
        if not 0 <= val <= IP_PMTUDISC_OMIT:
            return -errno.EINVAL
        sk.pmtudisc = val
    elif optname == IP_TOS:
        __ip_sock_set_tos(sk, val)
    elif optname == IP_LOCAL_PORT_RANGE:
        lo, hi = val & 0xFFFF, val >> 16 & 0xFFFF
        if optlen != 4 or (lo and hi and lo > hi):
            return -errno.EINVAL
        sk.local_port_range = (lo, hi) if lo or hi else None
    elif optname in (IP_HDRINCL, IP_NODEFRAG):
        return -errno.ENOPROTOOPT
    elif sk.sk_type != SOCK_STREAM and optname == IP_MULTICAST_TTL:
        if optlen < 1 or not -1 <= val <= 255:
            return -errno.EINVAL
        sk.inet_opts["mc_ttl"] = 1 if val == -1 else val
    elif sk.sk_type != SOCK_STREAM and optname in (IP_MULTICAST_IF, IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP):
        raise NotModelled("groups of IPv4")
    elif optname in (IP_RECVFRAGSIZE, IP_MULTICAST_TTL, IP_MULTICAST_IF, IP_ROUTER_ALERT):
        return -errno.EINVAL
    elif optname in (IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP):
        return -errno.EPROTO
    elif optname == IP_OPTIONS:
        if optlen > 40:
            return -errno.EINVAL
        if optlen:
            raise NotModelled("IP options")
    elif optname == IP_UNICAST_IF:
        return _unicast_if(sk, optval)
    else:
        return -errno.ENOPROTOOPT
    return 0


def _unicast_if(sk: InetSock, optval: bytes) -> int:
    if len(optval) != 4:
        return -errno.EINVAL
    index = int.from_bytes(optval, "big")
    if index > errqueue.TUN_IFINDEX:
        return -errno.EADDRNOTAVAIL
    if index and sk.inet_opts.get("bound_dev_if"):
        return -errno.EINVAL
    sk.inet_opts["uc_index"] = index
    return 0


@cited("net/ipv4/ip_sockglue.c:do_ip_getsockopt", "net/ipv4/ip_sockglue.c:ip_getsockopt")
def ip_getsockopt(sk: InetSock, level: int, optname: int, length: int) -> Got:
    """Reads an option of IP; a value below 256 takes one byte where there is no room for four."""
    if level != SOL_IP:
        return -errno.EOPNOTSUPP, b""
    if length < 0:
        return -errno.EINVAL, b""
    if optname == IP_OPTIONS:
        return 0, b""
    if optname == IP_PKTOPTIONS:
        return 0, _pktoptions(sk, length)
    if optname == IP_MULTICAST_IF:
        return 0, bytes(4)[:length]
    val = _ip_value(sk, optname)
    if val is None:
        return -errno.ENOPROTOOPT, b""
    if optname == IP_MTU and not val:
        return -errno.ENOTCONN, b""
    if 0 < length < 4 and 0 <= val <= 255:
        return 0, bytes([val])
    return 0, (val & M32).to_bytes(4, "little")[:length]


def _pktoptions(sk: InetSock, length: int) -> bytes:
    """The control messages of IP_PKTOPTIONS in one string."""
    msg = errqueue.RecvMsg(length)
    opts = sk.inet_opts
    if opts.get("PKTINFO"):
        errqueue.put_cmsg(msg, SOL_IP, IP_PKTINFO, pack("<i", opts.get("mc_index", 0)) + 2 * sk.inet_rcv_saddr[-4:])
    if sk.recvttl:
        errqueue.put_cmsg(msg, SOL_IP, IP_TTL, pack("<i", sk.inet_opts.get("mc_ttl", 1)))
    if sk.recvtos:
        errqueue.put_cmsg(msg, SOL_IP, IP_TOS, pack("<i", sk.inet_rcv_tos))
    out = b""
    for level, type, data in msg.cmsgs:
        out += pack("<Qii", 16 + len(data), level, type) + data + bytes(-len(data) % 8)
    return out[:length]


def _ip_value(sk: InetSock, optname: int) -> int | None:
    if optname in IP_BITS:
        return sk.inet_opts.get(IP_BITS[optname], 1 if optname == IP_MULTICAST_LOOP else 0)
    if optname == IP_MTU:
        return route.dst_mtu(sk.sk_dst) if sk.sk_dst is not None else 0
    if optname == IP_LOCAL_PORT_RANGE:
        lo, hi = sk.local_port_range or (0, 0)
        return hi << 16 | lo
    values = {
        IP_RECVTTL: sk.recvttl,
        IP_RECVTOS: sk.recvtos,
        IP_RECVERR: sk.recverr,
        IP_RECVERR_RFC4884: sk.inet_opts.get("RECVERR_RFC4884", 0),
        IP_MULTICAST_ALL: sk.inet_opts.get("MC_ALL", 1),
        IP_RECVFRAGSIZE: 0,
        IP_HDRINCL: 0,
        IP_NODEFRAG: 0,
        IP_ROUTER_ALERT: 0,
        IP_TTL: sk.inet_ttl if sk.inet_ttl >= 0 else sk.net.p.ip_default_ttl,
        IP_MINTTL: sk.min_ttl,
        IP_MULTICAST_TTL: sk.inet_opts.get("mc_ttl", 1),
        IP_MTU_DISCOVER: sk.pmtudisc,
        IP_TOS: sk.inet_tos,
        IP_UNICAST_IF: int.from_bytes(sk.inet_opts.get("uc_index", 0).to_bytes(4, "big"), "little"),
        IP_PROTOCOL: sk.inet_num,
    }
    val = values.get(optname)
    return None if val is None else int(val)


# ---------------------------------------------------------------- IPv6

RXOPT: Final = {
    IPV6_RECVPKTINFO: "rxinfo",
    IPV6_2292PKTINFO: "rxoinfo",
    IPV6_RECVHOPLIMIT: "rxhlim",
    IPV6_2292HOPLIMIT: "rxohlim",
    IPV6_RECVRTHDR: "srcrt",
    IPV6_2292RTHDR: "osrcrt",
    IPV6_RECVHOPOPTS: "hopopts",
    IPV6_2292HOPOPTS: "ohopopts",
    IPV6_RECVDSTOPTS: "dstopts",
    IPV6_2292DSTOPTS: "odstopts",
    IPV6_RECVTCLASS: "rxtclass",
    IPV6_FLOWINFO: "rxflow",
    IPV6_RECVPATHMTU: "rxpmtu",
    IPV6_RECVORIGDSTADDR: "rxorigdstaddr",
    IPV6_RECVFRAGSIZE: "recvfragsize",
    IPV6_MULTICAST_ALL: "MC6_ALL",
    IPV6_ROUTER_ALERT_ISOLATE: "RTALERT_ISOLATE",
    IPV6_FLOWINFO_SEND: "SNDFLOW",
    IPV6_DONTFRAG: "DONTFRAG",
    IPV6_AUTOFLOWLABEL: "AUTOFLOWLABEL",
    IPV6_TRANSPARENT: "TRANSPARENT",
    IPV6_FREEBIND: "FREEBIND",
}
"""Bits that TCP only keeps."""

SHORT_IS_ZERO: Final = frozenset((IPV6_AUTOFLOWLABEL, IPV6_DONTFRAG, IPV6_RECVFRAGSIZE))
"""Options for which a value shorter than an int is 0; for others it is EINVAL."""

ONE_BY_DEFAULT: Final = frozenset((IPV6_MULTICAST_ALL, IPV6_AUTOFLOWLABEL))


@cited("net/ipv6/ipv6_sockglue.c:do_ipv6_setsockopt", "net/ipv6/ipv6_sockglue.c:ipv6_setsockopt")
def ipv6_setsockopt(sk: InetSock, level: int, optname: int, optval: bytes) -> int:
    """Sets an option of IPv6, or of IP, on an IPv6 socket: 0 or a negative errno."""
    if level == SOL_IP:
        return ip_setsockopt(sk, level, optname, optval)
    if level != SOL_IPV6:
        return -errno.ENOPROTOOPT
    val = unpack_from("<i", optval)[0] if len(optval) >= 4 else 0
    short = len(optval) < 4
    if optname == IPV6_TRANSPARENT and val and not capability.net_raw_or_admin(sk.net):
        return -errno.EPERM
    if optname in RXOPT:
        if short and optname not in SHORT_IS_ZERO:
            return -errno.EINVAL
        sk.inet_opts[RXOPT[optname]] = int(bool(val))
        return 0
    if sk.sk_type != SOCK_STREAM and optname == IPV6_MULTICAST_HOPS:
        if short or not -1 <= val <= 255:
            return -errno.EINVAL
        sk.inet_opts["mcast_hops"] = 1 if val == -1 else val
        return 0
    if sk.sk_type != SOCK_STREAM and optname in (IPV6_MULTICAST_IF, IPV6_ADD_MEMBERSHIP, IPV6_DROP_MEMBERSHIP):
        raise NotModelled("groups of IPv6")
    if optname in (IPV6_MULTICAST_HOPS, IPV6_MULTICAST_IF):
        return -errno.ENOPROTOOPT
    if optname in (IPV6_ADD_MEMBERSHIP, IPV6_DROP_MEMBERSHIP):
        return -errno.EINVAL if len(optval) < 20 else -errno.EPROTO
    if optname == IPV6_UNICAST_IF:
        return _unicast_if(sk, optval)
    if optname not in IPV6_INTS:
        if optname in IPV6_KNOWN:
            raise NotModelled(f"option {optname} of IPv6")
        return -errno.ENOPROTOOPT
    if short:
        return -errno.EINVAL
    return _set_ipv6_int(sk, optname, val)


IPV6_INTS: Final = frozenset(
    (
        IPV6_UNICAST_HOPS,
        IPV6_MULTICAST_LOOP,
        IPV6_MTU,
        IPV6_MINHOPCOUNT,
        IPV6_RECVERR_RFC4884,
        IPV6_RECVERR,
        IPV6_MTU_DISCOVER,
        IPV6_ADDR_PREFERENCES,
        IPV6_ADDRFORM,
        IPV6_V6ONLY,
        IPV6_TCLASS,
    )
)
IPV6_KNOWN: Final = frozenset((6, 22, 27, 28, 32, 34, 35, 42, 43, 44, 45, 46, 47, 48, 50, 54, 55, 57, 59))
"""Options that the kernel has and TCP's model hasn't: extension headers, flow labels, anycast, groups, IPsec."""


def _set_ipv6_int(sk: InetSock, optname: int, val: int) -> int:
    if optname == IPV6_UNICAST_HOPS:
        if val > 255 or val < -1:
            return -errno.EINVAL
        sk.hop_limit = val
    elif optname == IPV6_MINHOPCOUNT:
        if not 0 <= val <= 255:
            return -errno.EINVAL
        sk.min_hopcount = val
    elif optname in (IPV6_MULTICAST_LOOP, IPV6_RECVERR_RFC4884):
        if val not in (0, 1):
            return -errno.EINVAL
        sk.inet_opts["MC6_LOOP" if optname == IPV6_MULTICAST_LOOP else "RECVERR6_RFC4884"] = val
    elif optname == IPV6_MTU:
        if val and val < IPV6_MIN_MTU:
            return -errno.EINVAL
        sk.inet_opts["frag_size"] = val
    elif optname == IPV6_RECVERR:
        sk.recverr6 = bool(val)
        if not val:
            errqueue.skb_errqueue_purge(sk)
    elif optname == IPV6_MTU_DISCOVER:
        if not 0 <= val <= IP_PMTUDISC_OMIT:
            return -errno.EINVAL
        sk.np_pmtudisc = val
    elif optname == IPV6_ADDR_PREFERENCES:
        sk.inet_opts["srcprefs"] = val
    elif optname == IPV6_V6ONLY:
        if sk.inet_num:
            return -errno.EINVAL
        sk.sk_ipv6only = bool(val)
    elif optname == IPV6_TCLASS:
        if val < -1 or val > 0xFF:
            return -errno.EINVAL
        val = max(val, 0)
        sk.tclass = val & ~INET_ECN_MASK | sk.tclass & INET_ECN_MASK if sk.sk_type == SOCK_STREAM else val
    else:
        return _addrform(sk, val)
    return 0


def _addrform(sk: InetSock, val: int) -> int:
    """IPV6_ADDRFORM: an IPv6 socket that talks IPv4 becomes an IPv4 socket."""
    if val != AF_INET:
        return -errno.EINVAL
    if sk.sk_state != St.ESTABLISHED:
        return -errno.ENOTCONN
    if sk.sk_ipv6only or not sk.mapped:
        return -errno.EADDRNOTAVAIL
    sk.sk_family = AF_INET
    sk.mapped = False
    if isinstance(sk, Sock):
        output.tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    return 0


@cited("net/ipv6/ipv6_sockglue.c:do_ipv6_getsockopt", "net/ipv6/ipv6_sockglue.c:ipv6_getsockopt")
def ipv6_getsockopt(sk: InetSock, level: int, optname: int, length: int) -> Got:
    """Reads an option of IPv6, or of IP, of an IPv6 socket."""
    if level == SOL_IP:
        return ip_getsockopt(sk, level, optname, length)
    if level != SOL_IPV6:
        return -errno.ENOPROTOOPT, b""
    if optname == IPV6_PATHMTU:
        if length < 32:
            return -errno.EINVAL, b""
        if sk.sk_dst is None:
            return -errno.ENOTCONN, b""
        return 0, bytes(28) + pack("<I", route.dst_mtu(sk.sk_dst))
    if optname == IPV6_ADDRFORM and sk.sk_state != St.ESTABLISHED:
        return -errno.ENOTCONN, b""
    if optname in IPV6_KNOWN:
        raise NotModelled(f"option {optname} of IPv6")
    val = _ipv6_value(sk, optname)
    if val is None:
        return -errno.ENOPROTOOPT, b""
    if optname == IPV6_MTU and not val:
        return -errno.ENOTCONN, b""
    return 0, (val & M32).to_bytes(4, "little")[: length & M32]


def _ipv6_value(sk: InetSock, optname: int) -> int | None:
    opts = sk.inet_opts
    if optname in RXOPT:
        return opts.get(RXOPT[optname], 1 if optname in ONE_BY_DEFAULT else 0)
    if optname == IPV6_MTU:
        return route.dst_mtu(sk.sk_dst) if sk.sk_dst is not None else 0
    if optname == IPV6_UNICAST_HOPS:
        hops = sk.hop_limit
        if hops < 0 and sk.sk_dst is not None and sk.sk_dst.hoplimit:
            hops = sk.sk_dst.hoplimit
        return hops if hops >= 0 else IPV6_HOPLIMIT_DEFAULT
    values = {
        IPV6_ADDRFORM: sk.sk_family,
        IPV6_V6ONLY: sk.sk_ipv6only,
        IPV6_TCLASS: sk.tclass,
        IPV6_MULTICAST_HOPS: opts.get("mcast_hops", 1),
        IPV6_MULTICAST_LOOP: opts.get("MC6_LOOP", 1),
        IPV6_MULTICAST_IF: 0,
        IPV6_UNICAST_IF: int.from_bytes(opts.get("uc_index", 0).to_bytes(4, "big"), "little"),
        IPV6_MTU_DISCOVER: sk.np_pmtudisc,
        IPV6_RECVERR: sk.recverr6,
        IPV6_RECVERR_RFC4884: opts.get("RECVERR6_RFC4884", 0),
        IPV6_MINHOPCOUNT: sk.min_hopcount,
        IPV6_ADDR_PREFERENCES: _addr_preferences(opts.get("srcprefs", 0)),
    }
    val = values.get(optname)
    return None if val is None else int(val)


def _addr_preferences(prefs: int) -> int:
    """IPV6_PREFER_SRC_*: temporary 1, public 2, default of both 0x100, care-of 4, home 0x400."""
    val = 1 if prefs & 1 else 2 if prefs & 2 else 0x100
    return val | (4 if prefs & 4 else 0x400)
