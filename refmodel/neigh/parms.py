"""Parameters of the neighbour machine: sysctls of net.ipv4.neigh and net.ipv6.neigh, and what the device is.

Times are microseconds. Ranges are what the kernel accepts (seen by writing the limits on a live 6.18): times in seconds
may be negative, times in milliseconds may not. Their upper limit is INT_MAX jiffies; the widest (HZ=100) is taken here.
"""

from enum import IntEnum
from typing import Annotated, Any, Final

from refmodel.profile import Profile, Sysctl
from refmodel.rule import Params
from refmodel.types import Range

INT_MAX: Final = 0x7FFFFFFF
SECONDS_MAX: Final = INT_MAX // 100
U48: Final = (1 << 48) - 1
NOW_MAX: Final = 1 << 52

u48 = Annotated[int, Range(0, U48)]
clock = Annotated[int, Range(0, NOW_MAX)]

_TBL4: Final = "net/ipv4/arp.c:arp_tbl"
_TBL6: Final = "net/ipv6/ndisc.c:nd_tbl"


class Family(IntEnum):
    """AF_INET: the table is arp_tbl; AF_INET6: nd_tbl."""

    INET = 2
    INET6 = 10


class Ops(IntEnum):
    """Which neigh_ops the constructor installs: it follows the device's header_ops."""

    DIRECT = 0  # no header_ops: arp_direct_ops, ndisc_direct_ops
    GENERIC = 1  # header_ops without cache: arp_generic_ops, ndisc_generic_ops
    HH = 2  # header_ops with cache, as Ethernet's: arp_hh_ops, ndisc_hh_ops


def _knob(name: str, default: int, lo: int, hi: int, scale: int = 1, v6: int | None = None) -> tuple[Sysctl, Sysctl]:
    four = Sysctl(f"net.ipv4.neigh.default.{name}", default, lo, hi, _TBL4, scale)
    six = Sysctl(f"net.ipv6.neigh.default.{name}", default if v6 is None else v6, lo, hi, _TBL6, scale)
    return four, six


