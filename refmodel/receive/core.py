"""The core's receive path: taps, VLAN, the bridge's handler, and the hand-over to the protocol.

The law: every packet that came up is seen by all taps, then taken by a handler, or by the protocol of its type; what
nobody wants is counted and dropped.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from refmodel.dropreason import Reason
from refmodel.netdevice import ETH_BROADCAST, ETH_HLEN, NetDevice
from refmodel.rule import cited
from refmodel.skbuff import (
    ETH_P_8021Q,
    ETH_P_ALL,
    ETH_P_ARP,
    ETH_P_IP,
    ETH_P_IPV6,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    SkBuff,
)

if TYPE_CHECKING:
    from refmodel.receive.softnet import Receive

ETH_P_8021AD: Final = 0x88A8
ETH_P_802_3: Final = 0x0001
ETH_P_802_2: Final = 0x0004
ETH_P_802_3_MIN: Final = 0x0600
VLAN_HLEN: Final = 4
VLAN_VID_MASK: Final = 0x0FFF
NET_RX_SUCCESS: Final = 0
NET_RX_DROP: Final = 1


class RxHandler(IntEnum):
    """enum rx_handler_result: what a device's handler says of a packet."""

    CONSUMED = 0
    ANOTHER = 1
    EXACT = 2
    PASS = 3


class Tap:
    """A packet socket's hook: `type` is ETH_P_ALL or one EtherType, `dev` None for all devices."""

    def __init__(self, name: str, type: int = ETH_P_ALL, dev: NetDevice | None = None) -> None:
        self.name = name
        self.type = type
        self.dev = dev


PacketType = Tap | int  # a packet socket, or the protocol ETH_P_ whose handler it is


@cited("net/ethernet/eth.c:eth_type_trans", "include/linux/etherdevice.h:eth_skb_pkt_type", "IEEE 802.3 3.2.6")
def eth_type_trans(rx: "Receive", skb: SkBuff, dev: NetDevice) -> int:
    """Takes the Ethernet header off: for whom the frame is, and of which type; the protocol."""
    skb.dev = dev
    skb.mac_header = bytes(skb.data[:ETH_HLEN])
    del skb.data[:ETH_HLEN]
    dest = skb.mac_header[:6]
    if dest != dev.dev_addr:
        multicast = PACKET_BROADCAST if dest == ETH_BROADCAST else PACKET_MULTICAST
        skb.pkt_type = multicast if dest[0] & 1 else PACKET_OTHERHOST
    proto = int.from_bytes(skb.mac_header[12:14], "big")
    if proto < ETH_P_802_3_MIN:
        proto = ETH_P_802_3 if skb.data[:2] == b"\xff\xff" else ETH_P_802_2
    rx.env.note("eth_type_trans", f"{proto:#06x}, {PKT_TYPES[skb.pkt_type]}")
    return proto


PKT_TYPES: Final = {
    PACKET_HOST: "for this host",
    PACKET_BROADCAST: "broadcast",
    PACKET_MULTICAST: "multicast",
    PACKET_OTHERHOST: "for another host",
}


# --------------------------------------------------------------------------------------------------------- ways in


@cited("net/core/dev.c:netif_receive_skb")
def netif_receive_skb(rx: "Receive", skb: SkBuff) -> int:
    """A driver without GRO hands a packet up, in softirq context; NET_RX_SUCCESS or NET_RX_DROP."""
    rx.env.note("netif_receive_skb", f"{len(skb.data)} bytes from {skb.dev}")
    return netif_receive_skb_internal(rx, skb)


@cited("net/core/dev.c:netif_receive_skb_internal")
def netif_receive_skb_internal(rx: "Receive", skb: SkBuff) -> int:
    """Receive packet steering may move the packet to another processor's backlog; else it is processed here."""
    cpu = rx.get_rps_cpu(skb)
    if cpu >= 0:
        return rx.enqueue_to_backlog(skb, cpu)
    return netif_receive_skb_here(rx, skb)


@cited("net/core/dev.c:netif_receive_skb_list_internal")
def netif_receive_skb_list_internal(rx: "Receive", skbs: list[SkBuff]) -> None:
    """A list of packets comes up: those that are steered away leave it, the rest is processed here."""
    here = []
    for skb in skbs:
        cpu = rx.get_rps_cpu(skb)
        if cpu >= 0:
            rx.enqueue_to_backlog(skb, cpu)
        else:
            here.append(skb)
    if here:
        netif_receive_skb_list_core(rx, here)


@cited("net/core/dev.c:__netif_receive_skb")
def netif_receive_skb_here(rx: "Receive", skb: SkBuff) -> int:
    """The packet is processed on this processor; there is no memory emergency here."""
    return netif_receive_skb_one_core(rx, skb)


