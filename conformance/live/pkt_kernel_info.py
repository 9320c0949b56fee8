"""What a code block sees of a live socket."""

import socket
import struct

from conformance.pkt.constants import SK_MEMINFO
from conformance.pkt.tcpinfo import (
    CC_INFO,
    LARGEST,
    SO_MEMINFO,
    TCP_CC_INFO,
    TCP_CONGESTION,
    TCP_INFO,
    cc_info,
    meminfo,
    tcp_info,
)


def snapshot(fd: int) -> dict[str, int]:
    """The variables of a socket as it is now; raises OSError where the descriptor is no socket."""
    with socket.socket(fileno=fd) as s:
        try:
            values = meminfo(s.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * len(SK_MEMINFO)))
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) != socket.IPPROTO_TCP:
                return values
            values |= tcp_info(s.getsockopt(socket.IPPROTO_TCP, TCP_INFO, LARGEST))
            name = s.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16).rstrip(b"\0").decode()
            if name in CC_INFO:
                size = struct.calcsize(CC_INFO[name][0])
                values |= cc_info(name, s.getsockopt(socket.IPPROTO_TCP, TCP_CC_INFO, size))
            return values
        finally:
            s.detach()
