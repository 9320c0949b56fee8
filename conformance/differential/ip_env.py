"""The model's side of the IP differential: refmodel.ip in a namespace with a few routes and no other layer.

Routes are looked up in the world's list: the FIB has a differential of its own. What IP hands to neighbours is kept.
"""

import errno
import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from conformance.differential.ip_world import ADDRESSES, IN, MACS, OUT, ROUTES, TUN, UDP_PORT, World
from refmodel.dropreason import Reason
from refmodel.fib.types import Route
from refmodel.ip import append, gso, icmp
from refmodel.ip.const import (
    ICMP_DEST_UNREACH,
    ICMP_PORT_UNREACH,
    IP_DEFRAG_CONNTRACK_IN,
    IP_PMTUDISC_DO,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPSKB_DOREDIRECT,
    NF_INET_PRE_ROUTING,
    RTCF_BROADCAST,
    RTCF_LOCAL,
    RTCF_MULTICAST,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from refmodel.ip.env import Flow, Okfn
from refmodel.ip.fragment import skb_checksum_help
from refmodel.ip.header import ip_hdr, ip_is_fragment
from refmodel.ip.icmprcv import IcmpProtocol
from refmodel.ip.input import ip_rcv
from refmodel.ip.net import IPCB, Ip
from refmodel.ip.params import IpParams
from refmodel.ip.reasm import ip_defrag
from refmodel.ip.sock import Flowi4, IpSock
from refmodel.netdevice import IFF_RUNNING, IFF_UP, NetDevice, loopback
from refmodel.packet.wire import ones_sum, pseudo_header
from refmodel.profile import profile
from refmodel.skbuff import CHECKSUM_PARTIAL, ETH_P_IP, PACKET_HOST, PACKET_LOOPBACK, SkBuff

ALL_HOSTS: Final = bytes((224, 0, 0, 1))
LIMITED: Final = b"\xff\xff\xff\xff"


class Timer:
    """A timer that whoever drives the model fires."""

    def __init__(self, env: "IpWorldEnv", fn: Callable[[Any], None], arg: Any) -> None:
        self.env = env
        self.fn = fn
        self.arg = arg
        self.expires: int | None = None

    @property
    def pending(self) -> bool:
        """It is armed."""
        return self.expires is not None

    def mod(self, jiffy: int) -> None:
        """Arms it for a tick."""
        self.expires = jiffy * 1_000_000 // self.env.hz
        self.env.timers[id(self)] = self

    def start_us(self, when: int) -> None:
        """Arms it for a moment."""
        self.expires = when
        self.env.timers[id(self)] = self

    def stop(self) -> None:
        """Disarms it."""
        self.expires = None
        self.env.timers.pop(id(self), None)


class Settings:
    """A device's IPv4 settings."""

    def __init__(self, world: World) -> None:
        self.forwarding = world.forwarding
        self.accept_source_route = world.accept_source_route
        self.send_redirects = world.send_redirects
        self.drop_unicast_in_l2_multicast = world.drop_unicast_in_l2_multicast
        self.nopolicy = False


class Udp:
    """UDP as far as the differential needs it: one socket, bound to UDP_PORT."""

    no_policy = True
    icmp_strict_tag_validation = False

    def __init__(self, env: "IpWorldEnv") -> None:
        self.env = env

    def handler(self, skb: SkBuff) -> int:
        """Delivers, or tells the sender that nobody listens."""
        env, at = self.env, skb.transport or 0
        iph, size = ip_hdr(skb), len(skb.data) - at
        if size < 8:
            env.kfree_skb(skb, Reason.NOT_SPECIFIED)
            return 0
        ulen = int.from_bytes(skb.data[at + 4 : at + 6], "big")
        if ulen > size or ulen < 8:
            env.kfree_skb(skb, Reason.PKT_TOO_SMALL)
            return 0
        body = bytes(skb.data[at : at + ulen])
        pseudo = pseudo_header(iph.saddr, iph.daddr, IPPROTO_UDP, ulen)
        good = body[6:8] == b"\0\0" or ones_sum(body, pseudo) == 0xFFFF
        many = skb.dst.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)
        port = int.from_bytes(body[2:4], "big")
        if port == UDP_PORT:
            if good:
                env.delivered.append(body[8:])
                env.consume_skb(skb)
            else:
                env.kfree_skb(skb, Reason.UDP_CSUM)
        elif many:
            env.kfree_skb(skb, Reason.NOT_SPECIFIED)
        elif good:
            icmp.icmp_send(env.net, skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)
            env.kfree_skb(skb, Reason.NO_SOCKET)
        else:
            env.kfree_skb(skb, Reason.UDP_CSUM)
        return 0

    def err_handler(self, skb: SkBuff, inner: int, info: int) -> None:
        """No socket has sent anything."""
        self.env.errors.append((IPPROTO_UDP, info))
        if int.from_bytes(skb.data[inner + 20 : inner + 22], "big") != UDP_PORT:
            self.env.count("IcmpInErrors")


