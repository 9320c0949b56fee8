"""Where a bridge sends a frame: to one port, or to all that flood; source net/bridge/br_forward.c, br_device.c."""

from typing import Final

from refmodel.bridge.bridge import BR_STATE_FORWARDING, Bridge, BridgePort, br_fdb_find_rcu
from refmodel.dropreason import Reason
from refmodel.netdevice import ETH_BROADCAST, ETH_HLEN
from refmodel.rule import cited
from refmodel.skbuff import SkBuff

VLAN_HLEN: Final = 4
UNICAST: Final = "unicast"
MULTICAST: Final = "multicast"
BROADCAST: Final = "broadcast"


def kind_of(dest: bytes) -> str:
    """enum br_pkt_type of a destination."""
    return UNICAST if not dest[0] & 1 else BROADCAST if dest == ETH_BROADCAST else MULTICAST


@cited("net/bridge/br_forward.c:should_deliver")
def should_deliver(p: BridgePort, skb: SkBuff, source: BridgePort | None) -> bool:
    """A frame does not go back to its port, nor between isolated ones, nor to one that does not forward."""
    isolated = source is not None and source.isolated and p.isolated
    return (p.hairpin or skb.dev is not p.dev) and p.state == BR_STATE_FORWARDING and not isolated


@cited("net/bridge/br_forward.c:br_forward", "IEEE 802.1D 7.7")
def br_forward(br: Bridge, to: BridgePort | None, skb: SkBuff, local_rcv: bool, source: BridgePort | None) -> None:
    """A frame for a known address goes to its port; `local_rcv`: this host wants it too."""
    if to is not None and should_deliver(to, skb, source):
        __br_forward(br, to, skb.copy() if local_rcv else skb, source)
        return
    br.env.note("br_forward", "its port is where it came from, or does not forward")
    if not local_rcv:
        br.env.kfree_skb(skb, Reason.NOT_SPECIFIED)


@cited("net/bridge/br_forward.c:__br_forward", "net/bridge/br_forward.c:br_forward_finish")
def __br_forward(br: Bridge, to: BridgePort, skb: SkBuff, source: BridgePort | None) -> None:
    """Through the bridge's hooks, which are empty, to the port's device."""
    br.env.note("__br_forward", f"out of {to.dev.name}")
    skb.dev = to.dev
    br_dev_queue_push_xmit(br, skb)


def is_skb_forwardable(skb: SkBuff) -> bool:
    """The frame fits the device, a super-segment does always; source net/core/dev.c:__is_skb_forwardable."""
    dev = skb.dev
    assert dev is not None
    return dev.up and (len(skb.data) <= dev.mtu + VLAN_HLEN or skb.is_gso)


@cited("net/bridge/br_forward.c:br_dev_queue_push_xmit")
def br_dev_queue_push_xmit(br: Bridge, skb: SkBuff) -> int:
    """The frame is handed to the port as it came; too long a one is dropped without a word."""
    if not is_skb_forwardable(skb):
        br.env.note("br_dev_queue_push_xmit", f"{len(skb.data)} bytes do not fit {skb.dev}")
        br.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return 0
    br.env.dev_queue_xmit(skb)
    return 0


@cited("net/bridge/br_forward.c:br_flood", "IEEE 802.1D 7.7.2")
def br_flood(br: Bridge, skb: SkBuff, kind: str, local_rcv: bool, source: BridgePort | None, own: bool = False) -> None:
    """Copies go to every port that takes part; the last one gets the frame itself unless this host wants it."""
    wanted = []
    for p in br.ports:
        if kind == UNICAST and not p.flood:
            continue
        if kind == MULTICAST and not p.mcast_flood and not own:
            continue
        if kind == BROADCAST and not p.bcast_flood and not own:
            continue
        if should_deliver(p, skb, source):
            wanted.append(p)
    br.env.note("br_flood", f"{kind}: {len(wanted)} ports")
    for p in wanted[:-1]:
        __br_forward(br, p, skb.copy(), source)
    if wanted:
        __br_forward(br, wanted[-1], skb.copy() if local_rcv else skb, source)
    elif not local_rcv:
        br.env.kfree_skb(skb, Reason.NOT_SPECIFIED)


@cited("net/bridge/br_device.c:br_dev_xmit")
def br_dev_xmit(br: Bridge, skb: SkBuff) -> int:
    """This host sends over the bridge: to the port that is known, or to all; NETDEV_TX_OK."""
    dest = skb.mac_header[:6]
    kind = kind_of(dest)
    if len(skb.mac_header) < ETH_HLEN:
        br.env.kfree_skb(skb, Reason.HDR_TRUNC)
        return 0
    entry = br_fdb_find_rcu(br, dest) if kind == UNICAST else None
    if entry is not None:
        br_forward(br, entry.dst, skb, False, None)
    else:
        br_flood(br, skb, kind, False, None, own=True)
    return 0


__all__ = ["BROADCAST", "MULTICAST", "UNICAST", "br_dev_xmit", "br_flood", "br_forward", "kind_of"]
