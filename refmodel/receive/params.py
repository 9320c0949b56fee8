"""Settings of the receive side, as the sysctls under net.core hold them."""

from typing import Annotated, Final

from refmodel.profile import Sysctl
from refmodel.rule import Params
from refmodel.types import Range

INT_MAX: Final = 2147483647
CORE: Final = "net/core/sysctl_net_core.c:net_core_table"


class ReceiveParams(Params, frozen=True):
    """`kernel`, `hz`, and net.core's sysctls of the receive side, in packets, segments, polls and us."""

    kernel: Annotated[int, Range(601, 618)] = 612
    hz: int = 250
    netdev_max_backlog: Annotated[int, Sysctl("net.core.netdev_max_backlog", 1000, -INT_MAX - 1, INT_MAX, CORE)] = 1000
    dev_weight: Annotated[int, Sysctl("net.core.dev_weight", 64, 1, INT_MAX, CORE)] = 64
    dev_weight_rx_bias: Annotated[int, Sysctl("net.core.dev_weight_rx_bias", 1, 1, INT_MAX, CORE)] = 1
    netdev_budget: Annotated[int, Sysctl("net.core.netdev_budget", 300, -INT_MAX - 1, INT_MAX, CORE)] = 300
    netdev_budget_usecs: Annotated[int, Sysctl("net.core.netdev_budget_usecs", 8000, 2000, INT_MAX, CORE)] = 8000
    gro_normal_batch: Annotated[int, Sysctl("net.core.gro_normal_batch", 8, 1, INT_MAX, CORE)] = 8
    flow_limit_table_len: Annotated[int, Sysctl("net.core.flow_limit_table_len", 4096, 0, INT_MAX, CORE)] = 4096
    flow_limit_cpu_bitmap: Annotated[int, Sysctl("net.core.flow_limit_cpu_bitmap", 0, 0, INT_MAX, CORE)] = 0

    @property
    def dev_rx_weight(self) -> int:
        """Packets that the backlog takes in one poll; source net/core/sysctl_net_core.c:proc_do_dev_weight."""
        return self.dev_weight * self.dev_weight_rx_bias
