"""UDP as Linux has it, over IPv4 and IPv6 (net/ipv4/udp.c, net/ipv6/udp.c, net/ipv4/datagram.c).

`sock` holds the objects, `table` says which socket a datagram is for and who may have a port, `output` is the way from
the application to the device, `input` the way back, `datagram` connects, disconnects and closes, `opt` are the options
of its own level, `file` is the descriptor. Importing this package makes SOCK_DGRAM known to socket(2).
"""

from refmodel.udp.file import DgramFile

__all__ = ["DgramFile"]
