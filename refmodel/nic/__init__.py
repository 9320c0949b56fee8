"""The network card: machines nic_tx, nic_rx, napi, nic_vector and nic_itr.

`tx` is the transmit ring with its queue, `rx` the receive ring, `napi` the interrupt, the poll and the softirq,
`vector` the interrupt vectors of e1000e without NAPI, `itr` its interrupt moderation and its watchdog. `drivers` holds
what igb, e1000e and ixgbe have in their rings.
"""

from refmodel.nic import drivers, itr, napi, napi_properties, rx, rx_properties, tx, tx_properties, vector

__all__ = ["drivers", "itr", "napi", "napi_properties", "rx", "rx_properties", "tx", "tx_properties", "vector"]
