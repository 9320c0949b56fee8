"""Numbers that netfilter's parts share: hooks, verdicts, priorities, protocols, a connection's states and status."""

from enum import IntEnum, IntFlag
from typing import Final

from refmodel.rule import pure

NFPROTO_IPV4: Final = 2
NFPROTO_IPV6: Final = 10

NF_INET_PRE_ROUTING: Final = 0
NF_INET_LOCAL_IN: Final = 1
NF_INET_FORWARD: Final = 2
NF_INET_LOCAL_OUT: Final = 3
NF_INET_POST_ROUTING: Final = 4
NF_INET_NUMHOOKS: Final = 5
HOOKS: Final = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")

NF_DROP: Final = 0
NF_ACCEPT: Final = 1
NF_STOLEN: Final = 2
NF_QUEUE: Final = 3
NF_REPEAT: Final = 4
XT_CONTINUE: Final = 0xFFFFFFFF
XT_RETURN: Final = -NF_REPEAT - 1
VERDICTS: Final = {NF_DROP: "DROP", NF_ACCEPT: "ACCEPT", NF_STOLEN: "STOLEN", NF_QUEUE: "QUEUE"}

NF_IP_PRI_CONNTRACK_DEFRAG: Final = -400
NF_IP_PRI_RAW: Final = -300
NF_IP_PRI_CONNTRACK: Final = -200
NF_IP_PRI_MANGLE: Final = -150
NF_IP_PRI_NAT_DST: Final = -100
NF_IP_PRI_FILTER: Final = 0
NF_IP_PRI_NAT_SRC: Final = 100
NF_IP_PRI_CONNTRACK_CONFIRM: Final = 0x7FFFFFFF

IPPROTO_ICMP: Final = 1
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17

IP_OFFSET: Final = 0x1FFF
IP_MF: Final = 0x2000
IP_DF: Final = 0x4000

RTN_UNSPEC: Final = 0
RTN_UNICAST: Final = 1
RTN_LOCAL: Final = 2
RTN_BROADCAST: Final = 3
RTN_ANYCAST: Final = 4
RTN_MULTICAST: Final = 5
RTN_BLACKHOLE: Final = 6
RTN_UNREACHABLE: Final = 7
RTN_PROHIBIT: Final = 8

RTCF_BROADCAST: Final = 0x10000000
RTCF_MULTICAST: Final = 0x20000000
RT_SCOPE_UNIVERSE: Final = 0

ICMP_ECHOREPLY: Final = 0
ICMP_DEST_UNREACH: Final = 3
ICMP_SOURCE_QUENCH: Final = 4
ICMP_REDIRECT: Final = 5
ICMP_ECHO: Final = 8
ICMP_TIME_EXCEEDED: Final = 11
ICMP_PARAMETERPROB: Final = 12
ICMP_TIMESTAMP: Final = 13
ICMP_TIMESTAMPREPLY: Final = 14
ICMP_INFO_REQUEST: Final = 15
ICMP_INFO_REPLY: Final = 16
ICMP_ADDRESS: Final = 17
ICMP_ADDRESSREPLY: Final = 18
NR_ICMP_TYPES: Final = 18

IP_DEFRAG_CONNTRACK_IN: Final = 2
IP_DEFRAG_CONNTRACK_OUT: Final = 2 + 0xFFFF + 1

ORIGINAL: Final = 0
REPLY: Final = 1


class Info(IntEnum):
    """What a packet is to its connection; source nf_conntrack_common.h:ip_conntrack_info."""

    ESTABLISHED = 0
    RELATED = 1
    NEW = 2
    ESTABLISHED_REPLY = 3
    RELATED_REPLY = 4
    UNTRACKED = 7


class Ips(IntFlag):
    """A connection's status bits; source include/uapi/linux/netfilter/nf_conntrack_common.h:ip_conntrack_status."""

    EXPECTED = 1 << 0
    SEEN_REPLY = 1 << 1
    ASSURED = 1 << 2
    CONFIRMED = 1 << 3
    SRC_NAT = 1 << 4
    DST_NAT = 1 << 5
    SEQ_ADJUST = 1 << 6
    SRC_NAT_DONE = 1 << 7
    DST_NAT_DONE = 1 << 8
    DYING = 1 << 9
    FIXED_TIMEOUT = 1 << 10
    TEMPLATE = 1 << 11
    NAT_CLASH = 1 << 12


NAT_MASK: Final = Ips.SRC_NAT | Ips.DST_NAT
NAT_DONE_MASK: Final = Ips.SRC_NAT_DONE | Ips.DST_NAT_DONE


class Manip(IntEnum):
    """Which end of a packet NAT rewrites; source include/uapi/linux/netfilter/nf_nat.h:nf_nat_manip_type."""

    SRC = 0
    DST = 1


@pure
def CTINFO2DIR(ctinfo: int) -> int:
    """The direction of a packet: 1 for a reply; source include/net/netfilter/nf_conntrack.h:CTINFO2DIR."""
    return REPLY if ctinfo >= Info.ESTABLISHED_REPLY else ORIGINAL


@pure
def HOOK2MANIP(hooknum: int) -> Manip:
    """Sources are rewritten where a packet leaves or is delivered; source include/net/netfilter/nf_nat.h:HOOK2MANIP."""
    return Manip.SRC if hooknum in (NF_INET_POST_ROUTING, NF_INET_LOCAL_IN) else Manip.DST
