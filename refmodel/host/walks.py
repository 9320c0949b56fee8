"""The walks: small networks in which one packet does one thing, and the record of it."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from refmodel.dropreason import Reason
from refmodel.fib.types import RT_SCOPE_LINK, FibConfig
from refmodel.host.namespace import Namespace
from refmodel.host.network import Network
from refmodel.host.program import (
    SOCK_DGRAM,
    Program,
    Run,
    accept,
    bind,
    close,
    connect,
    family_of,
    listen,
    recv,
    send,
    sendto,
    setsockopt,
    shutdown,
    sleep,
    socket,
    write,
)
from refmodel.host.routing import RTAX_INITCWND
from refmodel.host.transport import udp_bytes
from refmodel.host.wire import Choose, Fate, both
from refmodel.ip.header import new_header
from refmodel.packet.wire import checksum
from refmodel.tcp.whole.const import ACK
from refmodel.tcp.whole.sock import Sock
from refmodel.tcp.whole.stream import release_sock
from refmodel.udp.sock import Datagram
from refmodel.walk import Walk

IPPROTO_TCP: Final = 6
TCP_NODELAY: Final = 1
SOL_SOCKET: Final = 1
FLAGS_AT: Final = 47  # of a TCP segment over IPv4 and Ethernet
SO_BROADCAST: Final = 6
SO_RCVBUF: Final = 8
IP_TTL: Final = 2
A: Final = bytes((10, 9, 0, 1))
B: Final = bytes((10, 9, 0, 2))
PORT: Final = 8080
SETTLED: Final = 2_000_000  # us until all is quiet before the packet of the walk
MOMENT: Final = 30_000  # us that a walk lasts


class Scenario(Struct, frozen=True):
    """A walk by name: `group` is send, recv or forward; `make` builds it for a kernel."""

    name: str
    group: str
    says: str
    make: Callable[[str], Walk]


SCENARIOS: dict[str, Scenario] = {}


def scenario(group: str) -> Callable[[Callable[[str], Walk]], Callable[[str], Walk]]:
    """Registers a walk under its function's name, with the first sentence of its text."""

    def register(make: Callable[[str], Walk]) -> Callable[[str], Walk]:
        name = make.__name__.removeprefix("walk_").replace("_", "-")
        says = (make.__doc__ or "").strip().split("\n")[0]
        SCENARIOS[name] = Scenario(name, group, says, make)
        return make

    return register


# ---------------------------------------------------------------- programs


def quiet_client(daddr: bytes, wait: int, data: bytes, before: bytes = b"hello") -> Program:
    """Connects, sends something so that all is known, waits, and then sends the bytes of the walk."""
    fd = yield socket(family_of(daddr))
    yield connect(fd, daddr, PORT)
    yield send(fd, before)
    yield sleep(wait)
    yield send(fd, data)
    yield sleep(10 * wait)


def reader(address: bytes) -> Program:
    """Accepts one connection and reads what comes."""
    fd = yield socket(family_of(address))
    yield bind(fd, address, PORT)
    yield listen(fd, 8)
    new = yield accept(fd)
    while True:
        got = yield recv(new, 65536)
        if not got or isinstance(got, int):
            return


def holder(address: bytes, rcvbuf: int) -> Program:
    """Accepts one connection with a small receive buffer, reads once, and then does something else."""
    fd = yield socket()
    yield setsockopt(fd, SOL_SOCKET, SO_RCVBUF, rcvbuf)
    yield bind(fd, address, PORT)
    yield listen(fd, 8)
    new = yield accept(fd)
    yield recv(new, 100)
    yield sleep(100 * SETTLED)


def writer(daddr: bytes, wait: int, data: bytes) -> Program:
    """The same as quiet_client, with write(2)."""
    fd = yield socket(family_of(daddr))
    yield connect(fd, daddr, PORT)
    yield write(fd, b"hello")
    yield sleep(wait)
    yield write(fd, data)
    yield sleep(10 * wait)


