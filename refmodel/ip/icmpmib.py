"""How /proc/net/snmp names ICMP's types."""

from typing import Final

from refmodel.ip.net import Ip
from refmodel.rule import cited

NAMES: Final = {
    0: "EchoReps", 3: "DestUnreachs", 4: "SrcQuenchs", 5: "Redirects", 8: "Echos", 11: "TimeExcds", 12: "ParmProbs",
    13: "Timestamps", 14: "TimestampReps", 17: "AddrMasks", 18: "AddrMaskReps",
}  # fmt: skip


@cited("net/ipv4/icmp.c:icmp_out_count")
def icmp_out_count(net: Ip, type: int) -> None:
    """A message of one type goes out."""
    net.env.count(f"IcmpMsgOutType{type}")
    if type in NAMES:
        net.env.count(f"IcmpOut{NAMES[type]}")
    net.env.count("IcmpOutMsgs")


def icmpmsgin_inc_stats(net: Ip, type: int) -> None:
    """A message of one type came in; source include/net/icmp.h:ICMPMSGIN_INC_STATS."""
    net.env.count(f"IcmpMsgInType{type}")
    # Time exceeded has a second counter, which its handler adds to: /proc shows the one of types.
    if type in NAMES:
        net.env.count(f"IcmpIn{NAMES[type]}")
