"""The neighbour table of a namespace: entries that the proved machine moves, and packets that wait in them.

The law: what an entry does is decided by the rules of refmodel.neigh alone; the functions here carry its effects out,
at the place and in the order of the kernel's functions whose names they have.
"""

import errno
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from refmodel.dropreason import Reason
from refmodel.engine.run import pick
from refmodel.host.env import Below
from refmodel.neigh import NEIGH
from refmodel.neigh.arp import RTN
from refmodel.neigh.entry import Entry
from refmodel.neigh.output import way
from refmodel.neigh.parms import Family, NeighParms, Ops, parms
from refmodel.neigh.types import (
    CONNECTED,
    NUD,
    Create,
    Delete,
    Drop,
    DropQueued,
    ErrorReport,
    EventSend,
    Flush,
    Neigh,
    Notify,
    Out,
    Output,
    Override,
    Queue,
    SendQueued,
    Solicit,
    Timer,
    Transmit,
    Update,
)
from refmodel.netdevice import IFF_LOOPBACK, IFF_NOARP, IFF_POINTOPOINT, NetDevice
from refmodel.profile import profile
from refmodel.rule import Mib, cited
from refmodel.skbuff import SkBuff
from refmodel.types import NEVER

ARP_LEN: Final = 28
HARDWARE_ETHER: Final = 1


def number(address: bytes) -> int:
    """An address as the rules have it: an integer."""
    return int.from_bytes(address, "big")


