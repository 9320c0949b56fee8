"""From the queueing layer to the driver: validation, taps, lists, and what a driver's answer means."""

from typing import Final

from refmodel.dev.env import DevEnv
from refmodel.dev.queue import NETDEV_TX_BUSY, NETDEV_TX_OK, NetdevQueue, dev_xmit_complete
from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice
from refmodel.rule import cited
from refmodel.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    ETH_P_IP,
    ETH_P_IPV6,
    PACKET_OUTGOING,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCP_FIXEDID,
    SKB_GSO_TCPV4,
    SKB_GSO_TCPV6,
    SKB_GSO_UDP_L4,
    SkBuff,
)

# include/linux/netdevice.h:net_gso_ok: the feature that each kind of super-packet needs, by ethtool's name.
GSO_FEATURES: Final = (
    (SKB_GSO_TCPV4, "tx-tcp-segmentation"),
    (SKB_GSO_TCPV6, "tx-tcp6-segmentation"),
    (SKB_GSO_TCP_ECN, "tx-tcp-ecn-segmentation"),
    (SKB_GSO_TCP_FIXEDID, "tx-tcp-mangleid-segmentation"),
    (SKB_GSO_UDP_L4, "tx-udp-segmentation"),
)
GSO_MASK: Final = frozenset(name for _, name in GSO_FEATURES)
CSUM_MASK: Final = frozenset({"tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6"})
IP_DF: Final = 0x4000

Features = frozenset[str]


@cited("net/core/dev.c:gso_features_check")
def gso_features_check(skb: SkBuff, dev: NetDevice, features: Features) -> Features:
    """What the device may cut of this super-packet: nothing if it is too long or has too many segments."""
    if skb.gso_segs > dev.gso_max_segs or len(skb.mac_header) + skb.len >= dev.gso_max_size or not skb.gso_type:
        return features - GSO_MASK
    if skb.gso_type & SKB_GSO_TCPV4 and not int.from_bytes(skb.data[6:8], "big") & IP_DF:
        features -= {"tx-tcp-mangleid-segmentation"}
    return features


@cited("net/core/dev.c:harmonize_features")
def harmonize_features(skb: SkBuff, features: Features) -> Features:
    """Without a checksum by the device for this protocol there is no segmentation by it either."""
    if skb.ip_summed == CHECKSUM_NONE or "tx-checksum-ip-generic" in features:
        return features
    if skb.protocol == ETH_P_IP and "tx-checksum-ipv4" in features:
        return features
    if skb.protocol == ETH_P_IPV6 and "tx-checksum-ipv6" in features:
        return features
    return features - CSUM_MASK - GSO_MASK


@cited("net/core/dev.c:netif_skb_features")
def netif_skb_features(skb: SkBuff, dev: NetDevice) -> Features:
    """What the device can do for this packet."""
    features = dev.features
    if skb.is_gso:
        features = gso_features_check(skb, dev, features)
    return harmonize_features(skb, features)


@cited("include/net/gso.h:netif_needs_gso")
def netif_needs_gso(skb: SkBuff, features: Features) -> bool:
    """The stack must cut the packet, since the device does not."""
    if not skb.is_gso:
        return False
    wanted = {name for bit, name in GSO_FEATURES if skb.gso_type & bit}
    return not wanted <= features or skb.ip_summed not in (CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY)


@cited("net/core/dev.c:skb_csum_hwoffload_help")
def skb_csum_hwoffload_help(env: DevEnv, skb: SkBuff, features: Features) -> int:
    """The checksum is left to a device that can do it."""
    if features & CSUM_MASK:
        env.note("skb_csum_hwoffload_help", "the device fills in the checksum")
        return 0
    env.note("skb_csum_hwoffload_help", "the checksum is filled in now")
    return env.skb_checksum_help(skb)