def half(daddr: bytes) -> Program:
    """Connects, ends its direction, and reads to the end."""
    fd = yield socket(family_of(daddr))
    yield connect(fd, daddr, PORT)
    yield send(fd, b"hello")
    yield shutdown(fd)
    while (yield recv(fd, 100)):
        pass
    yield close(fd)


def closer(address: bytes) -> Program:
    """Accepts one connection, reads to the end and closes."""
    fd = yield socket(family_of(address))
    yield bind(fd, address, PORT)
    yield listen(fd, 8)
    new = yield accept(fd)
    while (yield recv(new, 100)):
        pass
    yield close(new)


def dripping(daddr: bytes, wait: int, n: int) -> Program:
    """Connects, waits, and then sends `n` bytes one by one, a segment each, a millisecond apart."""
    fd = yield socket()
    yield setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, 1)
    yield connect(fd, daddr, PORT)
    yield send(fd, b"hello")
    yield sleep(wait)
    for _ in range(n):
        yield send(fd, b"x")
        yield sleep(1_000)
    yield sleep(100 * wait)


def datagrams(daddr: bytes, sizes: tuple[int, ...], wait: int, ttl: int = 0, broadcast: bool = False) -> Program:
    """Sends datagrams of these sizes (bytes), `wait` us apart."""
    fd = yield socket(family_of(daddr), SOCK_DGRAM)
    if ttl:
        yield setsockopt(fd, 0, IP_TTL, ttl)
    if broadcast:
        yield setsockopt(fd, SOL_SOCKET, SO_BROADCAST, 1)
    for size in sizes:
        yield sendto(fd, bytes(size), daddr, PORT)
        yield sleep(wait)


def datagram_reader(address: bytes) -> Program:
    """Reads datagrams."""
    fd = yield socket(family_of(address), SOCK_DGRAM)
    yield bind(fd, address, PORT)
    while True:
        yield recv(fd, 65536)


# ---------------------------------------------------------------- networks


def pair(kernel: str) -> tuple[Network, Namespace, Namespace]:
    """Two namespaces of one machine with a veth pair between them."""
    net = Network(kernel)
    machine = net.machine("box")
    a, b = net.host("a", machine), net.host("b", machine)
    veth = net.veth(a, b)
    a.newaddr(veth.dev[0], A, 24)
    b.newaddr(veth.dev[1], B, 24)
    return net, a, b


def quiet_pair(kernel: str, data: bytes = b"x" * 100) -> tuple[Network, Namespace, Namespace]:
    """The same with a connection over which `data` will be sent at once."""
    net, a, b = pair(kernel)
    net.program(b, reader(B), "server")
    until_asleep(net, net.program(a, quiet_client(B, SETTLED, data), "client", 1_000))
    return net, a, b


def wired(kernel: str, driver: str = "igb") -> tuple[Network, Namespace, Namespace]:
    """Two machines with a wire between their cards."""
    net = Network(kernel)
    a, b = net.host("a"), net.host("b")
    wire = net.wire(a, b, driver=driver)
    a.newaddr(wire.dev[0], A, 24)
    b.newaddr(wire.dev[1], B, 24)
    return net, a, b


def quiet_wire(kernel: str) -> Network:
    """The same with a connection over which a hundred bytes will be sent at once; the neighbours know each other."""
    net, a, b = wired(kernel)
    net.program(b, reader(B), "server")
    until_asleep(net, net.program(a, quiet_client(B, SETTLED, b"x" * 100), "client", 1_000))
    return net


def until_asleep(net: Network, run: Run, long: int = SETTLED) -> None:
    """Lets everything happen up to the moment before a program wakes from a sleep of at least `long` us."""
    while not (run.waiting is not None and run.waiting.name == "sleep" and run.waiting.args[0] >= long):
        net.step()
    net.run(run.wake - 1)


