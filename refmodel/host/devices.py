"""The devices of a host: drivers by device, transmit queues and disciplines, the receive side, taps."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from refmodel.bridge import Bridge, BridgePort, br_dev_xmit, br_handle_frame
from refmodel.dev import txq as txqs
from refmodel.dev import xmit as dev_xmit
from refmodel.dev.drivers import TunFile, loopback_xmit, tun_net_xmit
from refmodel.dev.queue import NetdevQueue
from refmodel.dev.softirq import dev_kfree_skb_irq_reason, net_tx_action
from refmodel.dev.watchdog import Watchdog
from refmodel.dropreason import Reason
from refmodel.host.ipv6 import tcp6_gso_segment
from refmodel.ip import gso
from refmodel.ip.fragment import skb_checksum_help
from refmodel.ip6.output import skb_checksum_help as skb_checksum_help6
from refmodel.netdevice import NetDevice, loopback
from refmodel.receive.core import Tap, eth_type_trans, netif_receive_skb
from refmodel.receive.gro import napi_gro_receive
from refmodel.receive.napi import napi_complete_done, napi_schedule_prep, napi_schedule_prepared, net_rx_action
from refmodel.receive.softnet import NapiStruct, Receive
from refmodel.receive.veth import VethRq, veth_xmit
from refmodel.rule import cited
from refmodel.sched import generic
from refmodel.sched import xmit as sched_xmit
from refmodel.sched.attach import dev_activate, noop_qdisc, qdisc_create
from refmodel.sched.env import Softnet
from refmodel.sched.generic import __netif_schedule as netif_schedule
from refmodel.skbuff import CHECKSUM_UNNECESSARY, ETH_P_IP, ETH_P_IPV6, PACKET_LOOPBACK, SkBuff
from refmodel.softirq import Vector

if TYPE_CHECKING:
    from refmodel.context import Contexts
    from refmodel.host.machine import Machine
    from refmodel.ip.net import Ip

Xmit = Callable[[SkBuff, NetDevice, NetdevQueue, bool], int]
LO: Final = 1


class Devices:
    """The part of a namespace that its devices are.

    `drivers` are the functions that send, by ifindex; `seen` are the frames that packet sockets got, as
    (us, device's name, PACKET_ type, bytes).
    """

    machine: "Machine"
    contexts: "Contexts"
    consume_skb: Callable[[SkBuff], None]
    ipv4: "Ip"
    now: int
    register_routing: Callable[[NetDevice], None]
    note: Callable[..., None]

    def __init__(self) -> None:
        self.rx = Receive(self, self.contexts)  # type: ignore[arg-type]
        self.queues: dict[int, tuple[NetdevQueue, ...]] = {}
        self.roots: dict[int, Any] = {}
        self.drivers: dict[int, Xmit] = {}
        self.bridges: dict[int, Bridge] = {}
        self.ports: dict[int, BridgePort] = {}
        self.watchdogs: dict[int, Watchdog] = {}
        self.timeouts: dict[int, Callable[[int], None]] = {}
        self.dropped: dict[str, int] = {}
        self.seen: list[tuple[int, str, int, bytes]] = []
        self.devs: dict[int, NetDevice] = {}
        self.lo = loopback()
        self.register(self.lo, lambda skb, dev, txq, more: loopback_xmit(self, skb, dev))  # type: ignore[arg-type]

    # Devices come

    def register(self, dev: NetDevice, driver: Xmit) -> NetDevice:
        """A device is there, up, with its disciplines, and routing knows it."""
        self.devs[dev.ifindex] = dev
        self.drivers[dev.ifindex] = driver
        self.queues[dev.ifindex] = tuple(NetdevQueue(self, dev, i) for i in range(dev.num_tx_queues))
        for txq in self.queues[dev.ifindex]:
            txq.qdisc = txq.qdisc_sleeping = noop_qdisc(txq)
        self.roots[dev.ifindex] = self.queues[dev.ifindex][0].qdisc
        dev_activate(self, dev)  # type: ignore[arg-type]
        self.register_routing(dev)
        return dev

    def next_ifindex(self) -> int:
        """The number of the next device."""
        return max(self.devs, default=0) + 1

    def add_tun(self, name: str, mtu: int = 1500) -> tuple[NetDevice, TunFile]:
        """A tun device that a program has open."""
        dev = NetDevice(name, self.next_ifindex(), kind="tun", mtu=mtu, flags=0x10D1, type=0xFFFE, tx_queue_len=500)
        tfile = TunFile(dev.tx_queue_len)
        self.register(dev, lambda skb, dev, txq, more: tun_net_xmit(self, skb, dev, tfile, txq))  # type: ignore[arg-type]
        return dev, tfile

    def add_bridge(self, name: str, address: bytes, ports: list[NetDevice]) -> Bridge:
        """A bridge with its ports."""
        dev = NetDevice(name, self.next_ifindex(), address, kind="bridge", lltx=True, no_queue=True)
        br = Bridge(self, dev)  # type: ignore[arg-type]
        self.register(dev, lambda skb, dev, txq, more: br_dev_xmit(br, skb))
        self.bridges[dev.ifindex] = br
        for port in ports:
            self.ports[port.ifindex] = br.br_add_if(port)
        return br

    def packet_socket(self, dev: NetDevice | None = None) -> None:
        """A packet socket sees what passes a device, or every device, and `seen` keeps it."""
        self.rx.taps.append(Tap(f"packet{len(self.rx.taps)}", dev=dev))

    def set_qdisc(self, dev: NetDevice, kind: str, opt: Any = None) -> int:
        """``tc qdisc replace dev DEV root KIND``."""
        return qdisc_create(self, dev, kind, opt)  # type: ignore[arg-type]

    # The way out

    @property
    def softnet(self) -> Softnet:
        """What this processor keeps for transmission."""
        return self.machine.softnet

    def dev_queue_xmit(self, skb: SkBuff) -> int:
        """Hands a frame to its device."""
        return sched_xmit.dev_queue_xmit(self, skb)  # type: ignore[arg-type]

    def local_bh_disable(self) -> None:
        """No softirq runs here."""
        self.contexts.local_bh_disable()

    def local_bh_enable(self) -> None:
        """Softirqs that were raised run."""
        self.contexts.local_bh_enable()

    def netdev_queues(self, dev: NetDevice) -> tuple[NetdevQueue, ...]:
        """A device's transmit queues."""
        return self.queues[dev.ifindex]

    def root_qdisc(self, dev: NetDevice) -> Any:
        """The discipline at a device's root."""
        return self.roots[dev.ifindex]

    def set_root_qdisc(self, dev: NetDevice, q: Any) -> None:
        """Another discipline stands at the root."""
        self.roots[dev.ifindex] = q

    def tx_dropped(self, dev: NetDevice) -> None:
        """The device's own count."""
        self.dropped[dev.name] = self.dropped.get(dev.name, 0) + 1

    def tcf_classify(self, skb: SkBuff, dev: NetDevice) -> None:
        """There are no filters at egress."""

    def ktime_get_ns(self) -> int:
        """The clock in ns."""
        return self.now * 1000

    def skb_get_hash(self, skb: SkBuff) -> int:
        """The flow's hash."""
        if not skb.hash:
            at = skb.transport or 0
            skb.hash = hash((bytes(skb.data[12:20]), bytes(skb.data[at : at + 4]))) & 0xFFFFFFFF or 1
        return skb.hash

    def netif_skb_features(self, skb: SkBuff) -> frozenset[str]:
        """What the packet's device can do for it."""
        return dev_xmit.netif_skb_features(skb, skb.dev) if skb.dev is not None else frozenset()

    def validate_xmit_skb(self, skb: SkBuff, dev: NetDevice) -> list[SkBuff]:
        """The packet as the device can send it."""
        return dev_xmit.validate_xmit_skb(self, skb, dev)  # type: ignore[arg-type]

    def validate_xmit_skb_list(self, skbs: list[SkBuff], dev: NetDevice) -> list[SkBuff]:
        """Several."""
        return dev_xmit.validate_xmit_skb_list(self, skbs, dev)  # type: ignore[arg-type]

    def skb_gso_segment(self, skb: SkBuff) -> list[SkBuff] | None:
        """A super-segment cut in software; the last segment is what the socket waits for."""
        assert skb.dev is not None
        segs = (
            tcp6_gso_segment(skb)
            if skb.protocol == ETH_P_IPV6
            else gso.skb_gso_segment(self.ipv4, skb, dev_xmit.netif_skb_features(skb, skb.dev))
        )
        if not isinstance(segs, list):
            return None
        for seg in segs:
            seg.src = None
        if segs:
            segs[-1].src, skb.src = skb.src, None
        return segs

    def skb_checksum_help(self, skb: SkBuff) -> int:
        """Fills in the checksum."""
        (skb_checksum_help6 if skb.protocol == ETH_P_IPV6 else skb_checksum_help)(skb)
        return 0

    def dev_hard_start_xmit(self, skbs: list[SkBuff], dev: NetDevice, txq: Any) -> tuple[list[SkBuff], int]:
        """Hands packets to the driver."""
        return dev_xmit.dev_hard_start_xmit(self, skbs, dev, txq)  # type: ignore[arg-type]

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice, txq: NetdevQueue, more: bool) -> int:
        """The driver's function."""
        return self.drivers[dev.ifindex](skb, dev, txq, more)

    def ndo_tx_timeout(self, dev: NetDevice, index: int) -> None:
        """The driver is told that a queue stands still."""
        if dev.ifindex in self.timeouts:
            self.timeouts[dev.ifindex](index)

    def netif_schedule(self, q: Any) -> None:
        """The NET_TX softirq runs a discipline."""
        netif_schedule(self, q)  # type: ignore[arg-type]

    def netif_schedule_queue(self, txq: NetdevQueue) -> None:
        """The same of a queue's discipline, unless the queue is stopped."""
        generic.netif_schedule_queue(self, txq)  # type: ignore[arg-type]

    def qdisc_run(self, q: Any) -> None:
        """Runs a discipline."""
        generic.qdisc_run(self, q)  # type: ignore[arg-type]

    def raise_softirq(self, nr: str) -> None:
        """Raises a softirq on this processor."""
        self.contexts.raise_softirq(Vector[nr])

    def net_tx_action(self) -> None:
        """The NET_TX softirq."""
        net_tx_action(self)  # type: ignore[arg-type]

    def ptype_all(self, dev: NetDevice) -> list[Any]:
        """The packet sockets that see what the device sends."""
        return [t for t in self.rx.taps if t.dev is None or t.dev is dev]

    def packet_rcv(self, tap: Any, skb: SkBuff, orig_dev: NetDevice) -> None:
        """A packet socket gets a copy."""
        self.seen.append((self.now, orig_dev.name, skb.pkt_type, skb.frame))

    # What drivers ask

    def netif_tx_stop_queue(self, txq: NetdevQueue) -> None:
        """The driver has no room."""
        txqs.netif_tx_stop_queue(self, txq)  # type: ignore[arg-type]

    def netif_tx_start_queue(self, txq: NetdevQueue) -> None:
        """It has."""
        txqs.netif_tx_start_queue(self, txq)  # type: ignore[arg-type]

    def netif_tx_wake_queue(self, txq: NetdevQueue) -> None:
        """It has again, and who waits is told."""
        txqs.netif_tx_wake_queue(self, txq)  # type: ignore[arg-type]

    def netdev_tx_sent_queue(self, txq: NetdevQueue, count: int) -> None:
        """Byte queue limits book what was given to the device."""
        txqs.netdev_tx_sent_queue(self, txq, count)  # type: ignore[arg-type]

    def netdev_tx_completed_queue(self, txq: NetdevQueue, pkts: int, count: int) -> None:
        """And what it has sent."""
        txqs.netdev_tx_completed_queue(self, txq, pkts, count)  # type: ignore[arg-type]

    def dev_consume_skb_any(self, skb: SkBuff) -> None:
        """A sent packet is freed; in a hard interrupt NET_TX will do it."""
        if self.contexts.in_hardirq():
            dev_kfree_skb_irq_reason(self, skb, Reason.CONSUMED)  # type: ignore[arg-type]
        else:
            self.consume_skb(skb)

    @cited("net/core/dev.c:netif_napi_add", "include/linux/netdevice.h:netif_napi_add")
    def netif_napi_add(self, dev: NetDevice, poll: Callable[[NapiStruct, int], int]) -> NapiStruct:
        """A driver's poll function joins NAPI."""
        self.note("netif_napi_add", dev.name)
        return NapiStruct(self.rx, dev, poll)

    def napi_schedule(self, napi: NapiStruct) -> None:
        """NAPI will poll."""
        if napi_schedule_prep(self.rx, napi):
            napi_schedule_prepared(self.rx, napi)

    def napi_complete_done(self, napi: NapiStruct, work: int) -> bool:
        """A poll is over."""
        return napi_complete_done(self.rx, napi, work)

    def napi_gro_receive(self, napi: NapiStruct, skb: SkBuff) -> None:
        """A received packet goes up."""
        napi_gro_receive(self.rx.env, napi, skb)

    # The way in

    def net_rx_action(self) -> None:
        """The NET_RX softirq."""
        net_rx_action(self.rx)

    def eth_type_trans(self, skb: SkBuff, dev: NetDevice) -> int:
        """Takes the link-layer header off."""
        skb.data[:0] = skb.mac_header
        return eth_type_trans(self.rx, skb, dev)

    def netif_rx(self, skb: SkBuff) -> int:
        """A packet for this processor's backlog."""
        return self.rx.netif_rx_in_interrupt(skb)

    def netif_receive_skb(self, skb: SkBuff) -> int:
        """A frame comes in again, on another device."""
        return netif_receive_skb(self.rx, skb)

    @cited("drivers/net/tun.c:tun_get_user", "drivers/net/tun.c:tun_rx_batched")
    def tun_get_user(self, dev: NetDevice, packet: bytes) -> None:
        """A program writes a packet to a tun device: it comes in there, in the program's context."""
        skb = SkBuff(packet, ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP, dev=dev)
        skb.skb_iif = dev.ifindex
        self.local_bh_disable()
        netif_receive_skb(self.rx, skb)
        self.local_bh_enable()

    def br_handle_frame(self, skb: SkBuff) -> int:
        """The rx_handler of a bridge's port."""
        assert skb.dev is not None
        return br_handle_frame(self.ports[skb.dev.ifindex].br, skb)

    @cited("net/core/dev.c:dev_loopback_xmit")
    def dev_loopback_xmit(self, skb: SkBuff) -> int:
        """A copy of what is sent comes in as if it had been received."""
        skb.pkt_type = PACKET_LOOPBACK
        if not skb.ip_summed:
            skb.ip_summed = CHECKSUM_UNNECESSARY
        return self.rx.netif_rx(skb)


