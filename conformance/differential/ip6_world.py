"""A router with two wires, the same in a namespace of the kernel and in the model."""

import ipaddress
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from conformance.differential.receive_env import Silent
from refmodel.dropreason import Reason
from refmodel.ip6.const import ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, NEXTHDR_TCP
from refmodel.ip6.env import Okfn
from refmodel.ip6.icmp import icmpv6_send
from refmodel.ip6.input import install, ipv6_rcv
from refmodel.ip6.net import Idev, Ip6, daddr, saddr
from refmodel.ip6.params import Ip6Params
from refmodel.ip6.route import Route6
from refmodel.netdevice import NetDevice, loopback
from refmodel.packet.wire import ones_sum, pseudo_header
from refmodel.skbuff import PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, SkBuff

IN, OUT = "in6", "out6"
IFINDEX: Final = {IN: 2, OUT: 3}
MACS: Final = {IN: bytes.fromhex("020000000101"), OUT: bytes.fromhex("020000000201")}
PEERS: Final = {IN: bytes.fromhex("020000000102"), OUT: bytes.fromhex("020000000202")}
ADDRESSES: Final = {IN: ("2001:db8:1::1/64", "fe80::1/64"), OUT: ("2001:db8:2::1/64", "fe80::2/64")}
GROUPS: Final = ("ff01::1", "ff02::1", "ff02::2")
UDP_PORT: Final = 5000
ROUTES: Final = (  # prefix, type, gateway, device, mtu
    ("2001:db8:9::/48", "unicast", "2001:db8:2::9", OUT, 0),
    ("2001:db8:a::/48", "unicast", "fe80::99", OUT, 0),
    ("2001:db8:4::/48", "unicast", "2001:db8:2::4", OUT, 1400),
    ("2001:db8:7::/48", "unicast", "2001:db8:1::77", IN, 0),
    ("2001:db8:6::/48", "unicast", "fe80::66", IN, 0),
    ("2001:db8:dead::/48", "unreachable", "", "", 0),
    ("2001:db8:bad::/48", "prohibit", "", "", 0),
    ("2001:db8:b1ac::/48", "blackhole", "", "", 0),
)


def addr(text: str) -> bytes:
    """An address's 16 bytes."""
    return ipaddress.IPv6Address(text).packed


class World:
    """What differs from run to run: the outgoing MTU, whether it forwards, and sysctls under net.ipv6."""

    def __init__(self, mtu: int = 1500, forwarding: int = 1, **sysctls: int) -> None:
        self.mtu = mtu
        self.forwarding = forwarding
        self.sysctls = sysctls

    def settings(self) -> dict[str, str]:
        """The sysctls under /proc/sys/net/ipv6, as the kernel wants them."""
        names = {
            "max_hbh_opts_number": "max_hbh_opts_number",
            "max_dst_opts_number": "max_dst_opts_number",
            "max_hbh_length": "max_hbh_length",
            "max_dst_opts_length": "max_dst_opts_length",
            "echo_ignore_all": "icmp/echo_ignore_all",
            "echo_ignore_multicast": "icmp/echo_ignore_multicast",
            "echo_ignore_anycast": "icmp/echo_ignore_anycast",
            "anycast_src_echo_reply": "anycast_src_echo_reply",
            "error_anycast_as_unicast": "icmp/error_anycast_as_unicast",
            "flowlabel_reflect": "flowlabel_reflect",
        }
        found = {names[k]: str(v) for k, v in self.sysctls.items() if k in names}
        return {"auto_flowlabels": "0", "icmp/ratemask": "", **found}

    def __repr__(self) -> str:
        return f"World(mtu={self.mtu}, forwarding={self.forwarding}, {self.sysctls})"


