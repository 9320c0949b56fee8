"""The world of the netfilter differential: a router between two networks, as little of IP as netfilter needs around it.

Two Ethernet devices without ARP, tap0 (10.0.1.1/24) and tap1 (10.0.2.1/24), routes beyond them, UDP sockets on two
ports, raw sockets that send. What the router does besides its hooks: route, TTL, fragments, ICMP errors and echoes,
resets, each as net/ipv4 does it, without options and PMTU.
"""

import errno
from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from refmodel.dropreason import Reason
from refmodel.netdevice import NetDevice, loopback
from refmodel.netfilter.conn import NfConn
from refmodel.netfilter.env import Flow
from refmodel.netfilter.nat import Nat, NatRange, port_range
from refmodel.netfilter.netfilter import Netfilter
from refmodel.netfilter.params import CtParams, TcpCtParams
from refmodel.netfilter.skb import csum_replace2, ip_is_fragment, ip_send_check, put16, u16at, u32at
from refmodel.netfilter.tuples import Tuple
from refmodel.netfilter.uapi import (
    IP_MF,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    RTCF_BROADCAST,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
    Manip,
)  # fmt: skip
from refmodel.packet.wire import ones_sum, pseudo_header
from refmodel.profile import Profile
from refmodel.skbuff import CHECKSUM_NONE, CHECKSUM_PARTIAL, PACKET_HOST, SkBuff

RTCF_LOCAL: Final = 0x80000000
MTU: Final = 1500
PORTS: Final = (53, 5000)
ADDRESSES: Final = {"tap0": "10.0.1.1/24", "tap1": "10.0.2.1/24"}
ROUTES: Final = {"192.168.9.0/24": "tap0", "172.16.0.0/16": "tap1"}
ERROR_TYPES: Final = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12)


class Dst:
    """A route of this world."""

    def __init__(self, dev: NetDevice, rt_type: int, is_input: bool) -> None:
        self.dev = dev
        self.rt_type = rt_type
        self.rt_flags = {RTN_LOCAL: RTCF_LOCAL, RTN_BROADCAST: RTCF_LOCAL | RTCF_BROADCAST}.get(rt_type, 0)
        self.rt_uses_gateway = False
        self.gateway = b""
        self.error = 0
        self.hoplimit = 0
        self.is_input = is_input


class Out:
    """What came out: the device or socket, the bytes, and whether the kernel chose the IP id by itself."""

    def __init__(self, where: str, data: bytes, free_id: bool = False) -> None:
        self.where = where
        self.data = data
        self.free_id = free_id

    def __repr__(self) -> str:
        return f"{self.where}:{self.data.hex()}"


class OracleNat(Nat):
    """NAT whose random ports are those that the kernel has chosen: `chosen(original tuple, manip)` tells them."""

    chosen: Callable[[Tuple, Manip], int | None]

    def nf_nat_l4proto_unique_tuple(self, t: Tuple, r: NatRange, manip: Manip, ct: NfConn) -> Tuple:
        """The first try is the kernel's port."""
        span = port_range(t, r, manip)
        port = self.chosen(ct.orig, manip)
        world = self.env
        assert isinstance(world, World)
        world.rolled += 1
        world.dice = 0 if span is None or port is None else (port - span[0]) % span[1]
        return super().nf_nat_l4proto_unique_tuple(t, r, manip, ct)