class Neighbour:
    """struct neighbour: the rules' `entry`, its address, its device, and arp_queue."""

    __slots__ = ("arp_queue", "dev", "entry", "primary_key", "tbl", "timer")

    def __init__(self, tbl: "NeighTable", key: bytes, dev: NetDevice, entry: Entry) -> None:
        self.tbl = tbl
        self.primary_key = key
        self.dev = dev
        self.entry = entry
        self.arp_queue: deque[SkBuff] = deque()
        self.timer = tbl.env.timer("neigh_timer", neigh_timer_handler, self)

    @property
    def nud(self) -> NUD:
        """nud_state; NONE of an entry that is out of the table."""
        return self.entry.state.nud_state if isinstance(self.entry.state, Neigh) else NUD.NONE

    def event_send(self) -> None:
        """Its address is asked for although no packet waits; source include/net/neighbour.h:neigh_event_send."""
        _, effects = self.entry.feed(EventSend(self.tbl.env.now))
        self.set_timer()
        carry_out(self, effects, None)

    def flush(self, e: Flush | Delete) -> None:
        """Its device is gone or has changed, or it is deleted; source net/core/neighbour.c:neigh_flush_dev."""
        _, effects = self.entry.feed(e)
        self.set_timer()
        carry_out(self, effects, None)
        if not isinstance(self.entry.state, Neigh):
            self.tbl.hash.pop((self.dev.ifindex, self.primary_key), None)
            neigh_destroy(self)

    def set_timer(self) -> None:
        """Arms the kernel's timer for the deadline that the rules gave."""
        when = self.entry.deadline
        if when >= NEVER:
            self.timer.stop()
        else:
            self.timer.mod(when * self.tbl.env.hz // 1_000_000)


class NeighTable:
    """struct neigh_table of one namespace: arp_tbl, or nd_tbl for `family` INET6.

    `solicit` and `error_report` are neigh_ops', `constructor` is the table's. `reachable_time` (us) stands for what a
    kernel draws. `messages` are the notifications to user space, in order.
    """

    def __init__(
        self,
        env: Below,
        family: Family,
        kernel: str,
        solicit: Callable[["Neighbour", Solicit], None],
        error_report: Callable[["Neighbour", SkBuff], None],
        constructor: Callable[["Neighbour"], None],
        reachable: int = 30_000_000,
    ) -> None:
        self.env = env
        self.family = family
        self.solicit = solicit
        self.error_report = error_report
        self.constructor = constructor
        self.reachable_time = reachable
        self.profile = profile(kernel, env.hz)
        self.apply = pick(NEIGH, kernel).apply
        self.hash: dict[tuple[int, bytes], Neighbour] = {}
        self.parms: dict[int, NeighParms] = {}
        self.messages: list[tuple[Neighbour, Notify]] = []


@cited("net/core/neighbour.c:neigh_table_init")
def neigh_table_init(
    env: Below,
    family: Family,
    kernel: str,
    solicit: Callable[[Neighbour, Solicit], None],
    error_report: Callable[[Neighbour, SkBuff], None],
    constructor: Callable[[Neighbour], None],
) -> NeighTable:
    """An empty table of one family."""
    return NeighTable(env, family, kernel, solicit, error_report, constructor)


@cited("net/core/neighbour.c:neigh_parms_alloc")
def neigh_parms_alloc(dev: NetDevice, tbl: NeighTable) -> NeighParms:
    """A device's parameters, a copy of the table's defaults; made when the device comes."""
    found = parms(
        tbl.profile,
        tbl.family,
        reachable_time=tbl.reachable_time,
        ops=Ops.HH if dev.dev_addr else Ops.DIRECT,
        addr_len=len(dev.dev_addr),
        dev_addr=number(dev.dev_addr),
        loopback=bool(dev.flags & IFF_LOOPBACK),
        noarp=bool(dev.flags & IFF_NOARP),
        pointopoint=bool(dev.flags & IFF_POINTOPOINT),
    )
    tbl.parms[dev.ifindex] = found
    return found


def parms_of(tbl: NeighTable, dev: NetDevice) -> NeighParms:
    """A device's parameters, made at the first question."""
    return tbl.parms.get(dev.ifindex) or neigh_parms_alloc(dev, tbl)


@cited("net/core/neighbour.c:neigh_destroy")
def neigh_destroy(n: Neighbour) -> None:
    """An entry that nobody holds is freed."""
    n.tbl.env.note("neigh_destroy", dotted(n.primary_key))


@cited("net/core/neighbour.c:neigh_delete")
def neigh_delete(tbl: NeighTable, key: bytes, dev: NetDevice) -> int:
    """The administrator deletes an entry (RTM_DELNEIGH): it fails first, and goes if nobody holds it; 0 or -ENOENT."""
    n = neigh_lookup(tbl, key, dev)
    if n is None:
        return -errno.ENOENT
    n.flush(Delete(tbl.env.now))
    return 0


# ---------------------------------------------------------------- finding and making entries


@cited("net/core/neighbour.c:neigh_lookup", "include/net/arp.h:__ipv4_neigh_lookup_noref")
def neigh_lookup(tbl: NeighTable, key: bytes, dev: NetDevice) -> Neighbour | None:
    """The entry of an address on a device."""
    return tbl.hash.get((dev.ifindex, key))


@cited("net/core/neighbour.c:__neigh_create", "net/core/neighbour.c:___neigh_create")
def __neigh_create(tbl: NeighTable, key: bytes, dev: NetDevice, **of: Any) -> Neighbour | None:
    """A new entry, as its constructor makes it; None where the table is full."""
    n = Neighbour(tbl, key, dev, Entry(parms_of(tbl, dev), tbl.apply))
    kind = tbl.env.inet_addr_type(key, dev) if tbl.family == Family.INET else RTN.UNICAST
    multicast = key[0] >> 4 == 14 if len(key) == 4 else key[0] == 0xFF
    mc_ha = number(bytes((1, 0, 0x5E, key[1] & 0x7F)) + key[2:]) if len(key) == 4 else number(b"\x33\x33" + key[12:])
    e = Create(
        tbl.env.now,
        multicast=multicast,
        broadcast=kind == RTN.BROADCAST,
        mc_ha=mc_ha if multicast else 0,
        entries=len(tbl.hash),
        **of,
    )
    _, effects = n.entry.feed(e)
    if isinstance(n.entry.state, Neigh):
        tbl.constructor(n)
    carry_out(n, effects, None)
    if not isinstance(n.entry.state, Neigh):
        tbl.env.note("__neigh_create", f"{len(tbl.hash)} entries: the table is full")
        return None
    tbl.env.note("__neigh_create", f"{dotted(key)} on {dev.name}: {n.nud.name}")
    tbl.hash[dev.ifindex, key] = n
    n.set_timer()
    return n


def dotted(key: bytes) -> str:
    """An address as people write it."""
    return ".".join(map(str, key)) if len(key) == 4 else ":".join(key[i : i + 2].hex() for i in range(0, 16, 2))


@cited("include/net/route.h:ip_neigh_gw4")
def ip_neigh_gw4(tbl: NeighTable, daddr: bytes, dev: NetDevice) -> Neighbour | None:
    """The entry of a next hop, made if it is not there yet; None where the table is full."""
    key = daddr
    # arp_constructor: one entry for all addresses of a device that is point-to-point or loops back.
    if dev.flags & (IFF_LOOPBACK | IFF_POINTOPOINT) and tbl.family == Family.INET:
        key = bytes(4)
    n = neigh_lookup(tbl, key, dev)
    if n is not None:
        tbl.env.note("ip_neigh_gw4", f"{dotted(key)}: {n.nud.name}")
        return n
    tbl.env.note("ip_neigh_gw4", f"{dotted(key)}: no entry")
    return __neigh_create(tbl, key, dev)


# ---------------------------------------------------------------- a packet leaves


def event_of(n: Neighbour, skb: SkBuff, skip_cache: bool) -> Output:
    """The machine's event for a packet, with whom it drives out of a full arp_queue."""
    limit = n.entry.parms.queue_len_bytes
    total, gone, last, count = sum(n.entry.sizes), 0, 0, 0
    sizes = n.entry.sizes
    while count < len(sizes) and total - gone + skb.truesize > limit:
        last = sizes[count]
        gone += last
        count += 1
    return Output(n.tbl.env.now, skb.truesize, False, skip_cache, count, gone, last)


@cited("include/net/neighbour.h:neigh_output")
def neigh_output(n: Neighbour, skb: SkBuff, skip_cache: bool = False) -> int:
    """A packet leaves through a neighbour: by the cached header if there is one, else by the entry's output."""
    e = event_of(n, skb, skip_cache)
    s = n.entry.state
    if not isinstance(s, Neigh):
        return neigh_blackhole(n, skb)
    to = way(s, e)
    note = n.tbl.env.note
    if to == Out.HH:
        note("neigh_output", f"{n.nud.name} and header cached: neigh_hh_output")
        return neigh_hh_output(n, skb, e)
    why = "header to be cached" if s.nud_state in CONNECTED else "not connected"
    note("neigh_output", f"{n.nud.name}, {why}: {OUTPUT[to].__name__}")
    return OUTPUT[to](n, skb, e)


@cited("net/core/neighbour.c:neigh_blackhole")
def neigh_blackhole(n: Neighbour, skb: SkBuff) -> int:
    """An entry out of the table drops what is sent through it."""
    n.tbl.env.kfree_skb(skb, Reason.NEIGH_DEAD)
    return -100


@cited("include/net/neighbour.h:neigh_hh_output")
def neigh_hh_output(n: Neighbour, skb: SkBuff, e: Output) -> int:
    """The cached link-layer header is copied in front of the packet."""
    _, effects = n.entry.feed(e)
    return carry_out(n, effects, skb)


@cited("net/core/neighbour.c:neigh_resolve_output")
def neigh_resolve_output(n: Neighbour, skb: SkBuff, e: Output) -> int:
    """A packet goes out if the entry has an address, and then with a new header; else it waits."""
    return __neigh_event_send(n, skb, e)


@cited("net/core/neighbour.c:neigh_connected_output")
def neigh_connected_output(n: Neighbour, skb: SkBuff, e: Output) -> int:
    """A connected entry without header cache builds the header."""
    _, effects = n.entry.feed(e)
    return carry_out(n, effects, skb)


@cited("net/core/neighbour.c:neigh_direct_output")
def neigh_direct_output(n: Neighbour, skb: SkBuff, e: Output) -> int:
    """A device without link-layer headers gets the packet as it is."""
    _, effects = n.entry.feed(e)
    return carry_out(n, effects, skb)


OUTPUT: Final = {
    Out.DIRECT: neigh_direct_output,
    Out.CONNECTED: neigh_connected_output,
    Out.RESOLVE: neigh_resolve_output,
}


@cited("net/core/neighbour.c:__neigh_event_send", "include/net/neighbour.h:neigh_event_send")
def __neigh_event_send(n: Neighbour, skb: SkBuff, e: Output) -> int:
    """What an entry that is not connected does with a packet: send it and look again, ask, wait, or give up."""
    before = n.nud
    had = n.entry.state.hh if isinstance(n.entry.state, Neigh) else False
    _, effects = n.entry.feed(e)
    fate = next((x for x in effects if isinstance(x, (Transmit, Queue, Drop))), None)
    words = {Transmit: "sent", Queue: "waits in arp_queue", Drop: "dropped"}
    n.tbl.env.note(
        "__neigh_event_send",
        f"{before.name} -> {n.nud.name}: the packet {words[type(fate)]}" if fate is not None else before.name,
    )
    n.set_timer()
    if isinstance(n.entry.state, Neigh) and n.entry.state.hh and not had:
        neigh_hh_init(n)
    return carry_out(n, effects, skb)


@cited("net/core/neighbour.c:neigh_hh_init")
def neigh_hh_init(n: Neighbour) -> None:
    """The header of packets to this neighbour is kept ready (eth_header_cache)."""
    s = n.entry.state
    if isinstance(s, Neigh):
        n.tbl.env.note("neigh_hh_init", f"destination {s.hh_ha.to_bytes(6, 'big').hex(':')}")


# ---------------------------------------------------------------- what the rules say is done


def carry_out(n: Neighbour, effects: tuple[Any, ...], skb: SkBuff | None) -> int:
    """Does what the rules decided, in their order; `skb` is the event's packet. 0, or a negative errno."""
    env, err = n.tbl.env, 0
    for x in effects:
        if isinstance(x, Transmit) and skb is not None:
            err = send(n, skb, x.ha)
        elif isinstance(x, Queue) and skb is not None:
            n.arp_queue.append(skb)
        elif isinstance(x, Drop) and skb is not None:
            env.kfree_skb(skb, Reason(x.reason.name))
            err = -int(x.err)
        elif isinstance(x, SendQueued):
            for _ in range(x.n):
                send_queued(n, n.arp_queue.popleft(), x)
        elif isinstance(x, DropQueued):
            for _ in range(x.n):
                env.kfree_skb(n.arp_queue.popleft(), Reason(x.reason.name))
        elif isinstance(x, ErrorReport):
            for _ in range(x.n):
                n.tbl.error_report(n, n.arp_queue.popleft())
        elif isinstance(x, Solicit):
            neigh_probe(n, x)
        elif isinstance(x, Notify):
            n.tbl.messages.append((n, x))
        elif isinstance(x, Mib):
            env.count(f"Neigh{x.name}", x.n)
    return err


def send_queued(n: Neighbour, skb: SkBuff, x: SendQueued) -> int:
    """A packet that waited leaves, through the output that the entry has now."""
    return {
        Out.DIRECT: waited_direct,
        Out.CONNECTED: waited_connected,
        Out.RESOLVE: waited_resolve,
        Out.HH: waited_resolve,
    }[x.path](n, skb, x.ha)


@cited("net/core/neighbour.c:neigh_resolve_output")
def waited_resolve(n: Neighbour, skb: SkBuff, ha: int) -> int:
    """A packet that waited gets its header and leaves."""
    return send(n, skb, ha)


@cited("net/core/neighbour.c:neigh_connected_output")
def waited_connected(n: Neighbour, skb: SkBuff, ha: int) -> int:
    """A packet that waited leaves through a connected entry."""
    return send(n, skb, ha)


@cited("net/core/neighbour.c:neigh_direct_output")
def waited_direct(n: Neighbour, skb: SkBuff, ha: int) -> int:
    """A packet that waited leaves without a header."""
    return send(n, skb, ha)


def send(n: Neighbour, skb: SkBuff, ha: int) -> int:
    """The link-layer header, and the way to the device."""
    if n.dev.dev_addr:
        skb.mac_header = ha.to_bytes(6, "big") + n.dev.dev_addr + skb.protocol.to_bytes(2, "big")
    skb.dev = n.dev
    return n.tbl.env.dev_queue_xmit(skb)


@cited("net/core/neighbour.c:neigh_probe")
def neigh_probe(n: Neighbour, x: Solicit) -> None:
    """A solicitation by the family's way (neigh_ops->solicit); the newest packet that waits says from whom."""
    s = n.entry.state
    n.tbl.env.note("neigh_probe", f"probe {s.probes}, {x.how.name.lower()}" if isinstance(s, Neigh) else "")
    n.tbl.solicit(n, x)


@cited("net/core/neighbour.c:neigh_timer_handler")
def neigh_timer_handler(n: Neighbour) -> None:
    """The entry's timer: reachable time over, delay over, another probe, or given up."""
    if not isinstance(n.entry.state, Neigh):
        return
    before = n.nud
    _, effects = n.entry.feed(Timer(n.tbl.env.now))
    n.tbl.env.note("neigh_timer_handler", f"{dotted(n.primary_key)}: {before.name} -> {n.nud.name}")
    n.set_timer()
    carry_out(n, effects, None)


@cited("net/core/neighbour.c:neigh_update", "net/core/neighbour.c:__neigh_update")
def neigh_update(n: Neighbour, e: Update) -> int:
    """What was learnt of a neighbour: its state and address change, and what waited leaves."""
    before = n.nud
    _, effects = n.entry.feed(e)
    n.tbl.env.note("neigh_update", f"{dotted(n.primary_key)}: {before.name} -> {n.nud.name}")
    n.set_timer()
    if before != n.nud:
        if n.nud in CONNECTED:
            neigh_connect(n)
        else:
            neigh_suspect(n)
    return carry_out(n, effects, None)


@cited("net/core/neighbour.c:neigh_connect")
def neigh_connect(n: Neighbour) -> None:
    """The entry may be used without a second look."""
    s = n.entry.state
    n.tbl.env.note("neigh_connect", f"output is {OUTPUT[s.output].__name__}" if isinstance(s, Neigh) else "")


@cited("net/core/neighbour.c:neigh_suspect")
def neigh_suspect(n: Neighbour) -> None:
    """The entry is used with care: every packet passes neigh_resolve_output."""
    s = n.entry.state
    n.tbl.env.note("neigh_suspect", f"output is {OUTPUT[s.output].__name__}" if isinstance(s, Neigh) else "")


@cited("net/core/neighbour.c:neigh_add")
def neigh_add(
    tbl: NeighTable, key: bytes, dev: NetDevice, lladdr: bytes, state: NUD = NUD.PERMANENT
) -> Neighbour | None:
    """The administrator makes an entry or changes one (RTM_NEWNEIGH)."""
    n = neigh_lookup(tbl, key, dev)
    if n is None:
        n = __neigh_create(tbl, key, dev, netlink=True, permanent=state == NUD.PERMANENT)
    if n is not None:
        neigh_update(n, Update(tbl.env.now, state, lladdr=number(lladdr), override=Override.YES, admin=True))
    return n
