"""The model's walks of the cases that walk_record plays on a kernel: the same namespaces, devices and calls."""

from collections.abc import Callable
from typing import Final

from refmodel.dev.drivers import tun_ring_recv
from refmodel.fib.types import FibConfig
from refmodel.host.machine import Machine
from refmodel.host.namespace import Namespace
from refmodel.host.network import Network
from refmodel.host.program import SOCK_DGRAM, Program, accept, bind, connect, listen, sendto, setsockopt, sleep, socket
from refmodel.host.walks import PORT, datagram_reader, holder, quiet_client, reader, until_asleep
from refmodel.receive.veth import ALL_TSO
from refmodel.tcp.whole.ca import tcp_set_default_congestion_control
from refmodel.tcp.whole.ipopt import IP_MTU_DISCOVER, IP_TTL, SOL_IP
from refmodel.tcp.whole.sock import Sock
from refmodel.walk import Walk

A: Final = bytes((10, 77, 0, 1))
B: Final = bytes((10, 77, 0, 2))
LO: Final = bytes((127, 0, 0, 1))
LEFT: Final = bytes((10, 77, 1, 2))
RIGHT: Final = bytes((10, 77, 2, 2))
GATEWAYS: Final = (bytes((10, 77, 1, 1)), bytes((10, 77, 2, 1)))
QUIET: Final = 600_000
"""us of silence before the packet, as walk_record.QUIET."""
MOMENT: Final = 10_000
"""us that a walk lasts."""
RELAY: Final = 100
"""us after which a program that carries packets looks again."""
ECHO: Final = 7


def host(net: Network, name: str, machine: Machine | None = None) -> Namespace:
    """A namespace whose connections are reno's, as the recorder's are."""
    ns = net.host(name, machine)
    tcp_set_default_congestion_control(ns, "reno")
    return ns


def pair(kernel: str, gro: bool = False) -> tuple[Network, Namespace, Namespace]:
    """Two namespaces of one machine with a veth pair between them; `gro`: the second end has a NAPI of its own."""
    net = Network(kernel)
    machine = net.machine("box")
    a, b = host(net, "a", machine), host(net, "b", machine)
    veth = net.veth(a, b, ("walk0a", "walk0b"))
    if gro:
        veth.dev[0].features -= ALL_TSO
        veth.dev[1].features |= {"generic-receive-offload"}
    a.newaddr(veth.dev[0], A, 24)
    b.newaddr(veth.dev[1], B, 24)
    return net, a, b


def router(kernel: str) -> tuple[Network, Namespace, Namespace, Namespace]:
    """A namespace that forwards between two others."""
    net = Network(kernel)
    machine = net.machine("box")
    a, r, b = (host(net, n, machine) for n in ("a", "r", "b"))
    left = net.veth(a, r, ("walk0a", "walk0b"))
    right = net.veth(b, r, ("walk1a", "walk1b"))
    a.newaddr(left.dev[0], LEFT, 24)
    r.newaddr(left.dev[1], GATEWAYS[0], 24)
    b.newaddr(right.dev[0], RIGHT, 24)
    r.newaddr(right.dev[1], GATEWAYS[1], 24)
    r.forward()
    for ns, gw in ((a, GATEWAYS[0]), (b, GATEWAYS[1])):
        ns.newroute(FibConfig(gw=int.from_bytes(gw, "big")))
    return net, a, r, b


def recorded(net: Network, case: str, ns: Namespace, client: Program) -> Walk:
    """The walk of what `client` does after it has slept QUIET."""
    until_asleep(net, net.program(ns, client, "client", 1_000), QUIET)
    with net.record(case) as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


def datagrams(first: bytes, then: tuple[bytes, int], size: int, option: tuple[int, int] = (0, 0)) -> Program:
    """A first datagram to `first` (none if empty), silence, and from another socket one of `size` bytes to `then`."""
    if first:
        fd = yield socket(type=SOCK_DGRAM)
        yield sendto(fd, bytes(10), first, PORT)
    fd = yield socket(type=SOCK_DGRAM)
    if option[0]:
        yield setsockopt(fd, SOL_IP, *option)
    yield sleep(QUIET)
    yield sendto(fd, bytes(size), *then)
    yield sleep(QUIET)


CASES: Final[dict[str, Callable[[str], Walk]]] = {}


def case(make: Callable[[str], Walk]) -> Callable[[str], Walk]:
    """Registers a case under its function's name; it is given the kernel's version."""
    CASES[make.__name__] = make
    return make


