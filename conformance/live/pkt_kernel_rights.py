"""Calls that libc has no function for: capabilities of this process, associations of PSP keys.

Both are what the script language's own tool does through libcap and through generic netlink.
"""

import ctypes
import errno
import socket
import struct
from typing import Final

_LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
WORDS: Final = 2  # of 32 capabilities each
CAP_LAST_CAP: Final = 40
SETS: Final = 3  # CAP_EFFECTIVE, CAP_PERMITTED, CAP_INHERITABLE, as struct __user_cap_data_struct has them
NETLINK_GENERIC: Final = 16
GENL_ID_CTRL: Final = 16
NLM_F_REQUEST: Final = 1
NLMSG_ERROR: Final = 2
CTRL_CMD_GETFAMILY: Final = 3
CTRL_ATTR_FAMILY_NAME: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


def cap_set(which: int, cap: int, op: int) -> int:
    """Sets (`op` 1) or clears (0) a capability in one of the three sets of this thread: 0, or a negative errno."""
    if not 0 <= which < SETS or not 0 <= cap <= CAP_LAST_CAP or op not in (0, 1):
        return -errno.EINVAL
    header = ctypes.create_string_buffer(struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(4 * SETS * WORDS)
    if _libc.capget(header, data) != 0:
        return -ctypes.get_errno()
    words = list(struct.unpack(f"{SETS * WORDS}I", data.raw[: 4 * SETS * WORDS]))
    at, bit = SETS * (cap // 32) + which, 1 << cap % 32
    words[at] = words[at] | bit if op else words[at] & ~bit
    data = ctypes.create_string_buffer(struct.pack(f"{SETS * WORDS}I", *words))
    return 0 if _libc.capset(header, data) == 0 else -ctypes.get_errno()


def genl_family(name: str) -> int:
    """0 where the kernel has a generic netlink family of that name, or a negative errno: -ENOENT where it has none."""
    text = name.encode() + b"\0"
    attr = struct.pack("HH", 4 + len(text), CTRL_ATTR_FAMILY_NAME) + text + bytes(-len(text) % 4)
    body = struct.pack("BBH", CTRL_CMD_GETFAMILY, 1, 0) + attr
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as s:
        s.send(struct.pack("IHHII", 16 + len(body), GENL_ID_CTRL, NLM_F_REQUEST, 1, 0) + body)
        answer = s.recv(65536)
    if struct.unpack_from("H", answer, 4)[0] != NLMSG_ERROR:
        return 0
    return int(struct.unpack_from("i", answer, 16)[0])
