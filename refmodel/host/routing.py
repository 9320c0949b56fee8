"""Routing of a host: the FIB as IP, netfilter, ARP and the transport protocols ask it."""

import errno
from typing import TYPE_CHECKING, Any, Final

from refmodel.dropreason import Reason
from refmodel.fib import devinet, exceptions, frontend, lookup, route, saddr
from refmodel.fib.exceptions import __ip_do_redirect as ip_do_redirect
from refmodel.fib.net import Fib, FibRule
from refmodel.fib.types import (
    IPSKB_DOREDIRECT,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTAX_ADVMSS,
    RTAX_HOPLIMIT,
    RTAX_LOCK,
    RTAX_MTU,
    FibConfig,
    Flow4,
    NetdevEvent,
    Route,
)
from refmodel.ip.net import IPCB
from refmodel.neigh.arp import RTN
from refmodel.netdevice import NetDevice
from refmodel.skbuff import SkBuff
from refmodel.tcp.whole.sock import Dst

if TYPE_CHECKING:
    from refmodel.host.machine import Machine

ZERO: Final = bytes(4)
RTAX_INITCWND: Final = 11


def number(addr: bytes | bytearray) -> int:
    """An IPv4 address as routing has it."""
    return int.from_bytes(addr, "big")


def raw(addr: int) -> bytes:
    """An IPv4 address as packets have it."""
    return addr.to_bytes(4, "big")


class Settings:
    """A device's IPv4 settings as IP reads them."""

    accept_source_route = False
    drop_unicast_in_l2_multicast = False
    nopolicy = False

    def __init__(self, fib: Fib, dev: NetDevice) -> None:
        self.forwarding = fib.forwarding(dev)
        self.send_redirects = fib.orconf(dev, "send_redirects")


