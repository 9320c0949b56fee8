"""Memory for readv and its kin as libc takes it: vectors of buffers, message headers with control messages."""

import ctypes
import struct
from collections.abc import Sequence
from typing import Final

from conformance.pkt.ast import Cmsg
from conformance.pkt.msg import CMSG_HEADER, Control, packed

CONTROL_SPACE: Final = 4096


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Buffers:
    """Memory for readv and its kin, zero-filled; `control` None makes room to receive control messages."""

    def __init__(self, sizes: Sequence[int], name: bytes = b"", control: Sequence[Cmsg] | None = ()) -> None:
        self._parts = [ctypes.create_string_buffer(max(n, 1)) for n in sizes]
        self.vector = (_IoVec * max(len(sizes), 1))()
        for n, (part, size) in enumerate(zip(self._parts, sizes, strict=True)):
            self.vector[n] = _IoVec(ctypes.addressof(part), size)
        self._name = ctypes.create_string_buffer(name, max(len(name), 1))
        area = bytes(CONTROL_SPACE) if control is None else b"".join(packed(c) for c in control)
        self._control = ctypes.create_string_buffer(area, max(len(area), 1))
        self.msghdr = _MsgHdr(
            ctypes.addressof(self._name) if name else None,
            len(name),
            ctypes.addressof(self.vector),
            len(sizes),
            ctypes.addressof(self._control) if area else None,
            len(area),
            0,
        )

    def control(self) -> list[Control]:
        """The control messages that recvmsg left."""
        raw = self._control.raw[: self.msghdr.controllen]
        out: list[Control] = []
        at = 0
        while at + CMSG_HEADER <= len(raw):
            size, level, kind = struct.unpack_from("Qii", raw, at)
            if size < CMSG_HEADER:
                break
            out.append(Control(level, kind, raw[at + CMSG_HEADER : at + size]))
            at += size + 7 & ~7
        return out
