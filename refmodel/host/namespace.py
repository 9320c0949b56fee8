"""A namespace: the layers wired together, from the system call to the driver and back.

The law: a layer calls another only through what its `env` Protocol names; all of these are methods here, and most do no
more than hand the call on. Time moves only from outside; each timer fires in its softirq.
"""

import errno
from collections.abc import Callable
from typing import Any, Final

from refmodel.dropreason import Reason
from refmodel.host.devices import Devices
from refmodel.host.filtering import Filtering
from refmodel.host.ipv6 import Above, Handler6, Ipv6, ipv6_rcv
from refmodel.host.machine import Machine
from refmodel.host.neighbours import Neighbours
from refmodel.host.routing import Routing
from refmodel.host.transport import (
    IPPROTO_TCP,
    IPPROTO_UDP,
    Content,
    quoted,
    tcp_handler,
    tcp_skb,
    tcp_v4_early_demux,
    udp_bytes,
    udp_handler,
)
from refmodel.ip import append, input, listed, output
from refmodel.ip.const import ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP_PORT_UNREACH
from refmodel.ip.icmp import icmp_send
from refmodel.ip.icmprcv import IcmpProtocol
from refmodel.ip.net import Ip, IpOptions
from refmodel.ip.params import IpParams
from refmodel.ip.sock import Flowi4, Ipcm, IpSock
from refmodel.ip6.params import Ip6Params
from refmodel.packet.wire import pseudo_header
from refmodel.profile import profile
from refmodel.skbuff import CHECKSUM_PARTIAL, SkBuff
from refmodel.tcp.whole.const import SYN
from refmodel.tcp.whole.net import HR, Net, Timer
from refmodel.tcp.whole.params import WholeParams, whole_params
from refmodel.tcp.whole.skb import Packet
from refmodel.tcp.whole.sock import Dst
from refmodel.tcp.whole.transmit import tcp_wfree
from refmodel.udp.input import udp_err
from refmodel.udp.sock import Datagram, UdpSock

TCP_CSUM_AT: Final = 16
NET_XMIT_CN: Final = 2
SOFT: Final = ("pacing", "compressed_ack")  # HRTIMER_MODE_ABS_PINNED_SOFT and its kin


class Protocol:
    """struct net_protocol of TCP or UDP on one namespace."""

    no_policy = True
    icmp_strict_tag_validation = True

    def __init__(self, handler: Callable[[SkBuff], int], err_handler: Callable[[SkBuff, int, int], None]) -> None:
        self.handler = handler
        self.err_handler = err_handler