class Tcp:
    """TCP without sockets: everything is reset."""

    no_policy = True
    icmp_strict_tag_validation = True

    def __init__(self, env: "IpWorldEnv") -> None:
        self.env = env

    def handler(self, skb: SkBuff) -> int:
        """Answers with a reset."""
        env, at = self.env, skb.transport or 0
        data, iph = skb.data, ip_hdr(skb)
        size = len(data) - at
        if skb.pkt_type != PACKET_HOST:
            env.kfree_skb(skb, Reason.NOT_SPECIFIED)
            return 0
        doff = (data[at + 12] >> 4) * 4 if size >= 20 else 0
        if size < 20 or doff < 20 or size < doff:
            env.kfree_skb(skb, Reason.PKT_TOO_SMALL if 0 < doff < 20 else Reason.NOT_SPECIFIED)
            return 0
        if ones_sum(bytes(data[at:]), pseudo_header(iph.saddr, iph.daddr, IPPROTO_TCP, size)) != 0xFFFF:
            env.kfree_skb(skb, Reason.TCP_CSUM)
            return 0
        flags = data[at + 13]
        if not flags & 4 and skb.dst.rt_type == RTN_LOCAL:
            self.reset(skb, at, doff, flags)
        env.kfree_skb(skb, Reason.NO_SOCKET)
        return 0

    def reset(self, skb: SkBuff, at: int, doff: int, flags: int) -> None:
        """A reset; RFC 9293 3.5.2."""
        env, data, iph = self.env, skb.data, ip_hdr(skb)
        seq, ack = int.from_bytes(data[at + 4 : at + 8], "big"), int.from_bytes(data[at + 8 : at + 12], "big")
        head = bytearray(data[at + 2 : at + 4] + data[at : at + 2]) + bytes(16)
        head[12], head[13] = 0x50, 4
        if flags & 16:
            head[4:8] = ack.to_bytes(4, "big")
        else:
            head[13] |= 16
            end = seq + (flags >> 1 & 1) + (flags & 1) + len(data) - at - doff
            head[8:12] = (end & 0xFFFFFFFF).to_bytes(4, "big")
        head[16:18] = pseudo_header(iph.daddr, iph.saddr, IPPROTO_TCP, 20).to_bytes(2, "big")
        sk = IpSock(IPPROTO_TCP)
        sk.pmtudisc = IP_PMTUDISC_DO
        flow = Flowi4(iph.saddr, iph.daddr, iph.tos, IPPROTO_TCP)
        append.ip_send_unicast_reply(env.net, sk, skb, IPCB(skb).opt, flow, bytes(head), 16)

    def err_handler(self, skb: SkBuff, inner: int, info: int) -> None:
        """No connection has sent anything."""
        self.env.errors.append((IPPROTO_TCP, info))
        self.env.count("IcmpInErrors")