@case
def tcp_veth(kernel: str) -> Walk:
    """100 bytes of TCP over a pair of veth, and their reading."""
    net, a, b = pair(kernel)
    net.program(b, reader(B), "server")
    return recorded(net, "tcp_veth", a, quiet_client(B, QUIET, bytes(100)))


@case
def tcp_veth_napi(kernel: str) -> Walk:
    """100 bytes of TCP over a pair of veth whose receiver has GRO on, and so a NAPI of its own."""
    net, a, b = pair(kernel, gro=True)
    net.program(b, reader(B), "server")
    return recorded(net, "tcp_veth_napi", a, quiet_client(B, QUIET, bytes(100)))


class Tuns:
    """Two tun devices and the program that carries packets from one to the other. `last` came in at the second."""

    def __init__(self, net: Network, ends: tuple[tuple[Namespace, bytes], tuple[Namespace, bytes]], lasts: int) -> None:
        self.net, self.ends, self.end = net, [ns for ns, _ in ends], net.now + lasts
        made = [ns.add_tun(name) for (ns, _), name in zip(ends, ("walk0a", "walk0b"), strict=True)]
        self.devices, self.files = [dev for dev, _ in made], [file for _, file in made]
        for (ns, address), dev in zip(ends, self.devices, strict=True):
            ns.newaddr(dev, address, 24)
            ns.set_qdisc(dev, "pfifo_fast")
        self.last = b""
        self._again()

    def _again(self) -> None:
        if self.net.now < self.end:
            self.net.at(self.net.now + RELAY, self.carry)

    def carry(self) -> None:
        """What waits at either device now comes in at the other."""
        waiting = [len(file.packets) for file in self.files]
        for at, n in enumerate(waiting):
            for _ in range(n):
                skb = tun_ring_recv(self.ends[at], self.files[at])
                if skb is not None:
                    self.comes_in(1 - at, bytes(skb.data))
        self._again()

    def comes_in(self, at: int, packet: bytes) -> None:
        """The program writes a packet to a device."""
        ns, dev = self.ends[at], self.devices[at]
        self.last = packet if at else self.last
        ns.machine.process(ns, lambda: ns.tun_get_user(dev, packet), "relay")


@case
def tcp_tun(kernel: str) -> Walk:
    """100 bytes of TCP out of a tun device with pfifo_fast and into another."""
    net = Network(kernel)
    machine = net.machine("box")
    a, b = host(net, "a", machine), host(net, "b", machine)
    Tuns(net, ((a, A), (b, B)), 10 * QUIET)
    net.program(b, reader(B), "server")
    return recorded(net, "tcp_tun", a, quiet_client(B, QUIET, bytes(100)))


@case
def unread_tun(kernel: str) -> Walk:
    """A datagram out of a tun device that nobody reads and whose queue is full."""
    net = Network(kernel)
    a = host(net, "a")
    dev, file = a.add_tun("walk0a")
    a.newaddr(dev, A, 24)
    a.set_qdisc(dev, "pfifo_fast")
    file.size = 4

    def client() -> Program:
        fd = yield socket(type=SOCK_DGRAM)
        for _ in range(4):
            yield sendto(fd, bytes(100), B, PORT)
        yield sleep(QUIET)
        yield sendto(fd, bytes(100), B, PORT)
        yield sleep(QUIET)

    return recorded(net, "unread_tun", a, client())


@case
def tcp_lo(kernel: str) -> Walk:
    """100 bytes of TCP over the loopback device, and their reading."""
    net = Network(kernel)
    a = host(net, "a")
    net.program(a, reader(LO), "server")
    return recorded(net, "tcp_lo", a, quiet_client(LO, QUIET, bytes(100)))


@case
def tcp_connect(kernel: str) -> Walk:
    """connect over a pair of veth: SYN, SYN-ACK and ACK, and accept."""
    net, a, b = pair(kernel)

    def server() -> Program:
        fd = yield socket()
        yield bind(fd, B, PORT)
        yield listen(fd, 1)
        yield accept(fd)

    def client() -> Program:
        fd = yield socket(type=SOCK_DGRAM)
        yield sendto(fd, bytes(10), B, PORT)
        fd = yield socket()
        yield sleep(QUIET)
        yield connect(fd, B, PORT)
        yield sleep(QUIET)

    net.program(b, server(), "server")
    return recorded(net, "tcp_connect", a, client())


