"""Return codes, flags, state bits and tables of the queueing layer."""

from typing import Final

NET_XMIT_SUCCESS: Final = 0x00
NET_XMIT_DROP: Final = 0x01
NET_XMIT_CN: Final = 0x02  # the queue is congested: perhaps another packet was dropped
NET_XMIT_MASK: Final = 0x0F
NETDEV_TX_OK: Final = 0x00
NETDEV_TX_BUSY: Final = 0x10
ENETDOWN: Final = 100
EINVAL: Final = 22
ENOMEM: Final = 12

TCQ_F_BUILTIN: Final = 1
TCQ_F_CAN_BYPASS: Final = 4
TCQ_F_MQROOT: Final = 8
TCQ_F_ONETXQUEUE: Final = 0x10
TCQ_F_CPUSTATS: Final = 0x20
TCQ_F_NOPARENT: Final = 0x40
TCQ_F_NOLOCK: Final = 0x100

QDISC_STATE_SCHED: Final = 1 << 0  # on a processor's output queue
QDISC_STATE_DEACTIVATED: Final = 1 << 1
QDISC_STATE_MISSED: Final = 1 << 2  # another processor could not get the lock, or there is more to do: run again
QDISC_STATE_DRAINING: Final = 1 << 3  # packets wait for a stopped transmit queue
QDISC_STATE_NON_EMPTY: Final = QDISC_STATE_MISSED | QDISC_STATE_DRAINING

TC_PRIO_BESTEFFORT: Final = 0
TC_PRIO_FILLER: Final = 1
TC_PRIO_BULK: Final = 2
TC_PRIO_INTERACTIVE_BULK: Final = 4
TC_PRIO_INTERACTIVE: Final = 6
TC_PRIO_CONTROL: Final = 7
TC_PRIO_MAX: Final = 15

TC_H_ROOT: Final = 0xFFFFFFFF

NET_TX_SOFTIRQ: Final = "NET_TX"
SLOW_BULK: Final = 8  # what try_bulk_dequeue_skb_slow takes at most, besides the first
XMIT_RECURSION_LIMIT: Final = 8
QDISC_PKT_LEN_MAX: Final = 1 << 20

IPTOS_TOS_MASK: Final = 0x1E

# net/ipv4/route.c:ip_tos2prio, by (tos & 0x1e) >> 1: the last bit is ECN's, or "cheap" of old, and is not looked at.
IP_TOS2PRIO: Final = (0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4)

# net/sched/sch_generic.c:sch_default_prio2band
PRIO2BAND: Final = (1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