class IpWorldEnv:
    """An `IpEnv`: `out` are (device, bytes, who decided to send), `drops` reasons in order."""

    def __init__(self, world: World, kernel: str = "6.18", hz: int = 250) -> None:
        self.world = world
        self.hz = hz
        self.kernel = int(kernel.split(".")[0]) * 100 + int(kernel.split(".")[1])
        self.now = 100 * 1_000_000
        self.ms = 0
        self.mib: Counter[str] = Counter()
        self.notes: list[tuple[str, str]] = []
        self.drops: list[Reason] = []
        self.out: list[tuple[str, bytes, str]] = []
        self.delivered: list[bytes] = []
        self.looped: list[SkBuff] = []
        self.groups: set[tuple[str, bytes]] = set()
        self.errors: list[tuple[int, int]] = []
        self.consumed = 0
        self.timers: dict[int, Timer] = {}
        self.seed = 1
        names = {f"net.ipv4.{k}": v for k, v in world.settings().items()}
        known = {f"net.ipv4.{k}" for k in IpParams.__struct_fields__}
        self.ip = profile(kernel, hz, {k: v for k, v in names.items() if k in known}).params(IpParams)
        self.devices = {"lo": loopback()}
        self.devices[IN] = NetDevice(IN, 2, MACS[IN])
        self.devices[OUT] = NetDevice(OUT, 3, MACS[OUT], mtu=world.mtu)
        if world.tun:
            self.devices[TUN] = NetDevice(TUN, 4, kind="tun", flags=IFF_UP | IFF_RUNNING)
        self.settings = Settings(world)
        self.net = Ip(self)
        self.inet_protos: dict[int, Any] = {
            IPPROTO_ICMP: IcmpProtocol(self.net),
            IPPROTO_TCP: Tcp(self),
            IPPROTO_UDP: Udp(self),
        }

    # ---- a namespace

    @property
    def jiffies(self) -> int:
        """The tick that it is."""
        return self.now * self.hz // 1_000_000

    def note(self, fn: str, detail: str = "") -> None:
        """Kept."""
        self.notes.append((fn, detail))

    def count(self, name: str, n: int = 1) -> None:
        """Kept."""
        self.mib[name] += n

    def random(self) -> int:
        """A fixed series."""
        self.seed = (self.seed * 1664525 + 1013904223) & 0xFFFFFFFF
        return self.seed

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> Timer:
        """A timer that `advance` fires."""
        return Timer(self, fn, arg)

    def advance(self, us: int) -> None:
        """Lets time pass and fires what is due, in order."""
        self.now += us
        due = sorted((t for t in self.timers.values() if (t.expires or 0) <= self.now), key=lambda t: t.expires or 0)
        for t in due:
            t.stop()
            t.fn(t.arg)

    def kfree_skb(self, skb: SkBuff, reason: Reason) -> None:
        """Kept, as the tracepoint is asked for IPv4 alone: a datagram that was never sent has no protocol yet."""
        if skb.protocol == ETH_P_IP:
            self.drops.append(reason)

    def consume_skb(self, skb: SkBuff) -> None:
        """Counted."""
        self.consumed += 1

    # ---- routes

    def _find(self, daddr: bytes) -> tuple[str, int, int, int, dict[int, int]]:
        """(device, error, gateway, on the link, metrics) of the longest prefix."""
        address = ipaddress.ip_address(daddr)
        for r in ROUTES:
            if address in ipaddress.ip_network(f"{r.prefix}/{r.length}"):
                if r.kind != "unicast":
                    return "", {"unreachable": 113, "prohibit": 13, "blackhole": 22}[r.kind], 0, 0, {}
                metrics = {2: r.mtu, 1: 4 if r.lock else 0} if r.mtu else {}
                return r.dev, 0, int(ipaddress.ip_address(r.via)), 0, metrics
        for name in self.devices:
            if name != "lo":
                own, length = ADDRESSES[name]
                if address in ipaddress.ip_network(f"{own}/{length}", strict=False):
                    return name, 0, 0, 1, {}
        return "", errno.ENETUNREACH, 0, 0, {}

    def inet_addr_type(self, addr: bytes) -> int:
        """By the local table."""
        if addr[0] == 127:
            return RTN_LOCAL
        if addr == LIMITED or addr[0] == 0:
            return RTN_BROADCAST
        if addr[0] >= 224 and addr[0] < 240:
            return RTN_MULTICAST
        for name in self.devices:
            if name != "lo":
                own, length = ADDRESSES[name]
                if addr == ipaddress.ip_address(own).packed:
                    return RTN_LOCAL
                if addr == ipaddress.ip_network(f"{own}/{length}", strict=False).broadcast_address.packed:
                    return RTN_BROADCAST
        return RTN_UNICAST

    def inet_addr_type_dev_table(self, dev: NetDevice, addr: bytes) -> int:
        """The same: there is one table."""
        return self.inet_addr_type(addr)

    def _source(self, name: str) -> bytes:
        return ipaddress.ip_address(ADDRESSES[name][0]).packed

    def ip_route_input_noref(self, skb: SkBuff, daddr: bytes, saddr: bytes, dscp: int, dev: NetDevice) -> Reason | None:
        """As ip_route_input_slow goes for the addresses that the differential sends."""
        new = self.kernel >= 614
        kind = self.inet_addr_type(daddr)
        if kind == RTN_MULTICAST and daddr != ALL_HOSTS:
            return Reason.NOT_SPECIFIED
        if saddr == LIMITED or saddr[0] >= 224:
            return Reason.IP_INVALID_SOURCE if new else Reason.NOT_SPECIFIED
        if kind == RTN_MULTICAST:
            if saddr[0] == 127:
                return Reason.IP_LOCALNET if new else Reason.NOT_SPECIFIED
            skb.dst = self._route(dev, RTCF_MULTICAST | RTCF_LOCAL, RTN_MULTICAST, "ip_local_deliver", True)
            return None
        if saddr[0] == 127 or daddr[0] == 127:
            return Reason.IP_LOCALNET if new else Reason.NOT_SPECIFIED
        if self.inet_addr_type(saddr) == RTN_LOCAL:
            return Reason.IP_LOCAL_SOURCE if new else Reason.NOT_SPECIFIED
        if kind == RTN_BROADCAST:
            skb.dst = self._route(dev, RTCF_BROADCAST | RTCF_LOCAL, RTN_BROADCAST, "ip_local_deliver", True)
            return None
        if kind == RTN_LOCAL:
            skb.dst = self._route(self.devices["lo"], RTCF_LOCAL, RTN_LOCAL, "ip_local_deliver", True)
            return None
        out, error, gateway, _, metrics = self._find(daddr)
        if not self.world.forwarding:
            error = errno.EHOSTUNREACH
        if error:
            rt = self._route(dev, 0, RTN_UNREACHABLE, "ip_error", True)
            rt.error = error
            skb.dst = rt
            return None
        rt = self._route(self.devices[out], 0, RTN_UNICAST, "ip_forward", True)
        rt.rt_gw4, rt.rt_uses_gateway, rt.metrics = gateway, bool(gateway), metrics
        _, _, _, onlink, _ = self._find(saddr)
        if rt.dev is dev and self.world.send_redirects and onlink and self._find(saddr)[0] == dev.name:
            IPCB(skb).flags |= IPSKB_DOREDIRECT
        skb.dst = rt
        return None

    def _route(self, dev: NetDevice, flags: int, kind: int, input: str, is_input: bool) -> Route:
        rt = Route(dev, flags, kind, 0)
        rt.input, rt.is_input = input, is_input
        return rt

    def ip_route_output_key(self, flow: Flow) -> Route | None:
        """As ip_route_output_key_hash_rcu goes for answers."""
        if flow.daddr == bytes(4):
            flow.saddr = flow.daddr = flow.saddr if flow.saddr != bytes(4) else bytes((127, 0, 0, 1))
        kind = self.inet_addr_type(flow.daddr)
        if kind == RTN_LOCAL:
            if flow.saddr == bytes(4):
                flow.saddr = flow.daddr
            return self._route(self.devices["lo"], RTCF_LOCAL, RTN_LOCAL, "ip_local_deliver", False)
        if kind != RTN_UNICAST:
            return self._to_many(flow, kind)
        out, error, gateway, _, metrics = self._find(flow.daddr)
        if error:
            return None
        if flow.saddr == bytes(4):
            flow.saddr = self._source(out)
        rt = self._route(self.devices[out], 0, RTN_UNICAST, "", False)
        rt.rt_gw4, rt.rt_uses_gateway, rt.metrics = gateway, bool(gateway), metrics
        return rt

    def _to_many(self, flow: Flow, kind: int) -> Route | None:
        """A group or all, over the device that the flow names, or whose subnet it is."""
        name = next((n for n, d in self.devices.items() if d.ifindex == flow.oif), "")
        for n in self.devices:
            if not name and n != "lo":
                own, length = ADDRESSES[n]
                if flow.daddr == ipaddress.ip_network(f"{own}/{length}", strict=False).broadcast_address.packed:
                    name = n
        if not name:
            return None
        if flow.saddr == bytes(4):
            flow.saddr = self._source(name)
        if kind == RTN_BROADCAST:
            flags = RTCF_BROADCAST | RTCF_LOCAL
        else:
            flags = RTCF_MULTICAST | (RTCF_LOCAL if (name, flow.daddr) in self.groups or flow.daddr == ALL_HOSTS else 0)
        rt = self._route(self.devices[name], flags, kind, "ip_local_deliver" if flags & RTCF_LOCAL else "", False)
        rt.output = "ip_mc_output" if flags & RTCF_LOCAL else "ip_output"
        return rt

    def fib_compute_spec_dst(self, skb: SkBuff) -> bytes:
        """The address it came to, or that of the device back."""
        if skb.dst.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST | RTCF_LOCAL) == RTCF_LOCAL:
            return ip_hdr(skb).daddr
        out, error, *_ = self._find(ip_hdr(skb).saddr)
        if not error and ip_hdr(skb).saddr[0] != 0:
            return self._source(out)
        assert skb.dev is not None
        return self._source(skb.dev.name)

    def inet_select_addr(self, dev: NetDevice, dst: bytes, scope: int) -> bytes:
        """Each device has one address."""
        return self._source(dev.name)

    def ip_rt_get_source(self, skb: SkBuff, rt: Any) -> bytes:
        """The address of the device that it leaves by."""
        return self._source(rt.dev.name) if rt.is_input else ip_hdr(skb).saddr

    def ipv4_update_pmtu(self, skb: SkBuff, inner: int, mtu: int, protocol: int) -> None:
        """Not kept."""

    def ipv4_redirect(self, skb: SkBuff, inner: int, protocol: int) -> None:
        """Not heeded by a router."""

    # ---- devices, netfilter, neighbours, sockets

    def in_dev(self, dev: NetDevice) -> Settings | None:
        """All devices have the same."""
        return self.settings

    def dev_get_by_index(self, ifindex: int) -> NetDevice | None:
        """By number."""
        return next((d for d in self.devices.values() if d.ifindex == ifindex), None)

    def dev_loopback_xmit(self, skb: SkBuff) -> int:
        """The host's own copy of what it sends to many."""
        skb.pkt_type = PACKET_LOOPBACK
        self.looped.append(skb)
        return 0

    def deliver_looped(self) -> None:
        """What came back to this host comes in."""
        while self.looped:
            skb = self.looped.pop(0)
            assert skb.dev is not None
            ip_rcv(self.net, skb, skb.dev)

    def netif_skb_features(self, skb: SkBuff) -> frozenset[str]:
        """The devices can do nothing."""
        return frozenset()

    def nf_hook(self, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None, okfn: Okfn) -> int:
        """No rule, but conntrack puts datagrams together first; source nf_defrag_ipv4.c:ipv4_conntrack_defrag."""
        if self.world.conntrack and hook == NF_INET_PRE_ROUTING and ip_is_fragment(ip_hdr(skb)):
            if ip_defrag(self.net, skb, IP_DEFRAG_CONNTRACK_IN):
                return 0
            skb.ignore_df = True
        return 1

    def nf_reset_ct(self, skb: SkBuff) -> None:
        """No conntrack."""

    def nf_ct_attach(self, new: SkBuff, skb: SkBuff) -> None:
        """No conntrack."""

    def ip_neigh_gw4(self, dev: NetDevice, daddr: bytes) -> Any:
        """Every device has neighbours that need no asking."""
        return dev

    def neigh_output(self, neigh: Any, skb: SkBuff, skip_cache: bool) -> int:
        """The packet leaves; a super-segment is cut, as for a device that cannot."""
        assert skb.dev is not None
        if skb.dev is self.devices["lo"]:
            skb.sk = None
            skb.pkt_type = PACKET_HOST
            skb.skb_iif = skb.dev.ifindex
            self.looped.append(skb)
            return 0
        segs = [skb]
        if skb.is_gso:
            cut = gso.skb_gso_segment(self.net, skb, frozenset())
            assert isinstance(cut, list)
            segs = cut
        for seg in segs:
            if seg.ip_summed == CHECKSUM_PARTIAL:
                skb_checksum_help(seg)
            self.out.append((skb.dev.name, bytes(seg.data), skb.by))
        return 0

    def tcp_v4_early_demux(self, skb: SkBuff) -> None:
        """No connection."""

    def udp_v4_early_demux(self, skb: SkBuff) -> Reason | None:
        """No connected socket."""
        return None

    def raw_local_deliver(self, skb: SkBuff, protocol: int) -> bool:
        """No raw socket."""
        return False

    def raw_icmp_error(self, skb: SkBuff, inner: int, protocol: int, info: int) -> None:
        """No raw socket."""

    def ra_chain_wants(self, skb: SkBuff) -> bool:
        """No raw socket."""
        return False

    def ra_chain_deliver(self, skb: SkBuff) -> None:
        """No raw socket."""

    def ping_rcv(self, skb: SkBuff) -> Reason | None:
        """No ping socket."""
        return Reason.NO_SOCKET

    def ping_err(self, skb: SkBuff, inner: int, info: int) -> None:
        """No ping socket."""

    def clock_ms_of_day(self) -> int:
        """As whoever drives the model says."""
        return self.ms
