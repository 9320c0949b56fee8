"""A frame comes in at a port; source net/bridge/br_input.c."""

from typing import Final

from refmodel.bridge.bridge import (
    BR_STATE_DISABLED,
    BR_STATE_FORWARDING,
    BR_STATE_LEARNING,
    Bridge,
    br_fdb_find_rcu,
    br_fdb_update,
)
from refmodel.bridge.forward import UNICAST, br_flood, br_forward, kind_of
from refmodel.dropreason import Reason
from refmodel.rule import cited
from refmodel.skbuff import PACKET_HOST, PACKET_LOOPBACK, SkBuff

CONSUMED: Final = 0  # enum rx_handler_result
PASS: Final = 3
LINK_LOCAL: Final = b"\x01\x80\xc2\x00\x00"  # 01:80:c2:00:00:0X


def is_valid_ether_addr(addr: bytes) -> bool:
    """Neither a group's nor all zeros; source include/linux/etherdevice.h:is_valid_ether_addr."""
    return not addr[0] & 1 and any(addr)


@cited("net/bridge/br_input.c:br_handle_frame", "IEEE 802.1D 7.12.6")
def br_handle_frame(br: Bridge, skb: SkBuff) -> int:
    """The port's rx_handler: frames to reserved addresses stay on this link, the others are bridged."""
    env = br.env
    port = br.port_of(skb.dev)
    if skb.pkt_type == PACKET_LOOPBACK or port is None:
        return PASS
    dest, source = skb.mac_header[:6], skb.mac_header[6:12]
    if not is_valid_ether_addr(source):
        env.note("br_handle_frame", "the source is no address of a station")
        env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return CONSUMED
    if dest[:5] == LINK_LOCAL and dest[5] < 0x10 and dest[5] != 0:
        if dest[5] == 1:
            env.note("br_handle_frame", "a pause frame")
            env.kfree_skb(skb, Reason.NOT_SPECIFIED)
            return CONSUMED
        env.note("br_handle_frame", "a reserved address: not forwarded")
        if port.learning and port.state in (BR_STATE_LEARNING, BR_STATE_FORWARDING):
            br_fdb_update(br, port, source)
        return PASS
    if port.state not in (BR_STATE_FORWARDING, BR_STATE_LEARNING):
        env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return CONSUMED
    if dest == br.dev.dev_addr:
        skb.pkt_type = PACKET_HOST
    br_handle_frame_finish(br, skb)
    return CONSUMED


@cited("net/bridge/br_input.c:br_handle_frame_finish", "IEEE 802.1D 7.5")
def br_handle_frame_finish(br: Bridge, skb: SkBuff) -> int:
    """Learns who sent, then forwards to the port that is known, floods, or hands up."""
    env = br.env
    port = br.port_of(skb.dev)
    if port is None or port.state == BR_STATE_DISABLED:
        env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return 0
    dest = skb.mac_header[:6]
    if port.learning:
        br_fdb_update(br, port, skb.mac_header[6:12])
    local_rcv = br.promisc
    kind = kind_of(dest)
    if port.state == BR_STATE_LEARNING:
        env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return 0
    entry = br_fdb_find_rcu(br, dest) if kind == UNICAST else None
    local_rcv = local_rcv or kind != UNICAST
    if entry is not None:
        if entry.is_local:
            env.note("br_handle_frame_finish", "for this host")
            return br_pass_frame_up(br, skb)
        entry.used = env.jiffies
        env.note("br_handle_frame_finish", "a known station")
        br_forward(br, entry.dst, skb, local_rcv, port)
    else:
        env.note("br_handle_frame_finish", kind if kind != UNICAST else "an unknown station")
        br_flood(br, skb, kind, local_rcv, port)
    if local_rcv:
        return br_pass_frame_up(br, skb)
    return 0


@cited("net/bridge/br_input.c:br_pass_frame_up", "net/bridge/br_input.c:br_netif_receive_skb")
def br_pass_frame_up(br: Bridge, skb: SkBuff) -> int:
    """The frame comes in once more, on the bridge's own device."""
    skb.dev = br.dev
    return br.env.netif_receive_skb(skb)
