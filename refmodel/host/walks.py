"""The walks: small networks in which one packet does one thing, and the record of it."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from refmodel.host.namespace import Namespace
from refmodel.host.network import Network
from refmodel.host.program import SOCK_DGRAM, Program, accept, bind, connect, listen, recv, send, sendto, sleep, socket
from refmodel.walk import Walk

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
    fd = yield socket()
    yield connect(fd, daddr, PORT)
    yield send(fd, before)
    yield sleep(wait)
    yield send(fd, data)
    yield sleep(10 * wait)


def reader(address: bytes) -> Program:
    """Accepts one connection and reads what comes."""
    fd = yield socket()
    yield bind(fd, address, PORT)
    yield listen(fd, 8)
    new = yield accept(fd)
    while True:
        got = yield recv(new, 65536)
        if not got or isinstance(got, int):
            return


def datagrams(daddr: bytes, sizes: tuple[int, ...], wait: int) -> Program:
    """Sends datagrams of these sizes (bytes), `wait` us apart."""
    fd = yield socket(type=SOCK_DGRAM)
    for size in sizes:
        yield sendto(fd, bytes(size), daddr, PORT)
        yield sleep(wait)


def datagram_reader(address: bytes) -> Program:
    """Reads datagrams."""
    fd = yield socket(type=SOCK_DGRAM)
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
    net.program(a, quiet_client(B, SETTLED, data), "client", 1_000)
    net.run(net.now + SETTLED)
    return net, a, b


# ---------------------------------------------------------------- walks


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
    net.program(a, datagrams(B, (10, 100), SETTLED), "client", 1_000)
    net.run(net.now + SETTLED)
    with net.record("100 bytes over UDP and veth") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


@scenario("send")
def walk_fragment(kernel: str) -> Walk:
    """A datagram of 4,000 bytes leaves in three fragments and is put together again."""
    net, a, b = pair(kernel)
    net.program(b, datagram_reader(B), "server")
    net.program(a, datagrams(B, (10, 4000), SETTLED), "client", 1_000)
    net.run(net.now + SETTLED)
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
    net.program(a, quiet_client(local, SETTLED, b"x" * 100), "client", 1_000)
    net.run(net.now + SETTLED)
    with net.record("100 bytes over TCP to this host itself") as recorder:
        net.run(net.now + MOMENT)
    return recorder.walk


def make(name: str, kernel: str = "6.12") -> Walk:
    """The walk of that name; raises KeyError."""
    return SCENARIOS[name].make(kernel)
