"""A router of the model, and packets for it."""

from collections.abc import Callable
from typing import Any

from conformance.differential.ip6_world import IN, MACS, PEERS, Router, World, addr
from refmodel.ip.limits import AskPeer, LimitParams, Peer, filled, peer_allows, peer_refuses
from refmodel.ip6.params import Ip6Params
from refmodel.packet.wire import checksum, pseudo_header

HOST = "2001:db8:1::10"
ROUTER = "2001:db8:1::1"
FAR = "2001:db8:9::5"


class Clock:
    """A timer that fires when the router's time passes it."""

    def __init__(self, router: "Timed", fn: Callable[[Any], None], arg: Any) -> None:
        self.router, self.fn, self.arg = router, fn, arg
        self.expires: int | None = None

    @property
    def pending(self) -> bool:
        return self.expires is not None

    def mod(self, jiffy: int) -> None:
        self.expires = jiffy * 1_000_000 // self.router.hz

    def start_us(self, when: int) -> None:
        self.expires = when

    def stop(self) -> None:
        self.expires = None


class Timed(Router):
    """A router with timers and with a limit of ICMP messages: `share` messages for all together, if it is set."""

    def __init__(self, world: World | None = None, kernel: int = 612) -> None:
        self.clocks: list[Clock] = []
        self.share: int | None = None
        super().__init__(world if world is not None else World(), kernel)

    def timer(self, name: str, fn: Callable[[Any], None], arg: Any) -> Clock:  # type: ignore[override]
        self.clocks.append(Clock(self, fn, arg))
        return self.clocks[-1]

    def advance(self, us: int) -> None:
        """Lets `us` pass, firing the timers that are due."""
        self.now += us
        for c in self.clocks:
            if c.expires is not None and c.expires <= self.now:
                c.expires = None
                c.fn(c.arg)

    def icmp_global_allow(self) -> bool:
        return self.share is None or self.share > 0

    def icmp_global_consume(self) -> None:
        if self.share is not None:
            self.share -= 1

    def receive(self, packet: bytes, device: str = IN) -> list[bytes]:
        """Gives the router a packet; what came out for it."""
        before = len(self.out)
        self.send(device, MACS[device] + PEERS[device] + b"\x86\xdd" + packet)
        return [p for _, p in self.out[before:]]


class Limited(Timed):
    """A router with the usual limits of ICMPv6 errors: peers by their token buckets, all together without end."""

    def __init__(self) -> None:
        super().__init__()
        self.ip6 = Ip6Params(forwarding=1, auto_flowlabels=0)
        self.peers: dict[bytes, Peer] = {}

    def inet_peer_xrlim_allow(self, addr: bytes, timeout: int) -> bool:
        peer = self.peers.get(addr, Peer(0, 0))
        ask = AskPeer(passed=60 * self.hz if addr not in self.peers else self.jiffies - peer.last)
        params = LimitParams(timeout=timeout)
        allowed = filled(peer.tokens, ask.passed, timeout) >= timeout
        new, _ = (peer_allows if allowed else peer_refuses)(peer, ask, params)
        self.peers[addr] = Peer(new.tokens, self.jiffies)
        return allowed


def packet(dest: str, body: bytes = bytes(8), nexthdr: int = 253, source: str = HOST, hops: int = 64) -> bytes:
    """An IPv6 packet."""
    head = (6 << 28).to_bytes(4, "big") + len(body).to_bytes(2, "big") + bytes((nexthdr, hops))
    return head + addr(source) + addr(dest) + body


def echo(dest: str, data: bytes = b"x" * 32, source: str = HOST) -> bytes:
    """An echo request with a right checksum."""
    message = bytes((128, 0, 0, 0, 0, 7, 0, 1)) + data
    check = checksum(message, pseudo_header(addr(source), addr(dest), 58, len(message)))
    return packet(dest, message[:2] + check.to_bytes(2, "big") + message[4:], 58, source)


def fragment(whole: bytes, start: int, end: int, ident: int = 1, more: bool | None = None) -> bytes:
    """The fragment of a packet's payload from `start` to `end`."""
    body = whole[40:]
    mf = end < len(body) if more is None else more
    own = bytes((whole[6], 0)) + (start | int(mf)).to_bytes(2, "big") + ident.to_bytes(4, "big") + body[start:end]
    return whole[:4] + len(own).to_bytes(2, "big") + bytes((44, whole[7])) + whole[8:40] + own


def fragments(whole: bytes, size: int, ident: int = 1) -> list[bytes]:
    """All fragments of a packet, of `size` bytes (a multiple of 8) but for the last."""
    n = len(whole) - 40
    return [fragment(whole, i, min(i + size, n), ident) for i in range(0, n, size)]