C: Final = bytes((10, 9, 1, 2))
ROUTER: Final = (bytes((10, 9, 0, 254)), bytes((10, 9, 1, 254)))
MASQUERADE: Final = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 10.9.0.0/24 -o eth1 -j MASQUERADE
COMMIT
"""


def routed(kernel: str, fate: Choose = both) -> tuple[Network, Namespace, Namespace, Namespace]:
    """A client, a router between two wires, and a server behind it."""
    net = Network(kernel)
    a, r, c = net.host("a"), net.host("router"), net.host("c")
    left, right = net.wire(a, r, fate), net.wire(r, c, fate, ("eth1", "eth0"))
    a.newaddr(left.dev[0], A, 24)
    r.newaddr(left.dev[1], ROUTER[0], 24)
    r.newaddr(right.dev[0], ROUTER[1], 24)
    c.newaddr(right.dev[1], C, 24)
    r.forward()
    for ns, gw in ((a, ROUTER[0]), (c, ROUTER[1])):
        ns.newroute(FibConfig(gw=int.from_bytes(gw, "big")))
    return net, a, r, c


# ---------------------------------------------------------------- walks


@scenario("send")
def walk_send(kernel: str) -> Walk:
    """A hundred bytes over TCP, from the system call to the card's ring, and its interrupt when they are sent."""
    net = quiet_wire(kernel)
    with net.record("send: 100 bytes over TCP and igb") as recorder:
        net.run(net.now + 50)
    return recorder.walk.at("a")


@scenario("recv")
def walk_recv(kernel: str) -> Walk:
    """A hundred bytes over TCP, from the card's interrupt to the reader, and their acknowledgment."""
    net = quiet_wire(kernel)
    net.run(net.now + 50)
    with net.record("recv: 100 bytes over TCP and igb") as recorder:
        net.run(net.now + 100)
    return recorder.walk.at("b")


@scenario("forward")
def walk_forward(kernel: str) -> Walk:
    """A segment through a router, from one card to the other."""
    net, a, _, c = routed(kernel)
    net.program(c, reader(C), "server")
    until_asleep(net, net.program(a, quiet_client(C, SETTLED, b"x" * 100), "client", 1_000))
    with net.record("forward: 100 bytes over TCP through a router") as recorder:
        net.run(net.now + 150)
    return recorder.walk.at("router")


@scenario("forward")
def walk_nat(kernel: str) -> Walk:
    """The first packet of a connection through a router that masquerades, and its answer."""
    net, a, r, c = routed(kernel)
    r.iptables_restore(MASQUERADE)
    net.program(c, datagram_reader(C), "server")
    net.program(c, reader(C), "server")
    net.program(a, datagrams(C, (10,), SETTLED), "once", 1_000)
    net.program(a, quiet_client(C, SETTLED, b"x"), "client", SETTLED)
    net.run(net.now + SETTLED - 10)
    with net.record("forward: a connection's first packets through NAT") as recorder:
        net.run(net.now + 800)
    return recorder.walk.at("router")


@scenario("forward")
def walk_ttl(kernel: str) -> Walk:
    """A datagram with one hop to live: the router tells its sender."""
    net, a, _, _ = routed(kernel)
    until_asleep(net, net.program(a, datagrams(C, (10, 10), SETTLED, ttl=1), "client", 1_000))
    with net.record("forward: time to live exceeded") as recorder:
        net.run(net.now + 400)
    return recorder.walk.at("router")


@scenario("forward")
def walk_bridge(kernel: str) -> Walk:
    """A segment through a bridge that knows both stations."""
    net = Network(kernel)
    a, br, b = net.host("a"), net.host("bridge"), net.host("b")
    left, right = net.wire(a, br), net.wire(br, b, names=("eth1", "eth0"))
    a.newaddr(left.dev[0], A, 24)
    b.newaddr(right.dev[1], B, 24)
    br.add_bridge("br0", bytes((2, 0, 0, 0, 1, 0)), [left.dev[1], right.dev[0]])
    net.program(b, reader(B), "server")
    until_asleep(net, net.program(a, quiet_client(B, SETTLED, b"x" * 100), "client", 1_000))
    with net.record("forward: 100 bytes over TCP through a bridge") as recorder:
        net.run(net.now + 150)
    return recorder.walk.at("bridge")