class Udp:
    """struct inet6_protocol of UDP: one port is open, others are answered."""

    final = True
    no_policy = True

    def __init__(self, net: Ip6) -> None:
        self.net = net
        self.received: list[bytes] = []

    def err_handler(self, skb: SkBuff, type: int, code: int, offset: int, info: int) -> None:
        """An error about a datagram that no socket sent."""
        self.net.env.count("Icmp6InErrors")

    def handler(self, skb: SkBuff) -> int:
        """Takes a datagram; a socket's are verified when they are read."""
        t = skb.transport or 0
        message = bytes(skb.data[t:])
        ulen = int.from_bytes(message[4:6], "big") if len(message) >= 8 else len(message) + 1
        if ulen > len(message) or ulen < 8:
            self.net.drop(skb, Reason.PKT_TOO_SMALL if len(message) >= 8 else Reason.NOT_SPECIFIED)
            return 0
        message = message[:ulen]
        pseudo = pseudo_header(saddr(skb), daddr(skb), 17, ulen)
        absent, here = message[6:8] == b"\0\0", int.from_bytes(message[2:4], "big") == UDP_PORT
        if absent or ones_sum(message, pseudo) != 0xFFFF:
            silent = here and not absent and self.net.env.kernel < 618
            self.net.drop(skb, Reason.NOT_SPECIFIED if silent else Reason.UDP_CSUM)
            return 0
        if here:
            self.received.append(message[8:])
            return 0
        icmpv6_send(self.net, skb, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0)
        self.net.drop(skb, Reason.NO_SOCKET)
        return 0


