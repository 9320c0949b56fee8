"""States, events and effects of one neighbour entry, named as in include/net/neighbour.h."""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from refmodel.neigh.parms import INT_MAX, NOW_MAX, Ops, clock, u48
from refmodel.rule import Effect, Event, State, pure
from refmodel.types import NEVER, TIME_MAX, Range


class NUD(IntEnum):
    """neighbour.nud_state: neighbour unreachability detection."""

    NONE = 0x00
    INCOMPLETE = 0x01
    REACHABLE = 0x02
    STALE = 0x04
    DELAY = 0x08
    PROBE = 0x10
    FAILED = 0x20
    NOARP = 0x40
    PERMANENT = 0x80


IN_TIMER: Final = (NUD.INCOMPLETE, NUD.REACHABLE, NUD.DELAY, NUD.PROBE)
CONNECTED: Final = (NUD.PERMANENT, NUD.NOARP, NUD.REACHABLE)
VALID: Final = (NUD.PERMANENT, NUD.NOARP, NUD.REACHABLE, NUD.PROBE, NUD.STALE, NUD.DELAY)
STATES: Final = tuple(NUD)


class Out(IntEnum):
    """neighbour.output, and neigh_hh_output which neigh_output prefers to it."""

    DIRECT = 0
    CONNECTED = 1
    RESOLVE = 2
    HH = 3


class How(IntEnum):
    """Where a solicitation goes: the cached address, a user-space daemon, or everybody."""

    UNICAST = 0
    APP = 1
    MULTICAST = 2  # ARP: the broadcast address; ND: the solicited-node group


class Reason(IntEnum):
    """SKB_DROP_REASON_*."""

    NOT_SPECIFIED = 0
    NEIGH_CREATEFAIL = 1
    NEIGH_FAILED = 2
    NEIGH_QUEUEFULL = 3


class Msg(IntEnum):
    """RTM_NEWNEIGH and RTM_DELNEIGH."""

    DELNEIGH = 29
    NEWNEIGH = 28


class Errno(IntEnum):
    """What an operation returns, negated."""

    OK = 0
    EPERM = 1
    EINVAL = 22
    ENETDOWN = 100
    ENOBUFS = 105


class Override(IntEnum):
    """NEIGH_UPDATE_F_OVERRIDE: no, yes, or only when locktime has passed since `updated` (arp_process)."""

    NO = 0
    YES = 1
    AFTER_LOCKTIME = 2


TRUESIZE_MAX: Final = 1 << 24
QBYTES_MAX: Final = INT_MAX + TRUESIZE_MAX
PAST: Final = 1 << 45

truesize = Annotated[int, Range(1, TRUESIZE_MAX)]
packets = Annotated[int, Range(0, QBYTES_MAX)]
past = Annotated[int, Range(-PAST, NOW_MAX)]
deadline = Annotated[int, Range(-PAST, TIME_MAX)]


class Absent(State, frozen=True):
    """No entry for this address in the table."""


class Neigh(State, frozen=True):
    """An entry in the table.

    Times are us; `timer` is the deadline or NEVER. `ha_set` says that `ha` was ever written. `hh` says that a header is
    cached and `hh_ha` is its destination. `qlen` packets of `qbytes` truesize are in arp_queue.
    """

    AT: ClassVar[str] = "nud_state"

    nud_state: NUD = NUD.NONE
    ops: Ops = Ops.HH
    output: Out = Out.RESOLVE
    ha: u48 = 0
    ha_set: bool = False
    hh: bool = False
    hh_ha: u48 = 0
    probes: Annotated[int, Range(0, 3 * INT_MAX)] = 0
    confirmed: past = 0
    updated: past = 0
    used: past = 0
    timer: deadline = NEVER
    qlen: packets = 0
    qbytes: packets = 0
    router: bool = False
    ext_learned: bool = False
    managed: bool = False
    on_gc_list: bool = True


class Stray(State, frozen=True):
    """A dead entry, out of the table, that somebody still holds; its output is neigh_blackhole.

    Its nud_state is NOARP if it was `valid`, else NONE.
    """

    valid: bool = False
    hh: bool = False
    hh_ha: u48 = 0


class Timed(Event, frozen=True):
    """Every event has its time in us."""

    now: clock


class Create(Timed, frozen=True):
    """___neigh_create for a key of kind `multicast` or `broadcast`; `mc_ha` is the group's link-layer address.

    `netlink`: neigh_add creates it, with the flags given; it asks for `permanent`. `entries` is gc_entries before,
    `gc_freed` what neigh_forced_gc freed if it had to run.
    """

    multicast: bool = False
    broadcast: bool = False
    mc_ha: u48 = 0
    netlink: bool = False
    permanent: bool = False
    ext_learned: bool = False
    managed: bool = False
    entries: packets = 0
    gc_freed: packets = 0


