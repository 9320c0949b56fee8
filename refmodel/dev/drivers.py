"""Drivers without hardware: loopback and tun; source drivers/net/loopback.c, drivers/net/tun.c."""

from collections import deque

from refmodel.dev.env import DevEnv
from refmodel.dev.queue import NET_XMIT_DROP, NETDEV_TX_OK, NetdevQueue
from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice
from refmodel.ptr_ring import PtrRing, consumed, full, produced
from refmodel.rule import cited
from refmodel.skbuff import SkBuff


@cited("drivers/net/loopback.c:loopback_xmit")
def loopback_xmit(env: DevEnv, skb: SkBuff, dev: NetDevice) -> int:
    """What lo sends it receives: the packet goes to the backlog of the processor that sends."""
    skb.tstamp = 0
    skb.sk = None
    skb.protocol = env.eth_type_trans(skb, dev)
    if env.netif_rx(skb):
        env.note("loopback_xmit", "the backlog is full: dropped")
    return NETDEV_TX_OK


class TunFile:
    """struct tun_file: the ring of `size` packets that the program reads; `attached`: the program has it open."""

    __slots__ = ("attached", "packets", "ring", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.ring = PtrRing()
        self.packets: deque[SkBuff] = deque()
        self.attached = True


@cited("drivers/net/tun.c:tun_net_xmit")
def tun_net_xmit(env: DevEnv, skb: SkBuff, dev: NetDevice, tfile: TunFile, txq: NetdevQueue) -> int:
    """A packet waits in the ring for the program to read it; what a full ring refuses is lost, not queued again."""
    reason = None
    if not tfile.attached:
        reason = Reason.DEV_READY
    elif full(tfile.ring, tfile.size):
        held = f", {tfile.ring.held} slots not free yet" if tfile.ring.held else ""
        env.note("tun_net_xmit", f"{tfile.ring.waiting} of {tfile.size} packets are unread{held}: dropped")
        reason = Reason.FULL_RING
    if reason is not None:
        env.tx_dropped(dev)
        env.kfree_skb(skb, reason)
        return NET_XMIT_DROP
    skb.sk = None
    skb.nfct = None
    tfile.ring = produced(tfile.ring)
    tfile.packets.append(skb)
    txq.trans_start = env.jiffies
    env.note("tun_net_xmit", f"{tfile.ring.waiting} of {tfile.size} packets wait for the program")
    return NETDEV_TX_OK


@cited("drivers/net/tun.c:tun_ring_recv")
def tun_ring_recv(env: DevEnv, tfile: TunFile) -> SkBuff | None:
    """The program reads the oldest packet; None if there is none."""
    if not tfile.packets:
        return None
    tfile.ring = consumed(tfile.ring, tfile.size)
    return tfile.packets.popleft()
