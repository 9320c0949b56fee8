"""The network card: machines nic_tx, nic_rx, napi and nic_vector.

`tx` is the transmit ring with its queue, `rx` the receive ring, `napi` the interrupt, the poll and the softirq,
`vector` the interrupt vectors of e1000e without NAPI. `drivers` holds what igb, e1000e and ixgbe have in their rings.
"""

from refmodel.nic import drivers, napi, napi_properties, rx, rx_properties, tx, tx_properties, vector

__all__ = ["drivers", "napi", "napi_properties", "rx", "rx_properties", "tx", "tx_properties", "vector"]
