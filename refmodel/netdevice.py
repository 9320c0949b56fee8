"""A network device as every layer sees it: struct net_device and the flags that layers test.

What belongs to one layer only (queueing disciplines, rings, NAPI instances, addresses) that layer keeps by `ifindex`.
"""

from typing import Final

IFF_UP: Final = 1 << 0
IFF_BROADCAST: Final = 1 << 1
IFF_LOOPBACK: Final = 1 << 3
IFF_POINTOPOINT: Final = 1 << 4
IFF_RUNNING: Final = 1 << 6
IFF_NOARP: Final = 1 << 7
IFF_PROMISC: Final = 1 << 8
IFF_ALLMULTI: Final = 1 << 9
IFF_MULTICAST: Final = 1 << 12

ARPHRD_ETHER: Final = 1
ARPHRD_LOOPBACK: Final = 772
ARPHRD_NONE: Final = 0xFFFE

ETH_HLEN: Final = 14
ETH_BROADCAST: Final = b"\xff" * 6


class NetDevice:
    """One device of one namespace.

    `dev_addr` is its link-layer address (b"" where it has none), `mtu` bytes, `features` the names that
    ``ethtool -k`` prints for what is on: "tx-checksum-ip-generic", "tx-tcp-segmentation",
    "generic-segmentation-offload", "generic-receive-offload", "scatter-gather", "highdma"... `kind` names the driver:
    "veth", "lo", "tun", "bridge", "igb", "e1000e". `lltx`: it locks for itself (NETIF_F_LLTX). `no_queue`:
    IFF_NO_QUEUE, a device that wants no queueing discipline. `tx_queue_len` is in packets. `master` is the bridge that
    it is a port of.
    """

    __slots__ = (
        "carrier", "dev_addr", "features", "flags", "gro_max_size", "gso_max_segs", "gso_max_size", "ifindex", "kind",
        "lltx", "master", "mtu", "name", "needs_arp", "no_queue", "num_tx_queues", "tx_queue_len", "type",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        ifindex: int,
        dev_addr: bytes = b"",
        *,
        kind: str = "veth",
        mtu: int = 1500,
        flags: int = IFF_UP | IFF_RUNNING | IFF_BROADCAST | IFF_MULTICAST,
        type: int = ARPHRD_ETHER,
        features: frozenset[str] = frozenset(),
        lltx: bool = False,
        no_queue: bool = False,
        num_tx_queues: int = 1,
        tx_queue_len: int = 1000,
    ) -> None:
        self.name = name
        self.ifindex = ifindex
        self.dev_addr = dev_addr
        self.kind = kind
        self.mtu = mtu
        self.flags = flags
        self.type = type
        self.features = features
        self.lltx = lltx
        self.no_queue = no_queue
        self.num_tx_queues = num_tx_queues
        self.tx_queue_len = tx_queue_len
        self.carrier = True
        self.master: NetDevice | None = None
        self.gso_max_size = 65536
        self.gso_max_segs = 65535
        self.gro_max_size = 65536

    @property
    def up(self) -> bool:
        """It is administratively up (IFF_UP)."""
        return bool(self.flags & IFF_UP)

    @property
    def loopback(self) -> bool:
        """It is the loopback device (IFF_LOOPBACK)."""
        return bool(self.flags & IFF_LOOPBACK)

    def __repr__(self) -> str:
        return f"<{self.name} {self.ifindex}>"


def loopback() -> NetDevice:
    """The device lo; source drivers/net/loopback.c:gen_lo_setup."""
    return NetDevice(
        "lo", 1, bytes(6), kind="lo", mtu=65536, flags=IFF_UP | IFF_RUNNING | IFF_LOOPBACK, type=ARPHRD_LOOPBACK,
        features=LOOPBACK_FEATURES, lltx=True, no_queue=True,
    )  # fmt: skip


LOOPBACK_FEATURES: Final = frozenset(
    {
        "scatter-gather", "tx-checksum-ip-generic", "rx-checksum", "tx-tcp-segmentation",
        "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation", "generic-segmentation-offload",
        "generic-receive-offload", "highdma", "tx-udp-segmentation",
    }
)  # fmt: skip