class Output(Timed, frozen=True):
    """neigh_output of one packet.

    `confirm`: the socket's pending confirmation (sock_confirm_neigh). `skip_cache`: an IPv4 packet via an IPv6 gateway.
    `evicted` packets of `evicted_bytes` leave the head of a full arp_queue, the last of them of `evicted_last` bytes.
    """

    truesize: truesize
    confirm: bool = False
    skip_cache: bool = False
    evicted: packets = 0
    evicted_bytes: packets = 0
    evicted_last: packets = 0


class EventSend(Timed, frozen=True):
    """neigh_event_send_probe without a packet: NTF_USE (at once) or the managed work (in a jiffy)."""

    immediate_ok: bool = True


class Timer(Timed, frozen=True):
    """The entry's timer fires."""


class Confirm(Timed, frozen=True):
    """neigh_confirm from an upper layer."""


class Update(Timed, frozen=True):
    """neigh_update with its flags; `new` is one state."""

    new: NUD
    lladdr: u48 = 0
    has_lladdr: bool = True
    override: Override = Override.NO
    weak_override: bool = False
    override_isrouter: bool = False
    isrouter: bool = False
    admin: bool = False
    use: bool = False
    managed: bool = False
    ext_learned: bool = False


class Delete(Timed, frozen=True):
    """RTM_DELNEIGH or SIOCDARP; `held`: somebody beside table and timer has a reference."""

    held: bool = False


class Flush(Timed, frozen=True):
    """neigh_flush_dev; `skip_perm` when only the carrier went."""

    skip_perm: bool = False
    held: bool = False


class PeriodicGc(Timed, frozen=True):
    """neigh_periodic_work looks at this entry; the table has `entries`."""

    entries: packets = 0
    held: bool = False


class ForcedGc(Timed, frozen=True):
    """neigh_forced_gc looks at this entry."""

    multicast: bool = False
    held: bool = False


class Release(Timed, frozen=True):
    """The last holder lets a stray entry go."""


class Solicit(Effect, frozen=True):
    """neigh_ops.solicit: to `ha` if UNICAST; the source address is the newest queued packet's if `from_packet`."""

    how: How
    ha: int
    from_packet: bool


class Transmit(Effect, frozen=True):
    """The event's packet goes to dev_queue_xmit with `ha` as destination."""

    path: Out
    ha: int


class Queue(Effect, frozen=True):
    """The event's packet joins arp_queue."""

    n: int = 1


class SendQueued(Effect, frozen=True):
    """`n` packets of arp_queue are transmitted."""

    n: int
    path: Out
    ha: int


class DropQueued(Effect, frozen=True):
    """`n` packets of arp_queue are freed without a report."""

    n: int
    reason: Reason


class ErrorReport(Effect, frozen=True):
    """`n` packets of arp_queue get dst_link_failure (an ICMP host unreachable, or EHOSTUNREACH) and are freed."""

    n: int
    reason: Reason


class Drop(Effect, frozen=True):
    """The event's packet is freed."""

    reason: Reason
    err: Errno = Errno.OK


class Notify(Effect, frozen=True):
    """__neigh_notify to RTNLGRP_NEIGH; NDA_LLADDR `ha` is there if `has_lladdr`."""

    msg: Msg
    nud_state: NUD
    ha: int
    has_lladdr: bool
    probes: int


class Result(Effect, frozen=True):
    """What the operation returns."""

    err: Errno


@pure
def connected_output(ops: Ops) -> Out:
    """neigh_ops.connected_output. With a header cache it is neigh_resolve_output: the fast path lies before it."""
    return Out.DIRECT if ops == Ops.DIRECT else Out.CONNECTED if ops == Ops.GENERIC else Out.RESOLVE


@pure
def plain_output(ops: Ops) -> Out:
    """neigh_ops.output."""
    return Out.DIRECT if ops == Ops.DIRECT else Out.RESOLVE


def newneigh(t: Neigh) -> Notify:
    """RTM_NEWNEIGH of the entry as it is; source net/core/neighbour.c:neigh_fill_info."""
    return Notify(Msg.NEWNEIGH, t.nud_state, t.ha, t.nud_state in VALID, t.probes)


def delneigh(t: Neigh) -> Notify:
    """RTM_DELNEIGH of the entry as it is; source net/core/neighbour.c:neigh_cleanup_and_release."""
    return Notify(Msg.DELNEIGH, t.nud_state, t.ha, t.nud_state in VALID, t.probes)
