"""What netlink answers when it is asked for a route: RTM_GETROUTE for one destination."""

from errno import EHOSTUNREACH, ENODEV

from msgspec import Struct

from refmodel.fib.leaf import FIB_PROPS_ERROR
from refmodel.fib.net import Fib
from refmodel.fib.route import ip_route_input_rcu, ip_route_output_key_hash_rcu
from refmodel.fib.types import (
    INET_DSCP_MASK,
    IPSKB_DOREDIRECT,
    LOOPBACK_IFINDEX,
    RT_TABLE_MAIN,
    RTAX_LOCK,
    RTAX_MTU,
    RTCF_DOREDIRECT,
    RTM_F_CLONED,
    RTN,
    FibInfo,
    FibResult,
    Flow4,
    Route,
)
from refmodel.packet.ip import Ipv4
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

IPPROTO_UDP = 17