class Veth:
    """A pair of veth devices, one end in each namespace, both of one machine. `rq` are the ends' receive queues."""

    def __init__(
        self,
        a: Devices,
        b: Devices,
        names: tuple[str, str],
        macs: tuple[bytes, bytes],
        features: frozenset[str],
        mtu: int,
    ) -> None:
        self.ns = (a, b)
        self.dev = tuple(
            NetDevice(name, ns.next_ifindex(), mac, lltx=True, no_queue=True, features=features, mtu=mtu)
            for ns, name, mac in zip(self.ns, names, macs, strict=True)
        )
        self.rq = (VethRq(a.rx, self.dev[0]), VethRq(b.rx, self.dev[1]))
        a.register(self.dev[0], lambda skb, dev, txq, more: veth_xmit(b.rx, skb, dev, self.rq[1]))
        b.register(self.dev[1], lambda skb, dev, txq, more: veth_xmit(a.rx, skb, dev, self.rq[0]))


VETH_FEATURES: Final = frozenset(
    {
        "scatter-gather", "tx-checksum-ip-generic", "rx-checksum", "tx-tcp-segmentation", "tx-tcp-ecn-segmentation",
        "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation", "generic-segmentation-offload", "highdma",
        "tx-udp-segmentation",
    }
)  # fmt: skip
"""What a veth has on when it is made."""