class Namespace(Above, Routing, Filtering, Neighbours, Devices, Net):
    """One network namespace of a machine. `name` is the host's in a walk.

    `drops` are (us, packet, reason) of every packet that was dropped. `handled` is the datagram that UDP looks at.
    `outgoing` is what the next datagram carries, `incoming` what the last one that was read carried.
    """

    def __init__(self, machine: Machine, name: str, params: WholeParams | None = None) -> None:
        self.machine = machine
        self.name = name
        Net.__init__(self, params if params is not None else whole_params(profile(machine.profile, machine.hz)))
        self.contexts = machine.contexts
        self.ip = profile(machine.profile, machine.hz).params(IpParams)
        self.ipv4 = Ip(self)
        self.content = Content()
        self.drops: list[tuple[int, SkBuff, Reason]] = []
        self.handled: SkBuff | None = None
        self.outgoing = b""
        self.incoming = b""
        self._ip_socks: dict[int, tuple[Any, IpSock]] = {}
        self._ctl = IpSock(IPPROTO_TCP)
        self.inet_protos: dict[int, Any] = {
            1: IcmpProtocol(self.ipv4),
            IPPROTO_TCP: Protocol(lambda skb: tcp_handler(self, skb), self._tcp_err),
            IPPROTO_UDP: Protocol(lambda skb: udp_handler(self, skb), self._udp_err),
        }
        Routing.__init__(self)
        Filtering.__init__(self)
        Neighbours.__init__(self)
        Devices.__init__(self)
        self.inet6 = Ipv6(self)
        self.inet6.net.protos[IPPROTO_TCP] = Handler6(lambda skb: tcp_handler(self, skb), self._err6)
        self.inet6.net.protos[IPPROTO_UDP] = Handler6(lambda skb: udp_handler(self, skb), self._err6)
        self.below = self
        machine.namespaces.append(self)

    # What every layer asks

    @property
    def kernel(self) -> int:
        """The version as an integer: 612."""
        return self.machine.kernel

    def note(self, fn: str, detail: str = "") -> None:
        """Remembers a decision, and tells whoever watches."""
        Net.note(self, fn, detail)
        self.machine.note(fn, detail)

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> Timer:
        """A new idle timer."""
        return Timer(self, name, fn, arg)

    def kfree_skb(self, skb: SkBuff, reason: Reason) -> None:
        """The packet is dropped."""
        self.note("kfree_skb", f"dropped: {reason}")
        self.drops.append((self.now, skb, reason))
        self.skb_orphan(skb)

    def consume_skb(self, skb: SkBuff) -> None:
        """The packet came to its end as it should."""
        self.skb_orphan(skb)

    def skb_orphan(self, skb: SkBuff) -> None:
        """The sender's socket has its memory back; source include/linux/skbuff.h:skb_orphan."""
        packet = skb.src
        skb.sk = skb.src = None
        if isinstance(packet, Packet) and packet.sk is not None:
            tcp_wfree(packet)

    # Time

    def fire(self) -> Timer:
        """Fires the next timer: a jiffy timer in TIMER_SOFTIRQ, TCP's hrtimers in HRTIMER_SOFTIRQ, others at once."""
        self.next_timer()
        _, _, timer = self._heap[0]
        fired: list[Timer] = []
        self.machine.now = max(self.now, timer.expires or 0)

        def due() -> None:
            fired.append(Net.fire(self))

        def run() -> None:
            if timer.level == HR:
                self.contexts.hrtimer(due, soft=timer.name in SOFT)
            else:
                self.contexts.tick(due)

        self.machine.within(self, run)
        self.contexts.settle()
        return fired[0]

    # From the transport protocols down

    def ip_sock(self, sk: Any) -> IpSock:
        """The socket as IP sees it, as it is now."""
        found = self._ip_socks.get(id(sk))
        if found is None or found[0] is not sk:
            new = IpSock(IPPROTO_UDP if isinstance(sk, UdpSock) else IPPROTO_TCP)
            new.inet_id = getattr(sk, "inet_id", 0)
            found = self._ip_socks[id(sk)] = (sk, new)
        s = found[1]
        s.inet_saddr, s.inet_daddr = sk.inet_saddr or bytes(4), sk.inet_daddr or bytes(4)
        s.inet_sport, s.inet_dport = sk.inet_sport, sk.inet_dport
        s.tos, s.uc_ttl, s.pmtudisc = sk.inet_tos, sk.inet_ttl, sk.pmtudisc
        s.sk_priority, s.sk_mark = getattr(sk, "sk_priority", 0), getattr(sk, "sk_mark", 0)
        return s

    def xmit(self, packet: Any) -> int:
        """A segment leaves: one of a connection, a SYN-ACK, or an answer without a socket."""
        assert isinstance(packet, Packet)
        packet.time = self.now
        packet.tap = self.tap_rx
        if len(packet.saddr) == 16:
            return self.xmit6(packet)
        skb = tcp_skb(packet, self.content.payload(packet))
        if packet.sk is not None:
            s = self.ip_sock(packet.sk)
            s.tos, s.uc_ttl = packet.tos, packet.ttl
            skb.sk = s
            flow = Flowi4(packet.daddr, packet.saddr, packet.tos, IPPROTO_TCP, packet.sport, packet.dport)
            s.sk_dst = self.sk_dst_check(s.sk_dst)
            return self._result(output.ip_queue_xmit(self.ipv4, s, skb, flow))
        if packet.flags & SYN:
            return self._synack(packet, skb)
        flow = Flowi4(packet.daddr, packet.saddr, packet.tos, IPPROTO_TCP, packet.sport, packet.dport)
        self._ctl.uc_ttl = packet.ttl
        assert self.handled is not None
        append.ip_send_unicast_reply(
            self.ipv4, self._ctl, self.handled, IpOptions(), flow, bytes(skb.data), TCP_CSUM_AT
        )
        return 0

    def _synack(self, packet: Packet, skb: SkBuff) -> int:
        s = IpSock(IPPROTO_TCP)
        s.uc_ttl = packet.ttl
        flow = Flowi4(packet.daddr, packet.saddr, packet.tos, IPPROTO_TCP, packet.sport, packet.dport)
        skb.dst = self.ip_route_output_key(flow)
        if skb.dst is None:
            return -errno.EHOSTUNREACH
        return self._result(
            output.ip_build_and_send_pkt(self.ipv4, skb, s, packet.saddr, packet.daddr, None, packet.tos)
        )

    def _result(self, err: int) -> int:
        """net_xmit_eval: congestion is no error."""
        return 0 if err == NET_XMIT_CN else err

    def send_datagram(self, sk: Any, packet: Datagram, mtu: int) -> int:
        """A datagram leaves: its IP header, its fragments where it is larger than the MTU; 0, or a negative errno."""
        payload, self.outgoing = self.outgoing, b""
        payload = (payload + bytes(packet.len))[: packet.len]
        if len(packet.saddr) == 16:
            return self.send_datagram6(sk, packet, payload)
        s = self.ip_sock(sk)
        flow = Flowi4(packet.daddr, packet.saddr, packet.tos, IPPROTO_UDP, packet.sport, packet.dport)
        rt = self.ip_route_output_key(flow)
        if rt is None:
            return -errno.ENETUNREACH
        ipc = Ipcm(packet.daddr)
        ipc.tos, ipc.ttl = packet.tos, packet.ttl
        data = udp_bytes(packet, payload)
        skb = append.ip_make_skb(self.ipv4, s, flow, data, 8, ipc, rt)
        if not isinstance(skb, SkBuff):
            return skb or 0
        if skb.ip_summed == CHECKSUM_PARTIAL and skb.transport is not None and packet.check:
            partial = pseudo_header(packet.saddr, packet.daddr, IPPROTO_UDP, packet.ulen)
            skb.data[skb.transport + 6 : skb.transport + 8] = partial.to_bytes(2, "big")
        skb.by = packet.by
        return append.ip_send_skb(self.ipv4, skb)

    def datagram_read(self, payload: bytes) -> None:
        """What an application has just read of a datagram."""
        self.incoming = payload

    def port_unreachable(self) -> None:
        """The datagram that UDP looks at finds no socket."""
        assert self.handled is not None
        if self.handled.data[0] >> 4 == 6:
            self.icmp6_port_unreachable(self.handled)
        else:
            icmp_send(self.ipv4, self.handled, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)

    # From IP up to the transport protocols

    def receive(self, packet: Packet) -> None:
        """A TCP segment arrives from IP."""
        Net.receive(self, packet)

    def _tcp_err(self, skb: SkBuff, inner: int, info: int) -> None:
        error = quoted(skb, inner, info)
        if error is None:
            return
        self.receive_icmp(error)
        if (error.type, error.code) == (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED):
            self.ipv4_update_pmtu(skb, inner, info, IPPROTO_TCP)

    def _udp_err(self, skb: SkBuff, inner: int, info: int) -> None:
        error = quoted(skb, inner, info)
        if error is not None:
            udp_err(self, error)

    def tcp_v4_early_demux(self, skb: SkBuff) -> None:
        """TCP's look for a connection before the route."""
        tcp_v4_early_demux(self, skb)

    def udp_v4_early_demux(self, skb: SkBuff) -> Reason | None:
        """UDP's: nothing is known before the route."""
        return None

    def raw_local_deliver(self, skb: SkBuff, protocol: int) -> bool:
        """There are no raw sockets."""
        return False

    def raw_icmp_error(self, skb: SkBuff, inner: int, protocol: int, info: int) -> None:
        """There are no raw sockets."""

    def ra_chain_wants(self, skb: SkBuff) -> bool:
        """No socket asks for packets with the router alert option."""
        return False

    def ra_chain_deliver(self, skb: SkBuff) -> None:
        """No socket asks for them."""

    def ping_rcv(self, skb: SkBuff) -> Reason | None:
        """There are no ping sockets."""
        return Reason.NO_SOCKET

    def ping_err(self, skb: SkBuff, inner: int, info: int) -> None:
        """There are no ping sockets."""

    def clock_ms_of_day(self) -> int:
        """Milliseconds since midnight UTC."""
        return self.now // 1000 % 86_400_000

    def ip_rcv(self, skb: SkBuff, dev: Any) -> None:
        """IPv4's handler; the sender's socket has its memory back (ip_rcv_core)."""
        self.skb_orphan(skb)
        input.ip_rcv(self.ipv4, skb, dev)

    def ip_list_rcv(self, skbs: list[SkBuff]) -> None:
        """The same of a list."""
        for skb in skbs:
            self.skb_orphan(skb)
        listed.ip_list_rcv(self.ipv4, skbs)

    def udp_gro_lookup(self, skb: SkBuff, sport: int, dport: int) -> bool | None:
        """Whether the socket of a datagram takes several at once."""
        return None

    # IPv6

    @property
    def ip6(self) -> Ip6Params:
        """IPv6's sysctls."""
        return self.inet6.params

    def newaddr6(self, dev: Any, address: bytes, plen: int) -> None:
        """``ip -6 address add``; the first one enables IPv6."""
        self.inet6.newaddr(dev, address, plen)

    def ipv6_rcv(self, skb: SkBuff, dev: Any) -> None:
        """IPv6's handler; a device without an address has IPv6 disabled."""
        self.skb_orphan(skb)
        ipv6_rcv(self.inet6.net, skb, dev)

    def xmit6(self, packet: Packet) -> int:
        """A segment leaves over IPv6."""
        skb = tcp_skb(packet, self.content.payload(packet))
        return self._result(self.inet6.xmit(packet, skb))

    def send_datagram6(self, sk: Any, packet: Datagram, payload: bytes) -> int:
        """A datagram leaves over IPv6."""
        return self.inet6.send_datagram(packet, udp_bytes(packet, payload))

    def icmp6_port_unreachable(self, skb: SkBuff) -> None:
        """An IPv6 datagram finds no socket."""
        self.inet6.port_unreachable(skb)

    def route6(self, daddr: bytes, dst: Dst) -> None:
        """The way to an IPv6 address."""
        self.inet6.route(daddr, dst)

    def route_error6(self, daddr: bytes) -> int:
        """Whether there is one."""
        return self.inet6.route_error(daddr)

    def source_address6(self, daddr: bytes) -> bytes:
        """The address to speak to it with."""
        return self.inet6.source_address(daddr)

    def _err6(self, skb: SkBuff, type: int, code: int, offset: int, info: int) -> None:
        """An ICMPv6 error about a segment or a datagram of ours, to its protocol."""
        inner = offset - 40
        error = quoted(skb, inner, info) if inner >= 0 else None
        if error is None:
            return
        if skb.data[inner + 6] == IPPROTO_TCP:
            self.receive_icmp(error)
        else:
            udp_err(self, error)


__all__ = ["Namespace"]