BASE_REACHABLE_TIME, BASE_REACHABLE_TIME6 = _knob("base_reachable_time_ms", 30_000, 0, INT_MAX, 1_000)
RETRANS_TIME, RETRANS_TIME6 = _knob("retrans_time_ms", 1_000, 0, INT_MAX, 1_000)
DELAY_PROBE_TIME, DELAY_PROBE_TIME6 = _knob("delay_first_probe_time", 5, -SECONDS_MAX, SECONDS_MAX, 1_000_000)
GC_STALETIME, GC_STALETIME6 = _knob("gc_stale_time", 60, -SECONDS_MAX, SECONDS_MAX, 1_000_000)
INTERVAL_PROBE_TIME, INTERVAL_PROBE_TIME6 = _knob("interval_probe_time_ms", 5_000, 1, INT_MAX, 1_000)
# In USER_HZ ticks of 10 ms. A larger value wraps to a negative number of jiffies, which the specification leaves out.
LOCKTIME, LOCKTIME6 = _knob("locktime", 100, 0, INT_MAX * 2 // 5, 10_000, v6=0)
PROXY_DELAY, PROXY_DELAY6 = _knob("proxy_delay", 80, 0, INT_MAX * 2 // 5, 10_000)
PROXY_QLEN, PROXY_QLEN6 = _knob("proxy_qlen", 64, 0, INT_MAX)
UCAST_PROBES, UCAST_PROBES6 = _knob("ucast_solicit", 3, 0, INT_MAX)
APP_PROBES, APP_PROBES6 = _knob("app_solicit", 0, 0, INT_MAX)
MCAST_PROBES, MCAST_PROBES6 = _knob("mcast_solicit", 3, 0, INT_MAX)
MCAST_REPROBES, MCAST_REPROBES6 = _knob("mcast_resolicit", 0, 0, INT_MAX)
QUEUE_LEN_BYTES, QUEUE_LEN_BYTES6 = _knob("unres_qlen_bytes", 212_992, 0, INT_MAX)
GC_INTERVAL, GC_INTERVAL6 = _knob("gc_interval", 30, -SECONDS_MAX, SECONDS_MAX, 1_000_000)
GC_THRESH1, GC_THRESH16 = _knob("gc_thresh1", 128, 0, INT_MAX)
GC_THRESH2, GC_THRESH26 = _knob("gc_thresh2", 512, 0, INT_MAX)
GC_THRESH3, GC_THRESH36 = _knob("gc_thresh3", 1024, 0, INT_MAX)


class NeighParms(Params, frozen=True, kw_only=True):
    """neigh_parms of one device, its table's thresholds and the device's own facts; this one is IPv4's."""

    base_reachable_time: Annotated[int, BASE_REACHABLE_TIME] = 30_000_000
    retrans_time: Annotated[int, RETRANS_TIME] = 1_000_000
    delay_probe_time: Annotated[int, DELAY_PROBE_TIME] = 5_000_000
    gc_staletime: Annotated[int, GC_STALETIME] = 60_000_000
    interval_probe_time: Annotated[int, INTERVAL_PROBE_TIME] = 5_000_000
    locktime: Annotated[int, LOCKTIME] = 1_000_000
    ucast_probes: Annotated[int, UCAST_PROBES] = 3
    app_probes: Annotated[int, APP_PROBES] = 0
    mcast_probes: Annotated[int, MCAST_PROBES] = 3
    mcast_reprobes: Annotated[int, MCAST_REPROBES] = 0
    queue_len_bytes: Annotated[int, QUEUE_LEN_BYTES] = 212_992
    gc_thresh1: Annotated[int, GC_THRESH1] = 128
    gc_thresh2: Annotated[int, GC_THRESH2] = 512
    gc_thresh3: Annotated[int, GC_THRESH3] = 1024
    family: Family = Family.INET
    # Uniform in [base/2, 3*base/2): drawn for a new device, every 300 s, and when base_reachable_time is written.
    reachable_time: Annotated[int, Range(0, INT_MAX * 1_500)] = 30_000_000
    # HZ/100 jiffies, the shortest retransmission, and one jiffy, in us: 8 ms and 4 ms at HZ=250.
    timer_floor: Annotated[int, Range(8_000, 10_000)] = 8_000
    tick: Annotated[int, Range(1_000, 10_000)] = 4_000
    ops: Ops = Ops.HH
    addr_len: Annotated[int, Range(0, 32)] = 6
    dev_addr: u48 = 0
    broadcast: u48 = U48
    loopback: bool = False
    noarp: bool = False
    pointopoint: bool = False
    kernel: int = 612


class NdParms(NeighParms, frozen=True, kw_only=True):
    """The same of IPv6: the same ranges under net.ipv6.neigh, and no locktime, which only ARP reads."""

    base_reachable_time: Annotated[int, BASE_REACHABLE_TIME6] = 30_000_000
    retrans_time: Annotated[int, RETRANS_TIME6] = 1_000_000
    delay_probe_time: Annotated[int, DELAY_PROBE_TIME6] = 5_000_000
    gc_staletime: Annotated[int, GC_STALETIME6] = 60_000_000
    interval_probe_time: Annotated[int, INTERVAL_PROBE_TIME6] = 5_000_000
    locktime: Annotated[int, LOCKTIME6] = 0
    ucast_probes: Annotated[int, UCAST_PROBES6] = 3
    app_probes: Annotated[int, APP_PROBES6] = 0
    mcast_probes: Annotated[int, MCAST_PROBES6] = 3
    mcast_reprobes: Annotated[int, MCAST_REPROBES6] = 0
    queue_len_bytes: Annotated[int, QUEUE_LEN_BYTES6] = 212_992
    gc_thresh1: Annotated[int, GC_THRESH16] = 128
    gc_thresh2: Annotated[int, GC_THRESH26] = 512
    gc_thresh3: Annotated[int, GC_THRESH36] = 1024
    family: Family = Family.INET6


def parms(profile: Profile, family: Family = Family.INET, **given: Any) -> NeighParms:
    """The parameters of `family` under `profile`; `given` holds device facts and reachable_time (us).

    Jiffies follow the profile's HZ. Raises OutOfRange for a sysctl that the kernel would refuse.
    """
    kind: type[NeighParms] = NeighParms if family == Family.INET else NdParms
    jiffy = 1_000_000 // profile.hz
    times = {"tick": jiffy, "timer_floor": (profile.hz // 100) * 1_000_000 // profile.hz}
    return profile.params(kind, **(times | given))
