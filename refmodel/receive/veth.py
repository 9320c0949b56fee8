"""veth: what one end sends the other receives, in the sender's context, by the backlog or by a NAPI of its own.

The law: with GRO off the frame goes through netif_rx; with GRO on, and no TCP segmentation at the sender, it waits in a
ring of 256 that the receiver's NAPI polls. Either way the softirq runs when the sender enables bottom halves.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from refmodel.dropreason import Reason
from refmodel.netdevice import ETH_HLEN, NetDevice
from refmodel.ptr_ring import PtrRing, consumed, full, produced
from refmodel.receive.core import NET_RX_DROP, NET_RX_SUCCESS, eth_type_trans
from refmodel.receive.gro import napi_gro_receive
from refmodel.receive.napi import napi_complete_done, napi_schedule_prep, napi_schedule_prepared
from refmodel.receive.softnet import NapiStruct, Receive
from refmodel.rule import cited
from refmodel.skbuff import PACKET_HOST, SkBuff

VETH_RING_SIZE: Final = 256
VLAN_HLEN: Final = 4
NETDEV_TX_OK: Final = 0
NETDEV_TX_BUSY: Final = 0x10
NET_XMIT_DROP: Final = 1
ALL_TSO: Final = frozenset(
    {"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation"}
)


class VethRq:
    """The receive queue of one end: its ring, and whether its NAPI will look at it.

    `stopped`: the sender's queue was stopped since the ring was full; `wake` starts it again after a poll.
    """

    def __init__(self, rx: Receive, dev: NetDevice) -> None:
        self.dev = dev
        self.ring: deque[SkBuff] = deque()
        self.slots = PtrRing()
        self.rx_notify_masked = False
        self.napi = NapiStruct(rx, dev, lambda n, budget: veth_poll(rx, self, budget))
        self.dropped = 0
        self.stopped = False
        self.wake: Callable[[], None] | None = None


@cited("drivers/net/veth.c:veth_xmit")
def veth_xmit(rx: Receive, skb: SkBuff, dev: NetDevice, rq: VethRq) -> int:
    """Sends a frame from `dev` to the end that has `rq`, whose namespace is `rx`.

    NETDEV_TX_OK, NET_XMIT_DROP, or, with a queueing discipline at the sender and a full ring, NETDEV_TX_BUSY: then the
    sender's queue stops until the receiver has polled.
    """
    rcv = rq.dev
    if len(skb.mac_header) < ETH_HLEN:
        rx.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        rq.dropped += 1
        return NET_XMIT_DROP
    use_napi = "generic-receive-offload" in rcv.features and veth_skb_is_eligible_for_gro(rx, dev, rcv, skb)
    ret = veth_forward_skb(rx, rcv, skb, rq, use_napi)
    if ret == NETDEV_TX_BUSY:
        if dev.no_queue:
            rx.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
            rq.dropped += 1
            return NET_XMIT_DROP
        rq.stopped = True
        veth_xdp_flush(rx, rq)
        return NETDEV_TX_BUSY
    if ret != NET_RX_SUCCESS:
        rq.dropped += 1
        return NET_XMIT_DROP
    if use_napi:
        veth_xdp_flush(rx, rq)
    return NETDEV_TX_OK


@cited("drivers/net/veth.c:veth_skb_is_eligible_for_gro")
def veth_skb_is_eligible_for_gro(rx: Receive, dev: NetDevice, rcv: NetDevice, skb: SkBuff) -> bool:
    """Where the sender does TCP segmentation there is nothing for GRO to merge, but datagrams where asked for."""
    wants = bool(rcv.features & {"rx-gro-list", "rx-udp-gro-forwarding"}) and skb.sk is not None
    eligible = not dev.features & ALL_TSO or wants
    rx.env.note("veth_skb_is_eligible_for_gro", "yes" if eligible else f"no: {dev.name} segments TCP itself")
    return eligible


@cited("drivers/net/veth.c:veth_forward_skb", "net/core/dev.c:__dev_forward_skb", "net/core/skbuff.c:skb_scrub_packet")
def veth_forward_skb(rx: Receive, rcv: NetDevice, skb: SkBuff, rq: VethRq, napi: bool) -> int:
    """The packet leaves its namespace and comes in on `rcv`: to the ring, or to the backlog."""
    if not is_skb_forwardable(rcv, skb):
        rx.dev_stats[rcv.name, "rx_dropped"] += 1
        rx.env.note("__dev_forward_skb", f"{rcv.name} is down, or its MTU {rcv.mtu} too small")
        rx.env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        return NET_RX_DROP
    skb.pkt_type = PACKET_HOST
    skb.skb_iif = 0
    skb.ignore_df = False
    skb.dst = None
    skb.nfct, skb.nfctinfo = None, 0
    skb.mark = 0
    skb.priority = 0
    skb.tstamp = 0
    skb.data[:0] = skb.mac_header
    skb.protocol = eth_type_trans(rx, skb, rcv)
    if napi:
        return veth_xdp_rx(rx, rq, skb)
    return rx.netif_rx_in_interrupt(skb)


def is_skb_forwardable(dev: NetDevice, skb: SkBuff) -> bool:
    """The device is up, and the frame is not too long, or is to be cut; source net/core/dev.c:__is_skb_forwardable."""
    return dev.up and (len(skb.data) + len(skb.mac_header) <= dev.mtu + ETH_HLEN + VLAN_HLEN or skb.is_gso)


@cited("drivers/net/veth.c:veth_xdp_rx")
def veth_xdp_rx(rx: Receive, rq: VethRq, skb: SkBuff) -> int:
    """The packet waits in the ring, unless that is full."""
    if full(rq.slots, VETH_RING_SIZE):
        held = f", {rq.slots.held} slots not free yet" if rq.slots.held else ""
        rx.env.note("veth_xdp_rx", f"{len(rq.ring)} of {VETH_RING_SIZE} wait{held}: busy")
        return NETDEV_TX_BUSY
    rq.slots = produced(rq.slots)
    rq.ring.append(skb)
    rx.env.note("veth_xdp_rx", f"{len(rq.ring)} in the ring of {rq.dev.name}")
    return NET_RX_SUCCESS


@cited("drivers/net/veth.c:__veth_xdp_flush")
def veth_xdp_flush(rx: Receive, rq: VethRq) -> None:
    """The receiver's NAPI is scheduled, unless it will look anyway."""
    if not rq.rx_notify_masked and napi_schedule_prep(rx, rq.napi):
        rq.rx_notify_masked = True
        napi_schedule_prepared(rx, rq.napi)


@cited("drivers/net/veth.c:veth_poll")
def veth_poll(rx: Receive, rq: VethRq, budget: int) -> int:
    """The receiver's poll: up to `budget` packets of the ring go to GRO."""
    done = veth_xdp_rcv(rx, rq, budget)
    if done < budget and napi_complete_done(rx, rq.napi, done):
        rq.rx_notify_masked = False
        if rq.ring and napi_schedule_prep(rx, rq.napi):
            rq.rx_notify_masked = True
            napi_schedule_prepared(rx, rq.napi)
    if rq.stopped:
        rq.stopped = False
        if rq.wake is not None:
            rq.wake()
    return done


@cited("drivers/net/veth.c:veth_xdp_rcv")
def veth_xdp_rcv(rx: Receive, rq: VethRq, budget: int) -> int:
    """Takes packets out of the ring in order; how many."""
    done = 0
    while done < budget and rq.ring:
        rq.slots = consumed(rq.slots, VETH_RING_SIZE)
        napi_gro_receive(rx.env, rq.napi, rq.ring.popleft())
        done += 1
    return done
