"""Capabilities: what a process may do beyond what anybody may (security/commoncap.c, kernel/capability.c).

The law: a process begins with all of them, as root does. One that leaves the permitted set leaves the effective one
first and never comes back; the effective set is part of the permitted set. A call asks for those of the process that
makes it (`Net.current`); with no process at all the kernel itself asks, and may do everything.
"""

import errno
from typing import TYPE_CHECKING, Final

from refmodel.rule import cited

if TYPE_CHECKING:
    from refmodel.tcp.whole.net import Net

CAP_SETPCAP: Final = 8
CAP_NET_BIND_SERVICE: Final = 10
CAP_NET_ADMIN: Final = 12
CAP_NET_RAW: Final = 13
CAP_LAST_CAP: Final = 40  # CAP_CHECKPOINT_RESTORE

CAP_EFFECTIVE: Final = 0
CAP_PERMITTED: Final = 1
CAP_INHERITABLE: Final = 2
CAP_CLEAR: Final = 0
CAP_SET: Final = 1

ALL: Final = frozenset(range(CAP_LAST_CAP + 1))


class Cred:
    """struct cred: the three sets of a process."""

    __slots__ = ("cap_effective", "cap_inheritable", "cap_permitted")

    def __init__(self) -> None:
        self.cap_effective = ALL
        self.cap_permitted = ALL
        self.cap_inheritable: frozenset[int] = frozenset()


@cited("security/commoncap.c:cap_capset")
def cap_capset(cred: Cred, effective: frozenset[int], inheritable: frozenset[int], permitted: frozenset[int]) -> int:
    """Takes the three sets: 0, or -EPERM where one asks for more than the process has."""
    if CAP_SETPCAP not in cred.cap_effective and not inheritable <= cred.cap_inheritable | cred.cap_permitted:
        return -errno.EPERM
    if not permitted <= cred.cap_permitted or not effective <= permitted:
        return -errno.EPERM
    cred.cap_effective, cred.cap_inheritable, cred.cap_permitted = effective, inheritable, permitted
    return 0


@cited("kernel/capability.c:ns_capable", "kernel/capability.c:capable")
def ns_capable(net: "Net", cap: int) -> bool:
    """The process that calls has `cap`."""
    return net.current is None or cap in net.current.cap_effective


def net_raw_or_admin(net: "Net") -> bool:
    """CAP_NET_RAW or CAP_NET_ADMIN, either of which is enough for marks, priorities and foreign addresses."""
    return ns_capable(net, CAP_NET_RAW) or ns_capable(net, CAP_NET_ADMIN)
