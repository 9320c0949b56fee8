"""Memory whose first touch waits: a system call that copies into it stands still in the kernel, and keeps its locks.

userfaultfd(2) by its system call, x86_64.
"""

import ctypes
import fcntl
import mmap
import os
import select
import struct
from typing import Final

NR_USERFAULTFD: Final = 323
O_CLOEXEC: Final = 0o2000000
UFFD_API: Final = 0xAA
UFFDIO_API: Final = 0xC018AA3F
UFFDIO_REGISTER: Final = 0xC020AA00
UFFDIO_ZEROPAGE: Final = 0xC020AA04
UFFDIO_REGISTER_MODE_MISSING: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


class Fault:
    """A page; whoever touches `view` first stands still until `resolve`. Raises OSError where the kernel refuses."""

    def __init__(self) -> None:
        fd = _libc.syscall(NR_USERFAULTFD, O_CLOEXEC | os.O_NONBLOCK)
        if fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"userfaultfd: {os.strerror(error)}")
        self.fd = fd
        self._resolved = False
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self._memory)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        fcntl.ioctl(fd, UFFDIO_API, struct.pack("QQQ", UFFD_API, 0, 0))
        mode = UFFDIO_REGISTER_MODE_MISSING
        fcntl.ioctl(fd, UFFDIO_REGISTER, struct.pack("QQQQ", self._start, mmap.PAGESIZE, mode, 0))

    def wait(self, seconds: float = 5.0) -> None:
        """Until someone stands still; raises TimeoutError if nobody does within `seconds`."""
        if not select.select([self.fd], [], [], seconds)[0]:
            raise TimeoutError("nobody touched the page")
        os.read(self.fd, 32)

    def resolve(self) -> None:
        """The page is there, all zeros, and whoever waits goes on."""
        if not self._resolved:
            self._resolved = True
            fcntl.ioctl(self.fd, UFFDIO_ZEROPAGE, struct.pack("QQQq", self._start, mmap.PAGESIZE, 0, 0))

    def close(self) -> None:
        """Lets go of the watch; the memory goes with the object."""
        os.close(self.fd)
