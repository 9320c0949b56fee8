"""struct netdev_queue: one transmit queue of a device, the bits that stop it, and how long it has stood."""

from typing import Any, Final

from refmodel.dev.dql import Dql, DqlParams, avail
from refmodel.netdevice import NetDevice

NET_XMIT_DROP: Final = 0x01
NET_XMIT_MASK: Final = 0x0F
NETDEV_TX_OK: Final = 0x00
NETDEV_TX_BUSY: Final = 0x10
NET_TX_SOFTIRQ: Final = "NET_TX"

QUEUE_STATE_DRV_XOFF: Final = 1 << 0  # the driver stopped it
QUEUE_STATE_STACK_XOFF: Final = 1 << 1  # byte queue limits stopped it
QUEUE_STATE_FROZEN: Final = 1 << 2  # somebody works on all queues of the device
QUEUE_STATE_ANY_XOFF: Final = QUEUE_STATE_DRV_XOFF | QUEUE_STATE_STACK_XOFF
QUEUE_STATE_ANY_XOFF_OR_FROZEN: Final = QUEUE_STATE_ANY_XOFF | QUEUE_STATE_FROZEN


class NetdevQueue:
    """Queue `index` of `dev` in namespace `env`.

    `state` are QUEUE_STATE_ bits, `trans_start` the jiffy in which it last sent or was stopped, `trans_timeout` how
    often the watchdog found it standing. `qdisc` works, `qdisc_sleeping` is what was set. `dql` are its byte queue
    limits. `xmit_lock_owner` is the processor that holds its lock, -1 for none.
    """

    __slots__ = (
        "dev", "dql", "dql_params", "env", "index", "qdisc", "qdisc_sleeping", "state", "trans_start", "trans_timeout",
        "xmit_lock_owner",
    )  # fmt: skip

    def __init__(self, env: Any, dev: NetDevice, index: int = 0) -> None:
        self.env = env
        self.dev = dev
        self.index = index
        self.state = 0
        self.trans_start = 0
        self.trans_timeout = 0
        self.dql = Dql(slack_start_time=env.jiffies)
        self.dql_params = DqlParams(hold_time=env.hz)
        self.xmit_lock_owner = -1
        self.qdisc: Any = None
        self.qdisc_sleeping: Any = None

    @property
    def drv_stopped(self) -> bool:
        """The driver stopped it (netif_tx_queue_stopped)."""
        return bool(self.state & QUEUE_STATE_DRV_XOFF)

    @property
    def xmit_stopped(self) -> bool:
        """The driver or byte queue limits stopped it (netif_xmit_stopped)."""
        return bool(self.state & QUEUE_STATE_ANY_XOFF)

    @property
    def frozen_or_stopped(self) -> bool:
        """It is stopped or frozen (netif_xmit_frozen_or_stopped)."""
        return bool(self.state & QUEUE_STATE_ANY_XOFF_OR_FROZEN)

    @property
    def dql_avail(self) -> int:
        """Bytes that byte queue limits still let in; 0 for a driver that has none (netdev_queue_dql_avail)."""
        return avail(self.dql)

    def __repr__(self) -> str:
        return f"<{self.dev.name} queue {self.index}>"


def dev_xmit_complete(rc: int) -> bool:
    """Below NET_XMIT_MASK the driver has consumed the packet; source include/linux/netdevice.h:dev_xmit_complete."""
    return rc < NET_XMIT_MASK
