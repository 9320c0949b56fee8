"""Options of level IPPROTO_UDP, and what a datagram socket does otherwise with those of other levels."""

import errno
from struct import pack, unpack_from
from typing import Final

from refmodel.rule import NotModelled, cited
from refmodel.tcp.whole import sockopt, stream
from refmodel.udp import output
from refmodel.udp.sock import UdpSock

SOL_UDP: Final = 17
SOL_SOCKET: Final = 1
SOL_UDPLITE: Final = 136
UDP_CORK: Final = 1
UDPLITE_SEND_CSCOV: Final = 10
UDPLITE_RECV_CSCOV: Final = 11
UDP_ENCAP: Final = 100
UDP_NO_CHECK6_TX: Final = 101
UDP_NO_CHECK6_RX: Final = 102
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
USHRT_MAX: Final = 0xFFFF
ENCAP: Final = (1, 2, 3)  # ESP in UDP without and with a marker, L2TP


@cited("net/ipv4/udp.c:udp_lib_setsockopt", "net/ipv4/udp.c:udp_setsockopt")
def udp_setsockopt(sk: UdpSock, level: int, optname: int, optval: bytes) -> int:
    """Sets an option: 0, or a negative errno."""
    if level not in (SOL_UDP, SOL_UDPLITE):
        err = sockopt.do_sock_setsockopt(sk, level, optname, optval)
        if level == SOL_SOCKET and optname in (sockopt.SO_RCVBUF, sockopt.SO_RCVBUFFORCE):
            sk.forward_threshold = sk.sk_rcvbuf >> 2
        return err
    if len(optval) < 4:
        return -errno.EINVAL
    (val,) = unpack_from("<i", optval)
    if optname == UDP_CORK:
        sk.corkflag = bool(val)
        if not val:
            stream.lock_sock(sk)
            output.udp_push_pending_frames(sk)
            stream.release_sock(sk)
    elif optname == UDP_NO_CHECK6_TX:
        sk.no_check6_tx = bool(val)
    elif optname == UDP_NO_CHECK6_RX:
        sk.no_check6_rx = bool(val)
    elif optname == UDP_SEGMENT:
        if not 0 <= val <= USHRT_MAX:
            return -errno.EINVAL
        sk.gso_size = val
    elif optname == UDP_GRO:
        sk.gro_enabled = bool(val)
    elif optname == UDP_ENCAP:
        if val in ENCAP:
            raise NotModelled("tunnels in UDP")
        return 0 if val == 0 else -errno.ENOPROTOOPT
    else:
        return -errno.ENOPROTOOPT
    return 0


@cited("net/ipv4/udp.c:udp_lib_getsockopt", "net/ipv4/udp.c:udp_getsockopt")
def udp_getsockopt(sk: UdpSock, level: int, optname: int, length: int) -> tuple[int, bytes]:
    """Reads an option: (0 or a negative errno, value)."""
    if level not in (SOL_UDP, SOL_UDPLITE):
        return sockopt.do_sock_getsockopt(sk, level, optname, length)
    if length < 0:
        return -errno.EINVAL, b""
    values: dict[int, int] = {
        UDP_CORK: sk.corkflag,
        UDP_ENCAP: sk.encap_type,
        UDP_NO_CHECK6_TX: sk.no_check6_tx,
        UDP_NO_CHECK6_RX: sk.no_check6_rx,
        UDP_SEGMENT: sk.gso_size,
        UDP_GRO: sk.gro_enabled,
        UDPLITE_SEND_CSCOV: 0,
        UDPLITE_RECV_CSCOV: 0,
    }
    if optname not in values:
        return -errno.ENOPROTOOPT, b""
    return 0, pack("<i", values[optname])[:length]