class Routing:
    """The part of a namespace that routing is; `fib` is its state."""

    machine: "Machine"
    now: int
    local_addrs: list[bytes]

    def __init__(self) -> None:
        self.fib = Fib(self)  # type: ignore[arg-type]
        self.rx_dst: dict[int, tuple[Any, int, Route, int]] = {}
        self._asked: dict[bytes, tuple[Route | int, int]] = {}  # routes that a transport protocol asked for just now
        self._asked_at = (0, 0, 0)

    @property
    def fib_genid(self) -> int:
        """Changes whenever a route may have changed."""
        return self.fib.rt_genid

    # Addresses, routes, rules: what an administrator says

    def newaddr(self, dev: NetDevice, address: bytes, prefixlen: int) -> int:
        """``ip address add``: 0, or a negative errno; the broadcast address is the subnet's last."""
        host = 32 - prefixlen
        broadcast = number(address) | (1 << host) - 1 if host > 1 else 0
        err = devinet.inet_rtm_newaddr(self.fib, dev.ifindex, number(address), prefixlen, broadcast=broadcast)
        if not err:
            self.local_addrs.append(address)
        return err

    def deladdr(self, dev: NetDevice, address: bytes) -> int:
        """``ip address del``."""
        err = devinet.inet_rtm_deladdr(self.fib, dev.ifindex, number(address))
        if not err and address in self.local_addrs:
            self.local_addrs.remove(address)
        return err

    def newroute(self, cfg: FibConfig) -> int:
        """``ip route add``."""
        return frontend.inet_rtm_newroute(self.fib, cfg)

    def delroute(self, cfg: FibConfig) -> int:
        """``ip route del``."""
        return frontend.inet_rtm_delroute(self.fib, cfg)

    def newrule(self, rule: FibRule) -> int:
        """``ip rule add``."""
        return frontend.fib_nl_newrule(self.fib, rule)

    def forward(self, on: bool = True) -> None:
        """net.ipv4.ip_forward."""
        devinet.devinet_conf_proc(self.fib, "all", "forwarding", int(on))

    def addresses(self, dev: NetDevice) -> list[bytes]:
        """A device's IPv4 addresses."""
        in_dev = self.fib.in_devs.get(dev.ifindex)
        return [raw(a.ifa_local) for a in in_dev.ifa_list] if in_dev is not None else []

    def ifa_local(self, dev: NetDevice) -> bytes:
        """A device's first address, b"" without one."""
        found = self.addresses(dev)
        return found[0] if found else b""

    # What IP asks

    def ip_route_input_noref(self, skb: SkBuff, daddr: bytes, saddr: bytes, dscp: int, dev: NetDevice) -> Reason | None:
        """Routes what came in; the reason of a refusal."""
        err = route.ip_route_input_noref(self.fib, skb, number(daddr), number(saddr), dscp, dev)
        if not err:
            return None
        return Reason.IP_RPFILTER if err == -errno.EXDEV else Reason.NOT_SPECIFIED

    def ip_route_output_key(self, flow: Any) -> Route | None:
        """Routes a flow of this host's and fills in its source."""
        if flow.daddr in self._asked and not (flow.oif or flow.mark or self.fib.fib_has_custom_rules):
            known, source = self._ask(flow.daddr)
            if not isinstance(known, int) and number(flow.saddr) in (0, source):
                flow.saddr = raw(source)
                return known
        fl4 = flow4(flow)
        found = route.ip_route_output_flow(self.fib, fl4)
        if isinstance(found, int):
            return None
        flow.saddr = raw(fl4.saddr)
        return found

    def _ask(self, daddr: bytes) -> tuple[Route | int, int]:
        """The route to an address and its source, or a negative errno; asked once for all that a packet needs."""
        at = (self.now, self.fib.rt_genid, self.machine.entered)
        if at != self._asked_at:
            self._asked.clear()
            self._asked_at = at
        found = self._asked.get(daddr)
        if found is None:
            fl4 = Flow4(number(daddr))
            found = self._asked[daddr] = (route.ip_route_output_flow(self.fib, fl4), fl4.saddr)
        return found

    def sk_dst_check(self, rt: Any) -> Route | None:
        """A socket's route, if it still holds; source net/core/sock.c:__sk_dst_check."""
        return rt if rt is not None and route.rt_cache_valid(self.fib, rt) else None

    def inet_addr_type(self, addr: bytes, dev: NetDevice | None = None) -> RTN:
        """What an address is to this host."""
        return _type(lookup.inet_addr_type(self.fib, number(addr)))

    def inet_addr_type_dev_table(self, dev: NetDevice, addr: bytes) -> int:
        """The same; there are no tables of devices."""
        return lookup.inet_addr_type(self.fib, number(addr))

    def inet_dev_addr_type(self, dev: NetDevice | None, addr: bytes) -> int:
        """The same, where only the device's own addresses are local."""
        if dev is None:
            return lookup.inet_addr_type(self.fib, number(addr))
        return lookup.inet_dev_addr_type(self.fib, dev, number(addr))

    def inet_select_addr(self, dev: NetDevice, dst: bytes, scope: int = RT_SCOPE_LINK) -> bytes:
        """The address to speak to `dst` with."""
        return raw(saddr.inet_select_addr(self.fib, dev, number(dst), scope))

    def fib_compute_spec_dst(self, skb: SkBuff) -> bytes:
        """The address to answer a packet from; source net/ipv4/fib_frontend.c:fib_compute_spec_dst."""
        daddr = bytes(skb.data[16:20])
        if self.inet_addr_type(daddr) == RTN.LOCAL or skb.dev is None:
            return daddr
        return self.inet_select_addr(skb.dev, bytes(skb.data[12:16]), RT_SCOPE_UNIVERSE)

    def ip_rt_get_source(self, skb: SkBuff, rt: Any) -> bytes:
        """What is written into options; source net/ipv4/route.c:ip_rt_get_source."""
        if not rt.is_input:
            return bytes(skb.data[12:16])
        return self.inet_select_addr(rt.dev, raw(rt.rt_gw4) or bytes(skb.data[16:20]), RT_SCOPE_UNIVERSE)

    def ipv4_update_pmtu(self, skb: SkBuff, inner: int, mtu: int, protocol: int) -> None:
        """ICMP told the MTU of a path."""
        d = skb.data
        fl4 = Flow4(number(d[inner + 16 : inner + 20]), number(d[inner + 12 : inner + 16]), proto=protocol)
        found = route.ip_route_output_key_hash(self.fib, fl4, None)
        if not isinstance(found, int):
            exceptions.ip_rt_update_pmtu(self.fib, found, fl4, mtu)

    def ipv4_redirect(self, skb: SkBuff, inner: int, protocol: int) -> None:
        """ICMP named a better gateway."""
        d = skb.data
        at = skb.transport or 0
        fl4 = Flow4(number(d[inner + 16 : inner + 20]), number(d[inner + 12 : inner + 16]), proto=protocol)
        found = route.ip_route_output_key_hash(self.fib, fl4, None)
        if not isinstance(found, int) and skb.dev is not None:
            old, new = number(d[12:16]), number(d[at + 4 : at + 8])
            ip_do_redirect(self.fib, found, skb.dev, d[at + 1], old, new, fl4, False)

    def in_dev(self, dev: NetDevice) -> Settings | None:
        """A device's settings; None if it has no IPv4."""
        return Settings(self.fib, dev) if dev.ifindex in self.fib.in_devs else None

    def dev_get_by_index(self, ifindex: int) -> NetDevice | None:
        """The device of that number."""
        return self.fib.devs.get(ifindex)

    def ipcb_flags(self, skb: SkBuff, flags: int) -> int:
        """Sets flags in the packet's control block."""
        IPCB(skb).flags |= flags
        return IPCB(skb).flags

    def sysctl_ip_default_ttl(self) -> int:
        """net.ipv4.ip_default_ttl."""
        ttl: int = self.ip.ip_default_ttl  # type: ignore[attr-defined]
        return ttl

    def sysctl_fwmark_reflect(self) -> bool:
        """net.ipv4.fwmark_reflect."""
        return False

    # What ARP asks

    def arp_route(self, tip: bytes, sip: bytes, dev: NetDevice) -> RTN:
        """What routing makes of a packet from `sip` to `tip`; UNSPEC: it refuses."""
        probe = SkBuff(bytes(20))
        probe.dev = dev
        err = route.ip_route_input_noref(self.fib, probe, number(tip), number(sip), 0, dev)
        return RTN.UNSPEC if err else _type(probe.dst.rt_type)

    def dst_link_failure(self, skb: SkBuff) -> None:
        """A next hop cannot be reached; source net/ipv4/route.c:ipv4_link_failure."""
        self.icmp_send(skb, 3, 1, 0)  # type: ignore[attr-defined]

    # What the transport protocols ask

    def route(self, daddr: bytes, dst: Dst) -> None:
        """What the tables say of the way to `daddr`."""
        if len(daddr) == 16:
            self.route6(daddr, dst)
            return
        found, _ = self._ask(daddr)
        if isinstance(found, int):
            return
        dst.own = False
        dst.dev_mtu = found.dev.mtu
        dst.mtu = found.metrics.get(RTAX_MTU, 0)
        dst.hoplimit = found.metrics.get(RTAX_HOPLIMIT, 0)
        dst.advmss = found.metrics.get(RTAX_ADVMSS, 0)
        dst.initcwnd = found.metrics.get(RTAX_INITCWND, 0)
        dst.lock = {"mtu"} if found.metrics.get(RTAX_LOCK, 0) & 1 << RTAX_MTU else set()
        dst.pmtu, dst.pmtu_expires, dst.mtu_locked = found.rt_pmtu, found.expires, found.rt_mtu_locked

    def route_error(self, daddr: bytes) -> int:
        """0, or the negative errno of a way that refuses."""
        if len(daddr) == 16:
            return self.route_error6(daddr)
        found, _ = self._ask(daddr)
        return found if isinstance(found, int) else 0

    def source_address(self, daddr: bytes) -> bytes:
        """The address that routing chooses."""
        if len(daddr) == 16:
            return self.source_address6(daddr)
        found, source = self._ask(daddr)
        return ZERO if isinstance(found, int) else raw(source)

    def route6(self, daddr: bytes, dst: Dst) -> None:
        """The way to an IPv6 address."""
        raise NotImplementedError

    def route_error6(self, daddr: bytes) -> int:
        """Whether there is one."""
        raise NotImplementedError

    def source_address6(self, daddr: bytes) -> bytes:
        """The address to speak to it with."""
        raise NotImplementedError

    def register_routing(self, dev: NetDevice) -> None:
        """Routing learns of a device, and that it is up."""
        devinet.netdevice_event(self.fib, dev, NetdevEvent.REGISTER)
        if dev.up:
            devinet.netdevice_event(self.fib, dev, NetdevEvent.UP)


def _type(t: int) -> RTN:
    """A route's type, as far as ARP tells them apart."""
    return RTN(t) if t in (RTN.UNICAST, RTN.LOCAL, RTN.BROADCAST, RTN.MULTICAST) else RTN.OTHER


def flow4(flow: Any) -> Flow4:
    """A flow of IP's or netfilter's as routing has it."""
    return Flow4(
        number(flow.daddr),
        number(flow.saddr),
        oif=flow.oif,
        mark=flow.mark,
        tos=flow.tos,
        proto=flow.proto,
        sport=flow.sport,
        dport=flow.dport,
    )


__all__ = ["IPSKB_DOREDIRECT", "Routing", "Settings", "flow4", "number", "raw"]
