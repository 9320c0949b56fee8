"""Settings of the queueing layer, as the sysctls under net.core hold them."""

from typing import Annotated, Final

from refmodel.profile import Sysctl
from refmodel.rule import Params

INT_MAX: Final = 2147483647
CORE: Final = "net/core/sysctl_net_core.c:net_core_table"


class SchedParams(Params, frozen=True):
    """How many packets a run of a discipline sends before it gives way: `dev_weight` times `dev_weight_tx_bias`."""

    dev_weight: Annotated[int, Sysctl("net.core.dev_weight", 64, 1, INT_MAX, CORE)] = 64
    dev_weight_tx_bias: Annotated[int, Sysctl("net.core.dev_weight_tx_bias", 1, 1, INT_MAX, CORE)] = 1

    @property
    def dev_tx_weight(self) -> int:
        """Packets of a run's quota; source net/core/sysctl_net_core.c:proc_do_dev_weight."""
        return self.dev_weight * self.dev_weight_tx_bias