class World:
    """The router. `received` takes a frame, `sent` a packet of a raw socket; both give what came out."""

    def __init__(self, kernel: int = 612, hz: int = 250, sysctls: Mapping[str, int] | None = None) -> None:
        self.now = 0
        self.hz = hz
        self.kernel = kernel
        self.dice = 0
        self.rolled = 0  # how often NAT has drawn a port
        self.mib: Counter[str] = Counter()
        self.drops: list[Reason] = []
        self.notes: list[tuple[str, str]] = []
        self.out: list[Out] = []
        self.lo = loopback()
        self.devices = {
            n: NetDevice(n, i, bytes((2, 0, 0, 0, 0, i)), kind="tun") for i, n in ((2, "tap0"), (3, "tap1"))
        }
        self.local = {IPv4Address(a.split("/")[0]).packed: self.devices[d] for d, a in ADDRESSES.items()}
        self.nets = [(IPv4Network(a, strict=False), self.devices[d]) for d, a in ADDRESSES.items()]
        self.nets += [(IPv4Network(n), self.devices[d]) for n, d in ROUTES.items()]
        self.broadcasts = {
            IPv4Network(a, strict=False).broadcast_address.packed: self.devices[d] for d, a in ADDRESSES.items()
        }
        self.fragments: dict[tuple[bytes, int, int, int], list[SkBuff]] = {}
        self.icmp_locked = False
        p = Profile(f"{kernel // 100}.{kernel % 100}", hz, sysctls or {})
        self.nf = Netfilter(self, p.params(CtParams), p.params(TcpCtParams))
        self.nf.nat.__class__ = OracleNat

    # ---- Env

    @property
    def jiffies(self) -> int:
        """The tick that it is."""
        return self.now * self.hz // 1_000_000

    def note(self, fn: str, detail: str = "") -> None:
        """Keeps a decision."""
        self.notes.append((fn, detail))

    def count(self, name: str, n: int = 1) -> None:
        """Counts."""
        self.mib[name] += n

    def random(self) -> int:
        """What the kernel's dice showed."""
        return self.dice

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> Any:
        """No timers are needed."""
        raise NotImplementedError(name)

    def kfree_skb(self, skb: SkBuff, reason: Reason) -> None:
        """A drop."""
        self.drops.append(reason)

    def consume_skb(self, skb: SkBuff) -> None:
        """The end of a packet."""

    # ---- what netfilter asks

    def addr_type(self, addr: bytes, dev: NetDevice | None = None) -> int:
        """The RTN_ type of an address."""
        if addr[0] == 127:
            return RTN_LOCAL if dev in (None, self.lo) else RTN_UNICAST
        if addr in self.local:
            return RTN_LOCAL if dev in (None, self.local[addr]) else RTN_UNICAST
        if addr == b"\xff" * 4 or addr[0] == 0:
            return RTN_BROADCAST
        if addr in self.broadcasts:
            return RTN_BROADCAST if dev in (None, self.broadcasts[addr]) else RTN_UNICAST
        return RTN_MULTICAST if addr[0] >> 4 == 0xE else RTN_UNICAST

    def inet_addr_type_dev_table(self, dev: NetDevice, addr: bytes) -> int:
        """The type as seen from a device's table."""
        return self.addr_type(addr)

    def inet_dev_addr_type(self, dev: NetDevice | None, addr: bytes) -> int:
        """The type, of a device's own addresses."""
        return self.addr_type(addr, dev)

    def inet_select_addr(self, dev: NetDevice, dst: bytes, scope: int) -> bytes:
        """The device's address; of lo, whose address is of too narrow a scope, that of another one."""
        return self.ifa_local(self.devices["tap0"] if dev is self.lo else dev)

    def ifa_local(self, dev: NetDevice) -> bytes:
        """The device's address."""
        return b"\x7f\x00\x00\x01" if dev is self.lo else next(a for a, d in self.local.items() if d is dev)

    def sysctl_ip_default_ttl(self) -> int:
        """64."""
        return 64

    def sysctl_fwmark_reflect(self) -> bool:
        """Off."""
        return False

    def device_to(self, addr: bytes) -> NetDevice | None:
        """Where a remote address is."""
        found = [(n.prefixlen, d) for n, d in self.nets if IPv4Address(addr) in n]
        return max(found, key=lambda x: x[0])[1] if found else None

    def ip_route_output_key(self, flow: Flow) -> Dst | None:
        """A way from here."""
        kind = self.addr_type(flow.daddr)
        if kind == RTN_LOCAL:
            return Dst(self.lo, RTN_LOCAL, False)
        dev = self.device_to(flow.daddr)
        return None if dev is None or flow.saddr[0] == 127 else Dst(dev, kind, False)

    def icmp_send(self, skb: SkBuff, type: int, code: int, info: int) -> None:
        """An ICMP error; source net/ipv4/icmp.c:__icmp_send."""
        rt = skb.dst
        if rt is None or skb.pkt_type != PACKET_HOST or rt.rt_flags & RTCF_BROADCAST or u16at(skb.data, 6) & 0x1FFF:
            return
        hlen = (skb.data[0] & 0xF) * 4
        if skb.data[9] == IPPROTO_ICMP and (
            len(skb.data) <= hlen or skb.data[hlen] in ERROR_TYPES or skb.data[hlen] > 18
        ):
            return
        to = bytes(skb.data[12:16])
        source = bytes(skb.data[16:20]) if rt.rt_flags & RTCF_LOCAL else b""
        way = self.ip_route_output_key(Flow(daddr=to, saddr=source or bytes(4)))
        if way is None:
            return
        source = source or (to if way.dev is self.lo else self.ifa_local(way.dev))
        body = bytearray(struct_icmp(type, code, info) + bytes(skb.data[: 576 - 28]))
        put16(body, 2, ones_sum(bytes(body)) ^ 0xFFFF)
        self.push(source, to, IPPROTO_ICMP, bytes(body), skb.data[1] & 0x1E | 0xC0, way, free_id=True, about=skb)

    def push(
        self,
        src: bytes,
        dst: bytes,
        protocol: int,
        body: bytes,
        tos: int,
        way: Dst,
        *,
        free_id: bool = False,
        df: bool = False,
        about: SkBuff | None = None,
    ) -> None:
        """A packet of the router's own."""
        head = bytearray(20)
        head[0], head[1], head[8], head[9] = 0x45, tos, 64, protocol
        put16(head, 2, 20 + len(body))
        put16(head, 6, 0x4000 if df else 0)
        head[12:16], head[16:20] = src, dst
        skb = SkBuff(bytes(head + body))
        skb.dst = way
        skb.cb = "free id" if free_id else None
        if about is not None:
            self.nf.nf_ct_attach(skb, about)
        if protocol != IPPROTO_ICMP:
            self.ip_local_out(skb)
        elif not self.icmp_locked:  # icmp_xmit_lock: ICMP about ICMP that is being sent is not sent
            self.icmp_locked = True
            self.ip_local_out(skb)
            self.icmp_locked = False

    def ip_local_out(self, skb: SkBuff) -> int:
        """The router's own packets pass LOCAL_OUT."""
        put16(skb.data, 2, len(skb.data))
        ip_send_check(skb.data)
        if self.nf.nf_hook(NF_INET_LOCAL_OUT, skb, None, skb.dst.dev) == 1:
            self.ip_output(skb)
        return 0

    def ip_defrag(self, skb: SkBuff, user: int) -> int:
        """Puts fragments together; the last one becomes the whole, and knows the sizes of all."""
        key = bytes(skb.data[12:20]), u16at(skb.data, 4), skb.data[9], user
        parts = self.fragments.setdefault(key, [])
        parts.append(skb)
        parts.sort(key=lambda x: u16at(x.data, 6) & 0x1FFF)
        at = 0
        for x in parts:
            if (u16at(x.data, 6) & 0x1FFF) * 8 != at:
                return errno.EINPROGRESS
            at += len(x.data) - 20
        if u16at(parts[-1].data, 6) & IP_MF:
            return errno.EINPROGRESS
        del self.fragments[key]
        first = parts[0]
        sizes = [len(x.data) - 20 for x in parts]
        skb.data = bytearray(bytes(first.data[:20]) + b"".join(bytes(x.data[20:]) for x in parts))
        skb.cb = sizes
        put16(skb.data, 2, len(skb.data))
        put16(skb.data, 6, 0)
        ip_send_check(skb.data)
        return 0

    # ---- the router

    def received(self, device: str, frame: bytes) -> list[Out]:
        """A frame comes in; what comes out of it."""
        self.out = []
        dev = self.devices[device]
        skb = SkBuff(frame[14:], dev=dev, mac_header=frame[:14])
        skb.skb_iif = dev.ifindex
        if frame[0] & 1:
            skb.pkt_type = 1 if frame[:6] == b"\xff" * 6 else 2
        elif frame[:6] != dev.dev_addr:
            skb.pkt_type = 3
        self.ip_rcv(skb, dev)
        return self.out

    def sent(self, packet: bytes) -> list[Out]:
        """A raw socket with IP_HDRINCL sends; what comes out of it."""
        self.out = []
        skb = SkBuff(packet)
        way = self.ip_route_output_key(Flow(daddr=packet[16:20]))
        assert way is not None
        skb.dst = way
        put16(skb.data, 2, len(skb.data))
        ip_send_check(skb.data)
        if self.nf.nf_hook(NF_INET_LOCAL_OUT, skb, None, way.dev) == 1:
            self.ip_output(skb)
        return self.out

    def ip_rcv(self, skb: SkBuff, dev: NetDevice) -> None:
        """Checks, PRE_ROUTING, the route, and where it leads."""
        data = skb.data
        if skb.pkt_type == 3 or len(data) < 20 or data[0] != 0x45 or ones_sum(bytes(data[:20])) != 0xFFFF:
            return
        length = u16at(data, 2)
        if not 20 <= length <= len(data):
            return
        del data[length:]
        skb.dev = dev
        if self.nf.nf_hook(NF_INET_PRE_ROUTING, skb, dev, None) != 1:
            return
        if skb.dst is None and not self.route_input(skb, dev):
            return
        if skb.dst.rt_flags & RTCF_LOCAL:
            self.ip_local_deliver(skb, dev)
        else:
            self.ip_forward(skb, dev)

    def route_input(self, skb: SkBuff, dev: NetDevice) -> bool:
        """The way of a packet from outside; martians have none."""
        src, dst = bytes(skb.data[12:16]), bytes(skb.data[16:20])
        if self.addr_type(src) != RTN_UNICAST or dst[0] == 127 or dst == bytes(4):
            return False
        kind = self.addr_type(dst)
        if kind in (RTN_LOCAL, RTN_BROADCAST):
            skb.dst = Dst(dev if kind == RTN_BROADCAST else self.lo, kind, True)
            return True
        out = self.device_to(dst)
        if kind == RTN_MULTICAST or out is None:
            return False
        skb.dst = Dst(out, RTN_UNICAST, True)
        return True

    def ip_forward(self, skb: SkBuff, dev: NetDevice) -> None:
        """TTL, FORWARD, and out."""
        if skb.pkt_type != PACKET_HOST:
            return
        if skb.data[8] <= 1:
            self.icmp_send(skb, 11, 0, 0)
            return
        put16(skb.data, 10, csum_decrease_ttl(u16at(skb.data, 10)))
        skb.data[8] -= 1
        if self.nf.nf_hook(NF_INET_FORWARD, skb, dev, skb.dst.dev) == 1:
            self.ip_output(skb)

    def ip_output(self, skb: SkBuff) -> None:
        """POST_ROUTING, and the device: fragments leave as they came."""
        dev = skb.dst.dev
        indev = skb.dev
        skb.dev = dev
        if self.nf.nf_hook(NF_INET_POST_ROUTING, skb, indev, dev) != 1:
            return
        if dev is self.lo:
            looped = skb.copy()
            looped.pkt_type = PACKET_HOST
            self.ip_rcv(looped, self.lo)
            return
        finish_checksum(skb)
        for data in refragmented(skb):
            self.out.append(Out(dev.name, data, skb.cb == "free id"))

    def ip_local_deliver(self, skb: SkBuff, dev: NetDevice) -> None:
        """Reassembly, LOCAL_IN, and the protocol."""
        if ip_is_fragment(skb) and self.ip_defrag(skb, 0):
            return
        if self.nf.nf_hook(NF_INET_LOCAL_IN, skb, dev, None) != 1:
            return
        self.nf.nf_reset_ct(skb)
        protocol = skb.data[9]
        if protocol == IPPROTO_ICMP:
            self.icmp_rcv(skb)
        elif protocol == IPPROTO_UDP:
            self.udp_rcv(skb)
        elif protocol == IPPROTO_TCP:
            self.tcp_v4_rcv(skb)
        else:
            self.icmp_send(skb, 3, 2, 0)

    def icmp_rcv(self, skb: SkBuff) -> None:
        """Echoes are answered, all else says nothing here."""
        body = bytes(skb.data[20:])
        if len(body) < 8 or (ones_sum(body) != 0xFFFF and skb.ip_summed == CHECKSUM_NONE) or body[0] != 8:
            return
        if skb.dst.rt_flags & RTCF_BROADCAST:
            return
        reply = bytearray(body)
        reply[0] = 0
        put16(reply, 2, 0)
        put16(reply, 2, ones_sum(bytes(reply)) ^ 0xFFFF)
        src = bytes(skb.data[16:20])
        way = self.ip_route_output_key(Flow(daddr=bytes(skb.data[12:16]), saddr=src))
        if way is not None:
            self.push(src, bytes(skb.data[12:16]), IPPROTO_ICMP, bytes(reply), skb.data[1], way, free_id=True)

    def udp_rcv(self, skb: SkBuff) -> None:
        """A socket, or ICMP port unreachable."""
        body = bytes(skb.data[20:])
        if len(body) < 8 or not 8 <= u16at(body, 4) <= len(body):
            return
        body = body[: u16at(body, 4)]
        wrong = u16at(body, 6) != 0 and not transport_ok(skb, body)
        port = u16at(body, 2)
        if wrong:
            return
        if port in PORTS:
            self.out.append(Out(f"udp {port}", body[8:]))
        else:
            self.icmp_send(skb, 3, 3, 0)

    def tcp_v4_rcv(self, skb: SkBuff) -> None:
        """Nobody listens: a reset."""
        body = bytes(skb.data[20:])
        if skb.pkt_type != PACKET_HOST or len(body) < 20:
            return
        doff = (body[12] >> 4) * 4
        if doff < 20 or len(body) < doff or not transport_ok(skb, body):
            return
        if body[13] & 0x04 or skb.dst.rt_type != RTN_LOCAL:
            return
        reset = bytearray(20)
        reset[0:2], reset[2:4] = body[2:4], body[0:2]
        reset[12] = 0x50
        if body[13] & 0x10:
            reset[4:8], reset[13] = body[8:12], 0x04
        else:
            ack = u32at(body, 4) + bool(body[13] & 2) + bool(body[13] & 1) + len(body) - doff
            reset[8:12], reset[13] = (ack & 0xFFFFFFFF).to_bytes(4, "big"), 0x14
        src, dst = bytes(skb.data[16:20]), bytes(skb.data[12:16])
        put16(reset, 16, ones_sum(bytes(reset), pseudo_header(src, dst, IPPROTO_TCP, 20)) ^ 0xFFFF)
        way = self.ip_route_output_key(Flow(daddr=dst, saddr=src))
        if way is not None:
            self.push(src, dst, IPPROTO_TCP, bytes(reset), skb.data[1] & 0xFC, way, df=True)