@cited("net/core/dev.c:__netif_receive_skb_one_core")
def netif_receive_skb_one_core(rx: "Receive", skb: SkBuff) -> int:
    """One packet passes the core and goes to the last who wants it, as a rule its protocol."""
    orig_dev = device(skb)
    skb, pt_prev = netif_receive_skb_core(rx, skb)
    if pt_prev is None:
        return NET_RX_DROP
    deliver_last(rx, skb, pt_prev, orig_dev)
    return NET_RX_SUCCESS


@cited("net/core/dev.c:__netif_receive_skb_list_core", "net/core/dev.c:__netif_receive_skb_list_ptype")
def netif_receive_skb_list_core(rx: "Receive", skbs: list[SkBuff]) -> None:
    """Each packet of a list passes the core; runs of one last handler and device are handed over together."""
    run: list[SkBuff] = []
    pt_curr: PacketType | None = None
    od_curr: NetDevice | None = None
    for one in skbs:
        orig_dev = device(one)
        skb, pt_prev = netif_receive_skb_core(rx, one)
        if pt_prev is None:
            continue
        if pt_curr != pt_prev or od_curr is not orig_dev:
            netif_receive_skb_list_ptype(rx, run, pt_curr, od_curr)
            run, pt_curr, od_curr = [], pt_prev, orig_dev
        run.append(skb)
    netif_receive_skb_list_ptype(rx, run, pt_curr, od_curr)


def netif_receive_skb_list_ptype(
    rx: "Receive", skbs: list[SkBuff], pt_prev: PacketType | None, orig_dev: NetDevice | None
) -> None:
    """Hands a run of packets to the handler that they have in common; IPv4 has one for a whole list."""
    if pt_prev == ETH_P_IP:
        rx.env.ip_list_rcv(skbs)
    elif pt_prev is not None and orig_dev is not None:
        for skb in skbs:
            deliver_last(rx, skb, pt_prev, orig_dev)


# -------------------------------------------------------------------------------------------------------- the core


@cited("net/core/dev.c:__netif_receive_skb_core")
def netif_receive_skb_core(rx: "Receive", skb: SkBuff) -> tuple[SkBuff, PacketType | None]:
    """Taps, VLAN, the device's handler: the packet and the last who is to have it; None if it came to its end.

    Whoever wants it is served once the next one is found, so the last has the packet itself and the others copies.
    """
    orig_dev = device(skb)
    tci: int | None = None
    proto = 0
    while True:
        dev = device(skb)
        pt_prev: PacketType | None = None
        skb.skb_iif = dev.ifindex
        rx.sd.processed += 1
        if tci is None and skb.protocol in (ETH_P_8021Q, ETH_P_8021AD):
            proto = skb.protocol
            tci = skb_vlan_untag(rx, skb)
            if tci is None:
                return skb, None
        for tap in taps(rx, dev, ETH_P_ALL):
            pt_prev = deliver_skb(rx, skb, pt_prev, tap, orig_dev)
        if tci is not None:
            pt_prev = deliver_skb(rx, skb, pt_prev, None, orig_dev)
            there, again = vlan_do_receive(rx, skb, dev, proto, tci)
            if again:
                tci = None
                continue
            if not there:
                return skb, None
        result = RxHandler.PASS
        if dev.master is not None:
            pt_prev = deliver_skb(rx, skb, pt_prev, None, orig_dev)
            result = rx_handler(rx, skb, dev)
        if result == RxHandler.CONSUMED:
            return skb, None
        if result == RxHandler.ANOTHER:
            continue
        if tci is not None and tci & VLAN_VID_MASK == 0 and skb.protocol in (ETH_P_8021Q, ETH_P_8021AD):
            tci = None
            continue
        break
    if tci is not None and tci & VLAN_VID_MASK:
        skb.pkt_type = PACKET_OTHERHOST
        rx.env.note("__netif_receive_skb_core", f"no device for VLAN {tci & VLAN_VID_MASK}: not for this host")
    if result != RxHandler.EXACT:
        if skb.protocol in HANDLERS:
            rx.env.note("__netif_receive_skb_core", f"ptype_base: {HANDLERS[skb.protocol]}")
            pt_prev = deliver_skb(rx, skb, pt_prev, skb.protocol, orig_dev)
        for tap in taps(rx, None, skb.protocol):
            pt_prev = deliver_skb(rx, skb, pt_prev, tap, orig_dev)
    for tap in taps(rx, orig_dev, skb.protocol, device_only=True):
        pt_prev = deliver_skb(rx, skb, pt_prev, tap, orig_dev)
    if pt_prev is not None:
        return skb, pt_prev
    rx.env.note("__netif_receive_skb_core", f"nobody wants {skb.protocol:#06x} from {orig_dev}")
    dropped(rx, skb, result == RxHandler.EXACT)
    return skb, None