class Router:
    """The world in the model: an `Ip6Env`. `out` are the packets that left, by device; `drops` the reasons."""

    def __init__(self, world: World, kernel: int, mip6: bool = False) -> None:
        self.now = 0
        self.hz = 250
        self.kernel = kernel
        given: dict[str, Any] = {**world.sysctls, "forwarding": world.forwarding, "mip6": mip6}
        self.ip6 = Ip6Params(kernel=kernel, auto_flowlabels=0, ratemask=(), **given)
        self.mib: Counter[str] = Counter()
        self.notes: list[tuple[str, str]] = []
        self.drops: list[str] = []
        self.out: list[tuple[str, bytes]] = []
        self.looped: deque[SkBuff] = deque()
        self.idents = 0
        self.lo = loopback()
        self.devs = {IN: NetDevice(IN, 2, MACS[IN]), OUT: NetDevice(OUT, 3, MACS[OUT], mtu=world.mtu)}
        self.net = Ip6(self)
        install(self.net)
        self.udp = Udp(self.net)
        self.net.protos[17] = self.udp
        self._wire(world)

    def _wire(self, world: World) -> None:
        net, table = self.net, self.net.table
        net.idevs[1] = Idev(self.lo)
        net.idevs[1].addresses.append((addr("::1"), 128))
        table.add(Route6(addr("::1"), 128, self.lo, "local", metric=0, idev=self.lo))
        for name, dev in self.devs.items():
            idev = net.idevs[dev.ifindex] = Idev(dev)
            for text in ADDRESSES[name]:
                interface = ipaddress.IPv6Interface(text)
                idev.addresses.append((interface.ip.packed, 64))
                prefix = interface.network.network_address.packed
                table.add(Route6(interface.ip.packed, 128, self.lo, "local", metric=0, idev=dev))
                table.add(Route6(prefix, 64, dev, metric=256))
                if world.forwarding:
                    table.add(Route6(prefix, 128, self.lo, "anycast", metric=0, idev=dev))
                    idev.anycast.add(prefix)
            table.add(Route6(addr("ff00::"), 8, dev, "multicast", metric=256))
        for where, kind, gateway, name, mtu in ROUTES:
            n = ipaddress.IPv6Network(where)
            via = addr(gateway) if gateway else b""
            dev = self.devs.get(name, self.lo)
            table.add(Route6(n.network_address.packed, n.prefixlen, dev, kind, via, mtu=mtu))

    def send(self, device: str, frame: bytes) -> None:
        """A frame comes in at a device."""
        dev = self.devs[device]
        skb = SkBuff(frame[14:], 0x86DD, dev=dev, mac_header=frame[:14])
        skb.skb_iif = dev.ifindex
        dest = frame[:6]
        if dest != dev.dev_addr:
            many = PACKET_BROADCAST if dest == b"\xff" * 6 else PACKET_MULTICAST
            skb.pkt_type = many if dest[0] & 1 else PACKET_OTHERHOST
        ipv6_rcv(self.net, skb, dev)
        while self.looped:
            again = self.looped.popleft()
            again.dev = self.lo
            ipv6_rcv(self.net, again, self.lo)

    # ------------------------------------------------------------------------------------------------------ Ip6Env

    @property
    def jiffies(self) -> int:
        """The tick of `now`."""
        return self.now * self.hz // 1_000_000

    def note(self, fn: str, detail: str = "") -> None:
        """Keeps a decision."""
        self.notes.append((fn, detail))

    def count(self, name: str, n: int = 1) -> None:
        """Counts."""
        self.mib[name] += n

    def random(self) -> int:
        """Identifications of fragments: 1, 2..."""
        self.idents += 1
        return self.idents

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> Silent:
        """A timer that stays silent: runs are shorter than a reassembly's 60 s."""
        return Silent()

    def kfree_skb(self, skb: SkBuff, reason: Reason) -> None:
        """Keeps the reason of a drop."""
        self.drops.append(reason.value)

    def consume_skb(self, skb: SkBuff) -> None:
        """The packet came to its end."""

    def dev_get_by_index(self, ifindex: int) -> NetDevice | None:
        """lo, in6 or out6."""
        return {1: self.lo, **{d.ifindex: d for d in self.devs.values()}}.get(ifindex)

    def dev_loopback_xmit(self, skb: SkBuff) -> int:
        """No copies are looped back here: nothing is sent to groups."""
        return 0

    def skb_gso_segment(self, skb: SkBuff) -> list[SkBuff] | None:
        """There are no super-segments."""
        return None

    def nf_hook6(self, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None, okfn: Okfn) -> int:
        """There are no rules."""
        return 1

    def nf_reset_ct(self, skb: SkBuff) -> None:
        """There is no conntrack."""

    def nf_ct_attach(self, new: SkBuff, skb: SkBuff) -> None:
        """There is no conntrack."""

    def ip_neigh_gw6(self, dev: NetDevice, addr: bytes) -> Any:
        """The devices have no neighbour discovery (NOARP)."""
        return dev

    def neigh_output(self, neigh: Any, skb: SkBuff, skip_cache: bool) -> int:
        """The packet leaves, or comes back over lo."""
        if neigh is self.lo:
            self.looped.append(skb)
        else:
            self.out.append((neigh.name, bytes(skb.data)))
        return 0

    def ndisc_recv(self, skb: SkBuff, type: int) -> Reason | None:
        """Neighbour discovery is another layer's."""
        return Reason.NOT_SPECIFIED

    def neigh_lladdr(self, dev: NetDevice, addr: bytes) -> bytes | None:
        """On a device without neighbour discovery (NOARP) every neighbour has the device's own address."""
        return dev.dev_addr

    def pneigh_lookup(self, addr: bytes, dev: NetDevice) -> bool:
        """No proxy."""
        return False

    def tcp_v6_early_demux(self, skb: SkBuff) -> None:
        """No connections."""

    def udp_v6_early_demux(self, skb: SkBuff) -> None:
        """No connected sockets."""

    def raw6_local_deliver(self, skb: SkBuff, nexthdr: int) -> bool:
        """No raw sockets."""
        return False

    def raw6_icmp_error(self, skb: SkBuff, nexthdr: int, type: int, code: int, inner: int, info: int) -> None:
        """No raw sockets; TCP counts an error about a segment that no socket sent."""
        if nexthdr == NEXTHDR_TCP:
            self.count("Icmp6InErrors")

    def ip6_ra_chain(self, skb: SkBuff, sel: int) -> bool:
        """No sockets with IPV6_ROUTER_ALERT."""
        return False

    def ping6_rcv(self, skb: SkBuff) -> Reason | None:
        """No ping sockets."""
        return Reason.NO_SOCKET

    def ping6_err(self, skb: SkBuff, inner: int, info: int) -> None:
        """No ping sockets."""

    def ip6_multipath_hash(self, skb: SkBuff) -> int:
        """Labels are off."""
        return 0

    def ipv6_chk_mcast_addr(self, dev: NetDevice, group: bytes, source: bytes | None) -> bool:
        """The groups of all nodes and all routers."""
        routers = self.ip6.forwarding != 0
        return any(group == addr(g) for g in GROUPS if routers or g.endswith("::1"))

    def igmp6_event(self, skb: SkBuff, type: int) -> None:
        """A query or report is taken."""

    def icmp_global_allow(self) -> bool:
        """No limits here."""
        return True

    def icmp_global_consume(self) -> None:
        """No limits here."""

    def inet_peer_xrlim_allow(self, addr: bytes, timeout: int) -> bool:
        """No limits here."""
        return True