@scenario("send")
def walk_stopped(kernel: str) -> Walk:
    """A datagram to a card whose queue stands: it waits in pfifo_fast until the card has room again."""
    net, a, b = wired(kernel)
    net.program(b, datagram_reader(B), "server")
    net.program(a, datagrams(B, (10, *(1000,) * 8, 100), 10_000), "client", 1_000)
    net.run(net.now + 8_000)
    net.wires[0].reading[0] = False
    net.run(net.now + 80_000)
    with net.record("send: a datagram to a stopped queue") as recorder:
        net.run(net.now + 8_000)
        net.wires[0].resume(0)
        net.run(net.now + 1_000)
    return recorder.walk.at("a")


@scenario("recv")
def walk_backlog(kernel: str) -> Walk:
    """Segments for a socket that a process holds wait in its backlog; what comes when that is full is dropped."""
    net, a, b = wired(kernel)
    peer = FibConfig(int.from_bytes(B, "big"), 32, oif=2, scope=RT_SCOPE_LINK, mx={RTAX_INITCWND: 400})
    a.newroute(peer)
    net.program(b, holder(B, 4608), "server")
    until_asleep(net, net.program(a, dripping(B, SETTLED, 400), "client", 1_000))
    [sk] = [s for s in b.ehash.values() if isinstance(s, Sock)]
    sk.sk_owned = True
    while not any(reason == Reason.SOCKET_BACKLOG for _, _, reason in b.drops) and not sk.sk_drops:
        before = net.now
        net.run(before + 1_000)
    with net.record("recv: a full socket backlog") as recorder:
        net.run(net.now + 1_000)
        b.machine.process(b, lambda: release_sock(sk), "server")
    return recorder.walk.at("b")


@scenario("send")
def walk_veth(kernel: str) -> Walk:
    """A hundred bytes over a veth pair: sent, received, and acknowledged in the sender's own context."""
    net, _, _ = quiet_pair(kernel)
    with net.record("100 bytes over TCP and veth") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


@scenario("send")
def walk_first_contact(kernel: str) -> Walk:
    """A datagram to a neighbour whose address nobody knows waits while ARP asks."""
    net, a, b = pair(kernel)
    net.program(b, datagram_reader(B), "server")
    net.program(a, datagrams(B, (100,), MOMENT), "client", 1_000)
    net.run(net.now + 500)
    with net.record("a datagram to an unresolved neighbour") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


@scenario("send")
def walk_udp(kernel: str) -> Walk:
    """A datagram of a hundred bytes over a veth pair."""
    net, a, b = pair(kernel)
    net.program(b, datagram_reader(B), "server")
    until_asleep(net, net.program(a, datagrams(B, (10, 100), SETTLED), "client", 1_000))
    with net.record("100 bytes over UDP and veth") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


@scenario("send")
def walk_fragment(kernel: str) -> Walk:
    """A datagram of 4,000 bytes leaves in three fragments and is put together again."""
    net, a, b = pair(kernel)
    net.program(b, datagram_reader(B), "server")
    until_asleep(net, net.program(a, datagrams(B, (10, 4000), SETTLED), "client", 1_000))
    with net.record("4,000 bytes over UDP in fragments") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


@scenario("send")
def walk_loopback(kernel: str) -> Walk:
    """A hundred bytes to an address of the host itself."""
    net = Network(kernel)
    a = net.host("a")
    local = bytes((127, 0, 0, 1))
    net.program(a, reader(local), "server")
    until_asleep(net, net.program(a, quiet_client(local, SETTLED, b"x" * 100), "client", 1_000))
    with net.record("100 bytes over TCP to this host itself") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