@cited("net/core/dev.c:validate_xmit_skb")
def validate_xmit_skb(env: DevEnv, skb: SkBuff, dev: NetDevice) -> list[SkBuff]:
    """The packet as the device can send it: cut into segments, with its checksum; nothing if that fails."""
    features = netif_skb_features(skb, dev)
    if netif_needs_gso(skb, features):
        segs = env.skb_gso_segment(skb)
        if segs is None:
            env.note("validate_xmit_skb", "the super-packet cannot be cut: dropped")
            env.kfree_skb(skb, Reason.NOT_SPECIFIED)
            env.tx_dropped(dev)
            return []
        if segs:
            env.note("validate_xmit_skb", f"{dev.name} does not cut it: {len(segs)} segments")
            for seg in segs:
                # Segments inherit the control block: where they come back, each counts for the whole super-packet.
                seg.cb = skb.cb
            env.consume_skb(skb)
            return segs
        return [skb]
    if skb.ip_summed == CHECKSUM_PARTIAL and skb_csum_hwoffload_help(env, skb, features):
        env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        env.tx_dropped(dev)
        return []
    env.note("validate_xmit_skb", f"{dev.name} cuts {skb.gso_segs} segments" if skb.is_gso else "as it is")
    return [skb]


@cited("net/core/dev.c:validate_xmit_skb_list")
def validate_xmit_skb_list(env: DevEnv, skbs: list[SkBuff], dev: NetDevice) -> list[SkBuff]:
    """Each packet of a list is made fit for the device."""
    return [x for skb in skbs for x in validate_xmit_skb(env, skb, dev)]


@cited("net/core/dev.c:dev_queue_xmit_nit")
def dev_queue_xmit_nit(env: DevEnv, skb: SkBuff, dev: NetDevice) -> None:
    """Every tap gets a copy of what leaves, but not the packet socket that sent it."""
    seen = [tap for tap in env.ptype_all(dev) if skb.sk is None or tap is not skb.sk]
    for tap in seen:
        copy = skb.copy()
        copy.pkt_type = PACKET_OUTGOING
        copy.tstamp = env.now
        env.packet_rcv(tap, copy, dev)


@cited("include/linux/netdevice.h:netdev_start_xmit")
def netdev_start_xmit(env: DevEnv, skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
    """The driver is called; `more`: another packet follows at once, so that it may put the doorbell off."""
    rc = env.ndo_start_xmit(skb, dev, txq, more)
    if rc == NETDEV_TX_OK and txq.xmit_lock_owner != -1:
        txq.trans_start = env.jiffies
    return rc


@cited("net/core/dev.c:xmit_one")
def xmit_one(env: DevEnv, skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
    """One packet passes the taps and goes to the driver."""
    taps = env.ptype_all(dev)
    if taps:
        env.note("xmit_one", f"{len(taps)} taps")
        dev_queue_xmit_nit(env, skb, dev)
    rc = netdev_start_xmit(env, skb, dev, txq, more)
    env.note("xmit_one", f"{dev.name} returns {rc:#x}{', more follow' if more else ''}")
    return rc


@cited("net/core/dev.c:dev_hard_start_xmit")
def dev_hard_start_xmit(env: DevEnv, skbs: list[SkBuff], dev: NetDevice, txq: NetdevQueue) -> tuple[list[SkBuff], int]:
    """A list goes to the driver until it refuses one or stops its queue; what is left, and the last return code."""
    rest = list(skbs)
    rc = NETDEV_TX_OK
    while rest:
        rc = xmit_one(env, rest[0], dev, txq, len(rest) > 1)
        if not dev_xmit_complete(rc):
            env.note("dev_hard_start_xmit", f"{dev.name} refused: {len(rest)} packets are left")
            return rest, rc
        rest.pop(0)
        if txq.drv_stopped and rest:
            env.note("dev_hard_start_xmit", f"the queue stopped: {len(rest)} packets are left")
            return rest, NETDEV_TX_BUSY
    return rest, rc