def csum_decrease_ttl(check: int) -> int:
    """The IP checksum after the TTL went down by one; source include/net/ip.h:ip_decrease_ttl."""
    value = check + 0x0100
    return value + (value >= 0xFFFF) & 0xFFFF


def struct_icmp(type: int, code: int, info: int) -> bytes:
    """An ICMP header without its checksum."""
    return bytes((type, code, 0, 0)) + info.to_bytes(4, "big")


def transport_ok(skb: SkBuff, body: bytes) -> bool:
    """The transport checksum is right, or the device's to make."""
    if skb.ip_summed != CHECKSUM_NONE:
        return True
    src, dst = bytes(skb.data[12:16]), bytes(skb.data[16:20])
    return ones_sum(body, pseudo_header(src, dst, skb.data[9], len(body))) == 0xFFFF


def finish_checksum(skb: SkBuff) -> None:
    """What the device would do: a checksum of which only the pseudo-header is summed is made whole."""
    if skb.ip_summed == CHECKSUM_PARTIAL:
        at = 20 + (16 if skb.data[9] == IPPROTO_TCP else 6)
        put16(skb.data, at, ones_sum(bytes(skb.data[20:])) ^ 0xFFFF)
        skb.ip_summed = CHECKSUM_NONE


def refragmented(skb: SkBuff) -> list[bytes]:
    """A packet that was put together leaves in the sizes that it came in; source ip_output.c:ip_do_fragment."""
    if not isinstance(skb.cb, list) or len(skb.cb) < 2:
        return [bytes(skb.data)]
    out = []
    at = 0
    for i, size in enumerate(skb.cb):
        head = bytearray(skb.data[:20])
        put16(head, 2, 20 + size)
        put16(head, 6, at // 8 | (IP_MF if i < len(skb.cb) - 1 else 0))
        ip_send_check(head)
        out.append(bytes(head + skb.data[20 + at : 20 + at + size]))
        at += size
    return out


__all__ = ["ADDRESSES", "MTU", "PORTS", "ROUTES", "Out", "World", "csum_replace2"]
