"""A tun device: the wire on which a script plays the other host.

What is written to the device goes into the kernel's stack. What the stack sends is seen by a packet socket, with the
kernel's own time stamp, before the device cuts it: super-frames arrive whole. The device goes away with its namespace.
"""

import ctypes
import fcntl
import os
import select
import socket
import struct
from typing import Final

from msgspec import Struct

TUNSETIFF: Final = 0x400454CA
TUNSETOFFLOAD: Final = 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN = 0x01, 0x02, 0x04, 0x08
SO_TIMESTAMPNS: Final = 35
SO_RCVBUFFORCE: Final = 33
PACKET_OUTGOING: Final = 4
ETH_P_ALL: Final = 0x0003
NO_OFFLOAD: Final = bytes(10)  # struct virtio_net_hdr: no checksum to fill in, not a super-frame
GSO_TCPV4, GSO_TCPV6 = 1, 4
LARGEST: Final = 1 << 18
QUEUE: Final = 8 << 20
CLONE_NEWNET: Final = 0x40000000
CLONE_NEWNS: Final = 0x00020000
MS_REC_PRIVATE: Final = 0x4000 | 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def leave() -> None:
    """Moves this process into a network namespace and a /tmp of its own; raises OSError (EPERM without root)."""
    _check(_libc.unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None), "mount --make-rprivate /")
    _check(_libc.mount(b"refmodel", b"/tmp", b"tmpfs", 0, None), "mount tmpfs on /tmp")


class Sniffed(Struct, frozen=True):
    """A packet that the stack sent, with the kernel's time of it in us since the epoch."""

    time: int
    data: bytes


class Tun:
    """The device `name`; raises OSError where it cannot be made."""

    def __init__(self, name: str = "tun0") -> None:
        self.name = name
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        request = struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(self.fd, TUNSETIFF, request)
        fcntl.ioctl(self.fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
        self.tap: socket.socket | None = None

    def listen(self) -> None:
        """Opens the tap; the device is up by now."""
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        tap.bind((self.name, ETH_P_ALL))
        tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE)
        tap.setblocking(False)
        self.tap = tap

    def send(self, packet: bytes, gso_size: int = 0) -> None:
        """Gives the stack a packet as if it came from the wire, a super-segment of segments of `gso_size` bytes."""
        header = NO_OFFLOAD
        if gso_size:
            header = struct.pack("=BBHHHH", 0, GSO_TCPV4 if packet[0] >> 4 == 4 else GSO_TCPV6, 0, gso_size, 0, 0)
        os.write(self.fd, header + packet)

    def drain(self) -> None:
        """Takes what the device holds, as a card that has sent it: only then are its buffers free."""
        while True:
            try:
                os.read(self.fd, LARGEST)
            except BlockingIOError:
                return

    def receive(self, seconds: float) -> Sniffed | None:
        """The next packet that the stack sent; None if there is none within `seconds`."""
        if self.tap is None:
            raise RuntimeError("the tap is not open")
        while True:
            self.drain()
            if not select.select([self.tap], [], [], max(seconds, 0.0))[0]:
                return None
            data, control, _, sender = self.tap.recvmsg(LARGEST, 128)
            if sender[2] != PACKET_OUTGOING:
                continue
            for level, kind, value in control:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    sec, nsec = struct.unpack("qq", value[:16])
                    return Sniffed(sec * 1_000_000 + nsec // 1000, data)