def device(skb: SkBuff) -> NetDevice:
    """The device that a packet came from."""
    if skb.dev is None:
        raise ValueError("a packet that comes up has a device")
    return skb.dev


def dropped(rx: "Receive", skb: SkBuff, exact: bool) -> None:
    """Nobody wanted the packet: it counts as dropped, or, where a handler asked for exact delivery, as unhandled."""
    dev = skb.dev.name if skb.dev is not None else ""
    rx.dev_stats[dev, "rx_nohandler" if exact else "rx_dropped"] += 1
    rx.env.kfree_skb(skb, Reason.UNHANDLED_PROTO)


HANDLERS: Final = {ETH_P_IP: "ip_rcv", ETH_P_IPV6: "ipv6_rcv", ETH_P_ARP: "arp_rcv"}


def taps(rx: "Receive", dev: NetDevice | None, type: int, device_only: bool = False) -> list[Tap]:
    """The taps of a type: those on all devices, then those on `dev`."""
    everywhere = [] if device_only else [t for t in rx.taps if t.type == type and t.dev is None]
    return everywhere + [t for t in rx.taps if t.type == type and dev is not None and t.dev is dev]


@cited("net/core/dev.c:deliver_skb")
def deliver_skb(
    rx: "Receive", skb: SkBuff, pt_prev: PacketType | None, found: PacketType | None, orig_dev: NetDevice
) -> PacketType | None:
    """Someone else wants the packet, so the one before gets a copy; who wants it now."""
    if pt_prev is not None:
        deliver_last(rx, skb.copy(), pt_prev, orig_dev)
    return found


def deliver_last(rx: "Receive", skb: SkBuff, pt_prev: PacketType, orig_dev: NetDevice) -> None:
    """Calls a handler: a packet socket's, or a protocol's."""
    if isinstance(pt_prev, Tap):
        rx.env.note("deliver_skb", f"for {pt_prev.name}")
        rx.env.packet_rcv(pt_prev, skb, orig_dev)
        return
    handler = {ETH_P_IP: rx.env.ip_rcv, ETH_P_IPV6: rx.env.ipv6_rcv, ETH_P_ARP: rx.env.arp_rcv}[pt_prev]
    handler(skb, device(skb))


@cited("net/bridge/br_input.c:br_handle_frame")
def rx_handler(rx: "Receive", skb: SkBuff, dev: NetDevice) -> RxHandler:
    """A port of a bridge gives its packets to the bridge; other devices have no handler."""
    result = RxHandler(rx.env.br_handle_frame(skb))
    rx.env.note("__netif_receive_skb_core", f"{dev.name} is a port of {dev.master}: RX_HANDLER_{result.name}")
    return result


# ------------------------------------------------------------------------------------------------------------ VLAN


@cited("net/core/skbuff.c:skb_vlan_untag", "IEEE 802.1Q 9.3")
def skb_vlan_untag(rx: "Receive", skb: SkBuff) -> int | None:
    """Takes the tag out of the packet; its TCI, or None if the packet was too short and is gone."""
    if len(skb.data) < VLAN_HLEN + 2:
        rx.env.note("skb_vlan_untag", f"{len(skb.data)} bytes: no room for a tag")
        rx.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return None
    tci = int.from_bytes(skb.data[:2], "big")
    inner = int.from_bytes(skb.data[2:4], "big")
    if inner < ETH_P_802_3_MIN:
        inner = ETH_P_802_3 if skb.data[4:6] == b"\xff\xff" else ETH_P_802_2
    skb.mac_header = skb.mac_header[:12] + bytes(skb.data[2:4])
    del skb.data[:VLAN_HLEN]
    skb.protocol = inner
    rx.env.note("skb_vlan_untag", f"VLAN {tci & VLAN_VID_MASK}, {inner:#06x}")
    return tci


@cited("net/8021q/vlan_core.c:vlan_do_receive")
def vlan_do_receive(rx: "Receive", skb: SkBuff, dev: NetDevice, proto: int, tci: int) -> tuple[bool, bool]:
    """A tagged packet goes to its VLAN's device: whether it is still there, and whether it starts over on that."""
    vlan = rx.vlans.get((dev.ifindex, proto, tci & VLAN_VID_MASK))
    if vlan is None:
        return True, False
    if not vlan.up:
        rx.env.note("vlan_do_receive", f"{vlan.name} is down")
        rx.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return False, False
    skb.dev = vlan
    if skb.pkt_type == PACKET_OTHERHOST and skb.mac_header[:6] == vlan.dev_addr:
        skb.pkt_type = PACKET_HOST
    rx.env.note("vlan_do_receive", f"on {vlan.name}")
    return True, True
