"""Queueing: machines qdisc_nolock, pfifo_fast, qdisc_fifo and tbf, and the way from dev_queue_xmit to the device.

`xmit` is the way in, `generic` runs disciplines, `qdisc` is what they have in common, `attach` puts them at devices;
`pfifo_fast`, `fifo`, `tbf` and `noop` are the disciplines. `nolock`, `bands`, `account` and `bucket` are proved.
"""

from refmodel.sched import (
    account,
    account_properties,
    attach,
    bands,
    bands_properties,
    bucket,
    generic,
    nolock,
    nolock_properties,
    xmit,
)

__all__ = [
    "account",
    "account_properties",
    "attach",
    "bands",
    "bands_properties",
    "bucket",
    "generic",
    "nolock",
    "nolock_properties",
    "xmit",
]
