"""NIC rings, interrupts and NAPI: machines nic_tx, nic_rx and napi."""

from refmodel.nic import rx, rx_properties, tx, tx_properties
