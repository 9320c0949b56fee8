"""Device transmit: machines bql and dev_watchdog, and the way from a list of packets to the driver.

`xmit` validates, shows packets to taps and calls the driver, `txq` stops and wakes queues, `softirq` is NET_TX, and
`drivers` are loopback and tun. `dql` and `watchdog` are proved.
"""

from refmodel.dev import dql, dql_properties, drivers, linkwatch, softirq, txq, watchdog, xmit

__all__ = ["dql", "dql_properties", "drivers", "linkwatch", "softirq", "txq", "watchdog", "xmit"]