@case
def udp_veth(kernel: str) -> Walk:
    """A datagram over a pair of veth, and its reading."""
    net, a, b = pair(kernel)
    net.program(b, datagram_reader(B), "server")
    return recorded(net, "udp_veth", a, datagrams(B, (B, PORT), 100))


@case
def udp_closed(kernel: str) -> Walk:
    """A datagram to a port where nobody is: the ICMP error and its coming back."""
    net, a, _ = pair(kernel)
    return recorded(net, "udp_closed", a, datagrams(B, (B, PORT), 100))


@case
def first_contact(kernel: str) -> Walk:
    """A datagram to a neighbour that is not known yet: it waits, is asked for, answers, and gets it."""
    net, a, b = pair(kernel)
    net.program(b, datagram_reader(B), "server")
    return recorded(net, "first_contact", a, datagrams(b"", (B, PORT), 100))


@case
def fragments(kernel: str) -> Walk:
    """A datagram of 4000 bytes over links of 1500: three fragments out, reassembly, and its reading."""
    net, a, b = pair(kernel)
    net.program(b, datagram_reader(B), "server")
    return recorded(net, "fragments", a, datagrams(B, (B, PORT), 4000, (IP_MTU_DISCOVER, 0)))


@case
def forward(kernel: str) -> Walk:
    """100 bytes of TCP through a router, and their reading."""
    net, a, _, b = router(kernel)
    net.program(b, reader(RIGHT), "server")
    return recorded(net, "forward", a, quiet_client(RIGHT, QUIET, bytes(100)))


@case
def forward_expired(kernel: str) -> Walk:
    """A datagram whose TTL ends at the router: dropped, and the ICMP error."""
    net, a, _, b = router(kernel)
    net.program(b, datagram_reader(RIGHT), "server")
    return recorded(net, "forward_expired", a, datagrams(RIGHT, (RIGHT, PORT), 100, (IP_TTL, 1)))


def table(name: str, *rules: str) -> str:
    """A table's text as iptables-save writes it, its chains empty but for `rules`."""
    chains = {"nat": "PREROUTING INPUT OUTPUT POSTROUTING", "filter": "INPUT FORWARD OUTPUT"}[name]
    return "\n".join((f"*{name}", *(f":{c} ACCEPT [0:0]" for c in chains.split()), *rules, "COMMIT")) + "\n"


@case
def masquerade(kernel: str) -> Walk:
    """The first datagram of a flow through a router with MASQUERADE: a conntrack entry, a new source."""
    net, a, r, b = router(kernel)
    r.iptables_restore(table("nat", "-A POSTROUTING -o walk1b -j MASQUERADE"))
    r.iptables_restore(table("filter", "-A FORWARD -i walk0b -j ACCEPT"))
    net.program(b, datagram_reader(RIGHT), "server")
    return recorded(net, "masquerade", a, datagrams(RIGHT, (RIGHT, PORT), 100))


@case
def dnat(kernel: str) -> Walk:
    """The first datagram of a flow that a router with DNAT leads elsewhere."""
    net, a, r, b = router(kernel)
    rule = f"-A PREROUTING -p udp -m udp --dport {ECHO} -j DNAT --to-destination 10.77.2.2:{PORT}"
    r.iptables_restore(table("nat", rule))
    net.program(b, datagram_reader(RIGHT), "server")
    return recorded(net, "dnat", a, datagrams(RIGHT, (GATEWAYS[0], ECHO), 100))


@case
def filtered(kernel: str) -> Walk:
    """A datagram that iptables drops in INPUT."""
    net, a, b = pair(kernel)
    b.iptables_restore(table("filter", f"-A INPUT -p udp -m udp --dport {PORT} -j DROP"))
    net.program(b, datagram_reader(B), "server")
    return recorded(net, "filtered", a, datagrams(B, (B, PORT), 100))


@case
def backlog_full(kernel: str) -> Walk:
    """A segment for a socket that its user owns and whose backlog is full: dropped."""
    net = Network(kernel)
    machine = net.machine("box")
    a, b = host(net, "a", machine), host(net, "b", machine)
    tuns = Tuns(net, ((a, A), (b, B)), 10 * QUIET)
    net.program(b, holder(B, 2048), "server")
    until_asleep(net, net.program(a, quiet_client(B, QUIET, bytes(100)), "client", 1_000), QUIET)
    [sk] = [s for s in b.ehash.values() if isinstance(s, Sock)]
    sk.sk_owned = True
    for _ in range(1000):
        tuns.comes_in(1, tuns.last)
    with net.record("backlog_full") as recorder:
        tuns.comes_in(1, tuns.last)
    return recorder.walk