@scenario("send")
def walk_bulk(kernel: str) -> Walk:
    """A hundred thousand bytes: super-segments that the card cuts."""
    net, a, b = wired(kernel)
    net.program(b, reader(B), "server")
    until_asleep(net, net.program(a, quiet_client(B, SETTLED, b"x" * 100_000, b"hello" * 20_000), "client", 1_000))
    with net.record("send: 100,000 bytes over TCP and igb") as recorder:
        net.run(net.now + 150)
    return recorder.walk.at("a")


@scenario("send")
def walk_write(kernel: str) -> Walk:
    """The same hundred bytes by write(2) over e1000e."""
    net, a, b = wired(kernel, "e1000e")
    net.program(b, reader(B), "server")
    until_asleep(net, net.program(a, writer(B, SETTLED, b"x" * 100), "client", 1_000))
    with net.record("send: write(2) of 100 bytes over TCP and e1000e") as recorder:
        net.run(net.now + 50)
    return recorder.walk.at("a")


@scenario("send")
def walk_unreachable(kernel: str) -> Walk:
    """A datagram to a neighbour that never answers: ARP asks three times, and the packet is dropped."""
    net, a, _ = wired(kernel)
    net.program(a, datagrams(bytes((10, 9, 0, 77)), (100,), 10 * SETTLED), "client", 1_000)
    with net.record("send: a datagram to nobody") as recorder:
        net.run(net.now + 5_000_000)
    return recorder.walk.at("a")


@scenario("send")
def walk_tun(kernel: str) -> Walk:
    """A datagram over tun: a device without link-layer headers."""
    net = Network(kernel)
    a = net.host("a")
    dev, _ = a.add_tun("tun0")
    a.newaddr(dev, A, 24)
    net.program(a, datagrams(B, (100,), SETTLED), "client", 1_000)
    with net.record("send: a datagram over tun") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


@scenario("recv")
def walk_tun_in(kernel: str) -> Walk:
    """A program writes a datagram to its tun device, and another reads it from a socket."""
    net = Network(kernel)
    a = net.host("a")
    dev, _ = a.add_tun("tun0")
    a.newaddr(dev, A, 24)
    net.program(a, datagram_reader(A), "server")
    net.run(net.now + 1_000)
    datagram = Datagram(B, A, 1234, PORT, 100)
    header = new_header(0, 0, 0, 64, 17, B, A)
    header[2:4] = (128).to_bytes(2, "big")
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    packet = bytes(header) + udp_bytes(datagram, bytes(100))
    with net.record("recv: a datagram from tun") as recorder:
        a.machine.process(a, lambda: a.tun_get_user(dev, packet), "vpn")
        net.run(net.now + MOMENT)
    return recorder.walk


@scenario("send")
def walk_broadcast(kernel: str) -> Walk:
    """A datagram to all hosts of the subnet: it leaves, and a copy comes in again."""
    net, a, _ = wired(kernel)
    net.program(a, datagrams(bytes((10, 9, 0, 255)), (100,), SETTLED, broadcast=True), "client", 1_000)
    with net.record("send: a broadcast") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk.at("a")


@scenario("recv")
def walk_connect(kernel: str) -> Walk:
    """A connection opens and ends: bind, listen, connect, accept, shutdown, close."""
    net, a, b = pair(kernel)
    net.program(b, closer(B), "server")
    net.program(a, half(B), "client", 10_000)
    with net.record("recv: a connection opens and ends") as recorder:
        net.run(net.now + 10_100)
    return recorder.walk


@scenario("recv")
def walk_refused(kernel: str) -> Walk:
    """A SYN to a port where nobody listens is answered by a reset."""
    net, a, _ = wired(kernel)
    net.program(a, quiet_client(B, SETTLED, b"x"), "client", 1_000)
    with net.record("recv: nobody listens") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk.at("b")


