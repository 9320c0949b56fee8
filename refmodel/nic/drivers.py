"""Parameter sets: what igb, e1000e and ixgbe have in their rings.

Ring sizes are the drivers' defaults; `ethtool -G` changes them in steps of 8.
"""

from typing import Final

from msgspec import Struct

from refmodel.nic.napi import NapiParams
from refmodel.nic.rx import RxParams
from refmodel.nic.tx import MAX_SKB_FRAGS, TxParams
from refmodel.nic.vector import E1000_IMS_OTHER, E1000_IMS_RXQ0, E1000_IMS_UP, IMS_OTHER_MASK, VectorParams


class Driver(Struct, frozen=True):
    """One driver's rings and interrupts with MSI-X and one pair of queues, and the sources that say so.

    `napi`: the vector that polls. `vectors`: those without NAPI (e1000e: transmit, other).
    `ring_min`, `ring_max`: what `ethtool -G` allows. `data_per_descriptor`: bytes that one transmit descriptor carries
    at most.
    """

    name: str
    tx: TxParams
    rx: RxParams
    napi: NapiParams
    vectors: tuple[VectorParams, ...]
    ring_min: int
    ring_max: int
    data_per_descriptor: int
    cites: tuple[str, ...]

    def descriptors(self, head: int, frags: tuple[int, ...] = ()) -> int:
        """Data descriptors of an skb with `head` linear bytes and fragments of `frags` bytes each (TXD_USE_COUNT)."""
        return sum(-(-n // self.data_per_descriptor) for n in (head, *frags))


IGB: Final = Driver(
    name="igb",
    tx=TxParams(),
    rx=RxParams(),
    # igb numbers its vectors from 0, which is the one for the link; its first pair of rings has the next.
    napi=NapiParams(ims=1 << 1, ims_up=0b11),
    vectors=(),
    ring_min=64,
    ring_max=4096,
    data_per_descriptor=1 << 15,
    cites=(
        "drivers/net/ethernet/intel/igb/igb.h:IGB_DEFAULT_TXD",
        "drivers/net/ethernet/intel/igb/igb.h:DESC_NEEDED",
        "drivers/net/ethernet/intel/igb/igb_main.c:igb_clean_tx_irq",
    ),
)

# e1000e's 82574: tx_fifo_limit is 24 KB at most, so a page takes one descriptor, and the room asked for after a packet
# is (MAX_SKB_FRAGS + 1) * 1 + 4.
E1000E: Final = Driver(
    name="e1000e",
    tx=TxParams(
        count=256,
        stop_below=MAX_SKB_FRAGS + 1 + 4,
        wake_at=32,
        limit_is_count=True,
        counts_context=True,
        reprieve_wakes=False,
        hang_stops=False,
        link_stops=True,
        link_wakes=True,
    ),
    rx=RxParams(count=256, budget_first=False, tail_in_batches=True, one_buffer=True),
    napi=NapiParams(ims=E1000_IMS_RXQ0, ims_up=E1000_IMS_UP),
    vectors=(VectorParams(), VectorParams(other=True, ims=E1000_IMS_OTHER | IMS_OTHER_MASK)),
    ring_min=64,
    ring_max=4096,
    data_per_descriptor=24 << 10,
    cites=(
        "drivers/net/ethernet/intel/e1000e/e1000.h:E1000_DEFAULT_TXD",
        "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_xmit_frame",
        "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_clean_tx_irq",
        "drivers/net/ethernet/intel/e1000e/netdev.c:e1000_alloc_rx_buffers",
        "drivers/net/ethernet/intel/e1000e/netdev.c:e1000e_reset",
    ),
)

IXGBE: Final = Driver(
    name="ixgbe",
    tx=TxParams(count=512, work_limit=256, reprieve_wakes=False, link_wakes=True),
    rx=RxParams(count=512),
    napi=NapiParams(),
    vectors=(),
    ring_min=64,
    ring_max=8192,
    data_per_descriptor=1 << 14,
    cites=(
        "drivers/net/ethernet/intel/ixgbe/ixgbe.h:IXGBE_DEFAULT_TXD",
        "drivers/net/ethernet/intel/ixgbe/ixgbe.h:DESC_NEEDED",
        "drivers/net/ethernet/intel/ixgbe/ixgbe_main.c:ixgbe_clean_tx_irq",
    ),
)

DRIVERS: Final = {d.name: d for d in (IGB, E1000E, IXGBE)}
