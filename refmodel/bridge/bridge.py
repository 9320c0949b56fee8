"""A bridge, its ports, and its forwarding database: who was seen where, and when."""

from typing import Final, Protocol

from refmodel.env import Env
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

BR_STATE_DISABLED: Final = 0
BR_STATE_LISTENING: Final = 1
BR_STATE_LEARNING: Final = 2
BR_STATE_FORWARDING: Final = 3
BR_STATE_BLOCKING: Final = 4

AGEING_TIME: Final = 300  # s; source net/bridge/br_device.c:br_dev_setup


class BridgeEnv(Env, Protocol):
    """What a bridge asks of its namespace."""

    def dev_queue_xmit(self, skb: SkBuff) -> int:
        """Hands a frame to a port's device."""

    def netif_receive_skb(self, skb: SkBuff) -> int:
        """Hands a frame to this host, as having come in on the bridge."""


class BridgePort:
    """struct net_bridge_port. The flags are those of ``bridge link set``."""

    __slots__ = ("bcast_flood", "br", "dev", "flood", "hairpin", "isolated", "learning", "mcast_flood", "state")

    def __init__(self, br: "Bridge", dev: NetDevice) -> None:
        self.br = br
        self.dev = dev
        self.state = BR_STATE_FORWARDING
        self.learning = True
        self.flood = True
        self.mcast_flood = True
        self.bcast_flood = True
        self.hairpin = False
        self.isolated = False


class FdbEntry:
    """struct net_bridge_fdb_entry: `dst` None is the bridge itself; `updated` and `used` are ticks."""

    __slots__ = ("dst", "is_local", "is_static", "updated", "used")

    def __init__(self, dst: BridgePort | None, now: int, is_local: bool = False) -> None:
        self.dst = dst
        self.updated = now
        self.used = now
        self.is_local = is_local
        self.is_static = is_local


class Bridge:
    """struct net_bridge: `dev` is the bridge's own device, `ports` in the order of their numbers.

    The port that joined last is asked first when a frame is flooded, as in the kernel's list. `ageing_time` in s.
    """

    def __init__(self, env: BridgeEnv, dev: NetDevice, ageing_time: int = AGEING_TIME) -> None:
        self.env = env
        self.dev = dev
        self.ageing_time = ageing_time
        self.ports: list[BridgePort] = []
        self.fdb: dict[bytes, FdbEntry] = {}
        self.promisc = False
        self.fdb[dev.dev_addr] = FdbEntry(None, env.jiffies, is_local=True)

    @cited("net/bridge/br_if.c:br_add_if")
    def br_add_if(self, dev: NetDevice) -> BridgePort:
        """A device becomes a port; frames to its address are for this host."""
        port = BridgePort(self, dev)
        dev.master = self.dev
        self.ports.insert(0, port)
        self.fdb[dev.dev_addr] = FdbEntry(port, self.env.jiffies, is_local=True)
        return port

    def port_of(self, dev: NetDevice | None) -> BridgePort | None:
        """The port that a device is; source net/bridge/br_private.h:br_port_get_rcu."""
        return next((p for p in self.ports if p.dev is dev), None)


@cited("net/bridge/br_fdb.c:br_fdb_find_rcu")
def br_fdb_find_rcu(br: Bridge, addr: bytes) -> FdbEntry | None:
    """The entry of an address, whatever its age: an old one goes when it is collected."""
    return br.fdb.get(addr)


@cited("net/bridge/br_fdb.c:br_fdb_update", "IEEE 802.1D 7.8")
def br_fdb_update(br: Bridge, source: BridgePort, addr: bytes) -> None:
    """Learns that an address is behind a port; the bridge's own addresses are not learnt from others."""
    env = br.env
    if br.ageing_time == 0:
        return
    entry = br.fdb.get(addr)
    if entry is None:
        br.fdb[addr] = FdbEntry(source, env.jiffies)
        env.note("br_fdb_update", f"{addr.hex(':')} is behind {source.dev.name}")
    elif entry.is_local:
        env.note("br_fdb_update", f"{source.dev.name} sends from an address of this bridge: not learnt")
    else:
        entry.updated = env.jiffies
        if entry.dst is not source:
            env.note("br_fdb_update", f"{addr.hex(':')} moved to {source.dev.name}")
            entry.dst = source


@cited("net/bridge/br_fdb.c:br_fdb_cleanup", "IEEE 802.1D 7.9.2")
def br_fdb_cleanup(br: Bridge) -> None:
    """Forgets what was not heard of for the ageing time."""
    now = br.env.jiffies
    old = [a for a, e in br.fdb.items() if not e.is_static and e.updated + br.ageing_time * br.env.hz <= now]
    for addr in old:
        del br.fdb[addr]
    if old:
        br.env.note("br_fdb_cleanup", f"{len(old)} entries are too old")