@scenario("recv")
def walk_time_wait(kernel: str) -> Walk:
    """The last segments of a connection: a FIN that comes again finds a time-wait socket."""
    net = Network(kernel)
    a, b = net.host("a"), net.host("b")
    lost: list[int] = []

    def fate(end: int, number: int) -> Fate:
        frame = wire.seen[-1][2]
        if end == 0 and not lost and a.tw_count and frame[FLAGS_AT] == ACK:
            lost.append(number)
            return Fate(copies=0)
        return Fate()

    wire = net.wire(a, b, fate)
    a.newaddr(wire.dev[0], A, 24)
    b.newaddr(wire.dev[1], B, 24)
    net.program(b, closer(B), "server")
    net.program(a, half(B), "client", 1_000)
    while not lost and net.step():
        pass
    with net.record("recv: a FIN in time-wait") as recorder:
        net.run(net.now + 1_000_000)
    return recorder.walk.at("a")


@scenario("recv")
def walk_pmtu(kernel: str) -> Walk:
    """A router's word that a segment is too big for the next link, and what TCP does about it."""
    net = Network(kernel)
    a, r, c = net.host("a"), net.host("router"), net.host("c")
    left, right = net.wire(a, r), net.wire(r, c, names=("eth1", "eth0"))
    a.newaddr(left.dev[0], A, 24)
    r.newaddr(left.dev[1], ROUTER[0], 24)
    r.newaddr(right.dev[0], ROUTER[1], 24)
    c.newaddr(right.dev[1], C, 24)
    right.dev[0].mtu = 1000
    r.forward()
    for ns, gw in ((a, ROUTER[0]), (c, ROUTER[1])):
        ns.newroute(FibConfig(gw=int.from_bytes(gw, "big")))
    net.program(c, reader(C), "server")
    until_asleep(net, net.program(a, quiet_client(C, SETTLED, b"x" * 1400), "client", 1_000))
    with net.record("recv: fragmentation needed") as recorder:
        net.run(net.now + 2_000)
    return recorder.walk.at("a")


@scenario("send")
def walk_setup(kernel: str) -> Walk:
    """A host gets a card, addresses, a route and neighbours, and loses some of them again."""
    net = Network(kernel)
    machine = net.machine("box")
    with net.record("an administrator sets a host up") as recorder:
        a, b = net.host("a", machine), net.host("b", machine)
        wire = net.wire(a, b)
        a.newaddr(wire.dev[0], A, 24)
        a.newroute(FibConfig(gw=int.from_bytes(B, "big")))
        a.neighbour(B, wire.dev[0], bytes((2, 0, 0, 0, 0, 9)))
        a.forget(B, wire.dev[0])
        a.deladdr(wire.dev[0], A)
    return recorder.walk


A6: Final = bytes.fromhex("fd090000000000000000000000000001")
B6: Final = bytes.fromhex("fd090000000000000000000000000002")


def wired6(kernel: str) -> tuple[Network, Namespace, Namespace]:
    """Two machines with a wire between their cards, and IPv6."""
    net = Network(kernel)
    a, b = net.host("a"), net.host("b")
    wire = net.wire(a, b)
    a.newaddr6(wire.dev[0], A6, 64)
    b.newaddr6(wire.dev[1], B6, 64)
    return net, a, b


@scenario("send")
def walk_send6(kernel: str) -> Walk:
    """A hundred bytes over TCP and IPv6."""
    net, a, b = wired6(kernel)
    net.program(b, reader(B6), "server")
    until_asleep(net, net.program(a, quiet_client(B6, SETTLED, b"x" * 100), "client", 1_000))
    with net.record("send: 100 bytes over TCP and IPv6") as recorder:
        net.run(net.now + 50)
    return recorder.walk.at("a")


@scenario("recv")
def walk_neighbour6(kernel: str) -> Walk:
    """A datagram over IPv6 to a neighbour whose address nobody knows: solicitation and advertisement."""
    net, a, b = wired6(kernel)
    net.program(b, datagram_reader(B6), "server")
    net.program(a, datagrams(B6, (100,), SETTLED), "client", 1_000)
    with net.record("recv: neighbour discovery") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


def make(name: str, kernel: str = "6.12") -> Walk:
    """The walk of that name; raises KeyError."""
    return SCENARIOS[name].make(kernel)
